//! A tunnel at port 443: there the handshake travels inside TLS, and the server that answers is verified by chain and name.
//!
//! | chapter | who answers |
//! | --- | --- |
//! | here | the server itself |
//! | `edge` | nginx or haproxy, which end TLS and speak their own to the server behind them |
//!
//! The port belongs to root, and there is one of it for each address: every test takes an address of its own.

mod edge;

use crate::support::*;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU8, Ordering};

#[test]
fn at_port_443_the_handshake_is_inside_tls_and_the_server_is_verified() {
    let (Some(at), Some(authority)) = (https(), Authority::new("tunnel.example")) else { return };
    let (target, user) = (Target::echo(), free_addr());
    let server = format!("server://key@{at}/{user}?mode=1&tls=2&{}", authority.parameters());
    let server = Process::nodepass_with(&[&server], QUICK);
    server.says("Waiting for a client", GRACE);

    let client = |sni: &str, roots: &str| {
        let url = format!("client://key@{at}/{}?mode=2&min=4&sni={sni}", target.addr());
        Process::nodepass_with(&[&url], &[("SSL_CERT_FILE", roots)])
    };
    let wrong_name = client("other.example", &authority.ca());
    assert!(wrong_name.says("TLS at port 443, where ", GRACE).contains("failed"), "another name is not accepted");
    let stranger = Authority::new("stranger.example").expect("openssl was there a moment ago");
    let wrong_chain = client("tunnel.example", &stranger.ca());
    assert!(wrong_chain.says("TLS at port 443, where ", GRACE).contains("failed"), "another authority is not accepted");
    drop((wrong_name, wrong_chain));

    let client = client("tunnel.example", &authority.ca());
    client.says("is up", GRACE);
    echoed(user, b"through 443");
}

#[test]
fn a_certificate_that_no_client_knows_is_told_at_both_ends_with_what_to_do() {
    for tls in [0, 1] {
        let Some(at) = https() else { return };
        let server =
            Process::nodepass(&format!("server://a-good-key-of-24-letters@{at}/{}?mode=1&tls={tls}", free_addr()));
        let told = server.says(&format!("tls={tls} at port 443: "), GRACE);
        assert!(told.contains("  WARN  ") && told.contains("set tls=2 with crt= and key="), "{told}");
        let client = Process::nodepass(&format!("client://a-good-key-of-24-letters@{at}/127.0.0.1:9?mode=2"));
        let told = client.says("Client error: ", GRACE);
        assert!(told.contains("at port 443, where the server's certificate is verified (tls=2 there"), "{told}");
    }
}

/// Port 443 at a loopback address that is free now; `None`, and a word about it, where it is not ours to use.
fn https() -> Option<SocketAddr> {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    let free = (0..20).find_map(|_| {
        let at = SocketAddr::from(([127, high.max(1), low, NEXT.fetch_add(1, Ordering::SeqCst)], 443));
        TcpListener::bind(at).is_ok().then_some(at)
    });
    if free.is_none() {
        skip("port 443");
    }
    free
}
