//! Reading a recording.

use std::io::{self, Read, Seek, SeekFrom};

use bytes::Buf;

use super::frame::{self, KIND_DATA, KIND_END, KIND_HEADER, Next};
use super::items::{self, Item, Known};
use super::varint::get_u64;
use super::writer::MAGIC;
use super::{Counts, Header, VERSION};
use crate::model::Input;

/// Why something is not a recording that this version reads.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Of the source.
    #[error("reading the recording")]
    Io(#[from] io::Error),
    /// It begins otherwise.
    #[error("this is not a recording of sockmem-trace: it begins with other bytes")]
    NotARecording,
    /// Nothing but (a part of) its head was written.
    #[error("the recording ends within its head: nothing was recorded")]
    Empty,
    /// A later format.
    #[error(
        "the recording has format {major}.{minor}, this version reads {}.x: use a later sockmem-trace",
        VERSION.0
    )]
    Version {
        /// Its major version.
        major: u16,
        /// Its minor version.
        minor: u16,
    },
    /// The facts at its head.
    #[error("the head of the recording is damaged: {0}")]
    Header(String),
}

/// How a recording ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It was closed.
    Clean {
        /// Until when it tells; `CLOCK_MONOTONIC`.
        end_mono_ns: u64,
    },
    /// It was not: what follows the last whole frame is lost.
    Truncated {
        /// What came instead of a frame.
        why: String,
        /// What happened after this time is missing; `CLOCK_MONOTONIC`.
        lost_after_ns: u64,
        /// Bytes that could be read.
        bytes: u64,
    },
}

/// Gives a recording's inputs back, in order.
pub struct Reader<R: Read> {
    from: R,
    header: Header,
    stored: Vec<u8>,
    raw: Vec<u8>,
    at: usize,
    item: Item,
    known: Known,
    last_ns: u64,
    counts: Counts,
    ending: Option<Ending>,
}

impl<R: Read> Reader<R> {
    /// Reads the head.
    ///
    /// # Errors
    /// `ReadError`.
    pub fn open(mut from: R) -> Result<Self, ReadError> {
        let mut head = [0; MAGIC.len() + 4];
        let have = frame::fill(&mut from, &mut head)?;
        let shown = have.min(MAGIC.len());
        if have == 0 || head[..shown] != MAGIC[..shown] {
            return Err(ReadError::NotARecording);
        }
        if have < head.len() {
            return Err(ReadError::Empty);
        }
        let mut rest = &head[MAGIC.len()..];
        let (major, minor) = (rest.get_u16_le(), rest.get_u16_le());
        if major != VERSION.0 {
            return Err(ReadError::Version { major, minor });
        }
        let mut counts = Counts {
            bytes: head.len() as u64,
            ..Counts::default()
        };
        let (mut stored, mut raw) = (Vec::new(), Vec::new());
        let header = match frame::read(&mut from, &mut stored, &mut raw, &mut counts.bytes)? {
            Next::Frame(KIND_HEADER) => Header::from_json(&raw).map_err(ReadError::Header)?,
            Next::Frame(_) => return Err(ReadError::Header("another frame comes first".into())),
            Next::Nothing => return Err(ReadError::Empty),
            Next::Damaged(_) => return Err(ReadError::Empty),
        };
        raw.clear();
        Ok(Reader {
            from,
            last_ns: header.start_mono_ns,
            header,
            stored,
            raw,
            at: 0,
            item: Item::Unknown,
            known: Known::new(),
            counts,
            ending: None,
        })
    }

    /// The facts at the head.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What was read so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The next input and when it came (`CLOCK_MONOTONIC`); `None` at the end, see [`Reader::ending`].
    ///
    /// # Errors
    /// Of the source.
    #[expect(
        clippy::should_implement_trait,
        reason = "what it gives borrows from the reader"
    )]
    pub fn next(&mut self) -> Result<Option<(u64, Input<'_>)>, ReadError> {
        loop {
            if self.ending.is_some() {
                return Ok(None);
            }
            if self.at >= self.raw.len() {
                self.frame()?;
                continue;
            }
            let mut rest = &self.raw[self.at..];
            match items::get(&mut rest, &mut self.known) {
                Ok((t_ns, item)) => {
                    self.at = self.raw.len() - rest.len();
                    self.last_ns = self.last_ns.max(t_ns);
                    self.item = item;
                    if matches!(self.item, Item::Unknown) {
                        continue;
                    }
                    self.counts.inputs += 1;
                    self.counts.events += u64::from(matches!(self.item, Item::Record(_)));
                    self.counts.sockets = self.known.len() as u64;
                    return Ok(self.item.input().map(|input| (t_ns, input)));
                }
                Err(_) => self.end("a frame's contents are damaged"),
            }
        }
    }

    fn frame(&mut self) -> Result<(), ReadError> {
        self.at = 0;
        match frame::read(
            &mut self.from,
            &mut self.stored,
            &mut self.raw,
            &mut self.counts.bytes,
        )? {
            Next::Frame(KIND_DATA) => {}
            Next::Frame(KIND_END) => {
                let end_mono_ns = get_u64(&mut self.raw.as_slice()).unwrap_or(self.last_ns);
                self.ending = Some(Ending::Clean { end_mono_ns });
            }
            Next::Frame(_) => self.raw.clear(),
            Next::Nothing => self.end("it was not closed"),
            Next::Damaged(why) => self.end(why),
        }
        Ok(())
    }

    fn end(&mut self, why: &str) {
        self.raw.clear();
        self.ending = Some(Ending::Truncated {
            why: why.to_owned(),
            lost_after_ns: self.last_ns,
            bytes: self.counts.bytes,
        });
    }

    /// How the recording ended; before `next` gave `None`, that it has not been read to its end.
    pub fn ending(&self) -> Ending {
        self.ending.clone().unwrap_or_else(|| Ending::Truncated {
            why: "it was not read to its end".to_owned(),
            lost_after_ns: self.last_ns,
            bytes: self.counts.bytes,
        })
    }
}

impl<R: Read + Seek> Reader<R> {
    /// Goes to a keyframe at or before `t_ns`: what comes next begins with everything that was
    /// known then. Feed it to a new model.
    ///
    /// # Errors
    /// Of the source.
    pub fn seek(&mut self, t_ns: u64) -> Result<(), ReadError> {
        // The first keyframe is the beginning.
        let _ = t_ns;
        self.from.seek(SeekFrom::Start(MAGIC.len() as u64 + 4))?;
        self.known.clear();
        self.ending = None;
        self.raw.clear();
        self.at = 0;
        self.last_ns = self.header.start_mono_ns;
        self.counts = Counts {
            bytes: MAGIC.len() as u64 + 4,
            ..Counts::default()
        };
        Ok(())
    }
}
