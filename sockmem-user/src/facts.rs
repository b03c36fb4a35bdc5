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

/// A sysctl that limits socket memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Setting {
    /// `net.ipv4.tcp_mem`: low, pressure, high. Pages, of the whole host.
    TcpMem,
    /// `net.ipv4.tcp_rmem`: minimum, initial `sk_rcvbuf`, ceiling of autotuning. Bytes, of a
    /// network namespace.
    TcpRmem,
    /// `net.ipv4.tcp_wmem`: the same for `sk_sndbuf`.
    TcpWmem,
    /// `net.core.rmem_max`: ceiling of SO_RCVBUF. Bytes.
    RmemMax,
    /// `net.core.wmem_max`: ceiling of SO_SNDBUF. Bytes.
    WmemMax,
}

impl Setting {
    /// All of them.
    pub const ALL: [Setting; 5] = [
        Setting::TcpMem,
        Setting::TcpRmem,
        Setting::TcpWmem,
        Setting::RmemMax,
        Setting::WmemMax,
    ];

    /// Its name, as sysctl(8) has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Setting::TcpMem => "net.ipv4.tcp_mem",
            Setting::TcpRmem => "net.ipv4.tcp_rmem",
            Setting::TcpWmem => "net.ipv4.tcp_wmem",
            Setting::RmemMax => "net.core.rmem_max",
            Setting::WmemMax => "net.core.wmem_max",
        }
    }

    /// The last part of its name.
    #[must_use]
    pub fn file(self) -> &'static str {
        self.name().rsplit('.').next().unwrap_or_default()
    }

    /// Whether each network namespace has one of its own.
    #[must_use]
    pub fn is_of_namespace(self) -> bool {
        matches!(self, Setting::TcpRmem | Setting::TcpWmem)
    }
}

/// A setting's value at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingValue {
    /// Which.
    pub setting: Setting,
    /// Whose: a network namespace by inode number, 0 for the whole host.
    pub netns: u32,
    /// Its numbers, one or three.
    pub values: Vec<u64>,
}

/// Names of the counters in [`NetCounters`], as in the `TcpExt` lines of `/proc/net/netstat`.
pub const KERNEL_COUNTERS: [&str; 6] = [
    "PruneCalled",
    "RcvPruned",
    "OfoPruned",
    "TCPRcvCollapsed",
    "TCPMemoryPressures",
    "TCPMemoryPressuresChrono",
];

/// The kernel's own counters of one network namespace; `None` is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetCounters {
    /// Inode number of the namespace.
    pub netns: u32,
    /// In the order of [`KERNEL_COUNTERS`]. The last one is milliseconds.
    pub values: [Option<u64>; KERNEL_COUNTERS.len()],
}

/// Limits and counters of the host at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostSample {
    /// `CLOCK_MONOTONIC`.
    pub at_ns: u64,
    /// The settings that could be read.
    pub settings: Vec<SettingValue>,
    /// By network namespace.
    pub counters: Vec<NetCounters>,
    /// Pages charged to TCP, all sockets of the host (`mem` in `/proc/net/sockstat`).
    pub tcp_pages: Option<u64>,
    /// Whether TCP is under memory pressure (`press` in `/proc/net/protocols`).
    pub under_pressure: Option<bool>,
}

impl HostSample {
    /// Whether anything differs that a trace tells of.
    #[must_use]
    pub fn differs(&self, other: &HostSample) -> bool {
        self.settings != other.settings
            || self.counters != other.counters
            || self.under_pressure != other.under_pressure
    }
}
