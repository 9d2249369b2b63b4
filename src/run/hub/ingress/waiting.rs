//! Users who wait for a pool connection. They outlive tunnels: whichever has a connection first serves them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Users in the order in which they came, each with the time until which it waits.
#[derive(Debug)]
pub struct Waiting<U> {
    users: VecDeque<(Instant, U)>,
    timeout: Duration,
}

impl<U> Waiting<U> {
    /// No user waits. `timeout` is how long a user does (`NP_POOL_GET_TIMEOUT`).
    pub fn new(timeout: Duration) -> Waiting<U> {
        Waiting { users: VecDeque::new(), timeout }
    }

    /// A user wants a connection.
    pub fn push(&mut self, user: U, now: Instant) {
        self.users.push_back((now + self.timeout, user));
    }

    /// A user whose connection died needs another: before all others, and for no longer than the first of them.
    pub fn push_first(&mut self, user: U, now: Instant) {
        let until = self.users.front().map_or(now + self.timeout, |(until, _)| *until);
        self.users.push_front((until, user));
    }

    /// The next user.
    pub fn first(&self) -> Option<&U> {
        self.users.front().map(|(_, user)| user)
    }

    /// How long the next user has waited.
    pub fn waited(&self, now: Instant) -> Duration {
        self.users.front().map_or(Duration::ZERO, |(until, _)| (now + self.timeout).saturating_duration_since(*until))
    }

    /// Takes the next user.
    pub fn pop(&mut self) -> Option<U> {
        self.users.pop_front().map(|(_, user)| user)
    }

    /// A user who has waited too long, until `None`.
    pub fn expired(&mut self, now: Instant) -> Option<U> {
        self.users.front().filter(|(until, _)| *until <= now)?;
        self.pop()
    }

    /// When the next one will have waited too long.
    pub fn deadline(&self) -> Option<Instant> {
        self.users.front().map(|(until, _)| *until)
    }

    /// After a crowd has gone, memory that it took is given back.
    pub fn shrink(&mut self) {
        self.users.shrink_to(2 * self.users.len() + SLACK);
    }
}

/// Places that are kept.
const SLACK: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

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
