//! A connection to a target is being made, while a pool connection (egress) or a user (single-end) waits for it.

use std::time::Instant;

use mio::event::Event;

use super::context::{token, Context, Side};
use super::exchange::{Ends, Join, UdpTarget};
use super::next::Next;
use super::relay::Relay;
use super::unheard::Unheard;
use crate::error::Error;
use crate::logic::local_end::LocalEnd;
use crate::logic::metrics::{Figure, Timing};
use crate::logic::terms::TunnelNo;
use crate::logic::wire::{proxy_line, Id};
use crate::net::connect::{Connect, Outcome};
use crate::net::leg::{Leg, Own};
use crate::net::mux::Muxes;
use crate::net::tcp::canonical;
use crate::net::udp::{Frames, Session};
use crate::run::messages::{DialRequest, Home, Notice, TunnelEvent};
use crate::run::user::Proto;

/// What waits, and the dialling.
pub struct Dialer {
    waiting: Waiting,
    request: DialRequest,
    connect: Connect,
    proto: Proto,
    /// What the user said already; it goes out first.
    first: Vec<u8>,
}

/// What waits for the target.
enum Waiting {
    /// A single-end user: the target is the remote end.
    User(Own),
    /// A pool connection, and its id: the target is the local end.
    Pool(Leg, TunnelNo, Option<Id>),
}

impl Dialer {
    /// At the egress: `pool` waits, which is a connection of that tunnel.
    pub fn for_pool(
        (pool, id): (Leg, Option<Id>),
        request: DialRequest,
        tunnel: TunnelNo,
        proto: Proto,
        home: Home,
        context: &Context,
    ) -> Dialer {
        Dialer::new(Waiting::Pool(pool, tunnel, id), request, proto, home, context)
    }

    /// Single-end: the user waits.
    pub fn for_user(user: Own, request: DialRequest, proto: Proto, home: Home, context: &Context) -> Dialer {
        Dialer::new(Waiting::User(user), request, proto, home, context)
    }

    fn new(waiting: Waiting, request: DialRequest, proto: Proto, home: Home, context: &Context) -> Dialer {
        let addresses = request.candidates.iter().map(|(_, address)| *address).collect();
        let (config, token) = (&context.shared.config, token(home.key, waiting.target_side()));
        let connect = Connect::new(
            addresses,
            config.dial.map(LocalEnd::Address),
            config.limits.tcp_dial,
            context.shared.keepalive,
            token,
        );
        Dialer { waiting, request, connect, proto, first: Vec::new() }
    }

    /// These bytes go to the target before any others.
    pub fn sending(mut self, bytes: Vec<u8>) -> Dialer {
        self.first = bytes;
        self
    }

    /// Goes on.
    pub fn advance(mut self, home: Home, context: &mut Context, now: Instant) -> Next<Dialer, Relay> {
        if self.request.udp {
            return self.connect_udp(home, context, now);
        }
        if self.waiting.failed(&mut context.muxes) {
            self.lost(context);
            log::debug!("{} left before target was reached", self.request.user);
            return self.end(home, context);
        }
        loop {
            match self.connect.advance(&context.registry, now) {
                Outcome::Wait => return Next::Wait(self),
                Outcome::Missed(at) => self.missed(at, self.connect.failure(), context),
                Outcome::Failed(_) => return self.end(home, context),
                Outcome::Reached(at, took, tcp) => {
                    context.shared.stats.observe(Timing::Dial, took);
                    if let (true, Some((target, _))) = (self.request.report, self.request.candidates.get(at)) {
                        context.hub.send(Notice::Reached { target: *target, took });
                    }
                    return self.join(at, tcp, context, now);
                }
            }
        }
    }

    /// Remembers an edge.
    pub fn note(&mut self, side: Side, event: &Event) {
        match (&mut self.waiting, side) {
            (Waiting::User(user), Side::Local) => user.note(event),
            (Waiting::Pool(leg, ..), Side::Remote) => leg.note(event),
            (Waiting::User(_), Side::Remote) | (Waiting::Pool(..), Side::Local) => self.connect.note(event),
        }
    }

    /// Datagrams of the user who waits.
    pub fn deliver(&mut self, frames: Frames) {
        if let Waiting::User(Own::Udp(session)) = &mut self.waiting {
            session.deliver(frames);
        }
    }

    /// What the user speaks.
    pub fn proto(&self) -> Proto {
        self.proto
    }

    /// The tunnel of the pool connection; 0 in single-end mode.
    pub fn tunnel(&self) -> TunnelNo {
        match &self.waiting {
            Waiting::User(_) => 0,
            Waiting::Pool(_, tunnel, _) => *tunnel,
        }
    }

    /// Whether its pool connection is not a stream of a shared one.
    pub fn has_own_connection(&self) -> bool {
        !matches!(self.waiting, Waiting::Pool(Leg::Mux(_), ..))
    }

    /// The pool connection that waits.
    pub fn into_pool(self) -> Option<Leg> {
        match self.waiting {
            Waiting::User(_) => None,
            Waiting::Pool(leg, ..) => Some(leg),
        }
    }

    /// Whether no byte of the peer's user has come over the pool connection.
    pub fn nothing_came(&mut self, muxes: &mut Muxes) -> bool {
        match &mut self.waiting {
            Waiting::Pool(leg @ Leg::Own(_), ..) => !leg.has_said(muxes),
            Waiting::Pool(Leg::Mux(_), ..) | Waiting::User(_) => false,
        }
    }

    /// Its pool connection is dead: it ends without what is still on its way.
    pub fn cut(&mut self) {
        if let Waiting::Pool(leg, ..) = &mut self.waiting {
            leg.cut();
        }
    }

    /// The pool connection is dead. If no byte has come over it the user can have another.
    fn lost(&mut self, context: &mut Context) {
        let Waiting::Pool(_, number, Some(id)) = self.waiting else { return };
        if self.nothing_came(&mut context.muxes) {
            context.hub.send(Notice::Tunnel { number, event: TunnelEvent::Lost(id) });
        }
    }

    /// When it goes on even without an edge.
    pub fn deadline(&self) -> Option<Instant> {
        self.connect.deadline()
    }

    fn connect_udp(self, home: Home, context: &mut Context, now: Instant) -> Next<Dialer, Relay> {
        let (config, budget) = (&context.shared.config, &context.shared.budget);
        let (token, largest) = (token(home.key, self.waiting.target_side()), config.limits.udp_buffer);
        for (at, (_, target)) in self.request.candidates.iter().enumerate() {
            // In single-end mode both ends are ours, so their common buffer is framed whatever a peer knows.
            let session = Session::to_target(*target, config.dial, self.request.framed, largest, budget).and_then(
                |mut session| {
                    session.register(&context.registry, token)?;
                    Ok(session)
                },
            );
            match session {
                Ok(session) => return self.join(at, session, context, now),
                Err(error) => self.missed(at, Some(&Error::unreachable(target.to_string(), error)), context),
            }
        }
        self.end(home, context)
    }

    fn missed(&self, at: usize, why: Option<&Error>, context: &Context) {
        context.shared.stats.add(Figure::DialsMissed, 1);
        why.iter().for_each(|why| log::warn!(event = "target_failed"; "Target not reached: {why}"));
        if let Some((target, _)) = self.request.candidates.get(at) {
            context.hub.send(Notice::Missed(*target));
        }
    }

    fn end(self, home: Home, context: &Context) -> Next<Dialer, Relay> {
        context.hub.send(Notice::Done { home, tunnel: self.tunnel(), proto: self.proto });
        Next::End
    }

    /// The target was reached, at that candidate's address.
    fn join(mut self, at: usize, reached: impl Into<Own>, context: &Context, now: Instant) -> Next<Dialer, Relay> {
        context.shared.stats.add(Figure::DialsReached, 1);
        if self.request.udp && !self.request.framed {
            self.waiting.keep_messages(context.shared.config.limits.udp_buffer);
        }
        let (tunnel, DialRequest { candidates, user, proxy, udp, report: others, named, .. }) =
            (self.tunnel(), self.request);
        let (number, address) = (candidates[at].0, canonical(candidates[at].1));
        let mut first = match proxy && !udp {
            true => proxy_line(canonical(user), address).into_bytes(),
            false => Vec::new(),
        };
        first.extend(self.first);
        let ends = Box::new(Ends::User(user, Some(address)));
        let target = udp.then(|| Box::new(UdpTarget::new(number, others, others || named)));
        let join = Join { tunnel, proto: Some(self.proto), target, ends };
        Next::Become(match self.waiting {
            Waiting::Pool(pool, _, id) => {
                let relay = Relay::new(reached.into(), pool, join, context, now).sending_local(first);
                relay.of_pool(id, false).unheard(id.map(Unheard::peer))
            }
            Waiting::User(user) => Relay::new(user, reached.into().into(), join, context, now).sending_remote(first),
        })
    }
}

impl Waiting {
    fn target_side(&self) -> Side {
        match self {
            Waiting::User(_) => Side::Remote,
            Waiting::Pool(..) => Side::Local,
        }
    }

    fn keep_messages(&mut self, largest: usize) {
        if let Waiting::Pool(leg, ..) = self {
            leg.keep_messages(largest);
        }
    }

    fn failed(&mut self, muxes: &mut Muxes) -> bool {
        match self {
            Waiting::User(user) => user.failed(),
            Waiting::Pool(leg, ..) => leg.failed(muxes),
        }
    }
}
