//! What unit tests share: chance that comes again, a moment to count from, a handshake, and how a test is skipped.

use std::time::Instant;

use rustls::{ClientConnection, Error, ServerConnection};

#[path = "../tests/support/skip.rs"]
#[allow(dead_code)]
mod skip;

pub use skip::skip;

/// Numbers that look random and come again with the seed, which is not 0 (xorshift64; Marsaglia, 2003).
pub struct Dice(pub u64);

impl Dice {
    /// Any number.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number from 0 to `sides` - 1.
    pub fn below<N: TryFrom<u64> + TryInto<u64>>(&mut self, sides: N) -> N {
        let number = sides.try_into().map(|sides: u64| self.next() % sides.max(1));
        number.ok().and_then(|number| N::try_from(number).ok()).expect("a number of sides")
    }

    /// One of these.
    pub fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }
}

/// A TLS session in memory, until neither side has anything to say: what the client finds wrong, if it does.
pub fn shake_hands(client: &mut ClientConnection, server: &mut ServerConnection) -> Result<(), Error> {
    while client.wants_write() || server.wants_write() {
        let (mut from_client, mut from_server) = (Vec::new(), Vec::new());
        while client.wants_write() {
            client.write_tls(&mut from_client).unwrap();
        }
        server.read_tls(&mut &from_client[..]).unwrap();
        server.process_new_packets().unwrap();
        while server.wants_write() {
            server.write_tls(&mut from_server).unwrap();
        }
        let mut left = &from_server[..];
        while !left.is_empty() {
            client.read_tls(&mut left).unwrap();
            client.process_new_packets()?;
        }
    }
    Ok(())
}

/// Where virtual time starts; tests only ever add to it.
#[allow(clippy::disallowed_methods)]
pub fn epoch() -> Instant {
    Instant::now()
}
