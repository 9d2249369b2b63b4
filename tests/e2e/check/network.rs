//! The path to the server, and targets: real servers, and toys that answer as other programs do.

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
            let ids = [&[8], &packet[15..23], &[8], &packet[6..14]].concat();
            let _ = quic.send_to(&[&[0x80, 0, 0, 0, 0], &ids[..], &[0, 0, 0, 1]].concat(), from);
        }
    });
    assert!(client_of(at).one("server-quic").contains("up to 1472 bytes"));
}

#[test]
fn key_and_terms_are_compared_with_a_server_of_every_kind_and_it_has_no_client_afterwards() {
    for query in ["mode=1&tls=1", "mode=2&tls=0", "mode=1&tls=1&type=1&max=9", "mode=1&tls=1&type=3&auth=2"] {
        let at = free_addr();
        let server = Process::nodepass(&format!("server://planted-secret-of-tests@{at}/{}?{query}", free_addr()));
        server.says("Waiting for a client", GRACE);
        let checked = client_of(at);
        let told = checked.one("server-agreed");
        assert!(query.split('&').all(|pair| told.contains(pair) || pair.starts_with("auth")), "{query}: {told}");
        if query.contains("type=1") {
            assert!(checked.one("server-quic").contains("bytes"), "a server answers whom it expects");
        }
        let other = check(&[&format!("client://another-secret-of-tests@{at}/127.0.0.1:9?mode=2")]);
        assert!(other.one("server-keys").contains("the keys differ"), "{query}");
        assert!(!server.said("Tunnel is up") && !server.said("  ERROR  "), "{query}: {server:?}");
    }
}

#[test]
fn a_client_and_its_user_go_on_while_others_check_the_same_server() {
    for (terms, own, code) in [
        ("tls=1", "auth=1", "server-agreed"),
        ("tls=1&auth=0", "auth=0", "server-unasked"),
        ("auth=0", "auth=0", "server-unasked"),
    ] {
        let tunnel = Tunnel::reverse().server(terms).client(own).start();
        let (user, served) = tunnel.pair();
        // Another address: connections of this machine lead to the server's own already.
        let path = path_past(tunnel.tunnel, |_| true);
        let (key, _) = tunnel.client_url.strip_prefix("client://").unwrap().split_once('@').unwrap();
        for _ in 0..3 {
            let checked = check(&[&format!("client://{key}@{path}/127.0.0.1:9?mode=2&noudp=1&{own}")]);
            assert!(!checked.one(code).is_empty(), "{terms}");
        }
        put(&user, b"still here");
        assert_eq!(take(&served, 10), b"still here");
        let (another, served) = tunnel.pair();
        put(&another, b"and served");
        assert_eq!(take(&served, 10), b"and served");
        assert!(tunnel.processes().iter().all(|process| !process.said("took the tunnel over")));
    }
}

#[test]
fn a_certificate_is_verified_as_the_client_would() {
    let Some(authority) = Authority::new("tunnel.test") else { return };
    let at = free_addr();
    let server = Process::nodepass(&format!(
        "server://planted-secret-of-tests@{at}/{}?mode=1&tls=2&{}",
        free_addr(),
        authority.parameters()
    ));
    server.says("Waiting for a client", GRACE);
    let target = Target::echo();
    let url = format!("client://planted-secret-of-tests@{at}/{}?mode=2", target.addr());
    let refused = check(&[&url]);
    assert!(refused.bad().contains(&"server-cert-refused"), "{:?}", refused.bad());
    assert!(refused.one("server-cert-refused").contains("SSL_CERT_FILE"));
    let ca = authority.ca();
    let fine = super::check_with(&[&url], &[("SSL_CERT_FILE", &ca)]);
    assert!(fine.one("server-cert").contains("tunnel.test") && fine.all("server-cert-refused").is_empty());
    let named = super::check_with(&[&format!("{url}&sni=other.test")], &[("SSL_CERT_FILE", &ca)]);
    assert!(named.one("server-cert-refused").contains("not for other.test"));
}

#[test]
fn terms_that_the_client_refuses_are_told() {
    let at = free_addr();
    let server = Process::nodepass(&format!("server://planted-secret-of-tests@{at}/{}?mode=1", free_addr()));
    server.says("Waiting for a client", GRACE);
    let target = Target::echo();
    let checked = check(&[&format!("client://planted-secret-of-tests@{at}/{}?mode=2&tls=1", target.addr())]);
    assert_eq!(checked.bad(), ["terms-refused"]);
    assert!(checked.one("terms-refused").contains("the server offers tls=0"));
}

#[test]
fn udp_that_is_blocked_is_told_where_the_pool_is_quic() {
    let at = free_addr();
    let server =
        Process::nodepass(&format!("server://planted-secret-of-tests@{at}/{}?mode=1&tls=1&type=1", free_addr()));
    server.says("Waiting for a client", GRACE);
    let checked = client_of(path_past(at, |piece| !piece.udp));
    assert_eq!(checked.bad(), ["quic-blocked"]);
}

#[test]
fn the_proxy_is_asked_for_the_server_and_what_it_says_is_a_finding() {
    let target = Target::echo();
    let url = format!("client://planted-secret-of-tests@192.0.2.7:10101/{}?mode=2", target.addr());
    for (says, words) in [
        ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "a user and a password"),
        ("HTTP/1.1 403 Forbidden\r\n\r\n", "403"),
        ("HTTP/1.1 502 Bad Gateway\r\n\r\n", "cannot reach the server (502)"),
        ("SSH-2.0-x\r\n", "no HTTP"),
        ("", "without an answer"),
    ] {
        let proxy = format!("http://user:planted-proxy@{}", toy(says));
        let checked = super::check_with(&[&url], &[("HTTPS_PROXY", &proxy), ("NO_PROXY", "")]);
        assert_eq!(checked.bad(), ["proxy-fails"], "{says}");
        let told = checked.one("proxy-fails");
        assert!(told.contains(words) && !told.contains("planted-proxy"), "{told}");
    }
    let nobody = format!("http://{}", free_addr());
    let checked = super::check_with(&[&url], &[("HTTPS_PROXY", &nobody)]);
    assert!(checked.one("proxy-fails").contains("refused"));
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
