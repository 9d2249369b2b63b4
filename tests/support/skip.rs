//! Tests that cannot run on this machine: what it lacks is counted, or a failure.

use std::io::Write;

/// Says that the calling test, or a part of it, does not run, as this machine lacks something: a noun, as it stands in the last line of
/// `make test`. With `NODEPASS_TESTS=strict` that is a failure.
pub fn skip(lacks: &str) {
    assert!(
        std::env::var("NODEPASS_TESTS").as_deref() != Ok("strict"),
        "NODEPASS_TESTS=strict: this machine lacks {lacks}"
    );
    note(lacks);
}

/// As [`skip`], for what lies beside the repository and need not be there even under `NODEPASS_TESTS=strict`.
pub fn skip_beside(lacks: &str) {
    note(lacks);
}

fn note(lacks: &str) {
    println!("skipped: this machine lacks {lacks}");
    if let Some(list) = std::env::var_os("NODEPASS_SKIPPED") {
        let thread = std::thread::current();
        let test = thread.name().and_then(|name| name.split(' ').next()).unwrap_or("?");
        // One write: lines of tests that run side by side stay whole.
        let line = format!("{lacks}\t{} {test}\n", env!("CARGO_CRATE_NAME"));
        let file = std::fs::OpenOptions::new().append(true).create(true).open(list);
        file.and_then(|mut file| file.write_all(line.as_bytes())).expect("the list of skipped tests");
    }
}

/// Whether it is there; if not, the calling test is skipped for the lack of it.
pub fn present(there: bool, what: &str) -> bool {
    if !there {
        skip(what);
    }
    there
}
