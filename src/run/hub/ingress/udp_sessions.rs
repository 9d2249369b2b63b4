//! UDP sessions at the side where users come in.
//!
//! A session is new until its user's second datagram or the target's first answer. New ones make room for each other by chance.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::logic::networks::Network;
use crate::logic::secret_hash::SecretHash;
use crate::logic::strangers::Strangers;
use crate::net::random;
use crate::net::udp::Frames;
use crate::run::messages::Home;
use crate::run::user::SessionKey;

/// UDP sessions at the ingress, by who talks to which of our addresses.
pub struct Sessions {
    live: HashMap<SessionKey, Place, SecretHash>,
    /// How many new ones there may be, which of them have a task, and which wait for one.
    limit: usize,
    new: Strangers<SessionKey>,
    waiting: Strangers<SessionKey>,
}

/// Whether one more new session may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// There is room.
    Free,
    /// The session at that home makes room.
    Instead(SessionKey, Home),
    /// The networks of that source have as many as they may.
    Network,
    /// There is none: all of them wait for a connection.
    None,
}

/// Where a session's datagrams go.
pub enum Place {
    /// Nowhere yet: they wait for a connection.
    Waiting(Frames),
    /// To this task.
    At(Home),
}

impl Sessions {
    /// None yet, and at most `limit` new ones at once.
    pub fn new(limit: Option<usize>) -> Sessions {
        let limit = limit.unwrap_or(usize::MAX);
        let live = HashMap::with_hasher(SecretHash::new(std::array::from_fn(|_| random::number())));
        Sessions { live, limit, new: Strangers::new(limit, 0), waiting: Strangers::new(limit, 0) }
    }

    /// Whether one more may come, from that address. This machine's own are not counted by network: a proxy there speaks for all.
    pub fn room(&mut self, from: IpAddr) -> Room {
        let places = |network| self.new.places_of(network) + self.waiting.places_of(network);
        let of_network = if from.to_canonical().is_loopback() { 0 } else { places(network(from)) };
        if of_network >= (self.limit / NETWORKS).max(MIN_OF_NETWORK) {
            return Room::Network;
        }
        if self.new.len() + self.waiting.len() < self.limit {
            return Room::Free;
        }
        let leaves = self.new.any(random::number);
        match leaves.and_then(|key| Some((key, self.live.get(&key)?))) {
            Some((key, Place::At(home))) => {
                let home = *home;
                self.end(&key, Some(home));
                Room::Instead(key, home)
            }
            _ => Room::None,
        }
    }

    /// The session that lives there is new no more.
    pub fn prove(&mut self, key: &SessionKey, home: Home) {
        if matches!(self.live.get(key), Some(Place::At(at)) if *at == home) {
            self.new.leave(*key);
        }
    }

    /// The session of that key.
    pub fn get(&mut self, key: &SessionKey) -> Option<&mut Place> {
        self.live.get_mut(key)
    }

    /// A new session whose first datagram this is.
    pub fn begin(&mut self, key: SessionKey, packet: &[u8]) {
        let mut frames = Frames::default();
        frames.push(&[packet]);
        self.live.insert(key, Place::Waiting(frames));
        self.waiting.enter(key, network(key.user.ip()), false);
    }

    /// The session has a task from now on; the datagrams that waited for it.
    pub fn bind(&mut self, key: &SessionKey, home: Home) -> Frames {
        match self.live.get_mut(key).map(|place| std::mem::replace(place, Place::At(home))) {
            Some(Place::Waiting(frames)) => {
                self.waiting.leave(*key);
                self.new.enter(*key, network(key.user.ip()), false);
                frames
            }
            _ => Frames::default(),
        }
    }

    /// The session that lived at `home`, or waited, has ended; whether there was one. Another of the same key stays.
    pub fn end(&mut self, key: &SessionKey, home: Option<Home>) -> bool {
        let was_live = match (self.live.get(key), home) {
            (Some(Place::Waiting(_)), None) => true,
            (Some(Place::At(at)), Some(home)) => *at == home,
            _ => false,
        };
        if !was_live {
            return false;
        }
        self.live.remove(key);
        self.waiting.leave(*key);
        self.new.leave(*key);
        if self.live.len() < self.live.capacity() / 8 {
            self.live.shrink_to(MAX_WAITING);
        }
        was_live
    }

    /// The connection at `home` died before the session was heard: its datagrams wait again. Whether it is still there.
    pub fn unbind(&mut self, key: &SessionKey, home: Home, frames: Frames) -> bool {
        let place = self.live.get_mut(key).filter(|place| matches!(place, Place::At(at) if *at == home));
        let Some(place) = place else { return false };
        *place = Place::Waiting(frames);
        self.new.leave(*key);
        self.waiting.enter(*key, network(key.user.ip()), false);
        true
    }
}

/// What new sessions are bounded by: who can use one address of an IPv4 /24 or an IPv6 /48 can most likely use the others.
fn network(address: IpAddr) -> IpAddr {
    Network::first_of(address, if address.to_canonical().is_ipv4() { 24 } else { 48 })
}

impl Place {
    /// A datagram that waits; too many are dropped, as the network would. Whether there was room.
    pub fn keep(frames: &mut Frames, packet: &[u8]) -> bool {
        let has_room = frames.count() < MAX_WAITING && frames.payload() + packet.len() <= MAX_WAITING_BYTES;
        if has_room {
            frames.push(&[packet]);
        }
        has_room
    }
}

/// One network may have so large a part of the new sessions: an eighth, and at least so many.
const NETWORKS: usize = 8;
const MIN_OF_NETWORK: usize = 16;
/// Most datagrams that wait for a session's connection, besides the first.
const MAX_WAITING: usize = 64;
/// Their bytes at most.
const MAX_WAITING_BYTES: usize = 128 * 1024;
