//! Strings that someone else chose (process names, control groups, host
//! names) made harmless and unambiguous for a terminal.

use std::borrow::Cow;
use std::fmt::Write as _;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Whether a character may reach a terminal as it is. Refused: control
/// characters (escape sequences start with one, also as C1), everything that
/// takes no column of its own (bidi marks, joiners, combining marks, tags),
/// separators that some terminals take as line ends, and the backslash, so
/// that an escape cannot be faked.
#[must_use]
pub fn harmless(c: char) -> bool {
    match c {
        ' '..='~' => c != '\\',
        '\u{ad}' | '\u{2028}' | '\u{2029}' => false,
        // A bidi control or another format character.
        '\u{61c}'
        | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e0fff}' => false,
        _ => c.width().is_some_and(|w| w > 0),
    }
}

/// The text with everything that is not `harmless` as `\xNN` or `\u{N}`, and
/// with `ascii` everything beyond ASCII too.
#[must_use]
pub fn escape(text: &str, ascii: bool) -> Cow<'_, str> {
    // Nearly every text, and looked at byte by byte.
    if text.bytes().all(|b| matches!(b, b' '..=b'~') && b != b'\\') {
        return Cow::Borrowed(text);
    }
    let passes = |c: char| harmless(c) && (!ascii || c.is_ascii());
    if text.chars().all(passes) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        // Writing to a String cannot fail.
        let _ = match c {
            c if passes(c) => {
                out.push(c);
                Ok(())
            }
            '\\' => out.write_str("\\\\"),
            c if c.is_ascii() => write!(out, "\\x{:02x}", c as u32),
            c => write!(out, "\\u{{{:x}}}", c as u32),
        };
    }
    Cow::Owned(out)
}

/// Columns that a text without escape sequences takes on a terminal.
#[must_use]
pub fn width(text: &str) -> usize {
    text.width()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ordinary_names_pass_unchanged() {
        for name in [
            "nginx",
            "kworker/0:1",
            "Web Content",
            "żółw",
            "サーバ",
            "a-b_c.d",
        ] {
            assert!(
                matches!(escape(name, false), Cow::Borrowed(s) if s == name),
                "{name}"
            );
        }
    }

    #[test]
    fn what_moves_the_cursor_or_the_eye_is_written_out() {
        let cases = [
            ("\x1b[2Jgone", "\\x1b[2Jgone"),
            ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
            ("two\nlines\r\t", "two\\x0alines\\x0d\\x09"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("nul\0del\x7f", "nul\\x00del\\x7f"),
            ("abc\u{202e}cba", "abc\\u{202e}cba"),
            ("\u{2066}x\u{2069}", "\\u{2066}x\\u{2069}"),
            ("zero\u{200b}width\u{feff}", "zero\\u{200b}width\\u{feff}"),
            ("line\u{2028}para\u{2029}", "line\\u{2028}para\\u{2029}"),
            ("e\u{301}", "e\\u{301}"),
            ("\\x1b", "\\\\x1b"),
            ("bad\u{fffd}utf", "bad\u{fffd}utf"),
        ];
        for (given, wanted) in cases {
            assert_eq!(escape(given, false), wanted);
        }
    }

    #[test]
    fn ascii_mode_leaves_only_ascii() {
        assert_eq!(escape("żółw", true), "\\u{17c}\\u{f3}\\u{142}w");
    }

    proptest! {
        #[test]
        fn nothing_harmful_survives_and_nothing_is_lost(text in any::<String>(), ascii: bool) {
            let out = escape(&text, ascii);
            // The backslashes left are those of escapes.
            prop_assert!(out.chars().all(|c| harmless(c) || c == '\\'));
            prop_assert!(!ascii || out.is_ascii());
            prop_assert_eq!(unescape(&out), text);
        }
    }

    fn unescape(text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('\\') {
            out.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            let (code, used) = match rest.as_bytes()[0] {
                b'\\' => ('\\' as u32, 1),
                b'x' => (u32::from_str_radix(&rest[1..3], 16).unwrap(), 3),
                _ => {
                    let end = rest.find('}').unwrap();
                    (u32::from_str_radix(&rest[2..end], 16).unwrap(), end + 1)
                }
            };
            out.push(char::from_u32(code).unwrap());
            rest = &rest[used..];
        }
        out + rest
    }
}
