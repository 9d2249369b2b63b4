//! What an idle stream of an HTTP/2 connection costs and what floods cost, the library's own memory included.

#[path = "../library/h2/pair.rs"]
#[allow(dead_code, unused_imports)]
mod pair;
#[path = "../library/h2/raw.rs"]
#[allow(dead_code, unused_imports)]
mod raw;

use std::time::Duration;

use crate::{alone, taken};
use nodepass::net::budget::Budget;
use nodepass::net::h2::Limits;
use nodepass::net::lower::Lower;
use nodepass::net::mux::{Mux, StreamNo};
use raw::{
    block, frame, post, Raw, CANCEL, CONTINUATION, DATA, END_HEADERS, HEADERS, PING, PRIORITY, RST_STREAM, SETTINGS,
};

#[test]
fn an_idle_stream_takes_less_than_1500_bytes_at_either_end() {
    alone(|| {
        let mut pair = pair::bare(Limits::new(2000, Duration::from_secs(60), &Budget::PLENTY));
        // Tables have grown by then, as they would in use.
        let warm: Vec<_> = (0..1000).map(|_| used(&mut pair)).collect();
        let before = taken();
        println!("{before} bytes before");
        let streams: Vec<_> = (0..1000).map(|_| used(&mut pair)).collect();
        let each = (taken() - before) / streams.len();
        println!("an idle stream takes {each} bytes, both ends together");
        assert!(each < 2 * 1500, "{each} bytes");
        for (ours, theirs) in warm.into_iter().chain(streams) {
            pair.client.mux.release(ours);
            pair.server.mux.release(theirs);
        }
        pair.until("the memory", |_| (taken() < before).then_some(()));
    });
}

#[test]
fn a_connection_at_rest_takes_less_than_26_kilobytes_at_either_end() {
    alone(|| {
        let limits = Limits::new(2000, Duration::from_secs(60), &Budget::PLENTY);
        let begun = |_| {
            let mut pair = pair::bare(limits);
            let (ours, theirs) = used(&mut pair);
            pair.client.mux.release(ours);
            pair.server.mux.release(theirs);
            pair.until("the end of the stream", |pair| (pair.server.mux.streams() == 0).then_some(()));
            pair
        };
        // The thread has what all of them read and write through; 17 KB are the library's room for a frame.
        let _first = begun(0);
        let before = taken();
        let pairs: Vec<_> = (0..50).map(begun).collect();
        let each = (taken() - before) / pairs.len();
        println!("a connection at rest takes {each} bytes, both ends together");
        assert!(each < 2 * 26 * 1024, "{each} bytes");
    });
}

#[test]
fn floods_end_the_connection_before_they_take_memory() {
    alone(|| {
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
        // These make answers: a peer that reads them does no harm, one that does not is dropped.
        flood("PING", false, |_| frame(PING, 0, 0, &[7; 8]));
        flood("SETTINGS", false, |_| frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff]));
        flood("requests for other things", false, refused);
    });
}

/// Says frames until the connection ends; `reads` says whether the client takes the answers.
fn flood(what: &str, reads: bool, frames: impl Fn(usize) -> Vec<u8>) {
    let mut raw = Raw::new(pair::limits());
    raw.deaf = !reads;
    let (before, mut most, mut chunk) = (taken(), 0, Vec::new());
    for n in 0..MANY {
        chunk.extend(frames(n));
        if chunk.len() < 16 * 1024 {
            continue;
        }
        raw.say(&std::mem::take(&mut chunk));
        most = most.max(taken().saturating_sub(before));
        // Streams that the other side has opened and reset are let go, as a worker does.
        while let Some((stream, _)) = raw.server.mux.accept() {
            raw.server.mux.release(stream);
        }
        if raw.over {
            println!("{what}: over after {n}, {most} bytes at most");
            assert!(most < MEMORY, "{what}: {most} bytes");
            return;
        }
    }
    panic!("{what}: {MANY} times, and it lives");
}

/// A stream that has carried a few bytes both ways.
fn used<C: Lower>(pair: &mut pair::Pair<C>) -> (StreamNo, StreamNo) {
    let (ours, theirs) = pair.stream();
    pair.client.write(ours, &[0]).unwrap();
    pair.server.write(theirs, b"abcd").unwrap();
    let (mut first, mut second) = (Vec::new(), Vec::new());
    pair.until("a few bytes", |pair| {
        pair.client.read(ours, &mut first).unwrap();
        pair.server.read(theirs, &mut second).unwrap();
        (first.len() == 4 && second.len() == 1).then_some(())
    });
    (ours, theirs)
}

/// Bytes that no flood may take, the test's own share included.
const MEMORY: usize = 2 * 1024 * 1024;
/// How often anything is too often.
const MANY: usize = 400_000;
