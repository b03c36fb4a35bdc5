//! Records from the kernel.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use aya::maps::{MapData, RingBuf};

/// The reading end of the ring buffer.
pub struct Ring(RingBuf<MapData>);

impl Ring {
    /// Reads from `events`.
    #[must_use]
    pub fn new(events: RingBuf<MapData>) -> Self {
        Self(events)
    }

    /// Hands out up to `most` records, in the order in which the kernel reserved them. Gives
    /// their space back one by one. Returns how many there were.
    pub fn drain(&mut self, most: usize, mut each: impl FnMut(&[u8])) -> usize {
        let mut n = 0;
        while n < most {
            let Some(item) = self.0.next() else { break };
            each(&item);
            n += 1;
        }
        n
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the ring owns the descriptor and outlives the borrow.
        unsafe { BorrowedFd::borrow_raw(self.0.as_raw_fd()) }
    }
}
