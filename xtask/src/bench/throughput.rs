//! Throughput and latency with and without the trace, in turn.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::stats::Sample;
use super::table::{Row, Target};
use super::tracer::{Ended, Tracer};
use super::{Bench, bpftrace, iperf, redis};
use crate::exec;

/// Who watches the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watch {
    Nobody,
    Coalesced,
    Exact,
    Bpftrace,
}

impl Watch {
    fn name(self) -> &'static str {
        match self {
            Watch::Nobody => "untraced",
            Watch::Coalesced => "coalesced",
            Watch::Exact => "exact",
            Watch::Bpftrace => "bpftrace",
        }
    }
}

/// One figure of one run, and whether more of it is better.
struct Figure {
    name: String,
    unit: &'static str,
    value: f64,
    more_is_better: bool,
}

/// One run under one watch.
struct Run {
    watch: Watch,
    figures: Vec<Figure>,
    seconds: f64,
    cpu: Option<Duration>,
    changes: u64,
    dropped: u64,
}

/// A port that is free now.
pub(crate) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("looking for a free port")?;
    Ok(listener.local_addr()?.port())
}

/// Whether a line of `/proc/net/tcp` is that of a listener on `port`.
fn listens(line: &str, port: u16) -> bool {
    let mut fields = line.split_whitespace().skip(1);
    let local = fields.next().and_then(|at| at.rsplit_once(':'));
    // 0A is TCP_LISTEN.
    let listening = fields.nth(1) == Some("0A");
    listening && local.is_some_and(|(_, p)| u16::from_str_radix(p, 16) == Ok(port))
}

/// Waits until something listens there. Connecting to find out would be a client: iperf3 serves
/// one at a time.
pub(crate) fn wait_for(port: u16) -> Result<()> {
    for _ in 0..200 {
        let table = std::fs::read_to_string("/proc/net/tcp").context("/proc/net/tcp")?;
        if table.lines().any(|line| listens(line, port)) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    bail!("nothing listens on port {port} after 10 s")
}

/// A command that stays on one processor, so that no round differs from the next by where the
/// scheduler happened to put it. Of few processors both ends may name the same.
fn on_processor(n: usize, program: &Path) -> Command {
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", &(n % count).to_string()]);
    command.arg(program);
    command
}

/// A server to be traced, and a load on it that gives figures.
struct Load {
    server: Ended,
    run: Box<dyn Fn() -> Result<Vec<Figure>>>,
    with: &'static str,
}

/// Runs `load` under each watch in turn, `rounds` times; the order turns, too.
fn rounds(bench: &Bench, load: &Load, watches: &[Watch]) -> Result<Vec<Vec<Run>>> {
    let pid = load.server.0.id();
    (load.run)()?; // What is slow the first time is not measured.
    let mut all = Vec::new();
    for round in 0..bench.rounds {
        let mut runs = Vec::new();
        for i in 0..watches.len() {
            let watch = watches[(i + round) % watches.len()];
            runs.push(watched(bench, load, pid, watch)?);
        }
        all.push(runs);
    }
    Ok(all)
}

fn watched(bench: &Bench, load: &Load, pid: u32, watch: Watch) -> Result<Run> {
    let tracer = match watch {
        Watch::Coalesced => Some(Tracer::start(bench, pid, &[])?),
        Watch::Exact => Some(Tracer::start(bench, pid, &["--exact"])?),
        Watch::Nobody | Watch::Bpftrace => None,
    };
    let other = match watch {
        Watch::Bpftrace => Some(bpftrace::start(bench, pid)?),
        _ => None,
    };
    let before = tracer.as_ref().map(Tracer::cpu).transpose()?;
    let began = Instant::now();
    let figures = (load.run)()?;
    let seconds = began.elapsed().as_secs_f64();
    let after = tracer.as_ref().map(Tracer::cpu).transpose()?;
    drop(other);
    let loss = tracer.map(Tracer::finish).transpose()?.unwrap_or_default();
    Ok(Run {
        watch,
        figures,
        seconds,
        cpu: after.zip(before).map(|(a, b)| a.saturating_sub(b)),
        changes: loss.seen,
        dropped: loss.dropped,
    })
}

/// Rows of one load: for each figure the untraced value and the ratios, then the tracer's own cost.
fn rows(all: &[Vec<Run>], load: &Load, watches: &[Watch], least: f64) -> Vec<Row> {
    let of =
        |watch: Watch| -> Vec<&Run> { all.iter().flatten().filter(|r| r.watch == watch).collect() };
    let plain = of(Watch::Nobody);
    let mut rows = Vec::new();
    let Some(first) = plain.first() else {
        return rows;
    };
    for (i, figure) in first.figures.iter().enumerate() {
        let values = |watch| -> Vec<f64> { of(watch).iter().map(|r| r.figures[i].value).collect() };
        let base = values(Watch::Nobody);
        rows.push(
            Row::new(
                format!("{}, untraced", figure.name),
                figure.unit,
                Sample::of(base.iter().copied()),
            )
            .note(load.with),
        );
        for &watch in watches.iter().filter(|w| **w != Watch::Nobody) {
            let ratio = Sample::of_ratios(&values(watch), &base);
            let row = Row::new(
                format!("{}, {} / untraced", figure.name, watch.name()),
                "ratio",
                ratio,
            );
            rows.push(if figure.more_is_better && watch != Watch::Bpftrace {
                row.target(Target::AtLeast(least))
            } else {
                row
            });
        }
    }
    for watch in [Watch::Coalesced, Watch::Exact] {
        let runs = of(watch);
        let share = runs
            .iter()
            .filter_map(|r| Some(100.0 * r.cpu?.as_secs_f64() / r.seconds));
        let changes: u64 = runs.iter().map(|r| r.changes).sum();
        let dropped: u64 = runs.iter().map(|r| r.dropped).sum();
        let seconds: f64 = runs.iter().map(|r| r.seconds).sum();
        rows.push(
            Row::new(
                format!("tracer's own CPU time, {}", watch.name()),
                "% of a core",
                Sample::of(share),
            )
            .note(format!(
                "{:.0} changes/s seen, {dropped} records not sent for want of room",
                changes as f64 / seconds
            )),
        );
    }
    rows
}

/// A server of the measuring program, and its port.
fn own_server(bench: &Bench, kind: &str) -> Result<(Ended, u16)> {
    let mut child = bench
        .helper(&[kind])
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {kind}"))?;
    let stdout = child.stdout.take().context("stdout")?;
    let server = Ended(child);
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    let port = line.trim().parse().context("the server's port")?;
    Ok((server, port))
}

fn bulk_load(bench: &Bench) -> Result<Load> {
    let figure = |value| {
        vec![Figure {
            name: "one stream over loopback".into(),
            unit: "Gbit/s",
            value: value / 1e9,
            more_is_better: true,
        }]
    };
    if let Some(iperf3) = exec::find("iperf3") {
        let number = free_port()?;
        let port = number.to_string();
        let server = on_processor(0, &iperf3)
            .args(["--server", "--bind", "127.0.0.1", "--port", &port])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("starting iperf3")?;
        let server = Ended(server);
        wait_for(number)?;
        return Ok(Load {
            server,
            with: "iperf3, the server traced; each on a processor of its own",
            run: Box::new(move || {
                let mut client = on_processor(1, &iperf3);
                client.args(["--client", "127.0.0.1", "--port", &port]);
                client.args(["--time", "3", "--json"]);
                Ok(figure(iperf::parse(&exec::capture_text(&mut client)?)?))
            }),
        });
    }
    let (server, port) = own_server(bench, "sink-server")?;
    let helper = bench.helper.clone();
    Ok(Load {
        server,
        with: "own loader; iperf3 is not installed (apt-get install iperf3)",
        run: Box::new(move || {
            let mut client = Command::new(&helper);
            client.args(["sink-client", &port.to_string(), "3"]);
            let report: serde_json::Value =
                serde_json::from_str(&exec::capture_text(&mut client)?)?;
            let rate = report["bits_per_second"].as_f64();
            Ok(figure(rate.context("the loader told no rate")?))
        }),
    })
}

/// Bulk transfer.
pub(crate) fn bulk(bench: &Bench) -> Result<Vec<Row>> {
    let load = bulk_load(bench)?;
    let watches = [Watch::Nobody, Watch::Coalesced, Watch::Exact];
    let all = rounds(bench, &load, &watches)?;
    Ok(rows(&all, &load, &watches, 0.97))
}

fn request_load(bench: &Bench, clients: usize) -> Result<Load> {
    let figures = move |test: &str, rps: f64, p99_ms: Option<f64>| {
        let s = if clients == 1 { "" } else { "s" };
        let mut out = vec![Figure {
            name: format!("{test}, {clients} client{s}"),
            unit: "requests/s",
            value: rps,
            more_is_better: true,
        }];
        out.extend(p99_ms.filter(|ms| *ms > 0.0).map(|value| Figure {
            name: format!("{test}, {clients} client{s}: p99"),
            unit: "ms",
            value,
            more_is_better: false,
        }));
        out
    };
    let redis = exec::find("redis-server").zip(exec::find("redis-benchmark"));
    if let Some((server, client)) = redis {
        let port = free_port()?;
        let child = on_processor(0, &server)
            .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
            .args(["--save", "", "--appendonly", "no"])
            .current_dir(&bench.scratch)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("starting redis-server")?;
        let server = Ended(child);
        wait_for(port)?;
        // With one client there is nothing to overlap: on the server's own processor the rate is
        // the CPU time of both ends and of the hooks, whatever wake-ups between processors cost.
        let beside = usize::from(clients > 1);
        // As many requests as take a second or two on a small machine.
        let requests = if clients == 1 { "40000" } else { "80000" };
        return Ok(Load {
            server,
            with: if clients == 1 {
                "redis-benchmark, the server traced; both on one processor"
            } else {
                "redis-benchmark, the server traced; each on a processor of its own"
            },
            run: Box::new(move || {
                let mut command = on_processor(beside, &client);
                command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "--csv"]);
                command.args(["-t", "ping_mbulk,set,get", "-n", requests]);
                command.args(["-c", &clients.to_string()]);
                let tests = redis::parse(&exec::capture_text(&mut command)?)?;
                let lines = tests.iter();
                Ok(lines
                    .flat_map(|l| figures(&l.test, l.rps, l.p99_ms))
                    .collect())
            }),
        });
    }
    let (server, port) = own_server(bench, "echo-server")?;
    let helper = bench.helper.clone();
    Ok(Load {
        server,
        with: "own loader; redis is not installed (apt-get install redis-server redis-tools)",
        run: Box::new(move || {
            let mut client = Command::new(&helper);
            client.args(["echo-client", &port.to_string(), &clients.to_string(), "3"]);
            let report: serde_json::Value =
                serde_json::from_str(&exec::capture_text(&mut client)?)?;
            let rps = report["rps"].as_f64().context("the loader told no rate")?;
            Ok(figures(
                "64 bytes there and back",
                rps,
                report["p99_ms"].as_f64(),
            ))
        }),
    })
}

/// Requests and answers, with 50 clients and with one.
pub(crate) fn requests(bench: &Bench) -> Result<Vec<Row>> {
    let mut watches = vec![Watch::Nobody, Watch::Coalesced, Watch::Exact];
    if bpftrace::refused().is_none() {
        watches.push(Watch::Bpftrace);
    }
    let mut out = Vec::new();
    for clients in [50, 1] {
        let load = request_load(bench, clients)?;
        let all = rounds(bench, &load, &watches)?;
        out.extend(rows(&all, &load, &watches, 0.95));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_told_by_state_and_port() {
        let listener = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000";
        let connection = "   1: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000";
        assert!(listens(listener, 8080));
        assert!(!listens(listener, 8081));
        assert!(!listens(connection, 8080));
        assert!(!listens(
            "  sl  local_address rem_address   st tx_queue",
            8080
        ));
    }
}
