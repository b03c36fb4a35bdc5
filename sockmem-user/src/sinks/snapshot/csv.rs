//! A snapshot as comma-separated values: RFC 4180, a header of JSON names, integers as they are,
//! nothing where a value is not known.

use std::io::{self, BufWriter, Write};

use super::Report;
use super::values::{Get, columns};
use crate::model::snapshot::Group;
use crate::sinks::escape::escape;
use crate::sinks::fields::Value;

/// Writes the sockets, or with groups the groups, a line each.
///
/// # Errors
/// Those of `out`.
pub fn write_csv(report: &Report<'_>, out: &mut impl Write) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(64 * 1024, out);
    match &report.groups {
        Some((by, groups)) => {
            writeln!(out, "{},{GROUP_HEADER}", by.name())?;
            for group in &groups[..report.shown(groups.len())] {
                group_line(group, &mut out)?;
            }
        }
        None => {
            let names: Vec<&str> = columns().iter().map(|(f, _)| f.json).collect();
            writeln!(out, "{}", names.join(","))?;
            let shown = report.shown(report.snapshot.entries().len());
            let mut line = String::new();
            let mut cell = String::new();
            for entry in report.snapshot.entries().take(shown) {
                line.clear();
                for (i, (_, get)) in columns().iter().enumerate() {
                    if i > 0 {
                        line.push(',');
                    }
                    match get {
                        Get::Plain(get) => push(get(&entry), &mut line),
                        Get::Written(write) => {
                            cell.clear();
                            if write(&entry, &mut cell) {
                                push(Value::Text(&cell), &mut line);
                            }
                        }
                    }
                }
                line.push('\n');
                out.write_all(line.as_bytes())?;
            }
        }
    }
    out.flush()
}

const GROUP_HEADER: &str = "sockets,resident,rmem_alloc,wmem_queued,forward_alloc,wmem_alloc,optmem,backlog,drops,\
                            unread_bytes,unacked_bytes";

fn group_line(group: &Group, out: &mut impl Write) -> io::Result<()> {
    let mut line = String::new();
    push(Value::Text(&group.key), &mut line);
    let s = &group.sums;
    writeln!(
        out,
        "{line},{},{},{},{},{},{},{},{},{},{},{}",
        s.sockets,
        s.resident,
        s.rmem_alloc,
        s.wmem_queued,
        s.forward_alloc,
        s.wmem_alloc,
        s.optmem,
        s.backlog,
        s.drops,
        s.unread_bytes,
        s.unacked_bytes
    )
}

/// Appends a value: what stands for nothing is nothing.
fn push(value: Value<'_>, out: &mut String) {
    use std::fmt::Write as _;
    // Writing to a String cannot fail.
    let _ = match value {
        Value::Bytes(n) | Value::Ns(n) | Value::Count(n) => write!(out, "{n}"),
        Value::SignedBytes(n) | Value::Rate(n) => write!(out, "{n}"),
        Value::Flag(on) => write!(out, "{on}"),
        Value::Text(text) => {
            push_text(text, out);
            Ok(())
        }
        Value::Unknown => Ok(()),
    };
}

/// Quoted where it must be. A spreadsheet takes what begins like a formula for one, so such a
/// name, which a stranger may have chosen, is led by an apostrophe.
fn push_text(text: &str, out: &mut String) {
    let text = escape(text, false);
    let formula = text.starts_with(['=', '+', '-', '@', '\t']);
    let quote = formula || text.contains(['"', ',', ' ']);
    if !quote {
        out.push_str(&text);
        return;
    }
    out.push('"');
    if formula {
        out.push('\'');
    }
    for c in text.chars() {
        if c == '"' {
            out.push('"');
        }
        out.push(c);
    }
    out.push('"');
}
