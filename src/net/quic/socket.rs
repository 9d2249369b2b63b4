//! A UDP socket with remembered readiness, and the packets on their way to it.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};

use mio::event::{Event, Source};
use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, Type};

use super::packet_size::SMALLEST;
use crate::logic::local_end::LocalEnd;
use crate::net::batch::{self, cannot_segment, Outgoing, PacketQueue, MAX_BATCH, MAX_MESSAGE, MAX_SEGMENTS};
use crate::net::inherited::Inherited;
use crate::net::listen_addr::ListenAddr;
use crate::net::stream::would_block;
use crate::net::{bind, mtu, sys};

/// One UDP socket. What the kernel can do for many packets at once is found out here and used.
pub struct Socket {
    socket: UdpSocket,
    local: SocketAddr,
    connected: bool,
    readable: bool,
    writable: bool,
    /// It is told of room in the kernel's buffer.
    told_of_room: bool,
    batched: bool,
    segments: bool,
    coalesces: bool,
    /// Another process receives.
    deaf: bool,
    /// What it did so far.
    pub tally: Tally,
}

/// What passed through a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// System calls for sending.
    pub sends: u64,
    /// System calls for receiving.
    pub receives: u64,
    /// Bytes of UDP payload sent.
    pub sent: u64,
    /// Bytes of UDP payload received.
    pub received: u64,
    /// Messages that the kernel did not take.
    pub lost: u64,
    /// Times that the network said that no socket listens there.
    pub refused: u64,
    /// Times that the network said there is no way there from here.
    pub unreachable: u64,
    /// Times that the kernel or the network said that a packet is too large.
    pub too_large: u64,
    /// Packets that the kernel refused though every path of QUIC carries their size.
    pub hopeless: u64,
}

impl std::ops::Add for Tally {
    type Output = Tally;

    fn add(self, other: Tally) -> Tally {
        Tally {
            sends: self.sends + other.sends,
            receives: self.receives + other.receives,
            sent: self.sent + other.sent,
            received: self.received + other.received,
            lost: self.lost + other.lost,
            refused: self.refused + other.refused,
            unreachable: self.unreachable + other.unreachable,
            too_large: self.too_large + other.too_large,
            hopeless: self.hopeless + other.hopeless,
        }
    }
}

impl Socket {
    /// A socket at `at` for all peers, or the one there that is `inherited`; and whether it was.
    pub fn open(at: ListenAddr, inherited: &Inherited, batched: bool) -> io::Result<(Socket, bool)> {
        match inherited.take(at, Type::DGRAM) {
            Some(socket) => Ok((Socket::over(socket, false, batched)?, true)),
            None => Ok((Socket::bind(at, batched)?, false)),
        }
    }

    /// A socket at `at` for all peers.
    pub fn bind(at: ListenAddr, batched: bool) -> io::Result<Socket> {
        let ListenAddr { address, dual } = at;
        let socket = new(address)?;
        if address.is_ipv6() {
            socket.set_only_v6(!dual)?;
        }
        sys::report_destination(socket.as_fd(), address.is_ipv6())?;
        socket.bind(&address.into())?;
        Socket::over(socket, false, batched)
    }

    /// A socket that talks to `peer` only, from the local end `from` if one is given.
    pub fn connect(peer: SocketAddr, from: Option<&LocalEnd>, batched: bool) -> io::Result<Socket> {
        let socket = new(peer)?;
        if let Some(from) = from {
            bind::bind(&socket, from, peer)?;
        }
        socket.connect(&peer.into())?;
        Socket::over(socket, true, batched)
    }

    fn over(socket: socket2::Socket, connected: bool, batched: bool) -> io::Result<Socket> {
        let socket = UdpSocket::from_std(socket.into());
        let local = socket.local_addr()?;
        // Best effort: a larger packet size is only looked for where packets are not cut on their way.
        let _ = mtu::probe_path_size(socket.as_fd(), local.is_ipv6());
        let coalesces = batched && batch::offload_receiving(socket.as_fd());
        let (readable, writable, tally) = (true, true, Tally::default());
        let (told_of_room, deaf) = (false, false);
        Ok(Socket {
            socket,
            local,
            connected,
            readable,
            writable,
            told_of_room,
            batched,
            segments: batched,
            coalesces,
            deaf,
            tally,
        })
    }

    /// Registers it under `token`: for what comes. The kernel would tell of room after each packet that has left.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.socket.register(registry, token, Interest::READABLE)
    }

    /// Is told of room while it waits for some.
    pub fn watch_room(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        if self.writable != self.told_of_room {
            return Ok(());
        }
        let before = self.interest();
        self.told_of_room = !self.writable;
        self.watch_instead_of(before, registry, token)
    }

    /// What it is watched for.
    fn interest(&self) -> Option<Interest> {
        match (self.deaf, self.told_of_room) {
            (false, false) => Some(Interest::READABLE),
            (false, true) => Some(Interest::READABLE | Interest::WRITABLE),
            (true, false) => None,
            (true, true) => Some(Interest::WRITABLE),
        }
    }

    fn watch_instead_of(&mut self, before: Option<Interest>, registry: &Registry, token: Token) -> io::Result<()> {
        match (before, self.interest()) {
            (Some(_), Some(now)) => self.socket.reregister(registry, token, now),
            (None, Some(now)) => self.socket.register(registry, token, now),
            (Some(_), None) => self.socket.deregister(registry),
            (None, None) => Ok(()),
        }
    }

    /// Takes it out of the poll.
    pub fn deregister(&mut self, registry: &Registry) {
        let _ = self.socket.deregister(registry);
    }

    /// Remembers an edge.
    pub fn note(&mut self, event: &Event) {
        self.readable |= event.is_readable() || event.is_error();
        self.writable |= event.is_writable() || event.is_error();
    }

    /// Its own address.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Whether packets may wait to be received.
    pub fn is_readable(&self) -> bool {
        self.readable && !self.deaf
    }

    /// Whether another process receives in place of this one, which goes on sending.
    pub fn set_deaf(&mut self, deaf: bool, registry: &Registry, token: Token) -> io::Result<()> {
        let before = self.interest();
        (self.deaf, self.readable) = (deaf, true);
        self.watch_instead_of(before, registry, token)
    }

    /// The socket itself, for the next process.
    pub fn copied(&self) -> io::Result<OwnedFd> {
        self.socket.as_fd().try_clone_to_owned()
    }

    /// Whether packets may be sent.
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// Receives as much as one call gives. Errors that the network reported are counted and are not ours.
    pub fn receive(&mut self, inbox: &mut PacketQueue) -> io::Result<usize> {
        if !self.is_readable() {
            return would_block();
        }
        let (slot, most) = if self.coalesces { (COALESCED, SLOTS) } else { (PLAIN, MAX_BATCH) };
        self.tally.receives += 1;
        let result = inbox.receive(self.socket.as_fd(), if self.batched { most } else { 1 }, slot);
        match result {
            Ok(count) => {
                self.readable = !inbox.took_all();
                self.tally.received += inbox.messages(count).map(|one| one.len as u64).sum::<u64>();
                Ok(count)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.readable = false;
                would_block()
            }
            Err(error) => {
                self.note_error(&error);
                Ok(0)
            }
        }
    }

    /// Sends messages: how many need no more thought. An error that concerns one of them counts as its loss.
    fn send(&mut self, messages: &[Outgoing<'_>]) -> io::Result<usize> {
        if !self.writable {
            return would_block();
        }
        let Some(first) = messages.first() else { return Ok(0) };
        let count = if self.batched { messages.len() } else { 1 };
        if first.bytes.len() > first.segment && !self.segments {
            return self.send_apart(first);
        }
        let several = first.bytes.len() > first.segment;
        match self.try_to_send(&messages[..count]) {
            Ok(gone) => {
                self.tally.sent += messages.iter().take(gone).map(|message| message.bytes.len() as u64).sum::<u64>();
                Ok(gone)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.writable = false;
                would_block()
            }
            Err(error) if several && (cannot_segment(&error) || is_too_large(&error)) => {
                let (before, segments) = (self.tally.too_large, std::mem::take(&mut self.segments));
                let result = self.send_apart(first);
                // What is too large for the path is refused in the same words by some kernels.
                self.segments = segments && (!cannot_segment(&error) || self.tally.too_large > before);
                result
            }
            Err(error) => {
                self.tally.lost += 1;
                self.tally.hopeless += u64::from(is_too_large(&error) && first.segment <= SMALLEST);
                Ok(1)
            }
        }
    }

    /// One call, or two: what the network has to say of earlier packets comes in place of sending, once.
    fn try_to_send(&mut self, messages: &[Outgoing<'_>]) -> io::Result<usize> {
        let mut again = true;
        loop {
            self.tally.sends += 1;
            let result = batch::send_many(self.socket.as_fd(), messages);
            let Err(error) = &result else { return result };
            self.note_error(error);
            if !std::mem::take(&mut again) || !is_news(error) {
                return result;
            }
        }
    }

    /// The packets of one message one by one. If the kernel's buffer fills in between, the rest is lost, as it would be
    /// in the network.
    fn send_apart(&mut self, message: &Outgoing<'_>) -> io::Result<usize> {
        for (at, packet) in message.bytes.chunks(message.segment).enumerate() {
            let one = Outgoing { bytes: packet, segment: packet.len(), ..*message };
            match self.send(&[one]) {
                Err(error) if at == 0 => return Err(error),
                Err(_) => self.tally.lost += 1,
                Ok(_) => {}
            }
        }
        Ok(1)
    }

    fn note_error(&mut self, error: &io::Error) {
        match error.raw_os_error() {
            Some(libc::ECONNREFUSED) => self.tally.refused += 1,
            Some(libc::EMSGSIZE) => self.tally.too_large += 1,
            Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EADDRNOTAVAIL | libc::ENETDOWN | libc::EINVAL) => {
                self.tally.unreachable += 1;
            }
            _ => {}
        }
    }
}

fn new(for_address: SocketAddr) -> io::Result<socket2::Socket> {
    let kind = Type::DGRAM.nonblocking().cloexec();
    let socket = socket2::Socket::new(Domain::for_address(for_address), kind, Some(Protocol::UDP))?;
    // Larger buffers ride out bursts; the kernel gives what it allows.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
    Ok(socket)
}

/// Whether the network may have reported that of an earlier packet.
fn is_news(error: &io::Error) -> bool {
    let codes = [libc::ECONNREFUSED, libc::EMSGSIZE, libc::EHOSTUNREACH, libc::ENETUNREACH];
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

fn is_too_large(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EMSGSIZE)
}

/// Packets that wait to be sent, put together for as few calls as possible.
#[derive(Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    used: usize,
    parts: VecDeque<Batch>,
}

struct Batch {
    range: Range<usize>,
    segment: usize,
    full: bool,
    socket: usize,
    to: SocketAddr,
    from: SocketAddr,
}

impl Outbox {
    /// Room for one packet of at most `largest` bytes; `None` if what waits must go first.
    pub fn room(&mut self, largest: usize) -> Option<&mut [u8]> {
        if self.bytes.is_empty() {
            self.bytes = vec![0; OUTBOX];
        }
        self.bytes.get_mut(self.used..self.used + largest)
    }

    /// Notes that a packet of `len` bytes was written into [`Outbox::room`].
    pub fn add(&mut self, len: usize, socket: usize, from: SocketAddr, to: SocketAddr) {
        let range = self.used..self.used + len;
        self.used += len;
        if let Some(last) = self.parts.back_mut() {
            let fits = len <= last.segment && last.range.len() + len <= MAX_MESSAGE;
            let few = last.range.len() < MAX_SEGMENTS * last.segment;
            if !last.full && fits && few && last.socket == socket && last.to == to && last.from == from {
                last.range.end = range.end;
                last.full = len < last.segment;
                return;
            }
        }
        self.parts.push_back(Batch { range, segment: len, full: len == 0, socket, to, from });
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Whether what waits could be sent now.
    pub fn can_go(&self, sockets: &[Socket]) -> bool {
        self.parts.front().and_then(|part| sockets.get(part.socket)).is_some_and(Socket::is_writable)
    }

    /// Sends what waits. `WouldBlock` if the kernel takes no more now; the rest is kept.
    pub fn flush(&mut self, sockets: &mut [Socket]) -> io::Result<()> {
        while let Some(first) = self.parts.front() {
            let at = first.socket;
            let Some(socket) = sockets.get_mut(at) else {
                self.parts.pop_front();
                continue;
            };
            let bytes = &self.bytes;
            let outgoing = |part: &Batch| Outgoing {
                bytes: &bytes[part.range.clone()],
                segment: part.segment,
                to: (!socket.connected).then_some(part.to),
                from: (!socket.connected).then_some(part.from.ip()),
            };
            let mut messages = [outgoing(first); MAX_BATCH];
            let mut count = 0;
            for (place, part) in messages.iter_mut().zip(self.parts.iter().take_while(|part| part.socket == at)) {
                *place = outgoing(part);
                count += 1;
            }
            let gone = socket.send(&messages[..count])?;
            self.parts.drain(..gone.max(1).min(self.parts.len()));
        }
        self.used = 0;
        Ok(())
    }

    /// Gives its memory back if nothing waits in it.
    pub fn shrink(&mut self) {
        if self.is_empty() {
            *self = Outbox::default();
        }
    }
}

/// Send and receive buffer asked of the kernel for each socket, in bytes: a few milliseconds at 1 Gbit/s and more.
const SOCKET_BUFFER: usize = 4 * 1024 * 1024;
/// Bytes of a slot when the kernel hands over many packets in one piece: the largest it makes.
const COALESCED: usize = 65536;
/// Such slots.
const SLOTS: usize = 4;
/// Bytes of a slot for one packet: more than any that we allow the other side.
const PLAIN: usize = 2048;
/// Bytes of packets that wait to be sent.
const OUTBOX: usize = 4 * 65536;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    fn put(outbox: &mut Outbox, len: usize, to: u16) {
        outbox.room(1500).unwrap()[..len].fill(to as u8);
        outbox.add(len, 0, at(1), at(to));
    }

    #[test]
    fn packets_of_one_size_to_one_peer_are_one_message_and_a_shorter_one_ends_it() {
        let mut outbox = Outbox::default();
        for len in [1200, 1200, 700, 700, 1200] {
            put(&mut outbox, len, 7);
        }
        put(&mut outbox, 1200, 8);
        let shape: Vec<_> = outbox.parts.iter().map(|part| (part.range.len(), part.segment)).collect();
        assert_eq!(shape, [(3100, 1200), (700, 700), (1200, 1200), (1200, 1200)]);
    }

    #[test]
    fn a_message_has_no_more_packets_and_bytes_than_a_kernel_takes() {
        let mut outbox = Outbox::default();
        for _ in 0..100 {
            put(&mut outbox, 100, 7);
        }
        assert!(outbox.parts.iter().all(|part| part.range.len() <= 64 * 100));
        let mut outbox = Outbox::default();
        while outbox.room(1500).is_some() {
            put(&mut outbox, 1500, 7);
        }
        assert!(outbox.parts.iter().all(|part| part.range.len() <= MAX_MESSAGE));
        assert!(outbox.used <= OUTBOX);
    }

    #[test]
    fn only_a_socket_that_waits_for_room_is_told_of_it() {
        let mut poll = mio::Poll::new().unwrap();
        let registry = poll.registry().try_clone().unwrap();
        let mut socket = [Socket::bind(at(0).into(), false).unwrap()];
        let remote = Socket::bind(at(0).into(), false).unwrap();
        socket[0].register(&registry, Token(0)).unwrap();
        let mut outbox = Outbox::default();
        let mut is_told = |socket: &mut [Socket]| {
            outbox.room(1200).unwrap()[..1200].fill(1);
            outbox.add(1200, 0, socket[0].local(), remote.local());
            socket[0].watch_room(&registry, Token(0)).unwrap();
            let _ = outbox.flush(socket);
            let mut events = mio::Events::with_capacity(8);
            poll.poll(&mut events, Some(Duration::from_millis(50))).unwrap();
            events.iter().any(Event::is_writable)
        };
        assert!(!is_told(&mut socket));
        // As if the kernel's buffer were full.
        socket[0].writable = false;
        assert!(is_told(&mut socket));
        socket[0].writable = true;
        assert!(!is_told(&mut socket));
    }

    #[test]
    fn what_is_sent_in_one_message_arrives_as_the_packets_it_was_made_of() {
        for batched in [true, false] {
            let mut socket = [Socket::bind(at(0).into(), batched).unwrap()];
            let mut remote = Socket::bind(at(0).into(), batched).unwrap();
            let mut outbox = Outbox::default();
            let sizes = [1200, 1200, 1200, 300, 50, 1400];
            for len in sizes {
                outbox.room(1500).unwrap()[..len].fill(len as u8);
                outbox.add(len, 0, socket[0].local(), remote.local());
            }
            outbox.flush(&mut socket).unwrap();
            assert!(outbox.is_empty());
            let (mut inbox, mut came) = (PacketQueue::default(), Vec::new());
            while came.len() < sizes.len() {
                remote.readable = true;
                let Ok(count) = remote.receive(&mut inbox) else { continue };
                for (message, packet) in inbox.packets(count) {
                    assert_eq!((message.from, message.to), (socket[0].local(), Some(remote.local().ip())));
                    assert!(packet.iter().all(|byte| *byte == packet.len() as u8));
                    came.push(packet.len());
                }
            }
            assert_eq!(came, sizes);
            assert_eq!(socket[0].tally.sends == 1, batched, "{:?}", socket[0].tally);
        }
    }
}
