//! `live`: a trace as it goes, and its answer at the end.

use std::io::{self, IsTerminal, Write};

use anyhow::Context;
use sockmem_common::AuditStats;

use super::args::{Format, LiveArgs, Output};
use super::exit::Exit;
use super::record;
use super::run::host_facts;
use super::session::{Session, Taps};
use super::trace::{self, Job, Sink};
use crate::host::clock;
use crate::model::{Detail, View};
use crate::sinks::look::{Look, utf8_locale};
use crate::sinks::plain::{self, DEFAULT_ROWS, Plain};
use crate::sinks::{HostFacts, json};

/// Width, character set and colour of what goes to stdout.
pub(super) fn look(output: &Output, terminal: bool) -> Look {
    let env = |name| std::env::var(name).ok();
    let (all, ctype, lang) = (env("LC_ALL"), env("LC_CTYPE"), env("LANG"));
    Look {
        width: terminal.then(terminal_width).flatten(),
        ascii: output.ascii || !utf8_locale(all.as_deref(), ctype.as_deref(), lang.as_deref()),
        color: output
            .color
            .enabled(terminal, std::env::var_os("NO_COLOR").as_deref()),
    }
}

/// Columns of the terminal on stdout.
fn terminal_width() -> Option<usize> {
    // SAFETY: winsize is made of plain integers; all zeroes is a valid value.
    let mut size: libc::winsize = unsafe { std::mem::zeroed() };
    // SAFETY: TIOCGWINSZ writes one winsize to the given place.
    let rc = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) };
    (rc == 0 && size.ws_col > 0).then_some(usize::from(size.ws_col))
}

/// Runs a trace until it is interrupted, its time is up, or its processes have ended.
pub(super) fn run(args: &LiveArgs) -> anyhow::Result<Exit> {
    trace::check(&args.trace)?;
    let target = args.trace.target.describe();
    let mut taps = Taps::shown();
    if let Some(path) = &args.record {
        taps.recorder = Some(record::maker(path, false, &target, None)?);
    }
    let mut out = Printer::new(args);
    let job = Job {
        args: &args.trace,
        verbose: args.output.verbose,
        command: None,
        target,
    };
    let mut over = trace::run(job, taps, &mut out)?;
    over.session.close_recording(over.end_ns)?;
    out.last(&over.session, over.end_ns)?;
    Ok(Exit::Done)
}

/// Where the pictures go.
struct Printer {
    host: HostFacts,
    format: Format,
    plain: Plain,
    /// As `plain::Options::rows`.
    rows: Option<usize>,
    terminal: bool,
    audit: bool,
}

impl Sink for Printer {
    fn round(&mut self, session: &Session) -> anyhow::Result<()> {
        self.interval(session)
    }

    fn resized(&mut self) {
        if self.terminal {
            self.plain.resize(terminal_width());
        }
    }
}

impl Printer {
    /// The audit's figures, where they were asked for.
    fn audit(&self, session: &Session) -> anyhow::Result<Option<AuditStats>> {
        let stats = self.audit.then(|| session.trace.audit());
        stats.transpose().context("reading the audit")
    }

    fn new(args: &LiveArgs) -> Self {
        let terminal = io::stdout().is_terminal();
        let rows = (terminal && !args.all_sockets).then_some(DEFAULT_ROWS);
        Self {
            host: host_facts(),
            format: args.output.format,
            plain: Plain::new(plain::Options {
                target: args.trace.target.describe(),
                look: look(&args.output, terminal),
                rows,
            }),
            rows,
            terminal,
            audit: args.trace.audit,
        }
    }

    fn interval(&mut self, session: &Session) -> anyhow::Result<()> {
        let now_ns = clock::now_ns();
        let detail = match self.format {
            // Its sockets are written one by one, and without their timelines.
            Format::Json => Detail::SUMS,
            Format::Text => Detail {
                timelines: true,
                most: self.rows,
                ..Detail::LIVE
            },
        };
        let view = session.view_with(now_ns, detail);
        let mut out = io::BufWriter::new(io::stdout().lock());
        match self.format {
            Format::Json => self.json(session, &view, &mut out, |view, host, mut out| {
                let rows = || session.rows(now_ns, Detail::LIVE);
                json::write_live_rows(view, rows, host, &mut out)
            })?,
            Format::Text => self.plain.interval(&view, &mut out)?,
        }
        Ok(out.flush()?)
    }

    fn last(&mut self, session: &Session, end_ns: u64) -> anyhow::Result<()> {
        let detail = Detail {
            timelines: false,
            most: (self.format == Format::Json).then_some(0),
            ..Detail::FULL
        };
        let view = session.view_with(end_ns, detail);
        let mut out = io::BufWriter::new(io::stdout().lock());
        match self.format {
            Format::Json => self.json(session, &view, &mut out, |view, host, mut out| {
                let rows = || session.rows(end_ns, Detail::LIVE);
                json::write_report_rows(view, rows, host, &mut out)
            })?,
            Format::Text => self.plain.summary(&view, &mut out)?,
        }
        Ok(out.flush()?)
    }

    /// A document, with the audit's figures where they were asked for.
    fn json<W: Write>(
        &self,
        session: &Session,
        view: &View,
        out: &mut W,
        write: impl Fn(&View, &HostFacts, &mut dyn Write) -> io::Result<()>,
    ) -> anyhow::Result<()> {
        let Some(audit) = self.audit(session)? else {
            return Ok(write(view, &self.host, out)?);
        };
        let mut line = Vec::new();
        write(view, &self.host, &mut line)?;
        let line = String::from_utf8(line).context("a document is text")?;
        Ok(writeln!(out, "{}", with_audit(&line, &audit, view))?)
    }
}

/// A document with the audit's figures added (`--audit`).
fn with_audit(line: &str, audit: &AuditStats, view: &View) -> String {
    let members = serde_json::json!({
        "checks": audit.checks,
        "misses": audit.misses,
        "rmem_alloc": audit.miss_rmem_alloc,
        "wmem_queued": audit.miss_wmem_queued,
        "forward_alloc": audit.miss_forward_alloc,
        "last_miss_hook": audit.last_miss_hook,
        "recursion_misses": view.loss.recursion_misses,
    });
    let body = line.trim_end().strip_suffix('}').unwrap_or(line);
    format!("{body},\"audit\":{members}}}")
}
