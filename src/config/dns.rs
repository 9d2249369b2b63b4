//! The parameter `dns`: who is asked for names, and how long an answer is kept.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use super::address::{Endpoint, Host};
use super::value::{duration_words, period_or_zero};

/// How names are looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// The servers that are asked, in this order; without one it is the system.
    pub servers: Vec<Endpoint>,
    /// How long an answer is kept, zero: not at all. `None`: as long as the servers say.
    pub keep: Option<Duration>,
}

impl Dns {
    /// Reads addresses of servers and a duration, joined by commas.
    pub(super) fn parse(text: &str) -> Option<Dns> {
        let mut dns = Dns { servers: Vec::new(), keep: None };
        for part in text.split(',').map(str::trim) {
            match period_or_zero(part) {
                Some(_) if dns.keep.is_some() => return None,
                Some(keep) => dns.keep = Some(keep),
                None => dns.servers.push(server(part)?),
            }
        }
        (dns.servers.len() <= MAX_SERVERS).then_some(dns)
    }
}

/// An address with or without a port; an IPv6 address needs its brackets only before a port.
fn server(text: &str) -> Option<Endpoint> {
    let bare = |host: Host| Endpoint { host, port: PORT };
    let endpoint = match text.parse::<IpAddr>() {
        Ok(ip) => bare(Host::Ip(ip)),
        Err(_) if text.ends_with(']') => bare(Host::parse(text).ok()?),
        Err(_) if text.split('%').next().is_some_and(|ip| ip.parse::<Ipv6Addr>().is_ok()) => {
            bare(Host::parse(&format!("[{text}]")).ok()?)
        }
        Err(_) => Endpoint::parse(text).ok()?,
    };
    match &endpoint.host {
        Host::Ip(ip) if ip.is_unspecified() || ip.is_multicast() => None,
        Host::Ip(_) | Host::Zoned(..) => Some(endpoint),
        Host::Any | Host::Name(_) => None,
    }
}

/// In the words of the parameter.
impl fmt::Display for Dns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let server = |Endpoint { host, port }: &Endpoint| match (host, *port) {
            (Host::Ip(ip @ IpAddr::V4(_)), PORT) => ip.to_string(),
            (Host::Ip(ip @ IpAddr::V4(_)), port) => format!("{ip}:{port}"),
            (host, PORT) => format!("[{host}]"),
            (host, port) => format!("[{host}]:{port}"),
        };
        let words = self.servers.iter().map(server).chain(self.keep.map(duration_words));
        f.write_str(&words.collect::<Vec<_>>().join(","))
    }
}

/// Most servers.
const MAX_SERVERS: usize = 8;
/// Where DNS servers listen.
const PORT: u16 = 53;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_addresses_of_servers_a_duration_or_both() {
        for (text, servers, keep, shown) in [
            ("5m", 0, Some(300), "5m"),
            ("0", 0, Some(0), "0"),
            ("8.8.8.8", 1, None, "8.8.8.8"),
            ("8.8.8.8:53, 1.1.1.1:5353", 2, None, "8.8.8.8,1.1.1.1:5353"),
            ("8.8.8.8,[2606:4700::1111]:53", 2, None, "8.8.8.8,[2606:4700::1111]"),
            ("2606:4700::1111,30s", 1, Some(30), "[2606:4700::1111],30s"),
            ("30s,[::1]:5353,[::2]", 2, Some(30), "[::1]:5353,[::2],30s"),
            ("fe80::1%eth0", 1, None, "[fe80::1%eth0]"),
            ("[fe80::1%25eth0]:5353", 1, None, "[fe80::1%eth0]:5353"),
        ] {
            let dns = Dns::parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!((dns.servers.len(), dns.keep), (servers, keep.map(Duration::from_secs)), "{text}");
            assert_eq!(dns.to_string(), shown);
            assert_eq!(Dns::parse(shown), Some(dns));
        }
    }

    #[test]
    fn what_is_neither_is_refused() {
        let many = ["8.8.8.8"; MAX_SERVERS + 1].join(",");
        for bad in [
            "",
            ",",
            "5",
            "8.8.8.8,",
            "dns.google",
            "8.8.8.8:0",
            "0.0.0.0",
            "::",
            "224.0.0.251",
            ":53",
            "5m,30s",
            "1.2.3",
            "[8.8.8.8]",
            "10.0.0.1%eth0",
            "fe80::1%",
            "2001:db8::1%eth0",
            &many,
        ] {
            assert_eq!(Dns::parse(bad), None, "{bad}");
        }
    }
}
