//! Comma-separated values (RFC 4180, lines end in `\n`). Unknown is an empty cell.

use std::io::{self, Write};

use super::Rows;
use super::columns::{CSV_EVENT, Cell, Head, Kind};
use crate::sinks::escape::escape;
use crate::sinks::text;

/// Writes a header and rows.
pub struct Csv<W> {
    out: W,
    /// Which cells of a row are written, in what order.
    places: Vec<(usize, Kind)>,
    line: Vec<u8>,
}

impl<W: Write> Csv<W> {
    /// All columns of `heads`.
    ///
    /// # Errors
    /// Of `out`.
    pub fn new(out: W, heads: &[Head]) -> io::Result<Self> {
        let names: Vec<&str> = heads.iter().map(|h| h.name).collect();
        Self::with(out, heads, &names)
    }

    /// The columns of events that scripts rely on.
    ///
    /// # Errors
    /// Of `out`.
    pub fn events(out: W, heads: &[Head]) -> io::Result<Self> {
        Self::with(out, heads, &CSV_EVENT)
    }

    fn with(mut out: W, heads: &[Head], names: &[&str]) -> io::Result<Self> {
        let place = |name: &&str| {
            let at = heads.iter().position(|h| h.name == *name)?;
            Some((at, heads[at].kind))
        };
        let places = names.iter().filter_map(place).collect();
        writeln!(out, "{}", names.join(","))?;
        Ok(Csv {
            out,
            places,
            line: Vec::new(),
        })
    }

    /// Flushes, and gives the destination back.
    ///
    /// # Errors
    /// Of the destination.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }
}

impl<W: Write> Rows for Csv<W> {
    fn row(&mut self, cells: &[Cell<'_>]) -> io::Result<()> {
        self.line.clear();
        for (n, &(at, kind)) in self.places.iter().enumerate() {
            if n > 0 {
                self.line.push(b',');
            }
            match (cells[at], kind) {
                (Cell::Unknown, _) => {}
                (Cell::Number(ns), Kind::Moment) => {
                    let ns = u64::try_from(ns).unwrap_or(0);
                    self.line.extend(text::moment_ns(ns).bytes());
                }
                (Cell::Number(n), _) => write!(self.line, "{n}")?,
                (Cell::Flag(on), _) => write!(self.line, "{on}")?,
                (Cell::Text(text), _) => text_cell(text, &mut self.line),
            }
        }
        self.line.push(b'\n');
        self.out.write_all(&self.line)
    }
}

/// A text: harmless on a terminal, no formula in a spreadsheet, quoted where it must be.
fn text_cell(text: &str, line: &mut Vec<u8>) {
    let text = escape(text, false);
    // A program that takes cells for formulas goes by the first character, or the first after
    // blanks. An apostrophe makes it text, and is shown or not.
    let formula = text
        .trim_start()
        .starts_with(['=', '+', '-', '@', '|', '%']);
    let quoted = formula || text.contains([',', '"', '\n', '\r']) || text.starts_with(' ');
    if quoted {
        line.push(b'"');
    }
    if formula {
        line.push(b'\'');
    }
    for b in text.bytes() {
        line.push(b);
        if b == b'"' {
            line.push(b);
        }
    }
    if quoted {
        line.push(b'"');
    }
}
