//! The figures of an instance: counters that workers add to and the hub reads.

use portable_atomic::{AtomicU64, Ordering};

/// Bytes received from and sent to users (ingress) or targets (egress), since the instance's start.
#[derive(Default)]
pub struct Meters {
    /// TCP, received.
    pub tcp_rx: AtomicU64,
    /// TCP, sent.
    pub tcp_tx: AtomicU64,
    /// UDP payload, received.
    pub udp_rx: AtomicU64,
    /// UDP payload, sent.
    pub udp_tx: AtomicU64,
}

impl Meters {
    /// TCP received and sent, UDP received and sent.
    pub fn read(&self) -> [u64; 4] {
        [&self.tcp_rx, &self.tcp_tx, &self.udp_rx, &self.udp_tx].map(|meter| meter.load(Ordering::Relaxed))
    }
}

/// Adds to a meter.
pub fn add(meter: &AtomicU64, count: u64) {
    if count > 0 {
        meter.fetch_add(count, Ordering::Relaxed);
    }
}
