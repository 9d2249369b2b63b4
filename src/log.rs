//! What the program says while it runs: levels, the form of a line, and text from strangers made harmless.
//!
//! ```text
//! 2026-01-31 18:05:09.123  INFO  Tunnel is up
//! ```
//!
//! The rest of the program uses the `log` crate's macros, and [`event!`](crate::event) for events. None of its threads waits
//! for a reader of the log or for a disk: lines go through a bounded queue to a thread that does nothing else (`queue.rs`).

mod line;
mod queue;
mod repeats;
mod syslog;

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use log::{LevelFilter, Log, Metadata, Record};

use line::Content;
pub use line::{escaped, printable, rfc3339, PRINTABLE};
use queue::{Queue, Weight};
use repeats::Repeats;
use syslog::Syslog;

/// What a line looks like (`NP_LOG_FORMAT`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Time, level and text, two spaces apart.
    Text,
    /// One JSON object.
    Json,
    /// Level and text, to the system's log.
    Syslog,
}

impl Format {
    /// The format of that name.
    pub fn from_name(name: &str) -> Option<Format> {
        match name {
            "text" => Some(Format::Text),
            "json" => Some(Format::Json),
            "syslog" => Some(Format::Syslog),
            _ => None,
        }
    }

    /// What a child of the master writes: the master reads its lines, and hands them on in the format of its own.
    pub fn of_child(self) -> Format {
        match self {
            Format::Syslog => Format::Text,
            Format::Text | Format::Json => self,
        }
    }
}

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

    /// The next more talkative threshold; `debug` is the most talkative.
    pub fn louder(self) -> Level {
        match self {
            Level::None => Level::Event,
            Level::Debug => Level::Debug,
            _ => Level::ALL[self as usize - 1],
        }
    }

    /// The next quieter threshold; `event` is the quietest that says anything, and is not left.
    pub fn quieter(self) -> Level {
        match self {
            Level::None => Level::None,
            Level::Event => Level::Event,
            _ => Level::ALL[self as usize + 1],
        }
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

/// Starts logging to stdout, or to the system's log; a second call changes nothing.
///
/// The level's word is coloured when stdout is a terminal, and always when `colour` is set (a child of the master). Only
/// this program's own lines are shown, not those of the libraries in it. A stdout that is closed, full or not read loses lines and does
/// no other harm.
pub fn init(level: Level, format: Format, colour: bool) {
    let colour = colour || io::stdout().is_terminal();
    // An error means that a logger is there already, and it stays.
    if log::set_boxed_logger(Box::new(Logger { format, colour })).is_ok() {
        set_level(level);
    }
}

/// The threshold in force.
pub fn level() -> Level {
    Level::ALL[LEVEL.load(Ordering::Relaxed)]
}

/// Another threshold, from the next line on.
pub fn set_level(level: Level) {
    LEVEL.store(level as usize, Ordering::Relaxed);
    // Events are errors to the `log` crate.
    log::set_max_level(level.filter().max(if level == Level::None { LevelFilter::Off } else { LevelFilter::Error }));
}

/// The same for an operator, who is told in a line that every threshold but `none` shows.
pub fn change_level(level: Level) {
    set_level(level);
    event!(event = "log_level"; "Log level is {} now", level.name());
}

/// Puts the lines that are shown into the queue.
struct Logger {
    format: Format,
    colour: bool,
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata) -> bool {
        metadata.target().starts_with(env!("CARGO_PKG_NAME"))
    }

    fn log(&self, record: &Record) {
        let level = Level::of(record);
        if !self.enabled(record.metadata()) || !level_shows(level) {
            return;
        }
        let of = |name: &str| record.key_values().get(name.into()).map(|value| value.to_string());
        let (text, peer) = (record.args().to_string(), of("peer"));
        let summed = matches!(level, Level::Info | Level::Warn | Level::Error) && record.target() != EACH;
        let held = summed && {
            let key = peer.as_deref().map_or_else(|| text.clone(), |peer| text.replace(peer, host_of(peer)));
            !repeats().admit(level, key, &text, Instant::now())
        };
        match held {
            true => QUEUE.wake(),
            false => self.push(&Content { level, text: &text, event: of("event"), peer, kind: of("kind") }),
        }
    }

    fn flush(&self) {
        flush();
    }
}

impl Logger {
    fn push(&self, content: &Content) {
        let weight = if matches!(content.level, Level::Warn | Level::Error) { Weight::Heavy } else { Weight::Ordinary };
        push(content.line(self.format, SystemTime::now(), self.colour).as_bytes(), weight, self.format, self.colour);
    }
}

fn level_shows(line: Level) -> bool {
    level().shows(line)
}

/// An address without its port: what all connections of one host have in common.
fn host_of(peer: &str) -> &str {
    peer.rsplit_once(':').map_or(peer, |(host, _)| host)
}

fn repeats() -> MutexGuard<'static, Repeats> {
    REPEATS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Puts a whole line among those of the log, as it is: what a child of the master says.
pub fn pass_on(line: &str, format: Format, colour: bool) {
    if level() != Level::None {
        push(line.as_bytes(), Weight::Ordinary, format, colour);
    }
}

/// Says a line to the master that reads our stdout, at every level and in every format.
pub fn tell(line: &str) {
    push(format!("{line}\n").as_bytes(), Weight::Heavy, Format::Text, false);
}

/// Lines that were lost so far.
pub fn lost_lines() -> u64 {
    QUEUE.lost_lines()
}

/// A text as a line of the log, its end included, said now.
pub fn line_now(level: Level, text: &str, format: Format, colour: bool) -> String {
    Content::plain(level, text).line(format, SystemTime::now(), colour)
}

fn push(line: &[u8], weight: Weight, format: Format, colour: bool) {
    QUEUE.push(line, weight, || {
        let lost = move |count, why: &str| lost(count, why, format, colour);
        let sums = move |all: bool| sums(all, format, colour);
        let write = move || match format {
            Format::Syslog => QUEUE.write_to(Syslog::new(&*stdout()), lost, sums),
            Format::Text | Format::Json => QUEUE.write_to(&*stdout(), lost, sums),
        };
        thread::Builder::new().name("log".into()).stack_size(STACK).spawn(write).map(drop)
    });
}

/// The lines that stand for those held back, when their time has come, or all of them; and how long until there are more.
fn sums(all: bool, format: Format, colour: bool) -> (Vec<u8>, Option<Duration>) {
    let now = Instant::now();
    let mut repeats = repeats();
    let lines = repeats.due(now, all).into_iter();
    let lines: String = lines.map(|(level, text)| line_now(level, &text, format, colour)).collect();
    (lines.into_bytes(), repeats.deadline().map(|due| due.saturating_duration_since(now)))
}

/// Stdout without a buffer and a lock of its own, which the program's end would wait for.
fn stdout() -> ManuallyDrop<File> {
    // SAFETY: the standard library sees to it that descriptor 1 is open when the program starts, nothing closes it, and
    // this file does not either.
    ManuallyDrop::new(unsafe { File::from_raw_fd(libc::STDOUT_FILENO) })
}

/// The line that stands for so many others.
fn lost(count: u64, why: &str, format: Format, colour: bool) -> String {
    let lines = if count == 1 { "line was" } else { "lines were" };
    line_now(Level::Warn, &format!("{count} {lines} not written: {why}"), format, colour)
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

/// The target that marks a record as an event; it begins with this package's name, as every target shown does.
#[doc(hidden)]
pub const EVENTS: &str = "nodepass::event";

/// The target of lines that are shown however much they repeat: who reads them counts them.
pub const EACH: &str = "nodepass::each";

/// The threshold in force, by its place in [`Level::ALL`]. The one logger of the program has the one threshold.
static LEVEL: AtomicUsize = AtomicUsize::new(0);

/// What was said lately.
static REPEATS: Mutex<Repeats> = Mutex::new(Repeats::new());

/// What waits to be written. The one logger of the program has the one queue.
static QUEUE: Queue = Queue::new();

/// How long the end of the program waits for a reader of its last lines.
pub const FLUSH: Duration = Duration::from_secs(1);

/// Bytes of the stacks of threads that write: nothing recurses.
const STACK: usize = 32 << 10;

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_threshold_goes_up_and_down_step_by_step_and_stops_at_the_ends() {
        let up: Vec<_> = [Level::None, Level::Event, Level::Error, Level::Info, Level::Debug].map(Level::louder).into();
        assert_eq!(up, [Level::Event, Level::Error, Level::Warn, Level::Debug, Level::Debug]);
        let down: Vec<_> = [Level::Debug, Level::Error, Level::Event, Level::None].map(Level::quieter).into();
        assert_eq!(down, [Level::Info, Level::Event, Level::Event, Level::None]);
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
}
