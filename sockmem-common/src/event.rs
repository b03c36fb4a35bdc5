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
