//! Datagrams with forged sources: each looks like a new user, and none is.

use crate::support::*;
use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[test]
fn twenty_thousand_forged_sources_leave_tcp_users_and_known_udp_users_served() {
    for (name, builder) in
        [("reverse", Tunnel::reverse()), ("forward", Tunnel::forward()), ("single", Tunnel::single())]
    {
        let tunnel = builder.both("slot=1000").start();
        // Only the known user is answered; and it is always the same session that the target sees.
        let known: Arc<Mutex<HashSet<SocketAddr>>> = Arc::default();
        let seen = known.clone();
        tunnel.target.answer(move |socket, data, from| {
            if data == KNOWN {
                seen.lock().unwrap().insert(from);
                let _ = socket.send_to(data, from);
            }
        });
        let user = udp_user(tunnel.user);
        until("an answer", GRACE, || echo(&user));
        until("an answer", GRACE, || echo(&user));
        let (over, sessions) = (AtomicBool::new(false), known.lock().unwrap().len());
        std::thread::scope(|scope| {
            let tcp = scope.spawn(|| {
                let mut served = 0;
                while !over.load(Ordering::SeqCst) {
                    tunnel.echo(b"are you there?");
                    served += 1;
                }
                served
            });
            let udp = scope.spawn(|| {
                while !over.load(Ordering::SeqCst) {
                    // The kernel may drop some: its queue is full of the others.
                    until("an answer", GRACE, || echo(&user));
                }
            });
            for number in 0..FORGED {
                forge(number, tunnel.user);
            }
            over.store(true, Ordering::SeqCst);
            assert!(tcp.join().expect("a TCP user was not served") > 0, "{name}");
            udp.join().expect("a known UDP user was not served");
        });
        assert_eq!(known.lock().unwrap().len(), sessions, "{name}: the known session has lived all the while");
        let now = tunnel.ingress().checkpoint(|now| now.udps > 0);
        assert!(now.udps <= 251, "{name}: {} sessions", now.udps);
        // They have a short life.
        tunnel.ingress().checkpoint(|now| now.udps <= 1);
        tunnel.egress().checkpoint(|now| now.udps <= 1);
        tunnel.echo(b"and afterwards");
    }
}

#[test]
fn a_new_session_lives_for_three_seconds_and_a_known_one_as_long_as_is_said() {
    each_way(|builder| {
        let tunnel = builder.env("NP_UDP_READ_TIMEOUT", "60s").start();
        tunnel.target.answer(|_, _, _| {});
        let (once, twice) = (udp_user(tunnel.user), udp_user(tunnel.user));
        once.send(b"one").unwrap();
        twice.send(b"one").unwrap();
        tunnel.ingress().checkpoint(|now| now.udps == 2);
        until("two datagrams", GRACE, || match tunnel.target.datagrams() {
            2.. => Ok(()),
            fewer => Err(fewer),
        });
        twice.send(b"two").unwrap();
        tunnel.ingress().checkpoint(|now| now.udps == 1);
        tunnel.egress().checkpoint(|now| now.udps == 1);
        let before = tunnel.target.datagrams();
        twice.send(b"three").unwrap();
        assert!(eventually(GRACE, || tunnel.target.datagrams() > before));
        tunnel.ingress().checkpoint(|now| now.udps == 1);
    });
}

#[test]
fn new_sessions_take_no_slot_of_tcp_users_and_no_more_than_udpslot() {
    each_way(|builder| {
        let tunnel = builder.ingress("slot=2&udpslot=3").start();
        tunnel.ingress().checkpoint(|now| now.tcps == 0);
        tunnel.target.answer(|_, _, _| {});
        let strangers: Vec<UdpSocket> = (0..10).map(|_| udp_user(tunnel.user)).collect();
        for stranger in &strangers {
            stranger.send(b"hello").unwrap();
        }
        let users = [tunnel.pair(), tunnel.pair()];
        let now = tunnel.ingress().checkpoint(|now| now.tcps == 2);
        assert!(now.udps <= 3, "{now:?}");
        drop(users);
    });
}

/// The known user says something and hears it back.
fn echo(user: &UdpSocket) -> std::io::Result<()> {
    user.set_read_timeout(Some(Duration::from_millis(200)))?;
    user.send(KNOWN)?;
    let mut answer = [0; 64];
    user.recv(&mut answer).map(drop)
}

/// A datagram from a source that has never been heard of.
fn forge(number: u32, to: SocketAddr) {
    let from = Ipv4Addr::from(0x7f01_0001 + number);
    if let Ok(socket) = UdpSocket::bind((from, 0)) {
        let _ = socket.send_to(b"forged", to);
    }
}

const KNOWN: &[u8] = b"it is me";
const FORGED: u32 = 20_000;
