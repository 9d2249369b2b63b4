//! One end of a relay, whatever it is made of.

use std::collections::VecDeque;
use std::io;

use mio::event::Event;
use mio::{Registry, Token};

use super::stream::{would_block, Buffer, Stream};
use super::tcp::Tcp;
use super::tls::Tls;
use super::udp::Session;
#[cfg(feature = "ws")]
use super::ws::{self, Ws};

/// One end of a relay. A new transport is one more line here.
pub enum Leg {
    /// A plain TCP connection.
    Tcp(Tcp),
    /// TLS over TCP.
    Tls(Box<Tls>),
    /// WebSocket messages over TLS or TCP.
    #[cfg(feature = "ws")]
    Ws(Box<Ws>),
    /// A UDP user or target.
    Udp(Box<Session>),
    /// The hub's end of the control connection.
    Line(Line),
}

impl Leg {
    /// Lends it for the length of a call.
    pub fn lend(&mut self) -> &mut dyn Stream {
        match self {
            Leg::Tcp(tcp) => tcp,
            Leg::Tls(tls) => &mut **tls,
            #[cfg(feature = "ws")]
            Leg::Ws(ws) => &mut **ws,
            Leg::Udp(session) => &mut **session,
            Leg::Line(line) => line,
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
    pub fn failed(&mut self) -> bool {
        #[cfg(feature = "ws")]
        if let Leg::Ws(ws) = self {
            return ws.failed();
        }
        self.carrier().is_some_and(|tcp| tcp.failed())
    }

    /// Makes the coming close a reset where that loses nothing.
    pub fn abort(&mut self) {
        if let Some(tcp) = self.carrier() {
            tcp.abort();
        }
    }

    /// Looks whether an idle connection still lives, without taking anything out of it.
    ///
    /// `quiet` says that the other side has no reason to speak before we do: whoever does is not our peer.
    pub fn is_alive(&mut self, quiet: bool) -> bool {
        match self.waiting() {
            Ok(0) => false,
            Ok(_) => !quiet,
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        }
    }

    /// Whether the other side has said nothing and ended its direction.
    pub fn has_ended(&mut self) -> bool {
        matches!(self.waiting(), Ok(0))
    }

    /// The WebSocket over this connection, once its upgrade is done; `early` is what came after the other side's head.
    #[cfg(feature = "ws")]
    pub fn into_ws(self, end: ws::End, ws_eof: bool, early: &[u8]) -> io::Result<Leg> {
        let carrier: Box<dyn ws::Carrier> = match self {
            Leg::Tcp(tcp) => Box::new(tcp),
            Leg::Tls(tls) => tls,
            _ => return Err(io::Error::other("no connection that could carry a WebSocket")),
        };
        Ok(Leg::Ws(Box::new(Ws::new(carrier, end, ws_eof, early))))
    }

    fn waiting(&mut self) -> io::Result<usize> {
        match self {
            Leg::Tcp(tcp) => tcp.waiting(),
            Leg::Tls(tls) => tls.waiting(),
            #[cfg(feature = "ws")]
            Leg::Ws(ws) => ws.waiting(),
            Leg::Udp(_) | Leg::Line(_) => would_block(),
        }
    }

    /// The TCP socket underneath, where there is one.
    pub fn carrier(&mut self) -> Option<&mut Tcp> {
        match self {
            Leg::Tcp(tcp) => Some(tcp),
            Leg::Tls(tls) => Some(tls.carrier()),
            #[cfg(feature = "ws")]
            Leg::Ws(ws) => Some(ws.carrier()),
            Leg::Udp(_) | Leg::Line(_) => None,
        }
    }
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
