//! However a master ends, its children leave.

use super::bench::{lives, signal};
use crate::support::*;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

#[test]
fn the_children_of_a_killed_master_leave_by_themselves() {
    let master = Master::new();
    let children = master.with_children();
    master.process.kill();
    assert!(eventually(GRACE, || !children.iter().any(|&pid| lives(pid))), "{children:?}");
}

#[test]
fn a_master_that_is_asked_to_stop_leaves_after_its_children_with_success() {
    let master = Master::new();
    let children = master.with_children();
    master.process.terminate();
    assert_eq!(master.process.wait(GRACE), 0);
    assert!(!children.iter().any(|&pid| lives(pid)), "{children:?}");
    assert!(master.process.said("Master shutdown complete"));
}

#[test]
fn a_second_signal_ends_a_master_at_once_and_its_children_follow() {
    let master = Master::new();
    let children = master.with_children();
    for &pid in &children {
        // A child that is stopped cannot leave.
        signal(pid, libc::SIGSTOP);
    }
    master.process.terminate();
    master.process.says("Stopping", GRACE);
    master.process.terminate();
    assert_eq!(master.process.wait(GRACE), 1);
    for &pid in &children {
        signal(pid, libc::SIGCONT);
    }
    assert!(eventually(GRACE, || !children.iter().any(|&pid| lives(pid))), "{children:?}");
}

#[test]
fn a_child_finds_nothing_open_that_its_master_has_open() {
    let master = Master::new();
    let children = master.with_children();
    // What the master has inherited itself is not its own to close.
    let inherited = open_in(std::process::id());
    let of_master: Vec<_> = open_in(master.process.pid()).into_iter().filter(|at| !inherited.contains(at)).collect();
    for pid in children {
        let link = |n: u32| std::fs::read_link(format!("/proc/{pid}/fd/{n}")).unwrap();
        assert!(link(0) == link(1) && link(1) == link(2), "one line for all three");
        let shared: Vec<_> = open_in(pid).into_iter().filter(|at| of_master.contains(at)).collect();
        assert_eq!(shared, Vec::<PathBuf>::new());
    }
}

#[test]
fn the_key_of_an_instance_is_in_no_argument_and_no_variable_of_its_process() {
    let master = Master::new();
    let children = master.with_children();
    for pid in children {
        let text = |name: &str| String::from_utf8(std::fs::read(format!("/proc/{pid}/{name}")).unwrap()).unwrap();
        let (arguments, variables) = (text("cmdline"), text("environ"));
        assert!(arguments.contains("://***@127.0.0.1:") && !arguments.contains("geheim"), "{arguments}");
        assert!(!variables.contains("geheim"), "{variables}");
        assert_eq!(text("comm").trim_end(), "nodepass");
    }
}

/// The pipes, sockets and files that a process has open.
fn open_in(pid: u32) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let links = entries.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    // All anonymous ones of a kind have one name.
    let anonymous = |link: &PathBuf| link.starts_with("/dev") || link.to_string_lossy().starts_with("anon_inode");
    links.filter(|link| !anonymous(link)).collect()
}

/// A master with its API.
struct Master {
    process: Process,
    at: SocketAddr,
    key: String,
    _state: Folder,
}

impl Master {
    fn new() -> Master {
        let (at, state) = (free_addr(), Folder::new());
        let folder = state.path().to_string_lossy().into_owned();
        let process = Process::nodepass_with(&[&format!("master://{at}?log=info")], &[("NP_STATE_DIR", &folder)]);
        let line = process.says("API Key created: ", GRACE);
        let key = line.rsplit(' ').next().unwrap().to_string();
        Master { process, at, key, _state: state }
    }

    /// Creates a server and a client, waits until they are up, and gives their process numbers.
    fn with_children(&self) -> Vec<u32> {
        let (tunnel, user, target) = (free_port(), free_port(), free_port());
        for url in [
            format!("server://geheim@127.0.0.1:{tunnel}/127.0.0.1:{user}?mode=1"),
            format!("client://geheim@127.0.0.1:{tunnel}/127.0.0.1:{target}?mode=2&min=2"),
        ] {
            let answer = self.call("POST", "/instances", &format!("{{\"url\":\"{url}\"}}"));
            assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
        }
        let up = || self.process.count("is up") >= 2;
        assert!(eventually(GRACE, up), "the tunnel comes up");
        let children = children(self.process.pid());
        assert_eq!(children.len(), 2);
        children
    }

    fn call(&self, method: &str, path: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(self.at).unwrap();
        stream.set_read_timeout(Some(GRACE + Duration::from_secs(1))).unwrap();
        let head = format!("{method} /api/v1{path} HTTP/1.1\r\nHost: x\r\nX-API-Key: {}\r\n", self.key);
        let rest = format!("Connection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all((head + &rest).as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

/// The processes that any thread of a process has started.
fn children(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let texts = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    texts.flat_map(|text| text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()).collect()
}
