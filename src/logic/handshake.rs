//! The handshake: one HTTP/1.1 request, one answer with the tunnel's terms; the original's with a token, or the authenticated one
//! (see [`auth`](super::auth)), whose messages travel in the same two places.
//!
//! ```text
//!  client                                       server
//!  Offer --bytes--------------------------->  HeadReader --Request--> judge --> Original | Authenticated | Refused
//!  parse_answer <--bytes-------------------  terms or message 2 (200)  or  ErrorStatus (401, 404, 405)
//! ```
//!
//! Both readers are bounded, and whatever they cannot use they leave out rather than refuse: peers may say more.

use std::borrow::Cow;
use std::fmt;

use serde_json::Value;

use super::auth::{AuthMode, Psk, Responder, MAX_MESSAGE};
use super::dialect::{Dialect, Wire};
use super::encoding;
use super::guard::Failure;
use super::http::{body, end_of_head, response, status, ErrorStatus, Head, Part, MAX_ANSWER, MAX_HEAD};
use super::program::Program;
use super::terms::{Feature, Terms};
use super::upgrade::{self, UpgradeFault, WebSocketKey};
use super::wire::{token, token_matches};

// ---- the client's request -------------------------------------------------------------------------------------------

/// What a client says to be let in.
#[derive(Clone, Copy)]
pub struct Offer<'a> {
    /// For the `Host` header: `sni`, else the tunnel host's name, else `none`. A host name, without line breaks.
    pub host: &'a str,
    /// What proves that the client knows the key.
    pub proof: Proof<'a>,
}

/// What proves that a client knows the key.
#[derive(Clone, Copy)]
pub enum Proof<'a> {
    /// The original's token of this key, and the names of the features that the client knows.
    Token(&'a [u8], &'a [&'a str]),
    /// Message 1 of the authenticated handshake.
    Message(&'a [u8]),
}

impl Offer<'_> {
    /// The request, whole.
    pub fn to_bytes(&self) -> Vec<u8> {
        let proof = match self.proof {
            Proof::Token(key, []) => format!("Authorization: Bearer {}\r\n", token(key)),
            Proof::Token(key, names) => {
                format!("Authorization: Bearer {}\r\nNodePass-Features: {}\r\n", token(key), names.join(","))
            }
            Proof::Message(message) => format!("{AUTH}: {VERSION} {}\r\n", encoding::base64(message)),
        };
        let agent = concat!("nodepass/", env!("CARGO_PKG_VERSION"));
        let host = self.host;
        format!("GET / HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {agent}\r\n{proof}Connection: close\r\n\r\n")
            .into_bytes()
    }
}

/// What a client asks for: the head of its request, as far as it matters here.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// The method, as it was sent.
    pub method: String,
    /// The path, without a query.
    pub path: String,
    /// The bearer token; `None` if there is none, or more than one `Authorization`.
    pub token: Option<String>,
    /// Message 1 of the authenticated handshake, if it is that; empty if it cannot be read.
    pub auth: Option<Vec<u8>>,
    /// The features that the client knows and that are known here.
    pub features: Vec<Feature>,
    /// Whether it asks for a WebSocket, and whether it does so properly.
    pub upgrade: Option<Result<WebSocketKey, UpgradeFault>>,
}

/// The token is a secret: it is not shown.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?}, token: {}, {:?}", self.method, self.path, self.token.is_some(), self.features)
    }
}

/// Collects the head of a request. What follows the head is not looked at.
#[derive(Default)]
pub struct HeadReader {
    head: Vec<u8>,
}

/// How far a [`HeadReader`] has come.
#[derive(Debug, PartialEq, Eq)]
pub enum HeadProgress {
    /// The head's end is still to come.
    More,
    /// This is what it asks for.
    Done(Request),
    /// Not HTTP/1, or more than [`MAX_HEAD`] bytes. There is no answer to that.
    Bad,
}

impl HeadReader {
    /// Takes in what came. After anything but [`HeadProgress::More`] there is no use in going on.
    pub fn feed(&mut self, bytes: &[u8]) -> HeadProgress {
        let old = self.head.len();
        let room = MAX_HEAD - old;
        self.head.extend_from_slice(&bytes[..bytes.len().min(room)]);
        // An empty line may have begun among the last three bytes that were there.
        match end_of_head(&self.head, old.saturating_sub(3)) {
            Some(end) => match Request::parse(&self.head[..end]) {
                Some(request) => HeadProgress::Done(request),
                None => HeadProgress::Bad,
            },
            None if bytes.len() >= room => HeadProgress::Bad,
            None => HeadProgress::More,
        }
    }
}

impl Request {
    fn parse(head: &[u8]) -> Option<Request> {
        let text = String::from_utf8_lossy(head);
        let head = Head::parse(&text)?;
        let mut words = head.first.split(' ');
        let (method, target, version) = (words.next()?, words.next()?, words.next()?);
        if method.is_empty() || target.is_empty() || !version.starts_with("HTTP/1.") || words.next().is_some() {
            return None;
        }
        let mut authorizations = head.all("Authorization");
        let token = match (authorizations.next(), authorizations.next()) {
            (Some(only), None) => bearer(only).map(str::to_owned),
            _ => None,
        };
        let features = Feature::named(head.all("NodePass-Features").flat_map(|list| list.split(',')).map(str::trim));
        let auth = head.all(AUTH).next().map(|value| message_1(value).unwrap_or_default());
        let path = target.split('?').next().unwrap_or(target);
        let upgrade = upgrade::wanted(&head);
        Some(Request { method: method.to_owned(), path: path.to_owned(), token, auth, features, upgrade })
    }
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("Bearer").then(|| token.trim())
}

/// Message 1 in the value of its header: a version, and the message in base64.
fn message_1(value: &str) -> Option<Vec<u8>> {
    let (version, message) = value.split_once(' ')?;
    let message = message.trim();
    (version == VERSION && message.len() <= MAX_MESSAGE).then(|| encoding::from_base64(message.as_bytes())).flatten()
}

// ---- the server's answer --------------------------------------------------------------------------------------------

/// What the server makes of a request.
pub enum Verdict {
    /// The client knows the key, as an original shows it.
    Original {
        /// The features of the client that are known here.
        features: Vec<Feature>,
        /// Its generation, as far as the handshake tells.
        dialect: Dialect,
    },
    /// The client's first message is under the key. It may be a recorded one.
    Authenticated(Box<Responder>),
    /// The request is refused; what it got wrong, if it tried to get in.
    Refused(ErrorStatus, Option<Failure>),
}

/// What the server lets clients in by.
#[derive(Clone, Copy)]
pub struct Keys<'a> {
    /// The tunnel key.
    pub key: &'a [u8],
    /// The same, stretched; `None` where `auth=0`.
    pub psk: Option<&'a Psk>,
    /// The parameter `auth`.
    pub mode: AuthMode,
    /// The parameter `wire`.
    pub wire: Wire,
}

/// Judges a request, which came inside TLS or not: first its method, then its path, then its proof. A token is compared in constant time.
pub fn judge(request: &Request, tls: bool, keys: Keys<'_>) -> Verdict {
    let dialect = keys.wire.agreed(tls, !request.features.is_empty());
    match (request, keys.psk) {
        (Request { method, .. }, _) if method != "GET" => {
            Verdict::Refused(ErrorStatus::MethodNotAllowed, Some(Failure::Http))
        }
        (Request { path, .. }, _) if path != "/" => Verdict::Refused(ErrorStatus::NotFound, Some(Failure::Http)),
        (Request { auth: Some(message), .. }, Some(psk)) => match Responder::read(psk, message) {
            Some(responder) => Verdict::Authenticated(Box::new(responder)),
            None => Verdict::Refused(ErrorStatus::KeysDiffer, Some(Failure::Key)),
        },
        (Request { token: Some(token), features, .. }, _)
            if keys.mode != AuthMode::Required && token_matches(keys.key, token) =>
        {
            match dialect {
                Some(dialect) => Verdict::Original { features: features.clone(), dialect },
                None => Verdict::Refused(ErrorStatus::Unauthorized, Some(Failure::Generation)),
            }
        }
        // Whether its key is the right one does not matter here.
        (Request { token: Some(_), .. }, _) if keys.mode == AuthMode::Required => {
            Verdict::Refused(ErrorStatus::KeysDiffer, Some(Failure::Unauthenticated))
        }
        (Request { token: Some(_), .. }, _) => Verdict::Refused(ErrorStatus::Unauthorized, Some(Failure::Key)),
        (Request { auth: Some(_), .. }, None) => Verdict::Refused(ErrorStatus::Unauthorized, None),
        (Request { auth: None, .. }, _) => Verdict::Refused(ErrorStatus::Unauthorized, Some(Failure::Http)),
    }
}

/// The answer to an authenticated handshake, whole.
pub fn sealed_answer(message: &[u8]) -> Vec<u8> {
    response("200 OK\r\n", "application/json", &format!("{{\"auth\":\"{}\"}}", encoding::base64(message)))
}

// ---- the client reads it --------------------------------------------------------------------------------------------

/// What the bytes of an answer come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerAnswer {
    /// Its end is still to come.
    NeedMore,
    /// The client is in, in the original's manner. `knows_auth`: the server knows the authenticated handshake as well.
    Terms {
        /// The tunnel's terms.
        terms: Terms,
        /// Whether to ask again, with the authenticated handshake.
        knows_auth: bool,
    },
    /// Message 2 of the authenticated handshake.
    Sealed(Vec<u8>),
    /// Another status than 200.
    Refused {
        /// The status.
        status: u16,
        /// The first words of the text that came with it: text from the network, not yet fit for a log.
        text: String,
        /// The server says that it knows the authenticated handshake.
        knows_auth: bool,
        /// Who says so, where that is no NodePass.
        by: Option<Program>,
    },
    /// Something that no NodePass says.
    Foreign(Program),
    /// Nothing that can be used. It is worth another try, later.
    Bad(&'static str),
}

/// Reads an answer from all bytes that came so far; `ended` says that no more will.
///
/// The body's end is told by `Content-Length`, by chunks, or by the end of the stream. Never `NeedMore` once ended, nor
/// from [`MAX_ANSWER`] bytes on, and no byte past them is looked at; so asking again with every piece costs little.
pub fn parse_answer(bytes: &[u8], ended: bool) -> ServerAnswer {
    let bytes = &bytes[..bytes.len().min(MAX_ANSWER)];
    let full = bytes.len() == MAX_ANSWER;
    let ended = ended || full;
    if !ended && !bytes.is_empty() && Program::needs_more(bytes) {
        return ServerAnswer::NeedMore;
    }
    match take_answer(bytes, ended) {
        Ok(Some(Answer { status: 200, body, knows_auth })) => match (message_2(&body), Terms::parse(&body)) {
            (Some(message), _) => ServerAnswer::Sealed(message),
            (None, Ok(terms)) => ServerAnswer::Terms { terms, knows_auth },
            (None, Err(why)) if body.starts_with(b"{") => ServerAnswer::Bad(why),
            (None, Err(_)) => ServerAnswer::Foreign(Program::of(bytes)),
        },
        Ok(Some(Answer { status, body, knows_auth })) => {
            let text = String::from_utf8_lossy(&body[..body.len().min(MAX_REASON)]);
            let text = text.lines().next().unwrap_or_default().trim().to_owned();
            ServerAnswer::Refused { status, text, knows_auth, by: Program::foreign(bytes) }
        }
        Ok(None) if ended && bytes.is_empty() => ServerAnswer::Bad(NO_ANSWER),
        Ok(None) if full => ServerAnswer::Bad("the server's answer is too long"),
        Ok(None) if ended => ServerAnswer::Bad("the server's answer is cut short"),
        Ok(None) => ServerAnswer::NeedMore,
        Err(why) => {
            // What is decided stays so: bytes behind the head may be more the next time.
            let head = &bytes[..bytes.len().min(MAX_HEAD)];
            let head = &head[..end_of_head(head, 0).unwrap_or(head.len())];
            Program::foreign(head).map_or(ServerAnswer::Bad(why), ServerAnswer::Foreign)
        }
    }
}

/// An answer, whole.
struct Answer<'a> {
    status: u16,
    body: Cow<'a, [u8]>,
    /// Whether it has the header of the authenticated handshake.
    knows_auth: bool,
}

/// Message 2 in the body of an answer.
fn message_2(body: &[u8]) -> Option<Vec<u8>> {
    let fields: Value = serde_json::from_slice(body).ok()?;
    encoding::from_base64(fields.get("auth")?.as_str()?.as_bytes())
}

/// Status, body and what the head says besides, once all is there.
fn take_answer(bytes: &[u8], ended: bool) -> Part<Answer<'_>> {
    if !bytes.iter().zip(b"HTTP/1.").all(|(is, should)| is == should) {
        return Err("no HTTP answer: the server may be in its pool phase; try again");
    }
    let Some(end) = end_of_head(&bytes[..bytes.len().min(MAX_HEAD)], 0) else {
        return if bytes.len() < MAX_HEAD { Ok(None) } else { Err("the head of the server's answer is too long") };
    };
    let text = String::from_utf8_lossy(&bytes[..end]);
    let head = Head::parse(&text).ok_or("the head of the server's answer is malformed")?;
    let status = status(head.first).ok_or("the status of the server's answer is malformed")?;
    let whole = body(&head, &bytes[end..], ended)?;
    // A refusal is as clear without its last words.
    let whole = whole.or_else(|| (ended && status != 200).then_some(Cow::Borrowed(&bytes[end..])));
    let knows_auth = head.all(AUTH).next().is_some();
    Ok(whole.map(|body| Answer { status, body, knows_auth }))
}

/// The header of the authenticated handshake.
const AUTH: &str = "NodePass-Auth";
/// The version of it that is spoken here.
const VERSION: &str = "1";
/// What is said of a server that answers nothing.
const NO_ANSWER: &str = "the server closed without an answer, as NodePass 1.12 and older does; wire=1.12 (or 1.10, 1.8, 1.7, 1.6) speaks with that, \
     and gives the key away to each server that answers: update it rather";
/// Bytes of a refusal's text that are kept.
const MAX_REASON: usize = 200;

#[cfg(test)]
mod tests {
    use super::super::terms::{Direction, MAX_POOL};
    use super::*;

    const KEY: &[u8] = b"testkey";
    const TOKEN: &str = "4f664264c65c12b2b3499b3ba29c6e4c77b80e4af6671a7729dc42a9c8c82247";
    /// What an original client sends.
    const RECORDED_REQUEST: &str = "GET / HTTP/1.1\r\nHost: none\r\nUser-Agent: Go-http-client/1.1\r\nAuthorization: \
        Bearer 4f664264c65c12b2b3499b3ba29c6e4c77b80e4af6671a7729dc42a9c8c82247\r\nAccept-Encoding: gzip\r\n\r\n";
    /// What an original server answers.
    const RECORDED_ANSWER: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/json\r\n\
        Date: Sat, 21 Nov 2026 02:06:00 GMT\r\nContent-Length: 45\r\n\r\n\
        {\"flow\":\"-\",\"max\":1024,\"tls\":\"0\",\"type\":\"0\"}\n";

    fn plain() -> Terms {
        Terms { flow: Direction::Reverse, max: 1024, tls: 0, transport: 0, features: vec![] }
    }

    fn full() -> Terms {
        Terms { flow: Direction::Forward, max: 7, tls: 2, transport: 3, features: Feature::ALL.to_vec() }
    }

    fn read(bytes: &[u8]) -> HeadProgress {
        HeadReader::default().feed(bytes)
    }

    /// The request whose lines these are.
    fn request(lines: &[&str]) -> Request {
        match read(format!("{}\r\n\r\n", lines.join("\r\n")).as_bytes()) {
            HeadProgress::Done(request) => request,
            other => panic!("{lines:?}: {other:?}"),
        }
    }

    fn keys(mode: AuthMode) -> Keys<'static> {
        Keys { key: KEY, psk: None, mode, wire: Wire::Auto }
    }

    /// What an original's server makes of it: the features, or the refusal.
    fn judged(request: &Request, keys: Keys<'_>) -> Result<Vec<Feature>, ErrorStatus> {
        match judge(request, false, keys) {
            Verdict::Original { features, .. } => Ok(features),
            Verdict::Refused(status, _) => Err(status),
            Verdict::Authenticated(_) => panic!("authenticated without a message"),
        }
    }

    fn verdict(lines: &[&str]) -> Result<Vec<Feature>, ErrorStatus> {
        judged(&request(lines), keys(AuthMode::Preferred))
    }

    fn terms(terms: Terms) -> ServerAnswer {
        ServerAnswer::Terms { terms, knows_auth: false }
    }

    fn refused(status: u16, text: &str) -> ServerAnswer {
        ServerAnswer::Refused { status, text: text.into(), knows_auth: false, by: None }
    }

    fn answer(head: &str, body: &str) -> ServerAnswer {
        parse_answer(format!("HTTP/1.1 {head}\r\n\r\n{body}").as_bytes(), true)
    }

    const BODY: &str = r#"{"flow":"-","max":1024,"tls":"0","type":"0"}"#;

    #[test]
    fn an_offer_is_one_plain_request_and_its_server_understands_it() {
        let offer = Offer { host: "example.org", proof: Proof::Token(KEY, &["udp-frame", "taken"]) };
        let bytes = offer.to_bytes();
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            String::from_utf8(bytes.clone()).unwrap(),
            format!(
                "GET / HTTP/1.1\r\nHost: example.org\r\nUser-Agent: nodepass/{version}\r\nAuthorization: Bearer {TOKEN}\r\n\
                 NodePass-Features: udp-frame,taken\r\nConnection: close\r\n\r\n"
            )
        );
        let HeadProgress::Done(request) = read(&bytes) else { panic!("not read") };
        assert_eq!(judged(&request, keys(AuthMode::Off)), Ok(vec![Feature::UdpFrame, Feature::Taken]));
        let other = Keys { key: b"other", ..keys(AuthMode::Off) };
        assert_eq!(judged(&request, other), Err(ErrorStatus::Unauthorized));
        assert_eq!(judged(&request, keys(AuthMode::Required)), Err(ErrorStatus::KeysDiffer));
    }

    #[test]
    fn an_offer_without_features_is_the_plain_wire() {
        let bytes = Offer { host: "none", proof: Proof::Token(KEY, &[]) }.to_bytes();
        assert!(!String::from_utf8(bytes).unwrap().contains("Features"));
    }

    #[test]
    fn an_original_client_is_let_in() {
        let HeadProgress::Done(request) = read(RECORDED_REQUEST.as_bytes()) else { panic!("not read") };
        assert_eq!(judged(&request, keys(AuthMode::Preferred)), Ok(vec![]));
    }

    #[test]
    fn a_request_may_come_in_any_pieces_and_end_its_lines_in_bare_newlines() {
        let bare = RECORDED_REQUEST.replace("\r\n", "\n");
        for whole in [RECORDED_REQUEST.as_bytes(), bare.as_bytes()] {
            for size in 1..whole.len() {
                let mut reader = HeadReader::default();
                let mut pieces = whole.chunks(size);
                let last = pieces.next_back().unwrap();
                for piece in pieces {
                    assert_eq!(reader.feed(piece), HeadProgress::More, "pieces of {size}");
                }
                assert!(matches!(reader.feed(last), HeadProgress::Done(_)), "pieces of {size}");
            }
        }
    }

    #[test]
    fn method_path_and_token_are_judged_in_that_order() {
        let good = &format!("Authorization: Bearer {TOKEN}");
        let (bare, wrong) = (good.replace("Bearer ", ""), good.replace("4f", "5f"));
        let refused = [
            (vec!["POST /other HTTP/1.1"], ErrorStatus::MethodNotAllowed),
            (vec!["POST / HTTP/1.1", good], ErrorStatus::MethodNotAllowed),
            (vec!["get / HTTP/1.1", good], ErrorStatus::MethodNotAllowed),
            (vec!["GET /other HTTP/1.1"], ErrorStatus::NotFound),
            (vec!["GET /other HTTP/1.1", good], ErrorStatus::NotFound),
            (vec!["GET / HTTP/1.1"], ErrorStatus::Unauthorized),
            (vec!["GET / HTTP/1.1", "Authorization: Bearer"], ErrorStatus::Unauthorized),
            (vec!["GET / HTTP/1.1", "Authorization: Basic dGVzdGtleQ=="], ErrorStatus::Unauthorized),
            (vec!["GET / HTTP/1.1", good, good], ErrorStatus::Unauthorized),
            (vec!["GET / HTTP/1.1", &bare], ErrorStatus::Unauthorized),
            (vec!["GET / HTTP/1.1", &wrong], ErrorStatus::Unauthorized),
            (vec!["GET / HTTP/1.1", &good[..good.len() - 2]], ErrorStatus::Unauthorized),
        ];
        for (lines, status) in refused {
            assert_eq!(verdict(&lines), Err(status), "{lines:?}");
        }
        assert_eq!(verdict(&["GET / HTTP/1.1", good]), Ok(vec![]));
        let shouted = format!("AUTHORIZATION: BEARER {TOKEN}");
        assert_eq!(verdict(&["GET /?x=1 HTTP/1.0", &shouted]), Ok(vec![]));
    }

    #[test]
    fn unknown_features_are_passed_over_and_the_order_is_always_the_same() {
        let features = |list: &[&str]| {
            let mut lines = vec!["GET / HTTP/1.1"];
            lines.extend(list);
            request(&lines).features
        };
        assert_eq!(features(&["nodepass-features: taken , new,,udp-frame,taken"]), [Feature::UdpFrame, Feature::Taken]);
        assert_eq!(
            features(&["NodePass-Features: taken", "NodePass-Features: ws-eof"]),
            [Feature::WsEof, Feature::Taken]
        );
        assert_eq!(features(&["NodePass-Features: UDP-FRAME"]), []);
        let (local, remote) = ([Feature::Taken, Feature::UdpFrame], Feature::ALL);
        assert_eq!(Feature::common(&local, &remote), [Feature::UdpFrame, Feature::Taken]);
        assert_eq!(Feature::common(&local, &[Feature::WsEof]), []);
    }

    #[test]
    fn a_head_that_is_not_http_is_bad() {
        for bad in [
            "\r\n\r\n",
            "GET /\r\n\r\n",
            "GET / HTTP/2.0\r\n\r\n",
            "GET  / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1 x\r\n\r\n",
            "GET / HTTP/1.1\r\nno colon\r\n\r\n",
            "GET / HTTP/1.1\r\nA: b\r\n folded: c\r\n\r\n",
            "GET / HTTP/1.1\r\nA : b\r\n\r\n",
            "GET / HTTP/1.1\r\n: b\r\n\r\n",
        ] {
            assert_eq!(read(bad.as_bytes()), HeadProgress::Bad, "{bad:?}");
        }
    }

    #[test]
    fn a_head_of_the_greatest_length_is_read_and_a_longer_one_is_not() {
        let head = |length: usize| {
            let frame = "GET / HTTP/1.1\r\nX: \r\n\r\n";
            frame.replace("X: ", &format!("X: {}", "x".repeat(length - frame.len())))
        };
        assert!(matches!(read(head(MAX_HEAD).as_bytes()), HeadProgress::Done(_)));
        assert_eq!(read(head(MAX_HEAD + 1).as_bytes()), HeadProgress::Bad);
        let mut reader = HeadReader::default();
        for _ in 1..MAX_HEAD {
            assert_eq!(reader.feed(b"x"), HeadProgress::More);
        }
        assert_eq!(reader.feed(b"x"), HeadProgress::Bad);
    }

    #[test]
    fn a_body_behind_the_head_is_not_looked_at() {
        let body = format!("{RECORDED_REQUEST}{}", "x".repeat(10 * MAX_HEAD));
        assert!(matches!(read(body.as_bytes()), HeadProgress::Done(_)));
    }

    #[test]
    fn a_request_is_shown_without_its_token() {
        let request = request(&["GET / HTTP/1.1", &format!("Authorization: Bearer {TOKEN}")]);
        assert!(request.token.is_some() && !format!("{request:?}").contains(TOKEN));
    }

    #[test]
    fn plain_terms_are_written_as_the_original_does() {
        let without_date: String = RECORDED_ANSWER.split_inclusive("\r\n").filter(|l| !l.starts_with("Date")).collect();
        assert_eq!(String::from_utf8(plain().to_bytes(false)).unwrap(), without_date);
        assert_eq!(parse_answer(RECORDED_ANSWER.as_bytes(), false), terms(plain()));
    }

    #[test]
    fn terms_with_features_are_written_in_order_and_read_back() {
        let bytes = full().to_bytes(false);
        let text = String::from_utf8(bytes.clone()).unwrap();
        assert_eq!(
            text.split("\r\n\r\n").nth(1),
            Some(
                "{\"flow\":\"+\",\"max\":7,\"tls\":\"2\",\"type\":\"3\",\"features\":[\"udp-frame\",\"ws-eof\",\"edge\",\"fallback\",\"taken\",\"goodbye\",\"gone\",\"carriers\",\"reuse\"]}\n"
            )
        );
        assert_eq!(parse_answer(&bytes, false), terms(full()));
    }

    #[test]
    fn every_shorter_answer_needs_more_and_once_ended_is_cut_short() {
        let bytes = full().to_bytes(false);
        for length in 0..bytes.len() {
            assert_eq!(parse_answer(&bytes[..length], false), ServerAnswer::NeedMore, "{length}");
            assert!(matches!(parse_answer(&bytes[..length], true), ServerAnswer::Bad(_)), "{length}");
        }
    }

    #[test]
    fn a_body_may_end_with_the_stream_or_come_in_chunks() {
        let head = "200 OK\r\nConnection: close";
        assert_eq!(answer(head, BODY), terms(plain()));
        assert_eq!(parse_answer(format!("HTTP/1.0 {head}\r\n\r\n{BODY}").as_bytes(), false), ServerAnswer::NeedMore);
        let chunked = "200 OK\r\ntransfer-encoding: Chunked\r\nContent-Length: 3";
        let (first, second) = BODY.split_at(20);
        let body = format!("14;x=y\r\n{first}\r\n{:X}\r\n{second}\r\n0\r\n\r\n", second.len());
        assert_eq!(answer(chunked, &body), terms(plain()));
        assert_eq!(answer(chunked, &body.replace("\r\n", "\n")), terms(plain()));
        let whole = format!("HTTP/1.1 {chunked}\r\n\r\n{body}");
        for length in 0..whole.len() - 4 {
            assert_eq!(parse_answer(&whole.as_bytes()[..length], false), ServerAnswer::NeedMore, "{length}");
        }
    }

    #[test]
    fn a_malformed_frame_of_the_body_is_bad() {
        for (field, body) in [
            ("Content-Length: x", BODY),
            ("Content-Length: +44", BODY),
            ("Content-Length:", BODY),
            ("Content-Length: 99999999999999999999", BODY),
            ("Transfer-Encoding: gzip", BODY),
            ("Transfer-Encoding: chunked", "+2\r\n{}\r\n0\r\n\r\n"),
            ("Transfer-Encoding: chunked", "2\r\n{}x\r\n0\r\n\r\n"),
            ("Transfer-Encoding: chunked", "\r\n"),
            ("Transfer-Encoding: chunked", "ffffffffffffffffff\r\n"),
            ("no colon", BODY),
        ] {
            let text = format!("HTTP/1.1 200 OK\r\n{field}\r\n\r\n{body}");
            assert!(matches!(parse_answer(text.as_bytes(), false), ServerAnswer::Bad(_)), "{field}: {body}");
        }
    }

    #[test]
    fn fields_that_are_not_known_are_ignored() {
        let body = BODY.replacen('{', r#"{"next":[1,{"a":null}],"features":["new",7,"ws-eof"],"open":null,"#, 1);
        assert_eq!(answer("200 OK", &body), terms(Terms { features: vec![Feature::WsEof], ..plain() }));
        let body = BODY.replacen('{', r#"{"features":null,"open":"ff","#, 1);
        assert_eq!(answer("200 OK", &body), terms(plain()));
    }

    #[test]
    fn an_authenticated_handshake_travels_in_a_header_and_a_field_and_another_key_is_told_so() {
        let (psk, other) = (Psk::stretch(KEY), Psk::stretch(b"other"));
        let (_, message) = super::super::auth::Initiator::new(&psk, &["udp-frame"]).unwrap();
        let HeadProgress::Done(request) = read(&Offer { host: "none", proof: Proof::Message(&message) }.to_bytes())
        else {
            panic!("not read")
        };
        assert_eq!((request.auth.as_ref(), &request.token), (Some(&message), &None));
        let judge = |psk, mode| judge(&request, false, Keys { key: KEY, psk, mode, wire: Wire::Auto });
        assert!(matches!(judge(Some(&psk), AuthMode::Required), Verdict::Authenticated(_)));
        assert!(matches!(
            judge(Some(&other), AuthMode::Preferred),
            Verdict::Refused(ErrorStatus::KeysDiffer, Some(Failure::Key))
        ));
        assert!(matches!(judge(None, AuthMode::Off), Verdict::Refused(ErrorStatus::Unauthorized, None)));
        assert_eq!(parse_answer(&sealed_answer(&message), false), ServerAnswer::Sealed(message));
        let told = ServerAnswer::Refused { status: 401, text: "Unauthorized".into(), knows_auth: true, by: None };
        assert_eq!(parse_answer(&ErrorStatus::KeysDiffer.to_bytes(), false), told);
        let told = ServerAnswer::Terms { terms: plain(), knows_auth: true };
        assert_eq!(parse_answer(&plain().to_bytes(true), false), told);
    }

    #[test]
    fn terms_that_make_no_sense_are_bad_and_a_huge_pool_is_cut_down() {
        for (was, is) in [
            (r#""flow":"-""#, r#""flow":"""#),
            (r#""flow":"-","#, ""),
            ("1024", "0"),
            ("1024", "-1"),
            ("1024", r#""1024""#),
            (r#""tls":"0""#, r#""tls":"3""#),
            (r#""tls":"0""#, r#""tls":"+1""#),
            (r#""type":"0""#, r#""type":"4""#),
            (r#""type":"0""#, r#""type":0"#),
            ("}", ""),
        ] {
            let body = BODY.replace(was, is);
            assert_ne!(body, BODY);
            assert!(matches!(answer("200 OK", &body), ServerAnswer::Bad(_)), "{body}");
        }
        let huge = BODY.replace("1024", &u64::MAX.to_string());
        assert_eq!(answer("200 OK", &huge), terms(Terms { max: MAX_POOL, ..plain() }));
    }

    #[test]
    fn refusals_are_one_line_of_text_and_read_back() {
        for (status, code, text) in [
            (ErrorStatus::Unauthorized, 401, "Unauthorized"),
            (ErrorStatus::NotFound, 404, "Not Found"),
            (ErrorStatus::MethodNotAllowed, 405, "Method Not Allowed"),
        ] {
            let bytes = status.to_bytes();
            let shown = String::from_utf8(bytes.clone()).unwrap();
            assert!(
                shown.starts_with(&format!("HTTP/1.1 {code} {text}\r\n")) && shown.contains("Connection: close\r\n")
            );
            assert_eq!(parse_answer(&bytes, false), refused(code, text));
        }
    }

    #[test]
    fn a_refusal_keeps_the_first_words_of_its_text_even_if_it_is_cut_short() {
        assert_eq!(answer("409 Bad\r\nContent-Length: 99", "  sorry\nmore"), refused(409, "sorry"));
        assert_eq!(answer("400 Bad Request", ""), refused(400, ""));
        let flood = format!("HTTP/1.1 409 x\r\n\r\nsorry\n{}", " ".repeat(MAX_ANSWER));
        assert_eq!(parse_answer(flood.as_bytes(), false), refused(409, "sorry"));
        let ServerAnswer::Refused { status: 503, text, .. } = answer("503 x", &"\u{fc}".repeat(500)) else {
            panic!("not refused")
        };
        assert_eq!(text.chars().count(), MAX_REASON / 2);
    }

    #[test]
    fn the_four_bytes_of_a_pool_connection_are_no_answer_but_a_reason_to_try_again() {
        for id in [&[0, 0, 0, 0][..], &[0xd9], b"HTTX"] {
            let ServerAnswer::Bad(why) = parse_answer(id, false) else { panic!("{id:?} taken") };
            assert!(why.contains("pool phase; try again"));
        }
        assert_eq!(parse_answer(b"", false), ServerAnswer::NeedMore);
        assert_eq!(parse_answer(b"", true), ServerAnswer::Bad(NO_ANSWER));
    }

    #[test]
    fn who_answers_instead_of_a_server_is_named() {
        let foreign = |answer: &str| match parse_answer(answer.as_bytes(), true) {
            ServerAnswer::Foreign(by) | ServerAnswer::Refused { by: Some(by), .. } => Some(by),
            _ => None,
        };
        let page = "HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Length: 6\r\n\r\n<html>";
        assert_eq!(foreign(page), Some(Program::Web(200, "nginx".into())));
        assert_eq!(foreign(&page.replace("200", "404")), Some(Program::Web(404, "nginx".into())));
        assert_eq!(foreign("HTTP/1.0 502 Bad Gateway\r\n\r\n"), Some(Program::Proxy(502, String::new())));
        let old = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 10\r\n\r\n192.0.2.7\n";
        assert_eq!(foreign(old), Some(Program::OriginalOf12));
        assert_eq!(foreign("SSH-2.0-OpenSSH_9.2\r\n"), Some(Program::Ssh));
        assert_eq!(foreign("\x15\x03\x01\0\x02\x02F"), Some(Program::Tls));
        assert_eq!(foreign("HTTP/1.1 401 Unauthorized\r\n\r\n"), None);
        assert_eq!(parse_answer(b"SS", false), ServerAnswer::NeedMore);
    }

    #[test]
    fn an_answer_without_end_is_bad_at_its_limit() {
        let head = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(MAX_HEAD));
        assert!(matches!(parse_answer(head.as_bytes(), false), ServerAnswer::Bad(_)));
        assert_eq!(parse_answer(&head.as_bytes()[..MAX_HEAD - 1], false), ServerAnswer::NeedMore);
        let whole = format!("{head}\r\n\r\n{BODY}");
        assert!(matches!(parse_answer(whole.as_bytes(), true), ServerAnswer::Bad(_)));
        let body = format!("HTTP/1.1 200 OK\r\n\r\n{}", " ".repeat(MAX_ANSWER));
        assert!(matches!(parse_answer(body.as_bytes(), false), ServerAnswer::Foreign(_)));
        assert_eq!(parse_answer(&body.as_bytes()[..MAX_ANSWER - 1], false), ServerAnswer::NeedMore);
    }

    #[test]
    fn a_status_that_is_no_number_is_bad() {
        for first in ["HTTP/1.1", "HTTP/1.1 ", "HTTP/1.1 20", "HTTP/1.1 +20", "HTTP/1.1 2000", "HTTP/1.1\t200"] {
            let text = format!("{first}\r\n\r\n{BODY}");
            assert!(matches!(parse_answer(text.as_bytes(), true), ServerAnswer::Bad(_)), "{first:?}");
        }
    }
}
