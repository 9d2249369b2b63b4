//! What a monitoring system makes of our figures: Prometheus scrapes them, and its own tool finds nothing to say about them.

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
fn prometheus_scrapes_a_server() {
    if !has("prometheus") {
        return;
    }
    let (at, web, folder) = (free_addr(), free_addr(), Folder::new());
    let tunnel = Tunnel::reverse().server(&format!("tls=1&metrics={at}")).start();
    tunnel.up();
    let config = folder.path().join("prometheus.yml");
    let text = format!(
        "global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}\nscrape_configs:\n  - job_name: nodepass\n    static_configs:\n      - targets: [\"{at}\"]\n"
    );
    std::fs::write(&config, text).expect("a file");
    let mut prometheus = Command::new("prometheus");
    prometheus.arg(format!("--config.file={}", config.display()));
    prometheus.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
    prometheus.arg(format!("--web.listen-address={web}"));
    let _prometheus = Process::run("prometheus", prometheus);
    let value = until("a scrape", GRACE, || {
        let said = page(&format!("http://{web}/api/v1/query?query=nodepass_tunnels"))?;
        let json: serde_json::Value = serde_json::from_str(&said).map_err(|error| error.to_string())?;
        let value = json["data"]["result"][0]["value"][1].as_str().map(str::to_owned);
        value.filter(|value| value != "0").ok_or(said)
    });
    assert_eq!(value, "1");
}
