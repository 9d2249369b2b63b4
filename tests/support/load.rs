//! Users who come and go while something happens, and those who stay.

use super::{put, take, try_connect, udp_user};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Users who come and go at `user` while `during` runs, over TCP and UDP: how many of each, and how many got no answer.
pub fn load(user: SocketAddr, during: impl FnOnce()) -> ([usize; 2], Vec<String>) {
    let (over, counts) = (AtomicBool::new(false), [AtomicUsize::new(0), AtomicUsize::new(0)]);
    let tcp = || {
        let mut stream = try_connect(user)?;
        stream.write_all(b"a short user")?;
        stream.read_exact(&mut [0; 12])
    };
    let udp = || {
        let socket = udp_user(user);
        socket.send(b"a datagram")?;
        socket.recv(&mut [0; 64]).map(drop)
    };
    let mut lost = Vec::new();
    std::thread::scope(|scope| {
        let run = |n: usize| {
            let mut lost = Vec::new();
            while !over.load(Ordering::Relaxed) {
                // Others want the processors, too.
                std::thread::sleep(Duration::from_millis(5));
                let begun = Instant::now();
                let (kind, done) = if n == 0 { (1, udp()) } else { (0, tcp()) };
                counts[kind].fetch_add(1, Ordering::Relaxed);
                lost.extend(
                    done.err().map(|why| format!("{}: {why} after {:?}", ["TCP", "UDP"][kind], begun.elapsed())),
                );
            }
            lost
        };
        let threads: Vec<_> = (0..LOAD).map(|n| scope.spawn(move || run(n))).collect();
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(during));
        over.store(true, Ordering::Relaxed);
        done.unwrap_or_else(|why| std::panic::resume_unwind(why));
        threads.into_iter().for_each(|thread| lost.extend(thread.join().expect("a user's thread")));
    });
    (counts.map(AtomicUsize::into_inner), lost)
}

/// A user of an echo who stays is served.
pub fn still_there(user: &TcpStream) {
    put(user, b"still there");
    assert_eq!(take(user, 11), b"still there");
}

/// Users at once.
const LOAD: usize = 3;
