//! Datagrams from end to end: their boundaries, their sessions, their addresses.

use crate::support::*;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

#[test]
fn datagrams_of_every_size_keep_their_boundaries_both_ways() {
    each_way(|builder| {
        let tunnel = builder.start();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sizes = Arc::clone(&seen);
        tunnel.target.answer(move |socket, data, from| {
            sizes.lock().unwrap().push(data.len());
            let _ = socket.send_to(data, from);
        });
        let user = udp_user(tunnel.user);
        let mut buffer = vec![0; 65536];
        // One at a time, as large ones do not wait side by side in a socket's buffer.
        let wanted = [0, 1, 1472, 1473, 9000, 65507, 2, 65507, 0, 16384, 16385];
        for (n, len) in wanted.into_iter().enumerate() {
            let data = noise(n as u64, len);
            assert_eq!(user.send(&data).unwrap(), len);
            let back = user.recv(&mut buffer).unwrap_or_else(|error| panic!("datagram {n} of {len} bytes: {error}"));
            assert!(buffer[..back] == data, "{len} bytes went, {back} came back");
        }
        assert_eq!(*seen.lock().unwrap(), wanted, "as the target saw them");
    });
}

#[test]
fn datagrams_back_to_back_are_neither_joined_nor_cut() {
    each_way(|builder| {
        let tunnel = builder.start();
        tunnel.udp_echo(b"are you there");
        let user = udp_user(tunnel.user);
        let mut buffer = vec![0; 65536];
        // While a session is made only a few datagrams wait for it.
        user.send(b"first").unwrap();
        assert_eq!(user.recv(&mut buffer).expect("the first answer"), 5);
        let sent: Vec<Vec<u8>> = (0..24).map(|n| noise(n, [1, 0, 100, 1472, 5, 4000][n as usize % 6])).collect();
        for data in &sent {
            user.send(data).unwrap();
        }
        for data in &sent {
            let len = user.recv(&mut buffer).unwrap_or_else(|error| panic!("a datagram is missing: {error}"));
            assert!(buffer[..len] == *data, "{} bytes went, {len} came back", data.len());
        }
    });
}

#[test]
fn one_question_may_have_many_answers() {
    each_way(|builder| {
        let tunnel = builder.start();
        tunnel.udp_echo(b"are you there");
        tunnel.target.answer(|socket, data, from| {
            for n in 0..10 {
                let _ = socket.send_to(&[data, &[n]].concat(), from);
            }
        });
        let user = udp_user(tunnel.user);
        user.send(b"what is new").unwrap();
        let mut buffer = [0; 100];
        for n in 0..10 {
            let len = user.recv(&mut buffer).expect("an answer");
            assert_eq!(buffer[..len], *[&b"what is new"[..], &[n]].concat());
        }
    });
}

#[test]
fn a_source_keeps_its_session_and_others_get_their_own() {
    each_way(|builder| {
        let tunnel = builder.start();
        tunnel.udp_echo(b"are you there");
        name_the_source(&tunnel.target);
        let users: Vec<UdpSocket> = (0..5).map(|_| udp_user(tunnel.user)).collect();
        let sources = |round: u8| -> Vec<u16> { users.iter().map(|user| source_of(user, &[round])).collect() };
        let first = sources(1);
        assert_eq!(first, sources(2), "each user keeps its source at the target");
        let mut different = first.clone();
        different.sort_unstable();
        different.dedup();
        assert_eq!(different.len(), users.len(), "each user has a source of its own");
    });
}

#[test]
fn thousands_of_sessions_get_their_own_answers_from_few_threads_and_are_closed_when_idle() {
    if !raise_limits(4 * SESSIONS) {
        return;
    }
    for builder in [Tunnel::single(), Tunnel::reverse(), Tunnel::forward().server("tls=1")] {
        let tunnel = builder.server("max=8").client("log=info").env("NP_UDP_READ_TIMEOUT", "15s").start();
        let before = tunnel.at_rest();
        name_the_source(&tunnel.target);
        let users: Vec<UdpSocket> = (0..SESSIONS).map(|_| udp_user(tunnel.user)).collect();
        let first = ask_all(&users);
        let mut different = first.clone();
        different.sort_unstable();
        different.dedup();
        assert_eq!(different.len(), users.len(), "a source for each");
        for (process, before) in tunnel.processes().iter().zip(&before) {
            assert!(process.sockets() > SESSIONS / 2, "they live side by side: {} sockets", process.sockets());
            assert!(process.threads() <= before.threads, "{process:?}: {} threads, {before:?}", process.threads());
        }
        tunnel.rests_again(&before);
        assert_eq!(ask_all(&users[..10]).len(), 10, "who comes back gets a new session");
    }
}

#[test]
fn an_active_session_outlives_the_idle_time() {
    each_way(|builder| {
        let tunnel = builder.env("NP_UDP_READ_TIMEOUT", "2s").start();
        tunnel.udp_echo(b"are you there");
        name_the_source(&tunnel.target);
        let user = udp_user(tunnel.user);
        let (mut asked, mut since) = (Instant::now(), Instant::now());
        let mut source = source_of(&user, b"0");
        while since.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(200));
            let before = std::mem::replace(&mut asked, Instant::now());
            let now = source_of(&user, b"0");
            if now != source {
                assert!(before.elapsed() >= Duration::from_secs(2), "another session");
                // The machine slept: it may have been idle for so long.
                (source, since) = (now, asked);
            }
        }
    });
}

#[test]
fn answers_come_from_the_address_that_was_asked() {
    for builder in [Tunnel::single(), Tunnel::reverse(), Tunnel::forward(), Tunnel::reverse().server("tls=1")] {
        for host in ["", "0.0.0.0", "[::]"] {
            if host == "[::]" && !has_ipv6() {
                continue;
            }
            let tunnel = builder.clone().user_host(host).start();
            let port = tunnel.user.port();
            let mut asked = Vec::new();
            if host != "[::]" {
                asked.extend(["127.0.0.1", "127.0.0.2", "127.1.2.3"]);
            }
            if host != "0.0.0.0" && has_ipv6() {
                asked.push("::1");
            }
            for ip in asked {
                // A connected socket hears only what comes from the very address it asked.
                let to = SocketAddr::new(ip.parse().unwrap(), port);
                let back = udp_echo(to, b"who are you").unwrap_or_else(|error| panic!("{to} at {host:?}: {error}"));
                assert_eq!(back, b"who are you");
            }
        }
    }
}

#[test]
fn a_datagram_above_the_limit_is_dropped_and_told_and_never_cut() {
    each_way(|builder| {
        let tunnel = builder.env("NP_UDP_DATA_BUF_SIZE", "1000").start();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sizes = Arc::clone(&seen);
        tunnel.target.answer(move |socket, data, from| {
            sizes.lock().unwrap().push(data.len());
            // The question "big" wants an answer above the limit.
            let answer = if data == b"big" { noise(2, 1001) } else { data.to_vec() };
            let _ = socket.send_to(&answer, from);
        });
        let user = udp_user(tunnel.user);
        let mut buffer = vec![0; 65536];
        user.send(&noise(1, 1001)).unwrap();
        user.send(b"after the first").unwrap();
        assert_eq!(user.recv(&mut buffer).expect("the second datagram"), 15);
        assert!(tunnel.ingress().says("drop", GRACE).contains("1001") || tunnel.ingress().said("1000"));
        user.send(&noise(1, 1000)).unwrap();
        assert_eq!(user.recv(&mut buffer).expect("the largest there may be"), 1000);
        user.send(b"big").unwrap();
        user.send(b"after the big answer").unwrap();
        assert_eq!(user.recv(&mut buffer).expect("the answer to the last question"), 20);
        tunnel.egress().says("drop", GRACE);
        assert_eq!(*seen.lock().unwrap(), [15, 1000, 3, 20], "nothing was cut on the way");
    });
}

#[test]
fn a_session_survives_a_target_that_is_not_there_yet() {
    each_way(|builder| {
        let addr = free_addr();
        let tunnel = builder.target(addr).start();
        let user = udp_user(tunnel.user);
        for _ in 0..3 {
            user.send(b"too early").unwrap();
            user.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            let back = user.recv(&mut [0; 100]).map_err(|error| error.kind());
            assert_eq!(back, Err(ErrorKind::WouldBlock), "silence, as no target is there");
        }
        let _target = Target::at(addr);
        let mut buffer = [0; 100];
        until("an answer for the same user", GRACE, || {
            user.send(b"are you there now")?;
            match user.recv(&mut buffer)? {
                len if &buffer[..len] == b"are you there now" => Ok(()),
                // The early ones may have waited long enough to be answered.
                len => Err(std::io::Error::other(String::from_utf8_lossy(&buffer[..len]))),
            }
        });
    });
}

#[test]
fn a_target_that_refuses_is_told_once_and_does_not_hold_up_a_stop() {
    each_way(|builder| {
        let addr = free_addr();
        let tunnel = builder.target(addr).env("NP_SHUTDOWN_TIMEOUT", "10m").start();
        let user = udp_user(tunnel.user);
        user.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let egress = tunnel.egress();
        let told = |line: &str| line.contains("The target refuses datagrams") && line.contains("  WARN  ");
        let heard = eventually(GRACE, || {
            let _ = user.send(b"are you there?").and_then(|_| user.recv(&mut [0; 100]));
            egress.lines().iter().any(|line| told(line))
        });
        assert!(heard, "it is told");
        for _ in 0..20 {
            let _ = user.send(b"are you there?").and_then(|_| user.recv(&mut [0; 100]));
        }
        assert_eq!(egress.lines().iter().filter(|line| told(line)).count(), 1);
        egress.terminate();
        assert_eq!(egress.wait(GRACE), 0);
    });
}

#[test]
fn the_counters_count_payload() {
    each_way(|builder| {
        let tunnel = builder.start();
        tunnel.target.answer(|socket, data, from| {
            let _ = socket.send_to(&data[..data.len() / 2], from);
        });
        let user = udp_user(tunnel.user);
        user.send(&noise(1, 3000)).unwrap();
        assert_eq!(user.recv(&mut [0; 4000]).expect("an answer"), 1500);
        tunnel.ingress().checkpoint(|now| (now.udprx, now.udptx) == (3000, 1500));
        if tunnel.flow != Flow::Single {
            tunnel.egress().checkpoint(|now| (now.udprx, now.udptx) == (1500, 3000));
        }
    });
}

/// The target answers with the port that it was asked from, and the question.
fn name_the_source(target: &Target) {
    target.answer(|socket, data, from| {
        let _ = socket.send_to(&[&from.port().to_be_bytes(), data].concat(), from);
    });
}

fn source_of(user: &UdpSocket, question: &[u8]) -> u16 {
    user.send(question).unwrap();
    let mut buffer = [0; 100];
    let len = user.recv(&mut buffer).expect("an answer");
    assert_eq!(&buffer[2..len], question);
    u16::from_be_bytes([buffer[0], buffer[1]])
}

/// Every user asks his own question, a hundred at a time, and must get his own answer. A lost datagram is sent again.
fn ask_all(users: &[UdpSocket]) -> Vec<u16> {
    let mut sources = Vec::with_capacity(users.len());
    let mut buffer = [0; 100];
    for (wave, users) in users.chunks(100).enumerate() {
        let question = |n: usize| format!("I am user {wave}.{n}").into_bytes();
        for (n, user) in users.iter().enumerate() {
            user.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
            user.send(&question(n)).unwrap();
        }
        for (n, user) in users.iter().enumerate() {
            let len =
                until("an answer", GRACE, || user.recv(&mut buffer).inspect_err(|_| drop(user.send(&question(n)))));
            assert_eq!(&buffer[2..len], question(n), "his own answer");
            sources.push(u16::from_be_bytes([buffer[0], buffer[1]]));
        }
    }
    sources
}

/// How many UDP sessions live side by side.
const SESSIONS: usize = 2000;
