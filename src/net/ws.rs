//! A byte stream in binary WebSocket messages (RFC 6455), over TLS or, for originals without TLS, over bare TCP.
//!
//! ```text
//!   fill  <-- payload ---- [ ahead: headers, control frames ] <-- read --- carrier
//!   drain --- payload, behind [ out: a header, a pong, a Close ] -- write -> carrier
//!
//!   theirs:  Between <-> Payload        Between --an empty message--> Ended --Close--> Closed
//!            Between --Close--> Closed  anything --that breaks the rules--> Failed
//!   ours:    Open <-> Sending           Open --finish--> Marked --both ended--> Closed --the carrier's end--> Over
//! ```
//!
//! Message boundaries mean nothing: payload is passed on as it comes, whatever the size of its message, and none of it is
//! ever held here. A frame that was begun goes on with the next bytes of the buffer that is drained.
//!
//! The end of a direction is an empty message where the feature `ws-eof` was agreed on: a text message, which no data can be
//! taken for; an empty binary one is understood too. Where it was not, it is a Close,
//! after which the other direction goes on until its own Close: RFC 6455 (5.5.1) lets an end send what it still has before it
//! answers. An original takes a Close for the end of both, and nothing else could tell it of one.

mod carrier;
mod mask;

use std::io::{self, Cursor, ErrorKind};
use std::mem::discriminant;

use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};
use tungstenite::protocol::frame::FrameHeader;

use super::stream::{now, would_block, Buffer, Stream};
use super::tcp::Tcp;
use crate::logic::wire::Fingerprint;
pub use carrier::Carrier;
use mask::{Mask, Masks};

/// A WebSocket after its upgrade.
pub struct Ws {
    carrier: Box<dyn Carrier>,
    side: Side,
    ws_eof: bool,
    theirs: Theirs,
    message: Message,
    ours: Ours,
    /// What was read beyond the payload that was asked for.
    ahead: Buffer,
    /// What is to be sent before anything else.
    out: Buffer,
    /// The answer to the latest ping, until it may be sent: never within a frame.
    pong: Option<Vec<u8>>,
}

/// Which end of a WebSocket is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// We asked for the upgrade.
    Client,
    /// We were asked.
    Server,
}

/// A client masks what it sends, a server must not.
enum Side {
    Client(Masks),
    Server,
}

/// How far the other side's direction has come.
enum Theirs {
    /// A frame's header comes next.
    Between,
    /// In the payload of a frame; never at its end.
    Payload { left: u64, mask: Mask },
    /// They have said all. Control frames still come.
    Ended,
    /// They have said Close: nothing comes any more.
    Closed,
    /// They broke the rules, were cut off, or closed for a reason that is an error.
    Failed(ErrorKind, String),
}

/// Where a frame stands in a fragmented message.
enum Message {
    /// The next data frame begins one.
    None,
    /// The next data frame continues one, which had no bytes so far if it is `empty`.
    Begun { empty: bool },
}

/// How far our direction has come.
enum Ours {
    /// A frame may begin.
    Open,
    /// A frame has begun: this many bytes of payload are promised.
    Sending { left: usize, mask: Mask },
    /// All was said, and an empty message to say so. Close is still to come.
    Marked,
    /// Close was said.
    Closed,
    /// The carrier has ended too.
    Over,
}

impl Ws {
    /// A WebSocket over this carrier, on which the upgrade is done. `ws_eof` is whether that feature was agreed on; `early` is
    /// what came after the head of the other side's request or answer, and its size is the caller's limit.
    pub fn new(carrier: Box<dyn Carrier>, end: End, ws_eof: bool, early: &[u8]) -> Ws {
        let side = match end {
            End::Client => Side::Client(Masks::default()),
            End::Server => Side::Server,
        };
        let mut ahead = Buffer::new(early.len().max(AHEAD));
        ahead.append(early);
        let (theirs, message, ours) = (Theirs::Between, Message::None, Ours::Open);
        Ws { carrier, side, ws_eof, theirs, message, ours, ahead, out: Buffer::new(OUT), pong: None }
    }

    /// As [`Tcp::waiting`], for payload: 0 at an end, with or without a proper goodbye. Control frames on the way to it are
    /// taken in and answered; to a Close while nobody uses the connection this is the answer, too.
    pub fn waiting(&mut self) -> io::Result<usize> {
        loop {
            match &self.theirs {
                Theirs::Between => self.head()?,
                Theirs::Payload { .. } if !self.ahead.is_empty() => return Ok(self.ahead.bytes().len()),
                Theirs::Payload { .. } => return self.carrier.waiting(),
                Theirs::Closed => {
                    let _ = self.finish();
                    return Ok(0);
                }
                Theirs::Ended | Theirs::Failed(ErrorKind::UnexpectedEof, _) => return Ok(0),
                Theirs::Failed(kind, why) => return Err(io::Error::new(*kind, why.clone())),
            }
        }
    }

    /// Whether the carrier has failed while there was still something to say or to hear.
    pub fn failed(&mut self) -> bool {
        !self.is_over() && self.carrier().failed()
    }

    /// Whether both directions have ended.
    fn is_over(&self) -> bool {
        let ours = matches!(self.ours, Ours::Marked | Ours::Closed | Ours::Over);
        ours && matches!(self.theirs, Theirs::Ended | Theirs::Closed)
    }

    /// The socket underneath.
    pub fn carrier(&mut self) -> &mut Tcp {
        self.carrier.tcp()
    }

    /// The fingerprint of the certificate that the other side showed.
    pub fn peer_fingerprint(&self) -> Option<Fingerprint> {
        self.carrier.fingerprint()
    }
}

impl Stream for Ws {
    fn fill(&mut self, into: &mut Buffer) -> io::Result<usize> {
        loop {
            match &self.theirs {
                Theirs::Between => self.head()?,
                Theirs::Payload { .. } => return self.payload(into),
                Theirs::Ended | Theirs::Closed => {
                    // Our own Close may have waited for this. What does not go now, goes with the next flush or fails there.
                    let _ = self.settle();
                    return Ok(0);
                }
                Theirs::Failed(kind, why) => return Err(io::Error::new(*kind, why.clone())),
            }
        }
    }

    fn drain(&mut self, from: &mut Buffer) -> io::Result<usize> {
        let before = from.bytes().len();
        while !from.is_empty() {
            if now(self.send(from))?.is_none() {
                break;
            }
        }
        match before - from.bytes().len() {
            0 => would_block(),
            count => Ok(count),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        // Nobody fills any more after their end, but pings are to be answered.
        if matches!(self.theirs, Theirs::Ended) && !self.is_over() {
            now(self.head())?;
        }
        self.settle()
    }

    fn finish(&mut self) -> io::Result<()> {
        match self.ours {
            Ours::Open if self.ws_eof && !matches!(self.theirs, Theirs::Closed) => {
                self.frame(OpCode::Data(Data::Text), &[])?;
                self.ours = Ours::Marked;
            }
            Ours::Open => self.close(CloseCode::Normal)?,
            Ours::Sending { .. } => return Err(io::Error::other("an end within a frame")),
            Ours::Marked | Ours::Closed | Ours::Over => {}
        }
        self.settle()
    }
}

/// What they say.
impl Ws {
    /// Goes on to the next frame that matters: afterwards `theirs` is another, or nothing can be done now.
    fn head(&mut self) -> io::Result<()> {
        let before = discriminant(&self.theirs);
        for _ in 0..EMPTY_FRAMES {
            let mut cursor = Cursor::new(self.ahead.bytes());
            let parsed = FrameHeader::parse(&mut cursor);
            let header_len = cursor.position() as usize;
            match parsed {
                Err(_) => return self.refuse(CloseCode::Protocol, "an unknown opcode"),
                Ok(None) => self.look_ahead()?,
                Ok(Some((header, length))) => {
                    if let Some((code, why)) = self.fault(&header, length) {
                        return self.refuse(code, why);
                    }
                    match header.opcode {
                        OpCode::Data(_) => {
                            self.ahead.consume(header_len);
                            self.data(&header, length);
                        }
                        OpCode::Control(_) if ((self.ahead.bytes().len() - header_len) as u64) < length => {
                            self.look_ahead()?;
                        }
                        OpCode::Control(control) => {
                            self.ahead.consume(header_len);
                            self.control(control, header.mask, length as usize)?;
                        }
                    }
                }
            }
            if discriminant(&self.theirs) != before {
                return Ok(());
            }
        }
        self.refuse(CloseCode::Policy, "too many frames without a byte in them")
    }

    /// Which rule a frame breaks.
    fn fault(&self, header: &FrameHeader, length: u64) -> Option<(CloseCode, &'static str)> {
        let control = matches!(header.opcode, OpCode::Control(_));
        let begun = matches!(self.message, Message::Begun { .. });
        let why = match header.opcode {
            _ if header.rsv1 || header.rsv2 || header.rsv3 => "a reserved bit",
            _ if header.mask.is_some() != matches!(self.side, Side::Server) => {
                "a frame masked by a server, or not by a client"
            }
            _ if control && !header.is_final => "a control frame in parts",
            _ if control && length > CONTROL => "a control frame that is too long",
            _ if length > i64::MAX as u64 => "a frame of an impossible length",
            OpCode::Data(Data::Text) if !(self.ws_eof && header.is_final && length == 0) => {
                return Some((CloseCode::Unsupported, "a text message"));
            }
            OpCode::Data(_) if matches!(self.theirs, Theirs::Ended) => "a message after the end",
            OpCode::Data(Data::Continue) if !begun => "the continuation of no message",
            OpCode::Data(Data::Binary | Data::Text) if begun => "a message within another",
            _ => return None,
        };
        Some((CloseCode::Protocol, why))
    }

    /// The header of a data frame that breaks no rule.
    fn data(&mut self, header: &FrameHeader, length: u64) {
        let empty = length == 0 && !matches!(self.message, Message::Begun { empty: false });
        self.message = match header.is_final {
            true => Message::None,
            false => Message::Begun { empty },
        };
        if length > 0 {
            self.theirs = Theirs::Payload { left: length, mask: Mask::new(header.mask) };
        } else if header.is_final && empty && self.ws_eof {
            self.theirs = Theirs::Ended;
        }
    }

    /// A control frame that is there as a whole.
    fn control(&mut self, control: Control, mask: Option<[u8; 4]>, length: usize) -> io::Result<()> {
        let mut payload = self.ahead.bytes()[..length].to_vec();
        self.ahead.consume(length);
        Mask::new(mask).apply(&mut payload);
        match control {
            Control::Ping => {
                self.pong = Some(payload);
                // What cannot be sent now is the next flush's matter: bytes of theirs may still wait to be read.
                let _ = self.settle();
                Ok(())
            }
            Control::Close => self.closed(&payload),
            _ => Ok(()),
        }
    }

    /// They close. The answer is our own finish, unless this is an error.
    fn closed(&mut self, payload: &[u8]) -> io::Result<()> {
        let code = match payload {
            [] => CloseCode::Normal,
            [high, low, reason @ ..] if std::str::from_utf8(reason).is_ok() => u16::from_be_bytes([*high, *low]).into(),
            _ => return self.refuse(CloseCode::Protocol, "a malformed Close"),
        };
        match code {
            CloseCode::Normal | CloseCode::Away => {
                self.theirs = Theirs::Closed;
                Ok(())
            }
            code if code.is_allowed() => {
                self.fail(code, ErrorKind::ConnectionAborted, format!("the peer closed it with code {code}"))
            }
            _ => self.refuse(CloseCode::Protocol, "a Close with an impossible code"),
        }
    }

    /// Reads into `ahead`. Its end is an error, unless they have said all.
    fn look_ahead(&mut self) -> io::Result<()> {
        match self.carrier.read(self.ahead.room(AHEAD)) {
            Ok(0) => match self.theirs {
                Theirs::Ended => self.theirs = Theirs::Closed,
                _ => self.theirs = cut_off(),
            },
            Ok(count) => self.ahead.advance(count),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Payload: what was read ahead of it, and what the carrier has.
    fn payload(&mut self, into: &mut Buffer) -> io::Result<usize> {
        let Theirs::Payload { left, mask } = &mut self.theirs else { return would_block() };
        let room = into.room(1);
        let want = room.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
        let known = want.min(self.ahead.bytes().len());
        let read = match known < want {
            true => self.carrier.read(&mut room[known..want]),
            false => Ok(0),
        };
        room[..known].copy_from_slice(&self.ahead.bytes()[..known]);
        self.ahead.consume(known);
        let count = known + read.as_ref().map_or(0, |count| *count);
        mask.apply(&mut room[..count]);
        *left -= count as u64;
        into.advance(count);

        let failed = match read {
            Ok(0) if known < want => Some(cut_off()),
            Err(error) if error.kind() == ErrorKind::WouldBlock && count == 0 => return Err(error),
            Err(error) if error.kind() != ErrorKind::WouldBlock => {
                Some(Theirs::Failed(error.kind(), error.to_string()))
            }
            _ if *left == 0 => Some(Theirs::Between),
            _ => None,
        };
        if let Some(next) = failed {
            self.theirs = next;
        }
        match &self.theirs {
            Theirs::Failed(kind, why) if count == 0 => Err(io::Error::new(*kind, why.clone())),
            _ => Ok(count),
        }
    }

    /// They broke a rule: they are told which kind, as far as that goes, and it is over.
    fn refuse<T>(&mut self, code: CloseCode, why: &'static str) -> io::Result<T> {
        self.fail(code, ErrorKind::InvalidData, format!("not the WebSocket protocol: {why}"))
    }

    fn fail<T>(&mut self, code: CloseCode, kind: ErrorKind, why: String) -> io::Result<T> {
        self.theirs = Theirs::Failed(kind, why.clone());
        // Within a frame nothing can be said. What cannot be sent now is not sent at all: the socket's end says enough.
        if matches!(self.ours, Ours::Open | Ours::Marked) && self.close(code).is_ok() {
            let _ = self.push();
        }
        Err(io::Error::new(kind, why))
    }
}

/// What we say.
impl Ws {
    /// Sends some of `from`: the rest of the frame that has begun, or a new one of all of it.
    fn send(&mut self, from: &mut Buffer) -> io::Result<()> {
        if let Ours::Open = self.ours {
            self.settle()?;
            let (left, mask) = (from.bytes().len(), self.header(OpCode::Data(Data::Binary), from.bytes().len())?);
            self.ours = Ours::Sending { left, mask };
        }
        let Ours::Sending { left, mask } = &mut self.ours else {
            return Err(io::Error::new(ErrorKind::BrokenPipe, "the WebSocket has ended"));
        };
        let payload = &from.bytes()[..from.bytes().len().min(*left)];
        let sent = match mask.is_none() {
            true => self.carrier.put(self.out.bytes(), payload)?,
            false => {
                let mut block = [0; BLOCK];
                let block = &mut block[..payload.len().min(BLOCK)];
                mask.copy(payload, block);
                self.carrier.put(self.out.bytes(), block)?
            }
        };
        let heads = sent.min(self.out.bytes().len());
        self.out.consume(heads);
        from.consume(sent - heads);
        mask.skip(sent - heads);
        *left -= sent - heads;
        if *left == 0 {
            self.ours = Ours::Open;
        }
        Ok(())
    }

    /// Says what has become due, and sends all that is held back.
    fn settle(&mut self) -> io::Result<()> {
        if self.is_over() {
            // All was said and heard, and the peer may have left: what of the farewell does not reach it is not missed.
            let said = match self.ours {
                Ours::Over => Ok(()),
                _ => self.farewell(),
            };
            return match said {
                Err(error) if error.kind() == ErrorKind::WouldBlock => Err(error),
                _ => {
                    self.ours = Ours::Over;
                    Ok(())
                }
            };
        }
        if matches!(self.ours, Ours::Open | Ours::Marked) && self.pong.is_some() {
            self.push()?;
            let pong = self.pong.take().unwrap_or_default();
            self.frame(OpCode::Control(Control::Pong), &pong)?;
        }
        self.push()
    }

    fn farewell(&mut self) -> io::Result<()> {
        if let Ours::Marked = self.ours {
            self.close(CloseCode::Normal)?;
        }
        self.push()?;
        self.carrier.finish()
    }

    fn close(&mut self, code: CloseCode) -> io::Result<()> {
        self.frame(OpCode::Control(Control::Close), &u16::from(code).to_be_bytes())?;
        self.ours = Ours::Closed;
        Ok(())
    }

    /// Holds a whole small frame back.
    fn frame(&mut self, opcode: OpCode, payload: &[u8]) -> io::Result<()> {
        let mut mask = self.header(opcode, payload.len())?;
        let room = self.out.room(payload.len());
        // Pongs wait for an empty buffer, and nothing else is said twice: there is room.
        let Some(room) = room.get_mut(..payload.len()) else { return Err(io::Error::other("no room for a frame")) };
        room.copy_from_slice(payload);
        mask.apply(room);
        self.out.advance(payload.len());
        Ok(())
    }

    /// Holds a header back; what follows it is to be masked with this.
    fn header(&mut self, opcode: OpCode, length: usize) -> io::Result<Mask> {
        let mask = match &mut self.side {
            Side::Client(masks) => Some(masks.next()?),
            Side::Server => None,
        };
        let header = FrameHeader { opcode, mask, ..FrameHeader::default() };
        let count = header.len(length as u64);
        header.format(length as u64, &mut self.out.room(count)).map_err(io::Error::other)?;
        self.out.advance(count);
        Ok(Mask::new(mask))
    }

    /// Sends what is held back.
    fn push(&mut self) -> io::Result<()> {
        while !self.out.is_empty() {
            let sent = self.carrier.put(self.out.bytes(), &[])?;
            self.out.consume(sent);
        }
        self.carrier.flush()
    }
}

fn cut_off() -> Theirs {
    Theirs::Failed(ErrorKind::UnexpectedEof, "the WebSocket was cut off without a Close".into())
}

/// Longest payload of a control frame, in bytes (RFC 6455, 5.5).
const CONTROL: u64 = 125;
/// Bytes read ahead of the payload: more than the longest control frame with its header (131).
const AHEAD: usize = 256;
/// Bytes held back: a pong, an empty message and a Close (131 + 6 + 8), or a pong and the header of a frame.
const OUT: usize = 192;
/// Bytes masked at a time; with the longest header before them they are one TLS record (16384).
const BLOCK: usize = 16 * 1024 - 14;
/// Most frames without payload, pings among them, that are taken one after the other without a pause in what comes: whoever
/// sends more keeps a thread from its other work.
const EMPTY_FRAMES: usize = 1024;

#[cfg(test)]
#[path = "ws/tests.rs"]
mod tests;
