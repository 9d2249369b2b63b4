//! The path from a client to its server: carries TCP and UDP by way of this program, which delays, loses, narrows, silences and cuts it,
//! and moves it to another address.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicU8, Ordering};
use std::sync::mpsc::{channel, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::dice::Dice;

/// How what is carried fares.
#[derive(Default)]
pub struct Path {
    /// Nothing goes through, and nothing is lost of TCP.
    pub silent: AtomicBool,
    /// Each piece waits so many milliseconds.
    pub delay: AtomicU64,
    /// So many datagrams of a thousand are lost.
    pub loss: AtomicU64,
    /// Larger datagrams are lost; 0 is no limit.
    pub largest: AtomicU64,
    /// The last byte of the address from which the server is reached.
    pub source: AtomicU8,
    living: Mutex<Vec<TcpStream>>,
}

impl Path {
    /// A path from `at` to `server`.
    pub fn new(at: SocketAddr, server: SocketAddr) -> Arc<Path> {
        let path = Arc::new(Path::default());
        path.source.store(1, Ordering::SeqCst);
        let listener = TcpListener::bind(at).expect("a listener of the path");
        let socket = Arc::new(UdpSocket::bind(at).expect("a socket of the path"));
        let (tcp, udp) = (path.clone(), path.clone());
        thread::spawn(move || {
            for local in listener.incoming().flatten() {
                let path = tcp.clone();
                thread::spawn(move || path.carry(local, server));
            }
        });
        let (late, due) = channel();
        thread::spawn(move || send_when_due(&due));
        thread::spawn(move || udp.carry_datagrams(&socket, server, &late));
        path
    }

    /// All is well again.
    pub fn heal(&self) {
        self.silent.store(false, Ordering::SeqCst);
        for fate in [&self.delay, &self.loss, &self.largest] {
            fate.store(0, Ordering::SeqCst);
        }
    }

    /// Ends every TCP connection.
    pub fn cut(&self) {
        for stream in self.living.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn source(&self) -> SocketAddr {
        SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, self.source.load(Ordering::SeqCst)), 0).into()
    }

    fn carry(self: &Arc<Path>, local: TcpStream, server: SocketAddr) {
        let Ok(remote) = dial(self.source(), server) else { return };
        let _ = (local.set_nodelay(true), remote.set_nodelay(true));
        let copies = (local.try_clone(), remote.try_clone(), local.try_clone(), remote.try_clone());
        let (Ok(from), Ok(to), Ok(one), Ok(other)) = copies else { return };
        self.living.lock().unwrap().extend([one, other]);
        let back = self.clone();
        let backward = thread::spawn(move || back.pump(remote, local));
        self.pump(from, to);
        let _ = backward.join();
        // What is over is not kept: a socket that is shut down for good has no peer.
        self.living.lock().unwrap().retain(|stream| stream.peer_addr().is_ok());
    }

    fn pump(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut piece = vec![0; 64 * 1024];
        loop {
            let count = match from.read(&mut piece) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => {
                    // A reset stays one, as far as a path can say so.
                    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
                    return;
                }
            };
            self.wait();
            if count == 0 {
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
            if to.write_all(&piece[..count]).is_err() {
                let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
                return;
            }
        }
    }

    fn wait(&self) {
        thread::sleep(Duration::from_millis(self.delay.load(Ordering::SeqCst)));
        while self.silent.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn carry_datagrams(self: &Arc<Path>, front: &Arc<UdpSocket>, server: SocketAddr, late: &Sender<Late>) {
        let mut sockets: HashMap<(SocketAddr, u8), Arc<UdpSocket>> = HashMap::new();
        let (mut packet, mut dice) = (vec![0; 65536], Dice::new(7));
        loop {
            let Ok((count, client)) = front.recv_from(&mut packet) else { continue };
            let source = self.source.load(Ordering::SeqCst);
            if sockets.len() > MAX_SOCKETS {
                sockets.clear();
            }
            let back = sockets.entry((client, source)).or_insert_with(|| {
                let back = Arc::new(UdpSocket::bind(self.source()).expect("a socket of the path"));
                back.connect(server).expect("a UDP socket has no peer that refuses");
                back.set_read_timeout(Some(LOOK)).expect("a timeout");
                let (path, from, front, late) = (self.clone(), back.clone(), front.clone(), late.clone());
                thread::spawn(move || path.answer(&from, &front, client, &late));
                back
            });
            self.pass(&packet[..count], back, None, &mut dice, late);
        }
    }

    /// Carries answers, as long as the socket is kept for the client.
    fn answer(&self, from: &Arc<UdpSocket>, front: &Arc<UdpSocket>, client: SocketAddr, late: &Sender<Late>) {
        let (mut packet, mut dice) = (vec![0; 65536], Dice::new(11));
        while Arc::strong_count(from) > 1 {
            match from.recv(&mut packet) {
                Ok(count) => self.pass(&packet[..count], front, Some(client), &mut dice, late),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // The server's port is closed for the moment.
                Err(_) => thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    /// A datagram's fate.
    fn pass(&self, packet: &[u8], by: &Arc<UdpSocket>, to: Option<SocketAddr>, dice: &mut Dice, late: &Sender<Late>) {
        let largest = self.largest.load(Ordering::SeqCst) as usize;
        let lost = dice.next() % 1000 < self.loss.load(Ordering::SeqCst) || self.silent.load(Ordering::SeqCst);
        if lost || (largest != 0 && packet.len() > largest) {
            return;
        }
        match self.delay.load(Ordering::SeqCst) {
            0 => send(packet, by, to),
            delay => {
                let due = Instant::now() + Duration::from_millis(delay);
                let _ = late.send(Late { due, packet: packet.to_vec(), by: by.clone(), to });
            }
        }
    }
}

/// A datagram that is under way on a slow path.
struct Late {
    due: Instant,
    packet: Vec<u8>,
    by: Arc<UdpSocket>,
    /// None: to the socket's peer.
    to: Option<SocketAddr>,
}

fn send_when_due(late: &Receiver<Late>) {
    for late in late {
        thread::sleep(late.due.saturating_duration_since(Instant::now()));
        send(&late.packet, &late.by, late.to);
    }
}

fn send(packet: &[u8], by: &UdpSocket, to: Option<SocketAddr>) {
    let _ = match to {
        Some(to) => by.send_to(packet, to),
        None => by.send(packet),
    };
}

fn dial(from: SocketAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.bind(&from.into())?;
    socket.connect(&to.into())?;
    Ok(socket.into())
}

/// Addresses of clients, old ones included, for which a socket is kept.
const MAX_SOCKETS: usize = 512;
/// How often a thread looks whether its socket is still kept.
const LOOK: Duration = Duration::from_secs(1);
