//! A tunnel at port 443: there the handshake travels inside TLS, and whoever answers is verified by chain and name.

mod support;

use std::net::TcpListener;
use support::*;

const PORT: u16 = 443;

#[test]
fn at_port_443_the_handshake_is_inside_tls_and_the_server_is_verified() {
    if TcpListener::bind(("127.0.0.1", PORT)).is_err() {
        return eprintln!("skipped: port 443 is taken or not ours to use");
    }
    let Some(authority) = Authority::new("tunnel.example") else { return };
    let (target, user) = (Target::echo(), free_addr());
    let server = format!("server://key@127.0.0.1:{PORT}/{user}?mode=1&tls=2&{}", authority.parameters());
    let server = Process::nodepass_with(&[&server], QUICK);
    server.says("Waiting for a client", GRACE);

    let client = |sni: &str, roots: &str| {
        let url = format!("client://key@127.0.0.1:{PORT}/{}?mode=2&min=4&sni={sni}", target.addr());
        let mut env = QUICK.to_vec();
        env.push(("SSL_CERT_FILE", roots));
        Process::nodepass_with(&[&url], &env)
    };
    let wrong_name = client("other.example", &authority.ca());
    assert!(wrong_name.says("failed", GRACE).contains("TLS"), "another name is not accepted");
    let stranger = Authority::new("stranger.example").expect("openssl was there a moment ago");
    let wrong_chain = client("tunnel.example", &stranger.ca());
    assert!(wrong_chain.says("failed", GRACE).contains("TLS"), "another authority is not accepted");
    drop((wrong_name, wrong_chain));

    let client = client("tunnel.example", &authority.ca());
    client.says("is up", GRACE);
    assert_eq!(exchange(user, b"through 443").expect("an echo"), b"through 443");
}
