//! Somebody at the tunnel's port (server): what does he want?
//!
//! ```text
//!  Peeking --0x16--> Securing --+--h2--> MuxTask      (no peeking where there is no TLS)
//!     +------------------------>+--> Reading --GET--> Heading --> Asked --Answer--> Answering --> Lingering
//!  a stream of a MuxTask ------>+       |                +--Upgrade--> Upgrading --+
//!                                       +<-----------------------------------------+
//!                                       +--the opening, or silence where that is one--> Idle
//! ```
//!
//! All others are closed without a word.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::TcpStream;

use super::context::{token, Context, REMOTE};
use super::idle::Idle;
use super::mux::MuxTask;
use super::task::{Next, Task};
use crate::config::Transport;
use crate::logic::handshake::{HeadProgress, HeadReader, Request};
use crate::logic::sniff::{first_bytes, FirstBytes};
use crate::logic::upgrade;
use crate::net::h2;
use crate::net::leg::Leg;
use crate::net::mux::Muxes;
use crate::net::stream::{drain_all, ready, Buffer};
use crate::net::tcp::Tcp;
use crate::net::tls::Tls;
use crate::net::ws::End;
use crate::run::messages::{Home, Notice, TunnelEvent};
use crate::run::policy::{AcceptPolicy, ExpectedTunnel, Kind, Opened};

/// A inbound and how far he has come.
pub struct Inbound {
    /// His connection.
    pub leg: Option<Leg>,
    from: SocketAddr,
    policy: Arc<AcceptPolicy>,
    phase: Phase,
    until: Instant,
    /// From here on silence context: a pool connection.
    silence: Option<Instant>,
}

enum Phase {
    Peeking,
    Securing,
    Reading(Buffer),
    Heading(HeadReader),
    Asked,
    /// The answer to somebody who asked for a WebSocket; then it is one.
    Upgrading(Buffer),
    Answering(Buffer),
    Lingering,
}

/// What one step came to.
enum Step {
    Wait,
    Again,
    /// As `Again`, after the others had their turn.
    Later,
    On(Phase),
    Pool(ExpectedTunnel),
    Carry,
    Asked(Box<Request>),
    Leave,
}

impl Inbound {
    /// Takes a inbound in, under the far socket's token of `home`.
    pub fn new(
        socket: TcpStream,
        from: SocketAddr,
        policy: Arc<AcceptPolicy>,
        home: Home,
        context: &Context,
        now: Instant,
    ) -> io::Result<Inbound> {
        let mut leg = Leg::Tcp(Tcp::new(socket));
        leg.register(&context.registry, token(home.key, REMOTE))?;
        let phase = match policy.tls {
            Some(_) => Phase::Peeking,
            None => Phase::Reading(Buffer::new(OPENING)),
        };
        let until = now + policy.timeout;
        let mut inbound = Inbound { leg: Some(leg), from, policy, phase, until, silence: None };
        inbound.silence = inbound.silent_tunnel().map(|_| now + SILENCE);
        Ok(inbound)
    }

    /// Takes in a stream of a shared connection, which is watched already.
    pub fn of_stream(leg: Leg, from: SocketAddr, policy: Arc<AcceptPolicy>, now: Instant) -> Inbound {
        let (phase, until) = (Phase::Reading(Buffer::new(OPENING)), now + policy.timeout);
        Inbound { leg: Some(leg), from, policy, phase, until, silence: None }
    }

    /// Goes on.
    pub fn advance(&mut self, home: Home, context: &mut Context, now: Instant) -> Next {
        loop {
            match self.step(&mut context.muxes, now).unwrap_or(Step::Leave) {
                Step::Again => {}
                Step::On(phase) => self.phase = phase,
                Step::Asked(request) if request.upgrade.is_some() => {
                    self.phase =
                        match (self.upgradable(), upgrade::answer(&request.method, &request.path, request.upgrade)) {
                            (true, Ok(answer)) => Phase::Upgrading(Buffer::holding(answer)),
                            (true, Err(answer)) => Phase::Answering(Buffer::holding(answer)),
                            (false, _) => return Next::End,
                        };
                }
                Step::Asked(request) => {
                    self.phase = Phase::Asked;
                    self.until = now + self.policy.timeout;
                    context.hub.send(Notice::Handshake { home, from: self.from, request });
                }
                Step::Pool(expected) => return self.settle(expected, home, context),
                Step::Carry => return self.carry(context),
                Step::Wait if now < self.until => return Next::Wait,
                Step::Later if now < self.until => return Next::Again,
                Step::Wait | Step::Later | Step::Leave => return Next::End,
            }
        }
    }

    /// The hub's answer.
    pub fn answer(&mut self, bytes: Vec<u8>) {
        self.phase = Phase::Answering(Buffer::holding(bytes));
    }

    /// When to look again.
    pub fn deadline(&self) -> Instant {
        self.silence.map_or(self.until, |silence| silence.min(self.until))
    }

    /// What the connection is made of.
    fn kind(&self) -> Option<Kind> {
        match self.leg.as_ref()? {
            Leg::Tcp(_) => Some(Kind::Plain),
            Leg::Tls(_) => Some(Kind::Tls),
            Leg::Ws(_) => Some(Kind::WebSocket),
            Leg::Mux(_) => Some(Kind::Stream),
            _ => None,
        }
    }

    /// The tunnel that the connection belongs to if it says nothing: that of an original at this address.
    fn silent_tunnel(&self) -> Option<ExpectedTunnel> {
        self.policy.silent(self.from.ip(), self.kind()?)
    }

    /// Whether it may be that of a client that opens its pool connections with bytes.
    fn may_open(&self) -> bool {
        self.kind().is_some_and(|kind| self.policy.expects_opening(kind))
    }

    /// Whether it may become a WebSocket: inside TLS, for a tunnel that is made of them.
    fn upgradable(&self) -> bool {
        self.policy.expects(Transport::WebSocket) && matches!(self.leg, Some(Leg::Tls(_)))
    }

    /// The connection is a WebSocket now. An original waits for its id at once.
    fn upgraded(&mut self, now: Instant) -> io::Result<Step> {
        if let Some(leg) = self.leg.take() {
            self.leg = Some(leg.into_ws(End::Server, false, &[])?);
        }
        Ok(match (self.silent_tunnel(), self.may_open()) {
            (Some(tunnel), false) => Step::Pool(tunnel),
            (silent, true) => {
                self.silence = silent.map(|_| now + SILENCE);
                Step::On(Phase::Reading(Buffer::new(OPENING)))
            }
            (None, false) => Step::Leave,
        })
    }

    fn step(&mut self, muxes: &mut Muxes, now: Instant) -> io::Result<Step> {
        let Some(leg) = &mut self.leg else { return Ok(Step::Leave) };
        match &mut self.phase {
            Phase::Peeking => self.peek(now),
            Phase::Securing => self.secured(now),
            Phase::Reading(_) => self.read(muxes, now),
            Phase::Heading(reader) => {
                let mut buffer = Buffer::new(OPENING);
                match ready(leg.lend(muxes).stream().fill(&mut buffer))? {
                    Some(0) => Ok(Step::Leave),
                    Some(_) => {
                        let progress = reader.feed(buffer.bytes());
                        Ok(headed(progress, std::mem::take(reader)))
                    }
                    None => Ok(Step::Wait),
                }
            }
            Phase::Asked => Ok(Step::Wait),
            Phase::Upgrading(buffer) => {
                if ready(drain_all(leg.lend(muxes).stream(), buffer))?.is_none() {
                    return Ok(Step::Wait);
                }
                self.upgraded(now)
            }
            Phase::Answering(buffer) => {
                if ready(drain_all(leg.lend(muxes).stream(), buffer))?.is_none() {
                    return Ok(Step::Wait);
                }
                match ready(leg.lend(muxes).stream().finish())? {
                    Some(()) => Ok(Step::On(Phase::Lingering)),
                    None => Ok(Step::Wait),
                }
            }
            // Closing while bytes of the peer are unread would reset the connection and lose the answer on its way.
            Phase::Lingering => {
                let mut buffer = Buffer::new(OPENING);
                for _ in 0..MAX_UNREAD {
                    match ready(leg.lend(muxes).stream().fill(&mut buffer))? {
                        Some(0) => return Ok(Step::Leave),
                        Some(count) => buffer.consume(count),
                        None => return Ok(Step::Wait),
                    }
                }
                Ok(Step::Later)
            }
        }
    }

    /// TLS, HTTP in the clear, or a plain pool connection?
    fn peek(&mut self, now: Instant) -> io::Result<Step> {
        let mut first = [0];
        let Some(Leg::Tcp(tcp)) = &mut self.leg else { return Ok(Step::Leave) };
        match ready(tcp.peek(&mut first))? {
            Some(0) => Ok(Step::Leave),
            Some(_) if first[0] == TLS_RECORD => self.secure(),
            Some(_) => Ok(Step::On(Phase::Reading(Buffer::new(OPENING)))),
            None => Ok(self.silent(now)),
        }
    }

    /// The TLS handshake; what comes inside it depends on the tunnel.
    fn secured(&mut self, now: Instant) -> io::Result<Step> {
        let Some(Leg::Tls(tls)) = &mut self.leg else { return Ok(Step::Leave) };
        if ready(tls.handshake())?.is_none() {
            return Ok(Step::Wait);
        }
        if tls.speaks_h2() {
            return Ok(Step::Carry);
        }
        match self.silent_tunnel() {
            Some(tunnel) if !self.policy.tls_handshake && !self.may_open() => return Ok(Step::Pool(tunnel)),
            Some(_) => self.silence = Some(now + SILENCE),
            None => {}
        }
        Ok(Step::On(Phase::Reading(Buffer::new(OPENING))))
    }

    /// His first bytes: a handshake, or the opening of a pool connection.
    fn read(&mut self, muxes: &mut Muxes, now: Instant) -> io::Result<Step> {
        let (from, kind) = (self.from.ip(), self.kind());
        let (Some(leg), Phase::Reading(buffer)) = (&mut self.leg, &mut self.phase) else { return Ok(Step::Leave) };
        let more = ready(leg.lend(muxes).stream().fill(buffer))?;
        if more == Some(0) {
            return Ok(Step::Leave);
        }
        let bytes = buffer.bytes();
        let may_ask = match leg {
            Leg::Tcp(_) => true,
            Leg::Tls(_) => self.policy.tls_handshake,
            _ => false,
        };
        match first_bytes(bytes) {
            FirstBytes::Handshake if may_ask => {
                let mut reader = HeadReader::default();
                let progress = reader.feed(bytes);
                self.silence = None;
                Ok(headed(progress, reader))
            }
            FirstBytes::Pool => {
                let opened = kind.map_or(Opened::Unknown, |kind| self.policy.opened(bytes, from, kind));
                Ok(match opened {
                    Opened::Tunnel(tunnel) => Step::Pool(tunnel),
                    Opened::Unknown => Step::Leave,
                    Opened::NeedMore | Opened::Original(_) if more.is_some() => Step::Again,
                    Opened::NeedMore => Step::Wait,
                    Opened::Original(tunnel) => match self.silence {
                        Some(silence) if now >= silence => Step::Pool(tunnel),
                        Some(_) => Step::Wait,
                        None => {
                            self.silence = Some(now + SILENCE);
                            Step::Wait
                        }
                    },
                })
            }
            FirstBytes::NeedMore if more.is_some() => Ok(Step::Again),
            FirstBytes::NeedMore if bytes.is_empty() => Ok(self.silent(now)),
            FirstBytes::NeedMore => Ok(Step::Wait),
            _ => Ok(Step::Leave),
        }
    }

    /// Nothing was said yet. Long enough of that is how a 1.14 client opens a pool connection.
    fn silent(&mut self, now: Instant) -> Step {
        match self.silent_tunnel() {
            Some(tunnel) if self.silence.is_some_and(|silence| now >= silence) => Step::Pool(tunnel),
            _ => Step::Wait,
        }
    }

    fn secure(&mut self) -> io::Result<Step> {
        self.silence = None;
        let wanted = self.policy.wants_tls();
        let (Some(identity), true, Some(Leg::Tcp(tcp))) = (&self.policy.tls, wanted, self.leg.take()) else {
            return Ok(Step::Leave);
        };
        self.leg = Some(Leg::Tls(Box::new(Tls::accept(tcp, identity.config.clone())?)));
        Ok(Step::On(Phase::Securing))
    }

    fn settle(&mut self, expected: ExpectedTunnel, home: Home, context: &mut Context) -> Next {
        let plain = matches!(self.leg, Some(Leg::Tcp(_)));
        let fp = self.policy.tls.as_ref().filter(|_| !plain).map(|identity| identity.leaf);
        context.hub.send(Notice::Tunnel { number: expected.number, event: TunnelEvent::Arrived { home, fp } });
        let (tunnel, quiet) = (expected.number, self.policy.quiet);
        match &mut self.leg {
            Some(Leg::Ws(ws)) => ws.pass_ends(expected.ws_eof),
            Some(Leg::Mux(loan)) => context.muxes.set_owner(loan, tunnel),
            _ => {}
        }
        Next::Become(Task::Idle(Idle { leg: self.leg.take(), tunnel, id: None, quiet, ended: false }))
    }

    /// He speaks HTTP/2: his streams will be the pool connections.
    fn carry(&mut self, context: &mut Context) -> Next {
        let wanted = self.policy.expects(Transport::Http2);
        let (true, Some(Leg::Tls(tls))) = (wanted, self.leg.take()) else { return Next::End };
        let report = context.shared.config.limits.report;
        let Ok(mux) = h2::server(*tls, self.from, self.policy.streams, report) else { return Next::End };
        log::debug!("HTTP/2 connection from {}", self.from);
        Next::Become(Task::MuxTask(MuxTask::serving(mux, self.policy.clone(), context)))
    }
}

fn headed(progress: HeadProgress, reader: HeadReader) -> Step {
    match progress {
        HeadProgress::More => Step::On(Phase::Heading(reader)),
        HeadProgress::Done(request) => Step::Asked(Box::new(request)),
        HeadProgress::Bad => Step::Leave,
    }
}

/// A silent inbound is taken for a 1.14 client's pool connection after this long.
const SILENCE: Duration = Duration::from_millis(100);
/// The first byte of a TLS handshake record.
const TLS_RECORD: u8 = 0x16;
/// Bytes read at a time from somebody unknown.
const OPENING: usize = 512;
/// Most reads of a turn from a peer that has its answer: what it still says is thrown away.
const MAX_UNREAD: usize = 64;
