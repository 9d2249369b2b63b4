//! A pool connection that waits for its user.

use std::time::Instant;

use super::context::Context;
use super::next::Schedule;
use crate::logic::dialect::Dialect;
use crate::logic::serial::Renewed;
use crate::logic::terms::TunnelNo;
use crate::logic::wire::{Id, CONTROL};
use crate::net::leg::{Leg, Own};
use crate::net::mux::Muxes;
use crate::net::stream::{ready, Buffer};
use crate::run::messages::{Home, Notice, TunnelEvent};

/// A pool connection that waits for its user, at the remote side.
pub struct Idle {
    /// The connection.
    pub leg: Leg,
    /// The tunnel it belongs to.
    pub tunnel: TunnelNo,
    /// Its id, once it has one.
    pub id: Option<Id>,
    /// The peer has no reason to speak first.
    pub quiet: bool,
    /// The peer has ended its direction, and the hub knows.
    pub ended: bool,
    /// It has had a user, and no other may have it before the egress is through with that one: it waits so long (ingress).
    pub spent: Option<Instant>,
}

impl Idle {
    /// A connection that came to a server, which gives it its tunnel and its id ([`assign`](Idle::assign)).
    pub fn of_server(leg: Leg, quiet: bool) -> Idle {
        Idle { leg, tunnel: 0, id: None, quiet, ended: false, spent: None }
    }

    /// A connection that a client made, which waits for the hub to say what it is.
    pub fn of_client(leg: Leg) -> Idle {
        Idle::of_server(leg, false)
    }

    /// One that has had a user, and at the ingress waits so long for the egress.
    pub fn after_user(leg: Leg, tunnel: TunnelNo, id: Id, spent: Option<Instant>) -> Idle {
        Idle { leg, tunnel, id: Some(id), quiet: spent.is_some(), ended: false, spent }
    }

    /// Drops it when it dies, not when a user gets it.
    ///
    /// At the egress an end is not yet a death: it may be that of a user who had nothing to say.
    pub fn advance(&mut self, home: Home, context: &mut Context, now: Instant) -> Schedule {
        if let Some(schedule) = self.spent.and_then(|until| self.await_peer(until, home, context, now)) {
            return schedule;
        }
        let unsaid = self.leg.successive().map_or(Ok(None), |connection| ready(connection.flush()));
        let muxes = &mut context.muxes;
        if unsaid.is_err() || self.leg.failed(muxes) {
            return self.end(context);
        }
        if self.leg.is_alive(self.quiet, muxes) || self.ended {
            return Schedule::Wait;
        }
        match self.id {
            Some(id) if !self.quiet && self.leg.has_ended(muxes) => {
                self.ended = true;
                context.hub.send(Notice::Tunnel { number: self.tunnel, event: TunnelEvent::Ended(id) });
                Schedule::Wait
            }
            _ => self.end(context),
        }
    }

    /// It has had a user here: it is the pool's again once the egress is through with that user, too: then there is nothing to
    /// wait for. Where that takes too long, or fails, it ends.
    fn await_peer(&mut self, until: Instant, home: Home, context: &Context, now: Instant) -> Option<Schedule> {
        let Some((connection, id)) = self.leg.successive().zip(self.id) else { return Some(Schedule::End) };
        match connection.renewed() {
            Ok(Some(Renewed { behind })) => {
                self.spent = None;
                context.hub.send(Notice::Tunnel { number: self.tunnel, event: TunnelEvent::Free { home, id, behind } });
                None
            }
            Ok(None) if now < until => Some(Schedule::Wait),
            Ok(None) | Err(_) => Some(Schedule::End),
        }
    }

    /// When it goes on even without an edge.
    pub fn deadline(&self) -> Option<Instant> {
        self.spent
    }

    /// It is that tunnel's: writes its id, which is what makes it a pool connection. `false`: it could not be written.
    pub fn assign(&mut self, tunnel: TunnelNo, (id, dialect): (Id, Dialect), ws_eof: bool, muxes: &mut Muxes) -> bool {
        match &mut self.leg {
            Leg::Own(Own::Ws(ws)) => ws.pass_ends(ws_eof),
            Leg::Own(_) => {}
            Leg::Mux(loan) => muxes.set_owner(loan, tunnel),
        }
        (self.tunnel, self.id) = (tunnel, Some(id));
        self.quiet &= id != CONTROL;
        let mut bytes = Buffer::holding(dialect.id_bytes(id));
        self.leg.lend(muxes).stream().drain(&mut bytes).is_ok() && bytes.is_empty()
    }

    /// It carries one user after another from now on, unless it is the control connection.
    pub fn into_successive(self) -> Idle {
        match self.id {
            Some(CONTROL) => self,
            _ => Idle { leg: self.leg.into_successive(), ..self },
        }
    }

    /// Whether a user may have it: it lives, and nothing was said on it that should not be.
    pub fn is_usable(&mut self, muxes: &mut Muxes) -> bool {
        !self.leg.failed(muxes) && self.leg.is_alive(self.quiet, muxes)
    }

    fn end(&self, context: &Context) -> Schedule {
        if let Some(id) = self.id {
            context.hub.send(Notice::Tunnel { number: self.tunnel, event: TunnelEvent::Gone(id) });
        }
        Schedule::End
    }
}
