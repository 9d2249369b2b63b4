//! A server: the tunnel port, handshakes, and one tunnel for each client.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Registry, Token};

use super::certificates::reload_certs;
use super::ingress::listeners::listening_addresses;
use super::out::Out;
use super::tunnel::Tunnel;
use super::TUNNEL_TOKEN;
use crate::config::{Config, Transport};
use crate::error::Error;
use crate::logic::backoff::Backoff;
use crate::logic::terms::TunnelNo;
use crate::logic::terms::{opening, Direction, Feature, Terms};
use crate::net::certs::Certs;
use crate::net::listen::Acceptor;
use crate::net::mux::Mux;
use crate::net::quic;
use crate::run::messages::Job;
use crate::run::policy::{AcceptPolicy, ExpectedTunnel};
use crate::run::shared::Shared;

/// A server's own state.
pub(in crate::run) struct Server {
    shared: Arc<Shared>,
    acceptors: Vec<Acceptor>,
    /// When to try to open the tunnel port, and what was said of the last failure.
    again: Option<Instant>,
    retry: Backoff,
    said: Option<Error>,
    certs: Option<Certs>,
    reload: Instant,
    policy: Arc<AcceptPolicy>,
    /// The worker that has the QUIC port does not know the policy yet.
    policy_changed: bool,
    flow: Direction,
    tunnels: BTreeMap<TunnelNo, Tunnel>,
}

impl Server {
    /// A server whose users come in on the side that `flow` says.
    pub fn new(shared: Arc<Shared>, certs: Option<Certs>, flow: Direction, now: Instant) -> Server {
        let config = &shared.config;
        // Reverse proxies carry these two, and speak TLS to the server for the handshake as well.
        let behind = matches!(config.transport, Transport::WebSocket | Transport::Http2);
        let policy = AcceptPolicy {
            tls: certs.as_ref().map(Certs::current),
            tls_handshake: behind || config.tunnel.port == HTTPS,
            transport: config.transport,
            streams: streams_for(config.max, config.slot),
            quiet: flow == Direction::Reverse,
            tunnels: Vec::new(),
            timeout: config.limits.handshake,
        };
        Server {
            acceptors: Vec::new(),
            again: Some(now),
            // A server that stops may still hold the port, for a moment.
            retry: Backoff::new(FIRST_PAUSE, config.limits.cooldown, config.limits.cooldown),
            said: None,
            certs,
            reload: now + config.limits.reload,
            policy: Arc::new(policy),
            policy_changed: false,
            flow,
            tunnels: BTreeMap::new(),
            shared,
        }
    }

    /// The tunnels in being.
    pub fn tunnels(&self) -> impl Iterator<Item = &Tunnel> {
        self.tunnels.values()
    }

    /// One of them.
    pub fn tunnel(&mut self, number: TunnelNo) -> Option<&mut Tunnel> {
        self.tunnels.get_mut(&number)
    }

    /// An edge of the tunnel port.
    pub fn note(&mut self) {
        self.acceptors.iter_mut().for_each(Acceptor::note);
    }

    /// Whether more may be waiting there.
    pub fn is_ready(&self) -> bool {
        self.acceptors.iter().any(Acceptor::is_ready)
    }

    /// When the clock has something to say.
    pub fn deadline(&self) -> Option<Instant> {
        let acceptors = self.acceptors.iter().filter_map(Acceptor::deadline);
        acceptors.chain(self.again).chain(self.certs.as_ref().map(|_| self.reload)).min()
    }

    /// Connections at the tunnel port go to workers, which find out what they are for.
    pub fn accept(&mut self, now: Instant, out: &mut Out) {
        for acceptor in &mut self.acceptors {
            for _ in 0..MAX_AT_A_TIME {
                let Some((socket, from)) = acceptor.accept(now) else { break };
                let worker = worker_for(&mut self.tunnels, from.ip(), out);
                out.job(worker, Job::Accept { socket, from, policy: self.policy.clone() });
            }
        }
    }

    /// The tunnels that end when a client at `from` begins one, and whose clients are told.
    ///
    /// An original is told by its address, and has one tunnel. Beyond `clients` a newcomer takes over: from a client at the
    /// same address first, which is most likely what is left of the newcomer itself, else from the one that is there longest.
    pub fn replaced_by(&self, from: IpAddr, features: &[Feature]) -> Vec<TunnelNo> {
        let original = !features.contains(&Feature::Open);
        let same = |tunnel: &Tunnel| tunnel.peer().ip() == from;
        let is_original = |tunnel: &Tunnel| tunnel.terms().open.is_none();
        let present = self.tunnels.values().filter(|tunnel| !tunnel.is_replaced());
        let (mut ended, mut rest): (Vec<&Tunnel>, Vec<&Tunnel>) =
            present.partition(|tunnel| original && same(tunnel) && is_original(tunnel));
        // A handshake can be asked for again and again: tunnels that no connection came for make room first.
        let opening: Vec<usize> = (0..rest.len()).filter(|&at| !rest[at].is_up()).collect();
        if opening.len() >= MAX_OPENING {
            ended.push(rest.remove(opening[0]));
        }
        if let Some(clients) = self.shared.config.clients {
            rest.sort_by_key(|tunnel| !same(tunnel));
            let surplus = (rest.len() + 1).saturating_sub(clients);
            ended.extend(rest.into_iter().take(surplus));
        }
        ended.into_iter().map(Tunnel::number).collect()
    }

    /// Begins a tunnel with the client at `from`; the answer to its handshake.
    pub fn begin(
        &mut self,
        number: TunnelNo,
        from: SocketAddr,
        offered: &[Feature],
        workers: usize,
        now: Instant,
    ) -> Vec<u8> {
        let config = &self.shared.config;
        let (max, tls, transport) = (config.max, config.tls.code(), config.transport.code());
        let features = Feature::common(&features_with(config.transport, tls), offered);
        let open = features.contains(&Feature::Open).then(|| opening(random()));
        let terms = Terms { flow: self.flow, max, tls, transport, features, open };
        let answer = terms.to_bytes();
        let tunnel = Tunnel::new(number, terms, from, None, config, workers, now);
        self.tunnels.insert(number, tunnel);
        self.renew_policy();
        answer
    }

    /// Takes a tunnel out that is over.
    pub fn end(&mut self, number: TunnelNo) -> Option<Tunnel> {
        let tunnel = self.tunnels.remove(&number)?;
        self.renew_policy();
        Some(tunnel)
    }

    /// Looks at the certificate files again.
    pub fn reload(&mut self) {
        self.certs.iter_mut().for_each(reload_certs);
        self.renew_policy();
    }

    /// No connections come any more.
    pub fn close(&mut self) {
        self.acceptors.clear();
        self.again = None;
    }

    /// Time has passed.
    pub fn tick(&mut self, registry: &Registry, now: Instant, out: &mut Out) {
        if self.again.is_some_and(|again| now >= again) {
            self.try_to_open(registry, now, out);
        }
        if now >= self.reload {
            self.reload = now + self.shared.config.limits.reload;
            self.reload();
        }
    }

    /// The worker that looks after the QUIC port has to know which streams are wanted.
    pub fn publish_policy(&mut self, out: &mut Out) {
        if self.shared.config.transport == Transport::Quic && std::mem::take(&mut self.policy_changed) {
            out.job(0, Job::Policy(self.policy.clone()));
        }
    }

    fn try_to_open(&mut self, registry: &Registry, now: Instant, out: &mut Out) {
        let (at, cooldown) = (self.shared.config.tunnel.clone(), self.shared.config.limits.cooldown);
        match self.open(registry).and_then(|()| self.open_quic(now)) {
            Ok(port) => {
                if let Some(mux) = port {
                    out.job(0, Job::Serve { mux, policy: self.policy.clone() });
                }
                self.again = None;
                log::info!("Waiting for a client at {at}");
            }
            Err(why) => {
                self.acceptors.clear();
                if self.said.as_ref() != Some(&why) {
                    log::error!("Server error: {why}; trying again every {cooldown:?}");
                }
                (self.again, self.said) = (Some(now + self.retry.failed(now)), Some(why));
            }
        }
    }

    fn open(&mut self, registry: &Registry) -> Result<(), Error> {
        for address in listening_addresses(&self.shared.config.tunnel)? {
            let acceptor = Acceptor::open(address, self.shared.keepalive, registry, Token(TUNNEL_TOKEN));
            self.acceptors.push(acceptor.map_err(|error| Error::listen(address, "the tunnel", error))?);
        }
        Ok(())
    }

    /// The UDP port for QUIC.
    fn open_quic(&mut self, now: Instant) -> Result<Option<Box<dyn Mux>>, Error> {
        let config: &Config = &self.shared.config;
        let (Transport::Quic, Some(identity)) = (config.transport, &self.policy.tls) else { return Ok(None) };
        let addresses = listening_addresses(&config.tunnel)?;
        let (report, timeout) = (config.limits.report, config.limits.handshake);
        let settings = quic::Settings::server(
            report,
            timeout,
            self.policy.streams as u64,
            config.key.as_bytes(),
            self.shared.budget,
        );
        let port = quic::listen(&addresses, identity, &settings, now);
        port.map(Some).map_err(|error| Error::listen(&config.tunnel, "QUIC over UDP", error))
    }

    /// Which connections are wanted has changed.
    fn renew_policy(&mut self) {
        let old = &self.policy;
        let expected = |tunnel: &Tunnel| ExpectedTunnel {
            number: tunnel.number(),
            peer: tunnel.peer().ip(),
            open: tunnel.terms().open,
            fallback: tunnel.terms().features.contains(&Feature::Fallback),
            ws_eof: tunnel.terms().features.contains(&Feature::WsEof),
        };
        self.policy = Arc::new(AcceptPolicy {
            tls: self.certs.as_ref().map(Certs::current),
            tls_handshake: old.tls_handshake,
            transport: old.transport,
            streams: old.streams,
            quiet: old.quiet,
            tunnels: self.tunnels.values().map(expected).collect(),
            timeout: old.timeout,
        });
        self.policy_changed = true;
    }
}

/// Random bytes. Without any there is no safe way to go on.
fn random<const N: usize>() -> [u8; N] {
    crate::net::random::bytes().expect("the system gives random numbers")
}

/// Where to look after a connection that comes from there. A control connection belongs on the hub's own thread: the first
/// of a tunnel goes there.
fn worker_for(tunnels: &mut BTreeMap<TunnelNo, Tunnel>, from: IpAddr, out: &mut Out) -> usize {
    let mut theirs = tunnels.values_mut().filter(|tunnel| tunnel.peer().ip() == from);
    match theirs.next() {
        Some(tunnel) if tunnel.is_up() && theirs.all(|tunnel| tunnel.is_up()) => tunnel.next_worker(out),
        Some(_) => 0,
        None => tunnels.values_mut().next().map_or(0, |tunnel| tunnel.next_worker(out)),
    }
}

/// What this build can do beyond 1.14 with that transport and TLS mode.
fn features_with(transport: Transport, tls: u8) -> Vec<Feature> {
    let has = |feature: &Feature| match feature {
        Feature::UdpFrame | Feature::Open | Feature::Taken | Feature::Goodbye => true,
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

/// The pause before the tunnel's port is tried again; then twice that each time, up to `NP_SERVICE_COOLDOWN`.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Most tunnels whose first pool connection has not come.
const MAX_OPENING: usize = 64;
/// Most streams of one connection at once, whatever `slot` says.
const MAX_STREAMS: usize = 131_072;
/// Handshakes at this port come inside TLS.
pub(in crate::run) const HTTPS: u16 = 443;
/// Most connections taken in one turn.
const MAX_AT_A_TIME: usize = 256;
