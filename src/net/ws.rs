//! A byte stream in binary WebSocket messages (RFC 6455), over TLS or, for originals without TLS, over bare TCP.
//!
//! ```text
//!   fill  <-- payload ---- [ ahead: headers, control frames ] <-- read --- lower
//!   drain --- payload, behind [ out: a header, a pong, a Close ] -- write -> lower
//!
//!   recv:  Between <-> Payload        Between --an empty message--> Ended --Close--> Closed
//!            Between --Close--> Closed  anything --that breaks the rules--> Failed
//!   send:    Open <-> Sending           Open --finish--> Marked --both ended--> Closed --the lower one's end--> Ended
//!   where users follow each other:  Ended --an empty message--> Free       Marked, both ended --renew, renewed--> Open, Between
//! ```
//!
//! There the end of the egress may be a text message of 16 digits, which tells how much it has passed on: see [`Counts`].
//!
//! Message boundaries mean nothing: payload is passed on as it comes, whatever the size of its message, and none of it is
//! ever held here. A frame that was begun goes on with the next bytes of the buffer that is drained.
//!
//! The end of a direction is an empty message where the feature `ws-eof` was agreed on: a text message, which no data can be
//! taken for; an empty binary one is understood too. Where it was not, it is a Close,
//! after which the other direction goes on until its own Close: RFC 6455 (5.5.1) lets an end send what it still has before it
//! answers. An original takes a Close for the end of both, and nothing else could tell it of one.

mod datagram;
mod mask;
mod recv;
mod send;
mod state;

use std::io::{self, ErrorKind};

use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::lower::Lower;
use super::serial::Successive;
use super::stream::{ready, Buffer, Stream};
use super::tcp::Tcp;
use crate::logic::serial::{Counts, Renewed};
use crate::logic::wire::Fingerprint;
use datagram::Datagram;
use mask::Masks;
use recv::AHEAD;
use send::OUT;
use state::{Masking, Message, RecvState, SendState};

/// A WebSocket after its upgrade.
pub struct Ws {
    lower: Box<dyn Lower>,
    side: Masking,
    ws_eof: bool,
    /// One user follows another.
    reuse: bool,
    recv: RecvState,
    counts: Counts,
    message: Message,
    send: SendState,
    /// What was read beyond the payload that was asked for.
    ahead: Buffer,
    /// What is to be sent before anything else.
    out: Buffer,
    /// The answer to the latest ping, until it may be sent: never within a frame.
    pong: Option<Vec<u8>>,
    /// Something was sent since the last [`Ws::ping`].
    spoke: bool,
    /// The end of our direction follows what waits.
    last: bool,
    /// Where messages matter, as each is one datagram: what has come of one.
    whole_messages: bool,
    datagram: Option<Datagram>,
}

/// Which end of a WebSocket is send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// We asked for the upgrade.
    Client,
    /// We were asked.
    Server,
}

impl Ws {
    /// From now on an empty message is the end of a direction, if that feature was agreed on.
    pub fn pass_ends(&mut self, ws_eof: bool) {
        self.ws_eof = ws_eof;
    }

    /// From now on it carries one user after another, if an empty message is an end.
    pub fn carry_many(&mut self) {
        self.reuse = self.ws_eof;
    }

    /// As one that does, if it does.
    pub fn successive(&mut self) -> Option<&mut dyn Successive> {
        match self.reuse {
            true => Some(self),
            false => None,
        }
    }

    /// A WebSocket over this connection, on which the upgrade is done. `ws_eof` is whether that feature was agreed on; `early` is
    /// what came after the head of the other side's request or answer, and its size is the caller's limit.
    pub fn new(lower: Box<dyn Lower>, end: End, ws_eof: bool, early: &[u8]) -> Ws {
        let side = match end {
            End::Client => Masking::Client(Masks::default()),
            End::Server => Masking::Server,
        };
        let mut ahead = Buffer::new(early.len().max(AHEAD));
        ahead.append(early);
        let (recv, message, send) = (RecvState::Between, Message::None, SendState::Open);
        Ws {
            lower,
            side,
            ws_eof,
            reuse: false,
            recv,
            counts: Counts::default(),
            message,
            send,
            ahead,
            out: Buffer::new(OUT),
            pong: None,
            spoke: false,
            last: false,
            whole_messages: false,
            datagram: None,
        }
    }

    /// The same, as it is asked for where a build may have no WebSockets.
    pub fn over(lower: Box<dyn Lower>, end: End, ws_eof: bool, early: &[u8]) -> io::Result<Ws> {
        Ok(Ws::new(lower, end, ws_eof, early))
    }

    /// As [`Tcp::waiting`], for payload: 0 at an end, with or without a proper goodbye. Control frames on the way to it are
    /// taken in and answered; to a Close on an idle connection this is the answer, too.
    pub fn waiting(&mut self) -> io::Result<usize> {
        loop {
            match &self.recv {
                RecvState::Between => self.head()?,
                RecvState::Payload { .. } if !self.ahead.is_empty() => return Ok(self.ahead.bytes().len()),
                RecvState::Payload { .. } => return self.lower.waiting(),
                RecvState::Closed => {
                    let _ = self.finish();
                    return Ok(0);
                }
                RecvState::Ended(_) | RecvState::Free(_) | RecvState::Failed(ErrorKind::UnexpectedEof, _) => {
                    return Ok(0)
                }
                RecvState::Failed(kind, why) => return Err(io::Error::new(*kind, why.clone())),
            }
        }
    }

    /// From now on each message of the other side is one datagram: it is handed over as a whole, into an empty buffer, however it was cut
    /// into frames and pieces. One of more than `largest` bytes is lost.
    pub fn keep_messages(&mut self, largest: usize) {
        (self.whole_messages, self.datagram) = (true, Some(Datagram::new(largest)));
    }

    /// Says a word that means nothing, so that no proxy takes the connection for dead, if nothing was sent since the last call. What cannot
    /// be sent now goes with the next flush.
    pub fn ping(&mut self) {
        let spoke = std::mem::take(&mut self.spoke);
        let may = matches!(self.send, SendState::Open | SendState::Marked) && self.out.is_empty();
        let heard = matches!(self.recv, RecvState::Closed | RecvState::Failed(..));
        if !spoke && may && !heard && self.frame(OpCode::Control(Control::Ping), &[]).is_ok() {
            let _ = self.push();
            self.spoke = false;
        }
    }

    /// Whether the socket has failed while there was still something to say or to hear.
    pub fn failed(&mut self) -> bool {
        !self.is_over() && self.socket().failed()
    }

    /// Whether both directions have ended.
    fn is_over(&self) -> bool {
        let send = matches!(self.send, SendState::Marked | SendState::Closed | SendState::Ended);
        send && matches!(self.recv, RecvState::Ended(_) | RecvState::Free(_) | RecvState::Closed)
    }

    /// Whether both directions of a user have ended, and another may follow.
    fn is_between_users(&self) -> bool {
        let ended = matches!(self.recv, RecvState::Ended(_) | RecvState::Free(_));
        self.reuse && ended && matches!(self.send, SendState::Marked)
    }

    /// What the peer's end told.
    fn told(&self) -> Option<u64> {
        match self.recv {
            RecvState::Ended(told) | RecvState::Free(told) => told,
            _ => None,
        }
    }

    fn begin(&mut self) {
        (self.recv, self.send) = (RecvState::Between, SendState::Open);
        (self.counts, self.last) = (Counts::default(), false);
    }

    /// The socket underneath.
    pub fn socket(&mut self) -> &mut Tcp {
        self.lower.socket()
    }

    /// The fingerprint of the certificate that the other side showed.
    pub fn peer_fingerprint(&self) -> Option<Fingerprint> {
        self.lower.fingerprint()
    }
}

impl Stream for Ws {
    fn fill(&mut self, into: &mut Buffer) -> io::Result<usize> {
        match self.datagram.take() {
            None => self.read(into),
            Some(mut datagram) => {
                let filled = datagram.fill(self, into);
                self.datagram = Some(datagram);
                filled
            }
        }
    }

    fn drain(&mut self, from: &mut Buffer) -> io::Result<usize> {
        let before = from.bytes().len();
        // What is left of a large buffer after one frame goes with what comes next.
        while from.bytes().len() == before {
            self.send(from)?;
        }
        Ok(before - from.bytes().len())
    }

    fn flush(&mut self) -> io::Result<()> {
        // The relay does not fill after the peer's end, but pings are to be answered, unless what comes may be the next user's.
        let ended = matches!(self.recv, RecvState::Ended(_)) && !(self.reuse && self.counts.has_told_all());
        if ended && (!self.is_over() || self.is_between_users()) {
            ready(self.head())?;
        }
        self.send_due()
    }

    fn finish(&mut self) -> io::Result<()> {
        self.end()?;
        self.send_due()
    }

    fn is_ending(&self) -> bool {
        matches!(self.recv, RecvState::Ended(_) | RecvState::Free(_) | RecvState::Closed)
    }

    fn ends_with(&mut self) {
        self.last = true;
    }
}

impl Ws {
    /// Payload as it comes; 0 at the end.
    fn read(&mut self, into: &mut Buffer) -> io::Result<usize> {
        let mut frames = 0;
        loop {
            match &self.recv {
                RecvState::Between | RecvState::Payload { .. } if self.ahead.is_empty() && !self.whole_messages => {
                    match self.read_frames(into, &mut frames)? {
                        0 => {}
                        count => return Ok(count),
                    }
                }
                RecvState::Between => self.head()?,
                RecvState::Payload { .. } => return self.payload(into),
                RecvState::Ended(_) | RecvState::Free(_) | RecvState::Closed => {
                    // Our own Close may have waited for this. What does not go now, goes with the next flush or fails there.
                    let _ = self.send_due();
                    return Ok(0);
                }
                RecvState::Failed(kind, why) => return Err(io::Error::new(*kind, why.clone())),
            }
        }
    }
}

impl Successive for Ws {
    fn keep_to_one(&mut self) {
        self.reuse = false;
    }

    fn wait_behind(&mut self) {
        self.counts.wait_behind();
    }

    fn passed_on(&mut self, all_but: usize) {
        self.counts.passed_on(all_but);
    }

    fn is_over(&self) -> bool {
        self.is_between_users() && self.out.is_empty()
    }

    fn renew(&mut self) -> io::Result<Renewed> {
        if !Successive::is_over(self) || matches!(self.recv, RecvState::Free(_)) {
            return Err(io::Error::new(ErrorKind::InvalidData, "the next user before the end of this one"));
        }
        if !self.counts.has_told_all() {
            self.frame(OpCode::Data(Data::Text), &[])?;
        }
        let renewed = self.counts.renewed();
        self.begin();
        ready(self.push()).map(|_| renewed)
    }

    fn renewed(&mut self) -> io::Result<Option<Renewed>> {
        while !matches!(self.recv, RecvState::Free(_)) && !self.counts.is_all(self.told()) {
            if !self.is_between_users() {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            if ready(self.head())?.is_none() {
                return Ok(None);
            }
        }
        let renewed = Renewed::after(self.told());
        self.begin();
        Ok(Some(renewed))
    }
}

#[cfg(test)]
mod tests;
