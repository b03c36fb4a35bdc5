//! One socket: the kernel's state, continued between scans by what records tell.

use sockmem_common::{Change, LimitSet, STATE_RCVBUF_LOCK, STATE_SNDBUF_LOCK, SockState};

use super::address::is_connection;
use super::drain::Drains;
use super::ends::Ends;
use super::groups::{Mark, Segment};
use super::held::{self, Held, distance};
use super::limits::{Limits, limit_of};
use super::timeline::Timeline;
use super::{Bucket, Limit};

/// Times beyond this (nine years of uptime) are not believed; it keeps the integrals from overflowing.
pub(super) const LATEST_NS: u64 = 1 << 58;

/// A socket in the trace. There may be a hundred thousand of them: what a quiet one does not need
/// is behind a pointer. `state` gives the whole.
#[derive(Clone, Debug)]
pub(super) struct Socket {
    /// As in `SockState`, like the other fields without a comment.
    pub(super) id: u64,
    pub(super) last_ns: u64,
    last_activity_ns: u64,
    /// Time of its newest record.
    pub(super) record_ns: u64,
    /// `None`: nothing to tell of memory and payload yet.
    pub(super) held: Option<Box<Held>>,
    changes: u64,
    idle_ns: u64,
    rcvbuf: u32,
    sndbuf: u32,
    pub(super) group: u32,
    /// `Seqs::flags`.
    seq_flags: u8,
    flags: u8,
    tcp_state: u8,
    family: u8,
    pub(super) limits: Option<Box<Limits>>,
    /// Totals when it joined its group; `None`: nothing had happened yet.
    pub(super) mark: Option<Box<Mark>>,
    pub(super) joined_ns: u64,
    /// Time of the newest record that told owner, TCP state and addresses.
    pub(super) meta_ns: u64,
    /// When a scan last held it.
    pub(super) scanned_ns: u64,
    pub(super) first_ns: u64,
    cookie: u64,
    inode: u64,
    ends: Ends,
    netns: u32,
    pub(super) local_port: u16,
    remote_port: u16,
    /// Complete scans in a row that did not hold it.
    pub(super) missed: u8,
    /// Two scans held it.
    rated: bool,
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
    pub(super) fn new(state: &SockState, t_ns: u64, group: u32, buckets: u16) -> Self {
        let mut socket = Socket {
            id: state.id,
            last_ns: 0,
            last_activity_ns: 0,
            record_ns: t_ns,
            held: None,
            changes: 0,
            idle_ns: 0,
            rcvbuf: 0,
            sndbuf: 0,
            group,
            seq_flags: 0,
            flags: 0,
            tcp_state: 0,
            family: 0,
            limits: None,
            mark: None,
            joined_ns: state.first_ns,
            meta_ns: t_ns,
            scanned_ns: 0,
            first_ns: state.first_ns,
            cookie: 0,
            inode: 0,
            ends: Ends::new(&state.local, &state.remote),
            netns: 0,
            local_port: 0,
            remote_port: 0,
            missed: 0,
            rated: false,
            connection: is_connection(state),
        };
        socket.store(state, buckets);
        if let Some(held) = &mut socket.held {
            let base = state.baseline;
            let mut timeline = Timeline::new(state.first_ns, buckets, base);
            let resident = state.counters.resident();
            timeline.record(state.last_ns, base, state.resident_peak, resident);
            held.timeline = timeline;
        }
        socket
    }

    /// The kernel's state as of the last reading. Sequence numbers are only good for distances.
    /// What is not kept is zero: the event window, scratch, the owner, of which the group tells.
    pub(super) fn state(&self) -> SockState {
        let [local, remote] = self.ends.both();
        let mut s = SockState {
            id: self.id,
            cookie: self.cookie,
            inode: self.inode,
            first_ns: self.first_ns,
            last_ns: self.last_ns,
            last_activity_ns: self.last_activity_ns,
            changes: self.changes,
            idle_ns: self.idle_ns,
            netns: self.netns,
            tcp_state: self.tcp_state,
            family: self.family,
            flags: self.flags,
            local_port: self.local_port,
            remote_port: self.remote_port,
            local,
            remote,
            ..SockState::default()
        };
        s.counters.rcvbuf = self.rcvbuf;
        s.counters.sndbuf = self.sndbuf;
        s.seqs.flags = self.seq_flags.into();
        if let Some(held) = &self.held {
            held.load(&mut s);
            s.released = (s.baseline + s.charged).saturating_sub(s.counters.resident());
        }
        s
    }

    /// Keeps `s`.
    fn store(&mut self, s: &SockState, buckets: u16) {
        self.last_ns = s.last_ns;
        self.last_activity_ns = s.last_activity_ns;
        self.changes = s.changes;
        self.idle_ns = s.idle_ns;
        self.rcvbuf = s.counters.rcvbuf;
        self.sndbuf = s.counters.sndbuf;
        self.seq_flags = held::flags(&s.seqs);
        self.flags = s.flags;
        self.tcp_state = s.tcp_state;
        self.family = s.family;
        self.first_ns = s.first_ns;
        self.cookie = s.cookie;
        self.inode = s.inode;
        self.netns = s.netns;
        self.local_port = s.local_port;
        self.remote_port = s.remote_port;
        if self.ends.both() != [s.local, s.remote] {
            self.ends = Ends::new(&s.local, &s.remote);
        }
        if self.held.is_some() || Held::tells(s) {
            self.held_mut(buckets).store(s);
        }
    }

    fn held_mut(&mut self, buckets: u16) -> &mut Held {
        let first_ns = self.first_ns;
        self.held
            .get_or_insert_with(|| Box::new(Held::nothing(first_ns, buckets)))
    }

    /// `resident` of the last reading.
    pub(super) fn resident(&self) -> u64 {
        self.held.as_ref().map_or(0, |h| h.resident())
    }

    /// Highest `resident`.
    pub(super) fn resident_peak(&self) -> u64 {
        self.held.as_ref().map_or(0, |h| h.resident_peak)
    }

    /// Change of `resident` per second between the last two scans.
    pub(super) fn rate(&self) -> Option<i64> {
        self.rated
            .then(|| self.held.as_ref().map_or(0, |held| held.rate))
    }

    /// Writes its levels up to `until_ns` into `out`.
    pub(super) fn fill(&self, until_ns: u64, buckets: u16, out: &mut Vec<Bucket>) {
        match &self.held {
            Some(held) => held.timeline.fill(until_ns, out),
            None => Timeline::<u32>::new(self.first_ns, buckets, 0).fill(until_ns, out),
        }
    }

    /// Completes the integrals up to `now_ns`. As `SockState::advance`.
    fn advance(&mut self, now_ns: u64, idle_after: u64) {
        if now_ns <= self.last_ns {
            return;
        }
        let idle_from = self.last_ns.max(self.last_activity_ns + idle_after);
        let idle_ns = now_ns.saturating_sub(idle_from);
        self.idle_ns += idle_ns;
        if let Some(held) = &mut self.held {
            held.advance(now_ns - self.last_ns, idle_ns, self.seq_flags.into());
        }
        self.last_ns = now_ns;
    }

    /// Takes a change. `None` where a newer reading is known already: then it only adds detail.
    pub(super) fn change(
        &mut self,
        c: &Change,
        idle_after: u64,
        buckets: u16,
        drains: &mut Drains,
    ) -> Option<Step> {
        let t_ns = c.header.t_ns.min(LATEST_NS);
        let after = c.after.resident();
        let low = u64::from(c.resident_min).min(after);
        let high = u64::from(c.resident_max).max(after);
        let (late, newest) = (
            t_ns < self.record_ns || t_ns < self.last_ns,
            c.header.t_ns >= self.record_ns,
        );
        if !late {
            if self.rcvbuf != c.after.rcvbuf || self.sndbuf != c.after.sndbuf {
                self.limits_changed(c.after.rcvbuf, c.after.sndbuf, t_ns, self.flags);
            }
            self.advance(t_ns, idle_after);
        }
        self.record_ns = self.record_ns.max(t_ns);
        let held = self.held_mut(buckets);
        if newest {
            drains.change(&mut held.queues, c);
        }
        held.reached(high, c.after.rmem_alloc, c.after.wmem_queued);
        if late {
            held.timeline.widen(t_ns, low, high);
            return None;
        }
        let before = held.resident();
        // Whether new data is in flight or held back, only the next scan tells; most is in flight.
        let was_unsent = held.unacked != 0 && held.in_flight == 0;
        let in_flight = if was_unsent { 0 } else { distance(c.unacked) };
        let moved = c.unread != held.unread
            || c.unacked != held.unacked
            || in_flight != held.in_flight
            || c.after.rmem_alloc != held.rmem_alloc
            || c.after.wmem_queued != held.wmem_queued;
        held.unread = distance(c.unread);
        held.unacked = distance(c.unacked);
        held.in_flight = in_flight;
        held.take(&c.after);
        held.timeline.record(t_ns, low, high, after);
        if moved {
            self.last_activity_ns = t_ns;
        }
        self.rcvbuf = c.after.rcvbuf;
        self.sndbuf = c.after.sndbuf;
        self.changes = self.changes.saturating_add(u64::from(c.merged.max(1)));
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
    pub(super) fn merge(
        &mut self,
        kernel: &SockState,
        idle_after: u64,
        buckets: u16,
        meta: bool,
    ) -> Step {
        let local = self.state();
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
        self.store(&next, buckets);
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
        if let Some(held) = &mut self.held {
            held.queues.reading(c.rmem_alloc, c.wmem_queued);
            held.timeline.record(next.last_ns, low, high, after);
        }
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
        let resident = self.resident();
        if self.scanned_ns != 0 {
            let ns = now_ns.saturating_sub(self.scanned_ns);
            if ns == 0 {
                return;
            }
            self.rated = true;
            if let Some(held) = &mut self.held {
                let moved = i128::from(resident) - i128::from(held.rate_resident);
                let rate = i64::try_from(moved * 1_000_000_000 / i128::from(ns));
                self.rated = rate.is_ok();
                held.rate = rate.unwrap_or(0);
            }
        }
        if let Some(held) = &mut self.held {
            held.rate_resident = resident;
        }
        self.scanned_ns = now_ns;
    }

    fn limits_changed(&mut self, rcvbuf: u32, sndbuf: u32, at_ns: u64, flags: u8) {
        let both = [
            (Limit::Rcvbuf, self.rcvbuf, rcvbuf, STATE_RCVBUF_LOCK),
            (Limit::Sndbuf, self.sndbuf, sndbuf, STATE_SNDBUF_LOCK),
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
        let field = match what {
            Limit::Rcvbuf => Some(&mut self.rcvbuf),
            Limit::Sndbuf => Some(&mut self.sndbuf),
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
        let mut state = self.state();
        state.advance(now_ns.min(LATEST_NS), idle_after);
        state
    }

    /// What it did in its present group, up to `state`.
    pub(super) fn segment(&self, state: &SockState) -> Segment {
        let none = Mark::default();
        let mark = self.mark.as_deref().unwrap_or(&none);
        Segment::since(self.joined_ns, mark, state, self.connection)
    }

    /// Frees what a socket that is gone does not need.
    pub(super) fn settle(&mut self, buckets: u16) {
        self.mark = None;
        if let Some(held) = &mut self.held {
            held.timeline.shrink(buckets);
        }
    }
}

/// TCP state and addresses from `from`; whose it is, the group tells.
fn keep_meta(s: &mut SockState, from: &SockState) {
    s.inode = from.inode;
    s.netns = from.netns;
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
    for v in [&mut s.charged, &mut s.changes] {
        *v = (*v).min(MOST);
    }
    for v in [&mut s.resident_peak, &mut s.idle_resident_max] {
        *v = (*v).min(1 << 34);
    }
    s.baseline = s.baseline.min(1 << 34);
    s.resident_peak = s.resident_peak.max(s.counters.resident());
    // As it always is; a copy made while a program was at it may have one without the other.
    s.released = (s.baseline + s.charged).saturating_sub(s.counters.resident());
    s.merged = 0;
    s.resident_time.high = s.resident_time.high.min(MOST);
    s.resident_time.low &= (1 << 29) - 1;
    for part in &mut s.idle_time {
        part.high = part.high.min(MOST);
        part.low &= (1 << 29) - 1;
    }
    s
}
