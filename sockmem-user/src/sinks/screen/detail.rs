//! One connection: whose it is, what it holds and why, its queues over time against their limits.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::app::App;
use super::chart::{Chart, Span};
use super::paint::{self, Fact, cells, put};
use super::series::Reading;
use crate::model::{Bucket, Limit, SocketView, TruesizeView, View};
use crate::sinks::groups::{marked, who};
use crate::sinks::header::{answer_style, answer_words};
use crate::sinks::json::{cause_name, limit_name};
use crate::sinks::look::{Look, Style};
use crate::sinks::summary::reason_words;
use crate::sinks::{escape, text};

/// Rows of a chart with its title and axis.
const CHART: u16 = 7;
/// Columns from which two parts stand side by side.
const WIDE: u16 = 110;
/// Rows of the lists of limits and of buffer sizes, with their titles.
const LIST: u16 = 9;

/// Draws it from its row `scroll` on; returns how many rows there are in all.
pub(super) fn draw(
    app: &App,
    view: &View,
    s: &SocketView,
    scroll: u16,
    buf: &mut Buffer,
    area: Rect,
) -> u16 {
    let look = app.look();
    let width = usize::from(area.width);
    let mut lines = facts(view, s, look)
        .into_iter()
        .flat_map(|facts| paint::wrap(facts, width, look))
        .collect::<Vec<_>>();
    lines.extend(words(view, s, width, look));
    let text_rows = lines.len() as u16;
    let wide = area.width >= WIDE;
    let rows = text_rows
        + if wide {
            CHART + 1 + LIST
        } else {
            3 * CHART + 2 * LIST
        };
    // Drawn whole, then the part that is seen: nothing here depends on where it is cut.
    let mut whole = Buffer::empty(Rect::new(0, 0, area.width, rows));
    let all = whole.area;
    for (y, line) in (0..).zip(&lines) {
        paint::line(&mut whole, all, y, line, look);
    }
    parts(app, view, s, &mut whole, text_rows, wide);
    title(s, buf, area, look);
    for y in 0..area.height.saturating_sub(1) {
        if y + scroll >= rows {
            break;
        }
        for x in 0..area.width {
            buf[(area.x + x, area.y + 1 + y)] = whole[(x, y + scroll)].clone();
        }
    }
    let below = rows.saturating_sub(scroll + area.height.saturating_sub(1));
    if below > 0 {
        let rows = text::counted(below.into(), "more row", "more rows");
        let words = format!(" {rows}: PgDn ");
        let x = area.right().saturating_sub(escape::width(&words) as u16);
        put(
            buf,
            x,
            area.y,
            area.right(),
            &words,
            cells(Style::Faint, look),
        );
    }
    rows
}

fn title(s: &SocketView, buf: &mut Buffer, area: Rect, look: &Look) {
    let arrow = if look.ascii { "->" } else { "→" };
    let gone = if s.closed { " (gone)" } else { "" };
    let words = format!(
        "{} {arrow} {}{gone}",
        look.foreign(&s.local),
        look.foreign(&s.remote)
    );
    paint::rule(buf, area, area.y, &[(Style::Strong, words)], look);
}

/// Lines of facts, the numbers with the names of their fields.
fn facts(view: &View, s: &SocketView, look: &Look) -> Vec<Vec<Fact>> {
    let plain = |words: String| (Style::Plain, words);
    let number = |name: &str, n: Option<u64>| {
        plain(format!(
            "{name} {}",
            n.map_or_else(|| text::UNKNOWN.to_owned(), |n| n.to_string())
        ))
    };
    let named = |name: &str, json: &str, size: String| {
        plain(format!("{} {size}", marked(view, name, json)))
    };
    let mut identity = vec![
        (Style::Strong, who(&s.owner, look)),
        plain(s.state.to_owned()),
        number("cookie", s.cookie),
        number("inode", s.inode),
    ];
    if let Some(cgroup) = &s.owner.cgroup {
        identity.push(plain(look.foreign(cgroup).into_owned()));
    }
    let term = |json: &str, size: String| format!("{} {size}", marked(view, json, json));
    vec![
        identity,
        vec![
            (
                Style::Strong,
                format!(
                    "{} {} = {} + {} + {}",
                    marked(view, "RESIDENT", "resident"),
                    text::bytes(s.resident),
                    term("rmem_alloc", text::bytes(s.rmem_alloc)),
                    term("wmem_queued", text::bytes(s.wmem_queued)),
                    term("forward_alloc", text::signed_bytes(s.forward_alloc))
                ),
            ),
            named(
                "peak",
                "resident_peak_bytes",
                text::bytes(s.resident_peak_bytes),
            ),
            named(
                "mean",
                "resident_mean_bytes",
                text::maybe_bytes(s.resident_mean_bytes),
            ),
        ],
        vec![
            plain(format!(
                "payload: unread {}, unacked {}",
                text::maybe_bytes(s.unread_bytes),
                text::maybe_bytes(s.unacked_bytes)
            )),
            named("backlog", "backlog", text::maybe_bytes(s.backlog)),
            named("optmem", "optmem", text::maybe_bytes(s.optmem)),
            plain(format!(
                "charged {}, released {} since first seen",
                text::bytes(s.charged_bytes),
                text::bytes(s.released_bytes)
            )),
        ],
    ]
}

/// The answer for this connection, in words.
fn words(view: &View, s: &SocketView, width: usize, look: &Look) -> Vec<Vec<Fact>> {
    let answer = answer_words(s.verdict).to_uppercase();
    let quiet = if s.closed {
        format!("closed; it was idle for {} in all", text::span(s.idle_ns))
    } else if s.idle {
        format!(
            "idle for {} now, {} in all",
            text::span(s.quiet_ns),
            text::span(s.idle_ns)
        )
    } else {
        format!("active now; idle for {} in all", text::span(s.idle_ns))
    };
    let held = match (s.idle_resident_mean_bytes, s.idle_resident_max_bytes) {
        (Some(0), _) => ", and held nothing while idle".to_owned(),
        (Some(mean), Some(max)) => format!(
            ", and held {} on average while idle, {} at most",
            text::bytes(mean),
            text::bytes(max)
        ),
        _ => format!(
            "; idle means that no payload moved for {}",
            text::span(view.idle_after_ns)
        ),
    };
    let why = s
        .idle_reason
        .map(|r| format!(". Most of it: {}", reason_words(r)))
        .unwrap_or_default();
    let sentence = format!("{answer}: {quiet}{held}{why}.");
    let wrapped = text::wrap(&sentence, width, 0);
    wrapped
        .lines()
        .enumerate()
        .map(|(i, line)| match line.strip_prefix(&answer) {
            Some(rest) if i == 0 => vec![
                (answer_style(s.verdict), answer.clone()),
                (Style::Plain, look.foreign(rest).into_owned()),
            ],
            _ => vec![(Style::Plain, look.foreign(line).into_owned())],
        })
        .collect()
}

/// Charts and lists, side by side where there is room.
fn parts(app: &App, view: &View, s: &SocketView, buf: &mut Buffer, top: u16, wide: bool) {
    let look = app.look();
    let readings = app.readings(s.id);
    let whole = buf.area;
    let half = whole.width / 2;
    let at = |row: u16, height: u16, x: u16, width: u16| Rect::new(x, top + row, width, height);
    let w = whole.width;
    let places = if wide {
        let third = w / 4;
        [
            at(0, CHART, 0, half - 2),
            at(0, CHART, half, w - half),
            at(CHART, CHART, 0, half - 2),
            at(CHART, LIST, half, w - half - third),
            at(CHART, LIST, w - third + 2, third - 2),
        ]
    } else {
        [
            at(0, CHART, 0, w),
            at(CHART, CHART, 0, w),
            at(2 * CHART, CHART, 0, w),
            at(3 * CHART, LIST, 0, w),
            at(3 * CHART + LIST, LIST, 0, w),
        ]
    };
    queue(view, s, readings, Limit::Rcvbuf, buf, places[0], look);
    queue(view, s, readings, Limit::Sndbuf, buf, places[1], look);
    resident(view, s, buf, places[2], look);
    limits(s, buf, places[3], look);
    sizes(view.truesize.as_ref(), buf, places[4], look);
}

/// One queue, by reading, against its limit.
fn queue(
    view: &View,
    s: &SocketView,
    readings: &[Reading],
    which: Limit,
    buf: &mut Buffer,
    area: Rect,
    look: &Look,
) {
    let (name, now, limit) = match which {
        Limit::Rcvbuf => ("rmem_alloc", s.rmem_alloc, s.rcvbuf),
        // The other limits have no queue of their own.
        _ => ("wmem_queued", s.wmem_queued, s.sndbuf),
    };
    let share = limit.filter(|l| *l > 0).map_or_else(String::new, |l| {
        format!(" ({} %)", u128::from(now) * 100 / u128::from(l))
    });
    let against = format!(
        "  limit {} {}{share}",
        marked(view, limit_name(which), limit_name(which)),
        text::maybe_bytes(limit)
    );
    let title = [
        (
            Style::Strong,
            format!("{} {}", marked(view, name, name), text::bytes(now)),
        ),
        (Style::Plain, against),
    ];
    paint::line(buf, area, area.y, &title, look);
    let spans: Vec<Span> = readings
        .iter()
        .map(|r| {
            let (high, limit) = match which {
                Limit::Rcvbuf => (r.rmem_alloc, r.rcvbuf),
                _ => (r.wmem_queued, r.sndbuf),
            };
            Span {
                from_ns: r.from_ns,
                to_ns: r.to_ns,
                high: high.into(),
                limit: (limit > 0).then_some(limit.into()),
                idle: r.idle,
            }
        })
        .collect();
    let marks: Vec<u64> = s
        .limits
        .iter()
        .filter(|c| c.what == which)
        .map(|c| c.at_ns)
        .collect();
    Chart {
        spans: &spans,
        marks: &marks,
        note: "one reading per interval",
    }
    .draw(buf, below(area), look);
}

/// `resident` by every change, since it was first seen.
fn resident(view: &View, s: &SocketView, buf: &mut Buffer, area: Rect, look: &Look) {
    let title = [
        (
            Style::Strong,
            format!(
                "{} {}",
                marked(view, "RESIDENT", "resident"),
                text::bytes(s.resident)
            ),
        ),
        (Style::Plain, "  since first seen".to_owned()),
    ];
    paint::line(buf, area, area.y, &title, look);
    let spans: Vec<Span> = s
        .timeline
        .iter()
        .zip(1..)
        .map(|(b, next)| {
            let to = s
                .timeline
                .get(next)
                .map_or(s.last_seen_ns, |b: &Bucket| b.start_ns);
            Span {
                from_ns: b.start_ns,
                to_ns: to.max(b.start_ns + 1),
                high: b.max,
                limit: None,
                idle: false,
            }
        })
        .collect();
    let marks: Vec<u64> = s.limits.iter().map(|c| c.at_ns).collect();
    Chart {
        spans: &spans,
        marks: &marks,
        note: "every change, peaks kept",
    }
    .draw(buf, below(area), look);
}

fn below(area: Rect) -> Rect {
    Rect {
        y: area.y + 1,
        height: area.height.saturating_sub(1),
        ..area
    }
}

/// The latest changes of its limits.
fn limits(s: &SocketView, buf: &mut Buffer, area: Rect, look: &Look) {
    let title = [(
        Style::Strong,
        format!(
            "LIMITS CHANGED {}",
            text::counted(s.limits.len() as u64, "time", "times")
        ),
    )];
    paint::line(buf, area, area.y, &title, look);
    let arrow = if look.ascii { "->" } else { "→" };
    let mut y = area.y + 1;
    for c in s.limits.iter().rev() {
        let ago = text::span(s.last_seen_ns.saturating_sub(c.at_ns));
        let what = format!(
            "{} {} {arrow} {}",
            limit_name(c.what),
            text::bytes(c.from.into()),
            text::bytes(c.to.into())
        );
        let cause = cause_name(c.cause);
        let lines = if area.width < 56 {
            vec![format!("{ago} ago by {cause}:"), format!("  {what}")]
        } else {
            vec![format!("{ago} ago by {cause}: {what}")]
        };
        if y + lines.len() as u16 > area.bottom() {
            break;
        }
        for line in lines {
            let place = (area.x, y, area.right());
            paint::put_cut(buf, place, &line, cells(Style::Plain, look), look);
            y += 1;
        }
    }
}

/// Sizes of packet buffers, of all traced sockets together.
fn sizes(truesize: Option<&TruesizeView>, buf: &mut Buffer, area: Rect, look: &Look) {
    let title = [
        (Style::Strong, "BUFFER SIZES".to_owned()),
        (Style::Faint, "  of all sockets".to_owned()),
    ];
    paint::line(buf, area, area.y, &title, look);
    let Some(t) = truesize else {
        let words = "none counted";
        put(
            buf,
            area.x,
            area.y + 1,
            area.right(),
            words,
            cells(Style::Faint, look),
        );
        return;
    };
    let mut counted: Vec<(usize, u64)> = t.octaves.iter().copied().enumerate().collect();
    counted.retain(|(_, n)| *n > 0);
    let rows = usize::from(area.height.saturating_sub(4));
    // The most frequent sizes, in the order of size.
    counted.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    counted.truncate(rows);
    counted.sort_unstable();
    let most = counted.iter().map(|(_, n)| *n).max().unwrap_or(1).max(1);
    let bar = if look.ascii { "#" } else { "█" };
    for (y, (octave, n)) in (area.y + 1..area.bottom()).zip(&counted) {
        let least = if look.ascii { ">=" } else { "≥" };
        let label = format!("{least}{:>8} ", text::bytes(1 << octave));
        let count = format!(" {}", text::count(*n));
        let x = put(
            buf,
            area.x,
            y,
            area.right(),
            &label,
            cells(Style::Faint, look),
        );
        let room = usize::from(area.right().saturating_sub(x))
            .saturating_sub(escape::width(&count).max(8));
        let long = (u128::from(*n) * room as u128 / u128::from(most)) as usize;
        let x = put(
            buf,
            x,
            y,
            area.right(),
            &bar.repeat(long.max(1)),
            cells(Style::Plain, look),
        );
        put(buf, x, y, area.right(), &count, cells(Style::Plain, look));
    }
    let ratio = t
        .payload_ratio
        .map_or_else(String::new, |r| format!("a payload byte costs {r:.2}"));
    let words = [
        format!("p50 {}, max {}", text::bytes(t.p50), text::bytes(t.max)),
        ratio,
    ];
    for (y, words) in (area.y + 1 + counted.len() as u16..).zip(&words) {
        let place = (area.x, y, area.right());
        paint::put_cut(buf, place, words, cells(Style::Faint, look), look);
    }
}
