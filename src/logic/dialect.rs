//! What the generations of the original do differently, and how a generation is told. Nothing outside asks which one a peer is of.
//!
//! ```text
//!            handshake     signals              check of certificates             datagrams          pool connections
//!  1.5       two lines     URLs without users   none                              as they are        ids in hex
//!  1.6       two lines     URLs, raw            none                              as they are        ids in hex; used again
//!  1.7       two lines     URLs                 none                              as they are        ids in either form; used again
//!  1.8       two lines     URLs, one more       none                              as they are        used again
//!  1.10      two lines     URLs                 the server names a connection     as they are
//!  1.12      two lines     URLs                 the server names a connection     as they are        several QUIC connections
//!  1.13      HTTP          URLs                 the server names a connection     as they are
//!  1.14      HTTP          JSON                 both (tls=1), the server (tls=2)  as they are
//!  2.0b8     HTTP in TLS   JSON                 both, tls=1 alone, hex            as they are
//!  2.0       HTTP in TLS   JSON                 both, tls=1 alone, hex            with their length
//! ```

mod lines;
mod url;

pub use self::lines::{key_line, tearing, KeyLine};
use std::time::Duration;

use super::wire::{encode, mask, push_masked, unmasked, BadLine, Fingerprint, Id, Signal};

/// The parameter `wire`: which generations of the original are spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wire {
    /// All from 1.13 on, as the peer shows its own; and the authenticated handshake.
    #[default]
    Auto,
    /// That one alone.
    Only(Dialect),
}

impl Wire {
    /// The value's name in a URL.
    pub fn name(self) -> &'static str {
        match self {
            Wire::Auto => "auto",
            Wire::Only(dialect) => dialect.name(),
        }
    }

    /// The value of that name.
    pub fn named(name: &str) -> Option<Wire> {
        let only = Dialect::ALL.into_iter().map(Wire::Only);
        [Wire::Auto].into_iter().chain(only).find(|wire| wire.name() == name)
    }

    /// What a peer speaks that made or answered the original's handshake over HTTP, inside TLS or not, with those features in common.
    /// `None` if that generation is not wanted.
    ///
    /// An original from 1.15 on makes it inside TLS. One of 1.13 shows itself by its first signal.
    pub fn agreed(self, tls: bool, ours: bool) -> Option<Dialect> {
        match self {
            Wire::Auto if tls && !ours => Some(Dialect::Second),
            Wire::Auto => Some(Dialect::Json),
            Wire::Only(dialect) => (!dialect.is_older() && dialect.handshake_in_tls() == tls).then_some(dialect),
        }
    }

    /// The generation whose handshake is two lines, if that is the one.
    pub fn older(self) -> Option<Dialect> {
        match self {
            Wire::Only(dialect) => Some(dialect).filter(|dialect| dialect.is_older()),
            Wire::Auto => None,
        }
    }
}

/// A generation of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// 1.4 and 1.5.
    V1_5,
    /// 1.6.
    V1_6,
    /// 1.7. Whether its ids are digits, as those of 1.6, or bytes, as those of 1.8, is not known.
    V1_7,
    /// 1.8 and 1.9.
    V1_8,
    /// 1.10.
    V1_10,
    /// 1.11 and 1.12.
    V1_12,
    /// 1.13.
    Url,
    /// 1.14, and two of this program without authentication.
    Json,
    /// 1.15 to 2.0.0-b8.
    SecondRaw,
    /// From 2.0.0-b9 on.
    Second,
}

impl Dialect {
    const ALL: [Dialect; 10] = [
        Dialect::V1_5,
        Dialect::V1_6,
        Dialect::V1_7,
        Dialect::V1_8,
        Dialect::V1_10,
        Dialect::V1_12,
        Dialect::Url,
        Dialect::Json,
        Dialect::SecondRaw,
        Dialect::Second,
    ];

    /// As the parameter `wire` has it, and in the log.
    pub fn name(self) -> &'static str {
        match self {
            Dialect::V1_5 => "1.5",
            Dialect::V1_6 => "1.6",
            Dialect::V1_7 => "1.7",
            Dialect::V1_8 => "1.8",
            Dialect::V1_10 => "1.10",
            Dialect::V1_12 => "1.12",
            Dialect::Url => "1.13",
            Dialect::Json => "1.14",
            Dialect::SecondRaw => "2.0b8",
            Dialect::Second => "2.0",
        }
    }

    /// Whether its handshake is two lines on what is then the control connection. It proves nothing and gives the key away.
    pub fn is_older(self) -> bool {
        matches!(self, Dialect::V1_8 | Dialect::V1_10 | Dialect::V1_12) || self.has_bare_marks()
    }

    /// Whether its lines are not in base64, so that some keys tear them apart; its ids are digits.
    pub fn is_raw(self) -> bool {
        matches!(self, Dialect::V1_5 | Dialect::V1_6)
    }

    /// Whether its signals without an address have no scheme either.
    fn has_bare_marks(self) -> bool {
        self.is_raw() || self == Dialect::V1_7
    }

    /// Whether its handshake comes inside TLS at any port.
    pub fn handshake_in_tls(self) -> bool {
        matches!(self, Dialect::SecondRaw | Dialect::Second)
    }

    /// Whether datagrams have their length before them.
    pub fn frames(self) -> bool {
        self == Dialect::Second
    }

    /// Whether the peer may launch a pool connection again that it has used, and takes for idle.
    pub fn uses_again(self) -> bool {
        self.has_bare_marks() || self == Dialect::V1_8
    }

    /// How many QUIC connections a client may make for a pool of at most `max`.
    pub fn quic_connections(self, max: usize) -> usize {
        match self {
            Dialect::V1_12 => max.div_ceil(STREAMS).clamp(1, MAX_CONNECTIONS),
            _ => 1,
        }
    }

    /// The bytes that make a connection a pool connection with that id. To 1.7 they are written as to 1.8: that is a guess.
    pub fn id_bytes(self, id: Id) -> Vec<u8> {
        match self.is_raw() {
            true => id.to_string().into_bytes(),
            false => id.0.to_vec(),
        }
    }

    /// What the first bytes of a pool connection are.
    ///
    /// One of 1.7 whose first four bytes are digits goes on with four more, or those are all of it. That random bytes look like digits
    /// happens once in 65 536 times; with a user's bytes right behind them they may be taken for an id of digits, or for none.
    pub fn id(self, bytes: &[u8]) -> IdBytes {
        let length = match self {
            Dialect::V1_7 if bytes.len() >= ID && bytes.iter().all(is_digit) => ID_DIGITS,
            _ if self.is_raw() => ID_DIGITS,
            _ => ID,
        };
        let whole = match bytes.len() {
            ID if !self.is_raw() => bytes.try_into().ok().map(Id),
            ID_DIGITS if length == ID_DIGITS => std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok()),
            _ => None,
        };
        match (whole, length.checked_sub(bytes.len())) {
            (Some(id), Some(0)) => IdBytes::Whole(id),
            (Some(id), Some(more)) => IdBytes::Perhaps(id, more),
            (None, Some(more @ 1..)) => IdBytes::Need(more),
            _ => IdBytes::Bad,
        }
    }

    /// Whether this side states the certificate that it knows. Not to 1.13 and older, which compare nothing.
    pub fn states_certificate(self, tls: u8, is_server: bool) -> bool {
        match self {
            Dialect::Json => tls == 1 || (tls == 2 && is_server),
            Dialect::SecondRaw | Dialect::Second => tls == 1,
            _ => false,
        }
    }

    /// What a peer of this generation turns out to speak by a statement of its certificate's. One behind a proxy that ends TLS is taken for
    /// a 2.0 before; only 1.17 and older write colons, and only 1.14 states nothing.
    pub fn after_statement(self, fp: &str) -> Dialect {
        let digits = fp.strip_prefix("sha256:").unwrap_or(fp);
        match self {
            Dialect::Second if fp.is_empty() || digits.contains(':') => Dialect::SecondRaw,
            dialect => dialect,
        }
    }

    /// A fingerprint in the form that the peer compares.
    pub fn fingerprint(self, fp: Fingerprint) -> String {
        match self {
            Dialect::SecondRaw | Dialect::Second => fp.bare(),
            _ => fp.to_string(),
        }
    }

    /// Appends `signal` to `out` as the line that an original of this generation expects under `key`, newline included.
    pub fn encode(self, signal: &Signal, key: &[u8], out: &mut Vec<u8>) {
        match self {
            Dialect::Json | Dialect::SecondRaw | Dialect::Second => encode(signal, key, out),
            _ => self.push_line(self.to_url(signal), key, out),
        }
    }

    /// The signal in a line of an original's, without its newline, and the generation that the line shows.
    pub fn decode(self, line: &[u8], key: &[u8]) -> Result<(Signal, Dialect), BadLine> {
        let text = self.line_text(line, key)?;
        match self {
            Dialect::Json | Dialect::Url if url::is_url(&text) => Ok((Dialect::Url.parse_url(&text)?, Dialect::Url)),
            _ if self.is_older() => Ok((self.parse_url(&text)?, self)),
            _ => Ok((Signal::parse(&text)?, self)),
        }
    }

    /// Appends `text` as a line under `key`, newline included.
    fn push_line(self, text: String, key: &[u8], out: &mut Vec<u8>) {
        if !self.is_raw() {
            return push_masked(text.into_bytes(), key, out);
        }
        let start = out.len();
        out.extend_from_slice(text.as_bytes());
        mask(&mut out[start..], key);
        out.push(b'\n');
    }

    /// The text of a line, without its newline.
    fn line_text(self, line: &[u8], key: &[u8]) -> Result<Vec<u8>, BadLine> {
        if !self.is_raw() {
            return unmasked(line, key);
        }
        let mut text = line.to_vec();
        mask(&mut text, key);
        Ok(text)
    }
}

/// What the first bytes of a pool connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdBytes {
    /// So many more have to come. What follows the id belongs to a user.
    Need(usize),
    /// Its id, if not so many more come within [`ID_REST`].
    Perhaps(Id, usize),
    /// Its id.
    Whole(Id),
    /// None.
    Bad,
}

/// A digit of an id as originals write it.
fn is_digit(byte: &u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

/// For so long the second half of an id is waited for: what is written at once comes at once, or once more after a loss.
pub const ID_REST: Duration = Duration::from_secs(2);
/// Bytes of an id.
const ID: usize = 4;
/// Digits of one.
const ID_DIGITS: usize = 2 * ID;
/// Streams of one QUIC connection, where a client makes several.
const STREAMS: usize = 128;
/// Most QUIC connections of such a client.
const MAX_CONNECTIONS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::wire::MAX_REMOTE;

    const KEY: &[u8] = b"testkey";

    fn line(text: &str) -> Vec<u8> {
        let mut line = Vec::new();
        push_masked(text.as_bytes().to_vec(), KEY, &mut line);
        line.pop();
        line
    }

    fn read(dialect: Dialect, text: &str) -> Result<(Signal, Dialect), BadLine> {
        dialect.decode(&line(text), KEY)
    }

    #[test]
    fn a_line_shows_the_generation_that_wrote_it() {
        let (remote, id) = ("[::1]:5000".to_owned(), Id([0x0f, 0x85, 0x41, 0x55]));
        for (text, signal) in [
            ("np:#i", Signal::Ping),
            ("#o", Signal::Pong),
            ("np:#f", Signal::Flush),
            ("np://[::1]:5000/0f854155#1", Signal::Tcp { remote: remote.clone(), id }),
            ("np://[::1]:5000/0f854155#2", Signal::Udp { remote, id }),
            ("np://192.0.2.1:9/0f854155#v", Signal::Verify { id, fp: String::new() }),
        ] {
            assert_eq!(read(Dialect::Json, text), Ok((signal, Dialect::Url)), "{text}");
        }
        assert_eq!(read(Dialect::Json, r#"{"action":"ping"}"#), Ok((Signal::Ping, Dialect::Json)));
        assert!(read(Dialect::Second, "np:#i").is_err(), "none after 1.13 writes so");
        for bad in ["np:", "np://#1", "np://h/zz#1", "np://h#2", "np:#", "np:#c"] {
            assert!(read(Dialect::Json, bad).is_err(), "{bad}");
        }
        assert_eq!(read(Dialect::V1_8, "np:#c"), Ok((Signal::Flush, Dialect::V1_8)), "the peer drops what is idle");
        assert_eq!(read(Dialect::V1_10, r#"{"action":"ping"}"#), Err(BadLine::Json), "none before 1.14 writes so");
        let long = format!("np://{}/0f854155#1", "1".repeat(MAX_REMOTE + 1));
        assert_eq!(read(Dialect::Url, &long), Err(BadLine::Field));
    }

    #[test]
    fn what_is_written_is_read_again_in_each_generation() {
        let id = Id([1, 2, 3, 4]);
        for dialect in Dialect::ALL {
            // 1.5 does not say who a user is.
            let remote = if dialect == Dialect::V1_5 { String::new() } else { "h:1".into() };
            for signal in [Signal::Ping, Signal::Pong, Signal::Flush, Signal::Tcp { remote, id }] {
                let mut line = Vec::new();
                dialect.encode(&signal, KEY, &mut line);
                assert_eq!(dialect.decode(&line[..line.len() - 1], KEY), Ok((signal, dialect)));
            }
            let fp = Fingerprint::of(b"leaf");
            assert_eq!(dialect.fingerprint(fp).parse(), Ok(fp));
        }
    }

    #[test]
    fn the_handshake_tells_a_generation_unless_wire_does() {
        assert_eq!(Wire::Auto.agreed(false, false), Some(Dialect::Json));
        assert_eq!(Wire::Auto.agreed(true, false), Some(Dialect::Second));
        assert_eq!(Wire::Auto.agreed(true, true), Some(Dialect::Json), "ours, behind TLS");
        let only = Wire::named("2.0b8").unwrap();
        assert_eq!((only.agreed(true, false), only.agreed(false, false)), (Some(Dialect::SecondRaw), None));
        let older = Wire::named("1.12").unwrap();
        assert_eq!((older.agreed(true, false), older.agreed(false, false)), (None, None), "it has no HTTP");
        assert_eq!((older.older(), only.older(), Wire::Auto.older()), (Some(Dialect::V1_12), None, None));
        assert_eq!(Wire::named("1.11"), None);
    }

    /// The id that `bytes` begin with, which come in pieces of that size and no more after them, and how many of them are taken.
    fn read_id(dialect: Dialect, bytes: &[u8], piece: usize) -> (IdBytes, usize) {
        let mut taken = 0;
        loop {
            let answer = dialect.id(&bytes[..taken]);
            match answer {
                IdBytes::Need(more) | IdBytes::Perhaps(_, more) if taken < bytes.len() => {
                    taken = bytes.len().min(taken + more.min(piece));
                }
                _ => return (answer, taken),
            }
        }
    }

    #[test]
    fn an_id_is_four_bytes_or_eight_digits_in_1_6() {
        let id = Id([0x0f, 0x85, 0x41, 0x55]);
        assert_eq!(Dialect::V1_6.id_bytes(id), b"0f854155");
        assert_eq!(Dialect::V1_5.id_bytes(id), b"0f854155");
        assert_eq!(Dialect::V1_8.id_bytes(id), id.0);
        for dialect in Dialect::ALL {
            let bytes = dialect.id_bytes(id);
            for piece in 1..=bytes.len() {
                let followed = [&bytes[..], b"a user's"].concat();
                assert_eq!(read_id(dialect, &followed, piece), (IdBytes::Whole(id), bytes.len()), "{dialect:?}");
            }
            assert_eq!(dialect.id(b"123"), IdBytes::Need(bytes.len() - 3));
            assert_eq!(dialect.id(b"0f854155a"), IdBytes::Bad);
        }
        assert_eq!(Dialect::V1_6.id(b"0f85415x"), IdBytes::Bad);
        assert_eq!(Dialect::V1_6.id(b"0f85"), IdBytes::Need(4), "that of 1.7 may be whole");
    }

    #[test]
    fn an_id_of_1_7_is_read_in_either_form_in_any_pieces() {
        let id = Id([0x0f, 0x85, 0x41, 0x55]);
        for piece in 1..=8 {
            assert_eq!(read_id(Dialect::V1_7, b"0f854155", piece), (IdBytes::Whole(id), 8));
            assert_eq!(read_id(Dialect::V1_7, b"0f854155and a user's", piece), (IdBytes::Whole(id), 8));
            assert_eq!(read_id(Dialect::V1_7, &id.0, piece), (IdBytes::Whole(id), 4));
            assert_eq!(read_id(Dialect::V1_7, b"\x0f\x85\x41\x55and a user's", piece), (IdBytes::Whole(id), 4));
            // Three of four: no digits.
            assert_eq!(read_id(Dialect::V1_7, b"0f8Fabcd", piece), (IdBytes::Whole(Id(*b"0f8F")), 4));
        }
        // Bytes that look like digits.
        assert_eq!(Dialect::V1_7.id(b"0f85"), IdBytes::Perhaps(Id(*b"0f85"), 4));
        assert_eq!(Dialect::V1_7.id(b"0f8541"), IdBytes::Need(2), "no id ends here");
        for bytes in [&b"0f85x"[..], b"0f8541x5"] {
            assert_eq!(Dialect::V1_7.id(bytes), IdBytes::Bad, "{bytes:?}");
        }
    }

    #[test]
    fn a_client_of_1_12_makes_a_quic_connection_for_each_128_of_its_pool() {
        for (max, connections) in [(0, 1), (1, 1), (128, 1), (129, 2), (1024, 8), (65535, 64)] {
            assert_eq!(Dialect::V1_12.quic_connections(max), connections, "{max}");
            assert_eq!(Dialect::Url.quic_connections(max), 1);
        }
    }

    #[test]
    fn a_statement_of_a_certificate_shows_an_older_wire_inside_tls() {
        let fp = Fingerprint::of(b"leaf");
        for (dialect, stated, shown) in [
            (Dialect::Second, fp.bare(), Dialect::Second),
            (Dialect::Second, fp.to_string(), Dialect::SecondRaw),
            (Dialect::Second, String::new(), Dialect::SecondRaw),
            (Dialect::Json, fp.to_string(), Dialect::Json),
            (Dialect::Url, String::new(), Dialect::Url),
        ] {
            assert_eq!(dialect.after_statement(&stated), shown, "{dialect:?} {stated}");
        }
    }

    #[test]
    fn a_line_of_1_5_names_a_connection_alone_and_an_empty_one_of_1_4_is_a_sign_of_life() {
        let id = Id([0x0f, 0x85, 0x41, 0x55]);
        let mut line = Vec::new();
        Dialect::V1_5.encode(&Signal::Udp { remote: "192.0.2.1:9".into(), id }, &[0; 3], &mut line);
        assert_eq!(line, b"//0f854155#2\n");
        let read = |text: &[u8]| Dialect::V1_5.decode(text, &[0; 3]).map(|(signal, _)| signal);
        assert_eq!(read(b"//0f854155#1"), Ok(Signal::Tcp { remote: String::new(), id }));
        assert_eq!((read(b"#i"), read(b"#0"), read(b"")), (Ok(Signal::Ping), Ok(Signal::Flush), Ok(Signal::Pong)));
        assert_eq!(read(b"np://192.0.2.1:9/0f854155#1"), Err(BadLine::Field), "1.6 writes so");
        assert!(Dialect::V1_6.decode(b"", &[0; 3]).is_err());
    }

    #[test]
    fn a_line_of_1_7_is_in_base64_and_has_the_marks_of_1_6() {
        for (signal, text) in [(Signal::Ping, "#i"), (Signal::Flush, "#0")] {
            let mut written = Vec::new();
            Dialect::V1_7.encode(&signal, KEY, &mut written);
            written.pop();
            assert_eq!(written, line(text));
            assert_eq!(read(Dialect::V1_7, text), Ok((signal, Dialect::V1_7)));
        }
        assert_eq!(read(Dialect::V1_7, "np:#f"), Err(BadLine::Unknown), "1.8 writes so");
    }

    #[test]
    fn a_line_of_1_6_is_not_in_base64() {
        let mut line = Vec::new();
        Dialect::V1_6.encode(&Signal::Ping, b"KEY", &mut line);
        assert_eq!(line, [b'#' ^ b'K', b'i' ^ b'E', b'\n']);
        let mut line = Vec::new();
        Dialect::V1_6.encode(&Signal::Flush, b"KEY", &mut line);
        assert_eq!(line, [b'#' ^ b'K', b'0' ^ b'E', b'\n']);
    }
}
