//! The kernel's own run statistics of BPF programs (`bpf_prog_info.run_time_ns`, `run_cnt`).

use std::collections::BTreeMap;
use std::io::BufRead as _;
use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use aya::programs::loaded_programs;
use aya::sys::{Stats, enable_stats};
use serde_json::{Value, json};

/// Runs of one program so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Runs {
    /// The name that its loader gave it, cut by the kernel to 15 characters.
    pub(crate) name: String,
    /// Time spent in it. ns.
    pub(crate) time_ns: u64,
    /// How often it ran.
    pub(crate) count: u64,
    /// Instructions after verification, 8 bytes each.
    pub(crate) instructions: Option<u32>,
    /// Instructions the verifier walked.
    pub(crate) verified: Option<u32>,
}

impl Runs {
    /// What was added since `before`.
    pub(crate) fn since(&self, before: &Runs) -> Runs {
        Runs {
            time_ns: self.time_ns.saturating_sub(before.time_ns),
            count: self.count.saturating_sub(before.count),
            ..self.clone()
        }
    }

    /// Mean time of a run; `None` where there was none. ns.
    pub(crate) fn mean_ns(&self) -> Option<f64> {
        (self.count > 0).then(|| self.time_ns as f64 / self.count as f64)
    }
}

/// Has the kernel count runs for as long as the descriptor is open.
///
/// # Errors
/// Of bpf(2).
pub(crate) fn counting() -> Result<OwnedFd> {
    enable_stats(Stats::RunTime)
        .context("bpf(BPF_ENABLE_STATS): needs Linux 5.8 and CAP_SYS_ADMIN; run it as root")
}

/// Every loaded program by id.
///
/// # Errors
/// Of bpf(2).
pub(crate) fn snapshot() -> Result<BTreeMap<u32, Runs>> {
    let mut out = BTreeMap::new();
    // One that is unloaded meanwhile is left out.
    for info in loaded_programs().flatten() {
        let runs = Runs {
            name: info.name_as_str().unwrap_or("").to_owned(),
            time_ns: u64::try_from(info.run_time().as_nanos()).unwrap_or(u64::MAX),
            count: info.run_count(),
            instructions: info.size_translated().map(|bytes| bytes / 8),
            verified: info.verified_instruction_count(),
        };
        out.insert(info.id(), runs);
    }
    Ok(out)
}

/// As `cargo xtask bench` takes it.
pub(crate) fn to_json(id: u32, runs: &Runs) -> Value {
    json!({
        "id": id,
        "name": runs.name,
        "time_ns": runs.time_ns,
        "count": runs.count,
        "instructions": runs.instructions,
        "verified": runs.verified,
    })
}

/// Counts until stdin ends; prints every program's runs for each line of it.
pub(crate) fn serve() -> Result<()> {
    let _counting = counting()?;
    for line in std::io::stdin().lock().lines() {
        line.context("reading stdin")?;
        let all: Vec<Value> = snapshot()?.iter().map(|(id, r)| to_json(*id, r)).collect();
        println!("{}", Value::from(all));
    }
    Ok(())
}
