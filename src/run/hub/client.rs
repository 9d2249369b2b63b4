//! What only a client does: it calls the server, for ever, and keeps the pool warm.
//!
//! ```text
//!  Resting --time--> Looking (for the server's address) --> Asking --terms--> Tunnel
//!     +<---------------------- any failure, any end <----------+-----------------+
//! ```

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use super::fallback::{over_tcp, QuicFallback};
use super::server::HTTPS;
use super::tunnel::{Side, Tunnel};
use super::{Hub, Part};
use crate::config::{Config, Endpoint, Host, Transport};
use crate::error::Error;
use crate::logic::handshake::Offer;
use crate::logic::refill::Refill;
use crate::logic::terms::{Direction, Feature, Terms};
use crate::logic::wire::{Fingerprint, Id};
use crate::net::certs::{client, server_name, Speech, Trust};
use crate::net::quic::ClientTls;
use crate::run::messages::{Home, Job, ServerRoute, TunnelNo};

/// A client's own state.
pub(in crate::run) struct Client {
    phase: Phase,
    /// What was last complained of: said once, not every second.
    said: Option<Error>,
    /// TLS configurations that were made.
    made: Vec<(Trust, Speech, Arc<ClientConfig>)>,
    /// Whether QUIC gets through.
    pub fallback: QuicFallback,
}

enum Phase {
    Resting(Instant),
    Looking,
    Asking,
    Tunnel,
}

impl Client {
    /// A client that will route at once.
    pub fn new(now: Instant) -> Client {
        Client { phase: Phase::Resting(now), said: None, made: Vec::new(), fallback: QuicFallback::default() }
    }

    /// When the clock has something to say.
    pub fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Resting(until) => Some(until),
            Phase::Tunnel => self.fallback.deadline(),
            _ => None,
        }
    }

    /// Calls again at `until`.
    pub fn rest(&mut self, until: Instant) {
        self.phase = Phase::Resting(until);
    }

    /// TLS as the server's terms want it, made once.
    fn tls(&mut self, trust: Trust, speech: Speech) -> Result<Arc<ClientConfig>, Error> {
        if let Some((_, _, config)) = self.made.iter().find(|made| (made.0, made.1) == (trust, speech)) {
            return Ok(config.clone());
        }
        let config = client(trust, speech)?;
        self.made.push((trust, speech, config.clone()));
        Ok(config)
    }
}

impl Hub {
    /// The clock, for a client.
    pub(in crate::run) fn tick_client(&mut self, now: Instant) {
        let Part::Client(client) = &mut self.part else { return };
        match client.phase {
            Phase::Resting(until) if now >= until => {}
            Phase::Looking => {}
            Phase::Tunnel => return self.try_quic_again(now),
            _ => return,
        }
        let shared = self.shared.clone();
        let called = match self.targets.addresses(first_hop(&shared.config), now) {
            Ok(Some(addresses)) => client.route(&shared.config, addresses).map(Some),
            Ok(None) => Ok(None),
            Err(why) => Err(why),
        };
        match called {
            Ok(Some((route, request))) => {
                client.phase = Phase::Asking;
                self.workers[0].send(Job::Ask(route, request));
            }
            Ok(None) => client.phase = Phase::Looking,
            Err(why) => self.complain(why, now),
        }
    }

    /// The server's answer to the handshake.
    pub(in crate::run) fn answered(&mut self, answer: Result<(Box<Terms>, SocketAddr, Duration), Error>, now: Instant) {
        if self.is_stopping() {
            return;
        }
        let began = answer.and_then(|(terms, server, round)| self.begin_client(*terms, server, round, now));
        if let Err(why) = began {
            self.complain(why, now);
        }
    }

    fn begin_client(&mut self, terms: Terms, server: SocketAddr, round: Duration, now: Instant) -> Result<(), Error> {
        let shared = self.shared.clone();
        let (config, limits) = (&shared.config, &shared.config.limits);
        terms.require_tls(config.tls.code())?;
        let transport = Transport::from_code(terms.transport).filter(|transport| transport.is_built());
        let Some(transport) = transport else {
            return Err(Error::unsupported(format!(
                "the server wants type={}, which this build does not have",
                terms.transport
            )));
        };
        let edge = terms.features.contains(&Feature::Edge);
        let number = self.next_number();
        let Part::Client(client) = &mut self.part else { return Ok(()) };
        let speech = speech(transport);
        let tls = match terms.tls {
            0 => None,
            1 if !edge => Some((client.tls(Trust::Anyone, speech)?, server_name("nodepass.invalid")?)),
            1 | 2 => Some((client.tls(Trust::Roots, speech)?, server_name(&peer_name(config))?)),
            other => return Err(Error::unsupported(format!("the server wants tls={other}, which is not known here"))),
        };
        let quic = match (transport, terms.tls) {
            (Transport::Quic, 2) => Some(Arc::new(ClientTls::new(Trust::Roots, &peer_name(config))?)),
            (Transport::Quic, _) => Some(Arc::new(ClientTls::new(Trust::Anyone, "")?)),
            _ => None,
        };
        let route = Arc::new(ServerRoute {
            tunnel: number,
            addresses: vec![server],
            via: via(config),
            tls,
            quic,
            transport,
            authority: authority(config, transport),
            open: terms.open,
            ws_eof: terms.features.contains(&Feature::WsEof),
            quiet: terms.flow == Direction::Forward,
            round,
            dial: limits.tcp_dial,
            timeout: limits.handshake,
        });
        let fallback = terms.features.contains(&Feature::Fallback);
        let route = match (transport, &route.via) {
            (Transport::Quic, Some(_)) if fallback => {
                log::info!("QUIC does not go through an HTTP proxy: going on over TCP with TLS");
                over_tcp(&route)
            }
            (Transport::Quic, Some(_)) => {
                return Err(Error::unsupported("type=1 (QUIC) does not go through an HTTP proxy"))
            }
            _ => client.fallback.choose(route, fallback),
        };
        let max = terms.max.min(config.max);
        let refill = Refill::new(config.min, max, limits.min_pool_interval, limits.max_pool_interval, now);
        client.phase = Phase::Tunnel;
        self.begin_tunnel(number, terms, server, Some((refill, route)), now);
        match self.tunnel.as_ref().map(|tunnel| tunnel.side) {
            Some(Side::Ingress) => self.users.open(&config.targets[0], &self.registry, now),
            _ => self.users.close(),
        }
        Ok(())
    }

    /// A pool connection is open.
    pub(in crate::run) fn opened(
        &mut self,
        home: Home,
        number: TunnelNo,
        id: Id,
        fp: Option<Fingerprint>,
        now: Instant,
    ) {
        if !self.is_current(number) {
            return self.workers[home.worker].send(Job::Close(home.key));
        }
        // An id given twice is a failure like others: the next try waits for the clock.
        if !self.pool_connection(id, home, fp, now) {
            return self.failed(number, Some(Error::protocol(format!("the server gave the id {id} twice"))));
        }
        if let (Some(Tunnel { refill: Some((refill, _)), failing, .. }), Part::Client(client)) =
            (&mut self.tunnel, &mut self.part)
        {
            refill.opened();
            *failing = None;
            client.said = None;
        }
    }

    /// A pool connection could not be opened; why, unless that is told otherwise.
    pub(in crate::run) fn failed(&mut self, number: TunnelNo, why: Option<Error>) {
        let (true, Some(tunnel)) = (self.is_current(number), &mut self.tunnel) else { return };
        if let Some((refill, _)) = &mut tunnel.refill {
            refill.failed();
        }
        if let Some(why) = why {
            self.lament(why);
        }
    }

    /// Says why there are no pool connections: loud once, and only while there is no tunnel without them.
    pub(in crate::run) fn lament(&mut self, why: Error) {
        let (Some(tunnel), Part::Client(client)) = (&mut self.tunnel, &mut self.part) else { return };
        let loud = !tunnel.is_up() && client.said.as_ref() != Some(&why);
        log::log!(if loud { log::Level::Warn } else { log::Level::Debug }, "Pool connection not opened: {why}");
        if loud {
            client.said = Some(why.clone());
        }
        tunnel.failing = Some(why.to_string());
    }

    /// The server allows no more streams. That is no failure: those who leave make room.
    pub(in crate::run) fn exhausted(&mut self, number: TunnelNo, so: bool) {
        let (true, Some(tunnel)) = (self.is_current(number), &mut self.tunnel) else { return };
        log::debug!("The server allows {} streams", if so { "no more" } else { "more" });
        tunnel.exhausted = so;
    }

    /// Says what is wrong, once, and calls again after a pause.
    fn complain(&mut self, why: Error, now: Instant) {
        let shared = self.shared.clone();
        let cooldown = shared.config.limits.cooldown;
        self.targets.doubt(first_hop(&shared.config), now);
        let Part::Client(client) = &mut self.part else { return };
        if client.said.as_ref() == Some(&why) {
            log::debug!("Handshake with {} failed again: {why}", shared.config.tunnel);
        } else {
            // These two words make a dashboard's light red, until a check point comes.
            let what = match &why {
                Error::Name(_) | Error::Proxy(_) => String::new(),
                _ => format!("handshake with {} failed: ", shared.config.tunnel),
            };
            log::error!("Client error: {what}{why}; trying again every {cooldown:?}");
            client.said = Some(why);
        }
        client.rest(now + cooldown);
    }
}

impl Client {
    /// The route for the terms, and what it says.
    fn route(&mut self, config: &Config, addresses: Vec<SocketAddr>) -> Result<(Arc<ServerRoute>, Vec<u8>), Error> {
        let offered = |feature: &Feature| match feature {
            Feature::UdpFrame | Feature::Open => true,
            Feature::WsEof => Transport::WebSocket.is_built(),
            Feature::Edge => config.tunnel.port == HTTPS,
            Feature::Fallback => Transport::Quic.is_built(),
        };
        let features: Vec<_> = Feature::ALL.into_iter().filter(offered).map(Feature::name).collect();
        let request = Offer { host: named(config), key: config.key.as_bytes(), features: &features }.to_bytes();
        let tls = match config.tunnel.port {
            HTTPS => {
                let name = server_name(&peer_name(config))?;
                Some((self.tls(Trust::Roots, Speech::Http1)?, name))
            }
            _ => None,
        };
        let route = ServerRoute {
            tunnel: 0,
            addresses,
            via: via(config),
            tls,
            quic: None,
            transport: Transport::Tcp,
            authority: String::new(),
            open: None,
            ws_eof: false,
            quiet: true,
            round: Duration::ZERO,
            dial: config.limits.tcp_dial,
            timeout: config.limits.handshake,
        };
        Ok((Arc::new(route), request))
    }
}

/// What is spoken inside the TLS of a transport.
pub(in crate::run) fn speech(transport: Transport) -> Speech {
    match transport {
        Transport::Tcp | Transport::Quic => Speech::Raw,
        Transport::WebSocket => Speech::Http1,
        Transport::Http2 => Speech::Http2,
    }
}

/// Who is called, as the handshake's `Host` says it: `sni`, else the host's name; `none` for a bare address.
fn named(config: &Config) -> &str {
    match (&config.sni, &config.tunnel.host) {
        (Some(sni), _) => sni,
        (None, Host::Name(name)) => name,
        (None, _) => "none",
    }
}

/// Who is called, as pool connections in HTTP say it: an original's HTTP/2 as in the handshake, its WebSocket by address.
fn authority(config: &Config, transport: Transport) -> String {
    match (transport, &config.sni, &config.tunnel.host) {
        (Transport::WebSocket, None, Host::Ip(IpAddr::V6(ip))) => format!("[{ip}]"),
        (Transport::WebSocket, None, Host::Ip(ip)) => ip.to_string(),
        _ => named(config).to_owned(),
    }
}

/// Whom to dial: the server, or the proxy before it. All connections of a tunnel go the same fallback, since the server takes pool
/// connections from the address that shook hands.
fn first_hop(config: &Config) -> &Endpoint {
    config.https_proxy.as_ref().map_or(&config.tunnel, |(proxy, _)| proxy)
}

/// What to say to a proxy.
fn via(config: &Config) -> Option<Vec<u8>> {
    let (_, proxy) = config.https_proxy.as_ref()?;
    Some(proxy.connect(&config.tunnel.to_string()))
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
