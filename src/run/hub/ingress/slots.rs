//! How many users there are, and whether one more may come (`slot`, `udpslot`).
//!
//! ```text
//!  TCP connection --> user                                                          slot
//!  UDP session    --> new --second datagram, answer, and room--> known              udpslot, then slot
//! ```
//!
//! A datagram's source can be forged, so a new session is no user. Known ones take at most three quarters of the slots: the rest is left to
//! TCP, whose users have proven their addresses.

use std::collections::HashSet;

use crate::run::messages::Home;
use crate::run::user::Proto;

/// The users of one instance, at either side.
#[derive(Debug)]
pub struct Slots {
    limit: Option<usize>,
    /// The limit of new sessions.
    new_limit: Option<usize>,
    tcp: usize,
    new: usize,
    /// Of those, how many have to make room and have not ended yet.
    leaving: usize,
    /// Where the known sessions live.
    known: HashSet<Home>,
    /// The limit was reached, and that was said.
    full: bool,
}

impl Slots {
    /// At most `limit` users at once and `new_limit` new sessions, where there are limits.
    pub fn new(limit: Option<usize>, new_limit: Option<usize>) -> Slots {
        Slots { limit, new_limit, tcp: 0, new: 0, leaving: 0, known: HashSet::new(), full: false }
    }

    /// Takes a slot for one more user, if one is free.
    pub fn enter(&mut self, proto: Proto) -> bool {
        let (held, count, limit) = match proto {
            Proto::Tcp(_) => (self.tcp + self.known.len(), &mut self.tcp, self.limit),
            Proto::Udp(_) => (self.new.saturating_sub(self.leaving), &mut self.new, self.new_limit),
        };
        if limit.is_some_and(|limit| held >= limit) {
            return false;
        }
        *count += 1;
        self.full = false;
        true
    }

    /// The new session that lives at `home` is known, if there is room for it; it is counted as a user from then on.
    pub fn prove(&mut self, home: Home) -> bool {
        let known = self.known.len();
        let room = self.limit.is_none_or(|limit| known < limit - limit / 4 && self.tcp + known < limit);
        let proven = room && self.new > 0 && self.known.insert(home);
        self.new -= usize::from(proven);
        proven
    }

    /// The session that lived at `home` goes on at another: it is new again until it is known there.
    pub fn unprove(&mut self, home: Home) {
        self.new += usize::from(self.known.remove(&home));
    }

    /// A new session makes room: its slot is free, though it has not ended yet.
    pub fn evict(&mut self) {
        self.leaving += 1;
    }

    /// A slot is free again: that of a user who lived at `home`, if it came so far.
    pub fn leave(&mut self, proto: Proto, home: Option<Home>) {
        if home.is_some_and(|home| self.known.remove(&home)) {
            if self.known.len() < self.known.capacity() / 8 {
                self.known.shrink_to(SLACK);
            }
            return;
        }
        let count = match proto {
            Proto::Tcp(_) => &mut self.tcp,
            Proto::Udp(_) => {
                self.leaving = self.leaving.saturating_sub(1);
                &mut self.new
            }
        };
        debug_assert!(*count > 0, "a slot was given back twice");
        *count = count.saturating_sub(1);
    }

    /// Whether this is the first refusal since there was room: the one that is said aloud.
    pub fn is_news(&mut self) -> bool {
        !std::mem::replace(&mut self.full, true)
    }

    /// All users.
    pub fn live(&self) -> usize {
        self.tcp + self.known.len() + self.new
    }

    /// Live TCP connections and UDP sessions.
    pub fn counts(&self) -> (usize, usize) {
        (self.tcp, self.known.len() + self.new)
    }
}

/// Places that are kept after a crowd.
const SLACK: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::slab::Slab;
    use crate::run::user::SessionKey;

    const TCP: Proto = Proto::Tcp(None);
    const UDP: Proto = Proto::Udp(SessionKey {
        user: std::net::SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1),
        asked: None,
    });

    #[test]
    fn new_sessions_leave_tcp_its_slots_and_known_ones_a_quarter_of_them() {
        let (mut slots, mut slab) = (Slots::new(Some(8), Some(2)), Slab::new());
        let mut homes = Vec::new();
        for round in 0..20 {
            while slots.enter(UDP) {}
            assert_eq!(slots.new, 2);
            let home = Home { worker: 0, key: slab.insert(()) };
            assert_eq!(slots.prove(home), round < 6, "{round}");
            homes.extend((round < 6).then_some(home));
        }
        assert_eq!((slots.counts(), slots.live()), ((0, 8), 8));
        assert_eq!([(); 4].map(|()| slots.enter(TCP)), [true, true, false, false]);
        slots.leave(UDP, homes.pop());
        assert!(slots.enter(TCP));
        slots.leave(UDP, None);
        assert_eq!(slots.counts(), (3, 6));
        // One goes on elsewhere.
        let other = Home { worker: 1, key: slab.insert(()) };
        homes.pop().into_iter().for_each(|home| slots.unprove(home));
        assert_eq!((slots.counts(), slots.known.len()), ((3, 6), 4));
        assert!(slots.prove(other));
        slots.leave(UDP, Some(other));
        assert_eq!((slots.counts(), slots.new), ((3, 5), 1));
    }

    #[test]
    fn without_limits_all_come_in() {
        let mut slots = Slots::new(None, None);
        assert!((0..1000).all(|_| slots.enter(TCP) && slots.enter(UDP)));
        assert_eq!(slots.counts(), (1000, 1000));
    }
}
