//! What HTTP/2 costs beside TLS alone: CPU seconds for each GB over loopback, both ends in one thread. Asked for by name:
//! `cargo test --release --test library h2::speed -- --ignored --nocapture`.

use std::time::Duration;

use mio::{Events, Poll};

use super::pair::{over_tls, sessions};
use nodepass::net::budget::Budget;
use nodepass::net::h2::Limits;
use nodepass::net::mux::Mux;
use nodepass::net::stream::{ready, Buffer, Stream};
use nodepass::net::tls::Tls;

#[test]
#[ignore = "a measurement"]
fn speed() {
    let alone = (0..3).map(|_| tls()).fold(f64::MAX, f64::min);
    println!("TLS alone: {alone:.3} CPU s/GB");
    for streams in [1, 8] {
        let cost = (0..3).map(|_| h2(streams)).fold(f64::MAX, f64::min);
        println!("HTTP/2, {streams} streams: {cost:.3} CPU s/GB, {:.2} times TLS", cost / alone);
    }
}

/// One end writes what the other reads.
fn tls() -> f64 {
    let [(mut one, mut first), (mut two, mut second)] = sessions();
    let (mut from, mut into) = (Buffer::new(SIZE), Buffer::new(SIZE));
    let (before, mut heard) = (cpu(), 0);
    while heard < GB {
        listen(&mut one, &mut first);
        loop {
            refill(&mut from);
            if ready(one.drain(&mut from)).unwrap().is_none() {
                break;
            }
        }
        listen(&mut two, &mut second);
        while let Some(count) = ready(two.fill(&mut into)).unwrap() {
            heard += count;
            into.consume(count);
        }
    }
    cpu() - before
}

fn listen(tls: &mut Tls, poll: &mut Poll) {
    let mut events = Events::with_capacity(8);
    poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
    events.iter().for_each(|event| tls.socket().note(event));
}

/// Whatever bytes are in it, once it is empty.
fn refill(buffer: &mut Buffer) {
    if buffer.is_empty() {
        buffer.room(SIZE);
        buffer.advance(SIZE);
    }
}

fn h2(count: usize) -> f64 {
    let mut pair = over_tls(Limits::new(100, Duration::from_secs(60), &Budget::PLENTY));
    let streams: Vec<_> = (0..count).map(|_| pair.stream()).collect();
    let mut from: Vec<_> = streams.iter().map(|_| Buffer::new(SIZE)).collect();
    let mut into = Buffer::new(SIZE);
    let (before, mut heard) = (cpu(), 0);
    while heard < GB {
        for ((ours, _), from) in streams.iter().zip(&mut from) {
            loop {
                refill(from);
                if ready(pair.client.mux.drain(*ours, from)).unwrap().is_none() {
                    break;
                }
            }
        }
        pair.turn();
        for (_, theirs) in &streams {
            while let Some(count) = ready(pair.server.mux.fill(*theirs, &mut into)).unwrap() {
                heard += count;
                into.consume(count);
            }
        }
    }
    cpu() - before
}

/// CPU seconds of this process.
fn cpu() -> f64 {
    // SAFETY: a zeroed `rusage` is one, and the pointer is to a live local.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

const GB: usize = 1_000_000_000;
/// A relay's buffer, as a rule.
const SIZE: usize = 16 * 1024;
