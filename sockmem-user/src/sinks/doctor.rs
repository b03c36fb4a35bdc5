//! What this host allows: rows that pass, warn or fail, and what follows from them.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Serialize;

use super::header::tier_words;
use super::json::{self, Host};
use super::look::{Look, Style};
use super::{HostFacts, TOOL_VERSION, escape};
use crate::model::{Coverage, Tier};

/// Schema of `doctor --format json`.
pub const SCHEMA: &str = "sockmem-trace/doctor/1";

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As needed.
    Pass,
    /// Something is less exact or missing, the rest works.
    Warn,
    /// Tracing does not work.
    Fail,
}

impl Status {
    /// The name in JSON and text.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Status::Pass => "pass",
            Status::Warn => "warn",
            Status::Fail => "fail",
        }
    }

    fn style(self) -> Style {
        match self {
            Status::Pass => Style::Good,
            Status::Warn => Style::Warn,
            Status::Fail => Style::Bad,
        }
    }
}

/// One check. Strings unescaped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// What was looked at, a word or two.
    pub name: String,
    /// How it went.
    pub status: Status,
    /// What was found.
    pub fact: String,
    /// What it is needed for.
    pub need: String,
    /// The command that fixes it; `None` where nothing is to be fixed or can be.
    pub fix: Option<String>,
}

/// All checks and what follows from them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    /// The checks, in the order of printing.
    pub rows: Vec<Row>,
    /// The hooks a trace would use; `None` where it would not start.
    pub tier: Option<Tier>,
    /// How each counter would be obtained, by the counter's name.
    pub coverage: BTreeMap<&'static str, Coverage>,
}

impl Diagnosis {
    /// The worst of the rows.
    #[must_use]
    pub fn status(&self) -> Status {
        let worst = self
            .rows
            .iter()
            .map(|r| r.status)
            .max()
            .unwrap_or(Status::Pass);
        if self.tier.is_none() {
            Status::Fail
        } else {
            worst
        }
    }
}

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    host: Host<'a>,
    tool_version: &'static str,
    status: Status,
    tier: Option<&'static str>,
    coverage: BTreeMap<&'static str, &'static str>,
    rows: &'a [Row],
}

/// Writes the JSON document and a newline.
///
/// # Errors
/// Those of `out`.
pub fn write_json(diagnosis: &Diagnosis, host: &HostFacts, out: &mut impl Write) -> io::Result<()> {
    json::write_line(
        &Document {
            schema: SCHEMA,
            host: Host::from(host),
            tool_version: TOOL_VERSION,
            status: diagnosis.status(),
            tier: diagnosis.tier.map(Tier::name),
            coverage: json::coverage(&diagnosis.coverage),
            rows: &diagnosis.rows,
        },
        out,
    )
}

/// Writes the text: a line a check, beneath it what it is needed for and the fix where it did
/// not pass; at the end what a trace would rest on.
///
/// # Errors
/// Those of `out`.
pub fn write_text(
    diagnosis: &Diagnosis,
    host: &HostFacts,
    look: &Look,
    out: &mut impl Write,
) -> io::Result<()> {
    let facts = [
        (Style::Strong, format!("sockmem-trace {TOOL_VERSION}")),
        (Style::Plain, look.foreign(&host.hostname).into_owned()),
        (
            Style::Plain,
            format!("Linux {}", look.foreign(&host.kernel)),
        ),
        (Style::Plain, format!("{} CPUs", host.cpus)),
    ];
    writeln!(out, "{}\n", look.facts(&facts))?;
    let names: Vec<_> = diagnosis
        .rows
        .iter()
        .map(|r| look.foreign(&r.name))
        .collect();
    let column = names.iter().map(|n| escape::width(n)).max().unwrap_or(0);
    let indent = "pass".len() + 2 + column + 2;
    for (row, name) in diagnosis.rows.iter().zip(&names) {
        let pad = " ".repeat(column - escape::width(name));
        let status = look.paint(row.status.style(), row.status.name());
        writeln!(
            out,
            "{status}  {name}{pad}  {}",
            hang(look, &look.foreign(&row.fact), indent)
        )?;
        if row.status != Status::Pass {
            let mut under = Vec::new();
            under.extend((!row.need.is_empty()).then_some(("needed for", &row.need)));
            under.extend(row.fix.as_ref().map(|fix| ("fix", fix)));
            for (what, words) in under {
                let line = format!("{what}: {}", look.foreign(words));
                writeln!(out, "{}{}", " ".repeat(indent), hang(look, &line, indent))?;
            }
        }
    }
    writeln!(out)?;
    let Some(tier) = diagnosis.tier else {
        let line = "A trace cannot start on this host: see the rows marked fail.";
        return writeln!(out, "{}", look.paint(Style::Bad, &look.prose(line, 0)));
    };
    let with = |c: Coverage| {
        let names = diagnosis.coverage.iter().filter(|(_, have)| **have == c);
        names.map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    };
    let mut facts = vec![(
        Style::Strong,
        format!("A trace would use {} ({})", tier_words(tier), tier.name()),
    )];
    let (exact, sampled) = (with(Coverage::Exact), with(Coverage::Sampled));
    if !exact.is_empty() {
        facts.push((Style::Good, format!("exact: {exact}")));
    }
    if !sampled.is_empty() {
        facts.push((Style::Warn, format!("sampled: {sampled}")));
    }
    writeln!(out, "{}", look.facts(&facts))
}

/// Words wrapped behind a margin of `indent` columns that is already written.
fn hang(look: &Look, words: &str, indent: usize) -> String {
    let Some(width) = look.width else {
        return words.to_owned();
    };
    // A margin that leaves no room is ignored: the terminal wraps.
    let room = width.saturating_sub(indent).max(24);
    super::text::wrap(words, room, 0).replace('\n', &format!("\n{}", " ".repeat(indent)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::fixture;

    fn row(name: &str, status: Status, fact: &str, need: &str, fix: Option<&str>) -> Row {
        Row {
            name: name.to_owned(),
            status,
            fact: fact.to_owned(),
            need: need.to_owned(),
            fix: fix.map(str::to_owned),
        }
    }

    fn diagnosis() -> Diagnosis {
        Diagnosis {
            rows: vec![
                row("privilege", Status::Pass, "root", "loading programs", None),
                row(
                    "BTF",
                    Status::Pass,
                    "/sys/kernel/btf/vmlinux, 5.2 MiB",
                    "field offsets",
                    None,
                ),
                row(
                    "fentry",
                    Status::Warn,
                    "the kernel refuses fentry programs (EPERM)",
                    "exact wmem_queued between two calls of the application",
                    Some("run on a kernel built with CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS=y"),
                ),
                row(
                    "trap\x1b[2J",
                    Status::Pass,
                    "escaped\u{202e}",
                    "nothing",
                    None,
                ),
            ],
            tier: Some(Tier::Tracepoint),
            coverage: BTreeMap::from([
                ("rmem_alloc", Coverage::Exact),
                ("wmem_queued", Coverage::Sampled),
                ("forward_alloc", Coverage::Sampled),
            ]),
        }
    }

    fn text(d: &Diagnosis, look: Look) -> String {
        let mut out = Vec::new();
        write_text(d, &fixture::host(), &look, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn text_says_what_to_do() {
        insta::assert_snapshot!(text(
            &diagnosis(),
            Look {
                width: Some(80),
                ..Look::default()
            }
        ));
    }

    #[test]
    fn a_host_that_cannot() {
        let mut d = diagnosis();
        d.tier = None;
        d.rows[0] = row(
            "privilege",
            Status::Fail,
            "not root, and without CAP_BPF and CAP_PERFMON",
            "loading programs",
            Some("sudo sockmem-trace doctor"),
        );
        assert_eq!(d.status(), Status::Fail);
        insta::assert_snapshot!(text(
            &d,
            Look {
                ascii: true,
                color: true,
                width: None
            }
        ));
    }

    #[test]
    fn json_document() {
        let line = json::line(|out| write_json(&diagnosis(), &fixture::host(), out));
        let doc: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(doc["schema"], SCHEMA);
        assert_eq!(doc["status"], "warn");
        assert_eq!(doc["tier"], "tracepoint");
        assert_eq!(doc["coverage"]["wmem_queued"], "sampled");
        assert_eq!(doc["rows"][2]["status"], "warn");
        assert!(doc["rows"][0]["fix"].is_null());
        assert_eq!(doc["rows"][3]["name"], "trap\x1b[2J");
        assert!(!line.contains('\x1b') && !line.contains('\u{202e}'));
    }
}
