//! `cargo xtask bench`: everything that `docs/PERFORMANCE.md` quotes, measured in one run.
//!
//! Results are ratios and medians of several runs that take turns; a target beside a result is
//! met or not, and no result fails the command: this machine's timings are nobody's promise.

mod bpftrace;
mod header;
mod hooks;
mod iperf;
mod memory;
mod recording;
mod redis;
mod snapshot;
mod stats;
mod table;
mod throughput;
mod tracer;
mod user;

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{exec, paths};
use table::Row;

/// What to measure, and how often.
#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    /// Only these: hooks, bpftrace, bulk, requests, ingest, recording, memory, idle, loads, attach, snapshot
    names: Vec<String>,
    /// Runs of each kind
    #[arg(long, value_name = "N", default_value_t = 7)]
    rounds: usize,
    /// How long connections come and go while the tracer's memory is watched (memory)
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    churn: u64,
    /// Writes every result there, too, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Measures these programs instead of those in the tree
    #[arg(long, value_name = "FILE")]
    object: Option<PathBuf>,
}

/// What the measurements share.
struct Bench {
    /// `sockmem-trace`.
    tool: PathBuf,
    /// `sockmem-bench`.
    helper: PathBuf,
    /// As `Options::object`.
    object: Option<PathBuf>,
    /// As `Options::rounds`.
    rounds: usize,
    /// As `Options::churn`.
    churn_s: u64,
    /// A folder for what is needed while it runs.
    scratch: PathBuf,
}

impl Bench {
    /// A command of the measuring program.
    fn helper(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.helper);
        command.args(args);
        self.with_object(&mut command);
        command
    }

    /// Passes on which eBPF object to load.
    fn with_object(&self, command: &mut Command) {
        if let Some(object) = &self.object {
            command.env("SOCKMEM_BPF_OBJECT", object);
        }
    }

    /// What a command of the measuring program prints.
    fn ask(&self, args: &[&str]) -> Result<Value> {
        let text = exec::capture_text(&mut self.helper(args))?;
        serde_json::from_str(&text).context("sockmem-bench printed what is no JSON")
    }
}

type Measure = fn(&Bench) -> Result<Vec<Row>>;

const MEASUREMENTS: &[(&str, Measure)] = &[
    ("hooks", hooks::measure),
    ("bpftrace", bpftrace::measure),
    ("bulk", throughput::bulk),
    ("requests", throughput::requests),
    ("ingest", user::ingest),
    ("recording", recording::measure),
    ("memory", memory::measure),
    ("idle", user::idle),
    ("loads", user::loads),
    ("attach", user::attach),
    ("snapshot", snapshot::measure),
];

/// Builds what is measured, measures it, prints the table.
///
/// # Errors
/// When a name is unknown, it is not root that asks, or what is measured cannot be built.
pub(crate) fn run(options: &Options) -> Result<()> {
    let names: Vec<&str> = MEASUREMENTS.iter().map(|(name, _)| *name).collect();
    for name in &options.names {
        if !names.contains(&name.as_str()) {
            bail!(
                "there is no measurement {name:?}; known: {}",
                names.join(", ")
            );
        }
    }
    if !exec::is_root() {
        bail!("attaching programs needs root: run `sudo -E cargo xtask bench`");
    }
    let bench = prepare(options)?;
    // Everything measured is started from here: it goes before whatever else this machine does.
    exec::run(
        Command::new("renice")
            .args(["-n", "-15", "-p", &std::process::id().to_string()])
            .stdout(std::process::Stdio::null()),
    )?;
    let header = header::gather(&bench)?;
    print!("{}", header.text());
    let mut rows = Vec::new();
    for (name, measure) in MEASUREMENTS {
        if !options.names.is_empty() && !options.names.iter().any(|n| n == name) {
            continue;
        }
        eprintln!("measuring: {name}");
        // One that fails is a line of the table: the others still say something.
        let new = measure(&bench).unwrap_or_else(|error| {
            vec![Row::new(*name, "", None).note(format!("could not be measured: {error:#}"))]
        });
        print!("{}", table::text(name, &new));
        rows.extend(new.into_iter().map(|row| (*name, row)));
    }
    if let Some(path) = &options.json {
        let document = serde_json::json!({
            "schema": "sockmem-trace/bench/1",
            "header": header.json(),
            "results": rows.iter().map(|(name, row)| row.json(name)).collect::<Vec<_>>(),
        });
        exec::write(path, format!("{document:#}\n"))?;
    }
    Ok(())
}

fn prepare(options: &Options) -> Result<Bench> {
    exec::run(
        exec::cargo()
            .args(["build", "--release", "--locked", "--bin", "sockmem-trace"])
            .args(["--bin", "sockmem-bench", "-p", "sockmem-user", "-p"])
            .arg("sockmem-tests")
            .current_dir(paths::workspace()),
    )?;
    let release = paths::target().join("release");
    let scratch = paths::target().join("bench");
    exec::make_folder(&scratch)?;
    let object = match &options.object {
        Some(path) => Some(
            std::path::absolute(path).with_context(|| format!("no path: {}", path.display()))?,
        ),
        None => None,
    };
    Ok(Bench {
        tool: release.join("sockmem-trace"),
        helper: release.join("sockmem-bench"),
        object,
        rounds: options.rounds.max(1),
        churn_s: options.churn,
        scratch,
    })
}
