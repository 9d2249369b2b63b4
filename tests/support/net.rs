//! Ports of our own, users, and waiting.

use super::{present, Dice, GRACE};
use mio::{Poll, Registry};
use socket2::{Domain, Socket, Type};
use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime};

/// Where sockets of that poll are registered.
pub fn registry(poll: &Poll) -> Arc<Registry> {
    Arc::new(poll.registry().try_clone().expect("a descriptor"))
}

/// A port that is free for TCP and UDP on every local address, below the ephemeral range (so that no outgoing
/// connection takes it meanwhile), and that no other test gets: not in this process, and not in another one that
/// runs at the same time. It is the calling thread's until that ends, which for a test is the end of the test.
pub fn free_port() -> u16 {
    static NEXT: OnceLock<Mutex<usize>> = OnceLock::new();
    let next = NEXT.get_or_init(|| Mutex::new(random()));
    for _ in 0..PORTS {
        let port = {
            let mut next = next.lock().unwrap();
            *next = next.wrapping_add(1);
            port_number(*next % PORTS)
        };
        // An abstract Unix socket is a claim that ends with its holder, however that ends.
        let name = format!("nodepass-test-port-{port}");
        let Ok(claim) = UnixAddr::from_abstract_name(name).and_then(|addr| UnixListener::bind_addr(&addr)) else {
            continue;
        };
        if is_free(port) {
            CLAIMS.with_borrow_mut(|claims| claims.push(claim));
            return port;
        }
    }
    panic!("no free port");
}

thread_local! {
    /// The ports of this thread. One process runs hundreds of tests: their ports and descriptors are needed again.
    static CLAIMS: RefCell<Vec<UnixListener>> = const { RefCell::new(Vec::new()) };
}

/// `127.0.0.1` with a free port.
pub fn free_addr() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()))
}

/// An address of this machine that is not loopback, where there is one: nothing is sent to find it.
pub fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback() && !ip.is_unspecified()).then_some(ip)
}

fn port_number(n: usize) -> u16 {
    let low = usize::from(LOW.1 - LOW.0);
    let port = if n < low { usize::from(LOW.0) + n } else { usize::from(HIGH.0) + n - low };
    u16::try_from(port).expect("a port")
}

/// Whether no socket has this port. It is not bound to find out: a child that is just starting would have a copy of that.
fn is_free(port: u16) -> bool {
    let port = format!(":{port:04X}");
    ["tcp", "tcp6", "udp", "udp6"].iter().all(|table| {
        let table = std::fs::read_to_string(format!("/proc/thread-self/net/{table}")).unwrap_or_default();
        !table.lines().any(|line| line.split_whitespace().nth(1).is_some_and(|local| local.ends_with(&port)))
    })
}

/// Whether `::1` is there; if not, the test or its part for IPv6 is skipped.
pub fn has_ipv6() -> bool {
    present(TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok(), "IPv6")
}

/// Not good randomness, but different in every process.
fn random() -> usize {
    let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.subsec_nanos());
    (nanos as usize / 1000).wrapping_mul(31).wrapping_add(std::process::id() as usize * 7919)
}

/// Bytes that look like noise and are the same for the same seed.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut dice = Dice::of(seed);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&dice.next().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Asks again and again until the answer is yes; whether it came in time.
pub fn eventually(within: Duration, mut test: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + within;
    loop {
        let last = Instant::now() > end;
        let so = test();
        if so || last {
            return so;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Tries again and again until something comes; panics with `what` and the last error if nothing does.
pub fn until<T, E: std::fmt::Debug>(what: &str, within: Duration, mut attempt: impl FnMut() -> Result<T, E>) -> T {
    let end = Instant::now() + within;
    loop {
        let last = Instant::now() > end;
        match attempt() {
            Ok(value) => return value,
            Err(error) if last => panic!("{what}: not within {within:?}: {error:?}"),
            Err(_) => std::thread::sleep(Duration::from_millis(30)),
        }
    }
}

/// A connection whose reads and writes give up after [`GRACE`], tried until a program listens.
pub fn connect(addr: SocketAddr) -> TcpStream {
    until(&format!("connecting to {addr}"), GRACE, || try_connect(addr))
}

/// One attempt of [`connect`].
pub fn try_connect(addr: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&addr, GRACE)?;
    stream.set_read_timeout(Some(GRACE))?;
    stream.set_write_timeout(Some(GRACE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A connection from that address of this machine.
pub fn connect_from(source: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    socket.connect(&to.into())?;
    Ok(socket.into())
}

/// A UDP socket on the right family, connected, whose reads give up after [`GRACE`].
pub fn udp_user(to: SocketAddr) -> UdpSocket {
    let from: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((from, 0)).expect("a UDP socket");
    socket.connect(to).expect("a UDP address");
    socket.set_read_timeout(Some(GRACE)).expect("a timeout");
    socket
}

/// Sends a datagram, and reads one; tries again until an answer comes, as datagrams may be lost.
pub fn udp_echo(to: SocketAddr, data: &[u8]) -> io::Result<Vec<u8>> {
    let socket = udp_user(to);
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    let mut buffer = vec![0; 65536];
    let end = Instant::now() + GRACE;
    loop {
        let back = socket.send(data).and_then(|_| socket.recv(&mut buffer));
        match back {
            Ok(len) => return Ok(buffer[..len].to_vec()),
            Err(error) if Instant::now() > end => return Err(error),
            // A refused datagram answers at once: give the other side a moment.
            Err(_) => std::thread::sleep(Duration::from_millis(30)),
        }
    }
}

/// A user who must get his bytes back.
pub fn echoed(addr: SocketAddr, data: &[u8]) {
    let user = try_connect(addr).unwrap_or_else(|error| panic!("connecting to {addr}: {error}"));
    put(&user, data);
    assert!(take(&user, data.len()) == data, "other bytes came back from {addr}");
}

/// Sends the bytes and reads as many back. One attempt, which is soon given up: for [`until`], or where no user gets through.
pub fn exchange(addr: SocketAddr, data: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = try_connect(addr)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(data)?;
    let mut back = vec![0; data.len()];
    stream.read_exact(&mut back)?;
    Ok(back)
}

/// Whether the other side has ended or broken the stream, and nothing that it said is left to read.
pub fn is_closed(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let seen = stream.peek(&mut [0]);
    stream.set_nonblocking(false).unwrap();
    seen.map_or_else(|error| error.kind() != io::ErrorKind::WouldBlock, |len| len == 0)
}

/// Reads until the other side ends or breaks the stream, and gives what came; panics if it stays open.
pub fn rest(stream: &TcpStream) -> Vec<u8> {
    try_rest(stream).unwrap_or_else(|len| panic!("the stream is still open after {len} bytes and {GRACE:?}"))
}

/// What came until the end; or the number of bytes that came, if the stream did not end.
pub fn try_rest(mut stream: &TcpStream) -> Result<Vec<u8>, usize> {
    let mut all = Vec::new();
    let mut chunk = vec![0; 65536];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return Ok(all),
            Ok(len) => all.extend_from_slice(&chunk[..len]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                return Err(all.len());
            }
            Err(_) => return Ok(all),
        }
    }
}

/// Reads exactly that many bytes.
pub fn take(mut stream: &TcpStream, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    stream.read_exact(&mut bytes).unwrap_or_else(|error| panic!("reading {len} bytes: {error}"));
    bytes
}

/// Writes all the bytes.
pub fn put(mut stream: &TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).unwrap_or_else(|error| panic!("writing {} bytes: {error}", bytes.len()));
}

/// Ends our direction (FIN); the other one goes on.
pub fn end(stream: &TcpStream) {
    stream.shutdown(Shutdown::Write).expect("ending a direction");
}

/// Closes with a reset instead of an end.
pub fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("a linger time");
    drop(stream);
}

/// First and last of the two ranges that [`free_port`] picks from, half open; between them live the ports of other
/// test tools.
const LOW: (u16, u16) = (10_000, 12_000);
const HIGH: (u16, u16) = (30_000, 32_700);
const PORTS: usize = (LOW.1 - LOW.0 + HIGH.1 - HIGH.0) as usize;

/// An address of this machine that a proxy is used for: nothing is sent to find it.
pub fn other_than_loopback() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback() && !ip.is_unspecified()).then_some(ip)
}
