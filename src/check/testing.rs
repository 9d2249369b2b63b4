//! What the tests of checks share.

use super::finding::Finding;
use crate::config::{parse, Command, Config};

/// A URL's configuration, and the remarks that were made.
pub fn parsed(url: &str) -> (Config, Vec<String>) {
    let parsed = parse(&[url.to_owned()], &|_| None).unwrap();
    match parsed.command {
        Command::Run(config) => (*config, parsed.warnings),
        other => panic!("{other:?}"),
    }
}

/// The codes of findings.
pub fn codes(found: &[Finding]) -> Vec<&'static str> {
    found.iter().map(|finding| finding.case.code).collect()
}
