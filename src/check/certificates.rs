//! Certificate files: can they be used, what do they say, how long are they good.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::CertificateDer;

use super::finding::Finding;
use super::words::*;
use crate::config::Tls;
use crate::error::Error;
use crate::logic::x509::Certificate;
use crate::net::certs::{is_issuer_known, Alpn, Audience, Certs, Origin};

/// What is known of a certificate file and its key.
#[derive(Debug)]
pub struct Files {
    /// The chain's file.
    pub crt: String,
    /// The key's file.
    pub key: String,
    /// Whether the two can be used, as an instance would find out.
    pub usable: Result<(), Error>,
    /// The chain.
    pub chain: Vec<CertificateDer<'static>>,
    /// Whether a root of this machine stands behind it.
    pub known: bool,
    /// The mode of the key's file.
    pub mode: u32,
}

/// Reads the files that `tls=2` names.
pub fn look(tls: &Tls) -> Option<Files> {
    let Tls::Files { crt, key } = tls else { return None };
    let origin = Origin::Files { crt: crt.clone(), key: key.clone() };
    let usable = Certs::new(origin, Audience::Pool(Alpn::Raw)).map(drop);
    let chain = chain_in(crt);
    let mode = fs::metadata(key).map_or(0, |about| about.permissions().mode());
    let (known, shown) = (is_issuer_known(&chain), |path: &Path| path.display().to_string());
    Some(Files { crt: shown(crt), key: shown(key), usable, known, chain, mode })
}

fn chain_in(crt: &Path) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(crt).map(|all| all.filter_map(Result::ok).collect()).unwrap_or_default()
}

/// Seconds since 1970.
pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

/// What the files come to at this moment.
pub fn judge(files: &Files, now: i64) -> Vec<Finding> {
    let mut found = Vec::new();
    if let Err(error) = &files.usable {
        let cure = if error.hint().is_empty() { CHECK_FILES } else { error.hint() };
        found.push(Finding::new(&CERT_FILE, error.subject()).with(error.cause()).with(cure));
    }
    if files.mode & OTHERS_READ != 0 {
        found.push(Finding::new(&KEY_READABLE, &files.key));
    }
    let parsed: Vec<Certificate> = files.chain.iter().filter_map(|der| Certificate::parse(der)).collect();
    let Some(leaf) = parsed.first() else { return found };
    found.extend(dates(leaf, &files.crt, now));
    found.extend(purpose(leaf, &files.crt));
    found.extend(chain(&parsed, files));
    if !found.iter().any(Finding::is_bad) {
        found
            .insert(0, Finding::new(&CERT_FINE, &files.crt).with(leaf.names.join(", ")).with(days(leaf.valid.1 - now)));
    }
    found
}

/// Whether a certificate is valid now, and for how long.
pub fn dates(leaf: &Certificate, subject: &str, now: i64) -> Option<Finding> {
    let (first, last) = leaf.valid;
    if now > last {
        return Some(Finding::new(&CERT_EXPIRED, subject).with(days(now - last)));
    }
    if now < first {
        return Some(Finding::new(&CERT_EARLY, subject).with(days(first - now).max(1)));
    }
    (last - now < SOON).then(|| Finding::new(&CERT_ENDS, subject).with(days(last - now)))
}

/// Whether clients that verify may take it for a server's.
pub fn purpose(leaf: &Certificate, subject: &str) -> Vec<Finding> {
    let case = |so: bool, case| so.then(|| Finding::new(case, subject));
    let cases = [
        case(leaf.names.is_empty(), &CERT_NAMELESS),
        case(leaf.is_authority, &CERT_AUTHORITY),
        case(!leaf.is_for_servers, &CERT_PURPOSE),
    ];
    cases.into_iter().flatten().collect()
}

fn chain(parsed: &[Certificate], files: &Files) -> Option<Finding> {
    let broken = parsed.windows(2).position(|pair| pair[0].issuer != pair[1].subject);
    let last = parsed.last()?;
    match broken {
        Some(at) => Some(Finding::new(&CERT_ORDER, &files.crt).with(at + 1)),
        None if files.known => None,
        None if parsed.len() == 1 && last.is_self_signed() => Some(Finding::new(&CERT_SELF_SIGNED, &files.crt)),
        None => Some(Finding::new(&CERT_ISSUER, &files.crt).with(last.issuer_name())),
    }
}

/// Whole days of so many seconds.
pub fn days(seconds: i64) -> i64 {
    seconds / DAY
}

/// What to do if nothing better is known.
const CHECK_FILES: &str = "compare the files with what `openssl x509 -in CRT -text` and `openssl pkey -in KEY` show";
/// The right of all users to read a file, in its mode.
const OTHERS_READ: u32 = 0o004;
/// Seconds of a day.
const DAY: i64 = 24 * 3600;
/// A certificate that ends within so many seconds should be renewed now: automatic renewal comes earlier.
const SOON: i64 = 14 * DAY;

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

    use super::*;
    use crate::check::testing::codes;

    /// A chain of a leaf that `change` has touched and its authority.
    fn files(change: impl FnOnce(&mut CertificateParams)) -> Files {
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.distinguished_name.push(rcgen::DnType::CommonName, "an authority");
        let key = KeyPair::generate().unwrap();
        let root = authority.self_signed(&key).unwrap();
        let mut leaf = CertificateParams::new(vec!["a.example".into()]).unwrap();
        leaf.not_before = rcgen::date_time_ymd(2026, 1, 1);
        leaf.not_after = rcgen::date_time_ymd(2026, 12, 31);
        change(&mut leaf);
        let leaf = leaf.signed_by(&KeyPair::generate().unwrap(), &Issuer::from_params(&authority, &key)).unwrap();
        let chain = vec![leaf.der().clone(), root.der().clone()];
        Files { crt: "/c.pem".into(), key: "/k.pem".into(), usable: Ok(()), chain, known: true, mode: 0o600 }
    }

    /// 2026-06-01.
    const NOW: i64 = 1_780_272_000;

    #[test]
    fn a_good_certificate_is_fine_with_its_names_and_the_days_that_are_left() {
        let found = judge(&files(|_| {}), NOW);
        assert_eq!(
            (codes(&found), found[0].values.clone()),
            (vec!["cert-fine"], vec!["a.example".into(), "213".into()])
        );
    }

    #[test]
    fn dates_are_told_before_they_hurt() {
        let at = |now| codes(&judge(&files(|_| {}), now));
        assert_eq!(at(NOW + 200 * DAY), ["cert-ends"]);
        assert_eq!(at(NOW + 214 * DAY), ["cert-expired"]);
        assert_eq!(at(NOW - 200 * DAY), ["cert-early"]);
    }

    #[test]
    fn what_keeps_clients_from_verifying_is_told() {
        assert_eq!(codes(&judge(&files(|leaf| leaf.subject_alt_names.clear()), NOW)), ["cert-nameless"]);
        let authority = files(|leaf| leaf.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
        assert_eq!(codes(&judge(&authority, NOW)), ["cert-authority"]);
        let clients = files(|leaf| leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]);
        assert_eq!(codes(&judge(&clients, NOW)), ["cert-purpose"]);
    }

    #[test]
    fn a_chain_out_of_order_without_its_issuer_or_of_itself_is_told() {
        let mut swapped = files(|_| {});
        let other = files(|leaf| leaf.distinguished_name.push(rcgen::DnType::CommonName, "other"));
        swapped.chain[1] = other.chain[0].clone();
        assert_eq!(codes(&judge(&swapped, NOW)), ["cert-order"]);
        let mut unknown = files(|_| {});
        unknown.known = false;
        unknown.chain.truncate(1);
        let found = judge(&unknown, NOW);
        assert_eq!((codes(&found), found[0].values[0].as_str()), (vec!["cert-issuer"], "an authority"));
        unknown.chain = vec![files(|_| {}).chain[1].clone()];
        assert!(codes(&judge(&unknown, NOW)).contains(&"cert-self-signed"));
    }

    #[test]
    fn files_that_cannot_be_used_and_a_key_for_all_are_told() {
        let mut bad = files(|_| {});
        bad.usable = Err(Error::file("key=/k.pem", "the key is encrypted").with_hint("decrypt it"));
        bad.mode = 0o644;
        let found = judge(&bad, NOW);
        assert_eq!(codes(&found), ["cert-file", "key-readable"]);
        assert_eq!((found[0].subject.as_str(), &found[0].values[1]), ("key=/k.pem", &"decrypt it".to_owned()));
    }
}
