//! The handshake: one HTTP/1.1 request with the token, one answer with the tunnel's terms.
//!
//! ```text
//!  client                                       server
//!  Offer --bytes--------------------------->  Reader --Request--> judge --> Ok | Refused
//!  parse_answer <--bytes-------------------  Terms (200)  or  ErrorStatus (401, 404, 405)
//! ```
//!
//! Both readers are bounded, and whatever they cannot use they leave out rather than refuse: peers may say more.

use std::borrow::Cow;
use std::fmt;

use super::http::{body, end_of_head, status, ErrorStatus, Head, Part, MAX_ANSWER, MAX_HEAD};
use super::terms::{Feature, Terms};
use super::upgrade::{self, UpgradeFault, WebSocketKey};
use super::wire::{token, token_matches};

// ---- the client's request -------------------------------------------------------------------------------------------

/// What a client says to be let in.
#[derive(Clone, Copy)]
pub struct Offer<'a> {
    /// For the `Host` header: `sni`, else the tunnel host's name, else `none`. A host name, without line breaks.
    pub host: &'a str,
    /// The tunnel key.
    pub key: &'a [u8],
    /// The names of the features that it knows.
    pub features: &'a [&'a str],
}

impl Offer<'_> {
    /// The request, whole.
    pub fn to_bytes(&self) -> Vec<u8> {
        let features = match self.features {
            [] => String::new(),
            names => format!("NodePass-Features: {}\r\n", names.join(",")),
        };
        let agent = concat!("nodepass/", env!("CARGO_PKG_VERSION"));
        format!(
            "GET / HTTP/1.1\r\nHost: {}\r\nUser-Agent: {agent}\r\nAuthorization: Bearer {}\r\n{features}\
             Connection: close\r\n\r\n",
            self.host,
            token(self.key)
        )
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
        let path = target.split('?').next().unwrap_or(target);
        let upgrade = upgrade::wanted(&head);
        Some(Request { method: method.to_owned(), path: path.to_owned(), token, features, upgrade })
    }
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("Bearer").then(|| token.trim())
}

// ---- the server's answer --------------------------------------------------------------------------------------------

/// What the server makes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The client knows the key.
    Ok {
        /// The features of the client that are known here.
        features: Vec<Feature>,
    },
    /// The request is refused.
    Refused(ErrorStatus),
}

/// Judges a request: first its method, then its path, then its token, which is compared in constant time.
pub fn judge(request: &Request, key: &[u8]) -> Verdict {
    match request {
        Request { method, .. } if method != "GET" => Verdict::Refused(ErrorStatus::MethodNotAllowed),
        Request { path, .. } if path != "/" => Verdict::Refused(ErrorStatus::NotFound),
        Request { token: Some(token), features, .. } if token_matches(key, token) => {
            Verdict::Ok { features: features.clone() }
        }
        _ => Verdict::Refused(ErrorStatus::Unauthorized),
    }
}

// ---- the client reads it --------------------------------------------------------------------------------------------

/// What the bytes of an answer come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerAnswer {
    /// Its end is still to come.
    NeedMore,
    /// The client is in.
    Terms(Terms),
    /// Another status than 200, and the first words of the text that came with it: text from the network, not yet fit
    /// for a log.
    Refused(u16, String),
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
    match take_answer(bytes, ended) {
        Ok(Some((200, body))) => match Terms::parse(&body) {
            Ok(terms) => ServerAnswer::Terms(terms),
            Err(why) => ServerAnswer::Bad(why),
        },
        Ok(Some((status, body))) => {
            let text = String::from_utf8_lossy(&body[..body.len().min(MAX_REASON)]);
            ServerAnswer::Refused(status, text.lines().next().unwrap_or_default().trim().to_owned())
        }
        Ok(None) if ended && bytes.is_empty() => ServerAnswer::Bad("the server closed without an answer; try again"),
        Ok(None) if full => ServerAnswer::Bad("the server's answer is too long"),
        Ok(None) if ended => ServerAnswer::Bad("the server's answer is cut short"),
        Ok(None) => ServerAnswer::NeedMore,
        Err(why) => ServerAnswer::Bad(why),
    }
}

/// ErrorStatus and body, once both are whole.
fn take_answer(bytes: &[u8], ended: bool) -> Part<(u16, Cow<'_, [u8]>)> {
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
    Ok(whole.map(|body| (status, body)))
}

/// Bytes of a refusal's text that are kept.
const MAX_REASON: usize = 200;

#[cfg(test)]
mod tests {
    use super::super::terms::{opening, Direction, MAX_POOL};
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
        Terms { flow: Direction::Reverse, max: 1024, tls: 0, transport: 0, features: vec![], open: None }
    }

    fn full() -> Terms {
        let (features, open) = (Feature::ALL.to_vec(), Some(opening([0xab; 15])));
        Terms { flow: Direction::Forward, max: 7, tls: 2, transport: 3, features, open }
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

    fn verdict(lines: &[&str]) -> Verdict {
        judge(&request(lines), KEY)
    }

    fn answer(head: &str, body: &str) -> ServerAnswer {
        parse_answer(format!("HTTP/1.1 {head}\r\n\r\n{body}").as_bytes(), true)
    }

    const BODY: &str = r#"{"flow":"-","max":1024,"tls":"0","type":"0"}"#;

    #[test]
    fn an_offer_is_one_plain_request_and_its_server_understands_it() {
        let offer = Offer { host: "example.org", key: KEY, features: &["udp-frame", "open"] };
        let bytes = offer.to_bytes();
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            String::from_utf8(bytes.clone()).unwrap(),
            format!(
                "GET / HTTP/1.1\r\nHost: example.org\r\nUser-Agent: nodepass/{version}\r\nAuthorization: Bearer {TOKEN}\r\n\
                 NodePass-Features: udp-frame,open\r\nConnection: close\r\n\r\n"
            )
        );
        let HeadProgress::Done(request) = read(&bytes) else { panic!("not read") };
        let features = vec![Feature::UdpFrame, Feature::Open];
        assert_eq!(judge(&request, KEY), Verdict::Ok { features });
        assert_eq!(judge(&request, b"other"), Verdict::Refused(ErrorStatus::Unauthorized));
    }

    #[test]
    fn an_offer_without_features_is_the_plain_wire() {
        let bytes = Offer { host: "none", key: KEY, features: &[] }.to_bytes();
        assert!(!String::from_utf8(bytes).unwrap().contains("Features"));
    }

    #[test]
    fn an_original_client_is_let_in() {
        let HeadProgress::Done(request) = read(RECORDED_REQUEST.as_bytes()) else { panic!("not read") };
        assert_eq!(judge(&request, KEY), Verdict::Ok { features: vec![] });
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
            assert_eq!(verdict(&lines), Verdict::Refused(status), "{lines:?}");
        }
        assert_eq!(verdict(&["GET / HTTP/1.1", good]), Verdict::Ok { features: vec![] });
        let shouted = format!("AUTHORIZATION: BEARER {TOKEN}");
        assert_eq!(verdict(&["GET /?x=1 HTTP/1.0", &shouted]), Verdict::Ok { features: vec![] });
    }

    #[test]
    fn unknown_features_are_passed_over_and_the_order_is_always_the_same() {
        let features = |list: &[&str]| {
            let mut lines = vec!["GET / HTTP/1.1"];
            lines.extend(list);
            request(&lines).features
        };
        assert_eq!(features(&["nodepass-features: open , new,,udp-frame,open"]), [Feature::UdpFrame, Feature::Open]);
        assert_eq!(
            features(&["NodePass-Features: open", "NodePass-Features: ws-eof"]),
            [Feature::WsEof, Feature::Open]
        );
        assert_eq!(features(&["NodePass-Features: UDP-FRAME"]), []);
        let (local, remote) = ([Feature::Open, Feature::UdpFrame], Feature::ALL);
        assert_eq!(Feature::common(&local, &remote), [Feature::UdpFrame, Feature::Open]);
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
        assert_eq!(String::from_utf8(plain().to_bytes()).unwrap(), without_date);
        assert_eq!(parse_answer(RECORDED_ANSWER.as_bytes(), false), ServerAnswer::Terms(plain()));
    }

    #[test]
    fn terms_with_features_are_written_in_order_and_read_back() {
        let bytes = full().to_bytes();
        let text = String::from_utf8(bytes.clone()).unwrap();
        assert_eq!(
            text.split("\r\n\r\n").nth(1),
            Some(
                "{\"flow\":\"+\",\"max\":7,\"tls\":\"2\",\"type\":\"3\",\"features\":[\"udp-frame\",\"ws-eof\",\"open\",\"edge\",\"fallback\",\"taken\",\"goodbye\"],\
                 \"open\":\"00ababababababababababababababab\"}\n"
            )
        );
        assert_eq!(parse_answer(&bytes, false), ServerAnswer::Terms(full()));
    }

    #[test]
    fn every_shorter_answer_needs_more_and_once_ended_is_cut_short() {
        let bytes = full().to_bytes();
        for length in 0..bytes.len() {
            assert_eq!(parse_answer(&bytes[..length], false), ServerAnswer::NeedMore, "{length}");
            assert!(matches!(parse_answer(&bytes[..length], true), ServerAnswer::Bad(_)), "{length}");
        }
    }

    #[test]
    fn a_body_may_end_with_the_stream_or_come_in_chunks() {
        let head = "200 OK\r\nConnection: close";
        assert_eq!(answer(head, BODY), ServerAnswer::Terms(plain()));
        assert_eq!(parse_answer(format!("HTTP/1.0 {head}\r\n\r\n{BODY}").as_bytes(), false), ServerAnswer::NeedMore);
        let chunked = "200 OK\r\ntransfer-encoding: Chunked\r\nContent-Length: 3";
        let (first, second) = BODY.split_at(20);
        let body = format!("14;x=y\r\n{first}\r\n{:X}\r\n{second}\r\n0\r\n\r\n", second.len());
        assert_eq!(answer(chunked, &body), ServerAnswer::Terms(plain()));
        assert_eq!(answer(chunked, &body.replace("\r\n", "\n")), ServerAnswer::Terms(plain()));
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
        let body = BODY.replacen('{', r#"{"next":[1,{"a":null}],"features":["new",7,"ws-eof"],"open":5e1,"#, 1);
        assert!(matches!(answer("200 OK", &body), ServerAnswer::Bad(_)), "an opening that is no text");
        let body = body.replace("5e1", "null");
        assert_eq!(answer("200 OK", &body), ServerAnswer::Terms(Terms { features: vec![Feature::WsEof], ..plain() }));
        let body = BODY.replacen('{', r#"{"features":null,"open":"ff","#, 1);
        assert_eq!(answer("200 OK", &body), ServerAnswer::Terms(plain()));
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
            (r#""type":"0""#, r#""type":"0","features":["open"]"#),
            (r#""type":"0""#, r#""type":"0","features":["open"],"open":"01ababababababababababababababab""#),
            (r#""type":"0""#, r#""type":"0","features":["open"],"open":"00ab""#),
            ("}", ""),
        ] {
            let body = BODY.replace(was, is);
            assert_ne!(body, BODY);
            assert!(matches!(answer("200 OK", &body), ServerAnswer::Bad(_)), "{body}");
        }
        let huge = BODY.replace("1024", &u64::MAX.to_string());
        assert_eq!(answer("200 OK", &huge), ServerAnswer::Terms(Terms { max: MAX_POOL, ..plain() }));
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
            assert_eq!(parse_answer(&bytes, false), ServerAnswer::Refused(code, text.into()));
        }
    }

    #[test]
    fn a_refusal_keeps_the_first_words_of_its_text_even_if_it_is_cut_short() {
        assert_eq!(
            answer("502 Bad\r\nContent-Length: 99", "  sorry\nmore"),
            ServerAnswer::Refused(502, "sorry".into())
        );
        assert_eq!(answer("400 Bad Request", ""), ServerAnswer::Refused(400, String::new()));
        let flood = format!("HTTP/1.1 502 x\r\n\r\nsorry\n{}", " ".repeat(MAX_ANSWER));
        assert_eq!(parse_answer(flood.as_bytes(), false), ServerAnswer::Refused(502, "sorry".into()));
        let ServerAnswer::Refused(503, text) = answer("503 x", &"\u{fc}".repeat(500)) else { panic!("not refused") };
        assert_eq!(text.chars().count(), MAX_REASON / 2);
    }

    #[test]
    fn the_four_bytes_of_a_pool_connection_are_no_answer_but_a_reason_to_try_again() {
        for id in [&[0, 0, 0, 0][..], &[0xd9], b"HTTX", b"\x15\x03\x01"] {
            let ServerAnswer::Bad(why) = parse_answer(id, false) else { panic!("{id:?} taken") };
            assert!(why.contains("pool phase; try again"));
        }
        assert_eq!(parse_answer(b"", false), ServerAnswer::NeedMore);
        assert_eq!(parse_answer(b"", true), ServerAnswer::Bad("the server closed without an answer; try again"));
    }

    #[test]
    fn an_answer_without_end_is_bad_at_its_limit() {
        let head = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(MAX_HEAD));
        assert!(matches!(parse_answer(head.as_bytes(), false), ServerAnswer::Bad(_)));
        assert_eq!(parse_answer(&head.as_bytes()[..MAX_HEAD - 1], false), ServerAnswer::NeedMore);
        let whole = format!("{head}\r\n\r\n{BODY}");
        assert!(matches!(parse_answer(whole.as_bytes(), true), ServerAnswer::Bad(_)));
        let body = format!("HTTP/1.1 200 OK\r\n\r\n{}", " ".repeat(MAX_ANSWER));
        assert!(matches!(parse_answer(body.as_bytes(), false), ServerAnswer::Bad(_)));
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
