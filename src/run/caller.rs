//! A call to the server (client): the handshake, or a pool connection that opens.
//!
//! ```text
//!  Dialling --> Tunnelling (through a proxy) --> Securing (with TLS) --> Talking: say what there is to say, read the reply
//! ```

use std::io;
use std::sync::Arc;
use std::time::Instant;

use mio::event::Event;

use super::handoff::{Call, Home, Notice};
use super::task::{token, Idle, Means, Next, Task, FAR};
use crate::log::printable;
use crate::logic::handshake::{parse_answer, Answer, Terms};
use crate::logic::wire::{Fingerprint, Id, CONTROL};
use crate::net::connect::{Connect, Outcome};
use crate::net::leg::Leg;
use crate::net::stream::{now as passing, Buffer};
use crate::net::tcp::Tcp;
use crate::net::tls::Tls;
use crate::net::tunnelling::Tunnelling;

/// A call and how far it has come.
pub struct Caller {
    call: Arc<Call>,
    purpose: Purpose,
    phase: Phase,
    address: usize,
    until: Option<Instant>,
}

enum Purpose {
    /// The handshake: send this request, read the answer.
    Ask(Vec<u8>),
    /// A pool connection: open it, read its id.
    Open,
}

enum Phase {
    Dialling(Connect),
    Tunnelling(Tcp, Tunnelling),
    Securing(Leg),
    Talking { leg: Leg, say: Buffer, reply: Buffer },
    Over,
}

/// What the server said.
enum Reply {
    Terms(Box<Terms>),
    Id(Leg, Id),
}

impl Caller {
    /// Calls for a pool connection, or with `request` for the terms.
    pub fn new(call: Arc<Call>, request: Option<Vec<u8>>, home: Home) -> Caller {
        let connect = Connect::new(call.addresses.clone(), None, call.dial, token(home.key, FAR));
        let purpose = request.map_or(Purpose::Open, Purpose::Ask);
        Caller { call, purpose, phase: Phase::Dialling(connect), address: 0, until: None }
    }

    /// Goes on.
    pub fn advance(&mut self, home: Home, means: &mut Means, now: Instant) -> Next {
        let result = match self.until {
            Some(until) if now >= until => Err(format!("no answer within {:?}", self.call.patience)),
            _ => self.step(means, now),
        };
        let tunnel = self.call.tunnel;
        match (result, &self.purpose) {
            (Ok(None), _) => Next::Wait,
            (Ok(Some(Reply::Id(leg, id))), _) => {
                let fp: Option<Fingerprint> = match &leg {
                    Leg::Tls(tls) => tls.peer_fingerprint(),
                    _ => None,
                };
                means.hub.send(Notice::Opened(home, tunnel, id, fp));
                let quiet = self.call.quiet && id != CONTROL;
                Next::Become(Task::Idle(Idle { leg: Some(leg), tunnel, id: Some(id), quiet, ended: false }))
            }
            (Ok(Some(Reply::Terms(terms))), _) => {
                means.hub.send(Notice::Answered(Ok((terms, self.call.addresses[self.address]))));
                Next::End
            }
            (Err(why), Purpose::Ask(_)) => {
                means.hub.send(Notice::Answered(Err(why)));
                Next::End
            }
            (Err(why), Purpose::Open) => {
                means.hub.send(Notice::Failed(tunnel, why));
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
    fn step(&mut self, means: &Means, now: Instant) -> Result<Option<Reply>, String> {
        loop {
            match &mut self.phase {
                Phase::Dialling(connect) => match connect.advance(&means.registry, now) {
                    Outcome::Wait => return Ok(None),
                    Outcome::Missed(_) => {}
                    Outcome::Failed(why) => return Err(why),
                    Outcome::Reached(address, _, tcp) => {
                        (self.address, self.until) = (address, Some(now + self.call.patience));
                        self.phase = match &self.call.via {
                            None => self.secure(tcp)?,
                            Some(request) => Phase::Tunnelling(tcp, Tunnelling::new(request.clone())),
                        };
                    }
                },
                Phase::Tunnelling(tcp, tunnelling) => {
                    if passing(tunnelling.advance(tcp)).map_err(|error| error.to_string())?.is_none() {
                        return Ok(None);
                    }
                    if let Phase::Tunnelling(tcp, _) = std::mem::replace(&mut self.phase, Phase::Over) {
                        self.phase = self.secure(tcp)?;
                    }
                }
                Phase::Securing(leg) => {
                    let Leg::Tls(tls) = leg else { return Ok(None) };
                    match passing(tls.handshake()) {
                        Ok(None) => return Ok(None),
                        Ok(Some(())) => {
                            if let Phase::Securing(leg) = std::mem::replace(&mut self.phase, Phase::Over) {
                                self.phase = self.talk(leg);
                            }
                        }
                        Err(error) => return Err(format!("TLS: {error}")),
                    }
                }
                Phase::Talking { .. } => return self.converse().map_err(|error| error.to_string()),
                Phase::Over => return Ok(None),
            }
        }
    }

    /// The way to the server is there.
    fn secure(&self, tcp: Tcp) -> Result<Phase, String> {
        let Some((config, name)) = &self.call.tls else { return Ok(self.talk(Leg::Tcp(tcp))) };
        let tls = Tls::connect(tcp, config.clone(), name.clone()).map_err(|error| error.to_string())?;
        Ok(Phase::Securing(Leg::Tls(Box::new(tls))))
    }

    fn talk(&self, leg: Leg) -> Phase {
        let (say, room) = match &self.purpose {
            Purpose::Ask(request) => (request.clone(), LARGEST_ANSWER),
            Purpose::Open => (self.call.open.map(Vec::from).unwrap_or_default(), ID),
        };
        Phase::Talking { leg, say: Buffer::holding(say), reply: Buffer::new(room) }
    }

    fn converse(&mut self) -> io::Result<Option<Reply>> {
        let Phase::Talking { leg, say, reply } = &mut self.phase else { return Ok(None) };
        while !say.is_empty() {
            if passing(leg.lend().drain(say))?.is_none() {
                break;
            }
        }
        passing(leg.lend().flush())?;
        loop {
            // Never more than the id is read: what follows it belongs to a relay.
            let ended = match reply.is_full() {
                true => false,
                false => match passing(leg.lend().fill(reply))? {
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
                    Err(_) if ended => return Err(io::Error::other("the server closed it before its id came")),
                    Err(_) => {}
                },
                Purpose::Ask(_) => match parse_answer(reply.bytes(), ended) {
                    Answer::NeedMore if ended || reply.is_full() => {
                        return Err(io::Error::other("the server's answer is cut short or too long"));
                    }
                    Answer::NeedMore => {}
                    Answer::Terms(terms) => return Ok(Some(Reply::Terms(Box::new(terms)))),
                    Answer::Refused(status, text) => {
                        return Err(io::Error::other(format!("the server refuses: {status} {}", printable(&text))));
                    }
                    Answer::Bad(why) => return Err(io::Error::other(why)),
                },
            }
        }
    }
}

/// Bytes of a pool connection's id.
const ID: usize = 4;
/// Most bytes of a handshake's answer.
const LARGEST_ANSWER: usize = 16 * 1024;
