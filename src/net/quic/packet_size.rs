//! How large the packets of one connection may be, while its path changes.
//!
//! ```text
//!   the kernel refuses a size, or learns one --> at most what it says, at once; asked again while that is little
//!   nothing large arrives any more           --> 1200 bytes, and quiche searches anew
//!   not even 1200 bytes leave this machine   --> QUIC does not work here
//! ```
//!
//! quiche finds the largest size by probes, once. What it found stays true until the path changes: a link that is exchanged
//! for a narrower one, a route that leads elsewhere, a client that moves.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use quiche::{PathStats, MIN_CLIENT_INITIAL_LEN};

use crate::net::mtu;

/// The bound for the packets of a connection.
pub struct PacketSize {
    most: usize,
    /// What the kernel lets through.
    kernel: usize,
    /// Until then nothing above the smallest size is tried, on a path that quiche does not search.
    narrow: Option<Instant>,
    losses: Losses,
    path: Option<(SocketAddr, SocketAddr)>,
    /// When the path is looked at again.
    look: Instant,
    interval: Duration,
}

impl PacketSize {
    /// For packets of at most `most` bytes, which the kernel lets through at first.
    pub fn new(most: usize, interval: Duration, now: Instant) -> PacketSize {
        PacketSize {
            most,
            kernel: most,
            narrow: None,
            losses: Losses::default(),
            path: None,
            look: now + interval,
            interval,
        }
    }

    /// The largest packet to make now.
    pub fn limit(&self) -> usize {
        if self.narrow.is_some() {
            SMALLEST
        } else {
            self.kernel
        }
    }

    /// The kernel has news about sizes: it is asked.
    pub fn ask(&mut self, quic: &mut quiche::Connection) {
        let Some(path) = active(quic) else { return };
        self.path = Some((path.local_addr, path.peer_addr));
        let known = mtu::largest_to(path.peer_addr, Some(path.local_addr.ip())).unwrap_or(self.most);
        let size = known.clamp(SMALLEST, self.most);
        if size > self.kernel {
            // There is more room here; whether there is on the rest of the path is found by a probe.
            quic.revalidate_pmtu();
        }
        if size != self.kernel {
            log::info!("QUIC: packets to {} have at most {size} bytes now, by this machine's route", path.peer_addr);
        }
        self.kernel = size;
    }

    /// A clock of quiche's has run out: are its packets lost for their size?
    pub fn timed_out(&mut self, quic: &mut quiche::Connection, now: Instant) {
        let Some(path) = active(quic) else { return };
        if self.losses.stand_still(&path) {
            self.ask(quic);
            self.shrink(quic, &path, now);
        }
    }

    /// Looks at the path, now and then.
    pub fn tick(&mut self, quic: &mut quiche::Connection, now: Instant) {
        if now < self.look {
            return;
        }
        self.look = now + self.interval;
        self.narrow = self.narrow.filter(|until| *until > now);
        let Some(path) = active(quic) else { return };
        let moved = self.path.is_some_and(|known| known != (path.local_addr, path.peer_addr));
        let large = self.losses.are_large(&path);
        self.path = Some((path.local_addr, path.peer_addr));
        if moved || self.kernel < self.most {
            self.ask(quic);
        }
        if large && quic.pmtu().is_some_and(|size| size > SMALLEST) {
            quic.revalidate_pmtu();
        }
    }

    /// Nothing large arrives: back to the size that every path carries.
    fn shrink(&mut self, quic: &mut quiche::Connection, path: &PathStats, now: Instant) {
        if self.limit().min(path.pmtu) <= SMALLEST {
            return;
        }
        match quic.pmtu() {
            Some(_) => quic.revalidate_pmtu(),
            None => self.narrow = Some(now + NARROW),
        }
        log::debug!("QUIC: nothing arrives at {}: going on with packets of {SMALLEST} bytes", path.peer_addr);
    }
}

/// The path that packets take now.
pub fn active(quic: &quiche::Connection) -> Option<PathStats> {
    quic.path_stats().find(|path| path.active)
}

/// What got lost.
#[derive(Default)]
struct Losses {
    /// Timeouts so far, those in a row, and the round trip that was known then: an acknowledgement changes it.
    timeouts: usize,
    in_a_row: u32,
    rtt: Duration,
    /// Packets and bytes at the last look.
    packets: usize,
    bytes: u64,
}

impl Losses {
    /// Whether one timeout follows the other and nothing that was sent arrives.
    fn stand_still(&mut self, path: &PathStats) -> bool {
        if path.total_pto_count == self.timeouts {
            return false;
        }
        self.in_a_row = if path.rtt == self.rtt { self.in_a_row + 1 } else { 1 };
        (self.timeouts, self.rtt) = (path.total_pto_count, path.rtt);
        if self.in_a_row < STANDSTILL {
            return false;
        }
        self.in_a_row = 0;
        true
    }

    /// Whether packets above the smallest size were lost since the last look.
    fn are_large(&mut self, path: &PathStats) -> bool {
        let packets = path.lost.saturating_sub(self.packets) as u64;
        let bytes = path.lost_bytes.saturating_sub(self.bytes);
        (self.packets, self.bytes) = (path.lost, path.lost_bytes);
        packets > 0 && bytes / packets > SMALLEST as u64
    }
}

/// Bytes that every path of QUIC carries.
pub const SMALLEST: usize = MIN_CLIENT_INITIAL_LEN;
/// Timeouts in a row without an acknowledgement that mean: the path has become narrower.
const STANDSTILL: u32 = 2;
/// How long a path that quiche does not search is taken for narrow: what RFC 8899 proposes.
const NARROW: Duration = Duration::from_secs(600);
