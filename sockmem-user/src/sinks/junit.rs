//! A check as JUnit XML, which CI systems show: a suite for the recording, a case for each limit.
//! The form is that of Jenkins' schema (`jenkins-junit.xsd` of the xUnit plugin).

use std::io::{self, Write};

use super::check::{Checked, failure, socket};
use super::escape;
use super::look::Look;

/// Text for XML: what may steer a terminal or is no XML character is written out, what is markup
/// to XML is an entity.
#[must_use]
pub fn xml(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in escape::escape(text, false).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            c => out.push(c),
        }
    }
    out
}

/// Writes the document.
///
/// # Errors
/// Those of `out`.
pub fn write(it: Checked<'_>, out: &mut impl Write) -> io::Result<()> {
    // Whatever looks like an escape is one of `xml`'s: foreign text passes through that once.
    let look = Look::default();
    let failed = it.judged.iter().filter(|j| !j.ok).count();
    let counts = format!(
        "tests=\"{}\" failures=\"{failed}\" errors=\"0\"",
        it.judged.len()
    );
    let seconds = format!("{:.3}", it.view.duration_ns as f64 / 1e9);
    let started = timestamp(it.view.start_unix_ns);
    writeln!(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>")?;
    writeln!(out, "<testsuites {counts} time=\"{seconds}\">")?;
    writeln!(
        out,
        "  <testsuite name=\"sockmem-trace check {}\" {counts} skipped=\"0\" time=\"{seconds}\" \
         timestamp=\"{started}\" hostname=\"{}\">",
        xml(&it.from.name),
        xml(&it.host.hostname)
    )?;
    writeln!(out, "    <properties>")?;
    let mut property = |name: &str, value: &str| {
        writeln!(
            out,
            "      <property name=\"{name}\" value=\"{}\"/>",
            xml(value)
        )
    };
    property("kernel", &it.host.kernel)?;
    property("tier", it.view.tier.name())?;
    property(
        "complete",
        if it.from.cut.is_none() {
            "true"
        } else {
            "false"
        },
    )?;
    if let Some(baseline) = it.baseline {
        property("baseline", baseline)?;
    }
    writeln!(out, "    </properties>")?;
    for j in it.judged {
        // Without the limit's value: a test case's history goes on when that is changed.
        let name = xml(&format!("{}: {}", j.name, j.what));
        write!(
            out,
            "    <testcase classname=\"sockmem-trace.check\" name=\"{name}\" time=\"0\""
        )?;
        if j.ok {
            writeln!(out, "/>")?;
            continue;
        }
        let kind = if j.actual.is_some() {
            "exceeded"
        } else {
            "unknown"
        };
        // `failure` and `socket` have escaped what is foreign; a second time would show.
        let line = markup(&failure(j, &look));
        writeln!(out, ">")?;
        write!(
            out,
            "      <failure message=\"{line}\" type=\"{kind}\">{line}"
        )?;
        for s in &j.sockets {
            write!(out, "\n{}", markup(&socket(s, &look)))?;
        }
        writeln!(out, "</failure>\n    </testcase>")?;
    }
    writeln!(out, "  </testsuite>\n</testsuites>")?;
    out.flush()
}

/// Entities only: for text that is harmless already.
fn markup(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&apos;")
}

/// `2026-01-31T23:59:59`, UTC, as the schema wants it.
fn timestamp(unix_ns: u64) -> String {
    super::text::moment(unix_ns)
        .trim_end_matches('Z')
        .replace(' ', "T")
}

#[cfg(test)]
mod tests;
