//! What is exported of a recording is what the kernel said, and its replay is the live view.

use std::collections::HashMap;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::{Case, Cx, ONCE, case};
use crate::actor::Actor;
use crate::oracle::Reading;
use crate::trace::{self, Trace};

/// With every change sent, and with most of them merged.
pub(super) fn cases() -> Vec<Case> {
    let mut out = Vec::new();
    // Each up to a phase in which its sockets are at rest.
    for (workload, phase) in [
        ("slow-reader", "read"),
        ("stalled-reader", "half-read"),
        ("pingpong", "answered"),
    ] {
        for (how, extra) in [("exact", "--exact"), ("coalesced", "--coalesce=5s")] {
            out.push(case(format!("export_{workload}_{how}"), ONCE, move |cx| {
                last_rows(cx, workload, phase, extra)
            }));
        }
    }
    out
}

/// Records a workload up to a rest; the last row of each socket equals the kernel's counters.
fn last_rows(cx: &Cx, workload: &str, phase: &str, extra: &str) -> Result<()> {
    let file = std::env::temp_dir().join(format!("sockmem-e2e-{}.smt", std::process::id()));
    let name = file.to_str().context("a path of plain characters")?;
    let outcome = recorded(cx, workload, phase, extra, name);
    // It is not there where the trace did not begin.
    let _ = std::fs::remove_file(&file);
    outcome
}

fn recorded(cx: &Cx, workload: &str, phase: &str, extra: &str, file: &str) -> Result<()> {
    let mut actor = Actor::start(cx, workload)?;
    let trace = Trace::start(cx, &[actor.pid()], &[extra, "--record", file])?;
    actor.step_to(cx, phase)?;
    ensure!(actor.at.rest, "{workload} is not at rest in {phase:?}");
    let before = actor.report(cx)?;
    let report = trace.finish(cx)?.json;
    let after = actor.report(cx)?;
    drop(actor);
    let tool = |args: &[&str]| -> Result<String> {
        let (status, out, err) = trace::run(cx, args, |_| {})?;
        ensure!(status.success(), "{}: {status}: {err}", args.join(" "));
        Ok(out)
    };
    let rows = last_of_each(&tool(&["export", file, "--format", "csv", "-o", "-"])?)?;
    let mut compared = 0;
    for reading in &after {
        // What moved while the trace ended says nothing.
        if !reading.listens && reading.remote.is_some() && before.contains(reading) {
            same(&rows, reading)?;
            compared += 1;
        }
    }
    ensure!(compared > 0, "no socket was at rest: {before:?}, {after:?}");

    // The same code over the same inputs: the replay's answer is the trace's own, to the byte.
    let replayed = tool(&["replay", file, "--speed", "max", "--format", "json"])?;
    let last: Value = serde_json::from_str(replayed.lines().next_back().unwrap_or_default())
        .context("the replay's last line")?;
    if last != report {
        let differ = |(key, value): &(&String, &Value)| last[key.as_str()] != **value;
        let members = report.as_object().into_iter().flatten();
        let names: Vec<_> = members.filter(differ).map(|(key, _)| key).collect();
        bail!("the replay ends otherwise than the trace: {names:?}");
    }
    Ok(())
}

type Row = HashMap<String, String>;

/// The last row of each cookie.
fn last_of_each(csv: &str) -> Result<HashMap<u64, Row>> {
    let mut lines = csv.lines();
    let header: Vec<&str> = lines.next().context("a header")?.split(',').collect();
    let (mut rows, mut last_ns) = (HashMap::new(), 0);
    for line in lines {
        let row: Row = header
            .iter()
            .zip(line.split(','))
            .map(|(name, cell)| ((*name).to_owned(), cell.to_owned()))
            .collect();
        let t_ns: u64 = row["t_ns"].parse().context(line.to_owned())?;
        ensure!(t_ns >= last_ns, "not in order of time: {line}");
        last_ns = t_ns;
        if let Ok(cookie) = row["cookie"].parse() {
            rows.insert(cookie, row);
        }
    }
    Ok(rows)
}

fn same(rows: &HashMap<u64, Row>, reading: &Reading) -> Result<()> {
    let row = rows
        .get(&reading.cookie)
        .with_context(|| format!("no row of {} (cookie {})", reading.label, reading.cookie))?;
    let resident = ("resident", reading.mem.resident());
    for (name, kernel) in reading.mem.named().into_iter().chain([resident]) {
        // An empty cell is a counter that this tier cannot read.
        ensure!(
            row[name].is_empty() || row[name] == kernel.to_string(),
            "{}: {name} is {}, kernel {kernel}; row {row:?}",
            reading.label,
            row[name]
        );
    }
    Ok(())
}
