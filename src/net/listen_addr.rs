//! An address to listen at, and for which families.

use std::fmt;
use std::net::SocketAddr;

/// Where to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenAddr {
    /// The local address.
    pub address: SocketAddr,
    /// Both families: IPv4 users come in at the unspecified IPv6 address, too. Otherwise an IPv6 address leaves the IPv4 port to others.
    pub dual: bool,
}

impl From<SocketAddr> for ListenAddr {
    fn from(address: SocketAddr) -> ListenAddr {
        ListenAddr { address, dual: false }
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.address.fmt(f)
    }
}
