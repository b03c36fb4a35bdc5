//! Cost of one run of a program, case by case, by the kernel's run statistics: the same number
//! of runs of the program that is measured and of an empty one on the same tracepoint, and the
//! difference of their means. What the statistics themselves cost is in both.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sockmem::attach::{Trace, attach};
use sockmem::collect::Ring;
use sockmem_common::{SET_QUIET, Stats};

use crate::attached::options;
use crate::kernel::{self, Runs};

/// Runs in one measurement: well below what a corked segment holds, and what a 4 MiB ring does.
const BURST: usize = 20_000;
/// Measurements of each case in one attachment.
const BURSTS: usize = 3;
/// The empty program.
const EMPTY: &str = "be_empty";

/// A `work` process. Dropping it ends it.
pub(crate) struct Worker {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Worker {
    pub(crate) fn start() -> Result<Self> {
        let mut child = Command::new(std::env::current_exe().context("own path")?)
            .arg("work")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the workload")?;
        let stdin = child.stdin.take().context("stdin")?;
        let stdout = BufReader::new(child.stdout.take().context("stdout")?);
        Ok(Self {
            child,
            stdin,
            stdout,
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn tell(&mut self, command: &str) -> Result<()> {
        writeln!(self.stdin, "{command}").context("the workload is gone")?;
        let mut answer = String::new();
        self.stdout.read_line(&mut answer)?;
        ensure!(
            answer.trim() == "done",
            "the workload failed at {command:?}"
        );
        Ok(())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the programs are told to do with a change.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Exact,
    Quiet,
    Coalesced,
}

/// One case: who does what, and what the programs must have counted for each run.
struct Case {
    name: &'static str,
    mode: Mode,
    traced: bool,
    work: &'static str,
    program: &'static str,
    /// Whether another thread empties the ring meanwhile.
    reader: bool,
    /// Changes seen and records sent per run.
    seen: u64,
    sent: u64,
}

const SEND: &str = "tp_send_length";
const RECV: &str = "tp_recv_length";

const fn case(
    name: &'static str,
    mode: Mode,
    work: &'static str,
    program: &'static str,
    seen: u64,
    sent: u64,
) -> Case {
    Case {
        name,
        mode,
        traced: true,
        work,
        program,
        reader: false,
        seen,
        sent,
    }
}

const CASES: &[Case] = &[
    Case {
        traced: false,
        ..case("filtered", Mode::Exact, "changed", SEND, 0, 0)
    },
    Case {
        traced: false,
        ..case("filtered_read", Mode::Exact, "read", RECV, 0, 0)
    },
    case("unchanged", Mode::Exact, "unchanged", SEND, 0, 0),
    case("unchanged_read", Mode::Exact, "read", RECV, 0, 0),
    case("changed_quiet", Mode::Quiet, "changed", SEND, 1, 0),
    case("coalesced", Mode::Coalesced, "changed", SEND, 1, 0),
    case("event", Mode::Exact, "changed", SEND, 1, 1),
    Case {
        reader: true,
        ..case("event_reader", Mode::Exact, "changed", SEND, 1, 1)
    },
];

/// Ids of the two programs that are compared.
fn ids(trace: &Trace, program: &str) -> Result<(u32, u32)> {
    let id = |name: &str| {
        trace
            .programs()
            .iter()
            .find(|p| p.name == name)
            .and_then(|p| p.id)
            .with_context(|| format!("program {name} is not attached on this kernel"))
    };
    Ok((id(program)?, id(EMPTY)?))
}

fn counters(trace: &Trace) -> Result<Stats> {
    trace.stats().context("reading the programs' counters")
}

/// One burst: mean ns of the program and of the empty one, and what was counted.
fn burst(
    trace: &Trace,
    ring: &mut Ring,
    worker: &mut Worker,
    case: &Case,
    empty_worker: &mut Worker,
) -> Result<Value> {
    let (program, empty) = ids(trace, case.program)?;
    while ring.drain(usize::MAX, |_| {}) > 0 {}
    worker.tell("open")?;
    if case.program != SEND {
        empty_worker.tell("open")?;
    }
    let counted = counters(trace)?;
    let before = kernel::snapshot()?;
    let command = format!("{} {BURST}", case.work);
    if case.reader {
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    if ring.drain(4096, |_| {}) == 0 {
                        std::thread::sleep(Duration::from_micros(500));
                    }
                }
            });
            let told = worker.tell(&command);
            done.store(true, Ordering::Relaxed);
            told
        })?;
    } else {
        worker.tell(&command)?;
    }
    let after = kernel::snapshot()?;
    let now = counters(trace)?;
    // The empty program is on the sends' tracepoint: a read is compared with sends at once after it.
    let (empty_before, empty_after) = if case.program == SEND {
        (before.clone(), after.clone())
    } else {
        empty_worker.tell(&format!("unchanged {BURST}"))?;
        (after.clone(), kernel::snapshot()?)
    };
    let runs = |id: u32,
                b: &std::collections::BTreeMap<u32, Runs>,
                a: &std::collections::BTreeMap<u32, Runs>|
     -> Result<Runs> {
        let get = |m: &std::collections::BTreeMap<u32, Runs>| {
            m.get(&id).cloned().context("a program is gone")
        };
        Ok(get(a)?.since(&get(b)?))
    };
    let measured = runs(program, &before, &after)?;
    let nothing = runs(empty, &empty_before, &empty_after)?;
    Ok(json!({
        "case": case.name,
        "program": case.program,
        "runs": measured.count,
        "wanted_runs": BURST,
        "program_ns": measured.mean_ns(),
        "empty_ns": nothing.mean_ns(),
        "seen": now.seen - counted.seen,
        "sent": now.sent - counted.sent,
        "merged": now.merged - counted.merged,
        "dropped_ring": now.dropped_ring - counted.dropped_ring,
        "wanted_seen": case.seen * BURST as u64,
        "wanted_sent": case.sent * BURST as u64,
    }))
}

/// Runs every case of one mode.
fn attachment(mode: Mode, out: &mut Vec<Value>) -> Result<()> {
    let mut options = options();
    options.bench = true;
    options.settings.coalesce_ns = if mode == Mode::Coalesced {
        100_000_000
    } else {
        0
    };
    if mode == Mode::Quiet {
        options.settings.flags |= SET_QUIET;
    }
    let mut trace = attach(&options).context("attaching")?;
    let mut ring = Ring::new(trace.take_events().context("no ring buffer")?);
    let mut traced = Worker::start()?;
    let mut other = Worker::start()?;
    trace.add_target(traced.pid())?;
    for _ in 0..BURSTS {
        for case in CASES.iter().filter(|c| c.mode == mode) {
            let (worker, rest) = if case.traced {
                (&mut traced, &mut other)
            } else {
                (&mut other, &mut traced)
            };
            out.push(burst(&trace, &mut ring, worker, case, rest)?);
        }
    }
    Ok(())
}

/// Runs of all programs while one traced connection carries requests and answers, for the list
/// of programs; and BPF time per request.
fn listing() -> Result<Value> {
    const REQUESTS: usize = 20_000;
    let mut options = options();
    options.bench = true;
    let mut trace = attach(&options).context("attaching")?;
    let mut ring = Ring::new(trace.take_events().context("no ring buffer")?);
    let mut traced = Worker::start()?;
    trace.add_target(traced.pid())?;
    traced.tell("open")?;
    traced.tell("echo 100")?;
    let before = kernel::snapshot()?;
    let counted = counters(&trace)?;
    for _ in 0..10 {
        traced.tell(&format!("echo {}", REQUESTS / 10))?;
        while ring.drain(usize::MAX, |_| {}) > 0 {}
    }
    let after = kernel::snapshot()?;
    let now = counters(&trace)?;
    let mut programs = Vec::new();
    for program in trace.programs() {
        let Some(id) = program.id else { continue };
        let (Some(b), Some(a)) = (before.get(&id), after.get(&id)) else {
            continue;
        };
        let mut row = kernel::to_json(id, &a.since(b));
        row["name"] = json!(program.name);
        row["hook"] = json!(program.hook);
        programs.push(row);
    }
    Ok(json!({
        "requests": REQUESTS,
        "seen": now.seen - counted.seen,
        "sent": now.sent - counted.sent,
        "programs": programs,
    }))
}

/// Ids of the programs that a process holds.
fn held_by(pid: u32) -> BTreeSet<u32> {
    let mut out = BTreeSet::new();
    let entries = std::fs::read_dir(format!("/proc/{pid}/fdinfo"));
    for entry in entries.into_iter().flatten().flatten() {
        let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
        for line in text.lines() {
            if let Some(id) = line.strip_prefix("prog_id:") {
                out.extend(id.trim().parse::<u32>());
            }
        }
    }
    out
}

/// Ends a process that this one started.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The same cases with a program of somebody else's on the same tracepoint: `command` is a
/// shell line that starts it, in which `PID` stands for the traced process.
fn foreign(command: &str) -> Result<Value> {
    let mut traced = Worker::start()?;
    let mut other = Worker::start()?;
    let line = command.replace("PID", &traced.pid().to_string());
    let child = Command::new("unshare")
        .args(["--mount", "sh", "-c", &line])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("starting unshare (package util-linux)")?;
    let mut guard = Guard(child);
    let pid = guard.0.id();
    let mut held = BTreeSet::new();
    for _ in 0..100 {
        std::thread::sleep(Duration::from_millis(100));
        let now = held_by(pid);
        // All are there when the number has not grown for a while.
        if !now.is_empty() && now == held {
            break;
        }
        held = now;
        if let Some(status) = guard.0.try_wait()? {
            let mut said = String::new();
            if let Some(mut stderr) = guard.0.stderr.take() {
                std::io::Read::read_to_string(&mut stderr, &mut said)?;
            }
            anyhow::bail!("it ended with {status}: {}", said.trim());
        }
    }
    ensure!(!held.is_empty(), "it attached nothing within 10 s");
    std::thread::sleep(Duration::from_millis(500));
    let held = held_by(pid);
    let mut bursts = Vec::new();
    for _ in 0..BURSTS {
        for (name, on, work) in [
            ("filtered", false, "changed"),
            ("unchanged", true, "unchanged"),
            ("changed", true, "changed"),
        ] {
            let worker = if on { &mut traced } else { &mut other };
            worker.tell("open")?;
            let before = kernel::snapshot()?;
            worker.tell(&format!("{work} {BURST}"))?;
            let after = kernel::snapshot()?;
            // The one that ran once for each send is the one on the sends' tracepoint.
            let busiest = held
                .iter()
                .filter_map(|id| Some(after.get(id)?.since(before.get(id)?)))
                .filter(|r| r.count >= BURST as u64)
                .max_by_key(|r| r.time_ns);
            if let Some(r) = busiest {
                bursts.push(json!({"case": name, "program_ns": r.mean_ns(), "runs": r.count}));
            }
        }
    }
    traced.tell("open")?;
    traced.tell("echo 100")?;
    let before = kernel::snapshot()?;
    const REQUESTS: usize = 20_000;
    traced.tell(&format!("echo {REQUESTS}"))?;
    let after = kernel::snapshot()?;
    let programs: Vec<Value> = held
        .iter()
        .filter_map(|id| Some(kernel::to_json(*id, &after.get(id)?.since(before.get(id)?))))
        .collect();
    Ok(json!({"bursts": bursts, "requests": REQUESTS, "programs": programs}))
}

/// All cases, `rounds` times, and the list of programs. `other` see `foreign()`.
pub(crate) fn measure(rounds: usize, other: Option<&str>) -> Result<Value> {
    let _counting = kernel::counting()?;
    let mut bursts = Vec::new();
    let mut listings = Vec::new();
    let mut foreigners = Vec::new();
    let mut why = None;
    for _ in 0..rounds {
        for mode in [Mode::Exact, Mode::Quiet, Mode::Coalesced] {
            attachment(mode, &mut bursts)?;
        }
        listings.push(listing()?);
        if let (Some(line), None) = (other, &why) {
            match foreign(line) {
                Ok(done) => foreigners.push(done),
                Err(e) => why = Some(format!("{e:#}")),
            }
        }
    }
    Ok(json!({
        "bursts": bursts,
        "listings": listings,
        "foreign": foreigners,
        "foreign_refused": why,
    }))
}
