//! What every command that traces does alike: options, and one loop that several sinks share.

use std::future::{Future, pending};
use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context, bail};
use sockmem_common::{SET_ALL, SET_FOLLOW, SET_PORTS, Settings};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};

use super::args::{DEFAULT_RING_SIZE, LEAST_MAX_SOCKETS, TraceArgs};
use super::run::tracing_refused;
use super::screen;
use super::session::{Session, Taps};
use crate::attach::Options;
use crate::collect::Spec;
use crate::host::gate::{Ended, Gate};
use crate::host::procfs::{ProcError, Procfs};
use crate::host::sockstat::Sums;

/// How often waiting records are looked for when the kernel has not called. The kernel calls
/// for `WAKEUP_BYTES` and for the end of a process, and every picture begins with a look: this
/// is for pictures far between, and for kernels that do not tell the end of a process.
const TICK: Duration = Duration::from_secs(1);
/// Bytes of records on one CPU after which the kernel calls.
const WAKEUP_BYTES: u32 = 64 << 10;

/// What a trace is for. Sinks see the session after each reading; an error ends the trace.
pub(super) trait Sink {
    /// The trace runs.
    fn started(&mut self, _session: &mut Session) -> anyhow::Result<()> {
        Ok(())
    }
    /// All sockets were read.
    fn round(&mut self, session: &Session) -> anyhow::Result<()>;
    /// A moment passed.
    fn tick(&mut self, _session: &Session) {}
    /// The terminal has another size.
    fn resized(&mut self) {}
    /// The user wants a recording, or its end.
    fn record(&mut self, _session: &mut Session) -> anyhow::Result<()> {
        Ok(())
    }
    /// The recording cannot go on. An error ends the trace.
    fn recording_failed(&mut self, _: &mut Session, e: anyhow::Error) -> anyhow::Result<()> {
        Err(e)
    }
    /// Waits until the user wants something.
    fn wish(&mut self) -> Pin<Box<dyn Future<Output = anyhow::Result<Wish>> + '_>> {
        Box::pin(pending())
    }
}

/// What a user who watches can want.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// The end of the trace.
    End,
    /// A recording from now on, or the end of it.
    Record,
}

/// What is to be traced, besides what the arguments name.
pub(super) struct Job<'a> {
    /// The arguments.
    pub(super) args: &'a TraceArgs,
    /// `-v`.
    pub(super) verbose: u8,
    /// A command that waits to be let go; its end ends the trace.
    pub(super) command: Option<Gate>,
    /// What is traced, in words.
    pub(super) target: String,
}

/// A trace that has ended: everything is read, `end_ns` is the moment up to which it tells.
pub(super) struct Over {
    pub(super) session: Session,
    pub(super) end_ns: u64,
    /// How the command ended; `None` where there was none, or the trace ended before it.
    pub(super) command: Option<Ended>,
    /// The command, where it still runs.
    pub(super) running: Option<Gate>,
}

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
            tcp_sock_type: 0,
            reserved: 0,
        },
        max_sockets: LEAST_MAX_SOCKETS,
        ring_bytes: DEFAULT_RING_SIZE,
        truesize: true,
        audit: false,
        bench: false,
        object: std::env::var_os("SOCKMEM_BPF_OBJECT").map(Into::into),
    }
}

/// Before 5.11 maps count as locked memory.
fn raise_memlock() {
    use nix::sys::resource::{Resource, rlim_t, setrlimit};
    // Where it may not be raised, creating the maps fails and says so.
    let _ = setrlimit(Resource::RLIMIT_MEMLOCK, rlim_t::MAX, rlim_t::MAX);
}

fn options(args: &TraceArgs, follow: bool) -> Options {
    let mut options = default_options();
    options.tier = args.tier.tier();
    options.settings.idle_after_ns = args.idle_after_ns();
    options.settings.coalesce_ns = args.coalesce_ns();
    if args.target.all {
        options.settings.flags |= SET_ALL;
    }
    if follow {
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

fn spec(args: &TraceArgs, command: Option<u32>) -> Spec {
    let target = &args.target;
    let mut pids = target.pids.clone();
    pids.extend(command);
    Spec {
        pids,
        comms: target.comms.clone(),
        cgroups: target.cgroups.clone(),
        ports: target.ports.clone(),
        listeners: target.listeners.iter().map(|l| (l.addr, l.port)).collect(),
        all: target.all,
        follow: target.follow || command.is_some(),
    }
}

/// Fails where the trace could not begin: before anything is made or started for it.
pub(super) fn check(args: &TraceArgs) -> anyhow::Result<()> {
    // Before the host's abilities: a wrong pid is the likelier mistake, and needs no privilege.
    for pid in &args.target.pids {
        if !Procfs::default().exists(*pid) {
            return Err(ProcError::Gone(*pid).into());
        }
    }
    match tracing_refused() {
        Some(refused) => bail!("{refused}"),
        None => Ok(()),
    }
}

/// Runs a trace until it is interrupted, its time is up, its processes have ended, or a sink fails.
pub(super) fn run(job: Job<'_>, taps: Taps, sink: &mut dyn Sink) -> anyhow::Result<Over> {
    raise_memlock();
    init_log(job.verbose);
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the event loop")?
        .block_on(trace(job, taps, sink))
}

async fn trace(mut job: Job<'_>, taps: Taps, sink: &mut dyn Sink) -> anyhow::Result<Over> {
    // Before attaching, so that an early Ctrl-C ends the trace and not the process.
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut resized = signal(SignalKind::window_change()).context("listening for SIGWINCH")?;
    let mut children = signal(SignalKind::child()).context("listening for SIGCHLD")?;
    let args = job.args;
    let pid = job.command.as_ref().map(Gate::pid);
    let options = options(args, args.target.follow || pid.is_some());
    let mut session = Session::start(spec(args, pid), &options, taps)?;
    if job.verbose > 0 {
        log_programs(&mut session);
    }
    for note in &session.trace.notes {
        eprintln!("sockmem-trace: not available on this kernel: {note}");
    }
    eprintln!(
        "sockmem-trace: tracing {} with {} hooks, {} (ready); Ctrl-C ends it{}",
        crate::sinks::escape::escape(&job.target, false),
        session.tier().name(),
        crate::sinks::text::counted(session.sockets() as u64, "socket", "sockets"),
        if session.is_shown() {
            " with the answer"
        } else {
            ""
        },
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
    sink.started(&mut session)?;
    if let Some(command) = &mut job.command {
        command.open().context("starting the command")?;
        // Its name and command line are its own only now.
        session.relearn(command.pid());
    }
    let mut ended = None;
    let mut asked = false;
    loop {
        tokio::select! {
            signal = async {
                tokio::select! {
                    _ = interrupt.recv() => libc::SIGINT,
                    _ = terminate.recv() => libc::SIGTERM,
                }
            } => {
                // The command is to end first, so that the end of its sockets is seen. Who asks
                // twice does not want to wait for it.
                let Some(command) = job.command.as_ref().filter(|_| !asked) else { break };
                asked = true;
                command.pass_on(signal);
            }
            () = &mut deadline => break,
            wish = sink.wish() => match wish? {
                Wish::End => break,
                Wish::Record => sink.record(&mut session)?,
            },
            _ = resized.recv() => sink.resized(),
            _ = rounds.tick() => {
                session.round()?;
                sink.round(&session)?;
            }
            _ = ticks.tick() => {
                session.drain();
                session.reap();
                session.flush();
                sink.tick(&session);
            }
            _ = children.recv() => {}
            guard = ring.readable() => {
                let more = session.drain();
                if !more {
                    guard.context("waiting for the ring buffer")?.clear_ready();
                }
            }
        }
        if let Err(e) = session.check_recording() {
            sink.recording_failed(&mut session, e)?;
        }
        if let Some(command) = &mut job.command {
            ended = command.ended().context("waiting for the command")?;
        }
        let over = job.command.is_none() && session.is_over();
        if ended.is_some() || over {
            break;
        }
    }
    let end_ns = session.finish()?;
    let running = job.command.take().filter(|_| ended.is_none());
    Ok(Over {
        session,
        end_ns,
        command: ended,
        running,
    })
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
