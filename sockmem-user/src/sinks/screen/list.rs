//! The table of sockets or groups.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Modifier;

use super::app::{App, Rows};
use super::paint::{self, Fact, cells, put, put_cut};
use super::rows::{By, GroupRow, Sort};
use crate::model::View;
use crate::sinks::columns;
use crate::sinks::fields::Field;
use crate::sinks::groups::marked;
use crate::sinks::header::{answer_style, answer_words};
use crate::sinks::look::{Look, Style};
use crate::sinks::spark::{self, Axis};
use crate::sinks::table::{self, Align, Cell, Column};
use crate::sinks::text;

/// Before the first column: the mark of the selected row.
const MARK: u16 = 2;
/// Cells of a group's timeline.
pub(super) const CELLS: usize = 12;
/// Rows of the area from which the bands over the titles are worth one.
const TALL: u16 = 22;

/// What was drawn where, for the mouse and for paging.
#[derive(Clone, Debug, Default)]
pub(super) struct Hits {
    /// The rows' place, without titles.
    pub(super) rows: Rect,
    /// The row of titles.
    pub(super) titles: u16,
    /// From, to, and what is sorted by.
    pub(super) columns: Vec<(u16, u16, &'static str)>,
}

/// Rows of sockets or groups in a table of that size.
pub(super) fn page(area: Rect) -> usize {
    let titles = if area.height >= TALL { 3 } else { 2 };
    usize::from(area.height.saturating_sub(titles)).max(1)
}

/// Draws the table and keeps the widths it needed in `widths`: a column that was wide stays so,
/// or everything would jump about as sizes change.
pub(super) fn draw(
    app: &App,
    view: &View,
    offset: usize,
    widths: &mut Vec<usize>,
    buf: &mut Buffer,
    area: Rect,
) -> Hits {
    let look = Look {
        width: Some(usize::from(area.width.saturating_sub(MARK))),
        ..*app.look()
    };
    title(app, buf, area, &look);
    let columns = match app.rows() {
        Rows::Sockets(_) => columns::screen(view, app.has_twins()),
        Rows::Groups(_) => group_columns(view, app.by()),
    };
    let shown = page(area);
    let rows: Vec<Vec<Cell>> = match app.rows() {
        Rows::Sockets(rows) => rows
            .iter()
            .skip(offset)
            .take(shown)
            .map(|i| columns::screen_row(view, &view.sockets[*i], &look))
            .collect(),
        Rows::Groups(rows) => rows
            .iter()
            .skip(offset)
            .take(shown)
            .map(|r| group_cells(r, view, app.by(), &look))
            .collect(),
    };
    let (specs, sorts): (Vec<Column>, Vec<Option<&'static str>>) = columns.into_iter().unzip();
    let needed = table::needed(&specs, &rows);
    if widths.len() == needed.len() {
        for (w, n) in widths.iter_mut().zip(&needed) {
            *w = (*w).max(*n);
        }
    } else {
        *widths = needed;
    }
    let layout = table::layout(&specs, widths, &look);
    let mut y = area.y + 1;
    if area.height >= TALL {
        let faint = cells(Style::Faint, &look);
        put(buf, area.x + MARK, y, area.right(), &layout.bands, faint);
        y += 1;
    }
    let mut hits = Hits {
        titles: y,
        ..Hits::default()
    };
    for &(i, x, width) in &layout.places {
        let from = area.x + MARK + x as u16;
        let to = from + width as u16;
        heading(
            buf,
            &specs[i],
            sorts[i],
            app.sort(),
            (from, y, to, area.right()),
            &look,
        );
        if let Some(field) = sorts[i] {
            hits.columns.push((from, to, field));
        }
    }
    y += 1;
    hits.rows = Rect {
        y: y.min(area.bottom()),
        height: area.bottom().saturating_sub(y),
        ..area
    };
    if rows.is_empty() {
        nothing(app, view, buf, hits.rows, &look);
        return hits;
    }
    for (n, (row, y)) in rows.iter().zip(y..area.bottom()).enumerate() {
        let selected = offset + n == app.cursor();
        for &(i, x, width) in &layout.places {
            let from = area.x + MARK + x as u16;
            let end = (from + width as u16).min(area.right());
            let cell = &row[i];
            let room = usize::from(end.saturating_sub(from));
            let pad = match specs[i].align {
                Align::Left => 0,
                Align::Right => room.saturating_sub(crate::sinks::escape::width(&cell.text)) as u16,
            };
            let style = cells(cell.style, &look);
            put_cut(buf, (from + pad, y, end), &cell.text, style, &look);
        }
        if selected {
            put(
                buf,
                area.x,
                y,
                area.right(),
                ">",
                cells(Style::Strong, &look),
            );
            buf.set_style(
                Rect {
                    y,
                    height: 1,
                    ..area
                },
                paint::reversed(),
            );
        }
    }
    let faint = cells(Style::Faint, &look);
    let mut utf8 = [0; 4];
    let bar: &str = look.bar().encode_utf8(&mut utf8);
    for x in &layout.bars {
        let x = area.x + MARK + *x as u16;
        let drawn = (rows.len() as u16).min(hits.rows.height);
        for y in hits.titles..(hits.rows.y + drawn) {
            put(buf, x, y, area.right(), bar, faint);
        }
    }
    hits
}

/// Which rows these are, of how many.
fn title(app: &App, buf: &mut Buffer, area: Rect, look: &Look) {
    let rows = app.rows().len();
    let shown = match app.rows() {
        Rows::Sockets(_) => "SOCKETS",
        Rows::Groups(_) => app.by().title(),
    };
    let mut pieces: Vec<Fact> = vec![(
        Style::Strong,
        format!("{shown} {}", text::count(rows as u64)),
    )];
    if let Some(within) = app.within() {
        pieces.push((Style::Strong, format!(" of {}", within.title)));
    }
    let sort = app.sort();
    let order = match (sort.field, sort.reversed) {
        ("sockets" | "name", _) => sort.field,
        (field, _) => Field::named(field).title,
    };
    let way = if sort.reversed { ", turned round" } else { "" };
    pieces.push((Style::Plain, format!(", by {order}{way}")));
    if !app.filter_text().is_empty() {
        pieces.push((
            Style::Warn,
            format!(", filter /{}", look.foreign(app.filter_text())),
        ));
    }
    paint::rule(buf, area, area.y, &pieces, look);
}

/// A column's title; the one that is sorted by is marked.
fn heading(
    buf: &mut Buffer,
    column: &Column,
    sorted_by: Option<&'static str>,
    sort: Sort,
    (from, y, to, end): (u16, u16, u16, u16),
    look: &Look,
) {
    let is = sorted_by == Some(sort.field);
    let width = crate::sinks::escape::width(&column.title) as u16;
    let x = match column.align {
        Align::Left => from,
        Align::Right => to.saturating_sub(width),
    };
    if is {
        let style = cells(Style::Strong, look).add_modifier(Modifier::UNDERLINED);
        let x = put(buf, x, y, end, &column.title, style);
        let arrow = match (look.ascii, sort.reversed) {
            (false, false) => "▼",
            (false, true) => "▲",
            (true, false) => "v",
            (true, true) => "^",
        };
        put(buf, x, y, end, arrow, cells(Style::Strong, look));
    } else {
        put(buf, x, y, end, &column.title, cells(Style::Faint, look));
    }
}

/// Why there is no row.
fn nothing(app: &App, view: &View, buf: &mut Buffer, area: Rect, look: &Look) {
    let words = if !app.filter_text().is_empty() && !view.sockets.is_empty() {
        "No row fits the filter; Esc drops it."
    } else if app.within().is_some() {
        "No socket of this group is open now; Esc goes back."
    } else if view.closed.is_empty() {
        "No TCP socket of the target has been seen yet. The trace is running: they appear here."
    } else {
        "No TCP socket of the target is open now; all that were seen have closed."
    };
    let wrapped = text::wrap(words, usize::from(area.width.saturating_sub(MARK)), 0);
    for (line, y) in wrapped.lines().zip(area.y + 1..area.bottom()) {
        put(
            buf,
            area.x + MARK,
            y,
            area.right(),
            line,
            cells(Style::Plain, look),
        );
    }
}

/// A column of groups: title, band, side, rank, what it is sorted by; its cell.
struct Spec {
    column: Column,
    sort: Option<&'static str>,
    /// Known of the model's own groups only.
    exact: bool,
    cell: fn(&GroupRow, Axis, &Look) -> Cell,
}

/// The columns that are known of groups of that kind.
fn group_specs(view: &View, by: By) -> impl Iterator<Item = Spec> {
    let named = |title: &str, band, align, rank| Column {
        title: title.to_owned(),
        band,
        apart: false,
        align,
        rank,
    };
    let right = |title: &str, band, rank| named(title, band, Align::Right, rank);
    let field =
        |json: &'static str, band, rank, exact, cell: fn(&GroupRow, Axis, &Look) -> Cell| {
            let title = marked(view, Field::named(json).title, json);
            Spec {
                column: right(&title, band, rank),
                sort: Some(json),
                exact,
                cell,
            }
        };
    let other = |column, sort, exact, cell: fn(&GroupRow, Axis, &Look) -> Cell| Spec {
        column,
        sort,
        exact,
        cell,
    };
    let (now, time) = ("NOW", "OVER TIME");
    let left = Align::Left;
    [
        other(
            named("name", "", left, 0),
            Some("name"),
            false,
            |r, _, _| r.title.clone().into(),
        ),
        other(
            right("sockets", now, 2),
            Some("sockets"),
            false,
            |r, _, _| text::count(r.sockets).into(),
        ),
        other(right("idle", now, 2), None, false, |r, _, _| {
            text::count(r.idle).into()
        }),
        field("resident", now, 0, false, |r, _, _| Cell {
            text: text::bytes(r.resident),
            style: Style::Strong,
        }),
        field("rmem_alloc", now, 6, false, |r, _, _| {
            text::bytes(r.rmem_alloc).into()
        }),
        field("wmem_queued", now, 6, false, |r, _, _| {
            text::bytes(r.wmem_queued).into()
        }),
        field("forward_alloc", now, 8, false, |r, _, _| {
            text::signed_bytes(r.forward_alloc).into()
        }),
        field("resident_peak_bytes", time, 4, true, |r, _, _| {
            text::maybe_bytes(r.peak).into()
        }),
        field("resident_mean_bytes", time, 7, true, |r, _, _| {
            text::maybe_bytes(r.mean).into()
        }),
        field("idle_resident_mean_bytes", time, 1, false, |r, _, _| {
            text::maybe_bytes(r.held_idle).into()
        }),
        other(
            named("timeline", time, left, 3),
            None,
            false,
            |r, axis, look| match &r.timeline {
                Some(t) => spark::line(t, axis, axis.to, CELLS, look.ascii).into(),
                None => text::UNKNOWN.to_owned().into(),
            },
        ),
        other(
            named("answer", "", left, 3),
            Some("verdict"),
            true,
            |r, _, _| match r.answer {
                Some(a) => Cell {
                    text: answer_words(a).to_owned(),
                    style: answer_style(a),
                },
                None => text::UNKNOWN.to_owned().into(),
            },
        ),
    ]
    .into_iter()
    .filter(move |spec| by == By::Process || !spec.exact)
}

fn group_columns(view: &View, by: By) -> Vec<(Column, Option<&'static str>)> {
    group_specs(view, by)
        .map(|spec| (spec.column, spec.sort))
        .collect()
}

fn group_cells(r: &GroupRow, view: &View, by: By, look: &Look) -> Vec<Cell> {
    let axis = Axis::of(&view.timeline, view.duration_ns);
    group_specs(view, by)
        .map(|spec| (spec.cell)(r, axis, look))
        .collect()
}
