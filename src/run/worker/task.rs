//! What a worker works on.
//!
//! ```text
//!  server:  Inbound --pool connection--> Idle --Join--> Relay            --Dial--> Dialer --> Relay
//!  both:    Relay --both directions have ended, the connection has not--> Idle
//!  client:  Connector  --id came----------> Idle --Dial--> Dialer -> Relay  --Join--> Relay
//!  single:  (TlsAccept, with TLS) ------------------------------------------> Dialer --> Relay
//!  ingress: Relay --its pool connection fails unheard--> Doubt --the egress has heard nothing--> (the hub: another Join)
//!  both:    Inbound, Connector --HTTP/2, QUIC--> MuxTask, whose streams are Inbounds and Connectors in their turn
//! ```

use std::convert::Infallible;
use std::time::Instant;

use mio::event::Event;

use super::accept::Inbound;
use super::connect::Connector;
use super::context::{Context, Side};
use super::dial::Dialer;
use super::idle::Idle;
use super::mux::{MuxTask, PoolTask};
use super::next::{Next, Schedule};
use super::probe::Probe;
use super::relay::Relay;
use super::tls_accept::TlsAccept;
use super::unheard::Doubt;
use crate::logic::terms::TunnelNo;
use crate::net::leg::Leg;
use crate::net::mux::Muxes;
use crate::run::messages::{Home, Survivors};
use crate::run::user::Proto;

/// One thing a worker looks after.
pub enum Task {
    /// On its way to one of the others.
    Stage(Stage),
    /// A pool connection without a user.
    Idle(Idle),
    /// Two ends relay.
    Relay(Relay),
    /// A connection that carries many streams, each of which is a task of its own.
    Mux(MuxTask),
}

/// A task that will be another before long.
pub enum Stage {
    /// A connection to the tunnel's port that has not said yet what it is (server).
    Inbound(Inbound),
    /// A connection to the server: the handshake, or a pool connection that opens (client).
    Connector(Connector),
    /// A single-end user who speaks TLS and is not through with the handshake.
    TlsAccept(TlsAccept),
    /// A connection to a target is being made.
    Dialer(Dialer),
    /// A target is being measured.
    Probe(Probe),
    /// A user whose pool connection has failed before it was heard.
    Doubt(Doubt),
}

impl Task {
    /// Does what can be done now, within a bound, and through as many changes as that brings. It goes on by value, within the block of
    /// memory that it has; what has ended is gone, with its sockets.
    pub fn advance(
        mut self: Box<Self>,
        home: Home,
        context: &mut Context,
        now: Instant,
    ) -> Option<(Box<Self>, Schedule)> {
        loop {
            let schedule = match *self {
                Task::Idle(ref mut idle) => idle.advance(home, context, now),
                Task::Relay(ref mut relay) => relay.advance(home, context, now),
                Task::Mux(ref mut mux) => mux.advance(context, now),
                Task::Stage(stage) => match stage.advance(home, context, now) {
                    Next::Become(task) => {
                        *self = task;
                        continue;
                    }
                    Next::Wait(stage) => {
                        *self = Task::Stage(stage);
                        Schedule::Wait
                    }
                    Next::Again(stage) => {
                        *self = Task::Stage(stage);
                        Schedule::Again
                    }
                    Next::End => return None,
                },
            };
            match schedule {
                Schedule::End => return None,
                Schedule::Doubt => {
                    let Task::Relay(relay) = *self else { return None };
                    *self = relay.into_doubt(now)?.into();
                }
                Schedule::Spent => {
                    let Task::Relay(relay) = *self else { return None };
                    *self = relay.into_idle(home, context, now)?.into();
                }
                schedule => return Some((self, schedule)),
            }
        }
    }

    /// Remembers an edge of one of its sockets.
    pub fn note(&mut self, side: Side, event: &Event, muxes: &mut Muxes) {
        match self {
            Task::Stage(stage) => stage.note(side, event),
            Task::Idle(task) => task.leg.note(event),
            Task::Relay(task) => task.note(side, event),
            Task::Mux(task) => task.note(event, muxes),
        }
    }

    /// When it goes on even without an edge.
    pub fn deadline(&self) -> Option<Instant> {
        match self {
            Task::Stage(stage) => stage.deadline(),
            Task::Relay(task) => task.deadline(),
            Task::Idle(task) => task.deadline(),
            // The clocks of a shared connection are finer than the timers: `Muxers` has them.
            Task::Mux(_) => None,
        }
    }

    /// The tunnel it belongs to; 0 for none.
    pub fn tunnel(&self, muxes: &Muxes) -> TunnelNo {
        match self {
            Task::Stage(Stage::Connector(task)) => task.tunnel(),
            Task::Stage(Stage::Dialer(task)) => task.tunnel(),
            Task::Stage(Stage::Doubt(task)) => task.tunnel(),
            Task::Stage(_) => 0,
            Task::Idle(task) => task.tunnel,
            Task::Relay(task) => task.tunnel(),
            Task::Mux(task) => task.tunnel(muxes),
        }
    }

    /// What its user speaks, if it holds a user's slot.
    pub fn proto(&self) -> Option<Proto> {
        match self {
            Task::Stage(Stage::TlsAccept(task)) => Some(task.proto()),
            Task::Stage(Stage::Dialer(task)) => Some(task.proto()),
            Task::Stage(Stage::Doubt(task)) => task.proto(),
            Task::Relay(task) => task.proto(),
            Task::Stage(_) | Task::Idle(_) | Task::Mux(_) => None,
        }
    }

    /// Its pool connection, be it idle or a user's.
    pub fn into_pool(self) -> Option<Leg> {
        match self {
            Task::Idle(idle) => Some(idle.leg),
            Task::Relay(relay) => Some(relay.into_remote()),
            Task::Stage(Stage::Dialer(dialer)) => dialer.into_pool(),
            Task::Stage(_) | Task::Mux(_) => None,
        }
    }

    /// How many places it takes among the connections that have not shown what they are, if it is one of them.
    pub fn undecided(&self, muxes: &Muxes) -> Option<usize> {
        match self {
            Task::Stage(Stage::Inbound(_)) => Some(1),
            // Its opening is not known to be true.
            Task::Idle(idle) => (idle.tunnel == 0).then_some(1),
            Task::Mux(mux) => mux.undecided(muxes),
            Task::Stage(_) | Task::Relay(_) => None,
        }
    }

    /// Whether it goes on though its tunnel is over.
    pub fn survives(&self, survivors: Survivors) -> bool {
        let own = match self {
            Task::Relay(relay) => relay.has_own_connection(),
            Task::Stage(Stage::Dialer(dialer)) => dialer.has_own_connection(),
            Task::Mux(_) => return matches!(survivors, Survivors::Tcp | Survivors::All),
            Task::Stage(_) | Task::Idle(_) => return false,
        };
        match (survivors, self.proto()) {
            // The peer may sleep, and hears its goodbye on that stream when it wakes; or it has said goodbye, and launches are on their way
            // to it: a stream that is given up is reset.
            (Survivors::Tcp | Survivors::All, None) => !own,
            (Survivors::None, _) | (_, None) => false,
            (Survivors::Own, Some(proto)) => own && matches!(proto, Proto::Tcp(_)),
            (Survivors::Tcp, Some(proto)) => matches!(proto, Proto::Tcp(_)),
            (Survivors::All, Some(_)) => true,
        }
    }

    /// Whether no user would miss it.
    pub fn is_unused(&self) -> bool {
        matches!(self, Task::Idle(_) | Task::Stage(Stage::Inbound(_) | Stage::Connector(_)))
    }
}

impl Stage {
    fn advance(self, home: Home, context: &mut Context, now: Instant) -> Next<Stage, Task> {
        match self {
            Stage::Inbound(task) => task.advance(home, context, now).widen(),
            Stage::Connector(task) => task.advance(home, context, now).widen(),
            Stage::TlsAccept(task) => task.advance(home, context, now).widen(),
            Stage::Dialer(task) => task.advance(home, context, now).widen(),
            Stage::Probe(task) => task.advance(context, now).widen(),
            Stage::Doubt(task) => task.advance(home, context, now).widen(),
        }
    }

    fn note(&mut self, side: Side, event: &Event) {
        match self {
            Stage::Inbound(task) => task.note(event),
            Stage::Connector(task) => task.note(event),
            Stage::TlsAccept(task) => task.note(event),
            Stage::Dialer(task) => task.note(side, event),
            Stage::Probe(task) => task.note(event),
            Stage::Doubt(task) => task.note(event),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match self {
            Stage::Inbound(task) => Some(task.deadline()),
            Stage::Connector(task) => task.deadline(),
            Stage::TlsAccept(task) => Some(task.deadline()),
            Stage::Dialer(task) => task.deadline(),
            Stage::Probe(task) => task.deadline(),
            Stage::Doubt(task) => Some(task.deadline()),
        }
    }
}

macro_rules! stages {
    ($($name:ident)+) => { $(
        impl From<$name> for Stage {
            fn from(stage: $name) -> Stage {
                Stage::$name(stage)
            }
        }

        impl From<$name> for Task {
            fn from(stage: $name) -> Task {
                Task::Stage(Stage::$name(stage))
            }
        }
    )+ };
}

stages! { Inbound Connector TlsAccept Dialer Probe Doubt }

impl From<Idle> for Task {
    fn from(idle: Idle) -> Task {
        Task::Idle(idle)
    }
}

impl From<Relay> for Task {
    fn from(relay: Relay) -> Task {
        Task::Relay(relay)
    }
}

impl From<MuxTask> for Task {
    fn from(mux: MuxTask) -> Task {
        Task::Mux(mux)
    }
}

impl From<PoolTask> for Task {
    fn from(task: PoolTask) -> Task {
        match task {
            PoolTask::Idle(idle) => Task::Idle(idle),
            PoolTask::Mux(mux) => Task::Mux(mux),
        }
    }
}

impl From<Infallible> for Task {
    fn from(none: Infallible) -> Task {
        match none {}
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
