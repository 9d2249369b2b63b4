//! How a client opens the pool connections of a tunnel: as many and as fast as `Refill` says, on the workers that have the least
//! to do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::out::{Out, PeerUser};
use crate::error::Error;
use crate::logic::auth::{Numbers, SessionId, SessionKeys};
use crate::logic::pool::Pool;
use crate::logic::refill::Refill;
use crate::run::messages::{Home, Job, ServerRoute, Wanted};

/// How a client opens pool connections.
pub(in crate::run) struct Opener {
    pub refill: Refill,
    /// How they reach the server.
    pub route: Arc<ServerRoute>,
    /// Why the last one was not opened, until one is.
    pub failing: Option<Error>,
    /// The server allows no more streams for the time being.
    pub exhausted: bool,
    /// We asked for a new pool: no connection is opened before that has arrived.
    flushing: Option<Instant>,
}

impl Opener {
    /// Opens pool connections by `route`, as many and as fast as `refill` says.
    pub fn new(refill: Refill, route: Arc<ServerRoute>) -> Opener {
        Opener { refill, route, failing: None, exhausted: false, flushing: None }
    }

    /// When the clock has something to say.
    pub fn deadline(&self) -> Option<Instant> {
        self.flushing.or_else(|| self.refill.deadline())
    }

    /// The first ones, with so many of the pool open. The server makes one of them the control connection: whichever is through first.
    /// Some of the pool come with it, so that the first users need not wait for as many round trips again. The rest comes when the
    /// tunnel is up, with tickets of these. An original is given the first one alone.
    pub fn begin(&mut self, idle: usize, secret: Option<&Secret>, now: Instant, out: &mut Out) {
        let ahead = if secret.is_some() && !self.route.transport.is_shared() { AHEAD } else { 0 };
        for _ in 0..self.refill.begin(ahead, idle, now) {
            // Any may become the control connection, which lives there.
            out.job(0, Job::Open(Wanted::new(&self.route, secret)));
        }
    }

    /// As many as the pool lacks.
    pub fn open(&mut self, pool: &mut Pool<Home, PeerUser>, secret: Option<&Secret>, now: Instant, out: &mut Out) {
        if self.flushing.is_some_and(|until| now < until) {
            return;
        }
        self.flushing = None;
        for _ in 0..self.refill.open(pool.idle(), now) {
            // One connection carries them all, and it lives where the control connection does.
            let shared = self.route.transport.is_shared();
            let worker = if shared { 0 } else { pool.next_worker(&mut out.loads) };
            out.job(worker, Job::Open(Wanted::new(&self.route, secret)));
        }
    }

    /// The peer was asked to drop its pool: streams of a shared connection would overtake that, and be closed by it in their turn.
    pub fn flushed(&mut self, now: Instant) {
        self.flushing = Some(now + FLUSHING);
    }
}

/// The keys of an authenticated tunnel, at either end.
pub(in crate::run) struct Secret {
    /// What everything is said under.
    pub keys: Arc<SessionKeys>,
    /// The session's number.
    pub session: SessionId,
    /// The openings that were used (server).
    pub used: Numbers,
}

impl Wanted {
    /// A pool connection on that route, with an opening of its own in an authenticated tunnel.
    pub(in crate::run) fn new(route: &Arc<ServerRoute>, secret: Option<&Secret>) -> Wanted {
        let opening = secret.map(|secret| secret.keys.opening(secret.session));
        Wanted { route: route.clone(), opening }
    }
}

/// Connections for the pool that are opened together with the control connection. Each costs a handshake without a ticket.
const AHEAD: usize = 4;
/// Time for a flush to arrive.
const FLUSHING: Duration = Duration::from_millis(400);
