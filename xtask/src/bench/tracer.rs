//! The tool at work beside a load, and what it costs itself.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::Bench;

/// How long attaching and ending may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running `sockmem-trace live`. Dropping it kills the process.
pub(crate) struct Tracer {
    child: Child,
    /// Its JSON lines go to a file: reading them is no part of what is measured.
    output: PathBuf,
}

/// What the last line of a trace says.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Loss {
    /// Changes that the programs saw.
    pub(crate) seen: u64,
    /// Changes that did not fit into the ring.
    pub(crate) dropped: u64,
}

impl Tracer {
    /// Traces process `pid` and waits until it does.
    ///
    /// # Errors
    /// When the tool refuses; the error carries what it says.
    pub(crate) fn start(bench: &Bench, pid: u32, extra: &[&str]) -> Result<Self> {
        let output = bench.scratch.join("trace.json");
        let file = File::create(&output).with_context(|| output.display().to_string())?;
        let mut command = Command::new(&bench.tool);
        command
            .args(["live", "--format", "json", "--pid", &pid.to_string()])
            .args(extra)
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(Stdio::piped());
        bench.with_object(&mut command);
        let mut child = command.spawn().context("starting sockmem-trace")?;
        let stderr = child.stderr.take().context("stderr")?;
        let mut tracer = Self { child, output };
        let (tell, told) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                // Nobody listens once it is ready.
                let _ = tell.send(line);
            }
        });
        tracer.wait_ready(&told)?;
        Ok(tracer)
    }

    fn wait_ready(&mut self, told: &Receiver<String>) -> Result<()> {
        let mut said = Vec::new();
        let until = Instant::now() + PATIENCE;
        while let Ok(line) = told.recv_timeout(until.saturating_duration_since(Instant::now())) {
            if line.contains("(ready)") {
                return Ok(());
            }
            said.push(line);
        }
        bail!("sockmem-trace did not get ready: {}", said.join(" | "))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Time on a processor so far.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        cpu(self.pid())
    }

    /// Ends it as Ctrl-C does.
    ///
    /// # Errors
    /// When it does not end well.
    pub(crate) fn finish(mut self) -> Result<Loss> {
        let pid = self.pid().to_string();
        crate::exec::run(Command::new("kill").args(["-INT", &pid]))?;
        let until = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if Instant::now() > until {
                bail!("sockmem-trace did not end within {PATIENCE:?}");
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        if !status.success() {
            bail!("sockmem-trace ended with {status}");
        }
        let text = std::fs::read_to_string(&self.output).context("the trace's lines")?;
        let last = text
            .lines()
            .next_back()
            .context("the trace printed nothing")?;
        let report: Value = serde_json::from_str(last).context("the trace's report")?;
        let count = |name: &str| report["loss"][name].as_u64().unwrap_or(0);
        Ok(Loss {
            seen: count("seen"),
            dropped: count("dropped_ring") + count("dropped_map"),
        })
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Time that all threads of a process have spent on a processor (`schedstat`, its first number).
///
/// # Errors
/// When the process has ended.
pub(crate) fn cpu(pid: u32) -> Result<Duration> {
    let folder = format!("/proc/{pid}/task");
    let mut sum = 0;
    for thread in std::fs::read_dir(&folder).with_context(|| folder.clone())? {
        // A thread may end meanwhile.
        let text = std::fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
        sum += text
            .split_whitespace()
            .next()
            .and_then(|n| n.parse::<u64>().ok())
            .unwrap_or(0);
    }
    Ok(Duration::from_nanos(sum))
}

/// A child that is killed when it is dropped.
pub(crate) struct Ended(pub(crate) Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
