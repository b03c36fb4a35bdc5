//! `live`: the run loop of a trace.

use std::future::pending;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use anyhow::{Context, bail};
use sockmem_common::{AuditStats, SET_ALL, SET_FOLLOW, SET_PORTS, Settings};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};

use super::args::{Format, LEAST_MAX_SOCKETS, LiveArgs, Output};
use super::exit::Exit;
use super::run::{host_facts, tracing_refused};
use super::screen::{self, Screen};
use super::session::Session;
use crate::attach::Options;
use crate::collect::Spec;
use crate::host::sockstat::Sums;
use crate::model::View;
use crate::sinks::look::{Look, utf8_locale};
use crate::sinks::plain::{self, DEFAULT_ROWS, Plain};
use crate::sinks::screen::{Options as ScreenOptions, Picture};
use crate::sinks::{HostFacts, json};

/// How often waiting records are looked for when the kernel has not called. The kernel calls
/// for `WAKEUP_BYTES` and for the end of a process, and every picture begins with a look: this
/// only bounds how long a few records wait, and each look costs an idle trace some 40 us.
const TICK: Duration = Duration::from_millis(200);
/// Bytes of records on one CPU after which the kernel calls.
const WAKEUP_BYTES: u32 = 64 << 10;

/// Options of a trace that nothing was asked of.
pub(super) fn default_options() -> Options {
    Options {
        tier: None,
        settings: Settings {
            idle_after_ns: 1_000_000_000,
            coalesce_ns: 100_000_000,
            flags: 0,
            self_tgid: std::process::id(),
            wakeup_bytes: WAKEUP_BYTES,
            resync_quiet_ns: 0,
        },
        max_sockets: LEAST_MAX_SOCKETS,
        ring_bytes: super::args::DEFAULT_RING_SIZE,
        truesize: true,
        audit: false,
        bench: false,
        object: std::env::var_os("SOCKMEM_BPF_OBJECT").map(Into::into),
    }
}

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
    // Before the host's abilities: a wrong pid is the likelier mistake, and needs no privilege.
    for pid in &args.target.pids {
        let procfs = crate::host::procfs::Procfs::default();
        if !procfs.exists(*pid) {
            return Err(crate::host::procfs::ProcError::Gone(*pid).into());
        }
    }
    if let Some(refused) = tracing_refused() {
        bail!("{refused}");
    }
    raise_memlock();
    init_log(args.output.verbose);
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the event loop")?
        .block_on(trace(args))
}

/// Before 5.11 maps count as locked memory.
fn raise_memlock() {
    use nix::sys::resource::{Resource, rlim_t, setrlimit};
    // Where it may not be raised, creating the maps fails and says so.
    let _ = setrlimit(Resource::RLIMIT_MEMLOCK, rlim_t::MAX, rlim_t::MAX);
}

fn options(args: &LiveArgs) -> Options {
    let mut options = default_options();
    options.tier = args.tier.tier();
    options.settings.idle_after_ns = args.idle_after_ns();
    options.settings.coalesce_ns = args.coalesce_ns();
    if args.target.all {
        options.settings.flags |= SET_ALL;
    }
    if args.target.follow {
        options.settings.flags |= SET_FOLLOW;
    }
    if !args.target.ports.is_empty() {
        options.settings.flags |= SET_PORTS;
    }
    options.max_sockets = args.max_sockets.unwrap_or_else(roomy);
    options.ring_bytes = args.ring_size;
    options.truesize = !args.no_truesize;
    options.audit = args.audit;
    options
}

/// Twice the TCP sockets that there are now, in whatever namespace and state.
fn roomy() -> u32 {
    let there = Sums::read().map_or(0, |sums| sums.v4.tcp.alloc);
    u32::try_from(there.saturating_mul(2))
        .unwrap_or(u32::MAX / 2)
        .max(LEAST_MAX_SOCKETS)
}

fn spec(args: &LiveArgs) -> Spec {
    let target = &args.target;
    Spec {
        pids: target.pids.clone(),
        comms: target.comms.clone(),
        cgroups: target.cgroups.clone(),
        ports: target.ports.clone(),
        listeners: target.listeners.iter().map(|l| (l.addr, l.port)).collect(),
        all: target.all,
        follow: target.follow,
    }
}

async fn trace(args: &LiveArgs) -> anyhow::Result<Exit> {
    // Before attaching, so that an early Ctrl-C ends the trace and not the process.
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut resized = signal(SignalKind::window_change()).context("listening for SIGWINCH")?;
    let mut session = Session::start(spec(args), &options(args))?;
    let mut out = Printer::new(args);
    if args.output.verbose > 0 {
        log_programs(&mut session);
    }
    for note in &session.trace.notes {
        eprintln!("sockmem-trace: not available on this kernel: {note}");
    }
    eprintln!(
        "sockmem-trace: tracing {} with {} hooks, {} (ready); Ctrl-C ends it with the answer",
        crate::sinks::escape::escape(&args.target.describe(), false),
        session.tier().name(),
        crate::sinks::text::counted(session.sockets() as u64, "socket", "sockets"),
    );
    // SAFETY: the descriptor is the AsyncFd's own from here on: it stays open until that is
    // dropped, and is not put to any other use.
    let ring = unsafe { AsyncFd::register_with_interest(session.ring_fd()?, Interest::READABLE) }
        .context("waiting for the ring buffer")?;
    let mut ticks = interval_at(Instant::now() + TICK, TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut rounds = interval_at(Instant::now() + args.interval, args.interval);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let deadline = async {
        match args.duration {
            Some(duration) => sleep(duration).await,
            None => pending().await,
        }
    };
    tokio::pin!(deadline);
    let mut gone: Option<io::Error> = None;
    let mut face = Face::start(args, &session)?;
    let mut hung_up = false;
    loop {
        tokio::select! {
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            () = &mut deadline => break,
            event = face.event() => match event? {
                FaceEvent::Quit => break,
                FaceEvent::HungUp => {
                    hung_up = true;
                    break;
                }
                FaceEvent::Stop => face.screen(Screen::suspend),
                FaceEvent::Continue => face.screen(Screen::resume),
            },
            _ = resized.recv() => out.resize(),
            _ = rounds.tick() => {
                session.round()?;
                if face.show(&session) {
                    if session.is_over() {
                        break;
                    }
                    continue;
                }
                let audit = audit(args, &session)?;
                if let Err(e) = out.interval(&session.view(), audit.as_ref()) {
                    gone = Some(e);
                    break;
                }
                if session.is_over() {
                    break;
                }
            }
            _ = ticks.tick() => {
                session.drain();
                session.reap();
                if session.is_over() {
                    break;
                }
            }
            guard = ring.readable() => {
                let more = session.drain();
                if !more {
                    guard.context("waiting for the ring buffer")?.clear_ready();
                }
            }
        }
    }
    // The answer goes where the shell is.
    drop(face);
    if let Some(e) = gone {
        return Err(e.into());
    }
    let view = session.finish()?;
    if hung_up {
        // There is no terminal to print the answer on.
        return Ok(Exit::Done);
    }
    let audit = audit(args, &session)?;
    out.last(&view, audit.as_ref())?;
    Ok(Exit::Done)
}

/// What comes from a full screen and its terminal.
enum FaceEvent {
    Quit,
    HungUp,
    Stop,
    Continue,
}

/// The full screen, where there is one, and the signals that concern it alone: without it they
/// keep their usual effect (`nohup` must keep a trace without a screen alive).
struct Face(Option<(Screen, Signals)>);

struct Signals {
    hang_up: Signal,
    quit: Signal,
    stop: Signal,
    go_on: Signal,
}

impl Face {
    fn start(args: &LiveArgs, session: &Session) -> anyhow::Result<Face> {
        let wanted = args.output.format == Format::Text && !args.plain;
        if !wanted || !screen::fits(std::env::var_os("TERM").as_deref()) {
            return Ok(Face(None));
        }
        let listen = |kind: SignalKind| signal(kind).context("listening for signals");
        let signals = Signals {
            hang_up: listen(SignalKind::hangup())?,
            quit: listen(SignalKind::quit())?,
            stop: listen(SignalKind::from_raw(libc::SIGTSTP))?,
            go_on: listen(SignalKind::from_raw(libc::SIGCONT))?,
        };
        let options = ScreenOptions {
            target: args.target.describe(),
            look: look(&args.output, true),
            notes: session.trace.notes.clone(),
        };
        let screen = Screen::start(options)
            .context("taking the terminal for the full screen; --plain does without")?;
        let face = Face(Some((screen, signals)));
        face.show(session);
        Ok(face)
    }

    /// Shows the picture now; whether there is a screen.
    fn show(&self, session: &Session) -> bool {
        let Some((screen, _)) = &self.0 else {
            return false;
        };
        let pages = Sums::read().ok().map(|sums| sums.v4.tcp.mem_pages);
        screen.show(Picture {
            view: session.view(),
            host_tcp_bytes: pages.map(|n| n.saturating_mul(crate::host::info::page_size())),
        });
        true
    }

    fn screen(&self, f: impl FnOnce(&Screen)) {
        if let Some((screen, _)) = &self.0 {
            f(screen);
        }
    }

    /// Waits for what comes next; forever where there is no screen.
    async fn event(&mut self) -> anyhow::Result<FaceEvent> {
        let Some((screen, signals)) = &mut self.0 else {
            return pending().await;
        };
        Ok(tokio::select! {
            quit = screen.quits() => {
                quit.context("the full screen")?;
                FaceEvent::Quit
            }
            _ = signals.hang_up.recv() => FaceEvent::HungUp,
            _ = signals.quit.recv() => FaceEvent::Quit,
            _ = signals.stop.recv() => FaceEvent::Stop,
            _ = signals.go_on.recv() => FaceEvent::Continue,
        })
    }
}

/// The audit's figures, where they were asked for.
fn audit(args: &LiveArgs, session: &Session) -> anyhow::Result<Option<AuditStats>> {
    let stats = args.audit.then(|| session.trace.audit());
    stats.transpose().context("reading the audit")
}

/// Lists the attached programs in the log.
fn log_programs(session: &mut Session) {
    for p in session.trace.programs() {
        log::info!(
            "{} on {}: id {}, {} bytes, {} instructions verified",
            p.name,
            p.hook,
            p.id.map_or_else(|| "-".into(), |n| n.to_string()),
            p.xlated_bytes.map_or_else(|| "-".into(), |n| n.to_string()),
            p.verified_instructions
                .map_or_else(|| "-".into(), |n| n.to_string()),
        );
    }
}

/// Where the pictures go.
struct Printer {
    host: HostFacts,
    format: Format,
    plain: Plain,
    terminal: bool,
}

impl Printer {
    fn new(args: &LiveArgs) -> Self {
        let terminal = io::stdout().is_terminal();
        let rows = (terminal && !args.all_sockets).then_some(DEFAULT_ROWS);
        Self {
            host: host_facts(),
            format: args.output.format,
            plain: Plain::new(plain::Options {
                target: args.target.describe(),
                look: look(&args.output, terminal),
                rows,
            }),
            terminal,
        }
    }

    fn resize(&mut self) {
        if self.terminal {
            self.plain.resize(terminal_width());
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

/// Diagnostics go to stderr, and only when asked for.
fn init_log(verbose: u8) {
    struct Stderr;
    impl log::Log for Stderr {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }
        fn log(&self, record: &log::Record<'_>) {
            let text = record.args().to_string();
            let line = format!(
                "sockmem-trace: {}: {}",
                record.level().as_str().to_lowercase(),
                crate::sinks::escape::escape(&text, false)
            );
            if let Some(line) = screen::hold(line) {
                eprintln!("{line}");
            }
        }
        fn flush(&self) {}
    }
    static LOGGER: Stderr = Stderr;
    let level = match verbose {
        0 => log::LevelFilter::Off,
        1 => log::LevelFilter::Info,
        _ => log::LevelFilter::Debug,
    };
    if log::set_logger(&LOGGER).is_ok() {
        log::set_max_level(level);
    }
}
