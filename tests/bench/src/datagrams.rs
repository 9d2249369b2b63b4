//! Datagrams: one session at an offered rate in each direction, one datagram at a time, and many sessions that say little.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use crate::process::{self, OneProcessor};
use crate::programs::{Part, Running};

/// What a way made of datagrams.
#[derive(Clone, Copy, Default, Debug)]
pub struct Datagrams {
    /// From the user to the target.
    pub up: Flow,
    /// From the target to the user.
    pub down: Flow,
    /// One at a time there and back, the median, in microseconds.
    pub echo: f64,
    /// The same with load, target and all processes on one processor.
    pub near: f64,
    /// Bytes of memory of all processes for each of many sessions.
    pub session: f64,
    /// Processor time of all processes while each of these says one datagram a second, of one core.
    pub murmur: f64,
    /// Sessions that had no answer.
    pub missing: usize,
}

/// One session at the offered rate.
#[derive(Clone, Copy, Default, Debug)]
pub struct Flow {
    /// Datagrams a second that came through.
    pub through: f64,
    /// Processor time of all processes for each of these, in microseconds.
    pub cost: f64,
}

/// A target that does what the first byte of a datagram says.
///
/// ```text
///  'S' counts it    'E' sends it back    'D' sends at the offered rate to where it came from, for the seconds in the second byte
/// ```
pub struct Target {
    /// Where it listens.
    pub address: SocketAddr,
    counted: Arc<AtomicU64>,
}

impl Target {
    /// Starts at this address, where the target of the other tests has a TCP port.
    pub fn start_at(address: SocketAddr) -> io::Result<Target> {
        let socket = UdpSocket::bind(address)?;
        widen(&socket);
        let counted = Arc::new(AtomicU64::new(0));
        let count = counted.clone();
        thread::spawn(move || serve(&socket, &count));
        Ok(Target { address, counted })
    }
}

fn serve(socket: &UdpSocket, counted: &Arc<AtomicU64>) {
    let mut batch = Batch::new();
    while let Ok(count) = batch.receive(socket) {
        for at in 0..count {
            let (bytes, from) = batch.get(at);
            match bytes.first() {
                Some(b'S') => drop(counted.fetch_add(1, Ordering::Relaxed)),
                Some(b'E') => drop(socket.send_to(bytes, from)),
                Some(b'D') => {
                    let (time, socket) = (Duration::from_secs(u64::from(bytes[1])), socket.try_clone());
                    thread::spawn(move || socket.map(|socket| pour(&socket, Some(from), time)));
                }
                _ => {}
            }
        }
    }
}

/// Whether a datagram comes back from there.
pub fn probe(entry: SocketAddr) -> bool {
    let user = user_of(entry, PROBE);
    user.is_ok_and(|user| user.send(b"E").is_ok() && user.recv(&mut [0; 8]).is_ok())
}

/// Measures all that with `sessions` sessions, each flow for `window`.
pub fn run(way: &Running, target: &Target, sessions: usize, window: Duration) -> io::Result<Datagrams> {
    let up = {
        let user = user_of(way.entry, PROBE)?;
        let sender = user.try_clone()?;
        let time = RAMP + window + RAMP;
        let load = thread::spawn(move || pour(&sender, None, time));
        let flow = flow(way, window, || target.counted.load(Ordering::Relaxed));
        let _ = load.join();
        flow
    };
    let down = {
        let user = user_of(way.entry, PROBE)?;
        let seconds = (RAMP + window + RAMP).as_secs_f64().ceil() as u8;
        user.send(&[b'D', seconds])?;
        let counted = Arc::new(AtomicU64::new(0));
        let count = counted.clone();
        let reader = thread::spawn(move || {
            let mut batch = Batch::new();
            while let Ok(received) = batch.receive(&user) {
                count.fetch_add(received as u64, Ordering::Relaxed);
            }
        });
        let flow = flow(way, window, || counted.load(Ordering::Relaxed));
        let _ = reader.join();
        flow
    };
    let apart = echo(way.entry)?;
    let near = {
        let _held = OneProcessor::hold(way.parts.iter().map(Part::pid))?;
        echo(way.entry)?
    };
    let (session, murmur, missing) = many(way, sessions)?;
    Ok(Datagrams { up, down, echo: apart, near, session, murmur, missing })
}

fn flow(way: &Running, window: Duration, counted: impl Fn() -> u64) -> Flow {
    sleep(RAMP);
    let (begin, before, spent) = (Instant::now(), counted(), way.processor_seconds());
    sleep(window);
    let through = (counted() - before) as f64;
    let cost = (way.processor_seconds() - spent) * 1e6 / through.max(1.0);
    Flow { through: through / begin.elapsed().as_secs_f64(), cost }
}

fn echo(entry: SocketAddr) -> io::Result<f64> {
    let user = user_of(entry, PROBE)?;
    let mut times = Vec::with_capacity(ECHOES);
    for at in 0..ECHOES + WARM_UP {
        let begin = Instant::now();
        user.send(&[b'E'; SMALL])?;
        user.recv(&mut [0; SMALL])?;
        if at >= WARM_UP {
            times.push(begin.elapsed().as_secs_f64() * 1e6);
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

/// Many sessions, each of which says one datagram a second: bytes of memory for each, the share of a core, and how many had no answer.
fn many(way: &Running, sessions: usize) -> io::Result<(f64, f64, usize)> {
    let memory = || -> f64 {
        way.parts
            .iter()
            .filter_map(|part| process::memory(part.pid()).ok())
            .map(|memory| memory.anonymous as f64 * 1024.0)
            .sum()
    };
    let before = memory();
    let users = (0..sessions).map(|_| user_of(way.entry, PROBE)).collect::<io::Result<Vec<_>>>()?;
    // A few at a time, since each is new.
    let mut missing = 0;
    for group in users.chunks(GROUP) {
        group.iter().for_each(|user| drop(user.send(&[b'E'; SMALL])));
        missing += group.iter().filter(|user| user.recv(&mut [0; SMALL]).is_err()).count();
    }
    let grown = (memory() - before).max(0.0) / sessions.max(1) as f64;
    let (begin, spent) = (Instant::now(), way.processor_seconds());
    for second in 1..=MURMUR {
        for (at, group) in users.chunks(GROUP).enumerate() {
            group.iter().for_each(|user| drop(user.send(&[b'E'; SMALL])));
            let due = begin
                + Duration::from_secs(second - 1)
                + Duration::from_secs(1) * (at as u32 + 1) / users.chunks(GROUP).len() as u32;
            sleep(due.saturating_duration_since(Instant::now()));
        }
    }
    let share = (way.processor_seconds() - spent) / begin.elapsed().as_secs_f64();
    Ok((grown, share, missing))
}

/// Sends at the offered rate for so long, in bursts of a millisecond's worth.
fn pour(socket: &UdpSocket, to: Option<SocketAddr>, time: Duration) {
    let payload = [b'S'; SIZE];
    let (begin, mut sent) = (Instant::now(), 0);
    while begin.elapsed() < time {
        let due = (begin.elapsed().as_secs_f64() * OFFERED as f64) as u64;
        while sent < due {
            let count = usize::try_from(due - sent).unwrap_or(BATCH).min(BATCH);
            send_many(socket, to, &payload, count);
            sent += count as u64;
        }
        sleep(Duration::from_millis(1));
    }
}

fn user_of(entry: SocketAddr, timeout: Duration) -> io::Result<UdpSocket> {
    let user = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    widen(&user);
    user.connect(entry)?;
    user.set_read_timeout(Some(timeout))?;
    Ok(user)
}

/// Room for bursts: the load must not be what loses datagrams.
fn widen(socket: &UdpSocket) {
    let size: libc::c_int = 16 << 20;
    for option in [libc::SO_RCVBUFFORCE, libc::SO_RCVBUF] {
        // SAFETY: the value is an int that outlives the call.
        let set = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                option,
                std::ptr::from_ref(&size).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        if set == 0 {
            return;
        }
    }
}

/// Sends the same payload `count` times with one system call.
fn send_many(socket: &UdpSocket, to: Option<SocketAddr>, payload: &[u8], count: usize) {
    let mut name = to.map(address_of);
    let mut part = libc::iovec { iov_base: payload.as_ptr().cast_mut().cast(), iov_len: payload.len() };
    // SAFETY: all zeros is a message without anything.
    let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
    message.msg_hdr.msg_iov = &raw mut part;
    message.msg_hdr.msg_iovlen = 1;
    if let Some(name) = &mut name {
        message.msg_hdr.msg_name = std::ptr::from_mut(name).cast();
        message.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    }
    let mut messages = [message; BATCH];
    // SAFETY: each message points to the payload and the address, which outlive the call; there are BATCH of them.
    unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), count.min(BATCH) as libc::c_uint, 0) };
}

fn address_of(address: SocketAddr) -> libc::sockaddr_in {
    // SAFETY: all zeros is an address of no family.
    let mut name: libc::sockaddr_in = unsafe { std::mem::zeroed() };
    if let SocketAddr::V4(v4) = address {
        name.sin_family = libc::AF_INET as libc::sa_family_t;
        name.sin_port = v4.port().to_be();
        name.sin_addr.s_addr = u32::from(*v4.ip()).to_be();
    }
    name
}

/// Room for many datagrams that are received with one system call.
struct Batch {
    bytes: Vec<[u8; ROOM]>,
    names: Vec<libc::sockaddr_in>,
    lengths: [usize; BATCH],
}

impl Batch {
    fn new() -> Batch {
        // SAFETY: all zeros is an address of no family.
        let names = vec![unsafe { std::mem::zeroed() }; BATCH];
        Batch { bytes: vec![[0; ROOM]; BATCH], names, lengths: [0; BATCH] }
    }

    /// Waits for the first; how many have come.
    fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        // SAFETY: all zeros is a message, or a part of one, without anything.
        let (mut parts, mut messages): ([libc::iovec; BATCH], [libc::mmsghdr; BATCH]) = unsafe { std::mem::zeroed() };
        for at in 0..BATCH {
            parts[at] = libc::iovec { iov_base: self.bytes[at].as_mut_ptr().cast(), iov_len: ROOM };
            let head = &mut messages[at].msg_hdr;
            (head.msg_iov, head.msg_iovlen) = (&raw mut parts[at], 1);
            head.msg_name = std::ptr::from_mut(&mut self.names[at]).cast();
            head.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        }
        // SAFETY: each message points to its own part and address, which outlive the call; there are BATCH of them.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                messages.as_mut_ptr(),
                BATCH as libc::c_uint,
                libc::MSG_WAITFORONE as _,
                std::ptr::null_mut(),
            )
        };
        if count < 0 {
            let error = io::Error::last_os_error();
            // A target that was not there yet is no end.
            return if error.kind() == ErrorKind::ConnectionRefused { Ok(0) } else { Err(error) };
        }
        let count = usize::try_from(count).unwrap_or(0);
        for (length, message) in self.lengths.iter_mut().zip(&messages[..count]) {
            *length = message.msg_len as usize;
        }
        Ok(count)
    }

    fn get(&self, at: usize) -> (&[u8], SocketAddr) {
        let name = &self.names[at];
        let from = (Ipv4Addr::from(u32::from_be(name.sin_addr.s_addr)), u16::from_be(name.sin_port));
        (&self.bytes[at][..self.lengths[at].min(ROOM)], from.into())
    }
}

/// Datagrams a second that are offered, and their size.
pub const OFFERED: u64 = 100_000;
const SIZE: usize = 1200;
/// Bytes of a datagram that is sent back.
const SMALL: usize = 64;
/// Datagrams that go, or come, with one system call of the load's.
const BATCH: usize = 64;
/// Bytes of room for each.
const ROOM: usize = 2048;
/// Until sessions stand, nothing is counted.
const RAMP: Duration = Duration::from_millis(500);
/// How long a datagram may take.
const PROBE: Duration = Duration::from_secs(1);
/// Datagrams one at a time, after some that do not count.
const ECHOES: usize = 5000;
const WARM_UP: usize = 200;
/// New sessions side by side.
const GROUP: usize = 50;
/// Seconds in which each of many sessions says one datagram.
const MURMUR: u64 = 5;
