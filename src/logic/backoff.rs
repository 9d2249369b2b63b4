//! Growing pauses between tries of something that keeps failing.

use std::time::{Duration, Instant};

/// Pauses that double from `first` to `max`, and begin again once a try has held for long enough.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    settled: Duration,
    next: Duration,
    /// When the last try succeeded, if it has not failed since.
    since: Option<Instant>,
    /// Until then pauses do not grow.
    soon: Option<Instant>,
}

impl Backoff {
    /// Pauses of `first`, twice that and so on, at most `max`. What has held for `settled` has worked.
    pub fn new(first: Duration, max: Duration, settled: Duration) -> Backoff {
        let first = first.min(max);
        Backoff { first, max, settled, next: first, since: None, soon: None }
    }

    /// The same for something that has never worked: the pause is `max` until it has.
    pub fn untried(first: Duration, max: Duration, settled: Duration) -> Backoff {
        Backoff { next: max, ..Backoff::new(first, max, settled) }
    }

    /// Pauses of a client whose tunnel another one with the same key takes over, and again: two that take turns rest longer and longer.
    pub fn of_loser(first: Duration) -> Backoff {
        Backoff::new(first, MAX_LOSER_PAUSE, SETTLED)
    }

    /// A try succeeded.
    pub fn succeeded(&mut self, now: Instant) {
        self.since = Some(now);
    }

    /// It works again at a moment that is not known, but comes before `until`: up to then each pause is the first one, so that no long one
    /// has begun when it comes.
    pub fn expect(&mut self, until: Instant) {
        self.soon = Some(until);
    }

    /// It has failed: how long to wait before the next try. What had worked, and for longer than the last pause, fails for the
    /// first time.
    pub fn failed(&mut self, now: Instant) -> Duration {
        let held = self.since.take().map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        if held >= self.settled && held >= self.next {
            self.next = self.first;
        }
        let soon = self.soon.is_some_and(|until| now < until);
        if soon {
            self.next = self.first;
        }
        let pause = self.next;
        if !soon {
            self.next = (2 * self.next).min(self.max);
        }
        pause
    }
}

/// The longest pause of a client whose tunnel another one keeps taking over.
const MAX_LOSER_PAUSE: Duration = Duration::from_secs(300);
/// A tunnel that was not taken for so long is the client's own: the other one's longest pause is over for long.
const SETTLED: Duration = Duration::from_secs(600);
/// The first pause of what usually works at once, and is given up to `NP_SERVICE_COOLDOWN` where it does not.
pub const FIRST_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_again_after_a_success_that_held() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let mut backoff = Backoff::new(3 * second, 20 * second, 60 * second);
        let pauses = [(); 5].map(|()| {
            backoff.succeeded(now);
            backoff.failed(now + second)
        });
        assert_eq!(pauses, [3, 6, 12, 20, 20].map(|n| n * second));
        backoff.succeeded(now);
        assert_eq!(backoff.failed(now + 60 * second), 3 * second);
        assert_eq!(backoff.failed(now + 60 * second), 6 * second, "without a success in between");
    }

    #[test]
    fn pauses_grow_only_after_the_time_in_which_it_is_expected_to_work_again() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let mut backoff = Backoff::new(second, 20 * second, 60 * second);
        for _ in 0..3 {
            backoff.failed(now);
        }
        backoff.expect(now + 5 * second);
        let pauses = [0, 1, 4, 5, 6, 7].map(|n| backoff.failed(now + n * second));
        assert_eq!(pauses, [1, 1, 1, 1, 2, 4].map(|n| n * second));
    }

    /// Two clients with one key: the one that comes has the tunnel, and the other rests. How often it changes hands in that time, and when
    /// the last pause ends.
    fn changes_hands(clients: &mut [Backoff; 2], from: Instant, time: Duration) -> (Vec<u64>, Instant) {
        let (mut now, mut holder, mut pauses) = (from, 0, Vec::new());
        clients[holder].succeeded(now);
        while now < from + time {
            let comer = 1 - holder;
            clients[comer].succeeded(now);
            let pause = clients[holder].failed(now);
            pauses.push(pause.as_secs());
            (now, holder) = (now + pause, comer);
        }
        (pauses, now)
    }

    #[test]
    fn two_clients_with_one_key_take_the_tunnel_from_each_other_ever_more_seldom() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let mut clients = [(); 2].map(|()| Backoff::of_loser(3 * second));
        let (pauses, end) = changes_hands(&mut clients, now, 3600 * second);
        assert_eq!(pauses[..10], [3, 3, 6, 6, 12, 12, 24, 24, 48, 48]);
        assert_eq!(pauses[10..16], [96, 96, 192, 192, 300, 300]);
        assert!(pauses[14..].iter().all(|pause| *pause == 300) && pauses.len() < 25, "{pauses:?}");
        // One of them is stopped: the other keeps the tunnel, and the next loss costs it a short pause again.
        let [one, _] = &mut clients;
        one.succeeded(end);
        assert_eq!(one.failed(end + 299 * second), 300 * second, "it may still be the other's pause that has kept it");
        one.succeeded(end + 600 * second);
        assert_eq!(one.failed(end + 1200 * second), 3 * second);
    }

    #[test]
    fn what_has_never_worked_waits_the_longest_until_it_has() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let mut backoff = Backoff::untried(second, 4 * second, 4 * second);
        assert_eq!([(); 2].map(|()| backoff.failed(now)), [4 * second; 2]);
        backoff.succeeded(now);
        assert_eq!(
            [1, 2, 4, 4].map(|n| (backoff.failed(now + 5 * second), n * second)).map(|(is, wanted)| is == wanted),
            [true; 4]
        );
    }
}
