//! QUIC between two ends of ours, on real sockets.

mod interop;
mod nat;
mod pair;
mod paths;
mod speed;
mod strangers;
mod trust;

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use crate::support::Dice;
use mio::Token;
use nodepass::net::mux::{AllowedPeer, Mux};
use nodepass::net::stream::{ready, Buffer};
use pair::*;

#[test]
fn a_client_sees_the_servers_certificate_and_the_server_who_the_client_is() {
    let identity = identity();
    let server = server(&settings(), &identity);
    let at = server.mux.local().next().unwrap();
    let client = client(at, &any_server(), &settings(), &mut Default::default());
    assert!(client.mux.peer_fingerprint().is_none());
    let mut both = Both::of(client, server);
    both.until_true(|both| both.client.mux.is_up());
    assert_eq!(both.client.mux.peer_fingerprint(), Some(identity.leaf));
    both.client.mux.open().and_then(|stream| both.client.write(stream, b"x")).unwrap();
    let mut peer = None;
    both.until_true(|both| {
        peer = peer.or_else(|| both.server.mux.accept().map(|(_, peer)| peer));
        peer.is_some()
    });
    assert_eq!(peer, Some(both.client.mux.local()));
}

#[test]
fn bytes_pass_both_ways_in_order_and_each_direction_ends_by_itself() {
    let mut both = Both::joined(&settings());
    let (near, far) = both.stream();
    let (up, down) = (flow(0, 3_000_000), flow(0, 2_000_001));
    let (mut sent, mut came) = ([0, 0], [Vec::new(), Vec::new()]);
    let (mut over, mut finished) = ([false, false], [false, false]);
    both.until_true(|both| {
        sent[0] += both.client.write(near, &up[sent[0]..]).unwrap();
        if sent[0] == up.len() && !finished[0] {
            finished[0] = ready(both.client.mux.finish(near)).unwrap().is_some();
        }
        // The other direction begins only when the first has ended.
        if !over[0] {
            over[0] = both.server.read(far, &mut came[0]).unwrap();
        } else {
            sent[1] += both.server.write(far, &down[sent[1]..]).unwrap();
            if sent[1] == down.len() && !finished[1] {
                finished[1] = ready(both.server.mux.finish(far)).unwrap().is_some();
            }
            over[1] = over[1] || both.client.read(near, &mut came[1]).unwrap();
        }
        over[1]
    });
    assert!(came[0] == up && came[1] == down);
    // Read again, an end stays an end.
    assert!(both.client.read(near, &mut Vec::new()).unwrap());
    assert_eq!(both.client.mux.waiting(near).unwrap(), 0);
}

#[test]
fn an_acknowledgement_goes_along_with_an_answer_and_alone_where_there_is_none() {
    let mut both = Both::joined(&settings());
    let (near, far) = both.stream();
    let sends = |both: &Both| (both.client.mux.tally().sends, both.server.mux.tally().sends);
    let begin = sends(&both);
    for _ in 0..ROUNDS {
        let (mut question, mut answer) = (Vec::new(), Vec::new());
        both.client.write(near, b"question").unwrap();
        both.until_true(|both| !both.server.read(far, &mut question).unwrap() && question == b"question");
        both.server.write(far, b"answer").unwrap();
        both.until_true(|both| !both.client.read(near, &mut answer).unwrap() && answer == b"answer");
    }
    let end = sends(&both);
    // With acknowledgements of their own twice as many. The first ones have, and a slow machine may need some.
    let most = ROUNDS + ROUNDS / 4;
    assert!(end.0 - begin.0 <= most && end.1 - begin.1 <= most, "{ROUNDS} rounds: {begin:?} to {end:?}");

    let before = sends(&both).0;
    both.until_true(|both| sends(both).0 > before);
}

#[test]
fn after_would_block_an_edge_comes_once_under_the_streams_token() {
    let mut both = Both::joined(&settings());
    let (near, far) = both.stream();
    both.client.mux.watch(near, Token(7));
    assert_eq!(both.client.mux.changed(), Some(Token(7)));
    assert_eq!(both.client.mux.changed(), None);
    let nothing = both.client.mux.fill(near, &mut Buffer::new(10)).unwrap_err();
    assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
    both.client.edges.clear();
    both.server.write(far, b"hello").unwrap();
    both.until_true(|both| !both.client.edges.is_empty());
    assert_eq!(both.client.mux.waiting(near).unwrap(), 5);
    let mut came = Vec::new();
    assert!(!both.client.read(near, &mut came).unwrap());
    assert_eq!((&came[..], both.client.edges.len()), (&b"hello"[..], 1));
}

#[test]
fn what_is_released_early_is_reset_and_what_is_over_is_not() {
    let mut both = Both::joined(&settings());
    let (near, far) = both.stream();
    both.client.mux.release(near);
    let mut end = None;
    both.until_true(|both| {
        end = both.server.read(far, &mut Vec::new()).err();
        end.is_some()
    });
    assert_eq!(end.unwrap().kind(), ErrorKind::ConnectionReset);
    both.until_true(|both| both.server.write(far, b"late").is_err());
    assert_eq!(both.client.mux.fill(near, &mut Buffer::new(1)).unwrap_err().kind(), ErrorKind::NotConnected);

    let (near, far) = both.stream();
    both.client.write(near, b"all").unwrap();
    both.client.mux.finish(near).unwrap();
    both.server.write(far, b"said").unwrap();
    both.server.mux.finish(far).unwrap();
    let (mut up, mut down) = (Vec::new(), Vec::new());
    both.until_true(|both| both.client.read(near, &mut down).unwrap());
    both.client.mux.release(near);
    both.until_true(|both| both.server.read(far, &mut up).unwrap());
    assert_eq!((&up[..], &down[..]), (&b"all"[..], &b"said"[..]));
}

#[test]
fn a_released_stream_never_comes_back_as_a_new_one() {
    let mut both = Both::joined(&settings());
    let (near, far) = both.stream();
    both.server.mux.release(far);
    for _ in 0..5 {
        let _ = both.client.write(near, b"late");
        both.turn();
    }
    both.client.mux.release(near);
    let (near, _) = both.stream();
    both.client.write(near, b"x").unwrap();
    both.turn();
    assert!(both.server.mux.accept().is_none());
}

#[test]
fn when_no_stream_is_left_opening_waits_and_goes_on_as_others_are_closed() {
    let settings = nodepass::net::quic::Settings { streams: 4, ..settings() };
    let mut both = Both::joined(&settings);
    let mut pairs = Vec::new();
    loop {
        match both.client.mux.open() {
            Ok(near) => pairs.push(near),
            Err(error) => break assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        assert!(pairs.len() < 100);
    }
    assert!(pairs.len() >= 4);
    let mut taken = Vec::new();
    for round in 0..50 {
        for near in pairs.drain(..) {
            both.client.write(near, &[round]).unwrap();
            both.client.mux.release(near);
        }
        both.until_true(|both| {
            taken.extend(both.server.mux.accept());
            for (far, _) in taken.drain(..) {
                both.server.mux.release(far);
            }
            pairs.extend(both.client.mux.open().ok());
            pairs.len() >= 4
        });
    }
}

#[test]
fn a_thousand_streams_live_side_by_side() {
    let settings = nodepass::net::quic::Settings { streams: 1000, ..settings() };
    let mut both = Both::joined(&settings);
    let near: Vec<_> = (0..1000).map(|_| both.client.mux.open().unwrap()).collect();
    let mut sent = vec![false; near.len()];
    let mut far = Vec::new();
    both.until_true(|both| {
        for (at, stream) in near.iter().enumerate() {
            sent[at] = sent[at] || both.client.write(*stream, &(at as u32).to_be_bytes()).unwrap() == 4;
        }
        far.extend(std::iter::from_fn(|| both.server.mux.accept()));
        far.len() == near.len()
    });
    // Each says back what came on it.
    let mut heard = vec![Vec::new(); near.len()];
    both.until_true(|both| {
        for (stream, _) in &far {
            let mut came = Vec::new();
            both.server.read(*stream, &mut came).unwrap();
            assert_eq!(both.server.write(*stream, &came).unwrap(), came.len());
        }
        for (at, stream) in near.iter().enumerate() {
            both.client.read(*stream, &mut heard[at]).unwrap();
        }
        heard.iter().all(|bytes| bytes.len() == 4)
    });
    assert!(heard.iter().enumerate().all(|(at, bytes)| *bytes == (at as u32).to_be_bytes()));
}

#[test]
fn a_streams_first_words_are_taken_while_others_fill_the_path() {
    let mut both = Both::joined(&settings());
    let (bulk, _unread) = both.stream();
    let (_, other) = both.stream();
    let block = vec![1; 1 << 20];
    while both.client.write(bulk, &block).unwrap() > 0 {}
    let near = both.client.mux.open().unwrap();
    assert_eq!(both.client.write(near, &[5; 16]).unwrap(), 16, "all of it, at once");
    assert_eq!(both.client.write(near, &[6; 100]).unwrap(), 0, "and no more for now");
    let (mut far, mut came) = (None, Vec::new());
    both.until_true(|both| {
        far = far.or_else(|| both.server.mux.accept());
        if let Some((far, _)) = far {
            both.server.read(far, &mut came).unwrap();
        }
        came.len() == 16
    });
    assert!(came == [5; 16] && far.unwrap().0 != other);
}

#[test]
fn ends_that_meet_on_their_way_are_both_heard() {
    let mut both = Both::joined(&settings());
    for _ in 0..50 {
        let (near, far) = both.stream();
        // What was said is acknowledged.
        for _ in 0..5 {
            both.turn();
        }
        both.server.mux.finish(far).unwrap();
        both.server.turn(Duration::ZERO);
        both.client.turn(Duration::from_millis(100));
        // The server's end is there, but not heard yet.
        both.client.mux.finish(near).unwrap();
        let (mut heard, mut answered) = (false, false);
        both.until_true(|both| {
            answered = answered || both.client.read(near, &mut Vec::new()).unwrap();
            heard = heard || both.server.read(far, &mut Vec::new()).unwrap();
            heard && answered
        });
    }
}

#[test]
fn a_reader_who_stops_stops_its_sender_and_no_other() {
    let mut both = Both::joined(&settings());
    let (slow, _unread) = both.stream();
    let (near, far) = both.stream();
    let block = vec![1; 1 << 20];
    let (mut sent, mut came) = (0, Vec::new());
    both.until_true(|both| {
        sent += both.client.write(slow, &block).unwrap();
        both.client.write(near, b"alive").unwrap();
        both.server.read(far, &mut came).unwrap();
        came.len() >= 1000
    });
    assert!(sent as u64 <= nodepass::net::budget::Budget::PLENTY.quic_start + 1, "{sent}");
}

#[test]
fn readers_who_stop_at_any_moment_hold_up_no_other() {
    let mut dice = Dice(1);
    for _ in 0..60 {
        let mut both = Both::joined(&settings());
        let pairs: Vec<_> = (0..12).map(|_| both.stream()).collect();
        let (near, far) = both.stream();
        let block = vec![1; 1 << 20];
        let (mut left, mut lively) = (vec![0; pairs.len()], Vec::new());
        left.iter_mut().for_each(|left| *left = dice.below(10));
        both.until_true(|both| {
            for (at, (near, far)) in pairs.iter().enumerate() {
                both.client.write(*near, &block).unwrap();
                if left[at] > 0 && dice.below(3u64) == 0 {
                    left[at] -= 1;
                    both.server.read(*far, &mut Vec::new()).unwrap();
                }
            }
            both.client.write(near, &block[..10_000]).unwrap();
            both.server.read(far, &mut lively).unwrap();
            lively.len() >= 500_000
        });
    }
}

#[test]
fn an_idle_connection_stays_and_a_silent_one_is_over_on_both_sides() {
    let report = Duration::from_millis(500);
    let (mut both, near, far) = loop {
        let mut both = Both::joined(&nodepass::net::quic::Settings { report, ..settings() });
        let (near, far) = both.stream();
        let start = Instant::now();
        let (mut turned, mut longest) = (start, Duration::ZERO);
        while start.elapsed() < 6 * report {
            both.turn();
            longest = longest.max(turned.elapsed());
            turned = Instant::now();
        }
        // Where we had no time for them they were silent indeed: that is no trial.
        if longest < report {
            assert!(both.client.over.is_none(), "{:?}", both.client.over);
            break (both, near, far);
        }
    };
    both.client.write(near, b"still here").unwrap();
    let mut came = Vec::new();
    both.until_true(|both| {
        both.server.read(far, &mut came).unwrap();
        !came.is_empty()
    });
    both.server.mux.watch(far, Token(3));
    both.server.turn(Duration::ZERO);
    both.server.edges.clear();
    assert!(both.server.read(far, &mut came).is_ok());
    // The client falls silent without a word.
    let deadline = Instant::now() + GRACE;
    while both.server.mux.connections() > 0 {
        assert!(Instant::now() < deadline);
        both.server.turn(Duration::from_millis(5));
    }
    // A stream that has run dry may be looked at again meanwhile.
    both.server.edges.dedup();
    assert_eq!(both.server.edges, [Token(3)]);
    assert_eq!(both.server.read(far, &mut came).unwrap_err().kind(), ErrorKind::ConnectionReset);
    drop(both.server);
    while both.client.over.is_none() {
        assert!(Instant::now() < deadline);
        both.client.turn(Duration::from_millis(5));
    }
}

#[test]
fn a_goodbye_ends_the_other_side_at_once() {
    let mut both = Both::joined(&settings());
    let (near, _) = both.stream();
    both.server.mux.close();
    while both.client.over.is_none() {
        both.client.turn(Duration::from_millis(100));
    }
    assert!(both.client.over.take().unwrap().to_string().contains("closed by the other side"));
    assert!(both.client.mux.fill(near, &mut Buffer::new(1)).is_err());
}

#[test]
fn the_next_tunnel_leaves_the_old_one_the_streams_that_are_in_use() {
    let mut both = Both::joined(&settings());
    let (near, far) = both.stream();
    both.server.mux.allow(&[AllowedPeer { tunnel: 2, address: HOME, connections: 1 }], &identity()).unwrap();
    both.client.write(near, b"still here").unwrap();
    let mut came = Vec::new();
    both.until_true(|both| {
        both.server.read(far, &mut came).unwrap();
        came == b"still here"
    });
    both.client.mux.release(near);
    both.server.mux.release(far);
    while both.client.over.is_none() {
        both.turn();
    }
}

#[test]
fn an_end_that_comes_alone_and_last_is_heard() {
    let mut both = Both::joined(&settings());
    let (near, far) = both.stream();
    both.server.write(far, b"first").unwrap();
    both.server.mux.finish(far).unwrap();
    let (mut down, mut up) = (Vec::new(), Vec::new());
    both.until_true(|both| both.client.read(near, &mut down).unwrap());
    both.client.write(near, b"second").unwrap();
    both.until_true(|both| {
        assert!(!both.server.read(far, &mut up).unwrap(), "no end before it is said");
        up.len() == 6
    });
    for _ in 0..10 {
        both.turn();
    }
    both.client.mux.finish(near).unwrap();
    both.until_true(|both| both.server.read(far, &mut up).unwrap());
    assert_eq!((&down[..], &up[..]), (&b"first"[..], &b"second"[..]));
}

/// Questions and answers.
const ROUNDS: u64 = 80;
