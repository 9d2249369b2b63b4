//! A client behind a real HTTP proxy, which wants a user and a password.

use std::net::{IpAddr, UdpSocket};

use crate::support::*;

#[test]
fn a_tunnel_of_every_kind_goes_through_the_proxy_that_the_environment_names() {
    let Some(host) = other_than_loopback() else { return skip("an address that is not loopback") };
    let Some((proxy, port, _folder)) = tinyproxy() else { return };
    for (transport, tls) in kinds() {
        let (target, user, tunnel) = (Target::echo(), free_addr(), free_port());
        let server = format!("server://key@{host}:{tunnel}/{user}?mode=1&type={transport}&tls={tls}");
        let _server = Process::nodepass(&server);
        let url = format!("client://key@{host}:{tunnel}/{}?mode=2&min=2&log=debug", target.addr());
        let client = |with: &str| {
            let with = format!("http://{with}@127.0.0.1:{port}");
            Process::nodepass_with(&[&url], &[("HTTPS_PROXY", with.as_str())])
        };
        let refused = client("alice:secret");
        assert!(refused.says("failed", GRACE).contains("a user and a password, or others (40"), "its 401 or 407");
        drop(refused);

        let mark = proxy.mark();
        let client = client("alice:s%65sam");
        client.says("is up: users", GRACE);
        echoed(user, b"through a proxy");
        assert_eq!(udp_echo(user, b"datagrams too").expect("an echo"), b"datagrams too");
        proxy.says_after(mark, &format!("CONNECT {host}:{tunnel}"), GRACE);
        assert!(!client.said("sesam") && !client.said("s%65sam"), "the password is in the log");
        // A proxy carries no UDP, so QUIC is not even tried.
        assert_eq!(
            client.count("QUIC does not go through an HTTP proxy: going on over TCP"),
            usize::from(transport == 1)
        );
        assert_eq!(client.count("  WARN  "), 0, "{:?}", client.lines());
    }
}
#[test]
fn a_proxy_that_cannot_be_used_is_one_clear_error_at_the_start() {
    let env = [QUICK, &[("HTTPS_PROXY", "https://u:topsecret@proxy.example")]].concat();
    let client = Process::nodepass_with(&["client://key@tunnel.example:1/127.0.0.1:2"], &env);
    assert_eq!(client.wait(GRACE), 1);
    assert!(client.said("only http:// proxies") && !client.said("topsecret"), "{:?}", client.lines());
}

/// A proxy for alice, its port, and where its files are.
fn tinyproxy() -> Option<(Process, u16, Folder)> {
    let path = program("tinyproxy")?;
    let (folder, port) = (Folder::new(), free_port());
    let rules = format!("Port {port}\nListen 127.0.0.1\nBasicAuth alice sesam\nMaxClients 50\nLogLevel Connect\n");
    let file = folder.write("tinyproxy.conf", rules);
    let proxy = start(&path, &["-d", "-c", &file.to_string_lossy()]);
    until("the proxy", GRACE, || try_connect(([127, 0, 0, 1], port).into()));
    Some((proxy, port, folder))
}

/// An address of this machine that a proxy is used for: nothing is sent to find it.
fn other_than_loopback() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback() && !ip.is_unspecified()).then_some(ip)
}
