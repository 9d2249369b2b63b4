//! Whom a server lets in: handshakes, openings, and whose place a newcomer takes.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use super::Server;
use crate::config::Transport;
use crate::logic::auth::{session_of, Agreement, Numbers, Opening, Responder, SessionId};
use crate::logic::dialect::Dialect;
use crate::logic::guard::Failure;
use crate::logic::handshake::{judge, sealed_answer, Keys, Request, Verdict};
use crate::logic::http::ErrorStatus;
use crate::logic::metrics::Figure;
use crate::logic::terms::{Feature, Terms, TunnelNo};
use crate::run::hub::opener::Secret;
use crate::run::hub::out::EndReason;
use crate::run::hub::tunnel::{Agreed, Tunnel};
use crate::run::policy::Kind;

/// What a handshake comes to.
pub(in crate::run) struct Reception {
    /// The answer.
    pub answer: Vec<u8>,
    /// Whether a tunnel has begun.
    pub begun: bool,
    /// A candidate that has to make room.
    pub surplus: Option<TunnelNo>,
}

impl Server {
    /// A handshake, which came inside TLS or not. The right key begins the tunnel `number`, whose client is not known before it has said
    /// something fresh.
    pub fn asked(
        &mut self,
        (number, from): (TunnelNo, SocketAddr),
        request: &Request,
        tls: bool,
        workers: usize,
        now: Instant,
    ) -> Reception {
        let surplus = self.surplus_candidate();
        let answer = match judge(request, tls, self.keys()) {
            Verdict::Refused(status, failure) => {
                self.shared.stats.add(Figure::HandshakesRefused, 1);
                log::debug!("Handshake from {from} answered with {}", status.code());
                failure.into_iter().for_each(|failure| self.failed(from.ip(), failure, now));
                return Reception { answer: status.to_bytes(), begun: false, surplus: None };
            }
            Verdict::Original { features, dialect } => self.begin((number, from), &features, dialect, workers, now),
            Verdict::Authenticated(responder) => self.begin_authenticated(number, from, *responder, workers, now),
        };
        Reception { answer, begun: true, surplus }
    }

    /// The same in the manner of 1.12 and older: the answer, if that is the line of a client whose key has the length of ours. It is
    /// not known before it has said something under the key.
    pub fn asked_with_line(
        &mut self,
        (number, from): (TunnelNo, SocketAddr),
        line: &[u8],
        workers: usize,
        now: Instant,
    ) -> Option<Vec<u8>> {
        let config = &self.shared.config;
        let dialect = config.wire.older()?;
        if !dialect.is_key_line(line, config.key.as_bytes()) {
            self.shared.stats.add(Figure::HandshakesRefused, 1);
            let what = if dialect.writes_like(line) { Failure::Key } else { Failure::Generation };
            self.failed(from.ip(), what, now);
            return None;
        }
        let terms = self.terms(&[]);
        let answer = dialect.terms_line(&terms, config.key.as_bytes());
        let agreed = Agreed { number, terms, peer: from, secret: None, dialect };
        self.insert(Tunnel::new(agreed, None, &self.shared.config, workers, now));
        Some(answer)
    }

    /// What clients are let in by.
    fn keys(&self) -> Keys<'_> {
        let config = &self.shared.config;
        Keys { key: config.key.as_bytes(), psk: self.psk.as_ref(), mode: config.auth(), wire: config.wire }
    }

    /// The tunnels that end now that the client of tunnel `number` has proven who it is, and whose clients are told. `Err` if it is
    /// that one which has to end: an original never takes the place of an authenticated client.
    ///
    /// An original is told by its address, and has one tunnel. Beyond `clients` a newcomer takes over: from a client at the
    /// same address first, which is most likely what is left of the newcomer itself, else from the one that is there longest.
    pub fn replaced_by(&self, number: TunnelNo) -> Result<Vec<TunnelNo>, EndReason> {
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
                let why = "an authenticated client has the tunnel, and this one is none".to_owned();
                return Err(EndReason::TakenOver { why, same: false });
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
    fn begin(
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

    /// Begins a tunnel with the sender of that message 1 at `from`; the answer.
    fn begin_authenticated(
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
        let features = Feature::common(&features_with(config.transport, tls, self.shared.budget.h2_carriers), offered);
        Terms { flow: self.flow, max, tls, transport, features }
    }
}

/// What this build can do beyond 1.14 with that transport, TLS mode and most connections for one pool.
fn features_with(transport: Transport, tls: u8, carriers: usize) -> Vec<Feature> {
    let has = |feature: &Feature| match feature {
        Feature::WsEof => transport == Transport::WebSocket,
        Feature::Edge => transport != Transport::Quic && tls > 0,
        Feature::Fallback => transport == Transport::Quic,
        Feature::Carriers => transport == Transport::Http2 && carriers > 1,
        Feature::Reuse => matches!(transport, Transport::Tcp | Transport::WebSocket),
        other => other.is_unconditional(),
    };
    Feature::ALL.into_iter().filter(has).collect()
}

/// Most tunnels whose clients have not proven who they are.
const MAX_OPENING: usize = 64;
