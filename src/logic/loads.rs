//! How many relays each worker has, so that new work goes to the least busy one.

/// The relays of each worker, of all tunnels together.
#[derive(Debug, Clone)]
pub struct Loads {
    relays: Vec<usize>,
    turn: usize,
}

impl Loads {
    /// Idle workers.
    pub fn new(workers: usize) -> Loads {
        Loads { relays: vec![0; workers.max(1)], turn: 0 }
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.relays.len()
    }

    /// A relay begins at that worker.
    pub fn begin(&mut self, worker: usize) {
        self.relays[worker] += 1;
    }

    /// A relay of that worker has ended.
    pub fn end(&mut self, worker: usize) {
        debug_assert!(self.relays[worker] > 0, "a relay ended twice");
        self.relays[worker] = self.relays[worker].saturating_sub(1);
    }

    /// The least busy of these workers for a user; the first of equals.
    ///
    /// The first worker shares its thread with the hub: a few more relays there cost less than waking another thread. Datagrams come by
    /// way of the hub, so each that is alone would wake it.
    pub fn least_busy(&self, udp: bool, workers: impl Iterator<Item = usize>) -> Option<usize> {
        let head_start = if udp { HEAD_START_UDP } else { HEAD_START };
        workers.min_by_key(|&worker| self.relays[worker] + if worker > 0 { head_start } else { 0 })
    }

    /// The least busy of all for a user.
    pub fn quietest(&self, udp: bool) -> usize {
        self.least_busy(udp, 0..self.relays.len()).unwrap_or_default()
    }

    /// Whether that worker has to be woken for a relay that has begun there, of so few in all that the first one has them as well.
    pub fn is_remote(&self, worker: usize) -> bool {
        worker > 0 && self.relays.iter().sum::<usize>() <= HEAD_START
    }

    /// Each worker in turn.
    pub fn next_in_turn(&mut self) -> usize {
        self.turn = (self.turn + 1) % self.relays.len();
        self.turn
    }
}

/// So many relays more than others the first worker takes.
const HEAD_START: usize = 2;
/// So many where the next is a session of datagrams: one that has gone silent is counted until its time is up.
const HEAD_START_UDP: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_busy_worker_is_chosen_and_the_first_has_a_head_start() {
        let mut loads = Loads::new(3);
        assert_eq!(loads.quietest(false), 0);
        for _ in 0..HEAD_START {
            loads.begin(0);
        }
        assert_eq!(loads.quietest(false), 0);
        loads.begin(0);
        assert_eq!((loads.quietest(false), loads.quietest(true)), (1, 0));
        loads.begin(1);
        assert_eq!(loads.least_busy(false, [1, 2].into_iter()), Some(2));
        loads.end(0);
        assert_eq!(loads.quietest(false), 0);
        assert_eq!(loads.least_busy(false, std::iter::empty()), None);
        assert!(!loads.is_remote(1) && !loads.is_remote(0), "three relays");
        loads.end(1);
        loads.end(0);
        assert!(loads.is_remote(1) && !loads.is_remote(0), "one");
    }

    #[test]
    fn workers_take_turns() {
        let mut loads = Loads::new(3);
        assert_eq!([(); 4].map(|()| loads.next_in_turn()), [1, 2, 0, 1]);
    }
}
