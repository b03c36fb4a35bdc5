//! From the model to the picture that sinks draw.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use sockmem_common::{OWNER_ORPHAN, REASONS, Reason, SEQ_VALID, SockState, split};

use super::address::{self, TCP_LISTEN};
use super::groups::{Group, GroupKey, Segment, owner_kind, saturate};
use super::sockets::{LATEST_NS, Socket};
use super::verdict::{ALL, GROWTH_LEAST};
use super::verdict_text::Evidence;
use super::{
    Bucket, Closed, GroupView, Loss, Model, OwnerKind, OwnerView, SocketView, Totals, View,
};

/// What a view holds beside its sums. Leaving out what is not shown makes a view cheaper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detail {
    /// The closed sockets, and the events.
    pub closed: bool,
    /// Each socket's timeline.
    pub timelines: bool,
    /// At most so many live sockets, those that hold most; `None`: all of them. Sums are over all.
    pub most: Option<usize>,
}

impl Detail {
    /// Everything: for reports.
    pub const FULL: Detail = Detail {
        closed: true,
        timelines: true,
        most: None,
    };
    /// Sums and live sockets without their timelines: for a live view.
    pub const LIVE: Detail = Detail {
        closed: false,
        timelines: false,
        most: None,
    };
    /// Sums alone: for an output that takes the sockets one by one, from [`Model::rows`].
    pub const SUMS: Detail = Detail {
        closed: false,
        timelines: false,
        most: Some(0),
    };
}

/// Sums over the live sockets of a group, or of everything.
#[derive(Clone, Debug, Default)]
struct Tally {
    totals: Totals,
    evidence: Evidence,
    charged: u64,
    released: u64,
    resident_byte_ns: u128,
}

impl Model {
    /// The whole picture at `now_ns` (`CLOCK_MONOTONIC`), which is `now_unix_ns` (`CLOCK_REALTIME`).
    #[must_use]
    pub fn view(&self, now_ns: u64, now_unix_ns: u64) -> View {
        self.view_with(now_ns, now_unix_ns, Detail::FULL)
    }

    /// The picture in the detail that is asked for.
    #[must_use]
    pub fn view_with(&self, now_ns: u64, now_unix_ns: u64, detail: Detail) -> View {
        let now_ns = now_ns.min(LATEST_NS);
        let mut tallies: Vec<Tally> = self.groups.iter().map(|g| self.tally(g, now_ns)).collect();
        let mut all = self.tally(&self.total, now_ns);
        for socket in &self.sockets {
            let state = socket.at(now_ns, self.config.idle_after_ns);
            let tally = &mut tallies[socket.group as usize];
            self.add(tally, &state, now_ns, &socket.segment(&state));
            let whole = Segment::whole(&state, socket.connection);
            self.add(&mut all, &state, now_ns, &whole);
        }
        let sockets = self.rows(now_ns, detail).collect();
        let closed = if detail.closed {
            self.closed_rows(now_ns, detail).collect()
        } else {
            Vec::new()
        };

        let mut groups: Vec<GroupView> = self
            .groups
            .iter()
            .zip(tallies)
            .filter(|(group, _)| worth_a_row(group))
            .map(|(group, tally)| self.group_view(group, &tally, now_ns))
            .collect();
        groups.sort_by_key(|g| {
            (
                Reverse(g.totals.resident),
                Reverse(g.resident_peak_bytes),
                g.owner.pid,
                g.owner.kind,
            )
        });

        let mut timeline = Vec::new();
        self.total.timeline.fill(now_ns, &mut timeline);
        let verdict = self.rules.group(&all.evidence, &timeline);
        let config = &self.config;
        View {
            start_unix_ns: config.start_unix_ns,
            start_mono_ns: config.start_mono_ns,
            now_unix_ns,
            duration_ns: self.duration(now_ns),
            tier: config.tier,
            coverage: config.coverage.clone(),
            loss: Loss {
                lost_closed: self.loss.lost_closed.max(self.oddities.closed_unseen),
                ..self.loss
            },
            idle_after_ns: config.idle_after_ns,
            keeps_forward_alloc: config.keeps_forward_alloc,
            groups,
            sockets,
            closed,
            totals: all.totals,
            timeline,
            resident_peak_bytes: self.total.peak,
            verdict,
            events: if detail.closed {
                self.event_views()
            } else {
                Vec::new()
            },
            event_counts: self.event_counts(),
            events_lost: self.events_lost(),
            kernel_counters: self.kernel_counters(),
            truesize: self.truesize,
            drain_ns: self.drains.summary(),
            truesize_ranges: self.truesize_ranges.clone(),
            drain_ranges: self.drains.ranges(),
        }
    }

    /// The live sockets, largest `resident` first, each made when it is asked for.
    pub fn rows(&self, now_ns: u64, detail: Detail) -> impl Iterator<Item = SocketView> + '_ {
        let now_ns = now_ns.min(LATEST_NS);
        let mut scratch = Vec::new();
        self.largest(detail.most).into_iter().map(move |at| {
            let socket = &self.sockets[at as usize];
            let state = socket.at(now_ns, self.config.idle_after_ns);
            let key = &self.groups[socket.group as usize].key;
            self.socket(socket, key, &state, now_ns, detail, false, &mut scratch)
        })
    }

    /// The closed sockets that are kept, largest peak first, each made when it is asked for.
    pub fn closed_rows(
        &self,
        now_ns: u64,
        detail: Detail,
    ) -> impl Iterator<Item = SocketView> + '_ {
        let now_ns = now_ns.min(LATEST_NS);
        let mut order: Vec<&Closed> = self.closed.iter().collect();
        order.sort_unstable_by_key(|c| (Reverse(c.socket.resident_peak()), c.socket.id));
        let mut scratch = Vec::new();
        order.into_iter().map(move |Closed { socket, key }| {
            let state = socket.state();
            self.socket(socket, key, &state, now_ns, detail, true, &mut scratch)
        })
    }

    /// Places of the live sockets, or of the `most` largest, in the order of a view.
    fn largest(&self, most: Option<usize>) -> Vec<u32> {
        let key = |at: &u32| {
            let s = &self.sockets[*at as usize];
            (Reverse(s.resident()), Reverse(s.resident_peak()), s.id)
        };
        if most == Some(0) {
            return Vec::new();
        }
        let mut order: Vec<u32> = (0..self.sockets.len() as u32).collect();
        if let Some(most) = most.filter(|most| *most < order.len()) {
            order.select_nth_unstable_by_key(most, key);
            order.truncate(most);
        }
        order.sort_unstable_by_key(key);
        order
    }

    fn duration(&self, now_ns: u64) -> u64 {
        now_ns.saturating_sub(self.config.start_mono_ns)
    }

    fn covers(&self, counter: &str) -> bool {
        self.config.coverage.contains_key(counter)
    }

    /// What a group has settled already.
    fn tally(&self, group: &Group, now_ns: u64) -> Tally {
        let s = &group.settled;
        let connected = u128::from(group.connected_ns(now_ns));
        let mut means = [0; REASONS];
        for (mean, byte_ns) in means.iter_mut().zip(s.idle_life) {
            // A group that had no connection for any time has nothing to spread over.
            *mean = saturate(byte_ns.checked_div(connected).unwrap_or(0));
        }
        Tally {
            totals: Totals {
                backlog: self.covers("backlog").then_some(0),
                ..Totals::default()
            },
            evidence: Evidence {
                connections: s.connections,
                idle_connections: s.idle_connections,
                holding: s.holding,
                idle_ns: s.idle_ns,
                any_idle: s.any_idle,
                means,
                idle_max: s.idle_max,
                peak: group.peak,
                held: [0; REASONS],
                duration_ns: self.duration(now_ns),
            },
            charged: s.charged,
            released: s.released,
            resident_byte_ns: s.resident_byte_ns,
        }
    }

    /// Adds a live socket.
    fn add(&self, tally: &mut Tally, state: &SockState, now_ns: u64, segment: &Segment) {
        let (t, c) = (&mut tally.totals, &state.counters);
        let resident = c.resident();
        t.sockets += 1;
        t.resident += resident;
        t.rmem_alloc += u64::from(c.rmem_alloc);
        t.wmem_queued += u64::from(c.wmem_queued);
        t.forward_alloc += i64::from(c.forward_alloc);
        t.backlog = t.backlog.map(|sum| sum + u64::from(c.backlog));
        if payload_known(state) {
            t.unread_bytes += u64::from(state.seqs.unread());
            t.unacked_bytes += u64::from(state.seqs.unacked());
        }
        if state.quiet_ns(now_ns) >= self.config.idle_after_ns {
            t.idle_sockets += 1;
            t.idle_resident += resident;
        }
        let mut sums = super::groups::Settled::default();
        let told = self.rules.told(segment);
        let holds = self.rules.segment_holds(segment, state.resident_peak);
        sums.count(segment, told, holds);
        let e = &mut tally.evidence;
        e.connections += sums.connections;
        e.idle_connections += sums.idle_connections;
        e.holding += sums.holding;
        e.idle_ns = e.idle_ns.saturating_add(sums.idle_ns);
        e.any_idle |= sums.any_idle;
        e.idle_max = e.idle_max.max(sums.idle_max);
        for (sum, mean) in e
            .means
            .iter_mut()
            .zip(segment.idle_means().unwrap_or_default())
        {
            *sum = sum.saturating_add(mean);
        }
        for (sum, part) in e.held.iter_mut().zip(split(&state.counters, &state.seqs)) {
            *sum = sum.saturating_add(part);
        }
        tally.charged = tally.charged.saturating_add(sums.charged);
        tally.released = tally.released.saturating_add(sums.released);
        tally.resident_byte_ns = tally.resident_byte_ns.saturating_add(sums.resident_byte_ns);
    }

    fn group_view(&self, group: &Group, tally: &Tally, now_ns: u64) -> GroupView {
        let key = &group.key;
        let mut timeline = Vec::new();
        group.timeline.fill(now_ns, &mut timeline);
        let duration = u128::from(self.duration(now_ns));
        GroupView {
            owner: self.owner(key.owner_kind(), key.pid, key.generation),
            listener: self
                .listener(key.listener_id)
                .or_else(|| group.listener.clone()),
            exited: self.processes.has_exited(key.pid, key.generation),
            sockets_seen: group.seen,
            resident_peak_bytes: group.peak,
            resident_mean_bytes: (duration > 0)
                .then(|| saturate((tally.resident_byte_ns + duration / 2) / duration)),
            charged_bytes: tally.charged,
            released_bytes: tally.released,
            verdict: self.rules.group(&tally.evidence, &timeline),
            totals: tally.totals,
            timeline,
        }
    }

    pub(super) fn owner(&self, kind: OwnerKind, pid: u32, generation: u32) -> OwnerView {
        let facts = self.processes.facts(pid, generation).filter(|_| pid != 0);
        OwnerView {
            pid: (pid != 0).then_some(pid),
            comm: facts.and_then(|f| f.comm.clone()),
            cgroup: facts.and_then(|f| f.cgroup.clone()),
            kind,
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "what a row is made of, from two callers"
    )]
    pub(super) fn socket(
        &self,
        socket: &Socket,
        key: &GroupKey,
        state: &SockState,
        now_ns: u64,
        detail: Detail,
        closed: bool,
        timeline: &mut Vec<Bucket>,
    ) -> SocketView {
        timeline.clear();
        // Only timelines that are shown, or that could have grown, are worth their time.
        if detail.timelines || state.resident_peak >= GROWTH_LEAST {
            let until = if closed {
                state.last_ns
            } else {
                now_ns.max(state.last_ns)
            };
            socket.fill(until, self.config.socket_buckets, timeline);
        }
        let c = &state.counters;
        let whole = Segment::whole(state, socket.connection);
        let means = whole.idle_means();
        let idle_reasons = by_reason(&means.unwrap_or_default());
        let idle_mean = means.map(|m| m.iter().copied().fold(0, u64::saturating_add));
        let quiet_ns = if closed {
            state.quiet_ns(state.last_ns)
        } else {
            state.quiet_ns(now_ns)
        };
        let verdict = self.rules.socket(state, idle_mean, timeline);
        let payload_known = payload_known(state);
        SocketView {
            id: state.id,
            cookie: (state.cookie != 0).then_some(state.cookie),
            inode: (state.inode != 0).then_some(state.inode),
            protocol: "tcp",
            family: address::family_name(state.family),
            state: address::state_name(state.tcp_state),
            local: address::local(state),
            remote: address::remote(state),
            netns: (state.netns != 0).then_some(state.netns),
            owner: self.owner(
                self.shown_kind(socket, key, state, closed),
                key.pid,
                key.generation,
            ),
            rmem_alloc: c.rmem_alloc.into(),
            rcvbuf: (c.rcvbuf != 0).then_some(c.rcvbuf.into()),
            wmem_alloc: self.covers("wmem_alloc").then_some(c.wmem_alloc.into()),
            sndbuf: (c.sndbuf != 0).then_some(c.sndbuf.into()),
            forward_alloc: c.forward_alloc.into(),
            wmem_queued: c.wmem_queued.into(),
            optmem: self.covers("optmem").then_some(c.optmem.into()),
            backlog: self.covers("backlog").then_some(c.backlog.into()),
            drops: None,
            resident: c.resident(),
            unread_bytes: payload_known.then_some(state.seqs.unread().into()),
            unacked_bytes: payload_known.then_some(state.seqs.unacked().into()),
            rate_bytes_per_s: if closed { None } else { socket.rate() },
            first_seen_ns: state.first_ns,
            last_seen_ns: state.last_ns,
            closed,
            resident_peak_bytes: state.resident_peak,
            rmem_peak_bytes: state.rmem_peak.into(),
            wmem_queued_peak_bytes: state.wmem_queued_peak.into(),
            resident_mean_bytes: state.resident_time.mean(state.last_ns - state.first_ns),
            quiet_ns,
            idle: !closed && quiet_ns >= self.config.idle_after_ns,
            idle_ns: state.idle_ns,
            idle_resident_mean_bytes: idle_mean,
            idle_resident_max_bytes: (state.idle_ns > 0).then_some(state.idle_resident_max),
            idle_reason: largest(&idle_reasons),
            idle_reasons,
            baseline_bytes: state.baseline,
            charged_bytes: state.charged,
            released_bytes: state.released,
            changes: state.changes,
            verdict,
            limits: socket
                .limits
                .iter()
                .flat_map(|l| l.iter().cloned())
                .collect(),
            timeline: if detail.timelines {
                timeline.clone()
            } else {
                Vec::new()
            },
        }
    }

    /// Every socket is an orphan for a moment before it is destroyed. One that was destroyed
    /// before it counted as idle went the usual way and is shown as its process's.
    fn shown_kind(
        &self,
        socket: &Socket,
        key: &GroupKey,
        state: &SockState,
        closed: bool,
    ) -> OwnerKind {
        let lingered = state.last_ns.saturating_sub(socket.joined_ns);
        if closed
            && key.kind == OWNER_ORPHAN
            && key.pid != 0
            && lingered < self.config.idle_after_ns
        {
            return OwnerKind::Process;
        }
        owner_kind(key.kind)
    }
}

/// Groups that hold nothing now and never held anything, save processes and what is not known.
fn worth_a_row(group: &Group) -> bool {
    match group.key.owner_kind() {
        OwnerKind::Process | OwnerKind::Unknown => group.seen > 0,
        OwnerKind::Listener | OwnerKind::Orphan => group.live > 0 || group.peak > 0,
    }
}

/// Whether `state` tells unread and unacknowledged bytes: a listener has none.
fn payload_known(state: &SockState) -> bool {
    state.tcp_state != TCP_LISTEN && state.seqs.flags & SEQ_VALID != 0
}

fn by_reason(means: &[u64; REASONS]) -> BTreeMap<Reason, u64> {
    ALL.into_iter()
        .zip(*means)
        .filter(|&(_, mean)| mean > 0)
        .collect()
}

fn largest(reasons: &BTreeMap<Reason, u64>) -> Option<Reason> {
    reasons
        .iter()
        .max_by_key(|&(&reason, &mean)| (mean, Reverse(reason)))
        .map(|(&r, _)| r)
}
