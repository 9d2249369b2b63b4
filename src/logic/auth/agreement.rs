//! What the server says in message 2: the terms, the certificate to expect, and the session's number.

use std::fmt;

use serde_json::{Map, Value};

use crate::logic::terms::Terms;
use crate::logic::wire::Fingerprint;

/// Names a session at its server: in each opening, so that the server knows under which keys it is. No secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionId(pub u32);

impl SessionId {
    /// As an opening has it.
    pub fn to_bytes(self) -> [u8; 4] {
        self.0.to_be_bytes()
    }

    /// From an opening.
    pub fn from_bytes(bytes: [u8; 4]) -> SessionId {
        SessionId(u32::from_be_bytes(bytes))
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// What both sides have agreed on, and no third party knows or has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// The tunnel's terms.
    pub terms: Terms,
    /// The only certificate that pool connections may show; `None` without TLS and where a reverse proxy ends it.
    pub fp: Option<Fingerprint>,
    /// The session's number.
    pub session: SessionId,
}

impl Agreement {
    /// As message 2 has it: the fields of the terms, then `fp`, where there is one, and `session`.
    pub fn to_json(&self) -> String {
        let fp = self.fp.map(|fp| format!(",\"fp\":\"{fp}\"")).unwrap_or_default();
        format!("{{{}{fp},\"session\":\"{}\"}}", self.terms.to_fields(), self.session)
    }

    /// The error says what is wrong with it.
    pub(super) fn parse(json: &[u8]) -> Result<Agreement, &'static str> {
        let terms = Terms::parse(json)?;
        let fields: Map<String, Value> = serde_json::from_slice(json).map_err(|_| "the agreement is not JSON")?;
        let fp = match fields.get("fp") {
            None => None,
            Some(fp) => {
                Some(fp.as_str().and_then(|fp| fp.parse().ok()).ok_or("the server's fingerprint is malformed")?)
            }
        };
        let session = fields
            .get("session")
            .and_then(Value::as_str)
            .filter(|session| session.len() == 8 && session.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let session = session.and_then(|session| u32::from_str_radix(session, 16).ok());
        let session = SessionId(session.ok_or("the session's number is malformed")?);
        Ok(Agreement { terms, fp, session })
    }
}
