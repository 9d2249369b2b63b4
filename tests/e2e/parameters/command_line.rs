//! What the binary says before it does anything, and `log`.

use super::{nodepass, refused};
use crate::support::*;

const PARAMETERS: &[&str] = &[
    "log", "tls", "crt", "key", "dns", "sni", "lbs", "min", "max", "mode", "type", "quic", "dial", "read", "rate",
    "slot", "proxy", "block", "notcp", "noudp",
];

const VARIABLES: &[&str] = &[
    "NP_SEMAPHORE_LIMIT",
    "NP_TCP_DATA_BUF_SIZE",
    "NP_UDP_DATA_BUF_SIZE",
    "NP_HANDSHAKE_TIMEOUT",
    "NP_TCP_DIAL_TIMEOUT",
    "NP_TCP_KEEPALIVE",
    "NP_UDP_DIAL_TIMEOUT",
    "NP_UDP_READ_TIMEOUT",
    "NP_POOL_GET_TIMEOUT",
    "NP_MIN_POOL_INTERVAL",
    "NP_MAX_POOL_INTERVAL",
    "NP_REPORT_INTERVAL",
    "NP_FALLBACK_INTERVAL",
    "NP_QUIC_RETRY_INTERVAL",
    "NP_SERVICE_COOLDOWN",
    "NP_SHUTDOWN_TIMEOUT",
    "NP_RELOAD_INTERVAL",
    "NP_STATE_DIR",
];

#[test]
fn help_lists_every_parameter_and_variable() {
    for asked in ["help", "--help", "-h"] {
        let (status, out, errors) = nodepass(&[asked]);
        assert_eq!((status, errors.as_str()), (0, ""), "{asked}");
        for name in PARAMETERS {
            let listed = out.lines().any(|line| line.trim_start().trim_start_matches("--").starts_with(name));
            assert!(listed, "{asked}: {name} is missing in\n{out}");
        }
        for name in VARIABLES {
            assert!(out.contains(name), "{asked}: {name} is missing in\n{out}");
        }
    }
}

#[test]
fn version_names_system_and_features() {
    for asked in ["version", "--version", "-v"] {
        let (status, out, errors) = nodepass(&[asked]);
        assert_eq!((status, errors.as_str()), (0, ""), "{asked}");
        assert!(out.contains(env!("CARGO_PKG_VERSION")), "{out}");
        assert!(out.contains("linux/"), "{out}");
    }
}

/// Scripts of the original's users run the bare program and cut the version out of what it prints.
#[test]
fn the_bare_program_prints_its_version_on_stdout() {
    let (status, out, errors) = nodepass(&[]);
    assert_eq!((status, out.lines().count()), (1, 1), "{out}");
    assert!(out.starts_with(concat!("nodepass-v", env!("CARGO_PKG_VERSION"), " linux/")), "{out}");
    assert!(errors.starts_with("Error: no argument"), "{errors}");
}

#[test]
fn an_error_is_one_line_with_what_is_wrong_and_then_the_usage() {
    refused(&[], 1, &[]);
    let (_, _, errors) = nodepass(&["gateway://127.0.0.1:9000/127.0.0.1:9001"]);
    assert!(errors.lines().count() > 1 && errors.contains("server"), "the usage follows: {errors}");
    refused(&["gateway://127.0.0.1:9000/127.0.0.1:9001"], 1, &["gateway", "server", "client", "master"]);
    refused(&["nonsense"], 1, &["nonsense"]);
    refused(&["server://127.0.0.1:9000"], 1, &["target"]);
    refused(&["server://127.0.0.1/127.0.0.1:80"], 1, &["port"]);
    refused(&["client://127.0.0.1:9000/127.0.0.1:99999"], 1, &["99999"]);
    refused(&["client://127.0.0.1:9000/127.0.0.1:0"], 1, &["port"]);
    refused(&["client://[::1:9000/127.0.0.1:80"], 1, &[]);
}

#[test]
fn a_bad_value_names_the_parameter_the_value_and_what_is_accepted() {
    let cases = [
        ("log", "loud", "debug"),
        ("tls", "3", "2"),
        ("dns", "5 minutes", "dns"),
        ("dns", "-1s", "dns"),
        ("lbs", "3", "2"),
        ("min", "0", "min"),
        ("min", "many", "min"),
        ("mode", "3", "2"),
        ("mode", "one", "1"),
        ("dial", "somewhere", "auto"),
        ("dial", "10.0.0.0/8", "auto"),
        ("read", "soon", "read"),
        ("rate", "-1", "rate"),
        ("rate", "fast", "rate"),
        ("slot", "-1", "slot"),
        ("proxy", "2", "1"),
        ("block", "4", "3"),
        ("block", "x", "3"),
        ("notcp", "2", "1"),
        ("noudp", "yes", "1"),
    ];
    for (name, value, accepted) in cases {
        let url = format!("client://127.0.0.1:9000/127.0.0.1:9001?{name}={}", value.replace(' ', "%20"));
        refused(&[&url], 1, &[name, value, accepted]);
    }
    for (name, value) in [("max", "0"), ("max", "x"), ("type", "4"), ("type", "quic"), ("quic", "2"), ("tls", "on")] {
        let url = format!("server://127.0.0.1:9000/127.0.0.1:9001?{name}={value}");
        refused(&[&url], 1, &[name, value]);
    }
}

#[test]
fn a_target_that_is_the_tunnel_itself_is_a_loop() {
    for url in [
        "client://127.0.0.1:9000/127.0.0.1:9000?mode=1",
        "client://:9000/127.0.0.1:9000?mode=1",
        "client://:9000/192.0.2.1:9000?mode=1",
        "client://127.0.0.1:9000/localhost:9000?mode=1",
        "client://localhost:9000/:9000?mode=1",
        "server://127.0.0.1:9000/127.0.0.1:9000",
        "server://[::1]:9000/[::1]:9000",
        "client://127.0.0.1:9000/127.0.0.1:9001,127.0.0.1:9000?mode=1",
    ] {
        refused(&[url], 1, &["target", "9000", "tunnel's own"]);
    }
}

#[test]
fn equal_ports_of_different_addresses_are_no_loop() {
    let target = Target::echo();
    let port = target.addr().port();
    let process = Process::nodepass(&format!("client://127.0.0.2:{port}/127.0.0.1:{port}?mode=1"));
    until("a user", GRACE, || exchange(([127, 0, 0, 2], port).into(), b"hello"));
    drop(process);
}

#[test]
fn what_is_mistyped_is_asked_back() {
    refused(&["sever://127.0.0.1:9000/127.0.0.1:80"], 1, &["bad role \"sever\"", "did you mean server?"]);
    refused(&["server:secret@127.0.0.1:9000/127.0.0.1:80"], 1, &["server:...", "server://key@host:port/target:port"]);
    refused(&["client://127.0.0.1:9000/http://127.0.0.1:80"], 1, &["http://127.0.0.1:80", "without http://"]);
    refused(&["server", "--tunnel-port", "9000", "--target-port", "x"], 2, &["bad --target-port \"x\""]);
    refused(&["server", "--tunnel-port", "9000", "--tsl", "1"], 2, &["--tsl", "did you mean --tls?"]);
    let url = format!("client://{}/127.0.0.1:9?mode=1&tsl=1", free_addr());
    let process = Process::nodepass_with(&[&url], &[("NP_WORKER", "1")]);
    process.says("unknown parameter tsl: ignored; did you mean tls?", GRACE);
    process.says("unknown variable NP_WORKER: did you mean NP_WORKERS?", GRACE);
}

#[test]
fn help_on_a_role_or_a_name_shows_that_alone() {
    for (asked, shown, other) in [
        (&["server", "--help"][..], "  max ", "  min "),
        (&["help", "client"], "  min ", "  max "),
        (&["help", "tls"], "  tls ", "  log "),
        (&["help", "NP_WORKERS"], "  NP_WORKERS ", "NP_URL"),
    ] {
        let (status, out, errors) = nodepass(asked);
        assert_eq!((status, errors.as_str()), (0, ""), "{asked:?}");
        assert!(out.contains(shown) && !out.contains(other), "{asked:?}: {out}");
    }
    let (_, all, _) = nodepass(&["help"]);
    assert!(all.contains("NP_QUIC_RETRY_INTERVAL  with type=1"), "{all}");
    assert!(all.contains("HTTPS_PROXY") && all.contains("SSL_CERT_FILE"), "{all}");
    let (status, version, _) = nodepass(&["-V"]);
    assert!(status == 0 && version.contains(env!("CARGO_PKG_VERSION")), "{version}");
    refused(&["help", "tsl"], 2, &["no help on \"tsl\"", "did you mean tls?"]);
}

#[test]
fn an_unknown_parameter_is_only_a_warning() {
    let target = Target::echo();
    let user = free_addr();
    let process = Process::nodepass(&format!("client://{user}/{}?mode=1&colour=blue", target.addr()));
    let line = process.says("colour", GRACE);
    assert!(line.contains("  WARN  "), "{line}");
    until("a user", GRACE, || exchange(user, b"hello"));
}

#[test]
fn flags_do_what_the_url_does() {
    let target = Target::echo();
    let (user, at) = (free_port(), target.addr().port().to_string());
    let port = user.to_string();
    let ends =
        ["--tunnel-addr", "127.0.0.1", "--tunnel-port", &port, "--target-addr", "127.0.0.1", "--target-port", &at];
    let process = Process::nodepass_with(&[&["client"], &ends[..], &["--mode", "1", "--log", "event"]].concat(), &[]);
    let user = ([127, 0, 0, 1], user).into();
    until("a user", GRACE, || exchange(user, b"hello"));
    assert!(!process.said("  INFO  ") && process.count("CHECK_POINT|MODE=1|") <= process.lines().len());
    process.says("CHECK_POINT|MODE=1|", GRACE);
}

#[test]
fn flags_make_a_whole_tunnel_with_several_targets() {
    let (target, dead) = (Target::echo(), free_addr());
    let (tunnel, user) = (free_port().to_string(), free_addr());
    let user_port = user.port().to_string();
    let tunnel = ["--password", "a key with spaces & signs", "--tunnel-addr", "127.0.0.1", "--tunnel-port", &tunnel];
    let users = ["--target-addr", "127.0.0.1", "--target-port", &user_port, "--mode", "1", "--tls", "1", "--max", "8"];
    let targets = format!("{dead},{}", target.addr());
    let server = Process::nodepass_with(&[&["server"], &tunnel[..], &users].concat(), &[]);
    let client =
        Process::nodepass_with(&[&["client"], &tunnel[..], &["--targets", &targets, "--mode", "2"]].concat(), &[]);
    until("a user", GRACE, || exchange(user, b"hello"));
    for process in [server, client] {
        assert!(!process.said("signs"), "the key is never logged");
    }
}

#[test]
fn a_bad_flag_is_a_usage_error() {
    let ends = ["client", "--tunnel-addr", "127.0.0.1", "--tunnel-port", "9000", "--target-port", "9001"];
    refused(&[&ends[..], &["--colour", "blue"]].concat(), 2, &["colour"]);
    refused(&[&ends[..], &["--mode"]].concat(), 2, &["mode"]);
}

#[test]
fn each_level_shows_what_it_says_and_events_at_all_but_none() {
    let levels = ["DEBUG", "INFO", "WARN", "ERROR", "EVENT"];
    for (n, level) in ["debug", "info", "warn", "error", "event"].into_iter().enumerate() {
        // A port that is taken gives errors, a server without a key a warning, a start information.
        let taken = Target::echo();
        let server = format!("server://127.0.0.1:{}/{}?mode=1&log={level}", free_port(), taken.addr());
        let server = Process::nodepass(&server);
        let busy = Tunnel::single().client(&format!("log={level}")).start();
        busy.echo(b"something to log");
        busy.client.says("CHECK_POINT", GRACE);
        if n <= 2 {
            server.says("  WARN  ", GRACE);
        }
        if n <= 3 {
            server.says("  ERROR  ", GRACE);
        }
        if n <= 1 {
            server.says("  INFO  ", GRACE);
        }
        if n == 0 {
            busy.client.says("  DEBUG  ", GRACE);
        }
        for line in server.lines().iter().chain(&busy.client.lines()) {
            let found = check_form(line);
            assert!(levels[n..].contains(&found), "log={level} shows {line:?}");
        }
    }
}

#[test]
fn level_none_shows_nothing() {
    let tunnel = Tunnel::reverse().both("log=none").env("NP_REPORT_INTERVAL", "200ms").start();
    tunnel.echo(b"hello");
    // Check points of its own would have been many.
    reports_elsewhere(2);
    tunnel.processes().iter().for_each(|process| process.terminate());
    for process in tunnel.processes() {
        assert_eq!(process.wait(GRACE), 0);
        assert_eq!(process.lines(), Vec::<String>::new());
    }
}

#[test]
fn a_log_line_has_time_and_level_and_no_colour_in_a_pipe() {
    let tunnel = Tunnel::reverse().start();
    tunnel.echo(b"hello");
    tunnel.server.as_ref().unwrap().says("CHECK_POINT", GRACE);
    tunnel.client.says("CHECK_POINT", GRACE);
    for process in tunnel.processes() {
        assert!(process.lines().iter().all(|line| check_form(line) != "NONE"));
        assert!(!process.said("a-test-key"), "the key is never logged");
        assert!(process.lines_of(true).is_empty(), "the log goes to stdout");
    }
    let target = Target::echo();
    let mut command = nodepass_command();
    command.arg(format!("client://127.0.0.1:{}/{}?mode=1", free_port(), target.addr()));
    command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .stdin(std::process::Stdio::null());
    let mut child = start_child(command).unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!line.is_empty() && !line.contains('\x1b'), "{line:?}");
}

/// `2026-01-31 18:05:09.123  INFO  text`; the level.
fn check_form(line: &str) -> &str {
    let shape: String = line.chars().take(23).map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(shape, "0000-00-00 00:00:00.000", "{line:?}");
    let (level, text) = line[23..].strip_prefix("  ").and_then(|rest| rest.split_once("  ")).expect("two spaces");
    assert!(!text.is_empty(), "{line:?}");
    level
}
