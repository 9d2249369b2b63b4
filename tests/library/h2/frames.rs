//! What a server must answer to frames, right and wrong ones.
//!
//! ```text
//!   preface, SETTINGS, the frames of a row, PING  -->  [ H2 ]  -->  GOAWAY | RST_STREAM | neither, and the PING's answer
//! ```

use std::io::ErrorKind;

use super::pair::limits;
use super::raw::Answer::{Ends, Nothing};
use super::raw::*;
use nodepass::net::budget::Budget;
use nodepass::net::h2::Limits;
use nodepass::net::mux::Mux;

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
        ("6.7", "the answer to no PING", frame(PING, ACK, 0, &[0; 8]), Nothing),
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
    let mut raw = Raw::new(Limits::new(4, limits().report, &Budget::PLENTY));
    for (n, (method, path, status)) in
        [("POST", "/", "404"), ("GET", "/stream", "405"), ("GET", "/", "404"), ("PUT", "/stream", "405")]
            .into_iter()
            .cycle()
            .take(40)
            .enumerate()
    {
        let id = 2 * n as u32 + 1;
        raw.say(&frame(HEADERS, END_HEADERS, id, &request(method, path)));
        raw.say(&frame(DATA, 0, id, b"this is not taken"));
        let head = raw.until("an answer", |raw| raw.frame(HEADERS, id));
        assert_eq!(head.flags & END_STREAM, END_STREAM);
        let text = String::from_utf8_lossy(&head.payload).into_owned();
        // 404 is in HPACK's static table, 405 is not.
        assert!(if status == "404" {
            head.payload[0] == 0x80 | 13
        } else {
            !text.is_empty() && head.payload[0] != 0x88
        });
        raw.say(&frame(DATA, END_STREAM, id, b"nor this"));
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
