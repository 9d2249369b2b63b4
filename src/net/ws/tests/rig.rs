//! A WebSocket connection whose other end and all between them are in memory, and frames as another program writes them.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{channel, Receiver, Sender, TryRecvError};
use std::sync::Arc;

use super::*;
use crate::net::stream::would_block;

/// A connection in memory.
pub(super) struct Wire {
    input: Receiver<Vec<u8>>,
    pub(super) held: VecDeque<u8>,
    output: Option<Sender<Vec<u8>>>,
    pub(super) room: Arc<AtomicUsize>,
}

/// Its other end.
pub(super) struct Peer {
    input: Option<Sender<Vec<u8>>>,
    output: Receiver<Vec<u8>>,
    pub(super) room: Arc<AtomicUsize>,
    over: bool,
    pub(super) heard: Vec<u8>,
}

pub(super) fn wire() -> (Peer, Wire) {
    let ((say, input), (output, hear)) = (channel(), channel());
    let room = Arc::new(AtomicUsize::new(usize::MAX));
    let peer = Peer { input: Some(say), output: hear, room: room.clone(), over: false, heard: Vec::new() };
    (peer, Wire { input, held: VecDeque::new(), output: Some(output), room })
}

pub(super) fn rig(end: End, ws_eof: bool) -> (Ws, Peer) {
    let (peer, wire) = wire();
    (Ws::new(Box::new(wire), end, ws_eof, b""), peer)
}

impl Stream for Wire {
    fn fill(&mut self, into: &mut Buffer) -> io::Result<usize> {
        let count = Lower::read(self, into.room(1))?;
        into.advance(count);
        Ok(count)
    }

    fn drain(&mut self, from: &mut Buffer) -> io::Result<usize> {
        let count = self.put([from.bytes(), &[], &[]])?;
        from.consume(count);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.output = None;
        Ok(())
    }
}

impl Lower for Wire {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        assert!(!into.is_empty(), "nothing is read into nowhere");
        if self.held.is_empty() {
            match self.input.try_recv() {
                Ok(bytes) => self.held.extend(bytes),
                Err(TryRecvError::Empty) => return would_block(),
                Err(TryRecvError::Disconnected) => return Ok(0),
            }
        }
        self.held.read(into)
    }

    fn put(&mut self, parts: [&[u8]; 3]) -> io::Result<usize> {
        let from = parts.into_iter().find(|part| !part.is_empty()).unwrap_or_default();
        let room = self.room.load(Ordering::Relaxed);
        let count = room.min(from.len());
        if count == 0 {
            return would_block();
        }
        self.room.store(room - count, Ordering::Relaxed);
        self.output.as_ref().expect("nothing is written after the end").send(from[..count].to_vec()).unwrap();
        Ok(count)
    }

    fn waiting(&mut self) -> io::Result<usize> {
        match self.held.len() {
            0 => would_block(),
            count => Ok(count),
        }
    }

    fn socket(&mut self) -> &mut Tcp {
        unreachable!("it has no socket")
    }

    fn fingerprint(&self) -> Option<Fingerprint> {
        None
    }
}

impl Peer {
    pub(super) fn say(&self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.input.as_ref().unwrap().send(bytes.to_vec()).unwrap();
        }
    }

    pub(super) fn end(&mut self) {
        self.input = None;
    }

    /// So many bytes may be written from now on.
    pub(super) fn room(&self, room: usize) {
        self.room.store(room, Ordering::Relaxed);
    }

    pub(super) fn ended(&mut self) -> bool {
        self.listen();
        self.over
    }

    fn listen(&mut self) {
        loop {
            match self.output.try_recv() {
                Ok(bytes) => self.heard.extend(bytes),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => {
                    self.over = true;
                    return;
                }
            }
        }
    }

    pub(super) fn heard(&mut self) -> Vec<u8> {
        self.listen();
        std::mem::take(&mut self.heard)
    }

    /// The frames since the last call, unmasked; all are whole.
    pub(super) fn frames(&mut self) -> Vec<(u8, Vec<u8>)> {
        let bytes = self.heard();
        let (mut rest, mut frames) = (&bytes[..], Vec::new());
        while !rest.is_empty() {
            let (head, length) = match rest[1] & 0x7f {
                127 => (10, u64::from_be_bytes(rest[2..10].try_into().unwrap()) as usize),
                126 => (4, usize::from(u16::from_be_bytes(rest[2..4].try_into().unwrap()))),
                short => (2, usize::from(short)),
            };
            assert_eq!(rest[0] & 0xf0, FIN);
            let opcode = rest[0] & 0x0f;
            let masked = rest[1] & 0x80 != 0;
            let mask: [u8; 4] = if masked { rest[head..head + 4].try_into().unwrap() } else { [0; 4] };
            let head = head + if masked { 4 } else { 0 };
            let payload = rest[head..head + length].iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
            frames.push((opcode, payload.collect()));
            rest = &rest[head + length..];
        }
        frames
    }
}

/// What filling came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Nothing,
    End,
    Error(ErrorKind),
}

/// All that can be filled now.
pub(super) fn filled(ws: &mut Ws) -> (Vec<u8>, Seen) {
    let (mut into, mut bytes) = (Buffer::new(1000), Vec::new());
    loop {
        let seen = match ws.fill(&mut into) {
            Ok(0) => Seen::End,
            Ok(count) => {
                assert_eq!(into.bytes().len(), count);
                bytes.extend_from_slice(into.bytes());
                into.consume(count);
                continue;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Seen::Nothing,
            Err(error) => Seen::Error(error.kind()),
        };
        return (bytes, seen);
    }
}

pub(super) fn drained(ws: &mut Ws, bytes: &[u8]) {
    let mut from = Buffer::holding(bytes.to_vec());
    while !from.is_empty() {
        ws.drain(&mut from).unwrap();
    }
}

/// A frame as another program writes it.
pub(super) fn encode(first: u8, mask: Option<[u8; 4]>, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    let bit = if mask.is_some() { 0x80 } else { 0 };
    match payload.len() {
        short @ ..126 => frame.push(bit | short as u8),
        length @ 126..65536 => {
            frame.push(bit | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(bit | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(mask.into_iter().flatten());
    let mask = mask.unwrap_or_default();
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// Frames of all sizes and kinds that may come to this end, up to its end of stream; and their payload.
pub(super) fn session(end: End) -> (Vec<u8>, Vec<u8>) {
    let (mut bytes, mut payload) = (Vec::new(), Vec::new());
    let mut mask = [0xabu8, 0x12, 0x00, 0xff];
    let mut put = |first: u8, part: &[u8]| {
        mask[0] = mask[0].wrapping_add(1);
        bytes.extend(encode(first, (end == End::Server).then_some(mask), part));
        if first & 0x0f <= BINARY {
            payload.extend_from_slice(part);
        }
    };
    put(FIN | BINARY, b"id:4");
    put(BINARY, b"");
    put(FIN | PING, b"");
    put(CONTINUE, &flow(125));
    put(FIN | PONG, b"not asked for");
    put(CONTINUE, &flow(126));
    put(FIN | CONTINUE, b"");
    put(FIN | BINARY, &flow(127));
    put(FIN | BINARY, &flow(65535));
    put(FIN | BINARY, &flow(65536));
    put(FIN | PING, &flow(125));
    put(BINARY, b"x");
    put(FIN | CONTINUE, &flow(3));
    put(FIN | BINARY, b"");
    (bytes, payload)
}

/// Bytes that tell when one of them is in the wrong place.
pub(super) fn flow(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at * 7 + at / 251 + at / 65521) as u8).collect()
}

pub(super) const FIN: u8 = 0x80;
pub(super) const CONTINUE: u8 = 0;
pub(super) const TEXT: u8 = 1;
pub(super) const BINARY: u8 = 2;
pub(super) const CLOSE: u8 = 8;
pub(super) const PING: u8 = 9;
pub(super) const PONG: u8 = 10;
