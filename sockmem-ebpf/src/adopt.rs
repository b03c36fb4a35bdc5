//! Whose sockets are traced, and how a socket comes under the trace.

use core::ffi::c_void;

use aya_ebpf::helpers::{
    bpf_get_current_comm, bpf_get_current_pid_tgid, generated::bpf_get_socket_cookie,
};
use aya_log_ebpf::debug;
use sockmem_common::{
    ABSENT, BLOCK, Entry, KIND_OPEN, KIND_OWNER, OWNER_LISTENER, OWNER_ORPHAN, OWNER_PROCESS,
    OWNER_UNKNOWN, SET_ALL, SET_COOKIE, SET_PORTS, STATE_RCVBUF_LOCK, STATE_SNDBUF_LOCK, SockState,
};

use crate::{
    LogContext,
    emit::{self, count},
    maps::{
        FREE, LISTENERS, ListenKey, Listener, NOEXIST, PORTS, SLOTS, SLOTS_AT, SOCKS, STATES,
        TARGET_BITS, TARGETS, USED, off, setting,
    },
    memory::{self, AF_INET6, Memory, Probed, TCP_CLOSE, TCP_LISTEN, copy},
    observe::{entry_at, now, slot, state},
};

/// Thread-group id of the current task, in the initial pid namespace.
#[inline(always)]
pub fn current_tgid() -> u32 {
    (bpf_get_current_pid_tgid() >> 32) as u32
}

/// Whether sockets used by `tgid` are traced.
#[inline(always)]
pub fn is_target(tgid: u32) -> bool {
    if setting!(flags) & SET_ALL != 0 {
        return true;
    }
    let bucket = tgid & 4095;
    match TARGET_BITS.get(bucket >> 6) {
        Some(bits) if bits & (1 << (bucket & 63)) != 0 => TARGETS.get_ptr(tgid).is_some(),
        _ => false,
    }
}

/// Whether the port of `sk` is one of those asked for (`--port`).
#[inline(always)]
fn port_wanted<M: Memory>(sk: u64) -> bool {
    if setting!(flags) & SET_PORTS == 0 {
        return false;
    }
    let local = M::read::<u16>(sk, off!(num)) as u32;
    let remote = u16::from_be(M::read::<u16>(sk, off!(dport))) as u32;
    PORTS.get_ptr(local).is_some() || PORTS.get_ptr(remote).is_some()
}

/// An untraced socket was used by the current task: adopt it if that task is traced.
/// This is how connect, socket passing and inherited sockets are followed.
#[inline(always)]
pub fn by_current<M: Memory>(sk: u64, hook: u8) {
    let tgid = current_tgid();
    if tgid == setting!(self_tgid) {
        return;
    }
    let target = is_target(tgid);
    if !target && setting!(flags) & SET_PORTS == 0 {
        return;
    }
    if !memory::is_tcp::<M>(sk) || !(target || port_wanted::<M>(sk)) {
        return;
    }
    // A socket without a file is not this task's: a child that the kernel set up, or an orphan.
    let held = M::read::<u64>(sk, off!(socket)) != 0;
    if held {
        begin::<M>(sk, tgid, OWNER_PROCESS, 0, hook);
    } else {
        begin::<M>(sk, 0, OWNER_UNKNOWN, 0, hook);
    }
}

/// A listener got a child (`LISTEN → SYN_RECV`, or the accept queue's hooks, which know the
/// listener): trace it if its listener is traced.
#[inline(always)]
pub fn child<M: Memory>(child: u64, listener: Option<u64>, hook: u8) {
    let wanted = match listener {
        Some(listener) => state::<M>(listener).is_some(),
        None => {
            LISTENERS.get_ptr(listen_key::<M>(child)).is_some()
                || setting!(flags) & SET_ALL != 0
                || port_wanted::<M>(child)
        }
    };
    if wanted {
        let listener = listener.map_or(0, M::number);
        adopt_child(M::number(child), listener, hook as u64);
    }
}

/// Makes sure that a traced socket has its cookie.
#[inline(always)]
pub fn give_cookie<M: Memory>(sk: u64, st: &mut SockState) {
    if st.cookie == 0 {
        st.cookie = cookie::<M>(sk);
    }
}

/// Puts `sk` under the trace; what it holds now is its baseline.
#[inline(always)]
pub fn begin<M: Memory>(sk: u64, tgid: u32, kind: u8, listener_id: u64, hook: u8) {
    let who = tgid as u64 | (kind as u64) << 32 | (hook as u64) << 40;
    adopt_socket(M::number(sk), who, listener_id, cookie::<M>(sk));
}

// The functions below are rare, and long. They are exported and take integers only, which makes
// them global functions to the verifier: it checks each once per program and not at every
// call, on every path. So they know addresses as mere numbers and read with `Probed`.

/// `child()` of a traced listener; `listener` is 0 where only its port is known. No cookie is
/// made yet: `inet_csk_clone_lock()` sets the child's to the request's after the state
/// (net/ipv4/inet_connection_sock.c, 6.12).
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn adopt_child(child: u64, listener: u64, hook: u64) -> u64 {
    let (id, tgid, known) = if listener != 0 {
        match state::<Probed>(listener) {
            Some(parent) => (parent.id, parent.owner_tgid, true),
            None => return 0,
        }
    } else {
        match LISTENERS.get_ptr(listen_key::<Probed>(child)) {
            // SAFETY: points to a map value; entries are replaced, never written in place.
            Some(parent) => unsafe { ((*parent).id, (*parent).tgid, true) },
            None => (0, 0, false),
        }
    };
    if let Some(st) = state::<Probed>(child) {
        // The (namespace, port) look-up cannot tell listeners apart that share a port; the
        // hooks that know the listener can.
        if listener != 0 && st.owner_kind == OWNER_LISTENER && st.listener_id != id {
            st.listener_id = id;
            st.owner_tgid = tgid;
        }
        return 0;
    }
    let kind = if known { OWNER_LISTENER } else { OWNER_UNKNOWN };
    let who = tgid as u64 | (kind as u64) << 32 | hook << 40;
    adopt_socket(child, who, id, 0)
}

/// `begin()`; `who` holds tgid, kind and hook in its low 32, next 8 and next 8 bits.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn adopt_socket(sk: u64, who: u64, listener_id: u64, cookie: u64) -> u64 {
    // Before the first look-up by number that can find something.
    if let (Some(at), Some(slots)) = (SLOTS_AT.get_ptr_mut(0), SLOTS.get_ptr_mut(0)) {
        // SAFETY: a map value; every CPU writes the same.
        unsafe { core::ptr::write_volatile(at, slots as u64) };
    }
    let Ok(Some(index)) = FREE.pop() else {
        count!(dropped_map);
        debug!(&LogContext, "state map full: a socket is not traced");
        return 0;
    };
    let (Some(entry), Some(used), Some(slot)) = (
        STATES.get_ptr_mut(index),
        USED.get_ptr_mut(index / BLOCK),
        slot::<Probed>(sk),
    ) else {
        return 0;
    };
    // Before the entry, so that the counts are never too low.
    emit::add(used, 1);
    emit::add(&raw mut slot.count, 1);
    if SOCKS.insert(sk, index as u64, NOEXIST).is_err() {
        // Another CPU was first.
        emit::add(used, u64::MAX); // Minus 1.
        emit::add(&raw mut slot.count, u64::MAX);
        let _ = FREE.push(index, 0);
        return 0;
    }
    // SAFETY: points to the map value taken above; others leave it alone while `sk` is 0.
    let entry: &mut Entry = unsafe { &mut *entry };
    clear(entry);
    entry.index = index;
    let st = &mut entry.state;
    let (tgid, kind, hook) = (who as u32, (who >> 32) as u8, (who >> 40) as u8);
    let now = now();
    st.id = (now << 8) | (emit::cpu() as u64 & 0xff);
    st.tcp_state = Probed::read(sk, off!(state));
    identify(sk, st);
    st.cookie = cookie;
    st.listener_id = listener_id;
    st.owner_tgid = tgid;
    st.owner_kind = kind;
    if kind == OWNER_PROCESS && tgid == current_tgid() {
        st.owner_comm = bpf_get_current_comm().unwrap_or([0; 16]);
    }
    read_userlocks(sk, st);
    let counters = Probed::reading(sk).counters;
    let seqs = memory::seqs::<Probed>(sk, st.tcp_state);
    st.start(now, &counters, &seqs);
    if st.tcp_state == TCP_LISTEN {
        listening(sk, st);
    }
    emit::lifecycle(st, KIND_OPEN, hook, now);
    debug!(
        &LogContext,
        "traced: id {} hook {} tgid {}", st.id, hook, tgid
    );
    let id = st.id;
    // SAFETY: words of a map value; last, because they make the entry the socket's.
    unsafe {
        core::ptr::write_volatile(&raw mut entry.seal, id);
        core::ptr::write_volatile(&raw mut entry.sk, sk);
    }
    1
}

/// Zeroes a free entry. Word by word: a call of `memset` is none that the verifier knows.
#[inline(always)]
fn clear(entry: &mut Entry) {
    let words = (&raw mut *entry).cast::<u64>();
    let mut i = 0;
    while i < size_of::<Entry>() / 8 {
        // SAFETY: word `i` lies within the entry, of which any bytes are a valid value.
        unsafe { core::ptr::write_volatile(words.add(i), 0) };
        i += 1;
    }
}

/// The current task used a traced socket that has a file: it owns the socket now if
/// the socket was not known to be anybody's (an accepted child), or if the task is traced (a
/// child of its owner, or a process that it was passed to). A task that is not traced takes
/// no socket away.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn adopt_used(index: u64, hook: u64) -> u64 {
    let Some(entry) = entry_at(index) else {
        return 0;
    };
    let (sk, st) = (entry.sk, &mut entry.state);
    let tgid = current_tgid();
    // Reading a socket through an iterator takes its lock: the tracer is no user of it.
    if tgid == setting!(self_tgid) || (st.owner_kind == OWNER_PROCESS && !is_target(tgid)) {
        return 0;
    }
    st.owner_kind = OWNER_PROCESS;
    st.owner_tgid = tgid;
    st.owner_comm = bpf_get_current_comm().unwrap_or([0; 16]);
    st.inode = inode(sk);
    emit::lifecycle(st, KIND_OWNER, hook as u8, now());
    1
}

/// A traced socket lost its file: its owner closed it, and it lives on in the kernel.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn adopt_orphaned(index: u64, hook: u64) -> u64 {
    let Some(entry) = entry_at(index) else {
        return 0;
    };
    let st = &mut entry.state;
    st.owner_kind = OWNER_ORPHAN;
    st.inode = 0;
    emit::lifecycle(st, KIND_OWNER, hook as u8, now());
    1
}

/// A traced socket changed its TCP state.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn adopt_state(index: u64, old: u64, new: u64) -> u64 {
    let Some(entry) = entry_at(index) else {
        return 0;
    };
    let (sk, st) = (entry.sk, &mut entry.state);
    st.tcp_state = new as u8;
    if new as u8 != TCP_CLOSE {
        // Addresses and ports are complete at the latest when it is established; a closing
        // socket keeps those it had.
        let inode = st.inode;
        identify(sk, st);
        if st.inode == 0 {
            st.inode = inode;
        }
    }
    if new as u8 == TCP_LISTEN {
        listening(sk, st);
    } else if old as u8 == TCP_LISTEN {
        forget_listener(sk, st);
    }
    1
}

/// Reads addresses, ports, namespace and inode.
#[inline(never)]
pub fn identify(sk: u64, st: &mut SockState) {
    st.family = Probed::read::<u16>(sk, off!(family)) as u8;
    st.local_port = Probed::read(sk, off!(num));
    st.remote_port = u16::from_be(Probed::read::<u16>(sk, off!(dport)));
    if st.family == AF_INET6 {
        copy::<16>(sk, off!(v6_rcv_saddr), &mut st.local);
        copy::<16>(sk, off!(v6_daddr), &mut st.remote);
    } else {
        copy4(sk, off!(rcv_saddr), &mut st.local);
        copy4(sk, off!(daddr), &mut st.remote);
    }
    let net: u64 = Probed::read(sk, off!(net));
    if net != 0 {
        let mut inum = [0u8; 4];
        copy::<4>(net, off!(net_inum), &mut inum);
        st.netns = u32::from_ne_bytes(inum);
    }
    st.inode = inode(sk);
}

#[inline(always)]
fn copy4(sk: u64, off: u32, to: &mut [u8; 16]) {
    let mut four = [0u8; 4];
    copy::<4>(sk, off, &mut four);
    to[0] = four[0];
    to[1] = four[1];
    to[2] = four[2];
    to[3] = four[3];
}

/// Inode number of the socket's file; 0 without a file.
#[inline(always)]
fn inode(sk: u64) -> u64 {
    let socket: u64 = Probed::read(sk, off!(socket));
    if socket == 0 || off!(socket_ino) == ABSENT {
        return 0;
    }
    let mut ino = [0u8; 8];
    copy::<8>(socket, off!(socket_ino), &mut ino);
    u64::from_ne_bytes(ino)
}

/// The socket's cookie; makes one where the kernel lets a tracing program do so.
#[inline(always)]
fn cookie<M: Memory>(sk: u64) -> u64 {
    if M::TYPED && setting!(flags) & SET_COOKIE != 0 {
        // SAFETY: a helper call; the verifier checks that `sk` is a socket.
        return unsafe { bpf_get_socket_cookie(sk as *mut c_void) };
    }
    M::read(sk, off!(cookie))
}

/// Reads `sk_userlocks`: whether the application set the limits (SOCK_SNDBUF_LOCK 1,
/// SOCK_RCVBUF_LOCK 2, include/net/sock.h).
#[inline(never)]
pub fn read_userlocks(sk: u64, st: &mut SockState) {
    let at = off!(userlocks);
    if at == ABSENT {
        return;
    }
    let mut byte = [0u8; 1];
    copy::<1>(sk, at, &mut byte);
    let locks = byte[0] >> (off!(userlocks_shift) & 7);
    st.flags &= !(STATE_RCVBUF_LOCK | STATE_SNDBUF_LOCK);
    if locks & 1 != 0 {
        st.flags |= STATE_SNDBUF_LOCK;
    }
    if locks & 2 != 0 {
        st.flags |= STATE_RCVBUF_LOCK;
    }
}

#[inline(always)]
fn listen_key<M: Memory>(sk: u64) -> ListenKey {
    ListenKey {
        net: M::read(sk, off!(net)),
        port: M::read::<u16>(sk, off!(num)) as u64,
    }
}

/// `sk` listens: its children are traced from now on.
#[inline(never)]
fn listening(sk: u64, st: &SockState) {
    let value = Listener {
        sk,
        id: st.id,
        tgid: st.owner_tgid,
        reserved: 0,
    };
    let _ = LISTENERS.insert(listen_key::<Probed>(sk), value, 0);
}

/// `sk` listens no more.
#[inline(never)]
pub fn forget_listener(sk: u64, st: &SockState) {
    if st.remote_port != 0 {
        return; // Never was one.
    }
    let key = ListenKey {
        net: Probed::read(sk, off!(net)),
        port: st.local_port as u64,
    };
    if let Some(listener) = LISTENERS.get_ptr(key) {
        // SAFETY: points to a map value; entries are replaced, never written in place.
        if unsafe { (*listener).sk } == sk {
            let _ = LISTENERS.remove(key);
        }
    }
}
