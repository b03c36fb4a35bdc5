//! What is kept of a socket is enough: it gives the same as the kernel's whole state would.

use super::*;
use crate::model::drain::Drains;
use crate::model::sockets::{LATEST_NS, Socket, believable};
use proptest::prelude::*;
use sockmem_common::{Integral, REASONS, SEQ_OFO};

/// A whole `SockState` moved forward by changes with the kernel's own arithmetic.
#[derive(Clone, Debug)]
struct Whole {
    state: SockState,
    record_ns: u64,
}

impl Whole {
    fn change(&mut self, c: &Change, idle_after: u64) {
        let (t_ns, s) = (c.header.t_ns, &mut self.state);
        let high = u64::from(c.resident_max).max(c.after.resident());
        s.resident_peak = s.resident_peak.max(high);
        s.rmem_peak = s.rmem_peak.max(c.after.rmem_alloc);
        s.wmem_queued_peak = s.wmem_queued_peak.max(c.after.wmem_queued);
        let late = t_ns < self.record_ns || t_ns < s.last_ns;
        self.record_ns = self.record_ns.max(t_ns);
        if late {
            return;
        }
        let moved = c.unread != s.seqs.unread()
            || c.unacked != s.seqs.unacked()
            || c.after.rmem_alloc != s.counters.rmem_alloc
            || c.after.wmem_queued != s.counters.wmem_queued;
        let mut seqs = s.seqs;
        seqs.copied_seq = seqs.rcv_nxt.wrapping_sub(c.unread);
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
        s.changes += u64::from(c.merged.saturating_sub(1));
    }
}

/// `s` as far as a model asks: without owner, event window and scratch, and with sequence numbers
/// that tell their distances only.
fn asked_for(s: &SockState) -> SockState {
    SockState {
        seqs: Seqs {
            rcv_nxt: s.seqs.unread(),
            copied_seq: 0,
            write_seq: s.seqs.unacked(),
            snd_una: 0,
            snd_nxt: s.seqs.in_flight(),
            flags: s.seqs.flags & (SEQ_OFO | SEQ_VALID),
        },
        listener_id: 0,
        last_emit_ns: 0,
        window_min: 0,
        window_max: 0,
        merged: 0,
        owner_tgid: 0,
        pending: 0,
        owner_kind: 0,
        owner_comm: [0; 16],
        ..*s
    }
}

fn counters() -> impl Strategy<Value = Counters> {
    let queue = || prop_oneof![Just(0u32), 0u32..1 << 24];
    (
        queue(),
        queue(),
        -5000i32..1 << 20,
        queue(),
        0u32..9,
        0u32..9,
    )
        .prop_map(
            |(rmem_alloc, wmem_queued, forward_alloc, wmem_alloc, optmem, limit)| Counters {
                rmem_alloc,
                wmem_queued,
                forward_alloc: if limit == 0 { 0 } else { forward_alloc },
                wmem_alloc,
                optmem,
                backlog: optmem / 3,
                rcvbuf: 1000 + limit,
                sndbuf: 1000 + limit / 2,
            },
        )
}

fn seqs() -> impl Strategy<Value = Seqs> {
    let distance = || prop_oneof![Just(0u32), 0u32..1 << 20];
    (
        any::<[u32; 2]>(),
        distance(),
        distance(),
        any::<bool>(),
        0u32..4,
    )
        .prop_map(|([read, acked], unread, unacked, flying, flags)| Seqs {
            rcv_nxt: read.wrapping_add(unread),
            copied_seq: read,
            write_seq: acked.wrapping_add(unacked),
            snd_una: acked,
            snd_nxt: acked.wrapping_add(if flying { unacked / 2 } else { 0 }),
            flags,
        })
}

fn change() -> impl Strategy<Value = Change> {
    let span = prop_oneof![Just(0u64), 0u64..S / 4, 0u64..5 * S];
    let distance = || prop_oneof![Just(0u32), 0u32..1 << 20];
    (
        span,
        counters(),
        distance(),
        distance(),
        any::<[u32; 2]>(),
        0u32..4,
    )
        .prop_map(
            |(t_ns, after, unread, unacked, [min, max], merged)| Change {
                // Some come late: the caller takes a second off.
                header: Header {
                    t_ns,
                    ..Header::default()
                },
                after,
                unread,
                unacked,
                resident_min: min >> 8,
                resident_max: max >> 8,
                merged,
                ..Change::default()
            },
        )
}

proptest! {
    #[test]
    fn what_is_kept_moves_on_as_the_whole_state_does(
        first in counters(), at in seqs(), changes in prop::collection::vec((change(), any::<bool>()), 0..60),
    ) {
        let mut state = SockState { id: 9, local_port: 80, ..SockState::default() };
        state.start(START, &first, &at);
        let mut socket = Socket::new(&state, START, 0, 60);
        let mut whole = Whole { state, record_ns: START };
        let mut drains = Drains::new();
        let mut now = START;
        for (mut c, late) in changes {
            now += c.header.t_ns;
            c.header.t_ns = if late { now.saturating_sub(S) } else { now };
            let took = socket.change(&c, S, 60, &mut drains);
            whole.change(&c, S);
            if let Some(step) = took {
                prop_assert_eq!(step.after, whole.state.counters.resident());
            }
            prop_assert_eq!(socket.state(), asked_for(&whole.state));
            prop_assert_eq!(socket.resident(), whole.state.counters.resident());
        }
        let mut later = whole.state;
        later.advance(now + 3 * S, S);
        prop_assert_eq!(socket.at(now + 3 * S, S), asked_for(&later));
    }

    #[test]
    fn any_state_that_is_believed_comes_back(
        counters in counters(), seqs in seqs(), times in any::<[u64; 5]>(), sums in any::<[u64; 6]>(),
        ends in any::<[[u8; 16]; 2]>(), small in any::<[u32; 4]>(),
    ) {
        let state = SockState {
            id: 1,
            cookie: sums[0],
            inode: sums[1],
            first_ns: times[0],
            last_ns: times[1],
            last_activity_ns: times[2],
            idle_ns: times[3],
            baseline: sums[2],
            charged: sums[3],
            changes: sums[4],
            resident_peak: sums[5],
            idle_resident_max: times[4],
            resident_time: Integral { high: sums[0], low: sums[1] },
            idle_time: [Integral { high: sums[2], low: u64::from(small[3] & 1) }; REASONS],
            counters,
            seqs,
            rmem_peak: small[0],
            wmem_queued_peak: small[1],
            netns: small[2],
            tcp_state: small[3] as u8,
            family: (small[3] >> 8) as u8,
            flags: (small[3] >> 16) as u8,
            local_port: small[2] as u16,
            remote_port: small[1] as u16,
            local: ends[0],
            remote: ends[1],
            ..SockState::default()
        };
        let state = believable(&state);
        prop_assert!(state.last_ns <= LATEST_NS);
        let socket = Socket::new(&state, state.last_ns, 0, 60);
        prop_assert_eq!(socket.state(), asked_for(&state));
    }
}
