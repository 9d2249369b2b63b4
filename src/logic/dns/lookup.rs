//! One name looked up at the servers that the user names: whom to ask next, and what comes of it.
//!
//! ```text
//!  try 1   server 1   AAAA and A, each with a number and on a port of its own ----> both answered: done
//!  try 2   server 2   what is not answered, when server 1 cannot tell, or has not within its time
//!  ...                what comes late from server 1 counts all the same
//!  after two rounds   done, without an address
//! ```
//!
//! In: [`tick`](Lookup::tick), [`heard`](Lookup::heard), [`lost`](Lookup::lost). Out: [`poll`](Lookup::poll) until `None`.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Family, Question, Reply};
use crate::logic::names::Found;

/// A lookup under way.
pub struct Lookup {
    name: String,
    /// Their names for the user.
    servers: Arc<[String]>,
    first: usize,
    /// Tries that were begun.
    tries: usize,
    /// The end of the last one's time.
    until: Instant,
    asked: Vec<Asked>,
    /// By family.
    found: [Option<Vec<IpAddr>>; 2],
    ttl: Duration,
    /// A server said that there is no such name.
    unknown: bool,
    /// What each server did last, instead of an answer.
    failures: Vec<Option<String>>,
    steps: VecDeque<Step>,
    over: bool,
}

struct Asked {
    at: usize,
    question: Question,
    attempt: usize,
    over_tcp: bool,
    /// Messages that did not answer it.
    strays: u32,
    open: bool,
}

/// A question under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// Its number in this lookup, less than [`MAX_EXCHANGES`].
    pub number: usize,
    /// The number of the server.
    pub server: usize,
    /// Over TCP, in place of what was asked over UDP.
    pub over_tcp: bool,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask: see [`Lookup::question`].
    Ask(Exchange),
    /// It is over: the addresses and the server that has told them, or why there are none.
    Done(Result<(Found, usize), String>),
}

impl Lookup {
    /// A lookup at these servers, which begins with the one of number `first`.
    pub fn new(name: String, servers: &Arc<[String]>, first: usize, now: Instant) -> Lookup {
        Lookup {
            name,
            servers: servers.clone(),
            first,
            tries: 0,
            until: now,
            asked: Vec::new(),
            found: [None, None],
            ttl: Duration::MAX,
            unknown: false,
            failures: vec![None; servers.len()],
            steps: VecDeque::new(),
            over: false,
        }
    }

    /// What is looked up.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The bytes of a question.
    pub fn question(&self, exchange: Exchange) -> &[u8] {
        self.asked.get(exchange.number).map_or(&[], |asked| asked.question.bytes())
    }

    /// What is to be done, until `None`.
    pub fn poll(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    /// When to [`tick`](Lookup::tick) next.
    pub fn deadline(&self) -> Instant {
        self.until
    }

    /// A message of that server's. What answers no question of ours is not the server's, or late: it changes nothing.
    pub fn heard(&mut self, number: usize, message: &[u8]) {
        let Some(asked) = self.asked.get_mut(number).filter(|asked| asked.open) else { return };
        match asked.question.read(message) {
            // Who guesses numbers does not get many tries.
            None => {
                asked.strays += 1;
                if asked.strays >= MAX_STRAYS {
                    self.lost(number, "what comes from it is no answer".into());
                }
            }
            Some(Reply::Truncated) if asked.over_tcp => self.lost(number, "its answer is cut short".into()),
            Some(Reply::Truncated) => {
                asked.over_tcp = true;
                self.steps.push_back(Step::Ask(Exchange { number, server: asked.at, over_tcp: true }));
            }
            Some(Reply::Failed(why)) => self.lost(number, format!("it answers {why}")),
            Some(Reply::NoName) => {
                asked.open = false;
                self.unknown = true;
                self.found.iter_mut().for_each(|found| *found = found.take().or(Some(Vec::new())));
                self.settled_at(number);
            }
            Some(Reply::Addresses { addresses, ttl }) => {
                asked.open = false;
                let family = asked.question.family as usize;
                if !addresses.is_empty() {
                    self.ttl = self.ttl.min(ttl);
                    self.settled_at(number);
                }
                self.found[family].get_or_insert(addresses);
            }
        }
    }

    /// That question will not be answered.
    pub fn lost(&mut self, number: usize, why: String) {
        let Some(asked) = self.asked.get_mut(number).filter(|asked| asked.open) else { return };
        asked.open = false;
        self.failures[asked.at] = Some(why);
    }

    /// Time has passed, or something was heard or lost. `id` gives numbers that cannot be guessed.
    pub fn tick(&mut self, now: Instant, id: &mut dyn FnMut() -> u16) {
        let is_open = |attempt: usize| move |asked: &Asked| asked.open && asked.attempt == attempt;
        let waits = now < self.until && self.asked.iter().any(is_open(self.tries));
        let has_address = self.found.iter().flatten().any(|found| !found.is_empty());
        if self.over {
        } else if self.found.iter().all(Option::is_some) || has_address && !waits {
            self.finish();
        } else if !waits {
            let late = self.asked.iter().filter(|asked| asked.open);
            let late: Vec<usize> = late.filter(|asked| asked.attempt == self.tries).map(|asked| asked.at).collect();
            late.into_iter().for_each(|at| self.failures[at] = Some(format!("no answer within {TRY:?}")));
            match self.tries < ROUNDS * self.servers.len() {
                true => self.begin(now, id),
                // What was asked before may still be answered.
                false if now < self.until && self.asked.iter().any(|asked| asked.open) => {}
                false => self.finish(),
            }
        }
    }

    fn begin(&mut self, now: Instant, id: &mut dyn FnMut() -> u16) {
        let at = (self.first + self.tries) % self.servers.len();
        self.tries += 1;
        self.until = now + TRY;
        for family in Family::ALL {
            if self.found[family as usize].is_some() {
                continue;
            }
            let Some(question) = Question::new(&self.name, family, id()) else {
                self.failures[at] = Some("no name that DNS can have".into());
                self.tries = ROUNDS * self.servers.len();
                return self.finish();
            };
            let number = self.asked.len();
            self.asked.push(Asked { at, question, attempt: self.tries, over_tcp: false, strays: 0, open: true });
            self.steps.push_back(Step::Ask(Exchange { number, server: at, over_tcp: false }));
        }
    }

    /// The server that was asked there is the one to begin with next time.
    fn settled_at(&mut self, number: usize) {
        if let Some(asked) = self.asked.get(number) {
            self.first = asked.at;
        }
    }

    fn finish(&mut self) {
        self.over = true;
        let addresses: Vec<IpAddr> = self.found.iter_mut().flatten().flat_map(std::mem::take).collect();
        let result = match (addresses.is_empty(), self.found.iter().all(Option::is_some)) {
            (false, _) => Ok((Found { addresses, ttl: Some(self.ttl) }, self.first)),
            (true, true) if self.unknown => Err("there is no such name".into()),
            (true, true) => Err("the name has no address".into()),
            (true, false) => Err(self.told()),
        };
        self.steps.push_back(Step::Done(result));
    }

    /// What each server did.
    fn told(&self) -> String {
        let told = self.servers.iter().zip(&self.failures);
        let told = told.filter_map(|(server, why)| Some(format!("{server}: {}", why.as_ref()?)));
        told.collect::<Vec<_>>().join("; ")
    }
}

/// Most servers of a lookup.
pub const MAX_SERVERS: usize = 8;
/// Most questions of a lookup.
pub const MAX_EXCHANGES: usize = 2 * ROUNDS * MAX_SERVERS;
/// Messages that answer nothing after which a question is given up.
const MAX_STRAYS: u32 = 64;
/// So many times each server is asked.
const ROUNDS: usize = 2;
/// Time for a server to answer before the next one is asked, too.
const TRY: Duration = Duration::from_millis(1500);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::epoch;

    /// A lookup, the time, and what it wants.
    struct World {
        lookup: Lookup,
        now: Instant,
        ids: u16,
    }

    impl World {
        fn new(servers: &[&str], first: usize) -> World {
            let servers = servers.iter().map(|server| server.to_string()).collect();
            World { lookup: Lookup::new("a.example".into(), &servers, first, epoch()), now: epoch(), ids: 0 }
        }

        /// What it wants after that time.
        fn after(&mut self, time: Duration) -> Vec<Step> {
            self.now += time;
            let ids = &mut self.ids;
            self.lookup.tick(self.now, &mut || {
                *ids += 1;
                *ids
            });
            std::iter::from_fn(|| self.lookup.poll()).collect()
        }

        fn steps(&mut self) -> Vec<Step> {
            self.after(Duration::ZERO)
        }

        /// The server answers a question: so, with these last digits of addresses.
        fn answer(&mut self, number: usize, flags: [u8; 2], addresses: &[u8]) {
            let asked = &self.lookup.asked[number];
            let mut message = asked.question.bytes().to_vec();
            let family = asked.question.family;
            message[2..4].copy_from_slice(&flags);
            message[7] = addresses.len() as u8;
            for last in addresses {
                let (kind, length) = if family == Family::V4 { (1, 4) } else { (28, 16) };
                message.extend([0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 60, 0, length]);
                message.extend(std::iter::repeat_n(1, usize::from(length) - 1).chain([*last]));
            }
            self.lookup.heard(number, &message);
        }
    }

    const GOOD: [u8; 2] = [0x81, 0x80];
    const SERVFAIL: [u8; 2] = [0x81, 0x82];
    const NXDOMAIN: [u8; 2] = [0x81, 0x83];
    const TRUNCATED: [u8; 2] = [0x83, 0x80];

    fn ask(number: usize, server: usize) -> Step {
        Step::Ask(Exchange { number, server, over_tcp: false })
    }

    /// Its addresses' last digits, IPv6 first, and the server.
    fn done(steps: &[Step]) -> (Vec<String>, usize) {
        match steps {
            [Step::Done(Ok((found, server)))] => {
                assert_eq!(found.ttl, Some(Duration::from_secs(60)));
                (found.addresses.iter().map(IpAddr::to_string).collect(), *server)
            }
            other => panic!("{other:?}"),
        }
    }

    const V6: &str = "101:101:101:101:101:101:101:106";

    #[test]
    fn both_families_are_asked_at_once_and_what_is_answered_is_the_end() {
        let mut world = World::new(&["one", "two"], 1);
        assert_eq!(world.steps(), [ask(0, 1), ask(1, 1)]);
        world.answer(1, GOOD, &[4]);
        assert_eq!(world.steps(), [], "IPv6 may come");
        world.answer(0, GOOD, &[6]);
        assert_eq!(done(&world.steps()), (vec![V6.into(), "1.1.1.4".into()], 1));
        assert_eq!(world.after(10 * TRY), [], "it is over once");
    }

    #[test]
    fn numbers_differ_and_an_answer_with_another_is_none() {
        let mut world = World::new(&["one"], 0);
        world.steps();
        let other = world.lookup.asked[0].question.bytes().to_vec();
        world.lookup.heard(1, &other);
        let mut lie = world.lookup.asked[1].question.bytes().to_vec();
        (lie[1], lie[2]) = (lie[1] ^ 1, 0x81);
        world.lookup.heard(1, &lie);
        assert_eq!(world.steps(), []);
        assert!(world.lookup.asked[1].open);
        world.lookup.heard(9, &lie);
        for _ in 2..MAX_STRAYS {
            world.lookup.heard(1, &lie);
        }
        assert!(!world.lookup.asked[1].open, "who guesses has had enough tries");
    }

    #[test]
    fn a_server_that_is_silent_is_followed_by_the_next_and_its_late_answer_counts() {
        let mut world = World::new(&["one", "two"], 0);
        world.steps();
        assert_eq!(world.after(TRY - Duration::from_nanos(1)), []);
        assert_eq!(world.after(Duration::from_nanos(1)), [ask(2, 1), ask(3, 1)]);
        world.answer(0, GOOD, &[]);
        world.answer(1, GOOD, &[4]);
        assert_eq!(done(&world.steps()), (vec!["1.1.1.4".into()], 0));
    }

    #[test]
    fn a_server_that_cannot_tell_is_followed_by_the_next_at_once() {
        let mut world = World::new(&["one", "two"], 0);
        world.steps();
        world.answer(0, SERVFAIL, &[]);
        assert_eq!(world.steps(), [], "it may know the other family");
        world.lookup.lost(1, "connection refused".into());
        assert_eq!(world.steps(), [ask(2, 1), ask(3, 1)]);
        world.answer(3, GOOD, &[4]);
        world.answer(2, SERVFAIL, &[]);
        assert_eq!(done(&world.steps()), (vec!["1.1.1.4".into()], 1), "one family is enough then");
    }

    #[test]
    fn one_family_is_enough_when_the_other_s_time_is_over() {
        let mut world = World::new(&["one", "two"], 0);
        world.steps();
        world.answer(1, GOOD, &[4]);
        assert_eq!(done(&world.after(TRY)), (vec!["1.1.1.4".into()], 0));
    }

    #[test]
    fn what_is_answered_without_an_address_is_not_asked_again() {
        let mut world = World::new(&["one", "two"], 0);
        world.steps();
        world.answer(1, GOOD, &[]);
        assert_eq!(world.after(TRY), [ask(2, 1)]);
        world.answer(2, GOOD, &[]);
        assert_eq!(world.steps(), [Step::Done(Err("the name has no address".into()))]);
    }

    #[test]
    fn a_name_that_does_not_exist_has_no_family_at_all() {
        let mut world = World::new(&["one", "two"], 0);
        world.steps();
        world.answer(0, NXDOMAIN, &[]);
        assert_eq!(world.steps(), [Step::Done(Err("there is no such name".into()))]);
    }

    #[test]
    fn an_answer_that_is_cut_short_is_asked_for_over_tcp_once() {
        let mut world = World::new(&["one"], 0);
        world.steps();
        world.answer(0, GOOD, &[]);
        world.answer(1, TRUNCATED, &[]);
        assert_eq!(world.steps(), [Step::Ask(Exchange { number: 1, server: 0, over_tcp: true })]);
        world.answer(1, GOOD, &[4]);
        assert_eq!(done(&world.steps()), (vec!["1.1.1.4".into()], 0));
        let mut world = World::new(&["one"], 0);
        world.steps();
        world.answer(1, TRUNCATED, &[]);
        world.steps();
        world.answer(1, TRUNCATED, &[]);
        assert!(!world.lookup.asked[1].open);
    }

    #[test]
    fn after_two_rounds_it_is_told_what_each_server_did() {
        let mut world = World::new(&["one", "two"], 0);
        let (mut asked, mut pause) = (0, Duration::ZERO);
        loop {
            for step in world.after(std::mem::replace(&mut pause, TRY)) {
                match step {
                    Step::Ask(Exchange { number, server, .. }) => {
                        asked += 1;
                        if server == 1 {
                            world.answer(number, SERVFAIL, &[]);
                            pause = Duration::ZERO;
                        }
                    }
                    Step::Done(result) => {
                        let why = "one: no answer within 1.5s; two: it answers SERVFAIL";
                        return assert_eq!((asked, result), (4 * ROUNDS, Err(why.to_owned())));
                    }
                }
            }
        }
    }

    #[test]
    fn the_last_try_waits_for_what_was_asked_before() {
        let mut world = World::new(&["one"], 0);
        world.steps();
        world.after(TRY);
        world.lookup.lost(2, "no".into());
        world.lookup.lost(3, "no".into());
        assert_eq!(world.steps(), []);
        world.answer(0, GOOD, &[6]);
        world.answer(1, GOOD, &[]);
        assert_eq!(done(&world.steps()).0, [V6]);
    }

    #[test]
    fn what_no_name_can_be_is_not_asked() {
        let servers = ["one".to_owned()].into();
        let mut lookup = Lookup::new("a".repeat(64), &servers, 0, epoch());
        lookup.tick(epoch(), &mut || 1);
        assert!(matches!(lookup.poll(), Some(Step::Done(Err(_)))));
        lookup.tick(epoch(), &mut || 1);
        assert_eq!(lookup.poll(), None);
    }
}
