//! The allocation-size histogram: each skb's own `truesize`, counted per CPU.

use sockmem_common::{ABSENT, BUCKETS, SET_TRUESIZE, bucket};

use crate::{
    emit::add,
    maps::{TRUESIZE, TRUESIZE_SUM, off, setting},
    memory::Memory,
};

/// An skb of a traced socket was received; `len` is its payload once the headers are pulled.
#[inline(always)]
pub fn received<M: Memory>(skb: u64) {
    tally(
        0,
        M::read(skb, off!(skb_truesize)),
        M::read(skb, off!(skb_len)),
    );
}

/// A segment arrived, its header not yet pulled: `TCP_SKB_CB(skb)->end_seq - seq` (net/tcp.h) is
/// its payload. One without is not counted: it will not be queued.
#[inline(always)]
pub fn arrived<M: Memory>(skb: u64) {
    let cb = off!(skb_cb);
    if cb == ABSENT || off!(cb_seq) == ABSENT || off!(cb_end_seq) == ABSENT {
        return;
    }
    if setting!(flags) & SET_TRUESIZE == 0 {
        return;
    }
    let seq: u32 = M::read(skb, cb + off!(cb_seq));
    let payload = M::read::<u32>(skb, cb + off!(cb_end_seq)).wrapping_sub(seq);
    if payload != 0 {
        tally(0, M::read(skb, off!(skb_truesize)), payload);
    }
}

/// An skb was allocated for a traced socket to write to; it has no payload yet.
#[inline(always)]
pub fn allocated<M: Memory>(skb: u64) {
    tally(1, M::read(skb, off!(skb_truesize)), 0);
}

#[inline(always)]
fn tally(direction: u32, truesize: u32, payload: u32) {
    if let Some(n) = TRUESIZE.get_ptr_mut(direction * BUCKETS + bucket(truesize)) {
        add(n, 1);
    }
    if let Some(sum) = TRUESIZE_SUM.get_ptr_mut(direction) {
        // SAFETY: `sum` points to this CPU's map value (as below).
        add(unsafe { &raw mut (*sum).count }, 1);
        // SAFETY: see above.
        add(unsafe { &raw mut (*sum).truesize }, truesize as u64);
        // SAFETY: see above.
        add(unsafe { &raw mut (*sum).payload }, payload as u64);
        // SAFETY: see above; a larger value that an interruption overwrites is seen again
        // by the histogram.
        unsafe {
            if truesize as u64 > (*sum).max {
                (*sum).max = truesize as u64;
            }
        }
    }
}
