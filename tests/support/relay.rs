//! A way to a server that leads through the test, so that it can be narrow or closed: TCP and UDP on one port.

use super::free_addr;
use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::thread::spawn;

/// What is about to pass.
pub struct Piece {
    /// A datagram, not a part of a connection.
    pub udp: bool,
    /// Which way it goes.
    pub to_server: bool,
    /// Bytes.
    pub len: usize,
}

/// Whether a piece passes, after as long a wait as it likes. A datagram that does not is lost, a connection cut.
type Gate = dyn Fn(Piece) -> bool + Send + Sync;

/// A way to `server`, past `gate`: where clients find it.
pub fn way_past(server: SocketAddr, gate: impl Fn(Piece) -> bool + Send + Sync + 'static) -> SocketAddr {
    let (at, gate): (_, Arc<Gate>) = (free_addr(), Arc::new(gate));
    let (doors, port) = (TcpListener::bind(at).expect("a listener"), UdpSocket::bind(at).expect("a port"));
    // Short queues here: what does not pass stays with the sender.
    let short = |socket: socket2::SockRef| socket.set_recv_buffer_size(1 << 16).expect("a small buffer");
    short((&doors).into());
    let passes = gate.clone();
    spawn(move || datagrams(&port, server, &passes));
    spawn(move || {
        for near in doors.incoming().flatten() {
            let Ok(far) = TcpStream::connect(server) else { continue };
            short((&far).into());
            for (from, to, to_server) in [(&near, &far, true), (&far, &near, false)] {
                let (from, to) = (from.try_clone().expect("a socket"), to.try_clone().expect("a socket"));
                let gate = gate.clone();
                spawn(move || carry(from, to, |len| gate(Piece { udp: false, to_server, len })));
            }
        }
    });
    at
}

fn carry(mut from: TcpStream, mut to: TcpStream, passes: impl Fn(usize) -> bool) {
    let mut piece = [0; 4096];
    while let Ok(len @ 1..) = from.read(&mut piece) {
        if !passes(len) || to.write_all(&piece[..len]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// Every client's datagrams go on from a socket of their own.
fn datagrams(port: &UdpSocket, server: SocketAddr, gate: &Arc<Gate>) {
    let mut ways: HashMap<SocketAddr, UdpSocket> = HashMap::new();
    let mut packet = [0; 65536];
    while let Ok((len, from)) = port.recv_from(&mut packet) {
        if !gate(Piece { udp: true, to_server: true, len }) {
            continue;
        }
        let way = ways.entry(from).or_insert_with(|| {
            let way = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
            way.connect(server).expect("an address");
            let (back, port, gate) = (way.try_clone().unwrap(), port.try_clone().unwrap(), Arc::clone(gate));
            spawn(move || {
                let mut packet = [0; 65536];
                loop {
                    let len = match back.recv(&mut packet) {
                        Ok(len) => len,
                        // Nobody is there at the moment.
                        Err(error) if error.kind() == ErrorKind::ConnectionRefused => continue,
                        Err(_) => return,
                    };
                    if gate(Piece { udp: true, to_server: false, len }) {
                        let _ = port.send_to(&packet[..len], from);
                    }
                }
            });
            way
        });
        let _ = way.send(&packet[..len]);
    }
}
