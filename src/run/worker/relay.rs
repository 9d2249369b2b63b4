//! Two ends relay: a user and a pool connection, a pool connection and a target, or the hub and its peer.

use std::io;
use std::time::{Duration, Instant};

use mio::event::Event;

use super::context::{Context, LOCAL};
use super::task::Next;
use crate::logic::terms::TunnelNo;
use crate::logic::timers::Bucket;
use crate::net::leg::{Leg, Line};
use crate::net::mux::Muxes;
use crate::net::relay::{Half, Pumped};
use crate::net::tcp;
use crate::run::messages::{Home, Notice, Proto, TunnelEvent};
use crate::run::stats::add;

/// A relay and what it is for.
///
/// `near` is the user at the ingress, the target at the egress, the hub's line in a control connection: what it sends and
/// receives is what the figures count.
pub struct Relay {
    near: Leg,
    far: Leg,
    forth: Half,
    back: Half,
    join: Join,
    /// Closed after this long without a byte.
    timeout: Option<Duration>,
    active: Instant,
    /// Since when the user has sent without a word from the UDP target.
    unanswered: Option<Instant>,
    /// The UDP target has refused and said nothing since then.
    refused: bool,
    /// The program stops.
    draining: bool,
    /// When to say something over a connection that is to be kept from seeming dead.
    ping: Option<Instant>,
    /// When to see whether what was sent is acknowledged; never where nothing was sent since that was last seen.
    watch: Option<Instant>,
    /// The rate limit, or the lack of a buffer, says: not before, forth and back.
    held: [Option<Instant>; 2],
}

/// What a relay is for.
pub struct Join {
    /// The tunnel it belongs to; 0 in single-end mode.
    pub tunnel: TunnelNo,
    /// Whose it is; `None` is the control connection.
    pub proto: Option<Proto>,
    /// The UDP target's number, at the side that dials it.
    pub target: Option<usize>,
    /// Whether there are other targets to go to if it refuses.
    pub others: bool,
    /// Whether its address may be another the next time: there are others, or it is a name.
    pub moves: bool,
    /// Who talks with whom, for the log.
    pub about: String,
}

impl Relay {
    /// Joins two ends that are registered and established.
    pub fn new(near: Leg, far: Leg, join: Join, context: &Context, now: Instant) -> Relay {
        let config = &context.shared.config;
        let timeout = match join.proto {
            Some(Proto::Tcp) => config.read,
            Some(Proto::Udp(_)) => Some(config.limits.udp_read),
            None => None,
        };
        log::debug!("Exchange starts: {}", join.about);
        let (forth, back) = (Half::default(), Half::default());
        let ping = (join.proto.is_some() && far.pings()).then(|| now + config.limits.report);
        Relay {
            near,
            far,
            forth,
            back,
            join,
            timeout,
            active: now,
            unanswered: None,
            refused: false,
            draining: false,
            ping,
            watch: None,
            held: [None; 2],
        }
    }

    /// These bytes go to the near end before any that the far end sends.
    pub fn saying_near(mut self, bytes: Vec<u8>) -> Relay {
        self.back = Half::starting_with(bytes);
        self
    }

    /// These bytes go to the far end before any that the near end sends.
    pub fn saying_far(mut self, bytes: Vec<u8>) -> Relay {
        self.forth = Half::starting_with(bytes);
        self
    }

    /// Moves what can be moved, a bounded amount, both targets.
    pub fn advance(&mut self, home: Home, context: &mut Context, now: Instant) -> Next {
        let pumped = self.pump(context, now);
        if self.ping.is_some_and(|due| now >= due) {
            self.far.ping();
            self.ping = Some(now + context.shared.config.limits.report);
        }
        self.tell(context);
        match pumped {
            Ok(_) if self.is_over() => self.end(None, home, context),
            Ok(_) if self.has_failed(context) => self.end(Some("reset".into()), home, context),
            Ok(_) if self.is_refused(context) => self.end(Some("the target refuses".into()), home, context),
            Ok(_) if self.is_unheard(context, now) => self.end(Some("the target is silent".into()), home, context),
            Ok(_) if self.is_unanswered(now) => self.end(Some("no answer from the other side".into()), home, context),
            Ok(_) if self.is_idle(now) => self.end(Some("idle for too long".into()), home, context),
            Ok(true) => Next::Again,
            Ok(false) => Next::Wait,
            Err(error) => self.end(Some(error.to_string()), home, context),
        }
    }

    /// Both directions once; whether one of them has more to do.
    fn pump(&mut self, context: &mut Context, now: Instant) -> io::Result<bool> {
        let Context { shared, tcp, udp, muxes, .. } = context;
        let stores = if self.is_udp() { udp } else { tcp };
        let limited = self.join.proto.is_some();
        let (up, down) = (shared.up.as_ref().filter(|_| limited), shared.down.as_ref().filter(|_| limited));

        let [hold_forth, hold_back] = &mut self.held;
        // The near end is a socket of ours or the hub's line, never a stream of a shared connection.
        let Some(near) = self.near.own() else { return Ok(false) };
        let mut far = self.far.lend(muxes);
        let budget = grant(up, hold_forth, now);
        let forth = settle(self.forth.pump(near, far.stream(), budget, stores), up, budget, now);
        wait_for_memory(hold_forth, up, stores.refused(), now);
        let budget = grant(down, hold_back, now);
        let back = settle(self.back.pump(far.stream(), near, budget, stores), down, budget, now);
        wait_for_memory(hold_back, down, stores.refused(), now);
        let (forth, back) = (forth?, back?);
        if forth.moved + back.moved > 0 {
            self.active = now;
        }
        if self.join.target.is_some() {
            let (asked, heard) = if is_target(&self.near) { (back, forth) } else { (forth, back) };
            if heard.moved > 0 {
                (self.unanswered, self.refused) = (None, false);
            } else if asked.moved > 0 {
                self.unanswered = self.unanswered.or(Some(now));
            }
        }
        if self.join.proto == Some(Proto::Tcp) {
            if self.active == now && self.watch.is_none() {
                self.watch = tcp::keepalive_timeout().map(|timeout| now + timeout / WATCHES);
            }
            add(&shared.meters.tcp_rx, forth.moved as u64);
            add(&shared.meters.tcp_tx, back.moved as u64);
        }
        Ok(forth.again || back.again)
    }

    /// Passes on what is nobody's but the hub's or the meters'.
    fn tell(&mut self, context: &mut Context) {
        match &mut self.near {
            Leg::Line(line) => match line.heard() {
                heard if heard.is_empty() => {}
                heard => context.hub.send(Notice::Tunnel { number: self.join.tunnel, event: TunnelEvent::Said(heard) }),
            },
            Leg::Udp(session) => {
                let tally = session.tally();
                add(&context.shared.meters.udp_rx, tally.received);
                add(&context.shared.meters.udp_tx, tally.sent);
                if tally.dropped > 0 {
                    log::debug!("{} datagrams dropped: {}", tally.dropped, self.join.about);
                }
            }
            _ => {}
        }
    }

    /// Remembers an edge.
    pub fn note(&mut self, side: usize, event: &Event) {
        match side {
            LOCAL => self.near.note(event),
            _ => self.far.note(event),
        }
    }

    /// A datagram for the user's session.
    pub fn deliver(&mut self, packet: Vec<u8>) {
        if let Leg::Udp(session) = &mut self.near {
            session.deliver(packet);
        }
    }

    /// Signals for the peer. `false` if it does not read them.
    pub fn say(&mut self, bytes: &[u8]) -> bool {
        match &mut self.near {
            Leg::Line(line) => line.say(bytes),
            _ => true,
        }
    }

    /// Whose slot it holds; the control connection holds none.
    pub fn proto(&self) -> Option<Proto> {
        self.join.proto
    }

    /// Ends a control connection properly; TLS has a word for it. A user's relay that is cut must look cut, not complete.
    pub fn farewell(&mut self, muxes: &mut Muxes) {
        if self.join.proto.is_none() {
            // Best effort: a peer that takes nothing now learns it from the closed socket.
            let _ = self.far.lend(muxes).stream().finish();
        }
    }

    /// When to look again.
    pub fn deadline(&self) -> Option<Instant> {
        let idle = self.timeout.map(|timeout| self.active + timeout);
        idle.into_iter()
            .chain(self.answer_due())
            .chain(self.ping)
            .chain(self.watch)
            .chain(self.held.into_iter().flatten())
            .min()
    }

    fn is_udp(&self) -> bool {
        matches!(self.join.proto, Some(Proto::Udp(_)))
    }

    /// A TCP relay is over when both directions are, any other when one of them has ended: nothing waits there but,
    /// perhaps, part of a frame that will never be whole.
    fn is_over(&self) -> bool {
        match self.join.proto {
            Some(Proto::Tcp) => self.forth.is_closed() && self.back.is_closed(),
            _ => self.forth.has_ended() || self.back.has_ended(),
        }
    }

    fn has_failed(&mut self, context: &mut Context) -> bool {
        self.near.failed(&mut context.muxes) || self.far.failed(&mut context.muxes)
    }

    /// Whether a UDP target has refused, and this is the end: the user's next datagram finds another, or the program stops. Otherwise the
    /// session goes on, as the target may come back.
    fn is_refused(&mut self, context: &Context) -> bool {
        let Some(target) = self.join.target else { return false };
        let refused = [&mut self.near, &mut self.far].into_iter().any(|leg| match leg {
            Leg::Udp(session) => session.refused(),
            _ => false,
        });
        if refused && !std::mem::replace(&mut self.refused, true) {
            context.hub.send(Notice::Missed(target));
            let level = if self.join.others { log::Level::Debug } else { log::Level::Warn };
            log::log!(level, "The target refuses datagrams: {}", self.join.about);
        }
        self.refused && (self.join.others || self.draining)
    }

    /// Whether a UDP target whose address may have changed has been silent for too long while the user kept sending: his next datagram
    /// resolves anew.
    fn is_unheard(&mut self, context: &Context, now: Instant) -> bool {
        let (Some(target), Some(due)) = (self.join.target, self.answer_due()) else { return false };
        if now >= due {
            context.hub.send(Notice::Missed(target));
        }
        now >= due
    }

    fn answer_due(&self) -> Option<Instant> {
        let since = self.unanswered.filter(|_| self.join.moves)?;
        self.timeout.map(|timeout| since + timeout)
    }

    /// The program stops. Whether this is at its end: what it waits for has refused.
    pub fn drain(&mut self) -> bool {
        self.draining = true;
        self.refused
    }

    /// Whether one end has not acknowledged for too long what was sent to it. The kernel itself gives up after a quarter of an hour, and its
    /// own limit (`TCP_USER_TIMEOUT`) would end those too who live and do not read for a while.
    fn is_unanswered(&mut self, now: Instant) -> bool {
        let Some(timeout) = tcp::keepalive_timeout().filter(|_| self.watch.is_some_and(|due| now >= due)) else {
            return false;
        };
        let since = [&mut self.near, &mut self.far].into_iter().filter_map(Leg::unacknowledged).max();
        let moved = self.active + timeout / WATCHES >= now;
        self.watch = (since.is_some() || moved).then(|| now + timeout / WATCHES);
        since.is_some_and(|since| since >= timeout)
    }

    fn is_idle(&self, now: Instant) -> bool {
        self.timeout.is_some_and(|timeout| now >= self.active + timeout)
    }

    fn end(&mut self, why: Option<String>, home: Home, context: &mut Context) -> Next {
        let tunnel = self.join.tunnel;
        match self.join.proto {
            Some(proto) => context.hub.send(Notice::Done { home, tunnel, proto }),
            None => {
                let why = why.clone().unwrap_or_else(|| "the peer closed the control connection".into());
                context.hub.send(Notice::Tunnel { number: tunnel, event: TunnelEvent::Closed(why) });
            }
        }
        if let Some(why) = why {
            log::debug!("Exchange ends: {}: {why}", self.join.about);
            self.near.abort();
            self.far.abort();
        } else {
            log::debug!("Exchange complete: {}", self.join.about);
        }
        Next::End
    }
}

fn is_target(leg: &Leg) -> bool {
    matches!(leg, Leg::Udp(session) if session.is_target())
}

/// The control connection: what the hub says goes to the peer, what the peer says to the hub.
pub fn control(far: Leg, tunnel: TunnelNo, context: &Context, now: Instant) -> Relay {
    let join =
        Join { tunnel, proto: None, target: None, others: false, moves: false, about: "control connection".into() };
    Relay::new(Leg::Line(Line::new(context.shared.config.limits.semaphore)), far, join, context, now)
}

/// How much one direction may take in now. One that was told to wait does not ask before its time: so all take turns.
fn grant(bucket: Option<&Bucket>, held: &mut Option<Instant>, now: Instant) -> usize {
    let Some(bucket) = bucket else { return BUDGET };
    if held.is_some_and(|held| now < held) {
        return 0;
    }
    match bucket.grant(now) {
        Ok(granted) => {
            *held = None;
            granted.min(BUDGET)
        }
        Err(later) => {
            *held = Some(later);
            0
        }
    }
}

fn settle(pumped: io::Result<Pumped>, bucket: Option<&Bucket>, budget: usize, now: Instant) -> io::Result<Pumped> {
    let mut pumped = pumped?;
    if let Some(bucket) = bucket {
        bucket.spend(pumped.moved, now);
    }
    pumped.again &= budget > 0;
    Ok(pumped)
}

/// A direction that found no buffer to be had asks again after a while: whoever gives one back does not know who waits.
fn wait_for_memory(held: &mut Option<Instant>, bucket: Option<&Bucket>, refused: bool, now: Instant) {
    if refused {
        *held = Some(now + PAUSE);
    } else if bucket.is_none() {
        *held = None;
    }
}

/// How long a direction waits for a buffer.
const PAUSE: Duration = Duration::from_millis(50);
/// How often, in the time after which a side is given up, it is seen whether it answers.
const WATCHES: u32 = 6;
/// Most bytes that one direction takes in before others have their turn.
const BUDGET: usize = 512 * 1024;
