//! The key, `tls`, `crt`, `key`, `sni`: who may come in, and who can listen.

use super::refused;
use crate::support::*;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[test]
fn without_a_key_the_port_gives_it_and_the_server_warns() {
    let (target, user, port) = (Target::echo(), free_addr(), free_port());
    let server = Process::nodepass(&format!("server://127.0.0.1:{port}/{user}?mode=1"));
    assert!(server.says("key", GRACE).contains("  WARN  "), "every program that knows the port can connect");
    let client = Process::nodepass(&format!("client://127.0.0.1:{port}/{}?mode=2", target.addr()));
    until("a user", GRACE, || exchange(user, b"hello"));
    drop(client);
    // The rule is public: FNV-1a of the port's digits. A client that was given the result gets in too.
    let hash =
        port.to_string().bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(16_777_619));
    let _client = Process::nodepass(&format!("client://{hash:08x}@127.0.0.1:{port}/{}?mode=2", target.addr()));
    until("a user", GRACE, || exchange(user, b"hello"));
}

#[test]
fn a_wrong_key_stays_outside_and_says_so() {
    let (target, user, port) = (Target::echo(), free_addr(), free_port());
    let server = Process::nodepass(&format!("server://right@127.0.0.1:{port}/{user}?mode=1"));
    let client = Process::nodepass(&format!("client://wrong@127.0.0.1:{port}/{}?mode=2", target.addr()));
    client.says("401", GRACE);
    assert!(exchange(user, b"hello").is_err(), "no user gets through");
    drop(client);
    let _client = Process::nodepass(&format!("client://right@127.0.0.1:{port}/{}?mode=2", target.addr()));
    until("a user", GRACE, || exchange(user, b"hello"));
    assert!(!server.said("right"), "the key is never logged");
}

#[test]
fn a_key_may_have_any_characters() {
    let (target, user, port) = (Target::echo(), free_addr(), free_port());
    let _server = Process::nodepass(&format!("server://p%40ss%2Fw%C3%B6rd%20%25@127.0.0.1:{port}/{user}?mode=1&tls=1"));
    let _client =
        Process::nodepass(&format!("client://p%40ss%2fw%c3%b6rd%20%25@127.0.0.1:{port}/{}?mode=2", target.addr()));
    until("a user", GRACE, || exchange(user, b"hello"));
}

#[test]
fn plain_pools_can_be_read_on_the_way_and_encrypted_ones_can_not() {
    for flow in [Flow::Reverse, Flow::Forward] {
        for tls in ["0", "1", "2"] {
            if tls == "2" && program("openssl").is_none() {
                continue;
            }
            let authority = (tls == "2").then(|| Authority::new("tunnel.test").unwrap());
            let files = authority.as_ref().map_or(String::new(), |authority| format!("&{}", authority.parameters()));
            let ca = authority.as_ref().map_or("/dev/null".into(), Authority::ca);
            let (target, user) = (Target::echo(), free_addr());
            let tap = Tap::new();
            let (at_server, at_client, mode) = match flow {
                Flow::Reverse => (user, target.addr(), 1),
                _ => (target.addr(), user, 2),
            };
            let _server = Process::nodepass(&format!("server://k@{}/{at_server}?mode={mode}&tls={tls}{files}", tap.to));
            let client = format!("client://k@{}/{at_client}?mode=2&sni=tunnel.test", tap.addr);
            let _client = Process::nodepass_with(&[&client], &[("SSL_CERT_FILE", &ca)]);
            let secret = b"no other may read this long sentence!";
            until("a user", GRACE, || exchange(user, secret));
            udp_echo(user, secret).unwrap();
            let heard = tap.heard.lock().unwrap();
            let readable = heard.windows(secret.len()).any(|window| window == secret);
            assert_eq!(readable, tls == "0", "tls={tls}");
            let shown = heard.windows(1 + secret.len()).any(|window| window == b"server://k");
            assert!(!shown, "the key never travels");
        }
    }
}

#[test]
fn a_client_refuses_terms_with_less_tls_than_its_own_url_asks_for() {
    for (offered, least) in [("0", "1"), ("0", "2"), ("1", "2")] {
        let (target, user, port) = (Target::echo(), free_addr(), free_port());
        let server = format!("server://k@127.0.0.1:{port}/{user}?mode=1&tls={offered}");
        let _server = Process::nodepass_with(&[&server], &[("NP_POOL_GET_TIMEOUT", "500ms")]);
        let url = |least: &str| format!("client://k@127.0.0.1:{port}/{}?mode=2&log=debug&tls={least}", target.addr());
        let client = Process::nodepass(&url(least));
        let line = client.says("this client wants at least", GRACE);
        assert!(
            line.contains(&format!("the server offers tls={offered}, this client wants at least {least}")),
            "{line}"
        );
        client.says("failed again", GRACE);
        assert!(exchange(user, b"in the clear").is_err() && target.accepted() == 0, "no user is served");
        drop(client);
        let _client = Process::nodepass(&url(offered));
        until("a user", GRACE, || exchange(user, b"hello"));
    }
}

#[test]
fn a_listener_without_certificate_files_does_not_open_with_tls_2() {
    let url = format!("client://127.0.0.1:{}/127.0.0.1:{}?tls=2", free_port(), free_port());
    refused(&[&url], 1, &["tls=2 needs certificate files", "crt", "key"]);
}

#[test]
fn certificate_files_that_cannot_be_used_are_refused_by_name_and_reason() {
    if program("openssl").is_none() {
        return;
    }
    let authority = Authority::new("tunnel.test").unwrap();
    authority.issue("other.test", "other");
    let folder = Folder::new();
    let rubbish = folder.write("rubbish.pem", "this is no certificate");
    let rubbish = rubbish.to_str().unwrap();
    let missing = folder.file("missing.pem");
    let missing = missing.to_str().unwrap();
    let (crt, key, other) = (authority.path("server.pem"), authority.path("server.key"), authority.path("other.key"));
    for (role, mode) in [("server", 1), ("client", 1)] {
        let url = |files: &str| {
            format!("{role}://k@127.0.0.1:{}/127.0.0.1:{}?mode={mode}&tls=2{files}", free_port(), free_port())
        };
        refused(&[&url("")], 1, &["crt"]);
        refused(&[&url(&format!("&crt={crt}"))], 1, &["key"]);
        refused(&[&url(&format!("&crt={missing}&key={key}"))], 1, &[missing]);
        refused(&[&url(&format!("&crt={crt}&key={missing}"))], 1, &[missing]);
        refused(&[&url(&format!("&crt={rubbish}&key={key}"))], 1, &[rubbish]);
        refused(&[&url(&format!("&crt={crt}&key={rubbish}"))], 1, &[rubbish]);
        refused(&[&url(&format!("&crt={crt}&key={other}"))], 1, &["not that of the certificate"]);
    }
}

#[test]
fn a_client_turns_away_from_a_server_with_the_wrong_name_or_an_unknown_authority() {
    if program("openssl").is_none() {
        return;
    }
    let (authority, stranger) = (Authority::new("tunnel.test").unwrap(), Authority::new("tunnel.test").unwrap());
    for (transport, _) in kinds().into_iter().filter(|(_, tls)| *tls == 1) {
        for (sni, ca) in [("other.test", authority.ca()), ("tunnel.test", stranger.ca())] {
            let (target, user, port) = (Target::echo(), free_addr(), free_port());
            let query = format!("mode=1&type={transport}&tls=2&{}", authority.parameters());
            let url = format!("server://k@127.0.0.1:{port}/{user}?{query}");
            let _server = Process::nodepass_with(&[&url], &[("NP_POOL_GET_TIMEOUT", "500ms")]);
            let client = format!("client://k@127.0.0.1:{port}/{}?mode=2&sni={sni}", target.addr());
            let client = Process::nodepass_with(&[&client], &[("SSL_CERT_FILE", &ca)]);
            let line = client.says("certificate", GRACE);
            assert!(line.contains("  WARN  "), "type={transport}: {line}");
            assert!(exchange(user, b"hello").is_err(), "no user gets through");
            assert_eq!(target.accepted(), 0);
        }
    }
}

#[test]
fn sni_is_the_host_of_the_handshake() {
    let cases = [("127.0.0.1", "", "none"), ("localhost", "", "localhost"), ("127.0.0.1", "&sni=my.test", "my.test")];
    for (host, parameters, wanted) in cases {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let _client = Process::nodepass(&format!("client://k@{host}:{port}/127.0.0.1:9?mode=2&auth=0{parameters}"));
        let head = head(&listener);
        assert!(head.starts_with("GET / HTTP/1.1\r\n"), "{head:?}");
        let found = head.lines().find_map(|line| line.strip_prefix("Host: "));
        assert_eq!(found, Some(wanted), "{head:?}");
    }
}

#[test]
fn a_single_end_listener_with_tls_speaks_no_plain_text() {
    let tunnel = Tunnel::single().client("tls=1").start();
    let user = tunnel.connect();
    put(&user, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    let back = rest(&user);
    assert!(!back.starts_with(b"GET"), "plain bytes went through: {back:?}");
    let now = tunnel.client.checkpoint(|now| now.tcps == 0);
    assert_eq!((now.tcprx, now.tcptx), (0, 0), "nothing was carried");
}

/// The head of the next request.
pub fn head(listener: &TcpListener) -> String {
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(GRACE)).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a request");
        head.push(byte[0]);
    }
    String::from_utf8(head).expect("text")
}

/// A third party between client and server that hears everything.
struct Tap {
    addr: SocketAddr,
    to: SocketAddr,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Tap {
    fn new() -> Tap {
        let (to, heard) = (free_addr(), Arc::new(Mutex::new(Vec::new())));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let ears = Arc::clone(&heard);
        std::thread::spawn(move || {
            for here in listener.incoming().flatten() {
                let Ok(there) = TcpStream::connect_timeout(&to, Duration::from_secs(5)) else { continue };
                for (from, into) in [(&here, &there), (&there, &here)] {
                    let (from, into, ears) = (from.try_clone().unwrap(), into.try_clone().unwrap(), Arc::clone(&ears));
                    std::thread::spawn(move || listen_in(from, into, &ears));
                }
            }
        });
        Tap { addr, to, heard }
    }
}

fn listen_in(mut from: TcpStream, mut into: TcpStream, ears: &Mutex<Vec<u8>>) {
    let mut buffer = vec![0; 65536];
    while let Ok(len) = from.read(&mut buffer) {
        ears.lock().unwrap().extend_from_slice(&buffer[..len]);
        if len == 0 || into.write_all(&buffer[..len]).is_err() {
            break;
        }
    }
    let _ = into.shutdown(std::net::Shutdown::Write);
}
