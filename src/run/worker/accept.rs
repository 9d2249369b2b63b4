//! A connection that came to the tunnel's port (server), until it has said what it is.
//!
//! ```text
//!  Peeking --0x16--> Securing --+--h2--> MuxTask      (no peeking where there is no TLS)
//!     +------------------------>+--> Reading --GET--> Heading --> Asked --Answer--> Answering --> Lingering
//!  a stream of a MuxTask ------>+       |                +--Upgrade--> Upgrading --+
//!                                       +<-----------------------------------------+
//!                                       +--the opening, silence where that is one, or a key line--> Idle
//! ```
//!
//! All others are closed without a word.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::TcpStream;

use super::context::{token, Context, Side};
use super::idle::Idle;
use super::mux::{MuxTask, PoolTask};
use super::next::Next;
use crate::config::Transport;
use crate::logic::auth::Opening;
use crate::logic::dialect::{key_line, KeyLine};
use crate::logic::guard::Failure;
use crate::logic::handshake::{HeadProgress, HeadReader, Request};
use crate::logic::sniff::{first_bytes, is_line_of_zeros, FirstBytes};
use crate::logic::upgrade;
use crate::net::budget::Budget;
use crate::net::h2;
use crate::net::leg::{Leg, Own};
use crate::net::mux::{Muxes, Trial};
use crate::net::stream::{drain_all, ready, Buffer};
use crate::net::tcp::Tcp;
use crate::net::tls::Tls;
use crate::net::ws::{End, Ws};
use crate::run::messages::{Home, Notice, TunnelEvent};
use crate::run::policy::{AcceptPolicy, ExpectedTunnel, Kind, Opened};

/// A connection that came in, and how far it has come.
pub struct Inbound {
    peer: Peer,
    state: State,
}

/// What is known of the peer.
struct Peer {
    from: SocketAddr,
    policy: Arc<AcceptPolicy>,
    until: Instant,
    /// From here on silence means a pool connection.
    silence: Option<Instant>,
}

enum State {
    Peeking(Tcp),
    Securing(Box<Tls>),
    Reading(Leg, Buffer),
    Heading(Leg, HeadReader),
    /// The hub decides; its answer, once it is there.
    Asked(Leg, Option<Vec<u8>>),
    /// The answer to a request for a WebSocket; then the connection is one.
    Upgrading(Box<Tls>, Buffer),
    Answering(Leg, Buffer),
    Lingering(Leg),
}

/// What one step came to.
enum Step {
    On(State),
    Wait(State),
    /// As `On`, after the others had their turn.
    Later(State),
    Pool(Leg, ExpectedTunnel),
    /// A pool connection of an authenticated tunnel, if its opening is true.
    Claim(Leg, Kind, Opening),
    Mux(Box<Tls>),
    Asked(Leg, Box<Request>),
    /// The line of a client of 1.12 or older, where that is spoken.
    KeyLine(Leg, Vec<u8>),
    /// Another program, or an original of a generation that is not spoken here.
    Stranger(Failure),
    Close,
}

impl Inbound {
    /// Takes a connection in, under the remote token of `home`.
    pub fn new(
        socket: TcpStream,
        from: SocketAddr,
        policy: Arc<AcceptPolicy>,
        home: Home,
        context: &Context,
        now: Instant,
    ) -> io::Result<Inbound> {
        let mut tcp = Tcp::new(socket);
        tcp.register(&context.registry, token(home.key, Side::Remote))?;
        let state = State::Peeking(tcp);
        let mut peer = Peer { from, until: now + policy.timeout, policy, silence: None };
        peer.silence = peer.silent(Kind::Plain).map(|_| now + SILENCE);
        Ok(Inbound { peer, state })
    }

    /// Takes in a stream of a shared connection, which is watched already.
    pub fn of_stream(stream: Leg, from: SocketAddr, policy: Arc<AcceptPolicy>, now: Instant) -> Inbound {
        let peer = Peer { from, until: now + policy.timeout, policy, silence: None };
        Inbound { peer, state: reading(stream) }
    }

    /// Goes on.
    pub fn advance(self, home: Home, context: &mut Context, now: Instant) -> Next<Inbound, PoolTask> {
        let Inbound { mut peer, mut state } = self;
        loop {
            state = match state.step(&mut peer, &mut context.muxes, &context.shared.budget, now) {
                Ok(Step::On(state)) => state,
                Ok(Step::Wait(state)) if now < peer.until => return Next::Wait(Inbound { peer, state }),
                Ok(Step::Later(state)) if now < peer.until => return Next::Again(Inbound { peer, state }),
                Ok(Step::Asked(leg, request)) => {
                    peer.until = now + peer.policy.timeout;
                    let tls = kind_of(&leg) == Kind::Tls;
                    context.hub.send(Notice::Handshake { home, from: peer.from, request, tls });
                    State::Asked(leg, None)
                }
                Ok(Step::Pool(leg, expected)) => return Next::Become(peer.idle(leg, expected, home, context).into()),
                Ok(Step::Claim(leg, kind, opening)) => {
                    context.hub.send(Notice::Opening { home, from: peer.from, kind, opening });
                    return Next::Become(Idle::of_server(leg, peer.policy.quiet).into());
                }
                Ok(Step::KeyLine(leg, line)) => {
                    context.hub.send(Notice::KeyLine { home, from: peer.from, line });
                    return Next::Become(Idle::of_server(leg, false).into());
                }
                Ok(Step::Stranger(what)) => {
                    context.hub.send(Notice::Stranger { from: peer.from, what });
                    return Next::End;
                }
                Ok(Step::Mux(tls)) => return peer.mux(*tls, home, context),
                Ok(Step::Wait(_) | Step::Later(_) | Step::Close) | Err(_) => return Next::End,
            };
        }
    }

    /// The hub's answer.
    pub fn answer(&mut self, bytes: Vec<u8>) {
        if let State::Asked(_, answer) = &mut self.state {
            *answer = Some(bytes);
        }
    }

    /// Remembers an edge.
    pub fn note(&mut self, event: &Event) {
        match &mut self.state {
            State::Peeking(tcp) => tcp.note(event),
            State::Securing(tls) | State::Upgrading(tls, _) => tls.socket().note(event),
            State::Reading(leg, _) | State::Heading(leg, _) | State::Asked(leg, _) => leg.note(event),
            State::Answering(leg, _) | State::Lingering(leg) => leg.note(event),
        }
    }

    /// When it goes on even without an edge.
    pub fn deadline(&self) -> Instant {
        self.peer.silence.map_or(self.peer.until, |silence| silence.min(self.peer.until))
    }
}

impl State {
    fn step(self, peer: &mut Peer, muxes: &mut Muxes, budget: &Budget, now: Instant) -> io::Result<Step> {
        match self {
            State::Peeking(tcp) => peek(tcp, peer, budget, now),
            State::Securing(tls) => secure(tls, peer, now),
            State::Reading(leg, buffer) => read(leg, buffer, peer, muxes, now),
            State::Heading(mut leg, mut reader) => {
                let mut buffer = Buffer::new(OPENING);
                match ready(leg.lend(muxes).stream().fill(&mut buffer))? {
                    Some(0) => Ok(Step::Close),
                    Some(_) => Ok(headed(leg, reader.feed(buffer.bytes()), reader, peer)),
                    None => Ok(Step::Wait(State::Heading(leg, reader))),
                }
            }
            State::Asked(leg, Some(answer)) => Ok(Step::On(State::Answering(leg, Buffer::holding(answer)))),
            State::Asked(leg, None) => Ok(Step::Wait(State::Asked(leg, None))),
            State::Upgrading(mut tls, mut answer) => match ready(drain_all(&mut *tls, &mut answer))? {
                Some(()) => upgraded(tls, peer, now),
                None => Ok(Step::Wait(State::Upgrading(tls, answer))),
            },
            State::Answering(mut leg, mut answer) => {
                let sent = ready(drain_all(leg.lend(muxes).stream(), &mut answer))?.is_some();
                match sent && ready(leg.lend(muxes).stream().finish())?.is_some() {
                    true => Ok(Step::On(State::Lingering(leg))),
                    false => Ok(Step::Wait(State::Answering(leg, answer))),
                }
            }
            State::Lingering(leg) => linger(leg, muxes),
        }
    }
}

/// TLS, HTTP in the clear, or a plain pool connection?
fn peek(mut tcp: Tcp, peer: &mut Peer, budget: &Budget, now: Instant) -> io::Result<Step> {
    let mut first = [0];
    match ready(tcp.peek(&mut first))? {
        Some(0) => Ok(Step::Close),
        Some(_) if first[0] == TLS_RECORD => {
            peer.silence = None;
            match peer.policy.server_tls() {
                Some(config) => Ok(Step::On(State::Securing(Box::new(Tls::accept(tcp, config, budget)?)))),
                None => Ok(Step::Close),
            }
        }
        Some(_) => Ok(Step::On(reading(tcp))),
        None => Ok(match peer.was_silent(Kind::Plain, now) {
            Some(expected) => Step::Pool(tcp.into(), expected),
            None => Step::Wait(State::Peeking(tcp)),
        }),
    }
}

/// The TLS handshake; what comes inside it depends on the tunnel.
fn secure(mut tls: Box<Tls>, peer: &mut Peer, now: Instant) -> io::Result<Step> {
    if ready(tls.handshake())?.is_none() {
        return Ok(Step::Wait(State::Securing(tls)));
    }
    if tls.speaks_h2() {
        return Ok(Step::Mux(tls));
    }
    let asks = tls.speaks_http1();
    let leg = Leg::Own(Own::Tls(tls));
    match peer.silent(Kind::Tls).filter(|_| !asks) {
        Some(expected) if !peer.policy.waits_inside_tls(&expected) => {
            return Ok(Step::Pool(leg, expected));
        }
        Some(_) => peer.silence = Some(now + SILENCE),
        None => {}
    }
    Ok(Step::On(reading(leg)))
}

/// The first bytes: a handshake, or the opening of a pool connection.
fn read(mut leg: Leg, mut buffer: Buffer, peer: &mut Peer, muxes: &mut Muxes, now: Instant) -> io::Result<Step> {
    let more = ready(leg.lend(muxes).stream().fill(&mut buffer))?;
    if more == Some(0) {
        return Ok(Step::Close);
    }
    let kind = kind_of(&leg);
    let may_ask = peer.policy.may_ask(kind);
    if peer.policy.lines && kind == Kind::Plain {
        match (key_line(buffer.bytes()), more) {
            (KeyLine::Whole, _) => return Ok(Step::KeyLine(leg, buffer.bytes().to_vec())),
            (KeyLine::NeedMore, Some(_)) => return Ok(Step::On(State::Reading(leg, buffer))),
            (KeyLine::NeedMore, None) => return Ok(Step::Wait(State::Reading(leg, buffer))),
            (KeyLine::No, _) => {}
        }
    }
    Ok(match (first_bytes(buffer.bytes()), more) {
        (FirstBytes::Handshake, _) if may_ask => {
            peer.silence = None;
            let mut reader = HeadReader::default();
            headed(leg, reader.feed(buffer.bytes()), reader, peer)
        }
        (FirstBytes::Pool, _) if is_line_of_zeros(buffer.bytes()) => Step::Stranger(Failure::Oldest),
        (FirstBytes::Pool, _) => match (peer.policy.opened(buffer.bytes(), peer.from.ip(), kind), more) {
            (Opened::Tunnel(expected), _) => Step::Pool(leg, expected),
            (Opened::Claim(opening), _) => Step::Claim(leg, kind, opening),
            (Opened::Unknown, _) => Step::Close,
            (Opened::NeedMore | Opened::Original(_), Some(_)) => Step::On(State::Reading(leg, buffer)),
            (Opened::NeedMore, None) => Step::Wait(State::Reading(leg, buffer)),
            (Opened::Original(expected), None) => match *peer.silence.get_or_insert(now + SILENCE) <= now {
                true => Step::Pool(leg, expected),
                false => Step::Wait(State::Reading(leg, buffer)),
            },
        },
        (FirstBytes::Older, _) => Step::Stranger(Failure::Older),
        (FirstBytes::NeedMore, Some(_)) => Step::On(State::Reading(leg, buffer)),
        (FirstBytes::NeedMore, None) => match peer.was_silent(kind, now).filter(|_| buffer.is_empty()) {
            Some(expected) => Step::Pool(leg, expected),
            None => Step::Wait(State::Reading(leg, buffer)),
        },
        (FirstBytes::Stray, _) => Step::Stranger(Failure::stranger(buffer.bytes())),
        (FirstBytes::Handshake | FirstBytes::Tls, _) => Step::Close,
    })
}

/// The head of a request, as far as it has come.
fn headed(leg: Leg, progress: HeadProgress, reader: HeadReader, peer: &Peer) -> Step {
    match (progress, leg) {
        (HeadProgress::More, leg) => Step::On(State::Heading(leg, reader)),
        (HeadProgress::Done(request), leg) if request.upgrade.is_none() => Step::Asked(leg, Box::new(request)),
        // A WebSocket comes inside TLS, for a tunnel that is made of them.
        (HeadProgress::Done(request), Leg::Own(Own::Tls(tls))) if peer.policy.expects(Transport::WebSocket) => {
            Step::On(match upgrade::answer(&request.method, &request.path, request.upgrade) {
                Ok(answer) => State::Upgrading(tls, Buffer::holding(answer)),
                Err(answer) => State::Answering(Leg::Own(Own::Tls(tls)), Buffer::holding(answer)),
            })
        }
        (HeadProgress::Done(_) | HeadProgress::Bad, _) => Step::Close,
    }
}

/// The connection is a WebSocket now. An original waits for its id at once.
fn upgraded(tls: Box<Tls>, peer: &mut Peer, now: Instant) -> io::Result<Step> {
    let leg = Leg::from(Ws::over(tls, End::Server, false, &[])?);
    Ok(match (peer.silent(Kind::WebSocket), peer.policy.expects_opening(Kind::WebSocket)) {
        (Some(expected), false) => Step::Pool(leg, expected),
        (silent, true) => {
            peer.silence = silent.map(|_| now + SILENCE);
            Step::On(reading(leg))
        }
        (None, false) => Step::Close,
    })
}

/// Closing while bytes of the peer are unread would reset the connection and lose the answer on its way.
fn linger(mut leg: Leg, muxes: &mut Muxes) -> io::Result<Step> {
    let mut buffer = Buffer::new(OPENING);
    for _ in 0..MAX_UNREAD {
        match ready(leg.lend(muxes).stream().fill(&mut buffer))? {
            Some(0) => return Ok(Step::Close),
            Some(count) => buffer.consume(count),
            None => return Ok(Step::Wait(State::Lingering(leg))),
        }
    }
    Ok(Step::Later(State::Lingering(leg)))
}

impl Peer {
    /// The tunnel that the connection belongs to if it says nothing: that of an original at this address.
    fn silent(&self, kind: Kind) -> Option<ExpectedTunnel> {
        self.policy.silent(self.from.ip(), kind)
    }

    /// The same, if it was silent for long enough.
    fn was_silent(&self, kind: Kind, now: Instant) -> Option<ExpectedTunnel> {
        self.silent(kind).filter(|_| self.silence.is_some_and(|silence| now >= silence))
    }

    /// It is a pool connection of that tunnel.
    fn idle(&self, leg: Leg, expected: ExpectedTunnel, home: Home, context: &mut Context) -> Idle {
        let plain = matches!(leg, Leg::Own(Own::Tcp(_)));
        let fp = self.policy.tls.as_ref().filter(|_| !plain).map(|identity| identity.leaf);
        context.hub.send(Notice::Tunnel { number: expected.number, event: TunnelEvent::Arrived { home, fp } });
        Idle::of_server(leg, self.policy.quiet)
    }

    /// The peer speaks HTTP/2: its streams will be the pool connections.
    fn mux(self, tls: Tls, home: Home, context: &mut Context) -> Next<Inbound, PoolTask> {
        if !self.policy.expects(Transport::Http2) {
            return Next::End;
        }
        let (report, budget) = (context.shared.config.limits.report, &context.shared.budget);
        // It has what is left of the time that every connection has.
        let trial = Trial { until: self.until, bytes: self.policy.trial };
        match h2::server(tls, self.from, self.policy.streams, report, budget, trial) {
            Ok(mux) => {
                log::debug!("HTTP/2 connection from {}", self.from);
                Next::Become(MuxTask::server(mux, self.policy, home, context).into())
            }
            Err(_) => Next::End,
        }
    }
}

/// What a connection is made of.
fn kind_of(leg: &Leg) -> Kind {
    match leg {
        Leg::Own(Own::Tls(_)) => Kind::Tls,
        Leg::Own(Own::Ws(_)) => Kind::WebSocket,
        Leg::Own(Own::Tcp(_) | Own::Serial(_) | Own::Udp(_) | Own::Line(_)) => Kind::Plain,
        Leg::Mux(_) => Kind::Stream,
    }
}

fn reading(leg: impl Into<Leg>) -> State {
    State::Reading(leg.into(), Buffer::new(OPENING))
}

/// A silent connection is taken for a 1.14 client's pool connection after this long.
const SILENCE: Duration = Duration::from_millis(100);
/// The first byte of a TLS handshake record.
const TLS_RECORD: u8 = 0x16;
/// Bytes read at a time from a peer that is not known yet.
const OPENING: usize = 512;
/// Most reads of a turn from a peer that has its answer: what it still says is thrown away.
const MAX_UNREAD: usize = 64;
