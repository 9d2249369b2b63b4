//! What a process takes of the machine, out of `/proc`: read when a program asks, by the thread that answers.

use std::fs;

use crate::logic::metrics::exposition::Exposition;

/// What a process takes of the machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProcessFigures {
    descriptors: u64,
    max_descriptors: u64,
    threads: u64,
    memory: u64,
    processor: f64,
}

/// That of a process: its number, or `self`. `None` where that cannot be read.
pub fn figures(process: &str) -> Option<ProcessFigures> {
    let folder = format!("/proc/{process}");
    let stat = fs::read_to_string(format!("{folder}/stat")).ok()?;
    let limits = fs::read_to_string(format!("{folder}/limits")).ok()?;
    // What follows the name, which may have spaces and brackets in it.
    let (_, fields) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    let field = |number: usize| fields.get(number - FIRST_FIELD)?.parse::<u64>().ok();
    let limit = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    Some(ProcessFigures {
        descriptors: fs::read_dir(format!("{folder}/fd")).ok()?.count() as u64,
        max_descriptors: limit.split_whitespace().next()?.parse().ok()?,
        threads: field(THREADS)?,
        memory: field(PAGES)?.saturating_mul(system(libc::_SC_PAGESIZE)?),
        processor: (field(USER_TIME)? + field(SYSTEM_TIME)?) as f64 / system(libc::_SC_CLK_TCK)? as f64,
    })
}

/// Shows those of several processes, each with its labels.
pub fn show(text: &mut Exposition, processes: &[(&str, ProcessFigures)]) {
    let mut family = |name: &str, kind: &str, help: &str, value: &dyn Fn(&ProcessFigures) -> String| {
        text.family(name, kind, help);
        processes.iter().for_each(|(labels, figures)| text.sample(name, [labels, ""], value(figures)));
    };
    family("nodepass_process_open_fds", "gauge", "Descriptors in use.", &|of| of.descriptors.to_string());
    family("nodepass_process_max_fds", "gauge", "Most descriptors.", &|of| of.max_descriptors.to_string());
    family("nodepass_process_threads", "gauge", "Threads.", &|of| of.threads.to_string());
    family("nodepass_process_resident_memory_bytes", "gauge", "Memory in use.", &|of| of.memory.to_string());
    family("nodepass_process_cpu_seconds_total", "counter", "Processor time.", &|of| of.processor.to_string());
}

/// A number of the system's.
fn system(name: libc::c_int) -> Option<u64> {
    // SAFETY: a plain system call without pointers.
    u64::try_from(unsafe { libc::sysconf(name) }).ok()
}

/// Fields of `stat` by their numbers in proc(5); the first that is read.
const FIRST_FIELD: usize = 3;
const USER_TIME: usize = 14;
const SYSTEM_TIME: usize = 15;
const THREADS: usize = 20;
const PAGES: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_descriptors_threads_and_memory() {
        let own = figures("self").expect("/proc");
        assert!(own.descriptors >= 3 && own.descriptors <= own.max_descriptors, "{own:?}");
        assert!(own.threads >= 1 && own.memory > 1 << 20 && own.processor >= 0.0, "{own:?}");
    }

    #[test]
    fn a_process_that_is_not_there_has_none() {
        assert_eq!(figures("0"), None);
    }
}
