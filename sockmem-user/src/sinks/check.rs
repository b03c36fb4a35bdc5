//! A recording held against limits: which hold, which do not, and which sockets are behind that.

use std::io::{self, Write};

use serde::Serialize;

use super::json::{self, Host, Row, Socket};
use super::look::{Look, Style};
use super::report::{Cut, Recorded};
use super::summary::put;
use super::table::{self, Align, Cell, Column};
use super::{HostFacts, TOOL_VERSION, columns, groups, text};
use crate::model::check::{Amount, Judged};
use crate::model::{SocketView, View};

/// Schema of the JSON document.
pub const SCHEMA: &str = "sockmem-trace/check/1";

/// What was checked, for every output.
#[derive(Clone, Copy, Debug)]
pub struct Checked<'a> {
    /// The recording's picture at the end.
    pub view: &'a View,
    /// Where it was recorded.
    pub host: &'a HostFacts,
    /// Where it comes from.
    pub from: &'a Recorded,
    /// The baseline's name, where there is one; unescaped.
    pub baseline: Option<&'a str>,
    /// The limits.
    pub judged: &'a [Judged],
}

impl Checked<'_> {
    /// Whether every limit holds.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.judged.iter().all(|j| j.ok)
    }
}

/// An amount as text.
#[must_use]
pub fn amount(a: Amount) -> String {
    match a {
        // With the exact number: a check that fails by a byte must not read as equal.
        Amount::Bytes(n) if n < 10 * 1024 => text::bytes(n),
        Amount::Bytes(n) => format!("{} ({} B)", text::bytes(n), n),
        Amount::Share(s) => format!("{:.2} %", s * 100.0),
    }
}

/// What is wrong with a limit, in a line; harmless, without the sockets.
#[must_use]
pub fn failure(j: &Judged, look: &Look) -> String {
    let note = j
        .note
        .as_ref()
        .map_or_else(String::new, |note| format!(": {}", look.foreign(note)));
    match j.actual {
        None => format!("{} is not known{note}", j.what),
        Some(actual) => format!(
            "{} is {}, the limit is {}{note}",
            j.what,
            amount(actual),
            amount(j.limit)
        ),
    }
}

/// A socket behind a limit, in a line; harmless.
#[must_use]
pub fn socket(s: &crate::model::SocketView, look: &Look) -> String {
    let arrow = if look.ascii { "->" } else { "→" };
    format!(
        "{} {arrow} {} {} of {}: peak {}, held idle {} (at most {}), mean {}",
        look.foreign(&s.local),
        look.foreign(&s.remote),
        if s.closed { "(gone)" } else { s.state },
        groups::who(&s.owner, look),
        text::bytes(s.resident_peak_bytes),
        text::maybe_bytes(s.idle_resident_mean_bytes),
        text::maybe_bytes(s.idle_resident_max_bytes),
        text::maybe_bytes(s.resident_mean_bytes),
    )
}

/// The result in text.
#[must_use]
pub fn render(it: Checked<'_>, look: &Look) -> String {
    let mut out = String::new();
    let failed = it.judged.iter().filter(|j| !j.ok).count();
    let (line, style) = if failed == 0 {
        let all = text::counted(it.judged.len() as u64, "limit holds", "limits hold");
        (format!("PASSED: {all}"), Style::Good)
    } else {
        let of = text::counted(it.judged.len() as u64, "limit", "limits");
        (format!("FAILED: {failed} of {of} exceeded"), Style::Bad)
    };
    put(&mut out, &look.paint(style, &line));
    if let Some(missing) = it.from.missing(look) {
        let line = format!("Mind: {missing}. The limits are held against the rest.");
        put(&mut out, &look.paint(Style::Bad, &look.prose(&line, 0)));
    }
    let column = |title: &str, align, rank| Column {
        title: title.to_owned(),
        band: "",
        apart: false,
        align,
        rank,
    };
    let columns = [
        column("", Align::Left, 0),
        column("limit", Align::Left, 0),
        column("at most", Align::Right, 0),
        column("is", Align::Right, 0),
        column("what", Align::Left, 1),
    ];
    let rows: Vec<Vec<Cell>> = it
        .judged
        .iter()
        .map(|j| {
            let (word, style) = if j.ok {
                ("pass", Style::Good)
            } else {
                ("FAIL", Style::Bad)
            };
            vec![
                Cell {
                    text: word.to_owned(),
                    style,
                },
                j.name.to_owned().into(),
                amount(j.limit).into(),
                j.actual
                    .map_or_else(|| text::UNKNOWN.to_owned(), amount)
                    .into(),
                j.what.clone().into(),
            ]
        })
        .collect();
    out.push_str(&table::render(&columns, &rows, look).text);
    for j in it.judged {
        if j.ok {
            if let Some(note) = &j.note {
                let line = format!("{}: {}", j.name, look.foreign(note));
                put(&mut out, &look.prose(&line, 2));
            }
            continue;
        }
        put(&mut out, "");
        let line = format!("{}: {}", j.name, failure(j, look));
        put(&mut out, &look.paint(Style::Bad, &look.prose(&line, 2)));
        if !j.sockets.is_empty() {
            let sockets: Vec<_> = j.sockets.iter().collect();
            put(&mut out, "behind it:");
            out.push_str(&columns::behind(it.view, &sockets, look).text);
        }
    }
    out
}

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    host: Host<'a>,
    tool_version: &'static str,
    recording: &'a str,
    complete: bool,
    cut: Option<&'a Cut>,
    baseline: Option<&'a str>,
    ok: bool,
    limits: Vec<LimitJson<'a>>,
}

#[derive(Serialize)]
struct LimitJson<'a> {
    name: &'static str,
    what: &'a str,
    unit: &'static str,
    limit: Number,
    actual: Option<Number>,
    ok: bool,
    note: Option<&'a str>,
    sockets: Vec<Socket<'a, &'a SocketView>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Number {
    Bytes(u64),
    Share(f64),
}

impl From<Amount> for Number {
    fn from(a: Amount) -> Number {
        match a {
            Amount::Bytes(n) => Number::Bytes(n),
            Amount::Share(s) => Number::Share(s),
        }
    }
}

/// The result in JSON: one object, a newline.
///
/// # Errors
/// Those of `out`.
pub fn write_json(it: Checked<'_>, out: &mut impl Write) -> io::Result<()> {
    let limits = it.judged.iter().map(|j| LimitJson {
        name: j.name,
        what: &j.what,
        unit: match j.limit {
            Amount::Bytes(_) => "bytes",
            Amount::Share(_) => "share",
        },
        limit: j.limit.into(),
        actual: j.actual.map(Number::from),
        ok: j.ok,
        note: j.note.as_deref(),
        sockets: j.sockets.iter().map(|s| Socket(Row::Closed(s))).collect(),
    });
    json::write_line(
        &Document {
            schema: SCHEMA,
            host: Host::from(it.host),
            tool_version: TOOL_VERSION,
            recording: &it.from.name,
            complete: it.from.cut.is_none(),
            cut: it.from.cut.as_ref(),
            baseline: it.baseline,
            ok: it.ok(),
            limits: limits.collect(),
        },
        out,
    )
}

#[cfg(test)]
pub(super) mod tests;
