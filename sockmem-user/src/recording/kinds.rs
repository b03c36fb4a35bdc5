//! Which number stands for which kind of input. Never used again for another: a reader passes over
//! those it does not know. Numbers from 64 on belong to a later major version.
//!
//! To add one: a number here, an arm in `put` and in `get` (put.rs, get.rs), a line in
//! docs/FORMAT.md, and a minor version. A new kind must not touch the table.

pub(super) const CHANGE: u8 = 1;
pub(super) const OPEN: u8 = 2;
pub(super) const CLOSE: u8 = 3;
pub(super) const OWNER: u8 = 4;
pub(super) const FORK: u8 = 5;
pub(super) const EXIT: u8 = 6;
pub(super) const STATES: u8 = 7;
pub(super) const SCAN_DONE: u8 = 8;
pub(super) const PROCESS: u8 = 9;
pub(super) const EXITED: u8 = 10;
pub(super) const LOSS: u8 = 11;
pub(super) const TRUESIZE: u8 = 12;
pub(super) const LIMIT: u8 = 13;
pub(super) const PRESSURE: u8 = 14;
pub(super) const SYSCTL: u8 = 15;
pub(super) const HOST: u8 = 16;
pub(super) const PRESSURE_COUNTS: u8 = 17;
