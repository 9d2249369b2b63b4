//! The heap of static builds: dlmalloc behind one lock, and a way to give back what is free in the midst of it.

use std::alloc::{GlobalAlloc, Layout};
use std::ptr::null_mut;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dlmalloc::{Allocator, Dlmalloc};

use super::page_size;

/// A heap that can be trimmed.
pub struct Trimming(Mutex<Dlmalloc<Pages>>);

impl Trimming {
    /// An empty heap, which has nothing of the system's yet.
    pub const fn new() -> Trimming {
        Trimming(Mutex::new(Dlmalloc::new_with_allocator(Pages { closed: false })))
    }

    /// The heap, for this thread alone as long as the guard lives.
    pub fn lock(&self) -> MutexGuard<'_, Dlmalloc<Pages>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives memory that is free back to the system, down to the page.
    ///
    /// dlmalloc does so by itself at the upper end only, and what is left of a crowd lies there. So all free blocks of at
    /// least two pages are taken, the largest first, while the heap may not grow; the pages inside are dropped, and the blocks
    /// freed again. Their first and last bytes, where dlmalloc writes, stay.
    pub fn trim(&self) {
        let mut heap = self.lock();
        let page = page_size();
        // SAFETY: a block of `size` bytes is written to at its beginning only, and freed once with its own layout. The
        // pages that are dropped lie within it, and what they hold is not used.
        unsafe {
            heap.trim(0);
            heap.allocator_mut().closed = true;
            let mut taken: *mut Taken = null_mut();
            for size in (13..=20).rev().map(|bits| 1_usize << bits) {
                loop {
                    let block = heap.malloc(size, align_of::<Taken>());
                    if block.is_null() {
                        break;
                    }
                    let begin = size_of::<Taken>() + block.add(size_of::<Taken>()).align_offset(page);
                    let end = size.saturating_sub((block.addr() + size) % page);
                    if begin < end {
                        libc::madvise(block.add(begin).cast(), end - begin, libc::MADV_DONTNEED);
                    }
                    block.cast::<Taken>().write(Taken { next: taken, size });
                    taken = block.cast();
                }
            }
            while !taken.is_null() {
                let Taken { next, size } = taken.read();
                heap.free(taken.cast(), size, align_of::<Taken>());
                taken = next;
            }
            heap.allocator_mut().closed = false;
        }
    }
}

// SAFETY: dlmalloc's blocks are what is asked for, and the lock lets one thread at a time at it.
unsafe impl GlobalAlloc for Trimming {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: any size and alignment will do.
        unsafe { self.lock().malloc(layout.size(), layout.align()) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: any size and alignment will do.
        unsafe { self.lock().calloc(layout.size(), layout.align()) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise is passed on.
        unsafe { self.lock().realloc(block, layout.size(), layout.align(), size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { self.lock().free(block, layout.size(), layout.align()) }
    }
}

/// The first bytes of a block that [`Trimming::trim`] has taken.
struct Taken {
    next: *mut Taken,
    size: usize,
}

/// Where the heap's memory comes from.
pub struct Pages {
    /// The heap may not grow now.
    closed: bool,
}

// SAFETY: what is handed out is mapped, private, zero, and unmapped only when it is handed back.
unsafe impl Allocator for Pages {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        let base = match self.closed {
            true => libc::MAP_FAILED,
            // SAFETY: a new mapping, where the system likes.
            false => unsafe { libc::mmap(null_mut(), size, access, kind, -1, 0) },
        };
        (if base == libc::MAP_FAILED { null_mut() } else { base.cast() }, size, 0)
    }

    fn remap(&self, _: *mut u8, _: usize, _: usize, _: bool) -> *mut u8 {
        null_mut()
    }

    fn free_part(&self, base: *mut u8, size: usize, kept: usize) -> bool {
        // SAFETY: dlmalloc hands back the end of a mapping that it has.
        self.free(unsafe { base.add(kept) }, size - kept)
    }

    fn free(&self, base: *mut u8, size: usize) -> bool {
        // SAFETY: dlmalloc hands back what it has.
        unsafe { unmap(base.cast(), size) }
    }

    fn can_release_part(&self, _: u32) -> bool {
        true
    }

    fn allocates_zeros(&self) -> bool {
        true
    }

    fn page_size(&self) -> usize {
        page_size()
    }
}

/// Gives pages back to the system.
#[cfg(not(test))]
unsafe fn unmap(base: *mut libc::c_void, size: usize) -> bool {
    // SAFETY: the caller's promise is passed on.
    unsafe { libc::munmap(base, size) == 0 }
}

/// The same for tests, which ask what is resident there: no other allocation may get the addresses.
#[cfg(test)]
unsafe fn unmap(base: *mut libc::c_void, size: usize) -> bool {
    let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
    // SAFETY: the caller's promise is passed on; the new mapping replaces the old one.
    unsafe { libc::mmap(base, size, libc::PROT_NONE, kind, -1, 0) == base }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// Bytes of the heap's blocks that are in memory.
    fn resident(blocks: &[(*mut u8, Layout)]) -> usize {
        let page = page_size();
        let mut pages: Vec<usize> = Vec::new();
        for (block, layout) in blocks {
            pages.extend((block.addr() / page..=(block.addr() + layout.size() - 1) / page).map(|number| number * page));
        }
        pages.sort_unstable();
        pages.dedup();
        let there = |at: usize| {
            let mut state = 0;
            // SAFETY: asks about one page, which may be mapped or not, and writes one byte.
            unsafe { libc::mincore(at as *mut _, page, &mut state) == 0 && state & 1 == 1 }
        };
        pages.into_iter().filter(|at| there(*at)).count() * page
    }

    /// Something of every size that users need, told apart by its bytes.
    fn crowd(heap: &Trimming, count: usize) -> Vec<(*mut u8, Layout)> {
        let mut sizes = [48, 16 << 10, 700, 4096, 130, 64 << 10, 2048, 8192, 24].into_iter().cycle();
        let make = |number: usize| {
            let layout = Layout::from_size_align(sizes.next().unwrap(), 8).unwrap();
            // SAFETY: a new block, filled to its end.
            let block = unsafe {
                let block = heap.alloc(layout);
                block.write_bytes(number as u8, layout.size());
                block
            };
            (block, layout)
        };
        (0..count).map(make).collect()
    }

    fn free(heap: &Trimming, blocks: &[(*mut u8, Layout)]) {
        // SAFETY: each was had of this heap, and is given back once.
        blocks.iter().for_each(|(block, layout)| unsafe { heap.dealloc(*block, *layout) });
    }

    #[test]
    fn what_a_crowd_leaves_free_goes_back_and_the_rest_stays_as_it_is() {
        let heap = Trimming::new();
        let all = crowd(&heap, 1800);
        let before = resident(&all);
        assert!(before > 15 << 20, "{before}");
        // One in a hundred stays, all over the heap.
        let numbered = || all.iter().enumerate();
        let stays = |number: &usize| number % 100 == 7;
        let (kept, gone): (Vec<_>, Vec<_>) = numbered().partition(|(number, _)| stays(number));
        free(&heap, &gone.iter().map(|(_, block)| **block).collect::<Vec<_>>());
        heap.trim();
        let held: usize = kept.iter().map(|(_, (_, layout))| layout.size()).sum();
        let after = resident(&all);
        assert!(after < held + before / 20, "{after} of {before} bytes are there still, for {held}");

        for (number, (block, layout)) in &kept {
            // SAFETY: a block that was written to its end.
            let bytes = unsafe { std::slice::from_raw_parts(*block, layout.size()) };
            assert!(bytes.iter().all(|byte| *byte == *number as u8), "block {number}");
        }
        // The heap is whole: it serves the same crowd again, from the same place, and gives all of it back.
        let again = crowd(&heap, 1800);
        assert!(resident(&again) > 15 << 20);
        free(&heap, &again);
        free(&heap, &kept.iter().map(|(_, block)| **block).collect::<Vec<_>>());
        heap.trim();
        assert!(resident(&all) + resident(&again) < 1 << 20);
    }

    #[test]
    fn a_heap_is_trimmed_while_others_use_it() {
        let heap = Trimming::new();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let mut living = VecDeque::new();
                    for _ in 0..100 {
                        living.extend(
                            crowd(&heap, 40).into_iter().enumerate().map(|(n, block)| (n, block.0.addr(), block.1)),
                        );
                        while living.len() > 100 {
                            let (number, address, layout) = living.pop_front().unwrap();
                            let block = address as *mut u8;
                            // SAFETY: a block that was written to its end, and is freed once.
                            unsafe {
                                assert!((*block, *block.add(layout.size() - 1)) == (number as u8, number as u8));
                                heap.dealloc(block, layout);
                            }
                        }
                    }
                });
            }
            scope.spawn(|| (0..200).for_each(|_| heap.trim()));
        });
    }

    #[test]
    fn zeroed_memory_is_zero_and_what_grows_keeps_its_bytes() {
        let heap = Trimming::new();
        free(&heap, &crowd(&heap, 50));
        let (small, large) = (Layout::from_size_align(100, 64).unwrap(), Layout::from_size_align(300_000, 64).unwrap());
        // SAFETY: blocks are read and written within their sizes, and freed once.
        unsafe {
            let block = heap.alloc_zeroed(small);
            assert!(block.addr() % 64 == 0 && (0..100).all(|at| *block.add(at) == 0));
            block.write_bytes(9, 100);
            let block = heap.realloc(block, small, 300_000);
            assert!(block.addr() % 64 == 0 && (0..100).all(|at| *block.add(at) == 9));
            heap.dealloc(block, large);
        }
    }

    #[test]
    fn more_than_there_is_cannot_be_had_and_harms_nothing() {
        let heap = Trimming::new();
        let all = crowd(&heap, 20);
        let layout = Layout::from_size_align(isize::MAX as usize / 2, 8).unwrap();
        // SAFETY: it is only asked for.
        assert!(unsafe { heap.alloc(layout) }.is_null());
        free(&heap, &all);
        free(&heap, &crowd(&heap, 20));
    }
}
