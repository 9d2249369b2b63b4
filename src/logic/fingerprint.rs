//! The certificate check of the 1.14 wire: both sides say under the key which certificate they know for a connection.
//!
//! ```text
//!  ours    Due --a connection is taken--> Chosen --no others come, a ping, a pong: it has arrived there, too--> said
//!  theirs  asked(id, fp) --the connection is known--> Right | Wrong | Unknown
//! ```
//!
//! Where a third party ends TLS on both sides, the two fingerprints differ.

use std::hash::Hash;
use std::time::{Duration, Instant};

use super::expiring::Expiring;
use super::loads::Loads;
use super::pool::Pool;
use super::wire::{Fingerprint, Id};

/// Both directions of the check, for one tunnel.
pub struct FingerprintCheck {
    ours: Ours,
    /// What the peer said about connections that have not arrived yet.
    early: Expiring<Id, String>,
    timeout: Duration,
    /// So long our own statement waits at most.
    latest: Duration,
}

/// How far our own statement has come.
enum Ours {
    /// A connection has to be chosen for it.
    Due,
    /// This one was. It travels on another path than the statement, which waits for a sign that the peer has come that far; not beyond
    /// `latest`.
    Chosen { id: Id, fp: Fingerprint, sign: Sign, latest: Instant },
    /// It was said, or there is nothing to say.
    Said,
}

/// The sign that a connection has arrived at the peer. A peer may take the connections of a round into its pool together, so the last of
/// them counts: one that comes begins it all again.
#[derive(Clone, Copy)]
enum Sign {
    /// The peer is asked when no other connection has come until then.
    Quiet(Instant),
    /// It is asked.
    Asked,
    /// It has answered; a moment longer.
    Given(Instant),
}

impl Sign {
    /// When the clock brings it on.
    fn due(self) -> Option<Instant> {
        match self {
            Sign::Quiet(at) | Sign::Given(at) => Some(at),
            Sign::Asked => None,
        }
    }
}

/// What is to be said.
#[derive(Debug, PartialEq, Eq)]
pub enum Statement {
    /// A ping: its answer shows that the peer has come so far.
    Ping,
    /// Which certificate we know for that connection.
    Verify(Id, Fingerprint),
}

/// What came of a statement of the peer's.
#[derive(Debug, PartialEq, Eq)]
pub struct Judged<H> {
    /// Whether it is right.
    pub verdict: Verdict,
    /// Where the connection lives that was used for it, which is to be closed.
    pub close: Option<H>,
}

/// Whether the peer knows the same certificate.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It does.
    Right,
    /// It does not.
    Wrong {
        /// What the peer said, cut to a readable length.
        peer: String,
        /// What we know.
        own: Fingerprint,
    },
    /// There is nothing to compare: no TLS, a connection long gone, or an empty statement, as an original sends with `tls=2`.
    Unknown,
}

impl FingerprintCheck {
    /// A check. `due` says that we have something to state; `timeout` is how long statements wait for their connection, `report` the time
    /// between two pings.
    pub fn new(due: bool, timeout: Duration, report: Duration) -> FingerprintCheck {
        let ours = if due { Ours::Due } else { Ours::Said };
        FingerprintCheck { ours, early: Expiring::default(), timeout, latest: LATEST * report }
    }

    /// The peer states `fp` for connection `id`. `None` if that has yet to arrive, and for statements beyond the bound.
    pub fn asked<H, L>(&mut self, id: Id, fp: String, pool: &mut Pool<H, L>, now: Instant) -> Option<Judged<H>>
    where
        H: Copy + Eq + Hash,
    {
        let judged = judge(id, &fp, pool);
        if judged.is_none() && self.early.len() < MAX_EARLY && !self.early.contains(&id) {
            self.early.insert(id, fp, now + self.timeout);
        }
        judged
    }

    /// Connection `id` is in the pool now: what the peer stated about it before.
    pub fn arrived<H: Copy + Eq + Hash, L>(
        &mut self,
        id: Id,
        pool: &mut Pool<H, L>,
        now: Instant,
    ) -> Option<Judged<H>> {
        if let Ours::Chosen { sign, .. } = &mut self.ours {
            *sign = Sign::Quiet(now + ARRIVAL);
        }
        judge(id, &self.early.remove(&id)?, pool)
    }

    /// The peer has answered all pings.
    pub fn answered(&mut self, now: Instant) {
        if let Ours::Chosen { sign: sign @ Sign::Asked, .. } = &mut self.ours {
            *sign = Sign::Given(now + ARRIVAL);
        }
    }

    /// Our own statement, once, soon after there is a connection to make it about.
    pub fn poll<H, L>(&mut self, pool: &mut Pool<H, L>, loads: &Loads, now: Instant) -> Option<Statement>
    where
        H: Copy + Eq + Hash,
    {
        if let Ours::Due = self.ours {
            let Some((id, Some(fp))) = pool.prove(loads) else { return None };
            self.ours = Ours::Chosen { id, fp, sign: Sign::Quiet(now + ARRIVAL), latest: now + self.latest };
        }
        let Ours::Chosen { id, fp, sign, latest } = &mut self.ours else { return None };
        match *sign {
            Sign::Quiet(at) if at <= now && now < *latest => {
                *sign = Sign::Asked;
                Some(Statement::Ping)
            }
            Sign::Given(at) if now < at.min(*latest) => None,
            Sign::Quiet(_) | Sign::Asked if now < *latest => None,
            _ => {
                let statement = Statement::Verify(*id, *fp);
                self.ours = Ours::Said;
                Some(statement)
            }
        }
    }

    /// A statement whose connection did not arrive in time, until `None`.
    pub fn expired(&mut self, now: Instant) -> Option<Id> {
        self.early.expired(now).map(|(id, _)| id)
    }

    /// When the clock has something to say.
    pub fn deadline(&self) -> Option<Instant> {
        let ours = match self.ours {
            Ours::Chosen { sign, latest, .. } => Some(sign.due().unwrap_or(latest).min(latest)),
            Ours::Due | Ours::Said => None,
        };
        ours.into_iter().chain(self.early.deadline()).min()
    }
}

fn judge<H: Copy + Eq + Hash, L>(id: Id, peer: &str, pool: &mut Pool<H, L>) -> Option<Judged<H>> {
    let named = pool.verify(id)?;
    let verdict = match (named.fp, peer.parse::<Fingerprint>()) {
        (None, _) => Verdict::Unknown,
        (Some(own), Ok(peer)) if own == peer => Verdict::Right,
        (Some(_), _) if peer.is_empty() => Verdict::Unknown,
        (Some(own), _) => Verdict::Wrong { peer: peer.chars().take(MAX_SHOWN).collect(), own },
    };
    Some(Judged { verdict, close: named.home })
}

/// Time for a connection to get into the other side's pool before the peer is asked, and before the statement comes.
const ARRIVAL: Duration = Duration::from_millis(50);
/// Report intervals that our own statement waits at most: users of an ingress that checks wait for it.
const LATEST: u32 = 2;
/// Most statements that wait for their connection.
const MAX_EARLY: usize = 16;
/// Most characters of a wrong statement that are shown.
const MAX_SHOWN: usize = 120;

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_secs(5);
    const REPORT: Duration = Duration::from_secs(1);

    /// One with something to state.
    fn check() -> FingerprintCheck {
        FingerprintCheck::new(true, WAIT, REPORT)
    }

    fn id(n: u8) -> Id {
        Id([7, 7, 7, n])
    }

    fn pool(fp: Option<Fingerprint>) -> Pool<u32, ()> {
        let mut pool = Pool::new(1, 4, WAIT, 4);
        pool.opened(id(1), 11, 0, fp).unwrap();
        pool
    }

    fn verdict(peer: &str, own: Option<Fingerprint>) -> Verdict {
        let mut check = FingerprintCheck::new(false, WAIT, REPORT);
        let judged = check.asked(id(1), peer.into(), &mut pool(own), Instant::now()).unwrap();
        assert_eq!(judged.close, Some(11));
        judged.verdict
    }

    #[test]
    fn only_the_same_fingerprint_is_right() {
        let (own, other) = (Fingerprint::of(b"own"), Fingerprint::of(b"other"));
        assert_eq!(verdict(&own.to_string(), Some(own)), Verdict::Right);
        assert_eq!(verdict(&other.to_string(), Some(own)), Verdict::Wrong { peer: other.to_string(), own });
        assert_eq!(verdict("rubbish", Some(own)), Verdict::Wrong { peer: "rubbish".into(), own });
        assert_eq!(verdict("", Some(own)), Verdict::Unknown);
        assert_eq!(verdict(&own.to_string(), None), Verdict::Unknown);
    }

    #[test]
    fn our_statement_is_made_once_after_its_connection_had_time_to_arrive() {
        let (fp, now, loads) = (Fingerprint::of(b"own"), Instant::now(), Loads::new(1));
        let (mut check, mut pool) = (check(), pool(Some(fp)));
        assert_eq!(check.poll(&mut pool, &loads, now), None, "others may come");
        assert_eq!((pool.idle(), check.deadline()), (0, Some(now + ARRIVAL)));
        check.answered(now);
        assert_eq!(check.poll(&mut pool, &loads, now + ARRIVAL), Some(Statement::Ping));
        assert_eq!(check.poll(&mut pool, &loads, now + 2 * ARRIVAL), None, "the peer has not answered");
        check.answered(now + 2 * ARRIVAL);
        assert_eq!(check.deadline(), Some(now + 3 * ARRIVAL));
        assert_eq!(check.poll(&mut pool, &loads, now + 3 * ARRIVAL), Some(Statement::Verify(id(1), fp)));
        assert_eq!((check.poll(&mut pool, &loads, now + WAIT), check.deadline()), (None, None));
    }

    #[test]
    fn a_connection_that_comes_meanwhile_has_the_peer_asked_again() {
        let (fp, mut now, loads) = (Fingerprint::of(b"own"), Instant::now(), Loads::new(1));
        let (mut check, mut pool) = (check(), pool(Some(fp)));
        assert_eq!(check.poll(&mut pool, &loads, now), None);
        for answers in [false, true] {
            now += ARRIVAL;
            assert_eq!(check.poll(&mut pool, &loads, now), Some(Statement::Ping));
            if answers {
                check.answered(now);
            }
            assert_eq!(check.arrived(id(2), &mut pool, now), None);
            assert_eq!(check.poll(&mut pool, &loads, now + ARRIVAL / 2), None);
        }
        now += ARRIVAL;
        assert_eq!(check.poll(&mut pool, &loads, now), Some(Statement::Ping));
        check.answered(now);
        assert_eq!(check.poll(&mut pool, &loads, now + ARRIVAL), Some(Statement::Verify(id(1), fp)));
    }

    #[test]
    fn our_statement_is_made_to_a_peer_that_does_not_answer_and_among_connections_without_end() {
        let (fp, now, loads) = (Fingerprint::of(b"own"), Instant::now(), Loads::new(1));
        let latest = now + LATEST * REPORT;
        for answers in [false, true] {
            let (mut check, mut pool) = (check(), pool(Some(fp)));
            check.poll(&mut pool, &loads, now);
            check.poll(&mut pool, &loads, now + ARRIVAL);
            if answers {
                check.answered(now + ARRIVAL);
                check.arrived(id(2), &mut pool, latest - ARRIVAL / 2);
            }
            assert_eq!(check.deadline(), Some(latest));
            assert_eq!(check.poll(&mut pool, &loads, latest), Some(Statement::Verify(id(1), fp)));
        }
    }

    #[test]
    fn a_statement_waits_for_its_connection_for_a_while() {
        let (fp, now) = (Fingerprint::of(b"own"), Instant::now());
        let (mut check, mut pool) = (FingerprintCheck::new(false, WAIT, REPORT), pool(Some(fp)));
        assert_eq!(check.asked(id(2), fp.to_string(), &mut pool, now), None);
        assert_eq!(check.asked(id(3), fp.to_string(), &mut pool, now), None);
        pool.opened(id(2), 22, 0, Some(fp)).unwrap();
        assert_eq!(check.arrived(id(2), &mut pool, now), Some(Judged { verdict: Verdict::Right, close: Some(22) }));
        assert_eq!((check.deadline(), check.expired(now)), (Some(now + WAIT), None));
        assert_eq!((check.expired(now + WAIT), check.expired(now + WAIT)), (Some(id(3)), None));
    }

    #[test]
    fn statements_about_connections_that_never_come_are_bounded() {
        let (mut check, mut pool, now) = (FingerprintCheck::new(false, WAIT, REPORT), pool(None), Instant::now());
        for n in 2..200 {
            assert_eq!(check.asked(id(n), String::new(), &mut pool, now), None);
        }
        assert_eq!(check.early.len(), MAX_EARLY);
    }
}
