//! Pool connections that are dead though one side, or both, does not see it: a NAT has forgotten them. With the feature `gone` the side that
//! finds out tells the other, and a user who has drawn one gets another.
//!
//! ```text
//!  a worker:  idle, dead ----------------------> gone --> the peer drops it
//!  ingress:   a user's, dead or unanswered ----> gone --> egress: no byte came --> gone --> the user gets another
//!                                                                 bytes came ----> kept --> the user stays, or is lost
//!  egress:    what it sends unanswered -------> doubt --> ingress: nothing came --> gone, as if it were the user's that is unanswered
//!  egress:    a launch for a dead one ---------> gone --> the user gets another
//! ```

use std::time::Instant;

use super::{Side, Stage, Tunnel};
use crate::logic::terms::Feature;
use crate::logic::wire::Id;
use crate::run::hub::out::Out;
use crate::run::messages::Job;

impl Tunnel {
    /// Whether the peer knows what a dead connection is.
    pub(super) fn tells_gone(&self) -> bool {
        self.terms.features.contains(&Feature::Gone)
    }

    /// An idle pool connection died.
    pub(super) fn idle_died(&mut self, id: Id) {
        self.pool.gone(id);
        self.died(id);
    }

    /// A pool connection is dead, and no byte of a user's has come over it: the peer is told.
    pub(super) fn died(&mut self, id: Id) {
        self.launched.died(id);
        let tells = self.tells_gone();
        if let (true, Stage::Up { control, .. }) = (tells, &mut self.stage) {
            control.gone(id);
        }
    }

    /// Bytes have come over a connection that the peer thinks dead.
    pub(super) fn lives(&mut self, id: Id) {
        if let Stage::Up { control, .. } = &mut self.stage {
            control.kept(id);
        }
    }

    /// What was sent over the connection of a user of the peer's is not acknowledged, and nothing has come over it: the user may wait for
    /// what the target has said.
    pub(super) fn doubted(&mut self, id: Id) {
        let tells = self.tells_gone();
        if let (true, Stage::Up { control, .. }) = (tells, &mut self.stage) {
            control.doubt(id);
        }
    }

    /// The peer launches a user on a connection that has died here.
    pub(super) fn is_launched_in_vain(&mut self, id: Id) -> bool {
        let in_vain = self.tells_gone() && self.launched.is_dead(id);
        if in_vain {
            self.died(id);
        }
        in_vain
    }

    /// The peer says that a connection is dead.
    pub(super) fn told_gone(&mut self, id: Id, now: Instant, out: &mut Out) {
        if !self.tells_gone() {
            return;
        }
        if let Some(home) = self.pool.withdraw(id) {
            return out.close(home);
        }
        let (tunnel, home) = (self.number, self.launched.home(id));
        match (self.side, home) {
            (Side::Ingress, Some(home)) => {
                out.job(home.worker, Job::Retake { key: home.key, id });
                self.drop_as_silent(id, now, out);
            }
            (Side::Ingress, None) => {}
            // The user before has not left it here: nothing of this one's can have come.
            (Side::Egress, _) if self.pool.forget(id).is_some() => self.died(id),
            (Side::Egress, Some(home)) => out.job(home.worker, Job::Question { key: home.key, tunnel, id }),
            (Side::Egress, None) if self.launched.is_dead(id) => self.died(id),
            (Side::Egress, None) => self.lives(id),
        }
    }

    /// The peer says that bytes have come over a connection that was asked about.
    pub(super) fn told_kept(&mut self, id: Id, out: &mut Out) {
        if let (Side::Ingress, Some(home)) = (self.side, self.launched.home(id)) {
            out.job(home.worker, Job::Keep { key: home.key, id });
        }
    }

    /// The peer says that what it sends over a connection is not acknowledged.
    pub(super) fn told_doubt(&mut self, id: Id, out: &mut Out) {
        if let (true, Side::Ingress, Some(home)) = (self.tells_gone(), self.side, self.launched.home(id)) {
            out.job(home.worker, Job::Doubt { key: home.key, id });
        }
    }

    /// What has been silent for as long as that dead connection is dead too: the client opens others at once.
    fn drop_as_silent(&mut self, id: Id, now: Instant, out: &mut Out) {
        for other in self.launched.as_silent(id, now) {
            if let Some(home) = self.pool.withdraw(other) {
                out.close(home);
                self.died(other);
            }
        }
    }
}
