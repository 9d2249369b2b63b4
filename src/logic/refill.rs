//! The client's refill: how many pool connections to open, and when.

use std::time::{Duration, Instant};

/// The client's side of keeping the pool warm (spec 3.3): how many to open, and when.
///
/// Users that take connections are made up for at once; the clock is for quiet times and for peers that fail.
pub struct Refill {
    min: usize,
    max: usize,
    capacity: usize,
    shortest: Duration,
    longest: Duration,
    pause: Duration,
    next: Instant,
    opening: usize,
    made: usize,
    /// When the few that are missing will be opened together, and how long they wait.
    batch: Option<Instant>,
    patience: Duration,
    errors: usize,
    failing: bool,
    /// The clock has nothing to change.
    resting: bool,
    /// Idle connections to give up.
    surplus: usize,
}

impl Refill {
    /// A pool kept at `min`, growing up to `max` (swapped if the wrong way round), with rounds `shortest` to `longest` apart.
    pub fn new(min: usize, max: usize, shortest: Duration, longest: Duration, now: Instant) -> Refill {
        let (min, max) = (min.min(max), min.max(max));
        let longest = longest.max(shortest);
        Refill {
            min,
            max,
            capacity: min,
            shortest,
            longest,
            pause: shortest,
            next: now,
            opening: 0,
            made: 0,
            batch: None,
            patience: BATCH,
            errors: 0,
            failing: false,
            resting: false,
            surplus: 0,
        }
    }

    /// The same, where users bring their connections back (`so`): a few that are missing wait for that.
    pub fn brought_back(self, so: bool) -> Refill {
        let patience = if so { RETURN } else { BATCH };
        Refill { patience, ..self }
    }

    /// A connection was opened.
    pub fn opened(&mut self) {
        self.opening = self.opening.saturating_sub(1);
        self.made += 1;
        self.failing = false;
    }

    /// A user's connection is free for another user, with so many idle. Whether it is wanted: what users take and bring back comes and goes
    /// by itself, so some more than the capacity are kept while that goes on. Those that are being opened count, as they will be idle.
    pub fn takes_back(&mut self, idle: usize) -> bool {
        self.made += 1;
        idle + self.opening < (2 * self.capacity).min(self.max)
    }

    /// How many idle connections are to be given up, since the last call: in a round in which nobody needed one, half of those beyond the
    /// capacity.
    pub fn surplus(&mut self) -> usize {
        std::mem::take(&mut self.surplus)
    }

    /// How many are being opened.
    pub fn opening(&self) -> usize {
        self.opening
    }

    /// One could not be opened. The next try waits for the clock.
    pub fn failed(&mut self) {
        self.opening = self.opening.saturating_sub(1);
        self.errors += 1;
        self.failing = true;
    }

    /// How many to open now, with so many idle.
    ///
    /// While more than half are idle a few missing ones wait a moment, so that they are opened together, and not while
    /// the user who took one waits for an answer.
    pub fn open(&mut self, idle: usize, now: Instant) -> usize {
        if now >= self.next {
            self.round(idle);
            self.next = now + self.pause;
        } else if self.failing {
            // What is missing waits for the round, which may not rest meanwhile.
            self.resting = false;
            return 0;
        }
        let missing = self.capacity.saturating_sub(idle + self.opening);
        let settled = idle <= self.capacity && self.capacity == self.min && self.pause == self.longest;
        self.resting = missing == 0 && settled;
        if missing == 0 {
            self.batch = None;
            return 0;
        }
        let due = *self.batch.get_or_insert(now + self.patience);
        if now < due && !self.failing && 2 * (idle + self.opening) > self.capacity {
            return 0;
        }
        self.batch = None;
        self.opening += missing;
        missing
    }

    /// A round of the clock: how many were made since the last one moves the capacity, the level moves the pause.
    fn round(&mut self, idle: usize) {
        let beyond = idle.saturating_sub(self.capacity);
        self.surplus = if self.made == 0 { beyond.div_ceil(2) } else { 0 };
        if 5 * idle < self.capacity {
            self.pause = self.pause.saturating_sub(STEP).max(self.shortest);
        } else if 5 * idle > 4 * self.capacity {
            self.pause = (self.pause + STEP).min(self.longest);
        }
        if 5 * self.made < self.capacity {
            self.capacity = self.capacity.saturating_sub(1).max(self.min);
        } else if 5 * self.made > 4 * self.capacity {
            self.capacity = (self.capacity + 1).min(self.max);
        }
        self.made = 0;
    }

    /// Whether errors since the last call exceed half of the idle connections: time for a `flush`.
    pub fn is_sick(&mut self, idle: usize) -> bool {
        std::mem::take(&mut self.errors) > idle / 2
    }

    /// How many to open now while the tunnel is not up, with so many idle: one that becomes the control connection, and `ahead` more
    /// with it, if the pool takes as many.
    pub fn begin(&mut self, ahead: usize, idle: usize, now: Instant) -> usize {
        if now < self.next && (self.opening > 0 || self.failing) {
            return 0;
        }
        self.next = now + self.pause;
        let missing = (1 + ahead.min(self.capacity)).saturating_sub(idle + self.opening);
        self.opening += missing;
        missing
    }

    /// When to ask again; a pool that is full, at its smallest and slowest needs no clock.
    pub fn deadline(&self) -> Option<Instant> {
        let round = (!self.resting).then_some(self.next);
        // After a failure only the round opens more.
        self.batch.filter(|_| !self.failing).into_iter().chain(round).min()
    }
}

/// A few missing connections wait for each other so long.
const BATCH: Duration = Duration::from_millis(2);
/// So long where most users will have brought theirs back by then.
const RETURN: Duration = Duration::from_millis(100);
/// How much a round of the clock changes the pause.
const STEP: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    fn refill(now: Instant) -> Refill {
        Refill::new(10, 20, Duration::from_millis(100), Duration::from_secs(1), now)
    }

    #[test]
    fn the_pool_is_filled_at_once_and_what_users_take_is_made_up_for_together_or_at_once_when_it_is_much() {
        let now = Instant::now();
        let mut refill = refill(now);
        assert_eq!(refill.open(0, now), 10);
        assert_eq!(refill.open(0, now), 0);
        for _ in 0..10 {
            refill.opened();
        }
        assert_eq!(refill.open(10, now), 0);
        assert_eq!(refill.open(9, now), 0);
        assert_eq!(refill.deadline(), Some(now + BATCH));
        assert_eq!(refill.open(7, now + BATCH), 3);
        for _ in 0..3 {
            refill.opened();
        }
        assert_eq!(refill.open(5, now + BATCH), 5);
    }

    #[test]
    fn connections_that_users_bring_back_are_kept_up_to_twice_the_capacity_and_count_as_made() {
        let now = Instant::now();
        let mut refill = refill(now);
        refill.open(0, now);
        (0..10).for_each(|_| refill.opened());
        assert!(refill.takes_back(10) && refill.takes_back(19) && !refill.takes_back(20));
        refill.open(10, refill.next);
        assert_eq!(refill.capacity, 11, "a pool that is used grows");
        let surplus = |refill: &mut Refill, idle| {
            refill.open(idle, refill.next);
            (refill.surplus(), refill.surplus())
        };
        refill.opened();
        assert_eq!(surplus(&mut refill, 21), (0, 0), "somebody came");
        assert_eq!(surplus(&mut refill, 21), (6, 0), "nobody came: the capacity is 10 again");
        assert_eq!((surplus(&mut refill, 11), surplus(&mut refill, 10)), ((1, 0), (0, 0)));
    }

    #[test]
    fn where_users_bring_their_connections_back_a_few_that_are_missing_wait_for_that() {
        let now = Instant::now();
        let pause = Duration::from_secs(1);
        let mut refill = Refill::new(10, 20, pause, pause, now).brought_back(true);
        assert_eq!(refill.open(0, now), 10);
        (0..10).for_each(|_| refill.opened());
        assert_eq!((refill.open(7, now), refill.deadline()), (0, Some(now + RETURN)));
        assert_eq!((refill.open(10, now), refill.open(7, now + BATCH)), (0, 0), "they are back, and others are taken");
        assert_eq!((refill.open(7, now + RETURN), refill.open(7, now + BATCH + RETURN)), (0, 3));
    }

    #[test]
    fn what_comes_back_and_what_is_being_opened_is_together_no_more_than_the_pool_may_hold() {
        let now = Instant::now();
        let pause = Duration::from_secs(1);
        let mut refill = Refill::new(2, 4, pause, pause, now);
        assert_eq!(refill.open(0, now), 2);
        assert!(refill.takes_back(1));
        assert!(!refill.takes_back(2));
        refill.opened();
        assert!(refill.takes_back(2));
    }

    #[test]
    fn the_first_connection_is_opened_alone_or_with_some_of_the_pool() {
        for (ahead, rest) in [(0, 10), (4, 6)] {
            let now = Instant::now();
            let mut refill = refill(now);
            assert_eq!(refill.begin(ahead, 0, now), 1 + ahead);
            assert_eq!(refill.begin(ahead, 0, now), 0);
            refill.failed();
            assert_eq!(refill.begin(ahead, 0, now), 0, "the next try waits for the clock");
            assert_eq!(refill.begin(ahead, 0, refill.next), 1);
            (0..=ahead).for_each(|_| refill.opened());
            assert_eq!(refill.open(ahead, now), rest);
        }
    }

    #[test]
    fn no_more_of_the_pool_is_opened_ahead_than_it_takes() {
        let now = Instant::now();
        let pause = Duration::from_secs(1);
        for (min, first) in [(0, 1), (1, 2), (64, 5)] {
            let mut refill = Refill::new(min, 100, pause, pause, now);
            assert_eq!(refill.begin(4, 0, now), first);
        }
        // One was opened, and is lost again before the tunnel is up.
        let mut refill = Refill::new(1, 100, pause, pause, now);
        refill.begin(4, 0, now);
        refill.opened();
        assert_eq!(refill.begin(4, 1, refill.next), 0);
        assert_eq!(refill.begin(4, 0, refill.next), 1);
    }

    #[test]
    fn a_first_connection_that_takes_long_is_waited_for_without_haste() {
        let now = Instant::now();
        let mut refill = refill(now);
        assert_eq!(refill.begin(0, 0, now), 1);
        for n in 1..10 {
            let due = now + n * Duration::from_millis(100);
            assert_eq!(refill.deadline(), Some(due));
            assert_eq!(refill.begin(0, 0, due), 0);
        }
    }

    #[test]
    fn a_full_pool_needs_no_clock() {
        let mut now = Instant::now();
        let mut refill = refill(now);
        while refill.deadline().is_some() {
            assert_eq!(refill.open(10, now), 0);
            now = refill.next;
        }
        assert_eq!(refill.pause, Duration::from_secs(1));
    }

    #[test]
    fn a_full_pool_whose_clock_rests_is_filled_again_when_the_last_that_was_opened_fails() {
        for late in [false, true] {
            let mut now = Instant::now();
            let mut refill = refill(now);
            while refill.deadline().is_some() {
                refill.open(10, now);
                now = refill.next;
            }
            // One is used; the one that is to take its place fails, at once or when that has been counted on.
            refill.open(9, now);
            now += BATCH;
            assert_eq!(refill.open(9, now), 1);
            assert!(!late || refill.open(9, now) == 0 && refill.deadline().is_none(), "all there or on their way");
            refill.failed();
            assert_eq!(refill.open(9, now), 0);
            let due = refill.deadline().expect("the clock goes on");
            assert_eq!(refill.open(9, due), 1);
        }
    }

    #[test]
    fn after_a_failure_only_the_clock_opens_more() {
        let now = Instant::now();
        let mut refill = refill(now);
        refill.open(0, now);
        for _ in 0..10 {
            refill.failed();
        }
        assert_eq!(refill.open(0, now), 0);
        assert!(refill.deadline() > Some(now));
        assert!(refill.open(0, refill.next) > 0);
    }

    #[test]
    fn capacity_follows_demand_within_its_bounds() {
        let mut now = Instant::now();
        let mut refill = refill(now);
        for _ in 0..50 {
            for _ in 0..refill.open(0, now) {
                refill.opened();
            }
            now = refill.next;
        }
        assert_eq!(refill.capacity, 20);
        for _ in 0..50 {
            assert_eq!(refill.open(20, now), 0);
            now = refill.next;
        }
        assert_eq!(refill.capacity, 10);
    }

    #[test]
    fn a_full_pool_slows_the_clock_and_an_empty_one_quickens_it() {
        let mut now = Instant::now();
        let mut refill = refill(now);
        for _ in 0..20 {
            refill.open(10, now);
            now = refill.next;
        }
        assert_eq!(refill.pause, Duration::from_secs(1));
        for _ in 0..20 {
            refill.open(0, now);
            now = refill.next;
        }
        assert_eq!(refill.pause, Duration::from_millis(100));
    }

    #[test]
    fn errors_over_half_of_the_idle_connections_are_a_sickness() {
        let now = Instant::now();
        let mut refill = refill(now);
        for _ in 0..5 {
            refill.failed();
        }
        assert!(!refill.is_sick(10));
        for _ in 0..6 {
            refill.failed();
        }
        assert!(refill.is_sick(10));
        assert!(!refill.is_sick(10));
    }
}
