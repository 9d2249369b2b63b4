//! What a server does with packets that it did not ask for.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use nodepass::net::mux::Mux;
use nodepass::net::quic::Settings;

use super::nat::open;
use super::pair::*;
use crate::support::Dice;

/// The first packet of a real client.
fn initial() -> Vec<u8> {
    let ear = open();
    let mut client = client(ear.local_addr().unwrap(), &any_server(), &settings(), &mut Default::default());
    let mut packet = vec![0; 2000];
    loop {
        client.turn(Duration::from_millis(1));
        if let Ok(len) = ear.recv(&mut packet) {
            packet.truncate(len);
            return packet;
        }
    }
}

/// What comes back for `packets` from a socket at `from`.
fn answers(server: &mut End<nodepass::net::quic::QuicServer>, from: [u8; 4], packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let socket = UdpSocket::bind(SocketAddr::from((from, 0))).unwrap();
    socket.set_nonblocking(true).unwrap();
    let at = server.mux.local().next().unwrap();
    let (mut heard, mut buffer) = (Vec::new(), [0; 65536]);
    for packet in packets {
        socket.send_to(packet, at).unwrap();
        for _ in 0..3 {
            server.turn(Duration::from_millis(1));
            while let Ok(len) = socket.recv(&mut buffer) {
                heard.push(buffer[..len].to_vec());
            }
        }
    }
    heard
}

#[test]
fn an_unproven_address_gets_one_small_packet_for_each_of_its_own_and_no_memory() {
    let mut server = server(&settings(), &identity());
    let packets = vec![initial(); 200];
    let heard = answers(&mut server, [127, 0, 0, 1], &packets);
    assert_eq!(heard.len(), packets.len());
    assert!(heard.iter().all(|packet| packet.len() < packets[0].len() / 5), "each is a Retry");
    assert!(heard.iter().all(|packet| packet[0] & 0xf0 == 0xf0), "each is a Retry");
    assert_eq!(server.mux.connections(), 0);
}

#[test]
fn an_address_that_is_not_expected_gets_nothing_at_all() {
    let mut server = server(&settings(), &identity());
    let mut unknown = initial();
    unknown[1..5].copy_from_slice(&0x1a2a_3a4a_u32.to_be_bytes());
    let packets = [initial(), unknown, initial()];
    assert!(answers(&mut server, [127, 0, 0, 9], &packets).is_empty());
    server.mux.allow(&[], &identity()).unwrap();
    assert!(answers(&mut server, [127, 0, 0, 1], &packets).is_empty());
    assert_eq!(server.mux.connections(), 0);
}

#[test]
fn an_unknown_version_is_answered_with_the_known_one_and_a_short_packet_is_not() {
    let mut server = server(&settings(), &identity());
    let mut packet = initial();
    packet[1..5].copy_from_slice(&0x1a2a_3a4a_u32.to_be_bytes());
    let short = packet[..1199].to_vec();
    let heard = answers(&mut server, [127, 0, 0, 1], &[short, packet]);
    assert_eq!(heard.len(), 1);
    assert_eq!(heard[0][1..5], [0; 4], "version 0 is Version Negotiation");
    assert!(heard[0].windows(4).any(|four| four == [0, 0, 0, 1]));
}

#[test]
fn garbage_disturbs_no_connection() {
    let mut both = Both::joined(&settings());
    let (near, far) = both.stream();
    let mut dice = Dice(1);
    let real = initial();
    let packets: Vec<Vec<u8>> = (0..500)
        .map(|round| {
            let mut packet = real.clone();
            match round % 3 {
                0 => packet.iter_mut().for_each(|byte| *byte = dice.next() as u8),
                1 => (0..4).for_each(|_| packet[dice.below(60usize)] = dice.next() as u8),
                _ => packet.truncate(dice.below(1200usize)),
            }
            packet
        })
        .collect();
    answers(&mut both.server, [127, 0, 0, 1], &packets);
    answers(&mut both.server, [127, 0, 0, 2], &packets);
    both.client.write(near, b"still here").unwrap();
    let mut came = Vec::new();
    both.until_true(|both| {
        both.server.read(far, &mut came).unwrap();
        came.len() == 10
    });
    assert_eq!(both.server.mux.connections(), 1);
}

#[test]
fn connections_are_few_and_one_that_carries_nothing_makes_room() {
    let settings = Settings { streams: 4, ..settings() };
    let mut server = server(&settings, &identity());
    let at = server.mux.local().next().unwrap();
    let mut clients: Vec<_> = (0..40)
        .map(|_| {
            let mut one = client(at, &any_server(), &settings, &mut Default::default());
            let mut turns = 0;
            while !one.mux.is_up() {
                one.turn(Duration::from_millis(1));
                server.turn(Duration::from_millis(1));
                turns += 1;
                assert!(turns < 10_000, "a newcomer is not let in");
            }
            assert!(server.mux.connections() <= 16);
            one
        })
        .collect();
    let last = clients.last_mut().unwrap();
    let stream = last.mux.open().unwrap();
    last.write(stream, b"x").unwrap();
    let mut turns = 0;
    while server.mux.accept().is_none() {
        last.turn(Duration::from_millis(1));
        server.turn(Duration::from_millis(1));
        turns += 1;
        assert!(turns < 10_000);
    }
}
