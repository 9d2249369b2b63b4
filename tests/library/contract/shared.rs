//! A stream of a connection that carries many, as one end has it: the connection, a loop that is turned by hand, and the
//! edges that it was told of. It serves as the leg under test and as the far end alike, whatever the transport is.

use std::io;
use std::time::{Duration, Instant};

use mio::Token;

use super::far::Far;
use crate::ends::End;
use nodepass::net::mux::{Mux, StreamNo};
use nodepass::net::stream::{ready, would_block, Buffer, Stream};

pub struct Shared {
    end: End<dyn Mux>,
    stream: Option<StreamNo>,
    /// What may be tried: an edge has come since it was not possible.
    readable: bool,
    writable: bool,
}

impl Shared {
    pub fn new(mux: Box<dyn Mux>) -> Shared {
        Shared { end: End::new(mux), stream: None, readable: false, writable: false }
    }

    /// Opens a stream at `client` and takes it at `server`, which hears of it with its first byte.
    pub fn join(client: &mut Shared, server: &mut Shared) {
        let begin = Instant::now();
        let mut opening = Buffer::holding(vec![0]);
        loop {
            assert!(begin.elapsed() < crate::ends::GRACE, "waited in vain for a stream");
            client.turn();
            server.turn();
            if client.stream.is_none() && client.end.mux.is_up() {
                let stream = ready(client.end.mux.open()).unwrap();
                stream.into_iter().for_each(|stream| client.has(stream));
            }
            if client.stream.is_some() && !opening.is_empty() {
                ready(client.drain(&mut opening)).unwrap();
            }
            if server.stream.is_none() {
                let accepted = server.end.mux.accept();
                accepted.into_iter().for_each(|(stream, _)| server.has(stream));
            }
            let mut first = Buffer::new(1);
            if server.stream.is_some() && ready(server.fill(&mut first)).unwrap().is_some() {
                assert_eq!(first.bytes(), [0]);
                server.turn();
                return;
            }
        }
    }

    fn has(&mut self, stream: StreamNo) {
        self.end.mux.watch(stream, STREAM);
        self.stream = Some(stream);
    }

    /// One turn of the loop, or as many as it has work for.
    pub fn turn(&mut self) {
        loop {
            self.end.turn(Duration::ZERO);
            assert!(self.end.over.is_none(), "the connection: {:?}", self.end.over);
            for token in self.end.edges.drain(..) {
                assert_eq!(token, STREAM);
                (self.readable, self.writable) = (true, true);
            }
            if !self.end.is_busy() {
                return;
            }
        }
    }

    /// Whether the stream was reset.
    pub fn failed(&mut self) -> bool {
        ready(self.end.mux.waiting(self.stream.unwrap())).is_err()
    }
}

impl Stream for Shared {
    fn fill(&mut self, into: &mut Buffer) -> io::Result<usize> {
        if !self.readable {
            return would_block();
        }
        let result = self.end.mux.fill(self.stream.unwrap(), into);
        self.readable = !is_blocked(&result);
        result
    }

    fn drain(&mut self, from: &mut Buffer) -> io::Result<usize> {
        if !self.writable {
            return would_block();
        }
        let result = self.end.mux.drain(self.stream.unwrap(), from);
        self.writable = !is_blocked(&result);
        result
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.end.mux.finish(self.stream.unwrap())
    }
}

fn is_blocked(result: &io::Result<usize>) -> bool {
    matches!(result, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

impl Far for Shared {
    fn say(&mut self, bytes: &[u8]) -> usize {
        self.turn();
        let mut from = Buffer::holding(bytes.to_vec());
        while !from.is_empty() && ready(self.drain(&mut from)).unwrap().is_some() {}
        self.turn();
        bytes.len() - from.bytes().len()
    }

    fn hear(&mut self, into: &mut Vec<u8>) -> bool {
        self.turn();
        let mut buffer = Buffer::new(64 * 1024);
        while let Some(count) = ready(self.fill(&mut buffer)).unwrap() {
            if count == 0 {
                return true;
            }
            into.extend_from_slice(buffer.bytes());
            buffer.consume(count);
        }
        self.turn();
        false
    }

    fn live(&mut self) {
        self.turn();
    }

    fn end(&mut self) {
        while ready(self.finish()).unwrap().is_none() {
            self.turn();
        }
        self.turn();
    }

    fn reset(&mut self) {
        self.end.mux.release(self.stream.unwrap());
        self.turn();
    }
}

/// What the stream's edges are told under; the connection has 0.
const STREAM: Token = Token(7);
