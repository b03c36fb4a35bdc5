use std::io::ErrorKind;

use super::*;
use crate::sinks::fixture;

fn parse(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

/// A document broken into lines for reading; the order of members is kept.
fn readable(line: &str) -> String {
    let mut out = String::new();
    let (mut depth, mut text, mut escaped) = (0usize, false, false);
    for c in line.chars() {
        let newline = |out: &mut String, depth: usize| {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', depth * 2));
        };
        match c {
            _ if text => text = escaped || c != '"',
            '"' => text = true,
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            _ => {}
        }
        escaped = text && !escaped && c == '\\';
        out.push(c);
        if !text && depth < 4 && matches!(c, ',' | '{' | '[') {
            newline(&mut out, depth);
        }
    }
    out
}

#[test]
fn live_document() {
    let line = live_line(&fixture::stalled_reader(), &fixture::host());
    assert!(!line.contains('\n'));
    insta::assert_snapshot!(readable(&line));
}

#[test]
fn report_document() {
    insta::assert_snapshot!(readable(&report_line(
        &fixture::three_groups(),
        &fixture::host()
    )));
}

#[test]
fn unknown_is_null_and_never_zero() {
    let mut view = fixture::empty();
    view.sockets.push(fixture::unknown_socket());
    view.totals.sockets = 1;
    view.totals.backlog = None;
    let doc = parse(&live_line(
        &view,
        &HostFacts {
            boot_id: None,
            ..fixture::host()
        },
    ));
    let s = &doc["sockets"][0];
    for name in [
        "cookie",
        "inode",
        "netns",
        "rcvbuf",
        "sndbuf",
        "wmem_alloc",
        "optmem",
        "backlog",
        "drops",
        "unread_bytes",
        "unacked_bytes",
        "rate_bytes_per_s",
        "resident_mean_bytes",
        "idle_resident_mean_bytes",
        "idle_resident_max_bytes",
    ] {
        assert!(
            s.get(name).is_some_and(serde_json::Value::is_null),
            "{name}: {}",
            s[name]
        );
    }
    for name in ["pid", "comm", "cgroup"] {
        assert!(
            s["owner"].get(name).is_some_and(serde_json::Value::is_null),
            "{name}"
        );
    }
    assert_eq!(s["owner"]["kind"], "unknown");
    assert_eq!(s["idle_reason"], "none");
    assert!(doc["host"]["boot_id"].is_null() && doc["truesize"].is_null());
    assert!(doc["totals"]["backlog"].is_null() && doc["loss"]["recursion_misses"].is_null());
}

#[test]
fn every_field_of_the_table_is_in_the_document() {
    let doc = parse(&report_line(&fixture::stalled_reader(), &fixture::host()));
    let socket = &doc["sockets"][0];
    for f in FIELDS {
        let found = match f.json.strip_prefix(OWNER) {
            Some(name) => socket["owner"].get(name),
            None => socket.get(f.json),
        };
        assert!(found.is_some(), "{}", f.json);
    }
    assert!(socket["limits"].is_array());
}

#[test]
fn report_holds_closed_sockets_and_live_does_not() {
    let view = fixture::three_groups();
    assert!(!view.closed.is_empty());
    let report = parse(&report_line(&view, &fixture::host()));
    let live = parse(&live_line(&view, &fixture::host()));
    let count = |doc: &serde_json::Value| doc["sockets"].as_array().unwrap().len();
    assert_eq!(count(&report), view.sockets.len() + view.closed.len());
    assert_eq!(count(&live), view.sockets.len());
    assert_eq!(
        report["processes"][0]["sockets"],
        view.groups[0].sockets_seen
    );
    assert_eq!(
        live["processes"][0]["sockets"],
        view.groups[0].totals.sockets
    );
}

#[test]
fn strings_survive_and_cannot_steer_a_terminal() {
    let view = fixture::weird_names();
    let line = live_line(&view, &fixture::host());
    assert!(line.chars().all(|c| harmless(c) || c == '\\'), "{line}");
    let doc = parse(&line);
    for (group, parsed) in view.groups.iter().zip(doc["processes"].as_array().unwrap()) {
        assert_eq!(parsed["comm"].as_str(), group.owner.comm.as_deref());
    }
}

#[test]
fn a_closed_pipe_keeps_its_kind() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let many = fixture::many(300);
    let err = write_live(&many, &fixture::host(), &mut Closed).unwrap_err();
    assert_eq!(err.kind(), ErrorKind::BrokenPipe);
}
