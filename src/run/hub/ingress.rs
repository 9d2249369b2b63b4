//! Who comes in: the entrance, the slots, the sniffing, and the sessions of UDP users.
//!
//! ```text
//!  Listeners --slot free?--> (Sniffing, with block) --> next() -> User
//! ```

pub mod listeners;
mod sniffing;
mod udp_sessions;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use mio::event::Event;
use mio::net::TcpStream;
use mio::Registry;

use self::listeners::Listeners;
use self::sniffing::{Sniffing, Verdicted};
use self::udp_sessions::{Place, Sessions};
use super::USERS_TOKEN;
use crate::config::Endpoint;
use crate::error::Error;
use crate::logic::slab::Key;
use crate::net::budget::budget;
use crate::net::udp::UdpListener;
use crate::run::channel::Sender;
use crate::run::messages::{Home, Job, Proto, SessionKey, User};
use crate::run::shared::Shared;

/// The users of one instance, at the side where they come in; elsewhere only their slots.
pub(in crate::run) struct Users {
    shared: Arc<Shared>,
    entrance: Opening,
    sniffing: Sniffing,
    looked: Vec<Key>,
    sessions: Sessions,
    packet: Vec<u8>,
    arrived: VecDeque<User>,
    /// Datagrams for sessions that have a task.
    mail: VecDeque<(Home, Vec<u8>)>,
    ends_tls: bool,
    tcp: usize,
    udp: usize,
    /// The limit was reached, and that was said.
    full: bool,
}

/// The entrance, or when to try again to open it.
enum Opening {
    /// Users do not come in here.
    Unwanted,
    /// It could not be opened; what was said of it.
    Closed { at: Endpoint, again: Instant, said: Option<Error> },
    /// Users may come.
    Open(Listeners),
}

impl Users {
    /// No users yet. With `ends_tls` their first words are encrypted, and looked at by a worker.
    pub fn new(shared: Arc<Shared>, ends_tls: bool) -> Users {
        let sniffing = Sniffing::new(shared.config.block, SNIFFING_TOKEN);
        let packet = vec![0; shared.config.limits.udp_buffer + 1];
        Users {
            shared,
            entrance: Opening::Unwanted,
            sniffing,
            looked: Vec::new(),
            sessions: Sessions::default(),
            packet,
            arrived: VecDeque::new(),
            mail: VecDeque::new(),
            ends_tls,
            tcp: 0,
            udp: 0,
            full: false,
        }
    }

    /// Opens the entrance, unless it is open already.
    pub fn open(&mut self, at: &Endpoint, registry: &Registry, now: Instant) {
        if matches!(self.entrance, Opening::Unwanted) {
            self.entrance = Opening::Closed { at: at.clone(), again: now, said: None };
            self.tick(registry, now);
        }
    }

    /// Whether users can come in.
    pub fn is_open(&self) -> bool {
        matches!(self.entrance, Opening::Open(_))
    }

    /// Takes an entrance that was opened elsewhere.
    pub fn take(&mut self, entrance: Listeners) {
        self.entrance = Opening::Open(entrance);
    }

    /// Users do not come in here any more.
    pub fn close(&mut self) {
        self.entrance = Opening::Unwanted;
        self.tcp -= self.sniffing.clear().min(self.tcp);
    }

    /// An edge of one of the entrance's or the sniffing's sockets.
    pub fn note(&mut self, event: &Event) {
        let token = event.token().0;
        if token >= SNIFFING_TOKEN {
            let key = self.sniffing.note(token - SNIFFING_TOKEN, event);
            self.looked.extend(key);
        } else if let Opening::Open(entrance) = &mut self.entrance {
            entrance.note(token - USERS_TOKEN);
        }
    }

    /// Lets in who waits, a bounded number: see [`Users::next`] and [`Users::deliver`].
    pub fn admit(&mut self, registry: &Registry, now: Instant) {
        self.look(registry, now);
        // A door that lacked descriptors is not ready until it is tried again: so every open one is asked.
        if !matches!(&self.entrance, Opening::Open(_)) {
            return;
        }
        let Opening::Open(mut entrance) = std::mem::replace(&mut self.entrance, Opening::Unwanted) else { return };
        for door in &mut entrance.tcp {
            for _ in 0..MAX_AT_A_TIME {
                let Some((socket, from)) = door.accept(now) else { break };
                self.admit_tcp(socket, from, registry, now);
            }
        }
        for (door, ready) in entrance.udp.iter_mut().filter(|(_, ready)| *ready) {
            let mut taken = 0;
            for _ in 0..MAX_AT_A_TIME {
                if taken >= budget().gulp {
                    break;
                }
                match door.receive(&mut self.packet) {
                    Ok(arrived) if arrived.len >= self.packet.len() => {
                        let (len, from) = (arrived.len, arrived.from);
                        log::warn!("Datagram of {len} bytes from {from} dropped: larger than NP_UDP_DATA_BUF_SIZE");
                    }
                    Ok(arrived) => {
                        taken += arrived.len;
                        self.admit_udp(door, SessionKey { user: arrived.from, asked: arrived.to }, arrived.len);
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                        *ready = false;
                        break;
                    }
                    // An earlier answer could not be delivered; that is between the kernel and that user.
                    Err(_) => {}
                }
            }
        }
        self.entrance = Opening::Open(entrance);
    }

    /// The next user who may go on.
    pub fn next(&mut self) -> Option<User> {
        self.arrived.pop_front()
    }

    /// Hands datagrams to the sessions that have a task.
    pub fn deliver(&mut self, workers: &[Sender<Job>]) {
        for (home, packet) in self.mail.drain(..) {
            workers[home.worker].deliver(home.key, packet, budget().mail);
        }
    }

    /// Whether more waits at the entrance.
    pub fn is_busy(&self) -> bool {
        matches!(&self.entrance, Opening::Open(entrance) if entrance.is_ready())
    }

    /// Time has passed: an entrance that could not be opened is tried again.
    pub fn tick(&mut self, registry: &Registry, now: Instant) {
        let Opening::Closed { at, again, said } = &mut self.entrance else { return };
        if now < *again {
            return;
        }
        let config = &self.shared.config;
        match Listeners::open(at, config.tcp, config.udp, registry, USERS_TOKEN) {
            Ok(entrance) => self.entrance = Opening::Open(entrance),
            Err(why) => {
                if said.as_ref() != Some(&why) {
                    log::error!("{} error: {why}; trying again every {:?}", self.shared.name(), config.limits.cooldown);
                }
                (*again, *said) = (now + config.limits.cooldown, Some(why));
            }
        }
    }

    /// When the clock has something to say.
    pub fn deadline(&self) -> Option<Instant> {
        let entrance = match &self.entrance {
            Opening::Open(entrance) => entrance.deadline(),
            Opening::Closed { again, .. } => Some(*again),
            Opening::Unwanted => None,
        };
        entrance.into_iter().chain(self.sniffing.deadline()).min()
    }

    /// Takes a slot for one more, if one is free. The egress counts its users in the same way.
    pub fn enter(&mut self, proto: Proto) -> bool {
        if self.shared.config.slot.is_some_and(|slot| self.live() >= slot) {
            return false;
        }
        *self.count(proto) += 1;
        self.full = false;
        true
    }

    /// A slot is free again.
    pub fn leave(&mut self, proto: Proto) {
        if let Proto::Udp(flow) = proto {
            self.sessions.end(&flow);
        }
        let count = self.count(proto);
        debug_assert!(*count > 0, "a slot was given back twice");
        *count = count.saturating_sub(1);
    }

    /// Users that count against `slot`.
    pub fn live(&self) -> usize {
        self.tcp + self.udp
    }

    /// Live TCP connections and UDP sessions.
    pub fn counts(&self) -> (usize, usize) {
        (self.tcp, self.udp)
    }

    /// A UDP user's session has its task: the datagrams that waited go with him.
    pub fn settle(&mut self, user: User, home: Home) -> User {
        match user {
            User::Udp(door, flow, _) => {
                let packets = self.sessions.settle(&flow, home);
                User::Udp(door, flow, packets)
            }
            user => user,
        }
    }

    /// The same, for a task that was started with nothing: the datagrams that waited are in the mail.
    pub fn settle_flow(&mut self, flow: &SessionKey, home: Home) {
        let packets = self.sessions.settle(flow, home);
        self.mail.extend(packets.into_iter().map(|packet| (home, packet)));
    }

    /// He needs another task: his datagrams wait again.
    pub fn unsettle(&mut self, user: User) -> User {
        match user {
            User::Udp(door, flow, packets) => {
                self.sessions.unsettle(&flow, packets);
                User::Udp(door, flow, Vec::new())
            }
            user => user,
        }
    }

    fn admit_tcp(&mut self, socket: TcpStream, from: SocketAddr, registry: &Registry, now: Instant) {
        if !self.let_in(Proto::Tcp, from) {
            return;
        }
        if !self.sniffing.is_open() || self.ends_tls {
            return self.arrived.push_back(User::Tcp(socket, from));
        }
        match self.sniffing.enter(socket, from, registry, now) {
            Ok(Some(verdict)) => self.judged(verdict),
            Ok(None) => {}
            Err(_) => self.leave(Proto::Tcp),
        }
    }

    fn admit_udp(&mut self, door: &Arc<UdpListener>, flow: SessionKey, len: usize) {
        let packet = self.packet[..len].to_vec();
        match self.sessions.get(&flow) {
            Some(Place::At(home)) => self.mail.push_back((*home, packet)),
            Some(Place::Waiting(packets)) => Place::keep(packets, packet),
            None => {
                if self.let_in(Proto::Udp(flow), flow.user) {
                    self.sessions.begin(flow, packet);
                    self.arrived.push_back(User::Udp(door.clone(), flow, Vec::new()));
                }
            }
        }
    }

    fn let_in(&mut self, proto: Proto, from: SocketAddr) -> bool {
        let entered = self.enter(proto);
        if !entered {
            // Each is told, but a flood of them does not fill the log.
            let level = if std::mem::replace(&mut self.full, true) { log::Level::Debug } else { log::Level::Warn };
            log::log!(level, "{from} refused: all {} slots are taken (slot)", self.live());
        }
        entered
    }

    /// Looks at pending in the sniffing whose words came or whose time is over.
    fn look(&mut self, registry: &Registry, now: Instant) {
        let mut keys = std::mem::take(&mut self.looked);
        let mut noted = keys.drain(..);
        while let Some(key) = noted.next().or_else(|| self.sniffing.expired(now)) {
            if let Some(verdict) = self.sniffing.look(key, registry, now) {
                self.judged(verdict);
            }
        }
        drop(noted);
        self.looked = keys;
    }

    fn judged(&mut self, verdict: Verdicted) {
        match verdict {
            Verdicted::Pass(socket, from) => self.arrived.push_back(User::Tcp(socket, from)),
            Verdicted::Out(from, why) => {
                if let Some(what) = why {
                    log::warn!("{what} from {from} refused by block");
                }
                self.leave(Proto::Tcp);
            }
        }
    }

    fn count(&mut self, proto: Proto) -> &mut usize {
        match proto {
            Proto::Tcp => &mut self.tcp,
            Proto::Udp(_) => &mut self.udp,
        }
    }
}

/// Where the tokens of the sniffing's pending begin; the entrance has few.
const SNIFFING_TOKEN: usize = USERS_TOKEN + 1023;
/// Most connections and datagrams taken from one door in one turn.
const MAX_AT_A_TIME: usize = 256;
