//! A NAT between client and server forgets connections that are silent: those that wait for a user, and what becomes of users who draw them.

use super::{try_run, Carried, Land, Space};
use crate::support::*;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};

#[test]
fn pool_connections_that_wait_are_remembered_by_a_nat_that_soon_forgets() {
    if !present(try_run("iptables --version").is_ok(), "iptables") {
        return;
    }
    for kind in ["tls=1", "tls=1&type=2"] {
        let Some(land) = Land::new() else { return };
        land.forgets_after_three_seconds();
        let tunnel = land.tunnel_kept(kind, ("1s", "1s"), "4s");
        // Users may be quiet for long: more than twice of what it remembers.
        tunnel.client.reports(7);
        tunnel.serves_twenty_small_requests();
        tunnel.is_whole();
    }
}

#[test]
fn users_who_ask_over_forgotten_connections_are_served_by_others_at_once() {
    let target = |space: &Space| tcp_target(space, echo);
    let user = |to| same(&exchange(to, &[7; 100])?, &[7; 100]);
    over_forgotten_connections(target, user);
}

#[test]
fn users_who_listen_over_forgotten_connections_hear_the_target_at_once() {
    const BANNER: [u8; 9] = *b"220 ready";
    let target = |space: &Space| {
        tcp_target(space, |stream| {
            put(&stream, &BANNER);
            echo(stream);
        });
    };
    let user = |to| {
        let user = try_connect(to)?;
        user.set_read_timeout(Some(GRACE))?;
        let mut heard = [0; BANNER.len()];
        (&user).read_exact(&mut heard)?;
        same(&heard, &BANNER)
    };
    over_forgotten_connections(target, user);
}

#[test]
fn users_who_say_much_over_forgotten_connections_lose_nothing() {
    let target = |space: &Space| {
        tcp_target(space, |stream| {
            // No answer before the end.
            let all = rest(&stream);
            put(&stream, &all);
            end(&stream);
        });
    };
    let user = |to| {
        let (user, data) = (try_connect(to)?, noise(3, MUCH));
        (&user).write_all(&data)?;
        end(&user);
        same(&try_rest(&user).unwrap_or_default(), &data)
    };
    over_forgotten_connections(target, user);
}

#[test]
fn datagrams_over_forgotten_connections_are_answered_at_once() {
    let target = |space: &Space| {
        let socket = space.enter(|| UdpSocket::bind("127.0.0.1:7000").expect("a target"));
        std::thread::spawn(move || {
            let mut packet = [0; 100];
            while let Ok((count, from)) = socket.recv_from(&mut packet) {
                let _ = socket.send_to(&packet[..count], from);
            }
        });
    };
    let user = |to| {
        let user = udp_user(to);
        user.set_read_timeout(Some(GRACE))?;
        let said = [&b"one"[..], b"two", b"three"];
        for packet in said {
            user.send(packet)?;
        }
        let mut packet = [0; 100];
        for expected in said {
            let count = user.recv(&mut packet)?;
            assert_eq!(&packet[..count], expected);
        }
        Ok(())
    };
    over_forgotten_connections(target, user);
}

/// In both flows, over each kind of pool connection that a NAT can forget: users come when all that wait are dead, with nobody the wiser.
fn over_forgotten_connections(target: impl Fn(&Space) + Sync, user: impl Fn(SocketAddr) -> io::Result<()> + Sync) {
    if !present(try_run("iptables --version").is_ok(), "iptables") {
        return;
    }
    let kinds = ["tls=0", "tls=1", "tls=1&type=2"].into_iter();
    let each = kinds.flat_map(|kind| [(kind, false), (kind, true)]);
    side_by_side(
        each.map(|(kind, forward)| (format!("{kind} forward={forward}"), (kind, forward))),
        |(kind, forward)| {
            let Some(land) = Land::new() else { return };
            land.forgets_after_three_seconds();
            target(if forward { &land.server } else { &land.client });
            let tunnel = tunnel(&land, kind, forward);
            let (users, ingress) =
                if forward { (&land.client, &tunnel.client) } else { (&land.server, &tunnel.server) };
            until("the first user", GRACE, || users.enter(|| user(tunnel.user)));
            tunnel.client.reports(7);
            let mark = ingress.mark();
            for n in 0..5 {
                users.enter(|| user(tunnel.user)).unwrap_or_else(|why| panic!("user {n}: {why}"));
            }
            // The first of them drew a dead one; those that had waited for as long were drawn by none.
            let again = |line: &String| line.contains("its pool connection is dead, another follows");
            let retried = ingress.lines()[mark..].iter().filter(|line| again(line)).count();
            assert!((1..=2).contains(&retried), "{retried}");
            tunnel.is_unbroken();
        },
    );
}

/// A tunnel on whose idle connections nothing is said: only the control connection is remembered.
fn tunnel<'a>(land: &'a Land, kind: &str, forward: bool) -> Carried<'a> {
    let (at, target, users) = (land.at(1), "127.0.0.1:7000", "127.0.0.1:7002");
    let (mode, here, there) = if forward { (2, target, users) } else { (1, users, target) };
    let server = format!("server://key@{at}:7001/{here}?log=debug&mode={mode}&max={POOL}&{kind}");
    let client = format!("client://key@{at}:7001/{there}?log=debug&mode=2&min={POOL}");
    let env = [("NP_TCP_KEEPALIVE", "1h")];
    let server = land.server.nodepass_with(&server, "1s", &env);
    let client = land.client.nodepass_with(&client, "1s", &env);
    client.says("CHECK_POINT|", GRACE);
    server.says("CHECK_POINT|", GRACE);
    Carried::over(land, server, client)
}

/// Whether that came which was to come.
fn same(came: &[u8], expected: &[u8]) -> io::Result<()> {
    match came == expected {
        true => Ok(()),
        false => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// A target there, which does that with each connection.
fn tcp_target(space: &Space, act: impl Fn(TcpStream) + Send + Copy + 'static) {
    let target = space.enter(|| TcpListener::bind("127.0.0.1:7000").expect("a target"));
    std::thread::spawn(move || {
        for stream in target.incoming().flatten() {
            std::thread::spawn(move || act(stream));
        }
    });
}

/// Bytes of a user who says much: more than what the system takes for a connection that is dead.
const MUCH: usize = 1 << 20;
