//! The cache of resolved names: who asks the resolver, when, and what is answered meanwhile.
//!
//! ```text
//!  lookup--> never asked          Ask       one question, by the caller that looked it up first
//!            asked, no answer     Wait      all others share it
//!            answered             Known     also when past its time: then asked again in the background (poll)
//!            no answer to be had  Failed    for a moment, then Ask
//! ```
//!
//! Once a name has been resolved its users never wait for the resolver again, and a resolver that fails takes no
//! answer away: the last good one stays. With a time to live of zero nothing is kept: each user asks afresh, and only
//! callers that wait for the same answer share it. Without one of its own, an answer is kept for as long as it says.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::error::Error;

/// The addresses of a name, and how long they hold where the answer says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// In the order in which they are to be tried.
    pub addresses: Vec<IpAddr>,
    /// How long they hold.
    pub ttl: Option<Duration>,
}

impl From<Vec<IpAddr>> for Found {
    fn from(addresses: Vec<IpAddr>) -> Found {
        Found { addresses, ttl: None }
    }
}

/// What is known about the names of one instance.
#[derive(Debug)]
pub struct Names {
    /// `None`: as long as an answer says.
    ttl: Option<Duration>,
    /// At most `MAX_NAMES`.
    names: BTreeMap<String, Name>,
    /// The names in `Question::Wanted`, the oldest wish first.
    wanted: VecDeque<String>,
}

/// What is known about a name right now. The addresses are in the resolver's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup<'a> {
    /// Its addresses: one to `MAX_ADDRESSES`.
    Known(&'a [IpAddr]),
    /// It cannot be resolved at the moment, and why.
    Failed(Error),
    /// The caller sends one question to the resolver now and waits; all others are told to [`Lookup::Wait`].
    Ask,
    /// The question has been sent: wait until the answer comes.
    Wait,
}

#[derive(Debug)]
struct Name {
    answer: Answer,
    question: Question,
    /// When it was looked up last.
    used: Instant,
}

#[derive(Debug)]
enum Answer {
    Nothing,
    /// Good beyond `until` too, but then to be asked again.
    Good {
        addresses: Vec<IpAddr>,
        until: Instant,
    },
    /// Not asked again before `until` has passed.
    Bad {
        why: Error,
        until: Instant,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    /// No question is under way.
    Resting,
    /// To be asked in the background, when `poll` is called.
    Wanted,
    /// With the resolver.
    Asked,
}

impl Names {
    /// Knows nothing yet; an answer is fresh for `ttl` (`dns`), zero keeps none; without one for as long as it says.
    pub fn new(ttl: Option<Duration>) -> Self {
        Names { ttl, names: BTreeMap::new(), wanted: VecDeque::new() }
    }

    /// What is known about `host`. A caller that is told to ask owes an [`answered`](Self::answered), a failure if the
    /// question cannot even be sent.
    pub fn lookup(&mut self, host: &str, now: Instant) -> Lookup<'_> {
        if !self.names.contains_key(host) {
            if !self.make_room() {
                return Lookup::Failed(Error::name(host.to_owned(), TOO_MANY));
            }
            let new = Name { answer: Answer::Nothing, question: Question::Resting, used: now };
            self.names.insert(host.to_owned(), new);
        }
        let keeps = self.keeps();
        let Some(name) = self.names.get_mut(host) else {
            return Lookup::Failed(Error::name(host.to_owned(), TOO_MANY));
        };
        name.used = now;
        match &name.answer {
            Answer::Good { addresses, until } if keeps || now <= *until => {
                if now > *until && name.question == Question::Resting {
                    name.question = Question::Wanted;
                    self.wanted.push_back(host.to_owned());
                }
                Lookup::Known(addresses)
            }
            Answer::Bad { why, until } if now <= *until => Lookup::Failed(why.clone()),
            _ if name.question == Question::Asked => Lookup::Wait,
            _ => {
                name.question = Question::Asked;
                Lookup::Ask
            }
        }
    }

    /// A name whose answer is past its time: to be asked in the background, once. To be called until it is `None`.
    pub fn poll(&mut self) -> Option<String> {
        while let Some(host) = self.wanted.pop_front() {
            if let Some(name) = self.names.get_mut(&host) {
                name.question = Question::Asked;
                return Some(host);
            }
        }
        None
    }

    /// The resolver's answer for `host`, and what to hand to all that wait for it: never `Ask` or `Wait`. Those
    /// who look themselves at the same `now` find the same, whatever the time to live.
    pub fn answered(&mut self, host: &str, result: Result<impl Into<Found>, Error>, now: Instant) -> Lookup<'_> {
        let (keeps, ttl) = (self.keeps(), self.ttl);
        let Some(name) = self.names.get_mut(host).filter(|name| name.question == Question::Asked) else {
            return Lookup::Failed(Error::name(host.to_owned(), NOT_ASKED));
        };
        name.question = Question::Resting;
        let result = result.map(Into::into).and_then(|Found { addresses, ttl }| Ok((usable(host, addresses)?, ttl)));
        match (result, &mut name.answer) {
            (Ok((addresses, its_own)), answer) => {
                let until = later(now, ttl.unwrap_or_else(|| its_own.unwrap_or(MIN_TTL).max(MIN_TTL)));
                *answer = Answer::Good { addresses, until };
            }
            (Err(_), Answer::Good { until, .. }) if keeps => {
                *until = later(now, RETRY_PAUSE);
            }
            (Err(why), answer) => {
                // A failure is not kept longer than an address would be.
                let until = later(now, FAILURE_PAUSE.min(ttl.unwrap_or(FAILURE_PAUSE)));
                *answer = Answer::Bad { why, until };
            }
        }
        match &name.answer {
            Answer::Good { addresses, .. } => Lookup::Known(addresses),
            Answer::Bad { why, .. } => Lookup::Failed(why.clone()),
            Answer::Nothing => Lookup::Failed(Error::name(host.to_owned(), NOT_ASKED)),
        }
    }

    /// An address of `host` did not answer: it may have moved, so its answer is not believed for its whole time.
    pub fn doubt(&mut self, host: &str, now: Instant) {
        if let Some(Name { answer: Answer::Good { until, .. }, .. }) = self.names.get_mut(host) {
            *until = (*until).min(later(now, RETRY_PAUSE));
        }
    }

    fn keeps(&self) -> bool {
        self.ttl != Some(Duration::ZERO)
    }

    /// Whether one more name may be kept, after forgetting the one that was not looked up for longest, if it must be. A
    /// name with the resolver, or about to be, stays: a user may wait for it.
    fn make_room(&mut self) -> bool {
        if self.names.len() < MAX_NAMES {
            return true;
        }
        let resting = self.names.iter().filter(|(_, name)| name.question == Question::Resting);
        let Some(oldest) = resting.min_by_key(|(_, name)| name.used) else {
            return false;
        };
        let oldest = oldest.0.clone();
        self.names.remove(&oldest).is_some()
    }
}

/// The addresses worth keeping: each once, not too many, and at least one.
fn usable(host: &str, addresses: Vec<IpAddr>) -> Result<Vec<IpAddr>, Error> {
    let mut kept = Vec::with_capacity(addresses.len().min(MAX_ADDRESSES));
    for address in addresses {
        if kept.len() < MAX_ADDRESSES && !kept.contains(&address) {
            kept.push(address);
        }
    }
    if kept.is_empty() {
        return Err(Error::name(host.to_owned(), NO_ADDRESS));
    }
    Ok(kept)
}

/// `pause` after `now`, or some decades after it, whatever `pause` is.
fn later(now: Instant, pause: Duration) -> Instant {
    now + pause.min(FOR_EVER)
}

/// Most names of one instance; the one that was not used for longest makes room for a new one.
pub const MAX_NAMES: usize = 256;
/// Most addresses kept for a name; the resolver's first ones.
pub const MAX_ADDRESSES: usize = 8;
/// So long an answer is good at least, where it says itself how long.
const MIN_TTL: Duration = Duration::from_secs(1);
/// After a failure the last good answer is used for so long before the next question.
const RETRY_PAUSE: Duration = Duration::from_secs(5);
/// Without a good answer a failure is believed for so long.
const FAILURE_PAUSE: Duration = Duration::from_secs(1);
/// Longer than any run, short enough for every system's clock.
const FOR_EVER: Duration = Duration::from_secs(30 * 365 * 86_400);
const TOO_MANY: &str = "too many names are being resolved at once";
const NO_ADDRESS: &str = "the name has no address";
const NOT_ASKED: &str = "this name was not asked for";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{epoch, Dice};
    use std::net::{Ipv4Addr, Ipv6Addr};

    const TTL: Duration = Duration::from_secs(300);
    const SECOND: Duration = Duration::from_secs(1);
    const TICK: Duration = Duration::from_nanos(1);

    fn ip(n: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, n))
    }

    fn down() -> Error {
        Error::name("a.example", "resolver is down")
    }

    fn broken() -> Result<Vec<IpAddr>, Error> {
        Err(down())
    }

    /// A cache that has just learnt that `a.example` is 192.0.2.1.
    fn knowing(ttl: Duration, now: Instant) -> Names {
        let mut names = Names::new(Some(ttl));
        assert_eq!(names.lookup("a.example", now), Lookup::Ask);
        names.answered("a.example", Ok(vec![ip(1)]), now);
        names
    }

    #[test]
    fn the_first_to_look_asks_and_all_others_wait_for_the_same_answer() {
        let now = epoch();
        let mut names = Names::new(Some(TTL));
        assert_eq!(names.lookup("a.example", now), Lookup::Ask);
        assert_eq!(names.lookup("a.example", now), Lookup::Wait);
        assert_eq!(names.lookup("b.example", now), Lookup::Ask);
        assert_eq!(names.lookup("a.example", now + SECOND), Lookup::Wait);
        let told = [ip(2), ip(1), ip(3)];
        assert_eq!(names.answered("a.example", Ok(told.to_vec()), now + SECOND), Lookup::Known(&told));
        assert_eq!(names.lookup("a.example", now + SECOND), Lookup::Known(&told));
        assert_eq!(names.lookup("b.example", now + SECOND), Lookup::Wait);
        assert_eq!(names.poll(), None);
    }

    #[test]
    fn a_fresh_answer_asks_no_server_and_an_old_one_is_asked_again_once_in_the_background() {
        let start = epoch();
        let mut names = knowing(TTL, start);
        assert_eq!(names.lookup("a.example", start + TTL), Lookup::Known(&[ip(1)]));
        assert_eq!(names.poll(), None);
        let now = start + TTL + TICK;
        for _ in 0..3 {
            assert_eq!(names.lookup("a.example", now), Lookup::Known(&[ip(1)]));
        }
        assert_eq!(names.poll().as_deref(), Some("a.example"));
        assert_eq!(names.poll(), None);
        assert_eq!(names.lookup("a.example", now), Lookup::Known(&[ip(1)]));
        assert_eq!(names.poll(), None, "it is being asked already");
        names.answered("a.example", Ok(vec![ip(9)]), now);
        assert_eq!(names.lookup("a.example", now + TTL), Lookup::Known(&[ip(9)]));
        assert_eq!(names.poll(), None);
    }

    #[test]
    fn a_resolver_that_fails_takes_no_good_answer_away_and_is_asked_again_after_a_pause() {
        let start = epoch();
        let mut names = knowing(TTL, start);
        let mut now = start + TTL + TICK;
        for _ in 0..5 {
            names.lookup("a.example", now);
            assert!(names.poll().is_some());
            assert_eq!(names.answered("a.example", broken(), now), Lookup::Known(&[ip(1)]));
            assert_eq!(names.lookup("a.example", now + RETRY_PAUSE), Lookup::Known(&[ip(1)]));
            assert_eq!(names.poll(), None);
            now += RETRY_PAUSE + TICK;
        }
        names.lookup("a.example", now);
        assert!(names.poll().is_some());
        assert_eq!(names.answered("a.example", Ok(vec![]), now), Lookup::Known(&[ip(1)]));
    }

    #[test]
    fn a_failure_without_an_earlier_answer_is_told_for_a_moment_and_then_asked_again() {
        let now = epoch();
        let mut names = Names::new(Some(TTL));
        names.lookup("a.example", now);
        let failed = Lookup::Failed(down());
        assert_eq!(names.answered("a.example", broken(), now), failed);
        assert_eq!(names.lookup("a.example", now + FAILURE_PAUSE), failed);
        assert_eq!(names.poll(), None);
        let now = now + FAILURE_PAUSE + TICK;
        assert_eq!(names.lookup("a.example", now), Lookup::Ask);
        assert_eq!(names.lookup("a.example", now), Lookup::Wait);
        assert_eq!(names.answered("a.example", Ok(vec![ip(4)]), now), Lookup::Known(&[ip(4)]));
    }

    #[test]
    fn with_a_ttl_of_zero_each_user_asks_afresh_and_those_who_wait_share_the_question() {
        let mut now = epoch();
        let mut names = Names::new(Some(Duration::ZERO));
        for n in 1..5 {
            assert_eq!(names.lookup("a.example", now), Lookup::Ask);
            assert_eq!(names.lookup("a.example", now + TICK), Lookup::Wait);
            now += SECOND;
            let told = [ip(n)];
            assert_eq!(names.answered("a.example", Ok(told.to_vec()), now), Lookup::Known(&told));
            assert_eq!(names.lookup("a.example", now), Lookup::Known(&told), "woken in the same turn");
            assert_eq!(names.poll(), None);
            now += TICK;
        }
    }

    #[test]
    fn with_a_ttl_of_zero_a_failure_is_not_hidden_by_an_old_answer_nor_kept() {
        let now = epoch();
        let mut names = knowing(Duration::ZERO, now);
        let now = now + SECOND;
        assert_eq!(names.lookup("a.example", now), Lookup::Ask);
        assert_eq!(names.answered("a.example", broken(), now), Lookup::Failed(down()));
        assert_eq!(names.lookup("a.example", now + TICK), Lookup::Ask);
    }

    #[test]
    fn an_answer_without_an_address_is_a_failure() {
        let now = epoch();
        let mut names = Names::new(Some(TTL));
        names.lookup("a.example", now);
        assert_eq!(names.answered("a.example", Ok(vec![]), now), Lookup::Failed(Error::name("a.example", NO_ADDRESS)));
    }

    #[test]
    fn addresses_are_kept_in_the_resolvers_order_each_once_and_not_too_many() {
        let now = epoch();
        let mut names = Names::new(Some(TTL));
        names.lookup("a.example", now);
        let six = IpAddr::V6(Ipv6Addr::LOCALHOST);
        let mut told = vec![six, ip(200), six, ip(200)];
        told.extend((1..=20).map(ip));
        let kept = [six, ip(200), ip(1), ip(2), ip(3), ip(4), ip(5), ip(6)];
        assert_eq!(kept.len(), MAX_ADDRESSES);
        assert_eq!(names.answered("a.example", Ok(told), now), Lookup::Known(&kept));
    }

    #[test]
    fn an_answer_that_was_not_asked_for_changes_nothing() {
        let now = epoch();
        let mut names = knowing(TTL, now);
        let not_asked = |name: &'static str| Lookup::Failed(Error::name(name, NOT_ASKED));
        assert_eq!(names.answered("a.example", Ok(vec![ip(66)]), now), not_asked("a.example"));
        assert_eq!(names.answered("b.example", Ok(vec![ip(66)]), now), not_asked("b.example"));
        assert_eq!(names.lookup("a.example", now), Lookup::Known(&[ip(1)]));
        assert_eq!(names.lookup("b.example", now), Lookup::Ask);
    }

    #[test]
    fn the_longest_ttl_lasts_and_does_not_overflow() {
        let now = epoch();
        let mut names = knowing(Duration::MAX, now);
        assert_eq!(names.lookup("a.example", now + 1000 * TTL), Lookup::Known(&[ip(1)]));
        assert_eq!(names.poll(), None);
    }

    #[test]
    fn when_full_the_name_that_was_unused_for_longest_makes_room() {
        let start = epoch();
        let mut names = knowing(TTL, start);
        for n in 1..MAX_NAMES as u32 {
            let host = format!("{n}.example");
            names.lookup(&host, start + n * TICK);
            names.answered(&host, Ok(vec![ip(7)]), start + n * TICK);
        }
        let now = start + SECOND;
        assert_eq!(names.lookup("a.example", now), Lookup::Known(&[ip(1)]));
        assert_eq!(names.lookup("new.example", now), Lookup::Ask);
        assert_eq!(names.names.len(), MAX_NAMES);
        assert_eq!(names.lookup("a.example", now), Lookup::Known(&[ip(1)]));
        assert_eq!(names.lookup("1.example", now), Lookup::Ask, "that one was forgotten");
    }

    #[test]
    fn when_all_are_being_asked_a_further_name_is_refused_and_none_is_forgotten() {
        let now = epoch();
        let mut names = Names::new(Some(TTL));
        for n in 0..MAX_NAMES {
            assert_eq!(names.lookup(&n.to_string(), now), Lookup::Ask);
        }
        assert_eq!(names.lookup("one more", now), Lookup::Failed(Error::name("one more", TOO_MANY)));
        assert_eq!(names.answered("0", Ok(vec![ip(1)]), now), Lookup::Known(&[ip(1)]));
        assert_eq!(names.lookup("one more", now), Lookup::Ask);
    }

    #[test]
    fn whatever_the_resolver_does_there_is_one_question_a_name_and_no_good_answer_is_lost() {
        for seed in 1..=30 {
            let mut dice = Dice(seed);
            let mut now = epoch();
            let mut names = Names::new(Some(if seed % 3 == 0 { Duration::ZERO } else { 10 * SECOND }));
            let hosts: Vec<_> = (0..2 * MAX_NAMES).map(|n| format!("{n}.example")).collect();
            let mut asked: Vec<String> = Vec::new();
            for _ in 0..5000 {
                now += Duration::from_millis(dice.below(300));
                // A few hosts are popular, so that answers grow old and are asked again.
                let crowd = if dice.below(3) == 0 { hosts.len() as u64 } else { 5 };
                let host = &hosts[dice.below(crowd) as usize];
                let waiting = asked.contains(host);
                match names.lookup(host, now) {
                    Lookup::Ask => {
                        assert!(!waiting, "seed {seed}: {host} is asked twice");
                        asked.push(host.clone());
                    }
                    Lookup::Wait => assert!(waiting, "seed {seed}: {host} waits for nothing"),
                    Lookup::Known(addresses) => assert_eq!(addresses.len(), 2),
                    Lookup::Failed(error) => {
                        let expected = [down(), Error::name(host.clone(), TOO_MANY)];
                        assert!(expected.contains(&error), "{error}");
                    }
                }
                while let Some(host) = names.poll() {
                    assert!(!asked.contains(&host), "seed {seed}: {host} is asked twice");
                    asked.push(host);
                }
                if !asked.is_empty() && dice.below(4) > 0 {
                    let host = asked.swap_remove(dice.below(asked.len() as u64) as usize);
                    let good = matches!(names.names[&host].answer, Answer::Good { .. });
                    let fails = dice.below(2) == 0;
                    let result = if fails { broken() } else { Ok(vec![ip(1), ip(2)]) };
                    let known = matches!(names.answered(&host, result, now), Lookup::Known(_));
                    assert_eq!(known, !fails || (good && seed % 3 != 0));
                }
                assert!(names.names.len() <= MAX_NAMES);
                assert!(names.wanted.is_empty());
            }
        }
    }

    #[test]
    fn an_answer_is_kept_for_as_long_as_it_says_where_the_user_does_not() {
        let mut now = epoch();
        let mut names = Names::new(None);
        for (says, kept) in [(60, 60), (0, 1), (3600, 3600)] {
            let _ = names.lookup("a.example", now);
            let _ = names.poll();
            let found = Found { addresses: vec![ip(1)], ttl: Some(Duration::from_secs(says)) };
            assert_eq!(names.answered("a.example", Ok(found), now), Lookup::Known(&[ip(1)]));
            now += kept * SECOND;
            assert_eq!(names.lookup("a.example", now), Lookup::Known(&[ip(1)]));
            assert_eq!(names.poll(), None, "{says}");
            now += TICK;
            assert_eq!(names.lookup("a.example", now), Lookup::Known(&[ip(1)]));
            assert_eq!(names.poll().as_deref(), Some("a.example"), "{says}");
            names.answered("a.example", broken(), now);
            now += RETRY_PAUSE + TICK;
        }
    }

    #[test]
    fn a_doubted_answer_is_asked_for_again_before_its_time_and_used_meanwhile() {
        let (mut names, now) = (Names::new(Some(Duration::from_secs(300))), Instant::now());
        let address: IpAddr = [192, 0, 2, 1].into();
        assert_eq!(names.lookup("a.example", now), Lookup::Ask);
        names.answered("a.example", Ok(vec![address]), now);
        names.doubt("a.example", now);
        names.doubt("b.example", now);
        assert_eq!(names.lookup("a.example", now), Lookup::Known(&[address]));
        assert_eq!(names.poll(), None);
        assert_eq!(names.lookup("a.example", now + 2 * RETRY_PAUSE), Lookup::Known(&[address]));
        assert_eq!(names.poll().as_deref(), Some("a.example"));
    }
}
