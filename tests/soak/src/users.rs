//! Users of every kind, one after the other on a thread for each kind and tunnel. Each knows what must come back.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::dice::Dice;
use crate::world::Tunnel;

/// What users do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A request, an answer, the end.
    Short,
    /// A word each second, for as long as a minute.
    Long,
    /// Reads its answer slowly.
    Slow,
    /// Says nothing for a while.
    Silent,
    /// Megabytes.
    Huge,
    /// Datagrams.
    Udp,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 6] = [Kind::Short, Kind::Long, Kind::Slow, Kind::Silent, Kind::Huge, Kind::Udp];
}

/// Lives users of one kind until the campaign is over.
pub fn live(tunnel: &Arc<Tunnel>, kind: Kind, mut dice: Dice) {
    while !tunnel.over.load(Ordering::SeqCst) {
        let start = Instant::now();
        let result = match kind {
            Kind::Udp => datagrams(tunnel, &mut dice),
            _ => visit(tunnel, kind, &mut dice),
        };
        tunnel.record(kind, start, result);
        thread::sleep(Duration::from_millis(dice.between(50, 600)));
    }
}

/// One short exchange.
pub fn exchange(at: SocketAddr) -> io::Result<()> {
    let stream = connect(at)?;
    talk(&stream, &[7; 100])
}

fn connect(at: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&at, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn visit(tunnel: &Tunnel, kind: Kind, dice: &mut Dice) -> io::Result<()> {
    let stream = connect(tunnel.user)?;
    match kind {
        Kind::Short => {
            let request = dice.between(1, 2000) as usize;
            talk(&stream, &dice.bytes(request))?;
        }
        Kind::Long => {
            for _ in 0..dice.between(5, 60) {
                talk(&stream, &dice.bytes(64))?;
                pause(tunnel, Duration::from_secs(1));
            }
        }
        Kind::Silent => {
            talk(&stream, b"here")?;
            pause(tunnel, Duration::from_secs(dice.between(3, 40)));
            talk(&stream, b"still here")?;
        }
        Kind::Slow => bulk(&stream, &dice.bytes(256 << 10), 8 << 10, Duration::from_millis(20))?,
        Kind::Huge => bulk(&stream, &dice.bytes(4 << 20), 256 << 10, Duration::ZERO)?,
        Kind::Udp => {}
    }
    stream.shutdown(Shutdown::Write)?;
    match (&stream).read(&mut [0])? {
        0 => Ok(()),
        _ => Err(wrong("more than was sent")),
    }
}

/// Until then, or until the campaign is over.
fn pause(tunnel: &Tunnel, time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time && !tunnel.over.load(Ordering::SeqCst) {
        thread::sleep(Duration::from_millis(50));
    }
}

fn talk(mut stream: &TcpStream, words: &[u8]) -> io::Result<()> {
    stream.write_all(words)?;
    let mut answer = vec![0; words.len()];
    stream.read_exact(&mut answer)?;
    match answer == words {
        true => Ok(()),
        false => Err(wrong("another answer than the echo")),
    }
}

/// Sends it all and reads its echo in pieces.
fn bulk(stream: &TcpStream, data: &[u8], piece: usize, pause: Duration) -> io::Result<()> {
    let mut writer = stream.try_clone()?;
    thread::scope(|scope| {
        let sent = scope.spawn(move || writer.write_all(data));
        let read = read_back(stream, data, piece, pause);
        if read.is_err() {
            // A writer waits for room that is not made.
            let _ = stream.shutdown(Shutdown::Both);
        }
        let sent = sent.join().expect("the writer does not panic");
        read.and(sent)
    })
}

fn read_back(mut stream: &TcpStream, data: &[u8], piece: usize, pause: Duration) -> io::Result<()> {
    let (mut at, mut answer) = (0, vec![0; piece]);
    while at < data.len() {
        let count = match stream.read(&mut answer)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            count => count,
        };
        if data.get(at..at + count) != Some(&answer[..count]) {
            return Err(wrong("other bytes than were sent"));
        }
        at += count;
        thread::sleep(pause);
    }
    Ok(())
}

/// Datagrams of all sizes. Each that comes back must be one that was sent; few may be missing.
fn datagrams(tunnel: &Tunnel, dice: &mut Dice) -> io::Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(tunnel.user)?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut packet = vec![0; 65536];
    let mut missing = 0;
    for number in 0..DATAGRAMS {
        let size = dice.between(8, 1400) as usize;
        let mut data = dice.bytes(size);
        data[..8].copy_from_slice(&(number as u64).to_be_bytes());
        socket.send(&data)?;
        loop {
            match socket.recv(&mut packet) {
                Ok(count) if packet[..count] == data => break,
                // A late answer to an earlier one.
                Ok(count) if count >= 8 && packet[..8] < data[..8] => {}
                Ok(_) => return Err(wrong("another datagram than was sent")),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    missing += 1;
                    break;
                }
                Err(error) => return Err(error),
            }
        }
    }
    match missing {
        0..=MAX_MISSING => Ok(()),
        _ => Err(io::Error::new(ErrorKind::TimedOut, format!("{missing} of {DATAGRAMS} datagrams have no answer"))),
    }
}

/// What must never happen, with or without a fault.
fn wrong(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

/// Longest wait of a user.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Datagrams of one session.
const DATAGRAMS: usize = 20;
/// Of these so many may be lost: UDP promises nothing, and the machine may be busy.
const MAX_MISSING: usize = 2;
