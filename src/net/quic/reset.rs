//! Stateless resets (RFC 9000, 10.3): how a server ends a connection of which it knows nothing any more.
//!
//! ```text
//!   token(id) = the first 16 bytes of HMAC-SHA256(tunnel key, "quic reset" | id)
//! ```
//!
//! A client is told the token of its connection in the handshake. A server that was killed and started again with the same
//! key makes the same token of the id in the client's next packet: the client knows at once that its connection is over.

use std::fmt;
use std::time::{Duration, Instant};

use ring::hmac;

use super::Id;
use crate::net::random;

/// Makes the tokens. The default is for sockets that give none away: a random key.
#[derive(Clone)]
pub struct Resets {
    key: hmac::Key,
    since: Option<Instant>,
    sent: u32,
}

impl Default for Resets {
    fn default() -> Self {
        // Without randomness no connection comes about either: its ids need some.
        Resets::new(&random::bytes::<32>().unwrap_or_default())
    }
}

impl fmt::Debug for Resets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resets(...)")
    }
}

impl Resets {
    /// With this tunnel key.
    pub fn new(key: &[u8]) -> Resets {
        Resets { key: hmac::Key::new(hmac::HMAC_SHA256, key), since: None, sent: 0 }
    }

    /// The token of the connection with this id.
    pub fn token(&self, id: &Id) -> u128 {
        let tag = hmac::sign(&self.key, &[PURPOSE, id].concat());
        tag.as_ref().first_chunk().map_or(0, |first| u128::from_be_bytes(*first))
    }

    /// Writes the answer to a packet of `len` bytes for an unknown connection; its length. It is shorter than the packet, so
    /// that two peers that know nothing of each other fall silent. `None`: too short to be answered, or too many in this second.
    pub fn answer(&mut self, id: &Id, len: usize, room: &mut [u8], now: Instant) -> Option<usize> {
        let size = len.saturating_sub(1).min(MAX_RESET);
        if size < MIN_RESET || room.len() < size || !self.may_send(now) {
            return None;
        }
        let (noise, token) = room[..size].split_at_mut(size - TOKEN);
        random::fill(noise).ok()?;
        // It looks like any packet with a short header.
        noise[0] = noise[0] & 0x3f | 0x40;
        token.copy_from_slice(&self.token(id).to_be_bytes());
        Some(size)
    }

    fn may_send(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= SECOND) {
            (self.since, self.sent) = (Some(now), 0);
        }
        self.sent += 1;
        self.sent <= MAX_RESETS
    }
}

/// What the tunnel key is used for here.
const PURPOSE: &[u8] = b"quic reset";
/// Bytes of a token.
const TOKEN: usize = 16;
/// Bytes of the smallest reset: five that look like a packet, and the token.
const MIN_RESET: usize = 21;
/// Bytes of the largest: it need not look like much.
const MAX_RESET: usize = 42;
/// Resets in a second: clients are few, and a source that sends more is none.
const MAX_RESETS: u32 = 100;
const SECOND: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_key_makes_the_same_tokens_and_each_id_has_its_own() {
        let (one, again, other) = (Resets::new(b"key"), Resets::new(b"key"), Resets::new(b"yek"));
        let ids = [[1; 8], [2; 8]];
        assert_eq!(one.token(&ids[0]), again.token(&ids[0]));
        assert_ne!(one.token(&ids[0]), one.token(&ids[1]));
        assert_ne!(one.token(&ids[0]), other.token(&ids[0]));
        assert_ne!(Resets::default().token(&ids[0]), Resets::default().token(&ids[0]));
    }

    #[test]
    fn an_answer_is_shorter_than_the_packet_and_ends_with_the_token() {
        let mut resets = Resets::new(b"key");
        let (now, id, mut room) = (Instant::now(), [7; 8], [0; 1200]);
        for (len, size) in [(21, None), (22, Some(21)), (30, Some(29)), (1200, Some(42))] {
            assert_eq!(resets.answer(&id, len, &mut room, now), size);
        }
        assert_eq!(room[0] & 0xc0, 0x40);
        assert_eq!(room[42 - 16..42], resets.token(&id).to_be_bytes());
    }

    #[test]
    fn a_flood_is_answered_a_hundred_times_a_second() {
        let mut resets = Resets::new(b"key");
        let (now, mut room) = (Instant::now(), [0; 64]);
        let mut count = |at| (0..1000).filter(|_| resets.answer(&[7; 8], 50, &mut room, at).is_some()).count();
        assert_eq!(count(now), 100);
        assert_eq!(count(now + Duration::from_millis(999)), 0);
        assert_eq!(count(now + SECOND), 100);
    }
}
