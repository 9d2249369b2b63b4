//! Which sources have failed too often to be listened to, and how many users each source has. Asked at every listener.
//!
//! ```text
//!  failed(source) --NP_BAN_FAILURES within a minute--> banned for NP_BAN_TIME --> expired
//!  is_banned(source)   at accept, before anything is read       lift(source) ---^
//! ```
//!
//! A source is an IPv4 address or an IPv6 /64: a host with one address of a /64 has all of it. What is kept is bounded: the oldest
//! source leaves.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use super::expiring::Expiring;

/// Where connections come from, as they are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// The first 64 bits of an IPv6 address.
    V6(u64),
}

impl Source {
    /// The source that this address is of.
    pub fn of(address: IpAddr) -> Source {
        match address.to_canonical() {
            IpAddr::V4(v4) => Source::V4(v4),
            IpAddr::V6(v6) => Source::V6((v6.to_bits() >> 64) as u64),
        }
    }

    /// The first address of it; one of IPv4 as IPv6 writes it.
    pub fn address(self) -> Ipv6Addr {
        match self {
            Source::V4(v4) => v4.to_ipv6_mapped(),
            Source::V6(first) => Ipv6Addr::from_bits(u128::from(first) << 64),
        }
    }

    /// Reads what `Display` writes, or any address of it.
    pub fn parse(text: &str) -> Option<Source> {
        text.strip_suffix("/64").unwrap_or(text).parse().ok().map(Source::of)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::V4(v4) => v4.fmt(f),
            Source::V6(_) => write!(f, "{}/64", self.address()),
        }
    }
}

/// What a stranger got wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A handshake at the tunnel's port, under another key.
    Key,
    /// The original's handshake where only the authenticated one is taken.
    Unauthenticated,
    /// An original of another generation than `wire` names.
    Generation,
    /// The handshake of an original of 1.7 to 1.12. No ban: it has to be updated.
    Older,
    /// The same of one of 1.6 or older.
    Oldest,
    /// A request over HTTP that is no handshake's.
    Http,
    /// An SSH client.
    Ssh,
    /// A SOCKS client.
    Socks,
    /// Bytes that no NodePass begins with.
    Noise,
    /// The opening of a pool connection.
    Opening,
    /// A key of the API.
    ApiKey,
}

impl Failure {
    /// Of a client that begins with these bytes, which are none of a NodePass's.
    pub fn stranger(first: &[u8]) -> Failure {
        match first {
            [b'S', b'S', b'H', b'-', ..] => Failure::Ssh,
            [4, 1 | 2, ..] | [5, 1..=3, ..] => Failure::Socks,
            _ => Failure::Noise,
        }
    }

    /// What those are called that can ban a source.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(_, failure)| *failure == self).map_or("", |(name, _)| name)
    }

    /// The failure of that name.
    pub fn from_name(name: &str) -> Option<Failure> {
        NAMES.iter().find(|(other, _)| *other == name).map(|(_, failure)| *failure)
    }

    /// Whether it does not even try to get in: scanners and other programs by mistake. No ban, and few lines.
    pub fn is_strange(self) -> bool {
        matches!(self, Failure::Http | Failure::Ssh | Failure::Socks | Failure::Noise)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Failure::Key => "handshake refused: the keys differ",
            Failure::Unauthenticated => {
                "handshake refused: it is NodePass 1.14's, and auth=2 takes the authenticated one only"
            }
            Failure::Generation => "handshake refused: it is of another NodePass than the parameter wire names",
            Failure::Older => {
                "handshake refused: it is that of NodePass 1.12 or older, which proves nothing and gives the key away: update it; wire=1.12 \
                 (or 1.10, 1.8, 1.7) speaks it all the same, for a key that is used nowhere else"
            }
            Failure::Oldest => {
                "handshake refused: it is that of NodePass 1.6 or older, which proves nothing and gives the key away: update it; wire=1.6 \
                 speaks it all the same, for a key that is used nowhere else"
            }
            Failure::Http => "an HTTP request that is no handshake: a browser, a scanner or a health check",
            Failure::Ssh => "an SSH client came to the tunnel's port",
            Failure::Socks => "a SOCKS client came to the tunnel's port; users come in at the other one",
            Failure::Noise => "what comes to the tunnel's port there is no NodePass",
            Failure::Opening => "pool connection refused: its opening is forged, or was used before",
            Failure::ApiKey => "request refused: the API key is wrong",
        })
    }
}

/// A source that is closed at accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ban {
    /// Which one.
    pub source: Source,
    /// What it got wrong last.
    pub what: Failure,
    /// When it ends.
    pub until: Instant,
    /// Connections that were closed so far.
    pub refused: u64,
}

/// What the log is to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// So many failures of a source since it was last told of.
    Failed(Source, Failure, usize),
    /// A ban begins, and lasts so long.
    Begun(Ban, Duration),
    /// A ban ends.
    Ended(Ban),
}

/// One line.
impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Told::Failed(source, what, 1) => write!(f, "{source}: {what}"),
            Told::Failed(source, what, count) => {
                write!(f, "{source}: {what}; {count} failures since the last line")
            }
            Told::Begun(Ban { source, what, .. }, time) => {
                write!(f, "{source} is banned for {time:?} after too many failures, the last: {what} (NP_BAN_FAILURES, NP_BAN_TIME)")
            }
            Told::Ended(Ban { source, refused, .. }) => {
                write!(f, "{source} is not banned any more: {refused} connections were closed")
            }
        }
    }
}

/// The failures of one source within a minute.
#[derive(Debug)]
struct Count {
    failures: usize,
    /// Of them, those that the log has not told, and when it last did.
    untold: usize,
    told: Instant,
}

/// The sources that have failed, and those that are banned.
#[derive(Debug)]
pub struct Guard {
    most: usize,
    time: Duration,
    counts: Expiring<Source, Count>,
    bans: Expiring<Source, Ban>,
}

impl Guard {
    /// Bans a source for `time` after `most` failures within a minute; never if one of them is zero.
    pub fn new(most: usize, time: Duration) -> Guard {
        Guard { most, time, counts: Expiring::default(), bans: Expiring::default() }
    }

    /// Whether a connection from that address is to be closed; it is counted. `kept`: the address of a living tunnel, which keeps
    /// a place whatever others behind the same address do.
    pub fn is_banned(&mut self, address: IpAddr, kept: bool, now: Instant) -> bool {
        let ban = self.bans.get_mut(&Source::of(address)).filter(|ban| !kept && now < ban.until);
        ban.map(|ban| ban.refused += 1).is_some()
    }

    /// Whether that address is banned, without a connection of it.
    pub fn has_banned(&self, address: IpAddr) -> bool {
        self.bans.contains(&Source::of(address))
    }

    /// A stranger at that address got something wrong; what the log is to say. `kept` is as in [`Guard::is_banned`].
    ///
    /// This machine's own loopback addresses are never banned: a reverse proxy there speaks for all its users.
    pub fn failed(&mut self, address: IpAddr, what: Failure, kept: bool, now: Instant) -> Option<Told> {
        let source = Source::of(address);
        while self.counts.expired(now).is_some() {}
        if !self.counts.contains(&source) {
            if self.counts.len() >= MAX_SOURCES {
                self.counts.pop();
            }
            self.counts.insert(source, Count { failures: 0, untold: 0, told: now }, now + WINDOW);
        }
        let count = self.counts.get_mut(&source)?;
        count.failures += 1;
        count.untold += 1;
        let is_banned = self.bans.contains(&source);
        let bans = !what.name().is_empty()
            && self.most > 0
            && !self.time.is_zero()
            && !kept
            && !address.to_canonical().is_loopback();
        if bans && !is_banned && count.failures >= self.most {
            self.counts.remove(&source);
            return Some(self.ban(source, what, now));
        }
        if count.failures > 1 && now.saturating_duration_since(count.told) < PAUSE {
            return None;
        }
        count.told = now;
        Some(Told::Failed(source, what, std::mem::take(&mut count.untold)))
    }

    /// A ban that has ended, until `None`.
    pub fn expired(&mut self, now: Instant) -> Option<Told> {
        self.bans.expired(now).map(|(_, ban)| Told::Ended(ban))
    }

    /// Ends a ban before its time, or all of them; what the log is to say of each.
    pub fn lift(&mut self, source: Option<Source>) -> Vec<Told> {
        match source {
            Some(source) => self.bans.remove(&source).map(Told::Ended).into_iter().collect(),
            None => self.bans.drain().map(Told::Ended).collect(),
        }
    }

    /// When the next ban ends.
    pub fn deadline(&self) -> Option<Instant> {
        self.bans.deadline()
    }

    /// The bans in force.
    pub fn bans(&self) -> impl Iterator<Item = &Ban> {
        self.bans.values()
    }

    fn ban(&mut self, source: Source, what: Failure, now: Instant) -> Told {
        if self.bans.len() >= MAX_SOURCES {
            self.bans.pop();
        }
        let ban = Ban { source, what, until: now + self.time, refused: 0 };
        self.bans.insert(source, ban, ban.until);
        Told::Begun(ban, self.time)
    }
}

/// Which sources the log has told of that were refused, so that none of them fills it.
#[derive(Debug)]
pub struct Refusals {
    told: Expiring<Source, ()>,
    pause: Duration,
}

impl Default for Refusals {
    /// Once in 10 s for each source.
    fn default() -> Refusals {
        Refusals { told: Expiring::default(), pause: PAUSE }
    }
}

impl Refusals {
    /// Once in an hour for each source.
    pub fn of_strangers() -> Refusals {
        Refusals { pause: STRANGERS, ..Refusals::default() }
    }

    /// Whether the log is to tell that a connection from that address was refused.
    pub fn is_news(&mut self, address: IpAddr, now: Instant) -> bool {
        let source = Source::of(address);
        while self.told.expired(now).is_some() {}
        let news = !self.told.contains(&source);
        if news {
            if self.told.len() >= MAX_SOURCES {
                self.told.pop();
            }
            self.told.insert(source, (), now + self.pause);
        }
        news
    }
}

/// How many users each source has (`perip`).
#[derive(Debug)]
pub struct PerSource {
    limit: Option<usize>,
    live: HashMap<Source, usize>,
}

impl PerSource {
    /// At most `limit` users of one source at once, if there is a limit; without one nothing is counted.
    pub fn new(limit: Option<usize>) -> PerSource {
        PerSource { limit, live: HashMap::new() }
    }

    /// One more user of that address, if it may have one.
    pub fn enter(&mut self, address: IpAddr) -> bool {
        let Some(limit) = self.limit else { return true };
        let count = self.live.entry(Source::of(address)).or_default();
        let entered = *count < limit;
        *count += usize::from(entered);
        entered
    }

    /// A user of that source has left.
    pub fn leave(&mut self, address: IpAddr) {
        let source = Source::of(address);
        if let Some(count) = self.live.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.live.remove(&source);
                if self.live.len() < self.live.capacity() / 8 {
                    self.live.shrink_to(SLACK);
                }
            }
        }
    }
}

/// The failures that can ban a source, by name.
const NAMES: [(&str, Failure); 5] = [
    ("key", Failure::Key),
    ("unauthenticated", Failure::Unauthenticated),
    ("generation", Failure::Generation),
    ("opening", Failure::Opening),
    ("api-key", Failure::ApiKey),
];
/// Sources whose failures are counted, and as many that are banned: the oldest leaves for one more.
pub const MAX_SOURCES: usize = 4096;
/// So long failures of a source add up.
const WINDOW: Duration = Duration::from_secs(60);
/// A source's failures are told at most this often.
const PAUSE: Duration = Duration::from_secs(10);
/// A source that does not try to get in is told at most this often.
const STRANGERS: Duration = Duration::from_secs(3600);
/// Places of sources that are kept after a crowd.
const SLACK: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{epoch, Dice};

    const BAN: Duration = Duration::from_secs(600);
    const SECOND: Duration = Duration::from_secs(1);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn banned_at(guard: &mut Guard, address: &str, now: Instant) -> bool {
        guard.is_banned(ip(address), false, now)
    }

    fn fail(guard: &mut Guard, address: &str, times: usize, now: Instant) -> Vec<Told> {
        (0..times).filter_map(|_| guard.failed(ip(address), Failure::Key, false, now)).collect()
    }

    #[test]
    fn who_comes_by_mistake_is_named_and_told_once_an_hour() {
        for (first, what) in [
            (&b"SSH-2.0-x"[..], Failure::Ssh),
            (b"\x05\x01\x00", Failure::Socks),
            (b"\x04\x01\x00\x50", Failure::Socks),
            (b"\x05\x00", Failure::Noise),
            (b"", Failure::Noise),
        ] {
            assert!(Failure::stranger(first) == what && what.is_strange(), "{first:?}");
        }
        assert!(!Failure::Key.is_strange());
        let (mut told, now) = (Refusals::of_strangers(), epoch());
        let times = [0, 1, 3599, 3600, 3601].map(|second| told.is_news(ip("192.0.2.1"), now + second * SECOND));
        assert_eq!(times, [true, false, false, true, false]);
    }

    #[test]
    fn the_tenth_failure_within_a_minute_bans_the_source_and_no_other() {
        let (mut guard, now) = (Guard::new(10, BAN), epoch());
        assert_eq!(fail(&mut guard, "192.0.2.1", 9, now).len(), 1, "one line for all of them");
        assert!(!banned_at(&mut guard, "192.0.2.1", now));
        assert!(matches!(fail(&mut guard, "192.0.2.1", 1, now + 59 * SECOND)[..], [Told::Begun(..)]));
        assert!(
            banned_at(&mut guard, "::ffff:192.0.2.1", now + 60 * SECOND) && !banned_at(&mut guard, "192.0.2.2", now)
        );
        let end = now + 59 * SECOND + BAN;
        assert_eq!(guard.deadline(), Some(end));
        assert!(banned_at(&mut guard, "192.0.2.1", end - SECOND) && !banned_at(&mut guard, "192.0.2.1", end));
        assert!(matches!(guard.expired(end), Some(Told::Ended(Ban { refused: 2, .. }))));
        assert_eq!((guard.expired(end), guard.deadline()), (None, None));
    }

    #[test]
    fn failures_of_earlier_minutes_do_not_count() {
        let (mut guard, now) = (Guard::new(10, BAN), epoch());
        for minute in 0..20 {
            fail(&mut guard, "192.0.2.1", 9, now + minute * 60 * SECOND);
        }
        assert!(guard.bans().count() == 0 && !guard.has_banned(ip("192.0.2.1")));
    }

    #[test]
    fn all_of_an_ipv6_64_is_one_source() {
        let (mut guard, now) = (Guard::new(10, BAN), epoch());
        for host in 0..10 {
            fail(&mut guard, &format!("2001:db8::{host}"), 1, now);
        }
        assert!(banned_at(&mut guard, "2001:db8::ffff", now) && !banned_at(&mut guard, "2001:db8:0:1::", now));
        assert_eq!(guard.bans().next().unwrap().source.to_string(), "2001:db8::/64");
    }

    #[test]
    fn failures_are_told_at_once_and_then_every_ten_seconds() {
        let (mut guard, now) = (Guard::new(0, BAN), epoch());
        let mut told = Vec::new();
        for tenth in 0..300 {
            told.extend(fail(&mut guard, "192.0.2.1", 1, now + tenth * SECOND / 10));
        }
        let counts: Vec<usize> =
            told.iter().map(|told| if let Told::Failed(_, _, count) = told { *count } else { 0 }).collect();
        assert_eq!(counts, [1, 100, 100]);
    }

    #[test]
    fn zero_switches_bans_off_and_neither_a_tunnel_nor_loopback_is_banned() {
        let now = epoch();
        for mut guard in [Guard::new(0, BAN), Guard::new(10, Duration::ZERO)] {
            fail(&mut guard, "192.0.2.1", 100, now);
            assert!(!banned_at(&mut guard, "192.0.2.1", now));
        }
        let mut guard = Guard::new(10, BAN);
        for address in ["127.0.0.1", "127.8.0.1", "::1", "::ffff:127.0.0.1"] {
            fail(&mut guard, address, 100, now);
            assert!(!banned_at(&mut guard, address, now), "{address}");
        }
        for _ in 0..100 {
            guard.failed(ip("192.0.2.1"), Failure::Opening, true, now);
        }
        assert!(!banned_at(&mut guard, "192.0.2.1", now), "a tunnel lives there");
        fail(&mut guard, "192.0.2.1", 1, now);
        assert!(guard.is_banned(ip("192.0.2.1"), false, now) && !guard.is_banned(ip("192.0.2.1"), true, now));
    }

    #[test]
    fn a_ban_is_lifted_by_any_spelling_of_its_source() {
        let (mut guard, now) = (Guard::new(1, BAN), epoch());
        for (address, spelling) in
            [("2001:db8::7", "2001:db8::/64"), ("2001:db8::7", "2001:db8::1"), ("192.0.2.1", "192.0.2.1")]
        {
            fail(&mut guard, address, 1, now);
            assert!(banned_at(&mut guard, address, now) && guard.has_banned(ip(address)));
            let source = Source::parse(spelling);
            assert!(matches!(guard.lift(source)[..], [Told::Ended(_)]) && guard.lift(source).is_empty());
            assert!(!banned_at(&mut guard, address, now));
        }
        for address in ["192.0.2.1", "192.0.2.2"] {
            fail(&mut guard, address, 1, now);
        }
        assert!(guard.lift(None).len() == 2 && !banned_at(&mut guard, "192.0.2.1", now));
        assert_eq!((Source::parse(""), Source::parse("192.0.2.1/24"), Source::parse("x")), (None, None, None));
    }

    #[test]
    fn whatever_comes_memory_is_bounded_and_no_source_is_banned_for_what_others_did() {
        for seed in 1..20 {
            let (mut dice, mut now) = (Dice(seed * 7919), epoch());
            let most = 1 + dice.below(12_usize);
            let mut guard = Guard::new(most, BAN);
            let spread = [4_u32, 300, 20_000][dice.below(3)];
            let mut since: HashMap<Source, Vec<Instant>> = HashMap::new();
            for _ in 0..20_000 {
                now += Duration::from_millis(dice.below(100));
                let address = IpAddr::V4((0x0a00_0000 + dice.below(spread)).into());
                let source = Source::of(address);
                if !guard.is_banned(address, false, now) {
                    since.entry(source).or_default().push(now);
                    if let Some(Told::Begun(ban, _)) = guard.failed(address, Failure::Key, false, now) {
                        assert_eq!(ban.source, source);
                        let recent = since[&source].iter().filter(|at| now - **at <= WINDOW).count();
                        assert!(recent >= most, "seed {seed}: banned after {recent} of {most}");
                        assert!(guard.is_banned(address, false, now));
                    }
                }
                while guard.expired(now).is_some() {}
                assert!(guard.counts.len() <= MAX_SOURCES && guard.bans.len() <= MAX_SOURCES, "seed {seed}");
                assert!(guard.deadline().is_none_or(|deadline| deadline > now));
            }
        }
    }

    #[test]
    fn refusals_of_a_source_are_told_every_ten_seconds_and_memory_is_bounded() {
        let (mut refusals, now) = (Refusals::default(), epoch());
        let told = |refusals: &mut Refusals, at: &str, after: u32| refusals.is_news(ip(at), now + after * SECOND);
        assert_eq!(
            [0, 1, 9, 10, 19].map(|after| told(&mut refusals, "192.0.2.1", after)),
            [true, false, false, true, false]
        );
        assert!(told(&mut refusals, "192.0.2.2", 19));
        for source in 0..2 * MAX_SOURCES as u32 {
            assert!(refusals.is_news(IpAddr::V4((0x0a00_0000 + source).into()), now + 20 * SECOND));
        }
        assert_eq!(refusals.told.len(), MAX_SOURCES);
    }

    #[test]
    fn a_source_has_so_many_users_and_no_more() {
        let mut users = PerSource::new(Some(2));
        assert_eq!([(); 3].map(|()| users.enter(ip("192.0.2.1"))), [true, true, false]);
        assert!(users.enter(ip("192.0.2.2")) && users.enter(ip("2001:db8::1")) && users.enter(ip("2001:db8::2")));
        assert!(!users.enter(ip("2001:db8::3")));
        users.leave(ip("192.0.2.1"));
        assert_eq!([(); 2].map(|()| users.enter(ip("192.0.2.1"))), [true, false]);
        for _ in 0..2 {
            users.leave(ip("192.0.2.1"));
            users.leave(ip("2001:db8::9"));
        }
        users.leave(ip("192.0.2.2"));
        assert!(users.live.is_empty());
        assert!((0..100).all(|_| PerSource::new(None).enter(ip("192.0.2.1"))));
    }
}
