//! What an instance's id, the master's id and the API key look like, and new ones.

use super::requests::Refusal;
use crate::logic::encoding;
use crate::net::random;

/// A new id for an instance; it may be that of another one.
pub(super) fn instance() -> Result<String, Refusal> {
    hex::<INSTANCE>()
}

/// Whether it looks like the id of an instance.
pub(super) fn is_instance(id: &str) -> bool {
    is_hex(id, INSTANCE) && !id.bytes().any(|byte| byte.is_ascii_uppercase())
}

/// A new id for a master.
pub(super) fn master() -> Result<String, Refusal> {
    hex::<MASTER>()
}

/// Whether it looks like the id of a master.
pub(super) fn is_master(id: &str) -> bool {
    is_hex(id, MASTER)
}

/// A new API key.
pub(super) fn key() -> Result<String, Refusal> {
    hex::<KEY>()
}

/// Whether it looks like an API key.
pub(super) fn is_key(key: &str) -> bool {
    is_hex(key, KEY)
}

fn is_hex(text: &str, bytes: usize) -> bool {
    text.len() == bytes * 2 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn hex<const N: usize>() -> Result<String, Refusal> {
    let bytes = random::bytes::<N>().map_err(|error| Refusal::new(500, error.to_string()))?;
    Ok(encoding::hex(&bytes))
}

/// Random bytes of an instance's id.
const INSTANCE: usize = 4;

/// Random bytes of a master's id.
const MASTER: usize = 8;

/// Random bytes of the API key.
const KEY: usize = 16;
