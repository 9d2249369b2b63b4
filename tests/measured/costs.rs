//! What it costs: system calls for a user, for rest, for a bulk transfer, counted with strace.
//!
//! The bounds are some 25 % above what was measured when they were set: a call more for every user fails, a scheduler in a
//! bad mood does not. `cargo test --test measured costs:: -- --nocapture` prints the table.

mod trace;

use crate::alone;
use crate::support::*;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;
use trace::{tally, Call, Watch};

#[test]
fn a_user_through_a_warm_plain_tunnel_costs_few_system_calls() {
    alone(|| {
        let Some(strace) = program("strace") else { return };
        let tunnel = Tunnel::reverse().both("log=warn").server("max=8").env("NP_REPORT_INTERVAL", "60s").start();
        // The first users take what was made at the start, and leave spare pipes behind.
        (0..50).for_each(|_| one_user(&tunnel));
        let processes = [tunnel.server.as_ref().unwrap(), &tunnel.client];
        let watches = processes.map(|process| Watch::start(&strace, process));
        (0..USERS).for_each(|_| one_user(&tunnel));
        let traces = watches.map(Watch::stop);

        println!(
            "system calls for one user, set-up, 100 bytes there and back, tear-down ({USERS} users, one at a time):"
        );
        for ((process, calls), most) in processes.iter().zip(&traces).zip([MAX_SERVER, MAX_CLIENT]) {
            let parts = split(calls, tunnel.tunnel);
            for (part, calls) in &parts {
                let per_user = |count: usize| count as f64 / USERS as f64;
                let each: Vec<String> = tally(calls.iter())
                    .into_iter()
                    .map(|(name, count)| format!("{name} {:.1}", per_user(count)))
                    .collect();
                println!("{process:?} | {part:?} | {:.1} | {}", per_user(calls.len()), each.join(", "));
            }
            for (part, most) in PARTS.into_iter().zip(most) {
                let count = parts.get(&part).map_or(0, Vec::len);
                assert!(count <= most * USERS / 10, "{process:?}, {part:?}: {count} calls for {USERS} users");
            }
        }
    });
}

#[test]
fn an_answer_that_ends_the_connection_is_sent_with_its_end() {
    alone(|| {
        let Some(strace) = program("strace") else { return };
        for builder in [Tunnel::reverse(), Tunnel::single()] {
            let tunnel = builder.both("log=warn").server("max=8").start();
            tunnel.target.handle(|stream| {
                take(&stream, 100);
                put(&stream, &[8; 100]);
            });
            let user = || {
                let user = tunnel.connect();
                put(&user, &[7; 100]);
                assert_eq!(rest(&user), [8; 100]);
            };
            (0..20).for_each(|_| user());
            let watches: Vec<Watch> = tunnel.processes().iter().map(|process| Watch::start(&strace, process)).collect();
            (0..USERS).for_each(|_| user());
            for (process, calls) in tunnel.processes().iter().zip(watches.into_iter().map(Watch::stop)) {
                // To the user as one packet, over the pool connection as one record: head, answer, end.
                let together =
                    |call: &&Call| call.args.contains("MSG_MORE") || call.args.matches("iov_len").count() == 3;
                let count = calls.iter().filter(together).count();
                println!("{process:?}: {count} of {USERS} answers with their ends");
                // The target may be late with the end.
                assert!(count >= USERS / 4, "{count} of {USERS}: {:?}", tally(&calls));
            }
        }
    });
}

#[test]
fn a_tunnel_at_rest_makes_almost_no_system_calls() {
    alone(|| {
        let Some(strace) = program("strace") else { return };
        for tls in [0, 1] {
            let tunnel = Tunnel::reverse().server(&format!("max=8&tls={tls}")).start();
            tunnel.at_rest();
            for process in tunnel.processes() {
                process.settles();
                let watch = Watch::start(&strace, process);
                let most = three_reports(process);
                let calls = watch.stop();
                println!("at rest, tls={tls}, {process:?}: {} in 3 report intervals: {:?}", calls.len(), tally(&calls));
                assert!(calls.len() <= most, "{:?}", tally(&calls));
            }
        }
    });
}

#[test]
fn a_single_end_forwarder_at_rest_only_measures_its_target() {
    alone(|| {
        let Some(strace) = program("strace") else { return };
        let tunnel = Tunnel::single().start();
        tunnel.at_rest();
        tunnel.client.settles();
        let watch = Watch::start(&strace, &tunnel.client);
        let most = three_reports(&tunnel.client);
        let calls = watch.stop();
        println!("at rest, single-end: {} in 3 report intervals: {:?}", calls.len(), tally(&calls));
        assert!(calls.len() <= most, "{:?}", tally(&calls));
    });
}

#[test]
fn a_plain_bulk_transfer_is_spliced_and_hardly_read() {
    alone(|| {
        let Some(strace) = program("strace") else { return };
        for builder in [Tunnel::reverse(), Tunnel::forward(), Tunnel::single()] {
            let tunnel = builder.server("max=8").start();
            let (user, served) = tunnel.pair();
            let bulk = noise(1, BULK);
            put(&user, b"x");
            assert_eq!(take(&served, 1), b"x");
            let watches: Vec<Watch> = tunnel.processes().iter().map(|process| Watch::start(&strace, process)).collect();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    put(&user, &bulk);
                    end(&user);
                });
                assert!(rest(&served) == bulk, "other bytes arrived");
            });
            for (process, calls) in tunnel.processes().iter().zip(watches.into_iter().map(Watch::stop)) {
                let counts = tally(&calls);
                let moved: i64 = calls.iter().filter(|call| call.name == "splice").map(|call| call.result.max(0)).sum();
                println!("{process:?}, {BULK} bytes: {counts:?}");
                // What comes first is read: it might have to go over another pool connection, which another user might get afterwards.
                assert!(moved >= 2 * (BULK - MAX_READ) as i64, "each byte is spliced in and out: {moved}");
                // What comes first is copied, until it proves to be much; reports, probes and logs read and write a little.
                let copied = calls.iter().filter(|call| COPYING.contains(&call.name.as_str()));
                let bytes: i64 = copied.map(|call| call.result.max(0)).sum();
                assert!(bytes < MAX_COPIED, "{bytes} bytes were copied: {counts:?}");
                assert!(calls.len() < BULK / 4096, "{} calls for {BULK} bytes: {counts:?}", calls.len());
            }
        }
    });
}

/// Waits for three check points; the most system calls that so much time allows.
fn three_reports(process: &Process) -> usize {
    let start = Instant::now();
    process.reports(3);
    MAX_AT_REST * start.elapsed().as_millis().max(3000) as usize / 3000
}

/// A whole visit: there, 100 bytes, back, and both ends in peace.
fn one_user(tunnel: &Tunnel) {
    let user = tunnel.connect();
    put(&user, &[7; 100]);
    assert_eq!(take(&user, 100), [7; 100]);
    end(&user);
    assert_eq!(rest(&user), b"");
}

/// Who a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    /// The user's socket, pool connection, target and signal.
    User,
    /// The pool connection that is opened in place of the one that was taken.
    Refill,
    /// Waiting and waking, for both.
    Waiting,
}

const PARTS: [Part; 3] = [Part::User, Part::Refill, Part::Waiting];

/// Whose each call is: a pool connection's calls are the refill's until its id has gone over it, then its user's.
fn split(calls: &[Call], tunnel: SocketAddr) -> BTreeMap<Part, Vec<Call>> {
    let lives = lives(calls, tunnel);
    let mut parts: BTreeMap<Part, Vec<Call>> = BTreeMap::new();
    for (at, call) in calls.iter().enumerate() {
        let made = matches!(call.name.as_str(), "socket" | "accept4") && call.result >= 0;
        let fd = if made { call.result } else { call.fd().unwrap_or(-1) };
        let life = lives.iter().find(|life| life.fd == fd && (life.first..=life.last).contains(&at));
        let listener = call.name == "accept4" && lives.iter().any(|life| life.pooled && life.listener == call.fd());
        let part = match call.name.as_str() {
            "epoll_wait" | "futex" => Part::Waiting,
            "write" | "read" if call.args.contains(WAKE) => Part::Waiting,
            // The id is random.
            "getrandom" => Part::Refill,
            _ if listener || life.is_some_and(|life| life.pooled && at <= life.numbered) => Part::Refill,
            _ => Part::User,
        };
        parts.entry(part).or_default().push(call.clone());
    }
    parts
}

/// One socket from its making to its end, as places in the trace.
struct Life {
    fd: i64,
    first: usize,
    last: usize,
    /// The listener it came in through.
    listener: Option<i64>,
    /// It is a pool connection, and its id went over it here.
    pooled: bool,
    numbered: usize,
}

/// The sockets that were made while the trace was taken. Those from before are in no life: as many of them are used
/// up as are left over at the end.
fn lives(calls: &[Call], tunnel: SocketAddr) -> Vec<Life> {
    let port = format!("htons({})", tunnel.port());
    let mut lives: Vec<Life> = Vec::new();
    for (at, call) in calls.iter().enumerate() {
        if matches!(call.name.as_str(), "socket" | "accept4") && call.result >= 0 {
            let listener = call.fd().filter(|_| call.name == "accept4");
            let never = usize::MAX;
            lives.push(Life { fd: call.result, first: at, last: never, listener, pooled: false, numbered: never });
            continue;
        }
        let Some(life) = lives.iter_mut().rev().find(|life| Some(life.fd) == call.fd() && life.last == usize::MAX)
        else {
            continue;
        };
        if call.name == "close" {
            life.last = at;
        } else if call.name == "connect" && call.args.contains(&port) {
            life.pooled = true;
        } else if life.numbered == usize::MAX && call.result == 4 && is_transfer(call) {
            // The server sends four bytes before any others; the client, who dialled, receives them first.
            life.numbered = at;
            life.pooled |= life.listener.is_some();
        }
    }
    lives
}

fn is_transfer(call: &Call) -> bool {
    COPYING.contains(&call.name.as_str())
}

/// What a waker's one looks like to strace.
const WAKE: &str = r"\1\0\0\0\0\0\0\0";
/// Calls that copy bytes between the kernel and the program.
const COPYING: [&str; 10] =
    ["read", "write", "readv", "writev", "recvfrom", "sendto", "recvmsg", "sendmsg", "pread64", "pwrite64"];
/// How many users are counted.
const USERS: usize = 100;
/// Bytes of a bulk transfer.
const BULK: usize = 32 << 20;
/// Bytes of a user that are read: what comes before the pool connection is the user's alone, and a buffer more.
const MAX_READ: usize = 160 << 10;
/// Most bytes of it that are read and written, both counted.
const MAX_COPIED: i64 = 2 * MAX_READ as i64;
/// Most calls for ten users: for them, for the refill, for waiting.
const MAX_SERVER: [usize; 3] = [162, 30, 50];
const MAX_CLIENT: [usize; 3] = [225, 30, 62];
/// Most calls of a process at rest in three report intervals: some 30, or 50 where the control connection happens to be
/// with another thread than the hub and each word between them wakes one.
const MAX_AT_REST: usize = 64;
