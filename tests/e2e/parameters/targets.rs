//! Which target, and what it is told: `lbs`, `proxy`.

use crate::support::*;
use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

/// Targets that answer with their number, over TCP and UDP.
fn numbered(count: u8) -> Vec<Option<Target>> {
    (0..count).map(|number| Some(numbered_at(free_addr(), number))).collect()
}

fn numbered_at(addr: SocketAddr, number: u8) -> Target {
    let target = Target::at(addr);
    target.handle(move |mut stream| drop(stream.write_all(&[number])));
    target.answer(move |socket, _, from| drop(socket.send_to(&[number], from)));
    target
}

fn list(targets: &[Option<Target>]) -> String {
    targets.iter().flatten().map(|target| target.addr().to_string()).collect::<Vec<_>>().join(",")
}

/// The number that a TCP user gets.
fn tcp_number(tunnel: &Tunnel) -> u8 {
    let answer = rest(&tunnel.connect());
    assert_eq!(answer.len(), 1, "one target's number: {answer:?}");
    answer[0]
}

/// The number that a UDP user gets, who asks again until he hears something.
fn udp_number(tunnel: &Tunnel) -> u8 {
    udp_echo(tunnel.user, b"who are you").expect("a number")[0]
}

fn each_flow(test: impl Fn(Builder)) {
    for builder in [Tunnel::single(), Tunnel::reverse(), Tunnel::forward()] {
        test(builder);
    }
}

#[test]
fn lbs_0_takes_the_targets_in_turn() {
    each_flow(|builder| {
        let targets = numbered(3);
        let tunnel = builder.egress("lbs=0").target(list(&targets)).start();
        let mut counts = [0; 3];
        (0..30).for_each(|_| counts[usize::from(tcp_number(&tunnel))] += 1);
        assert!(counts.iter().all(|count| *count >= 8), "{counts:?} of 30");
        let heard: HashSet<u8> = (0..12).map(|_| udp_number(&tunnel)).collect();
        assert_eq!(heard.len(), 3, "UDP users too: {heard:?}");
    });
}

#[test]
fn udp_users_are_spread_and_each_stays_with_his_target() {
    each_flow(|builder| {
        let targets = numbered(3);
        let tunnel = builder.egress("lbs=0").target(list(&targets)).start();
        let users: Vec<UdpSocket> = (0..6).map(|_| udp_user(tunnel.user)).collect();
        let ask = |user: &UdpSocket| {
            let mut number = [0; 10];
            user.send(b"who are you").unwrap();
            user.recv(&mut number).expect("a number");
            number[0]
        };
        let first: Vec<u8> = users.iter().map(ask).collect();
        let again: Vec<u8> = users.iter().map(ask).collect();
        assert_eq!(first, again);
        assert_eq!(first.iter().collect::<HashSet<_>>().len(), 3, "{first:?}");
    });
}

#[test]
fn lbs_0_goes_past_a_dead_target_and_back_to_it() {
    each_flow(|builder| {
        let mut targets = numbered(3);
        let tunnel = builder.egress("lbs=0").target(list(&targets)).start();
        let addr = targets[1].take().unwrap().addr();
        let heard: HashSet<u8> = (0..12).map(|_| tcp_number(&tunnel)).collect();
        assert_eq!(heard, HashSet::from([0, 2]));
        let heard: HashSet<u8> = (0..12).map(|_| udp_number(&tunnel)).collect();
        assert_eq!(heard, HashSet::from([0, 2]));
        targets[1] = Some(numbered_at(addr, 1));
        assert!(eventually(GRACE * 3, || tcp_number(&tunnel) == 1), "it is used again");
    });
}

#[test]
fn when_all_targets_are_dead_the_user_is_closed_and_the_tunnel_lives() {
    each_flow(|builder| {
        let mut targets = numbered(2);
        let tunnel = builder.target(list(&targets)).start();
        let addr = targets[0].take().unwrap().addr();
        drop(targets.pop());
        assert_eq!(rest(&tunnel.connect()), b"");
        let _back = numbered_at(addr, 7);
        until("the target that is back", GRACE, || match rest(&tunnel.connect())[..] {
            [7] => Ok(()),
            _ => Err("not yet"),
        });
    });
}

#[test]
fn lbs_1_avoids_a_target_that_is_slow_to_answer() {
    each_flow(|builder| {
        let slow = Full::new();
        let targets = numbered(1);
        let list = format!("{},{}", slow.addr, list(&targets));
        let tunnel = builder.egress("lbs=1").target(list).env("NP_TCP_DIAL_TIMEOUT", "1s").start();
        // The first ones may have to find out.
        until("the quick target", GRACE, || match rest(&tunnel.connect())[..] {
            [0] => Ok(()),
            _ => Err("not yet"),
        });
        (0..20).for_each(|_| assert_eq!(tcp_number(&tunnel), 0));
    });
}

#[test]
fn lbs_1_goes_on_when_the_quickest_target_dies() {
    each_flow(|builder| {
        let mut targets = numbered(3);
        let tunnel = builder.egress("lbs=1").target(list(&targets)).start();
        let quickest = tcp_number(&tunnel);
        targets[usize::from(quickest)] = None;
        (0..10).for_each(|_| assert_ne!(tcp_number(&tunnel), quickest));
        assert_ne!(udp_number(&tunnel), quickest);
    });
}

#[test]
fn lbs_2_stays_with_the_primary_moves_to_a_backup_and_comes_back() {
    each_flow(|builder| {
        let mut targets = numbered(3);
        let tunnel = builder.egress("lbs=2").target(list(&targets)).env("NP_FALLBACK_INTERVAL", "1s").start();
        (0..10).for_each(|_| assert_eq!(tcp_number(&tunnel), 0));
        (0..5).for_each(|_| assert_eq!(udp_number(&tunnel), 0));
        let addr = targets[0].take().unwrap().addr();
        let backup = tcp_number(&tunnel);
        assert_ne!(backup, 0);
        (0..10).for_each(|_| assert_eq!(tcp_number(&tunnel), backup, "it stays with the backup"));
        assert_eq!(udp_number(&tunnel), backup);
        targets[0] = Some(numbered_at(addr, 0));
        assert!(eventually(GRACE, || tcp_number(&tunnel) == 0), "the primary is tried again");
        (0..5).for_each(|_| assert_eq!(tcp_number(&tunnel), 0));
    });
}

#[test]
fn a_udp_target_that_refuses_is_passed_over() {
    each_flow(|builder| {
        let mut targets = numbered(2);
        let tunnel = builder.egress("lbs=2&notcp=1").target(list(&targets)).start();
        assert!(eventually(GRACE, || udp_number(&tunnel) == 0), "the primary answers");
        drop(targets[0].take());
        assert_eq!(udp_number(&tunnel), 1, "{:?}", tunnel.flow);
    });
}

#[test]
fn a_udp_target_that_is_silent_is_left_though_the_user_keeps_sending() {
    each_flow(|builder| {
        let silent = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let targets = numbered(1);
        let addresses = format!("{},{}", silent.local_addr().expect("its address"), list(&targets));
        let tunnel = builder.egress("lbs=2&notcp=1").env("NP_UDP_READ_TIMEOUT", "1s").target(addresses).start();
        let user = udp_user(tunnel.user);
        user.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        // He never pauses for as long as an idle session lives.
        let answered = eventually(GRACE, || user.send(b"who are you").is_ok() && user.recv(&mut [0; 100]).is_ok());
        assert!(answered, "{:?}", tunnel.flow);
    });
}

#[test]
fn lbs_2_does_not_try_the_primary_before_its_interval_is_over() {
    each_flow(|builder| {
        let mut targets = numbered(2);
        let tunnel = builder.egress("lbs=2").target(list(&targets)).env("NP_FALLBACK_INTERVAL", "1h").start();
        let addr = targets[0].take().unwrap().addr();
        assert_eq!(tcp_number(&tunnel), 1);
        targets[0] = Some(numbered_at(addr, 0));
        tunnel.egress().reports(2);
        (0..10).for_each(|_| assert_eq!(tcp_number(&tunnel), 1, "{:?}", tunnel.flow));
    });
}

#[test]
fn a_target_that_never_answers_does_not_keep_a_user_from_the_next_one() {
    each_flow(|builder| {
        let slow = Full::new();
        let targets = numbered(1);
        let list = format!("{},{}", slow.addr, list(&targets));
        let tunnel = builder.egress("lbs=2").target(list).env("NP_TCP_DIAL_TIMEOUT", "500ms").start();
        assert_eq!(tcp_number(&tunnel), 0);
    });
}

/// An address that takes no more connections and refuses none: dialling it hangs.
pub struct Full {
    pub addr: SocketAddr,
    _listener: socket2::Socket,
    _fill: Vec<TcpStream>,
}

impl Full {
    pub fn new() -> Full {
        let addr = free_addr();
        let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        listener.bind(&addr.into()).unwrap();
        listener.listen(0).unwrap();
        let mut fill = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&addr, Duration::from_millis(300)) {
            fill.push(stream);
        }
        Full { addr, _listener: listener, _fill: fill }
    }
}

// ---- proxy

#[test]
fn proxy_1_tells_the_target_who_the_user_is_before_anything_else() {
    each_way(|builder| {
        let tunnel = builder.egress("proxy=1").start();
        let to = tunnel.target.addr();
        let (user, served) = tunnel.pair();
        let from = user.local_addr().unwrap();
        put(&user, b"hello");
        let wanted = format!("PROXY TCP4 {} {} {} {}\r\nhello", from.ip(), to.ip(), from.port(), to.port());
        assert_eq!(String::from_utf8(take(&served, wanted.len())).unwrap(), wanted);
        // It comes at once, also for a user who says nothing.
        let (user, served) = tunnel.pair();
        let head = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\n", user.local_addr().unwrap().port(), to.port());
        assert_eq!(String::from_utf8(take(&served, head.len())).unwrap(), head);
        // Datagrams carry no header.
        tunnel.udp_echo(b"hello");
    });
}

#[test]
fn proxy_1_writes_ipv6_and_mixed_addresses() {
    if !has_ipv6() {
        return;
    }
    each_way(|builder| {
        for to in ["::1", "127.0.0.1"] {
            let target = Target::at(SocketAddr::new(to.parse().unwrap(), free_port()));
            let tunnel = builder.clone().egress("proxy=1").user_host("").target(target.addr()).start();
            let caught = target.catch();
            // The connection that waited for the tunnel may have come before.
            for from in ["::1", "127.0.0.1"] {
                let user = connect(SocketAddr::new(from.parse().unwrap(), tunnel.user.port()));
                let port = user.local_addr().unwrap().port();
                let family = if (from, to) == ("127.0.0.1", "127.0.0.1") { "TCP4" } else { "TCP6" };
                let wanted = format!("PROXY {family} {from} {to} {port} {}\r\n", target.addr().port());
                let seen = until("this user's header", GRACE, || {
                    let seen = first_line(&caught.next());
                    if seen.contains(&format!(" {port} ")) {
                        Ok(seen)
                    } else {
                        Err(seen)
                    }
                });
                // An IPv4 user of an IPv6 target may be written as a mapped address: the header has one family.
                let mapped = wanted.replace("TCP6 127.0.0.1 ::1", "TCP6 ::ffff:127.0.0.1 ::1");
                assert!(seen == wanted || seen == mapped, "{seen:?}, not {wanted:?}");
            }
        }
    });
}

#[test]
fn proxy_0_adds_nothing() {
    let tunnel = Tunnel::reverse().egress("proxy=0").start();
    let (user, served) = tunnel.pair();
    put(&user, b"hello");
    end(&user);
    assert_eq!(rest(&served), b"hello");
}

fn first_line(mut stream: &TcpStream) -> String {
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        let mut byte = [0];
        if stream.read(&mut byte).unwrap_or(0) == 0 {
            break;
        }
        line.push(byte[0]);
    }
    String::from_utf8_lossy(&line).into_owned()
}
