//! The `sockmem-trace` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    sockmem::cli::run(std::env::args_os()).into()
}
