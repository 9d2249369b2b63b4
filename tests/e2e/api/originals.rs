//! The very requests of programs made for the original, as their sources have them: method, path, headers, the order of the fields, and how each
//! writes its JSON. Checked is what each program reads of the answers.

use super::*;

/// The value at these names, which must be text.
fn text(value: &Value, path: &str) -> String {
    let found = path.split('.').fold(value, |value, name| &value[name]);
    found.as_str().unwrap_or_else(|| panic!("{path} of {value} is no text")).to_owned()
}

/// The values at these names must be whole numbers: Go and Swift read nothing else into an integer.
fn numbers(value: &Value, names: &str) {
    for name in names.split(' ') {
        assert!(value[name].is_i64() || value[name].is_u64(), "{name} of {value}");
    }
}

const FIGURES: &str = "mode ping pool tcps udps tcprx tcptx udprx udptx";

/// The head and body of the answer to a request with these headers besides curl's own; those that are named without a value are left out.
fn asked(master: &Master, request: &str, headers: &[&str], body: &str) -> Said {
    let key = format!("X-API-Key: {}", master.key);
    let mut arguments = vec!["-H", key.as_str()];
    headers.iter().for_each(|header| arguments.extend(["-H", *header]));
    master.ask_with(request, body, &arguments)
}

/// Requests of a page in a browser, at another place than the master: each is asked for first.
struct Panel<'a>(&'a Master);

impl Panel<'_> {
    const ORIGIN: &'static str = "Origin: https://panel.example";

    fn preflight(&self, method: &str, path: &str, headers: &str) {
        let (method_header, names) =
            (format!("Access-Control-Request-Method: {method}"), format!("Access-Control-Request-Headers: {headers}"));
        let arguments = ["-H", Self::ORIGIN, "-H", &method_header, "-H", &names];
        let said = self.0.ask_with(&format!("OPTIONS {path}"), "", &arguments);
        assert!(matches!(said.status, 200 | 204), "{said:?}");
        let allowed = |name: &str| said.header(name).unwrap_or_default().to_lowercase();
        assert_eq!(allowed("access-control-allow-origin"), "*");
        assert!(allowed("access-control-allow-methods").contains(&method.to_lowercase()), "{said:?}");
        let names = allowed("access-control-allow-headers");
        assert!(headers.split(',').all(|header| names.contains(header)), "{headers}: {said:?}");
    }

    /// A request as `fetch` makes it; also a GET names the type of a body.
    fn fetch(&self, method: &str, path: &str, body: &str) -> Said {
        self.preflight(method, path, "content-type,x-api-key");
        let headers = [Self::ORIGIN, "Accept: */*", "Content-Type: application/json", "Cache-Control: no-cache"];
        let said = asked(self.0, &format!("{method} {path}"), &headers, body);
        assert_eq!(said.header("access-control-allow-origin"), Some("*"), "{said:?}");
        said
    }
}

#[test]
fn nodepanel_lists_makes_steers_and_deletes_instances_from_a_browser() {
    let master = Master::start();
    let panel = Panel(&master);
    let info = panel.fetch("GET", "/v1/info", "").json();
    for name in ["ver", "os", "arch", "log", "tls", "crt", "key"] {
        text(&info, name);
    }
    let said = panel.fetch("POST", "/v1/instances", &format!("{{\"url\":\"{}\"}}", forwarder()));
    assert_eq!(said.status, 201);
    let id = text(&said.json(), "id");
    let one = format!("/v1/instances/{id}");
    master.until_status(&id, "running");
    for (action, status) in [("stop", "stopped"), ("start", "running"), ("restart", "running")] {
        let said = panel.fetch("PATCH", &one, &format!("{{\"action\":\"{action}\"}}"));
        assert_eq!((said.status, text(&said.json(), "id")), (200, id.clone()));
        master.until_status(&id, status);
    }
    let list = panel.fetch("GET", "/v1/instances", "").json();
    let seen = list.as_array().and_then(|all| all.iter().find(|one| one["id"] == id.as_str())).expect("it is listed");
    assert_eq!((text(seen, "type"), text(seen, "status")), ("client".into(), "running".into()));
    numbers(seen, "tcprx tcptx udprx udptx");
    assert_eq!(text(&panel.fetch("GET", &one, "").json(), "url"), text(seen, "url"));
    // What it cannot do is shown with the field `message`.
    let said = panel.fetch("POST", "/v1/instances", "{\"url\":\"ftp://a/b\"}");
    assert_eq!((said.status, text(&said.json(), "message")), (400, "Invalid URL scheme".into()));
    let said = panel.fetch("DELETE", &one, "");
    assert_eq!((said.status, said.body.as_str()), (204, ""));
}

#[test]
fn nodepanel_reads_events_in_blocks_and_shows_an_instances_log() {
    let master = Master::with("/api", "log=info");
    Panel(&master).preflight("GET", "/v1/events", "cache-control,x-api-key");
    let id = master.create(&forwarder());
    let key = format!("X-API-Key: {}", master.key);
    // It ends by itself with the master; a browser would read on.
    let url = format!("{}/v1/events", master.root);
    let mut command = Command::new("curl");
    command.args([
        "-s",
        "-N",
        "-m",
        "60",
        "-H",
        Panel::ORIGIN,
        "-H",
        "Accept: text/event-stream",
        "-H",
        "Cache-Control: no-cache",
    ]);
    command.args(["-H", &key, &url]).stdout(std::process::Stdio::piped());
    let stream = start_child(command).expect("curl");
    master.until_status(&id, "running");
    until("its first line", GRACE, || {
        let logs = master.ask(&format!("GET /v1/instances/{id}/logs"), "").body;
        if logs.contains("Client started") {
            Ok(())
        } else {
            Err(logs)
        }
    });
    assert_eq!(master.ask(&format!("PATCH /v1/instances/{id}"), "{\"action\":\"restart\"}").status, 200);
    until("two starts", GRACE, || {
        let logs = master.ask(&format!("GET /v1/instances/{id}/logs"), "").body;
        if logs.matches("Client started").count() > 1 {
            Ok(())
        } else {
            Err(logs)
        }
    });
    master.process.terminate();
    let told = String::from_utf8(finish(stream).stdout).expect("text");
    let mut kinds = Vec::new();
    for block in told.split("\n\n").filter(|block| block.contains("event:")) {
        let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        assert_eq!(field("event:"), Some("instance"), "{block}");
        let event: Value = serde_json::from_str(field("data:").expect("data")).expect("JSON");
        let kind = text(&event, "type");
        if kind != "shutdown" {
            text(&event, "instance.id");
            text(&event, "instance.status");
        }
        if kind == "log" {
            text(&event, "logs");
        }
        kinds.push(kind);
    }
    for kind in ["initial", "update", "log", "shutdown"] {
        assert!(kinds.iter().any(|seen| seen == kind), "{kind}: {kinds:?}");
    }
}

/// As its HTTP library asks. Fields that are not set are left out, or null.
fn dash(master: &Master, request: &str, body: &str) -> Said {
    let headers = ["User-Agent: go-resty/2.16.5 (https://github.com/go-resty/resty)", "Accept-Encoding: gzip"];
    let kind: &[&str] = if body.is_empty() { &[] } else { &["Content-Type: application/json"] };
    let said = asked(master, request, &[&headers[..], kind].concat(), body);
    assert!(said.body.is_empty() || said.header("content-type") == Some("application/json"), "{said:?}");
    said
}

#[test]
fn nodepassdash_makes_changes_and_reads_instances() {
    let master = Master::start();
    let said = dash(&master, "POST /v1/instances", &format!("{{\"url\":\"{}\"}}", forwarder()));
    assert_eq!(said.status, 201);
    let id = text(&said.json(), "id");
    let one = format!("/v1/instances/{id}");
    let patched = |body: &str| {
        let said = dash(&master, &format!("PATCH {one}"), body);
        assert_eq!(said.status, 200, "{body}: {}", said.body);
        let record = said.json();
        numbers(&record, FIGURES);
        assert!(record["restart"].is_boolean() && record["config"].is_string(), "{record}");
        record
    };
    assert_eq!(patched("{\"alias\":\"web\"}")["alias"], "web");
    assert_eq!(patched("{\"restart\":true}")["restart"], true);
    assert_eq!(patched("{\"meta\":{\"tags\":{\"site\":\"north\"}}}")["meta"]["tags"]["site"], "north");
    let record = patched("{\"meta\":{\"peer\":{\"sid\":\"s1\",\"type\":\"0\",\"alias\":\"far\"}}}");
    assert_eq!((&record["meta"]["peer"]["sid"], &record["meta"]["tags"]["site"]), (&"s1".into(), &"north".into()));
    // Pointers that are not set.
    assert!(patched("{\"meta\":{\"peer\":{\"sid\":null,\"type\":null,\"alias\":null}}}")["meta"]["peer"].is_object());
    for (action, status) in [("stop", "stopped"), ("start", "running"), ("restart", "running")] {
        patched(&format!("{{\"action\":\"{action}\"}}"));
        master.until_status(&id, status);
    }
    assert_eq!(patched("{\"action\":\"reset\"}")["tcprx"], 0);
    let url = forwarder();
    let said = dash(&master, &format!("PUT {one}"), &format!("{{\"url\":\"{url}\"}}"));
    assert_eq!((said.status, text(&said.json(), "type")), (200, "client".into()));
    let list = dash(&master, "GET /v1/instances", "").json();
    let own = list.as_array().and_then(|all| all.iter().find(|one| one["id"] == "********")).expect("the master's own");
    assert_eq!((text(own, "type"), text(own, "url")), (String::new(), master.key.clone()));
    assert_eq!(dash(&master, &format!("DELETE {one}"), "").status, 204);
}

#[test]
fn nodepassdash_reads_the_master_and_asks_it_to_reach_targets() {
    let master = Master::start();
    let info = dash(&master, "GET /v1/info", "").json();
    for name in ["os", "arch", "ver", "name", "log", "tls", "crt", "key", "alias"] {
        text(&info, name);
    }
    numbers(&info, "cpu mem_used mem_total swap_used swap_total diskr diskw netrx nettx sysup uptime");
    let target = Target::echo();
    let said = dash(&master, &format!("GET /v1/tcping?target={}", target.addr()), "").json();
    assert!(said["connected"] == true && said["error"].is_null(), "{said}");
    numbers(&said, "latency");
    let said = dash(&master, "GET /v1/tcping?target=127.0.0.1:1", "").json();
    assert!(said["connected"] == false && said["error"].is_string(), "{said}");
    let said = dash(&master, "PATCH /v1/instances/********", "{\"action\":\"restart\"}").json();
    assert!(text(&said, "url") != master.key && text(&said, "url").len() == 32);
}

/// As Apple's libraries ask: slashes have a backslash before them, fields come in any order.
fn apple(master: &Master, request: &str, body: &str) -> Said {
    let headers = [
        "Content-Type: application/json",
        "Accept: */*",
        "User-Agent: NodePass/59 CFNetwork/3860.300.31 Darwin/25.2.0",
    ];
    asked(master, request, &headers, &body.replace('/', "\\/"))
}

#[test]
fn the_apple_app_makes_changes_and_reads_instances() {
    let master = Master::start();
    let said = apple(&master, "POST /v1/instances", &format!("{{\"alias\":\"Web\",\"url\":\"{}\"}}", forwarder()));
    assert_eq!(said.status, 201);
    let id = text(&said.json(), "id");
    let one = format!("/v1/instances/{id}");
    for (body, status) in [("{\"action\":\"stop\"}", "stopped"), ("{\"action\":\"start\"}", "running")] {
        assert_eq!(apple(&master, &format!("PATCH {one}"), body).status, 200);
        master.until_status(&id, status);
    }
    let peer = "{\"meta\":{\"peer\":{\"type\":\"1\",\"alias\":\"Service\",\"sid\":\"8A6E0F56-6D0B\"}}}";
    for body in ["{\"alias\":\"Site\"}", "{}", peer] {
        assert_eq!(apple(&master, &format!("PATCH {one}"), body).status, 200, "{body}");
    }
    let url = forwarder();
    let said = apple(&master, &format!("PUT {one}"), &format!("{{\"url\":\"{url}\"}}"));
    let at = url.split('?').next().expect("an address");
    assert!(said.status == 200 && text(&said.json(), "url").starts_with(at), "{said:?}");
    let list = apple(&master, "GET /v1/instances", "").json();
    for record in list.as_array().expect("a list") {
        for name in
            ["id", "type", "status", "url", "config", "alias", "meta.peer.alias", "meta.peer.sid", "meta.peer.type"]
        {
            text(record, name);
        }
        numbers(record, "tcps udps tcprx tcptx udprx udptx ping pool");
        assert!(record["meta"]["tags"].as_object().is_some_and(|tags| tags.values().all(Value::is_string)), "{record}");
    }
    let record = list.as_array().and_then(|all| all.iter().find(|one| one["id"] == id.as_str())).expect("it is listed");
    assert_eq!((text(record, "alias"), text(record, "meta.peer.alias")), ("Site".into(), "Service".into()));
    let info = apple(&master, "GET /v1/info", "").json();
    for name in ["os", "arch", "ver", "name", "log", "tls"] {
        text(&info, name);
    }
    numbers(&info, "cpu mem_used mem_total swap_used swap_total netrx nettx sysup uptime");
    let said = apple(&master, "PUT /v1/instances/ffffffff", "{\"url\":\"client://a:1/b:2\"}");
    assert_eq!((said.status, text(&said.json(), "message")), (404, "Instance not found".into()));
    assert_eq!(apple(&master, &format!("DELETE {one}"), "").status, 204);
}

/// The scripts look for the key in the state file, as the one word of 32 hex digits, and read answers with `sed`.
#[test]
fn npsh_finds_the_key_and_reads_answers_as_text() {
    let master = Master::with("/np", "tls=0");
    let state = until("the state", GRACE, || std::fs::read(master.state.file("nodepass.gob")));
    let hex = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
    let words: Vec<&[u8]> = state.split(|byte| !hex(byte)).filter(|word| word.len() >= 32).collect();
    assert_eq!(words, [master.key.as_bytes()]);
    let headers = ["accept: application/json", "Content-Type: application/json"];
    let (tunnel, api) = (free_addr(), free_addr());
    let body = format!("{{\n            \"url\": \"client://word@{tunnel}/{api}\"\n          }}");
    let said = asked(&master, "POST /v1/instances", &headers, &body).body;
    let id = said.strip_prefix("{\"id\":\"").and_then(|rest| rest.split('"').next()).expect("an id");
    assert!(id.len() == 8 && id.bytes().all(|byte| hex(&byte)), "{said}");
    // Without a word about the type of the body.
    let one = format!("/v1/instances/{id}");
    let said = master.ask_with(
        &format!("PATCH {one}"),
        "{ \"restart\": true }",
        &["-H", &format!("X-API-KEY: {}", master.key)],
    );
    assert_eq!((said.status, &said.json()["restart"]), (200, &true.into()));
    let said = asked(&master, &format!("GET {one}"), &["accept: application/json"], "").body;
    assert!(said.contains(&format!("\"url\":\"client://word@{tunnel}/{api}\"")), "nothing after the target: {said}");
}
