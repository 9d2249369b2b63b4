//! Reverse proxies that end TLS stand between client and server (the feature `edge`). Their settings here are those of
//! docs/transports.md.
//!
//! ```text
//!   client --TLS, verified--> nginx or haproxy at port 443 --TLS, not verified--> server, type=2 or 3
//! ```

use super::https;
use crate::support::*;
use std::net::{SocketAddr, TcpStream};

#[test]
fn a_websocket_tunnel_goes_through_nginx() {
    if cfg!(feature = "ws") {
        every_way_through(nginx, 2);
    }
}

#[test]
fn a_websocket_tunnel_goes_through_haproxy() {
    if cfg!(feature = "ws") {
        every_way_through(haproxy, 2);
    }
}

#[test]
fn an_http2_tunnel_goes_through_haproxy() {
    if cfg!(feature = "h2") {
        every_way_through(haproxy, 3);
    }
}

#[test]
fn a_proxy_with_another_name_or_of_another_authority_is_refused_with_a_clear_line() {
    if !cfg!(feature = "ws") {
        return;
    }
    let Some(edge) = Edge::new(haproxy, 2, 1) else { return };
    let stranger = Authority::new(NAME).expect("openssl was there a moment ago");
    for (sni, roots, why) in [
        ("other.example", edge.authority.ca(), "not for other.example"),
        (NAME, stranger.ca(), "the server's certificate"),
    ] {
        let client = edge.client(sni, &roots);
        let line = client.says(why, GRACE);
        assert!(line.contains("failed") && line.contains("TLS at port 443, where "), "{line}");
        assert!(exchange(edge.user, b"hello").is_err(), "no user gets through");
        assert!(!edge.server.said("is up"));
    }
}

#[test]
fn a_server_behind_a_proxy_that_goes_away_is_found_again() {
    if !cfg!(feature = "ws") {
        return;
    }
    let Some(mut edge) = Edge::new(nginx, 2, 1) else { return };
    let client = edge.client(NAME, &edge.authority.ca());
    until("a user", GRACE, || exchange(edge.user, b"hello"));
    // The server: the proxy says 502 meanwhile.
    edge.server.kill();
    let mark = client.mark();
    client.says_after(mark, "502", GRACE);
    edge.server = Process::nodepass(&edge.url);
    until("a user of the new server", GRACE, || exchange(edge.user, b"hello"));
    // The proxy.
    edge.proxy.kill();
    client.says("refused", GRACE);
    edge.proxy = nginx(edge.at, edge.behind, &edge.authority, &edge.folder).expect("it was there a moment ago");
    until("a user through the new proxy", GRACE, || exchange(edge.user, b"hello"));
}

/// Users of every kind through that proxy, with both kinds of certificate at the server: only the proxy looks at it.
fn every_way_through(proxy: Maker, transport: u8) {
    for tls in [1, 2] {
        let Some(edge) = Edge::new(proxy, transport, tls) else { return };
        let client = edge.client(NAME, &edge.authority.ca());
        client.says("is up", GRACE);
        let line = edge.server.says("is up", GRACE);
        assert!(line.contains("edge"), "{line}");
        until("a user", GRACE, || exchange(edge.user, b"hello"));
        let marks = [(&client, client.mark()), (&edge.server, edge.server.mark())];

        // An end in one direction leaves the other one open.
        let (user, served) = edge.pair();
        put(&user, &noise(1, 300_000));
        end(&user);
        assert!(rest(&served) == noise(1, 300_000), "all bytes, then the end, at the target");
        let answer = std::thread::spawn(move || put(&served, &noise(2, MB)));
        assert!(rest(&user) == noise(2, MB), "the whole answer after the user's end");
        answer.join().unwrap();
        let (user, served) = edge.pair();
        end(&served);
        assert_eq!(rest(&user), b"");
        put(&user, b"still here");
        drop(user);
        assert_eq!(rest(&served), b"still here");
        // A reset ends both.
        let (user, served) = edge.pair();
        put(&user, b"x");
        assert_eq!(take(&served, 1), b"x");
        reset(served);
        rest(&user);

        edge.target.handle(echo);
        assert_eq!(udp_echo(edge.user, &noise(3, 9000)).expect("a datagram"), noise(3, 9000));
        std::thread::scope(|scope| {
            for n in 0..20 {
                let edge = &edge;
                scope.spawn(move || echoed(edge.user, &noise(n, 20_000)));
            }
        });
        for (process, mark) in marks {
            assert!(!process.said("ingerprint"), "a certificate that the proxy hides is not compared");
            assert!(!process.said_after(mark, "is up: users"), "one tunnel all the while");
        }
        client.terminate();
        assert_eq!(client.wait(GRACE), 0);
        edge.server.says("ended", GRACE);
    }
}

/// A server with a proxy before it, and what they need.
struct Edge {
    /// Where the proxy is.
    at: SocketAddr,
    /// Where the server is.
    behind: SocketAddr,
    user: SocketAddr,
    url: String,
    server: Process,
    proxy: Process,
    target: Target,
    authority: Authority,
    folder: Folder,
}

/// Starts a proxy at the first address before the server at the second; `None` if there is no such program.
type Maker = fn(SocketAddr, SocketAddr, &Authority, &Folder) -> Option<Process>;

impl Edge {
    fn new(maker: Maker, transport: u8, tls: u8) -> Option<Edge> {
        let (at, authority) = (https()?, Authority::new(NAME)?);
        let (behind, user, target, folder) = (free_addr(), free_addr(), Target::echo(), Folder::new());
        // A name that need not be believed: proxies before servers rarely do.
        authority.issue("internal.example", "internal");
        let files = match tls {
            2 => format!("&crt={}&key={}", authority.path("internal.pem"), authority.path("internal.key")),
            _ => String::new(),
        };
        let url = format!("server://key@{behind}/{user}?mode=1&max=8&log=debug&type={transport}&tls={tls}{files}");
        let server = Process::nodepass(&url);
        server.says("Waiting for a client", GRACE);
        let proxy = maker(at, behind, &authority, &folder)?;
        until("the proxy", GRACE, || try_connect(at));
        Some(Edge { at, behind, user, url, server, proxy, target, authority, folder })
    }

    fn client(&self, sni: &str, roots: &str) -> Process {
        let url = format!("client://key@{}/{}?mode=2&min=4&log=debug&sni={sni}", self.at, self.target.addr());
        Process::nodepass_with(&[&url], &[("SSL_CERT_FILE", roots)])
    }

    /// A user and the target's end of his connection.
    fn pair(&self) -> (TcpStream, TcpStream) {
        let caught = self.target.catch();
        let user = connect(self.user);
        (user, caught.next())
    }
}

fn nginx(at: SocketAddr, behind: SocketAddr, authority: &Authority, folder: &Folder) -> Option<Process> {
    let path = program("nginx")?;
    let (crt, key) = (authority.path("server.pem"), authority.path("server.key"));
    let place = |name| folder.file(name).to_string_lossy().into_owned();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary = temporary.map(|name| format!("{name}_temp_path {};\n", place(name))).concat();
    let file = folder.write(
        "nginx.conf",
        format!(
            "daemon off; master_process off; pid {pid}; error_log stderr warn;
events {{ worker_connections 512; }}
http {{
    access_log off;
    {temporary}
    map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
    server {{
        listen {at} ssl;
        ssl_certificate {crt};
        ssl_certificate_key {key};
        ssl_protocols TLSv1.3;

        location / {{
            proxy_pass https://{behind};
            proxy_ssl_protocols TLSv1.3;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_set_header Host $host;
            proxy_buffering off;
            proxy_read_timeout 1d;
            proxy_send_timeout 1d;
            # Proxies say much about themselves.
            add_header X-Long {long} always;
        }}
    }}
}}
",
            pid = place("pid"),
            long = "x".repeat(3000),
        ),
    );
    Some(start(&path, &["-c", file.to_str()?, "-e", "stderr"]))
}

fn haproxy(at: SocketAddr, behind: SocketAddr, authority: &Authority, folder: &Folder) -> Option<Process> {
    let path = program("haproxy")?;
    let read = |name: &str| std::fs::read_to_string(authority.path(name)).expect("a certificate");
    let crt = folder.write("both.pem", read("server.pem") + &read("server.key"));
    let file = folder.write(
        "haproxy.cfg",
        format!(
            "global
    maxconn 500
defaults
    mode http
    timeout connect 5s
    timeout client 1d
    timeout server 1d
    timeout tunnel 1d
frontend edge
    bind {at} ssl crt {crt} ssl-min-ver TLSv1.3 alpn h2,http/1.1
    use_backend streams if {{ path /stream }}
    default_backend nodepass
backend nodepass
    server s {behind} ssl verify none alpn http/1.1
backend streams
    server s {behind} ssl verify none alpn h2
",
            crt = crt.display(),
        ),
    );
    Some(start(&path, &["-f", file.to_str()?]))
}

/// Who the client wants to talk to.
const NAME: &str = "tunnel.example";
const MB: usize = 1 << 20;
