//! The way to the server, and targets: real servers, and toys that answer as other programs do.

use super::{check, Checked};
use crate::support::*;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};

/// What a client of the server at this address is told.
fn client_of(server: SocketAddr) -> Checked {
    let target = Target::echo();
    check(&[&format!("client://planted-secret-of-tests@{server}/{}?mode=2", target.addr())])
}

/// A program that says this to every connection once it has heard something.
fn toy(says: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(says.as_bytes());
        }
    });
    at
}

#[test]
fn a_server_of_ours_is_known_and_does_not_take_the_question_for_a_client() {
    for query in ["mode=1&tls=1", "mode=1", "mode=1&auth=2", "mode=1&type=2"] {
        let at = free_addr();
        let server = Process::nodepass(&format!("server://planted-secret-of-tests@{at}/{}?{query}", free_addr()));
        server.says("Waiting for a client", GRACE);
        let checked = client_of(at);
        assert_eq!((checked.status, checked.bad()), (0, vec![]), "{query}");
        assert!(checked.one("server-ours").contains(&at.to_string()) && !checked.all("server-reached").is_empty());
        assert!(!server.said("Tunnel is up") && !server.said("  ERROR  "), "{query}: {server:?}");
    }
}

#[test]
fn quic_that_answers_and_udp_that_is_refused_are_told() {
    let at = free_addr();
    let server = Process::nodepass(&format!("server://planted-secret-of-tests@{at}/{}?mode=1&tls=1", free_addr()));
    server.says("Waiting for a client", GRACE);
    assert!(client_of(at).one("server-no-quic").contains("(UDP)"));
    // What any QUIC server says to a version that it does not know (RFC 9000, 17.2.1).
    let quic = std::net::UdpSocket::bind(at).unwrap();
    std::thread::spawn(move || {
        let mut packet = [0; 2048];
        while let Ok((_, from)) = quic.recv_from(&mut packet) {
            let _ = quic.send_to(&[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], from);
        }
    });
    assert!(client_of(at).one("server-quic").contains("(UDP)"));
}

#[test]
fn a_server_that_is_not_there_is_a_fault() {
    let checked = client_of(free_addr());
    assert_eq!((checked.status, checked.bad()), (1, vec!["server-unreachable"]));
    assert!(checked.one("server-unreachable").contains("refused"));
}

#[test]
fn other_programs_at_the_servers_port_are_named() {
    for (says, code, words) in [
        ("SSH-2.0-OpenSSH_9.2\r\n", "server-other", "SSH"),
        ("HTTP/1.1 404 Not Found\r\nServer: nginx/1.22.1\r\n\r\n<html>", "server-web", "nginx/1.22.1"),
        ("HTTP/1.1 502 Bad Gateway\r\nServer: nginx\r\n\r\n", "server-proxy", "502 nginx"),
        ("220 mail.example ESMTP\r\n", "server-other", "220 mail.example"),
        ("", "server-mute", "without a word"),
    ] {
        let checked = client_of(toy(says));
        assert_eq!(checked.bad(), [code], "{says}");
        assert!(checked.one(code).contains(words), "{}", checked.one(code));
    }
}

#[test]
fn a_clock_that_is_wrong_is_told() {
    let web = "HTTP/1.1 404 Not Found\r\nServer: x\r\nDate: Mon, 06 Jul 2020 10:00:00 GMT\r\n\r\n";
    assert_eq!(client_of(toy(web)).bad(), ["server-web", "clock-apart"]);
}

#[test]
fn where_a_tunnel_stands_already_nothing_is_asked() {
    let tunnel = Tunnel::reverse().start();
    let (user, served) = tunnel.pair();
    let checked = client_of(tunnel.tunnel);
    assert_eq!((checked.status, checked.bad()), (0, vec![]));
    assert!(checked.all("server-reached").is_empty() && !checked.one("server-tunnel").is_empty());
    put(&user, b"still here");
    assert_eq!(take(&served, 10), b"still here");
}

#[test]
fn a_target_that_refuses_is_told_by_its_protocol() {
    let at = free_addr();
    let forwarder = |query: &str| check(&[&format!("client://{}/{at}?mode=1{query}", free_addr())]);
    assert_eq!(forwarder("").bad(), ["target-refuses", "target-refuses"]);
    let udp = forwarder("&notcp=1");
    assert!(udp.bad() == ["target-refuses"] && udp.one("target-refuses").contains("(UDP)"));
    // Where TCP is served, a lack of UDP is only worth a note.
    let _tcp = TcpListener::bind(at).unwrap();
    let checked = forwarder("");
    assert_eq!((checked.status, checked.bad()), (0, vec![]));
    assert!(checked.one("target-no-datagrams").contains("noudp=1"));
}
