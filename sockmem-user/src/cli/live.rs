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
use crate::host::clock;
use crate::model::{Detail, Model, SocketView, View};
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
    let mut live = Live {
        args,
        face: None,
        out: Printer::new(args),
    };
    let job = Job {
        args: &args.trace,
        verbose: args.output.verbose,
        command: None,
        target,
    };
    let mut over = trace::run(job, taps, &mut live)?;
    over.session.close_recording(over.end_ns)?;
    // The answer goes where the shell is.
    if live.face.take().is_some_and(|face| face.hung_up) {
        return Ok(Exit::Done);
    }
    let picture = live.out.picture(&over.session, over.end_ns)?;
    live.out.last(&picture)?;
    Ok(Exit::Done)
}

/// A trace's pictures: on the full screen where there is one, else printed.
struct Live<'a> {
    args: &'a LiveArgs,
    face: Option<Face>,
    out: Printer,
}

impl Sink for Live<'_> {
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
        let picture = self.out.picture(session, clock::now_ns())?;
        self.out.interval(&picture)
    }

    fn resized(&mut self) {
        self.out.resized();
    }
}

/// A model at one moment, of a trace or of a recording.
pub(super) struct Picture<'a> {
    /// What is shown.
    pub(super) model: &'a Model,
    /// `CLOCK_MONOTONIC`.
    pub(super) now_ns: u64,
    /// `CLOCK_REALTIME`.
    pub(super) now_unix_ns: u64,
    /// Where it was asked for.
    pub(super) audit: Option<AuditStats>,
}

impl Picture<'_> {
    fn view(&self, detail: Detail) -> View {
        self.model.view_with(self.now_ns, self.now_unix_ns, detail)
    }

    fn rows(&self) -> impl Iterator<Item = SocketView> {
        self.model.rows(self.now_ns, Detail::LIVE)
    }
}

/// Where the pictures go; those of a trace and those of a recording.
pub(super) struct Printer {
    host: HostFacts,
    format: Format,
    plain: Plain,
    /// As `plain::Options::rows`.
    rows: Option<usize>,
    terminal: bool,
    audit: bool,
}

impl Printer {
    fn new(args: &LiveArgs) -> Self {
        let target = args.trace.target.describe();
        Self {
            audit: args.trace.audit,
            ..Self::of(host_facts(), target, &args.output, args.all_sockets)
        }
    }

    /// Of `host`'s sockets: `target`, in words.
    pub(super) fn of(host: HostFacts, target: String, output: &Output, all: bool) -> Self {
        let terminal = io::stdout().is_terminal();
        let rows = (terminal && !all).then_some(DEFAULT_ROWS);
        Self {
            host,
            format: output.format,
            plain: Plain::new(plain::Options {
                target,
                look: look(output, terminal),
                rows,
            }),
            rows,
            terminal,
            audit: false,
        }
    }

    /// The trace at `now_ns`.
    fn picture<'a>(&self, session: &'a Session, now_ns: u64) -> anyhow::Result<Picture<'a>> {
        let audit = self.audit.then(|| session.trace.audit());
        Ok(Picture {
            model: session.model().context("this trace is not shown")?,
            now_ns,
            now_unix_ns: session.unix_ns(now_ns),
            audit: audit.transpose().context("reading the audit")?,
        })
    }

    /// The terminal has another size.
    pub(super) fn resized(&mut self) {
        if self.terminal {
            self.plain.resize(terminal_width());
        }
    }

    /// One interval.
    pub(super) fn interval(&mut self, picture: &Picture<'_>) -> anyhow::Result<()> {
        let view = picture.view(match self.format {
            // Its sockets are written one by one, and without their timelines.
            Format::Json => Detail::SUMS,
            Format::Text => Detail {
                timelines: true,
                most: self.rows,
                ..Detail::LIVE
            },
        });
        let mut out = io::BufWriter::new(io::stdout().lock());
        match self.format {
            Format::Json => self.json(picture, &view, &mut out, |view, host, mut out| {
                json::write_live_rows(view, || picture.rows(), host, &mut out)
            })?,
            Format::Text => self.plain.interval(&view, &mut out)?,
        }
        Ok(out.flush()?)
    }

    /// The end: the answer.
    pub(super) fn last(&mut self, picture: &Picture<'_>) -> anyhow::Result<()> {
        let view = picture.view(Detail {
            timelines: false,
            most: (self.format == Format::Json).then_some(0),
            ..Detail::FULL
        });
        let mut out = io::BufWriter::new(io::stdout().lock());
        match self.format {
            Format::Json => self.json(picture, &view, &mut out, |view, host, mut out| {
                json::write_report_rows(view, || picture.rows(), host, &mut out)
            })?,
            Format::Text => self.plain.summary(&view, &mut out)?,
        }
        Ok(out.flush()?)
    }

    /// A document, with the audit's figures where they were asked for.
    fn json<W: Write>(
        &self,
        picture: &Picture<'_>,
        view: &View,
        out: &mut W,
        write: impl Fn(&View, &HostFacts, &mut dyn Write) -> io::Result<()>,
    ) -> anyhow::Result<()> {
        let Some(audit) = &picture.audit else {
            return Ok(write(view, &self.host, out)?);
        };
        let mut line = Vec::new();
        write(view, &self.host, &mut line)?;
        let line = String::from_utf8(line).context("a document is text")?;
        Ok(writeln!(out, "{}", with_audit(&line, audit, view))?)
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
