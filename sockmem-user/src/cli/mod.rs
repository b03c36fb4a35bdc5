//! Commands, arguments and exit codes.
//!
//! * `args`, `target`, `units`, `exit`: what is typed, and how a command ends.
//! * `run`: from arguments to the command.
//! * `live`: the run loop of a trace. * `session`: trace, owners and model held together.
//! * `screen`: the thread that owns a full screen. * `terminal`: taken, and given back.
//! * `doctor`: what this host allows.

pub mod args;
pub mod exit;
pub mod target;
pub mod units;

mod doctor;
mod live;
mod run;
mod screen;
mod session;
mod terminal;

pub use run::run;
