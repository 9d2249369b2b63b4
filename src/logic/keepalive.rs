//! Whether the other side still lives: it is asked once every report interval, and three of those without a word are its end.

use std::time::{Duration, Instant};

/// The keepalive of a connection. Its owner says what was [`heard`](Keepalive::heard), and asks at its
/// [`deadline`](Keepalive::deadline) what to do.
pub struct Keepalive {
    report: Duration,
    /// So many of them without a word are silence.
    silence: u32,
    heard: Instant,
    ask: Instant,
}

/// What it is time for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// Nothing.
    Rest,
    /// To ask whether the other side is there.
    Ask,
    /// To give it up: nothing was heard for so long.
    Silent(Duration),
}

impl Keepalive {
    /// Of a connection that is there since `now`; the first question is due after `timeout`.
    pub fn new(report: Duration, timeout: Duration, now: Instant) -> Keepalive {
        Keepalive { report, silence: SILENCE, heard: now, ask: now + timeout }
    }

    /// The same, of a TCP connection that carries many streams: see [`TCP_SILENCE`].
    pub fn shared(self) -> Keepalive {
        Keepalive { silence: TCP_SILENCE, ..self }
    }

    /// The time between two questions.
    pub fn report(&self) -> Duration {
        self.report
    }

    /// It was asked, whatever the clock says: the next question is due after one interval.
    pub fn asked(&mut self, now: Instant) {
        self.ask = now + self.report;
    }

    /// The other side has said something.
    pub fn heard(&mut self, now: Instant) {
        self.heard = now;
    }

    /// Time has passed.
    ///
    /// A caller that comes late, because the machine slept or was busy, could not hear: that time does not count.
    pub fn beat(&mut self, now: Instant) -> Beat {
        let late = now.saturating_duration_since(self.deadline());
        self.heard = (self.heard + late).min(now);
        if now >= self.heard + self.silence * self.report {
            return Beat::Silent(self.silence * self.report);
        }
        if now >= self.ask {
            self.ask = now + self.report;
            return Beat::Ask;
        }
        Beat::Rest
    }

    /// When to [`beat`](Keepalive::beat) next.
    pub fn deadline(&self) -> Instant {
        self.ask.min(self.heard + self.silence * self.report)
    }
}

/// Report intervals without a word that are silence.
const SILENCE: u32 = 3;
/// The same for a QUIC connection. It outlives the silence that ends its tunnel, so that users whose relays it carries outlive a pause of
/// one side: with the usual interval 35 s.
pub const QUIC_SILENCE: u32 = 7;
/// The same for a TCP connection that carries many streams. Over a path that is back after half a minute TCP may send again only when it
/// has been silent for 51 s, as its pauses double: 60 s.
pub const TCP_SILENCE: u32 = 12;

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: Duration = Duration::from_secs(5);

    #[test]
    fn it_asks_every_interval_and_gives_up_after_three_without_a_word() {
        let now = Instant::now();
        let mut keepalive = Keepalive::new(REPORT, REPORT, now);
        assert_eq!(keepalive.beat(now), Beat::Rest);
        for n in 1..3 {
            assert_eq!(keepalive.deadline(), now + n * REPORT);
            assert_eq!(keepalive.beat(now + n * REPORT), Beat::Ask);
            assert_eq!(keepalive.beat(now + n * REPORT), Beat::Rest, "once");
        }
        assert_eq!(keepalive.beat(now + 3 * REPORT), Beat::Silent(3 * REPORT));
    }

    #[test]
    fn a_word_is_a_new_beginning() {
        let now = Instant::now();
        let mut keepalive = Keepalive::new(REPORT, Duration::ZERO, now);
        for n in 0..100 {
            assert_eq!(keepalive.beat(now + n * REPORT), Beat::Ask, "{n}");
            keepalive.heard(now + n * REPORT + REPORT / 2);
        }
    }

    #[test]
    fn time_that_was_slept_away_does_not_count() {
        let now = Instant::now();
        let mut keepalive = Keepalive::new(REPORT, REPORT, now);
        let woken = now + 1000 * REPORT;
        assert_eq!(keepalive.beat(woken), Beat::Ask, "first of all it asks");
        // What is left of the timeout is what was left when it fell asleep.
        assert_eq!(keepalive.beat(woken + REPORT), Beat::Ask);
        assert_eq!(keepalive.beat(woken + 2 * REPORT), Beat::Silent(3 * REPORT));
    }

    #[test]
    fn a_word_that_lay_unread_while_it_slept_counts_from_when_it_is_read() {
        let now = Instant::now();
        let mut keepalive = Keepalive::new(REPORT, REPORT, now);
        let woken = now + 7 * REPORT;
        keepalive.heard(woken);
        assert_eq!(keepalive.beat(woken), Beat::Ask);
        assert_eq!(keepalive.deadline(), woken + REPORT, "never ahead of the clock");
        assert_eq!(keepalive.beat(woken + 3 * REPORT), Beat::Ask, "late again");
    }
}
