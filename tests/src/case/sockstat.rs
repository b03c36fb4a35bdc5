//! The sum over all sockets against what the kernel charged to `tcp_mem`.

use anyhow::{Result, ensure};

use super::{Case, Cx, ONCE, Place, case};
use crate::actor::Actor;
use crate::oracle;
use crate::trace::{self, Trace};

/// Only where every socket of the machine may be traced.
pub(super) fn cases() -> Vec<Case> {
    vec![Case {
        place: Place::Vm,
        ..case("sockstat", ONCE, identity)
    }]
}

const PAGE: i64 = 4096;

/// Pages by which `/proc/net/sockstat` may be off: from 6.0 every CPU may hold a share of up to
/// `net.core.mem_pcpu_rsv` pages that sockstat does not show (include/net/proto_memory.h).
fn bound(cx: &Cx) -> Result<i64> {
    if cx.kernel < (6, 0) {
        return Ok(0);
    }
    let reserve = std::fs::read_to_string("/proc/sys/net/core/mem_pcpu_rsv")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(256);
    let cpus = i64::try_from(std::thread::available_parallelism()?.get())?;
    Ok(reserve * cpus)
}

fn within(what: &str, bytes: i64, pages: i64, bound: i64) -> Result<()> {
    // Exact where there is no bound: the charge is whole pages to the byte.
    let off = bytes - pages * PAGE;
    ensure!(
        off.abs() <= bound * PAGE,
        "{what}: {bytes} bytes, sockstat {pages} pages, off by {off} with a bound of {bound} pages"
    );
    Ok(())
}

fn identity(cx: &Cx) -> Result<()> {
    let mut actor = Actor::start(cx, "many")?;
    let mut trace = Trace::start(cx, &[], &["--all"])?;
    actor.step_to(cx, "mixed")?;
    let bound = bound(cx)?;
    for _ in 0..40 {
        let before = oracle::sockstat_tcp_mem()?;
        let kernel: i64 = oracle::dump()?.iter().map(|r| r.mem.resident()).sum();
        let line = trace.fresh_line(cx)?;
        let again: i64 = oracle::dump()?.iter().map(|r| r.mem.resident()).sum();
        let after = oracle::sockstat_tcp_mem()?;
        if before != after || kernel != again {
            continue;
        }
        within("sum of sock_diag", kernel, after, bound)?;
        let sum = trace::sockets(&line)?
            .iter()
            .map(|s| trace::number(s, "resident"))
            .sum::<Result<i64>>()?;
        within("sum of the trace", sum, after, bound)?;
        ensure!(
            sum == kernel,
            "sum of the trace {sum}, of sock_diag {kernel}"
        );
        let total = trace::number(&line["totals"], "resident")?;
        ensure!(
            total == sum,
            "totals.resident {total}, but the sockets add up to {sum}"
        );
        return trace.finish(cx).map(drop);
    }
    anyhow::bail!("the sockets never came to rest")
}
