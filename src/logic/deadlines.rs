//! One deadline for each of a few things, exact to the clock.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// Deadlines by key: each key has one at most, and the next one is found without a search.
///
/// For thousands of keys that share wake-ups there are [`Timers`](super::timers::Timers).
#[derive(Debug)]
pub struct Deadlines<K> {
    by_time: BTreeSet<(Instant, K)>,
    by_key: BTreeMap<K, Instant>,
}

impl<K> Default for Deadlines<K> {
    fn default() -> Self {
        Deadlines { by_time: BTreeSet::new(), by_key: BTreeMap::new() }
    }
}

impl<K: Copy + Ord> Deadlines<K> {
    /// The deadline of `key` is this one from now on, or none.
    pub fn set(&mut self, key: K, at: Option<Instant>) {
        if self.by_key.get(&key).copied() == at {
            return;
        }
        if let Some(old) = self.by_key.remove(&key) {
            self.by_time.remove(&(old, key));
        }
        if let Some(at) = at {
            self.by_key.insert(key, at);
            self.by_time.insert((at, key));
        }
    }

    /// Takes the next key whose deadline has passed, until `None`.
    pub fn expired(&mut self, now: Instant) -> Option<K> {
        let (_, key) = *self.by_time.first().filter(|(at, _)| *at <= now)?;
        self.set(key, None);
        Some(key)
    }

    /// The next deadline.
    pub fn next(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn each_key_has_its_last_deadline_once() {
        let now = Instant::now();
        let at = |n| now + Duration::from_millis(n);
        let mut deadlines = Deadlines::default();
        deadlines.set(1, Some(at(1)));
        deadlines.set(1, Some(at(5)));
        deadlines.set(2, Some(at(3)));
        deadlines.set(3, Some(at(2)));
        deadlines.set(3, None);
        assert_eq!(deadlines.next(), Some(at(3)));
        assert_eq!([(); 2].map(|()| deadlines.expired(at(4))), [Some(2), None]);
        assert_eq!([(); 2].map(|()| deadlines.expired(at(5))), [Some(1), None]);
        assert_eq!(deadlines.next(), None);
    }
}
