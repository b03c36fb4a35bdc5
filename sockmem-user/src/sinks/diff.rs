//! Two recordings compared: whether the load was the same, then the answer, then the numbers.

use std::io::{self, Write};

use serde::Serialize;

use super::json::{self, Host};
use super::look::{Look, Style};
use super::report::{Cut, Recorded};
use super::summary::{heading, put};
use super::table::{self, Align, Cell, Column};
use super::{HostFacts, TOOL_VERSION, text};
use crate::model::View;
use crate::model::compare::{Answer, Comparison, Load, Matched, Metric, Sums, What};

/// Schema of the JSON document.
pub const SCHEMA: &str = "sockmem-trace/diff/1";

/// Rows of each list in text.
const ROWS: usize = 8;

/// One of the two recordings.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// Its picture at the end.
    pub view: &'a View,
    /// Where it was recorded.
    pub host: &'a HostFacts,
    /// Where it comes from.
    pub from: &'a Recorded,
}

/// The comparison in text.
#[must_use]
pub fn render(base: Side<'_>, new: Side<'_>, c: &Comparison, look: &Look) -> String {
    let mut out = String::new();
    let (word, style) = match c.load.matched {
        true => ("LOAD: the same", Style::Good),
        false => ("LOAD: NOT THE SAME", Style::Bad),
    };
    put(&mut out, &look.paint(style, word));
    put(
        &mut out,
        &look.prose(&sentence(&look.foreign(&c.load.why)), 0),
    );
    loads(&c.load, base, new, look, &mut out);
    put(&mut out, "");
    let answer = format!("ANSWER: {}", answer_words(c.outcome.answer));
    put(
        &mut out,
        &look.paint(answer_style(c.outcome.answer), &answer),
    );
    put(&mut out, &look.prose(&look.foreign(&c.outcome.text), 0));
    for (side, which) in [(base, "BASE"), (new, "NEW")] {
        if let Some(missing) = side.from.missing(look) {
            let line = format!("{which} IS TRUNCATED: {missing}.");
            put(&mut out, &look.paint(Style::Bad, &look.prose(&line, 0)));
        }
    }
    heading(look, "ALL SOCKETS", &mut out);
    out.push_str(&metrics(&c.metrics, look));
    for (rows, title) in [
        (&c.processes, "BY PROCESS"),
        (&c.listeners, "BY LISTENER"),
        (&c.classes, "BY KIND OF CONNECTION"),
    ] {
        matched(rows, title, look, &mut out);
    }
    if c.left_out > 0 {
        let more = text::counted(c.left_out, "row", "rows");
        let line = format!("{more} of those that held least not compared");
        put(&mut out, &look.paint(Style::Faint, &line));
    }
    heading(look, "HOW SURE", &mut out);
    for note in &c.notes {
        let line = format!("Mind: {}", sentence(&look.foreign(note)));
        put(&mut out, &look.prose(&line, 2));
    }
    put(
        &mut out,
        &look.prose(
            "Intervals hold the difference with 95 % confidence (bootstrap over blocks of time and \
             over connections, the wider of both). Changed: zero is outside, and it is at least a \
             page and 2 %, or what the load differs by. Not known: too little to judge chance by (a \
             median needs 10 connections, p90 50, p99 500). Method and its limits: docs/DIFF.md",
            0,
        ),
    );
    out
}

/// With a capital and a full stop.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_ascii_uppercase());
    let all: String = first.into_iter().chain(chars).collect();
    if all.ends_with('.') { all } else { all + "." }
}

fn answer_words(answer: Answer) -> &'static str {
    match answer {
        Answer::Reduced => "reduced",
        Answer::Increased => "increased",
        Answer::NoChange => "no change",
        Answer::NotComparable => "not comparable",
    }
}

fn answer_style(answer: Answer) -> Style {
    match answer {
        Answer::Reduced => Style::Good,
        Answer::Increased => Style::Bad,
        Answer::NoChange => Style::Plain,
        Answer::NotComparable => Style::Warn,
    }
}

fn column(title: &str, align: Align, rank: u8) -> Column {
    Column {
        title: title.to_owned(),
        band: "",
        apart: false,
        align,
        rank,
    }
}

fn loads(load: &Load, base: Side<'_>, new: Side<'_>, look: &Look, out: &mut String) {
    let columns = [
        column("", Align::Left, 0),
        column("connections", Align::Right, 0),
        column("payload", Align::Right, 0),
        column("duration", Align::Right, 0),
        column("began", Align::Left, 3),
        column("host", Align::Left, 2),
        column("recording", Align::Left, 1),
    ];
    let row = |which: &str, sums: &Sums, side: Side<'_>| -> Vec<Cell> {
        vec![
            which.to_owned().into(),
            text::count(sums.connections).into(),
            text::maybe_bytes(sums.payload_bytes).into(),
            text::span(sums.duration_ns).into(),
            text::moment(side.view.start_unix_ns).into(),
            format!(
                "{}, Linux {}",
                look.foreign(&side.host.hostname),
                look.foreign(&side.host.kernel)
            )
            .into(),
            look.foreign(&side.from.name).into_owned().into(),
        ]
    };
    let rows = [row("BASE", &load.base, base), row("NEW", &load.new, new)];
    out.push_str(&table::render(&columns, &rows, look).text);
}

/// A metric in a few words.
fn title(name: &str) -> &str {
    match name {
        "resident_peak_bytes" => "peak of all",
        "resident_mean_bytes" => "mean over time",
        "idle_resident_mean_bytes" => "held while idle",
        "connection_peak_p50_bytes" => "peak of a connection, median",
        "connection_peak_p90_bytes" => "peak of a connection, p90",
        "connection_peak_p99_bytes" => "peak of a connection, p99",
        "charged_bytes" => "charged in sum",
        other => other,
    }
}

fn ratio(m: &Metric) -> String {
    m.ratio
        .map_or_else(|| text::UNKNOWN.to_owned(), |r| format!("{r:.3}"))
}

fn interval(m: &Metric) -> String {
    m.interval_95.map_or_else(
        || text::UNKNOWN.to_owned(),
        |(lo, hi)| format!("{} to {}", text::delta_bytes(lo), text::delta_bytes(hi)),
    )
}

fn changed(m: &Metric) -> Cell {
    let (text, style) = match (m.changed, m.delta) {
        (true, Some(d)) if d < 0 => ("less", Style::Good),
        (true, _) => ("MORE", Style::Bad),
        (false, Some(_)) if m.interval_95.is_some() => ("no", Style::Plain),
        (false, _) => ("not known", Style::Faint),
    };
    Cell {
        text: text.to_owned(),
        style,
    }
}

fn values(m: &Metric) -> Vec<Cell> {
    vec![
        text::maybe_bytes(m.base).into(),
        text::maybe_bytes(m.new).into(),
        m.delta
            .map_or_else(|| text::UNKNOWN.to_owned(), text::delta_bytes)
            .into(),
        ratio(m).into(),
        interval(m).into(),
        changed(m),
    ]
}

fn metrics(all: &[Metric], look: &Look) -> String {
    let columns = [
        column("", Align::Left, 0),
        column("BASE", Align::Right, 0),
        column("NEW", Align::Right, 0),
        column("difference", Align::Right, 0),
        column("NEW / BASE", Align::Right, 2),
        column("95 % interval", Align::Right, 1),
        column("changed", Align::Left, 0),
    ];
    let rows: Vec<Vec<Cell>> = all
        .iter()
        .map(|m| {
            let mut row: Vec<Cell> = vec![title(m.name).to_owned().into()];
            row.extend(values(m));
            row
        })
        .collect();
    table::render(&columns, &rows, look).text
}

/// What a row is about; harmless.
fn name(what: &What, look: &Look) -> String {
    match what {
        What::Process {
            comm,
            command,
            count,
        } => {
            let comm = comm.as_deref().unwrap_or("process not known");
            let many = if count.0.max(count.1) > 1 {
                format!(" ({} and {})", count.0, count.1)
            } else {
                String::new()
            };
            match command {
                Some(command) => {
                    let command: String = command.chars().take(40).collect();
                    format!("{}{many}: {}", look.foreign(comm), look.foreign(&command))
                }
                None => format!("{}{many}", look.foreign(comm)),
            }
        }
        What::Listener { address } => look.foreign(address).into_owned(),
        What::Class(class) => {
            let remote = class
                .remote
                .map_or_else(|| "others".to_owned(), |ip| ip.to_string());
            match class.role.name() {
                "server" => format!("server on port {}, peer {remote}", class.port),
                _ => format!("client of {remote} port {}", class.port),
            }
        }
    }
}

fn matched(rows: &[Matched], title: &str, look: &Look, out: &mut String) {
    if rows.is_empty() {
        return;
    }
    heading(look, title, out);
    let columns = [
        column("", Align::Left, 0),
        column("sockets", Align::Right, 2),
        column("", Align::Left, 0),
        column("BASE", Align::Right, 0),
        column("NEW", Align::Right, 0),
        column("difference", Align::Right, 0),
        column("NEW / BASE", Align::Right, 5),
        column("95 % interval", Align::Right, 4),
        column("changed", Align::Left, 1),
    ];
    let mut cells = Vec::new();
    for row in rows.iter().take(ROWS) {
        // The first that both know; a row of its own says which one that is.
        let known = |m: &&Metric| m.base.is_some() || m.new.is_some();
        for (at, m) in row.metrics.iter().take(3).filter(known).enumerate() {
            let first = at == 0;
            let sides = |n: Option<u64>| n.map_or_else(|| text::UNKNOWN.to_owned(), text::count);
            let mut line: Vec<Cell> = vec![
                if first {
                    name(&row.what, look)
                } else {
                    String::new()
                }
                .into(),
                if first {
                    format!("{} / {}", sides(row.sockets.0), sides(row.sockets.1))
                } else {
                    String::new()
                }
                .into(),
                self::title(m.name).to_owned().into(),
            ];
            line.extend(values(m));
            cells.push(line);
        }
    }
    out.push_str(&table::render(&columns, &cells, look).text);
    if let Some(rest) = rows.len().checked_sub(ROWS).filter(|n| *n > 0) {
        let more = text::counted(rest as u64, "more row", "more rows");
        let line = format!("{more}; --format json has all");
        put(out, &look.paint(Style::Faint, &line));
    }
}

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    host: Host<'a>,
    tool_version: &'static str,
    base: SideJson<'a>,
    new: SideJson<'a>,
    load: LoadJson<'a>,
    metrics: Vec<MetricJson>,
    by_process: Vec<MatchedJson<'a>>,
    by_listener: Vec<MatchedJson<'a>>,
    by_class: Vec<MatchedJson<'a>>,
    left_out: u64,
    notes: &'a [String],
    verdict: VerdictJson<'a>,
}

#[derive(Serialize)]
struct SideJson<'a> {
    recording: &'a str,
    host: Host<'a>,
    start_unix_ns: u64,
    tier: &'static str,
    complete: bool,
    cut: Option<&'a Cut>,
    #[serde(flatten)]
    load: SumsJson,
}

#[derive(Serialize)]
struct SumsJson {
    connections: u64,
    payload_bytes: Option<u64>,
    duration_ns: u64,
}

#[derive(Serialize)]
struct LoadJson<'a> {
    matched: bool,
    why: &'a str,
    largest_difference: f64,
}

#[derive(Serialize)]
struct MetricJson {
    name: &'static str,
    base: Option<u64>,
    new: Option<u64>,
    delta: Option<i64>,
    ratio: Option<f64>,
    interval_95: Option<[i64; 2]>,
    changed: bool,
}

#[derive(Serialize)]
struct MatchedJson<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    comm: Option<Option<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<Option<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    processes: Option<[u64; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    listener: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remote: Option<Option<String>>,
    sockets: [Option<u64>; 2],
    metrics: Vec<MetricJson>,
}

#[derive(Serialize)]
struct VerdictJson<'a> {
    answer: &'static str,
    text: &'a str,
}

fn metric_json(m: &Metric) -> MetricJson {
    MetricJson {
        name: m.name,
        base: m.base,
        new: m.new,
        delta: m.delta,
        ratio: m.ratio,
        interval_95: m.interval_95.map(|(lo, hi)| [lo, hi]),
        changed: m.changed,
    }
}

fn matched_json(row: &Matched) -> MatchedJson<'_> {
    let mut out = MatchedJson {
        comm: None,
        command: None,
        processes: None,
        listener: None,
        role: None,
        port: None,
        remote: None,
        sockets: [row.sockets.0, row.sockets.1],
        metrics: row.metrics.iter().map(metric_json).collect(),
    };
    match &row.what {
        What::Process {
            comm,
            command,
            count,
        } => {
            out.comm = Some(comm.as_deref());
            out.command = Some(command.as_deref());
            out.processes = Some([count.0, count.1]);
        }
        What::Listener { address } => out.listener = Some(address),
        What::Class(class) => {
            out.role = Some(class.role.name());
            out.port = Some(class.port);
            out.remote = Some(class.remote.map(|ip| ip.to_string()));
        }
    }
    out
}

fn side_json<'a>(side: Side<'a>, sums: &Sums) -> SideJson<'a> {
    SideJson {
        recording: &side.from.name,
        host: Host::from(side.host),
        start_unix_ns: side.view.start_unix_ns,
        tier: side.view.tier.name(),
        complete: side.from.cut.is_none(),
        cut: side.from.cut.as_ref(),
        load: SumsJson {
            connections: sums.connections,
            payload_bytes: sums.payload_bytes,
            duration_ns: sums.duration_ns,
        },
    }
}

/// The comparison in JSON: one object, a newline.
///
/// # Errors
/// Those of `out`.
pub fn write_json(
    base: Side<'_>,
    new: Side<'_>,
    c: &Comparison,
    out: &mut impl Write,
) -> io::Result<()> {
    json::write_line(
        &Document {
            schema: SCHEMA,
            host: Host::from(new.host),
            tool_version: TOOL_VERSION,
            base: side_json(base, &c.load.base),
            new: side_json(new, &c.load.new),
            load: LoadJson {
                matched: c.load.matched,
                why: &c.load.why,
                largest_difference: c.load.apart,
            },
            metrics: c.metrics.iter().map(metric_json).collect(),
            by_process: c.processes.iter().map(matched_json).collect(),
            by_listener: c.listeners.iter().map(matched_json).collect(),
            by_class: c.classes.iter().map(matched_json).collect(),
            left_out: c.left_out,
            notes: &c.notes,
            verdict: VerdictJson {
                answer: c.outcome.answer.name(),
                text: &c.outcome.text,
            },
        },
        out,
    )
}

#[cfg(test)]
mod tests;
