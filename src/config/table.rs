//! The parameters: one table, from which come the URL reader, the flags, the defaults, the help text, the shown URL and
//! the documentation. A new parameter is one more row, and a field in [`Config`].

use std::path::PathBuf;
use std::time::Duration;

use super::address::Endpoint;
use super::value::{coded, count, duration_words, host_name, ip, number, period_or_zero, put, switch};
use super::{Config, Cors, Dns, Mode, Role, Tls, Transport};
use crate::log::{printable, Level};
use crate::logic::auth::AuthMode;
use crate::logic::dialect::Wire;
use crate::logic::local_end::LocalEnd;
use crate::logic::networks::{entries, AccessList, Entry, Network};
use crate::logic::sniff::Blocked;
use crate::logic::target::Balance;
use crate::logic::terms::MAX_POOL;

/// A parameter of the URL, and a flag of the same name.
pub(super) struct Parameter {
    /// As in the URL.
    pub name: &'static str,
    /// What it does.
    pub meaning: &'static str,
    /// In the words of the URL; `None` leaves the thing out.
    pub default: Option<&'static str>,
    /// What is accepted, in words that follow "expected".
    pub values: &'static str,
    /// Who takes it.
    pub roles: &'static [Role],
    /// Reads a value; `None` if it is not acceptable.
    pub set: fn(&mut Draft, &str) -> Option<()>,
    /// The value in force, in words that `set` reads; `None` if there is none.
    pub show: fn(&Config) -> Option<String>,
}

/// A configuration in the making: what rows set apart and only make sense together.
pub(super) struct Draft {
    /// All the rest.
    pub config: Config,
    /// 0, 1 or 2.
    pub tls: u8,
    /// For `tls` 2.
    pub crt: Option<PathBuf>,
    /// For `tls` 2.
    pub key: Option<PathBuf>,
}

impl Draft {
    /// A configuration in which every parameter has its default; addresses and key are still to come.
    pub fn new(role: Role) -> Draft {
        let mut draft = Draft { config: Config::blank(role), tls: 0, crt: None, key: None };
        for row in &PARAMETERS {
            let set = row.default.map(|value| (row.set)(&mut draft, value));
            debug_assert_ne!(set, Some(None), "the default of {} is not acceptable", row.name);
        }
        draft
    }
}

/// Every parameter, in the order of the documentation.
pub(super) static PARAMETERS: [Parameter; 30] = [
    Parameter {
        name: "log",
        meaning: "least level of the lines shown",
        default: Some("info"),
        values: "none, debug, info, warn, error or event",
        roles: ALL,
        set: |draft, value| put(&mut draft.config.log, Level::from_name(value)),
        show: |config| Some(config.log.name().into()),
    },
    Parameter {
        name: "tls",
        meaning: "0 plain, 1 self-signed certificate made in memory, 2 certificate files; at a client in a tunnel the least that the server may offer, without a server its listener's",
        default: Some("0"),
        values: "0, 1 or 2",
        roles: ALL,
        set: |draft, value| put(&mut draft.tls, coded(value, &[0, 1, 2])),
        show: |config| Some(config.tls.code().to_string()),
    },
    Parameter {
        name: "crt",
        meaning: "PEM certificate chain for tls=2",
        default: None,
        values: "a path",
        roles: ALL,
        set: |draft, value| put(&mut draft.crt, path(value).map(Some)),
        show: |config| match &config.tls {
            Tls::Files { crt, .. } => Some(crt.display().to_string()),
            _ => None,
        },
    },
    Parameter {
        name: "key",
        meaning: "PEM private key for tls=2",
        default: None,
        values: "a path",
        roles: ALL,
        set: |draft, value| put(&mut draft.key, path(value).map(Some)),
        show: |config| match &config.tls {
            Tls::Files { key, .. } => Some(key.display().to_string()),
            _ => None,
        },
    },
    Parameter {
        name: "dns",
        meaning: "how long a resolved name is kept, 0 asks each time; and DNS servers to ask in place of the system's, whose answers say how long",
        default: Some("5m"),
        values: "a duration from 1ms to 8760h such as 30s or 5m, or 0; up to 8 addresses of DNS servers such as 1.1.1.1,[2606:4700::1111]:53; or both",
        roles: BOTH,
        set: |draft, value| put(&mut draft.config.dns, Dns::parse(value)),
        show: |config| Some(config.dns.to_string()),
    },
    Parameter {
        name: "sni",
        meaning: "TLS server name and HTTP Host of the handshake; without it the tunnel host if that is a name, else none",
        default: None,
        values: "a host name",
        roles: CLIENT,
        set: |draft, value| put(&mut draft.config.sni, host_name(value).map(Some)),
        show: |config| config.sni.clone(),
    },
    Parameter {
        name: "lbs",
        meaning: "which of several targets: 0 round robin, 1 lowest latency, 2 primary and backups",
        default: Some("0"),
        values: "0, 1 or 2",
        roles: BOTH,
        set: |draft, value| put(&mut draft.config.balance, coded(value, &Balance::ALL)),
        show: |config| Some(config.balance.code().to_string()),
    },
    Parameter {
        name: "auth",
        meaning: "which handshake: 0 NodePass 1.14's, which who listens once can use, 1 the authenticated one and 1.14's with programs that know no other, 2 the authenticated one only",
        default: Some("1"),
        values: "0, 1 or 2",
        roles: BOTH,
        set: |draft, value| put(&mut draft.config.auth, coded(value, &AuthMode::ALL)),
        show: |config| Some(config.auth.code().to_string()),
    },
    Parameter {
        name: "wire",
        meaning: "which originals are spoken with: auto all from 1.13 on, as the peer shows its own; else that generation alone, and no authenticated handshake; the handshake of 1.12 and older gives the key away",
        default: Some("auto"),
        values: "auto, 1.5, 1.6, 1.7, 1.8, 1.10, 1.12, 1.13, 1.14, 2.0b8 or 2.0",
        roles: BOTH,
        set: |draft, value| put(&mut draft.config.wire, Wire::named(value)),
        show: |config| Some(config.wire.name().to_owned()),
    },
    Parameter {
        name: "min",
        meaning: "pool size kept warm",
        default: Some("64"),
        values: POOL,
        roles: CLIENT,
        set: |draft, value| put(&mut draft.config.min, count(value, 1..=MAX_POOL as u64)),
        show: |config| Some(config.min.to_string()),
    },
    Parameter {
        name: "max",
        meaning: "pool size limit, told to the client",
        default: Some("1024"),
        values: POOL,
        roles: SERVER,
        set: |draft, value| put(&mut draft.config.max, count(value, 1..=MAX_POOL as u64)),
        show: |config| Some(config.max.to_string()),
    },
    Parameter {
        name: "clients",
        meaning: "clients at once, beyond which a newcomer takes a tunnel over; 0 no limit",
        default: Some("1"),
        values: "a number from 0 to 65535",
        roles: SERVER,
        set: |draft, value| {
            let clients = count(value, 0..=MAX_CLIENTS).map(|clients| Some(clients).filter(|&clients| clients > 0));
            put(&mut draft.config.clients, clients)
        },
        show: |config| Some(config.clients.unwrap_or(0).to_string()),
    },
    Parameter {
        name: "mode",
        meaning: "server: 1 users come in here, 2 users come in at the client; client: 1 no server (single-end), 2 tunnel; 0 decides by trying to listen",
        default: Some("0"),
        values: "0, 1 or 2",
        roles: BOTH,
        set: |draft, value| put(&mut draft.config.mode, coded(value, &Mode::ALL)),
        show: |config| Some(config.mode.code().to_string()),
    },
    // Before `type`, which wins if both are given.
    Parameter {
        name: "quic",
        meaning: "older spelling: 1 is type=1",
        default: None,
        values: "0 or 1",
        roles: SERVER,
        set: |draft, value| {
            let all = [Transport::Tcp, Transport::Quic];
            put(&mut draft.config.transport, coded(value, &all))
        },
        show: |_| None,
    },
    Parameter {
        name: "type",
        meaning: "pool transport, told to the client: 0 TCP, 1 QUIC, 2 WebSocket, 3 HTTP/2; all but 0 raise tls=0 to 1",
        default: Some("0"),
        values: "0, 1, 2 or 3",
        roles: SERVER,
        set: |draft, value| put(&mut draft.config.transport, coded(value, &Transport::ALL)),
        show: |config| Some(config.transport.code().to_string()),
    },
    Parameter {
        name: "dial",
        meaning: "local source address for dialling targets",
        default: Some("auto"),
        values: "auto or an IP address",
        roles: BOTH,
        set: |draft, value| {
            let source = if value == "auto" { Some(None) } else { ip(value).map(Some) };
            put(&mut draft.config.dial, source)
        },
        show: |config| Some(config.dial.map_or("auto".into(), |ip| ip.to_string())),
    },
    Parameter {
        name: "bind",
        meaning: "where calls to the server begin: at an address of this machine, or at a network device whatever the routes say",
        default: Some("auto"),
        values: "auto, an IP address or the name of a network device",
        roles: CLIENT,
        set: |draft, value| {
            let from = if value == "auto" { Some(None) } else { LocalEnd::parse(value).map(Some) };
            put(&mut draft.config.bind, from)
        },
        show: |config| Some(config.bind.as_ref().map_or("auto".into(), |from| from.to_string())),
    },
    Parameter {
        name: "read",
        meaning: "a TCP connection idle for this long in both directions is closed; 0 never",
        default: Some("0"),
        values: IDLE,
        roles: BOTH,
        set: |draft, value| {
            let idle = period_or_zero(value).map(|idle| Some(idle).filter(|idle| !idle.is_zero()));
            put(&mut draft.config.read, idle)
        },
        show: |config| Some(duration_words(config.read.unwrap_or(Duration::ZERO))),
    },
    Parameter {
        name: "rate",
        meaning: "limit in Mbit/s for each direction, shared by all connections; 0 none",
        default: Some("0"),
        values: "a number from 0 to 1000000",
        roles: BOTH,
        set: |draft, value| {
            let rate = number(value, 0..=FASTEST).map(|rate| Some(rate * MEGABIT).filter(|&rate| rate > 0));
            put(&mut draft.config.rate, rate)
        },
        show: |config| Some((config.rate.unwrap_or(0) / MEGABIT).to_string()),
    },
    Parameter {
        name: "slot",
        meaning: "user connections and UDP sessions at once; 0 no limit",
        default: Some("65536"),
        values: "a number from 0 to 1000000000",
        roles: BOTH,
        set: |draft, value| {
            let slot = count(value, 0..=MAX_SLOTS).map(|slot| Some(slot).filter(|&slot| slot > 0));
            put(&mut draft.config.slot, slot)
        },
        show: |config| Some(config.slot.unwrap_or(0).to_string()),
    },
    Parameter {
        name: "udpslot",
        meaning: "UDP sessions at once whose user has sent one datagram and has no answer yet, apart from slot; 0 no limit; else a quarter of slot",
        default: None,
        values: "a number from 0 to 1000000000",
        roles: BOTH,
        set: |draft, value| put(&mut draft.config.udpslot, count(value, 0..=MAX_SLOTS).map(Some)),
        show: |config| config.udpslot.map(|udpslot| udpslot.to_string()),
    },
    Parameter {
        name: "perip",
        meaning: "user connections and UDP sessions of one source at once, an IPv4 address or an IPv6 /64; 0 no limit",
        default: Some("0"),
        values: "a number from 0 to 1000000000",
        roles: BOTH,
        set: |draft, value| {
            let perip = count(value, 0..=MAX_SLOTS).map(|perip| Some(perip).filter(|&perip| perip > 0));
            put(&mut draft.config.perip, perip)
        },
        show: |config| Some(config.perip.unwrap_or(0).to_string()),
    },
    Parameter {
        name: "allow",
        meaning: "the only sources that may come in: users, at a master those of its API; behind tunnel: clients of a server",
        default: None,
        values: RANGES,
        roles: ALL,
        set: |draft, value| access(draft, value, |list| &mut list.allow),
        show: |config| ranges(config, |list| &list.allow),
    },
    Parameter {
        name: "deny",
        meaning: "sources that may not come in, whatever allow says; written as there",
        default: None,
        values: RANGES,
        roles: ALL,
        set: |draft, value| access(draft, value, |list| &mut list.deny),
        show: |config| ranges(config, |list| &list.deny),
    },
    Parameter {
        name: "proxy",
        meaning: "1 sends a PROXY protocol v1 header to TCP targets first",
        default: Some("0"),
        values: "0 or 1",
        roles: BOTH,
        set: |draft, value| put(&mut draft.config.proxy, switch(value)),
        show: |config| Some(u8::from(config.proxy).to_string()),
    },
    Parameter {
        name: "block",
        meaning: "refuse user connections that open with 1 SOCKS4/5, 2 HTTP, 3 TLS; digits combine, 0 none",
        default: Some("0"),
        values: "digits from 0 to 3, as in 13",
        roles: BOTH,
        set: |draft, value| put(&mut draft.config.block, block(value)),
        show: |config| Some(block_digits(config.block)),
    },
    Parameter {
        name: "notcp",
        meaning: "1 does not carry TCP",
        default: Some("0"),
        values: "0 or 1",
        roles: BOTH,
        set: |draft, value| put(&mut draft.config.tcp, switch(value).map(|no| !no)),
        show: |config| Some(u8::from(!config.tcp).to_string()),
    },
    Parameter {
        name: "noudp",
        meaning: "1 does not carry UDP",
        default: Some("0"),
        values: "0 or 1",
        roles: BOTH,
        set: |draft, value| put(&mut draft.config.udp, switch(value).map(|no| !no)),
        show: |config| Some(u8::from(!config.udp).to_string()),
    },
    Parameter {
        name: "metrics",
        meaning: "shows figures and health to a monitoring system at this address, by plain HTTP",
        default: None,
        values: "a host and port such as 127.0.0.1:9101",
        roles: BOTH,
        set: |draft, value| put(&mut draft.config.metrics, Endpoint::parse(value).ok().map(Some)),
        show: |config| config.metrics.as_ref().map(Endpoint::to_string),
    },
    Parameter {
        name: "cors",
        meaning: "which web pages of other origins may use the API",
        default: Some("*"),
        values: "origins as in https://a.example,http://b.example:8080, * for all, or none",
        roles: MASTER,
        set: |draft, value| put(&mut draft.config.cors, cors(value)),
        show: |config| {
            Some(match &config.cors {
                Cors::All => "*".into(),
                Cors::Origins(list) => list.join(","),
                Cors::None => "none".into(),
            })
        },
    },
];

/// Ranges of users and of peers, each into their list. Only a server has peers that come to it.
fn access(draft: &mut Draft, text: &str, list: fn(&mut AccessList) -> &mut Vec<Network>) -> Option<()> {
    let entries = entries(text)?;
    let config = &mut draft.config;
    if config.role != Role::Server && entries.iter().any(|entry| matches!(entry, Entry::Peers(_))) {
        return None;
    }
    for entry in entries {
        match entry {
            Entry::Users(network) => list(&mut config.users).push(network),
            Entry::Peers(network) => list(&mut config.peers).push(network),
        }
    }
    Some(())
}

/// What [`access`] reads.
fn ranges(config: &Config, list: fn(&AccessList) -> &Vec<Network>) -> Option<String> {
    let users = list(&config.users).iter().map(|network| Entry::Users(*network));
    let peers = list(&config.peers).iter().map(|network| Entry::Peers(*network));
    let words: Vec<String> = users.chain(peers).map(|entry| entry.to_string()).collect();
    (!words.is_empty()).then(|| words.join(","))
}

/// What one of several values is that a row does not accept.
pub(super) fn culprit(row: &Parameter, role: Role, value: &str) -> Option<String> {
    let refused = |word: &&str| (row.set)(&mut Draft::new(role), word).is_none();
    let word = value.split(',').map(str::trim).find(refused)?;
    (row.values == RANGES && word != value).then(|| format!("{}; \"{}\" is none", row.values, printable(word)))
}

/// A path of a file. A zero byte ends a path early in the system's eyes, so there can be none.
fn path(text: &str) -> Option<PathBuf> {
    (!text.contains('\0')).then(|| PathBuf::from(text))
}

/// `*`, `none`, or origins separated by commas: a scheme and a host, perhaps with a port, as a browser names them.
fn cors(text: &str) -> Option<Cors> {
    match text {
        "*" => return Some(Cors::All),
        "none" => return Some(Cors::None),
        _ => {}
    }
    let list: Vec<String> = text.split(',').map(|origin| origin.trim().to_ascii_lowercase()).collect();
    (list.len() <= MAX_ORIGINS && list.iter().all(|origin| is_origin(origin))).then_some(Cors::Origins(list))
}

fn is_origin(text: &str) -> bool {
    let Some((scheme, authority)) = text.split_once("://") else { return false };
    let is_scheme = scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let is_host = authority.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte));
    is_scheme && is_host && scheme.starts_with(|first: char| first.is_ascii_alphabetic()) && !authority.is_empty()
}

/// `13` is SOCKS and TLS.
fn block(text: &str) -> Option<Blocked> {
    let digits =
        !text.is_empty() && text.len() <= MAX_DIGITS && text.bytes().all(|digit| (b'0'..=b'3').contains(&digit));
    let block = Blocked { socks: text.contains('1'), http: text.contains('2'), tls: text.contains('3') };
    digits.then_some(block)
}

fn block_digits(block: Blocked) -> String {
    let kinds = [(block.socks, '1'), (block.http, '2'), (block.tls, '3')];
    let digits: String = kinds.iter().filter(|(blocked, _)| *blocked).map(|(_, digit)| digit).collect();
    if digits.is_empty() {
        "0".into()
    } else {
        digits
    }
}

const ALL: &[Role] = &[Role::Server, Role::Client, Role::Master];
const BOTH: &[Role] = &[Role::Server, Role::Client];
const SERVER: &[Role] = &[Role::Server];
const CLIENT: &[Role] = &[Role::Client];
const MASTER: &[Role] = &[Role::Master];

const IDLE: &str = "a duration from 1ms to 8760h such as 30s, 5m or 1h30m, or a number of seconds, or 0";
const RANGES: &str =
    "addresses and ranges separated by commas, as in 192.0.2.7,2001:db8::/32, at a server also tunnel:192.0.2.0/24";
const POOL: &str = "a number from 1 to 65535";

/// Mbit/s of the fastest `rate`: so much that sums of bytes stay far from overflow.
const FASTEST: u64 = 1_000_000;

/// Bytes per second in a Mbit/s.
const MEGABIT: u64 = 125_000;

/// Clients of one server at once.
const MAX_CLIENTS: u64 = 65_535;

/// Users at once: a number that fits every machine's `usize`.
const MAX_SLOTS: u64 = 1_000_000_000;

/// Origins of `cors`.
const MAX_ORIGINS: usize = 64;

/// Digits of `block`.
const MAX_DIGITS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_every_row_belongs_to_a_role() {
        for (at, row) in PARAMETERS.iter().enumerate() {
            assert!(PARAMETERS[..at].iter().all(|other| other.name != row.name), "{}", row.name);
            assert!(!row.roles.is_empty() && !row.values.is_empty() && !row.meaning.contains('|'), "{}", row.name);
        }
    }

    #[test]
    fn every_default_is_acceptable_and_shown_as_it_is_written() {
        for row in &PARAMETERS {
            for &role in row.roles {
                let mut draft = Draft::new(role);
                let Some(default) = row.default else { continue };
                assert_eq!((row.set)(&mut draft, default), Some(()), "{}", row.name);
                assert_eq!((row.show)(&draft.config).as_deref(), Some(default), "{}", row.name);
            }
        }
    }

    #[test]
    fn block_takes_digits_that_combine() {
        let kinds = |text| block(text).map(|block| (block.socks, block.http, block.tls));
        assert_eq!(kinds("0"), Some((false, false, false)));
        assert_eq!(kinds("13"), Some((true, false, true)));
        assert_eq!(kinds("3210"), Some((true, true, true)));
        assert_eq!(kinds("22"), Some((false, true, false)));
        for bad in ["", "4", "1,2", "-1", "1 2", "all", "11111111111111111"] {
            assert_eq!(kinds(bad), None, "{bad}");
        }
        assert_eq!(block("321").map(block_digits).as_deref(), Some("123"));
    }

    #[test]
    fn cors_takes_all_none_or_a_list_of_origins() {
        let list = |text: &str| match cors(text) {
            Some(Cors::Origins(list)) => list,
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!((cors("*"), cors("none")), (Some(Cors::All), Some(Cors::None)));
        assert_eq!(list("https://A.example"), ["https://a.example"]);
        assert_eq!(list("http://[::1]:8080, capacitor://localhost"), ["http://[::1]:8080", "capacitor://localhost"]);
        let many = ["https://a.example"; MAX_ORIGINS + 1].join(",");
        for bad in [
            "",
            "a.example",
            "https://",
            "://a",
            "https://a/",
            "https://a/b",
            "https://a,",
            "*,none",
            "https://a\r\nX: y",
            &many,
        ] {
            assert_eq!(cors(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn no_row_accepts_nonsense() {
        for row in &PARAMETERS {
            for bad in ["", "\0", "a b", "-1", "4!", "99999999999999999999999", "\r\n", "2.5"] {
                let taken = (row.set)(&mut Draft::new(row.roles[0]), bad).is_some();
                assert!(!taken || (matches!(row.name, "crt" | "key") && bad != "\0"), "{} {bad:?}", row.name);
            }
        }
    }
}
