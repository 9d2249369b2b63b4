//! Users, as hub and workers hand them to each other.

use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use mio::net::TcpStream;

use crate::net::udp::{Frames, UdpListener};

/// What a user speaks; a UDP user with the addresses that make the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proto {
    /// A TCP connection; its source, where it holds a place of that (`perip`).
    Tcp(Option<IpAddr>),
    /// A UDP session.
    Udp(SessionKey),
}

/// The source of datagrams, and which of our addresses they are for: what makes a UDP session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionKey {
    /// The user; at the egress, who the peer says it is.
    pub user: SocketAddr,
    /// The local address that was asked.
    pub asked: Option<IpAddr>,
}

impl Hash for SessionKey {
    /// In few words: each datagram's session is looked up. The first one says how many follow.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let asked = self.asked.map_or(0, |ip| 1 + u32::from(ip.is_ipv6()));
        state.write_u32(u32::from(self.user.port()) | u32::from(self.user.is_ipv6()) << 16 | asked << 17);
        for ip in [Some(self.user.ip()), self.asked].into_iter().flatten() {
            match ip {
                IpAddr::V4(ip) => state.write_u32(ip.into()),
                IpAddr::V6(ip) => {
                    let bits = u128::from(ip);
                    state.write_u64(bits as u64);
                    state.write_u64((bits >> 64) as u64);
                }
            }
        }
    }
}

/// A user at the ingress.
pub enum User {
    /// A TCP connection, its source, and what was read of it already.
    Tcp(TcpStream, SocketAddr, Said),
    /// A UDP session, with the datagrams that came before it had a connection, and how many it has had in vain.
    Udp(Arc<UdpListener>, SessionKey, Frames, u8),
}

/// What was read of a user whose pool connection turned out to be dead.
#[derive(Default)]
pub struct Said {
    /// Bytes: the first of the connection, or datagrams in frames.
    pub bytes: Vec<u8>,
    /// How many pool connections the user has had in vain.
    pub tries: u8,
}

impl User {
    /// The user's address.
    pub fn address(&self) -> SocketAddr {
        match self {
            User::Tcp(_, address, _) => *address,
            User::Udp(_, session, ..) => session.user,
        }
    }

    /// What the user speaks.
    pub fn proto(&self) -> Proto {
        match self {
            User::Tcp(_, from, _) => Proto::Tcp(Some(from.ip())),
            User::Udp(_, session, ..) => Proto::Udp(*session),
        }
    }
}
