//! The kernel runs into a limit: of the protocol's memory, or of a socket's queue.
//!
//! These come in storms, when a host can least afford them. So all are counted, and of each
//! socket and kind at most one record is sent in a span; it tells how many it stands for.

use sockmem_common::{
    ABSENT, KIND_PRESSURE, PRESSURE_COLLAPSE, PRESSURE_ENTER, PRESSURE_EXCEED, PRESSURE_KINDS,
    PRESSURE_MEM, PRESSURE_PRUNE_OFO, PRESSURE_PRUNE_RCV, PRESSURE_RCVQUEUE, Pressure,
    PressureCounts, PressureKey, PressureMark, hook,
};

use crate::{
    arg, emit,
    maps::{PRESSURE_COUNTS, PRESSURE_MARKS, off, setting},
    memory::{self, Memory, Probed, Typed, at},
    observe::{now, state},
    program,
    tier_kprobe::arg0,
};

/// Least time between two records of one socket and kind, also where every change is sent.
const LEAST_SPAN_NS: u64 = 10_000_000;

#[inline(always)]
fn counts() -> Option<*mut PressureCounts> {
    PRESSURE_COUNTS.get_ptr_mut(0)
}

/// A record of `limits` did not fit into the ring.
#[inline(always)]
pub fn lost() {
    if let Some(c) = counts() {
        // SAFETY: points to this CPU's map value.
        emit::add(unsafe { &raw mut (*c).lost }, 1);
    }
}

/// What a record tells beside its kind.
struct Facts {
    id: u64,
    allocated: u64,
    limits: [u64; 3],
    flags: u8,
    direction: u8,
}

/// Counts one occurrence at `sk`, which is a mere number here, and sends it unless another was
/// sent just now.
#[inline(always)]
fn report(sk: u64, kind: u8, hook: u8, facts: &Facts) {
    if let Some(c) = counts() {
        // SAFETY: points to this CPU's map value; `kind` is a constant below PRESSURE_KINDS.
        emit::add(
            unsafe { &raw mut (*c).seen[kind as usize % PRESSURE_KINDS] },
            1,
        );
    }
    let now = now();
    let key = PressureKey {
        id: facts.id,
        kind: kind as u64,
    };
    let mut count = 1;
    if let Some(mark) = PRESSURE_MARKS.get_ptr_mut(key) {
        let coalesce = setting!(coalesce_ns);
        let span = if coalesce > LEAST_SPAN_NS {
            coalesce
        } else {
            LEAST_SPAN_NS
        };
        // SAFETY: points to a map value (here and below). Two CPUs at once may shift an
        // occurrence from one record to the next; `PRESSURE_COUNTS` is exact.
        let m = unsafe { &mut *mark };
        if now - m.sent_ns < span {
            emit::add(&raw mut m.waiting, 1);
            return;
        }
        count += m.waiting;
    }
    let sent = emit::send(Pressure {
        header: emit::header(KIND_PRESSURE, hook, facts.id, now),
        count,
        allocated: facts.allocated,
        limits: facts.limits,
        rmem_alloc: Probed::read(sk, off!(rmem_alloc)),
        rcvbuf: Probed::read(sk, off!(rcvbuf)),
        kind,
        flags: facts.flags,
        direction: facts.direction,
        reserved: [0; 5],
    });
    // One that did not fit waits for the next.
    let mark = PressureMark {
        sent_ns: now,
        waiting: if sent { 0 } else { count },
    };
    let _ = PRESSURE_MARKS.insert(key, mark, 0);
}

/// The protocol's three limits, by the address of its `struct proto`, into `to`. No `Option`:
/// 5.10 refuses to load what an absent one leaves unwritten on the stack.
#[inline(always)]
fn limits(proto: u64, to: &mut [u64; 3]) -> bool {
    if proto == 0 || off!(proto_limits) == ABSENT {
        return false;
    }
    let address: u64 = Probed::read(proto, off!(proto_limits));
    if address == 0 {
        return false;
    }
    *to = [at(address), at(address + 8), at(address + 16)];
    true
}

// sock_exceed_buf_limit(struct sock *sk, struct proto *prot, long allocated, int kind)
program!("tp_btf/sock_exceed_buf_limit", tp_exceed_buf, |ctx| {
    let sk = arg!(ctx, 0);
    if memory::is_tcp::<Typed>(sk) {
        let mut facts = own(state::<Typed>(sk).map_or(0, |st| st.id));
        if limits(Typed::number(arg!(ctx, 1)), &mut facts.limits) {
            facts.flags = PRESSURE_MEM;
        }
        facts.allocated = arg!(ctx, 2);
        facts.direction = arg!(ctx, 3) as u8;
        let sk = Typed::number(sk);
        report(sk, PRESSURE_EXCEED, hook::EXCEED_BUF_LIMIT, &facts);
    }
});

/// Facts of a traced socket's own queue.
#[inline(always)]
fn own(id: u64) -> Facts {
    Facts {
        id,
        allocated: 0,
        limits: [0; 3],
        flags: 0,
        direction: 0,
    }
}

// sock_rcvqueue_full(struct sock *sk, struct sk_buff *skb): queues of datagrams; TCP has
// tcp_prune_ofo_queue and tcp_collapse below.
program!("tp_btf/sock_rcvqueue_full", tp_rcvqueue, |ctx| {
    let sk = arg!(ctx, 0);
    if let Some(st) = state::<Typed>(sk) {
        report(
            Typed::number(sk),
            PRESSURE_RCVQUEUE,
            hook::RCVQUEUE_FULL,
            &own(st.id),
        );
    }
});

// void tcp_enter_memory_pressure(struct sock *sk): also called while TCP is under pressure, and
// then it does nothing (net/ipv4/tcp.c).
program!("kprobe", kp_enter_press, |ctx| enter(arg0(ctx)));

#[inline(always)]
fn enter(sk: u64) {
    if off!(prot) == ABSENT || off!(proto_pressure) == ABSENT {
        return;
    }
    let proto: u64 = Probed::read(sk, off!(prot));
    let pressed: u64 = Probed::read(proto, off!(proto_pressure));
    if pressed == 0 || at::<u64>(pressed) != 0 {
        return;
    }
    let mut facts = own(state::<Probed>(sk).map_or(0, |st| st.id));
    if limits(proto, &mut facts.limits) && off!(proto_allocated) != ABSENT {
        let allocated: u64 = Probed::read(proto, off!(proto_allocated));
        facts.allocated = at(allocated);
        facts.flags = PRESSURE_MEM;
    }
    report(sk, PRESSURE_ENTER, hook::ENTER_PRESSURE, &facts);
}

// bool tcp_prune_ofo_queue(struct sock *sk[, const struct sk_buff *in_skb]): the receive queue is
// over its limit, and collapsing it was not enough (tcp_prune_queue, net/ipv4/tcp_input.c).
program!("kprobe", kp_prune_ofo, |ctx| {
    let sk = arg0(ctx);
    if let Some(st) = state::<Probed>(sk) {
        let facts = own(st.id);
        if Probed::read::<u64>(sk, off!(ofo_root)) != 0 {
            report(sk, PRESSURE_PRUNE_OFO, hook::PRUNE_OFO, &facts);
        } else {
            report(sk, PRESSURE_PRUNE_RCV, hook::PRUNE_OFO, &facts);
        }
    }
});

// void tcp_collapse(struct sock *sk, …), seven arguments: more than fentry programs may have
// before 6.6.
program!("kprobe", kp_collapse, |ctx| {
    let sk = arg0(ctx);
    if let Some(st) = state::<Probed>(sk) {
        report(sk, PRESSURE_COLLAPSE, hook::COLLAPSE, &own(st.id));
    }
});
