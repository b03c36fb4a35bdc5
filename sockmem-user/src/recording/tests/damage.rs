//! Files that were cut, damaged, made by a later version, or made up.

use std::io::Cursor;

use proptest::prelude::*;

use super::super::frame::{Framer, KIND_DATA, KIND_HEADER, KIND_KEY};
use super::super::varint::put_bytes;
use super::super::varint::put_u64;
use super::super::writer::MAGIC;
use super::stories::{any_story, plausible};
use super::*;

/// `Err` where not even the head is whole.
fn try_read(bytes: &[u8]) -> Result<(Story, Ending), ReadError> {
    let mut reader = Reader::open(bytes)?;
    let story = rest(&mut reader);
    Ok((story, reader.ending()))
}

#[test]
fn cut_at_any_byte_it_reads_up_to_the_last_whole_frame() {
    let story = plausible(3_000);
    let whole = expected(&story);
    let mut w = Writer::new(Vec::new(), &header()).expect("a Vec takes everything");
    w.keyframes_every(1_000);
    let mut frames = vec![w.counts().bytes];
    for (n, (t_ns, told)) in story.iter().enumerate() {
        w.push(*t_ns, told.input()).expect("a Vec");
        if n % 400 == 399 {
            w.flush().expect("a Vec");
        }
        if w.counts().bytes != frames[frames.len() - 1] {
            frames.push(w.counts().bytes);
        }
    }
    let (bytes, _) = w.finish(1 << 50).expect("a Vec");
    let mut longest = 0;
    for cut in 0..bytes.len() {
        match try_read(&bytes[..cut]) {
            Err(ReadError::NotARecording) => assert_eq!(cut, 0),
            Err(ReadError::Empty) => assert!((cut as u64) < frames[0], "{cut}"),
            Err(e) => panic!("{cut}: {e}"),
            Ok((came, Ending::Clean { .. })) => {
                // Only what leads to the index is missing.
                assert_eq!(came, whole);
                assert!(cut + 24 >= bytes.len(), "{cut}");
            }
            Ok((
                came,
                Ending::Truncated {
                    why,
                    lost_after_ns,
                    bytes: read,
                },
            )) => {
                assert_eq!(came[..], whole[..came.len()], "{cut}");
                assert!(came.len() >= longest, "{cut}: fewer than with less");
                longest = came.len();
                assert!(read <= cut as u64);
                assert!(
                    frames
                        .iter()
                        .filter(|f| **f <= cut as u64)
                        .all(|f| *f <= read),
                    "{cut} {read}"
                );
                assert!(!why.is_empty());
                let last = came.iter().map(|(t, _)| *t).max().unwrap_or(500);
                assert_eq!(lost_after_ns, last.max(500));
            }
        }
    }
    assert_eq!(longest, whole.len());
}

#[test]
fn a_later_major_version_is_refused_by_name() {
    let mut bytes = written(&plausible(10), 1 << 20);
    bytes[MAGIC.len()] = 2;
    let why = Reader::open(bytes.as_slice())
        .err()
        .expect("refused")
        .to_string();
    assert!(
        why.contains("format 2.0") && why.contains("1.x") && why.contains("later sockmem-trace"),
        "{why}"
    );
    for other in [&b"PK\x03\x04 something"[..], b"{\"schema\":1}", b""] {
        assert!(matches!(Reader::open(other), Err(ReadError::NotARecording)));
    }
}

/// A recording of the given frames.
fn made(frames: &[(u8, &[u8])]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend([1, 0, 9, 0]);
    let mut framer = Framer::new();
    framer
        .write(&mut bytes, KIND_HEADER, &header().to_json())
        .expect("a Vec");
    for (kind, raw) in frames {
        framer.write(&mut bytes, *kind, raw).expect("a Vec");
    }
    bytes
}

/// The contents of a frame of inputs with these sections.
fn contents(sections: &[(u64, &[u8])]) -> Vec<u8> {
    let mut raw = Vec::new();
    put_u64(&mut raw, 1_000);
    for (tag, section) in sections {
        put_u64(&mut raw, *tag);
        put_bytes(&mut raw, section);
    }
    raw
}

#[test]
fn what_a_later_minor_version_added_is_read_over() {
    let scan_done = [2u8, 8, 5]; // A row of two bytes, 4 ns later; began 3 ns before; and more.
    let row = [&[3u8, 8, 5][..], &[99]].concat();
    let _ = scan_done;
    // Kind 40 three times, a scan's end, kind 41 once.
    let raw = contents(&[
        (0, &[40, 3, 8, 1, 41, 1]),
        (64 + 8, &row),
        (64 + 40, b"whatever"),
        (64 + 41, b""),
        (5_000, b"a section of another time"),
    ]);
    let bytes = made(&[
        (KIND_DATA, &raw),
        (200, b"a frame of another time"),
        (KIND_DATA, &raw),
    ]);
    let (story, ending) = read(&bytes);
    assert_eq!(
        story,
        [
            (1_004, Told::ScanDone(1_001)),
            (1_004, Told::ScanDone(1_001))
        ]
    );
    assert!(matches!(ending, Ending::Truncated { why, .. } if why == "it was not closed"));
}

#[test]
fn lengths_that_lie_are_not_believed() {
    let good = made(&[(KIND_DATA, &contents(&[(0, &[8, 1]), (72, &[2, 8, 5])]))]);
    let head = made(&[]).len();
    for at in [4, 8] {
        let mut bytes = good.clone();
        bytes[head + at..head + at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        let (story, ending) = read(&bytes);
        assert!(story.is_empty());
        assert!(matches!(ending, Ending::Truncated { why, .. } if why.contains("length")));
    }
    // Many inputs of which nothing is there.
    let mut count = vec![7];
    put_u64(&mut count, u64::MAX);
    for raw in [
        contents(&[(0, &count)]),
        contents(&[(0, &[1, 100])]),
        contents(&[(0, &count), (71, &[3, 0, 0, 0xff])]),
    ] {
        let (story, ending) = read(&made(&[(KIND_DATA, &raw)]));
        assert!(story.is_empty());
        assert!(matches!(ending, Ending::Truncated { why, .. } if why.contains("contents")));
    }
}

/// Reads and seeks in whatever it is; feeds a model with it.
fn use_all(bytes: &[u8]) {
    let Ok(mut reader) = Reader::open(Cursor::new(bytes)) else {
        return;
    };
    let mut model = Model::new(reader.header().config());
    let summary = read_all(&mut reader, &mut model).expect("a slice");
    let end = summary.end_mono_ns;
    let view = model.view(end, reader.header().unix_ns(end));
    assert!(view.resident_peak_bytes >= view.totals.resident);
    for t in [0, end / 2, end, u64::MAX] {
        reader.seek(t).expect("a slice");
        let mut model = Model::new(reader.header().config());
        read_all(&mut reader, &mut model).expect("a slice");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_flipped_bit_costs_what_follows_and_never_makes_anything_up(
        at in any::<prop::sample::Index>(), bit in 0u8..8,
    ) {
        let story = plausible(1_200);
        let whole = expected(&story);
        let mut bytes = written(&story, 1_000);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if let Ok((came, _)) = try_read(&bytes) {
            prop_assert_eq!(&came[..], &whole[..came.len()]);
        }
        use_all(&bytes);
    }

    #[test]
    fn contents_that_were_made_up_do_no_harm(
        story in any_story(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        kind in prop_oneof![Just(KIND_DATA), Just(KIND_KEY)],
    ) {
        // What a writer would put into a frame, with some bytes replaced and a checksum that is right.
        let mut putter = super::super::put::Putter::new();
        let mut batch = super::super::batch::Batch::new();
        for (t_ns, told) in &story {
            putter.put(&mut batch, *t_ns, told.input());
        }
        let mut raw = bytes::BytesMut::new();
        batch.take(0, &mut raw);
        for (at, byte) in edits {
            let at = at.index(raw.len());
            raw[at] = byte;
        }
        use_all(&made(&[(kind, &raw), (KIND_DATA, &raw)]));
    }
}
