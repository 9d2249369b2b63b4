//! From where on this machine a socket sends.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use socket2::Socket;

use crate::logic::local_end::LocalEnd;

/// Makes `socket` send to `to` from there, before it is connected.
pub fn bind(socket: &Socket, from: &LocalEnd, to: SocketAddr) -> io::Result<()> {
    match from {
        LocalEnd::Address(ip) => socket.bind(&source(*ip, to).into()),
        LocalEnd::Device(name) => bind_to_device(socket, name),
    }
}

/// Where to send from, to reach `to`: an address of one link is meant at the interface that leads there.
pub fn source(from: IpAddr, to: SocketAddr) -> SocketAddr {
    match (from, to) {
        (IpAddr::V6(ip), SocketAddr::V6(to)) => SocketAddrV6::new(ip, 0, 0, to.scope_id()).into(),
        _ => SocketAddr::new(from, 0),
    }
}

/// The kernel keeps the device, not its name: a socket of a device that goes does not come back with it.
#[cfg(target_os = "linux")]
fn bind_to_device(socket: &Socket, name: &str) -> io::Result<()> {
    socket.bind_device(Some(name.as_bytes()))
}

#[cfg(not(target_os = "linux"))]
fn bind_to_device(_: &Socket, _: &str) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "this system does not bind to a device by its name"))
}
