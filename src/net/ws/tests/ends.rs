//! How the two directions end.

use super::rig::*;
use super::*;

#[test]
fn with_ws_eof_an_end_is_an_empty_message_and_close_comes_after_both() {
    let (mut ws, mut peer) = rig(End::Server, true);
    drained(&mut ws, b"all");
    ws.finish().unwrap();
    assert_eq!(peer.frames(), [(BINARY, b"all".to_vec()), (TEXT, vec![])]);
    assert_eq!(ws.drain(&mut Buffer::holding(vec![1])).unwrap_err().kind(), ErrorKind::BrokenPipe);

    peer.say(&encode(FIN | BINARY, Some([1; 4]), b"still"));
    assert_eq!(filled(&mut ws), (b"still".to_vec(), Seen::Nothing));
    assert!(!peer.ended());
    peer.say(&encode(FIN | BINARY, Some([1; 4]), b""));
    assert_eq!(filled(&mut ws), (vec![], Seen::End));
    assert_eq!(peer.frames(), [(CLOSE, vec![3, 232])]);
    assert!(peer.ended());
}

#[test]
fn an_empty_text_message_is_an_end_only_where_that_was_agreed_on() {
    for agreed in [true, false] {
        let (mut ws, peer) = rig(End::Client, agreed);
        peer.say(&encode(FIN | TEXT, None, b""));
        let expected = if agreed { Seen::End } else { Seen::Error(ErrorKind::InvalidData) };
        assert_eq!(filled(&mut ws), (vec![], expected));
    }
}

#[test]
fn with_ws_eof_their_end_leaves_ours_open() {
    let (mut ws, mut peer) = rig(End::Client, true);
    peer.say(&encode(FIN | BINARY, None, b""));
    assert_eq!(filled(&mut ws), (vec![], Seen::End));
    drained(&mut ws, b"still");
    ws.flush().unwrap();
    assert_eq!(peer.frames(), [(BINARY, b"still".to_vec())]);
    ws.finish().unwrap();
    assert_eq!(peer.frames(), [(TEXT, vec![]), (CLOSE, vec![3, 232])]);
    assert!(peer.ended());
}

#[test]
fn without_ws_eof_an_end_is_a_close_and_what_they_still_send_is_read() {
    let (mut ws, mut peer) = rig(End::Client, false);
    ws.finish().unwrap();
    assert_eq!(peer.frames(), [(CLOSE, vec![3, 232])]);
    peer.say(&[encode(FIN | BINARY, None, b"still"), encode(FIN | PING, None, b"?")].concat());
    assert_eq!(filled(&mut ws), (b"still".to_vec(), Seen::Nothing));
    assert!(!peer.ended());
    peer.say(&encode(FIN | CLOSE, None, &[3, 232]));
    assert_eq!(filled(&mut ws), (vec![], Seen::End));
    assert_eq!(peer.frames(), [], "nothing follows a Close");
    assert!(peer.ended());
}

#[test]
fn a_close_is_answered_after_what_is_still_to_be_said() {
    for reason in [&b""[..], &[3, 232], &[3, 233]] {
        let (mut ws, mut peer) = rig(End::Client, false);
        peer.say(&encode(FIN | CLOSE, None, reason));
        assert_eq!(filled(&mut ws), (vec![], Seen::End));
        drained(&mut ws, b"last words");
        ws.finish().unwrap();
        assert_eq!(peer.frames(), [(BINARY, b"last words".to_vec()), (CLOSE, vec![3, 232])]);
        assert!(peer.ended());
    }
}

#[test]
fn an_idle_connection_answers_a_close_at_once() {
    let (mut ws, mut peer) = rig(End::Server, true);
    peer.say(&encode(FIN | CLOSE, Some([5; 4]), &[3, 232]));
    assert_eq!(ws.waiting().unwrap(), 0);
    assert_eq!(peer.frames(), [(CLOSE, vec![3, 232])]);
    assert!(peer.ended());
}

#[test]
fn an_end_that_cannot_be_sent_now_is_sent_when_it_can() {
    let (mut ws, mut peer) = rig(End::Server, true);
    peer.room(1);
    for _ in 0..3 {
        assert_eq!(ws.finish().unwrap_err().kind(), ErrorKind::WouldBlock);
    }
    peer.room(usize::MAX);
    ws.finish().unwrap();
    assert_eq!(peer.frames(), [(TEXT, vec![])]);
}

#[test]
fn looking_for_waiting_bytes_takes_none() {
    let (mut ws, peer) = rig(End::Client, false);
    peer.say(&encode(FIN | BINARY, None, b""));
    assert_eq!(ws.waiting().unwrap_err().kind(), ErrorKind::WouldBlock, "nothing is no bytes");
    peer.say(&encode(FIN | BINARY, None, b"bytes"));
    for _ in 0..3 {
        assert!(ws.waiting().unwrap() > 0);
    }
    assert_eq!(filled(&mut ws), (b"bytes".to_vec(), Seen::Nothing));
}
