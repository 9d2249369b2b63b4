//! What a world is made of: what goes wrong in it, its connections, and what happens to them.

use super::super::*;

/// What goes wrong.
#[derive(Clone, Copy, PartialEq)]
pub enum Fault {
    Any,
    ManyLosses,
    OtherCertificate,
    Silence,
    Forgets,
    /// The client's tunnel hears late of a connection that is open.
    SlowWorkers,
}

/// A pool connection, from one end to the other.
pub struct Link {
    pub homes: [Home; 2],
    pub id: Option<Id>,
    pub alive: bool,
    /// The user that it was given to.
    pub user: Option<SocketAddr>,
    /// Whether each end has a relay for that user.
    pub carries: [bool; 2],
    /// Nothing comes through any more, and neither end knows.
    pub forgotten: bool,
    /// The target speaks first: only the client can find out.
    pub listens: bool,
    /// The end of the user before has not come through, and the ingress can see that.
    pub unended: bool,
}

pub enum What {
    Event(usize, TunnelEvent),
    /// A user, who came at that time.
    User(Instant),
    /// A user's relay ends.
    Leave(usize),
    /// A connection is free for another user at that end.
    Free(usize, usize),
    /// An idle connection dies.
    Die(usize),
    /// That end's program stops.
    Stop(usize),
    /// The NAT between the two forgets what is idle.
    Forget,
}
