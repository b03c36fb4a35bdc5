//! The state kept in the kernel for each traced socket.

use crate::{Counters, Integral, REASONS, Seqs, split};

/// `SockState::owner_kind`: not known.
pub const OWNER_UNKNOWN: u8 = 0;
/// `SockState::owner_kind`: `owner_tgid` holds it open.
pub const OWNER_PROCESS: u8 = 1;
/// `SockState::owner_kind`: accepted by the kernel, not yet by the listener of `owner_tgid`.
pub const OWNER_LISTENER: u8 = 2;
/// `SockState::owner_kind`: closed by `owner_tgid`, still alive in the kernel.
pub const OWNER_ORPHAN: u8 = 3;

/// `SockState::flags`: counters were above zero when the trace first saw the socket.
pub const STATE_BASELINED: u8 = 1;
/// `SockState::flags`: destroyed; `counters` are those after destruction.
pub const STATE_CLOSED: u8 = 2;
/// `SockState::flags`: SO_RCVBUF was set by the application (`SOCK_RCVBUF_LOCK`).
pub const STATE_RCVBUF_LOCK: u8 = 4;
/// `SockState::flags`: SO_SNDBUF was set by the application (`SOCK_SNDBUF_LOCK`).
pub const STATE_SNDBUF_LOCK: u8 = 8;

/// One traced socket: last reading, totals, peaks and integrals. Times are
/// `CLOCK_MONOTONIC` nanoseconds, sizes bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SockState {
    /// Identity within this trace; never reused.
    pub id: u64,
    /// `sk_cookie`; 0 while the kernel has not made one.
    pub cookie: u64,
    /// Inode of the socket's file; 0 without a file (not accepted yet, or orphan).
    pub inode: u64,
    /// `id` of the listener it came from; 0 where not known.
    pub listener_id: u64,
    /// When the trace first saw it.
    pub first_ns: u64,
    /// Up to when the integrals are complete.
    pub last_ns: u64,
    /// When payload last moved in either direction (or `first_ns`).
    pub last_activity_ns: u64,
    /// When an event was last sent.
    pub last_emit_ns: u64,
    /// `resident` when the trace first saw it.
    pub baseline: u64,
    /// Sum of all increases of `resident` since then.
    pub charged: u64,
    /// Sum of all decreases. Always `baseline + charged - released == resident`.
    pub released: u64,
    /// Observed changes of any counter.
    pub changes: u64,
    /// Time spent idle.
    pub idle_ns: u64,
    /// Highest `resident`.
    pub resident_peak: u64,
    /// Highest `resident` while idle.
    pub idle_resident_max: u64,
    /// `resident` over all time.
    pub resident_time: Integral,
    /// `resident` over idle time, by reason (index: `Reason`).
    pub idle_time: [Integral; REASONS],
    /// Last reading.
    pub counters: Counters,
    /// Last reading.
    pub seqs: Seqs,
    /// Highest `rmem_alloc`.
    pub rmem_peak: u32,
    /// Highest `wmem_queued`.
    pub wmem_queued_peak: u32,
    /// Lowest `resident` since the last event sent.
    pub window_min: u32,
    /// Highest `resident` since the last event sent.
    pub window_max: u32,
    /// Changes since the last event sent.
    pub merged: u32,
    /// Network namespace inode number (`net->ns.inum`); 0 where not known.
    pub netns: u32,
    /// Thread-group id in the initial pid namespace; 0 where not known.
    pub owner_tgid: u32,
    /// On which CPU's list it waits to be read again, plus one (tracepoint tier). Scratch.
    pub pending: u32,
    /// `OWNER_*`.
    pub owner_kind: u8,
    /// `skc_state` (`TCP_*`).
    pub tcp_state: u8,
    /// `skc_family`: `AF_INET` or `AF_INET6`.
    pub family: u8,
    /// `STATE_*`.
    pub flags: u8,
    /// Host byte order.
    pub local_port: u16,
    /// Host byte order.
    pub remote_port: u16,
    /// Network byte order; IPv4 in the first four.
    pub local: [u8; 16],
    /// Network byte order; IPv4 in the first four.
    pub remote: [u8; 16],
    /// `comm` of the owner when it was learned; NUL-padded.
    pub owner_comm: [u8; 16],
}

const _: () = assert!(size_of::<SockState>() == 15 * 8 + 6 * 16 + 32 + 24 + 8 * 4 + 8 + 48);
const _: () = assert!(size_of::<SockState>().is_multiple_of(8));

impl SockState {
    /// Completes the integrals up to `now`: between two observations nothing
    /// changed, so the last reading held for the whole span. The span counts
    /// as idle from `idle_after` ns after payload last moved.
    #[inline(always)]
    pub fn advance(&mut self, now: u64, idle_after: u64) {
        let idle = self.pass(now, idle_after);
        if idle != 0 {
            self.idle_span(idle);
        }
    }

    /// `advance()` but for the idle part of the span, of which it returns the length in ns: the
    /// rest of the work is for `idle_span()`.
    #[inline(always)]
    pub fn pass(&mut self, now: u64, idle_after: u64) -> u64 {
        // Two CPUs' clocks may disagree by some ns; a span is never negative.
        if now <= self.last_ns {
            return 0;
        }
        let resident = self.counters.resident();
        self.resident_time.add(resident, now - self.last_ns);
        let quiet_from = self.last_activity_ns + idle_after;
        let from = if quiet_from > self.last_ns {
            quiet_from
        } else {
            self.last_ns
        };
        self.last_ns = now;
        now.saturating_sub(from)
    }

    /// Counts `ns` of idle time, with the last reading. Rare, and large once unrolled.
    #[inline(always)]
    pub fn idle_span(&mut self, ns: u64) {
        let resident = self.counters.resident();
        self.idle_ns += ns;
        if resident == 0 {
            return;
        }
        let parts = split(&self.counters, &self.seqs);
        let mut i = 0;
        while i < REASONS {
            if parts[i] != 0 {
                self.idle_time[i].add(parts[i], ns);
            }
            i += 1;
        }
        if resident > self.idle_resident_max {
            self.idle_resident_max = resident;
        }
    }

    /// Takes a new reading at `now`, after `advance(now, …)`.
    #[inline(always)]
    pub fn take(&mut self, now: u64, counters: &Counters, seqs: &Seqs) {
        let before = self.counters.resident();
        let after = counters.resident();
        if after > before {
            self.charged += after - before;
        }
        // Derived rather than added up, so that the identity of `released` holds
        // even if two CPUs took a reading of this socket at once (which only
        // hooks outside the socket lock can do, in the tracepoint tier).
        if self.baseline + self.charged < after {
            self.charged = after - self.baseline;
        }
        self.released = self.baseline + self.charged - after;
        if seqs.moved_since(&self.seqs) {
            self.last_activity_ns = now;
        }
        self.counters = *counters;
        self.seqs = *seqs;
        self.changes += 1;
        self.merged += 1;
        if after > self.resident_peak {
            self.resident_peak = after;
        }
        if counters.rmem_alloc > self.rmem_peak {
            self.rmem_peak = counters.rmem_alloc;
        }
        if counters.wmem_queued > self.wmem_queued_peak {
            self.wmem_queued_peak = counters.wmem_queued;
        }
        if (after as u32) < self.window_min {
            self.window_min = after as u32;
        }
        if (after as u32) > self.window_max {
            self.window_max = after as u32;
        }
    }

    /// Starts a state at `now` from a first reading. Every other field must be zero.
    #[inline(always)]
    pub fn start(&mut self, now: u64, counters: &Counters, seqs: &Seqs) {
        let resident = counters.resident();
        self.first_ns = now;
        self.last_ns = now;
        self.last_activity_ns = now;
        self.last_emit_ns = now;
        self.baseline = resident;
        self.resident_peak = resident;
        self.counters = *counters;
        self.seqs = *seqs;
        self.rmem_peak = counters.rmem_alloc;
        self.wmem_queued_peak = counters.wmem_queued;
        self.window_min = resident as u32;
        self.window_max = resident as u32;
        if resident != 0 {
            self.flags |= STATE_BASELINED;
        }
    }

    /// Starts a new event window at the present value.
    #[inline(always)]
    pub fn reset_window(&mut self, now: u64) {
        let resident = self.counters.resident() as u32;
        self.last_emit_ns = now;
        self.window_min = resident;
        self.window_max = resident;
        self.merged = 0;
    }

    /// Nanoseconds since payload last moved, as of `now`.
    #[must_use]
    pub fn quiet_ns(&self, now: u64) -> u64 {
        now.saturating_sub(self.last_activity_ns)
    }
}

/// One element of the array of states.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `struct sock *`; 0 while the entry is free or not yet filled in. Written last when a
    /// socket comes under the trace, and before the entry is free when it leaves.
    pub sk: u64,
    /// Its place in the array.
    pub index: u32,
    /// How often the socket was touched, modulo 2^16 (tracepoint tier). Scratch.
    pub touched: u16,
    /// `touched` when it was last read at the end of a section. Scratch.
    pub seen: u16,
    /// The socket's.
    pub state: SockState,
    /// `state.id`, written when all else is: a copy, made in order, in which the two differ
    /// is of two sockets.
    pub seal: u64,
}

impl Entry {
    /// Whether this copy is of one socket, whole.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.sk != 0 && self.seal == self.state.id && self.state.first_ns != 0
    }
}

/// What the program that user space runs is to do with the entries it is given: read again.
pub const RUN_RESYNC: u64 = 0;
/// Take out of use.
pub const RUN_FORGET: u64 = 1;
/// List as free, once, before anything is traced.
pub const RUN_FREE: u64 = 2;

/// Entries in a block: the programs count those in use by block, so that a reader looks at no
/// others.
pub const BLOCK: u32 = 64;

const _: () = assert!(size_of::<Entry>() == 24 + size_of::<SockState>());
const _: () = assert!(size_of::<Entry>().is_multiple_of(64));

/// What user space knows about a socket that it asks the baseline to adopt.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// As `SockState::listener_id`.
    pub listener_id: u64,
    /// As `SockState::owner_tgid`.
    pub tgid: u32,
    /// As `SockState::owner_kind`.
    pub kind: u32,
}

const _: () = assert!(size_of::<Owner>() == 16);
