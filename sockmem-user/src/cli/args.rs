//! The command line: `sockmem-trace [live] TARGET …` and the other commands.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{
    ArgAction, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum,
};

mod inspect;

pub use inspect::{GroupBy, InspectKinds, SnapshotArgs, SnapshotFormat, WhereArgs};

use super::check::{self, CheckArgs};
use super::diff::{self, DiffArgs};
use super::exit::Exit;
use super::export::{self, ExportArgs};
use super::manual::{CompletionsArgs, ManArgs};
use super::record::{self, RecordArgs};
use super::replay::{self, ReplayArgs};
use super::report::{self, ReportArgs};
use super::target::Target;
use super::units;
use crate::model::Tier;
use crate::sinks::fields;

/// Sockets that can be traced at once on a host with few, unless told otherwise.
pub const LEAST_MAX_SOCKETS: u32 = 8192;
/// Bytes of the ring buffer, unless told otherwise.
pub const DEFAULT_RING_SIZE: u32 = 4 << 20;
const MIN_RING_SIZE: u32 = 4096;
const MAX_RING_SIZE: u32 = 1 << 30;
const MIN_INTERVAL: Duration = Duration::from_millis(10);

/// Shows, exactly and live, how much kernel memory TCP socket buffers hold, whose it is, and
/// whether it stays while connections are idle.
///
/// Without a command: `live`.
#[derive(Debug, Parser)]
#[command(
    name = "sockmem-trace",
    bin_name = "sockmem-trace",
    version,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    live: LiveArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Traces sockets and shows what they hold, interval by interval; then the answer
    Live(Box<LiveArgs>),
    /// Records a trace into a file, for reports later or elsewhere
    Record(Box<RecordArgs>),
    /// Shows a recording as live shows a trace, at any speed
    Replay(Box<ReplayArgs>),
    /// Writes a recording in a format of other tools: CSV, JSON, Perfetto, Parquet
    Export(ExportArgs),
    /// Says what a recording tells: the answer first, then what it rests on
    Report(ReportArgs),
    /// Compares two recordings: was the load the same, and is less memory held?
    Diff(DiffArgs),
    /// Holds a recording against limits, for CI
    Check(Box<CheckArgs>),
    /// Where the memory of sockets is reported: the accounts, from payload to MemFree
    Where(Box<WhereArgs>),
    /// One reading of every socket, with its owner; no tracing
    Snapshot(Box<SnapshotArgs>),
    /// Says what this host allows, what is missing and how to fix it
    Doctor(DoctorArgs),
    /// Prints what a shell needs to complete commands and options
    Completions(CompletionsArgs),
    /// Prints the manual page
    Man(ManArgs),
}

/// Options that every command has.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
#[command(next_help_heading = "Output")]
pub struct Output {
    /// Text for people, or JSON for programs
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// Colour in text; `auto` is on a terminal and unless NO_COLOR is set
    #[arg(long, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    pub color: Color,
    /// ASCII only; also where the locale is not UTF-8
    #[arg(long)]
    pub ascii: bool,
    /// More about what the tool does, on stderr; twice for even more
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,
}

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One document, or one line per interval.
    Json,
}

/// When text is coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless `NO_COLOR` is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Color {
    /// Whether to colour, given whether stdout is a terminal and the value of `NO_COLOR`
    /// (which counts when it is set and not empty).
    #[must_use]
    pub fn enabled(self, terminal: bool, no_color: Option<&std::ffi::OsStr>) -> bool {
        match self {
            Color::Auto => terminal && no_color.is_none_or(|v| v.is_empty()),
            Color::Always => true,
            Color::Never => false,
        }
    }
}

/// `--tier`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TierChoice {
    /// The best that the kernel allows.
    Auto,
    /// fentry/fexit.
    Fentry,
    /// kprobes.
    Kprobe,
    /// Tracepoints alone.
    Tracepoint,
}

impl TierChoice {
    /// The tier asked for; `None`: the best there is.
    #[must_use]
    pub fn tier(self) -> Option<Tier> {
        match self {
            TierChoice::Auto => None,
            TierChoice::Fentry => Some(Tier::Fentry),
            TierChoice::Kprobe => Some(Tier::Kprobe),
            TierChoice::Tracepoint => Some(Tier::Tracepoint),
        }
    }
}

/// Options of every command that traces.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct TraceArgs {
    /// Which sockets.
    #[command(flatten)]
    pub target: Target,
    #[command(flatten)]
    kinds: Kinds,
    /// Time between two readings of all sockets; `live` shows a picture after each
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_interval, help_heading = "Trace")]
    pub interval: Duration,
    /// Ends the trace after this time; without it, Ctrl-C does
    #[arg(long, value_name = "TIME", value_parser = parse_positive, help_heading = "Trace")]
    pub duration: Option<Duration>,
    /// A connection is idle when no payload has moved for this long
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_positive, help_heading = "Trace")]
    pub idle_after: Duration,
    /// Sends every single change to user space instead of one per socket and --coalesce;
    /// totals, peaks and means are exact either way
    #[arg(long, conflicts_with = "coalesce", help_heading = "Trace")]
    pub exact: bool,
    /// At most one change per socket in this time is sent; highest and lowest come with it
    #[arg(long, value_name = "TIME", default_value = "100ms", value_parser = parse_positive, help_heading = "Trace")]
    pub coalesce: Duration,
    /// Kind of hooks; `auto` is the best that the kernel allows
    #[arg(long, value_enum, value_name = "KIND", default_value_t = TierChoice::Auto, help_heading = "Trace")]
    pub tier: TierChoice,
    /// Sockets that can be traced at once, about 0.5 KiB each; more are counted and reported as
    /// not traced [default: twice the TCP sockets of the host, at least 8192]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Trace")]
    pub max_sockets: Option<u32>,
    /// Size of the buffer between kernel and user space: a power of two from 4KiB to 1GiB
    #[arg(long, value_name = "SIZE", default_value = "4MiB", value_parser = parse_ring_size, help_heading = "Trace")]
    pub ring_size: u32,
    /// Leaves out the hooks on every single packet buffer (sock_rfree, tcp_stream_alloc_skb):
    /// no buffer sizes, less overhead
    #[arg(long, help_heading = "Trace")]
    pub no_truesize: bool,
    /// Compares live counters with the last observed ones at every lock, and counts misses
    #[arg(long, hide = true)]
    pub audit: bool,
}

/// Arguments of `live`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct LiveArgs {
    /// What is traced and how.
    #[command(flatten)]
    pub trace: TraceArgs,
    /// Records what is shown, too: the report of FILE is this trace's own last one
    #[arg(long, value_name = "FILE", help_heading = "Trace")]
    pub record: Option<PathBuf>,
    /// Lines of text instead of the full screen, which a terminal gets otherwise
    #[arg(long, help_heading = "Output")]
    pub plain: bool,
    /// Every socket in the table, not only those that hold most
    #[arg(long, help_heading = "Output")]
    pub all_sockets: bool,
    /// Prints every field with its kernel field, unit and meaning, and ends
    #[arg(long, help_heading = "Output")]
    pub explain: bool,
    /// Format, colour, verbosity.
    #[command(flatten)]
    pub output: Output,
}

impl TraceArgs {
    /// `Settings::coalesce_ns`: 0 where every change is to be sent.
    #[must_use]
    pub fn coalesce_ns(&self) -> u64 {
        if self.exact { 0 } else { nanos(self.coalesce) }
    }

    /// `Settings::idle_after_ns`.
    #[must_use]
    pub fn idle_after_ns(&self) -> u64 {
        nanos(self.idle_after)
    }
}

/// Durations come from `parse_duration`, which knows no longer ones.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[derive(Clone, Debug, PartialEq, Eq, Args)]
#[command(next_help_heading = "Kind of sockets")]
struct Kinds {
    /// TCP sockets (the default)
    #[arg(long)]
    tcp: bool,
    /// UDP sockets: not in this version
    #[arg(long, hide = true)]
    udp: bool,
    /// Unix sockets: not in this version
    #[arg(long, hide = true)]
    unix: bool,
}

/// Arguments of `doctor`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct DoctorArgs {
    /// Format, colour, verbosity.
    #[command(flatten)]
    pub output: Output,
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Invocation {
    /// Trace and show.
    Live(Box<LiveArgs>),
    /// Trace into a file.
    Record(Box<RecordArgs>),
    /// Show a recording.
    Replay(Box<ReplayArgs>),
    /// Write a recording in another format.
    Export(ExportArgs),
    /// Report a recording.
    Report(ReportArgs),
    /// Compare two recordings.
    Diff(DiffArgs),
    /// Hold a recording against limits.
    Check(Box<CheckArgs>),
    /// Print `plain::explain()`.
    Explain,
    /// Say where the memory is.
    Where(Box<WhereArgs>),
    /// Read every socket once.
    Snapshot(Box<SnapshotArgs>),
    /// Look at the host.
    Doctor(DoctorArgs),
    /// Print a shell's completions.
    Completions(CompletionsArgs),
    /// Print or write manual pages.
    Man(ManArgs),
}

/// Nothing to do but to print this and end: help, version, or what is wrong with the arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// To be printed.
    pub text: String,
    /// `Done` for help and version, which go to stdout; else `Failed`, and stderr.
    pub exit: Exit,
}

impl Stop {
    /// Prints it where it belongs. A closed pipe is not an error.
    #[must_use]
    pub fn print(&self) -> Exit {
        let _ = match self.exit {
            Exit::Done => std::io::stdout().write_all(self.text.as_bytes()),
            _ => std::io::stderr().write_all(self.text.as_bytes()),
        };
        self.exit
    }
}

/// Parses the arguments, the program's name first.
///
/// # Errors
/// `Stop` where there is nothing to run: help, version, wrong usage.
pub fn parse<I>(args: I) -> Result<Invocation, Stop>
where
    I: IntoIterator<Item: Into<OsString> + Clone>,
{
    let mut command = command();
    let cli = command
        .try_get_matches_from_mut(args)
        .and_then(|matches| Cli::from_arg_matches(&matches))
        .map_err(|e| stop(&e))?;
    match cli.command {
        Some(Command::Doctor(args)) => Ok(Invocation::Doctor(args)),
        Some(Command::Report(args)) => Ok(Invocation::Report(args)),
        Some(Command::Diff(args)) => Ok(Invocation::Diff(args)),
        Some(Command::Check(args)) => Ok(Invocation::Check(args)),
        Some(Command::Where(args)) => Ok(Invocation::Where(args)),
        Some(Command::Snapshot(args)) => Ok(Invocation::Snapshot(args)),
        Some(Command::Completions(args)) => Ok(Invocation::Completions(args)),
        Some(Command::Man(args)) => Ok(Invocation::Man(args)),
        Some(Command::Live(args)) => {
            // Errors name the usage of the command that was meant.
            let live = command.find_subcommand_mut("live").cloned();
            check_live(*args, &mut live.unwrap_or(command))
        }
        Some(Command::Record(args)) => {
            let record = command.find_subcommand_mut("record").cloned();
            check_trace(
                &args.trace,
                args.command.is_empty(),
                &mut record.unwrap_or(command),
            )?;
            Ok(Invocation::Record(args))
        }
        Some(Command::Replay(args)) => Ok(Invocation::Replay(args)),
        Some(Command::Export(args)) => Ok(Invocation::Export(args)),
        None => check_live(cli.live, &mut command),
    }
}

/// The parser with the help that comes from the table of fields; also for manuals and completions.
#[must_use]
pub fn command() -> clap::Command {
    let live_help = format!("{LIVE_EXAMPLES}\n\n{}{LIVE_NOTES}", fields::brief());
    Cli::command()
        .override_usage("sockmem-trace TARGET [OPTIONS]\n       sockmem-trace <COMMAND>")
        .after_help(SHORT_EXAMPLES)
        .after_long_help(live_help.clone())
        .mut_subcommand("live", |c| {
            c.override_usage("sockmem-trace live TARGET [OPTIONS]")
                .after_help(SHORT_EXAMPLES)
                .after_long_help(live_help)
        })
        .mut_subcommand("record", |c| {
            c.override_usage(record::USAGE)
                .after_help(record::SHORT_EXAMPLES)
                .after_long_help(record::NOTES)
        })
        .mut_subcommand("replay", |c| {
            c.after_help(replay::SHORT_EXAMPLES)
                .after_long_help(replay::NOTES)
        })
        .mut_subcommand("export", |c| {
            c.after_help(export::SHORT_EXAMPLES)
                .after_long_help(export::NOTES)
        })
        .mut_subcommand("report", |c| c.after_help(report::NOTES))
        .mut_subcommand("diff", |c| c.after_help(diff::NOTES))
        .mut_subcommand("check", |c| c.after_help(check::NOTES))
        .mut_subcommand("doctor", |c| c.after_help(DOCTOR_NOTES))
        .mut_subcommand("where", |c| c.after_help(WHERE_NOTES))
        .mut_subcommand("snapshot", |c| c.after_help(SNAPSHOT_NOTES))
        .mut_subcommand("completions", |c| c.after_help(COMPLETIONS_EXAMPLE))
        .mut_subcommand("man", |c| c.after_help(MAN_EXAMPLE))
}

const SHORT_EXAMPLES: &str = "\
Example: sudo sockmem-trace --pid 4242
--help says more, with examples and the kernel's fields.";

const LIVE_EXAMPLES: &str = "\
Examples:
  sudo sockmem-trace --pid 4242                           one process, until Ctrl-C
  sudo sockmem-trace --comm nginx --follow                by name, and the children it makes
  sudo sockmem-trace --listener 0.0.0.0:443 --plain       one listener's connections, as lines
  sudo sockmem-trace --all --duration 60s --format json   everything, for a program
  sockmem-trace live --explain                            what each column means";

const LIVE_NOTES: &str = "
Sizes: 4096, 64KiB, 2M (= 2MiB). Times: 250us, 1500ms, 10s, 5m, 1h.
Exit status: 0 done, also after Ctrl-C; 2 wrong usage, or a host that cannot do it.
What this host allows: sudo sockmem-trace doctor";

const WHERE_NOTES: &str = "\
Examples:
  sudo sockmem-trace where                     the whole host
  sudo sockmem-trace where --pid 4242          beginning with one process
  sockmem-trace where --explain                what each step means
Needs no eBPF, and no root for most of it; what cannot be read is `-`, and why is said.";

const SNAPSHOT_NOTES: &str = "\
Examples:
  sudo sockmem-trace snapshot --top 20                   what holds most
  sudo sockmem-trace snapshot --group process            who holds most
  sudo sockmem-trace snapshot --port 443 --format csv    for a spreadsheet
  sockmem-trace snapshot --explain                       what each field means
Needs no eBPF. Without root, owners of other users' sockets and other network namespaces are not known.";

const DOCTOR_NOTES: &str = "\
Example: sudo sockmem-trace doctor
Exit status: 0 a trace would work (perhaps with less than exact counters: see the rows marked
warn); 2 it would not (see the rows marked fail).";

const COMPLETIONS_EXAMPLE: &str = "\
Example: sockmem-trace completions bash | sudo tee /etc/bash_completion.d/sockmem-trace";

const MAN_EXAMPLE: &str = "\
Example: sockmem-trace man | man -l -";

const NO_TARGET: &str = "\
no target: which sockets are to be traced? Name at least one of
  --pid PID               those of a process (with --follow: of its children too)
  --comm NAME             those of every process of that name
  --cgroup PATH           those of a control group
  --port N                those with that port at either end
  --listener ADDR:PORT    a listener and its connections
  --all                   every TCP socket of this host
for example: sudo sockmem-trace --pid 4242";

fn check_live(args: LiveArgs, command: &mut clap::Command) -> Result<Invocation, Stop> {
    if args.explain {
        return Ok(Invocation::Explain);
    }
    check_trace(&args.trace, true, command)?;
    Ok(Invocation::Live(Box::new(args)))
}

/// What clap cannot check. With a command to run a target need not be named.
fn check_trace(
    args: &TraceArgs,
    needs_target: bool,
    command: &mut clap::Command,
) -> Result<(), Stop> {
    let mut wrong = |message: &str| Err(stop(&command.error(ErrorKind::ValueValidation, message)));
    for (given, flag, what) in [
        (args.kinds.udp, "--udp", "UDP"),
        (args.kinds.unix, "--unix", "Unix"),
    ] {
        if given {
            return wrong(&format!(
                "this version traces TCP only, not {what} sockets; run the same command without {flag}"
            ));
        }
    }
    let target = &args.target;
    if needs_target && target.is_empty() {
        return wrong(NO_TARGET);
    }
    let processes = [
        target.pids.is_empty(),
        target.comms.is_empty(),
        target.cgroups.is_empty(),
    ];
    if needs_target && target.follow && processes.iter().all(|none| *none) {
        return wrong(
            "--follow traces the children of processes, and none is named; add --pid PID, \
             --comm NAME or --cgroup PATH",
        );
    }
    Ok(())
}

fn stop(error: &clap::Error) -> Stop {
    let exit = if error.use_stderr() {
        Exit::Failed
    } else {
        Exit::Done
    };
    Stop {
        text: error.render().to_string(),
        exit,
    }
}

fn parse_positive(text: &str) -> Result<Duration, String> {
    let duration = units::parse_duration(text).map_err(|e| e.to_string())?;
    if duration.is_zero() {
        Err("must be longer than no time at all".to_owned())
    } else {
        Ok(duration)
    }
}

pub(super) fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_positive(text)?;
    if interval < MIN_INTERVAL {
        let least = units::format_duration(MIN_INTERVAL);
        return Err(format!("is too short; the shortest is {least}"));
    }
    Ok(interval)
}

fn parse_ring_size(text: &str) -> Result<u32, String> {
    let size = units::parse_size(text).map_err(|e| e.to_string())?;
    let fits = u32::try_from(size)
        .ok()
        .filter(|n| n.is_power_of_two() && (MIN_RING_SIZE..=MAX_RING_SIZE).contains(n));
    fits.ok_or_else(|| {
        let next = size
            .clamp(u64::from(MIN_RING_SIZE), u64::from(MAX_RING_SIZE))
            .next_power_of_two();
        format!(
            "the kernel needs a power of two from {} to {}; try {}",
            units::format_size(u64::from(MIN_RING_SIZE)),
            units::format_size(u64::from(MAX_RING_SIZE)),
            units::format_size(next)
        )
    })
}

#[cfg(test)]
mod tests;
