//! What Linux knows about a process: memory, processor time, threads and descriptors, read from `/proc`; and where it may run.

use std::fs;
use std::io;

/// Memory of one process, in KiB, as `smaps_rollup` counts it.
///
/// `VmRSS` in `status` is the same figure as `rss`, but counted lazily by the kernel, so it can be off by
/// hundreds of KiB; the rollup walks the pages and is exact.
#[derive(Clone, Copy, Default)]
pub struct Memory {
    /// Pages that are resident, shared ones included.
    pub rss: u64,
    /// The same with each shared page divided by how many processes share it.
    pub pss: u64,
    /// Pages that no other process shares: what the machine would get back.
    pub private: u64,
    /// Heap, stacks and what else is of no file.
    pub anonymous: u64,
}

/// The memory of process `pid` now.
pub fn memory(pid: u32) -> io::Result<Memory> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let field = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_whitespace().nth(1)).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0)
    };
    let private = field("Private_Clean:") + field("Private_Dirty:");
    Ok(Memory { rss: field("Rss:"), pss: field("Pss:"), private, anonymous: field("Anonymous:") })
}

/// A process and the children that it has now: a program may make one for each user.
pub fn family(pid: u32) -> impl Iterator<Item = u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children: Vec<u32> = children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
    std::iter::once(pid).chain(children)
}

/// Keeps processes, and this program, on one processor while it lives: none that sleeps has to be woken there.
pub struct OneProcessor {
    processes: Vec<u32>,
    before: libc::cpu_set_t,
}

impl OneProcessor {
    /// These processes with all their threads and children; new threads of theirs follow.
    pub fn hold(processes: impl IntoIterator<Item = u32>) -> io::Result<OneProcessor> {
        let processes = processes.into_iter().chain([std::process::id()]).flat_map(family).collect();
        // SAFETY: all zeros is the empty set, which the calls read and fill up to its size.
        let (before, last) = unsafe {
            let (mut before, mut last): (libc::cpu_set_t, libc::cpu_set_t) = std::mem::zeroed();
            if libc::sched_getaffinity(0, size_of_val(&before), &raw mut before) != 0 {
                return Err(io::Error::last_os_error());
            }
            let set = (0..libc::CPU_SETSIZE as usize).rev().find(|at| libc::CPU_ISSET(*at, &before));
            libc::CPU_SET(set.unwrap_or(0), &mut last);
            (before, last)
        };
        let held = OneProcessor { processes, before };
        held.place(&last);
        Ok(held)
    }

    /// Where a process or a thread has ended meanwhile there is nothing to do.
    fn place(&self, set: &libc::cpu_set_t) {
        for process in &self.processes {
            for thread in fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten() {
                let number = thread.file_name().to_string_lossy().parse().unwrap_or(-1);
                // SAFETY: the set outlives the call.
                unsafe { libc::sched_setaffinity(number, size_of_val(set), set) };
            }
        }
    }
}

impl Drop for OneProcessor {
    fn drop(&mut self) {
        self.place(&self.before);
    }
}

/// Processor seconds, user and system together, that process `pid` and the children that it has buried have used since
/// its start; the kernel counts in ticks of 10 ms.
pub fn processor_seconds(pid: u32) -> io::Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the name in brackets and may hold anything: count from the last bracket.
    let after_name = text.rsplit(')').next().unwrap_or("");
    let ticks: u64 =
        after_name.split_whitespace().skip(STAT_UTIME).take(4).filter_map(|field| field.parse::<u64>().ok()).sum();
    // SAFETY: sysconf only reads a constant of the system.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) }.max(1);
    Ok(ticks as f64 / per_second as f64)
}

/// How many threads process `pid` has.
pub fn threads(pid: u32) -> io::Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/task"))?.count())
}

/// How many descriptors process `pid` has open.
pub fn descriptors(pid: u32) -> io::Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

/// Position of `utime` in `/proc/PID/stat`, counted from the field after the name; `stime`, `cutime` and `cstime` follow it.
const STAT_UTIME: usize = 11;
