use super::*;
use crate::facts::inventory::Selection;
use crate::facts::socket::Protocol;
use crate::model::snapshot::sample;
use crate::model::statement::sample::facts;
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

fn with(
    adjust: impl FnOnce(&mut MemoryFacts),
    blind: Option<&str>,
    print: impl FnOnce(&Report<'_>, &mut Vec<u8>) -> std::io::Result<()>,
) -> String {
    let mut inventory = sample::inventory();
    inventory.sockets.retain(|l| l.protocol == Protocol::Tcp);
    let mut facts = facts();
    adjust(&mut facts);
    let selection = Selection {
        pids: [11].into(),
        ..Selection::default()
    };
    let statement = Statement::new(&inventory, &selection, &facts, blind);
    let report = Report {
        statement: &statement,
        facts: &facts,
        target: "pid 11".into(),
        unix_ns: 1_767_312_245_000_000_000,
    };
    let mut out = Vec::new();
    print(&report, &mut out).expect("a Vec takes everything");
    String::from_utf8(out).expect("UTF-8")
}

#[test]
fn one_screen_of_text() {
    let text = with(
        |_| {},
        None,
        |r, out| write_text(r, &host(), &Look::default(), out),
    );
    assert!(text.lines().count() <= 50, "more than a screen");
    insta::assert_snapshot!("text", text);
    let narrow = Look {
        width: Some(80),
        ascii: true,
        ..Look::default()
    };
    let text = with(|_| {}, None, |r, out| write_text(r, &host(), &narrow, out));
    assert!(text.is_ascii());
    assert!(text.lines().all(|l| l.len() <= 80), "{text}");
    insta::assert_snapshot!("text_80", text);
}

#[test]
fn what_is_not_known_is_a_dash_with_its_reason() {
    let nothing = |f: &mut MemoryFacts| {
        f.after = Err("/proc/net/sockstat: gone".into());
        f.system = Err("/proc/meminfo: gone".into());
        f.memcg = Err("no cgroup\x1b".into());
        f.slab = Err("/proc/slabinfo is shown to root alone: run it with sudo".into());
        f.rss = Some(Err("there is no process 11".into()));
        f.limits = Default::default();
    };
    let text = with(nothing, Some("not allowed"), |r, out| {
        write_text(r, &host(), &Look::default(), out)
    });
    assert!(!text.contains('\x1b'));
    insta::assert_snapshot!("text_unknown", text);
    let json = with(nothing, Some("not allowed"), |r, out| {
        write_json(r, &host(), out)
    });
    let document: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    for step in document["steps"].as_array().unwrap() {
        let name = step["name"].as_str().unwrap();
        if name != "all_sockets" {
            assert!(step["bytes"].is_null(), "{name}");
            assert!(document["unknown"][name].is_string(), "{name}");
        }
    }
    for name in [
        "sockstat",
        "meminfo",
        "fixed_cost",
        "rss",
        "target_sockets",
        "remainder_bytes",
    ] {
        assert!(document[name].is_null(), "{name}");
    }
}

#[test]
fn the_json_document() {
    let json = with(|_| {}, None, |r, out| write_json(r, &host(), out));
    let mut document: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(document["schema"], SCHEMA);
    assert_eq!(document["sockstat"]["tcp_mem_pages"], 99);
    assert_eq!(document["remainder_bytes"], (99 - 21) * 4096);
    assert_eq!(document["remainder_bound_bytes"], 512 * 4096);
    document["tool_version"] = "-".into();
    insta::assert_json_snapshot!("json", document);
}

#[test]
fn every_step_is_explained() {
    let text = explain();
    with(
        |_| {},
        None,
        |r, out| {
            for step in &r.statement.steps {
                assert!(text.contains(&format!("  {} ", step.name)), "{}", step.name);
            }
            out.clear();
            Ok(())
        },
    );
    insta::assert_snapshot!(text);
}
