//! LuCI's page in a browser: Chromium runs it on a stand-in for LuCI (cross/luci-app-nodepass/tests/luci.js), fills in its
//! dialogs, and what is saved goes through the init script.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use nodepass::config;
use serde_json::{json, Value};

use crate::support::*;

/// A file of the project.
fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// What is done on the page, and what it finds.
struct Visit {
    config: Value,
    steps: Value,
    clicks: Value,
    events: Value,
    log: Value,
    words: Value,
}

impl Visit {
    fn of(config: &Value, steps: &Value) -> Visit {
        let (clicks, events, log, words) = (json!([]), json!({}), json!([]), json!({}));
        Visit { config: config.clone(), steps: steps.clone(), clicks, events, log, words }
    }
}

/// What visit.js writes down after these steps; `None` without a browser. With NODEPASS_PAGE the page is
/// left there, to be looked at.
fn visit(config: &Value, steps: &Value) -> Option<Value> {
    visited(&Visit::of(config, steps))
}

fn visited(visit: &Visit) -> Option<Value> {
    let chromium = program("chromium")?;
    let resources = "cross/luci-app-nodepass/htdocs/luci-static/resources";
    let modules =
        ["view.nodepass.sections", "view.nodepass.log", "nodepass.tables", "nodepass.values", "nodepass.words"];
    let sources: serde_json::Map<String, Value> = modules
        .into_iter()
        .chain(["nodepass.service"])
        .map(|name| (name.into(), read(&format!("{resources}/{}.js", name.replace('.', "/"))).into()))
        .collect();
    let instances = json!({ "web": { "running": true }, "raw": { "running": false, "exit_code": 1 } });
    let replies =
        json!({ "service": { "list": { "nodepass": { "instances": instances } } }, "users": ["root", "nobody"] });
    let mut page = String::from(STYLE);
    for (name, value) in [
        ("SOURCES", &sources.into()),
        ("REPLIES", &replies),
        ("CONFIG", &visit.config),
        ("STEPS", &visit.steps),
        ("CLICKS", &visit.clicks),
        ("EVENTS", &visit.events),
        ("LOG", &visit.log),
        ("WORDS", &visit.words),
        ("SAMPLES", &json!(samples())),
    ] {
        page.push_str(&format!("<script>var {name} = {};</script>\n", value.to_string().replace("</", "<\\/")));
    }
    for script in ["luci.js", "visit.js"] {
        page.push_str(&format!("<script>{}</script>\n", read(&format!("cross/luci-app-nodepass/tests/{script}"))));
    }
    let folder = Folder::new();
    let file = folder.write("page.html", page);
    let run = |wanted: &str| {
        let mut command = Command::new("timeout");
        command.args(["--signal=KILL", "120"]).arg(&chromium);
        command.args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
        ]);
        command.args([
            "--disable-component-update",
            "--disable-sync",
            "--virtual-time-budget=10000",
            "--window-size=1100,2400",
        ]);
        command.arg(format!("--user-data-dir={}", folder.file("profile").display())).arg(wanted).arg(&file);
        output(command)
    };
    if let Ok(place) = std::env::var("NODEPASS_PAGE") {
        fs::copy(&file, place).unwrap();
    }
    let (_, said, errors) = run("--dump-dom");
    let (_, rest) = said.split_once("<pre id=\"result\" hidden=\"\">").unwrap_or_else(|| panic!("no result: {errors}"));
    let result: Value = serde_json::from_str(rest.split("</pre>").next().unwrap()).unwrap();
    assert_eq!(result["error"], Value::Null, "{}", result["error"].as_str().unwrap_or_default());
    Some(result)
}

fn words(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect()
}

/// All options that the init script asks for.
fn options_of_the_service() -> BTreeSet<String> {
    let script = read("cross/openwrt/nodepass/files/nodepass.init");
    let mut found = BTreeSet::new();
    for line in script.lines() {
        let mut parts = line.split_whitespace().skip_while(|word| !word.starts_with("config_"));
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some("config_get" | "config_get_bool"), _, Some("\"$1\""), Some(name)) => found.insert(name),
            (Some("config_list_foreach"), Some("\"$1\""), Some(name), _) => found.insert(name),
            _ => continue,
        };
    }
    assert!(found.remove("\"$name\""), "the tables are asked for by name");
    // What the script notes itself, and a variable, which is of the tables below.
    found.retain(|name| *name != "unknown_options" && *name != "NP_CHECK_POINT");
    let mut found: BTreeSet<String> = found.into_iter().map(String::from).collect();
    for list in ["PARAMETERS", "VARIABLES"] {
        let (_, rest) = script.split_once(&format!("\n{list}=\"")).unwrap();
        found.extend(rest.split('"').next().unwrap().split_whitespace().map(String::from));
    }
    found
}

#[test]
fn the_web_page_has_every_option_of_the_service_where_it_belongs() {
    let config = json!({
        "web": { ".type": "instance", "role": "client", "password": "k", "tunnel": "h:1", "target": ["t:2", "t:3"] },
        "raw": { ".type": "instance", "enabled": "0", "url": "server://k@:1/:2?tls=1&x%20y=%3Cb%3E" },
        "api": { ".type": "master", "tunnel": ":9090", "tls": "1" },
    });
    let Some(result) = visit(
        &config,
        &json!([
            { "type": "instance", "id": "raw", "set": {} },
            { "type": "instance", "id": "web", "set": {} },
            { "type": "instance", "id": "server", "set": { "role": "server" } },
            { "type": "master", "id": "api", "set": {} },
        ]),
    ) else {
        return;
    };
    let (instance, master) = (words(&result["options"]["instance"]), words(&result["options"]["master"]));
    let both: BTreeSet<String> = instance.iter().chain(&master).map(|name| name.to_string()).collect();
    assert_eq!(both, options_of_the_service());
    for (name, tunnel, api) in
        [("target", true, false), ("role", true, false), ("prefix", false, true), ("rate", true, false)]
    {
        assert_eq!((instance.contains(&name), master.contains(&name)), (tunnel, api), "{name}");
    }

    // The table: what is there, what runs, what a URL says, and no key.
    let table = result["table"].as_str().unwrap();
    assert!(table.contains("web\trunning") && table.contains("raw\tended with status 1"), "{table}");
    assert!(table.contains("\tClient\th:1\tt:2 t:3\t") && table.contains("\tServer\t:1\t:2\t"), "{table}");
    assert!(!table.contains("://") && !table.contains("k@"), "{table}");

    // A URL stands for the parts; a role has its own parameters.
    let shown = |step: usize| words(&result["steps"][step]["shown"]);
    for name in ["role", "password", "tunnel", "target", "log", "min", "type"] {
        assert!(!shown(0).contains(&name), "{name} beside a URL");
    }
    assert!(shown(0).contains(&"url") && shown(0).contains(&"_told") && shown(0).contains(&"NP_WORKERS"));
    assert!(!shown(1).contains(&"_told"));
    let told = result["steps"][0]["told"].as_str().unwrap();
    for line in [
        "Role: Server",
        "Address: :1",
        "Targets: :2",
        "tls: TLS, with a certificate made by itself",
        "x y: <b> (unknown)",
    ] {
        assert!(told.lines().any(|each| each.ends_with(line)), "no {line} in {told}");
    }
    assert!(!told.contains("k@"), "{told}");

    // Digits have words.
    assert_eq!((words(&result["unworded"]), words(&result["untaken"])), (vec![], vec![]));
    let choices = words(&result["steps"][2]["words"]["type"]);
    assert_eq!(choices, ["default: TCP", "TCP (0)", "QUIC (1)", "WebSocket (2)", "HTTP/2 (3)"]);
    assert_eq!(words(&result["steps"][2]["words"]["user"]), ["", "root", "nobody"]);
    assert!(shown(1).contains(&"min") && shown(1).contains(&"sni") && !shown(1).contains(&"type"));
    assert!(shown(2).contains(&"type") && shown(2).contains(&"max") && !shown(2).contains(&"min"));
    assert!(shown(3).contains(&"crt") && shown(3).contains(&"NP_STATE_DIR"));
    assert_eq!(words(&result["steps"][1]["secret"]), ["password", "url"]);
    assert_eq!(words(&result["steps"][3]["secret"]), ["url"]);

    // What is not set is what the init script does then.
    let presets = &result["steps"][3]["presets"];
    assert_eq!(presets["NP_STATE_DIR"], "/etc/nodepass");
    let script = read("cross/openwrt/nodepass/files/nodepass.init");
    assert!(script.contains("\nSTATE=/etc/nodepass\n"));
    for (name, value) in [("NP_LOG_FORMAT", "syslog"), ("NP_CHECK_POINT", "0")] {
        assert_eq!(presets[name], value);
        assert!(script.contains(&format!("\"$1\" {name} {value}\n")), "{name} in the service");
    }
    assert_eq!(presets["NP_SHUTDOWN_TIMEOUT"], "5s");

    // A section that says too little is not saved; the others are as they were.
    assert_eq!(result["steps"][2]["faults"], json!({ "tunnel": "must not be empty", "target": "must not be empty" }));
    for name in ["web", "raw", "api"] {
        assert_eq!(result["config"][name], config[name]);
    }
}

#[test]
fn the_web_page_starts_and_stops_sections_and_shows_what_becomes_of_them() {
    let config = json!({
        "web": { ".type": "instance", "role": "client", "tunnel": "h:1", "target": ["t:2"] },
        "raw": { ".type": "instance", "url": "server://k@:1/:2" },
        "off": { ".type": "instance", "enabled": "0", "url": "server://k@:1/:2" },
        "api": { ".type": "master", "tunnel": ":9090" },
    });
    let clicks = json!([["stop", "web"], ["start", "web"], ["restart", "web"], ["stop", "raw"]]);
    let events = json!({ "api": { "running": true }, "web": { "running": false, "exit_code": 9 } });
    let Some(result) = visited(&Visit { clicks, events, ..Visit::of(&config, &json!([])) }) else { return };
    let web = |at: usize| result["states"][at]["web"].as_str().unwrap();
    assert_eq!(
        result["states"][0],
        json!({
            "web": "running restart stop", "raw": "ended with status 1 start stop", "off": "disabled", "api": "stopped start",
        })
    );
    assert_eq!([web(1), web(2), web(3)], ["stopped start", "running restart stop", "running restart stop"]);
    // A start counts failures anew. What cannot be done is told, as text.
    let asked: Vec<_> = ["stop web", "restart web", "restart web", "stop raw"]
        .map(|what| format!("/etc/init.d/nodepass {what}"))
        .into();
    assert_eq!(words(&result["asked"]), asked);
    assert_eq!(words(&result["notices"]), ["raw: no <b>such</b> thing"]);
    // The page looks again by itself.
    assert_eq!(result["states"][5]["api"], "running restart stop");
    assert_eq!(web(5), "ended with status 9 start stop");
}

#[test]
fn the_web_page_shows_the_log_of_the_service_by_level() {
    let entry = |msg: &str, priority: u8| json!({ "msg": msg, "priority": priority, "time": 0 });
    let log = json!([
        entry("nodepass[7]: Tunnel is up", 30),
        entry("kernel: nodepass", 27),
        entry("nodepass[7]: <b>bad</b>", 28),
        entry("nodepass: section x is not started", 27),
        entry("nodepassd[1]: another", 27),
    ]);
    let Some(result) = visited(&Visit { log, ..Visit::of(&json!({}), &json!([])) }) else { return };
    let shown = |at: usize| -> Vec<String> {
        let text = result["log"][at].as_str().unwrap();
        text.lines().map(|line| line.split_once("  ").expect("a time first").1.to_string()).collect()
    };
    let (bad, not_started) = ("warning  nodepass[7]: <b>bad</b>", "error  nodepass: section x is not started");
    assert_eq!(shown(0), ["info  nodepass[7]: Tunnel is up", bad, not_started]);
    assert_eq!(shown(1), [bad, not_started]);
    assert_eq!(shown(2), [bad, not_started, "error  nodepass[7]: late"]);
}

#[test]
fn the_web_page_is_in_chinese_with_all_it_says() {
    let Some(python) = program("python3") else { return };
    let app = concat!(env!("CARGO_MANIFEST_DIR"), "/cross/luci-app-nodepass");
    let mut command = Command::new(&python);
    command.args([&format!("{app}/po.py"), "--check"]);
    let (status, said, errors) = output(command);
    assert_eq!(status, 0, "{said}{errors}");

    // The file that LuCI reads: where the index begins, its rows sorted by hash, and each text whole.
    let folder = Folder::new();
    let mut command = Command::new(python);
    command
        .args([&format!("{app}/po.py"), "--lmo", &format!("{app}/po/zh_Hans/nodepass.po")])
        .arg(folder.file("zh.lmo"));
    let (status, said, errors) = output(command);
    assert_eq!(status, 0, "{said}{errors}");
    let bytes = fs::read(folder.file("zh.lmo")).unwrap();
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    let index = number(bytes.len() - 4) as usize;
    let rows: Vec<_> =
        (index..bytes.len() - 4).step_by(16).map(|at| [0, 4, 8, 12].map(|each| number(at + each))).collect();
    assert!(rows.len() > 100 && rows.is_sorted());
    let text = |row: &[u32; 4]| std::str::from_utf8(&bytes[row[2] as usize..][..row[3] as usize]).unwrap();
    assert!(rows.iter().any(|row| text(row) == "运行中"));
    // As po2lmo of LuCI has it for "running".
    assert_eq!(rows.iter().find(|row| text(row) == "运行中").unwrap()[0], RUNNING);

    let words = json!({ "running": "运行中", "Servers and clients": "服务端和客户端" });
    let config = json!({ "web": { ".type": "instance", "role": "client", "tunnel": "h:1", "target": ["t:2"] } });
    let Some(result) = visited(&Visit { words, ..Visit::of(&config, &json!([])) }) else { return };
    let table = result["table"].as_str().unwrap();
    assert!(table.contains("web\t运行中") && table.contains("服务端和客户端"), "{table}");
}

#[test]
fn the_menu_leads_to_the_pages_and_their_rights_are_what_they_ask_for() {
    let parsed = |path: &str| {
        serde_json::from_str::<Value>(&read(&format!("cross/luci-app-nodepass/root/usr/share/{path}"))).unwrap()
    };
    let menu = parsed("luci/menu.d/luci-app-nodepass.json");
    let entry = &menu["admin/services/nodepass"];
    assert_eq!(entry["action"], json!({ "type": "firstchild" }));
    assert_eq!(entry["depends"], json!({ "acl": ["luci-app-nodepass"], "uci": { "nodepass": true } }));
    for view in ["sections", "log"] {
        let action = &menu[format!("admin/services/nodepass/{view}")]["action"];
        assert_eq!(*action, json!({ "type": "view", "path": format!("nodepass/{view}") }));
    }
    let rights = parsed("rpcd/acl.d/luci-app-nodepass.json");
    let (read, write) = (&rights["luci-app-nodepass"]["read"], &rights["luci-app-nodepass"]["write"]);
    assert_eq!(read["ubus"], json!({ "log": ["read"], "service": ["list"] }));
    assert_eq!(read["file"], json!({ "/etc/passwd": ["read"] }));
    assert_eq!(*write, json!({ "uci": ["nodepass"], "file": { "/etc/init.d/nodepass": ["exec"] } }));
}

#[test]
fn what_the_web_page_saves_is_what_the_service_starts() {
    let Some(busybox) = program("busybox") else { return };
    let folder = Folder::new();
    let state = folder.file("state").display().to_string();
    let steps = json!([
        { "type": "instance", "id": "web", "set": {
            "role": "client", "password": " a%'\"ü@/ b", "tunnel": "[2001:db8::1]:10101", "target": ["10.0.0.1:80", "[::1]:81"],
            "tls": "1", "sni": "www.example.com", "min": "8", "read": "1h30m", "NP_WORKERS": "2", "env": ["A=b c", "D="],
            "nofile": "512", "interface": ["lan"], "jail": "0" } },
        { "type": "instance", "id": "was", "set": { "url": "server://k%2F@:1/:2?mode=1" } },
        { "type": "instance", "id": "off", "set": { "enabled": "0", "role": "server", "tunnel": ":1", "target": [":2"] } },
        { "type": "master", "id": "api", "set": { "tunnel": ":9090", "prefix": "/p", "NP_STATE_DIR": state } },
        { "type": "instance", "id": "bad", "set": {
            "role": "client", "tunnel": "h", "target": ["h:0"], "min": "0", "dns": "5 minutes", "dial": "here",
            "NP_WORKERS": "65", "env": ["=x"], "nofile": "many" } },
    ]);
    let before =
        json!({ "was": { ".type": "instance", "role": "server", "tunnel": ":1", "target": ["h:2"], "rate": "5" } });
    let Some(result) = visit(&before, &steps) else { return };
    for step in 0..4 {
        assert_eq!(result["steps"][step]["faults"], json!({}), "step {step}");
    }
    let refused: Vec<_> = result["steps"][4]["faults"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(refused, ["NP_WORKERS", "dial", "dns", "env", "min", "nofile", "target", "tunnel"]);
    assert_eq!(result["config"]["was"], json!({ ".type": "instance", "url": "server://k%2F@:1/:2?mode=1" }));

    // The configuration as `uci export` writes it, and what the init script makes of it.
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "'\\''"));
    let mut exported = String::from("package nodepass\n");
    for (name, section) in result["config"].as_object().unwrap().iter().filter(|(name, _)| *name != "bad") {
        exported.push_str(&format!("config {} '{name}'\n", section[".type"].as_str().unwrap()));
        for (option, value) in section.as_object().unwrap().iter().filter(|(option, _)| *option != ".type") {
            match value {
                Value::Array(items) => items.iter().for_each(|item| {
                    exported.push_str(&format!("list {option} {}\n", quoted(item.as_str().unwrap())));
                }),
                value => exported.push_str(&format!("option {option} {}\n", quoted(value.as_str().unwrap()))),
            }
        }
    }
    folder.write("nodepass", exported);
    folder.write("networks", "lan br-lan\n");
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/cross/openwrt");
    let mut command = Command::new(busybox);
    command.args(["ash", "-c", ". \"$0\" && run start", &format!("{root}/tests/stub.sh")]);
    command.env("ROOT", folder.path()).env("INIT", format!("{root}/nodepass/files/nodepass.init"));
    let (status, said, errors) = output(command);
    assert_eq!(status, 0, "{said}{errors}");
    assert_eq!(fs::read_to_string(folder.file("log")).unwrap(), "", "nothing to complain of");
    let heard = fs::read_to_string(folder.file("procd")).unwrap();
    let urls: Vec<_> =
        heard.lines().filter_map(|line| line.strip_prefix("set_param|command|/usr/bin/nodepass|@")).collect();
    let urls: Vec<_> = urls.iter().map(|file| fs::read_to_string(file).unwrap().trim_end().to_string()).collect();
    let web = "client://a%25%27%22%C3%BC%40%2F%20b@[2001:db8::1]:10101/10.0.0.1:80,[::1]:81\
               ?tls=1&sni=www.example.com&min=8&read=1h30m&bind=br-lan";
    assert_eq!(urls, ["server://k%2F@:1/:2?mode=1", web, "master://:9090/p"]);
    for line in [
        "append_param|env|NP_WORKERS=2",
        "append_param|env|A=b c",
        "append_param|env|D=",
        "add_interface_trigger|interface.update|lan|/etc/init.d/nodepass|resume",
    ] {
        assert!(heard.lines().any(|found| found == line), "no {line} in\n{heard}");
    }
    assert!(heard.contains("|nofile=512 512|"), "{heard}");
}

#[test]
fn the_web_page_accepts_what_the_program_accepts() {
    let Some(result) = visit(&json!({}), &json!([])) else { return };
    let samples = samples();
    let accepted = |command: &[String], variable: Option<(&str, &str)>| {
        let env = |name: &str| variable.filter(|(given, _)| *given == name).map(|(_, value)| value.to_string());
        config::parse(command, &env).is_ok()
    };
    for row in result["fits"].as_array().unwrap() {
        let (name, role) = (row[0].as_str().unwrap(), row[1].as_str().unwrap_or_default());
        let theirs: Vec<_> = samples
            .iter()
            .copied()
            .filter(|sample| {
                if name.starts_with("NP_") {
                    return accepted(&["client://127.0.0.1:1/127.0.0.1:2".into()], Some((name, sample)));
                }
                // tls=2 wants files.
                let files = if name == "tls" { "crt=/c&key=/k&" } else { "" };
                let encoded: String = sample.bytes().map(|byte| format!("%{byte:02X}")).collect();
                let path = if role == "master" { "" } else { "/127.0.0.1:2" };
                accepted(&[format!("{role}://127.0.0.1:1{path}?{files}{name}={encoded}")], None)
            })
            .collect();
        assert_eq!(words(&row[2]), theirs, "{name}");
    }
    let theirs: Vec<_> =
        samples.iter().copied().filter(|sample| accepted(&[format!("client://127.0.0.1:1/{sample}")], None)).collect();
    assert_eq!(words(&result["addresses"]), theirs, "addresses");
}

/// Words near the edges of what is accepted somewhere.
fn samples() -> Vec<&'static str> {
    let text = "0 1 2 3 4 7 13 10 123 64 65 63 256 511 512 1023 1024 65535 65536 1048576 1048577 1000000 1000001 \
                1000000000 1000000001 01 -1 +1 1.5 1e3 0x10 none debug info warn error event Info auto Auto 127.0.0.1 \
                127.0.0.01 256.1.1.1 1.2.3 ::1 [::1] [::1 ::ffff:1.2.3.4 2001:db8::g fe80::1%eth0 0s 0ms 1ms 999us 1us \
                1000us 1s 1.5s .5s 1.s .s s 5 5m 1h30m 1m1m +2s -2s 1h30 8760h 8760h1ms 8761h 1d 1M 100\u{b5}s 5000\u{b5}s \
                example.com example.com. a_b -a a- a..b .a 1a a.1 h:1 h:0 h:01 h:65535 h:65536 h: :80 :0 [::1]:80 ::1:80 \
                []:80 [1.2.3.4]:80 1.2.3.4:80 1.2.3:80 a_b:80 -a:80 h.:80 h:x /path \
                * *,none https://a.example HTTP://A:8080,http://[::1] https://a.example, https:// https://a/ ://a 1a://a a+b://a a_b://a \
                https://\u{b5}";
    text.split_whitespace().collect()
}

/// The hash of "running" in LuCI's files of translations.
const RUNNING: u32 = 0xdf25_3c1e;

/// So that a drawing of it can be read.
const STYLE: &str = "<!DOCTYPE html><meta charset=utf-8><style>
body { font: 14px sans-serif } dialog { position: static; width: 95% } td, th { padding: 2px 10px; text-align: left }
.field { display: grid; grid-template-columns: 14em 22em 1fr } .field[hidden] { display: none }
.field span { display: flex; flex-direction: column } .description { color: #666; padding-left: 1em }
</style><body>\n";
