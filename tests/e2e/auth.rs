//! Who is let in, and how: the parameter `auth`, between programs of every kind of it.

use crate::pair::Pair;
use crate::support::*;
use std::time::Duration;

const KEY: &str = "a-good-key-of-24-letters";

#[test]
fn two_of_this_program_authenticate_each_other_and_no_certificate_check_is_needed() {
    each_tunnel(|builder| {
        let tunnel = builder.both("auth=2&log=debug").start();
        tunnel.echo(&noise(1, 100_000));
        tunnel.udp_echo(b"and datagrams");
        for process in tunnel.processes() {
            process.says(" is up: users at the", GRACE);
            assert!(process.said("; authenticated") && !process.said("verified"), "{process:?}");
        }
    });
}

#[test]
fn every_pair_of_modes_comes_to_a_tunnel_or_to_a_clear_word() {
    for tls in ["tls=0", "tls=1", "type=3"] {
        for (server, client, authenticated) in [
            ("auth=1", "auth=1", true),
            ("auth=2", "auth=1", true),
            ("auth=1", "auth=2", true),
            ("auth=0", "auth=1", false),
            ("auth=1", "auth=0", false),
            ("auth=0", "auth=0", false),
        ] {
            let pair = Pair::new(&format!("{server}&{tls}"), client, [KEY; 2]);
            pair.carries();
            for (process, own) in [(&pair.server, server), (&pair.client, client)] {
                let line = process.says(" is up: users at the", GRACE);
                assert_eq!(line.ends_with("; authenticated"), authenticated, "{server} {client} {tls}: {line}");
                let warned = process.count("is an original NodePass's") == 1;
                assert_eq!(warned, !authenticated && own != "auth=0", "{server} {client} {tls}: {process:?}");
            }
        }
    }
}

#[test]
fn a_server_that_wants_authentication_refuses_others_and_says_what_they_lack() {
    let pair = Pair::new("auth=2", "auth=0", [KEY; 2]);
    let line = pair.client.says("Client error: handshake", GRACE);
    assert!(line.contains("401") && line.contains("auth="), "{line}");
    let line = pair.server.says("refused", GRACE);
    assert!(line.contains("  WARN  ") && line.contains("127.0.0.1") && line.contains("auth=2"), "{line}");
    pair.client.says("Handshake with", GRACE);
    assert_eq!(
        pair.server.count("  WARN  "),
        pair.server.count("tls=0: what users say") + 1,
        "one line for all of them"
    );
    assert_eq!(pair.target.accepted(), 0);
}

#[test]
fn a_client_that_wants_authentication_refuses_servers_that_do_not_know_it() {
    let pair = Pair::new("auth=0&tls=1", "auth=2", [KEY; 2]);
    let line = pair.client.says("Client error: handshake", GRACE);
    assert!(line.contains("does not know the authenticated handshake"), "{line}");
    assert_eq!(pair.server.count(" is up: users"), 0);
}

#[test]
fn both_sides_say_that_the_keys_differ() {
    for (server, client) in [("auth=1", "auth=1"), ("auth=2", "auth=2")] {
        let pair = Pair::new(server, client, [KEY, "another-good-key-of-more"]);
        assert!(pair.client.says("Client error: handshake", GRACE).contains("the keys differ"));
        let line = pair.server.says("the keys differ", GRACE);
        assert!(line.contains("127.0.0.1") && !line.contains("key@"), "{line}");
        pair.client.says("failed again", GRACE);
        assert_eq!(pair.server.count("the keys differ"), 1, "one line in ten seconds");
        assert_eq!((pair.server.count(" is up: users"), pair.target.accepted()), (0, 0));
    }
}

#[test]
fn clients_at_one_address_are_three_and_not_one() {
    let (user, at) = (free_addr(), free_addr());
    let server = Process::nodepass(&format!("server://{KEY}@{at}/{user}?mode=1&clients=0&auth=2&tls=1"));
    server.says("Waiting for a client", GRACE);
    let targets: Vec<Target> = (0..3).map(|_| Target::echo()).collect();
    let client =
        |target: &Target| Process::nodepass(&format!("client://{KEY}@{at}/{}?mode=2&min=4&auth=2", target.addr()));
    let clients: Vec<Process> = targets.iter().map(client).collect();
    clients.iter().for_each(|client| drop(client.says(" is up: users", GRACE)));
    let mut users = Vec::new();
    let each_has_one = eventually(GRACE, || {
        users.push(connect(user));
        put(&users[users.len() - 1], b"here");
        assert_eq!(take(&users[users.len() - 1], 4), b"here");
        targets.iter().all(|target| target.accepted() > 0)
    });
    assert!(each_has_one);
    assert_eq!((server.count(" is up: users"), server.count(" ended: ")), (3, 0));
}

#[test]
fn an_original_never_takes_the_place_of_an_authenticated_client() {
    let (target, user, at) = (Target::echo(), free_addr(), free_addr());
    let server = Process::nodepass(&format!("server://{KEY}@{at}/{user}?mode=1&tls=1"));
    server.says("Waiting for a client", GRACE);
    let client =
        |auth: u8| Process::nodepass(&format!("client://{KEY}@{at}/{}?mode=2&min=4&auth={auth}", target.addr()));
    let ours = client(2);
    until("a user", GRACE, || exchange(user, b"hello"));
    let held = connect(user);
    put(&held, b"here");
    assert_eq!(take(&held, 4), b"here");
    let original = client(0);
    server.says("an authenticated client has the tunnel", GRACE);
    original.says("ended", GRACE);
    put(&held, b"still here");
    assert_eq!(take(&held, 10), b"still here");
    assert_eq!(ours.count("ended"), 0);
}

#[test]
fn a_client_follows_its_server_to_another_program_and_back() {
    // Not one that it authenticated: that it never leaves.
    let (target, user, at) = (Target::echo(), free_addr(), free_addr());
    let server = |auth: u8| {
        let server = Process::nodepass(&format!("server://{KEY}@{at}/{user}?mode=1&tls=1&auth={auth}"));
        server.says("Waiting for a client", GRACE);
        server
    };
    let original = server(0);
    let url = format!("client://{KEY}@{at}/{}?mode=2&min=4&log=debug", target.addr());
    let client = Process::nodepass_with(&[&url], &[("NP_SERVICE_COOLDOWN", "300ms")]);
    until("a user", GRACE, || exchange(user, b"hello"));
    original.kill();
    original.wait(GRACE);
    let mark = client.mark();
    let ours = server(1);
    assert!(client.says_after(mark, " is up: users", GRACE).contains("; authenticated"));
    until("a user", GRACE, || exchange(user, b"hello"));
    ours.kill();
    ours.wait(GRACE);
    let mark = client.mark();
    let _original = server(0);
    client.says_after(mark, "does not know the authenticated handshake", GRACE);
    assert!(exchange(user, b"hello").is_err());
}

#[test]
fn wire_names_the_only_generation_that_is_spoken() {
    for wire in ["1.13", "1.14", "2.0b8", "2.0"] {
        for tls in [0, 1] {
            let pair = Pair::new(&format!("wire={wire}&tls={tls}"), &format!("wire={wire}"), [KEY; 2]);
            pair.carries();
            assert_eq!(udp_echo(pair.user, b"datagrams too").unwrap(), b"datagrams too");
            for process in [&pair.server, &pair.client] {
                process.says(&format!("; the wire of NodePass {wire}"), GRACE);
            }
        }
    }
    let pair = Pair::new("wire=2.0", "wire=1.14", [KEY; 2]);
    pair.server.says("it is of another NodePass than the parameter wire names", GRACE);
    pair.client.says("Client error: handshake", GRACE);
    assert_eq!(pair.target.accepted(), 0);
    let (status, _, errors) = {
        let mut command = nodepass_command();
        command.arg("server://k@127.0.0.1:1/127.0.0.1:2?auth=2&wire=2.0");
        output(command)
    };
    assert!(status == 1 && errors.contains("wire=auto with auth=2"), "{errors}");
}

#[test]
fn a_new_key_is_long_and_another_each_time() {
    let key = || {
        let mut command = nodepass_command();
        command.arg("key");
        let (status, out, errors) = output(command);
        assert_eq!((status, errors.as_str()), (0, ""));
        out
    };
    let (one, other) = (key(), key());
    assert!(one != other && one.len() == 26, "{one:?} {other:?}");
    let fit = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    assert!(one.trim_end().bytes().all(fit), "{one:?}");
}

#[test]
fn weak_keys_and_tunnels_in_the_clear_are_told_at_the_start() {
    for (query, key, words) in [
        ("tls=1", "", "no key given"),
        ("tls=1", "short@", "a key of 5 characters"),
        ("tls=0", "a-good-key-of-24-letters@", "tls=1 encrypts it"),
        ("tls=0&auth=2", "a-good-key-of-24-letters@", "the key and the signals do not"),
    ] {
        let (at, user) = (free_addr(), free_addr());
        let server = Process::nodepass(&format!("server://{key}{at}/{user}?mode=1&{query}"));
        let line = server.says("Waiting for a client", GRACE);
        assert!(!line.is_empty());
        let warned: Vec<String> = server.lines().into_iter().filter(|line| line.contains("  WARN  ")).collect();
        assert!(matches!(&warned[..], [line] if line.contains(words)), "{query} {key}: {warned:?}");
    }
}

/// Longer than two rounds of a test's certificate interval.
#[test]
fn a_new_certificate_is_announced_before_it_is_shown() {
    let Some(authority) = Authority::new("tunnel.test") else { return };
    let (target, user, at) = (Target::echo(), free_addr(), free_addr());
    let url = format!("server://{KEY}@{at}/{user}?mode=1&max=8&auth=2&tls=2&{}", authority.parameters());
    let server = Process::nodepass(&url);
    server.says("Waiting for a client", GRACE);
    let url = format!("client://{KEY}@{at}/{}?mode=2&min=4&auth=2&sni=tunnel.test", target.addr());
    let client = Process::nodepass_with(&[&url], &[("SSL_CERT_FILE", &authority.ca())]);
    until("a user", GRACE, || exchange(user, b"hello"));
    authority.issue("tunnel.test", "fresh");
    for end in ["key", "pem"] {
        std::fs::rename(authority.path(&format!("fresh.{end}")), authority.path(&format!("server.{end}"))).unwrap();
    }
    server.signal(libc::SIGHUP);
    client.says("The server announces a new certificate", GRACE);
    // More users than the pool held before: they are carried by connections made before, between and after.
    let mark = server.mark();
    let until_shown = std::time::Instant::now() + Duration::from_secs(2);
    while std::time::Instant::now() < until_shown || server.checkpoints_after(mark).len() < 3 {
        echoed(user, b"all the while");
    }
    assert_eq!((client.count(" ended"), client.count("not the one that the server announced")), (0, 0), "{client:?}");
    assert_eq!(client.count(" is up: users"), 1);
}
