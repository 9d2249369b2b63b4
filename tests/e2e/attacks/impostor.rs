//! An attacker at the server's address: it answers what it likes.

use crate::support::*;
use nodepass::logic::wire::{decode, encode, Id, Signal, CONTROL};
use nodepass::net::certs::{Alpn, Audience, Certs, Origin};
use rustls::{ServerConnection, StreamOwned};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use super::KEY;

/// What it answers, and where.
#[derive(Clone, Copy, Debug)]
enum Lie {
    /// Terms in the clear, at once.
    Terms,
    /// What an original says to TLS.
    BadRequest,
    /// Nothing: it closes.
    Close,
    /// Inside TLS.
    Inside(&'static str),
}

/// What a client that knows originals goes on with.
const TERMS: &str =
    "HTTP/1.1 200 OK\r\nContent-Length: 45\r\n\r\n{\"flow\":\"-\",\"max\":1024,\"tls\":\"0\",\"type\":\"0\"}\n";
const LIES: [Lie; 8] = [
    Lie::Terms,
    Lie::BadRequest,
    Lie::Close,
    Lie::Inside(TERMS),
    Lie::Inside("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"),
    Lie::Inside("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
    Lie::Inside("HTTP/1.1 200 OK\r\nContent-Length: 77\r\n\r\n{\"auth\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}"),
    Lie::Inside("HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{\"auth\":\"\"}"),
];

#[test]
fn an_original_client_tells_its_key_to_any_server_and_dials_for_it() {
    let target = Target::echo();
    let listener = TcpListener::bind(free_addr()).expect("a listener");
    let at = listener.local_addr().expect("an address");
    let client = Process::nodepass(&format!("client://{KEY}@{at}/{}?mode=2&min=4&auth=0", target.addr()));
    let asked = listener.accept().expect("a client").0;
    head(&asked);
    (&asked).write_all(TERMS.as_bytes()).expect("an answer");
    drop(asked);
    let mut control = listener.accept().expect("the control connection").0;
    control.write_all(&CONTROL.0).expect("a number");
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        line.extend(take(&control, 1));
    }
    let masked = data_encoding::BASE64.decode(&line[..line.len() - 1]).expect("base64");
    let key: Vec<u8> =
        masked.iter().zip(br#"{"action":"ping"}"#).map(|(byte, text)| byte ^ text).take(KEY.len()).collect();
    assert_eq!(key, KEY.as_bytes(), "known text gives the key away");
    assert!(decode(&line[..line.len() - 1], &key).is_ok());
    let mut pooled = listener.accept().expect("a pool connection").0;
    pooled.write_all(&[1; 4]).expect("a number");
    let mut launch = Vec::new();
    encode(&Signal::Tcp { remote: "192.0.2.1:1".into(), id: Id([1; 4]) }, &key, &mut launch);
    control.write_all(&launch).expect("a client that listens");
    assert!(eventually(GRACE, || target.accepted() > 0), "{:?}", client.lines());
}

#[test]
fn a_client_that_wants_authentication_says_nothing_to_an_impostor_and_dials_no_target() {
    let target = Target::echo();
    let listener = TcpListener::bind(free_addr()).expect("a listener");
    let url =
        format!("client://{KEY}@{}/{}?mode=2&min=4&auth=2&log=debug", listener.local_addr().unwrap(), target.addr());
    let client = Process::nodepass(&url);
    lie(&listener, &client);
    assert_eq!(target.accepted(), 0);
}

#[test]
fn a_client_that_has_met_its_server_is_not_talked_into_the_originals_handshake() {
    let (target, user, at) = (Target::echo(), free_addr(), free_addr());
    let server = Process::nodepass(&format!("server://{KEY}@{at}/{user}?mode=1&type=0&max=8"));
    server.says("Waiting for a client", GRACE);
    let url = format!("client://{KEY}@{at}/{}?mode=2&min=4&auth=1&log=debug", target.addr());
    let client = Process::nodepass(&url);
    // Only then: a user who comes before it waits, and may be served while the next one has been.
    client.says(" is up: users", GRACE);
    until("a user", GRACE, || exchange(user, b"hello"));
    let before = target.accepted();
    server.kill();
    server.wait(GRACE);
    let listener = until("its port", GRACE, || TcpListener::bind(at));
    lie(&listener, &client);
    assert_eq!(target.accepted(), before);
}

/// Tells the client all lies. Each of its connections begins with TLS, and inside it is nothing but message 1.
fn lie(listener: &TcpListener, client: &Process) {
    let identity = Certs::new(Origin::Memory, Audience::Pool(Alpn::Http1)).expect("a certificate").current();
    for lie in LIES {
        let mark = client.mark();
        let stream = asks(listener);
        match lie {
            Lie::Terms => (&stream).write_all(TERMS.as_bytes()).expect("an answer"),
            Lie::BadRequest => {
                (&stream).write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n").expect("an answer")
            }
            Lie::Close => drop(stream),
            Lie::Inside(answer) => {
                let session = ServerConnection::new(identity.config.clone()).expect("TLS");
                let mut stream = StreamOwned::new(session, stream);
                let request = head(&mut stream);
                assert!(request.contains("\r\nNodePass-Auth: 1 "), "{lie:?}: {request}");
                assert!(!request.contains("Authorization") && !request.contains("Features"), "{lie:?}: {request}");
                let _ = stream.write_all(answer.as_bytes());
                stream.conn.send_close_notify();
                let _ = stream.conn.complete_io(&mut stream.sock);
            }
        }
        client.says_after(mark, "andshake with", GRACE);
    }
    // No pool connection, and no other handshake, has come meanwhile.
    asks(listener);
    assert_eq!(client.count(" is up: users"), usize::from(client.said("; authenticated")), "{:?}", client.lines());
}

/// The next connection, which begins with TLS.
fn asks(listener: &TcpListener) -> TcpStream {
    loop {
        let stream = listener.accept().expect("a client").0;
        stream.set_read_timeout(Some(GRACE)).expect("a timeout");
        let mut first = [0];
        match stream.peek(&mut first) {
            // The opening of a pool connection for the tunnel that was: it is good at no other server.
            Ok(1) if first[0] == 0 => continue,
            Ok(1) => assert_eq!(first[0], 0x16, "TLS and nothing else"),
            // A connection that its client has given up.
            _ => continue,
        }
        return stream;
    }
}

/// The head of a request.
fn head(mut stream: impl Read) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|len| len > 0) {
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}
