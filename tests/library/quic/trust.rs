//! Whom a client believes, and how it comes back.

use std::time::{Duration, Instant};

use nodepass::net::certs::{Alpn, Audience, Certs, Identity, Origin, Trust};
use nodepass::net::mux::{AllowedPeer, Mux};
use nodepass::net::quic::{ClientTls, Tickets};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use super::pair::*;

/// An identity for `names` from a new authority whose certificate is in the file that the system's roots come from.
fn issued(folder: &std::path::Path, names: &[&str]) -> Identity {
    let root_key = KeyPair::generate().unwrap();
    let mut root = CertificateParams::new(Vec::new()).unwrap();
    root.distinguished_name.push(rcgen::DnType::CommonName, "a test's authority");
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root_cert = root.self_signed(&root_key).unwrap();
    std::fs::write(folder.join("roots.pem"), root_cert.pem()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(names.iter().map(|name| name.to_string()).collect::<Vec<_>>()).unwrap();
    let cert = params.signed_by(&key, &Issuer::new(root, root_key)).unwrap();
    let (crt, pem) = (folder.join("leaf.crt"), folder.join("leaf.key"));
    std::fs::write(&crt, cert.pem()).unwrap();
    std::fs::write(&pem, key.serialize_pem()).unwrap();
    Certs::new(Origin::Files { crt, key: pem }, Audience::Pool(Alpn::Raw)).unwrap().current()
}

/// How a handshake ends: `None` if well.
fn outcome(identity: &Identity, tls: &ClientTls) -> Option<String> {
    let server = server(&settings(), identity);
    let at = server.mux.local().next().unwrap();
    let mut both = Both::of(client(at, tls, &settings(), &mut Tickets::default()), server);
    let deadline = Instant::now() + GRACE;
    while both.client.over.is_none() && !both.client.mux.is_up() {
        assert!(Instant::now() < deadline);
        both.turn();
    }
    both.client.over.map(|error| error.to_string())
}

#[test]
fn with_verification_chain_and_name_must_be_right_and_without_anything_goes() {
    let folder = std::env::temp_dir().join(format!("nodepass-quic-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    // No other test of this program looks at roots.
    std::env::set_var("SSL_CERT_FILE", folder.join("roots.pem"));
    let good = issued(&folder, &["tunnel.example", "127.0.0.1"]);
    let verified = |name| ClientTls::new(Trust::ROOTS, name).unwrap();

    assert_eq!(outcome(&good, &verified("tunnel.example")), None);
    assert_eq!(outcome(&good, &verified("127.0.0.1")), None);
    for wrong in ["other.example", "127.0.0.2", "example"] {
        let why = outcome(&good, &verified(wrong)).unwrap_or_else(|| panic!("{wrong:?} was accepted"));
        assert!(why.contains("certificate"), "{why}");
    }
    assert!(ClientTls::new(Trust::ROOTS, "").is_err());
    let why = outcome(&identity(), &verified("tunnel.example")).expect("no authority vouches for it");
    assert!(why.contains("certificate"), "{why}");
    assert_eq!(outcome(&identity(), &any_server()), None);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn who_comes_back_resumes_his_session_and_still_knows_the_certificate() {
    let identity = identity();
    let mut server = Some(server(&settings(), &identity));
    let at = server.as_ref().unwrap().mux.local().next().unwrap();
    let mut tickets = Tickets::default();
    for round in 0..3 {
        let mut both = Both::of(client(at, &any_server(), &settings(), &mut tickets), server.take().unwrap());
        both.until_true(|both| both.client.mux.is_up());
        assert_eq!(both.client.mux.is_resumed(), round > 0);
        assert_eq!(both.client.mux.peer_fingerprint(), Some(identity.leaf));
        // The ticket comes after the handshake.
        both.stream();
        for _ in 0..20 {
            both.turn();
        }
        let mut server_end = both.server;
        server_end.mux.allow(&[AllowedPeer { tunnel: 1, address: HOME, connections: 1 }], &identity).unwrap();
        server_end.turn(Duration::ZERO);
        server = Some(server_end);
    }
}

#[test]
fn a_ticket_of_another_server_only_means_a_full_handshake() {
    let mut tickets = Tickets::default();
    for _ in 0..2 {
        let identity = identity();
        let server = server(&settings(), &identity);
        let at = server.mux.local().next().unwrap();
        let mut both = Both::of(client(at, &any_server(), &settings(), &mut tickets), server);
        both.until_true(|both| both.client.mux.is_up());
        assert!(!both.client.mux.is_resumed());
        assert_eq!(both.client.mux.peer_fingerprint(), Some(identity.leaf));
        both.stream();
        for _ in 0..20 {
            both.turn();
        }
    }
}
