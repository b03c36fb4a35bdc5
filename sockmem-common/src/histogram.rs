//! Log-linear buckets for skb truesize, small enough for a per-CPU array.

/// Each power of two is divided into this many buckets: values are kept within 1/32 (3.2 %).
pub const SUB: u32 = 32;
/// Number of buckets: enough for every truesize below 4 MiB.
pub const BUCKETS: u32 = 64 + 16 * SUB;

/// Index of the bucket that holds `value`; values of 4 MiB and more share the last one.
#[inline(always)]
#[must_use]
pub fn bucket(value: u32) -> u32 {
    if value < 2 * SUB {
        return value;
    }
    // Position of the highest set bit, by comparison: BPF has no instruction for it.
    let mut v = value;
    let mut high = 0;
    if v >= 1 << 16 {
        v >>= 16;
        high += 16;
    }
    if v >= 1 << 8 {
        v >>= 8;
        high += 8;
    }
    if v >= 1 << 4 {
        v >>= 4;
        high += 4;
    }
    if v >= 1 << 2 {
        v >>= 2;
        high += 2;
    }
    if v >= 1 << 1 {
        high += 1;
    }
    let shift = high - 5;
    let index = shift * SUB + (value >> shift);
    if index < BUCKETS { index } else { BUCKETS - 1 }
}

/// Lowest value that falls into bucket `index`. Bytes.
#[must_use]
pub fn bucket_floor(index: u32) -> u32 {
    if index < 2 * SUB {
        return index;
    }
    let shift = index / SUB - 1;
    (index - shift * SUB) << shift
}

/// Sums beside the histogram: exact where the buckets are rounded.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TruesizeSum {
    /// skbs counted.
    pub count: u64,
    /// Sum of `skb->truesize`. Bytes.
    pub truesize: u64,
    /// Sum of `skb->len`. Bytes.
    pub payload: u64,
    /// Largest `skb->truesize`. Bytes.
    pub max: u64,
}

const _: () = assert!(size_of::<TruesizeSum>() == 32);
