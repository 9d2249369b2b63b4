//! New users: each connects, asks, reads the answer to its end, and closes.
//!
//! ```text
//!  slot:  connect -> send 50 bytes -> read until the end of stream -> close -> (next visit)
//! ```
//!
//! One thread, no sleeps, nothing tried twice. The target ends the connection, so it holds the TIME_WAIT
//! and the users' ports are free again; a visit that does not end well is counted as an error.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::programs::ANSWER;

/// What a run of visits showed.
#[derive(Clone, Default)]
pub struct Visits {
    /// Visits that ended well, a second.
    pub rate: f64,
    /// From connect to the last byte of the answer.
    pub answer: Times,
    /// From connect to the end of stream.
    pub end: Times,
    /// Visits that were refused, cut, answered wrong or took longer than 10 s.
    pub errors: usize,
}

/// How long visits took, in microseconds.
#[derive(Clone, Copy, Default)]
pub struct Times {
    /// Half of the visits were quicker.
    pub p50: f64,
    /// 99 of 100 visits were quicker.
    pub p99: f64,
}

/// Makes `count` visits to `entry`, `at_once` of them side by side.
pub fn run(entry: SocketAddr, count: usize, at_once: usize) -> io::Result<Visits> {
    let mut crowd = Crowd {
        entry,
        poll: Poll::new()?,
        slots: Vec::new(),
        left: count,
        answers: Vec::with_capacity(count),
        ends: Vec::with_capacity(count),
        errors: 0,
    };
    crowd.slots.resize_with(at_once, || None);
    let begin = Instant::now();
    crowd.serve()?;
    let seconds = begin.elapsed().as_secs_f64();
    Ok(Visits {
        rate: crowd.ends.len() as f64 / seconds,
        answer: summary(crowd.answers),
        end: summary(crowd.ends),
        errors: crowd.errors,
    })
}

/// One visit by plain means: has the way become passable?
pub fn probe(entry: SocketAddr) -> bool {
    let visit = || -> io::Result<bool> {
        let mut stream = std::net::TcpStream::connect_timeout(&entry, PROBE_LIMIT)?;
        stream.set_read_timeout(Some(PROBE_LIMIT))?;
        stream.write_all(REQUEST)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(whole(&answer))
    };
    visit().unwrap_or(false)
}

struct Crowd {
    entry: SocketAddr,
    poll: Poll,
    slots: Vec<Option<Visit>>,
    left: usize,
    answers: Vec<u32>,
    ends: Vec<u32>,
    errors: usize,
}

struct Visit {
    stream: TcpStream,
    begun: Instant,
    asked: bool,
    answer: [u8; 512],
    got: usize,
    answered: Option<u32>,
}

impl Crowd {
    fn serve(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        for slot in 0..self.slots.len() {
            self.next(slot);
        }
        while self.slots.iter().any(Option::is_some) {
            match self.poll.poll(&mut events, Some(Duration::from_secs(1))) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other?,
            }
            if events.is_empty() {
                self.give_up_on_the_late();
            }
            for event in &events {
                self.go_on(event.token().0);
            }
        }
        Ok(())
    }

    /// Fills `slot` with the next visit, if any is left.
    fn next(&mut self, slot: usize) {
        while self.left > 0 {
            self.left -= 1;
            match self.begin(slot) {
                Ok(visit) => {
                    self.slots[slot] = Some(visit);
                    return;
                }
                Err(_) => self.errors += 1,
            }
        }
    }

    fn begin(&self, slot: usize) -> io::Result<Visit> {
        let begun = Instant::now();
        let stream = TcpStream::connect(self.entry)?;
        let mut visit = Visit { stream, begun, asked: false, answer: [0; 512], got: 0, answered: None };
        // On loopback the connection usually stands when connect returns: ask at once, save a wake-up.
        visit.ask()?;
        let wanted = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut visit.stream, Token(slot), wanted)?;
        Ok(visit)
    }

    fn go_on(&mut self, slot: usize) {
        let Some(visit) = &mut self.slots[slot] else {
            return;
        };
        match visit.go_on() {
            Ok(false) => return,
            Ok(true) => {
                self.answers.extend(visit.answered);
                self.ends.push(visit.age());
            }
            Err(_) => self.errors += 1,
        }
        self.slots[slot] = None;
        self.next(slot);
    }

    fn give_up_on_the_late(&mut self) {
        for slot in 0..self.slots.len() {
            let late = |visit: &Visit| visit.begun.elapsed() > VISIT_LIMIT;
            if self.slots[slot].as_ref().is_some_and(late) {
                self.errors += 1;
                self.slots[slot] = None;
                self.next(slot);
            }
        }
    }
}

impl Visit {
    /// Microseconds since it began.
    fn age(&self) -> u32 {
        u32::try_from(self.begun.elapsed().as_micros()).unwrap_or(u32::MAX)
    }

    fn ask(&mut self) -> io::Result<()> {
        match self.stream.write(REQUEST) {
            Ok(sent) => {
                self.asked = sent == REQUEST.len();
                if self.asked {
                    Ok(())
                } else {
                    Err(ErrorKind::WriteZero.into())
                }
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Goes as far as it can; `true` when the visit has ended well.
    fn go_on(&mut self) -> io::Result<bool> {
        if !self.asked {
            self.ask()?;
        }
        while self.asked {
            match self.stream.read(&mut self.answer[self.got..]) {
                Ok(0) if self.answered.is_some() => return Ok(true),
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(size) => {
                    self.got += size;
                    if whole(&self.answer[..self.got]) {
                        self.answered = Some(self.age());
                    }
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }
}

fn whole(answer: &[u8]) -> bool {
    answer.starts_with(GOOD) && answer.ends_with(ANSWER.as_bytes())
}

fn summary(mut times: Vec<u32>) -> Times {
    times.sort_unstable();
    let at = |share: f64| {
        let index = (times.len() as f64 * share) as usize;
        let last = times.len().saturating_sub(1);
        times.get(index.min(last)).map_or(0.0, |&t| f64::from(t))
    };
    Times { p50: at(0.50), p99: at(0.99) }
}

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n";
/// How a right answer begins.
const GOOD: &[u8] = b"HTTP/1.1 200 ";
/// A visit that takes longer is an error.
const VISIT_LIMIT: Duration = Duration::from_secs(10);
const PROBE_LIMIT: Duration = Duration::from_secs(2);
