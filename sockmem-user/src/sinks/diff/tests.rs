use super::*;
use crate::model::compare::tests::{connection, survey, view};
use crate::model::compare::{Trace, compare};
use crate::model::survey::Survey;
use crate::sinks::fixture;

const EVIL: &str = "\x1b[2J\u{202e}\nroot";

fn recorded(name: &str) -> Recorded {
    Recorded {
        name: name.to_owned(),
        ..Recorded::default()
    }
}

fn traced(level: u64, peak: u64) -> Survey {
    // A load that comes in two waves.
    let levels: Vec<f64> = (0..200)
        .map(|i| {
            if i % 100 < 60 {
                level as f64
            } else {
                level as f64 / 8.0
            }
        })
        .collect();
    survey(
        &levels,
        (0..40)
            .map(|i| connection(443, peak + i * peak / 400))
            .collect(),
    )
}

/// Text and JSON of a comparison, the views adjusted by `change`.
fn both(
    base: &Survey,
    new: &Survey,
    cut: Option<Cut>,
    change: impl Fn(&mut View),
    look: Look,
) -> (String, String) {
    let (vb, mut vn) = (view(base), view(new));
    change(&mut vn);
    let host = fixture::host();
    let (fb, mut fnew) = (recorded("base.skm"), recorded("new.skm"));
    fnew.cut = cut;
    let side = |view, from| Side {
        view,
        host: &host,
        from,
    };
    let trace = |view, survey| Trace {
        view,
        survey,
        page_size: 4096,
    };
    let c = compare(trace(&vb, base), trace(&vn, new));
    let (sb, sn) = (side(&vb, &fb), side(&vn, &fnew));
    let mut out = Vec::new();
    write_json(sb, sn, &c, &mut out).unwrap();
    (render(sb, sn, &c, &look), String::from_utf8(out).unwrap())
}

fn wide() -> Look {
    Look {
        width: Some(130),
        ..Look::default()
    }
}

#[test]
fn reduced() {
    let (text, json) = both(
        &traced(8 << 20, 200_000),
        &traced(1 << 20, 30_000),
        None,
        |_| {},
        wide(),
    );
    insta::assert_snapshot!(text);
    let doc: serde_json::Value = serde_json::from_str(&json).unwrap();
    insta::assert_json_snapshot!(doc);
}

#[test]
fn no_change_truncated_lossy_80_ascii() {
    let base = traced(8 << 20, 200_000);
    let look = Look {
        width: Some(80),
        ascii: true,
        color: false,
    };
    let cut = Cut {
        why: "it was not closed".to_owned(),
        known_ns: 9_800_000_000,
    };
    let lossy = |v: &mut View| {
        v.loss.seen = 1000;
        v.loss.dropped_ring = 17;
        v.loss.lost_closed = 2;
    };
    let (text, _) = both(&base, &base, Some(cut), lossy, look);
    assert!(text.is_ascii());
    insta::assert_snapshot!(text);
}

#[test]
fn not_comparable() {
    let base = traced(8 << 20, 200_000);
    let mut new = traced(1 << 20, 30_000);
    new.payload_bytes = None;
    new.connections_seen = 400;
    let (text, _) = both(&base, &new, None, |v| v.loss.dropped_map = 3, wide());
    insta::assert_snapshot!(text);
}

#[test]
fn strings_of_a_recording_cannot_steer_the_terminal() {
    let base = traced(8 << 20, 200_000);
    let evil = |v: &mut View| v.groups[0].owner.comm = Some(EVIL.to_owned());
    let cut = Cut {
        why: EVIL.to_owned(),
        known_ns: 1,
    };
    let (text, json) = both(&base, &base, Some(cut), evil, wide());
    let harmless = |c| crate::sinks::escape::harmless(c) || c == '\n' || c == '\\';
    assert!(text.chars().all(harmless), "{text}");
    assert!(json.trim_end().chars().all(harmless), "{json}");
    let doc: serde_json::Value = serde_json::from_str(&json).unwrap();
    let comms: Vec<_> = doc["by_process"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| &p["comm"])
        .collect();
    assert!(comms.contains(&&serde_json::json!(EVIL)), "{comms:?}");
}
