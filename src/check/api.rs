//! A running master, asked by its API: which instances it has, what they do, what they said last.

use std::fmt;
use std::io::Write;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use serde::Deserialize;

use super::dial::{connect, read_all, secure, unreachable, Connection};
use super::finding::Finding;
use super::words::*;
use crate::error::Error;
use crate::net::certs::{client, Alpn, Trust};

/// A master and the key to it. Shown without the key.
pub struct Master {
    host: String,
    port: u16,
    prefix: String,
    tls: Option<Trust>,
    key: String,
}

/// An instance as the API shows it; its URL has the tunnel's key in it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Shown {
    /// 8 hex digits.
    pub id: String,
    /// The user's name for it.
    pub alias: String,
    /// `server` or `client`; empty for the master itself.
    #[serde(rename = "type")]
    pub kind: String,
    /// `running`, `stopped` or `error`.
    pub status: String,
    /// What it is started with.
    pub url: String,
    /// The round trip to its peer, ms.
    pub ping: i64,
    /// Idle pool connections.
    pub pool: i64,
    /// TCP users.
    pub tcps: i64,
    /// UDP sessions.
    pub udps: i64,
    /// Bytes since the last reset.
    pub tcprx: u64,
    /// The same, sent.
    pub tcptx: u64,
    /// Over UDP.
    pub udprx: u64,
    /// The same, sent.
    pub udptx: u64,
}

impl Shown {
    /// Its alias, or else its id.
    pub fn name(&self) -> &str {
        if self.alias.is_empty() {
            &self.id
        } else {
            &self.alias
        }
    }
}

impl Master {
    /// Reads `http://KEY@host:port/prefix`; also `https://` and the master's own `master://...?tls=1`. A key in it comes before that of
    /// the environment.
    pub fn parse(text: &str, from_env: Option<String>) -> Result<Master, Error> {
        let bad = || Error::input("bad --master", "a URL, as in http://127.0.0.1:9090/api");
        let (scheme, rest) = text.split_once("://").ok_or_else(bad)?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, address) = authority.rsplit_once('@').map_or((None, authority), |(user, at)| (Some(user), at));
        let code = query.split('&').find_map(|pair| pair.strip_prefix("tls="));
        let tls = match (scheme.to_ascii_lowercase().as_str(), code) {
            ("http", _) | ("master", None | Some("0")) => None,
            ("https", _) | ("master", Some("2")) => Some(Trust::ROOTS),
            // What the master makes in memory cannot be verified.
            ("master", Some("1")) => Some(Trust::ANY),
            _ => return Err(bad()),
        };
        let usual = if tls.is_some() { 443 } else { 80 };
        let (host, port) = match address.rsplit_once(':').filter(|(_, port)| !port.contains(']')) {
            Some((host, port)) => (host, port.parse().ok().filter(|port| *port != 0).ok_or_else(bad)?),
            None => (address, usual),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let host = match host {
            "" | "0.0.0.0" => "127.0.0.1",
            "::" => "::1",
            host => host,
        };
        let path = path.trim_end_matches('/');
        let prefix = if path.is_empty() { "/api".to_owned() } else { format!("/{path}") };
        let key = user.map(|user| user.split(':').next().unwrap_or(user).to_owned()).filter(|key| !key.is_empty());
        let plain = |text: &str| text.chars().all(|c| c.is_ascii_graphic());
        let key = key.or(from_env).unwrap_or_default();
        match plain(&key) && plain(&prefix) && plain(host) {
            true => Ok(Master { host: host.to_owned(), port, prefix, tls, key }),
            false => Err(bad()),
        }
    }

    /// The instances, without the master's own record.
    pub fn instances(&self) -> Result<Vec<Shown>, Finding> {
        let body = self.get("/v1/instances")?;
        let all: Vec<Shown> = serde_json::from_slice(&body).map_err(|_| Finding::new(&MASTER_OTHER, self))?;
        Ok(all.into_iter().filter(|shown| !shown.kind.is_empty()).collect())
    }

    /// The last lines of an instance's log, without colours. A master of another program has none.
    pub fn log(&self, id: &str) -> Vec<String> {
        let lines = self.get(&format!("/v1/instances/{id}/logs")).unwrap_or_default();
        let lines: Vec<String> = serde_json::from_slice(&lines).unwrap_or_default();
        lines.iter().map(|line| uncoloured(line)).collect()
    }

    /// The key to it, to be kept out of what is shown.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Whether it runs on this machine.
    pub fn is_here(&self) -> bool {
        self.addresses().is_ok_and(|all| all.iter().all(|at| at.ip().to_canonical().is_loopback()))
    }

    fn addresses(&self) -> Result<Vec<SocketAddr>, Error> {
        let found = (self.host.as_str(), self.port).to_socket_addrs().map(Iterator::collect::<Vec<_>>);
        match found {
            Ok(all) if !all.is_empty() => Ok(all),
            Ok(_) => Err(Error::name(self.host.clone(), "the name has no address")),
            Err(error) => Err(Error::name(self.host.clone(), error)),
        }
    }

    /// The body of an answer with the status 200.
    fn get(&self, path: &str) -> Result<Vec<u8>, Finding> {
        let failed = |error: Error| Finding::new(&MASTER_UNREACHABLE, self).with(error.cause()).with(error.hint());
        let mut connection = self.connection().map_err(failed)?;
        // An answer to HTTP/1.0 ends with the connection.
        let request = format!(
            "GET {}{path} HTTP/1.0\r\nHost: {}:{}\r\nX-API-Key: {}\r\nConnection: close\r\n\r\n",
            self.prefix, self.host, self.port, self.key
        );
        connection.write_all(request.as_bytes()).map_err(|error| failed(Error::lost(error)))?;
        let (answer, _) = read_all(&mut connection, MAX_ANSWER);
        let end = answer.windows(4).position(|part| part == b"\r\n\r\n");
        let status = answer.get(9..12).and_then(|code| std::str::from_utf8(code).ok()?.parse::<u16>().ok());
        match (status, end) {
            (Some(200), Some(end)) => Ok(answer[end + 4..].to_vec()),
            (Some(401), _) => Err(Finding::new(&MASTER_KEY, self)),
            (Some(503), _) => Err(Finding::new(&MASTER_BUSY, self)),
            _ => Err(Finding::new(&MASTER_OTHER, self)),
        }
    }

    fn connection(&self) -> Result<Connection, Error> {
        let mut last = Error::unreachable(self.to_string(), "no address");
        for at in self.addresses()? {
            match connect(at, None, TIMEOUT) {
                Err(error) => last = unreachable(at, error, TIMEOUT),
                Ok((stream, _)) => {
                    let Some(trust) = self.tls else { return Ok(Connection::Plain(stream)) };
                    return secure(stream, client(trust, Alpn::Http1)?, &self.host)
                        .map_err(|error| unreachable(at, error, TIMEOUT));
                }
            }
        }
        Err(last)
    }
}

/// `http://host:port/prefix`, without the key.
impl fmt::Display for Master {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        match self.host.contains(':') {
            true => write!(f, "{scheme}://[{}]:{}{}", self.host, self.port, self.prefix),
            false => write!(f, "{scheme}://{}:{}{}", self.host, self.port, self.prefix),
        }
    }
}

/// As `Display`: the key is a secret.
impl fmt::Debug for Master {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{self}")
    }
}

fn uncoloured(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        plain.push_str(part.split_once('m').map_or(part, |(_, rest)| rest));
    }
    plain
}

/// How long a master is waited for.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of an answer: thousands of instances with long URLs.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_masters_address_is_read_in_every_form_and_shown_without_its_key() {
        for (text, shown) in [
            ("http://127.0.0.1:9090/api", "http://127.0.0.1:9090/api"),
            ("http://planted@127.0.0.1:9090", "http://127.0.0.1:9090/api"),
            ("https://panel.example/np/", "https://panel.example:443/np"),
            ("master://:9090/np?tls=1&log=info", "https://127.0.0.1:9090/np"),
            ("master://[::]:9090", "http://[::1]:9090/api"),
        ] {
            let master = Master::parse(text, None).unwrap();
            assert_eq!((master.to_string().as_str(), format!("{master:?}").as_str()), (shown, shown));
        }
        let key = |text, env: Option<&str>| Master::parse(text, env.map(str::to_owned)).unwrap().key;
        assert_eq!(key("http://mine@h:1", Some("other")), "mine");
        assert_eq!(key("http://h:1", Some("other")), "other");
    }

    #[test]
    fn what_is_no_address_is_refused_without_showing_the_key() {
        for text in [
            "",
            "127.0.0.1:9090",
            "ftp://planted@h",
            "http://planted@h:0",
            "http://h:x",
            "http://h:1/a b",
            "http://a\r\nb@h:1",
        ] {
            let told = Master::parse(text, None).unwrap_err().to_string();
            assert!(told.contains("--master") && !told.contains("planted"), "{told}");
        }
    }
}
