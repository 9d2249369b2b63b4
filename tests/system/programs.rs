//! Real programs through real tunnels: what a user would run on the first day.
//!
//! A program that is not installed skips its test with a word.

mod bridges;
mod chat;
pub mod ssh;

use crate::dns::Names;
use crate::support::*;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

// ---- curl and nginx

#[test]
fn curl_fetches_from_nginx() {
    let Some(web) = Web::new() else { return };
    each_way(|builder| {
        let tunnel = builder.target(web.addr).start();
        let url = |path: &str| format!("http://{}/{path}", tunnel.user);
        assert_eq!(curl(&["-s", &url("small")]), "a small page\n");
        // Two requests on one connection: kept alive through the tunnel.
        let counted = ["-s", "-o", "/dev/null", "-o", "/dev/null", "-w", "%{num_connects},"];
        assert_eq!(curl(&[&counted[..], &[&url("small"), &url("small")]].concat()), "1,0,");
        assert_eq!(curl(&["-s", "-H", "Connection: close", &url("small")]), "a small page\n");
    });
}

#[test]
fn curl_downloads_two_hundred_megabytes_unchanged() {
    let Some(web) = Web::new() else { return };
    let big = web.folder.write("www/big", noise(1, BIG));
    let wanted = sha256(&big);
    each_way(|builder| {
        let tunnel = builder.target(web.addr).start();
        let here = Folder::new();
        let file = here.file("big");
        curl(&["-s", "--fail", "-o", file.to_str().unwrap(), &format!("http://{}/big", tunnel.user)]);
        assert_eq!(std::fs::metadata(&file).unwrap().len(), BIG as u64);
        assert_eq!(sha256(&file), wanted);
    });
}

#[test]
fn curl_uploads_unchanged() {
    let Some(web) = Web::new() else { return };
    each_way(|builder| {
        let tunnel = builder.target(web.addr).start();
        let here = Folder::new();
        let file = here.write("upload", noise(u64::from(tunnel.user.port()), BIG / 8));
        let name = format!("up-{}", tunnel.user.port());
        let url = format!("http://{}/upload/{name}", tunnel.user);
        let code = curl(&["-s", "-w", "%{http_code}", "-H", "Expect:", "-T", file.to_str().unwrap(), &url]);
        assert_eq!(code, "201");
        assert_eq!(sha256(&web.folder.file(&format!("www/upload/{name}"))), sha256(&file));
    });
}

#[test]
fn a_hundred_curls_at_once_are_all_served() {
    let Some(web) = Web::new() else { return };
    each_way(|builder| {
        // It takes a while until the pool has grown to so many.
        let tunnel = builder.target(web.addr).env("NP_POOL_GET_TIMEOUT", "60s").start();
        let here = Folder::new();
        let (web, files) = (tunnel.user, here.path().display());
        let transfer = |n: i32| format!("url = \"http://{web}/page/{n}\"\noutput = \"{files}/out-{n}\"\n");
        let config: String = (0..100).map(transfer).collect();
        let file = here.write("curl.conf", config);
        let file = file.to_str().unwrap();
        curl(&["-s", "--fail", "--parallel", "--parallel-immediate", "--parallel-max", "100", "-K", file]);
        for n in 0..100 {
            assert_eq!(std::fs::read_to_string(here.file(&format!("out-{n}"))).unwrap(), format!("page {n}\n"));
        }
    });
}

#[test]
fn nginx_learns_the_users_address_from_the_proxy_protocol() {
    let Some(web) = Web::new() else { return };
    each_way(|builder| {
        let tunnel = builder.egress("proxy=1").target(web.proxied).start();
        told_the_address(tunnel.user);
    });
}

#[test]
fn nginx_learns_the_users_ipv6_address_from_the_proxy_protocol() {
    let Some(web) = Web::new() else { return };
    let Some(proxied6) = web.proxied6 else { return };
    each_way(|builder| {
        let tunnel = builder.egress("proxy=1").target(proxied6).user_host("[::1]").start();
        told_the_address(tunnel.user);
    });
}

/// nginx answers with the address it was told; curl knows its own.
fn told_the_address(user: SocketAddr) {
    let said = curl(&["-s", "-w", "%{local_ip} %{local_port}", &format!("http://{user}/who")]);
    let (told, own) = said.split_once('\n').unwrap_or_else(|| panic!("no answer: {said}"));
    assert_eq!(told, own);
}

/// An nginx with pages, an upload folder, and listeners that want the PROXY protocol.
struct Web {
    folder: Folder,
    addr: SocketAddr,
    proxied: SocketAddr,
    proxied6: Option<SocketAddr>,
    _process: Process,
}

impl Web {
    fn new() -> Option<Web> {
        let nginx = program("nginx")?;
        program("curl")?;
        let folder = Folder::new();
        std::fs::create_dir_all(folder.file("www/upload")).unwrap();
        folder.write("www/small", "a small page\n");
        let (addr, proxied) = (free_addr(), free_addr());
        let proxied6 = has_ipv6().then(|| SocketAddr::new("::1".parse().unwrap(), free_port()));
        let listen6 = proxied6.map_or(String::new(), |addr| format!("listen {addr} proxy_protocol;"));
        let user = if root() { "user root;" } else { "" };
        let here = folder.path().display();
        let config = format!(
            "{user} daemon off; master_process off; pid {here}/pid; error_log stderr;\n\
             events {{ worker_connections 1024; }}\n\
             http {{ access_log off; client_max_body_size 0; default_type text/plain;\n\
             client_body_temp_path {here}/b; proxy_temp_path {here}/p; fastcgi_temp_path {here}/f;\n\
             uwsgi_temp_path {here}/u; scgi_temp_path {here}/s;\n\
             server {{ listen {addr}; root {here}/www;\n\
             location /upload/ {{ dav_methods PUT; }}\n\
             location ~ ^/page/(.*) {{ return 200 \"page $1\\n\"; }} }}\n\
             server {{ listen {proxied} proxy_protocol; {listen6}\n\
             location / {{ return 200 \"$proxy_protocol_addr $proxy_protocol_port\\n\"; }} }} }}\n"
        );
        let file = folder.write("nginx.conf", config);
        let process = start(&nginx, &["-c", file.to_str().unwrap(), "-e", "stderr"]);
        connect(addr);
        Some(Web { folder, addr, proxied, proxied6, _process: process })
    }
}

/// Runs curl, which must succeed; what it wrote.
fn curl(args: &[&str]) -> String {
    let mut command = Command::new("curl");
    command.args(["-S", "--noproxy", "*", "--max-time", "300"]).args(args);
    let (status, out, errors) = output(command);
    assert_eq!(status, 0, "curl {args:?}: {errors}");
    // Lines come without their last newline.
    let ends_line = args.last().is_some_and(|url| url.ends_with("small")) && !args.contains(&"-w");
    out + if ends_line { "\n" } else { "" }
}

fn sha256(file: &Path) -> Vec<u8> {
    let bytes = std::fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    ring::digest::digest(&ring::digest::SHA256, &bytes).as_ref().to_vec()
}

// ---- openssl: the single-end forwarder as a TLS terminator

#[test]
fn openssl_speaks_tls_1_3_and_1_2_and_nothing_older_with_a_self_signed_listener() {
    let Some(openssl) = program("openssl") else { return };
    let tunnel = Tunnel::single().client("tls=1").start();
    answer_hello(&tunnel.target);
    for (version, name) in [("-tls1_3", "TLSv1.3"), ("-tls1_2", "TLSv1.2")] {
        let (status, out) = s_client(&openssl, tunnel.user, &[version]);
        assert_eq!(status, 0, "{version}: {out}");
        assert!(out.contains("hello to you") && out.contains(name), "{version}: {out}");
    }
    for version in ["-tls1_1", "-tls1"] {
        let (status, out) = s_client(&openssl, tunnel.user, &[version, "-cipher", "DEFAULT@SECLEVEL=0"]);
        assert!(status != 0 && !out.contains("hello to you"), "{version} must be refused: {out}");
    }
    let (_, out) = s_client(&openssl, tunnel.user, &["-verify_return_error"]);
    assert!(!out.contains("hello to you"), "no authority vouches for a self-signed certificate");
}

#[test]
fn openssl_verifies_the_chain_of_a_listener_with_certificate_files() {
    let Some(openssl) = program("openssl") else { return };
    let authority = Authority::new("tunnel.test").unwrap();
    let tunnel = Tunnel::single().client(&format!("tls=2&{}", authority.parameters())).start();
    answer_hello(&tunnel.target);
    let ca = authority.ca();
    let verify = ["-CAfile", &ca, "-verify_return_error", "-servername", "tunnel.test", "-verify_hostname"];
    for version in ["-tls1_3", "-tls1_2"] {
        let (status, out) = s_client(&openssl, tunnel.user, &[&verify[..], &["tunnel.test", version]].concat());
        assert_eq!(status, 0, "{out}");
        assert!(out.contains("hello to you") && out.contains("Verify return code: 0 (ok)"), "{out}");
    }
    let (_, out) = s_client(&openssl, tunnel.user, &[&verify[..], &["other.test"]].concat());
    assert!(!out.contains("hello to you"), "the name is checked by this very test's client");
    let (status, out) = s_client(
        &openssl,
        tunnel.user,
        &[&verify[..], &["tunnel.test", "-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]].concat(),
    );
    assert!(status != 0 && !out.contains("hello to you"), "1.1 must be refused: {out}");
}

#[test]
fn openssl_changes_its_keys_and_asks_for_new_ones_of_ours() {
    let Some(openssl) = program("openssl") else { return };
    let tunnel = Tunnel::single().client("tls=1").start();
    let mut command = Command::new("sh");
    command
        .args(["-c", "exec timeout 60 \"$0\" s_client -tls1_3 -connect \"$1\" 2>&1"])
        .args([openssl, PathBuf::from(tunnel.user.to_string())])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut client = start_child(command).unwrap();
    let (mut says, hears) = (client.stdin.take().unwrap(), client.stdout.take().unwrap());
    let mut hears = BufReader::new(hears).lines();
    let mut until = |line: &str| assert!(hears.any(|heard| heard.is_ok_and(|heard| heard == line)), "no {line}");
    for round in 0..3 {
        // It takes one line at a time for an order.
        says.write_all(b"K\n").unwrap();
        until("KEYUPDATE");
        let word = format!("words {round}");
        says.write_all(format!("{word}\n").as_bytes()).unwrap();
        until(&word);
    }
    drop(says);
    client.wait().unwrap();
}

#[test]
fn a_renewed_certificate_is_served_to_new_users_and_a_bad_one_is_not() {
    let Some(openssl) = program("openssl") else { return };
    for by_signal in [true, false] {
        let authority = Authority::new("first.test").unwrap();
        let interval = if by_signal { "1h" } else { "1s" };
        let builder = Tunnel::single().client(&format!("tls=2&{}", authority.parameters()));
        let tunnel = builder.env("NP_RELOAD_INTERVAL", interval).start();
        answer_hello(&tunnel.target);
        let subject = || s_client(&openssl, tunnel.user, &[]).1;
        let reload = || {
            if by_signal {
                tunnel.client.signal(libc::SIGHUP);
            }
        };
        assert!(subject().contains("first.test"));

        authority.issue("second.test", "next");
        std::fs::rename(authority.path("next.key"), authority.path("server.key")).unwrap();
        std::fs::rename(authority.path("next.pem"), authority.path("server.pem")).unwrap();
        reload();
        assert!(eventually(GRACE, || subject().contains("second.test")), "the new certificate is served");

        let mark = tunnel.client.mark();
        std::fs::write(authority.path("server.pem"), "this is no certificate").unwrap();
        reload();
        tunnel.client.says_after(mark, "server.pem", GRACE);
        assert!(subject().contains("second.test"), "the last good certificate stays");
    }
}

/// One hello through `openssl s_client`: status, and all it wrote.
fn s_client(openssl: &Path, user: SocketAddr, args: &[&str]) -> (i32, String) {
    let script = "printf hello | \"$0\" s_client -ign_eof -connect \"$@\" 2>&1";
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(openssl).arg(user.to_string()).args(args);
    let (status, out, _) = output(command);
    (status, out)
}

fn answer_hello(target: &Target) {
    target.handle(|stream| {
        if stream.set_read_timeout(Some(GRACE)).is_ok() && std::io::Read::read_exact(&mut &stream, &mut [0; 5]).is_ok()
        {
            let _ = std::io::Write::write_all(&mut &stream, b"hello to you\n");
        }
    });
}

// ---- MQTT

#[test]
fn mosquitto_delivers_with_every_quality_of_service() {
    let Some(broker) = Broker::new() else { return };
    each_way(|builder| {
        let tunnel = builder.target(broker.addr).start();
        let topic = format!("test/{}", tunnel.user.port());
        let subscriber = broker.subscribe(tunnel.user, &topic, &["-C", "3"]);
        for qos in ["0", "1", "2"] {
            let mut publish = client("mosquitto_pub", tunnel.user);
            publish.args(["-t", &topic, "-q", qos, "-m", &format!("with qos {qos}")]);
            let (status, _, errors) = output(publish);
            assert_eq!(status, 0, "qos {qos}: {errors}");
            subscriber.says(&format!("with qos {qos}"), GRACE);
        }
        assert_eq!(subscriber.wait(GRACE), 0);
    });
}

#[test]
fn mosquitto_keeps_a_silent_connection_alive() {
    let Some(broker) = Broker::new() else { return };
    each_way(|builder| {
        let tunnel = builder.target(broker.addr).start();
        let topic = format!("quiet/{}", tunnel.user.port());
        // Five seconds is the shortest keep-alive it takes.
        let subscriber = broker.subscribe(tunnel.user, &topic, &["-k", "5", "-C", "1"]);
        let pings = format!("Received PINGREQ from sub-{}", tunnel.user.port());
        assert!(eventually(GRACE * 2, || broker.process.count(&pings) >= 2), "two pings through the tunnel");
        let mut publish = client("mosquitto_pub", tunnel.user);
        publish.args(["-t", &topic, "-q", "2", "-m", "good morning"]);
        assert_eq!(output(publish).0, 0);
        subscriber.says("good morning", GRACE);
        assert_eq!(subscriber.wait(GRACE), 0);
    });
}

struct Broker {
    addr: SocketAddr,
    process: Process,
    _folder: Folder,
}

impl Broker {
    fn new() -> Option<Broker> {
        let mosquitto = program("mosquitto")?;
        program("mosquitto_pub")?;
        program("mosquitto_sub")?;
        let (folder, addr) = (Folder::new(), free_addr());
        let user = if root() { "user root\n" } else { "" };
        let config = format!(
            "{user}listener {} {}\nallow_anonymous true\npersistence false\nlog_dest stderr\nlog_type all\n",
            addr.port(),
            addr.ip()
        );
        let file = folder.write("mosquitto.conf", config);
        let process = start(&mosquitto, &["-c", file.to_str().unwrap()]);
        connect(addr);
        Some(Broker { addr, process, _folder: folder })
    }

    /// A subscriber that is subscribed already.
    fn subscribe(&self, user: SocketAddr, topic: &str, more: &[&str]) -> Process {
        let id = format!("sub-{}", user.port());
        let mut subscribe = client("mosquitto_sub", user);
        subscribe.args(["-i", &id, "-t", topic, "-q", "2"]).args(more);
        let process = Process::run("mosquitto_sub", subscribe);
        self.process.says(&format!("Sending SUBACK to {id}"), GRACE);
        process
    }
}

fn client(name: &str, user: SocketAddr) -> Command {
    let mut command = Command::new(name);
    command.args(["-h", &user.ip().to_string(), "-p", &user.port().to_string(), "-V", "mqttv311"]);
    command
}

// ---- DNS

#[test]
fn dig_asks_dnsmasq_over_udp_and_tcp() {
    let Some(dns) = names() else { return };
    each_way(|builder| {
        let tunnel = builder.target(dns.addr).start();
        for transport in ["+notcp", "+tcp"] {
            assert_eq!(dig(tunnel.user, &[transport, "+short", "a.test", "A"]).trim(), "192.0.2.7");
        }
        for n in 0..20 {
            assert_eq!(dig(tunnel.user, &["+short", &format!("n{n}.a.test"), "A"]).trim(), "192.0.2.7");
        }
    });
}

#[test]
fn a_large_answer_comes_whole_in_one_datagram() {
    let Some(dns) = names() else { return };
    each_way(|builder| {
        let tunnel = builder.target(dns.addr).start();
        for transport in ["+notcp", "+tcp"] {
            let answer = dig(tunnel.user, &[transport, "+bufsize=4096", "big.test", "TXT"]);
            let size = answer.lines().find_map(|line| line.split_once("MSG SIZE  rcvd: ")?.1.parse::<usize>().ok());
            assert!(size.is_some_and(|size| size > 1232), "{answer}");
            assert!((0..12).all(|n| answer.contains(&text(n))), "{answer}");
        }
    });
}

#[test]
fn dig_asks_through_an_ipv6_listener() {
    let Some(dns) = names() else { return };
    if !has_ipv6() {
        return;
    }
    each_way(|builder| {
        let tunnel = builder.target(dns.addr).user_host("[::1]").start();
        for transport in ["+notcp", "+tcp"] {
            assert_eq!(dig(tunnel.user, &[transport, "+short", "a.test", "A"]).trim(), "192.0.2.7");
        }
    });
}

/// dnsmasq, where there is dig to ask it.
fn names() -> Option<Names> {
    program("dig")?;
    let big = format!("--txt-record=big.test,{}", (0..12).map(text).collect::<Vec<_>>().join(","));
    Names::new(&["--edns-packet-max=4096", "--address=/a.test/192.0.2.7", &big])
}

/// One string of the large answer.
fn text(n: usize) -> String {
    format!("{n:03}-").repeat(50)
}

/// Runs dig, which must succeed; what it wrote.
fn dig(server: SocketAddr, args: &[&str]) -> String {
    let mut command = Command::new("dig");
    command.args([&format!("@{}", server.ip()), "-p", &server.port().to_string(), "+tries=5", "+time=3"]).args(args);
    let (status, out, errors) = output(command);
    assert_eq!(status, 0, "dig {args:?}: {out} {errors}");
    out
}

// ---- iperf3: a TCP control connection and data on the same port, over TCP or UDP

#[test]
fn iperf3_measures_tcp_both_ways() {
    let Some(iperf3) = program("iperf3") else { return };
    each_way(|builder| {
        let (tunnel, _server) = measured(&iperf3, builder);
        for direction in [&[][..], &["-R"], &["-P", "4"]] {
            let report = iperf(&iperf3, tunnel.user, &[&["-n", "200M"], direction].concat());
            let received = report["end"]["sum_received"]["bytes"].as_u64().unwrap_or_default();
            // The receiver stops counting when the sender says so, whatever is still on its way.
            assert!(received >= 100_000_000, "{direction:?}: {received} bytes of 200 MB arrived");
        }
    });
}

#[test]
fn iperf3_measures_udp_beside_its_tcp_control_connection() {
    let Some(iperf3) = program("iperf3") else { return };
    each_way(|builder| {
        let (tunnel, _server) = measured(&iperf3, builder);
        for direction in [&[][..], &["-R"]] {
            // All of them fit into the buffer of a socket: none is lost because a process had no time just then.
            let args = ["-u", "-b", "400k", "-l", "1200", "-t", "2"];
            let sum = &iperf(&iperf3, tunnel.user, &[&args, direction].concat())["end"]["sum"];
            let packets = sum["packets"].as_u64().unwrap_or_default();
            let lost = sum["lost_packets"].as_i64().unwrap_or(i64::MAX);
            assert!(packets > 50 && lost * 20 < packets as i64, "{direction:?}: {lost} of {packets} lost: {sum}");
        }
    });
}

/// A tunnel to an iperf3 server of its own, as that serves one client at a time.
fn measured(iperf3: &Path, builder: Builder) -> (Tunnel, Process) {
    let addr = free_addr();
    let port = addr.port().to_string();
    let server = start(iperf3, &["-s", "-B", "127.0.0.1", "-p", &port, "--forceflush"]);
    server.says("Server listening", GRACE);
    (builder.target(addr).start(), server)
}

fn iperf(iperf3: &PathBuf, user: SocketAddr, args: &[&str]) -> serde_json::Value {
    // The server may still be busy with the end of the last measurement, or with the visit of a user who only looked.
    until("a measurement", GRACE * 2, || {
        let mut command = Command::new(iperf3);
        command.args(["-c", &user.ip().to_string(), "-p", &user.port().to_string(), "-J"]).args(args);
        let (status, out, errors) = output(command);
        let report: serde_json::Value = serde_json::from_str(&out).unwrap_or_default();
        let error = report["error"].as_str();
        if status == 0 && error.is_none() {
            Ok(report)
        } else {
            Err(format!("{error:?} {errors}"))
        }
    })
}

// ---- a long chat

#[test]
fn a_connection_that_is_silent_for_longer_than_every_timeout_survives() {
    each_way(|builder| {
        let mut builder = builder;
        for name in ["NP_TCP_DIAL_TIMEOUT", "NP_UDP_DIAL_TIMEOUT", "NP_UDP_READ_TIMEOUT", "NP_HANDSHAKE_TIMEOUT"] {
            builder = builder.env(name, "3s");
        }
        let builder = builder.env("NP_POOL_GET_TIMEOUT", "3s").env("NP_RELOAD_INTERVAL", "1s");
        let tunnel = builder.start();
        let (user, served) = tunnel.pair();
        put(&user, b"SSH-2.0-client\r\n");
        assert_eq!(take(&served, 16), b"SSH-2.0-client\r\n");
        tunnel.processes().iter().for_each(|process| drop(process.reports(SILENCE)));
        put(&served, b"are you there?");
        assert_eq!(take(&user, 14), b"are you there?");
        tunnel.processes().iter().for_each(|process| drop(process.reports(SILENCE)));
        put(&user, b"yes");
        assert_eq!(take(&served, 3), b"yes");
        drop(user);
        assert_eq!(rest(&served), b"");
    });
}

/// Check points: more than the three that end a silent tunnel, and, a second each, more than every other timeout.
const SILENCE: usize = 7;
/// The large download, in bytes.
const BIG: usize = 200_000_000;
