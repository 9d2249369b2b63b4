//! What lies under WebSocket messages and HTTP/2 frames: a TLS session, or a bare socket.

use std::io::{self, IoSlice, Read, Write};

use super::stream::{would_block, Stream};
use super::tcp::Tcp;
use super::tls::Tls;
use crate::logic::wire::Fingerprint;

/// A stream that carries the frames of another protocol.
pub trait Lower: Stream + Send {
    /// Reads some bytes; `Ok(0)` at the end of the stream.
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize>;
    /// Sends some of these parts, of which one has bytes, together where that is possible. Never `Ok(0)`: no room is `WouldBlock`.
    fn put(&mut self, parts: [&[u8]; 3]) -> io::Result<usize>;
    /// Whether bytes wait, as [`Tcp::waiting`].
    fn waiting(&mut self) -> io::Result<usize>;
    /// The socket underneath.
    fn socket(&mut self) -> &mut Tcp;
    /// The certificate that the peer showed, if it did.
    fn fingerprint(&self) -> Option<Fingerprint>;
}

/// How much of each of three parts has gone where so much of all has: the first two have `first` and `second` bytes.
pub fn gone(sent: usize, first: usize, second: usize) -> [usize; 3] {
    let (head, rest) = (sent.min(first), sent.saturating_sub(first));
    [head, rest.min(second), rest.saturating_sub(second)]
}

impl Lower for Tcp {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        Read::read(self, into)
    }

    fn put(&mut self, parts: [&[u8]; 3]) -> io::Result<usize> {
        write_parts(self, parts)
    }

    fn waiting(&mut self) -> io::Result<usize> {
        Tcp::waiting(self)
    }

    fn socket(&mut self) -> &mut Tcp {
        self
    }

    fn fingerprint(&self) -> Option<Fingerprint> {
        None
    }
}

impl Lower for Tls {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        Read::read(self, into)
    }

    fn put(&mut self, parts: [&[u8]; 3]) -> io::Result<usize> {
        write_parts(self, parts)
    }

    fn waiting(&mut self) -> io::Result<usize> {
        Tls::waiting(self)
    }

    fn socket(&mut self) -> &mut Tcp {
        self.socket()
    }

    fn fingerprint(&self) -> Option<Fingerprint> {
        self.peer_fingerprint()
    }
}

fn write_parts(into: &mut impl Write, parts: [&[u8]; 3]) -> io::Result<usize> {
    let sent = match parts {
        [only, [], []] | [[], only, []] => into.write(only),
        [head, rest, []] => into.write_vectored(&[head, rest].map(IoSlice::new)),
        parts => into.write_vectored(&parts.map(IoSlice::new)),
    };
    match sent? {
        0 => would_block(),
        count => Ok(count),
    }
}
