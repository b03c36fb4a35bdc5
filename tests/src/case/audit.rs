//! The tool's own audit under every workload: at each lock acquire the live counters equal the
//! last observed ones.

use anyhow::{Context, Result, bail, ensure};

use super::{Case, Cx, EVENT_EXACT, Tier, case};
use crate::actor::Actor;
use crate::trace::{self, Trace};
use crate::workload::stage::Skip;
use crate::workload::{self, Use};

/// One test per workload, on the tiers that claim to see every change.
pub(super) fn cases() -> Vec<Case> {
    workload::names(|u| u != Use::Special)
        .into_iter()
        .map(|name| {
            case(format!("audit_{name}"), EVENT_EXACT, move |cx| {
                audit(cx, &name)
            })
        })
        .collect()
}

fn audit(cx: &Cx, name: &str) -> Result<()> {
    let mut actor = Actor::start(cx, name)?;
    let mut trace = match Trace::start(cx, &[actor.pid()], &["--audit"]) {
        // The audit itself needs fentry; beside kprobes it may have nowhere to sit.
        Err(e) if cx.tier == Tier::Kprobe && format!("{e:#}").contains("--audit") => {
            bail!(Skip(format!("{e:#}")))
        }
        other => other?,
    };
    trace.next_line(cx)?;
    while !actor.at.end {
        actor.step(cx)?;
    }
    let report = trace.finish(cx)?.json;
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
    report["loss"]["seen"].as_i64().context("no loss").map(drop)
}
