//! Requests that were recorded with the original, in their order, and its answers.

use super::*;

const MASTER: &str = "********";

#[test]
fn without_the_right_key_nothing_is_said() {
    let master = Master::start();
    let none = refused(401, "Unauthorized: API key required");
    let wrong = refused(401, "Unauthorized: Invalid API key");
    for request in ["GET /v1/instances", "GET /v1/events", "DELETE /v1/instances", "POST /v2", "GET /v1/export"] {
        let ask = |arguments: &[&str]| {
            let said = master.ask_with(request, "", arguments);
            assert_eq!(said.header("content-type"), Some("application/json"));
            (said.status, said.body)
        };
        assert_eq!(ask(&[]), none, "{request}");
        assert_eq!(ask(&["-H", &format!("Authorization: Bearer {}", master.key)]), none, "{request}");
        assert_eq!(ask(&["-H", "X-API-Key: deadbeef"]), wrong, "{request}");
        assert_eq!(ask(&["-H", "X-API-Key;"]), none, "{request}");
    }
    let said = master.ask_with("OPTIONS /v1/instances", "", &[]);
    assert_eq!((said.status, said.body.as_str(), said.header("content-length")), (200, "", Some("0")));
    assert_eq!(said.header("access-control-allow-origin"), Some("*"));
    let methods = "GET, PATCH, POST, PUT, DELETE, OPTIONS";
    assert_eq!(said.header("access-control-allow-methods"), Some(methods));
    let headers = "Content-Type, Authorization, X-API-Key, Cache-Control";
    assert_eq!(said.header("access-control-allow-headers"), Some(headers));
}

#[test]
fn what_cannot_be_done_is_told_in_the_recorded_words() {
    let master = Master::start();
    let id = master.create(&forwarder());
    let long = "a".repeat(257);
    let one = format!("/v1/instances/{id}");
    let key = format!("/v1/instances/{MASTER}");
    let cases: Vec<(String, String, u16, &str)> = [
        ("HEAD /v1/instances", "", 405, ""),
        ("PUT /v1/instances", "{}", 405, "Method not allowed"),
        ("DELETE /v1/instances", "", 405, "Method not allowed"),
        ("PUT /v1/info", "{}", 405, "Method not allowed"),
        ("POST /v1/info", "{bad", 400, "Invalid request body"),
        ("POST /v1/info", "{\"alias\":\"LONG\"}", 400, "Master alias exceeds maximum length 256"),
        ("POST /v1/instances", "", 400, "Invalid request body"),
        ("POST /v1/instances", "{\"url\":", 400, "Invalid request body"),
        ("POST /v1/instances", "{\"alias\":\"x\"}", 400, "Invalid request body"),
        ("POST /v1/instances", "{\"url\":5}", 400, "Invalid request body"),
        ("POST /v1/instances", "{\"url\":\"server://%zz\"}", 400, "Invalid URL format"),
        ("POST /v1/instances", "{\"url\":\"://x\"}", 400, "Invalid URL format"),
        ("POST /v1/instances", "{\"url\":\"http://127.0.0.1:1/127.0.0.1:2\"}", 400, "Invalid URL scheme"),
        ("POST /v1/instances", "{\"url\":\"master://127.0.0.1:1\"}", 400, "Invalid URL scheme"),
        ("GET /v1/instances/ffffffff", "", 404, "Instance not found"),
        ("GET /v1/instances/", "", 400, "Instance ID is required"),
        ("POST ONE", "{}", 405, "Method not allowed"),
        ("PATCH ONE", "{\"alias\":\"LONG\"}", 400, "Instance alias exceeds maximum length 256"),
        ("PATCH ONE", "{bad", 400, "Invalid request body"),
        ("PATCH ONE", "{\"action\":\"explode\"}", 400, "Invalid action: explode"),
        ("PATCH /v1/instances/ffffffff", "{\"action\":\"stop\"}", 404, "Instance not found"),
        ("PATCH ONE", "{\"meta\":{\"tags\":{\"LONG\":\"v\"}}}", 400, "Meta tag key exceeds maximum length 256"),
        ("PUT ONE", "{", 400, "Invalid request body"),
        ("PUT ONE", "{\"url\":\"client://%zz\"}", 400, "Invalid URL format"),
        ("PUT ONE", "{\"url\":\"ftp://a/b\"}", 400, "Invalid URL scheme"),
        ("PUT KEY", "{\"url\":\"client://a/b\"}", 403, "Forbidden: API Key"),
        ("DELETE KEY", "", 403, "Forbidden: API Key"),
        ("GET /v1/tcping", "", 400, "Target address required"),
        ("POST /v1/tcping?target=127.0.0.1:9000", "", 405, "Method not allowed"),
        ("POST /v1/events", "", 405, "Method not allowed"),
        ("DELETE /v1/instances/ffffffff", "", 404, "Instance not found"),
    ]
    .iter()
    .map(|(request, body, status, text)| {
        (request.replace("ONE", &one).replace("KEY", &key), body.replace("LONG", &long), *status, *text)
    })
    .collect();
    for (request, body, status, text) in cases {
        let said = master.ask(&request, &body);
        assert_eq!(said.header("content-type"), Some("application/json"), "{request}");
        let wanted = if text.is_empty() { (status, String::new()) } else { refused(status, text) };
        assert_eq!((said.status, said.body), wanted, "{request} {body}");
    }
    for path in ["/v1/nope", "", "/v1/info/"] {
        let said = master.ask(&format!("GET {path}"), "");
        assert_eq!((said.status, said.body.as_str()), (404, "404 page not found\n"), "{path}");
        assert_eq!(said.header("content-type"), Some("text/plain; charset=utf-8"));
        assert_eq!(said.header("x-content-type-options"), Some("nosniff"));
    }
}

#[test]
fn a_url_without_a_target_is_refused_with_the_part_at_fault() {
    let (status, text) = Master::start().told("POST /v1/instances", "{\"url\":\"client://127.0.0.1:10502\"}");
    assert_eq!(status, 400);
    assert!(text.contains("target"), "{text}");
}

/// An instance as it is answered, with what differs from one to the next.
fn instance(id: &str, alias: &str, kind: &str, status: &str, urls: (&str, &str), rest: &str) -> String {
    let (url, config) = (urls.0.replace('&', "\\u0026"), urls.1.replace('&', "\\u0026"));
    format!(
        "{{\"id\":\"{id}\",\"alias\":\"{alias}\",\"type\":\"{kind}\",\"status\":\"{status}\",\"url\":\"{url}\",\"config\":\"{config}\",{rest},\
         \"tcps\":0,\"udps\":0,\"tcprx\":0,\"tcptx\":0,\"udprx\":0,\"udptx\":0}}\n"
    )
}

const META: &str = r#""meta":{"peer":{"sid":"","type":"","alias":""},"tags":{}}"#;

#[test]
fn an_instance_lives_as_recorded() {
    let master = Master::start();
    let (tunnel, user) = (free_port(), free_port());
    let at = format!("127.0.0.1:{tunnel}/127.0.0.1:{user}");
    let body = format!("{{\"alias\":\"srv\",\"url\":\"server://{at}?mode=1&tls=0\"}}");
    let said = master.ask("POST /v1/instances", &body);
    assert_eq!(said.status, 201);
    let id = said.json()["id"].as_str().unwrap().to_owned();
    assert!(id.len() == 8 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    let url = format!("server://{at}?log=info&mode=1&tls=0");
    let config = format!(
        "server://{at}?block=0&dial=auto&dns=5m0s&lbs=0&log=info&max=1024&mode=1&notcp=0&noudp=0&proxy=0&rate=0&read=0s&slot=65536&tls=0&type=0"
    );
    let figures = "\"mode\":0,\"ping\":0,\"pool\":0";
    let urls = (url.as_str(), config.as_str());
    assert_eq!(
        said.body,
        instance(&id, "srv", "server", "stopped", urls, &format!("\"restart\":true,{META},{figures}"))
    );
    master.until_status(&id, "running");

    let one = format!("/v1/instances/{id}");
    let patched = |body: &str| {
        let said = master.ask(&format!("PATCH {one}"), body);
        assert_eq!(said.status, 200, "{}", said.body);
        said.json()
    };
    assert_eq!(patched("{\"alias\":\"renamed\"}")["alias"], "renamed");
    assert_eq!(patched("{\"alias\":\"\",\"action\":\"\"}")["alias"], "renamed");
    assert_eq!(patched("{\"restart\":false}")["restart"], false);
    let meta = patched(r#"{"meta":{"peer":{"sid":"s1","type":"tunnel","alias":"peer alias"}}}"#)["meta"].clone();
    assert_eq!(meta.to_string(), r#"{"peer":{"alias":"peer alias","sid":"s1","type":"tunnel"},"tags":{}}"#);
    let meta = patched(r#"{"meta":{"tags":{"env":"test","region":"eu"}}}"#)["meta"].clone();
    assert_eq!((&meta["peer"]["sid"], &meta["tags"]["region"]), (&"s1".into(), &"eu".into()));
    assert_eq!(patched(r#"{"meta":{"tags":{}}}"#)["meta"]["tags"], serde_json::json!({}));
    patched("{\"action\":\"reset\"}");

    patched("{\"action\":\"stop\"}");
    master.until_status(&id, "stopped");
    assert_eq!(patched("{\"action\":\"stop\"}")["status"], "stopped");
    patched("{\"action\":\"start\"}");
    master.until_status(&id, "running");

    let put = format!("{{\"url\":\"server://{at}?mode=1&tls=0&max=8\"}}");
    let said = master.ask(&format!("PUT {one}"), &put);
    assert_eq!((said.status, &said.json()["url"]), (200, &format!("server://{at}?log=info&max=8&mode=1&tls=0").into()));
    assert_eq!(master.told(&format!("PUT {one}"), &put), refused(409, "Instance URL conflict"));

    let said = master.ask(&format!("DELETE {one}"), "");
    assert_eq!((said.status, said.body.as_str(), said.header("content-type")), (204, "", None));
    assert_eq!(master.told(&format!("DELETE {one}"), ""), refused(404, "Instance not found"));
}

#[test]
fn a_client_is_completed_as_recorded() {
    let master = Master::start();
    let at = format!("127.0.0.1:{}/127.0.0.1:{}", free_port(), free_port());
    let said = master.ask("POST /v1/instances", &format!("{{\"url\":\"client://{at}?mode=2\"}}")).json();
    assert_eq!(said["url"], format!("client://{at}?log=info&mode=2"));
    let wanted = format!(
        "client://{at}?block=0&dial=auto&dns=5m0s&lbs=0&log=info&min=64&mode=2&notcp=0&noudp=0&proxy=0&rate=0&read=0s&slot=65536&sni=none"
    );
    assert_eq!(said["config"], wanted);
}

#[test]
fn the_masters_own_record_is_listed_and_its_restart_makes_a_new_key() {
    let mut master = Master::start();
    let record = |alias: &str, key: &str, id: &str| {
        instance(
            MASTER,
            alias,
            "",
            "",
            (key, id),
            &format!("\"restart\":false,{META},\"mode\":0,\"ping\":0,\"pool\":0"),
        )
    };
    let mid = master.ask("GET /v1/info", "").json()["mid"].as_str().unwrap().to_owned();
    assert!(mid.len() == 16 && mid.bytes().all(|byte| byte.is_ascii_hexdigit()), "{mid}");
    let own = record("", &master.key, &mid);
    assert_eq!(master.told("GET /v1/instances", ""), (200, format!("[{}]\n", own.trim_end())));
    master.ask("POST /v1/info", "{\"alias\":\"my-master\"}");
    let path = format!("/v1/instances/{MASTER}");
    assert_eq!(master.told(&format!("GET {path}"), ""), (200, record("my-master", &master.key, &mid)));
    let said = master.ask(&format!("PATCH {path}"), "{\"action\":\"restart\"}").json();
    let old = std::mem::replace(&mut master.key, said["url"].as_str().unwrap().to_owned());
    assert!(old != master.key && master.key.len() == 32);
    let said = master.ask_with("GET /v1/instances", "", &["-H", &format!("X-API-Key: {old}")]);
    assert_eq!((said.status, said.body), refused(401, "Unauthorized: Invalid API key"));
    assert_eq!(master.told(&format!("GET {path}"), ""), (200, record("my-master", &master.key, &mid)));
}

#[test]
fn scripts_may_write_requests_as_they_did() {
    let master = Master::at("/custom/");
    let key = master.key.clone();
    for name in ["x-api-key", "X-API-KEY", "X-Api-Key"] {
        let said = master.ask_with("GET /v1/info", "", &["-H", &format!("{name}: {key}")]);
        assert_eq!(said.status, 200, "{name}");
    }
    let key = format!("X-API-Key: {key}");
    // A bare `curl -d` says that it is a form; others say nothing, or something else.
    for kind in ["Content-Type: application/x-www-form-urlencoded", "Content-Type:", "Content-Type: text/plain"] {
        let said = master.ask_with("POST /v1/info", "{\"alias\":\"a\"}", &["-H", &key, "-H", kind]);
        assert_eq!((said.status, &said.json()["alias"]), (200, &"a".into()), "{kind}");
    }
    let said = master.ask("GET /v1/tcping?target=[::1]:1", "").json();
    assert_eq!((&said["target"], &said["connected"]), (&"[::1]:1".into(), &false.into()));
    let text = master.ask("GET /v1/instances", "").body;
    assert!(text.starts_with("[{\"id\":\"") && !text.contains(": ") && text.ends_with("]\n"), "{text}");
}

#[test]
fn tcping_answers_as_recorded() {
    let master = Master::start();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let ask = |target: &str| master.told(&format!("GET /v1/tcping?target={target}"), "");
    let (status, text) = ask(&at.to_string());
    assert_eq!(status, 200);
    let start = format!("{{\"target\":\"{at}\",\"connected\":true,\"latency\":");
    assert!(text.starts_with(&start) && text.ends_with(",\"error\":null}\n"), "{text}");
    let failed = |target: &str, why: &str| {
        (200, format!("{{\"target\":\"{target}\",\"connected\":false,\"latency\":0,\"error\":\"{why}\"}}\n"))
    };
    assert_eq!(ask("127.0.0.1:1"), failed("127.0.0.1:1", "dial tcp 127.0.0.1:1: connect: connection refused"));
    assert_eq!(ask("nonsense"), failed("nonsense", "dial tcp: address nonsense: missing port in address"));
}
