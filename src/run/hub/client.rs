//! A client: it calls the server, for ever, and keeps the pool warm.
//!
//! ```text
//!  Resting --time--> Resolving (the server's address) --> Asking --terms--> Up(tunnel)
//!     +<---------------------- any failure, any end <--------+-----------------+
//! ```

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::fallback::QuicFallback;
use super::opener::Opener;
use super::opener::Secret;
use super::out::{EndReason, Out};
use super::route::{features, first_hop, named, Routes};
use super::targets::TargetRouter;
use super::tunnel::{Agreed, Side, Tunnel};
use crate::config::HTTPS;
use crate::error::Error;
use crate::log::printable;
use crate::logic::auth::{Agreement, Approach, Asked, AuthMode, Initiator, Numbers, Outcome, Psk};
use crate::logic::backoff::{Backoff, FIRST_PAUSE};
use crate::logic::control::Why;
use crate::logic::dialect::{Dialect, Wire};
use crate::logic::handshake::{Offer, Proof, ServerAnswer};
use crate::logic::program::Program;
use crate::logic::refill::Refill;
use crate::logic::reminder::{Reminder, Word};
use crate::logic::terms::{Feature, Terms, TunnelNo};
use crate::logic::wire::Fingerprint;
use crate::run::messages::{Answered, Job, Reply, ServerRoute, TunnelEvent};
use crate::run::shared::Shared;

/// A client's own state.
pub(in crate::run) struct Client {
    shared: Arc<Shared>,
    state: State,
    /// What the server turned out to be.
    approach: Approach,
    /// The tunnel key, stretched; `None` where `auth=0`.
    psk: Option<Psk>,
    /// Why pool connections were last not opened: said once, not every second.
    said: Option<Error>,
    /// Handshakes that fail: said once, and then now and then.
    outage: Reminder,
    /// Pauses before the next handshake.
    retry: Backoff,
    /// The log has said that the server wants its handshake inside TLS.
    wants_tls: bool,
    routes: Routes,
    fallback: QuicFallback,
    /// Pauses after another client took the tunnel over.
    taken: Backoff,
}

enum State {
    Resting {
        until: Instant,
    },
    Resolving,
    /// With what the answer is read, in the authenticated handshake.
    Asking(Option<Box<Initiator>>),
    Up(Box<Tunnel>),
}

/// What a handshake came to that begins a tunnel.
struct Accepted {
    terms: Terms,
    fp: Option<Fingerprint>,
    secret: Option<Secret>,
    dialect: Dialect,
    server: SocketAddr,
    round: Duration,
}

impl Client {
    /// A client that will call at once.
    pub fn new(shared: Arc<Shared>, now: Instant) -> Client {
        let cooldown = shared.config.limits.cooldown;
        let (auth, at_https) = (shared.config.auth(), shared.config.tunnel.port == HTTPS);
        let asks_inside_tls = matches!(shared.config.wire, Wire::Only(dialect) if dialect.handshake_in_tls());
        Client {
            approach: Approach::new(auth, at_https || asks_inside_tls),
            psk: (auth != AuthMode::Off).then(|| Psk::stretch(shared.config.key.as_bytes())),
            shared,
            state: State::Resting { until: now },
            said: None,
            outage: Reminder::default(),
            retry: Backoff::untried(FIRST_PAUSE, cooldown, cooldown),
            wants_tls: false,
            routes: Routes::default(),
            fallback: QuicFallback::default(),
            taken: Backoff::of_loser(cooldown),
        }
    }

    /// When the clock has something to say.
    pub fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Resting { until } => Some(*until),
            State::Up(_) => self.fallback.deadline(),
            State::Resolving | State::Asking(_) => None,
        }
    }

    /// Its tunnel, if there is one.
    pub fn tunnel(&self) -> Option<&Tunnel> {
        match &self.state {
            State::Up(tunnel) => Some(tunnel),
            _ => None,
        }
    }

    /// The tunnel of that number.
    pub fn tunnel_mut(&mut self, number: TunnelNo) -> Option<&mut Tunnel> {
        match &mut self.state {
            State::Up(tunnel) if tunnel.number() == number => Some(tunnel),
            _ => None,
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, targets: &mut TargetRouter, now: Instant, out: &mut Out) {
        match &mut self.state {
            State::Resting { until } if now < *until => {}
            State::Resting { .. } | State::Resolving => self.call(targets, now, out),
            State::Asking(_) => {}
            State::Up(tunnel) => {
                let retry = self.shared.config.limits.quic_retry;
                if let Some(route) = self.fallback.due(tunnel, now, retry) {
                    out.job(0, Job::Open(tunnel.wanted(&route)));
                }
            }
        }
    }

    /// Asks the server for its terms, once its address is known.
    fn call(&mut self, targets: &mut TargetRouter, now: Instant, out: &mut Out) {
        let shared = self.shared.clone();
        let config = &shared.config;
        let called = match targets.addresses(first_hop(config), now) {
            Ok(Some(addresses)) => self.ask(addresses).map(Some),
            Ok(None) => Ok(None),
            Err(why) => Err(why),
        };
        match called {
            Ok(Some((handshake, initiator))) => {
                self.state = State::Asking(initiator);
                out.job(0, handshake);
            }
            Ok(None) => self.state = State::Resolving,
            Err(why) => self.complain(why, targets, now),
        }
    }

    /// The handshake that this server knows, as far as known; with what its answer is read.
    fn ask(&mut self, addresses: Vec<SocketAddr>) -> Result<(Job, Option<Box<Initiator>>), Error> {
        let config = &self.shared.config;
        if let Some(dialect) = config.wire.older() {
            let request = dialect.key_line(config.key.as_bytes());
            return Ok((Job::Handshake { route: self.routes.handshake(config, addresses, false)?, request }, None));
        }
        let (host, features) = (named(config), features(config));
        let (proof, tls, initiator) = match (self.approach.next(), &self.psk) {
            (Asked::Authenticated, Some(psk)) => {
                let begun = Initiator::new(psk, &features);
                let (initiator, message) = begun.map_err(|why| Error::system("no handshake", why.to_string()))?;
                (Offer { host, proof: Proof::Message(&message) }.to_bytes(), true, Some(Box::new(initiator)))
            }
            (asked, _) => {
                let request = Offer { host, proof: Proof::Token(config.key.as_bytes(), &features) }.to_bytes();
                (request, asked == Asked::Original { tls: true }, None)
            }
        };
        let route = self.routes.handshake(config, addresses, tls)?;
        Ok((Job::Handshake { route, request: proof }, initiator))
    }

    /// The server's answer. On which side of the tunnel that begins users come in; `None` if none does.
    pub fn answered(
        &mut self,
        answer: Result<Answered, Error>,
        number: TunnelNo,
        targets: &mut TargetRouter,
        workers: usize,
        now: Instant,
    ) -> Option<Side> {
        let silent = matches!(&answer, Ok(Answered { reply: Reply::Silent(_), .. }));
        let no_tls = match &answer {
            Ok(Answered { reply: Reply::NoTls(why), .. }) => format!(": {why}"),
            _ => String::new(),
        };
        let agreed = answer.and_then(|answer| self.agree(answer));
        let outcome = match &agreed {
            Ok(Ok(_)) => Outcome::Agreed,
            Ok(Err(outcome)) => *outcome,
            Err(_) if silent => Outcome::Silent,
            Err(_) => Outcome::Failed,
        };
        let again = self.approach.learn(outcome);
        let tunnel = match agreed {
            Ok(Ok(agreed)) => self.tunnel_with(agreed, number, workers, now),
            Ok(Err(_)) if again => {
                log::debug!("{} is asked in another form: {outcome:?}", self.shared.config.tunnel);
                self.state = State::Resting { until: now };
                return None;
            }
            Ok(Err(_)) => Err(Error::protocol(format!(
                "the server does not know the authenticated handshake (any more){no_tls}"
            ))
            .with_hint(
                "auth=1 takes NodePass 1.14's too, if no other was ever made with this server; auth=0 makes only that",
            )),
            Err(why) => Err(why),
        };
        match tunnel {
            Ok(mut tunnel) => {
                let side = tunnel.side();
                self.fallback.begin(&mut tunnel, now);
                self.retry.succeeded(now);
                self.taken.succeeded(now);
                self.wants_tls = false;
                self.state = State::Up(Box::new(tunnel));
                Some(side)
            }
            Err(why) => {
                self.complain(why, targets, now);
                None
            }
        }
    }

    /// What an answer comes to; `Err` inside: what it says of the server, where it begins no tunnel.
    fn agree(&mut self, Answered { reply, server, round }: Answered) -> Result<Result<Accepted, Outcome>, Error> {
        let State::Asking(initiator) = std::mem::replace(&mut self.state, State::Resolving) else {
            return Err(Error::protocol("an answer to nothing"));
        };
        let wire = self.shared.config.wire;
        let at_https = self.shared.config.tunnel.port == HTTPS;
        let tls = !matches!(self.approach.next(), Asked::Original { tls: false });
        let answer = match reply {
            // At that port an original speaks TLS too.
            Reply::NoTls(why) if at_https || initiator.is_none() => return Err(why),
            Reply::Silent(why) => return Err(why),
            Reply::NoTls(_) => return Ok(Err(Outcome::UnknownThere { tls: false })),
            Reply::Line(line, _) => return self.accepted_line(&line, server, round).map(Ok),
            Reply::Said(answer) => answer,
        };
        match (answer, initiator) {
            (ServerAnswer::Sealed(message), Some(initiator)) => {
                let (Agreement { terms, fp, session }, keys) = initiator.finish(&message).map_err(Error::protocol)?;
                let secret = Secret { keys: Arc::new(keys), session, used: Numbers::default() };
                Ok(Ok(Accepted { terms, fp, secret: Some(secret), dialect: Dialect::Json, server, round }))
            }
            (ServerAnswer::Terms { knows_auth: true, .. }, None) if self.psk.is_some() => Ok(Err(Outcome::KnowsBoth)),
            (ServerAnswer::Terms { terms, .. }, None) => match wire.agreed(tls, !terms.features.is_empty()) {
                Some(dialect) => Ok(Ok(Accepted { terms, fp: None, secret: None, dialect, server, round })),
                None => Err(Error::protocol(format!("the server is of another generation than wire={}", wire.name()))),
            },
            (ServerAnswer::Refused { status: 400, .. }, None) if !tls && wire == Wire::Auto => {
                if !std::mem::replace(&mut self.wants_tls, true) {
                    log::info!("The server answers 400 to a plain request, as NodePass from 1.15 on does: it is asked inside TLS");
                }
                Ok(Err(Outcome::WantsTls))
            }
            (ServerAnswer::Foreign(Program::Tls), None) if !tls && wire == Wire::Auto => Ok(Err(Outcome::WantsTls)),
            (ServerAnswer::Refused { status: 401, knows_auth: true, .. }, None) => {
                Err(Error::refused(401, "Unauthorized")
                    .with_hint("the keys differ, or the server wants auth=1 or 2 here too"))
            }
            (ServerAnswer::Refused { status: 401, knows_auth: false, .. }, Some(_)) => {
                Ok(Err(Outcome::UnknownThere { tls: true }))
            }
            (ServerAnswer::Refused { status, text, by: Some(Program::Proxy(..)) | None, .. }, _) => {
                Err(Error::refused(status, &printable(&text).to_string()))
            }
            (ServerAnswer::Foreign(by) | ServerAnswer::Refused { by: Some(by), .. }, _) => {
                Err(Error::protocol(by.to_string()))
            }
            (ServerAnswer::Bad(why), _) => Err(Error::protocol(why)),
            _ => Err(Error::protocol("the server's answer is to another handshake")),
        }
    }

    /// The terms in the answer of a server of 1.12 or older.
    fn accepted_line(&self, line: &[u8], server: SocketAddr, round: Duration) -> Result<Accepted, Error> {
        let config = &self.shared.config;
        let dialect = config.wire.older().ok_or_else(|| Error::protocol("an answer to nothing"))?;
        let terms = dialect.terms(line, config.key.as_bytes()).map_err(Error::protocol)?;
        Ok(Accepted { terms, fp: None, secret: None, dialect, server, round })
    }

    fn tunnel_with(
        &mut self,
        accepted: Accepted,
        number: TunnelNo,
        workers: usize,
        now: Instant,
    ) -> Result<Tunnel, Error> {
        let Accepted { terms, fp, secret, dialect, server, round } = accepted;
        let (config, limits) = (&self.shared.config, &self.shared.config.limits);
        terms.require_tls(config.tls.code())?;
        let here = (config, &self.shared.budget);
        let route = self.routes.pool(number, (&terms, fp, dialect), (server, round), here, &mut self.fallback)?;
        let max = terms.max.min(config.max);
        let refill = Refill::new(config.min, max, limits.min_pool_interval, limits.max_pool_interval, now)
            .brought_back(terms.features.contains(&Feature::Reuse));
        let opener = Opener::new(refill, route);
        let agreed = Agreed { number, terms, peer: server, secret, dialect };
        Ok(Tunnel::new(agreed, Some(opener), config, workers, now))
    }

    /// The server says, under the key, that it will show this certificate.
    pub fn pin(&mut self, fp: Fingerprint) {
        let State::Up(tunnel) = &mut self.state else { return };
        let routes = &mut self.routes;
        let mut changed = |route: &ServerRoute| match routes.pinned(route, fp) {
            Ok(changed) => changed,
            Err(why) => {
                log::error!("The server's new certificate cannot be used: {why}");
                None
            }
        };
        self.fallback.change(tunnel, &mut changed);
        log::info!("The server announces a new certificate: {fp}");
    }

    /// Something happened to a connection of the tunnel of that number. `false` if there is none.
    pub fn on(&mut self, number: TunnelNo, event: TunnelEvent, now: Instant, out: &mut Out) -> bool {
        let State::Up(tunnel) = &mut self.state else { return false };
        if tunnel.number() != number {
            return false;
        }
        let event = match event {
            TunnelEvent::MuxUp => {
                self.fallback.up(tunnel);
                return true;
            }
            TunnelEvent::MuxFailed(why) => {
                let retry = now + self.shared.config.limits.quic_retry;
                match self.fallback.failed(why, tunnel, retry) {
                    Some(why) => TunnelEvent::MuxFailed(why),
                    None => return true,
                }
            }
            event @ TunnelEvent::Opened { .. } => {
                self.fallback.opened(tunnel, now + self.shared.config.limits.quic_retry);
                event
            }
            event => event,
        };
        tunnel.on(event, now, out);
        true
    }

    /// Pool connections are opened again.
    pub fn opened(&mut self, now: Instant) {
        self.said = None;
        if let Some((count @ 2.., time)) = self.outage.worked(now) {
            log::info!(event = "server_reached"; "The server is reached again, after {count} tries in {} s", time.as_secs());
        }
    }

    /// Says why there are no pool connections: loud once, and only while there is no tunnel without them.
    pub fn trouble(&mut self, why: Error, loud: bool) {
        let loud = loud && self.said.as_ref() != Some(&why);
        log::log!(if loud { log::Level::Warn } else { log::Level::Debug }, "Pool connection not opened: {why}");
        if loud {
            self.said = Some(why);
        }
    }

    /// Takes the tunnel out that is over, and calls again after a pause.
    pub fn end(&mut self, number: TunnelNo, reason: &EndReason, now: Instant) -> Option<Box<Tunnel>> {
        self.tunnel_mut(number)?;
        if let EndReason::Control(Why::Goodbye) = reason {
            // The next server can start once this one has ended: its users have so long to finish.
            self.retry.expect(now + self.shared.config.limits.shutdown + RESTART);
        }
        let pause = match reason {
            EndReason::Control(Why::Taken { .. }) => self.taken.failed(now),
            _ => self.retry.failed(now),
        };
        match std::mem::replace(&mut self.state, State::Resting { until: now + pause }) {
            State::Up(tunnel) => Some(tunnel),
            _ => None,
        }
    }

    /// Says what is wrong, once and now and then, and calls again after a pause.
    fn complain(&mut self, why: Error, targets: &mut TargetRouter, now: Instant) {
        let (config, cooldown) = (&self.shared.config, self.shared.config.limits.cooldown);
        let why = match why {
            Error::Tls(_) if config.tunnel.port == HTTPS => why.about(VERIFIED),
            why => why,
        };
        targets.doubt(first_hop(config), now);
        let what = match &why {
            Error::Name(_) | Error::Proxy(_) => String::new(),
            _ => format!("handshake with {} failed: ", config.tunnel),
        };
        let kind = why.kind();
        // `Client error:` makes a dashboard's light red, until a check point comes.
        match self.outage.failed(&why.to_string(), now) {
            Some(Word::Fails(why)) => {
                log::error!(event = "handshake_failed", kind = kind; "Client error: {what}{why}; trying again every {cooldown:?}");
            }
            Some(Word::StillFails { since, count, why }) => {
                let minutes = since.as_secs() / 60;
                log::error!(event = "handshake_failed", kind = kind; "Client error: {what}{why}; for {minutes} minutes now, {count} tries");
            }
            None => log::debug!("Handshake with {} failed again: {why}", config.tunnel),
        }
        self.state = State::Resting { until: now + self.retry.failed(now) };
    }
}

/// What a client's TLS is about at port 443, whatever `tls` is.
const VERIFIED: &str =
    "at port 443, where the server's certificate is verified (tls=2 there, or another port at both ends)";
/// Time for a server's successor to start, once the server has ended.
const RESTART: Duration = Duration::from_secs(2);
