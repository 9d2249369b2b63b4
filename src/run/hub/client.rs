//! A client: it calls the server, for ever, and keeps the pool warm.
//!
//! ```text
//!  Resting --time--> Resolving (the server's address) --> Asking --terms--> Up(tunnel)
//!     +<---------------------- any failure, any end <--------+-----------------+
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::fallback::QuicFallback;
use super::opener::Opener;
use super::out::{EndReason, Out};
use super::route::{first_hop, Routes};
use super::targets::TargetRouter;
use super::tunnel::{Side, Tunnel};
use crate::error::Error;
use crate::logic::backoff::Backoff;
use crate::logic::control::Why;
use crate::logic::refill::Refill;
use crate::logic::reminder::{Reminder, Word};
use crate::logic::terms::TunnelNo;
use crate::run::messages::{Answered, Job, TunnelEvent};
use crate::run::shared::Shared;

/// A client's own state.
pub(in crate::run) struct Client {
    shared: Arc<Shared>,
    state: State,
    /// Why pool connections were last not opened: said once, not every second.
    said: Option<Error>,
    /// Handshakes that fail: said once, and then now and then.
    outage: Reminder,
    /// Pauses before the next handshake.
    retry: Backoff,
    routes: Routes,
    fallback: QuicFallback,
    /// Pauses after another client took the tunnel over.
    taken: Backoff,
}

enum State {
    Resting { until: Instant },
    Resolving,
    Asking,
    Up(Box<Tunnel>),
}

impl Client {
    /// A client that will call at once.
    pub fn new(shared: Arc<Shared>, now: Instant) -> Client {
        let cooldown = shared.config.limits.cooldown;
        Client {
            shared,
            state: State::Resting { until: now },
            said: None,
            outage: Reminder::default(),
            retry: Backoff::untried(FIRST_PAUSE, cooldown, cooldown),
            routes: Routes::default(),
            fallback: QuicFallback::default(),
            taken: Backoff::new(cooldown, MAX_PAUSE, SETTLED),
        }
    }

    /// When the clock has something to say.
    pub fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Resting { until } => Some(*until),
            State::Up(_) => self.fallback.deadline(),
            State::Resolving | State::Asking => None,
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
            State::Asking => {}
            State::Up(_) => {
                let retry = self.shared.config.limits.quic_retry;
                if let Some(route) = self.fallback.due(now, retry) {
                    out.job(0, Job::Open(route));
                }
            }
        }
    }

    /// Asks the server for its terms, once its address is known.
    fn call(&mut self, targets: &mut TargetRouter, now: Instant, out: &mut Out) {
        let shared = self.shared.clone();
        let config = &shared.config;
        let called = match targets.addresses(first_hop(config), now) {
            Ok(Some(addresses)) => self.routes.handshake(config, addresses).map(Some),
            Ok(None) => Ok(None),
            Err(why) => Err(why),
        };
        match called {
            Ok(Some((route, request))) => {
                self.state = State::Asking;
                out.job(0, Job::Handshake { route, request });
            }
            Ok(None) => self.state = State::Resolving,
            Err(why) => self.complain(why, targets, now),
        }
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
        match answer.and_then(|answer| self.tunnel_with(answer, number, workers, now)) {
            Ok(tunnel) => {
                let side = tunnel.side();
                self.retry.succeeded(now);
                self.taken.succeeded(now);
                self.state = State::Up(Box::new(tunnel));
                Some(side)
            }
            Err(why) => {
                self.complain(why, targets, now);
                None
            }
        }
    }

    fn tunnel_with(
        &mut self,
        answer: Answered,
        number: TunnelNo,
        workers: usize,
        now: Instant,
    ) -> Result<Tunnel, Error> {
        let Answered { terms, server, round } = answer;
        let (config, limits) = (&self.shared.config, &self.shared.config.limits);
        terms.require_tls(config.tls.code())?;
        let route = self.routes.pool(number, &terms, (server, round), config, &mut self.fallback)?;
        let max = terms.max.min(config.max);
        let refill = Refill::new(config.min, max, limits.min_pool_interval, limits.max_pool_interval, now);
        let opener = Opener::new(refill, route);
        Ok(Tunnel::new(number, *terms, server, Some(opener), config, workers, now))
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
            event => event,
        };
        tunnel.on(event, now, out);
        true
    }

    /// Pool connections are opened again.
    pub fn opened(&mut self, now: Instant) {
        self.said = None;
        if let Some((count @ 2.., time)) = self.outage.worked(now) {
            log::info!("The server is reached again, after {count} tries in {} s", time.as_secs());
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
        targets.doubt(first_hop(config), now);
        let what = match &why {
            Error::Name(_) | Error::Proxy(_) => String::new(),
            _ => format!("handshake with {} failed: ", config.tunnel),
        };
        // `Client error:` makes a dashboard's light red, until a check point comes.
        match self.outage.failed(&why.to_string(), now) {
            Some(Word::Fails(why)) => log::error!("Client error: {what}{why}; trying again every {cooldown:?}"),
            Some(Word::StillFails { since, count, why }) => {
                log::error!("Client error: {what}{why}; for {} minutes now, {count} tries", since.as_secs() / 60);
            }
            None => log::debug!("Handshake with {} failed again: {why}", config.tunnel),
        }
        self.state = State::Resting { until: now + self.retry.failed(now) };
    }
}

/// The pause before the first handshake after a tunnel that was lost; then twice that each time, up to `NP_SERVICE_COOLDOWN`.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause of a client whose tunnel another one keeps taking over.
const MAX_PAUSE: Duration = Duration::from_secs(300);
/// A tunnel that was not taken for so long is the client's own.
const SETTLED: Duration = Duration::from_secs(60);
