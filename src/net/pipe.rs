//! A kernel pipe that bytes pass through between two sockets, uncopied.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::sys;

/// A pipe and how many bytes are in it.
pub struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
    held: usize,
}

impl Pipe {
    /// A new, empty pipe. Fails where the system has none to give; the relay then copies.
    pub fn new() -> io::Result<Pipe> {
        let (reader, writer) = sys::pipe()?;
        Ok(Pipe { reader, writer, held: 0 })
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// How many bytes it holds.
    pub fn waiting(&self) -> usize {
        self.held
    }

    /// Takes up to `limit` bytes out of a socket.
    pub fn take_from(&mut self, socket: BorrowedFd<'_>, limit: usize) -> io::Result<usize> {
        let count = sys::splice(socket, self.writer.as_fd(), limit.clamp(1, MAX_SPLICE))?;
        self.held += count;
        Ok(count)
    }

    /// Gives what it holds to a socket, as much as that takes.
    pub fn give_to(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let count = sys::splice(self.reader.as_fd(), socket, self.held)?;
        self.held = self.held.saturating_sub(count);
        Ok(count)
    }
}

/// A socket that bytes need not leave the kernel for.
pub trait Splice {
    /// Whether the other side has sent urgent data: then the kernel moves nothing past its mark by itself, and bytes have to be read.
    fn is_urgent(&self) -> bool;
    /// Takes bytes straight into a pipe.
    fn splice_into(&mut self, pipe: &mut Pipe, limit: usize) -> io::Result<usize>;
    /// Sends bytes straight out of a pipe.
    fn splice_from(&mut self, pipe: &mut Pipe) -> io::Result<usize>;
}

/// Most bytes asked of one splice. The pipe takes what it has room for, which may be more than its nominal 64 KiB.
const MAX_SPLICE: usize = 256 * 1024;
