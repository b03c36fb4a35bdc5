//! The closing summary's lists of what happened: limits that changed, memory pressure, sysctls.

use super::json::{cause_name, limit_name};
use super::look::{Look, Style};
use super::summary::{heading, put};
use super::text;
use crate::model::{By, EventKind, EventView, LimitChange, SocketView, View};

/// Entries in the list of changed limits.
const MAX_LIMITS: usize = 10;
/// Entries in the list of events.
const MAX_EVENTS: usize = 10;
/// Owners that an event names.
const MAX_HOLDERS: usize = 3;

/// Changes of sockets' limits.
pub(super) fn limits(view: &View, look: &Look, out: &mut String) {
    let mut changes: Vec<(&SocketView, &LimitChange)> = view
        .sockets
        .iter()
        .chain(&view.closed)
        .flat_map(|s| s.limits.iter().map(move |change| (s, change)))
        .collect();
    if changes.is_empty() {
        return;
    }
    heading(look, "LIMITS CHANGED (ceilings, not memory in use)", out);
    changes.sort_by_key(|(_, change)| change.at_ns);
    for (s, change) in changes.iter().take(MAX_LIMITS) {
        let arrow = arrow(look);
        let line = format!(
            "{} {arrow} {}: {} {} {arrow} {} by {}, {} after the socket was first seen",
            look.foreign(&s.local),
            look.foreign(&s.remote),
            limit_name(change.what),
            text::bytes(u64::from(change.from)),
            text::bytes(u64::from(change.to)),
            cause(change, look),
            text::span(change.at_ns.saturating_sub(s.first_seen_ns))
        );
        put(out, &look.prose(&line, 2));
    }
    more(changes.len(), MAX_LIMITS, "change", look, out);
}

fn arrow(look: &Look) -> &'static str {
    if look.ascii { "->" } else { "→" }
}

/// How many of `all` were not shown.
fn more(all: usize, shown: usize, what: &str, look: &Look, out: &mut String) {
    if let Some(rest) = all.checked_sub(shown).filter(|n| *n > 0) {
        let one = format!("more {what}");
        let rest = text::counted(rest as u64, &one, &format!("{one}s"));
        put(out, &look.paint(Style::Faint, &format!("{rest} not shown")));
    }
}

fn cause(change: &LimitChange, look: &Look) -> String {
    let Some(option) = change.option else {
        return cause_name(change.cause).to_owned();
    };
    let asked = change
        .asked
        .map_or_else(String::new, |asked| format!(" {asked}"));
    format!("{option}{asked} of {}", who(change.by.as_ref(), look))
}

fn who(by: Option<&By>, look: &Look) -> String {
    by.map_or_else(
        || "an unknown process".to_owned(),
        |by| match &by.comm {
            Some(comm) => format!("{} ({})", look.foreign(comm), by.pid),
            None => format!("process {}", by.pid),
        },
    )
}

/// Memory pressure and changes of sysctls.
pub(super) fn events(view: &View, look: &Look, out: &mut String) {
    if view.event_counts.is_empty() && view.events_lost == 0 {
        return;
    }
    heading(look, "MEMORY PRESSURE AND SYSCTLS", out);
    let counts: Vec<(Style, String)> = view
        .event_counts
        .iter()
        .map(|(kind, n)| (Style::Plain, format!("{}: {n}", words(*kind))))
        .chain((view.events_lost > 0).then(|| {
            let lost = text::counted(view.events_lost, "record", "records");
            (Style::Strong, format!("{lost} lost: the ring was full"))
        }))
        .collect();
    put(out, &look.facts(&counts));
    for event in view.events.iter().take(MAX_EVENTS) {
        put(out, &look.prose(&line(view, event, look), 2));
    }
    more(view.events.len(), MAX_EVENTS, "event", look, out);
}

/// A kind in words.
fn words(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Sysctl => "sysctl changed",
        EventKind::EnterPressure => "TCP entered memory pressure",
        EventKind::LeavePressure => "TCP left memory pressure",
        EventKind::ExceedLimit => "charge over TCP's memory limits",
        EventKind::RcvqueueFull => "datagram dropped at a full queue",
        EventKind::PruneOfo => "out-of-order data dropped at a full queue",
        EventKind::PruneRcv => "arriving data dropped at a full queue",
        EventKind::Collapse => "full queue collapsed",
    }
}

fn line(view: &View, e: &EventView, look: &Look) -> String {
    let mut parts = vec![match e.name {
        Some(name) => {
            let numbers = |values: &[u64]| {
                let all: Vec<String> = values.iter().map(u64::to_string).collect();
                all.join(" ")
            };
            format!(
                "{name} {} {} {} by {}",
                numbers(&e.from),
                arrow(look),
                numbers(&e.to),
                who(e.by.as_ref(), look)
            )
        }
        None => words(e.kind).to_owned(),
    }];
    if e.count > 1 {
        parts.push(format!("{} times", e.count));
    }
    if let Some(s) = &e.socket {
        parts.push(format!(
            "{} {} {} with rmem_alloc {} (rcvbuf {})",
            look.foreign(&s.local),
            arrow(look),
            look.foreign(&s.remote),
            text::bytes(s.rmem_alloc),
            text::bytes(s.rcvbuf)
        ));
    }
    if let Some(ns) = e.lasted_ns {
        parts.push(format!("it lasted {}", text::span(ns)));
    }
    if let Some(pages) = e.allocated_pages {
        parts.push(format!("{pages} pages charged to TCP"));
    }
    if let Some([low, pressure, high]) = e.tcp_mem_pages {
        parts.push(format!("tcp_mem {low} {pressure} {high}"));
    }
    let mut held = format!("the traced sockets held {}", text::bytes(e.held_resident));
    let holders: Vec<String> = e
        .held_by
        .iter()
        .take(MAX_HOLDERS)
        .map(|h| {
            let name = h.owner.comm.as_deref().map_or_else(
                || h.owner.kind.name().to_owned(),
                |comm| look.foreign(comm).into_owned(),
            );
            let pid = h
                .owner
                .pid
                .map_or_else(String::new, |pid| format!(" ({pid})"));
            format!("{name}{pid} {}", text::bytes(h.resident))
        })
        .collect();
    if !holders.is_empty() {
        held.push_str(": ");
        held.push_str(&holders.join(", "));
    }
    parts.push(held);
    if !e.observed {
        parts.push("found between two samples".to_owned());
    }
    let since = e.at_ns.saturating_sub(view.start_mono_ns);
    format!("after {}: {}", text::span(since), parts.join("; "))
}
