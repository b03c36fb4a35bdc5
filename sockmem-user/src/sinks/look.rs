//! How text output looks: width, character set, colour.

use std::borrow::Cow;

use super::{escape, text};

/// The looks of one output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Look {
    /// Columns of the terminal; `None` where there is none: nothing is dropped or wrapped.
    pub width: Option<usize>,
    /// ASCII only.
    pub ascii: bool,
    /// Colour and weight.
    pub color: bool,
}

/// What a piece of text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Style {
    /// Ordinary.
    #[default]
    Plain,
    /// What to read first.
    Strong,
    /// What can be skipped.
    Faint,
    /// All is well.
    Good,
    /// Worth a look.
    Warn,
    /// Wrong.
    Bad,
}

/// Whether text may go beyond ASCII, from the values of `LC_ALL`, `LC_CTYPE` and `LANG`: the
/// first that is set and not empty names the character set.
#[must_use]
pub fn utf8_locale(lc_all: Option<&str>, lc_ctype: Option<&str>, lang: Option<&str>) -> bool {
    let mut names = [lc_all, lc_ctype, lang].into_iter().flatten();
    let name = names
        .find(|name| !name.is_empty())
        .unwrap_or("C")
        .to_ascii_lowercase();
    name.contains("utf-8") || name.contains("utf8")
}

impl Look {
    /// The text in that style. Foreign text is to be escaped before.
    #[must_use]
    pub fn paint<'a>(&self, style: Style, text: &'a str) -> Cow<'a, str> {
        let code = match style {
            Style::Plain => return Cow::Borrowed(text),
            _ if !self.color || text.is_empty() => return Cow::Borrowed(text),
            Style::Strong => "1",
            Style::Faint => "2",
            Style::Good => "32",
            Style::Warn => "33",
            Style::Bad => "31",
        };
        Cow::Owned(format!("\x1b[{code}m{text}\x1b[0m"))
    }

    /// A string that someone else chose, harmless.
    #[must_use]
    pub fn foreign<'a>(&self, text: &'a str) -> Cow<'a, str> {
        escape::escape(text, self.ascii)
    }

    /// Between the facts of a line.
    #[must_use]
    pub fn dot(&self) -> &'static str {
        if self.ascii { " | " } else { " · " }
    }

    /// What a line over columns is drawn with.
    #[must_use]
    pub fn rule(&self) -> char {
        if self.ascii { '-' } else { '─' }
    }

    /// What stands between columns that must not be mixed up.
    #[must_use]
    pub fn bar(&self) -> char {
        if self.ascii { '|' } else { '│' }
    }

    /// Facts joined by dots, wrapped between facts; lines after the first indented by two.
    #[must_use]
    pub fn facts(&self, facts: &[(Style, String)]) -> String {
        let mut out = String::new();
        let mut column = 0;
        for (i, (style, fact)) in facts.iter().enumerate() {
            let w = escape::width(fact);
            // A fact longer than a line is broken between words, beneath.
            if let Some(width) = self.width.filter(|width| w + 2 > *width) {
                if i > 0 {
                    out.push_str("\n  ");
                }
                let fact = text::wrap(fact, width.saturating_sub(4).max(24), 4);
                out.push_str(&self.paint(*style, &fact));
                // Nothing else fits beside it.
                column = width;
                continue;
            }
            if i > 0 {
                if self.width.is_some_and(|width| column + 3 + w > width) {
                    out.push_str("\n  ");
                    column = 2;
                } else {
                    out.push_str(self.dot());
                    column += 3;
                }
            }
            out.push_str(&self.paint(*style, fact));
            column += w;
        }
        out
    }

    /// Sentences wrapped to the width, lines after the first indented.
    #[must_use]
    pub fn prose(&self, words: &str, indent: usize) -> String {
        text::wrap(words, self.width.unwrap_or(usize::MAX), indent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_only_when_asked() {
        let plain = Look::default();
        assert_eq!(plain.paint(Style::Bad, "x"), "x");
        let color = Look {
            color: true,
            ..plain
        };
        assert_eq!(color.paint(Style::Bad, "x"), "\x1b[31mx\x1b[0m");
        assert_eq!(color.paint(Style::Plain, "x"), "x");
    }

    #[test]
    fn the_first_locale_that_is_set_decides() {
        assert!(utf8_locale(None, None, Some("en_US.UTF-8")));
        assert!(utf8_locale(Some("C.utf8"), None, Some("C")));
        assert!(utf8_locale(Some(""), Some("pl_PL.UTF-8"), None));
        assert!(!utf8_locale(Some("C"), None, Some("en_US.UTF-8")));
        assert!(!utf8_locale(None, None, None));
    }

    #[test]
    fn facts_wrap_between_and_not_within() {
        let look = Look {
            width: Some(12),
            ..Look::default()
        };
        let fact = |s: &str| (Style::Plain, s.to_owned());
        assert_eq!(
            look.facts(&[fact("one"), fact("two"), fact("three four")]),
            "one · two\n  three four"
        );
    }
}
