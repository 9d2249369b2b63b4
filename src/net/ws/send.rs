//! What is sent: payload behind headers, and the small frames that are due.

use std::io::{self, ErrorKind, Write};

use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};
use tungstenite::protocol::frame::FrameHeader;

use super::mask::Mask;
use super::state::{Masking, RecvState, SendState};
use super::Ws;
use crate::logic::encoding::hex;
use crate::net::lower::gone;
use crate::net::stream::{Buffer, LARGE};

impl Ws {
    /// Sends some of `from`: the rest of the frame that has begun, or a new one of all that one takes.
    pub(super) fn send(&mut self, from: &mut Buffer) -> io::Result<()> {
        if let SendState::Open = self.send {
            self.send_due()?;
            let left = from.bytes().len().min(self.largest());
            let mut head = [0; MAX_HEADER];
            let mut room = &mut head[..];
            self.header(OpCode::Data(Data::Binary), left, &mut room)?.apply(&mut from.bytes_mut()[..left]);
            let count = MAX_HEADER - room.len();
            self.hold(&head[..count])?;
            self.send = SendState::Sending { left };
        }
        let SendState::Sending { left } = self.send else {
            return Err(io::Error::new(ErrorKind::BrokenPipe, "the WebSocket has ended"));
        };
        let end = match self.last && left == from.bytes().len() && self.says_end() {
            true => self.end_frame()?,
            false => Vec::new(),
        };
        let payload = &from.bytes()[..from.bytes().len().min(left)];
        let sent = self.lower.put([self.out.bytes(), payload, &end])?;
        self.spoke = true;
        let [heads, bytes, ends] = gone(sent, self.out.bytes().len(), payload.len());
        self.out.consume(heads);
        from.consume(bytes);
        self.counts.said += bytes as u64;
        self.send = match left - bytes {
            0 => SendState::Open,
            left => SendState::Sending { left },
        };
        if ends > 0 {
            self.hold(&end[ends..])?;
            self.send = SendState::Marked;
        }
        Ok(())
    }

    /// Whether our direction ends by a message.
    fn says_end(&self) -> bool {
        self.ws_eof && !matches!(self.recv, RecvState::Closed)
    }

    /// That message.
    fn end_frame(&mut self) -> io::Result<Vec<u8>> {
        let told = self.counts.end().filter(|_| self.reuse);
        let text = told.map(|count| hex(&count.to_be_bytes())).unwrap_or_default();
        self.small(OpCode::Data(Data::Text), text.as_bytes())
    }

    /// Bytes of payload that fill, with their header, as many whole records of TLS as are sent at once. One byte more would be a record
    /// and a system call of its own, and every record after it would begin in the middle of what is read at once.
    fn largest(&self) -> usize {
        let mask = if matches!(self.side, Masking::Client(_)) { 4 } else { 0 };
        LARGE - HEADER - mask
    }

    /// Ends our direction: by a text message where that was agreed on, empty or with what there is to tell, else by a Close.
    pub(super) fn end(&mut self) -> io::Result<()> {
        match self.send {
            SendState::Open if self.says_end() => {
                let end = self.end_frame()?;
                self.hold(&end)?;
                self.send = SendState::Marked;
            }
            SendState::Open => self.close(CloseCode::Normal)?,
            SendState::Sending { .. } => return Err(io::Error::other("an end within a frame")),
            SendState::Marked | SendState::Closed | SendState::Ended => {}
        }
        Ok(())
    }

    /// Queues what has become due, and sends all that is held back.
    pub(super) fn send_due(&mut self) -> io::Result<()> {
        if self.is_over() && !self.is_between_users() {
            // All was said and heard, and the peer may have left: what of the Close does not reach it is not missed.
            let said = match self.send {
                SendState::Ended => Ok(()),
                _ => self.close_gracefully(),
            };
            return match said {
                Err(error) if error.kind() == ErrorKind::WouldBlock => Err(error),
                _ => {
                    self.send = SendState::Ended;
                    Ok(())
                }
            };
        }
        if matches!(self.send, SendState::Open | SendState::Marked) && self.pong.is_some() {
            self.push()?;
            let pong = self.pong.take().unwrap_or_default();
            self.frame(OpCode::Control(Control::Pong), &pong)?;
        }
        self.push()
    }

    fn close_gracefully(&mut self) -> io::Result<()> {
        if let SendState::Marked = self.send {
            self.close(CloseCode::Normal)?;
        }
        self.push()?;
        self.lower.finish()
    }

    pub(super) fn close(&mut self, code: CloseCode) -> io::Result<()> {
        self.frame(OpCode::Control(Control::Close), &u16::from(code).to_be_bytes())?;
        self.send = SendState::Closed;
        Ok(())
    }

    /// Holds a whole small frame back.
    pub(super) fn frame(&mut self, opcode: OpCode, payload: &[u8]) -> io::Result<()> {
        let frame = self.small(opcode, payload)?;
        self.hold(&frame)
    }

    /// A whole small frame.
    fn small(&mut self, opcode: OpCode, payload: &[u8]) -> io::Result<Vec<u8>> {
        let mut frame = Vec::with_capacity(MAX_HEADER + payload.len());
        let mut mask = self.header(opcode, payload.len(), &mut frame)?;
        let head = frame.len();
        frame.extend_from_slice(payload);
        mask.apply(&mut frame[head..]);
        Ok(frame)
    }

    fn hold(&mut self, bytes: &[u8]) -> io::Result<()> {
        // Pongs wait for an empty buffer, and nothing else is said twice: there is room.
        match self.out.append(bytes) == bytes.len() {
            true => Ok(()),
            false => Err(io::Error::other("no room for a frame")),
        }
    }

    /// Writes a header; what follows it is to be masked with this.
    fn header(&mut self, opcode: OpCode, length: usize, into: &mut impl Write) -> io::Result<Mask> {
        let mask = match &mut self.side {
            Masking::Client(masks) => Some(masks.next()?),
            Masking::Server => None,
        };
        let header = FrameHeader { opcode, mask, ..FrameHeader::default() };
        header.format(length as u64, into).map_err(io::Error::other)?;
        Ok(Mask::new(mask))
    }

    /// Sends what is held back.
    pub(super) fn push(&mut self) -> io::Result<()> {
        while !self.out.is_empty() {
            let sent = self.lower.put([self.out.bytes(), &[], &[]])?;
            self.spoke = true;
            self.out.consume(sent);
        }
        self.lower.flush()
    }
}

/// Bytes of a header of less than 64 KiB (RFC 6455, 5.2), the mask apart.
const HEADER: usize = 4;
/// The longest header (RFC 6455, 5.2), in bytes.
const MAX_HEADER: usize = 14;
/// Bytes held back: a pong, an end and a Close (131 + 22 + 8), or a pong and the header of a frame.
pub(super) const OUT: usize = 192;
