//! One QUIC connection, whichever side began it: streams in and out, its clocks, and its packets.
//!
//! ```text
//!   Starting --handshake--> Up --closed, idle too long, refused--> Over(why)
//!      +-------- refused, too late, unreachable ---------------------^
//! ```
//!
//! quiche does the protocol and holds the bytes; this file turns its calls into the contract of [`Mux`](crate::net::mux::Mux).

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use quiche::{ConnectionError, ConnectionId, RecvInfo, Shutdown};

use super::socket::Outbox;
use super::streams::{Inward, Outward, Streams};
use super::{random_id, Id, Settings, SPARE_IDS};
use crate::logic::slab::{Key, Slab};
use crate::logic::wire::Fingerprint;
use crate::net::mux::StreamNo;
use crate::net::stream::{would_block, Buffer};

/// A connection and the numbers of its streams.
pub struct Connection {
    quic: quiche::Connection,
    key: Key,
    numbers: HashMap<u64, StreamNo>,
    leaving: HashMap<u64, Leaving>,
    stage: Stage,
    /// Ends of ours that are said later: when, and of which stream.
    ends: Vec<(Instant, u64)>,
    /// Streams on which the other side's end is heard only once ours has gone out.
    unheard: Vec<StreamNo>,
    /// Streams whose first words wait for room.
    holding: Vec<StreamNo>,
    now: Instant,
    /// How often packets were made.
    round: u64,
    /// Which socket its packets leave by.
    pub socket: usize,
    /// Our next stream.
    next: u64,
    report: Duration,
    /// The handshake must be over by then.
    patience: Instant,
    /// When a PING is due if nothing was heard until then.
    quiet_until: Instant,
    /// The sender shall rest until then.
    paced: Option<Instant>,
}

enum Stage {
    Starting,
    Up,
    Over(String),
}

/// A stream that nobody here uses any more, and that quiche still knows.
enum Leaving {
    /// It was reset, and what still comes is thrown away; the other side has until then to end its direction.
    Emptying(Instant),
    /// The other side was asked to stop. Our direction ended well: what was sent before that has arrived by then.
    Stopping(Instant),
    /// There is nothing left to do but to wait.
    Waiting,
}

/// How far sending came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Nothing more to say now.
    All,
    /// The outbox is full: it has to go first.
    Full,
}

impl Connection {
    /// Takes a connection that begins now and is the only one of its table.
    pub fn new(quic: quiche::Connection, socket: usize, settings: &Settings, now: Instant) -> Connection {
        Connection {
            quic,
            key: Slab::new().insert(()),
            numbers: HashMap::new(),
            leaving: HashMap::new(),
            stage: Stage::Starting,
            ends: Vec::new(),
            unheard: Vec::new(),
            holding: Vec::new(),
            now,
            round: 0,
            socket,
            next: 0,
            report: settings.report,
            patience: now + settings.patience,
            quiet_until: now + settings.report,
            paced: None,
        }
    }

    /// It is one of several, under this key.
    pub fn entered(&mut self, key: Key) {
        self.key = key;
    }

    /// What quiche knows of it.
    pub fn quic(&self) -> &quiche::Connection {
        &self.quic
    }

    /// What quiche does with it.
    pub fn quic_mut(&mut self) -> &mut quiche::Connection {
        &mut self.quic
    }

    /// Whether streams may be opened.
    pub fn is_up(&self) -> bool {
        matches!(self.stage, Stage::Up)
    }

    /// Why it is over, if it is.
    pub fn over(&self) -> Option<&str> {
        match &self.stage {
            Stage::Over(why) => Some(why),
            _ => None,
        }
    }

    /// Whether nobody would miss it: it carries no stream.
    pub fn is_spare(&self) -> bool {
        self.numbers.is_empty()
    }

    /// Whether nothing of it is left, not even to repeat its goodbye.
    pub fn is_gone(&self) -> bool {
        self.quic.is_closed()
    }

    /// Gives the other side spare ids for new paths; `each` is told of them.
    pub fn issue_ids(&mut self, mut each: impl FnMut(Id)) -> io::Result<()> {
        let wanted = self.quic.path_stats().count() + SPARE_IDS;
        while self.quic.active_scids() < wanted && self.quic.scids_left() > 0 {
            let id = random_id()?;
            let reset = u128::from_be_bytes([random_id()?, random_id()?].concat().try_into().unwrap_or_default());
            if self.quic.new_scid(&ConnectionId::from_ref(&id), reset, true).is_err() {
                break;
            }
            each(id);
        }
        Ok(())
    }

    /// The other side's leaf.
    pub fn peer_fingerprint(&self) -> Option<Fingerprint> {
        self.quic.peer_cert().map(Fingerprint::of)
    }

    /// A packet came.
    pub fn receive(&mut self, packet: &mut [u8], from: SocketAddr, to: SocketAddr, now: Instant) {
        // A packet that is wrong is dropped; an error of the protocol closes the connection, and `judge` sees that.
        if self.quic.recv(packet, RecvInfo { from, to }).is_ok() {
            self.quiet_until = now + self.report;
        }
    }

    /// Runs its clocks and notes what has become of it; tells the streams that have news.
    pub fn tick(&mut self, streams: &mut Streams, now: Instant) {
        if self.quic.timeout_instant().is_some_and(|at| at <= now) {
            self.quic.on_timeout();
        }
        if self.is_up() && now >= self.quiet_until {
            self.quiet_until = now + self.report;
            let _ = self.quic.send_ack_eliciting();
        }
        if matches!(self.stage, Stage::Starting) && now >= self.patience {
            let _ = self.quic.close(false, 0, b"");
            self.end(UNREACHABLE.into(), streams);
        }
        self.now = now;
        self.judge(streams);
        self.gather(streams);
        self.unheard.drain(..).for_each(|stream| streams.tell(stream));
        for stream in std::mem::take(&mut self.holding) {
            let _ = self.say_held(stream, streams);
        }
        self.ends.retain(|(at, id)| {
            let waits = *at > now;
            if !waits {
                let _ = self.quic.stream_send(*id, b"", true);
            }
            waits
        });
        self.part(now);
    }

    /// Looks whether it is up, or over.
    fn judge(&mut self, streams: &mut Streams) {
        if matches!(self.stage, Stage::Starting) && self.quic.is_established() {
            self.stage = Stage::Up;
        }
        let closing = self.quic.local_error().is_some() || self.quic.peer_error().is_some();
        if self.quic.is_closed() || self.quic.is_draining() || closing {
            let why = self.reason();
            self.end(why, streams);
        }
    }

    /// It is over for this reason; the first one counts.
    pub fn end(&mut self, why: String, streams: &mut Streams) {
        if !matches!(self.stage, Stage::Over(_)) {
            self.stage = Stage::Over(why);
            (self.numbers, self.leaving) = (HashMap::new(), HashMap::new());
            streams.cut(self.key);
        }
    }

    fn reason(&self) -> String {
        let told = |error: &ConnectionError| match (error.is_app, error.error_code) {
            (true, 0) | (false, 0) => "closed".to_owned(),
            (true, code) => format!("closed with code {code}"),
            (false, code @ 0x100..=0x1ff) => format!("TLS alert {} ({})", code - 0x100, alert(code - 0x100)),
            (false, code) => format!("QUIC error {code:#x}"),
        };
        match (self.quic.peer_error(), self.quic.local_error()) {
            (Some(error), _) => format!("{} by the other side", told(error)),
            (None, Some(error)) => told(error),
            (None, None) if matches!(self.stage, Stage::Starting) => UNREACHABLE.into(),
            (None, None) if self.quic.is_timed_out() => "nothing was heard from the other side".into(),
            (None, None) => "no way to the other side is left".into(),
        }
    }

    /// Tells of every stream that can be read or written again, and of those that the other side opened.
    fn gather(&mut self, streams: &mut Streams) {
        if matches!(self.stage, Stage::Over(_)) {
            return;
        }
        while let Some(id) = self.quic.stream_readable_next() {
            match self.numbers.get(&id) {
                Some(stream) => streams.readable(*stream),
                None => self.greet(id, streams),
            }
        }
        while let Some(id) = self.quic.stream_writable_next() {
            if let Some(stream) = self.numbers.get(&id) {
                streams.writable(*stream);
            }
        }
    }

    /// A stream that the other side opened. Ours that were released may still make news: nobody hears it.
    fn greet(&mut self, id: u64, streams: &mut Streams) {
        let ours = (id & 1 == 1) == self.quic.is_server();
        if ours || self.leaving.contains_key(&id) || self.quic.stream_closed(id) {
            return;
        }
        let stream = streams.insert(self.key, id);
        self.numbers.insert(id, stream);
        streams.announce(stream, self.peer());
    }

    /// The other side's address as it is now.
    pub fn peer(&self) -> SocketAddr {
        let active = self.quic.path_stats().find(|path| path.active).or_else(|| self.quic.path_stats().next());
        active.map_or(SocketAddr::from(([0, 0, 0, 0], 0)), |path| path.peer_addr)
    }

    /// Opens a stream. `WouldBlock`: the other side allows no more now.
    pub fn open(&mut self, streams: &mut Streams) -> io::Result<StreamNo> {
        if !self.is_up() {
            return would_block();
        }
        // Its default priority: what counts is that the stream exists from now on.
        match self.quic.stream_priority(self.next, PRIORITY, true) {
            Ok(()) => {}
            Err(quiche::Error::StreamLimit) => return would_block(),
            Err(error) => return Err(io::Error::other(error)),
        }
        let stream = streams.insert(self.key, self.next);
        self.numbers.insert(self.next, stream);
        self.next += 4;
        Ok(stream)
    }

    /// As [`Stream::fill`](crate::net::stream::Stream::fill).
    pub fn fill(&mut self, stream: StreamNo, into: &mut Buffer, streams: &mut Streams) -> io::Result<usize> {
        let entry = streams.get_mut(stream).ok_or(ErrorKind::NotConnected)?;
        match entry.inward {
            Inward::Ended => return Ok(0),
            Inward::Reset => return Err(ErrorKind::ConnectionReset.into()),
            // See `finish`: with the other side's end quiche would forget ours.
            Inward::Open if entry.finished == Some(self.round) => {
                self.unheard.push(stream);
                return would_block();
            }
            Inward::Open => {}
        }
        match self.quic.stream_recv(entry.id, into.room(1)) {
            Ok((count, over)) => {
                into.advance(count);
                if over {
                    entry.inward = Inward::Ended;
                } else if count == 0 {
                    entry.reader_waits = true;
                    return would_block();
                }
                Ok(count)
            }
            // quiche keeps no mark of a reset that follows an end whose last bytes are missing.
            Err(quiche::Error::Done) if !self.quic.stream_finished(entry.id) => {
                entry.reader_waits = true;
                would_block()
            }
            Err(_) => {
                entry.inward = Inward::Reset;
                Err(ErrorKind::ConnectionReset.into())
            }
        }
    }

    /// How many bytes could be read now: 0 at the end, `WouldBlock` if there are none yet.
    pub fn waiting(&mut self, stream: StreamNo, streams: &mut Streams) -> io::Result<usize> {
        let entry = streams.get(stream).ok_or(ErrorKind::NotConnected)?;
        match (entry.inward, self.quic.stream_readable_len(entry.id, PEEK)) {
            (Inward::Open, count @ 1..) => Ok(count),
            // Reading nothing tells an end from a reset and takes no byte.
            _ => self.fill(stream, &mut Buffer::new(0), streams),
        }
    }

    /// As [`Stream::drain`](crate::net::stream::Stream::drain). A stream's first words (an opening, an id) are always taken, as a
    /// socket of its own would: they go as soon as others leave room.
    pub fn drain(&mut self, stream: StreamNo, from: &mut Buffer, streams: &mut Streams) -> io::Result<usize> {
        self.say_held(stream, streams)?;
        let entry = streams.get_mut(stream).ok_or(ErrorKind::NotConnected)?;
        if entry.outward != Outward::Open {
            return Err(ErrorKind::BrokenPipe.into());
        }
        if from.is_empty() {
            return Ok(0);
        }
        match self.quic.stream_send(entry.id, from.bytes(), false) {
            Ok(count @ 1..) => {
                from.consume(count);
                entry.drained = Some((self.now, self.round));
                Ok(count)
            }
            // quiche says the same of a stream that it has forgotten, since both sides are done with it.
            Ok(0) | Err(quiche::Error::Done) if self.quic.stream_capacity(entry.id).is_ok() => {
                let count = from.bytes().len();
                if entry.drained.is_none() && count <= FIRST_WORDS {
                    entry.held = from.bytes().to_vec();
                    from.consume(count);
                    self.holding.push(stream);
                    return Ok(count);
                }
                entry.writer_waits = true;
                would_block()
            }
            _ => {
                entry.outward = Outward::Stopped;
                Err(ErrorKind::ConnectionReset.into())
            }
        }
    }

    /// Sends a stream's first words, if they still wait. `WouldBlock`: there is no room yet.
    fn say_held(&mut self, stream: StreamNo, streams: &mut Streams) -> io::Result<()> {
        let Some(entry) = streams.get_mut(stream).filter(|entry| !entry.held.is_empty()) else { return Ok(()) };
        match self.quic.stream_send(entry.id, &entry.held, false) {
            Ok(count) => {
                entry.held.drain(..count);
                entry.drained = Some((self.now, self.round));
            }
            Err(quiche::Error::Done) => {}
            Err(_) => {
                entry.held.clear();
                entry.outward = Outward::Stopped;
                streams.tell(stream);
                return Ok(());
            }
        }
        if entry.held.is_empty() {
            return Ok(());
        }
        entry.writer_waits = true;
        if !self.holding.contains(&stream) {
            self.holding.push(stream);
        }
        would_block()
    }

    /// As [`Stream::finish`](crate::net::stream::Stream::finish).
    ///
    /// quiche takes a stream for over, and forgets it, once both sides have ended it and all of its bytes are acknowledged,
    /// even if our end has not been sent, or was lost. So an end that could not go with the last bytes and comes after the
    /// other side's is said only when those bytes have been acknowledged: the next acknowledgement is its own. Where the other
    /// side's comes after ours it is not heard before ours has gone out, which it does in the turn in which it is said.
    pub fn finish(&mut self, stream: StreamNo, streams: &mut Streams) -> io::Result<()> {
        self.say_held(stream, streams)?;
        let entry = streams.get_mut(stream).ok_or(ErrorKind::NotConnected)?;
        match entry.outward {
            Outward::Finished => return Ok(()),
            Outward::Stopped => return Err(ErrorKind::BrokenPipe.into()),
            Outward::Open => {}
        }
        if let (Some((at, round)), true) = (entry.drained, entry.inward != Inward::Open) {
            let rtt = self.quic.path_stats().find(|path| path.active).map_or(SETTLED, |path| path.rtt);
            let settled = at + (3 * rtt).clamp(SETTLED, LINGER);
            if round != self.round && settled > self.now {
                self.ends.push((settled, entry.id));
                entry.outward = Outward::Finished;
                return Ok(());
            }
        }
        if let Ok(false) = self.quic.stream_writable(entry.id, 1) {
            entry.writer_waits = true;
            return would_block();
        }
        match self.quic.stream_send(entry.id, b"", true) {
            Ok(_) => {
                entry.outward = Outward::Finished;
                entry.finished = Some(self.round);
                Ok(())
            }
            Err(_) => {
                entry.outward = Outward::Stopped;
                Err(ErrorKind::ConnectionReset.into())
            }
        }
    }

    /// Forgets a stream: what is not over of it is reset.
    ///
    /// quiche forgets a stream when both directions are over and *then* something happens on it: bytes are taken, or
    /// something of ours is acknowledged. So what still comes is taken, and the other side is asked to stop only where it
    /// does not learn of the end by a reset, or does not heed it.
    pub fn release(&mut self, stream: StreamNo, streams: &mut Streams, now: Instant) {
        let Some(entry) = streams.remove(stream) else { return };
        self.numbers.remove(&entry.id);
        if entry.outward == Outward::Open {
            let _ = self.quic.stream_shutdown(entry.id, Shutdown::Write, 0);
        }
        let until = now + LINGER;
        let leaving = match (entry.inward, entry.outward) {
            (Inward::Open, Outward::Finished) => {
                let _ = self.quic.stream_shutdown(entry.id, Shutdown::Read, 0);
                Leaving::Stopping(until)
            }
            (Inward::Open, _) => Leaving::Emptying(until),
            _ => Leaving::Waiting,
        };
        self.leaving.insert(entry.id, leaving);
    }

    /// Goes on with what was released.
    fn part(&mut self, now: Instant) {
        let quic = &mut self.quic;
        self.leaving.retain(|&id, leaving| {
            if let Leaving::Emptying(_) = leaving {
                while quic.stream_discard(id, usize::MAX).is_ok_and(|(count, _)| count > 0) {}
            }
            // Asking makes quiche forget a stream that the other side stopped and that is over.
            if let Err(quiche::Error::InvalidStreamState(_)) = quic.stream_capacity(id) {
                return false;
            }
            match leaving {
                Leaving::Emptying(until) if now > *until => {
                    let _ = quic.stream_shutdown(id, Shutdown::Read, 0);
                    *leaving = Leaving::Waiting;
                }
                Leaving::Stopping(until) if now > *until && quic.stream_finished(id) => {
                    let _ = quic.stream_shutdown(id, Shutdown::Write, 0);
                    *leaving = Leaving::Waiting;
                }
                _ => {}
            }
            true
        });
    }

    /// Says goodbye.
    pub fn close(&mut self, streams: &mut Streams) {
        let _ = self.quic.close(true, 0, b"");
        self.end("closed here".into(), streams);
    }

    /// Puts its packets into the outbox.
    pub fn send(&mut self, outbox: &mut Outbox, largest: usize, now: Instant) -> Sent {
        if self.paced.is_some_and(|until| until > now) {
            return Sent::All;
        }
        self.paced = None;
        self.round += 1;
        // Without it `at` is the time of the call, which may be later than `now`.
        let pacing = self.quic.gcongestion_enabled() == Some(true);
        loop {
            let Some(room) = outbox.room(largest) else { return Sent::Full };
            match self.quic.send(room) {
                Ok((len, info)) => {
                    outbox.add(len, self.socket, info.from, info.to);
                    if pacing && info.at > now + GULP {
                        self.paced = Some(info.at - GULP);
                        return Sent::All;
                    }
                }
                Err(quiche::Error::Done) => return Sent::All,
                Err(_) => {
                    // quiche closes the connection itself where that is due; what it cannot send now it never will.
                    let _ = self.quic.close(false, 1, b"");
                    return Sent::All;
                }
            }
        }
    }

    /// When one of its clocks has something to say.
    pub fn deadline(&self) -> Option<Instant> {
        let own = match self.stage {
            Stage::Starting => Some(self.patience),
            Stage::Up => Some(self.quiet_until),
            Stage::Over(_) => None,
        };
        let end = self.ends.iter().map(|(at, _)| *at).min();
        let unheard = (!self.unheard.is_empty()).then_some(self.now);
        [self.quic.timeout_instant(), self.paced, own, end, unheard].into_iter().flatten().min()
    }
}

/// What TLS alerts that people meet mean.
fn alert(code: u64) -> &'static str {
    match code {
        42..=46 | 49 => "the certificate was not accepted",
        48 => "the certificate's issuer is unknown",
        70 => "no common version of TLS",
        112 => "the server does not know that name",
        120 => "no common application protocol",
        _ => "the handshake failed",
    }
}

/// Said when no handshake comes about. The client adds the port.
pub const UNREACHABLE: &str = "no answer";
/// Bytes that a stream begins with: an opening, or an id.
const FIRST_WORDS: usize = 16;
/// quiche's default urgency.
const PRIORITY: u8 = 127;
/// A released stream is over by then in any case. Bytes that are not acknowledged after so long are lost with the
/// connection.
const LINGER: Duration = Duration::from_secs(10);
/// As far ahead of its pace packets may be sent: timers are no finer than some milliseconds.
const GULP: Duration = Duration::from_millis(1);
/// What was sent is acknowledged by then, in the shortest of networks.
const SETTLED: Duration = Duration::from_millis(5);
/// How many bytes that wait are counted.
const PEEK: usize = 65536;
