//! Where the memory of TCP sockets is reported: from payload to the hole in MemFree, each step
//! with its source, and what the steps do not explain. Pure: made from an `Inventory` and
//! `MemoryFacts` that belong together.
//!
//! * here: the steps. * `remainder`: sockstat against the sockets. * `fixed`: slab objects of a
//!   connection. * `lint`: readings that the numbers invite and that are wrong.

mod fixed;
mod lint;
mod remainder;
#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;

pub use fixed::{Cost, Fixed, Object};
pub use lint::{Lint, lints};
pub use remainder::{Part, Remainder, Verdict};

use crate::facts::inventory::{Inventory, Selection};
use crate::facts::memory::{Known, MemoryFacts};
use crate::facts::socket::{AF_INET6, Protocol};
use crate::model::snapshot::{Snapshot, Sums};

/// One line of the statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its name in JSON.
    pub name: &'static str,
    /// Its name for people.
    pub title: String,
    /// Bytes; not known, with the reason, where it could not be read.
    pub bytes: Known<i64>,
    /// File and field, or how it is derived.
    pub source: String,
    /// Part of a process's RES.
    pub in_res: bool,
    /// Part of buff/cache.
    pub in_buff_cache: bool,
    /// Part of Slab.
    pub in_slab: bool,
    /// What is to be known about it.
    pub note: String,
}

/// Limits of the sockets that are meant: ceilings, never usage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ceilings {
    /// Sockets.
    pub sockets: u64,
    /// Sum of `rcvbuf`.
    pub rcvbuf_sum: u64,
    /// Sum of `sndbuf`.
    pub sndbuf_sum: u64,
    /// Most of one socket.
    pub rcvbuf_max: u64,
    /// Most of one socket.
    pub sndbuf_max: u64,
}

/// The statement.
#[derive(Clone, Debug)]
pub struct Statement {
    /// The lines, from payload to MemFree.
    pub steps: Vec<Step>,
    /// The sockets that are meant.
    pub target: Known<Sums>,
    /// Every TCP socket that was read.
    pub all: Sums,
    /// Namespaces read, and those that were not, with the reasons.
    pub namespaces: u64,
    /// See `namespaces`.
    pub namespaces_missing: Vec<String>,
    /// What sockstat has beyond the sockets.
    pub remainder: Remainder,
    /// Slab objects.
    pub fixed: Known<Fixed>,
    /// Limits of the sockets that are meant.
    pub ceilings: Ceilings,
    /// Wrong readings.
    pub lints: Vec<Lint>,
}

impl Statement {
    /// Draws it up. `blind` says why the target's own sockets are not known, where they are not.
    #[must_use]
    pub fn new(
        inventory: &Inventory,
        selection: &Selection,
        facts: &MemoryFacts,
        blind: Option<&str>,
    ) -> Self {
        let everything = Selection {
            all: true,
            ..Selection::default()
        };
        let whole = Snapshot::new(inventory, &everything);
        let meant = Snapshot::new(inventory, selection);
        let target = match blind {
            Some(why) => Err(why.to_owned()),
            None => Ok(meant.totals),
        };
        let remainder = Remainder::of(&whole, facts);
        let fixed = Fixed::of(facts);
        let mut statement = Statement {
            steps: Vec::new(),
            target,
            all: whole.totals,
            namespaces: inventory.namespaces.len() as u64,
            namespaces_missing: inventory
                .namespaces
                .iter()
                .filter_map(|n| Some(format!("{}: {}", n.via, n.missing.as_deref()?)))
                .collect(),
            remainder,
            fixed,
            ceilings: ceilings(&meant),
            lints: Vec::new(),
        };
        statement.steps = steps(&statement, &meant, facts);
        statement.lints = lints(&statement, facts);
        statement
    }
}

fn ceilings(meant: &Snapshot<'_>) -> Ceilings {
    let mut c = Ceilings::default();
    for e in meant.entries().filter(|e| e.protocol() == Protocol::Tcp) {
        if let Some(m) = e.mem() {
            c.sockets += 1;
            c.rcvbuf_sum += u64::from(m.rcvbuf);
            c.sndbuf_sum += u64::from(m.sndbuf);
            c.rcvbuf_max = c.rcvbuf_max.max(u64::from(m.rcvbuf));
            c.sndbuf_max = c.sndbuf_max.max(u64::from(m.sndbuf));
        }
    }
    c
}

/// A line of what no tool for processes or caches shows.
fn nowhere(
    name: &'static str,
    title: impl Into<String>,
    bytes: Known<i64>,
    source: impl Into<String>,
    note: impl Into<String>,
) -> Step {
    Step {
        name,
        title: title.into(),
        bytes,
        source: source.into(),
        in_res: false,
        in_buff_cache: false,
        in_slab: false,
        note: note.into(),
    }
}

fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn steps(s: &Statement, meant: &Snapshot<'_>, facts: &MemoryFacts) -> Vec<Step> {
    let of_target = |get: fn(&Sums) -> i64| s.target.as_ref().map(get).map_err(Clone::clone);
    let page = signed(facts.page_size);
    let mut steps = vec![
        nowhere(
            "payload",
            "payload: unread and unacknowledged",
            of_target(|t| signed(t.unread_bytes) + signed(t.unacked_bytes)),
            "sock_diag idiag_rqueue + idiag_wqueue (ss: Recv-Q, Send-Q)",
            "What applications wrote or have yet to read. Data out of order is not counted.",
        ),
        nowhere(
            "truesize",
            "truesize: the buffers that carry it",
            of_target(|t| signed(t.rmem_alloc) + signed(t.wmem_queued)),
            "sock_diag SKMEMINFO rmem_alloc + wmem_queued (ss: r + w)",
            "Whole buffers with their heads. Heads and small data are slab objects (SUnreclaim); the \
             pages that carry large payload are in no line of meminfo.",
        ),
        nowhere(
            "forward_alloc",
            "charged beyond: whole pages",
            of_target(|t| t.forward_alloc),
            "sock_diag SKMEMINFO forward_alloc (ss: f)",
            match facts.gives_back {
                Some(true) => "Rounds each socket's charge to pages; this kernel returns the rest at once.",
                Some(false) => {
                    "Rounds each socket's charge to pages. This kernel (before 6.0) may keep up to 2 MiB a \
                     socket charged while it is idle: a credit against tcp_mem, not pages."
                }
                None => "Rounds each socket's charge to pages; before 6.0 up to 2 MiB may stay.",
            },
        ),
        nowhere(
            "target",
            "= charged to the target's sockets",
            of_target(|t| signed(t.resident)),
            "sum over the target's sockets of rmem_alloc + wmem_queued + forward_alloc",
            s.target.as_ref().map_or_else(
                |why| format!("Not known: {why}"),
                |t| {
                    format!(
                        "{} sockets, of which {} wait to be accepted ({} bytes) and {} are orphans ({} bytes).",
                        t.sockets, t.unaccepted, t.unaccepted_resident, t.orphans, t.orphans_resident
                    )
                },
            ),
        ),
        nowhere(
            "all_sockets",
            "= charged to all TCP sockets",
            Ok(signed(s.all.resident)),
            "the same over every TCP socket in every network namespace",
            format!(
                "{} sockets in {} of {} namespaces; {} wait to be accepted ({} bytes), {} are orphans ({} bytes).",
                s.all.sockets,
                s.namespaces - s.namespaces_missing.len() as u64,
                s.namespaces,
                s.all.unaccepted,
                s.all.unaccepted_resident,
                s.all.orphans,
                s.all.orphans_resident
            ),
        ),
        reserve(s),
        nowhere(
            "sockstat_mem",
            "reported as TCP mem",
            facts
                .after
                .as_ref()
                .map(|sums| signed(sums.mem_pages).saturating_mul(page))
                .map_err(Clone::clone),
            "/proc/net/sockstat TCP: mem, in pages (tcp_memory_allocated)",
            "Of the whole host and all its namespaces, unlike inuse and tw of the same line.",
        ),
        nowhere(
            "memcg_sock",
            "reported by the control group",
            facts
                .memcg
                .as_ref()
                .map(|m| signed(m.bytes))
                .map_err(Clone::clone),
            facts.memcg.as_ref().map_or_else(
                |_| "memory.stat sock (version 2), memory.kmem.tcp (version 1)".to_owned(),
                |m| m.source.clone(),
            ),
            "Receive and send buffers both, of the sockets whose memory is charged to the group; sockets \
             of the root group are charged to none.",
        ),
    ];
    steps.push(fixed_objects(s, meant));
    steps.push(nowhere(
        "memfree_hole",
        "hole in MemFree: in no line of meminfo",
        facts
            .system
            .as_ref()
            .map(|m| signed(m.in_no_line()))
            .map_err(Clone::clone),
        "/proc/meminfo MemTotal less every line that counts its own pages",
        "Payload pages are in it, beside pages of drivers, of the kernel's image and of all who ask the page \
         allocator directly; and skbs that were read but wait to be freed, charged to nobody.",
    ));
    steps
}

/// The CPUs' shares, as a line between the sockets and sockstat.
fn reserve(s: &Statement) -> Step {
    let r = &s.remainder;
    nowhere(
        "per_cpu_reserve",
        "held back by the CPUs",
        r.reserve_bytes.clone().map(|b| -b),
        "tcp_memory_per_cpu_fw_alloc of each CPU, subtracted",
        r.reserve_note.clone(),
    )
}

/// Slab objects of the sockets that are meant.
fn fixed_objects(s: &Statement, meant: &Snapshot<'_>) -> Step {
    let count = |v6: bool| {
        let of_family = meant
            .entries()
            .filter(|e| (e.socket().family == AF_INET6) == v6);
        of_family.count() as u64
    };
    let bytes = match (&s.target, &s.fixed) {
        (Err(why), _) | (_, Err(why)) => Err(why.clone()),
        (Ok(_), Ok(fixed)) => {
            let cost = |of: &Known<Cost>, n: u64| -> Known<i64> {
                if n == 0 {
                    return Ok(0);
                }
                of.as_ref()
                    .map(|c| signed(c.slab_bytes.saturating_mul(n)))
                    .map_err(Clone::clone)
            };
            cost(&fixed.tcp, count(false)).and_then(|a| Ok(a + cost(&fixed.tcp_v6, count(true))?))
        }
    };
    Step {
        in_slab: true,
        ..nowhere(
            "fixed_objects",
            "beside it: the sockets themselves",
            bytes,
            "/proc/slabinfo: bytes of an object's share of its slab, times the target's sockets",
            "struct sock, inode, file and dentry of each socket, idle or not. No buffers, and not in tcp_mem.",
        )
    }
}
