//! Certificates: made in memory, or loaded from files and looked after; and what each kind of TLS accepts.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, Resumption, WebPkiServerVerifier};
use rustls::crypto::{ring, verify_tls12_signature, verify_tls13_signature, CryptoProvider};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, ParsedCertificate};
use rustls::version::{TLS12, TLS13};
use rustls::{
    CertificateError, CipherSuite, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme,
};

use super::cert_errors::{explain, explain_own, out_of_date, valid_until};
use super::sessions::Sessions;
use crate::error::Error;
use crate::logic::wire::Fingerprint;

/// The cryptography in use: chosen here and nowhere else.
pub fn provider() -> Arc<CryptoProvider> {
    let mut provider = ring::default_provider();
    let fast = has_aes();
    provider.cipher_suites.sort_by_key(|suite| rank(suite.suite(), fast));
    Arc::new(provider)
}

/// A place in the order of preference. All of them are good; what differs is the time. AES with the longer key costs more than with the
/// shorter one, and on a processor without instructions for it ChaCha20 costs far less than either.
fn rank(suite: CipherSuite, aes: bool) -> usize {
    use CipherSuite::*;
    match suite {
        TLS13_CHACHA20_POLY1305_SHA256
        | TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
        | TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => 2 * usize::from(aes),
        TLS13_AES_128_GCM_SHA256 | TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 | TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => {
            1 - usize::from(aes)
        }
        _ => 2 - usize::from(aes),
    }
}

/// Whether the processor has instructions for AES.
fn has_aes() -> bool {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    return std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull");
    #[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
    false
}

/// What a TLS server shows: its configuration and the fingerprint of its own leaf.
#[derive(Clone)]
pub struct Identity {
    /// For new sessions.
    pub config: Arc<ServerConfig>,
    /// SHA-256 of the leaf.
    pub leaf: Fingerprint,
    /// When it ends, in seconds since 1970, if that can be read.
    pub end: Option<u64>,
    /// The same in DER, for a TLS that is not rustls.
    pub der: Arc<Der>,
}

/// A certificate chain and its key, as bytes.
pub struct Der {
    /// The certificates, leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's private key.
    pub key: PrivateKeyDer<'static>,
}

/// Who may connect to a TLS server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Pool connections, and what is spoken on them: TLS 1.3 only.
    Pool(Alpn),
    /// Users of a single-end listener: any browser may come, so 1.3 and 1.2.
    Users,
}

/// Where an identity comes from.
#[derive(Clone, Debug)]
pub enum Origin {
    /// `tls=1`: ECDSA P-256, made in memory, valid for a year.
    Memory,
    /// `tls=2`: PEM files.
    Files {
        /// The certificate chain, leaf first.
        crt: PathBuf,
        /// The leaf's private key.
        key: PathBuf,
    },
}

/// An identity and the files it came from, looked at again from time to time.
pub struct Certs {
    origin: Origin,
    audience: Audience,
    seen: Option<[SystemTime; 2]>,
    current: Identity,
}

impl Certs {
    /// Makes or loads an identity. The error names the file and the reason.
    pub fn new(origin: Origin, audience: Audience) -> Result<Certs, Error> {
        let (seen, current) = (modified(&origin), load(&origin, audience)?);
        Ok(Certs { origin, audience, seen, current })
    }

    /// The identity for new sessions.
    pub fn current(&self) -> Identity {
        self.current.clone()
    }

    /// When it ends, in seconds since 1970.
    pub fn end(&self) -> Option<u64> {
        self.current.end
    }

    /// Loads changed files: `Ok(true)` if a new identity is in use. A bad file keeps the old one; the error says why.
    pub fn reload(&mut self) -> Result<bool, Error> {
        let seen = modified(&self.origin);
        if seen == self.seen {
            return Ok(false);
        }
        let fresh = load(&self.origin, self.audience)?;
        let changed = fresh.leaf != self.current.leaf;
        (self.seen, self.current) = (seen, fresh);
        Ok(changed)
    }
}

fn modified(origin: &Origin) -> Option<[SystemTime; 2]> {
    let Origin::Files { crt, key } = origin else { return None };
    let time = |path: &PathBuf| path.metadata().and_then(|data| data.modified()).ok();
    Some([time(crt)?, time(key)?])
}

fn load(origin: &Origin, audience: Audience) -> Result<Identity, Error> {
    let (chain, key) = match origin {
        Origin::Memory => self_signed()?,
        Origin::Files { crt, key } => (chain_in(crt)?, key_in(key)?),
    };
    let leaf = Fingerprint::of(&chain[0]);
    let versions: &[_] = match audience {
        Audience::Pool(_) => &[&TLS13],
        Audience::Users => &[&TLS13, &TLS12],
    };
    let der = Arc::new(Der { chain: chain.clone(), key: key.clone_key() });
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .map_err(|error| explain(&error))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| match origin {
            Origin::Files { crt, key } => explain_own(&error, crt, key),
            Origin::Memory => explain(&error),
        })?;
    if let (Origin::Files { crt, .. }, Some(trouble)) = (origin, out_of_date(&der.chain[0], &provider())) {
        // Clients that verify nothing come in all the same.
        log::warn!("{}", trouble.about(format!("crt={}", crt.display())));
    }
    // Who comes for the handshake says so: HTTP/1.1.
    config.alpn_protocols = match audience {
        Audience::Pool(Alpn::Http2) => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        Audience::Pool(_) => vec![b"http/1.1".to_vec()],
        Audience::Users => Vec::new(),
    };
    // What a client needs to come back it carries itself: a server keeps nothing of those who have gone.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = ring::Ticketer::new().map_err(|error| explain(&error))?;
    config.send_tls13_tickets = 1;
    config.enable_secret_extraction = true;
    // A client's order stands, unless it asks for AES of a machine that is slow with it.
    config.ignore_client_order = !has_aes();
    let end = valid_until(&der.chain[0], &provider());
    Ok(Identity { config: Arc::new(config), leaf, end, der })
}

/// The certificates of a file, at least one.
fn chain_in(crt: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let chain = CertificateDer::pem_file_iter(crt).and_then(Iterator::collect);
    let chain: Vec<_> = chain.map_err(|error| pem_error("crt", crt, error))?;
    match chain.is_empty() {
        true => Err(pem_error("crt", crt, pem::Error::NoItemsFound)),
        false => Ok(chain),
    }
}

/// Whether one of this machine's roots, or of those of `SSL_CERT_FILE`, stands behind a chain, dates and names apart.
pub fn is_issuer_known(chain: &[CertificateDer<'_>]) -> bool {
    let (Some((leaf, rest)), Ok(roots)) = (chain.split_first(), roots()) else { return false };
    let Ok(leaf) = ParsedCertificate::try_from(leaf) else { return false };
    let algorithms = provider().signature_verification_algorithms.all;
    let verdict = verify_server_cert_signed_by_trust_anchor(&leaf, &roots, rest, UnixTime::now(), algorithms);
    !matches!(verdict, Err(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)))
}

/// The first private key of a file.
fn key_in(key: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_file(key).map_err(|error| pem_error("key", key, error))
}

/// Why a file gives no certificate, or no key; `what` is the parameter that names the file.
fn pem_error(what: &str, path: &Path, error: pem::Error) -> Error {
    let subject = format!("{what}={}", path.display());
    let content = std::fs::read(path).unwrap_or_default();
    let holds = |words: &str| content.windows(words.len()).any(|part| part == words.as_bytes());
    let kind = if what == "crt" { "certificate" } else { "private key" };
    match error {
        pem::Error::Io(error) => Error::file(subject, error),
        _ if content.iter().all(u8::is_ascii_whitespace) => Error::file(subject, "the file is empty"),
        _ if what == "key" && holds("ENCRYPTED") => Error::file(subject, "the key is encrypted").with_hint(
            "there is no terminal to type its password at: decrypt it with `openssl pkey -in FILE -out NEW`",
        ),
        _ if what == "key" && holds("-----BEGIN CERTIFICATE-----") => {
            Error::file(subject, "there is a certificate in it and no private key").with_hint(SWAPPED)
        }
        _ if what == "crt" && holds("PRIVATE KEY-----") => {
            Error::file(subject, "there is a private key in it and no certificate").with_hint(SWAPPED)
        }
        pem::Error::NoItemsFound => Error::file(subject, format!("there is no {kind} in it"))
            .with_hint("the file has to be PEM text, which begins with -----BEGIN"),
        error => Error::file(subject, format!("the PEM text is damaged: {error}")),
    }
}

fn self_signed() -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Error> {
    let make = || {
        let key = rcgen::KeyPair::generate()?;
        let mut params = rcgen::CertificateParams::new(Vec::new())?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        let today = SystemTime::now();
        params.not_before = (today - Duration::from_secs(3600)).into();
        params.not_after = (today + YEAR).into();
        let cert = params.self_signed(&key)?;
        Ok::<_, rcgen::Error>((cert, key))
    };
    let (cert, key) = make().map_err(|error| Error::system("cannot make a certificate", error.to_string()))?;
    let key =
        PrivateKeyDer::try_from(key.serialize_der()).map_err(|error| Error::system("cannot make a key", error))?;
    Ok((vec![cert.der().clone()], key))
}

/// What a client accepts of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trust {
    /// `tls=2`: a chain that ends at one of the system's roots, and the right name.
    pub roots: bool,
    /// Only one of these certificates.
    pub pins: Option<Pins>,
}

impl Trust {
    /// Any certificate: what is said inside proves who says it.
    pub const ANY: Trust = Trust { roots: false, pins: None };
    /// A chain and a name.
    pub const ROOTS: Trust = Trust { roots: true, pins: None };
}

/// The certificates that a server said, under the key, that it shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pins {
    /// The one in use.
    pub now: Fingerprint,
    /// The one before, which may still be shown for a moment after a change.
    pub before: Option<Fingerprint>,
}

impl Pins {
    /// Whether this certificate is one of them.
    pub fn have(&self, leaf: Fingerprint) -> bool {
        leaf == self.now || Some(leaf) == self.before
    }
}

/// What is spoken inside TLS (ALPN).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alpn {
    /// Nothing that has a name.
    Raw,
    /// HTTP/1.1: the handshake through a proxy, WebSocket.
    Http1,
    /// HTTP/2.
    Http2,
}

impl Alpn {
    /// What a TLS client offers. A proxy that could speak HTTP/2 must know that we do not want it.
    fn offers(self) -> Vec<Vec<u8>> {
        match self {
            Alpn::Raw => Vec::new(),
            Alpn::Http1 => vec![b"http/1.1".to_vec()],
            Alpn::Http2 => vec![b"h2".to_vec()],
        }
    }
}

/// A client's side of TLS.
pub fn client(trust: Trust, alpn: Alpn) -> Result<Arc<ClientConfig>, Error> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| explain(&error))?;
    let chain: Arc<dyn ServerCertVerifier> = match trust.roots {
        false => Arc::new(Unverified(provider())),
        true => verifier()?,
    };
    let verifier = match trust.pins {
        Some(pins) => Arc::new(Pinned { pins, chain }),
        None => chain,
    };
    let mut config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    config.enable_sni = trust.roots;
    config.alpn_protocols = alpn.offers();
    config.enable_secret_extraction = true;
    config.resumption = Resumption::store(Arc::new(Sessions::default()));
    Ok(Arc::new(config))
}

/// What a client with [`Trust::ROOTS`] says of the chain that a server of this name shows.
pub fn verdict(chain: &[CertificateDer<'_>], name: &str) -> Result<(), Error> {
    let (leaf, between) = chain.split_first().ok_or_else(|| Error::tls("the server shows no certificate"))?;
    let verdict = verifier()?.verify_server_cert(leaf, between, &server_name(name)?, &[], UnixTime::now());
    verdict.map(drop).map_err(|error| explain(&error))
}

fn verifier() -> Result<Arc<WebPkiServerVerifier>, Error> {
    let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots()?), provider());
    builder.build().map_err(|error| Error::tls(error.to_string()))
}

/// The system's roots, or those of `SSL_CERT_FILE`.
fn roots() -> Result<RootCertStore, Error> {
    let mut store = RootCertStore::empty();
    match store.add_parsable_certificates(root_certificates()?) {
        (0, _) => Err(Error::tls("none of the root certificates can be used").with_hint(ROOTS)),
        _ => Ok(store),
    }
}

/// The system's root certificates, or those of `SSL_CERT_FILE`; at least one.
pub fn root_certificates() -> Result<Vec<CertificateDer<'static>>, Error> {
    let found = rustls_native_certs::load_native_certs();
    match (found.certs.is_empty(), found.errors.first()) {
        (false, _) => Ok(found.certs),
        (true, Some(error)) => Err(Error::tls(format!("no root certificates: {error}")).with_hint(ROOTS)),
        (true, None) => Err(Error::tls("no root certificates in the system").with_hint(ROOTS)),
    }
}

/// Takes only the certificates that were announced, and of those what `chain` takes.
#[derive(Debug)]
struct Pinned {
    pins: Pins,
    chain: Arc<dyn ServerCertVerifier>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if !self.pins.have(Fingerprint::of(leaf)) {
            return Err(rustls::Error::General(NOT_PINNED.into()));
        }
        self.chain.verify_server_cert(leaf, between, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls12_signature(message, cert, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls13_signature(message, cert, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// What is wrong with a certificate that the server did not announce.
pub const NOT_PINNED: &str =
    "the certificate is not the one that the server announced: a third party may sit in the middle";

/// Accepts any certificate, but not a handshake that its key did not sign.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Who must answer, as TLS wants it. Where no certificate is verified the name is only a placeholder and is not sent.
pub fn server_name(name: &str) -> Result<ServerName<'static>, Error> {
    let bad = |_| Error::input(format!("bad TLS server name \"{name}\""), "a host name or an address");
    ServerName::try_from(name.to_owned()).map_err(bad)
}

/// What to do without root certificates.
const ROOTS: &str = "install the system's (package ca-certificates), or name a file of them with SSL_CERT_FILE";
/// What to do if the two files are taken for each other.
const SWAPPED: &str = "crt names the certificate's file, key the key's";
/// A self-signed certificate is valid for this long.
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::sessions::MOST;
    use crate::testing::shake_hands;
    use rustls::{ClientConnection, HandshakeKind, ServerConnection};

    /// A session in memory, to its end: how both sides came to it.
    fn meet(server: &Identity, client: &Arc<ClientConfig>) -> [HandshakeKind; 2] {
        finish(server, begin(client, "a.example"))
    }

    fn begin(client: &Arc<ClientConfig>, name: &'static str) -> ClientConnection {
        ClientConnection::new(Arc::clone(client), ServerName::try_from(name).unwrap()).unwrap()
    }

    fn finish(server: &Identity, mut client: ClientConnection) -> [HandshakeKind; 2] {
        let mut server = ServerConnection::new(Arc::clone(&server.config)).unwrap();
        shake_hands(&mut client, &mut server).unwrap();
        [client.handshake_kind().unwrap(), server.handshake_kind().unwrap()]
    }

    #[test]
    fn the_cipher_that_the_processor_is_fast_with_is_preferred() {
        use CipherSuite::{TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256};
        let [short, long, chacha] =
            [TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256];
        for (aes, order) in [(true, [short, long, chacha]), (false, [chacha, short, long])] {
            let mut suites = [long, chacha, short];
            suites.sort_by_key(|suite| rank(*suite, aes));
            assert_eq!(suites, order, "aes={aes}");
        }
    }

    #[test]
    fn who_comes_back_resumes_his_session_and_starts_anew_with_a_new_identity() {
        let identity = || Certs::new(Origin::Memory, Audience::Pool(Alpn::Raw)).unwrap().current();
        let (one, client) = (identity(), client(Trust::ANY, Alpn::Raw).unwrap());
        let (full, resumed) = ([HandshakeKind::Full; 2], [HandshakeKind::Resumed; 2]);
        assert_eq!(meet(&one, &client), full);
        // A pool of hundreds comes and goes; nothing of it is kept here.
        for _ in 0..1000 {
            assert_eq!(meet(&one, &client), resumed);
        }
        let two = identity();
        assert_eq!([meet(&two, &client), meet(&two, &client)], [full, resumed]);
    }

    #[test]
    fn a_pool_that_is_refilled_all_at_once_resumes_as_many_sessions_as_are_kept_and_none_of_another_server() {
        let server = Certs::new(Origin::Memory, Audience::Pool(Alpn::Raw)).unwrap().current();
        let client = client(Trust::ANY, Alpn::Raw).unwrap();
        let refill = |count: usize, name: &'static str| {
            let begun: Vec<_> = (0..count).map(|_| begin(&client, name)).collect();
            let kinds = begun.into_iter().map(|begun| finish(&server, begun));
            kinds.filter(|kinds| *kinds == [HandshakeKind::Resumed; 2]).count()
        };
        assert_eq!(refill(MOST + 8, "a.example"), 0);
        assert_eq!(refill(MOST, "a.example"), MOST);
        assert_eq!(refill(MOST + 8, "a.example"), MOST);
        assert_eq!([refill(1, "b.example"), refill(1, "b.example"), refill(1, "a.example")], [0, 1, 0]);
    }

    #[test]
    fn every_self_signed_identity_is_a_new_one() {
        let one = Certs::new(Origin::Memory, Audience::Pool(Alpn::Raw)).unwrap();
        let two = Certs::new(Origin::Memory, Audience::Users).unwrap();
        assert_ne!(one.current().leaf, two.current().leaf);
    }

    #[test]
    fn a_client_names_what_it_speaks_and_nothing_where_originals_name_nothing() {
        let names = |alpn| client(Trust::ANY, alpn).unwrap().alpn_protocols.clone();
        assert!(names(Alpn::Raw).is_empty());
        assert_eq!(names(Alpn::Http1), [b"http/1.1"]);
        assert_eq!(names(Alpn::Http2), [b"h2"]);
    }

    #[test]
    fn a_missing_file_is_named() {
        let origin = Origin::Files { crt: "/nowhere/a.crt".into(), key: "/nowhere/a.key".into() };
        assert!(Certs::new(origin, Audience::Pool(Alpn::Raw)).err().unwrap().subject() == "crt=/nowhere/a.crt");
    }

    #[test]
    fn a_key_that_is_not_the_certificate_s_is_told_as_that() {
        let folder = std::env::temp_dir().join(format!("nodepass-keys-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (crt, key) = (folder.join("a.crt"), folder.join("a.key"));
        let pair = rcgen::KeyPair::generate().unwrap();
        let cert = rcgen::CertificateParams::new(vec!["a.example".into()]).unwrap().self_signed(&pair).unwrap();
        std::fs::write(&crt, cert.pem()).unwrap();
        std::fs::write(&key, rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap();
        let why = Certs::new(Origin::Files { crt, key }, Audience::Users).err().unwrap().to_string();
        assert!(why.contains("a.key") && why.contains("the key is not that of the certificate"), "{why}");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    /// A folder for the files of one test.
    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("nodepass-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// A certificate with that validity in days from now, and its key, both as PEM.
    fn pem(from: i64, until: i64) -> (String, String) {
        let pair = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["a.example".into()]).unwrap();
        let day = |count: i64| match u32::try_from(count) {
            Ok(ahead) => SystemTime::now() + ahead * Duration::from_secs(86_400),
            Err(_) => SystemTime::now() - count.unsigned_abs() as u32 * Duration::from_secs(86_400),
        };
        (params.not_before, params.not_after) = (day(from).into(), day(until).into());
        (params.self_signed(&pair).unwrap().pem(), pair.serialize_pem())
    }

    #[test]
    fn files_that_hold_something_else_are_told_by_what_they_hold_and_what_to_do() {
        let folder = folder("contents");
        let (crt, key) = (folder.join("a.crt"), folder.join("a.key"));
        let (good_crt, good_key) = pem(-1, 9);
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let old = "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END EC PRIVATE KEY-----\n";
        let cases: [(&str, &str, &[&str]); 9] = [
            (&good_crt, encrypted, &["a.key: the key is encrypted", "openssl pkey"]),
            (&good_crt, old, &["a.key: the key is encrypted", "openssl pkey"]),
            (&good_crt, "", &["a.key: the file is empty"]),
            (&good_crt, "nonsense", &["a.key: there is no private key in it", "-----BEGIN"]),
            (&good_crt, &good_crt, &["a.key: there is a certificate in it", "key the key's"]),
            ("\n", &good_key, &["a.crt: the file is empty"]),
            ("nonsense", &good_key, &["a.crt: there is no certificate in it"]),
            (&good_key, &good_key, &["a.crt: there is a private key in it", "crt names the certificate's file"]),
            (VERSION_1, &good_key, &["a.crt: the certificate is of version 1", "subjectAltName"]),
        ];
        for (in_crt, in_key, words) in cases {
            std::fs::write(&crt, in_crt).unwrap();
            std::fs::write(&key, in_key).unwrap();
            let origin = Origin::Files { crt: crt.clone(), key: key.clone() };
            let error = Certs::new(origin, Audience::Users).err().unwrap();
            let told = error.to_string();
            assert!(matches!(error, Error::File(_)) && words.iter().all(|word| told.contains(word)), "{told}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_certificate_of_our_own_that_is_out_of_date_is_told_and_used_all_the_same() {
        let told = |from, until| {
            let leaf = CertificateDer::from_pem_slice(pem(from, until).0.as_bytes()).unwrap();
            out_of_date(&leaf, &provider()).map(|error| error.about("crt=a.crt").to_string())
        };
        assert_eq!(told(-1, 9), None);
        let expired = told(-9, -3).unwrap();
        assert!(
            expired.starts_with("crt=a.crt: the certificate expired 3 days ago; it has to be renewed"),
            "{expired}"
        );
        assert!(told(3, 9).unwrap().contains("is not valid for another"));

        let folder = folder("dates");
        let (crt, key) = (folder.join("a.crt"), folder.join("a.key"));
        let (old_crt, its_key) = pem(-9, -3);
        std::fs::write(&crt, old_crt).unwrap();
        std::fs::write(&key, its_key).unwrap();
        assert!(Certs::new(Origin::Files { crt, key }, Audience::Users).is_ok());
        std::fs::remove_dir_all(&folder).unwrap();
    }

    /// A certificate without extensions, as `openssl x509 -req` made them for long.
    const VERSION_1: &str = "-----BEGIN CERTIFICATE-----\n\
        MIIBIzCBywIUSO740Ya+/m1vNyemVzsnP68QKTcwCgYIKoZIzj0EAwIwFDESMBAG\n\
        A1UEAwwJYS5leGFtcGxlMCAXDTI2MTEyNzA1MzEyNVoYDzIxMjYxMTAzMDUzMTI1\n\
        WjAUMRIwEAYDVQQDDAlhLmV4YW1wbGUwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC\n\
        AASFUtMfDT3pFH+71GpeVL/BTTAi4MWZhT5Ezu0fMajCIih2A545mTgvUdadVRkm\n\
        IlKDtmveGvtwC681gmCui09+MAoGCCqGSM49BAMCA0cAMEQCIAfym7Wn89VZ9Qk2\n\
        y8shChpkqgKtVl1oFLeBmXKnwysdAiBEykxpwBE7qrupaAY9JVhV9BSLtrc/5ozR\n\
        L8sSsgIsFA==\n\
        -----END CERTIFICATE-----\n";

    #[test]
    fn a_bad_new_file_keeps_the_old_identity_and_a_good_one_replaces_it() {
        let folder = std::env::temp_dir().join(format!("nodepass-certs-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (crt, key) = (folder.join("a.crt"), folder.join("a.key"));
        let write = || {
            let pair = rcgen::KeyPair::generate().unwrap();
            let cert = rcgen::CertificateParams::new(vec!["a.example".into()]).unwrap().self_signed(&pair).unwrap();
            std::fs::write(&crt, cert.pem()).unwrap();
            std::fs::write(&key, pair.serialize_pem()).unwrap();
        };
        let age = |seconds| {
            let file = std::fs::File::options().append(true).open(&crt).unwrap();
            file.set_modified(SystemTime::now() + Duration::from_secs(seconds)).unwrap();
        };
        write();
        let mut certs =
            Certs::new(Origin::Files { crt: crt.clone(), key: key.clone() }, Audience::Pool(Alpn::Raw)).unwrap();
        let first = certs.current().leaf;
        assert_eq!(certs.reload(), Ok(false));

        std::fs::write(&crt, "nonsense").unwrap();
        age(10);
        assert!(certs.reload().is_err_and(|why| why.subject().ends_with("a.crt")));
        assert_eq!(certs.current().leaf, first);

        write();
        age(20);
        assert_eq!(certs.reload(), Ok(true));
        assert_ne!(certs.current().leaf, first);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
