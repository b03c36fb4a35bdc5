//! Verdicts on workloads whose truth is known.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Case, Cx, EVERY, ONCE, Tier, case};
use crate::actor::Actor;
use crate::trace::{self, Report, Trace};

/// One test per known truth.
pub(super) fn cases() -> Vec<Case> {
    vec![
        case("truth_unread", EVERY, |cx| held_for(cx, "unread", "unread")),
        case("truth_unacked", EVERY, |cx| {
            held_for(cx, "unacked", "unacked")
        }),
        case("truth_unsent", EVERY, |cx| held_for(cx, "unsent", "unsent")),
        case("truth_out_of_order", EVERY, |cx| {
            held_for(cx, "hole", "out-of-order")
        }),
        case("truth_burst", EVERY, burst),
        case("truth_quiet", EVERY, quiet),
        case("truth_tiny", EVERY, tiny),
        case("truth_busy", EVERY, busy),
        case("truth_limits", ONCE, limits),
    ]
}

/// Lines to wait for at the end: seven times `--idle-after`.
const IDLE_LINES: usize = 11;

/// Plays a workload to `phase` and leaves it alone long enough to be judged.
fn judged(cx: &Cx, workload: &str, phase: &str) -> Result<(Report, Actor)> {
    let mut actor = Actor::start(cx, workload)?;
    let mut trace = Trace::start(cx, &[actor.pid()], &[])?;
    actor.step_to(cx, phase)?;
    for _ in 0..IDLE_LINES {
        trace.next_line(cx)?;
    }
    Ok((trace.finish(cx)?, actor))
}

fn answer(report: &Value) -> Result<&str> {
    let text = report["verdict"]["text"].as_str().unwrap_or_default();
    ensure!(!text.is_empty(), "the verdict has no text");
    report["verdict"]["answer"]
        .as_str()
        .context("the report has no verdict")
}

fn expect_answer(report: &Value, expected: &str) -> Result<()> {
    let got = answer(report)?;
    ensure!(
        got == expected,
        "verdict is {got:?}, not {expected:?}: {}",
        report["verdict"]
    );
    Ok(())
}

/// The reason that holds most, of a verdict's `reasons`.
fn main_reason(report: &Value) -> Result<&str> {
    let reasons = report["verdict"]["reasons"]
        .as_object()
        .context("no reasons")?;
    let most = reasons.iter().max_by_key(|(_, bytes)| bytes.as_u64());
    most.map(|(name, _)| name.as_str())
        .context("the verdict names no reason")
}

/// The traced process has one socket, and it holds memory while idle for one reason.
fn held_for(cx: &Cx, workload: &str, reason: &str) -> Result<()> {
    let (Report { json, .. }, mut actor) = judged(cx, workload, "idle")?;
    expect_answer(&json, "resident-while-idle")?;
    let main = main_reason(&json)?;
    ensure!(
        main == reason,
        "held for {main:?}, not {reason:?}: {}",
        json["verdict"]
    );
    let cookie = actor.fact("cookie.subject")?;
    let socket = trace::by_cookie(&json, cookie).context("the socket is not in the report")?;
    ensure!(
        socket["idle_reason"] == reason,
        "the socket's idle_reason: {}",
        socket["idle_reason"]
    );
    ensure!(
        socket["verdict"] == "resident-while-idle",
        "its verdict: {}",
        socket["verdict"]
    );
    let readings = actor.report(cx)?;
    let truth = readings
        .iter()
        .find(|r| r.cookie == cookie)
        .context("no such reading")?;
    let held = truth.mem.resident();
    let most = trace::number(socket, "idle_resident_max_bytes")?;
    ensure!(
        most >= held,
        "idle_resident_max_bytes {most}, but the kernel holds {held} now"
    );
    let mean = trace::number(socket, "idle_resident_mean_bytes")?;
    ensure!(
        (1..=most).contains(&mean),
        "mean {mean} while idle with a maximum of {most}"
    );
    ensure!(trace::number(socket, "idle_ns")? > 0, "idle_ns is 0");
    // The payload, against the kernel's own count of it.
    let expected = match reason {
        "unread" => Some(("unread_bytes", 60_000)),
        "unacked" => Some(("unacked_bytes", 10_000)),
        "out-of-order" => Some(("unread_bytes", 0)),
        _ => None,
    };
    if let Some((name, bytes)) = expected {
        ensure!(
            trace::number(socket, name)? == bytes,
            "{name} is {}, not {bytes}",
            socket[name]
        );
    }
    Ok(())
}

/// All was read: 6.0 and later hold nothing, earlier kernels keep the reservation.
fn burst(cx: &Cx) -> Result<()> {
    // What the kernel holds is the workload's own claim.
    let (Report { json, .. }, _actor) = judged(cx, "burst", "idle")?;
    if cx.kernel >= (6, 0) {
        return expect_answer(&json, "traffic-driven");
    }
    expect_answer(&json, "resident-while-idle")?;
    let main = main_reason(&json)?;
    ensure!(main == "reserved", "held for {main:?}: {}", json["verdict"]);
    Ok(())
}

/// A thousand quiet connections hold next to nothing.
fn quiet(cx: &Cx) -> Result<()> {
    let (Report { json, .. }, mut actor) = judged(cx, "quiet", "quiet")?;
    let truth: i64 = actor.report(cx)?.iter().map(|r| r.mem.resident()).sum();
    let shown = trace::sockets(&json)?;
    ensure!(shown.len() == 1000, "{} sockets shown of 1000", shown.len());
    let sum = shown
        .iter()
        .map(|s| trace::number(s, "resident"))
        .sum::<Result<i64>>()?;
    ensure!(sum == truth, "resident of all {sum}, kernel {truth}");
    ensure!(
        truth < 64 * 1024,
        "the kernel itself holds {truth} bytes on quiet connections"
    );
    expect_answer(&json, "traffic-driven")
}

/// Ten bytes at a time cost many times their size.
fn tiny(cx: &Cx) -> Result<()> {
    let (Report { json, .. }, _actor) = judged(cx, "tiny", "idle")?;
    let truesize = &json["truesize"];
    if truesize.is_null() && cx.tier == Tier::Tracepoint {
        // Sizes are counted where skbs are made and freed; tracepoints do not see that.
        return Ok(());
    }
    let count = trace::number(truesize, "count")?;
    ensure!(
        count >= 400,
        "{count} skbs counted, at least 400 were received"
    );
    let ratio = truesize["payload_ratio"]
        .as_f64()
        .context("no payload_ratio")?;
    ensure!(
        ratio > 5.0,
        "payload_ratio {ratio}, but each 10 bytes take hundreds"
    );
    Ok(())
}

/// Never idle: no verdict on idle memory is possible.
fn busy(cx: &Cx) -> Result<()> {
    let (Report { json, .. }, _actor) = judged(cx, "busy", "busy")?;
    expect_answer(&json, "not-enough-idle-time")
}

/// `SO_RCVBUF` and `SO_SNDBUF` calls show up as limit changes with their cause.
fn limits(cx: &Cx) -> Result<()> {
    let (Report { json, .. }, actor) = judged(cx, "limits", "lowered-under-load")?;
    for (label, what, to) in [("reader", "rcvbuf", 8192), ("sender", "sndbuf", 32_768)] {
        let cookie = actor.fact(&format!("cookie.{label}"))?;
        let socket = trace::by_cookie(&json, cookie).context("the socket is not in the report")?;
        let limits = socket["limits"].as_array().context("no \"limits\"")?;
        let found = limits.iter().any(|l| {
            l["what"] == what && l["to"].as_u64() == Some(to) && l["cause"] == "setsockopt"
        });
        ensure!(
            found,
            "{label}: no setsockopt of {what} to {to} in {}",
            socket["limits"]
        );
    }
    Ok(())
}
