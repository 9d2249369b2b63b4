//! When to wake up, and how fast bytes may go: deadlines by key, and the token bucket behind `rate`.
//!
//! ```text
//!  epoch      10 ms      20 ms      30 ms
//!    |----------|----------|----------|---->
//!          a  b ^    c     ^                 a and b wake together, never early
//! ```

use portable_atomic::{AtomicU64, Ordering};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

/// Deadlines, each with a key that says whose it is and why.
///
/// There is no cancelling: the owner of a key ignores it once it is dead. Deadlines are rounded up to steps of `STEP`,
/// so that a thousand sessions share their wake-ups; those of one step come out in the order in which they were
/// armed, which makes relays that wait for the same [`Bucket`] take turns.
#[derive(Debug)]
pub struct Timers<K> {
    epoch: Instant,
    heap: BinaryHeap<Reverse<Entry<K>>>,
    armed: u32,
}

/// One deadline; `turn` is how many were armed before it (it wraps: then two of one step may swap places, once).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry<K> {
    step: u64,
    turn: u32,
    key: K,
}

impl<K: Ord + Copy> Timers<K> {
    /// No deadlines yet; steps are counted from `epoch`.
    pub fn new(epoch: Instant) -> Self {
        Timers { epoch, heap: BinaryHeap::new(), armed: 0 }
    }

    /// Remembers to wake `key` at `at`, or up to `STEP` later. A time that has passed is due at once.
    pub fn arm(&mut self, at: Instant, key: K) {
        let step = self.since(at).div_ceil(STEP.as_nanos());
        self.heap.push(Reverse(Entry { step: u64::try_from(step).unwrap_or(u64::MAX), turn: self.armed, key }));
        self.armed = self.armed.wrapping_add(1);
    }

    /// Takes one key that is due; to be asked until it answers `None`. A key armed for now or earlier while asking comes
    /// out in the same round, so arm the future only.
    pub fn expired(&mut self, now: Instant) -> Option<K> {
        let Reverse(first) = self.heap.peek()?;
        if u128::from(first.step) > self.since(now) / STEP.as_nanos() {
            return None;
        }
        let Reverse(due) = self.heap.pop()?;
        self.give_back();
        Some(due.key)
    }

    /// When to wake next; `None` to sleep until something else happens.
    pub fn next(&self) -> Option<Instant> {
        let Reverse(first) = self.heap.peek()?;
        let millis = first.step.saturating_mul(STEP.as_millis() as u64);
        self.epoch.checked_add(Duration::from_millis(millis))
    }

    /// How many deadlines are kept, those of dead keys included.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether there is no deadline.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// Nanoseconds from the epoch to `at`.
    fn since(&self, at: Instant) -> u128 {
        at.saturating_duration_since(self.epoch).as_nanos()
    }

    /// Returns memory once the heap is sparse, keeping as much again as is in use.
    fn give_back(&mut self) {
        let used = self.heap.len();
        if self.heap.capacity() > SMALL.max(SPARSE * used) {
            self.heap.shrink_to(SMALL.max(2 * used));
        }
    }
}

/// The token bucket behind `rate`: one for each direction, shared by all relays on all threads without a lock.
///
/// ```text
///        now                 now + 1 s
///  -------|-----------|---------|------> time
///                     ^ paid    |
///                     |<------->|  what may move now
/// ```
///
/// It holds one number: the time up to which the bytes that moved have *paid* for the line. Moving bytes pushes it on by
/// as long as the line takes for them, an idle line drags it along with the clock, and it may run ahead of the clock by
/// one second, which is the burst. So the flow is smooth: once the first second's worth is through, the paid time moves
/// exactly as fast as the clock and bytes exactly at the rate, in pieces of a quantum (10 ms' worth) and not in gulps
/// once a second. Bytes are paid for after they moved: relays that were granted the same room at once run into debt
/// together, and later grants wait until it is paid, so the sum stays right.
///
/// Relays take turns if each asks once per turn of its loop and, when refused, not before the time it was told: see
/// [`Timers`] for who is woken first.
#[derive(Debug)]
pub struct Bucket {
    epoch: Instant,
    /// Bytes per second, at least 1.
    rate: u64,
    /// The least worth waking for, in bytes.
    quantum: u64,
    /// In ticks since the epoch.
    paid: AtomicU64,
}

impl Bucket {
    /// A full bucket for `bytes_per_second`, from 1 to 10¹¹ (0 counts as 1: no limit means no bucket), that counts
    /// time from `epoch`. It lasts 36 years.
    pub fn new(bytes_per_second: u64, epoch: Instant) -> Self {
        let rate = bytes_per_second.max(1);
        // Half the burst at most: what trickles in between the moment a quantum is there and the wake-up must fit.
        let most = (rate / 2).max(1);
        Bucket { epoch, rate, quantum: (rate / QUANTA_PER_SECOND).max(MIN_QUANTUM).min(most), paid: AtomicU64::new(0) }
    }

    /// How many bytes may move now, a quantum or more; or when to come back. Nothing is taken: [`spend`](Self::spend)
    /// what really moved.
    pub fn grant(&self, now: Instant) -> Result<usize, Instant> {
        let now = self.ticks(now);
        let paid = self.paid.load(Ordering::Relaxed).max(now);
        let room = self.worth(now.saturating_add(SECOND).saturating_sub(paid));
        if room >= self.quantum {
            return Ok(usize::try_from(room).unwrap_or(usize::MAX));
        }
        // Rounded up, so that there is a quantum at that time and no tick is missing.
        let cost = (u128::from(self.quantum) * u128::from(SECOND)).div_ceil(u128::from(self.rate));
        let then = (u128::from(paid) + cost).saturating_sub(u128::from(SECOND));
        let nanos = then.div_ceil(u128::from(TICKS_PER_NANO));
        Err(self.epoch + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }

    /// Pays for `bytes` that have moved.
    pub fn spend(&self, bytes: usize, now: Instant) {
        if bytes == 0 {
            return;
        }
        let now = self.ticks(now);
        let rate = u128::from(self.rate);
        let cost = (bytes as u128 * u128::from(SECOND) + rate / 2) / rate;
        let cost = u64::try_from(cost).unwrap_or(u64::MAX);
        let mut paid = self.paid.load(Ordering::Relaxed);
        loop {
            let next = paid.max(now).saturating_add(cost);
            let swap = self.paid.compare_exchange_weak(paid, next, Ordering::Relaxed, Ordering::Relaxed);
            match swap {
                Ok(_) => return,
                Err(other) => paid = other,
            }
        }
    }

    /// Ticks from the epoch to `at`.
    fn ticks(&self, at: Instant) -> u64 {
        let nanos = at.saturating_duration_since(self.epoch).as_nanos();
        u64::try_from(nanos.saturating_mul(u128::from(TICKS_PER_NANO))).unwrap_or(u64::MAX)
    }

    /// How many bytes move in so many ticks.
    fn worth(&self, ticks: u64) -> u64 {
        let bytes = u128::from(ticks) * u128::from(self.rate) / u128::from(SECOND);
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

/// Deadlines are rounded up to multiples of this.
const STEP: Duration = Duration::from_millis(10);
/// Room for so many deadlines is never given back.
const SMALL: usize = 64;
/// Memory is given back when there is room for more than this many times the deadlines kept.
const SPARSE: usize = 4;

/// The bucket's clock: at 10¹¹ bytes per second a nanosecond is too coarse to price a packet.
const TICKS_PER_NANO: u64 = 16;
/// One second in ticks; the burst.
const SECOND: u64 = TICKS_PER_NANO * 1_000_000_000;
/// A quantum is the worth of 10 ms, one `STEP`: waking more often gains nothing.
const QUANTA_PER_SECOND: u64 = 100;
/// In bytes: a quantum is not less than one full packet (unless that is more than half a second's worth).
const MIN_QUANTUM: u64 = 1460;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{epoch, Dice};
    use std::collections::VecDeque;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn deadlines_come_out_in_the_order_of_time() {
        let start = epoch();
        let mut timers = Timers::new(start);
        for (at, name) in [(30, 'c'), (10, 'a'), (20, 'b')] {
            timers.arm(start + ms(at), name);
        }
        assert_eq!(timers.next(), Some(start + ms(10)));
        assert_eq!(timers.expired(start + ms(9)), None);
        let now = start + ms(25);
        assert_eq!(timers.expired(now), Some('a'));
        assert_eq!(timers.expired(now), Some('b'));
        assert_eq!(timers.expired(now), None);
        assert_eq!(timers.next(), Some(start + ms(30)));
        assert_eq!(timers.len(), 1);
    }

    #[test]
    fn nothing_is_early_and_nothing_is_more_than_a_step_late() {
        let start = epoch();
        let mut dice = Dice(3);
        for _ in 0..1000 {
            let mut timers = Timers::new(start);
            let at = start + Duration::from_nanos(dice.below(10_000_000_000));
            timers.arm(at, ());
            let wake = timers.next().unwrap();
            assert!(wake >= at && wake - at < STEP);
            assert_eq!(timers.expired(wake - Duration::from_nanos(1)), None);
            assert_eq!(timers.expired(wake), Some(()));
        }
    }

    #[test]
    fn a_thousand_deadlines_within_one_step_are_one_wake_up() {
        let start = epoch();
        let mut timers = Timers::new(start);
        for n in 1..=1000 {
            timers.arm(start + ms(50) + Duration::from_micros(n * 10), n);
        }
        let now = timers.next().unwrap();
        assert_eq!(now, start + ms(60));
        let woken = std::iter::from_fn(|| timers.expired(now)).count();
        assert_eq!(woken, 1000);
        assert!(timers.is_empty());
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn within_one_step_those_who_came_first_are_woken_first() {
        let start = epoch();
        let mut timers = Timers::new(start);
        for key in [5, 1, 9, 3] {
            timers.arm(start + ms(15) - Duration::from_micros(key), key);
        }
        let woken: Vec<_> = std::iter::from_fn(|| timers.expired(start + ms(20))).collect();
        assert_eq!(woken, [5, 1, 9, 3]);
    }

    #[test]
    fn a_time_before_the_epoch_is_due_at_once_and_one_beyond_all_clocks_never() {
        let start = epoch();
        let mut timers = Timers::new(start + ms(1000));
        timers.arm(start, "past");
        assert_eq!(timers.expired(start), Some("past"));
        let ages = Duration::from_secs(1 << 40);
        timers.arm(start + ages, "ages");
        assert!(timers.next().unwrap() >= start + ages);
        assert_eq!(timers.expired(start + ms(1_000_000)), None);
    }

    #[test]
    fn the_heap_gives_its_memory_back() {
        let start = epoch();
        let mut timers = Timers::new(start);
        for n in 0..5000 {
            timers.arm(start + ms(n), n);
        }
        while timers.expired(start + ms(5000)).is_some() {}
        assert!(timers.heap.capacity() <= SMALL);
    }

    #[test]
    fn a_fresh_bucket_grants_one_second_and_then_says_when_to_come_back() {
        let start = epoch();
        let bucket = Bucket::new(1_000_000, start);
        assert_eq!(bucket.grant(start), Ok(1_000_000));
        assert_eq!(bucket.grant(start), Ok(1_000_000), "asking takes nothing");
        bucket.spend(1_000_000, start);
        assert_eq!(bucket.grant(start), Err(start + ms(10)));
        assert!(bucket.grant(start + ms(9)).is_err());
        assert_eq!(bucket.grant(start + ms(10)), Ok(10_000));
        assert_eq!(bucket.grant(start + ms(500)), Ok(500_000));
    }

    #[test]
    fn an_idle_line_saves_one_second_and_no_more() {
        let start = epoch();
        let bucket = Bucket::new(125_000, start);
        bucket.spend(125_000, start);
        let later = start + Duration::from_secs(3600);
        assert_eq!(bucket.grant(later), Ok(125_000));
        bucket.spend(25_000, later);
        assert_eq!(bucket.grant(later), Ok(100_000));
    }

    #[test]
    fn an_overshoot_is_a_debt_that_is_waited_for() {
        let start = epoch();
        let bucket = Bucket::new(100_000, start);
        for _ in 0..4 {
            assert!(bucket.grant(start).is_ok());
        }
        for _ in 0..4 {
            bucket.spend(100_000, start);
        }
        let quantum = Duration::from_micros(14_600);
        assert_eq!(bucket.grant(start), Err(start + ms(3000) + quantum));
        assert_eq!(bucket.grant(start + ms(3000) + quantum), Ok(1460));
    }

    #[test]
    fn the_time_to_come_back_always_brings_a_quantum_and_lies_ahead() {
        let start = epoch();
        let mut dice = Dice(11);
        for rate in [1, 2, 3, 1459, 1461, 125_000, 999_999_937, 12_500_000_000, 100_000_000_000] {
            let bucket = Bucket::new(rate, start);
            let mut now = start;
            for _ in 0..500 {
                match bucket.grant(now) {
                    Ok(room) => {
                        assert!(room as u64 >= bucket.quantum && room as u64 <= rate);
                        bucket.spend(1 + dice.below(room as u64) as usize, now);
                    }
                    Err(then) => {
                        assert!(then > now, "rate {rate}");
                        assert!(bucket.grant(then).is_ok(), "rate {rate}");
                        now = then + Duration::from_nanos(dice.below(1000));
                    }
                }
            }
        }
    }

    #[test]
    fn no_rate_no_uptime_and_no_amount_overflows() {
        let start = epoch();
        for rate in [0, 1, 125_000, 100_000_000_000, u64::MAX] {
            let bucket = Bucket::new(rate, start);
            let years = start + Duration::from_secs(20 * 365 * 86_400);
            assert!(bucket.grant(years).is_ok());
            bucket.spend(usize::MAX, years);
            assert!(bucket.grant(years).is_err() || rate == u64::MAX);
            bucket.spend(usize::MAX, years);
            let _ = bucket.grant(start + Duration::from_secs(100 * 365 * 86_400));
            let _ = bucket.grant(start);
        }
    }

    /// What each of `greedy` relays that always have bytes, and of as many that fall asleep and wake greedy, moved in
    /// ten seconds of one worker's turns.
    fn share(rate: u64, greedy: usize, budget: u64, seed: u64) -> (Vec<u64>, u64) {
        let start = epoch();
        let end = start + Duration::from_secs(10);
        let (bucket, mut dice) = (Bucket::new(rate, start), Dice(seed));
        let mut timers = Timers::new(start);
        let mut moved = vec![0; 2 * greedy];
        let mut ready: VecDeque<usize> = (0..2 * greedy).collect();
        let mut now = start;
        while now <= end {
            while let Some(relay) = timers.expired(now) {
                ready.push_back(relay);
            }
            for _ in 0..ready.len() {
                let Some(relay) = ready.pop_front() else { break };
                match bucket.grant(now) {
                    Ok(room) => {
                        let bytes = (room as u64).min(budget);
                        bucket.spend(bytes as usize, now);
                        moved[relay] += bytes;
                        if relay >= greedy && dice.below(4) == 0 {
                            timers.arm(now + ms(1 + dice.below(300)), relay);
                        } else {
                            ready.push_back(relay);
                        }
                    }
                    Err(then) => timers.arm(then, relay),
                }
            }
            now = match timers.next() {
                Some(next) if ready.is_empty() => next,
                _ if now == end => break,
                _ => (now + Duration::from_micros(20 + dice.below(200))).min(end),
            };
        }
        (moved, bucket.quantum)
    }

    #[test]
    fn relays_that_share_a_bucket_move_exactly_its_rate_and_none_starves() {
        for seed in 1..=20 {
            for (rate, budget) in [(125_000, 16_384), (1_250_000, 65_536), (12_500_000, 262_144)] {
                let (moved, quantum) = share(rate, 5, budget, seed);
                let (sum, due) = (moved.iter().sum::<u64>(), rate * 11);
                assert!(sum <= due + quantum, "rate {rate}: {sum} of {due}");
                assert!(sum >= due - quantum, "rate {rate}: {sum} of {due}");
                let fair = sum / 10;
                for (relay, bytes) in moved.iter().enumerate() {
                    let least = if relay < 5 { fair / 2 } else { fair / 20 };
                    assert!(*bytes >= least, "seed {seed}, rate {rate}, relay {relay}: {moved:?}");
                }
            }
        }
    }

    #[test]
    fn relays_that_are_granted_at_once_and_pay_later_still_keep_the_rate() {
        let start = epoch();
        let (rate, relays) = (1_000_000, 8);
        let bucket = Bucket::new(rate, start);
        let (mut now, mut sum) = (start, 0);
        while now <= start + Duration::from_secs(60) {
            let grants: Vec<_> = (0..relays).map(|_| bucket.grant(now)).collect();
            for grant in &grants {
                let bytes = grant.map_or(0, |room| room.min(65_536));
                bucket.spend(bytes, now);
                sum += bytes as u64;
            }
            now += ms(1);
        }
        let overshoot = relays * 65_536;
        assert!(sum <= rate * 61 + overshoot, "{sum}");
        assert!(sum >= rate * 61 - bucket.quantum, "{sum}");
    }

    #[test]
    fn after_the_burst_every_tenth_of_a_second_moves_a_tenth_of_the_rate() {
        let start = epoch();
        let bucket = Bucket::new(10_000_000, start);
        bucket.spend(10_000_000, start);
        let mut timers = Timers::new(start);
        timers.arm(start, ());
        let mut tenths = [0u64; 50];
        while let Some(now) = timers.next().filter(|next| *next < start + ms(5000)) {
            while timers.expired(now).is_some() {}
            if let Ok(room) = bucket.grant(now) {
                bucket.spend(room, now);
                tenths[((now - start).as_millis() / 100) as usize] += room as u64;
            }
            if let Err(then) = bucket.grant(now) {
                timers.arm(then, ());
            }
        }
        let even = 900_000..=1_100_000;
        assert!(tenths.iter().all(|bytes| even.contains(bytes)), "{tenths:?}");
    }
}
