//! The server inside TLS: the certificate that it shows, and the authenticated handshake as far as it harms no tunnel.
//!
//! ```text
//!  check --message 1--> server     a candidate, which has no place and takes none
//!        <--message 2--            under the key: the server knows it, and these are its terms
//!  and here it ends: the client of a tunnel would say its first opening now
//! ```
//!
//! An original's handshake takes the tunnel over at once, so it is never begun.

use std::io::Write;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::ClientConfig;

use super::certificates::{self, now};
use super::dial::{read_all, secure, Connection, Hop};
use super::finding::Finding;
use super::peer;
use super::words::*;
use crate::config::{Config, Tls, Transport, HTTPS};
use crate::error::Error;
use crate::logic::auth::{Agreement, AuthMode, Initiator, Psk};
use crate::logic::handshake::{parse_answer, Offer, Proof, ServerAnswer};
use crate::logic::http::MAX_ANSWER;
use crate::logic::program::{field, Program};
use crate::logic::terms::{Direction, Feature, Terms};
use crate::logic::x509::Certificate;
use crate::net::certs::{client, verdict, Alpn, Trust};
use crate::run::hub::route::{features, named, peer_name};

/// What a client knows of its server, and how it asks.
pub struct Asker {
    /// The tunnel key, stretched; `None` where the authenticated handshake is not to be made.
    psk: Option<Psk>,
    features: Vec<&'static str>,
    host: String,
    /// Who must answer where certificates are verified.
    name: String,
}

/// What was found inside TLS.
#[derive(Debug)]
pub struct Secured {
    /// The certificates, leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// What a client that verifies says of them.
    pub verdict: Result<(), Error>,
    /// What the handshake came to.
    pub proof: Proven,
    /// Who answers, as far as the answer tells.
    pub peer: Program,
}

/// What the authenticated handshake came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proven {
    /// Both know the key.
    Agreed(Agreement),
    /// The server knows the handshake, and another key.
    KeysDiffer,
    /// An answer in its form, which is not under the key.
    Forged(&'static str),
    /// The server does not know it, or was not asked.
    Unasked,
}

impl Asker {
    /// As this client would ask.
    pub fn new(config: &Config) -> Asker {
        Asker {
            psk: (config.auth() != AuthMode::Off).then(|| Psk::stretch(config.key.as_bytes())),
            features: features(config),
            host: named(config).to_owned(),
            name: peer_name(config),
        }
    }

    /// A request that asks for nothing.
    pub fn question(&self) -> Vec<u8> {
        peer::request(&self.host)
    }

    /// Asks inside TLS. The error: there is no such session.
    pub fn look(&self, hop: &Hop) -> Result<Secured, Error> {
        let (stream, _) = hop.open()?;
        let mut connection =
            secure(stream, looking()?, &self.name).map_err(|error| Error::carried(error, Error::tls))?;
        let chain = connection.certificates();
        let begun = self.psk.as_ref().and_then(|psk| Initiator::new(psk, &self.features).ok());
        let request = match &begun {
            Some((_, message)) => Offer { host: &self.host, proof: Proof::Message(message) }.to_bytes(),
            None => self.question(),
        };
        // What comes before an error counts.
        let _ = connection.write_all(&request);
        let (answer, _) = read_all(&mut connection, MAX_ANSWER);
        let proof = begun.map_or(Proven::Unasked, |(initiator, _)| Proven::by(initiator, &answer));
        Ok(Secured { verdict: verdict(&chain, &self.name), chain, proof, peer: inside(&answer) })
    }
}

/// Takes any certificate, and names the host, by which a reverse proxy chooses its certificate.
fn looking() -> Result<Arc<ClientConfig>, Error> {
    let mut config = ClientConfig::clone(&*client(Trust::ANY, Alpn::Http1)?);
    config.enable_sni = true;
    Ok(Arc::new(config))
}

/// Who answers like this inside TLS.
fn inside(answer: &[u8]) -> Program {
    let head = String::from_utf8_lossy(answer);
    match Program::of(answer) {
        // An original without its token; a web server would say which password it wants.
        Program::Web(401, _) if field(&head, "www-authenticate").is_none() => Program::OriginalOf2,
        program => program,
    }
}

impl Proven {
    fn by(initiator: Initiator, answer: &[u8]) -> Proven {
        match parse_answer(answer, true) {
            ServerAnswer::Sealed(message) => match initiator.finish(&message) {
                Ok((agreement, _)) => Proven::Agreed(agreement),
                Err(why) => Proven::Forged(why),
            },
            ServerAnswer::Refused { knows_auth: true, .. } => Proven::KeysDiffer,
            _ => Proven::Unasked,
        }
    }

    /// The terms of the tunnel that would begin.
    pub fn terms(&self) -> Option<&Terms> {
        match self {
            Proven::Agreed(agreement) => Some(&agreement.terms),
            _ => None,
        }
    }

    fn judge(&self, config: &Config, at: &str) -> Vec<Finding> {
        let Agreement { terms, .. } = match self {
            Proven::Agreed(agreement) => agreement,
            Proven::KeysDiffer => return vec![Finding::new(&SERVER_KEYS, at)],
            Proven::Forged(why) => return vec![Finding::new(&SERVER_FORGED, at).with(why)],
            Proven::Unasked => return Vec::new(),
        };
        let mode = if terms.flow == Direction::Reverse { 1 } else { 2 };
        let agreed = Finding::new(&SERVER_AGREED, at).with(mode).with(terms.transport).with(terms.max).with(terms.tls);
        let mut found = vec![agreed];
        if let Err(error) = terms.require_tls(config.tls.code()) {
            found.push(Finding::new(&TERMS_REFUSED, at).with(error.cause()));
        }
        if let Some(transport) = Transport::from_code(terms.transport).filter(|transport| !transport.is_built()) {
            found.push(Finding::new(&TRANSPORT_MISSING, at).with(transport.code()).with(transport.name()));
        }
        found
    }
}

impl Secured {
    /// What certificate, key and terms come to for this client.
    pub fn judge(&self, config: &Config, at: &str) -> Vec<Finding> {
        let mut found = self.judge_chain(self.is_verified(config), at);
        found.extend(self.proof.judge(config, at));
        found
    }

    /// Whether the client verifies chain and name: at that port, by its own URL, or as the server says.
    fn is_verified(&self, config: &Config) -> bool {
        let by_terms =
            self.proof.terms().is_some_and(|terms| terms.tls == 2 || terms.features.contains(&Feature::Edge));
        config.tunnel.port == HTTPS || matches!(config.tls, Tls::Files { .. } | Tls::Verified) || by_terms
    }

    fn judge_chain(&self, verified: bool, at: &str) -> Vec<Finding> {
        let leaf = self.chain.first().and_then(|der| Certificate::parse(der));
        let (names, days) = match &leaf {
            Some(leaf) if leaf.names.is_empty() => (NO_NAME.to_owned(), certificates::days(leaf.valid.1 - now())),
            Some(leaf) => (leaf.names.join(", "), certificates::days(leaf.valid.1 - now())),
            None => return Vec::new(),
        };
        let shown = |case| Finding::new(case, at).with(&names).with(days).with(self.chain.len());
        match (&self.verdict, verified) {
            (Ok(()), _) => {
                let dates = leaf.and_then(|leaf| certificates::dates(&leaf, at, now()));
                [Some(shown(&SERVER_CERT)), dates].into_iter().flatten().collect()
            }
            (Err(error), true) => {
                vec![Finding::new(&SERVER_CERT_REFUSED, at).with(error.cause()).with(error.hint()).with(&names)]
            }
            (Err(error), false) => vec![shown(&SERVER_CERT_UNVERIFIED).with(error.cause())],
        }
    }
}

impl Connection {
    /// What the other side has shown, leaf first; nothing without TLS.
    fn certificates(&self) -> Vec<CertificateDer<'static>> {
        let Connection::Secure(stream) = self else { return Vec::new() };
        let shown = stream.conn.peer_certificates().unwrap_or_default();
        shown.iter().map(|der| der.clone().into_owned()).collect()
    }
}

/// The names of a certificate that has none, in both languages.
const NO_NAME: &str = "-";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::{codes, parsed};
    use crate::logic::auth::SessionId;

    fn agreed(tls: u8) -> Proven {
        let terms = Terms { flow: Direction::Reverse, max: 64, tls, transport: 0, features: Vec::new() };
        Proven::Agreed(Agreement { terms, fp: None, session: SessionId(7) })
    }

    fn secured(proof: Proven) -> Secured {
        let key = rcgen::KeyPair::generate().unwrap();
        let cert = rcgen::CertificateParams::new(vec!["a.example".into()]).unwrap().self_signed(&key).unwrap();
        let verdict =
            Err(Error::tls("the server's certificate has an issuer that is unknown here").with_hint("name it"));
        Secured { chain: vec![cert.der().clone()], verdict, proof, peer: Program::Ours }
    }

    fn found(url: &str, secured: &Secured) -> Vec<&'static str> {
        codes(&secured.judge(&parsed(url).0, "h:1"))
    }

    #[test]
    fn a_certificate_that_verifies_nobody_is_a_fault_only_for_a_client_that_verifies() {
        let memory = secured(agreed(1));
        assert_eq!(found("client://h:1/:2", &memory), ["server-cert-unverified", "server-agreed"]);
        assert_eq!(found("client://h:443/:2", &memory)[0], "server-cert-refused");
        assert_eq!(found("client://h:1/:2?tls=2", &memory)[0], "server-cert-refused");
        assert_eq!(found("client://h:1/:2", &secured(agreed(2)))[0], "server-cert-refused");
        let known = Secured { verdict: Ok(()), ..secured(agreed(2)) };
        assert_eq!(found("client://h:443/:2", &known), ["server-cert", "server-agreed"]);
    }

    #[test]
    fn keys_and_terms_that_do_not_fit_are_faults() {
        assert_eq!(found("client://h:1/:2", &secured(Proven::KeysDiffer))[1..], ["server-keys"]);
        assert_eq!(found("client://h:1/:2", &secured(Proven::Forged("no")))[1..], ["server-forged"]);
        assert_eq!(found("client://h:1/:2?tls=1", &secured(agreed(0)))[1..], ["server-agreed", "terms-refused"]);
        let unasked = found("client://h:1/:2", &secured(Proven::Unasked));
        assert_eq!(unasked, ["server-cert-unverified"]);
    }

    #[test]
    fn an_original_inside_tls_is_known_by_its_refusal_and_a_password_is_a_web_servers() {
        assert_eq!(inside(b"HTTP/1.1 401 Unauthorized\r\nDate: x\r\n\r\nUnauthorized\n"), Program::OriginalOf2);
        let web = b"HTTP/1.1 401 Unauthorized\r\nServer: nginx\r\nWWW-Authenticate: Basic\r\n\r\n";
        assert_eq!(inside(web), Program::Web(401, "nginx".into()));
    }
}
