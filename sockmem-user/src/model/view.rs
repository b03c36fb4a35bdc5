//! What every sink renders: one immutable picture of the trace at one moment.
//! Sizes are bytes, times nanoseconds; `None` means not known, never zero.

use std::collections::BTreeMap;

use sockmem_common::Reason;

pub use crate::facts::{Coverage, Loss, Tier};

/// Who a socket belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OwnerKind {
    /// A process holds it open.
    Process,
    /// Waits in its listener's accept queue.
    Listener,
    /// Closed by its process, still alive in the kernel.
    Orphan,
    /// Not known.
    Unknown,
}

impl OwnerKind {
    /// The name used in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            OwnerKind::Process => "process",
            OwnerKind::Listener => "listener",
            OwnerKind::Orphan => "orphan",
            OwnerKind::Unknown => "unknown",
        }
    }
}

/// Who a socket belongs to, with names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerView {
    /// Thread-group id; for a listener's child the listener's, for an orphan the last one.
    pub pid: Option<u32>,
    /// As the kernel gives it; unescaped.
    pub comm: Option<String>,
    /// Path in the cgroup hierarchy; unescaped.
    pub cgroup: Option<String>,
    /// What the relation is.
    pub kind: OwnerKind,
}

/// Answers to "do buffers stay resident while idle, or grow only with traffic?".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    /// Memory comes and goes with traffic; idle connections hold (almost) nothing.
    TrafficDriven,
    /// Idle connections hold memory.
    ResidentWhileIdle,
    /// Memory grew throughout the trace and did not come back.
    Growing,
    /// Too little idle time was seen to tell.
    NotEnoughIdleTime,
}

impl Answer {
    /// The name used in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Answer::TrafficDriven => "traffic-driven",
            Answer::ResidentWhileIdle => "resident-while-idle",
            Answer::Growing => "growing",
            Answer::NotEnoughIdleTime => "not-enough-idle-time",
        }
    }
}

/// The name of a reason in JSON and text; `None` is `"none"`.
#[must_use]
pub fn reason_name(reason: Option<Reason>) -> &'static str {
    match reason {
        Some(Reason::Unread) => "unread",
        Some(Reason::Unacked) => "unacked",
        Some(Reason::Unsent) => "unsent",
        Some(Reason::OutOfOrder) => "out-of-order",
        Some(Reason::Reserved) => "reserved",
        None => "none",
    }
}

/// An answer with its numbers and, in words, its reasons.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The answer.
    pub answer: Answer,
    /// The answer in plain words, one to a few sentences, with the numbers it rests on.
    pub text: String,
    /// Mean bytes held while idle (over sockets: the sum of their means); `None` without idle time.
    pub idle_resident_mean_bytes: Option<u64>,
    /// Most bytes held by one socket while idle; `None` without idle time.
    pub idle_resident_max_bytes: Option<u64>,
    /// The mean by reason; reasons that held nothing are left out.
    pub reasons: BTreeMap<Reason, u64>,
}

/// Which limit changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// `sk_rcvbuf`.
    Rcvbuf,
    /// `sk_sndbuf`.
    Sndbuf,
    /// `sk_reserved_mem` (SO_RESERVE_MEM).
    ReservedMem,
    /// `tcp_sock.window_clamp` (TCP_WINDOW_CLAMP).
    WindowClamp,
    /// `tcp_sock.notsent_lowat` (TCP_NOTSENT_LOWAT).
    NotsentLowat,
}

/// What changed a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitCause {
    /// The application set it: the call was seen, or `SOCK_RCVBUF_LOCK` or `SOCK_SNDBUF_LOCK` is on.
    Setsockopt,
    /// The kernel raised it.
    Autotune,
    /// The kernel lowered it.
    Clamp,
    /// Not known.
    Unknown,
}

/// Who did something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct By {
    /// Thread-group id, in the initial pid namespace.
    pub pid: u32,
    /// As the kernel gives it; unescaped.
    pub comm: Option<String>,
}

/// A limit changed, or was set to what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitChange {
    /// When; `CLOCK_MONOTONIC`.
    pub at_ns: u64,
    /// Which.
    pub what: Limit,
    /// Bytes before.
    pub from: u32,
    /// Bytes after.
    pub to: u32,
    /// By what.
    pub cause: LimitCause,
    /// Whether the call itself was seen; else the change was found between two readings, and its
    /// cause derived from the lock flags.
    pub observed: bool,
    /// The option that was set (`"SO_RCVBUF"`); `None` unless the call was seen.
    pub option: Option<&'static str>,
    /// The value given to it; `None` where it could not be read.
    pub asked: Option<i32>,
    /// Who made the call.
    pub by: Option<By>,
}

/// One bucket of a timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Start; `CLOCK_MONOTONIC`.
    pub start_ns: u64,
    /// Lowest `resident` in it.
    pub min: u64,
    /// Highest `resident` in it.
    pub max: u64,
    /// `resident` at its end.
    pub last: u64,
}

/// One socket.
#[derive(Clone, Debug, PartialEq)]
pub struct SocketView {
    /// Identity within the trace.
    pub id: u64,
    /// `sk_cookie`.
    pub cookie: Option<u64>,
    /// Inode of its file; `None` without a file.
    pub inode: Option<u64>,
    /// `"tcp"`.
    pub protocol: &'static str,
    /// `"inet"` or `"inet6"`.
    pub family: &'static str,
    /// TCP state, as `ss` names it in JSON's form (`"ESTABLISHED"`, `"CLOSE_WAIT"`, …).
    pub state: &'static str,
    /// `address:port`, IPv6 in brackets.
    pub local: String,
    /// `address:port`, IPv6 in brackets.
    pub remote: String,
    /// Inode number of its network namespace.
    pub netns: Option<u32>,
    /// Whose it is.
    pub owner: OwnerView,
    /// `sk_backlog.rmem_alloc`.
    pub rmem_alloc: u64,
    /// `sk_rcvbuf`: a limit.
    pub rcvbuf: Option<u64>,
    /// `sk_wmem_alloc` without its bias.
    pub wmem_alloc: Option<u64>,
    /// `sk_sndbuf`: a limit.
    pub sndbuf: Option<u64>,
    /// `sk_forward_alloc`.
    pub forward_alloc: i64,
    /// `sk_wmem_queued`.
    pub wmem_queued: u64,
    /// `sk_omem_alloc`.
    pub optmem: Option<u64>,
    /// `sk_backlog.len`.
    pub backlog: Option<u64>,
    /// `sk_drops`.
    pub drops: Option<u64>,
    /// `rmem_alloc + wmem_queued + forward_alloc`.
    pub resident: u64,
    /// `rcv_nxt - copied_seq`; `None` for a listener.
    pub unread_bytes: Option<u64>,
    /// `write_seq - snd_una`; `None` for a listener.
    pub unacked_bytes: Option<u64>,
    /// Change of `resident` per second over the last interval.
    pub rate_bytes_per_s: Option<i64>,
    /// When the trace first saw it; `CLOCK_MONOTONIC`.
    pub first_seen_ns: u64,
    /// When it was last observed (now, or when it was destroyed); `CLOCK_MONOTONIC`.
    pub last_seen_ns: u64,
    /// Whether it was destroyed.
    pub closed: bool,
    /// Highest `resident`.
    pub resident_peak_bytes: u64,
    /// Highest `rmem_alloc`.
    pub rmem_peak_bytes: u64,
    /// Highest `wmem_queued`.
    pub wmem_queued_peak_bytes: u64,
    /// Exact mean of `resident` over the time it was seen; `None` over no time.
    pub resident_mean_bytes: Option<u64>,
    /// Time since payload last moved.
    pub quiet_ns: u64,
    /// Whether that makes it idle now.
    pub idle: bool,
    /// Total time spent idle.
    pub idle_ns: u64,
    /// Exact mean of `resident` over idle time; `None` without idle time.
    pub idle_resident_mean_bytes: Option<u64>,
    /// Highest `resident` while idle; `None` without idle time.
    pub idle_resident_max_bytes: Option<u64>,
    /// The reason that held most while idle.
    pub idle_reason: Option<Reason>,
    /// Exact mean over idle time, by reason.
    pub idle_reasons: BTreeMap<Reason, u64>,
    /// `resident` when first seen; `baseline + charged - released == resident`.
    pub baseline_bytes: u64,
    /// Sum of increases of `resident` since first seen.
    pub charged_bytes: u64,
    /// Sum of decreases.
    pub released_bytes: u64,
    /// Observed changes.
    pub changes: u64,
    /// This socket's answer.
    pub verdict: Answer,
    /// Changes of its limits, oldest first.
    pub limits: Vec<LimitChange>,
    /// `resident` over time, oldest first.
    pub timeline: Vec<Bucket>,
}

/// Sums over sockets that are alive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// How many.
    pub sockets: u64,
    /// How many of them are idle now.
    pub idle_sockets: u64,
    /// Sum of `resident`.
    pub resident: u64,
    /// Sum of `rmem_alloc`.
    pub rmem_alloc: u64,
    /// Sum of `wmem_queued`.
    pub wmem_queued: u64,
    /// Sum of `forward_alloc`.
    pub forward_alloc: i64,
    /// Sum of `backlog`; `None` where not known of some.
    pub backlog: Option<u64>,
    /// Sum of unread payload.
    pub unread_bytes: u64,
    /// Sum of unacknowledged payload.
    pub unacked_bytes: u64,
    /// Sum of `resident` of the sockets that are idle now.
    pub idle_resident: u64,
}

/// The sockets of one owner: a process, the unaccepted children of its listeners, its orphans.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupView {
    /// Whose.
    pub owner: OwnerView,
    /// For a listener's children the listener's address; else `None`.
    pub listener: Option<String>,
    /// Whether the process has ended.
    pub exited: bool,
    /// Sums now.
    pub totals: Totals,
    /// Sockets seen over the whole trace, closed ones included.
    pub sockets_seen: u64,
    /// Highest sum of `resident`, at the resolution of the events received.
    pub resident_peak_bytes: u64,
    /// Exact mean of the sum of `resident` over the trace; `None` over no time.
    pub resident_mean_bytes: Option<u64>,
    /// Sum of increases.
    pub charged_bytes: u64,
    /// Sum of decreases.
    pub released_bytes: u64,
    /// The group's answer.
    pub verdict: Verdict,
    /// Sum of `resident` over time.
    pub timeline: Vec<Bucket>,
}

/// Powers of two that skb sizes are told apart by: up to 4 MiB and more.
pub const OCTAVES: usize = 23;

/// skb sizes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TruesizeView {
    /// skbs counted.
    pub count: u64,
    /// Median `skb->truesize`, within 3.2 %.
    pub p50: u64,
    /// Within 3.2 %.
    pub p90: u64,
    /// Within 3.2 %.
    pub p99: u64,
    /// Largest.
    pub max: u64,
    /// skbs by power of two: at index `i` those of `2^i` to below `2^(i+1)` bytes (at 0 also
    /// those of 0).
    pub octaves: [u64; OCTAVES],
    /// Sum of truesize divided by sum of payload; `None` where no payload was counted.
    pub payload_ratio: Option<f64>,
}

/// What kind of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventKind {
    /// One of the sysctls that limit socket memory changed.
    Sysctl,
    /// TCP entered memory pressure.
    EnterPressure,
    /// TCP left it.
    LeavePressure,
    /// A charge ran into TCP's memory limits (`sock_exceed_buf_limit`).
    ExceedLimit,
    /// A datagram was dropped at a full receive queue (`sock_rcvqueue_full`).
    RcvqueueFull,
    /// A receive queue over its limit lost its out-of-order data.
    PruneOfo,
    /// A receive queue over its limit, with no out-of-order data: what arrives is dropped.
    PruneRcv,
    /// A receive queue over its limit was collapsed.
    Collapse,
}

impl EventKind {
    /// The name used in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            EventKind::Sysctl => "sysctl",
            EventKind::EnterPressure => "enter-memory-pressure",
            EventKind::LeavePressure => "leave-memory-pressure",
            EventKind::ExceedLimit => "exceed-buf-limit",
            EventKind::RcvqueueFull => "rcvqueue-full",
            EventKind::PruneOfo => "prune-ofo",
            EventKind::PruneRcv => "prune-rcv",
            EventKind::Collapse => "collapse",
        }
    }
}

/// The socket that an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventSocket {
    /// `sk_cookie`.
    pub cookie: Option<u64>,
    /// `address:port`.
    pub local: String,
    /// `address:port`.
    pub remote: String,
    /// Whose it was.
    pub owner: OwnerView,
    /// `sk_backlog.rmem_alloc` at that moment.
    pub rmem_alloc: u64,
    /// `sk_rcvbuf` at that moment: a limit.
    pub rcvbuf: u64,
}

/// What one owner's sockets held at some moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldBy {
    /// Whose.
    pub owner: OwnerView,
    /// For a listener's children its address.
    pub listener: Option<String>,
    /// Sum of `resident`.
    pub resident: u64,
    /// How many sockets.
    pub sockets: u64,
}

/// Something happened that concerns more than one socket's counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventView {
    /// When; `CLOCK_MONOTONIC`. Of one that was sampled: when it was noticed, unless the kernel
    /// tells better.
    pub at_ns: u64,
    /// What.
    pub kind: EventKind,
    /// Whether it was seen when it happened; else it was found between two samples.
    pub observed: bool,
    /// How many it stands for.
    pub count: u64,
    /// Which socket; `None` where it is not traced, or none is concerned.
    pub socket: Option<EventSocket>,
    /// `"send"` or `"receive"`, of a charge.
    pub direction: Option<&'static str>,
    /// Pages charged to TCP, of the whole host.
    pub allocated_pages: Option<u64>,
    /// `tcp_mem` at that moment: low, pressure, high. Pages.
    pub tcp_mem_pages: Option<[u64; 3]>,
    /// How long memory pressure lasted, by the kernel's own count.
    pub lasted_ns: Option<u64>,
    /// Name of the sysctl.
    pub name: Option<&'static str>,
    /// Its network namespace; `None` for the whole host.
    pub netns: Option<u32>,
    /// Its numbers before.
    pub from: Vec<u64>,
    /// Its numbers after.
    pub to: Vec<u64>,
    /// Who wrote it.
    pub by: Option<By>,
    /// Sum of `resident` of the traced sockets at that moment.
    pub held_resident: u64,
    /// How many those were.
    pub held_sockets: u64,
    /// The owners that held most of it.
    pub held_by: Vec<HeldBy>,
}

/// The whole picture.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// Start of the trace; `CLOCK_REALTIME`.
    pub start_unix_ns: u64,
    /// Start of the trace; `CLOCK_MONOTONIC`, as all times below.
    pub start_mono_ns: u64,
    /// This moment; `CLOCK_REALTIME`.
    pub now_unix_ns: u64,
    /// Length of the trace.
    pub duration_ns: u64,
    /// Kind of hooks.
    pub tier: Tier,
    /// How each counter was obtained, by the counter's name.
    pub coverage: BTreeMap<&'static str, Coverage>,
    /// What became of the changes.
    pub loss: Loss,
    /// `--idle-after`.
    pub idle_after_ns: u64,
    /// Whether this kernel keeps `forward_alloc` on idle sockets (before 6.0), as observed or
    /// told by the loader; `None` where not known.
    pub keeps_forward_alloc: Option<bool>,
    /// By owner, largest `resident` first.
    pub groups: Vec<GroupView>,
    /// Live sockets, largest `resident` first.
    pub sockets: Vec<SocketView>,
    /// Sockets destroyed during the trace, largest peak first; the oldest are dropped
    /// from this list beyond its bound, never from the sums.
    pub closed: Vec<SocketView>,
    /// Sums over live sockets.
    pub totals: Totals,
    /// Sum of `resident` over time.
    pub timeline: Vec<Bucket>,
    /// Highest sum of `resident`, at the resolution of the events received.
    pub resident_peak_bytes: u64,
    /// The answer.
    pub verdict: Verdict,
    /// Memory pressure and changes of sysctls, oldest first; of each kind the first and the last
    /// ones.
    pub events: Vec<EventView>,
    /// How many there were of each kind that happened, listed or not.
    pub event_counts: BTreeMap<EventKind, u64>,
    /// Records of set limits and written sysctls that the ring had no room for.
    pub events_lost: u64,
    /// What the kernel itself counted since the trace began, in the network namespaces concerned:
    /// by name (`/proc/net/netstat`); without those that are not known.
    pub kernel_counters: BTreeMap<&'static str, u64>,
    /// skb sizes; `None` where not counted.
    pub truesize: Option<TruesizeView>,
    /// Time from the first byte queued to an empty queue, by socket and direction, p50/p99/max
    /// in nanoseconds; `None` where none was seen.
    pub drain_ns: Option<(u64, u64, u64)>,
    /// skbs by truesize: the lowest of a range that reaches to its double, and how many.
    pub truesize_ranges: Vec<(u64, u64)>,
    /// Queues by how long they took to empty: the lowest of a range (1, 3, 10, 30 ... ns), and how
    /// many.
    pub drain_ranges: Vec<(u64, u64)>,
}
