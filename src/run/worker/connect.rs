//! A connection to the server (client): for the handshake, as a pool connection, or to carry many of these.
//!
//! ```text
//!  Dialling --> (Proxying) --> Securing (with TLS) --+--> Asking: the request, the answer
//!                                                    +--> Opening: what opens a pool connection, its id --> Idle
//!                                                    |       ^
//!                                                    +--> Upgrading (WebSocket)
//!                                                    +--> MuxTask (HTTP/2), whose streams begin with Opening
//! ```

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::event::Event;

use super::context::{token, Context, Side};
use super::idle::Idle;
use super::mux::{MuxTask, PoolTask};
use super::next::Next;
use crate::config::Transport;
use crate::error::{Cause, Error};
use crate::logic::auth::Opening;
use crate::logic::dialect::{Dialect, IdBytes, ID_REST};
use crate::logic::handshake::{parse_answer, ServerAnswer};
use crate::logic::http::MAX_ANSWER;
use crate::logic::program::Program;
use crate::logic::terms::TunnelNo;
use crate::logic::upgrade;
use crate::logic::wire::{Id, CONTROL};
use crate::net::connect::{Connect, Outcome};
use crate::net::h2;
use crate::net::http_connect::HttpConnect;
use crate::net::leg::{Leg, Own};
use crate::net::mux::{Mux, Muxes};
use crate::net::random;
use crate::net::stream::{drain_all, ready, Buffer};
use crate::net::tcp::Tcp;
use crate::net::tls::Tls;
use crate::net::ws::{End, Ws};
use crate::run::messages::{Answered, Home, Notice, Reply, ServerRoute, TunnelEvent, Wanted};

/// A connection to the server, and how far it has come.
pub struct Connector {
    call: Call,
    state: State,
}

/// What the connection is for.
struct Call {
    route: Arc<ServerRoute>,
    purpose: Purpose,
    /// Which of the route's addresses was reached, and how long that took.
    reached: (usize, Duration),
    until: Option<Instant>,
    /// The TLS handshake goes on.
    securing: bool,
    /// The other side has answered it.
    speaks_tls: bool,
}

enum Purpose {
    /// The handshake: send this request, read the answer.
    Ask(Vec<u8>),
    /// A pool connection: open it, with these bytes in an authenticated tunnel, and read its id.
    Open(Option<Opening>),
    /// A connection whose streams will be the pool connections.
    Carry,
}

enum State {
    Dialling(Connect),
    Proxying(Tcp, HttpConnect),
    Securing(Box<Tls>),
    Upgrading {
        own: Own,
        request: Buffer,
        reply: Vec<u8>,
        key: upgrade::WebSocketKey,
    },
    Asking {
        leg: Leg,
        request: Buffer,
        answer: Buffer,
    },
    /// The same where both are lines. What follows the answer is the control connection's.
    AskingInLines {
        leg: Leg,
        request: Buffer,
        answer: Vec<u8>,
    },
    Opening {
        leg: Leg,
        opening: Buffer,
        /// What has come of its id, and when that is all of it, if it can be.
        id: Vec<u8>,
        settles: Option<Instant>,
    },
}

/// What one step came to.
enum Step {
    On(State),
    Wait(State),
    Answered(ServerAnswer),
    Line(Leg, Vec<u8>),
    Opened(Leg, Id),
    Mux(Box<dyn Mux>),
}

impl Connector {
    /// For the terms.
    pub fn asking(route: Arc<ServerRoute>, request: Vec<u8>, home: Home, context: &Context) -> Connector {
        Connector::dialling(route, Purpose::Ask(request), home, context)
    }

    /// For a pool connection.
    pub fn opening(wanted: Wanted, home: Home, context: &Context) -> Connector {
        Connector::dialling(wanted.route, Purpose::Open(wanted.opening), home, context)
    }

    /// For a connection over TCP that will carry the tunnel's pool connections.
    pub fn carrying(route: Arc<ServerRoute>, home: Home, context: &Context) -> Connector {
        Connector::dialling(route, Purpose::Carry, home, context)
    }

    /// Makes a stream of such a connection a pool connection. It is watched already.
    pub fn over(stream: Leg, wanted: Wanted, now: Instant) -> Connector {
        let Wanted { route, opening } = wanted;
        let until = Some(now + route.timeout);
        let purpose = Purpose::Open(opening);
        let call = Call { route, purpose, reached: (0, Duration::ZERO), until, securing: false, speaks_tls: false };
        let state = call.opening(stream, opening);
        Connector { call, state }
    }

    fn dialling(route: Arc<ServerRoute>, purpose: Purpose, home: Home, context: &Context) -> Connector {
        let (addresses, token) = (route.addresses.clone(), token(home.key, Side::Remote));
        let keepalive = context.shared.tunnel_keepalive;
        let connect = Connect::new(addresses, route.from.clone(), route.dial, keepalive, token);
        let call =
            Call { route, purpose, reached: (0, Duration::ZERO), until: None, securing: false, speaks_tls: false };
        Connector { call, state: State::Dialling(connect) }
    }

    /// Goes on.
    pub fn advance(self, home: Home, context: &mut Context, now: Instant) -> Next<Connector, PoolTask> {
        let Connector { mut call, mut state } = self;
        loop {
            state = match state.step(&mut call, context, now) {
                Ok(Step::On(state)) => state,
                // First what has come, then the clock: what was there in time is not late because we are.
                Ok(Step::Wait(_)) if call.until.is_some_and(|until| now >= until) => {
                    let error = Error::lost(Cause::Timeout(call.route.timeout));
                    return match &call.purpose {
                        Purpose::Ask(_) if call.securing => call.answered(Reply::Silent(error), context),
                        _ => call.failed(error, context),
                    };
                }
                Ok(Step::Wait(state)) => return Next::Wait(Connector { call, state }),
                Ok(Step::Answered(answer)) => return call.answered(Reply::Said(answer), context),
                Ok(Step::Line(leg, line)) => {
                    call.tell(Reply::Line(line, home), context);
                    return Next::Become(Idle::of_client(leg).into());
                }
                Ok(Step::Opened(leg, id)) => return Next::Become(call.idle(leg, id, home, context).into()),
                Ok(Step::Mux(mux)) => return Next::Become(MuxTask::client(mux, call.route, home, context).into()),
                Err(error) => return call.failed(error, context),
            };
        }
    }

    /// Remembers an edge.
    pub fn note(&mut self, event: &Event) {
        match &mut self.state {
            State::Dialling(connect) => connect.note(event),
            State::Proxying(tcp, _) => tcp.note(event),
            State::Securing(tls) => tls.socket().note(event),
            State::Upgrading { own, .. } => own.note(event),
            State::Asking { leg, .. } | State::AskingInLines { leg, .. } | State::Opening { leg, .. } => {
                leg.note(event)
            }
        }
    }

    /// The tunnel it is for.
    pub fn tunnel(&self) -> TunnelNo {
        self.call.route.tunnel
    }

    /// When it goes on even without an edge.
    pub fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Dialling(connect) => connect.deadline(),
            State::Opening { settles, .. } => [*settles, self.call.until].into_iter().flatten().min(),
            _ => self.call.until,
        }
    }
}

impl State {
    fn step(self, call: &mut Call, context: &mut Context, now: Instant) -> Result<Step, Error> {
        match self {
            State::Dialling(connect) => dial(connect, call, context, now),
            State::Proxying(mut tcp, mut proxy) => match ready(proxy.advance(&mut tcp)) {
                Ok(Some(())) => call.secure(tcp, context),
                Ok(None) => Ok(Step::Wait(State::Proxying(tcp, proxy))),
                Err(error) => Err(call.at_proxy(Error::carried(error, Error::proxy))),
            },
            State::Securing(mut tls) => {
                match call.plain_answer(tls.socket()).map_or_else(|| ready(tls.handshake()), Err) {
                    Ok(Some(())) => call.begin(Own::Tls(tls), context),
                    Ok(None) => Ok(Step::Wait(State::Securing(tls))),
                    Err(error) => Err(Error::carried(error, Error::tls)),
                }
            }
            State::Upgrading { own, request, reply, key } => Ok(upgrade(own, request, reply, key, call)?),
            State::Asking { leg, request, answer } => Ok(ask(leg, request, answer, &mut context.muxes)?),
            State::AskingInLines { leg, request, answer } => {
                Ok(ask_in_lines(leg, request, answer, &mut context.muxes)?)
            }
            State::Opening { leg, opening, id, settles } => {
                Ok(open(leg, opening, (id, settles), call.route.dialect, &mut context.muxes, now)?)
            }
        }
    }
}

fn dial(mut connect: Connect, call: &mut Call, context: &Context, now: Instant) -> Result<Step, Error> {
    match connect.advance(&context.registry, now) {
        Outcome::Wait => Ok(Step::Wait(State::Dialling(connect))),
        Outcome::Missed(_) => Ok(Step::On(State::Dialling(connect))),
        Outcome::Failed(error) => Err(call.at_proxy(error)),
        Outcome::Reached(address, took, tcp) => {
            call.reached = (address, took);
            call.until = Some(now + call.route.timeout);
            match &call.route.via {
                None => call.secure(tcp, context),
                Some(request) => Ok(Step::On(State::Proxying(tcp, HttpConnect::new(request.clone())))),
            }
        }
    }
}

/// Asks for a WebSocket and reads the answer.
fn upgrade(
    mut own: Own,
    mut request: Buffer,
    mut reply: Vec<u8>,
    key: upgrade::WebSocketKey,
    call: &Call,
) -> io::Result<Step> {
    if ready(drain_all(own.stream(), &mut request))?.is_none() {
        return Ok(Step::Wait(State::Upgrading { own, request, reply, key }));
    }
    ready(own.stream().flush())?;
    let mut part = Buffer::new(PART);
    loop {
        let Some(count) = ready(own.stream().fill(&mut part))? else {
            return Ok(Step::Wait(State::Upgrading { own, request, reply, key }));
        };
        reply.extend_from_slice(part.bytes());
        part.consume(count);
        match upgrade::parse_answer(&reply, key) {
            upgrade::UpgradeAnswer::Done(head) => {
                let ws = Ws::over(own.into_lower()?, End::Client, call.route.ws_eof, &reply[head..])?;
                let Purpose::Open(opening) = call.purpose else {
                    return Err(Error::protocol("a WebSocket that was not asked for").into());
                };
                return Ok(Step::On(call.opening(ws.into(), opening)));
            }
            upgrade::UpgradeAnswer::Bad(error) => return Err(error.into()),
            upgrade::UpgradeAnswer::NeedMore if count == 0 => {
                return Err(Error::lost("the server closed it before the WebSocket began").into());
            }
            upgrade::UpgradeAnswer::NeedMore => {}
        }
    }
}

/// Sends the request and reads the answer.
fn ask(mut leg: Leg, mut request: Buffer, mut answer: Buffer, muxes: &mut Muxes) -> io::Result<Step> {
    ready(drain_all(leg.lend(muxes).stream(), &mut request))?;
    ready(leg.lend(muxes).stream().flush())?;
    loop {
        let Some(count) = ready(leg.lend(muxes).stream().fill(&mut answer))? else {
            return Ok(Step::Wait(State::Asking { leg, request, answer }));
        };
        match parse_answer(answer.bytes(), count == 0) {
            ServerAnswer::NeedMore if count == 0 || answer.is_full() => {
                return Err(Error::protocol("the server's answer is cut short or too long").into());
            }
            ServerAnswer::NeedMore => {}
            ServerAnswer::Bad(why) => return Err(Error::protocol(why).into()),
            answer => return Ok(Step::Answered(answer)),
        }
    }
}

/// Sends the line and reads the other one, a byte at a time: nothing after it.
fn ask_in_lines(mut leg: Leg, mut request: Buffer, mut answer: Vec<u8>, muxes: &mut Muxes) -> io::Result<Step> {
    ready(drain_all(leg.lend(muxes).stream(), &mut request))?;
    ready(leg.lend(muxes).stream().flush())?;
    let mut byte = Buffer::new(1);
    while answer.len() < MAX_LINE {
        match ready(leg.lend(muxes).stream().fill(&mut byte))? {
            None => return Ok(Step::Wait(State::AskingInLines { leg, request, answer })),
            Some(0) if answer.is_empty() => return Err(Error::protocol(NO_LINE).into()),
            Some(0) => return Err(Error::protocol("the server's line is cut short").into()),
            Some(_) if byte.bytes() == b"\n" => return Ok(Step::Line(leg, answer)),
            Some(_) => answer.extend_from_slice(byte.bytes()),
        }
        byte.consume(1);
    }
    Err(Error::protocol("the server's line is too long: it is no NodePass of 1.12 or older").into())
}

/// Opens a pool connection and reads its id, and nothing after it: that belongs to a relay.
fn open(
    mut leg: Leg,
    mut opening: Buffer,
    (mut id, mut settles): (Vec<u8>, Option<Instant>),
    dialect: Dialect,
    muxes: &mut Muxes,
    now: Instant,
) -> io::Result<Step> {
    ready(drain_all(leg.lend(muxes).stream(), &mut opening))?;
    ready(leg.lend(muxes).stream().flush())?;
    loop {
        let (perhaps, more) = match dialect.id(&id) {
            IdBytes::Need(more) => (None, more),
            IdBytes::Perhaps(id, more) => (Some(id), more),
            IdBytes::Whole(id) => return Ok(Step::Opened(leg, id)),
            IdBytes::Bad => return Err(Error::protocol("what the server sends is no id of a pool connection").into()),
        };
        let mut bytes = Buffer::new(more);
        match (ready(leg.lend(muxes).stream().fill(&mut bytes))?, perhaps) {
            (None, Some(whole)) if settles.is_some_and(|at| now >= at) => return Ok(Step::Opened(leg, whole)),
            (None, perhaps) => {
                // What has come is waited for no longer than that, what has not come yet as long as there is time.
                settles = perhaps.and(settles.or(Some(now + ID_REST)));
                return Ok(Step::Wait(State::Opening { leg, opening, id, settles }));
            }
            (Some(0), _) => return Err(Error::lost("the server closed it before its id came").into()),
            (Some(_), _) => id.extend_from_slice(bytes.bytes()),
        }
    }
}

impl Call {
    /// What failed before the proxy's connection stood is the proxy's.
    fn at_proxy(&self, error: Error) -> Error {
        if self.route.via.is_none() {
            return error;
        }
        let at = match error.subject() {
            "" => self.route.addresses[self.reached.0].to_string(),
            dialled => dialled.to_owned(),
        };
        Error::proxy(error.cause().clone()).about(at).with_hint(error.hint().to_owned())
    }

    /// The server is reached.
    fn secure(&mut self, tcp: Tcp, context: &Context) -> Result<Step, Error> {
        let Some((config, name)) = &self.route.tls else { return self.begin(tcp.into(), context) };
        let tls = Tls::connect(tcp, config.clone(), name.clone(), &context.shared.budget)?;
        self.securing = true;
        Ok(Step::On(State::Securing(Box::new(tls))))
    }

    /// What is said in the clear where a handshake asks for TLS: who says so can be named.
    fn plain_answer(&mut self, tcp: &mut Tcp) -> Option<io::Error> {
        if self.speaks_tls || !matches!(self.purpose, Purpose::Ask(_)) {
            return None;
        }
        let mut first = [0; PART];
        let count = tcp.peek(&mut first).ok()?;
        match &first[..count] {
            [] => None,
            [TLS_ALERT | TLS_HANDSHAKE, ..] => {
                self.speaks_tls = true;
                None
            }
            said => {
                let by = Program::foreign(said).map_or_else(|| PLAIN.to_owned(), |by| by.to_string());
                Some(Error::tls(by).into())
            }
        }
    }

    /// What comes once the connection is there, and secure.
    fn begin(&mut self, own: Own, context: &Context) -> Result<Step, Error> {
        self.securing = false;
        match (&self.purpose, self.route.transport, own) {
            (Purpose::Carry, _, Own::Tls(tls)) if tls.speaks_h2() => {
                let report = context.shared.config.limits.report;
                Ok(Step::Mux(h2::client(*tls, &self.route.authority, report, &context.shared.budget)?))
            }
            (Purpose::Carry, ..) => Err(Error::protocol("the server does not speak HTTP/2 here")),
            (Purpose::Ask(line), _, own) if self.route.dialect.is_older() => {
                let (leg, request) = (Leg::Own(own), Buffer::holding(line.clone()));
                Ok(Step::On(State::AskingInLines { leg, request, answer: Vec::new() }))
            }
            (Purpose::Ask(request), _, own) => {
                let (request, answer) = (Buffer::holding(request.clone()), Buffer::new(MAX_ANSWER));
                Ok(Step::On(State::Asking { leg: Leg::Own(own), request, answer }))
            }
            (Purpose::Open(_), Transport::WebSocket, own) => {
                let key = upgrade::WebSocketKey::new(random::bytes()?);
                let request = Buffer::holding(upgrade::Ask { host: &self.route.authority, key }.to_bytes());
                Ok(Step::On(State::Upgrading { own, request, reply: Vec::new(), key }))
            }
            (Purpose::Open(opening), _, own) => Ok(Step::On(self.opening(Leg::Own(own), *opening))),
        }
    }

    /// What a pool connection opens with: a stream has to say something to be one.
    fn opening(&self, leg: Leg, opening: Option<Opening>) -> State {
        let opening = match (opening, self.route.transport.is_shared()) {
            (Some(opening), _) => opening.to_vec(),
            (None, true) => vec![0],
            (None, false) => Vec::new(),
        };
        State::Opening { leg, opening: Buffer::holding(opening), id: Vec::new(), settles: None }
    }

    fn answered(&self, reply: Reply, context: &Context) -> Next<Connector, PoolTask> {
        self.tell(reply, context);
        Next::End
    }

    fn tell(&self, reply: Reply, context: &Context) {
        let (address, round) = self.reached;
        let server = self.route.addresses[address];
        context.hub.send(Notice::Answered(Ok(Answered { reply, server, round })));
    }

    fn idle(&self, leg: Leg, id: Id, home: Home, context: &mut Context) -> Idle {
        let (tunnel, fp) = (self.route.tunnel, leg.peer_fingerprint(&mut context.muxes));
        context.hub.send(Notice::Tunnel { number: tunnel, event: TunnelEvent::Opened { home, id, fp } });
        let idle = Idle { tunnel, id: Some(id), quiet: self.route.quiet && id != CONTROL, ..Idle::of_client(leg) };
        if self.route.reuse {
            idle.into_successive()
        } else {
            idle
        }
    }

    fn failed(&self, error: Error, context: &Context) -> Next<Connector, PoolTask> {
        let number = self.route.tunnel;
        context.hub.send(match self.purpose {
            Purpose::Ask(_) if self.securing => return self.answered(Reply::NoTls(error), context),
            Purpose::Ask(_) => Notice::Answered(Err(error)),
            Purpose::Open(_) => Notice::Tunnel { number, event: TunnelEvent::Failed(Some(error)) },
            Purpose::Carry => Notice::Tunnel { number, event: TunnelEvent::MuxFailed(error) },
        });
        Next::End
    }
}

/// Most bytes of a server's line, with room to see that it is another program's.
const MAX_LINE: usize = 1024;
/// The first byte of an alert, and of a handshake's record.
const TLS_ALERT: u8 = 0x15;
const TLS_HANDSHAKE: u8 = 0x16;
/// What is said of a server that answers in the clear.
const PLAIN: &str = "the other side answers in the clear, as NodePass 1.13 and 1.14 do";
/// What is said of a server that answers a line with nothing.
const NO_LINE: &str =
    "the server closed without an answer: the keys differ in length, or it is no NodePass of 1.12 or older";
/// Bytes of an answer to the upgrade taken at a time. The whole is bounded by its reader.
const PART: usize = 512;
