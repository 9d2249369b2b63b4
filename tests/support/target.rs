//! Something to dial: TCP and UDP on one port, doing what the test says.

use super::{connect, eventually, free_port, is_closed, unforked, GRACE};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// What is done with a connection.
#[derive(Clone)]
enum Handler {
    /// This, on a thread of its own.
    Do(Arc<dyn Fn(TcpStream) + Send + Sync>),
    /// The test gets it.
    Hand(Sender<TcpStream>),
}

type Answerer = Arc<dyn Fn(&UdpSocket, &[u8], SocketAddr) + Send + Sync>;

/// A target: at first it echoes, TCP streams with their ends and UDP datagrams. Dropping it closes its listeners, not
/// its connections.
pub struct Target {
    addr: SocketAddr,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    handler: Mutex<Handler>,
    answerer: Mutex<Answerer>,
    accepted: AtomicUsize,
    datagrams: AtomicUsize,
    stop: AtomicBool,
}

impl Target {
    /// An echo on 127.0.0.1 and a free port.
    pub fn echo() -> Target {
        Target::at((IpAddr::V4(Ipv4Addr::LOCALHOST), free_port()).into())
    }

    /// An echo on this address.
    pub fn at(addr: SocketAddr) -> Target {
        let tcp = super::until(&format!("listening on {addr}"), GRACE, || TcpListener::bind(addr));
        let udp = super::until(&format!("listening on {addr}"), GRACE, || UdpSocket::bind(addr));
        let shared = Arc::new(Shared {
            handler: Mutex::new(Handler::Do(Arc::new(echo))),
            answerer: Mutex::new(Arc::new(|socket, data, from| {
                let _ = socket.send_to(data, from);
            })),
            accepted: AtomicUsize::new(0),
            datagrams: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        });
        let (for_tcp, for_udp) = (Arc::clone(&shared), Arc::clone(&shared));
        let threads =
            vec![std::thread::spawn(move || serve(tcp, &for_tcp)), std::thread::spawn(move || answer(udp, &for_udp))];
        Target { addr, shared, threads }
    }

    /// A target that does this with TCP connections.
    pub fn with(handler: impl Fn(TcpStream) + Send + Sync + 'static) -> Target {
        let target = Target::echo();
        target.handle(handler);
        target
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What it does with TCP connections from now on, each on a thread of its own.
    pub fn handle(&self, handler: impl Fn(TcpStream) + Send + Sync + 'static) {
        *self.shared.handler.lock().unwrap() = Handler::Do(Arc::new(handler));
    }

    /// What it does with datagrams from now on.
    pub fn answer(&self, answerer: impl Fn(&UdpSocket, &[u8], SocketAddr) + Send + Sync + 'static) {
        *self.shared.answerer.lock().unwrap() = Arc::new(answerer);
    }

    /// From now on connections are handed to the test.
    pub fn catch(&self) -> Caught {
        let (sender, connections) = mpsc::channel();
        *self.shared.handler.lock().unwrap() = Handler::Hand(sender);
        Caught { target: self.addr, connections }
    }

    /// How many TCP connections it has accepted.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// How many datagrams it has got.
    pub fn datagrams(&self) -> usize {
        self.shared.datagrams.load(Ordering::SeqCst)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        let mut local = self.addr;
        match self.addr.ip() {
            ip if !ip.is_unspecified() => {}
            IpAddr::V4(_) => local.set_ip(Ipv4Addr::LOCALHOST.into()),
            IpAddr::V6(_) => local.set_ip(std::net::Ipv6Addr::LOCALHOST.into()),
        }
        // Both threads wait for a connection: this is one.
        let _ = TcpStream::connect_timeout(&local, Duration::from_secs(1));
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// The target's ends of connections, in the order of their coming.
pub struct Caught {
    target: SocketAddr,
    connections: Receiver<TcpStream>,
}

impl Caught {
    /// The next connection; panics if none comes.
    pub fn next(&self) -> TcpStream {
        let next = self.connections.recv_timeout(GRACE);
        let stream = next.unwrap_or_else(|_| panic!("no connection within {GRACE:?}"));
        stream.set_read_timeout(Some(GRACE)).expect("a timeout");
        stream.set_write_timeout(Some(GRACE)).expect("a timeout");
        stream.set_nodelay(true).expect("an option");
        stream
    }

    /// The next connection that says something.
    pub fn next_speaker(&self) -> TcpStream {
        loop {
            let stream = self.next();
            if stream.peek(&mut [0]).is_ok_and(|len| len > 0) {
                return stream;
            }
        }
    }

    /// Of the connections that have come, the one that stays: a single-end forwarder dials its targets now and then to know
    /// how they are, and such a connection looks like a user's until it ends.
    pub fn stayer(&self) -> TcpStream {
        // All who came earlier are handed over before this one.
        let last = connect(self.target);
        let last = last.local_addr().expect("an address");
        let mut come: Vec<TcpStream> = Vec::new();
        loop {
            let stream = self.next();
            if stream.peer_addr().is_ok_and(|from| from == last) {
                break;
            }
            come.push(stream);
        }
        let one = eventually(GRACE, || {
            come.retain(|stream| !is_closed(stream));
            come.len() <= 1
        });
        assert!(one, "{} connections stay, and one should", come.len());
        come.pop().expect("one that stays")
    }
}

/// Sends everything back, and the end too.
pub fn echo(mut stream: TcpStream) {
    let mut buffer = vec![0; 65536];
    while let Ok(len) = stream.read(&mut buffer) {
        if len == 0 || stream.write_all(&buffer[..len]).is_err() {
            break;
        }
    }
    let _ = stream.shutdown(Shutdown::Write);
}

fn serve(listener: TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming().flatten() {
        if shared.stop.load(Ordering::SeqCst) {
            break;
        }
        shared.accepted.fetch_add(1, Ordering::SeqCst);
        let handler = shared.handler.lock().unwrap().clone();
        match handler {
            Handler::Do(work) => {
                let thread = std::thread::Builder::new().stack_size(256 << 10);
                thread.spawn(move || work(stream)).expect("a thread");
            }
            Handler::Hand(test) => drop(test.send(stream)),
        }
    }
    unforked(|| drop(listener));
}

fn answer(socket: UdpSocket, shared: &Arc<Shared>) {
    socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
    let mut buffer = vec![0; 65536];
    while !shared.stop.load(Ordering::SeqCst) {
        if let Ok((len, from)) = socket.recv_from(&mut buffer) {
            shared.datagrams.fetch_add(1, Ordering::SeqCst);
            let answerer = Arc::clone(&shared.answerer.lock().unwrap());
            answerer(&socket, &buffer[..len], from);
        }
    }
    unforked(|| drop(socket));
}
