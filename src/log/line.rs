//! The form of a line, for people and for programs, and text from strangers made harmless.
//!
//! ```text
//! 2026-01-31 18:05:09.123  INFO  Tunnel is up
//! {"time":"2026-01-31T18:05:09.123+01:00","level":"info","event":"tunnel_up","peer":"192.0.2.1:8080","message":"Tunnel is up"}
//! ```

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::{syslog, Format, Level};

/// What a line says, besides when.
pub(super) struct Content<'a> {
    pub level: Level,
    pub text: &'a str,
    /// A name for programs.
    pub event: Option<String>,
    /// The address that it is about.
    pub peer: Option<String>,
    /// The kind of error.
    pub kind: Option<String>,
}

impl<'a> Content<'a> {
    /// A text and its level.
    pub(super) fn plain(level: Level, text: &'a str) -> Content<'a> {
        Content { level, text, event: None, peer: None, kind: None }
    }

    /// The whole line, its end included.
    pub(super) fn line(&self, format: Format, time: SystemTime, colour: bool) -> String {
        match format {
            Format::Text => line(&Stamp::local(time), self.level, self.text, colour),
            Format::Json => self.json(rfc3339(time)),
            Format::Syslog => syslog::head(self.level, std::process::id()) + &escaped(self.text) + "\n",
        }
    }

    fn json(&self, time: String) -> String {
        let Content { level, event, peer, kind, .. } = self;
        let object = Object {
            time: &time,
            level: level.name(),
            event: event.as_deref(),
            peer: peer.as_deref(),
            kind: kind.as_deref(),
            message: &escaped(self.text),
        };
        // Nothing in it can fail: texts only.
        serde_json::to_string(&object).unwrap_or_default() + "\n"
    }
}

/// A line for programs.
#[derive(Serialize)]
struct Object<'a> {
    time: &'a str,
    level: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'a str>,
    message: &'a str,
}

/// A moment as RFC 3339 has it: local time to the millisecond, and how far that is from UTC (`Z`, or as in `+01:00`).
pub fn rfc3339(time: SystemTime) -> String {
    let Stamp { year, month, day, hour, minute, second, milli, offset } = Stamp::local(time);
    let date = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}");
    let (sign, minutes) = (if offset < 0 { '-' } else { '+' }, offset.unsigned_abs());
    match minutes {
        0 => date + "Z",
        _ => format!("{date}{sign}{:02}:{:02}", minutes / 60, minutes % 60),
    }
}

/// A moment in local time, to the millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    year: i64,
    month: u8,
    day: u8,
    hour: u8,
    minute: u8,
    second: u8,
    milli: u16,
    /// Minutes that it is ahead of UTC.
    offset: i32,
}

impl Stamp {
    /// `time` as clocks on the wall show it. A time that cannot be told becomes the start of 1970.
    fn local(time: SystemTime) -> Stamp {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let Some(tm) = broken_down(since.as_secs()) else {
            return Stamp { year: 1970, month: 1, day: 1, hour: 0, minute: 0, second: 0, milli: 0, offset: 0 };
        };
        let small = |number: libc::c_int| u8::try_from(number).unwrap_or_default();
        Stamp {
            year: i64::from(tm.tm_year) + 1900,
            month: small(tm.tm_mon + 1),
            day: small(tm.tm_mday),
            hour: small(tm.tm_hour),
            minute: small(tm.tm_min),
            second: small(tm.tm_sec),
            milli: since.subsec_millis() as u16,
            offset: i32::try_from(tm.tm_gmtoff / 60).unwrap_or_default(),
        }
    }
}

/// Seconds since 1970 as local date and time.
fn broken_down(seconds: u64) -> Option<libc::tm> {
    let clock = seconds.try_into().ok()?;
    // SAFETY: `tm` is plain numbers and a pointer that may be null, so all zeroes is a value of it; localtime_r reads
    // `clock`, writes `tm`, keeps neither, and uses no memory shared between threads. It is called because the standard
    // library does not know time zones.
    unsafe {
        let mut tm = std::mem::zeroed();
        (!libc::localtime_r(&clock, &mut tm).is_null()).then_some(tm)
    }
}

/// A whole line, its end included. Control characters in `text` are written as escapes, so that one record is one line.
fn line(stamp: &Stamp, level: Level, text: &str, colour: bool) -> String {
    use fmt::Write;
    let Stamp { year, month, day, hour, minute, second, milli, .. } = stamp;
    let mut line = String::with_capacity(text.len() + HEAD);
    let word = level.name().to_uppercase();
    let written = write!(line, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{milli:03}  ")
        .and_then(|()| match colour {
            true => write!(line, "\x1b[{}m{word}\x1b[0m", level.colour()),
            false => write!(line, "{word}"),
        });
    debug_assert!(written.is_ok(), "writing to a string cannot fail");
    line.push_str("  ");
    push_escaped(&mut line, text);
    line.push('\n');
    line
}

/// Text that can be shown anywhere: one line, which moves no cursor, has no colour and runs in one direction. Control characters, and
/// those that end lines or turn the direction of text, become escapes.
pub fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    push_escaped(&mut shown, text);
    shown
}

fn push_escaped(line: &mut String, text: &str) {
    for c in text.chars() {
        match c.is_control() || TURNING.contains(&c) {
            true => line.extend(c.escape_default()),
            false => line.push(c),
        }
    }
}

/// Shows text that came from outside: printable ASCII as it is, all other bytes as `\xNN`, cut after
/// [`PRINTABLE`] bytes (then `...` follows).
pub fn printable<T: AsRef<[u8]> + ?Sized>(text: &T) -> impl fmt::Display + '_ {
    Printable(text.as_ref())
}

struct Printable<'a>(&'a [u8]);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        use fmt::Write;
        let shown = &self.0[..self.0.len().min(PRINTABLE)];
        for &byte in shown {
            match byte {
                b'\\' => f.write_str("\\\\")?,
                b' '..=b'~' => f.write_char(byte.into())?,
                _ => write!(f, "\\x{byte:02x}")?,
            }
        }
        f.write_str(if shown.len() < self.0.len() { "..." } else { "" })
    }
}

/// Characters that are no control characters and yet end a line or turn the direction of what follows (UAX #9 and #14).
const TURNING: [char; 14] = [
    '\u{61c}', '\u{200e}', '\u{200f}', '\u{2028}', '\u{2029}', '\u{202a}', '\u{202b}', '\u{202c}', '\u{202d}',
    '\u{202e}', '\u{2066}', '\u{2067}', '\u{2068}', '\u{2069}',
];

/// Bytes of foreign text shown in one place.
pub const PRINTABLE: usize = 200;

/// Bytes of a line that are not its text: time, level, colour, spaces.
const HEAD: usize = 48;

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { year: 2026, month: 1, day: 31, hour: 18, minute: 5, second: 9, milli: 123, offset: 0 };

    #[test]
    fn a_line_has_time_level_and_text_two_spaces_apart() {
        assert_eq!(line(&STAMP, Level::Info, "text", false), "2026-01-31 18:05:09.123  INFO  text\n");
        let early = Stamp { year: 987, month: 2, day: 3, hour: 4, minute: 5, second: 6, milli: 7, offset: 0 };
        assert_eq!(line(&early, Level::Event, "", false), "0987-02-03 04:05:06.007  EVENT  \n");
    }

    #[test]
    fn a_line_for_programs_is_one_object_with_what_is_known() {
        let time = UNIX_EPOCH + std::time::Duration::from_millis(1_769_860_800_123);
        let at = rfc3339(time);
        let plain = Content::plain(Level::Info, "a \"b\"\n").line(Format::Json, time, true);
        assert_eq!(plain, format!("{{\"time\":\"{at}\",\"level\":\"info\",\"message\":\"a \\\"b\\\"\\\\n\"}}\n"));
        let some = |text: &str| Some(text.to_owned());
        let full = Content { event: some("e"), peer: some("p"), kind: some("k"), ..Content::plain(Level::Warn, "m") };
        let expected = format!(
            "{{\"time\":\"{at}\",\"level\":\"warn\",\"event\":\"e\",\"peer\":\"p\",\"kind\":\"k\",\"message\":\"m\"}}\n"
        );
        assert_eq!(full.line(Format::Json, time, true), expected);
    }

    #[test]
    fn a_line_for_the_systems_log_has_its_level_and_no_time() {
        let line = Content::plain(Level::Warn, "a\nb").line(Format::Syslog, UNIX_EPOCH, true);
        assert_eq!(line, format!("<28>nodepass[{}]: a\\nb\n", std::process::id()));
    }

    #[test]
    fn colour_is_around_the_level_word_alone() {
        let shown = |level| line(&STAMP, level, "x", true);
        assert_eq!(shown(Level::Debug), "2026-01-31 18:05:09.123  \x1b[34mDEBUG\x1b[0m  x\n");
        assert_eq!(shown(Level::Info), "2026-01-31 18:05:09.123  \x1b[32mINFO\x1b[0m  x\n");
        assert_eq!(shown(Level::Warn), "2026-01-31 18:05:09.123  \x1b[33mWARN\x1b[0m  x\n");
        assert_eq!(shown(Level::Error), "2026-01-31 18:05:09.123  \x1b[31mERROR\x1b[0m  x\n");
        assert_eq!(shown(Level::Event), "2026-01-31 18:05:09.123  \x1b[36mEVENT\x1b[0m  x\n");
    }

    #[test]
    fn a_record_cannot_forge_a_second_line_or_colour_the_terminal() {
        let forged = line(&STAMP, Level::Info, "a\n2026 ERROR b\r\x1b[31m\u{7f}\u{85}ü", false);
        assert_eq!(forged, "2026-01-31 18:05:09.123  INFO  a\\n2026 ERROR b\\r\\u{1b}[31m\\u{7f}\\u{85}ü\n");
    }

    #[test]
    fn escaped_text_is_one_line_in_one_direction_and_plain_text_stays() {
        assert_eq!(escaped("crt /a b/ü.pem \\ \"x\""), "crt /a b/ü.pem \\ \"x\"");
        assert_eq!(escaped("a\r\n\t\0\x1b[1mb\u{9b}"), "a\\r\\n\\t\\u{0}\\u{1b}[1mb\\u{9b}");
        assert_eq!(escaped("a\u{202e}b\u{2028}c\u{2069}"), "a\\u{202e}b\\u{2028}c\\u{2069}");
    }

    #[test]
    fn local_time_is_the_systems_within_a_day_of_utc() {
        // 2026-01-31 12:00:00.123 UTC: at most fourteen hours away anywhere on earth.
        let noon = UNIX_EPOCH + std::time::Duration::from_millis(1_769_860_800_123);
        let stamp = Stamp::local(noon);
        assert!(
            (2026, 1, 30) <= (stamp.year, stamp.month, stamp.day) || (stamp.month, stamp.day) == (2, 1),
            "{stamp:?}"
        );
        assert_eq!(stamp.milli, 123);
        assert_eq!(stamp.second, 0);
    }

    #[test]
    fn a_moment_for_programs_names_its_distance_from_utc() {
        let text = rfc3339(UNIX_EPOCH + std::time::Duration::from_millis(1_769_860_800_123));
        let (moment, offset) = text.split_at("2026-01-31T12:00:00.123".len());
        assert!(moment.starts_with("2026-0") && moment.ends_with(":00.123"), "{text}");
        let is_offset = offset.len() == 6 && offset.starts_with(['+', '-']) && offset.as_bytes()[3] == b':';
        assert!(offset == "Z" || is_offset, "{text}");
    }

    #[test]
    fn a_clock_before_1970_or_beyond_reckoning_is_not_fatal() {
        assert_eq!(Stamp::local(UNIX_EPOCH - std::time::Duration::from_secs(9)).milli, 0);
        assert!(broken_down(u64::MAX).is_none());
    }

    #[test]
    fn foreign_text_is_escaped_and_bounded() {
        assert_eq!(printable("GET /x~ \"y\"").to_string(), "GET /x~ \"y\"");
        assert_eq!(printable(b"\x00\x1b[31m\r\n\x7f\xff\\").to_string(), "\\x00\\x1b[31m\\x0d\\x0a\\x7f\\xff\\\\");
        assert_eq!(printable("ü").to_string(), "\\xc3\\xbc");
        assert_eq!(printable(&vec![b'a'; PRINTABLE]).to_string(), "a".repeat(PRINTABLE));
        assert_eq!(printable(&vec![b'a'; PRINTABLE + 1]).to_string(), "a".repeat(PRINTABLE) + "...");
    }
}
