//! How long a target takes to answer a dial: for `lbs=1`, and for the ping of a single-end check point.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Instant;

use mio::event::Event;

use super::context::{token, Context, Side};
use super::next::Next;
use crate::logic::local_end::LocalEnd;
use crate::net::connect::{Connect, Outcome};
use crate::run::messages::{Home, Notice};

/// A dial that is only measured.
pub struct Probe {
    target: usize,
    connect: Connect,
}

impl Probe {
    /// Measures `target`, which is at `address`.
    pub fn new(target: usize, address: SocketAddr, home: Home, context: &Context) -> Probe {
        let (config, keepalive) = (&context.shared.config, context.shared.keepalive);
        let token = token(home.key, Side::Remote);
        let connect =
            Connect::new(vec![address], config.dial.map(LocalEnd::Address), config.limits.tcp_dial, keepalive, token);
        Probe { target, connect }
    }

    /// Goes on.
    pub fn advance(mut self, context: &mut Context, now: Instant) -> Next<Probe, Infallible> {
        loop {
            let took = match self.connect.advance(&context.registry, now) {
                Outcome::Wait => return Next::Wait(self),
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

    /// Remembers an edge.
    pub fn note(&mut self, event: &Event) {
        self.connect.note(event);
    }

    /// When it goes on even without an edge.
    pub fn deadline(&self) -> Option<Instant> {
        self.connect.deadline()
    }
}
