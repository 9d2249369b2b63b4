//! The environment variables, and signals to the process.

use super::targets::Full;
use crate::support::*;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

#[test]
fn a_bad_value_is_an_error_that_names_the_variable() {
    for (name, value) in [
        ("NP_SEMAPHORE_LIMIT", "many"),
        ("NP_TCP_DATA_BUF_SIZE", "-1"),
        ("NP_UDP_DATA_BUF_SIZE", "64k"),
        ("NP_HANDSHAKE_TIMEOUT", "5"),
        ("NP_TCP_DIAL_TIMEOUT", "soon"),
        ("NP_UDP_DIAL_TIMEOUT", "-5s"),
        ("NP_UDP_READ_TIMEOUT", "1 minute"),
        ("NP_POOL_GET_TIMEOUT", "x"),
        ("NP_MIN_POOL_INTERVAL", "x"),
        ("NP_MAX_POOL_INTERVAL", "x"),
        ("NP_REPORT_INTERVAL", "5sec"),
        ("NP_FALLBACK_INTERVAL", "x"),
        ("NP_QUIC_RETRY_INTERVAL", "x"),
        ("NP_SERVICE_COOLDOWN", "x"),
        ("NP_SHUTDOWN_TIMEOUT", "x"),
        ("NP_RELOAD_INTERVAL", "0x10s"),
    ] {
        let process = Process::nodepass_with(&["client://127.0.0.1:9000/127.0.0.1:9?mode=1"], &[(name, value)]);
        let line = process.says(name, GRACE);
        assert!(line.contains("Error: bad ") && line.contains(&format!("\"{value}\": expected ")), "{line}");
        assert_eq!(process.wait(GRACE), 1);
    }
}

#[test]
fn a_tunnel_works_with_the_defaults() {
    let tunnel = QUICK.iter().fold(Tunnel::reverse().server("tls=1"), |builder, (name, _)| {
        let default = match *name {
            "NP_REPORT_INTERVAL" | "NP_SHUTDOWN_TIMEOUT" | "NP_POOL_GET_TIMEOUT" | "NP_HANDSHAKE_TIMEOUT" => "5s",
            "NP_SERVICE_COOLDOWN" => "3s",
            "NP_MIN_POOL_INTERVAL" => "100ms",
            _ => "1s",
        };
        builder.env(name, default)
    });
    let tunnel = tunnel.start();
    tunnel.echo(b"hello");
    tunnel.udp_echo(b"hello");
}

#[test]
fn relay_buffers_of_every_size_carry_everything() {
    for size in ["1024", "4096", "262144"] {
        for tls in ["tls=0", "tls=1"] {
            let tunnel = Tunnel::reverse().server(tls).env("NP_TCP_DATA_BUF_SIZE", size).start();
            let (user, served) = tunnel.pair();
            let writer = std::thread::spawn(move || {
                put(&user, &noise(1, 3_000_000));
                user
            });
            assert!(take(&served, 3_000_000) == noise(1, 3_000_000), "{size} {tls}");
            drop(writer.join().unwrap());
        }
    }
}

#[test]
fn report_interval_is_the_pace_of_check_points() {
    each_way(|builder| {
        let tunnel = builder.env("NP_REPORT_INTERVAL", "300ms").start();
        let marks: Vec<_> = tunnel.processes().iter().map(|process| (Instant::now(), process.mark())).collect();
        for (process, (start, mark)) in tunnel.processes().into_iter().zip(marks) {
            assert!(eventually(GRACE, || process.checkpoints_after(mark).len() >= 6));
            assert!(start.elapsed() > Duration::from_millis(1200), "not more often than asked for");
        }
    });
}

#[test]
fn tcp_dial_timeout_ends_a_user_whose_target_never_answers() {
    each_way(|builder| {
        let full = Full::new();
        let tunnel = builder.env("NP_TCP_DIAL_TIMEOUT", "700ms").target(full.addr).start();
        let start = Instant::now();
        assert_eq!(rest(&tunnel.connect()), b"");
        assert!(start.elapsed() > Duration::from_millis(600), "not before its time");
        tunnel.egress().says(&full.addr.to_string(), GRACE);
    });
}

#[test]
fn pool_get_timeout_ends_a_user_who_waits_for_a_pool_connection() {
    let tunnel = Tunnel::reverse().client("min=1").server("max=1").env("NP_POOL_GET_TIMEOUT", "700ms");
    let tunnel = tunnel.env("NP_REPORT_INTERVAL", "30s").start();
    // A client that is frozen makes no new connections. Users may still get what is in the pool.
    tunnel.client.signal(libc::SIGSTOP);
    let _users: Vec<TcpStream> = (0..9).map(|_| tunnel.connect()).collect();
    let start = Instant::now();
    assert_eq!(rest(&tunnel.connect()), b"");
    assert!(start.elapsed() > Duration::from_millis(500), "not before its time");
    tunnel.client.signal(libc::SIGCONT);
    until("a user", GRACE, || exchange(tunnel.user, b"hello"));
}

#[test]
fn a_user_who_waits_for_a_client_in_vain_is_told_with_what_to_look_at() {
    let user = free_addr();
    let url = format!("server://k@{}/{user}?mode=1&tls=1", free_addr());
    let server = Process::nodepass_with(&[&url], &[("NP_POOL_GET_TIMEOUT", "300ms")]);
    server.says("Waiting for a client", GRACE);
    assert_eq!(rest(&connect(user)), b"");
    server.says("closed after 300ms: no client is connected: is it started, and with this key?", GRACE);
}

#[test]
fn handshake_timeout_closes_a_client_that_never_finishes_its_request() {
    let port = free_port();
    let _server = Process::nodepass_with(
        &[&format!("server://k@127.0.0.1:{port}/127.0.0.1:{}?mode=1", free_port())],
        &[("NP_HANDSHAKE_TIMEOUT", "700ms")],
    );
    let (start, client) = until("the server", GRACE, || {
        let now = Instant::now();
        try_connect(([127, 0, 0, 1], port).into()).map(|client| (now, client))
    });
    put(&client, b"GET / HT");
    assert!(!rest(&client).starts_with(b"HTTP/1.1 200"));
    assert!(start.elapsed() > Duration::from_millis(500), "not before its time");
}

#[test]
fn handshake_timeout_makes_a_client_try_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let start = Instant::now();
    let _client = Process::nodepass_with(
        &[&format!("client://k@{addr}/127.0.0.1:9?mode=2")],
        &[("NP_HANDSHAKE_TIMEOUT", "700ms")],
    );
    let (_silent, _) = listener.accept().unwrap();
    let (_second, _) = listener.accept().unwrap();
    assert!(start.elapsed() > Duration::from_millis(990), "its timeout, and the pause after it (300 ms)");
}

#[test]
fn service_cooldown_is_the_pause_between_two_attempts() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let _client = Process::nodepass_with(
        &[&format!("client://k@{addr}/127.0.0.1:9?mode=2&auth=0&log=debug")],
        &[("NP_SERVICE_COOLDOWN", "900ms")],
    );
    let mut times = Vec::new();
    for _ in 0..3 {
        let (mut stream, _) = listener.accept().unwrap();
        times.push(Instant::now());
        stream.set_read_timeout(Some(GRACE)).unwrap();
        let _ = stream.read(&mut [0; 1000]);
        let _ = stream.write_all(b"HTTP/1.1 401 Unauthorized\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    }
    for pair in times.windows(2) {
        assert!(pair[1] - pair[0] > Duration::from_millis(800), "{:?}", pair[1] - pair[0]);
    }
}

#[test]
fn pool_intervals_are_the_pace_of_a_client_whose_pool_connections_fail() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let _client = Process::nodepass_with(
        &[&format!("client://k@{addr}/127.0.0.1:9?mode=2&min=1&auth=0")],
        &[("NP_MIN_POOL_INTERVAL", "800ms"), ("NP_MAX_POOL_INTERVAL", "800ms"), ("NP_REPORT_INTERVAL", "1m")],
    );
    let answer = r#"{"flow":"-","max":8,"tls":"0","type":"0"}"#;
    let (mut handshake, _) = listener.accept().unwrap();
    let _ = handshake.read(&mut [0; 2000]);
    write!(handshake, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{answer}", answer.len())
        .unwrap();
    drop(handshake);
    // The first pool connection is the control connection, all others are closed before they get an id.
    let (mut control, _) = listener.accept().unwrap();
    let start = Instant::now();
    control.write_all(&[0; 4]).unwrap();
    for _ in 0..6 {
        drop(listener.accept().unwrap());
    }
    // The first ones belong to the first fill, and the success of the control connection makes the pool bolder for once: three
    // pauses are left.
    assert!(start.elapsed() > Duration::from_millis(2300), "{:?}", start.elapsed());
}

#[test]
fn an_absent_server_is_told_once_and_not_at_every_attempt() {
    let port = free_port();
    let (target, user) = (Target::echo(), free_addr());
    let client = format!("client://a-key-of-some-length@127.0.0.1:{port}/{}?mode=2&log=debug", target.addr());
    let client = Process::nodepass_with(&[&client], &[("NP_SERVICE_COOLDOWN", "100ms")]);
    assert!(eventually(GRACE, || client.count("failed again") >= 10), "it goes on trying");
    let complaints = client.count("  ERROR  ") + client.count("  WARN  ");
    assert_eq!(complaints, 1, "{:?}", client.lines());
    let _server = Process::nodepass(&format!("server://a-key-of-some-length@127.0.0.1:{port}/{user}?mode=1"));
    until("a user", GRACE, || exchange(user, b"hello"));
}

#[test]
fn workers_are_as_many_as_asked_for() {
    let target = Target::echo();
    let threads = ["1", "3"].map(|workers| {
        let user = free_addr();
        let url = format!("client://{user}/{}?mode=1", target.addr());
        let process = Process::nodepass_with(&[&url], &[("NP_WORKERS", workers)]);
        until("a user", GRACE, || exchange(user, b"hello"));
        process.threads()
    });
    assert_eq!(threads[1] - threads[0], 2, "{threads:?}");
    assert!(threads[0] <= 5, "hub, one worker, resolver, signals: {threads:?}");
}

// ---- signals

#[test]
fn a_stop_before_a_user_came_is_graceful_in_every_role() {
    for url in [
        format!("server://k@127.0.0.1:{}/127.0.0.1:{}?mode=1", free_port(), free_port()),
        format!("server://k@127.0.0.1:{}/127.0.0.1:{}?mode=2", free_port(), free_port()),
        format!("client://k@127.0.0.1:{}/127.0.0.1:{}?mode=2", free_port(), free_port()),
        format!("client://k@127.0.0.1:{}/127.0.0.1:{}?mode=1", free_port(), free_port()),
    ] {
        for signal in [libc::SIGTERM, libc::SIGINT] {
            let process = Process::nodepass(&url);
            process.says("", GRACE);
            process.signal(signal);
            assert_eq!(process.wait(GRACE), 0, "{url}");
        }
    }
}

#[test]
fn a_stop_lets_relays_finish_and_takes_no_new_users() {
    each_way(|builder| {
        // Longer than the test waits: only the relay's end can end the process in time.
        let tunnel = builder.env("NP_SHUTDOWN_TIMEOUT", "10m").start();
        let (user, served) = tunnel.pair();
        put(&user, b"before");
        assert_eq!(take(&served, 6), b"before");
        tunnel.ingress().terminate();
        assert!(
            eventually(GRACE, || try_connect(tunnel.user).map_or(true, |late| refused_late(&late))),
            "no new users"
        );
        put(&user, b"after");
        assert_eq!(take(&served, 5), b"after");
        put(&served, b"answer");
        assert_eq!(take(&user, 6), b"answer");
        assert_eq!(tunnel.ingress().ended(), None, "it waits for the relay");
        drop(user);
        assert_eq!(rest(&served), b"");
        drop(served);
        assert_eq!(tunnel.ingress().wait(GRACE), 0);
    });
}

fn refused_late(user: &TcpStream) -> bool {
    user.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    try_rest(user).is_ok()
}

#[test]
fn a_stop_of_the_side_that_dials_lets_relays_finish_too() {
    each_tunnel(|builder| {
        let tunnel = builder.env("NP_SHUTDOWN_TIMEOUT", "10m").start();
        let (user, served) = tunnel.pair();
        put(&user, b"before");
        assert_eq!(take(&served, 6), b"before");
        tunnel.egress().terminate();
        tunnel.egress().says("Stopping: ", GRACE);
        put(&user, b"after");
        assert_eq!(take(&served, 5), b"after");
        drop(user);
        drop(served);
        assert_eq!(tunnel.egress().wait(GRACE), 0);
    });
}

#[test]
fn a_stop_takes_no_longer_than_its_timeout() {
    each_way(|builder| {
        let tunnel = builder.env("NP_SHUTDOWN_TIMEOUT", "1s").start();
        let (user, served) = tunnel.pair();
        put(&user, b"x");
        assert_eq!(take(&served, 1), b"x");
        let start = Instant::now();
        tunnel.ingress().terminate();
        assert_eq!(tunnel.ingress().wait(GRACE), 0);
        assert!(start.elapsed() > Duration::from_millis(800), "the relay was given its time");
        rest(&user);
        rest(&served);
    });
}

#[test]
fn a_second_stop_ends_at_once() {
    for server in [true, false] {
        let tunnel = Tunnel::reverse().env("NP_SHUTDOWN_TIMEOUT", "10m").start();
        let (user, served) = tunnel.pair();
        put(&user, b"x");
        assert_eq!(take(&served, 1), b"x");
        let process = if server { tunnel.ingress() } else { tunnel.egress() };
        let mark = process.mark();
        process.terminate();
        // Something is said about the stop; then the second one comes.
        process.says_after(mark, "  INFO  ", GRACE);
        assert_eq!(process.ended(), None);
        process.terminate();
        process.wait(GRACE);
    }
}

#[test]
fn a_closed_log_does_not_end_the_tunnel() {
    let (target, user) = (Target::echo(), free_addr());
    let mut command = nodepass_command();
    command.arg(format!("client://{user}/{}?mode=1&log=debug", target.addr()));
    let (reader, writer) = UnixStream::pair().unwrap();
    let ends = [writer.try_clone().unwrap(), writer].map(OwnedFd::from);
    let [out, err] = ends.map(Stdio::from);
    command.stdin(Stdio::null()).stdout(out).stderr(err);
    let process = Process::unheard("client", command);
    drop(reader);
    for _ in 0..20 {
        until("a user", GRACE, || exchange(user, b"hello"));
    }
    assert_eq!(process.ended(), None);
}
