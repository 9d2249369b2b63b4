//! A key that is not printed by accident, and the one of a tunnel that was given none.

use std::fmt;

/// A key. Printed as dots wherever it may end up by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// A key from its bytes.
    pub fn new(key: impl Into<Vec<u8>>) -> Secret {
        Secret(key.into())
    }

    /// The key itself.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("...")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("...")
    }
}

/// The key where none is given: the 32-bit FNV-1a hash of the port's digits, as 8 hex digits.
pub(super) fn default_key(port: u16) -> Secret {
    let mix = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(FNV_PRIME);
    Secret::new(format!("{:08x}", port.to_string().bytes().fold(FNV_START, mix)))
}

/// FNV-1a, 32 bits: where the hash starts.
pub(super) const FNV_START: u32 = 0x811c_9dc5;

/// FNV-1a, 32 bits: what it is multiplied with for each byte.
pub(super) const FNV_PRIME: u32 = 0x0100_0193;
