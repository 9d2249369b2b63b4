//! Certificates of an instance: which one, and what is said when the files change.

use crate::config::Tls;
use crate::error::Error;
use crate::net::certs::{Audience, Certs, Origin};

/// Looks at the certificate files again, and says what came of it.
pub(super) fn reload_certs(certs: &mut Certs) {
    match certs.reload() {
        Ok(true) => {
            log::info!(event = "certificate_loaded"; "Certificate loaded again: new connections use the new one")
        }
        Ok(false) => {}
        Err(why) => {
            log::error!(event = "certificate_failed", kind = why.kind(); "Certificate not loaded again, the old one stays: {why}")
        }
    }
}

/// The certificate that this configuration asks for, for that audience.
pub(in crate::run) fn certs(tls: &Tls, audience: Audience) -> Result<Option<Certs>, Error> {
    let origin = match tls {
        Tls::Off => return Ok(None),
        Tls::SelfSigned => Origin::Memory,
        Tls::Files { crt, key } => Origin::Files { crt: crt.clone(), key: key.clone() },
        Tls::Verified => return Err(crate::config::needs_files()),
    };
    Certs::new(origin, audience).map(Some)
}
