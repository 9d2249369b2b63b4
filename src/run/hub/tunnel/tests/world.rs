//! Both ends of a tunnel, the connections between them, and their users.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use super::super::*;
use super::ends::{config, route, secrets};
use super::things::{Fault, Link, What};
use crate::logic::refill::Refill;
use crate::logic::slab::{Key, Slab};
use crate::testing::{epoch, Dice};

/// One end and where its connections live.
struct End {
    tunnel: Tunnel,
    out: Out,
    keys: Slab<usize>,
    /// When its last signal arrives at the other end.
    said: Instant,
}

pub struct World {
    now: Instant,
    dice: Dice,
    fault: Fault,
    ends: [End; 2],
    /// Where users come in, and where their targets are.
    ingress: usize,
    egress: usize,
    pub links: Vec<Link>,
    queue: BinaryHeap<Reverse<(Instant, u64)>>,
    things: HashMap<u64, What>,
    pub granted: HashMap<SocketAddr, usize>,
    pub served: usize,
    pub cut: usize,
    /// Users who left their connection to another.
    pub given_back: usize,
    /// Users whose connection an end had closed when it came to their launch.
    pub flushed: usize,
    pub over: Vec<EndReason>,
    users: u16,
    /// No more of them come in.
    stopped: bool,
    /// When the user of a link came.
    since: HashMap<usize, Instant>,
    /// Users who had to have another connection, and the longest that one waited.
    pub retried: usize,
    pub longest: Duration,
}

impl World {
    pub fn new(seed: u64, fault: Fault) -> World {
        World::flowing(Direction::Reverse, seed, fault)
    }

    pub fn flowing(flow: Direction, seed: u64, fault: Fault) -> World {
        let now = epoch();
        let features = vec![Feature::UdpFrame, Feature::Goodbye, Feature::Gone, Feature::Reuse];
        let terms = Terms { flow, max: MAX, tls: 1, transport: 0, features };
        let (ingress, egress) = match flow {
            Direction::Reverse => (SERVER, CLIENT),
            Direction::Forward => (CLIENT, SERVER),
        };
        let config = config();
        let peer = SocketAddr::from(([192, 0, 2, 1], 1));
        let refill = Refill::new(4, 16, Duration::from_millis(50), Duration::from_millis(300), now);
        let end = |tunnel, salt| {
            let mut dice = Dice(seed * 7919 + salt);
            let out = Out::new(2, Box::new(move || Id((dice.next() as u32).to_be_bytes())));
            End { tunnel, out, keys: Slab::new(), said: now }
        };
        // Originals compare certificates, authenticated ends need not: every other world is of each kind.
        let (one, two) = match fault != Fault::OtherCertificate && seed.is_multiple_of(2) {
            true => secrets(),
            false => (None, None),
        };
        let agreed =
            |terms: &Terms, secret| Agreed { number: 1, terms: terms.clone(), peer, secret, dialect: Dialect::Json };
        let server = Tunnel::new(agreed(&terms, one), None, &config, 2, now);
        let client = Tunnel::new(agreed(&terms, two), Some(Opener::new(refill, route(&config))), &config, 2, now);
        World {
            now,
            dice: Dice(seed),
            fault,
            ends: [end(server, 1), end(client, 2)],
            ingress,
            egress,
            links: Vec::new(),
            queue: BinaryHeap::new(),
            things: HashMap::new(),
            granted: HashMap::new(),
            served: 0,
            cut: 0,
            given_back: 0,
            flushed: 0,
            over: Vec::new(),
            users: 0,
            stopped: false,
            since: HashMap::new(),
            retried: 0,
            longest: Duration::ZERO,
        }
    }

    /// Users for a while, then quiet until all that was under way has come to its end.
    pub fn run(&mut self) {
        for n in 0..USERS {
            let later = match self.fault {
                // Some, and after a long quiet all others.
                Fault::Forgets => self.dice.below(2000u64) + if n % 4 == 0 { 0 } else { 20_000 },
                _ => self.dice.below(20_000u64),
            };
            self.later(later, What::User(self.now + Duration::from_millis(later)));
        }
        let until = self.now + Duration::from_secs(40);
        self.settle(CLIENT);
        for step in 0.. {
            assert!(step < MAX_STEPS, "time does not pass: {:?}", self.clocks());
            if self.now >= until || self.over.len() >= 2 {
                break;
            }
            let events = self.queue.peek().map(|Reverse((at, _))| *at);
            let clocks = self.ends.iter().filter_map(|end| end.tunnel.deadline());
            let next = clocks.chain(events).min().unwrap_or(until).max(self.now);
            self.now = next.min(until);
            while let Some(Reverse((_, number))) = self.queue.peek().filter(|Reverse((at, _))| *at <= self.now).copied()
            {
                self.queue.pop();
                if let Some(what) = self.things.remove(&number) {
                    self.happens(what);
                }
            }
            for side in [SERVER, CLIENT] {
                let end = &mut self.ends[side];
                if end.tunnel.deadline().is_some_and(|due| due <= self.now) {
                    end.tunnel.tick(self.now, &mut end.out);
                    self.settle(side);
                }
            }
            self.check();
        }
    }

    /// How long each clock of each end has to go: stage, opener, check, pool.
    fn clocks(&self) -> Vec<[Option<Duration>; 4]> {
        let left = |at: Option<Instant>| at.map(|at| at.saturating_duration_since(self.now));
        let clocks = |Tunnel { stage, opener, check, pool, .. }: &Tunnel| {
            let stage = match stage {
                Stage::Up { control, .. } => control.deadline(),
                Stage::Opening { until } => Some(*until),
            };
            [stage, opener.as_ref().and_then(Opener::deadline), check.deadline(), pool.deadline()].map(left)
        };
        self.ends.iter().map(|end| clocks(&end.tunnel)).collect()
    }

    fn happens(&mut self, what: What) {
        match what {
            What::Event(side, event) => {
                let end = &mut self.ends[side];
                end.tunnel.on(event, self.now, &mut end.out);
                self.settle(side);
            }
            What::User(since) => self.user(since),
            What::Leave(link) if self.dice.below(4u64) > 0 && self.links[link].carries == [true; 2] => {
                self.give_back(link)
            }
            What::Leave(link) => self.part(link),
            What::Free(side, link) => {
                self.release(link, side);
                // The end of a user does not come through where the NAT has forgotten the connection.
                let behind = side == self.ingress && self.dice.below(2u64) == 0;
                if let Link { alive: true, forgotten: false, id: Some(id), homes, .. } = self.links[link] {
                    self.happens(What::Event(side, TunnelEvent::Free { home: homes[side], id, behind }));
                }
            }
            What::Die(link) => self.die(link),
            What::Forget => {
                let idle = |link: &&mut Link| link.id.is_some_and(|id| id != CONTROL) && link.user.is_none();
                self.links.iter_mut().filter(idle).for_each(|link| link.forgotten = true);
            }
            What::Stop(side) => {
                self.stopped |= side == self.ingress;
                self.ends[side].tunnel.drain();
                self.settle(side);
            }
        }
    }

    /// A user comes in, and comes again later where there is no connection.
    fn user(&mut self, since: Instant) {
        let ingress = self.ingress;
        let end = &mut self.ends[ingress];
        if self.stopped {
            return;
        }
        if !end.tunnel.can_serve() {
            return self.later(100, What::User(since));
        }
        self.users += 1;
        let user = SocketAddr::from(([203, 0, 113, 1], self.users));
        let taken = end.tunnel.take(user, false, self.now, &mut end.out);
        let Some(Granted { home, framed: true, retried: true }) = taken else { panic!("it can serve, and does not") };
        let link = *end.keys.get(home.key).expect("a connection that was opened");
        assert_eq!(self.links[link].user.replace(user), None, "a connection that is in use was given away");
        self.granted.insert(user, link);
        self.links[link].carries[ingress] = true;
        self.since.insert(link, since);
        self.settle(ingress);
        match self.links[link] {
            Link { forgotten: true, listens: true, unended: false, .. } => return,
            Link { forgotten: true, id: Some(id), .. } => {
                return self.later(UNACKNOWLEDGED, What::Event(ingress, TunnelEvent::Lost(id)));
            }
            _ => {}
        }
        self.longest = self.longest.max(self.now - since);
        if !self.links[link].alive {
            self.part(link);
        } else {
            let later = 500 + self.dice.below(3000u64);
            self.later(later, What::Leave(link));
        }
    }

    /// The user of a link leaves: the relay ends at each end that has one.
    fn part(&mut self, link: usize) {
        let Link { alive, carries, .. } = &mut self.links[link];
        match std::mem::take(alive) && carries[self.egress] {
            true => self.served += 1,
            false => self.cut += 1,
        }
        for side in [SERVER, CLIENT] {
            self.ends[side].keys.remove(self.links[link].homes[side].key);
            self.release(link, side);
        }
    }

    /// The user of a link leaves it for the next one. The ingress has it back at once where the egress has told all with its end, else it
    /// hears when the egress is through.
    fn give_back(&mut self, link: usize) {
        self.served += 1;
        self.links[link].user = None;
        self.given_back += 1;
        let (ingress, egress, late) = (self.ingress, self.egress, self.late());
        self.later(late, What::Free(egress, link));
        match self.dice.below(3u64) {
            0 => {
                self.release(link, ingress);
                let later = late + self.late();
                self.later(later, What::Free(ingress, link));
            }
            _ => {
                self.happens(What::Free(ingress, link));
                // The end itself may be what does not come through.
                let forgotten = self.fault == Fault::Forgets && self.dice.below(4u64) == 0;
                let Link { forgotten: lost, unended, .. } = &mut self.links[link];
                (*lost, *unended) = (forgotten, forgotten);
            }
        }
    }

    /// The user of a dead link comes again, for another connection.
    fn retake(&mut self, link: usize) {
        let user = self.links[link].user.take().expect("a user");
        self.granted.remove(&user);
        self.ends[self.ingress].keys.remove(self.links[link].homes[self.ingress].key);
        self.release(link, self.ingress);
        self.retried += 1;
        self.later(0, What::User(self.since[&link]));
    }

    /// The relay of a link at one end has ended, if there was one.
    fn release(&mut self, link: usize, side: usize) {
        let Link { homes, carries, .. } = &mut self.links[link];
        if std::mem::take(&mut carries[side]) {
            self.ends[side].tunnel.released(homes[side]);
            self.ends[side].out.loads.end(homes[side].worker);
        }
    }

    /// An idle connection dies; each end notices in its own time.
    fn die(&mut self, link: usize) {
        let Link { alive, user, id, .. } = &mut self.links[link];
        let Some(id) = id.filter(|id| *id != CONTROL && user.is_none() && *alive) else { return };
        *alive = false;
        for side in [SERVER, CLIENT] {
            let late = self.dice.below(200u64);
            self.later(late, What::Event(side, TunnelEvent::Gone(id)));
        }
    }

    /// Carries out what an end has decided.
    fn settle(&mut self, side: usize) {
        let end = &mut self.ends[side];
        end.tunnel.advance(self.now, &mut end.out);
        while let Some(action) = self.ends[side].out.next() {
            match action {
                Action::Job(worker, job) => self.job(side, worker, job),
                Action::Dial { home, user, framed } => {
                    assert!(framed && side == self.egress);
                    let at_home = |link: &Link| link.homes[side] == home;
                    let link = self.links.iter().position(at_home).expect("a connection that was opened");
                    let address = user.address.expect("an address");
                    assert_eq!(
                        self.granted.get(&address),
                        Some(&link),
                        "dialled over another connection than the user's"
                    );
                    assert!(!std::mem::replace(&mut self.links[link].carries[side], true), "dialled twice");
                    if let Link { forgotten: true, listens: true, id: Some(id), .. } = self.links[link] {
                        self.later(UNACKNOWLEDGED, What::Event(side, TunnelEvent::Doubted(id)));
                    }
                    // The worker finds a connection that is gone, and says so.
                    if self.ends[side].keys.get(home.key).is_none() {
                        self.release(link, side);
                    }
                }
                Action::Over(reason) => {
                    self.over.push(reason);
                    self.stopped = true;
                    // After what was said.
                    let arrival = self.now.max(self.ends[side].said) + Duration::from_millis(self.late());
                    self.at(arrival, What::Event(1 - side, TunnelEvent::Closed("closed".into())));
                }
                Action::CheckPoint | Action::Trouble { .. } | Action::Opened | Action::Proven | Action::Pin(_) => {}
            }
        }
    }

    fn job(&mut self, side: usize, worker: usize, job: Job) {
        match job {
            Job::Open(wanted) => {
                // An opening is true at the other end, once.
                if let Some(opening) = wanted.opening {
                    assert!(self.ends[SERVER].tunnel.accepts(&opening) && !self.ends[SERVER].tunnel.accepts(&opening));
                }
                self.open(worker);
            }
            Job::Number { key, id, .. } => {
                let link = self.link(side, key);
                self.links[link].id = Some(id);
                let home = self.links[link].homes[CLIENT];
                let late = self.late() + if self.fault == Fault::SlowWorkers { 300 } else { 0 };
                self.later(late, What::Event(CLIENT, TunnelEvent::Opened { home, id, fp: Some(self.certificate()) }));
                if id != CONTROL && self.fault != Fault::Forgets && self.dice.below(self.losses()) == 0 {
                    let die = self.dice.below(4000u64);
                    self.later(die, What::Die(link));
                }
            }
            Job::Say { bytes, .. } => {
                if self.fault == Fault::Silence && self.now > epoch() + Duration::from_secs(5) {
                    return;
                }
                let arrival =
                    (self.now + Duration::from_millis(self.late())).max(self.ends[side].said + Duration::from_nanos(1));
                self.ends[side].said = arrival;
                self.at(arrival, What::Event(1 - side, TunnelEvent::Said(bytes)));
            }
            // The peer thought one dead that had just been given away.
            Job::Keep { key, .. } => {
                let link = self.ends[side].keys.get(key).copied();
                assert!(link.is_none_or(|link| !self.links[link].forgotten), "a user stays with a dead connection");
            }
            Job::Retake { key, .. } => {
                // The connection may be between two users.
                if let Some(link) =
                    self.ends[side].keys.get(key).copied().filter(|link| self.links[*link].user.is_some())
                {
                    self.retake(link);
                }
            }
            Job::Doubt { key, id } => {
                if let Some(link) = self.ends[side].keys.get(key).copied() {
                    assert!(side == self.ingress && self.links[link].forgotten, "a user who hears is asked about");
                    self.later(0, What::Event(side, TunnelEvent::Lost(id)));
                }
            }
            Job::Question { key, id, .. } => self.question(side, key, id),
            Job::Close(key) => self.close(side, key),
            Job::Control { .. } => {}
            _ => panic!("a tunnel does not ask for that"),
        }
    }

    /// Whether anything has come over a connection: it has, unless the NAT has forgotten it, or it has the user before.
    fn question(&mut self, side: usize, key: Key, id: Id) {
        let nothing = |link: &usize| self.links[*link].forgotten && !self.links[*link].unended;
        let Some(link) = self.ends[side].keys.get(key).copied().filter(nothing) else {
            return self.later(0, What::Event(side, TunnelEvent::Kept(id)));
        };
        self.ends[side].keys.remove(key);
        self.release(link, side);
        self.later(0, What::Event(side, TunnelEvent::Lost(id)));
    }

    /// An end closes a connection; the other hears it, unless the NAT has forgotten it.
    fn close(&mut self, side: usize, key: Key) {
        let Some(link) = self.ends[side].keys.remove(key) else { return };
        let Link { alive, user, .. } = &mut self.links[link];
        self.flushed += usize::from(*alive && user.is_some() && side == self.egress);
        *alive = false;
        if let Some(id) = self.links[link].id.filter(|_| !self.links[link].forgotten) {
            let late = self.late();
            self.later(late, What::Event(1 - side, TunnelEvent::Ended(id)));
        }
    }

    /// The client opens a connection, which may fail.
    fn open(&mut self, worker: usize) {
        let late = self.late();
        let first = self.links.is_empty();
        if !first && self.dice.below(self.losses()) == 0 {
            return self.later(late, What::Event(CLIENT, TunnelEvent::Failed(Some(Error::lost("lost")))));
        }
        let link = self.links.len();
        let mut home = |side: usize, worker| Home { worker, key: self.ends[side].keys.insert(link) };
        let homes = [home(SERVER, link % 2), home(CLIENT, worker)];
        let listens = self.dice.below(2u64) == 0;
        self.links.push(Link {
            homes,
            id: None,
            alive: true,
            user: None,
            carries: [false; 2],
            forgotten: false,
            listens,
            unended: false,
        });
        let fp = Some(Fingerprint::of(b"server"));
        self.later(late, What::Event(SERVER, TunnelEvent::Arrived { home: homes[SERVER], fp }));
    }

    fn link(&self, side: usize, key: Key) -> usize {
        *self.ends[side].keys.get(key).expect("a connection that is open")
    }

    /// What the client sees of the server's certificate.
    fn certificate(&self) -> Fingerprint {
        Fingerprint::of(if self.fault == Fault::OtherCertificate { b"middle" } else { b"server" })
    }

    /// One in so many connections is lost.
    fn losses(&self) -> u64 {
        if self.fault == Fault::ManyLosses {
            2
        } else {
            12
        }
    }

    fn late(&mut self) -> u64 {
        1 + self.dice.below(80u64)
    }

    pub fn later(&mut self, millis: u64, what: What) {
        self.at(self.now + Duration::from_millis(millis), what);
    }

    pub fn at(&mut self, when: Instant, what: What) {
        let number = self.dice.next();
        self.queue.push(Reverse((when, number)));
        self.things.insert(number, what);
    }

    /// What must hold after every step.
    fn check(&self) {
        let living = self.links.iter().filter(|link| link.id.is_some()).count();
        let server = if self.ingress == SERVER { MAX } else { LONG_LAG * MAX };
        for (end, most) in self.ends.iter().zip([server, MAX]) {
            assert!(end.tunnel.idle() <= living, "more idle connections than there are");
            assert!(end.tunnel.idle() <= most, "more idle connections than may be");
            assert!(end.tunnel.live() <= self.granted.len(), "more users than came");
        }
    }
}

pub const SERVER: usize = 0;
pub const CLIENT: usize = 1;
/// Milliseconds after which a worker finds that what a user said is not acknowledged.
const UNACKNOWLEDGED: u64 = 250;
/// Steps of a world: many times what it takes.
const MAX_STEPS: usize = 100_000;
/// Idle connections that the client may have.
const MAX: usize = 32;
/// Users of a world.
pub const USERS: usize = 100;
