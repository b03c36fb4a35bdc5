//! Commands, arguments and exit codes.
//!
//! * `args`, `target`, `units`, `exit`: what is typed, and how a command ends.
//! * `run`: from arguments to the command.
//! * `trace`: the run loop of every trace. * `session`: trace, owners, model and recording held together.
//! * `live`: shows it. * `record`: writes it to a file.
//! * `doctor`: what this host allows. * `manual`: manual pages and completions.

pub mod args;
pub mod exit;
pub mod target;
pub mod units;

mod doctor;
mod live;
pub mod manual;
pub mod record;
mod run;
mod session;
mod trace;

pub use run::run;
