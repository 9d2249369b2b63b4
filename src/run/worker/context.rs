//! What a worker lends its tasks, and the tokens of their sockets.

use std::net::SocketAddr;
use std::sync::Arc;

use mio::{Registry, Token};

use crate::logic::slab::Key;
use crate::logic::terms::TunnelNo;
use crate::net::mux::{Loan, Muxes};
use crate::net::quic::Tickets;
use crate::net::stream::Stores;
use crate::run::channel::Sender;
use crate::run::messages::Notice;
use crate::run::policy::AcceptPolicy;
use crate::run::shared::Shared;

/// What a worker lends its tasks.
pub struct Context {
    /// What the instance shares.
    pub shared: Arc<Shared>,
    /// Where sockets are registered.
    pub registry: Arc<Registry>,
    /// The hub.
    pub hub: Sender<Notice>,
    /// Buffers and pipes for TCP relays.
    pub tcp: Stores,
    /// Buffers for relays that carry datagrams.
    pub udp: Stores,
    /// Users of whom much may be kept.
    pub places: Places,
    /// Connections that carry many streams.
    pub muxes: Muxes,
    /// Sessions with the server that can be resumed.
    pub tickets: Tickets,
    /// What those connections have brought about and the worker has yet to apply.
    pub mux_events: MuxEvents,
    /// They take in what came: what they say goes out at the end of the turn.
    pub taking_in: bool,
}

/// Users of whom one worker keeps much at a time, which is for a moment: until the first acknowledgement.
pub struct Places {
    most: usize,
    /// Has as many owners as places are taken, and itself.
    taken: Arc<()>,
}

/// What the shared connections of a worker have brought about.
#[derive(Default)]
pub struct MuxEvents {
    /// Streams with an edge, by the tokens of their tasks.
    pub edges: Vec<Token>,
    /// Streams that came in, from which peer and under which policy.
    pub accepted: Vec<(Loan, SocketAddr, Arc<AcceptPolicy>)>,
    /// Tunnels whose shared connection has ended: their tasks have to notice.
    pub ended: Vec<TunnelNo>,
}

/// One of the two sockets that a task may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The user's, or the target's at the egress.
    Local,
    /// The pool connection, or the target in single-end mode.
    Remote,
}

impl Places {
    /// So many.
    pub fn new(most: usize) -> Places {
        Places { most, taken: Arc::new(()) }
    }

    /// One of them, until what this answers is dropped.
    pub fn take(&self) -> Option<Arc<()>> {
        // One of the owners is this.
        (Arc::strong_count(&self.taken) <= self.most).then(|| self.taken.clone())
    }
}

/// The event token of one of a task's two sockets.
pub fn token(key: Key, side: Side) -> Token {
    Token(key.index() * 2 + usize::from(side == Side::Remote))
}

/// The index of the task whose token that is, and which of its sockets.
pub fn socket_of(Token(token): Token) -> (usize, Side) {
    (token / 2, if token % 2 == 0 { Side::Local } else { Side::Remote })
}
