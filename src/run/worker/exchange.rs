//! What a relay is for, and what is said of it: at `debug` by an instance alone; under a master in an original's words and at its levels, which
//! dashboards show.

use crate::log::EACH;
use crate::logic::terms::TunnelNo;
use crate::net::leg::Leg;
use crate::run::messages::Proto;
use crate::run::shared::Shared;

/// What a relay is for.
pub struct Join {
    /// The tunnel it belongs to; 0 in single-end mode.
    pub tunnel: TunnelNo,
    /// What the user speaks; `None` is the control connection.
    pub proto: Option<Proto>,
    /// The UDP target's number, at the side that dials it.
    pub target: Option<usize>,
    /// Whether there are other targets to go to if it refuses.
    pub others: bool,
    /// Whether its address may be another the next time: there are others, or it is a name.
    pub moves: bool,
    /// The two ends, for the log.
    pub about: String,
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
