//! Little memory: 16 MiB by a limit of data, of address space, or by a control group. Whatever users do, the process stays.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use super::{limited, Small};
use crate::support::*;

const DATA: &str = "ulimit -d 16384";

#[test]
fn a_crowd_that_idles_is_carried_or_refused() {
    let small = Small::tunnel(DATA, "tls=1&log=debug", "log=debug");
    for process in small.processes() {
        process.says("16 MiB of memory", GRACE);
    }
    small.serves();
    small.outlives_a_crowd(300);
}

#[test]
fn a_crowd_that_does_not_read_is_survived_over_tls() {
    outlives_the_deaf(DATA, "tls=1");
}

#[test]
#[cfg(feature = "quic")]
fn a_crowd_that_does_not_read_is_survived_over_quic() {
    outlives_the_deaf(DATA, "type=1");
}

#[test]
#[cfg(feature = "ws")]
fn a_crowd_that_does_not_read_is_survived_over_websocket() {
    outlives_the_deaf(DATA, "type=2&tls=1");
}

#[test]
#[cfg(feature = "h2")]
fn a_crowd_that_does_not_read_is_survived_over_http2() {
    outlives_the_deaf(DATA, "type=3");
}

#[test]
fn a_limit_of_address_space_is_kept_too() {
    // The program itself takes memory; a debug build is many times as large as what is installed.
    outlives_the_deaf(&format!("ulimit -v {}", 16 * 1024 + program_size() / 1024), "tls=1");
}

#[test]
fn the_limit_of_a_control_group_is_seen_and_kept() {
    let Some(groups) = Groups::new(16 << 20) else { return };
    outlives_the_deaf(&groups.enter(), "tls=1");
    assert_eq!(groups.all().len(), 2, "the processes were not where they should be");
    assert_eq!(groups.kills(), 0, "a process was killed for lack of memory");
}

#[test]
fn a_flood_of_datagrams_from_many_is_survived() {
    let small = Small::tunnel(DATA, "tls=1&log=debug", "log=debug");
    small.serves();
    let users: Vec<_> = (0..300).map(|_| udp_user(small.user)).collect();
    let packet = noise(7, 20_000);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(3) {
        users.iter().for_each(|user| drop(user.send(&packet)));
    }
    small.is_sound();
}

#[test]
fn a_flood_of_handshakes_that_stop_halfway_is_survived() {
    let small = Small::tunnel(DATA, "tls=1&log=debug", "log=debug");
    small.serves();
    // The head of a record, and a little of what it announces.
    let hello: Vec<u8> = [&[0x16, 3, 1, 0x3f, 0xff, 1, 0, 0x3f, 0xfb, 3, 3][..], &noise(1, 8000)].concat();
    let crowd: Vec<TcpStream> = (0..500)
        .filter_map(|_| {
            let mut stranger = try_connect(small.tunnel).ok()?;
            stranger.write_all(&hello).ok().map(|()| stranger)
        })
        .collect();
    assert!(crowd.len() > 100);
    small.is_sound();
    drop(crowd);
    small.serves();
}

#[test]
#[cfg(feature = "master")]
fn a_master_answers_and_keeps_its_instance() {
    let (target, user, api, state) = (Target::echo(), free_addr(), free_addr(), Folder::new());
    let mut command = limited(DATA, &format!("master://{api}/api?log=info"));
    command.env("NP_STATE_DIR", state.path());
    let master = Process::run("master", command);
    let line = master.says("API Key created: ", GRACE);
    let key = line.rsplit(' ').next().expect("a key").to_owned();
    let ask = |head: &str, body: &str| -> Option<String> {
        let mut api = try_connect(api).ok()?;
        // Asked again rather than waited for: a connection that comes in the middle of a crowd may be one too many.
        api.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        let length = body.len();
        let request = format!("{head} HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}");
        api.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        api.read_to_string(&mut answer).ok().map(|_| answer)
    };
    let url = format!("{{\"url\":\"client://{user}/{}?mode=1\"}}", target.addr());
    let made = ask("POST /api/v1/instances", &url).expect("an answer");
    assert!(made.contains("201"), "{made}");
    until("a user", GRACE, || exchange(user, &noise(1, 100_000)));

    // Readers of events, each worth two threads, and connections without a word.
    let crowd: Vec<TcpStream> = (0..300)
        .filter_map(|at| {
            let mut reader = try_connect(api).ok()?;
            if at % 3 > 0 {
                let head = format!("GET /api/v1/events HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\n\r\n");
                let _ = reader.write_all(head.as_bytes());
            }
            Some(reader)
        })
        .collect();
    // As many as there is room for have got an answer: no more come.
    let heard =
        || crowd.iter().filter(|reader| reader.set_nonblocking(true).is_ok() && reader.peek(&mut [0]).is_ok()).count();
    let mut before = 0;
    let settled = eventually(GRACE, || std::mem::replace(&mut before, heard()) == before && before > 0);
    assert!(settled, "{before} of them have an answer, and more get one");
    drop(crowd);
    until("the list", GRACE, || ask("GET /api/v1/instances", "").filter(|list| list.contains("\"running\"")).ok_or(()));
    until("a user", GRACE, || exchange(user, &noise(2, 100_000)));
    assert_eq!(master.ended(), None);
    assert!(!master.said("panicked"));
}

#[test]
fn too_little_to_begin_with_ends_at_once_and_not_in_a_loop() {
    let target = Target::echo();
    for more in [0, 256, 512, 1024] {
        let limit = format!("ulimit -v {}", program_size() / 1024 + more);
        let url = format!("client://{}/{}?mode=1", free_addr(), target.addr());
        let process = Process::run("client", limited(&limit, &url));
        // Either it can work, or it has gone.
        let start = Instant::now();
        while process.ended().is_none() && !process.said("CHECK_POINT") {
            assert!(start.elapsed() < GRACE, "neither works nor ends with {limit}");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn memory_that_runs_out_without_slots_ends_in_one_line_and_not_in_an_abort() {
    let small = Small::tunnel_to(blaster(), DATA, "tls=1&slot=0&log=debug", "slot=0&log=debug");
    small.serves();
    let mut crowd = Vec::new();
    until("the end of memory", GRACE * 3, || {
        crowd.extend((0..50).filter_map(|_| blasted(small.user)));
        crowd.iter_mut().for_each(|user: &mut TcpStream| drop(user.write(&[2; 65_536])));
        small.processes().any(|process| process.ended().is_some()).then_some(()).ok_or(crowd.len())
    });
    for process in small.processes().filter(|process| process.ended().is_some()) {
        assert_eq!(process.ended(), Some(1));
        process.says("Error: out of memory: ", GRACE);
    }
}

/// Users who send as long as anything goes and read nothing, to a target that does the same.
fn outlives_the_deaf(limit: &str, server: &str) {
    let small = Small::tunnel_to(blaster(), limit, &format!("{server}&log=debug"), "log=debug");
    small.serves();
    let mut crowd: Vec<TcpStream> = (0..300).filter_map(|_| blasted(small.user)).collect();
    let (bytes, mut moved, start) = (vec![2; 65_536], Instant::now(), Instant::now());
    while moved.elapsed() < Duration::from_secs(1) && start.elapsed() < GRACE {
        crowd.retain_mut(|user| match user.write(&bytes) {
            Ok(_) => {
                moved = Instant::now();
                true
            }
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        });
        thread::sleep(Duration::from_millis(5));
    }
    assert!(crowd.len() > 10, "only {} of the crowd were let in", crowd.len());
    small.is_sound();
    small.rests("users who do not read");
    drop(crowd);
    small.serves();
    small.is_sound();
}

/// A target that sends without end and reads nothing where a user says `blast`, and echoes what others say.
fn blaster() -> Target {
    let held = Mutex::new(Vec::new());
    Target::with(move |mut stream| {
        let mut first = [0; 5];
        if stream.read_exact(&mut first).is_err() {
            return;
        }
        if first != *b"blast" {
            return echo_after(stream, &first);
        }
        held.lock().expect("a list").extend(stream.try_clone());
        while stream.write_all(&[1; 16_384]).is_ok() {}
    })
}

/// A user who asked for the blast and does not wait.
fn blasted(at: SocketAddr) -> Option<TcpStream> {
    let mut user = try_connect(at).ok()?;
    // Those beyond the slots are gone already.
    let _ = user.write_all(b"blast").and_then(|()| user.set_nonblocking(true));
    Some(user)
}

fn echo_after(mut stream: TcpStream, first: &[u8]) {
    let mut bytes = first.to_vec();
    while !bytes.is_empty() && stream.write_all(&bytes).is_ok() {
        bytes.resize(16_384, 0);
        let count = stream.read(&mut bytes).unwrap_or(0);
        bytes.truncate(count);
    }
}

/// Bytes of address space that the program and its libraries take.
fn program_size() -> usize {
    let target = free_addr();
    let process = Process::nodepass(&format!("client://{}/{target}?mode=1", free_addr()));
    process.says("started", GRACE);
    let text = fs::read_to_string(format!("/proc/{}/maps", process.pid())).expect("/proc");
    let number = |text: &str| usize::from_str_radix(text, 16).expect("an address");
    let ranges =
        text.lines().filter(|line| line.contains('/')).filter_map(|line| line.split(' ').next()?.split_once('-'));
    ranges.map(|(from, to)| number(to) - number(from)).sum()
}

/// Control groups of our own, of either version: one for each process.
struct Groups {
    folder: &'static Path,
    /// The file of the limit.
    file: &'static str,
    limit: usize,
}

impl Groups {
    /// `None`, with a word about it, where none can be made.
    fn new(limit: usize) -> Option<Groups> {
        let v2 = Groups { folder: Path::new("/sys/fs/cgroup"), file: "memory.max", limit };
        let v1 = Groups { folder: Path::new("/sys/fs/cgroup/memory"), file: "memory.limit_in_bytes", limit };
        let made = [v2, v1].into_iter().find(|groups| {
            let folder = groups.folder.join(format!("{PREFIX}{}", std::process::id()));
            // The kernel makes the file, if this is a folder of such groups.
            let works = fs::create_dir(&folder).is_ok()
                && folder.join(groups.file).exists()
                && fs::write(folder.join(groups.file), limit.to_string()).is_ok();
            let _ = fs::remove_dir(&folder);
            works
        });
        if made.is_none() {
            skip("memory control groups");
        }
        made
    }

    /// The shell command with which a process goes to one.
    fn enter(&self) -> String {
        let Groups { folder, file, limit } = self;
        let group = folder.join(PREFIX).display().to_string();
        format!("g={group}$$ && mkdir $g && echo {limit} > $g/{file} && echo $$ > $g/cgroup.procs")
    }

    fn all(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.folder).expect("control groups").flatten().map(|entry| entry.path());
        entries.filter(|path| path.to_string_lossy().contains(PREFIX)).collect()
    }

    /// How many were killed there.
    fn kills(&self) -> usize {
        let files = self
            .all()
            .into_iter()
            .flat_map(|group| ["memory.events", "memory.oom_control"].map(|file| group.join(file)));
        let texts: Vec<String> = files.filter_map(|file| fs::read_to_string(file).ok()).collect();
        let counts = texts.iter().flat_map(|text| text.lines()).filter_map(|line| line.strip_prefix("oom_kill "));
        counts.map(|count| count.parse::<usize>().expect("a number")).sum()
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        // A process that was killed takes a moment to leave.
        eventually(GRACE, || self.all().iter().all(|group| fs::remove_dir(group).is_ok()));
    }
}

const PREFIX: &str = "nodepass-test-";
