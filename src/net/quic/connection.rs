//! One QUIC connection, whichever side began it: streams in and out, its clocks, and its packets.
//!
//! ```text
//!   Starting --handshake--> Up --closed, idle too long, refused--> Closed(why)
//!      +-------- refused, too late, unreachable ---------------------^
//! ```
//!
//! quiche does the protocol and holds the bytes; its calls are turned into the contract of [`Mux`](crate::net::mux::Mux):
//! here as far as a connection is concerned, in `flow` for each of its streams.

mod flow;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use quiche::{ConnectionError, ConnectionId, RecvInfo};

use self::flow::Leaving;
use super::packet_size::{active, PacketSize};
use super::reset::Resets;
use super::socket::Outbox;
use super::streams::{Settling, Streams, TURN};
use super::{random_id, Id, Settings, SPARE_IDS};
use crate::logic::delayed_ack::DelayedAck;
use crate::logic::slab::{Key, Slab};
use crate::logic::wire::Fingerprint;
use crate::net::mux::{AllowedPeer, StreamNo, Trial};

/// A connection and the numbers of its streams.
pub struct Connection {
    quic: quiche::Connection,
    key: Key,
    numbers: HashMap<u64, StreamNo>,
    leaving: HashMap<u64, Leaving>,
    stage: Stage,
    /// Ends of ours that are said later: when, and of which stream.
    ends: BinaryHeap<Reverse<(Settling, u64)>>,
    /// Ends of ours that were said lately, when, and what was lost when that was looked at last.
    said: VecDeque<(Instant, u64)>,
    losses: usize,
    /// Packets that were lost, as of the last turn.
    lost: usize,
    /// Streams that the other side has reset, if that was asked since a packet came: quiche looks at all streams for it.
    resets: Option<u32>,
    /// Streams on which the other side's end is heard only once ours is safe, or may have come untold: when to look again.
    unheard: BinaryHeap<Reverse<(Instant, u64)>>,
    /// Streams whose first words wait for room.
    holding: Vec<StreamNo>,
    /// Streams that wait for room and have some of their own, in the order in which they are told of the connection's.
    queue: VecDeque<StreamNo>,
    /// Bytes that the streams that were told may still ask for, and the turn in which the last one was told.
    promised: usize,
    promised_in: u64,
    /// There is room, but it is promised: the next in the queue hears in the next turn what is left.
    kept_waiting: bool,
    /// Turns so far: in each, every stream that was told before it gets to write.
    turn: u64,
    now: Instant,
    /// How often packets were made.
    round: u64,
    /// Which socket its packets leave by.
    pub socket: usize,
    /// Which peer it was let in for, at a port that many share.
    pub admitted: Option<AllowedPeer>,
    /// No tunnel is its own any more (server).
    pub orphaned: bool,
    /// What bounds it while its client is not known.
    trial: Option<Trial>,
    /// Our next stream.
    next: u64,
    report: Duration,
    /// The handshake must be over by then.
    timeout: Instant,
    /// When a PING is due if nothing was heard until then.
    quiet_until: Instant,
    /// The peer seems to be gone: the pause before the PING after the next.
    doubt: Option<Duration>,
    /// How large its packets may be.
    size: PacketSize,
    /// The other side has said that it does not know this connection.
    disowned: bool,
    /// The sender shall rest until then.
    paced: Option<Instant>,
    /// When it has to send.
    owed: DelayedAck,
}

enum Stage {
    Starting,
    Up,
    Closed(String),
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
    /// Its packets have at most `largest` bytes.
    pub fn new(
        quic: quiche::Connection,
        socket: usize,
        settings: &Settings,
        largest: usize,
        now: Instant,
    ) -> Connection {
        Connection {
            quic,
            key: Slab::new().insert(()),
            numbers: HashMap::new(),
            leaving: HashMap::new(),
            stage: Stage::Starting,
            ends: BinaryHeap::new(),
            said: VecDeque::new(),
            losses: 0,
            lost: 0,
            resets: None,
            unheard: BinaryHeap::new(),
            holding: Vec::new(),
            queue: VecDeque::new(),
            promised: 0,
            promised_in: 0,
            kept_waiting: false,
            turn: 0,
            now,
            round: 0,
            socket,
            admitted: None,
            orphaned: false,
            trial: settings.trial.map(|bytes| Trial { until: now + settings.timeout, bytes }),
            next: 0,
            report: settings.report,
            timeout: now + settings.timeout,
            quiet_until: now + settings.report,
            doubt: None,
            size: PacketSize::new(largest, settings.report, now),
            disowned: false,
            paced: None,
            owed: DelayedAck::new(now),
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
        self.speak();
        &mut self.quic
    }

    /// An id of ours that the other side uses no more.
    pub fn retired_id(&mut self) -> Option<Id> {
        Id::try_from(&self.quic.retired_scid_next()?[..]).ok()
    }

    /// It has something to say now.
    fn speak(&mut self) {
        self.owed.speak(self.now);
    }

    /// Whether streams may be opened.
    pub fn is_up(&self) -> bool {
        matches!(self.stage, Stage::Up)
    }

    /// Why it is over, if it is.
    pub fn over(&self) -> Option<&str> {
        match &self.stage {
            Stage::Closed(why) => Some(why),
            _ => None,
        }
    }

    /// Whether it can go: it carries no stream.
    pub fn is_spare(&self) -> bool {
        self.numbers.is_empty()
    }

    /// Whether nothing of a stream is left in it.
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty() && self.leaving.is_empty()
    }

    /// It is a client's.
    pub fn decide(&mut self) {
        self.trial = None;
    }

    /// Whether nothing of it is left, not even to repeat its goodbye.
    pub fn is_gone(&self) -> bool {
        self.quic.is_closed()
    }

    /// Gives the other side spare ids for new paths; `each` is told of them.
    pub fn issue_ids(&mut self, resets: &Resets, mut each: impl FnMut(Id)) -> io::Result<()> {
        let wanted = self.quic.path_stats().count() + SPARE_IDS;
        while self.quic.active_scids() < wanted && self.quic.scids_left() > 0 {
            let id = random_id()?;
            if self.quic.new_scid(&ConnectionId::from_ref(&id), resets.token(&id), true).is_err() {
                break;
            }
            self.speak();
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
        self.resets = None;
        self.owed.take(packet.len(), now);
        let heard = self.quic.recv(packet, RecvInfo { from, to }).is_ok();
        let over = self.quic.local_error().is_some() || self.quic.peer_error().is_some();
        if self.quic.is_closed() {
            self.disowned = !over && self.is_up();
        } else if heard {
            (self.quiet_until, self.doubt) = (now + self.report, None);
        }
    }

    /// The network says that the peer is gone. It may be wrong: the other side is asked at once, and again until it is heard.
    pub fn doubt(&mut self, now: Instant) {
        if self.is_up() && self.doubt.is_none() {
            (self.doubt, self.quiet_until) = (Some(FIRST_DOUBT), now);
        }
    }

    /// The kernel has news about the size of packets.
    pub fn measure(&mut self) {
        if self.is_up() {
            self.size.ask(&mut self.quic);
            self.speak();
        }
    }

    /// Runs its clocks and notes what has become of it; tells the streams that have news.
    pub fn tick(&mut self, streams: &mut Streams, now: Instant) {
        if self.quic.timeout_instant().is_some_and(|at| at <= now) {
            self.quic.on_timeout();
            self.speak();
            self.size.timed_out(&mut self.quic, now);
        }
        self.notice_losses();
        if self.is_up() {
            self.size.tick(&mut self.quic, now);
            if now >= self.quiet_until {
                self.ask_for_a_sign(now);
            }
        }
        if matches!(self.stage, Stage::Starting) && now >= self.timeout {
            let _ = self.quic.close(false, 0, b"");
            self.end(UNREACHABLE.into(), streams);
        }
        if self.is_up() {
            let failed = self.trial.and_then(|trial| trial.failed(self.quic.stats().recv_bytes as usize, now));
            if let Some(why) = failed {
                let _ = self.quic.close(true, 0, b"");
                self.end(why.into(), streams);
            }
        }
        self.turn += u64::from(now != self.now);
        self.now = now;
        self.judge(streams);
        self.gather(streams);
        self.hear_again(streams);
        for stream in std::mem::take(&mut self.holding) {
            let _ = self.say_held(stream, streams);
        }
        while let Some(Reverse((mut bytes, id))) = self.ends.peek().copied().filter(|Reverse((it, _))| it.due <= now) {
            self.ends.pop();
            if self.may_be_lost(&mut bytes) {
                self.ends.push(Reverse((bytes, id)));
            } else {
                let _ = self.say_end(id);
            }
        }
        self.say_ends_again();
        self.part(now);
    }

    /// The other side has been silent: it has to answer this.
    fn ask_for_a_sign(&mut self, now: Instant) {
        let pause = self.doubt.unwrap_or(self.report);
        self.doubt = self.doubt.map(|pause| (2 * pause).min(MAX_DOUBT).min(self.report));
        self.quiet_until = now + pause;
        let _ = self.quic.send_ack_eliciting();
        self.speak();
    }

    /// Looks whether it is up, or over.
    fn judge(&mut self, streams: &mut Streams) {
        if matches!(self.stage, Stage::Starting) && self.quic.is_established() {
            self.stage = Stage::Up;
            self.speak();
        }
        let closing = self.quic.local_error().is_some() || self.quic.peer_error().is_some();
        if self.quic.is_closed() || self.quic.is_draining() || closing {
            let why = self.reason();
            self.end(why, streams);
        }
    }

    /// It is over for this reason; the first one counts.
    pub fn end(&mut self, why: String, streams: &mut Streams) {
        if !matches!(self.stage, Stage::Closed(_)) {
            self.stage = Stage::Closed(why);
            (self.numbers, self.leaving) = (HashMap::new(), HashMap::new());
            (self.queue, self.kept_waiting) = (VecDeque::new(), false);
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
            (None, None) if self.disowned => "the other side has started anew and does not know it".into(),
            (None, None) if self.quic.is_timed_out() => "nothing was heard from the other side".into(),
            (None, None) => "no way to the other side is left".into(),
        }
    }

    /// Tells of every stream that can be read or written again, and of those that the other side opened.
    fn gather(&mut self, streams: &mut Streams) {
        if matches!(self.stage, Stage::Closed(_)) {
            return;
        }
        while let Some(id) = self.quic.stream_readable_next() {
            match self.numbers.get(&id) {
                Some(stream) => streams.readable(*stream),
                None if self.orphaned => drop(self.quic.stream_shutdown(id, quiche::Shutdown::Read, 0)),
                None => self.greet(id, streams),
            }
        }
        while let Some(id) = self.quic.stream_writable_next() {
            let Some(&stream) = self.numbers.get(&id) else { continue };
            if let Some(entry) = streams.get_mut(stream).filter(|entry| entry.writer_waits && !entry.queued) {
                entry.queued = true;
                self.queue.push_back(stream);
            }
        }
        self.share_out(streams);
    }

    /// Tells streams that wait for room that there is some, one after the other, and only as many as it is enough for.
    ///
    /// quiche gives the stream that asks first all that the path takes now. On a slow path one user with much to send would be the
    /// first for ever, and no other, not even the control connection, would send anything.
    fn share_out(&mut self, streams: &mut Streams) {
        // A stream that was told before has had its turn, even if it did not use it.
        if self.turn >= self.promised_in + 2 {
            self.promised = 0;
        }
        self.kept_waiting = false;
        while let Some(&stream) = self.queue.front() {
            if let Some(entry) = streams.get_mut(stream).filter(|entry| entry.writer_waits) {
                // One that was stopped is to hear that.
                let room = self.quic.stream_capacity(entry.id).unwrap_or(usize::MAX);
                if room <= self.promised {
                    self.kept_waiting = room > 0;
                    break;
                }
                entry.promised = true;
                self.promised += TURN;
                self.promised_in = self.turn;
                streams.writable(stream);
            }
            streams.get_mut(stream).into_iter().for_each(|entry| entry.queued = false);
            self.queue.pop_front();
        }
    }

    /// A stream that the other side opened. Ours that were released may still have events: they are dropped.
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
        let path = active(&self.quic).or_else(|| self.quic.path_stats().next());
        path.map_or(SocketAddr::from(([0, 0, 0, 0], 0)), |path| path.peer_addr)
    }

    /// Says goodbye.
    pub fn close(&mut self, streams: &mut Streams) {
        let _ = self.quic.close(true, 0, b"");
        self.end("closed here".into(), streams);
    }

    /// Puts its packets into the outbox.
    pub fn send(&mut self, outbox: &mut Outbox, now: Instant) -> Sent {
        if self.paced.is_some_and(|until| until > now) {
            return Sent::All;
        }
        let rested = self.paced.take().is_some();
        if self.is_up() && !rested && !self.owed.is_due(now) {
            return Sent::All;
        }
        self.round += 1;
        // Without it `at` is the time of the call, which may be later than `now`.
        let pacing = self.quic.gcongestion_enabled() == Some(true);
        let mut packets = 0;
        loop {
            let Some(room) = outbox.room(self.size.limit()) else { return Sent::Full };
            match self.quic.send(room) {
                Ok((len, info)) => {
                    outbox.add(len, self.socket, info.from, info.to);
                    packets += 1;
                    if pacing && info.at > now + GULP {
                        self.paced = Some(info.at - GULP);
                        break;
                    }
                }
                Err(quiche::Error::Done) => break,
                Err(_) => {
                    // quiche closes the connection itself where that is due; what it cannot send now it never will.
                    let _ = self.quic.close(false, 1, b"");
                    break;
                }
            }
        }
        self.owed.sent(packets, now);
        Sent::All
    }

    /// When one of its clocks has something to say.
    pub fn deadline(&self) -> Option<Instant> {
        let own = match self.stage {
            Stage::Starting => Some(self.timeout),
            Stage::Up => Some(self.trial.map_or(self.quiet_until, |trial| trial.until.min(self.quiet_until))),
            Stage::Closed(_) => None,
        };
        let end = self.ends.peek().map(|Reverse((bytes, _))| bytes.due);
        let unheard = self.unheard.peek().map(|Reverse((at, _))| *at);
        let at_once = self.kept_waiting.then_some(self.now);
        let owed = self.owed.deadline(self.now);
        [self.quic.timeout_instant(), self.paced, owed, own, end, unheard, at_once].into_iter().flatten().min()
    }
}

/// What TLS alerts that people meet mean.
fn alert(code: u64) -> &'static str {
    match code {
        42 => "the certificate was not accepted: is it for that name?",
        43 | 44 | 46 | 49 => "the certificate was not accepted",
        45 => "the certificate has expired, or is not valid yet",
        48 => "the certificate's issuer is unknown",
        70 => "no common version of TLS",
        112 => "the server does not know that name",
        120 => "no common application protocol",
        _ => "the handshake failed",
    }
}

/// Said when no handshake comes about. The client adds the port.
pub const UNREACHABLE: &str = "no answer";
/// Said when the interface takes less than QUIC needs. The client adds the bytes.
pub const NARROW: &str = "too narrow";
/// The pause after the first PING to an other side that may be gone, and the longest.
const FIRST_DOUBT: Duration = Duration::from_millis(100);
const MAX_DOUBT: Duration = Duration::from_secs(1);
/// As far ahead of its pace packets may be sent: timers are no finer than some milliseconds.
const GULP: Duration = Duration::from_millis(1);
