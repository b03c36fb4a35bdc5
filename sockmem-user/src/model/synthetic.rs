//! Records as a kernel would send them, made up: for measuring the model without one.

use sockmem_common::{
    Change, Counters, Header, KIND_CHANGE, KIND_OPEN, Lifecycle, OWNER_PROCESS, SEQ_VALID, Seqs,
    SockState, hook,
};

use crate::decode::Record;

/// Time between two records of the stream. ns.
pub const STEP_NS: u64 = 200;

/// `Open` records of `sockets` connections at `start_ns`, spread over eight processes. Ids from 1.
pub fn opens(sockets: u64, start_ns: u64) -> impl Iterator<Item = Record> {
    (1..=sockets).map(move |id| {
        let mut state = SockState {
            id,
            cookie: id,
            inode: 10_000 + id,
            owner_tgid: 1000 + (id % 8) as u32,
            owner_kind: OWNER_PROCESS,
            tcp_state: 1,
            family: 2,
            local_port: 443,
            remote_port: 1024 + (id % 60_000) as u16,
            ..SockState::default()
        };
        let counters = Counters {
            rcvbuf: 131_072,
            sndbuf: 87_040,
            ..Counters::default()
        };
        state.start(
            start_ns,
            &counters,
            &Seqs {
                flags: SEQ_VALID,
                ..Seqs::default()
            },
        );
        let header = Header {
            t_ns: start_ns,
            id,
            kind: KIND_OPEN,
            ..Header::default()
        };
        Record::Open(Box::new(Lifecycle { header, state }))
    })
}

/// `changes` changes of those sockets in turn, `STEP_NS` apart: data is queued and read again.
/// The same call gives the same records.
pub fn changes(sockets: u64, start_ns: u64, changes: u64) -> impl Iterator<Item = Record> {
    let sockets = sockets.max(1);
    let mut before = vec![Counters::default(); usize::try_from(sockets).unwrap_or(usize::MAX)];
    let mut random = 0x2545_f491_4f6c_dd1du64;
    (0..changes).map(move |i| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let at = i % sockets;
        let last = &mut before[at as usize];
        let rmem_alloc = if random & 3 == 0 {
            0
        } else {
            (random >> 32) as u32 % 65_536
        };
        let forward_alloc = (4096 - rmem_alloc % 4096) as i32 % 4096;
        let after = Counters {
            rmem_alloc,
            forward_alloc,
            rcvbuf: 131_072,
            sndbuf: 87_040,
            ..Counters::default()
        };
        let (low, high) = (
            after.resident().min(last.resident()),
            after.resident().max(last.resident()),
        );
        let change = Change {
            header: Header {
                t_ns: start_ns + (i + 1) * STEP_NS,
                id: at + 1,
                kind: KIND_CHANGE,
                hook: hook::RCV_ESTABLISHED,
                reserved: 0,
                cpu: (i % 4) as u32,
            },
            after,
            d_rmem_alloc: after.rmem_alloc as i32 - last.rmem_alloc as i32,
            d_wmem_queued: 0,
            d_forward_alloc: after.forward_alloc - last.forward_alloc,
            unread: rmem_alloc / 2,
            unacked: 0,
            resident_min: low as u32,
            resident_max: high as u32,
            merged: 1,
        };
        *last = after;
        Record::Change(change)
    })
}
