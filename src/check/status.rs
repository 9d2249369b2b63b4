//! `nodepass status`: what the instances of a master do, as a table of 80 columns, once or again and again.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{json, Value};

use super::api::{Master, Shown};
use super::finding::{Finding, Words};
use crate::config::Lang;
use crate::log::escaped;

/// An instance at one moment, and what is reckoned from an earlier one.
#[derive(Clone, Debug, Default)]
pub struct Line {
    /// What the API shows.
    shown: Shown,
    /// Bytes per second received and sent, TCP and UDP together.
    rates: [u64; 2],
    /// When it was started last, as its log says.
    since: String,
    /// The last line of its log that tells of an error.
    error: String,
}

/// Shows the instances of a master; with `watch` until the reader has gone. The error is a finding.
pub fn run(master: &Master, watch: bool, as_json: bool, lang: Lang) -> Result<(), Finding> {
    let mut before = (Instant::now(), master.instances()?);
    loop {
        thread::sleep(if watch { PAUSE } else { SAMPLE });
        let now = (Instant::now(), master.instances()?);
        let lines = lines(master, &before.1, now.1.clone(), now.0 - before.0);
        let text = match as_json {
            true => format!("{}\n", object(&lines)),
            false => table(&lines, lang),
        };
        let mut out = std::io::stdout();
        // In a terminal the next table stands where the last one was.
        let clear = if watch && !as_json && out.is_terminal() { CLEAR } else { "" };
        let written = out.write_all(format!("{clear}{text}").as_bytes()).and_then(|()| out.flush());
        if !watch || written.is_err() {
            return Ok(());
        }
        before = now;
    }
}

fn lines(master: &Master, before: &[Shown], now: Vec<Shown>, passed: Duration) -> Vec<Line> {
    let line = |shown: Shown| {
        let log = master.log(&shown.id);
        let old = before.iter().find(|old| old.id == shown.id).unwrap_or(&shown);
        let rates = rates(old, &shown, passed);
        Line { rates, since: started(&log), error: last_error(&log), shown }
    };
    now.into_iter().map(line).collect()
}

/// Bytes per second received and sent. A counter that was reset begins again.
fn rates(before: &Shown, now: &Shown, passed: Duration) -> [u64; 2] {
    let rx = |shown: &Shown| shown.tcprx.saturating_add(shown.udprx);
    let tx = |shown: &Shown| shown.tcptx.saturating_add(shown.udptx);
    let milliseconds = passed.as_millis().max(1);
    let rate = |old: u64, new: u64| u64::try_from(u128::from(new.saturating_sub(old)) * 1000 / milliseconds);
    [rate(rx(before), rx(now)), rate(tx(before), tx(now))].map(|rate| rate.unwrap_or(u64::MAX))
}

/// When the log says that it started last: day and time.
fn started(log: &[String]) -> String {
    let line = log.iter().rev().find(|line| STARTED.iter().any(|words| line.contains(words)));
    line.and_then(|line| line.get(5..16)).unwrap_or_default().to_owned()
}

fn last_error(log: &[String]) -> String {
    let of = |level: &str| log.iter().rev().find_map(|line| line.split_once(level).map(|(_, text)| text.to_owned()));
    of("  ERROR  ").or_else(|| of("ERROR  ")).unwrap_or_default()
}

/// The table for a person.
pub fn table(lines: &[Line], lang: Lang) -> String {
    let mut text = format!("{}\n", HEAD.in_lang(lang));
    for Line { shown, rates, since, error } in lines {
        let row = [
            padded(&escaped(shown.name()), 14),
            padded(&escaped(&shown.kind), 6),
            padded(&escaped(&shown.status), 7),
            format!("{:>6}", shown.tcps.saturating_add(shown.udps)),
            format!("{:>8}", bytes(rates[0])),
            format!("{:>8}", bytes(rates[1])),
            format!("{:>5}", shown.pool),
            format!("{:>6}", format!("{}ms", shown.ping)),
            escaped(since),
        ];
        let _ = writeln!(text, "{}", row.join(" ").trim_end());
        if shown.status == "error" && !error.is_empty() {
            let _ = writeln!(text, "  {}", cut(&escaped(error), WIDTH - 2));
        }
    }
    if lines.is_empty() {
        let _ = writeln!(text, "{}", NONE.in_lang(lang));
    }
    text
}

/// The same for a program.
pub fn object(lines: &[Line]) -> Value {
    let one = |line: &Line| {
        let Line { shown, rates, since, error } = line;
        json!({
            "id": shown.id, "alias": shown.alias, "type": shown.kind, "status": shown.status,
            "users": shown.tcps.saturating_add(shown.udps), "rx_rate": rates[0], "tx_rate": rates[1],
            "pool": shown.pool, "ping_ms": shown.ping, "since": since, "last_error": error,
        })
    };
    json!({"instances": lines.iter().map(one).collect::<Vec<_>>()})
}

/// Bytes as people read them, in at most seven characters.
fn bytes(count: u64) -> String {
    let mut scaled = count;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if scaled < 1024 {
            return format!("{scaled}{unit}");
        }
        scaled /= 1024;
    }
    format!("{scaled}TiB")
}

fn padded(text: &str, width: usize) -> String {
    format!("{:<width$}", cut(text, width))
}

/// The text, or as much of it as fits.
fn cut(text: &str, width: usize) -> String {
    match text.chars().count() > width {
        true => text.chars().take(width - 1).chain(['~']).collect(),
        false => text.to_owned(),
    }
}

const HEAD: Words = Words {
    en: "name           type   status   users     rx/s     tx/s  pool   ping since",
    zh: "名称           类型   状态     用户   接收/秒  发送/秒   池   延迟 启动于",
};
const NONE: Words = Words { en: "no instances", zh: "没有实例" };
/// What an instance's log says when it starts.
const STARTED: [&str; 2] = ["Server started:", "Client started:"];
/// Columns of a terminal.
const WIDTH: usize = 80;
/// Empties a terminal.
const CLEAR: &str = "\x1b[H\x1b[2J";
/// Between two tables.
const PAUSE: Duration = Duration::from_secs(2);
/// Between two looks at the counters of the one table: check points come every few seconds, so a longer one shows no more.
const SAMPLE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn line(alias: &str, status: &str) -> Line {
        let shown = Shown {
            alias: alias.into(),
            kind: "server".into(),
            status: status.into(),
            ping: 12345,
            pool: 65535,
            tcps: 123_456,
            ..Shown::default()
        };
        let error = "x".repeat(200);
        Line { shown, rates: [1023 << 30, 5], since: "11-27 09:05".into(), error }
    }

    #[test]
    fn every_line_fits_a_terminal_whatever_an_instance_is_called() {
        for lang in [Lang::English, Lang::Chinese] {
            let text = table(&[line("a very long alias of an instance", "running"), line("\x1b[31m", "error")], lang);
            assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
            assert!(!text.contains('\x1b') && text.lines().count() == 4, "{text}");
        }
        assert!(table(&[], Lang::English).contains("no instances"));
    }

    #[test]
    fn rates_are_bytes_per_second_and_none_after_a_reset() {
        let shown = |tcprx, udptx| Shown { tcprx, udptx, ..Shown::default() };
        assert_eq!(rates(&shown(100, 0), &shown(1100, 50), Duration::from_millis(500)), [2000, 100]);
        assert_eq!(rates(&shown(100, 0), &shown(10, 0), Duration::from_secs(1)), [0, 0]);
    }

    #[test]
    fn the_log_tells_of_the_last_start_and_the_last_error() {
        let log: Vec<String> = [
            "2026-11-21 09:05:55.832  INFO  Server started: server://***@127.0.0.1:1/127.0.0.1:2",
            "2026-11-21 09:05:56.000  ERROR  cannot listen at 127.0.0.1:2",
            "2026-11-21 09:06:55.832  INFO  Server started: server://***@127.0.0.1:1/127.0.0.1:2",
        ]
        .map(str::to_owned)
        .to_vec();
        assert_eq!(
            (started(&log).as_str(), last_error(&log).as_str()),
            ("11-21 09:06", "cannot listen at 127.0.0.1:2")
        );
        assert_eq!((started(&[]), last_error(&[])), (String::new(), String::new()));
    }
}
