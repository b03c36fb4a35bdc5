//! Who changed a limit, from what to what: against the kernel's own `getsockopt`.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Case, Cx, EVERY, case};
use crate::actor::Actor;
use crate::trace::{self, Trace};

/// Limits of sockets.
pub(super) fn cases() -> Vec<Case> {
    vec![
        case("limits_set", EVERY, set),
        case("limits_autotune", EVERY, autotune),
    ]
}

/// The name and the field of an option.
fn named(level: u64, option: u64) -> Result<(&'static str, &'static str)> {
    Ok(match (level, option) {
        (1, 7) => ("SO_SNDBUF", "sndbuf"),
        (1, 8) => ("SO_RCVBUF", "rcvbuf"),
        (1, 18) => ("SO_RCVLOWAT", "rcvbuf"),
        (1, 32) => ("SO_SNDBUFFORCE", "sndbuf"),
        (1, 33) => ("SO_RCVBUFFORCE", "rcvbuf"),
        (1, 73) => ("SO_RESERVE_MEM", "reserved_mem"),
        (6, 10) => ("TCP_WINDOW_CLAMP", "window_clamp"),
        (6, 25) => ("TCP_NOTSENT_LOWAT", "notsent_lowat"),
        _ => anyhow::bail!("a call of option {option} of level {level}"),
    })
}

/// The changes of a socket's limit.
fn changes<'a>(json: &'a Value, cookie: u64, what: &str) -> Result<Vec<&'a Value>> {
    let socket = trace::by_cookie(json, cookie).context("the socket is not in the report")?;
    let all = socket["limits"].as_array().context("no \"limits\"")?;
    Ok(all.iter().filter(|l| l["what"] == what).collect())
}

/// Each change begins where the one before ended.
fn chained(changes: &[&Value]) -> Result<()> {
    for pair in changes.windows(2) {
        ensure!(
            pair[0]["to"] == pair[1]["from"]
                && pair[0]["at_ns"].as_u64() <= pair[1]["at_ns"].as_u64(),
            "a change is missing or told twice: {changes:?}"
        );
    }
    Ok(())
}

fn set(cx: &Cx) -> Result<()> {
    // With every change sent, and with changes merged.
    for extra in [&["--exact"][..], &[]] {
        let mut actor = Actor::start(cx, "set-options")?;
        let mut trace = Trace::start(cx, &[actor.pid()], extra)?;
        trace.fresh_line(cx)?;
        actor.step_to(cx, "set")?;
        trace.fresh_line(cx)?;
        let facts = actor.at.facts.clone();
        let report = trace.finish(cx)?.json;
        check(cx, &report, &actor, &facts).with_context(|| format!("with {extra:?}"))?;
    }
    Ok(())
}

fn check(
    cx: &Cx,
    report: &Value,
    actor: &Actor,
    facts: &std::collections::BTreeMap<String, u64>,
) -> Result<()> {
    let calls = actor.fact("calls")?;
    ensure!(calls >= 8, "only {calls} calls were made");
    if cx.kernel >= (5, 16) && !cx.host {
        ensure!(
            facts.contains_key("reserved"),
            "no SO_RESERVE_MEM was tried"
        );
    }
    let sampled = report["tier"] == "tracepoint";
    for n in 0..calls {
        let fact = |name: &str| {
            let key = format!("{n}.{name}");
            facts
                .get(&key)
                .copied()
                .with_context(|| format!("no {key}"))
        };
        let (cookie, from, to) = (fact("cookie")?, fact("from")?, fact("to")?);
        let (option, what) = named(fact("level")?, fact("option")?)?;
        let changes = changes(report, cookie, what)?;
        if matches!(what, "rcvbuf" | "sndbuf") {
            chained(&changes)?;
        }
        if sampled {
            // Several calls between two readings are one change; options beside the two
            // buffers are not seen.
            ensure!(
                changes
                    .iter()
                    .all(|c| c["how"] == "derived" && c["by"].is_null()),
                "nothing shows calls here: {changes:?}"
            );
            continue;
        }
        let found: Vec<_> = changes
            .iter()
            .filter(|c| {
                c["option"] == option
                    && c["asked"].as_u64() == fact("asked").ok()
                    && c["from"].as_u64() == Some(from)
                    && c["to"].as_u64() == Some(to)
            })
            .collect();
        ensure!(
            found.len() == 1,
            "{} entries, not one, of call {n}: {option} from {from} to {to} in {changes:?}",
            found.len()
        );
        ensure!(
            found[0]["cause"] == "setsockopt"
                && found[0]["how"] == "call"
                && found[0]["by"]["pid"].as_u64() == Some(actor.pid().into())
                && found[0]["by"]["comm"]
                    .as_str()
                    .is_some_and(|c| !c.is_empty()),
            "call {n} is not told in full: {}",
            found[0]
        );
    }
    // The last word is the kernel's.
    for label in ["reader", "sender"] {
        let cookie = actor.fact(&format!("cookie.{label}"))?;
        let reading = actor.at.sockets.iter().find(|r| r.cookie == cookie);
        let mem = reading.context("no such reading")?.mem;
        for (what, now) in [("rcvbuf", mem.rcvbuf), ("sndbuf", mem.sndbuf)] {
            if let Some(last) = changes(report, cookie, what)?.last() {
                ensure!(
                    last["to"].as_u64() == Some(now.into()),
                    "{label}'s {what} is {now} now, but the last change is {last}"
                );
            }
        }
    }
    Ok(())
}

/// The kernel raises limits by itself: nobody is named.
fn autotune(cx: &Cx) -> Result<()> {
    let mut actor = Actor::start(cx, "autotune")?;
    let mut trace = Trace::start(cx, &[actor.pid()], &[])?;
    trace.fresh_line(cx)?;
    actor.step_to(cx, "grown")?;
    trace.fresh_line(cx)?;
    let report = trace.finish(cx)?.json;
    for (label, what) in [("reader", "rcvbuf"), ("sender", "sndbuf")] {
        let cookie = actor.fact(&format!("cookie.{label}"))?;
        let changes = changes(&report, cookie, what)?;
        if actor.fact(&format!("grew.{what}"))? == 0 {
            ensure!(changes.is_empty(), "{what} did not change: {changes:?}");
            continue;
        }
        chained(&changes)?;
        let last = changes
            .last()
            .with_context(|| format!("{what} did not grow"))?;
        ensure!(
            changes
                .iter()
                .all(|c| c["cause"] == "autotune" && c["by"].is_null() && c["option"].is_null()),
            "nobody set {what}: {changes:?}"
        );
        let reading = actor.at.sockets.iter().find(|r| r.cookie == cookie);
        let mem = reading.context("no such reading")?.mem;
        let now = if what == "rcvbuf" {
            mem.rcvbuf
        } else {
            mem.sndbuf
        };
        ensure!(
            last["to"].as_u64() == Some(now.into()),
            "{what} is {now} now, but the last change is {last}"
        );
    }
    Ok(())
}
