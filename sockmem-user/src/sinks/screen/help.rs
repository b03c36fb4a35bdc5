//! Texts over the table: help from the tables of keys and fields, and the whole answer.

use super::app::App;
use super::keys;
use crate::model::View;
use crate::sinks::columns;
use crate::sinks::header::sampled;
use crate::sinks::look::Look;
use crate::sinks::plain::Options;
use crate::sinks::{summary, text};

/// The help, line by line.
pub(super) fn lines(app: &App, width: usize) -> Vec<String> {
    let mut out = vec!["KEYS".to_owned()];
    let keys = keys::help();
    let widest = keys.iter().map(|(names, _)| names.len()).max().unwrap_or(0);
    let put = |out: &mut Vec<String>, words: &str| {
        let wrapped = text::wrap(words, width.saturating_sub(4).max(20), 2);
        out.extend(wrapped.lines().map(|line| format!("  {line}")));
    };
    for (names, help) in &keys {
        let line = format!("{names:<widest$}  ");
        let rest = text::wrap(help, width.saturating_sub(widest + 4).max(20), 0);
        for (i, part) in rest.lines().enumerate() {
            let before = if i == 0 {
                line.clone()
            } else {
                " ".repeat(widest + 2)
            };
            out.push(format!("  {before}{part}"));
        }
    }
    put(
        &mut out,
        "Mouse: the wheel moves, a click selects, a second one opens; a click on a title sorts by it.",
    );
    out.push(String::new());
    out.push("COLUMNS (bytes, by the kernel's field)".to_owned());
    for entry in columns::legend() {
        put(&mut out, &entry);
    }
    put(&mut out, "idle for: time since payload last moved");
    put(&mut out, "held idle: mean of RESIDENT while it was idle");
    put(
        &mut out,
        "Each timeline is drawn to its own peak. - is not known.",
    );
    out.push(String::new());
    out.push("HOW SURE".to_owned());
    if let Some(picture) = app.picture() {
        let names = sampled(&picture.view);
        let words = if names.is_empty() {
            "Every counter is exact: each change is observed.".to_owned()
        } else {
            format!("Read at intervals, marked ~: {}.", names.join(", "))
        };
        put(&mut out, &words);
    }
    put(
        &mut out,
        "host sockstat: TCP memory in /proc/net/sockstat, every socket of the host, in pages; off by what CPUs keep \
         in reserve.",
    );
    for note in app.notes() {
        let note = app.look().foreign(note).into_owned();
        put(&mut out, &format!("Not available on this kernel: {note}"));
    }
    out
}

/// The whole answer as it is printed at the end, line by line.
pub(super) fn answer(app: &App, view: &View, width: usize) -> Vec<String> {
    let options = Options {
        target: app.target().to_owned(),
        look: Look {
            width: Some(width),
            color: false,
            ..*app.look()
        },
        rows: Some(crate::sinks::plain::DEFAULT_ROWS),
    };
    let text = summary::render(view, &options);
    text.lines().map(str::to_owned).collect()
}
