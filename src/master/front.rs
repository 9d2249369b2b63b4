//! What stands between the network and the API: TLS, HTTP's framing, and every limit that a stranger could try.
//!
//! ```text
//!  network --TCP, TLS--> [ acceptor ] --> [ client, client, ... ] --whole requests--> [ http: tiny_http ] --> Answer
//!                         one thread, one event loop             a Unix socket      a thread a call
//! ```
//!
//! tiny_http takes whatever comes, for as long as it comes; the front lets through only whole requests, a few at a time:
//!
//! - so many connections; for a newcomer beyond one leaves by chance, of those that are idle or slow;
//! - none from addresses that may not come, and none from sources that showed wrong keys;
//! - a head, a body and a time for each request, and little memory before it is whole;
//! - so many calls at once, the others wait for their turn; streams are counted apart, and those that do not read, and so
//!   hold up a thread, go first.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Registry, Token};

use self::admission::{Admission, Lifter};
use self::chunks::MAX_BODY;
use self::client::{Client, Load, Means, Next};
use self::link::Link;
use super::call::Answer;
use super::http::Http;
use crate::config::{Cors, Endpoint};
use crate::error::Error;
use crate::logic::guard::Source;
use crate::logic::scheduler::Scheduler;
use crate::logic::slab::Key;
use crate::logic::strangers::Strangers;
use crate::net::budget::Budget;
use crate::net::certs::Certs;
use crate::net::inherited::Inherited;
use crate::net::leg::Own;
use crate::net::listen::Acceptor;
use crate::net::random;
use crate::net::stream::Buffer;
use crate::net::tcp::{SocketKeepalive, Tcp, KEEPALIVE_AFTER};
use crate::net::tls::Tls;
use crate::run::channel::{channel, Receiver, Sender};
use crate::run::hub::ingress::listeners::listening_addresses;
use crate::run::poller::Poller;
use crate::run::resources::Resources;

pub mod admission;
pub mod answer;
pub(in crate::master) mod chunks;
mod client;
pub mod cors;
mod link;
pub mod request;

/// The API on the network. Dropping it closes it.
pub struct Front {
    orders: Sender<Order>,
    thread: Option<JoinHandle<()>>,
    addresses: Vec<SocketAddr>,
}

/// What its thread is told.
enum Order {
    Reload,
    /// This source is let in again, or all are.
    Lift(Option<Source>),
    Close,
}

/// Most readers of events that a master should have here. A quarter of the streams is left for those that have been told to
/// end and are still written to.
pub fn readers() -> usize {
    let streams = Limits::within(Resources::here()).streams;
    streams - streams / 4
}

impl Front {
    /// Listens at `listen`, over TLS if there are `certs`, and lets `answer` answer. Certificate files are looked at again
    /// every `reload` (`NP_RELOAD_INTERVAL`). `admission` says who may use it, `cors` which web pages. The error is for the user: one line.
    pub fn start(
        listen: &Endpoint,
        certs: Option<Certs>,
        reload: Duration,
        admission: Admission,
        cors: Cors,
        answer: Arc<dyn Answer>,
    ) -> Result<Front, Error> {
        let failed = |error: io::Error| Error::system("cannot start the API", error);
        let poller = Poller::new().map_err(failed)?;
        let keepalive = SocketKeepalive::after(KEEPALIVE_AFTER);
        let mut acceptors = Vec::new();
        let mut addresses = Vec::new();
        for (n, at) in listening_addresses(listen)?.into_iter().take(MAX_LISTENERS).enumerate() {
            let acceptor = Acceptor::open(at, keepalive, &Inherited::default(), poller.registry(), Token(n));
            let acceptor = acceptor.map_err(|error| Error::listen(at, "TCP", error))?;
            addresses.push(acceptor.address().map_err(failed)?);
            acceptors.push(acceptor);
        }
        let http = Http::start(answer).map_err(failed)?;
        let registry = Arc::new(poller.registry().try_clone().map_err(failed)?);
        let (orders, received) = channel(poller.waker());
        let now = Instant::now();
        let front = FrontThread::new(registry, (acceptors, admission), (certs, reload), cors, http, received, now);
        let run = move || {
            if let Err(error) = turns(poller, front, now) {
                log::error!("The API has ended: {error}");
            }
        };
        let thread = thread::Builder::new().name("front".into()).stack_size(STACK).spawn(run).map_err(failed)?;
        Ok(Front { orders, thread: Some(thread), addresses })
    }

    /// Where it listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Loads the certificate files again if they have changed. What it comes to is logged.
    pub fn reload(&self) {
        self.orders.send(Order::Reload);
    }

    /// What lets sources in again that are banned here.
    pub fn lifter(&self) -> Lifter {
        let orders = self.orders.clone();
        Box::new(move |source| orders.send(Order::Lift(source)))
    }

    /// Accepts no connection any more, lets answers that are under way come to their end for at most 5 s, and ends.
    pub fn close(self) {}
}

impl Drop for Front {
    fn drop(&mut self) {
        self.orders.send(Order::Close);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Everything that the thread owns.
struct FrontThread {
    registry: Arc<Registry>,
    acceptors: Vec<Acceptor>,
    admission: Admission,
    certs: Option<Certs>,
    /// How often certificate files are looked at, and when next.
    reload: Duration,
    recheck: Option<Instant>,
    http: Http,
    orders: Receiver<Order>,
    clients: Scheduler<Client>,
    /// Those that may have to make room.
    idle: Strangers<Key>,
    /// Who has a whole request, in the order in which they came.
    waiting: VecDeque<Key>,
    most: Limits,
    used: Limits,
    /// Clients get no descriptor from here on: what is left is for those who are answered, and for the rest of the program.
    ceiling: usize,
    means: Means,
    /// It accepts no connection any more, and ends then.
    closing: Option<Instant>,
}

/// Numbers of what is limited: how many there may be, or are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Limits {
    clients: usize,
    large: usize,
    calls: usize,
    streams: usize,
}

impl Limits {
    /// The named limits, or less where there is little room: a client takes one descriptor, and one that is answered three
    /// more and two threads.
    fn within(Resources { descriptors, memory }: Resources) -> Limits {
        let each = memory.saturating_sub(OWN_MEMORY) / 4;
        let share =
            |most: usize, part: usize, bytes: usize| most.min(descriptors / part).min(each / bytes).max(MIN_LIMIT);
        Limits {
            clients: share(CLIENTS, 4, CLIENT_BYTES),
            large: LARGE.min(each / MAX_BODY).max(1),
            calls: share(CALLS, 16, ANSWER_BYTES),
            streams: share(STREAMS, 16, ANSWER_BYTES),
        }
    }

    fn of(&mut self, load: Load) -> Option<&mut usize> {
        match load {
            Load::Light => None,
            Load::Large => Some(&mut self.large),
            Load::Call => Some(&mut self.calls),
            Load::Stream => Some(&mut self.streams),
        }
    }
}

impl FrontThread {
    fn new(
        registry: Arc<Registry>,
        (acceptors, admission): (Vec<Acceptor>, Admission),
        (certs, reload): (Option<Certs>, Duration),
        cors: Cors,
        http: Http,
        orders: Receiver<Order>,
        now: Instant,
    ) -> FrontThread {
        let recheck = certs.as_ref().map(|_| now + reload);
        let room = Resources::here();
        let descriptors = room.descriptors;
        let means = Means { scratch: Buffer::new(SCRATCH), large: true, stream: true, time: SystemTime::now(), cors };
        FrontThread {
            registry,
            acceptors,
            admission,
            certs,
            reload,
            recheck,
            http,
            orders,
            clients: Scheduler::new(now),
            idle: Strangers::new(usize::MAX, 0),
            waiting: VecDeque::new(),
            most: Limits::within(room),
            used: Limits::default(),
            ceiling: descriptors - descriptors / 4,
            means,
            closing: None,
        }
    }

    /// Whether there is something to do without waiting.
    fn is_busy(&self) -> bool {
        self.clients.ready() > 0 || self.acceptors.iter().any(Acceptor::is_ready)
    }

    fn deadline(&self, now: Instant) -> Option<Instant> {
        let acceptors = self.acceptors.iter().filter_map(Acceptor::deadline);
        let turn = (!self.waiting.is_empty()).then_some(now + SLOW);
        let rest = [turn, self.closing, self.recheck, self.admission.deadline()].into_iter().flatten();
        acceptors.chain(self.clients.deadline()).chain(rest).min()
    }

    fn note(&mut self, event: &Event) {
        let Token(token) = event.token();
        if let Some(acceptor) = self.acceptors.get_mut(token) {
            return acceptor.note();
        }
        let Some(number) = token.checked_sub(MAX_LISTENERS) else { return };
        let Some(key) = self.clients.at(number / 2) else { return };
        if let Some(client) = self.clients.get_mut(key) {
            match number % 2 {
                0 => client.note(event),
                _ => client.note_link(event),
            }
        }
        self.clients.queue(key);
    }

    /// What is to be done now; whether it is over.
    fn turn(&mut self, now: Instant) -> bool {
        self.means.time = SystemTime::now();
        while let Some(order) = self.orders.next() {
            match order {
                Order::Reload => self.reload(),
                Order::Lift(source) => self.admission.lift(source),
                Order::Close => self.close(now),
            }
        }
        if self.recheck.is_some_and(|due| now >= due) {
            self.recheck = Some(now + self.reload);
            self.reload();
        }
        self.admission.tick(now);
        self.clients.wake(now);
        self.admit(now);
        for _ in 0..self.clients.ready() {
            if let Some(key) = self.clients.take_ready() {
                self.work(key, now, |_, _| {});
            }
        }
        self.hand_out(now);
        self.closing.is_some_and(|until| now >= until || !self.clients.iter().any(|(_, client)| client.is_busy()))
    }

    /// Takes newcomers in.
    fn admit(&mut self, now: Instant) {
        for acceptor in 0..self.acceptors.len() {
            for _ in 0..ADMITTED {
                let Some((socket, from)) = self.acceptors[acceptor].accept(now) else { break };
                let kept = self.is_kept(from.ip());
                if !self.admission.admits(from, kept, now) {
                    continue;
                }
                if self.used.clients >= self.most.clients {
                    self.idle.any(random::number).into_iter().for_each(|key| self.remove(key));
                }
                // The system gives the lowest number that is free, so a high one says that few are left.
                if usize::try_from(socket.as_raw_fd()).is_ok_and(|number| number < self.ceiling) {
                    // A socket that cannot be registered is closed; the client comes again.
                    let _ = self.take_in(socket, from.ip(), now);
                }
            }
        }
    }

    /// Whether there is a connection from that source that has shown the right key.
    fn is_kept(&self, from: IpAddr) -> bool {
        let source = Source::of(from);
        self.clients.iter().any(|(_, client)| client.has_key() && Source::of(client.from()) == source)
    }

    fn take_in(&mut self, socket: TcpStream, from: IpAddr, now: Instant) -> io::Result<()> {
        let tcp = Tcp::new(socket);
        let leg = match &self.certs {
            Some(certs) => Own::from(Tls::accept(tcp, certs.current().config, &Budget::PLENTY)?),
            None => Own::Tcp(tcp),
        };
        let key = self.clients.insert(Client::new(leg, from, now));
        self.idle.enter(key, from, false);
        self.used.clients += 1;
        let token = Token(MAX_LISTENERS + 2 * key.index());
        let registered = self.clients.get_mut(key).map_or(Ok(()), |client| client.register(&self.registry, token));
        match registered {
            Ok(()) => self.clients.queue(key),
            Err(_) => self.remove(key),
        }
        registered
    }

    /// Lets one client go on, after `first`, and keeps the books.
    fn work(&mut self, key: Key, now: Instant, first: impl FnOnce(&mut Client, &Means)) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let load = client.load();
        self.means.large = self.used.large < self.most.large;
        self.means.stream = self.used.streams < self.most.streams;
        first(client, &self.means);
        let was_waiting = client.is_waiting();
        let next = client.advance(&mut self.means, now);
        // Whatever a client left in it is not for the next one.
        self.means.clear();
        let (after, is_waiting, due) = (client.load(), client.is_waiting(), client.deadline());
        let (from, is_idle, wrong) = (client.from(), client.may_make_room(), client.take_wrong_key());
        if let Some(due) = due {
            self.clients.arm(key, due);
        }
        self.book(load, after);
        match (is_idle, self.idle.contains(key)) {
            (true, false) => self.idle.enter(key, from, false),
            (false, _) => self.idle.leave(key),
            (true, true) => {}
        }
        if wrong && self.showed_wrong_key(from, now) {
            return;
        }
        match next {
            Next::End => return self.remove(key),
            Next::Again => self.clients.queue(key),
            Next::Wait => {}
        }
        if is_waiting && !was_waiting {
            self.waiting.push_back(key);
        }
    }

    /// A client from there showed a wrong key; whether its source is banned now, which ends all its connections.
    fn showed_wrong_key(&mut self, from: IpAddr, now: Instant) -> bool {
        let kept = self.is_kept(from);
        let banned = self.admission.failed(from, kept, now);
        if banned {
            let source = Source::of(from);
            let theirs = self.clients.iter().filter(|(_, client)| Source::of(client.from()) == source);
            let theirs: Vec<Key> = theirs.map(|(key, _)| key).collect();
            theirs.into_iter().for_each(|key| self.remove(key));
        }
        banned
    }

    fn book(&mut self, before: Load, after: Load) {
        if before != after {
            if let Some(count) = self.used.of(before) {
                *count -= 1;
            }
            if let Some(count) = self.used.of(after) {
                *count += 1;
            }
        }
    }

    fn remove(&mut self, key: Key) {
        if let Some(client) = self.clients.remove(key) {
            self.used.clients -= 1;
            self.idle.leave(key);
            self.book(client.load(), Load::Light);
        }
    }

    /// Requests that wait get their turn.
    fn hand_out(&mut self, now: Instant) {
        while let Some(key) = self.waiting.front().copied() {
            if self.clients.get(key).is_some_and(Client::is_waiting) {
                if self.used.calls >= self.most.calls && !self.hurry(now) {
                    return;
                }
                self.waiting.pop_front();
                let token = Token(MAX_LISTENERS + 2 * key.index() + 1);
                let link = Link::open(self.http.path(), &self.registry, token);
                self.work(key, now, |client, means| client.hand(link, means, now));
            } else {
                self.waiting.pop_front();
            }
        }
    }

    /// Others wait: the client that has taken an answer most slowly is cut off; whether there was one.
    fn hurry(&mut self, now: Instant) -> bool {
        let slow = self.clients.iter().filter_map(|(key, client)| Some((client.holds_up(now)?, key)));
        match slow.filter(|(time, _)| *time >= SLOW).max() {
            Some((_, key)) => {
                self.remove(key);
                true
            }
            None => false,
        }
    }

    fn reload(&mut self) {
        match self.certs.as_mut().map(Certs::reload) {
            Some(Ok(true)) => log::info!("The API has a new certificate"),
            Some(Err(why)) => log::error!("The API's certificate cannot be loaded: {why}"),
            _ => {}
        }
    }

    fn close(&mut self, now: Instant) {
        self.acceptors.clear();
        self.closing.get_or_insert(now + CLOSING_TIME);
    }
}

/// Waits, notes what happened, and does what is to be done; again and again.
fn turns(mut poller: Poller, mut front: FrontThread, mut now: Instant) -> io::Result<()> {
    loop {
        now = poller.wait(front.is_busy(), front.deadline(now))?;
        poller.events().for_each(|event| front.note(event));
        if front.turn(now) {
            return Ok(());
        }
    }
}

/// Most addresses of one name that are listened at.
const MAX_LISTENERS: usize = 8;
/// Connections accepted at one address in one turn.
const ADMITTED: usize = 64;
/// Bytes read at once.
const SCRATCH: usize = 16 * 1024;
/// Nothing recurses; TLS handshakes are what needs most.
const STACK: usize = 256 * 1024;

/// Most connections.
pub const CLIENTS: usize = 512;
/// Most large requests (over 16 KB) that are read at once: so many MB at most.
const LARGE: usize = 8;
/// Most calls that are answered at once, each on a thread; others wait. More than the ten `/tcping` at once.
pub const CALLS: usize = 16;
/// Most event streams, each on a thread.
pub const STREAMS: usize = 64;
/// The least of each, however few descriptors and bytes there are.
const MIN_LIMIT: usize = 4;
/// Bytes of a master before the first client: itself and its first threads.
const OWN_MEMORY: usize = 6 * 1024 * 1024;
/// Bytes of a client: a TLS session, and a request or an answer on its way.
const CLIENT_BYTES: usize = 64 * 1024;
/// Bytes of an answer: the stacks of two threads and what they hold.
const ANSWER_BYTES: usize = 2 * STACK + 64 * 1024;
/// While others wait, a client that has taken an answer for so long may be cut off.
const SLOW: Duration = Duration::from_secs(2);
/// When the front closes, answers may take so long to come to their end.
const CLOSING_TIME: Duration = Duration::from_secs(5);
