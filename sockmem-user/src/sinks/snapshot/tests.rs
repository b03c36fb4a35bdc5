use super::*;
use crate::facts::inventory::Selection;
use crate::model::snapshot::sample;
use crate::sinks::HostFacts;
use crate::sinks::look::Look;

fn host() -> HostFacts {
    HostFacts {
        kernel: "6.18.0".into(),
        hostname: "web".into(),
        boot_id: None,
        page_size: 4096,
        cpus: 2,
    }
}

fn all() -> Selection {
    Selection {
        all: true,
        ..Selection::default()
    }
}

/// Prints the sample in the way that `print` does.
fn printed(
    adjust: impl FnOnce(&mut Report<'_>),
    print: impl FnOnce(&Report<'_>, &mut Vec<u8>) -> std::io::Result<()>,
) -> String {
    let inventory = sample::inventory();
    let mut snapshot = Snapshot::new(&inventory, &all());
    snapshot.sort(sort_by("resident").unwrap());
    let mut report = Report {
        snapshot: &snapshot,
        target: "all TCP, UDP, unix sockets".into(),
        top: None,
        groups: None,
    };
    adjust(&mut report);
    let mut out = Vec::new();
    print(&report, &mut out).expect("a Vec takes everything");
    String::from_utf8(out).expect("UTF-8")
}

fn text(look: Look, adjust: impl FnOnce(&mut Report<'_>)) -> String {
    printed(adjust, |r, out| write_text(r, &host(), &look, out))
}

#[test]
fn a_table_for_people() {
    insta::assert_snapshot!("text", text(Look::default(), |_| {}));
    let narrow = Look {
        width: Some(100),
        ..Look::default()
    };
    let narrow = text(narrow, |r| r.top = Some(3));
    assert!(narrow.lines().all(|l| l.chars().count() <= 100), "{narrow}");
    insta::assert_snapshot!("text_100_top_3", narrow);
}

#[test]
fn no_foreign_name_steers_the_terminal() {
    for format in [
        text(Look::default(), |_| {}),
        printed(|_| {}, |r, out| write_json(r, &host(), out)),
        printed(|_| {}, write_csv),
    ] {
        assert!(
            format.contains("bient")
                || format.contains("b\\u001bient")
                || format.contains("client")
        );
        assert!(!format.contains('\x1b'), "{format}");
    }
}

#[test]
fn sums_do_not_depend_on_what_is_shown() {
    let totals = |s: &str| {
        let document: serde_json::Value = serde_json::from_str(s).expect("JSON");
        (
            document["totals"].clone(),
            document["sockets"].as_array().map(Vec::len),
        )
    };
    let json = |top| printed(|r| r.top = top, |r, out| write_json(r, &host(), out));
    let (whole, n) = totals(&json(None));
    assert_eq!(n, Some(9));
    let (part, n) = totals(&json(Some(2)));
    assert_eq!((part, n), (whole.clone(), Some(2)));
    assert_eq!(whole["resident"], 21 * 4096 + 4096 + 4864);
}

#[test]
fn the_json_document() {
    let text = printed(|_| {}, |r, out| write_json(r, &host(), out));
    let mut document: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(document["schema"], SCHEMA);
    let first = &document["sockets"][0];
    for name in [
        "cookie",
        "inode",
        "protocol",
        "family",
        "state",
        "local",
        "remote",
        "owner",
        "rmem_alloc",
        "rcvbuf",
        "wmem_alloc",
        "sndbuf",
        "forward_alloc",
        "wmem_queued",
        "optmem",
        "backlog",
        "drops",
        "resident",
        "unread_bytes",
        "unacked_bytes",
    ] {
        assert!(first.get(name).is_some(), "{name}");
    }
    for name in ["pid", "comm", "cgroup", "kind"] {
        assert!(first["owner"].get(name).is_some(), "owner.{name}");
    }
    document["tool_version"] = "-".into();
    insta::assert_json_snapshot!("json", document);
}

#[test]
fn groups_take_the_place_of_sockets() {
    let with = |r: &mut Report<'_>| {
        r.groups = Some((By::Process, r.snapshot.groups(By::Process)));
    };
    insta::assert_snapshot!("groups", text(Look::default(), with));
    insta::assert_snapshot!("groups_csv", printed(with, write_csv));
    let json = printed(with, |r, out| write_json(r, &host(), out));
    let document: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(document["group_by"], "process");
    assert_eq!(document["groups"][0]["key"], "nginx[11]");
    assert_eq!(document["groups"][0]["totals"]["resident"], 69_632);
}

#[test]
fn csv_has_a_header_and_as_many_cells_in_each_line() {
    let csv = printed(|_| {}, write_csv);
    insta::assert_snapshot!("csv", csv);
    let commas = |l: &str| l.matches(',').count();
    let header = csv.lines().next().unwrap();
    assert!(csv.lines().all(|l| commas(l) == commas(header)), "{csv}");
}

#[test]
fn what_is_missing_is_said() {
    let mut inventory = sample::inventory();
    inventory.holders.denied = 4;
    inventory.namespaces[0].missing = Some("the kernel refused it".into());
    let snapshot = Snapshot::new(&inventory, &all());
    let report = Report {
        snapshot: &snapshot,
        target: "all".into(),
        top: Some(0),
        groups: None,
    };
    let mut out = Vec::new();
    write_text(&report, &host(), &Look::default(), &mut out).unwrap();
    let out = String::from_utf8(out).unwrap();
    assert!(
        out.contains("not complete: network namespace of process 1: the kernel refused it"),
        "{out}"
    );
    assert!(
        out.contains("4 processes do not show their descriptors"),
        "{out}"
    );
}

#[test]
fn every_name_to_sort_by_is_known() {
    for name in SORTS {
        assert!(sort_by(name).is_some(), "{name}");
    }
    assert!(sort_by("bogus").is_none());
}

#[test]
fn every_promised_field_is_in_a_snapshot() {
    insta::assert_snapshot!(explain());
}
