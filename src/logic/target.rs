//! Which target next, and which after a failure.
//!
//! ```text
//!             failed                  pause over, one user tries
//!   Up ----------------> Down{until} ----------------------------> Trial{until}
//!   ^ ^                   |     ^                                    |  |
//!   | +---- reached ------+     +------- failed: twice the pause ----+  |
//!   +----------------------------- reached -----------------------------+
//! ```
//!
//! Targets are numbers, 0 to n-1, in the order of the URL; names, addresses and dialling are not known here. A user
//! always gets an order of *all* targets: those believed to be up first, in the order the balance asks for, then the
//! others, since a belief may be wrong. UDP uses the same order; a UDP target has failed when it is said to, for
//! instance by a refusal from its host, and is never suspected for being silent.

use std::time::{Duration, Instant};

/// Which of several targets gets a user (`lbs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// `lbs=0`: each in its turn.
    RoundRobin,
    /// `lbs=1`: the lowest latency first.
    Fastest,
    /// `lbs=2`: the first of the URL while it works, else the next that does.
    Primary,
}

impl Balance {
    /// In the order of their digits.
    pub const ALL: [Balance; 3] = [Balance::RoundRobin, Balance::Fastest, Balance::Primary];

    /// The digit in the URL.
    pub fn code(self) -> u8 {
        self as u8
    }
}

/// The targets of one instance and what is known about each.
#[derive(Debug)]
pub struct Targets {
    /// At most `MAX_TARGETS`.
    targets: Vec<Target>,
    balance: Balance,
    /// `RoundRobin`, `Fastest`: the first choice of the last order. `Primary`: the target in use.
    current: usize,
    /// `Primary` on a backup: when to try the primary again. `None` while the primary is in use.
    back: Option<Instant>,
    fallback: Duration,
    period: Duration,
}

/// What is known about one target.
#[derive(Debug, Clone, Copy)]
struct Target {
    health: TargetHealth,
    latency: Latency,
    /// `Fastest`: when to measure next.
    due: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TargetHealth {
    Up,
    /// It failed: put last until then, and then tried by one user.
    Down {
        pause: Duration,
        until: Instant,
    },
    /// One user tries it; it is put last for the others until that user tells, or so long.
    Trial {
        pause: Duration,
        until: Instant,
    },
}

/// How long a target takes to answer; the order of the variants is the order of preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Latency {
    /// Never offered: worth one user, to be measured.
    Unknown,
    /// Smoothed over the last few measurements.
    Measured(Duration),
    /// Offered to a user, who has not told yet.
    Offered,
}

impl Targets {
    /// `n` targets, not tried yet; what lies above `MAX_TARGETS` is never used, so the configuration refuses it.
    ///
    /// `fallback` (`NP_FALLBACK_INTERVAL`) is how often `Primary` tries the primary again while it uses a backup;
    /// `period` (`NP_REPORT_INTERVAL`) how often `Fastest` measures each target.
    pub fn new(n: usize, balance: Balance, fallback: Duration, period: Duration, now: Instant) -> Self {
        let target = Target { health: TargetHealth::Up, latency: Latency::Unknown, due: now };
        let n = n.min(MAX_TARGETS);
        Targets {
            targets: vec![target; n],
            balance,
            current: match balance {
                Balance::RoundRobin | Balance::Fastest => n.saturating_sub(1),
                Balance::Primary => 0,
            },
            back: None,
            fallback,
            period: period.max(MIN_PERIOD),
        }
    }

    /// The order in which one new user tries the targets: all of them, each once.
    pub fn order(&mut self, now: Instant) -> Order {
        let mut order = match self.balance {
            Balance::RoundRobin => self.cycle(self.current + 1),
            Balance::Fastest => self.latency_order(),
            Balance::Primary => self.primary_order(now),
        };
        // The first choice of `Primary` stands, whatever is believed about it.
        let stands = usize::from(self.balance == Balance::Primary);
        let choices = &mut order.list[..order.n.into()];
        let others = choices.get_mut(stands..).unwrap_or_default();
        stable_sort(others, |i| !self.targets[usize::from(i)].health.is_up(now));
        if let Some(first) = order.clone().next() {
            self.chosen(first, now);
        }
        order
    }

    /// Target `i` could not be reached, or refused. `true` if that is news: it was believed to be up.
    pub fn failed(&mut self, i: usize, now: Instant) -> bool {
        let Some(target) = self.targets.get_mut(i) else {
            return false;
        };
        let was_up = target.health == TargetHealth::Up;
        let pause = match target.health {
            TargetHealth::Up => Some(FIRST_PAUSE),
            // Users who dialled before the first of them failed add nothing.
            TargetHealth::Down { until, .. } if now < until => None,
            TargetHealth::Down { pause, .. } | TargetHealth::Trial { pause, .. } => Some((pause * 2).min(MAX_PAUSE)),
        };
        if let Some(pause) = pause {
            let until = now + pause;
            target.health = TargetHealth::Down { pause, until };
        }
        if self.balance == Balance::Primary && i == self.current {
            self.step_aside(now);
        }
        was_up
    }

    /// Target `i` answered after `rtt`: the time of a TCP dial, or of the first reply over UDP. `true` if that is news:
    /// it was believed to be down.
    pub fn reached(&mut self, i: usize, rtt: Duration, now: Instant) -> bool {
        let Some(target) = self.targets.get_mut(i) else {
            return false;
        };
        let rtt = rtt.min(MAX_RTT);
        let smoothed = match target.latency {
            Latency::Measured(old) => (old * (SMOOTHING - 1) + rtt) / SMOOTHING,
            Latency::Unknown | Latency::Offered => rtt,
        };
        let was_down = target.health != TargetHealth::Up;
        *target = Target {
            health: TargetHealth::Up,
            latency: Latency::Measured(smoothed),
            // A target whose users measure it needs no probe.
            due: now + self.period,
        };
        if self.balance == Balance::Primary && i == PRIMARY {
            self.current = PRIMARY;
            self.back = None;
        }
        was_down
    }

    /// `Fastest` among several: a target that should be measured now by a dial of our own, whose result is told by
    /// [`reached`](Self::reached) or [`failed`](Self::failed). To be asked until it answers `None`.
    pub fn probe(&mut self, now: Instant) -> Option<usize> {
        self.deadline().filter(|due| *due <= now)?;
        let i = self.targets.iter().position(|target| target.due <= now)?;
        self.targets[i].due = now + self.period;
        Some(i)
    }

    /// When [`probe`](Self::probe) has something to say next.
    pub fn deadline(&self) -> Option<Instant> {
        let measures = self.balance == Balance::Fastest && self.targets.len() > 1;
        let dues = self.targets.iter().map(|target| target.due);
        dues.min().filter(|_| measures)
    }

    /// The smoothed time target `i` takes to answer, if it ever did.
    pub fn rtt(&self, i: usize) -> Option<Duration> {
        match self.targets.get(i)?.latency {
            Latency::Measured(rtt) => Some(rtt),
            Latency::Unknown | Latency::Offered => None,
        }
    }

    /// All targets from `start` on, in a circle.
    fn cycle(&self, start: usize) -> Order {
        let n = self.targets.len();
        let mut list = [0; MAX_TARGETS];
        for (k, place) in list[..n].iter_mut().enumerate() {
            *place = ((start + k) % n) as u8;
        }
        Order { list, at: 0, n: n as u8 }
    }

    /// The quickest first. Where nothing is known they take turns.
    fn latency_order(&self) -> Order {
        let mut order = self.cycle(self.current + 1);
        let n = usize::from(order.n);
        stable_sort(&mut order.list[..n], |i| self.targets[usize::from(i)].latency);
        order
    }

    /// The target in use, then the others in a circle; once every `fallback` the primary before all.
    fn primary_order(&mut self, now: Instant) -> Order {
        let mut order = self.cycle(self.current);
        if self.back.is_some_and(|back| back <= now) {
            self.back = Some(now + self.fallback);
            let n = usize::from(order.n);
            let choices = &mut order.list[..n];
            if let Some(at) = choices.iter().position(|i| usize::from(*i) == PRIMARY) {
                choices[..=at].rotate_right(1);
            }
        }
        order
    }

    /// Notes that a user is about to try target `i` first.
    fn chosen(&mut self, i: usize, now: Instant) {
        if self.balance != Balance::Primary {
            self.current = i;
        }
        let target = &mut self.targets[i];
        if target.latency == Latency::Unknown {
            target.latency = Latency::Offered;
        }
        match target.health {
            TargetHealth::Down { pause, until } | TargetHealth::Trial { pause, until } if until <= now => {
                let until = now + FIRST_PAUSE;
                target.health = TargetHealth::Trial { pause, until };
            }
            _ => {}
        }
    }

    /// `Primary`: the target in use failed, so use the next that is up, or else just the next.
    fn step_aside(&mut self, now: Instant) {
        if self.current == PRIMARY {
            self.back = Some(now + self.fallback);
        }
        let circle = self.cycle(self.current + 1);
        let up = |i: &usize| self.targets[*i].health.is_up(now);
        let next = circle.clone().find(up).or_else(|| circle.clone().next());
        self.current = next.unwrap_or(PRIMARY);
        if self.current == PRIMARY {
            self.back = None;
        }
    }
}

impl TargetHealth {
    /// Whether a user may be sent there first.
    fn is_up(self, now: Instant) -> bool {
        match self {
            TargetHealth::Up => true,
            TargetHealth::Down { until, .. } | TargetHealth::Trial { until, .. } => until <= now,
        }
    }
}

/// The targets in the order in which one user tries them: the first choice, then where to go after each failure.
/// It owns its list, needs no memory of its own and may be kept while dialling.
#[derive(Clone, PartialEq, Eq)]
pub struct Order {
    list: [u8; MAX_TARGETS],
    at: u8,
    n: u8,
}

impl Iterator for Order {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let left = &self.list[..self.n.into()];
        let next = *left.get(usize::from(self.at))?;
        self.at += 1;
        Some(next.into())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::from(self.n - self.at);
        (left, Some(left))
    }
}

impl ExactSizeIterator for Order {}

impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

/// Sorts by `rank`, equals in their order, without memory of its own; the lists are short and mostly sorted already.
fn stable_sort<R: Ord>(list: &mut [u8], rank: impl Fn(u8) -> R) {
    for end in 1..list.len() {
        let one = rank(list[end]);
        let at = list[..end].partition_point(|i| rank(*i) <= one);
        list[at..=end].rotate_right(1);
    }
}

/// Most targets of one instance.
pub const MAX_TARGETS: usize = 64;
/// The number of the primary.
const PRIMARY: usize = 0;
/// A target that failed is put last for so long, and so long one user alone tries it afterwards.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// Each further failure doubles the pause, up to this.
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// A measured latency counts one part in so many.
const SMOOTHING: u32 = 8;
/// Longer than any dial waits.
const MAX_RTT: Duration = Duration::from_secs(60);
/// Targets are not measured more often than this.
const MIN_PERIOD: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{epoch, Dice};
    use Balance::{Fastest, Primary, RoundRobin};

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    const FALLBACK: Duration = Duration::from_secs(300);
    const PERIOD: Duration = Duration::from_secs(5);

    fn targets(n: usize, balance: Balance, now: Instant) -> Targets {
        Targets::new(n, balance, FALLBACK, PERIOD, now)
    }

    fn order(targets: &mut Targets, now: Instant) -> Vec<usize> {
        targets.order(now).collect()
    }

    fn first(targets: &mut Targets, now: Instant) -> usize {
        targets.order(now).next().unwrap()
    }

    #[test]
    fn round_robin_gives_each_its_turn_and_all_others_behind_it() {
        let now = epoch();
        let mut all = targets(3, RoundRobin, now);
        assert_eq!(order(&mut all, now), [0, 1, 2]);
        assert_eq!(order(&mut all, now), [1, 2, 0]);
        assert_eq!(order(&mut all, now), [2, 0, 1]);
        assert_eq!(order(&mut all, now), [0, 1, 2]);
    }

    #[test]
    fn round_robin_puts_a_failed_target_last_and_shares_its_users_evenly() {
        let now = epoch();
        let mut all = targets(3, RoundRobin, now);
        assert!(all.failed(1, now));
        let mut firsts = [0; 3];
        for _ in 0..10 {
            let order = order(&mut all, now);
            assert_eq!(order[2], 1);
            firsts[order[0]] += 1;
        }
        assert_eq!(firsts, [5, 0, 5]);
    }

    #[test]
    fn after_its_pause_one_user_tries_a_failed_target_and_its_answer_brings_it_back() {
        let start = epoch();
        let mut all = targets(2, RoundRobin, start);
        all.failed(0, start);
        let now = start + FIRST_PAUSE - ms(1);
        assert!((0..4).all(|_| first(&mut all, now) == 1));
        let now = start + FIRST_PAUSE;
        let firsts: Vec<_> = (0..6).map(|_| first(&mut all, now)).collect();
        assert_eq!(firsts, [0, 1, 1, 1, 1, 1]);
        assert!(all.reached(0, ms(3), now), "being back is news");
        assert!(!all.reached(0, ms(3), now), "being there is not");
        let firsts: Vec<_> = (0..4).map(|_| first(&mut all, now)).collect();
        assert_eq!(firsts, [0, 1, 0, 1]);
    }

    #[test]
    fn a_trial_that_is_not_told_about_is_given_to_another_user_later() {
        let start = epoch();
        let mut all = targets(2, RoundRobin, start);
        all.failed(0, start);
        let now = start + FIRST_PAUSE;
        assert_eq!(first(&mut all, now), 0);
        assert_eq!(first(&mut all, now), 1);
        assert_eq!(first(&mut all, now + FIRST_PAUSE), 0);
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_start_over_after_an_answer() {
        let mut now = epoch();
        let mut all = targets(2, RoundRobin, now);
        for seconds in [5, 10, 20, 40, 60, 60] {
            all.failed(0, now);
            let pause = Duration::from_secs(seconds);
            assert!((0..3).all(|_| first(&mut all, now + pause - ms(1)) == 1));
            now += pause;
            assert_eq!(first(&mut all, now), 0);
        }
        all.reached(0, ms(1), now);
        all.failed(0, now);
        assert_eq!(first(&mut all, now + FIRST_PAUSE - ms(1)), 1);
        assert_eq!(first(&mut all, now + FIRST_PAUSE), 0);
    }

    #[test]
    fn a_hundred_users_who_fail_together_are_one_failure() {
        let now = epoch();
        let mut all = targets(2, RoundRobin, now);
        assert!(all.failed(0, now));
        assert!((0..99).all(|_| !all.failed(0, now)));
        assert_eq!(first(&mut all, now + FIRST_PAUSE), 0);
    }

    #[test]
    fn when_all_are_down_all_are_tried_in_turn_and_their_pauses_do_not_grow() {
        let now = epoch();
        let mut all = targets(3, RoundRobin, now);
        for _ in 0..50 {
            let order = order(&mut all, now);
            assert_eq!(order.len(), 3);
            for i in order {
                all.failed(i, now);
            }
        }
        let later = now + FIRST_PAUSE;
        assert!(all.targets.iter().all(|target| target.health.is_up(later)));
    }

    #[test]
    fn fastest_lets_one_user_measure_each_and_then_takes_the_quickest() {
        let now = epoch();
        let mut all = targets(3, Fastest, now);
        for (i, rtt) in [30, 10, 20].into_iter().enumerate() {
            assert_eq!(first(&mut all, now), i);
            all.reached(i, ms(rtt), now);
        }
        assert_eq!(order(&mut all, now), [1, 2, 0]);
        assert_eq!(order(&mut all, now), [1, 2, 0]);
        assert_eq!(all.rtt(1), Some(ms(10)));
    }

    #[test]
    fn fastest_does_not_send_a_second_user_to_a_target_that_has_not_answered_the_first() {
        let now = epoch();
        let mut all = targets(2, Fastest, now);
        all.reached(0, ms(50), now);
        assert_eq!(first(&mut all, now), 1);
        assert_eq!(order(&mut all, now), [0, 1]);
        assert_eq!(all.rtt(1), None);
    }

    #[test]
    fn fastest_follows_a_change_that_lasts_and_not_one_slow_answer() {
        let now = epoch();
        let mut all = targets(2, Fastest, now);
        all.reached(0, ms(10), now);
        all.reached(1, ms(20), now);
        all.reached(0, ms(60), now);
        assert_eq!(first(&mut all, now), 0);
        for _ in 0..10 {
            all.reached(0, ms(60), now);
        }
        assert_eq!(first(&mut all, now), 1);
    }

    #[test]
    fn fastest_puts_a_quick_target_that_failed_last() {
        let now = epoch();
        let mut all = targets(3, Fastest, now);
        for (i, rtt) in [1, 5, 9].into_iter().enumerate() {
            all.reached(i, ms(rtt), now);
        }
        all.failed(0, now);
        assert_eq!(order(&mut all, now), [1, 2, 0]);
        assert_eq!(order(&mut all, now + FIRST_PAUSE), [0, 1, 2]);
        assert_eq!(order(&mut all, now + FIRST_PAUSE), [1, 2, 0], "one user tries");
    }

    #[test]
    fn probes_measure_each_target_once_a_period_and_spare_those_that_users_measure() {
        let start = epoch();
        let mut all = targets(3, Fastest, start);
        assert_eq!(all.deadline(), Some(start));
        let due: Vec<_> = std::iter::from_fn(|| all.probe(start)).collect();
        assert_eq!(due, [0, 1, 2]);
        assert_eq!(all.deadline(), Some(start + PERIOD));
        all.reached(1, ms(5), start + ms(2000));
        let now = start + PERIOD;
        let due: Vec<_> = std::iter::from_fn(|| all.probe(now)).collect();
        assert_eq!(due, [0, 2]);
        assert_eq!(all.deadline(), Some(now + ms(2000)));
        assert_eq!(all.probe(now + ms(2000)), Some(1));
    }

    #[test]
    fn only_fastest_among_several_probes() {
        let now = epoch();
        for (n, balance) in [(2, RoundRobin), (2, Primary), (1, Fastest), (0, Fastest)] {
            let mut all = targets(n, balance, now);
            assert_eq!((all.probe(now), all.deadline()), (None, None));
        }
    }

    #[test]
    fn a_period_of_zero_does_not_probe_for_ever() {
        let now = epoch();
        let mut all = Targets::new(2, Fastest, FALLBACK, Duration::ZERO, now);
        assert_eq!(std::iter::from_fn(|| all.probe(now)).take(100).count(), 2);
    }

    #[test]
    fn primary_stays_with_the_primary_while_it_works() {
        let now = epoch();
        let mut all = targets(3, Primary, now);
        for _ in 0..5 {
            assert_eq!(order(&mut all, now), [0, 1, 2]);
            all.reached(0, ms(1), now);
        }
        all.failed(1, now);
        assert_eq!(order(&mut all, now), [0, 2, 1]);
    }

    #[test]
    fn primary_stays_on_the_backup_and_lets_one_user_try_the_primary_every_fallback() {
        let start = epoch();
        let mut all = targets(3, Primary, start);
        all.failed(0, start);
        let now = start + FALLBACK - ms(1);
        assert!((0..3).all(|_| first(&mut all, now) == 1));
        let now = start + FALLBACK;
        assert_eq!(order(&mut all, now), [0, 1, 2]);
        assert_eq!(first(&mut all, now), 1, "others do not wait for that user");
        all.failed(0, now);
        let now = start + 2 * FALLBACK - ms(1);
        assert_eq!(first(&mut all, now), 1);
        let now = start + 2 * FALLBACK;
        assert_eq!(first(&mut all, now), 0);
        all.reached(0, ms(1), now);
        assert!((0..3).all(|_| first(&mut all, now) == 0));
    }

    #[test]
    fn primary_tries_it_again_on_time_even_while_its_pause_lasts() {
        let start = epoch();
        let mut all = Targets::new(2, Primary, ms(1000), PERIOD, start);
        all.failed(0, start);
        assert_eq!(order(&mut all, start + ms(999)), [1, 0]);
        assert_eq!(order(&mut all, start + ms(1000)), [0, 1]);
    }

    #[test]
    fn primary_moves_on_when_the_backup_fails_too() {
        let now = epoch();
        let mut all = targets(3, Primary, now);
        all.failed(0, now);
        all.failed(1, now);
        assert_eq!(order(&mut all, now), [2, 0, 1]);
        all.failed(0, now);
        assert_eq!(first(&mut all, now), 2, "late news of the primary changes nothing");
    }

    #[test]
    fn primary_finds_the_one_that_lives_after_all_were_down() {
        let now = epoch();
        let mut all = targets(3, Primary, now);
        for _ in 0..7 {
            for i in order(&mut all, now) {
                all.failed(i, now);
            }
        }
        // Target 2 is back: a user walks until it answers, the next goes there at once.
        for i in order(&mut all, now) {
            if i == 2 {
                all.reached(2, ms(1), now);
                break;
            }
            all.failed(i, now);
        }
        assert_eq!(first(&mut all, now), 2);
    }

    #[test]
    fn numbers_that_are_no_target_are_ignored() {
        let now = epoch();
        for balance in [RoundRobin, Fastest, Primary] {
            let mut none = targets(0, balance, now);
            assert_eq!(order(&mut none, now), Vec::<usize>::new());
            assert!(!none.failed(0, now));
            assert!(!none.reached(0, ms(1), now));
            assert_eq!(none.rtt(0), None);
            let mut many = targets(1000, balance, now);
            assert_eq!(many.order(now).len(), MAX_TARGETS);
        }
    }

    #[test]
    fn whatever_happens_every_order_is_complete_and_users_reach_a_living_target() {
        for (seed, balance) in (1..=30).zip([RoundRobin, Fastest, Primary].into_iter().cycle()) {
            let mut dice = Dice(seed);
            let mut now = epoch();
            let n = 1 + dice.below(8);
            let mut all = targets(n, balance, now);
            let mut alive = vec![true; n];
            let (mut users, mut detours) = (0, 0);
            for _ in 0..5000 {
                now += ms(dice.below(500) as u64);
                if dice.below(200) == 0 {
                    let i = dice.below(n);
                    alive[i] = !alive[i];
                }
                if let Some(i) = all.probe(now) {
                    let _ = if alive[i] { all.reached(i, ms(9), now) } else { all.failed(i, now) };
                }
                let order = order(&mut all, now);
                let mut sorted = order.clone();
                sorted.sort_unstable();
                assert!(sorted.into_iter().eq(0..n), "seed {seed}: {order:?}");
                for (k, i) in order.into_iter().enumerate() {
                    if alive[i] {
                        all.reached(i, ms(1 + dice.below(20) as u64), now);
                        (users, detours) = (users + 1, detours + usize::from(k > 0));
                        break;
                    }
                    all.failed(i, now);
                }
            }
            assert!(detours * 10 <= users, "seed {seed}: {detours} of {users}");
        }
    }
}
