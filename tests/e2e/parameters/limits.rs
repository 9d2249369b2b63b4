//! How much and whom: `min`, `max`, `read`, `rate`, `slot`, `block`, `notcp`, `noudp`.

use crate::support::*;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

// ---- min and max

#[test]
fn min_connections_are_kept_warm_also_while_users_hold_some() {
    each_tunnel(|builder| {
        let tunnel = builder.client("min=12").server("max=12").start();
        let server = tunnel.server.as_ref().unwrap();
        server.checkpoint(|now| now.pool == 12);
        let held: Vec<_> = (0..5).map(|_| tunnel.pair()).collect();
        server.checkpoint(|now| now.tcps == 5 && now.pool == 12);
        tunnel.client.checkpoint(|now| now.tcps == 5 && now.pool == 12);
        drop(held);
        server.checkpoint(|now| now.tcps == 0 && now.pool == 12);
    });
}

#[test]
fn a_quiet_pool_stays_at_min() {
    each_tunnel(|builder| {
        let tunnel = builder.start();
        tunnel.echo(b"hello");
        let seen = tunnel.server.as_ref().unwrap().reports(6);
        assert!(seen.iter().all(|now| now.pool <= POOL + 4), "no user needs more than {POOL}: {seen:?}");
        tunnel.server.as_ref().unwrap().checkpoint(|now| now.pool >= POOL);
    });
}

#[test]
fn the_pool_never_holds_more_than_max() {
    each_tunnel(|builder| {
        let tunnel = builder.client("min=2").server("max=4").start();
        let server = tunnel.server.as_ref().unwrap();
        let mark = server.mark();
        for n in 0..40 {
            tunnel.echo(&noise(n, 100));
        }
        let told = eventually(GRACE, || server.checkpoints_after(mark).len() > 3);
        let seen = server.checkpoints_after(mark);
        assert!(told && seen.iter().all(|now| now.pool <= 4), "{seen:?}");
        server.checkpoint(|now| now.pool >= 2);
    });
}

#[test]
fn min_above_max_swaps_them_and_the_tunnel_works() {
    each_tunnel(|builder| {
        let tunnel = builder.client("min=16").server("max=4").start();
        for n in 0..30 {
            tunnel.echo(&noise(n, 100));
        }
        tunnel.udp_echo(b"hello");
        let now = tunnel.server.as_ref().unwrap().checkpoint(|now| now.pool > 0);
        // A server lets a client of its own kind be ahead of its signals: what keeps the pool small are the client's bounds, 4 to 16 now.
        assert!(now.pool <= 16, "{now:?}");
    });
}

#[test]
fn more_users_than_the_pool_holds_all_get_through() {
    each_tunnel(|builder| {
        let tunnel = builder.client("min=1").server("max=2").start();
        let held: Vec<_> = (0..20).map(|_| tunnel.pair()).collect();
        for (user, served) in &held {
            put(user, b"up");
            assert_eq!(take(served, 2), b"up");
            put(served, b"down");
            assert_eq!(take(user, 4), b"down");
        }
    });
}

// ---- read

#[test]
fn read_closes_an_idle_relay_at_both_ends() {
    each_way(|builder| {
        let tunnel = builder.both("read=3s").start();
        let (user, served) = tunnel.pair();
        let start = Instant::now();
        put(&user, b"x");
        assert_eq!(take(&served, 1), b"x");
        assert_eq!(rest(&user), b"");
        assert!(start.elapsed() > Duration::from_millis(2900), "not before its time");
        assert_eq!(rest(&served), b"");
        tunnel.ingress().checkpoint(|now| now.tcps == 0);
    });
}

#[test]
fn read_at_one_end_closes_the_whole_relay() {
    each_tunnel(|builder| {
        for egress in [false, true] {
            let builder = builder.clone();
            let tunnel = if egress { builder.egress("read=3s") } else { builder.ingress("read=3s") }.start();
            let (user, served) = tunnel.pair();
            assert_eq!(rest(&user), b"");
            assert_eq!(rest(&served), b"");
        }
    });
}

#[test]
fn read_does_not_close_a_relay_in_which_one_direction_moves() {
    each_way(|builder| {
        let tunnel = builder.both("read=4s").start();
        let (up, down) = (tunnel.pair(), tunnel.pair());
        let directions = [(&up.0, &up.1), (&down.1, &down.0)];
        // One in which nothing moves, and which began later: when it is closed, these would have been.
        let (still, _end) = tunnel.pair();
        let closed = eventually(GRACE, || {
            for (from, to) in directions {
                put(from, b"tick");
                assert_eq!(take(to, 4), b"tick");
            }
            is_closed(&still)
        });
        assert!(closed, "nothing moves in it");
        for (from, to) in directions {
            put(to, b"still here");
            assert_eq!(take(from, 10), b"still here");
        }
    });
}

#[test]
fn read_0_never_closes() {
    let tunnel = Tunnel::reverse().both("read=0").start();
    let (user, served) = tunnel.pair();
    // It has looked at its clock again and again.
    tunnel.processes().iter().for_each(|process| drop(process.reports(4)));
    put(&user, b"still here");
    assert_eq!(take(&served, 10), b"still here");
}

// ---- rate

#[test]
fn rate_slows_a_transfer_down_and_it_arrives_whole() {
    each_way(|builder| {
        for egress in [false, true] {
            let builder = builder.clone();
            let tunnel = if egress { builder.egress("rate=8") } else { builder.ingress("rate=8") }.start();
            let before = tunnel.ingress().checkpoint(|now| now.tcps == 0 && now.tcprx > 0);
            let (user, served) = tunnel.pair();
            let start = Instant::now();
            let writers = [(&user, 1), (&served, 2)].map(|(stream, seed)| {
                let stream = stream.try_clone().unwrap();
                std::thread::spawn(move || {
                    put(&stream, &noise(seed, BYTES));
                    end(&stream);
                })
            });
            let reader = std::thread::spawn(move || (rest(&served), start.elapsed()));
            let (down, down_time) = (rest(&user), start.elapsed());
            let (up, up_time) = reader.join().unwrap();
            assert!(down == noise(2, BYTES) && up == noise(1, BYTES), "every byte, both ways");
            for time in [down_time, up_time] {
                assert!(time > MIN_TIME, "{BYTES} bytes at {RATE} bytes/s in {time:?}");
            }
            writers.into_iter().for_each(|writer| writer.join().unwrap());
            let bytes = BYTES as u64;
            tunnel.ingress().checkpoint(|now| {
                now.tcps == 0 && now.tcprx - before.tcprx == bytes && now.tcptx - before.tcptx == bytes
            });
        }
    });
}

#[test]
fn rate_is_shared_by_all_relays() {
    each_way(|builder| {
        let tunnel = builder.ingress("rate=8").start();
        let relays: Vec<_> = (0..4).map(|_| tunnel.pair()).collect();
        let start = Instant::now();
        let threads: Vec<_> = relays
            .into_iter()
            .map(|(user, served)| {
                let writer = std::thread::spawn(move || {
                    put(&user, &noise(3, BYTES / 4));
                    end(&user);
                });
                let reader = std::thread::spawn(move || assert!(rest(&served) == noise(3, BYTES / 4)));
                (writer, reader)
            })
            .collect();
        for (writer, reader) in threads {
            writer.join().unwrap();
            reader.join().unwrap();
        }
        assert!(start.elapsed() > MIN_TIME, "{BYTES} bytes at {RATE} bytes/s in {:?}", start.elapsed());
    });
}

#[test]
fn rate_does_not_keep_a_small_user_waiting_for_a_greedy_one() {
    each_way(|builder| {
        let tunnel = builder.ingress("rate=8").start();
        let (greedy, served) = tunnel.pair();
        tunnel.target.handle(echo);
        // No test waits for these threads: they end with the tunnel.
        std::thread::spawn(move || std::io::Write::write_all(&mut &greedy, &noise(4, 16 * BYTES)));
        std::thread::spawn(move || drop(try_rest(&served)));
        for n in 0..10 {
            tunnel.echo(&noise(n, 200));
            tunnel.udp_echo(&noise(n, 200));
        }
    });
}

// ---- slot

#[test]
fn a_user_above_the_slots_is_closed_at_once_and_logged() {
    each_way(|builder| {
        let tunnel = builder.ingress("slot=2").start();
        tunnel.ingress().checkpoint(|now| now.tcps == 0);
        let first = tunnel.pair();
        let second = tunnel.pair();
        let mark = tunnel.ingress().mark();
        let third = tunnel.connect();
        let port = third.local_addr().unwrap().port();
        assert_eq!(rest(&third), b"");
        let line = tunnel.ingress().says_after(mark, &format!("127.0.0.1:{port}"), GRACE);
        assert!(line.contains("  WARN  "), "{line}");
        put(&first.0, b"the others live");
        assert_eq!(take(&first.1, 15), b"the others live");
        drop(second);
        tunnel.target.handle(echo);
        until("a free slot", GRACE, || exchange(tunnel.user, b"hello"));
    });
}

#[test]
fn tcp_users_and_known_udp_sessions_share_the_slots() {
    each_way(|builder| {
        let tunnel = builder.ingress("slot=1").env("NP_UDP_READ_TIMEOUT", "1s").start();
        tunnel.ingress().checkpoint(|now| now.tcps == 0);
        tunnel.udp_echo(b"hello");
        assert!(tunnel.ingress().checkpoint(|_| true).udps <= 1);
        // The session ends when it is idle, and its slot is free again.
        until("a free slot", GRACE, || exchange(tunnel.user, b"hello"));
        tunnel.ingress().checkpoint(|now| now.tcps == 0 && now.udps == 0);
        let (held, served) = tunnel.pair();
        put(&held, b"x");
        assert_eq!(take(&served, 1), b"x");
        // A new session has a place apart, and keeps it where there is no slot.
        tunnel.udp_echo(b"hello");
        tunnel.udp_echo(b"hello");
        assert!(tunnel.ingress().checkpoint(|now| now.tcps == 1).udps <= 1, "the other has made room");
        drop((held, served));
    });
}

#[test]
fn slot_0_is_no_limit() {
    let tunnel = Tunnel::reverse().both("slot=0").start();
    let held: Vec<_> = (0..60).map(|_| tunnel.pair()).collect();
    tunnel.server.as_ref().unwrap().checkpoint(|now| now.tcps == 60);
    drop(held);
}

// ---- block

const SOCKS: &[&[u8]] = &[
    b"\x04\x01\x00\x50\x01\x02\x03\x04\x00",
    b"\x04\x02\x00\x50\x01\x02\x03\x04\x00",
    b"\x05\x01\x00",
    b"\x05\x02\x00\x02",
    b"\x05\x03\x00\x01\x02\x00\x00\x00",
];
const HTTP: &[&[u8]] = &[b"GET / HTTP/1.1\r\n\r\n", b"CONNECT a:1 HTTP/1.1\r\n\r\n", b"OPTIONS * HTTP/1.1\r\n\r\n"];
const TLS: &[&[u8]] = &[b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\x16"];
const OTHER: &[&[u8]] = &[
    b"SSH-2.0-x\r\n",
    b"\x04\x03\x00\x00\x00\x00\x00\x00",
    b"\x05\x04\x00\x00\x00\x00\x00\x00",
    b"\x05\x00\x00\x00\x00\x00\x00\x00",
    b"LONGERTHAN8 x",
    b"get / HTTP/1.1",
    b"hi",
    b"A",
    b"\x05",
];

fn blocked(tunnel: &Tunnel, openings: &[&[u8]]) {
    for opening in openings {
        let (user, accepted) = opened(tunnel, &[opening]);
        assert_eq!(rest(&user), b"", "{opening:?} is refused");
        let port = user.local_addr().unwrap().port();
        let line = tunnel.ingress().says(&format!("127.0.0.1:{port}"), GRACE);
        assert!(line.contains("  WARN  ") || tunnel.ingress().count(&format!("127.0.0.1:{port}")) > 1, "{line}");
        if tunnel.flow != Flow::Single {
            // (A single-end forwarder looks after its targets itself.)
            assert_eq!(tunnel.target.accepted(), accepted, "the target hears nothing of {opening:?}");
        }
    }
}

/// A user who has said these pieces without the pause after which a silent user is let in (200 ms), and how many the target
/// had accepted before him.
fn opened(tunnel: &Tunnel, pieces: &[&[u8]]) -> (TcpStream, usize) {
    loop {
        let accepted = tunnel.target.accepted();
        let (mut said, mut longest) = (Instant::now(), Duration::ZERO);
        let user = tunnel.connect();
        for piece in pieces {
            // The refusal may come while we write.
            if std::io::Write::write_all(&mut &user, piece).is_err() {
                break;
            }
            longest = longest.max(said.elapsed());
            said = Instant::now();
            std::thread::sleep(Duration::from_millis(if pieces.len() > 1 { 5 } else { 0 }));
        }
        if longest < Duration::from_millis(150) {
            return (user, accepted);
        }
        drop(user);
        tunnel.ingress().checkpoint(|now| now.tcps == 0);
    }
}

fn passes(tunnel: &Tunnel, openings: &[&[u8]]) {
    for opening in openings {
        tunnel.echo(opening);
    }
}

#[test]
fn block_refuses_what_it_names_and_nothing_else() {
    each_way(|builder| {
        for (digits, refused, let_in) in [
            ("0", &[][..], &[SOCKS, HTTP, TLS, OTHER][..]),
            ("1", &[SOCKS], &[HTTP, TLS, OTHER]),
            ("2", &[HTTP], &[SOCKS, TLS, OTHER]),
            ("3", &[TLS], &[SOCKS, HTTP, OTHER]),
            ("31", &[SOCKS, TLS], &[HTTP, OTHER]),
            ("123", &[SOCKS, HTTP, TLS], &[OTHER]),
        ] {
            let tunnel = builder.clone().ingress(&format!("block={digits}")).start();
            refused.iter().for_each(|openings| blocked(&tunnel, openings));
            let_in.iter().for_each(|openings| passes(&tunnel, openings));
        }
    });
}

#[test]
fn block_sees_an_opening_that_comes_byte_by_byte() {
    let tunnel = Tunnel::reverse().ingress("block=123").start();
    for opening in [SOCKS[2], HTTP[0]] {
        let bytes: Vec<&[u8]> = opening.chunks(1).collect();
        let (user, _) = opened(&tunnel, &bytes);
        assert_eq!(rest(&user), b"");
    }
}

#[test]
fn block_lets_a_user_through_who_waits_for_the_targets_first_word() {
    each_way(|builder| {
        let tunnel = builder.ingress("block=123").start();
        tunnel.target.handle(|mut stream| {
            let _ = std::io::Write::write_all(&mut stream, b"220 ready\r\n");
            echo(stream);
        });
        let user = tunnel.connect();
        assert_eq!(take(&user, 11), b"220 ready\r\n");
        put(&user, b"EHLO me\r\n");
        assert_eq!(take(&user, 9), b"EHLO me\r\n");
    });
}

#[test]
fn block_does_not_lose_the_end_of_a_short_user() {
    each_way(|builder| {
        let tunnel = builder.ingress("block=123").start();
        let caught = tunnel.target.catch();
        let user = tunnel.connect();
        put(&user, b"GE");
        end(&user);
        let served = caught.next_speaker();
        assert_eq!(rest(&served), b"GE");
        put(&served, b"who?");
        drop(served);
        assert_eq!(rest(&user), b"who?");
    });
}

#[test]
fn silent_users_do_not_hold_up_others_while_block_waits() {
    let tunnel = Tunnel::reverse().ingress("block=123").start();
    let _silent: Vec<TcpStream> = (0..100).map(|_| tunnel.connect()).collect();
    passes(&tunnel, OTHER);
}

// ---- notcp and noudp

#[test]
fn notcp_carries_datagrams_only() {
    each_way(|builder| {
        let tunnel = builder.both("notcp=1").start();
        tunnel.udp_echo(b"hello");
        assert!(try_connect(tunnel.user).is_err(), "no program listens for TCP");
        tunnel.ingress().checkpoint(|now| now.tcprx == 0);
        assert_eq!(tunnel.target.accepted(), 0, "there is no dial over TCP");
        free_for_tcp(tunnel.user);
    });
}

#[test]
fn noudp_carries_connections_only() {
    each_way(|builder| {
        let tunnel = builder.both("noudp=1").start();
        tunnel.echo(b"hello");
        let free = UdpSocket::bind(tunnel.user).expect("no program listens for UDP");
        drop(free);
        let user = udp_user(tunnel.user);
        user.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        user.send(b"hello").unwrap();
        assert!(user.recv(&mut [0; 10]).is_err());
        assert_eq!(tunnel.target.datagrams(), 0);
    });
}

#[test]
fn a_side_that_does_not_carry_a_protocol_refuses_it_whatever_the_other_says() {
    each_tunnel(|builder| {
        let tunnel = builder.clone().egress("noudp=1").start();
        tunnel.echo(b"hello");
        let user = udp_user(tunnel.user);
        user.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        user.send(b"hello").unwrap();
        assert!(user.recv(&mut [0; 10]).is_err());
        assert_eq!(tunnel.target.datagrams(), 0);
        tunnel.egress().says("refused: this protocol is switched off (notcp, noudp)", GRACE);
        tunnel.echo(b"and the tunnel stays");

        let target = Target::echo();
        let tunnel = builder.egress("notcp=1").target(target.addr()).start();
        assert_eq!(udp_echo(tunnel.user, b"hello").unwrap(), b"hello");
        if let Ok(user) = try_connect(tunnel.user) {
            assert_eq!(rest(&user), b"");
        }
        assert_eq!(target.accepted(), 0);
        assert_eq!(udp_echo(tunnel.user, b"hello").unwrap(), b"hello");
    });
}

fn free_for_tcp(addr: SocketAddr) {
    TcpListener::bind(addr).expect("no program listens for TCP");
}

/// `rate=8`: bytes a second.
const RATE: usize = 1_000_000;
const BYTES: usize = 4_000_000;
/// A burst of one second's worth is free, the rest takes its time; a tenth is left to rounding.
const MIN_TIME: Duration = Duration::from_millis(2700);
