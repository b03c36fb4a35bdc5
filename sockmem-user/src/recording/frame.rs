//! Frames: the units that are compressed, checked, and whole or lost.
//!
//! ```text
//! kind u8 | codec u8 | zero u16 | stored u32 | raw u32 | crc32 u32 | stored bytes
//! ```
//! Little-endian. The checksum is over the first 12 bytes and the stored ones.

use std::io::{self, Read, Write};

use bytes::{Buf, BufMut, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// Bytes before a frame's contents.
pub(super) const HEAD: usize = 16;
/// No frame holds more, before or after compression: what a reader needs at most, twice.
pub(super) const LARGEST: usize = 8 << 20;

/// The facts at the head of the recording (JSON).
pub(super) const KIND_HEADER: u8 = 1;
/// Inputs.
pub(super) const KIND_DATA: u8 = 2;
/// Everything that is known so far, from nothing.
pub(super) const KIND_KEY: u8 = 3;
/// More of the same.
pub(super) const KIND_KEY_MORE: u8 = 4;
/// The end of a recording that was closed: totals and index.
pub(super) const KIND_END: u8 = 5;
/// Where the end's frame begins.
pub(super) const KIND_TRAILER: u8 = 6;

const CODEC_NONE: u8 = 0;
const CODEC_DEFLATE: u8 = 1;

/// Makes frames.
pub(super) struct Framer {
    deflate: Compress,
    frame: BytesMut,
}

impl Framer {
    pub(super) fn new() -> Self {
        Framer {
            deflate: Compress::new(Compression::fast(), false),
            frame: BytesMut::new(),
        }
    }

    /// Writes one frame. Returns the bytes written.
    pub(super) fn write(&mut self, out: &mut impl Write, kind: u8, raw: &[u8]) -> io::Result<u64> {
        if raw.len() > LARGEST {
            return Err(io::Error::other("more than a frame can hold"));
        }
        let frame = &mut self.frame;
        frame.clear();
        frame.resize(HEAD + raw.len(), 0);
        self.deflate.reset();
        // What does not become smaller does not fit, and is stored as it is.
        let status = self
            .deflate
            .compress(raw, &mut frame[HEAD..], FlushCompress::Finish);
        let codec = if matches!(status, Ok(Status::StreamEnd)) {
            frame.truncate(HEAD + self.deflate.total_out() as usize);
            CODEC_DEFLATE
        } else {
            frame[HEAD..].copy_from_slice(raw);
            CODEC_NONE
        };
        let stored = frame.len() - HEAD;
        let mut head = &mut frame[..HEAD];
        head.put_u8(kind);
        head.put_u8(codec);
        head.put_u16_le(0);
        head.put_u32_le(stored as u32);
        head.put_u32_le(raw.len() as u32);
        let sum = checksum(&frame[..HEAD - 4], &frame[HEAD..]);
        frame[HEAD - 4..HEAD].copy_from_slice(&sum.to_le_bytes());
        out.write_all(frame)?;
        Ok(frame.len() as u64)
    }
}

fn checksum(head: &[u8], stored: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(head);
    sum.update(stored);
    sum.finalize()
}

/// What came where a frame was expected.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A whole frame of this kind; its contents are in the buffer.
    Frame(u8),
    /// Nothing at all.
    Nothing,
    /// Something that is no whole frame.
    Damaged(&'static str),
}

/// Takes frames apart.
pub(super) struct Unframer {
    inflate: Decompress,
    stored: Vec<u8>,
}

/// The head of a frame.
pub(super) struct Head {
    pub(super) kind: u8,
    codec: u8,
    pub(super) stored: usize,
    raw: usize,
    sum: u32,
    bytes: [u8; HEAD],
}

pub(super) const WITHIN: &str = "it ends within a frame";
const LENGTH: &str = "a frame's length is damaged";

/// The head of the next frame, or what came instead.
pub(super) fn head(from: &mut impl Read) -> io::Result<Result<Head, Next>> {
    let mut bytes = [0; HEAD];
    match fill(from, &mut bytes)? {
        0 => return Ok(Err(Next::Nothing)),
        HEAD => {}
        _ => return Ok(Err(Next::Damaged(WITHIN))),
    }
    let mut h = bytes.as_slice();
    let (kind, codec, _) = (h.get_u8(), h.get_u8(), h.get_u16_le());
    let (stored, raw, sum) = (
        h.get_u32_le() as usize,
        h.get_u32_le() as usize,
        h.get_u32_le(),
    );
    if stored > LARGEST || raw > LARGEST {
        return Ok(Err(Next::Damaged(LENGTH)));
    }
    Ok(Ok(Head {
        kind,
        codec,
        stored,
        raw,
        sum,
        bytes,
    }))
}

impl Unframer {
    pub(super) fn new() -> Self {
        Unframer {
            inflate: Decompress::new(false),
            stored: Vec::new(),
        }
    }

    /// Reads one frame into `raw`. Allocates no more than `LARGEST`, twice, and not before as much
    /// has come. Adds what it read to `at` where it was a whole frame.
    pub(super) fn read(
        &mut self,
        from: &mut impl Read,
        raw: &mut Vec<u8>,
        at: &mut u64,
    ) -> io::Result<Next> {
        let head = match head(from)? {
            Ok(head) => head,
            Err(next) => return Ok(next),
        };
        self.stored.clear();
        let have = from
            .by_ref()
            .take(head.stored as u64)
            .read_to_end(&mut self.stored)?;
        if have < head.stored {
            return Ok(Next::Damaged(WITHIN));
        }
        if checksum(&head.bytes[..HEAD - 4], &self.stored) != head.sum {
            return Ok(Next::Damaged("a frame's checksum is wrong"));
        }
        raw.clear();
        match head.codec {
            CODEC_NONE if head.stored == head.raw => raw.extend_from_slice(&self.stored),
            CODEC_DEFLATE => {
                raw.resize(head.raw, 0);
                self.inflate.reset(false);
                let status = self
                    .inflate
                    .decompress(&self.stored, raw, FlushDecompress::Finish);
                let whole = matches!(status, Ok(Status::StreamEnd))
                    && self.inflate.total_out() == head.raw as u64;
                if !whole {
                    return Ok(Next::Damaged("a frame cannot be decompressed"));
                }
            }
            _ => return Ok(Next::Damaged("a frame is compressed in an unknown way")),
        }
        *at += (HEAD + head.stored) as u64;
        Ok(Next::Frame(head.kind))
    }
}

/// Reads until `buf` is full or nothing comes any more. Returns how many bytes came.
pub(super) fn fill(from: &mut impl Read, buf: &mut [u8]) -> io::Result<usize> {
    let mut have = 0;
    while have < buf.len() {
        match from.read(&mut buf[have..]) {
            Ok(0) => break,
            Ok(n) => have += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(have)
}
