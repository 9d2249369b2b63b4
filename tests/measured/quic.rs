//! What QUIC costs at rest, the library's own memory included.

#[path = "../library/quic/pair.rs"]
#[allow(dead_code, unused_imports)]
mod pair;

use std::time::{Duration, Instant};

use crate::{alone, taken};
use nodepass::net::mux::{Mux, StreamNo};
use nodepass::net::quic::{QuicClient, QuicServer, Settings};
use pair::*;

#[test]
fn an_idle_stream_takes_less_than_its_share_at_either_end() {
    alone(|| {
        let settings = Settings { streams: 3000, ..settings() };
        let nothing = taken();
        let mut both = Both::joined(&settings);
        rest(&mut both);
        let before = taken();
        println!("an idle connection takes {} bytes, both ends together", before - nothing);
        // As many as fill the tables: they double, and half of them would be empty with a few more.
        let streams: Vec<_> = (0..1750).map(|_| used(&mut both)).collect();
        rest(&mut both);
        let each = (taken() - before) / streams.len();
        println!("an idle stream takes {each} bytes, both ends together");
        assert!(each < 2 * SHARE);
        for (ours, theirs) in streams {
            both.client.mux.release(ours);
            both.server.mux.release(theirs);
        }
        rest(&mut both);
        let left = taken().saturating_sub(before);
        println!("{left} bytes more than before when all are gone");
        // quiche's tables keep their size.
        assert!(left < 1750 * each / 2, "what has gone takes nothing");
    });
}

/// A stream that has carried an id.
fn used(both: &mut Both) -> (StreamNo, StreamNo) {
    let (ours, theirs) = both.stream();
    both.server.write(theirs, b"abcd").unwrap();
    let mut id = Vec::new();
    both.until_true(|both| {
        both.client.read(ours, &mut id).unwrap();
        id.len() == 4
    });
    (ours, theirs)
}

/// Long enough for buffers to be given back.
fn rest(both: &mut Both) {
    // By turns as well as by the clock: nothing is exchanged while others have the processor.
    let sent = |both: &Both| (both.client.mux.tally().sent, both.server.mux.tally().sent);
    let (mut quiet, mut before, mut turns) = (Instant::now(), sent(both), 0);
    while turns < 60 || quiet.elapsed() < Duration::from_millis(1500) {
        both.client.turn(Duration::from_millis(20));
        both.server.turn(Duration::from_millis(20));
        turns += 1;
        let now = sent(both);
        if now != before {
            (quiet, before) = (Instant::now(), now);
        }
    }
    // The clocks of an idle connection come to this too, within `report`.
    let late = Instant::now();
    QuicClient::advance(&mut both.client.mux, late).unwrap();
    QuicServer::advance(&mut both.server.mux, late).unwrap();
}

/// Bytes of an idle stream at one end. Nearly all of it is quiche's: its record, and the first node of the tree in which
/// it sorts what came, which it keeps when nothing is in it.
const SHARE: usize = 1800;
