//! Chance that comes again: what all tests with a seed throw.

/// Numbers that look random and come again with the seed, which is not 0 (xorshift64; Marsaglia, 2003).
pub struct Dice(pub u64);

impl Dice {
    /// Those of the seed with that number, any from 0 on: seeds that lie side by side begin alike.
    pub fn of(number: u64) -> Dice {
        Dice(number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// Any number.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number from 0 to `sides` - 1.
    pub fn below<N: TryFrom<u64> + TryInto<u64>>(&mut self, sides: N) -> N {
        let number = sides.try_into().map(|sides: u64| self.next() % sides.max(1));
        number.ok().and_then(|number| N::try_from(number).ok()).expect("a number of sides")
    }

    /// Whether what happens once in `count` times happens.
    pub fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    /// One of these.
    pub fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }
}
