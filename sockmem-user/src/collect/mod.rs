//! Drains the ring buffer, follows whose sockets are traced, and reads what needs no trace.
//!
//! * `ring`: records from the kernel, with the file descriptor to wait on.
//! * `owners`: which processes are traced, which sockets they hold, which have ended.
//! * `inventory`: every socket at one moment, with its holders.
//! * `memory`: what the host reports about memory, around such a reading.

mod inventory;
mod memory;
mod owners;
mod ring;

pub use inventory::{Kinds, Namespaces, check_listeners, read, select};
pub use memory::{MemoryOptions, memory};
pub use owners::{Ended, HeldBy, Owners, OwnersError, Process, Spec};
pub use ring::Ring;
