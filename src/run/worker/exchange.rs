//! What a relay is for, and what is said of it: at `debug` by an instance alone; under a master in an original's words and at its levels, which
//! dashboards show.

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
    pub about: Box<str>,
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
        let about = &self.about;
        match (&self.proto, shared.held) {
            (Some(Proto::Tcp(_)), true) => log::info!(target: EACH, "Starting exchange: {about}"),
            (Some(Proto::Udp(_)), true) => log::debug!("Starting transfer: {about}"),
            _ => log::debug!("Exchange starts: {about}"),
        }
    }

    /// A relay has ended; why, unless both directions have.
    pub fn ended(&self, shared: &Shared, why: Option<&str>) {
        let about = &self.about;
        match (&self.proto, shared.held, why) {
            (Some(Proto::Tcp(_)), true, why) => log::info!(target: EACH, "Exchange complete: {}", why.unwrap_or("EOF")),
            (Some(Proto::Udp(_)), true, _) => log::debug!("Transfer complete: {about}"),
            (_, _, Some(why)) => log::debug!("Exchange ends: {about}: {why}"),
            (_, _, None) => log::debug!("Exchange complete: {about}"),
        }
    }
}

/// The far end of a pool connection: under a master its address, which costs a question to the system.
pub(super) fn far_end(shared: &Shared, leg: &mut Leg) -> String {
    let address = match leg {
        Leg::Own(own) if shared.held => own.socket().and_then(|socket| socket.peer().ok()),
        _ => None,
    };
    address.map_or_else(|| "tunnel".into(), |address| address.to_string())
}
