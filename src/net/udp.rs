//! Datagrams as a [`Stream`]: each travels as a 2-byte big-endian length and its bytes, so a relay keeps boundaries.
//!
//! ```text
//!   door (one socket, many users) --Packet--> Session.inbox -- fill --> frames --> pool connection
//!                                 <----------- send ---------- drain <-- frames <--
//! ```
//!
//! With a 1.14 peer there are no frames: each datagram is written as it is, and one read is taken for one datagram.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;

use mio::event::{Event, Source};
use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, Socket, Type};

use super::stream::{would_block, Buffer, Stream};
use super::sys::{self, Arrived};
use super::tcp::canonical;
use crate::logic::wire::{next_frame, Frame};

/// A UDP socket that many users send to. It knows, for each datagram, which local address was asked.
pub struct Door {
    socket: UdpSocket,
    v6: bool,
}

impl Door {
    /// Binds to `at`; an unspecified IPv6 address takes IPv4 too.
    pub fn open(at: SocketAddr) -> io::Result<Door> {
        let socket = Socket::new(Domain::for_address(at), Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
        if at.is_ipv6() {
            socket.set_only_v6(at.ip() != IpAddr::V6(Ipv6Addr::UNSPECIFIED))?;
        }
        // A larger receive buffer rides out bursts; the kernel gives what it allows.
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
        sys::tell_destination(socket.as_fd(), at.is_ipv6())?;
        socket.bind(&at.into())?;
        Ok(Door { socket: UdpSocket::from_std(socket.into()), v6: at.is_ipv6() })
    }

    /// Registers it under `token`, once.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.socket.register(registry, token, Interest::READABLE)
    }

    /// The next datagram, with canonical addresses.
    pub fn receive(&self, into: &mut [u8]) -> io::Result<Arrived> {
        let arrived = sys::receive(self.socket.as_fd(), into)?;
        Ok(Arrived { from: canonical(arrived.from), to: arrived.to.map(|ip| ip.to_canonical()), ..arrived })
    }

    /// Answers a user from the address that was asked.
    pub fn answer(&self, bytes: &[u8], user: SocketAddr, asked: Option<IpAddr>) -> io::Result<usize> {
        let mapped = |ip: IpAddr| match ip {
            IpAddr::V4(v4) if self.v6 => IpAddr::V6(v4.to_ipv6_mapped()),
            ip => ip,
        };
        let user = match user {
            SocketAddr::V4(v4) => SocketAddr::new(mapped((*v4.ip()).into()), v4.port()),
            v6 => v6,
        };
        sys::send(self.socket.as_fd(), bytes, user, asked.map(mapped))
    }

    /// Its own address.
    pub fn local(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

/// One user's datagrams as a stream: at the ingress through the shared door, at the egress through a socket of its own.
pub struct Session {
    end: End,
    framed: bool,
    largest: usize,
    tally: Tally,
}

enum End {
    Door { door: Arc<Door>, user: SocketAddr, asked: Option<IpAddr>, inbox: VecDeque<Vec<u8>>, over: bool },
    Own { socket: UdpSocket, readable: bool },
}

/// What passed through a session since it was last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Payload bytes received from the user or target.
    pub received: u64,
    /// Payload bytes sent to the user or target.
    pub sent: u64,
    /// Datagrams that were dropped: too large, no room, or refused by the kernel.
    pub dropped: u64,
}

impl Session {
    /// The ingress side: a user of the door. `largest` is the largest payload that is carried.
    pub fn of_user(door: Arc<Door>, user: SocketAddr, asked: Option<IpAddr>, framed: bool, largest: usize) -> Session {
        let end = End::Door { door, user, asked, inbox: VecDeque::new(), over: false };
        Session { end, framed, largest, tally: Tally::default() }
    }

    /// The egress side: a socket connected to the target, from the local address `from` if one is given.
    pub fn to_target(target: SocketAddr, from: Option<IpAddr>, framed: bool, largest: usize) -> io::Result<Session> {
        let socket =
            Socket::new(Domain::for_address(target), Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
        if let Some(from) = from {
            socket.bind(&SocketAddr::new(from, 0).into())?;
        }
        socket.connect(&target.into())?;
        let end = End::Own { socket: UdpSocket::from_std(socket.into()), readable: true };
        Ok(Session { end, framed, largest, tally: Tally::default() })
    }

    /// Registers its own socket, where it has one.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match &mut self.end {
            End::Own { socket, .. } => socket.register(registry, token, Interest::READABLE),
            End::Door { .. } => Ok(()),
        }
    }

    /// Remembers an edge.
    pub fn note(&mut self, _: &Event) {
        if let End::Own { readable, .. } = &mut self.end {
            *readable = true;
        }
    }

    /// A datagram from the door. A full inbox drops it, as the network would.
    pub fn deliver(&mut self, packet: Vec<u8>) {
        match &mut self.end {
            End::Door { inbox, .. } if inbox.len() < INBOX => inbox.push_back(packet),
            _ => self.tally.dropped += 1,
        }
    }

    /// Ends the stream: what waits is still sent on, then `fill` answers the end.
    pub fn end(&mut self) {
        if let End::Door { over, .. } = &mut self.end {
            *over = true;
        }
    }

    /// What passed since the last call.
    pub fn tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    /// Whether datagrams wait to be filled.
    fn head(&self) -> usize {
        if self.framed {
            2
        } else {
            0
        }
    }

    /// Receives one datagram into `room`, which has space for a header and the largest payload and one byte more.
    fn receive(&mut self, room: &mut [u8]) -> io::Result<Option<usize>> {
        match &mut self.end {
            End::Door { inbox, over, .. } => match inbox.pop_front() {
                Some(packet) => {
                    room[..packet.len()].copy_from_slice(&packet);
                    Ok(Some(packet.len()))
                }
                None if *over => Ok(None),
                None => would_block(),
            },
            End::Own { readable: false, .. } => would_block(),
            End::Own { socket, readable } => loop {
                match socket.recv(room) {
                    Ok(count) if count > self.largest => self.tally.dropped += 1,
                    Ok(count) => return Ok(Some(count)),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        *readable = false;
                        return Err(error);
                    }
                    // "Port unreachable" for an earlier datagram: the target may be back for the next one.
                    Err(error) if is_passing(&error) => self.tally.dropped += 1,
                    Err(error) => return Err(error),
                }
            },
        }
    }

    /// Sends one datagram. What the kernel does not take now is lost, as on any network.
    fn send(&mut self, packet: &[u8]) {
        let result = match &self.end {
            End::Door { door, user, asked, .. } => door.answer(packet, *user, *asked),
            End::Own { socket, .. } => match socket.send(packet) {
                // The first answer may be the refusal of an earlier datagram.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => socket.send(packet),
                result => result,
            },
        };
        match result {
            Ok(count) => self.tally.sent += count as u64,
            Err(_) => self.tally.dropped += 1,
        }
    }
}

fn is_passing(error: &io::Error) -> bool {
    use ErrorKind::{ConnectionRefused, HostUnreachable, Interrupted, NetworkUnreachable};
    matches!(error.kind(), ConnectionRefused | HostUnreachable | Interrupted | NetworkUnreachable)
}

impl Stream for Session {
    /// One datagram, whole. A buffer without room for the largest one has to be drained first.
    fn fill(&mut self, into: &mut Buffer) -> io::Result<usize> {
        let (head, need) = (self.head(), self.head() + self.largest + 1);
        if !self.framed && !into.is_empty() || into.room(need).len() < need {
            return would_block();
        }
        let Some(count) = self.receive(&mut into.room(need)[head..])? else { return Ok(0) };
        if self.framed {
            into.room(need)[..head].copy_from_slice(&(count as u16).to_be_bytes());
        }
        into.advance(head + count);
        self.tally.received += count as u64;
        // An empty datagram without a frame moves nothing; it cannot be told from the end, so it is skipped.
        match head + count {
            0 => self.fill(into),
            total => Ok(total),
        }
    }

    /// Every whole datagram in the buffer. Part of one is `WouldBlock`: the rest is still to come.
    fn drain(&mut self, from: &mut Buffer) -> io::Result<usize> {
        let mut gone = 0;
        while !from.is_empty() {
            let bytes = from.bytes();
            let (skip, len) = match self.framed {
                false => (0, bytes.len()),
                true => match next_frame(bytes) {
                    Frame::Whole(payload) => (payload.start, payload.len()),
                    Frame::Partial => break,
                },
            };
            if len > self.largest {
                self.tally.dropped += 1;
            } else {
                let packet = &bytes[skip..skip + len];
                // Borrowing rules: the payload is in the buffer, the counters are ours.
                self.send(packet);
            }
            from.consume(skip + len);
            gone += skip + len;
        }
        match gone {
            0 => would_block(),
            gone => Ok(gone),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Datagrams have no end: the idle deadline closes a session.
    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Receive buffer asked of the kernel for each UDP socket, in bytes.
const SOCKET_BUFFER: usize = 1024 * 1024;
/// Most datagrams that wait for one session's relay.
const INBOX: usize = 256;
/// Most bytes of a conduit that carries datagrams: a header, the largest payload, one byte to notice a larger one.
pub const fn conduit_size(largest: usize) -> usize {
    2 * (2 + largest + 1)
}
