//! The HTTP request that turns a connection into a WebSocket, and its answer (RFC 6455, section 4).
//!
//! ```text
//!  client                                              server
//!  Ask --bytes-------------------------------------->  Request::upgrade --answer--> 101 and a WebSocket, or a refusal
//!  parse_answer <--bytes-----------------------------
//! ```
//!
//! Neither side asks for extensions or sub-protocols, and a server that chooses one has not understood.

use ring::digest::{digest, SHA1_FOR_LEGACY_USE_ONLY};

use super::encoding;
use super::http::{end_of_head, response, status, ErrorStatus, Head, MAX_HEAD};
use crate::error::Error;

/// What a client sends along, chosen by chance, so that an answer is known to be one to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WebSocketKey([u8; 16]);

impl WebSocketKey {
    /// A key of these random bytes.
    pub fn new(random: [u8; 16]) -> WebSocketKey {
        WebSocketKey(random)
    }

    fn parse(text: &str) -> Option<WebSocketKey> {
        encoding::from_base64(text.as_bytes())?.try_into().ok().map(WebSocketKey)
    }

    /// What proves that the server speaks WebSocket and answers this very request.
    fn accept(self) -> String {
        let text = encoding::base64(&self.0) + GUID;
        encoding::base64(digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()).as_ref())
    }
}

// ---- the client's request -------------------------------------------------------------------------------------------

/// What a client asks.
#[derive(Clone, Copy)]
pub struct Ask<'a> {
    /// For the `Host` header: the tunnel host, as originals say it: without a port.
    pub host: &'a str,
    /// Chosen for this request alone.
    pub key: WebSocketKey,
}

impl Ask<'_> {
    /// The request, whole.
    pub fn to_bytes(&self) -> Vec<u8> {
        let key = encoding::base64(&self.key.0);
        let agent = concat!("nodepass/", env!("CARGO_PKG_VERSION"));
        // A bare IPv6 address would look like a name with a port.
        let host = match self.host.contains(':') && !self.host.starts_with('[') {
            true => format!("[{}]", self.host),
            false => self.host.to_owned(),
        };
        format!(
            "GET / HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {agent}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: {VERSION}\r\n\r\n"
        )
        .into_bytes()
    }
}

/// What makes a request that asks for a WebSocket one that cannot have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpgradeFault {
    /// No `Host`, no `Connection: upgrade`, or no key of 16 bytes.
    Malformed,
    /// Another version of the protocol than 13.
    Version,
}

/// What the head of a request says of a WebSocket: `None` if it does not ask for one.
pub(super) fn wanted(head: &Head<'_>) -> Option<Result<WebSocketKey, UpgradeFault>> {
    if !has_token(head, "Upgrade", "websocket") {
        return None;
    }
    let one = |name| {
        let mut values = head.all(name);
        values.next().filter(|_| values.next().is_none())
    };
    let key = one("Sec-WebSocket-Key").and_then(WebSocketKey::parse);
    Some(match (one("Host"), key) {
        _ if one("Sec-WebSocket-Version") != Some(VERSION) => Err(UpgradeFault::Version),
        (Some(_), Some(key)) if has_token(head, "Connection", "Upgrade") => Ok(key),
        _ => Err(UpgradeFault::Malformed),
    })
}

/// Whether a comma-separated field has this word in it.
fn has_token(head: &Head<'_>, name: &'static str, token: &str) -> bool {
    head.all(name).flat_map(|list| list.split(',')).any(|word| word.trim().eq_ignore_ascii_case(token))
}

// ---- the server's answer --------------------------------------------------------------------------------------------

/// What a server answers to a request for a WebSocket, out of its head: `Ok` turns the connection into one, after `Err` it is
/// closed.
///
/// In this order: 405 for another method than GET, 404 for another path than `/`, 426 for another version, 400. A request that
/// asks for no WebSocket is answered 426, too.
pub fn answer(
    method: &str,
    path: &str,
    wanted: Option<Result<WebSocketKey, UpgradeFault>>,
) -> Result<Vec<u8>, Vec<u8>> {
    let offer = format!("Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: {VERSION}\r\n");
    match wanted {
        _ if method != "GET" => Err(ErrorStatus::MethodNotAllowed.to_bytes()),
        _ if path != "/" => Err(ErrorStatus::NotFound.to_bytes()),
        Some(Ok(key)) => Ok(format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {}\r\n\r\n",
            key.accept()
        )
        .into_bytes()),
        Some(Err(UpgradeFault::Malformed)) => Err(refusal("400 Bad Request", "", "Bad Request")),
        _ => Err(refusal("426 Upgrade Required", &offer, "Upgrade Required")),
    }
}

fn refusal(status: &str, fields: &str, line: &str) -> Vec<u8> {
    response(&format!("{status}\r\n{fields}"), "text/plain; charset=utf-8", line)
}

// ---- the client reads it --------------------------------------------------------------------------------------------

/// What the bytes of an answer come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpgradeAnswer {
    /// The head's end is still to come.
    NeedMore,
    /// The connection is a WebSocket. Its first frame begins after so many bytes.
    Done(usize),
    /// It is none, and why.
    Bad(Error),
}

/// Reads an answer from all bytes that came so far. Never `NeedMore` from [`MAX_HEAD`] bytes on.
pub fn parse_answer(bytes: &[u8], key: WebSocketKey) -> UpgradeAnswer {
    if !bytes.iter().zip(b"HTTP/1.").all(|(is, should)| is == should) {
        return UpgradeAnswer::Bad(Error::protocol("no HTTP answer to the upgrade: not a WebSocket server"));
    }
    match end_of_head(&bytes[..bytes.len().min(MAX_HEAD)], 0) {
        Some(end) => match judge(&bytes[..end], key) {
            Ok(()) => UpgradeAnswer::Done(end),
            Err(why) => UpgradeAnswer::Bad(why),
        },
        None if bytes.len() < MAX_HEAD => UpgradeAnswer::NeedMore,
        None => UpgradeAnswer::Bad(Error::protocol("the answer to the upgrade is too long")),
    }
}

fn judge(head: &[u8], key: WebSocketKey) -> Result<(), Error> {
    let text = String::from_utf8_lossy(head);
    let malformed = || Error::protocol("the answer to the upgrade is malformed");
    let head = Head::parse(&text).ok_or_else(malformed)?;
    match status(head.first).ok_or_else(malformed)? {
        101 => {}
        // Who answers so has heard the request and passed it on in vain, or never knew WebSockets.
        status @ (502..=504) => {
            return Err(Error::protocol(format!("no WebSocket: {status}, a proxy that cannot reach the server")));
        }
        status => {
            return Err(Error::protocol(format!("no WebSocket: {status}, from the server or from a proxy before it")));
        }
    }
    let accepted = head.all("Sec-WebSocket-Accept").eq([key.accept().as_str()]);
    if !accepted || !has_token(&head, "Upgrade", "websocket") || !has_token(&head, "Connection", "Upgrade") {
        return Err(Error::protocol("no WebSocket: 101, but not as an answer to this request"));
    }
    let chosen = |name| head.all(name).any(|value| !value.is_empty());
    if chosen("Sec-WebSocket-Extensions") || chosen("Sec-WebSocket-Protocol") {
        return Err(Error::protocol("no WebSocket: the server wants an extension or a protocol that was not offered"));
    }
    Ok(())
}

/// The version of RFC 6455.
const VERSION: &str = "13";
/// What a server appends to the key before it hashes it (RFC 6455, 1.3).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

#[cfg(test)]
mod tests {
    use super::super::handshake::{HeadProgress, HeadReader, Request};
    use super::*;

    /// What an original client sends.
    const RECORDED_REQUEST: &str = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: Go-http-client/1.1\r\n\
        Connection: Upgrade\r\nSec-Websocket-Key: dcEbnd+noJFsbX8VW00huA==\r\nSec-Websocket-Version: 13\r\n\
        Upgrade: websocket\r\nAccept-Encoding: gzip\r\n\r\n";
    /// What an original server answers to that, with the first frame behind it.
    const RECORDED_ANSWER: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
        Sec-Websocket-Accept: r6Sk1Mf4weez2+sz6Y7X4J7Z438=\r\nUpgrade: websocket\r\n\
        Date: Sat, 21 Nov 2026 02:06:31 GMT\r\n\r\n\x82\x04\x00\x00\x00\x00";

    fn recorded_key() -> WebSocketKey {
        WebSocketKey::parse("dcEbnd+noJFsbX8VW00huA==").unwrap()
    }

    fn answered(request: &Request) -> Result<Vec<u8>, Vec<u8>> {
        answer(&request.method, &request.path, request.upgrade)
    }

    fn read(bytes: &[u8]) -> Request {
        match HeadReader::default().feed(bytes) {
            HeadProgress::Done(request) => request,
            other => panic!("{other:?}"),
        }
    }

    fn status_of(answer: &[u8]) -> &str {
        std::str::from_utf8(&answer[9..12]).unwrap()
    }

    fn why(answer: UpgradeAnswer) -> String {
        match answer {
            UpgradeAnswer::Bad(error) => error.to_string(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_recorded_upgrade_is_understood_and_answered_as_the_original_did() {
        let request = read(RECORDED_REQUEST.as_bytes());
        assert_eq!(request.upgrade, Some(Ok(recorded_key())));
        let answer = String::from_utf8(answered(&request).unwrap()).unwrap();
        assert!(answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
        assert!(answer.contains("Sec-WebSocket-Accept: r6Sk1Mf4weez2+sz6Y7X4J7Z438=\r\n"), "{answer}");
    }

    #[test]
    fn the_example_of_the_rfc_comes_out_right() {
        assert_eq!(WebSocketKey::new(*b"the sample nonce").accept(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_request_of_ours_is_taken_by_a_server_of_ours_and_its_answer_by_the_client() {
        let key = WebSocketKey::new([7; 16]);
        let asked = Ask { host: "tunnel.example", key }.to_bytes();
        assert!(asked.starts_with(b"GET / HTTP/1.1\r\nHost: tunnel.example\r\n"));
        let answered = answered(&read(&asked)).unwrap();
        assert_eq!(parse_answer(&answered, key), UpgradeAnswer::Done(answered.len()));
        assert!(why(parse_answer(&answered, WebSocketKey::new([8; 16]))).contains("not as an answer to this request"));
    }

    #[test]
    fn an_ipv6_host_is_in_brackets() {
        for host in ["::1", "[::1]"] {
            let asked = Ask { host, key: recorded_key() }.to_bytes();
            assert!(String::from_utf8(asked).unwrap().contains("Host: [::1]\r\n"));
        }
    }

    #[test]
    fn a_recorded_answer_is_read_at_every_split_and_its_first_frame_is_left() {
        let head = RECORDED_ANSWER.len() - 6;
        for end in 0..head {
            assert_eq!(parse_answer(&RECORDED_ANSWER[..end], recorded_key()), UpgradeAnswer::NeedMore, "{end}");
        }
        for end in head..=RECORDED_ANSWER.len() {
            assert_eq!(parse_answer(&RECORDED_ANSWER[..end], recorded_key()), UpgradeAnswer::Done(head));
        }
    }

    #[test]
    fn an_ordinary_request_asks_for_no_websocket_and_is_told_to() {
        let request = read(b"GET / HTTP/1.1\r\nHost: none\r\n\r\n");
        assert_eq!(request.upgrade, None);
        let refusal = answered(&request).unwrap_err();
        assert_eq!(status_of(&refusal), "426");
        let other = read(b"GET / HTTP/1.1\r\nHost: none\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n");
        assert_eq!(other.upgrade, None);
    }

    #[test]
    fn a_wrong_upgrade_is_refused_with_the_status_that_says_why() {
        let cases = [
            ("GET /", "POST /", "405"),
            ("GET / ", "GET /chat ", "404"),
            ("Version: 13", "Version: 8", "426"),
            ("Sec-Websocket-Version: 13\r\n", "", "426"),
            ("Sec-Websocket-Version: 13\r\n", "Sec-Websocket-Version: 13\r\nSec-Websocket-Version: 8\r\n", "426"),
            ("Host: 127.0.0.1\r\n", "", "400"),
            ("Connection: Upgrade", "Connection: keep-alive", "400"),
            ("Sec-Websocket-Key: dcEbnd+noJFsbX8VW00huA==\r\n", "", "400"),
            ("dcEbnd+noJFsbX8VW00huA==", "dcEbnd+noJFsbX8VW00h", "400"),
            ("dcEbnd+noJFsbX8VW00huA==", "nonsense", "400"),
            ("Accept-Encoding: gzip", "Sec-Websocket-Key: dcEbnd+noJFsbX8VW00huA==", "400"),
        ];
        for (from, to, status) in cases {
            let bad = RECORDED_REQUEST.replacen(from, to, 1);
            assert_ne!(bad, RECORDED_REQUEST, "{from}");
            let refusal = answered(&read(bad.as_bytes())).expect_err(&bad);
            assert_eq!(status_of(&refusal), status, "{from} -> {to}");
            assert!(String::from_utf8(refusal).unwrap().contains("Connection:"));
        }
    }

    #[test]
    fn names_and_words_may_be_of_any_case_and_among_others() {
        let request = RECORDED_REQUEST
            .replace("Connection: Upgrade", "connection: keep-alive, UPGRADE")
            .replace("Upgrade: websocket", "UPGRADE: WebSocket, other");
        assert!(answered(&read(request.as_bytes())).is_ok());
    }

    #[test]
    fn a_wrong_answer_says_who_may_have_given_it() {
        let recorded = String::from_utf8_lossy(RECORDED_ANSWER);
        let cases = [
            ("101 Switching Protocols", "200 OK", "200"),
            ("101 Switching Protocols", "400 Bad Request", "400, from the server or from a proxy"),
            ("101 Switching Protocols", "502 Bad Gateway", "502, a proxy"),
            ("101 Switching Protocols", "banana", "malformed"),
            ("r6Sk1Mf4", "R6Sk1Mf4", "not as an answer"),
            ("Upgrade: websocket\r\n", "", "not as an answer"),
            ("Connection: Upgrade", "Connection: close", "not as an answer"),
            ("Date: ", "Sec-WebSocket-Extensions: permessage-deflate\r\nDate: ", "was not offered"),
            ("Date: ", "Sec-WebSocket-Protocol: chat\r\nDate: ", "was not offered"),
            ("HTTP/1.1", "SSH-2.0-", "no HTTP answer"),
        ];
        for (from, to, expected) in cases {
            let why = why(parse_answer(recorded.replacen(from, to, 1).as_bytes(), recorded_key()));
            assert!(why.contains(expected), "{from} -> {to}: {why}");
        }
    }

    #[test]
    fn an_answer_without_end_is_not_awaited_for_ever() {
        let mut bytes = b"HTTP/1.1 101 Switching Protocols\r\n".to_vec();
        bytes.resize(MAX_HEAD - 1, b'a');
        assert_eq!(parse_answer(&bytes, recorded_key()), UpgradeAnswer::NeedMore);
        bytes.extend(b"aa\r\n\r\n");
        assert!(why(parse_answer(&bytes, recorded_key())).contains("too long"));
    }
}
