//! `observe()`: what every hook does with the socket it found.

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use sockmem_common::{BLOCK, Entry, OWNER_PROCESS, SockState};

use crate::{
    adopt, emit,
    maps::{FREE, SLOT_COUNT, SLOTS, SOCKS, STATES, Slot, USED, off, setting},
    memory::{self, Memory, Probed, Reading},
};

#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: a helper call without arguments.
    unsafe { bpf_ktime_get_ns() }
}

/// In whose context a hook runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Context {
    /// The current task works on the socket: it may become known as its owner.
    Process,
    /// The current task is whoever was interrupted.
    Any,
}

/// Entry `index` of the array of states, where it is in use.
#[inline(always)]
pub fn entry_at<'a>(index: u64) -> Option<&'a mut Entry> {
    let entry = STATES.get_ptr_mut(index as u32)?;
    // SAFETY: points to a map value, valid until the program ends. Hooks of one socket are
    // serialised by its lock; what runs outside of it writes single words (see the functions
    // below).
    let entry = unsafe { &mut *entry };
    if entry.sk == 0 { None } else { Some(entry) }
}

/// What is known of the traced sockets in the slot of `sk`: derived from its distance to the
/// slots themselves, because the verifier lets nobody compute with the address of a typed pointer.
#[inline(always)]
pub fn slot<M: Memory>(sk: u64) -> Option<&'static mut Slot> {
    let base = SLOTS.get_ptr_mut(0)?;
    let distance = M::distance(sk, base as u64);
    // Slab objects of this size begin at multiples of 64.
    let hash = (distance >> 6) ^ (distance >> 19);
    let slot = SLOTS.get_ptr_mut(hash as u32 & (SLOT_COUNT - 1))?;
    // SAFETY: points to a map value; its words are written singly.
    Some(unsafe { &mut *slot })
}

/// The entry of `sk`, if it is traced.
#[inline(always)]
pub fn traced<'a, M: Memory>(sk: u64) -> Option<&'a mut Entry> {
    let slot = slot::<M>(sk)?;
    // SAFETY: points to a map value that other CPUs write (also below).
    if unsafe { core::ptr::read_volatile(&raw const slot.count) } == 0 {
        return None;
    }
    // SAFETY: see above.
    let hint = unsafe { core::ptr::read_volatile(&raw const slot.hint) };
    if let Some(entry) = entry_at(hint)
        && entry.sk == sk
    {
        return Some(entry);
    }
    // SAFETY: points to a map value of 8 bytes.
    let index = unsafe { *SOCKS.get_ptr(sk)? };
    let entry = entry_at(index)?;
    // Inserted by another CPU a moment ago and not yet filled in, or about to leave.
    if entry.sk != sk {
        return None;
    }
    // SAFETY: see above; whichever CPU writes last is right.
    unsafe { core::ptr::write_volatile(&raw mut slot.hint, index) };
    Some(entry)
}

/// The state of a traced socket.
#[inline(always)]
pub fn state<'a, M: Memory>(sk: u64) -> Option<&'a mut SockState> {
    Some(&mut traced::<M>(sk)?.state)
}

/// Takes the entry out of use.
#[inline(always)]
pub fn release<M: Memory>(sk: u64, entry: &mut Entry) {
    let index = entry.index;
    if SOCKS.remove(sk).is_err() {
        return; // Another CPU was first; the entry may be another socket's by now.
    }
    // SAFETY: points to a map value; before it is listed as free.
    unsafe { core::ptr::write_volatile(&raw mut entry.sk, 0) };
    if let Some(slot) = slot::<M>(sk) {
        emit::add(&raw mut slot.count, u64::MAX); // Minus 1.
    }
    if let Some(used) = USED.get_ptr_mut(index / BLOCK) {
        emit::add(used, u64::MAX); // Minus 1.
    }
    // There is room for every index.
    let _ = FREE.push(index, 0);
}

/// Reads the socket's counters, compares them with the last reading, brings the state up to
/// date and sends the difference. An untraced socket costs the look-up (and, in
/// process context, the test whether its user is traced).
#[inline(always)]
pub fn observe<M: Memory>(sk: u64, hook: u8, context: Context) {
    match traced::<M>(sk) {
        Some(entry) => update::<M>(sk, entry, hook, context),
        None => {
            if context == Context::Process {
                adopt::by_current::<M>(sk, hook);
            }
        }
    }
}

/// `observe()` by number, outside of process context. For hooks that adopt, once per connection: a
/// global function (exported, integers only), because their own stack frame and those
/// of the adoption must fit into 512 bytes together.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn observe_number(sk: u64, hook: u64) -> u64 {
    if let Some(entry) = traced::<Probed>(sk) {
        update::<Probed>(sk, entry, hook as u8, Context::Any);
    }
    0
}

/// `observe()` for a socket already looked up.
#[inline(always)]
pub fn update<M: Memory>(sk: u64, entry: &mut Entry, hook: u8, context: Context) {
    take::<M>(sk, entry, M::reading(sk), hook, context);
}

/// `update()` with a reading made already.
#[inline(always)]
pub fn take<M: Memory>(sk: u64, entry: &mut Entry, reading: Reading, hook: u8, context: Context) {
    let index = entry.index as u64;
    let st = &mut entry.state;
    let Reading {
        counters,
        held,
        state,
        ..
    } = reading;
    let seqs = memory::seqs::<M>(sk, state);
    st.tcp_state = state;
    // Numbers: see `Reading::held`.
    let changed = st.counters.difference(&counters);
    let moved = changed | st.seqs.difference(&seqs);
    if held == 0 {
        if st.owner_kind == OWNER_PROCESS {
            adopt::adopt_orphaned(index, hook as u64);
        }
    } else if context == Context::Process
        // The task is asked for only where it did something to the socket: that costs a call.
        && (st.owner_kind != OWNER_PROCESS || (moved != 0 && st.owner_tgid != adopt::current_tgid()))
    {
        adopt::adopt_used(index, hook as u64);
    }
    if moved == 0 {
        return;
    }
    let now = now();
    advance(index, st, now);
    if changed == 0 {
        // Payload moved within an skb, or only sequence numbers did: not a change of memory.
        if seqs.moved_since(&st.seqs) {
            st.last_activity_ns = now;
        }
        st.seqs = seqs;
        return;
    }
    let before = st.counters;
    if before.rcvbuf != counters.rcvbuf || before.sndbuf != counters.sndbuf {
        adopt::read_userlocks(entry.sk, st);
    }
    st.take(now, &counters, &seqs);
    emit::change(st, &before, hook, now);
}

/// Completes the integrals of entry `index` up to `now`.
#[inline(always)]
fn advance(index: u64, st: &mut SockState, now: u64) {
    let idle = st.pass(now, setting!(idle_after_ns));
    if idle != 0 {
        idle_span(index, idle);
    }
}

/// The idle part of a span. Rare, and a global function (exported, integers only): the verifier
/// checks it once per program.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn idle_span(index: u64, ns: u64) -> u64 {
    if let Some(entry) = entry_at(index) {
        entry.state.idle_span(ns);
    }
    0
}

/// `sk_wmem_alloc` changed outside the socket lock: one word of the state, and an event.
#[inline(always)]
pub fn observe_wmem_alloc<M: Memory>(sk: u64, hook: u8) {
    let Some(st) = state::<M>(sk) else { return };
    let biased: u32 = M::read(sk, off!(wmem_alloc));
    let value = if biased == 0 { 0 } else { biased - 1 };
    if st.counters.wmem_alloc == value {
        return;
    }
    let before = st.counters;
    st.counters.wmem_alloc = value;
    outside_lock(st, &before, hook);
}

/// `sk_backlog.len` changed while a process owns the socket: likewise.
#[inline(always)]
pub fn observe_backlog<M: Memory>(sk: u64, hook: u8) {
    let Some(st) = state::<M>(sk) else { return };
    let value: u32 = M::read(sk, off!(backlog_len));
    if st.counters.backlog == value {
        return;
    }
    let before = st.counters;
    st.counters.backlog = value;
    outside_lock(st, &before, hook);
}

#[inline(always)]
fn outside_lock(st: &mut SockState, before: &sockmem_common::Counters, hook: u8) {
    st.changes += 1;
    st.merged += 1;
    emit::change(st, before, hook, now());
}

/// The socket is being destroyed: last reading, totals sent, entry gone. In the
/// tracepoint tier (`purged` false) the hook comes just before the kernel purges the queues, in
/// the same call (`inet_csk_destroy_sock`, net/ipv4/inet_connection_sock.c, 5.10 to 7.2), so the
/// counters are zero afterwards; the kernel itself warns where they are not.
#[inline(always)]
pub fn destroy<M: Memory>(sk: u64, hook: u8, purged: bool) {
    let Some(entry) = traced::<M>(sk) else {
        return;
    };
    update::<M>(sk, entry, hook, Context::Any);
    let index = entry.index as u64;
    let st = &mut entry.state;
    let now = now();
    advance(index, st, now);
    if !purged {
        let before = st.counters;
        let mut after = before;
        after.rmem_alloc = 0;
        after.wmem_queued = 0;
        after.forward_alloc = 0;
        after.backlog = 0;
        let seqs = st.seqs;
        if after != before {
            st.take(now, &after, &seqs);
            emit::change(st, &before, hook, now);
        }
    }
    st.flags |= sockmem_common::STATE_CLOSED;
    emit::lifecycle(st, sockmem_common::KIND_CLOSE, hook, now);
    adopt::forget_listener(entry.sk, st);
    release::<M>(sk, entry);
}
