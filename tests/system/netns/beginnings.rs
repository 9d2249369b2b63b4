//! How long it takes over a long path until a tunnel serves its first user, and until its pool is full: a measurement.
//!
//! `cargo test --test system netns::beginnings -- --ignored --nocapture`

use super::{Land, Space};
use crate::support::*;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

#[test]
#[ignore = "a measurement of three minutes"]
fn first_users_and_full_pools_over_a_long_path() {
    for round in [50, 200].map(Duration::from_millis) {
        for (transport, tls) in kinds() {
            let query = format!("type={transport}&tls={tls}");
            let mut firsts = Vec::new();
            let mut pools = Vec::new();
            for _ in 0..ROUNDS {
                let first = took(round, &query, || exchange(at(USERS), b"first").is_ok());
                let pool = took(round, &query, || idle() >= POOL);
                let (Some(first), Some(pool)) = (first, pool) else { return };
                firsts.push(first);
                pools.push(pool);
            }
            println!("{query}, {round:?}: first user {}; pool of {POOL} {}", row(firsts), row(pools));
        }
    }
}

/// The time from a client's start until that is so at the server. `None` where there are no namespaces.
fn took(round: Duration, query: &str, done: impl Fn() -> bool + Send + Sync) -> Option<Duration> {
    let land = Land::new()?;
    land.path.delays(round / 2);
    let target = land.client.enter(Target::echo);
    let run = |space: &Space, url: String| space.nodepass_with(&url, "60s", &[]);
    let server = format!(
        "server://{KEY}@0.0.0.0:{TUNNEL}/{}?mode=1&max={POOL}&metrics={}&log=info&{query}",
        at(USERS),
        at(METRICS)
    );
    let server = run(&land.server, server);
    server.says("Waiting for a client", GRACE);
    let began = Instant::now();
    let client = format!("client://{KEY}@{}:{TUNNEL}/{}?mode=2&min={POOL}&log=info", land.at(1), target.addr());
    let _client = run(&land.client, client);
    land.server.enter(|| {
        while !done() {
            assert!(began.elapsed() < GRACE, "{query}: nothing comes");
            std::thread::sleep(Duration::from_millis(2));
        }
    });
    Some(began.elapsed())
}

/// Idle pool connections of the server, as it says.
fn idle() -> usize {
    let answer = try_connect(at(METRICS)).and_then(|stream| {
        std::io::Write::write_all(&mut &stream, b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
        Ok(String::from_utf8_lossy(&rest(&stream)).into_owned())
    });
    let line = |text: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix("nodepass_pool_connections{state=\"idle\"} "))?;
        value.trim().parse().ok()
    };
    answer.ok().and_then(|text| line(&text)).unwrap_or(0)
}

/// The median, the least and the most, in milliseconds.
fn row(mut times: Vec<Duration>) -> String {
    times.sort();
    let [least, median, most] = [0, times.len() / 2, times.len() - 1].map(|at| times[at].as_millis());
    format!("{median} ms ({least} to {most})")
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

const KEY: &str = "a-key-of-some-length";
const TUNNEL: u16 = 7001;
const USERS: u16 = 7002;
const METRICS: u16 = 7003;
const POOL: usize = 64;
const ROUNDS: usize = 3;
