//! Chromium by WebDriver (W3C): a dozen of its commands, over plain HTTP to chromedriver.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use serde_json::{json, Value};

use crate::support::*;

/// A browser of its own, which ends with this value.
pub struct Browser {
    port: u16,
    session: String,
    /// What it has logged so far; reading it takes it.
    network: RefCell<Vec<Value>>,
    _driver: Process,
    _profile: Folder,
}

impl Browser {
    /// Starts one; without chromedriver or Chromium the test is skipped.
    pub fn start() -> Option<Browser> {
        let (chromium, driver) = (program("chromium")?, program("chromedriver")?);
        let (port, profile) = (free_port(), Folder::new());
        let mut command = Command::new(driver);
        command.arg(format!("--port={port}"));
        let driver = Process::run("chromedriver", command);
        driver.says("started successfully", GRACE);
        let arguments = [
            "--headless=new".to_owned(),
            "--no-sandbox".into(),
            "--disable-gpu".into(),
            "--disable-dev-shm-usage".into(),
            "--disable-background-networking".into(),
            "--disable-component-update".into(),
            "--lang=en".into(),
            "--window-size=1280,900".into(),
            format!("--user-data-dir={}", profile.path().display()),
        ];
        let options = json!({ "binary": chromium, "args": arguments });
        let wanted =
            json!({ "goog:chromeOptions": options, "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" } });
        let made =
            http(port, "POST", "/session", &json!({ "capabilities": { "alwaysMatch": wanted } })).expect("a session");
        let session = made["sessionId"].as_str().expect("its id").to_owned();
        Some(Browser { port, session, network: RefCell::default(), _driver: driver, _profile: profile })
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Result<Value, Value> {
        http(self.port, method, &format!("/session/{}/{path}", self.session), body)
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        self.call("POST", path, body).unwrap_or_else(|error| panic!("{path} {body}: {error}"))
    }

    pub fn go(&self, url: &str) {
        self.post("url", &json!({ "url": url }));
    }

    /// What a script returns.
    pub fn js(&self, script: &str) -> Value {
        self.post("execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// The element, as soon as it is there.
    fn element(&self, css: &str) -> String {
        let found =
            until(css, GRACE, || self.call("POST", "element", &json!({ "using": "css selector", "value": css })));
        found
            .as_object()
            .and_then(|found| found.values().next())
            .and_then(Value::as_str)
            .expect("an element")
            .to_owned()
    }

    /// A command to an element, as soon as it can be obeyed.
    fn act(&self, css: &str, command: &str, body: &Value) {
        until(&format!("{command} {css}"), GRACE, || {
            self.call("POST", &format!("element/{}/{command}", self.element(css)), body)
        });
    }

    pub fn click(&self, css: &str) {
        self.act(css, "click", &json!({}));
    }

    /// Adds to what is in a field.
    pub fn type_in(&self, css: &str, text: &str) {
        self.act(css, "value", &json!({ "text": text }));
    }

    /// The same for an element that is hidden, as a field for a file.
    pub fn send_keys(&self, css: &str, text: &str) {
        self.type_in(css, text);
    }

    /// Replaces what is in a field.
    pub fn put(&self, css: &str, text: &str) {
        self.act(css, "clear", &json!({}));
        if text.is_empty() {
            self.js(&format!("document.querySelector({css:?}).dispatchEvent(new Event('input', {{ bubbles: true }}))"));
        } else {
            self.type_in(css, text);
        }
    }

    /// Chooses a value of a list.
    pub fn choose(&self, css: &str, value: &str) {
        self.element(css);
        self.js(&format!(
            "const e = document.querySelector({css:?}); e.value = {value:?}; \
             for (const name of ['input', 'change']) e.dispatchEvent(new Event(name, {{ bubbles: true }}))"
        ));
    }

    pub fn value(&self, css: &str) -> String {
        self.js(&format!("return document.querySelector({css:?}).value")).as_str().expect("a value").to_owned()
    }

    pub fn text(&self, css: &str) -> String {
        let text = self.js(&format!("return document.querySelector({css:?})?.textContent ?? ''"));
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the element has this in its text.
    pub fn shows(&self, css: &str, text: &str) {
        until(&format!("{css}: {text}"), GRACE, || {
            let shown = self.text(css);
            if shown.contains(text) {
                Ok(())
            } else {
                Err(shown)
            }
        });
    }

    /// Waits until there is no such element.
    pub fn lacks(&self, css: &str) {
        until(&format!("no {css}"), GRACE, || {
            let there = self.js(&format!("return document.querySelectorAll({css:?}).length"));
            if there == 0 {
                Ok(())
            } else {
                Err(there)
            }
        });
    }

    /// The id of the element that has the focus.
    pub fn focused(&self) -> String {
        self.js("return document.activeElement?.id ?? ''").as_str().unwrap_or_default().to_owned()
    }

    /// Presses keys, one after the other.
    pub fn press(&self, keys: &[&str]) {
        let steps: Vec<Value> = keys
            .iter()
            .flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key })))
            .collect();
        self.post("actions", &json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": steps }] }));
    }

    fn devtools(&self, command: &str, parameters: &Value) {
        self.post("goog/cdp/execute", &json!({ "cmd": command, "params": parameters }));
    }

    /// Shows the page in a window of this width.
    pub fn width(&self, width: u32) {
        let size = json!({ "width": width, "height": 844, "deviceScaleFactor": 1, "mobile": true });
        self.devtools("Emulation.setDeviceMetricsOverride", &size);
    }

    /// Where downloads go.
    pub fn save_into(&self, folder: &Path) {
        self.devtools("Browser.setDownloadBehavior", &json!({ "behavior": "allow", "downloadPath": folder }));
    }

    /// Everything was asked of `root`, and the browser has nothing to complain about.
    pub fn is_clean(&self, root: &str) {
        self.only_of_origin(root);
        let lines = self.log("browser");
        let bad: Vec<&Value> = lines.iter().filter(|line| line["level"] == "SEVERE" && !is_answer(line)).collect();
        assert!(bad.is_empty(), "{bad:?}");
    }

    /// Everything was asked of `root`, and nothing broke the policy.
    pub fn only_of_origin(&self, root: &str) {
        self.network.borrow_mut().extend(self.log("performance"));
        let network = self.network.borrow();
        let messages = network.iter().filter_map(|line| serde_json::from_str::<Value>(line["message"].as_str()?).ok());
        let mut asked = 0;
        for message in messages {
            let message = &message["message"];
            if message["method"] != "Network.requestWillBeSent" {
                continue;
            }
            // The browser's own first page is none of ours.
            if message["params"]["documentURL"].as_str().is_some_and(|document| document.starts_with("chrome://")) {
                continue;
            }
            let url = message["params"]["request"]["url"].as_str().expect("a URL").to_owned();
            let own = format!("blob:{root}/");
            let is_own = url.starts_with(&format!("{root}/")) || url.starts_with(&own) || url.starts_with("data:");
            assert!(is_own, "it asked for {url}");
            asked += 1;
        }
        assert!(asked > 5, "the browser's own log of what it asked for");
        let count = self.js("return performance.getEntriesByType('resource').filter(e => !e.name.startsWith(location.origin) && !e.name.startsWith('data:')).length");
        assert_eq!(count, 0);
    }

    fn log(&self, kind: &str) -> Vec<Value> {
        let lines = self.post("se/log", &json!({ "type": kind }));
        let lines = lines.as_array().expect("lines").clone();
        assert!(
            !lines.iter().any(|line| line.to_string().contains("Content Security Policy") && line["level"] == "SEVERE"),
            "{lines:?}"
        );
        lines
    }
}

/// Whether a line only tells that the API answered with a status of failure, as it should.
fn is_answer(line: &Value) -> bool {
    line["source"] == "network"
        && line["message"].as_str().is_some_and(|text| text.contains("server responded with a status of 4"))
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Killed with its driver, it would leave processes behind.
        let _ = http(self.port, "DELETE", &format!("/session/{}", self.session), &Value::Null);
    }
}

/// One command: its value, or the error.
fn http(port: u16, method: &str, path: &str, body: &Value) -> Result<Value, Value> {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let mut stream = TcpStream::connect(("127.0.0.1", port)).map_err(|error| json!(error.to_string()))?;
    stream.set_read_timeout(Some(GRACE)).expect("a timeout");
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).map_err(|error| json!(error.to_string()))?;
    let mut reader = BufReader::new(stream);
    let (mut length, mut status, mut line) = (0, String::new(), String::new());
    while reader.read_line(&mut line).map_err(|error| json!(error.to_string()))? > 2 {
        let lower = line.to_ascii_lowercase();
        if let Some(text) = lower.strip_prefix("content-length:") {
            length = text.trim().parse().expect("a length");
        }
        if status.is_empty() {
            status = line.clone();
        }
        line.clear();
    }
    let mut bytes = vec![0; length];
    reader.read_exact(&mut bytes).map_err(|error| json!(error.to_string()))?;
    let value = serde_json::from_slice::<Value>(&bytes).map_err(|error| json!(error.to_string()))?["value"].clone();
    if status.contains(" 200") {
        Ok(value)
    } else {
        Err(value)
    }
}

/// Keys as WebDriver names them.
pub const TAB: &str = "\u{e004}";
pub const ENTER: &str = "\u{e007}";
pub const ESCAPE: &str = "\u{e00c}";
pub const RIGHT: &str = "\u{e014}";
