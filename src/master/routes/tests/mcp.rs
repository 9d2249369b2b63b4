//! The Model Context Protocol: messages, sessions, tools.

use super::*;

fn rpc(api: &Api<Mail>, message: &Value) -> (u16, Value) {
    let said = ask(api, "POST /api/v2", &message.to_string());
    (said.status, if said.text.is_empty() { Value::Null } else { said.json() })
}

fn tool(api: &Api<Mail>, name: &str, arguments: Value) -> Value {
    let params = json!({ "name": name, "arguments": arguments });
    let (status, answer) = rpc(api, &json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params }));
    assert_eq!((status, &answer["id"], &answer["jsonrpc"]), (200, &json!(7), &json!("2.0")));
    answer
}

#[test]
fn what_is_no_message_of_json_rpc_is_told_so() {
    let api = api("master://127.0.0.1:9090");
    let code = |body: &str| {
        let said = ask(&api, "POST /api/v2", body);
        (said.status, said.json()["error"]["code"].as_i64().unwrap())
    };
    assert_eq!(code("{bad"), (400, -32700));
    assert_eq!(code(""), (400, -32700));
    let invalid = [
        "[]",
        "5",
        r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#,
        r#"{"id":1,"method":"ping"}"#,
        r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":1}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":5}"#,
        r#"{"jsonrpc":"2.0","method":"x","params":5}"#,
    ];
    for body in invalid {
        assert_eq!(code(body), (400, -32600), "{body}");
    }
    assert_eq!(code(r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}"#), (400, -32602));
    assert_eq!(code(r#"{"jsonrpc":"2.0","id":1,"method":"tools/none"}"#), (200, -32601));
    for notice in
        [r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#]
    {
        let said = ask(&api, "POST /api/v2", notice);
        assert_eq!((said.status, said.text.as_str()), (202, ""));
    }
}

#[test]
fn a_session_begins_with_a_version_that_both_know() {
    let api = api("master://127.0.0.1:9090");
    let version = |asked: Value| {
        let params =
            json!({ "protocolVersion": asked, "capabilities": {}, "clientInfo": { "name": "t", "version": "1" } });
        rpc(&api, &json!({ "jsonrpc": "2.0", "id": "a", "method": "initialize", "params": params })).1
    };
    let answer = version(json!("2025-11-25"));
    assert_eq!(answer["result"]["protocolVersion"], "2025-11-25");
    assert_eq!(answer["result"]["capabilities"], json!({ "tools": { "listChanged": false } }));
    assert_eq!((&answer["result"]["serverInfo"]["name"], &answer["id"]), (&json!("nodepass"), &json!("a")));
    assert_eq!(version(json!("2025-06-18"))["result"]["protocolVersion"], "2025-06-18");
    assert_eq!(version(json!("2024-11-05"))["result"]["protocolVersion"], "2025-11-25");
    assert_eq!(version(json!(5))["error"]["code"], -32602);
    let said = |version: &str| {
        let headers = vec![("x-api-key".into(), KEY.into()), ("mcp-protocol-version".into(), version.into())];
        let body = br#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#.to_vec();
        match api.answer(Call { method: "POST".into(), path: "/api/v2".into(), query: "".into(), headers, body }) {
            Reply::Whole { status, .. } => status,
            Reply::Stream { .. } => panic!("a stream"),
        }
    };
    assert_eq!((said("2025-11-25"), said("1999-01-01")), (200, 400));
}

#[test]
fn every_tool_listed_can_be_called_and_takes_what_its_schema_says() {
    let api = api("master://127.0.0.1:9090");
    let list = rpc(&api, &json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" })).1["result"]["tools"].clone();
    let example = json!({
        "id": ID, "url": URL, "alias": "n", "restart": true, "action": "reset", "target": "127.0.0.1:1",
        "meta": { "peer": { "sid": "s", "type": "t", "alias": "a" }, "tags": { "k": "v" } }, "instances": [{ "url": URL }],
        "role": "client", "tunnel_address": "127.0.0.1", "tunnel_port": "10101", "target_address": "127.0.0.1", "target_port": "80",
        "targets": "127.0.0.1:80,127.0.0.1:81", "password": "k", "log": "info", "tls": "1", "crt": "/c", "key": "/k", "sni": "h.example",
        "dns": "5m", "lbs": "1", "mode": "1", "type": "0", "min": "8", "max": "64", "dial": "auto", "read": "30s", "rate": "10",
        "slot": "100", "proxy": "0", "block": "12", "notcp": "0", "noudp": "1", "parameters": { "max": 9, "zone": "x" },
        "peer": { "sid": "s" }, "tags": { "k": "v" }, "lang": "zh",
    });
    let names: Vec<&str> = list.as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!(names.len(), 22);
    // The one that deletes what the others need comes last.
    let (last, first): (Vec<&Value>, Vec<&Value>) =
        list.as_array().unwrap().iter().partition(|tool| tool["name"] == "delete_instance");
    for each in first.into_iter().chain(last) {
        let (name, schema) = (each["name"].as_str().unwrap(), &each["inputSchema"]);
        assert_eq!((&schema["type"], &schema["additionalProperties"]), (&json!("object"), &json!(false)), "{name}");
        assert!(!each["description"].as_str().unwrap().is_empty());
        let properties = schema["properties"].as_object().unwrap();
        let all: Value = properties.keys().map(|name| (name.clone(), example[name].clone())).collect();
        for needed in schema["required"].as_array().unwrap_or(&Vec::new()) {
            let mut without = all.clone();
            without.as_object_mut().unwrap().remove(needed.as_str().unwrap());
            assert_eq!(tool(&api, name, without)["error"]["code"], -32602, "{name} without {needed}");
        }
        for property in properties.keys() {
            let mut wrong = all.clone();
            wrong[property] = json!(5);
            assert_eq!(tool(&api, name, wrong)["error"]["code"], -32602, "{name} with a wrong {property}");
        }
        let mut more = all.clone();
        more["more"] = json!(1);
        assert_eq!(tool(&api, name, more)["error"]["code"], -32602, "{name} with more");
        if name == "check_instance" {
            // A process of this program, which is a test's here: `mcp` among the tests of the system calls it.
            continue;
        }
        let answer = tool(&api, name, all);
        assert_eq!(answer["result"]["isError"], false, "{name}: {answer}");
        let result = &answer["result"]["structuredContent"];
        assert!(result.is_object(), "{name}");
        let text = answer["result"]["content"][0]["text"].as_str().unwrap();
        assert_eq!(serde_json::from_str::<Value>(text).unwrap(), *result, "{name}");
    }
}

#[test]
fn what_the_master_refuses_a_tool_is_a_result_and_the_key_is_out_of_reach() {
    let api = api("master://127.0.0.1:9090");
    let error = |name: &str, arguments: Value| {
        let answer = tool(&api, name, arguments)["result"].clone();
        assert_eq!(answer["isError"], true, "{name}: {answer}");
        answer["content"][0]["text"].as_str().unwrap().to_owned()
    };
    assert_eq!(error("get_instance", json!({ "id": "ffffffff" })), "Instance not found");
    let long = json!({ "url": URL, "alias": "a".repeat(257) });
    assert_eq!(error("create_instance", long), "Instance alias exceeds maximum length 256");
    for name in ["get_instance", "delete_instance", "update_instance", "get_instance_logs", "check_instance"] {
        assert_eq!(error(name, json!({ "id": KEY_ID })), "Forbidden: API Key");
    }
    assert_eq!(error("control_instance", json!({ "id": KEY_ID, "action": "restart" })), "Forbidden: API Key");
    for name in ["list_instances", "export_instances", "get_master_info"] {
        assert!(!tool(&api, name, json!({})).to_string().contains(KEY), "{name}");
    }
    assert_eq!(tool(&api, "control_instance", json!({ "id": ID, "action": "explode" }))["error"]["code"], -32602);
    assert_eq!(tool(&api, "check_instance", json!({ "id": ID, "lang": "fr" }))["error"]["code"], -32602);
    assert_eq!(tool(&api, "no_tool", json!({}))["error"]["code"], -32602);
    let call =
        |params: Value| rpc(&api, &json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params })).1;
    assert_eq!(call(json!({}))["error"]["code"], -32602);
    assert_eq!(call(json!({ "name": "tcping", "arguments": [] }))["error"]["code"], -32602);
    assert_eq!(call(json!({ "name": "list_instances" }))["result"]["isError"], false);
    let list = rpc(&api, &json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": { "cursor": "x" } }));
    assert_eq!(list.1["error"]["code"], -32602);
}

/// What programs of the original's master 2.0 send, and where they look in the answer.
#[test]
fn an_instance_is_made_and_changed_by_the_parts_of_its_url() {
    let api = api("master://127.0.0.1:9090");
    let result = |name: &str, arguments: Value| {
        let answer = tool(&api, name, arguments)["result"].clone();
        assert_eq!(answer["isError"], false, "{name}: {answer}");
        answer
    };
    let made = result(
        "create_instance",
        json!({ "role": "server", "tunnel_port": "10101", "target_port": "8080", "tls": "1" }),
    );
    assert_eq!(
        (&made["instance"], &made["instance"]["url"]),
        (&made["structuredContent"], &"server://:10101/:8080?tls=1".into())
    );
    assert_eq!(tool(&api, "create_instance", json!({ "role": "server" }))["error"]["code"], -32602);

    let list = result("list_instances", json!({}));
    assert!(list["instances"].as_array().is_some_and(|list| list.iter().any(|each| each["id"] == ID)), "{list}");
    assert_eq!(result("get_instance", json!({ "id": ID }))["instance"]["url"], URL);
    let url = |answer: Value| answer["instance"]["url"].as_str().unwrap().to_owned();
    let set = |name: &str, mut arguments: Value| {
        arguments["id"] = ID.into();
        url(result(name, arguments))
    };
    assert_eq!(
        set("set_instance_basic", json!({ "tunnel_port": "9", "log": "warn" })),
        "client://127.0.0.1:9/127.0.0.1:80?log=warn&mode=1"
    );
    assert_eq!(
        set("set_instance_network", json!({ "rate": "5" })),
        "client://127.0.0.1:9/127.0.0.1:80?log=warn&mode=1&rate=5"
    );
    assert_eq!(set("set_instance_network", json!({ "rate": "" })), "client://127.0.0.1:9/127.0.0.1:80?log=warn&mode=1");
    assert_eq!(
        set("set_instance_network", json!({ "rate": "" })),
        "client://127.0.0.1:9/127.0.0.1:80?log=warn&mode=1",
        "nothing changes"
    );
    assert_eq!(
        set("set_instance_advanced", json!({ "parameters": { "slot": 7 } })),
        "client://127.0.0.1:9/127.0.0.1:80?log=warn&mode=1&slot=7"
    );
    let none = tool(&api, "set_instance_traffic", json!({ "id": ID }))["result"].clone();
    assert_eq!((&none["isError"], &none["content"][0]["text"]), (&json!(true), &"Nothing to change".into()));
}

#[test]
fn the_parts_of_an_instances_url_and_the_master_are_shown_and_the_key_is_out_of_reach_here_too() {
    let api = api("master://127.0.0.1:9090");
    let result = |name: &str, arguments: Value| {
        let answer = tool(&api, name, arguments)["result"].clone();
        assert_eq!(answer["isError"], false, "{name}: {answer}");
        answer
    };
    let config = result("get_instance_config", json!({ "id": ID }))["config"].clone();
    assert_eq!(
        (&config["role"], &config["tunnel_port"], &config["target_port"]),
        (&"client".into(), &"10101".into(), &"80".into())
    );
    assert_eq!(config["parameters"]["mode"], "1");
    assert_eq!(result("tcping_target", json!({ "target": "127.0.0.1:1" }))["result"]["connected"], false);
    assert_eq!(result("update_master_info", json!({ "alias": "box" }))["info"]["alias"], "box");
    assert!(result("get_master_info", json!({}))["info"]["noc"].is_u64());
    for (name, arguments) in [
        ("set_instance_basic", json!({ "id": KEY_ID, "log": "info" })),
        ("set_instance_advanced", json!({ "id": KEY_ID, "parameters": { "a": "b" } })),
        ("get_instance_config", json!({ "id": KEY_ID })),
    ] {
        assert_eq!(tool(&api, name, arguments)["result"]["content"][0]["text"], "Forbidden: API Key", "{name}");
    }
}
