//! Whether QUIC gets through, and what a client does where it does not: pool connections over TCP with TLS, if the server
//! takes them (the feature `fallback`).
//!
//! ```text
//!  Quic{misses} --third miss--> Tcp{again} --every minute: one try--> Quic
//! ```

use std::sync::Arc;
use std::time::Instant;

use super::tunnel::Tunnel;
use super::{Hub, Part};
use crate::config::Transport;
use crate::error::Error;
use crate::logic::terms::Feature;
use crate::run::messages::{Job, ServerRoute, TunnelNo};

/// A client's fallback to a QUIC server. It outlives tunnels.
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
    /// How to route for pool connections.
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
}

impl Hub {
    /// The connection that carries the tunnel's pool is up.
    pub(in crate::run) fn carried(&mut self, number: TunnelNo) {
        let (true, Part::Client(client)) = (self.is_current(number), &mut self.part) else { return };
        if let QuicFallback::Tcp(_, quic) = std::mem::take(&mut client.fallback) {
            log::info!("QUIC gets through again: new pool connections go over it");
            if let Some(Tunnel { refill: Some((_, route)), .. }) = &mut self.tunnel {
                *route = quic;
            }
        }
    }

    /// It did not come about.
    pub(in crate::run) fn unreached(&mut self, number: TunnelNo, why: Error, now: Instant) {
        let (true, Part::Client(client)) = (self.is_current(number), &mut self.part) else { return };
        let Some(Tunnel { terms, refill: Some((_, route)), .. }) = &mut self.tunnel else { return };
        let fallback = terms.features.contains(&Feature::Fallback);
        match &mut client.fallback {
            // A try while the pool comes over TCP: no mux_events.
            QuicFallback::Tcp(..) => return log::debug!("QUIC does not get through yet: {why}"),
            QuicFallback::Quic(misses) if fallback => {
                *misses += 1;
                if *misses >= TRIES {
                    log::warn!("{why}: going on over TCP with TLS");
                    let quic = std::mem::replace(route, over_tcp(route));
                    client.fallback = QuicFallback::Tcp(now + self.shared.config.limits.quic_retry, quic);
                }
                return;
            }
            QuicFallback::Quic(_) => {}
        }
        self.lament(why);
    }

    /// One try, now and then, while the pool comes over TCP.
    pub(in crate::run) fn try_quic_again(&mut self, now: Instant) {
        let Part::Client(client) = &mut self.part else { return };
        if let QuicFallback::Tcp(again, quic) = &mut client.fallback {
            if now >= *again {
                *again = now + self.shared.config.limits.quic_retry;
                self.workers[0].send(Job::Open(quic.clone()));
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
