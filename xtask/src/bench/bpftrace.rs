//! The same hooks as a bpftrace script: our cost over theirs.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::Bench;
use super::hooks::{above, per_request};
use super::stats::Sample;
use super::table::{Row, Target};
use super::tracer::Ended;
use crate::exec;

/// The script; `$1` is the traced process.
const SCRIPT: &str = include_str!("sockmem.bt");

/// Why bpftrace cannot be asked; `None` where it can.
pub(crate) fn refused() -> Option<String> {
    if exec::find("bpftrace").is_none() {
        return Some("bpftrace is not installed (apt-get install bpftrace)".into());
    }
    exec::find("unshare")
        .is_none()
        .then(|| "unshare is not installed (apt-get install util-linux)".into())
}

/// The script, which prints each change or only keeps the last reading.
fn script(events: bool) -> String {
    let prints = |line: &&str| line.contains("printf(\"%llu");
    let lines = SCRIPT.lines().filter(|line| events || !prints(line));
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// A shell line that becomes bpftrace. debugfs is mounted in a mount namespace of its own, where
/// the kernel's events are described: bpftrace looks for them there, and not every host has it.
fn line(bench: &Bench, pid: &str, events: bool) -> Result<String> {
    let path: PathBuf = bench.scratch.join("sockmem.bt");
    exec::write(&path, script(events))?;
    Ok(format!(
        "mount -t debugfs none /sys/kernel/debug; exec bpftrace {} {pid}",
        path.display()
    ))
}

/// Starts it on process `pid`, and waits until it is attached.
pub(crate) fn start(bench: &Bench, pid: u32) -> Result<Ended> {
    let log = bench.scratch.join("bpftrace.log");
    let output = std::fs::File::create(&log)?;
    let child = Command::new("unshare")
        .args(["--mount", "sh", "-c", &line(bench, &pid.to_string(), true)?])
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(Stdio::null())
        .spawn()
        .context("starting unshare")?;
    let mut child = Ended(child);
    for _ in 0..200 {
        std::thread::sleep(Duration::from_millis(50));
        ensure!(child.0.try_wait()?.is_none(), "bpftrace ended at once");
        // The script's BEGIN prints it, after everything else is attached.
        if std::fs::read_to_string(&log)?.contains("attached") {
            std::thread::sleep(Duration::from_millis(300));
            return Ok(child);
        }
    }
    anyhow::bail!("bpftrace attached nothing within 10 s")
}

/// Mean time of its program on the sends' tracepoint, above our empty one. ns.
fn theirs(results: &Value, name: &str, empty: f64) -> Vec<f64> {
    let runs = results["foreign"].as_array().map_or(&[][..], Vec::as_slice);
    runs.iter()
        .flat_map(|r| r["bursts"].as_array().into_iter().flatten())
        .filter(|b| b["case"] == name)
        .filter_map(|b| Some(b["program_ns"].as_f64()? - empty))
        .collect()
}

/// Our cost over theirs, in one run of `sockmem-bench hooks`; `events`: theirs prints each change.
fn rows(results: &Value, events: bool) -> Vec<Row> {
    let bursts = results["bursts"].as_array().cloned().unwrap_or_default();
    let empty = Sample::of(bursts.iter().filter_map(|b| b["empty_ns"].as_f64()));
    let Some(empty) = empty else {
        return Vec::new();
    };
    let cases: &[_] = if events {
        &[("changed", "event", "changed, with an event")]
    } else {
        &[
            ("filtered", "filtered", "socket not traced"),
            ("unchanged", "unchanged", "traced, nothing changed"),
            ("changed", "changed_quiet", "changed, no event"),
        ]
    };
    let mut rows = Vec::new();
    for (their_case, our_case, what) in cases {
        let theirs = Sample::of(theirs(results, their_case, empty.median));
        let ours = Sample::of(above(results, our_case));
        rows.push(Row::new(
            format!("bpftrace, sock_send_length: {what}"),
            "ns above empty",
            theirs.clone(),
        ));
        let ratio = ours.zip(theirs).and_then(|(o, t)| {
            Some(Sample {
                median: o.median / t.median,
                min: o.min / t.max,
                max: o.max / t.min,
                runs: o.runs.min(t.runs),
            })
            .filter(|s| s.median.is_finite())
        });
        let row = Row::new(format!("ours / theirs: {what}"), "ratio", ratio);
        rows.push(row.target(Target::AtMost(0.5)));
    }
    if !events {
        return rows;
    }
    let list = |name: &str| results[name].as_array().cloned().unwrap_or_default();
    let total = |name: &str| -> Vec<f64> { list(name).iter().filter_map(per_request).collect() };
    let (ours, theirs) = (total("listings"), total("foreign"));
    rows.push(Row::new(
        "bpftrace, all programs, one byte there and back",
        "ns per round trip",
        Sample::of(theirs.iter().copied()),
    ));
    rows.push(
        Row::new(
            "ours / theirs: all programs, there and back, with events",
            "ratio",
            Sample::of_ratios(&ours, &theirs),
        )
        .target(Target::AtMost(0.5)),
    );
    rows
}

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let cannot = |why: String| vec![Row::new("the same hooks in bpftrace", "", None).note(why)];
    if let Some(why) = refused() {
        return Ok(cannot(why));
    }
    let rounds = bench.rounds.min(3).to_string();
    let mut out = Vec::new();
    for events in [false, true] {
        let results = bench.ask(&["hooks", &rounds, &line(bench, "PID", events)?])?;
        if let Some(why) = results["foreign_refused"].as_str() {
            return Ok(cannot(format!("bpftrace: {}", why.replace('\n', " "))));
        }
        out.extend(rows(&results, events));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn costs_are_compared_above_the_same_empty_program() {
        let results = json!({
            "bursts": [
                {"case": "event", "program_ns": 160.0, "empty_ns": 60.0},
                {"case": "filtered", "program_ns": 80.0, "empty_ns": 60.0}],
            "foreign": [{"requests": 1, "programs": [{"name": "x", "time_ns": 4000}],
                "bursts": [{"case": "changed", "program_ns": 460.0}]}],
            "listings": [{"requests": 1, "programs": [{"name": "y", "time_ns": 1000}]}],
        });
        let rows = rows(&results, true);
        let find = |what: &str| {
            let row = rows.iter().find(|r| r.what == what).unwrap();
            row.sample.as_ref().map(|s| s.median)
        };
        assert_eq!(find("ours / theirs: changed, with an event"), Some(0.25));
        let all = "ours / theirs: all programs, there and back, with events";
        assert_eq!(find(all), Some(0.25));
        // They were not measured in that case: no ratio.
        let quiet = super::rows(&results, false);
        let row = quiet.iter().find(|r| r.what.contains("theirs: socket"));
        assert_eq!(row.map(|r| r.sample.is_none()), Some(true));
    }

    #[test]
    fn without_events_only_the_printing_is_left_out() {
        let (with, without) = (script(true), script(false));
        assert_eq!(with, SCRIPT);
        assert!(with.matches("printf(").count() > 1);
        // What says that it is attached stays.
        assert_eq!(without.matches("printf(").count(), 1);
        assert!(without.contains("@last["));
    }
}
