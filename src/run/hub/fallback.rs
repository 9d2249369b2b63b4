//! Whether QUIC gets through, and what a client does where it does not: pool connections over TCP with TLS, if the server
//! takes them (the feature `fallback`).
//!
//! ```text
//!  Quic{misses} --third miss--> Tcp{again} --every minute: one try--> Quic
//! ```

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
    Quic(u32),
    /// Over TCP with TLS; QUIC is tried again at that time, with this route.
    Tcp(Instant, Arc<ServerRoute>),
}

impl Default for QuicFallback {
    fn default() -> Self {
        QuicFallback::Quic(0)
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
            QuicFallback::Quic(_) => route,
        }
    }

    /// When QUIC is tried again.
    pub fn deadline(&self) -> Option<Instant> {
        match self {
            QuicFallback::Tcp(again, _) => Some(*again),
            QuicFallback::Quic(_) => None,
        }
    }

    /// A connection that carries the tunnel's pool is up: it is used from now on.
    pub fn up(&mut self, tunnel: &mut Tunnel) {
        if let QuicFallback::Tcp(_, quic) = std::mem::take(self) {
            log::info!(event = "quic_back"; "QUIC gets through again: new pool connections go over it");
            tunnel.route().into_iter().for_each(|route| *route = quic.clone());
        }
    }

    /// It could not be made. Gives the reason back where nothing can be done about it.
    pub fn failed(&mut self, why: Error, tunnel: &mut Tunnel, retry: Instant) -> Option<Error> {
        let may_fall_back = tunnel.terms().features.contains(&Feature::Fallback);
        match self {
            // A try while the pool comes over TCP: no news.
            QuicFallback::Tcp(..) => log::debug!("QUIC does not get through yet: {why}"),
            QuicFallback::Quic(_) if !may_fall_back => return Some(why),
            QuicFallback::Quic(misses) => {
                *misses += 1;
                if let (true, Some(route)) = (*misses >= TRIES, tunnel.route()) {
                    log::warn!(event = "quic_blocked"; "{why}: going on over TCP with TLS");
                    let tcp = over_tcp(route);
                    *self = QuicFallback::Tcp(retry, std::mem::replace(route, tcp));
                }
            }
        }
        None
    }

    /// The server shows another certificate from now on: what `change` makes of the routes.
    pub fn change(&mut self, tunnel: &mut Tunnel, mut change: impl FnMut(&ServerRoute) -> Option<ServerRoute>) {
        let kept = match self {
            QuicFallback::Tcp(_, quic) => Some(quic),
            QuicFallback::Quic(_) => None,
        };
        for route in tunnel.route().into_iter().chain(kept) {
            if let Some(changed) = change(route) {
                *route = Arc::new(changed);
            }
        }
    }

    /// One try, now and then, while the pool comes over TCP; the next one is due after `pause`.
    pub fn due(&mut self, now: Instant, pause: Duration) -> Option<Arc<ServerRoute>> {
        match self {
            QuicFallback::Tcp(again, quic) if now >= *again => {
                *again = now + pause;
                Some(quic.clone())
            }
            _ => None,
        }
    }
}

/// The same route without QUIC.
pub(in crate::run) fn over_tcp(route: &ServerRoute) -> Arc<ServerRoute> {
    Arc::new(ServerRoute { transport: Transport::Tcp, ..route.clone() })
}

/// After so many tries without a QUIC handshake its port is taken for blocked.
const TRIES: u32 = 3;
