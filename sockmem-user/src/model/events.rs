//! What happens beside single sockets' counters: memory pressure, changes of sysctls.
//!
//! Some come as records, when they happen. The rest is found by comparing samples of the host:
//! changed settings, counters of the kernel that grew. Of each kind the first and the last are
//! kept, with what the owners held at that moment, and all are counted.

use std::collections::{BTreeMap, VecDeque};

use sockmem_common::{
    PRESSURE_COLLAPSE, PRESSURE_ENTER, PRESSURE_EXCEED, PRESSURE_MEM, PRESSURE_PRUNE_OFO,
    PRESSURE_PRUNE_RCV, PRESSURE_RCVQUEUE, Pressure, PressureCounts, SockState, SysctlWrite,
};

use super::address::{self, comm};
use super::groups::GroupKey;
use super::sockets::LATEST_NS;
use super::{By, EventKind, EventSocket, EventView, HeldBy, Model, Tier};
use crate::facts::{HostSample, KERNEL_COUNTERS, NetCounters, Setting};

/// Events of one kind that are kept from the beginning.
const FIRST: usize = 8;
/// Events of one kind that are kept from the end.
const LAST: usize = 24;
/// Owners that are kept with an event.
const HOLDERS: usize = 5;
/// Settings and writers that are remembered: five settings of the namespaces that are watched,
/// and a damaged recording cannot make them more.
const MOST_SETTINGS: usize = 1024;

/// Places in [`KERNEL_COUNTERS`].
const RCV_PRUNED: usize = 1;
const OFO_PRUNED: usize = 2;
const COLLAPSED: usize = 3;
const PRESSURES: usize = 4;
const PRESSURE_MS: usize = 5;

/// The socket of an event.
#[derive(Clone, Debug)]
struct About {
    key: GroupKey,
    cookie: Option<u64>,
    local: String,
    remote: String,
    rmem_alloc: u32,
    rcvbuf: u32,
}

/// What the owners held.
#[derive(Clone, Debug, Default)]
struct Held {
    resident: u64,
    sockets: u64,
    /// Group, `resident`, sockets.
    top: Vec<(GroupKey, u64, u64)>,
}

/// An event as it is kept: owners' names are looked up when it is shown.
#[derive(Clone, Debug)]
struct Event {
    at_ns: u64,
    observed: bool,
    count: u64,
    about: Option<About>,
    direction: Option<&'static str>,
    allocated: Option<u64>,
    tcp_mem: Option<[u64; 3]>,
    lasted_ns: Option<u64>,
    setting: Option<Setting>,
    netns: Option<u32>,
    from: Vec<u64>,
    to: Vec<u64>,
    by: Option<By>,
    held: Held,
}

impl Event {
    fn new(at_ns: u64, observed: bool, count: u64, held: Held) -> Event {
        Event {
            at_ns,
            observed,
            count,
            about: None,
            direction: None,
            allocated: None,
            tcp_mem: None,
            lasted_ns: None,
            setting: None,
            netns: None,
            from: Vec::new(),
            to: Vec::new(),
            by: None,
            held,
        }
    }
}

/// The events of one kind.
#[derive(Clone, Debug, Default)]
struct Kept {
    first: Vec<Event>,
    last: VecDeque<Event>,
    count: u64,
}

impl Kept {
    fn push(&mut self, event: Event) {
        self.count = self.count.saturating_add(event.count);
        if self.first.len() < FIRST {
            self.first.push(event);
            return;
        }
        if self.last.len() == LAST {
            self.last.pop_front();
        }
        self.last.push_back(event);
    }
}

/// A setting as last seen.
#[derive(Clone, Debug)]
struct Seen {
    values: Vec<u64>,
    /// When this value was found.
    at_ns: u64,
}

/// Who wrote a setting last.
#[derive(Clone, Debug)]
struct Writer {
    at_ns: u64,
    by: By,
}

/// All events, and what is needed to find the next.
#[derive(Clone, Debug, Default)]
pub(super) struct Events {
    kept: BTreeMap<EventKind, Kept>,
    settings: BTreeMap<(Setting, u32), Seen>,
    writers: BTreeMap<(Setting, u32), Writer>,
    counters: BTreeMap<u32, NetCounters>,
    /// What the counters grew by; `None` where no namespace has told.
    grown: [Option<u64>; KERNEL_COUNTERS.len()],
    under_pressure: bool,
    /// When a record last told of pressure that no sample has shown to be over.
    entered_ns: Option<u64>,
    /// Such records since the last sample.
    entered: u64,
    counts: PressureCounts,
}

fn kind_of(kind: u8) -> Option<EventKind> {
    Some(match kind {
        PRESSURE_EXCEED => EventKind::ExceedLimit,
        PRESSURE_RCVQUEUE => EventKind::RcvqueueFull,
        PRESSURE_ENTER => EventKind::EnterPressure,
        PRESSURE_PRUNE_OFO => EventKind::PruneOfo,
        PRESSURE_PRUNE_RCV => EventKind::PruneRcv,
        PRESSURE_COLLAPSE => EventKind::Collapse,
        _ => return None,
    })
}

impl Model {
    /// What the traced sockets hold now, and who most of it.
    fn held(&self) -> Held {
        let mut top: Vec<(GroupKey, u64, u64)> = Vec::with_capacity(HOLDERS + 1);
        for group in self.groups.iter().filter(|g| g.resident > 0) {
            let at = top.partition_point(|(_, resident, _)| *resident >= group.resident);
            if at < HOLDERS {
                top.insert(at, (group.key, group.resident, group.live));
                top.truncate(HOLDERS);
            }
        }
        Held {
            resident: self.total.resident,
            sockets: self.total.live,
            top,
        }
    }

    /// The kernel ran into a limit.
    pub(super) fn pressure(&mut self, p: &Pressure) {
        let Some(kind) = kind_of(p.kind) else { return };
        let at_ns = p.header.t_ns.min(LATEST_NS);
        let mut event = Event::new(at_ns, true, p.count.max(1), self.held());
        if let Some(at) = self.index.find(p.header.id, &self.sockets) {
            let socket = &self.sockets[at];
            let key = self.groups[socket.group as usize].key;
            event.about = Some(about(key, &socket.state(), p));
        }
        if kind == EventKind::ExceedLimit {
            event.direction = Some(if p.direction == 0 { "send" } else { "receive" });
        }
        if p.flags & PRESSURE_MEM != 0 {
            event.allocated = Some(p.allocated);
            event.tcp_mem = Some(p.limits);
        }
        if kind == EventKind::EnterPressure {
            self.events.entered = self.events.entered.saturating_add(1);
            self.events.entered_ns = Some(at_ns);
        }
        self.events.kept.entry(kind).or_default().push(event);
    }

    /// A setting is being written: should the next sample show another value, it is known by whom.
    pub(super) fn sysctl_written(&mut self, w: &SysctlWrite) {
        let name = comm(&w.name).unwrap_or_default();
        let Some(setting) = Setting::ALL.into_iter().find(|s| s.file() == name) else {
            return;
        };
        let netns = if setting.is_of_namespace() {
            w.netns
        } else {
            0
        };
        let key = (setting, netns);
        if self.events.writers.len() >= MOST_SETTINGS && !self.events.writers.contains_key(&key) {
            return;
        }
        let by = By {
            pid: u32::try_from(w.header.id).unwrap_or(0),
            comm: comm(&w.comm),
        };
        let writer = Writer {
            at_ns: w.header.t_ns.min(LATEST_NS),
            by,
        };
        self.events.writers.insert(key, writer);
    }

    /// How often a limit was run into so far, by the programs' own count.
    pub(super) fn pressure_counts(&mut self, counts: &PressureCounts) {
        self.events.counts = *counts;
    }

    /// Compares a sample of the host with the one before.
    pub(super) fn host(&mut self, sample: &HostSample) {
        let at_ns = sample.at_ns.min(LATEST_NS);
        self.compare_settings(sample, at_ns);
        let grown = self.compare_counters(sample);
        self.compare_pressure(sample, at_ns, &grown);
        // With hooks, records tell of these, and of whose socket it was.
        if self.config.tier == Tier::Tracepoint {
            for (counter, kind) in [
                (RCV_PRUNED, EventKind::PruneRcv),
                (OFO_PRUNED, EventKind::PruneOfo),
                (COLLAPSED, EventKind::Collapse),
            ] {
                if grown[counter] > 0 {
                    let mut event = Event::new(at_ns, false, grown[counter], self.held());
                    event.allocated = sample.tcp_pages;
                    self.events.kept.entry(kind).or_default().push(event);
                }
            }
        }
    }

    fn compare_settings(&mut self, sample: &HostSample, at_ns: u64) {
        for s in &sample.settings {
            let key = (s.setting, s.netns);
            let before = match self.events.settings.get(&key) {
                Some(seen) if seen.values == s.values => continue,
                Some(seen) => Some((seen.values.clone(), seen.at_ns)),
                None if self.events.settings.len() >= MOST_SETTINGS => continue,
                None => None,
            };
            let seen = Seen {
                values: s.values.clone(),
                at_ns,
            };
            self.events.settings.insert(key, seen);
            let Some((from, since_ns)) = before else {
                continue;
            };
            let writer = self.events.writers.get(&key);
            let writer = writer.filter(|w| (since_ns..=at_ns).contains(&w.at_ns));
            let mut event = Event::new(
                writer.map_or(at_ns, |w| w.at_ns),
                writer.is_some(),
                1,
                self.held(),
            );
            event.by = writer.map(|w| w.by.clone());
            event.setting = Some(s.setting);
            event.netns = (s.netns != 0).then_some(s.netns);
            event.from = from;
            event.to.clone_from(&s.values);
            let kept = self.events.kept.entry(EventKind::Sysctl).or_default();
            kept.push(event);
        }
    }

    /// By how much each counter grew since the sample before, over all namespaces.
    fn compare_counters(&mut self, sample: &HostSample) -> [u64; KERNEL_COUNTERS.len()] {
        let mut grown = [0u64; KERNEL_COUNTERS.len()];
        let events = &mut self.events;
        for now in &sample.counters {
            let before = events.counters.get(&now.netns).copied();
            if before.is_none() && events.counters.len() >= MOST_SETTINGS {
                continue;
            }
            let mut next = *now;
            for (i, slot) in next.values.iter_mut().enumerate() {
                let then = before.and_then(|b| b.values[i]);
                let Some(value) = *slot else {
                    *slot = then;
                    continue;
                };
                let by = then.map_or(0, |then| value.saturating_sub(then));
                grown[i] = grown[i].saturating_add(by);
                events.grown[i] = Some(events.grown[i].unwrap_or(0).saturating_add(by));
            }
            events.counters.insert(now.netns, next);
        }
        grown
    }

    /// Tells of pressure that came or went between two samples. The kernel counts how often TCP
    /// entered it (when it does) and for how many milliseconds (when it leaves).
    fn compare_pressure(
        &mut self,
        sample: &HostSample,
        at_ns: u64,
        grown: &[u64; KERNEL_COUNTERS.len()],
    ) {
        let was = self.events.under_pressure;
        let is = sample.under_pressure.unwrap_or(was);
        let recorded = std::mem::take(&mut self.events.entered);
        let must = u64::from(is && !was).max(grown[PRESSURES]);
        let entered = must.max(recorded);
        let lasted_ns = grown[PRESSURE_MS].saturating_mul(1_000_000);
        let mut left = (u64::from(was) + entered).saturating_sub(u64::from(is));
        if lasted_ns > 0 {
            left = left.max(1);
        }
        let push = |model: &mut Model, kind, at_ns, count, lasted_ns| {
            let mut event = Event::new(at_ns, false, count, model.held());
            event.allocated = sample.tcp_pages;
            event.lasted_ns = lasted_ns;
            model.events.kept.entry(kind).or_default().push(event);
        };
        if must > recorded {
            push(self, EventKind::EnterPressure, at_ns, must - recorded, None);
        }
        if left > 0 {
            // Of a single one of which the beginning is known, the end is, too.
            let since_ns = self.events.entered_ns.take();
            let end_ns = match since_ns {
                Some(since_ns) if left == 1 && lasted_ns > 0 => {
                    since_ns.saturating_add(lasted_ns).min(at_ns)
                }
                _ => at_ns,
            };
            let lasted = (lasted_ns > 0).then_some(lasted_ns);
            push(self, EventKind::LeavePressure, end_ns, left, lasted);
        }
        self.events.under_pressure = is;
    }

    /// Every kept event, oldest first.
    pub(super) fn event_views(&self) -> Vec<EventView> {
        let mut views: Vec<EventView> = self
            .events
            .kept
            .iter()
            .flat_map(|(kind, kept)| {
                let all = kept.first.iter().chain(&kept.last);
                all.map(|event| self.event_view(*kind, event))
            })
            .collect();
        views.sort_by_key(|e| (e.at_ns, e.kind));
        views
    }

    /// How many there were of each kind.
    pub(super) fn event_counts(&self) -> BTreeMap<EventKind, u64> {
        let mut counts: BTreeMap<EventKind, u64> = self
            .events
            .kept
            .iter()
            .map(|(kind, kept)| (*kind, kept.count))
            .collect();
        for (kind, seen) in (0..).zip(self.events.counts.seen) {
            if let Some(kind) = kind_of(kind)
                && seen > 0
            {
                // Records tell less while some wait to be sent with the next.
                let count = counts.entry(kind).or_default();
                *count = (*count).max(seen);
            }
        }
        counts
    }

    /// What the kernel counted since the trace began.
    pub(super) fn kernel_counters(&self) -> BTreeMap<&'static str, u64> {
        let names = KERNEL_COUNTERS.iter().zip(self.events.grown);
        names
            .filter_map(|(name, grown)| Some((*name, grown?)))
            .collect()
    }

    /// Records of set limits and written sysctls that were lost.
    pub(super) fn events_lost(&self) -> u64 {
        self.events.counts.lost
    }

    fn event_view(&self, kind: EventKind, e: &Event) -> EventView {
        let owner = |key: &GroupKey| self.owner(key.owner_kind(), key.pid, key.generation);
        EventView {
            at_ns: e.at_ns,
            kind,
            observed: e.observed,
            count: e.count,
            socket: e.about.as_ref().map(|a| EventSocket {
                cookie: a.cookie,
                local: a.local.clone(),
                remote: a.remote.clone(),
                owner: owner(&a.key),
                rmem_alloc: a.rmem_alloc.into(),
                rcvbuf: a.rcvbuf.into(),
            }),
            direction: e.direction,
            allocated_pages: e.allocated,
            tcp_mem_pages: e.tcp_mem,
            lasted_ns: e.lasted_ns,
            name: e.setting.map(Setting::name),
            netns: e.netns,
            from: e.from.clone(),
            to: e.to.clone(),
            by: e.by.clone(),
            held_resident: e.held.resident,
            held_sockets: e.held.sockets,
            held_by: e
                .held
                .top
                .iter()
                .map(|(key, resident, sockets)| HeldBy {
                    owner: owner(key),
                    listener: self.group_listener(key),
                    resident: *resident,
                    sockets: *sockets,
                })
                .collect(),
        }
    }

    /// The address of the listener whose children a group holds, where it is still known.
    fn group_listener(&self, key: &GroupKey) -> Option<String> {
        let group = self.group_index.get(key);
        let kept = group.and_then(|&at| self.groups[at as usize].listener.clone());
        self.listener(key.listener_id).or(kept)
    }
}

fn about(key: GroupKey, state: &SockState, p: &Pressure) -> About {
    About {
        key,
        cookie: (state.cookie != 0).then_some(state.cookie),
        local: address::local(state),
        remote: address::remote(state),
        rmem_alloc: p.rmem_alloc,
        rcvbuf: p.rcvbuf,
    }
}
