//! What users want to reach: an echo over TCP and UDP that may be away.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::Arc;
use std::thread;

/// An echo.
pub struct Target {
    /// It closes what comes, and answers no datagram.
    pub away: AtomicBool,
    /// Connections that it has.
    pub living: AtomicUsize,
}

impl Target {
    /// An echo at this address.
    pub fn new(at: SocketAddr) -> Arc<Target> {
        let target = Arc::new(Target { away: AtomicBool::new(false), living: AtomicUsize::new(0) });
        let listener = TcpListener::bind(at).expect("a listener of the target");
        let socket = UdpSocket::bind(at).expect("a socket of the target");
        let (tcp, udp) = (target.clone(), target.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let target = tcp.clone();
                thread::spawn(move || {
                    target.living.fetch_add(1, Ordering::SeqCst);
                    target.echo(stream);
                    target.living.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        thread::spawn(move || {
            let mut packet = vec![0; 65536];
            while let Ok((count, from)) = socket.recv_from(&mut packet) {
                if !udp.away.load(Ordering::SeqCst) {
                    let _ = socket.send_to(&packet[..count], from);
                }
            }
        });
        target
    }

    fn echo(&self, mut stream: TcpStream) {
        let mut piece = vec![0; 64 * 1024];
        let _ = stream.set_nodelay(true);
        while let Ok(count @ 1..) = stream.read(&mut piece) {
            if self.away.load(Ordering::SeqCst) || stream.write_all(&piece[..count]).is_err() {
                let _ = stream.shutdown(Shutdown::Both);
                return;
            }
        }
        let _ = stream.shutdown(Shutdown::Write);
    }
}
