//! A server: the tunnel port, handshakes, and one tunnel for each client.

mod admission;

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Registry, Token};

pub(in crate::run) use self::admission::Reception;
use super::certificates::reload_certs;
use super::ingress::listeners::listening_addresses;
use super::out::Out;
use super::tunnel::Tunnel;
use super::TUNNEL_TOKEN;
use crate::config::{Config, Transport, HTTPS};
use crate::error::Error;
use crate::log as lines;
use crate::logic::auth::{AuthMode, Psk};
use crate::logic::backoff::{Backoff, FIRST_PAUSE};
use crate::logic::bans::BanNotice;
use crate::logic::guard::{Failure, Guard, Refusals, Source, Told};
use crate::logic::terms::{Direction, Feature, TunnelNo};
use crate::net::certs::{Certs, Identity};
use crate::net::listen::Acceptor;
use crate::net::mux::Mux;
use crate::net::quic;
use crate::net::sys::packet_pipe;
use crate::run::messages::Job;
use crate::run::policy::{AcceptPolicy, ExpectedTunnel, HandshakeTls};
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
    /// Sources that got something wrong, and those that may not come.
    guard: Guard,
    refusals: Refusals,
    /// Sources of other programs that the log has told of.
    strangers: Refusals,
    /// The tunnel key, stretched; `None` where `auth=0`.
    psk: Option<Psk>,
    reload: Instant,
    policy: Arc<AcceptPolicy>,
    /// Copies of what the QUIC port consists of, and the pipe by which its packets come when another process has it.
    quic: Vec<OwnedFd>,
    passed: Option<OwnedFd>,
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
            lines: config.wire.older().is_some(),
            transport: config.transport,
            streams: streams_for(config.max, config.slot),
            trial: TRIAL + TRIAL_OF_EACH * config.max,
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
            refusals: Refusals::default(),
            strangers: Refusals::of_strangers(),
            psk: (config.auth() != AuthMode::Off).then(|| Psk::stretch(config.key.as_bytes())),
            shown: certs.as_ref().map(Certs::current),
            show: None,
            certs,
            reload: now + config.limits.reload,
            policy: Arc::new(policy),
            quic: Vec::new(),
            passed: None,
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

    /// Whether the tunnel port is open.
    pub fn is_open(&self) -> bool {
        !self.acceptors.is_empty()
    }

    /// The sockets of the tunnel port.
    pub fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.acceptors.iter().map(Acceptor::as_fd).chain(self.quic.iter().map(AsFd::as_fd))
    }

    /// The next process is to start: the end of a pipe into which it puts what comes to the QUIC port for connections in this one.
    pub fn way_back(&mut self) -> io::Result<Option<OwnedFd>> {
        if self.quic.is_empty() {
            return Ok(None);
        }
        let (reader, writer) = packet_pipe()?;
        self.passed = Some(reader);
        Ok(Some(writer))
    }

    /// Another process has the tunnel port from now on. Where it receives for QUIC as well: the other end of that pipe.
    pub fn hand_on(&mut self, registry: &Registry) -> Option<OwnedFd> {
        self.acceptors.drain(..).for_each(|acceptor| acceptor.close(registry));
        self.passed.take()
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
                if self.shared.untold.load(Ordering::Relaxed) >= self.shared.budget.accepts {
                    acceptor.pause(now);
                    break;
                }
                let Some((socket, from)) = acceptor.accept(now) else { break };
                if self.guard.is_banned(from.ip(), is_at_home(&self.tunnels, from.ip()), now) {
                    continue;
                }
                // QUIC takes those only whose handshake came in here.
                if !self.shared.config.peers.admits(from.ip()) {
                    if self.refusals.is_news(from.ip(), now) {
                        log::warn!("{from} refused at the tunnel's port: its address may not come in (allow, deny)");
                    }
                    continue;
                }
                let worker = worker_for(&mut self.tunnels, from.ip(), out);
                let known = self.tunnels.values().any(|tunnel| tunnel.is_proven() && tunnel.peer().ip() == from.ip());
                self.shared.untold.fetch_add(1, Ordering::Relaxed);
                out.job(worker, Job::Accept { socket, from, known, policy: self.policy.clone() });
            }
        }
    }

    /// Whether a user from there is closed, since its source is banned at the tunnel's port.
    pub fn bars(&mut self, from: IpAddr, now: Instant) -> bool {
        self.guard.is_banned(from, is_at_home(&self.tunnels, from), now)
    }

    /// The client of a tunnel has proven who it is, and may make connections though its address is banned.
    pub fn at_home(&mut self, number: TunnelNo) {
        let peer = self.tunnels.get(&number).map(|tunnel| tunnel.peer().ip());
        if peer.is_some_and(|peer| self.guard.has_banned(peer)) {
            self.renew_policy();
        }
    }

    /// A stranger at that address got something wrong.
    pub fn failed(&mut self, from: IpAddr, what: Failure, now: Instant) {
        if what.is_strange() {
            if self.strangers.is_news(from, now) {
                log::info!(event = "stranger", peer:% = from; "{from}: {what}; said once an hour");
            }
            return;
        }
        let kept = is_at_home(&self.tunnels, from);
        if let Some(told) = self.guard.failed(from, what, kept, now) {
            log::warn!(event = "handshake_refused", peer:% = from; "{told}");
            self.ban_changed(&told);
        }
    }

    /// This source is let in again, or all are.
    pub fn lift(&mut self, source: Option<Source>) {
        let lifted = self.guard.lift(source);
        lifted.iter().for_each(|told| self.ban_ended(told));
    }

    fn ban_ended(&mut self, told: &Told) {
        log::info!("{told}");
        self.ban_changed(told);
    }

    /// The master lists the bans of all its instances; QUIC's port has to know those of clients.
    fn ban_changed(&mut self, told: &Told) {
        let Some(notice) = BanNotice::of(told) else { return };
        if self.shared.held {
            lines::tell(&notice.to_string());
        }
        if self.tunnels.values().any(|tunnel| Source::of(tunnel.peer().ip()) == notice.source) {
            self.renew_policy();
        }
    }

    /// Sources that are banned.
    pub fn bans(&self) -> usize {
        self.guard.bans().count()
    }

    /// The certificate in use.
    pub fn certs(&self) -> Option<&Certs> {
        self.certs.as_ref()
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
            self.ban_ended(&told);
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
            let acceptor = Acceptor::open(
                address,
                self.shared.tunnel_keepalive,
                &self.shared.inherited,
                registry,
                Token(TUNNEL_TOKEN),
            );
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
        )
        .with_trial(self.policy.trial);
        let opened = quic::listen(&addresses, &self.shared.inherited, identity, &settings, now);
        let opened = opened.and_then(|port| Ok((port.handed_over()?, port)));
        let (copies, port) = opened.map_err(|error| Error::listen(&config.tunnel, "QUIC over UDP", error))?;
        self.quic = copies;
        Ok(Some(port))
    }

    /// Which connections are wanted has changed.
    fn renew_policy(&mut self) {
        let old = &self.policy;
        let barred = |peer: IpAddr| self.guard.has_banned(peer) && !is_at_home(&self.tunnels, peer);
        let expected = |tunnel: &Tunnel| ExpectedTunnel {
            number: tunnel.number(),
            peer: tunnel.peer().ip(),
            authenticated: tunnel.is_authenticated(),
            asks_inside_tls: !tunnel.is_authenticated() && tunnel.dialect().handshake_in_tls(),
            connections: match barred(tunnel.peer().ip()) {
                true => 0,
                false => tunnel.dialect().quic_connections(tunnel.terms().max),
            },
            fallback: tunnel.terms().features.contains(&Feature::Fallback),
            ws_eof: tunnel.terms().features.contains(&Feature::WsEof),
        };
        self.policy = Arc::new(AcceptPolicy {
            tls: self.shown.clone(),
            handshake_tls: old.handshake_tls.clone(),
            tls_handshake: old.tls_handshake,
            lines: old.lines,
            transport: old.transport,
            streams: old.streams,
            trial: old.trial,
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

/// Most streams of one connection: those of users, as many again that wait idle, and one for control.
fn streams_for(max: usize, slot: Option<usize>) -> usize {
    slot.unwrap_or(MAX_STREAMS).saturating_add(max.saturating_mul(2)).clamp(max + 1, MAX_STREAMS)
}

/// A new certificate is shown so long after clients were told of it.
const ANNOUNCED: Duration = Duration::from_secs(1);
/// Most streams of one connection at once, whatever `slot` says.
const MAX_STREAMS: usize = 131_072;
/// Most connections taken in one turn.
const MAX_AT_A_TIME: usize = 256;
/// Bytes that a connection of many streams may say before it is a client's, and as many more for each pool connection: its head, and the
/// opening.
const TRIAL: usize = 64 * 1024;
const TRIAL_OF_EACH: usize = 128;
