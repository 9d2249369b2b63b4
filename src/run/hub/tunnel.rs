//! One tunnel between a server and a client: what both roles have in common. It owns its pool, its control connection, its
//! certificate check and, at a client, what opens pool connections.
//!
//! ```text
//!  Opening --first pool connection--> Up --check passed--> users are served --any reason--> Action::Over
//! ```
//!
//! Pure but for the log: events and the time come in, actions go out.

mod control;
mod dead;
mod upkeep;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::opener::{Opener, Secret};
use super::out::{Action, EndReason, Granted, Out, PeerUser};
use crate::config::{Config, Transport};
use crate::error::Error;
use crate::logic::auth::{AuthMode, Opening};
use crate::logic::control::Control;
use crate::logic::dialect::Dialect;
use crate::logic::fingerprint::FingerprintCheck;
use crate::logic::launched::Launched;
use crate::logic::pool::{Pool, Taken};
use crate::logic::terms::TunnelNo;
use crate::logic::terms::{Direction, Feature, Terms};
use crate::logic::wire::{Fingerprint, Id, CONTROL};
use crate::run::messages::{Home, Job, ServerRoute, TunnelEvent, Wanted};

/// A tunnel in being.
pub(in crate::run) struct Tunnel {
    number: TunnelNo,
    terms: Terms,
    /// Of an authenticated tunnel.
    secret: Option<Secret>,
    /// The generation of an original, as far as its handshake tells.
    dialect: Dialect,
    /// It is not authenticated, though that is wanted.
    is_weak: bool,
    side: Side,
    peer: SocketAddr,
    stage: Stage,
    /// Another client has its place: it ends for that reason when its own client has heard it, or then.
    replaced: Option<(EndReason, Instant)>,
    /// It is over for that reason once the connections have come for which users of the peer's wait, or then.
    over: Option<(EndReason, Instant)>,
    pool: Pool<Home, PeerUser>,
    launched: Launched<Home>,
    check: FingerprintCheck,
    opener: Option<Opener>,
    /// This side stops: nothing is idle any more.
    leaving: bool,
    /// Users whose relays it carries.
    live: usize,
    /// The last round trip on the control connection.
    rtt: Duration,
    /// When the pool is looked over again.
    review: Instant,
    key: Vec<u8>,
    report: Duration,
}

enum Stage {
    /// The control connection has not come. Without one by then the tunnel has failed.
    Opening { until: Instant },
    /// The first one that the server has heard of is the control connection.
    Up { control: Box<Control>, home: Home },
}

/// Which side takes users in and which dials targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::run) enum Side {
    /// Users come in here.
    Ingress,
    /// Targets are dialled from here.
    Egress,
}

/// What both sides have agreed on.
pub(in crate::run) struct Agreed {
    /// The tunnel's number, here.
    pub number: TunnelNo,
    /// The terms.
    pub terms: Terms,
    /// The peer.
    pub peer: SocketAddr,
    /// The keys, if it is authenticated.
    pub secret: Option<Secret>,
    /// The peer's generation, as far as the handshake tells, if it is not.
    pub dialect: Dialect,
}

impl Tunnel {
    /// A tunnel that both sides have agreed on; pool connections may come. `opener` makes it the client's end.
    pub fn new(
        Agreed { number, terms, peer, secret, dialect }: Agreed,
        opener: Option<Opener>,
        config: &Config,
        workers: usize,
        now: Instant,
    ) -> Tunnel {
        let (limits, is_server) = (&config.limits, opener.is_none());
        let side = match (is_server, terms.flow) {
            (true, Direction::Reverse) | (false, Direction::Forward) => Side::Ingress,
            _ => Side::Egress,
        };
        // With tls=2 the chain has been verified, and an original's server has no fingerprint to compare ours with.
        let checked = secret.is_none()
            && dialect.states_certificate(terms.tls, is_server)
            && !terms.features.contains(&Feature::Edge);
        // A client that finds UDP blocked needs its tries, and then the other transport.
        let tries = if terms.features.contains(&Feature::Fallback) { FALLBACK_TIME } else { 1 };
        let max_idle = terms.max.saturating_mul(lag(&terms, secret.is_some()));
        let pool = Pool::new(workers, max_idle, limits.pool_get, limits.semaphore).used_again(dialect.uses_again());
        Tunnel {
            number,
            side,
            peer,
            stage: Stage::Opening { until: now + limits.handshake * tries },
            pool: pool.mixed(is_shared(&terms)),
            launched: Launched::new(max_idle),
            check: FingerprintCheck::new(checked, limits.pool_get, limits.report),
            replaced: None,
            over: None,
            opener,
            leaving: false,
            live: 0,
            rtt: Duration::ZERO,
            review: now + limits.report,
            key: config.key.as_bytes().to_vec(),
            report: limits.report,
            terms,
            is_weak: secret.is_none() && config.auth() != AuthMode::Off,
            secret,
            dialect,
        }
    }

    /// Its number.
    pub fn number(&self) -> TunnelNo {
        self.number
    }

    /// What was agreed.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Which side we are.
    pub fn side(&self) -> Side {
        self.side
    }

    /// The peer.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Idle pool connections.
    pub fn idle(&self) -> usize {
        self.pool.idle()
    }

    /// Pool connections that are being opened (client).
    pub fn opening(&self) -> usize {
        self.opener.as_ref().map_or(0, |opener| opener.refill.opening())
    }

    /// Users whose relays it carries.
    pub fn live(&self) -> usize {
        self.live
    }

    /// The last round trip on the control connection.
    pub fn rtt(&self) -> Duration {
        self.rtt
    }

    /// Whether it has its control connection.
    pub fn is_up(&self) -> bool {
        matches!(self.stage, Stage::Up { .. })
    }

    /// Whether the peer has proven to know the key with something fresh: till then it is a candidate.
    pub fn is_proven(&self) -> bool {
        matches!(&self.stage, Stage::Up { control, .. } if control.is_heard())
    }

    /// The peer's generation, as far as it has shown, in a tunnel without authentication.
    pub fn dialect(&self) -> Dialect {
        match &self.stage {
            Stage::Up { control, .. } => control.dialect().unwrap_or(self.dialect),
            Stage::Opening { .. } => self.dialect,
        }
    }

    /// Whether both sides have proven who they are.
    pub fn is_authenticated(&self) -> bool {
        self.secret.is_some()
    }

    /// Whether that is a true opening of one of its pool connections, and the first time that it comes (server).
    pub fn accepts(&mut self, opening: &Opening) -> bool {
        self.secret.as_mut().is_some_and(|secret| secret.keys.accept(opening, &mut secret.used))
    }

    /// A pool connection on `route`, for the client to open.
    pub fn wanted(&self, route: &Arc<ServerRoute>) -> Wanted {
        Wanted::new(route, self.secret.as_ref())
    }

    /// Tells the client which certificate will be shown. That goes out with the next [`advance`](Tunnel::advance).
    pub fn announce(&mut self, fp: Fingerprint) {
        if let (Some(_), Stage::Up { control, .. }) = (&self.secret, &mut self.stage) {
            control.cert(fp);
        }
    }

    /// Sends what has been said on the control connection, and nothing else: see [`announce`](Tunnel::announce).
    pub fn send_signals(&mut self, out: &mut Out) {
        let Stage::Up { control, home } = &mut self.stage else { return };
        while let Some(bytes) = control.poll_send() {
            out.job(home.worker, Job::Say { key: home.key, bytes });
        }
    }

    /// Whether a user who comes in here can have a connection at once.
    pub fn can_serve(&self) -> bool {
        let ready = matches!(&self.stage, Stage::Up { control, .. } if control.is_ready());
        ready && self.side == Side::Ingress && self.replaced.is_none() && self.pool.idle() > 0
    }

    /// Whether another client has its place.
    pub fn is_replaced(&self) -> bool {
        self.replaced.is_some()
    }

    /// Whether the peer owes an answer for longer than it takes: users go to others first.
    pub fn is_doubtful(&self, now: Instant) -> bool {
        matches!(&self.stage, Stage::Up { control, .. } if control.is_overdue(now))
    }

    /// Why a user waits in vain.
    pub fn absence(&self) -> String {
        match (&self.stage, &self.opener) {
            (Stage::Opening { .. }, _) => "the tunnel is not up yet".into(),
            (_, Some(Opener { exhausted: true, .. })) => "all streams that the server allows are in use".into(),
            (_, Some(Opener { failing: Some(why), .. })) => why.to_string(),
            _ => "no pool connection came".into(),
        }
    }

    /// How pool connections are opened (client).
    pub fn route(&mut self) -> Option<&mut Arc<ServerRoute>> {
        self.opener.as_mut().map(|opener| &mut opener.route)
    }

    /// Something happened to one of its connections. What follows of it comes with [`advance`](Tunnel::advance).
    pub fn on(&mut self, event: TunnelEvent, now: Instant, out: &mut Out) {
        match event {
            TunnelEvent::Arrived { home, fp } => self.arrived(home, fp, now, out),
            TunnelEvent::Opened { home, id, fp } => self.opened(home, id, fp, now, out),
            TunnelEvent::Failed(why) => self.failed(why, out),
            TunnelEvent::Exhausted(so) => {
                log::debug!("The server allows {} streams", if so { "no more" } else { "more" });
                self.opener.iter_mut().for_each(|opener| opener.exhausted = so);
            }
            // A client chooses its transport: see `QuicFallback`.
            TunnelEvent::MuxUp => {}
            TunnelEvent::MuxFailed(why) => self.trouble(why, out),
            TunnelEvent::Gone(id) => self.idle_died(id),
            TunnelEvent::Lost(id) => self.died(id),
            TunnelEvent::Kept(id) => self.lives(id),
            TunnelEvent::Doubted(id) => self.doubted(id),
            TunnelEvent::Ended(id) => self.pool.ended(id, now),
            TunnelEvent::Free { home, id, behind } => self.freed((home, id), behind, now, out),
            TunnelEvent::Said(bytes) => {
                if let Stage::Up { control, .. } = &mut self.stage {
                    control.heard(&bytes, now);
                    if control.is_answered() {
                        self.check.answered(now);
                    }
                }
            }
            TunnelEvent::Closed(why) => {
                // What was said last says more than the end: the first reason counts.
                self.follow_control(now, out);
                self.grant(now, out);
                let replaced = self.replaced.take().map(|(reason, _)| reason);
                self.end(replaced.unwrap_or(EndReason::Lost(why)), now, out);
            }
        }
    }

    /// A user of the pool connection at `home` has left, or came back without one.
    pub fn released(&mut self, home: Home) {
        self.pool.released(home);
        debug_assert!(self.live > 0, "a user left twice");
        self.live = self.live.saturating_sub(1);
    }

    /// A pool connection for a user who comes in here. The peer is told with the next [`advance`](Tunnel::advance).
    pub fn take(&mut self, user: SocketAddr, udp: bool, now: Instant, out: &mut Out) -> Option<Granted> {
        let Stage::Up { control, .. } = &mut self.stage else { return None };
        let Taken { id, home, worker } = self.pool.take(udp, &out.loads)?;
        out.loads.begin(worker);
        self.live += 1;
        self.launched.given(id, home, now);
        control.launch(udp, user.to_string(), id);
        Some(Granted { home, framed: self.framed(), retried: self.tells_gone() })
    }

    /// The worker for the next connection that comes: the hub's own for the control connection.
    pub fn next_worker(&mut self, out: &mut Out) -> usize {
        if self.is_up() {
            self.pool.next_worker(&mut out.loads)
        } else {
            0
        }
    }

    /// Carries out what has been decided: signals, launches, pool connections.
    pub fn advance(&mut self, now: Instant, out: &mut Out) {
        self.state_certificate(now, out);
        self.follow_control(now, out);
        self.grant(now, out);
        self.refill(now, out);
        let awaits = self.awaits();
        if let Some((reason, _)) = self.over.take_if(|(_, until)| now >= *until || !awaits) {
            out.push(Action::Over(reason));
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant, out: &mut Out) {
        match &mut self.stage {
            Stage::Up { control, .. } => control.tick(now),
            Stage::Opening { until } if now >= *until => return out.push(Action::Over(EndReason::NoConnection)),
            Stage::Opening { .. } => {}
        }
        if let Some((reason, _)) = self.replaced.take_if(|(_, until)| now >= *until) {
            return out.push(Action::Over(reason));
        }
        while let Some(id) = self.check.expired(now) {
            log::debug!("Certificate check for {id}, a connection that never came: ignored");
        }
        while let Some((id, user)) = self.pool.late(now) {
            log::debug!("A user of the peer's waits for a connection in vain: {user:?}");
            self.died(id);
        }
        while let Some(home) = self.pool.unclaimed(now) {
            out.close(home);
        }
        if now >= self.review {
            self.review = now + self.report;
            self.tidy(now);
            self.renew_if_sick(now, out);
        }
        self.advance(now, out);
    }

    /// Gives memory back that a crowd took.
    pub fn tidy(&mut self, now: Instant) {
        self.pool.shrink();
        let pool = &self.pool;
        self.launched.keep(|id| pool.is_idle(id), now);
    }

    /// When the clock has something to say.
    pub fn deadline(&self) -> Option<Instant> {
        let stage = match &self.stage {
            Stage::Up { control, .. } => control.deadline(),
            Stage::Opening { until } => Some(*until),
        };
        let opener = self.opener.as_ref().and_then(Opener::deadline);
        let [replaced, over] = [&self.replaced, &self.over].map(|end| end.as_ref().map(|(_, until)| *until));
        [stage, opener, replaced, over, self.check.deadline(), self.pool.deadline()].into_iter().flatten().min()
    }

    /// A connection of the tunnel's: the control connection, or one for the pool, or one too many (server).
    fn arrived(&mut self, home: Home, fp: Option<Fingerprint>, now: Instant, out: &mut Out) {
        let up = self.is_up();
        if up && !self.pool.has_room() {
            return out.close(home);
        }
        let mut id = CONTROL;
        while up && (id == CONTROL || self.pool.knows(id)) {
            id = (out.random_id)();
        }
        let [ws_eof, reuse] = [Feature::WsEof, Feature::Reuse].map(|feature| self.terms.features.contains(&feature));
        let (tunnel, dialect) = (self.number, self.dialect);
        out.job(home.worker, Job::Number { key: home.key, tunnel, id, dialect, ws_eof, reuse });
        self.admit(id, home, fp, now, out);
        self.shed_beyond_max(now, out);
    }

    /// A pool connection has the id that the server gave it (client).
    fn opened(&mut self, home: Home, id: Id, fp: Option<Fingerprint>, now: Instant, out: &mut Out) {
        // An id given twice is a failure like others: the next try waits for the clock.
        if !self.admit(id, home, fp, now, out) {
            return self.failed(Some(Error::protocol(format!("the server gave the id {id} twice"))), out);
        }
        if let Some(opener) = &mut self.opener {
            opener.refill.opened();
            opener.failing = None;
            out.push(Action::Opened);
        }
    }

    fn failed(&mut self, why: Option<Error>, out: &mut Out) {
        self.opener.iter_mut().for_each(|opener| opener.refill.failed());
        if let Some(why) = why {
            self.trouble(why, out);
        }
    }

    fn trouble(&mut self, why: Error, out: &mut Out) {
        self.opener.iter_mut().for_each(|opener| opener.failing = Some(why.clone()));
        out.push(Action::Trouble { why, loud: !self.is_up() });
    }

    /// Takes a connection into the pool, the first one as control connection. `false` if its id is another's: it is closed.
    fn admit(&mut self, id: Id, home: Home, fp: Option<Fingerprint>, now: Instant, out: &mut Out) -> bool {
        if id == CONTROL && !self.is_up() {
            self.begin_control(home, Vec::new(), now, out);
            return true;
        }
        let new = id != CONTROL && self.pool.opened(id, home, home.worker, fp).is_ok();
        if new {
            self.launched.opened(id, now);
        }
        if !new {
            out.close(home);
        } else if let Some(judged) = self.check.arrived(id, &mut self.pool, now) {
            self.judge(judged, out);
        }
        new
    }

    fn framed(&self) -> bool {
        self.terms.features.contains(&Feature::UdpFrame) || self.dialect().frames()
    }
}

/// Whether pool connections are streams of shared ones.
fn is_shared(terms: &Terms) -> bool {
    Transport::from_code(terms.transport).is_some_and(Transport::is_shared)
}

/// How many times `max` may be idle. Our own client keeps to `max` by itself: it replaces what it took before its signal has
/// come through here, which is no reason to turn the replacements away. On a shared connection they do not wait for a lost
/// packet with signals in it, and where users follow each other one connection may be taken and be back several times meanwhile.
fn lag(terms: &Terms, authenticated: bool) -> usize {
    let shared = is_shared(terms);
    match authenticated {
        false => 1,
        true if shared || terms.features.contains(&Feature::Reuse) => LONG_LAG,
        true => 2,
    }
}

/// So many times the usual wait for the first pool connection, where the client may have to fall back to TCP.
const FALLBACK_TIME: u32 = 3;
/// So many times `max` may be idle where the client is far ahead of its signals.
const LONG_LAG: usize = 8;

#[cfg(test)]
mod tests;
