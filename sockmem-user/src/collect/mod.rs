//! Drains the ring buffer, and follows whose sockets are traced.
//!
//! * `ring`: records from the kernel, with the file descriptor to wait on.
//! * `owners`: which processes are traced, which sockets they hold, which have ended.

mod owners;
mod ring;

pub use owners::{Ended, HeldBy, Owners, OwnersError, Process, Spec};
pub use ring::Ring;
