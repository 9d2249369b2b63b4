//! BoringSSL, the TLS inside quiche, fed with the same certificates, roots and names as rustls in `net/certs.rs`.

use std::net::IpAddr;
use std::sync::mpsc::{channel, Receiver, Sender};

use boring::pkey::{PKey, Private};
use boring::ssl::{SslContext, SslContextBuilder, SslMethod};
use boring::x509::store::X509StoreBuilder;
use boring::x509::X509;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::error::Error;
use crate::net::certs::{root_certificates, Identity, Trust};

/// What a client accepts, and whom it asks for.
pub struct ClientTls {
    name: String,
    roots: Option<Vec<CertificateDer<'static>>>,
}

impl ClientTls {
    /// With roots the server's chain and `name` are verified and a DNS name is sent; else neither.
    /// The error says why there are no roots, or that there is no name.
    pub fn new(trust: Trust, name: &str) -> Result<ClientTls, Error> {
        let roots = match trust.roots {
            false => None,
            true if name.is_empty() => return Err(Error::tls("there is no server name to verify")),
            true => Some(root_certificates()?),
        };
        Ok(ClientTls { name: name.to_owned(), roots })
    }

    /// Whether the server is verified.
    pub(super) fn verifies(&self) -> bool {
        self.roots.is_some()
    }

    /// The name to send and verify, if it is a name.
    pub(super) fn server_name(&self) -> Option<&str> {
        (self.verifies() && self.address().is_none()).then_some(self.name.as_str())
    }

    fn address(&self) -> Option<IpAddr> {
        self.name.trim_matches(['[', ']']).parse().ok()
    }

    /// BoringSSL's view of it.
    pub(super) fn context(&self) -> Result<SslContextBuilder, Error> {
        let make = || {
            let mut context = SslContext::builder(SslMethod::tls())?;
            let Some(roots) = &self.roots else { return Ok(context) };
            let mut store = X509StoreBuilder::new()?;
            // One that cannot be read, or that is there twice, is no reason to trust none.
            for root in roots.iter().filter_map(|der| X509::from_der(der).ok()) {
                let _ = store.add_cert(root);
            }
            if let Some(ip) = self.address() {
                store.verify_param_mut().set_ip(ip)?;
            }
            context.set_cert_store_builder(store);
            Ok::<_, boring::error::ErrorStack>(context)
        };
        make().map_err(|error| Error::tls(error.to_string()))
    }
}

/// What a server shows.
pub(super) fn server_context(identity: &Identity) -> Result<SslContextBuilder, Error> {
    let make = || {
        let mut context = SslContext::builder(SslMethod::tls())?;
        let mut chain = identity.der.chain.iter();
        if let Some(leaf) = chain.next() {
            context.set_certificate(X509::from_der(leaf)?.as_ref())?;
        }
        for link in chain {
            context.add_extra_chain_cert(X509::from_der(link)?)?;
        }
        context.set_private_key(key(&identity.der.key)?.as_ref())?;
        Ok::<_, boring::error::ErrorStack>(context)
    };
    make().map_err(|error| Error::tls(error.to_string()))
}

fn key(der: &PrivateKeyDer<'_>) -> Result<PKey<Private>, boring::error::ErrorStack> {
    match der {
        PrivateKeyDer::Pkcs8(key) => PKey::private_key_from_pkcs8(key.secret_pkcs8_der()),
        other => PKey::private_key_from_der(other.secret_der()),
    }
}

/// The tickets with which a client resumes its sessions. It belongs to the dialling side, and outlives connections.
///
/// A ticket is used once. It saves the server a signature and both sides the certificates; no application data is ever
/// sent with it.
pub struct Tickets {
    latest: Option<Vec<u8>>,
    incoming: Receiver<Vec<u8>>,
    sender: Sender<Vec<u8>>,
}

impl Default for Tickets {
    fn default() -> Self {
        let (sender, incoming) = channel();
        Tickets { latest: None, incoming, sender }
    }
}

impl Tickets {
    /// The newest ticket, if one came since the last.
    pub(super) fn take(&mut self) -> Option<Vec<u8>> {
        self.latest = self.incoming.try_iter().last().or(self.latest.take());
        self.latest.take()
    }

    /// Where a connection puts the tickets that it is given.
    pub(super) fn slot(&self) -> Sender<Vec<u8>> {
        self.sender.clone()
    }
}
