//! Pool connections that users have got lately, and those that died without one: what it means when the peer, or a worker, finds one dead.
//!
//! ```text
//!  opened --> idle --given--> lately --left, or time--> forgotten
//!               \--died--> dead: a launch for it is answered at once
//! ```
//!
//! A NAT that forgets a connection which was silent for long has forgotten all that were silent for as long: see
//! [`as_silent`](Launched::as_silent).

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use super::expiring::Expiring;
use super::wire::Id;

/// What is known of a tunnel's pool connections, which live at homes `H`, beyond where the idle ones are.
pub struct Launched<H> {
    /// Since when each idle one waits.
    idle: HashMap<Id, Instant>,
    /// Where the users of lately are, and since when their connections had waited.
    lately: Expiring<Id, (H, Instant)>,
    dead: HashSet<Id>,
    /// The dead, oldest first.
    order: VecDeque<Id>,
    max_dead: usize,
}

impl<H: Copy> Launched<H> {
    /// Of a pool of at most so many idle connections.
    pub fn new(max_idle: usize) -> Launched<H> {
        Launched {
            idle: HashMap::new(),
            lately: Expiring::default(),
            dead: HashSet::new(),
            order: VecDeque::new(),
            max_dead: max_idle,
        }
    }

    /// A connection waits for a user.
    pub fn opened(&mut self, id: Id, now: Instant) {
        self.idle.insert(id, now);
    }

    /// A user has it, at that home.
    pub fn given(&mut self, id: Id, home: H, now: Instant) {
        while self.lately.expired(now).is_some() {}
        let since = self.idle.remove(&id).unwrap_or(now);
        self.lately.insert(id, (home, since), now + LATELY);
    }

    /// Its user has left and it lives: what became of it is known.
    pub fn left(&mut self, id: Id) {
        self.lately.remove(&id);
    }

    /// Where the user is who has got it lately.
    pub fn home(&self, id: Id) -> Option<H> {
        self.lately.get(&id).map(|(home, _)| *home)
    }

    /// It is dead.
    pub fn died(&mut self, id: Id) {
        self.idle.remove(&id);
        if self.dead.insert(id) {
            self.order.push_back(id);
        }
        while self.order.len() > self.max_dead {
            let oldest = self.order.pop_front();
            oldest.into_iter().for_each(|old| _ = self.dead.remove(&old));
        }
    }

    /// Whether it has died.
    pub fn is_dead(&self, id: Id) -> bool {
        self.dead.contains(&id)
    }

    /// A user's connection was dead before a byte came of it: the idle ones that have waited for as long are as likely dead, if that was long.
    pub fn as_silent(&mut self, id: Id, now: Instant) -> Vec<Id> {
        let Some((_, since)) = self.lately.remove(&id) else { return Vec::new() };
        if now < since + SILENT {
            return Vec::new();
        }
        self.idle.extract_if(|_, opened| *opened < since + MARGIN).map(|(id, _)| id).collect()
    }

    /// Forgets those that do not wait any more, and gives memory back that a crowd took.
    pub fn keep(&mut self, waits: impl Fn(Id) -> bool, now: Instant) {
        while self.lately.expired(now).is_some() {}
        self.idle.retain(|id, _| waits(*id));
        self.idle.shrink_to(2 * self.idle.len());
        self.lately.shrink_to(2 * self.lately.len());
    }
}

/// The fate of a user's connection is told within this time after it was given. The side where users come in counts a third of it.
const LATELY: Duration = Duration::from_secs(30);
/// No NAT forgets within less.
const SILENT: Duration = Duration::from_secs(2);
/// Those that were opened together are as old as each other.
const MARGIN: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;
    use crate::testing::epoch;

    fn id(n: u32) -> Id {
        Id(n.to_be_bytes())
    }

    /// So long after the start.
    fn at(millis: u64) -> Instant {
        static START: LazyLock<Instant> = LazyLock::new(epoch);
        *START + Duration::from_millis(millis)
    }

    #[test]
    fn a_user_of_lately_is_found_and_one_of_long_ago_is_not() {
        let mut launched = Launched::new(8);
        launched.given(id(1), "first", at(0));
        launched.given(id(2), "second", at(20_000));
        assert_eq!((launched.home(id(1)), launched.home(id(2))), (Some("first"), Some("second")));
        launched.keep(|_| true, at(30_000));
        assert_eq!((launched.home(id(1)), launched.home(id(2))), (None, Some("second")));
        launched.left(id(2));
        assert_eq!(launched.home(id(2)), None);
    }

    #[test]
    fn those_that_waited_as_long_as_a_dead_one_are_dead_too_and_newer_ones_are_not() {
        let mut launched = Launched::new(8);
        for (n, opened) in [(1, 0), (2, 100), (3, 9000)] {
            launched.opened(id(n), at(opened));
        }
        launched.given(id(1), (), at(10_000));
        assert_eq!(launched.as_silent(id(1), at(10_300)), [id(2)]);
        assert_eq!(launched.as_silent(id(1), at(10_300)), [], "once");
        launched.given(id(3), (), at(10_400));
        assert_eq!(launched.as_silent(id(3), at(10_600)), [], "no NAT forgets so soon");
    }

    #[test]
    fn as_many_dead_ones_are_remembered_as_the_pool_is_large() {
        let mut launched: Launched<()> = Launched::new(65_535);
        (0..100_000).for_each(|n| launched.died(id(n)));
        launched.died(id(99_999));
        assert!(!launched.is_dead(id(100_000 - 65_536)) && launched.is_dead(id(100_000 - 65_535)));
        assert_eq!((launched.dead.len(), launched.order.len()), (65_535, 65_535));
    }
}
