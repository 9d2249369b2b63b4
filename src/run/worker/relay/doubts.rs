//! A relay whose pool connection may be dead: whether it is, and the way of its user to another.

use std::time::Instant;

use super::Relay;
use crate::logic::wire::Id;
use crate::net::mux::Muxes;
use crate::run::messages::{Notice, TunnelEvent};
use crate::run::user::User;
use crate::run::worker::context::Context;
use crate::run::worker::unheard::{Doubt, Seen, DEAD};

impl Relay {
    /// Whether no more is read of the user until the egress has answered.
    pub(super) fn is_full(&self) -> bool {
        self.unheard.as_ref().is_some_and(|unheard| unheard.is_full())
    }

    /// Looks whether what was sent over a connection that has not been heard is acknowledged. If not the egress is asked; the egress has the
    /// ingress ask.
    pub(super) fn look(&mut self, context: &Context, now: Instant) {
        let Some(unheard) = &mut self.unheard else { return };
        let event = match unheard.look(|| self.remote.undelivered(), &context.places, now) {
            Seen::Nothing => return,
            Seen::Ask => TunnelEvent::Lost(unheard.id()),
            Seen::Tell => TunnelEvent::Doubted(unheard.id()),
        };
        context.hub.send(Notice::Tunnel { number: self.join.tunnel, event });
    }

    /// The other side finds that what it sends over connection `id` is not acknowledged: it is asked, unless something has come, or waits to
    /// be read.
    pub fn doubted(&mut self, id: Id, context: &mut Context) {
        let Some(unheard) = self.unheard.as_mut().filter(|unheard| unheard.id() == id) else { return };
        if !self.remote.has_said(&mut context.muxes) && unheard.doubted() {
            context.hub.send(Notice::Tunnel { number: self.join.tunnel, event: TunnelEvent::Lost(id) });
        }
    }

    /// Whether its pool connection has failed before it was heard, and the user can have another: the egress is asked. At the egress the
    /// ingress is told.
    pub(super) fn is_lost(&mut self, broken: bool, context: &mut Context) -> bool {
        let Some(unheard) = &self.unheard else { return false };
        let (id, retried) = (unheard.id(), unheard.may_retry());
        let failed = broken || self.remote.failed(&mut context.muxes);
        if !failed || self.local.is_cut() || !self.remote.is_cut() {
            return false;
        }
        if unheard.is_here() && !retried {
            return false;
        }
        context.hub.send(Notice::Tunnel { number: self.join.tunnel, event: TunnelEvent::Lost(id) });
        retried
    }

    /// The pool connection over which no byte of the other side has come.
    pub fn unheard_id(&self) -> Option<Id> {
        self.unheard.as_ref().map(|unheard| unheard.id())
    }

    /// The user stays with this pool connection, whatever comes of it.
    pub fn keep(&mut self) {
        self.unheard = None;
    }

    /// Whether the user can have another pool connection.
    pub fn may_retry(&self) -> bool {
        self.unheard.as_ref().is_some_and(|unheard| unheard.may_retry())
    }

    /// Whether no byte has come over its pool connection, nor waits there, nor has the other side acknowledged one.
    pub fn nothing_came(&mut self, muxes: &mut Muxes, now: Instant) -> bool {
        let Some(unheard) = &self.unheard else { return false };
        !unheard.is_answered(self.remote.undelivered(), now) && !self.remote.has_said(muxes)
    }

    /// Its pool connection is dead: it ends without what is still on its way.
    pub fn cut(&mut self) {
        self.remote.cut();
    }

    /// The user, whose pool connection has failed: what follows is the egress's word.
    pub fn into_doubt(self, now: Instant) -> Option<Doubt> {
        Some(Doubt::new(self.local, *self.unheard?, self.join, now))
    }

    /// The user, for another pool connection. This one is reset.
    pub fn into_user(mut self, context: &Context) -> Option<User> {
        self.join.ended(&context.shared, Some(DEAD));
        self.remote.cut();
        self.unheard?.into_user(self.local, &context.registry)
    }
}
