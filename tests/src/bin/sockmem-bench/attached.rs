//! Options as the tool itself has them, and the time that attaching takes.

use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sockmem::attach::{Options, attach};
use sockmem::collect::{Owners, Spec};
use sockmem_common::Settings;

use crate::load::Fleet;

/// As `sockmem-trace live --exact` attaches, with no target yet.
pub(crate) fn options() -> Options {
    Options {
        tier: None,
        settings: Settings {
            idle_after_ns: 1_000_000_000,
            coalesce_ns: 0,
            flags: 0,
            self_tgid: std::process::id(),
            wakeup_bytes: 64 << 10,
            resync_quiet_ns: 0,
            tcp_sock_type: 0,
            reserved: 0,
        },
        max_sockets: 65_536,
        ring_bytes: 4 << 20,
        truesize: true,
        audit: false,
        bench: false,
        object: std::env::var_os("SOCKMEM_BPF_OBJECT").map(Into::into),
    }
}

/// Seconds from nothing to attached and baselined, with a process that has `sockets` sockets.
fn one(sockets: usize) -> Result<Value> {
    let fleet = Fleet::start(sockets)?;
    let began = Instant::now();
    let mut owners = Owners::new(Spec {
        pids: vec![fleet.pid()],
        ..Spec::default()
    })?;
    let mut trace = attach(&options()).context("attaching")?;
    let attached = began.elapsed();
    owners.start(&mut trace)?;
    let ready = began.elapsed();
    let mut found = 0u64;
    trace.scan(|_, _| found += 1)?;
    let scan = Instant::now();
    trace.scan(|_, _| ())?;
    let scanned = scan.elapsed();
    let resync = Instant::now();
    trace.resync()?;
    let resynced = resync.elapsed();
    let detach = Instant::now();
    drop(trace);
    Ok(json!({
        "sockets": sockets,
        "found": found,
        "attach_s": attached.as_secs_f64(),
        "ready_s": ready.as_secs_f64(),
        "scan_s": scanned.as_secs_f64(),
        "resync_s": resynced.as_secs_f64(),
        "detach_s": detach.elapsed().as_secs_f64(),
    }))
}

/// Three times each, in turn.
pub(crate) fn times() -> Result<Value> {
    let mut all = Vec::new();
    for _ in 0..3 {
        for sockets in [0, 10_000] {
            all.push(one(sockets)?);
        }
    }
    Ok(Value::from(all))
}

/// Instructions of every program, as they run and as the verifier walked them.
pub(crate) fn loads() -> Result<Value> {
    let trace = attach(&options()).context("attaching")?;
    let programs = trace.programs();
    Ok(programs
        .iter()
        .map(|p| {
            json!({
                "name": p.name,
                "hook": p.hook,
                "instructions": p.xlated_bytes.map(|bytes| bytes / 8),
                "verified": p.verified_instructions,
            })
        })
        .collect())
}
