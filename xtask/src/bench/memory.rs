//! Memory of the tracer: its own, and that of its maps in the kernel.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::Bench;
use super::stats::Sample;
use super::table::{Row, Target};
use super::tracer::{Ended, Tracer};

const MIB: f64 = 1024.0 * 1024.0;

/// A process with quiet sockets.
pub(crate) fn fleet(bench: &Bench, sockets: usize) -> Result<Ended> {
    let mut child = bench
        .helper(&["fleet", &sockets.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting the quiet sockets")?;
    let stdout = child.stdout.take().context("stdout")?;
    let fleet = Ended(child);
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    ensure!(
        line.trim() == "ready",
        "{sockets} sockets could not be opened"
    );
    Ok(fleet)
}

/// A `Vm…` line of `/proc/PID/status`, in bytes.
fn status(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|l| l.strip_prefix(name))?;
    let kib: u64 = line
        .trim_start_matches(':')
        .trim()
        .strip_suffix("kB")?
        .trim()
        .parse()
        .ok()?;
    Some(kib * 1024)
}

/// Memory of the maps that a process holds, each counted once (`memlock` in their fdinfo).
fn maps(pid: u32) -> Result<u64> {
    let mut by_id = BTreeMap::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        // A descriptor may close meanwhile.
        let text = std::fs::read_to_string(entry?.path()).unwrap_or_default();
        if let Some((id, bytes)) = map(&text) {
            by_id.insert(id, bytes);
        }
    }
    Ok(by_id.values().sum())
}

/// Id and bytes of a map's descriptor.
fn map(fdinfo: &str) -> Option<(u32, u64)> {
    let field = |name: &str| {
        fdinfo
            .lines()
            .find_map(|l| l.strip_prefix(name))
            .map(str::trim)
    };
    Some((
        field("map_id:")?.parse().ok()?,
        field("memlock:")?.parse().ok()?,
    ))
}

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let counts = [0usize, 2_000, 10_000];
    let mut own: Vec<Vec<f64>> = vec![Vec::new(); counts.len()];
    let mut peak = own.clone();
    let mut kernel = own.clone();
    for _ in 0..bench.rounds.min(3) {
        for (i, sockets) in counts.iter().enumerate() {
            let fleet = fleet(bench, *sockets)?;
            let tracer = Tracer::start(bench, fleet.0.id(), &[])?;
            // Some intervals, so that every buffer has its size.
            std::thread::sleep(Duration::from_millis(3500));
            let path = format!("/proc/{}/status", tracer.pid());
            let text = std::fs::read_to_string(path)?;
            let of = |name| {
                status(&text, name)
                    .map(|b| b as f64)
                    .context("no such line")
            };
            own[i].push(of("VmRSS")?);
            peak[i].push(of("VmHWM")?);
            kernel[i].push(maps(tracer.pid())? as f64);
            tracer.finish()?;
        }
    }
    let sample = |v: &[f64]| Sample::of(v.iter().map(|b| b / MIB));
    let mut rows = Vec::new();
    for (i, sockets) in counts.iter().enumerate() {
        let row = Row::new(
            format!("VmRSS at {sockets} sockets"),
            "MiB",
            sample(&own[i]),
        );
        rows.push(if *sockets == 2_000 {
            // 20 MB.
            row.target(Target::AtMost(20e6 / MIB))
        } else {
            row
        });
        rows.push(Row::new(
            format!("VmHWM at {sockets} sockets"),
            "MiB",
            sample(&peak[i]),
        ));
    }
    let beyond = own[2].iter().zip(&own[1]);
    let per_socket = beyond.map(|(more, less)| (more - less) / (counts[2] - counts[1]) as f64);
    rows.push(
        Row::new(
            "VmRSS per socket beyond 2,000",
            "bytes",
            Sample::of(per_socket),
        )
        .target(Target::AtMost(300.0)),
    );
    for (i, sockets) in counts.iter().enumerate() {
        rows.push(
            Row::new(
                format!("maps in the kernel at {sockets} sockets"),
                "MiB",
                sample(&kernel[i]),
            )
            .note("memlock of each map's fdinfo; for 65,536 sockets, allocated when they are made"),
        );
    }
    rows.extend(parts(bench)?);
    rows.extend(churn(bench)?);
    Ok(rows)
}

/// Heap of the model, and of a picture; time of a picture.
fn parts(bench: &Bench) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for sockets in [10_000, 100_000] {
        let mut all = Vec::new();
        for _ in 0..bench.rounds.min(3) {
            all.push(bench.ask(&["memory", &sockets.to_string()])?);
        }
        let of = |name: &str, unit: f64| {
            let figures = all.iter().filter_map(|v| v[name].as_f64());
            Sample::of(figures.map(|v| v / unit))
        };
        let named = [
            (
                "heap of the model per quiet socket",
                "bytes",
                "quiet_bytes_per_socket",
                1.0,
            ),
            (
                "heap of the model per socket in use",
                "bytes",
                "active_bytes_per_socket",
                1.0,
            ),
            ("a JSON line, quiet", "s", "quiet_picture_s", 1.0),
            ("a JSON line, in use", "s", "active_picture_s", 1.0),
            (
                "heap of a JSON line, in use",
                "MiB",
                "active_picture_bytes",
                MIB,
            ),
            ("allocations per change", "", "allocations_per_change", 1.0),
        ];
        for (what, unit, name, scale) in named {
            let what = format!("{what}, {sockets} sockets");
            rows.push(Row::new(what, unit, of(name, scale)));
        }
        if sockets == 10_000 {
            let named = [
                ("20,000 connections, 100 at a time", "churned_half_bytes"),
                ("40,000 of them", "churned_bytes"),
            ];
            for (what, name) in named {
                let what = format!("heap of the model after {what}");
                rows.push(Row::new(what, "MiB", of(name, MIB)));
            }
        }
    }
    Ok(rows)
}

/// What connections that come and go leave behind.
fn churn(bench: &Bench) -> Result<Vec<Row>> {
    let seconds = bench.churn_s.max(6);
    let mut child = bench
        .helper(&["churn", "1000", &(seconds + 5).to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting connections that come and go")?;
    let stdout = child.stdout.take().context("stdout")?;
    let load = Ended(child);
    BufReader::new(stdout).read_line(&mut String::new())?;
    let tracer = Tracer::start(bench, load.0.id(), &[])?;
    let resident = || -> Result<f64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", tracer.pid()))?;
        let bytes = status(&text, "VmRSS").context("no VmRSS")?;
        Ok(bytes as f64 / MIB)
    };
    // By then as many have closed as are kept.
    std::thread::sleep(Duration::from_secs(5));
    let early = resident()?;
    std::thread::sleep(Duration::from_secs(seconds - 5));
    let late = resident()?;
    tracer.finish()?;
    drop(load);
    let row = |what: String, mib| Row::new(what, "MiB", Sample::of([mib]));
    let note = "1,000 connections a second, each with 512 bytes";
    Ok(vec![
        row(
            "VmRSS after 5 s of connections that come and go".into(),
            early,
        )
        .note(note),
        row(format!("VmRSS after {seconds} s of them"), late).note(note),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_lines_are_in_kib() {
        let text = "VmPeak:\t   20 kB\nVmHWM:\t    5120 kB\nVmRSS:\t    4096 kB\n";
        assert_eq!(status(text, "VmRSS"), Some(4096 * 1024));
        assert_eq!(status(text, "VmHWM"), Some(5120 * 1024));
        assert_eq!(status(text, "VmSwap"), None);
    }

    #[test]
    fn only_maps_have_both_lines() {
        let text = "pos:\t0\nmap_type:\t1\nmemlock:\t26218176\nmap_id:\t93\nfrozen:\t0\n";
        assert_eq!(map(text), Some((93, 26_218_176)));
        assert_eq!(map("pos:\t0\nprog_id:\t7\nmemlock:\t4096\n"), None);
    }
}
