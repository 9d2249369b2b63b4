//! What a relay is for, and what is said of it: at `debug` by an instance alone; under a master in an original's words and at its levels, which
//! dashboards show.

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::log::EACH;
use crate::logic::terms::TunnelNo;
use crate::net::leg::Leg;
use crate::run::shared::Shared;
use crate::run::user::Proto;

/// What a relay is for.
pub struct Join {
    /// The tunnel it belongs to; 0 in single-end mode.
    pub tunnel: TunnelNo,
    /// What the user speaks; `None` is the control connection.
    pub proto: Option<Proto>,
    /// The UDP target, at the side that dials it.
    pub target: Option<Box<UdpTarget>>,
    /// The two ends, for the log.
    pub ends: Box<Ends>,
}

/// The two ends of a relay as the log names them, which mostly asks for neither.
pub enum Ends {
    /// The hub's letterbox and the peer.
    Control,
    /// A user and what is told of the other end: a target, or where a pool connection leads.
    User(SocketAddr, Option<SocketAddr>),
}

impl fmt::Display for Ends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ends::Control => f.write_str("control connection"),
            Ends::User(user, Some(far)) => write!(f, "{user} <-> {far}"),
            Ends::User(user, None) => write!(f, "{user} <-> tunnel"),
        }
    }
}

/// A UDP target and how it behaves.
pub struct UdpTarget {
    /// Its number.
    pub number: usize,
    /// Whether there are other targets to go to if it refuses.
    pub others: bool,
    /// Whether its address may be another the next time: there are others, or it is a name.
    pub moves: bool,
    /// Since when the user has sent without an answer.
    pub unanswered: Option<Instant>,
    /// It has refused and said nothing since then.
    pub refused: bool,
}

impl UdpTarget {
    /// One that was not asked yet.
    pub fn new(number: usize, others: bool, moves: bool) -> UdpTarget {
        UdpTarget { number, others, moves, unanswered: None, refused: false }
    }

    /// Something was said to it, or by it.
    pub fn note(&mut self, asked: bool, heard: bool, now: Instant) {
        if heard {
            (self.unanswered, self.refused) = (None, false);
        } else if asked {
            self.unanswered = self.unanswered.or(Some(now));
        }
    }

    /// When an answer is due, `timeout` after it was asked; never where its address cannot be another.
    pub fn answer_due(&self, timeout: Option<Duration>) -> Option<Instant> {
        let since = self.unanswered.filter(|_| self.moves)?;
        timeout.map(|timeout| since + timeout)
    }
}

impl Join {
    /// A relay has begun.
    pub fn started(&self, shared: &Shared) {
        let ends = &self.ends;
        match (&self.proto, shared.held) {
            (Some(Proto::Tcp(_)), true) => log::info!(target: EACH, "Starting exchange: {ends}"),
            (Some(Proto::Udp(_)), true) => log::debug!("Starting transfer: {ends}"),
            _ => log::debug!("Exchange starts: {ends}"),
        }
    }

    /// A relay has ended; why, unless both directions have.
    pub fn ended(&self, shared: &Shared, why: Option<&str>) {
        let ends = &self.ends;
        match (&self.proto, shared.held, why) {
            (Some(Proto::Tcp(_)), true, why) => log::info!(target: EACH, "Exchange complete: {}", why.unwrap_or("EOF")),
            (Some(Proto::Udp(_)), true, _) => log::debug!("Transfer complete: {ends}"),
            (_, _, Some(why)) => log::debug!("Exchange ends: {ends}: {why}"),
            (_, _, None) => log::debug!("Exchange complete: {ends}"),
        }
    }
}

/// Where a pool connection leads: told under a master only, as it costs a question to the system.
pub(super) fn far_end(shared: &Shared, leg: &mut Leg) -> Option<SocketAddr> {
    match leg {
        Leg::Own(own) if shared.held => own.socket().and_then(|socket| socket.peer().ok()),
        _ => None,
    }
}
