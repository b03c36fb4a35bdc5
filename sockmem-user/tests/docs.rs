//! The documents agree with the code: hooks, fields and counters that they name exist and the
//! other way round, and links lead somewhere.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use sockmem::attach::PROGRAMS;
use sockmem::facts::{Coverage, Loss};
use sockmem::model::compare::{METRICS, Sums};
use sockmem::model::{Config, Model, TruesizeCounts, synthetic};
use sockmem::sinks::export::columns::{EVENTS, SOCKETS};
use sockmem::sinks::fields::FIELDS;
use sockmem::sinks::report::Cut;
use sockmem::sinks::{HostFacts, json};
use sockmem_common::{
    AuditStats, BUCKETS, Change, Counters, Layout, Settings, SockState, Stats, TruesizeSum,
};

fn workspace() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent()
        .expect("the crate is in a workspace")
        .to_owned()
}

fn read(name: &str) -> String {
    let path = workspace().join(name);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Every Markdown file of the project, by path below the workspace.
fn documents() -> Vec<(PathBuf, String)> {
    fn walk(dir: &Path, out: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
            let path = entry.expect("directory entry").path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                walk(&path, out);
            } else if path.extension().is_some_and(|e| e == "md") {
                out.push(path);
            }
        }
    }
    let root = workspace();
    let mut files = Vec::new();
    walk(&root, &mut files);
    files.sort();
    assert!(files.len() >= 10, "documents are found: {files:?}");
    files
        .into_iter()
        .map(|file| {
            let text = fs::read_to_string(&file).expect("a readable document");
            (
                file.strip_prefix(&root).expect("below the root").to_owned(),
                text,
            )
        })
        .collect()
}

/// Words in backticks outside of code blocks.
fn quoted(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.starts_with("```") {
            fenced = !fenced;
        } else if !fenced && !line.starts_with("    ") {
            words.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    words
}

/// First cells of the table whose header begins with `header`.
fn first_column<'a>(text: &'a str, header: &str) -> Vec<&'a str> {
    let mut cells = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        let cell = line
            .strip_prefix('|')
            .and_then(|l| l.split('|').next())
            .map(str::trim);
        match cell {
            None => inside = false,
            Some(cell) if cell == header => inside = true,
            Some(cell) if inside && !cell.starts_with('-') => cells.push(cell),
            Some(_) => {}
        }
    }
    cells
}

/// Names of the fields that a `Debug` text shows.
fn debug_fields(value: &impl std::fmt::Debug) -> BTreeSet<String> {
    let text = format!("{value:?}");
    text.split([' ', '{', '(', '['])
        .filter_map(|word| word.strip_suffix(':'))
        .map(str::to_owned)
        .collect()
}

/// Every member name of every JSON object, at any depth.
fn keys(value: &serde_json::Value, out: &mut BTreeSet<String>) {
    match value {
        serde_json::Value::Object(map) => {
            for (key, member) in map {
                out.insert(key.clone());
                keys(member, out);
            }
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| keys(item, out)),
        _ => {}
    }
}

/// A report as the tool prints it, of a trace that was made up.
fn report() -> serde_json::Value {
    let mut model = Model::new(Config {
        coverage: [("rmem_alloc", Coverage::Exact)].into(),
        ..Config::default()
    });
    for record in synthetic::opens(3, 0).chain(synthetic::changes(3, 0, 300)) {
        model.apply(&record);
    }
    let mut buckets = vec![0; BUCKETS as usize];
    buckets[40] = 1;
    model.set_truesize(&TruesizeCounts {
        buckets,
        sum: TruesizeSum {
            count: 1,
            truesize: 40,
            payload: 1,
            max: 40,
        },
    });
    model.set_loss(Loss::default());
    let line = json::report_line(
        &model.view(60_000_000_000, 60_000_000_000),
        &HostFacts::default(),
    );
    serde_json::from_str(&line).expect("the report is JSON")
}

/// Documents of the commands that do not trace, as their tests have saved them.
fn saved() -> Vec<serde_json::Value> {
    ["snapshot", "statement"]
        .iter()
        .map(|sink| {
            let name = format!(
                "sockmem-user/src/sinks/{sink}/snapshots/sockmem__sinks__{sink}__tests__json.snap"
            );
            let text = read(&name);
            let body = text
                .splitn(3, "---\n")
                .nth(2)
                .expect("a header between lines");
            serde_json::from_str(body).unwrap_or_else(|e| panic!("{name}: {e}"))
        })
        .collect()
}

/// Names of JSON members and of the ABI's fields.
fn vocabulary() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    keys(&report(), &mut names);
    assert!(names.contains("resident_peak_bytes") && names.contains("recursion_misses"));
    for document in saved() {
        keys(&document, &mut names);
    }
    names.extend(debug_fields(&Stats::default()));
    names.extend(debug_fields(&AuditStats::default()));
    names.extend(debug_fields(&SockState::default()));
    names.extend(debug_fields(&Counters::default()));
    names.extend(debug_fields(&Change::default()));
    names.extend(debug_fields(&Settings::default()));
    names.extend(Layout::NAMES.iter().map(|name| (*name).to_owned()));
    names.extend(EVENTS.iter().map(|c| c.head.name.to_owned()));
    names.extend(SOCKETS.iter().map(|c| c.head.name.to_owned()));
    names.insert("end_mono_ns".to_owned());
    // Members that this report has none of: of a limit's change, of `--audit`, of queue-drain times.
    names.extend(["at_ns", "what", "from", "to", "cause", "audit", "drain_ns"].map(str::to_owned));
    // Of documents about recordings.
    names.extend(METRICS.map(str::to_owned));
    names.extend(debug_fields(&Sums {
        connections: 0,
        payload_bytes: None,
        duration_ns: 0,
    }));
    names.extend(debug_fields(&Cut {
        why: String::new(),
        known_ns: 0,
    }));
    // Of the same, and of events, of which this report has none either.
    names.extend(
        "how option asked by kind count held socket allocated_pages tcp_mem_pages direction \
         lasted_ns name netns"
            .split_whitespace()
            .map(str::to_owned),
    );
    names
}

#[test]
fn every_program_and_hook_is_documented() {
    let words: BTreeSet<String> = quoted(&read("docs/HOOKS.md"))
        .iter()
        // Tracepoints are written with their group: `tcp:tcp_probe`.
        .flat_map(|w| [w.clone(), w.rsplit(':').next().unwrap_or(w).to_owned()])
        .collect();
    for program in PROGRAMS {
        assert!(
            words.contains(program.name),
            "docs/HOOKS.md lacks program {}",
            program.name
        );
        assert!(
            words.contains(program.hook),
            "docs/HOOKS.md lacks hook {}",
            program.hook
        );
    }
}

#[test]
fn every_documented_program_exists() {
    for word in quoted(&read("docs/HOOKS.md")) {
        let prefix = ["fx_", "fe_", "kp_", "kr_", "au_", "it_", "be_"]
            .iter()
            .any(|p| word.starts_with(p));
        // kp_enter is attached along with every return probe and has no row of its own.
        if prefix && word != "kp_enter" {
            assert!(
                PROGRAMS.iter().any(|p| p.name == word),
                "there is no program {word}"
            );
        }
    }
}

#[test]
fn the_table_of_fields_is_the_documented_one() {
    let text = read("docs/OUTPUT.md");
    for field in FIELDS {
        let title = if field.title == field.json {
            ""
        } else {
            field.title
        };
        let row = format!(
            "| `{}` | {title} | `{}` | {} | {} |",
            field.json,
            field.kernel,
            field.unit.name(),
            field.help.trim_end_matches('.')
        );
        assert!(text.contains(&row), "docs/OUTPUT.md lacks the row\n{row}");
    }
    let names: BTreeSet<String> = vocabulary();
    for cell in first_column(&text, "JSON") {
        for name in cell.split(", ").map(|name| name.trim_matches('`')) {
            assert!(
                names.contains(name) || FIELDS.iter().any(|f| f.json == name),
                "docs/OUTPUT.md names {name}, which is in no document"
            );
        }
    }
}

#[test]
fn the_columns_of_exports_are_the_documented_ones() {
    let text = read("docs/OUTPUT.md");
    let events = EVENTS.iter().map(|c| (c.head, c.help));
    // Fields of a socket have their own table.
    let sockets = SOCKETS.iter().map(|c| (c.head, c.help));
    let own = |name: &str| FIELDS.iter().all(|f| f.json != name && f.title != name);
    for (head, help) in events.chain(sockets.filter(|(head, _)| own(head.name))) {
        let help = help.trim_end_matches('.');
        let row = format!("| `{}` | {} | {help} |", head.name, head.kind.name());
        assert!(text.contains(&row), "docs/OUTPUT.md lacks the row\n{row}");
    }
}

#[test]
fn every_member_of_a_document_is_documented() {
    let text = read("docs/OUTPUT.md");
    let words: BTreeSet<String> = quoted(&text).into_iter().collect();
    let report = report();
    let members = report.as_object().expect("an object");
    for name in members.keys().filter(|name| *name != "schema") {
        assert!(words.contains(name), "docs/OUTPUT.md lacks {name}");
    }
    for name in ["host", "window", "loss", "totals", "truesize", "verdict"] {
        let inner = members[name].as_object();
        for key in inner
            .unwrap_or_else(|| panic!("{name} is an object"))
            .keys()
        {
            assert!(words.contains(key), "docs/OUTPUT.md lacks {name}.{key}");
        }
    }
}

#[test]
fn documents_without_a_trace_are_described() {
    let words: BTreeSet<String> = quoted(&read("docs/OUTPUT.md")).into_iter().collect();
    for document in saved() {
        let members = document.as_object().expect("an object");
        for name in members
            .keys()
            .filter(|n| !["schema", "unix_ns"].contains(&n.as_str()))
        {
            assert!(words.contains(name), "docs/OUTPUT.md lacks {name}");
        }
        let totals = members.get("totals").and_then(|t| t.as_object());
        for name in totals.into_iter().flat_map(|t| t.keys()) {
            assert!(words.contains(name), "docs/OUTPUT.md lacks totals.{name}");
        }
    }
}

#[test]
fn counters_named_in_documents_exist() {
    let names = vocabulary();
    let loss = read("docs/LOSS.md");
    let counted = first_column(&loss, "Counter");
    assert!(counted.len() >= 8, "{counted:?}");
    for cell in counted {
        assert!(
            names.contains(cell.trim_matches('`')),
            "docs/LOSS.md names {cell}"
        );
    }
    for counter in debug_fields(&Loss::default()) {
        assert!(
            loss.contains(&format!("| `{counter}` |")),
            "docs/LOSS.md lacks {counter}"
        );
    }
    for (file, text) in documents() {
        for word in quoted(&text) {
            let plain = word.chars().all(|c| c.is_ascii_lowercase() || c == '_');
            // The kernel's own, of `bpf_prog_info`.
            let kernels = word == "run_time_ns";
            if plain && !kernels && (word.ends_with("_bytes") || word.ends_with("_ns")) {
                assert!(names.contains(&word), "{} names {word}", file.display());
            }
        }
    }
}

/// Targets of `[text](target)` outside of code blocks.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.starts_with("```") {
            fenced = !fenced;
        }
        if fenced || line.starts_with("    ") {
            continue;
        }
        let mut rest = line;
        while let Some(at) = rest.find("](") {
            rest = &rest[at + 2..];
            if let Some(end) = rest.find(')') {
                found.push(rest[..end].to_owned());
            }
        }
    }
    found
}

/// The anchor of a heading, as GitHub makes it.
fn anchor(heading: &str) -> String {
    heading
        .trim_start_matches('#')
        .trim()
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

#[test]
fn the_keys_are_the_documented_ones() {
    let table = sockmem::sinks::screen::keys::markdown();
    let text = read("docs/LIVE.md");
    assert!(
        text.contains(&table),
        "docs/LIVE.md lacks the table of keys:\n{table}"
    );
}

#[test]
fn links_lead_somewhere() {
    let root = workspace();
    let mut seen = 0;
    for (file, text) in documents() {
        for link in links(&text) {
            if link.contains("://") {
                continue;
            }
            seen += 1;
            let (path, fragment) = link.split_once('#').unwrap_or((&link, ""));
            let here = root.join(&file);
            let target = match path {
                "" => here,
                path => here.parent().expect("a file is in a folder").join(path),
            };
            assert!(target.exists(), "{}: {link} leads nowhere", file.display());
            if !fragment.is_empty() {
                let text = fs::read_to_string(&target).expect("a readable document");
                assert!(
                    text.lines()
                        .any(|l| l.starts_with('#') && anchor(l) == fragment),
                    "{}: {link} names no heading",
                    file.display()
                );
            }
        }
    }
    assert!(seen > 10, "links are found");
}

#[test]
fn the_helpers_find_what_they_look_for() {
    assert_eq!(
        quoted("a `b` c `d e`\n    `code`\n```\n`x`\n```\n`f`"),
        ["b", "d e", "f"]
    );
    assert_eq!(
        links("see [a](b.md) and [c](d.md#e)\n    [no](code.md)"),
        ["b.md", "d.md#e"]
    );
    assert_eq!(
        anchor("## How \"exact\" is checked"),
        "how-exact-is-checked"
    );
    let table = "| X | Y |\n|---|---|\n| `a` | 1 |\n| b | 2 |\n\n| Z |\n|---|\n| c |";
    assert_eq!(first_column(table, "X"), ["`a`", "b"]);
    assert!(debug_fields(&Stats::default()).contains("dropped_ring"));
}
