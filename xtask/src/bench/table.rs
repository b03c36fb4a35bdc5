//! Results as a table and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::stats::Sample;

/// What is asked of a result.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Target {
    /// Not more.
    AtMost(f64),
    /// Not less.
    AtLeast(f64),
}

impl Target {
    fn met(self, value: f64) -> bool {
        match self {
            Target::AtMost(limit) => value <= limit,
            Target::AtLeast(limit) => value >= limit,
        }
    }

    fn text(self) -> String {
        match self {
            Target::AtMost(limit) => format!("<= {}", number(limit)),
            Target::AtLeast(limit) => format!(">= {}", number(limit)),
        }
    }
}

/// One line of the table.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) unit: &'static str,
    /// `None`: it could not be measured; the note says why.
    pub(crate) sample: Option<Sample>,
    pub(crate) target: Option<Target>,
    pub(crate) note: String,
}

impl Row {
    pub(crate) fn new(what: impl Into<String>, unit: &'static str, sample: Option<Sample>) -> Self {
        Self {
            what: what.into(),
            unit,
            sample,
            target: None,
            note: String::new(),
        }
    }

    pub(crate) fn target(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    fn verdict(&self) -> Option<bool> {
        Some(self.target?.met(self.sample.as_ref()?.median))
    }

    pub(crate) fn json(&self, group: &str) -> Value {
        let sample = self.sample.as_ref();
        json!({
            "group": group,
            "what": self.what,
            "unit": self.unit,
            "median": sample.map(|s| s.median),
            "min": sample.map(|s| s.min),
            "max": sample.map(|s| s.max),
            "runs": sample.map(|s| s.runs),
            "target": self.target.map(Target::text),
            "met": self.verdict(),
            "note": self.note,
        })
    }
}

/// Three significant digits below a thousand, thousands apart above.
fn number(value: f64) -> String {
    let size = value.abs();
    if size >= 1000.0 {
        let digits = format!("{size:.0}");
        let mut out = String::new();
        for (i, c) in digits.chars().enumerate() {
            if i > 0 && (digits.len() - i).is_multiple_of(3) {
                out.push(',');
            }
            out.push(c);
        }
        return if value < 0.0 { format!("-{out}") } else { out };
    }
    let places = match size {
        s if s >= 100.0 => 0,
        s if s >= 10.0 => 1,
        s if s >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.places$}");
    if text.contains('.') {
        return text.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    text
}

/// Lines of one group, as they stand in `docs/PERFORMANCE.md`.
pub(crate) fn text(group: &str, rows: &[Row]) -> String {
    let mut out = format!(
        "\n### {group}\n\n| what | median | min..max | unit | target | | |\n|---|---:|---:|---|---|---|---|\n"
    );
    for row in rows {
        let (median, range) = match &row.sample {
            Some(s) if s.runs > 1 => (
                number(s.median),
                format!("{}..{}", number(s.min), number(s.max)),
            ),
            Some(s) => (number(s.median), String::new()),
            None => ("-".to_owned(), String::new()),
        };
        let target = row.target.map_or_else(String::new, Target::text);
        let verdict = match row.verdict() {
            Some(true) => "met",
            Some(false) => "not met",
            None => "",
        };
        // Writing to a String does not fail.
        let _ = writeln!(
            out,
            "| {} | {median} | {range} | {} | {target} | {verdict} | {} |",
            row.what, row.unit, row.note
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(value: f64, target: Target) -> Row {
        Row::new("x", "ns", Sample::of([value])).target(target)
    }

    #[test]
    fn targets_have_a_direction() {
        assert_eq!(row(25.0, Target::AtMost(25.0)).verdict(), Some(true));
        assert_eq!(row(25.1, Target::AtMost(25.0)).verdict(), Some(false));
        assert_eq!(row(0.97, Target::AtLeast(0.97)).verdict(), Some(true));
        assert_eq!(row(0.96, Target::AtLeast(0.97)).verdict(), Some(false));
    }

    #[test]
    fn what_was_not_measured_is_not_judged() {
        let row = Row::new("x", "ns", None).target(Target::AtMost(1.0));
        assert_eq!(row.verdict(), None);
        let text = text("g", &[row.note("no such tool")]);
        assert!(
            text.contains("| x | - |") && text.contains("no such tool"),
            "{text}"
        );
    }

    #[test]
    fn numbers_are_readable() {
        for (value, text) in [
            (0.0, "0"),
            (0.97, "0.97"),
            (0.0004, "0"),
            (1.0, "1"),
            (12.34, "12.3"),
            (120.0, "120"),
            (999.6, "1000"),
            (5_000_000.0, "5,000,000"),
            (-1234.0, "-1,234"),
        ] {
            assert_eq!(number(value), text, "{value}");
        }
    }
}
