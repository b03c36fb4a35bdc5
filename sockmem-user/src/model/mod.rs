//! Sockets, owners, timelines, idle residency and verdicts. Pure: fed with
//! records, states and facts, told the time.
#![forbid(unsafe_code)]

mod view;

pub use view::*;
