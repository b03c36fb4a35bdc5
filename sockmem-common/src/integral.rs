//! byte·ns integrals that neither overflow nor need 128-bit arithmetic in BPF.

/// Bits of the low part.
const LOW: u32 = 29;
const MASK: u64 = (1 << LOW) - 1;

/// The integral of a byte count over time, in byte·ns: `high · 2^29 + low`, `low < 2^29`.
///
/// Exact for byte counts below 2^34 (three `int` counters add up to less) and
/// for spans of time up to centuries.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Integral {
    /// Units of 2^29 byte·ns.
    pub high: u64,
    /// byte·ns, below 2^29.
    pub low: u64,
}

const _: () = assert!(size_of::<Integral>() == 16);

impl Integral {
    /// Adds `bytes` held for `ns`.
    #[inline(always)]
    pub fn add(&mut self, bytes: u64, ns: u64) {
        // bytes < 2^34 and (ns & MASK) < 2^29: the product stays below 2^63.
        let low = self.low + bytes * (ns & MASK);
        self.high += bytes * (ns >> LOW) + (low >> LOW);
        self.low = low & MASK;
    }

    /// The value in byte·ns.
    #[must_use]
    pub fn byte_ns(&self) -> u128 {
        ((self.high as u128) << LOW) + self.low as u128
    }

    /// The mean over `ns`, in bytes, rounded to nearest; `None` over no time at all.
    #[must_use]
    pub fn mean(&self, ns: u64) -> Option<u64> {
        if ns == 0 {
            return None;
        }
        Some(((self.byte_ns() + ns as u128 / 2) / ns as u128) as u64)
    }
}
