//! A log that is not read, a disk that is full, a stdout and a stderr that are closed: users are served all the same, and
//! signals obeyed.

use crate::support::*;
use std::fs::File;
use std::io::{pipe, BufRead, BufReader, PipeReader, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::process::Stdio;

/// A pipe with no room, and who could read it.
fn full_pipe() -> (PipeReader, Stdio) {
    let (reader, mut writer) = pipe().expect("a pipe");
    // SAFETY: a plain system call on a descriptor that is open.
    let size = unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETPIPE_SZ, 4096) };
    assert!(size > 0, "{}", std::io::Error::last_os_error());
    writer.write_all(&vec![b'\n'; size as usize]).expect("room for so much");
    (reader, writer.into())
}

/// The program with this as stdout and as stderr.
fn start(url: &str, env: &[(&str, &str)], out: Stdio, err: Stdio) -> Process {
    let mut command = nodepass_command();
    command.arg(url).envs(env.iter().copied()).stdin(Stdio::null()).stdout(out).stderr(err);
    Process::unheard(url.split(':').next().unwrap_or(url), command)
}

/// What does nothing but let go of bytes for ever.
fn device(path: &str) -> Stdio {
    File::options().write(true).open(path).expect("a device").into()
}

/// Server and client with this as the stdout of each, and where users go.
fn tunnel(target: &Target, level: &str, mut out: impl FnMut() -> Stdio) -> ([Process; 2], SocketAddr) {
    let (tunnel, user) = (free_addr(), free_addr());
    let env = [("NP_REPORT_INTERVAL", "50ms")];
    let server = format!("server://a-test-key@{tunnel}/{user}?mode=1&log={level}");
    let client = format!("client://a-test-key@{tunnel}/{}?mode=2&log={level}", target.addr());
    ([server, client].map(|url| start(&url, &env, out(), Stdio::null())), user)
}

#[test]
fn users_are_served_and_sigterm_is_obeyed_while_the_log_is_not_read() {
    for level in ["debug", "info"] {
        let target = Target::echo();
        let mut readers = Vec::new();
        let (processes, user) = tunnel(&target, level, || {
            let (reader, writer) = full_pipe();
            readers.push(reader);
            writer
        });
        until("a first user", GRACE, || exchange(user, b"hello"));
        for n in 0..300 {
            echoed(user, &noise(n, 1000));
        }
        for process in &processes {
            process.terminate();
            assert_eq!(process.wait(GRACE), 0, "{process:?} at log={level}");
        }
    }
}

#[test]
fn who_reads_again_is_told_how_many_lines_are_missing_and_gets_the_last_ones() {
    let target = Target::echo();
    let mut readers = Vec::new();
    let (processes, user) = tunnel(&target, "debug", || {
        let (reader, writer) = full_pipe();
        readers.push(reader);
        writer
    });
    until("a first user", GRACE, || exchange(user, b"hello"));
    // Several lines for each of them, in 64 KiB at most.
    for n in 0..600 {
        echoed(user, &noise(n, 10));
    }
    let [server, _] = &processes;
    let mut lines = BufReader::new(readers.remove(0)).lines().map(|line| line.expect("text"));
    let told = lines.find(|line| line.contains(" not written: the log is not read")).expect("the number");
    let count = told.split("  ").last().and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
    assert!(count.is_some_and(|count| count > 0) && told.contains("  WARN  "), "{told}");
    server.terminate();
    let rest: Vec<String> = lines.collect();
    assert!(rest.last().is_some_and(|line| line.ends_with("stopped")), "{:?}", rest.last());
    assert_eq!(server.wait(GRACE), 0);
}

#[test]
fn a_disk_that_is_full_and_a_closed_stdout_harm_no_user() {
    let target = Target::echo();
    let closed = || Stdio::from(pipe().expect("a pipe").1);
    for out in [&(|| device("/dev/full")) as &dyn Fn() -> Stdio, &closed] {
        let (processes, user) = tunnel(&target, "debug", out);
        until("a first user", GRACE, || exchange(user, b"hello"));
        echoed(user, &noise(1, 1000));
        for process in &processes {
            process.terminate();
            assert_eq!(process.wait(GRACE), 0, "{process:?}");
        }
    }
}

#[test]
fn an_error_that_cannot_be_told_is_an_exit_status_all_the_same() {
    let (_reader, full) = full_pipe();
    let (unread, unread_err) = full_pipe();
    let closed = Stdio::from(pipe().expect("a pipe").1);
    let errs = [
        (device("/dev/full"), Stdio::null()),
        (closed, Stdio::null()),
        (full, Stdio::null()),
        (unread_err, device("/dev/full")),
    ];
    for (err, out) in errs {
        assert_eq!(start("nonsense://x", &[], out, err).wait(GRACE), 1);
    }
    drop(unread);
    // At the end of a start.
    let url = format!("server://k@{}/127.0.0.1:9?mode=2&tls=2&crt=/missing&key=/missing", free_addr());
    assert_eq!(start(&url, &[], Stdio::null(), device("/dev/full")).wait(GRACE), 1);
}

#[test]
fn the_last_lines_are_written_before_the_program_ends() {
    let folder = Folder::new();
    for n in 0..20 {
        let file = folder.file(&format!("log-{n}"));
        let out = File::create(&file).expect("a file");
        let at = free_addr();
        let process = start(&format!("server://k@{at}/127.0.0.1:9?mode=2"), &[], out.into(), Stdio::null());
        until("its port", GRACE, || try_connect(at));
        process.terminate();
        assert_eq!(process.wait(GRACE), 0);
        let text = std::fs::read_to_string(&file).expect("a log");
        assert!(text.lines().last().is_some_and(|line| line.ends_with("stopped")), "{text}");
    }
}

#[cfg(feature = "master")]
#[test]
fn a_master_whose_log_is_not_read_makes_instances_which_serve_and_stops() {
    let (at, state) = (free_addr(), Folder::new());
    let url = format!("master://{at}/api?log=debug");
    let env = [("NP_STATE_DIR", state.path().to_str().expect("a path")), ("NP_REPORT_INTERVAL", "50ms")];
    let first = Process::nodepass_with(&[&url], &env);
    let key = first.says("API Key created: ", GRACE).rsplit(' ').next().expect("a key").to_owned();
    first.terminate();
    assert_eq!(first.wait(GRACE), 0);

    let (_reader, full) = full_pipe();
    let master = start(&url, &env, full, Stdio::null());
    let target = Target::echo();
    let users: Vec<SocketAddr> = (0..3).map(|_| free_addr()).collect();
    for user in &users {
        let body = format!("{{\"url\":\"client://{user}/{}?mode=1&log=debug\"}}", target.addr());
        let answer = until("the API", GRACE, || post(at, &key, &body));
        assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    }
    // More than all buffers on the way to the master, and its queue, can hold.
    for user in &users {
        until("a first user", GRACE, || exchange(*user, b"hello"));
        for n in 0..1500 {
            echoed(*user, &noise(n, 10));
        }
    }
    master.terminate();
    assert_eq!(master.wait(GRACE), 0);
}

/// What the API answers to a new instance.
#[cfg(feature = "master")]
fn post(at: SocketAddr, key: &str, body: &str) -> std::io::Result<String> {
    let stream = try_connect(at)?;
    let head = format!(
        "POST /api/v1/instances HTTP/1.1\r\nHost: {at}\r\nX-API-Key: {key}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    put(&stream, (head + body).as_bytes());
    Ok(String::from_utf8_lossy(&rest(&stream)).into_owned())
}

/// A line of a log that is one object.
fn object(line: &str) -> serde_json::Value {
    serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: {line}"))
}

#[test]
fn a_log_for_programs_has_one_object_a_line_with_what_happened_to_whom() {
    let tunnel = free_addr();
    let env = [("NP_LOG_FORMAT", "json"), ("NP_REPORT_INTERVAL", "50ms")];
    let server = Process::nodepass_with(&[&format!("server://k@{tunnel}/{}?mode=1&tls=1", free_addr())], &env);
    let client = Process::nodepass_with(&[&format!("client://k@{tunnel}/{}?mode=2", free_addr())], &env);
    let up = object(&server.says("\"event\":\"tunnel_up\"", GRACE));
    assert_eq!(up["level"], "info");
    assert!(up["peer"].as_str().is_some_and(|peer| peer.starts_with("127.0.0.1:")), "{up}");
    let point = object(&client.says("\"event\":\"check_point\"", GRACE));
    assert!(point["message"].as_str().is_some_and(|text| text.starts_with("CHECK_POINT|MODE=")), "{point}");
    server.kill();
    let failed = object(&client.says("\"event\":\"handshake_failed\"", GRACE));
    assert_eq!((&failed["level"], &failed["kind"]), (&"error".into(), &"unreachable".into()), "{failed}");
    client.terminate();
    assert_eq!(client.wait(GRACE), 0);
    for line in client.lines() {
        let line = object(&line);
        assert!(line["time"].is_string() && line["level"].is_string() && line["message"].is_string(), "{line}");
    }
}

#[test]
fn check_points_are_logged_unless_they_are_to_be_left_out() {
    let quick = ("NP_REPORT_INTERVAL", "50ms");
    let quiet = ("NP_CHECK_POINT", "0");
    for (at_server, at_client) in [(&[quick, quiet][..], &[quick][..]), (&[quick][..], &[quick, quiet][..])] {
        let tunnel = free_addr();
        let server = format!("server://k@{tunnel}/{}?mode=1&tls=1", free_addr());
        let server = Process::nodepass_with(&[&server], at_server);
        let client = Process::nodepass_with(&[&format!("client://k@{tunnel}/{}?mode=2", free_addr())], at_client);
        let (talks, silent) = if at_server.len() == 1 { (&server, &client) } else { (&client, &server) };
        silent.says("Tunnel with", GRACE);
        // Both sides report as often: those of one say that the other's time has come as well.
        talks.reports(10);
        assert!(!silent.said("CHECK_POINT"), "{:?}", silent.lines());
    }
}

#[test]
fn signals_change_the_log_level_step_by_step() {
    let at = free_addr();
    let process = Process::nodepass(&format!("server://k@{at}/{}?mode=1&tls=1", free_addr()));
    process.says("Waiting for a client", GRACE);
    process.signal(libc::SIGUSR1);
    process.says("Log level is debug now", GRACE);
    for word in ["info", "warn", "error", "event"] {
        process.signal(libc::SIGUSR2);
        process.says(&format!("Log level is {word} now"), GRACE);
    }
    process.terminate();
    assert_eq!(process.wait(GRACE), 0);
    assert!(!process.said("Stopping"), "{:?}", process.lines());
}

#[test]
fn lines_that_differ_in_a_port_only_are_summed_up() {
    let at = free_addr();
    let process = Process::nodepass(&format!("client://{at}/{}?mode=1&block=2", free_addr()));
    process.says("Client started", GRACE);
    for _ in 0..20 {
        let stream = until("a connection", GRACE, || try_connect(at));
        put(&stream, b"GET / HTTP/1.1\r\n");
        rest(&stream);
    }
    process.terminate();
    assert_eq!(process.wait(GRACE), 0);
    let lines: Vec<_> = process.lines().into_iter().filter(|line| line.contains("refused by block")).collect();
    assert_eq!(lines.len(), 6, "{lines:?}");
    assert!(lines[5].contains(" (and 15 more like it in "), "{lines:?}");
}

#[cfg(feature = "master")]
#[test]
fn the_masters_api_changes_log_levels_and_its_log_for_programs_names_instances() {
    let (at, state, user) = (free_addr(), Folder::new(), free_addr());
    let env = [("NP_STATE_DIR", state.path().to_str().expect("a path")), ("NP_LOG_FORMAT", "json")];
    let master = Process::nodepass_with(&[&format!("master://{at}/api?log=info")], &env);
    let told = object(&master.says("API Key created: ", GRACE));
    let key = told["message"].as_str().and_then(|text| text.rsplit(' ').next()).expect("a key").to_owned();
    let target = Target::echo();
    let body = format!("{{\"url\":\"client://{user}/{}?mode=1\"}}", target.addr());
    let made = until("the API", GRACE, || post(at, &key, &body));
    let id = made.split("\"id\":\"").nth(1).expect("an id")[..8].to_owned();
    until("a first user", GRACE, || exchange(user, b"hello"));
    assert!(!master.said("Exchange"));
    let started = object(&master.says("\"event\":\"started\"", GRACE));
    assert_eq!(started["instance"], id.as_str());

    let answer = patch(at, &key, &id, r#"{"log":"debug"}"#);
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    master.says("Log level is debug now", GRACE);
    until("a user", GRACE, || exchange(user, b"hello"));
    assert_eq!(object(&master.says("Exchange", GRACE))["instance"], id.as_str());
    assert!(patch(at, &key, &id, r#"{"log":"loud"}"#).contains("Invalid log level: loud"));

    patch(at, &key, "********", r#"{"log":"warn"}"#);
    assert!(object(&master.says("Log level is warn now", GRACE))["instance"].is_null());
    patch(at, &key, &id, r#"{"action":"stop"}"#);
    let refused = until("its end", GRACE, || {
        let answer = patch(at, &key, &id, r#"{"log":"info"}"#);
        if answer.starts_with("HTTP/1.1 409 ") {
            Ok(answer)
        } else {
            Err(answer)
        }
    });
    assert!(refused.contains("not running"), "{refused}");
}

#[cfg(feature = "master")]
#[test]
fn why_a_child_does_not_start_is_an_error_line_of_its_own() {
    let (at, state) = (free_addr(), Folder::new());
    let env = [("NP_STATE_DIR", state.path().to_str().expect("a path"))];
    let master = Process::nodepass_with(&[&format!("master://{at}/api?log=info")], &env);
    let key = master.says("API Key created: ", GRACE).rsplit(' ').next().expect("a key").to_owned();
    let url = format!("server://k@{}/127.0.0.1:9?mode=2&tls=2&crt=/missing&key=/missing", free_addr());
    until("the API", GRACE, || post(at, &key, &format!("{{\"url\":\"{url}\"}}")));
    let line = master.says("/missing: ", GRACE);
    assert!(line.contains("  ERROR  ") && !line.contains("Error: "), "{line}");
}

/// What the API answers to a change.
#[cfg(feature = "master")]
fn patch(at: SocketAddr, key: &str, id: &str, body: &str) -> String {
    let stream = try_connect(at).expect("the API");
    let head = format!(
        "PATCH /api/v1/instances/{id} HTTP/1.1\r\nHost: {at}\r\nX-API-Key: {key}\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    put(&stream, (head + body).as_bytes());
    String::from_utf8_lossy(&rest(&stream)).into_owned()
}
