//! The figures of an instance: counters that workers add to and the hub reads.

use std::time::Duration;

use portable_atomic::{AtomicU64, Ordering};

use crate::logic::checkpoint::CheckPoint;

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

    /// A check point: these figures and those of the hub. `users` are live TCP connections and UDP sessions.
    pub fn check_point(&self, mode: u64, ping: Duration, pool: usize, users: (usize, usize)) -> CheckPoint {
        let [tcprx, tcptx, udprx, udptx] = self.read();
        let (tcps, udps) = (users.0 as u64, users.1 as u64);
        CheckPoint { mode, ping: ping.as_millis() as u64, pool: pool as u64, tcps, udps, tcprx, tcptx, udprx, udptx }
    }
}

/// Adds to a meter.
pub fn add(meter: &AtomicU64, count: u64) {
    if count > 0 {
        meter.fetch_add(count, Ordering::Relaxed);
    }
}
