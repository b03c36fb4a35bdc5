//! The model against a kernel made up in memory: its states are true, its
//! records may come late or not at all.

mod feeding;
mod happened;
mod kept;
mod properties;
mod survey;
mod truth;
mod views;

use sockmem_common::{
    Change, Counters, Header, KIND_CHANGE, KIND_CLOSE, KIND_OPEN, KIND_OWNER, Lifecycle,
    OWNER_PROCESS, SEQ_VALID, STATE_CLOSED, Seqs, SockState,
};

use super::*;
use crate::decode::Record;

/// Start of the trace.
const START: u64 = 1_000_000_000_000;
const MS: u64 = 1_000_000;
const S: u64 = 1000 * MS;
const KIB: u32 = 1024;

/// A kernel with the programs in it. Its clock starts with the trace.
struct Kernel {
    now: u64,
    idle_after: u64,
    sockets: BTreeMap<u64, SockState>,
    next_id: u64,
}

/// `rmem` bytes queued with `unread` bytes of payload in them, charged by whole pages.
fn reading(rmem: u32, unread: u32) -> (Counters, u32) {
    let forward = (4096 - rmem % 4096) % 4096;
    let counters = Counters {
        rmem_alloc: rmem,
        forward_alloc: forward as i32,
        rcvbuf: 131_072,
        sndbuf: 87_040,
        ..Counters::default()
    };
    (counters, unread)
}

impl Kernel {
    fn new() -> Kernel {
        Kernel {
            now: START,
            idle_after: S,
            sockets: BTreeMap::new(),
            next_id: 1,
        }
    }

    fn pass(&mut self, ns: u64) {
        self.now += ns;
    }

    fn record(&self, kind: u8, state: SockState) -> Record {
        let header = Header {
            t_ns: self.now,
            id: state.id,
            kind,
            ..Header::default()
        };
        let l = Box::new(Lifecycle { header, state });
        match kind {
            KIND_OPEN => Record::Open(l),
            KIND_CLOSE => Record::Close(l),
            _ => Record::Owner(l),
        }
    }

    /// An established connection of process `pid`, with nothing queued.
    fn open(&mut self, pid: u32) -> (u64, Record) {
        self.open_with(|s| s.owner_tgid = pid)
    }

    fn open_with(&mut self, change: impl FnOnce(&mut SockState)) -> (u64, Record) {
        let id = self.next_id;
        self.next_id += 1;
        let mut state = SockState {
            id,
            cookie: 0x100 + id,
            inode: 5000 + id,
            owner_kind: OWNER_PROCESS,
            tcp_state: 1,
            family: 2,
            local_port: 443,
            remote_port: 40_000 + id as u16,
            local: [10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            remote: [10, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            owner_comm: *b"server\0\0\0\0\0\0\0\0\0\0",
            ..SockState::default()
        };
        change(&mut state);
        let seqs = Seqs {
            flags: SEQ_VALID,
            ..Seqs::default()
        };
        state.start(self.now, &reading(0, 0).0, &seqs);
        self.sockets.insert(id, state);
        (id, self.record(KIND_OPEN, state))
    }

    /// The socket's counters become `after`; payload moved if `seqs` say so.
    fn set(&mut self, id: u64, after: Counters, seqs: impl FnOnce(&mut Seqs)) -> Record {
        let (now, idle_after) = (self.now, self.idle_after);
        let state = self.sockets.get_mut(&id).expect("the socket is open");
        let before = state.counters;
        let mut next = state.seqs;
        seqs(&mut next);
        state.advance(now, idle_after);
        state.take(now, &after, &next);
        let d = |a: u32, b: u32| a.wrapping_sub(b) as i32;
        let change = Change {
            header: Header {
                t_ns: now,
                id,
                kind: KIND_CHANGE,
                ..Header::default()
            },
            after,
            d_rmem_alloc: d(after.rmem_alloc, before.rmem_alloc),
            d_wmem_queued: d(after.wmem_queued, before.wmem_queued),
            d_forward_alloc: after.forward_alloc.wrapping_sub(before.forward_alloc),
            unread: next.unread(),
            unacked: next.unacked(),
            resident_min: state.window_min,
            resident_max: state.window_max,
            merged: state.merged,
        };
        state.reset_window(now);
        Record::Change(change)
    }

    /// `unread` bytes of payload wait in `rmem` bytes of truesize.
    fn queue(&mut self, id: u64, rmem: u32, unread: u32) -> Record {
        let (after, unread) = reading(rmem, unread);
        self.set(id, after, |s| {
            s.rcv_nxt = s.rcv_nxt.wrapping_add(1 + unread);
            s.copied_seq = s.rcv_nxt.wrapping_sub(unread);
        })
    }

    /// Owner, TCP state or addresses change.
    fn own(&mut self, id: u64, change: impl FnOnce(&mut SockState)) -> Record {
        let state = self.sockets.get_mut(&id).expect("the socket is open");
        change(state);
        let state = *state;
        self.record(KIND_OWNER, state)
    }

    /// The socket is destroyed, with what it held.
    fn close(&mut self, id: u64) -> Record {
        let mut state = self.sockets.remove(&id).expect("the socket is open");
        let limits = state.counters;
        let empty = Counters {
            rcvbuf: limits.rcvbuf,
            sndbuf: limits.sndbuf,
            ..Counters::default()
        };
        let seqs = state.seqs;
        state.advance(self.now, self.idle_after);
        state.take(self.now, &empty, &seqs);
        state.tcp_state = 7;
        state.flags |= STATE_CLOSED;
        self.record(KIND_CLOSE, state)
    }

    fn scan(&self, model: &mut Model) {
        model.absorb(self.sockets.values(), self.now);
    }

    fn view(&self, model: &Model) -> View {
        let since = self.now - START;
        model.view(self.now, 1_700_000_000 * S + since)
    }
}

/// A model of a trace that begins now, with the counters named as exact.
fn model() -> Model {
    let names = [
        "rmem_alloc",
        "wmem_queued",
        "forward_alloc",
        "wmem_alloc",
        "optmem",
        "backlog",
    ];
    Model::new(Config {
        start_mono_ns: START,
        start_unix_ns: 1_700_000_000 * S,
        coverage: names.iter().map(|&n| (n, Coverage::Exact)).collect(),
        ..Config::default()
    })
}
