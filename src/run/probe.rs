//! How long does a target take to answer a dial? For `lbs=1`, and for the ping of a single-end check point.

use std::net::SocketAddr;
use std::time::Instant;

use super::handoff::{Home, Notice};
use super::task::{token, Means, Next, FAR};
use crate::net::connect::{Connect, Outcome};

/// A dial that is only measured.
pub struct Probe {
    target: usize,
    pub(super) connect: Connect,
}

impl Probe {
    /// Measures `target`, which is at `address`.
    pub fn new(target: usize, address: SocketAddr, home: Home, means: &Means) -> Probe {
        let config = &means.shared.config;
        let connect = Connect::new(vec![address], config.dial, config.limits.tcp_dial, token(home.key, FAR));
        Probe { target, connect }
    }

    /// Goes on.
    pub fn advance(&mut self, means: &mut Means, now: Instant) -> Next {
        loop {
            let took = match self.connect.advance(&means.registry, now) {
                Outcome::Wait => return Next::Wait,
                Outcome::Missed(_) => continue,
                Outcome::Failed(_) => None,
                Outcome::Reached(_, took, mut tcp) => {
                    tcp.abort();
                    Some(took)
                }
            };
            means.hub.send(Notice::Probed(self.target, took));
            return Next::End;
        }
    }
}
