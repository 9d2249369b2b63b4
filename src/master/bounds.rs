//! How much users may keep with an instance. Fields are checked where they are read, the whole where it is kept.

use std::collections::BTreeMap;

use super::json;
use super::record::{Meta, Peer, Record};
use super::requests::Refusal;

/// A text with a name: at most [`MAX_TEXT`] bytes.
pub(super) fn text(what: &str, text: &str) -> Result<(), Refusal> {
    within(what, text.len(), MAX_TEXT)
}

/// A URL: at most [`MAX_URL`] bytes as it is written in an answer.
pub(super) fn url(url: &str) -> Result<(), Refusal> {
    within("Instance URL", json::compact(url).len() - QUOTES, MAX_URL)
}

/// What dashboards keep with an instance.
pub(super) fn meta(meta: &Meta) -> Result<(), Refusal> {
    peer(&meta.peer)?;
    tags(&meta.tags)
}

/// The other end.
pub(super) fn peer(peer: &Peer) -> Result<(), Refusal> {
    text("Meta peer.sid", &peer.sid)?;
    text("Meta peer.type", &peer.kind)?;
    text("Meta peer.alias", &peer.alias)
}

/// The free words.
pub(super) fn tags(tags: &BTreeMap<String, String>) -> Result<(), Refusal> {
    for (name, value) in tags {
        text("Meta tag key", name)?;
        text("Meta tag value", value)?;
    }
    within("Meta tags", json::compact(tags).len(), MAX_TAGS)
}

/// A whole record, with what the master adds to its URL.
pub(super) fn record(record: &Record) -> Result<(), Refusal> {
    match serde_json::to_vec(record).map_or(usize::MAX, |json| json.len()) {
        0..=MAX_RECORD => Ok(()),
        _ => Err(Refusal::new(400, format!("Instance exceeds maximum size {MAX_RECORD}"))),
    }
}

fn within(what: &str, len: usize, most: usize) -> Result<(), Refusal> {
    match len <= most {
        true => Ok(()),
        false => Err(Refusal::new(400, format!("{what} exceeds maximum length {most}"))),
    }
}

/// Bytes in an alias, in a field of the peer, in the name or the value of a tag: the original's limit.
pub(super) const MAX_TEXT: usize = 256;

/// Bytes in a URL as JSON: two of them, all tags and a line of log must fit in one event of 64 KiB.
pub(super) const MAX_URL: usize = 8192;

/// Bytes in all tags as JSON, for the same reason.
pub(super) const MAX_TAGS: usize = 16384;

/// Bytes of a record as JSON: an event of it, with a line, is below the 64 KiB that dashboards can read.
const MAX_RECORD: usize = 32 * 1024;

/// The quotation marks around a JSON string.
const QUOTES: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_bounded_as_it_is_written() {
        assert!(url(&"a".repeat(MAX_URL)).is_ok());
        let told = url(&"a".repeat(MAX_URL + 1)).unwrap_err();
        assert_eq!(told.text, "Instance URL exceeds maximum length 8192");
        // Six bytes each.
        assert!(url(&"&".repeat(MAX_URL / 6 + 1)).is_err());
    }
}
