//! Instances to be saved, for the unit tests and for `tests/e2e/state.rs`.

use super::{BTreeMap, Kind, Record, Status};

/// As many instances, each of which says `word`.
pub fn records(count: usize, word: &str) -> BTreeMap<String, Record> {
    let one = |number| {
        let (id, url) = (format!("{number:08x}"), format!("server://:1/:2?word={word}"));
        let (kind, status, alias, config) = (Kind::Server, Status::Stopped, word.to_string(), url.clone());
        (id.clone(), Record { id, alias, kind, status, url, config, ..Record::default() })
    };
    (0..count).map(one).collect()
}
