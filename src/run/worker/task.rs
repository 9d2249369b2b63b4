//! What a worker works on, and what it works with.
//!
//! ```text
//!  server:  Inbound --pool connection--> Idle --Join--> Relay            --Dial--> Dialer --> Relay
//!  client:  Connector  --id came----------> Idle --Dial--> Dialer -> Relay  --Join--> Relay
//!  single:  (TlsAccept, with TLS) ------------------------------------------> Dialer --> Relay
//!  both:    Inbound, Connector --HTTP/2, QUIC--> MuxTask, whose streams are Inbounds and Connectors in their turn
//! ```

use std::time::Instant;

use mio::event::Event;

use super::accept::Inbound;
use super::connect::Connector;
use super::context::Context;
use super::dial::Dialer;
use super::idle::Idle;
use super::mux::MuxTask;
use super::probe::Probe;
use super::relay::Relay;
use super::tls_accept::TlsAccept;
use crate::net::mux::Muxes;
use crate::run::messages::{Home, Proto};

/// One thing a worker looks after: at any time a task is in one of these stages.
pub enum Task {
    /// Somebody at the tunnel's port who has not said yet what he wants (server).
    Inbound(Inbound),
    /// A route to the server: the handshake, or a pool connection that opens (client).
    Connector(Connector),
    /// A pool connection without a user.
    Idle(Idle),
    /// A single-end user who speaks TLS and is not through with the handshake.
    TlsAccept(TlsAccept),
    /// A connection to a target is being made.
    Dialer(Dialer),
    /// A target is being measured.
    Probe(Probe),
    /// Two ends relay.
    Relay(Relay),
    /// A connection that carries many streams, each of which is a task of its own.
    MuxTask(MuxTask),
}

/// What a task wants after it went on. A task that becomes another is moved once; boxing it would cost an allocation.
#[allow(clippy::large_enum_variant)]
pub enum Next {
    /// An edge, a job or its deadline.
    Wait,
    /// Another turn, after the others had theirs.
    Again,
    /// To go on as this, at once.
    Become(Task),
    /// To be dropped, with its sockets.
    End,
}

impl Task {
    /// Does what can be done now, within a bound.
    pub fn advance(&mut self, home: Home, context: &mut Context, now: Instant) -> Next {
        match self {
            Task::Inbound(task) => task.advance(home, context, now),
            Task::Connector(task) => task.advance(home, context, now),
            Task::Idle(task) => task.advance(context),
            Task::TlsAccept(task) => task.advance(home, context, now),
            Task::Dialer(task) => task.advance(home, context, now),
            Task::Probe(task) => task.advance(context, now),
            Task::Relay(task) => task.advance(home, context, now),
            Task::MuxTask(task) => task.advance(context, now),
        }
    }

    /// Remembers an edge of its near (0) or far (1) socket.
    pub fn note(&mut self, side: usize, event: &Event, muxes: &mut Muxes) {
        match self {
            Task::Inbound(task) => task.leg.iter_mut().for_each(|leg| leg.note(event)),
            Task::Connector(task) => task.note(event),
            Task::Idle(task) => task.leg.iter_mut().for_each(|leg| leg.note(event)),
            Task::TlsAccept(task) => task.user.iter_mut().for_each(|leg| leg.note(event)),
            Task::Dialer(task) => task.note(side, event),
            Task::Probe(task) => task.connect.note(event),
            Task::Relay(task) => task.note(side, event),
            Task::MuxTask(task) => task.note(event, muxes),
        }
    }

    /// When it wants to go on even without an edge.
    pub fn deadline(&self) -> Option<Instant> {
        match self {
            Task::Inbound(task) => Some(task.deadline()),
            Task::Connector(task) => task.deadline(),
            Task::Idle(_) => None,
            Task::TlsAccept(task) => Some(task.until),
            Task::Dialer(task) => task.deadline(),
            Task::Probe(task) => task.connect.deadline(),
            Task::Relay(task) => task.deadline(),
            // Looked at each turn, since its clocks are finer than the timers.
            Task::MuxTask(_) => None,
        }
    }

    /// Whose slot it holds, if anybody's.
    pub fn proto(&self) -> Option<Proto> {
        match self {
            Task::TlsAccept(_) => Some(Proto::Tcp),
            Task::Dialer(task) => Some(task.proto()),
            Task::Relay(task) => task.proto(),
            Task::Inbound(_) | Task::Connector(_) | Task::Idle(_) | Task::Probe(_) | Task::MuxTask(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_small() {
        let size = std::mem::size_of::<Task>();
        assert!(size <= 480, "{size} bytes");
    }
}
