//! Words to values and back: numbers, switches, durations, names. `None` means that the word is not acceptable.

use std::fmt::Write;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Puts a value in its place, if there is one.
pub(super) fn put<T>(place: &mut T, value: Option<T>) -> Option<()> {
    *place = value?;
    Some(())
}

/// A decimal number without a sign, within `range`.
pub(super) fn number(text: &str, range: RangeInclusive<u64>) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| digits)?;
    range.contains(&number).then_some(number)
}

/// A count or a size, within `range`.
pub(super) fn count(text: &str, range: RangeInclusive<u64>) -> Option<usize> {
    number(text, range)?.try_into().ok()
}

/// `0` or `1`.
pub(super) fn switch(text: &str) -> Option<bool> {
    coded(text, &[false, true])
}

/// One of several things known by a digit: its place in `all`.
pub(super) fn coded<T: Copy>(text: &str, all: &[T]) -> Option<T> {
    match text.as_bytes() {
        [digit @ b'0'..=b'9'] => all.get(usize::from(digit - b'0')).copied(),
        _ => None,
    }
}

/// An IP address, with or without the brackets of a URL.
pub(super) fn ip(text: &str) -> Option<IpAddr> {
    text.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(text).parse().ok()
}

/// A host name: letters, digits, hyphens and underscores in parts of up to 63 joined by dots, 253 in all. What is only
/// digits and dots is a broken address, not a name.
pub(super) fn host_name(text: &str) -> Option<String> {
    let part = |part: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=PART).contains(&part.len()) && part.bytes().all(allowed) && !part.starts_with('-') && !part.ends_with('-')
    };
    let bare = text.strip_suffix('.').unwrap_or(text);
    let numeric = bare.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    (bare.len() <= NAME && !numeric && bare.split('.').all(part)).then(|| text.to_owned())
}

/// A duration of 1 ms to a year.
pub(super) fn period(text: &str) -> Option<Duration> {
    duration(text).filter(|period| (MIN_PERIOD..=MAX_PERIOD).contains(period))
}

/// A duration of 1 ms to a year, or zero.
pub(super) fn period_or_zero(text: &str) -> Option<Duration> {
    duration(text).filter(|period| period.is_zero() || (MIN_PERIOD..=MAX_PERIOD).contains(period))
}

/// A duration as Go writes them: numbers with a unit, one after the other (`1h30m`, `1.5s`), or `0`.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut nanos: u64 = 0;
    let mut any = false;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (amount, more) = rest.split_at(end);
        let end = more.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(more.len());
        let (unit, more) = more.split_at(end);
        nanos = nanos.checked_add(scaled(amount, unit_nanos(unit)?)?)?;
        (rest, any) = (more, true);
    }
    any.then(|| Duration::from_nanos(nanos))
}

/// A decimal fraction (`1`, `1.5`, `.5`, `1.`) times `unit`, cut to whole numbers.
fn scaled(amount: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = amount.split_once('.').unwrap_or((amount, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()? };
    let mut part = 0;
    let mut place = unit;
    for digit in fraction.bytes() {
        // Digits that weigh less than a nanosecond weigh nothing.
        place /= 10;
        part += u64::from(digit - b'0') * place;
    }
    whole.checked_mul(unit)?.checked_add(part)
}

fn unit_nanos(unit: &str) -> Option<u64> {
    Some(match unit {
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// A duration in the words that [`period_or_zero`] reads: `1h30m`, `300ms`, `0`.
pub(super) fn duration_words(duration: Duration) -> String {
    let (seconds, nanos) = (duration.as_secs(), u64::from(duration.subsec_nanos()));
    let parts = [
        (seconds / 3600, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
        (nanos / 1_000_000, "ms"),
        (nanos / 1_000 % 1_000, "us"),
        (nanos % 1_000, "ns"),
    ];
    let words: String =
        parts.iter().filter(|part| part.0 > 0).map(|(amount, unit)| format!("{amount}{unit}")).collect();
    if words.is_empty() {
        "0".into()
    } else {
        words
    }
}

/// A percent sign without two hex digits after it, as it was written.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BrokenEscape(pub String);

/// `%NN` back to bytes, and `+` to a space where `plus` says so.
pub(crate) fn percent_decoded(text: &str, plus: bool) -> Result<Vec<u8>, BrokenEscape> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let pair: Vec<u8> = bytes.by_ref().take(2).collect();
                let hex = |at: usize| pair.get(at).and_then(|&digit| char::from(digit).to_digit(16));
                match (hex(0), hex(1)) {
                    (Some(high), Some(low)) => (high * 16 + low) as u8,
                    _ => return Err(BrokenEscape(format!("%{}", String::from_utf8_lossy(&pair)))),
                }
            }
            b'+' if plus => b' ',
            byte => byte,
        });
    }
    Ok(decoded)
}

/// A query value as it stands in a URL. `/`, `:`, `,` and `*` stay as they are: they mean nothing there and read better.
pub(super) fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b':' | b',' | b'*' => {
                encoded.push(byte.into())
            }
            _ => write!(encoded, "%{byte:02X}").unwrap_or_default(),
        }
    }
    encoded
}

/// Shortest duration other than zero: less than the clocks here can keep.
const MIN_PERIOD: Duration = Duration::from_millis(1);

/// Longest duration: a year, far from where sums of times overflow.
const MAX_PERIOD: Duration = Duration::from_secs(8760 * 3600);

/// Bytes in a host name (DNS).
const NAME: usize = 253;

/// Bytes in one part of a host name (DNS).
const PART: usize = 63;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        let ms = Duration::from_millis;
        let cases = [
            ("0", ms(0)),
            ("0s", ms(0)),
            ("300ms", ms(300)),
            ("30s", ms(30_000)),
            ("5m", ms(300_000)),
            ("1h30m", ms(5_400_000)),
            ("1.5s", ms(1500)),
            (".5s", ms(500)),
            ("1.s", ms(1000)),
            ("+2s", ms(2000)),
            ("1m1m", ms(120_000)),
            ("0.001h", ms(3600)),
            ("1us", Duration::from_micros(1)),
            ("1\u{b5}s", Duration::from_micros(1)),
            ("1\u{3bc}s", Duration::from_micros(1)),
            ("17ns", Duration::from_nanos(17)),
            ("0.33333333333333333333333333s", Duration::from_nanos(333_333_333)),
        ];
        for (text, expected) in cases {
            assert_eq!(duration(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused_and_nothing_overflows() {
        let words = "|+|-|-1s|5|1.5|.|.s|s|5 s|5x|1.2.3s|1s5|00|5d|5S|1e3s|1s-|--1s|h1|1,5s|٣s|5s ";
        for text in words.split('|') {
            assert_eq!(duration(text), None, "{text}");
        }
        for text in ["99999999999999999999h", "9999999999h", "18446744073709551615ns1ns", "18446744073709551615.9s"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn periods_are_from_a_millisecond_to_a_year() {
        assert_eq!(period("1ms"), Some(MIN_PERIOD));
        assert_eq!(period("8760h"), Some(MAX_PERIOD));
        for text in ["0", "0s", "999us", "8760h1ms", "1ns"] {
            assert_eq!(period(text), None, "{text}");
        }
        assert_eq!(period_or_zero("0"), Some(Duration::ZERO));
        assert_eq!(period_or_zero("999us"), None);
    }

    #[test]
    fn a_duration_survives_being_written_and_read() {
        for (words, nanos) in
            [("0", 0), ("5m", 300_000_000_000), ("1h30m", 5_400_000_000_000), ("1s500ms", 1_500_000_000)]
        {
            assert_eq!(duration_words(Duration::from_nanos(nanos)), words);
        }
        for nanos in [1, 999, 1_001, 1_000_001_002, 3_661_001_001_001, u64::MAX] {
            let written = duration_words(Duration::from_nanos(nanos));
            assert_eq!(duration(&written), Some(Duration::from_nanos(nanos)), "{written}");
        }
    }

    #[test]
    fn numbers_are_plain_digits_within_their_range() {
        assert_eq!(number("1", 1..=9), Some(1));
        assert_eq!(number("9", 1..=9), Some(9));
        for text in ["", "0", "10", "+1", "-1", "1.0", " 1", "1 ", "0x1", "99999999999999999999", "١"] {
            assert_eq!(number(text, 1..=9), None, "{text}");
        }
    }

    #[test]
    fn digits_pick_from_a_list() {
        assert_eq!(coded("1", &['a', 'b']), Some('b'));
        assert_eq!((coded("2", &['a', 'b']), coded("01", &['a', 'b']), coded("", &['a'])), (None, None, None));
        assert_eq!((switch("0"), switch("1"), switch("2"), switch("true")), (Some(false), Some(true), None, None));
    }

    #[test]
    fn host_names_are_names_and_nothing_else() {
        for good in ["a", "example.com", "xn--bcher-kva.example", "my_host", "1a", "3.example", "host.", "A-b.c"] {
            assert_eq!(host_name(good).as_deref(), Some(good));
        }
        let long = format!("{}.a", "b".repeat(64));
        let longer = vec!["abcdefg"; 40].join(".");
        let bad = [
            "",
            ".",
            "a..b",
            "-a",
            "a-",
            "a b",
            "a\r\nX: y",
            "a/b",
            "a:1",
            "1.2.3",
            "300.1.1.1",
            "bücher",
            &long,
            &longer,
        ];
        for bad in bad {
            assert_eq!(host_name(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn addresses_come_with_or_without_brackets() {
        assert_eq!(ip("[::1]"), ip("::1"));
        assert!(ip("10.0.0.1").is_some());
        assert_eq!((ip("[::1"), ip("10.0.0"), ip("auto"), ip("")), (None, None, None, None));
    }

    #[test]
    fn percent_escapes_are_decoded_and_broken_ones_named() {
        assert_eq!(percent_decoded("a%2Fb%00+", false), Ok(b"a/b\0+".to_vec()));
        assert_eq!(percent_decoded("a+b%2B", true), Ok(b"a b+".to_vec()));
        assert_eq!(percent_decoded("ü", true), Ok("ü".into()));
        for (broken, named) in [("%", "%"), ("x%2", "%2"), ("%zzy", "%zz"), ("%+1", "%+1")] {
            assert_eq!(percent_decoded(broken, true), Err(BrokenEscape(named.into())), "{broken}");
        }
    }

    #[test]
    fn any_text_survives_being_encoded_and_decoded() {
        let all: String = (0..0x250).filter_map(char::from_u32).collect();
        let encoded = percent_encoded(&all);
        assert!(encoded.is_ascii() && !encoded.contains(['&', '=', '+', '#', ' ', '?']));
        assert_eq!(percent_decoded(&encoded, true), Ok(all.into_bytes()));
        assert_eq!(percent_encoded("/etc/a b.pem"), "/etc/a%20b.pem");
    }
}
