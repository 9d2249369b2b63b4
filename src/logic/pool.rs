//! The pool of one tunnel: which connections are idle, and which users of the peer's wait for theirs.
//!
//! ```text
//!  opened(id, home)   gone(id)  ended(id)   a connection is ready; it died; its peer ended its direction
//!  returned(id, home)                       its user has left, and it is ready for another
//!  take() -> Taken                          any connection, for a user (ingress)
//!  claim(id, launch)  poll() -> Grant       that connection, for a launch of the peer's (egress)
//!  late(now)  unclaimed(now)                launches that waited too long; connections for which none came
//! ```
//!
//! Only ids and homes are kept here; the sockets stay with the worker that made them.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::{Duration, Instant};

use super::expiring::Expiring;
use super::loads::Loads;
use super::wire::{Fingerprint, Id};

/// A pool whose connections live at homes `H`, and the launches `L` that wait for one of them.
///
/// An id is in one place at most: idle, taken for the certificate check, lingering, or waited for by a launch.
pub struct Pool<H, L> {
    idle: HashMap<Id, Idle<H>>,
    /// Idle ids by home worker, newest last, or in no order. Ids that were taken by name stay until they are met or swept.
    stacks: Vec<Vec<Id>>,
    /// Taken for the certificate check; closed by the side that is last.
    proving: HashMap<Id, Place<H>>,
    /// Not idle any more, but a launch for them may be on its way: the peer ended its direction, we flushed the pool, or have enough.
    lingering: Expiring<Id, Place<H>>,
    /// What we know of connections that are gone: a `verify` may come late.
    gone: VecDeque<(Id, Option<Fingerprint>)>,
    launches: Expiring<Id, L>,
    grants: VecDeque<Grant<H, L>>,
    /// Those that have users, where a peer may name them again.
    in_use: Option<InUse<H>>,
    /// Connections that left and have not been replaced.
    vacant: usize,
    mixed: bool,
    timeout: Duration,
    max_idle: usize,
    max_waiting: usize,
}

/// Where a connection lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place<H> {
    home: H,
    worker: usize,
}

struct Idle<H> {
    place: Place<H>,
    fp: Option<Fingerprint>,
}

/// An idle connection that was taken for a user.
#[derive(Debug, PartialEq, Eq)]
pub struct Taken<H> {
    /// The connection.
    pub id: Id,
    /// Where it lives.
    pub home: H,
    /// The worker that this is.
    pub worker: usize,
}

/// A connection for a launch.
#[derive(Debug, PartialEq, Eq)]
pub struct Grant<H, L> {
    /// Its id.
    pub id: Id,
    /// Where the connection lives.
    pub home: H,
    /// The worker that this is.
    pub worker: usize,
    /// What it is for.
    pub launch: L,
}

/// What is known of a connection that the peer names.
#[derive(Debug, PartialEq, Eq)]
pub struct Named<H> {
    /// The fingerprint of the certificate that it was made with.
    pub fp: Option<Fingerprint>,
    /// Where it lives, if it has to be closed now.
    pub home: Option<H>,
}

impl<H: Copy + Eq + Hash, L> Pool<H, L> {
    /// An empty pool over `workers` workers, with room for `max_idle` idle connections. `timeout` is how long launches and
    /// connections wait for each other (`NP_POOL_GET_TIMEOUT`), `max_waiting` how many launches may (`NP_SEMAPHORE_LIMIT`).
    pub fn new(workers: usize, max_idle: usize, timeout: Duration, max_waiting: usize) -> Pool<H, L> {
        Pool {
            idle: HashMap::new(),
            stacks: vec![Vec::new(); workers],
            proving: HashMap::new(),
            lingering: Expiring::default(),
            gone: VecDeque::new(),
            launches: Expiring::default(),
            grants: VecDeque::new(),
            in_use: None,
            vacant: 0,
            mixed: false,
            timeout,
            max_idle,
            max_waiting,
        }
    }

    /// The same; `so` says that a peer uses connections again, so that a launch may name one that has a user here.
    pub fn used_again(self, so: bool) -> Pool<H, L> {
        Pool { in_use: so.then(InUse::default), ..self }
    }

    /// The same; `so` says that several connections carry the streams that it is of. They come in groups of one, so users get them in no
    /// order: else many users would share the window of one.
    pub fn mixed(self, so: bool) -> Pool<H, L> {
        Pool { mixed: so, ..self }
    }

    /// A user of the connection at that home has left.
    pub fn released(&mut self, home: H) {
        self.in_use.iter_mut().for_each(|in_use| in_use.released(home));
    }

    /// Which launch gets which connection, until `None`.
    pub fn poll(&mut self) -> Option<Grant<H, L>> {
        self.grants.pop_front()
    }

    /// Idle connections.
    pub fn idle(&self) -> usize {
        self.idle.len()
    }

    /// Whether one more idle connection is welcome.
    pub fn has_room(&self) -> bool {
        self.idle.len() < self.max_idle
    }

    /// Whether `id` is in use in this tunnel, as far as the pool can tell.
    pub fn knows(&self, id: Id) -> bool {
        self.idle.contains_key(&id)
            || self.proving.contains_key(&id)
            || self.lingering.contains(&id)
            || self.launches.contains(&id)
    }

    /// A connection is ready. A launch that waits for it gets it at once.
    ///
    /// A second connection under a known id is a lie of the peer's; `Err` gives its home back to be closed.
    pub fn opened(&mut self, id: Id, home: H, worker: usize, fp: Option<Fingerprint>) -> Result<(), H> {
        if self.idle.contains_key(&id) || self.proving.contains_key(&id) {
            return Err(home);
        }
        let place = Place { home, worker };
        if let Some(launch) = self.launches.remove(&id) {
            self.remember(id, fp);
            self.grant(id, place, launch);
            return Ok(());
        }
        self.idle.insert(id, Idle { place, fp });
        let stack = &mut self.stacks[worker];
        stack.push(id);
        if self.mixed {
            // Ids are random numbers.
            let last = stack.len() - 1;
            stack.swap(u32::from_be_bytes(id.0) as usize % (last + 1), last);
        }
        self.sweep(worker);
        Ok(())
    }

    /// A connection that was taken is free for another user; `behind` has it wait behind others.
    pub fn returned(&mut self, id: Id, home: H, worker: usize, behind: bool) -> Result<(), H> {
        self.vacant = self.vacant.saturating_sub(1);
        self.opened(id, home, worker, None)?;
        if behind && self.stacks[worker].last() == Some(&id) {
            self.stacks[worker].rotate_right(1);
        }
        Ok(())
    }

    /// Takes the newest idle connection, or any where they are mixed, at the least busy worker that has one, for a user of TCP or of UDP.
    pub fn take(&mut self, udp: bool, loads: &Loads) -> Option<Taken<H>> {
        for stack in &mut self.stacks {
            while stack.last().is_some_and(|id| !self.idle.contains_key(id)) {
                stack.pop();
            }
        }
        let workers = (0..self.stacks.len()).filter(|&worker| !self.stacks[worker].is_empty());
        let worker = loads.least_busy(udp, workers)?;
        let id = self.stacks[worker].pop()?;
        let idle = self.leave(id)?;
        self.vacate();
        Some(Taken { id, home: idle.place.home, worker })
    }

    /// A launch names its connection: it gets that one, or waits for it.
    ///
    /// `Err` gives the launch back: too many wait, or one waits for that id already.
    pub fn claim(&mut self, id: Id, launch: L, now: Instant) -> Result<(), L> {
        if let Some(idle) = self.leave(id) {
            self.vacate();
            self.grant(id, idle.place, launch);
            return Ok(());
        }
        // One that we took for our check while the peer gave it to a user: the user comes first, the check needs only its id.
        let place = self.lingering.remove(&id).or_else(|| self.proving.remove(&id));
        if let Some(place) = place.or_else(|| self.in_use.as_ref()?.place(id)) {
            self.grant(id, place, launch);
            return Ok(());
        }
        if self.launches.len() >= self.max_waiting || self.launches.contains(&id) {
            return Err(launch);
        }
        self.launches.insert(id, launch, now + self.timeout);
        Ok(())
    }

    /// The peer ended its direction of an idle connection. It may be that of a user who had nothing to say, and whose launch
    /// is still on its way: the connection stays claimable for a while, but is idle no more.
    pub fn ended(&mut self, id: Id, now: Instant) {
        if let Some(idle) = self.leave(id) {
            self.vacate();
            self.linger(id, idle.place, now);
        } else if let Some(place) = self.proving.remove(&id) {
            // Mostly the peer has checked it and is done with it.
            self.linger(id, place, now);
        }
    }

    /// An idle connection died.
    pub fn gone(&mut self, id: Id) {
        self.proving.remove(&id);
        self.lingering.remove(&id);
        if self.leave(id).is_some() {
            self.vacate();
        }
    }

    /// Takes the newest connection for the certificate check; the other side will close it.
    ///
    /// The newest, since an original picks the oldest: so both rarely pick the same.
    pub fn prove(&mut self, loads: &Loads) -> Option<(Id, Option<Fingerprint>)> {
        let Taken { id, home, worker } = self.take(false, loads)?;
        self.proving.insert(id, Place { home, worker });
        Some((id, self.gone.back().and_then(|(_, fp)| *fp)))
    }

    /// What we know of the connection that the peer took for its check. `None` if it was never seen (yet).
    pub fn verify(&mut self, id: Id) -> Option<Named<H>> {
        let place = self.leave(id).map(|idle| idle.place);
        let place = place.or_else(|| self.proving.remove(&id)).or_else(|| self.lingering.remove(&id));
        let fp = self.gone.iter().rev().find(|(gone, _)| *gone == id).map(|(_, fp)| *fp)?;
        Some(Named { fp, home: place.map(|place| place.home) })
    }

    /// Drops all idle connections; their homes are to be closed.
    pub fn flush(&mut self) -> Vec<H> {
        self.all_idle().into_iter().map(|(_, place)| place.home).collect()
    }

    /// Drops all idle connections at the side that dials: launches for them may be on their way, so they linger.
    pub fn flush_late(&mut self, now: Instant) {
        for (id, place) in self.all_idle() {
            self.linger(id, place, now);
        }
    }

    /// Gives up so many idle connections, those that have waited longest: their homes are to be closed.
    pub fn shed(&mut self, count: usize) -> Vec<H> {
        self.oldest(count).into_iter().map(|(_, place)| place.home).collect()
    }

    /// The same at the side that dials: launches for them may be on their way, so they linger.
    pub fn shed_late(&mut self, count: usize, now: Instant) {
        for (id, place) in self.oldest(count) {
            self.linger(id, place, now);
        }
    }

    /// A launch that has waited too long, and for which connection, until `None`.
    pub fn late(&mut self, now: Instant) -> Option<(Id, L)> {
        self.launches.expired(now)
    }

    /// Whether launches wait for connections.
    pub fn awaits(&self) -> bool {
        self.launches.deadline().is_some()
    }

    /// The peer finds that connection dead. Its home, if no user of the peer's has it.
    pub fn withdraw(&mut self, id: Id) -> Option<H> {
        let idle = self.leave(id).map(|idle| idle.place);
        idle.iter().for_each(|_| self.vacate());
        let place = idle.or_else(|| self.lingering.remove(&id)).or_else(|| self.proving.remove(&id));
        place.map(|place| place.home)
    }

    /// The launch that waits for a connection that will not come.
    pub fn forget(&mut self, id: Id) -> Option<L> {
        self.launches.remove(&id)
    }

    /// Whether that connection is idle.
    pub fn is_idle(&self, id: Id) -> bool {
        self.idle.contains_key(&id)
    }

    /// A connection for which no launch came and whose home is to be closed, until `None`.
    pub fn unclaimed(&mut self, now: Instant) -> Option<H> {
        self.lingering.expired(now).map(|(_, place)| place.home)
    }

    /// When a launch or a connection will have waited too long.
    pub fn deadline(&self) -> Option<Instant> {
        self.launches.deadline().into_iter().chain(self.lingering.deadline()).min()
    }

    /// The worker for the next connection. The first fill goes to each in turn; what takes the place of a connection that
    /// users took goes to the least busy one: with few users that is always the same, and no other has to be woken.
    pub fn next_worker(&mut self, loads: &mut Loads) -> usize {
        if self.vacant > 0 {
            self.vacant -= 1;
            return loads.quietest(false);
        }
        loads.next_in_turn()
    }

    /// After a crowd has gone, memory that it took is given back.
    pub fn shrink(&mut self) {
        let room = 2 * self.idle.len() + MAX_GONE;
        self.idle.shrink_to(room);
        self.launches.shrink_to(room);
        self.lingering.shrink_to(room);
        self.grants.shrink_to(room);
        self.stacks.iter_mut().for_each(|stack| stack.shrink_to(room));
        if let Some(InUse { places, users }) = &mut self.in_use {
            places.shrink_to(2 * places.len() + MAX_GONE);
            users.shrink_to(2 * users.len() + MAX_GONE);
        }
    }

    fn grant(&mut self, id: Id, Place { home, worker }: Place<H>, launch: L) {
        self.in_use.iter_mut().for_each(|in_use| in_use.granted(id, Place { home, worker }));
        self.grants.push_back(Grant { id, home, worker, launch });
    }

    fn linger(&mut self, id: Id, place: Place<H>, now: Instant) {
        self.lingering.insert(id, place, now + self.timeout);
    }

    fn vacate(&mut self) {
        self.vacant = (self.vacant + 1).min(self.max_idle);
    }

    /// Takes an idle connection out; what it was made with is remembered.
    fn leave(&mut self, id: Id) -> Option<Idle<H>> {
        let idle = self.idle.remove(&id)?;
        self.remember(id, idle.fp);
        Some(idle)
    }

    fn all_idle(&mut self) -> Vec<(Id, Place<H>)> {
        self.stacks.iter_mut().for_each(Vec::clear);
        let idle = std::mem::take(&mut self.idle);
        idle.into_iter()
            .map(|(id, idle)| {
                self.remember(id, idle.fp);
                (id, idle.place)
            })
            .collect()
    }

    /// Takes so many of those out that have waited longest.
    fn oldest(&mut self, count: usize) -> Vec<(Id, Place<H>)> {
        let mut taken = Vec::new();
        for stack in &mut self.stacks {
            stack.retain(|id| self.idle.contains_key(id));
        }
        while taken.len() < count {
            let Some(stack) = self.stacks.iter_mut().max_by_key(|stack| stack.len()).filter(|stack| !stack.is_empty())
            else {
                break;
            };
            let id = stack.remove(0);
            taken.extend(self.leave(id).map(|idle| (id, idle.place)));
        }
        taken
    }

    fn remember(&mut self, id: Id, fp: Option<Fingerprint>) {
        if self.gone.len() >= MAX_GONE {
            self.gone.pop_front();
        }
        self.gone.push_back((id, fp));
    }

    /// Forgets stale ids of a stack once they are the larger part of it.
    fn sweep(&mut self, worker: usize) {
        if self.stacks[worker].len() > 2 * self.idle.len() + MAX_GONE {
            let idle = &self.idle;
            self.stacks[worker].retain(|id| idle.contains_key(id));
        }
    }
}

/// Pool connections that have users of the peer's. One may have two for a moment: the peer has taken leave of the first, which this side
/// does not know before the second comes.
struct InUse<H> {
    places: HashMap<Id, Place<H>>,
    users: HashMap<H, (Id, usize)>,
}

impl<H> Default for InUse<H> {
    fn default() -> Self {
        InUse { places: HashMap::new(), users: HashMap::new() }
    }
}

impl<H: Copy + Eq + Hash> InUse<H> {
    fn place(&self, id: Id) -> Option<Place<H>> {
        self.places.get(&id).copied()
    }

    fn granted(&mut self, id: Id, place: Place<H>) {
        self.places.insert(id, place);
        self.users.entry(place.home).or_insert((id, 0)).1 += 1;
    }

    fn released(&mut self, home: H) {
        let Some((id, users)) = self.users.get_mut(&home) else { return };
        *users -= 1;
        if *users == 0 {
            self.places.remove(id);
            self.users.remove(&home);
        }
    }
}

/// How many connections that are gone are remembered for a late `verify`.
const MAX_GONE: usize = 256;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::testing::Dice;

    type Sut = Pool<u32, &'static str>;

    fn id(n: u8) -> Id {
        Id([9, 9, 9, n])
    }

    fn pool(workers: usize) -> Sut {
        Pool::new(workers, 4, Duration::from_secs(5), 100)
    }

    /// Which launch was granted which home.
    fn grants(pool: &mut Sut) -> Vec<(&'static str, u32)> {
        std::iter::from_fn(|| pool.poll()).map(|grant| (grant.launch, grant.home)).collect()
    }

    /// The home of the connection that a user gets.
    fn taken(pool: &mut Sut, loads: &mut Loads) -> Option<u32> {
        let taken = pool.take(false, loads)?;
        loads.begin(taken.worker);
        Some(taken.home)
    }

    #[test]
    fn streams_that_came_in_groups_are_given_to_users_in_no_order() {
        let mut dice = Dice(20_261_130);
        let mut pool = Sut::new(1, 64, Duration::from_secs(5), 100).mixed(true);
        for stream in 0..64 {
            pool.opened(Id((dice.next() as u32).to_be_bytes()), stream, 0, None).unwrap();
        }
        let mut loads = Loads::new(1);
        let groups: HashSet<u32> = (0..8).map(|_| taken(&mut pool, &mut loads).unwrap() / 16).collect();
        assert!(groups.len() >= 3, "{groups:?}");
        let rest = std::iter::from_fn(|| taken(&mut pool, &mut loads)).count();
        assert_eq!(rest, 56);
    }

    #[test]
    fn a_connection_that_has_a_user_is_granted_again_where_the_peer_uses_it_again() {
        let now = Instant::now();
        let mut pool = pool(1).used_again(true);
        pool.opened(id(1), 11, 0, None).unwrap();
        let granted = |pool: &mut Sut, launch| pool.claim(id(1), launch, now).is_ok() && pool.poll().is_some();
        for launch in ["first", "second", "third"] {
            assert!(granted(&mut pool, launch), "{launch}");
        }
        pool.released(11);
        pool.released(11);
        assert!(granted(&mut pool, "fourth"), "the third is still there");
        pool.released(11);
        pool.released(11);
        assert!(!granted(&mut pool, "fifth"), "the connection has ended with its last user");
        assert_eq!(pool.late(now + Duration::from_secs(5)), Some((id(1), "fifth")));
    }

    #[test]
    fn a_connection_that_has_a_user_is_not_granted_again_elsewhere() {
        let mut pool = pool(1);
        pool.opened(id(1), 11, 0, None).unwrap();
        for launch in ["first", "second"] {
            pool.claim(id(1), launch, Instant::now()).unwrap();
        }
        assert!(pool.poll().is_some() && pool.poll().is_none());
        pool.released(11);
    }

    #[test]
    fn the_newest_connection_at_the_least_busy_worker_is_taken() {
        let (mut pool, mut loads) = (pool(2), Loads::new(2));
        for (n, worker) in [(1, 0), (2, 0), (3, 1)] {
            assert_eq!(pool.opened(id(n), n.into(), worker, None), Ok(()));
        }
        assert_eq!(taken(&mut pool, &mut loads), Some(2));
        loads.begin(0);
        loads.begin(0);
        assert_eq!([(); 3].map(|()| taken(&mut pool, &mut loads)), [Some(3), Some(1), None]);
    }

    #[test]
    fn the_first_fill_goes_to_each_worker_in_turn_and_replacements_to_the_least_busy() {
        let (mut pool, mut loads) = (pool(3), Loads::new(3));
        assert_eq!([(); 4].map(|()| pool.next_worker(&mut loads)), [1, 2, 0, 1]);
        pool.opened(id(1), 1, 2, None).unwrap();
        taken(&mut pool, &mut loads).unwrap();
        assert_eq!(pool.next_worker(&mut loads), 0);
        assert_eq!(pool.next_worker(&mut loads), 2, "in turn again");
    }

    #[test]
    fn a_connection_whose_user_has_left_is_there_for_the_next_one() {
        let (mut pool, mut loads) = (pool(2), Loads::new(2));
        pool.opened(id(1), 1, 1, None).unwrap();
        for _ in 0..3 {
            assert_eq!((taken(&mut pool, &mut loads), taken(&mut pool, &mut loads)), (Some(1), None));
            pool.returned(id(1), 1, 1, false).unwrap();
        }
        assert_eq!(pool.returned(id(1), 1, 1, false), Err(1), "twice");
        assert_eq!(pool.next_worker(&mut loads), 1, "in turn: nothing is missing");
        pool.opened(id(2), 2, 1, None).unwrap();
        assert_eq!(taken(&mut pool, &mut loads), Some(2));
        pool.returned(id(2), 2, 1, true).unwrap();
        assert_eq!((taken(&mut pool, &mut loads), taken(&mut pool, &mut loads)), (Some(1), Some(2)), "behind others");
    }

    #[test]
    fn those_that_have_waited_longest_are_given_up_first_and_linger_where_launches_may_come() {
        let (mut pool, now) = (pool(2), Instant::now());
        for n in 1..=4 {
            pool.opened(id(n), n.into(), usize::from(n) % 2, None).unwrap();
        }
        assert_eq!(pool.shed(1), [1], "of the last worker of those with as many");
        pool.shed_late(2, now);
        assert_eq!(pool.idle(), 1);
        pool.claim(id(2), "x", now).unwrap();
        assert_eq!(grants(&mut pool), [("x", 2)]);
        assert_eq!(pool.shed(9), [4]);
        assert_eq!(pool.unclaimed(now + Duration::from_secs(5)), Some(3));
    }

    #[test]
    fn a_launch_may_come_before_its_connection() {
        let (mut pool, now) = (pool(1), Instant::now());
        assert_eq!(pool.claim(id(1), "x", now), Ok(()));
        assert_eq!(pool.claim(id(1), "y", now), Err("y"));
        assert_eq!(grants(&mut pool), []);
        assert_eq!(pool.opened(id(1), 1, 0, None), Ok(()));
        assert_eq!(pool.opened(id(2), 2, 0, None), Ok(()));
        assert_eq!(pool.claim(id(2), "z", now), Ok(()));
        assert_eq!(grants(&mut pool), [("x", 1), ("z", 2)]);
    }

    #[test]
    fn launches_wait_for_a_while() {
        let (mut pool, now) = (pool(1), Instant::now());
        let late = now + Duration::from_secs(5);
        pool.claim(id(1), "x", now).unwrap();
        assert_eq!((pool.deadline(), pool.late(now)), (Some(late), None));
        assert_eq!((pool.late(late), pool.late(late), pool.deadline()), (Some((id(1), "x")), None, None));
    }

    #[test]
    fn launches_that_wait_are_bounded() {
        let (mut pool, now) = (pool(1), Instant::now());
        for n in 0..100u32 {
            assert_eq!(pool.claim(Id(n.to_be_bytes()), "x", now), Ok(()));
        }
        assert_eq!(pool.claim(Id([255; 4]), "y", now), Err("y"));
    }

    #[test]
    fn an_id_that_comes_twice_is_turned_away() {
        let mut pool = pool(1);
        assert_eq!(pool.opened(id(1), 1, 0, None), Ok(()));
        assert_eq!(pool.opened(id(1), 2, 0, None), Err(2));
    }

    #[test]
    fn a_dead_connection_is_not_granted_but_its_fingerprint_is_remembered() {
        let (mut pool, fp) = (pool(1), Some(Fingerprint::of(b"leaf")));
        pool.opened(id(1), 1, 0, fp).unwrap();
        pool.gone(id(1));
        assert_eq!(pool.take(false, &Loads::new(1)), None);
        assert_eq!(pool.verify(id(1)), Some(Named { fp, home: None }));
        assert_eq!(pool.verify(id(7)), None);
    }

    #[test]
    fn a_connection_whose_user_had_nothing_to_say_can_be_claimed_for_a_while() {
        let (mut pool, now) = (pool(1), Instant::now());
        for n in 1..=2 {
            pool.opened(id(n), n.into(), 0, None).unwrap();
            pool.ended(id(n), now);
        }
        assert_eq!(pool.idle(), 0);
        pool.claim(id(1), "user", now).unwrap();
        assert_eq!(grants(&mut pool), [("user", 1)]);
        let late = now + Duration::from_secs(5);
        assert_eq!(pool.deadline(), Some(late));
        assert_eq!(pool.unclaimed(now), None);
        assert_eq!((pool.unclaimed(late), pool.unclaimed(late)), (Some(2), None));
        assert_eq!(pool.deadline(), None);
    }

    #[test]
    fn the_connection_of_our_check_is_given_up_when_the_peer_has_closed_it() {
        let (mut pool, now) = (pool(1), Instant::now());
        pool.opened(id(1), 1, 0, Some(Fingerprint::of(b"leaf"))).unwrap();
        pool.prove(&Loads::new(1)).unwrap();
        pool.ended(id(1), now);
        assert_eq!(pool.unclaimed(now + Duration::from_secs(5)), Some(1));
    }

    #[test]
    fn a_flush_of_ours_does_not_cut_users_whose_launch_is_on_its_way() {
        let (mut pool, now) = (pool(1), Instant::now());
        pool.opened(id(1), 1, 0, None).unwrap();
        pool.flush_late(now);
        assert_eq!(pool.idle(), 0);
        pool.claim(id(1), "user", now).unwrap();
        assert_eq!(grants(&mut pool), [("user", 1)]);
    }

    #[test]
    fn both_sides_may_take_the_same_connection_for_their_check() {
        let (mut pool, fp) = (pool(1), Some(Fingerprint::of(b"leaf")));
        pool.opened(id(1), 1, 0, fp).unwrap();
        assert_eq!(pool.prove(&Loads::new(1)), Some((id(1), fp)));
        assert_eq!(pool.idle(), 0);
        assert_eq!(pool.verify(id(1)), Some(Named { fp, home: Some(1) }));
        assert_eq!(pool.verify(id(1)), Some(Named { fp, home: None }));
    }

    #[test]
    fn a_user_whom_the_peer_gives_the_connection_of_our_check_gets_it() {
        let (mut pool, fp) = (pool(1), Some(Fingerprint::of(b"leaf")));
        pool.opened(id(1), 1, 0, fp).unwrap();
        pool.prove(&Loads::new(1)).unwrap();
        assert_eq!(pool.claim(id(1), "user", Instant::now()), Ok(()));
        assert_eq!(grants(&mut pool), [("user", 1)]);
        assert_eq!(pool.verify(id(1)), Some(Named { fp, home: None }));
    }

    #[test]
    fn stale_ids_do_not_pile_up() {
        let (mut pool, now) = (pool(1), Instant::now());
        for n in 0..100_000u32 {
            let id = Id((n + 1).to_be_bytes());
            pool.opened(id, n, 0, None).unwrap();
            assert!(pool.claim(id, "x", now).is_ok());
            assert!(pool.poll().is_some());
        }
        assert!(pool.stacks[0].len() <= MAX_GONE + 3, "{}", pool.stacks[0].len());
    }
}
