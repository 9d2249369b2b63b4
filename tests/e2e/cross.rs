//! One short tunnel of each kind that the binary was built with, as its `version` says.
//!
//! `scripts/cross-test.sh` runs this for a binary of another processor, under an emulator: `NODEPASS` then holds the words that start it.
//! Without that it is a quick look at the native one.

use crate::support::*;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::Command;

#[test]
fn it_says_what_is_in_it() {
    let features = features();
    for always in ["tcp", "tls", "udp-frame"] {
        assert!(features.iter().any(|each| each == always), "{always} is not in {features:?}");
    }
}

#[test]
fn a_single_end_forwarder_carries_tcp_and_udp() {
    carries(Tunnel::single());
}

#[test]
fn a_single_end_forwarder_ends_tls_for_its_users() {
    let Some(curl) = program("curl") else { return };
    let web = web();
    let tunnel = Tunnel::single().client("tls=1&noudp=1").target(web.addr()).start();
    let mut command = Command::new(curl);
    command.args(["--silent", "--show-error", "--insecure", "--max-time", "60", &format!("https://{}/", tunnel.user)]);
    let (status, text, errors) = output(command);
    assert_eq!((status, text.as_str()), (0, "hello"), "{errors}");
}

#[test]
fn a_plain_tcp_pool_carries_tcp_and_udp_both_ways() {
    carries(Tunnel::reverse());
    carries(Tunnel::forward());
}

#[test]
fn a_tcp_pool_with_tls_carries_tcp_and_udp_both_ways() {
    carries(Tunnel::reverse().server("tls=1"));
    carries(Tunnel::forward().server("tls=1"));
}

#[test]
fn certificate_files_are_read_and_checked() {
    if program("openssl").is_some() {
        carries(Tunnel::reverse().certified());
    }
}

#[test]
fn a_quic_pool_carries_tcp_and_udp() {
    over("quic", "type=1");
}

#[test]
fn a_websocket_pool_carries_tcp_and_udp() {
    over("ws", "type=2");
}

#[test]
fn an_http2_pool_carries_tcp_and_udp() {
    over("h2", "type=3");
}

#[test]
fn memory_that_a_crowd_took_goes_back_when_it_is_gone() {
    if is_foreign() {
        println!("nothing to see: an emulator has memory of its own");
        return;
    }
    if !raise_limits(4 * CROWD) {
        return;
    }
    let tunnel = Tunnel::reverse().server("tls=1").start();
    tunnel.echo(b"warm");
    let memory = || tunnel.processes().iter().map(|process| process.own_memory_kb()).collect::<Vec<_>>();
    let before = memory();
    let crowd: Vec<_> = (0..CROWD)
        .map(|_| {
            let user = tunnel.connect();
            put(&user, b"here");
            (&user).read_exact(&mut [0; 4]).expect("an echo");
            user
        })
        .collect();
    let during = memory();
    drop(crowd);
    for (which, before) in before.into_iter().enumerate() {
        let grown = during[which].saturating_sub(before);
        assert!(grown > 2 * CROWD, "{grown} KiB for {CROWD} users");
        // About a MiB of it stays, of crowds of any size up to this one.
        let back = eventually(GRACE, || memory()[which] < before + grown / 2);
        assert!(back, "{before} KiB, {} with a crowd, {} after it", during[which], memory()[which]);
    }
}

#[test]
fn a_master_runs_an_instance() {
    if !built_with("master") {
        return;
    }
    let (folder, target) = (Folder::new(), Target::echo());
    let (api, user) = (free_addr(), free_addr());
    let mut command = nodepass_command();
    command.arg(format!("master://{api}/api?log=debug")).env("NP_STATE_DIR", folder.path());
    let master = Process::run("master", command);
    let line = master.says("API Key created:", GRACE);
    let key = line.split_whitespace().last().expect("a key");
    let url = format!("client://{user}/{}?mode=1", target.addr());
    until("an instance", GRACE, || post(api, key, &url));
    if emulated() && !eventually(GRACE, || exchange(user, b"hello").is_ok()) {
        assert!(!master.lines().is_empty());
        skip("binfmt_misc");
        return;
    }
    until("a user through the instance", GRACE, || exchange(user, b"hello"));
    master.terminate();
    assert_eq!(master.wait(GRACE), 0);
}

/// Users at once, each with two descriptors here.
const CROWD: usize = 1000;

/// A tunnel over another pool transport, if the binary has it.
fn over(feature: &str, server: &str) {
    if built_with(feature) {
        carries(Tunnel::reverse().server(server));
        carries(Tunnel::forward().server(server));
    }
}

/// Starts it, sends some of everything through, and stops it.
fn carries(builder: Builder) {
    let tunnel = builder.start();
    tunnel.echo(&noise(1, 300_000));
    tunnel.udp_echo(&noise(2, 1200));
    for process in tunnel.processes() {
        process.terminate();
        assert_eq!(process.wait(GRACE), 0, "{process:?} was asked to stop");
    }
}

fn built_with(feature: &str) -> bool {
    let found = features().iter().any(|each| each == feature);
    if !found {
        println!("nothing to see: this binary is built without {feature}");
    }
    found
}

/// The words after `features:` in what `version` says.
fn features() -> Vec<String> {
    let mut command = nodepass_command();
    command.arg("version");
    let (status, text, errors) = output(command);
    assert_eq!(status, 0, "{errors}");
    let list = text.split_once("(features: ").and_then(|(_, rest)| rest.strip_suffix(')'));
    list.expect("a list of features").split(' ').map(String::from).collect()
}

/// Whether an emulator runs the binary, also one that the kernel starts by itself for another processor.
fn is_foreign() -> bool {
    let machine = |path: &std::path::Path| std::fs::read(path).map(|bytes| bytes[18..20].to_vec());
    let binary = nodepass_command();
    emulated() || machine(binary.get_program().as_ref()).ok() != machine("/proc/self/exe".as_ref()).ok()
}

/// Whether an emulator was named to run it.
fn emulated() -> bool {
    std::env::var("NODEPASS").is_ok_and(|words| words.contains("qemu"))
}

/// Asks the API for an instance; it says 201.
fn post(api: SocketAddr, key: &str, url: &str) -> Result<(), String> {
    let body = format!("{{\"url\":\"{url}\"}}");
    let request = format!(
        "POST /api/v1/instances HTTP/1.1\r\nHost: {api}\r\nX-API-Key: {key}\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let stream = try_connect(api).map_err(|error| error.to_string())?;
    put(&stream, request.as_bytes());
    let answer = String::from_utf8_lossy(&rest(&stream)).into_owned();
    answer.starts_with("HTTP/1.1 201 ").then_some(()).ok_or(answer)
}

/// A web server with one page.
fn web() -> Target {
    Target::with(|mut stream| {
        let mut head = [0; 4096];
        if stream.read(&mut head).is_ok_and(|len| len > 0) {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello");
        }
    })
}
