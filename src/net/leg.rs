//! One end of a relay, whatever it is made of.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use mio::event::Event;
use mio::{Registry, Token};

use super::mux::{Loan, MuxStream, Muxes};
use super::stream::{would_block, Buffer, Stream};
use super::tcp::Tcp;
use super::tls::Tls;
use super::udp::Session;
use super::ws::{self, Ws};
use crate::logic::wire::Fingerprint;

/// One end of a relay. A new transport is one more line here.
pub enum Leg {
    /// A plain TCP connection.
    Tcp(Tcp),
    /// TLS over TCP.
    Tls(Box<Tls>),
    /// WebSocket messages over TLS or TCP.
    Ws(Box<Ws>),
    /// A UDP user or target.
    Udp(Box<Session>),
    /// A stream of a connection that carries many.
    Mux(Loan),
    /// The hub's end of the control connection.
    Line(Line),
}

/// A leg for the length of a call.
pub enum Lent<'a> {
    /// It is a stream by itself.
    Own(&'a mut dyn Stream),
    /// With the connection that it is a stream of.
    Mux(MuxStream<'a>),
    /// The connection that it was a stream of is gone.
    Gone(Gone),
}

impl<'a> Lent<'a> {
    /// What moves the bytes.
    pub fn stream(&mut self) -> &mut (dyn Stream + 'a) {
        match self {
            Lent::Own(stream) => *stream,
            Lent::Mux(stream) => stream,
            Lent::Gone(gone) => gone,
        }
    }
}

impl Leg {
    /// Lends it for the length of a call. `muxes` are the shared connections of the worker where it lives.
    pub fn lend<'a>(&'a mut self, muxes: &'a mut Muxes) -> Lent<'a> {
        match self {
            Leg::Mux(loan) => muxes.lend(loan).map_or(Lent::Gone(Gone), Lent::Mux),
            other => other.own().map_or(Lent::Gone(Gone), Lent::Own),
        }
    }

    /// Itself, if it needs no other connection to be a stream.
    pub fn own(&mut self) -> Option<&mut dyn Stream> {
        match self {
            Leg::Tcp(tcp) => Some(tcp),
            Leg::Tls(tls) => Some(&mut **tls),
            Leg::Ws(ws) => Some(&mut **ws),
            Leg::Udp(session) => Some(&mut **session),
            Leg::Line(line) => Some(line),
            Leg::Mux(_) => None,
        }
    }

    /// Registers its socket under `token`, once.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match self {
            Leg::Udp(session) => session.register(registry, token),
            other => other.carrier().map_or(Ok(()), |tcp| tcp.register(registry, token)),
        }
    }

    /// Remembers an edge.
    pub fn note(&mut self, event: &Event) {
        match self {
            Leg::Udp(session) => session.note(event),
            other => {
                if let Some(tcp) = other.carrier() {
                    tcp.note(event);
                }
            }
        }
    }

    /// Whether the other side has reset it, or the path has.
    pub fn failed(&mut self, muxes: &mut Muxes) -> bool {
        match self {
            Leg::Ws(ws) => ws.failed(),
            Leg::Mux(loan) => muxes.lend(loan).is_none_or(|mut stream| is_dead(stream.waiting())),
            other => other.carrier().is_some_and(|tcp| tcp.failed()),
        }
    }

    /// How long the other side has not acknowledged what is on its way to it; `None` if nothing is, or if many share the connection.
    pub fn unacknowledged(&mut self) -> Option<Duration> {
        self.carrier().and_then(|tcp| tcp.unacknowledged())
    }

    /// Whether it is one that is to [`ping`](Leg::ping) from time to time.
    pub fn pings(&self) -> bool {
        matches!(self, Leg::Ws(_))
    }

    /// Says a word that means nothing, if nothing was said since the last call: see [`Ws::ping`].
    pub fn ping(&mut self) {
        if let Leg::Ws(ws) = self {
            ws.ping();
        }
    }

    /// It carries bare datagrams of at most so many bytes, without frames of ours: where it knows messages, each is one.
    pub fn keep_messages(&mut self, largest: usize) {
        if let Leg::Ws(ws) = self {
            ws.keep_messages(largest);
        }
    }

    /// Makes the coming close a reset where that loses nothing.
    pub fn abort(&mut self) {
        if let Some(tcp) = self.carrier() {
            tcp.abort();
        }
    }

    /// Looks whether an idle connection still lives, without taking anything out of it.
    ///
    /// `quiet` says that the other side has no reason to speak before we do: a side that does is not our peer.
    pub fn is_alive(&mut self, quiet: bool, muxes: &mut Muxes) -> bool {
        match self.waiting(muxes) {
            Ok(0) => false,
            Ok(_) => !quiet,
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        }
    }

    /// Whether the other side has said nothing and ended its direction.
    pub fn has_ended(&mut self, muxes: &mut Muxes) -> bool {
        matches!(self.waiting(muxes), Ok(0))
    }

    /// The WebSocket over this connection, once its upgrade is done; `early` is what came after the other side's head.
    pub fn into_ws(self, end: ws::End, ws_eof: bool, early: &[u8]) -> io::Result<Leg> {
        Ok(Leg::Ws(Box::new(Ws::over(self, end, ws_eof, early)?)))
    }

    fn waiting(&mut self, muxes: &mut Muxes) -> io::Result<usize> {
        match self {
            Leg::Tcp(tcp) => tcp.waiting(),
            Leg::Tls(tls) => tls.waiting(),
            Leg::Ws(ws) => ws.waiting(),
            Leg::Mux(loan) => muxes.lend(loan).map_or_else(gone, |mut stream| stream.waiting()),
            Leg::Udp(_) | Leg::Line(_) => would_block(),
        }
    }

    /// The fingerprint of the certificate that the other side showed, where there is one.
    pub fn peer_fingerprint(&self, muxes: &mut Muxes) -> Option<Fingerprint> {
        match self {
            Leg::Tls(tls) => tls.peer_fingerprint(),
            Leg::Ws(ws) => ws.peer_fingerprint(),
            Leg::Mux(loan) => muxes.lend(loan)?.mux.peer_fingerprint(),
            _ => None,
        }
    }

    /// The TCP socket underneath, where there is one.
    pub fn carrier(&mut self) -> Option<&mut Tcp> {
        match self {
            Leg::Tcp(tcp) => Some(tcp),
            Leg::Tls(tls) => Some(tls.carrier()),
            Leg::Ws(ws) => Some(ws.carrier()),
            Leg::Udp(_) | Leg::Mux(_) | Leg::Line(_) => None,
        }
    }
}

/// A stream whose connection is gone: every call says so.
pub struct Gone;

impl Stream for Gone {
    fn fill(&mut self, _: &mut Buffer) -> io::Result<usize> {
        gone()
    }

    fn drain(&mut self, _: &mut Buffer) -> io::Result<usize> {
        gone()
    }

    fn flush(&mut self) -> io::Result<()> {
        gone()
    }

    fn finish(&mut self) -> io::Result<()> {
        gone()
    }
}

fn gone<T>() -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the connection that carried it has ended"))
}

fn is_dead(waiting: io::Result<usize>) -> bool {
    waiting.is_err_and(|error| error.kind() != io::ErrorKind::WouldBlock)
}

/// The hub's letterbox: what it says goes out on the control connection, what comes in is kept for it.
pub struct Line {
    said: VecDeque<u8>,
    heard: Vec<u8>,
    most: usize,
}

impl Line {
    /// A letterbox in which at most `signals` signals wait for the peer (`NP_SEMAPHORE_LIMIT`).
    pub fn new(signals: usize) -> Line {
        Line { said: VecDeque::new(), heard: Vec::new(), most: signals.saturating_mul(SIGNAL) }
    }

    /// Queues bytes for the peer. `false` if too many wait: the peer does not read.
    pub fn say(&mut self, bytes: &[u8]) -> bool {
        self.said.extend(bytes);
        self.said.len() <= self.most
    }

    /// What the peer said since the last call.
    pub fn heard(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.heard)
    }
}

impl Stream for Line {
    fn fill(&mut self, into: &mut Buffer) -> io::Result<usize> {
        let (front, _) = self.said.as_slices();
        match into.append(front) {
            0 => would_block(),
            count => {
                self.said.drain(..count);
                Ok(count)
            }
        }
    }

    fn drain(&mut self, from: &mut Buffer) -> io::Result<usize> {
        let count = from.bytes().len();
        self.heard.extend_from_slice(from.bytes());
        from.consume(count);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Bytes of a signal, as a rule.
const SIGNAL: usize = 128;
