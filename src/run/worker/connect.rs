//! A route to the server (client): the handshake, a pool connection that opens, or a connection that will carry many.
//!
//! ```text
//!  Dialling --> (Tunnelling, through a proxy) --> Securing (with TLS) --+--> Talking: say what there is to say, read the reply
//!                                                                       |       ^                                    --> Idle
//!                                                                       +--> Upgrading (WebSocket)
//!                                                                       +--> MuxTask (HTTP/2), whose streams talk
//! ```

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::event::Event;

use super::context::{token, Context, REMOTE};
use super::idle::Idle;
use super::mux::MuxTask;
use super::task::{Next, Task};
use crate::config::Transport;
use crate::error::{Cause, Error};
use crate::log::printable;
use crate::logic::handshake::{parse_answer, ServerAnswer};
use crate::logic::http::MAX_ANSWER;
use crate::logic::terms::Terms;
use crate::logic::upgrade;
use crate::logic::wire::{Id, CONTROL};
use crate::net::connect::{Connect, Outcome};
use crate::net::h2;
use crate::net::http_connect::Tunnelling;
use crate::net::leg::Leg;
use crate::net::mux::Mux;
use crate::net::mux::Muxes;
use crate::net::random;
use crate::net::stream::{drain_all, ready, Buffer};
use crate::net::tcp::Tcp;
use crate::net::tls::Tls;
use crate::net::ws::End;
use crate::run::messages::{Answered, Home, Notice, ServerRoute, TunnelEvent};

/// A route and how far it has come.
pub struct Connector {
    route: Arc<ServerRoute>,
    purpose: Purpose,
    phase: Phase,
    address: usize,
    /// How long it took to reach that address.
    took: Duration,
    until: Option<Instant>,
}

enum Purpose {
    /// The handshake: send this request, read the answer.
    Ask(Vec<u8>),
    /// A pool connection: open it, read its id.
    Open,
    /// A connection whose streams will be the pool connections.
    Carry,
}

enum Phase {
    Dialling(Connect),
    Tunnelling(Tcp, Tunnelling),
    Securing(Leg),
    /// Asking for a WebSocket.
    Upgrading {
        leg: Leg,
        say: Buffer,
        reply: Vec<u8>,
        key: upgrade::WebSocketKey,
    },
    Talking {
        leg: Leg,
        say: Buffer,
        reply: Buffer,
    },
    Over,
}

/// What the server said.
enum Reply {
    Terms(Box<Terms>),
    Id(Leg, Id),
    MuxTask(Box<dyn Mux>),
}

impl Connector {
    /// Calls for a pool connection, or with `request` for the terms.
    pub fn new(route: Arc<ServerRoute>, request: Option<Vec<u8>>, home: Home) -> Connector {
        Connector::dialling(route, request.map_or(Purpose::Open, Purpose::Ask), home)
    }

    /// Calls for a connection that will carry the tunnel's pool connections.
    pub fn carrying(route: Arc<ServerRoute>, home: Home, context: &mut Context, now: Instant) -> io::Result<Task> {
        match route.transport {
            Transport::Quic => super::mux::call_quic(route, home, context, now),
            _ => Ok(Task::Connector(Connector::dialling(route, Purpose::Carry, home))),
        }
    }

    /// Makes a stream of such a connection a pool connection. It is watched already.
    pub fn over(leg: Leg, route: Arc<ServerRoute>, now: Instant) -> Connector {
        let until = Some(now + route.timeout);
        let mut connector =
            Connector { route, purpose: Purpose::Open, phase: Phase::Over, address: 0, took: Duration::ZERO, until };
        connector.phase = connector.talk(leg);
        connector
    }

    fn dialling(route: Arc<ServerRoute>, purpose: Purpose, home: Home) -> Connector {
        let connect = Connect::new(route.addresses.clone(), None, route.dial, token(home.key, REMOTE));
        Connector { route, purpose, phase: Phase::Dialling(connect), address: 0, took: Duration::ZERO, until: None }
    }

    /// Goes on.
    pub fn advance(&mut self, home: Home, context: &mut Context, now: Instant) -> Next {
        // First what has come, then the clock: what was there in time is not late because we are.
        let result = match (self.step(context, now), self.until) {
            (Ok(None), Some(until)) if now >= until => Err(Error::lost(Cause::Timeout(self.route.timeout))),
            (result, _) => result,
        };
        let tunnel = self.route.tunnel;
        match (result, &self.purpose) {
            (Ok(None), _) => Next::Wait,
            (Ok(Some(Reply::MuxTask(mux))), _) => {
                Next::Become(Task::MuxTask(MuxTask::calling(mux, self.route.clone(), context)))
            }
            (Ok(Some(Reply::Id(leg, id))), _) => {
                let fp = leg.peer_fingerprint(&mut context.muxes);
                context.hub.send(Notice::Tunnel { number: tunnel, event: TunnelEvent::Opened { home, id, fp } });
                let quiet = self.route.quiet && id != CONTROL;
                Next::Become(Task::Idle(Idle { leg: Some(leg), tunnel, id: Some(id), quiet, ended: false }))
            }
            (Ok(Some(Reply::Terms(terms))), _) => {
                let address = self.route.addresses[self.address];
                context.hub.send(Notice::Answered(Ok(Answered { terms, server: address, round: self.took })));
                Next::End
            }
            (Err(why), Purpose::Ask(_)) => {
                context.hub.send(Notice::Answered(Err(why)));
                Next::End
            }
            (Err(why), Purpose::Open) => {
                context.hub.send(Notice::Tunnel { number: tunnel, event: TunnelEvent::Failed(Some(why)) });
                Next::End
            }
            (Err(why), Purpose::Carry) => {
                context.hub.send(Notice::Tunnel { number: tunnel, event: TunnelEvent::MuxFailed(why) });
                Next::End
            }
        }
    }

    /// Remembers an edge.
    pub fn note(&mut self, event: &Event) {
        match &mut self.phase {
            Phase::Dialling(connect) => connect.note(event),
            Phase::Tunnelling(tcp, _) => tcp.note(event),
            Phase::Securing(leg) | Phase::Talking { leg, .. } => leg.note(event),
            Phase::Upgrading { leg, .. } => leg.note(event),
            Phase::Over => {}
        }
    }

    /// When to look again.
    pub fn deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Dialling(connect) => connect.deadline(),
            _ => self.until,
        }
    }

    /// Goes through the phases as far as possible; the reply when it is there.
    fn step(&mut self, context: &mut Context, now: Instant) -> Result<Option<Reply>, Error> {
        loop {
            match &mut self.phase {
                Phase::Dialling(connect) => match connect.advance(&context.registry, now) {
                    Outcome::Wait => return Ok(None),
                    Outcome::Missed(_) => {}
                    Outcome::Failed(error) => return Err(self.at_proxy(error)),
                    Outcome::Reached(address, took, tcp) => {
                        (self.address, self.took) = (address, took);
                        self.until = Some(now + self.route.timeout);
                        self.phase = match &self.route.via {
                            None => self.secure(tcp)?,
                            Some(request) => Phase::Tunnelling(tcp, Tunnelling::new(request.clone())),
                        };
                    }
                },
                Phase::Tunnelling(tcp, http_connect) => {
                    match ready(http_connect.advance(tcp)) {
                        Ok(None) => return Ok(None),
                        Ok(Some(())) => {}
                        Err(error) => return Err(self.at_proxy(Error::carried(error, Error::proxy))),
                    }
                    if let Phase::Tunnelling(tcp, _) = std::mem::replace(&mut self.phase, Phase::Over) {
                        self.phase = self.secure(tcp)?;
                    }
                }
                Phase::Securing(leg) => {
                    let Leg::Tls(tls) = leg else { return Ok(None) };
                    match ready(tls.handshake()) {
                        Ok(None) => return Ok(None),
                        Ok(Some(())) => match (std::mem::replace(&mut self.phase, Phase::Over), &self.purpose) {
                            (Phase::Securing(leg), Purpose::Carry) => return self.carrier(leg, context),
                            (Phase::Securing(leg), _) => self.phase = self.begin(leg)?,
                            _ => return Ok(None),
                        },
                        Err(error) => return Err(Error::carried(error, Error::tls)),
                    }
                }
                Phase::Upgrading { .. } => match self.upgrade()? {
                    Some(leg) => self.phase = self.talk(leg),
                    None => return Ok(None),
                },
                Phase::Talking { .. } => return Ok(self.converse(&mut context.muxes)?),
                Phase::Over => return Ok(None),
            }
        }
    }

    /// What failed before the proxy's connection stood is the proxy's.
    fn at_proxy(&self, error: Error) -> Error {
        if self.route.via.is_none() {
            return error;
        }
        let at = match error.subject() {
            "" => self.route.addresses[self.address].to_string(),
            dialled => dialled.to_owned(),
        };
        Error::proxy(error.cause().clone()).about(at).with_hint(error.hint().to_owned())
    }

    /// The way to the server is there.
    fn secure(&self, tcp: Tcp) -> Result<Phase, Error> {
        let Some((config, name)) = &self.route.tls else { return self.begin(Leg::Tcp(tcp)) };
        let tls = Tls::connect(tcp, config.clone(), name.clone())?;
        Ok(Phase::Securing(Leg::Tls(Box::new(tls))))
    }

    /// What comes once the connection is there, and secure.
    fn begin(&self, leg: Leg) -> Result<Phase, Error> {
        if let (Purpose::Open, Transport::WebSocket) = (&self.purpose, self.route.transport) {
            let key = upgrade::WebSocketKey::new(random::bytes()?);
            let say = upgrade::Ask { host: &self.route.authority, key }.to_bytes();
            return Ok(Phase::Upgrading { leg, say: Buffer::holding(say), reply: Vec::new(), key });
        }
        Ok(self.talk(leg))
    }

    /// Asks for a WebSocket, and reads the answer; the WebSocket when it is one.
    fn upgrade(&mut self) -> io::Result<Option<Leg>> {
        let Phase::Upgrading { leg, say, reply, key } = &mut self.phase else { return Ok(None) };
        let Some(stream) = leg.own() else { return Ok(None) };
        if ready(drain_all(stream, say))?.is_none() {
            return Ok(None);
        }
        ready(stream.flush())?;
        let mut part = Buffer::new(PART);
        loop {
            let Some(count) = ready(stream.fill(&mut part))? else { return Ok(None) };
            reply.extend_from_slice(part.bytes());
            part.consume(count);
            match upgrade::parse_answer(reply, *key) {
                upgrade::UpgradeAnswer::Done(head) => {
                    let Phase::Upgrading { leg, reply, .. } = std::mem::replace(&mut self.phase, Phase::Over) else {
                        return Ok(None);
                    };
                    return leg.into_ws(End::Client, self.route.ws_eof, &reply[head..]).map(Some);
                }
                upgrade::UpgradeAnswer::Bad(error) => return Err(error.into()),
                upgrade::UpgradeAnswer::NeedMore if count == 0 => {
                    return Err(Error::lost("the server closed it before the WebSocket began").into());
                }
                upgrade::UpgradeAnswer::NeedMore => {}
            }
        }
    }

    fn talk(&self, leg: Leg) -> Phase {
        let (say, room) = match &self.purpose {
            Purpose::Ask(request) => (request.clone(), MAX_ANSWER),
            Purpose::Open => (self.opening(), ID),
            Purpose::Carry => (Vec::new(), 0),
        };
        Phase::Talking { leg, say: Buffer::holding(say), reply: Buffer::new(room) }
    }

    /// What a pool connection opens with: a stream has to say something to be one.
    fn opening(&self) -> Vec<u8> {
        match (self.route.open, self.route.transport.is_shared()) {
            (Some(open), _) => open.to_vec(),
            (None, true) => vec![0],
            (None, false) => Vec::new(),
        }
    }

    /// The server speaks HTTP/2.
    fn carrier(&self, leg: Leg, context: &Context) -> Result<Option<Reply>, Error> {
        let Leg::Tls(tls) = leg else { return Ok(None) };
        if !tls.speaks_h2() {
            return Err(Error::protocol("the server does not speak HTTP/2 here"));
        }
        let mux = h2::client(*tls, &self.route.authority, context.shared.config.limits.report);
        Ok(Some(Reply::MuxTask(mux?)))
    }

    fn converse(&mut self, muxes: &mut Muxes) -> io::Result<Option<Reply>> {
        let Phase::Talking { leg, say, reply } = &mut self.phase else { return Ok(None) };
        ready(drain_all(leg.lend(muxes).stream(), say))?;
        ready(leg.lend(muxes).stream().flush())?;
        loop {
            // Never more than the id is read: what follows it belongs to a relay.
            let ended = match reply.is_full() {
                true => false,
                false => match ready(leg.lend(muxes).stream().fill(reply))? {
                    None => return Ok(None),
                    Some(count) => count == 0,
                },
            };
            match &self.purpose {
                Purpose::Open => match reply.bytes().try_into() {
                    Ok(id) => {
                        if let Phase::Talking { leg, .. } = std::mem::replace(&mut self.phase, Phase::Over) {
                            return Ok(Some(Reply::Id(leg, Id(id))));
                        }
                        return Ok(None);
                    }
                    Err(_) if ended => return Err(Error::lost("the server closed it before its id came").into()),
                    Err(_) => {}
                },
                Purpose::Carry => return Ok(None),
                Purpose::Ask(_) => match parse_answer(reply.bytes(), ended) {
                    ServerAnswer::NeedMore if ended || reply.is_full() => {
                        return Err(Error::protocol("the server's answer is cut short or too long").into());
                    }
                    ServerAnswer::NeedMore => {}
                    ServerAnswer::Terms(terms) => return Ok(Some(Reply::Terms(Box::new(terms)))),
                    ServerAnswer::Refused(status, text) => {
                        return Err(Error::refused(status, &printable(&text).to_string()).into());
                    }
                    ServerAnswer::Bad(why) => return Err(Error::protocol(why).into()),
                },
            }
        }
    }
}

/// Bytes of a pool connection's id.
const ID: usize = 4;
/// Bytes of an answer to the upgrade taken at a time. The whole is bounded by its reader.
const PART: usize = 512;
