//! The doors: listening sockets of the hub, and the users and visitors who come in through them.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::event::Source;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};

use super::handoff::{Flow, Home};
use crate::config::{Endpoint, Host};
use crate::logic::slab::{Key, Slab};
use crate::logic::sniff::{user, Blocked, Verdict};
use crate::net::resolve::look_up;
use crate::net::tcp::{canonical, listen, Tcp};
use crate::net::udp::Door as UdpDoor;

/// A TCP listener that accepts a bounded number at a time and survives a lack of descriptors.
pub struct TcpDoor {
    listener: TcpListener,
    ready: bool,
    again: Option<Instant>,
    starved: bool,
}

impl TcpDoor {
    /// Listens at `at`, registered under `token`.
    pub fn open(at: SocketAddr, registry: &Registry, token: Token) -> io::Result<TcpDoor> {
        let mut listener = listen(at)?;
        listener.register(registry, token, Interest::READABLE)?;
        Ok(TcpDoor { listener, ready: true, again: None, starved: false })
    }

    /// Where it listens.
    #[cfg(feature = "master")]
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Somebody came.
    pub fn note(&mut self) {
        self.ready = true;
    }

    /// Whether more may be waiting.
    pub fn is_ready(&self) -> bool {
        self.ready && self.again.is_none()
    }

    /// When to try again after a lack of descriptors.
    pub fn deadline(&self) -> Option<Instant> {
        self.again
    }

    /// The next in line.
    pub fn accept(&mut self, now: Instant) -> Option<(TcpStream, SocketAddr)> {
        if !self.ready || self.again.is_some_and(|again| now < again) {
            return None;
        }
        self.again = None;
        for _ in 0..MOST_FAILURES {
            match self.listener.accept() {
                Ok((socket, from)) => return Some((socket, canonical(from))),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    (self.ready, self.starved) = (false, false);
                    return None;
                }
                // The kernel has no room. The queue stays, no new edge is owed: the clock has to bring us back.
                Err(error) if is_shortage(&error) => {
                    if !std::mem::replace(&mut self.starved, true) {
                        log::warn!("Cannot accept connections: {error}; raise the limit of open files or lower slot");
                    }
                    self.again = Some(now + PAUSE);
                    return None;
                }
                // The one in line has gone again.
                Err(_) => {}
            }
        }
        None
    }
}

fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

/// What users come in through: TCP and UDP side by side on the same addresses.
pub struct Entrance {
    /// TCP listeners.
    pub tcp: Vec<TcpDoor>,
    /// UDP sockets, and whether datagrams may be waiting.
    pub udp: Vec<(Arc<UdpDoor>, bool)>,
}

impl Entrance {
    /// Opens `at` for the chosen protocols; tokens count up from `first`: TCP even, UDP odd.
    pub fn open(at: &Endpoint, tcp: bool, udp: bool, registry: &Registry, first: usize) -> Result<Entrance, String> {
        let mut entrance = Entrance { tcp: Vec::new(), udp: Vec::new() };
        for (n, address) in listening_addresses(at)?.into_iter().take(MOST_ADDRESSES).enumerate() {
            let named = |kind: &str, error: io::Error| format!("cannot listen at {address} ({kind}): {error}");
            if tcp {
                let door = TcpDoor::open(address, registry, Token(first + 2 * n));
                entrance.tcp.push(door.map_err(|error| named("TCP", error))?);
            }
            if udp {
                let open = || {
                    let mut door = UdpDoor::open(address)?;
                    door.register(registry, Token(first + 2 * n + 1))?;
                    Ok(door)
                };
                entrance.udp.push((Arc::new(open().map_err(|error| named("UDP", error))?), true));
            }
        }
        Ok(entrance)
    }

    /// Somebody came, to the door with this number after `first`.
    pub fn note(&mut self, number: usize) {
        match number % 2 {
            0 => self.tcp.iter_mut().skip(number / 2).take(1).for_each(TcpDoor::note),
            _ => self.udp.iter_mut().skip(number / 2).take(1).for_each(|(_, ready)| *ready = true),
        }
    }

    /// Whether more may be waiting.
    pub fn is_ready(&self) -> bool {
        self.tcp.iter().any(TcpDoor::is_ready) || self.udp.iter().any(|(_, ready)| *ready)
    }

    /// When to try again after a lack of descriptors.
    pub fn deadline(&self) -> Option<Instant> {
        self.tcp.iter().filter_map(TcpDoor::deadline).min()
    }
}

/// The addresses to listen at. A name is looked up at once: nothing works before that is known anyway.
pub fn listening_addresses(at: &Endpoint) -> Result<Vec<SocketAddr>, String> {
    let ips = match &at.host {
        Host::Ip(ip) => vec![*ip],
        Host::Any if has_ipv6() => vec![Ipv6Addr::UNSPECIFIED.into()],
        Host::Any => vec![Ipv4Addr::UNSPECIFIED.into()],
        Host::Name(name) => look_up(name).map_err(|error| format!("cannot listen at {at}: {error}"))?,
    };
    Ok(ips.into_iter().map(|ip| SocketAddr::new(ip, at.port)).collect())
}

fn has_ipv6() -> bool {
    std::net::UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).is_ok()
}

/// Users who are looked at before they get a connection (`block`). What they say stays in their sockets.
pub struct Lobby {
    guests: Slab<Guest>,
    block: Blocked,
    first: usize,
}

struct Guest {
    tcp: Option<Tcp>,
    socket_of: SocketAddr,
    until: Instant,
}

/// What becomes of a guest.
pub enum Verdicted {
    /// He may go on.
    Pass(TcpStream, SocketAddr),
    /// He has left, or was refused for opening with this.
    Out(SocketAddr, Option<&'static str>),
}

impl Lobby {
    /// A lobby that refuses `block`; its tokens count up from `first`.
    pub fn new(block: Blocked, first: usize) -> Lobby {
        Lobby { guests: Slab::new(), block, first }
    }

    /// Whether anybody is looked at, at all.
    pub fn is_open(&self) -> bool {
        self.block.any()
    }

    /// Takes a guest in.
    pub fn enter(
        &mut self,
        socket: TcpStream,
        from: SocketAddr,
        registry: &Registry,
        now: Instant,
    ) -> io::Result<Option<Verdicted>> {
        let key = self.guests.insert(Guest { tcp: None, socket_of: from, until: now + super::dialer::QUIET });
        let mut tcp = Tcp::new(socket);
        if let Err(error) = tcp.register(registry, Token(self.first + key.index())) {
            self.guests.remove(key);
            return Err(error);
        }
        if let Some(guest) = self.guests.get_mut(key) {
            guest.tcp = Some(tcp);
        }
        Ok(self.look(key, registry, now))
    }

    /// An edge for the guest with this number after `first`.
    pub fn note(&mut self, number: usize, event: &mio::event::Event) -> Option<Key> {
        let key = self.guests.at(number)?;
        self.guests.get_mut(key)?.tcp.as_mut()?.note(event);
        Some(key)
    }

    /// Looks at a guest's first words; `None` while they do not suffice.
    pub fn look(&mut self, key: Key, registry: &Registry, now: Instant) -> Option<Verdicted> {
        let guest = self.guests.get_mut(key)?;
        let mut words = [0; FIRST_WORDS];
        let verdict = match guest.tcp.as_mut()?.peek(&mut words) {
            Ok(count) => match user(&words[..count], self.block) {
                Verdict::NeedMore if count > 0 && now < guest.until => return None,
                Verdict::Refuse(what) => Some(what),
                _ => None,
            },
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && now < guest.until => return None,
            // He waits for the target to speak first.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(_) => return self.leave(key),
        };
        if verdict.is_some() {
            return self.guests.remove(key).map(|guest| Verdicted::Out(guest.socket_of, verdict));
        }
        let guest = self.guests.remove(key)?;
        match guest.tcp?.release(registry) {
            Ok(socket) => Some(Verdicted::Pass(socket, guest.socket_of)),
            Err(_) => Some(Verdicted::Out(guest.socket_of, None)),
        }
    }

    fn leave(&mut self, key: Key) -> Option<Verdicted> {
        self.guests.remove(key).map(|guest| Verdicted::Out(guest.socket_of, None))
    }

    /// Guests who have had their time.
    pub fn due(&self, now: Instant) -> Vec<Key> {
        self.guests.iter().filter(|(_, guest)| now >= guest.until).map(|(key, _)| key).collect()
    }

    /// When the next guest has had his time.
    pub fn deadline(&self) -> Option<Instant> {
        self.guests.iter().map(|(_, guest)| guest.until).min()
    }

    /// Sends all guests away; how many there were.
    pub fn clear(&mut self) -> usize {
        let count = self.guests.len();
        self.guests = Slab::new();
        count
    }
}

/// UDP sessions at the ingress, by who talks to which of our addresses.
#[derive(Default)]
pub struct Sessions {
    live: HashMap<Flow, Place>,
}

/// Where a session's datagrams go.
pub enum Place {
    /// Nowhere yet: they wait for a connection.
    Waiting(Vec<Vec<u8>>),
    /// To this task.
    At(Home),
}

impl Sessions {
    /// The session of a flow.
    pub fn get(&mut self, flow: &Flow) -> Option<&mut Place> {
        self.live.get_mut(flow)
    }

    /// A new session whose first datagram this is.
    pub fn begin(&mut self, flow: Flow, packet: Vec<u8>) {
        self.live.insert(flow, Place::Waiting(vec![packet]));
    }

    /// The session has a task from now on; the datagrams that waited for it.
    pub fn settle(&mut self, flow: &Flow, home: Home) -> Vec<Vec<u8>> {
        match self.live.get_mut(flow).map(|place| std::mem::replace(place, Place::At(home))) {
            Some(Place::Waiting(packets)) => packets,
            _ => Vec::new(),
        }
    }

    /// The session has ended.
    pub fn end(&mut self, flow: &Flow) {
        self.live.remove(flow);
        if self.live.len() < self.live.capacity() / 8 {
            self.live.shrink_to(MOST_WAITING);
        }
    }

    /// The connection died before the session began: its datagrams wait again.
    pub fn unsettle(&mut self, flow: &Flow, packets: Vec<Vec<u8>>) {
        self.live.insert(*flow, Place::Waiting(packets));
    }
}

impl Place {
    /// A datagram that waits; too many are dropped, as the network would.
    pub fn keep(packets: &mut Vec<Vec<u8>>, packet: Vec<u8>) {
        if packets.len() < MOST_WAITING {
            packets.push(packet);
        }
    }
}

/// After a lack of descriptors the door is tried again after this long.
const PAUSE: Duration = Duration::from_millis(100);
/// So many connections that are gone before they were accepted end one accept.
const MOST_FAILURES: usize = 64;
/// Most addresses of one name that are listened at.
const MOST_ADDRESSES: usize = 8;
/// Most datagrams that wait for a session's connection.
const MOST_WAITING: usize = 16;
/// Bytes of a user's first words that are looked at.
const FIRST_WORDS: usize = 16;
