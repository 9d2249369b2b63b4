//! What the kernel knows of the packet size on a path. All sizes are bytes of UDP payload.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

use socket2::{Domain, Protocol, Type};

use super::bind::source;
use super::sys::{option, set_option};
use super::tcp::canonical;

/// Forbids routers to cut our packets, and the kernel to refuse those that are larger than it believes the path to be:
/// the search for the path's packet size needs both. Without effect where the system does not know that.
pub fn probe_path_size(socket: BorrowedFd<'_>, v6: bool) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    return match v6 {
        true => set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE),
        false => set_option(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE),
    };
    #[cfg(not(target_os = "linux"))]
    return Ok(drop((socket, v6)));
}

/// The largest packet that the kernel lets through to `peer`: by the interface that it leaves by, and by what routers have
/// said. `None` where the kernel does not say.
pub fn largest_to(peer: SocketAddr, from: Option<IpAddr>) -> Option<usize> {
    let peer = canonical(peer);
    let socket = socket2::Socket::new(Domain::for_address(peer), Type::DGRAM.cloexec(), Some(Protocol::UDP)).ok()?;
    if let Some(from) = from.map(|ip| ip.to_canonical()).filter(|ip| ip.is_ipv4() == peer.is_ipv4()) {
        // An address that has gone meanwhile says nothing of the path.
        let _ = socket.bind(&source(from, peer).into());
    }
    socket.connect(&peer.into()).ok()?;
    let (mtu, headers) = match peer.is_ipv6() {
        true => (option(socket.as_fd(), libc::IPPROTO_IPV6, IPV6_MTU).ok()?, HEADERS_V6),
        false => (option(socket.as_fd(), libc::IPPROTO_IP, IP_MTU).ok()?, HEADERS_V4),
    };
    usize::try_from(mtu).ok()?.checked_sub(headers)
}

/// The headers of IPv4 and UDP.
pub const HEADERS_V4: usize = 28;
/// The headers of IPv6 and UDP.
pub const HEADERS_V6: usize = 48;

#[cfg(target_os = "linux")]
use libc::{IPV6_MTU, IP_MTU};
/// Other systems know no such options: asking fails.
#[cfg(not(target_os = "linux"))]
const IP_MTU: libc::c_int = -1;
#[cfg(not(target_os = "linux"))]
const IPV6_MTU: libc::c_int = -1;
