//! Whether QUIC gets through, and what a client does where it does not: pool connections over TCP with TLS, if the server
//! takes them (the feature `fallback`).
//!
//! ```text
//!  Quic{misses} --third miss--> Tcp{again} --every minute: one try--> Quic
//! ```

use std::sync::Arc;
use std::time::Instant;

use super::handoff::{Call, Job, TunnelNo};
use super::hub::{Hub, Part};
use super::tunnel::Tunnel;
use crate::config::Transport;
use crate::logic::terms::Feature;

/// A client's way to a QUIC server. It outlives tunnels.
pub(super) enum Way {
    /// Over QUIC, which has failed that many times in a row.
    Quic(u32),
    /// Over TCP with TLS; QUIC is tried again at that time, with this call.
    Tcp(Instant, Arc<Call>),
}

impl Default for Way {
    fn default() -> Self {
        Way::Quic(0)
    }
}

impl Way {
    /// How to call for pool connections.
    pub fn choose(&mut self, call: Arc<Call>, fallback: bool) -> Arc<Call> {
        match self {
            Way::Tcp(_, quic) if fallback && call.transport == Transport::Quic => {
                let tcp = over_tcp(&call);
                *quic = call;
                tcp
            }
            Way::Tcp(..) => {
                *self = Way::default();
                call
            }
            Way::Quic(_) => call,
        }
    }

    /// When QUIC is tried again.
    pub fn deadline(&self) -> Option<Instant> {
        match self {
            Way::Tcp(again, _) => Some(*again),
            Way::Quic(_) => None,
        }
    }
}

impl Hub {
    /// The connection that carries the tunnel's pool is up.
    pub(super) fn carried(&mut self, number: TunnelNo) {
        let (true, Part::Client(client)) = (self.is_current(number), &mut self.part) else { return };
        if let Way::Tcp(_, quic) = std::mem::take(&mut client.way) {
            log::info!("QUIC gets through again: new pool connections go over it");
            if let Some(Tunnel { pace: Some((_, call)), .. }) = &mut self.tunnel {
                *call = quic;
            }
        }
    }

    /// It did not come about.
    pub(super) fn unreached(&mut self, number: TunnelNo, why: String, now: Instant) {
        let (true, Part::Client(client)) = (self.is_current(number), &mut self.part) else { return };
        let Some(Tunnel { terms, pace: Some((_, call)), .. }) = &mut self.tunnel else { return };
        let fallback = terms.features.contains(&Feature::Fallback);
        match &mut client.way {
            // A try while the pool comes over TCP: no news.
            Way::Tcp(..) => return log::debug!("QUIC does not get through yet: {why}"),
            Way::Quic(misses) if fallback => {
                *misses += 1;
                if *misses >= TRIES {
                    log::warn!("{why}: going on over TCP with TLS");
                    let quic = std::mem::replace(call, over_tcp(call));
                    client.way = Way::Tcp(now + self.shared.config.limits.quic_retry, quic);
                }
                return;
            }
            Way::Quic(_) => {}
        }
        self.lament(why);
    }

    /// One try, now and then, while the pool comes over TCP.
    pub(super) fn try_quic_again(&mut self, now: Instant) {
        let Part::Client(client) = &mut self.part else { return };
        if let Way::Tcp(again, quic) = &mut client.way {
            if now >= *again {
                *again = now + self.shared.config.limits.quic_retry;
                self.workers[0].send(Job::Open(quic.clone()));
            }
        }
    }
}

/// The same call without QUIC.
pub(super) fn over_tcp(call: &Call) -> Arc<Call> {
    Arc::new(Call { transport: Transport::Tcp, ..call.clone() })
}

/// After so many tries without a QUIC handshake its port is taken for blocked.
const TRIES: u32 = 3;
