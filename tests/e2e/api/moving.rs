//! The folder of an original's master, given to this one: everything that ran there runs here.

use std::collections::BTreeMap;

use nodepass::master::gob;
use nodepass::master::record::{Kind, Record, Status, KEY_ID};

use super::*;

const KEY: &str = "0123456789abcdef0123456789abcdef";

/// Values that an original cannot read, and that it runs with its defaults for.
const ODD: [&str; 5] = ["dns=dns.google", "read=30", "min=0", "rate=abc", "log=fatal"];

/// What a master of the original has kept.
fn folder(urls: &[String]) -> Folder {
    let own = Record { id: KEY_ID.into(), url: KEY.into(), config: "00112233aabbccdd".into(), ..Record::default() };
    let kept = urls.iter().enumerate().map(|(at, url)| Record {
        id: format!("0000000{at}"),
        kind: Kind::Client,
        status: Status::Running,
        url: url.clone(),
        config: url.clone(),
        restart: true,
        ..Record::default()
    });
    let records: BTreeMap<String, Record> = kept.chain([own]).map(|record| (record.id.clone(), record)).collect();
    let folder = Folder::new();
    folder.write("nodepass.gob", gob::encode(&records));
    folder
}

#[test]
fn all_seven_instances_of_an_originals_folder_run_and_what_was_passed_over_is_said() {
    let plain = ["", "dns=8.8.8.8"].into_iter().chain(ODD).map(|more| format!("{}&{more}", forwarder()));
    let urls: Vec<String> = plain.map(|url| url.trim_end_matches('&').to_owned()).collect();
    let master = Master::over(folder(&urls), KEY);
    for (at, url) in urls.iter().enumerate() {
        let id = format!("0000000{at}");
        master.until_status(&id, "running");
        let body = master.ask(&format!("GET /v1/instances/{id}"), "").body;
        let record: Value = serde_json::from_str(&body).expect("an instance");
        assert_eq!(record["url"], url.as_str(), "it is as it was");
        let odd = ODD.iter().find(|odd| url.ends_with(*odd));
        let warnings = record["warnings"].as_array().cloned().unwrap_or_default();
        assert_eq!(warnings.len(), usize::from(odd.is_some()), "{body}");
        let Some((name, _)) = odd.and_then(|odd| odd.split_once('=')) else {
            assert!(!body.contains("warnings"));
            continue;
        };
        assert!(body.trim_end().ends_with("]}") && body.contains("\"udptx\":0,\"warnings\":["), "at its end: {body}");
        let warning = warnings[0].as_str().expect("a line");
        assert!(warning.starts_with(&format!("bad parameter {name} ")), "{warning}");
        let logged = until("a line of its log", GRACE, || {
            let logs = master.ask(&format!("GET /v1/instances/{id}/logs"), "").json();
            let lines = logs.as_array().cloned().unwrap_or_default();
            lines.into_iter().find(|line| line.as_str().is_some_and(|line| line.contains(warning))).ok_or(logs)
        });
        assert!(plain_text(&logged).contains("WARN"), "{logged}");
    }
}

fn plain_text(line: &Value) -> String {
    plain(line.as_str().unwrap_or_default())
}

#[test]
fn a_client_of_the_api_may_ask_for_what_an_original_passes_over_and_is_told() {
    let master = Master::start();
    let said = master.ask("POST /v1/instances", &format!("{{\"url\":\"{}&rate=abc\"}}", forwarder()));
    assert_eq!(said.status, 201);
    let record = said.json();
    assert!(record["warnings"][0].as_str().is_some_and(|line| line.contains("rate \"abc\"")), "{record}");
    let id = record["id"].as_str().expect("an id");
    master.until_status(id, "running");
    let put = |url: &str| {
        let said = master.ask(&format!("PUT /v1/instances/{id}"), &format!("{{\"url\":\"{url}\"}}"));
        assert_eq!(said.status, 200, "{}", said.body);
        said.json()["warnings"].clone()
    };
    assert!(put(&format!("{}&min=0&read=30", forwarder())).as_array().is_some_and(|lines| lines.len() == 2));
    let mistyped = put(&format!("{}&tsl=1", forwarder()));
    assert_eq!(mistyped[0], "unknown parameter tsl: ignored; did you mean tls?");
    assert_eq!(put(&forwarder()), Value::Null);
    // What no original knows has no default of its.
    let (status, text) = master.told("POST /v1/instances", &format!("{{\"url\":\"{}&allow=x\"}}", forwarder()));
    let fault: Value = serde_json::from_str(&text).expect("an error");
    assert_eq!((status, &fault["error"]), (400, &fault["message"]));
    assert!(text.contains("parameter allow"), "{text}");
}

/// Files by Go's own encoder, of the records that each release has.
#[test]
fn the_folder_of_each_release_is_read_and_written_as_that_of_1_14() {
    for release in ["1.6", "1.7", "1.8", "2.0"] {
        let file = format!("{}/tests/fuzz/corpus/state/{release}", env!("CARGO_MANIFEST_DIR"));
        let folder = Folder::new();
        folder.write("nodepass.gob", std::fs::read(file).expect("a state file"));
        let mut master = Master::over(folder, KEY);
        for turn in ["as it was", "as it was written"] {
            master.until_status("0f854155", "running");
            let list = master.ask("GET /v1/instances", "").json();
            let record =
                |id: &str| list.as_array().and_then(|all| all.iter().find(|one| one["id"] == id)).expect("a record");
            let (server, client) = (record("0f854155"), record("1c2d3e4f"));
            assert_eq!((&server["alias"], &server["type"]), (&"shop".into(), &"server".into()), "{release} {turn}");
            assert_eq!((&client["status"], &client["restart"]), (&"stopped".into(), &false.into()), "{release} {turn}");
            assert_eq!([&server["tcprx"], &server["tcptx"], &server["udprx"], &server["udptx"]], [4096, 8192, 7, 9]);
            let config = client["config"].as_str().expect("a URL");
            assert!(config.starts_with("client://word@127.0.77.1:10101/127.0.77.1:10103?") && config.contains("min="));
            let site = &server["meta"]["tags"]["site"];
            assert_eq!(
                site.as_str(),
                matches!(release, "1.8" | "2.0").then_some("north"),
                "{release} {turn}: {server}"
            );
            let mid = record(KEY_ID)["config"].as_str().expect("an id");
            assert!(mid.len() == 16 && (matches!(release, "1.6" | "1.7") || mid == "00112233aabbccdd"), "{mid}");
            master.restart(libc::SIGTERM);
        }
        let kept = gob::decode(&std::fs::read(master.state.file("nodepass.gob")).expect("a state file"));
        assert_eq!(kept.expect("a state").len(), 3, "{release}");
    }
}
