//! A server with `type=1` whose UDP port cannot be reached: its client goes on over TCP with TLS, and back when it can.

use crate::support::*;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::Arc;
use std::thread::spawn;

#[test]
fn where_udp_is_blocked_the_pool_comes_over_tcp_and_over_quic_when_that_gets_through() {
    for flow in [Flow::Reverse, Flow::Forward] {
        let (target, user, tunnel) = (Target::echo(), free_addr(), free_addr());
        let (mode, at_server, at_client) = match flow {
            Flow::Forward => (2, target.addr(), user),
            _ => (1, user, target.addr()),
        };
        let server =
            format!("server://a-key-of-some-length@{tunnel}/{at_server}?mode={mode}&type=1&max={POOL}&log=debug");
        // A session of datagrams may go over a connection that no wall cuts: it ends by itself. A try of QUIC has half the time
        // of a handshake.
        let environment =
            [("NP_QUIC_RETRY_INTERVAL", "1s"), ("NP_UDP_READ_TIMEOUT", "1s"), ("NP_HANDSHAKE_TIMEOUT", "4s")];
        let server = Process::nodepass_with(&[&server], &environment);
        let wall = Wall::before(tunnel);
        let url = format!("client://a-key-of-some-length@{}/{at_client}?mode=2&min={POOL}&log=debug", wall.at);
        let client = Process::nodepass_with(&[&url], &environment);

        let line = client.says("going on over TCP with TLS", GRACE);
        assert!(line.contains("  WARN  ") && line.contains(&format!("UDP port {}", wall.at.port())), "{line}");
        client.says("TCP pool of at most", GRACE);
        until("a user over TCP", GRACE, || exchange(user, b"hello"));
        let before = (server.at_rest(POOL), client.at_rest(POOL));
        assert!(eventually(GRACE, || client.count("QUIC does not get through yet") >= 2), "it goes on trying");
        assert_eq!(client.count("  WARN  "), 1, "once is enough: {:?}", client.lines());

        wall.open.store(true, Ordering::SeqCst);
        client.says("QUIC gets through again", GRACE);
        let carried = wall.carried.load(Ordering::SeqCst);
        for n in 0..3 * POOL {
            echoed(user, &noise(n, 50_000));
        }
        assert!(wall.carried.load(Ordering::SeqCst) > carried + 1_000_000, "users go over QUIC");
        assert_eq!(udp_echo(user, b"and datagrams").unwrap(), b"and datagrams");

        // What was made over TCP lives on, so the next wall costs users a moment and not the tunnel.
        let mark = client.mark();
        wall.open.store(false, Ordering::SeqCst);
        client.says_after(mark, "going on over TCP with TLS", GRACE);
        until("a user over TCP again", GRACE, || exchange(user, b"hello"));
        assert_eq!(client.count("is up: users"), 1, "one tunnel all the while");
        client.rests_again(POOL, before.1);
        // The server's end of what the wall has cut is quiet for three reports before it is over.
        server.rests_again(POOL, before.0);
    }
}

#[test]
fn the_first_user_does_not_wait_until_quic_is_given_up() {
    let (target, user, tunnel) = (Target::echo(), free_addr(), free_addr());
    // A try of QUIC has half of that.
    let environment = [("NP_HANDSHAKE_TIMEOUT", "120s")];
    let url = format!("server://a-key-of-some-length@{tunnel}/{user}?mode=1&type=1");
    let _server = Process::nodepass_with(&[&url], &environment);
    let wall = Wall::before(tunnel);
    let url = format!("client://a-key-of-some-length@{}/{}?mode=2&log=debug", wall.at, target.addr());
    let client = Process::nodepass_with(&[&url], &environment);
    until("a user over TCP", GRACE, || exchange(user, b"hello"));
    assert_eq!(client.count("unreachable or blocked"), 0, "it has not been given up");

    // What was sent meanwhile is sent again: QUIC comes up as soon as it can.
    wall.open.store(true, Ordering::SeqCst);
    client.says("QUIC gets through again", GRACE);
}

#[test]
fn a_tunnel_that_ends_while_udp_is_blocked_comes_back_over_tcp_at_once() {
    let (target, user, tunnel) = (Target::echo(), free_addr(), free_addr());
    let url = format!("server://a-key-of-some-length@{tunnel}/{user}?mode=1&type=1");
    let server = Process::nodepass(&url);
    let wall = Wall::before(tunnel);
    let client =
        Process::nodepass(&format!("client://a-key-of-some-length@{}/{}?mode=2&log=debug", wall.at, target.addr()));
    until("a user over TCP", GRACE, || exchange(user, b"hello"));
    server.kill();
    client.says("ended", GRACE);
    let _server = Process::nodepass(&url);
    until("a user over TCP again", GRACE, || exchange(user, b"hello"));
    assert_eq!(client.count("going on over TCP"), 1, "what was found out is remembered");
}

#[test]
fn with_an_original_server_there_is_no_fallback_and_the_error_names_the_port() {
    let listener = TcpListener::bind(free_addr()).expect("a listener");
    let at = listener.local_addr().unwrap();
    spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut head = [0; 1024];
            let _ = stream.read(&mut head);
            let terms = r#"{"flow":"-","max":64,"tls":"1","type":"1"}"#;
            let length = terms.len();
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{terms}");
            let _ = stream.shutdown(Shutdown::Write);
        }
    });
    // A firewall drops what comes there, or no program listens.
    for silent in [true, false] {
        let _port = silent.then(|| UdpSocket::bind(at).expect("a port"));
        let client = Process::nodepass(&format!("client://a-key-of-some-length@{at}/127.0.0.1:9?mode=2&log=debug"));
        let line = client.says("Pool connection not opened", GRACE);
        assert!(line.contains("  WARN  ") && line.contains(&blocked(at)), "{line}");
        client.says("ended", GRACE);
        assert!(eventually(GRACE, || client.count("ended") >= 2), "it goes on trying");
        let told = client.lines().iter().filter(|line| line.contains("WARN") && line.contains("blocked")).count();
        assert_eq!(told, 1, "{:?}", client.lines());
    }
}

fn blocked(at: SocketAddr) -> String {
    format!("UDP port {} unreachable or blocked", at.port())
}

/// A path to a server that lets TCP through, and UDP only while it is open.
struct Wall {
    at: SocketAddr,
    open: Arc<AtomicBool>,
    /// Bytes of datagrams that were let through.
    carried: Arc<AtomicUsize>,
}

impl Wall {
    fn before(server: SocketAddr) -> Wall {
        let (open, carried) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (opened, count) = (open.clone(), carried.clone());
        let at = path_past(server, move |piece| {
            let passes = !piece.udp || opened.load(Ordering::SeqCst);
            if passes && piece.udp {
                count.fetch_add(piece.len, Ordering::SeqCst);
            }
            passes
        });
        Wall { at, open, carried }
    }
}
