//! Facts about the machine and the programs, so that a table can be read a year later.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::programs::Programs;

/// Lets this process and all it starts open as many descriptors as the system allows; returns how many.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls only read or write the structure they are given, which lives longer than they do.
    let raised = unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 && {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit) == 0
        }
    };
    if raised {
        Ok(limit.rlim_cur)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Kernel, processor, memory, how busy the machine was, and every program's version: a name and a value each.
pub fn facts(programs: &Programs) -> Vec<(&'static str, String)> {
    let mut facts = vec![
        ("kernel", format!("Linux {} {}", read("/proc/sys/kernel/osrelease"), std::env::consts::ARCH)),
        ("processor", processor()),
        ("memory", field_of("/proc/meminfo", "MemTotal")),
        ("load before the run", read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" ")),
        ("TCP", read("/proc/sys/net/ipv4/tcp_congestion_control")),
    ];
    if let Some(path) = &programs.nodepass {
        let size = fs::metadata(path).map_or(0, |meta| meta.len());
        let version = said_by(path, "version", "");
        facts.push(("nodepass", format!("{version}; {size} bytes")));
    }
    for (name, program, argument, label) in [
        ("nginx", &programs.nginx, "-v", "nginx version: nginx/"),
        ("haproxy", &programs.haproxy, "-v", "HAProxy version"),
        ("socat", &programs.socat, "-V", "socat version"),
        ("realm", &programs.realm, "--version", "Realm"),
        ("rathole", &programs.rathole, "--version", "Build Version:"),
        ("original", &programs.original, "version", "nodepass-v"),
    ] {
        let first = |text: String| text.split(" on ").next().unwrap_or_default().split(" - ").next().map(str::to_owned);
        facts.extend(program.as_ref().and_then(|path| Some((name, first(said_by(path, argument, label))?))));
    }
    facts
}

fn processor() -> String {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let model = field_of("/proc/cpuinfo", "model name");
    format!("{cores} cores, {model}")
}

/// Waits until others leave the processors alone, at most for `timeout`; whether they did. To be asked while
/// nothing of ours runs.
pub fn quiet(timeout: Duration) -> bool {
    let deadline = Instant::now() + timeout;
    loop {
        let (busy, all) = jiffies();
        sleep(QUIET_LOOK);
        let (busy_then, all_then) = jiffies();
        let share = busy_then.saturating_sub(busy) as f64 / all_then.saturating_sub(all).max(1) as f64;
        if share < QUIET_SHARE {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
    }
}

/// Time that the processors worked since the machine's start, and time that passed, in ticks over all cores.
fn jiffies() -> (u64, u64) {
    let text = read("/proc/stat");
    let line = text.lines().next().unwrap_or("");
    let ticks: Vec<u64> = line.split_whitespace().skip(1).take(8).filter_map(|field| field.parse().ok()).collect();
    let all: u64 = ticks.iter().sum();
    let idle: u64 = ticks.iter().skip(3).take(2).sum();
    (all - idle, all)
}

/// What `program` says about itself when asked with `argument`: the line that begins with `label`, without it.
fn said_by(program: &Path, argument: &str, label: &str) -> String {
    let Ok(output) = Command::new(program).arg(argument).output() else {
        return "unknown".into();
    };
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    // The original draws a frame around it.
    let mut bare = text.lines().map(|line| line.trim_matches(|c: char| c == '│' || c.is_whitespace()));
    bare.find_map(|line| line.strip_prefix(label)).unwrap_or("unknown").trim().to_owned()
}

fn field_of(file: &str, name: &str) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(name));
    line.and_then(|line| line.split_once(':')).map_or("unknown".into(), |(_, value)| value.trim().to_owned())
}

fn read(file: &str) -> String {
    fs::read_to_string(file).map_or("unknown".into(), |text| text.trim().to_owned())
}

/// How long the processors are watched.
const QUIET_LOOK: Duration = Duration::from_millis(500);
/// Quiet is when others use less than this share of the processors.
const QUIET_SHARE: f64 = 0.08;
