//! Figures for a monitoring system at a server and a client (`metrics=host:port`); those of a master are in `api/metrics.rs`.

use crate::support::*;
use std::net::SocketAddr;

/// What a plain HTTP request is answered with: head and body.
pub fn ask(at: SocketAddr, request: &str) -> std::io::Result<String> {
    let stream = try_connect(at)?;
    put(&stream, format!("{request} HTTP/1.1\r\nHost: {at}\r\n\r\n").as_bytes());
    Ok(String::from_utf8_lossy(&rest(&stream)).into_owned())
}

/// Asks until the figures hold this line.
fn shows(at: SocketAddr, line: &str) {
    until(line, GRACE, || {
        let text = ask(at, "GET /metrics").map_err(|error| error.to_string())?;
        text.lines().any(|one| one == line).then_some(()).ok_or(text)
    });
}

#[test]
fn both_ends_of_a_tunnel_show_their_users_pool_and_dials() {
    let (server, client) = (free_addr(), free_addr());
    let tunnel =
        Tunnel::reverse().server(&format!("tls=1&metrics={server}")).client(&format!("metrics={client}")).start();
    let (user, served) = tunnel.pair();
    put(&user, b"hello");
    put(&served, b"answer");
    shows(server, "nodepass_users{protocol=\"tcp\"} 1");
    shows(client, "nodepass_users{protocol=\"tcp\"} 1");
    for at in [server, client] {
        shows(at, "nodepass_tunnels 1");
        shows(at, "nodepass_ready 1");
        shows(at, "nodepass_handshakes_total{result=\"accepted\",generation=\"own\"} 1");
        assert!(ask(at, "GET /ready").unwrap().starts_with("HTTP/1.1 200 OK\r\n"));
    }
    let traffic = "nodepass_traffic_bytes_total{protocol=\"tcp\",direction=";
    for at in [server, client] {
        let text = ask(at, "GET /metrics").unwrap();
        assert!(text.contains(traffic) && !text.contains(&format!("{traffic}\"sent\"}} 0\n")), "{text}");
    }
    let text = ask(server, "GET /metrics").unwrap();
    assert!(
        text.contains("\nnodepass_certificate_expiry_timestamp_seconds 1") || text.contains("_seconds 2"),
        "{text}"
    );
    assert!(text.contains("\nnodepass_pool_wait_seconds_bucket{le=\"+Inf\"} "), "{text}");
    let text = ask(client, "GET /metrics").unwrap();
    assert!(!text.contains("\nnodepass_dial_seconds_count 0\n"), "{text}");
    assert!(!text.contains("\nnodepass_pool_opens_total{result=\"opened\"} 0\n"), "{text}");
}

#[test]
fn a_server_without_a_client_is_healthy_and_not_ready() {
    let at = free_addr();
    let server = format!("server://k@{}/{}?mode=1&tls=1&metrics={at}", free_addr(), free_addr());
    let _server = Process::nodepass(&server);
    let health = until("the listener", GRACE, || ask(at, "GET /health"));
    assert!(health.starts_with("HTTP/1.1 200 OK\r\n"), "{health}");
    assert!(ask(at, "GET /ready").unwrap().starts_with("HTTP/1.1 503 "));
    assert!(ask(at, "GET /").unwrap().starts_with("HTTP/1.1 404 "));
    assert!(ask(at, "POST /metrics").unwrap().starts_with("HTTP/1.1 405 "));
    assert!(ask(at, "HEAD /metrics").unwrap().ends_with("\r\n\r\n"));
}

#[test]
fn connections_that_say_nothing_do_not_keep_a_monitoring_system_out_for_ever() {
    let at = free_addr();
    let _server = Process::nodepass(&format!("server://k@{}/{}?mode=1&tls=1&metrics={at}", free_addr(), free_addr()));
    let silent: Vec<_> = (0..8).map(|_| until("the listener", GRACE, || try_connect(at))).collect();
    shows(at, "nodepass_ready 0");
    drop(silent);
}

#[test]
fn a_port_for_metrics_that_is_taken_ends_the_start_with_its_address() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = taken.local_addr().expect("its address");
    let server = Process::nodepass(&format!("server://k@{}/{}?mode=1&metrics={at}", free_addr(), free_addr()));
    assert_eq!(server.wait(GRACE), 1);
    assert!(server.said(&at.to_string()), "{:?}", server.lines());
}
