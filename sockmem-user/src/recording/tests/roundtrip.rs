//! What goes in comes out.

use std::io::Cursor;

use proptest::prelude::*;

use super::stories::{any_story, plausible};
use super::*;
use crate::model::synthetic;

#[test]
fn a_model_of_the_recording_gives_the_same_picture() {
    let story = plausible(20_000);
    let mut live = Model::new(header().config());
    for (_, told) in &story {
        live.feed(told.input());
    }
    let bytes = written(&story, 4_000);
    let mut reader = Reader::open(bytes.as_slice()).expect("just written");
    assert_eq!(reader.header(), &header());
    let mut model = Model::new(reader.header().config());
    let summary = read_all(&mut reader, &mut model).expect("a slice reads without errors");
    let Ending::Clean { end_mono_ns, loss } = summary.ending else {
        panic!("{summary:?}");
    };
    assert_eq!((end_mono_ns, loss.seen), (1 << 50, 19_999));
    assert_eq!(summary.counts.inputs, story.len() as u64);
    let end = summary.end_mono_ns;
    let at = header().unix_ns(end);
    assert_eq!(model.view(end, at), live.view(end, at));
    assert_eq!(model.oddities(), live.oddities());
}

#[test]
fn steady_load_takes_few_bytes() {
    let story = plausible(50_000);
    let mut w = Writer::new(Vec::new(), &header()).expect("a Vec takes everything");
    for (t_ns, told) in &story {
        w.push(*t_ns, told.input()).expect("a Vec takes everything");
    }
    let bytes = w.finish(1).expect("a Vec takes everything").1.bytes;
    assert!(bytes < 3 * 50_000, "{bytes} bytes for 50,000 changes");
}

#[test]
fn idle_sockets_cost_nothing() {
    let states: Vec<SockState> = synthetic::opens(5_000, 1_000)
        .filter_map(|r| match r {
            Record::Open(l) => Some(l.state),
            _ => None,
        })
        .collect();
    let scans = |n: u64| -> Story {
        (0..n)
            .flat_map(|i| {
                let t = 2_000 + i * 1_000_000_000;
                [(t, Told::States(states.clone(), t)), (t, Told::ScanDone(t))]
            })
            .collect()
    };
    let size = |n| written(&scans(n), u64::MAX).len() as i64;
    let (one, many) = (size(2), size(102));
    assert!((many - one) / 100 < 100, "{one} and {many} bytes");
    let story = scans(5);
    assert_eq!(read(&written(&story, 1)).0, expected(&story));
}

#[test]
fn a_reader_can_begin_at_any_keyframe() {
    let story = plausible(20_000);
    let bytes = written(&story, 4_000);
    let whole = expected(&story);
    for closed in [true, false] {
        let cut = if closed {
            bytes.len()
        } else {
            bytes.len() - 40
        };
        let mut reader = Reader::open(Cursor::new(&bytes[..cut])).expect("it has a head");
        assert_eq!(
            reader.seek(0).expect("a slice"),
            500,
            "before the first: the beginning"
        );
        let from_start = rest(&mut reader);
        assert_eq!(from_start[..], whole[..from_start.len()]);
        assert_eq!(
            from_start.len() == whole.len(),
            closed || from_start.len() == whole.len()
        );
        let mut seen = 0;
        for at in (0..whole.len()).step_by(2_999) {
            let asked = whole[at].0;
            let t_ns = reader.seek(asked).expect("a slice");
            assert!(t_ns <= asked);
            if t_ns == 500 {
                continue;
            }
            seen += 1;
            let came = rest(&mut reader);
            // First the keyframe, then what follows it in the whole story.
            let key = came
                .iter()
                .position(|(_, t)| matches!(t, Told::ScanDone(0)))
                .expect("a keyframe")
                + 1;
            let tail = &came[key..];
            let begin = from_start.len() - tail.len();
            assert_eq!(tail, &from_start[begin..]);
            // The keyframe knows every socket that was alive.
            let mut live = Model::new(header().config());
            from_start[..begin]
                .iter()
                .for_each(|(_, t)| live.feed(t.input()));
            let mut model = Model::new(header().config());
            came[..key].iter().for_each(|(_, t)| model.feed(t.input()));
            let (a, b) = (model.view(t_ns, 0), live.view(t_ns, 0));
            assert_eq!((a.totals, a.loss), (b.totals, b.loss));
            let of = |v: &crate::model::View| -> Vec<_> {
                let mut all: Vec<_> = v
                    .sockets
                    .iter()
                    .map(|s| (s.id, s.charged_bytes, s.resident_mean_bytes))
                    .collect();
                all.sort();
                all
            };
            assert_eq!(of(&a), of(&b));
            let (first, last) = (&a.groups[0].owner, &b.groups[0].owner);
            assert_eq!((&first.comm, &first.cgroup), (&last.comm, &last.cgroup));
        }
        assert!(seen > 3, "{seen} keyframes");
    }
}

#[test]
fn more_sockets_than_are_remembered_come_back_all_the_same() {
    let many = super::super::table::MOST_SLOTS as u64 + 50;
    let mut w = Writer::new(Vec::new(), &header()).expect("a Vec takes everything");
    let all = || synthetic::opens(many, 1_000).chain(synthetic::changes(many, 1_000, many));
    for record in all() {
        w.push(0, Input::Record(&record))
            .expect("a Vec takes everything");
    }
    let (bytes, _) = w.finish(9).expect("a Vec takes everything");
    let mut reader = Reader::open(bytes.as_slice()).expect("just written");
    for record in all() {
        match reader.next().expect("a slice") {
            Some((_, Input::Record(r))) => assert_eq!(*r, record),
            other => panic!("{other:?}"),
        }
    }
    assert!(reader.next().expect("a slice").is_none());
}

#[test]
fn a_second_old_frame_is_ended() {
    let mut w = Writer::new(Vec::new(), &header()).expect("a Vec takes everything");
    let before = w.counts().bytes;
    w.push(5_000, Input::ScanDone { began_ns: 1 })
        .expect("a Vec");
    w.flush_if_old(1_000_004_999).expect("a Vec");
    assert_eq!(w.counts().bytes, before);
    w.flush_if_old(1_000_005_000).expect("a Vec");
    assert!(w.counts().bytes > before);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_story_comes_back(story in any_story(), key_bytes in prop_oneof![Just(1u64), Just(2_000), Just(u64::MAX)]) {
        let bytes = written(&story, key_bytes);
        let (came, ending) = read(&bytes);
        prop_assert_eq!(came, expected(&story));
        let clean = matches!(ending, Ending::Clean { end_mono_ns, .. } if end_mono_ns == 1 << 50);
        prop_assert!(clean, "{:?}", ending);
    }
}
