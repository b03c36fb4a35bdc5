//! What a comparison of two traces needs beside their views: the level over time in equal bins,
//! what each connection did, and payload that was moved. Gathered while a recording is read, in
//! bounded memory; a live trace does without.

mod flow;
mod sample;
mod series;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sockmem_common::{OWNER_LISTENER, SockState};

use super::address::{AF_INET6, TCP_LISTEN};
use super::groups::{GroupKey, Segment};
use super::hash::IdMap;
use super::sockets::{LATEST_NS, Socket};
use super::{Model, OwnerView, SocketView};
use flow::Flow;
use sample::Sample;
pub(super) use series::Series;

/// Most bins of the whole trace.
pub const TOTAL_BINS: usize = 4096;
/// Most bins of one owner.
pub const GROUP_BINS: usize = 512;
/// Most connections of which each is kept.
pub const MAX_CONNECTIONS: usize = 8192;
/// Most classes of connections told apart.
pub const MAX_CLASSES: usize = 512;
/// Closed sockets kept of each ranking.
const TOP: usize = 16;

/// One bin of a level over time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bin {
    /// Mean of `resident` over it. Bytes.
    pub mean: f64,
    /// Highest `resident` in it. Bytes.
    pub high: u64,
}

/// Which end of its connection a socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Came from a listener, or its local port is one that is listened on.
    Server,
    /// Anything else: it connected.
    Client,
}

impl Role {
    /// The name used in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Role::Server => "server",
            Role::Client => "client",
        }
    }
}

/// Connections of one kind: the port that does not change from one to the next, and who is at
/// the other end. A server's port is its own, a client's the remote one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Class {
    /// Which end.
    pub role: Role,
    /// The service's port.
    pub port: u16,
    /// Address of the other end; `None`: of all beyond `MAX_CLASSES`.
    pub remote: Option<IpAddr>,
}

/// What all connections of a class did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ClassSums {
    /// How many.
    pub connections: u64,
    /// Highest `resident` of one.
    pub peak: u64,
    /// Sum of `resident` over time. byte·ns.
    pub byte_ns: f64,
    /// Sum of increases of `resident`.
    pub charged: u64,
    /// Payload in both directions. Bytes.
    pub payload: u64,
}

/// What one connection did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Connection {
    /// Of which kind.
    pub class: Class,
    /// Thread-group id of its last owner; 0 where not known.
    pub pid: u32,
    /// The local end's address.
    pub local: IpAddr,
    /// Highest `resident`.
    pub peak: u64,
    /// `resident` over its life. byte·ns.
    pub byte_ns: f64,
    /// Mean while idle; `None` where it was not idle.
    pub idle_mean: Option<u64>,
    /// How long it was seen.
    pub life_ns: u64,
    /// Sum of increases of `resident`.
    pub charged: u64,
    /// Payload in both directions. Bytes.
    pub payload: u64,
}

/// An owner's level over time.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupSeries {
    /// Whose.
    pub owner: OwnerView,
    /// Its command line, unescaped; `None` where not known.
    pub command: Option<String>,
    /// For a listener's children the listener's address.
    pub listener: Option<String>,
    /// Equal bins from the start of the trace on.
    pub bins: Vec<Bin>,
}

/// What was gathered.
#[derive(Clone, Debug, PartialEq)]
pub struct Survey {
    /// Sum of `resident` over all sockets: equal bins from the start of the trace on.
    pub total: Vec<Bin>,
    /// Width of these bins. ns.
    pub total_bin_ns: u64,
    /// By owner.
    pub groups: Vec<GroupSeries>,
    /// Width of the owners' bins. ns.
    pub group_bin_ns: u64,
    /// Connections: all, or a fair sample of `MAX_CONNECTIONS`.
    pub connections: Vec<Connection>,
    /// How many there were.
    pub connections_seen: u64,
    /// Sums by class.
    pub classes: BTreeMap<Class, ClassSums>,
    /// Addresses that were listened on, with their ports.
    pub listeners: BTreeSet<(IpAddr, u16)>,
    /// Payload that all connections moved, both directions. `None` where one may have moved
    /// 4 GiB or more between two readings.
    pub payload_bytes: Option<u64>,
    /// Sockets that held most at once, the closed ones that a view has dropped included.
    pub top_peak: Vec<SocketView>,
    /// Sockets that held most while idle, likewise.
    pub top_idle: Vec<SocketView>,
}

/// Gathers.
#[derive(Clone, Debug)]
pub(super) struct Surveyor {
    flows: IdMap<u64, Flow>,
    closed: Sample,
    classes: BTreeMap<Class, ClassSums>,
    ports: BTreeSet<u16>,
    listeners: BTreeSet<(IpAddr, u16)>,
    payload: u64,
    wrapped: bool,
    top_peak: Vec<(u64, Kept)>,
    top_idle: Vec<(u64, Kept)>,
}

/// One of those that held most.
#[derive(Clone, Debug)]
struct Kept {
    socket: Socket,
    key: GroupKey,
    state: SockState,
    closed: bool,
}

fn ip(family: u8, address: &[u8; 16]) -> IpAddr {
    if family == AF_INET6 {
        let v6 = Ipv6Addr::from(*address);
        // The same peer through a socket of either family is the same peer.
        v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4)
    } else {
        let [a, b, c, d, ..] = *address;
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    }
}

impl Surveyor {
    pub(super) fn new() -> Surveyor {
        Surveyor {
            flows: IdMap::default(),
            closed: Sample::new(MAX_CONNECTIONS),
            classes: BTreeMap::new(),
            ports: BTreeSet::new(),
            listeners: BTreeSet::new(),
            payload: 0,
            wrapped: false,
            top_peak: Vec::new(),
            top_idle: Vec::new(),
        }
    }

    /// A state as the kernel gave it.
    pub(super) fn state(&mut self, s: &SockState) {
        if s.tcp_state == TCP_LISTEN && self.ports.len() < MAX_CLASSES {
            self.ports.insert(s.local_port);
            self.listeners
                .insert((ip(s.family, &s.local), s.local_port));
        }
        self.flows.entry(s.id).or_default().take(s);
    }

    /// A socket is gone; its state is final.
    pub(super) fn closed(&mut self, socket: &Socket, key: &GroupKey) {
        let s = &socket.state();
        let flow = self.flows.remove(&s.id).unwrap_or_default();
        if socket.connection {
            let c = self.connection(s, key, &flow);
            count(&mut self.classes, &c);
            self.payload = self.payload.saturating_add(flow.payload);
            self.wrapped |= flow.wrapped;
            self.closed.offer(c);
        }
        let kept = || Kept {
            socket: socket.clone(),
            key: *key,
            state: *s,
            closed: true,
        };
        keep(&mut self.top_peak, s.resident_peak, kept);
        if s.idle_ns > 0 {
            keep(&mut self.top_idle, s.idle_resident_max, kept);
        }
    }

    /// Of a socket that belongs to `key`'s owner, as kept: without owner and listener.
    fn connection(&self, s: &SockState, key: &GroupKey, flow: &Flow) -> Connection {
        let server =
            flow.accepted || key.kind == OWNER_LISTENER || self.ports.contains(&s.local_port);
        let (role, port) = if server {
            (Role::Server, s.local_port)
        } else {
            (Role::Client, s.remote_port)
        };
        let class = Class {
            role,
            port,
            remote: Some(ip(s.family, &s.remote)),
        };
        let segment = Segment::whole(s, true);
        Connection {
            class,
            pid: key.pid,
            local: ip(s.family, &s.local),
            peak: s.resident_peak,
            byte_ns: segment.resident_byte_ns as f64,
            idle_mean: segment.idle_means().map(|m| m.iter().sum()),
            life_ns: segment.life_ns,
            charged: s.charged,
            payload: flow.payload,
        }
    }
}

/// Adds a connection to its class; where there are too many classes, to the rest's.
fn count(classes: &mut BTreeMap<Class, ClassSums>, c: &Connection) {
    let mut key = c.class;
    if classes.len() >= MAX_CLASSES && !classes.contains_key(&key) {
        key.remote = None;
        if classes.len() >= 2 * MAX_CLASSES && !classes.contains_key(&key) {
            key.port = 0;
        }
    }
    let sums = classes.entry(key).or_default();
    sums.connections += 1;
    sums.peak = sums.peak.max(c.peak);
    sums.byte_ns += c.byte_ns;
    sums.charged = sums.charged.saturating_add(c.charged);
    sums.payload = sums.payload.saturating_add(c.payload);
}

/// Keeps the sockets with the highest keys.
fn keep(top: &mut Vec<(u64, Kept)>, key: u64, kept: impl Fn() -> Kept) {
    if top.len() == TOP && top.last().is_some_and(|(least, _)| *least >= key) {
        return;
    }
    let at = top.partition_point(|(other, _)| *other >= key);
    top.insert(at, (key, kept()));
    top.truncate(TOP);
}

impl Model {
    /// What was gathered up to `now_ns` (`CLOCK_MONOTONIC`); `None` unless `Config::survey` was set.
    #[must_use]
    pub fn survey(&self, now_ns: u64) -> Option<Survey> {
        let surveyor = self.survey.as_deref()?;
        let now_ns = now_ns.min(LATEST_NS);
        let mut sample = surveyor.closed.clone();
        let mut classes = surveyor.classes.clone();
        let (mut payload, mut wrapped) = (surveyor.payload, surveyor.wrapped);
        let mut top_peak = surveyor.top_peak.clone();
        let mut top_idle = surveyor.top_idle.clone();
        for socket in &self.sockets {
            let state = socket.at(now_ns, self.config.idle_after_ns);
            let kept = || Kept {
                socket: socket.clone(),
                key: self.groups[socket.group as usize].key,
                state,
                closed: false,
            };
            if socket.connection {
                let flow = surveyor.flows.get(&state.id).copied().unwrap_or_default();
                let c = surveyor.connection(&state, &self.groups[socket.group as usize].key, &flow);
                count(&mut classes, &c);
                payload = payload.saturating_add(flow.payload);
                wrapped |= flow.wrapped;
                sample.offer(c);
            }
            keep(&mut top_peak, state.resident_peak, kept);
            if state.idle_ns > 0 {
                keep(&mut top_idle, state.idle_resident_max, kept);
            }
        }
        let (total, total_bin_ns) = bins(self.total.series.as_deref(), now_ns);
        let mut group_bin_ns = total_bin_ns;
        let groups = self
            .groups
            .iter()
            .filter(|g| g.seen > 0)
            .map(|g| {
                let (bins, width) = bins(g.series.as_deref(), now_ns);
                group_bin_ns = width;
                let key = &g.key;
                let facts = self.processes.facts(key.pid, key.generation);
                GroupSeries {
                    command: facts
                        .filter(|_| key.pid != 0)
                        .and_then(|f| f.cmdline.clone()),
                    owner: self.owner(g.key.owner_kind(), g.key.pid, g.key.generation),
                    listener: self
                        .listener(g.key.listener_id)
                        .or_else(|| g.listener.clone()),
                    bins,
                }
            })
            .collect();
        let (connections, connections_seen) = sample.into_parts();
        Some(Survey {
            total,
            total_bin_ns,
            groups,
            group_bin_ns,
            connections,
            connections_seen,
            classes,
            listeners: surveyor.listeners.clone(),
            payload_bytes: (!wrapped).then_some(payload),
            top_peak: self.shown(&top_peak, now_ns),
            top_idle: self.shown(&top_idle, now_ns),
        })
    }

    fn shown(&self, top: &[(u64, Kept)], now_ns: u64) -> Vec<SocketView> {
        let mut scratch = Vec::new();
        top.iter()
            .map(|(_, kept)| {
                self.socket(
                    &kept.socket,
                    &kept.key,
                    &kept.state,
                    now_ns,
                    super::Detail::FULL,
                    kept.closed,
                    &mut scratch,
                )
            })
            .collect()
    }
}

fn bins(series: Option<&Series>, now_ns: u64) -> (Vec<Bin>, u64) {
    series.map_or((Vec::new(), 0), |s| s.bins(now_ns))
}
