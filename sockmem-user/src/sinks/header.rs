//! Where the numbers come from and how complete they are, in words.

use super::look::Style;
use super::text;
use crate::model::{Answer, Coverage, Loss, Tier, View};

type Fact = (Style, String);

/// The kind of hooks in words.
pub(super) fn tier_words(tier: Tier) -> &'static str {
    match tier {
        Tier::Fentry => "fentry hooks",
        Tier::Kprobe => "kprobe hooks",
        Tier::Tracepoint => "tracepoints only",
    }
}

/// Counters that were read at intervals.
pub(super) fn sampled(view: &View) -> Vec<&'static str> {
    let sampled = view
        .coverage
        .iter()
        .filter(|(_, c)| **c == Coverage::Sampled);
    sampled.map(|(name, _)| *name).collect()
}

/// Whether a field of a socket rests on a counter that is read at intervals.
pub(super) fn is_sampled(view: &View, json: &str) -> bool {
    let sampled = |name: &str| view.coverage.get(name) == Some(&Coverage::Sampled);
    match json {
        "resident"
        | "resident_peak_bytes"
        | "resident_mean_bytes"
        | "rate_bytes_per_s"
        | "idle_resident_mean_bytes"
        | "idle_resident_max_bytes" => ["resident", "rmem_alloc", "wmem_queued", "forward_alloc"]
            .into_iter()
            .any(sampled),
        _ => sampled(json),
    }
}

/// Which counters are exact.
pub(super) fn coverage_fact(view: &View) -> Fact {
    let sampled = sampled(view);
    if view.coverage.is_empty() {
        (Style::Warn, "coverage not known".to_owned())
    } else if sampled.is_empty() {
        (Style::Plain, "every counter exact".to_owned())
    } else {
        let others = if sampled.len() == view.coverage.len() {
            ""
        } else {
            "; the others exact"
        };
        (
            Style::Warn,
            format!("sampled (~): {}{others}", sampled.join(", ")),
        )
    }
}

/// What became of the changes; the first fact is printed also when nothing was lost.
pub(super) fn loss_facts(loss: &Loss) -> Vec<Fact> {
    let style = |n: u64, style| if n == 0 { Style::Plain } else { style };
    let mut facts = vec![(
        style(loss.dropped_ring, Style::Warn),
        format!(
            "lost {} of {} changes",
            text::count(loss.dropped_ring),
            text::count(loss.seen)
        ),
    )];
    if loss.dropped_ring > 0 {
        facts.push((
            Style::Warn,
            "ring full: detail is missing, totals are not; a larger --ring-size helps".to_owned(),
        ));
    }
    if loss.dropped_map > 0 {
        facts.push((
            Style::Bad,
            format!(
                "sockets are NOT TRACED: the state map was full {}; raise --max-sockets",
                text::counted(loss.dropped_map, "time", "times")
            ),
        ));
    }
    if loss.lost_closed > 0 {
        facts.push((
            Style::Bad,
            format!(
                "totals of {} MISSING; raise --ring-size",
                text::counted(loss.lost_closed, "closed socket", "closed sockets")
            ),
        ));
    }
    if let Some(n) = loss.recursion_misses.filter(|n| *n > 0) {
        facts.push((
            Style::Warn,
            format!(
                "{} skipped by the kernel",
                text::counted(n, "program run", "program runs")
            ),
        ));
    }
    facts
}

/// An answer in a few words.
pub(super) fn answer_words(answer: Answer) -> &'static str {
    match answer {
        Answer::TrafficDriven => "traffic-driven",
        Answer::ResidentWhileIdle => "resident while idle",
        Answer::Growing => "growing",
        Answer::NotEnoughIdleTime => "not enough idle time",
    }
}

/// How an answer is coloured.
pub(super) fn answer_style(answer: Answer) -> Style {
    match answer {
        Answer::TrafficDriven => Style::Good,
        Answer::ResidentWhileIdle => Style::Warn,
        Answer::Growing => Style::Bad,
        Answer::NotEnoughIdleTime => Style::Plain,
    }
}
