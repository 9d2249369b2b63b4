//! How the machine is, out of `/proc`: what `/info` shows. Without it, or on another system: zeros, and -1 for the
//! processor.
//!
//! In a container with limits, memory and processor are those of the container: its control group's, version 2 or 1.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use crate::net::cgroup::{Groups, Memory, Processor};

/// A machine, watched since this was made.
pub(super) struct Monitor {
    /// Where `proc` and `sys` are.
    root: PathBuf,
    groups: Groups,
    start: Instant,
    /// The processor needs two readings: this is the former.
    former: Mutex<Reading>,
}

/// Figures of a machine: bytes, or counters of bytes, since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct HostFigures {
    /// Processors that we may use.
    pub cores: usize,
    /// Percent of all of them that is in use, or -1.
    pub cpu: i32,
    pub memory: Gauge,
    pub swap: Gauge,
    pub net: IoBytes,
    pub disk: IoBytes,
    /// Seconds since the system started.
    pub system_uptime: u64,
    /// Seconds since the master started.
    pub uptime: u64,
}

/// So much there is, and so much of it is in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Gauge {
    pub total: u64,
    pub used: u64,
}

/// Bytes into the machine, and out of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct IoBytes {
    pub read: u64,
    pub written: u64,
}

/// What the processor had done at one moment, and what was said of it then.
#[derive(Clone, Copy, Debug)]
struct Reading {
    work: Option<Work>,
    percent: i32,
}

/// Time that the processor was at work, and time that passed for it, in one unit.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Work {
    busy: f64,
    all: f64,
}

impl Monitor {
    /// This machine.
    pub fn new() -> Monitor {
        Monitor::at("/")
    }

    fn at(root: impl Into<PathBuf>) -> Monitor {
        let reading = Reading { work: None, percent: -1 };
        let root = root.into();
        let groups = Groups::at(root.clone());
        let host = Monitor { root, groups, start: Instant::now(), former: Mutex::new(reading) };
        host.percent();
        host
    }

    /// How it is now; the processor over the time since the last call.
    pub fn figures(&self) -> HostFigures {
        let memory = self.read("proc/meminfo");
        HostFigures {
            cores: available_parallelism().map_or(1, usize::from),
            cpu: self.percent(),
            memory: self.limited(meminfo(&memory, "MemTotal", "MemAvailable")),
            swap: meminfo(&memory, "SwapTotal", "SwapFree"),
            net: network(&self.read("proc/net/dev")),
            disk: disks(&self.read("proc/diskstats")),
            system_uptime: self.read("proc/uptime").split('.').next().and_then(|text| text.parse().ok()).unwrap_or(0),
            uptime: self.start.elapsed().as_secs(),
        }
    }

    fn percent(&self) -> i32 {
        let mut former = self.former.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.work(self.start.elapsed());
        match (former.work, now) {
            (_, None) => *former = Reading { work: None, percent: -1 },
            (None, now) => *former = Reading { work: now, percent: 0 },
            (Some(then), Some(now)) if now.all > then.all => {
                let part = 100.0 * (now.busy - then.busy) / (now.all - then.all);
                *former = Reading { work: Some(now), percent: part.clamp(0.0, 100.0).round() as i32 };
            }
            // No time has passed for the clock of /proc: what was said is still true.
            _ => {}
        }
        former.percent
    }

    /// The container's processor time if that is limited, else the machine's.
    fn work(&self, elapsed: Duration) -> Option<Work> {
        match self.groups.processor() {
            Some(Processor { cores, busy }) => Some(Work { busy, all: elapsed.as_secs_f64() * cores }),
            None => processor(&self.read("proc/stat")),
        }
    }

    /// The container's memory if that is less than the machine's.
    fn limited(&self, machine: Gauge) -> Gauge {
        match self.groups.memory() {
            Some(Memory { limit, used: Some(used) }) if limit < machine.total || machine.total == 0 => {
                Gauge { total: limit, used }
            }
            _ => machine,
        }
    }

    /// A file's text; nothing if it cannot be read.
    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.root.join(name)).unwrap_or_default()
    }
}

/// The first line of `/proc/stat`: what was spent on what, in ticks.
fn processor(stat: &str) -> Option<Work> {
    let mut words = stat.lines().next()?.split_whitespace();
    if words.next() != Some("cpu") {
        return None;
    }
    // Guests' time (the last two) is in the users' already.
    let ticks: Vec<f64> = words.take(8).map_while(|word| word.parse().ok()).collect();
    let idle = ticks.get(3)? + ticks.get(4).unwrap_or(&0.0);
    let all: f64 = ticks.iter().sum();
    Some(Work { busy: all - idle, all })
}

/// Two fields of `/proc/meminfo`, in KiB there.
fn meminfo(text: &str, total: &str, free: &str) -> Gauge {
    let bytes = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    };
    let total = bytes(total).unwrap_or(0);
    Gauge { total, used: total.saturating_sub(bytes(free).unwrap_or(total)) }
}

/// `/proc/net/dev`: what went over real interfaces.
fn network(text: &str) -> IoBytes {
    let mut flow = IoBytes::default();
    for (name, rest) in text.lines().filter_map(|line| line.split_once(':')) {
        let name = name.trim();
        if name == "lo" || VIRTUAL_NETWORKS.iter().any(|prefix| name.starts_with(prefix)) {
            continue;
        }
        let numbers: Vec<u64> = rest.split_whitespace().map_while(|word| word.parse().ok()).collect();
        flow.read = flow.read.saturating_add(numbers.first().copied().unwrap_or(0));
        flow.written = flow.written.saturating_add(numbers.get(8).copied().unwrap_or(0));
    }
    flow
}

/// `/proc/diskstats`: what went to and from whole, real disks.
fn disks(text: &str) -> IoBytes {
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    let names: BTreeSet<&str> = lines.iter().filter_map(|words| words.get(2).copied()).collect();
    let mut flow = IoBytes::default();
    for words in &lines {
        let (Some(name), Some(read), Some(written)) = (words.get(2), words.get(5), words.get(9)) else { continue };
        if VIRTUAL_DISKS.iter().any(|prefix| name.starts_with(prefix)) || is_partition(name, &names) {
            continue;
        }
        let bytes = |sectors: &str| sectors.parse::<u64>().unwrap_or(0).saturating_mul(SECTOR);
        flow.read = flow.read.saturating_add(bytes(read));
        flow.written = flow.written.saturating_add(bytes(written));
    }
    flow
}

/// The kernel's rule: `sda` has `sda1`, and what ends in a digit, as `nvme0n1`, has `nvme0n1p1`.
fn is_partition(name: &str, names: &BTreeSet<&str>) -> bool {
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let digit = |name: &str| name.ends_with(|c: char| c.is_ascii_digit());
    let disk = stem.strip_suffix('p').filter(|disk| digit(disk)).unwrap_or(stem);
    stem != name && disk != name && names.contains(disk)
}

/// Interfaces that carry what other interfaces carry too.
const VIRTUAL_NETWORKS: [&str; 5] = ["veth", "docker", "podman", "br-", "virbr"];

/// Disks that are made of other disks, or of memory.
const VIRTUAL_DISKS: [&str; 4] = ["loop", "ram", "dm-", "md"];

/// Bytes of a sector in `/proc/diskstats`, whatever the disk's own are.
const SECTOR: u64 = 512;

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// A machine made of files; gone when dropped.
    struct Machine(PathBuf);

    impl Machine {
        fn new(name: &str) -> Machine {
            let root = std::env::temp_dir().join(format!("nodepass-host-{}-{name}", std::process::id()));
            fs::create_dir_all(&root).unwrap();
            Machine(root)
        }

        fn file(&self, name: &str, text: &str) -> &Machine {
            let path = self.0.join(name);
            fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).unwrap();
            fs::write(path, text).unwrap();
            self
        }
    }

    impl Drop for Machine {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn without_proc_everything_is_zero_and_the_processor_unknown() {
        let figures = Monitor::at("/nowhere").figures();
        assert!(figures.cores >= 1);
        assert_eq!(figures, HostFigures { cores: figures.cores, cpu: -1, ..HostFigures::default() });
    }

    #[test]
    fn the_processors_share_is_of_the_time_since_the_last_call() {
        let machine = Machine::new("cpu");
        machine.file("proc/stat", "cpu  100 0 100 700 100 0 0 0 50 0\ncpu0 1 1 1 1\n");
        let host = Monitor::at(&machine.0);
        assert_eq!(host.figures().cpu, 0);
        // 40 of 160 ticks; those of guests are not counted twice.
        machine.file("proc/stat", "cpu  130 0 110 800 120 0 0 0 999 0\n");
        assert_eq!(host.figures().cpu, 25);
        assert_eq!(host.figures().cpu, 25, "no tick has passed");
        machine.file("proc/stat", "rubbish\n");
        assert_eq!(host.figures().cpu, -1);
    }

    #[test]
    fn memory_is_total_and_what_is_not_available() {
        let machine = Machine::new("memory");
        let text = "MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:  600 kB\nSwapTotal: 50 kB\nSwapFree: 20 kB\n";
        let figures = Monitor::at(&machine.file("proc/meminfo", text).0).figures();
        assert_eq!(figures.memory, Gauge { total: 1_024_000, used: 409_600 });
        assert_eq!(figures.swap, Gauge { total: 51_200, used: 30_720 });
        for (text, total) in [("MemTotal: 5 kB\n", 5120), ("MemTotal: x kB\n", 0), ("MemTotal", 0), ("", 0)] {
            assert_eq!(meminfo(text, "MemTotal", "MemAvailable"), Gauge { total, used: 0 }, "{text}");
        }
    }

    #[test]
    fn a_containers_limits_count_if_they_are_lower() {
        let machine = Machine::new("group2");
        machine.file("proc/meminfo", "MemTotal: 1000 kB\nMemAvailable: 600 kB\n");
        machine.file("sys/fs/cgroup/memory.max", "max\n").file("sys/fs/cgroup/memory.current", "9000\n");
        assert_eq!(Monitor::at(&machine.0).figures().memory.total, 1_024_000);
        machine
            .file("sys/fs/cgroup/memory.max", "10000\n")
            .file("sys/fs/cgroup/memory.stat", "a 1\ninactive_file 4000\n");
        assert_eq!(Monitor::at(&machine.0).figures().memory, Gauge { total: 10_000, used: 5_000 });
        let machine = Machine::new("group1");
        machine.file("proc/meminfo", "MemTotal: 1000 kB\nMemAvailable: 600 kB\n");
        let group = "sys/fs/cgroup/memory/memory";
        machine.file(&format!("{group}.limit_in_bytes"), "9223372036854771712\n");
        machine.file(&format!("{group}.usage_in_bytes"), "7000\n");
        assert_eq!(Monitor::at(&machine.0).figures().memory.total, 1_024_000);
        machine.file(&format!("{group}.limit_in_bytes"), "8000\n");
        assert_eq!(Monitor::at(&machine.0).figures().memory, Gauge { total: 8_000, used: 7_000 });
    }

    #[test]
    fn a_containers_processor_time_is_measured_against_its_quota() {
        let machine = Machine::new("quota");
        machine.file("sys/fs/cgroup/cpu.max", "50000 100000\n").file("sys/fs/cgroup/cpu.stat", "usage_usec 3000000\n");
        let host = Monitor::at(&machine.0);
        assert_eq!(host.work(Duration::from_secs(10)), Some(Work { busy: 3.0, all: 5.0 }));
        machine.file("sys/fs/cgroup/cpu.max", "max 100000\n").file("proc/stat", "cpu 1 2 3 4\n");
        assert_eq!(host.work(Duration::from_secs(10)), Some(Work { busy: 6.0, all: 10.0 }));
        let machine = Machine::new("quota1");
        machine
            .file("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "200000\n")
            .file("sys/fs/cgroup/cpuacct/cpuacct.usage", "4000000000\n");
        machine.file("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
        assert_eq!(Monitor::at(&machine.0).work(Duration::from_secs(3)), Some(Work { busy: 4.0, all: 6.0 }));
    }

    #[test]
    fn traffic_is_that_of_real_interfaces() {
        let text = "Inter-|   Receive  |  Transmit\n face |bytes    packets|bytes\n\
            lo: 1 0 0 0 0 0 0 0 1 0\n  eth0: 10 1 0 0 0 0 0 0 20 1\nwlan0:5 0 0 0 0 0 0 0 6 0\nveth12: 9 0 0 0 0 0 0 0 9 0\n\
            docker0: 9 0 0 0 0 0 0 0 9\npodman1: 9\nbr-1234: 9\nvirbr0: 9\nbr0: 100 0 0 0 0 0 0 0 200 0\n";
        assert_eq!(network(text), IoBytes { read: 115, written: 226 });
        assert_eq!(network("eth0: x y\n:\n"), IoBytes::default());
    }

    #[test]
    fn disks_are_counted_once_without_their_partitions() {
        let line = |name: &str, read: u64, written: u64| format!("8 0 {name} 1 0 {read} 0 1 0 {written} 0 0 0\n");
        let names =
            ["sda", "sda1", "sda12", "nvme0n1", "nvme0n1p1", "mmcblk0", "mmcblk0p2", "mmcblk0boot0", "mtdblock1"];
        let mut text: String = names.iter().map(|name| line(name, 2, 4)).collect();
        for name in ["mtdblock12", "sr0", "vdb", "loop0", "ram1", "dm-0", "md0", "md127"] {
            text.push_str(&line(name, 2, 4));
        }
        // sda, nvme0n1, mmcblk0, mmcblk0boot0, two mtdblocks, sr0, vdb.
        assert_eq!(disks(&text), IoBytes { read: 8 * 1024, written: 8 * 2048 });
        assert_eq!(disks("8 0 sda 1 0\n\nx\n"), IoBytes::default());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_machine_has_memory_and_has_been_up() {
        let figures = Monitor::new().figures();
        assert!(figures.memory.total >= figures.memory.used && figures.memory.total > 0, "{figures:?}");
        assert!((0..=100).contains(&figures.cpu) && figures.system_uptime > 0, "{figures:?}");
    }
}
