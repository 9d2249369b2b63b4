//! Bytes and what they mean: pool ids, signals, fingerprints, the token, the PROXY line, UDP frames.
//!
//! ```text
//!  control line   base64( {"action":"tcp","remote":"203.0.113.9:51234","id":"1a2b3c4d"} XOR key ) LF
//!  UDP frame      length (2 bytes, big-endian), then so many bytes of one datagram
//!  PROXY line     PROXY TCP4 203.0.113.9 10.0.0.2 51234 80 CR LF
//! ```

mod fields;

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::str::FromStr;

use self::fields::{Fields, Text};
use super::encoding;
use ring::{digest, hmac};

// ---- ids ------------------------------------------------------------------------------------------------------------

/// The number of a pool connection: four raw bytes at its start, eight lower-case hex digits everywhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(pub [u8; 4]);

/// The id of the control connection, the first of every tunnel.
pub const CONTROL: Id = Id([0; 4]);

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", u32::from_be_bytes(self.0))
    }
}

impl FromStr for Id {
    type Err = Malformed;

    /// Reads eight hex digits of either case.
    fn from_str(text: &str) -> Result<Id, Malformed> {
        hex(text.as_bytes()).map(Id)
    }
}

/// A text that is not what it should be: an id, a fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("malformed")
    }
}

impl std::error::Error for Malformed {}

/// `N` bytes from exactly `2 * N` hex digits.
fn hex<const N: usize>(digits: &[u8]) -> Result<[u8; N], Malformed> {
    let mut bytes = [0; N];
    match encoding::from_hex(digits, &mut bytes) {
        true => Ok(bytes),
        false => Err(Malformed),
    }
}

// ---- signals --------------------------------------------------------------------------------------------------------

/// What one side tells the other on the control connection, one a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    /// A user took a pool connection: dial the target over TCP and relay.
    Tcp {
        /// The user's address, as `ip:port`; at most [`MAX_REMOTE`] bytes.
        remote: String,
        /// The pool connection that the user took.
        id: Id,
    },
    /// The same for a UDP session.
    Udp {
        /// The user's address, as `ip:port`; at most [`MAX_REMOTE`] bytes.
        remote: String,
        /// The pool connection of the session.
        id: Id,
    },
    /// Are you there?
    Ping,
    /// The answer to a ping.
    Pong,
    /// Drop all idle pool connections.
    Flush,
    /// Compare your view of the server's certificate with mine.
    Verify {
        /// The pool connection that was taken for the check.
        id: Id,
        /// The fingerprint as the sender knows it, unparsed; empty where it knows none.
        fp: String,
    },
    /// Another client has this tunnel now (the feature `taken`).
    Taken {
        /// The address of that client; at most [`MAX_REMOTE`] bytes.
        remote: String,
    },
    /// This tunnel is over, the relays that it brought about are not (the feature `goodbye`).
    Goodbye,
    /// This pool connection is dead, and no byte of a user's has come over it: its user needs another (the feature `gone`).
    Gone {
        /// The pool connection.
        id: Id,
    },
    /// Bytes have come over this pool connection, which the peer thinks dead: its user cannot have another (the feature `gone`).
    Kept {
        /// The pool connection.
        id: Id,
    },
    /// Nothing has come over this pool connection of a user, and what was sent over it is not acknowledged (the feature `gone`).
    Doubt {
        /// The pool connection.
        id: Id,
    },
    /// Pool connections will show this certificate from now on (authenticated tunnels).
    Cert {
        /// Its fingerprint, unparsed.
        fp: String,
    },
}

impl Signal {
    /// As JSON. Fields come in the order action, remote, id, fp; empty ones are left out, there are no spaces.
    pub fn to_json(&self) -> Vec<u8> {
        let (action, remote, id, fp) = match self {
            Signal::Tcp { remote, id } => ("tcp", remote.as_str(), Some(id), ""),
            Signal::Udp { remote, id } => ("udp", remote.as_str(), Some(id), ""),
            Signal::Ping => ("ping", "", None, ""),
            Signal::Pong => ("pong", "", None, ""),
            Signal::Flush => ("flush", "", None, ""),
            Signal::Verify { id, fp } => ("verify", "", Some(id), fp.as_str()),
            Signal::Taken { remote } => ("taken", remote.as_str(), None, ""),
            Signal::Goodbye => ("goodbye", "", None, ""),
            Signal::Gone { id } => ("gone", "", Some(id), ""),
            Signal::Kept { id } => ("kept", "", Some(id), ""),
            Signal::Doubt { id } => ("doubt", "", Some(id), ""),
            Signal::Cert { fp } => ("cert", "", None, fp.as_str()),
        };
        let id = id.map(|id| encoding::hex(&id.0)).unwrap_or_default();
        let mut json = Vec::with_capacity(SHORT_LINE);
        for (name, value) in [("action", action), ("remote", remote), ("id", &id), ("fp", fp)] {
            if !value.is_empty() {
                json.extend_from_slice(if json.is_empty() { b"{\"" } else { b",\"" });
                json.extend_from_slice(name.as_bytes());
                json.extend_from_slice(b"\":");
                // A text can be written, and memory takes it.
                let _ = serde_json::to_writer(&mut json, value);
            }
        }
        json.push(b'}');
        json
    }

    /// From JSON.
    pub fn parse(json: &[u8]) -> Result<Signal, BadLine> {
        let Fields { action, remote: Text(remote), id: Text(id), fp: Text(fp) } =
            serde_json::from_slice(json).map_err(|_| BadLine::Json)?;
        let short = |remote: &Cow<'_, str>| remote.len() <= MAX_REMOTE;
        let remote = || remote.filter(short).map(Cow::into_owned).ok_or(BadLine::Field);
        let id = || id.and_then(|id| id.parse().ok()).ok_or(BadLine::Field);
        let fp = || fp.map(Cow::into_owned).ok_or(BadLine::Field);
        Ok(match action.0.as_deref().ok_or(BadLine::Field)? {
            "tcp" => Signal::Tcp { remote: remote()?, id: id()? },
            "udp" => Signal::Udp { remote: remote()?, id: id()? },
            "ping" => Signal::Ping,
            "pong" => Signal::Pong,
            "flush" => Signal::Flush,
            "taken" => Signal::Taken { remote: remote()? },
            "goodbye" => Signal::Goodbye,
            "gone" => Signal::Gone { id: id()? },
            "kept" => Signal::Kept { id: id()? },
            "doubt" => Signal::Doubt { id: id()? },
            "verify" => Signal::Verify { id: id()?, fp: fp()? },
            "cert" => Signal::Cert { fp: fp()? },
            _ => return Err(BadLine::Unknown),
        })
    }
}

/// Appends `signal` to `out` as the line that an original expects under `key`, newline included.
pub fn encode(signal: &Signal, key: &[u8], out: &mut Vec<u8>) {
    push_masked(signal.to_json(), key, out);
}

/// The signal in a line of an original's, without its newline.
pub fn decode(line: &[u8], key: &[u8]) -> Result<Signal, BadLine> {
    Signal::parse(&unmasked(line, key)?)
}

/// Appends `text` as an original's line under `key`, newline included.
pub(super) fn push_masked(mut text: Vec<u8>, key: &[u8], out: &mut Vec<u8>) {
    mask(&mut text, key);
    push_line(&text, out);
}

/// The text of a line of an original's, without its newline.
pub(super) fn unmasked(line: &[u8], key: &[u8]) -> Result<Vec<u8>, BadLine> {
    let mut text = line_bytes(line)?;
    mask(&mut text, key);
    Ok(text)
}

/// Appends a line of any bytes, newline included.
pub fn push_line(bytes: &[u8], out: &mut Vec<u8>) {
    encoding::push_base64(bytes, out);
    out.push(b'\n');
}

/// The bytes of a line, without its newline.
pub fn line_bytes(line: &[u8]) -> Result<Vec<u8>, BadLine> {
    // As forgiving as the original's decoder: stray CRs and set trailing bits do no harm.
    encoding::from_lenient_base64(line).ok_or(BadLine::Encoding)
}

/// What the peer says on the control connection, line by line.
///
/// [`feed`](Lines::feed) what came, then call [`next`](Lines::next) until `None`. Between two feeds it holds no more than
/// [`MAX_LINE`] bytes, and every byte is looked at once, however the lines were cut on their way.
#[derive(Default)]
pub struct Lines {
    bytes: Vec<u8>,
    /// Where the next line starts.
    start: usize,
    /// There is no newline between `start` and here.
    seen: usize,
    /// The line was too long, and its end is still to come.
    skipping: bool,
}

/// Why a line was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadLine {
    /// More than [`MAX_LINE`] bytes: skipped to its newline.
    TooLong,
    /// Not base64.
    Encoding,
    /// Not a signal under this key: neither a JSON object nor, where that is spoken, a URL.
    Json,
    /// A field is missing, of the wrong kind, or too long.
    Field,
    /// A well-formed line with an action that is not known here: perhaps a newer peer.
    Unknown,
    /// Not under the session's key, or said before (authenticated tunnels).
    Forged,
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BadLine::TooLong => "the line is too long",
            BadLine::Encoding => "the line is not base64",
            BadLine::Json => "the line is no signal; is the key the same on both sides?",
            BadLine::Field => "a field of the line is missing or bad",
            BadLine::Unknown => "the action is unknown",
            BadLine::Forged => "the line is not the peer's",
        })
    }
}

impl Lines {
    /// Takes in what came from the peer.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// What `decode` makes of the next line, without its newline; `None` when no whole line is left.
    pub fn next<S>(&mut self, mut decode: impl FnMut(&[u8]) -> Result<S, BadLine>) -> Option<Result<S, BadLine>> {
        loop {
            let newline = self.bytes[self.seen..].iter().position(|&byte| byte == b'\n');
            let Some(length) = newline.map(|at| self.seen + at - self.start) else { return self.keep_rest() };
            let line = &self.bytes[self.start..][..length];
            let signal = match length <= MAX_LINE {
                true => decode(line),
                false => Err(BadLine::TooLong),
            };
            self.start += length + 1;
            self.seen = self.start;
            // The end of a line that was already told as too long.
            if !std::mem::take(&mut self.skipping) {
                return Some(signal);
            }
        }
    }

    /// How many bytes it holds, those of whole lines not yet asked for included.
    pub fn held(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Keeps the beginning of a line for later, unless it is too long already.
    fn keep_rest<S>(&mut self) -> Option<Result<S, BadLine>> {
        self.bytes.drain(..self.start);
        let long = self.bytes.len() > MAX_LINE;
        let news = long && !self.skipping;
        self.skipping |= long;
        if self.skipping {
            self.bytes.clear();
        }
        // What one greedy read took is not kept for the tunnel's life.
        self.bytes.shrink_to(MAX_LINE);
        self.start = 0;
        self.seen = self.bytes.len();
        news.then_some(Err(BadLine::TooLong))
    }
}

/// XOR with the key, again and again from its first byte. An empty key changes nothing.
pub(super) fn mask(bytes: &mut [u8], key: &[u8]) {
    for part in bytes.chunks_mut(key.len().max(1)) {
        part.iter_mut().zip(key).for_each(|(byte, mask)| *byte ^= mask);
    }
}

// ---- fingerprints ---------------------------------------------------------------------------------------------------

/// The SHA-256 digest of a certificate, written as `sha256:` and 32 upper-case hex pairs joined by colons.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of a certificate in DER form.
    pub fn of(der: &[u8]) -> Fingerprint {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, der).as_ref());
        Fingerprint(bytes)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256")?;
        self.0.iter().try_for_each(|byte| write!(f, ":{byte:02X}"))
    }
}

impl Fingerprint {
    /// As originals from 1.18 on write it: `sha256:` and 64 lower-case hex digits.
    pub fn bare(&self) -> String {
        format!("sha256:{}", encoding::hex(&self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Fingerprint {
    type Err = Malformed;

    /// Reads what `Display` or [`Fingerprint::bare`] writes; the hex digits may be of either case.
    fn from_str(text: &str) -> Result<Fingerprint, Malformed> {
        let pairs = text.strip_prefix("sha256:").ok_or(Malformed)?.as_bytes();
        if let Ok(bytes) = hex(pairs) {
            return Ok(Fingerprint(bytes));
        }
        let mut bytes = [0; 32];
        if pairs.len() != 3 * bytes.len() - 1 {
            return Err(Malformed);
        }
        for (byte, pair) in bytes.iter_mut().zip(pairs.chunks(3)) {
            let whole = encoding::from_hex(&pair[..2], std::slice::from_mut(byte));
            if !whole || pair.get(2).is_some_and(|&colon| colon != b':') {
                return Err(Malformed);
            }
        }
        Ok(Fingerprint(bytes))
    }
}

// ---- the token ------------------------------------------------------------------------------------------------------

/// What proves in the handshake that one knows the key: HMAC-SHA256 of nothing, as 64 lower-case hex digits.
pub fn token(key: &[u8]) -> String {
    encoding::hex(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), b"").as_ref())
}

/// Whether `given` is the token of `key`, compared in constant time.
pub fn token_matches(key: &[u8], given: &str) -> bool {
    let mut tag = [0; 32];
    let well_formed = encoding::from_hex(given.as_bytes(), &mut tag) && !given.bytes().any(|b| b.is_ascii_uppercase());
    well_formed && hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, key), b"", &tag).is_ok()
}

// ---- the PROXY line -------------------------------------------------------------------------------------------------

/// The PROXY protocol header, version 1, that tells `target` who the user is. IPv4-mapped addresses are written as IPv4.
///
/// Where only one of the two is IPv4 the line says TCP6 and keeps each address as it is, as the original does.
pub fn proxy_line(user: SocketAddr, target: SocketAddr) -> String {
    let (from, to) = (user.ip().to_canonical(), target.ip().to_canonical());
    let family = match (from, to) {
        (IpAddr::V4(_), IpAddr::V4(_)) => "TCP4",
        _ => "TCP6",
    };
    format!("PROXY {family} {from} {to} {} {}\r\n", user.port(), target.port())
}

// ---- UDP frames -----------------------------------------------------------------------------------------------------

/// What bytes of a framed UDP session begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A whole frame: where its datagram lies. The next frame begins where that ends.
    Whole(Range<usize>),
    /// The beginning of a frame, or nothing.
    Partial,
}

/// The first frame of `bytes`. A datagram may be empty, and is [`MAX_DATAGRAM`] bytes at most.
pub fn next_frame(bytes: &[u8]) -> Frame {
    let Some((length, rest)) = bytes.split_first_chunk() else { return Frame::Partial };
    let length = usize::from(u16::from_be_bytes(*length));
    match length <= rest.len() {
        true => Frame::Whole(FRAME_HEADER..FRAME_HEADER + length),
        false => Frame::Partial,
    }
}

/// What goes before a datagram of `length` bytes.
///
/// No datagram is longer than [`MAX_DATAGRAM`]: the network could not carry it.
pub fn frame_header(length: usize) -> [u8; FRAME_HEADER] {
    debug_assert!(length <= MAX_DATAGRAM, "a datagram of {length} bytes");
    (length.min(MAX_DATAGRAM) as u16).to_be_bytes()
}

// ---- limits ---------------------------------------------------------------------------------------------------------

/// Longest control line, in bytes, its newline not counted.
pub const MAX_LINE: usize = 4096;
/// Longest user address in a signal, in bytes: twice what an IPv6 address with zone and port needs.
pub const MAX_REMOTE: usize = 128;
/// Bytes before each datagram in a UDP frame.
pub const FRAME_HEADER: usize = 2;
/// Longest datagram that a frame can carry, in bytes.
pub const MAX_DATAGRAM: usize = 65535;
/// Bytes that most signals' JSON fits in.
const SHORT_LINE: usize = 96;

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = b"testkey";

    fn line(signal: &Signal) -> String {
        let mut out = Vec::new();
        encode(signal, KEY, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn sealed(json: &str) -> Vec<u8> {
        let mut bytes = json.as_bytes().to_vec();
        mask(&mut bytes, KEY);
        (encoding::base64(&bytes) + "\n").into_bytes()
    }

    fn all(lines: &mut Lines) -> Vec<Result<Signal, BadLine>> {
        std::iter::from_fn(|| lines.next(|line| decode(line, KEY))).collect()
    }

    fn read(bytes: &[u8]) -> Vec<Result<Signal, BadLine>> {
        let mut lines = Lines::default();
        lines.feed(bytes);
        all(&mut lines)
    }

    fn id(text: &str) -> Id {
        text.parse().unwrap()
    }

    /// Signals with the bytes that an original 1.14 sent for them.
    fn recorded() -> Vec<(Signal, &'static str)> {
        let fp = "sha256:45:9D:65:FE:D1:5C:08:F3:75:E8:44:6B:20:0C:7F:E8:\
                  FA:2B:E7:A6:C5:3C:6D:CC:5D:18:42:45:28:7F:E0:0A";
        vec![
            (Signal::Ping, "D0cSFx8MFhpHSVYbDBcTRw4=\n"),
            (Signal::Pong, "D0cSFx8MFhpHSVYbChcTRw4=\n"),
            (
                Signal::Tcp { remote: "127.0.0.1:33560".into(), id: id("d92c21dd") },
                "D0cSFx8MFhpHSVYfBglWSVEGDggWAABRTklUS0NLQ1pbS0hOVkBBXVVbWEcaEElfWxBcQRdZVB0QRw4=\n",
            ),
            (
                Signal::Udp { remote: "127.0.0.1:44799".into(), id: id("e652d575") },
                "D0cSFx8MFhpHSVYeAQlWSVEGDggWAABRTklUS0NLQ1pbS0hOUUdDUlxbWEcaEElfWxFTRkYPUE5BRw4=\n",
            ),
            (Signal::Verify { id: id("6edc5287"), fp: fp.into() }, "D0cSFx8MFhpHSVYdAAsdAwpWR0cQEEdJVl0AHRdQQUxcR1VWAwNWUUcKHARBQV1fTUFfSjBRU0xOIzZOL1RDQSZJRFNfP0df\
                 REFRIEFOUUdOXSdDRlVJRChfTjJfNkxRIzhOVzFOLlJDNVNJN15fSjdfRTBRJjpOUDdOWl1DQFdJQF5fS0xfRDJRIElOVTJWFg==\n"),
            (Signal::Flush, "D0cSFx8MFhpHSVYNCQwHDVEJ\n"),
        ]
    }

    #[test]
    fn signals_are_written_and_read_as_the_original_does() {
        for (signal, recorded) in recorded() {
            assert_eq!(line(&signal), recorded, "{signal:?}");
            assert_eq!(read(recorded.as_bytes()), [Ok(signal)]);
        }
    }

    #[test]
    fn encoding_appends_to_what_is_there() {
        let mut out = line(&Signal::Ping).into_bytes();
        encode(&Signal::Flush, KEY, &mut out);
        assert_eq!(read(&out), [Ok(Signal::Ping), Ok(Signal::Flush)]);
    }

    #[test]
    fn an_empty_key_leaves_the_json_as_it_is() {
        let mut out = Vec::new();
        encode(&Signal::Ping, b"", &mut out);
        assert_eq!(encoding::from_base64(out.trim_ascii_end()).unwrap(), br#"{"action":"ping"}"#);
        let mut lines = Lines::default();
        lines.feed(&out);
        assert_eq!(lines.next(|line| decode(line, b"")), Some(Ok(Signal::Ping)));
    }

    #[test]
    fn an_address_with_quotes_and_control_characters_survives() {
        let signal = Signal::Tcp { remote: "a\"b\\c\n\u{1}\u{fc}".into(), id: id("00000001") };
        assert_eq!(read(line(&signal).as_bytes()), [Ok(signal)]);
    }

    #[test]
    fn lines_may_come_in_any_pieces() {
        let whole: String = recorded().into_iter().map(|(_, line)| line).collect();
        let signals: Vec<_> = recorded().into_iter().map(|(signal, _)| Ok(signal)).collect();
        for size in 1..=whole.len() {
            let mut lines = Lines::default();
            let mut came = Vec::new();
            for piece in whole.as_bytes().chunks(size) {
                lines.feed(piece);
                came.extend(all(&mut lines));
            }
            assert_eq!(came, signals, "pieces of {size}");
            assert_eq!(lines.held(), 0);
        }
    }

    #[test]
    fn what_the_original_reads_without_complaint_is_read_here_too() {
        let crlf = line(&Signal::Ping).replace('\n', "\r\n");
        assert_eq!(read(crlf.as_bytes()), [Ok(Signal::Ping)]);
        for json in [
            r#" { "action" : "ping" } "#,
            r#"{"action":"ping","id":null,"remote":"","more":{"a":[1,2]}}"#,
            r#"{"action":"pong","action":"ping"}"#,
            r#"{"\u0061ction":"p\u0069ng"}"#,
        ] {
            assert_eq!(read(&sealed(json)), [Ok(Signal::Ping)], "{json}");
        }
        // "Pw==" and "Px==" are the same byte: the last four bits mean nothing.
        let loose = line(&Signal::Ping).replace("w4=", "w5=");
        assert_eq!(read(loose.as_bytes()), [Ok(Signal::Ping)]);
        let empty = sealed(r#"{"action":"verify","id":"0000000a"}"#);
        assert_eq!(read(&empty), [Ok(Signal::Verify { id: id("0000000a"), fp: String::new() })]);
    }

    #[test]
    fn a_bad_line_says_why_and_spoils_no_other() {
        let long = format!(r#"{{"action":"tcp","remote":"{}","id":"00000001"}}"#, "9".repeat(MAX_REMOTE + 1));
        let cases: Vec<(Vec<u8>, BadLine)> = vec![
            (b"!!!\n".to_vec(), BadLine::Encoding),
            (b"\n".to_vec(), BadLine::Json),
            (b"AAAA\n".to_vec(), BadLine::Json),
            (sealed(r#"["ping"]"#), BadLine::Json),
            (sealed("null"), BadLine::Json),
            (sealed(r#"{"action":"ping"} x"#), BadLine::Json),
            (sealed(r#"{"action":7}"#), BadLine::Field),
            (sealed(r#"{"action":"tcp","remote":"1.2.3.4:5"}"#), BadLine::Field),
            (sealed(r#"{"action":"udp","remote":"1.2.3.4:5","id":"+0000001"}"#), BadLine::Field),
            (sealed(r#"{"action":"udp","remote":5,"id":"00000001"}"#), BadLine::Field),
            (sealed(r#"{"action":"verify","id":"00000001","fp":[]}"#), BadLine::Field),
            (sealed(&long), BadLine::Field),
            (sealed("{}"), BadLine::Unknown),
            (sealed(r#"{"action":"PING"}"#), BadLine::Unknown),
            (sealed(r#"{"action":"dance","id":9}"#), BadLine::Unknown),
        ];
        for (bad, why) in cases {
            let mut bytes = bad.clone();
            bytes.extend(line(&Signal::Pong).into_bytes());
            assert_eq!(read(&bytes), [Err(why), Ok(Signal::Pong)], "{}", String::from_utf8_lossy(&bad));
        }
    }

    #[test]
    fn a_line_of_the_greatest_length_is_read_and_one_byte_more_is_not() {
        let ping = line(&Signal::Ping);
        let padded = |length: usize| format!("{}{}", "\r".repeat(length + 1 - ping.len()), ping);
        assert_eq!(read(padded(MAX_LINE).as_bytes()), [Ok(Signal::Ping)]);
        assert_eq!(read(padded(MAX_LINE + 1).as_bytes()), [Err(BadLine::TooLong)]);
    }

    #[test]
    fn an_endless_line_is_told_once_and_takes_no_memory() {
        let mut lines = Lines::default();
        let mut told = 0;
        for _ in 0..1000 {
            lines.feed(&[b'A'; 1000]);
            told += all(&mut lines).len();
            assert!(lines.held() <= MAX_LINE && lines.bytes.capacity() <= 2 * MAX_LINE);
        }
        assert_eq!(told, 1);
        lines.feed(format!("AAA\n{}", line(&Signal::Ping)).as_bytes());
        assert_eq!(all(&mut lines), [Ok(Signal::Ping)]);
    }

    #[test]
    fn ids_are_eight_lower_case_hex_digits() {
        assert_eq!(Id([0x0a, 0xb0, 0, 1]).to_string(), "0ab00001");
        assert_eq!("0AB00001".parse(), Ok(Id([0x0a, 0xb0, 0, 1])));
        assert_eq!(CONTROL.to_string(), "00000000");
        for bad in ["", "0ab0000", "0ab000011", "0ab0000g", "+ab00001", " 0ab0001", "0x000001", "0ab\u{fc}001"] {
            assert_eq!(bad.parse::<Id>(), Err(Malformed), "{bad:?}");
        }
    }

    #[test]
    fn fingerprints_are_written_and_read_back() {
        let empty = "sha256:E3:B0:C4:42:98:FC:1C:14:9A:FB:F4:C8:99:6F:B9:24:\
                     27:AE:41:E4:64:9B:93:4C:A4:95:99:1B:78:52:B8:55";
        assert_eq!(Fingerprint::of(b"").to_string(), empty);
        assert_eq!(empty.parse(), Ok(Fingerprint::of(b"")));
        let lower = empty.to_lowercase();
        assert_eq!(lower.parse(), Ok(Fingerprint::of(b"")));
        let shifted = empty.replace(':', "");
        let spoilt = empty.replacen(":27", "-27", 1);
        let bad =
            ["", "sha256:", &empty[7..], &empty[..empty.len() - 1], &shifted, &spoilt, &empty.replace("E3", "+3")];
        for bad in bad {
            assert_eq!(bad.parse::<Fingerprint>(), Err(Malformed), "{bad}");
        }
    }

    #[test]
    fn the_token_is_the_one_of_the_wire_and_nothing_else_matches() {
        let right = "4f664264c65c12b2b3499b3ba29c6e4c77b80e4af6671a7729dc42a9c8c82247";
        assert_eq!(token(KEY), right);
        assert!(token_matches(KEY, right));
        for wrong in ["", "4f66", &right[..63], &right.replace('7', "8"), &right.to_uppercase(), &format!("{right}00")]
        {
            assert!(!token_matches(KEY, wrong), "{wrong}");
        }
        assert!(!token_matches(b"other", right));
        assert!(!token_matches(b"", right));
    }

    #[test]
    fn the_proxy_line_names_the_family_and_unmaps_addresses() {
        let line = |user: &str, target: &str| proxy_line(user.parse().unwrap(), target.parse().unwrap());
        assert_eq!(line("203.0.113.9:51234", "10.0.0.2:80"), "PROXY TCP4 203.0.113.9 10.0.0.2 51234 80\r\n");
        assert_eq!(line("[2001:db8::9]:1", "[::1]:65535"), "PROXY TCP6 2001:db8::9 ::1 1 65535\r\n");
        assert_eq!(line("[::ffff:203.0.113.9]:1", "10.0.0.2:80"), "PROXY TCP4 203.0.113.9 10.0.0.2 1 80\r\n");
        assert_eq!(line("[2001:db8::9]:1", "10.0.0.2:80"), "PROXY TCP6 2001:db8::9 10.0.0.2 1 80\r\n");
        assert_eq!(line("203.0.113.9:1", "[::1]:80"), "PROXY TCP6 203.0.113.9 ::1 1 80\r\n");
    }

    #[test]
    fn frames_come_back_as_they_went_in_and_a_part_of_one_is_none() {
        let datagrams = [vec![], vec![1], vec![2; 300], vec![3; MAX_DATAGRAM]];
        let mut bytes = Vec::new();
        for datagram in &datagrams {
            bytes.extend(frame_header(datagram.len()));
            bytes.extend(datagram);
        }
        let mut rest = &bytes[..];
        for datagram in &datagrams {
            assert_eq!(next_frame(&rest[..FRAME_HEADER - 1]), Frame::Partial);
            let Frame::Whole(payload) = next_frame(rest) else { panic!("no frame of {}", datagram.len()) };
            assert_eq!(&rest[payload.clone()], datagram);
            assert_eq!(next_frame(&rest[..payload.end - 1]), Frame::Partial);
            rest = &rest[payload.end..];
        }
        assert_eq!(next_frame(rest), Frame::Partial);
    }
}
