//! A narrow path between client and server, and a user who sends as much as it takes: the others get a word in all the same.

use crate::support::*;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Mutex;
use std::thread::sleep;
use std::time::{Duration, Instant};

#[test]
fn a_user_who_sends_without_end_leaves_room_for_others_and_for_the_tunnel() {
    let test = |flow: Flow, kind: u8, tls: u8| {
        let target = Target::with(|mut stream| {
            let mut first = [0];
            match stream.read(&mut first) {
                Ok(1) if first[0] == BULK => drop(std::io::copy(&mut stream, &mut std::io::sink())),
                Ok(1) if stream.write_all(&first).is_ok() => echo(stream),
                _ => {}
            }
        });
        let (user, tunnel) = (free_addr(), free_addr());
        let (mode, at_server, at_client) = match flow {
            Flow::Forward => (2, target.addr(), user),
            _ => (1, user, target.addr()),
        };
        let server = Process::nodepass(&format!("server://key@{tunnel}/{at_server}?mode={mode}&type={kind}&tls={tls}"));
        let path = narrow(tunnel);
        let client = Process::nodepass(&format!("client://key@{path}/{at_client}?mode=2&min=4"));
        until("a user", GRACE, || exchange(user, b"hello"));

        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut bulk, end) = (connect(user), Instant::now() + GRACE * 2);
                while !over.load(Ordering::SeqCst) && Instant::now() < end {
                    bulk.write_all(&[BULK; 1 << 14]).expect("a path that takes more");
                }
            });
            client.reports(SETTLED);
            for _ in 0..5 {
                until("another user", GRACE, || exchange(user, b"hello"));
            }
            for process in [&server, &client] {
                process.checkpoint(|_| true);
            }
            over.store(true, Ordering::SeqCst);
        });
        for process in [&server, &client] {
            assert_eq!(process.count("is up: users"), 1, "type={kind} tls={tls}: {:?}", process.lines());
            assert!(!process.said("ended: "), "type={kind} tls={tls}: {:?}", process.lines());
        }
    };
    std::thread::scope(|scope| {
        for (kind, tls) in kinds() {
            for flow in [Flow::Reverse, Flow::Forward] {
                scope.spawn(move || test(flow, kind, tls));
            }
        }
    });
}

/// What a user begins with who only sends.
const BULK: u8 = b'B';
/// Bytes that the path takes in a second, in each direction.
const RATE: u32 = 1_000_000;
/// Check points: enough for the path to fill up, and for three of them without an answer.
const SETTLED: usize = 4;

/// A path to a server that takes [`RATE`] in each direction, for all its senders.
pub fn narrow(server: SocketAddr) -> SocketAddr {
    let directions = [Refill::default(), Refill::default()];
    path_past(server, move |piece| {
        directions[usize::from(piece.to_server)].wait(piece.len);
        true
    })
}

/// When the path is free again.
#[derive(Default)]
struct Refill(Mutex<Option<Instant>>);

impl Refill {
    /// Waits until so many bytes have passed.
    fn wait(&self, len: usize) {
        let now = Instant::now();
        let mut free = self.0.lock().unwrap();
        let until = free.map_or(now, |free| free.max(now)) + Duration::from_secs(1) / RATE * len as u32;
        *free = Some(until);
        drop(free);
        sleep(until.saturating_duration_since(now));
    }
}
