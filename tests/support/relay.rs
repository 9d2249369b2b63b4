//! A path to a server that leads through the test, so that it can be narrow, closed, or of another address: TCP and UDP on one port.

use super::free_addr;
use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::thread::spawn;

use socket2::{Domain, SockRef, Socket, Type};

/// What is about to pass.
pub struct Piece {
    /// A datagram, not a part of a connection.
    pub udp: bool,
    /// In which direction it goes.
    pub to_server: bool,
    /// Bytes.
    pub len: usize,
}

/// Whether a piece passes, after as long a wait as it likes. A datagram that does not is lost, a connection cut.
type Gate = dyn Fn(Piece) -> bool + Send + Sync;

/// A path to `server`, past `gate`: where clients find it.
pub fn path_past(server: SocketAddr, gate: impl Fn(Piece) -> bool + Send + Sync + 'static) -> SocketAddr {
    path(server, Ipv4Addr::LOCALHOST, Arc::new(gate))
}

/// A path to `server` that ends in another address of this machine: where clients find it.
pub fn path_from(source: Ipv4Addr, server: SocketAddr) -> SocketAddr {
    path(server, source, Arc::new(|_| true))
}

fn path(server: SocketAddr, source: Ipv4Addr, gate: Arc<Gate>) -> SocketAddr {
    let at = free_addr();
    let (listener, port) = (TcpListener::bind(at).expect("a listener"), UdpSocket::bind(at).expect("a port"));
    // Short queues here: what does not pass stays with the sender.
    let short = |socket: SockRef| socket.set_recv_buffer_size(1 << 16).expect("a small buffer");
    short((&listener).into());
    let passes = gate.clone();
    spawn(move || datagrams(&port, server, source, &passes));
    spawn(move || {
        for client in listener.incoming().flatten() {
            let onward = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            onward.bind(&SocketAddr::from((source, 0)).into()).expect("an address of this machine");
            if onward.connect(&server.into()).is_err() {
                continue;
            }
            let onward = TcpStream::from(onward);
            short((&onward).into());
            for (from, to, to_server) in [(&client, &onward, true), (&onward, &client, false)] {
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
fn datagrams(port: &UdpSocket, server: SocketAddr, source: Ipv4Addr, gate: &Arc<Gate>) {
    let mut sockets: HashMap<SocketAddr, UdpSocket> = HashMap::new();
    let mut packet = [0; 65536];
    while let Ok((len, from)) = port.recv_from(&mut packet) {
        if !gate(Piece { udp: true, to_server: true, len }) {
            continue;
        }
        let socket = sockets.entry(from).or_insert_with(|| {
            let socket = UdpSocket::bind((source, 0)).expect("a socket");
            socket.connect(server).expect("an address");
            let (back, port, gate) = (socket.try_clone().unwrap(), port.try_clone().unwrap(), Arc::clone(gate));
            spawn(move || {
                let mut packet = [0; 65536];
                loop {
                    let len = match back.recv(&mut packet) {
                        Ok(len) => len,
                        // The server is away at the moment.
                        Err(error) if error.kind() == ErrorKind::ConnectionRefused => continue,
                        Err(_) => return,
                    };
                    if gate(Piece { udp: true, to_server: false, len }) {
                        let _ = port.send_to(&packet[..len], from);
                    }
                }
            });
            socket
        });
        let _ = socket.send(&packet[..len]);
    }
}
