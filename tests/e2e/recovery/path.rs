//! A path between client and server that a test can break: a TCP relay with a source address of its own.

use crate::support::{eventually, free_addr, GRACE};
use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Carries every connection on to one address. It lives as long as the test.
pub struct Path {
    addr: SocketAddr,
    lines: Arc<Mutex<Vec<Line>>>,
}

/// One connection through it: the side of who came, and the side that was dialled.
struct Line {
    near: TcpStream,
    far: TcpStream,
    carried: Arc<AtomicUsize>,
}

/// How a connection dies.
#[derive(Clone, Copy, Debug)]
pub enum Death {
    /// Both ends get a reset.
    Reset,
    /// Both ends see the end of the stream.
    End,
}

impl Path {
    /// A path to `to`, which sees connections come from `from`.
    pub fn new(from: IpAddr, to: SocketAddr) -> Path {
        let addr = free_addr();
        let listener = TcpListener::bind(addr).expect("a listener");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&lines);
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                if let Ok(far) = dial(from, to) {
                    let carried = Arc::new(AtomicUsize::new(0));
                    carry(&near, &far, &carried);
                    carry(&far, &near, &carried);
                    kept.lock().unwrap().push(Line { near, far, carried });
                }
            }
        });
        Path { addr, lines }
    }

    /// Where the client has to call.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Lets all idle pool connections die, and the control connection live: how many died.
    ///
    /// The control connection is the one that has carried the most; a pool connection has carried little more than its id
    /// or a TLS handshake. So wait first until the control connection has carried more than that.
    pub fn kill_the_idle(&self, how: Death) -> usize {
        let mut lines = self.lines.lock().unwrap();
        lines.retain(|line| line.is_open());
        lines.sort_by_key(|line| line.carried.load(Ordering::SeqCst));
        let control = lines.pop();
        let count = lines.len();
        for line in lines.drain(..) {
            for stream in [line.near, line.far] {
                match how {
                    Death::Reset => disconnect(&stream),
                    Death::End => drop(stream.shutdown(Shutdown::Both)),
                }
            }
        }
        lines.extend(control);
        count
    }

    /// Waits until one connection has carried clearly more than all others.
    pub fn knows_the_control_connection(&self) {
        let known = eventually(GRACE, || {
            let lines = self.lines.lock().unwrap();
            let open = lines.iter().filter(|line| line.is_open());
            let mut carried: Vec<usize> = open.map(|line| line.carried.load(Ordering::SeqCst)).collect();
            carried.sort_unstable();
            matches!(carried[..], [.., second, first] if first > second + 100)
        });
        assert!(known, "no connection stands out as the control connection");
    }
}

impl Line {
    /// Whether neither end has closed it.
    fn is_open(&self) -> bool {
        let ended = |stream: &TcpStream| {
            let socket = socket2::SockRef::from(stream);
            let mut byte = [std::mem::MaybeUninit::uninit()];
            let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
            match socket.recv_with_flags(&mut byte, flags) {
                Ok(count) => count == 0,
                Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
            }
        };
        !ended(&self.near) && !ended(&self.far)
    }
}

/// Sends a reset at once, though another thread still holds the socket.
fn disconnect(stream: &TcpStream) {
    // SAFETY: all zeroes is a valid address; its family says "to no address".
    let mut unspecified: libc::sockaddr = unsafe { std::mem::zeroed() };
    unspecified.sa_family = libc::AF_UNSPEC as libc::sa_family_t;
    let size = std::mem::size_of::<libc::sockaddr>() as libc::socklen_t;
    // SAFETY: the socket is open and the address lives on this stack.
    let result = unsafe { libc::connect(stream.as_raw_fd(), &unspecified, size) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

fn dial(from: IpAddr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(to), socket2::Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    socket.connect(&to.into())?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket.into())
}

fn carry(from: &TcpStream, to: &TcpStream, carried: &Arc<AtomicUsize>) {
    let (mut from, mut to) = (from.try_clone().expect("a socket"), to.try_clone().expect("a socket"));
    let carried = Arc::clone(carried);
    std::thread::spawn(move || {
        let mut bytes = vec![0; 16384];
        while let Ok(len) = from.read(&mut bytes) {
            carried.fetch_add(len, Ordering::SeqCst);
            if len == 0 || to.write_all(&bytes[..len]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
}

#[test]
fn a_path_carries_both_ways_and_breaks_on_demand() {
    let target = crate::support::Target::echo();
    let path = Path::new("127.0.0.2".parse().unwrap(), target.addr());
    let caught = target.catch();
    let (one, two) = (crate::support::connect(path.addr()), crate::support::connect(path.addr()));
    let ends = [caught.next(), caught.next()];
    assert!(ends.iter().all(|end| end.peer_addr().unwrap().ip().to_string() == "127.0.0.2"));
    crate::support::put(&two, &[7; 500]);
    path.knows_the_control_connection();
    assert_eq!(path.kill_the_idle(Death::Reset), 1);
    assert_eq!(crate::support::rest(&one), b"");
    crate::support::put(&two, b"alive");
}
