//! What happens to one user's TCP connection, from end to end: bytes, ends, resets, timeout.
//!
//! Every test runs through both flows, plain and with TLS, and through the single-end forwarder.

use crate::support::*;
use socket2::SockRef;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Duration;

#[test]
fn an_end_from_the_user_arrives_alone_and_the_answer_comes_after_it() {
    each_way(|builder| {
        let tunnel = builder.start();
        let (user, served) = tunnel.pair();
        put(&user, &noise(1, 100_000));
        end(&user);
        assert_eq!(rest(&served), noise(1, 100_000), "all bytes, then the end, at the target");
        // The answer is long: it must not be cut because the other direction is over.
        let answer = noise(2, 4 * MB);
        let writer = std::thread::spawn(move || put(&served, &answer));
        assert!(rest(&user) == noise(2, 4 * MB), "the whole answer, then the end, at the user");
        writer.join().unwrap();
        tunnel.ingress().checkpoint(|now| now.tcps == 0);
        tunnel.egress().checkpoint(|now| now.tcps == 0);
    });
}

#[test]
fn an_end_from_the_target_arrives_alone_and_the_user_goes_on_sending() {
    each_way(|builder| {
        let tunnel = builder.start();
        let (user, served) = tunnel.pair();
        put(&served, b"only this");
        end(&served);
        assert_eq!(rest(&user), b"only this");
        let more = noise(3, 4 * MB);
        let writer = std::thread::spawn(move || put(&user, &more));
        assert!(rest(&served) == noise(3, 4 * MB), "what the user sent after the target's end");
        writer.join().unwrap();
        tunnel.ingress().checkpoint(|now| now.tcps == 0);
    });
}

#[test]
fn an_end_before_any_byte_is_an_end_too() {
    each_way(|builder| {
        let tunnel = builder.start();
        let (user, served) = tunnel.pair();
        end(&user);
        assert_eq!(rest(&served), b"");
        put(&served, b"still here");
        drop(served);
        assert_eq!(rest(&user), b"still here");

        let (user, served) = tunnel.pair();
        drop(served);
        assert_eq!(rest(&user), b"");
    });
}

#[test]
fn a_user_who_ends_at_once_still_gets_his_answer() {
    each_way(|builder| {
        let tunnel = builder.start();
        tunnel.target.handle(|mut stream| {
            let mut question = Vec::new();
            let _ = stream.read_to_end(&mut question);
            let _ = stream.write_all(&[&b"you said "[..], &question].concat());
        });
        // Bytes and end travel on the pool connection and may be there before the signal that says whose they are.
        for question in [&b"something"[..], b""] {
            for _ in 0..30 {
                let user = tunnel.connect();
                put(&user, question);
                end(&user);
                assert_eq!(rest(&user), [b"you said ", question].concat());
            }
        }
    });
}

#[test]
fn a_reset_of_the_user_ends_the_targets_connection() {
    each_way(|builder| {
        let tunnel = builder.start();
        for in_flight in [0, 200_000] {
            let (user, served) = joined(&tunnel);
            put(&user, &noise(4, in_flight));
            reset(user);
            rest(&served);
        }
        tunnel.egress().checkpoint(|now| now.tcps == 0);
        tunnel.ingress().checkpoint(|now| now.tcps == 0);
        tunnel.target.handle(echo);
        tunnel.echo(b"the tunnel is still up");
    });
}

#[test]
fn a_reset_of_the_target_ends_the_users_connection() {
    each_way(|builder| {
        let tunnel = builder.start();
        for in_flight in [0, 200_000] {
            let (user, served) = joined(&tunnel);
            put(&served, &noise(5, in_flight));
            reset(served);
            rest(&user);
        }
        tunnel.egress().checkpoint(|now| now.tcps == 0);
        tunnel.ingress().checkpoint(|now| now.tcps == 0);
        tunnel.target.handle(echo);
        tunnel.echo(b"the tunnel is still up");
    });
}

#[test]
fn a_reset_after_a_half_close_ends_the_rest() {
    each_way(|builder| {
        let tunnel = builder.start();
        let (user, served) = joined(&tunnel);
        end(&user);
        assert_eq!(rest(&served), b"", "the end of the user's direction");
        reset(served);
        rest(&user);

        let (user, served) = joined(&tunnel);
        end(&served);
        assert_eq!(rest(&user), b"", "the end of the target's direction");
        reset(user);
        rest(&served);
        tunnel.egress().checkpoint(|now| now.tcps == 0);
        tunnel.ingress().checkpoint(|now| now.tcps == 0);
    });
}

#[test]
fn eight_megabytes_both_ways_at_once_arrive_whole() {
    each_way(|builder| {
        let tunnel = builder.start();
        let (user, served) = tunnel.pair();
        let send = |stream: &TcpStream, seed: u64| {
            let stream = stream.try_clone().unwrap();
            std::thread::spawn(move || {
                put(&stream, &noise(seed, 8 * MB));
                end(&stream);
            })
        };
        let writers = [send(&user, 6), send(&served, 7)];
        let reader = std::thread::spawn(move || rest(&served));
        assert!(rest(&user) == noise(7, 8 * MB), "the target's bytes");
        assert!(reader.join().unwrap() == noise(6, 8 * MB), "the user's bytes");
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        let (ingress, egress) = (tunnel.ingress(), tunnel.egress());
        let total = 8 * MB as u64;
        ingress.checkpoint(|now| now.tcps == 0 && now.tcprx >= total && now.tcptx >= total);
        egress.checkpoint(|now| now.tcps == 0 && now.tcprx >= total && now.tcptx >= total);
    });
}

#[test]
fn a_last_word_before_a_close_is_not_lost() {
    each_way(|builder| {
        let tunnel = builder.start();
        tunnel.target.handle(|mut stream| {
            let _ = stream.write_all(&noise(8, MB));
        });
        for _ in 0..10 {
            assert!(rest(&tunnel.connect()) == noise(8, MB), "what the target sent before it closed");
        }
        for _ in 0..10 {
            let (user, served) = tunnel.pair();
            let writer = std::thread::spawn(move || put(&user, &noise(9, MB)));
            assert!(rest(&served) == noise(9, MB), "what the user sent before it closed");
            writer.join().unwrap();
        }
    });
}

#[test]
fn code_that_only_the_start_needed_is_unmapped_and_comes_back() {
    let tunnel = Tunnel::reverse().server("tls=1").start();
    tunnel.processes().iter().for_each(|process| process.settles());
    tunnel.echo(b"as at the start");
}

#[test]
fn a_sleeping_reader_stops_the_sender_and_memory_stays_small() {
    each_way(|builder| {
        let most = MAX_GROWTH_KB + if builder.is_shared() { STREAM_KB } else { 0 };
        let tunnel = builder.start();
        for downwards in [false, true] {
            let (user, served) = tunnel.pair();
            let (sender, reader) = if downwards { (served, user) } else { (user, served) };
            let before: Vec<usize> = tunnel.processes().iter().map(|process| process.own_memory_kb()).collect();
            sender.set_write_timeout(Some(STALL)).unwrap();
            let pattern = noise(10, 1 << 16);
            let mut sent = 0;
            // Kernel buffers on the way take some megabytes; then the sender must be stopped.
            loop {
                match (&sender).write(&pattern[sent % pattern.len()..]) {
                    Ok(len) => sent += len,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => panic!("the sender was not stopped but cut: {error}"),
                }
                assert!(sent < MAX_IN_FLIGHT, "{sent} bytes are in flight and not read");
            }
            for (process, before) in tunnel.processes().iter().zip(before) {
                let grown = process.own_memory_kb().saturating_sub(before);
                assert!(grown < most, "{process:?} grew by {grown} KB while it was not read");
            }
            // The reader wakes up greedy, and nothing is missing.
            end(&sender);
            let mut read = 0;
            let mut buffer = vec![0; 1 << 16];
            loop {
                let len = (&reader).read(&mut buffer).expect("the rest of the bytes");
                if len == 0 {
                    break;
                }
                for byte in &buffer[..len] {
                    assert_eq!(*byte, pattern[read % pattern.len()], "byte {read}");
                    read += 1;
                }
            }
            assert_eq!(read, sent);
        }
    });
}

#[test]
fn users_who_never_read_do_not_disturb_others_and_leave_nothing_behind() {
    each_way(|builder| {
        // All that is sent here keeps a small machine busy: no user is turned away for that.
        let tunnel = builder.server("max=8").env("NP_POOL_GET_TIMEOUT", "20s").start();
        let before = tunnel.at_rest();
        let stop = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&stop);
        tunnel.target.handle(move |mut stream| {
            let chunk = noise(11, 1 << 16);
            let _ = stream.set_write_timeout(Some(Duration::from_millis(200)));
            while !ended.load(Ordering::SeqCst) {
                match stream.write_all(&chunk) {
                    Err(error) if error.kind() != ErrorKind::WouldBlock => return,
                    _ => {}
                }
            }
        });
        // More than the pool holds, and few enough for the kernel's memory for TCP: each takes megabytes in all ways at once.
        let deaf: Vec<TcpStream> = (0..12).map(|_| tunnel.connect()).collect();
        assert!(eventually(GRACE, || tunnel.target.accepted() > 12), "all of them are served");
        tunnel.target.handle(echo);
        for n in 0..20 {
            tunnel.echo(&noise(n, 10_000));
        }
        drop(deaf);
        stop.store(true, Ordering::SeqCst);
        tunnel.rests_again(&before);
    });
}

#[test]
fn urgent_data_stops_nothing() {
    each_way(|builder| {
        let tunnel = builder.start();
        let (user, served) = tunnel.pair();
        for (from, to) in [(&user, &served), (&served, &user)] {
            put(from, b"before");
            assert_eq!(take(to, 6), b"before");
            for n in 0..3 {
                let data = noise(n, 300_000);
                std::thread::scope(|scope| {
                    scope.spawn(|| {
                        put(from, &data[..150_000]);
                        // What is urgent arrives or not; all else does.
                        SockRef::from(from).send_out_of_band(b"!").expect("an urgent byte");
                        put(from, &data[150_000..]);
                    });
                    let mut got = take(to, data.len());
                    if got != data {
                        assert_eq!(got.remove(150_000), b'!');
                        got.extend(take(to, 1));
                    }
                    assert!(got == data, "other bytes arrived");
                });
            }
        }
        // The end right behind it, and both at once.
        let caught = tunnel.target.catch();
        let hasty = tunnel.connect();
        put(&hasty, b"abc");
        SockRef::from(&hasty).send_out_of_band(b"!").expect("an urgent byte");
        put(&hasty, b"def");
        end(&hasty);
        let arrived = rest(&caught.next_speaker());
        assert!(arrived == b"abc!def" || arrived == b"abcdef", "{arrived:?}");
    });
}

#[test]
fn a_user_who_lives_and_does_not_read_is_not_taken_for_dead() {
    let tunnel = Tunnel::single().env("NP_TCP_KEEPALIVE", "1s").start();
    let (user, served) = tunnel.pair();
    let data = noise(1, 32 * MB);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            put(&served, &data);
            end(&served);
        });
        // Dead ones would be given up after four seconds.
        tunnel.client.reports(7);
        assert!(rest(&user) == data, "other bytes arrived");
    });
}

#[test]
fn a_target_that_refuses_ends_the_user_and_not_the_tunnel() {
    each_way(|builder| {
        let addr = free_addr();
        let first = Target::at(addr);
        let tunnel = builder.target(addr).start();
        tunnel.up();
        drop(first);
        for _ in 0..3 {
            assert_eq!(rest(&tunnel.connect()), b"");
        }
        let _back = Target::at(addr);
        tunnel.echo(b"the target is back");
        tunnel.ingress().checkpoint(|now| now.tcps == 0);
    });
}

#[test]
fn many_short_connections_leave_nothing_behind() {
    each_way(|builder| {
        let tunnel = builder.server("max=8").start();
        let before = tunnel.at_rest();
        for n in 0..200_u64 {
            tunnel.echo(&noise(n, 100 + n as usize));
        }
        std::thread::scope(|scope| {
            for n in 0..20 {
                let tunnel = &tunnel;
                scope.spawn(move || (0..10).for_each(|_| tunnel.echo(&noise(n, 20_000))));
            }
        });
        // Users who leave at once, or break off, leave nothing behind either.
        for n in 0..50 {
            let user = tunnel.connect();
            if n % 2 == 0 {
                reset(user);
            }
        }
        tunnel.rests_again(&before);
        tunnel.echo(b"and it goes on");
    });
}

#[test]
fn a_target_that_speaks_first_is_heard() {
    each_way(|builder| {
        let tunnel = builder.start();
        tunnel.target.handle(|mut stream| {
            let _ = stream.write_all(b"220 ready\r\n");
            echo(stream);
        });
        let user = tunnel.connect();
        assert_eq!(take(&user, 11), b"220 ready\r\n");
        put(&user, b"more");
        assert_eq!(take(&user, 4), b"more");
    });
}

#[test]
fn a_tunnel_with_certificate_files_carries_ends_and_bytes_too() {
    if program("openssl").is_none() {
        return;
    }
    each_tunnel(|builder| {
        if !builder.encrypted() {
            return;
        }
        let tunnel = builder.certified().start();
        let (user, served) = tunnel.pair();
        put(&user, &noise(12, MB));
        end(&user);
        assert!(rest(&served) == noise(12, MB));
        put(&served, b"the answer");
        drop(served);
        assert_eq!(rest(&user), b"the answer");
        tunnel.udp_echo(&noise(13, 9000));
    });
}

/// A relay that has carried a byte each way.
fn joined(tunnel: &Tunnel) -> (TcpStream, TcpStream) {
    let (user, served) = tunnel.pair();
    put(&user, b"x");
    assert_eq!(take(&served, 1), b"x");
    put(&served, b"y");
    assert_eq!(take(&user, 1), b"y");
    (user, served)
}

const MB: usize = 1 << 20;
/// A sender that gets rid of nothing for so long has been stopped.
const STALL: Duration = Duration::from_millis(1500);
/// What kernel buffers of all sockets on the way may swallow, in bytes.
const MAX_IN_FLIGHT: usize = 128 * MB;
/// How much a process may grow while a reader sleeps.
const MAX_GROWTH_KB: usize = 4096;
/// What may wait in one stream of a shared connection, since the kernel holds nothing of it.
const STREAM_KB: usize = 8192;
