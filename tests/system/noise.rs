//! The authenticated handshake with an implementation by another hand, in both roles (`noise_peer.py`).

use crate::support::*;
use std::process::Command;

#[test]
fn a_server_serves_users_through_a_client_by_another_hand() {
    for tls in [0, 1] {
        let (user, at) = (free_addr(), free_addr());
        let url = format!("server://{KEY}@{at}/{user}?mode=1&auth=2&tls={tls}&max=8&log=debug");
        let server = Process::nodepass(&url);
        server.says("Waiting for a client", GRACE);
        let Some(_client) = peer("client", at.port()) else { return };
        server.says("; authenticated", GRACE);
        served(user);
        assert_eq!(server.count(" ended"), 0);
    }
}

#[test]
fn a_client_serves_users_through_a_server_by_another_hand() {
    let (user, at) = (free_addr(), free_addr());
    let Some(server) = peer("server", at.port()) else { return };
    server.says("listening", GRACE);
    let client = Process::nodepass(&format!("client://{KEY}@{at}/{user}?mode=2&auth=2&min=4&log=debug"));
    client.says("; authenticated", GRACE);
    served(user);
    assert_eq!(client.count(" ended"), 0);
}

/// The other program in that role.
fn peer(role: &str, port: u16) -> Option<Process> {
    let python = python("noise.connection")?;
    let mut command = Command::new(python);
    command.args([concat!(env!("CARGO_MANIFEST_DIR"), "/tests/system/noise_peer.py"), role, &port.to_string(), KEY]);
    Some(Process::run(role, command))
}

/// Users hear what they said, in capitals.
fn served(user: std::net::SocketAddr) {
    let spoken = |text: &str| {
        let stream = try_connect(user)?;
        put(&stream, text.as_bytes());
        Ok::<_, std::io::Error>(take(&stream, text.len()))
    };
    assert_eq!(until("a user", GRACE, || spoken("hello")), b"HELLO");
    assert_eq!(spoken("and once more").unwrap(), b"AND ONCE MORE");
}

const KEY: &str = "a-good-key-of-24-letters";
