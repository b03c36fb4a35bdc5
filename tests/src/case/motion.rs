//! In motion, a reported value lies between the kernel's before and after.

use anyhow::{Context, Result, ensure};

use super::{Case, Cx, ONCE, case};
use crate::actor::Actor;
use crate::oracle::Reading;
use crate::trace::{self, Trace};

/// A receive queue that only grows.
pub(super) fn cases() -> Vec<Case> {
    vec![case("motion_filling", ONCE, filling)]
}

fn rmem(readings: &[Reading]) -> Result<i64> {
    let reader = readings
        .iter()
        .find(|r| r.label == "reader")
        .context("no reader")?;
    Ok(reader.mem.rmem_alloc.into())
}

fn filling(cx: &Cx) -> Result<()> {
    let mut actor = Actor::start(cx, "steady-fill")?;
    let cookie = actor.fact("cookie.reader")?;
    let mut trace = Trace::start(cx, &[actor.pid()], &[])?;
    trace.fresh_line(cx)?;
    let mut truth = vec![rmem(&actor.report(cx)?)?];
    actor.step_to(cx, "filling")?;
    let mut shown = Vec::new();
    let mut lag = 2;
    for _ in 0..6 {
        let line = trace.next_line(cx)?;
        if line["coverage"]["rmem_alloc"] == "sampled" {
            // Read at intervals: one to take it, one to show it.
            lag = 4;
        }
        let socket = trace::by_cookie(&line, cookie).context("the reader is not shown")?;
        shown.push(trace::number(socket, "rmem_alloc")?);
        truth.push(rmem(&actor.report(cx)?)?);
    }
    trace.finish(cx)?;
    ensure!(
        truth.is_sorted(),
        "the queue was to grow, but the kernel says {truth:?}"
    );
    for (i, value) in shown.iter().enumerate() {
        // Line i arrived after truth[i] was read and before truth[i + 1]; what it shows may
        // have been taken up to `lag` lines earlier.
        let (low, high) = (truth[(i + 1).saturating_sub(lag)], truth[i + 1]);
        ensure!(
            (low..=high).contains(value),
            "line {i} shows rmem_alloc {value}, not in {low}..={high}; shown {shown:?}, kernel {truth:?}"
        );
    }
    ensure!(
        shown.last() > shown.first(),
        "no growth was shown: {shown:?}"
    );
    Ok(())
}
