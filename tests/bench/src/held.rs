//! Idle users: many connections held open at once, then gone, and the memory of each process meanwhile.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::end::End;
use crate::process::{self, Memory};
use crate::programs::Running;

/// A process at rest, without users.
#[derive(Clone, Copy, Default)]
pub struct Idle {
    pub memory: Memory,
    pub threads: usize,
    pub descriptors: usize,
}

/// A process before, during and after the crowd.
#[derive(Clone, Copy, Default)]
pub struct Held {
    pub before: Memory,
    pub during: Memory,
    pub after: Memory,
}

/// Each process of `way` as it is now.
pub fn idle(way: &Running) -> io::Result<Vec<Idle>> {
    way.parts
        .iter()
        .map(|part| {
            Ok(Idle {
                memory: process::memory(part.pid())?,
                threads: process::threads(part.pid())?,
                descriptors: process::descriptors(part.pid())?,
            })
        })
        .collect()
}

/// Holds `count` users open through `way`, lets them go, waits for `pause`; one result per process, and how many
/// users did not get through.
pub fn run(way: &Running, end: &End, count: usize, pause: Duration) -> io::Result<(Vec<Held>, usize)> {
    let before = idle(way)?;
    let users = connect(way.entry, count);
    sleep(SETTLE);
    let during = idle(way)?;
    let missing = count - users.len().min(end.holding());
    drop(users);
    sleep(FAREWELL);
    end.release();
    sleep(pause);
    let after = idle(way)?;
    let held = before.iter().zip(&during).zip(&after);
    let held = held.map(|((before, during), after)| Held {
        before: before.memory,
        during: during.memory,
        after: after.memory,
    });
    Ok((held.collect(), missing))
}

/// One user, come and gone: has the way become passable?
pub fn probe(entry: SocketAddr) -> bool {
    let visit = || -> io::Result<()> {
        let mut stream = TcpStream::connect_timeout(&entry, PROBE_LIMIT)?;
        greet(&mut stream)?;
        answered(&mut stream, PROBE_LIMIT)
    };
    visit().is_ok()
}

/// In waves, so that no listen queue overflows: that would measure the kernel's retries.
fn connect(entry: SocketAddr, count: usize) -> Vec<TcpStream> {
    let mut users = Vec::with_capacity(count);
    let mut left = count;
    while left > 0 {
        let wave = left.min(WAVE);
        left -= wave;
        let mut fresh: Vec<TcpStream> = (0..wave)
            .filter_map(|_| TcpStream::connect_timeout(&entry, USER_LIMIT).ok())
            .filter_map(|mut stream| greet(&mut stream).ok().map(|()| stream))
            .collect();
        let deadline = Instant::now() + USER_LIMIT;
        fresh.retain_mut(|stream| {
            let left = deadline.saturating_duration_since(Instant::now());
            answered(stream, left.max(Duration::from_millis(1))).is_ok()
        });
        users.append(&mut fresh);
    }
    users
}

/// A byte each way, so that whatever a program takes for a user who speaks, it has taken.
fn greet(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(b"H")
}

fn answered(stream: &mut TcpStream, limit: Duration) -> io::Result<()> {
    stream.set_read_timeout(Some(limit))?;
    stream.read_exact(&mut [0])
}

/// Users who connect before the first of them is waited for.
const WAVE: usize = 100;
/// A user who gets no answer for so long has not got through.
const USER_LIMIT: Duration = Duration::from_secs(10);
const PROBE_LIMIT: Duration = Duration::from_secs(2);
/// After the last user has come, before memory is read.
const SETTLE: Duration = Duration::from_secs(2);
/// The users' ends of stream reach the target before it closes in turn.
const FAREWELL: Duration = Duration::from_millis(500);
