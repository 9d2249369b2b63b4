//! The limits of the control groups (a container, a systemd slice) that this process is in, and what of them is used.
//!
//! ```text
//!  /proc/self/cgroup   0::/system.slice/nodepass.service   -> /sys/fs/cgroup/<path>/memory.max                     (v2)
//!                      4:memory:/docker/1f..               -> /sys/fs/cgroup/memory/<path>/memory.limit_in_bytes   (v1)
//! ```
//!
//! The limits of all groups above hold as well: the least counts. Nothing here is required: what is not there sets no limit.

use std::fs::read_to_string;
use std::path::{Path, PathBuf};

/// The control groups of this process.
pub struct Groups {
    /// Where `proc` and `sys` are.
    root: PathBuf,
}

/// Memory of a group, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// What the group may have.
    pub limit: u64,
    /// What it has, but for what the page cache can give back at once: `docker stats` reckons so too.
    pub used: Option<u64>,
}

/// The processors of a group.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Processor {
    /// How many it may keep busy.
    pub cores: f64,
    /// Seconds that it has kept one busy.
    pub busy: f64,
}

/// Bytes of memory that the groups of this process may have together; none is the largest number.
pub fn memory_limit() -> usize {
    let memory = Groups::at("/").memory();
    memory.map_or(usize::MAX, |memory| usize::try_from(memory.limit).unwrap_or(usize::MAX))
}

impl Groups {
    /// Those that the files under `root` tell of.
    pub fn at(root: impl Into<PathBuf>) -> Groups {
        Groups { root: root.into() }
    }

    /// The memory of the group with the least limit.
    pub fn memory(&self) -> Option<Memory> {
        let memory = |folder: PathBuf| {
            let number = |new, old| number(&folder, new).or_else(|| number(&folder, old));
            let limit = number("memory.max", "memory.limit_in_bytes")?;
            let stat = read(&folder, "memory.stat");
            let cache = field(&stat, "total_inactive_file").or_else(|| field(&stat, "inactive_file")).unwrap_or(0);
            let used = number("memory.current", "memory.usage_in_bytes");
            Some(Memory { limit, used: used.map(|used| used.saturating_sub(cache)) })
        };
        self.folders("memory").into_iter().filter_map(memory).min_by_key(|memory| memory.limit)
    }

    /// The processors of the group with the fewest.
    pub fn processor(&self) -> Option<Processor> {
        let new = |folder: &PathBuf| {
            let cores = quota(&read(folder, "cpu.max"))?;
            Some(Processor { cores, busy: field(&read(folder, "cpu.stat"), "usage_usec")? as f64 / 1e6 })
        };
        let used = || self.folders("cpuacct").iter().find_map(|folder| number(folder, "cpuacct.usage"));
        let old = |folder: &PathBuf| {
            let cores = quota(&(read(folder, "cpu.cfs_quota_us") + &read(folder, "cpu.cfs_period_us")))?;
            Some(Processor { cores, busy: used()? as f64 / 1e9 })
        };
        let folders = self.folders("cpu");
        folders
            .iter()
            .filter_map(|folder| new(folder).or_else(|| old(folder)))
            .min_by(|a, b| a.cores.total_cmp(&b.cores))
    }

    /// The folders of this process's group and of those above it, for one controller. In a container the path may be that of
    /// the machine outside, and what is mounted is the container's own group: the topmost.
    fn folders(&self, controller: &str) -> Vec<PathBuf> {
        let top = self.root.join("sys/fs/cgroup");
        let mut folders = vec![top.clone(), top.join(controller)];
        for line in read(&self.root, "proc/self/cgroup").lines() {
            let mut fields = line.splitn(3, ':');
            let (Some(number), Some(names), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
                continue;
            };
            let top = match (number, names) {
                ("0", "") => top.clone(),
                (_, names) if names.split(',').any(|name| name == controller) => top.join(controller),
                _ => continue,
            };
            let group = Path::new(path.trim_start_matches('/'));
            folders.extend(group.ancestors().take(DEEPEST).map(|group| top.join(group)));
        }
        folders
    }
}

/// The processors that `quota period` in microseconds comes to; `None` for `max` and -1.
fn quota(text: &str) -> Option<f64> {
    let mut numbers = text.split_whitespace().map(|word| word.parse::<f64>().ok().filter(|number| *number > 0.0));
    Some(numbers.next()?? / numbers.next()??)
}

/// A line `name value`.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?.trim().parse().ok()
}

/// "max", no limit, is no number.
fn number(folder: &Path, name: &str) -> Option<u64> {
    read(folder, name).trim().parse().ok()
}

/// A file's text; nothing if it cannot be read.
fn read(folder: &Path, name: &str) -> String {
    read_to_string(folder.join(name)).unwrap_or_default()
}

/// Most groups, one in the other, that are looked at.
const DEEPEST: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// Control groups made of files; gone when dropped.
    struct Machine(PathBuf);

    impl Machine {
        fn new(name: &str) -> Machine {
            Machine(std::env::temp_dir().join(format!("nodepass-cgroup-{}-{name}", std::process::id())))
        }

        fn file(&self, path: &str, text: &str) {
            let file = self.0.join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }

        fn group(&self, path: &str, text: &str) {
            self.file(&format!("sys/fs/cgroup/{path}"), text);
        }

        fn groups(&self, lines: &str) -> Groups {
            self.file("proc/self/cgroup", lines);
            Groups::at(&self.0)
        }
    }

    impl Drop for Machine {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_least_of_all_groups_above_counts_in_both_versions() {
        let machine = Machine::new("limit");
        machine.group("a/b/memory.max", "max\n");
        machine.group("a/memory.max", "33554432\n");
        machine.group("memory/c/memory.limit_in_bytes", "16777216\n");
        machine.group("memory/memory.limit_in_bytes", "9223372036854771712\n");
        let limit = |lines| machine.groups(lines).memory().map(|memory| memory.limit);
        assert_eq!(limit("0::/a/b\n"), Some(32 << 20));
        assert_eq!(limit("5:cpu,memory:/c/d\n1:name=systemd:/a\n0::/\n"), Some(16 << 20));
        for nothing in ["", "0::/z\n", "3:cpu:/a\n", "x", "0::"] {
            assert_eq!(limit(nothing), Some(9223372036854771712), "{nothing:?}");
        }
        assert_eq!(Groups::at("/nowhere").memory(), None);
    }

    #[test]
    fn what_is_used_is_that_of_the_group_with_the_limit() {
        let machine = Machine::new("used");
        machine.group("memory.current", "9000\n");
        machine.group("a/memory.max", "10000\n");
        machine.group("a/memory.current", "7000\n");
        machine.group("a/memory.stat", "anon 1\ninactive_file 4000\n");
        machine.group("a/cpu.max", "50000 100000\n");
        machine.group("a/cpu.stat", "usage_usec 3000000\n");
        let groups = machine.groups("0::/a/b\n");
        assert_eq!(groups.memory(), Some(Memory { limit: 10_000, used: Some(3000) }));
        assert_eq!(groups.processor(), Some(Processor { cores: 0.5, busy: 3.0 }));
    }

    #[test]
    fn a_quota_is_processors_or_none() {
        assert_eq!(quota("200000 100000\n"), Some(2.0));
        assert_eq!((quota("-1 100000"), quota("max 1"), quota("5"), quota("")), (None, None, None, None));
    }
}
