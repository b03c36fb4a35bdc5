//! A command for `record -- COMMAND`: its sockets, its child's, and an end that is asked for.

use std::io::{Read as _, Write as _};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, raise};

use crate::net;

/// Bytes that the parent leaves unread in its connection.
pub(crate) const UNREAD: usize = 5000;

/// Makes a connection over loopback, starts itself once more as a child that does the same, and ends as
/// `how` says: `exit N`, or `kill` by SIGKILL.
///
/// # Errors
/// When the network or the arguments do not allow it.
pub(crate) fn run(args: &[String]) -> Result<ExitCode> {
    // The very first thing it does: the trace must have it.
    let listener = net::listener(net::Family::V4, 0, 4, &net::plain)?;
    let a = net::dial(listener.local_addr()?, &net::plain)?;
    let (b, _) = listener.accept()?;
    (&a).write_all(&[1; UNREAD])?;
    let mut some = [0; 10];
    (&b).read_exact(&mut some)?;
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["child"] => Ok(ExitCode::SUCCESS),
        ["exit", status] => {
            child()?;
            Ok(ExitCode::from(status.parse::<u8>().context("a status")?))
        }
        ["kill"] => {
            child()?;
            raise(Signal::SIGKILL)?;
            bail!("still alive")
        }
        _ => bail!("sockmem-e2e command exit STATUS | kill"),
    }
}

fn child() -> Result<()> {
    let status = Command::new(std::env::current_exe()?)
        .args(["command", "child"])
        .status()?;
    anyhow::ensure!(status.success(), "the child ended with {status}");
    Ok(())
}
