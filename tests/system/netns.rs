//! Client and server in network namespaces of their own: a slow path, a lossy one, one that is cut, one that moves.
//!
//! ```text
//!   namespace s                                               namespace c
//!   users -> server  10.211.n.1  TUN == path.rs == TUN  10.211.n.2  client -> target
//! ```
//!
//! Needs root, `ip` and `/dev/net/tun`; says that it is skipped where they are not. A thread of the test enters a namespace
//! to be a user or a target there. The test itself carries the packets (`netns/path.rs`), so that it can delay and lose
//! them as it likes in any kernel, with or without netem.

mod carriers;
mod floods;
mod forgotten;
mod ftp;
mod links;
mod losses;
mod path;
mod sources;
mod ssh;
mod wireguard;

use crate::support::*;
use path::{tunnel_device, Path};
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

#[test]
fn a_path_with_a_hundred_milliseconds_of_delay_carries_everything() {
    for tls in [0, 1] {
        let Some(land) = Land::new() else { return };
        land.path.delays(Duration::from_millis(50));
        let tunnel = land.tunnel(&format!("tls={tls}"));
        tunnel.serves_twenty_small_requests();
        tunnel.carries_five_megabytes();
        tunnel.is_whole();
    }
}

#[test]
fn a_path_that_loses_every_fiftieth_packet_carries_everything() {
    for tls in [0, 1] {
        let Some(land) = Land::new() else { return };
        land.path.delays(Duration::from_millis(5));
        land.path.loses(20);
        let tunnel = land.tunnel(&format!("tls={tls}"));
        tunnel.serves_twenty_small_requests();
        tunnel.carries_five_megabytes();
        tunnel.is_whole();
    }
}

#[test]
fn a_path_that_is_cut_without_a_word_is_noticed_by_both_sides_and_healed() {
    // The packets vanish on their way, or the client's link is down: it has no route then.
    for link_down in [false, true] {
        let Some(land) = Land::new() else { return };
        let tunnel = land.tunnel("tls=1");
        let before = (tunnel.server.at_rest(POOL), tunnel.client.at_rest(POOL));
        let held = land.server.enter(|| try_connect(tunnel.user).unwrap());
        put(&held, b"x");
        assert_eq!(take(&held, 1), b"x");

        if link_down {
            land.client.run(&format!("ip link set {LINK} down"));
        } else {
            land.path.loses(1000);
        }
        for process in [&tunnel.server, &tunnel.client] {
            let line = process.says("ended", GRACE);
            assert!(line.contains("nothing heard from the peer"), "{line}");
        }
        // A user of the time between is told, not held for ever.
        let in_vain = land.server.enter(|| try_connect(tunnel.user).unwrap());
        assert_eq!(try_rest(&in_vain), Ok(Vec::new()));

        if link_down {
            land.client.run(&format!("ip link set {LINK} up"));
        } else {
            land.path.loses(0);
        }
        // A relay of before has a connection of its own, which lives.
        put(&held, b"still here");
        assert_eq!(take(&held, 10), b"still here");
        drop(held);
        until("a user after the cut", GRACE, || tunnel.exchange(b"hello"));
        assert!(tunnel.client.count("  WARN  ") < 10, "the time between is not told again and again");
        tunnel.server.rests_again(POOL, before.0);
        tunnel.client.rests_again(POOL, before.1);
    }
}

#[test]
fn a_short_cut_is_survived_without_losing_the_tunnel_or_a_byte() {
    let Some(land) = Land::new() else { return };
    // Silence is three of these: longer than the cut and the pause after which TCP tries again.
    let tunnel = land.tunnel_with("tls=1", "3s", "3s");
    let held = land.server.enter(|| try_connect(tunnel.user).unwrap());
    put(&held, b"before");
    assert_eq!(take(&held, 6), b"before");
    land.path.loses(1000);
    let before = land.path.lost();
    put(&held, b"during");
    // The segment and its first repetitions.
    assert!(eventually(GRACE, || land.path.lost() >= before + 3), "packets go by the path");
    land.path.loses(0);
    assert_eq!(take(&held, 6), b"during");
    tunnel.is_whole();
}

#[test]
fn a_client_whose_address_changes_takes_over_at_once() {
    let Some(land) = Land::new() else { return };
    // Silence is noticed after three of these by the server, which is longer than this test waits for anything. The
    // client notices by itself that its address is gone, or by the path being dead, after its own three.
    let tunnel = land.tunnel_with("tls=0", "60s", "1s");
    tunnel.client.at_rest(POOL);
    let before = tunnel.server.at_rest_now();
    land.client.run(&format!("ip addr del {}/24 dev {LINK}", land.at(2)));
    land.client.run(&format!("ip addr add {}/24 dev {LINK}", land.at(3)));
    let line = tunnel.server.says("takes it over", GRACE);
    assert!(line.contains(&land.at(3)), "{line}");
    until("a user after the move", GRACE, || tunnel.exchange(b"hello"));
    let back = eventually(GRACE, || tunnel.server.at_rest_now().sockets <= before.sockets);
    assert!(back, "{:?} before, {:?} now", before, tunnel.server.at_rest_now());
}

#[test]
fn quic_carries_everything_out_of_a_small_interface_at_either_end_and_through_a_narrow_middle() {
    for (server, client, middle) in [(1280, 1500, 1500), (1500, 1420, 1500), (1500, 1500, 1280)] {
        let Some(land) = Land::new() else { return };
        land.server.run(&format!("ip link set {LINK} mtu {server}"));
        land.client.run(&format!("ip link set {LINK} mtu {client}"));
        land.path.narrows(middle);
        let tunnel = land.tunnel("type=1&tls=1");
        tunnel.carries_five_megabytes();
        tunnel.is_whole();
    }
}

#[test]
fn quic_goes_on_when_the_interfaces_become_smaller_under_a_tunnel() {
    for mtu in [1420, 1280] {
        let Some(land) = Land::new() else { return };
        let tunnel = land.tunnel_with("type=1&tls=1", "20s", "20s");
        tunnel.carries_five_megabytes();
        for space in [&land.server, &land.client] {
            space.run(&format!("ip link set {LINK} mtu {mtu}"));
        }
        tunnel.carries_five_megabytes();
        tunnel.is_whole();
        tunnel.server.says(&format!("have at most {} bytes", mtu - 28), GRACE);
    }
}

#[test]
fn quic_goes_on_when_large_packets_vanish_on_the_way_from_one_moment_to_the_next() {
    let Some(land) = Land::new() else { return };
    let tunnel = land.tunnel_with("type=1&tls=1", "20s", "20s");
    tunnel.carries_five_megabytes();
    land.path.narrows(1280);
    tunnel.carries_five_megabytes();
    tunnel.is_whole();
}

#[test]
fn an_interface_too_small_for_quic_is_named_and_tcp_carries_the_tunnel() {
    let Some(land) = Land::new() else { return };
    land.client.run(&format!("ip link set {LINK} mtu 1220"));
    let tunnel = land.tunnel("type=1&tls=1");
    tunnel.client.says("QUIC needs packets of 1200 bytes", GRACE);
    tunnel.client.says("going on over TCP with TLS", GRACE);
    tunnel.carries_five_megabytes();
}

#[test]
fn users_who_vanish_with_their_link_leave_nothing_behind_whether_or_not_they_are_sent_something() {
    let Some(land) = Land::new() else { return };
    let target = land.server.enter(|| TcpListener::bind("127.0.0.1:7000").expect("a target"));
    std::thread::spawn(move || {
        for mut stream in target.incoming().flatten() {
            std::thread::spawn(move || {
                let talks = take(&stream, 1) == b"t";
                while talks && stream.write_all(b"x").is_ok() {
                    std::thread::sleep(Duration::from_millis(50));
                }
                // As long as the other side is there.
                let _ = try_rest(&stream);
            });
        }
    });
    let at = land.at(1);
    let url = format!("client://{at}:7002/127.0.0.1:7000?log=debug&mode=1");
    let process = land.server.nodepass_with(&url, "1s", &[("NP_TCP_KEEPALIVE", "2s")]);
    let user: SocketAddr = format!("{at}:7002").parse().expect("an address");
    let users: Vec<TcpStream> = land.client.enter(|| (0..20).map(|_| connect(user)).collect());
    for (n, user) in users.iter().enumerate() {
        put(user, if n % 2 == 0 { b"t" } else { b"q" });
    }
    process.checkpoint(|now| now.tcps == 20 && now.tcptx > 20);
    land.path.loses(1000);
    process.checkpoint(|now| now.tcps == 0);
    assert!(process.said("no answer from the other side"));
}

/// Two namespaces and the path between them. Removed when dropped, whatever happened.
struct Land {
    server: Space,
    client: Space,
    path: Path,
    net: usize,
}

impl Land {
    /// A new one; `None`, and a word about it, where that cannot be.
    fn new() -> Option<Land> {
        if !present(root(), "root") {
            return None;
        }
        program("ip")?;
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let net = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = |side: char| format!("np-{}-{net}{side}", std::process::id());
        let (server, client) = (Space::new(name('s'))?, Space::new(name('c'))?);
        let ends = [&server, &client].map(|space| space.enter(tunnel_device));
        let path = match ends {
            [Ok(one), Ok(other)] => Path::between(one, other),
            [Err(why), _] | [_, Err(why)] => {
                println!("no TUN device: {why}");
                skip("TUN devices");
                return None;
            }
        };
        let land = Land { server, client, path, net };
        for (space, last) in [(&land.server, 1), (&land.client, 2)] {
            space.run(&format!("ip addr add {}/24 dev {LINK}", land.at(last)));
            space.run(&format!("ip link set {LINK} up"));
        }
        Some(land)
    }

    /// An address of the path's network.
    fn at(&self, last: usize) -> String {
        format!("10.211.{}.{last}", self.net % 250)
    }

    /// From now on there is a NAT at the client's edge that forgets what is silent for 3 s, and takes nothing in the middle of a connection for
    /// a new one.
    fn forgets_after_three_seconds(&self) {
        for line in [
            "iptables -t nat -A POSTROUTING -o path -j MASQUERADE",
            "iptables -A INPUT -i path -m conntrack --ctstate INVALID -j DROP",
            "iptables -A OUTPUT -o path -m conntrack --ctstate INVALID -j DROP",
            "sysctl -qw net.netfilter.nf_conntrack_tcp_loose=0",
            "sysctl -qw net.netfilter.nf_conntrack_tcp_timeout_established=3",
            "sysctl -qw net.netfilter.nf_conntrack_udp_timeout=3",
            "sysctl -qw net.netfilter.nf_conntrack_udp_timeout_stream=3",
        ] {
            self.client.run(line);
        }
    }

    fn tunnel(&self, query: &str) -> Carried<'_> {
        self.tunnel_with(query, "1s", "1s")
    }

    fn tunnel_with(&self, query: &str, server_report: &str, client_report: &str) -> Carried<'_> {
        self.tunnel_kept(query, (server_report, client_report), "30s")
    }

    /// A reverse tunnel: users at the server, the target in the client's namespace. `keepalive` is NP_TCP_KEEPALIVE.
    fn tunnel_kept(&self, query: &str, reports: (&str, &str), keepalive: &str) -> Carried<'_> {
        self.echoes();
        let tunnel = self.tunnel_to_target(query, reports, keepalive);
        until("the first user", GRACE, || tunnel.exchange(b"hello"));
        tunnel
    }

    /// The same, to a target that is no echo.
    fn tunnel_to_target(&self, query: &str, reports: (&str, &str), keepalive: &str) -> Carried<'_> {
        let server = format!("server://key@{}:7001/127.0.0.1:7002?log=debug&mode=1&max={POOL}&{query}", self.at(1));
        let client = format!("client://key@{}:7001/127.0.0.1:7000?log=debug&mode=2&min={POOL}", self.at(1));
        let env = [("NP_TCP_KEEPALIVE", keepalive)];
        let server = self.server.nodepass_with(&server, reports.0, &env);
        let client = self.client.nodepass_with(&client, reports.1, &env);
        client.says("CHECK_POINT|", GRACE);
        server.says("CHECK_POINT|", GRACE);
        Carried::over(self, server, client)
    }

    /// A target in the client's namespace, which says what it hears.
    fn echoes(&self) {
        let target = self.client.enter(|| TcpListener::bind("127.0.0.1:7000").expect("a target"));
        std::thread::spawn(move || {
            for stream in target.incoming().flatten() {
                std::thread::spawn(|| echo(stream));
            }
        });
    }
}

/// A tunnel across the path.
struct Carried<'a> {
    land: &'a Land,
    server: Process,
    client: Process,
    /// Where users go, in the server's namespace.
    user: SocketAddr,
}

impl<'a> Carried<'a> {
    fn over(land: &'a Land, server: Process, client: Process) -> Carried<'a> {
        Carried { land, server, client, user: SocketAddr::from(([127, 0, 0, 1], 7002)) }
    }

    fn exchange(&self, data: &[u8]) -> std::io::Result<Vec<u8>> {
        self.land.server.enter(|| exchange(self.user, data))
    }

    fn serves_twenty_small_requests(&self) {
        for n in 0..20_u8 {
            let request = [n; 100];
            assert_eq!(self.exchange(&request).expect("an answer"), request);
        }
    }

    fn carries_five_megabytes(&self) {
        five_megabytes(&self.land.server, self.user);
    }

    /// Nothing broke on the way.
    fn is_whole(&self) {
        assert!(self.exchange(b"afterwards").is_ok());
        self.is_unbroken();
    }

    /// The same where the target is none that repeats what it hears.
    fn is_unbroken(&self) {
        assert!(!self.server.said("ended") && !self.client.said("ended"), "the tunnel did not break");
    }
}

/// A user of that namespace sends five megabytes and gets them back.
fn five_megabytes(space: &Space, to: SocketAddr) {
    let data = noise(5, 5 << 20);
    let user: TcpStream = space.enter(|| connect(to));
    let (mut half, sent) = (user.try_clone().unwrap(), data.clone());
    let writer = std::thread::spawn(move || {
        half.write_all(&sent).unwrap();
        end(&half);
    });
    assert!(rest(&user) == data, "other bytes came back");
    writer.join().unwrap();
}

/// Does it for each kind of tunnel, side by side: the query of the server's URL.
fn each_kind(test: impl Fn(&str) + Sync) {
    let queries = kinds().into_iter().map(|(transport, tls)| format!("type={transport}&tls={tls}"));
    side_by_side(queries.map(|query| (query.clone(), query)), |query| test(&query));
}

trait AtRestNow {
    fn at_rest_now(&self) -> Holdings;
}

impl AtRestNow for Process {
    /// What it holds at this moment.
    fn at_rest_now(&self) -> Holdings {
        Holdings { sockets: self.sockets(), threads: self.threads() }
    }
}

/// A network namespace.
struct Space {
    name: String,
}

impl Space {
    fn new(name: String) -> Option<Space> {
        if let Err(why) = try_run(&format!("ip netns add {name}")) {
            println!("no network namespaces: {why}");
            skip("network namespaces");
            return None;
        }
        let space = Space { name };
        space.run("ip link set lo up");
        Some(space)
    }

    /// Runs a command line inside.
    fn run(&self, line: &str) {
        try_run(&format!("ip netns exec {} {line}", self.name)).unwrap_or_else(|why| panic!("{why}"));
    }

    /// A program, inside.
    fn command(&self, program: &Command) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program.get_program()).args(program.get_args());
        command
    }

    /// The binary under test, inside.
    fn nodepass_with(&self, url: &str, report: &str, env: &[(&str, &str)]) -> Process {
        let binary = nodepass_command();
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(binary.get_program()).arg(url);
        for (name, value) in binary.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.env("NP_REPORT_INTERVAL", report).envs(env.iter().copied());
        Process::run(url.split(':').next().unwrap_or("nodepass"), command)
    }

    /// Does something on a thread that lives inside; sockets it makes stay there.
    fn enter<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let space = std::fs::File::open(format!("/run/netns/{}", self.name)).expect("the namespace");
        std::thread::scope(|scope| {
            let inside = scope.spawn(move || {
                // SAFETY: moves this thread alone into an open namespace.
                let result = unsafe { libc::setns(space.as_raw_fd(), libc::CLONE_NEWNET) };
                assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
                act()
            });
            inside.join().expect("the thread inside")
        })
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        let _ = try_run(&format!("ip netns del {}", self.name));
    }
}

fn try_run(line: &str) -> Result<(), String> {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words);
    let (status, out, errors) = output(command);
    if status == 0 {
        Ok(())
    } else {
        Err(format!("{line}: {out}{errors}"))
    }
}

/// The name of each end of the path, in its namespace.
const LINK: &str = "path";
