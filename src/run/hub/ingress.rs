//! Users at the side where they come in: listeners, slots, first bytes, UDP sessions, and those who wait for a connection.
//!
//! ```text
//!  Listeners --slot free?--> (Sniffing, with block) --> next() -> User --> Waiting --> a pool connection
//! ```

pub mod listeners;
mod mail;
mod slots;
mod sniffing;
mod udp_sessions;
mod waiting;

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Instant;

use mio::event::Event;
use mio::net::TcpStream;
use mio::Registry;

use self::listeners::Listeners;
use self::mail::Mail;
use self::slots::Slots;
use self::sniffing::{Sniffing, Verdicted};
use self::udp_sessions::{Place, Room, Sessions};
use self::waiting::Waiting;
use super::USERS_TOKEN;
use crate::config::Endpoint;
use crate::error::Error;
use crate::logic::guard::{PerSource, Refusals};
use crate::logic::metrics::Figure;
use crate::logic::slab::Key;
use crate::net::batch::PacketQueue;
use crate::net::udp::{sender, Frames, UdpListener};
use crate::run::channel::Sender;
use crate::run::messages::{Home, Job};
use crate::run::shared::Shared;
use crate::run::user::{Proto, Said, SessionKey, User};

/// The users of one instance, at the side where they come in; elsewhere only their slots.
pub(in crate::run) struct Ingress {
    shared: Arc<Shared>,
    listeners: Opening,
    sniffing: Sniffing,
    /// Sniffed users with news.
    stirred: Vec<Key>,
    sessions: Sessions,
    /// Where sessions lived that have to make room.
    evicted: Vec<Home>,
    /// What came last to a listener for datagrams.
    batch: PacketQueue,
    arrived: VecDeque<User>,
    /// Datagrams for sessions that have a task.
    mail: Mail,
    ends_tls: bool,
    /// Who holds a slot.
    pub slots: Slots,
    /// How many of them each source has.
    sources: PerSource,
    refusals: Refusals,
    /// Users who wait for a pool connection.
    pub waiting: Waiting<User>,
}

/// Whether users from there are closed.
type Bars<'a> = dyn FnMut(IpAddr) -> bool + 'a;

/// The listeners, or when to try again to open it.
enum Opening {
    /// Users do not come in here.
    Unwanted,
    /// It could not be opened; what was said of it.
    Closed { at: Endpoint, again: Instant, said: Option<Error> },
    /// Users may come.
    Open(Listeners),
}

impl Ingress {
    /// No users yet. With `ends_tls` their first words are encrypted, and looked at by a worker.
    pub fn new(shared: Arc<Shared>, ends_tls: bool) -> Ingress {
        let sniffing = Sniffing::new(shared.config.block, SNIFFING_TOKEN);
        let new_sessions = shared.config.new_sessions();
        let slots = Slots::new(shared.config.slot, new_sessions);
        let waiting = Waiting::new(shared.config.limits.pool_get);
        let sources = PerSource::new(shared.config.perip);
        Ingress {
            shared,
            listeners: Opening::Unwanted,
            sniffing,
            stirred: Vec::new(),
            sessions: Sessions::new(new_sessions),
            evicted: Vec::new(),
            batch: PacketQueue::default(),
            arrived: VecDeque::new(),
            mail: Mail::default(),
            ends_tls,
            slots,
            sources,
            refusals: Refusals::default(),
            waiting,
        }
    }

    /// Opens the listeners, unless they are open.
    pub fn open(&mut self, at: &Endpoint, registry: &Registry, now: Instant) {
        if matches!(self.listeners, Opening::Unwanted) {
            self.listeners = Opening::Closed { at: at.clone(), again: now, said: None };
            self.tick(registry, now);
        }
    }

    /// Whether users can come in.
    pub fn is_open(&self) -> bool {
        matches!(self.listeners, Opening::Open(_))
    }

    /// Whether users should come in, and their port could not be opened yet.
    pub fn is_closed(&self) -> bool {
        matches!(self.listeners, Opening::Closed { .. })
    }

    /// Takes listeners that were opened elsewhere.
    pub fn take(&mut self, listeners: Listeners) {
        self.listeners = Opening::Open(listeners);
    }

    /// Users do not come in here any more.
    pub fn close(&mut self) {
        self.listeners = Opening::Unwanted;
        for from in self.sniffing.clear() {
            self.leave(Proto::Tcp(Some(from.ip())), None);
        }
    }

    /// The sockets at which users come in.
    pub fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let listeners = match &self.listeners {
            Opening::Open(listeners) => Some(listeners),
            Opening::Closed { .. } | Opening::Unwanted => None,
        };
        listeners.into_iter().flat_map(Listeners::sockets)
    }

    /// Another process has those sockets from now on. Who has come in goes on.
    pub fn hand_on(&mut self, registry: &Registry) {
        if let Opening::Open(listeners) = std::mem::replace(&mut self.listeners, Opening::Unwanted) {
            listeners.hand_on(registry);
        }
    }

    /// Whether users wait, for a connection or to be looked at.
    pub fn has_pending(&self) -> bool {
        self.waiting.first().is_some() || self.sniffing.deadline().is_some()
    }

    /// An edge of a listener, or of a user whose first bytes are looked at.
    pub fn note(&mut self, event: &Event) {
        let token = event.token().0;
        if token >= SNIFFING_TOKEN {
            let key = self.sniffing.note(token - SNIFFING_TOKEN, event);
            self.stirred.extend(key);
        } else if let Opening::Open(listeners) = &mut self.listeners {
            listeners.note(token - USERS_TOKEN);
        }
    }

    /// Lets users in, a bounded number: see [`Ingress::next`] and [`Ingress::deliver`]. `bars` says which sources are banned.
    pub fn admit(&mut self, registry: &Arc<Registry>, bars: &mut Bars, now: Instant) {
        self.sniff(registry, now);
        // A listener that lacked descriptors is not ready until it is tried again: so every open one is asked.
        if !matches!(&self.listeners, Opening::Open(_)) {
            return;
        }
        let Opening::Open(mut listeners) = std::mem::replace(&mut self.listeners, Opening::Unwanted) else { return };
        for listener in &mut listeners.tcp {
            for _ in 0..MAX_AT_A_TIME {
                let Some((socket, from)) = listener.accept(now) else { break };
                match bars(from.ip()) {
                    true => self.shared.stats.add(Figure::RefusedAddress, 1),
                    false => self.admit_tcp(socket, from, registry, now),
                }
            }
        }
        for (listener, ready) in listeners.udp.iter_mut().filter(|(_, ready)| *ready) {
            *ready = self.admit_datagrams(listener, bars, now);
        }
        self.listeners = Opening::Open(listeners);
    }

    /// The next user who may go on.
    pub fn next(&mut self) -> Option<User> {
        self.arrived.pop_front()
    }

    /// Hands datagrams to the sessions that have a task, and ends those that have to make room.
    pub fn deliver(&mut self, workers: &[Sender<Job>]) {
        self.evicted.drain(..).for_each(|home| workers[home.worker].send(Job::Evict(home.key)));
        for (home, frames) in self.mail.drain() {
            let lost = workers[home.worker].deliver(home.key, frames, self.shared.budget.mail);
            self.shared.stats.add(Figure::DroppedSession, lost as u64);
        }
    }

    /// After a crowd has gone, memory that it took is given back.
    pub fn shrink(&mut self) {
        self.arrived.shrink_to(SLACK);
        self.waiting.shrink();
    }

    /// Whether more waits at the listeners.
    pub fn is_busy(&self) -> bool {
        matches!(&self.listeners, Opening::Open(listeners) if listeners.is_ready())
    }

    /// Time has passed: listeners that could not be opened are tried again.
    pub fn tick(&mut self, registry: &Registry, now: Instant) {
        let Opening::Closed { at, again, said } = &mut self.listeners else { return };
        if now < *again {
            return;
        }
        let config = &self.shared.config;
        match Listeners::open(at, &self.shared, registry, USERS_TOKEN) {
            Ok(listeners) => self.listeners = Opening::Open(listeners),
            Err(why) => {
                if said.as_ref() != Some(&why) {
                    log::error!(event = "listen_failed", kind = why.kind(); "{} error: {why}; trying again every {:?}", self.shared.name(), config.limits.cooldown);
                }
                (*again, *said) = (now + config.limits.cooldown, Some(why));
            }
        }
    }

    /// When the clock has something to say.
    pub fn deadline(&self) -> Option<Instant> {
        let listeners = match &self.listeners {
            Opening::Open(listeners) => listeners.deadline(),
            Opening::Closed { again, .. } => Some(*again),
            Opening::Unwanted => None,
        };
        listeners.into_iter().chain(self.sniffing.deadline()).chain(self.waiting.deadline()).min()
    }

    /// A user has left, whose relay lived at `home` if it came so far.
    pub fn leave(&mut self, proto: Proto, home: Option<Home>) {
        let source = match proto {
            Proto::Tcp(source) => source,
            Proto::Udp(session) => self.sessions.end(&session, home).then(|| session.user.ip()),
        };
        source.into_iter().for_each(|source| self.sources.leave(source));
        self.slots.leave(proto, home);
    }

    /// A UDP session has a second datagram of its user, or an answer. Where there is no slot for it, it goes on and stays among the new ones.
    pub fn prove(&mut self, home: Home, session: &SessionKey) {
        if self.slots.prove(home) {
            self.sessions.prove(session, home);
        }
    }

    /// A user's relay will live at `home`; the datagrams of a UDP session that waited go with the user.
    pub fn bind(&mut self, user: User, home: Home) -> User {
        match user {
            User::Udp(listener, session, _, tries) => {
                let frames = self.sessions.bind(&session, home);
                User::Udp(listener, session, frames, tries)
            }
            user => user,
        }
    }

    /// The same, for a task that was started with nothing: the datagrams that waited are in the mail.
    pub fn bind_session(&mut self, session: &SessionKey, home: Home) {
        let frames = self.sessions.bind(session, home);
        self.mail.put(home, frames);
    }

    /// The user whose relay lived at `home`, or was to live there, needs another: the datagrams of a UDP session wait again. `None`: that
    /// session had to make room meanwhile.
    pub fn unbind(&mut self, user: User, home: Home) -> Option<User> {
        match user {
            User::Udp(listener, session, frames, tries) => {
                self.slots.unprove(home);
                if !self.sessions.unbind(&session, home, frames) {
                    self.slots.leave(Proto::Udp(session), None);
                    return None;
                }
                Some(User::Udp(listener, session, Frames::default(), tries))
            }
            user => Some(user),
        }
    }

    fn admit_tcp(&mut self, socket: TcpStream, from: SocketAddr, registry: &Arc<Registry>, now: Instant) {
        let proto = Proto::Tcp(Some(from.ip()));
        if !self.enter(proto, from, now) {
            return;
        }
        if !self.sniffing.is_open() || self.ends_tls {
            return self.arrived.push_back(User::Tcp(socket, from, Said::default()));
        }
        match self.sniffing.enter(socket, from, registry, now) {
            Ok(Some(verdict)) => self.sniffed(verdict),
            Ok(None) => {}
            Err(_) => self.leave(proto, None),
        }
    }

    /// Takes a bounded number of datagrams from a listener; whether there may be more.
    fn admit_datagrams(&mut self, listener: &Arc<UdpListener>, bars: &mut Bars, now: Instant) -> bool {
        let mut batch = std::mem::take(&mut self.batch);
        let (mut taken, mut count, mut more) = (0, 0, true);
        while more && taken < self.shared.budget.gulp && count < MAX_AT_A_TIME {
            match listener.receive(&mut batch, self.shared.config.limits.udp_buffer) {
                Ok(came) => {
                    count += came;
                    more = !batch.took_all();
                    taken += batch.messages(came).map(|message| message.len).sum::<usize>();
                    for message in batch.messages(came).filter(|message| message.whole > message.len) {
                        let (len, (from, _)) = (message.whole, sender(message));
                        self.shared.stats.add(Figure::DroppedLarge, 1);
                        log::warn!("Datagram of {len} bytes from {from} dropped: larger than NP_UDP_DATA_BUF_SIZE");
                    }
                    let lost = listener.lost(batch.messages(came));
                    if let Some((lost, at)) = lost.and_then(|lost| Some((lost, listener.local().ok()?))) {
                        self.shared.stats.set(Figure::DroppedBuffer, lost.into());
                        log::warn!("{lost} datagrams lost at {at} so far: its receive buffer was full (net.core.rmem_max allows more)");
                    }
                    for (message, packet) in batch.packets(came) {
                        let (user, asked) = sender(&message);
                        self.admit_udp(listener, SessionKey { user, asked }, packet, bars, now);
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => more = false,
                // An earlier answer could not be delivered; that is between the kernel and that user.
                Err(_) => count += 1,
            }
        }
        self.batch = batch;
        more
    }

    fn admit_udp(
        &mut self,
        listener: &Arc<UdpListener>,
        key: SessionKey,
        packet: &[u8],
        bars: &mut Bars,
        now: Instant,
    ) {
        match self.sessions.get(&key) {
            Some(Place::At(home)) => self.mail.add(*home, packet),
            Some(Place::Waiting(frames)) => {
                let lost = !Place::keep(frames, packet);
                self.shared.stats.add(Figure::DroppedSession, u64::from(lost));
            }
            None if bars(key.user.ip()) => self.shared.stats.add(Figure::RefusedAddress, 1),
            None => {
                if self.has_room(key.user, now) && self.enter(Proto::Udp(key), key.user, now) {
                    self.sessions.begin(key, packet);
                    self.arrived.push_back(User::Udp(listener.clone(), key, Frames::default(), 0));
                }
            }
        }
    }

    /// Whether there is room for a new UDP session; another one may have to make it.
    fn has_room(&mut self, from: SocketAddr, now: Instant) -> bool {
        match self.sessions.room(from.ip()) {
            Room::Free => true,
            Room::Instead(session, home) => {
                // Its relay is told; until that has ended it has a slot of its own.
                self.sources.leave(session.user.ip());
                self.slots.evict();
                self.evicted.push(home);
                true
            }
            Room::Network => {
                self.refuse_session(from, "its network has as many new UDP sessions as it may (udpslot)", now)
            }
            Room::None => self.refuse_session(from, "too many new UDP sessions wait (udpslot)", now),
        }
    }

    /// The source of a datagram can be forged, each time another one: one line stands for all of them.
    fn refuse_session(&mut self, from: SocketAddr, why: &str, now: Instant) -> bool {
        self.shared.stats.add(Figure::RefusedSlots, 1);
        if self.refusals.is_news(IpAddr::V4(Ipv4Addr::UNSPECIFIED), now) {
            log::warn!(event = "user_refused", peer:% = from; "{from} refused: {why}");
        }
        false
    }

    /// Whether a newcomer may come in; then it has a slot, and a place of its source.
    fn enter(&mut self, proto: Proto, from: SocketAddr, now: Instant) -> bool {
        if !self.shared.config.users.admits(from.ip()) {
            return self.refuse(from, Figure::RefusedAddress, "its address may not come in (allow, deny)", now);
        }
        if !self.sources.enter(from.ip()) {
            return self.refuse(
                from,
                Figure::RefusedSource,
                "its source has as many connections as it may (perip)",
                now,
            );
        }
        let entered = self.slots.enter(proto);
        self.shared.stats.add(accepted(proto, entered), 1);
        if !entered {
            self.sources.leave(from.ip());
            // Each is told, but a flood of them does not fill the log.
            let level = if self.slots.is_news() { log::Level::Warn } else { log::Level::Debug };
            log::log!(level, "{from} refused: all {} slots are taken (slot)", self.slots.live());
        }
        entered
    }

    fn refuse(&mut self, from: SocketAddr, figure: Figure, why: &str, now: Instant) -> bool {
        self.shared.stats.add(figure, 1);
        if self.refusals.is_news(from.ip(), now) {
            log::warn!(event = "user_refused", peer:% = from; "{from} refused: {why}");
        }
        false
    }

    /// Looks at pending in the sniffing whose words came or whose time is over.
    fn sniff(&mut self, registry: &Registry, now: Instant) {
        let mut keys = std::mem::take(&mut self.stirred);
        let mut noted = keys.drain(..);
        while let Some(key) = noted.next().or_else(|| self.sniffing.expired(now)) {
            if let Some(verdict) = self.sniffing.inspect(key, registry, now) {
                self.sniffed(verdict);
            }
        }
        drop(noted);
        self.stirred = keys;
    }

    fn sniffed(&mut self, verdict: Verdicted) {
        match verdict {
            Verdicted::Pass(socket, from) => self.arrived.push_back(User::Tcp(socket, from, Said::default())),
            Verdicted::Out(from, why) => {
                if let Some(what) = why {
                    self.shared.stats.add(Figure::RefusedBlock, 1);
                    log::warn!(event = "user_refused", peer:% = from; "{what} from {from} refused by block");
                }
                self.leave(Proto::Tcp(Some(from.ip())), None);
            }
        }
    }
}

/// What counts a user who got a slot, or got none.
pub(super) fn accepted(proto: Proto, entered: bool) -> Figure {
    match (entered, proto) {
        (false, _) => Figure::RefusedSlots,
        (true, Proto::Tcp(_)) => Figure::TcpAccepted,
        (true, Proto::Udp(_)) => Figure::UdpAccepted,
    }
}

/// Where the tokens of users begin whose first bytes are looked at; there are few listeners.
const SNIFFING_TOKEN: usize = USERS_TOKEN + 1023;
/// Most connections and datagrams taken from one listener in one turn.
const MAX_AT_A_TIME: usize = 256;
/// Places that are kept when a crowd has gone.
const SLACK: usize = 64;
