//! Datagrams from many networks: a namespace in which whole ranges of addresses are this machine's own.

use super::Space;
use crate::support::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

#[test]
fn new_udp_sessions_of_one_ipv4_24_or_ipv6_48_are_bounded_and_another_network_has_its_own() {
    if !present(root(), "root") || program("ip").is_none() {
        return;
    }
    let Some(space) = Space::new(format!("np-{}-udp", std::process::id())) else { return };
    space.run("ip route add local 10.77.0.0/16 dev lo");
    space.run("ip -6 route add local 2001:db8::/32 dev lo");
    space.run("sysctl -qw net.ipv6.ip_nonlocal_bind=1");
    let v4 = |number: u8| IpAddr::V4(Ipv4Addr::new(10, 77, 1, number));
    let v6 = |number: u8| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, number.into(), 0, 0, 0, 1));
    bounded(&space, "0.0.0.0:7002", "10.77.0.1:7002", v4, Ipv4Addr::new(10, 77, 2, 1).into());
    let other = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 1).into();
    bounded(&space, "[::]:7003", "[2001:db8::1]:7003", v6, other);
}

/// Sixty sources of one network say something at once, and one of another: how many come through.
fn bounded(space: &Space, listen: &str, at: &str, source: impl Fn(u8) -> IpAddr + Sync, other: IpAddr) {
    let target = space.enter(|| UdpSocket::bind("127.0.0.1:0").expect("a target"));
    target.set_read_timeout(Some(GRACE)).expect("a timeout");
    let to = target.local_addr().expect("an address");
    let process = space.nodepass_with(&format!("client://{listen}/{to}?mode=1&slot=1000"), "1s", &[]);
    let at: SocketAddr = at.parse().expect("an address");
    let say = |from: IpAddr, word: &[u8]| {
        space.enter(|| {
            let socket = UdpSocket::bind((from, 0)).expect("an address of this machine");
            socket.send_to(word, at).expect("a datagram");
        });
    };
    let mut word = [0; 8];
    until("the listener", GRACE, || {
        say(other, b"ready?");
        target.set_read_timeout(Some(Duration::from_millis(200)))?;
        target.recv(&mut word)
    });
    process.checkpoint(|now| now.udps == 0);
    // All of them are there when it looks: time that passes meanwhile ends none of their sessions.
    process.signal(libc::SIGSTOP);
    (1..=SOURCES).for_each(|number| say(source(number), b"crowd"));
    say(other, b"other");
    process.signal(libc::SIGCONT);
    let refused = "its network has as many new UDP sessions as it may";
    process.says(refused, GRACE);
    target.set_read_timeout(Some(GRACE)).expect("a timeout");
    let (mut crowd, mut others) = (0, 0);
    while crowd < OF_NETWORK || others < 1 {
        let len = target.recv(&mut word).unwrap_or_else(|why| panic!("{crowd} and {others} came: {why}"));
        match &word[..len] {
            b"crowd" => crowd += 1,
            b"other" => others += 1,
            _ => {}
        }
    }
    // A session that is too many is refused before any that comes after it is served.
    target.set_nonblocking(true).expect("a socket");
    assert!(target.recv(&mut word).is_err() && (crowd, others) == (OF_NETWORK, 1), "{crowd} and {others} came");
    assert_eq!(process.count(refused), 1, "sources can be forged: one line stands for all");
}

/// Sources of one network.
const SOURCES: u8 = 60;
/// An eighth of a quarter of 1000 slots.
const OF_NETWORK: usize = 31;
