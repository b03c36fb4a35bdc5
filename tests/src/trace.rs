//! The tool under test, run as a user runs it: command line in, JSON lines out.

use std::collections::{HashSet, VecDeque};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::case::Cx;
use crate::workload::stage::Skip;

/// What the tool said.
enum Said {
    Out(String),
    Err(String),
}

/// A running `sockmem-trace live --format json`. Dropping it kills the process.
pub(crate) struct Trace {
    child: Child,
    said: Receiver<Said>,
    /// As printed: a line of thousands of sockets is parsed only if somebody asks for it, or a
    /// slow machine would parse for ever and hold it all.
    lines: VecDeque<String>,
    stderr: Vec<String>,
}

/// The last line of a trace, and how the process ended.
#[derive(Debug)]
pub(crate) struct Report {
    /// Schema `sockmem-trace/report/1`.
    pub(crate) json: Value,
    /// Exit status.
    pub(crate) status: ExitStatus,
}

/// The command with the interval and the idle time that the tests use.
pub(crate) fn live_args(cx: &Cx, pids: &[u32], extra: &[&str]) -> Vec<String> {
    let mut args: Vec<String> = ["live", "--format", "json", "--idle-after", "300ms"]
        .map(str::to_owned)
        .into();
    args.extend(["--tier".to_owned(), cx.tier_name().to_owned()]);
    if !extra.contains(&"--interval") {
        args.extend(["--interval", "200ms"].map(str::to_owned));
    }
    for pid in pids {
        args.extend(["--pid".to_owned(), pid.to_string()]);
    }
    args.extend(extra.iter().map(|s| (*s).to_owned()));
    args
}

/// Lines that are kept for who asks late.
const KEPT: usize = 32;

fn parsed(line: &str) -> Result<Value> {
    serde_json::from_str(line)
        .with_context(|| format!("the tool printed what is no JSON: {line:.200}"))
}

fn forward<R: std::io::Read + Send + 'static>(
    pipe: R,
    tx: SyncSender<Said>,
    wrap: fn(String) -> Said,
) {
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if tx.send(wrap(line)).is_err() {
                break;
            }
        }
    });
}

impl Trace {
    /// Starts the tool on `pids` and waits until it is ready.
    ///
    /// # Errors
    /// A [`Skip`] when the tool says that this tier is not available and it need not be.
    pub(crate) fn start(cx: &Cx, pids: &[u32], extra: &[&str]) -> Result<Trace> {
        let args = live_args(cx, pids, extra);
        let mut child = Command::new(&cx.tool)
            .args(&args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", cx.tool.display()))?;
        // Bounded: where nobody listens for long, the tool waits.
        let (tx, said) = sync_channel(128);
        forward(
            child.stdout.take().context("stdout")?,
            tx.clone(),
            Said::Out,
        );
        forward(child.stderr.take().context("stderr")?, tx, Said::Err);
        let mut trace = Trace {
            child,
            said,
            lines: VecDeque::new(),
            stderr: Vec::new(),
        };
        trace.wait_ready(cx)?;
        Ok(trace)
    }

    fn wait_ready(&mut self, cx: &Cx) -> Result<()> {
        loop {
            match self.said.recv_timeout(cx.left()?) {
                Ok(Said::Err(line)) => {
                    let ready = line.contains("ready");
                    self.stderr.push(line);
                    if ready {
                        return Ok(());
                    }
                }
                Ok(Said::Out(line)) => self.take(line),
                Err(RecvTimeoutError::Timeout) => {
                    bail!("time limit: the tool never got ready{}", self.why())
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.child.wait()?;
                    let why = self.why();
                    let lacking = status.code() == Some(2)
                        && why.contains(cx.tier_name())
                        && why.contains("not available");
                    // As root every host has the tracepoints; without root nothing can be traced.
                    if lacking && cx.host && !nix::unistd::geteuid().is_root() {
                        bail!(Skip(format!("tier not available{why}")));
                    }
                    bail!("the tool ended before it was ready: {status}{why}");
                }
            }
        }
    }

    /// The tool's process id.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// What the tool wrote to stderr, for an error message.
    pub(crate) fn why(&self) -> String {
        let tail: Vec<&str> = self
            .stderr
            .iter()
            .rev()
            .take(6)
            .rev()
            .map(String::as_str)
            .collect();
        if tail.is_empty() {
            String::new()
        } else {
            format!("; stderr: {}", tail.join(" | "))
        }
    }

    fn take(&mut self, line: String) {
        self.lines.push_back(line);
        // Nobody waits for lines so old; the last one of all is the report.
        while self.lines.len() > KEPT {
            self.lines.pop_front();
        }
    }

    /// Takes what has been said; with `wait` blocks for at least one thing.
    /// False when the tool has closed both pipes.
    fn listen(&mut self, wait: Option<Duration>) -> Result<bool> {
        let mut first = wait;
        loop {
            let said = match first.take() {
                Some(limit) => match self.said.recv_timeout(limit) {
                    Ok(said) => said,
                    Err(RecvTimeoutError::Timeout) => {
                        bail!("time limit: the tool printed no line{}", self.why())
                    }
                    Err(RecvTimeoutError::Disconnected) => return Ok(false),
                },
                None => match self.said.try_recv() {
                    Ok(said) => said,
                    Err(_) => return Ok(true),
                },
            };
            match said {
                Said::Out(line) => self.take(line),
                Said::Err(line) => self.stderr.push(line),
            }
        }
    }

    /// Whether the tool is still running.
    pub(crate) fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Forgets the lines that were printed so far.
    pub(crate) fn catch_up(&mut self) -> Result<()> {
        self.listen(None)?;
        self.lines.clear();
        Ok(())
    }

    /// The next line not yet seen.
    pub(crate) fn next_line(&mut self, cx: &Cx) -> Result<Value> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                return parsed(&line);
            }
            if !self.listen(Some(cx.left()?))? {
                let status = self.child.wait()?;
                bail!("the tool ended by itself: {status}{}", self.why());
            }
        }
    }

    /// A line whose readings were all taken after this call. The first line to arrive may have
    /// been under way already, so it is the second.
    pub(crate) fn fresh_line(&mut self, cx: &Cx) -> Result<Value> {
        self.catch_up()?;
        self.next_line(cx)?;
        self.next_line(cx)
    }

    /// Waits until `f` finds what it looks for in a line.
    pub(crate) fn until<T>(
        &mut self,
        cx: &Cx,
        what: &str,
        mut f: impl FnMut(&Value) -> Option<T>,
    ) -> Result<T> {
        self.catch_up()?;
        // Bounded by lines rather than by time: a slow machine prints them slowly.
        for _ in 0..25 {
            let line = self.next_line(cx)?;
            if let Some(found) = f(&line) {
                return Ok(found);
            }
        }
        bail!("25 lines, and still not: {what}{}", self.why())
    }

    /// Ends the trace as Ctrl-C does.
    pub(crate) fn finish(self, cx: &Cx) -> Result<Report> {
        kill(self.pid(), Signal::SIGINT).context("SIGINT to the tool")?;
        let report = self.wait(cx)?;
        ensure!(
            report.status.code() == Some(0),
            "after SIGINT the tool ended with {}",
            report.status
        );
        Ok(report)
    }

    /// Waits for the trace to end by itself.
    pub(crate) fn wait(mut self, cx: &Cx) -> Result<Report> {
        let mut last = None;
        loop {
            let open = self.listen(Some(cx.left()?))?;
            last = self.lines.drain(..).next_back().or(last);
            if !open {
                break;
            }
        }
        let status = wait_within(&mut self.child, cx)?;
        let last = last.with_context(|| format!("no report line; {status}{}", self.why()))?;
        let json = parsed(&last)?;
        ensure!(
            json["schema"] == "sockmem-trace/report/1",
            "the last line has schema {}; {status}{}",
            json["schema"],
            self.why()
        );
        Ok(Report { json, status })
    }

    /// Kills the tool at once.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.child.kill().context("SIGKILL to the tool")?;
        self.child.wait().map(drop).context("wait for the tool")
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        // Both fail only when the process has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for a child within the test's time.
pub(crate) fn wait_within(child: &mut Child, cx: &Cx) -> Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        cx.left()?;
        thread::sleep(Duration::from_millis(10));
    }
}

/// Runs the tool to its end: status, stdout, stderr.
pub(crate) fn run(
    cx: &Cx,
    args: &[&str],
    adjust: impl FnOnce(&mut Command),
) -> Result<(ExitStatus, String, String)> {
    let mut command = Command::new(&cx.tool);
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    adjust(&mut command);
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start {}", cx.tool.display()))?;
    let read = |pipe: Option<Box<dyn std::io::Read + Send>>| {
        thread::spawn(move || {
            let mut text = String::new();
            if let Some(mut pipe) = pipe {
                // What is no UTF-8 ends the text here and fails the test that reads it.
                let _ = pipe.read_to_string(&mut text);
            }
            text
        })
    };
    let out = read(child.stdout.take().map(|p| Box::new(p) as _));
    let err = read(child.stderr.take().map(|p| Box::new(p) as _));
    let status = match wait_within(&mut child, cx) {
        Ok(status) => status,
        Err(e) => {
            child.kill()?;
            child.wait()?;
            return Err(e.context(format!("sockmem-trace {}", args.join(" "))));
        }
    };
    let text = |t: thread::JoinHandle<String>| t.join().map_err(|_| anyhow!("reader panicked"));
    Ok((status, text(out)?, text(err)?))
}

/// The sockets of a line or report.
pub(crate) fn sockets(json: &Value) -> Result<&Vec<Value>> {
    json["sockets"]
        .as_array()
        .context("the line has no \"sockets\"")
}

/// The socket with this cookie.
pub(crate) fn by_cookie(json: &Value, cookie: u64) -> Option<&Value> {
    json["sockets"]
        .as_array()?
        .iter()
        .find(|s| s["cookie"].as_u64() == Some(cookie))
}

/// The cookies of a line's sockets.
pub(crate) fn cookies(json: &Value) -> Result<HashSet<u64>> {
    let all = sockets(json)?.iter();
    Ok(all.filter_map(|s| s["cookie"].as_u64()).collect())
}

/// A number of a socket or report.
pub(crate) fn number(json: &Value, name: &str) -> Result<i64> {
    json[name]
        .as_i64()
        .with_context(|| format!("{name:?} is {} and not a number", json[name]))
}
