//! The UDP port that many users share.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use mio::event::Source;
use mio::net::UdpSocket;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, Socket, Type};

use crate::net::batch::{Incoming, PacketQueue, MAX_BATCH};
use crate::net::budget::Budget;
use crate::net::inherited::Inherited;
use crate::net::listen_addr::ListenAddr;
use crate::net::sys;
use crate::net::tcp::canonical;

/// A UDP socket that many users send to. It knows, for each datagram, which local address was asked.
pub struct UdpListener {
    socket: UdpSocket,
    v6: bool,
    budget: Budget,
    /// Lost datagrams that were told.
    told: AtomicU32,
}

impl UdpListener {
    /// Binds to `at`, or has the socket there that is `inherited`. As much waits, here and in its sessions, as `budget` allows.
    pub fn open(at: ListenAddr, inherited: &Inherited, budget: &Budget) -> io::Result<UdpListener> {
        let socket = match inherited.take(at, Type::DGRAM) {
            Some(socket) => socket,
            None => UdpListener::bound(at, budget)?,
        };
        let (socket, told) = (UdpSocket::from_std(socket.into()), AtomicU32::new(0));
        Ok(UdpListener { socket, v6: at.address.is_ipv6(), budget: *budget, told })
    }

    fn bound(ListenAddr { address, dual }: ListenAddr, budget: &Budget) -> io::Result<Socket> {
        let domain = Domain::for_address(address);
        let socket = Socket::new(domain, Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(!dual)?;
        }
        // The datagrams of all users wait here while this machine is busy: as many as the kernel allows.
        let size = LISTENER_BUFFER.min(4 * budget.mail);
        if !sys::force_receive_buffer(socket.as_fd(), size) {
            let _ = socket.set_recv_buffer_size(size);
        }
        sys::report_lost(socket.as_fd());
        sys::report_destination(socket.as_fd(), address.is_ipv6())?;
        socket.bind(&address.into())?;
        Ok(socket)
    }

    /// How many datagrams were lost so far since the receive buffer was full, if it is time to say so: when it is the first one, and when
    /// they are twice as many as were told. So a flood of them does not fill the log.
    pub fn lost<'a>(&self, messages: impl Iterator<Item = &'a Incoming>) -> Option<u32> {
        let (lost, told) = (messages.map(|message| message.lost).max()?, self.told.load(Ordering::Relaxed));
        let due = lost > 0 && lost >= told.saturating_mul(2);
        due.then(|| {
            self.told.store(lost, Ordering::Relaxed);
            lost
        })
    }

    /// Registers it under `token`, once.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.socket.register(registry, token, Interest::READABLE)
    }

    /// Takes it out of that poll: it sends on, and another process receives.
    pub fn close(&self, registry: &Registry) {
        // An error means that no edge comes anyway.
        let _ = registry.deregister(&mut SourceFd(&self.socket.as_raw_fd()));
    }

    /// The next datagrams, of at most `largest` bytes: how many.
    pub fn receive(&self, into: &mut PacketQueue, largest: usize) -> io::Result<usize> {
        let slots = (self.budget.gulp / largest.max(1)).clamp(1, MAX_BATCH);
        into.receive(self.socket.as_fd(), slots, largest)
    }

    /// Answers a user from the address that was asked.
    pub fn answer(&self, bytes: &[u8], user: SocketAddr, asked: Option<IpAddr>) -> io::Result<usize> {
        let (to, from) = self.as_asked(user, asked);
        sys::send(self.socket.as_fd(), bytes, to, from)
    }

    /// A user's address and the one that was asked, as this socket knows them.
    pub(super) fn as_asked(&self, user: SocketAddr, asked: Option<IpAddr>) -> (SocketAddr, Option<IpAddr>) {
        let mapped = |ip: IpAddr| match ip {
            IpAddr::V4(v4) if self.v6 => IpAddr::V6(v4.to_ipv6_mapped()),
            ip => ip,
        };
        let user = match user {
            SocketAddr::V4(v4) => SocketAddr::new(mapped((*v4.ip()).into()), v4.port()),
            v6 => v6,
        };
        (user, asked.map(mapped))
    }

    /// What it and its sessions may take of the memory.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Its own address.
    pub fn local(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

impl AsFd for UdpListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Who sent a message to a listener, and which address was asked, in canonical form.
pub fn sender(message: &Incoming) -> (SocketAddr, Option<IpAddr>) {
    (canonical(message.from), message.to.map(|ip| ip.to_canonical()))
}

/// Receive buffer asked of the kernel for a port that all users share, in bytes: two seconds at 60 Mbit/s.
pub(super) const LISTENER_BUFFER: usize = 16 * 1024 * 1024;
