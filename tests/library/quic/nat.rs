//! A NAT: clients talk to it, it talks to the server, and now and then it takes another address for that.

use std::net::{SocketAddr, UdpSocket};

use super::pair::HOME;

pub struct Nat {
    inside: UdpSocket,
    outside: UdpSocket,
    server: SocketAddr,
    client: Option<SocketAddr>,
    /// Packets that passed in each direction: to the server, to the client.
    pub passed: [usize; 2],
}

impl Nat {
    pub fn before(server: SocketAddr) -> Nat {
        Nat { inside: open(), outside: open(), server, client: None, passed: [0; 2] }
    }

    /// Where clients find it.
    pub fn address(&self) -> SocketAddr {
        self.inside.local_addr().unwrap()
    }

    /// Forgets the old mapping: what still comes for it is lost.
    pub fn rebind(&mut self) {
        self.outside = open();
    }

    /// What waits on its way to the server is lost: how many packets.
    pub fn lose(&mut self) -> usize {
        self.hold().len()
    }

    /// What waits on its way to the server is held up.
    pub fn hold(&mut self) -> Vec<Vec<u8>> {
        let mut packet = [0; 65536];
        std::iter::from_fn(|| self.inside.recv_from(&mut packet).ok().map(|(len, _)| packet[..len].to_vec())).collect()
    }

    /// Passes on what was held up.
    pub fn pass(&mut self, held: &[Vec<u8>]) {
        for packet in held {
            self.outside.send_to(packet, self.server).unwrap();
        }
    }

    /// Passes on what waits.
    pub fn pump(&mut self) {
        let mut packet = [0; 65536];
        while let Ok((len, from)) = self.inside.recv_from(&mut packet) {
            self.client = Some(from);
            self.outside.send_to(&packet[..len], self.server).unwrap();
            self.passed[0] += 1;
        }
        self.bring();
    }

    /// Passes on what waits on its way to the client.
    pub fn bring(&mut self) {
        let mut packet = [0; 65536];
        while let Ok(len) = self.outside.recv(&mut packet) {
            if let Some(client) = self.client {
                self.inside.send_to(&packet[..len], client).unwrap();
                self.passed[1] += 1;
            }
        }
    }
}

/// A socket that never waits.
pub fn open() -> UdpSocket {
    let socket = UdpSocket::bind((HOME, 0)).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}
