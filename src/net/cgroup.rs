//! The memory limit of the control group (a container, a systemd slice) that this process is in.
//!
//! ```text
//!  /proc/self/cgroup   0::/system.slice/nodepass.service   -> /sys/fs/cgroup/<path>/memory.max                     (v2)
//!                      4:memory:/docker/1f..               -> /sys/fs/cgroup/memory/<path>/memory.limit_in_bytes   (v1)
//! ```
//!
//! The limits of all groups above hold as well. Nothing here is required: what is not there sets no limit.

use std::fs::read_to_string;
use std::path::{Path, PathBuf};

/// Bytes of memory that the groups of this process may have together; none is the largest number.
pub fn memory_limit() -> usize {
    limit(Path::new("/sys/fs/cgroup"), &read_to_string("/proc/self/cgroup").unwrap_or_default())
}

fn limit(root: &Path, groups: &str) -> usize {
    groups.lines().flat_map(|line| files(root, line)).filter_map(|file| read(&file)).min().unwrap_or(usize::MAX)
}

/// Where the limits of one line's group and of those above it would be. In a container the path may be that of the machine
/// outside, and what is mounted is the container's own group: the topmost.
fn files(root: &Path, line: &str) -> Vec<PathBuf> {
    let mut fields = line.splitn(3, ':');
    let (Some(number), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
        return Vec::new();
    };
    let (top, name) = match (number, controllers) {
        ("0", "") => (root.to_path_buf(), "memory.max"),
        (_, "") => return Vec::new(),
        (_, names) if names.split(',').any(|name| name == "memory") => (root.join("memory"), "memory.limit_in_bytes"),
        _ => return Vec::new(),
    };
    let group = Path::new(path.trim_start_matches('/'));
    group.ancestors().take(DEEPEST).map(|group| top.join(group).join(name)).collect()
}

/// "max", no limit, is no number.
fn read(file: &Path) -> Option<usize> {
    read_to_string(file).ok()?.trim().parse().ok()
}

/// Most groups, one in the other, that are looked at.
const DEEPEST: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_least_of_all_groups_above_counts_in_both_versions() {
        let root = std::env::temp_dir().join(format!("nodepass-cgroup-{}", std::process::id()));
        let put = |path: &str, text: &str| {
            let file = root.join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        };
        put("a/b/memory.max", "max\n");
        put("a/memory.max", "33554432\n");
        put("memory/c/memory.limit_in_bytes", "16777216\n");
        put("memory/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(limit(&root, "0::/a/b\n"), 32 << 20);
        assert_eq!(limit(&root, "5:cpu,memory:/c/d\n1:name=systemd:/a\n0::/\n"), 16 << 20);
        for nothing in ["", "0::/z\n", "3:cpu:/a\n", "x", "0::"] {
            assert_eq!(limit(&root, nothing), usize::MAX, "{nothing:?}");
        }
        fs::remove_dir_all(root).unwrap();
    }
}
