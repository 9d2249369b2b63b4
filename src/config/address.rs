//! Addresses as the user writes them: a host, which may be a name or missing, and a port.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::value::{host_name, number};

/// The host of an [`Endpoint`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// Not given: all interfaces where one listens, this machine where one dials.
    Any,
    /// An IPv4 or IPv6 address.
    Ip(IpAddr),
    /// An IPv6 address that means something on one link only, and the name or number of the interface to that link.
    Zoned(Ipv6Addr, String),
    /// A name, to be resolved.
    Name(String),
}

impl Host {
    /// Whether listening here means listening on every interface.
    pub fn is_unspecified(&self) -> bool {
        match self {
            Host::Any => true,
            Host::Ip(ip) => ip.is_unspecified(),
            Host::Zoned(..) | Host::Name(_) => false,
        }
    }

    /// Whether one who dials this reaches who listens at `other`, as far as one can tell without resolving names. Addresses of the loopback
    /// interface are as different as any others; only a name of this machine, or no host at all, may stand for either family's usual one.
    pub fn may_be(&self, other: &Host) -> bool {
        let same = match (self, other) {
            (Host::Ip(one), Host::Ip(other)) => one.to_canonical() == other.to_canonical(),
            (one, other) => one == other,
        };
        let vague = [self, other].iter().any(|host| !matches!(host, Host::Ip(ip) if !ip.is_unspecified()));
        same || vague && self.is_local() && other.is_local()
    }

    /// Whether this is what "this machine" is mostly dialled by.
    fn is_local(&self) -> bool {
        match self {
            Host::Any => true,
            Host::Ip(ip) => {
                let ip = ip.to_canonical();
                ip.is_unspecified() || ip == IpAddr::V4(Ipv4Addr::LOCALHOST) || ip == IpAddr::V6(Ipv6Addr::LOCALHOST)
            }
            Host::Zoned(..) => false,
            Host::Name(name) => name.trim_end_matches('.').eq_ignore_ascii_case("localhost"),
        }
    }

    /// As a request to others shows it: an interface of this machine is nothing to them.
    pub fn without_zone(&self) -> Host {
        match self {
            Host::Zoned(ip, _) => Host::Ip((*ip).into()),
            host => host.clone(),
        }
    }

    /// Reads a host, an IPv6 address in brackets; nothing is [`Host::Any`]. The error says what is expected.
    pub(super) fn parse(text: &str) -> Result<Host, &'static str> {
        if text.is_empty() {
            return Ok(Host::Any);
        }
        if let Some(inner) = text.strip_prefix('[') {
            return ipv6(inner.strip_suffix(']').ok_or(BAD_IPV6)?);
        }
        if text.contains(':') {
            return Err(BAD_IPV6);
        }
        match text.parse() {
            Ok(ip) => Ok(Host::Ip(ip)),
            Err(_) => host_name(text).map(Host::Name).ok_or(BAD_HOST),
        }
    }
}

/// Shown without brackets: see [`Endpoint`] for those.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Host::Any => Ok(()),
            Host::Ip(ip) => ip.fmt(f),
            Host::Zoned(ip, zone) => write!(f, "{ip}%{zone}"),
            Host::Name(name) => name.fmt(f),
        }
    }
}

/// A host and a port (1 to 65535), shown as in a URL: `name:80`, `[::1]:80`, `:80`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Where.
    pub host: Host,
    /// Never 0.
    pub port: u16,
}

impl Endpoint {
    /// Reads `host:port`, `[IPv6]:port` or `:port`. The error says what is expected.
    pub(super) fn parse(text: &str) -> Result<Endpoint, &'static str> {
        let (host, port) = text.rsplit_once(':').filter(|(_, port)| !port.contains(']')).ok_or(NO_PORT)?;
        // Digits only and no zero in front: the default key is made from the port's digits.
        let digits = !port.starts_with('0');
        let port = number(port, 1..=u16::MAX.into()).filter(|_| digits).ok_or(BAD_PORT)?;
        let port = u16::try_from(port).map_err(|_| BAD_PORT)?;
        Ok(Endpoint { host: Host::parse(host)?, port })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match &self.host {
            Host::Ip(ip @ IpAddr::V6(_)) => write!(f, "[{ip}]:{}", self.port),
            Host::Zoned(ip, zone) => write!(f, "[{ip}%25{zone}]:{}", self.port),
            host => write!(f, "{host}:{}", self.port),
        }
    }
}

/// An IPv6 address without its brackets, maybe with a zone. The percent sign before it may be written as a URL has it (RFC 6874).
fn ipv6(text: &str) -> Result<Host, &'static str> {
    let Some((ip, zone)) = text.split_once('%') else {
        return text.parse::<Ipv6Addr>().map(|ip| Host::Ip(ip.into())).map_err(|_| BAD_IPV6);
    };
    let ip: Ipv6Addr = ip.parse().map_err(|_| BAD_IPV6)?;
    let zone = zone.strip_prefix("25").filter(|rest| !rest.is_empty()).unwrap_or(zone);
    let named = (1..=MAX_ZONE).contains(&zone.len())
        && zone.bytes().all(|byte| byte.is_ascii_graphic() && !b"/%[]".contains(&byte));
    if !named {
        return Err(BAD_ZONE);
    }
    // Multicast has its scope in the fourth digit: 1 is the interface's, 2 the link's.
    let on_link = ip.is_unicast_link_local() || ip.is_multicast() && matches!(ip.octets()[1] & 15, 1 | 2);
    on_link.then(|| Host::Zoned(ip, zone.to_owned())).ok_or(NO_ZONE)
}

const NO_PORT: &str = "host:port (the port is missing)";
const BAD_PORT: &str = "host:port with a port from 1 to 65535";
const BAD_IPV6: &str = "an IPv6 address in brackets, as in [2001:db8::1]:443";
const BAD_ZONE: &str = "the name or the number of a network interface after the %, as in [fe80::1%25eth0]:443";
const NO_ZONE: &str = "a zone (%) only with an address of one link, as in [fe80::1%25eth0]:443";
const BAD_HOST: &str = "a host name, an IPv4 address, an [IPv6] address or nothing before the port";

/// Bytes in the name of an interface (Linux: `IFNAMSIZ` without the zero at its end).
const MAX_ZONE: usize = 15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_host_is_read_and_shown_as_it_was_written() {
        for text in ["a.example:1", "10.0.0.1:65535", "[2001:db8::1]:443", ":80", "0.0.0.0:1", "[::]:9", "localhost:22"]
        {
            assert_eq!(Endpoint::parse(text).map(|at| at.to_string()).as_deref(), Ok(text));
        }
        assert_eq!(Endpoint::parse(":80"), Ok(Endpoint { host: Host::Any, port: 80 }));
        assert_eq!(Endpoint::parse("x:80"), Ok(Endpoint { host: Host::Name("x".into()), port: 80 }));
    }

    #[test]
    fn each_fault_is_told_by_what_is_expected() {
        let fault = |text| Endpoint::parse(text).unwrap_err();
        for text in ["", "host", "[::1]", "10.0.0.1"] {
            assert_eq!(fault(text), NO_PORT, "{text}");
        }
        for text in ["h:", ":0", "h:65536", "h:-1", "h:+80", "h:080", "h:http", "h:8 ", "h:99999999999999999999999"] {
            assert_eq!(fault(text), BAD_PORT, "{text}");
        }
        for text in ["::1:80", "a:b:80", "[::1:80", "[1.2.3.4]:80", "[]:80", "[::1]x:80", "[x%eth0]:80", "[%eth0]:80"] {
            assert_eq!(fault(text), BAD_IPV6, "{text}");
        }
        for text in ["a b:80", "a/b:80", "256.0.0.1:80", "@:80", "ü:80", "::80"] {
            let told = fault(text);
            assert!(told == BAD_HOST || told == BAD_IPV6, "{text}: {told}");
        }
    }

    #[test]
    fn a_zone_is_an_interface_after_an_address_of_one_link() {
        let zoned = |ip: &str, zone: &str| Ok(Host::Zoned(ip.parse().unwrap(), zone.into()));
        let host = |text: &str| Host::parse(text);
        assert_eq!(host("[fe80::1%25eth0]"), zoned("fe80::1", "eth0"));
        assert_eq!(host("[fe80::1%eth0.5]"), zoned("fe80::1", "eth0.5"));
        assert_eq!(host("[ff02::2%253]"), zoned("ff02::2", "3"));
        assert_eq!(host("[fe80::1%25]"), zoned("fe80::1", "25"));
        assert_eq!(host("[fe80::1%br-lan]").unwrap().to_string(), "fe80::1%br-lan");
        let shown = Endpoint::parse("[fe80::1%eth0]:443").unwrap().to_string();
        assert_eq!(shown, "[fe80::1%25eth0]:443");
        assert_eq!(Endpoint::parse(&shown).unwrap().to_string(), shown);
        for text in ["[fe80::1%]", "[fe80::1%a name]", "[fe80::1%a/b]", "[fe80::1%0123456789abcdef]", "[fe80::1%a%b]"] {
            assert_eq!(host(text), Err(BAD_ZONE), "{text}");
        }
        for text in ["[2001:db8::1%eth0]", "[::1%lo]", "[ff05::1%eth0]"] {
            assert_eq!(host(text), Err(NO_ZONE), "{text}");
        }
        assert_eq!(host("[fe80::1%eth0]").unwrap().without_zone(), host("[fe80::1]").unwrap());
        assert!(!host("[fe80::1%eth0]").unwrap().may_be(&host("[fe80::1%eth1]").unwrap()));
    }

    #[test]
    fn only_what_reaches_the_same_listener_may_be_the_same_host() {
        let host = |text: &str| Endpoint::parse(text).unwrap().host;
        let same = [
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("127.0.0.1:1", "[::ffff:127.0.0.1]:1"),
            ("127.0.0.1:1", "LocalHost:1"),
            ("[::1]:1", "localhost.:1"),
            (":1", "127.0.0.1:1"),
            ("0.0.0.0:1", "localhost:1"),
            ("tunnel.example:1", "tunnel.example:1"),
        ];
        let different = [
            ("127.0.0.1:1", "127.0.0.2:1"),
            ("127.0.0.1:1", "[::1]:1"),
            ("127.0.0.2:1", "localhost:1"),
            ("127.0.0.1:1", "192.0.2.1:1"),
            ("localhost:1", "tunnel.example:1"),
        ];
        for (one, other) in same {
            assert!(host(one).may_be(&host(other)) && host(other).may_be(&host(one)), "{one} {other}");
        }
        for (one, other) in different {
            assert!(!host(one).may_be(&host(other)) && !host(other).may_be(&host(one)), "{one} {other}");
        }
    }

    #[test]
    fn unspecified_hosts_are_known() {
        let host = |text: &str| Endpoint::parse(text).unwrap().host;
        for text in [":1", "0.0.0.0:1", "[::]:1"] {
            assert!(host(text).is_unspecified(), "{text}");
        }
        assert!(!host("10.0.0.1:1").is_unspecified() && !host("local.example:1").is_unspecified());
    }
}
