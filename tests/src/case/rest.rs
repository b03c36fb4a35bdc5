//! At rest, every counter of every socket equals the kernel's to the byte.

use std::collections::HashSet;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::{Case, Cx, EVENT_EXACT, Tier, Tiers, case};
use crate::actor::Actor;
use crate::oracle::Reading;
use crate::trace::{self, Report, Trace};
use crate::workload::{self, Use};

/// One test per workload whose sockets are all in one process. On the tiers that claim to see
/// every change the tool audits itself meanwhile; IPv6 is repeated on the best tier only.
pub(super) fn cases() -> Vec<Case> {
    let mut out = Vec::new();
    for name in workload::names(|u| u != Use::Special) {
        let audited: Tiers = if name.ends_with("-v6") {
            &[Tier::Fentry]
        } else {
            EVENT_EXACT
        };
        let copy = name.clone();
        out.push(case(format!("rest_audit_{name}"), audited, move |cx| {
            run(cx, &copy, true)
        }));
        out.push(case(
            format!("rest_{name}"),
            &[Tier::Tracepoint],
            move |cx| run(cx, &name, false),
        ));
    }
    out
}

fn run(cx: &Cx, name: &str, audit: bool) -> Result<()> {
    let extra: &[&str] = if audit { &["--audit"] } else { &[] };
    let (report, rests) = play_through(cx, name, extra)?;
    ensure!(rests > 0, "no rest was compared");
    if audit {
        audited(cx, name, &report.json)?;
    }
    balanced(&report.json)
}

/// At each lock acquire the live counters equalled the last observed ones, save for what the
/// kernel's own recursion guard kept the programs from seeing.
fn audited(cx: &Cx, name: &str, report: &Value) -> Result<()> {
    let audit = &report["audit"];
    ensure!(audit.is_object(), "the report has no audit");
    let checks = trace::number(audit, "checks")?;
    let misses = trace::number(audit, "misses")?;
    let recursion = audit["recursion_misses"].as_i64();
    println!(
        "AUDIT kernel={} tier={} workload={name} checks={checks} misses={misses} recursion={}",
        cx.release,
        cx.tier_name(),
        recursion.map_or("-".to_owned(), |n| n.to_string()),
    );
    ensure!(checks > 0, "the audit checked nothing");
    ensure!(
        misses <= recursion.unwrap_or(0),
        "{misses} changes were missed: {audit}"
    );
    Ok(())
}

/// Plays a workload under a trace and compares at every rest; how many rests there were.
pub(super) fn play_through(cx: &Cx, name: &str, extra: &[&str]) -> Result<(Report, usize)> {
    // The first pause comes before the trace: those sockets are older than it.
    let mut actor = Actor::start(cx, name)?;
    let mut trace = Trace::start(cx, &[actor.pid()], extra)?;
    let mut rests = 0;
    loop {
        if actor.at.rest {
            compare(cx, &mut trace, &mut actor)?;
            rests += 1;
        }
        if actor.at.end {
            return Ok((trace.finish(cx)?, rests));
        }
        actor.step(cx)?;
    }
}

/// How often counters that are read at intervals may lag behind: two intervals.
const SAMPLED_TRIES: u32 = 3;
/// How often kernel timers may disturb a rest before it is called none.
const UNREST: u32 = 60;

/// Compares a fresh line with the kernel, between two equal readings of it.
pub(super) fn compare(cx: &Cx, trace: &mut Trace, actor: &mut Actor) -> Result<()> {
    let mut wrong = 0;
    for _ in 0..UNREST {
        let before = actor.report(cx)?;
        let line = trace.fresh_line(cx)?;
        let after = actor.report(cx)?;
        if before != after {
            continue;
        }
        let Err(difference) = same(&line, &after) else {
            return Ok(());
        };
        wrong += 1;
        let tries = if sampled(&line) { SAMPLED_TRIES } else { 1 };
        if wrong >= tries {
            let phase = actor.at.phase.clone().unwrap_or_default();
            return Err(difference.context(format!("at rest in phase {phase:?}")));
        }
    }
    bail!(
        "the sockets never came to rest in phase {:?}",
        actor.at.phase
    )
}

fn sampled(line: &Value) -> bool {
    line["coverage"]
        .as_object()
        .is_some_and(|c| c.values().any(|v| v == "sampled"))
}

/// The tool's form of an address.
fn address(reading: &Reading, remote: bool) -> Option<String> {
    let addr = if remote {
        reading.remote
    } else {
        reading.local
    };
    addr.map(|a| a.to_string())
}

fn find<'a>(shown: &'a [Value], reading: &Reading) -> Option<(usize, &'a Value)> {
    let mut all = shown.iter().enumerate();
    if let Some(found) = all
        .clone()
        .find(|(_, s)| s["cookie"].as_u64() == Some(reading.cookie))
    {
        return Some(found);
    }
    // A socket that nobody asked for its cookie while a hook looked has none to show yet.
    let (local, remote) = (address(reading, false)?, address(reading, true)?);
    all.find(|(_, s)| {
        s["cookie"].is_null()
            && s["local"].as_str() == Some(&local)
            && s["remote"].as_str() == Some(&remote)
    })
}

/// Whether the tool must show this socket: every one that carries or may carry data.
fn due(reading: &Reading) -> bool {
    // A listener has no buffers of its own, and an unbound socket none yet.
    !reading.listens && reading.remote.is_some()
}

/// Every difference between a line and the kernel's readings, at most a handful of them named.
pub(super) fn same(line: &Value, truth: &[Reading]) -> Result<()> {
    let shown = trace::sockets(line)?;
    let mut used = HashSet::new();
    let mut wrong = Vec::new();
    for reading in truth {
        let who = format!(
            "{} {}>{} cookie {}{}",
            if reading.label.is_empty() {
                "socket"
            } else {
                &reading.label
            },
            address(reading, false).unwrap_or_default(),
            address(reading, true).unwrap_or_default(),
            reading.cookie,
            if reading.unowned { " (no file)" } else { "" },
        );
        let Some((index, socket)) = find(shown, reading) else {
            if due(reading) {
                wrong.push(format!(
                    "{who} is not shown, holds {}",
                    reading.mem.resident()
                ));
            }
            continue;
        };
        used.insert(index);
        for (name, kernel) in reading.mem.named() {
            if socket[name].as_i64() != Some(kernel) {
                wrong.push(format!(
                    "{who}: {name} is {}, kernel {kernel}",
                    socket[name]
                ));
            }
        }
        let resident = reading.mem.resident().max(0);
        if socket["resident"].as_i64() != Some(resident) {
            wrong.push(format!(
                "{who}: resident is {}, kernel {resident}",
                socket["resident"]
            ));
        }
    }
    for (index, socket) in shown.iter().enumerate() {
        if !used.contains(&index) {
            wrong.push(format!(
                "ghost: {}>{} {} cookie {} does not exist",
                socket["local"], socket["remote"], socket["state"], socket["cookie"]
            ));
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    let more = wrong.len().saturating_sub(6);
    wrong.truncate(6);
    let tail = if more > 0 {
        format!("; and {more} more")
    } else {
        String::new()
    };
    bail!("{}{tail}", wrong.join("; "))
}

/// In a report, what was charged and what was released agree with what is left, for every socket.
pub(super) fn balanced(report: &Value) -> Result<()> {
    let loss = &report["loss"];
    let of = |name| trace::number(loss, name);
    let (seen, sent, merged) = (of("seen")?, of("sent")?, of("merged")?);
    let dropped = of("dropped_ring")?;
    ensure!(
        seen == sent + merged + dropped,
        "seen {seen} is not sent {sent} + merged {merged} + dropped {dropped}"
    );
    ensure!(of("dropped_map")? == 0, "the state map was full: {loss}");
    for socket in trace::sockets(report)? {
        let charged = trace::number(socket, "charged_bytes")?;
        let released = trace::number(socket, "released_bytes")?;
        let resident = trace::number(socket, "resident")?;
        // What was there when the trace began; unknown to reports that do not tell it.
        let baseline = socket["baseline_bytes"].as_i64();
        let held = charged - released + baseline.unwrap_or(0);
        let fits = if baseline.is_some() {
            held == resident
        } else {
            held <= resident
        };
        ensure!(
            fits,
            "{}>{}: charged {charged}, released {released}, baseline {baseline:?}, but resident \
             {resident}",
            socket["local"],
            socket["remote"]
        );
        if socket["closed"].as_bool() == Some(true) {
            ensure!(resident == 0, "closed, but resident {resident}: {socket}");
        }
    }
    report["verdict"]["answer"]
        .as_str()
        .context("the report has no verdict")
        .map(drop)
}
