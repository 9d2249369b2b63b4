//! A question to a DNS server on a socket of its own: over UDP, where the system chooses a port that cannot be guessed, or over TCP.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use mio::net::{TcpStream, UdpSocket};
use mio::{Interest, Registry, Token};

use crate::error::Cause;

/// A question under way.
pub struct Exchange {
    socket: Socket,
    /// Where a message is read into.
    message: Vec<u8>,
}

enum Socket {
    /// Connected: what other addresses send does not arrive.
    Udp(UdpSocket),
    /// With each message's length before it. What is still to be sent; bytes of the answer that have come.
    Tcp { stream: TcpStream, out: Vec<u8>, come: usize },
}

impl Exchange {
    /// Asks over UDP.
    pub fn udp(server: SocketAddr, question: &[u8], registry: &Registry, token: Token) -> io::Result<Exchange> {
        let mut socket = UdpSocket::bind((any_like(server.ip()), 0).into())?;
        socket.connect(server)?;
        registry.register(&mut socket, token, Interest::READABLE)?;
        socket.send(question)?;
        Ok(Exchange { socket: Socket::Udp(socket), message: vec![0; MAX_DATAGRAM] })
    }

    /// Asks over TCP.
    pub fn tcp(server: SocketAddr, question: &[u8], registry: &Registry, token: Token) -> io::Result<Exchange> {
        let mut stream = TcpStream::connect(server)?;
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        let length = u16::try_from(question.len()).map_err(|_| ErrorKind::InvalidInput)?;
        let out = [&length.to_be_bytes()[..], question].concat();
        Ok(Exchange { socket: Socket::Tcp { stream, out, come: 0 }, message: vec![0; 2 + MAX_STREAMED] })
    }

    /// A message that has come, until `None`: then an edge is awaited. The error is the end of it.
    pub fn receive(&mut self) -> Result<Option<&[u8]>, Cause> {
        let received = match &mut self.socket {
            Socket::Udp(socket) => socket.recv(&mut self.message).map(|length| 0..length),
            Socket::Tcp { stream, out, come } => send(stream, out).and_then(|()| read(stream, &mut self.message, come)),
        };
        match received {
            Ok(range) => Ok(self.message.get(range)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Sends what is left, as soon as there is a connection.
fn send(stream: &mut TcpStream, out: &mut Vec<u8>) -> io::Result<()> {
    while !out.is_empty() {
        match stream.write(out) {
            Ok(sent) => drop(out.drain(..sent)),
            Err(error) if error.kind() == ErrorKind::NotConnected => match stream.take_error()? {
                Some(error) => return Err(error),
                None => return Err(ErrorKind::WouldBlock.into()),
            },
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads on; where the message is, once it is whole.
fn read(stream: &mut TcpStream, message: &mut [u8], come: &mut usize) -> io::Result<std::ops::Range<usize>> {
    loop {
        let length = match message[..*come] {
            [high, low, ..] => usize::from(u16::from_be_bytes([high, low])),
            _ => 0,
        };
        let whole = 2 + length;
        if *come >= 2 && *come >= whole {
            *come = 0;
            return Ok(2..whole);
        }
        let room = message.get_mut(*come..whole).ok_or_else(|| io::Error::other(TOO_LONG))?;
        match stream.read(room)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            read => *come += read,
        }
    }
}

/// Addresses in the order in which they are to be tried: IPv6 before IPv4, and those without a route last.
pub fn in_order(mut addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let has_route = |ip: IpAddr| {
        // Nothing is sent.
        std::net::UdpSocket::bind((any_like(ip), 0)).and_then(|socket| socket.connect((ip, DISCARD))).is_ok()
    };
    addresses.sort_by_cached_key(|ip| (!has_route(*ip), ip.is_ipv4()));
    addresses
}

/// Any address of this machine, of the same family.
fn any_like(ip: IpAddr) -> IpAddr {
    if ip.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    }
}

const TOO_LONG: &str = "its answer is too long";
/// Bytes of a datagram that are read: more than without an extension may come.
const MAX_DATAGRAM: usize = 1500;
/// Most bytes of an answer over TCP.
const MAX_STREAMED: usize = 16 * 1024;
/// A port to look for a route with.
const DISCARD: u16 = 9;

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::time::Duration;

    use mio::{Events, Poll};

    /// What comes of it once there is something.
    fn outcome(exchange: &mut Exchange, poll: &mut Poll) -> Result<Vec<u8>, Cause> {
        let mut events = Events::with_capacity(8);
        loop {
            if let Some(message) = exchange.receive()? {
                return Ok(message.to_vec());
            }
            poll.poll(&mut events, Some(GRACE)).unwrap();
            assert!(!events.is_empty(), "no edge came");
        }
    }

    #[test]
    fn over_udp_only_the_server_is_heard() {
        let [server, stranger] = [0; 2].map(|_| std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
        let mut poll = Poll::new().unwrap();
        let at = server.local_addr().unwrap();
        let mut exchange = Exchange::udp(at, b"question", poll.registry(), Token(0)).unwrap();
        let mut message = [0; 100];
        let (length, from) = server.recv_from(&mut message).unwrap();
        assert_eq!(&message[..length], b"question");
        stranger.send_to(b"lie", from).unwrap();
        server.send_to(b"answer", from).unwrap();
        server.send_to(b"another", from).unwrap();
        assert_eq!(outcome(&mut exchange, &mut poll).unwrap(), b"answer");
        assert_eq!(outcome(&mut exchange, &mut poll).unwrap(), b"another");
        assert!(matches!(exchange.receive(), Ok(None)));
    }

    #[test]
    fn over_tcp_messages_have_their_length_in_whatever_pieces_they_come() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut poll = Poll::new().unwrap();
        let mut exchange =
            Exchange::tcp(listener.local_addr().unwrap(), b"question", poll.registry(), Token(0)).unwrap();
        assert!(exchange.receive().is_ok());
        let mut stream = listener.accept().unwrap().0;
        stream.set_read_timeout(Some(GRACE)).unwrap();
        let server = std::thread::spawn(move || {
            let mut message = [0; 10];
            stream.read_exact(&mut message).unwrap();
            assert_eq!(&message, b"\0\x08question");
            stream.set_nodelay(true).unwrap();
            for piece in [&b"\0"[..], b"\x06", b"ans", b"wer"] {
                stream.write_all(piece).unwrap();
            }
            stream.write_all(&[0xff, 0xff]).unwrap();
            stream
        });
        assert_eq!(outcome(&mut exchange, &mut poll).unwrap(), b"answer");
        let told = outcome(&mut exchange, &mut poll).unwrap_err();
        assert_eq!(told.to_string(), TOO_LONG);
        drop(server.join().unwrap());
    }

    #[test]
    fn the_end_of_a_server_is_the_end_of_its_question() {
        let poll = &mut Poll::new().unwrap();
        let held = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        held.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let at = held.local_addr().unwrap().as_socket().unwrap();
        let refused = Exchange::tcp(at, b"question", poll.registry(), Token(0));
        let refused = refused.map_err(Cause::from).and_then(|mut exchange| outcome(&mut exchange, poll)).unwrap_err();
        assert!(refused.to_string().contains("refused"), "{refused}");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let mut exchange = Exchange::tcp(at, b"question", poll.registry(), Token(1)).unwrap();
        drop(listener.accept().unwrap());
        assert!(outcome(&mut exchange, poll).is_err());
    }

    #[test]
    fn addresses_without_a_route_come_last() {
        let loopback: Vec<IpAddr> = ["127.0.0.1", "::1"].map(|ip| ip.parse().unwrap()).to_vec();
        let nowhere: IpAddr = "fe80::1".parse().unwrap();
        let order = in_order([&[nowhere], &loopback[..]].concat());
        assert_eq!(order.last(), Some(&nowhere), "{order:?}");
    }

    /// Far longer than anything here takes.
    const GRACE: Duration = Duration::from_secs(20);
}
