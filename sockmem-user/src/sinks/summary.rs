//! The closing summary: first the answer in plain words, then what it rests on.

use std::cmp::Reverse;

use sockmem_common::Reason;

use super::header::{answer_style, answer_words, coverage_fact, loss_facts, tier_words};
use super::look::{Look, Style};
use super::plain::Options;
use super::{columns, groups, incidents, text};
use crate::model::{SocketView, View, reason_name};

/// Sockets in the list of idle residency.
const TOP: usize = 10;

/// The whole summary.
#[must_use]
pub fn render(view: &View, options: &Options) -> String {
    let look = &options.look;
    let mut out = String::new();
    answer(view, options, &mut out);
    owners(view, options, &mut out);
    idle_sockets(view, look, &mut out);
    truesize(view, look, &mut out);
    incidents::limits(view, look, &mut out);
    incidents::events(view, look, &mut out);
    evidence(view, look, &mut out);
    out
}

/// What each owner held, and its answer.
pub(super) fn owners(view: &View, options: &Options, out: &mut String) {
    let look = &options.look;
    if !view.groups.is_empty() {
        heading(look, "BY OWNER, over the whole trace", out);
        out.push_str(&groups::whole(view, options.rows, look).text);
        if view.groups.len() > 1 {
            for g in groups::ordered(view)
                .into_iter()
                .take(options.rows.unwrap_or(usize::MAX))
            {
                let line = format!(
                    "{}: {}",
                    groups::title(g, look),
                    look.foreign(&g.verdict.text)
                );
                put(out, &look.prose(&line, 2));
            }
        }
    }
}

pub(super) fn put(out: &mut String, line: &str) {
    out.push_str(line);
    out.push('\n');
}

pub(super) fn heading(look: &Look, title: &str, out: &mut String) {
    out.push('\n');
    put(out, &look.paint(Style::Strong, title));
}

pub(super) fn answer(view: &View, options: &Options, out: &mut String) {
    let look = &options.look;
    let v = &view.verdict;
    let word = format!("ANSWER: {}", answer_words(v.answer));
    put(out, &look.paint(answer_style(v.answer), &word));
    put(out, &look.prose(&look.foreign(&v.text), 0));
    put(
        out,
        &look.facts(&[
            (Style::Plain, look.foreign(&options.target).into_owned()),
            (
                Style::Plain,
                format!("traced for {}", text::span(view.duration_ns)),
            ),
            (
                Style::Plain,
                format!(
                    "idle means no payload moved for {}",
                    text::span(view.idle_after_ns)
                ),
            ),
        ]),
    );
    let mut held = vec![
        (
            Style::Plain,
            format!(
                "held while idle: mean {}",
                text::maybe_bytes(v.idle_resident_mean_bytes)
            ),
        ),
        (
            Style::Plain,
            format!(
                "most in one socket {}",
                text::maybe_bytes(v.idle_resident_max_bytes)
            ),
        ),
    ];
    held.extend(v.reasons.iter().map(|(r, n)| {
        (
            Style::Plain,
            format!("{} {}", reason_name(Some(*r)), text::bytes(*n)),
        )
    }));
    held.push((
        Style::Plain,
        format!("peak of all {}", text::bytes(view.resident_peak_bytes)),
    ));
    put(out, &look.facts(&held));
}

/// Why a reason holds memory.
pub(super) fn reason_words(reason: Reason) -> &'static str {
    match reason {
        Reason::Unread => "the application has not read it",
        Reason::Unacked => "the peer has not acknowledged it",
        Reason::Unsent => "the peer's window or congestion control holds it back",
        Reason::OutOfOrder => "it arrived after a gap that is not filled",
        Reason::Reserved => "forward_alloc kept by the kernel, or SO_RESERVE_MEM",
    }
}

pub(super) fn idle_sockets(view: &View, look: &Look, out: &mut String) {
    let all = || view.sockets.iter().chain(&view.closed);
    if all().all(|s| s.idle_resident_mean_bytes.is_none()) {
        return;
    }
    let mut held: Vec<&SocketView> = all()
        .filter(|s| s.idle_resident_mean_bytes.is_some_and(|n| n > 0))
        .collect();
    if held.is_empty() {
        heading(look, "IDLE SOCKETS", out);
        put(out, "No socket held memory while it was idle.");
        return;
    }
    heading(look, "IDLE SOCKETS THAT HELD MOST", out);
    held.sort_by_key(|s| Reverse(s.idle_resident_mean_bytes));
    let rest = held.len().saturating_sub(TOP);
    held.truncate(TOP);
    out.push_str(&columns::idle(view, &held, look).text);
    if rest > 0 {
        let more = text::counted(rest as u64, "more socket", "more sockets");
        put(
            out,
            &look.paint(Style::Faint, &format!("{more} held memory while idle")),
        );
    }
    let mut reasons: Vec<Reason> = held.iter().filter_map(|s| s.idle_reason).collect();
    reasons.sort();
    reasons.dedup();
    let facts: Vec<(Style, String)> = reasons
        .into_iter()
        .map(|r| {
            (
                Style::Faint,
                format!("{}: {}", reason_name(Some(r)), reason_words(r)),
            )
        })
        .collect();
    if !facts.is_empty() {
        put(out, &look.facts(&facts));
    }
}

pub(super) fn truesize(view: &View, look: &Look, out: &mut String) {
    if view.truesize.is_none() && view.drain_ns.is_none() {
        return;
    }
    heading(
        look,
        "BUFFERS (skb->truesize: kernel memory of one packet buffer)",
        out,
    );
    if let Some(t) = &view.truesize {
        let mut facts = vec![(
            Style::Plain,
            format!(
                "{}: p50 {}, p90 {}, p99 {}, max {}",
                text::counted(t.count, "buffer", "buffers"),
                text::bytes(t.p50),
                text::bytes(t.p90),
                text::bytes(t.p99),
                text::bytes(t.max)
            ),
        )];
        if let Some(ratio) = t.payload_ratio {
            facts.push((
                Style::Strong,
                format!("a payload byte costs {ratio:.2} bytes of kernel memory"),
            ));
        }
        put(out, &look.facts(&facts));
    }
    if let Some((p50, p99, max)) = view.drain_ns {
        let line = format!(
            "a queue was empty again after p50 {}, p99 {}, max {}",
            text::span(p50),
            text::span(p99),
            text::span(max)
        );
        put(out, &look.prose(&line, 2));
    }
}

pub(super) fn evidence(view: &View, look: &Look, out: &mut String) {
    heading(look, "HOW SURE", out);
    let mut facts = vec![
        (Style::Plain, tier_words(view.tier).to_owned()),
        coverage_fact(view),
    ];
    facts.extend(loss_facts(&view.loss));
    if view.loss.recursion_misses.is_none() {
        facts.push((
            Style::Plain,
            "runs skipped by the kernel: not known".to_owned(),
        ));
    }
    put(out, &look.facts(&facts));
    if let Some(keeps) = view.keeps_forward_alloc {
        let line = if keeps {
            "This kernel keeps forward_alloc on drained sockets (as kernels before 6.0 do)."
        } else {
            "This kernel gives forward_alloc of drained sockets back (as kernels from 6.0 on do)."
        };
        put(out, &look.prose(line, 0));
    }
    put(
        out,
        &look.prose(
            "How answers are found and what they mean: docs/VERDICTS.md",
            0,
        ),
    );
}
