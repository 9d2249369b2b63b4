//! Addresses and CIDR ranges, and which of two lists of them decides (`allow`, `deny`).

use std::fmt;
use std::net::IpAddr;

/// A range of addresses: those that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// Reads an address, or an address and how many of its first bits count. IPv4 addresses written as IPv6 are IPv4 addresses.
    pub fn parse(text: &str) -> Option<Network> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let bare = address.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(address);
        let written: IpAddr = bare.parse().ok()?;
        let width = width(written);
        let bits = match bits {
            Some(digits) if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) => return None,
            Some(digits) => digits.parse().ok().filter(|bits| *bits <= width)?,
            None => width,
        };
        let address = written.to_canonical();
        match (written, address) {
            // The 96 bits before an IPv4 address in IPv6 say no more than that it is one.
            (IpAddr::V6(_), IpAddr::V4(_)) => Some(Network { address, bits: bits.checked_sub(96)? }.masked()),
            _ => Some(Network { address, bits }.masked()),
        }
    }

    /// The first address of the range with so many bits that this one lies in.
    pub fn first_of(address: IpAddr, bits: u8) -> IpAddr {
        let address = address.to_canonical();
        Network { address, bits: bits.min(width(address)) }.masked().address
    }

    /// Whether an address lies in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        let same = |one: u128, other: u128, width: u32| {
            (one ^ other).checked_shr(width - u32::from(self.bits)).unwrap_or(0) == 0
        };
        match (address.to_canonical(), self.address) {
            (IpAddr::V4(one), IpAddr::V4(other)) => same(one.to_bits().into(), other.to_bits().into(), 32),
            (IpAddr::V6(one), IpAddr::V6(other)) => same(one.to_bits(), other.to_bits(), 128),
            _ => false,
        }
    }

    /// The same range, named by its first address.
    fn masked(self) -> Network {
        let address = match self.address {
            IpAddr::V4(v4) => {
                IpAddr::V4((v4.to_bits() & u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0)).into())
            }
            IpAddr::V6(v6) => {
                IpAddr::V6((v6.to_bits() & u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0)).into())
            }
        };
        Network { address, ..self }
    }
}

/// In words that [`Network::parse`] reads.
impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bits == width(self.address) {
            true => write!(f, "{}", self.address),
            false => write!(f, "{}/{}", self.address, self.bits),
        }
    }
}

/// Bits of an address of that family.
fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() {
        32
    } else {
        128
    }
}

/// Which addresses may come in: those in `allow`, or all where it is empty, but for those in `deny`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessList {
    /// The only ones that may, if there is any.
    pub allow: Vec<Network>,
    /// Those that may not, whatever `allow` says.
    pub deny: Vec<Network>,
}

impl AccessList {
    /// Whether a connection from that address is accepted.
    pub fn admits(&self, address: IpAddr) -> bool {
        let within = |list: &[Network]| list.iter().any(|network| network.contains(address));
        !within(&self.deny) && (self.allow.is_empty() || within(&self.allow))
    }
}

/// What one entry of a list is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Users; at a master those who use its API.
    Users(Network),
    /// Peers, at the tunnel's port.
    Peers(Network),
}

impl Entry {
    /// Reads an entry: a range, for peers behind [`PEERS`].
    pub fn parse(text: &str) -> Option<Entry> {
        match text.strip_prefix(PEERS) {
            Some(range) => Network::parse(range).map(Entry::Peers),
            None => Network::parse(text).map(Entry::Users),
        }
    }
}

/// In words that [`Entry::parse`] reads.
impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Entry::Users(network) => network.fmt(f),
            Entry::Peers(network) => write!(f, "{PEERS}{network}"),
        }
    }
}

/// Reads a list of entries, separated by commas; at most [`MAX_NETWORKS`].
pub fn entries(text: &str) -> Option<Vec<Entry>> {
    let list: Vec<Entry> = text.split(',').map(|entry| Entry::parse(entry.trim())).collect::<Option<_>>()?;
    (list.len() <= MAX_NETWORKS).then_some(list)
}

/// What stands before a range of peers.
pub const PEERS: &str = "tunnel:";
/// Ranges in one list: each connection is compared with all of them.
pub const MAX_NETWORKS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Dice;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn network(text: &str) -> Network {
        Network::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn a_range_holds_the_addresses_that_begin_with_its_bits() {
        for (range, inside, outside) in [
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("192.0.2.0/24", "192.0.2.255", "192.0.3.0"),
            ("192.0.2.77/24", "192.0.2.1", "192.0.1.77"),
            ("10.0.0.0/31", "10.0.0.1", "10.0.0.2"),
            ("0.0.0.0/0", "255.1.2.3", "::1"),
            ("::/0", "2001:db8::1", "192.0.2.1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("[2001:db8::1]", "2001:db8::1", "2001:db8::2"),
            ("::ffff:192.0.2.0/120", "192.0.2.9", "192.0.3.9"),
            ("::ffff:192.0.2.1", "192.0.2.1", "192.0.2.2"),
        ] {
            assert!(network(range).contains(ip(inside)) && !network(range).contains(ip(outside)), "{range}");
        }
        assert!(network("192.0.2.0/24").contains(ip("::ffff:192.0.2.9")), "however the system writes it");
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for bad in [
            "",
            "/",
            "1",
            "1.2.3",
            "1.2.3.4/",
            "1.2.3.4/33",
            "1.2.3.4/-1",
            "1.2.3.4/+8",
            "1.2.3.4/8/8",
            "::/129",
            "name",
            "1.2.3.4 ",
            "::ffff:1.2.3.4/95",
            "[1.2.3.4",
            "01.2.3.4/8",
            "1.2.3.4/256",
            "1.2.3.4:80",
            "tunnel:1.2.3.4",
        ] {
            assert_eq!(Network::parse(bad), None, "{bad}");
        }
        assert_eq!((entries("10.0.0.0/8,"), entries("")), (None, None));
        assert_eq!(entries(&["::1"; MAX_NETWORKS + 1].join(",")), None);
    }

    #[test]
    fn a_list_tells_users_from_peers_and_is_shown_as_it_is_read() {
        let shown = |list: &[Entry]| list.iter().map(Entry::to_string).collect::<Vec<_>>().join(",");
        let list = entries("10.1.2.3/8, tunnel:[2001:db8::1]/64,tunnel:192.0.2.1").unwrap();
        assert!(matches!(list[..], [Entry::Users(_), Entry::Peers(_), Entry::Peers(_)]), "{list:?}");
        assert_eq!(shown(&list), "10.0.0.0/8,tunnel:2001:db8::1/64".replace("::1/64", "::/64") + ",tunnel:192.0.2.1");
        assert_eq!(entries(&shown(&list)), Some(list));
    }

    #[test]
    fn any_range_is_shown_as_it_is_read_and_holds_what_shares_its_bits() {
        let mut dice = Dice(77);
        for _ in 0..20_000 {
            let (v6, chance) = (dice.below(2) == 0, u128::from(dice.next()) << 64 | u128::from(dice.next()));
            let (address, width) = match v6 {
                true => (IpAddr::V6(chance.into()).to_canonical(), 128_u32),
                false => (IpAddr::V4((chance as u32).into()), 32),
            };
            let bits = dice.below(width + 1);
            let range = network(&format!("{address}/{bits}"));
            assert_eq!(network(&range.to_string()), range);
            assert!(range.contains(address), "{range} {address}");
            let flip = dice.below(width);
            let other = match address {
                IpAddr::V4(v4) => IpAddr::V4((v4.to_bits() ^ 1 << (31 - flip)).into()),
                IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() ^ 1 << (127 - flip)).into()),
            };
            assert_eq!(range.contains(other), flip >= bits, "{range} {other}");
        }
    }

    #[test]
    fn deny_goes_before_allow_and_an_empty_allow_is_all() {
        let list = |allow: &str, deny: &str| {
            let read = |text: &str| text.split_whitespace().map(network).collect();
            AccessList { allow: read(allow), deny: read(deny) }
        };
        assert!(list("", "").admits(ip("192.0.2.1")));
        let both = list("10.0.0.0/8", "10.1.0.0/16");
        assert_eq!(["10.0.0.1", "10.1.0.1", "192.0.2.1"].map(|at| both.admits(ip(at))), [true, false, false]);
        assert_eq!(["10.1.0.1", "::1"].map(|at| list("", "10.1.0.0/16").admits(ip(at))), [false, true]);
    }
}
