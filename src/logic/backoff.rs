//! Growing pauses between tries of something that keeps failing.

use std::time::{Duration, Instant};

/// Pauses that double from `first` to `max`, and begin again once a try has held for a while.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    next: Duration,
    /// When the last try succeeded, if it has not failed since.
    since: Option<Instant>,
}

impl Backoff {
    /// Pauses of `first`, twice that and so on, at most `max`.
    pub fn new(first: Duration, max: Duration) -> Backoff {
        Backoff { first, max, next: first, since: None }
    }

    /// A try succeeded.
    pub fn succeeded(&mut self, now: Instant) {
        self.since = Some(now);
    }

    /// It has failed: how long to wait before the next try. What held for [`SETTLED`] and for longer than the last pause
    /// counts as the first failure.
    pub fn failed(&mut self, now: Instant) -> Duration {
        let held = self.since.take().map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        if held >= SETTLED && held >= self.next {
            self.next = self.first;
        }
        let pause = self.next;
        self.next = (2 * self.next).min(self.max).max(self.first);
        pause
    }
}

/// What held for so long has worked.
pub const SETTLED: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_again_after_a_success_that_held() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let mut backoff = Backoff::new(3 * second, 20 * second);
        let pauses = [(); 5].map(|()| {
            backoff.succeeded(now);
            backoff.failed(now + second)
        });
        assert_eq!(pauses, [3, 6, 12, 20, 20].map(|n| n * second));
        backoff.succeeded(now);
        assert_eq!(backoff.failed(now + SETTLED), 3 * second);
        assert_eq!(backoff.failed(now + SETTLED), 6 * second, "without a success in between");
    }
}
