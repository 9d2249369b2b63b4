//! A hash for tables whose keys a stranger chooses, cheaper than the standard one for short keys.
//!
//! ```text
//!   key = words of 32 bits  ->  polynomial at a secret point  ->  times a secret, plus a secret, all modulo 2^61 - 1
//! ```
//!
//! Whatever two keys are chosen, few of the 2^61 points make their polynomials meet, and the last step spreads what does not meet evenly
//! over a table's places. That holds as long as nothing of the hash is shown: it serves tables inside this process and nothing else.

use std::hash::{BuildHasher, Hasher};

/// The secrets of one table.
#[derive(Clone, Debug)]
pub struct SecretHash {
    point: u64,
    factor: u64,
    offset: u64,
}

impl SecretHash {
    /// Of three numbers that cannot be guessed.
    pub fn new([point, factor, offset]: [u64; 3]) -> SecretHash {
        SecretHash { point: reduce(point.into()), factor: reduce(factor.into()), offset: reduce(offset.into()) }
    }
}

impl BuildHasher for SecretHash {
    type Hasher = Polynomial;

    fn build_hasher(&self) -> Polynomial {
        Polynomial { secrets: self.clone(), value: 1 }
    }
}

/// A key on its way to its hash.
pub struct Polynomial {
    secrets: SecretHash,
    /// Below the modulus.
    value: u64,
}

impl Hasher for Polynomial {
    /// Bytes are padded to whole words: the hash of a text that a stranger chooses has to say its length as well.
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(size_of::<u32>()) {
            let mut word = [0; size_of::<u32>()];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u32(u32::from_le_bytes(word));
        }
    }

    fn write_u32(&mut self, word: u32) {
        self.value = times_plus(self.value, self.secrets.point, word.into());
    }

    fn write_u64(&mut self, words: u64) {
        self.write_u32(words as u32);
        self.write_u32((words >> 32) as u32);
    }

    /// Tables look at the lowest bits and the highest seven; the number has 61, so the upper ones are folded in.
    fn finish(&self) -> u64 {
        let spread = times_plus(self.value, self.secrets.factor, self.secrets.offset);
        spread ^ (spread << 3)
    }
}

/// `left * right + more`, all below the modulus or at most as large.
fn times_plus(left: u64, right: u64, more: u64) -> u64 {
    reduce(u128::from(left) * u128::from(right) + u128::from(more))
}

/// The same modulo 2^61 - 1, for less than 2^122.
fn reduce(value: u128) -> u64 {
    let sum = (value as u64 & MODULUS) + (value >> 61) as u64;
    if sum >= MODULUS {
        sum - MODULUS
    } else {
        sum
    }
}

/// A prime number, by which it is easy to divide.
const MODULUS: u64 = (1 << 61) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    /// Secrets that have nothing in common but their seed.
    fn table(seed: u64) -> SecretHash {
        let mut state = seed;
        SecretHash::new(std::array::from_fn(|_| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed ^ (mixed >> 31)
        }))
    }

    #[test]
    fn keys_that_meet_with_some_secrets_do_not_with_others() {
        let pairs = |seed: u64| {
            let places = (0..200u32).map(|word| table(seed).hash_one(word) % 1024);
            let places: Vec<u64> = places.collect();
            (0..200)
                .flat_map(|a| (0..a).map(move |b| (a, b)))
                .filter(|&(a, b)| places[a] == places[b])
                .collect::<Vec<_>>()
        };
        let (first, second) = (pairs(1), pairs(2));
        assert!(!first.is_empty() && first.iter().filter(|pair| second.contains(pair)).count() <= 2);
    }

    #[test]
    fn keys_in_a_row_are_spread_over_the_lowest_bits_and_the_highest_seven() {
        for seed in 1..20 {
            let hashes: Vec<u64> = (0..4096u64).map(|word| table(seed).hash_one(word << 16)).collect();
            for place in [|hash: u64| hash % 256, |hash| hash >> 57] {
                let mut counts = [0; 256];
                hashes.iter().for_each(|hash| counts[place(*hash) as usize] += 1);
                assert!(*counts.iter().max().unwrap() <= 128, "seed {seed}: {counts:?}");
            }
        }
    }

    #[test]
    fn a_key_is_not_the_same_with_an_empty_word_before_or_behind_it() {
        let hash = |words: &[u32]| {
            let mut state = table(3).build_hasher();
            words.iter().for_each(|word| state.write_u32(*word));
            state.finish()
        };
        let all = [hash(&[7]), hash(&[7, 0]), hash(&[0, 7]), hash(&[0, 0, 7])];
        assert!((0..4).all(|a| (0..a).all(|b| all[a] != all[b])));
    }
}
