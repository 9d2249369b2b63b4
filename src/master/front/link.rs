//! One connection to the server behind: a Unix socket with remembered readiness.

use std::io::{self, Read, Write};
use std::path::Path;

use mio::event::Event;
use mio::net::UnixStream;
use mio::{Interest, Registry, Token};

use super::CALLS;
use crate::net::stream::{would_block, Buffer};
use crate::net::sys;
use crate::net::tcp::{again, is_blocked};

/// A connection to the server behind. As [`Tcp`](crate::net::tcp::Tcp), it tries nothing that is known to have to wait.
pub struct Link {
    socket: UnixStream,
    readable: bool,
    writable: bool,
}

impl Link {
    /// Connects, registered under `token`. An error says that it cannot be done now: no descriptors, or a full queue.
    pub fn open(to: &Path, registry: &Registry, token: Token) -> io::Result<Link> {
        // The server behind does not survive it if there are none for its end of the connection.
        if !sys::has_descriptors_left(SPARE) {
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
        let mut socket = UnixStream::connect(to)?;
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

/// Descriptors that must be free when a connection is opened: one for it, two for its other end, and two for each of the others
/// that the server behind may not have taken yet.
const SPARE: usize = 1 + 2 * CALLS;
