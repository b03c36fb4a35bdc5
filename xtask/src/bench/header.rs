//! What was measured on, and how.

use std::process::Command;

use anyhow::Result;
use serde_json::{Value, json};

use super::Bench;
use crate::exec;

/// Facts about the machine and the run.
pub(crate) struct Header(Vec<(&'static str, String)>);

impl Header {
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        for (name, value) in &self.0 {
            out.push_str(&format!("- {name}: {value}\n"));
        }
        out
    }

    pub(crate) fn json(&self) -> Value {
        self.0
            .iter()
            .map(|(k, v)| ((*k).to_owned(), json!(v)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }
}

fn line(path: &str) -> String {
    std::fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// Model name of the first processor.
fn processor() -> String {
    line("/proc/cpuinfo")
        .lines()
        .find_map(|l| l.strip_prefix("model name"))
        .map_or_else(
            || "-".into(),
            |l| l.trim_start_matches([':', '\t', ' ']).to_owned(),
        )
}

/// First line that a program prints about its version; what to install where it is missing.
fn version(program: &str, package: &str, flag: &str) -> String {
    match exec::tool(program, package).and_then(|mut c| exec::capture_text(c.arg(flag))) {
        Ok(text) => text.lines().next().unwrap_or("").to_owned(),
        Err(_) => format!("not installed (apt-get install {package})"),
    }
}

pub(crate) fn gather(bench: &Bench) -> Result<Header> {
    let tier = tier(bench)?;
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let commit = exec::capture_text(Command::new("git").args(["rev-parse", "--short", "HEAD"]));
    let mut facts = vec![
        ("kernel", line("/proc/sys/kernel/osrelease")),
        ("processors", format!("{cpus} × {}", processor())),
        ("load before", line("/proc/loadavg")),
        ("hooks", tier),
        (
            "commit",
            commit.map_or_else(|_| "-".into(), |c| c.trim().to_owned()),
        ),
        (
            "redis",
            version("redis-server", "redis-server", "--version"),
        ),
        ("iperf3", version("iperf3", "iperf3", "--version")),
        ("bpftrace", version("bpftrace", "bpftrace", "--version")),
        (
            "method",
            format!(
                "medians of {} rounds, in each of which the variants take turns; ratios are those \
                 of one round's variants; ns of programs are the kernel's (BPF_ENABLE_STATS), \
                 above an empty program on the same tracepoint",
                bench.rounds
            ),
        ),
    ];
    if let Some(object) = &bench.object {
        facts.push(("object", object.display().to_string()));
    }
    Ok(Header(facts))
}

/// Kind of hooks that this host allows, as `doctor` names it.
fn tier(bench: &Bench) -> Result<String> {
    let text = exec::capture_text(Command::new(&bench.tool).args(["doctor", "--format", "json"]))?;
    let doctor: Value = serde_json::from_str(&text)?;
    let name = doctor["tier"].as_str().unwrap_or("unknown");
    Ok(name.to_owned())
}
