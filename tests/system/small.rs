//! Small machines: few descriptors, little memory, no `/proc`, nothing that can be written. What cannot be had is said or
//! done without; nothing spins, and no user is left without an answer.

mod memory;

use crate::support::*;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[test]
fn with_64_descriptors_a_tunnel_still_has_room_for_users() {
    let small = Small::tunnel("ulimit -n 64", "tls=1&log=debug", "log=debug");
    small.server.iter().for_each(|server| {
        server.says("max=10 instead of 1024 and slot=8 instead of 65536: 64 open files", GRACE);
    });
    small.client.says("min=12 instead of 64 and slot=10 instead of 65536: 64 open files", GRACE);
    small.serves();
    small.outlives_a_crowd(100);
}

#[test]
fn slow_strangers_have_a_share_of_the_descriptors_and_users_have_theirs() {
    let small = Small::tunnel("ulimit -n 256", "tls=1&log=debug", "log=debug");
    small.serves();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for number in 1..5 {
            let stop = &stop;
            // From one address each, and none of them the client's.
            let (from, to) = (Ipv4Addr::new(127, 0, 0, 10 + number), small.tunnel);
            scope.spawn(move || {
                let mut held: Vec<TcpStream> = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    held.retain(|mut stranger| stranger.write_all(b"x").is_ok());
                    while held.len() < 256 {
                        let Ok(mut stranger) = connect_from(from, to) else { break };
                        let _ = stranger.write_all(b"GET / HTTP/1.1\r\nX-Slow: ");
                        held.push(stranger);
                    }
                    std::thread::sleep(Duration::from_millis(50));
                }
            });
        }
        let served: usize = (0..200).filter(|_| exchange(small.user, b"hello").is_ok()).count();
        let crowd: Vec<TcpStream> = (0..20).filter_map(|_| try_connect(small.user).ok()).collect();
        let together = crowd.iter().filter(|user| spoken_to(user)).count();
        stop.store(true, Ordering::SeqCst);
        assert_eq!((served, together), (200, 20), "users one after the other, and side by side");
    });
    assert!(!small.processes().any(|process| process.said("Cannot accept connections")));
    small.serves();
    small.is_sound();
}

#[test]
fn with_64_descriptors_a_single_end_forwarder_refuses_whom_it_cannot_serve() {
    let small = Small::single("ulimit -n 64", "log=debug");
    small.serves();
    small.outlives_a_crowd(100);
    assert!(small.client.said("all 10 slots are taken (slot)"));
}

#[test]
fn a_wish_for_more_users_than_there_are_descriptors_is_survived() {
    let small = Small::single("ulimit -n 64", "slot=0&log=debug");
    small.serves();
    small.outlives_a_crowd(100);
    assert!(small.client.said("raise the limit of open files"));
}

#[test]
fn too_few_descriptors_to_start_are_an_error_that_says_so() {
    let target = Target::echo();
    let url = format!("client://{}/{}?mode=1", free_addr(), target.addr());
    let (status, _, errors) = output(limited("ulimit -n 6", &url));
    assert_eq!(status, 1, "{errors}");
    // EMFILE, in whatever words the C library has for it.
    assert!(errors.contains("Error: cannot start: ") && errors.contains("(os error 24)"), "{errors}");
}

#[test]
fn it_runs_without_proc() {
    let hide = "mount -t tmpfs none /proc";
    if !can_mount(hide) {
        return;
    }
    let small = Small::tunnel(&alone(hide), "tls=1&log=debug", "log=debug");
    small.serves();
    assert_eq!(udp_echo(small.user, b"hello").unwrap(), b"hello");
}

#[test]
fn it_runs_where_nothing_can_be_written() {
    let lock = "mount --rbind / /mnt && mount -o remount,ro,bind /mnt && cd /mnt && exec chroot /mnt";
    if !can_mount("mount --rbind / /mnt && mount -o remount,ro,bind /mnt") {
        return;
    }
    let small = Small::tunnel(&alone(lock), "tls=1&log=debug", "log=debug");
    small.serves();
    assert_eq!(udp_echo(small.user, b"hello").unwrap(), b"hello");
}

/// A tunnel or a forwarder whose processes were started under a limit, and its target.
struct Small {
    tunnel: SocketAddr,
    user: SocketAddr,
    server: Option<Process>,
    client: Process,
    _target: Target,
}

impl Small {
    fn tunnel(limit: &str, server: &str, client: &str) -> Small {
        Small::tunnel_to(Target::echo(), limit, server, client)
    }

    fn tunnel_to(target: Target, limit: &str, server: &str, client: &str) -> Small {
        let (tunnel, user) = (free_addr(), free_addr());
        let server = format!("server://small@{tunnel}/{user}?mode=1&{server}");
        let client = format!("client://small@{tunnel}/{}?mode=2&{client}", target.addr());
        let server = Process::run("server", limited(limit, &server));
        let client = Process::run("client", limited(limit, &client));
        Small { tunnel, user, server: Some(server), client, _target: target }
    }

    fn single(limit: &str, query: &str) -> Small {
        let (target, user) = (Target::echo(), free_addr());
        let url = format!("client://{user}/{}?mode=1&{query}", target.addr());
        let client = Process::run("client", limited(limit, &url));
        Small { tunnel: user, user, server: None, client, _target: target }
    }

    fn processes(&self) -> impl Iterator<Item = &Process> {
        self.server.iter().chain([&self.client])
    }

    /// Users get through.
    fn serves(&self) {
        until("a user", GRACE, || exchange(self.user, &noise(1, 100_000)));
    }

    /// So many users at once: some are served, each of them has an answer or an end. While they stay nothing spins; when they have gone
    /// all is as before.
    fn outlives_a_crowd(&self, count: u64) {
        let crowd: Vec<TcpStream> = (0..count).filter_map(|_| try_connect(self.user).ok()).collect();
        let served = crowd.iter().filter(|user| spoken_to(user)).count();
        assert!(served > 0, "none of {count} was served");
        self.rests("users who do nothing");
        drop(crowd);
        self.serves();
        self.is_sound();
    }

    /// Nothing spins: what does is never asleep, however little of the processor it gets.
    fn rests(&self, whom: &str) {
        for process in self.processes() {
            let mut asleep = 0;
            let rests = eventually(GRACE, || {
                asleep = if process.is_asleep() { asleep + 1 } else { 0 };
                asleep == LOOKS
            });
            assert!(rests, "{process:?} always has something to do for {whom}");
        }
    }

    /// No process has ended or panicked.
    fn is_sound(&self) {
        for process in self.processes() {
            assert_eq!(process.ended(), None, "{process:?} is gone");
            assert!(!process.said("panicked"), "{process:?} panicked");
        }
    }
}

/// Says something and hears it back; a user who waits longer than the rest of the crowd is one who is not served.
fn spoken_to(mut user: &TcpStream) -> bool {
    let _ = user.set_read_timeout(Some(Duration::from_millis(500)));
    let mut answer = [0; 5];
    user.write_all(b"hello").and_then(|()| user.read_exact(&mut answer)).is_ok() && answer == *b"hello"
}

/// The binary after a shell command that limits it.
fn limited(limit: &str, url: &str) -> Command {
    let mut command = nodepass_command();
    let program = command.get_program().to_owned();
    let words: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    let mut shell = Command::new("sh");
    let script = match limit.contains("exec ") {
        true => format!("{limit} \"$0\" \"$@\""),
        false => format!("{limit} && exec \"$0\" \"$@\""),
    };
    match limit.strip_prefix(ALONE) {
        Some(_) => {
            shell.args(["-c", &format!("exec unshare --mount sh -c '{}' \"$0\" \"$@\"", &script[ALONE.len()..])])
        }
        None => shell.args(["-c", &script]),
    };
    shell.arg(program).args(words).arg(url);
    // No test here is about a silent peer, and a crowd on a busy machine may keep it waiting for long.
    command.env("NP_REPORT_INTERVAL", "10s");
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    command = shell;
    command
}

/// The same, among mounts of its own.
fn alone(limit: &str) -> String {
    format!("{ALONE}{limit}")
}

/// Whether this process may make mounts of its own, with this one among them.
fn can_mount(script: &str) -> bool {
    let works = root() && {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script]);
        output(command).0 == 0
    };
    if !works {
        skip("mounts of one's own");
    }
    works
}

const ALONE: &str = "alone: ";
/// A process is at rest that so many looks in a row, some 20 ms apart, find asleep.
const LOOKS: usize = 10;
