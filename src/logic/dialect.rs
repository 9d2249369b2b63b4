//! What the generations of the original do differently after the handshake, and how a generation is told. Nothing outside asks
//! which one a peer is of.
//!
//! ```text
//!            signals   check of certificates             datagrams
//!  1.13      URLs      the server names a connection     as they are
//!  1.14      JSON      both (tls=1), the server (tls=2)  as they are
//!  2.0b8     JSON      both, tls=1 alone, hex            as they are
//!  2.0       JSON      both, tls=1 alone, hex            with their length
//! ```

use super::wire::{encode, push_masked, unmasked, BadLine, Fingerprint, Id, Signal, MAX_REMOTE};

/// The parameter `wire`: which generations of the original are spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wire {
    /// All, as the peer shows its own; and the authenticated handshake.
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

    /// What a peer speaks that made or answered the original's handshake, inside TLS or not, with those features in common. `None`
    /// if that generation is not wanted.
    ///
    /// An original from 1.15 on makes it inside TLS. One of 1.13 shows itself by its first signal.
    pub fn agreed(self, tls: bool, ours: bool) -> Option<Dialect> {
        match self {
            Wire::Auto if tls && !ours => Some(Dialect::Second),
            Wire::Auto => Some(Dialect::Json),
            Wire::Only(dialect) => (dialect.handshake_in_tls() == tls).then_some(dialect),
        }
    }
}

/// A generation of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
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
    const ALL: [Dialect; 4] = [Dialect::Url, Dialect::Json, Dialect::SecondRaw, Dialect::Second];

    /// As the parameter `wire` has it, and in the log.
    pub fn name(self) -> &'static str {
        match self {
            Dialect::Url => "1.13",
            Dialect::Json => "1.14",
            Dialect::SecondRaw => "2.0b8",
            Dialect::Second => "2.0",
        }
    }

    /// Whether its handshake comes inside TLS at any port.
    pub fn handshake_in_tls(self) -> bool {
        matches!(self, Dialect::SecondRaw | Dialect::Second)
    }

    /// Whether datagrams have their length before them.
    pub fn frames(self) -> bool {
        self == Dialect::Second
    }

    /// Whether this side states the certificate that it knows. Not to 1.13, which compares nothing.
    pub fn states_certificate(self, tls: u8, is_server: bool) -> bool {
        match self {
            Dialect::Url => false,
            Dialect::Json => tls == 1 || (tls == 2 && is_server),
            Dialect::SecondRaw | Dialect::Second => tls == 1,
        }
    }

    /// A fingerprint in the form that the peer compares.
    pub fn fingerprint(self, fp: Fingerprint) -> String {
        match self {
            Dialect::SecondRaw | Dialect::Second => fp.bare(),
            Dialect::Url | Dialect::Json => fp.to_string(),
        }
    }

    /// Appends `signal` to `out` as the line that an original of this generation expects under `key`, newline included.
    pub fn encode(self, signal: &Signal, key: &[u8], out: &mut Vec<u8>) {
        match self {
            Dialect::Url => push_masked(to_url(signal), key, out),
            Dialect::Json | Dialect::SecondRaw | Dialect::Second => encode(signal, key, out),
        }
    }

    /// The signal in a line of an original's, without its newline, and the generation that the line shows.
    pub fn decode(self, line: &[u8], key: &[u8]) -> Result<(Signal, Dialect), BadLine> {
        let text = unmasked(line, key)?;
        match self {
            Dialect::Json | Dialect::Url if is_url(&text) => Ok((from_url(&text)?, Dialect::Url)),
            _ => Ok((Signal::parse(&text)?, self)),
        }
    }
}

/// A signal of 1.13: `np://ADDRESS/ID#MARK`, `np:#MARK`.
fn to_url(signal: &Signal) -> String {
    match signal {
        Signal::Tcp { remote, id } => format!("np://{remote}/{id}#1"),
        Signal::Udp { remote, id } => format!("np://{remote}/{id}#2"),
        Signal::Ping => "np:#i".into(),
        Signal::Pong => "np:#o".into(),
        Signal::Flush => "np:#f".into(),
        Signal::Verify { id, .. } => format!("np://0/{id}#v"),
        // What only two of this program say to each other: a mark that 1.13 passes over.
        Signal::Taken { .. } | Signal::Goodbye | Signal::Cert { .. } => "np:#".into(),
    }
}

fn is_url(text: &[u8]) -> bool {
    text.starts_with(b"np:") || text.starts_with(b"#") || text.starts_with(b"//")
}

fn from_url(text: &[u8]) -> Result<Signal, BadLine> {
    let text = std::str::from_utf8(text).map_err(|_| BadLine::Json)?;
    let (path, mark) = text.split_once('#').ok_or(BadLine::Json)?;
    let path = path.strip_prefix("np:").unwrap_or(path);
    let named = || {
        let (remote, id) = path.strip_prefix("//").and_then(|path| path.split_once('/')).ok_or(BadLine::Field)?;
        let id: Id = id.parse().map_err(|_| BadLine::Field)?;
        match remote.len() <= MAX_REMOTE {
            true => Ok((remote.to_owned(), id)),
            false => Err(BadLine::Field),
        }
    };
    Ok(match mark {
        "i" => Signal::Ping,
        "o" => Signal::Pong,
        "f" => Signal::Flush,
        "1" => named().map(|(remote, id)| Signal::Tcp { remote, id })?,
        "2" => named().map(|(remote, id)| Signal::Udp { remote, id })?,
        // It names a connection, and says nothing of its certificate.
        "v" => named().map(|(_, id)| Signal::Verify { id, fp: String::new() })?,
        _ => return Err(BadLine::Unknown),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let long = format!("np://{}/0f854155#1", "1".repeat(MAX_REMOTE + 1));
        assert_eq!(read(Dialect::Url, &long), Err(BadLine::Field));
    }

    #[test]
    fn what_is_written_is_read_again_in_each_generation() {
        let id = Id([1, 2, 3, 4]);
        for dialect in Dialect::ALL {
            for signal in [Signal::Ping, Signal::Pong, Signal::Flush, Signal::Tcp { remote: "h:1".into(), id }] {
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
        assert_eq!(Wire::named("1.12"), None);
    }
}
