//! Connections that may be waited for: a check is a command, and has nothing else to do meanwhile.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ClientConfig, ClientConnection, StreamOwned};
use socket2::{Domain, Protocol, Socket, Type};

use crate::error::{Cause, Error};
use crate::logic::local_end::LocalEnd;
use crate::logic::proxy::{parse_answer, Answer};
use crate::net::bind;
use crate::net::certs::server_name;

/// A connection, with or without TLS.
pub enum Connection {
    /// Bare.
    Plain(TcpStream),
    /// With TLS, after its handshake.
    Secure(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// Connects within this time, and says how long it took.
pub fn connect(to: SocketAddr, from: Option<&LocalEnd>, timeout: Duration) -> io::Result<(TcpStream, Duration)> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM.cloexec(), Some(Protocol::TCP))?;
    if let Some(from) = from {
        bind::bind(&socket, from, to)?;
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

/// How one address of a server is reached: by itself, or through the proxy that has this address.
#[derive(Clone)]
pub struct Hop {
    /// Whom to connect to.
    pub at: SocketAddr,
    /// Where the connection begins on this machine, if that is said.
    pub from: Option<LocalEnd>,
    /// What the proxy is asked, credentials included.
    pub via: Option<Vec<u8>>,
    /// How long each step is waited for.
    pub timeout: Duration,
}

impl Hop {
    /// A connection to the server, and how long it took.
    pub fn open(&self) -> Result<(TcpStream, Duration), Error> {
        let begin = Instant::now();
        let Some(request) = &self.via else {
            return self.connect().map_err(|error| unreachable(self.at, error, self.timeout));
        };
        let failed = |error| Error::proxy(cause(error, self.timeout));
        let connected = self.connect().map_err(failed).and_then(|(mut stream, _)| {
            stream.write_all(request).map_err(failed)?;
            proxied(&mut stream).unwrap_or_else(|error| Err(failed(error)))?;
            Ok(stream)
        });
        connected.map(|stream| (stream, begin.elapsed())).map_err(|error| error.about(self.at.to_string()))
    }

    fn connect(&self) -> io::Result<(TcpStream, Duration)> {
        connect(self.at, self.from.as_ref(), self.timeout)
    }
}

/// Reads a proxy's answer a byte at a time, as what follows it is the server's.
fn proxied(stream: &mut TcpStream) -> io::Result<Result<(), Error>> {
    let (mut answer, mut byte) = (Vec::new(), [0]);
    loop {
        if stream.read(&mut byte)? == 0 {
            return Ok(Err(Error::proxy("it closed the connection without an answer")));
        }
        answer.extend_from_slice(&byte);
        match parse_answer(&answer) {
            Answer::NeedMore => {}
            Answer::Done(_) => return Ok(Ok(())),
            Answer::Bad(error) => return Ok(Err(error)),
        }
    }
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
    Error::unreachable(at.to_string(), cause(error, timeout))
}

fn cause(error: io::Error, timeout: Duration) -> Cause {
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Cause::Timeout(timeout),
        _ => error.into(),
    }
}

/// Bytes that are read at a time.
const PART: usize = 4096;
