//! One socket: the kernel's state, continued between scans by what records tell.

use sockmem_common::{Change, LimitSet, STATE_RCVBUF_LOCK, STATE_SNDBUF_LOCK, SockState};

use super::Limit;
use super::address::is_connection;
use super::drain::Queues;
use super::groups::{GroupKey, Mark, Segment};
use super::limits::{Limits, limit_of};
use super::timeline::Timeline;

/// Times beyond this (nine years of uptime) are not believed; it keeps the integrals from overflowing.
pub(super) const LATEST_NS: u64 = 1 << 58;

/// A socket in the trace.
#[derive(Clone, Debug)]
pub(super) struct Socket {
    /// As of the last reading. Its sequence numbers are only good for distances:
    /// a `Change` tells unread and unacknowledged bytes, not where they lie.
    pub(super) state: SockState,
    pub(super) timeline: Timeline<u32>,
    pub(super) limits: Option<Box<Limits>>,
    /// Totals when it joined its group; `None`: nothing had happened yet.
    pub(super) mark: Option<Box<Mark>>,
    pub(super) key: GroupKey,
    pub(super) group: u32,
    pub(super) joined_ns: u64,
    /// Time of its newest record.
    pub(super) record_ns: u64,
    /// Time of the newest record that told owner, TCP state and addresses.
    pub(super) meta_ns: u64,
    /// When a scan last held it.
    pub(super) scanned_ns: u64,
    /// Complete scans in a row that did not hold it.
    pub(super) missed: u8,
    /// Change of `resident` per second between the last two scans.
    pub(super) rate: Option<i64>,
    rate_resident: u64,
    pub(super) queues: Queues,
    /// Is or was one end of a connection.
    pub(super) connection: bool,
}

/// What a new reading did to `resident`, for the sums that it is part of.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Step {
    pub(super) t_ns: u64,
    pub(super) before: u64,
    pub(super) low: u64,
    pub(super) high: u64,
    pub(super) after: u64,
}

impl Socket {
    pub(super) fn new(
        state: SockState,
        t_ns: u64,
        key: GroupKey,
        group: u32,
        buckets: u16,
    ) -> Self {
        let mut timeline = Timeline::new(state.first_ns, buckets);
        timeline.record(
            state.first_ns,
            state.baseline,
            state.baseline,
            state.baseline,
        );
        let mut socket = Socket {
            state,
            timeline,
            limits: None,
            mark: None,
            key,
            group,
            joined_ns: state.first_ns,
            record_ns: t_ns,
            meta_ns: t_ns,
            scanned_ns: 0,
            missed: 0,
            rate: None,
            rate_resident: 0,
            queues: Queues::default(),
            connection: is_connection(&state),
        };
        socket.plot(state.last_ns, state.baseline, state.resident_peak);
        socket
    }

    fn plot(&mut self, t_ns: u64, low: u64, high: u64) {
        self.timeline
            .record(t_ns, low, high, self.state.counters.resident());
    }

    /// Takes a change. `None` where a newer reading is known already: then it only adds detail.
    pub(super) fn change(&mut self, c: &Change, idle_after: u64) -> Option<Step> {
        let t_ns = c.header.t_ns.min(LATEST_NS);
        let after = c.after.resident();
        let low = u64::from(c.resident_min).min(after);
        let high = u64::from(c.resident_max).max(after);
        let s = &mut self.state;
        s.resident_peak = s.resident_peak.max(high);
        s.rmem_peak = s.rmem_peak.max(c.after.rmem_alloc);
        s.wmem_queued_peak = s.wmem_queued_peak.max(c.after.wmem_queued);
        if t_ns < self.record_ns || t_ns < s.last_ns {
            self.record_ns = self.record_ns.max(t_ns);
            self.timeline.widen(t_ns, low, high);
            return None;
        }
        self.record_ns = t_ns;
        if s.counters.rcvbuf != c.after.rcvbuf || s.counters.sndbuf != c.after.sndbuf {
            self.limits_changed(c.after.rcvbuf, c.after.sndbuf, t_ns, self.state.flags);
        }
        let s = &mut self.state;
        let before = s.counters.resident();
        let moved = c.unread != s.seqs.unread()
            || c.unacked != s.seqs.unacked()
            || c.after.rmem_alloc != s.counters.rmem_alloc
            || c.after.wmem_queued != s.counters.wmem_queued;
        let mut seqs = s.seqs;
        seqs.copied_seq = seqs.rcv_nxt.wrapping_sub(c.unread);
        // Whether new data is in flight or held back, only the next scan tells; most is in flight.
        let was_unsent = seqs.unacked() != 0 && seqs.in_flight() == 0;
        seqs.write_seq = seqs.snd_una.wrapping_add(c.unacked);
        seqs.snd_nxt = if was_unsent {
            seqs.snd_una
        } else {
            seqs.write_seq
        };
        s.advance(t_ns, idle_after);
        s.take(t_ns, &c.after, &seqs);
        if moved {
            s.last_activity_ns = t_ns;
        }
        s.changes = s
            .changes
            .saturating_add(u64::from(c.merged.saturating_sub(1)));
        s.reset_window(t_ns);
        self.timeline.record(t_ns, low, high, after);
        Some(Step {
            t_ns,
            before,
            low,
            high,
            after,
        })
    }

    /// Takes the kernel's whole state: authoritative, unless records newer than it came first.
    /// `meta`: whether it is also the newest to tell owner, TCP state and addresses.
    pub(super) fn merge(&mut self, kernel: &SockState, idle_after: u64, meta: bool) -> Step {
        let local = self.state;
        let before = local.counters.resident();
        let mut next = *kernel;
        if kernel.last_ns < local.last_ns {
            // The last reading is the newest record's; everything up to the scan is the kernel's.
            next.advance(local.last_ns, idle_after);
            next.take(local.last_ns, &local.counters, &local.seqs);
            next.last_activity_ns = kernel.last_activity_ns.max(local.last_activity_ns);
            next.changes = kernel.changes.max(local.changes);
            // What records told of charges since then is not taken back. Both balance to the same.
            if kernel.baseline == local.baseline && local.charged > next.charged {
                next.released = next.released.saturating_add(local.charged - next.charged);
                next.charged = local.charged;
            }
        }
        next.resident_peak = next.resident_peak.max(local.resident_peak);
        next.rmem_peak = next.rmem_peak.max(local.rmem_peak);
        next.wmem_queued_peak = next.wmem_queued_peak.max(local.wmem_queued_peak);
        if meta {
            self.connection |= is_connection(&next);
        } else {
            keep_meta(&mut next, &local);
        }
        let c = next.counters;
        if local.counters.rcvbuf != c.rcvbuf || local.counters.sndbuf != c.sndbuf {
            self.limits_changed(c.rcvbuf, c.sndbuf, next.last_ns, next.flags);
        }
        if let Some(limits) = &mut self.limits {
            let since_ns = self.meta_ns.max(self.scanned_ns);
            for (flag, what) in [
                (STATE_RCVBUF_LOCK, Limit::Rcvbuf),
                (STATE_SNDBUF_LOCK, Limit::Sndbuf),
            ] {
                if next.flags & flag != 0 && local.flags & flag == 0 {
                    limits.locked(what, since_ns);
                }
            }
        }
        self.queues.reading(c.rmem_alloc, c.wmem_queued);
        self.state = next;
        let after = c.resident();
        let (low, high) = if kernel.last_ns >= local.last_ns {
            // The lows and highs that no record has told yet.
            (kernel.window_min.into(), kernel.window_max.into())
        } else {
            (after, after)
        };
        let (low, high) = (
            after.min(low),
            after.max(high).min(next.resident_peak.max(after)),
        );
        self.plot(next.last_ns, low, high);
        Step {
            t_ns: next.last_ns,
            before,
            low,
            high,
            after,
        }
    }

    /// Notes that a scan at `now_ns` held it, and what changed since the scan before.
    pub(super) fn scanned(&mut self, now_ns: u64) {
        self.missed = 0;
        let resident = self.state.counters.resident();
        if self.scanned_ns != 0 {
            let ns = now_ns.saturating_sub(self.scanned_ns);
            if ns == 0 {
                return;
            }
            let moved = i128::from(resident) - i128::from(self.rate_resident);
            self.rate = i64::try_from(moved * 1_000_000_000 / i128::from(ns)).ok();
        }
        self.rate_resident = resident;
        self.scanned_ns = now_ns;
    }

    fn limits_changed(&mut self, rcvbuf: u32, sndbuf: u32, at_ns: u64, flags: u8) {
        let old = self.state.counters;
        let both = [
            (Limit::Rcvbuf, old.rcvbuf, rcvbuf, STATE_RCVBUF_LOCK),
            (Limit::Sndbuf, old.sndbuf, sndbuf, STATE_SNDBUF_LOCK),
        ];
        for (what, from, to, lock) in both {
            // The kernel never lets a limit be 0: that is a reading without limits.
            if from == to || from == 0 || to == 0 {
                continue;
            }
            let limits = self.limits.get_or_insert_default();
            limits.shown(what, from, to, at_ns, flags & lock != 0);
        }
    }

    /// A call set one of its limits.
    pub(super) fn limit_set(&mut self, l: &LimitSet) {
        let Some(what) = limit_of(l.what) else { return };
        let counters = &mut self.state.counters;
        let field = match what {
            Limit::Rcvbuf => Some(&mut counters.rcvbuf),
            Limit::Sndbuf => Some(&mut counters.sndbuf),
            _ => None,
        };
        let limits = self.limits.get_or_insert_default();
        let newest = limits.set(what, l, field.as_deref().copied());
        // As a reading would have shown it, so that the next one shows no change.
        if newest
            && l.to != 0
            && let Some(field) = field
        {
            *field = l.to;
        }
    }

    /// The state continued to `now_ns`, as if the kernel had been asked now.
    pub(super) fn at(&self, now_ns: u64, idle_after: u64) -> SockState {
        let mut state = self.state;
        state.advance(now_ns.min(LATEST_NS), idle_after);
        state
    }

    /// What it did in its present group, up to `state`.
    pub(super) fn segment(&self, state: &SockState) -> Segment {
        let none = Mark::default();
        let mark = self.mark.as_deref().unwrap_or(&none);
        Segment::since(self.joined_ns, mark, state, self.connection)
    }
}

/// Owner, TCP state and addresses from `from`.
fn keep_meta(s: &mut SockState, from: &SockState) {
    s.inode = from.inode;
    s.listener_id = from.listener_id;
    s.netns = from.netns;
    s.owner_tgid = from.owner_tgid;
    s.owner_kind = from.owner_kind;
    s.owner_comm = from.owner_comm;
    s.tcp_state = from.tcp_state;
    s.family = from.family;
    s.local_port = from.local_port;
    s.remote_port = from.remote_port;
    s.local = from.local;
    s.remote = from.remote;
}

/// A state in which no arithmetic can overflow, whatever a damaged recording says.
/// Leaves every state that a kernel can report as it is.
pub(super) fn believable(state: &SockState) -> SockState {
    const MOST: u64 = 1 << 62;
    let mut s = *state;
    s.first_ns = s.first_ns.min(LATEST_NS);
    s.last_ns = s.last_ns.clamp(s.first_ns, LATEST_NS);
    s.last_activity_ns = s.last_activity_ns.min(LATEST_NS);
    s.idle_ns = s.idle_ns.min(s.last_ns - s.first_ns);
    for v in [
        &mut s.baseline,
        &mut s.charged,
        &mut s.released,
        &mut s.changes,
    ] {
        *v = (*v).min(MOST);
    }
    for v in [&mut s.resident_peak, &mut s.idle_resident_max] {
        *v = (*v).min(1 << 34);
    }
    s.baseline = s.baseline.min(1 << 34);
    s.resident_peak = s.resident_peak.max(s.counters.resident());
    s.merged = 0;
    s.resident_time.high = s.resident_time.high.min(MOST);
    s.resident_time.low &= (1 << 29) - 1;
    for part in &mut s.idle_time {
        part.high = part.high.min(MOST);
        part.low &= (1 << 29) - 1;
    }
    s
}
