//! JSON: one document, streamed, a line for each row.

use std::io::{self, Write};

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::columns::{Cell, Head, Kind};
use super::{Rows, Source};
use crate::model::{Loss, SocketTotals};
use crate::recording::Ending;
use crate::sinks::json::{self, Harmless};
use crate::sinks::{HostFacts, TOOL_VERSION};

/// Schema of the document.
pub const SCHEMA: &str = "sockmem-trace/export/1";

/// Writes the document.
pub struct Document<W> {
    out: W,
    /// Name of each member, in the order of the columns; `None`: not a member.
    names: Vec<Option<String>>,
    first: bool,
}

impl<W: Write> Document<W> {
    /// Writes the head; rows become the list `what`.
    ///
    /// # Errors
    /// Of `out`.
    pub fn new(mut out: W, source: &Source, what: &str, heads: &[Head]) -> io::Result<Self> {
        let name = |h: &Head| match h.kind {
            _ if h.constant => None,
            // Moments are numbers here, and say which.
            Kind::Moment => Some(format!("{}_unix_ns", h.name)),
            _ => Some(h.name.to_owned()),
        };
        let mut head = serialized(&Facts(source))?;
        // The object goes on with the list.
        head.pop();
        out.write_all(&head)?;
        write!(out, ",\"{what}\":[")?;
        Ok(Document {
            out,
            names: heads.iter().map(name).collect(),
            first: true,
        })
    }

    fn line(&mut self, row: &[u8]) -> io::Result<()> {
        let between: &[u8] = if self.first { b"\n" } else { b",\n" };
        self.first = false;
        self.out.write_all(between)?;
        self.out.write_all(row)
    }

    /// A socket, as every command prints one, and its integrals.
    ///
    /// # Errors
    /// Of the destination.
    pub fn socket(&mut self, socket: &SocketTotals) -> io::Result<()> {
        self.line(&serialized(&Totals(socket))?)
    }

    /// Ends the document: what was lost, and how the recording ended.
    ///
    /// # Errors
    /// Of the destination.
    pub fn finish(mut self, loss: Option<&Loss>, ending: &Ending) -> io::Result<W> {
        let tail = serialized(&Tail { loss, ending })?;
        self.out.write_all(b"\n],")?;
        self.out.write_all(&tail[1..])?;
        self.out.write_all(b"\n")?;
        self.out.flush()?;
        Ok(self.out)
    }
}

impl<W: Write> Rows for Document<W> {
    fn row(&mut self, cells: &[Cell<'_>]) -> io::Result<()> {
        let row = serialized(&Row {
            names: &self.names,
            cells,
        })?;
        self.line(&row)
    }
}

fn serialized(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(512);
    value.serialize(&mut serde_json::Serializer::with_formatter(
        &mut bytes, Harmless,
    ))?;
    Ok(bytes)
}

struct Row<'a> {
    names: &'a [Option<String>],
    cells: &'a [Cell<'a>],
}

impl Serialize for Row<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let members = self.names.iter().zip(self.cells);
        s.collect_map(members.filter_map(|(name, cell)| Some((name.as_ref()?, cell))))
    }
}

impl Serialize for Cell<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match *self {
            Cell::Unknown => s.serialize_none(),
            Cell::Number(n) => match (u64::try_from(n), i64::try_from(n)) {
                (Ok(n), _) => s.serialize_u64(n),
                (_, Ok(n)) => s.serialize_i64(n),
                _ => s.serialize_i128(n),
            },
            Cell::Text(text) => s.serialize_str(text),
            Cell::Flag(on) => s.serialize_bool(on),
        }
    }
}

struct Totals<'a>(&'a SocketTotals);

impl Serialize for Totals<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(None)?;
        json::socket_members(&self.0.view, &mut map)?;
        map.serialize_entry("resident_byte_ns", &self.0.resident_byte_ns)?;
        map.serialize_entry("idle_byte_ns", &self.0.idle_byte_ns.iter().sum::<u128>())?;
        for (name, n) in super::columns::IDLE.iter().zip(&self.0.idle_byte_ns) {
            map.serialize_entry(name, n)?;
        }
        map.end()
    }
}

struct Facts<'a>(&'a Source);

impl Serialize for Facts<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let h = &self.0.header;
        let mut map = s.serialize_map(None)?;
        map.serialize_entry("schema", SCHEMA)?;
        map.serialize_entry("host", &json::Host::from(&HostFacts::from(&h.host)))?;
        map.serialize_entry("tool_version", TOOL_VERSION)?;
        map.serialize_entry("recording", &Recording(self.0))?;
        map.serialize_entry("tier", h.tier.name())?;
        map.serialize_entry("coverage", &json::coverage(&h.coverage))?;
        map.serialize_entry("idle_after_ns", &h.idle_after_ns)?;
        map.end()
    }
}

struct Recording<'a>(&'a Source);

impl Serialize for Recording<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let h = &self.0.header;
        let mut map = s.serialize_map(None)?;
        map.serialize_entry("name", &self.0.recording)?;
        map.serialize_entry("tool_version", &h.tool_version)?;
        map.serialize_entry("target", &h.target)?;
        map.serialize_entry("start_mono_ns", &h.start_mono_ns)?;
        map.serialize_entry("start_unix_ns", &h.start_unix_ns)?;
        map.serialize_entry("coalesce_ns", &h.coalesce_ns)?;
        map.end()
    }
}

struct Tail<'a> {
    loss: Option<&'a Loss>,
    ending: &'a Ending,
}

impl Serialize for Tail<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(None)?;
        map.serialize_entry("loss", &self.loss.map(json::LossJson::from))?;
        match self.ending {
            Ending::Clean { end_mono_ns, .. } => {
                map.serialize_entry("end_mono_ns", end_mono_ns)?;
                map.serialize_entry("truncated", &None::<&str>)?;
            }
            Ending::Truncated {
                why, lost_after_ns, ..
            } => {
                map.serialize_entry("end_mono_ns", lost_after_ns)?;
                map.serialize_entry("truncated", why)?;
            }
        }
        map.end()
    }
}
