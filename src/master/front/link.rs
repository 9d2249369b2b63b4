//! One connection to the server behind: a Unix socket with remembered readiness.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use mio::event::Event;
use mio::net::UnixStream;
use mio::{Interest, Registry, Token};

use super::CALLS;
use crate::net::stream::{would_block, Buffer};

/// A connection to the server behind. As [`Tcp`](crate::net::tcp::Tcp), it tries nothing that is known to have to wait.
pub struct Link {
    socket: UnixStream,
    readable: bool,
    writable: bool,
}

impl Link {
    /// Connects, registered under `token`. An error says that it cannot be done now: no descriptors, or a full queue.
    pub fn open(to: &Path, registry: &Registry, token: Token) -> io::Result<Link> {
        let mut socket = UnixStream::connect(to)?;
        spare(&socket)?;
        registry.register(&mut socket, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Link { socket, readable: true, writable: true })
    }

    /// Remembers an edge.
    pub fn note(&mut self, event: &Event) {
        self.readable |= event.is_readable() || event.is_read_closed();
        self.writable |= event.is_writable() || event.is_write_closed();
    }

    /// Takes bytes in; `Ok(0)` at the end.
    pub fn fill(&mut self, into: &mut Buffer, limit: usize) -> io::Result<usize> {
        if !self.readable {
            return would_block();
        }
        let room = into.room(1);
        let limit = room.len().min(limit);
        let result = again(|| self.socket.read(&mut room[..limit]));
        self.readable = !is_blocked(&result);
        let count = result?;
        into.advance(count);
        Ok(count)
    }

    /// Sends bytes out.
    pub fn drain(&mut self, from: &mut Buffer) -> io::Result<usize> {
        if !self.writable {
            return would_block();
        }
        let result = again(|| self.socket.write(from.bytes()));
        self.writable = !is_blocked(&result);
        let count = result?;
        from.consume(count);
        Ok(count)
    }
}

/// An error if the server behind would find no descriptors for its end of the connection: it does not survive that.
fn spare(socket: &UnixStream) -> io::Result<()> {
    (0..SPARE).map(|_| socket.as_fd().try_clone_to_owned()).collect::<io::Result<Vec<OwnedFd>>>().map(drop)
}

fn is_blocked(result: &io::Result<usize>) -> bool {
    matches!(result, Err(error) if error.kind() == ErrorKind::WouldBlock)
}

fn again(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Descriptors that must be free when a connection is opened: two for its other end, two for each of the others that may be
/// opened at the same moment.
const SPARE: usize = 2 * CALLS;
