//! What must hold whatever the bytes are: one function a target, used by the fuzzer and by the plain test that replays.
//!
//! Beyond the obvious (nothing panics), a stream means the same in whatever pieces it comes, what was read can be written
//! and read again, and nothing is held beyond its limit.

// Each fuzz target is a program of its own and uses one of these.
#![allow(dead_code)]

#[cfg(feature = "master")]
mod front;
#[cfg(feature = "h2")]
mod h2;
#[cfg(feature = "quic")]
mod quic;
mod tls;

use data_encoding::BASE64;
use nodepass::config::{self, Command, Config};
use nodepass::logic::auth::{Agreement, AuthMode, Initiator, Numbers, Psk, Responder, SessionId, SessionKeys};
use nodepass::logic::control::{Codec, Control, Do, Why};
use nodepass::logic::dialect::Wire;
#[cfg(feature = "dns")]
use nodepass::logic::dns::{Family, Question, Reply};
use nodepass::logic::handshake::{judge, parse_answer, HeadProgress, HeadReader, Keys, ServerAnswer, Verdict};
use nodepass::logic::http::MAX_ANSWER;
use nodepass::logic::networks::{entries, Entry, MAX_NETWORKS};
use nodepass::logic::serial::Incoming;
use nodepass::logic::sniff::{self, Blocked, FirstBytes};
use nodepass::logic::terms::{Direction, Terms};
use nodepass::logic::wire::{
    decode, encode, frame_header, next_frame, token_matches, BadLine, Frame, Lines, Signal, MAX_LINE,
};
#[cfg(feature = "master")]
use nodepass::master::gob;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

#[cfg(feature = "master")]
pub use front::front;
#[cfg(feature = "h2")]
pub use h2::h2;
#[cfg(feature = "quic")]
pub use quic::quic;
pub use tls::tls;

const KEY: &[u8] = b"testkey";

/// Arguments, one a line; lines that start with `NP_` are environment variables.
pub fn url(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (variables, arguments): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.starts_with("NP_"));
    let variables: Vec<_> = variables.iter().filter_map(|line| line.split_once('=')).collect();
    let lookup = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_string());
    let arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
    match config::parse(&arguments, &lookup) {
        Err(error) => {
            let told = error.to_string();
            assert!(!told.is_empty() && told.lines().count() == 1, "not one line: {told:?}");
            assert!(matches!(error.status, 1 | 2));
        }
        Ok(parsed) => {
            assert!(parsed.warnings.iter().all(|warning| warning.lines().count() == 1));
            if let Command::Run(config) = parsed.command {
                again(&config.effective_url());
                if config.key_given {
                    hidden(&arguments, &lookup, &config);
                }
            }
        }
    }
}

/// The URL in the log names the same configuration, but for the key.
fn again(effective: &str) {
    match config::parse(&[effective.to_owned()], &|_| None) {
        Ok(config::Parsed { command: Command::Run(config), .. }) => assert_eq!(config.effective_url(), effective),
        Ok(_) => panic!("{effective:?} does not run"),
        Err(error) => panic!("{effective:?} is refused: {error}"),
    }
}

/// The arguments that other users see mean the same, but for the key.
fn hidden(arguments: &[String], lookup: &dyn Fn(&str) -> Option<String>, config: &Config) {
    let shown = config::masked(arguments);
    match config::parse(&shown, lookup) {
        Ok(config::Parsed { command: Command::Run(other), .. }) => {
            assert_eq!(other.key.as_bytes(), b"***", "{shown:?}");
            assert_eq!(Config { key: config.key.clone(), ..*other }, *config);
        }
        other => panic!("{shown:?} does not run: {other:?}"),
    }
}

/// A file with a URL.
pub fn source(data: &[u8]) {
    match config::url_in(data) {
        Ok(url) => {
            assert!(!url.is_empty() && url.trim() == url && !url.contains(char::is_control));
            assert_eq!(config::url_in(format!("# {url}\n\n {url} \n").as_bytes()), Ok(url));
        }
        Err(error) => {
            let told = error.to_string();
            assert!(told.lines().count() == 1 && told.contains("expected"), "{told:?}");
        }
    }
}

/// A list of addresses and ranges.
pub fn networks(data: &[u8]) {
    let Some(list) = entries(&String::from_utf8_lossy(data)) else { return };
    assert!((1..=MAX_NETWORKS).contains(&list.len()));
    let shown: Vec<String> = list.iter().map(Entry::to_string).collect();
    assert_eq!(entries(&shown.join(",")), Some(list), "{shown:?}");
}

/// What a DNS server says to a question: a whole message, or flags, a number of records and the records of one that answers it.
#[cfg(feature = "dns")]
pub fn dns(data: &[u8]) {
    for family in [Family::V6, Family::V4] {
        let question = Question::new("www.example.com", family, 0x1234).expect("a name");
        let read = |message: &[u8]| {
            if let Some(Reply::Addresses { addresses, ttl }) = question.read(message) {
                assert!(addresses.len() <= 32 && ttl <= Duration::from_secs(86_400));
                assert!(addresses.iter().all(|ip| ip.is_ipv4() == (family == Family::V4)));
            }
        };
        read(data);
        if let [flags, more, high, low, records @ ..] = data {
            let mut message = [question.bytes(), records].concat();
            (message[2], message[3], message[6], message[7]) = (flags | 0x80, *more, *high, *low);
            read(&message);
            message.swap(0, 1);
            assert_eq!(question.read(&message), None, "another number");
        }
    }
}

/// What the authenticated handshake and its tunnel read. The first byte says what it is: message 1, message 2, an opening, lines.
pub fn auth(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else { return };
    match kind % 4 {
        0 => {
            if let Some(responder) = Responder::read(&PSK, bytes) {
                assert!(responder.answer(&agreement()).is_ok());
            }
        }
        // Each client's key is its own: what was said to another is nothing to it.
        1 => assert!(Initiator::new(&PSK, &[]).expect("randomness").0.finish(bytes).is_err()),
        2 => {
            let Ok(opening) = bytes.try_into() else { return };
            assert!(!SESSION.accept(&opening, &mut Numbers::default()), "a forged opening");
        }
        _ => {
            let mut control =
                Control::new(Codec::sealed(SESSION.clone()), Duration::from_secs(5), false, Instant::now());
            control.heard(bytes, Instant::now());
            while let Some(thing) = control.poll() {
                assert!(matches!(thing, Do::Send(_) | Do::Over(Why::Forged)), "{thing:?}");
            }
        }
    }
}

/// The key of the exchange in docs/protocol.md.
static PSK: LazyLock<Psk> = LazyLock::new(|| Psk::stretch(KEY));
/// The server's keys of a session.
static SESSION: LazyLock<Arc<SessionKeys>> = LazyLock::new(|| {
    let (_, message) = Initiator::new(&PSK, &[]).expect("randomness");
    let responder = Responder::read(&PSK, &message).expect("message 1");
    Arc::new(responder.answer(&agreement()).expect("message 2").1)
});

fn agreement() -> Agreement {
    let terms = Terms { flow: Direction::Reverse, max: 64, tls: 0, transport: 0, features: Vec::new() };
    Agreement { terms, fp: None, session: SessionId(0x0102_0304) }
}

/// A request at the tunnel's port.
pub fn request(data: &[u8]) {
    let whole = HeadReader::default().feed(data);
    for size in piece_sizes(data) {
        let mut reader = HeadReader::default();
        let came = data.chunks(size).map(|piece| reader.feed(piece)).find(|progress| *progress != HeadProgress::More);
        assert_eq!(came.unwrap_or(HeadProgress::More), whole, "pieces of {size}");
    }
    let HeadProgress::Done(request) = whole else { return };
    let required = Keys { key: KEY, psk: Some(&PSK), mode: AuthMode::Required, wire: Wire::Auto };
    assert!(!matches!(judge(&request, false, required), Verdict::Original { .. }));
    let keys = Keys { key: KEY, psk: None, mode: AuthMode::Off, wire: Wire::Auto };
    if let Verdict::Original { features, .. } = judge(&request, false, keys) {
        assert!(request.method == "GET" && request.path == "/" && features == request.features);
        assert!(request.token.is_some_and(|token| token_matches(KEY, &token)));
    }
}

/// A server's answer.
pub fn answer(data: &[u8]) {
    let so_far = parse_answer(data, false);
    let at_end = parse_answer(data, true);
    assert_ne!(at_end, ServerAnswer::NeedMore);
    assert!(data.len() < MAX_ANSWER || so_far != ServerAnswer::NeedMore);
    assert!(so_far == ServerAnswer::NeedMore || so_far == at_end);
    for size in piece_sizes(data) {
        // What is decided stays so, whatever comes after.
        let early = parse_answer(&data[..size.min(data.len())], false);
        assert!(early == ServerAnswer::NeedMore || early == so_far, "{early:?}, but then {so_far:?}");
    }
    if let ServerAnswer::Terms { terms, knows_auth } = at_end {
        let again = parse_answer(&terms.to_bytes(knows_auth), false);
        assert_eq!(again, ServerAnswer::Terms { terms, knows_auth });
    }
}

/// Control lines: once as they are, once as the JSON that is in them.
pub fn signals(data: &[u8]) {
    lines(data);
    let mut sealed = Vec::new();
    for json in data.split(|&byte| byte == b'\n') {
        let masked: Vec<u8> = json.iter().zip(KEY.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        sealed.extend(BASE64.encode(&masked).into_bytes());
        sealed.push(b'\n');
    }
    lines(&sealed);
}

fn lines(data: &[u8]) {
    let whole = said(data, data.len().max(1));
    for size in piece_sizes(data) {
        assert_eq!(said(data, size), whole, "pieces of {size}");
    }
    for signal in whole.into_iter().flatten() {
        let mut line = Vec::new();
        encode(&signal, KEY, &mut line);
        assert_eq!(said(&line, line.len()), [Ok(signal)]);
    }
}

/// What comes of `data` in pieces of `size` bytes.
fn said(data: &[u8], size: usize) -> Vec<Result<Signal, BadLine>> {
    let (mut lines, mut came) = (Lines::default(), Vec::new());
    for piece in data.chunks(size) {
        lines.feed(piece);
        came.extend(std::iter::from_fn(|| lines.next(|line| decode(line, KEY))));
        assert!(lines.held() <= MAX_LINE);
    }
    came
}

/// Framed datagrams.
pub fn frames(data: &[u8]) {
    let (mut rest, mut framed) = (data, Vec::new());
    while let Frame::Whole(payload) = next_frame(rest) {
        assert_eq!(next_frame(&rest[..payload.end - 1]), Frame::Partial);
        framed.extend(frame_header(payload.len()));
        framed.extend(&rest[payload.clone()]);
        rest = &rest[payload.end..];
    }
    framed.extend(rest);
    assert_eq!(framed, data);
}

/// What comes on a connection that carries one stream after another: the first byte says how it is cut.
pub fn serial(data: &[u8]) {
    let Some((cut, data)) = data.split_first() else { return };
    let heard = |most: usize| {
        let (mut incoming, mut bytes) = (Incoming::default(), Vec::new());
        let mut left = data;
        while !left.is_empty() {
            let mut came = left[..most.min(left.len())].to_vec();
            let Ok(taken) = incoming.take(&mut came) else { return (bytes, None) };
            assert!(0 < taken.used && taken.bytes.end <= taken.used && taken.used <= came.len());
            bytes.extend_from_slice(&came[taken.bytes]);
            left = &left[taken.used..];
        }
        (bytes, Some((incoming.has_ended(), incoming.is_free(), incoming.is_rest(), incoming.told())))
    };
    let (whole, pieces) = (heard(data.len().max(1)), heard(usize::from(*cut) + 1));
    assert!(whole.0.len() <= data.len() && pieces.0.starts_with(&whole.0) && whole.1 == pieces.1);
    // What is taken in one piece is lost as a whole where a rule is broken behind it.
    assert!(whole.1.is_none() || whole.0 == pieces.0);
}

/// First bytes, at the tunnel's port and at the users'.
pub fn sniff(data: &[u8]) {
    // The line of an original of 1.12 or older is as long as its key.
    let line = data.iter().take_while(|byte| b"A=".contains(byte)).count();
    settles(data, FirstBytes::NeedMore, EARLY.max(line + 1), sniff::first_bytes);
    for chosen in 0..8 {
        let block = Blocked { socks: chosen & 1 != 0, http: chosen & 2 != 0, tls: chosen & 4 != 0 };
        settles(data, sniff::BlockVerdict::NeedMore, EARLY, |first| sniff::user(first, block));
        let refused = matches!(sniff::user(data, block), sniff::BlockVerdict::Refuse(_));
        let none = Blocked::default();
        let alone = [Blocked { socks: block.socks, ..none }, Blocked { http: block.http, ..none }];
        let mut alone = alone.into_iter().chain([Blocked { tls: block.tls, ..none }]);
        assert_eq!(refused, alone.any(|one| matches!(sniff::user(data, one), sniff::BlockVerdict::Refuse(_))));
    }
}

/// Bytes after which a protocol is known.
const EARLY: usize = 8;

/// The answer to the first bytes is settled after so few of them, and never changes then.
fn settles<T: PartialEq + std::fmt::Debug>(data: &[u8], open: T, after: usize, ask: impl Fn(&[u8]) -> T) {
    let whole = ask(data);
    let settled = (0..=data.len().min(after)).map(|length| ask(&data[..length])).find(|answer| *answer != open);
    assert_eq!(settled.unwrap_or(open), whole);
}

/// Sizes to cut `data` into, some of them depending on it.
fn piece_sizes(data: &[u8]) -> [usize; 3] {
    let chosen = data.iter().fold(0, |sum: usize, byte| sum.wrapping_mul(31).wrapping_add(usize::from(*byte)));
    [7, data.len() / 2 + 1, chosen % (data.len() + 1) + 1]
}

/// A master's state file.
#[cfg(feature = "master")]
pub fn state(data: &[u8]) {
    match gob::decode(data) {
        Ok(records) => {
            assert!(records.iter().all(|(id, record)| *id == record.id));
            assert_eq!(gob::decode(&gob::encode(&records)), Ok(records));
        }
        Err(fault) => assert_eq!(fault.to_string().lines().count(), 1),
    }
}
