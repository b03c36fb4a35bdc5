//! From a change to a record in the ring buffer, and the accounts of what was not sent.

use core::{arch::asm, mem::MaybeUninit};

use aya_ebpf::{
    bindings::{BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::{bpf_get_current_comm, generated::bpf_get_smp_processor_id},
};
use sockmem_common::{
    Change, Counters, Header, KIND_CHANGE, KIND_CLOSE, Lifecycle, Process, SET_QUIET, SockState,
    Stats,
};

use crate::maps::{EVENTS, GRAVES, STATS, setting};

/// This CPU's `Stats`.
#[inline(always)]
pub fn stats() -> Option<*mut Stats> {
    STATS.get_ptr_mut(0)
}

/// Adds to a counter that a program on the same CPU may interrupt.
#[inline(always)]
pub fn add(counter: *mut u64, n: u64) {
    // BPF_XADD without fetch: the only atomic that 5.10 knows, and one that this target's
    // `core::sync::atomic` does not offer.
    // SAFETY: `counter` points into a map value, aligned to 8; the verifier checks it.
    unsafe {
        asm!("lock *(u64 *)({p} + 0) += {n}", p = in(reg) counter, n = in(reg) n, options(nostack));
    }
}

/// Adds 1 to field `$f` of this CPU's stats.
macro_rules! count {
    ($f:ident) => {
        if let Some(s) = $crate::emit::stats() {
            // SAFETY: `s` points to a map value that lives as long as the program.
            $crate::emit::add(unsafe { &raw mut (*s).$f }, 1);
        }
    };
}
pub(crate) use count;

#[inline(always)]
pub fn cpu() -> u32 {
    // SAFETY: a helper call without arguments.
    unsafe { bpf_get_smp_processor_id() }
}

/// Whether this record should wake the reader: once per `wakeup_bytes` on each CPU.
/// The reader also looks by itself, some times a second.
#[inline(always)]
fn wakeup(s: *mut Stats, bytes: u64) -> u64 {
    // SAFETY: `s` points to this CPU's map value; a lost update only shifts a wake-up.
    let sum = unsafe { (*s).since_wakeup } + bytes;
    let wake = sum >= setting!(wakeup_bytes) as u64;
    // SAFETY: as above.
    unsafe { (*s).since_wakeup = if wake { 0 } else { sum } };
    if wake {
        BPF_RB_FORCE_WAKEUP as u64
    } else {
        BPF_RB_NO_WAKEUP as u64
    }
}

#[inline(always)]
pub fn header(kind: u8, hook: u8, id: u64, now: u64) -> Header {
    Header {
        t_ns: now,
        id,
        kind,
        hook,
        reserved: 0,
        cpu: cpu(),
    }
}

/// Accounts for one change of `st`, and sends it unless it is to be merged.
/// `before` are the counters before the change.
#[inline(always)]
pub fn change(st: &mut SockState, before: &Counters, hook: u8, now: u64) {
    let Some(s) = stats() else { return };
    // SAFETY: `s` points to this CPU's map value (here and below).
    add(unsafe { &raw mut (*s).seen }, 1);
    let coalesce = setting!(coalesce_ns);
    if setting!(flags) & SET_QUIET != 0 || (coalesce != 0 && now - st.last_emit_ns < coalesce) {
        // SAFETY: see above.
        add(unsafe { &raw mut (*s).merged }, 1);
        return;
    }
    let Some(mut entry) = EVENTS.reserve::<Change>(0) else {
        // SAFETY: see above.
        add(unsafe { &raw mut (*s).dropped_ring }, 1);
        return;
    };
    let record: &mut MaybeUninit<Change> = &mut entry;
    record.write(Change {
        header: header(KIND_CHANGE, hook, st.id, now),
        after: st.counters,
        d_rmem_alloc: st.counters.rmem_alloc.wrapping_sub(before.rmem_alloc) as i32,
        d_wmem_queued: st.counters.wmem_queued.wrapping_sub(before.wmem_queued) as i32,
        d_forward_alloc: st.counters.forward_alloc.wrapping_sub(before.forward_alloc),
        unread: st.seqs.unread(),
        unacked: st.seqs.unacked(),
        resident_min: st.window_min,
        resident_max: st.window_max,
        merged: st.merged,
    });
    entry.submit(wakeup(s, size_of::<Change>() as u64));
    // SAFETY: see above.
    add(unsafe { &raw mut (*s).sent }, 1);
    st.reset_window(now);
}

/// Sends the whole state. A `KIND_CLOSE` that does not fit into the ring is
/// kept in `GRAVES`; the others are found by the reader's next scan.
#[inline(never)]
pub fn lifecycle(st: &SockState, kind: u8, hook: u8, now: u64) {
    let Some(s) = stats() else { return };
    if let Some(mut entry) = EVENTS.reserve::<Lifecycle>(0) {
        let record: &mut MaybeUninit<Lifecycle> = &mut entry;
        let to = record.as_mut_ptr();
        // SAFETY: `to` is the reserved record, written in full.
        unsafe { (*to).header = header(kind, hook, st.id, now) };
        // SAFETY: as above.
        unsafe { (*to).state = *st };
        entry.submit(wakeup(s, size_of::<Lifecycle>() as u64));
        return;
    }
    // SAFETY: `s` points to this CPU's map value.
    add(unsafe { &raw mut (*s).parked }, 1);
    if kind == KIND_CLOSE && GRAVES.insert(st.id, st, 0).is_err() {
        // SAFETY: as above.
        add(unsafe { &raw mut (*s).lost_closed }, 1);
    }
}

/// Sends a record that no account is kept of. Whether it fitted into the ring.
#[inline(always)]
pub fn send<T: 'static>(record: T) -> bool {
    let Some(s) = stats() else { return false };
    let Some(mut entry) = EVENTS.reserve::<T>(0) else {
        return false;
    };
    let to: &mut MaybeUninit<T> = &mut entry;
    to.write(record);
    entry.submit(wakeup(s, size_of::<T>() as u64));
    true
}

/// Sends a process record. `comm` is taken from the current task where `own` is set.
#[inline(never)]
pub fn process(kind: u8, hook: u8, tgid: u32, parent: u32, now: u64) {
    let Some(mut entry) = EVENTS.reserve::<Process>(0) else {
        count!(parked);
        return;
    };
    let record: &mut MaybeUninit<Process> = &mut entry;
    record.write(Process {
        header: header(kind, hook, tgid as u64, now),
        parent,
        reserved: 0,
        comm: bpf_get_current_comm().unwrap_or([0; 16]),
    });
    entry.submit(BPF_RB_FORCE_WAKEUP as u64);
}
