//! Any bytes as a recording, and as the contents of frames whose checksums are right. What is read
//! feeds a model; no panic, and nothing is allocated by a length that was not checked.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use sockmem::model::Model;
use sockmem::recording::{Header, Reader, Writer, read_all};

fn use_all(bytes: &[u8]) {
    let Ok(mut reader) = Reader::open(Cursor::new(bytes)) else {
        return;
    };
    let mut model = Model::new(reader.header().config());
    let summary = read_all(&mut reader, &mut model).expect("a slice reads without errors");
    let end = summary.end_mono_ns;
    let _ = model.view(end, reader.header().unix_ns(end));
    for t_ns in [0, end / 2, end] {
        reader.seek(t_ns).expect("a slice seeks without errors");
        let mut model = Model::new(reader.header().config());
        read_all(&mut reader, &mut model).expect("a slice reads without errors");
    }
}

/// A frame that is stored as it is.
fn frame(out: &mut Vec<u8>, kind: u8, raw: &[u8]) {
    let begin = out.len();
    out.extend([kind, 0, 0, 0]);
    out.extend((raw.len() as u32).to_le_bytes());
    out.extend((raw.len() as u32).to_le_bytes());
    let mut sum = crc32fast::Hasher::new();
    sum.update(&out[begin..]);
    sum.update(raw);
    out.extend(sum.finalize().to_le_bytes());
    out.extend(raw);
}

fuzz_target!(|bytes: &[u8]| {
    use_all(bytes);
    // The first byte says how the rest is cut into frames.
    let Some((&cut, contents)) = bytes.split_first() else {
        return;
    };
    let head = Writer::new(Vec::new(), &Header::default()).and_then(|w| w.into_inner());
    let mut made = head.expect("a Vec takes everything");
    let kinds = [2, 3, 4, 2, 5, 6];
    for (part, kind) in contents.chunks(usize::from(cut).max(1) * 16).zip(kinds.iter().cycle()) {
        frame(&mut made, *kind, part);
    }
    use_all(&made);
});
