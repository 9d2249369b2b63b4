//! What the original does not have in this form: export and import, logs, the Model Context Protocol; and limits.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::json;

use super::*;

#[test]
fn an_export_makes_the_same_instances_in_another_master() {
    let (old, new) = (Master::start(), Master::start());
    let (running, stopped) = (old.create(&forwarder()), old.create(&forwarder()));
    let change = json!({ "alias": "<b>", "restart": false, "meta": { "peer": { "sid": "s" }, "tags": { "k": "v" } } });
    old.ask(&format!("PATCH /v1/instances/{stopped}"), &change.to_string());
    let export = old.ask("GET /v1/export", "");
    assert_eq!((export.status, export.header("content-type")), (200, Some("application/json")));
    assert!(!export.body.contains(&old.key) && !export.body.contains("********"), "{}", export.body);
    // Their ports are free only when the old ones are gone.
    for id in [&running, &stopped] {
        assert_eq!(old.ask(&format!("DELETE /v1/instances/{id}"), "").status, 204);
    }
    let answer = new.ask("POST /v1/import", &export.body).json();
    assert_eq!((answer["imported"].as_array().map(Vec::len), &answer["skipped"]), (Some(2), &json!([])));
    assert_eq!(new.ask("GET /v1/export", "").body, export.body);
    new.until_status(&running, "running");
    new.until_status(&stopped, "stopped");
    let again = new.ask("POST /v1/import", &export.body).json();
    assert_eq!(again["imported"], json!([]));
    assert!(again["skipped"].as_array().unwrap().iter().all(|each| each["reason"] == "Instance exists already"));
}

#[test]
fn an_instances_last_lines_can_be_read() {
    let master = Master::start();
    let id = master.create(&forwarder());
    let lines = until("a line", GRACE, || {
        let said = master.ask(&format!("GET /v1/instances/{id}/logs"), "");
        assert_eq!(said.status, 200);
        said.json().as_array().filter(|lines| !lines.is_empty()).cloned().ok_or(said.body)
    });
    assert!(lines.iter().all(|line| line.as_str().is_some_and(|line| !line.contains("CHECK_POINT"))), "{lines:?}");
    assert_eq!(master.told("GET /v1/instances/ffffffff/logs", ""), refused(404, "Instance not found"));
}

#[test]
fn info_is_about_this_machine() {
    let info = Master::start().ask("GET /v1/info", "").json();
    let number = |name: &str| info[name].as_u64().unwrap_or_else(|| panic!("{name}: {info}"));
    assert!(number("mem_total") > number("mem_used") && number("mem_used") > 0);
    assert!(number("sysup") > 0 && number("noc") > 0 && number("uptime") < 60);
    assert!(info["cpu"].as_i64().is_some_and(|cpu| (0..=100).contains(&cpu)), "{info}");
    assert_eq!((&info["os"], &info["name"], &info["tls"]), (&"linux".into(), &"127.0.0.1".into(), &"0".into()));
}

#[test]
fn the_eleventh_tcping_at_once_is_told_that_there_are_too_many() {
    let master = Master::start();
    let silent = Silent::new();
    // One curl, so that all of them are there at once.
    let url = format!("{}/v1/tcping?target={}", master.root, silent.address);
    let (key, answers) = (format!("X-API-Key: {}", master.key), Folder::new());
    let files: Vec<String> = (0..11).map(|n| answers.file(&n.to_string()).display().to_string()).collect();
    let mut arguments = vec!["-s", "-m", "30", "--parallel", "--parallel-immediate", "-H", &key];
    files.iter().for_each(|file| arguments.extend(["-o", file, &url]));
    curl(&arguments);
    let outcomes: Vec<Value> =
        files.iter().map(|file| serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()).collect();
    let count = |error: &str| outcomes.iter().filter(|outcome| outcome["error"] == error).count();
    let late = format!("dial tcp {}: i/o timeout", silent.address);
    assert_eq!((count("too many requests"), count(&late)), (1, 10), "{outcomes:?}");
}

#[test]
fn what_is_wrong_with_an_instance_is_found_by_asking_and_does_not_disturb_it() {
    let (master, target, at) = (Master::start(), Target::echo(), free_addr());
    target.handle(echo);
    let id = master.create(&format!("client://{at}/{}?mode=1&noudp=1", target.addr()));
    master.until_status(&id, "running");
    let user = connect(at);
    put(&user, b"before");
    assert_eq!(take(&user, 6), b"before");
    let checked = master.ask(&format!("GET /v1/instances/{id}/check"), "");
    assert_eq!((checked.status, &checked.json()["faults"]), (200, &json!(0)), "{}", checked.body);
    assert!(checked.body.contains("\"port-ours\"") && checked.body.contains("target-fine"), "{}", checked.body);
    put(&user, b"after");
    assert_eq!(take(&user, 5), b"after");

    let url = format!("server://planted-key-of-this-test@{}/127.0.0.1:1?mode=2&tls=1&rate=abc", free_addr());
    let id = master.create(&url);
    let checked = master.ask(&format!("GET /v1/instances/{id}/check?lang=zh"), "");
    assert!(checked.body.contains("那里没有程序监听") && !checked.body.contains("planted-key"), "{}", checked.body);
    assert!(checked.body.contains("config-remark"), "a value that is passed over is told: {}", checked.body);
    let refused_as = |request: &str, status, text| assert_eq!(master.told(request, ""), refused(status, text));
    refused_as("GET /v1/instances/ffffffff/check", 404, "Instance not found");
    refused_as("GET /v1/instances/********/check", 403, "Forbidden: API Key");
    refused_as(&format!("GET /v1/instances/{id}/check?lang=fr"), 400, "Unknown language: expected en or zh");
}

#[test]
fn checks_are_few_at_once_and_one_more_is_told_so() {
    let master = Master::start();
    let silent = Silent::new();
    let id = master.create(&format!("client://{}/{}?mode=1&noudp=1", free_addr(), silent.address));
    let url = format!("{}/v1/instances/{id}/check", master.root);
    let key = format!("X-API-Key: {}", master.key);
    let (mut arguments, answers) =
        (vec!["-s", "-m", "60", "--parallel", "--parallel-immediate", "-H", &key], Folder::new());
    let files: Vec<String> = (0..3).map(|n| answers.file(&n.to_string()).display().to_string()).collect();
    files.iter().for_each(|file| arguments.extend(["-o", file, &url]));
    curl(&arguments);
    let said: Vec<String> = files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    let count = |words: &str| said.iter().filter(|text| text.contains(words)).count();
    assert_eq!((count("target-silent"), count("Too many checks at once")), (2, 1), "{said:?}");
}

/// An address that answers nothing: its queue is full.
struct Silent {
    address: SocketAddr,
    _held: Vec<socket2::Socket>,
}

impl Silent {
    fn new() -> Silent {
        let socket = || socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        let listener = socket();
        listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("an address");
        listener.listen(0).expect("a listener");
        let address = listener.local_addr().expect("an address").as_socket().expect("an address");
        let mut held = vec![listener];
        loop {
            let client = socket();
            let full = client.connect_timeout(&address.into(), Duration::from_millis(300)).is_err();
            held.push(client);
            if full {
                return Silent { address, _held: held };
            }
        }
    }
}

/// A message to the Model Context Protocol's endpoint.
fn rpc(master: &Master, message: &Value) -> (u16, Value) {
    let said = master.ask("POST /v2", &message.to_string());
    (said.status, serde_json::from_str(&said.body).unwrap_or(Value::Null))
}

fn tool(master: &Master, name: &str, arguments: Value) -> Value {
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": name, "arguments": arguments } });
    let (status, answer) = rpc(master, &call);
    assert_eq!(status, 200);
    assert_eq!(answer["result"]["isError"], false, "{name}: {answer}");
    answer["result"]["structuredContent"].clone()
}

#[test]
fn an_assistant_can_run_the_master() {
    let master = Master::start();
    let hello = json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "test", "version": "1" } } });
    let (status, answer) = rpc(&master, &hello);
    assert_eq!((status, &answer["result"]["protocolVersion"]), (200, &"2025-11-25".into()));
    assert_eq!(rpc(&master, &json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })), (202, Value::Null));
    assert_eq!(master.ask("GET /v2", "").status, 405);

    let url = forwarder();
    let id = tool(&master, "create_instance", json!({ "url": url, "alias": "one" }))["id"].clone();
    master.until_status(id.as_str().unwrap(), "running");
    let list = tool(&master, "list_instances", json!({}));
    assert_eq!(list["instances"].as_array().map(Vec::len), Some(1), "the API key is not shown: {list}");
    assert_eq!(
        tool(&master, "update_instance", json!({ "id": id, "alias": "two", "url": forwarder() }))["alias"],
        "two"
    );
    tool(&master, "control_instance", json!({ "id": id, "action": "stop" }));
    master.until_status(id.as_str().unwrap(), "stopped");
    assert!(tool(&master, "get_instance_logs", json!({ "id": id }))["lines"].is_array());
    let export = tool(&master, "export_instances", json!({}));
    tool(&master, "delete_instance", json!({ "id": id }));
    assert_eq!(tool(&master, "import_instances", export)["imported"][0]["alias"], "two");
    assert_eq!(tool(&master, "tcping", json!({ "target": "127.0.0.1:1" }))["connected"], false);
    assert_eq!(tool(&master, "get_master_info", json!({}))["os"], "linux");

    let code = |message: Value| rpc(&master, &message).1["error"]["code"].clone();
    assert_eq!(code(json!({ "jsonrpc": "2.0", "id": 1, "method": "none" })), -32601);
    let call = |params: Value| code(json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params }));
    assert_eq!(call(json!({ "name": "none" })), -32602);
    assert_eq!(call(json!({ "name": "get_instance", "arguments": {} })), -32602);
    assert_eq!(code(json!([{ "jsonrpc": "2.0", "id": 1, "method": "ping" }])), -32600);
    let said = master.ask("POST /v2", "{");
    assert_eq!((said.status, &said.json()["error"]["code"]), (400, &json!(-32700)));
}

#[test]
fn web_pages_of_the_origins_in_cors_may_use_the_api_and_no_others() {
    const OURS: &str = "https://panel.example";
    for (cors, asker, allowed) in [
        ("", OURS, Some("*")),
        ("cors=*", OURS, Some("*")),
        ("cors=https://other.example,https://panel.example", OURS, Some(OURS)),
        ("cors=https://other.example", OURS, None),
        ("cors=none", OURS, None),
    ] {
        let master = Master::with("/api", cors);
        let key = format!("X-API-Key: {}", master.key);
        let origin = format!("Origin: {asker}");
        let preflight = [
            "-H",
            &origin,
            "-H",
            "Access-Control-Request-Method: PATCH",
            "-H",
            "Access-Control-Request-Headers: x-api-key",
        ];
        for (request, arguments) in [
            ("OPTIONS /v1/instances", &preflight[..]),
            ("GET /v1/instances", &["-H", &key, "-H", &origin]),
            ("GET /v1/instances", &["-H", &origin]),
            ("GET /v1/openapi.json", &["-H", &origin]),
        ] {
            let said = master.ask_with(request, "", arguments);
            assert_eq!(said.header("access-control-allow-origin"), allowed, "{cors} {request}");
            let headers = said.header("access-control-allow-headers");
            assert_eq!(headers.is_some_and(|names| names.contains("X-API-Key")), allowed.is_some(), "{cors} {request}");
            let is_list = cors.contains("://");
            assert_eq!(said.header("vary"), is_list.then_some("Origin"), "{cors} {request}");
        }
    }
}
