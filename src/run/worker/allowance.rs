//! How much one direction of a relay may take in at a time: the rate limit, the turn of others, and whether there is memory.

use std::io;
use std::time::{Duration, Instant};

use crate::logic::timers::Bucket;
use crate::net::relay::Pumped;

/// How much one direction may take in now. One that was told to wait does not ask before its time: so all take turns.
pub fn grant(bucket: Option<&Bucket>, held: &mut Option<Instant>, now: Instant) -> usize {
    let Some(bucket) = bucket else { return BUDGET };
    if held.is_some_and(|held| now < held) {
        return 0;
    }
    match bucket.grant(now) {
        Ok(granted) => {
            *held = None;
            granted.min(BUDGET)
        }
        Err(later) => {
            *held = Some(later);
            0
        }
    }
}

/// Takes what was moved out of the bucket.
pub fn account(pumped: io::Result<Pumped>, bucket: Option<&Bucket>, budget: usize, now: Instant) -> io::Result<Pumped> {
    let mut pumped = pumped?;
    if let Some(bucket) = bucket {
        bucket.spend(pumped.moved, now);
    }
    pumped.again &= budget > 0;
    Ok(pumped)
}

/// A direction that found no buffer to be had asks again after a while: a relay that gives one back does not know which others wait.
pub fn wait_for_memory(held: &mut Option<Instant>, bucket: Option<&Bucket>, refused: bool, now: Instant) {
    if refused {
        *held = Some(now + PAUSE);
    } else if bucket.is_none() {
        *held = None;
    }
}

/// How long a direction waits for a buffer.
const PAUSE: Duration = Duration::from_millis(50);
/// Most bytes that one direction takes in before others have their turn.
const BUDGET: usize = 512 * 1024;
