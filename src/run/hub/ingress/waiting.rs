//! Users who wait for a pool connection. They outlive tunnels: whichever has a connection first serves them.
//!
//! TCP users go first: new UDP sessions may come from forged sources, as many as an attacker likes.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Users in the order in which they came, each with the time until which it waits.
#[derive(Debug)]
pub struct Waiting<U> {
    users: VecDeque<(Instant, U)>,
    /// Those that go after all others.
    last: VecDeque<(Instant, U)>,
    timeout: Duration,
}

impl<U> Waiting<U> {
    /// No user waits. `timeout` is how long a user does (`NP_POOL_GET_TIMEOUT`).
    pub fn new(timeout: Duration) -> Waiting<U> {
        Waiting { users: VecDeque::new(), last: VecDeque::new(), timeout }
    }

    /// A user wants a connection.
    pub fn push(&mut self, user: U, now: Instant) {
        self.users.push_back((now + self.timeout, user));
    }

    /// A user wants a connection when no other does.
    pub fn push_last(&mut self, user: U, now: Instant) {
        self.last.push_back((now + self.timeout, user));
    }

    /// A user whose connection died needs another: before all others, and for no longer than the first of them.
    pub fn push_first(&mut self, user: U, now: Instant) {
        let until = self.users.front().map_or(now + self.timeout, |(until, _)| *until);
        self.users.push_front((until, user));
    }

    /// The next user.
    pub fn first(&self) -> Option<&U> {
        self.users.front().or(self.last.front()).map(|(_, user)| user)
    }

    /// How long the next user has waited.
    pub fn waited(&self, now: Instant) -> Duration {
        let next = self.users.front().or(self.last.front());
        next.map_or(Duration::ZERO, |(until, _)| (now + self.timeout).saturating_duration_since(*until))
    }

    /// Takes the next user.
    pub fn pop(&mut self) -> Option<U> {
        self.users.pop_front().or_else(|| self.last.pop_front()).map(|(_, user)| user)
    }

    /// A user who has waited too long, until `None`.
    pub fn expired(&mut self, now: Instant) -> Option<U> {
        let queue = [&mut self.users, &mut self.last]
            .into_iter()
            .find(|queue| queue.front().is_some_and(|(until, _)| *until <= now));
        queue?.pop_front().map(|(_, user)| user)
    }

    /// When the next one will have waited too long.
    pub fn deadline(&self) -> Option<Instant> {
        self.users.front().into_iter().chain(self.last.front()).map(|(until, _)| *until).min()
    }

    /// After a crowd has gone, memory that it took is given back.
    pub fn shrink(&mut self) {
        self.users.shrink_to(2 * self.users.len() + SLACK);
        self.last.shrink_to(2 * self.last.len() + SLACK);
    }
}

/// Places that are kept.
const SLACK: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_go_last_go_last_and_wait_no_longer_than_others() {
        let (now, timeout) = (Instant::now(), Duration::from_secs(5));
        let mut waiting = Waiting::new(timeout);
        waiting.push_last("last", now);
        waiting.push("first", now + timeout / 2);
        assert_eq!((waiting.first(), waiting.deadline()), (Some(&"first"), Some(now + timeout)));
        assert_eq!(waiting.expired(now + timeout), Some("last"));
        waiting.push_last("last", now);
        assert_eq!([(); 3].map(|()| waiting.pop()), [Some("first"), Some("last"), None]);
    }

    #[test]
    fn users_wait_in_turn_and_are_given_up_after_their_time() {
        let (now, timeout) = (Instant::now(), Duration::from_secs(5));
        let mut waiting = Waiting::new(timeout);
        waiting.push("a", now);
        waiting.push("b", now + timeout / 2);
        assert_eq!((waiting.deadline(), waiting.expired(now)), (Some(now + timeout), None));
        assert_eq!((waiting.waited(now), waiting.waited(now + timeout / 2)), (Duration::ZERO, timeout / 2));
        assert_eq!([(); 2].map(|()| waiting.expired(now + timeout)), [Some("a"), None]);
        waiting.push_first("c", now + timeout);
        assert_eq!(waiting.deadline(), Some(now + timeout + timeout / 2));
        assert_eq!([(); 3].map(|()| waiting.pop()), [Some("c"), Some("b"), None]);
        waiting.push_first("d", now);
        assert_eq!(waiting.deadline(), Some(now + timeout));
    }
}
