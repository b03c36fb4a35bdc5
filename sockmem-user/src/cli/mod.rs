//! Commands, arguments and exit codes.
//!
//! * `args`, `target`, `units`, `exit`: what is typed, and how a command ends.
//! * `run`: from arguments to the command.
//! * `live`: the run loop of a trace. * `session`: trace, owners and model held together.
//! * `doctor`: what this host allows. * `manual`: manual pages and completions.

pub mod args;
pub mod exit;
pub mod target;
pub mod units;

mod doctor;
mod live;
pub mod manual;
mod run;
mod session;

pub use run::run;
