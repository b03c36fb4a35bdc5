//! The full screen, without a terminal: pictures, keys and the mouse go in, cells and effects
//! come out. `cli` owns the terminal, and whatever feeds pictures: a trace, or a recording.
//!
//! * `keys`: the one table of keys. * `app`: the state, and what keys do to it.
//! * `rows`: which rows, in which order. * `series`: queues over time, one reading a picture.
//! * `head`, `list`, `detail`, `help`: the parts of the screen. * `chart`, `paint`: how they are drawn.

pub mod keys;

mod app;
mod chart;
mod detail;
mod head;
mod help;
mod list;
mod paint;
mod rows;
mod series;

#[cfg(test)]
mod tests;

pub use app::App;

use super::look::Look;
use crate::model::View;

/// One moment, as it is shown. Never changed once it is made.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// The trace.
    pub view: View,
    /// `tcp_memory_allocated` of the whole host (`/proc/net/sockstat`); `None` where not known.
    pub host_tcp_bytes: Option<u64>,
    /// The recording that is being written.
    pub recording: Option<Recording>,
    /// What there is to say about recording; unescaped.
    pub said: Option<String>,
}

/// A recording that is being written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recording {
    /// Its file; unescaped.
    pub file: String,
    /// Written so far.
    pub bytes: u64,
}

/// What does not change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// What is traced, in words; unescaped.
    pub target: String,
    /// Character set and colour; the width is the area's.
    pub look: Look,
    /// What this kernel cannot do; unescaped.
    pub notes: Vec<String>,
}

/// What only the owner of the terminal can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// End.
    Quit,
    /// Hand the terminal back for a while.
    Suspend,
    /// Start or stop recording.
    Record,
    /// Draw every cell anew.
    Redraw,
    /// Take the mouse (or leave it to the terminal).
    Mouse(bool),
}
