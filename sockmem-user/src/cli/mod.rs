//! Commands, arguments and exit codes.

pub mod args;
pub mod exit;
pub mod target;
pub mod units;
