//! A connection to a target is being made, for somebody who waits: a pool connection (egress) or a user (single-end).

use std::time::Instant;

use mio::event::Event;

use super::context::{token, Context, LOCAL, REMOTE};
use super::relay::{Join, Relay};
use super::task::{Next, Task};
use crate::error::Error;
use crate::logic::terms::TunnelNo;
use crate::logic::wire::proxy_line;
use crate::net::connect::{Connect, Outcome};
use crate::net::leg::Leg;
use crate::net::tcp::canonical;
use crate::net::udp::Session;
use crate::run::messages::{DialRequest, Home, Notice, Proto};

/// Somebody who waits, and the dialling.
pub struct Dialer {
    waiting: Option<Leg>,
    side: usize,
    request: DialRequest,
    connect: Connect,
    tunnel: TunnelNo,
    proto: Proto,
    said: Vec<u8>,
}

impl Dialer {
    /// At the egress: `pool` waits at the far side, the target will be near.
    pub fn for_pool(
        pool: Leg,
        request: DialRequest,
        tunnel: TunnelNo,
        proto: Proto,
        home: Home,
        context: &Context,
    ) -> Dialer {
        Dialer::new(pool, REMOTE, request, tunnel, proto, home, context)
    }

    /// Single-end: the user waits at the near side, the target will be far.
    pub fn for_user(user: Leg, request: DialRequest, proto: Proto, home: Home, context: &Context) -> Dialer {
        Dialer::new(user, LOCAL, request, 0, proto, home, context)
    }

    fn new(
        waiting: Leg,
        side: usize,
        request: DialRequest,
        tunnel: TunnelNo,
        proto: Proto,
        home: Home,
        context: &Context,
    ) -> Dialer {
        let addresses = request.candidates.iter().map(|(_, address)| *address).collect();
        let config = &context.shared.config;
        let connect = Connect::new(addresses, config.dial, config.limits.tcp_dial, token(home.key, 1 - side));
        Dialer { waiting: Some(waiting), side, request, connect, tunnel, proto, said: Vec::new() }
    }

    /// What the user said already; it goes out first.
    pub fn having_said(mut self, bytes: Vec<u8>) -> Dialer {
        self.said = bytes;
        self
    }

    /// Goes on.
    pub fn advance(&mut self, home: Home, context: &mut Context, now: Instant) -> Next {
        if self.request.udp {
            return self.connect_udp(home, context, now);
        }
        if self.waiting.as_mut().is_none_or(|leg| leg.failed(&mut context.muxes)) {
            log::debug!("{} left before target was reached", self.request.user);
            return self.leave(home, context);
        }
        loop {
            match self.connect.advance(&context.registry, now) {
                Outcome::Wait => return Next::Wait,
                Outcome::Missed(at) => self.missed(at, self.connect.failure(), context),
                Outcome::Failed(_) => return self.leave(home, context),
                Outcome::Reached(at, took, tcp) => {
                    if let (true, Some((target, _))) = (self.request.report, self.request.candidates.get(at)) {
                        context.hub.send(Notice::Reached { target: *target, took });
                    }
                    return self.join(at, Leg::Tcp(tcp), context, now);
                }
            }
        }
    }

    /// Remembers an edge.
    pub fn note(&mut self, side: usize, event: &Event) {
        match (side == self.side, &mut self.waiting) {
            (true, Some(leg)) => leg.note(event),
            (true, None) => {}
            (false, _) => self.connect.note(event),
        }
    }

    /// A datagram for the session that waits.
    pub fn deliver(&mut self, packet: Vec<u8>) {
        if let Some(Leg::Udp(session)) = &mut self.waiting {
            session.deliver(packet);
        }
    }

    /// Who waits.
    pub fn proto(&self) -> Proto {
        self.proto
    }

    /// When to look again.
    pub fn deadline(&self) -> Option<Instant> {
        self.connect.deadline()
    }

    fn connect_udp(&mut self, home: Home, context: &mut Context, now: Instant) -> Next {
        let config = &context.shared.config;
        for at in 0..self.request.candidates.len() {
            let target = self.request.candidates[at].1;
            // In single-end mode both ends are ours, so their common buffer is framed whatever a peer knows.
            let session = Session::to_target(target, config.dial, self.request.framed, config.limits.udp_buffer)
                .and_then(|mut session| {
                    session.register(&context.registry, token(home.key, 1 - self.side))?;
                    Ok(session)
                });
            match session {
                Ok(session) => return self.join(at, Leg::Udp(Box::new(session)), context, now),
                Err(error) => self.missed(at, Some(&Error::unreachable(target.to_string(), error)), context),
            }
        }
        self.leave(home, context)
    }

    fn missed(&self, at: usize, why: Option<&Error>, context: &Context) {
        why.iter().for_each(|why| log::warn!("Target not reached: {why}"));
        if let Some((target, _)) = self.request.candidates.get(at) {
            context.hub.send(Notice::Missed(*target));
        }
    }

    fn leave(&mut self, home: Home, context: &Context) -> Next {
        context.hub.send(Notice::Done { home, tunnel: self.tunnel, proto: self.proto });
        Next::End
    }

    fn join(&mut self, at: usize, target: Leg, context: &Context, now: Instant) -> Next {
        let Some(mut waiting) = self.waiting.take() else { return Next::End };
        if self.request.udp && !self.request.framed {
            waiting.keep_messages(context.shared.config.limits.udp_buffer);
        }
        let address = canonical(self.request.candidates[at].1);
        let mut prelude = match self.request.proxy && !self.request.udp {
            true => proxy_line(canonical(self.request.user), address).into_bytes(),
            false => Vec::new(),
        };
        prelude.append(&mut self.said);
        let about = format!("{} <-> {address}", self.request.user);
        let number = Some(self.request.candidates[at].0).filter(|_| self.request.udp);
        let DialRequest { report: others, named, .. } = self.request;
        let join = Join {
            tunnel: self.tunnel,
            proto: Some(self.proto),
            target: number,
            others,
            moves: others || named,
            about,
        };
        Next::Become(Task::Relay(match self.side {
            REMOTE => Relay::new(target, waiting, join, context, now).saying_near(prelude),
            _ => Relay::new(waiting, target, join, context, now).saying_far(prelude),
        }))
    }
}
