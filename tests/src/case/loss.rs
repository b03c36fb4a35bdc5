//! A reader that does not read and a ring that is too small: detail is lost and counted,
//! truth is not.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};

use super::rest::{Company, balanced, compare};
use super::{Case, Cx, ONCE, case};
use crate::actor::Actor;
use crate::trace::{self, Trace};

/// Starvation.
pub(super) fn cases() -> Vec<Case> {
    vec![case("loss_starved", ONCE, starved)]
}

fn starved(cx: &Cx) -> Result<()> {
    let mut actor = Actor::start(cx, "bulk")?;
    let mut trace = Trace::start(cx, &[actor.pid()], &["--exact", "--ring-size", "4096"])?;
    trace.next_line(cx)?;
    kill(trace.pid(), Signal::SIGSTOP).context("SIGSTOP to the tool")?;
    let stepped = actor.step_to(cx, "first");
    kill(trace.pid(), Signal::SIGCONT).context("SIGCONT to the tool")?;
    stepped?;
    compare(cx, &mut trace, &mut actor, &Company::Alone)?;
    actor.step_to(cx, "second")?;
    compare(cx, &mut trace, &mut actor, &Company::Alone)?;
    let report = trace.finish(cx)?.json;
    balanced(&report)?;
    let dropped = trace::number(&report["loss"], "dropped_ring")?;
    ensure!(
        dropped > 0,
        "nothing was lost, so nothing was tested: {}",
        report["loss"]
    );
    Ok(())
}
