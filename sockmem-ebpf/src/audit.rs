//! Test-only: the oracle behind the word "exact". At every lock acquire the live counters
//! must equal the last observed ones; what differs was changed without being observed.

use sockmem_common::{AuditStats, hook};

use crate::{
    arg,
    emit::add,
    maps::{AUDIT, off},
    memory::{Memory, Typed, is_tcp},
    observe::state,
    program,
};

#[inline(always)]
fn check(sk: u64, at: u8) {
    let Some(st) = state::<Typed>(sk) else { return };
    let Some(audit) = AUDIT.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: points to this CPU's map value; counters are added to atomically.
    let audit: &mut AuditStats = unsafe { &mut *audit };
    // Not the start of a section but the end of the owner's: up to 6.1 tcp_release_cb() drops
    // ownership before it calls the timers' handlers (net/ipv4/tcp_output.c), and the owner's
    // changes are observed when it returns.
    if at != hook::RELEASE_SOCK && audit.in_release_cb != 0 {
        return;
    }
    add(&raw mut audit.checks, 1);
    let mut missed = false;
    if Typed::read::<u32>(sk, off!(rmem_alloc)) != st.counters.rmem_alloc {
        add(&raw mut audit.miss_rmem_alloc, 1);
        missed = true;
    }
    if Typed::read::<u32>(sk, off!(wmem_queued)) != st.counters.wmem_queued {
        add(&raw mut audit.miss_wmem_queued, 1);
        missed = true;
    }
    if Typed::read::<i32>(sk, off!(forward_alloc)) != st.counters.forward_alloc {
        add(&raw mut audit.miss_forward_alloc, 1);
        missed = true;
    }
    if missed {
        add(&raw mut audit.misses, 1);
        audit.last_miss_hook = at as u64;
    }
}

// void lock_sock_nested(struct sock *sk, int subclass): the caller owns the socket now.
program!("fexit/lock_sock_nested", au_lock_sock, |ctx| {
    let sk = arg!(ctx, 0);
    if is_tcp::<Typed>(sk) {
        check(sk, hook::RELEASE_SOCK);
    }
});

/// Notes whether this CPU is inside `tcp_release_cb`, which runs with bottom halves off.
fn release_cb(inside: u64) {
    if let Some(audit) = AUDIT.get_ptr_mut(0) {
        // SAFETY: points to this CPU's map value.
        unsafe { (*audit).in_release_cb = inside };
    }
}

// void tcp_release_cb(struct sock *sk)
program!("fentry/tcp_release_cb", au_release_in, |_ctx| release_cb(1));
program!("fexit/tcp_release_cb", au_release_out, |_ctx| release_cb(0));

/// Entry of a softirq section: nobody owns the socket, the spinlock is held.
macro_rules! section_start {
    ($section:literal, $name:ident, $hook:ident) => {
        program!($section, $name, |ctx| {
            let sk = arg!(ctx, 0);
            if Typed::read::<u32>(sk, off!(lock_owned)) & 0xff == 0 {
                check(sk, hook::$hook);
            }
        });
    };
}

section_start!(
    "fentry/tcp_rcv_established",
    au_rcv_established,
    RCV_ESTABLISHED
);
section_start!(
    "fentry/tcp_rcv_state_process",
    au_rcv_state,
    RCV_STATE_PROCESS
);
section_start!(
    "fentry/tcp_write_timer_handler",
    au_write_timer,
    WRITE_TIMER
);
section_start!(
    "fentry/tcp_delack_timer_handler",
    au_delack_timer,
    DELACK_TIMER
);
