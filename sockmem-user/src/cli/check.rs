//! `check`: a recording held against limits, for CI.

use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueEnum};

use super::exit::Exit;
use super::input::{self, Looks};
use super::{diff, units};
use crate::model::check::{self as rules, Limits};
use crate::sinks::{check, junit};

pub(super) const NOTES: &str = "\
Examples:
  sockmem-trace check load.smt --max-resident 64MiB --max-idle-total 256KiB
  sockmem-trace check load.smt --baseline main.smt --max-increase 10%
  sockmem-trace check load.smt --max-peak-per-socket 1MiB --max-loss 0% --format junit > memory.xml

A limit whose value was not measured counts as exceeded. docs/CI.md has a whole workflow.
Sizes: 4096, 64KiB, 2M (= 2MiB). Shares: 10%, 0.5%, 0.
Exit status: 0 every limit holds; 1 one is exceeded: the output names it, its value and the sockets
behind it; 2 wrong usage, or input that is no recording.";

/// How the result is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One document.
    Json,
    /// JUnit XML: a test case for each limit.
    Junit,
}

/// Arguments of `check`.
#[derive(Clone, Debug, PartialEq, Args)]
#[command(group = ArgGroup::new("limits").required(true).multiple(true))]
pub struct CheckArgs {
    /// A recording; `-` is stdin
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Most that all sockets may hold at once
    #[arg(long, value_name = "SIZE", value_parser = parse_size, group = "limits", help_heading = "Limits")]
    pub max_resident: Option<u64>,
    /// Most that any socket may hold at once
    #[arg(long, value_name = "SIZE", value_parser = parse_size, group = "limits", help_heading = "Limits")]
    pub max_peak_per_socket: Option<u64>,
    /// Most that any socket may hold while it is idle
    #[arg(long, value_name = "SIZE", value_parser = parse_size, group = "limits", help_heading = "Limits")]
    pub max_idle_per_socket: Option<u64>,
    /// Most that all idle sockets together may hold on average
    #[arg(long, value_name = "SIZE", value_parser = parse_size, group = "limits", help_heading = "Limits")]
    pub max_idle_total: Option<u64>,
    /// By how much the low of all sockets together may rise, from the first quarter of the
    /// recording to the last eighth
    #[arg(long, value_name = "SIZE", value_parser = parse_size, group = "limits", help_heading = "Limits")]
    pub max_growth: Option<u64>,
    /// Most changes that may be missing in the recording; sockets that are missing altogether, or
    /// a recording that was cut off, exceed any
    #[arg(long, value_name = "SHARE", value_parser = parse_share, group = "limits", help_heading = "Limits")]
    pub max_loss: Option<f64>,
    /// A recording of the same load to compare with
    #[arg(
        long,
        value_name = "FILE",
        requires = "max_increase",
        help_heading = "Limits"
    )]
    pub baseline: Option<PathBuf>,
    /// By how much peak, mean and what is held while idle may exceed those of the baseline
    #[arg(long, value_name = "SHARE", value_parser = parse_share, requires = "baseline", group = "limits", help_heading = "Limits")]
    pub max_increase: Option<f64>,
    /// Text for people, JSON for programs, JUnit XML for CI
    #[arg(long, value_enum, default_value_t = Format::Text, help_heading = "Output")]
    pub format: Format,
    /// Colour, character set.
    #[command(flatten)]
    pub looks: Looks,
}

fn parse_size(text: &str) -> Result<u64, String> {
    units::parse_size(text).map_err(|e| e.to_string())
}

fn parse_share(text: &str) -> Result<f64, String> {
    units::parse_share(text).map_err(|e| e.to_string())
}

/// Reads, and judges every limit.
pub(super) fn run(args: &CheckArgs) -> anyhow::Result<Exit> {
    if let Some(baseline) = &args.baseline
        && input::is_stream(baseline)
        && input::is_stream(&args.file)
    {
        anyhow::bail!("stdin can be the recording or the baseline, not both; name a file for one");
    }
    let recording = input::read(&args.file, true)?;
    let baseline = args
        .baseline
        .as_ref()
        .map(|path| input::read(path, true))
        .transpose()?;
    let comparison = baseline
        .as_ref()
        .map(|baseline| diff::compared(baseline, &recording))
        .transpose()?;
    let limits = Limits {
        resident: args.max_resident,
        peak_per_socket: args.max_peak_per_socket,
        idle_per_socket: args.max_idle_per_socket,
        idle_total: args.max_idle_total,
        growth: args.max_growth,
        loss: args.max_loss,
        increase: args.max_increase,
    };
    let judged = rules::check(
        &limits,
        rules::Checked {
            view: &recording.view,
            survey: recording.survey()?,
            complete: recording.from.cut.is_none(),
            comparison: comparison.as_ref(),
        },
    );
    let checked = check::Checked {
        view: &recording.view,
        host: &recording.host,
        from: &recording.from,
        baseline: baseline.as_ref().map(|b| b.from.name.as_str()),
        judged: &judged,
    };
    if args.format != Format::Text {
        input::warn(&recording);
    }
    input::write(None, false, |mut out| match args.format {
        Format::Json => check::write_json(checked, &mut out),
        Format::Junit => junit::write(checked, &mut out),
        Format::Text => {
            let text = check::render(checked, &args.looks.look());
            out.write_all(text.as_bytes())
        }
    })?;
    Ok(if checked.ok() {
        Exit::Done
    } else {
        Exit::Exceeded
    })
}
