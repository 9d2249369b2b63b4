//! The bans of a master and of all its instances in one list, and the line in which an instance tells its master of one.
//!
//! ```text
//!  instance --BAN|192.0.2.1|key|600000--+--> Bans --> list, lift
//!  the API's front ---------------------+
//! ```
//!
//! An owner is the id of an instance, or the master's own. What is kept is bounded: the ban that ends first leaves.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use super::guard::{Failure, Source, Told, MAX_SOURCES};

/// A ban that begins or has ended: a line of its own, bare at its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BanNotice {
    /// Who is banned.
    pub source: Source,
    /// What the source got wrong last.
    pub what: Failure,
    /// How long it lasts from now on; zero for one that has ended.
    pub left: Duration,
}

impl BanNotice {
    /// What a guard's news come to; `None` if they are about no ban.
    pub fn of(told: &Told) -> Option<BanNotice> {
        match told {
            Told::Failed(..) => None,
            Told::Begun(ban, time) => Some(BanNotice { source: ban.source, what: ban.what, left: *time }),
            Told::Ended(ban) => Some(BanNotice { source: ban.source, what: ban.what, left: Duration::ZERO }),
        }
    }
}

impl fmt::Display for BanNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BanNotice { source, what, left } = self;
        write!(f, "{PREFIX}{source}|{}|{}", what.name(), left.as_millis())
    }
}

impl FromStr for BanNotice {
    type Err = NoBan;

    fn from_str(line: &str) -> Result<BanNotice, NoBan> {
        let mut parts = line.strip_prefix(PREFIX).ok_or(NoBan)?.split('|');
        let (Some(source), Some(what), Some(left), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(NoBan);
        };
        Ok(BanNotice {
            source: Source::parse(source).ok_or(NoBan)?,
            what: Failure::from_name(what).ok_or(NoBan)?,
            left: Duration::from_millis(left.parse().map_err(|_| NoBan)?),
        })
    }
}

/// The line tells of no ban.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoBan;

/// Which bans are meant; what is not said selects all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Those of this instance, or of the master.
    pub owner: Option<String>,
    /// Those of this source.
    pub source: Option<Source>,
}

/// A ban in the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedBan {
    /// Who holds it.
    pub owner: String,
    /// Who is banned.
    pub source: Source,
    /// What the source got wrong last.
    pub what: Failure,
    /// How long it still lasts.
    pub left: Duration,
}

/// All bans in force, by who holds them.
#[derive(Debug, Default)]
pub struct Bans {
    entries: BTreeMap<(String, Source), (Failure, Instant)>,
}

impl Bans {
    /// An owner tells of a ban.
    pub fn heard(&mut self, owner: &str, notice: BanNotice, now: Instant) {
        let key = (owner.to_owned(), notice.source);
        // What is no moment that the clock knows is so far away that it does not matter.
        let Some(until) = now.checked_add(notice.left).filter(|until| *until > now) else {
            self.entries.remove(&key);
            return;
        };
        if self.entries.len() >= MAX_SOURCES && !self.entries.contains_key(&key) {
            let first = self.entries.iter().min_by_key(|(_, (_, until))| *until).map(|(key, _)| key.clone());
            first.and_then(|key| self.entries.remove(&key));
        }
        self.entries.insert(key, (notice.what, until));
    }

    /// That owner is gone, and its bans with it.
    pub fn forget(&mut self, owner: &str) {
        self.entries.retain(|(other, _), _| other != owner);
    }

    /// Those in force that are meant, by owner and source.
    pub fn list(&mut self, which: &Selection, now: Instant) -> Vec<ListedBan> {
        self.entries.retain(|_, (_, until)| *until > now);
        let meant = self.entries.iter().filter(|((owner, source), _)| which.includes(owner, *source));
        let listed = meant.map(|((owner, source), (what, until))| ListedBan {
            owner: owner.clone(),
            source: *source,
            what: *what,
            left: until.saturating_duration_since(now),
        });
        listed.collect()
    }

    /// The same, and they are lifted.
    pub fn take(&mut self, which: &Selection, now: Instant) -> Vec<ListedBan> {
        let taken = self.list(which, now);
        self.entries.retain(|(owner, source), _| !which.includes(owner, *source));
        taken
    }
}

impl Selection {
    fn includes(&self, owner: &str, source: Source) -> bool {
        self.owner.as_ref().is_none_or(|wanted| wanted == owner) && self.source.is_none_or(|wanted| wanted == source)
    }
}

/// How the line begins.
const PREFIX: &str = "BAN|";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::guard::Guard;
    use crate::testing::epoch;
    use std::net::IpAddr;

    const SECOND: Duration = Duration::from_secs(1);

    fn notice(source: &str, seconds: u32) -> BanNotice {
        BanNotice { source: Source::parse(source).unwrap(), what: Failure::Key, left: SECOND * seconds }
    }

    fn listed(bans: &mut Bans, now: Instant) -> Vec<(String, String)> {
        let list = bans.list(&Selection::default(), now);
        list.into_iter().map(|ban| (ban.owner, ban.source.to_string())).collect()
    }

    #[test]
    fn a_line_says_what_a_guard_told_and_no_other_line_does() {
        let (mut guard, now) = (Guard::new(1, SECOND * 600), epoch());
        let address: IpAddr = "2001:db8::1".parse().unwrap();
        let begun = guard.failed(address, Failure::ApiKey, false, now).unwrap();
        let line = BanNotice::of(&begun).unwrap().to_string();
        assert_eq!(line, "BAN|2001:db8::/64|api-key|600000");
        assert_eq!(line.parse(), Ok(BanNotice::of(&begun).unwrap()));
        let ended = guard.expired(now + SECOND * 600).unwrap();
        assert_eq!(BanNotice::of(&ended).unwrap().to_string(), "BAN|2001:db8::/64|api-key|0");
        assert_eq!(BanNotice::of(&Told::Failed(Source::of(address), Failure::Key, 1)), None);
        for wrong in [
            "",
            "BAN|",
            " BAN|192.0.2.1|key|1",
            "BAN|192.0.2.1|key",
            "BAN|192.0.2.1|key|1|2",
            "BAN|192.0.2.0/24|key|1",
            "BAN|192.0.2.1|noise|1",
            "BAN|192.0.2.1|key|-1",
        ] {
            assert_eq!(wrong.parse::<BanNotice>(), Err(NoBan), "{wrong}");
        }
    }

    #[test]
    fn a_ban_is_listed_until_it_ends_is_told_to_have_ended_or_its_owner_is_gone() {
        let (mut bans, now) = (Bans::default(), epoch());
        for (owner, source) in [("b", "192.0.2.1"), ("a", "192.0.2.2"), ("a", "192.0.2.1"), ("c", "192.0.2.1")] {
            bans.heard(owner, notice(source, 10), now);
        }
        bans.heard("b", notice("192.0.2.9", 5), now);
        let pair = |owner: &str, source: &str| (owner.to_owned(), source.to_owned());
        let all = [pair("a", "192.0.2.1"), pair("a", "192.0.2.2"), pair("b", "192.0.2.1"), pair("c", "192.0.2.1")];
        assert_eq!(listed(&mut bans, now + 5 * SECOND), all);
        bans.heard("a", notice("192.0.2.2", 0), now);
        bans.forget("c");
        assert_eq!(listed(&mut bans, now), [all[0].clone(), all[2].clone()]);
        assert!(listed(&mut bans, now + 10 * SECOND).is_empty());
    }

    #[test]
    fn those_are_lifted_that_are_meant() {
        let now = epoch();
        let source = |text: &str| Source::parse(text);
        for (owner, from, left) in [
            (None, None, 0),
            (Some("a"), None, 2),
            (None, source("192.0.2.1"), 2),
            (Some("a"), source("192.0.2.1"), 3),
            (Some("c"), None, 4),
        ] {
            let mut bans = Bans::default();
            for owner in ["a", "b"] {
                for source in ["192.0.2.1", "192.0.2.2"] {
                    bans.heard(owner, notice(source, 10), now);
                }
            }
            let which = Selection { owner: owner.map(str::to_owned), source: from };
            assert_eq!(bans.take(&which, now).len(), 4 - left, "{which:?}");
            assert_eq!(listed(&mut bans, now).len(), left, "{which:?}");
        }
    }

    #[test]
    fn so_many_are_kept_and_the_one_that_ends_first_leaves() {
        let (mut bans, now) = (Bans::default(), epoch());
        bans.heard("a", notice("192.0.2.1", 1), now);
        for number in 0..MAX_SOURCES as u32 {
            let source = Source::of(IpAddr::V4((0x0a00_0000 + number).into()));
            bans.heard("a", BanNotice { source, what: Failure::Key, left: SECOND * 10 }, now);
        }
        let all = bans.list(&Selection::default(), now);
        assert!(all.len() == MAX_SOURCES && all.iter().all(|ban| ban.left == SECOND * 10));
        bans.heard("a", BanNotice { source: all[0].source, what: Failure::Key, left: Duration::MAX }, now);
        assert_eq!(bans.list(&Selection::default(), now).len(), MAX_SOURCES - 1);
    }
}
