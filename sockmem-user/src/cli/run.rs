//! From arguments to a command, and from an error to one sentence and exit code 2.

use std::ffi::OsString;
use std::io::{self, Write};

use super::args::{self, Invocation};
use super::exit::Exit;
use super::{check, diff, doctor, export, inspect, live, manual, record, replay, report};
use crate::host::facts::Facts;
use crate::host::info::HostInfo;
use crate::host::prerequisites;
use crate::sinks::HostFacts;
use crate::sinks::plain;

/// Runs the command line `args` (with the program's name first).
pub fn run<I>(args: I) -> Exit
where
    I: IntoIterator,
    I::Item: Into<OsString> + Clone,
{
    let result = match args::parse(args) {
        Err(stop) => return stop.print(),
        Ok(Invocation::Explain) => write_all(&plain::explain())
            .map(|()| Exit::Done)
            .map_err(Into::into),
        Ok(Invocation::Doctor(args)) => doctor::run(&args),
        Ok(Invocation::Where(args)) => inspect::account(&args),
        Ok(Invocation::Snapshot(args)) => inspect::snapshot(&args),
        Ok(Invocation::Live(args)) => live::run(&args),
        Ok(Invocation::Record(args)) => record::run(&args),
        Ok(Invocation::Replay(args)) => replay::run(&args),
        Ok(Invocation::Export(args)) => export::run(&args),
        Ok(Invocation::Report(args)) => report::run(&args),
        Ok(Invocation::Diff(args)) => diff::run(&args),
        Ok(Invocation::Check(args)) => check::run(&args),
        Ok(Invocation::Completions(args)) => manual::completions(&args),
        Ok(Invocation::Man(args)) => manual::man(&args),
    };
    match result {
        Ok(exit) => exit,
        Err(error) if is_closed_pipe(&error) => Exit::Done,
        Err(error) => {
            eprintln!("sockmem-trace: {}", sentence(&error));
            Exit::Failed
        }
    }
}

/// Whether the reader of stdout has gone, which is no error.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
    })
}

/// The error and its causes in one line, none said twice.
fn sentence(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let one = cause.to_string();
        if !text.contains(&one) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&one);
        }
    }
    text
}

/// Why tracing cannot start on this host, as the doctor says it; the same sentence for every command.
pub(super) fn tracing_refused() -> Option<String> {
    prerequisites::first_failure(&prerequisites::tracing(&Facts::gather()))
}

/// What every document says about the host.
pub(super) fn host_facts() -> HostFacts {
    match HostInfo::read() {
        Ok(info) => HostFacts {
            kernel: info.kernel,
            hostname: info.hostname,
            boot_id: info.boot_id,
            page_size: info.page_size,
            cpus: info.cpus.unwrap_or(0),
        },
        Err(_) => HostFacts {
            page_size: crate::host::info::page_size(),
            ..HostFacts::default()
        },
    }
}

/// Writes to stdout.
pub(super) fn write_all(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
