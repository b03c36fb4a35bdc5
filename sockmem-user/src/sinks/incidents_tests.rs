//! What is said of limits and events, in text and in JSON.

use super::{fixture, incidents, json, look::Look};

fn look(ascii: bool) -> Look {
    Look {
        width: Some(110),
        ascii,
        color: false,
    }
}

fn text(view: &crate::model::View, ascii: bool) -> String {
    let mut out = String::new();
    incidents::limits(view, &look(ascii), &mut out);
    incidents::events(view, &look(ascii), &mut out);
    out
}

#[test]
fn limits_and_events_in_words() {
    insta::assert_snapshot!(text(&fixture::pressed(), true));
}

#[test]
fn nothing_is_said_where_nothing_happened() {
    assert_eq!(text(&fixture::empty(), false), "");
}

#[test]
fn foreign_names_steer_no_terminal() {
    let text = text(&fixture::pressed(), false);
    assert!(
        text.contains("ner (977)") && !text.contains('\x1b'),
        "{text}"
    );
}

#[test]
fn limits_and_events_in_json() {
    let line = json::report_line(&fixture::pressed(), &fixture::host());
    let json: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    let part = serde_json::json!({
        "limits": json["sockets"][0]["limits"],
        "event_counts": json["event_counts"],
        "events_lost": json["events_lost"],
        "kernel_counters": json["kernel_counters"],
        "events": json["events"],
    });
    insta::assert_snapshot!(serde_json::to_string_pretty(&part).expect("JSON"));
    let live = json::live_line(&fixture::pressed(), &fixture::host());
    let live: serde_json::Value = serde_json::from_str(&live).expect("JSON");
    assert!(live["events"].is_null() && live["event_counts"]["sysctl"] == 2);
}
