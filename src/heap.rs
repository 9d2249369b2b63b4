//! The heap, and what is said when there is no more of it.
//!
//! Users, pools and queues are bounded so that they fit (`run::room`); what is left are limits too low to begin with, `slot=0`,
//! and memory that other processes use up. Then this process ends as with any other error, in one line and with exit status 1,
//! where Rust's own way is to abort. Whoever started it starts it again.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{stderr, Write};
use std::process::exit;

/// The system's heap; a request that it cannot meet is the end of the process.
pub struct Heap;

// SAFETY: every call goes to the system's allocator as it came, and what it returns is returned.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is passed on.
        had(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is passed on.
        had(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise is passed on.
        had(unsafe { System.realloc(block, layout, size) }, size)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(block, layout) }
    }
}

fn had(block: *mut u8, size: usize) -> *mut u8 {
    match block.is_null() {
        false => block,
        true => ended(size),
    }
}

/// Nothing in here may need memory.
#[cold]
fn ended(size: usize) -> ! {
    let _ = writeln!(stderr(), "Error: out of memory: {size} bytes more cannot be had; a lower slot or max needs less");
    exit(1)
}
