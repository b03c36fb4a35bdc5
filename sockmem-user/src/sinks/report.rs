//! The report of a recording: the answer first, then everything that it rests on.

use std::cmp::Reverse;
use std::io::{self, Write};

use serde::Serialize;

use super::header::is_sampled;
use super::look::{Look, Style};
use super::plain::Options;
use super::spark::{self, Axis};
use super::summary::{self, heading, put};
use super::{HostFacts, columns, histogram, incidents, json, listeners, text};
use crate::model::{SocketView, View};
use crate::recording::{Ending, Header, Summary};

/// Sockets in each ranking.
const TOP: usize = 10;
/// Cells of the whole trace's timeline.
const CELLS: usize = 72;
/// A rise of less than a page is none.
const GREW_LEAST: u64 = 4096;

/// Where a report's numbers come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// The file's name, or `-`; unescaped.
    pub name: String,
    /// The command that was run and traced, its arguments joined by blanks; unescaped.
    pub command: Option<String>,
    /// Records of the ring in it.
    pub events: u64,
    /// Its size, as far as it could be read.
    pub bytes: u64,
    /// Why its end is missing; `None`: it was closed and nothing is.
    pub cut: Option<Cut>,
    /// At most one change per socket in this span was recorded; 0: every change.
    pub coalesce_ns: u64,
    /// What the traced kernel lacked; unescaped.
    pub notes: Vec<String>,
}

/// The end of a recording that was not closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cut {
    /// What was found instead of an end; unescaped.
    pub why: String,
    /// What came later than this into the trace is missing. ns.
    pub known_ns: u64,
}

impl Recorded {
    /// Of a recording that was read to its end.
    #[must_use]
    pub fn new(name: String, header: &Header, summary: &Summary) -> Recorded {
        Recorded {
            name,
            command: header.command.as_ref().map(|c| c.join(" ")),
            events: summary.counts.events,
            bytes: summary.counts.bytes,
            cut: match &summary.ending {
                Ending::Clean { .. } => None,
                Ending::Truncated {
                    why, lost_after_ns, ..
                } => Some(Cut {
                    why: why.clone(),
                    known_ns: lost_after_ns.saturating_sub(header.start_mono_ns),
                }),
            },
            coalesce_ns: header.coalesce_ns,
            notes: header.notes.clone(),
        }
    }

    /// What is missing, in a sentence; `None` where nothing is. Harmless.
    #[must_use]
    pub fn missing(&self, look: &Look) -> Option<String> {
        let cut = self.cut.as_ref()?;
        Some(format!(
            "the recording is truncated ({}): whatever happened later than {} into the trace is \
             missing",
            look.foreign(&cut.why),
            text::span(cut.known_ns)
        ))
    }
}

/// The report in text.
#[must_use]
pub fn render(view: &View, host: &HostFacts, from: &Recorded, options: &Options) -> String {
    let look = &options.look;
    let mut out = String::new();
    summary::answer(view, options, &mut out);
    if let Some(missing) = from.missing(look) {
        let line = format!("Mind: {missing}.");
        put(&mut out, &look.paint(Style::Bad, &look.prose(&line, 0)));
    }
    source(view, host, from, look, &mut out);
    over_time(view, look, &mut out);
    summary::owners(view, options, &mut out);
    if let Some(table) = listeners::table(view, look) {
        heading(look, "BY LISTENER, accepted connections", &mut out);
        out.push_str(&table);
    }
    peaks(view, look, &mut out);
    summary::idle_sockets(view, look, &mut out);
    growth(view, look, &mut out);
    buffers(view, look, &mut out);
    incidents::limits(view, look, &mut out);
    incidents::events(view, look, &mut out);
    summary::evidence(view, look, &mut out);
    ended(from, look, &mut out);
    out
}

/// Where and when it was recorded.
fn source(view: &View, host: &HostFacts, from: &Recorded, look: &Look, out: &mut String) {
    let plain = |text: String| (Style::Plain, text);
    let mut facts = vec![
        plain(format!("recording {}", look.foreign(&from.name))),
        plain(format!("began {}", text::moment(view.start_unix_ns))),
        plain(format!(
            "on {}, Linux {}",
            look.foreign(&host.hostname),
            look.foreign(&host.kernel)
        )),
    ];
    if let Some(command) = &from.command {
        facts.push(plain(format!("of the command {}", look.foreign(command))));
    }
    facts.push(plain(format!(
        "{}, {}",
        text::counted(from.events, "event", "events"),
        text::bytes(from.bytes)
    )));
    put(out, &look.facts(&facts));
}

/// All sockets together over time.
fn over_time(view: &View, look: &Look, out: &mut String) {
    if view.timeline.is_empty() {
        return;
    }
    let mark = if is_sampled(view, "resident") {
        "~"
    } else {
        ""
    };
    let title = format!("RESIDENT{mark} OVER TIME, all sockets, highest of each moment");
    heading(look, &title, out);
    let cells = look.width.map_or(CELLS, |w| CELLS.min(w.max(2) - 1));
    let axis = Axis::of(&view.timeline, view.duration_ns);
    put(
        out,
        &spark::line(&view.timeline, axis, axis.to, cells, look.ascii),
    );
    let end = text::span(view.duration_ns);
    let peak = format!("0s, top {}", text::bytes(view.resident_peak_bytes));
    let gap = cells.saturating_sub(peak.len() + end.len()).max(1);
    put(
        out,
        &look.paint(Style::Faint, &format!("{peak}{}{end}", " ".repeat(gap))),
    );
}

fn all(view: &View) -> impl Iterator<Item = &SocketView> {
    view.sockets.iter().chain(&view.closed)
}

fn peaks(view: &View, look: &Look, out: &mut String) {
    let mut top: Vec<&SocketView> = all(view).filter(|s| s.resident_peak_bytes > 0).collect();
    if top.is_empty() {
        return;
    }
    heading(look, "SOCKETS THAT HELD MOST AT ONCE", out);
    top.sort_by_key(|s| (Reverse(s.resident_peak_bytes), s.id));
    top.truncate(TOP);
    out.push_str(&columns::peak(view, &top, look).text);
}

fn growth(view: &View, look: &Look, out: &mut String) {
    let grew = |s: &SocketView| columns::grew(s).unwrap_or(0);
    let mut top: Vec<&SocketView> = all(view).filter(|s| grew(s) >= GREW_LEAST).collect();
    if top.is_empty() {
        return;
    }
    heading(look, "SOCKETS THAT GREW MOST (by their lows)", out);
    top.sort_by_key(|s| (Reverse(grew(s)), s.id));
    top.truncate(TOP);
    out.push_str(&columns::growth(view, &top, look).text);
}

fn buffers(view: &View, look: &Look, out: &mut String) {
    summary::truesize(view, look, out);
    if !view.truesize_ranges.is_empty() {
        let bars = histogram::bars(&view.truesize_ranges, "truesize from", text::bytes, look);
        out.push_str(&bars);
    }
    if !view.drain_ranges.is_empty() {
        out.push_str(&histogram::bars(
            &view.drain_ranges,
            "empty again after",
            text::span,
            look,
        ));
    }
}

/// How the recording ended, and what it does not hold.
fn ended(from: &Recorded, look: &Look, out: &mut String) {
    let how = match from.missing(look) {
        None => "The recording was closed: it is complete.".to_owned(),
        Some(_) => {
            "The recording was not closed. Everything up to its cut is as recorded.".to_owned()
        }
    };
    put(out, &look.prose(&how, 0));
    if from.coalesce_ns > 0 {
        let line = format!(
            "At most one change per socket in {} was recorded, with the highest and the lowest in \
             between: totals, peaks and means of each socket are exact, the peak of sums may be \
             missed by what came and went within that time (record --exact has every change).",
            text::span(from.coalesce_ns)
        );
        put(out, &look.prose(&line, 0));
    }
    for note in &from.notes {
        let line = format!("Not available on that kernel: {}", look.foreign(note));
        put(out, &look.prose(&line, 0));
    }
}

/// The report as JSON: what a live trace prints last. A recording that was cut says so in a
/// member `recording`; one that is complete gives the live trace's own document, to the byte.
///
/// # Errors
/// Those of `out`.
pub fn write_json(
    view: &View,
    host: &HostFacts,
    from: &Recorded,
    out: &mut impl Write,
) -> io::Result<()> {
    let Some(cut) = &from.cut else {
        return json::write_report(view, host, out);
    };
    #[derive(Serialize)]
    struct Member<'a> {
        ending: &'static str,
        why: &'a str,
        known_ns: u64,
    }
    let member = json::line(|out| {
        json::write_line(
            &Member {
                ending: "truncated",
                why: &cut.why,
                known_ns: cut.known_ns,
            },
            out,
        )
    });
    let line = json::report_line(view, host);
    let body = line.strip_suffix('}').unwrap_or(&line);
    writeln!(out, "{body},\"recording\":{member}}}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::fixture;
    use crate::sinks::plain::DEFAULT_ROWS;

    fn options(width: usize, ascii: bool) -> Options {
        Options {
            target: "pid 4242".to_owned(),
            look: Look {
                width: Some(width),
                ascii,
                color: false,
            },
            rows: Some(DEFAULT_ROWS),
        }
    }

    fn recorded() -> Recorded {
        Recorded {
            name: "load.skm".to_owned(),
            command: Some("nginx -g 'daemon off;'".to_owned()),
            events: 12_345,
            bytes: 48_200,
            cut: None,
            coalesce_ns: 100_000_000,
            notes: vec![],
        }
    }

    fn truncated() -> Recorded {
        Recorded {
            cut: Some(Cut {
                why: "a frame is \x1b[31mshorter than it says".to_owned(),
                known_ns: 9_300_000_000,
            }),
            notes: vec!["optmem: no hook sees it".to_owned()],
            ..recorded()
        }
    }

    #[test]
    fn typical() {
        let mut view = fixture::three_groups();
        let mut listener = fixture::socket(0);
        listener.state = "LISTEN";
        listener.local = "0.0.0.0:443".to_owned();
        listener.remote = "0.0.0.0:*".to_owned();
        listener.id = 99;
        listener.resident = 0;
        listener.resident_peak_bytes = 0;
        view.sockets.push(listener);
        insta::assert_snapshot!(render(
            &view,
            &fixture::host(),
            &recorded(),
            &options(120, false)
        ));
    }

    #[test]
    fn truncated_80_ascii() {
        let text = render(
            &fixture::three_groups(),
            &fixture::host(),
            &truncated(),
            &options(80, true),
        );
        assert!(text.is_ascii());
        insta::assert_snapshot!(text);
    }

    #[test]
    fn lossy() {
        insta::assert_snapshot!(render(
            &fixture::lossy(),
            &fixture::host(),
            &recorded(),
            &options(120, false)
        ));
    }

    #[test]
    fn nothing_seen() {
        insta::assert_snapshot!(render(
            &fixture::empty(),
            &fixture::host(),
            &recorded(),
            &options(100, false)
        ));
    }

    #[test]
    fn strings_of_a_recording_cannot_steer_the_terminal() {
        let evil = "\x1b[2J\u{202e}\n<script>";
        let from = Recorded {
            name: evil.to_owned(),
            command: Some(evil.to_owned()),
            notes: vec![evil.to_owned()],
            cut: Some(Cut {
                why: evil.to_owned(),
                known_ns: 1,
            }),
            ..recorded()
        };
        let host = HostFacts {
            hostname: evil.to_owned(),
            kernel: evil.to_owned(),
            ..fixture::host()
        };
        let text = render(&fixture::weird_names(), &host, &from, &options(120, false));
        let harmless = |c| crate::sinks::escape::harmless(c) || c == '\n' || c == '\\';
        assert!(text.chars().all(harmless), "{text}");
        let mut out = Vec::new();
        write_json(&fixture::weird_names(), &host, &from, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.trim_end().chars().all(harmless), "{text}");
        let doc: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(doc["recording"]["why"], evil);
    }

    #[test]
    fn a_complete_recording_gives_the_live_document_to_the_byte() {
        let mut out = Vec::new();
        let (view, host) = (fixture::three_groups(), fixture::host());
        write_json(&view, &host, &recorded(), &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap().trim_end(),
            json::report_line(&view, &host)
        );
        let mut out = Vec::new();
        write_json(&view, &host, &truncated(), &mut out).unwrap();
        let doc: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(doc["schema"], json::REPORT_SCHEMA);
        assert_eq!(doc["recording"]["ending"], "truncated");
        assert_eq!(doc["recording"]["known_ns"], 9_300_000_000u64);
    }
}
