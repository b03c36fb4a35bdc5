//! `/proc/net/sockstat` against the sum over the sockets: what is left, how much may be, and why.
//!
//! On every kernel, to the byte: `tcp_memory_allocated` and the CPUs' shares together are the sum over
//! all TCP sockets of `rmem_alloc + wmem_queued + forward_alloc`, less what is counted there but not
//! charged (net/core/sock.c `__sk_mem_raise_allocated`; include/net/proto_memory.h, from 6.0
//! `sk_memory_allocated_add`).

use super::signed;
use crate::facts::memory::{Known, MemoryFacts, Reserve, TcpSums};
use crate::facts::socket::Protocol;
use crate::model::snapshot::Snapshot;

/// One thing that may be in the remainder: from `low` to `high` bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its name in JSON.
    pub name: &'static str,
    /// At least; `None`: no bound is known.
    pub low: Option<i64>,
    /// At most; `None`: no bound is known.
    pub high: Option<i64>,
    /// What it is, and how the bound comes about.
    pub note: String,
}

/// What the remainder means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Within its bound.
    Explained,
    /// Charged to no socket, beyond what can be.
    SuspectedLeak,
    /// Sockets hold more than is charged, beyond what can be.
    MoreThanCharged,
    /// Not all sockets were read, so that there is no bound.
    Unbounded,
    /// sockstat could not be read.
    Unknown,
}

impl Verdict {
    /// The name in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Explained => "explained",
            Verdict::SuspectedLeak => "suspected-leak",
            Verdict::MoreThanCharged => "more-than-charged",
            Verdict::Unbounded => "unbounded",
            Verdict::Unknown => "unknown",
        }
    }
}

/// The remainder.
#[derive(Clone, Debug)]
pub struct Remainder {
    /// sockstat, with the CPUs' shares where they were read, less the sum over the sockets.
    pub bytes: Known<i64>,
    /// From where to where it may lie; `None` on a side without a bound.
    pub range: (Option<i64>, Option<i64>),
    /// What may be in it.
    pub parts: Vec<Part>,
    /// What it means.
    pub verdict: Verdict,
    /// In a sentence.
    pub text: String,
    /// The CPUs' shares, where they were read: what sockstat lacks.
    pub reserve_bytes: Known<i64>,
    /// Which it was: none, exact, or a bound.
    pub reserve_note: String,
}

impl Remainder {
    /// How far from zero it may lie; `None` where there is no bound.
    #[must_use]
    pub fn bound(&self) -> Option<i64> {
        Some(self.range.1?.max(-self.range.0?))
    }

    pub(super) fn of(whole: &Snapshot<'_>, facts: &MemoryFacts) -> Self {
        let page = signed(facts.page_size);
        let (reserve_bytes, reserve_note) = reserve(facts, page);
        let shares = match &facts.reserve {
            Reserve::Exact { after, .. } => *after,
            _ => 0,
        };
        let parts = parts(whole, facts, page);
        let bytes = facts
            .after
            .as_ref()
            .map(|sums| (signed(sums.mem_pages) + shares) * page - signed(whole.totals.resident))
            .map_err(Clone::clone);
        let side = |get: fn(&Part) -> Option<i64>| -> Option<i64> { parts.iter().map(get).sum() };
        let range = (side(|p| p.low), side(|p| p.high));
        let (verdict, text) = judge(&bytes, range, page);
        Remainder {
            bytes,
            range,
            parts,
            verdict,
            text,
            reserve_bytes,
            reserve_note,
        }
    }
}

fn reserve(facts: &MemoryFacts, page: i64) -> (Known<i64>, String) {
    match &facts.reserve {
        Reserve::Absent => (
            Ok(0),
            "This kernel has none (they came in 6.0): sockstat is exact.".into(),
        ),
        Reserve::Exact { after, cpus, .. } => (
            Ok(after * page),
            format!(
                "Read on each of {cpus} CPUs: {after} pages are missing in sockstat (below zero: too many)."
            ),
        ),
        Reserve::Bounded {
            pages_per_cpu,
            cpus,
            why,
        } => {
            let bound = signed(*pages_per_cpu) * i64::from(*cpus);
            (
                Err(format!("not read: {why}")),
                format!(
                    "A bound, not a reading: {pages_per_cpu} pages (net.core.mem_pcpu_rsv) on each of {cpus} CPUs, \
                     either way: {bound} pages. Not read: {why}."
                ),
            )
        }
    }
}

/// Pages that the sums moved while the sockets were read.
fn moved(before: &TcpSums, after: &TcpSums, facts: &MemoryFacts) -> i64 {
    let (first, last) = match &facts.reserve {
        Reserve::Exact { before, after, .. } => (*before, *after),
        _ => (0, 0),
    };
    (signed(after.mem_pages) + last - signed(before.mem_pages) - first).abs()
}

fn parts(whole: &Snapshot<'_>, facts: &MemoryFacts, page: i64) -> Vec<Part> {
    let part = |name, low, high, note: String| Part {
        name,
        low,
        high,
        note,
    };
    let mut parts = Vec::new();
    match &facts.reserve {
        Reserve::Absent => {}
        Reserve::Exact { after, cpus, .. } => {
            // sockstat prints 0 for what is below.
            let clamped = facts.after.as_ref().is_ok_and(|s| s.mem_pages == 0);
            let high = if clamped { (*after).max(0) * page } else { 0 };
            parts.push(part(
                "per_cpu_reserve",
                Some(0),
                Some(high),
                format!("read on {cpus} CPUs and counted, so that nothing of it is left"),
            ));
        }
        Reserve::Bounded {
            pages_per_cpu,
            cpus,
            ..
        } => {
            let bytes = signed(*pages_per_cpu) * i64::from(*cpus) * page;
            parts.push(part(
                "per_cpu_reserve",
                Some(-bytes),
                Some(bytes),
                format!("{pages_per_cpu} pages on each of {cpus} CPUs that sockstat does not show"),
            ));
        }
    }
    if let (Ok(before), Ok(after)) = (&facts.before, &facts.after) {
        let bytes = moved(before, after, facts) * page;
        parts.push(part(
            "moved_while_reading",
            Some(-bytes),
            Some(bytes),
            "by how much the sum changed while the sockets were read".into(),
        ));
    }
    parts.push(uncharged(whole, page));
    if facts.limits.bypass_prot_mem == Some(true) {
        parts.push(part(
            "bypass_prot_mem",
            None,
            Some(0),
            "net.core.bypass_prot_mem is on: sockets made since are not in tcp_mem at all".into(),
        ));
    }
    let missing = whole
        .inventory()
        .namespaces
        .iter()
        .filter(|n| n.missing.is_some())
        .count();
    if missing > 0 {
        parts.push(part(
            "other_namespaces",
            Some(0),
            None,
            format!("{missing} network namespaces could not be read, or not wholly; or there may be others"),
        ));
    }
    parts
}

/// Sockets whose sum is not whole pages hold something that is counted but not charged: skbs
/// with transmit timestamps on the error queue (in `rmem_alloc`), user pages of zerocopy sends (in
/// `wmem_queued`, from 5.16). Sums move page by page otherwise.
fn uncharged(whole: &Snapshot<'_>, page: i64) -> Part {
    let odd = whole.entries().filter(|e| {
        e.protocol() == Protocol::Tcp && e.resident().is_some_and(|r| signed(r) % page != 0)
    });
    let (count, bytes) = odd.fold((0u64, 0i64), |(n, sum), e| {
        (n + 1, sum + signed(e.resident().unwrap_or(0)))
    });
    Part {
        name: "uncharged_skbs",
        low: Some(-bytes),
        high: Some(0),
        note: format!(
            "{count} sockets whose sum is not whole pages: they hold error-queue or zerocopy data, which is counted \
             and not charged, or were read in motion"
        ),
    }
}

fn judge(bytes: &Known<i64>, range: (Option<i64>, Option<i64>), page: i64) -> (Verdict, String) {
    let left = match bytes {
        Err(why) => return (Verdict::Unknown, format!("Not known: {why}.")),
        Ok(left) => *left,
    };
    let (low, high) = range;
    let pages = |b: i64| format!("{} pages", b / page);
    if high.is_some_and(|high| left > high) {
        let high = high.unwrap_or(0);
        let text = format!(
            "Suspected accounting leak: {} are charged to no socket, and at most {} can be explained. Also \
             looks like this: memory of MPTCP, kTLS and sockmap, which sock_diag does not show.",
            pages(left),
            pages(high)
        );
        return (Verdict::SuspectedLeak, text);
    }
    if low.is_some_and(|low| left < low) {
        let low = low.unwrap_or(0);
        let text = format!(
            "The sockets hold {} more than is charged, and at most {} can be explained. Zerocopy data in whole \
             pages, and sockets that bypass tcp_mem (7.x, set by BPF), look like this.",
            pages(-left),
            pages(-low)
        );
        return (Verdict::MoreThanCharged, text);
    }
    if low.is_none() || high.is_none() {
        let text = "There is no bound, because not everything that is charged could be read: see the parts.";
        return (Verdict::Unbounded, text.into());
    }
    (Verdict::Explained, "Within its bound.".into())
}
