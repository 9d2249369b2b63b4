//! Bulk data: some streams at full speed for a while, and what the forwarding processes spent on them.

use std::io::{self, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use crate::end::{self, End};
use crate::programs::Running;

/// Which way the bytes go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the target to the user.
    Down,
    /// From the user to the target.
    Up,
}

/// What a run showed.
#[derive(Clone, Copy, Default, Debug)]
pub struct Bulk {
    /// 10^9 bytes a second, all streams together.
    pub speed: f64,
    /// Processor seconds of all forwarding processes for each 10^9 bytes.
    pub cost: f64,
}

/// Runs `streams` streams through `way` to `end`; counts nothing for the first of the two times, and measures for the second.
pub fn run(
    way: &Running,
    end: &End,
    streams: usize,
    direction: Direction,
    [ramp, window]: [Duration; 2],
) -> io::Result<Bulk> {
    let counted = Arc::new(AtomicU64::new(0));
    let mut users = Vec::new();
    for _ in 0..streams {
        users.push(start_user(way, direction, &counted)?);
    }
    let moved = || match direction {
        Direction::Down => counted.load(Ordering::Relaxed),
        Direction::Up => end.received(),
    };
    sleep(ramp);
    let (begin, bytes, spent) = (Instant::now(), moved(), way.processor_seconds());
    sleep(window);
    let seconds = begin.elapsed().as_secs_f64();
    let gigabytes = (moved() - bytes) as f64 / 1e9;
    let spent = way.processor_seconds() - spent;
    for (stream, thread) in users {
        // The other end may be gone already; either way the thread comes back.
        let _ = stream.shutdown(Shutdown::Both);
        let _ = thread.join();
    }
    if gigabytes == 0.0 {
        return Err(io::Error::other("no byte came through"));
    }
    Ok(Bulk { speed: gigabytes / seconds, cost: spent / gigabytes })
}

type User = (TcpStream, thread::JoinHandle<()>);

fn start_user(way: &Running, direction: Direction, counted: &Arc<AtomicU64>) -> io::Result<User> {
    let mut stream = TcpStream::connect(way.entry)?;
    stream.write_all(match direction {
        Direction::Down => b"D",
        Direction::Up => b"U",
    })?;
    let handle = stream.try_clone()?;
    let counted = counted.clone();
    let thread = thread::spawn(move || match direction {
        Direction::Down => end::swallow(&mut stream, &counted),
        Direction::Up => end::pour(&mut stream),
    });
    Ok((handle, thread))
}
