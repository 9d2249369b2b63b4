//! Tokens of address validation: what a server gives away in a Retry, and believes when it comes back.
//!
//! ```text
//!   token = nonce | sealed( born | the client's first connection id ),  bound to: address, port, our connection id
//! ```
//!
//! Only a client that can read what is sent to an address can bring back a token for it, so a forged source address makes
//! this server send one small packet at most and hold nothing in memory.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use ring::aead::{Aad, LessSafeKey, Nonce, UnboundKey, AES_128_GCM, NONCE_LEN};

use crate::net::random;

/// Makes and checks tokens with a key that only this process ever knows.
pub struct Tokens {
    key: LessSafeKey,
    epoch: Instant,
}

impl Tokens {
    /// A new key. `None` if the system has no randomness to give.
    pub fn new(now: Instant) -> Option<Tokens> {
        let key = random::bytes::<16>().ok()?;
        let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key).ok()?);
        Some(Tokens { key, epoch: now })
    }

    /// A token for `peer`, whose first packet went to the id `first`, and which is to use `id` from now on.
    pub fn mint(&self, peer: SocketAddr, first: &[u8], id: &[u8], now: Instant) -> Option<Vec<u8>> {
        let nonce = random::bytes::<NONCE_LEN>().ok()?;
        let mut sealed = [&self.age(now).to_be_bytes()[..], first].concat();
        let bound = Aad::from(bound(peer, id));
        self.key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), bound, &mut sealed).ok()?;
        Some([&nonce[..], &sealed].concat())
    }

    /// The client's first connection id and the token's age, which is a round trip, if this is a token of ours for this
    /// address and id, and not too old.
    pub fn check(&self, token: &[u8], peer: SocketAddr, id: &[u8], now: Instant) -> Option<(Vec<u8>, Duration)> {
        let (nonce, sealed) = token.split_first_chunk::<NONCE_LEN>()?;
        let mut sealed = sealed.to_vec();
        let bound = Aad::from(bound(peer, id));
        let open = self.key.open_in_place(Nonce::assume_unique_for_key(*nonce), bound, &mut sealed).ok()?;
        let (born, first) = open.split_first_chunk::<8>()?;
        let age = Duration::from_millis(self.age(now).checked_sub(u64::from_be_bytes(*born))?);
        (age <= LIFE).then(|| (first.to_vec(), age))
    }

    fn age(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.epoch).as_millis() as u64
    }
}

/// What a token is good for.
fn bound(peer: SocketAddr, id: &[u8]) -> Vec<u8> {
    let ip = match peer.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    };
    [&ip[..], &peer.port().to_be_bytes(), id].concat()
}

/// A token comes back within a round trip, or two after a loss.
const LIFE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_its_address_id_and_time_only() {
        let now = Instant::now();
        let (tokens, others) = (Tokens::new(now).unwrap(), Tokens::new(now).unwrap());
        let peer: SocketAddr = "192.0.2.1:4000".parse().unwrap();
        let token = tokens.mint(peer, b"first", b"ours", now).unwrap();
        for age in [Duration::ZERO, Duration::from_millis(50), LIFE] {
            assert_eq!(tokens.check(&token, peer, b"ours", now + age), Some((b"first".to_vec(), age)));
        }
        assert_eq!(tokens.check(&token, peer, b"ours", now + LIFE + Duration::from_millis(2)), None);
        assert_eq!(tokens.check(&token, peer, b"else", now), None);
        assert_eq!(tokens.check(&token, "192.0.2.1:4001".parse().unwrap(), b"ours", now), None);
        assert_eq!(tokens.check(&token, "192.0.2.2:4000".parse().unwrap(), b"ours", now), None);
        assert_eq!(others.check(&token, peer, b"ours", now), None);
        for cut in 0..token.len() {
            assert_eq!(tokens.check(&token[..cut], peer, b"ours", now), None);
        }
        let mut bent = token.clone();
        bent[20] ^= 1;
        assert_eq!(tokens.check(&bent, peer, b"ours", now), None);
    }
}
