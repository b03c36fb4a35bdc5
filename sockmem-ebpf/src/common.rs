//! Tracepoints and iterators that every tier uses.

use sockmem_common::{
    BLOCK, Entry, KIND_EXIT, KIND_FORK, RUN_FORGET, RUN_FREE, SET_FOLLOW, STATE_CLOSED, hook,
};

use crate::{
    adopt, arg, emit,
    maps::{FREE, TARGET_BITS, TARGETS, WANTED, off, setting},
    memory::{self, Memory, Probed, TCP_CLOSE, TCP_LISTEN, Typed},
    observe::{Context, entry_at, now, observe, release, traced, update},
    program,
};

/// `TCP_SYN_RECV`.
const TCP_SYN_RECV: u64 = 3;
/// `TCP_SYN_SENT`.
const TCP_SYN_SENT: u64 = 2;

// inet_sock_set_state(const struct sock *sk, int oldstate, int newstate), of TCP, DCCP and
// SCTP. The socket is not always locked here, nor its section over.
program!("tp_btf/inet_sock_set_state", tp_set_state, |ctx| {
    let (sk, old, new) = (arg!(ctx, 0), arg!(ctx, 1) & 0xff, arg!(ctx, 2) & 0xff);
    set_state(sk, old, new)
});

#[inline(always)]
fn set_state(sk: u64, old: u64, new: u64) {
    if !memory::is_tcp::<Typed>(sk) {
        return;
    }
    if old == TCP_LISTEN as u64 && new == TCP_SYN_RECV {
        adopt::child::<Typed>(sk, None, hook::SET_STATE);
        return;
    }
    if old == TCP_CLOSE as u64 && (new == TCP_SYN_SENT || new == TCP_LISTEN as u64) {
        // connect() or listen(), by the current task.
        observe::<Typed>(sk, hook::SET_STATE, Context::Process);
    }
    if let Some(entry) = traced::<Typed>(sk) {
        adopt::give_cookie::<Typed>(sk, &mut entry.state);
        adopt::adopt_state(entry.index as u64, old, new);
    }
}

// sched_process_fork(struct task_struct *parent, struct task_struct *child)
program!("tp_btf/sched_process_fork", tp_fork, |ctx| fork(
    arg!(ctx, 0),
    arg!(ctx, 1)
));

#[inline(always)]
fn fork(parent: u64, child: u64) {
    if setting!(flags) & SET_FOLLOW == 0 {
        return;
    }
    let parent_tgid: u32 = Typed::read(parent, off!(task_tgid));
    if TARGETS.get_ptr(parent_tgid).is_none() {
        return;
    }
    let tgid: u32 = Typed::read(child, off!(task_tgid));
    if tgid == parent_tgid {
        return; // A thread.
    }
    let _ = TARGETS.insert(tgid, 1u32, 0);
    let bucket = tgid & 4095;
    if let Some(bits) = TARGET_BITS.get_ptr_mut(bucket >> 6) {
        // SAFETY: points to a map value. Two forks on two CPUs at the same instant could lose
        // one bit; user space sets it again when it learns of the child.
        unsafe { *bits |= 1 << (bucket & 63) };
    }
    emit::process(KIND_FORK, hook::FORK, tgid, parent_tgid, now());
}

// sched_process_exit(struct task_struct *task, …)
program!("tp_btf/sched_process_exit", tp_exit, |ctx| exit(arg!(
    ctx, 0
)));

#[inline(always)]
fn exit(task: u64) {
    let tgid: u32 = Typed::read(task, off!(task_tgid));
    let pid: u32 = Typed::read(task, off!(task_pid));
    if pid != tgid || TARGETS.get_ptr(tgid).is_none() {
        return;
    }
    emit::process(KIND_EXIT, hook::EXIT, tgid, 0, now());
}

// iter/tcp over one network namespace: adopts the sockets in WANTED, or all. The context is
// struct bpf_iter__tcp { meta, sk_common, uid }, 8 bytes each.
program!("iter/tcp", it_baseline, |ctx| baseline(arg!(ctx, 1)));

#[inline(always)]
fn baseline(common: u64) {
    if common == 0 {
        return;
    }
    // Minisocks (TIME-WAIT, requests) give 0.
    let sk = Typed::tcp_sock(common);
    if sk == 0 {
        return;
    }
    let cookie: u64 = Typed::read(sk, off!(cookie));
    let wanted = WANTED.get_ptr(cookie);
    if let Some(entry) = traced::<Typed>(sk) {
        update::<Typed>(sk, entry, hook::BASELINE, Context::Any);
        let st = &mut entry.state;
        // Accepted unnoticed, or passed on: user space knows better whose it is.
        if let Some(owner) = wanted {
            // SAFETY: points to a map value that user space wrote before this run.
            let owner = unsafe { &*owner };
            st.owner_tgid = owner.tgid;
            st.owner_kind = owner.kind as u8;
            if owner.listener_id != 0 {
                st.listener_id = owner.listener_id;
            }
            adopt::identify(entry.sk, st);
        }
        return;
    }
    if let Some(owner) = wanted {
        // SAFETY: points to a map value that user space wrote before this run.
        let owner = unsafe { &*owner };
        let (tgid, kind, listener_id) = (owner.tgid, owner.kind as u8, owner.listener_id);
        adopt::begin::<Typed>(sk, tgid, kind, listener_id, hook::BASELINE);
    } else if setting!(flags) & sockmem_common::SET_ALL != 0 {
        adopt::begin::<Typed>(sk, 0, sockmem_common::OWNER_UNKNOWN, 0, hook::BASELINE);
    }
}

// Run by user space (BPF_PROG_TEST_RUN), attached to nothing. Its arguments are the number of a
// block of entries, a bit for each of them, and what to do (`RUN_*`).
program!("raw_tp", rt_run, |ctx| {
    let (block, wanted, what) = (arg!(ctx, 0), arg!(ctx, 1), arg!(ctx, 2));
    let mut i = BLOCK as u64;
    // Downwards, so that the lowest of the free ones is taken first.
    while i > 0 {
        i -= 1;
        if wanted >> i & 1 != 0 {
            run_one(block * BLOCK as u64 + i, what);
        }
    }
});

/// One entry's part of a run. A global function (exported, integers only), which the verifier
/// checks once and not once per turn of the loop.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn run_one(index: u64, what: u64) -> u64 {
    if what == RUN_FREE {
        let _ = FREE.push(index as u32, 0);
        return 0;
    }
    let Some(entry) = entry_at(index) else {
        return 0;
    };
    if what == RUN_FORGET {
        // Else it is another socket's by now.
        if entry.state.flags & STATE_CLOSED != 0 {
            release::<Probed>(entry.sk, entry);
        }
    } else {
        resync(entry);
    }
    0
}

#[inline(always)]
fn resync(entry: &mut Entry) {
    let (sk, st) = (entry.sk, &mut entry.state);
    if st.flags & STATE_CLOSED != 0 {
        return;
    }
    let cookie: u64 = Probed::read(sk, off!(cookie));
    if st.cookie != 0 && cookie != st.cookie {
        // Its destruction was missed and the memory may be another socket's: user space
        // closes the entry.
        st.flags |= STATE_CLOSED;
        return;
    }
    st.cookie = cookie;
    // Not while somebody works on it: the end of that section is observed.
    if now() - st.last_ns < setting!(resync_quiet_ns) as u64 {
        return;
    }
    if Probed::read::<u32>(sk, off!(lock_owned)) & 0xff == 0 {
        update::<Probed>(sk, entry, hook::RESYNC, Context::Any);
    }
}
