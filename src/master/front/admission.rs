//! Who may use the API, and who may not any more: addresses, and sources that showed wrong keys.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use crate::logic::bans::BanNotice;
use crate::logic::guard::{Failure, Guard, Refusals, Source, Told};
use crate::logic::networks::AccessList;

/// Asked for each connection, and told of each wrong key.
pub struct Admission {
    users: AccessList,
    refusals: Refusals,
    guard: Guard,
    tell: Tell,
}

/// What is told of each ban that begins or ends.
type Tell = Box<dyn Fn(BanNotice) + Send>;

/// Lets a source in again that the API has banned, or all.
pub type Lifter = Box<dyn Fn(Option<Source>) + Send>;

impl Admission {
    /// These addresses may come, but sources that `guard` bans; `tell` hears of those.
    pub fn new(users: AccessList, guard: Guard, tell: Tell) -> Admission {
        Admission { users, refusals: Refusals::default(), guard, tell }
    }

    /// Whether a connection from there may come in. `kept`: from there is one that has shown the right key.
    pub(super) fn admits(&mut self, from: SocketAddr, kept: bool, now: Instant) -> bool {
        if self.guard.is_banned(from.ip(), kept, now) {
            return false;
        }
        let admitted = self.users.admits(from.ip());
        if !admitted && self.refusals.is_news(from.ip(), now) {
            log::warn!("{from} refused at the API: its address may not come in (allow, deny)");
        }
        admitted
    }

    /// A wrong key was shown from there; whether the source is banned now. `kept` is as in [`Admission::admits`].
    pub(super) fn failed(&mut self, from: IpAddr, kept: bool, now: Instant) -> bool {
        let Some(told) = self.guard.failed(from, Failure::ApiKey, kept, now) else { return false };
        log::warn!(event = "api_key_refused", peer:% = from; "{told}");
        self.tell(&told);
        matches!(told, Told::Begun(..))
    }

    /// A source is let in again, or all are.
    pub(super) fn lift(&mut self, source: Option<Source>) {
        let lifted = self.guard.lift(source);
        lifted.iter().for_each(|told| self.ended(told));
    }

    /// Bans that have ended.
    pub(super) fn tick(&mut self, now: Instant) {
        while let Some(told) = self.guard.expired(now) {
            self.ended(&told);
        }
    }

    /// When the next ban ends.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.guard.deadline()
    }

    fn ended(&self, told: &Told) {
        log::info!("{told}");
        self.tell(told);
    }

    fn tell(&self, told: &Told) {
        BanNotice::of(told).into_iter().for_each(|notice| (self.tell)(notice));
    }
}
