//! A slab: things in numbered places, and keys that know when the thing they named is gone.
//!
//! ```text
//!  index        0        1        2        3
//!           +--------+--------+--------+--------+
//!  slots    | 7: A   |  free  | 9: C   |  free  |   7 and 9 are generations
//!           +--------+---^----+--------+---^----+
//!                        +---- free list --+
//!
//!  Key { index: 2, generation: 9 }  -> C
//!  Key { index: 2, generation: 4 }  -> nothing: the thing it named has left
//! ```
//!
//! Timers, queues and events hold keys, never the things, so nothing has to be cancelled: a key whose thing has left is
//! simply answered with `None`. Every verb costs the same however full the slab is, and memory is given back: free
//! places at the end are cut off, and new things are put into the lower half first so that the end becomes free.

/// The name of one thing in a [`Slab`], never given to another.
///
/// The generation counts the things put into the slab, so the same pair of numbers could come back only after 2³² of
/// them, and then only in the same place. Keys order by place.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Key {
    index: u32,
    generation: u32,
}

impl Key {
    /// The number of the place: small, reused after a removal, what an event token carries. See [`Slab::at`].
    pub fn index(self) -> usize {
        self.index as usize
    }
}

/// Things of one kind, each under a [`Key`].
#[derive(Debug)]
pub struct Slab<T> {
    slots: Vec<Slot<T>>,
    /// The free place to be filled next, or `NOWHERE`.
    first: u32,
    /// The free place to be filled last, or `NOWHERE`.
    last: u32,
    live: usize,
    /// One counter for the whole slab: a place that was cut off and made again cannot repeat an old key.
    generation: u32,
}

/// One place: taken, or a link of the free list.
#[derive(Debug)]
enum Slot<T> {
    Full { generation: u32, value: T },
    Free { before: u32, after: u32 },
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Slab<T> {
    /// An empty slab; it holds no memory yet.
    pub const fn new() -> Self {
        Slab { slots: Vec::new(), first: NOWHERE, last: NOWHERE, live: 0, generation: 0 }
    }

    /// Puts `value` in and names it.
    ///
    /// # Panics
    ///
    /// With `MAX_SLOTS` things inside; memory is used up long before.
    pub fn insert(&mut self, value: T) -> Key {
        let generation = self.generation;
        self.generation = generation.wrapping_add(1);
        let full = Slot::Full { generation, value };
        let index = self.first;
        let index = if index == NOWHERE {
            assert!(self.slots.len() < MAX_SLOTS, "a slab is full");
            self.slots.push(full);
            (self.slots.len() - 1) as u32
        } else {
            self.unlink(index);
            self.slots[index as usize] = full;
            index
        };
        self.live += 1;
        Key { index, generation }
    }

    /// The thing called `key`, if it is still here.
    pub fn get(&self, key: Key) -> Option<&T> {
        match self.slots.get(key.index()) {
            Some(Slot::Full { generation, value }) if *generation == key.generation => Some(value),
            _ => None,
        }
    }

    /// The thing called `key`, if it is still here, to be changed.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        match self.slots.get_mut(key.index()) {
            Some(Slot::Full { generation, value }) if *generation == key.generation => Some(value),
            _ => None,
        }
    }

    /// Takes the thing called `key` out. Its index may name another thing from now on, the key never will.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        self.get(key)?;
        let free = Slot::Free { before: NOWHERE, after: NOWHERE };
        let slot = std::mem::replace(&mut self.slots[key.index()], free);
        self.live -= 1;
        self.link(key.index);
        self.give_back();
        match slot {
            Slot::Full { value, .. } => Some(value),
            Slot::Free { .. } => None,
        }
    }

    /// The key of whatever lives at `index` now. An event carries only the index: one that comes late finds nothing, or
    /// a newcomer for whom it is a spurious event.
    pub fn at(&self, index: usize) -> Option<Key> {
        key(index, self.slots.get(index)?)
    }

    /// How many things are inside.
    pub fn len(&self) -> usize {
        self.live
    }

    /// Whether nothing is inside.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// The keys of everything inside, by index.
    pub fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        self.iter().map(|(key, _)| key)
    }

    /// Everything inside with its key, by index.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &T)> + '_ {
        let places = self.slots.iter().enumerate();
        places.filter_map(|(index, slot)| match slot {
            Slot::Full { value, .. } => Some((key(index, slot)?, value)),
            Slot::Free { .. } => None,
        })
    }

    /// Everything inside with its key, by index, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Key, &mut T)> + '_ {
        let places = self.slots.iter_mut().enumerate();
        places.filter_map(|(index, slot)| {
            let key = key(index, slot)?;
            match slot {
                Slot::Full { value, .. } => Some((key, value)),
                Slot::Free { .. } => None,
            }
        })
    }

    /// Adds a place to the free list: at the front if it lies in the lower half, else at the back, so that the upper
    /// half empties and can be cut off even while things come and go.
    fn link(&mut self, index: u32) {
        let (before, after) =
            if (index as usize) < self.slots.len() / 2 { (NOWHERE, self.first) } else { (self.last, NOWHERE) };
        self.slots[index as usize] = Slot::Free { before, after };
        self.join(before, index);
        self.join(index, after);
    }

    /// Takes a place out of the free list.
    fn unlink(&mut self, index: u32) {
        if let Slot::Free { before, after } = self.slots[index as usize] {
            self.join(before, after);
        }
    }

    /// Makes `left` and `right` neighbours in the free list; `NOWHERE` stands for its two ends.
    fn join(&mut self, left: u32, right: u32) {
        match self.slots.get_mut(left as usize) {
            Some(Slot::Free { after, .. }) => *after = right,
            _ => self.first = right,
        }
        match self.slots.get_mut(right as usize) {
            Some(Slot::Free { before, .. }) => *before = left,
            _ => self.last = left,
        }
    }

    /// Cuts free places off the end. Memory is returned only once the slab is sparse, and half of what is left stays
    /// spare, so that a number of things that goes up and down a little costs no copying.
    fn give_back(&mut self) {
        while let Some(Slot::Free { .. }) = self.slots.last() {
            self.unlink((self.slots.len() - 1) as u32);
            self.slots.pop();
        }
        let used = self.slots.len();
        if self.slots.capacity() > SMALL.max(SPARSE * used) {
            self.slots.shrink_to(SMALL.max(2 * used));
        }
    }
}

/// The key of the thing in `slot`, if there is one.
fn key<T>(index: usize, slot: &Slot<T>) -> Option<Key> {
    match *slot {
        Slot::Full { generation, .. } => Some(Key { index: index as u32, generation }),
        Slot::Free { .. } => None,
    }
}

/// The index of no place: either end of the free list.
const NOWHERE: u32 = u32::MAX;
/// Most things in one slab; every index must differ from `NOWHERE`.
const MAX_SLOTS: usize = NOWHERE as usize;
/// Room for so many things is never given back.
const SMALL: usize = 64;
/// Memory is given back when there is room for more than this many times the places in use.
const SPARSE: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Dice;
    use std::collections::{BTreeMap, HashSet};

    /// Walks the free list both ways and compares it with the places.
    fn check<T>(slab: &Slab<T>) {
        let (mut seen, mut at, mut came_from) = (0, slab.first, NOWHERE);
        while at != NOWHERE {
            match slab.slots[at as usize] {
                Slot::Free { before, after } => {
                    assert_eq!(before, came_from);
                    (came_from, at) = (at, after);
                }
                Slot::Full { .. } => panic!("a taken place is in the free list"),
            }
            seen += 1;
            assert!(seen <= slab.slots.len(), "the free list has no end");
        }
        assert_eq!(slab.last, came_from);
        assert_eq!(seen + slab.live, slab.slots.len());
        assert!(!matches!(slab.slots.last(), Some(Slot::Free { .. })));
    }

    #[test]
    fn what_goes_in_comes_out_under_its_key() {
        let mut slab = Slab::new();
        let a = slab.insert("a");
        let b = slab.insert("b");
        assert_eq!((slab.get(a), slab.get(b)), (Some(&"a"), Some(&"b")));
        *slab.get_mut(a).unwrap() = "A";
        assert_eq!(slab.remove(a), Some("A"));
        assert_eq!(slab.get(b), Some(&"b"));
        assert_eq!(slab.len(), 1);
        assert!(!slab.is_empty());
    }

    #[test]
    fn a_key_is_dead_once_its_thing_is_gone_even_when_the_place_is_taken_again() {
        let mut slab = Slab::new();
        let old = slab.insert(1);
        let _stays = slab.insert(2);
        slab.remove(old);
        let new = slab.insert(3);
        assert_eq!(new.index(), old.index());
        assert_ne!(new, old);
        assert_eq!(slab.get(old), None);
        assert_eq!(slab.get_mut(old), None);
        assert_eq!(slab.remove(old), None);
        assert_eq!(slab.get(new), Some(&3));
        assert_eq!(slab.len(), 2);
    }

    #[test]
    fn a_place_that_was_cut_off_does_not_repeat_a_key() {
        let mut slab = Slab::new();
        let mut seen = HashSet::new();
        for _ in 0..1000 {
            let key = slab.insert(());
            assert_eq!(key.index(), 0);
            assert!(seen.insert(key), "{key:?} came twice");
            slab.remove(key);
            assert!(slab.slots.is_empty());
        }
    }

    #[test]
    fn an_index_finds_only_what_lives_there_now() {
        let mut slab = Slab::new();
        let a = slab.insert('a');
        let b = slab.insert('b');
        assert_eq!(slab.at(0), Some(a));
        assert_eq!(slab.at(1), Some(b));
        assert_eq!(slab.at(2), None);
        assert_eq!(slab.at(usize::MAX), None);
        slab.remove(a);
        assert_eq!(slab.at(0), None);
        let c = slab.insert('c');
        assert_eq!(slab.at(0), Some(c));
    }

    #[test]
    fn walking_visits_every_living_thing_once_and_nothing_else() {
        let mut slab = Slab::default();
        let keys: Vec<_> = (0..10).map(|n| slab.insert(n)).collect();
        for key in keys.iter().step_by(2) {
            slab.remove(*key);
        }
        for (_, value) in slab.iter_mut() {
            *value += 100;
        }
        let seen: Vec<_> = slab.iter().map(|(key, value)| (key, *value)).collect();
        let odd = keys.iter().skip(1).step_by(2).copied();
        assert_eq!(seen, odd.clone().zip([101, 103, 105, 107, 109]).collect::<Vec<_>>());
        assert!(slab.keys().eq(odd));
    }

    #[test]
    fn five_thousand_things_that_came_and_went_leave_no_memory_behind() {
        let mut dice = Dice(5000);
        let mut slab = Slab::new();
        let first = slab.insert([0u8; 64]);
        let mut keys: Vec<_> = (0..5000).map(|_| slab.insert([1; 64])).collect();
        assert!(slab.slots.capacity() >= 5000);
        while !keys.is_empty() {
            let at = dice.below(keys.len());
            assert!(slab.remove(keys.swap_remove(at)).is_some());
        }
        check(&slab);
        assert_eq!(slab.len(), 1);
        assert!(slab.slots.capacity() <= SMALL, "{}", slab.slots.capacity());
        assert_eq!(slab.get(first), Some(&[0; 64]));
    }

    #[test]
    fn memory_comes_back_even_while_a_few_things_come_and_go() {
        let mut dice = Dice(77);
        let mut slab = Slab::new();
        let mut keys: Vec<_> = (0..5000).map(|n| slab.insert(n)).collect();
        while keys.len() > 50 {
            let at = dice.below(keys.len());
            slab.remove(keys.swap_remove(at));
        }
        for n in 0..5000 {
            keys.push(slab.insert(n));
            let at = dice.below(keys.len());
            slab.remove(keys.swap_remove(at));
        }
        check(&slab);
        assert_eq!(slab.len(), 50);
        assert!(slab.slots.capacity() <= 512, "{}", slab.slots.capacity());
    }

    #[test]
    fn a_number_that_goes_up_and_down_by_one_moves_no_memory() {
        let mut slab = Slab::new();
        for n in 0..1000 {
            slab.insert(n);
        }
        let capacity = slab.slots.capacity();
        for n in 0..1000 {
            let key = slab.insert(n);
            slab.remove(key);
            assert_eq!(slab.slots.capacity(), capacity);
        }
    }

    #[test]
    fn under_any_sequence_it_agrees_with_a_plain_map_and_never_repeats_a_key() {
        for seed in 1..=20 {
            let mut dice = Dice(seed);
            let (mut slab, mut model) = (Slab::new(), BTreeMap::new());
            let (mut dead, mut ever) = (Vec::new(), HashSet::new());
            for step in 0..3000 {
                // Tides: mostly inserting, then mostly removing.
                let rising = (step / 300) % 2 == 0;
                if dice.below(10) < if rising { 7 } else { 2 } {
                    let key = slab.insert(step);
                    assert!(ever.insert(key), "seed {seed}: {key:?} came twice");
                    model.insert(key, step);
                } else if !model.is_empty() {
                    let nth = dice.below(model.len());
                    let key = *model.keys().nth(nth).unwrap();
                    assert_eq!(slab.remove(key), model.remove(&key));
                    dead.push(key);
                }
                if !dead.is_empty() {
                    assert_eq!(slab.get(dead[dice.below(dead.len())]), None);
                }
                assert_eq!(slab.len(), model.len());
            }
            check(&slab);
            assert!(slab.iter().eq(model.iter().map(|(key, value)| (*key, value))));
            for key in model.keys() {
                assert_eq!(slab.at(key.index()), Some(*key));
            }
        }
    }
}
