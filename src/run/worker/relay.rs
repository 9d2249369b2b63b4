//! Two ends relay: a user and a pool connection, a pool connection and a target, or the hub and its peer.

mod doubts;

use std::io;
use std::time::{Duration, Instant};

use mio::event::Event;

use super::allowance::{account, grant, wait_for_memory};
use super::context::{Context, Side};
use super::exchange::{Ends, Join};
use super::idle::Idle;
use super::next::Schedule;
use super::unheard::{Keeping, Unheard, KEPT_AT_ONCE};
use crate::logic::metrics::Figure;
use crate::logic::serial::Renewed;
use crate::logic::terms::TunnelNo;
use crate::logic::wire::Id;
use crate::net::leg::{Leg, Line, Own};
use crate::net::relay::Half;
use crate::net::udp::Frames;
use crate::run::messages::{Home, Notice, TunnelEvent};
use crate::run::user::Proto;

/// A relay and what it is for.
///
/// The local end is the user at the ingress, the target at the egress, the hub's line in a control connection: what it sends (rx)
/// and receives (tx) is what the figures count. It is never a stream of a shared connection, which the remote end may be.
pub struct Relay {
    local: Own,
    remote: Leg,
    /// From the local end to the remote one.
    rx: Half,
    /// From the remote end to the local one.
    tx: Half,
    join: Join,
    /// The pool connection that the remote end is, and whether its users come in here.
    pool: Option<(Id, bool)>,
    /// Until a byte of the other side has come over the pool connection.
    unheard: Option<Box<Unheard>>,
    /// Closed after this long without a byte.
    timeout: Option<Duration>,
    active: Instant,
    /// A UDP session is new, and its user has been heard so often.
    new: Option<u8>,
    /// When to send a ping over a connection that is to be kept from seeming dead.
    ping: Option<Instant>,
    /// When to see whether what was sent is acknowledged; never where nothing was sent since that was last seen.
    watch: Option<Instant>,
    /// The rate limit, or the lack of a buffer, says: not before.
    rx_held: Option<Instant>,
    tx_held: Option<Instant>,
}

impl Relay {
    /// Joins two ends that are registered and established.
    pub fn new(local: Own, remote: Leg, join: Join, context: &Context, now: Instant) -> Relay {
        let config = &context.shared.config;
        let timeout = match join.proto {
            Some(Proto::Tcp(_)) => config.read,
            // Its source may be forged: it has a short life until it is known.
            Some(Proto::Udp(_)) => Some(config.limits.udp_read.min(NEW_LIFE)),
            None => None,
        };
        join.started(&context.shared);
        let new = matches!(join.proto, Some(Proto::Udp(_))).then_some(0);
        let (rx, tx) = (Half::default(), Half::default());
        let ping = (join.proto.is_some() && remote.pings()).then(|| now + config.limits.report);
        Relay {
            local,
            remote,
            rx,
            tx,
            join,
            pool: None,
            unheard: None,
            timeout,
            active: now,
            new,
            ping,
            watch: None,
            rx_held: None,
            tx_held: None,
        }
    }

    /// The control connection: what the hub says goes to the peer, what the peer says to the hub.
    pub fn control(peer: Leg, tunnel: TunnelNo, context: &Context, now: Instant) -> Relay {
        let line = Line::new(context.shared.config.limits.semaphore);
        let join = Join { tunnel, proto: None, target: None, ends: Box::new(Ends::Control) };
        Relay::new(line.into(), peer, join, context, now)
    }

    /// These bytes go to the local end before any that the remote end sends.
    pub fn sending_local(mut self, bytes: Vec<u8>) -> Relay {
        self.tx = Half::starting_with(bytes);
        self
    }

    /// These bytes go to the remote end before any that the local end sends.
    pub fn sending_remote(mut self, bytes: Vec<u8>) -> Relay {
        self.rx = Half::starting_with(bytes);
        self
    }

    /// Its remote end is that pool connection: another user may follow one of TCP.
    /// `ingress`: its users come in here.
    pub fn of_pool(mut self, id: Option<Id>, ingress: bool) -> Relay {
        if let (true, Some(connection)) = (self.is_udp(), self.remote.successive()) {
            connection.keep_to_one();
        }
        Relay { pool: id.map(|id| (id, ingress)), ..self }
    }

    /// Its pool connection has not been heard yet, and may be dead. Where many share one, that is known of it anyhow.
    pub fn unheard(self, unheard: Option<Unheard>) -> Relay {
        let own = self.has_own_connection();
        Relay { unheard: unheard.filter(|_| own).map(Box::new), ..self }
    }

    /// Moves what can be moved, a bounded amount, both ways.
    pub fn advance(&mut self, home: Home, context: &mut Context, now: Instant) -> Schedule {
        let pumped = self.pump(context, now);
        if self.ping.is_some_and(|due| now >= due) {
            self.remote.ping();
            self.ping = Some(now + context.shared.config.limits.report);
        }
        self.report(context);
        self.prove(home, context);
        let full = self.is_full();
        self.look(context, now);
        let readable = full && !self.is_full();
        let broken = pumped.is_err();
        match pumped {
            Ok(_) if self.is_over() => self.over(home, context),
            _ if self.is_lost(broken, context) => Schedule::Doubt,
            Ok(_) if self.has_failed(context) => self.end(Some("reset".into()), home, context),
            Ok(_) if self.is_refused(context) => self.end(Some("the target refuses".into()), home, context),
            Ok(_) if self.is_unheard(context, now) => self.end(Some("the target is silent".into()), home, context),
            Ok(_) if self.is_unanswered(context, now) => {
                self.end(Some("no answer from the other side".into()), home, context)
            }
            Ok(_) if self.is_idle(now) => self.end(Some("idle for too long".into()), home, context),
            Ok(again) if again || readable => Schedule::Again,
            Ok(_) => Schedule::Wait,
            Err(error) => self.end(Some(error.to_string()), home, context),
        }
    }

    /// Both directions once; whether one of them has more to do.
    fn pump(&mut self, context: &mut Context, now: Instant) -> io::Result<bool> {
        let full = self.is_full();
        if let (Some((_, false)), Some(connection)) = (self.pool, self.remote.successive()) {
            connection.passed_on(self.tx.waiting());
        }
        let Context { shared, tcp, udp, muxes, .. } = context;
        let stores = if self.is_udp() { udp } else { tcp };
        let limited = self.join.proto.is_some();
        let (up, down) = (shared.up.as_ref().filter(|_| limited), shared.down.as_ref().filter(|_| limited));

        let mut remote = self.remote.lend(muxes);
        let (local, remote) = (self.local.stream(), remote.stream());
        let budget = grant(up, &mut self.rx_held, now);
        let kept = self.unheard.as_mut().and_then(|unheard| unheard.said());
        let pumped = match kept {
            Some((said, most)) => {
                let budget = budget.min(KEPT_AT_ONCE);
                self.rx.pump(&mut Keeping { user: local, said, most, full }, remote, budget, stores)
            }
            None => self.rx.pump(local, remote, budget, stores),
        };
        let rx = account(pumped, up, budget, now);
        wait_for_memory(&mut self.rx_held, up, stores.refused(), now);
        let budget = grant(down, &mut self.tx_held, now);
        let tx = account(self.tx.pump(remote, local, budget, stores), down, budget, now);
        wait_for_memory(&mut self.tx_held, down, stores.refused(), now);
        let (rx, tx) = (rx?, tx?);
        match &mut self.unheard {
            Some(_) if tx.moved > 0 || self.tx.has_ended() => self.unheard = None,
            Some(unheard) => unheard.sent(rx.moved, now),
            None => {}
        }
        if rx.moved + tx.moved > 0 {
            self.active = now;
        }
        let (asked, heard) = if is_target(&self.local) { (tx, rx) } else { (rx, tx) };
        if let Some(times) = &mut self.new {
            *times += u8::from(asked.moved > 0) + if heard.moved > 0 { SECOND } else { 0 };
        }
        if let Some(target) = &mut self.join.target {
            target.note(asked.moved > 0, heard.moved > 0, now);
        }
        if matches!(self.join.proto, Some(Proto::Tcp(_))) {
            if self.active == now && self.watch.is_none() {
                self.watch = shared.keepalive.timeout().map(|timeout| now + timeout / WATCHES);
            }
            shared.stats.add(Figure::TcpReceived, rx.moved as u64);
            shared.stats.add(Figure::TcpSent, tx.moved as u64);
        }
        // What was not read makes no other edge.
        Ok(rx.again || tx.again || full && !self.is_full())
    }

    /// Passes on what came for the hub, and the figures.
    fn report(&mut self, context: &mut Context) {
        match &mut self.local {
            Own::Line(line) => match line.received() {
                bytes if bytes.is_empty() => {}
                bytes => context.hub.send(Notice::Tunnel { number: self.join.tunnel, event: TunnelEvent::Said(bytes) }),
            },
            Own::Udp(session) => {
                let tally = session.tally();
                context.shared.stats.add(Figure::UdpReceived, tally.received);
                context.shared.stats.add(Figure::UdpSent, tally.sent);
                context.shared.stats.add(Figure::DroppedSession, tally.dropped);
                if tally.dropped > 0 {
                    log::debug!("{} datagrams dropped: {}", tally.dropped, self.join.ends);
                }
            }
            Own::Tcp(_) | Own::Tls(_) | Own::Serial(_) | Own::Ws(_) => {}
        }
    }

    /// A new session that has been heard twice, or answered, is known.
    fn prove(&mut self, home: Home, context: &Context) {
        if let (Some(SECOND..), Some(Proto::Udp(session))) = (self.new, self.join.proto) {
            (self.new, self.timeout) = (None, Some(context.shared.config.limits.udp_read));
            context.hub.send(Notice::Proven { home, session });
        }
    }

    /// Its pool connection, which another user may get: the ingress waits until the egress is through with this one.
    pub fn into_idle(mut self, home: Home, context: &Context, now: Instant) -> Option<Idle> {
        let (tunnel, (id, ingress)) = (self.join.tunnel, self.pool?);
        let until = ingress.then(|| now + context.shared.config.limits.pool_get);
        if !ingress {
            let Renewed { behind } = self.remote.successive()?.renew().ok()?;
            let event = TunnelEvent::Free { home, id, behind };
            context.hub.send(Notice::Tunnel { number: tunnel, event });
        }
        Some(Idle::after_user(self.remote, tunnel, id, until))
    }

    /// Remembers an edge.
    pub fn note(&mut self, side: Side, event: &Event) {
        match side {
            Side::Local => self.local.note(event),
            Side::Remote => self.remote.note(event),
        }
    }

    /// Datagrams of the user's session.
    pub fn deliver(&mut self, frames: Frames) {
        if let Own::Udp(session) = &mut self.local {
            session.deliver(frames);
        }
    }

    /// Signals for the peer, on the control connection. `false` if it does not read them.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        match &mut self.local {
            Own::Line(line) => line.send(bytes),
            _ => true,
        }
    }

    /// What the user speaks; the control connection has none.
    pub fn proto(&self) -> Option<Proto> {
        self.join.proto
    }

    /// Whether its pool connection is not a stream of a shared one.
    pub fn has_own_connection(&self) -> bool {
        matches!(self.remote, Leg::Own(_))
    }

    /// The tunnel it belongs to; 0 in single-end mode.
    pub fn tunnel(&self) -> TunnelNo {
        self.join.tunnel
    }

    /// The program ends. A control connection does so properly; TLS has a word for it. A user's relay that is cut must look cut, not
    /// complete.
    pub fn stop(&mut self, context: &mut Context) {
        match self.join.proto {
            // Best effort: a peer that takes nothing now learns it from the closed socket.
            None => drop(self.remote.lend(&mut context.muxes).stream().finish()),
            Some(_) => {
                self.join.ended(&context.shared, Some("the instance stops"));
                self.abort();
            }
        }
    }

    /// Its remote end. What is on its way to the local one is lost.
    pub fn into_remote(self) -> Leg {
        self.remote
    }

    /// When it goes on even without an edge.
    pub fn deadline(&self) -> Option<Instant> {
        let idle = self.timeout.map(|timeout| self.active + timeout);
        let unheard = self.unheard.as_ref().and_then(|unheard| unheard.deadline());
        let rest = [self.answer_due(), self.ping, self.watch, self.rx_held, self.tx_held, unheard];
        idle.into_iter().chain(rest.into_iter().flatten()).min()
    }

    fn is_udp(&self) -> bool {
        matches!(self.join.proto, Some(Proto::Udp(_)))
    }

    /// A TCP relay is over when both directions are, any other when one of them has ended: nothing waits there but,
    /// perhaps, part of a frame that will never be whole.
    fn is_over(&self) -> bool {
        match self.join.proto {
            Some(Proto::Tcp(_)) => self.rx.is_closed() && self.tx.is_closed(),
            _ => self.rx.has_ended() || self.tx.has_ended(),
        }
    }

    fn has_failed(&mut self, context: &mut Context) -> bool {
        self.local.failed() || self.remote.failed(&mut context.muxes)
    }

    /// Whether a UDP target has refused, and this is the end: the user's next datagram finds another. Otherwise the session goes on, as
    /// the target may come back.
    fn is_refused(&mut self, context: &Context) -> bool {
        let Some(target) = &mut self.join.target else { return false };
        let refuses = |own: &mut Own| match own {
            Own::Udp(session) => session.refused(),
            _ => false,
        };
        let refused = match &mut self.remote {
            Leg::Own(remote) => refuses(remote) | refuses(&mut self.local),
            Leg::Mux(_) => refuses(&mut self.local),
        };
        if refused && !std::mem::replace(&mut target.refused, true) {
            context.hub.send(Notice::Missed(target.number));
            let level = if target.others { log::Level::Debug } else { log::Level::Warn };
            log::log!(level, "The target refuses datagrams: {}", self.join.ends);
        }
        target.refused && target.others
    }

    /// Whether a UDP target whose address may have changed has been silent for too long while the user kept sending: the next datagram
    /// resolves anew.
    fn is_unheard(&mut self, context: &Context, now: Instant) -> bool {
        let (Some(target), Some(due)) = (&self.join.target, self.answer_due()) else { return false };
        if now >= due {
            context.hub.send(Notice::Missed(target.number));
        }
        now >= due
    }

    fn answer_due(&self) -> Option<Instant> {
        self.join.target.as_ref()?.answer_due(self.timeout)
    }

    /// Whether one end has not acknowledged for too long what was sent to it. The kernel itself gives up after a quarter of an hour, and its
    /// own limit (`TCP_USER_TIMEOUT`) would also end peers that live and do not read for a while.
    fn is_unanswered(&mut self, context: &Context, now: Instant) -> bool {
        let Some(timeout) = context.shared.keepalive.timeout().filter(|_| self.watch.is_some_and(|due| now >= due))
        else {
            return false;
        };
        let since = self.local.unacknowledged().max(self.remote.unacknowledged());
        let moved = self.active + timeout / WATCHES >= now;
        self.watch = (since.is_some() || moved).then(|| now + timeout / WATCHES);
        since.is_some_and(|since| since >= timeout)
    }

    fn is_idle(&self, now: Instant) -> bool {
        self.timeout.is_some_and(|timeout| now >= self.active + timeout)
    }

    /// Both directions have ended.
    fn over(&mut self, home: Home, context: &mut Context) -> Schedule {
        let ended = self.end(None, home, context);
        match self.remote.successive().is_some_and(|connection| connection.is_over()) {
            true => Schedule::Spent,
            false => ended,
        }
    }

    fn end(&mut self, why: Option<String>, home: Home, context: &mut Context) -> Schedule {
        let tunnel = self.join.tunnel;
        match self.join.proto {
            Some(proto) => context.hub.send(Notice::Done { home, tunnel, proto }),
            None => {
                let why = why.clone().unwrap_or_else(|| "the peer closed the control connection".into());
                context.hub.send(Notice::Tunnel { number: tunnel, event: TunnelEvent::Closed(why) });
            }
        }
        self.join.ended(&context.shared, why.as_deref());
        if why.is_some() {
            self.abort();
        }
        Schedule::End
    }

    /// Both ends learn at once that it is over, where that loses nothing.
    fn abort(&mut self) {
        self.local.abort();
        self.remote.abort();
    }
}

fn is_target(own: &Own) -> bool {
    matches!(own, Own::Udp(session) if session.is_target())
}

/// How often, in the time after which a side is given up, it is seen whether it answers.
const WATCHES: u32 = 6;
/// How long a new UDP session lives without a second datagram of its user, and without an answer.
const NEW_LIFE: Duration = Duration::from_secs(3);
/// Datagrams of a user that make a session known.
const SECOND: u8 = 2;
