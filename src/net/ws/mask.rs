//! What a client does to its payload (RFC 6455, 5.3): an exclusive or with four bytes that change with every frame.

use std::io;

use crate::net::random;

/// A frame's mask, at some place in its payload. Without one bytes stay as they are.
#[derive(Clone, Copy)]
pub struct Mask(Option<[u8; 4]>);

impl Mask {
    /// The beginning of a payload that is masked with this.
    pub fn new(bytes: Option<[u8; 4]>) -> Mask {
        Mask(bytes)
    }

    /// Masks or unmasks the next bytes of the payload.
    pub fn apply(&mut self, bytes: &mut [u8]) {
        let Some(mask) = &mut self.0 else { return };
        let wide = wide(*mask);
        let mut words = bytes.chunks_exact_mut(WORD);
        for word in &mut words {
            word.iter_mut().zip(wide).for_each(|(byte, mask)| *byte ^= mask);
        }
        words.into_remainder().iter_mut().zip(wide).for_each(|(byte, mask)| *byte ^= mask);
        mask.rotate_left(bytes.len() % 4);
    }
}

/// A mask as often as it fits in a word that a processor masks at once.
fn wide(mask: [u8; 4]) -> [u8; WORD] {
    std::array::from_fn(|at| mask[at % 4])
}

/// Random masks, drawn a handful at a time: a system call for each frame would cost more than the masking.
#[derive(Default)]
pub struct Masks {
    drawn: [[u8; 4]; 8],
    left: usize,
}

impl Masks {
    /// One that was never used before.
    pub fn next(&mut self) -> io::Result<[u8; 4]> {
        if self.left == 0 {
            random::fill(self.drawn.as_flattened_mut())?;
            self.left = self.drawn.len();
        }
        self.left -= 1;
        Ok(self.drawn[self.left])
    }
}

/// Bytes that are masked at once.
const WORD: usize = 32;
