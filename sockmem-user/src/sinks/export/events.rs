//! From a recording's inputs to events, oldest first.
//!
//! Records of different CPUs arrive nearly in order, and a scan brings readings up to one interval
//! old: changes that `--coalesce` merged and sent no record for. So events wait until the next
//! complete scan has passed them, and are sorted.

use std::collections::HashMap;
use std::io;
use std::rc::Rc;

use sockmem_common::{
    Change, Counters, LIMIT_RCVBUF, LIMIT_SNDBUF, Lifecycle, LimitSet, SEQ_VALID, STATE_CLOSED,
    STATE_RCVBUF_LOCK, STATE_SNDBUF_LOCK, SockState, hook,
};

use crate::decode::Record;
use crate::model::{Input, Limit, LimitCause, Loss, OwnerKind, ProcessFacts, address};

/// Events that wait at most: 128 bytes each.
const MOST_WAITING: usize = 1 << 18;
/// Calls of one socket that are remembered at once.
const MOST_CALLS: usize = 32;
/// The hook of a reading that a scan of the kernel's states brought.
pub const SCAN: &str = "scan";

/// Whose socket it is, and which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Thread-group id.
    pub pid: Option<u32>,
    /// Unescaped.
    pub comm: Option<String>,
    /// Unescaped.
    pub cgroup: Option<String>,
    /// Relation of process and socket.
    pub owner: OwnerKind,
    /// Inode number of the network namespace.
    pub netns: Option<u32>,
    /// `address:port`.
    pub local: String,
    /// `address:port`.
    pub remote: String,
}

/// What an event tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Counters changed.
    Change,
    /// The trace saw the socket for the first time.
    Open,
    /// Owner, TCP state or addresses changed.
    Owner,
    /// The socket was destroyed.
    Close,
    /// A scan found counters that no record had told.
    Scan,
}

/// One event: the counters of one socket from `t_ns` on.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// `CLOCK_MONOTONIC`.
    pub t_ns: u64,
    /// Identity within the trace.
    pub id: u64,
    /// `sk_cookie`; `None` where not known.
    pub cookie: Option<u64>,
    /// What it tells.
    pub kind: Kind,
    /// The kernel's function or tracepoint, or [`SCAN`].
    pub hook: &'static str,
    /// Absolute values.
    pub counters: Counters,
    /// Lowest `resident` since the socket's last event.
    pub resident_min: u64,
    /// Highest `resident` since the socket's last event.
    pub resident_max: u64,
    /// Payload not read; `None` for a listener.
    pub unread: Option<u64>,
    /// Payload not acknowledged; `None` for a listener.
    pub unacked: Option<u64>,
    /// Changes that it stands for.
    pub merged: u32,
    /// Whose socket; `None` where no record told it yet.
    pub who: Option<Rc<Identity>>,
    /// What changed the limits, where they changed: `rcvbuf`, `sndbuf`.
    pub limits: [Option<(u32, LimitCause)>; 2],
}

/// Takes events, oldest first.
pub trait EventSink {
    /// One event.
    ///
    /// # Errors
    /// Of the destination.
    fn event(&mut self, event: &Event) -> io::Result<()>;

    /// No more events of this socket.
    ///
    /// # Errors
    /// Of the destination.
    fn gone(&mut self, _id: u64) -> io::Result<()> {
        Ok(())
    }

    /// What became of the changes up to `t_ns`.
    ///
    /// # Errors
    /// Of the destination.
    fn loss(&mut self, _t_ns: u64, _loss: &Loss) -> io::Result<()> {
        Ok(())
    }
}

/// A socket that events may still come of.
#[derive(Default)]
struct Socket {
    cookie: u64,
    who: Option<Rc<Identity>>,
    /// The newest reading.
    t_ns: u64,
    counters: Counters,
    /// Payload is known: a full TCP socket that does not listen.
    payload: bool,
    /// `STATE_*_LOCK`, as known when the oldest waiting event happened, and now.
    locks: (u8, u8),
    /// Events of it that wait, and those of them that change a limit.
    waiting: usize,
    waiting_limits: [usize; 2],
    /// Limits after the last event handed on.
    limits: Option<[u32; 2]>,
    /// Calls that set a limit in this interval.
    calls: Vec<Call>,
    scanned: bool,
    missed: u8,
    closed: bool,
}

/// A call that set a limit.
struct Call {
    /// Place in [`LIMITS`].
    limit: usize,
    began_ns: u64,
    ended_ns: u64,
    to: u32,
}

const LOCKS: [u8; 2] = [STATE_RCVBUF_LOCK, STATE_SNDBUF_LOCK];

fn limits_of(c: &Counters) -> [u32; 2] {
    [c.rcvbuf, c.sndbuf]
}

/// Takes inputs, gives events.
pub struct Events {
    sockets: HashMap<u64, Socket>,
    processes: HashMap<u32, ProcessFacts>,
    waiting: Vec<Event>,
    most_waiting: usize,
    /// Events up to here were handed on.
    past_ns: u64,
    late: u64,
}

impl Default for Events {
    fn default() -> Self {
        Events {
            sockets: HashMap::new(),
            processes: HashMap::new(),
            waiting: Vec::new(),
            most_waiting: MOST_WAITING,
            past_ns: 0,
            late: 0,
        }
    }
}

impl Events {
    /// Events that came so late that younger ones had been handed on.
    #[must_use]
    pub fn late(&self) -> u64 {
        self.late
    }

    /// At most so many wait.
    #[cfg(test)]
    pub(super) fn with_most(most_waiting: usize) -> Self {
        Events {
            most_waiting,
            ..Events::default()
        }
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Takes one input of `t_ns`.
    ///
    /// # Errors
    /// Of `sink`.
    pub fn take(
        &mut self,
        t_ns: u64,
        input: Input<'_>,
        sink: &mut impl EventSink,
    ) -> io::Result<()> {
        match input {
            Input::Record(Record::Change(c)) => self.change(c),
            Input::Record(Record::Open(l)) => self.lifecycle(l, Kind::Open),
            Input::Record(Record::Owner(l)) => self.lifecycle(l, Kind::Owner),
            Input::Record(Record::Close(l)) => self.lifecycle(l, Kind::Close),
            Input::Record(Record::Fork(p)) => {
                let facts = ProcessFacts {
                    comm: address::comm(&p.comm),
                    ..ProcessFacts::default()
                };
                self.processes.insert(p.header.id as u32, facts);
            }
            Input::Record(Record::Exit(p)) => {
                self.processes.remove(&(p.header.id as u32));
            }
            Input::Exited { pid, .. } => {
                self.processes.remove(&pid);
            }
            Input::Process { pid, facts } => self.process(pid, facts),
            Input::States { states, .. } => states.iter().for_each(|s| self.state(s)),
            Input::ScanDone { began_ns } => {
                self.hand_on(Some(began_ns), sink)?;
                return self.forget(began_ns, sink);
            }
            Input::Loss(loss) => sink.loss(t_ns, loss)?,
            // Changes of limits are told by the readings, in every tier alike.
            Input::Record(Record::Limit(l)) => self.limit_set(l),
            Input::Record(Record::Pressure(_) | Record::Sysctl(_))
            | Input::Truesize(_)
            | Input::Host(_)
            | Input::Pressure(_) => {}
        }
        if self.waiting.len() >= self.most_waiting {
            self.waiting.sort_by_key(|e| e.t_ns);
            let middle = self.waiting[self.waiting.len() / 2].t_ns;
            self.hand_on(Some(middle), sink)?;
        }
        Ok(())
    }

    /// Hands on what waits: nothing more will come.
    ///
    /// # Errors
    /// Of `sink`.
    pub fn finish(&mut self, sink: &mut impl EventSink) -> io::Result<()> {
        self.hand_on(None, sink)
    }

    fn change(&mut self, c: &Change) {
        let socket = self.sockets.entry(c.header.id).or_default();
        let payload = |n: u32| (socket.payload || n != 0).then_some(u64::from(n));
        let event = Event {
            t_ns: c.header.t_ns,
            id: c.header.id,
            cookie: None,
            kind: Kind::Change,
            hook: hook::name(c.header.hook),
            counters: c.after,
            resident_min: c.resident_min.into(),
            resident_max: c.resident_max.into(),
            unread: payload(c.unread),
            unacked: payload(c.unacked),
            merged: c.merged,
            who: socket.who.clone(),
            limits: [None; 2],
        };
        self.push(event);
    }

    fn lifecycle(&mut self, l: &Lifecycle, kind: Kind) {
        self.identify(l.header.id, &l.state);
        self.reading(
            l.header.id,
            l.header.t_ns,
            kind,
            hook::name(l.header.hook),
            &l.state,
        );
    }

    /// A call set a limit: it explains the change that a reading shows, which came before it.
    fn limit_set(&mut self, l: &LimitSet) {
        let Some(at) = [LIMIT_RCVBUF, LIMIT_SNDBUF]
            .iter()
            .position(|w| *w == l.what)
        else {
            return;
        };
        let Some(socket) = self.sockets.get_mut(&l.header.id) else {
            return;
        };
        // Those of an interval; an application that sets more has its newest explained.
        if socket.calls.len() == MOST_CALLS {
            socket.calls.remove(0);
        }
        socket.calls.push(Call {
            limit: at,
            began_ns: l.began_ns,
            ended_ns: l.header.t_ns,
            to: l.to,
        });
    }

    /// A scan's state: an event where its reading is newer than what records told.
    fn state(&mut self, s: &SockState) {
        self.identify(s.id, s);
        let socket = self.sockets.entry(s.id).or_default();
        (socket.scanned, socket.missed) = (true, 0);
        let closed = s.flags & STATE_CLOSED != 0;
        // Some counters change outside of the socket's lock, which leaves `last_ns` as it is.
        let read_ns = s.last_ns.max(s.last_emit_ns);
        let known = socket.waiting > 0 || socket.limits.is_some();
        let newer = read_ns >= socket.t_ns && s.counters != socket.counters;
        let closes = closed && !socket.closed;
        if !known || newer || closes {
            // A reading older than events that were handed on still held then: nothing told otherwise.
            let t_ns = read_ns.max(self.past_ns);
            let kind = if closed { Kind::Close } else { Kind::Scan };
            self.reading(s.id, t_ns, kind, SCAN, s);
        }
    }

    fn reading(&mut self, id: u64, t_ns: u64, kind: Kind, hook: &'static str, s: &SockState) {
        let socket = self.sockets.entry(id).or_default();
        let payload = |n: u32| socket.payload.then_some(u64::from(n));
        let resident = s.counters.resident();
        let event = Event {
            t_ns,
            id,
            cookie: None,
            kind,
            hook,
            counters: s.counters,
            resident_min: resident.min(s.window_min.into()),
            resident_max: resident.max(s.window_max.into()),
            unread: payload(s.seqs.unread()),
            unacked: payload(s.seqs.unacked()),
            merged: s.merged,
            who: socket.who.clone(),
            limits: [None; 2],
        };
        self.push(event);
    }

    fn push(&mut self, event: Event) {
        if event.t_ns < self.past_ns {
            self.late += 1;
        }
        let socket = self.sockets.entry(event.id).or_default();
        let before = limits_of(&socket.counters);
        for (at, now) in limits_of(&event.counters).into_iter().enumerate() {
            socket.waiting_limits[at] += usize::from(before[at] != now);
        }
        socket.closed |= event.kind == Kind::Close;
        socket.waiting += 1;
        if event.t_ns >= socket.t_ns {
            (socket.t_ns, socket.counters) = (event.t_ns, event.counters);
        }
        self.waiting.push(event);
    }

    fn identify(&mut self, id: u64, s: &SockState) {
        let socket = self.sockets.entry(id).or_default();
        if s.cookie != 0 {
            socket.cookie = s.cookie;
        }
        socket.payload = s.seqs.flags & SEQ_VALID != 0 && !address::listens(s);
        socket.locks.1 = s.flags & (STATE_RCVBUF_LOCK | STATE_SNDBUF_LOCK);
        if socket.waiting == 0 {
            socket.locks.0 = socket.locks.1;
        }
        let pid = (s.owner_tgid != 0).then_some(s.owner_tgid);
        let facts = pid.and_then(|pid| self.processes.get(&pid));
        let same = socket.who.as_deref().filter(|w| w.pid == pid);
        let comm = facts
            .and_then(|f| f.comm.clone())
            .or_else(|| same.and_then(|w| w.comm.clone()))
            .or_else(|| address::comm(&s.owner_comm));
        let cgroup = facts
            .and_then(|f| f.cgroup.clone())
            .or_else(|| same.and_then(|w| w.cgroup.clone()));
        let who = Identity {
            pid,
            comm,
            cgroup,
            owner: crate::model::owner_kind(s.owner_kind),
            netns: (s.netns != 0).then_some(s.netns),
            local: address::local(s),
            remote: address::remote(s),
        };
        if socket.who.as_deref() != Some(&who) {
            socket.who = Some(Rc::new(who));
        }
    }

    fn process(&mut self, pid: u32, facts: &ProcessFacts) {
        let known = self.processes.entry(pid).or_default();
        let old = known.clone();
        known.comm = facts.comm.clone().or(known.comm.take());
        known.cgroup = facts.cgroup.clone().or(known.cgroup.take());
        if *known == old {
            return;
        }
        for socket in self.sockets.values_mut() {
            let Some(who) = socket.who.as_mut().filter(|w| w.pid == Some(pid)) else {
                continue;
            };
            let who = Rc::make_mut(who);
            who.comm = known.comm.clone().or(who.comm.take());
            who.cgroup = known.cgroup.clone().or(who.cgroup.take());
        }
    }

    /// Hands on the events up to `until_ns`; all where it is `None`.
    fn hand_on(&mut self, until_ns: Option<u64>, sink: &mut impl EventSink) -> io::Result<()> {
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.sort_by_key(|e| e.t_ns);
        let end = until_ns.map_or(waiting.len(), |until| {
            waiting.partition_point(|e| e.t_ns <= until)
        });
        for mut event in waiting.drain(..end) {
            self.past_ns = self.past_ns.max(event.t_ns);
            self.complete(&mut event);
            sink.event(&event)?;
        }
        self.past_ns = self.past_ns.max(until_ns.unwrap_or(0));
        self.waiting = waiting;
        Ok(())
    }

    /// Adds what became known while the event waited.
    fn complete(&mut self, event: &mut Event) {
        let Some(socket) = self.sockets.get_mut(&event.id) else {
            return;
        };
        event.cookie = (socket.cookie != 0).then_some(socket.cookie);
        let same = |a: &Identity, b: &Identity| {
            (a.pid, a.owner, &a.local, &a.remote) == (b.pid, b.owner, &b.local, &b.remote)
        };
        match (&event.who, &socket.who) {
            (Some(then), Some(now)) if !same(then, now) => {}
            (_, now) => event.who.clone_from(now),
        }
        let now = limits_of(&event.counters);
        for (at, old) in socket.limits.unwrap_or(now).into_iter().enumerate() {
            // The kernel never lets a limit be 0: that is a reading without limits.
            if old == now[at] || old == 0 || now[at] == 0 {
                continue;
            }
            let waiting = &mut socket.waiting_limits[at];
            *waiting = waiting.saturating_sub(1);
            // The lock turned up since: the newest change set it.
            if *waiting == 0 && socket.locks.1 & LOCKS[at] != 0 {
                socket.locks.0 |= LOCKS[at];
            }
            // A reading that a scan brought may be later than the call's end.
            let called = socket.calls.iter().any(|c| {
                let seen = c.began_ns <= event.t_ns
                    && (event.t_ns <= c.ended_ns || event.kind == Kind::Scan);
                seen && c.limit == at && c.to == now[at]
            });
            let cause = if called || socket.locks.0 & LOCKS[at] != 0 {
                LimitCause::Setsockopt
            } else if now[at] > old {
                LimitCause::Autotune
            } else {
                LimitCause::Clamp
            };
            event.limits[at] = Some((old, cause));
        }
        socket.limits = Some(now);
        socket.waiting = socket.waiting.saturating_sub(1);
        if socket.waiting == 0 {
            socket.locks.0 = socket.locks.1;
            socket.waiting_limits = [0; 2];
        }
    }

    /// Forgets closed sockets, and those that two complete scans in a row did not hold: their end
    /// was not recorded.
    fn forget(&mut self, began_ns: u64, sink: &mut impl EventSink) -> io::Result<()> {
        let mut gone = Vec::new();
        self.sockets.retain(|id, s| {
            s.calls.retain(|c| c.ended_ns >= began_ns);
            let missing = !std::mem::take(&mut s.scanned) && s.t_ns < began_ns && s.waiting == 0;
            s.missed = if missing { s.missed + 1 } else { 0 };
            let keep = s.missed < 2 && (!s.closed || s.waiting > 0);
            if !keep {
                gone.push(*id);
            }
            keep
        });
        gone.sort_unstable();
        gone.into_iter().try_for_each(|id| sink.gone(id))
    }
}

/// Which limit stands at each place of [`Event::limits`].
pub const LIMITS: [Limit; 2] = [Limit::Rcvbuf, Limit::Sndbuf];
