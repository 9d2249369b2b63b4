use std::time::{Duration, Instant};

use super::*;
use crate::logic::control::{Codec, Control, Do, Why};
use crate::logic::terms::{Direction, Terms};
use crate::logic::wire::{Fingerprint, Id};
use std::sync::Arc;

const REPORT: Duration = Duration::from_secs(5);

fn agreement() -> Agreement {
    let features = vec![Feature::UdpFrame, Feature::Taken];
    let terms = Terms { flow: Direction::Reverse, max: 64, tls: 1, transport: 0, features };
    Agreement { terms, fp: Some(Fingerprint::of(b"leaf")), session: SessionId(0x0102_0304) }
}

/// Both ends after a handshake: the client's, the server's.
fn pair() -> (SessionKeys, SessionKeys) {
    let psk = Psk::stretch(b"testkey");
    let (initiator, one) = Initiator::new(&psk, &["udp-frame", "new"]).unwrap();
    let responder = Responder::read(&psk, &one).unwrap();
    assert_eq!(responder.features, [Feature::UdpFrame]);
    let (two, server) = responder.answer(&agreement()).unwrap();
    let (read, client) = initiator.finish(&two).unwrap();
    assert_eq!(read, agreement());
    (client, server)
}

#[test]
fn a_handshake_gives_both_sides_the_agreement_and_keys_for_each_direction() {
    let (client, server) = pair();
    for (from, to) in [(&client, &server), (&server, &client)] {
        for number in 0..3 {
            let (given, sealed) = from.seal(b"text");
            assert_eq!(given, number);
            assert_eq!(to.open(number, &sealed).as_deref(), Some(&b"text"[..]));
            assert_eq!(to.open(number + 1, &sealed), None, "another number");
            assert_eq!(from.open(number, &sealed), None, "back to its sender");
        }
    }
}

#[test]
fn another_key_gets_no_answer_and_a_changed_message_no_keys() {
    let (psk, other) = (Psk::stretch(b"testkey"), Psk::stretch(b"testkez"));
    let (initiator, one) = Initiator::new(&psk, &[]).unwrap();
    assert!(Responder::read(&other, &one).is_none());
    for at in 0..one.len() {
        let mut changed = one.clone();
        changed[at] ^= 1;
        assert!(Responder::read(&psk, &changed).is_none(), "byte {at} of message 1");
        assert!(Responder::read(&psk, &one[..at]).is_none(), "{at} bytes of message 1");
    }
    let (mut two, _) = Responder::read(&psk, &one).unwrap().answer(&agreement()).unwrap();
    let last = two.len() - 1;
    two[last] ^= 1;
    assert!(initiator.finish(&two).is_err());
}

#[test]
fn who_repeats_a_recorded_message_cannot_open_anything() {
    let psk = Psk::stretch(b"testkey");
    let (_, recorded) = Initiator::new(&psk, &[]).unwrap();
    let (_, first) = Responder::read(&psk, &recorded).unwrap().answer(&agreement()).unwrap();
    let (_, second) = Responder::read(&psk, &recorded).unwrap().answer(&agreement()).unwrap();
    let (client, _) = pair();
    let opening = client.opening(SessionId(7));
    assert!(!first.accept(&opening, &mut Numbers::default()) && !second.accept(&opening, &mut Numbers::default()));
}

#[test]
fn an_opening_counts_once_and_only_as_it_was_made() {
    let (client, server) = pair();
    let mut used = Numbers::default();
    let openings: Vec<Opening> = (0..4).map(|_| client.opening(SessionId(0x0102_0304))).collect();
    for at in [2, 0, 3, 1] {
        assert_eq!(session_of(&openings[at]), SessionId(0x0102_0304));
        for byte in 5..OPENING {
            let mut changed = openings[at];
            changed[byte] ^= 0x80;
            assert!(!server.accept(&changed, &mut used), "byte {byte}");
        }
        assert!(server.accept(&openings[at], &mut used));
        assert!(!server.accept(&openings[at], &mut used), "twice");
    }
    // What the server says opens nothing at the server.
    assert!(!server.accept(&server.opening(SessionId(0)), &mut used));
}

#[test]
fn signals_under_the_session_s_key_arrive_and_a_line_that_is_changed_repeated_or_left_over_ends_the_tunnel() {
    let now = Instant::now();
    let ends = || {
        let (client, server) = pair();
        let end = |keys| Control::new(Codec::sealed(Arc::new(keys)), REPORT, false, now);
        (end(client), end(server))
    };
    let said = |control: &mut Control| match control.poll() {
        Some(Do::Send(bytes)) => bytes,
        other => panic!("{other:?}"),
    };
    let (mut a, mut b) = ends();
    a.launch(false, "[::1]:9".into(), Id([1, 2, 3, 4]));
    a.cert(Fingerprint::of(b"new"));
    let bytes = said(&mut a);
    said(&mut b);
    b.heard(&bytes, now);
    assert!(matches!(b.poll(), Some(Do::Send(_))), "a pong");
    assert_eq!(b.poll(), Some(Do::Launch { udp: false, remote: "[::1]:9".into(), id: Id([1, 2, 3, 4]) }));
    assert_eq!(b.poll(), Some(Do::Cert(Fingerprint::of(b"new"))));
    b.heard(&bytes, now);
    assert_eq!(b.poll(), Some(Do::Over(Why::Forged)), "repeated");

    for forged in [&b"!!!\n"[..], b"AAAA\n", b"\n", b"D0cSFx8MFhpHSVYbDBcTRw4=\n"] {
        let (mut a, _) = ends();
        said(&mut a);
        a.heard(forged, now);
        assert_eq!(a.poll(), Some(Do::Over(Why::Forged)), "{forged:?}");
    }
    let (mut a, mut b) = ends();
    let mut changed = said(&mut a);
    said(&mut b);
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    b.heard(&changed, now);
    assert_eq!(b.poll(), Some(Do::Over(Why::Forged)), "changed");
}

#[test]
fn an_agreement_that_makes_no_sense_is_refused() {
    let good = agreement().to_json();
    assert_eq!(Agreement::parse(good.as_bytes()), Ok(agreement()));
    for (was, is) in [
        ("\"fp\":\"sha256", "\"fp\":\"sha1"),
        ("01020304", "0102030"),
        ("01020304", "+1020304"),
        ("\"session\"", "\"x\""),
    ] {
        let bad = good.replace(was, is);
        assert!(bad != good && Agreement::parse(bad.as_bytes()).is_err(), "{bad}");
    }
    let bare = Agreement { fp: None, ..agreement() };
    assert_eq!(Agreement::parse(bare.to_json().as_bytes()), Ok(bare));
}

#[test]
fn the_stretched_key_is_pbkdf2_as_the_protocol_says() {
    // Python: hashlib.pbkdf2_hmac("sha256", b"testkey", b"nodepass auth 1", 65536).hex()
    assert_eq!(
        data_encoding::HEXLOWER.encode(&Psk::stretch(b"testkey").0),
        "53bde7065be1d5c616494de01c4f72f9a675b7b03a18ebe1eeb65e1af1d398c4"
    );
}

/// The vector for this pattern that snow and others publish (cacophony): the first two messages and those after them.
#[test]
fn the_published_vector_of_the_pattern_passes() {
    let hex = |text: &str| data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap();
    let psk: [u8; 32] = hex("54686973206973206d7920417573747269616e20706572737065637469766521").try_into().unwrap();
    let prologue = hex("4a6f686e2047616c74");
    let params: NoiseParams = PATTERN.parse().unwrap();
    let builder = || {
        Builder::with_resolver(params.clone(), Box::new(Primitives::default()))
            .psk(0, &psk)
            .unwrap()
            .prologue(&prologue)
            .unwrap()
    };
    let e = hex("893e28b9dc6ca8d611ab664754b8ceb7bac5117349a4439a6b0569da977c464a");
    let e2 = hex("bbdb4cdbd309f1a1f2e1456967fe288cadd6f712d65dc7b7793d5e63da6b375b");
    let mut initiator = builder().fixed_ephemeral_key_for_testing_only(&e).build_initiator().unwrap();
    let mut responder = builder().fixed_ephemeral_key_for_testing_only(&e2).build_responder().unwrap();
    let messages = VECTOR;
    for (at, (payload, ciphertext)) in messages[..2].iter().enumerate() {
        let (from, to) = if at == 0 { (&mut initiator, &mut responder) } else { (&mut responder, &mut initiator) };
        let message = write(from, &hex(payload)).unwrap();
        assert_eq!(data_encoding::HEXLOWER.encode(&message), *ciphertext, "message {at}");
        assert_eq!(read(to, &message).unwrap(), hex(payload));
    }
    let (client, server) = (SessionKeys::of(initiator).unwrap(), SessionKeys::of(responder).unwrap());
    for (at, (payload, ciphertext)) in messages[2..].iter().enumerate() {
        let (from, to) = if at % 2 == 0 { (&client, &server) } else { (&server, &client) };
        let (number, sealed) = from.seal(&hex(payload));
        assert_eq!(data_encoding::HEXLOWER.encode(&sealed), *ciphertext, "transport message {at}");
        assert_eq!(to.open(number, &sealed), Some(hex(payload)));
    }
}

/// docs/protocol.md shows one exchange with its keys, so that others can test theirs.
#[test]
fn the_exchange_of_the_documentation_is_what_this_program_says() {
    let psk = Psk::stretch(b"testkey");
    let initiator = psk.builder().unwrap().fixed_ephemeral_key_for_testing_only(&[0x11; 32]).build_initiator().unwrap();
    let responder = psk.builder().unwrap().fixed_ephemeral_key_for_testing_only(&[0x22; 32]).build_responder().unwrap();
    let (initiator, one) = Initiator::begin(initiator, r#"{"features":["udp-frame"],"version":"1.15.0"}"#).unwrap();
    let (two, server) = Responder::begin(responder, &one).unwrap().answer(&agreement()).unwrap();
    let (_, client) = initiator.finish(&two).unwrap();
    let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
    let line = |keys: &SessionKeys, text: &str| {
        let (number, sealed) = keys.seal(text.as_bytes());
        data_encoding::BASE64.encode(&[&number.to_be_bytes()[..], &sealed].concat())
    };
    let said = [
        hex(&psk.0),
        data_encoding::BASE64.encode(&one),
        agreement().to_json(),
        data_encoding::BASE64.encode(&two),
        hex(&client.opening(SessionId(0x0102_0304))),
        line(&client, r#"{"action":"ping"}"#),
        line(&server, r#"{"action":"ping"}"#),
    ];
    let documentation = include_str!("../../../docs/protocol.md");
    for text in said {
        assert!(documentation.contains(&text), "{text}");
    }
}

/// Payloads and messages of the vector.
const VECTOR: [(&str, &str); 6] = [
    ("4c756477696720766f6e204d69736573", "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c794479b962b8aff8485742ac32f905ba45369e2465fb59e138a93d67a0d1266b6a54"),
    ("4d757272617920526f746862617264", "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f144808843d6062704d5a9c422a8e834423f8c1feada7e8d0d910a1a2cd030fb584221e3"),
    ("462e20412e20486179656b", "e632c3763d7669067383433197a3baddf146e9e70ad4b4e9e59e0f"),
    ("4361726c204d656e676572", "64c6bee32ea91c8474bb4c21d7a700109ad45af77b29764ba5eb1e"),
    ("4a65616e2d426170746973746520536179", "e2fa0bed0603b62d3ccac2ecabbf3fe33f3e86514909b323361626266cb2471cc8"),
    ("457567656e2042f6686d20766f6e2042617765726b", "0c01dc9cec1fe4ddd692e8dd32188aa351088dc91183639a53b57aa4692b5ebdef8b8ca111"),
];
