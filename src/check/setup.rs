//! What is written: the URL, the environment, and what does not go together in them.

use super::finding::Finding;
use super::words::*;
use crate::config::{Config, Host, Mode, Role, Tls, Transport, HTTPS, MIN_KEY};
use crate::error::Error;

/// What is wrong with a configuration that can be used, from the remarks made while it was read and from its values.
pub fn judge(config: &Config, remarks: &[String], mistyped: &[String]) -> Vec<Finding> {
    let url = config.effective_url();
    let mut found = vec![Finding::new(&CONFIG_FINE, &url)];
    found.extend(remarks.iter().map(|remark| Finding::new(&CONFIG_REMARK, subject(config)).with(remark)));
    found.extend(mistyped.iter().map(|remark| Finding::new(&VARIABLE_UNKNOWN, ENVIRONMENT).with(remark)));
    if !config.transport.is_built() {
        let (code, name) = (config.transport.code(), config.transport.name());
        found.push(Finding::new(&TRANSPORT_MISSING, subject(config)).with(code).with(name));
    }
    found.extend(keys(config));
    found.extend(encryption(config));
    found
}

/// A URL, flags or an environment that cannot be used.
pub fn unusable(error: &Error) -> Finding {
    let subject = if error.subject().is_empty() { "URL" } else { error.subject() };
    Finding::new(&URL_UNUSABLE, subject).with(error.cause()).with(error.hint())
}

/// The configuration as the subject of a finding.
fn subject(config: &Config) -> String {
    format!("{}://{}", config.role, config.tunnel)
}

fn keys(config: &Config) -> Option<Finding> {
    let length = config.key.as_bytes().len();
    // What a client with mode=0 becomes is not known here.
    let has_peer = config.role == Role::Server || config.role == Role::Client && config.mode == Mode::Two;
    match config.key_given {
        _ if !has_peer => None,
        false => Some(Finding::new(&KEY_MISSING, subject(config))),
        true => (length < MIN_KEY).then(|| Finding::new(&KEY_SHORT, subject(config)).with(length).with(MIN_KEY)),
    }
}

fn encryption(config: &Config) -> Option<Finding> {
    if config.role != Role::Server {
        return None;
    }
    let is_local = match &config.tunnel.host {
        Host::Ip(ip) => ip.to_canonical().is_loopback(),
        Host::Name(name) => name == "localhost",
        Host::Zoned(..) | Host::Any => false,
    };
    let subject = subject(config);
    match &config.tls {
        Tls::Off | Tls::SelfSigned if config.tunnel.port == HTTPS => {
            Some(Finding::new(&WEB_PORT_UNVERIFIED, subject).with(config.tls.code()))
        }
        Tls::Off if !is_local => Some(Finding::new(&TUNNEL_PLAIN, subject)),
        Tls::SelfSigned => Some(Finding::new(&CERT_MEMORY, subject)),
        _ => None,
    }
}

/// Whether QUIC has a port of its own here.
pub fn listens_for_quic(config: &Config) -> bool {
    config.role == Role::Server && config.transport == Transport::Quic
}

/// What a variable's finding is about.
const ENVIRONMENT: &str = "environment";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::{codes, parsed};

    fn found(url: &str) -> Vec<&'static str> {
        let (config, remarks) = parsed(url);
        codes(&judge(&config, &remarks, &[]))
    }

    #[test]
    fn a_good_configuration_is_fine_and_shown_with_all_values_in_force_and_no_key() {
        let (config, remarks) = parsed("server://long-enough-key-of-tests@h.example:1/t:2?tls=2&crt=/c&key=/k");
        let found = judge(&config, &remarks, &[]);
        assert_eq!(codes(&found), ["config-fine"]);
        assert!(found[0].subject.contains("slot=65536") && !found[0].subject.contains("long-enough"), "{found:?}");
    }

    #[test]
    fn each_fault_of_a_configuration_has_its_case() {
        for (url, code) in [
            ("server://long-enough-key-of-tests@h:1/t:2?tsl=1&tls=1", "config-remark"),
            ("server://h:1/t:2?tls=1", "key-missing"),
            ("server://short@h:1/t:2?tls=1", "key-short"),
            ("server://long-enough-key-of-tests@h:1/t:2", "tunnel-plain"),
            ("server://long-enough-key-of-tests@h:443/t:2?tls=1", "web-port-unverified"),
            ("server://long-enough-key-of-tests@h:443/t:2", "web-port-unverified"),
            ("server://long-enough-key-of-tests@h:1/t:2?tls=1", "cert-memory"),
        ] {
            assert!(found(url).contains(&code), "{url}: {:?}", found(url));
        }
        assert!(!found("server://h:1/t:2?tls=1").contains(&"config-remark"), "the key is told once");
        assert_eq!(found("server://long-enough-key-of-tests@127.0.0.1:1/t:2"), ["config-fine"]);
        assert_eq!(
            found("client://h:1/t:2"),
            ["config-fine"],
            "a client proves what it has, and the server chooses tls"
        );
    }

    #[test]
    fn what_cannot_be_used_is_told_with_what_is_accepted() {
        let error = Error::input("bad parameter tls \"9\"", "0, 1 or 2").about("/etc/web.url");
        let finding = unusable(&error);
        assert_eq!((finding.subject.as_str(), finding.case.code), ("/etc/web.url", "url-unusable"));
        assert_eq!(finding.values, ["bad parameter tls \"9\"", "expected 0, 1 or 2"]);
    }
}
