//! The handshake of 1.12 and older: two lines on a connection that is the control connection from then on.
//!
//! ```text
//!  client                                                server
//!  the key under itself, which is zeros ------------->   as many as its own key has
//!  np://MAX/FLOW#TLS under the key      <-------------   1.12: np://QUIC@MAX/FLOW#TLS; 1.5: //FLOW#TLS
//! ```
//!
//! It proves how long the key is, and nothing else. The second line is known text under the key: who asks has the key.

use super::Dialect;
use crate::logic::terms::{Direction, Terms, MAX_POOL};
use crate::logic::wire::line_bytes;

/// Whether a connection begins with a client's line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyLine {
    /// It may be one, once its end is there.
    NeedMore,
    /// It is one, whole, and nothing follows.
    Whole,
    /// It is none.
    No,
}

/// Whether these first bytes of a connection are a client's line: zeros, or base64 of these.
pub fn key_line(first: &[u8]) -> KeyLine {
    let (text, whole) = match first.strip_suffix(b"\n") {
        Some(text) => (text, true),
        None => (first, false),
    };
    let zeros = text.iter().all(|byte| *byte == 0) || text.iter().all(|byte| b"A=".contains(byte));
    match zeros && !text.is_empty() && text.len() <= MAX_KEY_LINE {
        true if whole => KeyLine::Whole,
        true => KeyLine::NeedMore,
        false => KeyLine::No,
    }
}

impl Dialect {
    /// The client's line, newline included.
    pub fn key_line(self, key: &[u8]) -> Vec<u8> {
        let mut line = Vec::new();
        // The key under itself.
        self.push_line("\0".repeat(key.len()), &[], &mut line);
        line
    }

    /// Whether that is the line of a client of this generation with a key of the same length. No more can be told.
    pub fn is_key_line(self, line: &[u8], key: &[u8]) -> bool {
        let Some(line) = line.strip_suffix(b"\n") else { return false };
        let zeros = if self.is_raw() { line.to_vec() } else { line_bytes(line).unwrap_or_default() };
        zeros.len() == key.len() && zeros.iter().all(|byte| *byte == 0)
    }

    /// Whether a client of this generation may have written that line, under whatever key.
    pub fn writes_like(self, line: &[u8]) -> bool {
        self.is_raw() == line.starts_with(&[0])
    }

    /// The server's line, newline included.
    pub fn terms_line(self, terms: &Terms, key: &[u8]) -> Vec<u8> {
        let Terms { flow, max, tls, transport, .. } = terms;
        let flow = match flow {
            Direction::Reverse => '-',
            Direction::Forward => '+',
        };
        let mut line = Vec::new();
        let text = match self {
            Dialect::V1_5 => format!("//{flow}#{tls}"),
            Dialect::V1_12 => format!("np://{transport}@{max}/{flow}#{tls}"),
            _ => format!("np://{max}/{flow}#{tls}"),
        };
        self.push_line(text, key, &mut line);
        line
    }

    /// The terms in a server's line, without its newline; the error says what is wrong with it.
    pub fn terms(self, line: &[u8], key: &[u8]) -> Result<Terms, &'static str> {
        if line.starts_with(b"HTTP/1.") {
            return Err("the server speaks HTTP: it is no NodePass of 1.12 or older; leave the parameter wire out");
        }
        let text = self.line_text(line, key).ok().and_then(|text| String::from_utf8(text).ok()).unwrap_or_default();
        let terms = if self == Dialect::V1_5 { short_terms(&text) } else { parse_terms(&text) };
        terms.filter(|terms| terms.transport == 0 || self == Dialect::V1_12).ok_or(
            "the server's answer is no terms of this generation under this key: compare the keys, and the parameter wire with the server's version",
        )
    }
}

/// Terms of 1.5: how large the pool may be is each side's own affair.
fn short_terms(text: &str) -> Option<Terms> {
    parse_terms(&format!("np://{DEFAULT_POOL}/{}", text.strip_prefix("//")?))
}

fn parse_terms(text: &str) -> Option<Terms> {
    let (host, rest) = text.strip_prefix("np://")?.split_once('/')?;
    let (quic, max) = host.split_once('@').unwrap_or(("0", host));
    let (flow, tls) = rest.split_once('#')?;
    let flow = match flow {
        "-" => Direction::Reverse,
        "+" => Direction::Forward,
        _ => return None,
    };
    let max = max.parse::<usize>().ok().filter(|max| *max > 0)?.min(MAX_POOL);
    let transport = quic.parse().ok().filter(|quic| *quic <= 1)?;
    let tls = tls.parse().ok().filter(|tls| *tls <= 2)?;
    Some(Terms { flow, max, tls, transport, features: Vec::new() })
}

/// The characters of a key that tear lines of 1.6 apart: such a character and one of a signal make a newline.
pub fn tearing(key: &[u8]) -> String {
    let mut torn: Vec<u8> = key.iter().copied().filter(|byte| SIGNAL.contains(&(byte ^ b'\n'))).collect();
    torn.sort_unstable();
    torn.dedup();
    torn.into_iter().map(char::from).collect()
}

/// How large a pool is at most where its server does not say: as the original's default has it.
const DEFAULT_POOL: usize = 1024;
/// What signals and terms are made of.
const SIGNAL: &[u8] = b"np://#@-+io0123456789.:[]abcdef";
/// Most bytes of a client's line.
const MAX_KEY_LINE: usize = 500;

#[cfg(test)]
mod tests {
    use super::super::Dialect;
    use super::*;

    const OLDER: [Dialect; 6] =
        [Dialect::V1_5, Dialect::V1_6, Dialect::V1_7, Dialect::V1_8, Dialect::V1_10, Dialect::V1_12];

    fn terms(transport: u8) -> Terms {
        Terms { flow: Direction::Forward, max: 1024, tls: 1, transport, features: Vec::new() }
    }

    #[test]
    fn a_client_s_line_is_zeros_and_proves_the_length_of_its_key() {
        assert_eq!(Dialect::V1_6.key_line(b"key"), b"\0\0\0\n");
        assert_eq!(Dialect::V1_10.key_line(b"key"), b"AAAA\n");
        for dialect in OLDER {
            let line = dialect.key_line(b"some-key");
            assert_eq!(key_line(&line), KeyLine::Whole);
            assert!(dialect.is_key_line(&line, b"none-key") && !dialect.is_key_line(&line, b"key"));
            assert!(!dialect.is_key_line(&line[..line.len() - 1], b"some-key"));
            for length in 1..line.len() {
                assert_eq!(key_line(&line[..length]), KeyLine::NeedMore, "{length}");
            }
        }
        let (raw, base64) = (Dialect::V1_6.key_line(b"some-key"), Dialect::V1_8.key_line(b"some-key"));
        assert!(!Dialect::V1_6.is_key_line(&base64, b"some-key") && !Dialect::V1_8.is_key_line(&raw, b"some-key"));
        assert!(!Dialect::V1_6.writes_like(&base64) && !Dialect::V1_8.writes_like(&raw));
        assert!(Dialect::V1_6.writes_like(&raw) && Dialect::V1_8.writes_like(&base64));
    }

    #[test]
    fn nothing_else_is_a_client_s_line() {
        for first in [&b""[..], b"\n", b"AAAB", b"AAAA\nmore", b"\0A\n", b"GET ", &[0; 501]] {
            assert_eq!(key_line(first), KeyLine::No, "{first:?}");
        }
    }

    #[test]
    fn terms_are_written_as_each_generation_does_and_read_back() {
        let shown = |dialect: Dialect, transport| {
            let line = dialect.terms_line(&terms(transport), b"KEY");
            let text = dialect.line_text(&line[..line.len() - 1], b"KEY").unwrap();
            assert_eq!(dialect.terms(&line[..line.len() - 1], b"KEY"), Ok(terms(transport)));
            String::from_utf8(text).unwrap()
        };
        for dialect in [Dialect::V1_6, Dialect::V1_7, Dialect::V1_8, Dialect::V1_10] {
            assert_eq!(shown(dialect, 0), "np://1024/+#1");
        }
        assert_eq!(
            (shown(Dialect::V1_12, 0), shown(Dialect::V1_12, 1)),
            ("np://0@1024/+#1".into(), "np://1@1024/+#1".into())
        );
        assert_eq!(shown(Dialect::V1_5, 0), "//+#1");
        assert!(Dialect::V1_5.terms(b"np://1024/+#1", &[0]).is_err() && Dialect::V1_6.terms(b"//+#1", &[0]).is_err());
    }

    #[test]
    fn a_key_that_makes_newlines_of_signals_is_told() {
        assert_eq!(tearing(b"KEY-ABC"), "");
        assert_eq!(tearing(b"keyke"), "ek", "e and o, k and a");
    }

    #[test]
    fn what_is_no_terms_says_so() {
        let read = |text: &str| {
            let mut line = Vec::new();
            Dialect::V1_12.push_line(text.to_owned(), b"key", &mut line);
            Dialect::V1_12.terms(&line[..line.len() - 1], b"key")
        };
        assert!(read("np://1024/-#0").is_ok(), "from a 1.10");
        assert_eq!(read("np://99999999/-#0").unwrap().max, MAX_POOL);
        for bad in
            ["", "np://0/-#0", "np://x/-#0", "np://2@8/-#0", "np://8/x#0", "np://8/-#3", "np://8/-", "http://8/-#0"]
        {
            assert!(read(bad).is_err(), "{bad}");
        }
        let line = Dialect::V1_12.terms_line(&terms(1), b"key");
        assert!(Dialect::V1_12.terms(&line[..line.len() - 1], b"yek").is_err(), "another key");
        assert!(Dialect::V1_10.terms(&line[..line.len() - 1], b"key").is_err(), "1.10 has no QUIC");
        assert!(Dialect::V1_10
            .terms(b"HTTP/1.1 400 Bad Request\r", b"key")
            .unwrap_err()
            .contains("leave the parameter wire out"));
    }
}
