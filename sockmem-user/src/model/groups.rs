//! The sockets of one owner, and the sums over them.
//!
//! A socket changes hands: its listener's, then its process's, then an orphan.
//! Each group counts what the socket did while it belonged to it, so a sum over
//! groups counts nothing twice. What left a group (closed, or went to another)
//! is settled in `Settled`; what is there is counted when a view is made.

use sockmem_common::{Integral, REASONS, SockState};

use super::OwnerKind;
use super::survey::Series;
use super::timeline::Timeline;

/// Whose sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct GroupKey {
    pub(super) kind: u8,
    /// 0 where not known.
    pub(super) pid: u32,
    /// Tells processes apart that had the same pid one after the other.
    pub(super) generation: u32,
    /// For a listener's children the listener's `id`, 0 where not known.
    pub(super) listener_id: u64,
    /// For a listener's children without a known listener, their local port.
    pub(super) port: u32,
}

impl GroupKey {
    /// Sockets of which nothing is known, and what remains of groups long gone.
    pub(super) const UNKNOWN: GroupKey = GroupKey {
        kind: sockmem_common::OWNER_UNKNOWN,
        pid: 0,
        generation: 0,
        listener_id: 0,
        port: 0,
    };

    /// The group that `s` belongs to, its owner being the `generation`-th process of that pid.
    pub(super) fn of(s: &SockState, generation: u32) -> GroupKey {
        let pid = s.owner_tgid;
        match s.owner_kind {
            sockmem_common::OWNER_LISTENER => GroupKey {
                kind: s.owner_kind,
                pid,
                generation,
                listener_id: s.listener_id,
                port: if s.listener_id == 0 {
                    s.local_port.into()
                } else {
                    0
                },
            },
            kind @ (sockmem_common::OWNER_PROCESS | sockmem_common::OWNER_ORPHAN) if pid != 0 => {
                GroupKey {
                    kind,
                    pid,
                    generation,
                    ..GroupKey::UNKNOWN
                }
            }
            sockmem_common::OWNER_ORPHAN => GroupKey {
                kind: sockmem_common::OWNER_ORPHAN,
                ..GroupKey::UNKNOWN
            },
            _ => GroupKey::UNKNOWN,
        }
    }

    pub(super) fn owner_kind(&self) -> OwnerKind {
        owner_kind(self.kind)
    }
}

/// `SockState::owner_kind` as the view names it.
#[must_use]
pub fn owner_kind(kind: u8) -> OwnerKind {
    match kind {
        sockmem_common::OWNER_PROCESS => OwnerKind::Process,
        sockmem_common::OWNER_LISTENER => OwnerKind::Listener,
        sockmem_common::OWNER_ORPHAN => OwnerKind::Orphan,
        _ => OwnerKind::Unknown,
    }
}

/// A socket's totals when it joined its present group.
#[derive(Clone, Debug, Default)]
pub(super) struct Mark {
    charged: u64,
    released: u64,
    idle_ns: u64,
    resident_time: Integral,
    /// `None`: all zero.
    idle_time: Option<Box<[Integral; REASONS]>>,
}

impl Mark {
    /// The totals of `s`; `None` where nothing happened yet.
    pub(super) fn of(s: &SockState) -> Option<Box<Mark>> {
        let idle = s.charged == 0 && s.released == 0 && s.idle_ns == 0;
        if idle && s.resident_time == Integral::default() {
            return None;
        }
        let held_idle = s.idle_time != [Integral::default(); REASONS];
        Some(Box::new(Mark {
            charged: s.charged,
            released: s.released,
            idle_ns: s.idle_ns,
            resident_time: s.resident_time,
            idle_time: held_idle.then(|| Box::new(s.idle_time)),
        }))
    }
}

/// What a socket did while it belonged to a group.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Segment {
    pub(super) life_ns: u64,
    pub(super) idle_ns: u64,
    pub(super) charged: u64,
    pub(super) released: u64,
    pub(super) resident_byte_ns: u128,
    pub(super) idle_byte_ns: [u128; REASONS],
    pub(super) idle_max: u64,
    pub(super) connection: bool,
}

impl Segment {
    /// The whole life of `s`, up to `s.last_ns`.
    pub(super) fn whole(s: &SockState, connection: bool) -> Segment {
        Segment::since(s.first_ns, &Mark::default(), s, connection)
    }

    /// From `m`, made at `from_ns`, to the totals of `s`, which are complete up to `s.last_ns`.
    pub(super) fn since(from_ns: u64, m: &Mark, s: &SockState, connection: bool) -> Segment {
        let mut idle_byte_ns = s.idle_time.map(|now| now.byte_ns());
        if let Some(marked) = m.idle_time.as_deref() {
            for (out, then) in idle_byte_ns.iter_mut().zip(marked) {
                *out = out.saturating_sub(then.byte_ns());
            }
        }
        let idle_ns = s.idle_ns.saturating_sub(m.idle_ns);
        Segment {
            life_ns: s.last_ns.saturating_sub(from_ns),
            idle_ns,
            charged: s.charged.saturating_sub(m.charged),
            released: s.released.saturating_sub(m.released),
            resident_byte_ns: s
                .resident_time
                .byte_ns()
                .saturating_sub(m.resident_time.byte_ns()),
            idle_byte_ns,
            idle_max: if idle_ns > 0 { s.idle_resident_max } else { 0 },
            connection,
        }
    }

    /// Mean bytes held while idle, by reason; `None` without idle time.
    pub(super) fn idle_means(&self) -> Option<[u64; REASONS]> {
        if self.idle_ns == 0 {
            return None;
        }
        let ns = u128::from(self.idle_ns);
        Some(self.idle_byte_ns.map(|b| saturate((b + ns / 2) / ns)))
    }
}

/// Sums over segments. Idle means of segments that ended are weighted by how
/// long they lasted, so that connections one after the other do not add up.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Settled {
    pub(super) charged: u64,
    pub(super) released: u64,
    pub(super) resident_byte_ns: u128,
    pub(super) connections: u64,
    /// Connections that were idle for long enough to tell.
    pub(super) idle_connections: u64,
    /// Those of them that held at least a page, or a good part of their peak.
    pub(super) holding: u64,
    /// Idle time of `idle_connections`. Summed over sockets, so 128 bits.
    pub(super) idle_ns: u128,
    /// Whether any segment had idle time, however little.
    pub(super) any_idle: bool,
    pub(super) idle_max: u64,
    /// Mean bytes held while idle times the segment's life, by reason. byte·ns.
    pub(super) idle_life: [u128; REASONS],
}

impl Settled {
    /// Adds a segment that ended. `told`: it was idle for long enough; `holds`: and held memory.
    pub(super) fn add(&mut self, s: &Segment, told: bool, holds: bool) {
        self.count(s, told, holds);
        if let Some(means) = s.idle_means() {
            for (sum, mean) in self.idle_life.iter_mut().zip(means) {
                *sum = sum.saturating_add(u128::from(mean) * u128::from(s.life_ns));
            }
        }
    }

    /// Adds everything but the idle means, which weigh fully while the socket lives.
    pub(super) fn count(&mut self, s: &Segment, told: bool, holds: bool) {
        self.charged = self.charged.saturating_add(s.charged);
        self.released = self.released.saturating_add(s.released);
        self.resident_byte_ns = self.resident_byte_ns.saturating_add(s.resident_byte_ns);
        self.any_idle |= s.idle_ns > 0;
        self.idle_max = self.idle_max.max(s.idle_max);
        if s.connection {
            self.connections += 1;
            if told {
                self.idle_connections += 1;
                self.idle_ns += u128::from(s.idle_ns);
                self.holding += u64::from(holds);
            }
        }
    }

    /// Adds what another group settled.
    fn absorb(&mut self, o: &Settled) {
        self.charged = self.charged.saturating_add(o.charged);
        self.released = self.released.saturating_add(o.released);
        self.resident_byte_ns = self.resident_byte_ns.saturating_add(o.resident_byte_ns);
        self.connections += o.connections;
        self.idle_connections += o.idle_connections;
        self.holding += o.holding;
        self.idle_ns = self.idle_ns.saturating_add(o.idle_ns);
        self.any_idle |= o.any_idle;
        self.idle_max = self.idle_max.max(o.idle_max);
        for (sum, part) in self.idle_life.iter_mut().zip(o.idle_life) {
            *sum = sum.saturating_add(part);
        }
    }
}

/// A group, or everything.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) key: GroupKey,
    /// Sum of `resident` now. Always that of its sockets' last readings.
    pub(super) resident: u64,
    pub(super) peak: u64,
    pub(super) timeline: Timeline<u64>,
    /// The level in equal bins, where a comparison wants it.
    pub(super) series: Option<Box<Series>>,
    /// Up to when the timeline is recorded.
    pub(super) last_ns: u64,
    /// Sockets in it now.
    pub(super) live: u64,
    /// Sockets that were ever in it.
    pub(super) seen: u64,
    pub(super) settled: Settled,
    /// For a listener's children, its address where it was known.
    pub(super) listener: Option<String>,
    connections: u64,
    connected_since_ns: u64,
    /// Up to when `connected_ns` is complete.
    disconnected_ns: u64,
    connected_ns: u64,
}

impl Group {
    /// An empty one at `start_ns`.
    pub(super) fn new(key: GroupKey, start_ns: u64, buckets: u16) -> Group {
        Group {
            key,
            resident: 0,
            peak: 0,
            timeline: Timeline::new(start_ns, buckets, 0),
            series: None,
            last_ns: start_ns,
            live: 0,
            seen: 0,
            settled: Settled::default(),
            listener: None,
            connections: 0,
            connected_since_ns: 0,
            disconnected_ns: 0,
            connected_ns: 0,
        }
    }

    /// One socket's level went from `before` to `after` at `t_ns`, in between from `low` to `high`.
    pub(super) fn level(&mut self, t_ns: u64, before: u64, low: u64, high: u64, after: u64) {
        let others = self.resident.saturating_sub(before);
        self.resident = others.saturating_add(after);
        let low = others.saturating_add(low.min(after));
        let high = others.saturating_add(high.max(after));
        self.peak = self.peak.max(high);
        // Sockets' records may come out of order between CPUs; the sum's come as they arrive.
        self.last_ns = self.last_ns.max(t_ns);
        self.timeline.record(self.last_ns, low, high, self.resident);
        if let Some(series) = &mut self.series {
            series.step(self.last_ns, high, self.resident);
        }
    }
    /// A socket joins at `t_ns`; it has belonged here since `since_ns`.
    pub(super) fn join(&mut self, t_ns: u64, since_ns: u64, resident: u64, connection: bool) {
        self.live += 1;
        self.seen += 1;
        self.level(t_ns, 0, 0, 0, resident);
        if connection {
            self.connected(since_ns);
        }
    }

    /// A socket leaves, holding `resident`.
    pub(super) fn leave(&mut self, t_ns: u64, resident: u64, connection: bool) {
        self.live = self.live.saturating_sub(1);
        self.level(t_ns, resident, 0, 0, 0);
        if connection {
            self.connections = self.connections.saturating_sub(1);
            if self.connections == 0 {
                self.connected_ns += t_ns.saturating_sub(self.connected_since_ns);
                self.disconnected_ns = self.disconnected_ns.max(t_ns);
            }
        }
    }
    /// One of its sockets, which belongs here since `since_ns`, is a connection.
    pub(super) fn connected(&mut self, since_ns: u64) {
        let from_ns = since_ns.max(self.disconnected_ns);
        if self.connections == 0 {
            self.connected_since_ns = from_ns;
        }
        self.connected_since_ns = self.connected_since_ns.min(from_ns);
        self.connections += 1;
    }

    /// One of its sockets held `bytes` at some time: the sum was at least that.
    pub(super) fn reached(&mut self, bytes: u64) {
        self.peak = self.peak.max(bytes);
    }

    /// For how long it has had at least one connection.
    pub(super) fn connected_ns(&self, now_ns: u64) -> u64 {
        let open = if self.connections > 0 {
            now_ns.saturating_sub(self.connected_since_ns)
        } else {
            0
        };
        self.connected_ns + open
    }

    /// Takes over the sums of a group without sockets that is given up.
    pub(super) fn take_over(&mut self, gone: &Group) {
        self.seen += gone.seen;
        self.settled.absorb(&gone.settled);
        if let (Some(series), Some(gone)) = (&mut self.series, &gone.series) {
            series.take_over(gone);
        }
        // At least as long as either had connections; the two may have overlapped.
        self.connected_ns = self.connected_ns.max(gone.connected_ns);
    }
}

/// 128 to 64 bits; what does not fit becomes the largest value.
pub(super) fn saturate(v: u128) -> u64 {
    u64::try_from(v).unwrap_or(u64::MAX)
}
