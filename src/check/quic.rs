//! Whether QUIC gets to a server, and in packets of which size: to a version that does not exist a server says which ones do
//! (RFC 9000, 6), and keeps nothing. A server of this program answers only addresses that it expects a client from.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::logic::local_end::LocalEnd;
use crate::net::{bind, mtu};

/// What became of datagrams to a server's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quic {
    /// It answers, and packets with so many bytes of UDP payload arrive whole.
    Answers(usize),
    /// The machine there says that nothing listens.
    Refused,
    /// Nothing comes back.
    Silent,
}

/// Asks.
pub fn look(at: SocketAddr, from: Option<&LocalEnd>) -> Quic {
    let Ok(socket) = socket_to(at, from) else { return Quic::Silent };
    match asked(&socket, SMALLEST, TRIES) {
        Quic::Answers(size) => Quic::Answers(largest(&socket, at).unwrap_or(size)),
        other => other,
    }
}

fn socket_to(at: SocketAddr, from: Option<&LocalEnd>) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(at), Type::DGRAM.cloexec(), Some(Protocol::UDP))?;
    if let Some(from) = from {
        bind::bind(&socket, from, at)?;
    }
    let socket = UdpSocket::from(socket);
    // A packet that is cut on its way would say nothing of the path.
    mtu::probe_path_size(socket.as_fd(), at.is_ipv6())?;
    socket.connect(at)?;
    socket.set_read_timeout(Some(ANSWER))?;
    Ok(socket)
}

/// The largest of the usual sizes that arrives, the smallest of all apart.
fn largest(socket: &UdpSocket, at: SocketAddr) -> Option<usize> {
    let most = mtu::largest_to(at, None).unwrap_or(SIZES[0]);
    let sizes = SIZES.into_iter().filter(|size| *size <= most);
    sizes.into_iter().find(|size| matches!(asked(socket, *size, SIZE_TRIES), Quic::Answers(_)))
}

/// Asks with a packet of this size.
fn asked(socket: &UdpSocket, size: usize, tries: usize) -> Quic {
    let mut packet = vec![0; size];
    packet[..HEAD.len()].copy_from_slice(&HEAD);
    // Answers to other sizes may still be on their way: the id that comes back says which one it is to.
    let id = (size as u16).to_be_bytes();
    packet[SOURCE_ID..SOURCE_ID + id.len()].copy_from_slice(&id);
    for _ in 0..tries {
        if let Err(error) = socket.send(&packet) {
            match error.kind() {
                io::ErrorKind::ConnectionRefused => return Quic::Refused,
                // Too large for an interface.
                _ => return Quic::Silent,
            }
        }
        let mut answer = [0; 256];
        loop {
            match socket.recv(&mut answer) {
                Ok(count) if is_answer(&answer[..count], id) => return Quic::Answers(size),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Quic::Refused,
                Err(_) => break,
            }
        }
    }
    Quic::Silent
}

/// A long header with the version 0, to the id that was the sender's.
fn is_answer(packet: &[u8], id: [u8; 2]) -> bool {
    packet.len() >= 8 && packet[0] & 0x80 != 0 && packet[1..5] == [0; 4] && packet[6..8] == id
}

/// A long header, a version that is reserved for this (RFC 9000, 15), and two connection ids of 8 bytes.
const HEAD: [u8; 23] =
    [0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 8, b'c', b'h', b'e', b'c', b'k', 1, 2, 3, 8, b'c', b'h', b'e', b'c', b'k', 4, 5, 6];
/// Where the sender's id begins in it.
const SOURCE_ID: usize = 15;
/// Bytes of a datagram that every server answers, and every path of QUIC carries.
const SMALLEST: usize = 1200;
/// Bytes of UDP payload, from what Ethernet carries under IPv4 and IPv6 down to what tunnels leave.
const SIZES: [usize; 6] = [1472, 1452, 1420, 1392, 1350, 1280];
/// Datagrams are lost now and then.
const TRIES: usize = 3;
/// The same, where the next size is tried otherwise.
const SIZE_TRIES: usize = 2;
/// How long an answer to one is waited for.
const ANSWER: Duration = Duration::from_millis(700);

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that answers packets of at most so many bytes.
    fn server(most: usize) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let at = socket.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut packet = [0; 2048];
            while let Ok((count, from)) = socket.recv_from(&mut packet) {
                if count <= most {
                    let ids = [&[8], &packet[15..23], &[8], &packet[6..14]].concat();
                    let answer = [&[0x80, 0, 0, 0, 0], &ids[..], &[0, 0, 0, 1]].concat();
                    socket.send_to(&answer, from).unwrap();
                }
            }
        });
        at
    }

    #[test]
    fn the_largest_packet_that_is_answered_is_the_size_of_the_path() {
        assert_eq!(look(server(2048), None), Quic::Answers(1472));
        assert_eq!(look(server(1400), None), Quic::Answers(1392));
        assert_eq!(look(server(1250), None), Quic::Answers(1200));
    }

    #[test]
    fn silence_is_no_refusal() {
        let deaf = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(look(deaf.local_addr().unwrap(), None), Quic::Silent);
        let at = deaf.local_addr().unwrap();
        drop(deaf);
        assert_eq!(look(at, None), Quic::Refused);
    }
}
