//! `dns` with addresses of servers: dnsmasq knows the targets' names, and before it come servers that are dead, silent, lie or cannot tell.

use crate::support::*;
use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::thread;

/// dnsmasq with these records.
pub struct Names {
    /// Where it listens.
    pub addr: SocketAddr,
    process: Process,
}

impl Names {
    /// At 127.0.0.1.
    pub fn new(records: &[&str]) -> Option<Names> {
        Names::at("127.0.0.1", records)
    }

    fn at(host: &str, records: &[&str]) -> Option<Names> {
        let dnsmasq = program("dnsmasq")?;
        let port = free_port();
        let mut command = Command::new(dnsmasq);
        command.args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--no-resolv",
            "--no-hosts",
            "--bind-interfaces",
        ]);
        command.args(["--pid-file=", "--log-queries", "--log-facility=-", &format!("--port={port}")]);
        command.arg(format!("--listen-address={host}")).args(records);
        if root() {
            command.args(["--user=root", "--group=root"]);
        }
        let process = Process::run("dnsmasq", command);
        let addr = SocketAddr::new(host.parse().expect("an address"), port);
        connect(addr);
        Some(Names { addr, process })
    }

    fn asked(&self, question: &str) -> usize {
        self.process.count(&format!("query[{question}"))
    }
}

/// A UDP server that answers each question with what `answer` makes of it, and how many there were.
fn server(answer: impl Fn(&[u8]) -> Option<Vec<u8>> + Send + 'static) -> (String, Arc<AtomicUsize>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at = socket.local_addr().unwrap().to_string();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    thread::spawn(move || {
        let mut question = [0; 600];
        while let Ok((length, from)) = socket.recv_from(&mut question) {
            counted.fetch_add(1, Ordering::SeqCst);
            if let Some(answer) = answer(&question[..length]) {
                let _ = socket.send_to(&answer, from);
            }
        }
    });
    (at, count)
}

/// The question as an answer with this code.
fn code(question: &[u8], code: u8) -> Vec<u8> {
    let mut answer = question.to_vec();
    (answer[2], answer[3]) = (0x81, 0x80 | code);
    answer
}

/// An answer that says 127.0.0.66, where nothing is; to the question before this one.
fn lie(question: &[u8]) -> Vec<u8> {
    let mut answer = code(question, 0);
    answer[1] = answer[1].wrapping_sub(1);
    answer[7] = 1;
    answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 66]);
    answer
}

/// A program that forwards to `name` at the target's port; where its users come in.
fn forwarder(name: &str, target: &Target, dns: &str) -> (SocketAddr, Process) {
    let user = free_addr();
    let dns = dns.replace('%', "%25");
    let process =
        Process::nodepass(&format!("client://{user}/{name}:{}?mode=1&dns={dns}&log=debug", target.addr().port()));
    until("its port", GRACE, || try_connect(user).map_err(|error| error.to_string()));
    (user, process)
}

fn served(user: SocketAddr) {
    exchange(user, b"hello").expect("an echo");
}

const WEB: [&str; 2] = ["--host-record=web.test,127.0.0.1,300", "--local=/test/"];

#[test]
fn names_are_looked_up_at_the_servers_over_tcp_and_udp() {
    let (Some(names), target) = (Names::new(&WEB), Target::echo()) else { return };
    let (user, _process) = forwarder("web.test", &target, &names.addr.to_string());
    served(user);
    udp_echo(user, b"hello").expect("an echo");
    assert!(names.asked("A] web.test") >= 1 && names.asked("AAAA] web.test") >= 1);
}

#[test]
fn servers_that_are_dead_silent_lying_or_broken_are_followed_by_the_next() {
    let (Some(names), target) = (Names::new(&WEB), Target::echo()) else { return };
    let (silent, asked_in_vain) = server(|_| None);
    let (lying, lies) = server(|question| Some(lie(question)));
    let (failing, failures) = server(|question| Some(code(question, 2)));
    let dead = free_addr().to_string();
    for (bad, count) in [(dead, None), (silent, Some(asked_in_vain)), (lying, Some(lies)), (failing, Some(failures))] {
        let (user, process) = forwarder("web.test", &target, &format!("{bad},{}", names.addr));
        until("a user", GRACE, || exchange(user, b"hello").map(drop));
        assert!(count.is_none_or(|count| count.load(Ordering::SeqCst) > 0), "{bad}");
        assert!(!process.said("127.0.0.66"), "{:?}", process.lines());
    }
}

#[test]
fn the_next_name_begins_with_the_server_that_has_answered() {
    let records = [WEB[0], WEB[1], "--host-record=other.test,127.0.0.1,300"];
    let (Some(names), target) = (Names::new(&records), Target::echo()) else { return };
    let (failing, failures) = server(|question| Some(code(question, 5)));
    let port = target.addr().port();
    let (user, _process) =
        forwarder(&format!("web.test:{port},other.test"), &target, &format!("{failing},{}", names.addr));
    until("a user", GRACE, || exchange(user, b"hello").map(drop));
    until("the other name", GRACE, || {
        let _ = exchange(user, b"hello");
        if names.asked("A] other.test") > 0 {
            Ok(())
        } else {
            Err("not asked".to_owned())
        }
    });
    // Both names may have been begun with before there was an answer.
    assert!(failures.load(Ordering::SeqCst) <= 4);
}

#[test]
fn when_no_server_answers_it_is_told_what_each_did() {
    let target = Target::echo();
    let (failing, _) = server(|question| Some(code(question, 2)));
    let (user, process) = forwarder("web.test", &target, &failing);
    let _ = exchange(user, b"hello");
    process.says(&format!("cannot look up web.test: {failing}: it answers SERVFAIL"), GRACE);
}

#[test]
fn a_name_that_does_not_exist_is_not_asked_of_the_next() {
    let (Some(names), target) = (Names::new(&WEB), Target::echo()) else { return };
    let (other, count) = server(|_| None);
    let (user, process) = forwarder("none.test", &target, &format!("{},{other}", names.addr));
    let _ = exchange(user, b"hello");
    process.says("cannot look up none.test: there is no such name", GRACE);
    assert_eq!(count.load(Ordering::SeqCst), 0);
}

#[test]
fn an_answer_that_is_cut_short_comes_over_tcp() {
    let many: Vec<String> = (1..=60).map(|n| format!("--host-record=many.test,127.0.0.{n}")).collect();
    let records: Vec<&str> = many.iter().map(String::as_str).chain(["--local=/test/"]).collect();
    let Some(names) = Names::new(&records) else { return };
    let target = Target::at(([0, 0, 0, 0], free_port()).into());
    let (user, _process) = forwarder("many.test", &target, &names.addr.to_string());
    served(user);
    // Over UDP, and over TCP.
    assert_eq!(names.asked("A] many.test"), 2);
}

#[test]
fn an_answer_is_kept_as_long_as_it_says_or_as_the_url_says() {
    for (ttl, dns, again) in [("1", "", true), ("300", "", false), ("1", ",1h", false), ("300", ",0", true)] {
        let record = format!("--host-record=web.test,127.0.0.1,{ttl}");
        let (Some(names), target) = (Names::new(&[&record, WEB[1]]), Target::echo()) else { return };
        let (user, _process) = forwarder("web.test", &target, &format!("{}{dns}", names.addr));
        let users = |count| (0..count).for_each(|_| served(user));
        match again {
            true => until("a second question", GRACE, || {
                users(1);
                if names.asked("A] web.test") > 1 {
                    Ok(())
                } else {
                    Err("asked once".to_owned())
                }
            }),
            false => {
                users(20);
                assert_eq!(names.asked("A] web.test"), 1, "{ttl} {dns}");
            }
        }
    }
}

#[test]
fn a_server_has_an_ipv6_address_too_and_so_has_a_target() {
    if !has_ipv6() {
        return;
    }
    let Some(names) = Names::at("::1", &["--host-record=six.test,::1", WEB[1]]) else { return };
    let target = Target::at(SocketAddr::new("::1".parse().unwrap(), free_port()));
    let (user, _process) = forwarder("six.test", &target, &names.addr.to_string());
    served(user);
}

#[test]
fn the_server_of_a_tunnel_is_looked_up_there_too_and_check_asks_them() {
    let (Some(names), target) = (Names::new(&WEB), Target::echo()) else { return };
    let (tunnel, user) = (free_addr(), free_addr());
    let _server = Process::nodepass(&format!("server://key@{tunnel}/{user}?mode=1"));
    let url = format!("client://key@web.test:{}/{}?mode=2&dns={}", tunnel.port(), target.addr(), names.addr);
    let before = names.asked("A] web.test");
    let mut command = nodepass_command();
    let (_, told, _) = output({
        command.args(["check", &url]);
        command
    });
    assert!(told.contains("web.test") && names.asked("A] web.test") > before, "{told}");
    let _client = Process::nodepass(&url);
    until("a user", GRACE, || exchange(user, b"hello").map(drop));
}
