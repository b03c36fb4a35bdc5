//! The tables of sockets.

use super::fields::{Field, Kind, Unit, Value};
use super::groups::{marked, who};
use super::look::{Look, Style};
use super::spark::{self, Axis};
use super::table::{self, Align, Cell, Column, Rendered};
use super::text;
use crate::model::{Bucket, SocketView, View, check};

/// Cells of a timeline.
const CELLS: usize = 12;

/// What a column shows.
#[derive(Clone, Copy)]
enum Show {
    /// A field of the table of fields, by its JSON name.
    Field(&'static str),
    /// Whose it is; only in a view with several owners.
    Who,
    /// `resident` over time.
    Timeline,
    /// By how much the low of `resident` rose over the socket's life.
    Grew,
}

/// A column: what, under which band, and its rank. A table too wide has the columns of
/// rank 0 and then, rank by rank, those that still fit: first of all which socket, how much
/// it holds, for how long it has been idle; last of all its limits and its backlog.
type Spec = (Show, &'static str, u8);

const MEMORY: &str = "MEMORY";
const PAYLOAD: &str = "PAYLOAD";
const OVER_TIME: &str = "OVER TIME";
/// Stands apart, at the end: these are no memory in use.
const LIMITS: &str = "LIMITS";

/// Every socket now.
const NOW: &[Spec] = &[
    (Show::Field("local"), "", 4),
    (Show::Field("remote"), "", 0),
    (Show::Field("state"), "", 2),
    (Show::Who, "", 7),
    (Show::Field("resident"), MEMORY, 0),
    (Show::Field("rmem_alloc"), MEMORY, 5),
    (Show::Field("wmem_queued"), MEMORY, 5),
    (Show::Field("forward_alloc"), MEMORY, 10),
    (Show::Field("backlog"), MEMORY, 13),
    (Show::Field("unread_bytes"), PAYLOAD, 8),
    (Show::Field("unacked_bytes"), PAYLOAD, 8),
    (Show::Field("rate_bytes_per_s"), OVER_TIME, 11),
    (Show::Field("resident_peak_bytes"), OVER_TIME, 6),
    (Show::Timeline, OVER_TIME, 9),
    (Show::Field("quiet_ns"), OVER_TIME, 1),
    (Show::Field("idle_resident_mean_bytes"), OVER_TIME, 3),
    (Show::Field("rcvbuf"), LIMITS, 12),
    (Show::Field("sndbuf"), LIMITS, 12),
];

/// Every socket now, on a full screen: the timeline comes early, details have a pane of their own.
const SCREEN: &[Spec] = &[
    (Show::Field("remote"), "", 0),
    (Show::Field("local"), "", 8),
    (Show::Field("state"), "", 3),
    (Show::Who, "", 5),
    (Show::Field("resident"), MEMORY, 0),
    (Show::Field("rmem_alloc"), MEMORY, 4),
    (Show::Field("wmem_queued"), MEMORY, 4),
    (Show::Field("forward_alloc"), MEMORY, 10),
    (Show::Field("backlog"), MEMORY, 13),
    (Show::Field("unread_bytes"), PAYLOAD, 9),
    (Show::Field("unacked_bytes"), PAYLOAD, 9),
    (Show::Field("rate_bytes_per_s"), OVER_TIME, 11),
    (Show::Field("resident_peak_bytes"), OVER_TIME, 6),
    (Show::Timeline, OVER_TIME, 2),
    (Show::Field("quiet_ns"), OVER_TIME, 1),
    (Show::Field("idle_resident_mean_bytes"), OVER_TIME, 1),
    (Show::Field("idle_reason"), OVER_TIME, 7),
    (Show::Field("rcvbuf"), LIMITS, 12),
    (Show::Field("sndbuf"), LIMITS, 12),
];

/// What sockets held while they were idle.
const IDLE: &[Spec] = &[
    (Show::Field("local"), "", 4),
    (Show::Field("remote"), "", 0),
    (Show::Field("state"), "", 3),
    (Show::Who, "", 5),
    (Show::Field("idle_resident_mean_bytes"), "", 0),
    (Show::Field("idle_resident_max_bytes"), "", 2),
    (Show::Field("idle_ns"), "", 1),
    (Show::Field("idle_reason"), "", 0),
];

/// What sockets held at most.
const PEAK: &[Spec] = &[
    (Show::Field("local"), "", 4),
    (Show::Field("remote"), "", 0),
    (Show::Field("state"), "", 3),
    (Show::Who, "", 5),
    (Show::Field("resident_peak_bytes"), "", 0),
    (Show::Field("rmem_peak_bytes"), "", 2),
    (Show::Field("wmem_queued_peak_bytes"), "", 2),
    (Show::Field("resident_mean_bytes"), "", 1),
    (Show::Timeline, "", 6),
];

/// What sockets held more and more of.
const GROWTH: &[Spec] = &[
    (Show::Field("local"), "", 4),
    (Show::Field("remote"), "", 0),
    (Show::Field("state"), "", 3),
    (Show::Who, "", 5),
    (Show::Grew, "", 0),
    (Show::Field("resident"), "", 1),
    (Show::Field("resident_peak_bytes"), "", 2),
    (Show::Timeline, "", 6),
];

/// The table of peaks.
pub(super) fn peak(view: &View, sockets: &[&SocketView], look: &Look) -> Rendered {
    render(PEAK, view, sockets, look)
}

/// The table of growth.
pub(super) fn growth(view: &View, sockets: &[&SocketView], look: &Look) -> Rendered {
    render(GROWTH, view, sockets, look)
}

/// What a limit that is exceeded is about.
const BEHIND: &[Spec] = &[
    (Show::Field("local"), "", 4),
    (Show::Field("remote"), "", 0),
    (Show::Field("state"), "", 3),
    (Show::Who, "", 2),
    (Show::Field("resident_peak_bytes"), "", 0),
    (Show::Field("idle_resident_mean_bytes"), "", 1),
    (Show::Field("idle_resident_max_bytes"), "", 1),
    (Show::Field("resident_mean_bytes"), "", 5),
];

/// The table of sockets behind a limit.
pub(super) fn behind(view: &View, sockets: &[&SocketView], look: &Look) -> Rendered {
    render(BEHIND, view, sockets, look)
}

/// By how much a socket grew: the low of the last eighth of its life less that of the first
/// quarter; `None` where it was seen for too short.
pub(super) fn grew(s: &SocketView) -> Option<u64> {
    check::growth(&s.timeline)
}

/// The table of sockets now.
pub(super) fn now(view: &View, sockets: &[&SocketView], look: &Look) -> Rendered {
    render(NOW, view, sockets, look)
}

/// The table of idle residency.
pub(super) fn idle(view: &View, sockets: &[&SocketView], look: &Look) -> Rendered {
    render(IDLE, view, sockets, look)
}

/// Which kernel field each column of the first table is, `title = field`, in order.
pub(super) fn legend() -> Vec<String> {
    NOW.iter()
        .filter_map(|(show, _, _)| match show {
            Show::Field(json) => Some(Field::named(json)),
            Show::Who | Show::Timeline | Show::Grew => None,
        })
        .filter(|f| {
            matches!(f.kind, Kind::Usage | Kind::Limit | Kind::Payload) && f.title != "rate/s"
        })
        .map(|f| format!("{} = {}", f.title, f.kernel))
        .collect()
}

/// The columns of the first table in the order in which a narrow one keeps them.
pub(super) fn kept_order() -> Vec<&'static str> {
    let mut columns: Vec<(u8, &'static str)> = NOW
        .iter()
        .map(|(show, _, rank)| match show {
            Show::Field(json) => (*rank, Field::named(json).title),
            Show::Who => (*rank, "owner"),
            Show::Timeline => (*rank, "timeline"),
            Show::Grew => (*rank, "grew"),
        })
        .collect();
    columns.sort_by_key(|(rank, _)| *rank);
    columns.into_iter().map(|(_, title)| title).collect()
}

fn render(specs: &'static [Spec], view: &View, sockets: &[&SocketView], look: &Look) -> Rendered {
    let shown = shown(specs, view);
    let columns: Vec<Column> = shown.iter().map(|spec| column(spec, view)).collect();
    let rows: Vec<Vec<Cell>> = sockets.iter().map(|s| row(&shown, view, s, look)).collect();
    table::render(&columns, &rows, look)
}

/// The columns that make sense in this view.
fn shown(specs: &'static [Spec], view: &View) -> Vec<&'static Spec> {
    let several = view.groups.len() > 1;
    specs
        .iter()
        .filter(|(show, _, _)| several || !matches!(show, Show::Who))
        .collect()
}

fn column((show, band, rank): &Spec, view: &View) -> Column {
    let (title, align) = match show {
        Show::Who => ("owner".to_owned(), Align::Left),
        Show::Timeline => ("timeline".to_owned(), Align::Left),
        Show::Grew => (marked(view, "grew", "resident"), Align::Right),
        Show::Field(json) => {
            let f = Field::named(json);
            let align = if f.unit == Unit::Text {
                Align::Left
            } else {
                Align::Right
            };
            (marked(view, f.title, json), align)
        }
    };
    Column {
        title,
        band,
        apart: *band == LIMITS,
        align,
        rank: *rank,
    }
}

fn row(specs: &[&Spec], view: &View, s: &SocketView, look: &Look) -> Vec<Cell> {
    let axis = Axis::of(&view.timeline, view.duration_ns);
    specs
        .iter()
        .map(|(show, _, _)| cell(*show, s, axis, look))
        .collect()
}

/// The columns of the full screen's table, each with the field that it is sorted by. Where remote
/// ends do not tell connections apart (`twins`), the local end is among the first.
pub(super) fn screen(view: &View, twins: bool) -> Vec<(Column, Option<&'static str>)> {
    let sorted_by = |show: Show| match show {
        Show::Field(json) => Some(json),
        Show::Who => Some("owner.comm"),
        Show::Timeline | Show::Grew => None,
    };
    shown(SCREEN, view)
        .into_iter()
        .map(|spec| {
            let mut column = column(spec, view);
            if twins && matches!(spec.0, Show::Field("local")) {
                column.rank = 1;
            }
            (column, sorted_by(spec.0))
        })
        .collect()
}

/// One socket's cells under those columns.
pub(super) fn screen_row(view: &View, s: &SocketView, look: &Look) -> Vec<Cell> {
    row(&shown(SCREEN, view), view, s, look)
}

fn cell(show: Show, s: &SocketView, axis: Axis, look: &Look) -> Cell {
    match show {
        Show::Who => who(&s.owner, look).into(),
        Show::Timeline => timeline(&s.timeline, axis, s, look).into(),
        Show::Grew => text::maybe_bytes(grew(s)).into(),
        Show::Field("resident") => Cell {
            text: text::bytes(s.resident),
            style: Style::Strong,
        },
        Show::Field("state") => state(s).to_owned().into(),
        // A socket in use is not idle for 3 ms.
        Show::Field("quiet_ns") if !s.idle => "active".to_owned().into(),
        // Without idle time there is nothing to give a reason for.
        Show::Field("idle_reason") if s.idle_resident_mean_bytes.is_none() => {
            text::UNKNOWN.to_owned().into()
        }
        Show::Field(json) => value((Field::named(json).get)(s), look).into(),
    }
}

fn timeline(buckets: &[Bucket], axis: Axis, s: &SocketView, look: &Look) -> String {
    let end = if s.closed { s.last_seen_ns } else { axis.to };
    spark::line(buckets, axis, end, CELLS, look.ascii)
}

/// The state in the column's width; the longest and most common one as `ss` has it.
fn state(s: &SocketView) -> &'static str {
    match s.state {
        _ if s.closed => "(gone)",
        "ESTABLISHED" => "ESTAB",
        other => other,
    }
}

/// A value as text, harmless.
pub(super) fn value(value: Value<'_>, look: &Look) -> String {
    match value {
        Value::Bytes(n) => text::bytes(n),
        Value::SignedBytes(n) => text::signed_bytes(n),
        Value::Ns(n) => text::span(n),
        Value::Count(n) => text::count(n),
        Value::Text(s) => look.foreign(s).into_owned(),
        Value::Rate(n) => text::delta_bytes(n),
        Value::Flag(on) => if on { "yes" } else { "no" }.to_owned(),
        Value::Unknown => text::UNKNOWN.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(specs: &'static [Spec]) -> impl Iterator<Item = (&'static Field, &'static str)> {
        specs.iter().filter_map(|(show, band, _)| match show {
            Show::Field(json) => Some((Field::named(json), *band)),
            Show::Who | Show::Timeline | Show::Grew => None,
        })
    }

    #[test]
    fn no_limit_is_among_usage_and_only_limits_are_among_limits() {
        let all = [NOW, IDLE, PEAK, GROWTH, BEHIND, SCREEN];
        for (f, band) in all.into_iter().flat_map(fields) {
            assert_eq!(f.kind == Kind::Limit, band == LIMITS, "{}", f.json);
            assert_eq!(f.kind == Kind::Payload, band == PAYLOAD, "{}", f.json);
            if band == MEMORY {
                assert!(f.kind == Kind::Usage && f.sums, "{}", f.json);
            }
        }
        // Last, so that they stand apart from everything else.
        for specs in [NOW, SCREEN] {
            let first = specs.iter().position(|(_, band, _)| *band == LIMITS);
            assert!(
                specs[first.unwrap()..]
                    .iter()
                    .all(|(_, band, _)| *band == LIMITS)
            );
        }
    }

    #[test]
    fn unknown_is_a_dash() {
        assert_eq!(value(Value::Unknown, &Look::default()), "-");
        assert_eq!(value(Value::Bytes(0), &Look::default()), "0 B");
    }
}
