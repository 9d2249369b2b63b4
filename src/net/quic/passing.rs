//! Packets that come to the process that has the port now, and whose connections are in one before it.
//!
//! ```text
//!   the port --packet of no connection here--> Older ==== pipe ====> Younger --> as if it had come to the port
//!                                              (this process)        (one before)
//! ```
//!
//! A pipe keeps packets apart and holds a few hundred; what finds no room is lost, as it would be in the network. Which process a
//! connection is in is not known: each gets a copy, and leaves alone what is not its own.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, OwnedFd};

use mio::unix::pipe::Receiver;
use mio::{Interest, Registry, Token};

/// The processes before this one that may have a packet's connection.
#[derive(Debug, Default)]
pub struct Older(Vec<File>);

impl Older {
    /// By these pipes, the oldest process's first.
    pub fn new(pipes: Vec<OwnedFd>) -> Older {
        let spare = pipes.len().saturating_sub(MAX_OLDER);
        Older(pipes.into_iter().skip(spare).map(File::from).collect())
    }

    /// Passes a packet on; whether there is anybody to pass it on to. Those who have gone are forgotten.
    pub fn pass(&mut self, from: SocketAddr, to: SocketAddr, packet: &[u8]) -> bool {
        if self.0.is_empty() || packet.len() > MAX_PACKET {
            return false;
        }
        let frame = [&encoded(from)[..], &encoded(to)[..], packet].concat();
        self.0.retain(|mut pipe| match pipe.write(&frame) {
            Ok(_) => true,
            Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        });
        !self.0.is_empty()
    }

    /// The same pipes, for the process that comes after this one.
    pub fn copies(&self) -> impl Iterator<Item = io::Result<OwnedFd>> + '_ {
        self.0.iter().map(|pipe| pipe.as_fd().try_clone_to_owned())
    }
}

/// Packets that the process after this one passes on.
#[derive(Debug)]
pub struct Younger(Receiver);

impl Younger {
    /// By this pipe, registered under `token`.
    pub fn new(pipe: OwnedFd, registry: &Registry, token: Token) -> io::Result<Younger> {
        let mut pipe = Receiver::from(pipe);
        registry.register(&mut pipe, token, Interest::READABLE)?;
        Ok(Younger(pipe))
    }

    /// The next packet in `room`: its sender, where it was sent to, its length. `Ok(None)`: nobody passes any on any more.
    pub fn next(&mut self, room: &mut [u8; FRAME]) -> io::Result<Option<(SocketAddr, SocketAddr, usize)>> {
        loop {
            let len = match self.0.read(room) {
                Ok(0) => return Ok(None),
                Ok(len) => len,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let Some(len) = len.checked_sub(HEAD) else { continue };
            let (Some(from), Some(to)) = (decoded(&room[..ADDRESS]), decoded(&room[ADDRESS..HEAD])) else { continue };
            room.copy_within(HEAD..HEAD + len, 0);
            return Ok(Some((from, to, len)));
        }
    }
}

/// An address in few bytes: 4 or 6, the IP address, the scope, the port.
fn encoded(address: SocketAddr) -> [u8; ADDRESS] {
    let (kind, ip, scope) = match address {
        SocketAddr::V4(v4) => (4, v4.ip().to_ipv6_mapped(), 0),
        SocketAddr::V6(v6) => (6, *v6.ip(), v6.scope_id()),
    };
    let mut bytes = [kind; ADDRESS];
    bytes[1..17].copy_from_slice(&ip.octets());
    bytes[17..21].copy_from_slice(&scope.to_be_bytes());
    bytes[21..].copy_from_slice(&address.port().to_be_bytes());
    bytes
}

fn decoded(bytes: &[u8]) -> Option<SocketAddr> {
    let (kind, rest) = bytes.split_first()?;
    let (ip, rest) = rest.split_first_chunk::<16>()?;
    let (scope, rest) = rest.split_first_chunk::<4>()?;
    let (ip, port) = (Ipv6Addr::from(*ip), u16::from_be_bytes(rest.try_into().ok()?));
    Some(match kind {
        4 => SocketAddr::new(IpAddr::V4(ip.to_ipv4_mapped()?), port),
        _ => SocketAddrV6::new(ip, port, 0, u32::from_be_bytes(*scope)).into(),
    })
}

/// Processes before this one that get packets: more than one, if users stay while set-ups change again and again.
const MAX_OLDER: usize = 8;
/// Bytes of an address.
const ADDRESS: usize = 23;
/// Bytes before a packet.
const HEAD: usize = 2 * ADDRESS;
/// Bytes of the largest packet that is passed on.
const MAX_PACKET: usize = 2048;
/// Bytes of a packet and what is before it.
pub const FRAME: usize = HEAD + MAX_PACKET;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::sys::packet_pipe;
    use mio::Poll;

    fn addresses() -> [SocketAddr; 3] {
        ["192.0.2.1:7", "[2001:db8::7]:8", "[fe80::1%3]:9"].map(|text| text.parse().unwrap())
    }

    #[test]
    fn packets_are_passed_on_one_by_one_with_their_addresses_until_nobody_is_there() {
        let poll = Poll::new().unwrap();
        let (reader, writer) = packet_pipe().unwrap();
        let mut younger = Younger::new(reader, poll.registry(), Token(1)).unwrap();
        let mut older = Older::new(vec![writer]);
        let mut room = [0; FRAME];
        for (n, from) in addresses().into_iter().enumerate() {
            let to = addresses()[(n + 1) % 3];
            assert!(older.pass(from, to, &[7; 1200]) && older.pass(to, from, b"short"));
            assert_eq!(younger.next(&mut room).unwrap(), Some((from, to, 1200)));
            assert_eq!(room[..1200], [7; 1200]);
            assert_eq!(younger.next(&mut room).unwrap(), Some((to, from, 5)));
            assert_eq!(&room[..5], b"short");
            assert_eq!(younger.next(&mut room).unwrap_err().kind(), ErrorKind::WouldBlock);
        }
        let copies: Vec<OwnedFd> = older.copies().map(Result::unwrap).collect();
        drop(older);
        assert_eq!(younger.next(&mut room).unwrap_err().kind(), ErrorKind::WouldBlock);
        let mut older = Older::new(copies);
        // What finds no room is lost, and the way stays.
        assert!((0..2000).all(|_| older.pass(addresses()[0], addresses()[0], &[1; 1200])));
        let held = std::iter::from_fn(|| younger.next(&mut room).ok()).count();
        assert!((16..2000).contains(&held), "{held}");
        drop(younger);
        assert!(!older.pass(addresses()[0], addresses()[0], b"x"), "it has gone");
        assert!(!Older::default().pass(addresses()[0], addresses()[0], b"x"));
    }

    #[test]
    fn when_the_process_that_has_the_port_is_gone_that_is_told() {
        let poll = Poll::new().unwrap();
        let (reader, writer) = packet_pipe().unwrap();
        let mut younger = Younger::new(reader, poll.registry(), Token(1)).unwrap();
        drop(writer);
        assert_eq!(younger.next(&mut [0; FRAME]).unwrap(), None);
    }
}
