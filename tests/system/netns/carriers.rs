//! Over a long path several HTTP/2 connections carry a pool, each its part of the users.

use super::{Land, Space};
use crate::support::*;
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
        assert!(sent.iter().all(|bytes| *bytes > PART), "each carries users: {sent:?}");
        drop(users);
        tunnel.is_whole();
    }
}

/// What each connection from there to the server has sent and had acknowledged.
fn sent(space: &Space) -> Vec<usize> {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &space.name, "ss", "-tinHO", "state", "established", "dport", "=", ":7001"]);
    let (_, lines, _) = output(command);
    let acknowledged = |line: &str| line.split_once("bytes_acked:")?.1.split_whitespace().next()?.parse().ok();
    lines.lines().filter_map(acknowledged).collect()
}

/// What each user says.
const PART: usize = 40_000;
