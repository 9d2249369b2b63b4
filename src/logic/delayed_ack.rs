//! When a connection has to send: at once where it has something to say, and a little later where it has only heard something and answers
//! have come soon so far, so that the acknowledgement goes along with one.

use std::time::{Duration, Instant};

/// What a connection owes its other side.
pub struct DelayedAck {
    /// When it has to send. `None`: there is nothing to say.
    due: Option<Instant>,
    /// Bytes of packets that came, and of streams that were read, since it has sent.
    taken: usize,
    /// Since when what was taken in waits for an answer.
    heard: Option<Instant>,
    /// How often in a row an answer came within the pause, up to [`CONVERSATION`].
    answers: u32,
    /// Much is under way until then: what comes may be what waits to be sent on.
    streams_until: Instant,
}

impl DelayedAck {
    /// Of a connection that begins now, with something to say.
    pub fn new(now: Instant) -> DelayedAck {
        DelayedAck { due: Some(now), taken: 0, heard: None, answers: 0, streams_until: now }
    }

    /// It has something to say.
    pub fn speak(&mut self, now: Instant) {
        self.due = Some(now);
        if self.heard.take().is_some_and(|at| now <= at + PAUSE) {
            self.answers = (self.answers + 1).min(CONVERSATION);
        }
    }

    /// Much is under way, or waits for room: for some time nothing is put off.
    pub fn stream(&mut self, now: Instant) {
        self.streams_until = now + STREAMING;
    }

    /// So many bytes were taken in: the other side has to hear of that.
    pub fn take(&mut self, bytes: usize, now: Instant) {
        self.taken += bytes;
        if self.heard.is_some_and(|at| now > at + PAUSE) {
            (self.heard, self.answers) = (None, 0);
        }
        self.heard.get_or_insert(now);
        let waits = self.answers == CONVERSATION && self.taken < MUCH && now >= self.streams_until;
        let due = if waits { now + PAUSE } else { now };
        self.due = Some(self.due.map_or(due, |before| before.min(due)));
    }

    /// Whether it has to send now.
    pub fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|at| at <= now)
    }

    /// Everything was sent, this in so many packets.
    pub fn sent(&mut self, packets: usize, now: Instant) {
        (self.due, self.taken) = (None, 0);
        if packets >= MANY {
            self.stream(now);
        }
    }

    /// When it has to send later than `now`. What is due by then goes in this turn, as far as there is room.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        self.due.filter(|at| *at > now)
    }
}

/// An acknowledgement waits so long for an answer. It is less than the time after which an end that waits for it is looked
/// after (`net/quic/connection/flow.rs`).
const PAUSE: Duration = Duration::from_millis(2);
/// After so many answers in a row it waits for the next one. Others measure the round trip by what is acknowledged first, and not all of
/// them allow for the pause.
const CONVERSATION: u32 = 8;
/// From so many bytes on it does not wait: two large packets (RFC 9000, 13.2.2), or one and what was read of it.
const MUCH: usize = 2400;
/// So many packets at once are a stream of bytes.
const MANY: usize = 4;
/// How long a connection is taken for one that streams.
const STREAMING: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    fn quiet() -> (DelayedAck, Instant) {
        let now = Instant::now();
        let mut ack = DelayedAck::new(now);
        assert!(ack.is_due(now), "it begins");
        ack.sent(1, now);
        (ack, now)
    }

    /// In the midst of questions and answers.
    fn conversation() -> (DelayedAck, Instant) {
        let (mut ack, now) = quiet();
        for _ in 0..CONVERSATION {
            ack.take(10, now);
            assert!(ack.is_due(now), "an answer may not come");
            ack.sent(1, now);
            ack.speak(now + PAUSE);
            ack.sent(1, now);
        }
        (ack, now)
    }

    #[test]
    fn what_was_heard_waits_for_an_answer_and_goes_with_it() {
        let (mut ack, now) = conversation();
        assert_eq!((ack.is_due(now), ack.deadline(now)), (false, None));
        ack.take(100, now);
        assert_eq!((ack.is_due(now), ack.deadline(now)), (false, Some(now + PAUSE)));
        ack.take(100, now + PAUSE / 2);
        assert_eq!(ack.deadline(now), Some(now + PAUSE), "it waits for the first");
        assert!(ack.is_due(now + PAUSE));
        ack.speak(now);
        assert_eq!((ack.is_due(now), ack.deadline(now)), (true, None));
        ack.sent(1, now);
        assert!(!ack.is_due(now + PAUSE));
    }

    #[test]
    fn when_no_answer_came_the_next_acknowledgement_does_not_wait() {
        let (mut ack, now) = conversation();
        ack.take(100, now);
        ack.sent(1, now + PAUSE);
        ack.take(100, now + 2 * PAUSE);
        assert!(ack.is_due(now + 2 * PAUSE));
    }

    #[test]
    fn much_is_acknowledged_at_once_and_so_is_all_where_much_is_under_way() {
        let (mut ack, now) = conversation();
        ack.take(MUCH / 2, now);
        assert!(!ack.is_due(now));
        ack.take(MUCH / 2, now);
        assert!(ack.is_due(now));

        ack.sent(MANY, now);
        ack.take(1, now);
        assert!(ack.is_due(now), "a sender waits for it");
        ack.sent(1, now);
        ack.speak(now);
        ack.sent(1, now);
        ack.take(1, now + STREAMING);
        assert!(!ack.is_due(now + STREAMING));
    }
}
