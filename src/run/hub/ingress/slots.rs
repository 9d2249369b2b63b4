//! How many users there are, and whether one more may come (`slot`).

use crate::run::messages::Proto;

/// The users of one instance, at either side.
#[derive(Debug)]
pub struct Slots {
    limit: Option<usize>,
    tcp: usize,
    udp: usize,
    /// The limit was reached, and that was said.
    full: bool,
}

impl Slots {
    /// At most `limit` users at once, if there is a limit.
    pub fn new(limit: Option<usize>) -> Slots {
        Slots { limit, tcp: 0, udp: 0, full: false }
    }

    /// Takes a slot for one more user, if one is free.
    pub fn enter(&mut self, proto: Proto) -> bool {
        if self.limit.is_some_and(|limit| self.live() >= limit) {
            return false;
        }
        *self.count(proto) += 1;
        self.full = false;
        true
    }

    /// A slot is free again.
    pub fn leave(&mut self, proto: Proto) {
        let count = self.count(proto);
        debug_assert!(*count > 0, "a slot was given back twice");
        *count = count.saturating_sub(1);
    }

    /// Whether this is the first refusal since there was room: the one that is said aloud.
    pub fn is_news(&mut self) -> bool {
        !std::mem::replace(&mut self.full, true)
    }

    /// Users that count against `slot`.
    pub fn live(&self) -> usize {
        self.tcp + self.udp
    }

    /// Live TCP connections and UDP sessions.
    pub fn counts(&self) -> (usize, usize) {
        (self.tcp, self.udp)
    }

    fn count(&mut self, proto: Proto) -> &mut usize {
        match proto {
            Proto::Tcp(_) => &mut self.tcp,
            Proto::Udp(_) => &mut self.udp,
        }
    }
}
