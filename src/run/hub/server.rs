//! A server: the tunnel port, handshakes, and one tunnel for each client.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Registry, Token};

use super::certificates::reload_certs;
use super::ingress::listeners::listening_addresses;
use super::opener::Secret;
use super::out::Out;
use super::tunnel::{Agreed, Tunnel};
use super::TUNNEL_TOKEN;
use crate::config::{Config, Transport};
use crate::error::Error;
use crate::logic::auth::{session_of, Agreement, AuthMode, Numbers, Opening, Psk, Responder, SessionId};
use crate::logic::backoff::Backoff;
use crate::logic::dialect::Dialect;
use crate::logic::guard::{Failure, Guard};
use crate::logic::handshake::{sealed_answer, Keys};
use crate::logic::http::ErrorStatus;
use crate::logic::terms::TunnelNo;
use crate::logic::terms::{Direction, Feature, Terms};
use crate::net::certs::{Certs, Identity};
use crate::net::listen::Acceptor;
use crate::net::mux::Mux;
use crate::net::quic;
use crate::run::messages::Job;
use crate::run::policy::{AcceptPolicy, ExpectedTunnel, HandshakeTls, Kind};
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
    /// What is shown; a new certificate is, a moment after clients were told of it.
    shown: Option<Identity>,
    /// When a certificate that was announced is shown.
    show: Option<Instant>,
    /// Sources that got something wrong.
    guard: Guard,
    /// The tunnel key, stretched; `None` where `auth=0`.
    psk: Option<Psk>,
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
            handshake_tls: Arc::<HandshakeTls>::default(),
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
            guard: Guard::new(config.limits.ban_failures, config.limits.ban_time),
            psk: (config.auth() != AuthMode::Off).then(|| Psk::stretch(config.key.as_bytes())),
            shown: certs.as_ref().map(Certs::current),
            show: None,
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
        acceptors
            .chain(self.again)
            .chain(self.show)
            .chain(self.guard.deadline())
            .chain(self.certs.as_ref().map(|_| self.reload))
            .min()
    }

    /// Connections at the tunnel port go to workers, which find out what they are for.
    pub fn accept(&mut self, now: Instant, out: &mut Out) {
        for acceptor in &mut self.acceptors {
            for _ in 0..MAX_AT_A_TIME {
                let Some((socket, from)) = acceptor.accept(now) else { break };
                if self.guard.is_banned(from.ip(), is_at_home(&self.tunnels, from.ip()), now) {
                    continue;
                }
                let worker = worker_for(&mut self.tunnels, from.ip(), out);
                out.job(worker, Job::Accept { socket, from, policy: self.policy.clone() });
            }
        }
    }

    /// A stranger at that address got something wrong.
    pub fn failed(&mut self, from: IpAddr, what: Failure, now: Instant) {
        let kept = is_at_home(&self.tunnels, from);
        if let Some(told) = self.guard.failed(from, what, kept, now) {
            log::warn!(event = "handshake_refused", peer:% = from; "{told}");
        }
    }

    /// What clients are let in by.
    pub fn keys(&self) -> Keys<'_> {
        let config = &self.shared.config;
        Keys { key: config.key.as_bytes(), psk: self.psk.as_ref(), mode: config.auth(), wire: config.wire }
    }

    /// The tunnels that end now that the client of tunnel `number` has proven who it is, and whose clients are told. `Err` if it is
    /// that one which has to end: an original never takes the place of an authenticated client.
    ///
    /// An original is told by its address, and has one tunnel. Beyond `clients` a newcomer takes over: from a client at the
    /// same address first, which is most likely what is left of the newcomer itself, else from the one that is there longest.
    pub fn replaced_by(&self, number: TunnelNo) -> Result<Vec<TunnelNo>, ()> {
        let Some(newcomer) = self.tunnels.get(&number) else { return Ok(Vec::new()) };
        let original = !newcomer.is_authenticated();
        let same = |tunnel: &Tunnel| tunnel.peer().ip() == newcomer.peer().ip();
        let present = self.tunnels.values();
        let present = present.filter(|tunnel| tunnel.number() != number && tunnel.is_proven() && !tunnel.is_replaced());
        let (mut ended, rest): (Vec<&Tunnel>, Vec<&Tunnel>) =
            present.partition(|tunnel| original && same(tunnel) && !tunnel.is_authenticated());
        if let Some(clients) = self.shared.config.clients {
            let surplus = (rest.len() + 1).saturating_sub(clients);
            let mut rest: Vec<&Tunnel> =
                rest.into_iter().filter(|tunnel| !(original && tunnel.is_authenticated())).collect();
            if rest.len() < surplus {
                return Err(());
            }
            rest.sort_by_key(|tunnel| !same(tunnel));
            ended.extend(rest.into_iter().take(surplus));
        }
        Ok(ended.into_iter().map(Tunnel::number).collect())
    }

    /// A candidate that has to make room for the next: a handshake can be repeated again and again.
    pub fn surplus_candidate(&self) -> Option<TunnelNo> {
        let mut candidates = self.tunnels.values().filter(|tunnel| !tunnel.is_proven());
        let oldest = candidates.next()?;
        (candidates.count() + 1 >= MAX_OPENING).then(|| oldest.number())
    }

    /// Begins a tunnel with the original at `from`; the answer to its handshake.
    pub fn begin(
        &mut self,
        (number, from): (TunnelNo, SocketAddr),
        offered: &[Feature],
        dialect: Dialect,
        workers: usize,
        now: Instant,
    ) -> Vec<u8> {
        let terms = self.terms(offered);
        let knows_auth = self.psk.is_some() && !offered.is_empty();
        let answer = terms.to_bytes(knows_auth);
        let agreed = Agreed { number, terms, peer: from, secret: None, dialect };
        self.insert(Tunnel::new(agreed, None, &self.shared.config, workers, now));
        answer
    }

    /// Begins a tunnel with whoever sent that message 1 from `from`; the answer.
    pub fn begin_authenticated(
        &mut self,
        number: TunnelNo,
        from: SocketAddr,
        responder: Responder,
        workers: usize,
        now: Instant,
    ) -> Vec<u8> {
        let terms = self.terms(&responder.features);
        let edge = terms.features.contains(&Feature::Edge);
        let fp = self.shown.as_ref().filter(|_| !edge).map(|identity| identity.leaf);
        // No number is used twice, so it names the session as well.
        let agreement = Agreement { terms, fp, session: SessionId(number) };
        let (message, keys) = match responder.answer(&agreement) {
            Ok(answer) => answer,
            Err(why) => {
                log::error!("Handshake from {from} not answered: {why}");
                return ErrorStatus::Unauthorized.to_bytes();
            }
        };
        let secret = Secret { keys: Arc::new(keys), session: agreement.session, used: Numbers::default() };
        let agreed =
            Agreed { number, terms: agreement.terms, peer: from, secret: Some(secret), dialect: Dialect::Json };
        self.insert(Tunnel::new(agreed, None, &self.shared.config, workers, now));
        sealed_answer(&message)
    }

    /// The tunnel that a connection from there belongs to which begins with that, if it is true. It is never true again.
    ///
    /// The opening of a session that has ended is no failure: the client may not have heard of that yet.
    pub fn opened(&mut self, opening: &Opening, from: IpAddr, kind: Kind, now: Instant) -> Option<TunnelNo> {
        let number = session_of(opening).0;
        let expected = self.policy.tunnels.iter().find(|tunnel| tunnel.number == number)?;
        let fits = self.policy.fits(expected, kind);
        let is_true = fits && self.tunnels.get_mut(&number)?.accepts(opening);
        if !is_true {
            self.failed(from, Failure::Opening, now);
        }
        is_true.then_some(number)
    }

    fn terms(&self, offered: &[Feature]) -> Terms {
        let config = &self.shared.config;
        let (max, tls, transport) = (config.max, config.tls.code(), config.transport.code());
        let features = Feature::common(&features_with(config.transport, tls), offered);
        Terms { flow: self.flow, max, tls, transport, features }
    }

    fn insert(&mut self, tunnel: Tunnel) {
        self.tunnels.insert(tunnel.number(), tunnel);
        self.renew_policy();
    }

    /// Takes a tunnel out that is over.
    pub fn end(&mut self, number: TunnelNo) -> Option<Tunnel> {
        let tunnel = self.tunnels.remove(&number)?;
        self.renew_policy();
        Some(tunnel)
    }

    /// Looks at the certificate files again. A new certificate is announced, and shown a moment later.
    pub fn reload(&mut self, now: Instant) {
        self.certs.iter_mut().for_each(reload_certs);
        let leaf = |identity: &Identity| identity.leaf;
        let fresh = self.certs.as_ref().map(|certs| certs.current().leaf);
        if fresh != self.shown.as_ref().map(leaf) && self.show.is_none() {
            self.show = Some(now + ANNOUNCED);
            self.announce();
        }
    }

    /// Tells all clients which certificate is loaded.
    fn announce(&mut self) {
        let Some(leaf) = self.certs.as_ref().map(|certs| certs.current().leaf) else { return };
        self.tunnels.values_mut().for_each(|tunnel| tunnel.announce(leaf));
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
        while let Some(told) = self.guard.expired(now) {
            log::info!("{told}");
        }
        if now >= self.reload {
            self.reload = now + self.shared.config.limits.reload;
            self.reload(now);
        }
        if self.show.take_if(|show| now >= *show).is_some() {
            self.shown = self.certs.as_ref().map(Certs::current);
            // Tunnels that began in between hear it now.
            self.announce();
            self.renew_policy();
        }
        for tunnel in self.tunnels.values_mut().filter(|tunnel| tunnel.is_authenticated()) {
            tunnel.send_signals(out);
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
                log::info!(event = "listening"; "Waiting for a client at {at}");
            }
            Err(why) => {
                self.acceptors.clear();
                if self.said.as_ref() != Some(&why) {
                    log::error!(event = "listen_failed", kind = why.kind(); "Server error: {why}; trying again every {cooldown:?}");
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
            authenticated: tunnel.is_authenticated(),
            asks_inside_tls: !tunnel.is_authenticated() && tunnel.dialect().handshake_in_tls(),
            fallback: tunnel.terms().features.contains(&Feature::Fallback),
            ws_eof: tunnel.terms().features.contains(&Feature::WsEof),
        };
        self.policy = Arc::new(AcceptPolicy {
            tls: self.shown.clone(),
            handshake_tls: old.handshake_tls.clone(),
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

/// Whether an authenticated client is at that address: it keeps its place whatever others behind the same address do.
fn is_at_home(tunnels: &BTreeMap<TunnelNo, Tunnel>, from: IpAddr) -> bool {
    tunnels.values().any(|tunnel| tunnel.is_authenticated() && tunnel.is_proven() && tunnel.peer().ip() == from)
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
        Feature::UdpFrame | Feature::Taken | Feature::Goodbye => true,
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
/// A new certificate is shown so long after clients were told of it.
const ANNOUNCED: Duration = Duration::from_secs(1);
/// Most tunnels whose clients have not proven who they are.
const MAX_OPENING: usize = 64;
/// Most streams of one connection at once, whatever `slot` says.
const MAX_STREAMS: usize = 131_072;
/// Handshakes at this port come inside TLS.
pub(in crate::run) const HTTPS: u16 = 443;
/// Most connections taken in one turn.
const MAX_AT_A_TIME: usize = 256;
