//! One reading of 20,000 sockets with their owners, beside `ss`.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use super::Bench;
use super::memory::fleet;
use super::stats::Sample;
use super::table::{Row, Target};
use crate::exec;

/// Sockets of each of the two processes: one may have no more descriptors than the hard limit.
const EACH: usize = 10_000;

/// Wall time of one run, nanoseconds. What it prints goes nowhere, but is printed.
fn time(command: &mut Command) -> Result<f64> {
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let began = Instant::now();
    let status = command.status().context("starting it")?;
    let took = began.elapsed().as_nanos() as f64;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(took)
}

/// What is compared: a name, and how it is started.
type Variant<'a> = (&'static str, Box<dyn Fn() -> Result<Command> + 'a>);

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let _fleets = [fleet(bench, EACH)?, fleet(bench, EACH)?];
    let ours = |args: &'static [&'static str]| {
        Box::new(move || {
            let mut command = Command::new(&bench.tool);
            command.arg("snapshot").args(args);
            Ok(command)
        })
    };
    let ss = |flags: &'static str| {
        Box::new(move || {
            let mut command = exec::tool("ss", "iproute2")?;
            command.arg(flags);
            Ok(command)
        })
    };
    let variants: Vec<Variant<'_>> = vec![
        ("snapshot", ours(&["--tcp"])),
        ("ss -tmnp", ss("-tmnp")),
        ("snapshot --tcp --udp", ours(&["--tcp", "--udp"])),
        ("ss -tumpn", ss("-tumpn")),
        ("snapshot --format json", ours(&["--format", "json"])),
        ("snapshot --format csv", ours(&["--format", "csv"])),
        ("snapshot --top 20", ours(&["--top", "20"])),
    ];
    let mut took: Vec<Vec<f64>> = vec![Vec::new(); variants.len()];
    // The first look at a process's descriptors makes the kernel's entries for them; `ss` would
    // find those made. So one round is not counted.
    for round in 0..=bench.rounds {
        for (i, (_, start)) in variants.iter().enumerate() {
            let ns = time(&mut start()?)?;
            if round > 0 {
                took[i].push(ns);
            }
        }
    }
    let sockets = 2.0 * EACH as f64;
    let mut rows: Vec<Row> = variants
        .iter()
        .zip(&took)
        .map(|((name, _), took)| {
            let row = Row::new(
                format!("{name}, 20,000 sockets"),
                "us/socket",
                Sample::of(took.iter().map(|ns| ns / 1e3 / sockets)),
            );
            if *name == "snapshot" {
                row.target(Target::AtMost(4.0))
            } else {
                row
            }
        })
        .collect();
    for (ours, theirs) in [(0, 1), (2, 3)] {
        rows.push(
            Row::new(
                format!("{} / {}", variants[ours].0, variants[theirs].0),
                "ratio",
                Sample::of_ratios(&took[ours], &took[theirs]),
            )
            .target(Target::AtMost(1.0)),
        );
    }
    Ok(rows)
}
