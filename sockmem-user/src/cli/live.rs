//! `live`: a trace as it goes, and its answer at the end.

use std::future::{Future, pending};
use std::io::{self, IsTerminal, Write};
use std::pin::Pin;

use anyhow::Context;
use sockmem_common::AuditStats;

use super::args::{Format, LiveArgs, Output};
use super::exit::Exit;
use super::face::Face;
use super::record;
use super::run::host_facts;
use super::session::{Session, Taps};
use super::trace::{self, Job, Sink, Wish};
use crate::model::View;
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
    let view = over.session.view_at(over.end_ns);
    let audit = out.audit(&over.session)?;
    over.session.close_recording(over.end_ns)?;
    // The answer goes where the shell is.
    if out.face.take().is_some_and(|face| face.hung_up) {
        return Ok(Exit::Done);
    }
    out.last(&view, audit.as_ref())?;
    Ok(Exit::Done)
}

/// Where the pictures go.
struct Printer<'a> {
    args: &'a LiveArgs,
    /// The full screen, where there is one.
    face: Option<Face>,
    host: HostFacts,
    format: Format,
    plain: Plain,
    terminal: bool,
    audit: bool,
}

impl Sink for Printer<'_> {
    fn started(&mut self, session: &mut Session) -> anyhow::Result<()> {
        self.face = Face::start(self.args, session)?;
        Ok(())
    }

    fn wish(&mut self) -> Pin<Box<dyn Future<Output = anyhow::Result<Wish>> + '_>> {
        match &mut self.face {
            Some(face) => Box::pin(face.wish()),
            None => Box::pin(pending()),
        }
    }

    fn record(&mut self, session: &mut Session) -> anyhow::Result<()> {
        if let Some(face) = &mut self.face {
            face.record(session);
        }
        Ok(())
    }

    fn recording_failed(&mut self, session: &mut Session, e: anyhow::Error) -> anyhow::Result<()> {
        match &mut self.face {
            Some(face) => {
                face.recording_failed(session, &e);
                Ok(())
            }
            None => Err(e),
        }
    }

    fn round(&mut self, session: &Session) -> anyhow::Result<()> {
        if let Some(face) = &self.face {
            face.show(session);
            return Ok(());
        }
        let audit = self.audit(session)?;
        Ok(self.interval(&session.view(), audit.as_ref())?)
    }

    fn resized(&mut self) {
        if self.terminal {
            self.plain.resize(terminal_width());
        }
    }
}

impl<'a> Printer<'a> {
    /// The audit's figures, where they were asked for.
    fn audit(&self, session: &Session) -> anyhow::Result<Option<AuditStats>> {
        let stats = self.audit.then(|| session.trace.audit());
        stats.transpose().context("reading the audit")
    }

    fn new(args: &'a LiveArgs) -> Self {
        let terminal = io::stdout().is_terminal();
        let rows = (terminal && !args.all_sockets).then_some(DEFAULT_ROWS);
        Self {
            args,
            face: None,
            host: host_facts(),
            format: args.output.format,
            plain: Plain::new(plain::Options {
                target: args.trace.target.describe(),
                look: look(&args.output, terminal),
                rows,
            }),
            terminal,
            audit: args.trace.audit,
        }
    }

    fn interval(&mut self, view: &View, audit: Option<&AuditStats>) -> io::Result<()> {
        let mut out = io::BufWriter::new(io::stdout().lock());
        match (self.format, audit) {
            (Format::Json, Some(audit)) => {
                let line = json::live_line(view, &self.host);
                writeln!(out, "{}", with_audit(&line, audit, view))?;
            }
            (Format::Json, None) => json::write_live(view, &self.host, &mut out)?,
            (Format::Text, _) => self.plain.interval(view, &mut out)?,
        }
        out.flush()
    }

    fn last(&mut self, view: &View, audit: Option<&AuditStats>) -> io::Result<()> {
        let mut out = io::BufWriter::new(io::stdout().lock());
        match self.format {
            Format::Json => {
                let line = json::report_line(view, &self.host);
                match audit {
                    Some(audit) => writeln!(out, "{}", with_audit(&line, audit, view))?,
                    None => writeln!(out, "{line}")?,
                }
            }
            Format::Text => self.plain.summary(view, &mut out)?,
        }
        out.flush()
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
