//! Which direction, from where and to where: `mode`, `dial`, `dns`, IPv6, wildcards, names with several addresses.

use super::with_hosts_file;
use crate::support::*;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, UdpSocket};
use std::sync::mpsc;
use std::time::Duration;

// ---- hosts

#[test]
fn an_ipv6_host_leaves_the_port_of_ipv4_to_another_and_no_host_is_both() {
    if !has_ipv6() {
        return;
    }
    let port = free_port();
    let (one, other) = (Target::echo(), Target::echo());
    let six = Process::nodepass(&format!("client://[::]:{port}/{}?mode=1", one.addr()));
    let four = Process::nodepass(&format!("client://0.0.0.0:{port}/{}?mode=1", other.addr()));
    for (ip, target) in [("::1", &one), ("127.0.0.1", &other)] {
        let user = SocketAddr::new(ip.parse().unwrap(), port);
        until("a user", GRACE, || exchange(user, b"hello"));
        let before = target.datagrams();
        assert_eq!(udp_echo(user, b"hello").unwrap(), b"hello");
        assert!(target.datagrams() > before, "{ip}");
    }
    drop((six, four));
    let port = free_port();
    let _both = Process::nodepass(&format!("client://:{port}/{}?mode=1", one.addr()));
    for ip in ["::1", "127.0.0.1"] {
        let user = SocketAddr::new(ip.parse().unwrap(), port);
        until("a user", GRACE, || exchange(user, b"hello"));
        assert_eq!(udp_echo(user, b"hello").unwrap(), b"hello");
    }
}

// ---- mode

#[test]
fn a_client_with_mode_0_forwards_alone_if_it_can_listen_on_its_tunnel_address() {
    let (target, user) = (Target::echo(), free_addr());
    let client = Process::nodepass(&format!("client://k@{user}/{}", target.addr()));
    until("a user", GRACE, || exchange(user, b"hello"));
    assert_eq!(udp_echo(user, b"hello").unwrap(), b"hello");
    assert_eq!(client.checkpoint(|_| true).mode, 1);
}

#[test]
fn mode_0_at_both_ends_is_reverse_if_the_server_can_listen_for_users() {
    let (target, user, tunnel) = (Target::echo(), free_addr(), free_addr());
    let server = Process::nodepass(&format!("server://k@{tunnel}/{user}"));
    connect(tunnel);
    let client = Process::nodepass(&format!("client://k@{tunnel}/{}", target.addr()));
    until("a user", GRACE, || exchange(user, b"hello"));
    assert_eq!(udp_echo(user, b"hello").unwrap(), b"hello");
    assert_eq!(server.checkpoint(|_| true).mode, 1);
    assert_eq!(client.checkpoint(|_| true).mode, 2);
}

#[test]
fn mode_0_at_both_ends_is_forward_if_the_servers_target_address_is_taken() {
    // The target itself takes it: the server can only dial there.
    let (target, user, tunnel) = (Target::echo(), free_addr(), free_addr());
    let server = Process::nodepass(&format!("server://k@{tunnel}/{}", target.addr()));
    connect(tunnel);
    let client = Process::nodepass(&format!("client://k@{tunnel}/{user}"));
    for (process, at, so) in [
        (&server, target.addr(), "so it is the target, and users come in at the client; mode=1"),
        (&client, tunnel, "so a server is called there; mode=1"),
    ] {
        let told = process.says(&format!("mode=0: cannot listen at {at}"), GRACE);
        assert!(told.contains("  WARN  ") && told.contains(so) && told.contains("mode=2 says so"), "{told}");
    }
    until("a user", GRACE, || exchange(user, b"hello"));
    assert_eq!(udp_echo(user, b"hello").unwrap(), b"hello");
    assert_eq!(server.checkpoint(|_| true).mode, 2);
    assert_eq!(client.checkpoint(|_| true).mode, 2);
}

#[test]
fn mode_0_looks_at_tcp_and_udp_unless_one_is_off() {
    for (taken_is_tcp, parameters, mode) in [(false, "", 2), (false, "noudp=1", 1), (true, "", 2), (true, "notcp=1", 1)]
    {
        let (at, tunnel) = (free_addr(), free_addr());
        let _tcp = taken_is_tcp.then(|| TcpListener::bind(at).unwrap());
        let _udp = (!taken_is_tcp).then(|| UdpSocket::bind(at).unwrap());
        let server = Process::nodepass(&format!("server://k@{tunnel}/{at}?{parameters}"));
        connect(tunnel);
        // In reverse flow the client needs something to dial, in forward flow something to listen on.
        let _client = Process::nodepass(&format!("client://k@{tunnel}/{}?mode=2", free_addr()));
        let seen = server.checkpoint(|_| true).mode;
        assert_eq!(seen, mode, "tcp taken: {taken_is_tcp}, {parameters:?}");
    }
}

#[test]
fn mode_1_waits_for_its_port_and_says_so() {
    for role in ["client", "server"] {
        let (target, user) = (Target::echo(), free_addr());
        let taken = TcpListener::bind(user).unwrap();
        let url = match role {
            "client" => format!("client://k@{user}/{}?mode=1", target.addr()),
            _ => format!("server://k@127.0.0.1:{}/{user}?mode=1", free_port()),
        };
        let process = Process::nodepass(&url);
        let line = process.says("  ERROR  ", GRACE);
        assert!(line.contains(&user.to_string()), "the address is named: {line}");
        drop(taken);
        until("the port", GRACE, || try_connect(user));
    }
}

// ---- dial

#[test]
fn dial_is_the_source_address_that_the_target_sees() {
    each_way(|builder| {
        let tunnel = builder.egress("dial=127.0.0.2").start();
        let wanted: IpAddr = "127.0.0.2".parse().unwrap();
        let (_user, served) = tunnel.pair();
        assert_eq!(served.peer_addr().unwrap().ip(), wanted);
        let (sender, sources) = mpsc::channel();
        let sender = std::sync::Mutex::new(sender);
        tunnel.target.answer(move |socket, data, from| {
            let _ = sender.lock().unwrap().send(from.ip());
            let _ = socket.send_to(data, from);
        });
        tunnel.udp_echo(b"hello");
        assert_eq!(sources.recv_timeout(GRACE), Ok(wanted));
    });
}

#[test]
fn dial_knows_ipv6() {
    if !has_ipv6() {
        return;
    }
    each_way(|builder| {
        let target = Target::at(SocketAddr::new("::1".parse().unwrap(), free_port()));
        let tunnel = builder.egress("dial=::1").target(target.addr()).start();
        tunnel.up();
        let caught = target.catch();
        let _user = tunnel.connect();
        assert_eq!(caught.next().peer_addr().unwrap().ip(), "::1".parse::<IpAddr>().unwrap());
        tunnel.udp_echo(b"hello");
    });
}

#[test]
fn a_source_that_cannot_be_used_is_an_error_and_not_a_fallback() {
    each_way(|builder| {
        let target = Target::echo();
        let tunnel = builder.egress("dial=203.0.113.1").target(target.addr()).start();
        assert_eq!(rest(&tunnel.connect()), b"", "the user is closed");
        tunnel.egress().says("203.0.113.1", GRACE);
        let user = udp_user(tunnel.user);
        user.send(b"hello").unwrap();
        user.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        assert!(user.recv(&mut [0; 10]).is_err());
        assert_eq!((target.accepted(), target.datagrams()), (0, 0), "the target hears of no user");
    });
}

// ---- names

#[test]
fn a_name_with_several_addresses_is_tried_to_the_end() {
    if program("unshare").is_none() || !present(root(), "root") || !has_ipv6() {
        return;
    }
    // Only one of the addresses of the name is listened on, as target and as tunnel.
    for host in ["127.0.0.1", "127.0.0.2", "::1"] {
        let folder = Folder::new();
        folder.write("resolv.conf", "");
        folder.write("hosts", "127.0.0.1 many.test\n127.0.0.2 many.test\n::1 many.test\n");
        let run = |url: &str| Process::run("nodepass", with_hosts_file(&folder, url));
        let target = Target::at(SocketAddr::new(host.parse().unwrap(), free_port()));
        let at = target.addr().port();

        let user = free_addr();
        let _single = run(&format!("client://{user}/many.test:{at}?mode=1"));
        until("a user of the forwarder", GRACE, || exchange(user, b"hello"));

        let (user, tunnel) = (free_addr(), SocketAddr::new(host.parse().unwrap(), free_port()));
        let _server = run(&format!("server://k@{tunnel}/{user}?mode=1"));
        let _client = run(&format!("client://k@many.test:{}/many.test:{at}?mode=2", tunnel.port()));
        until("a user of the reverse tunnel", GRACE, || exchange(user, b"hello"));

        let (user, tunnel) = (free_addr(), SocketAddr::new(host.parse().unwrap(), free_port()));
        let _server = run(&format!("server://k@{tunnel}/many.test:{at}?mode=2"));
        let _client = run(&format!("client://k@many.test:{}/{user}?mode=2", tunnel.port()));
        until("a user of the forward tunnel", GRACE, || exchange(user, b"hello"));
    }
}

#[test]
fn an_address_of_a_name_that_never_answers_does_not_keep_a_user_from_the_next_one() {
    if program("unshare").is_none() || !present(root(), "root") {
        return;
    }
    let folder = Folder::new();
    folder.write("resolv.conf", "");
    folder.write("hosts", "127.0.0.1 many.test\n127.0.0.2 many.test\n");
    let slow = super::targets::Full::new();
    let target = Target::at(SocketAddr::new("127.0.0.2".parse().unwrap(), slow.addr.port()));
    let user = free_addr();
    let mut command = with_hosts_file(&folder, &format!("client://{user}/many.test:{}?mode=1", target.addr().port()));
    command.env("NP_TCP_DIAL_TIMEOUT", "1s");
    let _single = Process::run("nodepass", command);
    until("a user of the forwarder", GRACE, || exchange(user, b"hello"));
}

#[test]
fn a_udp_target_may_be_a_name() {
    let target = Target::echo();
    for builder in [Tunnel::single(), Tunnel::reverse(), Tunnel::forward()] {
        let tunnel = builder.target(format!("localhost:{}", target.addr().port())).start();
        tunnel.udp_echo(b"hello");
    }
}

#[test]
fn a_name_that_is_not_known_ends_the_user_and_is_told() {
    let tunnel = Tunnel::single().target("nobody.invalid:80").env("NP_TCP_DIAL_TIMEOUT", "2s");
    // Where no name server answers either.
    let tunnel = tunnel.env("RES_OPTIONS", "timeout:1 attempts:1").start();
    assert_eq!(rest(&tunnel.connect()), b"");
    tunnel.client.says("nobody.invalid", GRACE);
}

#[test]
fn dns_says_how_long_a_name_is_kept() {
    if program("unshare").is_none() || !present(root(), "root") {
        return;
    }
    for (dns, follows) in [("0", true), ("300ms", true), ("1h", false)] {
        let (name, user) = (Name::new(), free_addr());
        let url = format!("client://{user}/moving.test:{}?mode=1&log=debug&dns={dns}", name.port);
        name.is("127.0.0.1");
        let client = Process::run("client", with_hosts_file(&name.folder, &url));
        until("a user", GRACE, || name.asked(user, b'1'));
        name.is("127.0.0.2");
        client.reports(2);
        if follows {
            // A kept answer is refreshed behind the scenes: one user may still see the old one.
            until("the new address", GRACE, || name.asked(user, b'2'));
        } else {
            name.asked(user, b'1').expect("the old address, as it is kept");
        }
    }
}

#[test]
fn the_last_good_answer_is_kept_when_the_resolver_fails() {
    if program("unshare").is_none() || !present(root(), "root") {
        return;
    }
    let (name, user) = (Name::new(), free_addr());
    let url = format!("client://{user}/moving.test:{}?mode=1&log=debug&dns=300ms", name.port);
    name.is("127.0.0.1");
    let client = Process::run("client", with_hosts_file(&name.folder, &url));
    until("a user", GRACE, || name.asked(user, b'1'));
    name.is_unknown();
    for _ in 0..3 {
        // Longer than an answer is kept.
        client.reports(1);
        name.asked(user, b'1').expect("the last good answer");
    }
    name.is("127.0.0.2");
    until("the new address", GRACE, || name.asked(user, b'2'));
}

/// The name `moving.test`, which the test moves from one address to another; both answer with their last digit.
struct Name {
    folder: Folder,
    port: u16,
    _targets: Vec<Target>,
}

impl Name {
    fn new() -> Name {
        let (folder, port) = (Folder::new(), free_port());
        folder.write("resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n");
        folder.write("hosts", "127.0.0.1 localhost\n");
        let targets = ["127.0.0.1", "127.0.0.2"].map(|ip| {
            let target = Target::at(SocketAddr::new(ip.parse().unwrap(), port));
            let digit = ip.as_bytes()[ip.len() - 1];
            target.handle(move |stream| drop(std::io::Write::write_all(&mut &stream, &[digit])));
            target
        });
        Name { folder, port, _targets: targets.into() }
    }

    fn is(&self, ip: &str) {
        // Written in place: the mount holds this very file.
        self.folder.write("hosts", format!("127.0.0.1 localhost\n{ip} moving.test\n"));
    }

    fn is_unknown(&self) {
        self.folder.write("hosts", "127.0.0.1 localhost\n");
    }

    /// Whether a user lands at the target with this digit.
    fn asked(&self, user: SocketAddr, digit: u8) -> Result<(), Vec<u8>> {
        let answer = try_connect(user).map_or(Vec::new(), |stream| rest(&stream));
        if answer == [digit] {
            Ok(())
        } else {
            Err(answer)
        }
    }
}

// ---- IPv6 and wildcards

#[test]
fn everything_may_be_ipv6() {
    if !has_ipv6() {
        return;
    }
    each_way(|builder| {
        let target = Target::at(SocketAddr::new("::1".parse().unwrap(), free_port()));
        let tunnel = builder.user_host("[::1]").tunnel_host("[::1]").target(target.addr()).start();
        tunnel.up();
        tunnel.udp_echo(&noise(1, 1400));
        assert_eq!(exchange(tunnel.user, &noise(2, 20_000)).unwrap(), noise(2, 20_000));
    });
}

#[test]
fn an_empty_host_listens_on_all_interfaces() {
    for builder in [Tunnel::single(), Tunnel::reverse(), Tunnel::forward()] {
        let tunnel = builder.user_host("").tunnel_host("").start();
        let port = tunnel.user.port();
        let mut hosts = vec!["127.0.0.1", "127.0.0.2"];
        if has_ipv6() {
            hosts.push("::1");
        }
        for host in hosts {
            let to = SocketAddr::new(host.parse().unwrap(), port);
            assert_eq!(exchange(to, b"hello").unwrap_or_else(|error| panic!("{to}: {error}")), b"hello");
            assert_eq!(udp_echo(to, b"hello").unwrap_or_else(|error| panic!("{to}: {error}")), b"hello");
        }
    }
}

#[test]
fn an_ipv4_wildcard_is_ipv4_only() {
    let tunnel = Tunnel::single().user_host("0.0.0.0").start();
    tunnel.echo(b"hello");
    if has_ipv6() {
        assert!(try_connect(SocketAddr::new("::1".parse().unwrap(), tunnel.user.port())).is_err());
    }
}

// ---- zones

#[test]
fn an_address_of_one_link_is_used_with_its_interface_wherever_an_address_is_taken() {
    let Some((ip, zone)) = address_on_a_link() else { return skip("an address of one link (fe80::/10)") };
    let at = |port: u16| format!("[{ip}%25{zone}]:{port}");
    let reached = |port: u16| SocketAddr::V6(SocketAddrV6::new(ip, port, 0, number(&zone)));
    for transport in 0..4 {
        let (target, tunnel, user) = (Target::at(reached(free_port())), free_port(), free_port());
        let target_at = at(target.addr().port());
        let _server =
            Process::nodepass(&format!("server://k@{}/{}?mode=1&type={transport}&tls=1&max=8", at(tunnel), at(user)));
        let _client = Process::nodepass(&format!("client://k@{}/{target_at}?mode=2&min=2", at(tunnel)));
        until("a user", GRACE, || exchange(reached(user), b"hello"));
        assert_eq!(udp_echo(reached(user), b"hello").unwrap(), b"hello", "type={transport}");
    }
    // As flags, without brackets, and from an address of the same link.
    let (target, user) = (Target::at(reached(free_port())), free_port().to_string());
    let (host, port) = (format!("{ip}%{zone}"), target.addr().port().to_string());
    let words =
        ["client", "--tunnel-addr", &host, "--tunnel-port", &user, "--target-addr", &host, "--target-port", &port];
    let source = ip.to_string();
    let words: Vec<&str> = words.into_iter().chain(["--mode", "1", "--dial", &source]).collect();
    let _single = Process::nodepass_with(&words, &[]);
    let user = reached(user.parse().unwrap());
    until("a user", GRACE, || exchange(user, b"hello"));
    assert_eq!(udp_echo(user, b"hello").unwrap(), b"hello");
}

#[test]
fn an_interface_that_is_not_there_is_named() {
    let (user, there) = (free_addr(), format!("[fe80::1%25none0]:{}", free_port()));
    let client = Process::nodepass(&format!("client://k@{there}/{}?mode=2", free_addr()));
    client.says(&format!("{}: there is no network interface none0", there.replace("%25", "%")), GRACE);
    let server = Process::nodepass(&format!("server://k@{there}/{}", free_addr()));
    server.says("there is no network interface none0", GRACE);
    let single = Process::nodepass(&format!("client://k@{user}/{there}?mode=1"));
    drop(until("a user", GRACE, || try_connect(user)));
    single.says("there is no network interface none0", GRACE);
}

/// An address of this machine that means something on one link only, and its interface.
fn address_on_a_link() -> Option<(Ipv6Addr, String)> {
    let list = std::fs::read_to_string("/proc/net/if_inet6").ok()?;
    list.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [address, _, _, "20", flags, name] = words[..] else { return None };
        // Neither tentative nor a duplicate.
        let usable = u8::from_str_radix(flags, 16).ok()? & 0x48 == 0;
        usable.then_some((u128::from_str_radix(address, 16).ok()?.into(), name.to_owned()))
    })
}

/// The number of an interface.
fn number(zone: &str) -> u32 {
    let text = std::fs::read_to_string(format!("/sys/class/net/{zone}/ifindex")).expect("an interface");
    text.trim().parse().expect("a number")
}
