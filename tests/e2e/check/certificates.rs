//! Certificate files as openssl makes them, and what `check` says of each.

use super::{check, check_with, Checked};
use crate::support::*;

/// A server with these files, whose users' port is free.
fn served(authority: &Authority, crt: &str, key: &str, env: &[(&str, &str)]) -> Checked {
    let (crt, key) = (authority.path(crt), authority.path(key));
    let url =
        format!("server://planted-secret-of-tests@{}/{}?mode=1&tls=2&crt={crt}&key={key}", free_addr(), free_addr());
    check_with(&[&url], env)
}

#[test]
fn a_good_certificate_is_fine_where_its_authority_is_known_and_told_where_not() {
    let Some(authority) = Authority::new("tunnel.test") else { return };
    let checked = served(&authority, "server.pem", "server.key", &[("SSL_CERT_FILE", &authority.ca())]);
    assert_eq!(checked.bad(), [""; 0]);
    let told = checked.one("cert-fine");
    assert!(told.contains("tunnel.test, 127.0.0.1") && told.contains(" more days"), "{told}");
    let checked = served(&authority, "server.pem", "server.key", &[]);
    assert_eq!(checked.bad(), ["cert-issuer"]);
    assert!(checked.one("cert-issuer").contains("test-ca"));
}

#[test]
fn files_that_do_not_fit_are_told_as_an_instance_would() {
    let Some(authority) = Authority::new("tunnel.test") else { return };
    authority.issue("tunnel.test", "other");
    let env = [("SSL_CERT_FILE", authority.ca())];
    let env = env.each_ref().map(|(name, value)| (*name, value.as_str()));
    for (crt, key, words) in [
        ("server.pem", "other.key", "not that of the certificate"),
        ("server.key", "server.key", "a private key in it and no certificate"),
        ("server.pem", "none.key", "No such file"),
    ] {
        let checked = served(&authority, crt, key, &env);
        assert!(checked.status == 1 && checked.one("cert-file").contains(words), "{}", checked.one("cert-file"));
    }
}

#[test]
fn a_chain_in_the_wrong_order_an_authority_and_a_nameless_certificate_are_told() {
    let Some(authority) = Authority::new("tunnel.test") else { return };
    authority.issue("tunnel.test", "other");
    let read = |name: &str| std::fs::read(authority.path(name)).unwrap();
    let chain = [read("server.pem"), read("other.pem"), read("ca.pem")].concat();
    std::fs::write(authority.path("mixed.pem"), chain).unwrap();
    let ca = authority.ca();
    let env = [("SSL_CERT_FILE", ca.as_str())];
    assert_eq!(served(&authority, "mixed.pem", "server.key", &env).bad(), ["cert-order"]);
    let checked = served(&authority, "ca.pem", "ca.key", &env);
    assert!(
        checked.bad().contains(&"cert-authority") && checked.bad().contains(&"cert-nameless"),
        "{:?}",
        checked.bad()
    );
    assert!(checked.one("cert-authority").contains("basicConstraints=critical,CA:FALSE"));
}

#[test]
fn a_key_that_every_user_may_read_is_told() {
    use std::os::unix::fs::PermissionsExt;
    let Some(authority) = Authority::new("tunnel.test") else { return };
    std::fs::set_permissions(authority.path("server.key"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let checked = served(&authority, "server.pem", "server.key", &[("SSL_CERT_FILE", &authority.ca())]);
    assert_eq!(checked.bad(), ["key-readable"]);
}

#[test]
fn a_certificate_in_memory_is_a_note_and_at_port_443_a_fault() {
    let at = |port: u16| {
        check(&[&format!("server://planted-secret-of-tests@127.0.0.1:{port}/{}?mode=1&tls=1", free_addr())])
    };
    assert_eq!(at(free_port()).bad(), [""; 0]);
    assert!(at(443).bad().contains(&"web-port-unverified"));
}
