//! HTTP forward proxies: which one the environment names for a host, what it is asked, and what it answers.
//!
//! ```text
//!  client --CONNECT host:port--> proxy --TCP--> server
//!         <--200-----------------              from here on the bytes are the server's
//! ```

use std::fmt;
use std::net::IpAddr;

use super::encoding;
use super::http::{end_of_head, status, Head, MAX_HEAD};
use super::networks::Network;
use crate::error::Error;

/// An HTTP proxy that is reached over plain TCP. Shown without its credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Its name or address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// `user:password` in base64, as basic authentication sends it.
    credentials: Option<String>,
}

impl Proxy {
    /// The proxy that the environment names for connections to this host and port.
    ///
    /// `HTTPS_PROXY` or `https_proxy` names it; `NO_PROXY` or `no_proxy` lists hosts that are reached without it, as names (with all
    /// below them; with a dot in front, only those below), addresses, CIDR blocks, any of them with a port, or `*`. This machine
    /// itself is always reached without. The error is one line and holds no credentials.
    pub fn from_env(env: &dyn Fn(&str) -> Option<String>, host: &str, port: u16) -> Result<Option<Proxy>, Error> {
        let one = |names: [&str; 2]| names.into_iter().filter_map(env).find(|value| !value.trim().is_empty());
        let Some(url) = one(["HTTPS_PROXY", "https_proxy"]) else { return Ok(None) };
        let exceptions = one(["NO_PROXY", "no_proxy"]).unwrap_or_default();
        if is_this_machine(host) || exceptions.split(',').any(|entry| excepts(entry.trim(), host, port)) {
            return Ok(None);
        }
        Proxy::parse(url.trim()).map(Some).map_err(|why| Error::input(format!("HTTPS_PROXY: {why}"), FORM))
    }

    /// Reads `http://user:password@host:port`; scheme, credentials and port (80) may be left out.
    fn parse(url: &str) -> Result<Proxy, &'static str> {
        let rest = match url.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some(_) => return Err("only http:// proxies are supported"),
            None => url,
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (user, address) = match rest.rsplit_once('@') {
            Some((user, address)) => (Some(user), address),
            None => (None, rest),
        };
        let (host, port) = match address.rsplit_once(':').filter(|(_, port)| !port.contains(']')) {
            Some((host, port)) => (host, port.parse().ok().filter(|port| *port != 0).ok_or(BAD_PORT)?),
            None => (address, PORT),
        };
        let (inner, bracketed) = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(inner) => (inner, true),
            None => (host, false),
        };
        let proper = match bracketed {
            // Which zones there are is the configuration's to say.
            true => inner.split('%').next().is_some_and(|ip| ip.parse::<std::net::Ipv6Addr>().is_ok()),
            false => {
                !inner.is_empty() && inner.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
            }
        };
        if !proper {
            return Err("no host name or address in it, as in http://proxy.example:3128");
        }
        let credentials = match user {
            Some(user) => {
                let (name, password) = user.split_once(':').unwrap_or((user, ""));
                let mut plain = decoded(name).ok_or(BAD_PERCENT)?;
                plain.push(b':');
                plain.extend(decoded(password).ok_or(BAD_PERCENT)?);
                Some(encoding::base64(&plain))
            }
            None => None,
        };
        Ok(Proxy { host: inner.to_owned(), port, credentials })
    }

    /// The request for a connection to `target`, which is `host:port`, an IPv6 host in brackets; whole.
    pub fn connect(&self, target: &str) -> Vec<u8> {
        let credentials = match &self.credentials {
            Some(credentials) => format!("Proxy-Authorization: Basic {credentials}\r\n"),
            None => String::new(),
        };
        let agent = concat!("nodepass/", env!("CARGO_PKG_VERSION"));
        format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: {agent}\r\n{credentials}\r\n").into_bytes()
    }
}

/// `host:port`, without the credentials.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// As `Display`: credentials are a secret.
impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Whether this entry of `NO_PROXY` means this host and port.
fn excepts(entry: &str, host: &str, port: u16) -> bool {
    if entry.is_empty() {
        return false;
    }
    let address = host.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
    let bare = |text: &str| text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    if entry.contains('/') {
        return address.zip(Network::parse(entry)).is_some_and(|(address, network)| network.contains(address));
    }
    if let Ok(ip) = bare(entry) {
        return address == Some(ip.to_canonical());
    }
    let entry = match entry.rsplit_once(':') {
        Some((_, only)) if only != port.to_string() => return false,
        Some((name, _)) => name,
        None => entry,
    };
    if let (Ok(ip), Some(address)) = (bare(entry), address) {
        return address == ip.to_canonical();
    }
    let (entry, host) = (entry.to_ascii_lowercase(), host.trim_end_matches('.').to_ascii_lowercase());
    let below = |name: &str| host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'));
    match entry.strip_prefix("*.").or(entry.strip_prefix('.')) {
        _ if entry == "*" => true,
        Some(name) => below(name),
        None => !entry.is_empty() && (host == entry || below(&entry)),
    }
}

fn is_this_machine(host: &str) -> bool {
    let name = host.trim_end_matches('.').eq_ignore_ascii_case("localhost");
    host.is_empty() || name || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// Percent-decoded bytes; `None` if a percent sign is not followed by two hex digits.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, tail @ ..] = rest {
        (rest, _) = match (first, tail) {
            (b'%', [high, low, tail @ ..]) => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let byte = digit(*high)? * 16 + digit(*low)?;
                (tail, bytes.push(u8::try_from(byte).ok()?))
            }
            (b'%', _) => return None,
            (byte, tail) => (tail, bytes.push(*byte)),
        };
    }
    Some(bytes)
}

/// What the bytes of a proxy's answer come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The head's end is still to come.
    NeedMore,
    /// The connection stands. What comes after so many bytes is the server's.
    Done(usize),
    /// There is none, and why.
    Bad(Error),
}

/// Reads an answer to CONNECT from all bytes that came so far. Never `NeedMore` from [`MAX_HEAD`] bytes on.
pub fn parse_answer(bytes: &[u8]) -> Answer {
    let bad = |why: &'static str| Answer::Bad(Error::proxy(why));
    if !bytes.iter().zip(b"HTTP/1.").all(|(is, should)| is == should) {
        return bad("its answer is no HTTP");
    }
    let Some(end) = end_of_head(&bytes[..bytes.len().min(MAX_HEAD)], 0) else {
        return match bytes.len() < MAX_HEAD {
            true => Answer::NeedMore,
            false => bad("its answer is too long"),
        };
    };
    let text = String::from_utf8_lossy(&bytes[..end]);
    match Head::parse(&text).and_then(|head| status(head.first)) {
        Some(200..=299) => Answer::Done(end),
        // Some say 401.
        Some(status @ (401 | 407)) => {
            let error = Error::proxy(format!("it wants a user and a password, or others ({status})"));
            Answer::Bad(error.with_hint("HTTPS_PROXY takes them as in http://user:password@host:port"))
        }
        Some(status @ (403 | 405)) => {
            let error = Error::proxy(format!("it does not allow this connection ({status})"));
            Answer::Bad(error.with_hint("many allow port 443 only; NO_PROXY can name the server"))
        }
        Some(status @ 502..=504) => Answer::Bad(Error::proxy(format!("it cannot reach the server ({status})"))),
        Some(status) => Answer::Bad(Error::proxy(format!("it refuses with status {status}"))),
        None => bad("its answer is malformed"),
    }
}

/// How a proxy is written.
const FORM: &str = "http://host:port, or http://user:password@host:port";
/// The port of a proxy whose URL names none.
const PORT: u16 = 80;
const BAD_PORT: &str = "the port is no number from 1 to 65535";
const BAD_PERCENT: &str = "a percent sign in user or password is not followed by two hex digits";

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(url: &str, exceptions: &str, host: &str, port: u16) -> Result<Option<Proxy>, Error> {
        let env = |name: &str| match name {
            "HTTPS_PROXY" => Some(url.to_owned()),
            "no_proxy" => Some(exceptions.to_owned()),
            _ => None,
        };
        Proxy::from_env(&env, host, port)
    }

    fn excepted(exceptions: &str, host: &str) -> bool {
        chosen("http://proxy.example:3128", exceptions, host, 443).unwrap().is_none()
    }

    #[test]
    fn without_a_variable_there_is_no_proxy_and_either_case_names_one() {
        assert_eq!(Proxy::from_env(&|_| None, "a.example", 443), Ok(None));
        assert_eq!(chosen("  ", "", "a.example", 443), Ok(None));
        let lower = |name: &str| (name == "https_proxy").then(|| "proxy.example".to_owned());
        assert_eq!(Proxy::from_env(&lower, "a.example", 443).unwrap().unwrap().to_string(), "proxy.example:80");
    }

    #[test]
    fn every_form_of_a_proxy_is_read() {
        for (url, shown) in [
            ("http://proxy.example:3128", "proxy.example:3128"),
            ("HTTP://10.0.0.1:8080/", "10.0.0.1:8080"),
            ("proxy.example:1", "proxy.example:1"),
            ("http://user:pass@proxy.example", "proxy.example:80"),
            ("http://[2001:db8::1]:3128", "[2001:db8::1]:3128"),
            ("http://[2001:db8::1]", "[2001:db8::1]:80"),
        ] {
            let proxy = chosen(url, "", "a.example", 443).unwrap().unwrap();
            assert_eq!((proxy.to_string(), format!("{proxy:?}")), (shown.into(), shown.into()));
        }
    }

    #[test]
    fn a_bad_proxy_is_one_clear_error_without_its_password() {
        for (url, expected) in [
            ("https://u:topsecret@proxy.example:443", "only http:// proxies"),
            ("socks5://u:topsecret@proxy.example", "only http:// proxies"),
            ("http://u:topsecret@", "no host name"),
            ("http://u:topsecret@pro xy", "no host name"),
            ("http://u:topsecret@proxy\r\n:80", "no host name"),
            ("http://u:topsecret@2001:db8::1:80", "no host name"),
            ("http://u:topsecret@proxy.example:0", "the port"),
            ("http://u:topsecret@proxy.example:65536", "the port"),
            ("http://u:topsecret@proxy.example:80/path", "the port"),
            ("http://u:topsecret%4@proxy.example", "percent"),
            ("http://u:topsecret%zz@proxy.example", "percent"),
        ] {
            let why = chosen(url, "", "a.example", 443).unwrap_err().to_string();
            assert!(why.starts_with("HTTPS_PROXY: ") && why.contains(expected), "{url}: {why}");
            assert!(!why.contains("secret") && !why.contains('\n'), "{why}");
        }
    }

    #[test]
    fn credentials_are_decoded_and_sent_and_never_shown() {
        let proxy = chosen("http://us%65r:p%40ss%3a%25@proxy.example", "", "a.example", 443).unwrap().unwrap();
        let request = String::from_utf8(proxy.connect("a.example:443")).unwrap();
        assert!(request.starts_with("CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n"), "{request}");
        let expected = format!("\r\nProxy-Authorization: Basic {}\r\n\r\n", encoding::base64(b"user:p@ss:%"));
        assert!(request.ends_with(&expected), "{request}");
        assert!(!format!("{proxy} {proxy:?}").contains("ss"));
        let open = chosen("http://proxy.example", "", "a.example", 443).unwrap().unwrap();
        assert!(!String::from_utf8(open.connect("a.example:443")).unwrap().contains("Authorization"));
    }

    #[test]
    fn exceptions_are_names_suffixes_addresses_blocks_or_all() {
        for (list, host) in [
            ("*", "a.example"),
            ("b.example, A.example", "a.EXAMPLE"),
            ("example", "a.example"),
            (".example", "a.example"),
            ("*.example", "a.example"),
            ("a.example:443", "a.example"),
            ("a.example", "a.example."),
            ("192.0.2.7", "192.0.2.7"),
            ("192.0.2.7:443", "192.0.2.7"),
            ("192.0.2.0/24", "192.0.2.255"),
            ("0.0.0.0/0", "192.0.2.255"),
            ("192.0.2.7/32", "192.0.2.7"),
            ("2001:db8::/32", "2001:db8:1::7"),
            ("[2001:db8::7]", "2001:db8::7"),
            ("[2001:db8::7]:443", "2001:db8::7"),
            ("::/0", "2001:db8::7"),
        ] {
            assert!(excepted(list, host), "{list} and {host}");
        }
        for (list, host) in [
            ("", "a.example"),
            (" , ,", "a.example"),
            ("b.example", "a.example"),
            ("a.example", "aa.example"),
            ("a.example", "example"),
            (".a.example", "a.example"),
            ("a.example:80", "a.example"),
            (":443", "a.example"),
            ("192.0.2.7", "192.0.2.70"),
            ("192.0.2.0/25", "192.0.2.255"),
            ("192.0.2.0/33", "192.0.2.1"),
            ("192.0.2.0/x", "192.0.2.1"),
            ("192.0.2.0/24", "a.example"),
            ("2001:db8::/32", "192.0.2.1"),
        ] {
            assert!(!excepted(list, host), "{list} and {host}");
        }
    }

    #[test]
    fn this_machine_needs_no_proxy() {
        for host in ["localhost", "LOCALHOST.", "127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", ""] {
            assert!(excepted("", host), "{host}");
        }
    }

    #[test]
    fn an_answer_is_read_at_every_split_and_what_follows_it_is_left() {
        let bytes = b"HTTP/1.0 200 Connection established\r\nProxy-agent: tinyproxy/1.11.1\r\n\r\n\x00\x00\x00\x00";
        let head = bytes.len() - 4;
        for end in 0..head {
            assert_eq!(parse_answer(&bytes[..end]), Answer::NeedMore);
        }
        for end in head..=bytes.len() {
            assert_eq!(parse_answer(&bytes[..end]), Answer::Done(head));
        }
    }

    #[test]
    fn a_refusal_says_what_is_wrong() {
        for (first, expected) in [
            ("HTTP/1.1 407 Proxy Authentication Required", "a user and a password"),
            ("HTTP/1.0 401 Unauthorized", "a user and a password"),
            ("HTTP/1.1 403 Filtered", "does not allow this connection (403)"),
            ("HTTP/1.1 502 Bad Gateway", "cannot reach the server (502)"),
            ("HTTP/1.1 418 Teapot", "status 418"),
            ("HTTP/1.1 banana", "malformed"),
            ("SSH-2.0-OpenSSH_9.2", "no HTTP"),
        ] {
            match parse_answer(format!("{first}\r\n\r\n").as_bytes()) {
                Answer::Bad(error) => {
                    let told = error.to_string();
                    assert!(told.starts_with("the proxy of HTTPS_PROXY: ") && told.contains(expected), "{told}");
                    assert!(matches!(error, Error::Proxy(_)) && !told.contains('\n'), "{told}");
                }
                other => panic!("{first}: {other:?}"),
            }
        }
    }

    #[test]
    fn an_answer_without_end_is_not_awaited_for_ever() {
        let mut bytes = b"HTTP/1.1 200 OK\r\n".to_vec();
        bytes.resize(MAX_HEAD - 1, b'a');
        assert_eq!(parse_answer(&bytes), Answer::NeedMore);
        bytes.push(b'a');
        assert!(matches!(parse_answer(&bytes), Answer::Bad(error) if error.to_string().contains("too long")));
    }
}
