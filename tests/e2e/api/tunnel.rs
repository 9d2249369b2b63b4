//! What it is all for: a tunnel made by the API carries users, its figures move, and nothing of it is lost with the master.

use nodepass::master::gob;
use serde_json::Value;

use super::*;

/// `server` and `client` of one tunnel, made by calls.
struct Pair {
    server: String,
    client: String,
    user: std::net::SocketAddr,
}

fn pair(master: &Master, target: &Target, transport: u8) -> Pair {
    let (tunnel, user) = (free_addr(), free_addr());
    let server = master.create(&format!("server://key@{tunnel}/{user}?mode=1&tls=1&type={transport}"));
    let client = master.create(&format!("client://key@{tunnel}/{}?mode=2&min=4", target.addr()));
    Pair { server, client, user }
}

fn figure(master: &Master, id: &str, name: &str) -> u64 {
    let record = master.ask(&format!("GET /v1/instances/{id}"), "").json();
    record[name].as_u64().unwrap_or_else(|| panic!("{name} of {record}"))
}

/// Waits until what the server has counted, both ways, fits.
fn counted(master: &Master, pair: &Pair, fits: impl Fn(u64) -> bool) {
    until("figures that move", GRACE, || {
        let seen = ["tcprx", "tcptx"].map(|name| figure(master, &pair.server, name));
        if seen.into_iter().all(&fits) {
            Ok(())
        } else {
            Err(seen)
        }
    });
}

#[test]
fn a_tunnel_made_by_calls_carries_users_and_comes_back_after_the_master_was_killed() {
    let (target, mut master) = (Target::echo(), Master::start());
    let types = [
        Some(0),
        cfg!(feature = "quic").then_some(1),
        cfg!(feature = "ws").then_some(2),
        cfg!(feature = "h2").then_some(3),
    ];
    let pairs: Vec<Pair> = types.into_iter().flatten().map(|transport| pair(&master, &target, transport)).collect();
    for pair in &pairs {
        until("a user", GRACE, || exchange(pair.user, b"hello"));
        counted(&master, pair, |bytes| bytes >= 5);
        master.until_status(&pair.client, "running");
    }
    // A reset begins anew; and counters are kept by a graceful stop.
    master.ask(&format!("PATCH /v1/instances/{}", pairs[0].server), "{\"action\":\"reset\"}");
    counted(&master, &pairs[0], |bytes| bytes == 0);
    let before: Value = master.ask("GET /v1/export", "").json();
    let kept = || std::fs::read(master.state.file("nodepass.gob")).ok().and_then(|file| gob::decode(&file).ok());
    let all = || kept().is_some_and(|kept| pairs.iter().all(|pair| kept.contains_key(&pair.client)));
    assert!(eventually(GRACE, all), "what was made is on the disk");

    master.restart(libc::SIGKILL);
    assert_eq!(master.ask("GET /v1/export", "").json(), before, "all that was made is there again");
    for pair in &pairs {
        until("a user", GRACE, || exchange(pair.user, b"hello again"));
        counted(&master, pair, |bytes| bytes >= 11);
    }
    let kept = figure(&master, &pairs[0].server, "tcprx");
    master.restart(libc::SIGTERM);
    assert!(figure(&master, &pairs[0].server, "tcprx") >= kept, "a graceful stop keeps the counters");
}
