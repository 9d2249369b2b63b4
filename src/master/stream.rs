//! Events as a browser's `EventSource` reads them, one stream for each reader.
//!
//! ```text
//! retry: 3000
//!
//! event: instance
//! data: {"type":"update","time":"2026-01-31T18:05:09.123+01:00","instance":{...},"logs":""}
//!
//! : still here
//! ```

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use super::call::Reply;
use super::json;
use super::record::Record;
use super::requests::{Event, What};
use crate::log::rfc3339;

/// Answers with these events, until the reader or the supervisor has gone.
pub(super) fn reply(events: Receiver<Arc<Event>>) -> Reply {
    let headers = vec![("Content-Type", "text/event-stream".into()), ("Cache-Control", "no-cache".into())];
    Reply::Stream { headers, source: Box::new(move |out| write(&events, QUIET, out)) }
}

/// Writes events as they come, and a comment every `quiet`, whether or not there are events.
fn write(events: &Receiver<Arc<Event>>, quiet: Duration, out: &mut dyn Write) -> io::Result<()> {
    out.write_all(RETRY)?;
    let mut due = Instant::now() + quiet;
    loop {
        match events.recv_timeout(due.saturating_duration_since(Instant::now())) {
            Ok(event) => {
                if let Some(bytes) = shown(&event) {
                    out.write_all(&bytes)?;
                }
                if event.what == What::Shutdown {
                    return Ok(());
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            // The last event did not fit in the queue of a slow reader, who must hear it none the less.
            Err(RecvTimeoutError::Disconnected) => return out.write_all(&shown(&shutdown_event()).unwrap_or_default()),
        }
        if Instant::now() >= due {
            out.write_all(COMMENT)?;
            due = Instant::now() + quiet;
        }
    }
}

/// One event in the stream's form; its log line is cut if the event would pass [`MAX_EVENT`]. `None` if it is too large
/// without.
fn shown(event: &Event) -> Option<Vec<u8>> {
    let whole = framed(event, &event.logs);
    if whole.len() <= MAX_EVENT {
        return Some(whole);
    }
    let room = MAX_EVENT.checked_sub(framed(event, "").len())?;
    let mut end = (room / WIDEST).min(event.logs.len());
    while !event.logs.is_char_boundary(end) {
        end -= 1;
    }
    Some(framed(event, &event.logs[..end]))
}

fn framed(event: &Event, logs: &str) -> Vec<u8> {
    #[derive(Serialize)]
    struct EventBody<'a> {
        #[serde(rename = "type")]
        what: &'a str,
        time: &'a str,
        instance: Option<&'a Record>,
        logs: &'a str,
    }
    let instance = event.instance.as_ref();
    let mut bytes = b"event: instance\ndata: ".to_vec();
    bytes.append(&mut json::compact(&EventBody { what: name(event.what), time: &event.time, instance, logs }));
    bytes.extend_from_slice(b"\n\n");
    bytes
}

fn name(what: What) -> &'static str {
    match what {
        What::Initial => "initial",
        What::Create => "create",
        What::Update => "update",
        What::Delete => "delete",
        What::Shutdown => "shutdown",
        What::Log => "log",
    }
}

fn shutdown_event() -> Event {
    Event { what: What::Shutdown, time: rfc3339(SystemTime::now()), instance: None, logs: String::new() }
}

/// How long a client waits before it connects again, in ms: the first thing it hears.
const RETRY: &[u8] = b"retry: 3000\n\n";

/// What keeps a proxy from cutting a quiet stream; readers skip it.
const COMMENT: &[u8] = b": still here\n\n";

/// Time between comments: proxies cut after 30 s to 60 s of silence.
const QUIET: Duration = Duration::from_secs(15);

/// Bytes of one event: readers with a buffer of 64 KiB for a line must cope.
const MAX_EVENT: usize = 65535;

/// Bytes of JSON that one byte of text may become: `\u003c`.
const WIDEST: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::sync_channel;

    fn event(what: What, logs: &str) -> Arc<Event> {
        let instance = (what != What::Shutdown).then(|| Record { id: "0a0b0c0d".into(), ..Record::default() });
        Arc::new(Event { what, time: "2026-01-31T18:05:09Z".into(), instance, logs: logs.into() })
    }

    fn written(events: Vec<Arc<Event>>) -> String {
        let (sender, receiver) = sync_channel(100);
        events.into_iter().for_each(|event| sender.send(event).unwrap());
        drop(sender);
        let mut out = Vec::new();
        write(&receiver, Duration::from_secs(3600), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_stream_begins_with_retry_and_each_event_is_three_lines() {
        let text = written(vec![event(What::Log, "\u{1b}[31mERROR\u{1b}[0m a&b"), event(What::Shutdown, "")]);
        let parts: Vec<&str> = text.split("\n\n").collect();
        assert_eq!(parts[0], "retry: 3000");
        let instance =
            "{\"id\":\"0a0b0c0d\",\"alias\":\"\",\"type\":\"\",\"status\":\"\",\"url\":\"\",\"config\":\"\",\
            \"restart\":false,\"meta\":{\"peer\":{\"sid\":\"\",\"type\":\"\",\"alias\":\"\"},\"tags\":{}},\"mode\":0,\
            \"ping\":0,\"pool\":0,\"tcps\":0,\"udps\":0,\"tcprx\":0,\"tcptx\":0,\"udprx\":0,\"udptx\":0}";
        assert_eq!(
            parts[1],
            format!(
                "event: instance\ndata: {{\"type\":\"log\",\"time\":\"2026-01-31T18:05:09Z\",\"instance\":{instance},\
                 \"logs\":\"\\u001b[31mERROR\\u001b[0m a\\u0026b\"}}"
            )
        );
        assert!(parts[2]
            .ends_with("\"type\":\"shutdown\",\"time\":\"2026-01-31T18:05:09Z\",\"instance\":null,\"logs\":\"\"}"));
        assert_eq!((parts[3], parts.len()), ("", 4));
        assert!(!text.contains('\r'));
    }

    #[test]
    fn a_stream_that_is_dropped_without_a_word_still_ends_with_shutdown() {
        let text = written(vec![event(What::Update, "")]);
        assert_eq!(text.matches("\"type\":\"shutdown\"").count(), 1);
        assert!(text.ends_with("\"instance\":null,\"logs\":\"\"}\n\n"));
        let text = written(vec![event(What::Shutdown, ""), event(What::Update, "")]);
        assert_eq!(text.matches("event:").count(), 1, "nothing comes after the last event");
    }

    #[test]
    fn no_event_passes_64_kib_and_only_its_log_line_is_cut() {
        for piece in ["a", "<", "\u{1b}", "ü", "\u{2028}"] {
            let long = event(What::Log, &piece.repeat(70_000));
            let bytes = shown(&long).unwrap();
            assert!(bytes.len() <= MAX_EVENT, "{piece:?}: {}", bytes.len());
            let text = String::from_utf8(bytes).unwrap();
            let data = text.lines().nth(1).unwrap().strip_prefix("data: ").unwrap();
            let value: serde_json::Value = serde_json::from_str(data).unwrap();
            assert_eq!(value["instance"]["id"], "0a0b0c0d");
            assert!(long.logs.starts_with(value["logs"].as_str().unwrap()));
        }
        let mut large = (*event(What::Update, "")).clone();
        large.instance.as_mut().unwrap().url = "u".repeat(70_000);
        assert_eq!(shown(&large), None);
    }

    #[test]
    fn a_quiet_stream_is_kept_alive_by_comments_until_its_reader_goes() {
        struct Reader(Vec<u8>, usize);
        impl Write for Reader {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.extend_from_slice(bytes);
                self.1 -= 1;
                (self.1 > 0).then_some(bytes.len()).ok_or_else(|| io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (_sender, receiver) = sync_channel(1);
        let mut reader = Reader(Vec::new(), 4);
        assert!(write(&receiver, Duration::from_millis(1), &mut reader).is_err());
        assert_eq!(reader.0, b"retry: 3000\n\n: still here\n\n: still here\n\n: still here\n\n");
    }
}
