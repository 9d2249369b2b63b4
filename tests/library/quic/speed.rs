//! How fast QUIC is here, and what it costs. Not run by default, since a number is no pass or fail:
//! `cargo test --release --test library quic::speed -- --ignored --nocapture --test-threads=1`

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use super::pair::*;
use nodepass::net::mux::{Mux, StreamNo};
use nodepass::net::quic::Settings;
use nodepass::net::stream::{ready, Buffer};

/// Sends `total` bytes on `count` streams from a client to a server, each in a thread of its own, and prints what it took.
fn run(count: usize, total: usize, batched: bool) {
    let settings = Settings { batched, ..settings() };
    let mut server = server(&settings, &identity());
    let at = server.mux.local().next().unwrap();
    let (told, done) = channel();
    let sink = std::thread::spawn(move || {
        let mut buffer = Buffer::new(65536);
        let (mut streams, mut came, mut over): (Vec<StreamNo>, usize, usize) = (Vec::new(), 0, 0);
        while over < count {
            server.turn(Duration::from_millis(100));
            streams.extend(std::iter::from_fn(|| server.mux.accept()).map(|(stream, _)| stream));
            streams.retain(|stream| {
                while let Some(count) = ready(server.mux.fill(*stream, &mut buffer)).unwrap() {
                    buffer.consume(count);
                    came += count;
                    if count == 0 {
                        over += 1;
                        return false;
                    }
                }
                true
            });
        }
        told.send(Instant::now()).unwrap();
        for _ in 0..20 {
            server.turn(Duration::from_millis(5));
        }
        (came, server.mux.tally())
    });
    let mut client = client(at, &any_server(), &settings, &mut Default::default());
    while !client.mux.is_up() {
        client.turn(Duration::from_millis(10));
    }
    let block = vec![7; 65536];
    let mut open: Vec<_> = (0..count).map(|_| (client.mux.open().unwrap(), total / count)).collect();
    let (start, cpu) = (Instant::now(), cpu_time());
    let end = loop {
        open.retain_mut(|(stream, left)| {
            let sent = client.write(*stream, &block[..block.len().min(*left)]).unwrap();
            *left -= sent;
            if *left == 0 {
                while ready(client.mux.finish(*stream)).unwrap().is_none() {
                    client.turn(Duration::from_millis(1));
                }
            }
            *left > 0
        });
        client.turn(Duration::from_millis(100));
        if let Ok(end) = done.try_recv() {
            break end;
        }
    };
    let cpu = cpu_time() - cpu;
    let (came, far) = sink.join().unwrap();
    let near = client.mux.tally();
    let (seconds, gigabytes) = ((end - start).as_secs_f64(), came as f64 / 1e9);
    let calls = near.sends + near.receives + far.sends + far.receives;
    println!(
        "{count} streams, batched {batched}: {:.0} Mbit/s, {:.2} CPU s/GB, {:.0} calls/GB (client {} sends {} receives, \
         server {} sends {} receives), lost {}",
        gigabytes * 8000.0 / seconds,
        cpu / gigabytes,
        calls as f64 / gigabytes,
        near.sends,
        near.receives,
        far.sends,
        far.receives,
        near.lost + far.lost
    );
}

/// What this process has used so far, in seconds.
fn cpu_time() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<u64> =
        stat.rsplit(')').next().unwrap().split_whitespace().filter_map(|word| word.parse().ok()).collect();
    // After the state, which is no number, utime and stime are the 11th and 12th.
    (fields[10] + fields[11]) as f64 / 100.0
}

#[test]
#[ignore = "a measurement"]
fn loopback_throughput_with_and_without_batches() {
    for count in [1, 8] {
        for batched in [false, true] {
            run(count, 1_000_000_000, batched);
        }
    }
}
