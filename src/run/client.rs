//! What only a client does: it calls the server, for ever, and keeps the pool warm.
//!
//! ```text
//!  Resting --time--> Looking (for the server's address) --> Asking --terms--> Tunnel
//!     +<---------------------- any failure, any end <----------+-----------------+
//! ```

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use rustls::ClientConfig;

use super::handoff::{Call, Home, Job, TunnelNo};
use super::hub::{Hub, Part};
use super::server::{FEATURES, HTTPS};
use super::tunnel::Side;
use crate::config::{Config, Host};
use crate::logic::handshake::{Feature, Offer, Terms};
use crate::logic::pace::Pace;
use crate::logic::wire::{Fingerprint, Id};
use crate::net::certs::{client, server_name, Trust};

/// A client's own state.
pub(super) struct Client {
    phase: Phase,
    /// What was last complained of: said once, not every second.
    said: String,
    anyone: Option<Arc<ClientConfig>>,
    roots: Option<Arc<ClientConfig>>,
}

enum Phase {
    Resting(Instant),
    Looking,
    Asking,
    Tunnel,
}

impl Client {
    /// A client that will call at once.
    pub fn new(now: Instant) -> Client {
        Client { phase: Phase::Resting(now), said: String::new(), anyone: None, roots: None }
    }

    /// When the clock has something to say.
    pub fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Resting(until) => Some(until),
            _ => None,
        }
    }

    /// Calls again at `until`.
    pub fn rest(&mut self, until: Instant) {
        self.phase = Phase::Resting(until);
    }

    /// TLS as the server's terms want it, made once.
    fn tls(&mut self, trust: Trust) -> Result<Arc<ClientConfig>, String> {
        let made = match trust {
            Trust::Anyone => &mut self.anyone,
            Trust::Roots => &mut self.roots,
        };
        if let Some(config) = made {
            return Ok(config.clone());
        }
        Ok(made.insert(client(trust)?).clone())
    }
}

impl Hub {
    /// The clock, for a client.
    pub(super) fn tick_client(&mut self, now: Instant) {
        let Part::Client(client) = &mut self.part else { return };
        match client.phase {
            Phase::Resting(until) if now >= until => {}
            Phase::Looking => {}
            _ => return,
        }
        let shared = self.shared.clone();
        let called = match self.ways.addresses(&shared.config.tunnel, now) {
            Ok(Some(addresses)) => client.call(&shared.config, addresses).map(Some),
            Ok(None) => Ok(None),
            Err(why) => Err(why),
        };
        match called {
            Ok(Some((call, request))) => {
                client.phase = Phase::Asking;
                self.workers[0].send(Job::Ask(call, request));
            }
            Ok(None) => client.phase = Phase::Looking,
            Err(why) => self.complain(why, now),
        }
    }

    /// The server's answer to the handshake.
    pub(super) fn answered(&mut self, answer: Result<(Box<Terms>, SocketAddr), String>, now: Instant) {
        if self.is_stopping() {
            return;
        }
        let began = answer.and_then(|(terms, server)| self.begin_client(*terms, server, now));
        if let Err(why) = began {
            self.complain(why, now);
        }
    }

    fn begin_client(&mut self, terms: Terms, server: SocketAddr, now: Instant) -> Result<(), String> {
        let shared = self.shared.clone();
        let (config, limits) = (&shared.config, &shared.config.limits);
        if terms.transport != 0 {
            return Err(format!("the server wants type={}; this build has type=0 (TCP) only", terms.transport));
        }
        let number = self.next_number();
        let Part::Client(client) = &mut self.part else { return Ok(()) };
        let tls = match terms.tls {
            0 => None,
            1 => Some((client.tls(Trust::Anyone)?, server_name("nodepass.invalid").map_err(|e| e.to_string())?)),
            2 => Some((client.tls(Trust::Roots)?, server_name(&peer_name(config)).map_err(|e| e.to_string())?)),
            other => return Err(format!("the server wants tls={other}, which is not known here")),
        };
        let quiet = terms.flow == crate::logic::handshake::Flow::Forward;
        let (addresses, open) = (vec![server], terms.open);
        let (dial, patience) = (limits.tcp_dial, limits.handshake);
        let call = Arc::new(Call { tunnel: number, addresses, tls, open, quiet, dial, patience });
        let pace =
            Pace::new(config.min, terms.max.min(config.max), limits.min_pool_interval, limits.max_pool_interval, now);
        client.phase = Phase::Tunnel;
        client.said.clear();
        self.begin_tunnel(number, terms, server, Some((pace, call)), now);
        match self.tunnel.as_ref().map(|tunnel| tunnel.side) {
            Some(Side::Ingress) => self.users.open(&config.targets[0], &self.registry, now),
            _ => self.users.close(),
        }
        Ok(())
    }

    /// A pool connection is open.
    pub(super) fn opened(&mut self, home: Home, number: TunnelNo, id: Id, fp: Option<Fingerprint>, now: Instant) {
        if !self.is_current(number) {
            return self.workers[home.worker].send(Job::Close(home.key));
        }
        // An id given twice is a failure like others: the next try waits for the clock.
        if !self.pool_connection(id, home, fp, now) {
            return self.failed(number, &format!("the server gave the id {id} twice"));
        }
        if let Some((pace, _)) = self.tunnel.as_mut().and_then(|tunnel| tunnel.pace.as_mut()) {
            pace.opened();
        }
    }

    /// A pool connection could not be opened.
    pub(super) fn failed(&mut self, number: TunnelNo, why: &str) {
        if !self.is_current(number) {
            return;
        }
        log::debug!("Pool connection not opened: {why}");
        if let Some(tunnel) = &mut self.tunnel {
            let up = tunnel.is_up();
            if let Some((pace, _)) = &mut tunnel.pace {
                pace.failed();
            }
            if let (false, Part::Client(client)) = (up, &mut self.part) {
                if client.said != why {
                    log::warn!("Pool connection not opened: {why}");
                    client.said = why.to_owned();
                }
            }
        }
    }

    /// Says what is wrong, once, and calls again after a pause.
    fn complain(&mut self, why: String, now: Instant) {
        let shared = self.shared.clone();
        let cooldown = shared.config.limits.cooldown;
        self.ways.doubt(&shared.config.tunnel, now);
        let Part::Client(client) = &mut self.part else { return };
        if client.said == why {
            log::debug!("Handshake with {} failed again: {why}", shared.config.tunnel);
        } else {
            log::warn!("Handshake with {} failed: {why}; trying again every {cooldown:?}", shared.config.tunnel);
            client.said = why;
        }
        client.rest(now + cooldown);
    }
}

impl Client {
    /// The call for the terms, and what it says.
    fn call(&mut self, config: &Config, addresses: Vec<SocketAddr>) -> Result<(Arc<Call>, Vec<u8>), String> {
        let host = match (&config.sni, &config.tunnel.host) {
            (Some(sni), _) => sni.as_str(),
            (None, Host::Name(name)) => name.as_str(),
            (None, _) => "none",
        };
        let features = FEATURES.map(Feature::name);
        let request = Offer { host, key: config.key.as_bytes(), features: &features }.to_bytes();
        let tls = match config.tunnel.port {
            HTTPS => {
                let name = server_name(&peer_name(config)).map_err(|error| error.to_string())?;
                Some((self.tls(Trust::Roots)?, name))
            }
            _ => None,
        };
        let (dial, patience) = (config.limits.tcp_dial, config.limits.handshake);
        Ok((Arc::new(Call { tunnel: 0, addresses, tls, open: None, quiet: true, dial, patience }), request))
    }
}

/// Who must answer where certificates are verified: `sni`, else the tunnel's host.
fn peer_name(config: &Config) -> String {
    match (&config.sni, &config.tunnel.host) {
        (Some(sni), _) => sni.clone(),
        (None, Host::Name(name)) => name.clone(),
        (None, Host::Ip(ip)) => ip.to_string(),
        (None, Host::Any) => "localhost".into(),
    }
}
