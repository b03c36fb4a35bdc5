//! A snapshot as a table. There may be tens of thousands of rows, so cells are not strings of their
//! own: all lie in one, and are padded when they are written.

use std::io::{self, BufWriter, Write};

use super::Report;
use super::values::{Get, column};
use crate::facts::socket::Protocol;
use crate::model::OwnerKind;
use crate::model::snapshot::{By, Entry, Group, Sums};
use crate::sinks::HostFacts;
use crate::sinks::escape::{self, escape};
use crate::sinks::fields::{Kind, Value};
use crate::sinks::look::{Look, Style};
use crate::sinks::table::{self, Align, Cell, Column};
use crate::sinks::text;

/// What a column shows.
#[derive(Clone, Copy)]
enum Show {
    /// A field by its JSON name.
    Field(&'static str),
    /// Its owner.
    Who,
}

/// A column, and its rank: a table too wide has the columns of rank 0, then rank by rank those that fit.
const COLUMNS: &[(Show, u8)] = &[
    (Show::Field("protocol"), 6),
    (Show::Field("state"), 2),
    (Show::Field("local"), 1),
    (Show::Field("remote"), 1),
    (Show::Who, 0),
    (Show::Field("resident"), 0),
    (Show::Field("rmem_alloc"), 3),
    (Show::Field("wmem_queued"), 3),
    (Show::Field("forward_alloc"), 4),
    (Show::Field("wmem_alloc"), 8),
    (Show::Field("optmem"), 9),
    (Show::Field("backlog"), 9),
    (Show::Field("drops"), 10),
    (Show::Field("unread_bytes"), 5),
    (Show::Field("unacked_bytes"), 5),
    (Show::Field("rcvbuf"), 7),
    (Show::Field("sndbuf"), 7),
];

/// A column's title: of a limit that it is one.
fn title(show: Show) -> String {
    match show {
        Show::Who => "owner".to_owned(),
        Show::Field(json) => {
            let field = column(json).0;
            if field.kind == Kind::Limit {
                format!("({})", field.title)
            } else {
                field.title.to_owned()
            }
        }
    }
}

fn is_text(show: Show) -> bool {
    matches!(
        show,
        Show::Who | Show::Field("protocol" | "state" | "local" | "remote")
    )
}

/// Writes the table, the sums, and what is missing.
///
/// # Errors
/// Those of `out`.
pub fn write_text(
    report: &Report<'_>,
    host: &HostFacts,
    look: &Look,
    out: &mut impl Write,
) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(64 * 1024, out);
    let t = &report.snapshot.totals;
    let took = u64::try_from(report.took().as_nanos()).unwrap_or(u64::MAX);
    let facts = [
        (Style::Strong, "sockmem-trace snapshot".to_owned()),
        (Style::Plain, look.foreign(&report.target).into_owned()),
        (Style::Plain, text::counted(t.sockets, "socket", "sockets")),
        (
            Style::Plain,
            format!("Linux {}", look.foreign(&host.kernel)),
        ),
        (
            Style::Faint,
            text::moment(report.snapshot.inventory().taken_unix_ns.0),
        ),
        (Style::Faint, format!("read in {}", text::span(took))),
    ];
    writeln!(out, "{}\n", look.facts(&facts))?;
    match &report.groups {
        Some((by, groups)) => out.write_all(group_table(report, *by, groups, look).as_bytes())?,
        None => sockets(report, look, &mut out)?,
    }
    writeln!(out)?;
    let tcp_only = (report.snapshot.entries()).all(|e| e.protocol() == Protocol::Tcp);
    for line in totals(t, tcp_only) {
        writeln!(out, "{}", look.prose(&line, 2))?;
    }
    for line in report.missing() {
        let line = format!("not complete: {}", look.foreign(&line));
        writeln!(out, "{}", look.paint(Style::Warn, &look.prose(&line, 2)))?;
    }
    out.flush()
}

/// Cells of a table, row by row, in one string.
struct Cells {
    text: String,
    ends: Vec<u32>,
    /// Widest cell of each column.
    widths: Vec<usize>,
    columns: usize,
}

impl Cells {
    fn new(columns: usize, rows: usize) -> Self {
        Cells {
            text: String::with_capacity(rows * columns * 8),
            ends: Vec::with_capacity(rows * columns),
            widths: vec![0; columns],
            columns,
        }
    }

    /// The cell that was written ends here.
    fn end(&mut self) {
        let from = self.ends.last().map_or(0, |end| *end as usize);
        let column = self.ends.len() % self.columns;
        let w = width(&self.text[from..]);
        self.widths[column] = self.widths[column].max(w);
        // 4 GiB of cells are some ten million sockets; what is beyond is cut, not wrapped.
        self.ends
            .push(u32::try_from(self.text.len()).unwrap_or(u32::MAX));
    }

    fn row(&self, row: usize) -> impl Iterator<Item = &str> {
        let first = row * self.columns;
        (first..first + self.columns).map(|i| {
            let from = i.checked_sub(1).map_or(0, |i| self.ends[i] as usize);
            &self.text[from..self.ends[i] as usize]
        })
    }

    fn rows(&self) -> usize {
        self.ends.len() / self.columns
    }
}

/// Columns of the terminal; nearly every cell is ASCII.
fn width(text: &str) -> usize {
    if text.is_ascii() {
        text.len()
    } else {
        escape::width(text)
    }
}

fn sockets(report: &Report<'_>, look: &Look, out: &mut impl Write) -> io::Result<()> {
    let all = report.snapshot.entries();
    let shown = report.shown(all.len());
    let mut cells = Cells::new(COLUMNS.len(), shown + 1);
    for (show, _) in COLUMNS {
        cells.text.push_str(&title(*show));
        cells.end();
    }
    let getters: Vec<(Show, Option<Get>)> = COLUMNS
        .iter()
        .map(|(show, _)| match show {
            Show::Field(json) => (*show, Some(column(json).1)),
            Show::Who => (*show, None),
        })
        .collect();
    let mut scratch = String::new();
    for entry in all.take(shown) {
        for (_, get) in &getters {
            match get {
                None => push_who(&entry, look, &mut cells.text),
                Some(Get::Plain(get)) => push_value(get(&entry), look, &mut cells.text),
                Some(Get::Written(write)) => {
                    scratch.clear();
                    if write(&entry, &mut scratch) {
                        cells.text.push_str(&escape(&scratch, look.ascii));
                    } else {
                        cells.text.push_str(text::UNKNOWN);
                    }
                }
            }
            cells.end();
        }
    }
    let kept = fitting(&cells.widths, look.width);
    let mut line = String::new();
    for row in 0..cells.rows() {
        line.clear();
        let last = kept.iter().rposition(|kept| *kept);
        for (i, cell) in cells.row(row).enumerate() {
            if !kept[i] {
                continue;
            }
            if !line.is_empty() {
                line.push_str("  ");
            }
            let pad = cells.widths[i] - width(cell);
            if is_text(COLUMNS[i].0) {
                line.push_str(cell);
                if Some(i) != last {
                    push_blanks(&mut line, pad);
                }
            } else {
                push_blanks(&mut line, pad);
                line.push_str(cell);
            }
        }
        let trimmed = line.trim_end();
        if row == 0 {
            out.write_all(look.paint(Style::Faint, trimmed).as_bytes())?;
        } else {
            out.write_all(trimmed.as_bytes())?;
        }
        out.write_all(b"\n")?;
    }
    let dropped: Vec<String> = (0..COLUMNS.len())
        .filter(|i| !kept[*i])
        .map(|i| title(COLUMNS[i].0))
        .collect();
    if shown < report.snapshot.entries().len() {
        let rest = report.snapshot.entries().len() - shown;
        writeln!(out, "and {} more", text::count(rest as u64))?;
    }
    if !dropped.is_empty() {
        let words = format!("not shown, for want of width: {}", dropped.join(", "));
        writeln!(out, "{}", look.paint(Style::Faint, &look.prose(&words, 2)))?;
    }
    Ok(())
}

fn push_blanks(out: &mut String, mut n: usize) {
    const BLANKS: &str = "                                ";
    while n > 0 {
        let some = n.min(BLANKS.len());
        out.push_str(&BLANKS[..some]);
        n -= some;
    }
}

/// Which columns fit: rank 0 in any case, then rank by rank, all of one rank or none.
fn fitting(widths: &[usize], limit: Option<usize>) -> Vec<bool> {
    let Some(limit) = limit else {
        return vec![true; widths.len()];
    };
    let mut ranks: Vec<u8> = COLUMNS.iter().map(|(_, rank)| *rank).collect();
    ranks.sort_unstable();
    ranks.dedup();
    let mut kept = vec![false; widths.len()];
    for rank in ranks {
        let mut more = kept.clone();
        for (i, (_, r)) in COLUMNS.iter().enumerate() {
            more[i] |= *r == rank;
        }
        let total: usize = (0..widths.len())
            .filter(|i| more[*i])
            .map(|i| widths[i] + 2)
            .sum();
        if rank == 0 || total <= limit + 2 {
            kept = more;
        }
    }
    kept
}

fn push_value(value: Value<'_>, look: &Look, out: &mut String) {
    match value {
        Value::Bytes(n) => text::push_bytes(out, n),
        // Most of all cells.
        Value::SignedBytes(0) => out.push_str("0 B"),
        Value::SignedBytes(n) => out.push_str(&text::signed_bytes(n)),
        Value::Count(0) => out.push('0'),
        Value::Count(n) => out.push_str(&text::count(n)),
        Value::Text(t) => out.push_str(&look.foreign(t)),
        Value::Unknown => out.push_str(text::UNKNOWN),
        // A snapshot has none of these.
        Value::Ns(_) | Value::Rate(_) | Value::Flag(_) => out.push_str(text::UNKNOWN),
    }
}

/// `nginx[4242]`, harmless; how many descriptors refer to it, where there is more than one.
fn push_who(e: &Entry<'_>, look: &Look, out: &mut String) {
    match (e.process().and_then(|p| p.comm.as_deref()), e.pid()) {
        (Some(comm), Some(pid)) => {
            out.push_str(&look.foreign(comm));
            out.push('[');
            text::push_number(out, u64::from(pid));
            out.push(']');
        }
        (_, Some(pid)) => {
            out.push_str("pid ");
            text::push_number(out, u64::from(pid));
        }
        (_, None) => out.push_str(text::UNKNOWN),
    }
    match e.kind() {
        OwnerKind::Listener => out.push_str(" unaccepted"),
        OwnerKind::Orphan => out.push_str(" orphan"),
        OwnerKind::Process | OwnerKind::Unknown => {}
    }
    let holders = e.holders().len();
    if holders > 1 {
        out.push_str(" +");
        text::push_number(out, holders as u64 - 1);
    }
}

fn group_table(report: &Report<'_>, by: By, groups: &[Group], look: &Look) -> String {
    let names = [
        "sockets",
        "RESIDENT",
        "rmem_alloc",
        "wmem_queued",
        "forward_alloc",
        "unread",
        "unacked",
        "optmem",
        "backlog",
        "drops",
    ];
    let column = |title: &str, align, rank| Column {
        title: title.to_owned(),
        band: "",
        apart: false,
        align,
        rank,
    };
    let mut columns = vec![column(by.name(), Align::Left, 0)];
    columns.extend(
        names
            .iter()
            .enumerate()
            .map(|(i, name)| column(name, Align::Right, u8::try_from(i / 2).unwrap_or(u8::MAX))),
    );
    let shown = report.shown(groups.len());
    let rows: Vec<Vec<Cell>> = groups[..shown]
        .iter()
        .map(|g| {
            let s = &g.sums;
            [
                look.foreign(&g.key).into_owned(),
                text::count(s.sockets),
                text::bytes(s.resident),
                text::bytes(s.rmem_alloc),
                text::bytes(s.wmem_queued),
                text::signed_bytes(s.forward_alloc),
                text::bytes(s.unread_bytes),
                text::bytes(s.unacked_bytes),
                text::bytes(s.optmem),
                text::bytes(s.backlog),
                text::count(s.drops),
            ]
            .into_iter()
            .map(Cell::from)
            .collect()
        })
        .collect();
    let mut table = table::render(&columns, &rows, look).text;
    if shown < groups.len() {
        table.push_str(&format!(
            "and {} more\n",
            text::count((groups.len() - shown) as u64)
        ));
    }
    table
}

/// The sums, over everything that is meant.
fn totals(t: &Sums, tcp_only: bool) -> Vec<String> {
    // UDP charges no send queue, and unix sockets hold what they sent.
    let link = if tcp_only { "=" } else { "with" };
    let mut lines = vec![
        format!(
            "TOTAL of {}: RESIDENT {} {link} rmem_alloc {} + wmem_queued {} + forward_alloc {}; payload: unread {}, \
             unacked {}",
            text::counted(t.sockets, "socket", "sockets"),
            text::bytes(t.resident),
            text::bytes(t.rmem_alloc),
            text::bytes(t.wmem_queued),
            text::signed_bytes(t.forward_alloc),
            text::bytes(t.unread_bytes),
            text::bytes(t.unacked_bytes),
        ),
        format!(
            "beside it: wmem_alloc {} (overlaps wmem_queued), optmem {}, backlog {}, drops {}",
            text::bytes(t.wmem_alloc),
            text::bytes(t.optmem),
            text::bytes(t.backlog),
            text::count(t.drops),
        ),
    ];
    let mut kinds = vec![format!("{} listening", text::count(t.listening))];
    for (n, bytes, word) in [
        (t.unaccepted, t.unaccepted_resident, "unaccepted"),
        (t.orphans, t.orphans_resident, "orphans"),
    ] {
        if n > 0 {
            kinds.push(format!(
                "{} {word} with {}",
                text::count(n),
                text::bytes(bytes)
            ));
        }
    }
    if t.unknown > 0 {
        kinds.push(format!("{} of unknown owner", text::count(t.unknown)));
    }
    lines.push(format!("of them: {}", kinds.join(", ")));
    lines
}
