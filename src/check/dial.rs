//! Connections that may be waited for: a check is a command, and has nothing else to do meanwhile.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ClientConfig, ClientConnection, StreamOwned};
use socket2::{Domain, Protocol, Socket, Type};

use crate::error::Error;
use crate::net::certs::server_name;

/// A connection, with or without TLS.
pub enum Connection {
    /// Bare.
    Plain(TcpStream),
    /// With TLS, after its handshake.
    Secure(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// Connects within this time, and says how long it took.
pub fn connect(to: SocketAddr, from: Option<IpAddr>, timeout: Duration) -> io::Result<(TcpStream, Duration)> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM.cloexec(), Some(Protocol::TCP))?;
    if let Some(from) = from.filter(|from| from.is_ipv4() == to.is_ipv4()) {
        socket.bind(&SocketAddr::new(from, 0).into())?;
    }
    let begin = Instant::now();
    socket.connect_timeout(&to.into(), timeout)?;
    let time = begin.elapsed();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    stream.set_nodelay(true)?;
    Ok((stream, time))
}

/// Makes TLS of a connection. The error says what is wrong with it.
pub fn secure(stream: TcpStream, config: Arc<ClientConfig>, name: &str) -> Result<Connection, io::Error> {
    let connection = ClientConnection::new(config, server_name(name)?).map_err(io::Error::other)?;
    let mut secure = Box::new(StreamOwned::new(connection, stream));
    while secure.conn.is_handshaking() {
        secure.conn.complete_io(&mut secure.sock)?;
    }
    Ok(Connection::Secure(secure))
}

/// All that is said until the end, an error, or so many bytes: what came before an error counts.
pub fn read_all(from: &mut impl Read, most: usize) -> (Vec<u8>, Option<io::Error>) {
    let mut bytes = Vec::new();
    let mut part = [0; PART];
    while bytes.len() < most {
        let room = part.len().min(most - bytes.len());
        match from.read(&mut part[..room]) {
            Ok(0) => return (bytes, None),
            Ok(count) => bytes.extend_from_slice(&part[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (bytes, Some(error)),
        }
    }
    (bytes, None)
}

impl Read for Connection {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Connection::Plain(stream) => stream.read(into),
            Connection::Secure(stream) => stream.read(into),
        }
    }
}

impl Write for Connection {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        match self {
            Connection::Plain(stream) => stream.write(from),
            Connection::Secure(stream) => stream.write(from),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Connection::Plain(stream) => stream.flush(),
            Connection::Secure(stream) => stream.flush(),
        }
    }
}

/// Why an address does not answer, in the words of the rest of the program.
pub fn unreachable(at: impl ToString, error: io::Error, timeout: Duration) -> Error {
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
            Error::unreachable(at.to_string(), crate::error::Cause::Timeout(timeout))
        }
        _ => Error::unreachable(at.to_string(), error),
    }
}

/// Bytes that are read at a time.
const PART: usize = 4096;
