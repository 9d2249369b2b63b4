//! What strace saw a process do: which calls, on which descriptors, for whom.

use crate::support::*;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A strace that watches a process.
pub struct Watch {
    strace: Process,
    folder: Folder,
}

/// One system call.
#[derive(Clone, Debug)]
pub struct Call {
    pub name: String,
    /// What stands between the brackets.
    pub args: String,
    /// `-1` for a failed one.
    pub result: i64,
}

impl Watch {
    /// Watches all threads of a process from now on.
    pub fn start(strace: &Path, process: &Process) -> Watch {
        let folder = Folder::new();
        let file = folder.file("trace");
        let mut command = Command::new(strace);
        command.args(["-f", "-s", "16", "-e", "signal=none", "-o"]).arg(&file).arg("-p").arg(process.pid().to_string());
        let watch = Watch { strace: Process::run("strace", command), folder };
        // It says one line a thread.
        let attached = eventually(GRACE, || watch.strace.count("attached") > 0);
        assert!(attached, "{:?}", watch.strace.lines());
        watch
    }

    /// Stops watching; what it saw, in order.
    pub fn stop(self) -> Vec<Call> {
        self.strace.signal(libc::SIGINT);
        self.strace.wait(GRACE);
        read(&self.folder.file("trace"))
    }
}

/// The calls in a trace. Calls of several threads may be cut in two; both parts are one call.
fn read(file: &PathBuf) -> Vec<Call> {
    let text = std::fs::read_to_string(file).expect("a trace");
    let mut begun: HashMap<String, String> = HashMap::new();
    let mut calls = Vec::new();
    for line in text.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim_start();
        let whole = if let Some(start) = rest.strip_suffix("<unfinished ...>") {
            begun.insert(thread.into(), start.trim_end().into());
            continue;
        } else if rest.starts_with("<... ") {
            let end = rest.split_once("resumed>").map_or("", |(_, end)| end);
            begun.remove(thread).map(|start| start + end)
        } else {
            Some(rest.to_string())
        };
        // In debug builds the standard library asks before each close whether the descriptor is open.
        calls.extend(whole.as_deref().and_then(parse).filter(|call| !call.args.ends_with("F_GETFD")));
    }
    calls
}

fn parse(line: &str) -> Option<Call> {
    let (name, rest) = line.split_once('(')?;
    let (args, result) = rest.rsplit_once(" = ")?;
    let result = result.split_whitespace().next()?.parse().unwrap_or(0);
    Some(Call { name: name.into(), args: args.trim_end().trim_end_matches(')').into(), result })
}

impl Call {
    /// The descriptor that it is about, for those that start with one.
    pub fn fd(&self) -> Option<i64> {
        let second = self.name == "epoll_ctl";
        let field = self.args.split(", ").nth(if second { 2 } else { 0 })?;
        field.parse().ok()
    }

    /// For splice: where the bytes go.
    pub fn other_fd(&self) -> Option<i64> {
        (self.name == "splice").then(|| self.args.split(", ").nth(2)?.parse().ok()).flatten()
    }
}

/// How often each call was made.
pub fn tally<'a>(calls: impl IntoIterator<Item = &'a Call>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    calls.into_iter().for_each(|call| *counts.entry(call.name.clone()).or_default() += 1);
    counts
}

#[test]
fn a_trace_is_read_as_it_was_made() {
    let folder = Folder::new();
    let file = folder.write(
        "trace",
        "11 epoll_wait(3,  <unfinished ...>\n\
         12 splice(4, NULL, 6, NULL, 262144, SPLICE_F_MOVE) = 100\n\
         11 <... epoll_wait resumed>[{events=EPOLLIN}], 256, -1) = 1\n\
         11 accept4(9, 0x7ffe, [128], SOCK_CLOEXEC) = -1 EAGAIN (Resource temporarily unavailable)\n\
         12 +++ exited with 0 +++\n",
    );
    let calls = read(&file);
    let short: Vec<(&str, i64)> = calls.iter().map(|call| (call.name.as_str(), call.result)).collect();
    assert_eq!(short, [("splice", 100), ("epoll_wait", 1), ("accept4", -1)]);
    assert_eq!((calls[0].fd(), calls[0].other_fd()), (Some(4), Some(6)));
}
