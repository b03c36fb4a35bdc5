//! fentry and fexit: every function after which a counter may have changed.
//! The set and its evidence: `docs/HOOKS.md`. In all of them argument 0 is
//! the `struct sock *` unless noted; prototypes looked up in 5.10, 6.1, 6.12 and 7.2.

use sockmem_common::hook;

use crate::{
    adopt, arg,
    maps::off,
    memory::{Memory, Typed, is_tcp},
    observe::{
        Context, destroy, observe, observe_backlog, observe_number, observe_wmem_alloc, state,
    },
    program, truesize,
};

/// Defines an fexit program that observes argument 0.
macro_rules! section_end {
    ($section:literal, $name:ident, $hook:ident, $context:ident) => {
        program!($section, $name, |ctx| observe::<Typed>(
            arg!(ctx, 0),
            hook::$hook,
            Context::$context
        ));
    };
}

// void tcp_release_cb(struct sock *sk): under the lock, bottom halves off.
section_end!("fexit/tcp_release_cb", fx_release_cb, RELEASE_CB, Process);
// int tcp_rcv_established(sk, skb) [void from 5.13 on]
section_end!(
    "fexit/tcp_rcv_established",
    fx_rcv_established,
    RCV_ESTABLISHED,
    Any
);
// int tcp_rcv_state_process(sk, skb)
section_end!(
    "fexit/tcp_rcv_state_process",
    fx_rcv_state,
    RCV_STATE_PROCESS,
    Any
);
// void tcp_write_timer_handler(sk)
section_end!(
    "fexit/tcp_write_timer_handler",
    fx_write_timer,
    WRITE_TIMER,
    Any
);
// void tcp_delack_timer_handler(sk)
section_end!(
    "fexit/tcp_delack_timer_handler",
    fx_delack_timer,
    DELACK_TIMER,
    Any
);
// void tcp_write_queue_purge(sk)
section_end!(
    "fexit/tcp_write_queue_purge",
    fx_queue_purge,
    WRITE_QUEUE_PURGE,
    Any
);
// void sk_stream_kill_queues(sk)
section_end!(
    "fexit/sk_stream_kill_queues",
    fx_kill_queues,
    KILL_QUEUES,
    Any
);
// void __release_sock(sk): the backlog was processed, its length is 0.
section_end!(
    "fexit/__release_sock",
    fx_backlog_done,
    RELEASE_BACKLOG,
    Process
);

// void release_sock(sk), of every protocol: read while the caller still owns it.
program!("fentry/release_sock", fe_release_sock, |ctx| {
    let sk = arg!(ctx, 0);
    if is_tcp::<Typed>(sk) {
        observe::<Typed>(sk, hook::RELEASE_SOCK, Context::Process);
    }
});

// bool tcp_write_xmit(sk, …): only outside process context (TSQ, pacing); the owner's own
// section ends with tcp_release_cb.
program!("fexit/tcp_write_xmit", fx_write_xmit, |ctx| {
    let sk = arg!(ctx, 0);
    if Typed::read::<u32>(sk, off!(lock_owned)) & 0xff == 0 {
        observe::<Typed>(sk, hook::WRITE_XMIT, Context::Any);
    }
});

// void inet_sock_destruct(sk)
program!("fexit/inet_sock_destruct", fx_destruct, |ctx| {
    destroy::<Typed>(arg!(ctx, 0), hook::DESTRUCT, true)
});

// bool tcp_add_backlog(sk, skb, …)
program!("fexit/tcp_add_backlog", fx_add_backlog, |ctx| {
    observe_backlog::<Typed>(arg!(ctx, 0), hook::ADD_BACKLOG)
});

// void tcp_wfree(skb); void __sock_wfree(skb) for pure ACKs. After them skb->sk still stands.
program!("fexit/tcp_wfree", fx_wfree, |ctx| {
    let sk = Typed::read::<u64>(arg!(ctx, 0), off!(skb_sk));
    if sk != 0 {
        observe_wmem_alloc::<Typed>(sk, hook::TCP_WFREE);
    }
});
program!("fexit/__sock_wfree", fx_ack_wfree, |ctx| {
    let sk = Typed::read::<u64>(arg!(ctx, 0), off!(skb_sk));
    if sk != 0 {
        observe_wmem_alloc::<Typed>(sk, hook::PURE_ACK_WFREE);
    }
});

// struct sock *inet_csk_reqsk_queue_add(struct sock *listener, struct request_sock *, struct sock *child)
program!("fentry/inet_csk_reqsk_queue_add", fe_reqsk_add, |ctx| {
    let child = arg!(ctx, 2);
    adopt::child::<Typed>(child, Some(arg!(ctx, 0)), hook::REQSK_QUEUE_ADD);
    if let Some(st) = state::<Typed>(child) {
        adopt::give_cookie::<Typed>(child, st);
    }
    observe_number(Typed::number(child), hook::REQSK_QUEUE_ADD as u64);
});
// struct sock *inet_csk_complete_hashdance(struct sock *listener, struct sock *child, …)
program!("fentry/inet_csk_complete_hashdance", fe_hashdance, |ctx| {
    let child = arg!(ctx, 1);
    if child != 0 {
        adopt::child::<Typed>(child, Some(arg!(ctx, 0)), hook::HASHDANCE);
        observe_number(Typed::number(child), hook::HASHDANCE as u64);
    }
});

// void sock_rfree(skb)
program!("fentry/sock_rfree", fe_rfree, |ctx| {
    let skb = arg!(ctx, 0);
    let sk = Typed::read::<u64>(skb, off!(skb_sk));
    if sk != 0 && state::<Typed>(sk).is_some() {
        truesize::received::<Typed>(skb);
    }
});

// struct sk_buff *tcp_stream_alloc_skb(sk, gfp, force) [6.x, 7.x]: the return value follows
// the arguments.
program!("fexit/tcp_stream_alloc_skb", fx_alloc3, |ctx| {
    allocated(arg!(ctx, 0), arg!(ctx, 3))
});
// struct sk_buff *sk_stream_alloc_skb(sk, size, gfp, force) [5.10]; the same under the new name up to 6.1
program!("fexit/sk_stream_alloc_skb", fx_alloc4, |ctx| {
    allocated(arg!(ctx, 0), arg!(ctx, 4))
});

#[inline(always)]
fn allocated(sk: u64, skb: u64) {
    if skb != 0 && state::<Typed>(sk).is_some() {
        truesize::allocated::<Typed>(skb);
    }
}
