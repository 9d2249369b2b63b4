//! Listening sockets that this process has from the one before it. What listens at the address of one takes it instead of a new one. And
//! pipes, by which packets go back to processes before.

use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use socket2::{SockRef, Socket, Type};

use super::listen_addr::ListenAddr;

/// The sockets that nothing has taken.
#[derive(Debug, Default)]
pub struct Inherited {
    sockets: Mutex<Vec<Socket>>,
    pipes: Mutex<Vec<OwnedFd>>,
}

impl Inherited {
    /// These sockets and pipes.
    pub fn new(all: Vec<OwnedFd>) -> Inherited {
        let (sockets, pipes): (Vec<_>, Vec<_>) = all.into_iter().partition(|fd| SockRef::from(fd).r#type().is_ok());
        let sockets = sockets.into_iter().map(Socket::from).collect();
        Inherited { sockets: Mutex::new(sockets), pipes: Mutex::new(pipes) }
    }

    /// All pipes, in the order in which they were handed over.
    pub fn take_pipes(&self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.pipes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The socket of that type at that address and for the same families, if there is one.
    pub fn take(&self, at: ListenAddr, kind: Type) -> Option<Socket> {
        let mut sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        let found = sockets.iter().position(|socket| is_at(socket, at, kind))?;
        Some(sockets.swap_remove(found))
    }

    /// Closes what nothing has taken.
    pub fn close(&self) {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.take_pipes();
    }
}

fn is_at(socket: &Socket, ListenAddr { address, dual }: ListenAddr, kind: Type) -> bool {
    let local = socket.local_addr().ok().and_then(|local| local.as_socket());
    let families = || address.is_ipv4() || socket.only_v6().is_ok_and(|only| only != dual);
    local == Some(address) && socket.r#type().is_ok_and(|is| is == kind) && families()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{SocketAddr, TcpListener, UdpSocket};
    use std::os::fd::AsRawFd;

    #[test]
    fn pipes_are_told_from_sockets_and_taken_in_their_order() {
        let (reader, writer) = std::io::pipe().unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let at = ListenAddr::from(udp.local_addr().unwrap());
        let numbers = [reader.as_raw_fd(), writer.as_raw_fd()];
        let inherited = Inherited::new(vec![reader.into(), udp.into(), writer.into()]);
        assert_eq!(inherited.take_pipes().iter().map(AsRawFd::as_raw_fd).collect::<Vec<_>>(), numbers);
        assert!(inherited.take_pipes().is_empty() && inherited.take(at, Type::DGRAM).is_some());
    }

    #[test]
    fn a_socket_is_taken_once_by_what_listens_at_its_address() {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let (tcp, udp) = (TcpListener::bind(any).unwrap(), UdpSocket::bind(any).unwrap());
        let at = |address: std::io::Result<SocketAddr>| ListenAddr::from(address.unwrap());
        let (tcp_at, udp_at) = (at(tcp.local_addr()), at(udp.local_addr()));
        let inherited = Inherited::new(vec![tcp.into(), udp.into()]);
        assert!(inherited.take(tcp_at, Type::DGRAM).is_none() && inherited.take(udp_at, Type::STREAM).is_none());
        assert!(inherited.take(tcp_at, Type::STREAM).is_some());
        assert!(inherited.take(tcp_at, Type::STREAM).is_none(), "it is taken");
        inherited.close();
        assert!(inherited.take(udp_at, Type::DGRAM).is_none(), "it is closed");
        assert!(UdpSocket::bind(udp_at.address).is_ok());
    }
}
