//! Entries that all wait equally long: found by key, and by time without a search.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::Instant;

/// A map whose entries end one after the other, in the order in which they came.
#[derive(Debug)]
pub struct Expiring<K, V> {
    entries: HashMap<K, (Instant, V)>,
    /// When each ends, oldest first. The first one is always in `entries`; others may have been removed.
    order: VecDeque<(Instant, K)>,
}

impl<K, V> Default for Expiring<K, V> {
    fn default() -> Self {
        Expiring { entries: HashMap::new(), order: VecDeque::new() }
    }
}

impl<K: Copy + Eq + Hash, V> Expiring<K, V> {
    /// Adds an entry that ends at `until`, which is not before that of any entry added earlier.
    pub fn insert(&mut self, key: K, value: V, until: Instant) {
        debug_assert!(
            self.order.back().is_none_or(|(last, _)| *last <= until),
            "entries end in the order in which they come"
        );
        self.entries.insert(key, (until, value));
        self.order.push_back((until, key));
        self.sweep();
    }

    /// Takes an entry out before its time.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let (_, value) = self.entries.remove(key)?;
        self.sweep();
        Some(value)
    }

    /// The next entry whose time is over, until `None`.
    pub fn expired(&mut self, now: Instant) -> Option<(K, V)> {
        let (_, key) = *self.order.front().filter(|(until, _)| *until <= now)?;
        Some((key, self.remove(&key)?))
    }

    /// Takes the oldest entry out.
    pub fn pop(&mut self) -> Option<(K, V)> {
        let (_, key) = *self.order.front()?;
        Some((key, self.remove(&key)?))
    }

    /// All entries, in no order.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.entries.values().map(|(_, value)| value)
    }

    /// When the next entry ends.
    pub fn deadline(&self) -> Option<Instant> {
        self.order.front().map(|(until, _)| *until)
    }

    /// Whether there is an entry of that key.
    pub fn contains(&self, key: &K) -> bool {
        self.entries.contains_key(key)
    }

    /// The entry of that key.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|(_, value)| value)
    }

    /// The entry of that key, to be changed.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key).map(|(_, value)| value)
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Takes all entries out.
    pub fn drain(&mut self) -> impl Iterator<Item = V> + use<K, V> {
        self.order.clear();
        std::mem::take(&mut self.entries).into_values().map(|(_, value)| value)
    }

    /// Gives memory back beyond so many entries.
    pub fn shrink_to(&mut self, room: usize) {
        self.entries.shrink_to(room);
        self.order.shrink_to(room);
    }

    /// Drops what was removed from the front of the order, and from all of it once that is the larger part.
    fn sweep(&mut self) {
        let entries = &self.entries;
        let lives = |(until, key): &(Instant, K)| entries.get(key).is_some_and(|(at, _)| at == until);
        if self.order.len() > 2 * entries.len() + SLACK {
            self.order.retain(lives);
        }
        while self.order.front().is_some_and(|first| !lives(first)) {
            self.order.pop_front();
        }
    }
}

/// So many removed entries stay in the order before it is swept.
const SLACK: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn entries_end_in_order_and_removed_ones_do_not() {
        let now = Instant::now();
        let at = |n: u64| now + Duration::from_secs(n);
        let mut map = Expiring::default();
        for n in 0..4u64 {
            map.insert(n, n * 10, at(n));
        }
        assert_eq!((map.remove(&0), map.remove(&0), map.remove(&2)), (Some(0), None, Some(20)));
        assert_eq!(map.deadline(), Some(at(1)));
        assert_eq!(map.expired(at(0)), None);
        assert_eq!(map.expired(at(9)), Some((1, 10)));
        assert_eq!(map.deadline(), Some(at(3)));
        assert_eq!(map.expired(at(9)), Some((3, 30)));
        assert_eq!((map.expired(at(9)), map.deadline(), map.len()), (None, None, 0));
    }

    #[test]
    fn a_key_that_comes_again_has_its_new_time() {
        let now = Instant::now();
        let late = now + Duration::from_secs(1);
        let mut map = Expiring::default();
        map.insert(1, "old", now);
        map.remove(&1);
        map.insert(2, "other", now);
        map.insert(1, "new", late);
        assert_eq!(map.expired(now), Some((2, "other")));
        assert_eq!((map.expired(now), map.deadline()), (None, Some(late)));
    }

    #[test]
    fn removed_entries_do_not_pile_up() {
        let now = Instant::now();
        let mut map = Expiring::default();
        map.insert(0, (), now);
        for n in 1..100_000 {
            map.insert(n, (), now);
            map.remove(&n);
        }
        assert!(map.order.len() <= SLACK + 3, "{}", map.order.len());
    }
}
