//! What an original makes of values, where that is otherwise than here.

use std::time::Duration;

use super::table::{Draft, Parameter};
use super::value::number;
use super::Reading;

/// Whether an original knows the parameter, and takes its default for a value that it cannot read. Files are not among them: no user wants
/// another certificate than the one that is named.
pub(super) fn is_originals(name: &str) -> bool {
    DEFAULTED.contains(&name)
}

impl Draft {
    /// Sets a parameter; `None` if the value is not acceptable. Where a user is there to see what becomes of it, a bare number is one of
    /// seconds, as in originals of old; later ones, and so an instance of a master, pass it over.
    pub(super) fn set(&mut self, row: &Parameter, value: &str, reading: Reading) -> Option<()> {
        (row.set)(self, value).or_else(|| match (row.name, reading) {
            ("read", Reading::Strict) => (row.set)(self, &format!("{}s", number(value, 1..=MAX_SECONDS)?)),
            _ => None,
        })
    }
}

/// Parameters for which an original has a default, whatever was said.
const DEFAULTED: [&str; 18] = [
    "log", "tls", "dns", "sni", "lbs", "min", "max", "mode", "quic", "type", "dial", "read", "rate", "slot", "proxy",
    "block", "notcp", "noudp",
];

/// Seconds of the longest duration.
const MAX_SECONDS: u64 = Duration::from_secs(8760 * 3600).as_secs();
