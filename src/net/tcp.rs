//! TCP sockets: listening, dialling, and a socket that remembers what it is ready for.

use std::io::{self, IoSlice, Read, Write};
use std::net::{IpAddr, Ipv6Addr, Shutdown, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use mio::event::{Event, Source};
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use super::pipe::Pipe;
use super::stream::{would_block, Buffer, Stream};
use super::sys;

/// A connected (or connecting) socket with remembered readiness.
///
/// It is registered once, for both directions and for edges only. `readable` and `writable` say what may be tried; each is
/// cleared by the `WouldBlock` that the kernel answers, and while it is cleared no system call is made.
pub struct Tcp {
    socket: TcpStream,
    readable: bool,
    writable: bool,
    failed: bool,
}

impl Tcp {
    /// Wraps a socket that was accepted or is being connected. Nothing is known of it, so both directions may be tried.
    pub fn new(socket: TcpStream) -> Tcp {
        Tcp { socket, readable: true, writable: true, failed: false }
    }

    /// Starts to connect to `to`, from the local address `from` if one is given.
    ///
    /// An address that cannot be used as a source is an error here and never replaced by another.
    pub fn dial(to: SocketAddr, from: Option<IpAddr>) -> io::Result<Tcp> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_keepalive(&keepalive())?;
        if let Some(from) = from {
            socket.bind(&SocketAddr::new(from, 0).into())?;
        }
        match socket.connect(&to.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
            _ => Ok(Tcp::new(TcpStream::from_std(socket.into()))),
        }
    }

    /// Whether a dialled socket has connected: `WouldBlock` while it has not, the reason when it can't.
    pub fn connected(&mut self) -> io::Result<()> {
        if let Some(error) = self.socket.take_error()? {
            return Err(error);
        }
        match self.socket.peer_addr() {
            Ok(_) => {
                (self.readable, self.writable) = (true, true);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotConnected => would_block(),
            Err(error) => Err(error),
        }
    }

    /// Registers it under `token`, once.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.socket.register(registry, token, Interest::READABLE | Interest::WRITABLE)
    }

    /// Takes it out of that poll, so that another thread can have it. What was not read stays in it.
    pub fn release(mut self, registry: &Registry) -> io::Result<TcpStream> {
        self.socket.deregister(registry)?;
        Ok(self.socket)
    }

    /// Remembers an edge.
    pub fn note(&mut self, event: &Event) {
        self.readable |= event.is_readable() || event.is_read_closed();
        self.writable |= event.is_writable() || event.is_write_closed();
        self.failed |= event.is_error();
    }

    /// Whether the other side has reset the connection, or the path has: nothing more can be sent.
    pub fn failed(&self) -> bool {
        self.failed
    }

    /// The other side's address.
    pub fn peer(&self) -> io::Result<SocketAddr> {
        self.socket.peer_addr().map(canonical)
    }

    /// Our own address.
    pub fn local(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr().map(canonical)
    }

    /// The first bytes that wait to be read, left where they are; `Ok(0)` at the end of the stream.
    pub fn peek(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if !self.readable {
            return would_block();
        }
        let result = again(|| self.socket.peek(into));
        self.readable = !is_blocked(&result);
        result
    }

    /// Whether bytes wait: some number of them, 0 at the end of the stream, `WouldBlock` if none.
    pub fn waiting(&mut self) -> io::Result<usize> {
        self.peek(&mut [0])
    }

    /// Takes bytes straight into a pipe.
    ///
    /// The kernel says "not now" for a dry socket and for a full pipe alike: only an empty pipe makes the first certain.
    pub fn splice_into(&mut self, pipe: &mut Pipe, limit: usize) -> io::Result<usize> {
        if !self.readable {
            return would_block();
        }
        let result = pipe.take_from(self.socket.as_fd(), limit);
        self.readable = !(is_blocked(&result) && pipe.is_empty());
        result
    }

    /// Sends bytes straight out of a pipe.
    pub fn splice_from(&mut self, pipe: &mut Pipe) -> io::Result<usize> {
        if !self.writable {
            return would_block();
        }
        let result = pipe.give_to(self.socket.as_fd());
        self.writable = !is_blocked(&result);
        result
    }

    /// Makes the coming close a reset, so that the other side knows at once, unless bytes of ours are still on their way.
    pub fn abort(&mut self) {
        if sys::unsent(self.socket.as_fd()).is_ok_and(|count| count == 0) {
            let _ = SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
        }
    }
}

impl Read for Tcp {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if !self.readable {
            return would_block();
        }
        let result = again(|| self.socket.read(into));
        self.readable = !is_blocked(&result);
        result
    }
}

impl Write for Tcp {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(from)])
    }

    fn write_vectored(&mut self, from: &[IoSlice<'_>]) -> io::Result<usize> {
        if !self.writable {
            return would_block();
        }
        let result = again(|| self.socket.write_vectored(from));
        self.writable = !is_blocked(&result);
        result
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Tcp {
    fn fill(&mut self, into: &mut Buffer) -> io::Result<usize> {
        let count = self.read(into.room(1))?;
        into.advance(count);
        Ok(count)
    }

    fn drain(&mut self, from: &mut Buffer) -> io::Result<usize> {
        match self.write(from.bytes())? {
            0 => would_block(),
            count => {
                from.consume(count);
                Ok(count)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        match self.socket.shutdown(Shutdown::Write) {
            // The other side has gone already; the reading direction will tell.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            result => result,
        }
    }

    fn bare(&mut self) -> Option<&mut Tcp> {
        Some(self)
    }
}

/// Listens on `at`. Accepted sockets inherit no-delay and keep-alive, so accepting costs one system call.
pub fn listen(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&keepalive())?;
    if at.is_ipv6() {
        socket.set_only_v6(at.ip() != IpAddr::V6(Ipv6Addr::UNSPECIFIED))?;
    }
    socket.bind(&at.into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// An IPv4 address that came in through an IPv6 socket, as the IPv4 address that it is.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn keepalive() -> TcpKeepalive {
    TcpKeepalive::new().with_time(KEEPALIVE_AFTER)
}

fn is_blocked(result: &io::Result<usize>) -> bool {
    matches!(result, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

fn again(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 4096;
/// A silent connection is asked whether it still lives after this long; how often then is the system's choice.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);
