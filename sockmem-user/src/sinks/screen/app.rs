//! The state of the screen, and what keys do to it.

use std::collections::HashSet;
use std::sync::Arc;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::keys::{self, Action, Key, Mouse};
use super::list::{self, Hits};
use super::paint::{self, cells, put};
use super::rows::{self, By, Filter, GROUP_SORTS, GroupRow, SOCKET_SORTS, Sort, Within};
use super::series::{Reading, Watched};
use super::{Effect, Options, Picture, detail, head, help};
use crate::model::{SocketView, View};
use crate::sinks::look::{Look, Style};
use crate::sinks::text;

/// Rows from which the details stand beneath the table rather than in its place.
const SPLIT: u16 = 34;
/// Characters of a filter.
const MAX_FILTER: usize = 100;
/// Rows that one turn of the wheel moves.
const WHEEL: isize = 3;

/// The rows of the table.
#[derive(Debug)]
pub(super) enum Rows {
    /// Positions in `view.sockets`.
    Sockets(Vec<usize>),
    Groups(Vec<GroupRow>),
}

impl Rows {
    pub(super) fn len(&self) -> usize {
        match self {
            Rows::Sockets(rows) => rows.len(),
            Rows::Groups(rows) => rows.len(),
        }
    }
}

/// What identifies a row from one picture to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
enum RowId {
    Socket(u64),
    Group(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Page {
    Help,
    Answer,
}

/// A text over the table.
#[derive(Clone, Copy, Debug)]
struct Overlay {
    page: Page,
    scroll: usize,
    /// Rows of the text, as last drawn.
    rows: usize,
}

/// The screen.
#[derive(Debug)]
pub struct App {
    options: Options,
    /// The picture that is shown.
    shown: Option<Arc<Picture>>,
    /// The newest one.
    latest: Option<Arc<Picture>>,
    paused: bool,
    by: By,
    within: Option<Within>,
    socket_sort: Sort,
    group_sort: Sort,
    filter: String,
    typing: bool,
    rows: Rows,
    /// `None`: the first row, whichever that is.
    selected: Option<RowId>,
    cursor: usize,
    offset: usize,
    /// Whether the selected socket's details are open.
    detail: bool,
    /// That socket, as it was last seen.
    kept: Option<Box<SocketView>>,
    detail_scroll: u16,
    detail_rows: u16,
    detail_area: Rect,
    overlay: Option<Overlay>,
    mouse: bool,
    widths: Vec<usize>,
    drawn_width: u16,
    hits: Hits,
    watched: Watched,
    twins: bool,
}

impl App {
    /// A screen that has not been given a picture.
    #[must_use]
    pub fn new(options: Options) -> App {
        App {
            options,
            shown: None,
            latest: None,
            paused: false,
            by: By::default(),
            within: None,
            socket_sort: Sort::default(),
            group_sort: Sort::default(),
            filter: String::new(),
            typing: false,
            rows: Rows::Sockets(Vec::new()),
            selected: None,
            cursor: 0,
            offset: 0,
            detail: false,
            kept: None,
            detail_scroll: 0,
            detail_rows: 0,
            detail_area: Rect::default(),
            overlay: None,
            mouse: true,
            widths: Vec::new(),
            drawn_width: 0,
            hits: Hits::default(),
            watched: Watched::default(),
            twins: false,
        }
    }

    /// Takes the next picture. It is shown at once, unless the screen is paused.
    pub fn show(&mut self, picture: &Arc<Picture>) {
        let backwards = self
            .latest
            .as_ref()
            .is_some_and(|old| old.view.duration_ns > picture.view.duration_ns);
        if backwards {
            self.watched.clear();
        }
        self.latest = Some(Arc::clone(picture));
        if !self.paused || self.shown.is_none() {
            self.shown = Some(Arc::clone(picture));
            self.refresh();
        }
        let seen: HashSet<u64> = self.on_screen().collect();
        let sockets = picture.view.sockets.iter();
        self.watched.read(sockets.filter(|s| seen.contains(&s.id)));
    }

    /// The sockets in the part of the table that is seen, and the one whose details are open.
    fn on_screen(&self) -> impl Iterator<Item = u64> {
        let rows: &[usize] = match &self.rows {
            Rows::Sockets(rows) => rows,
            Rows::Groups(_) => &[],
        };
        let page = usize::from(self.hits.rows.height).max(1);
        let view = self.shown.as_ref().map(|p| &p.view);
        rows.iter()
            .skip(self.offset)
            .take(page)
            .filter_map(move |i| view.and_then(|v| v.sockets.get(*i)))
            .map(|s| s.id)
            .chain(match self.selected {
                Some(RowId::Socket(id)) => Some(id),
                _ => None,
            })
    }

    // What the parts of the screen draw from.

    pub(super) fn look(&self) -> &Look {
        &self.options.look
    }
    pub(super) fn target(&self) -> &str {
        &self.options.target
    }
    pub(super) fn notes(&self) -> &[String] {
        &self.options.notes
    }
    pub(super) fn picture(&self) -> Option<&Picture> {
        self.shown.as_deref()
    }
    pub(super) fn rows(&self) -> &Rows {
        &self.rows
    }
    pub(super) fn by(&self) -> By {
        self.by
    }
    pub(super) fn within(&self) -> Option<&Within> {
        self.within.as_ref()
    }
    pub(super) fn has_twins(&self) -> bool {
        self.twins
    }
    pub(super) fn filter_text(&self) -> &str {
        &self.filter
    }

    /// The selected row; beyond all of them where the selected socket is gone.
    pub(super) fn cursor(&self) -> usize {
        if self.is_lost() {
            usize::MAX
        } else {
            self.cursor
        }
    }

    pub(super) fn sort(&self) -> Sort {
        match self.rows {
            Rows::Sockets(_) => self.socket_sort,
            Rows::Groups(_) => self.group_sort,
        }
    }

    /// A socket's readings up to the picture that is shown.
    pub(super) fn readings(&self, id: u64) -> &[Reading] {
        let all = self.watched.of(id);
        let now = self
            .paused
            .then_some(self.kept.as_ref())
            .flatten()
            .map_or(u64::MAX, |s| s.last_seen_ns);
        &all[..all.partition_point(|r| r.to_ns <= now)]
    }

    /// What is not as usual, for the corner.
    pub(super) fn badge(&self) -> Option<String> {
        if !self.paused {
            return None;
        }
        let (shown, latest) = self.shown.as_ref().zip(self.latest.as_ref())?;
        let age = latest
            .view
            .now_unix_ns
            .saturating_sub(shown.view.now_unix_ns);
        Some(match age {
            0 => " PAUSED ".to_owned(),
            age => format!(" PAUSED {} ago ", text::span(age)),
        })
    }

    fn view(&self) -> Option<&View> {
        self.shown.as_ref().map(|p| &p.view)
    }

    fn shows_groups(&self) -> bool {
        self.by != By::Socket && self.within.is_none()
    }

    /// Makes the rows anew and finds the selected one again.
    fn refresh(&mut self) {
        let Some(picture) = self.shown.clone() else {
            return;
        };
        let view = &picture.view;
        self.twins = rows::has_twins(view);
        let (filter, look) = (Filter::new(&self.filter), self.options.look);
        self.rows = if self.shows_groups() {
            Rows::Groups(rows::group_rows(
                view,
                self.by,
                &filter,
                self.group_sort,
                &look,
            ))
        } else {
            Rows::Sockets(rows::sockets(
                view,
                self.within.as_ref(),
                &filter,
                self.socket_sort,
                &look,
            ))
        };
        self.find_selected();
        if self.detail {
            self.keep(view);
        }
    }

    fn find_selected(&mut self) {
        let Some(selected) = &self.selected else {
            self.cursor = 0;
            return;
        };
        match (0..self.rows.len()).find(|at| self.id_at(*at).as_ref() == Some(selected)) {
            Some(at) => self.cursor = at,
            None => {
                self.cursor = self.cursor.min(self.rows.len().saturating_sub(1));
                // An open socket stays open when it is gone; else what took its place is next.
                if !self.detail {
                    self.selected = self.id_at(self.cursor);
                }
            }
        }
    }

    fn is_lost(&self) -> bool {
        self.selected.is_some() && self.id_at(self.cursor) != self.selected
    }

    fn id_at(&self, at: usize) -> Option<RowId> {
        match &self.rows {
            Rows::Sockets(rows) => {
                let s = self.view()?.sockets.get(*rows.get(at)?)?;
                Some(RowId::Socket(s.id))
            }
            Rows::Groups(rows) => Some(RowId::Group(rows.get(at)?.key.clone())),
        }
    }

    /// Takes the open socket from the picture; the last it was where it is no longer in it.
    fn keep(&mut self, view: &View) {
        let Some(RowId::Socket(id)) = self.selected else {
            return;
        };
        let mut all = view.sockets.iter().chain(&view.closed);
        if let Some(s) = all.find(|s| s.id == id) {
            self.kept = Some(Box::new(s.clone()));
        } else if let Some(kept) = &mut self.kept {
            kept.closed = true;
        }
    }

    fn select(&mut self, at: usize) {
        self.cursor = at.min(self.rows.len().saturating_sub(1));
        self.selected = self.id_at(self.cursor);
        if self.detail {
            self.detail_scroll = 0;
            if let Some(picture) = self.shown.clone() {
                self.keep(&picture.view);
            }
        }
    }

    fn step(&mut self, by: isize) {
        self.select(self.cursor.saturating_add_signed(by));
    }

    /// What a key does.
    pub fn key(&mut self, key: Key) -> Option<Effect> {
        if key == Key::Ctrl('c') {
            return Some(Effect::Quit);
        }
        if self.typing {
            self.type_filter(key);
            return None;
        }
        let action = keys::action(key)?;
        if self.overlay.is_some() {
            return self.in_overlay(action);
        }
        match action {
            Action::Quit => return Some(Effect::Quit),
            Action::Suspend => return Some(Effect::Suspend),
            Action::Redraw => return Some(Effect::Redraw),
            Action::Record => return Some(Effect::Record),
            Action::Mouse => {
                self.mouse = !self.mouse;
                return Some(Effect::Mouse(self.mouse));
            }
            Action::Up => self.step(-1),
            Action::Down => self.step(1),
            Action::PageUp => self.page(-1),
            Action::PageDown => self.page(1),
            Action::First => {
                self.select(0);
                if !self.detail {
                    self.selected = None;
                }
            }
            Action::Last => self.select(usize::MAX),
            Action::Open => self.open(),
            Action::Back => self.back(),
            Action::Filter => self.typing = true,
            Action::Sort | Action::Reverse => self.resort(action),
            Action::Group => self.group(),
            Action::Pause => self.pause(),
            Action::Answer => self.lay_over(Page::Answer),
            Action::Help => self.lay_over(Page::Help),
        }
        None
    }

    /// What the mouse does.
    pub fn mouse(&mut self, mouse: Mouse) -> Option<Effect> {
        match mouse {
            Mouse::WheelDown | Mouse::WheelUp => {
                let by = if mouse == Mouse::WheelDown {
                    WHEEL
                } else {
                    -WHEEL
                };
                if let Some(overlay) = &mut self.overlay {
                    overlay.scroll = overlay.scroll.saturating_add_signed(by);
                } else {
                    self.step(by);
                }
            }
            Mouse::Click { .. } if self.overlay.is_some() => self.overlay = None,
            Mouse::Click { x, y } => self.click(x, y),
        }
        None
    }

    fn click(&mut self, x: u16, y: u16) {
        if self.hits.rows.contains((x, y).into()) {
            let at = self.offset + usize::from(y - self.hits.rows.y);
            if at >= self.rows.len() {
                return;
            }
            if at == self.cursor() && self.selected.is_some() {
                self.open();
            } else {
                self.select(at);
            }
        } else if y == self.hits.titles {
            let hit = self
                .hits
                .columns
                .iter()
                .find(|(from, to, _)| (*from..*to).contains(&x));
            if let Some((_, _, field)) = hit {
                let sort = self.sort().by(field);
                self.set_sort(sort);
            }
        }
    }

    fn in_overlay(&mut self, action: Action) -> Option<Effect> {
        let page = usize::from(self.hits.rows.height).max(2) - 1;
        let overlay = self.overlay.as_mut()?;
        let at = overlay.scroll;
        overlay.scroll = match action {
            Action::Up => at.saturating_sub(1),
            Action::Down => at + 1,
            Action::PageUp => at.saturating_sub(page),
            Action::PageDown | Action::Pause => at + page,
            Action::First => 0,
            Action::Last => usize::MAX,
            Action::Suspend => return Some(Effect::Suspend),
            Action::Redraw => return Some(Effect::Redraw),
            Action::Help if overlay.page == Page::Answer => {
                self.lay_over(Page::Help);
                return None;
            }
            Action::Answer if overlay.page == Page::Help => {
                self.lay_over(Page::Answer);
                return None;
            }
            _ => {
                self.overlay = None;
                return None;
            }
        };
        None
    }

    fn lay_over(&mut self, page: Page) {
        self.overlay = Some(Overlay {
            page,
            scroll: 0,
            rows: 0,
        });
    }

    fn type_filter(&mut self, key: Key) {
        match key {
            Key::Enter => self.typing = false,
            Key::Esc => {
                self.typing = false;
                self.filter.clear();
            }
            Key::Backspace if self.filter.is_empty() => self.typing = false,
            Key::Backspace => {
                self.filter.pop();
            }
            Key::Ctrl('u') => self.filter.clear(),
            Key::Char(c) if self.filter.len() < MAX_FILTER => self.filter.push(c),
            _ => return,
        }
        self.refresh();
    }

    fn page(&mut self, pages: isize) {
        if self.detail {
            // The last row stays within sight.
            let room = self.detail_area.height.saturating_sub(1);
            let most = self.detail_rows.saturating_sub(room);
            let half = (room / 2).max(1);
            self.detail_scroll = if pages > 0 {
                (self.detail_scroll + half).min(most)
            } else {
                self.detail_scroll.saturating_sub(half)
            };
            return;
        }
        let page = isize::try_from(self.hits.rows.height).unwrap_or(1).max(2) - 1;
        self.step(pages * page);
    }

    fn open(&mut self) {
        if let Rows::Groups(rows) = &self.rows {
            let Some(row) = rows.get(self.cursor) else {
                return;
            };
            self.within = Some(Within {
                by: self.by,
                key: row.key.clone(),
                title: row.title.clone(),
            });
            self.filter.clear();
            self.change_rows(None);
            return;
        }
        if self.rows.len() > 0 && !self.is_lost() {
            self.detail = true;
            self.select(self.cursor);
        }
    }

    fn back(&mut self) {
        if self.detail {
            self.detail = false;
            self.kept = None;
            self.find_selected();
        } else if let Some(within) = self.within.take() {
            self.change_rows(Some(RowId::Group(within.key)));
        } else if !self.filter.is_empty() {
            self.filter.clear();
            self.refresh();
        }
    }

    fn group(&mut self) {
        self.by = self.by.next();
        self.within = None;
        self.detail = false;
        self.kept = None;
        self.change_rows(None);
    }

    /// Rows of another kind: nothing of the old table is of use.
    fn change_rows(&mut self, selected: Option<RowId>) {
        self.selected = selected;
        self.cursor = 0;
        self.offset = 0;
        self.widths.clear();
        self.refresh();
    }

    fn resort(&mut self, action: Action) {
        let sort = self.sort();
        let sort = match (action, self.shows_groups()) {
            (Action::Reverse, _) => sort.by(sort.field),
            (_, true) => sort.next(GROUP_SORTS),
            (_, false) => sort.next(SOCKET_SORTS),
        };
        self.set_sort(sort);
    }

    fn set_sort(&mut self, sort: Sort) {
        if self.shows_groups() {
            self.group_sort = sort;
        } else {
            self.socket_sort = sort;
        }
        self.refresh();
    }

    fn pause(&mut self) {
        self.paused = !self.paused;
        if !self.paused {
            self.shown = self.latest.clone();
            self.refresh();
        }
    }

    /// Draws the screen.
    pub fn draw(&mut self, area: Rect, buf: &mut Buffer) {
        if area.width < 30 || area.height < 8 {
            let words = "a larger terminal, please";
            put(
                buf,
                area.x,
                area.y,
                area.right(),
                words,
                cells(Style::Plain, self.look()),
            );
            return;
        }
        if self.drawn_width != area.width {
            self.drawn_width = area.width;
            self.widths.clear();
        }
        let top = head::draw(
            self,
            buf,
            Rect {
                height: area.height / 2,
                ..area
            },
            area.height,
        );
        let body = Rect {
            y: area.y + top,
            height: area.height - top - 1,
            ..area
        };
        if self.overlay.is_some() {
            self.draw_overlay(buf, body);
        } else if self.detail && area.height < SPLIT {
            self.draw_detail(buf, body);
        } else if self.detail {
            let table = Rect {
                height: (body.height * 2 / 5)
                    .min(self.rows.len().min(1000) as u16 + 4)
                    .max(6),
                ..body
            };
            self.draw_list(buf, table);
            let rest = Rect {
                y: table.bottom(),
                height: body.height - table.height,
                ..body
            };
            self.draw_detail(buf, rest);
        } else {
            self.draw_list(buf, body);
        }
        self.footer(buf, area);
    }

    fn draw_list(&mut self, buf: &mut Buffer, area: Rect) {
        let Some(picture) = self.shown.clone() else {
            let words = "waiting for the first picture";
            put(
                buf,
                area.x + 2,
                area.y + 1,
                area.right(),
                words,
                cells(Style::Faint, self.look()),
            );
            return;
        };
        let page = list::page(area);
        self.offset = self.offset.min(self.rows.len().saturating_sub(page));
        if self.cursor < self.offset {
            self.offset = self.cursor;
        } else if self.cursor >= self.offset + page {
            self.offset = self.cursor + 1 - page;
        }
        let mut widths = std::mem::take(&mut self.widths);
        self.hits = list::draw(self, &picture.view, self.offset, &mut widths, buf, area);
        self.widths = widths;
    }

    fn draw_detail(&mut self, buf: &mut Buffer, area: Rect) {
        self.detail_area = area;
        let (Some(picture), Some(s)) = (self.shown.clone(), self.kept.take()) else {
            return;
        };
        self.detail_rows = detail::draw(self, &picture.view, &s, self.detail_scroll, buf, area);
        self.kept = Some(s);
    }

    fn draw_overlay(&mut self, buf: &mut Buffer, area: Rect) {
        let Some(mut overlay) = self.overlay else {
            return;
        };
        let width = usize::from(area.width).min(100);
        let (title, lines) = match overlay.page {
            Page::Help => ("HELP", help::lines(self, width)),
            Page::Answer => (
                "THE ANSWER SO FAR",
                self.view()
                    .map(|view| help::answer(self, view, width))
                    .unwrap_or_default(),
            ),
        };
        let look = *self.look();
        let room = usize::from(area.height - 1);
        overlay.rows = lines.len();
        overlay.scroll = overlay.scroll.min(lines.len().saturating_sub(room));
        let below = lines.len().saturating_sub(overlay.scroll + room);
        let more = match below {
            0 => String::new(),
            n => format!("  {n} more rows: Down, PgDn"),
        };
        let pieces = [(Style::Strong, title.to_owned()), (Style::Faint, more)];
        paint::rule(buf, area, area.y, &pieces, &look);
        for (line, y) in lines
            .iter()
            .skip(overlay.scroll)
            .zip(area.y + 1..area.bottom())
        {
            // Headings begin with a word of capitals at the left.
            let first = line.split([' ', ':']).next().unwrap_or_default();
            let heading = first.len() > 1 && first.chars().all(|c| c.is_ascii_uppercase());
            let style = if heading { Style::Strong } else { Style::Plain };
            put(buf, area.x, y, area.right(), line, cells(style, &look));
        }
        self.overlay = Some(overlay);
        self.hits.rows = area;
    }

    /// The keys of where one is; while a filter is typed, the filter.
    fn footer(&self, buf: &mut Buffer, area: Rect) {
        let look = self.look();
        let y = area.bottom() - 1;
        if self.typing {
            let line = format!("filter /{}", look.foreign(&self.filter));
            let x = put(
                buf,
                area.x,
                y,
                area.right(),
                &line,
                cells(Style::Strong, look),
            );
            let x = put(buf, x, y, area.right(), " ", paint::reversed());
            let rest = "  Enter keeps it, Esc drops it";
            put(buf, x, y, area.right(), rest, cells(Style::Faint, look));
            return;
        }
        let out = self.detail || self.within.is_some() || self.overlay.is_some();
        let actions: &[Action] = if self.overlay.is_some() {
            &[Action::Back, Action::Help, Action::Answer]
        } else if out {
            &[
                Action::Back,
                Action::Sort,
                Action::Group,
                Action::Pause,
                Action::Answer,
                Action::Help,
                Action::Quit,
            ]
        } else {
            &[
                Action::Open,
                Action::Filter,
                Action::Sort,
                Action::Group,
                Action::Pause,
                Action::Answer,
                Action::Help,
                Action::Quit,
            ]
        };
        let mut x = area.x;
        for (key, word) in actions.iter().filter_map(|a| keys::short(*a)) {
            x = put(buf, x, y, area.right(), &key, cells(Style::Strong, look));
            let word = format!(" {word}  ");
            x = put(buf, x, y, area.right(), &word, cells(Style::Plain, look));
        }
    }
}
