//! The server's connections, on one socket for each address it listens at.
//!
//! ```text
//!   packet --known id--> connection
//!          --Initial from the expected address, without a token--> Retry (nothing is kept)
//!          --Initial with a good token--> new connection, if there is room
//!          --any other version--> Version Negotiation
//!          --of a connection that is not known--> to the processes before this one; there are none: stateless reset
//!          --anything else--> nothing
//! ```

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Registry, Token};
use quiche::{ConnectionId, Header, Type};

use super::connection::Connection;
use super::passing::Older;
use super::port::{largest_to, PacketPath, Port};
use super::socket::{Outbox, Socket, Tally};
use super::streams::Streams;
use super::tls::server_context;
use super::token::Tokens;
use super::{config, congestion, random_id, Id, Settings, ID};
use crate::logic::slab::{Key, Slab};
use crate::logic::strangers::Strangers;
use crate::logic::wire::Fingerprint;
use crate::net::certs::Identity;
use crate::net::inherited::Inherited;
use crate::net::listen_addr::ListenAddr;
use crate::net::mux::{AllowedPeer, Mux, StreamNo};
use crate::net::random;
use crate::net::stream::{would_block, Buffer};
use crate::net::tcp::canonical;

/// All QUIC connections to one server; their streams have one table.
pub struct QuicServer {
    port: Port,
    table: ConnectionTable,
    dirty: bool,
    next: Option<Instant>,
    now: Instant,
    /// How often packets were too large, as far as that was heeded.
    too_large: u64,
}

/// The connections, and which may become one.
struct ConnectionTable {
    connections: Slab<Connection>,
    routes: HashMap<Id, Key>,
    /// Connections that are on trial.
    strangers: Strangers<Key>,
    streams: Streams,
    allowed: Vec<AllowedPeer>,
    tokens: Tokens,
    config: quiche::Config,
    leaf: Fingerprint,
    settings: Settings,
    largest: usize,
    /// Processes before this one, which may have connections of their own.
    older: Older,
    /// Another process has the port: what is not known is of another's.
    handed_on: bool,
}

impl QuicServer {
    /// Listens at these addresses. No client is accepted before [`Mux::allow`].
    pub fn bind(
        addresses: &[ListenAddr],
        identity: &Identity,
        settings: &Settings,
        now: Instant,
    ) -> io::Result<QuicServer> {
        QuicServer::open(addresses, &Inherited::default(), identity, settings, now)
    }

    /// The same, with the sockets that are `inherited`. Packets that come there may be of connections in processes before.
    pub fn open(
        addresses: &[ListenAddr],
        inherited: &Inherited,
        identity: &Identity,
        settings: &Settings,
        now: Instant,
    ) -> io::Result<QuicServer> {
        let opened = addresses.iter().map(|at| Socket::open(*at, inherited, settings.batched));
        let (sockets, known): (Vec<_>, Vec<_>) = opened.collect::<io::Result<Vec<_>>>()?.into_iter().unzip();
        let older = if known.iter().all(|known| *known) { inherited.take_pipes() } else { Vec::new() };
        let port = Port::new(sockets, now);
        let table = ConnectionTable {
            connections: Slab::new(),
            routes: HashMap::new(),
            strangers: Strangers::new(MAX_SPARE, 0),
            streams: Streams::default(),
            allowed: Vec::new(),
            tokens: Tokens::new(now).ok_or_else(|| io::Error::other("no randomness"))?,
            config: server_config(identity, settings, port.largest())?,
            leaf: identity.leaf,
            settings: settings.clone(),
            largest: port.largest(),
            older: Older::new(older),
            handed_on: false,
        };
        Ok(QuicServer { port, table, dirty: false, next: None, now, too_large: 0 })
    }

    /// The addresses it listens at.
    pub fn local(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.port.local()
    }

    /// What its sockets did so far.
    pub fn tally(&self) -> Tally {
        self.port.tally()
    }

    /// How many connections there are, those included that are being made or closed.
    pub fn connections(&self) -> usize {
        self.table.connections.len()
    }

    /// Acts on what the kernel has said of our packets. It does not say to whom they went.
    fn heed(&mut self) {
        let too_large = self.port.tally().too_large;
        if std::mem::replace(&mut self.too_large, too_large) != too_large {
            self.table.connections.iter_mut().for_each(|(_, connection)| connection.measure());
        }
    }

    /// Takes in what came and runs the clocks. `true` if there may be more.
    fn hear(&mut self, now: Instant) -> io::Result<bool> {
        // What was said goes out before what has come is heard: see `Connection::finish`.
        if std::mem::take(&mut self.dirty) {
            self.say(now)?;
        }
        self.now = now;
        let table = &mut self.table;
        let mut more = self.port.receive(now, |outbox, path, packet| table.arrived(outbox, path, packet, now))?;
        more |= self.port.receive_passed(|outbox, path, packet| table.arrived(outbox, path, packet, now))?;
        table.handed_on = self.port.is_deaf();
        table.tick(now)?;
        Ok(more)
    }

    /// Sends what the connections have to say. `true` if there may be more.
    fn say(&mut self, now: Instant) -> io::Result<bool> {
        let mut more = false;
        for (_, connection) in self.table.connections.iter_mut() {
            more |= self.port.send(connection, now)?;
        }
        Ok(more)
    }

    fn note_deadline(&mut self) {
        self.next = self.table.connections.iter().filter_map(|(_, connection)| connection.deadline()).min();
    }

    fn with<T>(
        &mut self,
        stream: StreamNo,
        act: impl FnOnce(&mut Connection, &mut Streams) -> io::Result<T>,
    ) -> io::Result<T> {
        let table = &mut self.table;
        let entry = table.streams.get(stream).ok_or(io::ErrorKind::NotConnected)?;
        match table.connections.get_mut(entry.connection) {
            Some(connection) => act(connection, &mut table.streams),
            None => Err(io::ErrorKind::ConnectionReset.into()),
        }
    }
}

fn server_config(identity: &Identity, settings: &Settings, largest: usize) -> io::Result<quiche::Config> {
    let context = server_context(identity)?;
    config(settings, context, largest)
}

impl ConnectionTable {
    /// Closes all connections.
    fn close_all(&mut self) {
        for (_, connection) in self.connections.iter_mut() {
            connection.close(&mut self.streams);
        }
    }

    /// The newest tunnel of the peer at that address.
    fn newest(&self, address: IpAddr) -> Option<AllowedPeer> {
        let of = |peer: &&AllowedPeer| peer.address == address.to_canonical();
        self.allowed.iter().filter(of).max_by_key(|peer| peer.tunnel).copied()
    }

    /// Finds the connections whose address has no tunnel any more that was there when they were let in. They take no more streams, and
    /// end with the last one that is in use.
    fn orphan(&mut self) {
        let ConnectionTable { connections, allowed, .. } = self;
        for (_, connection) in connections.iter_mut() {
            let admitted = connection.admitted;
            let since =
                |peer: &AllowedPeer| admitted.is_some_and(|at| peer.address == at.address && peer.tunnel <= at.tunnel);
            connection.orphaned = !allowed.iter().any(since);
        }
    }

    /// A packet came.
    fn arrived(&mut self, outbox: &mut Outbox, path: PacketPath, packet: &mut [u8], now: Instant) {
        let Ok(header) = Header::from_slice(packet, ID) else { return };
        let id = Id::try_from(&header.dcid[..]).ok();
        let known = id.and_then(|id| self.routes.get(&id).copied());
        let key = match known {
            Some(key) => key,
            None if OF_CONNECTIONS.contains(&header.ty) && self.older.pass(path.from, path.to, packet) => return,
            None if self.handed_on => return,
            None if header.ty == Type::Short => return self.disown(outbox, id, path, packet.len(), now),
            None => match self.stranger(outbox, &header, path, packet.len(), now) {
                Some(key) => key,
                None => return,
            },
        };
        if let Some(connection) = self.connections.get_mut(key) {
            connection.socket = path.socket;
            connection.receive(packet, path.from, path.to, now);
        }
    }

    /// A packet of no connection: the key of the one that it begins.
    fn stranger(
        &mut self,
        outbox: &mut Outbox,
        header: &Header,
        path: PacketPath,
        len: usize,
        now: Instant,
    ) -> Option<Key> {
        let allowed = self.newest(path.from.ip()).is_some_and(|peer| peer.connections > 0);
        if !allowed || len < quiche::MIN_CLIENT_INITIAL_LEN {
            return None;
        }
        if !quiche::version_is_supported(header.version) {
            if header.ty != Type::VersionNegotiation {
                reply(outbox, path, |room| quiche::negotiate_version(&header.scid, &header.dcid, room));
            }
            return None;
        }
        if header.ty != Type::Initial {
            return None;
        }
        let token = header.token.as_deref().unwrap_or_default();
        if token.is_empty() {
            self.retry(outbox, header, path, now);
            return None;
        }
        let (first, round) = self.tokens.check(token, path.from, &header.dcid, now)?;
        self.admit(header, &first, round, path, now)
    }

    /// Ends a connection that is not known, whatever the other side is: perhaps it had one with the server that was here before.
    fn disown(&mut self, outbox: &mut Outbox, id: Option<Id>, path: PacketPath, len: usize, now: Instant) {
        let (Some(id), Some(room)) = (id, outbox.room(quiche::MIN_CLIENT_INITIAL_LEN)) else { return };
        if let Some(len) = self.settings.resets.answer(&id, len, room, now) {
            outbox.add(len, path.socket, path.to, path.from);
        }
    }

    /// Asks for the proof that the sender is where it says.
    fn retry(&self, outbox: &mut Outbox, header: &Header, path: PacketPath, now: Instant) {
        let Ok(id) = random_id() else { return };
        let Some(token) = self.tokens.mint(path.from, &header.dcid, &id, now) else { return };
        let id = ConnectionId::from_ref(&id);
        reply(outbox, path, |room| quiche::retry(&header.scid, &header.dcid, &id, &token, header.version, room));
    }

    /// Accepts a client whose address is proven.
    fn admit(&mut self, header: &Header, first: &[u8], round: Duration, path: PacketPath, now: Instant) -> Option<Key> {
        let id = Id::try_from(&header.dcid[..]).ok()?;
        let expected: usize = self.allowed.iter().map(|peer| peer.connections).sum();
        if self.connections.len() >= expected + MAX_SPARE && !self.make_room() {
            return None;
        }
        let first = ConnectionId::from_ref(first);
        self.config.set_cc_algorithm(congestion(round));
        let largest = largest_to(path.from, self.largest);
        self.config.set_max_send_udp_payload_size(largest);
        self.config.set_stateless_reset_token(Some(self.settings.resets.token(&id)));
        let quic = quiche::accept(&header.dcid, Some(&first), path.to, path.from, &mut self.config).ok()?;
        let admitted = self.newest(path.from.ip());
        let key = self.connections.insert(Connection::new(quic, path.socket, &self.settings, largest, now));
        if let Some(connection) = self.connections.get_mut(key) {
            connection.entered(key);
            connection.admitted = admitted;
        }
        if self.settings.trial.is_some() {
            self.strangers.enter(key, path.from.ip(), false);
        }
        self.routes.insert(id, key);
        Some(key)
    }

    /// Closes a connection: one that chance names of those on trial, else one that carries nothing.
    fn make_room(&mut self) -> bool {
        let spare = || {
            let spare = self.connections.iter().filter(|(_, connection)| connection.is_spare());
            spare.min_by_key(|(_, connection)| connection.is_up()).map(|(key, _)| key)
        };
        let Some(key) = self.strangers.any(random::number).or_else(spare) else { return false };
        if let Some(mut connection) = self.connections.remove(key) {
            connection.end("others need the room".into(), &mut self.streams);
        }
        self.routes.retain(|_, at| *at != key);
        true
    }

    /// Runs all clocks; removes connections that have ended.
    fn tick(&mut self, now: Instant) -> io::Result<()> {
        let mut gone = Vec::new();
        for (key, connection) in self.connections.iter_mut() {
            if connection.orphaned && connection.is_empty() {
                connection.close(&mut self.streams);
            }
            connection.tick(&mut self.streams, now);
            if connection.is_up() {
                connection.issue_ids(&self.settings.resets, |id| {
                    self.routes.insert(id, key);
                })?;
            }
            while let Some(old) = connection.retired_id() {
                self.routes.remove(&old);
            }
            if connection.is_gone() {
                gone.push(key);
            }
        }
        for key in gone {
            self.connections.remove(key);
            self.strangers.leave(key);
            self.routes.retain(|_, at| *at != key);
        }
        Ok(())
    }
}

/// Writes a packet that belongs to no connection.
fn reply(outbox: &mut Outbox, path: PacketPath, write: impl FnOnce(&mut [u8]) -> quiche::Result<usize>) {
    if let Some(Ok(len)) = outbox.room(quiche::MIN_CLIENT_INITIAL_LEN).map(write) {
        outbox.add(len, path.socket, path.to, path.from);
    }
}

impl Mux for QuicServer {
    fn allow(&mut self, peers: &[AllowedPeer], identity: &Identity) -> io::Result<()> {
        let canonical = |peer: &AllowedPeer| AllowedPeer { address: peer.address.to_canonical(), ..*peer };
        self.table.allowed = peers.iter().map(canonical).collect();
        self.table.orphan();
        self.dirty = true;
        // The same certificate keeps its tickets, so that sessions can be resumed.
        if identity.leaf != self.table.leaf {
            self.table.config = server_config(identity, &self.table.settings, self.table.largest)?;
            self.table.leaf = identity.leaf;
        }
        Ok(())
    }

    fn register(&mut self, registry: &Arc<Registry>, token: Token) -> io::Result<()> {
        self.port.register(registry, token)
    }

    fn note(&mut self, event: &Event) {
        self.port.note(event);
    }

    fn take_in(&mut self, now: Instant) -> io::Result<bool> {
        let more = self.hear(now)?;
        self.dirty = true;
        self.note_deadline();
        Ok(more)
    }

    /// The end of one connection is no error of the server: its streams are told.
    fn advance(&mut self, now: Instant) -> io::Result<bool> {
        let more = self.hear(now)? | self.say(now)?;
        self.port.flush(now)?;
        self.heed();
        self.note_deadline();
        Ok(more)
    }

    fn deadline(&self) -> Option<Instant> {
        self.next
    }

    fn is_dirty(&self) -> bool {
        self.dirty || self.port.is_dirty()
    }

    /// A server opens no streams.
    fn is_up(&self) -> bool {
        self.table.connections.iter().any(|(_, connection)| connection.is_up())
    }

    /// Clients show none.
    fn peer_fingerprint(&self) -> Option<Fingerprint> {
        None
    }

    fn open(&mut self) -> io::Result<StreamNo> {
        would_block()
    }

    fn accept(&mut self) -> Option<(StreamNo, SocketAddr)> {
        self.table.streams.opened().map(|(stream, peer)| (stream, canonical(peer)))
    }

    fn watch(&mut self, stream: StreamNo, token: Token) {
        self.table.streams.watch(stream, token);
    }

    fn changed(&mut self) -> Option<Token> {
        self.table.streams.changed()
    }

    fn fill(&mut self, stream: StreamNo, into: &mut Buffer) -> io::Result<usize> {
        self.dirty = true;
        self.with(stream, |connection, streams| connection.fill(stream, into, streams))
    }

    fn drain(&mut self, stream: StreamNo, from: &mut Buffer) -> io::Result<usize> {
        self.dirty = true;
        self.with(stream, |connection, streams| connection.drain(stream, from, streams))
    }

    fn finish(&mut self, stream: StreamNo) -> io::Result<()> {
        self.dirty = true;
        self.with(stream, |connection, streams| connection.finish(stream, streams))
    }

    fn waiting(&mut self, stream: StreamNo) -> io::Result<usize> {
        self.with(stream, |connection, streams| connection.waiting(stream, streams))
    }

    fn release(&mut self, stream: StreamNo) {
        self.dirty = true;
        let now = self.now;
        let released = self.with(stream, |connection, streams| {
            connection.release(stream, streams, now);
            Ok(())
        });
        if released.is_err() {
            self.table.streams.remove(stream);
        }
    }

    fn decide(&mut self, stream: StreamNo) {
        let Some(key) = self.table.streams.get(stream).map(|entry| entry.connection) else { return };
        self.table.strangers.leave(key);
        self.table.connections.get_mut(key).into_iter().for_each(Connection::decide);
    }

    fn handed_over(&self) -> io::Result<Vec<OwnedFd>> {
        self.port.copied().chain(self.table.older.copies()).collect()
    }

    fn hand_on(&mut self, passed: OwnedFd, registry: &Registry, token: Token) -> io::Result<()> {
        self.port.hand_on(passed, registry, token)?;
        (self.table.handed_on, self.dirty) = (true, true);
        Ok(())
    }

    fn close(&mut self) {
        self.table.close_all();
        let _ = self.say(self.now);
        let _ = self.port.flush(self.now);
    }
}

/// Packets that follow the first ones of a connection, and so have an id of ours.
const OF_CONNECTIONS: [Type; 3] = [Type::Short, Type::Handshake, Type::ZeroRTT];
/// Most connections at a time beyond one for each tunnel, those included that are being made or closed: more come when a client
/// starts anew, or from strangers behind the same address.
const MAX_SPARE: usize = 15;
