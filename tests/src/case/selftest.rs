//! Each workload without the tool: what it claims about the kernel holds.

use anyhow::{Result, ensure};

use super::{Case, Cx, UNTRACED, case};
use crate::actor::Actor;
use crate::workload;

/// One test per workload.
pub(super) fn cases() -> Vec<Case> {
    workload::names(|_| true)
        .into_iter()
        // `exit` ends on purpose in the middle, which an untraced run cannot judge.
        .filter(|name| name != "exit")
        .map(|name| {
            case(format!("selftest_{name}"), UNTRACED, move |cx| {
                play(cx, &name)
            })
        })
        .collect()
}

fn play(cx: &Cx, name: &str) -> Result<()> {
    let mut actor = Actor::start(cx, name)?;
    loop {
        if actor.at.rest {
            settled(cx, &mut actor)?;
        }
        if actor.at.end {
            return Ok(());
        }
        actor.step(cx)?;
    }
}

/// Two readings at a rest agree, save for kernel timers that fire in between.
fn settled(cx: &Cx, actor: &mut Actor) -> Result<()> {
    let mut before = actor.report(cx)?;
    for _ in 0..50 {
        std::thread::sleep(std::time::Duration::from_millis(40));
        let after = actor.report(cx)?;
        if before == after {
            return Ok(());
        }
        before = after;
    }
    let phase = actor.at.phase.clone().unwrap_or_default();
    ensure!(
        false,
        "phase {phase:?} is called a rest, but its counters keep changing"
    );
    Ok(())
}
