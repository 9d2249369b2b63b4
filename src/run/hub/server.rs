//! What only a server does: the tunnel's port, handshakes, numbering.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use mio::{Registry, Token};

use super::ingress::listeners::listening_addresses;
use super::{reload_certs, Hub, Part, TUNNEL_TOKEN};
use crate::config::{Config, Endpoint, Transport};
use crate::error::Error;
use crate::logic::handshake::{judge, Request, Verdict};
use crate::logic::terms::{opening, Direction, Feature, Terms};
use crate::logic::wire::{Fingerprint, Id, CONTROL};
use crate::net::certs::Certs;
use crate::net::listen::Acceptor;
use crate::net::mux::Mux;
use crate::net::quic;
use crate::run::messages::{AcceptPolicy, ExpectedTunnel, Home, Job, TunnelNo};

/// A server's own state.
pub(in crate::run) struct Server {
    doors: Vec<Acceptor>,
    certs: Option<Certs>,
    policy: Arc<AcceptPolicy>,
    regate: bool,
    transport: Transport,
    flow: Direction,
    at: Endpoint,
    again: Option<Instant>,
    said: Option<Error>,
    reload: Instant,
}

impl Server {
    /// A server whose users come in on the side that `flow` says.
    pub fn new(config: &Config, certs: Option<Certs>, flow: Direction, now: Instant) -> Server {
        // Reverse proxies carry these two, and speak TLS to the server for the handshake as well.
        let behind = matches!(config.transport, Transport::WebSocket | Transport::Http2);
        let policy = AcceptPolicy {
            tls: certs.as_ref().map(Certs::current),
            tls_handshake: behind || config.tunnel.port == HTTPS,
            tunnel: None,
            timeout: config.limits.handshake,
        };
        Server {
            doors: Vec::new(),
            certs,
            policy: Arc::new(policy),
            regate: false,
            transport: config.transport,
            flow,
            at: config.tunnel.clone(),
            again: Some(now),
            said: None,
            reload: now + config.limits.reload,
        }
    }

    /// Somebody came to the tunnel's port.
    pub fn note(&mut self) {
        self.doors.iter_mut().for_each(Acceptor::note);
    }

    /// Whether more may be waiting there.
    pub fn is_ready(&self) -> bool {
        self.doors.iter().any(Acceptor::is_ready)
    }

    /// When the clock has something to say.
    pub fn deadline(&self) -> Option<Instant> {
        let doors = self.doors.iter().filter_map(Acceptor::deadline);
        doors.chain(self.again).chain(self.certs.as_ref().map(|_| self.reload)).min()
    }

    /// Which pool connections are let in from now on.
    pub fn expect(&mut self, tunnel: Option<ExpectedTunnel>) {
        let AcceptPolicy { tls_handshake, timeout, .. } = *self.policy;
        let tls = self.certs.as_ref().map(Certs::current);
        self.policy = Arc::new(AcceptPolicy { tls, tls_handshake, tunnel, timeout });
        self.regate = true;
    }

    /// The policy, if it has changed since the last route: for the port that the worker looks after.
    fn changed_gate(&mut self) -> Option<Arc<AcceptPolicy>> {
        std::mem::take(&mut self.regate).then(|| self.policy.clone())
    }

    /// Looks at the certificate files again.
    pub fn reload(&mut self) {
        self.certs.iter_mut().for_each(reload_certs);
        self.expect(self.policy.tunnel);
    }

    /// Nobody is let in any more.
    pub fn close(&mut self) {
        self.doors.clear();
        self.again = None;
    }

    fn open(&mut self, registry: &Registry) -> Result<(), Error> {
        for address in listening_addresses(&self.at)? {
            let door = Acceptor::open(address, registry, Token(TUNNEL_TOKEN));
            self.doors.push(door.map_err(|error| Error::listen(address, "the tunnel", error))?);
        }
        Ok(())
    }

    /// The UDP port for QUIC.
    fn open_shared(&mut self, config: &Config, now: Instant) -> Result<Option<Box<dyn Mux>>, Error> {
        let (Transport::Quic, Some(identity)) = (config.transport, &self.policy.tls) else { return Ok(None) };
        let addresses = listening_addresses(&self.at)?;
        let (report, timeout) = (config.limits.report, config.limits.handshake);
        let streams = streams_for(config.max, config.slot) as u64;
        let settings = quic::Settings::server(report, timeout, streams, config.key.as_bytes());
        let port = quic::listen(&addresses, identity, &settings, now);
        port.map(Some).map_err(|error| Error::listen(&self.at, "QUIC over UDP", error))
    }

    /// Random bytes. Without any there is no safe way to go on.
    fn random<const N: usize>(&self) -> [u8; N] {
        crate::net::random::bytes().expect("the system gives random numbers")
    }
}

impl Hub {
    /// The tunnel's port: inbounds go to workers, who find out what they want.
    pub(in crate::run) fn visit(&mut self, now: Instant) {
        let Part::Server(server) = &mut self.part else { return };
        for door in &mut server.doors {
            for _ in 0..MAX_AT_A_TIME {
                let Some((socket, from)) = door.accept(now) else { break };
                // The control connection belongs on the hub's own thread: the first of a tunnel goes there.
                let up = self.tunnel.as_ref().is_some_and(|tunnel| tunnel.is_up());
                let worker = if up { self.pool.next_worker() } else { 0 };
                self.workers[worker].send(Job::Visit(socket, from, server.policy.clone()));
            }
        }
    }

    /// A inbound asks for a handshake. The right key takes the tunnel over at once, whoever had it.
    pub(in crate::run) fn asked(&mut self, home: Home, from: SocketAddr, request: &Request, now: Instant) {
        let config = &self.shared.config;
        let answer = match judge(request, config.key.as_bytes()) {
            Verdict::Refused(status) => {
                log::warn!("Handshake from {from} refused: {}", status.code());
                status.to_bytes()
            }
            Verdict::Ok { features } if !self.is_stopping() => self.shake_hands(from, features, now),
            Verdict::Ok { .. } => return,
        };
        self.workers[home.worker].send(Job::Answer(home.key, answer));
    }

    fn shake_hands(&mut self, from: SocketAddr, features: Vec<Feature>, now: Instant) -> Vec<u8> {
        if let Some(tunnel) = &self.tunnel {
            let hint = match tunnel.peer.ip() == from.ip() {
                true => "",
                false => "; if this goes on, two clients share one key",
            };
            self.end_tunnel(&format!("{from} takes it over{hint}"), now);
        }
        let number = self.next_number();
        let config = &self.shared.config;
        let (max, tls, transport) = (config.max, config.tls.code(), config.transport);
        let Part::Server(server) = &mut self.part else { return Vec::new() };
        let features = Feature::common(&features_with(transport, tls), &features);
        let open = features.contains(&Feature::Open).then(|| opening(server.random()));
        let (fallback, ws_eof) = (features.contains(&Feature::Fallback), features.contains(&Feature::WsEof));
        let terms = Terms { flow: server.flow, max, tls, transport: transport.code(), features, open };
        let (tls, quiet, streams) = (tls > 0, server.flow == Direction::Reverse, streams_for(max, config.slot));
        let peer = from.ip();
        server.expect(Some(ExpectedTunnel { number, peer, open, tls, transport, fallback, ws_eof, streams, quiet }));
        let answer = terms.to_bytes();
        self.begin_tunnel(number, terms, from, None, now);
        answer
    }

    /// A pool connection came: it gets its id, or is one too many.
    pub(in crate::run) fn came(&mut self, home: Home, number: TunnelNo, fp: Option<Fingerprint>, now: Instant) {
        let Part::Server(server) = &self.part else { return };
        let (current, up) = match &self.tunnel {
            Some(tunnel) => (tunnel.number == number, tunnel.is_up()),
            None => (false, false),
        };
        if !current || (up && !self.pool.has_room()) {
            return self.workers[home.worker].send(Job::Close(home.key));
        }
        let mut id = CONTROL;
        while up && (id == CONTROL || self.pool.knows(id)) {
            id = Id(server.random());
        }
        self.workers[home.worker].send(Job::Number(home.key, id));
        self.pool_connection(id, home, fp, now);
    }

    /// The clock, for a server.
    pub(in crate::run) fn tick_server(&mut self, now: Instant) {
        let limits = &self.shared.config.limits;
        let Part::Server(server) = &mut self.part else { return };
        if server.again.is_some_and(|again| now >= again) {
            let opened = server.open(&self.registry).and_then(|()| server.open_shared(&self.shared.config, now));
            match opened {
                Ok(shared) => {
                    if let Some(mux) = shared {
                        self.workers[0].send(Job::Serve(mux, server.policy.clone()));
                    }
                    server.again = None;
                    log::info!("Waiting for a client at {}", server.at);
                }
                Err(why) => {
                    server.doors.clear();
                    if server.said.as_ref() != Some(&why) {
                        log::error!("Server error: {why}; trying again every {:?}", limits.cooldown);
                    }
                    (server.again, server.said) = (Some(now + limits.cooldown), Some(why));
                }
            }
        }
        if now >= server.reload {
            server.reload = now + limits.reload;
            server.reload();
        }
        self.tell_gate();
    }

    /// Whoever looks after a port that connections of many streams share has to know whom to let in.
    fn tell_gate(&mut self) {
        let Part::Server(server) = &mut self.part else { return };
        if server.transport == Transport::Quic {
            if let Some(policy) = server.changed_gate() {
                self.workers[0].send(Job::AcceptPolicy(policy));
            }
        }
    }
}

/// What this build can do beyond 1.14 with that transport and TLS mode.
fn features_with(transport: Transport, tls: u8) -> Vec<Feature> {
    let has = |feature: &Feature| match feature {
        Feature::UdpFrame | Feature::Open => true,
        Feature::WsEof => transport == Transport::WebSocket,
        Feature::Edge => transport != Transport::Quic && tls > 0,
        Feature::Fallback => transport == Transport::Quic,
    };
    Feature::ALL.into_iter().filter(has).collect()
}

/// Most streams of one connection: those of users, as many again that wait idle, and one for control.
fn streams_for(max: usize, slot: Option<usize>) -> usize {
    slot.unwrap_or(MAX_STREAMS).saturating_add(max.saturating_mul(2)).clamp(max + 1, MAX_STREAMS)
}

/// Most streams of one connection at once, whatever `slot` says.
const MAX_STREAMS: usize = 131_072;
/// Handshakes at this port come inside TLS.
pub(in crate::run) const HTTPS: u16 = 443;
/// Most inbounds taken in one turn.
const MAX_AT_A_TIME: usize = 256;
