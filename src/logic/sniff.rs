//! What the first bytes of a connection give away: who comes to the tunnel's port, and what a user is about to speak.
//!
//! Both answer as early as the bytes allow, and keep no state: ask again with all bytes so far.

use std::time::{Duration, Instant};

/// Who comes to the tunnel's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstBytes {
    /// Too little was said.
    NeedMore,
    /// It speaks HTTP, with whatever method: a handshake, right or wrong.
    Handshake,
    /// It opens a TLS session.
    Tls,
    /// It opens a pool connection as this project's clients do: with the bytes of the feature `open`, the first of
    /// which is 00.
    Pool,
    /// It is an original of 1.12 or older, whose handshake is a line of zeros, in base64 from 1.7 on.
    Older,
    /// It has no business here.
    Stray,
}

/// Tells who opens with `first`. A silent connection cannot be told this way: see the tunnel's rules for silence.
pub fn first_bytes(first: &[u8]) -> FirstBytes {
    match first.first() {
        None => FirstBytes::NeedMore,
        Some(&TLS_RECORD) => FirstBytes::Tls,
        Some(b'A') if is_line_of(first, b"A=") => FirstBytes::Older,
        Some(b'A') if first.iter().all(|byte| b"A=".contains(byte)) => FirstBytes::NeedMore,
        Some(&OPENING) => FirstBytes::Pool,
        Some(_) if METHODS.iter().any(|method| first.starts_with(method)) => FirstBytes::Handshake,
        Some(_) if METHODS.iter().any(|method| method.starts_with(first)) => FirstBytes::NeedMore,
        Some(_) => FirstBytes::Stray,
    }
}

/// Whether what seems to open a pool connection is the handshake of a client up to 1.6: as many zeros as its key is long, a newline,
/// and nothing more. An opening goes on after a newline.
pub fn is_line_of_zeros(first: &[u8]) -> bool {
    let zeros = first.strip_suffix(b"\n").unwrap_or_default();
    zeros.len() > 1 && zeros.iter().all(|byte| *byte == 0)
}

/// Whether the first line has come, and is made of these bytes alone.
fn is_line_of(first: &[u8], bytes: &[u8]) -> bool {
    let end = first.iter().position(|byte| *byte == b'\n');
    end.is_some_and(|end| end > 1 && first[..end].iter().all(|byte| bytes.contains(byte)))
}

/// Which protocols `block` refuses to carry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Blocked {
    /// SOCKS4 and SOCKS5.
    pub socks: bool,
    /// HTTP.
    pub http: bool,
    /// TLS.
    pub tls: bool,
}

impl Blocked {
    /// Whether anything is refused, that is, whether users' first bytes need a look at all.
    pub fn any(self) -> bool {
        self.socks || self.http || self.tls
    }
}

/// The look at one user's first bytes (`block`), from its beginning to its verdict.
#[derive(Clone, Copy, Debug)]
pub struct Sniff {
    block: Blocked,
    until: Instant,
}

impl Sniff {
    /// The look begins.
    pub fn new(block: Blocked, now: Instant) -> Sniff {
        Sniff { block, until: now + QUIET }
    }

    /// What becomes of a user who opens with `first`: all bytes so far, up to [`MAX_FIRST_BYTES`]. `ended` is whether no
    /// more will come. A user who says too little for too long waits for the target to speak first, and passes.
    pub fn judge(&self, first: &[u8], ended: bool, now: Instant) -> BlockVerdict {
        match user(first, self.block) {
            BlockVerdict::NeedMore if ended || now >= self.until => BlockVerdict::Pass,
            verdict => verdict,
        }
    }

    /// When there will be a verdict at the latest.
    pub fn deadline(&self) -> Instant {
        self.until
    }
}

/// What `block` says of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockVerdict {
    /// Nothing that is refused begins like this.
    Pass,
    /// The user speaks this protocol, which is refused.
    Refuse(&'static str),
    /// Too little was said.
    NeedMore,
}

/// Judges a user who opens with `first`.
pub fn user(first: &[u8], block: Blocked) -> BlockVerdict {
    let chosen = [(block.socks, socks as fn(&[u8]) -> BlockVerdict), (block.http, http), (block.tls, tls)];
    let mut verdict = BlockVerdict::Pass;
    for (_, judge) in chosen.iter().filter(|(chosen, _)| *chosen) {
        match judge(first) {
            BlockVerdict::Pass => {}
            BlockVerdict::NeedMore => verdict = BlockVerdict::NeedMore,
            refuse => return refuse,
        }
    }
    verdict
}

/// SOCKS4 is 04 and then 01 or 02, SOCKS5 is 05 and then 01 to 03.
fn socks(first: &[u8]) -> BlockVerdict {
    match first {
        [] | [4 | 5] => BlockVerdict::NeedMore,
        [4, 1..=2, ..] => BlockVerdict::Refuse("SOCKS4"),
        [5, 1..=3, ..] => BlockVerdict::Refuse("SOCKS5"),
        _ => BlockVerdict::Pass,
    }
}

/// HTTP is capital letters, and then a space within the first eight bytes.
fn http(first: &[u8]) -> BlockVerdict {
    let first = &first[..first.len().min(MAX_METHOD)];
    match first.iter().position(|byte| !byte.is_ascii_uppercase()) {
        None if first.len() < MAX_METHOD => BlockVerdict::NeedMore,
        Some(letters) if letters > 0 && first[letters] == b' ' => BlockVerdict::Refuse("HTTP"),
        _ => BlockVerdict::Pass,
    }
}

/// TLS is a handshake record.
fn tls(first: &[u8]) -> BlockVerdict {
    match first.first() {
        None => BlockVerdict::NeedMore,
        Some(&TLS_RECORD) => BlockVerdict::Refuse("TLS"),
        Some(_) => BlockVerdict::Pass,
    }
}

/// The first byte of a TLS session: a handshake record.
const TLS_RECORD: u8 = 0x16;
/// The first byte of a pool connection that a client opens with the feature `open`.
const OPENING: u8 = 0x00;
/// What an HTTP request begins with.
const METHODS: [&[u8]; 9] =
    [b"GET ", b"POST ", b"HEAD ", b"PUT ", b"DELETE ", b"OPTIONS ", b"PATCH ", b"CONNECT ", b"TRACE "];
/// Bytes of a user's words in which `block` looks for an HTTP method and its space.
const MAX_METHOD: usize = 8;
/// Bytes of a user's words that are looked at: enough for every verdict.
pub const MAX_FIRST_BYTES: usize = 16;

/// A user who says nothing for this long waits for the target to speak first; nothing is refused then.
pub const QUIET: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Blocked = Blocked { socks: true, http: true, tls: true };

    /// The verdict on the shortest beginning that is enough for one, and how long that is.
    fn earliest(bytes: &[u8], block: Blocked) -> (BlockVerdict, usize) {
        (0..=bytes.len())
            .map(|length| (user(&bytes[..length], block), length))
            .find(|(verdict, _)| *verdict != BlockVerdict::NeedMore)
            .unwrap_or((BlockVerdict::NeedMore, bytes.len()))
    }

    #[test]
    fn every_kind_of_connection_is_told_by_its_first_bytes() {
        assert_eq!(first_bytes(b""), FirstBytes::NeedMore);
        assert_eq!(first_bytes(b"\x16"), FirstBytes::Tls);
        assert_eq!(first_bytes(b"\x00"), FirstBytes::Pool);
        for stray in [&b"\x01"[..], b"SSH-2.0", b"get /", b"GETS", b" GET ", b"PRI * HTTP/2.0", b"\x80\x16", b"GET\t"] {
            assert_eq!(first_bytes(stray), FirstBytes::Stray, "{stray:?}");
        }
    }

    #[test]
    fn a_line_of_zeros_is_an_older_original() {
        for (bytes, told) in [
            (&b"AAAA\n"[..], FirstBytes::Older),
            (b"AAAA\nmore", FirstBytes::Older),
            (b"AAAAAAA=\n", FirstBytes::Older),
            (b"AAA", FirstBytes::NeedMore),
            (b"AAB", FirstBytes::Stray),
            (b"\0\0\0", FirstBytes::Pool),
        ] {
            assert_eq!(first_bytes(bytes), told, "{bytes:?}");
        }
        assert!(is_line_of_zeros(b"\0\0\0\n") && !is_line_of_zeros(b"\0\0\0") && !is_line_of_zeros(b"\0\0\n\0"));
    }

    #[test]
    fn every_http_method_is_a_handshake_once_its_space_is_there() {
        for method in METHODS {
            for length in 1..method.len() {
                assert_eq!(first_bytes(&method[..length]), FirstBytes::NeedMore);
            }
            assert_eq!(first_bytes(method), FirstBytes::Handshake);
            assert_eq!(first_bytes(&[method, b"/ HTTP/1.1\r\n"].concat()), FirstBytes::Handshake);
        }
    }

    #[test]
    fn socks_http_and_tls_are_refused_as_early_as_possible() {
        for (bytes, name, length) in [
            (&b"\x04\x01\x00\x50"[..], "SOCKS4", 2),
            (b"\x04\x02", "SOCKS4", 2),
            (b"\x05\x01\x00", "SOCKS5", 2),
            (b"\x05\x02\x00\x02", "SOCKS5", 2),
            (b"\x05\x03\x00\x01\x02", "SOCKS5", 2),
            (b"GET / HTTP/1.1\r\n", "HTTP", 4),
            (b"CONNECT a:1 HTTP/1.1\r\n", "HTTP", 8),
            (b"OPTIONS * HTTP/1.1\r\n", "HTTP", 8),
            (b"\x16\x03\x01", "TLS", 1),
        ] {
            assert_eq!(earliest(bytes, ALL), (BlockVerdict::Refuse(name), length), "{bytes:?}");
        }
    }

    #[test]
    fn everything_else_passes_as_soon_as_it_can_be_told() {
        for (bytes, length) in [
            (&b"hi"[..], 1),
            (b"get / HTTP/1.1", 1),
            (b" GET", 1),
            (b"\xff", 1),
            (b"\x00\x05\x01", 1),
            (b"\x04\x03\x00", 2),
            (b"\x05\x00", 2),
            (b"\x05\x04", 2),
            (b"SSH-2.0-x\r\n", 4),
            (b"LONGERTHAN8 x", 8),
            (b"OPTIONSX ", 8),
        ] {
            assert_eq!(earliest(bytes, ALL), (BlockVerdict::Pass, length), "{bytes:?}");
        }
    }

    #[test]
    fn who_says_too_little_to_be_told_is_not_judged() {
        for bytes in [&b""[..], b"\x04", b"\x05", b"G", b"GET", b"OPTIONS"] {
            assert_eq!(user(bytes, ALL), BlockVerdict::NeedMore, "{bytes:?}");
        }
    }

    #[test]
    fn a_user_who_waits_for_the_target_passes_in_time_and_not_before() {
        let now = Instant::now();
        let sniff = Sniff::new(ALL, now);
        assert_eq!(sniff.deadline(), now + QUIET);
        for first in [&b""[..], b"GET"] {
            assert_eq!(sniff.judge(first, false, now + QUIET - Duration::from_millis(1)), BlockVerdict::NeedMore);
            assert_eq!(sniff.judge(first, false, now + QUIET), BlockVerdict::Pass);
        }
        assert_eq!(sniff.judge(b"GET", true, now), BlockVerdict::Pass, "no more will come");
        assert_eq!(
            sniff.judge(b"GET ", true, now + QUIET),
            BlockVerdict::Refuse("HTTP"),
            "what was said in time counts"
        );
    }

    #[test]
    fn the_first_bytes_that_are_looked_at_are_always_enough() {
        for first in [b'A', 4, 5, 0] {
            assert_ne!(user(&[first; MAX_FIRST_BYTES], ALL), BlockVerdict::NeedMore);
        }
    }

    #[test]
    fn only_what_is_chosen_is_refused_and_nothing_is_waited_for_otherwise() {
        let none = Blocked::default();
        let (socks, http, tls) =
            (Blocked { socks: true, ..none }, Blocked { http: true, ..none }, Blocked { tls: true, ..none });
        assert!(!none.any() && socks.any() && http.any() && tls.any());
        assert_eq!(user(b"", none), BlockVerdict::Pass);
        for (block, refused) in [(socks, &b"\x05\x01"[..]), (http, b"GET "), (tls, b"\x16")] {
            for bytes in [&b"\x05\x01"[..], b"GET ", b"\x16"] {
                let verdict = user(bytes, block);
                assert_eq!(matches!(verdict, BlockVerdict::Refuse(_)), bytes == refused, "{bytes:?} {block:?}");
                assert!(bytes == refused || verdict == BlockVerdict::Pass);
            }
        }
        assert_eq!(user(b"GET", socks), BlockVerdict::Pass);
        assert_eq!(user(b"\x05", http), BlockVerdict::Pass);
    }
}
