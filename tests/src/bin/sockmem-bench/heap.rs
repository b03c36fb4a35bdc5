//! Counts what is allocated: by how many calls, and how much is live. For parts of the tool whose
//! memory the process's own figures do not tell apart.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Bytes that are allocated now.
static LIVE: AtomicUsize = AtomicUsize::new(0);
/// Most that were since `reset_peak`.
static PEAK: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Calls by this thread that gave out memory. By thread, so that tests beside each other
    /// do not disturb each other.
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, counted.
struct Counting;

fn grown(bytes: usize) {
    // The cell has no destructor, and so is there as long as the thread.
    CALLS.with(|calls| calls.set(calls.get() + 1));
    let live = LIVE.fetch_add(bytes, Relaxed) + bytes;
    PEAK.fetch_max(live, Relaxed);
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
        grown(size);
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, size) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static HEAP: Counting = Counting;

/// Bytes that are allocated now, as asked for.
pub(crate) fn live() -> usize {
    LIVE.load(Relaxed)
}

/// How often this thread was given memory.
pub(crate) fn calls() -> u64 {
    CALLS.with(Cell::get)
}

/// Forgets the highest level so far.
pub(crate) fn reset_peak() {
    PEAK.store(live(), Relaxed);
}

/// Most that was allocated at once since then.
pub(crate) fn peak() -> usize {
    PEAK.load(Relaxed)
}
