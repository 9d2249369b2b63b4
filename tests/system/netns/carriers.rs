//! Over a long path several HTTP/2 connections carry a pool, each its part of the users.

use super::{Land, Space};
use crate::support::*;
use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

#[test]
fn users_of_http2_are_spread_over_four_connections_on_a_long_path_and_share_one_on_a_short_one() {
    if program("ss").is_none() {
        return;
    }
    for (delay, connections) in [(Duration::from_millis(10), 4), (Duration::ZERO, 1)] {
        let Some(land) = Land::new() else { return };
        land.path.delays(delay);
        let tunnel = land.tunnel("type=3&tls=1");
        let users: Vec<_> = (0..8).map(|_| land.server.enter(|| connect(tunnel.user))).collect();
        for (user, seed) in users.iter().zip(1..) {
            let said = noise(seed, PART);
            put(user, &said);
            assert!(take(user, PART) == said, "other bytes came back");
        }
        let sent = sent(&land.client);
        assert_eq!(sent.len(), connections, "{sent:?}");
        assert!(sent.values().all(|bytes| *bytes > PART), "each carries users: {sent:?}");
        drop(users);
        tunnel.is_whole();
    }
}

#[test]
fn a_connection_that_is_lost_takes_its_users_along_and_another_comes_in_its_place() {
    if program("ss").is_none() {
        return;
    }
    let Some(land) = Land::new() else { return };
    land.path.delays(Duration::from_millis(10));
    let tunnel = land.tunnel("type=3&tls=1");
    until("four connections", GRACE, || (sent(&land.client).len() == 4).then_some(()).ok_or("fewer"));
    let users: Vec<_> = (0..8).map(|_| land.server.enter(|| connect(tunnel.user))).collect();
    users.iter().for_each(still_there);
    // The one that carries the control connection has more to say than the others.
    let before = sent(&land.client);
    std::thread::sleep(Duration::from_secs(3));
    let said = |port: &u16, now: usize| now - before.get(port).unwrap_or(&0);
    let (quiet, _) = sent(&land.client).into_iter().min_by_key(|(port, now)| said(port, *now)).expect("a connection");
    ss(&land.client, &["-K", "sport", "=", &format!(":{quiet}")]);
    let whole = || sent(&land.client).into_keys().filter(|port| *port != quiet).count() == 4;
    assert!(eventually(GRACE, whole), "{quiet} of {before:?} was cut, there are {:?}", sent(&land.client));
    let left = users.iter().filter(|user| !is_closed(user)).count();
    assert!((4..8).contains(&left), "{left} of 8 users are left");
    assert!(tunnel.exchange(b"afterwards").is_ok());
    assert_eq!(tunnel.client.count("Tunnel with"), 1, "it has not begun anew");
}

/// What each connection from there to the server has sent and had acknowledged, by its own port.
fn sent(space: &Space) -> BTreeMap<u16, usize> {
    let lines = ss(space, &["-tinHO", "state", "established", "dport", "=", ":7001"]);
    let connection = |line: &str| {
        let (_, port) = line.split_whitespace().nth(2)?.rsplit_once(':')?;
        let acknowledged = line.split_once("bytes_acked:")?.1.split_whitespace().next()?;
        Some((port.parse().ok()?, acknowledged.parse().ok()?))
    };
    lines.lines().filter_map(connection).collect()
}

fn ss(space: &Space, words: &[&str]) -> String {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &space.name, "ss"]).args(words);
    output(command).1
}

/// What each user says.
const PART: usize = 40_000;
