//! How long does a target take to answer a dial? For `lbs=1`, and for the ping of a single-end check point.

use std::net::SocketAddr;
use std::time::Instant;

use super::context::{token, Context, REMOTE};
use super::task::Next;
use crate::net::connect::{Connect, Outcome};
use crate::run::messages::{Home, Notice};

/// A dial that is only measured.
pub struct Probe {
    target: usize,
    pub(super) connect: Connect,
}

impl Probe {
    /// Measures `target`, which is at `address`.
    pub fn new(target: usize, address: SocketAddr, home: Home, context: &Context) -> Probe {
        let config = &context.shared.config;
        let connect = Connect::new(vec![address], config.dial, config.limits.tcp_dial, token(home.key, REMOTE));
        Probe { target, connect }
    }

    /// Goes on.
    pub fn advance(&mut self, context: &mut Context, now: Instant) -> Next {
        loop {
            let took = match self.connect.advance(&context.registry, now) {
                Outcome::Wait => return Next::Wait,
                Outcome::Missed(_) => continue,
                Outcome::Failed(_) => None,
                Outcome::Reached(_, took, mut tcp) => {
                    tcp.abort();
                    Some(took)
                }
            };
            context.hub.send(Notice::Probed { target: self.target, took });
            return Next::End;
        }
    }
}
