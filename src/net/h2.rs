//! Pool type 3: one HTTP/2 connection (RFC 9113) over TLS, each of its streams a pool connection.
//!
//! ```text
//!   fill  <-- inbox  <--+                +<-- receive <-- plaintext <-- TLS
//!                       |  nghttp2 and   |
//!   drain --> outbox -->+  its windows   +--> out: up to four records --> TLS
//! ```
//!
//! The client asks `POST /stream` for each, and DATA both ways is the byte stream. END_STREAM ends a direction. A reset with
//! NO_ERROR or CANCEL is how peers leave that have no complaint: what came is delivered, then the stream ends, and from
//! then on nothing can be said to them, as with a TCP peer that has closed. Any other reset is an error at once and voids
//! what came. A stream that we cut off is reset with CONNECT_ERROR (RFC 9113, 8.5), so that it looks cut.
//!
//! **Windows.** A stream begins with a small window, which doubles whenever a whole window was read and nothing is left: a
//! fast reader soon has one that fills 1 Gbit/s at 50 ms. Its credit comes back for bytes that were filled; the
//! connection's comes back as bytes come in, so a stuck stream never stalls another. What the windows of all streams have
//! beyond their first comes out of one store of `spare` bytes, and no stream gets more than half of what is left there. So
//! the most memory that a peer can take for bytes that are not read is `spare` and a first window for each stream
//! (twice that while memory doubles), and readers who sleep with a large window leave some for those who come later.

mod flows;
mod queue;

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Registry, Token};

use self::flows::{H2Recv, H2Send, H2Streams};
use super::budget::Budget;
use super::lower::Lower;
use super::mux::{Mux, StreamNo, Trial};
use super::nghttp2::{H2Session, SessionSettings};
use super::stream::{ready, would_block, Buffer, LARGE};
use super::tls::Tls;
use crate::logic::keepalive::{Beat, Keepalive};
use crate::logic::wire::Fingerprint;

/// What a connection allows and how often it asks whether the other side lives.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Streams that the other side may have open at a time (a server's: the pool's `max` and some for those in use).
    pub streams: u32,
    /// Bytes of a new stream's window.
    pub start: u32,
    /// Bytes of the largest window of a stream.
    pub window: u32,
    /// Bytes that the windows of all streams together may have beyond their first ones.
    pub spare: usize,
    /// Bytes that wait in one stream to be sent.
    pub outbox: usize,
    /// A PING goes out this often; twelve times that without a byte is silence.
    pub report: Duration,
}

impl Limits {
    /// Windows for 1 Gbit/s at 50 ms, or as much as memory allows.
    pub fn new(streams: u32, report: Duration, budget: &Budget) -> Limits {
        let Budget { h2_start: start, h2_stream: window, h2_spare: spare, h2_outbox: outbox, .. } = *budget;
        Limits { streams, start, window, spare, outbox: flows::whole_frames(outbox), report }
    }

    fn terms(&self) -> SessionSettings {
        SessionSettings {
            streams: self.streams,
            stream_window: self.window.min(self.start),
            window: self.window.saturating_add(self.window / 2),
            head: flows::MAX_HEAD as u32,
        }
    }
}

/// The side that dials, over TLS that has agreed on HTTP/2; [`Limits::new`] are its windows.
pub fn client(mut tls: Tls, authority: &str, report: Duration, budget: &Budget) -> io::Result<Box<dyn Mux>> {
    tls.socket().keep_queue_short();
    Ok(Box::new(H2::client(tls, authority, Limits::new(0, report, budget))?))
}

/// The side that was dialled by `peer`, which may have so many streams open at a time, and is on trial until one of them is a client's.
pub fn server(
    mut tls: Tls,
    peer: SocketAddr,
    streams: usize,
    report: Duration,
    budget: &Budget,
    trial: Trial,
) -> io::Result<Box<dyn Mux>> {
    tls.socket().keep_queue_short();
    Ok(Box::new(H2::server(tls, peer, Limits::new(streams as u32, report, budget))?.on_trial(trial)))
}

/// One HTTP/2 connection, either side of it.
pub struct H2<C = Tls> {
    lower: C,
    session: H2Session<H2Streams>,
    flows: H2Streams,
    side: Side,
    limits: Limits,
    keepalive: Option<Keepalive>,
    /// What bounds it while its client is not known, and how many bytes it has said so far.
    trial: Option<(Trial, usize)>,
    /// Something was done that may have made output, or an edge came.
    dirty: bool,
}

/// Which side we are.
enum Side {
    /// We open streams at this authority.
    Client(String),
    /// That address opens them.
    Server(SocketAddr),
}

impl<C: Lower> H2<C> {
    /// The side that dialled. `authority` is the name of the server, as the requests carry it.
    ///
    /// The TLS handshake is over and has agreed on HTTP/2.
    pub fn client(lower: C, authority: &str, limits: Limits) -> io::Result<H2<C>> {
        let session = H2Session::client(limits.terms())?;
        Ok(H2::new(lower, session, Side::Client(authority.to_owned()), limits))
    }

    /// The side that was dialled, by `peer`.
    pub fn server(lower: C, peer: SocketAddr, limits: Limits) -> io::Result<H2<C>> {
        let session = H2Session::server(limits.terms())?;
        Ok(H2::new(lower, session, Side::Server(peer), limits))
    }

    /// Its client is not known yet.
    pub fn on_trial(mut self, trial: Trial) -> H2<C> {
        self.trial = Some((trial, 0));
        self
    }

    fn new(lower: C, session: H2Session<H2Streams>, side: Side, limits: Limits) -> H2<C> {
        let flows =
            H2Streams::new(matches!(side, Side::Client(_)), limits.terms().stream_window, limits.spare, limits.outbox);
        H2 { lower, session, flows, side, limits, keepalive: None, trial: None, dirty: true }
    }

    /// Reads until nothing is left or a bound is reached: how much that was.
    fn read(&mut self, now: Instant) -> io::Result<usize> {
        INPUT.with_borrow_mut(|input| self.read_through(input.get_or_insert_with(|| Buffer::new(READ)), now))
    }

    fn read_through(&mut self, input: &mut Buffer, now: Instant) -> io::Result<usize> {
        let mut total = 0;
        while total < READ_AT_ONCE {
            // What a connection said that was ended for it.
            input.consume(input.bytes().len());
            let count = match self.lower.fill(input) {
                Ok(0) => return Err(io::Error::new(ErrorKind::UnexpectedEof, "the connection was closed")),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            total += count;
            self.judge(count, now)?;
            let result = self.session.receive(&mut self.flows, input.bytes());
            result.map_err(|error| self.calm(error))?;
            self.respond()?;
        }
        Ok(total)
    }

    /// Bounds what it says, and for how long, while its client is not known.
    fn judge(&mut self, count: usize, now: Instant) -> io::Result<()> {
        let Some((trial, heard)) = &mut self.trial else { return Ok(()) };
        *heard += count;
        match trial.failed(*heard, now) {
            Some(why) => Err(self.calm(io::Error::new(ErrorKind::TimedOut, format!("HTTP/2: {why}")))),
            None => Ok(()),
        }
    }

    /// The peer went too far: it is told, as far as that goes now.
    fn calm(&mut self, error: io::Error) -> io::Error {
        self.session.end(flows::ENHANCE_YOUR_CALM);
        let _ = self.send();
        match self.flows.complaint() {
            "" => error,
            complaint => io::Error::new(error.kind(), format!("{error}: {complaint}")),
        }
    }

    /// Does what the library's callbacks left to do.
    fn respond(&mut self) -> io::Result<()> {
        for (id, status) in std::mem::take(&mut self.flows.refused) {
            // The rest of the request finds a window that does not open again. A reset (RFC 9113, 8.1) would be more, but there are
            // clients that take it for a failure and do not look at the answer.
            self.session.respond(id, &[(":status", status)], false)?;
            self.flows.answered.push_back(id);
        }
        // A peer that never ends its requests would have the library keep all of them.
        while self.flows.answered.len() > MAX_ANSWERED {
            let oldest = self.flows.answered.pop_front();
            oldest.into_iter().for_each(|id| self.session.reset(id, flows::NO_ERROR));
        }
        if self.session.queued() > MAX_QUEUED {
            return Err(self.calm(io::Error::other("HTTP/2: too many answers wait for a peer who does not read")));
        }
        self.return_credit()
    }

    /// Gives the connection the credit that it is owed.
    fn return_credit(&mut self) -> io::Result<()> {
        match std::mem::take(&mut self.flows.withheld) {
            0 => Ok(()),
            due => self.session.consumed_by_all(due),
        }
    }

    /// Sends until nothing is left or the socket takes no more; `false` for the latter.
    fn send(&mut self) -> io::Result<bool> {
        if self.flows.out.size() == 0 {
            self.flows.out = OUTPUT.take().unwrap_or_else(|| Buffer::new(flows::OUTPUT));
        }
        let sent = self.send_through();
        if self.flows.out.is_empty() {
            OUTPUT.set(Some(std::mem::replace(&mut self.flows.out, Buffer::new(0))));
        }
        sent
    }

    fn send_through(&mut self) -> io::Result<bool> {
        loop {
            self.collect()?;
            if self.flows.out.is_empty() {
                return Ok(ready(self.lower.flush())?.is_some());
            }
            while !self.flows.out.is_empty() {
                if ready(self.lower.drain(&mut self.flows.out))?.is_none() {
                    return Ok(false);
                }
            }
        }
    }

    /// Frames into the output, as many as fit.
    fn collect(&mut self) -> io::Result<()> {
        while flows::OUTPUT - self.flows.out.bytes().len() >= ROOM {
            let frame = self.session.send(&mut self.flows)?;
            let length = frame.len();
            if self.flows.out.append(frame) < length {
                return Err(io::Error::other("HTTP/2: a frame of ours that is too large"));
            }
            if length == 0 {
                // What was said on these has gone out by now: a reset would have overtaken it.
                let done = std::mem::take(&mut self.flows.done);
                if done.is_empty() {
                    break;
                }
                done.into_iter().for_each(|(id, code)| self.session.reset(id, code));
            }
        }
        Ok(())
    }

    /// Asks whether the other side lives; silence is an error. `heard`: it has said something just now.
    fn tick(&mut self, now: Instant, heard: bool) -> io::Result<()> {
        let report = self.limits.report;
        let keepalive = self.keepalive.get_or_insert_with(|| Keepalive::new(report, report, now).shared());
        if heard {
            keepalive.heard(now);
        }
        match keepalive.beat(now) {
            Beat::Rest => Ok(()),
            Beat::Ask => self.session.ping(),
            Beat::Silent(time) => {
                Err(io::Error::new(ErrorKind::TimedOut, format!("silent: nothing was heard for {time:?}")))
            }
        }
    }

    /// A server's head goes out before its first byte.
    fn answer(&mut self, stream: StreamNo) -> io::Result<()> {
        let flow = self.flows.get(stream)?;
        if !std::mem::replace(&mut flow.answered, true) {
            self.session.respond(flow.id, &[(":status", "200")], true)?;
        } else if std::mem::take(&mut flow.deferred) {
            self.session.resume(flow.id);
        }
        self.dirty = true;
        Ok(())
    }

    /// A stream whose window was read whole, with nothing left, may have a larger one.
    fn widen(&mut self, stream: StreamNo) -> io::Result<()> {
        match self.flows.widen(stream, self.limits.window) {
            Some((id, window)) => self.session.widen(id, window),
            None => Ok(()),
        }
    }
}

impl<C: Lower> Mux for H2<C> {
    fn register(&mut self, registry: &Arc<Registry>, token: Token) -> io::Result<()> {
        self.lower.socket().register(registry, token)
    }

    fn note(&mut self, event: &Event) {
        self.lower.socket().note(event);
        self.dirty = true;
    }

    fn advance(&mut self, now: Instant) -> io::Result<bool> {
        self.dirty = false;
        let read = self.read(now).and_then(|count| self.judge(0, now).map(|()| count));
        let count = match read {
            Ok(count) => count,
            // What the library has to say about that (GOAWAY) is still said.
            Err(error) => {
                let _ = self.send();
                return Err(error);
            }
        };
        self.tick(now, count > 0)?;
        self.send()?;
        if self.session.is_over() && self.flows.out.is_empty() {
            let why = match (self.flows.complaint(), self.flows.goodbye) {
                ("", Some(code)) => format!("HTTP/2: the other side said goodbye (code {code})"),
                (complaint, _) => format!("HTTP/2: {complaint}"),
            };
            return Err(io::Error::new(ErrorKind::ConnectionAborted, why));
        }
        let more = count >= READ_AT_ONCE;
        self.dirty |= more;
        Ok(more)
    }

    fn deadline(&self) -> Option<Instant> {
        let trial = self.trial.map(|(trial, _)| trial.until);
        self.keepalive.as_ref().map(Keepalive::deadline).into_iter().chain(trial).min()
    }

    fn is_dirty(&self) -> bool {
        self.dirty
    }

    fn is_up(&self) -> bool {
        self.flows.goodbye.is_none()
    }

    fn peer_fingerprint(&self) -> Option<Fingerprint> {
        self.lower.fingerprint()
    }

    fn open(&mut self) -> io::Result<StreamNo> {
        let Side::Client(authority) = &self.side else {
            return Err(io::Error::new(ErrorKind::Unsupported, "HTTP/2 streams are opened by the client"));
        };
        if self.flows.goodbye.is_some() {
            return Err(io::Error::new(ErrorKind::NotConnected, "the other side takes no more streams"));
        }
        if self.flows.open >= self.session.allowed() as usize {
            return would_block();
        }
        let head = [(":method", "POST"), (":scheme", "https"), (":authority", authority), (":path", "/stream")];
        // An error is the last stream number: this connection has had its day.
        let id = self.session.request(&head).inspect_err(|_| self.flows.goodbye = Some(flows::NO_ERROR))?;
        self.flows.open += 1;
        self.dirty = true;
        Ok(self.flows.insert(id))
    }

    fn accept(&mut self) -> Option<(StreamNo, SocketAddr)> {
        let Side::Server(peer) = self.side else { return None };
        Some((self.flows.accept()?, peer))
    }

    fn watch(&mut self, stream: StreamNo, token: Token) {
        self.flows.watch(stream, token);
    }

    fn changed(&mut self) -> Option<Token> {
        self.flows.changed()
    }

    fn fill(&mut self, stream: StreamNo, into: &mut Buffer) -> io::Result<usize> {
        let count = self.flows.read(stream, into)?;
        if count > 0 {
            let flow = self.flows.get(stream)?;
            if flow.recv == H2Recv::Open {
                let id = flow.id;
                self.session.consumed(id, count)?;
                self.widen(stream)?;
            }
            self.return_credit()?;
            self.dirty |= self.session.wants_to_send();
        }
        Ok(count)
    }

    fn drain(&mut self, stream: StreamNo, from: &mut Buffer) -> io::Result<usize> {
        let flow = self.flows.get(stream)?;
        match (flow.recv, flow.send) {
            (H2Recv::Broken(kind), _) => return Err(kind.into()),
            (H2Recv::Left(true), _) | (_, H2Send::Ending | H2Send::Ended) => return Err(ErrorKind::BrokenPipe.into()),
            // What they said before they left comes first.
            (H2Recv::Left(false), _) => {
                flow.blocked = true;
                return would_block();
            }
            (H2Recv::Open | H2Recv::Ended, H2Send::Open) => {}
        }
        let count = from.bytes().len().min(self.limits.outbox.saturating_sub(flow.outbox.len()));
        if count == 0 {
            flow.blocked = true;
            return would_block();
        }
        self.flows.write(stream, &from.bytes()[..count]);
        from.consume(count);
        self.answer(stream)?;
        Ok(count)
    }

    fn finish(&mut self, stream: StreamNo) -> io::Result<()> {
        let flow = self.flows.get(stream)?;
        match (flow.recv, flow.send) {
            (H2Recv::Broken(kind), _) => Err(kind.into()),
            (H2Recv::Left(_), _) | (_, H2Send::Ending | H2Send::Ended) => Ok(()),
            (H2Recv::Open | H2Recv::Ended, H2Send::Open) => {
                flow.send = H2Send::Ending;
                self.answer(stream)
            }
        }
    }

    fn waiting(&mut self, stream: StreamNo) -> io::Result<usize> {
        let flow = self.flows.get(stream)?;
        match (flow.inbox.len(), flow.recv) {
            (0, H2Recv::Open) => would_block(),
            (0, H2Recv::Broken(kind)) => Err(kind.into()),
            (count, _) => Ok(count),
        }
    }

    fn release(&mut self, stream: StreamNo) {
        let Ok(flow) = self.flows.get(stream) else { return };
        let id = flow.id;
        let code = match (flow.send, flow.recv) {
            // What waits to be sent still is, and the end after it.
            (H2Send::Ending, H2Recv::Open | H2Recv::Ended) => {
                self.flows.deafen(stream);
                None
            }
            (H2Send::Ended, H2Recv::Ended) | (_, H2Recv::Left(_)) => None,
            (H2Send::Ended, _) => Some(flows::CANCEL),
            (H2Send::Open | H2Send::Ending, _) => Some(flows::CONNECT_ERROR),
        };
        if let Some(code) = code.filter(|_| self.flows.is_known(id)) {
            self.session.reset(id, code);
        }
        if !self.flows.is_lingering(stream) {
            self.flows.forget(stream);
        }
        // Only memory can fail here, and the next call then says so.
        let _ = self.return_credit();
        self.dirty = true;
    }

    fn decide(&mut self, _stream: StreamNo) {
        self.trial = None;
    }

    fn streams(&self) -> usize {
        self.flows.len()
    }

    fn close(&mut self) {
        self.session.end(flows::NO_ERROR);
        let _ = self.send();
        let _ = self.lower.finish();
    }
}

thread_local! {
    /// What a connection reads through, one after the other: nothing of it is left when it has been read.
    static INPUT: RefCell<Option<Buffer>> = const { RefCell::new(None) };
    /// What frames are put together in. A connection keeps it while its socket takes no more; a thousand of strangers hold none.
    static OUTPUT: Cell<Option<Buffer>> = const { Cell::new(None) };
}

/// Bytes of plaintext that are taken in at once: as many as the other side sends at once.
const READ: usize = LARGE;
/// Bytes that one turn takes in before others have theirs, and users get them: few enough to be in the processor's cache still.
const READ_AT_ONCE: usize = READ;
/// Room in the output for any frame of ours.
const ROOM: usize = super::nghttp2::HEAD + super::nghttp2::PAYLOAD;
/// Requests that were answered with an error and whose end has not come: the oldest is reset for one more.
const MAX_ANSWERED: usize = 16;
/// Frames that wait for a peer who does not read. Heads and resets of all streams must fit in.
const MAX_QUEUED: usize = 100_000;
