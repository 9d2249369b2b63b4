//! The other side of a tunnel, in a test's hands: it speaks the plain 1.14 wire (`tls=0`), and lies where the test wants.

use crate::support::{connect, free_addr, take, until, GRACE};
use nodepass::logic::wire::{decode, encode, token, Id, Lines, Signal, CONTROL};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// The key that all these tests use.
pub const KEY: &str = "a-test-key";

/// A client that a test plays.
pub struct FakeClient {
    addr: SocketAddr,
    pub control: TcpStream,
    lines: Lines,
}

/// A pool connection and its id.
pub struct Pooled {
    pub id: Id,
    pub stream: TcpStream,
}

impl FakeClient {
    /// Shakes hands with a server and takes the control connection.
    pub fn join(server: SocketAddr) -> FakeClient {
        assert!(handshake(server, KEY).starts_with("HTTP/1.1 200"));
        let first = until("the control connection", GRACE, || match pooled(server) {
            Pooled { id: CONTROL, stream } => Ok(stream),
            Pooled { id, .. } => Err(id),
        });
        let mut joined = FakeClient { addr: server, control: first, lines: Lines::default() };
        // An original does so at once; before it does, it is not known.
        joined.say(&[Signal::Ping]);
        joined.hears(|signal| *signal == Signal::Pong);
        joined
    }

    /// Opens a pool connection.
    pub fn open(&self) -> Pooled {
        pooled(self.addr)
    }

    /// Opens that many, side by side.
    pub fn open_all(&self, count: usize) -> Vec<Pooled> {
        let streams: Vec<TcpStream> = (0..count).map(|_| connect(self.addr)).collect();
        streams.into_iter().map(numbered).collect()
    }

    /// Says these bytes on the control connection; whether they went out.
    pub fn say_bytes(&mut self, bytes: &[u8]) -> bool {
        self.control.write_all(bytes).is_ok()
    }

    /// Says signals; whether they went out.
    pub fn say(&mut self, signals: &[Signal]) -> bool {
        let bytes = encoded(signals);
        self.say_bytes(&bytes)
    }

    /// The next signal that fits.
    pub fn hears(&mut self, fits: impl Fn(&Signal) -> bool) -> Signal {
        hears(&mut self.control, &mut self.lines, fits).expect("the signal")
    }

    /// Waits until the server has closed the control connection, reading whatever it says.
    pub fn is_over(&mut self) -> bool {
        hears(&mut self.control, &mut self.lines, |_| false).is_none()
    }
}

/// A server that a test plays: it answers handshakes as told and then numbers pool connections as told.
pub struct FakeServer {
    listener: TcpListener,
}

impl FakeServer {
    pub fn new() -> FakeServer {
        FakeServer { listener: TcpListener::bind(free_addr()).expect("a listener") }
    }

    pub fn addr(&self) -> SocketAddr {
        self.listener.local_addr().expect("an address")
    }

    /// The next connection that opens with a handshake; its request is read. Others are dropped.
    pub fn asked(&self) -> TcpStream {
        loop {
            let stream = self.accept();
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && (&stream).read(&mut byte).is_ok_and(|len| len > 0) {
                head.push(byte[0]);
            }
            if head.starts_with(b"GET / HTTP/1.1\r\n") {
                return stream;
            }
        }
    }

    /// Answers the next handshake with these bytes, and closes.
    pub fn answer(&self, bytes: &[u8]) {
        // The client may close in the middle of a long answer.
        let _ = self.asked().write_all(bytes);
    }

    /// Shakes hands as a 1.14 server with that flow does.
    pub fn shake_hands(&self, flow: char) {
        self.answer(&terms(&format!(r#"{{"flow":"{flow}","max":64,"tls":"0","type":"0"}}"#)));
    }

    /// The next connection, whatever it wants.
    pub fn accept(&self) -> TcpStream {
        let stream = self.listener.accept().expect("a connection").0;
        stream.set_read_timeout(Some(GRACE)).expect("a timeout");
        stream.set_write_timeout(Some(GRACE)).expect("a timeout");
        stream
    }

    /// The next connection, numbered.
    pub fn number(&self, id: Id) -> TcpStream {
        let mut stream = self.accept();
        let _ = stream.write_all(&id.0);
        stream
    }
}

/// A 200 with this body.
pub fn terms(json: &str) -> Vec<u8> {
    let length = json.len();
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{json}"
    )
    .into_bytes()
}

/// A whole handshake with that key; the server's answer.
pub fn handshake(server: SocketAddr, key: &str) -> String {
    let mut stream = connect(server);
    let request = format!("GET / HTTP/1.1\r\nHost: none\r\nAuthorization: Bearer {}\r\n\r\n", token(key.as_bytes()));
    stream.write_all(request.as_bytes()).expect("a request");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// The lines of these signals.
pub fn encoded(signals: &[Signal]) -> Vec<u8> {
    let mut bytes = Vec::new();
    signals.iter().for_each(|signal| encode(signal, KEY.as_bytes(), &mut bytes));
    bytes
}

/// Reads signals until one fits; `None` at the end of the stream. Panics if neither comes.
pub fn hears(stream: &mut TcpStream, lines: &mut Lines, fits: impl Fn(&Signal) -> bool) -> Option<Signal> {
    stream.set_read_timeout(Some(GRACE)).expect("a timeout");
    let mut bytes = vec![0; 65536];
    loop {
        while let Some(line) = lines.next(|line| decode(line, KEY.as_bytes())) {
            match line {
                Ok(signal) if fits(&signal) => return Some(signal),
                _ => {}
            }
        }
        match stream.read(&mut bytes) {
            Ok(0) => return None,
            Ok(len) => lines.feed(&bytes[..len]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("neither a signal nor the end"),
            Err(_) => return None,
        }
    }
}

fn pooled(server: SocketAddr) -> Pooled {
    numbered(connect(server))
}

fn numbered(stream: TcpStream) -> Pooled {
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    let id = Id(take(&stream, 4).try_into().expect("an id"));
    Pooled { id, stream }
}
