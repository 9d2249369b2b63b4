//! What programs made for the original ask of its master, as they ask it, and what they need of the answers.
//!
//! | program | how it asks |
//! | --- | --- |
//! | NodePanel, NodePassDash | a stream of events that stays open, changes beside it; log panes from events of type `log` |
//! | the Apple app | each request with a timeout of 5 s |
//! | npsh, install scripts | `curl -s` and `sed`, the version from the bare program |
//! | OpenCtrl | the bare program as its child: check points on stdout, SIGTERM |

use std::net::{SocketAddr, TcpStream, UdpSocket};

use super::events::Reader;
use super::*;

/// Longer than any test waits: what ends before it does not end because of it.
const LONG: (&str, &str) = ("NP_SHUTDOWN_TIMEOUT", "10m");

fn master() -> Master {
    Master::with_env("/api", "log=info", &[LONG])
}

/// An instance that forwards alone, and users that stay.
struct Busy {
    id: String,
    at: SocketAddr,
    tcp: TcpStream,
    udp: UdpSocket,
}

impl Busy {
    fn new(master: &Master, target: &Target) -> Busy {
        let at = free_addr();
        let id = master.create(&format!("client://{at}/{}?mode=1", target.addr()));
        Busy::with(id, at)
    }

    fn with(id: String, at: SocketAddr) -> Busy {
        until("a user", GRACE, || exchange(at, b"hello"));
        let tcp = connect(at);
        put(&tcp, b"a");
        assert_eq!(take(&tcp, 1), b"a");
        let udp = udp_user(at);
        until("a session", GRACE, || {
            udp.send(b"u").map_err(|error| error.to_string())?;
            let mut answer = [0; 8];
            udp.recv(&mut answer).map_err(|error| error.to_string())
        });
        Busy { id, at, tcp, udp }
    }
}

/// A request as the Apple app makes it: it gives up after 5 s.
fn impatient(master: &Master, request: &str, body: &str) -> u16 {
    let key = format!("X-API-Key: {}", master.key);
    master.ask_with(request, body, &["-H", &key, "-m", "5"]).status
}

/// Each line of its log that an instance's stream of events has told, up to the one with that text.
fn told(reader: &Reader, id: &str, text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    loop {
        let event = reader.find(|event| event["type"] == "log" && event["instance"]["id"] == id);
        lines.push(plain(event["logs"].as_str().expect("a line")));
        if lines.last().is_some_and(|line| line.contains(text)) {
            return lines;
        }
    }
}

#[test]
fn a_stop_and_a_delete_end_connections_and_sessions_at_once() {
    let (master, target) = (master(), Target::echo());
    let reader = Reader::new(&master).begun();
    for (request, status) in [("PATCH", 200), ("DELETE", 204)] {
        let busy = Busy::new(&master, &target);
        let body = match request {
            "PATCH" => "{\"action\":\"stop\"}".to_owned(),
            _ => String::new(),
        };
        assert_eq!(impatient(&master, &format!("{request} /v1/instances/{}", busy.id), &body), status, "{request}");
        // It says that it has ended: it was not killed. A drain would not be over.
        let lines = told(&reader, &busy.id, "Client stopped");
        assert!(lines.iter().any(|line| line.contains("Stopping at once: 1 connections and 1 UDP sessions end")));
        assert_eq!(rest(&busy.tcp), b"");
        drop(busy.udp);
        assert!(try_connect(busy.at).is_err());
    }
}

#[test]
fn the_peer_of_an_instance_that_is_stopped_hears_it_over_every_kind_of_pool() {
    let (master, target) = (master(), Target::echo());
    for (transport, tls) in kinds() {
        for stopped in ["server", "client"] {
            let (tunnel, user) = (free_addr(), free_addr());
            let url = format!("server://key@{tunnel}/{user}?mode=1&tls={tls}&type={transport}");
            let server = master.create(&url);
            let client = master.create(&format!("client://key@{tunnel}/{}?mode=2&min=2", target.addr()));
            let busy = Busy::with(server.clone(), user);
            let (id, peer) = if stopped == "server" { (&server, &client) } else { (&client, &server) };
            let reader = Reader::new(&master).begun();
            assert_eq!(impatient(&master, &format!("PATCH /v1/instances/{id}"), "{\"action\":\"stop\"}"), 200);
            let lines = told(&reader, peer, "ended: ");
            let heard =
                lines.last().is_some_and(|line| line.contains("the peer says goodbye") && line.contains("INFO"));
            assert!(heard, "{transport} {stopped}: {lines:?}");
            master.until_status(id, "stopped");
            assert_eq!(rest(&busy.tcp), b"", "{transport} {stopped}");
            for id in [&client, &server] {
                assert_eq!(impatient(&master, &format!("DELETE /v1/instances/{id}"), ""), 204);
            }
        }
    }
}

#[test]
fn a_masters_own_end_is_that_of_all_its_instances_at_once() {
    let (master, target) = (master(), Target::echo());
    let busy: Vec<Busy> = (0..7).map(|_| Busy::new(&master, &target)).collect();
    master.process.terminate();
    assert_eq!(master.process.wait(GRACE), 0);
    for Busy { id, tcp, .. } in &busy {
        let ended = |line: &String| line.contains("Client stopped") && line.contains(id.as_str());
        assert!(master.process.lines().iter().any(ended), "{id}: {:?}", master.process.lines());
        assert_eq!(rest(tcp), b"");
    }
}

#[test]
fn a_signal_from_outside_lets_an_instances_connections_finish() {
    let (master, target) = (master(), Target::echo());
    let reader = Reader::new(&master).begun();
    let busy = Busy::new(&master, &target);
    let pid = master.process.children()[0];
    // SAFETY: a plain system call on a process that this test has caused.
    unsafe { libc::kill(pid as libc::pid_t, libc::SIGTERM) };
    // The user who was first may still be among them.
    told(&reader, &busy.id, " connections have 600s to finish");
    put(&busy.tcp, b"still here");
    assert_eq!(take(&busy.tcp, 10), b"still here");
    end(&busy.tcp);
    assert_eq!(rest(&busy.tcp), b"");
    told(&reader, &busy.id, "Client stopped");
    master.until_status(&busy.id, "stopped");
}

#[test]
fn each_exchange_is_told_in_the_originals_words_under_a_master_and_not_outside() {
    let (master, target) = (master(), Target::echo());
    let reader = Reader::new(&master).begun();
    let at = free_addr();
    let id = master.create(&format!("client://{at}/{}?mode=1", target.addr()));
    until("a user", GRACE, || exchange(at, b"hello"));
    // As many as come, however alike they are.
    for _ in 0..10 {
        exchange(at, b"hello").expect("an echo");
    }
    let mut lines = Vec::new();
    while lines.iter().filter(|line: &&String| line.ends_with("INFO  Exchange complete: EOF")).count() < 11 {
        lines.extend(told(&reader, &id, "Exchange complete: EOF"));
    }
    let starts = lines.iter().filter(|line| line.contains("INFO  Starting exchange: 127.0.0.1:"));
    assert!(
        starts.clone().count() >= 10 && starts.clone().all(|line| line.ends_with(&format!(" <-> {}", target.addr())))
    );
    let kept = master.ask(&format!("GET /v1/instances/{id}/logs"), "").body;
    assert!(kept.contains("Starting exchange: ") && kept.contains("Exchange complete: EOF"), "{kept}");

    let alone = Process::nodepass(&format!("client://{}/{}?mode=1", free_addr(), target.addr()));
    let user = alone.says("Client started: client://", GRACE);
    let user = user.split("client://").nth(1).and_then(|rest| rest.split(['@', '/']).find_map(|at| at.parse().ok()));
    let user: SocketAddr = user.expect("its address");
    exchange(user, b"hello").expect("an echo");
    alone.checkpoint(|now| now.tcprx == 5 && now.tcps == 0);
    assert!(!alone.said("xchange"), "{:?}", alone.lines());
}

#[test]
fn a_master_without_a_log_level_adds_none_to_urls_and_shows_none() {
    let master = Master::with("/api", "tls=0");
    assert_eq!(master.ask("GET /v1/info", "").json()["log"], "");
    let url = forwarder();
    let record = master.ask("POST /v1/instances", &format!("{{\"url\":\"{url}\"}}")).json();
    assert_eq!(record["url"], url.as_str());
    let config = record["config"].as_str().expect("a URL");
    assert!(config.contains("dns=5m0s") && !config.contains("log="), "{config}");
    master.until_status(record["id"].as_str().expect("an id"), "running");
    let bare = forwarder().replace("?mode=1", "");
    assert_eq!(master.ask("POST /v1/instances", &format!("{{\"url\":\"{bare}\"}}")).json()["url"], bare.as_str());
    // A level that was asked for later is one.
    master.ask("PATCH /v1/instances/********", "{\"log\":\"warn\"}");
    assert_eq!(master.ask("GET /v1/info", "").json()["log"], "warn");
}

/// OpenCtrl reads figures from the child's stdout, asks it to end by SIGTERM, and starts it anew when it ends by itself.
#[test]
fn the_bare_program_does_as_a_child_of_another_master() {
    let (target, at) = (Target::echo(), free_addr());
    let url = format!("client://{at}/{}?mode=1", target.addr());
    let child = Process::nodepass_with(&[&url], &[LONG]);
    until("a user", GRACE, || exchange(at, b"hello"));
    child.checkpoint(|now| now.mode == 1 && now.tcprx >= 5);
    assert!(!child.said("ERROR"), "it would take that for a failure: {:?}", child.lines());
    let points = child.lines_of(false).into_iter().filter(|line| line.contains("EVENT  CHECK_POINT|MODE=1|PING="));
    assert!(points.count() > 0);
    udp_echo(at, b"u").expect("an echo");
    child.terminate();
    assert_eq!(child.wait(GRACE), 0, "a session does not hold it up");
}
