//! `diff`: two recordings compared.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;

use super::args::Format;
use super::exit::Exit;
use super::input::{self, Looks, Recording};
use crate::model::compare::{Answer, Comparison, Trace, compare};
use crate::sinks::diff::{self, Side};

pub(super) const NOTES: &str = "\
Examples:
  sockmem-trace diff before.smt after.smt                       did the lower limit help?
  sockmem-trace diff main.smt branch.smt --fail-on-increase     for CI

Says first whether the load was the same: without that, less memory means nothing. Then what
changed, by how much, and between which bounds that lies with 95 % confidence. docs/DIFF.md has
the method.
Exit status: 0 done; 1 with --fail-on-increase, if memory increased; 2 wrong usage, or input that
is no recording.";

/// Arguments of `diff`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct DiffArgs {
    /// The recording to compare with; `-` is stdin
    #[arg(value_name = "BASE")]
    pub base: PathBuf,
    /// The recording to compare; `-` is stdin
    #[arg(value_name = "NEW")]
    pub new: PathBuf,
    /// Ends with status 1 if memory increased
    #[arg(long)]
    pub fail_on_increase: bool,
    /// Text for people, or JSON for programs
    #[arg(long, value_enum, default_value_t = Format::Text, help_heading = "Output")]
    pub format: Format,
    /// Colour, character set.
    #[command(flatten)]
    pub looks: Looks,
}

/// Reads both and compares.
pub(super) fn run(args: &DiffArgs) -> anyhow::Result<Exit> {
    if input::is_stream(&args.base) && input::is_stream(&args.new) {
        bail!("stdin can be one of the two recordings, not both; name a file for the other");
    }
    let base = input::read(&args.base, true)?;
    let new = input::read(&args.new, true)?;
    let comparison = compared(&base, &new)?;
    let (b, n) = (side(&base), side(&new));
    input::write(None, false, |mut out| match args.format {
        Format::Json => {
            input::warn(&base);
            input::warn(&new);
            diff::write_json(b, n, &comparison, &mut out)
        }
        Format::Text => {
            let text = diff::render(b, n, &comparison, &args.looks.look());
            out.write_all(text.as_bytes())
        }
    })?;
    let increased = comparison.outcome.answer == Answer::Increased;
    Ok(if args.fail_on_increase && increased {
        Exit::Exceeded
    } else {
        Exit::Done
    })
}

/// Compares two recordings that were read with surveys.
pub(super) fn compared(base: &Recording, new: &Recording) -> anyhow::Result<Comparison> {
    Ok(compare(trace(base)?, trace(new)?))
}

fn trace(r: &Recording) -> anyhow::Result<Trace<'_>> {
    Ok(Trace {
        view: &r.view,
        survey: r.survey()?,
        page_size: r.host.page_size,
    })
}

fn side(r: &Recording) -> Side<'_> {
    Side {
        view: &r.view,
        host: &r.host,
        from: &r.from,
    }
}
