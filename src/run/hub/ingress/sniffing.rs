//! Users whose first bytes are looked at before they get a connection (`block`).

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use mio::net::TcpStream;
use mio::{Registry, Token};

use crate::logic::slab::{Key, Slab};
use crate::logic::sniff::{user, Blocked, Verdict, QUIET};
use crate::net::tcp::Tcp;

/// Users who are looked at before they get a connection (`block`). What they say stays in their sockets.
pub struct Sniffing {
    pending: Slab<PendingUser>,
    block: Blocked,
    first: usize,
}

struct PendingUser {
    tcp: Option<Tcp>,
    socket_of: SocketAddr,
    until: Instant,
}

/// What becomes of a pending.
pub enum Verdicted {
    /// He may go on.
    Pass(TcpStream, SocketAddr),
    /// He has left, or was refused for opening with this.
    Out(SocketAddr, Option<&'static str>),
}

impl Sniffing {
    /// A sniffing that refuses `block`; its tokens count up from `first`.
    pub fn new(block: Blocked, first: usize) -> Sniffing {
        Sniffing { pending: Slab::new(), block, first }
    }

    /// Whether anybody is looked at, at all.
    pub fn is_open(&self) -> bool {
        self.block.any()
    }

    /// Takes a pending in.
    pub fn enter(
        &mut self,
        socket: TcpStream,
        from: SocketAddr,
        registry: &Registry,
        now: Instant,
    ) -> io::Result<Option<Verdicted>> {
        let key = self.pending.insert(PendingUser { tcp: None, socket_of: from, until: now + QUIET });
        let mut tcp = Tcp::new(socket);
        if let Err(error) = tcp.register(registry, Token(self.first + key.index())) {
            self.pending.remove(key);
            return Err(error);
        }
        if let Some(pending) = self.pending.get_mut(key) {
            pending.tcp = Some(tcp);
        }
        Ok(self.look(key, registry, now))
    }

    /// An edge for the pending with this number after `first`.
    pub fn note(&mut self, number: usize, event: &mio::event::Event) -> Option<Key> {
        let key = self.pending.at(number)?;
        self.pending.get_mut(key)?.tcp.as_mut()?.note(event);
        Some(key)
    }

    /// Looks at a pending's first words; `None` while they do not suffice.
    pub fn look(&mut self, key: Key, registry: &Registry, now: Instant) -> Option<Verdicted> {
        let pending = self.pending.get_mut(key)?;
        let mut words = [0; FIRST_WORDS];
        let verdict = match pending.tcp.as_mut()?.peek(&mut words) {
            Ok(count) => match user(&words[..count], self.block) {
                Verdict::NeedMore if count > 0 && now < pending.until => return None,
                Verdict::Refuse(what) => Some(what),
                _ => None,
            },
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && now < pending.until => return None,
            // He waits for the target to speak first.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(_) => return self.leave(key),
        };
        if verdict.is_some() {
            return self.pending.remove(key).map(|pending| Verdicted::Out(pending.socket_of, verdict));
        }
        let pending = self.pending.remove(key)?;
        match pending.tcp?.release(registry) {
            Ok(socket) => Some(Verdicted::Pass(socket, pending.socket_of)),
            Err(_) => Some(Verdicted::Out(pending.socket_of, None)),
        }
    }

    fn leave(&mut self, key: Key) -> Option<Verdicted> {
        self.pending.remove(key).map(|pending| Verdicted::Out(pending.socket_of, None))
    }

    /// Guests who have had their time.
    pub fn due(&self, now: Instant) -> Vec<Key> {
        self.pending.iter().filter(|(_, pending)| now >= pending.until).map(|(key, _)| key).collect()
    }

    /// When the next pending has had his time.
    pub fn deadline(&self) -> Option<Instant> {
        self.pending.iter().map(|(_, pending)| pending.until).min()
    }

    /// Sends all pending away; how many there were.
    pub fn clear(&mut self) -> usize {
        let count = self.pending.len();
        self.pending = Slab::new();
        count
    }
}

/// Bytes of a user's first words that are looked at.
const FIRST_WORDS: usize = 16;
