use super::*;
use crate::model::SocketView;
use crate::sinks::fixture;

pub(in crate::sinks) const EVIL: &str = "\x1b[2J\u{202e}\n]]></failure>&\"'";

fn judged(
    name: &'static str,
    actual: Option<Amount>,
    ok: bool,
    sockets: Vec<SocketView>,
) -> Judged {
    Judged {
        name,
        what: "most that all sockets held at once".to_owned(),
        limit: Amount::Bytes(64 << 10),
        actual,
        ok,
        note: actual
            .is_none()
            .then(|| "no connection was idle".to_owned()),
        sockets,
    }
}

pub(in crate::sinks) fn failing() -> Vec<Judged> {
    vec![
        judged(
            "max-resident",
            Some(Amount::Bytes(66_001)),
            false,
            vec![fixture::socket(3), fixture::socket(1)],
        ),
        judged(
            "max-peak-per-socket",
            Some(Amount::Bytes(4_096)),
            true,
            vec![],
        ),
        judged("max-idle-total", None, false, vec![]),
        Judged {
            limit: Amount::Share(0.001),
            actual: Some(Amount::Share(0.0123)),
            what: "changes that were seen and not recorded".to_owned(),
            note: Some("totals of 2 closed sockets are missing".to_owned()),
            ..judged("max-loss", None, false, vec![])
        },
    ]
}

pub(in crate::sinks) fn from(cut: bool) -> Recorded {
    Recorded {
        name: "load.skm".to_owned(),
        cut: cut.then(|| Cut {
            why: "it was not closed".to_owned(),
            known_ns: 9_300_000_000,
        }),
        ..Recorded::default()
    }
}

fn text(judged: &[Judged], cut: bool, look: &Look) -> String {
    let view = fixture::three_groups();
    let it = Checked {
        view: &view,
        host: &fixture::host(),
        from: &from(cut),
        baseline: None,
        judged,
    };
    render(it, look)
}

#[test]
fn failed() {
    let look = Look {
        width: Some(120),
        ..Look::default()
    };
    insta::assert_snapshot!(text(&failing(), false, &look));
}

#[test]
fn failed_truncated_80_ascii() {
    let look = Look {
        width: Some(80),
        ascii: true,
        color: false,
    };
    let text = text(&failing(), true, &look);
    assert!(text.is_ascii());
    insta::assert_snapshot!(text);
}

#[test]
fn passed() {
    let ok = [judged(
        "max-resident",
        Some(Amount::Bytes(4_096)),
        true,
        vec![],
    )];
    insta::assert_snapshot!(text(&ok, false, &Look::default()));
}

#[test]
fn document() {
    let view = fixture::three_groups();
    let mut all = failing();
    for j in &mut all {
        j.sockets.truncate(1);
    }
    let it = Checked {
        view: &view,
        host: &fixture::host(),
        from: &from(true),
        baseline: Some("base.skm"),
        judged: &all,
    };
    let mut out = Vec::new();
    write_json(it, &mut out).unwrap();
    let mut doc: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(doc["limits"][0]["sockets"][0]["cookie"], 4_099);
    doc["limits"][0]["sockets"] = "as everywhere".into();
    insta::assert_json_snapshot!(doc);
}

#[test]
fn strings_of_a_recording_cannot_steer_the_terminal() {
    let mut all = failing();
    all[0].sockets[0].owner.comm = Some(EVIL.to_owned());
    all[0].note = Some(EVIL.to_owned());
    let text = text(&all, false, &Look::default());
    let harmless = |c| crate::sinks::escape::harmless(c) || c == '\n' || c == '\\';
    assert!(text.chars().all(harmless), "{text}");
}
