//! What may carry a WebSocket.

use std::io::{self, IoSlice, Read, Write};

use crate::logic::wire::Fingerprint;
use crate::net::stream::{would_block, Stream};
use crate::net::tcp::Tcp;
use crate::net::tls::Tls;

/// What carries the frames: a connection on which nothing waits.
pub trait Carrier: Read + Write + Send {
    /// Ends our direction, as [`Stream::finish`].
    fn finish(&mut self) -> io::Result<()>;
    /// Sends some of `head` and then of `rest`, at once where that is possible. Never `Ok(0)`: no room is `WouldBlock`.
    fn put(&mut self, head: &[u8], rest: &[u8]) -> io::Result<usize> {
        let sent = match (head, rest) {
            (only, []) | ([], only) => self.write(only),
            (head, rest) => self.write_vectored(&[IoSlice::new(head), IoSlice::new(rest)]),
        };
        match sent? {
            0 => would_block(),
            count => Ok(count),
        }
    }
    /// Whether bytes wait, as [`Tcp::waiting`].
    fn waiting(&mut self) -> io::Result<usize>;
    /// The socket underneath.
    fn tcp(&mut self) -> &mut Tcp;
    /// The certificate that the other side showed, if it did.
    fn fingerprint(&self) -> Option<Fingerprint>;
}

impl Carrier for Tcp {
    fn finish(&mut self) -> io::Result<()> {
        Stream::finish(self)
    }

    fn waiting(&mut self) -> io::Result<usize> {
        Tcp::waiting(self)
    }

    fn tcp(&mut self) -> &mut Tcp {
        self
    }

    fn fingerprint(&self) -> Option<Fingerprint> {
        None
    }
}

impl Carrier for Tls {
    fn finish(&mut self) -> io::Result<()> {
        Stream::finish(self)
    }

    fn waiting(&mut self) -> io::Result<usize> {
        Tls::waiting(self)
    }

    fn tcp(&mut self) -> &mut Tcp {
        self.carrier()
    }

    fn fingerprint(&self) -> Option<Fingerprint> {
        self.peer_fingerprint()
    }
}
