//! An HTTP/2 connection of ours, with a peer that says anything, and users who do anything with its streams meanwhile.

use nodepass::logic::wire::Fingerprint;
use nodepass::net::budget::Budget;
use nodepass::net::h2::{Limits, H2};
use nodepass::net::lower::Lower;
use nodepass::net::mux::{Mux, StreamNo, Trial};
use nodepass::net::stream::{would_block, Buffer, Stream};
use nodepass::net::tcp::Tcp;
use std::io;
use std::sync::mpsc::{channel, Sender};
use std::time::{Duration, Instant};

/// The first byte says which side we are, whether the client is on trial, and whether the peer begins as the rules have it. Steps
/// follow: bytes of the peer, a frame of the peer, or something that is done with a stream.
pub fn h2(data: &[u8]) {
    let Some((&kind, script)) = data.split_first() else { return };
    let mut run = Run::new(kind);
    let mut script = script.iter().copied();
    while let Some(step) = script.next() {
        let mut number = || usize::from(script.next().unwrap_or(0));
        match step % 8 {
            0 => {
                let count = number();
                let bytes: Vec<u8> = script.by_ref().take(count).collect();
                run.hears(&bytes);
            }
            1 => {
                let (kind, flags, id, count) = (number() as u8, number() as u8, number() as u8, number());
                let payload: Vec<u8> = script.by_ref().take(count).collect();
                run.hears(&frame(kind % KINDS, flags, id, &payload));
            }
            2 => run.takes_stream(),
            3 => run.fills(number()),
            4 => {
                let (at, count) = (number(), number() * 64);
                run.drains(at, count);
            }
            5 => run.with(number(), |h2, stream| drop(h2.finish(stream))),
            6 => run.releases(number()),
            _ => run.waits(number()),
        }
        if run.turn().is_err() {
            break;
        }
    }
    run.ends();
}

/// One of the peer's.
fn frame(kind: u8, flags: u8, id: u8, payload: &[u8]) -> Vec<u8> {
    [&[0, 0, payload.len() as u8, kind, flags, 0, 0, 0, id], payload].concat()
}

struct Run {
    h2: H2<Memory>,
    peer: Sender<Vec<u8>>,
    said: std::sync::mpsc::Receiver<Vec<u8>>,
    is_client: bool,
    streams: Vec<StreamNo>,
    limits: Limits,
    now: Instant,
}

impl Run {
    fn new(kind: u8) -> Run {
        let (peer, input) = channel();
        let (output, said) = channel();
        let lower = Memory { input, rest: Vec::new(), output };
        let (is_client, on_trial, polite) = (kind & 1 != 0, kind & 2 != 0, kind & 4 != 0);
        let now = Instant::now();
        let limits =
            Limits { start: 1 << 16, window: 1 << 18, spare: 1 << 18, ..Limits::new(8, REPORT, &Budget::PLENTY) };
        let h2 = if is_client {
            H2::client(lower, "a.example", limits)
        } else {
            H2::server(lower, "127.0.0.1:1".parse().expect("an address"), limits)
        };
        let mut h2 = h2.expect("memory");
        if on_trial {
            h2 = h2.on_trial(Trial { until: now + 3 * REPORT, bytes: 4096 });
        }
        let run = Run { h2, peer, said, is_client, streams: Vec::new(), limits, now };
        if polite {
            if !is_client {
                run.hears(PREFACE);
            }
            run.hears(&frame(SETTINGS, 0, 0, &[]));
        }
        run
    }

    /// The peer says this.
    fn hears(&self, bytes: &[u8]) {
        if !bytes.is_empty() {
            let _ = self.peer.send(bytes.to_vec());
        }
    }

    fn takes_stream(&mut self) {
        let stream = if self.is_client { self.h2.open().ok() } else { self.h2.accept().map(|(stream, _)| stream) };
        self.streams.extend(stream);
    }

    fn with(&mut self, at: usize, act: impl FnOnce(&mut H2<Memory>, StreamNo)) {
        if let Some(&stream) = self.streams.get(at % self.streams.len().max(1)) {
            act(&mut self.h2, stream);
        }
    }

    fn fills(&mut self, at: usize) {
        self.with(at, |h2, stream| {
            let waiting = h2.waiting(stream);
            let mut into = Buffer::new(1000);
            if let Ok(count) = h2.fill(stream, &mut into) {
                assert_eq!(count, into.bytes().len());
                assert_eq!(count, waiting.expect("there was something").min(1000));
            }
        });
    }

    fn drains(&mut self, at: usize, count: usize) {
        self.with(at, |h2, stream| {
            let mut from = Buffer::holding(vec![7; count]);
            if let Ok(taken) = h2.drain(stream, &mut from) {
                assert_eq!(from.bytes().len(), count - taken);
                assert!(taken > 0 || count == 0, "a drain that takes nothing");
            }
        });
    }

    fn releases(&mut self, at: usize) {
        self.with(at, |h2, stream| {
            h2.release(stream);
            assert!(h2.fill(stream, &mut Buffer::new(1)).is_err(), "a stream after its release");
        });
        if !self.streams.is_empty() {
            self.streams.swap_remove(at % self.streams.len());
        }
    }

    /// Time passes; a client that was on trial may be known by now.
    fn waits(&mut self, number: usize) {
        self.now += REPORT * (number as u32 % 8) / 4;
        if number & 128 != 0 {
            self.with(number, |h2, stream| h2.decide(stream));
        }
    }

    fn turn(&mut self) -> io::Result<()> {
        for _ in 0..MAX_TURNS {
            if !self.h2.advance(self.now)? {
                break;
            }
        }
        while self.h2.changed().is_some() {}
        let Run { h2, streams, limits, .. } = self;
        let held: usize = streams.iter().filter_map(|stream| h2.waiting(*stream).ok()).sum();
        let most = limits.spare + streams.len() * limits.start as usize;
        assert!(held <= most, "{held} bytes of {} streams wait, at most {most} may", streams.len());
        Ok(())
    }

    /// The peer is gone: what was said is whole frames, and the streams say that it is over.
    fn ends(mut self) {
        self.streams.iter().for_each(|stream| self.h2.release(*stream));
        self.h2.close();
        let _ = self.turn();
        let said: Vec<u8> = self.said.try_iter().flatten().collect();
        let mut rest = if self.is_client { said.strip_prefix(PREFACE).expect("a preface") } else { &said[..] };
        while let [a, b, c, kind, after @ ..] = rest {
            let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            assert!(length <= MAX_FRAME && *kind < KINDS, "a frame of {length} bytes, kind {kind}");
            rest = after.get(5 + length..).unwrap_or_else(|| panic!("{} bytes of a frame of {length}", after.len()));
        }
        assert!(rest.is_empty(), "half a head");
    }
}

/// What lies under the connection: the peer's bytes, piece by piece, and ours.
struct Memory {
    input: std::sync::mpsc::Receiver<Vec<u8>>,
    rest: Vec<u8>,
    output: Sender<Vec<u8>>,
}

impl Stream for Memory {
    fn fill(&mut self, into: &mut Buffer) -> io::Result<usize> {
        if self.rest.is_empty() {
            match self.input.try_recv() {
                Ok(bytes) => self.rest = bytes,
                Err(_) => return would_block(),
            }
        }
        let count = into.append(&self.rest);
        self.rest.drain(..count);
        Ok(count)
    }

    fn drain(&mut self, from: &mut Buffer) -> io::Result<usize> {
        let bytes = from.bytes().to_vec();
        from.consume(bytes.len());
        let count = bytes.len();
        let _ = self.output.send(bytes);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lower for Memory {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        unreachable!("HTTP/2 fills")
    }

    fn put(&mut self, _: [&[u8]; 3]) -> io::Result<usize> {
        unreachable!("HTTP/2 drains")
    }

    fn waiting(&mut self) -> io::Result<usize> {
        unreachable!("HTTP/2 has an inbox of its own")
    }

    fn socket(&mut self) -> &mut Tcp {
        unreachable!("nothing is registered")
    }

    fn fingerprint(&self) -> Option<Fingerprint> {
        None
    }
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: u8 = 4;
/// Kinds of frames that there are, and one more that there is not.
const KINDS: u8 = 11;
/// Most bytes of a frame that no one has allowed to be larger.
const MAX_FRAME: usize = 16 * 1024;
/// As long as there is more to do at once, but no longer.
const MAX_TURNS: usize = 100;
const REPORT: Duration = Duration::from_secs(5);
