//! The program table, and the one loader that walks it.
//!
//! * `table`: every program, what it hooks, in which tiers, what is lost without it.
//! * `loader`: from what the user asked for and what the kernel offers to attached programs.
//! * `trace`: the attached trace: its maps, and the runs of its iterators.
//! * `percpu`: reads a per-CPU variable of the kernel.
//! * `object`: what is put into the object before it is loaded.
//! * `states`: the array of states.
//! * `bpf`: the few bpf(2) calls that aya does not offer.

pub mod bpf;
mod loader;
mod object;
mod percpu;
mod states;
mod table;
mod trace;

pub use loader::{AttachError, Options, attach};
pub use percpu::PerCpuInt;
pub use table::{Group, Kind, Need, PROGRAMS, ProgramSpec};
pub use trace::{ProgramInfo, Trace};
