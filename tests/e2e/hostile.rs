//! Those who mean harm, or might as well: what they send costs only them.
//!
//! | chapter | who |
//! | --- | --- |
//! | here | strangers at the tunnel's port, and users without manners |
//! | `banned` | sources that showed wrong keys |
//! | `forged` | datagrams with forged sources |
//! | `strangers` | connections of many streams, and WebSockets, that open nothing |
//! | `lying` | peers who know the key and lie |
//!
//! In most tests a tunnel carries a user again and again all the while, and holds afterwards what it held before.

mod banned;
mod forged;
mod lying;
pub mod peer;
mod strangers;

use crate::support::*;
use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

#[test]
fn a_port_scan_goes_by_unnoticed() {
    under_attack(|port| {
        for n in 0..500 {
            let stream = connect(port);
            if n % 2 == 0 {
                reset(stream);
            }
        }
    });
}

#[test]
fn two_hundred_slow_loris_handshakes_end_by_themselves() {
    under_attack(|port| {
        let guests: Vec<TcpStream> = (0..200).map(|_| connect(port)).collect();
        let request = b"GET / HTTP/1.1\r\nHost: none\r\nX-Slow: yes yes yes yes yes yes yes\r\n";
        for (n, byte) in request.iter().cycle().enumerate() {
            let alive = guests.iter().filter(|guest| (&mut &**guest).write_all(&[*byte]).is_ok()).count();
            if alive == 0 {
                break;
            }
            assert!(n < 60, "{alive} of them are still let in after a minute");
            std::thread::sleep(Duration::from_secs(1));
        }
    });
}

#[test]
fn a_megabyte_of_garbage_is_not_read_to_its_end() {
    under_attack(|port| {
        for seed in 0..20 {
            let mut garbage = noise(seed + 1, 1 << 20);
            match seed % 5 {
                // A byte 0 is how a pool connection of this project opens, 0x16 is TLS.
                1 => garbage[0] = 0,
                2 => garbage[0] = 0x16,
                3 => garbage[..4].copy_from_slice(b"GET "),
                4 => garbage.fill(b'A'),
                _ => {}
            }
            let mut stream = connect(port);
            let _ = stream.write_all(&garbage);
            rest(&stream);
        }
    });
}

#[test]
fn records_that_only_look_like_tls_are_refused() {
    under_attack(|port| {
        for seed in 0..200 {
            let mut record = vec![0x16, 3, 1];
            let body = noise(seed + 1, (seed as usize * 37) % 2000 + 1);
            record.extend((body.len() as u16).to_be_bytes());
            record.extend(&body);
            if seed % 2 == 0 {
                // A client hello with a plausible head, and noise for the rest.
                record[5] = 1;
            }
            let mut stream = connect(port);
            let _ = stream.write_all(&record);
            let _ = stream.shutdown(Shutdown::Write);
            rest(&stream);
        }
    });
}

#[test]
fn thousands_of_half_open_connections_keep_no_user_out() {
    if !raise_limits(5000) {
        return;
    }
    let count = if raise_limits(11_000) { 10_000 } else { 4000 };
    under_attack(|port| {
        let opened: Vec<TcpStream> = (0..count).map(|_| connect(port)).collect();
        // Each of them is closed by the server: its time is up, or others needed the room.
        for (n, stream) in opened.iter().enumerate() {
            assert_eq!(try_rest(stream), Ok(Vec::new()), "connection {n} of {count}");
        }
    });
}

#[test]
fn lines_without_end_are_cut_off() {
    under_attack(|port| {
        let parts: [(&[u8], usize); 4] =
            [(b"GET /", 4 << 20), (b"GET / HTTP/1.1\r\nHost: ", 4 << 20), (b"GET / HTTP/1.1\r\n", 0), (b"", 4 << 20)];
        for (start, length) in parts {
            let mut stream = connect(port);
            let _ = stream.write_all(start);
            let many = "X-Field: value\r\n".repeat(100_000);
            let _ = if length > 0 { stream.write_all(&vec![b'a'; length]) } else { stream.write_all(many.as_bytes()) };
            assert_eq!(rest(&stream), b"");
        }
    });
}

#[test]
fn two_thousand_wrong_keys_get_two_thousand_refusals() {
    under_attack(|port| {
        let refused = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let refused = &refused;
                scope.spawn(move || {
                    for n in 0..250 {
                        let answer = peer::handshake(port, &format!("guess-{thread}-{n}"));
                        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer:?}");
                        refused.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(refused.into_inner(), 2000);
    });
}

#[test]
fn what_follows_a_request_on_the_same_connection_is_not_looked_at() {
    under_attack(|port| {
        for n in 0..50 {
            let mut stream = connect(port);
            let mut bytes = b"GET / HTTP/1.1\r\nAuthorization: Bearer 00\r\n\r\n".to_vec();
            match n % 3 {
                0 => bytes.extend(b"GET / HTTP/1.1\r\nAuthorization: Bearer 00\r\n\r\n".repeat(50)),
                1 => bytes.extend(noise(n + 1, 100_000)),
                _ => bytes.extend([0; 16]),
            }
            let _ = stream.write_all(&bytes);
            let _ = stream.shutdown(Shutdown::Write);
            let answer = rest(&stream);
            let answers = String::from_utf8_lossy(&answer).matches("HTTP/1.1 ").count();
            assert_eq!(answers, 1, "{answer:?}");
        }
    });
}

#[test]
fn a_user_who_never_reads_is_not_read_ahead_for() {
    each_way(|builder| {
        let shared = builder.is_shared();
        let tunnel = builder.server("max=8").start();
        let before = tunnel.at_rest();
        let memory: Vec<usize> = tunnel.processes().iter().map(|process| process.own_memory_kb()).collect();
        let most = 4096 + if shared { 2 * WINDOW_KB } else { 0 };
        tunnel.target.handle(|mut stream| {
            let _ = stream.write_all(b"!");
            while stream.write_all(&[1; 65536]).is_ok() {}
        });
        let users: Vec<TcpStream> = (0..2).map(|_| tunnel.connect()).collect();
        users.iter().for_each(|user| assert_eq!(take(user, 1), b"!"));
        // The stream has come to a standstill: the same figures twice in a row, at least a report apart.
        let mut seen = tunnel.egress().checkpoint(|now| now.tcps == 2).tcprx;
        until("a standstill", GRACE, || {
            let last = std::mem::replace(&mut seen, tunnel.egress().checkpoint(|now| now.tcps == 2).tcprx);
            if last == seen {
                Ok(())
            } else {
                Err(last)
            }
        });
        for (process, before) in tunnel.processes().iter().zip(&memory) {
            let now = process.own_memory_kb();
            assert!(now < before + most, "{process:?}: {before} KiB before, {now} now");
        }
        drop(users);
        tunnel.rests_again(&before);
    });
}

#[test]
fn users_over_the_limit_are_closed_and_the_others_served() {
    each_way(|builder| {
        let tunnel = builder.server("max=8").ingress("slot=10").start();
        let before = tunnel.at_rest();
        let held: Vec<_> = (0..10)
            .map(|_| {
                let mut user = tunnel.connect();
                user.write_all(b"x").unwrap();
                assert_eq!(take(&user, 1), b"x");
                user
            })
            .collect();
        for _ in 0..1000 {
            let user = tunnel.connect();
            assert_eq!(rest(&user), b"");
        }
        for mut user in &held {
            user.write_all(b"y").unwrap();
            assert_eq!(take(user, 1), b"y");
        }
        let lines = tunnel.ingress().lines();
        let warned = lines.iter().filter(|line| line.contains("WARN") && line.contains("slot")).count();
        assert!((1..20).contains(&warned), "a flood of users is no flood of warnings: {warned}");
        drop(held);
        tunnel.up();
        tunnel.rests_again(&before);
    });
}

#[test]
fn a_lack_of_descriptors_is_told_but_not_for_every_user_and_survived() {
    if !raise_limits(4000) {
        return;
    }
    each_way(|builder| {
        // While there are none for the pool either, users wait for it, and those who have left do so too.
        let tunnel = builder.server("max=8").env("NP_POOL_GET_TIMEOUT", "3s").start();
        let before = tunnel.at_rest();
        let ingress = tunnel.ingress();
        let start = Instant::now();
        set_descriptors(ingress.pid(), 64);
        let users: Vec<TcpStream> = (0..200).map(|_| connect(tunnel.user)).collect();
        users.iter().for_each(|mut user| drop(user.write_all(b"x")));
        let line = ingress.says("Cannot accept connections", GRACE);
        assert!(line.contains("open files"), "{line}");
        // As users leave, others get in, and the lack comes back each time.
        for user in users {
            drop(user);
            std::thread::sleep(Duration::from_millis(2));
        }
        // A server has two listeners; and once all who wait have been let in, the next lack is news.
        // Each listener is tried again every 100 ms.
        let told = ingress.count("Cannot accept connections");
        let most = 4 + 2 * start.elapsed().as_millis() / 100;
        assert!((told as u128) < most, "told {told} times");
        tunnel.up();
        tunnel.rests_again(&before);
        assert_eq!(ingress.ended(), None);
    });
}

/// Lets `attack` at the tunnel's port of plain and TLS servers, while users come and go; all of them must be served, and
/// the server must hold no more afterwards than before.
fn under_attack(attack: impl Fn(SocketAddr) + Sync) {
    for tls in [0, 1] {
        attacked(&format!("tls={tls}"), |tunnel| attack(tunnel.tunnel));
    }
}

/// The same for one server.
fn attacked(query: &str, attack: impl Fn(&Tunnel) + Sync) {
    let _ = raise_limits(1000);
    let tunnel = Tunnel::reverse().server(&format!("max=8&{query}")).start();
    let server = tunnel.server.as_ref().unwrap();
    let (before, memory, mark) = (tunnel.at_rest(), server.own_memory_kb(), server.mark());
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let user = scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                tunnel.echo(b"are you there?");
            }
        });
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| attack(&tunnel)));
        over.store(true, Ordering::SeqCst);
        user.join().expect("a user was not served");
        outcome.expect("the attack did not go as it should");
    });
    tunnel.echo(b"and afterwards");
    assert!(!server.said_after(mark, "Tunnel with"), "the same tunnel all the while");
    tunnel.rests_again(&before);
    // What a crowd leaves goes back to the system a moment after it has gone.
    let back = eventually(GRACE, || server.own_memory_kb() < memory + 4096);
    assert!(back, "{memory} KiB before, {} at rest now", server.own_memory_kb());
}

/// Whether this build has that pool transport.
fn is_built(transport: u8) -> bool {
    kinds().contains(&(transport, 1))
}

/// On a connection that users share, what one of them does not read waits in the process: as much as his window, in KiB.
const WINDOW_KB: usize = 8 * 1024;

/// Changes how many descriptors a process may have.
fn set_descriptors(pid: u32, count: u64) {
    let limit = libc::rlimit { rlim_cur: count, rlim_max: count };
    // SAFETY: the limit is a live value, and no old one is asked for.
    let result = unsafe { libc::prlimit(pid as libc::pid_t, libc::RLIMIT_NOFILE, &limit, std::ptr::null_mut()) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}
