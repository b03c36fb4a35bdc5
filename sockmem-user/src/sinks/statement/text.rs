//! The statement on one screen.

use std::io::{self, Write};

use super::Report;
use crate::facts::memory::{Known, MemoryFacts, SystemMemory};
use crate::model::statement::{Ceilings, Cost, Fixed, Step, Verdict};
use crate::sinks::HostFacts;
use crate::sinks::look::{Look, Style};
use crate::sinks::table::{self, Align, Cell, Column};
use crate::sinks::text;

/// Writes it.
///
/// # Errors
/// Those of `out`.
pub fn write_text(
    report: &Report<'_>,
    host: &HostFacts,
    look: &Look,
    out: &mut impl Write,
) -> io::Result<()> {
    let s = report.statement;
    let facts = [
        (
            Style::Strong,
            "where the memory of TCP sockets is reported".to_owned(),
        ),
        (Style::Plain, look.foreign(&report.target).into_owned()),
        (
            Style::Plain,
            format!("Linux {}", look.foreign(&host.kernel)),
        ),
        (Style::Faint, text::moment(report.unix_ns)),
    ];
    writeln!(out, "{}\n", look.facts(&facts))?;
    out.write_all(steps(&s.steps, look).as_bytes())?;
    for step in &s.steps {
        if let Err(why) = &step.bytes {
            let line = format!("{}: not known: {}", step.title, look.foreign(why));
            writeln!(out, "{}", look.paint(Style::Faint, &look.prose(&line, 2)))?;
        }
    }
    writeln!(out)?;
    remainder(report, look, out)?;
    section(out, look, "NOT IN", &not_in(report.facts))?;
    let sockets = s.target.as_ref().map_or(0, |t| t.sockets);
    let lines = match &s.fixed {
        Ok(fixed) => fixed_cost(fixed, sockets),
        Err(why) => vec![format!("not known: {why}")],
    };
    section(out, look, "FIXED COST", &lines)?;
    section(out, look, "LIMITS", &limits(report.facts, &s.ceilings))?;
    let lints: Vec<String> = s.lints.iter().map(|l| l.text.clone()).collect();
    section(out, look, "EASILY MISREAD", &lints)
}

/// Columns that headings take.
const HEADING: usize = 15;

/// Words wrapped to what is left beside a heading, harmless.
fn beside(look: &Look, words: &str) -> String {
    let words = look.foreign(words);
    let width = look
        .width
        .map_or(usize::MAX, |w| w.saturating_sub(HEADING).max(24));
    text::wrap(&words, width, 0).replace('\n', &format!("\n{:HEADING$}", ""))
}

/// A heading, and lines beneath it that begin alike.
fn section(out: &mut impl Write, look: &Look, heading: &str, lines: &[String]) -> io::Result<()> {
    for (i, line) in lines.iter().enumerate() {
        let name = format!("{:<HEADING$}", if i == 0 { heading } else { "" });
        writeln!(
            out,
            "{}{}",
            look.paint(Style::Strong, &name),
            beside(look, line)
        )?;
    }
    Ok(())
}

/// Where a step shows.
fn shows(step: &Step) -> String {
    let places: Vec<&str> = [
        (step.in_res, "RES"),
        (step.in_buff_cache, "buff/cache"),
        (step.in_slab, "Slab"),
    ]
    .into_iter()
    .filter_map(|(there, name)| there.then_some(name))
    .collect();
    if places.is_empty() {
        "none".to_owned()
    } else {
        places.join(", ")
    }
}

fn signed_count(n: i64) -> String {
    let digits = text::count(n.unsigned_abs());
    if n < 0 { format!("-{digits}") } else { digits }
}

fn steps(steps: &[Step], look: &Look) -> String {
    let column = |title: &str, align, rank| Column {
        title: title.to_owned(),
        band: "",
        apart: false,
        align,
        rank,
    };
    let columns = [
        column("step", Align::Left, 0),
        column("bytes", Align::Right, 0),
        column("", Align::Right, 2),
        column("in RES, buff/cache, Slab", Align::Left, 1),
        column("source", Align::Left, 3),
    ];
    let rows: Vec<Vec<Cell>> = steps
        .iter()
        .map(|step| {
            let known = |write: fn(i64) -> String| {
                step.bytes
                    .as_ref()
                    .map_or_else(|_| text::UNKNOWN.to_owned(), |b| write(*b))
            };
            let style = if step.name == "target" || step.name == "sockstat_mem" {
                Style::Strong
            } else {
                Style::Plain
            };
            vec![
                Cell {
                    text: step.title.clone(),
                    style,
                },
                known(signed_count).into(),
                known(text::signed_bytes).into(),
                shows(step).into(),
                Cell {
                    text: look.foreign(&step.source).into_owned(),
                    style: Style::Faint,
                },
            ]
        })
        .collect();
    table::render(&columns, &rows, look).text
}

fn remainder(report: &Report<'_>, look: &Look, out: &mut impl Write) -> io::Result<()> {
    let r = &report.statement.remainder;
    let style = match r.verdict {
        Verdict::Explained => Style::Good,
        Verdict::SuspectedLeak => Style::Bad,
        _ => Style::Warn,
    };
    let side = |b: Option<i64>| b.map_or_else(|| "no bound".to_owned(), signed_count);
    let mut words = match &r.bytes {
        Ok(left) => format!(
            "sockstat less all sockets: {} bytes, of {} to {} that may be. ",
            signed_count(*left),
            side(r.range.0),
            side(r.range.1)
        ),
        Err(_) => String::new(),
    };
    words.push_str(&r.text);
    writeln!(
        out,
        "{}{}",
        look.paint(Style::Strong, &format!("{:<HEADING$}", "REMAINDER")),
        look.paint(style, &beside(look, &words))
    )?;
    let lines: Vec<String> = r
        .parts
        .iter()
        .map(|p| {
            let range = match (p.low, p.high) {
                (Some(low), Some(high)) if low == -high && high != 0 => {
                    format!("±{}", signed_count(high))
                }
                (Some(low), Some(high)) if low == high => signed_count(low),
                (low, high) => format!("{} to {}", side(low), side(high)),
            };
            let range = if look.ascii {
                range.replace('±', "+-")
            } else {
                range
            };
            format!("{} {range}: {}", p.name, p.note)
        })
        .collect();
    section(out, look, "", &lines)?;
    section(out, look, "", &time_wait(report))
}

/// What holds no buffers, or none that is charged.
fn time_wait(report: &Report<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    let tw = report.facts.after.as_ref().map(|s| s.tw).unwrap_or(0);
    lines.push(format!(
        "time-wait sockets ({} in this namespace) and connection requests hold no buffers",
        text::count(tw)
    ));
    if report.facts.defers == Some(true) {
        let most = report
            .facts
            .limits
            .skb_defer_max
            .map_or_else(String::new, |n| format!(", up to {n} on each"));
        lines.push(format!(
            "skbs that were read on another CPU than they came in on wait on a list of that CPU{most}: charged to \
             nobody, in no sum above, and part of the hole in MemFree"
        ));
    }
    lines
}

fn not_in(f: &MemoryFacts) -> Vec<String> {
    let mut lines = Vec::new();
    match &f.rss {
        None => lines.push("RES: the target is not a process".to_owned()),
        Some(Err(why)) => lines.push(format!("RES: not known: {why}")),
        Some(Ok(r)) => lines.push(format!(
            "RES {} of the target's processes: RssAnon {}, RssFile {}, RssShmem {}; socket buffers are in none",
            text::bytes(r.total),
            text::bytes(r.anon),
            text::bytes(r.file),
            text::bytes(r.shmem)
        )),
    }
    match &f.system {
        Err(why) => lines.push(format!("buff/cache: not known: {why}")),
        Ok(m) => lines.push(caches(m)),
    }
    lines
}

fn caches(m: &SystemMemory) -> String {
    format!(
        "buff/cache: Buffers {}, Cached {}, SReclaimable {}; nor SUnreclaim {}, save for skb heads and small data. \
         MemFree {} of {}",
        text::maybe_bytes(m.buffers),
        text::maybe_bytes(m.cached),
        text::maybe_bytes(m.slab_reclaimable),
        text::maybe_bytes(m.slab_unreclaimable),
        text::bytes(m.free),
        text::bytes(m.total)
    )
}

fn fixed_cost(f: &Fixed, sockets: u64) -> Vec<String> {
    let one = |c: &Known<Cost>| {
        c.as_ref().map_or_else(
            |why| format!("{} ({why})", text::UNKNOWN),
            |c| format!("{} B", text::count(c.slab_bytes)),
        )
    };
    let mut lines = Vec::new();
    if let Ok(tcp) = &f.tcp {
        lines.push(format!(
            "1,000 idle connections cost about {} of slab at this end, none of it buffers; the target's {}: {}",
            text::bytes(tcp.slab_bytes.saturating_mul(1000)),
            text::counted(sockets, "socket", "sockets"),
            text::bytes(tcp.slab_bytes.saturating_mul(sockets))
        ));
    }
    lines.push(format!(
        "each: TCP {}, TCPv6 {}; a client's port {} more, watched by epoll {} more; time-wait {}, request {}",
        one(&f.tcp),
        one(&f.tcp_v6),
        one(&f.port),
        one(&f.epoll),
        one(&f.time_wait),
        one(&f.request)
    ));
    let objects: Vec<String> = f
        .objects
        .iter()
        .map(|o| {
            if o.name == o.cache {
                format!("{} {}", o.name, o.slab_bytes)
            } else {
                format!("{} {} (in {})", o.name, o.slab_bytes, o.cache)
            }
        })
        .collect();
    lines.push(format!(
        "from /proc/slabinfo, bytes an object: {}",
        objects.join(", ")
    ));
    lines
}

fn limits(f: &MemoryFacts, c: &Ceilings) -> Vec<String> {
    let l = &f.limits;
    let used = f.after.as_ref().ok().map(|s| s.mem_pages);
    let mut lines = Vec::new();
    match (l.tcp_mem, used) {
        (Some([low, pressure, high]), Some(used)) => {
            let part = used.saturating_mul(1000) / high.max(1);
            lines.push(format!(
                "tcp_mem {low} {pressure} {high} pages; used {used}: {}.{} % of the most, {} pages below pressure",
                part / 10,
                part % 10,
                signed_count(
                    i64::try_from(pressure).unwrap_or(i64::MAX)
                        - i64::try_from(used).unwrap_or(i64::MAX)
                )
            ));
        }
        (None, _) => lines.push(
            "tcp_mem: not known: it is shown in the initial network namespace alone".to_owned(),
        ),
        (Some([low, pressure, high]), None) => {
            lines.push(format!(
                "tcp_mem {low} {pressure} {high} pages; used: not known"
            ));
        }
    }
    let three = |v: Option<[u64; 3]>| {
        v.map_or_else(
            || text::UNKNOWN.to_owned(),
            |[a, b, c]| format!("{a} {b} {c}"),
        )
    };
    lines.push(format!(
        "tcp_rmem {}, tcp_wmem {} bytes: least, at first, most that autotuning allows a socket",
        three(l.tcp_rmem),
        three(l.tcp_wmem)
    ));
    lines.push(format!(
        "ceilings, not usage: if each of the target's {} were full, {} to read and {} to send; the highest of one \
         socket: rcvbuf {}, sndbuf {}",
        text::counted(c.sockets, "socket", "sockets"),
        text::bytes(c.rcvbuf_sum),
        text::bytes(c.sndbuf_sum),
        text::bytes(c.rcvbuf_max),
        text::bytes(c.sndbuf_max)
    ));
    lines
}
