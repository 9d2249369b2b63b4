//! What hub and workers tell each other, and the queue with a bell that carries it.
//!
//! ```text
//!            Job  (join, dial, say, ...)
//!   hub  ------------------------------------>  worker 0..N
//!        <------------------------------------
//!            Notice  (came, said, done, ...)
//! ```
//!
//! The hub shares its thread with worker 0: what they tell each other needs no bell and no wake-up.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mio::net::TcpStream;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};

use crate::config::Transport;
use crate::error::Error;
use crate::logic::handshake::Request;
use crate::logic::slab::Key;
use crate::logic::terms::Terms;
use crate::logic::wire::{Fingerprint, Id};
use crate::net::certs::Identity;
use crate::net::mux::Mux;
use crate::net::quic::ClientTls;
use crate::net::udp::UdpListener;

/// Where a task lives: which worker, and its key there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Home {
    /// The worker's number.
    pub worker: usize,
    /// The task's key at that worker.
    pub key: Key,
}

/// Numbers tunnels, so that late words about an old one are not taken for the new one.
pub type TunnelNo = u32;

/// What the hub asks of a worker.
pub enum Job {
    /// Somebody came to the tunnel's port: find out what he wants.
    Visit(TcpStream, SocketAddr, Arc<AcceptPolicy>),
    /// A port to which connections of many streams come (server).
    Serve(Box<dyn Mux>, Arc<AcceptPolicy>),
    /// What inbounds of such a port must bring from now on.
    AcceptPolicy(Arc<AcceptPolicy>),
    /// Send a inbound his answer and let him go.
    Answer(Key, Vec<u8>),
    /// Give a pool connection its id (server).
    Number(Key, Id),
    /// Ask the server for the terms (client).
    Ask(Arc<ServerRoute>, Vec<u8>),
    /// Open a pool connection (client).
    Open(Arc<ServerRoute>),
    /// A pool connection becomes the control connection.
    Control(Key),
    /// Send this on the control connection.
    Say(Key, Vec<u8>),
    /// A user gets this pool connection (ingress); `true` if datagrams travel in frames.
    Join(Key, User, bool),
    /// This pool connection goes on to a target (egress).
    Dial(Key, DialRequest, Proto),
    /// A user goes straight to a target (single-end). The `u64` names him in [`Notice::Started`].
    Forward(u64, User, DialRequest, Option<Arc<ServerConfig>>),
    /// Measure how long that target takes.
    Probe(usize, SocketAddr),
    /// A datagram for a UDP session.
    Datagram(Key, Vec<u8>),
    /// Close a task without a word.
    Close(Key),
    /// Close all that belongs to a tunnel.
    End(TunnelNo),
    /// Close what is idle, let relays go on: the program stops.
    Drain,
}

/// What a worker tells the hub.
pub enum Notice {
    /// A inbound asked for a handshake.
    Asked(Home, SocketAddr, Box<Request>),
    /// A inbound turned out to be a pool connection; it waits for its id (server).
    Came(Home, TunnelNo, Option<Fingerprint>),
    /// The server's answer, the address that gave it, and how long it took to reach that (client).
    Answered(Result<(Box<Terms>, SocketAddr, Duration), Error>),
    /// A pool connection is open (client).
    Opened(Home, TunnelNo, Id, Option<Fingerprint>),
    /// A pool connection could not be opened (client).
    Failed(TunnelNo, Option<Error>),
    /// Whether all streams that the server allows are in use, so that no more can be opened now (client). Told when it changes.
    Exhausted(TunnelNo, bool),
    /// The connection that carries all pool connections is up (client).
    Carried(TunnelNo),
    /// It did not come about; the pool connections that wanted it fail without a reason of their own (client).
    Unreached(TunnelNo, Error),
    /// An idle pool connection died.
    Gone(TunnelNo, Id),
    /// The peer ended its direction of an idle pool connection (egress).
    Ended(TunnelNo, Id),
    /// Bytes from the control connection.
    Said(TunnelNo, Vec<u8>),
    /// The control connection has ended.
    Over(TunnelNo, String),
    /// The pool connection died before its user came: he wants another.
    Returned(Home, User),
    /// A single-end user's relay lives there.
    Started(u64, Home),
    /// A single-end user left before his relay began.
    Unstarted(u64, Proto),
    /// A user's connection or session has ended; its slot is free.
    Done(Home, TunnelNo, Proto),
    /// A target was reached after this time.
    Reached(usize, Duration),
    /// A target was not reached.
    Missed(usize),
    /// What [`Job::Probe`] came to.
    Probed(usize, Option<Duration>),
    /// The resolver's answer.
    Resolved(String, Result<Vec<IpAddr>, Error>),
    /// The system wants something of the program.
    Signal(i32),
}

/// What a user speaks; a UDP user with the addresses that make his session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proto {
    /// A TCP connection.
    Tcp,
    /// A UDP session.
    Udp(SessionKey),
}

/// Who sends datagrams, and to which of our addresses: what makes a UDP session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionKey {
    /// The user; at the egress, who the peer says it is.
    pub user: SocketAddr,
    /// The local address that he asked.
    pub asked: Option<IpAddr>,
}

/// A user at the ingress.
pub enum User {
    /// His TCP connection.
    Tcp(TcpStream, SocketAddr),
    /// His UDP session, with the datagrams that came before it had a connection.
    Udp(Arc<UdpListener>, SessionKey, Vec<Vec<u8>>),
}

impl User {
    /// His address.
    pub fn address(&self) -> SocketAddr {
        match self {
            User::Tcp(_, address) => *address,
            User::Udp(_, flow, _) => flow.user,
        }
    }

    /// What he speaks.
    pub fn proto(&self) -> Proto {
        match self {
            User::Tcp(..) => Proto::Tcp,
            User::Udp(_, flow, _) => Proto::Udp(*flow),
        }
    }
}

/// What a inbound of the tunnel's port must bring.
pub struct AcceptPolicy {
    /// For inbounds who speak TLS.
    pub tls: Option<Identity>,
    /// Handshakes may come inside TLS (the tunnel port is 443, or a proxy may stand before it).
    pub tls_handshake: bool,
    /// The tunnel that pool connections are expected for.
    pub tunnel: Option<ExpectedTunnel>,
    /// How long a inbound may take to say what he wants (`NP_HANDSHAKE_TIMEOUT`).
    pub timeout: Duration,
}

/// A tunnel that waits for pool connections.
#[derive(Clone, Copy)]
pub struct ExpectedTunnel {
    /// Its number.
    pub number: TunnelNo,
    /// The address that shook hands.
    pub peer: IpAddr,
    /// What a pool connection must open with, where the peer knows that feature.
    pub open: Option<[u8; 16]>,
    /// Whether the pool is encrypted.
    pub tls: bool,
    /// What pool connections are made of.
    pub transport: Transport,
    /// TLS over TCP will do as well: the peer may find the way for `transport` blocked.
    pub fallback: bool,
    /// Whether an empty message is an end (WebSocket).
    pub ws_eof: bool,
    /// Most streams that the peer may have open at once.
    pub streams: usize,
    /// Whether the peer has no reason to speak first on a pool connection (we are the ingress).
    pub quiet: bool,
}

/// How a client calls the server.
#[derive(Clone)]
pub struct ServerRoute {
    /// The tunnel this is for.
    pub tunnel: TunnelNo,
    /// The server's addresses, or its proxy's, in the order to try them.
    pub addresses: Vec<SocketAddr>,
    /// What to say first, where `addresses` are those of a proxy: its [`Proxy::connect`](crate::logic::proxy::Proxy::connect).
    pub via: Option<Vec<u8>>,
    /// TLS, and who must answer.
    pub tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// The same for QUIC, which brings a TLS of its own.
    pub quic: Option<Arc<ClientTls>>,
    /// What pool connections are made of.
    pub transport: Transport,
    /// Who is called, in the words of HTTP: the tunnel's host and, if it has one of its own, its port.
    pub authority: String,
    /// What to open a pool connection with.
    pub open: Option<[u8; 16]>,
    /// As in [`ExpectedTunnel::ws_eof`].
    pub ws_eof: bool,
    /// As in [`ExpectedTunnel::quiet`].
    pub quiet: bool,
    /// The round trip to the server, as far as known.
    pub round: Duration,
    /// For the dialling of each address (`NP_TCP_DIAL_TIMEOUT`).
    pub dial: Duration,
    /// For what follows: TLS, the answer or the id (`NP_HANDSHAKE_TIMEOUT`).
    pub timeout: Duration,
}

/// How to get to a target.
pub struct DialRequest {
    /// Which targets to try, in this order, and their numbers.
    pub candidates: Vec<(usize, SocketAddr)>,
    /// For the log: the user, as far as known.
    pub user: SocketAddr,
    /// Send a PROXY line first.
    pub proxy: bool,
    /// Over UDP.
    pub udp: bool,
    /// The pool connection carries UDP frames.
    pub framed: bool,
    /// Whether success is mux_events too (else only failure is told).
    pub report: bool,
}
