//! Reading a recording.

use std::io::{self, Read, Seek, SeekFrom};

use bytes::Buf;

use super::batch::Contents;
use super::frame::{
    self, HEAD, KIND_DATA, KIND_END, KIND_HEADER, KIND_KEY, KIND_KEY_MORE, KIND_TRAILER, Next,
    Unframer,
};
use super::get::Getter;
use super::index::{End, Index};
use super::writer::MAGIC;
use super::{Counts, Header, VERSION};
use crate::facts::Loss;
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
        /// The kernel programs' own totals at the end.
        loss: Loss,
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

/// Gives a recording's inputs back, in order. What it needs of memory does not grow with the
/// recording, but with the sockets that are open at once.
pub struct Reader<R: Read> {
    from: R,
    header: Header,
    unframer: Unframer,
    contents: Contents,
    getter: Getter,
    /// Whether what keyframes tell is given out: until the first one after a `seek`.
    keys: bool,
    /// Whether the frame is (part of) a keyframe.
    in_key: bool,
    last_ns: u64,
    counts: Counts,
    /// Where the first frame after the head begins.
    begin: u64,
    ending: Option<Ending>,
    index: Option<Index>,
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
        let mut unframer = Unframer::new();
        let mut contents = Contents::new();
        let header = match unframer.read(&mut from, &mut contents.raw, &mut counts.bytes)? {
            Next::Frame(KIND_HEADER) => {
                Header::from_json(&contents.raw).map_err(ReadError::Header)?
            }
            Next::Frame(_) => return Err(ReadError::Header("another frame comes first".into())),
            Next::Nothing => return Err(ReadError::Empty),
            Next::Damaged(frame::WITHIN) => return Err(ReadError::Empty),
            Next::Damaged(why) => return Err(ReadError::Header(why.into())),
        };
        contents.clear();
        Ok(Reader {
            from,
            last_ns: header.start_mono_ns,
            header,
            unframer,
            contents,
            getter: Getter::new(),
            keys: false,
            in_key: false,
            begin: counts.bytes,
            counts,
            ending: None,
            index: None,
        })
    }

    /// The facts at the head.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What was read so far.
    pub fn counts(&self) -> Counts {
        Counts {
            sockets: self.getter.sockets,
            ..self.counts
        }
    }

    /// The next input and when it came (`CLOCK_MONOTONIC`; a record: its own time); `None` at the end,
    /// see [`Reader::ending`].
    ///
    /// # Errors
    /// Of the source.
    #[expect(
        clippy::should_implement_trait,
        reason = "what it gives borrows from the reader"
    )]
    #[inline]
    pub fn next(&mut self) -> Result<Option<(u64, Input<'_>)>, ReadError> {
        while self.ending.is_none() {
            match self.getter.get(&mut self.contents) {
                Ok(true) if self.in_key && !self.keys => {}
                Ok(true) => {
                    let t_ns = self.getter.table.t_ns;
                    self.last_ns = self.last_ns.max(t_ns);
                    self.counts.inputs += 1;
                    self.counts.events += u64::from(self.getter.item.is_record());
                    return Ok(Some((t_ns, self.getter.item.input())));
                }
                Ok(false) => self.frame()?,
                Err(_) => self.end("a frame's contents are damaged"),
            }
        }
        Ok(None)
    }

    /// Reads the next frame.
    fn frame(&mut self) -> Result<(), ReadError> {
        let was_key = self.in_key;
        let next = self.unframer.read(
            &mut self.from,
            &mut self.contents.raw,
            &mut self.counts.bytes,
        )?;
        match next {
            Next::Frame(kind @ (KIND_DATA | KIND_KEY | KIND_KEY_MORE)) => {
                self.in_key = kind != KIND_DATA;
                if was_key && kind != KIND_KEY_MORE {
                    // Only the one that was sought is told.
                    self.keys = false;
                }
                if kind == KIND_KEY {
                    self.getter.reset();
                }
                match self.contents.parse() {
                    // Alike already, unless frames are missing before this one.
                    Ok(t_ns) => self.getter.table.t_ns = t_ns,
                    Err(_) => self.end("a frame's contents are damaged"),
                }
                self.getter.counting = !self.in_key || self.keys;
            }
            Next::Frame(KIND_END) => {
                match End::get(&self.contents.raw) {
                    Ok(end) => {
                        self.ending = Some(Ending::Clean {
                            end_mono_ns: end.end_mono_ns,
                            loss: end.loss,
                        });
                    }
                    Err(_) => self.end("its last frame is damaged"),
                }
                self.contents.clear();
            }
            // Of a kind that a later minor version added.
            Next::Frame(_) => self.contents.clear(),
            Next::Nothing => self.end("it was not closed"),
            Next::Damaged(why) => self.end(why),
        }
        Ok(())
    }

    fn end(&mut self, why: &str) {
        self.contents.clear();
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
    /// Goes to the last keyframe at or before `t_ns`: what comes next begins with everything that was
    /// known then, so feed it to a new model. Before the first keyframe that is the beginning.
    /// `counts` begin anew. Returns the keyframe's time.
    ///
    /// # Errors
    /// Of the source.
    pub fn seek(&mut self, t_ns: u64) -> Result<u64, ReadError> {
        let index = match self.index.take() {
            Some(index) => index,
            None => self.find_keyframes()?,
        };
        let found = index.before(t_ns);
        self.index = Some(index);
        let at = found.map_or(self.begin, |e| e.at);
        self.from.seek(SeekFrom::Start(at))?;
        self.contents.clear();
        self.getter = Getter::new();
        self.keys = found.is_some();
        self.in_key = false;
        self.ending = None;
        self.counts = Counts {
            bytes: at,
            ..Counts::default()
        };
        self.last_ns = found.map_or(self.header.start_mono_ns, |e| e.t_ns);
        Ok(self.last_ns)
    }

    /// From the end of a closed recording, or else from the heads of its frames.
    fn find_keyframes(&mut self) -> Result<Index, ReadError> {
        match self.listed_keyframes()? {
            Some(index) => Ok(index),
            None => self.walk_frames(),
        }
    }

    fn listed_keyframes(&mut self) -> Result<Option<Index>, ReadError> {
        const TRAILER: u64 = (HEAD + size_of::<u64>()) as u64;
        let length = self.from.seek(SeekFrom::End(0))?;
        if length < self.begin + TRAILER {
            return Ok(None);
        }
        self.from.seek(SeekFrom::Start(length - TRAILER))?;
        let raw = &mut self.contents.raw;
        let next = self.unframer.read(&mut self.from, raw, &mut 0)?;
        let at = match (next, raw.as_slice().try_into()) {
            (Next::Frame(KIND_TRAILER), Ok(at)) => u64::from_le_bytes(at),
            _ => return Ok(None),
        };
        self.from.seek(SeekFrom::Start(at))?;
        match self.unframer.read(&mut self.from, raw, &mut 0)? {
            Next::Frame(KIND_END) => Ok(End::get(raw).ok().map(|end| end.index)),
            _ => Ok(None),
        }
    }

    fn walk_frames(&mut self) -> Result<Index, ReadError> {
        let mut index = Index::default();
        let mut at = self.begin;
        loop {
            self.from.seek(SeekFrom::Start(at))?;
            let Ok(head) = frame::head(&mut self.from)? else {
                return Ok(index);
            };
            let size = (HEAD + head.stored) as u64;
            if head.kind == KIND_KEY {
                // Its time is in its contents.
                self.from.seek(SeekFrom::Start(at))?;
                let raw = &mut self.contents.raw;
                match self.unframer.read(&mut self.from, raw, &mut 0)? {
                    Next::Frame(_) => {}
                    _ => return Ok(index),
                }
                match self.contents.parse() {
                    Ok(t_ns) => index.push(t_ns, at),
                    Err(_) => return Ok(index),
                }
            }
            at += size;
        }
    }
}
