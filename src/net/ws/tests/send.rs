//! What goes: frames and their masks.

use super::rig::*;
use super::*;

#[test]
fn a_frame_with_its_header_is_no_more_than_is_sent_at_once() {
    for (end, header) in [(End::Server, 4), (End::Client, 8)] {
        let (mut ws, mut peer) = rig(end, true);
        let mut from = Buffer::holding(vec![7; LARGE + 5]);
        assert_eq!(ws.drain(&mut from).unwrap(), LARGE - header);
        assert_eq!(peer.heard().len(), LARGE);
        drained(&mut ws, from.bytes());
        assert_eq!(peer.frames(), [(BINARY, vec![7; header + 5])]);
    }
}

#[test]
fn clients_mask_every_frame_anew_and_servers_none() {
    let (mut ws, mut peer) = rig(End::Client, true);
    for _ in 0..100 {
        drained(&mut ws, b"the same");
    }
    let bytes = peer.heard();
    let masks: std::collections::HashSet<_> = bytes.chunks(14).map(|frame| frame[2..6].to_vec()).collect();
    assert!(masks.len() > 95, "{} masks for 100 frames", masks.len());
    assert!(bytes.chunks(14).all(|frame| frame[..2] == [0x82, 0x88]));

    let (mut ws, mut peer) = rig(End::Server, true);
    drained(&mut ws, b"the same");
    assert_eq!(peer.heard(), b"\x82\x08the same");
}

#[test]
fn bytes_arrive_whole_however_little_the_stream_below_takes_at_a_time() {
    for end in [End::Client, End::Server] {
        for step in [1, 2, 3, 5, 7, 13, 1000, 16_384] {
            let (mut ws, mut peer) = rig(end, true);
            let sent = flow(if step < 10 { 3000 } else { 100_000 });
            let mut from = Buffer::new(20_000);
            let mut given = from.append(&sent);
            let mut turns = 0;
            while !from.is_empty() {
                peer.room(step);
                match ready(ws.drain(&mut from)).unwrap() {
                    Some(0) => panic!("`Ok(0)` would look like an end"),
                    // More bytes come behind those of a frame that has begun.
                    _ => given += from.append(&sent[given..]),
                }
                turns += 1;
                assert!(turns < 100_000);
            }
            peer.room(usize::MAX);
            ws.flush().unwrap();
            let frames = peer.frames();
            assert!(frames.iter().all(|(opcode, payload)| *opcode == BINARY && !payload.is_empty()));
            let came: Vec<u8> = frames.into_iter().flat_map(|(_, payload)| payload).collect();
            assert!(came == sent, "{end:?}, {step} at a time: the bytes are others");
        }
    }
}

#[test]
fn what_is_sent_needs_no_memory_of_ours() {
    let (mut ws, peer) = rig(End::Client, true);
    let mut from = Buffer::holding(flow(1_000_000));
    peer.room(8);
    assert_eq!(ready(ws.drain(&mut from)).unwrap(), None, "a header and no payload yet");
    // Seven whole frames, and the header of one that begins.
    peer.room(500_000);
    while ready(ws.drain(&mut from)).unwrap().is_some() {}
    assert_eq!(ws.out.room(0).len(), OUT, "nothing is held back but headers");
    assert_eq!(from.bytes().len(), 500_000 + 7 * 8);
}
