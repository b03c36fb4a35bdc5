//! Two traces compared: was the load the same, and if so, is less memory held?
//!
//! Pure: fed with two views and surveys. Chance is judged by resampling with fixed seeds, so the
//! same two recordings always give the same result. `docs/DIFF.md` has the method and its sources.

mod blocks;
mod load;
mod matching;
mod metrics;
mod over_connections;
mod over_time;
mod verdict;

#[cfg(test)]
pub(crate) mod tests;

pub use load::{Load, Sums};
pub use matching::{Matched, What};
pub use metrics::{METRICS, Metric};
pub use verdict::{Answer, Outcome};

use super::View;
use super::survey::{Connection, Survey};
use metrics::{Least, Subject, measure};

/// Resamples for an interval: its ends are then the 50th lowest and highest.
const RESAMPLES: usize = 2000;

/// Less than this share of the first trace's value is no change, however sure it is.
pub const LEAST_SHARE: f64 = 0.02;

/// One of the two traces.
#[derive(Clone, Copy, Debug)]
pub struct Trace<'a> {
    /// Its picture at the end.
    pub view: &'a View,
    /// What was gathered for comparing.
    pub survey: &'a Survey,
    /// Bytes in a page.
    pub page_size: u64,
}

/// The result.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// Whether the loads were the same. To be read first.
    pub load: Load,
    /// All sockets together.
    pub metrics: Vec<Metric>,
    /// By name (and command line, where known) of the process.
    pub processes: Vec<Matched>,
    /// By listener: the connections that came from it.
    pub listeners: Vec<Matched>,
    /// By role, port and remote address.
    pub classes: Vec<Matched>,
    /// Rows of the three lists that were left out because they are many: those that held least.
    pub left_out: u64,
    /// What is to be kept in mind, in words.
    pub notes: Vec<String>,
    /// The answer.
    pub outcome: Outcome,
}

/// Compares `new` with `base`.
#[must_use]
pub fn compare(base: Trace<'_>, new: Trace<'_>) -> Comparison {
    let mut spoiled = Vec::new();
    for (trace, which) in [(base, "the first"), (new, "the second")] {
        if trace.view.loss.dropped_map > 0 {
            spoiled.push(format!(
                "{which} recording lacks sockets: its state map was full"
            ));
        }
    }
    let load = load::load(
        Sums::of(base.view, base.survey),
        Sums::of(new.view, new.survey),
        &spoiled,
    );
    let least = Least {
        bytes: base.page_size.max(new.page_size),
        // What the load differs by could make as much of a difference in memory.
        share: if load.matched {
            LEAST_SHARE.max(load.apart)
        } else {
            LEAST_SHARE
        },
    };
    let same_idle = base.view.idle_after_ns == new.view.idle_after_ns;
    let metrics = measure(&whole(base, same_idle), &whole(new, same_idle), least, 0);
    let (processes, left_p) = matching::processes(base, new, least, same_idle);
    let (listeners, left_l) = matching::listeners(base, new, least);
    let (classes, left_c) = matching::classes(base, new, least);
    let notes = notes(base, new, same_idle);
    let outcome = verdict::outcome(&load, &metrics);
    Comparison {
        load,
        metrics,
        processes,
        listeners,
        classes,
        left_out: left_p + left_l + left_c,
        notes,
        outcome,
    }
}

/// All sockets of a trace.
fn whole(trace: Trace<'_>, idle: bool) -> Subject<'_> {
    let (view, survey) = (trace.view, trace.survey);
    let mean = view.groups.iter().map(|g| g.resident_mean_bytes).sum();
    Subject {
        peak: Some(view.resident_peak_bytes),
        mean: (view.duration_ns > 0).then_some(mean).flatten(),
        idle: view.verdict.idle_resident_mean_bytes.filter(|_| idle),
        charged: Some(
            view.groups
                .iter()
                .fold(0, |sum, g| g.charged_bytes.saturating_add(sum)),
        ),
        bins: survey.total.clone(),
        connections: survey.connections.iter().collect(),
    }
}

/// Sums over connections of which `survey` may hold a sample only.
fn scaled(connections: &[&Connection], survey: &Survey, of: impl Fn(&Connection) -> f64) -> f64 {
    let kept = survey.connections.len().max(1) as f64;
    let scale = survey.connections_seen as f64 / kept;
    connections.iter().map(|c| of(c)).sum::<f64>() * scale
}

fn notes(base: Trace<'_>, new: Trace<'_>, same_idle: bool) -> Vec<String> {
    let mut out = Vec::new();
    if !same_idle {
        out.push(
            "idle residency is not compared: the two were traced with different --idle-after"
                .to_owned(),
        );
    }
    if base.view.tier != new.view.tier {
        out.push(format!(
            "the first was traced with {} hooks, the second with {}: what the one reads at every \
             change, the other may sample",
            base.view.tier.name(),
            new.view.tier.name()
        ));
    }
    if base.view.keeps_forward_alloc != new.view.keeps_forward_alloc {
        out.push(
            "the kernels differ in whether drained sockets keep forward_alloc (before 6.0 they do)"
                .to_owned(),
        );
    }
    for (trace, which) in [(base, "first"), (new, "second")] {
        let loss = &trace.view.loss;
        if loss.lost_closed > 0 {
            out.push(format!(
                "the {which} lacks the last totals of {} closed sockets",
                loss.lost_closed
            ));
        }
        if loss.dropped_ring > 0 {
            out.push(format!(
                "the {which} lost {} of {} changes: sums of all sockets have less detail in \
                 between, each socket's totals do not",
                loss.dropped_ring, loss.seen
            ));
        }
        let survey = trace.survey;
        if survey.connections_seen > survey.connections.len() as u64 {
            out.push(format!(
                "of the {which}'s {} connections a fair sample of {} stands for all",
                survey.connections_seen,
                survey.connections.len()
            ));
        }
    }
    out
}
