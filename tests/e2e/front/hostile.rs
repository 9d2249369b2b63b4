//! What strangers can do to the front: nothing that others would notice.

use super::toy::{get, Api, Web};
use crate::support::{eventually, is_closed, noise, raise_limits, try_connect, GRACE};
use nodepass::master::front::CLIENTS;
use std::fs::File;
use std::io::{BufRead, Read, Write};
use std::os::fd::AsRawFd;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

#[test]
fn lengths_beyond_reason_are_refused_before_a_byte_of_them_is_taken() {
    let api = Api::plain();
    for length in ["1048577", "100000000000000", "18446744073709551616", "999999999999999999999999999999"] {
        let said = api.ask(format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\nsome"));
        assert_eq!(
            (said.status, said.text().as_str()),
            (413, "{\"error\":\"Request body too large\",\"message\":\"Request body too large\"}\n"),
            "{length}"
        );
        assert_eq!(said.header("content-type"), Some("application/json"));
        assert_eq!(said.header("access-control-allow-origin"), Some("*"));
    }
    for size in ["100001", "5af3107a4000", "ffffffffffffffff", "ffffffffffffffffffffffffffffffff"] {
        let head = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(api.ask(format!("{head}{size}\r\nsome")).status, 413, "{size}");
    }
    assert_eq!(api.toy.calls.load(Ordering::SeqCst), 0, "no call was made");
    let whole = vec![b'w'; 1024 * 1024];
    let mut request = b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 1048576\r\n\r\n".to_vec();
    request.extend_from_slice(&whole);
    assert!(api.ask(request).body == whole, "and one megabyte is allowed");
}

#[test]
fn what_never_ends_is_ended() {
    let api = Api::plain();
    let head = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (start, again, status) in [
        ("GET / HTTP/1.1\r\n".to_owned(), "X-Header: value\r\n", 431),
        ("GET / HTTP/1.1\r\nX: ".to_owned(), "value", 431),
        ("GET /".to_owned(), "path", 431),
        (format!("{head}1;"), "extension", 400),
        (format!("{head}0\r\n"), "Trailer: value\r\n", 400),
        (head.to_owned(), "1000\r\n{}\r\n", 413),
    ] {
        let again = again.replace("{}", &"x".repeat(4096));
        let mut web = api.dial();
        web.say(&start);
        // It stops taking them at some time: then the rest is not sent, and the answer can be read.
        for _ in 0..300_000 / again.len().min(1000) {
            if web.try_say(&again).is_err() {
                break;
            }
        }
        assert_eq!(web.try_hear().map(|said| said.status).ok(), Some(status), "{start:?} {again:.10}");
    }
    assert!(api.serves());
}

#[test]
fn a_client_that_is_slow_is_sent_away_and_no_other_waits_for_it() {
    let (plain, secure) = (Api::plain(), Api::secure());
    let starts = [
        "G",
        "GET / HTTP/1.1\r\nHost: x\r\nX-Slow:",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nten bytes.",
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
    ];
    let slow = starts.iter().cycle().take(100).map(|start| plain.began(start));
    let slow: Vec<Web> = slow.collect();
    let mut silent = plain.dial();
    let mut handshaking = secure.dial();
    handshaking.say(b"\x16\x03\x01\x02\x00\x01\x00");
    assert!(plain.serves());
    for mut web in slow {
        let byte = web.try_say("x");
        assert_eq!(web.try_hear().map(|said| said.status).ok(), Some(408), "{byte:?}");
        assert!(web.is_over());
    }
    assert!(silent.is_over() && handshaking.is_over());
    assert!(plain.serves());
}

#[test]
fn two_thousand_idle_connections_lock_no_other_out() {
    if !raise_limits(8192) {
        return;
    }
    let api = Api::plain();
    let idle: Vec<Web> = (0..2000).map(|_| api.dial()).collect();
    assert!(api.serves());
    let left = |idle: &[Web]| idle.iter().filter(|web| !is_closed(&web.stream)).count();
    assert!(eventually(GRACE, || left(&idle) <= CLIENTS), "the others have made room");
    assert!(left(&idle[..CLIENTS]) > 0, "by chance, not the oldest first: they would keep each far client out");
    let mut half: Vec<Web> = (0..1000).map(|_| api.dial()).collect();
    half.iter_mut().for_each(|web| drop(web.try_say("GET / HTTP/1.1\r\n")));
    assert!(api.serves(), "nor do a thousand that began to say something");
}

#[test]
fn fifty_readers_that_stop_reading_stop_no_other_and_a_flood_of_streams_has_a_limit() {
    let api = Api::plain();
    let stalled: Vec<Web> = (0..50).map(|_| api.open("/flood")).collect();
    assert!(eventually(GRACE, || api.toy.streams.load(Ordering::SeqCst) == 50));
    assert!(api.serves());
    let more: Vec<Web> = (0..14).map(|_| api.open("/drip")).collect();
    assert!(eventually(GRACE, || api.toy.streams.load(Ordering::SeqCst) == 64));
    assert_eq!(api.ask(get("/drip")).status, 503, "the 65th");
    assert!(api.serves());
    drop(stalled);
    assert!(eventually(GRACE, || api.toy.streams.load(Ordering::SeqCst) == 14));
    assert_eq!(api.ask(get("/three")).status, 200, "there is room again");
    drop(more);
}

#[test]
fn a_stream_whose_reader_has_stopped_reading_is_given_up_in_the_end() {
    let api = Api::plain();
    let stalled = api.open("/flood");
    let mut quiet = api.open("/drip");
    assert_eq!(quiet.hear_head().expect("a head").status, 200);
    let running = || api.toy.streams.load(Ordering::SeqCst);
    assert!(eventually(GRACE, || running() == 2));
    // The limit is 30 s.
    assert!(eventually(GRACE * 5, || running() == 1), "the stalled one goes");
    assert!(quiet.chunk(&mut Vec::new()).expect("a chunk"), "the one that is read stays");
    drop(stalled);
}

#[test]
fn those_who_do_not_take_their_answers_hold_no_other_up() {
    let api = Api::plain();
    // As many as are answered at a time, and a few who wait with the others.
    let greedy: Vec<Web> = (0..20).map(|_| api.open("/big")).collect();
    for _ in 0..10 {
        assert!(api.serves());
    }
    drop(greedy);
}

#[test]
fn calls_beyond_the_limit_wait_for_their_turn() {
    let api = Api::plain();
    let gate = api.toy.hold();
    let mut webs: Vec<Web> = (0..20).map(|_| api.open("/held")).collect();
    assert!(eventually(GRACE, || api.toy.calls.load(Ordering::SeqCst) == 16));
    let mut late = api.dial();
    late.say(get("/late"));
    drop(gate);
    for web in &mut webs {
        assert_eq!(web.hear().text(), "at last");
    }
    assert!(late.hear().text().starts_with("GET [/late]"));
    assert_eq!(api.toy.calls.load(Ordering::SeqCst), 21);
}

#[test]
fn calls_that_hang_let_others_know_that_it_is_busy() {
    let api = Api::plain();
    let _gate = api.toy.hold();
    let _webs: Vec<Web> = (0..16).map(|_| api.open("/held")).collect();
    assert!(eventually(GRACE, || api.toy.calls.load(Ordering::SeqCst) == 16));
    assert_eq!(api.ask(get("/late")).status, 503);
}

#[test]
fn only_a_few_large_bodies_come_in_at_once_and_small_ones_always() {
    let api = Api::plain();
    let large = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\nExpect: 100-continue\r\n\r\n";
    let mut webs: Vec<Web> = (0..8).map(|_| api.dial()).collect();
    for web in &mut webs {
        web.say(large);
        assert_eq!(web.hear().status, 100, "go on");
    }
    assert_eq!(api.ask(large).status, 503);
    assert_eq!(api.ask("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody").status, 200);
    drop(webs);
    assert!(eventually(GRACE, || api.ask(large).status == 100));
}

#[test]
fn noise_is_refused_and_harms_no_other() {
    let (plain, secure) = (Api::plain(), Api::secure());
    for seed in 0..200 {
        for api in [&plain, &secure] {
            let mut web = api.dial();
            let _ = web.try_say(noise(seed, 400));
            let _ = web.stream.shutdown(std::net::Shutdown::Write);
            let _ = web.stream.read_to_end(&mut Vec::new());
        }
    }
    assert_eq!(plain.ask(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").status, 400, "TLS where there is none");
    assert!(plain.serves());
    let mut web = secure.dial();
    web.say(get("/plain"));
    assert!(web.try_hear().is_err());
}

/// The front in a process that can run out of descriptors: it leaves as many free as it is told on stdin.
#[test]
fn starving() {
    if std::env::var_os(STARVING).is_none() {
        return;
    }
    limit_descriptors(DESCRIPTORS as u64);
    let api = Api::plain();
    println!("\n{}", api.addr);
    let mut taken: Vec<File> = Vec::new();
    for line in std::io::stdin().lock().lines() {
        let free: usize = line.expect("a line").parse().expect("a number");
        taken.clear();
        // The system gives the lowest number that is free. At no moment are there fewer than `free`.
        while let Ok(file) = File::open("/dev/null") {
            if usize::try_from(file.as_raw_fd()).is_ok_and(|number| number + free >= DESCRIPTORS) {
                break;
            }
            taken.push(file);
        }
        println!("\n{free} free");
    }
}

#[test]
fn a_lack_of_descriptors_passes_and_ends_nothing() {
    let mut child = Starving::start();
    let addr = child.line().parse().expect("an address");
    for free in (0..12).chain([20, 30, 31, 32, 33, 34, 35, 36, 37, 40, 50]) {
        child.leave(free);
        let webs = (0..3).map(|_| Web::over(try_connect(addr).expect("a place in the queue")));
        let mut webs: Vec<Web> = webs.collect();
        webs.iter_mut().for_each(|web| drop(web.try_say(get("/hello"))));
        std::thread::sleep(Duration::from_millis(50));
        child.leave(120);
        // Who got one of the last was told so or hung up on; who got none has waited in the queue.
        for web in &mut webs {
            assert!(matches!(web.try_hear().map(|said| said.status), Err(_) | Ok(200 | 503)), "{free} free");
        }
        assert!(eventually(GRACE, || {
            let mut web = Web::over(try_connect(addr).expect("a connection"));
            web.try_say(get("/hello")).is_ok() && web.try_hear().is_ok_and(|said| said.status == 200)
        }));
    }
}

/// The test above this one in a process of its own.
struct Starving {
    child: Child,
    out: std::io::BufReader<std::process::ChildStdout>,
}

impl Starving {
    fn start() -> Starving {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["--exact", "front::hostile::starving", "--nocapture"]).env(STARVING, "1");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = crate::support::start_child(command).expect("a process");
        let out = std::io::BufReader::new(child.stdout.take().expect("its output"));
        Starving { child, out }
    }

    /// The next line that begins with a digit.
    fn line(&mut self) -> String {
        let mut lines = (&mut self.out).lines().map(|line| line.expect("a line"));
        lines.find(|line| line.starts_with(|first: char| first.is_ascii_digit())).expect("it lives")
    }

    fn leave(&mut self, free: usize) {
        let stdin = self.child.stdin.as_mut().expect("its input");
        writeln!(stdin, "{free}").expect("it lives");
        assert_eq!(self.line(), format!("{free} free"));
    }
}

impl Drop for Starving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn limit_descriptors(count: u64) {
    let limit = libc::rlimit { rlim_cur: count, rlim_max: count };
    // SAFETY: the call only reads the structure.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
}

/// Set for the process that starves.
const STARVING: &str = "NODEPASS_TEST_STARVING";
/// Descriptors that it may have.
const DESCRIPTORS: usize = 160;
