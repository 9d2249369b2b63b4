//! What a worker works on, and what it works with.
//!
//! ```text
//!  server:  Visitor --pool connection--> Idle --Join--> Joined            --Dial--> Dialer --> Joined
//!  client:  Caller  --id came----------> Idle --Dial--> Dialer -> Joined  --Join--> Joined
//!  single:  (Greeter, with TLS) ------------------------------------------> Dialer --> Joined
//!  both:    Visitor, Caller --HTTP/2, QUIC--> Carrier, whose streams are Visitors and Callers in their turn
//! ```

use std::sync::Arc;
use std::time::Instant;

use mio::event::Event;
use mio::{Registry, Token};
use portable_atomic::{AtomicU64, Ordering};

use super::caller::Caller;
use super::carrier::{Carrier, News};
use super::dialer::{Dialer, Greeter};
use super::handoff::{Home, Notice, Post, Proto, TunnelNo};
use super::joined::Joined;
use super::probe::Probe;
use super::visitor::Visitor;
use crate::config::{Config, Role};
use crate::logic::slab::Key;
use crate::logic::sniff::Blocked;
use crate::logic::timers::Bucket;
use crate::logic::wire::Id;
use crate::net::leg::Leg;
use crate::net::mux::Muxes;
use crate::net::quic::Tickets;
use crate::net::stream::Stores;

/// One thing a worker looks after: at any time a task is in one of these stages.
pub enum Task {
    /// Somebody at the tunnel's port who has not said yet what he wants (server).
    Visitor(Visitor),
    /// A call to the server: the handshake, or a pool connection that opens (client).
    Caller(Caller),
    /// A pool connection without a user.
    Idle(Idle),
    /// A single-end user who speaks TLS and is not through with the handshake.
    Greeter(Greeter),
    /// A connection to a target is being made.
    Dialer(Dialer),
    /// A target is being measured.
    Probe(Probe),
    /// Two ends joined.
    Joined(Joined),
    /// A connection that carries many streams, each of which is a task of its own.
    Carrier(Carrier),
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
    pub fn advance(&mut self, home: Home, means: &mut Means, now: Instant) -> Next {
        match self {
            Task::Visitor(task) => task.advance(home, means, now),
            Task::Caller(task) => task.advance(home, means, now),
            Task::Idle(task) => task.advance(means),
            Task::Greeter(task) => task.advance(home, means, now),
            Task::Dialer(task) => task.advance(home, means, now),
            Task::Probe(task) => task.advance(means, now),
            Task::Joined(task) => task.advance(home, means, now),
            Task::Carrier(task) => task.advance(means, now),
        }
    }

    /// Remembers an edge of its near (0) or far (1) socket.
    pub fn note(&mut self, side: usize, event: &Event, muxes: &mut Muxes) {
        match self {
            Task::Visitor(task) => task.leg.iter_mut().for_each(|leg| leg.note(event)),
            Task::Caller(task) => task.note(event),
            Task::Idle(task) => task.leg.iter_mut().for_each(|leg| leg.note(event)),
            Task::Greeter(task) => task.user.iter_mut().for_each(|leg| leg.note(event)),
            Task::Dialer(task) => task.note(side, event),
            Task::Probe(task) => task.connect.note(event),
            Task::Joined(task) => task.note(side, event),
            Task::Carrier(task) => task.note(event, muxes),
        }
    }

    /// When it wants to go on even without an edge.
    pub fn deadline(&self) -> Option<Instant> {
        match self {
            Task::Visitor(task) => Some(task.deadline()),
            Task::Caller(task) => task.deadline(),
            Task::Idle(_) => None,
            Task::Greeter(task) => Some(task.until),
            Task::Dialer(task) => task.deadline(),
            Task::Probe(task) => task.connect.deadline(),
            Task::Joined(task) => task.deadline(),
            // Looked at each turn, since its clocks are finer than the timers.
            Task::Carrier(_) => None,
        }
    }

    /// Whose slot it holds, if anybody's.
    pub fn proto(&self) -> Option<Proto> {
        match self {
            Task::Greeter(_) => Some(Proto::Tcp),
            Task::Dialer(task) => Some(task.proto()),
            Task::Joined(task) => task.proto(),
            Task::Visitor(_) | Task::Caller(_) | Task::Idle(_) | Task::Probe(_) | Task::Carrier(_) => None,
        }
    }
}

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
    fn advance(&mut self, means: &mut Means) -> Next {
        let (quiet, ended) = (self.quiet, self.ended);
        let Some(leg) = &mut self.leg else { return self.gone(means) };
        let muxes = &mut means.muxes;
        if leg.failed(muxes) {
            return self.gone(means);
        }
        if leg.is_alive(quiet, muxes) || ended {
            return Next::Wait;
        }
        match self.id {
            Some(id) if !quiet && leg.has_ended(muxes) => {
                self.ended = true;
                means.hub.send(Notice::Ended(self.tunnel, id));
                Next::Wait
            }
            _ => self.gone(means),
        }
    }

    fn gone(&mut self, means: &mut Means) -> Next {
        if let Some(id) = self.id {
            means.hub.send(Notice::Gone(self.tunnel, id));
        }
        Next::End
    }
}

/// What every thread of an instance shares: what never changes, and counters.
pub struct Shared {
    /// The whole configuration.
    pub config: Config,
    /// Bytes since the start.
    pub meters: Meters,
    /// The rate limit from users to targets.
    pub up: Option<Bucket>,
    /// The rate limit from targets to users.
    pub down: Option<Bucket>,
}

impl Shared {
    /// What this instance is called in the log.
    pub fn name(&self) -> &'static str {
        match self.config.role {
            Role::Server => "Server",
            Role::Client => "Client",
            Role::Master => "Master",
        }
    }

    /// How many workers: as configured, else one a core.
    pub fn workers(&self) -> usize {
        workers(&self.config)
    }

    /// What users may not open with.
    pub fn blocked(&self) -> Blocked {
        let block = &self.config.block;
        Blocked { socks: block.socks, http: block.http, tls: block.tls }
    }
}

/// How many workers an instance has: as configured, else one a core.
pub fn workers(config: &Config) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    config.limits.workers.unwrap_or_else(cores).clamp(1, MOST_WORKERS)
}

/// Bytes received from and sent to users (ingress) or targets (egress), since the instance's start.
#[derive(Default)]
pub struct Meters {
    /// TCP, received.
    pub tcp_rx: AtomicU64,
    /// TCP, sent.
    pub tcp_tx: AtomicU64,
    /// UDP payload, received.
    pub udp_rx: AtomicU64,
    /// UDP payload, sent.
    pub udp_tx: AtomicU64,
}

impl Meters {
    /// TCP received and sent, UDP received and sent.
    pub fn read(&self) -> [u64; 4] {
        [&self.tcp_rx, &self.tcp_tx, &self.udp_rx, &self.udp_tx].map(|meter| meter.load(Ordering::Relaxed))
    }
}

/// Adds to a meter.
pub fn add(meter: &AtomicU64, count: u64) {
    if count > 0 {
        meter.fetch_add(count, Ordering::Relaxed);
    }
}

/// What a worker lends its tasks.
pub struct Means {
    /// What the instance shares.
    pub shared: Arc<Shared>,
    /// Where sockets are registered.
    pub registry: Registry,
    /// The hub.
    pub hub: Post<Notice>,
    /// Buffers and pipes for TCP relays.
    pub tcp: Stores,
    /// Buffers for relays that carry datagrams.
    pub udp: Stores,
    /// Connections that carry many streams.
    pub muxes: Muxes,
    /// Sessions with the server that can be resumed.
    pub tickets: Tickets,
    /// What those connections have brought about and the worker has yet to see to.
    pub news: News,
}

/// The near socket of a relay: the user's, or the target's at the egress.
pub const NEAR: usize = 0;
/// The far socket: the pool connection, or the target in single-end mode.
pub const FAR: usize = 1;

/// The event token of one of a task's two sockets.
pub fn token(key: Key, side: usize) -> Token {
    Token(key.index() * 2 + side)
}

/// Most workers, and so threads, of one instance.
const MOST_WORKERS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_small() {
        let size = std::mem::size_of::<Task>();
        assert!(size <= 480, "{size} bytes");
    }
}
