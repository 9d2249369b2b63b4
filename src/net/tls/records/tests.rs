use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::version::TLS13;
use rustls::{CipherSuite, ClientConfig, HandshakeKind, ServerConfig};

use super::super::session::Turn;
use super::super::SessionOutput;
use super::*;
use crate::net::certs::{self, Alpn, Audience, Certs, Origin, Trust};
use crate::testing::Dice;

#[test]
fn with_every_cipher_bytes_arrive_as_they_were_in_whatever_pieces_they_go_and_come() {
    use CipherSuite::{TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256};
    let mut dice = Dice::of(7);
    for suite in [TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256] {
        let (mut client, mut server) = pair_with(suite);
        let bytes: Vec<u8> = (0..100_000).map(|_| dice.next() as u8).collect();
        for back in [false, true] {
            let (one, other) = if back { (&mut server, &mut client) } else { (&mut client, &mut server) };
            let said = said_in_pieces(one, &bytes, &mut dice);
            assert!(bytes == heard_in_pieces(other, &said, &mut dice), "{suite:?}");
        }
    }
}

#[test]
fn pieces_share_records_and_these_are_as_long_as_can_be() {
    let (mut client, _) = pair();
    let (short, long) = ([1; 10], vec![2; 2 * RECORD]);
    let mut into = vec![0; 3 * (RECORD + SEAL)];
    let sealed = client.seal(&[IoSlice::new(&short), IoSlice::new(&[]), IoSlice::new(&long)], usize::MAX, &mut into);
    let taken = short.len() + long.len();
    assert_eq!(sealed.unwrap(), Sealed { taken, made: taken + 3 * SEAL });
    // No more than is asked for.
    let sealed = client.seal(&[IoSlice::new(&short), IoSlice::new(&long)], 12, &mut into);
    assert_eq!(sealed.unwrap(), Sealed { taken: 12, made: 12 + SEAL });
}

#[test]
fn a_key_gets_no_more_records_than_its_cipher_allows() {
    let (mut client, mut server) = pair();
    assert_eq!(client.most, 1 << 24, "of AES-GCM");
    client.most = 2;
    let (mut heard, mut count) = (Vec::new(), 0);
    for number in 0..10 {
        let said = said(&mut client, &[number]);
        count += records_in(&said);
        opened(&mut server, said, &mut heard).unwrap();
        assert!(client.ours.sequence <= 2);
    }
    assert_eq!(heard, (0..10).collect::<Vec<u8>>());
    assert_eq!(count, 10 + 9, "each but the first has a key of its own, as the second record under each is its last");
}

#[test]
fn new_keys_are_followed_and_given_once_where_they_are_wished_for() {
    let (mut client, mut server) = pair();
    let mut heard = Vec::new();
    for _ in 0..3 {
        let mut wish = vec![0; 27];
        client.say(HANDSHAKE, &[KEY_UPDATE, 0, 0, 1, 1], &mut wish).unwrap();
        client.ours = client.secrets.next_of_ours().unwrap();
        opened(&mut server, wish, &mut heard).unwrap();
    }
    let answer = said(&mut server, b"new");
    assert_eq!(records_in(&answer), 2, "the new keys and the word");
    opened(&mut client, answer, &mut heard).unwrap();
    assert_eq!(records_in(&said(&mut server, b"again")), 1);
    assert_eq!(heard, b"new");
}

#[test]
fn whoever_announces_new_keys_without_end_is_left_and_data_between_them_is_news() {
    let (mut client, mut server) = pair();
    let mut heard = Vec::new();
    for round in 0..3 * MAX_UPDATES {
        opened(&mut server, renewed(&mut client), &mut heard).unwrap();
        if round < 2 * MAX_UPDATES {
            opened(&mut server, said(&mut client, b"."), &mut heard).unwrap();
        }
    }
    let fault = opened(&mut server, renewed(&mut client), &mut heard).unwrap_err();
    assert_eq!(fault.error, PeerMisbehaved::TooManyKeyUpdateRequests.into());
    assert_eq!(heard.len(), usize::from(2 * MAX_UPDATES));
}

#[test]
fn a_byte_that_was_changed_anywhere_is_noticed() {
    for at in [0, 1, 3, 4, 5, 20, 5 + 11 + 1, 32] {
        let (mut client, mut server) = pair();
        let mut record = said(&mut client, b"hello world");
        record[at] ^= 0x40;
        let mut heard = Vec::new();
        match opened(&mut server, record, &mut heard) {
            // A record that seems longer has not come whole; its length is under the tag, too.
            Ok((given, _)) => assert!(given == 0 && matches!(at, 3 | 4), "{at}"),
            Err(fault) => assert!(fault.alert.is_some(), "{at}: {:?}", fault.error),
        }
        assert!(heard.is_empty());
    }
}

#[test]
fn records_that_come_again_or_out_of_turn_are_noticed() {
    let (mut client, mut server) = pair();
    let (first, second) = (said(&mut client, b"1"), said(&mut client, b"2"));
    let mut heard = Vec::new();
    opened(&mut server, first.clone(), &mut heard).unwrap();
    assert_eq!(opened(&mut server, first, &mut heard).unwrap_err().error, Error::DecryptError);
    let (_, mut server) = pair();
    assert_eq!(opened(&mut server, second, &mut heard).unwrap_err().error, Error::DecryptError);
    assert_eq!(heard, b"1");
}

#[test]
fn what_is_in_a_record_is_judged() {
    use AlertDescription as A;
    let long = [&vec![7; RECORD + 1][..], &[DATA]].concat();
    let full = [&vec![7; RECORD][..], &[DATA]].concat();
    let tell = |kind: u8, text: &[u8]| [text, &[kind]].concat();
    // What is sealed, then what comes of it: bytes, an end, or what the other side is told.
    type Fate = Result<(usize, bool), Option<AlertDescription>>;
    let cases: Vec<(&str, Vec<u8>, Fate)> = vec![
        ("as much as may be", full, Ok((RECORD, false))),
        ("more than may be", long, Err(Some(A::RecordOverflow))),
        ("padding", b"hi\x17\0\0\0\0".to_vec(), Ok((2, false))),
        ("an empty record", tell(DATA, b""), Ok((0, false))),
        ("no type", vec![0; 9], Err(Some(A::UnexpectedMessage))),
        ("an unknown type", tell(99, b"hi"), Err(Some(A::UnexpectedMessage))),
        ("a change of cipher", tell(CHANGE_CIPHER_SPEC, b"\x01"), Err(Some(A::UnexpectedMessage))),
        ("a goodbye", tell(ALERT, &[WARNING, 0]), Ok((0, true))),
        ("a warning", tell(ALERT, &[WARNING, 90]), Ok((0, false))),
        ("an error", tell(ALERT, &[FATAL, 48]), Err(None)),
        ("half an alert", tell(ALERT, &[FATAL]), Err(Some(A::DecodeError))),
        ("two alerts", tell(ALERT, &[WARNING, 90, WARNING, 0]), Err(Some(A::DecodeError))),
        ("an empty message", tell(HANDSHAKE, b""), Err(Some(A::UnexpectedMessage))),
        ("half a message", tell(HANDSHAKE, &[KEY_UPDATE, 0, 0]), Ok((0, false))),
        ("a ticket for a server", tell(HANDSHAKE, &[NEW_TICKET, 0, 0, 0]), Err(Some(A::UnexpectedMessage))),
        ("another handshake", tell(HANDSHAKE, &[1, 0, 0, 0]), Err(Some(A::UnexpectedMessage))),
        ("a huge message", tell(HANDSHAKE, &[NEW_TICKET, 1, 0, 1]), Err(Some(A::DecodeError))),
        ("no update", tell(HANDSHAKE, &[KEY_UPDATE, 0, 0, 0]), Err(Some(A::IllegalParameter))),
        ("a wrong update", tell(HANDSHAKE, &[KEY_UPDATE, 0, 0, 1, 2]), Err(Some(A::IllegalParameter))),
        (
            "an update with more behind it",
            tell(HANDSHAKE, &[KEY_UPDATE, 0, 0, 1, 0, KEY_UPDATE]),
            Err(Some(A::UnexpectedMessage)),
        ),
    ];
    for (name, text, fate) in cases {
        let (mut client, mut server) = pair();
        let mut heard = Vec::new();
        let came = opened(&mut server, sealed(&mut client, &text), &mut heard);
        assert_eq!(came.map_err(|fault| fault.alert), fate, "{name}");
    }
}

#[test]
fn heads_that_are_none_are_refused_before_their_record_has_come() {
    use AlertDescription as A;
    let cases = [
        (b"GET /".to_vec(), Some(A::DecodeError)),
        (vec![DATA, 2, 0, 0, 20], Some(A::DecodeError)),
        (vec![DATA, 3, 3, 0x41, 1], Some(A::RecordOverflow)),
        (vec![HANDSHAKE, 3, 3, 0, 20], Some(A::UnexpectedMessage)),
        (vec![ALERT, 3, 3, 0, 2], Some(A::UnexpectedMessage)),
        (vec![CHANGE_CIPHER_SPEC, 3, 3, 0, 1], Some(A::UnexpectedMessage)),
        (vec![DATA, 3, 3, 0, 0], Some(A::BadRecordMac)),
    ];
    for (head, alert) in cases {
        let (_, mut server) = pair();
        assert_eq!(opened(&mut server, head.clone(), &mut Vec::new()).unwrap_err().alert, alert, "{head:?}");
    }
}

#[test]
fn a_message_may_come_in_several_records_with_nothing_between_them() {
    let (mut client, mut server) = pair();
    let mut heard = Vec::new();
    for part in [&[KEY_UPDATE][..], &[0, 0, 1], &[0]] {
        let record = sealed(&mut client, &[part, &[HANDSHAKE]].concat());
        opened(&mut server, record, &mut heard).unwrap();
    }
    assert!(server.message.is_empty() && server.theirs.sequence == 0, "it has new keys");

    let (mut client, mut server) = pair();
    let half = sealed(&mut client, &[KEY_UPDATE, 0, HANDSHAKE]);
    opened(&mut server, half, &mut heard).unwrap();
    let word = said(&mut client, b"hi");
    assert_eq!(opened(&mut server, word, &mut heard).unwrap_err().alert, Some(AlertDescription::UnexpectedMessage));
    assert!(heard.is_empty());
}

#[test]
fn tickets_that_come_late_are_kept_for_the_next_session() {
    let identity = Certs::new(Origin::Memory, Audience::Pool(Alpn::Raw)).unwrap().current();
    let config = certs::client(Trust::ANY, Alpn::Raw).unwrap();
    let (_, _, first) = meet(&config, &identity.config);
    let (_, _, second) = meet(&config, &identity.config);
    assert_eq!((first, second), (HandshakeKind::Full, HandshakeKind::Resumed));
}

#[test]
fn after_a_goodbye_nothing_is_said_and_nothing_counts() {
    let (mut client, mut server) = pair();
    let (mut goodbye, mut heard) = (vec![0; 64], Vec::new());
    let made = client.goodbye(&mut goodbye).unwrap();
    goodbye.truncate(made);
    assert_eq!(client.goodbye(&mut [0; 64]).unwrap(), 0, "once is enough");
    assert!(said(&mut client, b"more").is_empty());
    goodbye.extend_from_slice(b"what follows");
    assert_eq!(opened(&mut server, goodbye, &mut heard).unwrap(), (0, true));
    assert!(heard.is_empty());
    // The other direction lives on.
    opened(&mut client, said(&mut server, b"still here"), &mut heard).unwrap();
    assert_eq!(heard, b"still here");
}

/// A client and a server that have shaken hands.
fn pair() -> (Records, Records) {
    let identity = Certs::new(Origin::Memory, Audience::Pool(Alpn::Raw)).unwrap().current();
    let (client, server, _) = meet(&certs::client(Trust::ANY, Alpn::Raw).unwrap(), &identity.config);
    (client, server)
}

/// With that cipher alone.
fn pair_with(suite: CipherSuite) -> (Records, Records) {
    let der = Certs::new(Origin::Memory, Audience::Pool(Alpn::Raw)).unwrap().current().der;
    let mut provider = (*certs::provider()).clone();
    provider.cipher_suites.retain(|known| known.suite() == suite);
    let builder = ServerConfig::builder_with_provider(provider.into()).with_protocol_versions(&[&TLS13]).unwrap();
    let mut config = builder.with_no_client_auth().with_single_cert(der.chain.clone(), der.key.clone_key()).unwrap();
    config.enable_secret_extraction = true;
    let (client, server, _) = meet(&certs::client(Trust::ANY, Alpn::Raw).unwrap(), &config.into());
    (client, server)
}

/// Shakes hands in memory; whether the server knew the client is said, too.
fn meet(config: &Arc<ClientConfig>, identity: &Arc<ServerConfig>) -> (Records, Records, HandshakeKind) {
    let name = certs::server_name("127.0.0.1").unwrap();
    let mut client = Session::Client(UnbufferedClientConnection::new(config.clone(), name).unwrap());
    let mut server = Session::Server(UnbufferedServerConnection::new(identity.clone()).unwrap());
    let (mut to_client, mut to_server) = (Vec::new(), Vec::new());
    while !client.is_done() || !server.is_done() {
        go_on(&mut client, &mut to_client, &mut to_server);
        go_on(&mut server, &mut to_server, &mut to_client);
    }
    let kind = server.state().handshake_kind().unwrap();
    let (mut client, server) = (Records::after(client).unwrap(), Records::after(server).unwrap());
    // Tickets.
    opened(&mut client, to_client, &mut Vec::new()).unwrap();
    (client, server, kind)
}

fn go_on(one: &mut Session, came: &mut Vec<u8>, said: &mut Vec<u8>) {
    let mut output = SessionOutput::default();
    let (done, result) = one.go_on(came, &mut Turn::at(&mut output));
    result.unwrap();
    came.drain(..done);
    said.extend_from_slice(output.held.bytes());
}

fn said(from: &mut Records, bytes: &[u8]) -> Vec<u8> {
    let mut into = vec![0; bytes.len() + bytes.len().div_ceil(RECORD) * SEAL + 64];
    let Sealed { made, .. } = from.seal(&[IoSlice::new(bytes)], usize::MAX, &mut into).unwrap();
    into.truncate(made);
    into
}

/// The announcement of new keys.
fn renewed(from: &mut Records) -> Vec<u8> {
    let mut update = vec![0; 64];
    let made = from.renew(&mut update).unwrap();
    update.truncate(made);
    update
}

fn said_in_pieces(from: &mut Records, bytes: &[u8], dice: &mut Dice) -> Vec<u8> {
    let (mut all, mut rest) = (Vec::new(), bytes);
    while !rest.is_empty() {
        let mut pieces = Vec::new();
        for _ in 0..3 {
            let (piece, later) = rest.split_at(rest.len().min(dice.below(20_000)));
            pieces.push(IoSlice::new(piece));
            rest = later;
        }
        let mut into = vec![0; 80_000];
        let Sealed { taken, made } = from.seal(&pieces, usize::MAX, &mut into).unwrap();
        assert_eq!(taken, pieces.iter().map(|piece| piece.len()).sum::<usize>());
        all.extend_from_slice(&into[..made]);
    }
    all
}

fn heard_in_pieces(to: &mut Records, bytes: &[u8], dice: &mut Dice) -> Vec<u8> {
    let (mut heard, mut part, mut rest) = (Vec::new(), Vec::new(), bytes);
    while !rest.is_empty() {
        let (now, later) = rest.split_at(rest.len().min(1 + dice.below(50_000)));
        rest = later;
        part.extend_from_slice(now);
        let filled = part.len();
        let (Opened { given, done, ended }, result) = to.open(&mut part, filled);
        assert!(result.is_ok() && !ended);
        heard.extend_from_slice(&part[..given]);
        part.drain(..done);
    }
    assert!(part.is_empty());
    heard
}

/// One record with just this inside, its type at the end.
fn sealed(from: &mut Records, inside: &[u8]) -> Vec<u8> {
    let mut record = [&[0; HEAD][..], inside, &[0; TAG]].concat();
    from.ours.seal(inside[inside.len() - 1], &mut record).unwrap();
    record
}

/// How much was given, and whether that is the end.
fn opened(to: &mut Records, mut bytes: Vec<u8>, heard: &mut Vec<u8>) -> Result<(usize, bool), Fault> {
    let filled = bytes.len();
    let (Opened { given, ended, .. }, result) = to.open(&mut bytes, filled);
    heard.extend_from_slice(&bytes[..given]);
    result.map(|()| (given, ended))
}

fn records_in(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while let Some(length) = length_of(bytes).unwrap() {
        bytes = &bytes[length..];
        count += 1;
    }
    count
}
