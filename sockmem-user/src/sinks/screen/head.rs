//! The top of the screen: what is traced, how much is held, the answer so far, and how sure it is.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::app::App;
use super::paint::{self, Fact, cells, put};
use crate::model::{Tier, View};
use crate::sinks::groups::marked;
use crate::sinks::header::{answer_style, answer_words, loss_facts, sampled, tier_words};
use crate::sinks::look::{Look, Style};
use crate::sinks::spark::{self, Axis};
use crate::sinks::{escape, text};

/// Draws it into the area, the top of a screen of so many rows; returns the rows it took.
pub(super) fn draw(app: &App, buf: &mut Buffer, area: Rect, screen: u16) -> u16 {
    let look = app.look();
    let Some(picture) = app.picture() else {
        let title = [(Style::Strong, "sockmem-trace".to_owned())];
        paint::line(buf, area, area.y, &title, look);
        return 1;
    };
    let view = &picture.view;
    let mut y = area.y;
    first_line(app, view, buf, area, y);
    y += 1;
    resident(view, buf, area, y, look);
    y += 1;
    let width = usize::from(area.width);
    let lines = paint::wrap(facts(app, view), width, look)
        .into_iter()
        .chain(paint::wrap(trouble(view), width, look))
        .chain(answer(view, area, screen, look));
    for line in lines {
        if y >= area.bottom() {
            break;
        }
        paint::line(buf, area, y, &line, look);
        y += 1;
    }
    y - area.y
}

/// What is traced and how; at the right what is not as usual.
fn first_line(app: &App, view: &View, buf: &mut Buffer, area: Rect, y: u16) {
    let look = app.look();
    let badge = app.badge();
    let end = area
        .right()
        .saturating_sub(badge.as_ref().map_or(0, |b| escape::width(b) as u16 + 1));
    let how = if sampled(view).is_empty() {
        if view.coverage.is_empty() {
            "coverage not known"
        } else {
            "every counter exact"
        }
    } else {
        "sampled (~)"
    };
    let pieces = [
        (Style::Strong, "sockmem-trace".to_owned()),
        (Style::Strong, look.foreign(app.target()).into_owned()),
        (Style::Plain, text::span(view.duration_ns)),
        (Style::Plain, tier_words(view.tier).to_owned()),
        (
            if view.tier == Tier::Tracepoint {
                Style::Warn
            } else {
                Style::Plain
            },
            how.to_owned(),
        ),
    ];
    // Where there is too little room, the name of this tool is of least use.
    let wide: usize = pieces.iter().map(|(_, p)| escape::width(p) + 3).sum();
    let room = usize::from(end.saturating_sub(area.x)) + 3;
    let pieces = if wide > room { &pieces[1..] } else { &pieces };
    let rest: usize = pieces[1..].iter().map(|(_, p)| escape::width(p) + 3).sum();
    let mut x = area.x;
    for (i, (style, piece)) in pieces.iter().enumerate() {
        if i > 0 {
            x = put(buf, x, y, end, look.dot(), cells(Style::Faint, look));
        }
        // A target may be long; what comes after it is short.
        let piece = if i == 0 {
            paint::cut(piece, room.saturating_sub(3 + rest).max(16), look)
        } else {
            piece.clone()
        };
        x = put(buf, x, y, end, &piece, cells(*style, look));
    }
    if let Some(badge) = badge {
        put(buf, end + 1, y, area.right(), &badge, paint::reversed());
    }
}

/// How much is held, how much was, and since when.
fn resident(view: &View, buf: &mut Buffer, area: Rect, y: u16, look: &Look) {
    let now = format!(
        "{} {}",
        marked(view, "RESIDENT", "resident"),
        text::bytes(view.totals.resident)
    );
    let peak = format!("  peak {}  ", text::bytes(view.resident_peak_bytes));
    let pieces = [(Style::Strong, now), (Style::Plain, peak)];
    let x = paint::line(buf, area, y, &pieces, look);
    let axis = Axis::of(&view.timeline, view.duration_ns);
    let room = usize::from(area.right().saturating_sub(x));
    let line = spark::line(&view.timeline, axis, axis.to, room, look.ascii);
    put(buf, x, y, area.right(), &line, cells(Style::Plain, look));
}

fn facts(app: &App, view: &View) -> Vec<Fact> {
    let t = &view.totals;
    let plain = |s: String| (Style::Plain, s);
    let mut facts = vec![plain(format!(
        "{}, {} idle holding {}",
        text::counted(t.sockets, "socket", "sockets"),
        text::count(t.idle_sockets),
        text::bytes(t.idle_resident)
    ))];
    let host = app.picture().and_then(|p| p.host_tcp_bytes);
    facts.push(plain(format!("host sockstat {}", text::maybe_bytes(host))));
    if view.loss.dropped_ring == 0 {
        facts.push(plain(format!("lost 0 of {}", text::count(view.loss.seen))));
    }
    if let Some(recording) = app.picture().and_then(|p| p.recording.as_ref()) {
        let file = app.look().foreign(&recording.file);
        let words = format!("RECORDING {} into {file}", text::bytes(recording.bytes));
        facts.push((Style::Strong, words));
    }
    if let Some(said) = app.picture().and_then(|p| p.said.as_ref()) {
        facts.push((Style::Strong, app.look().foreign(said).into_owned()));
    }
    facts
}

/// What is missing from the picture, and what to do; nothing where nothing is.
fn trouble(view: &View) -> Vec<Fact> {
    let mut facts = loss_facts(&view.loss);
    if view.loss.dropped_ring > 0 {
        facts[0] = (Style::Bad, facts[0].1.replacen("lost", "LOST", 1));
    } else {
        facts.remove(0);
    }
    facts
}

/// The answer in words, as many lines as there is room for.
fn answer(view: &View, area: Rect, screen: u16, look: &Look) -> Vec<Vec<Fact>> {
    let most = match screen {
        0..20 => 1,
        20..34 => 2,
        _ => 3,
    };
    let v = &view.verdict;
    let word = answer_words(v.answer).to_uppercase();
    let words = format!("{word}: {}", look.foreign(&v.text));
    let width = usize::from(area.width);
    let wrapped = text::wrap(&words, width, 0);
    let mut lines: Vec<String> = wrapped.lines().map(str::to_owned).collect();
    if lines.len() > most {
        // `a` shows all of it.
        let rest = lines.split_off(most - 1).join(" ");
        lines.push(paint::cut(&rest, width, look));
    }
    lines
        .into_iter()
        .enumerate()
        .map(|(i, line)| match line.strip_prefix(&word) {
            Some(rest) if i == 0 => vec![
                (answer_style(v.answer), word.clone()),
                (Style::Plain, rest.to_owned()),
            ],
            _ => vec![(Style::Plain, line)],
        })
        .collect()
}
