//! Frames: the units that are compressed, checked, and whole or lost.
//!
//! ```text
//! kind u8 | codec u8 | zero u16 | stored u32 | raw u32 | crc32 u32 | stored bytes
//! ```
//! Little-endian. The checksum is over the first 12 bytes and the stored ones.

use std::io::{self, Read, Write};

use bytes::{Buf, BufMut, BytesMut};

/// Bytes before a frame's contents.
pub(super) const HEAD: usize = 16;
/// No frame holds more, before or after compression: what a reader needs at most.
pub(super) const LARGEST: usize = 4 << 20;

/// A frame with the facts at the head of the recording (JSON).
pub(super) const KIND_HEADER: u8 = 1;
/// A frame with inputs.
pub(super) const KIND_DATA: u8 = 2;
/// The last frame of a recording that was closed.
pub(super) const KIND_END: u8 = 4;

const CODEC_NONE: u8 = 0;
const CODEC_LZ4: u8 = 1;

/// Writes one frame; `scratch` is only kept for its memory. Returns the bytes written.
pub(super) fn write(
    out: &mut impl Write,
    kind: u8,
    raw: &[u8],
    scratch: &mut BytesMut,
) -> io::Result<u64> {
    debug_assert!(raw.len() <= LARGEST);
    scratch.clear();
    scratch.resize(
        HEAD + lz4_flex::block::get_maximum_output_size(raw.len()),
        0,
    );
    let packed = lz4_flex::block::compress_into(raw, &mut scratch[HEAD..])
        .ok()
        .filter(|packed| *packed < raw.len());
    let codec = match packed {
        Some(packed) => {
            scratch.truncate(HEAD + packed);
            CODEC_LZ4
        }
        None => {
            scratch.truncate(HEAD);
            scratch.put_slice(raw);
            CODEC_NONE
        }
    };
    let stored = scratch.len() - HEAD;
    let mut head = &mut scratch[..HEAD];
    head.put_u8(kind);
    head.put_u8(codec);
    head.put_u16_le(0);
    head.put_u32_le(stored as u32);
    head.put_u32_le(raw.len() as u32);
    let sum = checksum(&scratch[..HEAD - 4], &scratch[HEAD..]);
    scratch[HEAD - 4..HEAD].copy_from_slice(&sum.to_le_bytes());
    out.write_all(scratch)?;
    Ok(scratch.len() as u64)
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

/// Reads one frame into `raw`. Allocates no more than `LARGEST`, twice. Adds what it read to `at`
/// where it was a whole frame.
pub(super) fn read(
    from: &mut impl Read,
    stored: &mut Vec<u8>,
    raw: &mut Vec<u8>,
    at: &mut u64,
) -> io::Result<Next> {
    let mut head = [0; HEAD];
    match fill(from, &mut head)? {
        0 => return Ok(Next::Nothing),
        HEAD => {}
        _ => return Ok(Next::Damaged("the file ends within a frame")),
    }
    let mut h = head.as_slice();
    let (kind, codec, _) = (h.get_u8(), h.get_u8(), h.get_u16_le());
    let (stored_len, raw_len, sum) = (h.get_u32_le(), h.get_u32_le(), h.get_u32_le());
    let (stored_len, raw_len) = (stored_len as usize, raw_len as usize);
    if stored_len > LARGEST || raw_len > LARGEST {
        return Ok(Next::Damaged("a frame's length is damaged"));
    }
    stored.clear();
    if from.by_ref().take(stored_len as u64).read_to_end(stored)? < stored_len {
        return Ok(Next::Damaged("the file ends within a frame"));
    }
    if checksum(&head[..HEAD - 4], stored) != sum {
        return Ok(Next::Damaged("a frame's checksum is wrong"));
    }
    raw.clear();
    match codec {
        CODEC_NONE if stored_len == raw_len => raw.extend_from_slice(stored),
        CODEC_LZ4 => {
            raw.resize(raw_len, 0);
            if lz4_flex::block::decompress_into(stored, raw).ok() != Some(raw_len) {
                return Ok(Next::Damaged("a frame cannot be decompressed"));
            }
        }
        _ => return Ok(Next::Damaged("a frame is compressed in an unknown way")),
    }
    *at += (HEAD + stored_len) as u64;
    Ok(Next::Frame(kind))
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
