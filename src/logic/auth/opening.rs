//! What a pool connection of an authenticated tunnel begins with: which tunnel it is for, and a number under the client's key.
//!
//! ```text
//!  00 | session (4) | number (8, big-endian) | the seal of an empty text under that number (16)
//! ```

use super::{Numbers, SessionId, SessionKeys, TAG};

/// The bytes of an opening.
pub type Opening = [u8; OPENING];

/// Bytes of an opening.
pub const OPENING: usize = 1 + 4 + 8 + TAG;

impl SessionKeys {
    /// The opening of the next pool connection (client).
    pub fn opening(&self, session: SessionId) -> Opening {
        let (number, seal) = self.seal(&[]);
        let mut opening = [0; OPENING];
        opening[1..5].copy_from_slice(&session.to_bytes());
        opening[5..13].copy_from_slice(&number.to_be_bytes());
        // A seal that failed is empty; the opening is then one that no server takes.
        opening[13..13 + seal.len()].copy_from_slice(&seal);
        opening
    }

    /// Whether it is an opening of the peer's that was not used before (server). It is from now on.
    pub fn accept(&self, opening: &Opening, used: &mut Numbers) -> bool {
        let mut number = [0; 8];
        number.copy_from_slice(&opening[5..13]);
        let number = u64::from_be_bytes(number);
        self.open(number, &opening[13..]).is_some() && used.take(number)
    }
}

/// The tunnel that an opening is for, as it says itself.
pub fn session_of(opening: &Opening) -> SessionId {
    SessionId::from_bytes([opening[1], opening[2], opening[3], opening[4]])
}
