//! What is weak about a tunnel though its configuration is right: one line of the log each, at the start.

use super::{Config, Role, Tls};
use crate::log::printable;
use crate::logic::auth::AuthMode;
use crate::logic::dialect::{tearing, Dialect};

impl Config {
    /// What an attacker could use. Of a tunnel: a single end has neither key nor peer.
    pub fn risks(&self) -> Vec<String> {
        let mut risks = Vec::new();
        let length = self.key.as_bytes().len();
        if !self.key_given {
            risks.push(
                "no key given: every program that knows the port can connect; \"nodepass key\" prints a good key"
                    .to_owned(),
            );
        } else if length < MIN_KEY {
            risks.push(format!(
                "a key of {length} characters can be found by trying: take {MIN_KEY} or more, as \"nodepass key\" prints them"
            ));
        }
        if let Some(dialect) = self.wire.older() {
            let who = match self.role {
                Role::Client => "each server that answers",
                _ => "each client that asks",
            };
            let wire = dialect.name();
            risks.push(format!(
                "wire={wire}: this handshake proves nothing, and gives the key away to {who}: use this key nowhere else, and update the other side"
            ));
            if dialect == Dialect::V1_7 && self.role == Role::Server {
                risks.push(format!("wire={wire}: {GUESSED_IDS}"));
            }
            let torn = if dialect.is_raw() { tearing(self.key.as_bytes()) } else { String::new() };
            if !torn.is_empty() {
                risks.push(format!(
                    "wire={wire}: a key with \"{}\" in it tears lines of this wire apart, and the tunnel ends again and again: take one of capital letters without J, Q and W",
                    printable(&torn)
                ));
            }
        }
        if self.role == Role::Server && self.tunnel.port == HTTPS && matches!(self.tls, Tls::Off | Tls::SelfSigned) {
            let code = self.tls.code();
            risks.push(format!(
                "tls={code} at port 443: clients that call port 443 verify the server's certificate, and there is none that they know: \
                 set tls=2 with crt= and key= of one for this server's name, or take another port at both ends"
            ));
        }
        match (self.role, &self.tls, self.auth()) {
            (Role::Server, Tls::Off, AuthMode::Required) => {
                risks.push(
                    "tls=0: what users say travels in the clear; the key and the signals do not (auth=2)".to_owned(),
                );
            }
            (Role::Server, Tls::Off, _) => {
                risks.push("tls=0: what users say travels in the clear; tls=1 encrypts it".to_owned());
            }
            _ => {}
        }
        risks
    }
}

/// What is said of a server that speaks with 1.7.
const GUESSED_IDS: &str = "how clients of 1.7 read the ids of pool connections is not known; they are written as for 1.8. If no user is served, \
     update the other side";
/// The port at which handshakes come inside TLS, and clients verify the server.
pub const HTTPS: u16 = 443;
/// Characters of a key, of which fewer are few.
pub const MIN_KEY: usize = 16;

#[cfg(test)]
mod tests {
    use crate::config::{parse, Command};

    fn risks(url: &str) -> Vec<String> {
        let parsed = parse(&[url.to_owned()], &|_| None).expect("a good URL");
        let Command::Run(config) = parsed.command else { panic!("no run") };
        config.risks()
    }

    #[test]
    fn a_tunnel_with_a_long_key_and_tls_has_no_risks() {
        assert!(risks("server://0123456789abcdef@:1/:2?tls=1").is_empty());
        assert!(risks("client://0123456789abcdef@h:1/:2").is_empty());
    }

    #[test]
    fn a_key_that_1_6_cannot_use_is_told() {
        let risks = risks("client://ABCDEFGHIKLMNOP-de@h:1/:2?wire=1.6");
        assert!(risks.len() == 2 && risks[1].contains("\"de\""), "{risks:?}");
    }

    #[test]
    fn a_server_for_1_7_says_that_it_guesses_and_a_client_reads_either_form() {
        let server = risks("server://0123456789abcdef@:1/:2?tls=1&wire=1.7");
        assert!(server.len() == 2 && server[1].contains("written as for 1.8"), "{server:?}");
        assert_eq!(risks("client://0123456789abcdef@h:1/:2?wire=1.7").len(), 1);
    }

    #[test]
    fn a_missing_key_a_short_one_and_a_tunnel_in_the_clear_are_risks() {
        for (url, words) in [
            ("server://:1/:2?tls=1", "no key given"),
            ("client://h:1/:2", "no key given"),
            ("server://0123456789abcde@:1/:2?tls=1", "a key of 15 characters"),
            ("server://0123456789abcdef@:1/:2", "tls=1 encrypts it"),
            ("server://0123456789abcdef@:1/:2?auth=2", "the key and the signals do not"),
            ("server://0123456789abcdef@:1/:2?tls=1&wire=1.12", "gives the key away to each client that asks"),
            ("client://0123456789abcdef@h:1/:2?wire=1.8", "gives the key away to each server that answers"),
            ("client://ABCDEFGHIKLMNOPR@h:1/:2?wire=1.6", "gives the key away"),
            ("server://0123456789abcdef@:443/:2?tls=1", "tls=1 at port 443"),
        ] {
            let risks = risks(url);
            assert!(matches!(&risks[..], [risk] if risk.contains(words)), "{url}: {risks:?}");
        }
    }
}
