//! `report`: what a recording tells.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::exit::Exit;
use super::input::{self, Looks};
use crate::sinks::plain::{DEFAULT_ROWS, Options};
use crate::sinks::report;

pub(super) const NOTES: &str = "\
Examples:
  sockmem-trace report load.smt                       the answer, then what it rests on
  sockmem-trace report load.smt --format json         what `live --format json` prints last
  ssh root@small cat load.smt | sockmem-trace report -

A recording that was cut off (a full disk, a kill) is read up to there; the report says so.
Exit status: 0 done; 2 wrong usage, or input that is no recording.";

/// How a report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One document, as `live --format json` ends with.
    Json,
}

/// Arguments of `report`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct ReportArgs {
    /// A recording; `-` is stdin
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Text for people, or JSON for programs
    #[arg(long, value_enum, default_value_t = Format::Text, help_heading = "Output")]
    pub format: Format,
    /// Writes the report into a new file
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    pub output: Option<PathBuf>,
    /// Replaces that file if it exists
    #[arg(long, requires = "output", help_heading = "Output")]
    pub force: bool,
    /// Every owner in the table, not only those that hold most
    #[arg(long, help_heading = "Output")]
    pub all: bool,
    /// Colour, character set.
    #[command(flatten)]
    pub looks: Looks,
}

/// Reads and reports.
pub(super) fn run(args: &ReportArgs) -> anyhow::Result<Exit> {
    let r = input::read(&args.file, false)?;
    input::write(args.output.as_ref(), args.force, |mut out| {
        match args.format {
            Format::Json => {
                input::warn(&r);
                report::write_json(&r.view, &r.host, &r.from, &mut out)
            }
            Format::Text => {
                let into_file = args.output.as_ref().is_some_and(|o| !input::is_stream(o));
                let look = if into_file {
                    args.looks.of(false)
                } else {
                    args.looks.look()
                };
                let options = Options {
                    target: r.target.clone(),
                    look,
                    rows: (!args.all).then_some(DEFAULT_ROWS),
                };
                let text = report::render(&r.view, &r.host, &r.from, &options);
                out.write_all(text.as_bytes())
            }
        }
    })?;
    Ok(Exit::Done)
}
