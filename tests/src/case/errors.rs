//! Mistakes and limits: exit status 2 and a sentence that names the fact and the way out.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::{Case, Cx, ONCE, UNTRACED, case};
use crate::actor::Actor;
use crate::trace;

/// What users get wrong.
pub(super) fn cases() -> Vec<Case> {
    vec![
        case("errors_usage", UNTRACED, usage),
        case("errors_pid_gone", ONCE, pid_gone),
        case("errors_no_root", ONCE, no_root),
        case("errors_closed_pipe", ONCE, closed_pipe),
        case("errors_closed_pipe_help", UNTRACED, closed_pipe_help),
    ]
}

/// Exit status 2, nothing on stdout, and on stderr every one of `words`: the fact and what to do.
fn refused(
    cx: &Cx,
    args: &[&str],
    words: &[&str],
    adjust: impl FnOnce(&mut Command),
) -> Result<()> {
    let (status, out, err) = trace::run(cx, args, adjust)?;
    let line = args.join(" ");
    ensure!(
        status.code() == Some(2),
        "`{line}` ended with {status}: {err}"
    );
    ensure!(out.is_empty(), "`{line}` failed, but stdout has {out:?}");
    ensure!(
        words.iter().all(|w| err.contains(w)),
        "`{line}`: stderr does not say all of {words:?}: {err:?}"
    );
    ensure!(!err.contains("panicked"), "`{line}` panicked: {err}");
    Ok(())
}

fn usage(cx: &Cx) -> Result<()> {
    for (args, words) in [
        (
            &["live", "--plain"][..],
            &[
                "no target: which sockets are to be traced? Name at least one of",
                "--pid PID",
                "for example: sudo sockmem-trace --pid 4242",
            ][..],
        ),
        (
            &["live", "--no-such-option"],
            &[
                "unexpected argument '--no-such-option' found",
                "For more information, try '--help'.",
            ],
        ),
        (
            &["no-such-command"],
            &[
                "unrecognized subcommand 'no-such-command'",
                "For more information, try '--help'.",
            ],
        ),
        (
            &["live", "--pid", "1x"],
            &[
                "invalid value '1x' for '--pid <PID>'",
                "a process id is a number from 1, or --comm 1x for a name",
            ],
        ),
        (
            &["live", "--pid", "1", "--interval", "soon"],
            &[
                "invalid value 'soon' for '--interval <TIME>'",
                "does not start with a number; write for example 10s, 1500ms or 5m",
            ],
        ),
        (
            &["live", "--pid", "1", "--tier", "magic"],
            &[
                "invalid value 'magic' for '--tier <KIND>'",
                "[possible values: auto, fentry, kprobe, tracepoint]",
            ],
        ),
        (
            &["live", "--pid", "1", "--ring-size", "5"],
            &[
                "invalid value '5' for '--ring-size <SIZE>'",
                "the kernel needs a power of two from 4KiB to 1GiB; try 4KiB",
            ],
        ),
    ] {
        refused(cx, args, words, |_| {})?;
    }
    Ok(())
}

fn pid_gone(cx: &Cx) -> Result<()> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("workload")
        .stdout(Stdio::null())
        .spawn()
        .context("spawn")?;
    let pid = child.id();
    child.wait()?;
    let args = trace::live_args(cx, &[pid], &[]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let fact = format!("there is no process {pid}: it has ended, or never was");
    refused(cx, &args, &[&fact, "`ps -e` lists those that run"], |_| {})
}

/// What is said to a user without privileges.
const NO_ROOT: [&str; 2] = [
    "tracing needs CAP_BPF and CAP_PERFMON, and this process has none of them",
    "run it with sudo",
];

fn no_root(cx: &Cx) -> Result<()> {
    let actor = Actor::start(cx, "pingpong")?;
    // The build directory may be closed to others; a copy in a place of its own is not.
    let dir = std::env::temp_dir().join(format!("sockmem-e2e-{}", std::process::id()));
    std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    let copy = dir.join("sockmem-trace");
    std::fs::copy(&cx.tool, &copy)
        .with_context(|| format!("copy {} to {}", cx.tool.display(), copy.display()))?;
    let other = cx.with_tool(copy);
    let args = trace::live_args(cx, &[actor.pid()], &[]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = refused(&other, &args, &NO_ROOT, |command| {
        command.uid(65534).gid(65534);
    });
    std::fs::remove_dir_all(&dir).with_context(|| dir.display().to_string())?;
    result
}

/// A reader that goes away (`| head -1`) ends the tool quietly.
fn closed_pipe(cx: &Cx) -> Result<()> {
    let actor = Actor::start(cx, "busy")?;
    let mut child = Command::new(&cx.tool)
        .args(trace::live_args(cx, &[actor.pid()], &[]))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", cx.tool.display()))?;
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().context("stdout")?);
    out.read_line(&mut line)?;
    drop(out);
    ended_quietly(cx, &mut child, "after a closed pipe")?;
    ensure!(
        line.starts_with('{'),
        "the first line is no JSON object: {line:?}"
    );
    Ok(())
}

fn closed_pipe_help(cx: &Cx) -> Result<()> {
    let mut child = Command::new(&cx.tool)
        .arg("--help")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", cx.tool.display()))?;
    drop(child.stdout.take());
    ended_quietly(cx, &mut child, "--help into a closed pipe")
}

fn ended_quietly(cx: &Cx, child: &mut std::process::Child, what: &str) -> Result<()> {
    let waited = trace::wait_within(child, cx);
    if waited.is_err() {
        child.kill()?;
        child.wait()?;
    }
    let mut err = String::new();
    child
        .stderr
        .take()
        .context("stderr")?
        .read_to_string(&mut err)?;
    let status = waited.with_context(|| what.to_owned())?;
    ensure!(
        status.code() == Some(0),
        "{what} the tool ended with {status}: {err}"
    );
    for word in ["panicked", "roken pipe"] {
        ensure!(!err.contains(word), "{what} stderr says: {err}");
    }
    Ok(())
}
