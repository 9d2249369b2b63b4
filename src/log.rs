//! What the program says while it runs: levels, the form of a line, and text from strangers made harmless.
//!
//! ```text
//! 2026-01-31 18:05:09.123  INFO  Tunnel is up
//! ```
//!
//! The rest of the program uses the `log` crate's macros, and [`event!`](crate::event) for events. None of its threads waits
//! for a reader of the log or for a disk: lines go through a bounded queue to a thread that does nothing else (`queue.rs`).

mod queue;

use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use env_logger::Builder;
use log::{LevelFilter, Log, Metadata, Record};

use queue::{Queue, Weight};

/// The least level shown (the parameter `log`), and the level of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As a threshold: nothing is shown. No line has this level.
    None,
    /// What happens to single connections.
    Debug,
    /// What an operator wants to know in quiet times.
    Info,
    /// Something is not as it should be, and the program goes on.
    Warn,
    /// Something asked for cannot be done.
    Error,
    /// Figures for programs that read the log; shown at every threshold but `none`.
    Event,
}

impl Level {
    /// All levels, from the most talkative threshold after `none` to the quietest.
    pub const ALL: [Level; 6] = [Level::None, Level::Debug, Level::Info, Level::Warn, Level::Error, Level::Event];

    /// The word used in the parameter `log`.
    pub fn name(self) -> &'static str {
        match self {
            Level::None => "none",
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
            Level::Event => "event",
        }
    }

    /// The level that a word in the parameter `log` names.
    pub fn from_name(name: &str) -> Option<Level> {
        Level::ALL.into_iter().find(|level| level.name() == name)
    }

    /// Whether a line of level `line` is shown when this is the threshold.
    pub fn shows(self, line: Level) -> bool {
        self != Level::None && line != Level::None && line >= self
    }

    /// The colour of the level's word, as an SGR code.
    fn colour(self) -> u8 {
        match self {
            Level::None | Level::Debug => 34,
            Level::Info => 32,
            Level::Warn => 33,
            Level::Error => 31,
            Level::Event => 36,
        }
    }

    /// The level of a record. Events are errors to the `log` crate, told apart by their target.
    fn of(record: &Record) -> Level {
        match record.level() {
            _ if record.target() == EVENTS => Level::Event,
            log::Level::Error => Level::Error,
            log::Level::Warn => Level::Warn,
            log::Level::Info => Level::Info,
            log::Level::Debug | log::Level::Trace => Level::Debug,
        }
    }

    /// The threshold for ordinary lines, in the `log` crate's words.
    fn filter(self) -> LevelFilter {
        match self {
            Level::None | Level::Event => LevelFilter::Off,
            Level::Debug => LevelFilter::Debug,
            Level::Info => LevelFilter::Info,
            Level::Warn => LevelFilter::Warn,
            Level::Error => LevelFilter::Error,
        }
    }
}

/// Logs an event: a line shown at every level but `none`. Takes what `format!` takes.
#[macro_export]
macro_rules! event {
    ($($text:tt)+) => {
        ::log::error!(target: $crate::log::EVENTS, $($text)+)
    };
}

/// Starts logging to stdout; a second call changes nothing.
///
/// The level's word is coloured when stdout is a terminal, and always when `colour` is set (a child of the master). Only
/// this program's own lines are shown, not those of the libraries in it. A stdout that is closed, full or not read loses lines and does
/// no other harm.
pub fn init(level: Level, colour: bool) {
    let colour = colour || io::stdout().is_terminal();
    let events = if level.shows(Level::Event) { LevelFilter::Error } else { LevelFilter::Off };
    let filter =
        Builder::new().filter_module(env!("CARGO_PKG_NAME"), level.filter()).filter_module(EVENTS, events).build();
    let most = filter.filter();
    // An error means that a logger is there already, and it stays.
    if log::set_boxed_logger(Box::new(Logger { filter, colour })).is_ok() {
        log::set_max_level(most);
    }
}

/// Puts the lines that are shown into the queue.
struct Logger {
    filter: env_logger::Logger,
    colour: bool,
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata) -> bool {
        self.filter.enabled(metadata)
    }

    fn log(&self, record: &Record) {
        if self.filter.matches(record) {
            let level = Level::of(record);
            let weight = if matches!(level, Level::Warn | Level::Error) { Weight::Heavy } else { Weight::Ordinary };
            let stamp = Stamp::local(SystemTime::now());
            push(line(&stamp, level, &record.args().to_string(), self.colour).as_bytes(), weight, self.colour);
        }
    }

    fn flush(&self) {
        flush();
    }
}

/// Puts a whole line among those of the log, as it is: what a child of the master says.
pub fn pass_on(line: &str, colour: bool) {
    push(line.as_bytes(), Weight::Ordinary, colour);
}

fn push(line: &[u8], weight: Weight, colour: bool) {
    QUEUE.push(line, weight, || {
        let write = move || QUEUE.write_to(&*stdout(), |count, why| lost(count, why, colour));
        thread::Builder::new().name("log".into()).stack_size(STACK).spawn(write).map(drop)
    });
}

/// Stdout without a buffer and a lock of its own, which the program's end would wait for.
fn stdout() -> ManuallyDrop<File> {
    // SAFETY: the standard library sees to it that descriptor 1 is open when the program starts, nothing closes it, and
    // this file does not either.
    ManuallyDrop::new(unsafe { File::from_raw_fd(libc::STDOUT_FILENO) })
}

/// The line that stands for so many others.
fn lost(count: u64, why: &str, colour: bool) -> String {
    let lines = if count == 1 { "line was" } else { "lines were" };
    line(&Stamp::local(SystemTime::now()), Level::Warn, &format!("{count} {lines} not written: {why}"), colour)
}

/// Waits until the log is written, and no longer than [`FLUSH`]: to be called before the program ends.
pub fn flush() {
    QUEUE.flush(FLUSH);
}

/// Says on stderr why the program ends, after everything that is in the log, and waits no longer than [`FLUSH`] for that. A
/// stderr that is closed or full loses it.
pub fn last_words(text: String) {
    flush();
    let (done, written) = channel();
    let say = move || {
        let _ = io::stderr().write_all(text.as_bytes());
        let _ = done.send(());
    };
    // Without a thread nothing is said: the exit status says enough.
    if thread::Builder::new().stack_size(STACK).spawn(say).is_ok() {
        let _ = written.recv_timeout(FLUSH);
    }
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

/// The target that marks a record as an event; it begins with this package's name, as every target shown does.
#[doc(hidden)]
pub const EVENTS: &str = "nodepass::event";

/// What waits to be written. The one logger of the program has the one queue.
static QUEUE: Queue = Queue::new();

/// How long the end of the program waits for a reader of its last lines.
pub const FLUSH: Duration = Duration::from_secs(1);

/// Bytes of the stacks of threads that write: nothing recurses.
const STACK: usize = 32 << 10;

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
    fn levels_are_ordered_none_debug_info_warn_error_event() {
        assert!(Level::ALL.windows(2).all(|pair| pair[0] < pair[1]));
        let names = Level::ALL.map(Level::name);
        assert_eq!(names, ["none", "debug", "info", "warn", "error", "event"]);
    }

    #[test]
    fn a_threshold_shows_its_own_level_and_those_after_it() {
        assert!(Level::Info.shows(Level::Info) && Level::Info.shows(Level::Warn) && Level::Info.shows(Level::Error));
        assert!(!Level::Info.shows(Level::Debug) && !Level::Error.shows(Level::Warn));
        assert!(!Level::Event.shows(Level::Error));
    }

    #[test]
    fn events_are_shown_at_every_level_but_none_which_shows_nothing() {
        for threshold in Level::ALL {
            assert_eq!(threshold.shows(Level::Event), threshold != Level::None, "{threshold:?}");
            assert!(!Level::None.shows(threshold));
        }
    }

    #[test]
    fn the_log_crates_thresholds_agree_with_ours() {
        let lines = [
            (log::Level::Debug, Level::Debug),
            (log::Level::Info, Level::Info),
            (log::Level::Warn, Level::Warn),
            (log::Level::Error, Level::Error),
        ];
        for threshold in Level::ALL {
            for (theirs, ours) in lines {
                assert_eq!(theirs <= threshold.filter(), threshold.shows(ours), "{threshold:?} {ours:?}");
            }
        }
    }

    #[test]
    fn records_are_known_by_level_and_events_by_target() {
        let record = |level, target| Level::of(&Record::builder().level(level).target(target).build());
        assert_eq!(record(log::Level::Error, EVENTS), Level::Event);
        assert_eq!(record(log::Level::Error, "nodepass::run"), Level::Error);
        assert_eq!(record(log::Level::Trace, "nodepass"), Level::Debug);
        assert!(EVENTS.starts_with(env!("CARGO_PKG_NAME")));
    }

    #[test]
    fn every_level_is_found_by_its_name_and_by_no_other() {
        for level in Level::ALL {
            assert_eq!(Level::from_name(level.name()), Some(level));
        }
        for wrong in ["", "INFO", "warning", "info ", "trace", "0"] {
            assert_eq!(Level::from_name(wrong), None, "{wrong}");
        }
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
