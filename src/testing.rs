//! What unit tests share: chance that comes again, a moment to count from, a handshake, and how a test is skipped.

use std::sync::Arc;
use std::time::Instant;

use mio::{Poll, Registry};
use rustls::{ClientConnection, Error, ServerConnection};

#[path = "../tests/support/dice.rs"]
#[allow(dead_code)]
mod dice;
#[path = "../tests/support/skip.rs"]
#[allow(dead_code)]
mod skip;

pub use dice::Dice;
pub use skip::skip;

/// Where sockets of that poll are registered.
pub fn registry(poll: &Poll) -> Arc<Registry> {
    Arc::new(poll.registry().try_clone().unwrap())
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
