//! How much memory the process holds: what was allocated and not yet given back. Its resident size
//! says what it had at most; the allocator keeps some of that for later.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, counted.
struct Counting;

/// How many bytes are allocated at this moment.
pub fn held_bytes() -> usize {
    HELD.load(Relaxed)
}

// SAFETY: every call goes to the system's allocator as it came; counting touches no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract, which is the same.
        counted(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        counted(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above; the memory came from the same allocator.
        let moved = counted(unsafe { System.realloc(memory, layout, size) }, size);
        if !moved.is_null() {
            HELD.fetch_sub(layout.size(), Relaxed);
        }
        moved
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above; the memory came from the same allocator.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// Memory of this size, unless there is none.
fn counted(memory: *mut u8, size: usize) -> *mut u8 {
    if !memory.is_null() {
        HELD.fetch_add(size, Relaxed);
    }
    memory
}
