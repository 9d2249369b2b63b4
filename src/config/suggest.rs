//! Which known name a mistyped one stands for.

/// The known name that is one or two slips of the hand away, if there is one; of several the nearest.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > MAX_WORD {
        return None;
    }
    let slips = if word.len() <= SHORT { 1 } else { 2 };
    let measured = known.into_iter().map(|name| (distance(word.as_bytes(), name.as_bytes()), name));
    measured
        .filter(|(distance, _)| (1..=slips).contains(distance))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// What is said of a known name after an unknown one; nothing without one.
pub(super) fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, known).map(|name| format!("did you mean {name}?")).unwrap_or_default()
}

/// Bytes to put in, take out, exchange, or swap with their neighbour (optimal string alignment).
fn distance(one: &[u8], other: &[u8]) -> usize {
    let (mut before, mut above): (Vec<usize>, Vec<usize>) = (Vec::new(), (0..=other.len()).collect());
    for (i, byte) in one.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, against) in other.iter().enumerate() {
            let exchanged = above[j] + usize::from(byte != against);
            let mut least = exchanged.min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && one[i - 1] == *against && other[j - 1] == *byte {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        (before, above) = (above, row);
    }
    above[other.len()]
}

/// Bytes of a word that is worth comparing; no known name has as many.
const MAX_WORD: usize = 32;
/// Bytes of a word in which two slips would leave too little.
const SHORT: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_hand_finds_the_name_and_another_word_none() {
        let known = ["tls", "type", "notcp", "mode", "tunnel-port", "NP_WORKERS"];
        for (word, name) in [
            ("tsl", "tls"),
            ("tl", "tls"),
            ("ttls", "tls"),
            ("typ", "type"),
            ("notpc", "notcp"),
            ("tunel-port", "tunnel-port"),
            ("NP_WORKER", "NP_WORKERS"),
        ] {
            assert_eq!(nearest(word, known), Some(name), "{word}");
        }
        for word in ["tls", "", "colour", "xyz", "tt", &"x".repeat(100)] {
            assert_eq!(nearest(word, known), None, "{word}");
        }
    }

    #[test]
    fn distances_count_each_slip_once() {
        for (one, other, slips) in
            [("", "ab", 2), ("ab", "ba", 1), ("abc", "abd", 1), ("abc", "ac", 1), ("ab", "ab", 0)]
        {
            assert_eq!(distance(one.as_bytes(), other.as_bytes()), slips, "{one} {other}");
        }
    }
}
