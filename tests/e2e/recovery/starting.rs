//! Ports that are taken when the program starts, and names whose addresses change while it runs.

use super::{each_flow, Urls};
use crate::support::*;
use std::fs::OpenOptions;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::process::Command;

#[test]
fn a_taken_tunnel_port_is_told_once_and_tried_again_until_it_is_free() {
    each_flow(|flow| {
        let (target, pair) = (Target::echo(), Urls::new(flow));
        let holder = TcpListener::bind(pair.tunnel).unwrap();
        let server = Process::nodepass(&pair.server(target.addr()));
        complains_once(&server, pair.tunnel);
        drop(holder);
        let client = Process::nodepass(&pair.client(target.addr()));
        until("a user", GRACE, || exchange(pair.user, b"hello"));
        drop(client);
    });
}

#[test]
fn a_taken_public_port_is_told_once_and_tried_again_until_it_is_free() {
    for flow in [Flow::Reverse, Flow::Forward, Flow::Single] {
        for udp in [false, true] {
            let (target, pair) = (Target::echo(), Urls::new(flow));
            let tcp_holder = (!udp).then(|| TcpListener::bind(pair.user).unwrap());
            let udp_holder = udp.then(|| UdpSocket::bind(pair.user).unwrap());
            let server = (flow != Flow::Single).then(|| Process::nodepass(&pair.server(target.addr())));
            let client = Process::nodepass(&pair.client(target.addr()));
            let ingress = if let (Flow::Reverse, Some(server)) = (flow, &server) { server } else { &client };
            let line = complains_once(ingress, pair.user);
            assert!(line.contains(if udp { "UDP" } else { "TCP" }), "{line}");
            // Half an entrance is none: nothing of it is open meanwhile.
            let free = || udp_holder.is_none() || TcpListener::bind(pair.user).is_ok();
            assert!(eventually(GRACE, free), "TCP is not held open longer than an attempt takes");
            drop((tcp_holder, udp_holder));
            until("a user", GRACE, || exchange(pair.user, b"hello"));
            assert_eq!(udp_echo(pair.user, b"hello").unwrap(), b"hello");
            if let Some(server) = &server {
                assert!(!server.said("ended"), "the tunnel stood all the while");
            }
        }
    }
}

#[test]
fn a_server_whose_name_has_no_address_is_told_once_and_is_no_handshake() {
    let client = Process::nodepass("client://a-key-of-some-length@no.such.name.invalid:10101/127.0.0.1:9?mode=2");
    let line = client.says("Client error: ", GRACE);
    assert!(line.contains("Client error: cannot look up no.such.name.invalid: "), "{line}");
    assert!(line.contains("check its spelling, and this machine's DNS") && !line.contains("handshake"), "{line}");
    let told = client.lines().into_iter().filter(|line| line.contains("  WARN  ") || line.contains("  ERROR  "));
    assert_eq!(told.count(), 1, "{:?}", client.lines());
}

/// Waits for the error, and some attempts more; the one line about it.
fn complains_once(process: &Process, address: SocketAddr) -> String {
    let line = process.says("cannot listen", GRACE);
    assert!(line.contains(&address.to_string()) && line.contains("  ERROR  "), "{line}");
    assert!(line.contains("in use"), "the reason: {line}");
    // The cooldown is 300 ms: this is a handful of attempts.
    reports_elsewhere(2);
    assert_eq!(process.count("cannot listen"), 1);
    assert_eq!(process.ended(), None);
    line
}

#[test]
fn a_target_whose_name_moves_to_another_address_is_found_there() {
    let Some(hosts) = Hosts::new("127.0.0.1") else { return };
    let old = Target::with(|stream| put(&stream, b"old"));
    let new = Target::at(SocketAddr::from(([127, 0, 0, 3], old.addr().port())));
    new.handle(|stream| put(&stream, b"new"));
    for flow in [Flow::Single, Flow::Reverse] {
        hosts.moved("127.0.0.1");
        let pair = Urls::new(flow);
        let place = format!("target.test:{}", old.addr().port());
        let server = (flow != Flow::Single).then(|| Process::nodepass(&pair.server(&place)));
        let client = hosts.run(&format!("{}&dns=1s", pair.client(&place)));
        let answer = || try_connect(pair.user).ok().and_then(|user| try_rest(&user).ok()).unwrap_or_default();
        assert!(eventually(GRACE, || answer() == b"old"), "a user at the old address");
        hosts.moved("127.0.0.3");
        assert!(eventually(GRACE, || answer() == b"new"), "users still go to the old address");
        assert!(server.is_none_or(|server| !server.said("ended")));
        drop(client);
    }
}

#[test]
fn a_server_whose_name_moves_to_another_address_is_found_there() {
    each_flow(|flow| {
        let Some(hosts) = Hosts::new("127.0.0.1") else { return };
        let (target, pair) = (Target::echo(), Urls::new(flow));
        let port = pair.tunnel.port();
        let server = Process::nodepass(&pair.server(target.addr()));
        let named = pair.client(target.addr()).replace(&pair.tunnel.to_string(), &format!("target.test:{port}"));
        let client = hosts.run(&format!("{named}&dns=1s"));
        until("a user", GRACE, || exchange(pair.user, b"hello"));
        server.kill();
        client.says("ended", GRACE);
        let elsewhere = pair.server(target.addr()).replace(&pair.tunnel.to_string(), &format!("127.0.0.4:{port}"));
        let second = Process::nodepass(&elsewhere);
        hosts.moved("127.0.0.4");
        second.says("is up", GRACE);
        until("a user of the moved server", GRACE, || exchange(pair.user, b"hello"));
    });
}

/// A hosts file of its own for processes in a mount namespace of their own.
struct Hosts {
    folder: Folder,
}

impl Hosts {
    /// `target.test` at an address; `None`, and a word about it, where that cannot be.
    fn new(address: &str) -> Option<Hosts> {
        program("unshare")?;
        let hosts = Hosts { folder: Folder::new() };
        hosts.moved(address);
        let mut probe = Command::new("unshare");
        probe.args(["-m", "sh", "-c", &format!("mount --bind {} /etc/hosts", hosts.file())]);
        let (status, _, errors) = output(probe);
        if status != 0 {
            println!("no mount namespace: {errors}");
            skip("mounts of one's own");
            return None;
        }
        Some(hosts)
    }

    /// From now on the name is there. The file stays the same one, as a bind mount is of the file, not of its name; and as
    /// addresses here are of one length, the name is in it at every moment.
    fn moved(&self, address: &str) {
        let text = format!("127.0.0.1 localhost\n{address} target.test\n");
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(self.file());
        file.expect("the hosts file").write_all(text.as_bytes()).expect("writing it");
    }

    fn file(&self) -> String {
        self.folder.file("hosts").to_string_lossy().into_owned()
    }

    /// The binary under test, with these names.
    fn run(&self, url: &str) -> Process {
        let binary = nodepass_command();
        let mut command = Command::new("unshare");
        let script = "mount --bind \"$1\" /etc/hosts && exec \"$2\" \"$3\"";
        command.args(["-m", "sh", "-c", script, "sh", &self.file()]).arg(binary.get_program()).arg(url);
        for (name, value) in binary.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        Process::run("nodepass", command)
    }
}
