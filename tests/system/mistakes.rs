//! Other programs at a tunnel's address, and at its port: each is named in the log.

use crate::support::*;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::thread::spawn;

#[test]
fn a_client_names_the_web_server_that_answers_it_with_tls_and_without() {
    let Some(nginx) = Nginx::new() else { return };
    for auth in [0, 1, 2] {
        for at in [nginx.plain, nginx.tls] {
            let client = client(at, &format!("auth={auth}"));
            client.says("a web server (nginx", GRACE);
        }
    }
}

#[test]
fn a_client_names_a_reverse_proxy_that_does_not_reach_its_server() {
    let Some(nginx) = Nginx::new() else { return };
    for auth in [0, 1] {
        let client = client(nginx.deaf, &format!("auth={auth}"));
        client.says("the server behind a reverse proxy", GRACE);
    }
}

#[test]
fn a_client_names_haproxy_in_place_of_its_server() {
    let Some(path) = program("haproxy") else { return };
    let (folder, at, closed) = (Folder::new(), free_addr(), free_addr());
    let times = "timeout connect 1s\n timeout client 1m\n timeout server 1m";
    let rules = format!("defaults\n mode http\n retries 0\n {times}\nlisten edge\n bind {at}\n server s {closed}\n");
    let file = folder.write("haproxy.cfg", rules);
    let _haproxy = start(&path, &["-f", file.to_str().unwrap()]);
    connect(at);
    for auth in [0, 1] {
        let client = client(at, &format!("auth={auth}"));
        client.says("the server behind a reverse proxy", GRACE);
    }
}

#[test]
fn a_client_names_an_ssh_server() {
    let at = answering(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n");
    for auth in [0, 1, 2] {
        let client = client(at, &format!("auth={auth}"));
        client.says("an SSH server answers", GRACE);
    }
}

#[test]
fn a_server_that_answers_a_plain_handshake_with_tls_is_asked_inside_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = client(listener.local_addr().unwrap(), "auth=0");
    let mut first = [0];
    let (mut plain, _) = listener.accept().unwrap();
    plain.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"G");
    plain.write_all(b"\x15\x03\x01\0\x02\x02F").unwrap();
    let (mut tls, _) = listener.accept().unwrap();
    tls.read_exact(&mut first).unwrap();
    assert_eq!(first, [0x16], "{client:?}");
}

#[test]
fn a_server_names_ssh_clients_and_browsers_at_its_tunnel_port_once() {
    let (Some(ssh), Some(curl)) = (program("ssh"), program("curl")) else { return };
    let (at, user) = (free_addr(), free_addr());
    let server = Process::nodepass(&format!("server://a-good-key-of-24-letters@{at}/{user}?mode=1&tls=1&log=info"));
    server.says("Waiting for a client", GRACE);
    for _ in 0..3 {
        let mut command = Command::new(&ssh);
        command.args(["-F", "none", "-o", "BatchMode=yes", "-o", "ConnectTimeout=5", "-p", &at.port().to_string()]);
        command.arg("127.0.0.1");
        output(command);
        // Another source.
        let mut command = Command::new(&curl);
        command.args(["-s", "--noproxy", "*", "--interface", "127.0.0.2", &format!("http://{at}/index.html")]);
        output(command);
    }
    server.says("127.0.0.1: an SSH client came to the tunnel's port", GRACE);
    server.says("127.0.0.2: an HTTP request that is no handshake", GRACE);
    assert_eq!((server.count("an SSH client"), server.count("an HTTP request")), (1, 1));
}

/// A client whose server is there.
fn client(at: SocketAddr, parameters: &str) -> Process {
    Process::nodepass(&format!("client://a-good-key-of-24-letters@{at}/127.0.0.1:9?mode=2&log=info&{parameters}"))
}

/// A program that says this to each connection, at once.
fn answering(banner: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(banner);
            spawn(move || stream.read(&mut [0; 4096]));
        }
    });
    at
}

/// An nginx with a page, in the clear and inside TLS, and one that proxies to a closed port.
struct Nginx {
    plain: SocketAddr,
    tls: SocketAddr,
    deaf: SocketAddr,
    _authority: Authority,
    _folder: Folder,
    _process: Process,
}

impl Nginx {
    fn new() -> Option<Nginx> {
        let nginx = program("nginx")?;
        let (folder, authority) = (Folder::new(), Authority::new("tunnel.test")?);
        let (plain, tls, deaf, closed) = (free_addr(), free_addr(), free_addr(), free_addr());
        let user = if root() { "user root;" } else { "" };
        let (here, crt, key) = (folder.path().display(), authority.path("server.pem"), authority.path("server.key"));
        let config = format!(
            "{user} daemon off; master_process off; pid {here}/pid; error_log stderr;\n\
             events {{ worker_connections 64; }}\n\
             http {{ access_log off; client_body_temp_path {here}/b; proxy_temp_path {here}/p;\n\
             fastcgi_temp_path {here}/f; uwsgi_temp_path {here}/u; scgi_temp_path {here}/s;\n\
             server {{ listen {plain}; location / {{ return 200 \"<html>a page</html>\"; }} }}\n\
             server {{ listen {tls} ssl; ssl_certificate {crt}; ssl_certificate_key {key}; ssl_protocols TLSv1.3;\n\
             location / {{ return 404; }} }}\n\
             server {{ listen {deaf}; location / {{ proxy_pass http://{closed}; }} }} }}\n",
        );
        let file = folder.write("nginx.conf", config);
        let process = start(&nginx, &["-c", file.to_str()?, "-e", "stderr"]);
        connect(plain);
        Some(Nginx { plain, tls, deaf, _authority: authority, _folder: folder, _process: process })
    }
}
