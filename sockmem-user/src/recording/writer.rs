//! Writing a recording.

use std::io::{self, Write};

use bytes::{BufMut, BytesMut};

use super::frame::{self, KIND_DATA, KIND_END, KIND_HEADER};
use super::items::{self, Known};
use super::varint::put_u64;
use super::{Header, VERSION};
use crate::model::Input;

/// The first bytes of every recording.
pub(super) const MAGIC: [u8; 8] = *b"\x89SKMEM\r\n";

/// A frame is closed when it holds this much.
const FULL: usize = 256 << 10;
/// A frame is closed when its first input is this old.
const OLD_NS: u64 = 1_000_000_000;

/// What a recording holds so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records of the ring: changes, and those of sockets' and processes' lives.
    pub events: u64,
    /// Inputs of all kinds.
    pub inputs: u64,
    /// Bytes.
    pub bytes: u64,
    /// Different sockets.
    pub sockets: u64,
}

/// Takes inputs and writes them as frames.
pub struct Writer<W: Write> {
    out: W,
    raw: Vec<u8>,
    first_ns: Option<u64>,
    scratch: BytesMut,
    known: Known,
    counts: Counts,
}

impl<W: Write> Writer<W> {
    /// Begins a recording.
    ///
    /// # Errors
    /// Of `out`.
    pub fn new(mut out: W, header: &Header) -> io::Result<Self> {
        let mut head = BytesMut::new();
        head.put_slice(&MAGIC);
        head.put_u16_le(VERSION.0);
        head.put_u16_le(VERSION.1);
        out.write_all(&head)?;
        let mut counts = Counts {
            bytes: head.len() as u64,
            ..Counts::default()
        };
        let mut scratch = BytesMut::new();
        counts.bytes += frame::write(&mut out, KIND_HEADER, &header.to_json(), &mut scratch)?;
        out.flush()?;
        Ok(Writer {
            out,
            raw: Vec::new(),
            first_ns: None,
            scratch,
            known: Known::new(),
            counts,
        })
    }

    /// Takes one input, given to the model at `t_ns` (`CLOCK_MONOTONIC`; of a record its own time).
    ///
    /// # Errors
    /// Of the destination: what was written before stays readable, what was not is lost.
    pub fn push(&mut self, t_ns: u64, input: Input<'_>) -> io::Result<()> {
        let t_ns = match input {
            Input::Record(record) => record.header().t_ns,
            _ => t_ns,
        };
        self.counts.inputs += 1;
        self.counts.events += u64::from(matches!(input, Input::Record(_)));
        items::put(&mut self.raw, &mut self.known, t_ns, input);
        self.counts.sockets = self.known.len() as u64;
        let first_ns = *self.first_ns.get_or_insert(t_ns);
        if self.raw.len() >= FULL || t_ns.saturating_sub(first_ns) >= OLD_NS {
            self.flush()?;
        }
        Ok(())
    }

    /// Ends the frame, so that everything up to here is readable.
    ///
    /// # Errors
    /// Of the destination.
    pub fn flush(&mut self) -> io::Result<()> {
        self.first_ns = None;
        if !self.raw.is_empty() {
            self.counts.bytes +=
                frame::write(&mut self.out, KIND_DATA, &self.raw, &mut self.scratch)?;
            self.raw.clear();
        }
        self.out.flush()
    }

    /// `flush` where the frame's first input is older than a second. To be called often.
    ///
    /// # Errors
    /// Of the destination.
    pub fn flush_if_old(&mut self, now_ns: u64) -> io::Result<()> {
        match self.first_ns {
            Some(first_ns) if now_ns.saturating_sub(first_ns) >= OLD_NS => self.flush(),
            _ => Ok(()),
        }
    }

    /// Ends the recording: it tells of everything up to `end_mono_ns`.
    ///
    /// # Errors
    /// Of the destination.
    pub fn finish(mut self, end_mono_ns: u64) -> io::Result<(W, Counts)> {
        self.flush()?;
        let mut end = Vec::new();
        put_u64(&mut end, end_mono_ns);
        self.counts.bytes += frame::write(&mut self.out, KIND_END, &end, &mut self.scratch)?;
        self.out.flush()?;
        Ok((self.out, self.counts))
    }

    /// What was taken so far; bytes are those of whole frames.
    pub fn counts(&self) -> Counts {
        self.counts
    }
}
