//! Connections that speak well and never say whose they are: HTTP/2, QUIC, WebSocket. Each counts as a stranger until one of its streams,
//! or itself, is a client's; and all of them end.

use super::{attacked, is_built};
use crate::support::*;
use nodepass::net::certs::{client, server_name, Alpn, Trust};
use rustls::{ClientConnection, StreamOwned};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

type Secured = StreamOwned<ClientConnection, TcpStream>;

#[test]
fn a_thousand_http2_connections_that_open_nothing_leave_users_served_and_end() {
    let count = if raise_limits(3000) { 1000 } else { 400 };
    if !is_built(3) {
        return;
    }
    attacked("type=3&tls=1", |tunnel| {
        let server = tunnel.server.as_ref().expect("a server");
        let before = server.own_memory_kb();
        let mut held: Vec<Secured> = (0..count).map(|_| preface(tunnel.tunnel)).collect();
        let most = before + 128 * count;
        let ended = eventually(LONG, || {
            // They answer nothing, and are never silent.
            held.retain_mut(|stream| stream.write_all(PING).and_then(|()| stream.flush()).is_ok());
            let now = server.own_memory_kb();
            assert!(now < most, "{before} KiB before, {now} with {} of them", held.len());
            held.is_empty()
        });
        assert!(ended, "{} of {count} are still let in", held.len());
    });
}

#[test]
fn requests_that_never_end_end_their_connection() {
    if !is_built(3) {
        return;
    }
    attacked("type=3&tls=1", |tunnel| {
        let server = tunnel.server.as_ref().expect("a server");
        let before = server.own_memory_kb();
        for head in [NOTHING_OF_OURS, A_STREAM] {
            let mut stream = preface(tunnel.tunnel);
            let mut said = 0;
            // Odd numbers, as RFC 9113 wants: streams 1, 3, 5 ...
            for number in (1_u32..).step_by(2) {
                let mut frame = [&[0, 0, head.len() as u8, 1, 4][..], &number.to_be_bytes(), head].concat();
                if number % 64 == 1 {
                    frame.extend(PING);
                }
                if stream.write_all(&frame).and_then(|()| stream.flush()).is_err() {
                    break;
                }
                said += frame.len();
                if number % 8192 == 1 {
                    let now = server.own_memory_kb();
                    assert!(now < before + 24 * 1024, "{before} KiB before, {now} with {number} requests");
                }
                assert!(said < MUCH, "{said} bytes of heads, and it is still let in");
            }
        }
    });
}

#[test]
fn websockets_that_open_nothing_end() {
    if !is_built(2) {
        return;
    }
    attacked("type=2&tls=1", |tunnel| {
        let held: Vec<Secured> = (0..100)
            .map(|_| {
                let mut stream = secured(tunnel.tunnel, Alpn::Http1);
                let head = "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                            Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
                stream.write_all(head.as_bytes()).expect("a request");
                stream
            })
            .collect();
        let mut upgraded = 0;
        for mut stream in held {
            let mut answer = Vec::new();
            // The end comes without a goodbye of TLS.
            let _ = stream.read_to_end(&mut answer);
            upgraded += usize::from(answer.starts_with(b"HTTP/1.1 101 "));
            assert!(is_closed(&stream.sock));
        }
        assert!(upgraded > 0, "none of them was a WebSocket");
    });
}

#[cfg(feature = "quic")]
#[test]
fn quic_connections_without_streams_end() {
    use mio::{Events, Poll, Token};
    use nodepass::net::budget::Budget;
    use nodepass::net::mux::Mux;
    use nodepass::net::quic::{ClientTls, QuicClient, Settings, Tickets};
    use std::time::Instant;

    attacked("type=1&tls=1", |tunnel| {
        let trusting = ClientTls::new(Trust::ANY, "").expect("a configuration");
        let settings = Settings::client(Duration::from_secs(1), GRACE, Duration::ZERO, Budget::PLENTY);
        let (mut poll, mut events) = (Poll::new().expect("a poll"), Events::with_capacity(64));
        let mut held: Vec<QuicClient> = (0..40)
            .map(|number| {
                let made =
                    QuicClient::connect(tunnel.tunnel, &trusting, &settings, &mut Tickets::default(), Instant::now());
                let mut made = made.expect("a socket");
                made.register(&registry(&poll), Token(number)).expect("a poll");
                made
            })
            .collect();
        let (mut over, mut was_up) = ([false; 40], [false; 40]);
        let all = eventually(LONG, || {
            let _ = poll.poll(&mut events, Some(Duration::from_millis(20)));
            events.iter().for_each(|event| held[event.token().0].note(event));
            for (number, one) in held.iter_mut().enumerate() {
                over[number] |= one.advance(Instant::now()).is_err();
                was_up[number] |= one.is_up();
            }
            over.iter().all(|over| *over)
        });
        assert!(all, "{} of 40 are still let in", over.iter().filter(|over| !**over).count());
        assert!(was_up.contains(&true), "none of them was let in");
    });
}

/// A TLS connection.
fn secured(to: SocketAddr, speech: Alpn) -> Secured {
    let config = client(Trust::ANY, speech).expect("a configuration");
    let connection = ClientConnection::new(config, server_name("a.example").expect("a name")).expect("TLS");
    StreamOwned::new(connection, connect(to))
}

/// An HTTP/2 connection that has said what every client says first.
fn preface(to: SocketAddr) -> Secured {
    let mut stream = secured(to, Alpn::Http2);
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    stream.write_all(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &settings[..]].concat()).expect("a handshake");
    stream.flush().expect("a handshake");
    stream
}

/// A frame that asks for an answer.
const PING: &[u8] = &[0, 0, 8, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// `GET /` over https to `x`, and no end.
const NOTHING_OF_OURS: &[u8] = &[0x82, 0x87, 0x84, 0x41, 1, b'x'];
/// `POST /stream`, the same.
const A_STREAM: &[u8] = &[0x83, 0x87, 0x44, 7, b'/', b's', b't', b'r', b'e', b'a', b'm', 0x41, 1, b'x'];
/// More than any stranger may say.
const MUCH: usize = 16 << 20;
/// A thousand handshakes take a while on a busy machine.
const LONG: Duration = Duration::from_secs(120);
