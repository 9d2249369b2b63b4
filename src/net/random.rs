//! Chance: bytes that cannot be guessed, for ids, keys and masks.

use std::io;

use ring::rand::{SecureRandom, SystemRandom};

/// Random bytes; an error if the system has none to give.
pub fn bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    fill(&mut bytes)?;
    Ok(bytes)
}

/// A number by chance; 0 if the system has none to give.
pub fn number() -> u64 {
    bytes().map_or(0, u64::from_le_bytes)
}

/// The same into a buffer.
pub fn fill(bytes: &mut [u8]) -> io::Result<()> {
    SystemRandom::new().fill(bytes).map_err(|_| io::Error::other("the system gives no random numbers"))
}
