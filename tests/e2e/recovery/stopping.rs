//! SIGTERM and SIGINT: relays may finish, no new users come in, and it ends when it should.

use super::{each_flow, Urls};
use crate::support::*;
use std::net::TcpStream;

/// Longer than this test waits for anything: what ends before it does not end because of it.
const LONG: (&str, &str) = ("NP_SHUTDOWN_TIMEOUT", "10m");

#[test]
fn a_transfer_in_progress_completes_and_then_the_program_ends_with_success() {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        each_end(|builder, ingress| {
            let tunnel = builder.server("max=8").env(LONG.0, LONG.1).start();
            let process = if ingress { tunnel.ingress() } else { tunnel.egress() };
            let (user, served) = tunnel.pair();
            put(&user, b"give");
            assert_eq!(take(&served, 4), b"give");
            put(&served, &noise(1, MB));
            assert!(take(&user, 1000) == noise(1, 1000));

            process.signal(signal);
            process.says("Stopping", GRACE);
            put(&user, b"more");
            assert_eq!(take(&served, 4), b"more");
            let sender = std::thread::spawn(move || {
                put(&served, &noise(2, 4 * MB));
                end(&served);
                served
            });
            let mut expected = noise(1, MB)[1000..].to_vec();
            expected.extend(noise(2, 4 * MB));
            let got = rest(&user);
            assert!(got == expected, "{} bytes of {}", got.len(), expected.len());
            assert_eq!(process.ended(), None, "one direction is still open");
            end(&user);
            let served = sender.join().unwrap();
            assert_eq!(rest(&served), b"");
            assert_eq!(process.wait(GRACE), 0);
        });
    }
}

#[test]
fn while_it_stops_no_new_users_come_in() {
    each_way(|builder| {
        let tunnel = builder.server("max=8").env(LONG.0, LONG.1).start();
        let ingress = tunnel.ingress();
        let (_user, served) = joined(&tunnel);
        ingress.terminate();
        ingress.says("Stopping", GRACE);
        assert!(eventually(GRACE, || try_connect(tunnel.user).is_err()), "the public port is closed");
        if tunnel.flow == Flow::Reverse {
            assert!(eventually(GRACE, || try_connect(tunnel.tunnel).is_err()), "the tunnel port is closed");
        }
        put(&served, b"x");
        assert_eq!(ingress.ended(), None);
    });
}

#[test]
fn a_client_goes_on_with_the_next_server_while_users_of_the_one_that_stops_finish() {
    each_tunnel(|builder| {
        // A QUIC server's port is that of its users' streams, too.
        if builder.transport() == 1 {
            return;
        }
        let mut tunnel = builder.server("max=8").env(LONG.0, LONG.1).start();
        let (user, served) = joined(&tunnel);
        let stopped = tunnel.server.take().expect("a server");
        stopped.terminate();
        stopped.says("Stopping", GRACE);
        tunnel.client.says("ended: the peer says goodbye", GRACE);
        tunnel.restart_server();
        let (new, new_served) = joined(&tunnel);
        put(&user, b"still here");
        assert_eq!(take(&served, 10), b"still here");
        assert_eq!(stopped.ended(), None);
        drop((user, served));
        assert_eq!(stopped.wait(GRACE), 0);
        put(&new_served, b"as before");
        assert_eq!(take(&new, 9), b"as before");
        tunnel.client.checkpoint(|now| now.tcps == 1);
    });
}

#[test]
fn a_client_calls_again_and_again_while_the_server_that_stops_may_still_be_there() {
    each_tunnel(|builder| {
        let mut tunnel = builder.server("max=8").env(LONG.0, LONG.1).start();
        tunnel.client.terminate();
        assert_eq!(tunnel.client.wait(GRACE), 0);
        // A server is there at its first call: a pause of this length is none that a test waits for.
        let rare = ("NP_SERVICE_COOLDOWN", "10m");
        tunnel.client = Process::nodepass_with(&[&tunnel.client_url], &[LONG, rare]);
        let (user, served) = joined(&tunnel);
        let stopped = tunnel.server.take().expect("a server");
        stopped.terminate();
        tunnel.client.says("ended: the peer says goodbye", GRACE);
        // With pauses that double, the last of these would come after minutes.
        assert!(eventually(GRACE, || tunnel.client.count("failed again") >= 12), "{:?}", tunnel.client.lines());
        drop((user, served));
        stopped.wait(GRACE);
        tunnel.restart_server();
        joined(&tunnel);
    });
}

#[test]
fn a_relay_that_does_not_end_is_cut_when_the_time_is_over() {
    each_end(|builder, ingress| {
        let tunnel = builder.server("max=8").env("NP_SHUTDOWN_TIMEOUT", "1s").start();
        let process = if ingress { tunnel.ingress() } else { tunnel.egress() };
        let (user, served) = joined(&tunnel);
        process.terminate();
        assert_eq!(process.wait(GRACE), 0);
        rest(&user);
        rest(&served);
    });
}

#[test]
fn a_second_signal_ends_it_at_once() {
    for signals in [[libc::SIGTERM, libc::SIGTERM], [libc::SIGINT, libc::SIGTERM], [libc::SIGINT, libc::SIGINT]] {
        each_end(|builder, ingress| {
            let tunnel = builder.server("max=8").env(LONG.0, LONG.1).start();
            let process = if ingress { tunnel.ingress() } else { tunnel.egress() };
            let (user, served) = joined(&tunnel);
            process.signal(signals[0]);
            process.says("Stopping", GRACE);
            assert_eq!(process.ended(), None);
            process.signal(signals[1]);
            process.wait(GRACE);
            rest(&user);
            rest(&served);
        });
    }
}

#[test]
fn without_users_it_ends_at_once_in_every_state() {
    each_way(|builder| {
        let tunnel = builder.server("max=8").env(LONG.0, LONG.1).start();
        tunnel.client.checkpoint(|now| now.tcps == 0 && now.udps == 0);
        for process in tunnel.processes().into_iter().rev() {
            process.terminate();
            assert_eq!(process.wait(GRACE), 0, "{process:?}");
        }
    });
    each_flow(|flow| {
        let (target, pair) = (Target::echo(), Urls::new(flow));
        let lonely = Process::nodepass_with(&[&pair.client(target.addr())], &[LONG]);
        lonely.says("failed", GRACE);
        lonely.terminate();
        assert_eq!(lonely.wait(GRACE), 0, "a client without a server");
        let lonely = Process::nodepass_with(&[&pair.server(target.addr())], &[LONG]);
        lonely.says("Waiting for a client", GRACE);
        lonely.terminate();
        assert_eq!(lonely.wait(GRACE), 0, "a server without a client");
    });
}

#[test]
fn users_who_still_wait_for_a_peer_do_not_delay_the_end() {
    let pair = Urls::new(Flow::Reverse);
    let server = Process::nodepass_with(&[&pair.server("x")], &[LONG, ("NP_POOL_GET_TIMEOUT", "10m")]);
    server.says("Waiting for a client", GRACE);
    let before = server.sockets();
    let waiting: Vec<TcpStream> = (0..5).map(|_| connect(pair.user)).collect();
    assert!(eventually(GRACE, || server.sockets() == before + waiting.len()), "they are let in");
    server.terminate();
    assert_eq!(server.wait(GRACE), 0);
    waiting.iter().for_each(|user| assert_eq!(rest(user), b""));
}

#[test]
fn a_udp_session_does_not_hold_up_the_end() {
    each_end(|builder, ingress| {
        let tunnel = builder.server("max=8").env(LONG.0, LONG.1).start();
        tunnel.udp_echo(b"hello");
        let process = if ingress { tunnel.ingress() } else { tunnel.egress() };
        process.terminate();
        assert_eq!(process.wait(GRACE), 0);
    });
}

/// A user and his target, after bytes have gone in both directions: the relay stands in both processes.
fn joined(tunnel: &Tunnel) -> (TcpStream, TcpStream) {
    let (user, served) = tunnel.pair();
    put(&user, b"a");
    assert_eq!(take(&served, 1), b"a");
    put(&served, b"b");
    assert_eq!(take(&user, 1), b"b");
    (user, served)
}

/// Both flows, with the side that is stopped: first the ingress, then the egress.
fn each_end(test: impl Fn(Builder, bool) + Sync) {
    each_way(|builder| {
        if builder.flow() != Flow::Single {
            test(builder.clone(), false);
        }
        test(builder, true);
    });
}

const MB: usize = 1 << 20;
