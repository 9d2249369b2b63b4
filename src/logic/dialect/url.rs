//! Signals of 1.13 and older: `np://ADDRESS/ID#MARK`, `np:#MARK`; up to 1.7 `#MARK`, in 1.5 `//ID#MARK`.

use super::Dialect;
use crate::logic::wire::{BadLine, Id, Signal, MAX_REMOTE};

impl Dialect {
    pub(super) fn to_url(self, signal: &Signal) -> String {
        let scheme = if self.has_bare_marks() { "" } else { "np:" };
        match signal {
            Signal::Tcp { id, .. } if self == Dialect::V1_5 => format!("//{id}#1"),
            Signal::Udp { id, .. } if self == Dialect::V1_5 => format!("//{id}#2"),
            Signal::Tcp { remote, id } => format!("np://{remote}/{id}#1"),
            Signal::Udp { remote, id } => format!("np://{remote}/{id}#2"),
            Signal::Ping => format!("{scheme}#i"),
            Signal::Pong => format!("{scheme}#o"),
            Signal::Flush if self.has_bare_marks() => "#0".into(),
            Signal::Flush => "np:#f".into(),
            Signal::Verify { id, .. } => format!("np://0/{id}#v"),
            // What only two of this program say to each other: a mark that originals pass over.
            Signal::Taken { .. }
            | Signal::Goodbye
            | Signal::Gone { .. }
            | Signal::Kept { .. }
            | Signal::Doubt { .. }
            | Signal::Cert { .. } => format!("{scheme}#"),
        }
    }

    pub(super) fn parse_url(self, text: &[u8]) -> Result<Signal, BadLine> {
        // 1.4 answers nothing, and says so much from time to time.
        if self == Dialect::V1_5 && text.is_empty() {
            return Ok(Signal::Pong);
        }
        let text = std::str::from_utf8(text).ok().filter(|text| is_url(text.as_bytes())).ok_or(BadLine::Json)?;
        let (path, mark) = text.split_once('#').ok_or(BadLine::Json)?;
        let path = path.strip_prefix("np:").unwrap_or(path);
        let named = || {
            let path = path.strip_prefix("//").ok_or(BadLine::Field)?;
            let (remote, id) = match self {
                Dialect::V1_5 => ("", path),
                _ => path.split_once('/').ok_or(BadLine::Field)?,
            };
            let id: Id = id.parse().map_err(|_| BadLine::Field)?;
            match remote.len() <= MAX_REMOTE {
                true => Ok((remote.to_owned(), id)),
                false => Err(BadLine::Field),
            }
        };
        Ok(match mark {
            "i" => Signal::Ping,
            "o" => Signal::Pong,
            "0" if self.has_bare_marks() => Signal::Flush,
            "f" if !self.has_bare_marks() => Signal::Flush,
            // The peer drops its idle connections.
            "c" if self == Dialect::V1_8 => Signal::Flush,
            "1" => named().map(|(remote, id)| Signal::Tcp { remote, id })?,
            "2" => named().map(|(remote, id)| Signal::Udp { remote, id })?,
            // It names a connection, and says nothing of its certificate.
            "v" => named().map(|(_, id)| Signal::Verify { id, fp: String::new() })?,
            // A line under another key may begin like a URL.
            _ if mark.len() <= MAX_MARK && mark.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
                return Err(BadLine::Unknown)
            }
            _ => return Err(BadLine::Json),
        })
    }
}

/// Whether a line may be a signal of this form.
pub(super) fn is_url(text: &[u8]) -> bool {
    text.starts_with(b"np:") || text.starts_with(b"#") || text.starts_with(b"//")
}

/// Most characters of a mark that is not known here.
const MAX_MARK: usize = 16;
