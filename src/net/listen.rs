//! A TCP listener that accepts a bounded number of connections at a time.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use mio::event::Source;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};

use super::inherited::Inherited;
use super::listen_addr::ListenAddr;
use super::tcp::{canonical, listen, SocketKeepalive};

/// A TCP listener that accepts a bounded number at a time and survives a lack of descriptors.
pub struct Acceptor {
    listener: TcpListener,
    ready: bool,
    again: Option<Instant>,
    starved: bool,
}

impl Acceptor {
    /// Listens at `at`, registered under `token`, with the socket that is `inherited` if there is one. What comes in is kept alive as
    /// `keepalive` says.
    pub fn open(
        at: ListenAddr,
        keepalive: SocketKeepalive,
        inherited: &Inherited,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Acceptor> {
        let mut listener = listen(at, keepalive, inherited)?;
        listener.register(registry, token, Interest::READABLE)?;
        Ok(Acceptor { listener, ready: true, again: None, starved: false })
    }

    /// Where it listens.
    #[cfg(feature = "master")]
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Listens no more, though another process may go on with the same socket.
    pub fn close(mut self, registry: &Registry) {
        // An error means that no edge comes anyway.
        let _ = self.listener.deregister(registry);
    }

    /// A connection came.
    pub fn note(&mut self) {
        self.ready = true;
    }

    /// Whether more may be waiting.
    pub fn is_ready(&self) -> bool {
        self.ready && self.again.is_none()
    }

    /// When to try again after a lack of descriptors.
    pub fn deadline(&self) -> Option<Instant> {
        self.again
    }

    /// The next in line waits for a moment: those that were accepted have to be looked after first.
    pub fn pause(&mut self, now: Instant) {
        self.again = Some(now + MOMENT);
    }

    /// The next in line.
    pub fn accept(&mut self, now: Instant) -> Option<(TcpStream, SocketAddr)> {
        if !self.ready || self.again.is_some_and(|again| now < again) {
            return None;
        }
        self.again = None;
        for _ in 0..MAX_FAILURES {
            match self.listener.accept() {
                Ok((socket, from)) => return Some((socket, canonical(from))),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    (self.ready, self.starved) = (false, false);
                    return None;
                }
                // The kernel has no room. The queue stays, no new edge is owed: the clock has to bring us back.
                Err(error) if is_shortage(&error) => {
                    if !std::mem::replace(&mut self.starved, true) {
                        log::warn!("Cannot accept connections: {error}; raise the limit of open files or lower slot");
                    }
                    self.again = Some(now + PAUSE);
                    return None;
                }
                // The one in line has gone again.
                Err(_) => {}
            }
        }
        None
    }
}

impl AsFd for Acceptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

/// After a lack of descriptors the listener is tried again after this long.
const PAUSE: Duration = Duration::from_millis(100);
/// Those that were accepted have their turn by then.
const MOMENT: Duration = Duration::from_millis(2);
/// So many connections that are gone before they were accepted end one accept.
const MAX_FAILURES: usize = 64;
