//! Why a certificate is not accepted, in words that say what to do about it.

use std::path::Path;
use std::time::Duration;

use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{AlertDescription, CertificateError, Error as TlsError, InconsistentKeys, RootCertStore};

use crate::error::{Error, Text};

/// What is wrong with a session: about certificates in our words, about anything else in the library's.
///
/// A verified server is known by its chain, which ends at one of the machine's roots or those of `SSL_CERT_FILE`, its dates
/// and its name (RFC 5280, RFC 9525).
pub fn explain(error: &TlsError) -> Error {
    let (what, hint) = match error {
        TlsError::InvalidCertificate(fault) => {
            let (what, hint) = explain_fault(fault);
            (Text::from(format!("the server's certificate {what}")), hint)
        }
        TlsError::AlertReceived(AlertDescription::CertificateExpired) => {
            ("the peer says that our certificate has expired".into(), "renew it".into())
        }
        TlsError::AlertReceived(AlertDescription::UnknownCA) => (
            "the peer does not know the issuer of our certificate".into(),
            "add it to the peer's roots, or take another".into(),
        ),
        TlsError::General(why) => (why.clone().into(), Text::default()),
        other => (other.to_string().into(), Text::default()),
    };
    Error::tls(what).with_hint(hint)
}

/// What is wrong with the certificate or the key of our own files.
pub fn explain_own(error: &TlsError, crt: &Path, key: &Path) -> Error {
    let (crt, both) = (format!("crt={}", crt.display()), format!("crt={} and key={}", crt.display(), key.display()));
    match error {
        TlsError::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            Error::file(both, "the key is not that of the certificate, which has to be the first of its file")
        }
        TlsError::InvalidCertificate(fault) => {
            let (what, hint) = explain_fault(fault);
            Error::file(crt, format!("the certificate {what}")).with_hint(hint)
        }
        other => Error::file(both, other.to_string()),
    }
}

/// What is wrong with the dates of a certificate of our own, if anything is.
pub fn out_of_date(leaf: &CertificateDer<'_>, known: &CryptoProvider) -> Option<Error> {
    let verdict = dates(leaf, known, UnixTime::now())?;
    match verdict {
        Err(TlsError::InvalidCertificate(
            fault @ (CertificateError::ExpiredContext { .. } | CertificateError::NotValidYetContext { .. }),
        )) => {
            let (what, hint) = explain_fault(&fault);
            Some(Error::file("", format!("the certificate {what}")).with_hint(hint))
        }
        _ => None,
    }
}

/// When a certificate ends, in seconds since 1970.
pub fn valid_until(leaf: &CertificateDer<'_>, known: &CryptoProvider) -> Option<u64> {
    // At the end of time each has expired, and the fault says when.
    match dates(leaf, known, UnixTime::since_unix_epoch(Duration::from_secs(u64::MAX)))? {
        Err(TlsError::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
            Some(not_after.as_secs())
        }
        _ => None,
    }
}

/// What is to be said of a certificate at that time. Its dates come first; that no root is known is no news here.
fn dates(leaf: &CertificateDer<'_>, known: &CryptoProvider, at: UnixTime) -> Option<Result<(), TlsError>> {
    let parsed = ParsedCertificate::try_from(leaf).ok()?;
    let algorithms = known.signature_verification_algorithms.all;
    Some(verify_server_cert_signed_by_trust_anchor(&parsed, &RootCertStore::empty(), &[], at, algorithms))
}

/// What follows "the certificate", and what to do about it.
fn explain_fault(fault: &CertificateError) -> (Text, Text) {
    use CertificateError as Fault;
    match fault {
        Fault::ExpiredContext { time, not_after } => {
            let ago = span(time.as_secs().saturating_sub(not_after.as_secs()));
            (format!("expired {ago} ago").into(), "it has to be renewed, or this machine's clock is fast".into())
        }
        Fault::NotValidYetContext { time, not_before } => {
            let left = span(not_before.as_secs().saturating_sub(time.as_secs()));
            (format!("is not valid for another {left}").into(), "one of the two clocks is wrong".into())
        }
        Fault::NotValidForNameContext { expected, presented } => {
            let mut names: Vec<&str> = presented.iter().take(MAX_NAMES).map(|name| bare(name)).collect();
            if names.is_empty() {
                names.push("no name");
            }
            let (expected, names) = (expected.to_str(), names.join(", "));
            (format!("is for {names}, not for {expected}").into(), "set sni to a name that it has".into())
        }
        Fault::UnknownIssuer => (
            "has an issuer that is unknown here".into(),
            "it has to be one of this machine's roots, or in the file that SSL_CERT_FILE names; and the server has to send \
             all between the two"
                .into(),
        ),
        Fault::BadSignature => (
            "is not signed by the issuer that is known here by that name, or the server does not have its key".into(),
            "was the authority made anew?".into(),
        ),
        Fault::InvalidPurposeContext { .. } => {
            ("is not made for servers".into(), "it needs the extended key usage serverAuth".into())
        }
        // The verifier's own errors have no names in the TLS library.
        Fault::Other(other) => match other.to_string().as_str() {
            "CaUsedAsEndEntity" => (
                "is an authority's (CA:TRUE), as `openssl req -x509` makes them, and must not be a server's own".into(),
                "make it with `-addext basicConstraints=critical,CA:FALSE`, or let the authority sign another".into(),
            ),
            "UnsupportedCertVersion" => (
                "is of version 1, which TLS does not take".into(),
                "make it anew with an extension, such as `-addext subjectAltName=DNS:name`".into(),
            ),
            other => (format!("is not accepted: {other}").into(), Text::default()),
        },
        Fault::BadEncoding => ("cannot be read: it is damaged".into(), Text::default()),
        other => (format!("is not accepted: {other}").into(), Text::default()),
    }
}

/// The name in `DnsName("a.example")`.
fn bare(name: &str) -> &str {
    name.split('"').nth(1).unwrap_or(name)
}

/// Seconds as people count them.
fn span(seconds: u64) -> String {
    match seconds {
        0..=7199 => format!("{} min", seconds.div_ceil(60)),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / DAY.as_secs()),
    }
}

const DAY: Duration = Duration::from_secs(24 * 3600);
/// Most names of a certificate that are told.
const MAX_NAMES: usize = 4;

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::SystemTime;

    use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
    use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

    use super::*;
    use crate::net::certs::provider;
    use crate::testing::shake_hands;

    /// A chain, its key, and the root that the client knows.
    struct Shown {
        chain: Vec<CertificateDer<'static>>,
        key: KeyPair,
        root: CertificateDer<'static>,
    }

    fn authority() -> (CertificateDer<'static>, Issuer<'static, KeyPair>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "an authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (params.self_signed(&key).unwrap().der().clone(), Issuer::new(params, key))
    }

    /// What an authority makes of these parameters.
    fn issued(change: impl FnOnce(&mut CertificateParams)) -> Shown {
        let ((root, issuer), key) = (authority(), KeyPair::generate().unwrap());
        let mut params = CertificateParams::new(vec!["a.example".into(), "b.example".into()]).unwrap();
        change(&mut params);
        let leaf = params.signed_by(&key, &issuer).unwrap();
        Shown { chain: vec![leaf.der().clone()], key, root }
    }

    /// A certificate that vouches for itself, known to the client.
    fn self_signed(is_ca: IsCa) -> Shown {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["a.example".into()]).unwrap();
        params.is_ca = is_ca;
        let own = params.self_signed(&key).unwrap().der().clone();
        Shown { chain: vec![own.clone()], key, root: own }
    }

    /// What a client that knows the root and wants that name says of it: nothing if it is content.
    fn verdict(shown: Shown, name: &'static str) -> Option<String> {
        let mut roots = RootCertStore::empty();
        roots.add(shown.root).unwrap();
        let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
        let config = builder.with_root_certificates(roots).with_no_client_auth();
        let mut client = ClientConnection::new(Arc::new(config), ServerName::try_from(name).unwrap()).unwrap();
        let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
        let key = PrivateKeyDer::try_from(shown.key.serialize_der()).unwrap();
        let config = builder.with_no_client_auth().with_single_cert(shown.chain, key).unwrap();
        let mut server = ServerConnection::new(Arc::new(config)).unwrap();
        shake_hands(&mut client, &mut server).err().map(|error| explain(&error).to_string())
    }

    fn days(count: i64) -> SystemTime {
        match u32::try_from(count) {
            Ok(ahead) => SystemTime::now() + DAY * ahead,
            Err(_) => SystemTime::now() - DAY * count.unsigned_abs() as u32,
        }
    }

    #[test]
    fn a_certificate_that_is_in_order_is_accepted_even_if_it_vouches_for_itself() {
        assert_eq!(verdict(issued(|_| {}), "a.example"), None);
        assert_eq!(verdict(self_signed(IsCa::ExplicitNoCa), "a.example"), None);
    }

    #[test]
    fn every_fault_of_a_server_s_certificate_is_told_with_what_to_do() {
        let expired = issued(|params| (params.not_before, params.not_after) = (days(-9).into(), days(-3).into()));
        let early = issued(|params| (params.not_before, params.not_after) = (days(3).into(), days(9).into()));
        let stranger = issued(|params| params.distinguished_name.push(DnType::CommonName, "another"));
        let unknown = Shown { root: self_signed(IsCa::ExplicitNoCa).root, ..stranger };
        let anew = Shown { root: authority().0, ..issued(|_| {}) };
        let client_only = issued(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]);
        let own_authority = self_signed(IsCa::Ca(BasicConstraints::Unconstrained));
        let cases = [
            ("expired", expired, "a.example", &["expired 3 days ago", "renewed", "clock"][..]),
            ("not yet valid", early, "a.example", &["not valid for another", "days", "clocks"]),
            ("wrong name", issued(|_| {}), "c.example", &["is for a.example, b.example, not for c.example", "sni"]),
            ("no name", issued(|params| params.subject_alt_names.clear()), "c.example", &["for no name"]),
            ("unknown issuer", unknown, "a.example", &["issuer", "unknown", "SSL_CERT_FILE"]),
            ("bad signature", anew, "a.example", &["not signed by the issuer", "made anew"]),
            ("wrong purpose", client_only, "a.example", &["not made for servers"]),
            ("an authority's own", own_authority, "a.example", &["CA:TRUE", "openssl req -x509", "CA:FALSE"]),
        ];
        for (case, shown, name, words) in cases {
            let told = verdict(shown, name).unwrap_or_else(|| panic!("{case}: accepted"));
            assert!(words.iter().all(|word| told.contains(word)), "{case}: {told}");
        }
    }

    #[test]
    fn a_certificate_of_a_thousand_names_makes_a_short_line() {
        let many = issued(|params| {
            let name = |at| rcgen::SanType::DnsName(format!("host-{at}.example").try_into().unwrap());
            params.subject_alt_names = (0..1000).map(name).collect();
        });
        let told = verdict(many, "c.example").unwrap();
        assert!(told.contains("host-3.example") && told.len() < 300, "{told}");
    }
}
