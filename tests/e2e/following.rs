//! SIGHUP where something has changed: the next process takes over, nobody is refused or cut, and those of the process before finish there.

use crate::support::*;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Longer than this test waits for anything.
const LONG: (&str, &str) = ("NP_SHUTDOWN_TIMEOUT", "10m");

/// A session that nothing more comes for is soon over.
const SHORT: (&str, &str) = ("NP_UDP_READ_TIMEOUT", "3s");

/// A tunnel, or one end, whose processes have their URLs in files.
struct Setup {
    folder: Folder,
    urls: [String; 2],
    processes: [Option<Process>; 2],
    user: SocketAddr,
    target: Target,
    changes: AtomicUsize,
}

const SERVER: usize = 0;
const CLIENT: usize = 1;
const NAMES: [&str; 2] = ["server", "client"];

impl Setup {
    fn single(query: &str) -> Setup {
        let (target, user) = (Target::echo(), free_addr());
        let url = format!("client://{user}/{}?mode=1&log=debug{query}", target.addr());
        Setup::new([String::new(), url], user, target, &[])
    }

    fn tunnel(flow: Flow, (transport, tls): (u8, u8), env: &[(&str, &str)]) -> Setup {
        let (target, user, tunnel) = (Target::echo(), free_addr(), free_addr());
        let (at_server, at_client, mode) = match flow {
            Flow::Forward => (target.addr(), user, 2),
            _ => (user, target.addr(), 1),
        };
        let urls = [
            format!("server://a-test-key@{tunnel}/{at_server}?mode={mode}&log=debug&type={transport}&tls={tls}"),
            format!("client://a-test-key@{tunnel}/{at_client}?mode=2&log=debug&min=8"),
        ];
        Setup::new(urls, user, target, env)
    }

    fn new(urls: [String; 2], user: SocketAddr, target: Target, env: &[(&str, &str)]) -> Setup {
        let folder = Folder::new();
        let mut processes = [None, None];
        for (end, url) in urls.iter().enumerate().filter(|(_, url)| !url.is_empty()) {
            let file = folder.write(NAMES[end], url);
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("rights");
            let mut command = nodepass_command();
            command.arg(format!("@{}", file.display())).envs([LONG, SHORT]).envs(env.iter().copied());
            processes[end] = Some(Process::run(NAMES[end], command));
        }
        until("a user", GRACE, || exchange(user, b"are you there"));
        Setup { folder, urls, processes, user, target, changes: AtomicUsize::new(0) }
    }

    fn process(&self, end: usize) -> &Process {
        self.processes[end].as_ref().expect("a process")
    }

    /// Another set-up, that is none for users.
    fn change(&self, end: usize) {
        let count = self.changes.fetch_add(1, Ordering::Relaxed);
        self.folder.write(NAMES[end], format!("{}&slot={}", self.urls[end], 50_000 + count));
    }

    /// Changes the set-up, and waits until the next process has taken over.
    fn follow(&self, end: usize) {
        self.change(end);
        let mark = self.process(end).mark();
        self.process(end).signal(libc::SIGHUP);
        self.process(end).says_after(mark, "goes on from here", GRACE);
    }

    /// A user who stays, after bytes have gone in both directions.
    fn long_user(&self) -> TcpStream {
        let user = connect(self.user);
        still_there(&user);
        user
    }
}

#[test]
fn nobody_is_refused_while_one_process_follows_another_and_long_users_finish_where_they_are() {
    let ends = |flow: Flow| kinds().into_iter().flat_map(move |kind| [(flow, kind, SERVER), (flow, kind, CLIENT)]);
    let cases = [(Flow::Single, (0, 0), CLIENT)].into_iter().chain(ends(Flow::Reverse)).chain(ends(Flow::Forward));
    let cases: Vec<_> = cases.collect();
    // Each is a crowd of processes.
    cases.chunks(3).for_each(|some| side_by_side(some.iter().map(|case| (format!("{case:?}"), *case)), followed_twice));
}

fn followed_twice((flow, kind, end): (Flow, (u8, u8), usize)) {
    let setup = match flow {
        Flow::Single => Setup::single(""),
        _ => Setup::tunnel(flow, kind, &[]),
    };
    let mut long = vec![setup.long_user()];
    let (_, lost) = load(setup.user, || {
        for _ in 0..2 {
            setup.follow(end);
            long.push(setup.long_user());
            long.iter().for_each(still_there);
        }
    });
    assert!(lost.is_empty(), "{} users lost: {:?}", lost.len(), &lost[..lost.len().min(5)]);
    long.iter().for_each(still_there);
    let first = setup.process(end);
    assert_eq!(first.ended(), None);
    assert!(first.threads() > 1, "it carries users");
    // Each process ends with its last user; the first one waits.
    long.truncate(1);
    drop(long);
    assert!(eventually(GRACE, || first.threads() == 1), "it waits");
    assert!(eventually(GRACE, || first.children().len() == 1), "those between have ended: {:?}", first.children());
    echoed(setup.user, b"and on it goes");
    first.terminate();
    assert_eq!(first.wait(GRACE), 0);
    if end == SERVER || flow == Flow::Single {
        assert!(try_connect(setup.user).is_err() || flow == Flow::Forward, "no process is left");
    }
}

#[test]
fn a_next_process_that_cannot_start_leaves_the_one_that_serves() {
    for setup in [Setup::single(""), Setup::tunnel(Flow::Reverse, (0, 0), &[])] {
        let end = if setup.urls[SERVER].is_empty() { CLIENT } else { SERVER };
        let (process, long) = (setup.process(end), setup.long_user());
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let other =
            setup.urls[end].replace(&setup.user.to_string(), &taken.local_addr().expect("an address").to_string());
        for (text, why) in [("nothing of use", "expected"), (&other, "in use")] {
            setup.folder.write(NAMES[end], text);
            let mark = process.mark();
            process.signal(libc::SIGHUP);
            process.says_after(mark, why, GRACE);
            process.says_after(mark, "this process goes on as it is", GRACE);
            echoed(setup.user, b"a new user");
            still_there(&long);
            assert!(eventually(GRACE, || process.children().is_empty()));
        }
        std::fs::remove_file(setup.folder.file(NAMES[end])).expect("a file");
        let mark = process.mark();
        process.signal(libc::SIGHUP);
        process.says_after(mark, "this process goes on as it is", GRACE);
        setup.follow(end);
        echoed(setup.user, b"a new user");
        still_there(&long);
    }
}

#[test]
fn without_news_no_process_follows() {
    let setup = Setup::tunnel(Flow::Reverse, (0, 0), &[]);
    let process = setup.process(SERVER);
    process.signal(libc::SIGHUP);
    // What it says of a louder log comes after what it does on SIGHUP.
    process.reports(2);
    assert!(process.children().is_empty() && !process.said("next process"));
    assert!(!setup.process(CLIENT).said("ended"));
}

#[test]
fn another_executable_is_news_and_no_key_is_shown() {
    let (folder, target, user) = (Folder::new(), Target::echo(), free_addr());
    let copy = |name: &str| -> PathBuf {
        let path = folder.file(name);
        copy_program(env!("CARGO_BIN_EXE_nodepass").as_ref(), &path);
        path
    };
    let program = copy("program");
    let command = |program: &PathBuf| {
        let mut command = std::process::Command::new(program);
        command.envs(QUICK.iter().copied()).env(LONG.0, LONG.1);
        command
    };
    let mut server = command(&program);
    server.arg(format!("client://open-sesame@{user}/{}?mode=1", target.addr()));
    let process = Process::run("client", server);
    until("a user", GRACE, || exchange(user, b"are you there"));
    std::fs::rename(copy("newer"), &program).expect("a newer one");
    process.signal(libc::SIGHUP);
    process.says("goes on from here", GRACE);
    until("it has taken over", GRACE, || exchange(user, b"are you there"));
    assert!(eventually(GRACE, || process.threads() == 1), "without users it waits at once");
    for pid in process.children().into_iter().chain([process.pid()]) {
        let shown =
            || String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/cmdline")).expect("words")).into_owned();
        // A process that becomes another program has no words for a moment.
        assert!(eventually(GRACE, || shown().contains("client://")), "{}", shown());
        assert!(!shown().contains("sesame"), "{}", shown());
    }
    let next = process.children()[0];
    assert_eq!(std::fs::read_link(format!("/proc/{next}/exe")).expect("a program"), program);
    let name = || std::fs::read_to_string(format!("/proc/{}/comm", process.pid())).expect("a name");
    assert!(eventually(GRACE, || name().trim() == "nodepass"), "{}", name());
}

#[test]
fn an_end_is_for_all_and_those_who_are_killed_take_the_others_along() {
    let setup = Setup::tunnel(Flow::Reverse, (0, 0), &[]);
    let process = setup.process(SERVER);
    let long = setup.long_user();
    setup.follow(SERVER);
    let new = until("a user of the next one", GRACE, || exchange(setup.user, b"x").map(|_| setup.long_user()));
    process.terminate();
    assert!(eventually(GRACE, || try_connect(setup.user).is_err()), "the port is closed");
    still_there(&long);
    still_there(&new);
    drop(new);
    still_there(&long);
    drop(long);
    assert_eq!(process.wait(GRACE), 0);

    let setup = Setup::single("");
    setup.follow(CLIENT);
    let (process, long) = (setup.process(CLIENT), setup.long_user());
    let next = *process.children().last().expect("a process");
    // What is told to the next one directly, as a service manager does, and passed on by the first is one signal.
    // SAFETY: a plain system call; the process is this test's.
    unsafe { libc::kill(next as libc::pid_t, libc::SIGTERM) };
    process.terminate();
    process.says("Stopping", GRACE);
    still_there(&long);
    process.kill();
    assert_eq!(rest(&long), b"", "those after it leave");
    assert!(eventually(GRACE, || !std::path::Path::new(&format!("/proc/{next}")).exists()));
}

#[test]
fn a_process_that_crashes_ends_those_before_it_so_that_a_service_manager_starts_anew() {
    let setup = Setup::single("");
    let long = setup.long_user();
    setup.follow(CLIENT);
    let process = setup.process(CLIENT);
    let next = *process.children().last().expect("a process");
    // SAFETY: a plain system call; the process is this test's.
    unsafe { libc::kill(next as libc::pid_t, libc::SIGKILL) };
    assert_eq!(process.wait(GRACE), 128 + libc::SIGKILL);
    rest(&long);
}

#[test]
fn figures_are_read_at_the_same_port_afterwards() {
    let at = free_addr();
    let setup = Setup::single(&format!("&metrics={at}"));
    let scraped = || {
        let answer = exchange(at, b"GET /ready HTTP/1.1\r\n\r\n").expect("an answer");
        String::from_utf8_lossy(&answer).into_owned()
    };
    assert!(scraped().starts_with("HTTP/1.1 200"));
    setup.follow(CLIENT);
    assert!(eventually(GRACE, || setup.process(CLIENT).threads() == 1));
    assert!(eventually(GRACE, || scraped().starts_with("HTTP/1.1 200")));
    assert!(setup.target.accepted() > 0);
}
