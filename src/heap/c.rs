//! The heap under C's names, so that the C code of static builds (BoringSSL, nghttp2, the C library itself) is on it too.
//!
//! The C library of static builds lets all of these be replaced. `malloc_usable_size`, which dlmalloc cannot answer, has no caller.

use std::ffi::{c_int, c_void};
use std::ptr::null_mut;

use super::BELOW;

#[unsafe(no_mangle)]
unsafe extern "C" fn malloc(size: usize) -> *mut c_void {
    // SAFETY: any size will do.
    told(unsafe { BELOW.lock().c_malloc(size) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn calloc(count: usize, size: usize) -> *mut c_void {
    match count.checked_mul(size) {
        // SAFETY: any size will do.
        Some(size) => told(unsafe { BELOW.lock().calloc(size, align_of::<usize>()) }),
        None => told(null_mut()),
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn realloc(block: *mut c_void, size: usize) -> *mut c_void {
    // SAFETY: the caller's promise is passed on.
    told(unsafe { BELOW.lock().c_realloc(block.cast(), size) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn reallocarray(block: *mut c_void, count: usize, size: usize) -> *mut c_void {
    match count.checked_mul(size) {
        // SAFETY: the caller's promise is passed on.
        Some(size) => unsafe { realloc(block, size) },
        None => told(null_mut()),
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn free(block: *mut c_void) {
    // SAFETY: the caller's promise is passed on.
    unsafe { BELOW.lock().c_free(block.cast()) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn aligned_alloc(align: usize, size: usize) -> *mut c_void {
    // SAFETY: the caller's promise, that `align` is a power of two, is passed on.
    told(unsafe { BELOW.lock().c_memalign(align, size) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memalign(align: usize, size: usize) -> *mut c_void {
    // SAFETY: the caller's promise is passed on.
    unsafe { aligned_alloc(align, size) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn valloc(size: usize) -> *mut c_void {
    // SAFETY: a page is a power of two.
    unsafe { aligned_alloc(super::page_size(), size) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn posix_memalign(block: *mut *mut c_void, align: usize, size: usize) -> c_int {
    // SAFETY: the caller's promises, about `align` as well as `block`, are passed on.
    unsafe {
        let new = BELOW.lock().c_memalign(align, size);
        if new.is_null() {
            return libc::ENOMEM;
        }
        *block = new.cast();
    }
    0
}

/// C looks for the reason of a null in `errno`.
fn told(block: *mut u8) -> *mut c_void {
    if block.is_null() {
        // SAFETY: the number is this thread's own.
        unsafe { *libc::__errno_location() = libc::ENOMEM };
    }
    block.cast()
}
