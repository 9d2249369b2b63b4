//! What a monitoring system makes of our figures: Prometheus scrapes them, and its own tool finds nothing to say about them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::*;

/// A program of the package prometheus, if it is there; else the test is skipped.
fn has(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version");
    present(finished(command).is_ok(), "prometheus")
}

/// What a page at this address says.
fn page(url: &str) -> Result<String, String> {
    let mut curl = Command::new("curl");
    curl.args(["-sf", "-g", "-m", "10", url]);
    let done = finished(curl).map_err(|error| error.to_string())?;
    match done.status.success() {
        true => Ok(String::from_utf8_lossy(&done.stdout).into_owned()),
        false => Err(format!("{url}: {}", done.status)),
    }
}

#[test]
fn promtool_has_nothing_to_say_about_our_figures() {
    if !has("promtool") {
        return;
    }
    let at = free_addr();
    let _tunnel = Tunnel::reverse().server(&format!("tls=1&metrics={at}")).start();
    let text = until("figures", GRACE, || page(&format!("http://{at}/metrics")));
    let folder = Folder::new();
    let file = folder.path().join("figures");
    std::fs::write(&file, &text).expect("a file");
    let mut tool = Command::new("promtool");
    tool.args(["check", "metrics"]).stdin(std::fs::File::open(&file).expect("the file"));
    tool.stdout(Stdio::piped()).stderr(Stdio::piped());
    let said = finish(start_child(tool).expect("promtool"));
    let words = String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned();
    assert!(said.status.success() && words.is_empty(), "{words}\n{text}");
}

#[test]
fn the_rules_their_test_and_the_examples_satisfy_prometheus_own_tools() {
    if !has("promtool") {
        return;
    }
    let tool = |program: &str, words: &[&str]| {
        let mut tool = Command::new(program);
        tool.args(words).current_dir(shipped("")).stdout(Stdio::piped()).stderr(Stdio::piped());
        let said = finish(start_child(tool).expect(program));
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&[said.stdout, said.stderr].concat()));
    };
    tool("promtool", &["check", "rules", "nodepass.rules.yml"]);
    tool("promtool", &["test", "rules", "nodepass.rules.test.yml"]);
    tool("promtool", &["check", "config", "--syntax-only", "prometheus.yml"]);
    if has("amtool") {
        tool("amtool", &["check-config", "alertmanager.yml"]);
    }
}

#[test]
fn both_dashboards_ask_the_same() {
    let queries = |file| -> Vec<String> { queries(&dashboard(file)).into_iter().map(|(_, query)| query).collect() };
    assert_eq!(queries("grafana.json"), queries("grafana_zh.json"));
}

/// A server that is asked by itself and a master with a client, both scraped by a real Prometheus: every query of the dashboard has an
/// answer, and every rule can be evaluated.
#[test]
#[cfg(feature = "master")]
fn every_query_of_the_dashboard_and_every_rule_is_answered() {
    if !has("prometheus") {
        return;
    }
    let (target, at, tunnel, user) = (Target::echo(), free_addr(), free_addr(), free_addr());
    let (api, web, folder) = (free_addr(), free_addr(), Folder::new());
    let _server = Process::nodepass(&format!("server://{KEY}@{tunnel}/{user}?mode=1&tls=1&metrics={at}"));
    let mut command = nodepass_command();
    command.arg(format!("master://{api}/api")).env("NP_STATE_DIR", folder.path());
    let master = Process::run("master", command);
    let key = master.says("API Key created: ", GRACE).rsplit(' ').next().expect("a key").to_owned();
    let mut curl = Command::new("curl");
    let client = format!("{{\"url\":\"client://{KEY}@{tunnel}/{}?mode=2\"}}", target.addr());
    curl.args(["-sf", "-H", &format!("X-API-Key: {key}"), "-d", &client, &format!("http://{api}/api/v1/instances")]);
    assert!(finished(curl).is_ok_and(|done| done.status.success()));
    until("a user", GRACE, || exchange(user, &noise(1, 1000)));

    let (config, secret) = (folder.path().join("prometheus.yml"), folder.path().join("key"));
    std::fs::write(&secret, key).expect("a file");
    let text = std::fs::read_to_string(shipped("prometheus.yml")).expect("the example");
    let text = text
        .replace("scrape_interval: 15s", "scrape_interval: 200ms\n  evaluation_interval: 200ms")
        .replace("nodepass.rules.yml", &shipped("nodepass.rules.yml").display().to_string())
        .replace("/etc/prometheus/nodepass.key", &secret.display().to_string())
        .replace("127.0.0.1:9090", &api.to_string())
        .replace("127.0.0.1:9101", &at.to_string());
    std::fs::write(&config, text).expect("a file");
    let mut prometheus = Command::new("prometheus");
    prometheus.arg(format!("--config.file={}", config.display()));
    prometheus.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
    prometheus.arg(format!("--web.listen-address={web}"));
    let _prometheus = Process::run("prometheus", prometheus);

    for (title, query) in queries(&dashboard("grafana.json")) {
        let query = query.replace("$job", ".*").replace("$instance", ".*").replace("$__rate_interval", "1m");
        until(&format!("{title}: {query}"), GRACE, || {
            let said = ask(web, &["query", &format!("query={query}")])?;
            said["data"]["result"]
                .as_array()
                .is_some_and(|found| !found.is_empty())
                .then_some(())
                .ok_or(said.to_string())
        });
    }
    until("tunnels at both", GRACE, || {
        let said = ask(web, &["query", "query=count(nodepass_tunnels == 1)"])?;
        (said["data"]["result"][0]["value"][1] == "2").then_some(()).ok_or(said.to_string())
    });
    until("rules", GRACE, || {
        let said = ask(web, &["rules"])?;
        let rules = said["data"]["groups"][0]["rules"].as_array().cloned().unwrap_or_default();
        let bad: Vec<_> = rules.iter().filter(|rule| rule["health"] != "ok").map(|rule| &rule["name"]).collect();
        (!rules.is_empty() && bad.is_empty()).then_some(()).ok_or(format!("{bad:?} of {}", rules.len()))
    });
}

/// What Prometheus answers at an endpoint of its API, asked with these parameters.
fn ask(web: std::net::SocketAddr, words: &[&str]) -> Result<serde_json::Value, String> {
    let mut curl = Command::new("curl");
    curl.args(["-s", "-m", "10", "-G", &format!("http://{web}/api/v1/{}", words[0])]);
    for word in &words[1..] {
        curl.args(["--data-urlencode", word]);
    }
    let done = finished(curl).map_err(|error| error.to_string())?;
    serde_json::from_slice(&done.stdout).map_err(|error| error.to_string())
}

fn dashboard(file: &str) -> serde_json::Value {
    let text = std::fs::read_to_string(shipped(file)).expect(file);
    serde_json::from_str(&text).expect(file)
}

/// Titles of panels and what they ask.
fn queries(dashboard: &serde_json::Value) -> Vec<(String, String)> {
    let list = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
    let panels = list(&dashboard["panels"]);
    let found: Vec<_> = panels
        .iter()
        .flat_map(|panel| {
            list(&panel["targets"]).into_iter().map(|target| (panel["title"].clone(), target["expr"].clone()))
        })
        .map(|(title, query)| (title.as_str().expect("a title").into(), query.as_str().expect("a query").into()))
        .collect();
    assert!(found.len() > 20, "{found:?}");
    found
}

/// What ships with the program for monitoring systems.
fn shipped(file: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/monitoring")).join(file)
}

/// A key that gives no warning.
const KEY: &str = "a-key-of-more-than-sixteen";
