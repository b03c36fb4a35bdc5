//! `export`: a recording in the formats of other tools.

use std::fs;
use std::io::{self, BufReader, BufWriter, IsTerminal as _, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};

use super::exit::Exit;
use super::recorded::{self, Interrupts};
use crate::facts::Loss;
use crate::host::newfile;
use crate::model::{Config, Input, Model};
use crate::recording::{Ending, Reader};
use crate::sinks::export::columns::{EVENTS, Head, SOCKETS, heads};
use crate::sinks::export::csv::Csv;
use crate::sinks::export::document::Document;
use crate::sinks::export::events::{EventSink, Events};
use crate::sinks::export::perfetto::Perfetto;
use crate::sinks::export::{EventRows, Rows, Source, socket_row};
use crate::sinks::text;

/// Inputs between two looks for signals.
const LOOK: u64 = 1 << 16;
/// Closed sockets that wait to be written.
const CLOSED: usize = 1024;

pub(super) const SHORT_EXAMPLES: &str = "\
Example: sockmem-trace export a.smt --format csv -o a.csv
--help says more.";

pub(super) const NOTES: &str = "\
Examples:
  sockmem-trace export a.smt --format csv -o -                  every event, for a script
  sockmem-trace export a.smt --format perfetto -o a.pftrace     for ui.perfetto.dev
  sockmem-trace export a.smt --format parquet -o a.parquet      for DuckDB, Spark, ClickHouse
  sockmem-trace export a.smt --format parquet --what sockets -o sockets/a.parquet
                                                                for questions about many hosts

Columns and members: docs/OUTPUT.md. Many hosts: docs/FLEET.md.
FILE `-` is stdin. OUTPUT is made with mode 0600 and, under sudo, belongs to the user who called it;
one that is not finished is removed.
No privilege is needed, and nothing is asked of this host.
Exit status: 0 done; 2 wrong usage, what cannot be read or written, or Ctrl-C.";

/// Arguments of `export`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct ExportArgs {
    /// The recording; `-` is stdin
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// What to make of it
    #[arg(long, value_enum)]
    pub format: ExportFormat,
    /// A row for each event, or for each socket with its sums over the whole recording
    #[arg(long, value_enum, default_value_t = What::Events)]
    pub what: What,
    /// The file to write; `-` is stdout
    #[arg(short, long, value_name = "OUTPUT")]
    pub output: PathBuf,
    /// Replaces OUTPUT if it exists
    #[arg(long)]
    pub force: bool,
}

/// `export --format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// Comma-separated values.
    Csv,
    /// One JSON document, a line for each row.
    Json,
    /// A trace for ui.perfetto.dev and trace_processor.
    Perfetto,
    /// A table for DuckDB, Spark, ClickHouse.
    Parquet,
}

/// `export --what`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// Each event.
    Events,
    /// Each socket.
    Sockets,
}

impl What {
    fn name(self) -> &'static str {
        match self {
            What::Events => "events",
            What::Sockets => "sockets",
        }
    }
}

/// Writes the export, or nothing.
pub(super) fn run(args: &ExportArgs) -> anyhow::Result<Exit> {
    if args.format == ExportFormat::Perfetto && args.what == What::Sockets {
        bail!(
            "a Perfetto trace is made of events: leave out --what sockets, or take another --format"
        );
    }
    #[cfg(not(feature = "parquet"))]
    if args.format == ExportFormat::Parquet {
        bail!(
            "this sockmem-trace was built without Parquet: build it with --features parquet, \
             or take --format csv"
        );
    }
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the event loop")?
        .block_on(export(args))
}

async fn export(args: &ExportArgs) -> anyhow::Result<Exit> {
    let interrupts = Interrupts::new().context("listening for SIGINT and SIGTERM")?;
    let name = args.file.file_name().unwrap_or_default();
    let recording = name.to_string_lossy().into_owned();
    let stdin = args.file == Path::new("-");
    let (reader, end_mono_ns): (Reader<Box<dyn Read>>, _) = if stdin {
        let from: Box<dyn Read> = Box::new(BufReader::with_capacity(1 << 18, io::stdin()));
        (Reader::open(from).context("stdin")?, None)
    } else {
        // Each row of a socket says how long the recording is: found out before the first one.
        let end_ns = match args.what {
            What::Sockets => Some(recorded::end_ns(&args.file)?),
            What::Events => None,
        };
        let file = fs::File::open(&args.file)
            .with_context(|| format!("opening {}", recorded::shown(&args.file)))?;
        let from: Box<dyn Read> = Box::new(BufReader::with_capacity(1 << 18, file));
        let reader = Reader::open(from).with_context(|| recorded::shown(&args.file))?;
        (reader, end_ns)
    };
    let source = Source {
        recording,
        header: reader.header().clone(),
        end_mono_ns,
    };
    let out = Out::create(&args.output, args.force, args.format)?;
    let mut job = Job {
        reader,
        source,
        interrupts,
        loss: None,
    };
    let result = job.write(args, out.writer).await;
    if let (Err(_), Some(made)) = (&result, &out.made) {
        // What is not finished looks like what is: it must not stay.
        let _ = fs::remove_file(made);
    }
    let (count, ending) = result?;
    recorded::warn_of_truncation(&args.file, job.source.header.start_mono_ns, &ending);
    if let Some(late) = job.loss.filter(|l| l.dropped_ring > 0) {
        eprintln!(
            "sockmem-trace: {} changes were lost when this was recorded (ring full): events are \
             missing, sums of sockets are not",
            text::count(late.dropped_ring)
        );
    }
    if let Some(made) = &out.made {
        let (one, many) = match args.what {
            What::Events => ("event", "events"),
            What::Sockets => ("socket", "sockets"),
        };
        eprintln!(
            "sockmem-trace: {} in {}",
            text::counted(count, one, many),
            recorded::shown(made)
        );
    }
    Ok(Exit::Done)
}

/// Where it goes.
struct Out {
    writer: Box<dyn Write + Send>,
    /// The file that was made for it.
    made: Option<PathBuf>,
}

impl Out {
    fn create(path: &Path, force: bool, format: ExportFormat) -> anyhow::Result<Out> {
        if path == Path::new("-") {
            let binary = matches!(format, ExportFormat::Perfetto | ExportFormat::Parquet);
            if binary && io::stdout().is_terminal() {
                bail!(
                    "this format is not text, and stdout is a terminal: name a file with -o, or pipe it on"
                );
            }
            return Ok(Out {
                writer: Box::new(BufWriter::with_capacity(1 << 18, io::stdout())),
                made: None,
            });
        }
        let file = newfile::create(path, force)?;
        Ok(Out {
            writer: Box::new(BufWriter::with_capacity(1 << 18, file)),
            made: Some(path.to_owned()),
        })
    }
}

struct Job {
    reader: Reader<Box<dyn Read>>,
    source: Source,
    interrupts: Interrupts,
    loss: Option<Loss>,
}

impl Job {
    /// Writes everything. Returns how many rows there were and how the recording ended.
    async fn write(
        &mut self,
        args: &ExportArgs,
        out: Box<dyn Write + Send>,
    ) -> anyhow::Result<(u64, Ending)> {
        let heads: Vec<Head> = match args.what {
            What::Events => heads(&EVENTS),
            What::Sockets => heads(&SOCKETS),
        };
        let source = self.source.clone();
        match (args.format, args.what) {
            (ExportFormat::Perfetto, _) => {
                let mut to = Perfetto::new(out, &source)?;
                self.events(&mut to).await?;
                let (count, ending) = (to.count(), self.reader.ending());
                to.finish(end_of(&ending))?;
                Ok((count, ending))
            }
            (ExportFormat::Csv, What::Events) => {
                let rows = Csv::events(out, &heads)?;
                let (rows, count) = self.event_rows(&source, rows).await?;
                rows.finish()?;
                Ok((count, self.reader.ending()))
            }
            (ExportFormat::Csv, What::Sockets) => {
                let mut rows = Csv::new(out, &heads)?;
                let count = self.sockets(|s| socket_row(&source, s, &mut rows)).await?;
                rows.finish()?;
                Ok((count, self.reader.ending()))
            }
            (ExportFormat::Json, What::Events) => {
                let rows = Document::new(out, &source, args.what.name(), &heads)?;
                let (rows, count) = self.event_rows(&source, rows).await?;
                rows.finish(self.loss.as_ref(), &self.reader.ending())?;
                Ok((count, self.reader.ending()))
            }
            (ExportFormat::Json, What::Sockets) => {
                let mut to = Document::new(out, &source, args.what.name(), &heads)?;
                let count = self.sockets(|s| to.socket(s)).await?;
                to.finish(self.loss.as_ref(), &self.reader.ending())?;
                Ok((count, self.reader.ending()))
            }
            #[cfg(feature = "parquet")]
            (ExportFormat::Parquet, what) => {
                use crate::sinks::export::parquet::Parquet;
                let mut rows = Parquet::new(out, &source, what.name(), &heads)?;
                let count = match what {
                    What::Events => {
                        let (done, count) = self.event_rows(&source, rows).await?;
                        rows = done;
                        count
                    }
                    What::Sockets => self.sockets(|s| socket_row(&source, s, &mut rows)).await?,
                };
                rows.finish()?.flush()?;
                Ok((count, self.reader.ending()))
            }
            #[cfg(not(feature = "parquet"))]
            (ExportFormat::Parquet, _) => bail!("built without Parquet"),
        }
    }

    async fn event_rows<R: Rows>(&mut self, source: &Source, rows: R) -> anyhow::Result<(R, u64)> {
        let mut to = EventRows {
            source,
            rows,
            count: 0,
        };
        self.events(&mut to).await?;
        Ok((to.rows, to.count))
    }

    /// Every event, oldest first.
    async fn events(&mut self, to: &mut impl EventSink) -> anyhow::Result<()> {
        let mut events = Events::default();
        let mut taken = 0;
        while let Some((t_ns, input)) = self.reader.next()? {
            if let Input::Loss(loss) = input {
                self.loss = Some(*loss);
            }
            events.take(t_ns, input, to)?;
            looked(&mut taken, &mut self.interrupts).await?;
        }
        events.finish(to)?;
        if events.late() > 0 {
            eprintln!(
                "sockmem-trace: {} not in order: recorded too late to be sorted in",
                text::counted(events.late(), "event is", "events are")
            );
        }
        Ok(())
    }

    /// Every socket: closed ones as they go, then those that live at the end.
    async fn sockets(
        &mut self,
        mut each: impl FnMut(&crate::model::SocketTotals) -> io::Result<()>,
    ) -> anyhow::Result<u64> {
        let mut model = Model::new(Config {
            // They are taken out before the list gets long.
            max_closed: usize::MAX,
            ..self.source.header.config()
        });
        let (mut count, mut taken) = (0, 0);
        let mut last_ns = self.source.header.start_mono_ns;
        while let Some((t_ns, input)) = self.reader.next()? {
            if let Input::Loss(loss) = input {
                self.loss = Some(*loss);
            }
            last_ns = last_ns.max(t_ns);
            model.feed(input);
            if model.closed_kept() >= CLOSED {
                for socket in model.take_closed() {
                    each(&socket)?;
                    count += 1;
                }
            }
            looked(&mut taken, &mut self.interrupts).await?;
        }
        let end_ns = match self.reader.ending() {
            Ending::Clean { end_mono_ns, .. } => end_mono_ns,
            Ending::Truncated { .. } => last_ns,
        };
        for socket in model
            .take_closed()
            .into_iter()
            .chain(model.live_totals(end_ns))
        {
            each(&socket)?;
            count += 1;
        }
        Ok(count)
    }
}

/// Until when a recording tells.
fn end_of(ending: &Ending) -> u64 {
    match *ending {
        Ending::Clean { end_mono_ns, .. } => end_mono_ns,
        Ending::Truncated { lost_after_ns, .. } => lost_after_ns,
    }
}

/// Fails once somebody wants it to end.
async fn looked(taken: &mut u64, interrupts: &mut Interrupts) -> anyhow::Result<()> {
    *taken += 1;
    if taken.is_multiple_of(LOOK) && interrupts.came().await {
        bail!("interrupted: nothing was exported");
    }
    Ok(())
}
