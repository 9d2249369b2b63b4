//! What a child says: lines of bounded length, and what a line means.
//!
//! ```text
//!  2026-01-31 18:05:09.123  EVENT  CHECK_POINT|MODE=1|PING=12ms|...   a check point: figures
//!  2026-01-31 18:05:09.123  ERROR  Server error: ...                  trouble
//!  FIGURES|1.14.0|0,12,...                                            all that it counts and measures
//!  BAN|192.0.2.1|key|600000                                           a source that it bans, or does no more
//!  NEXT|done|4711                                                     another process of it has the ports
//!  anything else                                                      a line
//! ```
//!
//! What a line means is told by where it stands in it: right after the head that the log writes, or at its very beginning.
//! Text from strangers is always further on, so it can forge neither figures nor bans nor trouble.

use std::borrow::Cow;
use std::io::{self, BufRead};

use serde::Deserialize;

use crate::log::{escaped, line_now, Format, Level};
use crate::logic::bans::BanNotice;
use crate::logic::checkpoint::CheckPoint;
use crate::logic::metrics::Figures;
use crate::logic::next_notice::NextNotice;

/// One line of a child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChildLine {
    /// Its figures.
    Point(CheckPoint),
    /// All that it counts and measures.
    Figures(Figures),
    /// A source is banned, or is no more.
    Ban(BanNotice),
    /// The next process of it.
    Next(NextNotice),
    /// Anything else.
    Line {
        /// As it was said, with the colour of its level and all else [`escaped`]; without its end.
        text: String,
        /// Whether it says that the instance failed.
        trouble: bool,
    },
}

impl ChildLine {
    /// What this line means.
    pub fn of(text: String) -> ChildLine {
        if let Ok(figures) = text.parse() {
            return ChildLine::Figures(figures);
        }
        if let Ok(notice) = text.parse() {
            return ChildLine::Ban(notice);
        }
        if let Ok(notice) = text.parse() {
            return ChildLine::Next(notice);
        }
        let plain = plain(&text);
        let (level, message) = message(&plain);
        let event = matches!(level, None | Some("EVENT"));
        match message.trim_end().parse() {
            Ok(point) if event => ChildLine::Point(point),
            _ => {
                let trouble = TROUBLE.iter().any(|start| message.starts_with(start));
                ChildLine::Line { text: harmless(&text), trouble }
            }
        }
    }
}

/// The text without SGR colours.
pub fn plain(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let mut plain = parts.next().unwrap_or_default().to_string();
    for part in parts {
        plain.push_str(part.split_once('m').map_or(part, |(_, rest)| rest));
    }
    plain
}

/// The level and the text of a plain log line. A line without time and level is text as a whole.
fn message(plain: &str) -> (Option<&str>, &str) {
    let mut parts = plain.splitn(3, "  ");
    match (parts.next(), parts.next(), parts.next()) {
        (Some(stamp), Some(level), Some(text)) if is_stamp(stamp) && LEVELS.contains(&level) => (Some(level), text),
        _ => (None, plain),
    }
}

/// A line that a child wrote for programs, as it would have written it for people. `None` if it is no such line.
pub fn for_people(line: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Object<'a> {
        #[serde(borrow)]
        time: Cow<'a, str>,
        #[serde(borrow)]
        level: Cow<'a, str>,
        message: String,
    }
    let Object { time, level, message } = serde_json::from_str(line).ok()?;
    let stamp = time.get(..STAMP.len())?.replacen('T', " ", 1);
    let level = level.to_uppercase();
    (is_stamp(&stamp) && LEVELS.contains(&level.as_str())).then(|| format!("{stamp}  {level}  {message}"))
}

/// The same line for programs, with the instance that it is from. It is an object with at least one name.
pub fn with_instance(line: &str, id: &str) -> String {
    format!("{{\"instance\":\"{id}\",{}", line.trim_end().trim_start_matches('{'))
}

/// A line for the system's log: without its time, and with its level.
pub fn for_syslog(line: &str, id: &str) -> String {
    let line = plain(line);
    let (word, text) = message(&line);
    let level = word.and_then(|word| Level::from_name(&word.to_lowercase())).unwrap_or(Level::Info);
    line_now(level, &format!("{text} [{id}]"), Format::Syslog, false).trim_end().into()
}

/// Whether a line with a head is an error.
pub fn is_error(text: &str) -> bool {
    message(&plain(text)).0 == Some("ERROR")
}

/// A line that does nothing but be shown: the colour that the log gives to a level's word stays, everything else is escaped.
fn harmless(text: &str) -> String {
    match text.split_at(coloured_head(text).unwrap_or(0)) {
        ("", text) => escaped(text),
        (head, message) => head.to_owned() + &escaped(message),
    }
}

/// Bytes of the head of a line, if it is one that the log has coloured.
fn coloured_head(text: &str) -> Option<usize> {
    let (stamp, rest) = text.split_at_checked(STAMP.len()).filter(|(stamp, _)| is_stamp(stamp))?;
    let (colour, rest) = rest.strip_prefix("  \x1b[")?.split_once('m')?;
    let (level, _) = rest.split_once("\x1b[0m  ").filter(|(level, _)| LEVELS.contains(level))?;
    let is_colour = colour.len() == COLOUR && colour.bytes().all(|byte| byte.is_ascii_digit());
    is_colour.then_some(stamp.len() + "  \x1b[m\x1b[0m  ".len() + colour.len() + level.len())
}

fn is_stamp(text: &str) -> bool {
    let fits = |(byte, form): (u8, u8)| if form == b'0' { byte.is_ascii_digit() } else { byte == form };
    text.len() == STAMP.len() && text.bytes().zip(STAMP.bytes()).all(fits)
}

/// Reads lines, and no more of each than [`MAX_LINE`].
pub struct LineReader<R> {
    from: R,
    line: Vec<u8>,
}

impl<R: BufRead> LineReader<R> {
    /// The lines of a stream.
    pub fn new(from: R) -> LineReader<R> {
        LineReader { from, line: Vec::new() }
    }

    /// The next line, without its end; what is too long of it is skipped, what is not UTF-8 is replaced. `None` at the end.
    pub fn read(&mut self) -> io::Result<Option<String>> {
        self.line.clear();
        let mut any = false;
        loop {
            let chunk = match self.from.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                chunk => chunk?,
            };
            let end = chunk.iter().position(|&byte| byte == b'\n');
            let (taken, used) = end.map_or((chunk, chunk.len()), |end| (&chunk[..end], end + 1));
            let room = MAX_LINE - self.line.len();
            self.line.extend_from_slice(&taken[..taken.len().min(room)]);
            any |= used > 0;
            self.from.consume(used);
            if end.is_some() || used == 0 {
                let line = String::from_utf8_lossy(&self.line);
                return Ok(any.then(|| line.trim_end_matches('\r').to_string()));
            }
        }
    }
}

/// How a line begins that says that the instance failed.
const TROUBLE: [&str; 2] = ["Server error:", "Client error:"];

/// Digits of the colour of a level.
const COLOUR: usize = 2;

/// The levels of log lines.
const LEVELS: [&str; 5] = ["DEBUG", "INFO", "WARN", "ERROR", "EVENT"];

/// The form of a log line's time; a zero is any digit.
const STAMP: &str = "0000-00-00 00:00:00.000";

/// Bytes of a line that are kept. As JSON, with everything escaped, they and a record are below the 64 KiB that an event
/// may have.
pub const MAX_LINE: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    const POINT_TEXT: &str =
        "CHECK_POINT|MODE=1|PING=12ms|POOL=64|TCPS=3|UDPS=2|TCPRX=1024|TCPTX=2048|UDPRX=5|UDPTX=18446744073709551615";

    fn point() -> CheckPoint {
        POINT_TEXT.parse().unwrap()
    }

    fn line(text: &str, trouble: bool) -> ChildLine {
        ChildLine::Line { text: text.into(), trouble }
    }

    #[test]
    fn a_line_for_the_systems_log_has_its_level_and_whose_it_is() {
        let shown = |line: &str| for_syslog(line, "1a2b").split_once(": ").map(|(_, text)| text.to_owned());
        let levels = ["2026-01-31 18:05:09.123  \x1b[33mWARN\x1b[0m  a: b", "no head"].map(|line| {
            let line = for_syslog(line, "1a2b");
            line.split_once('>').unwrap().0.to_owned()
        });
        assert_eq!(levels, ["<28", "<30"]);
        assert_eq!(shown("2026-01-31 18:05:09.123  WARN  a: b").as_deref(), Some("a: b [1a2b]"));
        assert_eq!(shown("no head").as_deref(), Some("no head [1a2b]"));
    }

    #[test]
    fn a_check_point_is_known_bare_with_a_head_and_in_colour() {
        for head in ["", "2026-01-31 18:05:09.123  EVENT  ", "2026-01-31 18:05:09.123  \x1b[36mEVENT\x1b[0m  "] {
            assert_eq!(ChildLine::of(format!("{head}{POINT_TEXT}")), ChildLine::Point(point()), "{head:?}");
        }
    }

    #[test]
    fn a_line_for_programs_is_shown_as_people_read_it_and_a_check_point_in_it_is_known() {
        let object = |level: &str, message: &str| {
            serde_json::json!({"time": "2026-01-31T18:05:09.123+01:00", "level": level, "message": message}).to_string()
        };
        let people = |line: &str| for_people(line).expect("a line for programs");
        assert_eq!(people(&object("warn", "a \"b\"")), "2026-01-31 18:05:09.123  WARN  a \"b\"");
        assert_eq!(ChildLine::of(people(&object("event", POINT_TEXT))), ChildLine::Point(point()));
        for other in ["", "{", "{}", "Error: x", "[1]", &object("loud", "x"), &object("warn", "x").replace('T', "t")] {
            assert_eq!(for_people(other), None, "{other}");
        }
        let named = with_instance(&(object("info", "x") + "\n"), "0a1b2c3d");
        let parsed: serde_json::Value = serde_json::from_str(&named).unwrap();
        assert_eq!((parsed["instance"].as_str(), parsed["message"].as_str()), (Some("0a1b2c3d"), Some("x")));
    }

    #[test]
    fn figures_are_known_at_the_very_beginning_of_a_line_only() {
        let figures = Figures::new([3; crate::logic::metrics::CELLS]);
        assert_eq!(ChildLine::of(figures.to_string()), ChildLine::Figures(figures.clone()));
        for text in [format!(" {figures}"), format!("2026-01-31 18:05:09.123  INFO  {figures}")] {
            assert_eq!(ChildLine::of(text.clone()), line(&text, false));
        }
    }

    #[test]
    fn a_ban_is_known_at_the_very_beginning_of_a_line_only() {
        let text = "BAN|192.0.2.1|key|600000";
        assert_eq!(ChildLine::of(text.into()), ChildLine::Ban(text.parse().unwrap()));
        for text in [format!(" {text}"), format!("2026-01-31 18:05:09.123  EVENT  {text}")] {
            assert_eq!(ChildLine::of(text.clone()), line(&text, false));
        }
    }

    #[test]
    fn a_check_point_further_on_in_a_line_or_of_another_form_is_a_line() {
        let head = "2026-01-31 18:05:09.123  ";
        for text in [
            format!("{head}WARN  {POINT_TEXT}"),
            format!("{head}INFO  bad request \"  EVENT  {POINT_TEXT}\""),
            format!("2026-01-31  EVENT  {POINT_TEXT}"),
            POINT_TEXT.replace("TCPS=3", "TCPS=-"),
        ] {
            assert_eq!(ChildLine::of(text.clone()), line(&text, false));
        }
    }

    #[test]
    fn trouble_is_what_begins_with_it_and_not_what_quotes_it() {
        let head = "2026-01-31 18:05:09.123  \x1b[31mERROR\x1b[0m  ";
        for text in [format!("{head}Server error: no port"), format!("{head}Client error: x"), "Server error: x".into()]
        {
            assert_eq!(ChildLine::of(text.clone()), line(&text, true));
        }
        for text in [format!("{head}peer said \"Server error: x\""), "No Server error: at all".into()] {
            assert_eq!(ChildLine::of(text.clone()), line(&text, false));
        }
    }

    #[test]
    fn a_line_keeps_the_colour_of_its_level_and_nothing_else_that_a_terminal_obeys() {
        let head = "2026-01-31 18:05:09.123  \x1b[31mERROR\x1b[0m  ";
        let plain = "2026-01-31 18:05:09.123  ERROR  ";
        for (said, shown) in [
            (format!("{head}a\x1b[2Jb\x07"), format!("{head}a\\u{{1b}}[2Jb\\u{{7}}")),
            (format!("{plain}a\x1b[31mb"), format!("{plain}a\\u{{1b}}[31mb")),
            (format!("x{head}"), "x2026-01-31 18:05:09.123  \\u{1b}[31mERROR\\u{1b}[0m  ".to_string()),
            (head.replace("31m", "31;5m"), head.replace("31m", "31;5m").replace('\x1b', "\\u{1b}")),
            (head.replace("ERROR", "OTHER"), head.replace("ERROR", "OTHER").replace('\x1b', "\\u{1b}")),
            ("a\rb\u{202e}".into(), "a\\rb\\u{202e}".into()),
            ("ü \u{fffd}".into(), "ü \u{fffd}".into()),
        ] {
            assert_eq!(ChildLine::of(said), line(&shown, false));
        }
    }

    #[test]
    fn lines_are_cut_where_they_are_too_long_and_the_next_one_is_whole() {
        let long = "x".repeat(MAX_LINE * 5);
        let text = format!("one\r\n\n{long}\nthree\nfour");
        let mut lines = LineReader::new(io::BufReader::with_capacity(7, text.as_bytes()));
        let mut read = Vec::new();
        while let Some(line) = lines.read().unwrap() {
            read.push(line);
        }
        assert_eq!(read, ["one", "", &long[..MAX_LINE], "three", "four"]);
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced() {
        let mut lines = LineReader::new(&b"a\xff\xfeb\n"[..]);
        assert_eq!(lines.read().unwrap().as_deref(), Some("a\u{fffd}\u{fffd}b"));
        assert_eq!(lines.read().unwrap(), None);
    }

    #[test]
    fn colours_are_taken_off_and_nothing_else() {
        assert_eq!(plain("\x1b[31mERROR\x1b[0m  x[1m"), "ERROR  x[1m");
        assert_eq!(plain("\x1b[31"), "31");
    }
}
