//! The far end for bulk data and idle users: a listener that does what a connection's first byte says.
//!
//! ```text
//!  'D' download: writes as long as the user reads
//!  'U' upload:   reads to the end of stream, counting
//!  'H' hold:     answers one byte and keeps the connection open until told otherwise
//! ```

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// A far end that runs until the bench is over.
pub struct End {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    received: AtomicU64,
    held: Mutex<Vec<TcpStream>>,
}

impl End {
    /// Starts listening on a free loopback port.
    pub fn start() -> io::Result<End> {
        End::start_at(Ipv4Addr::LOCALHOST)
    }

    /// Starts listening on a free port of `host`, in the network namespace of this thread.
    pub fn start_at(host: Ipv4Addr) -> io::Result<End> {
        let listener = TcpListener::bind((host, 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let ours = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A connection that asks for nothing, or is gone already, is dropped.
                let _ = admit(stream, &ours);
            }
        });
        Ok(End { address, shared })
    }

    /// Bytes uploaded since its start.
    pub fn received(&self) -> u64 {
        self.shared.received.load(Ordering::Relaxed)
    }

    /// How many connections it holds open.
    pub fn holding(&self) -> usize {
        self.held().len()
    }

    /// Closes the connections it holds.
    pub fn release(&self) {
        self.held().clear();
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Vec<TcpStream>> {
        self.shared.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn admit(mut stream: TcpStream, shared: &Arc<Shared>) -> io::Result<()> {
    let mut wish = [0];
    stream.set_read_timeout(Some(WISH_LIMIT))?;
    stream.read_exact(&mut wish)?;
    stream.set_read_timeout(None)?;
    let ours = shared.clone();
    match wish[0] {
        b'D' => drop(thread::spawn(move || pour(&mut stream))),
        b'U' => drop(thread::spawn(move || swallow(&mut stream, &ours.received))),
        b'H' => {
            stream.write_all(b"h")?;
            ours.held.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
        }
        _ => {}
    }
    Ok(())
}

/// Writes until the other side goes.
pub fn pour(stream: &mut TcpStream) {
    let buffer = vec![b'x'; BUFFER];
    while stream.write_all(&buffer).is_ok() {}
}

/// Reads to the end, adding up in `count`.
pub fn swallow(stream: &mut TcpStream, count: &AtomicU64) {
    let mut buffer = vec![0; BUFFER];
    while let Ok(size) = stream.read(&mut buffer) {
        if size == 0 {
            break;
        }
        count.fetch_add(size as u64, Ordering::Relaxed);
    }
}

/// Bytes per read and write: large, so that the load costs little beside what it measures.
const BUFFER: usize = 256 * 1024;
/// The first byte comes at once; a connection without one is not a user.
const WISH_LIMIT: Duration = Duration::from_secs(5);
