//! What is counted for a whole process or machine: allocations, memory, system calls. One test at a time, and nothing beside them:
//! every test runs [`alone`]. `cargo test --test measured costs::` runs one module.

mod alloc;
mod costs;
#[cfg(all(any(feature = "quic", feature = "h2"), target_os = "linux", target_env = "gnu"))]
#[path = "../library/ends.rs"]
#[allow(dead_code)]
mod ends;
#[cfg(all(feature = "h2", target_os = "linux", target_env = "gnu"))]
mod h2;
#[cfg(all(feature = "quic", target_os = "linux", target_env = "gnu"))]
mod quic;

#[path = "../support/mod.rs"]
mod support;

use std::panic::resume_unwind;
use std::sync::{Mutex, PoisonError};
use std::thread::scope;

/// Runs that test and nothing beside it. What its thread kept for itself is given back before the next one counts.
fn alone(test: impl FnOnce() + Send) {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    scope(|threads| threads.spawn(test).join()).unwrap_or_else(|panic| resume_unwind(panic));
}

/// Bytes that the C library's allocator has handed out, to Rust and to C.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[cfg_attr(not(any(feature = "quic", feature = "h2")), allow(dead_code))]
fn taken() -> usize {
    // SAFETY: no arguments, a plain struct back.
    let info = unsafe { libc::mallinfo2() };
    info.uordblks + info.hblkhd
}
