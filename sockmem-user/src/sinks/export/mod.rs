//! Recordings in the formats of other tools: a row for each event, or for each socket.
//!
//! * `events`: from a recording's inputs to events in order of time, with whose socket it was.
//! * `columns`: the two tables, events and sockets, and what each column is.
//! * `csv`, `document` (JSON), `parquet`: tables written. * `perfetto`: tracks, and `proto`, its bytes.
//!
//! Every writer streams: memory depends on the sockets alive at once, not on a recording's length.

pub mod columns;
pub mod csv;
pub mod document;
pub mod events;
#[cfg(feature = "parquet")]
pub mod parquet;
pub mod perfetto;

mod proto;

#[cfg(test)]
mod tests;

use std::io;

use crate::recording::Header;
use columns::{Cell, EVENTS, SOCKETS};
use events::{Event, EventSink};

/// Where rows come from: the same for every row of a file.
#[derive(Clone, Debug)]
pub struct Source {
    /// The recording's name, without folders.
    pub recording: String,
    /// The facts at its head.
    pub header: Header,
    /// Until when it tells; `CLOCK_MONOTONIC`. `None` while that is not known.
    pub end_mono_ns: Option<u64>,
}

/// Takes the rows of one table.
pub trait Rows {
    /// One row: a cell for each column.
    ///
    /// # Errors
    /// Of the destination.
    fn row(&mut self, cells: &[Cell<'_>]) -> io::Result<()>;
}

/// Events as rows of the table [`EVENTS`].
pub struct EventRows<'a, R> {
    /// Where they come from.
    pub source: &'a Source,
    /// Where they go.
    pub rows: R,
    /// How many there were.
    pub count: u64,
}

impl<R: Rows> EventSink for EventRows<'_, R> {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        self.count += 1;
        let cells: Vec<Cell<'_>> = EVENTS.iter().map(|c| (c.get)(self.source, event)).collect();
        self.rows.row(&cells)
    }
}

/// One socket as a row of the table [`SOCKETS`].
///
/// # Errors
/// Of the destination.
pub fn socket_row(
    source: &Source,
    socket: &crate::model::SocketTotals,
    rows: &mut impl Rows,
) -> io::Result<()> {
    let cells: Vec<Cell<'_>> = SOCKETS.iter().map(|c| (c.get)(source, socket)).collect();
    rows.row(&cells)
}
