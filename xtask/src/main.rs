//! Every developer action of sockmem-trace: `cargo xtask <command>`.
//!
//! One file per subject; this one only names the commands. What each needs is
//! in `docs/DEVELOPING.md`.

mod bench;
mod ci;
mod ebpf;
mod exec;
mod manifest;
mod object;
mod paths;
mod python;
mod setup;
mod tally;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Developer actions of sockmem-trace")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build the eBPF object that is kept in the tree, or check it
    BuildEbpf(ebpf::Options),
    /// Boot stock Debian kernels in QEMU and run the end-to-end tests in them
    Vm(vm::Options),
    /// Formatting, lints, unit tests, the committed object, and the tests of this host's kernel
    Test,
    /// `test`, then the eBPF object rebuilt from source and tried on every kernel
    Ci(ci::Options),
    /// Measure what tracing costs, and print it as a table
    Bench(bench::Options),
    /// Install what the other commands need, on Debian and as root
    Setup(setup::Options),
}

fn main() -> ExitCode {
    if std::env::var_os(ebpf::AS_RUSTC).is_some() {
        let Err(error) = ebpf::as_rustc(std::env::args_os().skip(1));
        eprintln!("error: {error:#}");
        return ExitCode::FAILURE;
    }
    let done = match Cli::parse().command {
        Command::BuildEbpf(options) => ebpf::run(&options),
        Command::Vm(options) => vm::run(&options).and_then(vm::Report::into_result),
        Command::Test => return ci::test(),
        Command::Ci(options) => return ci::ci(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Setup(options) => setup::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
