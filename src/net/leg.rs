//! One end of a relay, whatever it is made of.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use mio::event::Event;
use mio::{Registry, Token};

use super::lower::Lower;
use super::mux::{Loan, MuxStream, Muxes};
use super::serial::{Serial, Successive};
use super::stream::{would_block, Buffer, Stream};
use super::tcp::Tcp;
use super::tls::Tls;
use super::udp::Session;
use super::ws::Ws;
use crate::logic::wire::Fingerprint;

/// One end of a relay.
pub enum Leg {
    /// A connection of its own.
    Own(Own),
    /// A stream of a connection that carries many.
    Mux(Loan),
}

/// An end that is a stream by itself. A new transport is one more line here.
pub enum Own {
    /// A plain TCP connection.
    Tcp(Tcp),
    /// TLS over TCP.
    Tls(Box<Tls>),
    /// One stream after another over TLS or TCP.
    Serial(Box<Serial>),
    /// WebSocket messages over TLS or TCP.
    Ws(Box<Ws>),
    /// A UDP user or target.
    Udp(Box<Session>),
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

impl Own {
    /// What moves the bytes.
    pub fn stream(&mut self) -> &mut dyn Stream {
        match self {
            Own::Tcp(tcp) => tcp,
            Own::Tls(tls) => &mut **tls,
            Own::Serial(serial) => &mut **serial,
            Own::Ws(ws) => &mut **ws,
            Own::Udp(session) => &mut **session,
            Own::Line(line) => line,
        }
    }

    /// Registers its socket under `token`, once.
    pub fn register(&mut self, registry: &Arc<Registry>, token: Token) -> io::Result<()> {
        match self {
            Own::Udp(session) => session.register(registry, token),
            other => other.socket().map_or(Ok(()), |tcp| tcp.register(registry, token)),
        }
    }

    /// Remembers an edge.
    pub fn note(&mut self, event: &Event) {
        match self {
            Own::Udp(session) => session.note(event),
            other => {
                if let Some(tcp) = other.socket() {
                    tcp.note(event);
                }
            }
        }
    }

    /// Whether the peer has reset it, or the path has.
    pub fn failed(&mut self) -> bool {
        match self {
            Own::Ws(ws) => ws.failed(),
            other => other.socket().is_some_and(|tcp| tcp.failed()),
        }
    }

    /// Whether there is no connection any more, as far as the system knows.
    pub fn is_cut(&mut self) -> bool {
        self.failed() || self.socket().is_some_and(|tcp| tcp.peer().is_err())
    }

    /// How long the other side has not acknowledged what is on its way to it; `None` if nothing is.
    pub fn unacknowledged(&mut self) -> Option<Duration> {
        self.socket().and_then(|tcp| tcp.unacknowledged())
    }

    /// How long ago the other side has acknowledged anything, if it has not acknowledged all that was sent or is held back.
    pub fn undelivered(&mut self) -> Option<Duration> {
        self.socket().and_then(|tcp| tcp.undelivered())
    }

    /// Makes the coming close a reset where that loses nothing.
    pub fn abort(&mut self) {
        if let Some(tcp) = self.socket() {
            tcp.abort();
        }
    }

    /// Looks whether an idle connection still lives, without taking anything out of it.
    ///
    /// `quiet` says that the peer has no reason to speak before we do: a connection that does is not the peer's.
    pub fn is_alive(&mut self, quiet: bool) -> bool {
        // Where the peer may speak only its end counts, and that is announced by an edge.
        let is_open = match self {
            Own::Tcp(tcp) => !tcp.is_ending(),
            Own::Serial(serial) => serial.is_plain_and_open(),
            Own::Tls(_) | Own::Ws(_) | Own::Udp(_) | Own::Line(_) => false,
        };
        if !quiet && is_open {
            return true;
        }
        lives(self.waiting(), quiet)
    }

    /// What other frames can be put on: TLS or TCP.
    pub fn into_lower(self) -> io::Result<Box<dyn Lower>> {
        match self {
            Own::Tcp(tcp) => Ok(Box::new(tcp)),
            Own::Tls(tls) => Ok(tls),
            Own::Serial(_) | Own::Ws(_) | Own::Udp(_) | Own::Line(_) => {
                Err(io::Error::other("no connection that could carry a WebSocket"))
            }
        }
    }

    /// The TCP socket underneath, where there is one.
    pub fn socket(&mut self) -> Option<&mut Tcp> {
        match self {
            Own::Tcp(tcp) => Some(tcp),
            Own::Tls(tls) => Some(tls.socket()),
            Own::Serial(serial) => Some(serial.socket()),
            Own::Ws(ws) => Some(ws.socket()),
            Own::Udp(_) | Own::Line(_) => None,
        }
    }

    fn waiting(&mut self) -> io::Result<usize> {
        match self {
            Own::Tcp(tcp) => tcp.waiting(),
            Own::Tls(tls) => tls.waiting(),
            Own::Serial(serial) => serial.waiting(),
            Own::Ws(ws) => ws.waiting(),
            Own::Udp(_) | Own::Line(_) => would_block(),
        }
    }
}

impl Leg {
    /// What carries one stream after another from now on, if it is a connection of its own that can.
    pub fn into_successive(self) -> Leg {
        match self {
            Leg::Own(Own::Tcp(tcp)) => Leg::Own(Own::Serial(Box::new(Serial::plain(tcp)))),
            Leg::Own(Own::Tls(tls)) => Leg::Own(Own::Serial(Box::new(Serial::sealed(tls)))),
            Leg::Own(Own::Ws(mut ws)) => {
                ws.carry_many();
                Leg::Own(Own::Ws(ws))
            }
            other => other,
        }
    }

    /// What carries one stream after another, if it does.
    pub fn successive(&mut self) -> Option<&mut dyn Successive> {
        match self {
            Leg::Own(Own::Serial(serial)) => Some(&mut **serial),
            Leg::Own(Own::Ws(ws)) => ws.successive(),
            _ => None,
        }
    }

    /// Lends it for the length of a call. `muxes` are the shared connections of the worker where it lives.
    pub fn lend<'a>(&'a mut self, muxes: &'a mut Muxes) -> Lent<'a> {
        match self {
            Leg::Own(own) => Lent::Own(own.stream()),
            Leg::Mux(loan) => muxes.lend(loan).map_or(Lent::Gone(Gone), Lent::Mux),
        }
    }

    /// Registers its socket under `token`, once. A stream of a shared connection has none.
    pub fn register(&mut self, registry: &Arc<Registry>, token: Token) -> io::Result<()> {
        match self {
            Leg::Own(own) => own.register(registry, token),
            Leg::Mux(_) => Ok(()),
        }
    }

    /// Remembers an edge of its socket.
    pub fn note(&mut self, event: &Event) {
        if let Leg::Own(own) = self {
            own.note(event);
        }
    }

    /// Whether the peer has reset it, or the path has.
    pub fn failed(&mut self, muxes: &mut Muxes) -> bool {
        match self {
            Leg::Own(own) => own.failed(),
            Leg::Mux(loan) => muxes.lend(loan).is_none_or(|mut stream| is_dead(stream.waiting())),
        }
    }

    /// As [`Own::is_cut`]; never for a stream of a connection that carries many.
    pub fn is_cut(&mut self) -> bool {
        match self {
            Leg::Own(own) => own.is_cut(),
            Leg::Mux(_) => false,
        }
    }

    /// Whether bytes of the other side, or its end, wait to be read.
    pub fn has_said(&mut self, muxes: &mut Muxes) -> bool {
        self.waiting(muxes).is_ok()
    }

    /// As [`Own::unacknowledged`]; `None` for a stream of a connection that carries many.
    pub fn unacknowledged(&mut self) -> Option<Duration> {
        match self {
            Leg::Own(own) => own.unacknowledged(),
            Leg::Mux(_) => None,
        }
    }

    /// As [`Own::undelivered`]; `None` for a stream of a connection that carries many.
    pub fn undelivered(&mut self) -> Option<Duration> {
        match self {
            Leg::Own(own) => own.undelivered(),
            Leg::Mux(_) => None,
        }
    }

    /// Whether it is one that is to [`ping`](Leg::ping) from time to time.
    pub fn pings(&self) -> bool {
        matches!(self, Leg::Own(Own::Ws(_)))
    }

    /// Says a word that means nothing, if nothing was said since the last call: see [`Ws::ping`].
    pub fn ping(&mut self) {
        if let Leg::Own(Own::Ws(ws)) = self {
            ws.ping();
        }
    }

    /// It carries bare datagrams of at most so many bytes, without frames of ours: where it knows messages, each is one.
    pub fn keep_messages(&mut self, largest: usize) {
        if let Leg::Own(Own::Ws(ws)) = self {
            ws.keep_messages(largest);
        }
    }

    /// Makes the coming close a reset where that loses nothing.
    pub fn abort(&mut self) {
        if let Leg::Own(own) = self {
            own.abort();
        }
    }

    /// Makes the coming close a reset, whatever is still on its way.
    pub fn cut(&mut self) {
        if let Leg::Own(own) = self {
            own.socket().into_iter().for_each(|tcp| tcp.cut());
        }
    }

    /// As [`Own::is_alive`].
    pub fn is_alive(&mut self, quiet: bool, muxes: &mut Muxes) -> bool {
        match self {
            Leg::Own(own) => own.is_alive(quiet),
            Leg::Mux(_) => lives(self.waiting(muxes), quiet),
        }
    }

    /// Whether the peer has said nothing and ended its direction.
    pub fn has_ended(&mut self, muxes: &mut Muxes) -> bool {
        matches!(self.waiting(muxes), Ok(0))
    }

    fn waiting(&mut self, muxes: &mut Muxes) -> io::Result<usize> {
        match self {
            Leg::Own(own) => own.waiting(),
            Leg::Mux(loan) => muxes.lend(loan).map_or_else(gone, |mut stream| stream.waiting()),
        }
    }

    /// The fingerprint of the certificate that the peer showed, where there is one.
    pub fn peer_fingerprint(&self, muxes: &mut Muxes) -> Option<Fingerprint> {
        match self {
            Leg::Own(Own::Tls(tls)) => tls.peer_fingerprint(),
            Leg::Own(Own::Serial(serial)) => serial.peer_fingerprint(),
            Leg::Own(Own::Ws(ws)) => ws.peer_fingerprint(),
            Leg::Own(Own::Tcp(_) | Own::Udp(_) | Own::Line(_)) => None,
            Leg::Mux(loan) => muxes.peer_fingerprint(loan),
        }
    }
}

impl From<Tcp> for Own {
    fn from(tcp: Tcp) -> Own {
        Own::Tcp(tcp)
    }
}

impl From<Tls> for Own {
    fn from(tls: Tls) -> Own {
        Own::Tls(Box::new(tls))
    }
}

impl From<Ws> for Own {
    fn from(ws: Ws) -> Own {
        Own::Ws(Box::new(ws))
    }
}

impl From<Session> for Own {
    fn from(session: Session) -> Own {
        Own::Udp(Box::new(session))
    }
}

impl From<Line> for Own {
    fn from(line: Line) -> Own {
        Own::Line(line)
    }
}

impl<T: Into<Own>> From<T> for Leg {
    fn from(own: T) -> Leg {
        Leg::Own(own.into())
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

fn lives(waiting: io::Result<usize>, quiet: bool) -> bool {
    match waiting {
        Ok(0) => false,
        Ok(_) => !quiet,
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    }
}

fn is_dead(waiting: io::Result<usize>) -> bool {
    waiting.is_err_and(|error| error.kind() != io::ErrorKind::WouldBlock)
}

/// The hub's end of the control connection: its signals go out, those of the peer are kept for it.
pub struct Line {
    tx: VecDeque<u8>,
    rx: Vec<u8>,
    limit: usize,
}

impl Line {
    /// At most `signals` signals wait for the peer (`NP_SEMAPHORE_LIMIT`).
    pub fn new(signals: usize) -> Line {
        Line { tx: VecDeque::new(), rx: Vec::new(), limit: signals.saturating_mul(SIGNAL) }
    }

    /// Queues bytes for the peer. `false` if too many wait: the peer does not read.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.tx.extend(bytes);
        self.tx.len() <= self.limit
    }

    /// What the peer sent since the last call.
    pub fn received(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.rx)
    }
}

impl Stream for Line {
    fn fill(&mut self, into: &mut Buffer) -> io::Result<usize> {
        let (front, _) = self.tx.as_slices();
        match into.append(front) {
            0 => would_block(),
            count => {
                self.tx.drain(..count);
                Ok(count)
            }
        }
    }

    fn drain(&mut self, from: &mut Buffer) -> io::Result<usize> {
        let count = from.bytes().len();
        self.rx.extend_from_slice(from.bytes());
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
