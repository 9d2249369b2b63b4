//! Wrong keys ban their source, at the API and at instances; the master lists all bans and lifts them.

use super::*;
use crate::hostile::peer;
use std::io::{Read, Write};
use std::net::SocketAddr;

/// A master that other addresses reach as well, and how: three wrong keys are too many. `None` where there is no such address.
fn exposed() -> Option<(Master, SocketAddr)> {
    let own = own_address()?;
    let (port, state) = (free_port(), Folder::new());
    let url = format!("master://0.0.0.0:{port}/api?log=info");
    let process = run(&url, &state, &[("NP_BAN_FAILURES", "3")]);
    let line = process.says("API Key created: ", GRACE);
    let key = line.rsplit(' ').next().expect("a key").to_owned();
    let root = format!("http://127.0.0.1:{port}/api");
    Some((Master { process, url, root, key, state }, SocketAddr::from((own, port))))
}

/// What comes back to the question for the master's figures, asked from an address that can be banned.
fn ask_from_outside(at: SocketAddr, key: Option<&str>) -> String {
    let mut stream = connect(at);
    let key = key.map(|key| format!("X-API-Key: {key}\r\n")).unwrap_or_default();
    // A source that is banned is closed before it has said anything.
    let _ = stream.write_all(format!("GET /api/v1/info HTTP/1.0\r\n{key}\r\n").as_bytes());
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

fn is_answered(at: SocketAddr, key: Option<&str>, status: u16) -> bool {
    ask_from_outside(at, key).starts_with(&format!("HTTP/1.1 {status} "))
}

fn bans(master: &Master) -> Vec<(String, String)> {
    pairs(&master.ask("GET /v1/bans", "").json())
}

/// Who holds each ban, and whose it is.
fn pairs(answer: &Value) -> Vec<(String, String)> {
    let text = |ban: &Value, name: &str| ban[name].as_str().unwrap_or_default().to_owned();
    let list = answer["bans"].as_array().expect("a list");
    list.iter().map(|ban| (text(ban, "instance"), text(ban, "source"))).collect()
}

fn until_bans(master: &Master, expected: &[(String, String)]) {
    until("the bans", GRACE, || match bans(master) {
        bans if bans == expected => Ok(()),
        bans => Err(bans),
    });
}

#[test]
fn wrong_keys_close_the_api_to_their_source_until_that_is_let_in_again() {
    let Some((master, at)) = exposed() else { return skip(OUTSIDE) };
    for _ in 0..5 {
        assert!(is_answered(at, None, 401) && is_answered(at, Some(""), 401), "no key is no wrong key");
    }
    assert!(is_answered(at, Some("wrong"), 401) && is_answered(at, Some("wrong"), 401));
    ask_from_outside(at, Some("wrong"));
    master.process.says(&format!("{} is banned for 600s", at.ip()), GRACE);
    assert_eq!(ask_from_outside(at, Some(&master.key)), "", "the right key does not help");
    let ban = ("********".to_owned(), at.ip().to_string());
    until_bans(&master, std::slice::from_ref(&ban));
    let shown = master.ask("GET /v1/bans", "").json()["bans"][0].clone();
    assert_eq!(shown["reason"], "request refused: the API key is wrong");
    assert!(shown["until"].as_str().is_some_and(|until| until.len() >= "2026-01-31T18:05:09.123Z".len()), "{shown}");

    assert!(pairs(&master.ask("DELETE /v1/bans?source=192.0.2.77", "").json()).is_empty());
    let lifted = master.ask(&format!("DELETE /v1/bans?source={}", at.ip()), "").json();
    assert_eq!(pairs(&lifted), [ban]);
    until("an answer", GRACE, || if is_answered(at, Some(&master.key), 200) { Ok(()) } else { Err(()) });
    assert!(bans(&master).is_empty());
    master.process.says(&format!("{} is not banned any more", at.ip()), GRACE);
}

#[test]
fn a_source_that_has_a_connection_with_the_right_key_is_not_banned_for_others_wrong_ones() {
    let Some((master, at)) = exposed() else { return skip(OUTSIDE) };
    let mut events = connect(at);
    let request = format!("GET /api/v1/events HTTP/1.1\r\nHost: x\r\nX-API-Key: {}\r\n\r\n", master.key);
    events.write_all(request.as_bytes()).expect("a request");
    let mut head = [0; 12];
    events.read_exact(&mut head).expect("an answer");
    assert_eq!(&head, b"HTTP/1.1 200");
    for _ in 0..10 {
        assert!(is_answered(at, Some("wrong"), 401));
    }
    assert!(bans(&master).is_empty());
    drop(events);
    until("a ban", GRACE, || {
        ask_from_outside(at, Some("wrong"));
        if bans(&master).is_empty() {
            Err(())
        } else {
            Ok(())
        }
    });
}

#[test]
fn bans_of_instances_are_listed_with_them_and_lifted_there() {
    let Some((master, at)) = exposed() else { return skip(OUTSIDE) };
    let ports = [free_port(), free_port()];
    let url = |port: u16| format!("server://{}@0.0.0.0:{port}/127.0.0.1:9?mode=2&tls=0", peer::KEY);
    let ids = ports.map(|port| master.create(&url(port)));
    let mut held: Vec<(String, String)> = Vec::new();
    for (id, port) in ids.iter().zip(ports) {
        let server = SocketAddr::from((at.ip(), port));
        (0..3).for_each(|_| drop(peer::handshake(server, "another-key")));
        assert_eq!(peer::handshake(server, peer::KEY), "", "it is closed at once");
        held.push((id.clone(), at.ip().to_string()));
        held.sort();
        until_bans(&master, &held);
    }
    let reason = master.ask("GET /v1/bans", "").json()["bans"][0]["reason"].clone();
    assert_eq!(reason, "handshake refused: the keys differ");

    let lifted = master.ask(&format!("DELETE /v1/bans?instance={}", ids[0]), "").json();
    assert_eq!(pairs(&lifted), [(ids[0].clone(), at.ip().to_string())]);
    let server = SocketAddr::from((at.ip(), ports[0]));
    until("an answer", GRACE, || match peer::handshake(server, peer::KEY) {
        answer if answer.starts_with("HTTP/1.1 200") => Ok(()),
        answer => Err(answer),
    });
    until_bans(&master, &[(ids[1].clone(), at.ip().to_string())]);
    assert_eq!(master.told("DELETE /v1/bans?instance=ffffffff", ""), refused(404, "Instance not found"));
    master.told(&format!("PATCH /v1/instances/{}", ids[1]), r#"{"action":"stop"}"#);
    until_bans(&master, &[]);
}

#[test]
fn a_ban_ends_by_itself_and_leaves_the_list() {
    let Some(own) = own_address() else { return skip(OUTSIDE) };
    let (port, state) = (free_port(), Folder::new());
    let env = [("NP_BAN_FAILURES", "1"), ("NP_BAN_TIME", "1s")];
    let process = run(&format!("master://0.0.0.0:{port}/api?log=info"), &state, &env);
    process.says("API Key created: ", GRACE);
    let at = SocketAddr::from((own, port));
    ask_from_outside(at, Some("wrong"));
    process.says(&format!("{own} is banned for 1s"), GRACE);
    process.says(&format!("{own} is not banned any more"), GRACE);
    until("an answer", GRACE, || if is_answered(at, None, 401) { Ok(()) } else { Err(()) });
}

/// What a machine may lack.
const OUTSIDE: &str = "an address that is not loopback";
