//! What fails for long is said once and then again after 1, 10 and 60 minutes and every hour, with how often it has failed and why last.
//!
//! ```text
//!  Quiet --failed: say it--> Failing --due: say it again--> Failing
//!    ^------ worked ------------+
//! ```

use std::time::{Duration, Instant};

/// One thing that may fail again and again.
#[derive(Clone, Debug, Default)]
pub struct Reminder {
    outage: Option<Outage>,
}

#[derive(Clone, Debug)]
struct Outage {
    since: Instant,
    count: u64,
    why: String,
    /// How many reminders there were.
    said: usize,
}

/// What is to be said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// It fails, for this reason, which is another than before or the first one.
    Fails(String),
    /// It has failed for so long, so many times, the last time for this reason.
    StillFails {
        /// Since the first failure.
        since: Duration,
        /// All failures since then.
        count: u64,
        /// The last one's.
        why: String,
    },
}

impl Reminder {
    /// It failed. What is to be said of it now: a reason that is new, or a reminder that is due.
    pub fn failed(&mut self, why: &str, now: Instant) -> Option<Word> {
        let Some(outage) = &mut self.outage else {
            self.outage = Some(Outage { since: now, count: 1, why: why.into(), said: 0 });
            return Some(Word::Fails(why.into()));
        };
        outage.count += 1;
        let new = outage.why != why;
        if new {
            outage.why = why.into();
        }
        outage.remind(now).or_else(|| new.then(|| Word::Fails(why.into())))
    }

    /// It worked: how often it had failed before, and for how long.
    pub fn worked(&mut self, now: Instant) -> Option<(u64, Duration)> {
        self.outage.take().map(|outage| (outage.count, now.saturating_duration_since(outage.since)))
    }
}

impl Outage {
    fn remind(&mut self, now: Instant) -> Option<Word> {
        let since = now.saturating_duration_since(self.since);
        if since < after(self.said) {
            return None;
        }
        // One reminder for all that came due since the last failure.
        while since >= after(self.said) {
            self.said += 1;
        }
        Some(Word::StillFails { since, count: self.count, why: self.why.clone() })
    }
}

/// How long after the first failure the reminder with this number is due.
fn after(number: usize) -> Duration {
    match FIRST.get(number) {
        Some(after) => *after,
        None => HOUR * u32::try_from(number - FIRST.len() + 2).unwrap_or(u32::MAX),
    }
}

/// The first reminders, after the first failure.
const FIRST: [Duration; 3] = [Duration::from_secs(60), Duration::from_secs(600), HOUR];

/// From then on one after each.
const HOUR: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_said_at_once_and_after_1_10_and_60_minutes_and_every_hour() {
        let start = Instant::now();
        let mut reminder = Reminder::default();
        let mut said = Vec::new();
        // A try every three seconds, for four and a half hours.
        for n in 0..5400_u64 {
            let now = start + Duration::from_secs(3 * n);
            match reminder.failed("refused", now) {
                Some(Word::Fails(why)) => said.push((0, 1, why)),
                Some(Word::StillFails { since, count, why }) => said.push((since.as_secs(), count, why)),
                None => {}
            }
        }
        let expected = [0_u64, 60, 600, 3600, 7200, 10_800, 14_400];
        let expected = expected.map(|seconds| (seconds, seconds / 3 + 1, "refused".to_string()));
        assert_eq!(said, expected);
    }

    #[test]
    fn another_reason_is_said_when_it_comes_and_the_last_one_in_the_reminder() {
        let now = Instant::now();
        let mut reminder = Reminder::default();
        assert_eq!(reminder.failed("a", now), Some(Word::Fails("a".into())));
        assert_eq!(reminder.failed("a", now), None);
        assert_eq!(reminder.failed("b", now), Some(Word::Fails("b".into())));
        assert_eq!(reminder.failed("b", now), None);
        let since = Duration::from_secs(61);
        let word = Word::StillFails { since, count: 5, why: "c".into() };
        assert_eq!(reminder.failed("c", now + since), Some(word));
    }

    #[test]
    fn rare_failures_are_reminded_of_once_for_all_that_was_due() {
        let now = Instant::now();
        let mut reminder = Reminder::default();
        reminder.failed("a", now);
        let late = now + Duration::from_secs(2 * 3600 + 1);
        assert!(matches!(reminder.failed("a", late), Some(Word::StillFails { count: 2, .. })));
        assert_eq!(reminder.failed("a", late + Duration::from_secs(3597)), None);
        assert!(reminder.failed("a", late + Duration::from_secs(3599)).is_some());
    }

    #[test]
    fn what_works_is_over_and_begins_anew() {
        let now = Instant::now();
        let mut reminder = Reminder::default();
        assert_eq!(reminder.worked(now), None);
        reminder.failed("a", now);
        reminder.failed("a", now);
        assert_eq!(reminder.worked(now + HOUR), Some((2, HOUR)));
        assert_eq!(reminder.worked(now + HOUR), None);
        assert_eq!(reminder.failed("a", now + HOUR), Some(Word::Fails("a".into())));
    }
}
