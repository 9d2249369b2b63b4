//! A client behind a real HTTP proxy, which wants a user and a password.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};

use crate::support::*;

#[test]
fn a_tunnel_of_every_kind_goes_through_the_proxy_that_the_environment_names() {
    let Some(host) = own_address() else { return skip("an address that is not loopback") };
    let Some((proxy, port, _folder)) = tinyproxy() else { return };
    for (transport, tls) in kinds() {
        let (target, user, tunnel) = (Target::echo(), free_addr(), free_port());
        let server = format!("server://a-key-of-some-length@{host}:{tunnel}/{user}?mode=1&type={transport}&tls={tls}");
        let _server = Process::nodepass(&server);
        let url = format!("client://a-key-of-some-length@{host}:{tunnel}/{}?mode=2&min=2&log=debug", target.addr());
        let client = |with: &str| {
            let with = format!("http://{with}@127.0.0.1:{port}");
            Process::nodepass_with(&[&url], &[("HTTPS_PROXY", with.as_str())])
        };
        let refused = client("alice:secret");
        assert!(
            refused
                .says("Client error: the proxy of HTTPS_PROXY", GRACE)
                .contains("a user and a password, or others (40"),
            "its 401 or 407"
        );
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
        assert_eq!(client.count("  WARN  "), usize::from(tls == 0), "tls=0 alone is told: {:?}", client.lines());
    }
}

#[test]
fn a_proxy_that_cannot_be_used_is_one_clear_error_at_the_start() {
    let env = [QUICK, &[("HTTPS_PROXY", "https://u:topsecret@proxy.example")]].concat();
    let client = Process::nodepass_with(&["client://key@tunnel.example:1/127.0.0.1:2"], &env);
    assert_eq!(client.wait(GRACE), 1);
    assert!(client.said("only http:// proxies") && !client.said("topsecret"), "{:?}", client.lines());
}

#[test]
fn a_proxy_that_is_down_or_cannot_go_on_is_named_and_not_the_handshake() {
    let told = |proxy: SocketAddr| {
        let proxy = format!("http://{proxy}");
        let client =
            Process::nodepass_with(&["client://key@tunnel.example:1/127.0.0.1:2?mode=2"], &[("HTTPS_PROXY", &proxy)]);
        client.says("Client error: ", GRACE)
    };
    let down = free_addr();
    let line = told(down);
    assert!(line.contains(&format!("Client error: the proxy of HTTPS_PROXY {down}: ")), "{line}");
    assert!(line.contains("nothing listens there") && !line.contains("handshake"), "{line}");

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let proxy = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut heard = [0; 7];
        socket.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"CONNECT");
        socket.write_all(b"HTTP/1.1 502 Bad Gateway\r\n\r\n").unwrap();
        rest(&socket);
    });
    let line = told(at);
    assert!(line.contains(&format!("the proxy of HTTPS_PROXY {at}: it cannot reach the server (502)")), "{line}");
    assert!(!line.contains("handshake"), "{line}");
    proxy.join().unwrap();
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
