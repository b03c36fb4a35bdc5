//! Recordings: what they hold, and how they end.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use sockmem::model::{Model, View};
use sockmem::recording::{Ending, Header, Reader, Summary, read_all};
use sockmem::sinks::{HostFacts, json};

use super::{Case, Cx, EVERY, ONCE, Place, case};
use crate::actor::Actor;
use crate::trace::{self, Trace};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("record_is_live", EVERY, is_live),
        case("record_exact_is_live", ONCE, exact_is_live),
        case("record_command", EVERY, command),
        case("record_command_killed", ONCE, command_killed),
        case("record_command_missing", ONCE, command_missing),
        case("record_sigkill", ONCE, sigkill),
        case("record_to_pipe", ONCE, to_pipe),
        case("record_file", ONCE, file),
        case("record_no_room", ONCE, no_room),
        Case {
            place: Place::Vm,
            ..case("record_full_disk", ONCE, full_disk)
        },
    ]
}

/// A folder of its own, gone when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Result<Folder> {
        let path = std::env::temp_dir().join(format!("sockmem-{name}-{}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(Folder(path))
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_string_lossy().into_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A recording as a model of it sees it.
struct Read {
    header: Header,
    summary: Summary,
    view: View,
}

fn read(from: impl std::io::Read) -> Result<Read> {
    let mut reader = Reader::open(from)?;
    let header = reader.header().clone();
    let mut model = Model::new(header.config());
    let summary = read_all(&mut reader, &mut model)?;
    let end = summary.end_mono_ns;
    let view = model.view(end, header.unix_ns(end));
    Ok(Read {
        header,
        summary,
        view,
    })
}

fn read_file(path: &str) -> Result<Read> {
    read(File::open(path).with_context(|| path.to_owned())?).with_context(|| path.to_owned())
}

impl Read {
    /// The report that a live trace would print last.
    fn report(&self) -> Result<Value> {
        let h = &self.header.host;
        let host = HostFacts {
            kernel: h.kernel.clone(),
            hostname: h.hostname.clone(),
            boot_id: h.boot_id.clone(),
            page_size: h.page_size,
            cpus: h.cpus.unwrap_or(0),
        };
        Ok(serde_json::from_str(&json::report_line(&self.view, &host))?)
    }

    fn is_clean(&self) -> bool {
        matches!(self.summary.ending, Ending::Clean { .. })
    }
}

/// The members in which two documents differ.
fn differences(a: &Value, b: &Value) -> Vec<String> {
    let empty = serde_json::Map::new();
    let members = |v: &Value| v.as_object().unwrap_or(&empty).clone();
    let (a, b) = (members(a), members(b));
    a.keys()
        .chain(b.keys())
        .filter(|k| a.get(*k) != b.get(*k))
        .map(|k| {
            format!(
                "{k}: {:.200} / {:.200}",
                a.get(k).unwrap_or(&Value::Null).to_string(),
                b.get(k).unwrap_or(&Value::Null).to_string()
            )
        })
        .collect()
}

fn same_as_live(cx: &Cx, workload: &str, phases: usize, extra: &[&str]) -> Result<()> {
    let folder = Folder::new("same")?;
    let path = folder.path("a.smt");
    let mut actor = Actor::start(cx, workload)?;
    let mut args = vec!["--record", &path, "--follow"];
    args.extend(extra);
    let mut trace = Trace::start(cx, &[actor.pid()], &args)?;
    for _ in 0..phases {
        trace.fresh_line(cx)?;
        if actor.at.end {
            break;
        }
        actor.step(cx)?;
    }
    trace.fresh_line(cx)?;
    let live = trace.finish(cx)?.json;
    let recorded = read_file(&path)?;
    ensure!(recorded.is_clean(), "{:?}", recorded.summary.ending);
    ensure!(
        recorded.summary.counts.events > 10,
        "{:?}",
        recorded.summary.counts
    );
    let report = recorded.report()?;
    ensure!(
        report == live,
        "live and recording differ: {}",
        differences(&live, &report).join("; ")
    );
    ensure!(
        recorded.header.target.contains("pid"),
        "{}",
        recorded.header.target
    );
    Ok(())
}

fn is_live(cx: &Cx) -> Result<()> {
    same_as_live(cx, "many", 3, &[])
}

fn exact_is_live(cx: &Cx) -> Result<()> {
    same_as_live(cx, "churn", 1, &["--exact"])
}

/// Arguments of a `record`, with the interval of these tests.
fn record_args<'a>(cx: &'a Cx, path: &'a str) -> Vec<&'a str> {
    vec![
        "record",
        "-o",
        path,
        "--tier",
        cx.tier_name(),
        "--interval",
        "200ms",
        "--idle-after",
        "300ms",
    ]
}

/// Records this program's `command` with the given end.
fn record_command(cx: &Cx, path: &str, end: &[&str]) -> Result<(Option<i32>, String)> {
    let me = std::env::current_exe()?.to_string_lossy().into_owned();
    let mut args = record_args(cx, path);
    args.extend(["--exact", "--", &me, "command"]);
    args.extend(end);
    let (status, out, err) = trace::run(cx, &args, |_| {})?;
    ensure!(out.is_empty(), "stdout is the command's: {out}");
    Ok((status.code(), err))
}

fn command(cx: &Cx) -> Result<()> {
    let folder = Folder::new("command")?;
    let path = folder.path("it's a.smt");
    let (status, err) = record_command(cx, &path, &["exit", "7"])?;
    ensure!(status == Some(7), "status {status:?}: {err}");
    ensure!(
        err.contains("next: sockmem-trace report '") && err.contains(r"it'\''s a.smt'"),
        "{err}"
    );
    let recorded = read_file(&path)?;
    ensure!(recorded.is_clean(), "{:?}", recorded.summary.ending);
    let words = recorded.header.command.clone().unwrap_or_default();
    ensure!(
        words.ends_with(&["command".into(), "exit".into(), "7".into()]),
        "{words:?}"
    );
    // A listener, two ends and their process; and the same of the child.
    let all: Vec<_> = recorded
        .view
        .sockets
        .iter()
        .chain(&recorded.view.closed)
        .collect();
    let mut pids: Vec<u32> = all.iter().filter_map(|s| s.owner.pid).collect();
    pids.sort_unstable();
    pids.dedup();
    ensure!(
        all.len() >= 6 && pids.len() == 2,
        "{} sockets of {pids:?}",
        all.len()
    );
    // From its first socket on: nothing was there before the trace.
    for s in &all {
        ensure!(
            s.first_seen_ns >= recorded.header.start_mono_ns,
            "{} is older than the trace",
            s.local
        );
    }
    let unread = all.iter().map(|s| s.resident_peak_bytes).max().unwrap_or(0);
    ensure!(unread >= crate::command::UNREAD as u64, "peak {unread}");
    // It is known by its own name, not by that of what started it.
    let comm = recorded
        .view
        .groups
        .iter()
        .find_map(|g| g.owner.comm.clone());
    ensure!(
        comm.as_deref()
            .is_some_and(|c| c.starts_with("sockmem-e2e")),
        "{comm:?}"
    );
    Ok(())
}

fn command_killed(cx: &Cx) -> Result<()> {
    let folder = Folder::new("killed")?;
    let path = folder.path("a.smt");
    let (status, err) = record_command(cx, &path, &["kill"])?;
    ensure!(status == Some(128 + 9), "status {status:?}: {err}");
    ensure!(read_file(&path)?.is_clean());
    Ok(())
}

fn command_missing(cx: &Cx) -> Result<()> {
    let folder = Folder::new("missing")?;
    let path = folder.path("a.smt");
    let mut args = record_args(cx, &path);
    args.extend(["--", "/nonexistent/program"]);
    let (status, _, err) = trace::run(cx, &args, |_| {})?;
    ensure!(status.code() == Some(2), "{status}: {err}");
    ensure!(err.contains("/nonexistent/program cannot be run"), "{err}");
    Ok(())
}

/// A recorder that runs. Dropping it kills it.
struct Recorder(Child);

impl Recorder {
    fn start(cx: &Cx, path: &str, pid: u32) -> Result<Recorder> {
        let pid = pid.to_string();
        let mut args = record_args(cx, path);
        args.extend(["--exact", "--pid", &pid]);
        let child = Command::new(&cx.tool)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("starting the recorder")?;
        Ok(Recorder(child))
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(Pid::from_raw(self.0.id().cast_signed()), signal)?)
    }

    /// Waits until the file holds what `enough` asks for.
    fn until(&mut self, cx: &Cx, path: &str, enough: impl Fn(&Read) -> bool) -> Result<Read> {
        loop {
            if let Some(status) = self.0.try_wait()? {
                let mut why = String::new();
                if let Some(mut err) = self.0.stderr.take() {
                    err.read_to_string(&mut why)?;
                }
                bail!("the recorder ended by itself: {status}: {why}");
            }
            // Before its head is written there is no recording.
            if Path::new(path).exists()
                && let Ok(read) = read_file(path)
                && enough(&read)
            {
                return Ok(read);
            }
            cx.left()?;
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn sigkill(cx: &Cx) -> Result<()> {
    let folder = Folder::new("sigkill")?;
    let path = folder.path("a.smt");
    let mut actor = Actor::start(cx, "pingpong")?;
    let mut recorder = Recorder::start(cx, &path, actor.pid())?;
    recorder.until(cx, &path, |_| true)?;
    actor.step(cx)?;
    // While it is written it reads up to what is about a second old.
    let before = recorder.until(cx, &path, |r| r.summary.counts.events > 20)?;
    ensure!(!before.is_clean(), "it is not closed while it is written");
    recorder.signal(Signal::SIGKILL)?;
    recorder.0.wait()?;
    let after = read_file(&path)?;
    let Ending::Truncated {
        why,
        lost_after_ns,
        bytes,
    } = &after.summary.ending
    else {
        bail!("{:?}", after.summary.ending);
    };
    ensure!(after.summary.counts.events >= before.summary.counts.events);
    ensure!(*lost_after_ns >= before.summary.end_mono_ns, "{why}");
    ensure!(*bytes <= fs::metadata(&path)?.len());
    ensure!(!after.view.sockets.is_empty());
    Ok(())
}

fn to_pipe(cx: &Cx) -> Result<()> {
    let mut actor = Actor::start(cx, "pingpong")?;
    let mut recorder = Recorder::start(cx, "-", actor.pid())?;
    let mut out = recorder.0.stdout.take().context("stdout")?;
    // The head comes at once: then it runs.
    let mut bytes = vec![0; 12];
    out.read_exact(&mut bytes)?;
    actor.step(cx)?;
    recorder.signal(Signal::SIGTERM)?;
    out.read_to_end(&mut bytes)?;
    let status = trace::wait_within(&mut recorder.0, cx)?;
    ensure!(status.code() == Some(0), "{status}");
    let recorded = read(bytes.as_slice())?;
    ensure!(recorded.is_clean(), "{:?}", recorded.summary.ending);
    ensure!(recorded.summary.counts.bytes > 0 && !recorded.view.sockets.is_empty());
    // A reader that goes away ends it, and is no error.
    let mut recorder = Recorder::start(cx, "-", actor.pid())?;
    let mut out = recorder.0.stdout.take().context("stdout")?;
    out.read_exact(&mut [0; 12])?;
    drop(out);
    let status = trace::wait_within(&mut recorder.0, cx)?;
    ensure!(status.code() == Some(0), "after its reader went: {status}");
    Ok(())
}

fn file(cx: &Cx) -> Result<()> {
    let folder = Folder::new("file")?;
    let path = folder.path("a.smt");
    let pid = std::process::id().to_string();
    let run = |extra: &[&str]| {
        let mut args = record_args(cx, &path);
        args.extend(["--pid", &pid, "--duration", "100ms"]);
        args.extend(extra);
        trace::run(cx, &args, |c| {
            c.env("SUDO_UID", "12345").env("SUDO_GID", "54321");
        })
    };
    let (status, out, err) = run(&[])?;
    ensure!(
        status.code() == Some(0) && out.is_empty(),
        "{status}: {err}"
    );
    let made = fs::metadata(&path)?;
    ensure!(made.mode() & 0o7777 == 0o600, "mode {:o}", made.mode());
    ensure!(
        (made.uid(), made.gid()) == (12345, 54321),
        "{}:{}",
        made.uid(),
        made.gid()
    );
    let before = fs::read(&path)?;
    let (status, _, err) = run(&[])?;
    ensure!(
        status.code() == Some(2) && err.contains("--force"),
        "{status}: {err}"
    );
    ensure!(fs::read(&path)? == before, "it was written to");
    let (status, _, err) = run(&["--force"])?;
    ensure!(status.code() == Some(0), "{status}: {err}");
    // Another trace, begun later.
    ensure!(fs::read(&path)? != before && read_file(&path)?.is_clean());
    Ok(())
}

/// A disk that is full from the start.
fn no_room(cx: &Cx) -> Result<()> {
    let pid = std::process::id().to_string();
    let mut args = record_args(cx, "-");
    args.extend(["--pid", &pid, "--duration", "5s"]);
    let full = File::options().write(true).open("/dev/full")?;
    let (status, _, err) = trace::run(cx, &args, |c| {
        c.stdout(full);
    })?;
    ensure!(
        status.code() == Some(2) && err.contains("writing the recording"),
        "{status}: {err}"
    );
    Ok(())
}

/// A disk that fills up.
fn full_disk(cx: &Cx) -> Result<()> {
    let folder = Folder::new("full")?;
    mount(
        Some("tmpfs"),
        &folder.0,
        Some("tmpfs"),
        MsFlags::empty(),
        Some("size=64k"),
    )
    .context("mounting a small disk")?;
    let outcome = (|| {
        let path = folder.path("a.smt");
        let mut actor = Actor::start(cx, "churn")?;
        let mut recorder = Recorder::start(cx, &path, actor.pid())?;
        recorder.until(cx, &path, |_| true)?;
        // Thousands of connections do not fit.
        actor.send("step")?;
        let status = trace::wait_within(&mut recorder.0, cx)?;
        let mut err = String::new();
        recorder
            .0
            .stderr
            .take()
            .context("stderr")?
            .read_to_string(&mut err)?;
        ensure!(status.code() == Some(2), "{status}: {err}");
        ensure!(
            err.contains("the disk is full") && err.contains("sockmem-trace report"),
            "{err}"
        );
        let mut file = File::open(&path)?;
        ensure!(
            file.seek(std::io::SeekFrom::End(0))? > 10_000,
            "nothing was written"
        );
        let recorded = read_file(&path)?;
        ensure!(
            !recorded.is_clean() && recorded.summary.counts.events > 100,
            "{:?}",
            recorded.summary
        );
        actor
            .receive(cx)
            .map(drop)
            .context("the traced process suffered")
    })();
    umount2(&folder.0, MntFlags::MNT_DETACH).context("unmounting it")?;
    outcome
}
