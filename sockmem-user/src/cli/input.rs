//! Recordings as input: opened, read once, and what comes of it.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;

use super::args::{Color, Format, Output};
use super::live;
use crate::host::newfile;
use crate::model::survey::Survey;
use crate::model::{Model, View};
use crate::recording::{Reader, read_all};
use crate::sinks::HostFacts;
use crate::sinks::look::Look;
use crate::sinks::report::Recorded;

/// How text looks, for commands with a choice of formats of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Args)]
#[command(next_help_heading = "Output")]
pub struct Looks {
    /// Colour in text; `auto` is on a terminal and unless NO_COLOR is set
    #[arg(long, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    pub color: Color,
    /// ASCII only; also where the locale is not UTF-8
    #[arg(long)]
    pub ascii: bool,
}

impl Looks {
    /// The look of stdout.
    pub(super) fn look(self) -> Look {
        self.of(io::stdout().is_terminal())
    }

    /// The look of something that is, or is not, a terminal.
    pub(super) fn of(self, terminal: bool) -> Look {
        let output = Output {
            format: Format::Text,
            color: self.color,
            ascii: self.ascii,
            verbose: 0,
        };
        live::look(&output, terminal)
    }
}

/// A recording that was read to its end.
pub(super) struct Recording {
    /// The picture at its end.
    pub(super) view: View,
    /// What a comparison needs, where it was asked for.
    pub(super) survey: Option<Survey>,
    /// Where it was recorded.
    pub(super) host: HostFacts,
    /// What was traced, in words.
    pub(super) target: String,
    /// What else is to be said about it.
    pub(super) from: Recorded,
}

impl Recording {
    /// The survey, of a recording that was read with one.
    pub(super) fn survey(&self) -> anyhow::Result<&Survey> {
        self.survey.as_ref().context("read without a survey")
    }
}

/// Whether a path stands for stdin or stdout.
pub(super) fn is_stream(path: &Path) -> bool {
    path == Path::new("-")
}

/// Reads `path`, or stdin for `-`. `survey`: with what a comparison needs.
pub(super) fn read(path: &Path, survey: bool) -> anyhow::Result<Recording> {
    let name = path.to_string_lossy().into_owned();
    let shown = || crate::sinks::escape::escape(&name, false).into_owned();
    let result = if is_stream(path) {
        if io::stdin().is_terminal() {
            bail!("a recording is not text, and stdin is a terminal: name a file, or pipe one in");
        }
        read_from(io::stdin().lock(), &name, survey)
    } else {
        let file = File::open(path).with_context(|| format!("cannot open {}", shown()))?;
        read_from(io::BufReader::with_capacity(256 << 10, file), &name, survey)
    };
    result.with_context(|| format!("cannot read {}", shown()))
}

fn read_from(from: impl Read, name: &str, survey: bool) -> anyhow::Result<Recording> {
    let mut reader = Reader::open(from)?;
    let mut config = reader.header().config();
    config.survey = survey;
    let mut model = Model::new(config);
    let summary = read_all(&mut reader, &mut model)?;
    let header = reader.header();
    let end_ns = summary.end_mono_ns;
    Ok(Recording {
        view: model.view(end_ns, header.unix_ns(end_ns)),
        survey: model.survey(end_ns),
        host: HostFacts {
            kernel: header.host.kernel.clone(),
            hostname: header.host.hostname.clone(),
            boot_id: header.host.boot_id.clone(),
            page_size: header.host.page_size,
            cpus: header.host.cpus.unwrap_or(0),
        },
        target: header.target.clone(),
        from: Recorded::new(name.to_owned(), header, &summary),
    })
}

/// Says on stderr what of a recording is missing, for outputs that are not read by people.
pub(super) fn warn(recording: &Recording) {
    if let Some(missing) = recording.from.missing(&Look::default()) {
        let name = crate::sinks::escape::escape(&recording.from.name, false).into_owned();
        eprintln!("sockmem-trace: {name}: {missing}");
    }
}

/// Writes to `path` (made anew), or to stdout for none and for `-`.
pub(super) fn write(
    path: Option<&PathBuf>,
    force: bool,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> anyhow::Result<()> {
    match path.filter(|path| !is_stream(path)) {
        None => {
            let mut out = io::BufWriter::new(io::stdout().lock());
            write(&mut out)?;
            out.flush()?;
        }
        Some(path) => {
            newfile::check(path, force)?;
            let mut out = io::BufWriter::new(newfile::create(path, force)?);
            let shown =
                || crate::sinks::escape::escape(&path.to_string_lossy(), false).into_owned();
            write(&mut out)
                .and_then(|()| out.flush())
                .with_context(|| format!("cannot write {}", shown()))?;
        }
    }
    Ok(())
}
