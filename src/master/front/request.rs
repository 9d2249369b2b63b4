//! One request's bytes, from a stranger, made into one that is surely whole, bounded and unambiguous.
//!
//! ```text
//!  bytes -> [ Reader: Head -> Body | Chunks -> whole ] -> Request -> bytes for the server behind
//! ```
//!
//! What two programs could read differently (two lengths, a length beside chunks, folded lines, spaces before a colon) is
//! refused. What is handed on is written anew, with one length and no chunks. The rules are those of RFC 9112.

use httparse::{Error, Status, EMPTY_HEADER};

use super::answer::{Refusal, BAD, TOO_LARGE};
use super::chunks::{digit, Chunks, MAX_BODY};
use crate::logic::http::end_of_head;

/// A whole request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What its head said.
    pub head: RequestHead,
    /// Its body; empty if there is none.
    pub body: Vec<u8>,
}

/// A request's head, without what concerned only the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// Any token, in the case in which it came.
    pub method: String,
    /// Path and query: printable ASCII without spaces, and a path that [`decoded`] can read.
    pub target: String,
    /// Whether it is HTTP/1.1; else it is 1.0.
    pub modern: bool,
    /// Whether another request may follow on the same connection.
    pub keep: bool,
    /// Names in lower case, values in ASCII.
    pub headers: Vec<(String, String)>,
    framing: Framing,
    /// Whether the client waits for a go-ahead before it sends the body.
    expects: bool,
}

/// How the body's end is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
}

impl Request {
    /// As it is handed on: one length, one request to a connection.
    pub fn to_bytes(&self) -> Vec<u8> {
        let Request { head, body } = self;
        let version = if head.modern { "1.1" } else { "1.0" };
        let mut bytes = format!("{} {} HTTP/{version}\r\nconnection: close\r\n", head.method, head.target).into_bytes();
        for (name, value) in &head.headers {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        bytes.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
        bytes.extend_from_slice(body);
        bytes
    }
}

impl RequestHead {
    /// Reads a head that ends where `bytes` end.
    fn parse(bytes: &[u8]) -> Result<RequestHead, Refusal> {
        let mut headers = [EMPTY_HEADER; MAX_HEADERS];
        let mut parsed = httparse::Request::new(&mut headers);
        match parsed.parse(bytes) {
            Ok(Status::Complete(length)) if length == bytes.len() => {}
            Ok(_) => return Err(BAD),
            Err(Error::TooManyHeaders) => return Err(TOO_MANY_HEADERS),
            Err(Error::Version) => return Err(VERSION),
            Err(_) => return Err(BAD),
        }
        let (Some(method), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version) else {
            return Err(BAD);
        };
        let modern = version == 1;
        let fields = KnownFields::read(parsed.headers)?;
        let target = origin(target).ok_or(BAD_TARGET)?;
        if decoded(path_of(&target)).is_none() {
            return Err(BAD_TARGET);
        }
        if fields.hosts != 1 && (modern || fields.hosts > 1) {
            return Err(HOST);
        }
        let keep = !fields.close && (modern || fields.keep_alive);
        let (expects, framing) = (fields.expects && modern, fields.framing(modern)?);
        Ok(RequestHead { method: method.into(), target, modern, keep, headers: fields.kept, framing, expects })
    }
}

/// What the headers of a request come to.
#[derive(Default)]
struct KnownFields {
    kept: Vec<(String, String)>,
    hosts: usize,
    close: bool,
    keep_alive: bool,
    expects: bool,
    length: Option<usize>,
    chunked: bool,
}

impl KnownFields {
    fn read(headers: &[httparse::Header<'_>]) -> Result<KnownFields, Refusal> {
        let mut fields = KnownFields::default();
        for header in headers {
            let name = header.name.to_ascii_lowercase();
            // Nothing of ours is said in other than ASCII, and the server behind would hang up on it.
            let Some(value) = std::str::from_utf8(header.value).ok().filter(|value| value.is_ascii()) else {
                match name.as_str() {
                    "content-length" | "transfer-encoding" | "host" | "connection" | "expect" => return Err(BAD),
                    _ => continue,
                }
            };
            let value = value.trim_matches([' ', '\t']);
            match name.as_str() {
                "content-length" if fields.length.is_some() => return Err(AMBIGUOUS),
                "content-length" => fields.length = Some(length(value)?),
                "transfer-encoding" if fields.chunked => return Err(AMBIGUOUS),
                "transfer-encoding" if value.eq_ignore_ascii_case("chunked") => fields.chunked = true,
                "transfer-encoding" => return Err(CODING),
                "expect" if value.eq_ignore_ascii_case("100-continue") => fields.expects = true,
                "expect" => return Err(EXPECTATION),
                "connection" => {
                    let has = |word| value.split(',').any(|token| token.trim().eq_ignore_ascii_case(word));
                    fields.close |= has("close");
                    fields.keep_alive |= has("keep-alive");
                }
                "keep-alive" | "proxy-connection" | "te" | "trailer" | "upgrade" => {}
                _ => {
                    fields.hosts += usize::from(name == "host");
                    fields.kept.push((name, value.to_owned()));
                }
            }
        }
        Ok(fields)
    }

    fn framing(&self, modern: bool) -> Result<Framing, Refusal> {
        match (self.length, self.chunked) {
            (Some(_), true) => Err(AMBIGUOUS),
            (None, true) if !modern => Err(AMBIGUOUS),
            (None, true) => Ok(Framing::Chunked),
            (Some(length), false) if length > MAX_BODY => Err(TOO_LARGE),
            (length, false) => Ok(Framing::Length(length.unwrap_or(0))),
        }
    }
}

/// Digits and nothing else; a number that is too large to be counted is too large to be sent.
fn length(value: &str) -> Result<usize, Refusal> {
    match value.bytes().all(|byte| byte.is_ascii_digit()) && !value.is_empty() {
        true => value.parse().map_err(|_| TOO_LARGE),
        false => Err(BAD),
    }
}

/// The path and query of a request's target, which may be a whole URL (RFC 9112, 3.2.2) or an asterisk; bytes beyond ASCII
/// as percent signs.
fn origin(target: &str) -> Option<String> {
    let scheme = ["http://", "https://"]
        .into_iter()
        .find(|scheme| target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)));
    let target = match scheme {
        Some(scheme) => {
            let rest = &target[scheme.len()..];
            &rest[rest.find(['/', '?']).unwrap_or(rest.len())..]
        }
        None if target.starts_with('/') || target == "*" => target,
        None => return None,
    };
    let slash = if scheme.is_some() && !target.starts_with('/') { "/" } else { "" };
    let mut whole = String::from(slash);
    for byte in target.bytes() {
        match byte {
            b'!'..=b'~' => whole.push(char::from(byte)),
            _ => whole.push_str(&format!("%{byte:02X}")),
        }
    }
    Some(whole)
}

/// The part of a target before the query.
pub fn path_of(target: &str) -> &str {
    target.split_once('?').map_or(target, |(path, _)| path)
}

/// The part of a target after the question mark; empty if there is none.
pub fn query_of(target: &str) -> &str {
    target.split_once('?').map_or("", |(_, query)| query)
}

/// A path with its percent signs decoded, once. `None` if one is not followed by two hexadecimal digits, or if what comes out
/// is not UTF-8 or holds a NUL.
pub fn decoded(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        match (first, after) {
            (b'%', [high, low, after @ ..]) => {
                bytes.push(digit(*high)? << 4 | digit(*low)?);
                rest = after;
            }
            (b'%', _) => return None,
            (byte, _) => bytes.push(*byte),
        }
    }
    String::from_utf8(bytes).ok().filter(|path| !path.contains('\0'))
}

/// Reads one request after the other out of one connection's bytes.
#[derive(Default)]
pub struct Reader {
    bytes: Vec<u8>,
    stage: ReadStage,
}

enum ReadStage {
    /// Up to here there is no end of a head.
    RequestHead(usize),
    Body(RequestHead, usize),
    Chunks(RequestHead, Chunks),
}

impl Default for ReadStage {
    fn default() -> ReadStage {
        ReadStage::RequestHead(0)
    }
}

/// How far a request has come.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// More bytes are needed.
    More,
    /// More bytes are needed, and the client waits for `100 Continue` before it sends them.
    Expected,
    /// Here it is, whole.
    Whole(Box<Request>),
}

impl Reader {
    /// Takes bytes in: no more than there is room for.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Whether nothing of a request has come.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty() && matches!(self.stage, ReadStage::RequestHead(_))
    }

    /// Whether bytes may be fed before the next look: what was fed is bounded.
    pub fn has_room(&self) -> bool {
        match &self.stage {
            ReadStage::RequestHead(_) => self.bytes.len() < MAX_HEAD,
            _ => true,
        }
    }

    /// Bytes of memory that the request takes so far.
    pub fn held(&self) -> usize {
        let body = match &self.stage {
            ReadStage::Chunks(_, chunks) => chunks.held(),
            ReadStage::Body(_, length) => *length,
            ReadStage::RequestHead(_) => 0,
        };
        self.bytes.len().max(body)
    }

    /// Looks at what has come. After a refusal nothing can be known of what follows: the connection has to end.
    pub fn take_request(&mut self) -> Result<Progress, Refusal> {
        if let ReadStage::RequestHead(seen) = self.stage {
            match self.head(seen)? {
                Some(head) if self.bytes.is_empty() && head.expects && head.framing != Framing::Length(0) => {
                    self.stage = ReadStage::of(head);
                    return Ok(Progress::Expected);
                }
                Some(head) => self.stage = ReadStage::of(head),
                None => return Ok(Progress::More),
            }
        }
        let whole = match &mut self.stage {
            ReadStage::RequestHead(_) => false,
            ReadStage::Body(_, length) => self.bytes.len() >= *length,
            ReadStage::Chunks(_, chunks) => chunks.take(&mut self.bytes)?,
        };
        match std::mem::take(&mut self.stage) {
            ReadStage::Body(head, length) if whole => {
                let rest = self.bytes.split_off(length);
                let body = std::mem::replace(&mut self.bytes, rest);
                Ok(Progress::Whole(Box::new(Request { head, body })))
            }
            ReadStage::Chunks(head, chunks) if whole => {
                Ok(Progress::Whole(Box::new(Request { head, body: chunks.into_body() })))
            }
            other => {
                self.stage = other;
                Ok(Progress::More)
            }
        }
    }

    /// The head, once it is there. Its end is looked for in new bytes only, so a byte at a time costs no more than all at once.
    fn head(&mut self, seen: usize) -> Result<Option<RequestHead>, Refusal> {
        // Some clients send an empty line after a body (RFC 9112, 2.2).
        let empty = self.bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        self.bytes.drain(..if seen == 0 { empty } else { 0 });
        if self.bytes.first().is_some_and(|byte| !byte.is_ascii_alphabetic()) {
            return Err(BAD);
        }
        let from = seen.min(self.bytes.len()).saturating_sub(END_OF_HEAD);
        match end_of_head(&self.bytes, from) {
            Some(end) if end <= MAX_HEAD => {
                let head = RequestHead::parse(&self.bytes[..end])?;
                self.bytes.drain(..end);
                Ok(Some(head))
            }
            None if self.bytes.len() < MAX_HEAD => {
                self.stage = ReadStage::RequestHead(self.bytes.len());
                Ok(None)
            }
            _ => Err(HEAD_TOO_LARGE),
        }
    }

    /// Gives memory back that nothing needs while the client is idle.
    pub fn shrink(&mut self) {
        if self.bytes.is_empty() {
            self.bytes = Vec::new();
        }
    }
}

impl ReadStage {
    fn of(head: RequestHead) -> ReadStage {
        match head.framing {
            Framing::Length(length) => ReadStage::Body(head, length),
            Framing::Chunked => ReadStage::Chunks(head, Chunks::default()),
        }
    }
}

const TOO_MANY_HEADERS: Refusal = Refusal(431, "Too many headers");
const HEAD_TOO_LARGE: Refusal = Refusal(431, "Request head too large");
const BAD_TARGET: Refusal = Refusal(400, "Invalid request target");
const AMBIGUOUS: Refusal = Refusal(400, "Ambiguous request length");
const HOST: Refusal = Refusal(400, "Exactly one Host header is required");
const CODING: Refusal = Refusal(501, "Unsupported transfer coding");
const EXPECTATION: Refusal = Refusal(417, "Unknown expectation");
const VERSION: Refusal = Refusal(505, "HTTP version not supported");

/// Most bytes of a request's head: line, headers, empty line.
pub const MAX_HEAD: usize = 16 * 1024;
/// Most headers of one request.
const MAX_HEADERS: usize = 64;
/// Bytes of the end of a head that may have come before the last of them.
const END_OF_HEAD: usize = 3;

#[cfg(test)]
mod tests;
