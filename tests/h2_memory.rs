//! What an idle stream of an HTTP/2 connection costs, the library's own memory included.
#![cfg(all(feature = "h2", target_os = "linux", target_env = "gnu"))]

#[path = "h2/pair.rs"]
#[allow(dead_code)]
mod pair;

use std::time::Duration;

use nodepass::net::h2::Limits;
use nodepass::net::mux::Mux;

#[test]
fn an_idle_stream_takes_less_than_1500_bytes_at_either_end() {
    let mut pair = pair::bare(Limits::new(2000, Duration::from_secs(60)));
    // Tables have grown by then, as they would in use.
    let warm: Vec<_> = (0..1000).map(|_| used(&mut pair)).collect();
    let before = taken();
    let streams: Vec<_> = (0..1000).map(|_| used(&mut pair)).collect();
    let each = (taken() - before) / streams.len();
    println!("an idle stream takes {each} bytes, both ends together");
    assert!(each < 2 * 1500, "{each} bytes");
    for (ours, theirs) in warm.into_iter().chain(streams) {
        pair.client.mux.release(ours);
        pair.server.mux.release(theirs);
    }
    for _ in 0..10 {
        pair.turn();
    }
    let left = taken().saturating_sub(before);
    println!("{left} bytes more than before when all are gone");
}

/// A stream that has carried a few bytes both ways.
fn used<C: nodepass::net::h2::Carrier>(
    pair: &mut pair::Pair<C>,
) -> (nodepass::net::mux::StreamNo, nodepass::net::mux::StreamNo) {
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

/// Bytes that the C library's allocator has handed out, to Rust and to C.
fn taken() -> usize {
    // SAFETY: no arguments, a plain struct back.
    unsafe { libc::mallinfo2().uordblks }
}
