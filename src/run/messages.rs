//! What hub and workers tell each other.
//!
//! ```text
//!            Job  (accept, join, dial, say, ...)
//!   hub  ------------------------------------>  worker 0..N
//!        <------------------------------------
//!            Notice  (handshake, tunnel event, done, ...)
//! ```

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use mio::net::TcpStream;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};

use super::following::NextEvent;
use super::policy::{AcceptPolicy, Kind};
use super::user::{Proto, SessionKey, User};
use crate::config::Transport;
use crate::error::Error;
use crate::logic::auth::Opening;
use crate::logic::dialect::Dialect;
use crate::logic::guard::Failure;
use crate::logic::handshake::{Request, ServerAnswer};
use crate::logic::local_end::LocalEnd;
use crate::logic::names::Found;
use crate::logic::slab::Key;
use crate::logic::terms::TunnelNo;
use crate::logic::wire::{Fingerprint, Id};
use crate::net::certs::Pins;
use crate::net::mux::Mux;
use crate::net::quic::ClientTls;
use crate::net::udp::Frames;

/// Where a task lives: which worker, and its key there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Home {
    /// The worker's number.
    pub worker: usize,
    /// The task's key at that worker.
    pub key: Key,
}

/// What the hub asks of a worker.
pub enum Job {
    /// A connection came to the tunnel port: find out what it is for (server).
    Accept {
        /// The connection.
        socket: TcpStream,
        /// Its source.
        from: SocketAddr,
        /// Whether a living tunnel is there.
        known: bool,
        /// Which connections are wanted.
        policy: Arc<AcceptPolicy>,
    },
    /// A port to which connections of many streams come (server).
    Serve {
        /// The port.
        mux: Box<dyn Mux>,
        /// Which streams are wanted.
        policy: Arc<AcceptPolicy>,
    },
    /// Which streams are wanted from now on at such a port.
    Policy(Arc<AcceptPolicy>),
    /// Another process receives at such a port from now on, and passes on by this pipe what is of connections here.
    HandOn(OwnedFd),
    /// Send the answer to a handshake and close the connection.
    Answer {
        /// The connection.
        key: Key,
        /// An HTTP answer.
        bytes: Vec<u8>,
    },
    /// Give a pool connection its id (server).
    Number {
        /// The connection.
        key: Key,
        /// Its tunnel.
        tunnel: TunnelNo,
        /// Its id.
        id: Id,
        /// In which form it is said.
        dialect: Dialect,
        /// Whether an empty message is an end (WebSocket).
        ws_eof: bool,
        /// Whether it carries one user after another.
        reuse: bool,
    },
    /// Ask the server for the terms (client).
    Handshake {
        /// How to reach it.
        route: Arc<ServerRoute>,
        /// The HTTP request, or the line that stands for it.
        request: Vec<u8>,
    },
    /// Open a pool connection (client).
    Open(Wanted),
    /// A pool connection, or that of the handshake, becomes the control connection.
    Control {
        /// The connection.
        key: Key,
        /// Its tunnel.
        tunnel: TunnelNo,
        /// What is said first.
        first: Vec<u8>,
    },
    /// Send this on the control connection.
    Say {
        /// The control connection.
        key: Key,
        /// Signals.
        bytes: Vec<u8>,
    },
    /// A user gets this pool connection (ingress).
    Join {
        /// The pool connection.
        key: Key,
        /// Its tunnel.
        tunnel: TunnelNo,
        /// The user.
        user: User,
        /// Whether datagrams travel in frames.
        framed: bool,
        /// Whether the user may get another connection if this one is dead.
        retried: bool,
    },
    /// The pool connection of this user is dead: the user gets another (ingress).
    Retake {
        /// The user's task.
        key: Key,
        /// The connection.
        id: Id,
    },
    /// The peer has seen bytes of this user, or cannot tell: the user stays with the connection, or is lost with it (ingress).
    Keep {
        /// The user's task.
        key: Key,
        /// The connection.
        id: Id,
    },
    /// What the peer sends over this user's pool connection is not acknowledged: has a byte come (ingress)?
    Doubt {
        /// The user's task.
        key: Key,
        /// The connection.
        id: Id,
    },
    /// The peer finds this pool connection dead: has a byte of its user come (egress)?
    Question {
        /// The connection's task.
        key: Key,
        /// Its tunnel.
        tunnel: TunnelNo,
        /// Its id.
        id: Id,
    },
    /// This pool connection goes on to a target (egress).
    Dial {
        /// The pool connection.
        key: Key,
        /// Its tunnel.
        tunnel: TunnelNo,
        /// Which target, and how.
        request: DialRequest,
        /// What the user speaks.
        proto: Proto,
        /// The connection is to wait behind others for its next user: this worker is woken for this one, and the hub's own has little to do.
        behind: bool,
    },
    /// A user goes straight to a target (single-end).
    Forward {
        /// Names the user in [`Notice::Started`].
        ticket: u64,
        /// The user.
        user: User,
        /// Which target, and how.
        request: DialRequest,
        /// Where TLS ends here: the server's part of it.
        tls: Option<Arc<ServerConfig>>,
    },
    /// Measure how long a target takes.
    Probe {
        /// The target's number.
        target: usize,
        /// Its address.
        address: SocketAddr,
    },
    /// Datagrams for a UDP session.
    Datagrams(Key, Frames),
    /// Close a task without a word.
    Close(Key),
    /// Close a user's task: its place is needed.
    Evict(Key),
    /// A tunnel is over: close what belongs to it, but these of its users' relays.
    End {
        /// Which one.
        tunnel: TunnelNo,
        /// What goes on.
        survivors: Survivors,
    },
    /// Close what is idle, let relays go on: the program stops.
    Drain,
    /// End everything: the program does.
    Stop,
}

/// Which users' relays go on when their tunnel is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survivors {
    /// None.
    None,
    /// TCP users whose pool connection is one of its own. The next datagram of a UDP user finds the next tunnel.
    Own,
    /// All TCP users, with the shared connections that carry them, on which the peer has yet to hear that it is over.
    Tcp,
    /// All, with the shared connections that carry them.
    All,
}

/// What a worker tells the hub.
pub enum Notice {
    /// Some time has passed since the start, or since a crowd has gone from that worker, which has given back what that took.
    Quiet,
    /// A handshake was asked for (server).
    Handshake {
        /// The connection that waits for the answer.
        home: Home,
        /// Its source.
        from: SocketAddr,
        /// What was asked.
        request: Box<Request>,
        /// Whether inside TLS.
        tls: bool,
    },
    /// A handshake was begun with a line (server): who is let in has its control connection there.
    KeyLine {
        /// The connection that waits.
        home: Home,
        /// Its source.
        from: SocketAddr,
        /// The line, newline included.
        line: Vec<u8>,
    },
    /// A stranger got something wrong (server).
    Stranger {
        /// Its address.
        from: SocketAddr,
        /// What it was.
        what: Failure,
    },
    /// A connection says that it belongs to an authenticated tunnel (server).
    Opening {
        /// Where it lives.
        home: Home,
        /// Its source.
        from: SocketAddr,
        /// What it is made of.
        kind: Kind,
        /// What it says.
        opening: Opening,
    },
    /// What the handshake came to (client).
    Answered(Result<Answered, Error>),
    /// About a tunnel.
    Tunnel {
        /// Which one.
        number: TunnelNo,
        /// What happened.
        event: TunnelEvent,
    },
    /// A pool connection died before its user came, who needs another.
    Returned {
        /// Where it lived.
        home: Home,
        /// Its tunnel.
        tunnel: TunnelNo,
        /// The user.
        user: User,
    },
    /// A single-end user's relay lives there.
    Started {
        /// As in [`Job::Forward`].
        ticket: u64,
        /// Where.
        home: Home,
    },
    /// A single-end user left before the relay began.
    Unstarted {
        /// As in [`Job::Forward`].
        ticket: u64,
        /// What the user spoke.
        proto: Proto,
    },
    /// What becomes of the processes after this one.
    Next(NextEvent),
    /// A user's connection or session has ended; its slot is free.
    Done {
        /// Where it lived.
        home: Home,
        /// Its tunnel.
        tunnel: TunnelNo,
        /// What the user spoke.
        proto: Proto,
    },
    /// A UDP session has a second datagram of its user, or an answer of its target.
    Proven {
        /// Where it lives.
        home: Home,
        /// Which one.
        session: SessionKey,
    },
    /// A target was reached.
    Reached {
        /// The target's number.
        target: usize,
        /// How long that took.
        took: Duration,
    },
    /// A target was not reached.
    Missed(usize),
    /// What [`Job::Probe`] came to.
    Probed {
        /// The target's number.
        target: usize,
        /// How long it took to reach it, if it was reached.
        took: Option<Duration>,
    },
    /// The resolver's answer.
    Resolved {
        /// What was looked up.
        name: String,
        /// Its addresses.
        answer: Result<Found, Error>,
    },
    /// The system wants something of the program.
    Signal(i32),
    /// A worker has ended everything ([`Job::Stop`]).
    Stopped,
}

/// The server's answer to a handshake.
pub struct Answered {
    /// What it says.
    pub reply: Reply,
    /// The address that answered.
    pub server: SocketAddr,
    /// How long it took to reach that.
    pub round: Duration,
}

/// What came back of a handshake.
pub enum Reply {
    /// An answer.
    Said(ServerAnswer),
    /// A line, on what is the control connection if these are terms. Where that lives.
    Line(Vec<u8>, Home),
    /// Nothing: there is no TLS to be had at that port.
    NoTls(Error),
    /// Nothing, and no word about TLS either.
    Silent(Error),
}

/// A pool connection that is to be opened.
#[derive(Clone)]
pub struct Wanted {
    /// How to reach the server.
    pub route: Arc<ServerRoute>,
    /// What it begins with, in an authenticated tunnel.
    pub opening: Option<Opening>,
}

/// What happened to a tunnel's connections.
pub enum TunnelEvent {
    /// A connection came that belongs to the tunnel, and waits for its id (server).
    Arrived {
        /// Where it lives.
        home: Home,
        /// The certificate that it was made with.
        fp: Option<Fingerprint>,
    },
    /// A pool connection is open (client).
    Opened {
        /// Where it lives.
        home: Home,
        /// Its id.
        id: Id,
        /// The server's certificate.
        fp: Option<Fingerprint>,
    },
    /// A pool connection could not be opened; why, unless that is told otherwise (client).
    Failed(Option<Error>),
    /// Whether all streams that the server allows are in use, so that no more can be opened now (client). Told when it changes.
    Exhausted(bool),
    /// The connection that carries all pool connections is up (client).
    MuxUp,
    /// It could not be made; the pool connections that wanted it fail without a reason of their own (client).
    MuxFailed(Error),
    /// An idle pool connection died.
    Gone(Id),
    /// A user's pool connection is dead, and no byte of the other side has come over it.
    Lost(Id),
    /// Bytes have come over a pool connection that the peer thinks dead (egress).
    Kept(Id),
    /// Nothing has come over a user's pool connection, and what was sent over it is not acknowledged (egress).
    Doubted(Id),
    /// The peer ended its direction of an idle pool connection (egress).
    Ended(Id),
    /// A user's pool connection is free for another user.
    Free {
        /// Where it lives.
        home: Home,
        /// Its id.
        id: Id,
        /// It is to wait behind others.
        behind: bool,
    },
    /// Bytes from the control connection.
    Said(Vec<u8>),
    /// The control connection has ended.
    Closed(String),
}

/// How a client calls the server.
#[derive(Clone)]
pub struct ServerRoute {
    /// The tunnel this is for.
    pub tunnel: TunnelNo,
    /// The server's addresses, or its proxy's, in the order to try them.
    pub addresses: Vec<SocketAddr>,
    /// Where the calls begin on this machine, if that is said (`bind`).
    pub from: Option<LocalEnd>,
    /// What to say first, where `addresses` are those of a proxy: its [`Proxy::connect`](crate::logic::proxy::Proxy::connect).
    pub via: Option<Vec<u8>>,
    /// TLS, and who must answer.
    pub tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// The same for QUIC, which brings a TLS of its own.
    pub quic: Option<Arc<ClientTls>>,
    /// What pool connections are made of.
    pub transport: Transport,
    /// How many connections may carry them, where one carries many.
    pub connections: usize,
    /// How many of these are made at once and carry them side by side.
    pub carriers: usize,
    /// In which form the server answers and numbers.
    pub dialect: Dialect,
    /// Who is called, in the words of HTTP: the tunnel's host and, if it has one of its own, its port.
    pub authority: String,
    /// The certificates that pool connections may show, where only those are taken.
    pub pins: Option<Pins>,
    /// Whether they must have a chain and a name too.
    pub roots: bool,
    /// As in [`ExpectedTunnel::ws_eof`](super::policy::ExpectedTunnel::ws_eof).
    pub ws_eof: bool,
    /// Whether pool connections carry one user after another.
    pub reuse: bool,
    /// As in [`AcceptPolicy::quiet`].
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
    /// Whether success is told, too (else only failure is told).
    pub report: bool,
    /// Whether one of the targets is a name, whose addresses may change.
    pub named: bool,
}
