//! A pool connection that waits for its user.

use super::context::Context;
use super::task::Next;
use crate::logic::terms::TunnelNo;
use crate::logic::wire::Id;
use crate::net::leg::Leg;
use crate::run::messages::{Notice, TunnelEvent};

/// A pool connection that waits for its user. Which of its sockets is used: the far one.
pub struct Idle {
    /// The connection.
    pub leg: Option<Leg>,
    /// The tunnel it belongs to.
    pub tunnel: TunnelNo,
    /// Its id, once it has one.
    pub id: Option<Id>,
    /// The other side has no reason to speak first.
    pub quiet: bool,
    /// The other side has ended its direction, and the hub knows.
    pub ended: bool,
}

impl Idle {
    /// Drops it when it dies, not when a user gets it.
    ///
    /// At the egress an end is not yet a death: it may be that of a user who had nothing to say.
    pub fn advance(&mut self, context: &mut Context) -> Next {
        let (quiet, ended) = (self.quiet, self.ended);
        let Some(leg) = &mut self.leg else { return self.gone(context) };
        let muxes = &mut context.muxes;
        if leg.failed(muxes) {
            return self.gone(context);
        }
        if leg.is_alive(quiet, muxes) || ended {
            return Next::Wait;
        }
        match self.id {
            Some(id) if !quiet && leg.has_ended(muxes) => {
                self.ended = true;
                context.hub.send(Notice::Tunnel { number: self.tunnel, event: TunnelEvent::Ended(id) });
                Next::Wait
            }
            _ => self.gone(context),
        }
    }

    fn gone(&mut self, context: &mut Context) -> Next {
        if let Some(id) = self.id {
            context.hub.send(Notice::Tunnel { number: self.tunnel, event: TunnelEvent::Gone(id) });
        }
        Next::End
    }
}
