//! What the programs send through the ring buffer.

use crate::{Counters, SockState};

/// `Header::kind`: a `Change`.
pub const KIND_CHANGE: u8 = 1;
/// `Header::kind`: a `Lifecycle`; the trace saw the socket for the first time.
pub const KIND_OPEN: u8 = 2;
/// `Header::kind`: a `Lifecycle`; the socket was destroyed, totals are final.
pub const KIND_CLOSE: u8 = 3;
/// `Header::kind`: a `Lifecycle`; owner, TCP state or addresses changed.
pub const KIND_OWNER: u8 = 4;
/// `Header::kind`: a `Process`; a traced process forked (`--follow`).
pub const KIND_FORK: u8 = 5;
/// `Header::kind`: a `Process`; a traced process ended.
pub const KIND_EXIT: u8 = 6;

/// `Header::kind`: a `LimitSet`; a setsockopt call on a limit succeeded.
pub const KIND_LIMIT: u8 = 7;
/// `Header::kind`: a `Pressure`; the kernel ran into a limit.
pub const KIND_PRESSURE: u8 = 8;
/// `Header::kind`: a `SysctlWrite`; somebody writes a limit of the whole host.
pub const KIND_SYSCTL: u8 = 9;

/// Starts every record.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// `CLOCK_MONOTONIC` nanoseconds.
    pub t_ns: u64,
    /// `SockState::id`, or the thread-group id in a `Process`.
    pub id: u64,
    /// `KIND_*`.
    pub kind: u8,
    /// `hook::*`: where it was observed.
    pub hook: u8,
    /// Zero.
    pub reserved: u16,
    /// The CPU it was observed on.
    pub cpu: u32,
}

const _: () = assert!(size_of::<Header>() == 24);

/// A socket's counters changed.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// What, when, where.
    pub header: Header,
    /// Absolute values after the change, so that a lost record costs detail and never truth.
    pub after: Counters,
    /// Change of `rmem_alloc` at this observation.
    pub d_rmem_alloc: i32,
    /// Change of `wmem_queued` at this observation.
    pub d_wmem_queued: i32,
    /// Change of `forward_alloc` at this observation.
    pub d_forward_alloc: i32,
    /// Payload received and not read.
    pub unread: u32,
    /// Payload written and not acknowledged.
    pub unacked: u32,
    /// Lowest `resident` since this socket's last record.
    pub resident_min: u32,
    /// Highest `resident` since this socket's last record.
    pub resident_max: u32,
    /// Changes this record stands for: 1 in exact mode, more when coalesced.
    pub merged: u32,
}

const _: () = assert!(size_of::<Change>() == 88);

/// A socket appeared, went, or changed owner, TCP state or addresses.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lifecycle {
    /// What, when, where.
    pub header: Header,
    /// The whole state.
    pub state: SockState,
}

const _: () = assert!(size_of::<Lifecycle>() == 24 + size_of::<SockState>());

/// A process appeared or ended.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// What, when, where; `id` is the thread-group id.
    pub header: Header,
    /// Its parent's thread-group id (fork), else 0.
    pub parent: u32,
    /// Zero.
    pub reserved: u32,
    /// NUL-padded.
    pub comm: [u8; 16],
}

const _: () = assert!(size_of::<Process>() == 48);

/// `LimitSet::what`: `sk_rcvbuf`.
pub const LIMIT_RCVBUF: u8 = 1;
/// `LimitSet::what`: `sk_sndbuf`.
pub const LIMIT_SNDBUF: u8 = 2;
/// `LimitSet::what`: `sk_reserved_mem` (5.16 and later).
pub const LIMIT_RESERVED_MEM: u8 = 3;
/// `LimitSet::what`: `tcp_sock.window_clamp`.
pub const LIMIT_WINDOW_CLAMP: u8 = 4;
/// `LimitSet::what`: `tcp_sock.notsent_lowat`.
pub const LIMIT_NOTSENT_LOWAT: u8 = 5;

/// `LimitSet::flags`: `asked` could be read.
pub const LIMIT_ASKED: u8 = 1;

/// A setsockopt call on one of a socket's limits succeeded, whether or not the limit changed.
/// `Header::t_ns` is when it returned, `Header::id` the socket's `SockState::id`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitSet {
    /// What, when, where.
    pub header: Header,
    /// When the call began; `CLOCK_MONOTONIC` nanoseconds.
    pub began_ns: u64,
    /// The value that the caller gave, where `flags` has `LIMIT_ASKED`.
    pub asked: i32,
    /// The kernel's field when the call began.
    pub from: u32,
    /// The kernel's field when it returned.
    pub to: u32,
    /// The caller's thread-group id, in the initial pid namespace.
    pub tgid: u32,
    /// `LIMIT_*`: which field.
    pub what: u8,
    /// `LIMIT_ASKED`.
    pub flags: u8,
    /// `SOL_SOCKET` or `SOL_TCP`.
    pub level: u16,
    /// `SO_*` or `TCP_*`.
    pub optname: u32,
    /// The caller's; NUL-padded.
    pub comm: [u8; 16],
}

const _: () = assert!(size_of::<LimitSet>() == 72);

/// `Pressure::kind`: `sock_exceed_buf_limit`: the protocol's memory limit, or the socket's share
/// of it, did not allow a charge.
pub const PRESSURE_EXCEED: u8 = 1;
/// `Pressure::kind`: `sock_rcvqueue_full`: a datagram was dropped, its receive queue being full.
pub const PRESSURE_RCVQUEUE: u8 = 2;
/// `Pressure::kind`: TCP entered memory pressure.
pub const PRESSURE_ENTER: u8 = 3;
/// `Pressure::kind`: the receive queue is over its limit, and the out-of-order queue is dropped.
pub const PRESSURE_PRUNE_OFO: u8 = 4;
/// `Pressure::kind`: the same, but there is no out-of-order queue: what arrives is dropped.
pub const PRESSURE_PRUNE_RCV: u8 = 5;
/// `Pressure::kind`: the receive queue is over its limit, and its skbs are collapsed.
pub const PRESSURE_COLLAPSE: u8 = 6;
/// One more than the highest `PRESSURE_*`.
pub const PRESSURE_KINDS: usize = 7;

/// `Pressure::flags`: `allocated` and `limits` are known.
pub const PRESSURE_MEM: u8 = 1;

/// The kernel ran into a limit. At most one for each socket and kind in a span; `count` tells
/// how many times it stands for. `Header::id` is the socket's `SockState::id`, 0 where the
/// socket is not traced.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// What, when, where.
    pub header: Header,
    /// Occurrences since this socket's last record of this kind, this one included.
    pub count: u64,
    /// Pages charged to the protocol, all sockets of the host: as the tracepoint gives it, or
    /// `*sk_prot->memory_allocated`.
    pub allocated: u64,
    /// `sk_prot->sysctl_mem`: low, pressure, high. Pages.
    pub limits: [u64; 3],
    /// `sk_backlog.rmem_alloc` at that moment.
    pub rmem_alloc: u32,
    /// `sk_rcvbuf` at that moment.
    pub rcvbuf: u32,
    /// `PRESSURE_*`.
    pub kind: u8,
    /// `PRESSURE_MEM`.
    pub flags: u8,
    /// `SK_MEM_SEND` 0 or `SK_MEM_RECV` 1, for `PRESSURE_EXCEED`.
    pub direction: u8,
    /// Zero.
    pub reserved: [u8; 5],
}

const _: () = assert!(size_of::<Pressure>() == 80);

/// A process writes one of the sysctls that limit socket memory. The write has not been done
/// yet, and may fail. `Header::id` is its thread-group id.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SysctlWrite {
    /// What, when, where.
    pub header: Header,
    /// Name of the file below `/proc/sys/net`; NUL-padded.
    pub name: [u8; 16],
    /// The writer's; NUL-padded.
    pub comm: [u8; 16],
    /// The writer's network namespace, by inode number; 0 where not known.
    pub netns: u32,
    /// Zero.
    pub reserved: u32,
}

const _: () = assert!(size_of::<SysctlWrite>() == 64);

/// How often what `Pressure` tells of happened, per CPU, whatever became of the records: index
/// `PRESSURE_*`. `PRESSURE_EXCEED` and `PRESSURE_ENTER` count every TCP socket of the host, the
/// others traced sockets.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PressureCounts {
    /// Occurrences.
    pub seen: [u64; PRESSURE_KINDS],
    /// `LimitSet` and `SysctlWrite` records that did not fit into the ring.
    pub lost: u64,
}

const _: () = assert!(size_of::<PressureCounts>() == 8 * PRESSURE_KINDS + 8);
