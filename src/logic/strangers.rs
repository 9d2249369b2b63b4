//! Connections that have not shown yet what they are, and which of them makes room for one more.
//!
//! ```text
//!  enter --> undecided --leave--> a client's, or gone
//!                |------surplus--> closed: others need the room
//! ```
//!
//! Room is made at random. If the oldest left, a flood would keep every far client out: its handshake takes longer than the flood needs
//! for all places. Of a few that chance names the one leaves whose source has most places, so a flood from few addresses meets itself.
//! Addresses of living tunnels have places of their own, which no other takes.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;

use super::guard::Source;

/// The undecided connections of one owner, under its keys.
#[derive(Debug)]
pub struct Strangers<K> {
    /// Places for all, and places that only known addresses have.
    places: usize,
    kept: usize,
    present: HashMap<K, Stranger>,
    /// The keys of each class, so that chance can name one; those of known addresses second.
    keys: [Vec<K>; 2],
    /// The places that each class holds.
    held: [usize; 2],
    sources: HashMap<Source, usize>,
}

#[derive(Clone, Copy, Debug)]
struct Stranger {
    source: Source,
    /// 1 for a known address.
    class: usize,
    weight: usize,
    /// Where its key is in those of its class.
    at: usize,
}

impl<K: Copy + Eq + Hash> Strangers<K> {
    /// Room for `places` connections from anywhere and `kept` more from known addresses.
    pub fn new(places: usize, kept: usize) -> Strangers<K> {
        let (keys, held) = ([Vec::new(), Vec::new()], [0, 0]);
        Strangers { places, kept, present: HashMap::new(), keys, held, sources: HashMap::new() }
    }

    /// A connection came from that address, at which a living tunnel is (`known`) or not. It has one place.
    pub fn enter(&mut self, key: K, address: IpAddr, known: bool) {
        self.leave(key);
        let (source, class) = (Source::of(address), usize::from(known));
        self.present.insert(key, Stranger { source, class, weight: 1, at: self.keys[class].len() });
        self.keys[class].push(key);
        self.held[class] += 1;
        *self.sources.entry(source).or_default() += 1;
    }

    /// A connection takes so many places from now on: it carries streams.
    pub fn weigh(&mut self, key: K, weight: usize) {
        let Some(stranger) = self.present.get_mut(&key) else { return };
        let old = std::mem::replace(&mut stranger.weight, weight.max(1));
        let new = stranger.weight;
        self.held[stranger.class] = self.held[stranger.class] + new - old;
        if let Some(count) = self.sources.get_mut(&stranger.source) {
            *count = *count + new - old;
        }
    }

    /// A connection is undecided no more.
    pub fn leave(&mut self, key: K) {
        let Some(Stranger { source, class, weight, at }) = self.present.remove(&key) else { return };
        self.keys[class].swap_remove(at);
        if let Some(moved) = self.keys[class].get(at) {
            self.present.entry(*moved).and_modify(|stranger| stranger.at = at);
        }
        self.held[class] -= weight;
        if let Some(count) = self.sources.get_mut(&source) {
            *count -= weight;
            if *count == 0 {
                self.sources.remove(&source);
            }
        }
        if self.present.len() < self.present.capacity() / 8 {
            self.present.shrink_to(SLACK);
            self.sources.shrink_to(SLACK);
            self.keys.iter_mut().for_each(|keys| keys.shrink_to(SLACK));
        }
    }

    /// The next connection that has to make room, until `None`; it is undecided no more. `newcomer` is not asked to.
    pub fn surplus(&mut self, newcomer: Option<K>, chance: impl FnMut() -> u64) -> Option<K> {
        let [others, known] = self.held;
        let classes: &[usize] = match () {
            () if others > self.places => &[0],
            () if others + known <= self.places + self.kept => return None,
            // Known ones have more than is kept for them: all are asked alike.
            () => &[0, 1],
        };
        self.one_of(classes, newcomer, chance)
    }

    /// One that chance names among all; it is undecided no more.
    pub fn any(&mut self, chance: impl FnMut() -> u64) -> Option<K> {
        self.one_of(&[0, 1], None, chance)
    }

    /// Whether that connection is undecided.
    pub fn contains(&self, key: K) -> bool {
        self.present.contains_key(&key)
    }

    /// How many places the source of that address has.
    pub fn places_of(&self, address: IpAddr) -> usize {
        self.sources.get(&Source::of(address)).copied().unwrap_or(0)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.present.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.present.is_empty()
    }

    fn one_of(&mut self, classes: &[usize], except: Option<K>, mut chance: impl FnMut() -> u64) -> Option<K> {
        let count: usize = classes.iter().map(|class| self.keys[*class].len()).sum();
        if count == 0 {
            return None;
        }
        let named = |number: u64| {
            let mut at = (number % count as u64) as usize;
            for class in classes {
                match self.keys[*class].get(at) {
                    Some(key) => return Some(*key),
                    None => at -= self.keys[*class].len(),
                }
            }
            None
        };
        let places = |key: &K| self.present.get(key).and_then(|stranger| self.sources.get(&stranger.source)).copied();
        let mut worst: Option<(usize, K)> = None;
        for key in (0..NAMED).filter_map(|_| named(chance())).filter(|key| Some(*key) != except) {
            let held = places(&key).unwrap_or(0);
            if worst.is_none_or(|(most, _)| held > most) {
                worst = Some((held, key));
            }
        }
        // Chance may have named the newcomer each time.
        let key = worst.map(|(_, key)| key).or_else(|| {
            let mut all = classes.iter().flat_map(|class| &self.keys[*class]).copied();
            all.find(|key| Some(*key) != except)
        })?;
        self.leave(key);
        Some(key)
    }
}

/// So many are named by chance, of which one leaves.
const NAMED: usize = 4;
/// Places that are kept after a crowd.
const SLACK: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Dice;
    use std::net::Ipv4Addr;

    fn host(number: u32) -> IpAddr {
        Ipv4Addr::from(0x0a00_0000 + number).into()
    }

    /// Lets one in; who had to leave.
    fn arrive(strangers: &mut Strangers<u32>, key: u32, from: IpAddr, known: bool, dice: &mut Dice) -> Vec<u32> {
        strangers.enter(key, from, known);
        std::iter::from_fn(|| strangers.surplus(Some(key), || dice.next())).collect()
    }

    #[test]
    fn there_is_room_for_so_many_and_one_leaves_for_each_more() {
        let (mut strangers, mut dice) = (Strangers::new(10, 0), Dice(1));
        for key in 0..10 {
            assert!(arrive(&mut strangers, key, host(key), false, &mut dice).is_empty());
        }
        for key in 10..1000 {
            let gone = arrive(&mut strangers, key, host(key), false, &mut dice);
            assert!(gone.len() == 1 && gone[0] != key && strangers.len() == 10, "{gone:?}");
        }
    }

    #[test]
    fn no_flood_takes_the_places_of_known_addresses() {
        for seed in 1..50 {
            let (mut strangers, mut dice) = (Strangers::new(20, 10), Dice(seed * 7919));
            for key in 0..10 {
                arrive(&mut strangers, key, host(1), true, &mut dice);
            }
            for key in 100..1000 {
                let gone = arrive(&mut strangers, key, host(key), false, &mut dice);
                assert!(gone.iter().all(|key| *key >= 100), "{gone:?}");
            }
            assert_eq!(strangers.len(), 30);
        }
    }

    #[test]
    fn known_addresses_may_have_what_is_free_and_share_beyond_that() {
        let (mut strangers, mut dice) = (Strangers::new(20, 10), Dice(3));
        for key in 0..30 {
            assert!(arrive(&mut strangers, key, host(1), true, &mut dice).is_empty());
        }
        for key in 100..120 {
            let gone = arrive(&mut strangers, key, host(key), false, &mut dice);
            assert!(gone.len() == 1 && gone[0] < 30, "the source with most places makes room: {gone:?}");
        }
        assert_eq!(strangers.held, [20, 10]);
    }

    #[test]
    fn a_flood_from_one_source_meets_itself_and_a_far_client_stays() {
        let mut stayed = 0;
        for seed in 1..=100 {
            let (mut strangers, mut dice) = (Strangers::new(200, 0), Dice(seed * 104_729));
            arrive(&mut strangers, 0, host(0), false, &mut dice);
            let mut gone = Vec::new();
            // 6000 a second for 600 ms.
            for key in 1..3600 {
                gone.extend(arrive(&mut strangers, key, host(1), false, &mut dice));
            }
            stayed += usize::from(!gone.contains(&0));
        }
        assert_eq!(stayed, 100);
    }

    #[test]
    fn among_sources_of_one_place_each_the_oldest_has_the_same_chance_as_others() {
        let mut stayed = 0;
        for seed in 1..=400 {
            let (mut strangers, mut dice) = (Strangers::new(100, 0), Dice(seed * 15_485_863));
            arrive(&mut strangers, 0, host(0), false, &mut dice);
            let arrivals = 1..200;
            let gone: Vec<u32> =
                arrivals.flat_map(|key| arrive(&mut strangers, key, host(key), false, &mut dice)).collect();
            stayed += usize::from(!gone.contains(&0));
        }
        // A hundred have to leave, one of a hundred each time: 1/e of 400 stay.
        assert!((100..200).contains(&stayed), "{stayed}");
    }

    #[test]
    fn a_connection_with_many_streams_takes_many_places_and_is_the_first_to_go() {
        let (mut strangers, mut dice) = (Strangers::new(100, 0), Dice(5));
        for key in 0..60 {
            arrive(&mut strangers, key, host(key), false, &mut dice);
        }
        strangers.weigh(7, 41);
        assert_eq!(strangers.surplus(None, || 7), None);
        strangers.weigh(7, 42);
        assert_eq!(strangers.surplus(None, || 7), Some(7));
        assert_eq!((strangers.len(), strangers.held), (59, [59, 0]));
    }

    #[test]
    fn whatever_comes_and_goes_the_counts_hold() {
        for seed in 1..40 {
            let mut dice = Dice(seed * 6_700_417);
            let (places, kept) = (1 + dice.below(30_usize), dice.below(20_usize));
            let mut strangers = Strangers::new(places, kept);
            for step in 0..3000_u32 {
                let (key, other) = (dice.below(80_u32), dice.below(80_u32));
                match dice.below(4_u32) {
                    0 => strangers.leave(key),
                    1 => strangers.weigh(key, dice.below(9_usize)),
                    2 if step % 50 == 0 => drop(strangers.any(|| dice.next())),
                    _ => strangers.enter(key, host(other), other < 3),
                }
                while strangers.surplus(Some(key), || dice.next()).is_some() {}
                let weight =
                    |class| strangers.present.values().filter(move |one| one.class == class).map(|one| one.weight);
                let held = [weight(0).sum::<usize>(), weight(1).sum::<usize>()];
                assert_eq!(strangers.held, held);
                assert_eq!(strangers.sources.values().sum::<usize>(), held[0] + held[1]);
                let sound = |(key, one): (&u32, &Stranger)| strangers.keys[one.class][one.at] == *key;
                assert!(strangers.present.iter().all(sound));
                let alone = strangers.len() <= 1;
                assert!(alone || held[0] <= places + 9 && held[0] + held[1] <= places + kept + 9, "{held:?}");
            }
        }
    }
}
