//! The stream of events, as dashboards read it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{channel, Receiver, RecvTimeoutError};
use std::time::Duration;

use super::*;

/// curl on the stream, and its lines as they come.
pub struct Reader {
    curl: Child,
    lines: Receiver<String>,
}

impl Reader {
    pub fn new(master: &Master) -> Reader {
        let mut command = Command::new("curl");
        command.args(["-s", "-N", "-i", "-H", &format!("X-API-Key: {}", master.key)]);
        command.arg(format!("{}/v1/events", master.root)).stdout(Stdio::piped());
        let mut curl = start_child(command).expect("curl");
        let (sender, lines) = channel();
        let mut output = BufReader::new(curl.stdout.take().expect("a pipe"));
        std::thread::spawn(move || {
            let mut line = Vec::new();
            while output.read_until(b'\n', &mut line).is_ok_and(|len| len > 0) {
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    return;
                }
                line.clear();
            }
        });
        Reader { curl, lines }
    }

    /// The next line, its end included; `None` at the end of the stream.
    fn line(&self) -> Option<String> {
        match self.lines.recv_timeout(GRACE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("nothing more came"),
        }
    }

    /// Reads the head of the answer and the first line of the stream.
    pub fn begun(self) -> Reader {
        let head: Vec<String> = std::iter::from_fn(|| self.line().filter(|line| line != "\r\n")).collect();
        let head = head.concat().to_lowercase();
        assert!(head.starts_with("http/1.1 200 "), "{head}");
        for wanted in ["content-type: text/event-stream", "transfer-encoding: chunked", "cache-control: no-cache"] {
            assert!(head.contains(&format!("{wanted}\r\n")), "{wanted}: {head}");
        }
        assert_eq!((self.line().as_deref(), self.line().as_deref()), (Some("retry: 3000\n"), Some("\n")));
        self
    }

    /// The next event, comments left out; `None` at the end.
    pub fn event(&self) -> Option<Value> {
        loop {
            let line = self.line()?;
            match line.as_str() {
                "event: instance\n" => {}
                comment if comment.starts_with(':') => {
                    assert_eq!(self.line().as_deref(), Some("\n"));
                    continue;
                }
                other => panic!("{other:?}"),
            }
            let data = self.line().expect("data");
            assert!(data.len() < 65536 && data.starts_with("data: {\"type\":\"") && !data.contains('\r'), "{data}");
            assert_eq!(self.line().as_deref(), Some("\n"));
            let event: Value = serde_json::from_str(&data[6..]).unwrap_or_else(|error| panic!("{error}: {data}"));
            let order: Vec<Option<usize>> =
                ["\"type\":", "\"time\":", "\"instance\":", "\"logs\":"].iter().map(|name| data.find(name)).collect();
            assert!(order.windows(2).all(|pair| pair[0] < pair[1]), "{data}");
            assert!(event["logs"].is_string() && event["time"].as_str().is_some_and(|time| time.len() >= 20), "{data}");
            if event["type"] != "shutdown" {
                let instance = &event["instance"];
                assert!(instance["alias"].is_string() && instance["meta"]["tags"].is_object(), "{data}");
                assert!(instance["meta"]["peer"].is_object(), "{data}");
            }
            return Some(event);
        }
    }

    /// The next event that fits.
    pub fn find(&self, fits: impl Fn(&Value) -> bool) -> Value {
        loop {
            let event = self.event().expect("the stream goes on");
            if fits(&event) {
                return event;
            }
        }
    }

    /// What is left: the last event, and then the end.
    fn ends_with_shutdown(mut self) {
        let last = self.find(|event| event["type"] == "shutdown");
        assert!(last["instance"].is_null() && last["logs"] == "");
        assert_eq!(self.event(), None);
        assert!(self.curl.wait().expect("curl").success(), "the end is a clean one");
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.curl.kill();
        let _ = self.curl.wait();
    }
}

#[test]
fn a_stream_begins_with_what_there_is_and_tells_what_happens() {
    let master = Master::start();
    let first = master.create(&forwarder());
    master.until_status(&first, "running");
    let reader = Reader::new(&master).begun();
    let mut there: Vec<String> = (0..2)
        .map(|_| {
            let event = reader.event().expect("an event");
            assert_eq!((&event["type"], &event["logs"]), (&"initial".into(), &"".into()));
            event["instance"]["id"].as_str().expect("an id").to_owned()
        })
        .collect();
    there.sort_unstable();
    assert_eq!(there, ["********", first.as_str()]);

    let id = master.create(&forwarder());
    let mine = |event: &Value| event["instance"]["id"] == id.as_str();
    assert_eq!(reader.find(mine)["type"], "create", "the first that is heard of it");
    reader.find(|event| mine(event) && event["instance"]["status"] == "running");
    let line = reader.find(|event| mine(event) && event["type"] == "log")["logs"].as_str().unwrap().to_owned();
    assert!(line.contains("\u{1b}[32mINFO\u{1b}[0m") && !line.contains('\n'), "{line:?}");
    // A check point is an update, and no log.
    let seen = reader.find(|event| mine(event) && event["type"] == "update" && event["instance"]["mode"] == 1);
    assert_eq!(seen["logs"], "");

    master.ask(&format!("PATCH /v1/instances/{id}"), "{\"alias\":\"named\"}");
    reader.find(|event| mine(event) && event["type"] == "update" && event["instance"]["alias"] == "named");
    master.ask(&format!("PATCH /v1/instances/{id}"), "{\"action\":\"restart\"}");
    reader.find(|event| mine(event) && event["instance"]["status"] == "stopped");
    reader.find(|event| mine(event) && event["instance"]["status"] == "running");

    assert_eq!(master.ask(&format!("DELETE /v1/instances/{id}"), "").status, 204);
    reader.find(|event| mine(event) && event["type"] == "delete");
    master.process.terminate();
    while let Some(event) = reader.event() {
        assert!(!mine(&event), "nothing comes after a delete: {event}");
        assert!(!event.to_string().contains("CHECK_POINT"), "{event}");
        if event["type"] == "shutdown" {
            return assert_eq!(reader.event(), None);
        }
    }
    panic!("no farewell");
}

#[test]
fn a_new_key_ends_all_streams_with_a_farewell() {
    let master = Master::start();
    let readers = [Reader::new(&master).begun(), Reader::new(&master).begun()];
    assert_eq!(master.ask("PATCH /v1/instances/********", "{\"action\":\"restart\"}").status, 200);
    readers.into_iter().for_each(Reader::ends_with_shutdown);
}

#[test]
fn a_quiet_stream_gets_a_comment_within_twenty_seconds() {
    let master = Master::start();
    let reader = Reader::new(&master).begun();
    assert_eq!(reader.event().expect("an event")["type"], "initial");
    let comment = reader.lines.recv_timeout(Duration::from_secs(30)).expect("a comment");
    assert!(comment.starts_with(':'), "{comment:?}");
    assert_eq!(reader.line().as_deref(), Some("\n"));
}
