//! From styles and text to cells. Colours are the terminal's own, and only those that are readable
//! on dark and on light: red, green, magenta. None is used without a word or a sign.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style as Cells};

use crate::sinks::escape;
use crate::sinks::look::{Look, Style};

/// A piece of a line.
pub(super) type Fact = (Style, String);

/// How that style looks.
pub(super) fn cells(style: Style, look: &Look) -> Cells {
    let plain = Cells::default();
    let colored = |color, modifier| {
        let base = plain.add_modifier(modifier);
        if look.color { base.fg(color) } else { base }
    };
    match style {
        Style::Plain => plain,
        Style::Strong => plain.add_modifier(Modifier::BOLD),
        Style::Faint => plain.add_modifier(Modifier::DIM),
        Style::Good => colored(Color::Green, Modifier::empty()),
        Style::Warn => colored(Color::Magenta, Modifier::empty()),
        Style::Bad => colored(Color::Red, Modifier::BOLD),
    }
}

/// What marks a place by itself: a badge, the selected row.
pub(super) fn reversed() -> Cells {
    Cells::default().add_modifier(Modifier::REVERSED)
}

/// Writes text from `x` on, up to `end`; returns where it ended. What does not fit is cut and
/// ends in a dot or three.
pub(super) fn put(buf: &mut Buffer, x: u16, y: u16, end: u16, text: &str, style: Cells) -> u16 {
    if x >= end || y >= buf.area.bottom() {
        return x;
    }
    let room = usize::from(end - x);
    buf.set_stringn(x, y, text, room, style).0
}

/// As `put`; text too long for the place ends in the look's ellipsis.
pub(super) fn put_cut(
    buf: &mut Buffer,
    (x, y, end): (u16, u16, u16),
    text: &str,
    style: Cells,
    look: &Look,
) -> u16 {
    if x >= end {
        return x;
    }
    put(
        buf,
        x,
        y,
        end,
        &cut(text, usize::from(end - x), look),
        style,
    )
}

/// The text within `room` columns.
pub(super) fn cut(text: &str, room: usize, look: &Look) -> String {
    if escape::width(text) <= room {
        return text.to_owned();
    }
    let dots = if look.ascii { "..." } else { "…" };
    let room = room.saturating_sub(escape::width(dots));
    let mut out = String::new();
    let mut used = 0;
    let mut utf8 = [0; 4];
    for c in text.chars() {
        used += escape::width(c.encode_utf8(&mut utf8));
        if used > room {
            break;
        }
        out.push(c);
    }
    out.push_str(dots);
    out
}

/// Facts joined by dots, in lines of at most `width`; a fact longer than a line is cut.
pub(super) fn wrap(facts: Vec<Fact>, width: usize, look: &Look) -> Vec<Vec<Fact>> {
    let mut lines: Vec<Vec<Fact>> = Vec::new();
    let mut used = 0;
    for (style, fact) in facts {
        let fact = cut(&fact, width, look);
        let w = escape::width(&fact);
        match lines.last_mut() {
            Some(line) if used + 3 + w <= width => {
                line.push((Style::Faint, look.dot().to_owned()));
                line.push((style, fact));
                used += 3 + w;
            }
            _ => {
                lines.push(vec![(style, fact)]);
                used = w;
            }
        }
    }
    lines
}

/// Writes the pieces of a line from the left of the area's row `y`.
pub(super) fn line(buf: &mut Buffer, area: Rect, y: u16, pieces: &[Fact], look: &Look) -> u16 {
    let mut x = area.x;
    if y >= area.bottom() {
        return x;
    }
    for (style, text) in pieces {
        x = put(buf, x, y, area.right(), text, cells(*style, look));
    }
    x
}

/// A title, and a rule from it to the right end.
pub(super) fn rule(buf: &mut Buffer, area: Rect, y: u16, title: &[Fact], look: &Look) {
    let x = line(buf, area, y, title, look);
    let mut utf8 = [0; 4];
    let sign: &str = look.rule().encode_utf8(&mut utf8);
    for x in (x + u16::from(x > area.x))..area.right() {
        put(buf, x, y, area.right(), sign, cells(Style::Faint, look));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_says_so_and_fits() {
        let look = Look::default();
        assert_eq!(cut("abcdef", 6, &look), "abcdef");
        assert_eq!(cut("abcdef", 4, &look), "abc…");
        assert_eq!(cut("サーバサーバ", 6, &look), "サー…");
        let ascii = Look {
            ascii: true,
            ..look
        };
        assert_eq!(cut("abcdef", 5, &ascii), "ab...");
    }

    #[test]
    fn without_colour_there_is_weight_only() {
        let look = Look::default();
        for style in [Style::Good, Style::Warn, Style::Bad] {
            assert_eq!(cells(style, &look).fg, None);
        }
        let color = Look {
            color: true,
            ..look
        };
        assert_eq!(cells(Style::Bad, &color).fg, Some(Color::Red));
    }

    #[test]
    fn facts_are_wrapped_whole() {
        let fact = |s: &str| (Style::Plain, s.to_owned());
        let lines = wrap(
            vec![fact("one"), fact("two"), fact("three four")],
            12,
            &Look::default(),
        );
        let texts: Vec<String> = lines
            .iter()
            .map(|l| l.iter().map(|(_, s)| s.as_str()).collect())
            .collect();
        assert_eq!(texts, ["one · two", "three four"]);
    }
}
