//! One stream of a connection: the contract of [`Stream`](crate::net::stream::Stream) in quiche's calls, and how a stream parts.
//!
//! ```text
//!   open, or the other side's --> fill, drain, finish --release--> Leaving --both directions over--> (quiche forgets it)
//! ```

use std::cmp::Reverse;
use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use quiche::{PathStats, Shutdown};

use super::Connection;
use crate::net::mux::StreamNo;
use crate::net::quic::packet_size::active;
use crate::net::quic::streams::{OwnEnd, QuicRecv, QuicSend, Settling, StreamEntry, Streams};
use crate::net::stream::{would_block, Buffer};

/// A stream that is in use no more, and that quiche still knows.
pub(super) enum Leaving {
    /// It was reset, and what still comes is thrown away; the other side has until then to end its direction.
    Emptying(Instant),
    /// The other side was asked to stop. Our direction ended well: what was sent before that has arrived by then.
    Stopping(Instant),
    /// There is nothing left to do but to wait.
    Waiting,
}

impl Connection {
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
        match entry.recv {
            QuicRecv::Ended => return Ok(0),
            QuicRecv::Reset => return Err(ErrorKind::ConnectionReset.into()),
            QuicRecv::Open => {
                if self.must_wait(entry) {
                    return would_block();
                }
            }
            QuicRecv::Cut => {}
        }
        let is_cut = entry.recv == QuicRecv::Cut;
        match self.quic.stream_recv(entry.id, into.room(1)) {
            Ok((count, over)) if count > 0 || over || !is_cut => {
                into.advance(count);
                if over {
                    entry.recv = QuicRecv::Ended;
                } else if count == 0 {
                    return self.ran_dry(entry);
                }
                if count > 0 {
                    entry.looks = LOOKS.len() as u8;
                    self.owed.take(count, self.now);
                }
                Ok(count)
            }
            Err(quiche::Error::Done) if !is_cut && !self.quic.stream_finished(entry.id) => self.ran_dry(entry),
            // It has ended, and quiche did not tell. It keeps no mark either of a reset that follows an end whose last bytes are missing.
            Err(quiche::Error::Done) if !is_cut && self.resets() == entry.resets => {
                entry.recv = QuicRecv::Ended;
                Ok(0)
            }
            _ => {
                entry.recv = QuicRecv::Reset;
                Err(ErrorKind::ConnectionReset.into())
            }
        }
    }

    /// Nothing is left to read: an edge is owed.
    ///
    /// quiche does not tell of an end that comes with bytes which have all been read, since they were sent twice. So a stream that bytes came
    /// on is looked at again a little later.
    fn ran_dry(&mut self, entry: &mut StreamEntry) -> io::Result<usize> {
        entry.reader_waits = true;
        entry.resets = self.resets();
        if entry.looks > 0 && !entry.looking {
            entry.looks -= 1;
            entry.looking = true;
            self.unheard.push(Reverse((self.now + LOOKS[usize::from(entry.looks)], entry.id)));
        }
        would_block()
    }

    /// What was lost since the last turn goes once more.
    pub(super) fn notice_losses(&mut self) {
        let lost = active(&self.quic).map_or(0, |path| path.lost);
        if std::mem::replace(&mut self.lost, lost) != lost {
            self.speak();
        }
    }

    /// Streams that the other side has reset.
    fn resets(&mut self) -> u32 {
        let quic = &self.quic;
        *self.resets.get_or_insert_with(|| quic.stats().reset_stream_count_remote as u32)
    }

    /// Whether the other side's end is the next to be read, and ours may still be lost: see `finish`. An edge is owed then.
    fn must_wait(&mut self, entry: &mut StreamEntry) -> bool {
        let Some(own) = entry.finished.as_mut() else { return false };
        if own.round == self.round {
            self.unheard.push(Reverse((self.now, entry.id)));
            return true;
        }
        if !self.quic.stream_finished(entry.id) || self.quic.stream_readable_len(entry.id, 1) > 0 {
            return false;
        }
        let before = own.settling.due;
        let waits = self.may_be_lost(&mut own.settling);
        if waits && own.settling.due != before {
            self.unheard.push(Reverse((own.settling.due, entry.id)));
        }
        waits
    }

    /// Whether what was sent may still be lost. It is safe when nothing is under way, or when nothing was lost for as long as it takes to
    /// notice.
    pub(super) fn may_be_lost(&self, settling: &mut Settling) -> bool {
        if settling.looked && settling.due > self.now {
            return true;
        }
        let Some(path) = active(&self.quic) else { return false };
        let lossless = losses(&path) == settling.losses;
        // A packet that is under way has a clock, which runs out by then; all others are slow.
        let clock = self.now + 8 * (path.rtt + 4 * path.rttvar + SLOWEST_ACK);
        let under_way = self.quic.timeout_instant().is_some_and(|at| at < clock);
        if lossless && (settling.looked || !under_way) || self.now > settling.since + MANY_LOSSES {
            return false;
        }
        settling.losses = losses(&path);
        settling.due = self.now + 3 * path.rtt + 2 * SLOWEST_ACK;
        settling.looked = true;
        true
    }

    /// Tells of the ends that may be heard now.
    pub(super) fn hear_again(&mut self, streams: &mut Streams) {
        while let Some(Reverse((_, id))) = self.unheard.peek().copied().filter(|Reverse((at, _))| *at <= self.now) {
            self.unheard.pop();
            if let Some(stream) = self.numbers.get(&id).copied() {
                if let Some(entry) = streams.get_mut(stream) {
                    entry.looking = false;
                }
                streams.queue_edge(stream);
            }
        }
    }

    /// How many bytes could be read now: 0 at the end, `WouldBlock` if there are none yet.
    pub fn waiting(&mut self, stream: StreamNo, streams: &mut Streams) -> io::Result<usize> {
        let entry = streams.get(stream).ok_or(ErrorKind::NotConnected)?;
        match (entry.recv, self.quic.stream_readable_len(entry.id, PEEK)) {
            (QuicRecv::Open, count @ 1..) => Ok(count),
            // Reading nothing tells an end from a reset and takes no byte.
            _ => self.fill(stream, &mut Buffer::new(0), streams),
        }
    }

    /// As [`Stream::drain`](crate::net::stream::Stream::drain). A stream's first words (an opening, an id) are always taken, as a
    /// socket of its own would: they go as soon as others leave room.
    pub fn drain(&mut self, stream: StreamNo, from: &mut Buffer, streams: &mut Streams) -> io::Result<usize> {
        self.say_held(stream, streams)?;
        let entry = streams.get_mut(stream).ok_or(ErrorKind::NotConnected)?;
        if entry.send != QuicSend::Open {
            return Err(ErrorKind::BrokenPipe.into());
        }
        if from.is_empty() {
            return Ok(0);
        }
        // Others may be first: see `share_out`.
        if entry.writer_waits {
            return would_block();
        }
        self.promised = self.promised.saturating_sub(entry.redeem());
        match self.quic.stream_send(entry.id, from.bytes(), false) {
            Ok(count @ 1..) => {
                from.consume(count);
                entry.drained = Some((self.now, self.round));
                self.speak();
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
                self.owed.stream(self.now);
                would_block()
            }
            _ => {
                entry.send = QuicSend::Stopped;
                Err(ErrorKind::ConnectionReset.into())
            }
        }
    }

    /// Sends a stream's first words, if they still wait. `WouldBlock`: there is no room yet.
    pub(super) fn say_held(&mut self, stream: StreamNo, streams: &mut Streams) -> io::Result<()> {
        let Some(entry) = streams.get_mut(stream).filter(|entry| !entry.held.is_empty()) else { return Ok(()) };
        match self.quic.stream_send(entry.id, &entry.held, false) {
            Ok(count) => {
                entry.held.drain(..count);
                entry.drained = Some((self.now, self.round));
                self.speak();
            }
            Err(quiche::Error::Done) => {}
            Err(_) => {
                entry.held.clear();
                entry.send = QuicSend::Stopped;
                streams.queue_edge(stream);
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
    /// side's comes after ours it is not heard before ours has gone out, which it does in the turn in which it is said; and one
    /// that comes alone is not heard while ours may still be lost, since hearing it is what makes quiche forget.
    pub fn finish(&mut self, stream: StreamNo, streams: &mut Streams) -> io::Result<()> {
        self.say_held(stream, streams)?;
        let entry = streams.get_mut(stream).ok_or(ErrorKind::NotConnected)?;
        match entry.send {
            QuicSend::Finished => return Ok(()),
            QuicSend::Stopped => return Err(ErrorKind::BrokenPipe.into()),
            QuicSend::Open => {}
        }
        let path = active(&self.quic);
        let losses = path.as_ref().map_or(0, losses);
        if let (Some((at, round)), true) = (entry.drained, entry.recv != QuicRecv::Open) {
            let due = at + path.map_or(SETTLED, |path| (3 * path.rtt).clamp(SETTLED, LINGER));
            if round != self.round && due > self.now {
                self.ends.push(Reverse((Settling { due, since: at, losses, looked: false }, entry.id)));
                entry.send = QuicSend::Finished;
                return Ok(());
            }
        }
        if let Ok(false) = self.quic.stream_writable(entry.id, 1) {
            entry.writer_waits = true;
            return would_block();
        }
        match self.say_end(entry.id) {
            Ok(()) => {
                entry.send = QuicSend::Finished;
                let settling = Settling { due: self.now, since: self.now, losses, looked: false };
                entry.finished = Some(OwnEnd { round: self.round, settling });
                Ok(())
            }
            Err(_) => {
                entry.send = QuicSend::Stopped;
                Err(ErrorKind::ConnectionReset.into())
            }
        }
    }

    /// Our end of a stream goes out, with its last bytes if they are still here.
    pub(super) fn say_end(&mut self, id: u64) -> quiche::Result<()> {
        self.quic.stream_send(id, b"", true)?;
        self.speak();
        if self.said.is_empty() {
            self.losses = active(&self.quic).map_or(0, |path| losses(&path));
        }
        self.said.push_back((self.now, id));
        Ok(())
    }

    /// After a loss the ends that were said lately are said once more: quiche does not repeat one that went with bytes in a packet that
    /// is lost, where another packet brought the bytes.
    pub(super) fn say_ends_again(&mut self) {
        if self.said.is_empty() {
            return;
        }
        let Some(path) = active(&self.quic) else { return };
        let losses = losses(&path);
        if std::mem::replace(&mut self.losses, losses) != losses {
            for (_, id) in &self.said {
                let _ = self.quic.stream_send(*id, b"", true);
            }
            self.speak();
        }
        let lately = MANY_LOSSES.max(8 * path.rtt);
        while self.said.front().is_some_and(|(at, _)| self.now > *at + lately) {
            self.said.pop_front();
        }
    }

    /// Forgets a stream: what is not over of it is reset.
    ///
    /// quiche forgets a stream when both directions are over and *then* something happens on it: bytes are taken, or
    /// something of ours is acknowledged. So what still comes is taken, and the other side is asked to stop only where it
    /// does not learn of the end by a reset, or does not heed it.
    pub fn release(&mut self, stream: StreamNo, streams: &mut Streams, now: Instant) {
        let Some(mut entry) = streams.remove(stream) else { return };
        self.promised = self.promised.saturating_sub(entry.redeem());
        self.numbers.remove(&entry.id);
        if entry.send == QuicSend::Open {
            self.speak();
            let _ = self.quic.stream_shutdown(entry.id, Shutdown::Write, 0);
        }
        let until = now + LINGER;
        let leaving = match (entry.recv, entry.send) {
            (QuicRecv::Open, QuicSend::Finished) => {
                self.speak();
                let _ = self.quic.stream_shutdown(entry.id, Shutdown::Read, 0);
                Leaving::Stopping(until)
            }
            (QuicRecv::Open, _) => Leaving::Emptying(until),
            _ => Leaving::Waiting,
        };
        self.leaving.insert(entry.id, leaving);
    }

    /// Goes on with what was released.
    pub(super) fn part(&mut self, now: Instant) {
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
}

/// Packets that were lost, and clocks that ran out for want of an acknowledgement.
fn losses(path: &PathStats) -> usize {
    path.lost + path.total_pto_count
}

/// Bytes that a stream begins with: an opening, or an id.
const FIRST_WORDS: usize = 16;
/// quiche's default urgency.
const PRIORITY: u8 = 127;
/// A released stream is over by then in any case. Bytes that are not acknowledged after so long are lost with the
/// connection.
const LINGER: Duration = Duration::from_secs(10);
/// What was sent is acknowledged by then, in the shortest of networks.
const SETTLED: Duration = Duration::from_millis(5);
/// An acknowledgement is put off that long at most, as quiche does and tells its peers.
const SLOWEST_ACK: Duration = Duration::from_millis(25);
/// Where packets are lost all the time: an end that was lost was said again by then, most likely more than once.
const MANY_LOSSES: Duration = Duration::from_secs(1);
/// When a stream that has run dry is looked at again, the last time first: what was lost was sent again by then.
const LOOKS: [Duration; 2] = [Duration::from_secs(4), Duration::from_secs(1)];
/// How many bytes that wait are counted.
const PEEK: usize = 65536;
