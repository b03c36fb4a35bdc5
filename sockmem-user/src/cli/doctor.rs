//! `doctor`: what this host allows, what is missing, how to fix it.

use std::io::{self, IsTerminal};

use super::args::{DoctorArgs, Format};
use super::exit::Exit;
use super::run::host_facts;
use super::{live, trace};
use crate::attach::{self, Options};
use crate::facts::Tier;
use crate::host::facts::Facts;
use crate::host::prerequisites::{self, Check};
use crate::sinks::doctor::{Diagnosis, Row, Status, write_json, write_text};
use crate::sinks::look::Look;

/// Checks the host and says what it found.
pub(super) fn run(args: &DoctorArgs) -> anyhow::Result<Exit> {
    let checks = prerequisites::tracing(&Facts::gather());
    let failed = prerequisites::first_failure(&checks).is_some();
    let mut diagnosis = Diagnosis {
        rows: checks.into_iter().map(row).collect(),
        tier: None,
        coverage: std::collections::BTreeMap::new(),
    };
    // What hooks are allowed shows when they are attached; BTF alone does not tell.
    for tier in [Tier::Fentry, Tier::Kprobe, Tier::Tracepoint] {
        let row = if failed {
            Row {
                name: format!("hooks: {}", tier.name()),
                status: Status::Fail,
                fact: "not tried, because of the above".into(),
                need: String::new(),
                fix: None,
            }
        } else {
            try_tier(tier, &mut diagnosis)
        };
        diagnosis.rows.push(row);
    }
    if diagnosis.tier.is_some() {
        // A better tier works, or a worse one does: a refused one is no failure then.
        for row in diagnosis
            .rows
            .iter_mut()
            .filter(|r| r.name.starts_with("hooks: "))
        {
            if row.status == Status::Fail {
                row.status = Status::Warn;
            }
        }
    }
    let host = host_facts();
    let mut out = io::stdout().lock();
    match args.output.format {
        Format::Json => write_json(&diagnosis, &host, &mut out)?,
        Format::Text => write_text(&diagnosis, &host, &look(args), &mut out)?,
    }
    Ok(if diagnosis.status() == Status::Fail {
        Exit::Failed
    } else {
        Exit::Done
    })
}

fn look(args: &DoctorArgs) -> Look {
    live::look(&args.output, io::stdout().is_terminal())
}

fn row(check: Check) -> Row {
    Row {
        name: check.name.to_owned(),
        status: match check.status {
            prerequisites::Status::Pass => Status::Pass,
            prerequisites::Status::Warn => Status::Warn,
            prerequisites::Status::Fail => Status::Fail,
        },
        fact: check.fact,
        need: check.need.unwrap_or_default(),
        fix: check.fix,
    }
}

/// Attaches a tier to no process at all and detaches it again.
fn try_tier(tier: Tier, diagnosis: &mut Diagnosis) -> Row {
    let name = format!("hooks: {}", tier.name());
    let options = Options {
        tier: Some(tier),
        max_sockets: 16,
        ring_bytes: 4096,
        ..trace::default_options()
    };
    match attach::attach(&options) {
        Ok(trace) => {
            if diagnosis.tier.is_none() {
                diagnosis.tier = Some(tier);
                diagnosis.coverage = trace.coverage.clone();
            }
            let mut fact = format!("{} programs attach", trace.programs().len());
            for note in &trace.notes {
                fact.push_str("; without ");
                fact.push_str(note);
            }
            Row {
                name,
                status: Status::Pass,
                fact,
                need: String::new(),
                fix: None,
            }
        }
        Err(error) => Row {
            name,
            status: Status::Fail,
            fact: error.refusal(),
            need: need(tier).into(),
            fix: Some(
                "none is needed while another kind of hook passes; what this one would add is in \
                 docs/HOOKS.md"
                    .into(),
            ),
        },
    }
}

fn need(tier: Tier) -> &'static str {
    match tier {
        Tier::Fentry => {
            "a kernel with CONFIG_FUNCTION_TRACER and BPF trampolines that allows fentry programs"
        }
        Tier::Kprobe => "a kernel with CONFIG_KPROBE_EVENTS",
        Tier::Tracepoint => "a kernel with BTF-typed tracepoints (5.5 and later)",
    }
}
