//! A restart, or another URL, of an instance that runs: the next process takes over, nobody is refused, and users finish where they are.

use super::*;
use std::net::{SocketAddr, TcpStream};

/// Longer than this test waits for anything; and a session that nothing more comes for is soon over.
const LONG: &[(&str, &str)] = &[("NP_SHUTDOWN_TIMEOUT", "10m"), ("NP_UDP_READ_TIMEOUT", "3s")];

/// What a master says of it.
const TAKEN: &str = "goes on in another process";

struct Pair {
    master: Master,
    server: (String, String),
    client: (String, String),
    user: SocketAddr,
    _target: Target,
}

/// Users come in at the server.
fn pair(transport: u8, env: &[(&str, &str)]) -> Pair {
    let (master, target) = (Master::with_env("/api", "log=info", env), Target::echo());
    let (tunnel, user) = (free_addr(), free_addr());
    let made = |url: String| (master.create(&url), url);
    let server = made(format!("server://key@{tunnel}/{user}?mode=1&tls=1&type={transport}"));
    let client = made(format!("client://key@{tunnel}/{}?mode=2&min=4", target.addr()));
    until("a user", GRACE, || exchange(user, b"are you there"));
    Pair { master, server, client, user, _target: target }
}

fn long_user(at: SocketAddr) -> TcpStream {
    let user = connect(at);
    still_there(&user);
    user
}

impl Pair {
    /// Asks for something, and waits until another process has taken over.
    fn taken_over(&self, ask: impl FnOnce()) {
        let mark = self.master.process.mark();
        ask();
        self.master.process.says_after(mark, TAKEN, GRACE);
    }

    fn restart(&self, id: &str) {
        let (status, body) = self.master.told(&format!("PATCH /v1/instances/{id}"), "{\"action\":\"restart\"}");
        assert_eq!(status, 200, "{body}");
    }

    fn put(&self, id: &str, url: &str) -> (u16, String) {
        self.master.told(&format!("PUT /v1/instances/{id}"), &serde_json::json!({ "url": url }).to_string())
    }

    fn received(&self, id: &str) -> u64 {
        self.master.ask(&format!("GET /v1/instances/{id}"), "").json()["tcprx"].as_u64().expect("a figure")
    }
}

#[test]
fn a_restart_refuses_nobody_and_long_users_finish_where_they_are() {
    let types = [
        Some(0),
        cfg!(feature = "quic").then_some(1),
        cfg!(feature = "ws").then_some(2),
        cfg!(feature = "h2").then_some(3),
    ];
    side_by_side(types.into_iter().flatten().map(|kind| (format!("type={kind}"), kind)), restarted);
}

fn restarted(transport: u8) {
    let pair = pair(transport, LONG);
    let (server, client) = (&pair.server.0, &pair.client.0);
    let mut long = vec![long_user(pair.user)];
    let (_, lost) = load(pair.user, || {
        for id in [server, client, server] {
            pair.taken_over(|| pair.restart(id));
            pair.master.until_status(id, "running");
            long.push(long_user(pair.user));
            long.iter().for_each(still_there);
        }
    });
    assert!(lost.is_empty(), "{} users lost: {:?}", lost.len(), &lost[..lost.len().min(5)]);
    // What those before count at their end is in the sum.
    let before = pair.received(server);
    put(&long[0], &[b'x'; 100_000]);
    assert_eq!(take(&long[0], 100_000).len(), 100_000);
    drop(long);
    assert!(eventually(GRACE, || pair.received(server) >= before + 100_000), "{before}, {}", pair.received(server));
    // All of them are one instance.
    let last = long_user(pair.user);
    pair.taken_over(|| pair.restart(server));
    let stop = "{\"action\":\"stop\"}";
    assert_eq!(pair.master.told(&format!("PATCH /v1/instances/{server}"), stop).0, 200);
    pair.master.until_status(server, "stopped");
    assert!(rest(&last).is_empty() && try_connect(pair.user).is_err());
}

#[test]
fn another_url_is_taken_over_at_the_ports_that_stay_and_those_that_are_new() {
    let pair = pair(0, LONG);
    let (id, url) = &pair.server;
    let long = long_user(pair.user);
    let other = free_addr();
    let moved = url.replace(&pair.user.to_string(), &other.to_string());
    pair.taken_over(|| {
        let (status, body) = pair.put(id, &moved);
        assert_eq!(status, 200, "{body}");
        let record: Value = serde_json::from_str(&body).expect("a record");
        let at = record["url"].as_str().expect("a URL");
        assert!(at.contains(&other.to_string()), "{body}");
        assert_eq!(record["status"], "stopped", "as it is shown for a moment");
    });
    pair.master.until_status(id, "running");
    until("a user at the new port", GRACE, || exchange(other, b"hello"));
    assert!(try_connect(pair.user).is_err(), "nobody is at the old one");
    still_there(&long);
    assert_eq!(pair.master.told(&format!("DELETE /v1/instances/{id}"), "").0, 204);
    assert!(rest(&long).is_empty(), "all its processes have gone");
    assert!(try_connect(other).is_err());
}

#[test]
fn where_the_next_process_cannot_start_the_instance_is_stopped_and_started() {
    let pair = pair(0, LONG);
    let (id, url) = &pair.server;
    let long = long_user(pair.user);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let bad = url.replace(&pair.user.to_string(), &taken.local_addr().expect("an address").to_string());
    let mark = pair.master.process.mark();
    assert_eq!(pair.put(id, &bad).0, 200);
    for line in ["The next process has not started", "Instance stopped", "Instance started"] {
        pair.master.process.says_after(mark, line, GRACE);
    }
    assert!(rest(&long).is_empty());
    assert_eq!(pair.put(id, url).0, 200);
    until("a user", GRACE, || exchange(pair.user, b"hello"));
}

#[test]
fn a_master_that_is_killed_takes_the_processes_before_and_after_along() {
    let pair = pair(0, &[("NP_SHUTDOWN_TIMEOUT", "1s")]);
    let user = long_user(pair.user);
    pair.taken_over(|| pair.restart(&pair.server.0));
    let next = until("a user", GRACE, || exchange(pair.user, b"x").map(|_| long_user(pair.user)));
    pair.master.process.kill();
    assert!(rest(&user).is_empty() && rest(&next).is_empty());
    assert!(eventually(GRACE, || try_connect(pair.user).is_err()));
}
