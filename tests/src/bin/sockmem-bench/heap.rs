//! Counts what is allocated: by how many calls, and how much is live. For parts of the tool whose
//! memory the process's own figures do not tell apart.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    // By thread, so that tests beside each other do not disturb each other. Cells of integers
    // have no destructor: they are there as long as the thread is.
    /// Bytes that this thread took and did not give back.
    static LIVE: Cell<usize> = const { Cell::new(0) };
    /// Most that it was since `reset_peak`.
    static PEAK: Cell<usize> = const { Cell::new(0) };
    /// Calls that gave out memory.
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, counted.
struct Counting;

fn grown(bytes: usize) {
    CALLS.set(CALLS.get() + 1);
    let live = LIVE.get().wrapping_add(bytes);
    LIVE.set(live);
    PEAK.set(PEAK.get().max(live));
}

fn shrunk(bytes: usize) {
    // What another thread took may be given back here.
    LIVE.set(LIVE.get().saturating_sub(bytes));
}

// SAFETY: every call goes to the system's allocator with the arguments it came with.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        // SAFETY: the caller keeps to `GlobalAlloc::alloc`'s terms, which are the same.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        shrunk(layout.size());
        grown(size);
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, size) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        shrunk(layout.size());
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static HEAP: Counting = Counting;

/// Bytes that this thread has, as asked for.
pub(crate) fn live() -> usize {
    LIVE.get()
}

/// How often this thread was given memory.
pub(crate) fn calls() -> u64 {
    CALLS.get()
}

/// Forgets the highest level so far.
pub(crate) fn reset_peak() {
    PEAK.set(live());
}

/// Most that this thread had at once since then.
pub(crate) fn peak() -> usize {
    PEAK.get()
}
