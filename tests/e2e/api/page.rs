//! The page that shows the API, in a real browser.

use std::net::TcpListener;
use std::path::PathBuf;

use super::*;

#[test]
fn the_page_is_served_plain_or_compressed_and_both_are_the_same() {
    let master = Master::start();
    let url = format!("{}/v1/docs", master.root);
    let plain = curl(&["-s", &url]);
    let said = said(&curl(&["-s", "-i", "--compressed", &url]));
    assert_eq!(said.header("content-encoding"), Some("gzip"));
    assert_eq!(said.body, plain);
    assert_eq!(said.header("content-type"), Some("text/html; charset=utf-8"));
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/master/docs.html");
    assert_eq!(plain, std::fs::read_to_string(source).expect("the page"));
    assert!(!plain.contains(&master.key));
}

#[test]
fn a_browser_shows_every_call_and_asks_no_other_server() {
    let Some(chromium) = program("chromium") else { return };
    let master = Master::start();
    let folder = Folder::new();
    // Whatever is not this machine goes to a proxy, and there is none: only its listener.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let log = folder.file("net.json");
    let mut command = Command::new(chromium);
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--dump-dom"]);
    command.args(["--disable-background-networking", "--disable-component-update", "--disable-sync"]);
    command.args(["--disable-dev-shm-usage", "--virtual-time-budget=20000", "--timeout=60000"]);
    command.arg(format!("--user-data-dir={}", folder.file("profile").display()));
    command.arg(format!("--log-net-log={}", log.display()));
    command.arg(format!("--proxy-server=127.0.0.1:{}", listener.local_addr().expect("a port").port()));
    command.arg(format!("{}/v1/docs", master.root));
    let dom = String::from_utf8_lossy(&finished(command).expect("a browser").stdout).into_owned();
    let document = master.ask("GET /v1/openapi.json", "").json();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for method in ["get", "post", "patch", "put", "delete"].iter().filter(|method| item.get(**method).is_some()) {
            let summary = format!("<summary><b>{method}</b><code>{path}</code>");
            assert!(dom.contains(&summary), "{summary} is not in {dom}");
        }
    }
    assert!(dom.contains("<small id=\"version\">1."), "the version is shown");
    assert!(!dom.contains(&master.key));
    let asked = requests(&std::fs::read_to_string(log).expect("the browser's log"), &format!("{}/", master.root));
    assert_eq!(asked, ["/v1/docs", "/v1/openapi.json"].map(|path| format!("{}{path}", master.root)));
}

/// What a page at `root` asked for: the browser itself asks other things, which do not say that they are from there.
fn requests(log: &str, root: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for part in log.split("\"url\":\"").skip(1) {
        let url = part.split('"').next().unwrap_or_default().to_owned();
        let from_page =
            part.split('}').next().is_some_and(|rest| rest.contains(&format!("\"initiator\":\"{}", origin(root))));
        if (url.starts_with(root) || from_page) && !found.contains(&url) {
            found.push(url);
        }
    }
    found.sort_unstable();
    found
}

/// Scheme, host and port.
fn origin(url: &str) -> &str {
    url.match_indices('/').nth(2).map_or(url, |(at, _)| &url[..at])
}
