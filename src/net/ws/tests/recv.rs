//! What comes: frames, messages, and peers that break the rules.

use super::rig::*;
use super::*;

#[test]
fn recorded_frames_of_an_original_are_read() {
    let (mut ws, peer) = rig(End::Server, false);
    peer.say(b"\x82\x92mdZ\xd5\x05\x016\xb9\x02I<\xa7\x02\tw\xa1\x0c\x16=\xb0\x19n\x88\x82\tcMS\n\x8b");
    assert_eq!(filled(&mut ws), (b"hello-from-target\n".to_vec(), Seen::End));
    let (mut ws, peer) = rig(End::Client, false);
    peer.say(b"\x82\x04\xc6\xe6\x11T\x88\x02\x03\xe8");
    assert_eq!(filled(&mut ws), (b"\xc6\xe6\x11T".to_vec(), Seen::End));
}

#[test]
fn frames_may_come_in_any_pieces() {
    for end in [End::Client, End::Server] {
        let (bytes, payload) = session(end);
        for size in (1..40).chain([125, 126, 255, 256, 257, 4096, 70_000]) {
            let (mut ws, mut peer) = rig(end, true);
            let mut came = Vec::new();
            let mut seen = Seen::Nothing;
            for piece in bytes.chunks(size) {
                assert_eq!(seen, Seen::Nothing, "pieces of {size}");
                peer.say(piece);
                let (more, now_seen) = filled(&mut ws);
                came.extend(more);
                seen = now_seen;
            }
            assert_eq!(seen, Seen::End);
            assert!(came == payload, "pieces of {size}: the bytes are others");
            let pongs: Vec<_> = peer.frames().into_iter().map(|(opcode, payload)| (opcode, payload.len())).collect();
            assert_eq!(pongs, [(PONG, 0), (PONG, 125)]);
        }
    }
}

#[test]
fn frames_may_come_split_at_every_byte() {
    for end in [End::Client, End::Server] {
        let (bytes, payload) = session(end);
        for at in (0..600).chain(bytes.len() - 600..bytes.len()) {
            let (mut ws, peer) = rig(end, true);
            peer.say(&bytes[..at]);
            let (mut came, _) = filled(&mut ws);
            peer.say(&bytes[at..]);
            let (more, seen) = filled(&mut ws);
            came.extend(more);
            assert!(came == payload && seen == Seen::End, "split at {at}");
        }
    }
}

#[test]
fn what_came_with_the_upgrade_is_read_first_whatever_its_size() {
    for size in [0, 1, 4, 100, 5000] {
        let early = encode(FIN | BINARY, None, &flow(size));
        let (peer, wire) = wire();
        let mut ws = Ws::new(Box::new(wire), End::Client, false, &early);
        peer.say(&encode(FIN | BINARY, None, b"and more"));
        let mut expected = flow(size);
        expected.extend(b"and more");
        assert_eq!(filled(&mut ws), (expected, Seen::Nothing));
    }
}

#[test]
fn a_message_of_any_size_passes_without_being_held() {
    let (mut ws, peer) = rig(End::Client, false);
    // Two to the power of 62 bytes are announced.
    peer.say(&[0x82, 127, 0x40, 0, 0, 0, 0, 0, 0, 0]);
    let mut into = Buffer::new(16 * 1024);
    for round in 0..500 {
        peer.say(&[round as u8; 10_000]);
        let mut came = 0;
        while let Some(count) = ready(ws.fill(&mut into)).unwrap() {
            assert!(into.bytes().iter().all(|byte| *byte == round as u8));
            into.consume(count);
            came += count;
        }
        assert_eq!(came, 10_000);
        assert_eq!((ws.ahead.room(0).len(), ws.out.room(0).len()), (AHEAD, OUT), "it holds something");
    }
}

#[test]
fn frames_that_come_together_are_taken_together_and_what_is_between_them_is_answered() {
    let (mut ws, mut peer) = rig(End::Server, true);
    let mask = |at: usize| Some([at as u8, 2, 3, 4]);
    let mut said = Vec::new();
    for at in 0..8 {
        said.extend(encode(FIN | BINARY, mask(at), &flow(1000 + at)));
        said.extend(encode(FIN | PING, mask(at), &[at as u8]));
    }
    said.extend(&encode(FIN | BINARY, mask(9), b"begun")[..8]);
    peer.say(&said);
    let mut buffer = Buffer::new(1 << 16);
    let expected: Vec<u8> = (0..8).flat_map(|at| flow(1000 + at)).chain(*b"be").collect();
    assert_eq!(ws.fill(&mut buffer).unwrap(), expected.len());
    assert_eq!(buffer.bytes(), expected);
    // Of pings that came together the latest is answered.
    assert_eq!(peer.frames().last(), Some(&(PONG, vec![7])));
}

#[test]
fn an_empty_message_is_an_end_only_where_that_was_agreed_on() {
    for (frames, is_end) in [
        (vec![encode(FIN | BINARY, None, b"")], true),
        (vec![encode(BINARY, None, b""), encode(CONTINUE, None, b""), encode(FIN | CONTINUE, None, b"")], true),
        (vec![encode(BINARY, None, b""), encode(FIN | PING, None, b"x"), encode(FIN | CONTINUE, None, b"")], true),
        (vec![encode(BINARY, None, b"x"), encode(FIN | CONTINUE, None, b"")], false),
        (vec![encode(BINARY, None, b""), encode(CONTINUE, None, b"x"), encode(FIN | CONTINUE, None, b"")], false),
    ] {
        for agreed in [true, false] {
            let (mut ws, peer) = rig(End::Client, agreed);
            peer.say(&frames.concat());
            let (_, seen) = filled(&mut ws);
            assert_eq!(seen == Seen::End, is_end && agreed, "{frames:?}, {agreed}");
        }
    }
}

#[test]
fn a_peer_that_breaks_the_rules_is_told_and_left() {
    let masked = Some([1, 2, 3, 4]);
    let long = vec![b'x'; 126];
    let cases: Vec<(&str, Vec<u8>, u16)> = vec![
        ("a text message", encode(FIN | TEXT, masked, b"hello"), 1003),
        ("an empty text message in parts", encode(TEXT, masked, b""), 1003),
        ("no mask", encode(FIN | BINARY, None, b"x"), 1002),
        ("no mask on a ping", encode(FIN | PING, None, b""), 1002),
        ("RSV1", encode(0x40 | FIN | BINARY, masked, b"x"), 1002),
        ("RSV2", encode(0x20 | FIN | BINARY, masked, b"x"), 1002),
        ("RSV3", encode(0x10 | FIN | PING, masked, b"x"), 1002),
        ("opcode 3", encode(FIN | 3, masked, b"x"), 1002),
        ("opcode 7", encode(FIN | 7, masked, b""), 1002),
        ("opcode 11", encode(FIN | 11, masked, b""), 1002),
        ("opcode 15", encode(FIN | 15, masked, b"x"), 1002),
        ("a long ping", encode(FIN | PING, masked, &long), 1002),
        ("a long pong", encode(FIN | PONG, masked, &long), 1002),
        ("a ping in parts", encode(PING, masked, b"x"), 1002),
        ("a Close in parts", encode(CLOSE, masked, &[3, 232]), 1002),
        ("a Close of one byte", encode(FIN | CLOSE, masked, &[3]), 1002),
        ("a Close with code 999", encode(FIN | CLOSE, masked, &999u16.to_be_bytes()), 1002),
        ("a Close with code 1005", encode(FIN | CLOSE, masked, &1005u16.to_be_bytes()), 1002),
        ("a Close with code 1006", encode(FIN | CLOSE, masked, &1006u16.to_be_bytes()), 1002),
        ("a Close with no text", encode(FIN | CLOSE, masked, b"\x03\xe8\xff\xfe"), 1002),
        ("a continuation of nothing", encode(FIN | CONTINUE, masked, b"x"), 1002),
        ("a message in a message", [encode(BINARY, masked, b""), encode(FIN | BINARY, masked, b"x")].concat(), 1002),
        ("a length of 2^63", [&[0x82, 0xff, 0x80][..], &[0; 7], &[1, 2, 3, 4]].concat(), 1002),
        (
            "a message after the end",
            [encode(FIN | BINARY, masked, b""), encode(FIN | BINARY, masked, b"x")].concat(),
            1002,
        ),
    ];
    for (what, bytes, code) in cases {
        for size in [1, bytes.len()] {
            let (mut ws, mut peer) = rig(End::Server, true);
            bytes.chunks(size).for_each(|piece| peer.say(piece));
            let mut seen = filled(&mut ws).1;
            if seen == Seen::End {
                seen = Seen::Error(ws.flush().expect_err(what).kind());
            }
            assert_eq!(seen, Seen::Error(ErrorKind::InvalidData), "{what}");
            assert_eq!(peer.frames(), [(CLOSE, code.to_be_bytes().to_vec())], "{what}");
            assert_eq!(filled(&mut ws).1, Seen::Error(ErrorKind::InvalidData), "{what}: it stays one");
            assert!(ws.drain(&mut Buffer::holding(vec![1])).is_err());
        }
    }
    let (mut ws, peer) = rig(End::Client, true);
    peer.say(&encode(FIN | BINARY, masked, b"x"));
    assert_eq!(filled(&mut ws).1, Seen::Error(ErrorKind::InvalidData), "a server that masks");
}

#[test]
fn a_close_for_a_bad_reason_is_an_error_and_answered() {
    for code in [1002u16, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 3000, 4999] {
        let (mut ws, mut peer) = rig(End::Client, true);
        peer.say(&encode(FIN | BINARY, None, b"last"));
        peer.say(&encode(FIN | CLOSE, None, &[&code.to_be_bytes()[..], b"why"].concat()));
        assert_eq!(filled(&mut ws), (b"last".to_vec(), Seen::Error(ErrorKind::ConnectionAborted)));
        assert_eq!(peer.frames(), [(CLOSE, code.to_be_bytes().to_vec())]);
    }
}

#[test]
fn a_connection_that_is_cut_off_is_an_error_after_the_last_byte() {
    for cut in [encode(FIN | BINARY, None, b"whole"), encode(FIN | BINARY, None, b"whole more")[..7].to_vec()] {
        let (mut ws, mut peer) = rig(End::Client, true);
        peer.say(&cut);
        peer.end();
        assert_eq!(filled(&mut ws), (b"whole".to_vec(), Seen::Error(ErrorKind::UnexpectedEof)));
        assert_eq!(ws.waiting().unwrap(), 0, "it would not do as an idle connection");
    }
}

#[test]
fn an_endless_row_of_empty_frames_is_not_read_for_ever() {
    for frame in [encode(FIN | PING, None, b""), encode(FIN | PONG, None, b"x"), encode(FIN | BINARY, None, b"")] {
        let (mut ws, mut peer) = rig(End::Client, false);
        // With pauses they are as good as any.
        for _ in 0..2 * EMPTY_FRAMES {
            peer.say(&frame);
            assert_eq!(filled(&mut ws), (vec![], Seen::Nothing));
        }
        peer.frames();
        peer.say(&frame.repeat(2 * EMPTY_FRAMES));
        assert_eq!(filled(&mut ws).1, Seen::Error(ErrorKind::InvalidData));
        assert_eq!(peer.frames().last(), Some(&(CLOSE, 1008u16.to_be_bytes().to_vec())));
    }
}

#[test]
fn a_message_that_is_a_datagram_comes_whole_or_not_at_all() {
    let frames = |mask| {
        [
            encode(FIN | BINARY, mask, &flow(1)),
            encode(BINARY, mask, &flow(9000)[..4088]),
            encode(FIN | PING, mask, b"x"),
            encode(CONTINUE, mask, &flow(9000)[4088..8176]),
            encode(FIN | CONTINUE, mask, &flow(9000)[8176..]),
            encode(FIN | BINARY, mask, &flow(10_000)),
            encode(FIN | BINARY, mask, &flow(10_001)),
            encode(BINARY, mask, &flow(2)),
            encode(FIN | CONTINUE, mask, b""),
            encode(FIN | BINARY, mask, &flow(3)),
        ]
        .concat()
    };
    for (end, mask) in [(End::Client, None), (End::Server, Some([1, 2, 3, 4]))] {
        for size in [1, 7, 4096, 100_000] {
            let (mut ws, peer) = rig(end, false);
            ws.keep_messages(10_000);
            let (mut into, mut came) = (Buffer::new(20_000), Vec::new());
            for piece in frames(mask).chunks(size) {
                peer.say(piece);
                while let Some(count) = ready(ws.fill(&mut into)).unwrap() {
                    assert_eq!(into.bytes(), flow(count));
                    assert!(ready(ws.fill(&mut into)).unwrap().is_none(), "two never share a buffer");
                    into.consume(count);
                    came.push(count);
                }
            }
            assert_eq!(came, [1, 9000, 10_000, 2, 3], "pieces of {size}");
            assert!(ws.datagram.as_ref().is_some_and(|datagram| datagram.is_empty()), "it holds something");
        }
    }
}
