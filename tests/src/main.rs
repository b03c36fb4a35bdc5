//! `sockmem-e2e`: the end-to-end tests of sockmem-trace, as one plain binary that runs as root
//! in a kernel VM without a shell, and on a developer's machine with `--host`.
//!
//!     sockmem-e2e [--list] [--host] [--tier TIER] [FILTER...]
//!     sockmem-e2e workload [NAME [--host]]      one workload alone, obeying stdin
//!
//! Prints a line per test and exits 1 when one failed.

mod actor;
mod bpf;
mod case;
mod command;
mod net;
mod oracle;
mod trace;
mod workload;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};

/// Command line of the runner.
#[derive(Debug, Default)]
pub(crate) struct Options {
    /// Only print the tests' names.
    list: bool,
    /// On a developer's machine: tracepoint tier only, trace nothing but own processes.
    host: bool,
    /// Only tests of this tier.
    tier: Option<String>,
    /// A test runs when its name contains one of these; with none, all run.
    filters: Vec<String>,
}

fn parse(args: impl Iterator<Item = String>) -> Result<Options> {
    let mut options = Options::default();
    let mut args = args;
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--list" => options.list = true,
            "--host" => options.host = true,
            "--tier" => {
                let tier = args.next().context("--tier needs a tier")?;
                if !["fentry", "kprobe", "tracepoint", "none"].contains(&tier.as_str()) {
                    bail!("no tier {tier:?}; known: fentry, kprobe, tracepoint, none");
                }
                options.tier = Some(tier);
            }
            other if other.starts_with('-') => {
                bail!("unknown option {other}; known: --list, --host, --tier TIER, FILTER...")
            }
            filter => options.filters.push(filter.to_owned()),
        }
    }
    Ok(options)
}

fn play_workload(args: &[String]) -> Result<()> {
    let host = args.iter().any(|a| a == "--host");
    match args.iter().find(|a| !a.starts_with('-')) {
        Some(name) => workload::play(name, host, if host { 4 } else { 1 }),
        None => {
            for name in workload::names(|_| true) {
                println!("{name}");
            }
            Ok(())
        }
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|a| a == "command") {
        return command::run(&args[1..]).unwrap_or_else(|e| {
            eprintln!("sockmem-e2e command: {e:#}");
            ExitCode::from(99)
        });
    }
    let outcome = if args.first().is_some_and(|a| a == "workload") {
        play_workload(&args[1..]).map(|()| true)
    } else {
        parse(args.into_iter()).and_then(|options| case::run_all(&options))
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(e) => {
            eprintln!("sockmem-e2e: {e:#}");
            ExitCode::from(2)
        }
    }
}
