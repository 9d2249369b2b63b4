//! What a worker lends its tasks.

use std::sync::Arc;

use mio::{Registry, Token};

use super::mux::MuxEvents;
use crate::logic::slab::Key;
use crate::net::mux::Muxes;
use crate::net::quic::Tickets;
use crate::net::stream::Stores;
use crate::run::channel::Sender;
use crate::run::messages::Notice;
use crate::run::shared::Shared;

/// What a worker lends its tasks.
pub struct Context {
    /// What the instance shares.
    pub shared: Arc<Shared>,
    /// Where sockets are registered.
    pub registry: Registry,
    /// The hub.
    pub hub: Sender<Notice>,
    /// Buffers and pipes for TCP relays.
    pub tcp: Stores,
    /// Buffers for relays that carry datagrams.
    pub udp: Stores,
    /// Connections that carry many streams.
    pub muxes: Muxes,
    /// Sessions with the server that can be resumed.
    pub tickets: Tickets,
    /// What those connections have brought about and the worker has yet to see to.
    pub mux_events: MuxEvents,
}

/// The near socket of a relay: the user's, or the target's at the egress.
pub const LOCAL: usize = 0;
/// The far socket: the pool connection, or the target in single-end mode.
pub const REMOTE: usize = 1;

/// The event token of one of a task's two sockets.
pub fn token(key: Key, side: usize) -> Token {
    Token(key.index() * 2 + side)
}
