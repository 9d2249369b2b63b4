//! The system calls about processes and signals that have no safe form. Each passes plain numbers, or pointers to live local values.

use std::io;
use std::mem::zeroed;

/// A child that has ended.
pub struct Ended {
    /// Its number.
    pub pid: i32,
    /// The exit code, or 128 and the signal.
    pub code: u8,
}

/// Whether children of children that end become this process's: else nothing keeps them together.
pub const SUPPORTED: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// The number of a process as the system's calls have it.
pub fn number(pid: u32) -> i32 {
    i32::try_from(pid).unwrap_or(i32::MAX)
}

/// Children of children that end become this process's.
pub fn adopt_orphans() {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    // SAFETY: the call takes numbers only.
    unsafe {
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    }
}

/// Sends a signal to a process.
pub fn kill(pid: i32, signal: i32) {
    if pid > 0 {
        // SAFETY: the call takes numbers only. A process that has gone is an error, which is none here.
        unsafe { libc::kill(pid, signal) };
    }
}

/// The next child that has ended, waited for or not; `None` if there is none.
pub fn wait(patiently: bool) -> Option<Ended> {
    let mut status = 0;
    loop {
        // SAFETY: the call writes one number, and `status` is one.
        let pid = unsafe { libc::waitpid(-1, &mut status, if patiently { 0 } else { libc::WNOHANG }) };
        if pid > 0 {
            let code = match libc::WIFEXITED(status) {
                true => libc::WEXITSTATUS(status),
                false => 128 + libc::WTERMSIG(status),
            };
            return Some(Ended { pid, code: u8::try_from(code).unwrap_or(u8::MAX) });
        }
        if pid == 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return None;
        }
    }
}

/// Whether this process has children.
pub fn has_children() -> bool {
    // SAFETY: zero is a valid value of this plain structure, and the call writes one.
    unsafe {
        let mut about: libc::siginfo_t = zeroed();
        libc::waitid(libc::P_ALL, 0, &mut about, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT) == 0
    }
}

/// Lets these signals wait, in this thread and in what it becomes.
pub fn block(signals: &[i32]) {
    let set = set(signals);
    // SAFETY: the pointer is to a live set; what was before is not asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) };
}

/// Waits for the next of these signals, all of which are blocked.
pub fn next(signals: &[i32]) -> i32 {
    let (set, mut signal) = (set(signals), 0);
    // SAFETY: the pointers are to a live set and a live number.
    unsafe { libc::sigwait(&set, &mut signal) };
    signal
}

fn set(signals: &[i32]) -> libc::sigset_t {
    // SAFETY: zero is a valid value of this plain structure, and the calls write it.
    unsafe {
        let mut set: libc::sigset_t = zeroed();
        libc::sigemptyset(&mut set);
        for signal in signals {
            libc::sigaddset(&mut set, *signal);
        }
        set
    }
}
