//! HTTP/2 connections as pools have them: streams between two of our own ends, what the rules of RFC 9113 require of a server,
//! and other programs at the other end.

mod frames;
mod interop;
mod pair;
mod raw;
mod simulation;
mod speed;

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use mio::Token;

use nodepass::logic::keepalive::TCP_SILENCE;
use nodepass::net::budget::Budget;
use nodepass::net::h2::Limits;
use nodepass::net::mux::Mux;
use nodepass::net::stream::ready;
use pair::{bare, flow, limits, over_tls};

#[test]
fn bytes_pass_both_ways_on_many_streams_at_once() {
    let mut pair = over_tls(limits());
    let streams: Vec<_> = (0..20).map(|_| pair.stream()).collect();
    let sent: Vec<_> = (0..20).map(|n| flow(n, n * 30_011 + 1)).collect();
    let mut said = vec![(0, 0); 20];
    let mut heard = vec![(Vec::new(), Vec::new()); 20];
    pair.until("all bytes", |pair| {
        for (n, &(ours, theirs)) in streams.iter().enumerate() {
            said[n].0 += pair.client.write(ours, &sent[n][said[n].0..]).unwrap();
            said[n].1 += pair.server.write(theirs, &sent[n][said[n].1..]).unwrap();
            assert!(!pair.client.read(ours, &mut heard[n].0).unwrap());
            assert!(!pair.server.read(theirs, &mut heard[n].1).unwrap());
        }
        heard.iter().zip(&sent).all(|(heard, sent)| heard.0 == *sent && heard.1 == *sent).then_some(())
    });
}

#[test]
fn each_direction_ends_by_itself_and_after_its_last_byte() {
    let mut pair = bare(limits());
    let (ours, theirs) = pair.stream();
    let sent = flow(1, 200_000);
    let (mut said, mut heard) = (0, Vec::new());
    pair.until("the end", |pair| {
        said += pair.client.write(ours, &sent[said..]).unwrap_or(0);
        if said == sent.len() {
            pair.client.mux.finish(ours).unwrap();
        }
        pair.server.read(theirs, &mut heard).unwrap().then_some(())
    });
    assert_eq!(heard, sent);
    let mut answer = Vec::new();
    pair.server.write(theirs, b"and back").unwrap();
    pair.server.mux.finish(theirs).unwrap();
    pair.until("the answer's end", |pair| pair.client.read(ours, &mut answer).unwrap().then_some(()));
    assert_eq!(answer, b"and back");
    pair.client.mux.release(ours);
    pair.server.mux.release(theirs);
    pair.stream();
}

#[test]
fn what_waits_to_be_sent_still_goes_after_a_release_if_the_end_was_said() {
    let mut pair = bare(limits());
    let (ours, theirs) = pair.stream();
    let sent = flow(2, 60_000);
    // Half of the window is taken already, so that not all of it can go at once.
    pair.client.write(ours, &sent).unwrap();
    pair.until("half a window", |pair| (pair.server.mux.waiting(theirs).unwrap_or(0) == 60_000).then_some(()));
    pair.client.write(ours, &sent).unwrap();
    pair.client.mux.finish(ours).unwrap();
    pair.client.mux.release(ours);
    let mut heard = Vec::new();
    pair.until("the end", |pair| pair.server.read(theirs, &mut heard).unwrap().then_some(()));
    assert_eq!(heard, [&sent[..], &sent[..]].concat());
    pair.until("their goodbye", |pair| pair.server.write(theirs, b"?").err());
}

#[test]
fn a_peer_that_leaves_after_its_end_takes_no_more_and_who_waits_to_say_more_is_told() {
    let mut pair = bare(limits());
    let (ours, theirs) = pair.stream();
    pair.client.mux.watch(ours, Token(42));
    pair.server.mux.finish(theirs).unwrap();
    pair.until("their end", |pair| pair.client.read(ours, &mut Vec::new()).unwrap().then_some(()));
    // Nobody reads this, and nobody reads the end a second time.
    let mut quiet = 0;
    while quiet < 100 {
        quiet = if pair.client.write(ours, &[7; 100_000]).unwrap() == 0 { quiet + 1 } else { 0 };
        pair.turn();
    }
    pair.client.edges.clear();
    pair.server.mux.release(theirs);
    pair.until("an edge", |pair| pair.client.edges.contains(&Token(42)).then_some(()));
    assert_eq!(pair.client.write(ours, b"more").unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[test]
fn a_stream_that_is_released_before_its_end_looks_cut() {
    let mut pair = bare(limits());
    let (ours, theirs) = pair.stream();
    pair.client.write(ours, b"half of").unwrap();
    pair.until("bytes", |pair| ready(pair.server.mux.waiting(theirs)).unwrap());
    pair.client.mux.release(ours);
    let error = pair.until("an error", |pair| pair.server.read(theirs, &mut Vec::new()).err());
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(pair.server.write(theirs, b"x").unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(pair.server.mux.finish(theirs).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(pair.client.mux.waiting(ours).unwrap_err().kind(), ErrorKind::NotConnected);
}

#[test]
fn no_more_streams_are_opened_than_the_server_allows_and_a_place_is_free_again_after_one_is_over() {
    let mut pair = bare(Limits::new(3, Duration::from_secs(5), &Budget::PLENTY));
    let first = pair.stream();
    for _ in 0..2 {
        pair.stream();
    }
    for _ in 0..10 {
        pair.turn();
        assert!(ready(pair.client.mux.open()).unwrap().is_none(), "a fourth stream");
    }
    pair.client.mux.release(first.0);
    pair.stream();
}

#[test]
fn a_stuck_stream_stalls_no_other() {
    let mut pair = bare(limits());
    let (stuck, _unread) = pair.stream();
    let (ours, theirs) = pair.stream();
    let sent = flow(3, 20_000_000);
    let (mut said, mut heard) = (0, Vec::new());
    pair.until("the other stream's bytes", |pair| {
        pair.client.write(stuck, &[7; 100_000]).unwrap();
        said += pair.client.write(ours, &sent[said..(said + 100_000).min(sent.len())]).unwrap();
        pair.server.read(theirs, &mut heard).unwrap();
        (heard.len() == sent.len()).then_some(())
    });
    assert!(heard == sent);
}

#[test]
fn many_streams_that_were_read_quickly_and_are_not_any_more_stall_no_other() {
    let mut pair = bare(limits());
    let (ours, theirs) = pair.stream();
    let stuck: Vec<_> = (0..30).map(|_| pair.stream()).collect();
    let (mut said, mut heard) = (vec![0; stuck.len()], vec![Vec::new(); stuck.len()]);
    // Each has been read so far that its window could be the largest there is.
    for (n, &(near, far)) in stuck.iter().enumerate() {
        pair.until("much", |pair| {
            said[n] += pair.client.write(near, &[7; 100_000]).unwrap();
            pair.server.read(far, &mut heard[n]).unwrap();
            (heard[n].len() > 8_000_000).then(|| heard[n] = Vec::new())
        });
    }
    // Now they are not read, and all is said on them that can be said.
    let mut quiet = 0;
    while quiet < 100 {
        let more: usize = stuck.iter().map(|&(near, _)| pair.client.write(near, &[7; 100_000]).unwrap()).sum();
        quiet = if more == 0 { quiet + 1 } else { 0 };
        pair.turn();
    }
    let waiting: usize = stuck.iter().map(|&(_, far)| pair.server.mux.waiting(far).unwrap()).sum();
    assert!(waiting < (32 << 20) + 31 * (64 << 10), "{waiting} bytes wait");
    let sent = flow(3, 1_000_000);
    let (mut said, mut heard) = (0, Vec::new());
    pair.until("the other stream's bytes", |pair| {
        said += pair.client.write(ours, &sent[said..(said + 100_000).min(sent.len())]).unwrap();
        pair.server.read(theirs, &mut heard).unwrap();
        (heard.len() == sent.len()).then_some(())
    });
    assert!(heard == sent);
}

#[test]
fn bytes_of_a_released_stream_cost_the_others_nothing() {
    let limits = Limits { window: 1 << 17, spare: 1 << 16, ..limits() };
    let mut pair = bare(limits);
    let (ours, theirs) = pair.stream();
    for round in 0..30 {
        let (stuck, unread) = pair.stream();
        pair.client.write(stuck, &[7; 65_536]).unwrap();
        pair.until("a full inbox", |pair| (pair.server.mux.waiting(unread).unwrap_or(0) > 60_000).then_some(()));
        pair.server.mux.release(unread);
        pair.client.mux.release(stuck);
        pair.client.write(ours, &[round]).unwrap();
        let mut heard = Vec::new();
        pair.until("a byte", |pair| {
            pair.server.read(theirs, &mut heard).unwrap();
            (heard == [round]).then_some(())
        });
    }
}

#[test]
fn a_token_is_told_once_until_it_is_taken() {
    let mut pair = bare(limits());
    let (ours, theirs) = pair.stream();
    pair.server.mux.watch(theirs, Token(42));
    assert_eq!(pair.server.mux.changed(), Some(Token(42)), "one at once");
    assert_eq!(pair.server.mux.changed(), None);
    for _ in 0..5 {
        pair.client.write(ours, b"more").unwrap();
        pair.client.turn(Duration::ZERO);
    }
    pair.until("bytes", |pair| (pair.server.mux.waiting(theirs).unwrap_or(0) == 20).then_some(()));
    assert_eq!(pair.server.edges, [Token(42)]);
}

#[test]
fn a_peer_that_says_nothing_is_silent_after_twelve_reports_and_pings_keep_it_alive() {
    let report = Duration::from_secs(5);
    let mut pair = bare(Limits::new(10, report, &Budget::PLENTY));
    pair.stream();
    let mut clock = Instant::now();
    for _ in 0..20 {
        clock += report;
        pair.client.turn_at(clock, Duration::ZERO).unwrap();
        // A moment, for the kernel.
        for _ in 0..2 {
            pair.server.turn_at(clock, Duration::from_millis(100)).unwrap();
            pair.client.turn_at(clock, Duration::from_millis(100)).unwrap();
        }
    }
    let heard = clock;
    for _ in 1..TCP_SILENCE {
        clock += report;
        pair.client.turn_at(clock, Duration::ZERO).unwrap();
    }
    let silent = heard + TCP_SILENCE * report;
    assert!(pair.client.mux.deadline().unwrap() <= silent);
    let error = pair.client.turn_at(silent, Duration::ZERO).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(error.to_string().contains("silent"));
}

#[test]
fn after_a_goodbye_no_stream_is_opened_and_the_connection_ends() {
    let mut pair = over_tls(limits());
    let (ours, _) = pair.stream();
    pair.server.mux.close();
    let error = loop {
        if let Err(error) = pair.client.turn_at(Instant::now(), Duration::from_millis(10)) {
            break error;
        }
    };
    assert!(matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::UnexpectedEof), "{error}");
    assert!(!pair.client.mux.is_up());
    assert_eq!(pair.client.mux.open().unwrap_err().kind(), ErrorKind::NotConnected);
    pair.client.mux.release(ours);
}
