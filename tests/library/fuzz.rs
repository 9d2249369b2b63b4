//! The fuzz targets without a fuzzer: every input of the corpus, and many small changes of them, always the same ones.

#[path = "../fuzz/targets.rs"]
mod targets;

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

use crate::support::Dice;

#[test]
fn any_url_gives_a_configuration_or_one_clear_line() {
    replay("url", targets::url);
}

#[test]
fn any_request_is_judged_alike_in_whatever_pieces_it_comes() {
    replay("request", targets::request);
}

#[test]
fn any_answer_gives_terms_a_refusal_or_a_reason() {
    replay("answer", targets::answer);
}

#[test]
fn any_control_line_is_read_alike_in_whatever_pieces_it_comes() {
    replay("signals", targets::signals);
}

#[test]
fn any_bytes_are_frames_and_a_rest() {
    replay("frames", targets::frames);
}

#[test]
fn any_stream_of_many_is_taken_apart_alike_in_whatever_pieces_it_comes() {
    replay("serial", targets::serial);
}

#[test]
fn any_first_bytes_are_told_early_and_for_good() {
    replay("sniff", targets::sniff);
}

#[test]
fn any_file_holds_one_url_or_is_refused_with_the_reason() {
    replay("source", targets::source);
}

#[test]
fn any_list_of_ranges_is_refused_or_shown_as_it_is_read() {
    replay("networks", targets::networks);
}

#[test]
fn nothing_forged_opens_or_orders_anything() {
    replay("auth", targets::auth);
}

#[cfg(feature = "dns")]
#[test]
fn any_answer_of_a_dns_server_gives_bounded_addresses_or_a_reason() {
    replay("dns", targets::dns);
}

#[cfg(feature = "master")]
#[test]
fn any_state_file_is_refused_or_its_records_survive_being_written() {
    replay("state", targets::state);
}

#[cfg(feature = "master")]
#[test]
fn any_request_to_the_api_is_refused_or_handed_on_as_it_was_read_in_whatever_pieces_it_comes() {
    replay("front", targets::front);
}

#[cfg(feature = "h2")]
#[test]
fn any_peer_of_an_http2_connection_is_answered_in_whole_frames_and_held_within_bounds() {
    replay("h2", targets::h2);
}

#[cfg(feature = "quic")]
#[test]
fn any_path_between_two_ends_of_quic_delivers_what_was_said_or_nothing() {
    // Each round is a handshake.
    rounds("quic", targets::quic, ROUNDS / 20);
}

#[test]
fn any_records_of_a_peer_who_knows_the_keys_give_what_was_said_or_an_error() {
    rounds("tls", targets::tls, ROUNDS / 20);
}

fn replay(name: &str, target: fn(&[u8])) {
    rounds(name, target, ROUNDS);
}

fn rounds(name: &str, target: fn(&[u8]), count: usize) {
    let corpus = corpus(name);
    for input in &corpus {
        check(name, target, input);
    }
    let mut dice = Dice(SEED);
    for _ in 0..count {
        check(name, target, &mutated(&corpus, &mut dice));
    }
}

/// Runs the target, and says which input it was that broke it.
fn check(name: &str, target: fn(&[u8]), input: &[u8]) {
    if catch_unwind(|| target(input)).is_err() {
        panic!("{name} breaks on b\"{}\"", input.escape_ascii());
    }
}

/// The inputs kept for a target, in the order of their names: what comes of the seed is the same everywhere.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name);
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// One input of the corpus with one to six changes.
fn mutated(corpus: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut input = corpus[dice.below(corpus.len())].clone();
    for _ in 0..=dice.below(6) {
        let at = dice.below(input.len() + 1);
        let end = at + dice.below(input.len() - at + 1).min(64);
        match dice.below(7) {
            0 => input.insert(at, byte(dice)),
            1 if at < input.len() => input[at] = byte(dice),
            2 if at < input.len() => input[at] ^= 1 << dice.below(8),
            3 => drop(input.drain(at..end)),
            4 => input.truncate(at),
            5 => {
                let again = input[at..end].repeat(1 + dice.below(3));
                input.splice(at..at, again);
            }
            _ => {
                let other = &corpus[dice.below(corpus.len())];
                let from = dice.below(other.len() + 1);
                input.splice(at..end, other[from..].iter().copied());
            }
        }
        input.truncate(MAX_INPUT);
    }
    input
}

/// Any byte, but more often one that means something to one of the formats.
fn byte(dice: &mut Dice) -> u8 {
    const TELLING: &[u8] = b"\0\x01\x04\x05\x16\xff\r\n\t :/?&=%@[],;{}\"\\+-0129AFGafx";
    match dice.below(2) {
        0 => dice.next() as u8,
        _ => TELLING[dice.below(TELLING.len())],
    }
}

/// Changed inputs for each target.
const ROUNDS: usize = 20_000;
/// Where the chance starts.
const SEED: u64 = 0x6e6f_6465_7061_7373;
/// Longest input, in bytes.
const MAX_INPUT: usize = 20_000;
