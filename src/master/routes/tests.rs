mod mcp;

use super::super::call::Answer as _;
use super::super::record::{Kind, Record};
use super::super::requests::{Action, Patch, SupervisorHandle};
use super::super::state::{Saving, Unsaved};
use super::*;
use crate::config::Command;
use serde_json::{json, Value};
use std::sync::mpsc::channel;
use std::thread;

const KEY: &str = "0123456789abcdef0123456789abcdef";
const ID: &str = "0a1b2c3d";
const URL: &str = "client://127.0.0.1:10101/127.0.0.1:80?mode=1";

/// An API before a supervisor with one instance, which does what it is asked and no more.
fn api(url: &str) -> Api<Mail> {
    let parsed = config::parse(&[url.to_owned()], &|_| None).unwrap();
    let Command::Run(config) = parsed.command else { panic!("{url}") };
    let (mailbox, mails) = channel::<Mail>();
    thread::spawn(move || {
        let mut records = vec![
            Record { id: KEY_ID.into(), url: KEY.into(), config: "0123456789abcdef".into(), ..Record::default() },
            Record { id: ID.into(), kind: Kind::Client, url: URL.into(), config: URL.into(), ..Record::default() },
        ];
        for Mail(Request { order, reply }) in mails {
            let _ = reply.send(obey(&mut records, order));
        }
    });
    Api::new(SupervisorHandle::new(mailbox), Saving::default(), &config)
}

struct Mail(Request);

impl From<Request> for Mail {
    fn from(request: Request) -> Mail {
        Mail(request)
    }
}

fn obey(records: &mut Vec<Record>, order: Order) -> Result<Answer, Refusal> {
    let find = |records: &mut Vec<Record>, id: &str| {
        records.iter().position(|record| record.id == id).ok_or_else(|| Refusal::new(404, "Instance not found"))
    };
    let one = |record: &Record| Ok(Answer::One(Box::new(record.clone())));
    match order {
        Order::Admit(Some(key)) if key == KEY => Ok(Answer::Done),
        Order::Admit(key) => Err(Refusal::new(401, if key.is_some() { "wrong" } else { "none" })),
        Order::List => Ok(Answer::Many(records.clone())),
        Order::Figures => Ok(Answer::Samples(Vec::new())),
        Order::Bans | Order::Lift(_) => Ok(Answer::Bans(Vec::new())),
        Order::Get(id) => find(records, &id).and_then(|at| one(&records[at])),
        Order::Create { url, alias } => {
            records.push(Record { id: "ffffffff".into(), url, alias, ..Record::default() });
            one(&records[records.len() - 1])
        }
        Order::Patch(id, Patch { alias, action, .. }) => {
            let at = find(records, &id)?;
            records[at].alias = alias.unwrap_or_default();
            records[at].figures.pool = i32::from(action == Some(Action::Stop));
            one(&records[at])
        }
        Order::Replace(id, url) => {
            let at = find(records, &id)?;
            records[at].url = url;
            one(&records[at])
        }
        Order::Delete(id) => find(records, &id).map(|at| drop(records.remove(at))).map(|()| Answer::Done),
        Order::Logs(id) => find(records, &id).map(|_| Answer::Lines(vec!["a <b>".into()])),
        Order::Import(new) => {
            records.extend(new.clone());
            Ok(Answer::Many(new))
        }
        Order::Name(alias) => {
            records[0].alias = alias;
            one(&records[0])
        }
        Order::Listen => Ok(Answer::Events(std::sync::mpsc::sync_channel(1).1)),
    }
}

/// Status, headers and text of an answer.
struct Said {
    status: u16,
    headers: Vec<(&'static str, String)>,
    text: String,
    /// What the front alone is told of the key.
    verdict: Option<String>,
}

impl Said {
    fn new(status: u16, headers: Vec<(&'static str, String)>, body: Vec<u8>) -> Said {
        let (own, headers): (Vec<_>, Vec<_>) = headers.into_iter().partition(|(name, _)| *name == VERDICT);
        let verdict = own.into_iter().next().map(|(_, value)| value);
        Said { status, headers, text: String::from_utf8(body).unwrap(), verdict }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }
}

fn ask_as(api: &Api<Mail>, key: Option<&str>, request: &str, body: &str) -> Said {
    let (method, target) = request.split_once(' ').unwrap();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let headers = key.map(|key| ("x-api-key".to_string(), key.to_string())).into_iter().collect();
    let (method, path, query) = (method.into(), path.into(), query.into());
    match api.answer(Call { method, path, query, headers, body: body.into() }) {
        Reply::Whole { status, headers, body } => Said::new(status, headers, body),
        Reply::Stream { headers, .. } => Said::new(200, headers, Vec::new()),
    }
}

#[test]
fn the_front_is_told_whether_a_key_was_right_wherever_one_is_needed() {
    let api = api("master://127.0.0.1:9090");
    let verdict = |key: Option<&str>, request: &str| ask_as(&api, key, request, "").verdict;
    for request in ["GET /api/v1/instances", "DELETE /api/v1/info", "GET /api/v1/instances/ffffffff", "POST /api/v2"] {
        assert_eq!(verdict(Some(KEY), request).as_deref(), Some(RIGHT), "{request}");
        assert_eq!(verdict(Some("x"), request).as_deref(), Some(WRONG), "{request}");
        assert_eq!((verdict(None, request), verdict(Some(""), request)), (None, None), "{request}");
    }
    for request in ["GET /api/v1/docs", "OPTIONS /api/v1/info", "GET /api/v1/nope", "GET /api/v1/openapi.json"] {
        assert_eq!(verdict(Some("x"), request), None, "{request}: it asks for no key, so none is right");
    }
}

fn ask(api: &Api<Mail>, request: &str, body: &str) -> Said {
    ask_as(api, Some(KEY), request, body)
}

fn told(api: &Api<Mail>, request: &str, body: &str) -> (u16, String) {
    let said = ask(api, request, body);
    (said.status, said.text)
}

fn refused(status: u16, text: &str) -> (u16, String) {
    (status, format!("{{\"error\":\"{text}\",\"message\":\"{text}\"}}\n"))
}

#[test]
fn an_unknown_path_comes_before_the_key_the_key_before_the_method() {
    let api = api("master://127.0.0.1:9090");
    let page: &[&str] = if cfg!(feature = "page") { &[] } else { &["/", "/api/"] };
    for path in page.iter().copied().chain([
        "/api",
        "/api/v1",
        "/api/v1/",
        "/api/v1/nope",
        "/api/v1/info/",
        "/v1/info",
        "/api/v1/instancesx",
    ]) {
        let said = ask_as(&api, None, &format!("GET {path}"), "");
        assert_eq!((said.status, said.text.as_str()), (404, "404 page not found\n"), "{path}");
        assert_eq!(said.headers[0], ("Content-Type", "text/plain; charset=utf-8".into()));
    }
    for request in [
        "GET /api/v1/instances",
        "DELETE /api/v1/instances",
        "GET /api/v1/instances/",
        "POST /api/v1/export",
        "GET /api/v2",
    ] {
        assert_eq!(ask_as(&api, None, request, "").text, "{\"error\":\"none\",\"message\":\"none\"}\n", "{request}");
        assert_eq!(
            ask_as(&api, Some(""), request, "").text,
            "{\"error\":\"none\",\"message\":\"none\"}\n",
            "{request}"
        );
        assert_eq!(
            ask_as(&api, Some("x"), request, "").text,
            "{\"error\":\"wrong\",\"message\":\"wrong\"}\n",
            "{request}"
        );
    }
    let said = ask_as(&api, None, "OPTIONS /api/v1/instances", "");
    assert_eq!((said.status, said.text.as_str(), said.headers.len()), (200, "", 0));
}

#[test]
fn a_method_that_is_not_there_is_told_with_those_that_are() {
    let api = api("master://127.0.0.1:9090");
    let wrong = [
        ("HEAD /api/v1/instances", "GET, POST, OPTIONS"),
        ("PUT /api/v1/info", "GET, POST, OPTIONS"),
        ("POST /api/v1/instances/0a1b2c3d", "GET, PATCH, PUT, DELETE, OPTIONS"),
        ("get /api/v1/tcping", "GET, OPTIONS"),
        ("POST /api/v1/events", "GET, OPTIONS"),
        ("POST /api/v1/docs", "GET, OPTIONS"),
        ("GET /api/v1/import", "POST, OPTIONS"),
        ("GET /api/v2", "POST, OPTIONS"),
        ("DELETE /api/v1/instances/0a1b2c3d/logs", "GET, OPTIONS"),
        ("POST /api/v1/bans", "GET, DELETE, OPTIONS"),
        ("POST /api/v1/instances/0a1b2c3d/check", "GET, OPTIONS"),
    ];
    for (request, allowed) in wrong {
        let said = ask(&api, request, "");
        assert_eq!((said.status, said.text), refused(405, "Method not allowed"), "{request}");
        assert!(said.headers.contains(&("Allow", allowed.into())), "{request}: {:?}", said.headers);
    }
}

#[test]
fn an_instance_is_looked_for_before_its_body_is_read() {
    let api = api("master://127.0.0.1:9090");
    for method in ["PATCH", "PUT", "DELETE", "GET"] {
        let path = "/api/v1/instances";
        assert_eq!(told(&api, &format!("{method} {path}/ffffffff"), "{bad"), refused(404, "Instance not found"));
        assert_eq!(told(&api, &format!("{method} {path}/"), "{bad"), refused(400, "Instance ID is required"));
        assert_eq!(told(&api, &format!("{method} {path}/a/b"), "{bad"), refused(404, "Instance not found"));
    }
    for method in ["PUT", "DELETE"] {
        let request = format!("{method} /api/v1/instances/{KEY_ID}");
        assert_eq!(told(&api, &request, "{bad"), refused(403, "Forbidden: API Key"));
    }
    assert_eq!(ask(&api, &format!("GET /api/v1/instances/{KEY_ID}"), "").json()["url"], KEY);
}

#[test]
fn bodies_of_the_wrong_form_are_refused_in_one_way() {
    let api = api("master://127.0.0.1:9090");
    let instance = format!("/api/v1/instances/{ID}");
    for body in ["", "{bad", "null", "[]", "\"x\"", "{\"url\":5}", "{\"alias\":5}", "{\"alias\":[\"x\"]}"] {
        let bad = refused(400, "Invalid request body");
        assert_eq!(told(&api, "POST /api/v1/instances", body), bad, "{body}");
        assert_eq!(told(&api, &format!("PUT {instance}"), body), bad, "{body}");
        assert_eq!(told(&api, "POST /api/v1/info", body), bad, "{body}");
        assert_eq!(body == "[]", told(&api, "POST /api/v1/import", body) != bad, "{body}");
        if body != "{\"url\":5}" {
            assert_eq!(told(&api, &format!("PATCH {instance}"), body), bad, "{body}");
        }
    }
    for body in
        ["{\"meta\":[]}", "{\"meta\":{\"tags\":{\"k\":5}}}", "{\"restart\":\"yes\"}", "{\"meta\":{\"peer\":[]}}"]
    {
        assert_eq!(told(&api, &format!("PATCH {instance}"), body), refused(400, "Invalid request body"), "{body}");
    }
    assert_eq!(told(&api, "POST /api/v1/instances", "{\"alias\":\"x\"}"), refused(400, "Invalid request body"));
}

#[test]
fn instances_are_made_changed_and_deleted() {
    let api = api("master://127.0.0.1:9090");
    let said = ask(&api, "POST /api/v1/instances", r#"{"url":"client://a:1/b:2?x=1&y=2","alias":"n","more":{}}"#);
    assert_eq!(said.status, 201);
    let start =
        r#"{"id":"ffffffff","alias":"n","type":"","status":"","url":"client://a:1/b:2?x=1\u0026y=2","config":"""#;
    assert!(said.text.starts_with(&start[..start.len() - 1]) && said.text.ends_with("}\n"), "{}", said.text);
    assert_eq!(said.headers, [("Content-Type", "application/json".to_string())]);
    let instance = "/api/v1/instances/ffffffff";
    assert_eq!(ask(&api, &format!("PATCH {instance}"), r#"{"action":"stop"}"#).json()["pool"], 1);
    assert_eq!(told(&api, &format!("PATCH {instance}"), r#"{"action":"x"}"#), refused(400, "Invalid action: x"));
    assert_eq!(
        ask(&api, &format!("PUT {instance}"), r#"{"url":"client://c:1/d:2"}"#).json()["url"],
        "client://c:1/d:2"
    );
    let long = format!(r#"{{"url":"client://{}"}}"#, "a".repeat(8192));
    let told_long = told(&api, &format!("PUT {instance}"), &long);
    assert_eq!(told_long, refused(400, "Instance URL exceeds maximum length 8192"));
    assert_eq!(told(&api, &format!("GET {instance}/logs"), ""), (200, "[\"a \\u003cb\\u003e\"]\n".into()));
    let said = ask(&api, &format!("DELETE {instance}"), "");
    assert_eq!((said.status, said.text.as_str(), said.headers.len()), (204, "", 0));
    assert_eq!(told(&api, &format!("DELETE {instance}"), ""), refused(404, "Instance not found"));
    assert_eq!(ask(&api, "GET /api/v1/instances", "").json().as_array().unwrap().len(), 2);
}

#[test]
fn info_shows_the_master_with_its_names_in_order() {
    let api = api("master://0.0.0.0:9090/x/y/?log=debug&tls=2&crt=/c.pem&key=/k.pem");
    let said = ask(&api, "POST /x/y/v1/info", r#"{"alias":"my <master>"}"#);
    assert_eq!(said.status, 200);
    let names: Vec<&str> = said.text.trim().split(",\"").filter_map(|part| part.split("\":").next()).collect();
    let wanted = "alias arch cpu crt diskr diskw key log mem_total mem_used mid name netrx nettx noc os swap_total \
        swap_used sysup tls uptime ver";
    assert_eq!(names.join(" ").replace("{\"", ""), wanted);
    let info = said.json();
    assert_eq!(info["alias"], "my <master>");
    assert_eq!((&info["name"], &info["tls"]), (&json!("0.0.0.0"), &json!("2")));
    // The level in force, which may be another than that of the URL.
    assert_eq!(info["log"], crate::log::level().name());
    assert_eq!((&info["crt"], &info["key"]), (&json!("/c.pem"), &json!("/k.pem")));
    assert_eq!(info["mid"], "0123456789abcdef");
    assert_eq!(info["ver"], format!("v{}", env!("CARGO_PKG_VERSION")));
    let long = format!(r#"{{"alias":"{}"}}"#, "a".repeat(257));
    assert_eq!(told(&api, "POST /x/y/v1/info", &long), refused(400, "Master alias exceeds maximum length 256"));
    assert_eq!(ask(&api, "POST /x/y/v1/info", r#"{"alias":""}"#).json()["alias"], "");
}

#[test]
fn a_target_is_read_from_the_query_with_or_without_escapes() {
    for (query, wanted) in [
        ("target=[::1]:80", Some("[::1]:80")),
        ("target=%5B%3A%3A1%5D%3A80&x=1", Some("[::1]:80")),
        ("x=1&target=a:1&target=b:2", Some("a:1")),
        ("", None),
        ("target=", None),
        ("target", None),
        ("Target=a:1", None),
        ("target=%zz", None),
        ("target=%ff", None),
    ] {
        assert_eq!(target(query).as_deref(), wanted, "{query}");
    }
    let api = api("master://127.0.0.1:9090");
    assert_eq!(told(&api, "GET /api/v1/tcping", ""), refused(400, "Target address required"));
    let (status, text) = told(&api, "GET /api/v1/tcping?target=nonsense", "");
    let error = "dial tcp: address nonsense: missing port in address";
    let wanted = format!("{{\"target\":\"nonsense\",\"connected\":false,\"latency\":0,\"error\":\"{error}\"}}\n");
    assert_eq!((status, text), (200, wanted));
}

#[test]
fn description_and_page_need_no_key_and_describe_what_is_there() {
    let api = api("master://127.0.0.1:9090/p");
    let said = ask_as(&api, None, "GET /p/v1/openapi.json", "");
    let document = said.json();
    assert_eq!(document["servers"][0]["url"], "/p");
    for (path, item) in document["paths"].as_object().unwrap() {
        let path = format!("/p{}", path.replace("{id}", ID));
        let route = Route::of("/p", &path).unwrap();
        let methods: Vec<String> =
            item.as_object().unwrap().keys().filter(|key| *key != "parameters").map(|key| key.to_uppercase()).collect();
        let mut known: Vec<&str> = route.methods().to_vec();
        known.sort_unstable();
        assert_eq!(methods, known, "{path}");
        let open = item.get("get").and_then(|get| get.get("security")).is_some_and(|security| *security == json!([]));
        assert_eq!(open, route.is_open(), "{path}");
    }
    let page = ask_as(&api, None, "GET /p/v1/docs", "");
    assert!(page.text.starts_with("<!doctype html>") && page.status == 200);
}

#[test]
fn an_export_can_be_imported_where_its_ids_are_not_known() {
    let (here, there) = (api("master://127.0.0.1:9090"), api("master://127.0.0.1:9091"));
    let text = ask(&here, "GET /api/v1/export", "").text;
    let peer = r#""meta":{"peer":{"sid":"","type":"","alias":""},"tags":{}}"#;
    assert_eq!(
        text,
        format!("{{\"instances\":[{{\"id\":\"{ID}\",\"alias\":\"\",\"url\":\"{URL}\",\"restart\":false,{peer}}}]}}\n")
    );
    let answer = ask(&there, "POST /api/v1/import", &text).json();
    assert_eq!(
        answer,
        json!({"imported": [], "skipped": [{"index": 0, "id": ID, "reason": "Instance exists already"}]})
    );
    let answer = ask(&there, "POST /api/v1/import", &text.replace(ID, "00000001")).json();
    assert_eq!((&answer["imported"][0]["id"], &answer["imported"][0]["restart"]), (&json!("00000001"), &json!(false)));
    assert_eq!(answer["skipped"], json!([]));
}

#[test]
fn each_entry_that_is_left_out_is_told_with_its_reason() {
    let api = api("master://127.0.0.1:9090");
    let list = json!([
        { "id": KEY_ID, "url": KEY },
        { "id": "ABCDEF01", "url": URL },
        { "id": "1", "url": URL },
        { "id": "00000002", "url": URL, "alias": "a".repeat(257) },
        { "id": "00000002", "url": URL, "alias": "two" },
        { "id": "00000002", "url": URL },
        { "url": URL, "restart": false },
        { "url": "master://127.0.0.1:1" },
        { "url": "client://127.0.0.1:1" },
    ]);
    let answer = ask(&api, "POST /api/v1/import", &list.to_string()).json();
    let imported = answer["imported"].as_array().unwrap();
    assert_eq!((imported.len(), &imported[0]["alias"], &imported[0]["restart"]), (2, &json!("two"), &json!(true)));
    assert_eq!(imported[1]["id"].as_str().unwrap().len(), 8);
    let reasons: Vec<(u64, &str)> = answer["skipped"]
        .as_array()
        .unwrap()
        .iter()
        .map(|skipped| (skipped["index"].as_u64().unwrap(), skipped["reason"].as_str().unwrap()))
        .collect();
    let wanted = [
        (0, "Forbidden: API Key"),
        (1, "Invalid instance ID"),
        (2, "Invalid instance ID"),
        (3, "Instance alias exceeds maximum length 256"),
        (5, "Instance exists already"),
        (7, "Invalid URL scheme"),
        (8, "no target: expected one or more after the tunnel address, as in /host:port"),
    ];
    assert_eq!(reasons, wanted);
    for spoilt in [json!([{ "url": 5 }]), json!([{}]), json!([5]), json!({}), json!({ "instances": {} })] {
        let bad = refused(400, "Invalid request body");
        assert_eq!(told(&api, "POST /api/v1/import", &spoilt.to_string()), bad, "{spoilt}");
    }
}

#[test]
fn events_are_a_stream_of_their_own_type() {
    let said = ask(&api("master://127.0.0.1:9090"), "GET /api/v1/events", "");
    let wanted = [("Content-Type", "text/event-stream".to_string()), ("Cache-Control", "no-cache".to_string())];
    assert_eq!((said.status, said.headers), (200, wanted.to_vec()));
}

#[test]
fn while_the_disk_takes_nothing_each_answer_says_so_and_so_do_the_records_concerned() {
    let api = api("master://127.0.0.1:1");
    let ask = |method: &str, path: &str| {
        let headers = vec![("x-api-key".into(), KEY.into())];
        match api.answer(Call { method: method.into(), path: format!("/api/v1{path}"), headers, ..Call::default() }) {
            Reply::Whole { headers, body, .. } => {
                let why = headers.into_iter().find(|(name, _)| *name == "X-NodePass-Unsaved").map(|(_, why)| why);
                (why, serde_json::from_slice::<Value>(&body).unwrap_or_default())
            }
            Reply::Stream { .. } => panic!("a stream"),
        }
    };
    assert_eq!(ask("GET", "/instances").0, None);
    api.saving.attempted(1, Some(Unsaved { why: "full".into(), ids: [ID.to_owned()].into() }));
    let (why, list) = ask("GET", "/instances");
    assert_eq!(why.as_deref(), Some("full"));
    assert_eq!((list[0].get("unsaved"), &list[1]["unsaved"]), (None, &json!("full")));
    assert_eq!(ask("GET", "/nothing").0, None, "an unknown path is none of the API's");
    assert_eq!(ask("GET", "/instances/none").0.as_deref(), Some("full"), "a refusal, too");
    api.saving.attempted(2, None);
    assert_eq!(
        ask("GET", "/instances"),
        (
            None,
            json!(list
                .as_array()
                .unwrap()
                .iter()
                .map(|record| {
                    let mut record = record.clone();
                    record.as_object_mut().unwrap().remove("unsaved");
                    record
                })
                .collect::<Vec<_>>())
        )
    );
}

#[test]
fn bans_are_listed_and_lifted_by_what_selects_them() {
    let api = api("master://127.0.0.1:9090");
    let none = (200, "{\"bans\":[]}\n".to_owned());
    assert_eq!(told(&api, "GET /api/v1/bans", ""), none);
    assert_eq!(told(&api, "DELETE /api/v1/bans?source=192.0.2.1&instance=0a1b2c3d", ""), none);
    assert_eq!(told(&api, "DELETE /api/v1/bans", ""), refused(400, "Source or instance required"));
}
