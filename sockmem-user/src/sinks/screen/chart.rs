//! A queue over time, against its limit.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::paint::{cells, put};
use crate::sinks::escape;
use crate::sinks::look::{Look, Style};
use crate::sinks::text;

/// What held from one moment to another; `CLOCK_MONOTONIC`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) from_ns: u64,
    pub(super) to_ns: u64,
    /// Highest in it.
    pub(super) high: u64,
    /// The limit at its end; `None` where there is none or it is not known.
    pub(super) limit: Option<u64>,
    /// Idle throughout.
    pub(super) idle: bool,
}

/// A chart.
pub(super) struct Chart<'a> {
    /// Oldest first.
    pub(super) spans: &'a [Span],
    /// Moments to mark.
    pub(super) marks: &'a [u64],
    /// How it came about, for the axis.
    pub(super) note: &'static str,
}

/// Columns of the labels on the left.
const LABELS: u16 = 9;
const BLOCKS: [&str; 8] = ["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];
const ASCII: [&str; 8] = [".", ".", ":", ":", ":", "#", "#", "#"];

/// One column of cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Column {
    high: Option<u64>,
    limit: Option<u64>,
    idle: bool,
}

/// The spans in so many columns; one that nothing covers stays unknown.
fn columns(spans: &[Span], from: u64, to: u64, count: u16) -> Vec<Column> {
    let mut out = vec![Column::default(); usize::from(count)];
    if count == 0 {
        return out;
    }
    let width = u128::from(to.saturating_sub(from).max(1));
    let last = u128::from(count - 1);
    let place = |t: u64| {
        let at = u128::from(t.saturating_sub(from)) * u128::from(count) / width;
        at.min(last) as usize
    };
    for span in spans {
        let first = place(span.from_ns);
        // A span ends before its end, so that it is not in the next one's column, too.
        let until = place(span.to_ns.saturating_sub(1).max(span.from_ns));
        for column in &mut out[first..=until] {
            column.idle = span.idle && (column.high.is_none() || column.idle);
            column.high = column.high.max(Some(span.high));
            column.limit = span.limit;
        }
    }
    out
}

/// The highest value of the scale, the highest usage or the limit, and whether it is the limit. A
/// limit so far above that nothing else could be told apart is left out.
fn scale(spans: &[Span]) -> (u64, bool) {
    let high = spans.iter().map(|s| s.high).max().unwrap_or(0);
    let limit = spans.iter().filter_map(|s| s.limit).max().unwrap_or(0);
    if limit >= high && limit <= high.saturating_mul(3) {
        (limit.max(1), limit > 0)
    } else {
        (high.max(1), false)
    }
}

impl Chart<'_> {
    /// Draws it, the axis of time and the marks on its last two rows.
    pub(super) fn draw(&self, buf: &mut Buffer, area: Rect, look: &Look) {
        if area.width <= LABELS + 4 || area.height < 3 {
            return;
        }
        let plot = Rect {
            x: area.x + LABELS + 1,
            width: area.width - LABELS - 1,
            height: area.height - 2,
            ..area
        };
        let faint = cells(Style::Faint, look);
        let (Some(first), Some(last)) = (self.spans.first(), self.spans.last()) else {
            let words = "no reading yet";
            put(buf, plot.x, plot.y, plot.right(), words, faint);
            return;
        };
        let (from, to) = (first.from_ns, last.to_ns);
        let (top, limited) = scale(self.spans);
        let label = |buf: &mut Buffer, y: u16, words: &str| {
            let pad = usize::from(LABELS).saturating_sub(escape::width(words)) as u16;
            put(buf, area.x + pad, y, area.x + LABELS, words, faint);
        };
        let nothing = self.spans.iter().all(|s| s.high == 0) && top == 1;
        if !nothing {
            label(buf, plot.y, &text::bytes(top));
        }
        if plot.height > 1 {
            label(buf, plot.bottom() - 1, "0 B");
        }
        for (x, column) in (plot.x..).zip(columns(self.spans, from, to, plot.width)) {
            draw_column(buf, x, plot, column, (top, limited), look);
        }
        self.axis(buf, plot, from, to, look);
    }

    /// From when to when, and the marks.
    fn axis(&self, buf: &mut Buffer, plot: Rect, from: u64, to: u64, look: &Look) {
        let faint = cells(Style::Faint, look);
        let y = plot.bottom();
        let past = format!("-{}", text::span(to.saturating_sub(from)));
        let x = put(buf, plot.x, y, plot.right(), &past, faint);
        if plot.width > 16 {
            put(buf, plot.right() - 3, y, plot.right(), "now", faint);
        }
        if usize::from(plot.right().saturating_sub(x)) > self.note.len() + 8 {
            put(buf, x + 2, y, plot.right(), self.note, faint);
        }
        let sign = if look.ascii { "^" } else { "▲" };
        let width = u128::from(to.saturating_sub(from).max(1));
        for &t in self.marks.iter().filter(|t| (from..=to).contains(t)) {
            let at = u128::from(t - from) * u128::from(plot.width) / width;
            let x = plot.x + (at as u16).min(plot.width - 1);
            put(buf, x, y + 1, plot.right(), sign, cells(Style::Warn, look));
        }
    }
}

fn draw_column(
    buf: &mut Buffer,
    x: u16,
    plot: Rect,
    column: Column,
    (top, limited): (u64, bool),
    look: &Look,
) {
    let Some(high) = column.high else { return };
    let (shade, dash, floor) = if look.ascii {
        ("~", "-", "_")
    } else {
        ("░", "┄", "_")
    };
    let blocks = if look.ascii { ASCII } else { BLOCKS };
    // The limit has the first row for itself, or usage close to it would hide it.
    let rows = u128::from(plot.height.saturating_sub(u16::from(limited)).max(1));
    // In eighths of a row; any byte at all is seen.
    let mut eighths = (u128::from(high) * rows * 8 / u128::from(top)) as u64;
    if high > 0 {
        eighths = eighths.max(1);
    }
    let limit_row = column
        .limit
        .filter(|l| *l <= top)
        .map(|l| (u128::from(l) * rows / u128::from(top)) as u16)
        .map(|row| row.min(plot.height - 1));
    let over = column.limit.is_some_and(|l| high > l);
    for row in 0..plot.height {
        let y = plot.bottom() - 1 - row;
        let filled = eighths.saturating_sub(u64::from(row) * 8).min(8) as usize;
        let faint = cells(Style::Faint, look);
        let (sign, style) = if filled > 0 {
            let style = if over { Style::Warn } else { Style::Plain };
            (blocks[filled - 1], cells(style, look))
        } else if limit_row == Some(row) {
            (dash, cells(Style::Warn, look))
        } else if column.idle {
            (shade, faint)
        } else if row == 0 {
            (floor, faint)
        } else {
            continue;
        };
        put(buf, x, y, plot.right(), sign, style);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(from_ns: u64, to_ns: u64, high: u64) -> Span {
        Span {
            from_ns,
            to_ns,
            high,
            limit: None,
            idle: false,
        }
    }

    fn drawn(spans: &[Span], marks: &[u64], ascii: bool) -> Vec<String> {
        let area = Rect::new(0, 0, LABELS + 1 + 20, 5);
        let mut buf = Buffer::empty(area);
        let look = Look {
            ascii,
            ..Look::default()
        };
        Chart {
            spans,
            marks,
            note: "",
        }
        .draw(&mut buf, area, &look);
        (0..area.height)
            .map(|y| {
                (0..area.width)
                    .map(|x| buf[(x, y)].symbol())
                    .collect::<String>()
                    .trim_end()
                    .to_owned()
            })
            .collect()
    }

    #[test]
    fn a_peak_is_as_long_as_it_was() {
        let spans = [span(0, 10, 0), span(10, 11, 300), span(11, 20, 100)];
        assert_eq!(
            drawn(&spans, &[], false),
            [
                "    300 B           █",
                "                    █",
                "      0 B __________█████████",
                "          -20ns            now",
                ""
            ]
            .map(|line| line.replace("█████████", "██████████"))
        );
    }

    #[test]
    fn the_limit_is_a_line_where_it_is_near_and_left_out_where_it_is_far() {
        let near = Span {
            limit: Some(200),
            ..span(0, 20, 100)
        };
        let lines = drawn(&[near], &[], true);
        assert_eq!(lines[0], format!("    200 B {}", "-".repeat(20)));
        // As high as the limit, and the limit is still seen.
        let full = Span { high: 200, ..near };
        let lines = drawn(&[full], &[], true);
        assert_eq!(lines[0], format!("    200 B {}", "-".repeat(20)));
        assert_eq!(lines[1], format!("          {}", "#".repeat(20)));
        let far = Span {
            limit: Some(2_000),
            ..near
        };
        assert!(drawn(&[far], &[], true)[0].starts_with("    100 B #"));
    }

    #[test]
    fn idle_is_shaded_and_changes_are_marked() {
        let idle = Span {
            idle: true,
            ..span(10, 20, 0)
        };
        let lines = drawn(&[span(0, 10, 9), idle], &[10, 999], true);
        assert_eq!(lines[0], "      9 B ##########~~~~~~~~~~");
        assert_eq!(lines[3], "          -20ns            now");
        assert_eq!(lines[4], "                    ^");
    }

    #[test]
    fn nothing_known_is_said_and_no_size_fails() {
        assert!(drawn(&[], &[], false)[0].contains("no reading yet"));
        for (w, h) in [(0, 0), (1, 1), (14, 2), (15, 2), (300, 1)] {
            let area = Rect::new(0, 0, w, h);
            let mut buf = Buffer::empty(area);
            let spans = [span(5, 5, u64::MAX)];
            Chart {
                spans: &spans,
                marks: &[5],
                note: "",
            }
            .draw(&mut buf, area, &Look::default());
        }
    }
}
