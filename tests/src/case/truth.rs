//! Verdicts on workloads whose truth is known.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::scene::{Cast, Scene};
use super::{Case, Cx, EVERY, ONCE, sharing};
use crate::actor::Actor;
use crate::trace;
use crate::workload::stage::Skip;

/// One test per known truth.
pub(super) fn cases() -> Vec<Case> {
    vec![
        sharing("truth_unread", EVERY, |cx| held_for(cx, "unread", "unread")),
        sharing("truth_unacked", EVERY, |cx| {
            held_for(cx, "unacked", "unacked")
        }),
        sharing("truth_unsent", EVERY, |cx| held_for(cx, "unsent", "unsent")),
        sharing("truth_out_of_order", EVERY, |cx| {
            held_for(cx, "hole", "out-of-order")
        }),
        sharing("truth_burst", EVERY, burst),
        sharing("truth_busy", EVERY, busy),
        sharing("truth_limits", ONCE, limits),
        sharing("truth_overall", EVERY, overall),
        sharing("truth_quiet", EVERY, quiet),
        sharing("truth_tiny", EVERY, tiny),
    ]
}

/// Lines to wait for at the end: seven times `--idle-after`.
const IDLE_LINES: usize = 11;
/// `--idle-after` of the tests' traces.
const IDLE_AFTER_MS: u64 = 300;

/// Their processes' sockets differ in the reason to hold memory.
const HOLDERS: Cast = &[
    ("unread", "idle"),
    ("unacked", "idle"),
    ("unsent", "idle"),
    ("hole", "idle"),
    ("burst", "idle"),
    ("limits", "lowered-under-load"),
    ("busy", "busy"),
];
/// The first one is silent from before the trace on, so all skbs counted are the second one's.
const SMALL: Cast = &[("quiet", "quiet"), ("tiny", "idle")];

/// Judges one workload of a group by the group's report, which the first test of it makes:
/// every workload is played to its phase and left alone long enough to be judged.
fn judged(
    cx: &Cx,
    cast: Cast,
    name: &str,
    judge: impl FnOnce(&Value, &mut Scene) -> Result<()>,
) -> Result<()> {
    let mut scene = Scene::take(cx, cast)?;
    if scene.report.is_none() {
        scene.play(cx);
        scene.finish(cx, IDLE_LINES)?;
    }
    let json = scene.report.as_ref().context("no report")?.json.clone();
    let outcome = scene
        .actor(name)
        .map(drop)
        .and_then(|()| judge(&json, &mut scene));
    scene.leave(cx);
    outcome
}

/// What the report says of the workload's process.
fn process<'a>(report: &'a Value, scene: &mut Scene, name: &str) -> Result<&'a Value> {
    let pid = scene.actor(name)?.pid();
    let all = report["processes"].as_array().context("no \"processes\"")?;
    all.iter()
        .find(|p| p["kind"] == "process" && p["pid"].as_u64() == Some(pid.into()))
        .with_context(|| {
            format!(
                "{name} {pid} is not among the processes: {}",
                report["processes"]
            )
        })
}

fn expect_verdict(process: &Value, expected: &str) -> Result<()> {
    let text = process["verdict_text"].as_str().unwrap_or_default();
    ensure!(!text.is_empty(), "the verdict has no text");
    ensure!(
        process["verdict"] == expected,
        "verdict is {}, not {expected:?}: {process}",
        process["verdict"]
    );
    Ok(())
}

/// The reason that holds most, of a process's `reasons`.
fn main_reason(process: &Value) -> Result<&str> {
    let reasons = process["reasons"].as_object().context("no reasons")?;
    let most = reasons.iter().max_by_key(|(_, bytes)| bytes.as_u64());
    most.map(|(name, _)| name.as_str())
        .context("the verdict names no reason")
}

/// The traced process has one socket, and it holds memory while idle for one reason.
fn held_for(cx: &Cx, workload: &str, reason: &str) -> Result<()> {
    judged(cx, HOLDERS, workload, |json, scene| {
        let process = process(json, scene, workload)?;
        expect_verdict(process, "resident-while-idle")?;
        let main = main_reason(process)?;
        ensure!(
            main == reason,
            "held for {main:?}, not {reason:?}: {process}"
        );
        one_holds(cx, json, scene.actor(workload)?, reason)
    })
}

fn one_holds(cx: &Cx, json: &Value, actor: &mut Actor, reason: &str) -> Result<()> {
    let cookie = actor.fact("cookie.subject")?;
    let socket = trace::by_cookie(json, cookie).context("the socket is not in the report")?;
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
    judged(cx, HOLDERS, "burst", |json, scene| {
        let process = process(json, scene, "burst")?;
        if cx.kernel >= (6, 0) {
            return expect_verdict(process, "traffic-driven");
        }
        expect_verdict(process, "resident-while-idle")?;
        let main = main_reason(process)?;
        ensure!(main == "reserved", "held for {main:?}: {process}");
        Ok(())
    })
}

/// Some of the processes hold memory while idle, so all together do.
fn overall(cx: &Cx) -> Result<()> {
    judged(cx, HOLDERS, "unread", |json, _| {
        let verdict = &json["verdict"];
        ensure!(
            verdict["answer"] == "resident-while-idle"
                && verdict["text"].as_str().is_some_and(|t| !t.is_empty()),
            "the verdict on all: {verdict}"
        );
        super::rest::balanced(json)
    })
}

/// A thousand quiet connections hold next to nothing.
fn quiet(cx: &Cx) -> Result<()> {
    judged(cx, SMALL, "quiet", |json, scene| {
        let process = process(json, scene, "quiet")?;
        let readings = scene.actor("quiet")?.report(cx)?;
        let own = |s: &&Value| s["owner"]["pid"] == process["pid"];
        let shown: Vec<&Value> = trace::sockets(json)?.iter().filter(own).collect();
        ensure!(shown.len() == 1000, "{} sockets shown of 1000", shown.len());
        let mut truth = 0;
        // Without a file are what others left on the same ports.
        for reading in readings.iter().filter(|r| !r.unowned) {
            let held = reading.mem.resident();
            truth += held;
            let socket = trace::by_cookie(json, reading.cookie).context("a socket is not shown")?;
            ensure!(
                socket["resident"].as_i64() == Some(held),
                "kernel: {:?}, but the report has {socket}",
                reading.mem
            );
        }
        ensure!(
            truth < 64 * 1024,
            "the kernel itself holds {truth} bytes on quiet connections"
        );
        expect_verdict(process, "traffic-driven")
    })
}

/// Ten bytes at a time cost many times their size.
fn tiny(cx: &Cx) -> Result<()> {
    judged(cx, SMALL, "tiny", |json, _| {
        let truesize = &json["truesize"];
        ensure!(truesize.is_object(), "no skb was counted: {truesize}");
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
    })
}

/// Never idle: no verdict on idle memory is possible.
fn busy(cx: &Cx) -> Result<()> {
    judged(cx, HOLDERS, "busy", |json, scene| {
        let outcome = expect_verdict(process(json, scene, "busy")?, "not-enough-idle-time");
        // What the workload itself knows of its pauses.
        let actor = scene.actor("busy")?;
        actor.report(cx)?;
        let (rounds, pause) = (actor.fact("rounds")?, actor.fact("longest-pause-ms")?);
        if outcome.is_err() && pause >= IDLE_AFTER_MS {
            bail!(Skip(format!(
                "this machine kept the busy workload waiting for {pause} ms, so it was idle"
            )));
        }
        outcome.with_context(|| format!("{rounds} rounds, at most {pause} ms apart"))
    })
}

/// `SO_RCVBUF` and `SO_SNDBUF` calls show up as limit changes with their cause.
fn limits(cx: &Cx) -> Result<()> {
    judged(cx, HOLDERS, "limits", |json, scene| {
        let actor = scene.actor("limits")?;
        for (label, what, to) in [("reader", "rcvbuf", 8192), ("sender", "sndbuf", 32_768)] {
            let cookie = actor.fact(&format!("cookie.{label}"))?;
            let socket =
                trace::by_cookie(json, cookie).context("the socket is not in the report")?;
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
    })
}
