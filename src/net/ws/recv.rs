//! What the peer sends: frames in, by the rules of RFC 6455.

use std::io::{self, Cursor, ErrorKind};
use std::mem::discriminant;

use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};
use tungstenite::protocol::frame::FrameHeader;

use super::mask::Mask;
use super::state::{Masking, Message, RecvState, SendState};
use super::Ws;
use crate::logic::encoding::from_hex;
use crate::net::stream::{would_block, Buffer};

impl Ws {
    /// Goes on to the next frame that matters: afterwards `theirs` is another, or nothing can be done now.
    pub(super) fn head(&mut self) -> io::Result<()> {
        let before = discriminant(&self.recv);
        for _ in 0..EMPTY_FRAMES {
            let begun = matches!(self.message, Message::Begun { empty: false });
            let ahead = std::mem::replace(&mut self.ahead, Buffer::new(0));
            let taken = self.frame_at(ahead.bytes());
            self.ahead = ahead;
            match taken? {
                Some(count) => self.ahead.consume(count),
                None => self.look_ahead()?,
            }
            // The empty last frame of a message matters where messages do.
            let ended = begun && self.whole_messages && matches!(self.message, Message::None);
            if discriminant(&self.recv) != before || ended {
                return Ok(());
            }
        }
        self.refuse(CloseCode::Policy, NOTHING_IN_THEM)
    }

    /// Takes the header of a data frame, or a whole control frame, at the front of `bytes`: how many bytes it is, and `None` if more of it
    /// is still to come.
    fn frame_at(&mut self, bytes: &[u8]) -> io::Result<Option<usize>> {
        let mut cursor = Cursor::new(bytes);
        let parsed = FrameHeader::parse(&mut cursor);
        let head = cursor.position() as usize;
        let (header, length) = match parsed {
            Err(_) => return self.refuse(CloseCode::Protocol, "an unknown opcode"),
            Ok(None) => return Ok(None),
            Ok(Some(parsed)) => parsed,
        };
        if let Some((code, why)) = self.fault(&header, length) {
            return self.refuse(code, why);
        }
        match header.opcode {
            OpCode::Data(Data::Text) if length > 0 => {
                let Some(payload) = bytes.get(head..head + COUNTED) else { return Ok(None) };
                self.counted(header.mask, payload)?;
                Ok(Some(head + COUNTED))
            }
            OpCode::Data(_) => {
                self.data(&header, length);
                Ok(Some(head))
            }
            OpCode::Control(control) => {
                let Some(payload) = bytes.get(head..head + length as usize) else { return Ok(None) };
                self.control(control, header.mask, payload.to_vec())?;
                Ok(Some(head + payload.len()))
            }
        }
    }

    /// Reads as much as there is room for and takes the frames apart where they lie: how many bytes of payload there were. 0 if there were
    /// none: the peer's direction may have ended, or more is to be read. `frames` counts those without payload.
    pub(super) fn read_frames(&mut self, into: &mut Buffer, frames: &mut usize) -> io::Result<usize> {
        let room = into.room(1);
        let read = match self.lower.read(room)? {
            0 => {
                self.recv = cut_off();
                return Ok(0);
            }
            read => read,
        };
        let (mut at, mut moved) = (0, 0);
        while at < read {
            match &mut self.recv {
                RecvState::Payload { left, mask } => {
                    let count = (read - at).min(usize::try_from(*left).unwrap_or(usize::MAX));
                    mask.apply(&mut room[at..at + count]);
                    room.copy_within(at..at + count, moved);
                    (at, moved) = (at + count, moved + count);
                    *left -= count as u64;
                    if *left == 0 {
                        self.recv = RecvState::Between;
                    }
                }
                RecvState::Between => match self.frame_at(&room[at..read]) {
                    Ok(Some(_)) if moved == 0 && *frames == EMPTY_FRAMES => {
                        return self.refuse(CloseCode::Policy, NOTHING_IN_THEM);
                    }
                    Ok(Some(count)) => (at, *frames) = (at + count, *frames + 1),
                    Ok(None) => break,
                    // It is kept, and told when the bytes before it were taken.
                    Err(_) if moved > 0 => break,
                    Err(error) => return Err(error),
                },
                RecvState::Ended(_) | RecvState::Free(_) | RecvState::Closed | RecvState::Failed(..) => break,
            }
        }
        self.counts.heard += moved as u64;
        self.keep_ahead(&room[at..read]);
        into.advance(moved);
        Ok(moved)
    }

    /// Bytes that were read too early: part of a header or of a control frame, as a rule.
    fn keep_ahead(&mut self, bytes: &[u8]) {
        if self.ahead.append(bytes) < bytes.len() {
            self.ahead = Buffer::holding(bytes.to_vec());
        }
    }

    /// Which rule a frame breaks.
    fn fault(&self, header: &FrameHeader, length: u64) -> Option<(CloseCode, &'static str)> {
        let control = matches!(header.opcode, OpCode::Control(_));
        let begun = matches!(self.message, Message::Begun { .. });
        let why = match header.opcode {
            _ if header.rsv1 || header.rsv2 || header.rsv3 => "a reserved bit",
            _ if header.mask.is_some() != matches!(self.side, Masking::Server) => {
                "a frame masked by a server, or not by a client"
            }
            _ if control && !header.is_final => "a control frame in parts",
            _ if control && length > CONTROL => "a control frame that is too long",
            _ if length > i64::MAX as u64 => "a frame of an impossible length",
            OpCode::Data(Data::Text) if !(self.ws_eof && header.is_final && self.is_end(length)) => {
                return Some((CloseCode::Unsupported, "a text message"));
            }
            // The one that says that the peer is free for the next user.
            OpCode::Data(Data::Text) if self.reuse && length == 0 && matches!(self.recv, RecvState::Ended(_)) => {
                return None;
            }
            OpCode::Data(_) if matches!(self.recv, RecvState::Ended(_) | RecvState::Free(_)) => {
                "a message after the end"
            }
            OpCode::Data(Data::Continue) if !begun => "the continuation of no message",
            OpCode::Data(Data::Binary | Data::Text) if begun => "a message within another",
            _ => return None,
        };
        Some((CloseCode::Protocol, why))
    }

    /// Whether a text message of that length is an end.
    fn is_end(&self, length: u64) -> bool {
        length == 0 || self.reuse && length == COUNTED as u64
    }

    /// An end that tells how much of the other direction was passed on.
    fn counted(&mut self, mask: Option<[u8; 4]>, payload: &[u8]) -> io::Result<()> {
        let mut digits = [0; COUNTED];
        digits.copy_from_slice(payload);
        Mask::new(mask).apply(&mut digits);
        let mut count = [0; 8];
        if !from_hex(&digits, &mut count) {
            return self.refuse(CloseCode::Unsupported, "a text message");
        }
        self.recv = RecvState::Ended(Some(u64::from_be_bytes(count)));
        Ok(())
    }

    /// The header of a data frame that breaks no rule.
    fn data(&mut self, header: &FrameHeader, length: u64) {
        let empty = length == 0 && !matches!(self.message, Message::Begun { empty: false });
        self.message = match header.is_final {
            true => Message::None,
            false => Message::Begun { empty },
        };
        if let RecvState::Ended(told) = self.recv {
            self.recv = RecvState::Free(told);
        } else if length > 0 {
            self.recv = RecvState::Payload { left: length, mask: Mask::new(header.mask) };
        } else if header.is_final && empty && self.ws_eof {
            self.recv = RecvState::Ended(None);
        }
    }

    /// A control frame that is there as a whole.
    fn control(&mut self, control: Control, mask: Option<[u8; 4]>, mut payload: Vec<u8>) -> io::Result<()> {
        Mask::new(mask).apply(&mut payload);
        match control {
            Control::Ping => {
                self.pong = Some(payload);
                // What cannot be sent now is the next flush's matter: bytes of the peer may still wait to be read.
                let _ = self.send_due();
                Ok(())
            }
            Control::Close => self.closed(&payload),
            _ => Ok(()),
        }
    }

    /// The peer closes. The answer is our own finish, unless this is an error.
    fn closed(&mut self, payload: &[u8]) -> io::Result<()> {
        let code = match payload {
            [] => CloseCode::Normal,
            [high, low, reason @ ..] if std::str::from_utf8(reason).is_ok() => u16::from_be_bytes([*high, *low]).into(),
            _ => return self.refuse(CloseCode::Protocol, "a malformed Close"),
        };
        match code {
            CloseCode::Normal | CloseCode::Away => {
                self.recv = RecvState::Closed;
                Ok(())
            }
            code if code.is_allowed() => {
                self.fail(code, ErrorKind::ConnectionAborted, format!("the peer closed it with code {code}"))
            }
            _ => self.refuse(CloseCode::Protocol, "a Close with an impossible code"),
        }
    }

    /// Reads into `ahead`. Its end is an error, unless the peer has sent all.
    fn look_ahead(&mut self) -> io::Result<()> {
        match self.lower.read(self.ahead.room(AHEAD)) {
            Ok(0) => match self.recv {
                RecvState::Ended(_) | RecvState::Free(_) => self.recv = RecvState::Closed,
                _ => self.recv = cut_off(),
            },
            Ok(count) => self.ahead.advance(count),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Payload: what was read ahead of it, and what the stream below has.
    pub(super) fn payload(&mut self, into: &mut Buffer) -> io::Result<usize> {
        let RecvState::Payload { left, mask } = &mut self.recv else { return would_block() };
        let room = into.room(1);
        let want = room.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
        let known = want.min(self.ahead.bytes().len());
        let read = match known < want {
            true => self.lower.read(&mut room[known..want]),
            false => Ok(0),
        };
        room[..known].copy_from_slice(&self.ahead.bytes()[..known]);
        self.ahead.consume(known);
        let count = known + read.as_ref().map_or(0, |count| *count);
        mask.apply(&mut room[..count]);
        *left -= count as u64;
        self.counts.heard += count as u64;
        into.advance(count);

        let failed = match read {
            Ok(0) if known < want => Some(cut_off()),
            Err(error) if error.kind() == ErrorKind::WouldBlock && count == 0 => return Err(error),
            Err(error) if error.kind() != ErrorKind::WouldBlock => {
                Some(RecvState::Failed(error.kind(), error.to_string()))
            }
            _ if *left == 0 => Some(RecvState::Between),
            _ => None,
        };
        if let Some(next) = failed {
            self.recv = next;
        }
        match &self.recv {
            RecvState::Failed(kind, why) if count == 0 => Err(io::Error::new(*kind, why.clone())),
            _ => Ok(count),
        }
    }

    /// The peer broke a rule: it is told which kind, as far as that goes, and the connection is over.
    fn refuse<T>(&mut self, code: CloseCode, why: &'static str) -> io::Result<T> {
        self.fail(code, ErrorKind::InvalidData, format!("not the WebSocket protocol: {why}"))
    }

    fn fail<T>(&mut self, code: CloseCode, kind: ErrorKind, why: String) -> io::Result<T> {
        self.recv = RecvState::Failed(kind, why.clone());
        // Within a frame nothing can be said. What cannot be sent now is not sent at all: the socket's end says enough.
        if matches!(self.send, SendState::Open | SendState::Marked) && self.close(code).is_ok() {
            let _ = self.push();
        }
        Err(io::Error::new(kind, why))
    }
}

fn cut_off() -> RecvState {
    RecvState::Failed(ErrorKind::UnexpectedEof, "the WebSocket was cut off without a Close".into())
}

/// Why a peer is left whose frames have nothing in them.
const NOTHING_IN_THEM: &str = "too many frames without a byte in them";
/// Bytes of an end that tells how much was passed on: hexadecimal digits.
const COUNTED: usize = 16;
/// Longest payload of a control frame, in bytes (RFC 6455, 5.5).
const CONTROL: u64 = 125;
/// Bytes read ahead of the payload: more than the longest control frame with its header (131).
pub(super) const AHEAD: usize = 256;
/// Most frames without payload, pings among them, that are taken one after the other without a pause in what comes: a peer
/// that sends more keeps a thread from its other work.
pub(super) const EMPTY_FRAMES: usize = 1024;
