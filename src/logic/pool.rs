//! The pool: which connections wait for users, and which users wait for connections.
//!
//! ```text
//!  opened(id, home)   gone(id)  ended(id) a connection is ready; it died; its peer ended its direction
//!  take(user)         claim(id, launch)   any connection for a user (ingress); that one for a launch (egress)
//!  poll -> Grant      expired -> late     who gets which; who waited too long
//! ```
//!
//! Only ids and homes are kept here; the sockets stay with the worker that made them.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::{Duration, Instant};

use super::wire::{Fingerprint, Id};

/// A pool whose connections live at homes `H` and whose waiting users (or launches) are `U`.
pub struct Pool<H, U> {
    idle: HashMap<Id, Idle<H>>,
    /// Idle ids by home worker, newest last. Ids that were taken by name stay until they are met or swept.
    stacks: Vec<Vec<Id>>,
    /// Live relays by worker: a user goes to the least busy one.
    busy: Vec<usize>,
    /// Taken for the certificate check; closed by whoever is last.
    proving: HashMap<Id, (H, usize)>,
    /// Not idle any more, but a launch for them may be on its way: the peer ended its direction, or we flushed the pool.
    lingering: HashMap<Id, Lingering<H>>,
    /// What we know of connections that are gone: a `verify` may come late.
    gone: VecDeque<(Id, Option<Fingerprint>)>,
    users: VecDeque<(Instant, U)>,
    launches: HashMap<Id, (Instant, U)>,
    grants: VecDeque<Grant<H, U>>,
    /// Users are served: the tunnel is up and its certificate check has passed.
    serving: bool,
    /// The worker that the last connection went to.
    turn: usize,
    /// Connections that left and have not been replaced.
    vacant: usize,
    timeout: Duration,
    most: usize,
    most_waiting: usize,
}

struct Lingering<H> {
    home: H,
    worker: usize,
    until: Instant,
}

struct Idle<H> {
    home: H,
    worker: usize,
    fp: Option<Fingerprint>,
}

/// A connection for a user.
#[derive(Debug, PartialEq, Eq)]
pub struct Grant<H, U> {
    /// The connection.
    pub id: Id,
    /// Where it lives.
    pub home: H,
    /// Who gets it.
    pub user: U,
}

impl<H: Copy + Eq + Hash, U> Pool<H, U> {
    /// An empty pool over `workers` workers. `timeout` is how long users wait for a connection (`NP_POOL_GET_TIMEOUT`),
    /// `most_waiting` how many launches may wait for theirs (`NP_SEMAPHORE_LIMIT`).
    pub fn new(workers: usize, timeout: Duration, most_waiting: usize) -> Pool<H, U> {
        Pool {
            idle: HashMap::new(),
            stacks: vec![Vec::new(); workers],
            busy: vec![0; workers],
            proving: HashMap::new(),
            lingering: HashMap::new(),
            gone: VecDeque::new(),
            users: VecDeque::new(),
            launches: HashMap::new(),
            grants: VecDeque::new(),
            serving: false,
            turn: 0,
            vacant: 0,
            timeout,
            most: 0,
            most_waiting,
        }
    }

    /// A tunnel begins, with room for `most` idle connections. Users that wait already go on waiting.
    pub fn begin(&mut self, most: usize) {
        self.end();
        self.most = most;
    }

    /// The tunnel is over: nothing of it is kept. Its launches are given back, users go on waiting for the next one.
    pub fn end(&mut self) -> Vec<U> {
        self.serving = false;
        self.idle.clear();
        self.stacks.iter_mut().for_each(Vec::clear);
        self.busy.iter_mut().for_each(|count| *count = 0);
        self.proving.clear();
        self.lingering.clear();
        self.gone.clear();
        self.vacant = 0;
        self.turn = 0;
        let grants = std::mem::take(&mut self.grants).into_iter().map(|grant| grant.user);
        grants.chain(std::mem::take(&mut self.launches).into_values().map(|(_, launch)| launch)).collect()
    }

    /// From now on users get connections; until then they wait.
    pub fn serve(&mut self) {
        self.serving = true;
    }

    /// Who gets which connection, until `None`.
    pub fn poll(&mut self) -> Option<Grant<H, U>> {
        if let Some(grant) = self.grants.pop_front() {
            return Some(grant);
        }
        if !self.serving || self.users.is_empty() {
            return None;
        }
        let (id, home, worker) = self.newest()?;
        let (_, user) = self.users.pop_front()?;
        self.busy[worker] += 1;
        Some(Grant { id, home, user })
    }

    /// Idle connections.
    pub fn idle(&self) -> usize {
        self.idle.len()
    }

    /// Whether one more idle connection is welcome.
    pub fn has_room(&self) -> bool {
        self.idle.len() < self.most
    }

    /// Whether `id` is in use in this tunnel, as far as the pool can tell.
    pub fn knows(&self, id: Id) -> bool {
        self.idle.contains_key(&id)
            || self.proving.contains_key(&id)
            || self.lingering.contains_key(&id)
            || self.launches.contains_key(&id)
    }

    /// A connection is ready. Whoever waits for it, or for any, gets it at once.
    ///
    /// A second connection under a known id is a lie of the peer's; `Err` gives its home back to be closed.
    pub fn opened(&mut self, id: Id, home: H, worker: usize, fp: Option<Fingerprint>) -> Result<(), H> {
        if self.idle.contains_key(&id) || self.proving.contains_key(&id) {
            return Err(home);
        }
        if let Some((_, user)) = self.launches.remove(&id) {
            self.remember(id, fp);
            self.grant(id, home, worker, user);
            return Ok(());
        }
        self.idle.insert(id, Idle { home, worker, fp });
        self.stacks[worker].push(id);
        self.sweep(worker);
        Ok(())
    }

    /// A user wants any connection: the newest at the least busy worker, or he waits.
    pub fn take(&mut self, user: U, now: Instant) {
        self.users.push_back((now + self.timeout, user));
    }

    fn grant(&mut self, id: Id, home: H, worker: usize, user: U) {
        self.busy[worker] += 1;
        self.grants.push_back(Grant { id, home, user });
    }

    /// A launch names its connection: that one, or it waits for it.
    ///
    /// `Err` gives the launch back: too many wait, or one waits for that id already.
    pub fn claim(&mut self, id: Id, launch: U, now: Instant) -> Result<(), U> {
        if let Some(idle) = self.idle.remove(&id) {
            self.remember(id, idle.fp);
            self.vacate();
            self.grant(id, idle.home, idle.worker, launch);
            return Ok(());
        }
        if let Some(lingering) = self.lingering.remove(&id) {
            self.grant(id, lingering.home, lingering.worker, launch);
            return Ok(());
        }
        // We took it for our check while the peer gave it to a user: the user comes first, the check needs only its id.
        if let Some((home, worker)) = self.proving.remove(&id) {
            self.grant(id, home, worker, launch);
            return Ok(());
        }
        if self.launches.len() >= self.most_waiting || self.launches.contains_key(&id) {
            return Err(launch);
        }
        self.launches.insert(id, (now + self.timeout, launch));
        Ok(())
    }

    /// A granted connection's relay has ended.
    pub fn done(&mut self, worker: usize) {
        self.busy[worker] = self.busy[worker].saturating_sub(1);
    }

    /// The peer ended its direction of an idle connection. It may be a user's who had nothing to say, and whose launch is
    /// still on its way: the connection stays claimable for a while, but is idle no more.
    pub fn ended(&mut self, id: Id, now: Instant) {
        if let Some(idle) = self.idle.remove(&id) {
            self.remember(id, idle.fp);
            self.vacate();
            self.linger(id, idle.home, idle.worker, now);
        } else if let Some((home, worker)) = self.proving.remove(&id) {
            // Mostly the peer has checked it and is done with it.
            self.linger(id, home, worker, now);
        }
    }

    fn linger(&mut self, id: Id, home: H, worker: usize, now: Instant) {
        self.lingering.insert(id, Lingering { home, worker, until: now + self.timeout });
    }

    /// Connections for which no launch came; their homes are to be closed.
    pub fn unclaimed(&mut self, now: Instant) -> Vec<H> {
        let late = |lingering: &Lingering<H>| lingering.until <= now;
        let homes =
            self.lingering.values().filter(|lingering| late(lingering)).map(|lingering| lingering.home).collect();
        self.lingering.retain(|_, lingering| !late(lingering));
        homes
    }

    /// An idle connection died.
    pub fn gone(&mut self, id: Id) {
        self.proving.remove(&id);
        self.lingering.remove(&id);
        if let Some(idle) = self.idle.remove(&id) {
            self.remember(id, idle.fp);
            self.vacate();
        }
    }

    /// Takes the newest connection for the certificate check, which its other side will close.
    ///
    /// The newest, since an original picks the oldest: so both rarely pick the same.
    pub fn prove(&mut self) -> Option<(Id, Option<Fingerprint>)> {
        let (id, home, worker) = self.newest()?;
        self.proving.insert(id, (home, worker));
        Some((id, self.gone.back().and_then(|(_, fp)| *fp)))
    }

    /// What we know of the connection that the peer took for its check, and its home if it must be closed now.
    /// `None` if it was never seen (yet).
    #[allow(clippy::type_complexity)]
    pub fn verify(&mut self, id: Id) -> Option<(Option<Fingerprint>, Option<H>)> {
        if let Some((home, _)) = self.proving.remove(&id) {
            let fp = self.gone.iter().find(|(gone, _)| *gone == id).and_then(|(_, fp)| *fp);
            return Some((fp, Some(home)));
        }
        if let Some(idle) = self.idle.remove(&id) {
            self.remember(id, idle.fp);
            return Some((idle.fp, Some(idle.home)));
        }
        let home = self.lingering.remove(&id).map(|lingering| lingering.home);
        self.gone.iter().find(|(gone, _)| *gone == id).map(|(_, fp)| (*fp, home))
    }

    /// Drops all idle connections; their homes are to be closed.
    pub fn flush(&mut self) -> Vec<H> {
        self.stacks.iter_mut().for_each(Vec::clear);
        let idle = std::mem::take(&mut self.idle);
        idle.into_iter()
            .map(|(id, idle)| {
                self.remember(id, idle.fp);
                idle.home
            })
            .collect()
    }

    /// Drops all idle connections at the side that dials: launches for them may be on their way, so they linger.
    pub fn flush_late(&mut self, now: Instant) {
        self.stacks.iter_mut().for_each(Vec::clear);
        for (id, idle) in std::mem::take(&mut self.idle) {
            self.remember(id, idle.fp);
            self.linger(id, idle.home, idle.worker, now);
        }
    }

    /// Users and launches that have waited too long.
    pub fn expired(&mut self, now: Instant) -> Vec<U> {
        let mut late = Vec::new();
        while self.users.front().is_some_and(|(until, _)| *until <= now) {
            late.extend(self.users.pop_front().map(|(_, user)| user));
        }
        if self.launches.values().any(|(until, _)| *until <= now) {
            let ids: Vec<Id> =
                self.launches.iter().filter(|(_, (until, _))| *until <= now).map(|(id, _)| *id).collect();
            late.extend(ids.iter().filter_map(|id| self.launches.remove(id)).map(|(_, user)| user));
        }
        late
    }

    /// All users that wait: nobody will serve them any more.
    pub fn dismiss(&mut self) -> Vec<U> {
        std::mem::take(&mut self.users).into_iter().map(|(_, user)| user).collect()
    }

    /// The worker for the next connection. The first fill goes to each in turn; what takes the place of a connection that
    /// users took goes to the least busy one: with few users that is always the same, and no other has to be woken.
    pub fn next_worker(&mut self) -> usize {
        if self.vacant > 0 {
            self.vacant -= 1;
            return self.least_busy(0..self.stacks.len()).unwrap_or_default();
        }
        self.turn = (self.turn + 1) % self.stacks.len().max(1);
        self.turn
    }

    /// The first worker shares its thread with the hub: a few more relays there cost less than waking another thread.
    fn least_busy(&self, mut workers: impl Iterator<Item = usize>) -> Option<usize> {
        let first = workers.next()?;
        let load = |worker: usize| self.busy[worker] + if worker > 0 { HEAD_START } else { 0 };
        Some(workers.fold(first, |best, worker| if load(worker) < load(best) { worker } else { best }))
    }

    /// After a crowd has gone, memory that it took is given back.
    pub fn shrink(&mut self) {
        let room = 2 * self.idle.len() + MAX_GONE;
        self.idle.shrink_to(room);
        self.launches.shrink_to(room);
        self.users.shrink_to(room);
        self.grants.shrink_to(room);
        self.stacks.iter_mut().for_each(|stack| stack.shrink_to(room));
    }

    fn vacate(&mut self) {
        self.vacant = (self.vacant + 1).min(self.most);
    }

    /// When somebody will have waited too long.
    pub fn deadline(&self) -> Option<Instant> {
        let users = self.users.front().map(|(until, _)| *until);
        let lingering = self.lingering.values().map(|lingering| lingering.until);
        users.into_iter().chain(self.launches.values().map(|(until, _)| *until)).chain(lingering).min()
    }

    /// Takes the newest idle connection at the least busy worker that has one.
    fn newest(&mut self) -> Option<(Id, H, usize)> {
        for stack in &mut self.stacks {
            while stack.last().is_some_and(|id| !self.idle.contains_key(id)) {
                stack.pop();
            }
        }
        let workers = (0..self.stacks.len()).filter(|&worker| !self.stacks[worker].is_empty());
        let worker = self.least_busy(workers)?;
        let id = self.stacks[worker].pop()?;
        let idle = self.idle.remove(&id)?;
        self.remember(id, idle.fp);
        self.vacate();
        Some((id, idle.home, worker))
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

/// How many connections that are gone are remembered for a late `verify`.
const MAX_GONE: usize = 256;
/// So many relays more than others the first worker takes.
const HEAD_START: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    type Sut = Pool<u32, &'static str>;

    fn id(n: u8) -> Id {
        Id([9, 9, 9, n])
    }

    fn pool(workers: usize) -> Sut {
        let mut pool = Pool::new(workers, Duration::from_secs(5), 100);
        pool.begin(4);
        pool.serve();
        pool
    }

    /// Who was granted which home.
    fn grants(pool: &mut Sut) -> Vec<(&'static str, u32)> {
        std::iter::from_fn(|| pool.poll()).map(|grant| (grant.user, grant.home)).collect()
    }

    #[test]
    fn the_newest_connection_at_the_least_busy_worker_is_granted() {
        let (mut pool, now) = (pool(2), Instant::now());
        for (n, worker) in [(1, 0), (2, 0), (3, 1)] {
            assert_eq!(pool.opened(id(n), n.into(), worker, None), Ok(()));
        }
        pool.take("a", now);
        assert_eq!(grants(&mut pool), [("a", 2)]);
        pool.busy = vec![HEAD_START + 1, 0];
        pool.take("b", now);
        pool.take("c", now);
        pool.take("d", now);
        assert_eq!(grants(&mut pool), [("b", 3), ("c", 1)]);
    }

    #[test]
    fn the_first_fill_goes_to_each_worker_in_turn_and_replacements_to_the_least_busy() {
        let (mut pool, now) = (pool(3), Instant::now());
        assert_eq!([(); 4].map(|()| pool.next_worker()), [1, 2, 0, 1]);
        for n in 1..=2 {
            pool.opened(id(n), 1, 2, None).unwrap();
            pool.take("a", now);
            pool.poll().unwrap();
        }
        assert_eq!(pool.next_worker(), 0);
        pool.busy = vec![HEAD_START + 2, 1, 1];
        assert_eq!([(); 2].map(|()| pool.next_worker()), [1, 2]);
    }

    #[test]
    fn users_wait_in_turn_and_are_refused_after_their_time() {
        let (mut pool, now) = (pool(1), Instant::now());
        pool.take("a", now);
        pool.take("b", now);
        assert_eq!(pool.opened(id(1), 1, 0, None), Ok(()));
        assert_eq!(grants(&mut pool), [("a", 1)]);
        let late = now + Duration::from_secs(5);
        assert_eq!(pool.deadline(), Some(late));
        assert_eq!(pool.expired(now), Vec::<&str>::new());
        assert_eq!(pool.expired(late), ["b"]);
        assert_eq!(pool.deadline(), None);
    }

    #[test]
    fn users_wait_until_they_are_served_and_from_one_tunnel_to_the_next() {
        let (mut pool, now) = (Sut::new(1, Duration::from_secs(5), 100), Instant::now());
        pool.take("a", now);
        pool.opened(id(1), 1, 0, None).unwrap();
        assert_eq!(grants(&mut pool), []);
        pool.claim(id(7), "launch", now).unwrap();
        assert_eq!(pool.end(), ["launch"]);
        pool.begin(4);
        pool.opened(id(2), 2, 0, None).unwrap();
        pool.serve();
        assert_eq!(grants(&mut pool), [("a", 2)]);
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
        pool.take("a", Instant::now());
        assert_eq!(grants(&mut pool), []);
        assert_eq!(pool.verify(id(1)), Some((fp, None)));
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
        assert_eq!(pool.unclaimed(now), Vec::<u32>::new());
        assert_eq!(pool.unclaimed(late), [2]);
        assert_eq!(pool.deadline(), None);
    }

    #[test]
    fn the_connection_of_our_check_is_given_up_when_the_peer_has_closed_it() {
        let (mut pool, now) = (pool(1), Instant::now());
        pool.opened(id(1), 1, 0, Some(Fingerprint::of(b"leaf"))).unwrap();
        pool.prove().unwrap();
        pool.ended(id(1), now);
        assert_eq!(pool.unclaimed(now + Duration::from_secs(5)), [1]);
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
        assert_eq!(pool.prove(), Some((id(1), fp)));
        assert_eq!(pool.idle(), 0);
        assert_eq!(pool.verify(id(1)), Some((fp, Some(1))));
        assert_eq!(pool.verify(id(1)), Some((fp, None)));
    }

    #[test]
    fn a_user_whom_the_peer_gives_the_connection_of_our_check_gets_it() {
        let (mut pool, fp) = (pool(1), Some(Fingerprint::of(b"leaf")));
        pool.opened(id(1), 1, 0, fp).unwrap();
        pool.prove().unwrap();
        assert_eq!(pool.claim(id(1), "user", Instant::now()), Ok(()));
        assert_eq!(grants(&mut pool), [("user", 1)]);
        assert_eq!(pool.verify(id(1)), Some((fp, None)));
    }

    #[test]
    fn stale_ids_do_not_pile_up() {
        let (mut pool, now) = (pool(1), Instant::now());
        for n in 0..100_000u32 {
            let id = Id((n + 1).to_be_bytes());
            pool.opened(id, n, 0, None).unwrap();
            assert!(pool.claim(id, "x", now).is_ok());
            assert!(pool.poll().is_some());
            pool.done(0);
        }
        assert!(pool.stacks[0].len() <= MAX_GONE + 3, "{}", pool.stacks[0].len());
    }
}
