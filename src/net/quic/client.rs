//! The client's connection, on a socket of its own.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc::Sender;
use std::sync::Arc;
use std::time::Instant;

use mio::event::Event;
use mio::{Registry, Token};

use super::connection::Connection;
use super::packet_size::SMALLEST;
use super::port::{largest_to, Port};
use super::socket::{Socket, Tally};
use super::streams::Streams;
use super::tls::{ClientTls, Tickets};
use super::{config, congestion, random_id, Settings};
use crate::logic::local_end::LocalEnd;
use crate::logic::wire::Fingerprint;
use crate::net::mux::{Mux, StreamNo};
use crate::net::stream::Buffer;

/// A QUIC connection to a server. It lives on when the address of this machine changes.
pub struct QuicClient {
    server: SocketAddr,
    port: Port,
    connection: Connection,
    streams: Streams,
    tickets: Option<Sender<Vec<u8>>>,
    settings: Settings,
    dirty: bool,
    next: Option<Instant>,
    now: Instant,
    /// What the network had said when it was last heeded.
    seen: Tally,
    /// When the path is looked at again.
    look: Instant,
}

impl QuicClient {
    /// Begins a connection to `server`. Nothing is sent before the first [`Mux::advance`].
    pub fn connect(
        server: SocketAddr,
        tls: &ClientTls,
        settings: &Settings,
        tickets: &mut Tickets,
        now: Instant,
    ) -> io::Result<QuicClient> {
        let port = Port::new(vec![Socket::connect(server, settings.from.as_ref(), settings.batched)?], now);
        let largest = largest_to(server, port.largest());
        let mut config = config(settings, tls.context()?, port.largest())?;
        config.set_max_send_udp_payload_size(largest);
        config.verify_peer(tls.verifies());
        config.set_cc_algorithm(congestion(settings.round));
        // Pool connections are opened by the client alone.
        config.set_initial_max_streams_bidi(0);
        let id = random_id()?;
        let scid = quiche::ConnectionId::from_ref(&id);
        let local = port.socket().local();
        let mut quic =
            quiche::connect(tls.server_name(), &scid, local, server, &mut config).map_err(io::Error::other)?;
        if let Some(ticket) = tickets.take() {
            // One that is of no use is no reason to fail: a full handshake follows.
            let _ = quic.set_session(&ticket);
        }
        Ok(QuicClient {
            server,
            port,
            connection: Connection::new(quic, 0, settings, largest, now),
            streams: Streams::default(),
            tickets: Some(tickets.slot()),
            settings: settings.clone(),
            dirty: true,
            next: Some(now),
            now,
            seen: Tally::default(),
            look: now + settings.report,
        })
    }

    /// Goes on from another address of this machine, or from whichever the system chooses where calls are to begin.
    pub fn migrate(&mut self, from: Option<IpAddr>) -> io::Result<()> {
        let from = from.map(LocalEnd::Address).or_else(|| self.settings.from.clone());
        let fresh = Socket::connect(self.server, from.as_ref(), self.settings.batched)?;
        self.connection.quic_mut().migrate_source(fresh.local()).map_err(io::Error::other)?;
        self.port.replace(fresh)?;
        self.dirty = true;
        Ok(())
    }

    /// Whether the handshake resumed an earlier session.
    pub fn is_resumed(&self) -> bool {
        self.connection.quic().is_resumed()
    }

    /// What its socket did so far.
    pub fn tally(&self) -> Tally {
        self.port.tally()
    }

    /// Our own address.
    pub fn local(&self) -> SocketAddr {
        self.port.socket().local()
    }

    /// Looks whether packets to the server would leave from another address by now, and if so follows.
    fn follow_route(&mut self, trouble: bool, now: Instant) {
        if !self.connection.is_up() || (now < self.look && !trouble) {
            return;
        }
        self.look = now + self.settings.report;
        let Ok(probe) = Socket::connect(self.server, self.settings.from.as_ref(), false) else { return };
        if probe.local().ip() != self.local().ip() && !self.local().ip().is_loopback() {
            let _ = self.migrate(None);
        }
    }

    /// Acts on what the network has said of our packets.
    fn heed(&mut self, now: Instant) {
        let tally = self.port.tally();
        let before = std::mem::replace(&mut self.seen, tally);
        if tally.refused >= REFUSALS && !self.connection.is_up() {
            self.connection.end(super::connection::UNREACHABLE.into(), &mut self.streams);
        }
        if tally.hopeless > before.hopeless {
            self.connection.end(super::connection::NARROW.into(), &mut self.streams);
        }
        if tally.too_large > before.too_large {
            self.connection.measure();
        }
        if tally.refused > before.refused {
            self.connection.doubt(now);
        }
        self.follow_route(tally.unreachable > before.unreachable, now);
    }

    /// Why it is over, for the log.
    fn reason(&self, why: &str) -> io::Error {
        match why {
            super::connection::UNREACHABLE => {
                let text = format!("UDP port {} unreachable or blocked", self.server.port());
                io::Error::new(ErrorKind::TimedOut, text)
            }
            super::connection::NARROW => {
                let text = format!(
                    "QUIC needs packets of {SMALLEST} bytes, and the network interface takes only smaller ones"
                );
                io::Error::new(ErrorKind::Unsupported, text)
            }
            why => io::Error::new(ErrorKind::ConnectionAborted, format!("QUIC: {why}")),
        }
    }

    /// Takes in what came and runs the clocks. `true` if there may be more.
    fn hear(&mut self, now: Instant) -> io::Result<bool> {
        // What was said goes out before what has come is heard: see `Connection::finish`.
        if std::mem::take(&mut self.dirty) {
            self.port.send(&mut self.connection, now)?;
        }
        self.now = now;
        let connection = &mut self.connection;
        let server = self.server;
        let more = self.port.receive(now, |_, path, packet| {
            // A socket that follows an address may still hold packets that went to the old one: all came by this one.
            connection.receive(packet, server, path.to, now);
        })?;
        connection.tick(&mut self.streams, now);
        if self.connection.is_up() {
            self.connection.issue_ids(&self.settings.resets, |_| {})?;
            if let (Some(ticket), Some(slot)) = (self.connection.quic().session(), &self.tickets) {
                // The dialling task may be gone: then nothing needs it.
                let _ = slot.send(ticket.to_vec());
                self.tickets = None;
            }
        }
        self.heed(now);
        Ok(more)
    }

    fn say_all(&mut self, now: Instant) -> io::Result<bool> {
        let more = self.port.send(&mut self.connection, now)?;
        self.port.flush(now)?;
        self.next = self.connection.deadline();
        Ok(more)
    }

    /// How it goes on: an error is its end.
    fn state(&self, more: bool) -> io::Result<bool> {
        self.connection.over().map_or(Ok(more), |why| Err(self.reason(why)))
    }
}

impl Mux for QuicClient {
    fn register(&mut self, registry: &Arc<Registry>, token: Token) -> io::Result<()> {
        self.port.register(registry, token)
    }

    fn note(&mut self, event: &Event) {
        self.port.note(event);
    }

    fn take_in(&mut self, now: Instant) -> io::Result<bool> {
        let more = self.hear(now)?;
        if self.connection.over().is_some() {
            self.say_all(now)?;
        }
        self.dirty = true;
        self.next = self.connection.deadline();
        self.state(more)
    }

    fn advance(&mut self, now: Instant) -> io::Result<bool> {
        let more = self.hear(now)? | self.say_all(now)?;
        self.state(more)
    }

    fn deadline(&self) -> Option<Instant> {
        self.next
    }

    fn is_dirty(&self) -> bool {
        self.dirty || self.port.is_dirty()
    }

    fn is_up(&self) -> bool {
        self.connection.is_up()
    }

    fn peer_fingerprint(&self) -> Option<Fingerprint> {
        self.connection.peer_fingerprint()
    }

    fn open(&mut self) -> io::Result<StreamNo> {
        self.connection.open(&mut self.streams)
    }

    fn accept(&mut self) -> Option<(StreamNo, SocketAddr)> {
        self.streams.opened()
    }

    fn watch(&mut self, stream: StreamNo, token: Token) {
        self.streams.watch(stream, token);
    }

    fn changed(&mut self) -> Option<Token> {
        self.streams.changed()
    }

    fn fill(&mut self, stream: StreamNo, into: &mut Buffer) -> io::Result<usize> {
        self.dirty = true;
        self.connection.fill(stream, into, &mut self.streams)
    }

    fn drain(&mut self, stream: StreamNo, from: &mut Buffer) -> io::Result<usize> {
        self.dirty = true;
        self.connection.drain(stream, from, &mut self.streams)
    }

    fn finish(&mut self, stream: StreamNo) -> io::Result<()> {
        self.dirty = true;
        self.connection.finish(stream, &mut self.streams)
    }

    fn waiting(&mut self, stream: StreamNo) -> io::Result<usize> {
        self.connection.waiting(stream, &mut self.streams)
    }

    fn release(&mut self, stream: StreamNo) {
        self.dirty = true;
        self.connection.release(stream, &mut self.streams, self.now);
    }

    fn close(&mut self) {
        self.connection.close(&mut self.streams);
        let _ = self.say_all(self.now);
    }
}

/// So many times the network has to say that no socket listens before a handshake is given up: one may be a lie, or a
/// server that is just starting.
const REFUSALS: u64 = 2;
