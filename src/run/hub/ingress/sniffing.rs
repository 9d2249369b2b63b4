//! Users whose first bytes are looked at before they get a connection (`block`).

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use mio::net::TcpStream;
use mio::{Registry, Token};

use crate::logic::slab::{Key, Slab};
use crate::logic::sniff::{BlockVerdict, Blocked, Sniff, MAX_FIRST_BYTES};
use crate::net::tcp::Tcp;

/// Users who are looked at before they get a connection (`block`). What they say stays in their sockets.
pub struct Sniffing {
    pending: Slab<PendingUser>,
    /// All wait equally long: the first in this queue has the next deadline, and is still `pending`.
    order: VecDeque<(Instant, Key)>,
    block: Blocked,
    first: usize,
}

struct PendingUser {
    tcp: Tcp,
    address: SocketAddr,
    sniff: Sniff,
}

/// What becomes of a user.
pub enum Verdicted {
    /// The user may go on.
    Pass(TcpStream, SocketAddr),
    /// The user has left, or was refused for opening with this.
    Out(SocketAddr, Option<&'static str>),
}

impl Sniffing {
    /// Without users. Users who open with `block` are to be refused; the tokens of sockets count up from `first`.
    pub fn new(block: Blocked, first: usize) -> Sniffing {
        Sniffing { pending: Slab::new(), order: VecDeque::new(), block, first }
    }

    /// Whether users are looked at, at all.
    pub fn is_open(&self) -> bool {
        self.block.any()
    }

    /// Takes a user in.
    pub fn enter(
        &mut self,
        socket: TcpStream,
        address: SocketAddr,
        registry: &Arc<Registry>,
        now: Instant,
    ) -> io::Result<Option<Verdicted>> {
        let sniff = Sniff::new(self.block, now);
        let key = self.pending.insert(PendingUser { tcp: Tcp::new(socket), address, sniff });
        self.order.push_back((sniff.deadline(), key));
        let token = Token(self.first + key.index());
        if let Err(error) = self.pending.get_mut(key).map_or(Ok(()), |user| user.tcp.register(registry, token)) {
            self.remove(key);
            return Err(error);
        }
        Ok(self.inspect(key, registry, now))
    }

    /// An edge for the user with this number after `first`.
    pub fn note(&mut self, number: usize, event: &mio::event::Event) -> Option<Key> {
        let key = self.pending.at(number)?;
        self.pending.get_mut(key)?.tcp.note(event);
        Some(key)
    }

    /// Looks at a user's first words; `None` while they do not suffice.
    pub fn inspect(&mut self, key: Key, registry: &Registry, now: Instant) -> Option<Verdicted> {
        let user = self.pending.get_mut(key)?;
        let mut words = [0; MAX_FIRST_BYTES];
        let verdict = match user.tcp.peek(&mut words) {
            Ok(count) => user.sniff.judge(&words[..count], count == 0, now),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => user.sniff.judge(&[], false, now),
            Err(_) => return self.remove(key).map(|user| Verdicted::Out(user.address, None)),
        };
        if verdict == BlockVerdict::NeedMore {
            return None;
        }
        let PendingUser { tcp, address, .. } = self.remove(key)?;
        if let BlockVerdict::Refuse(what) = verdict {
            return Some(Verdicted::Out(address, Some(what)));
        }
        match tcp.release(registry) {
            Ok(socket) => Some(Verdicted::Pass(socket, address)),
            Err(_) => Some(Verdicted::Out(address, None)),
        }
    }

    /// The next user whose time is over, if one is.
    pub fn expired(&self, now: Instant) -> Option<Key> {
        self.order.front().filter(|(until, _)| now >= *until).map(|(_, key)| *key)
    }

    /// When the next user's time is over.
    pub fn deadline(&self) -> Option<Instant> {
        self.order.front().map(|(until, _)| *until)
    }

    /// Sends all users away; their addresses.
    pub fn clear(&mut self) -> Vec<SocketAddr> {
        let addresses = self.pending.iter().map(|(_, user)| user.address).collect();
        self.pending = Slab::new();
        self.order.clear();
        addresses
    }

    fn remove(&mut self, key: Key) -> Option<PendingUser> {
        let user = self.pending.remove(key);
        while self.order.front().is_some_and(|(_, key)| self.pending.get(*key).is_none()) {
            self.order.pop_front();
        }
        user
    }
}
