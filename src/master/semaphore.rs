//! A few places for work that waits for networks, and a short wait for one.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// A few places.
pub(super) struct Semaphore {
    free: Mutex<usize>,
    left: Condvar,
}

/// One place, held.
pub(super) struct Permit(Arc<Semaphore>);

impl Semaphore {
    /// So many free places.
    pub fn new(places: usize) -> Arc<Semaphore> {
        Arc::new(Semaphore { free: Mutex::new(places), left: Condvar::new() })
    }

    /// A place, if one is free within this time.
    pub fn enter(self: &Arc<Semaphore>, timeout: Duration) -> Option<Permit> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.left.wait_timeout_while(free, timeout, |free| *free == 0);
        let (mut free, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *free = free.checked_sub(1)?;
        Some(Permit(Arc::clone(self)))
    }

    /// How many are free.
    #[cfg(test)]
    pub fn free(&self) -> usize {
        *self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.left.notify_one();
    }
}
