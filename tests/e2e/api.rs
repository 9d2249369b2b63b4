//! The master's API as clients see it: curl against the real program. What the original answered to the same requests is
//! written here; ids and the API key are masked.

mod bans;
mod disk;
mod events;
mod extras;
mod metrics;
mod moving;
mod originals;
mod page;
mod programs;
mod recorded;
mod takeover;
mod tunnel;

use std::process::Command;

use crate::support::*;
use serde_json::Value;

/// A running master with a state of its own.
pub struct Master {
    process: Process,
    url: String,
    root: String,
    key: String,
    state: Folder,
}

fn run(url: &str, state: &Folder, env: &[(&str, &str)]) -> Process {
    let folder = state.path().to_str().expect("a path");
    let own = [("NP_STATE_DIR", folder), ("NP_REPORT_INTERVAL", "500ms")];
    Process::nodepass_with(&[url], &[&own, env].concat())
}

/// What curl got.
#[derive(Debug)]
pub struct Said {
    status: u16,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    body: String,
}

impl Said {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

impl Master {
    /// Starts one; its API is at `/api`.
    pub fn start() -> Master {
        Master::at("/api")
    }

    /// Starts one with this path.
    pub fn at(prefix: &str) -> Master {
        Master::with(prefix, "log=info")
    }

    /// Starts one with this path and these parameters.
    pub fn with(prefix: &str, query: &str) -> Master {
        Master::with_env(prefix, query, &[])
    }

    /// Starts one with this path, these parameters, and more environment, which its instances have too.
    pub fn with_env(prefix: &str, query: &str, env: &[(&str, &str)]) -> Master {
        let (port, state) = (free_port(), Folder::new());
        let url = format!("master://127.0.0.1:{port}{prefix}?{query}");
        let process = run(&url, &state, env);
        let line = process.says("API Key created: ", GRACE);
        let key = line.rsplit(' ').next().expect("a key").to_owned();
        assert!(key.len() == 32 && key.bytes().all(|byte| byte.is_ascii_hexdigit()), "{line}");
        Master { process, url, root: format!("http://127.0.0.1:{port}{}", prefix.trim_end_matches('/')), key, state }
    }

    /// Starts one in a folder that has a state, with this key in it.
    pub fn over(state: Folder, key: &str) -> Master {
        let port = free_port();
        let url = format!("master://127.0.0.1:{port}/api?log=info");
        let process = run(&url, &state, &[]);
        process.says("API Key loaded: ", GRACE);
        Master { process, url, root: format!("http://127.0.0.1:{port}/api"), key: key.into(), state }
    }

    /// Ends it by a signal, and starts another with the same state.
    pub fn restart(&mut self, signal: i32) {
        self.process.signal(signal);
        self.process.wait(GRACE);
        self.process = run(&self.url, &self.state, &[]);
        self.process.says(&format!("API Key loaded: {}...", &self.key[..4]), GRACE);
        assert!(!self.process.said(&self.key), "only its beginning is told again");
    }

    /// curl with the key: `"PATCH /v1/instances/..."` and a body, which may be empty.
    pub fn ask(&self, request: &str, body: &str) -> Said {
        let key = format!("X-API-Key: {}", self.key);
        self.ask_with(request, body, &["-H", &key])
    }

    /// The same without the key and with other arguments.
    pub fn ask_with(&self, request: &str, body: &str, arguments: &[&str]) -> Said {
        let (method, path) = request.split_once(' ').expect("a method and a path");
        let url = format!("{}{path}", self.root);
        let mut all = vec!["-s", "-i", "-g", "-m", "30", "-X", method];
        if method == "HEAD" {
            all = vec!["-s", "-I", "-g", "-m", "30"];
        }
        if !body.is_empty() {
            all.extend(["-d", body]);
        }
        all.extend(arguments);
        all.push(&url);
        said(&curl(&all))
    }

    /// Status and body.
    pub fn told(&self, request: &str, body: &str) -> (u16, String) {
        let said = self.ask(request, body);
        (said.status, said.body)
    }

    /// Makes an instance and gives its id.
    pub fn create(&self, url: &str) -> String {
        let said = self.ask("POST /v1/instances", &serde_json::json!({ "url": url }).to_string());
        assert_eq!(said.status, 201, "{}", said.body);
        said.json()["id"].as_str().expect("an id").to_owned()
    }

    /// Waits until an instance has this status.
    pub fn until_status(&self, id: &str, status: &str) {
        until(&format!("{id} {status}"), GRACE, || {
            let instance = self.ask(&format!("GET /v1/instances/{id}"), "").json();
            if instance["status"] == status {
                Ok(())
            } else {
                Err(instance["status"].clone())
            }
        });
    }
}

/// curl's output, which must be a success.
pub fn curl(arguments: &[&str]) -> String {
    let mut command = Command::new("curl");
    command.args(arguments);
    let done = finished(command).expect("curl");
    assert!(done.status.success(), "curl {arguments:?}: {}", done.status);
    String::from_utf8(done.stdout).expect("text")
}

fn said(text: &str) -> Said {
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|word| word.parse().ok());
    let headers =
        lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.to_lowercase(), value.into()));
    Said { status: status.expect("a status"), headers: headers.collect(), body: body.into() }
}

/// `{"error":"text","message":"text"}` with its line end.
pub fn refused(status: u16, text: &str) -> (u16, String) {
    (status, format!("{{\"error\":\"{text}\",\"message\":\"{text}\"}}\n"))
}

/// A client that forwards alone, on a port of its own.
pub fn forwarder() -> String {
    format!("client://127.0.0.1:{}/127.0.0.1:9?mode=1", free_port())
}
