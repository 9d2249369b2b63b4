//! What goes on when: things under keys, a queue of those that are ready, and a timer for each that waits.
//!
//! ```text
//!  queue(key) --> ready: c, a --> take_ready()  each once, however often it was queued
//!  arm(key, due) --> timers --wake(now)--^     an earlier deadline is armed beside a later one, which then finds nothing to do
//! ```
//!
//! The tasks of a worker and the clients of the API's front are kept in it.

use std::collections::VecDeque;
use std::time::Instant;

use super::slab::{Key, Slab};
use super::timers::Timers;

/// Things of one kind under keys, those of them that are ready, and their timers.
pub struct Scheduler<T> {
    slab: Slab<Entry<T>>,
    ready: VecDeque<Key>,
    timers: Timers<Key>,
}

/// A thing and its place in the queue and among the timers.
struct Entry<T> {
    thing: T,
    queued: bool,
    /// The earliest deadline that a timer is armed for.
    armed: Option<Instant>,
}

impl<T> Scheduler<T> {
    /// Nothing yet; timers count from `epoch`.
    pub fn new(epoch: Instant) -> Scheduler<T> {
        Scheduler { slab: Slab::new(), ready: VecDeque::new(), timers: Timers::new(epoch) }
    }

    /// Puts a thing in and names it. It is not queued.
    pub fn insert(&mut self, thing: T) -> Key {
        self.slab.insert(Entry { thing, queued: false, armed: None })
    }

    /// A thing, if it is still there.
    pub fn get(&self, key: Key) -> Option<&T> {
        self.slab.get(key).map(|entry| &entry.thing)
    }

    /// A thing, if it is still there, to be changed.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        self.slab.get_mut(key).map(|entry| &mut entry.thing)
    }

    /// Takes a thing out. Its key and its timers find nothing from now on.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        self.slab.remove(key).map(|entry| entry.thing)
    }

    /// The key of what has that index now, as an event's token names it.
    pub fn at(&self, index: usize) -> Option<Key> {
        self.slab.at(index)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.slab.iter().map(|(key, entry)| (key, &entry.thing))
    }

    /// All of them, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Key, &mut T)> {
        self.slab.iter_mut().map(|(key, entry)| (key, &mut entry.thing))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    /// It goes on in this turn, or in the next if this one's things are under way.
    pub fn queue(&mut self, key: Key) {
        if let Some(entry) = self.slab.get_mut(key).filter(|entry| !entry.queued) {
            entry.queued = true;
            self.ready.push_back(key);
        }
    }

    /// How many wait in the queue: those of one turn, each of which [`take_ready`](Scheduler::take_ready) hands out once.
    pub fn ready(&self) -> usize {
        self.ready.len()
    }

    /// The first in the queue. It may have gone meanwhile.
    pub fn take_ready(&mut self) -> Option<Key> {
        let key = self.ready.pop_front()?;
        if let Some(entry) = self.slab.get_mut(key) {
            entry.queued = false;
        }
        Some(key)
    }

    /// It is queued again at `due` or soon after, unless it was to be earlier.
    pub fn arm(&mut self, key: Key, due: Instant) {
        if let Some(entry) = self.slab.get_mut(key).filter(|entry| entry.armed.is_none_or(|armed| due < armed)) {
            entry.armed = Some(due);
            self.timers.arm(due, key);
        }
    }

    /// Queues those whose time has come.
    pub fn wake(&mut self, now: Instant) {
        while let Some(key) = self.timers.expired(now) {
            if let Some(entry) = self.slab.get_mut(key) {
                // A timer of before may be over while a later one is armed.
                entry.armed = entry.armed.filter(|armed| *armed > now);
                self.queue(key);
            }
        }
    }

    /// When a timer is due.
    pub fn deadline(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Gives memory of the queue back, but for so many places.
    pub fn shrink(&mut self, places: usize) {
        self.ready.shrink_to(places);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::testing::epoch;

    #[test]
    fn what_is_queued_twice_goes_on_once_and_in_its_turn() {
        let mut scheduler = Scheduler::new(epoch());
        let (a, b) = (scheduler.insert('a'), scheduler.insert('b'));
        [b, a, b].into_iter().for_each(|key| scheduler.queue(key));
        assert_eq!((scheduler.ready(), scheduler.take_ready()), (2, Some(b)));
        scheduler.queue(b);
        assert_eq!([scheduler.take_ready(), scheduler.take_ready(), scheduler.take_ready()], [Some(a), Some(b), None]);
    }

    #[test]
    fn what_has_gone_is_neither_queued_nor_woken() {
        let now = epoch();
        let mut scheduler = Scheduler::new(now);
        let key = scheduler.insert(());
        scheduler.arm(key, now);
        scheduler.remove(key);
        scheduler.wake(now);
        scheduler.queue(key);
        assert_eq!((scheduler.take_ready(), scheduler.is_empty()), (None, true));
    }

    #[test]
    fn a_timer_that_an_earlier_one_has_overtaken_does_not_arm_a_third() {
        let start = epoch();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut scheduler = Scheduler::new(start);
        let key = scheduler.insert(());
        scheduler.arm(key, at(10));
        scheduler.arm(key, at(5));
        for now in [5, 10] {
            assert_eq!(scheduler.deadline(), Some(at(now)));
            scheduler.wake(at(now));
            assert_eq!((scheduler.take_ready(), scheduler.take_ready()), (Some(key), None));
            scheduler.arm(key, at(12));
        }
        scheduler.wake(at(12));
        assert_eq!((scheduler.take_ready(), scheduler.deadline()), (Some(key), None));
    }
}
