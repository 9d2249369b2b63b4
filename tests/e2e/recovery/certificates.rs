//! Certificate files that are replaced while the program runs.

use crate::support::*;
use nodepass::net::certs::{client, server_name, Alpn, Trust};
use rustls::{ClientConnection, StreamOwned};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

type Secured = StreamOwned<ClientConnection, TcpStream>;

#[test]
fn sighup_loads_the_new_certificate_for_new_users_and_leaves_living_ones_alone() {
    let Some(authority) = Authority::new("tunnel.test") else { return };
    let query = format!("tls=2&{}", authority.parameters());
    let tunnel = Tunnel::single().client(&query).start();
    let (mut living, first) = secured(tunnel.user);
    let serial = serial(tunnel.user, &authority);
    assert_eq!(back_and_forth(&mut living, b"one"), b"one");

    let mark = tunnel.client.mark();
    replace(&authority);
    tunnel.client.signal(libc::SIGHUP);
    tunnel.client.says_after(mark, "Certificate loaded again", GRACE);
    let (mut new, second) = secured(tunnel.user);
    assert_ne!(second, first, "the new certificate is shown");
    assert_ne!(self::serial(tunnel.user, &authority), serial, "and openssl sees it and trusts it");
    assert_eq!(back_and_forth(&mut new, b"two"), b"two");
    assert_eq!(back_and_forth(&mut living, b"three"), b"three");
}

#[test]
fn a_bad_new_file_keeps_the_old_certificate_and_the_log_says_why() {
    let Some(authority) = Authority::new("tunnel.test") else { return };
    let query = format!("tls=2&{}", authority.parameters());
    let tunnel = Tunnel::single().client(&query).start();
    let first = secured(tunnel.user).1;
    let (crt, key) = (authority.path("server.pem"), authority.path("server.key"));
    let good = std::fs::read(&crt).unwrap();
    authority.issue("tunnel.test", "other");
    let foreign = std::fs::read(authority.path("other.key")).unwrap();

    let cases: [(&str, &str, &[u8]); 4] = [
        ("garbage", &crt, b"garbage"),
        ("empty", &crt, b""),
        ("half", &crt, &good[..good.len() / 2]),
        ("foreign key", &key, &foreign),
    ];
    for (name, file, bytes) in cases {
        let old = std::fs::read(file).unwrap();
        std::fs::write(file, bytes).unwrap();
        let mark = tunnel.client.mark();
        tunnel.client.signal(libc::SIGHUP);
        let line = tunnel.client.says_after(mark, "Certificate not loaded again, the old one stays", GRACE);
        assert!(line.contains("  ERROR  ") && line.contains(file), "{name}: {line}");
        assert_eq!(secured(tunnel.user).1, first, "{name}");
        std::fs::write(file, old).unwrap();
    }
    std::fs::remove_file(&crt).unwrap();
    let mark = tunnel.client.mark();
    tunnel.client.signal(libc::SIGHUP);
    tunnel.client.says_after(mark, &crt, GRACE);
    assert_eq!(secured(tunnel.user).1, first, "no file at all");

    replace(&authority);
    let mark = tunnel.client.mark();
    tunnel.client.signal(libc::SIGHUP);
    tunnel.client.says_after(mark, "Certificate loaded again", GRACE);
    assert_ne!(secured(tunnel.user).1, first, "and a good file is loaded after all that");
}

#[test]
fn changed_files_are_found_without_a_signal() {
    let Some(authority) = Authority::new("tunnel.test") else { return };
    let query = format!("tls=2&{}", authority.parameters());
    let tunnel = Tunnel::single().client(&query).env("NP_RELOAD_INTERVAL", "1s").start();
    let first = secured(tunnel.user).1;
    replace(&authority);
    assert!(eventually(GRACE, || secured(tunnel.user).1 != first), "the old certificate is still shown");
    tunnel.client.says("Certificate loaded again", GRACE);
}

#[test]
fn a_tunnel_goes_on_when_its_servers_certificate_is_replaced() {
    for builder in [Tunnel::reverse(), Tunnel::forward()] {
        let Some(authority) = Authority::new("tunnel.test") else { return };
        let query = format!("tls=2&max=8&{}", authority.parameters());
        let builder = builder.server(&query).client("sni=tunnel.test").env("SSL_CERT_FILE", &authority.ca());
        let tunnel = builder.start();
        let before = tunnel.at_rest();
        let server = tunnel.server.as_ref().unwrap();
        let (living, served) = tunnel.pair();
        tunnel.target.handle(echo);
        let first = secured(tunnel.tunnel).1;

        replace(&authority);
        server.signal(libc::SIGHUP);
        server.says("Certificate loaded again", GRACE);
        assert!(eventually(GRACE, || secured(tunnel.tunnel).1 != first), "pool connections are shown the new one");
        // Far more users than the pool held: they are carried by connections made after the change.
        for n in 0..40_u8 {
            tunnel.echo(&[n; 100]);
        }
        put(&living, b"living");
        assert_eq!(take(&served, 6), b"living");
        drop((living, served));
        tunnel.rests_again(&before);
        for process in tunnel.processes() {
            let mark = process.mark();
            process.says_after(mark, "CHECK_POINT|", GRACE);
            assert!(!process.said("ended") && !process.said("mismatch"), "{process:?}");
        }

        // A client that comes now is shown the new one from the start, and its check compares with that.
        tunnel.client.terminate();
        tunnel.client.wait(GRACE);
        let mut tunnel = tunnel;
        tunnel.restart_client();
        tunnel.up();
        assert!(!tunnel.server.as_ref().unwrap().said("mismatch"));
    }
}

/// Puts a new certificate and key of the same authority in place of the server's, as an administrator would.
fn replace(authority: &Authority) {
    authority.issue("tunnel.test", "fresh");
    for end in ["key", "pem"] {
        std::fs::rename(authority.path(&format!("fresh.{end}")), authority.path(&format!("server.{end}"))).unwrap();
    }
}

/// A TLS connection, and the certificate that was shown on it.
fn secured(addr: SocketAddr) -> (Secured, Vec<u8>) {
    let config = client(Trust::ANY, Alpn::Raw).expect("a TLS client");
    let connection = ClientConnection::new(config, server_name("tunnel.test").unwrap()).unwrap();
    let mut stream = StreamOwned::new(connection, connect(addr));
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).expect("a TLS handshake");
    }
    let leaf = stream.conn.peer_certificates().expect("a certificate")[0].to_vec();
    (stream, leaf)
}

fn back_and_forth(stream: &mut Secured, data: &[u8]) -> Vec<u8> {
    stream.write_all(data).unwrap();
    let mut back = vec![0; data.len()];
    stream.read_exact(&mut back).unwrap();
    back
}

/// The serial number of the certificate that openssl is shown, and trusts.
fn serial(addr: SocketAddr, authority: &Authority) -> String {
    let script = format!(
        "openssl s_client -connect {addr} -CAfile {} -servername tunnel.test -verify_return_error </dev/null | openssl \
         x509 -noout -serial",
        authority.ca()
    );
    let mut command = Command::new("sh");
    command.args(["-c", &script]);
    let (status, out, errors) = output(command);
    assert_eq!(status, 0, "{errors}");
    assert!(out.starts_with("serial="), "{out}");
    out
}
