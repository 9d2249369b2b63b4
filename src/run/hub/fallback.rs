//! Whether QUIC gets through, and what a client does where it does not: pool connections over TCP with TLS, if the server
//! takes them (the feature `fallback`).
//!
//! ```text
//!  Quic --third miss, or TCP is up before it--> Tcp{again} --QUIC is up; every minute: one try--> Quic
//! ```
//!
//! A tunnel that begins does not wait for QUIC alone: after a moment without an answer its first connection is tried over TCP as well, and
//! whichever is up first carries the first users.

use std::fmt::Display;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::tunnel::Tunnel;
use crate::config::Transport;
use crate::error::Error;
use crate::logic::terms::Feature;
use crate::run::messages::ServerRoute;

/// How a client reaches a QUIC server. It outlives tunnels.
pub(in crate::run) enum QuicFallback {
    /// Over QUIC, which has failed that many times in a row.
    Quic { misses: u32, race: Race },
    /// Over TCP with TLS; QUIC is tried again at that time, with this route.
    Tcp(Instant, Arc<ServerRoute>),
}

/// TCP beside the first try of QUIC.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::run) enum Race {
    /// It is not tried.
    Off,
    /// It is tried at that time.
    At(Instant),
    /// A connection over TCP is on its way.
    On,
}

impl Default for QuicFallback {
    fn default() -> Self {
        QuicFallback::Quic { misses: 0, race: Race::Off }
    }
}

impl QuicFallback {
    /// The route for pool connections.
    pub fn choose(&mut self, route: Arc<ServerRoute>, fallback: bool) -> Arc<ServerRoute> {
        match self {
            QuicFallback::Tcp(_, quic) if fallback && route.transport == Transport::Quic => {
                let tcp = over_tcp(&route);
                *quic = route;
                tcp
            }
            QuicFallback::Tcp(..) => {
                *self = QuicFallback::default();
                route
            }
            QuicFallback::Quic { .. } => route,
        }
    }

    /// A tunnel begins.
    pub fn begin(&mut self, tunnel: &mut Tunnel, now: Instant) {
        let has_both = tunnel.terms().features.contains(&Feature::Fallback)
            && tunnel.route().is_some_and(|route| route.transport == Transport::Quic);
        if let (true, QuicFallback::Quic { race, .. }) = (has_both, self) {
            *race = Race::At(now + HEAD_START);
        }
    }

    /// When the other transport is tried.
    pub fn deadline(&self) -> Option<Instant> {
        match self {
            QuicFallback::Tcp(again, _) => Some(*again),
            QuicFallback::Quic { race: Race::At(then), .. } => Some(*then),
            QuicFallback::Quic { .. } => None,
        }
    }

    /// A connection that carries the tunnel's pool is up: it is used from now on.
    pub fn up(&mut self, tunnel: &mut Tunnel) {
        if let QuicFallback::Tcp(_, quic) = std::mem::take(self) {
            log::info!(event = "quic_back"; "QUIC gets through again: new pool connections go over it");
            tunnel.route().into_iter().for_each(|route| *route = quic.clone());
        }
    }

    /// A pool connection is open. Where QUIC is not up yet that is the one over TCP, and more follow it; QUIC is tried again at `retry`.
    pub fn opened(&mut self, tunnel: &mut Tunnel, retry: Instant) {
        if let (QuicFallback::Quic { race: Race::On, .. }, Some(route)) = (&*self, tunnel.route()) {
            let why = format!("UDP port {} has not answered in {HEAD_START:?}", route.addresses[0].port());
            *self = QuicFallback::instead(route, &why, retry);
        }
    }

    /// It could not be made. Gives the reason back where nothing can be done about it.
    pub fn failed(&mut self, why: Error, tunnel: &mut Tunnel, retry: Instant) -> Option<Error> {
        let may_fall_back = tunnel.terms().features.contains(&Feature::Fallback);
        match self {
            // A try while the pool comes over TCP: no news.
            QuicFallback::Tcp(..) => log::debug!("QUIC does not get through yet: {why}"),
            QuicFallback::Quic { .. } if !may_fall_back => return Some(why),
            QuicFallback::Quic { misses, .. } => {
                *misses += 1;
                if let (true, Some(route)) = (*misses >= TRIES, tunnel.route()) {
                    *self = QuicFallback::instead(route, &why, retry);
                }
            }
        }
        None
    }

    /// Makes `route` one over TCP, since QUIC is not to be had.
    fn instead(route: &mut Arc<ServerRoute>, why: &dyn Display, retry: Instant) -> QuicFallback {
        log::warn!(event = "quic_blocked"; "{why}: going on over TCP with TLS");
        let tcp = over_tcp(route);
        QuicFallback::Tcp(retry, std::mem::replace(route, tcp))
    }

    /// The server shows another certificate from now on: what `change` makes of the routes.
    pub fn change(&mut self, tunnel: &mut Tunnel, mut change: impl FnMut(&ServerRoute) -> Option<ServerRoute>) {
        let kept = match self {
            QuicFallback::Tcp(_, quic) => Some(quic),
            QuicFallback::Quic { .. } => None,
        };
        for route in tunnel.route().into_iter().chain(kept) {
            if let Some(changed) = change(route) {
                *route = Arc::new(changed);
            }
        }
    }

    /// The route to try beside the one in use, once it is due: TCP where QUIC does not answer at once, and now and then QUIC while the pool
    /// comes over TCP; that again after `pause`.
    pub fn due(&mut self, tunnel: &mut Tunnel, now: Instant, pause: Duration) -> Option<Arc<ServerRoute>> {
        if self.deadline().is_none_or(|due| now < due) {
            return None;
        }
        match self {
            QuicFallback::Quic { race, .. } => {
                *race = Race::On;
                tunnel.route().map(|route| over_tcp(route))
            }
            QuicFallback::Tcp(again, quic) => {
                *again = now + pause;
                Some(quic.clone())
            }
        }
    }
}

/// The same route without QUIC.
pub(in crate::run) fn over_tcp(route: &ServerRoute) -> Arc<ServerRoute> {
    Arc::new(ServerRoute { transport: Transport::Tcp, ..route.clone() })
}

/// After so many tries without a QUIC handshake its port is taken for blocked.
const TRIES: u32 = 3;
/// What QUIC has before TCP is tried beside it; browsers give a first address as long (RFC 8305).
const HEAD_START: Duration = Duration::from_millis(250);
