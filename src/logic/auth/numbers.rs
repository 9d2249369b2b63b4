//! Which numbers were used: each counts once, in whatever order they come, within a window.

/// The numbers of the openings of one tunnel.
///
/// It keeps a bit for each of the last 65 536 numbers; older ones count as used. It takes 8 KiB once the first is used.
#[derive(Default)]
pub struct Numbers {
    bits: Vec<u64>,
    /// One more than the largest number used.
    end: u64,
}

impl Numbers {
    /// Uses `number`: `false` if it was used before, or is too old to tell.
    pub fn take(&mut self, number: u64) -> bool {
        if self.bits.is_empty() {
            self.bits = vec![0; (WINDOW / 64) as usize];
        }
        if number == u64::MAX || number.saturating_add(WINDOW) < self.end {
            return false;
        }
        if number >= self.end {
            self.advance(number + 1);
        }
        let (word, bit) = place(number);
        let fresh = self.bits[word] & bit == 0;
        self.bits[word] |= bit;
        fresh
    }

    /// Moves the window so that it ends before `end`.
    fn advance(&mut self, end: u64) {
        if end - self.end >= WINDOW {
            self.bits.fill(0);
        } else {
            for number in self.end..end {
                let (word, bit) = place(number);
                self.bits[word] &= !bit;
            }
        }
        self.end = end;
    }
}

fn place(number: u64) -> (usize, u64) {
    let at = number % WINDOW;
    ((at / 64) as usize, 1 << (at % 64))
}

/// So many numbers back an opening may come late.
const WINDOW: u64 = 65_536;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn each_number_counts_once_in_any_order() {
        let mut numbers = Numbers::default();
        for number in [0, 5, 3, WINDOW - 1, 1] {
            assert!(numbers.take(number), "{number}");
            assert!(!numbers.take(number), "{number} twice");
        }
        assert!(numbers.take(2 * WINDOW));
        assert!(!numbers.take(WINDOW), "too old by one");
        assert!(numbers.take(WINDOW + 1));
        assert!(!numbers.take(5));
        assert!(!numbers.take(u64::MAX));
        assert!(numbers.take(u64::MAX - 1));
        assert!(!numbers.take(2 * WINDOW + 1));
    }

    #[test]
    fn it_agrees_with_a_set_of_all_numbers() {
        for seed in 1..50_u64 {
            let (mut numbers, mut used, mut end, mut state) = (Numbers::default(), HashSet::new(), 0, seed);
            for _ in 0..2000 {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let step = (state >> 33) % [3, 700, 2 * WINDOW][(state >> 20) as usize % 3];
                let number = match state >> 63 {
                    0 => end + step,
                    _ => u64::saturating_sub(end, step),
                };
                let fresh = number + WINDOW >= end && used.insert(number);
                assert_eq!(numbers.take(number), fresh, "seed {seed}, number {number}, end {end}");
                end = end.max(number + 1);
            }
        }
    }
}
