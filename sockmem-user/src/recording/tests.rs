//! From inputs to bytes and back.

use super::*;
use crate::model::{Input, synthetic};

fn written(header: &Header) -> Vec<u8> {
    let mut w = Writer::new(Vec::new(), header).expect("a Vec takes everything");
    for record in synthetic::opens(5, 1_000).chain(synthetic::changes(5, 1_000, 500)) {
        w.push(1_000, Input::Record(&record))
            .expect("a Vec takes everything");
    }
    w.finish(9_000_000).expect("a Vec takes everything").0
}

#[test]
fn a_model_of_the_recording_gives_the_same_picture() {
    let header = Header {
        start_mono_ns: 500,
        ..Header::default()
    };
    let mut live = Model::new(header.config());
    for record in synthetic::opens(5, 1_000).chain(synthetic::changes(5, 1_000, 500)) {
        live.feed(Input::Record(&record));
    }
    let bytes = written(&header);
    let mut reader = Reader::open(bytes.as_slice()).expect("just written");
    let mut model = Model::new(reader.header().config());
    let summary = read_all(&mut reader, &mut model).expect("a slice reads without errors");
    assert_eq!(
        summary.ending,
        Ending::Clean {
            end_mono_ns: 9_000_000
        }
    );
    assert_eq!((summary.counts.events, summary.counts.sockets), (505, 5));
    let at = (summary.end_mono_ns, header.unix_ns(summary.end_mono_ns));
    assert_eq!(model.view(at.0, at.1), live.view(at.0, at.1));
}
