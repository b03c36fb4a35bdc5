//! Many sockets at once and one after the other: exact while they live, balanced when gone.

use anyhow::{Context, Result, ensure};

use super::rest::{Company, balanced, compare, play_through};
use super::{Case, Cx, EVERY, ONCE, case};
use crate::actor::Actor;
use crate::trace::{self, Trace};

/// Fleets of sockets.
pub(super) fn cases() -> Vec<Case> {
    vec![case("many", ONCE, many), case("churn", EVERY, churn)]
}

fn many(cx: &Cx) -> Result<()> {
    let (report, rests) = play_through(cx, "many", &[])?;
    ensure!(rests == 3, "{rests} rests compared, not 3");
    balanced(&report.json)
}

fn churn(cx: &Cx) -> Result<()> {
    let mut actor = Actor::start(cx, "churn")?;
    let mut trace = Trace::start(cx, &[actor.pid()], &[])?;
    actor.step_to(cx, "churned")?;
    compare(cx, &mut trace, &mut actor, &Company::Alone)?;
    let connections = actor.fact("connections")?;
    let report = trace.finish(cx)?.json;
    balanced(&report)?;
    let lost = trace::number(&report["loss"], "lost_closed").unwrap_or(0);
    ensure!(lost == 0, "{lost} closed sockets' totals are missing");
    let live: Vec<u64> = actor.at.sockets.iter().map(|r| r.cookie).collect();
    let mut closed = 0;
    for socket in trace::sockets(&report)? {
        if socket["cookie"].as_u64().is_some_and(|c| live.contains(&c)) {
            continue;
        }
        ensure!(
            socket["closed"].as_bool() == Some(true),
            "a connection that ended is not closed: {socket}"
        );
        closed += 1;
    }
    ensure!(
        closed > 0,
        "no closed socket in the report after {connections} connections"
    );
    report["processes"]
        .as_array()
        .context("no \"processes\"")
        .map(drop)
}
