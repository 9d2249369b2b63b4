//! What a server must answer to frames, right and wrong ones, by a client that knows no rules.
//!
//! ```text
//!   preface, SETTINGS, the frames of a row, PING  -->  [ H2 ]  -->  GOAWAY | RST_STREAM | neither, and the PING's answer
//! ```

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

use super::pair::{limits, nonblocking, End, GRACE};
use nodepass::net::h2::{Limits, H2};
use nodepass::net::mux::Mux;
use nodepass::net::tcp::Tcp;

/// What is required.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// The connection ends with GOAWAY and this code.
    Ends(u32),
    /// The stream is reset with this code and the connection lives on.
    Resets(u32),
    /// The connection and its streams live on.
    Nothing,
}
use Answer::{Ends, Nothing, Resets};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITIZED: u8 = 0x20;

const NO_ERROR: u32 = 0;
const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;
const CANCEL: u32 = 8;
const COMPRESSION_ERROR: u32 = 9;
const ENHANCE_YOUR_CALM: u32 = 11;

#[test]
fn frames_are_answered_as_rfc_9113_requires() {
    let head = post("/stream");
    let open = frame(HEADERS, END_HEADERS, 1, &head);
    let ended = frame(HEADERS, END_HEADERS | END_STREAM, 1, &head);
    let setting = |id: u16, value: u32| frame(SETTINGS, 0, 0, &[&id.to_be_bytes()[..], &value.to_be_bytes()].concat());
    let with = |more: &[(&str, &str)]| frame(HEADERS, END_HEADERS, 1, &[&head[..], &block(more)].concat());
    let asking = |fields: &[(&str, &str)]| frame(HEADERS, END_HEADERS, 1, &block(fields));
    let then = |frames: &[&[u8]]| frames.concat();
    let big = vec![0; 16_385];
    let update = |id: u32, by: u32| frame(WINDOW_UPDATE, 0, id, &by.to_be_bytes());
    let reset = |id: u32, code: u32| frame(RST_STREAM, 0, id, &code.to_be_bytes());
    let on = |id: u32| frame(HEADERS, END_HEADERS, id, &head);

    let rows: Vec<(&str, &str, Vec<u8>, Answer)> = vec![
        // What is right.
        ("8.1", "a request", open.clone(), Nothing),
        ("8.1", "a request with its end", ended.clone(), Nothing),
        ("6.1", "DATA", then(&[&open, &frame(DATA, 0, 1, b"x")]), Nothing),
        ("6.1", "padded DATA", then(&[&open, &frame(DATA, PADDED, 1, b"\x02x\0\0")]), Nothing),
        ("6.1", "empty DATA with END_STREAM", then(&[&open, &frame(DATA, END_STREAM, 1, b"")]), Nothing),
        ("6.2", "padded HEADERS", frame(HEADERS, END_HEADERS | PADDED, 1, &[&[1][..], &head, &[0]].concat()), Nothing),
        ("6.10", "a head in three parts", parts(&head, &[5, 9]), Nothing),
        ("5.1.1", "stream numbers with gaps", then(&[&open, &on(9)]), Nothing),
        ("4.1", "a frame of no known type", frame(0xbb, 0xff, 1, b"whatever"), Nothing),
        ("4.1", "a frame of no known type on a stream", then(&[&open, &frame(0xbb, 0, 1, b"whatever")]), Nothing),
        ("6.5.2", "a setting of no known number", setting(0xbbbb, 1), Nothing),
        ("6.7", "a PING's answer that nobody asked for", frame(PING, ACK, 0, &[0; 8]), Nothing),
        ("6.7", "a PING with odd flags", frame(PING, 0xfe, 0, &[0; 8]), Nothing),
        ("6.3", "PRIORITY of an idle stream", frame(PRIORITY, 0, 7, &[0, 0, 0, 0, 15]), Nothing),
        ("6.9", "WINDOW_UPDATE of the connection", update(0, 1000), Nothing),
        ("6.9", "WINDOW_UPDATE of a stream", then(&[&open, &update(1, 1000)]), Nothing),
        ("5.1", "WINDOW_UPDATE of a stream that was reset", then(&[&open, &reset(1, CANCEL), &update(1, 9)]), Nothing),
        ("6.8", "GOAWAY from a client that opens no more streams", then(&[&open, &goaway(NO_ERROR)]), Nothing),
        // Frames where they do not belong.
        ("6.1", "DATA on stream 0", frame(DATA, 0, 0, b"x"), Ends(PROTOCOL_ERROR)),
        ("6.2", "HEADERS on stream 0", frame(HEADERS, END_HEADERS, 0, &head), Ends(PROTOCOL_ERROR)),
        // The library takes no notice of PRIORITY at all, so not of this either (6.3 asks for an error).
        ("6.3", "PRIORITY on stream 0", frame(PRIORITY, 0, 0, &[0; 5]), Nothing),
        ("6.4", "RST_STREAM on stream 0", reset(0, CANCEL), Ends(PROTOCOL_ERROR)),
        ("6.5", "SETTINGS on a stream", frame(SETTINGS, 0, 1, b""), Ends(PROTOCOL_ERROR)),
        ("6.6", "PUSH_PROMISE from a client", then(&[&open, &push(1, 2, &head)]), Ends(PROTOCOL_ERROR)),
        ("6.7", "PING on a stream", frame(PING, 0, 1, &[0; 8]), Ends(PROTOCOL_ERROR)),
        ("6.8", "GOAWAY on a stream", frame(GOAWAY, 0, 1, &[0; 8]), Ends(PROTOCOL_ERROR)),
        ("6.10", "CONTINUATION on stream 0", frame(CONTINUATION, END_HEADERS, 0, &head), Ends(PROTOCOL_ERROR)),
        (
            "6.10",
            "CONTINUATION after nothing",
            then(&[&open, &frame(CONTINUATION, END_HEADERS, 1, b"")]),
            Ends(PROTOCOL_ERROR),
        ),
        (
            "6.10",
            "another frame within a head",
            then(&[&frame(HEADERS, 0, 1, &head), &frame(DATA, 0, 1, b"x")]),
            Ends(PROTOCOL_ERROR),
        ),
        (
            "6.10",
            "another stream's CONTINUATION within a head",
            then(&[&frame(HEADERS, 0, 1, &head), &frame(CONTINUATION, END_HEADERS, 3, b"")]),
            Ends(PROTOCOL_ERROR),
        ),
        (
            "6.10",
            "an unknown frame within a head",
            then(&[&frame(HEADERS, 0, 1, &head), &frame(0xbb, 0, 1, b"x")]),
            Ends(PROTOCOL_ERROR),
        ),
        // Streams in the wrong state.
        ("5.1", "DATA on an idle stream", frame(DATA, 0, 1, b"x"), Ends(PROTOCOL_ERROR)),
        ("5.1", "RST_STREAM of an idle stream", reset(1, CANCEL), Ends(PROTOCOL_ERROR)),
        ("5.1", "WINDOW_UPDATE of an idle stream", update(1, 9), Ends(PROTOCOL_ERROR)),
        ("5.1.1", "a stream with an even number", on(2), Ends(PROTOCOL_ERROR)),
        ("5.1", "DATA after the end", then(&[&ended, &frame(DATA, 0, 1, b"x")]), Ends(STREAM_CLOSED)),
        ("5.1", "HEADERS after the end", then(&[&ended, &open]), Ends(STREAM_CLOSED)),
        // Sizes.
        ("4.2", "a frame that is too large", then(&[&open, &frame(DATA, 0, 1, &big)]), Ends(FRAME_SIZE_ERROR)),
        ("4.2", "a head that is too large for a frame", frame(HEADERS, END_HEADERS, 1, &big), Ends(FRAME_SIZE_ERROR)),
        ("6.3", "PRIORITY of four bytes", then(&[&open, &frame(PRIORITY, 0, 1, &[0; 4])]), Ends(FRAME_SIZE_ERROR)),
        ("6.4", "RST_STREAM of three bytes", then(&[&open, &frame(RST_STREAM, 0, 1, &[0; 3])]), Ends(FRAME_SIZE_ERROR)),
        ("6.5", "SETTINGS of five bytes", frame(SETTINGS, 0, 0, &[0; 5]), Ends(FRAME_SIZE_ERROR)),
        (
            "6.5",
            "an acknowledgement of settings with content",
            frame(SETTINGS, ACK, 0, &[0; 6]),
            Ends(FRAME_SIZE_ERROR),
        ),
        ("6.7", "PING of seven bytes", frame(PING, 0, 0, &[0; 7]), Ends(FRAME_SIZE_ERROR)),
        ("6.8", "GOAWAY of seven bytes", frame(GOAWAY, 0, 0, &[0; 7]), Ends(FRAME_SIZE_ERROR)),
        ("6.9", "WINDOW_UPDATE of three bytes", frame(WINDOW_UPDATE, 0, 0, &[0; 3]), Ends(FRAME_SIZE_ERROR)),
        // Settings and windows.
        ("6.5.2", "ENABLE_PUSH of 2", setting(2, 2), Ends(PROTOCOL_ERROR)),
        ("6.5.2", "INITIAL_WINDOW_SIZE above the limit", setting(4, 1 << 31), Ends(FLOW_CONTROL_ERROR)),
        ("6.5.2", "MAX_FRAME_SIZE below the limit", setting(5, 16_383), Ends(PROTOCOL_ERROR)),
        ("6.5.2", "MAX_FRAME_SIZE above the limit", setting(5, 1 << 24), Ends(PROTOCOL_ERROR)),
        ("6.9", "WINDOW_UPDATE of the connection by 0", update(0, 0), Ends(PROTOCOL_ERROR)),
        // A stream error would do; the library ends the connection, as RFC 9113, 5.4.1 allows.
        ("6.9", "WINDOW_UPDATE of a stream by 0", then(&[&open, &update(1, 0)]), Ends(PROTOCOL_ERROR)),
        (
            "6.9.1",
            "a connection window above the limit",
            then(&[&update(0, i32::MAX as u32)]),
            Ends(FLOW_CONTROL_ERROR),
        ),
        (
            "6.9.1",
            "a stream window above the limit",
            then(&[&open, &update(1, i32::MAX as u32)]),
            Ends(FLOW_CONTROL_ERROR),
        ),
        (
            "6.9.2",
            "windows above the limit by a setting",
            then(&[&open, &update(1, 0x7fff_0000), &setting(4, 0x1_0000)]),
            Ends(FLOW_CONTROL_ERROR),
        ),
        (
            "6.9.1",
            "more than a stream's window",
            then(&[&open, &frame(DATA, 0, 1, &[7; 16_384]).repeat(5)]),
            Ends(FLOW_CONTROL_ERROR),
        ),
        (
            "6.1",
            "padding that is longer than DATA",
            then(&[&open, &frame(DATA, PADDED, 1, b"\x05x")]),
            Ends(PROTOCOL_ERROR),
        ),
        (
            "6.2",
            "padding that is longer than a head",
            frame(HEADERS, END_HEADERS | PADDED, 1, b"\xffx"),
            Ends(PROTOCOL_ERROR),
        ),
        // RFC 9113, 5.3.1 has made these meaningless: the library takes no notice of what they say.
        ("5.3.1", "PRIORITY that depends on itself", frame(PRIORITY, 0, 3, &[0, 0, 0, 3, 15]), Nothing),
        (
            "5.3.1",
            "HEADERS that depend on themselves",
            frame(HEADERS, END_HEADERS | PRIORITIZED, 1, &[&[0, 0, 0, 1, 15][..], &head].concat()),
            Ends(PROTOCOL_ERROR),
        ),
        // Heads. A stream error would do for most; the library ends the connection, as RFC 9113, 5.4.2 allows.
        (
            "4.3",
            "a head that cannot be decoded",
            frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\xff"),
            Ends(COMPRESSION_ERROR),
        ),
        ("8.2", "an upper-case name", with(&[("X-Test", "1")]), Ends(PROTOCOL_ERROR)),
        ("8.2.2", "a connection's header", with(&[("connection", "keep-alive")]), Ends(PROTOCOL_ERROR)),
        ("8.2.2", "te other than trailers", with(&[("te", "gzip")]), Ends(PROTOCOL_ERROR)),
        ("8.3", "an unknown pseudo-header", with(&[(":test", "1")]), Ends(PROTOCOL_ERROR)),
        ("8.3", "a response's pseudo-header", with(&[(":status", "200")]), Ends(PROTOCOL_ERROR)),
        ("8.3", "a pseudo-header after others", with(&[("a", "1"), (":authority", "b")]), Ends(PROTOCOL_ERROR)),
        ("8.3.1", "a pseudo-header twice", with(&[(":path", "/stream")]), Ends(PROTOCOL_ERROR)),
        ("8.3.1", "no method", asking(&[(":scheme", "https"), (":path", "/stream")]), Ends(PROTOCOL_ERROR)),
        ("8.3.1", "no scheme", asking(&[(":method", "POST"), (":path", "/stream")]), Ends(PROTOCOL_ERROR)),
        ("8.3.1", "no path", asking(&[(":method", "POST"), (":scheme", "https")]), Ends(PROTOCOL_ERROR)),
        ("8.3.1", "an empty path", frame(HEADERS, END_HEADERS, 1, &post("")), Ends(PROTOCOL_ERROR)),
        (
            "8.1.1",
            "another length than was said",
            then(&[&with(&[("content-length", "3")]), &frame(DATA, END_STREAM, 1, b"x")]),
            Ends(PROTOCOL_ERROR),
        ),
        (
            "8.1",
            "trailers without END_STREAM",
            then(&[&open, &frame(HEADERS, END_HEADERS, 1, &block(&[("a", "1")]))]),
            Ends(PROTOCOL_ERROR),
        ),
        (
            "8.1",
            "trailers with a pseudo-header",
            then(&[&open, &frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&[(":path", "/")]))]),
            Ends(PROTOCOL_ERROR),
        ),
        (
            "10.5.1",
            "a small frame that is a large head",
            frame(HEADERS, END_HEADERS, 1, &bomb(&head)),
            Ends(ENHANCE_YOUR_CALM),
        ),
    ];
    let mut wrong = Vec::new();
    for (section, what, frames, required) in rows {
        let answer = Raw::new(limits()).ask(&frames);
        if answer != required {
            wrong.push(format!("{section} {what}: {answer:?} and not {required:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_preface_that_is_none_ends_the_connection() {
    for preface in [&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", &[0; 64]] {
        let mut raw = Raw::bare(limits());
        raw.say(preface);
        raw.until("an end", |raw| raw.over.then_some(()));
    }
}

#[test]
fn only_post_stream_is_served_and_other_requests_are_answered_and_not_counted() {
    let mut raw = Raw::new(Limits::new(4, limits().report));
    for (n, (method, path, status)) in
        [("POST", "/", "404"), ("GET", "/stream", "405"), ("GET", "/", "404"), ("PUT", "/stream", "405")]
            .into_iter()
            .cycle()
            .take(40)
            .enumerate()
    {
        let id = 2 * n as u32 + 1;
        raw.say(&frame(HEADERS, END_HEADERS, id, &request(method, path)));
        let head = raw.until("an answer", |raw| raw.frame(HEADERS, id));
        assert_eq!(head.flags & END_STREAM, END_STREAM);
        let text = String::from_utf8_lossy(&head.payload).into_owned();
        // 404 is in HPACK's static table, 405 is not.
        assert!(if status == "404" {
            head.payload[0] == 0x80 | 13
        } else {
            !text.is_empty() && head.payload[0] != 0x88
        });
        let reset = raw.until("the end", |raw| raw.frame(RST_STREAM, id));
        assert_eq!(reset.payload, NO_ERROR.to_be_bytes());
    }
    raw.say(&frame(HEADERS, END_HEADERS, 99, &post("/stream")));
    raw.until("a stream", |raw| raw.server.mux.accept());
    assert!(raw.server.mux.accept().is_none());
}

#[test]
fn the_head_goes_out_before_the_first_byte_and_not_earlier() {
    let mut raw = Raw::new(limits());
    raw.say(&frame(HEADERS, END_HEADERS, 1, &post("/stream")));
    let stream = raw.until("a stream", |raw| raw.server.mux.accept()).0;
    assert_eq!(raw.settled(), Nothing);
    assert!(raw.frame(HEADERS, 1).is_none(), "an early answer");
    raw.server.write(stream, b"id").unwrap();
    let data = raw.until("DATA", |raw| raw.frame(DATA, 1));
    assert_eq!((data.payload, data.flags), (b"id".to_vec(), 0));
    // Static index 8 is `:status: 200`.
    assert_eq!(raw.frame(HEADERS, 1).unwrap().payload, [0x88]);
}

#[test]
fn peers_that_leave_without_a_complaint_are_heard_to_the_end() {
    for (ending, code) in [(false, CANCEL), (false, NO_ERROR), (true, CANCEL), (true, NO_ERROR)] {
        let mut raw = Raw::new(limits());
        let flags = if ending { END_STREAM } else { 0 };
        raw.say(&frame(HEADERS, END_HEADERS, 1, &post("/stream")));
        let stream = raw.until("a stream", |raw| raw.server.mux.accept()).0;
        raw.say(&frame(DATA, flags, 1, b"the last words"));
        raw.say(&frame(RST_STREAM, 0, 1, &code.to_be_bytes()));
        assert_eq!(raw.settled(), Nothing);
        assert_eq!(raw.server.write(stream, b"x").unwrap(), 0, "what they said comes first");
        let mut heard = Vec::new();
        assert!(raw.server.read(stream, &mut heard).unwrap(), "an end");
        assert_eq!(heard, b"the last words");
        assert_eq!(raw.server.write(stream, b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
        raw.server.mux.finish(stream).unwrap();
        raw.server.mux.release(stream);
        assert_eq!(raw.settled(), Nothing);
    }
}

#[test]
fn a_reset_with_a_complaint_is_an_error_at_once() {
    let mut raw = Raw::new(limits());
    raw.say(&frame(HEADERS, END_HEADERS, 1, &post("/stream")));
    let stream = raw.until("a stream", |raw| raw.server.mux.accept()).0;
    raw.say(&frame(DATA, 0, 1, b"void"));
    raw.say(&frame(RST_STREAM, 0, 1, &2_u32.to_be_bytes()));
    assert_eq!(raw.settled(), Nothing);
    assert_eq!(raw.server.read(stream, &mut Vec::new()).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(raw.server.mux.waiting(stream).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

// ---- floods ---------------------------------------------------------------------------------------------------------

#[test]
fn floods_end_the_connection() {
    let head = post("/stream");
    let open = frame(HEADERS, END_HEADERS, 1, &head);
    let endless = |n: usize| match n {
        0 => frame(HEADERS, 0, 1, &head),
        _ => frame(CONTINUATION, 0, 1, &block(&[("a", "b")])),
    };
    let rapid = |n: usize| {
        let id = 2 * n as u32 + 1;
        [frame(HEADERS, END_HEADERS, id, &head), frame(RST_STREAM, 0, id, &CANCEL.to_be_bytes())].concat()
    };
    let refused = |n: usize| frame(HEADERS, END_HEADERS, 2 * n as u32 + 1, &post("/elsewhere"));
    let first = |n: usize, frame: Vec<u8>| if n == 0 { [&open[..], &frame].concat() } else { frame };
    flood("CONTINUATION", true, endless);
    flood("rapid resets", true, rapid);
    flood("empty DATA", true, |n| first(n, frame(DATA, 0, 1, b"")));
    flood("unknown frames", true, |_| frame(0xbb, 0, 0, b""));
    flood("PRIORITY", true, |n| frame(PRIORITY, 0, 2 * n as u32 + 1, &[0, 0, 0, 0, 15]));
    // These make answers: whoever reads them does no harm, whoever does not is dropped.
    flood("PING", false, |_| frame(PING, 0, 0, &[7; 8]));
    flood("SETTINGS", false, |_| frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff]));
    flood("requests for other things", false, refused);
}

/// Says frames until the connection ends; `reads` says whether the client takes the answers.
fn flood(what: &str, reads: bool, frames: impl Fn(usize) -> Vec<u8>) {
    let mut raw = Raw::new(limits());
    raw.deaf = !reads;
    for n in 0..MANY {
        raw.mute.extend(frames(n));
        if raw.mute.len() > 64 * 1024 {
            let chunk = std::mem::take(&mut raw.mute);
            raw.say(&chunk);
        }
        // Streams that the other side has opened and reset are let go, as a worker does.
        while let Some((stream, _)) = raw.server.mux.accept() {
            raw.server.mux.release(stream);
        }
        if raw.over {
            return;
        }
    }
    panic!("{what}: {MANY} times, and it lives");
}

/// How often anything is too often.
const MANY: usize = 400_000;

// ---- a client that knows no rules -----------------------------------------------------------------------------------

/// A plain socket with a server's end at the other.
struct Raw {
    socket: TcpStream,
    server: End<H2<Tcp>>,
    heard: Vec<u8>,
    /// What is still to be said.
    mute: Vec<u8>,
    frames: Vec<Frame>,
    over: bool,
    deaf: bool,
}

#[derive(Clone, Debug)]
struct Frame {
    kind: u8,
    flags: u8,
    id: u32,
    payload: Vec<u8>,
}

impl Raw {
    fn bare(limits: Limits) -> Raw {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (other, peer) = listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        let server = End::new(H2::server(nonblocking(other), peer, limits).unwrap());
        Raw { socket, server, heard: Vec::new(), mute: Vec::new(), frames: Vec::new(), over: false, deaf: false }
    }

    fn new(limits: Limits) -> Raw {
        let mut raw = Raw::bare(limits);
        raw.say(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        raw.say(&frame(SETTINGS, 0, 0, b""));
        raw.until("its settings", |raw| raw.frame(SETTINGS, 0));
        raw.say(&frame(SETTINGS, ACK, 0, b""));
        raw
    }

    /// Says all of it, unless the connection ends first.
    fn say(&mut self, bytes: &[u8]) {
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

    fn turn(&mut self) {
        if !self.over {
            self.over = self.server.turn().is_err();
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

    fn until<T>(&mut self, what: &str, mut done: impl FnMut(&mut Raw) -> Option<T>) -> T {
        let begin = Instant::now();
        loop {
            if let Some(value) = done(self) {
                return value;
            }
            assert!(begin.elapsed() < GRACE, "waited in vain for {what}");
            self.turn();
        }
    }

    fn frame(&self, kind: u8, id: u32) -> Option<Frame> {
        self.frames.iter().find(|frame| frame.kind == kind && frame.id == id).cloned()
    }

    /// What these frames lead to.
    fn ask(&mut self, frames: &[u8]) -> Answer {
        self.say(frames);
        self.settled()
    }

    /// Whether everything that was said is answered by now, and how.
    fn settled(&mut self) -> Answer {
        self.frames.retain(|frame| frame.kind != PING);
        if !self.over {
            self.say(&frame(PING, 0, 0, b"all done"));
        }
        self.until("an answer", |raw| {
            let goaway = raw.frames.iter().find(|frame| frame.kind == GOAWAY);
            if let Some(frame) = goaway.filter(|_| raw.over) {
                return Some(Ends(u32::from_be_bytes(frame.payload[4..8].try_into().unwrap())));
            }
            let done = raw.frames.iter().any(|frame| frame.kind == PING && frame.flags & ACK != 0);
            let reset = raw.frames.iter().find(|frame| frame.kind == RST_STREAM);
            done.then(|| match reset {
                Some(frame) => Resets(u32::from_be_bytes(frame.payload[..4].try_into().unwrap())),
                None => Nothing,
            })
        })
    }
}

fn frame(kind: u8, flags: u8, id: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &id.to_be_bytes(), payload].concat()
}

fn goaway(code: u32) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[[0; 4], code.to_be_bytes()].concat())
}

fn push(id: u32, promised: u32, head: &[u8]) -> Vec<u8> {
    frame(PUSH_PROMISE, END_HEADERS, id, &[&promised.to_be_bytes()[..], head].concat())
}

/// A head on stream 1, cut at these places.
fn parts(head: &[u8], cuts: &[usize]) -> Vec<u8> {
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

fn post(path: &str) -> Vec<u8> {
    request("POST", path)
}

fn request(method: &str, path: &str) -> Vec<u8> {
    block(&[(":method", method), (":scheme", "https"), (":authority", "a.example"), (":path", path)])
}

/// A field of 3000 bytes that goes into HPACK's dynamic table, and then its number there, again and again.
fn bomb(head: &[u8]) -> Vec<u8> {
    let mut field = block(&[("a", &"b".repeat(3000))]);
    field[0] = 0x40;
    [head, &field, &[0x80 | 62; 1000]].concat()
}

/// Header fields in HPACK's plainest form: literal, not indexed.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
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
fn length(bytes: &mut Vec<u8>, length: usize) {
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
