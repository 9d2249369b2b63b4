//! Pings and their answers.

use super::rig::*;
use super::*;

#[test]
fn pings_are_answered_while_filling_while_idle_and_after_the_end() {
    let (mut ws, mut peer) = rig(End::Server, true);
    let ping = |text: &[u8]| encode(FIN | PING, Some([9, 8, 7, 6]), text);
    peer.say(&ping(b"one"));
    assert_eq!(filled(&mut ws), (vec![], Seen::Nothing));
    peer.say(&ping(b"two"));
    assert_eq!(ws.waiting().unwrap_err().kind(), ErrorKind::WouldBlock);
    peer.say(&encode(FIN | BINARY, Some([1, 1, 1, 1]), b""));
    assert_eq!(filled(&mut ws), (vec![], Seen::End));
    peer.say(&ping(b"three"));
    ws.flush().unwrap();
    let pongs = [b"one".to_vec(), b"two".to_vec(), b"three".to_vec()].map(|text| (PONG, text));
    assert_eq!(peer.frames(), pongs);
}

#[test]
fn of_pings_that_cannot_be_answered_only_the_latest_is_kept() {
    let (mut ws, mut peer) = rig(End::Client, true);
    peer.room(0);
    for number in 0..200u8 {
        peer.say(&encode(FIN | PING, None, &[number; 125]));
        assert_eq!(filled(&mut ws), (vec![], Seen::Nothing));
        assert!(ws.out.bytes().len() <= OUT);
    }
    assert_eq!(ws.flush().unwrap_err().kind(), ErrorKind::WouldBlock);
    peer.room(usize::MAX);
    ws.flush().unwrap();
    assert_eq!(peer.frames(), [(PONG, vec![0; 125]), (PONG, vec![199; 125])]);
}

#[test]
fn a_pong_never_comes_within_a_frame() {
    let (mut ws, mut peer) = rig(End::Client, true);
    let sent = flow(50_000);
    let mut from = Buffer::holding(sent.clone());
    peer.room(20_000);
    assert!(ws.drain(&mut from).unwrap() > 0);
    peer.say(&encode(FIN | PING, None, b"now?"));
    assert_eq!(filled(&mut ws), (vec![], Seen::Nothing));
    ws.flush().unwrap();
    peer.room(usize::MAX);
    while !from.is_empty() {
        ws.drain(&mut from).unwrap();
    }
    ws.flush().unwrap();
    assert_eq!(peer.frames(), [(BINARY, sent), (PONG, b"now?".to_vec())]);
}

#[test]
fn a_ping_is_said_when_nothing_was_said_since_the_last_one_and_never_within_a_frame() {
    let (mut ws, mut peer) = rig(End::Server, false);
    ws.ping();
    assert_eq!(peer.frames(), [(PING, vec![])]);
    ws.ping();
    assert_eq!(peer.frames(), [(PING, vec![])], "a ping is no word");
    drained(&mut ws, b"x");
    ws.ping();
    assert_eq!(peer.frames(), [(BINARY, b"x".to_vec())]);
    ws.ping();
    assert_eq!(peer.frames(), [(PING, vec![])]);
    peer.say(&encode(FIN | PING, Some([1; 4]), b"p"));
    filled(&mut ws);
    ws.ping();
    assert_eq!(peer.frames(), [(PONG, b"p".to_vec())], "an answer is a word");
    // The path takes a part of a frame.
    peer.room(3);
    let mut from = Buffer::holding(b"payload".to_vec());
    assert_eq!(ws.drain(&mut from).unwrap(), 1);
    ws.ping();
    ws.ping();
    peer.room(usize::MAX);
    ws.drain(&mut from).unwrap();
    assert_eq!(peer.frames(), [(BINARY, b"payload".to_vec())]);
    ws.finish().unwrap();
    ws.ping();
    ws.ping();
    assert_eq!(peer.frames(), [(CLOSE, vec![3, 232])]);
}
