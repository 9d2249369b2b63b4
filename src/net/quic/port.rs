//! Sockets, and the packets that come from them and wait for them: what a client and a server have in common.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Registry, Token};

use super::connection::{Connection, Sent};
use super::packet_size::SMALLEST;
use super::passing::{Younger, FRAME};
use super::socket::{Outbox, Socket, Tally};
use crate::net::batch::PacketQueue;
use crate::net::mtu::{self, HEADERS_V4, HEADERS_V6};
use crate::net::stream::ready;

/// Some sockets with their memory.
pub struct Port {
    sockets: Vec<Socket>,
    registration: Option<(Arc<Registry>, Token)>,
    inbox: PacketQueue,
    outbox: Outbox,
    largest: usize,
    busy: Instant,
    /// Where packets come from while another process receives.
    younger: Option<Younger>,
}

/// Where a packet came from and went to.
#[derive(Clone, Copy, Debug)]
pub struct PacketPath {
    /// Which socket.
    pub socket: usize,
    /// The sender.
    pub from: SocketAddr,
    /// Our address that it was sent to.
    pub to: SocketAddr,
}

impl Port {
    /// Over these sockets.
    pub fn new(sockets: Vec<Socket>, now: Instant) -> Port {
        let v6 = sockets.iter().any(|socket| socket.local().is_ipv6());
        let largest = if v6 { MAX_V6 } else { MAX_V4 };
        let (inbox, outbox) = (PacketQueue::default(), Outbox::default());
        Port { sockets, registration: None, inbox, outbox, largest, busy: now, younger: None }
    }

    /// Registers them, all under one token.
    pub fn register(&mut self, registry: &Arc<Registry>, token: Token) -> io::Result<()> {
        self.registration = Some((registry.clone(), token));
        self.sockets.iter_mut().try_for_each(|socket| socket.register(registry, token))
    }

    /// Remembers an edge, which may be of any of them.
    pub fn note(&mut self, event: &Event) {
        self.sockets.iter_mut().for_each(|socket| socket.note(event));
    }

    /// The first of them, of a client the only one.
    pub fn socket(&self) -> &Socket {
        &self.sockets[0]
    }

    /// Puts another one in the place of a client's.
    pub fn replace(&mut self, mut fresh: Socket) -> io::Result<()> {
        if let Some((registry, token)) = &self.registration {
            self.sockets[0].deregister(registry);
            fresh.register(registry, *token)?;
        }
        fresh.tally = self.tally();
        self.sockets[0] = fresh;
        Ok(())
    }

    /// Their addresses.
    pub fn local(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.sockets.iter().map(Socket::local)
    }

    /// Largest packet worth trying, in bytes of UDP payload.
    pub fn largest(&self) -> usize {
        self.largest
    }

    /// Hands over what came, up to a bound. `true` if there may be more.
    pub fn receive(
        &mut self,
        now: Instant,
        mut each: impl FnMut(&mut Outbox, PacketPath, &mut [u8]),
    ) -> io::Result<bool> {
        let mut more = false;
        for (at, socket) in self.sockets.iter_mut().enumerate() {
            let mut calls = 0;
            while let Some(count) = ready(socket.receive(&mut self.inbox))? {
                self.busy = now;
                for (message, packet) in self.inbox.packets(count) {
                    let to = message.to.map_or(socket.local(), |ip| SocketAddr::new(ip, socket.local().port()));
                    each(&mut self.outbox, PacketPath { socket: at, from: message.from, to }, packet);
                }
                calls += 1;
                if calls == RECEIVES {
                    more = true;
                    break;
                }
            }
        }
        Ok(more)
    }

    /// Another process receives from now on, and passes on what is of connections here.
    pub fn hand_on(&mut self, passed: OwnedFd, registry: &Registry, token: Token) -> io::Result<()> {
        self.younger = Some(Younger::new(passed, registry, token)?);
        self.sockets.iter_mut().try_for_each(|socket| socket.set_deaf(true, registry, token))
    }

    /// Whether another process receives.
    pub fn is_deaf(&self) -> bool {
        self.younger.is_some()
    }

    /// Hands over what another process has passed on, up to a bound. `true` if there may be more.
    pub fn receive_passed(&mut self, mut each: impl FnMut(&mut Outbox, PacketPath, &mut [u8])) -> io::Result<bool> {
        if !self.is_deaf() {
            return Ok(false);
        }
        let mut room = [0; FRAME];
        for _ in 0..PASSED {
            let Some(younger) = &mut self.younger else { return Ok(false) };
            match younger.next(&mut room) {
                Ok(Some((from, to, len))) => {
                    let is_at = |local: SocketAddr| {
                        local.is_ipv4() == to.is_ipv4() && (local.ip() == to.ip() || local.ip().is_unspecified())
                    };
                    if let Some(socket) = self.sockets.iter().position(|socket| is_at(socket.local())) {
                        each(&mut self.outbox, PacketPath { socket, from, to }, &mut room[..len]);
                    }
                }
                // It is gone, or has no such port: then this one has it again.
                Ok(None) => {
                    self.younger = None;
                    if let Some((registry, token)) = &self.registration {
                        self.sockets.iter_mut().try_for_each(|socket| socket.set_deaf(false, registry, *token))?;
                    }
                    return Ok(true);
                }
                Err(_) => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Sends what a connection has to say. `true` if there may be more: the bound was reached.
    pub fn send(&mut self, connection: &mut Connection, now: Instant) -> io::Result<bool> {
        for _ in 0..SENDS {
            let sent = connection.send(&mut self.outbox, now);
            if sent == Sent::All {
                return Ok(false);
            }
            if !self.empty_outbox()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Sends what waits, as far as it goes, and gives memory back in quiet times.
    pub fn flush(&mut self, now: Instant) -> io::Result<()> {
        if !self.outbox.is_empty() {
            self.busy = now;
            self.empty_outbox()?;
        } else if now.saturating_duration_since(self.busy) > QUIET {
            self.outbox.shrink();
            self.inbox.shrink();
        }
        Ok(())
    }

    /// Whether all of it went; the sockets are told of room as long as they need it.
    fn empty_outbox(&mut self) -> io::Result<bool> {
        let went = ready(self.outbox.flush(&mut self.sockets))?.is_some();
        if let Some((registry, token)) = &self.registration {
            self.sockets.iter_mut().try_for_each(|socket| socket.watch_room(registry, *token))?;
        }
        Ok(went)
    }

    /// Copies of the sockets, for the next process.
    pub fn copied(&self) -> impl Iterator<Item = io::Result<OwnedFd>> + '_ {
        self.sockets.iter().map(Socket::copied)
    }

    /// Whether there is something to receive or to send.
    pub fn is_dirty(&self) -> bool {
        self.sockets.iter().any(Socket::is_readable) || self.outbox.can_go(&self.sockets)
    }

    /// What all sockets did so far.
    pub fn tally(&self) -> Tally {
        self.sockets.iter().fold(Tally::default(), |sum, socket| sum + socket.tally)
    }
}

/// Largest packet worth trying on the way to `peer`, of at most `most` bytes: no more than this machine's interface takes.
pub fn largest_to(peer: SocketAddr, most: usize) -> usize {
    mtu::largest_to(peer, None).map_or(most, |size| size.clamp(SMALLEST, most))
}

/// Most receiving calls in a turn, for each socket; each brings up to 256 KiB.
const RECEIVES: usize = 8;
/// Most packets in a turn that another process has passed on.
const PASSED: usize = 256;
/// Most times that the outbox is filled and sent for one connection in a turn.
const SENDS: usize = 8;
/// Memory for packets is given back after so long without any.
const QUIET: Duration = Duration::from_secs(1);
/// Bytes of a packet on Ethernet, and its payload over IPv4 and over IPv6.
const ETHERNET: usize = 1500;
const MAX_V4: usize = ETHERNET - HEADERS_V4;
const MAX_V6: usize = ETHERNET - HEADERS_V6;
