//! What a trace says of itself, and what was read of the host: plain types that every layer
//! shares, at the bottom of all.
//!
//! * here: tier, coverage, loss.
//! * `socket`: one socket as sock_diag describes it. * `inventory`: all of them, and whose they are.
//! * `memory`: what the host reports about memory.

pub mod inventory;
pub mod memory;
pub mod socket;

/// How a counter's values were obtained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Coverage {
    /// Every change was observed when it happened.
    Exact,
    /// Read at intervals; changes in between are not seen.
    Sampled,
}

/// Which kind of hook the trace rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// fentry/fexit and BTF tracepoints.
    Fentry,
    /// kprobes and kretprobes.
    Kprobe,
    /// Tracepoints alone.
    Tracepoint,
}

/// Every counter that can be covered, by its name. A recording names counters by text; those of
/// this list are known to this version.
pub const COUNTERS: &[&str] = &[
    "rmem_alloc",
    "wmem_queued",
    "forward_alloc",
    "resident",
    "rcvbuf",
    "sndbuf",
    "wmem_alloc",
    "backlog",
    "optmem",
];

impl Tier {
    /// All of them.
    pub const ALL: [Tier; 3] = [Tier::Fentry, Tier::Kprobe, Tier::Tracepoint];

    /// The name used in JSON and by `--tier`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Tier::Fentry => "fentry",
            Tier::Kprobe => "kprobe",
            Tier::Tracepoint => "tracepoint",
        }
    }
}

/// Changes seen and what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    /// Changes seen by the programs.
    pub seen: u64,
    /// Sent as events.
    pub sent: u64,
    /// Folded into a later event of the same socket (coalesced mode).
    pub merged: u64,
    /// Not sent: the ring buffer was full. Costs detail, never totals.
    pub dropped_ring: u64,
    /// Sockets not traced: the state map was full.
    pub dropped_map: u64,
    /// Closed sockets whose totals are missing.
    pub lost_closed: u64,
    /// Program runs the kernel skipped because one was already running on that CPU.
    pub recursion_misses: Option<u64>,
}
