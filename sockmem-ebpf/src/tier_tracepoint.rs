//! BTF tracepoints alone, for hosts that refuse kprobes and fentry.
//!
//! A tracepoint fires somewhere inside a section, so the socket is read at once and once more
//! when the section has ended: it waits in a per-CPU list ("touched") that is read at the end of
//! the softirq and when a task is switched out ("flushed"). A socket owned by a task
//! at that moment stays in the list: its owner is still at work on it.

use sockmem_common::{Entry, PENDING_SLOTS, Pending, hook};

use crate::{
    adopt, arg,
    emit::count,
    maps::{PENDING, off},
    memory::{Memory, Typed, Windowed},
    observe::{Context, destroy, entry_at, take, traced, update},
    program, truesize,
};

/// Notes that `sk` is being worked on. The first time since it was read it is only listed:
/// nothing has happened to it yet. Later it is read, too: what came before is a value of its own.
#[inline(always)]
fn touch(sk: u64, hook: u8) -> bool {
    let Some(entry) = traced::<Typed>(sk) else {
        return false;
    };
    if entry.touched != entry.seen {
        update::<Typed>(sk, entry, hook, Context::Any);
    }
    pend(entry);
    true
}

/// Lists a socket that is to be read when its section ends.
#[inline(always)]
fn pend(entry: &mut Entry) {
    let here = crate::emit::cpu() + 1;
    if entry.state.pending != here {
        list(entry, here);
    }
    // After the mark of the list: see `Touches`.
    let touched = &raw mut entry.touched;
    // SAFETY: a field of a map value (also below). Touches that two CPUs count as one are still
    // more than were seen.
    unsafe {
        core::ptr::write_volatile(touched, core::ptr::read_volatile(touched).wrapping_add(1));
    }
}

#[inline(always)]
fn list(entry: &mut Entry, here: u32) {
    let Some(list) = PENDING.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: points to this CPU's map value. A softirq may interrupt this between the two
    // writes and take one entry too few or too many: the next touch or resync reads it.
    let list: &mut Pending = unsafe { &mut *list };
    let at = list.len as usize;
    if at >= PENDING_SLOTS {
        count!(pending_full);
        return;
    }
    list.entries[at & (PENDING_SLOTS - 1)] = entry.index;
    list.len = at as u32 + 1;
    // SAFETY: see `pend()`.
    unsafe { core::ptr::write_volatile(&raw mut entry.state.pending, here) };
}

/// The touches of a socket that a reading, begun after this, covers. Only those of this CPU end
/// before it goes on; so they count only where this CPU listed the socket last. Another
/// one marks its list first and counts its touch then, and here the count is taken first:
/// either its mark is seen here, or its touch is not among those covered.
struct Touches {
    count: u16,
    ours: bool,
}

impl Touches {
    #[inline(always)]
    fn of(entry: &Entry) -> Self {
        // SAFETY: fields of a map value that other CPUs write; in this order.
        unsafe {
            let count = core::ptr::read_volatile(&raw const entry.touched);
            let listed = core::ptr::read_volatile(&raw const entry.state.pending);
            Self {
                count,
                ours: listed == crate::emit::cpu() + 1,
            }
        }
    }
}

/// Reads one listed socket again; 1 where its owner is still at work on it. One that this CPU
/// listed last and that was read since it was touched is not read again: its section has ended. A
/// global function (exported, integers only), which the verifier checks once and not once per
/// turn of the loop.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn flush_one(index: u64, hook: u64) -> u64 {
    let Some(entry) = entry_at(index) else {
        return 0;
    };
    let touches = Touches::of(entry);
    if touches.ours && touches.count == entry.seen {
        entry.state.pending = 0;
        return 0;
    }
    let sk = entry.sk;
    let reading = Windowed::reading(sk);
    if reading.owned != 0 {
        return 1;
    }
    if touches.ours {
        entry.state.pending = 0;
        entry.seen = touches.count;
    }
    take::<Windowed>(sk, entry, reading, hook as u8, Context::Any);
    0
}

/// Reads every socket in this CPU's list whose section has ended.
#[inline(always)]
fn flush(hook: u8) {
    let Some(list) = PENDING.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: points to this CPU's map value.
    let list: &mut Pending = unsafe { &mut *list };
    let len = list.len;
    if len == 0 {
        return;
    }
    // The list is rebuilt in place; its length lives in the map and not in a register, so that
    // the verifier need not follow each of its values through the loop.
    let kept = &raw mut list.len;
    // SAFETY: `kept` points into the map value (here and below).
    unsafe { core::ptr::write_volatile(kept, 0) };
    let mut i = 0usize;
    while i < PENDING_SLOTS {
        if i as u32 >= len {
            break;
        }
        let index = list.entries[i];
        i += 1;
        if flush_one(index as u64, hook as u64) != 0 {
            // SAFETY: see above.
            let at = unsafe { core::ptr::read_volatile(kept) } & (PENDING_SLOTS as u32 - 1);
            list.entries[at as usize] = index;
            // SAFETY: see above.
            unsafe { core::ptr::write_volatile(kept, at + 1) };
        }
    }
}

// tcp_probe(struct sock *sk, const struct sk_buff *skb): at entry of tcp_rcv_established.
program!("tp_btf/tcp_probe", tp_probe, |ctx| {
    if touch(arg!(ctx, 0), hook::TCP_PROBE) {
        truesize::arrived::<Typed>(arg!(ctx, 1));
    }
});

// net_dev_queue(struct sk_buff *skb): an skb on its way down. Its sk may be a minisock;
// only addresses in the map are read.
program!("tp_btf/net_dev_queue", tp_dev_queue, |ctx| {
    let sk = Typed::read::<u64>(arg!(ctx, 0), off!(skb_sk));
    if sk == 0 {
        return 0;
    }
    // Only listed: the verifier does not take skb->sk for a socket that helpers may be given,
    // and an skb that goes down changes nothing yet that its sender's section would not end.
    if let Some(entry) = traced::<Typed>(sk) {
        pend(entry);
    }
});

// tcp_rcv_space_adjust(struct sock *sk): while a task reads; covers splice, too. Only listed: it
// comes before what was read is freed (tcp_recvmsg_locked, tcp_read_sock, net/ipv4/tcp.c).
program!("tp_btf/tcp_rcv_space_adjust", tp_space_adjust, |ctx| {
    let sk = arg!(ctx, 0);
    if let Some(entry) = traced::<Typed>(sk) {
        pend(entry);
    }
});

// tcp_retransmit_skb(const struct sock *sk, const struct sk_buff *skb, …)
program!("tp_btf/tcp_retransmit_skb", tp_retransmit, |ctx| {
    touch(arg!(ctx, 0), hook::RETRANSMIT_SKB);
});

// sock_send_length(struct sock *sk, int ret, int flags): after the protocol's sendmsg has
// returned, in process context; the section is over.
program!("tp_btf/sock_send_length", tp_send_length, |ctx| {
    ended(arg!(ctx, 0), hook::SEND_LENGTH)
});
program!("tp_btf/sock_recv_length", tp_recv_length, |ctx| {
    ended(arg!(ctx, 0), hook::RECV_LENGTH)
});

#[inline(always)]
fn ended(sk: u64, hook: u8) {
    let Some(entry) = traced::<Typed>(sk) else {
        adopt::by_current::<Typed>(sk, hook);
        return;
    };
    let touches = Touches::of(entry);
    let reading = Typed::reading(sk);
    // Read at its section's end: where this CPU listed it, it need not be read again. Not so
    // while somebody else is at work on it.
    if touches.ours && reading.owned == 0 {
        entry.seen = touches.count;
    }
    take::<Typed>(sk, entry, reading, hook, Context::Process);
}

// tcp_destroy_sock(struct sock *sk): just before the queues are purged.
program!("tp_btf/tcp_destroy_sock", tp_destroy, |ctx| {
    destroy::<Typed>(arg!(ctx, 0), hook::DESTROY_SOCK, false)
});

// softirq_exit(unsigned int vec_nr)
program!("tp_btf/softirq_exit", tp_softirq_exit, |_ctx| flush(
    hook::SOFTIRQ_EXIT
));

// sched_switch(…): the task that touched a socket goes off the CPU.
program!("tp_btf/sched_switch", tp_sched_switch, |_ctx| flush(
    hook::PROCESS_EXIT
));
