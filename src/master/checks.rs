//! What is wrong with an instance, by `nodepass check`: a process of this executable for each question, since a check waits for networks.
//!
//! ```text
//!   API --Checks--> nodepass check --json --lang en -     the URL on its standard input
//!       <--one JSON object---
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::child::Program;
use super::requests::Refusal;
use super::semaphore::Semaphore;

/// Checks instances, a few at once.
pub(super) struct Checks {
    program: Program,
    semaphore: Arc<Semaphore>,
}

impl Checks {
    /// By this program.
    pub fn new(program: Program) -> Checks {
        Checks { program, semaphore: Semaphore::new(PLACES) }
    }

    /// What `nodepass check --json` says of an instance with this URL, in the language `en` or `zh`.
    pub fn check(&self, url: &str, lang: &str) -> Result<Value, Refusal> {
        let _permit =
            self.semaphore.enter(PLACE_TIMEOUT).ok_or_else(|| Refusal::new(429, "Too many checks at once"))?;
        let until = Instant::now() + TIMEOUT;
        let said = self.program.ask(&["check", "--json", "--lang", lang, "-"], url, until);
        let said = said.map_err(|error| Refusal::new(500, format!("The check does not start: {error}")))?;
        serde_json::from_slice(&said).map_err(|_| match Instant::now() < until {
            true => Refusal::new(501, "check is not part of this build"),
            false => Refusal::new(504, format!("The check has not ended within {} s", TIMEOUT.as_secs())),
        })
    }
}

/// Checks at once: each is a process.
const PLACES: usize = 2;
/// Longest wait for a place.
const PLACE_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest time for one check: below the time that the front waits for an answer.
const TIMEOUT: Duration = Duration::from_secs(40);
