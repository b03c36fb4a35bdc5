//! Recordings compared: limits that were lowered early, late and too late, and not at all.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::{Case, Cx, ONCE, case};
use crate::actor::Actor;
use crate::trace;

/// Repeats without a difference, and how many of them may be called one.
const REPEATS: usize = 20;
const WRONG: usize = 1;

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("diff_listener", ONCE, listener),
        case("diff_accepted", ONCE, accepted),
        case("diff_queued", ONCE, queued),
        case("diff_nothing", ONCE, nothing).longer(4),
        case("check_limits", ONCE, check_limits),
    ]
}

/// A folder that goes when the test is over.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Scratch> {
        let path = std::env::temp_dir().join(format!("sockmem-e2e-{}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        Ok(Scratch(path))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.smt"))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is a few kilobytes in a temporary folder.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running `sockmem-trace record`. Dropping it kills the process.
struct Recorder {
    child: Child,
}

impl Recorder {
    fn start(cx: &Cx, pid: u32, file: &Path) -> Result<Recorder> {
        let mut child = Command::new(&cx.tool)
            .args(["record", "--exact", "--force"])
            .args(["--idle-after", "200ms", "--interval", "200ms"])
            .args(["--tier", cx.tier_name(), "--pid", &pid.to_string(), "-o"])
            .arg(file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", cx.tool.display()))?;
        let mut stderr = BufReader::new(child.stderr.take().context("stderr")?);
        let mut said = String::new();
        loop {
            let from = said.len();
            if stderr.read_line(&mut said)? == 0 {
                let status = child.wait()?;
                bail!("the recorder ended before it was ready: {status}; {said}");
            }
            if said[from..].contains("ready") {
                break;
            }
        }
        // Its pipe must not fill up.
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).for_each(drop));
        Ok(Recorder { child })
    }

    /// Ends the recording as Ctrl-C does.
    fn finish(mut self, cx: &Cx) -> Result<()> {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGINT)?;
        let status = trace::wait_within(&mut self.child, cx)?;
        ensure!(status.code() == Some(0), "the recorder ended with {status}");
        Ok(())
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // Both fail only when the process has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sum of what the kernel holds for the actor's connections now.
fn held(cx: &Cx, actor: &mut Actor) -> Result<i64> {
    let readings = actor.report(cx)?;
    let servers = readings.iter().filter(|r| r.label.starts_with("server."));
    Ok(servers.map(|r| r.mem.resident()).sum())
}

/// Records a workload from one phase to another. Returns what the kernel held at `full`.
fn record(
    cx: &Cx,
    workload: &str,
    (from, full, to): (&str, &str, &str),
    file: &Path,
) -> Result<i64> {
    let mut actor = Actor::start(cx, workload)?;
    actor.step_to(cx, from)?;
    let recorder = Recorder::start(cx, actor.pid(), file)?;
    actor.step_to(cx, full)?;
    let truth = held(cx, &mut actor)?;
    actor.step_to(cx, to)?;
    recorder.finish(cx)?;
    Ok(truth)
}

const FIRST: (&str, &str, &str) = ("connected", "held", "read");

/// Runs the tool on recordings; status and stdout.
fn tool(cx: &Cx, args: &[&str]) -> Result<(Option<i32>, String)> {
    let (status, out, err) = trace::run(cx, args, |_| {})?;
    ensure!(
        !err.contains("panicked"),
        "sockmem-trace {}: {err}",
        args.join(" ")
    );
    Ok((status.code(), if out.is_empty() { err } else { out }))
}

fn diff(cx: &Cx, base: &Path, new: &Path) -> Result<Value> {
    let (base, new) = (base.to_string_lossy(), new.to_string_lossy());
    let (status, out) = tool(cx, &["diff", &base, &new, "--format", "json"])?;
    ensure!(status == Some(0), "diff ended with {status:?}: {out}");
    serde_json::from_str(&out).with_context(|| format!("no JSON: {out:.300}"))
}

fn expect(diff: &Value, answer: &str) -> Result<()> {
    ensure!(
        diff["verdict"]["answer"] == answer,
        "the answer is {}, not {answer:?}; load {}; metrics {}",
        diff["verdict"],
        diff["load"],
        diff["metrics"]
    );
    Ok(())
}

fn metric<'a>(diff: &'a Value, name: &str) -> Result<&'a Value> {
    let all = diff["metrics"].as_array().context("no metrics")?;
    all.iter()
        .find(|m| m["name"] == name)
        .with_context(|| format!("no metric {name}"))
}

/// The peak of all sockets in both, against what the kernel said while the data was held.
fn peaks(diff: &Value, truth: (i64, i64)) -> Result<f64> {
    let peak = metric(diff, "resident_peak_bytes")?;
    for (side, truth) in [("base", truth.0), ("new", truth.1)] {
        let seen = trace::number(peak, side)?;
        // While it came in a bit more may have been held than when all stood still.
        ensure!(
            seen >= truth && seen <= truth + truth / 4 + 65_536,
            "the peak of {side} is {seen}, the kernel held {truth} for a second"
        );
    }
    peak["ratio"].as_f64().context("no ratio")
}

/// Records both workloads and compares them.
fn compared(
    cx: &Cx,
    new: &str,
    phases: (&str, &str, &str),
    scratch: &Scratch,
) -> Result<(Value, (i64, i64))> {
    let (a, b) = (scratch.file("never"), scratch.file(new));
    let before = record(cx, "limit-never", phases, &a)?;
    let after = record(cx, new, phases, &b)?;
    Ok((diff(cx, &a, &b)?, (before, after)))
}

/// Set on the listener: connections are born with it, and hold less.
fn listener(cx: &Cx) -> Result<()> {
    let scratch = Scratch::new()?;
    let (d, truth) = compared(cx, "limit-listener", FIRST, &scratch)?;
    expect(&d, "reduced")?;
    let ratio = peaks(&d, truth)?;
    ensure!(
        ratio < 0.4,
        "lowered to an eighth, and {ratio} of it is held"
    );
    let connection = metric(&d, "connection_peak_p50_bytes")?;
    ensure!(
        connection["changed"] == true && connection["ratio"].as_f64() < Some(0.4),
        "a connection's peak: {connection}"
    );
    // The load is the same: so many bytes, whoever holds them.
    let (base, new) = (&d["base"]["payload_bytes"], &d["new"]["payload_bytes"]);
    ensure!(
        base == new && base.as_u64() == Some(12 * 160 * 1024),
        "payload {base} and {new}"
    );
    ensure!(
        d["by_listener"].as_array().is_some_and(|l| l.len() == 2),
        "each run has a listener of its own port: {}",
        d["by_listener"]
    );
    Ok(())
}

/// Set after accept: the true effect, which is smaller.
fn accepted(cx: &Cx) -> Result<()> {
    let scratch = Scratch::new()?;
    let (d, truth) = compared(cx, "limit-accepted", FIRST, &scratch)?;
    let ratio = peaks(&d, truth)?;
    let file = scratch.file("listener");
    let early = record(cx, "limit-listener", FIRST, &file)?;
    ensure!(
        truth.1 > early + early / 2,
        "set after accept {} is held, at the listener {early}",
        truth.1
    );
    // How much it helps differs between kernels; what is told must be what it is.
    let true_ratio = truth.1 as f64 / truth.0 as f64;
    ensure!(
        (ratio - true_ratio).abs() < 0.1,
        "told {ratio}, true is {true_ratio}"
    );
    expect(
        &d,
        if true_ratio < 0.9 {
            "reduced"
        } else {
            "no-change"
        },
    )
}

/// Set while data is queued: nothing, until that is read and comes again.
fn queued(cx: &Cx) -> Result<()> {
    let scratch = Scratch::new()?;
    let (d, truth) = compared(cx, "limit-queued", ("connected", "held", "held"), &scratch)?;
    ensure!(
        truth.1 * 10 >= truth.0 * 9,
        "the kernel threw queued data away: {truth:?}"
    );
    expect(&d, "no-change")?;
    let again = ("read", "held-again", "read-again");
    let (d, truth) = compared(cx, "limit-queued", again, &scratch)?;
    expect(&d, "reduced")?;
    peaks(&d, truth).map(drop)
}

/// Nothing is changed, again and again.
fn nothing(cx: &Cx) -> Result<()> {
    let scratch = Scratch::new()?;
    let mut last = scratch.file("0");
    record(cx, "limit-short", FIRST, &last)?;
    let mut wrong = Vec::new();
    for at in 1..=REPEATS {
        let next = scratch.file(&at.to_string());
        record(cx, "limit-short", FIRST, &next)?;
        let d = diff(cx, &last, &next)?;
        if let Err(e) = expect(&d, "no-change") {
            wrong.push(format!("repeat {at}: {e:#}"));
        }
        std::fs::remove_file(&last)?;
        last = next;
    }
    ensure!(
        wrong.len() <= WRONG,
        "{} of {REPEATS}: {}",
        wrong.len(),
        wrong.join("; ")
    );
    Ok(())
}

/// `check` and `report` on a recording: exit status, the limit, its value, the sockets behind it.
fn check_limits(cx: &Cx) -> Result<()> {
    let scratch = Scratch::new()?;
    let file = scratch.file("checked");
    let truth = record(cx, "limit-short", FIRST, &file)?;
    let path = file.to_string_lossy();
    let check = |extra: &[&str]| {
        let mut args = vec!["check", path.as_ref()];
        args.extend(extra);
        tool(cx, &args)
    };
    let (status, out) = check(&["--max-resident", "1GiB", "--max-loss", "0%"])?;
    ensure!(
        status == Some(0) && out.contains("PASSED"),
        "{status:?}: {out}"
    );
    let limit = (truth - 1).to_string();
    let (status, out) = check(&["--max-resident", &limit, "--format", "json"])?;
    ensure!(status == Some(1), "{status:?}: {out}");
    let json: Value = serde_json::from_str(&out)?;
    let judged = &json["limits"][0];
    ensure!(
        judged["name"] == "max-resident" && trace::number(judged, "actual")? >= truth,
        "{judged}"
    );
    ensure!(
        judged["sockets"].as_array().is_some_and(|s| s.len() == 5),
        "the sockets behind it: {judged}"
    );
    let (status, out) = check(&["--max-peak-per-socket", "4KiB", "--format", "junit"])?;
    ensure!(
        status == Some(1) && out.contains("<failure ") && out.contains("failures=\"1\""),
        "{status:?}: {out}"
    );
    // Compared with itself nothing has increased.
    let (status, out) = check(&["--baseline", &path, "--max-increase", "1%"])?;
    ensure!(status == Some(0), "{status:?}: {out}");
    let (status, out) = tool(cx, &["report", &path])?;
    ensure!(
        status == Some(0) && out.starts_with("ANSWER: ") && out.contains("it is complete"),
        "{status:?}: {out}"
    );
    // The first half of it is still a recording, and says what is missing.
    let half = scratch.file("half");
    let bytes = std::fs::read(&file)?;
    std::fs::write(&half, &bytes[..bytes.len() / 2])?;
    let (status, out) = tool(cx, &["report", &half.to_string_lossy()])?;
    ensure!(
        status == Some(0) && out.contains("truncated"),
        "half of {} bytes: {status:?}: {out}",
        bytes.len()
    );
    std::fs::write(&half, b"not a recording")?;
    for args in [
        vec!["report", "/no/such/file"],
        vec!["check", "/no/such/file", "--max-loss", "0"],
    ] {
        let (status, out) = tool(cx, &args)?;
        ensure!(status == Some(2), "{args:?}: {status:?}: {out}");
    }
    let (status, out) = tool(cx, &["diff", &path, &half.to_string_lossy()])?;
    ensure!(
        status == Some(2) && out.contains("not a recording"),
        "{status:?}: {out}"
    );
    Ok(())
}
