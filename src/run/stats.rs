//! The figures of an instance: cells that all its threads add to, and what they come to at one moment.

use std::array::from_fn;
use std::time::Duration;

use portable_atomic::{AtomicU64, Ordering};

use crate::logic::checkpoint::CheckPoint;
use crate::logic::metrics::{cells, Figure, Figures, Timing, CELLS};

/// Every number of the table, since the instance's start.
pub struct Stats {
    cells: [AtomicU64; CELLS],
}

impl Default for Stats {
    fn default() -> Stats {
        Stats { cells: from_fn(|_| AtomicU64::new(0)) }
    }
}

impl Stats {
    /// Adds to a counter.
    pub fn add(&self, figure: Figure, count: u64) {
        if count > 0 {
            self.cells[figure as usize].fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Sets what goes up and down.
    pub fn set(&self, figure: Figure, value: u64) {
        self.cells[figure as usize].store(value, Ordering::Relaxed);
    }

    /// Counts a duration.
    pub fn observe(&self, timing: Timing, took: Duration) {
        let (bucket, sum) = cells(timing, took);
        self.cells[bucket].fetch_add(1, Ordering::Relaxed);
        self.cells[sum].fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// One number.
    pub fn get(&self, figure: Figure) -> u64 {
        self.cells[figure as usize].load(Ordering::Relaxed)
    }

    /// All numbers at this moment.
    pub fn figures(&self) -> Figures {
        Figures::new(from_fn(|at| self.cells[at].load(Ordering::Relaxed)))
    }

    /// A check point: these bytes and the hub's own figures. `users` are live TCP connections and UDP sessions.
    pub fn check_point(&self, mode: u64, ping: Duration, pool: usize, users: (usize, usize)) -> CheckPoint {
        let (tcps, udps) = (users.0 as u64, users.1 as u64);
        CheckPoint {
            mode,
            ping: ping.as_millis() as u64,
            pool: pool as u64,
            tcps,
            udps,
            tcprx: self.get(Figure::TcpReceived),
            tcptx: self.get(Figure::TcpSent),
            udprx: self.get(Figure::UdpReceived),
            udptx: self.get(Figure::UdpSent),
        }
    }
}
