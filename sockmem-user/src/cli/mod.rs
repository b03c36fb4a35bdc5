//! Commands, arguments and exit codes.
//!
//! * `args`, `target`, `units`, `exit`: what is typed, and how a command ends.
//! * `run`: from arguments to the command.
//! * `trace`: the run loop of every trace. * `session`: trace, owners, model and recording held together.
//! * `live`: shows it. * `record`: writes it to a file.
//! * `replay`, `export`: recordings shown and converted; `recorded`: what the two share.
//! * `report`, `diff`, `check`: what recordings tell. * `input`: reads them.
//! * `face`: the full screen of `live`. * `screen`: the thread that owns it. * `terminal`: taken, and
//!   given back.
//! * `inspect`: `snapshot` and `where`: one reading, no tracing.
//! * `doctor`: what this host allows. * `manual`: manual pages and completions.

pub mod args;
pub mod exit;
pub mod target;
pub mod units;

pub mod check;
pub mod diff;
mod doctor;
mod export;
mod face;
pub mod input;
mod inspect;
mod live;
pub mod manual;
pub mod record;
mod recorded;
mod replay;
pub mod report;
mod run;
mod screen;
mod session;
mod terminal;
mod trace;

pub use run::run;
