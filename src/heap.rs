//! The heap, and what is said when there is no more of it.
//!
//! Users, pools and queues are bounded so that they fit (`run::room`); what is left are limits too low to begin with, `slot=0`,
//! and memory that other processes use up. Then this process ends as with any other error, in one line and with exit status 1,
//! where Rust's own way is to abort. Its supervisor starts it again.
//!
//! Static builds bring dlmalloc, for their C code too: beside the allocator that comes with their C library it takes 8 KiB for
//! an encrypted connection instead of 15, and what a crowd leaves can be given back (docs/measurements.md, "Static builds").

use std::alloc::{GlobalAlloc, Layout};
use std::io::{stderr, Write};
use std::process::exit;

#[cfg(target_env = "musl")]
mod c;
#[cfg(any(target_env = "musl", test))]
mod trimming;

#[cfg(target_env = "musl")]
static BELOW: trimming::Trimming = trimming::Trimming::new();
#[cfg(not(target_env = "musl"))]
static BELOW: std::alloc::System = std::alloc::System;

/// The allocator below; a request that it cannot meet is the end of the process.
pub struct Heap;

// SAFETY: every call goes to the allocator below as it came, and what it returns is returned.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is passed on.
        had(unsafe { BELOW.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is passed on.
        had(unsafe { BELOW.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise is passed on.
        had(unsafe { BELOW.realloc(block, layout, size) }, size)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { BELOW.dealloc(block, layout) }
    }
}

/// Gives memory that is free back to the system, where the heap keeps it: to be called some time after a crowd has gone.
pub fn trim() {
    #[cfg(target_env = "musl")]
    BELOW.trim();
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim may be called at any time from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// One heap for all threads, where the C library would make more (glibc). To be called before there are any threads.
pub fn share() {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets a number of the allocator's.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Bytes of a page of memory.
pub fn page_size() -> usize {
    // SAFETY: reads a number.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
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
