//! Owners: their names in text and the table of their sums.

use std::collections::HashMap;

use super::header::{answer_style, answer_words, is_sampled};
use super::look::{Look, Style};
use super::spark::{self, Axis};
use super::table::{self, Align, Cell, Column, Rendered};
use super::text;
use crate::model::{GroupView, OwnerKind, OwnerView, View};

const CELLS: usize = 12;

/// `nginx[4242]`, escaped.
fn process(owner: &OwnerView, look: &Look) -> String {
    match (&owner.comm, owner.pid) {
        (Some(comm), Some(pid)) => format!("{}[{pid}]", look.foreign(comm)),
        (Some(comm), None) => look.foreign(comm).into_owned(),
        (None, Some(pid)) => format!("pid {pid}"),
        (None, None) => "process not known".to_owned(),
    }
}

/// Who a socket belongs to, short; harmless.
pub(super) fn who(owner: &OwnerView, look: &Look) -> String {
    match owner.kind {
        OwnerKind::Process => process(owner, look),
        OwnerKind::Listener => format!("{} unaccepted", process(owner, look)),
        OwnerKind::Orphan => format!("{} orphan", process(owner, look)),
        OwnerKind::Unknown => "owner not known".to_owned(),
    }
}

/// Whose sockets a group holds; harmless.
pub(super) fn title(group: &GroupView, look: &Look) -> String {
    let name = process(&group.owner, look);
    let name = if group.exited {
        format!("{name} (ended)")
    } else {
        name
    };
    match group.owner.kind {
        OwnerKind::Process => name,
        OwnerKind::Listener => match &group.listener {
            Some(at) => format!("{name} unaccepted on {}", look.foreign(at)),
            None => format!("{name} unaccepted"),
        },
        OwnerKind::Orphan => format!("{name} orphans"),
        OwnerKind::Unknown => "owner not known".to_owned(),
    }
}

/// The groups in the view's order, those of one process together.
pub(super) fn ordered(view: &View) -> Vec<&GroupView> {
    // Where each process was met first: a host has thousands of them at most.
    let mut first: HashMap<u32, usize> = HashMap::new();
    for (i, g) in view.groups.iter().enumerate() {
        if let Some(pid) = g.owner.pid {
            first.entry(pid).or_insert(i);
        }
    }
    let mut out: Vec<(usize, &GroupView)> = view.groups.iter().enumerate().collect();
    out.sort_by_key(|(i, g)| {
        g.owner
            .pid
            .and_then(|pid| first.get(&pid))
            .copied()
            .unwrap_or(*i)
    });
    out.into_iter().map(|(_, g)| g).collect()
}

/// Sums now, one row a group, at most `most` of them.
pub(super) fn now(view: &View, most: Option<usize>, look: &Look) -> Rendered {
    let axis = Axis::of(&view.timeline, view.duration_ns);
    let mark = |title: &str, json: &str| marked(view, title, json);
    let columns = [
        column("OWNER", "", Align::Left, 0),
        column("sockets", "NOW", Align::Right, 2),
        column("idle", "NOW", Align::Right, 4),
        column(&mark("RESIDENT", "resident"), "NOW", Align::Right, 0),
        column(&mark("rmem_alloc", "rmem_alloc"), "NOW", Align::Right, 6),
        column(&mark("wmem_queued", "wmem_queued"), "NOW", Align::Right, 6),
        column(
            &mark("forward_alloc", "forward_alloc"),
            "NOW",
            Align::Right,
            7,
        ),
        column(
            &mark("peak", "resident_peak_bytes"),
            "OVER TIME",
            Align::Right,
            3,
        ),
        column(
            &mark("mean", "resident_mean_bytes"),
            "OVER TIME",
            Align::Right,
            5,
        ),
        column(
            &mark("held idle", "idle_resident_mean_bytes"),
            "OVER TIME",
            Align::Right,
            1,
        ),
        column("timeline", "OVER TIME", Align::Left, 8),
        column("answer", "", Align::Left, 2),
    ];
    let rows: Vec<Vec<Cell>> = ordered(view)
        .into_iter()
        .take(most.unwrap_or(usize::MAX))
        .map(|g| {
            let t = &g.totals;
            vec![
                title(g, look).into(),
                text::count(t.sockets).into(),
                text::count(t.idle_sockets).into(),
                Cell {
                    text: text::bytes(t.resident),
                    style: Style::Strong,
                },
                text::bytes(t.rmem_alloc).into(),
                text::bytes(t.wmem_queued).into(),
                text::signed_bytes(t.forward_alloc).into(),
                text::bytes(g.resident_peak_bytes).into(),
                text::maybe_bytes(g.resident_mean_bytes).into(),
                text::maybe_bytes(g.verdict.idle_resident_mean_bytes).into(),
                spark::line(&g.timeline, axis, axis.to, CELLS, look.ascii).into(),
                answer(g),
            ]
        })
        .collect();
    finish(view, &columns, &rows, look)
}

/// The whole trace, one row a group, at most `most` of them.
pub(super) fn whole(view: &View, most: Option<usize>, look: &Look) -> Rendered {
    let mark = |title: &str, json: &str| marked(view, title, json);
    let columns = [
        column("OWNER", "", Align::Left, 0),
        column("sockets seen", "", Align::Right, 3),
        column(&mark("mean", "resident_mean_bytes"), "", Align::Right, 2),
        column(&mark("peak", "resident_peak_bytes"), "", Align::Right, 2),
        column(
            &mark("held idle", "idle_resident_mean_bytes"),
            "",
            Align::Right,
            0,
        ),
        column("answer", "", Align::Left, 1),
    ];
    let rows: Vec<Vec<Cell>> = ordered(view)
        .into_iter()
        .take(most.unwrap_or(usize::MAX))
        .map(|g| {
            vec![
                title(g, look).into(),
                text::count(g.sockets_seen).into(),
                text::maybe_bytes(g.resident_mean_bytes).into(),
                text::bytes(g.resident_peak_bytes).into(),
                text::maybe_bytes(g.verdict.idle_resident_mean_bytes).into(),
                answer(g),
            ]
        })
        .collect();
    finish(view, &columns, &rows, look)
}

fn answer(g: &GroupView) -> Cell {
    Cell {
        text: answer_words(g.verdict.answer).to_owned(),
        style: answer_style(g.verdict.answer),
    }
}

/// The title, with a `~` where the field rests on samples.
pub(super) fn marked(view: &View, title: &str, json: &str) -> String {
    format!("{title}{}", if is_sampled(view, json) { "~" } else { "" })
}

fn column(title: &str, band: &'static str, align: Align, rank: u8) -> Column {
    Column {
        title: title.to_owned(),
        band,
        apart: false,
        align,
        rank,
    }
}

fn finish(view: &View, columns: &[Column], rows: &[Vec<Cell>], look: &Look) -> Rendered {
    let mut out = table::render(columns, rows, look);
    let rest = ordered(view).split_off(rows.len());
    if !rest.is_empty() {
        let held: u64 = rest.iter().map(|g| g.totals.resident).sum();
        let line = format!(
            "{} not shown; they hold {}\n",
            text::counted(rest.len() as u64, "more owner", "more owners"),
            text::bytes(held)
        );
        out.text.push_str(&look.paint(Style::Faint, &line));
    }
    out
}
