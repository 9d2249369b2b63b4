//! What the generations of the original do differently, and how a generation is told. Nothing outside asks which one a peer is of.
//!
//! ```text
//!            handshake     signals              check of certificates             datagrams          pool connections
//!  1.5       two lines     URLs without users   none                              as they are        ids in hex
//!  1.6       two lines     URLs, raw            none                              as they are        ids in hex; used again
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
    const ALL: [Dialect; 9] = [
        Dialect::V1_5,
        Dialect::V1_6,
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
        matches!(self, Dialect::V1_8 | Dialect::V1_10 | Dialect::V1_12) || self.is_raw()
    }

    /// Whether its lines are not in base64, and its ids are digits.
    fn is_raw(self) -> bool {
        matches!(self, Dialect::V1_5 | Dialect::V1_6)
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
        matches!(self, Dialect::V1_5 | Dialect::V1_6 | Dialect::V1_8)
    }

    /// How many QUIC connections a client may make for a pool of at most `max`.
    pub fn quic_connections(self, max: usize) -> usize {
        match self {
            Dialect::V1_12 => max.div_ceil(STREAMS).clamp(1, MAX_CONNECTIONS),
            _ => 1,
        }
    }

    /// The bytes that make a connection a pool connection with that id.
    pub fn id_bytes(self, id: Id) -> Vec<u8> {
        match self {
            Dialect::V1_5 | Dialect::V1_6 => id.to_string().into_bytes(),
            _ => id.0.to_vec(),
        }
    }

    /// How many these are.
    pub fn id_length(self) -> usize {
        self.id_bytes(Id([0; 4])).len()
    }

    /// The id that these bytes are.
    pub fn id(self, bytes: &[u8]) -> Option<Id> {
        match self {
            Dialect::V1_5 | Dialect::V1_6 => std::str::from_utf8(bytes).ok()?.parse().ok(),
            _ => bytes.try_into().ok().map(Id),
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
            return push_masked(text, key, out);
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
        push_masked(text.to_owned(), KEY, &mut line);
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

    #[test]
    fn an_id_is_four_bytes_or_eight_digits_in_1_6() {
        let id = Id([0x0f, 0x85, 0x41, 0x55]);
        assert_eq!(Dialect::V1_6.id_bytes(id), b"0f854155");
        assert_eq!(Dialect::V1_5.id_bytes(id), b"0f854155");
        assert_eq!(Dialect::V1_8.id_bytes(id), id.0);
        for dialect in Dialect::ALL {
            assert_eq!(dialect.id(&dialect.id_bytes(id)), Some(id));
            assert_eq!(dialect.id_bytes(id).len(), dialect.id_length());
            assert_eq!(dialect.id(b"123"), None);
        }
        assert_eq!(Dialect::V1_6.id(b"0f85415x"), None);
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
    fn a_line_of_1_6_is_not_in_base64() {
        let mut line = Vec::new();
        Dialect::V1_6.encode(&Signal::Ping, b"KEY", &mut line);
        assert_eq!(line, [b'#' ^ b'K', b'i' ^ b'E', b'\n']);
        let mut line = Vec::new();
        Dialect::V1_6.encode(&Signal::Flush, b"KEY", &mut line);
        assert_eq!(line, [b'#' ^ b'K', b'0' ^ b'E', b'\n']);
    }
}
