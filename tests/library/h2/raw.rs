//! A client that knows no rules, on a plain socket, with a server's end of ours at the other side.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::pair::{nonblocking, End, GRACE};
use nodepass::net::h2::{Limits, H2};
use nodepass::net::tcp::Tcp;

/// What is required.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The connection ends with GOAWAY and this code.
    Ends(u32),
    /// The stream is reset with this code and the connection lives on.
    Resets(u32),
    /// The connection and its streams live on.
    Nothing,
}

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;
pub const PRIORITIZED: u8 = 0x20;

pub const NO_ERROR: u32 = 0;
pub const PROTOCOL_ERROR: u32 = 1;
pub const FLOW_CONTROL_ERROR: u32 = 3;
pub const STREAM_CLOSED: u32 = 5;
pub const FRAME_SIZE_ERROR: u32 = 6;
pub const CANCEL: u32 = 8;
pub const COMPRESSION_ERROR: u32 = 9;
pub const ENHANCE_YOUR_CALM: u32 = 11;

/// A plain socket with a server's end at the other.
pub struct Raw {
    pub socket: TcpStream,
    pub server: End<H2<Tcp>>,
    pub heard: Vec<u8>,
    pub frames: Vec<Frame>,
    pub over: bool,
    pub deaf: bool,
}

#[derive(Clone, Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub id: u32,
    pub payload: Vec<u8>,
}

impl Raw {
    pub fn bare(limits: Limits) -> Raw {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (other, peer) = listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        let server = End::new(Box::new(H2::server(nonblocking(other), peer, limits).unwrap()));
        Raw { socket, server, heard: Vec::new(), frames: Vec::new(), over: false, deaf: false }
    }

    pub fn new(limits: Limits) -> Raw {
        let mut raw = Raw::bare(limits);
        raw.say(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        raw.say(&frame(SETTINGS, 0, 0, b""));
        raw.until("its settings", |raw| raw.frame(SETTINGS, 0));
        raw.say(&frame(SETTINGS, ACK, 0, b""));
        raw
    }

    /// Says all of it, unless the connection ends first.
    pub fn say(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        self.until("room", |raw| {
            while !rest.is_empty() && !raw.over {
                match raw.socket.write(rest) {
                    Ok(count) => rest = &rest[count..],
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                    Err(_) => raw.over = true,
                }
            }
            Some(())
        });
        self.turn();
    }

    pub fn turn(&mut self) {
        if !self.over {
            self.server.turn(Duration::ZERO);
            self.over = self.server.over.is_some();
        }
        let mut part = [0; 16 * 1024];
        while !self.deaf {
            match self.socket.read(&mut part) {
                Ok(0) => break,
                Ok(count) => self.heard.extend_from_slice(&part[..count]),
                Err(_) => break,
            }
        }
        while let [a, b, c, kind, flags, rest @ ..] = &self.heard[..] {
            let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            if rest.len() < 4 + length {
                break;
            }
            let id = u32::from_be_bytes(rest[..4].try_into().unwrap());
            self.frames.push(Frame { kind: *kind, flags: *flags, id, payload: rest[4..4 + length].to_vec() });
            self.heard.drain(..9 + length);
        }
    }

    pub fn until<T>(&mut self, what: &str, mut done: impl FnMut(&mut Raw) -> Option<T>) -> T {
        let begin = Instant::now();
        loop {
            if let Some(value) = done(self) {
                return value;
            }
            assert!(begin.elapsed() < GRACE, "waited in vain for {what}");
            self.turn();
        }
    }

    pub fn frame(&self, kind: u8, id: u32) -> Option<Frame> {
        self.frames.iter().find(|frame| frame.kind == kind && frame.id == id).cloned()
    }

    /// What these frames lead to.
    pub fn ask(&mut self, frames: &[u8]) -> Answer {
        self.say(frames);
        self.settled()
    }

    /// Whether everything that was said is answered by now, and how.
    pub fn settled(&mut self) -> Answer {
        self.frames.retain(|frame| frame.kind != PING);
        if !self.over {
            self.say(&frame(PING, 0, 0, b"all done"));
        }
        self.until("an answer", |raw| {
            let goaway = raw.frames.iter().find(|frame| frame.kind == GOAWAY);
            if let Some(frame) = goaway.filter(|_| raw.over) {
                return Some(Answer::Ends(u32::from_be_bytes(frame.payload[4..8].try_into().unwrap())));
            }
            let done = raw.frames.iter().any(|frame| frame.kind == PING && frame.flags & ACK != 0);
            let reset = raw.frames.iter().find(|frame| frame.kind == RST_STREAM);
            done.then(|| match reset {
                Some(frame) => Answer::Resets(u32::from_be_bytes(frame.payload[..4].try_into().unwrap())),
                None => Answer::Nothing,
            })
        })
    }
}

pub fn frame(kind: u8, flags: u8, id: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &id.to_be_bytes(), payload].concat()
}

pub fn goaway(code: u32) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[[0; 4], code.to_be_bytes()].concat())
}

pub fn push(id: u32, promised: u32, head: &[u8]) -> Vec<u8> {
    frame(PUSH_PROMISE, END_HEADERS, id, &[&promised.to_be_bytes()[..], head].concat())
}

/// A head on stream 1, cut at these places.
pub fn parts(head: &[u8], cuts: &[usize]) -> Vec<u8> {
    let ends = cuts.iter().copied().chain([head.len()]);
    let starts = [0].into_iter().chain(cuts.iter().copied());
    let mut frames = Vec::new();
    for (start, end) in starts.zip(ends) {
        let kind = if start == 0 { HEADERS } else { CONTINUATION };
        let flags = if end == head.len() { END_HEADERS } else { 0 };
        frames.extend(frame(kind, flags, 1, &head[start..end]));
    }
    frames
}

pub fn post(path: &str) -> Vec<u8> {
    request("POST", path)
}

pub fn request(method: &str, path: &str) -> Vec<u8> {
    block(&[(":method", method), (":scheme", "https"), (":authority", "a.example"), (":path", path)])
}

/// A field of 3000 bytes that goes into HPACK's dynamic table, and then its number there, again and again.
pub fn bomb(head: &[u8]) -> Vec<u8> {
    let mut field = block(&[("a", &"b".repeat(3000))]);
    field[0] = 0x40;
    [head, &field, &[0x80 | 62; 1000]].concat()
}

/// Header fields in HPACK's plainest form: literal, not indexed.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            length(&mut bytes, text.len());
            bytes.extend(text.bytes());
        }
    }
    bytes
}

/// HPACK's integer with a prefix of seven bits.
pub fn length(bytes: &mut Vec<u8>, length: usize) {
    if length < 127 {
        return bytes.push(length as u8);
    }
    bytes.push(127);
    let mut rest = length - 127;
    while rest >= 128 {
        bytes.push(rest as u8 | 128);
        rest /= 128;
    }
    bytes.push(rest as u8);
}
