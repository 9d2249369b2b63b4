//! The unit for servers and clients under a real systemd, which is process 1 of namespaces of its own (`systemd/system.sh`): reloads
//! under load, processes that crash or hang.

use crate::support::*;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A systemd, its units, and the program that they run.
struct System {
    process: Process,
    /// systemd's number outside.
    first: u32,
    group: String,
    folder: Folder,
}

impl System {
    fn new() -> Option<System> {
        for name in ["unshare", "nsenter"] {
            program(name)?;
        }
        if !present(Path::new("/lib/systemd/systemd").exists(), "systemd") || !present(root(), "root") {
            return None;
        }
        let (folder, group) = (Folder::new(), format!("nodepass-test-{}", free_port()));
        let mut command = script("run", &group, &folder);
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/systemd")).arg(nodepass_command().get_program());
        let process = Process::run("systemd", command);
        // What prepares its root are children, too.
        let is_systemd =
            |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "systemd\n");
        let first = until("systemd", GRACE, || process.children().into_iter().find(is_systemd).ok_or("none"));
        let system = System { process, first, group, folder };
        let up = || system.try_control("is-active", "test.target").is_ok();
        assert!(eventually(GRACE, up), "systemd does not start: {:?}", system.process.lines());
        Some(system)
    }

    /// A path in its root.
    fn path(&self, place: &str) -> PathBuf {
        Path::new(&format!("/proc/{}/root", self.first)).join(place)
    }

    /// What its `systemctl` answers to these words.
    fn try_control(&self, words: &str, unit: &str) -> Result<String, String> {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.first.to_string(), "-m", "-p", "-u", "-i", "-C", "-r", "-w", "systemctl"]);
        command.args(words.split(' ')).arg(unit);
        let (status, said, errors) = output(command);
        if status == 0 {
            Ok(said)
        } else {
            Err(said + &errors)
        }
    }

    fn control(&self, words: &str, unit: &str) -> String {
        self.try_control(words, unit).unwrap_or_else(|why| panic!("systemctl {words} {unit}: {why}"))
    }

    fn property(&self, name: &str, unit: &str) -> String {
        self.control(&format!("show --value --property {name}"), unit)
    }

    /// A tunnel of two units.
    fn tunnel(&self, kind: (u8, u8)) -> (Target, SocketAddr) {
        let (target, user, tunnel) = (Target::echo(), free_addr(), free_addr());
        let (transport, tls) = kind;
        let urls = [
            format!("server://a-key-of-the-test@{tunnel}/{user}?mode=1&type={transport}&tls={tls}"),
            format!("client://a-key-of-the-test@{tunnel}/{}?mode=2&min=8", target.addr()),
        ];
        for (unit, url) in UNITS.iter().zip(urls) {
            let file = self.path(&format!("etc/nodepass/{unit}.conf"));
            let text = format!("NP_URL=\"{url}\"\nNP_SHUTDOWN_TIMEOUT=300s\nNP_UDP_READ_TIMEOUT=3s\n");
            std::fs::write(&file, text).expect("a file");
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("rights");
            self.control("restart", &name(unit));
        }
        until("a user", GRACE, || exchange(user, b"are you there"));
        (target, user)
    }

    /// Another executable with the same content: news for those that run it.
    fn replace_program(&self) {
        let [program, newer] = ["usr/local/bin/nodepass", "usr/local/bin/newer"].map(|place| self.path(place));
        copy_program(&program, &newer);
        std::fs::rename(newer, program).expect("a new name");
    }

    /// Lets another process take over, and waits for that: systemd's own reload ends with the signal.
    fn reload(&self, unit: &str) {
        let before = self.processes(unit);
        self.replace_program();
        self.control("reload", unit);
        let came = || self.processes(unit).iter().any(|pid| !before.contains(pid));
        assert!(eventually(GRACE, came), "{}", self.control("status --no-pager", unit));
        let over = || self.property("ActiveState", unit) == "active";
        assert!(eventually(GRACE, over), "{}", self.control("status --no-pager", unit));
    }

    /// The processes of a unit, in the order of their start.
    fn processes(&self, unit: &str) -> Vec<i32> {
        let group = self.property("ControlGroup", unit);
        let list = self.path("sys/fs/cgroup").join(group.trim_start_matches('/')).join("cgroup.procs");
        let mut pids: Vec<_> =
            std::fs::read_to_string(list).unwrap_or_default().lines().filter_map(|pid| pid.parse().ok()).collect();
        // Numbers begin again from the lowest one some day.
        pids.sort_by_key(|pid| started(*pid));
        pids
    }
}

/// When a process started, in the kernel's ticks; none is the earliest.
fn started(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, the second field, may have blanks and brackets.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

impl Drop for System {
    fn drop(&mut self) {
        self.process.kill();
        output(script("end", &self.group, &self.folder));
    }
}

fn script(step: &str, group: &str, folder: &Folder) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh"]);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/system/systemd/system.sh"));
    command.args([step, group]).arg(folder.path());
    command
}

fn name(unit: &str) -> String {
    format!("nodepass@{unit}.service")
}

/// The units of a tunnel.
const UNITS: [&str; 2] = ["server", "client"];

#[test]
fn a_reload_by_systemd_loses_nobody() {
    let Some(system) = System::new() else { return };
    for kind in [(0, 1), (1, 1)] {
        let (_target, user) = system.tunnel(kind);
        for unit in UNITS.map(name) {
            let main = system.property("MainPID", &unit);
            let mut long = vec![connect(user)];
            still_there(&long[0]);
            let (served, lost) = load(user, || {
                for _ in 0..2 {
                    system.reload(&unit);
                    let new = until("a user", GRACE, || try_connect(user));
                    long.push(new);
                    long.iter().for_each(still_there);
                }
            });
            assert!(lost.is_empty(), "{kind:?}, {unit}: {} users lost: {:?}", lost.len(), &lost[..lost.len().min(5)]);
            assert!(served[0] > 0 && served[1] > 0);
            assert_eq!(system.property("MainPID", &unit), main);
            assert_eq!(system.property("NRestarts", &unit), "0");
        }
    }
}

#[test]
fn processes_that_crash_or_hang_are_started_again_by_systemd() {
    let Some(system) = System::new() else { return };
    let folder = system.path("run/systemd/system/nodepass@.service.d");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join("quick.conf"), "[Service]\nWatchdogSec=5s\nRestartSec=200ms\n").expect("a file");
    system.control("daemon-reload", "--no-pager");
    let (_target, user) = system.tunnel((0, 1));
    let unit = name("server");
    // Of two processes, the one that waits, and the one that serves.
    let faults = [(false, libc::SIGKILL), (true, libc::SIGKILL), (true, libc::SIGSTOP)];
    for (restarts, (last, signal)) in faults.into_iter().enumerate() {
        system.reload(&unit);
        let both = system.processes(&unit);
        // SAFETY: a plain system call; the process is this test's.
        unsafe { libc::kill(both[usize::from(last)], signal) };
        let again = eventually(GRACE, || system.property("NRestarts", &unit) == (restarts + 1).to_string());
        assert!(again, "{last} {signal}: {}", system.control("status --no-pager", &unit));
        until("a user", GRACE, || exchange(user, b"are you there"));
        assert!(eventually(GRACE, || system.processes(&unit).iter().all(|pid| !both.contains(pid))));
    }
}
