//! Pages of the executable and its libraries that the process has mapped.
//!
//! The system maps sixteen pages wherever one is needed, and what the start has needed stays mapped: most of what a process at rest
//! is said to hold. Such pages count against it when memory runs out, and the system takes them last.

/// Unmaps what is only read: code and constants. What is needed again is mapped again, out of the page cache or from the file.
/// A breakpoint that a debugger has put there is forgotten.
pub fn release() {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    // SAFETY: `of_object` keeps nothing of what it is shown.
    unsafe {
        libc::dl_iterate_phdr(Some(of_object), std::ptr::null_mut());
    }
}

/// The same for one loaded object.
#[cfg(any(target_os = "linux", target_os = "android"))]
unsafe extern "C" fn of_object(object: *mut libc::dl_phdr_info, _: libc::size_t, _: *mut libc::c_void) -> libc::c_int {
    // SAFETY: the caller shows an object and its program headers, which stay while this runs.
    let (base, headers) = unsafe {
        let object = &*object;
        (object.dlpi_addr as usize, std::slice::from_raw_parts(object.dlpi_phdr, object.dlpi_phnum.into()))
    };
    let page = crate::heap::page_size();
    let read_only = headers.iter().filter(|it| it.p_type == libc::PT_LOAD && it.p_flags & libc::PF_W == 0);
    let parts = read_only.map(|it| {
        let begin = base + it.p_vaddr as usize;
        let first = begin - begin % page;
        (first, begin + it.p_memsz as usize - first)
    });
    // All of them before the first goes: the headers are on such a page themselves.
    for (first, bytes) in parts.collect::<Vec<_>>() {
        // SAFETY: nobody has written to these pages, so each is the same when it is mapped again.
        unsafe { libc::madvise(first as *mut libc::c_void, bytes, libc::MADV_DONTNEED) };
    }
    0
}
