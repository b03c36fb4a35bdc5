//! `record`: a trace into a file.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Args;

use super::args::TraceArgs;
use super::exit::Exit;
use super::session::{Maker, RecordingFailed, Session, Taps};
use super::trace::{self, Job, Over, Sink};
use crate::host::gate::Gate;
use crate::host::newfile;
use crate::recording::{Counts, Header, Writer};
use crate::sinks::escape::escape;
use crate::sinks::text;

/// How often a line of progress is printed where it cannot be rewritten in place.
const SELDOM: Duration = Duration::from_secs(10);

pub(super) const USAGE: &str = "sockmem-trace record TARGET -o FILE [OPTIONS]\n       \
    sockmem-trace record -o FILE [OPTIONS] -- COMMAND [ARGS]...";

pub(super) const SHORT_EXAMPLES: &str = "\
Example: sudo sockmem-trace record --pid 4242 -o before.smt --duration 60s
--help says more.";

pub(super) const NOTES: &str = "\
Examples:
  sudo sockmem-trace record --pid 4242 -o a.smt --duration 60s   one process, for a minute
  sudo sockmem-trace record -o a.smt -- ./load-test --fast        a command, from its first socket
  ssh root@small sockmem-trace record --all -o - > small.smt      onto another machine

COMMAND and its children are traced. The recording ends with COMMAND, whose exit status is passed
on (128 and the signal's number if it was killed). It runs as the user that this runs as: with sudo,
as root. SIGINT and SIGTERM are passed on to it; a second one ends the recording at once.
FILE is made with mode 0600 and, under sudo, belongs to the user who called it: names, addresses
and command lines of processes are in it. docs/FORMAT.md describes it.
Exit status: 0 done, also after Ctrl-C; 2 wrong usage, a host that cannot do it, or a full disk.";

/// Arguments of `record`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct RecordArgs {
    /// What is traced and how.
    #[command(flatten)]
    pub trace: TraceArgs,
    /// The file to write; `-` is stdout
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    pub output: PathBuf,
    /// Replaces FILE if it exists
    #[arg(long, help_heading = "Output")]
    pub force: bool,
    /// More about what the tool does, on stderr; twice for even more
    #[arg(short, long, action = clap::ArgAction::Count, help_heading = "Output")]
    pub verbose: u8,
    /// A command to run and trace, with its children, from its first socket on
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// Records until it is interrupted, its time is up, or its processes have ended.
pub(super) fn run(args: &RecordArgs) -> anyhow::Result<Exit> {
    trace::check(&args.trace)?;
    let words: Vec<String> = args
        .command
        .iter()
        .map(|a| a.to_string_lossy().into_owned())
        .collect();
    let target = target(args, &words);
    let command = (!words.is_empty()).then_some(words);
    let maker = maker(&args.output, args.force, &target, command)?;
    // Before anything starts a thread.
    let gate = if args.command.is_empty() {
        None
    } else {
        Some(Gate::new(&args.command)?)
    };
    let job = Job {
        args: &args.trace,
        verbose: args.verbose,
        command: gate,
        target,
    };
    let taps = Taps {
        model: false,
        recorder: Some(maker),
    };
    let mut progress = Progress::new();
    let result = trace::run(job, taps, &mut progress).and_then(|mut over| {
        let counts = over
            .session
            .close_recording(over.end_ns)?
            .unwrap_or_default();
        Ok((over, counts))
    });
    progress.clear();
    let (over, counts) = match result {
        Ok(done) => done,
        Err(e) => return Err(explain(e, &args.output)),
    };
    let Over {
        session,
        command,
        running,
        ..
    } = over;
    let loss = session.loss().dropped_ring;
    drop(session);
    eprintln!("sockmem-trace: recorded {}", words_of(&counts, loss));
    if args.output != Path::new("-") {
        let shown = escape(&args.output.to_string_lossy(), false).into_owned();
        eprintln!(
            "sockmem-trace: next: sockmem-trace report {}",
            quoted(&shown)
        );
    }
    if let Some(mut command) = running {
        eprintln!(
            "sockmem-trace: the recording is closed; the command still runs (pid {})",
            command.pid()
        );
        return Ok(Exit::Passed(
            command.wait().context("waiting for the command")?.status(),
        ));
    }
    Ok(command.map_or(Exit::Done, |ended| Exit::Passed(ended.status())))
}

/// What is recorded, in words.
fn target(args: &RecordArgs, command: &[String]) -> String {
    let mut parts = Vec::new();
    if !args.trace.target.is_empty() {
        parts.push(args.trace.target.describe());
    }
    if !command.is_empty() {
        parts.push(format!("command {}", command.join(" ")));
    }
    parts.join("; ")
}

/// What makes the recording `path`, once the trace is attached. Fails now where it would then.
pub(super) fn maker(
    path: &Path,
    force: bool,
    target: &str,
    command: Option<Vec<String>>,
) -> anyhow::Result<Maker> {
    let to_stdout = path == Path::new("-");
    if to_stdout {
        if io::stdout().is_terminal() {
            bail!("a recording is not text, and stdout is a terminal: name a file, or pipe it on");
        }
    } else {
        newfile::check(path, force)?;
    }
    let (path, target) = (path.to_owned(), target.to_owned());
    Ok(Box::new(move |header: Header| {
        let out: Box<dyn io::Write> = if to_stdout {
            Box::new(io::stdout())
        } else {
            Box::new(newfile::create(&path, force)?)
        };
        let header = Header {
            target,
            command,
            ..header
        };
        Ok(Writer::new(out, &header).map_err(RecordingFailed)?)
    }))
}

/// What a recording holds, in words.
fn words_of(counts: &Counts, lost: u64) -> String {
    format!(
        "{} · {} · {} · {} lost",
        text::counted(counts.sockets, "socket", "sockets"),
        text::counted(counts.events, "event", "events"),
        text::bytes(counts.bytes),
        text::count(lost),
    )
}

/// A path as a shell takes it.
fn quoted(path: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@%".contains(c);
    if !path.is_empty() && path.chars().all(plain) {
        path.to_owned()
    } else {
        format!("'{}'", path.replace('\'', r"'\''"))
    }
}

/// A failed recording's error, with what is still there of it.
fn explain(error: anyhow::Error, path: &Path) -> anyhow::Error {
    let Some(failed) = error.downcast_ref::<RecordingFailed>() else {
        return error;
    };
    if path == Path::new("-") {
        return error;
    }
    let shown = escape(&path.to_string_lossy(), false).into_owned();
    let full = failed.0.kind() == io::ErrorKind::StorageFull
        || failed.0.kind() == io::ErrorKind::QuotaExceeded;
    let why = if full {
        "the disk is full"
    } else {
        "it cannot be written to"
    };
    error.context(format!(
        "the recording has ended early: {why}; what was written until then is whole: sockmem-trace report {}",
        quoted(&shown)
    ))
}

/// The line on stderr.
struct Progress {
    began: Instant,
    /// Rewritten in place.
    terminal: bool,
    printed: Instant,
    /// Columns in use.
    width: usize,
}

impl Progress {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            began: now,
            terminal: io::stderr().is_terminal(),
            printed: now,
            width: 0,
        }
    }

    /// Removes the line.
    fn clear(&mut self) {
        if self.width > 0 {
            eprint!("\r{:width$}\r", "", width = self.width);
            self.width = 0;
        }
    }
}

impl Sink for Progress {
    fn started(&mut self, _: &mut Session) -> anyhow::Result<()> {
        self.began = Instant::now();
        self.printed = self.began;
        Ok(())
    }

    fn round(&mut self, session: &Session) -> anyhow::Result<()> {
        if !self.terminal && self.printed.elapsed() < SELDOM {
            return Ok(());
        }
        self.printed = Instant::now();
        let Some(counts) = session.recorded() else {
            return Ok(());
        };
        let line = format!(
            "sockmem-trace: {}s · {}",
            self.began.elapsed().as_secs(),
            words_of(&counts, session.loss().dropped_ring)
        );
        let mut err = io::stderr().lock();
        // Nobody may be reading it any more.
        let _ = if self.terminal {
            let width = line.chars().count();
            let blanks = self.width.saturating_sub(width);
            self.width = width;
            write!(err, "\r{line}{:blanks$}", "").and_then(|()| err.flush())
        } else {
            writeln!(err, "{line}")
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_can_be_pasted() {
        assert_eq!(quoted("/tmp/a-b.smt"), "/tmp/a-b.smt");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn a_full_disk_is_said_so() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let e = explain(RecordingFailed(full).into(), Path::new("x y.smt"));
        let text = format!("{e:#}");
        assert!(
            text.contains("the disk is full") && text.contains("report 'x y.smt'"),
            "{text}"
        );
        let other = explain(anyhow::anyhow!("else"), Path::new("x"));
        assert_eq!(other.to_string(), "else");
    }
}
