//! The upkeep of a tunnel's pool: what users give back, what is opened, and what is given up.

use std::time::Instant;

use super::{Side, Stage, Tunnel};
use crate::logic::terms::Feature;
use crate::logic::wire::Id;
use crate::run::hub::out::Out;
use crate::run::messages::Home;

impl Tunnel {
    /// A user's connection is free for another one. The ingress keeps no more than are wanted. It may have given this one to a user already
    /// when the egress hears of it: there it is idle again anyhow, and where that is one too many the oldest stays claimable only for a while.
    pub(super) fn freed(&mut self, (home, id): (Home, Id), behind: bool, now: Instant, out: &mut Out) {
        if self.side == Side::Ingress {
            // At the egress the next user may have come with it already.
            self.launched.left(id);
        }
        let leaving = self.leaving || self.replaced.is_some() || self.over.is_some();
        let wanted = match &mut self.opener {
            Some(opener) => opener.refill.takes_back(self.pool.idle()),
            None if self.side == Side::Ingress => self.pool.idle() < self.terms.max,
            None => self.pool.has_room(),
        };
        let unwanted = leaving || !wanted;
        if unwanted && self.side == Side::Ingress || self.pool.returned(id, home, home.worker, behind).is_err() {
            return out.close(home);
        }
        self.launched.opened(id, now);
        if unwanted {
            self.shed(1, now, out);
        }
    }

    /// Gives up so many idle connections, those that have waited longest: the ingress at once, the egress late, since launches may come.
    fn shed(&mut self, count: usize, now: Instant, out: &mut Out) {
        match self.side {
            Side::Ingress => self.pool.shed(count).into_iter().for_each(|home| out.close(home)),
            Side::Egress => self.pool.shed_late(count, now),
        }
    }

    /// A server that gives connections to users has no more than were agreed on: what users bring back comes beside what the client opens
    /// in place of it.
    pub(super) fn shed_beyond_max(&mut self, now: Instant, out: &mut Out) {
        if self.side == Side::Ingress && self.terms.features.contains(&Feature::Reuse) {
            self.shed(self.pool.idle().saturating_sub(self.terms.max), now, out);
        }
    }

    /// More pool connections fail than are idle: both sides begin anew.
    pub(super) fn renew_if_sick(&mut self, now: Instant, out: &mut Out) {
        let idle = self.pool.idle();
        let (Some(opener), Stage::Up { control, .. }) = (&mut self.opener, &mut self.stage) else { return };
        if !opener.refill.is_sick(idle) {
            return;
        }
        control.flush();
        opener.flushed(now);
        self.drop_idle(self.side == Side::Egress, now, out);
    }

    /// Drops all that is idle, at once or `late`: where launches may still come for it.
    pub(super) fn drop_idle(&mut self, late: bool, now: Instant, out: &mut Out) {
        match late {
            false => self.pool.flush().into_iter().for_each(|home| out.close(home)),
            true => self.pool.flush_late(now),
        }
    }

    /// Opens what the client's pool lacks.
    pub(super) fn refill(&mut self, now: Instant, out: &mut Out) {
        let Some(opener) = &mut self.opener else { return };
        match self.stage {
            Stage::Opening { .. } => opener.begin(self.pool.idle(), self.secret.as_ref(), now, out),
            Stage::Up { .. } => opener.open(&mut self.pool, self.secret.as_ref(), now, out),
        }
        let surplus = opener.refill.surplus();
        if surplus > 0 && self.terms.features.contains(&Feature::Reuse) {
            self.shed(surplus, now, out);
        }
    }
}
