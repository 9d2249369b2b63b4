//! Over a long path: how long after its start a client serves its first user, and has its pool filled. A measurement for
//! docs/measurements.md, not run by default.

use super::Land;
use crate::support::*;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// A line for each pool and round trip: milliseconds of each round.
#[test]
#[ignore = "a measurement"]
fn first_users_and_filled_pools() {
    for round_trip in [50, 200].map(Duration::from_millis) {
        for kind in ["type=0", "type=0&tls=1", "type=2", "type=1", "type=3"] {
            let Some(rounds) = (0..ROUNDS).map(|_| begun(kind, round_trip)).collect::<Option<Vec<_>>>() else { return };
            let [first, filled] = [0, 1].map(|at| rounds.iter().map(|round| round[at].as_millis()).collect::<Vec<_>>());
            println!("BEGINNING|{kind}|{round_trip:?}|first user {first:?}|pool of 64 {filled:?}");
        }
    }
}

/// The time to a first user's answer and that to a full pool, from a start each. `None` where there are no namespaces.
fn begun(kind: &str, round_trip: Duration) -> Option<[Duration; 2]> {
    let land = Land::new()?;
    land.path.delays(round_trip / 2);
    land.echoes();
    let server = format!("server://key@{}:7001/127.0.0.1:7002?log=event&mode=1&max=64&{kind}", land.at(1));
    let client = format!("client://key@{}:7001/127.0.0.1:7000?log=event&mode=2&min=64", land.at(1));
    let users: SocketAddr = "127.0.0.1:7002".parse().expect("an address");

    let server = land.server.nodepass_with(&server, REPORT, &[]);
    server.says("Waiting for a client", GRACE);
    let began = Instant::now();
    let process = land.client.nodepass_with(&client, "60s", &[]);
    server.says("|POOL=64|", GRACE);
    let filled = began.elapsed();
    drop(process);
    server.says("ended", GRACE);

    let began = Instant::now();
    let _process = land.client.nodepass_with(&client, "60s", &[]);
    land.server.enter(|| {
        while exchange(users, b"first").is_err() {
            assert!(began.elapsed() < GRACE, "no user is served");
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    Some([began.elapsed(), filled])
}

const ROUNDS: usize = 3;
/// How often the server tells the state of its pool: what the times are exact to.
const REPORT: &str = "5ms";
