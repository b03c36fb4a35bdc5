//! Readings that the numbers at hand invite, and that are wrong.

use super::Statement;
use crate::facts::memory::{MemoryFacts, Reserve};

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lint {
    /// Its name in JSON.
    pub name: &'static str,
    /// What would be misread, and how it is.
    pub text: String,
}

/// From this much on a sum of ceilings looks like a lot.
const CEILINGS_WORTH: u64 = 1 << 20;
/// From this much on memory is looked for in the wrong places.
const MEMORY_WORTH: u64 = 1 << 20;

/// Those that this statement invites.
#[must_use]
pub fn lints(s: &Statement, facts: &MemoryFacts) -> Vec<Lint> {
    let mut found = Vec::new();
    let mut say = |name, text: String| found.push(Lint { name, text });
    if let Ok(t) = &s.target {
        let c = &s.ceilings;
        let ceilings = c.rcvbuf_sum + c.sndbuf_sum;
        if ceilings >= CEILINGS_WORTH && ceilings > t.resident.saturating_mul(4) {
            say(
                "limits-are-not-usage",
                format!(
                    "rb and tb of ss (rcvbuf, sndbuf) add up to {ceilings} bytes over these {} sockets. They are \
                     ceilings: {} bytes are charged.",
                    c.sockets, t.resident
                ),
            );
        }
        if t.wmem_queued > 0 && t.wmem_alloc < t.wmem_queued / 2 {
            say(
                "t-is-not-the-send-queue",
                format!(
                    "t of ss (wmem_alloc) is {} bytes here while w (wmem_queued) is {}: t is what lies below TCP and \
                     overlaps w. Unacknowledged data is in w.",
                    t.wmem_alloc, t.wmem_queued
                ),
            );
        }
        let payload = t.unread_bytes + t.unacked_bytes;
        if payload > 0 && t.resident >= payload.saturating_mul(2) {
            say(
                "recv-q-is-payload",
                format!(
                    "Recv-Q and Send-Q of ss are payload: {payload} bytes here, for which {} bytes are charged. A \
                     single byte costs a page.",
                    t.resident
                ),
            );
        }
        if t.resident >= MEMORY_WORTH {
            say(
                "not-in-res-or-cache",
                format!(
                    "{} bytes of buffers are in nobody's RES and not in buff/cache: `top` and `free` cannot show \
                     whose they are.",
                    t.resident
                ),
            );
        }
        if facts.gives_back == Some(false) && t.forward_alloc >= i64::from(1u32 << 20) {
            say(
                "forward-alloc-stays",
                format!(
                    "{} bytes are forward_alloc: charged against tcp_mem, backed by no page. Before 6.0 they stay \
                     with an idle socket until traffic, memory pressure or its end.",
                    t.forward_alloc
                ),
            );
        }
    }
    if let Ok(sums) = &facts.after {
        if !matches!(facts.reserve, Reserve::Absent) {
            let shown = sums.mem_pages.saturating_mul(facts.page_size);
            let off = shown.abs_diff(s.all.resident);
            if off > s.all.resident / 10 && off > 0 {
                say(
                    "sockstat-is-not-exact",
                    format!(
                        "sockstat says {} pages, the sockets have {}: from 6.0 on each CPU holds some back. It is not \
                         right to the page, and at low use not even near.",
                        sums.mem_pages,
                        s.all.resident / facts.page_size.max(1)
                    ),
                );
            }
        }
        let here = sums.inuse + sums.inuse6.unwrap_or(0);
        if sums.alloc > here + sums.tw + 16 {
            say(
                "sockstat-mixes-scopes",
                format!(
                    "sockstat: inuse {here} is this network namespace's, alloc {} the whole host's, and so are orphan \
                     and mem. The difference is other namespaces, and sockets that are closed or not yet connected.",
                    sums.alloc
                ),
            );
        }
        if let Some([_, pressure, _]) = facts.limits.tcp_mem
            && sums.mem_pages >= pressure
        {
            say(
                "under-pressure",
                format!(
                    "TCP mem is {} pages, above the pressure mark of tcp_mem ({pressure}): windows shrink and buffers are \
                     pruned.",
                    sums.mem_pages
                ),
            );
        }
    }
    if let Ok(fixed) = &s.fixed {
        let misleading: Vec<String> = fixed
            .objects
            .iter()
            .filter(|o| o.name != o.cache)
            .map(|o| format!("{} is counted under {}", o.name, o.cache))
            .collect();
        if !misleading.is_empty() {
            say(
                "slab-names-are-merged",
                format!(
                    "Caches were merged, and slabinfo names them after one of their users: {}.",
                    misleading.join(", ")
                ),
            );
        }
    }
    found
}
