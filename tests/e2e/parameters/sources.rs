//! Who may come in, and how often: `allow`, `deny`, `perip`.

use super::refused;
use crate::support::*;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// A UDP user at another address of this machine.
fn udp_user_from(source: Ipv4Addr, to: SocketAddr) -> UdpSocket {
    let user = UdpSocket::bind((source, 0)).unwrap();
    user.connect(to).unwrap();
    user.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    user
}

/// Whether the connection is closed without a word, by whichever means.
fn turned_away(at: SocketAddr) -> bool {
    let user = connect(at);
    try_rest(&user).map_or_else(|count| count == 0, |bytes| bytes.is_empty())
}

#[test]
fn users_whose_address_may_not_come_in_are_closed_and_the_others_served() {
    each_way(|builder| {
        for list in ["deny=127.0.0.2", "allow=127.0.0.0/31", "allow=127.0.0.0/8&deny=127.0.0.2/31,::/0"] {
            let tunnel = builder.clone().ingress(list).start();
            tunnel.echo(b"hello");
            tunnel.udp_echo(b"hello");
            let datagrams = tunnel.target.datagrams();
            let path = path_from(OTHER, tunnel.user);
            let began = Instant::now();
            for _ in 0..20 {
                assert!(turned_away(path), "{list}");
            }
            let stranger = udp_user_from(OTHER, tunnel.user);
            for _ in 0..3 {
                stranger.send(b"hello").unwrap();
                assert!(stranger.recv(&mut [0; 10]).is_err(), "{list}: an answer");
            }
            assert_eq!(tunnel.target.datagrams(), datagrams, "{list}");
            let line = tunnel.ingress().says("refused: its address may not come in", GRACE);
            assert!(line.contains("127.0.0.2:") && line.contains("WARN"), "{line}");
            let most = 1 + began.elapsed().as_secs() as usize / 10;
            assert!(tunnel.ingress().count("its address may not come in") <= most, "a line for each");
            tunnel.echo(b"hello");
        }
    });
}

#[test]
fn peers_whose_address_may_not_come_in_are_closed_at_the_tunnel_port() {
    let tunnel = Tunnel::reverse().server("tls=1&deny=tunnel:127.0.0.2&allow=tunnel:127.0.0.0/8").start();
    let server = tunnel.server.as_ref().unwrap();
    let path = path_from(OTHER, tunnel.tunnel);
    for _ in 0..20 {
        assert!(turned_away(path));
    }
    server.says("refused at the tunnel's port: its address may not come in", GRACE);
    // These ranges are of peers alone.
    let user = connect(path_from(OTHER, tunnel.user));
    put(&user, b"x");
    assert_eq!(take(&user, 1), b"x");
}

#[test]
fn a_source_has_perip_users_at_once_and_another_has_as_many() {
    each_way(|builder| {
        for block in ["block=0", "block=123"] {
            let tunnel = builder.clone().ingress(&format!("perip=2&{block}")).start();
            let served = |at: SocketAddr| -> TcpStream {
                until("a user who is served", GRACE, || {
                    let user = connect(at);
                    put(&user, b"SSH-2.0-abc\r\n");
                    user.set_read_timeout(Some(GRACE)).unwrap();
                    let mut bytes = [0; 13];
                    std::io::Read::read_exact(&mut &user, &mut bytes).map(|()| user)
                })
            };
            let held = [served(tunnel.user), served(tunnel.user)];
            for _ in 0..20 {
                assert!(turned_away(tunnel.user));
            }
            tunnel.ingress().says("as many connections as it may (perip)", GRACE);
            let path = path_from(OTHER, tunnel.user);
            let others = [served(path), served(path)];
            drop(held);
            let again = [served(tunnel.user), served(tunnel.user)];
            drop((again, others));
        }
    });
}

#[test]
fn udp_sessions_are_users_of_their_source_too() {
    each_way(|builder| {
        let tunnel = builder.ingress("perip=1").env("NP_UDP_READ_TIMEOUT", "1s").start();
        // The user who found the tunnel up has left.
        tunnel.ingress().checkpoint(|now| now.tcps == 0);
        let (held, other) = tunnel.pair();
        let asking = udp_user_from(Ipv4Addr::LOCALHOST, tunnel.user);
        let before = tunnel.target.datagrams();
        for _ in 0..3 {
            asking.send(b"hello").unwrap();
            assert!(asking.recv(&mut [0; 10]).is_err(), "its source has its connection");
        }
        assert_eq!(tunnel.target.datagrams(), before);
        drop((held, other));
        let ask = || asking.send(b"hello").and_then(|_| asking.recv(&mut [0; 10]));
        until("a place for the session", GRACE, ask);
        let from_another = udp_user_from(OTHER, tunnel.user);
        until("another source's session", GRACE, || {
            from_another.send(b"hi").and_then(|_| from_another.recv(&mut [0; 9]))
        });
        // The session ends when it is idle, and its place is free again.
        tunnel.target.handle(echo);
        until("a free place", GRACE, || exchange(tunnel.user, b"hello"));
    });
}

#[test]
#[cfg(feature = "master")]
fn the_api_of_a_master_is_for_those_who_may_come_in() {
    let (folder, at) = (Folder::new(), free_addr());
    let path = folder.path().to_str().unwrap().to_owned();
    let _master =
        Process::nodepass_with(&[&format!("master://{at}?allow=127.0.0.2/32")], &[("NP_STATE_DIR", path.as_str())]);
    let ask = |at: SocketAddr| -> String {
        let web = connect(at);
        put(&web, b"GET /api/v1/openapi.json HTTP/1.0\r\n\r\n");
        String::from_utf8_lossy(&try_rest(&web).unwrap_or_default()).into_owned()
    };
    let path = path_from(OTHER, at);
    until("an answer", GRACE, || if ask(path).starts_with("HTTP/1.") { Ok(()) } else { Err("none") });
    assert_eq!(ask(at), "");
    _master.says("refused at the API: its address may not come in", GRACE);
}

#[test]
fn a_bad_range_is_an_error_that_names_it() {
    for (url, words) in [
        ("server://:1/:2?allow=10.0.0.0/33", "bad parameter allow \"10.0.0.0/33\": expected addresses and ranges"),
        ("server://:1/:2?deny=::1,x,::2", "\"x\" is none"),
        ("client://:1/:2?deny=tunnel:::1", "bad parameter deny \"tunnel:::1\""),
        ("master://:1?allow=::1,tunnel:::1", "\"tunnel:::1\" is none"),
        ("client://:1/:2?perip=-1", "bad parameter perip \"-1\""),
    ] {
        refused(&[url], 1, &[words]);
    }
}
