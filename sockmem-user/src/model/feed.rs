//! How records and scans change the model.
use sockmem_common::{Change, Lifecycle, OWNER_LISTENER, OWNER_PROCESS, STATE_CLOSED, SockState};

use super::address::{self, comm};
use super::groups::{Group, GroupKey, Mark, Segment};
use super::sockets::{LATEST_NS, Socket, Step, believable};
use super::survey::{GROUP_BINS, Series};
use super::{Closed, Model, REMEMBERED};
use crate::decode::Record;

/// Buckets that a closed socket's timeline keeps.
const CLOSED_BUCKETS: u16 = 16;

impl Model {
    /// Takes one record. Records come in the order they arrive; between CPUs that need not be
    /// the order of their times.
    pub fn apply(&mut self, record: &Record) {
        match record {
            Record::Change(c) => self.change(c),
            Record::Open(l) => {
                // A process that had ended opens nothing: its pid belongs to another now.
                if l.state.owner_kind == OWNER_PROCESS && l.state.owner_tgid != 0 {
                    self.processes.opened(l.state.owner_tgid, l.header.t_ns);
                }
                self.lifecycle(l);
            }
            Record::Owner(l) => self.lifecycle(l),
            Record::Close(l) => self.close(l),
            Record::Fork(p) => self.processes.started(p.header.id as u32, comm(&p.comm)),
            Record::Exit(p) => {
                self.processes.exited(p.header.id as u32, p.header.t_ns);
            }
            Record::Limit(l) => match self.index.find(l.header.id, &self.sockets) {
                Some(at) => self.sockets[at].limit_set(l),
                None => self.oddities.unmatched += 1,
            },
            Record::Pressure(p) => self.pressure(p),
            Record::Sysctl(w) => self.sysctl_written(w),
        }
    }

    /// Takes (a part of) a scan of the kernel's state map, read at `now_ns` at the latest.
    ///
    /// States are authoritative for readings, totals, peaks and integrals; where records newer
    /// than a state came first, only the last reading stays that of the records. A state that is
    /// marked closed closes its socket (its `Close` record did not fit into the ring). Sockets that
    /// are missing stay: see [`Model::close_missing`].
    pub fn absorb<'a>(&mut self, states: impl Iterator<Item = &'a SockState>, now_ns: u64) {
        for kernel in states {
            if self.gone.contains(&kernel.id) {
                continue;
            }
            let state = believable(kernel);
            let at = match self.find(state.id) {
                Some(at) => {
                    self.merge(at, &state, state.last_ns, true);
                    at
                }
                None => self.insert(&state, state.last_ns),
            };
            self.sockets[at].scanned(now_ns.max(1));
            if state.flags & STATE_CLOSED != 0 {
                self.finish(at, state.last_ns);
            }
        }
    }
    /// A scan that began at `began_ns` is complete. Closes the sockets that neither it nor the
    /// complete one before held, although both began after all that is known of them: they went,
    /// and their `Close` record was lost. Their last known totals stand. Two scans, because one
    /// may pass over an entry while others are deleted beside it. Apply all records that the ring
    /// held before the scan first. Returns how many were closed.
    pub fn close_missing(&mut self, began_ns: u64) -> usize {
        let mut closed = 0;
        let mut at = 0;
        while at < self.sockets.len() {
            let s = &mut self.sockets[at];
            let known_ns = s.scanned_ns.max(s.record_ns).max(s.last_ns);
            let missing = known_ns < began_ns;
            s.missed = if missing { s.missed + 1 } else { 0 };
            if s.missed >= 2 {
                let end_ns = s.last_ns;
                self.finish(at, end_ns);
                closed += 1;
            } else {
                at += 1;
            }
        }
        self.oddities.closed_unseen += closed as u64;
        closed
    }

    fn change(&mut self, c: &Change) {
        let Some(at) = self.find(c.header.id) else {
            self.oddities.unmatched += 1;
            return;
        };
        let socket = &mut self.sockets[at];
        let group = socket.group as usize;
        let (idle_after, buckets) = (self.config.idle_after_ns, self.config.socket_buckets);
        match socket.change(c, idle_after, buckets, &mut self.drains) {
            Some(step) => self.step(group, &step),
            None => {
                self.oddities.late += 1;
                // It may tell of a peak all the same, which the sums reached, too.
                let peak = self.sockets[at].resident_peak();
                self.groups[group].reached(peak);
                self.total.reached(peak);
            }
        }
    }

    /// One socket's new level, in the sums it is part of.
    fn step(&mut self, group: usize, s: &Step) {
        self.groups[group].level(s.t_ns, s.before, s.low, s.high, s.after);
        self.total.level(s.t_ns, s.before, s.low, s.high, s.after);
    }

    fn lifecycle(&mut self, l: &Lifecycle) {
        if self.gone.contains(&l.header.id) {
            return;
        }
        self.take(l);
    }

    fn close(&mut self, l: &Lifecycle) {
        if self.gone.contains(&l.header.id) {
            return;
        }
        let at = self.take(l);
        let end_ns = self.sockets[at].last_ns;
        self.finish(at, end_ns);
    }

    /// Takes a record's state, and returns the socket's place.
    fn take(&mut self, l: &Lifecycle) -> usize {
        let t_ns = l.header.t_ns.min(LATEST_NS);
        let mut state = believable(&l.state);
        state.id = l.header.id;
        match self.find(state.id) {
            Some(at) => {
                let newest = t_ns >= self.sockets[at].meta_ns;
                self.merge(at, &state, t_ns, newest);
                let s = &mut self.sockets[at];
                s.record_ns = s.record_ns.max(t_ns);
                s.meta_ns = s.meta_ns.max(t_ns);
                at
            }
            None => self.insert(&state, t_ns),
        }
    }

    /// The place of the live socket with this id.
    pub(super) fn find(&self, id: u64) -> Option<usize> {
        self.index.find(id, &self.sockets)
    }

    fn insert(&mut self, state: &SockState, t_ns: u64) -> usize {
        self.processes.learn_from(state);
        let key = GroupKey::of(state, self.processes.generation(state.owner_tgid));
        let group = self.group(key, t_ns, state.local_port);
        if let Some(survey) = &mut self.survey {
            survey.state(state);
        }
        let socket = Socket::new(state, t_ns, group, self.config.socket_buckets);
        let resident = state.counters.resident();
        for sums in [&mut self.groups[group as usize], &mut self.total] {
            sums.join(t_ns, state.first_ns, resident, socket.connection);
            sums.reached(state.resident_peak);
        }
        self.sockets.push(socket);
        self.index.added(&self.sockets);
        self.sockets.len() - 1
    }

    /// Merges a state into the socket at `at`; `meta`: it also tells whose it is.
    fn merge(&mut self, at: usize, state: &SockState, t_ns: u64, meta: bool) {
        if let Some(survey) = &mut self.survey {
            survey.state(state);
        }
        let socket = &mut self.sockets[at];
        let (was_connection, known_peak) = (socket.connection, socket.resident_peak());
        let (idle_after, buckets) = (self.config.idle_after_ns, self.config.socket_buckets);
        let step = socket.merge(state, idle_after, buckets, meta);
        let group = socket.group as usize;
        let old_key = self.groups[group].key;
        let connected = socket.connection && !was_connection;
        let (joined_ns, first_ns) = (socket.joined_ns, socket.first_ns);
        let peak = socket.resident_peak();
        if step.before != step.after || step.high > step.after {
            self.step(group, &step);
        }
        if peak > known_peak {
            self.groups[group].reached(peak);
            self.total.reached(peak);
        }
        if connected {
            self.groups[group].connected(joined_ns);
            self.total.connected(first_ns);
        }
        if !meta {
            return;
        }
        let same_pid = old_key.pid == state.owner_tgid;
        let generation = if same_pid {
            old_key.generation
        } else {
            self.processes.generation(state.owner_tgid)
        };
        let key = GroupKey::of(state, generation);
        if key != old_key {
            self.processes.learn_from(state);
            self.rehome(at, key, t_ns);
        }
    }

    /// Moves the socket at `at` to another group: what it did so far stays with the old one.
    fn rehome(&mut self, at: usize, key: GroupKey, t_ns: u64) {
        let to = self.group(key, t_ns, self.sockets[at].local_port);
        let socket = &mut self.sockets[at];
        let then = socket.at(t_ns, self.config.idle_after_ns);
        let segment = socket.segment(&then);
        let told = self.rules.told(&segment);
        let holds = self.rules.segment_holds(&segment, then.resident_peak);
        let resident = socket.resident();
        let old = &mut self.groups[socket.group as usize];
        old.settled.add(&segment, told, holds);
        let at_ns = then.last_ns;
        old.leave(at_ns, resident, socket.connection);
        self.groups[to as usize].join(at_ns, at_ns, resident, socket.connection);
        socket.mark = Mark::of(&then);
        socket.group = to;
        socket.joined_ns = at_ns;
    }
    /// The address of the listener with this id, where it is known and alive.
    pub(super) fn listener(&self, id: u64) -> Option<String> {
        let at = self.find(id)?;
        Some(address::local(&self.sockets[at].state()))
    }

    /// The group of `key`; made at `t_ns` where there is none, for a socket on local `port`.
    fn group(&mut self, key: GroupKey, t_ns: u64, port: u16) -> u32 {
        if let Some(&group) = self.group_index.get(&key) {
            return group;
        }
        let mut made = Group::new(key, t_ns, self.config.sum_buckets);
        if self.config.survey {
            let start_ns = self.config.start_mono_ns;
            made.series = Some(Box::new(Series::new(start_ns, GROUP_BINS)));
        }
        if key.kind == OWNER_LISTENER {
            made.listener = self.listener(key.listener_id);
            if made.listener.is_none() && port != 0 {
                made.listener = Some(format!("*:{port}"));
            }
        }
        let group = if self.groups.len() < self.config.max_groups.max(2) {
            self.groups.push(made);
            self.groups.len() - 1
        } else if let Some(at) = self.give_up_group() {
            self.groups[at] = made;
            at
        } else {
            // All of them are in use.
            self.groups.push(made);
            self.groups.len() - 1
        };
        self.group_index.insert(key, group as u32);
        group as u32
    }

    /// Frees the group that has been without sockets for longest; its sums go to the unknown owner.
    fn give_up_group(&mut self) -> Option<usize> {
        let empty = self
            .groups
            .iter()
            .enumerate()
            .skip(1)
            .filter(|(_, g)| g.live == 0);
        let (at, _) = empty.min_by_key(|(_, g)| g.last_ns)?;
        let (first, rest) = self.groups.split_at_mut(1);
        let gone = &rest[at - 1];
        first[0].take_over(gone);
        self.group_index.remove(&gone.key);
        if self.processes.len() > 4 * self.config.max_groups {
            let groups = &self.group_index;
            let closed = &self.closed;
            self.processes.forget(|pid, generation| {
                let same = |k: &GroupKey| (k.pid, k.generation) == (pid, generation);
                groups.keys().any(same) || closed.iter().any(|c| same(&c.key))
            });
        }
        Some(at)
    }

    /// The socket at `at` is gone since `end_ns`: settles it and keeps it among the closed.
    fn finish(&mut self, at: usize, end_ns: u64) {
        self.index.removing(at, &self.sockets);
        let mut socket = self.sockets.swap_remove(at);
        let state = &socket.state();
        let resident = state.counters.resident();
        let segment = socket.segment(state);
        let told = self.rules.told(&segment);
        let holds = self.rules.segment_holds(&segment, state.resident_peak);
        let group = &mut self.groups[socket.group as usize];
        let key = group.key;
        group.settled.add(&segment, told, holds);
        group.leave(end_ns, resident, socket.connection);
        let whole = Segment::whole(state, socket.connection);
        let told = self.rules.told(&whole);
        let holds = self.rules.segment_holds(&whole, state.resident_peak);
        self.total.settled.add(&whole, told, holds);
        self.total.leave(end_ns, resident, socket.connection);

        if let Some(survey) = &mut self.survey {
            survey.closed(&socket, &key);
        }
        self.gone.insert(socket.id);
        self.gone_order.push_back(socket.id);
        if self.gone_order.len() > REMEMBERED
            && let Some(oldest) = self.gone_order.pop_front()
        {
            self.gone.remove(&oldest);
        }
        if self.config.max_closed == 0 {
            return;
        }
        socket.settle(CLOSED_BUCKETS);
        if self.closed.len() == self.config.max_closed {
            self.closed.pop_front();
        }
        self.closed.push_back(Closed { socket, key });
    }
}
