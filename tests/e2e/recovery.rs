//! What goes wrong in real life, and that it heals by itself with nothing left behind.
//!
//! | chapter | what goes wrong |
//! | --- | --- |
//! | here | servers, clients and targets that are absent, killed, replaced; idle connections that die |
//! | `starting` | ports that are taken, names that move |
//! | `certificates` | files that are replaced, well or badly |
//! | `stopping` | SIGTERM and SIGINT |

mod certificates;
mod path;
mod starting;
mod stopping;

use crate::support::*;
use path::{Death, Path};
#[cfg(feature = "ws")]
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
#[cfg(feature = "ws")]
use std::time::Duration;

#[test]
fn a_client_without_a_server_says_so_once_and_gets_through_when_it_comes() {
    each_flow(|flow| {
        let (target, pair) = (Target::echo(), Urls::new(flow));
        let client = Process::nodepass(&pair.client(target.addr()));
        // Several attempts have failed, and the log level is debug: only the first is worth an error.
        assert!(eventually(GRACE, || client.count("failed again") >= 5), "it goes on trying");
        let loud = |line: &&String| line.contains("  WARN  ") || line.contains("  ERROR  ");
        assert_eq!(client.lines().iter().filter(loud).count(), 1, "{:?}", client.lines());
        assert!(client.said("  ERROR  Client error: "), "dashboards read these words");
        assert!(client.said(&pair.tunnel.to_string()), "it names the server");
        assert!(client.said("refused"), "and the reason");
        let server = Process::nodepass(&pair.server(target.addr()));
        until("a user", GRACE, || exchange(pair.user, b"hello"));
        let before = (server.at_rest(POOL), client.at_rest(POOL));
        echoed(pair.user, b"hello");
        server.rests_again(POOL, before.0);
        client.rests_again(POOL, before.1);
    });
}

#[test]
fn a_server_that_was_killed_and_comes_back_has_its_client_again() {
    each_tunnel(|builder| {
        let mut tunnel = builder.server("max=8").env("NP_UDP_READ_TIMEOUT", "1s").start();
        let before = tunnel.at_rest();
        let (user, served) = tunnel.pair();
        put(&user, b"x");
        assert_eq!(take(&served, 1), b"x");
        tunnel.target.handle(echo);

        tunnel.server.as_ref().unwrap().kill();
        rest(&user);
        rest(&served);
        tunnel.client.says("ended", GRACE);
        tunnel.restart_server();
        tunnel.up();
        tunnel.udp_echo(b"and datagrams");
        tunnel.rests_again(&before);
    });
}

#[test]
fn a_client_that_was_killed_and_comes_back_is_served_again() {
    each_tunnel(|builder| {
        let mut tunnel = builder.server("max=8").env("NP_UDP_READ_TIMEOUT", "1s").start();
        let before = tunnel.at_rest();
        let (user, served) = tunnel.pair();
        put(&user, b"x");
        assert_eq!(take(&served, 1), b"x");
        tunnel.target.handle(echo);

        tunnel.client.kill();
        rest(&user);
        rest(&served);
        tunnel.server.as_ref().unwrap().says("ended", GRACE);
        tunnel.restart_client();
        tunnel.up();
        tunnel.udp_echo(b"and datagrams");
        tunnel.rests_again(&before);
    });
}

#[test]
fn a_server_and_a_client_that_are_killed_again_and_again_come_back_each_time() {
    each_tunnel(|builder| {
        let mut tunnel = builder.server("max=8").env("NP_UDP_READ_TIMEOUT", "1s").start();
        let before = tunnel.at_rest();
        for round in 0..6 {
            if round % 2 == 0 {
                tunnel.server.as_ref().unwrap().kill();
                tunnel.restart_server();
            } else {
                tunnel.client.kill();
                tunnel.restart_client();
            }
            tunnel.up();
        }
        tunnel.rests_again(&before);
    });
}

#[test]
fn the_end_of_a_peer_is_known_from_its_connections_at_once_and_not_from_a_silence() {
    each_tunnel(|builder| {
        // Nothing tells a QUIC connection that its peer is gone before it says something.
        if builder.transport() == 1 {
            return;
        }
        // A clock of this length wakes no thread while this test waits.
        let mut tunnel = builder.server("max=8").env("NP_REPORT_INTERVAL", "10m").start();
        let (user, served) = tunnel.pair();
        put(&user, b"x");
        assert_eq!(take(&served, 1), b"x");
        tunnel.server.as_ref().unwrap().kill();
        tunnel.client.says(" ended: ", GRACE);
        rest(&user);
        rest(&served);
        tunnel.restart_server();
        let (user, served) = tunnel.pair();
        put(&user, b"x");
        assert_eq!(take(&served, 1), b"x");
        tunnel.client.kill();
        tunnel.server.as_ref().unwrap().says(" ended: ", GRACE);
        rest(&user);
        rest(&served);
    });
}

#[test]
fn a_machine_that_slept_wakes_up_with_its_tunnels() {
    each_tunnel(|builder| {
        // (QUIC's idle time, RFC 9000, 10.1, goes on meanwhile.)
        if builder.transport() == 1 {
            return;
        }
        let tunnel = builder.clone().server("max=8").start();
        // Another of its kind, in which one side alone sleeps: the other says when that is too long, and has twice as long a silence.
        let witness = builder.env("NP_REPORT_INTERVAL", "2s").start();
        let (user, served) = tunnel.pair();
        let marks = tunnel.processes().into_iter().map(|process| (process, process.mark())).collect::<Vec<_>>();
        let all = |signal: i32| tunnel.processes().iter().for_each(|process| process.signal(signal));
        all(libc::SIGSTOP);
        witness.server.as_ref().unwrap().signal(libc::SIGSTOP);
        witness.client.says(" ended: ", GRACE);
        all(libc::SIGCONT);
        put(&user, b"good morning");
        assert_eq!(take(&served, 12), b"good morning");
        // And past the time when it would have been noticed.
        for (process, mark) in marks {
            process.reports(5);
            assert!(!process.said_after(mark, "ended"), "{process:?} gave a living tunnel up");
        }
        put(&served, b"good evening");
        assert_eq!(take(&user, 12), b"good evening");
    });
}

#[test]
fn a_pause_of_one_side_that_ends_the_tunnel_costs_no_user() {
    each_tunnel(|builder| {
        // A shared connection lives for seven of these, the tunnel for three.
        let tunnel = builder.server("max=8").env("NP_REPORT_INTERVAL", "1s").start();
        for paused in tunnel.processes() {
            let other = tunnel.processes().into_iter().find(|process| process.pid() != paused.pid()).expect("two");
            let (idle, idle_served) = tunnel.pair();
            let (busy, busy_served) = tunnel.pair();
            let (mark, before) = (other.mark(), paused.mark());
            paused.signal(libc::SIGSTOP);
            put(&busy, b"said meanwhile");
            other.says_after(mark, "ended: nothing heard", GRACE);
            paused.signal(libc::SIGCONT);
            assert_eq!(take(&busy_served, 14), b"said meanwhile");
            put(&idle_served, b"good morning");
            assert_eq!(take(&idle, 12), b"good morning");
            // Until it has heard of the end, it may give a new user a connection that the other has closed with the tunnel.
            paused.says_after(before, "is up", GRACE);
            let (user, served) = tunnel.pair();
            put(&user, b"served by the next tunnel");
            assert_eq!(take(&served, 25), b"served by the next tunnel");
            for process in tunnel.processes() {
                process.checkpoint(|now| now.tcps == 3);
            }
            drop((idle, busy, idle_served, busy_served, user, served));
            for process in tunnel.processes() {
                process.checkpoint(|now| now.tcps == 0);
            }
        }
    });
}

#[test]
fn a_new_client_takes_the_tunnel_over_at_once_while_the_old_one_seems_to_live() {
    for elsewhere in [false, true] {
        each_tunnel(|builder| {
            // Silence is noticed after three of these, which is longer than this test waits for anything.
            let tunnel = builder.server("max=8").env("NP_REPORT_INTERVAL", "60s").start();
            let server = tunnel.server.as_ref().unwrap();
            let (user, served) = tunnel.pair();
            put(&user, b"x");
            assert_eq!(take(&served, 1), b"x");
            tunnel.target.handle(echo);

            tunnel.client.signal(libc::SIGSTOP);
            let mark = server.mark();
            let path = Path::new("127.0.0.2".parse().unwrap(), tunnel.tunnel);
            let called = if elsewhere { path.addr() } else { tunnel.tunnel };
            let mut url = tunnel.client_url.replace(&tunnel.tunnel.to_string(), &called.to_string());
            let mut user_at = tunnel.user;
            if tunnel.flow == Flow::Forward {
                // The stopped one still has its port.
                user_at = free_addr();
                url = url.replace(&tunnel.user.to_string(), &user_at.to_string());
            }
            let successor = Process::nodepass_with(&[&url], &[("NP_REPORT_INTERVAL", "60s")]);
            server.says_after(mark, "takes it over", GRACE);
            until("a user of the new client", GRACE, || exchange(user_at, b"hello"));
            let from = if elsewhere { "127.0.0.2" } else { "127.0.0.1" };
            assert!(server.said(&format!("Tunnel with {from}:")));
            // What the old client carried is over; its own ends close when it is gone. A client that comes from the same address may be
            // the same: then the ends close with their connections.
            if !elsewhere {
                tunnel.client.kill();
            }
            if tunnel.flow == Flow::Reverse {
                rest(&user);
            } else {
                rest(&served);
            }
            tunnel.client.kill();
            echoed(user_at, b"still");
            assert_eq!(server.lines()[mark..].iter().filter(|line| line.contains("takes it over")).count(), 1);
            let lost = |line: &String| line.contains("Tunnel with") && line.contains("ended");
            assert!(!successor.lines().iter().any(lost));
        });
    }
}

#[test]
fn a_target_that_is_down_costs_its_users_their_connections_and_nothing_else() {
    each_way(|builder| {
        let addr = free_addr();
        let tunnel = builder.server("max=8").target(addr).env("NP_UDP_READ_TIMEOUT", "1s").start();
        let before = tunnel.at_rest();
        let start = tunnel.client.mark();
        let visit = || assert_eq!(try_rest(&tunnel.connect()), Ok(Vec::new()), "closed without a byte");
        for _ in 0..3 {
            visit();
        }
        // It is said a few times a minute and then summed up, and the start of a slow tunnel may have brought some of them.
        assert!(tunnel.egress().says("Target not reached", GRACE).contains(&addr.to_string()));

        let target = Target::at(addr);
        tunnel.up();
        tunnel.udp_echo(b"datagrams too");
        target.handle(drop);
        visit();
        drop(target);
        visit();

        let _target = Target::at(addr);
        tunnel.up();
        assert!(!tunnel.client.said_after(start, "ended: "), "the tunnel lives on");
        tunnel.rests_again(&before);
    });
}

#[test]
fn a_pool_connection_that_died_while_idle_is_not_given_to_a_user() {
    for death in [Death::Reset, Death::End] {
        each_flow(|flow| {
            for tls in [0, 1] {
                let (target, pair) = (Target::echo(), Urls::new(flow));
                let server = Process::nodepass(&format!("{}&tls={tls}", pair.server(target.addr())));
                let path = Path::new("127.0.0.2".parse().unwrap(), pair.tunnel);
                let tunnel = pair.tunnel.to_string();
                let client = Process::nodepass(&pair.client(target.addr()).replace(&tunnel, &path.addr().to_string()));
                until("a user", GRACE, || exchange(pair.user, b"hello"));
                path.knows_the_control_connection();
                let before = (server.at_rest(POOL), client.at_rest(POOL));
                let marks = [(&server, server.mark()), (&client, client.mark())];

                assert!(path.kill_the_idle(death) >= POOL as usize);
                for _ in 0..20 {
                    echoed(pair.user, b"hello");
                }
                for (process, mark) in marks {
                    assert!(!process.said_after(mark, "ended"), "the tunnel lives on: {death:?}");
                }
                server.rests_again(POOL, before.0);
                client.rests_again(POOL, before.1);
            }
        });
    }
}

/// Runs the test for both flows, side by side.
fn each_flow(test: impl Fn(Flow) + Sync) {
    std::thread::scope(|scope| {
        let test = &test;
        let threads = [Flow::Reverse, Flow::Forward].map(|flow| scope.spawn(move || test(flow)));
        assert!(threads.map(|thread| thread.join().is_ok()) == [true, true], "failed in a flow");
    });
}

/// The URLs of a tunnel whose processes a test starts by itself, in its own order.
struct Urls {
    flow: Flow,
    tunnel: std::net::SocketAddr,
    user: std::net::SocketAddr,
}

impl Urls {
    fn new(flow: Flow) -> Urls {
        Urls { flow, tunnel: free_addr(), user: free_addr() }
    }

    /// The server's, with a pool that does not grow.
    fn server(&self, target: impl std::fmt::Display) -> String {
        let (mode, path) = match self.flow {
            Flow::Forward => (2, target.to_string()),
            _ => (1, self.user.to_string()),
        };
        format!("server://a-test-key-of-24-letters@{}/{path}?log=debug&mode={mode}&max={POOL}", self.tunnel)
    }

    /// The client's; in single-end mode it listens where users go.
    fn client(&self, target: impl std::fmt::Display) -> String {
        let (mode, tunnel, path) = match self.flow {
            Flow::Single => (1, self.user, target.to_string()),
            Flow::Reverse => (2, self.tunnel, target.to_string()),
            Flow::Forward => (2, self.tunnel, self.user.to_string()),
        };
        format!("client://a-test-key-of-24-letters@{tunnel}/{path}?log=debug&mode={mode}&min={POOL}")
    }
}

#[cfg(feature = "ws")]
#[test]
fn a_quiet_user_over_websocket_outlives_a_proxy_that_cuts_what_is_silent() {
    let (target, tunnel, user) = (Target::echo(), free_addr(), free_addr());
    let env = [("NP_REPORT_INTERVAL", "500ms")];
    let server = format!("server://a-test-key-of-24-letters@{tunnel}/{user}?mode=1&type=2&max=8&log=debug");
    let _server = Process::nodepass_with(&[&server], &env);
    let proxy = impatient(tunnel, Duration::from_secs(3));
    let client = format!("client://a-test-key-of-24-letters@{proxy}/{}?mode=2&min=2&log=debug", target.addr());
    let client = Process::nodepass_with(&[&client], &env);
    until("a first user", GRACE, || exchange(user, b"hello"));
    let quiet = connect(user);
    put(&quiet, b"hello");
    assert_eq!(take(&quiet, 5), b"hello");
    client.reports(16);
    put(&quiet, b"still there?");
    assert_eq!(take(&quiet, 12), b"still there?");
}

/// A path to `server` whose connections are cut when one direction is silent for so long.
#[cfg(feature = "ws")]
fn impatient(server: SocketAddr, silence: Duration) -> SocketAddr {
    let at = free_addr();
    let listener = TcpListener::bind(at).expect("a listener");
    std::thread::spawn(move || {
        for near in listener.incoming().flatten() {
            let Ok(far) = TcpStream::connect(server) else { continue };
            for (from, to) in [(&near, &far), (&far, &near)] {
                let (mut from, mut to) = (from.try_clone().expect("a socket"), to.try_clone().expect("a socket"));
                from.set_read_timeout(Some(silence)).expect("a timeout");
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
                });
            }
        }
    });
    at
}
