//! Recordings: bytes an event, what writing and reading costs.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::Bench;
use super::stats::Sample;
use super::table::{Row, Target};
use super::throughput::{free_port, wait_for};
use super::tracer::Ended;
use crate::exec;

/// Events of a made-up recording.
const EVENTS: u64 = 10_000_000;

fn figure(value: &Value, name: &str) -> Result<f64> {
    value[name]
        .as_f64()
        .with_context(|| format!("sockmem-bench told no {name}"))
}

/// Everything about recordings.
pub(crate) fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let path = bench.scratch.join("made.smt");
    let file = path.to_string_lossy().into_owned();
    for (load, what) in [
        ("requests", "requests on 50 sockets"),
        ("bulk", "4 bulk streams"),
        ("many", "requests on 2,000 sockets"),
    ] {
        let [mut size, mut write, mut read, mut report, mut peak] = [const { Vec::new() }; 5];
        for _ in 0..bench.rounds.min(3) {
            let written = bench.ask(&["recording", "write", load, &EVENTS.to_string(), &file])?;
            size.push(figure(&written, "bytes_per_event")?);
            write.push(figure(&written, "ns_per_event")?);
            let seen = bench.ask(&["recording", "read", &file])?;
            read.push(figure(&seen, "events")? / figure(&seen, "seconds")?);
            let seen = bench.ask(&["recording", "report", &file])?;
            report.push(figure(&seen, "seconds")?);
            peak.push(figure(&seen, "peak_rss_bytes")? / 1e6);
        }
        let made = "made up, every change";
        rows.extend([
            Row::new(format!("size, {what}"), "bytes/event", Sample::of(size))
                .target(Target::AtMost(4.0))
                .note(made),
            Row::new(format!("writing, {what}"), "ns/event", Sample::of(write)).note("to a file"),
            Row::new(format!("reading, {what}"), "events/s", Sample::of(read)),
            Row::new(
                format!("10 million events read and reported, {what}"),
                "s",
                Sample::of(report),
            )
            .target(Target::AtMost(3.0)),
            Row::new(format!("peak RSS of that, {what}"), "MB", Sample::of(peak)),
        ]);
    }
    remove(&path)?;
    rows.push(real(bench).unwrap_or_else(|error| {
        Row::new("size, redis-benchmark, recorded", "bytes/event", None).note(format!("{error:#}"))
    }));
    Ok(rows)
}

/// A real recording of a real load.
fn real(bench: &Bench) -> Result<Row> {
    let Some((server, client)) = exec::find("redis-server").zip(exec::find("redis-benchmark"))
    else {
        bail!("redis is not installed (apt-get install redis-server redis-tools)");
    };
    let port = free_port()?.to_string();
    let child = Command::new(server)
        .args([
            "--bind",
            "127.0.0.1",
            "--port",
            &port,
            "--save",
            "",
            "--appendonly",
            "no",
        ])
        .current_dir(&bench.scratch)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .context("starting redis-server")?;
    let _server = Ended(child);
    wait_for(port.parse()?)?;
    let path = bench.scratch.join("real.smt");
    let mut sizes = Vec::new();
    let mut events = 0.0;
    for _ in 0..bench.rounds.min(3) {
        let mut record = Command::new(&bench.tool);
        bench.with_object(&mut record);
        record
            .args(["record", "--exact", "--force", "-o"])
            .arg(&path)
            .arg("--")
            .arg(&client);
        record.args([
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "-t",
            "get,set",
            "-n",
            "100000",
            "-q",
        ]);
        exec::capture_text(record.stderr(Stdio::null()))?;
        let seen = bench.ask(&["recording", "read", &path_text(&path)])?;
        sizes.push(figure(&seen, "bytes_per_event")?);
        events += figure(&seen, "events")?;
    }
    remove(&path)?;
    Ok(Row::new(
        "size, redis-benchmark, recorded",
        "bytes/event",
        Sample::of(sizes),
    )
    .target(Target::AtMost(4.0))
    .note(format!(
        "50 clients, GET and SET, the client traced; {events:.0} events in all"
    )))
}

fn remove(path: &Path) -> Result<()> {
    std::fs::remove_file(path).with_context(|| format!("removing {}", path.display()))
}

fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
