//! Users of pool connections over which no byte of the other side has come: such a connection may be dead without a sign of it.
//!
//! ```text
//!  ingress:  Relay, keeps what the user says --heard--> forgets it
//!              | \--nothing is acknowledged, here or there--> asks the egress, goes on meanwhile
//!              +--the connection fails--> Doubt --no byte has come there--> the user gets another
//!                                           \--one has, or no answer------> the end
//!  egress:   Relay --the connection fails, or the ingress asks--> no byte has come
//!              \--nothing is acknowledged--> tells the ingress, goes on meanwhile
//! ```

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::Registry;

use super::context::{Context, Places};
use super::exchange::Join;
use super::next::Next;
use crate::logic::terms::TunnelNo;
use crate::logic::wire::Id;
use crate::net::leg::Own;
use crate::net::stream::{Buffer, Stream};
use crate::net::udp::Frames;
use crate::run::messages::{Home, Notice};
use crate::run::user::{Proto, Said, User};

/// What is known of a pool connection over which nothing has come.
pub struct Unheard {
    id: Id,
    sent: Sent,
    /// A user who is here, and may get another connection; else the user is the peer's.
    user: Option<Retry>,
}

/// What was sent over such a connection.
#[derive(Default)]
struct Sent {
    /// Since when.
    since: Option<Instant>,
    look: Look,
}

/// When to look whether what was sent is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Look {
    /// When something has been sent.
    #[default]
    Later,
    At(Instant),
    /// Never: the other side was asked, or it has answered.
    Never,
}

/// A user who may get another pool connection.
struct Retry {
    from: SocketAddr,
    proto: Proto,
    /// What the user has said; `None` if that is not kept any more.
    said: Option<Said>,
    /// What was said is kept so long.
    until: Instant,
    /// More than so many bytes are kept only if nothing is acknowledged then.
    most: usize,
    /// There is no room for more: no more is read before something is acknowledged or, when the egress was asked, before it has answered.
    full: bool,
    /// When to see whether something is, meanwhile.
    recheck: Option<Instant>,
    place: Option<Arc<()>>,
}

/// What a look came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    Nothing,
    /// What the user has said is not acknowledged: it is time to ask the egress.
    Ask,
    /// What the target has said is not: the ingress is to ask.
    Tell,
}

impl Sent {
    fn sent(&mut self, now: Instant) {
        self.since.get_or_insert(now);
        if self.look == Look::Later {
            self.look = Look::At(now + LOOK);
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        matches!(self.look, Look::At(at) if now >= at)
    }

    /// Whether the other side has acknowledged anything of it.
    fn is_answered(&self, undelivered: Option<Duration>, now: Instant) -> bool {
        self.since.is_some_and(|since| undelivered.is_none_or(|heard| now > since + heard + GRAIN))
    }

    /// It was looked: whether it is time to ask.
    fn looked(&mut self, undelivered: Option<Duration>, now: Instant) -> bool {
        self.look = match undelivered {
            Some(heard) if heard >= LOOK => Look::Never,
            Some(_) => Look::At(now + LOOK),
            None => Look::Later,
        };
        self.look == Look::Never
    }
}

impl Unheard {
    /// For a user here.
    pub fn user(id: Id, from: SocketAddr, proto: Proto, said: Said, now: Instant) -> Unheard {
        let mut sent = Sent::default();
        if !said.bytes.is_empty() {
            sent.sent(now);
        }
        let most = said.bytes.len().max(MAX_SAID);
        let said = Some(said).filter(|said| said.tries < MAX_TRIES);
        let user = Retry { from, proto, said, until: now + KEPT, most, full: false, recheck: None, place: None };
        Unheard { id, sent, user: Some(user) }
    }

    /// The same over a connection that users follow each other on: the end of the one before may not have come.
    pub fn after_another(mut self, now: Instant) -> Unheard {
        self.sent.sent(now);
        self
    }

    /// For a user of the peer's.
    pub fn peer(id: Id) -> Unheard {
        Unheard { id, sent: Sent::default(), user: None }
    }

    /// The pool connection.
    pub fn id(&self) -> Id {
        self.id
    }

    /// Whether the user is here.
    pub fn is_here(&self) -> bool {
        self.user.is_some()
    }

    /// Where what the user says is kept, if it is, and how much of it there is room for at most: datagrams beyond that may be lost.
    pub fn said(&mut self) -> Option<(&mut Said, usize)> {
        let Retry { said, proto, .. } = self.user.as_mut()?;
        let most = if matches!(proto, Proto::Udp(_)) { MAX_SAID } else { usize::MAX };
        Some((said.as_mut()?, most))
    }

    /// Whether no more is to be read of the user for now.
    pub fn is_full(&self) -> bool {
        self.user.as_ref().is_some_and(|retry| retry.said.is_some() && retry.full)
    }

    /// So many bytes of the user, or of the target, have gone on over it.
    pub fn sent(&mut self, count: usize, now: Instant) {
        if count > 0 {
            self.sent.sent(now);
        }
        if let Some(retry) = self.user.as_mut().filter(|retry| now >= retry.until) {
            retry.forget();
        }
    }

    /// Looks, if it is time for that, whether what was sent is acknowledged.
    pub fn look(&mut self, undelivered: impl FnOnce() -> Option<Duration>, places: &Places, now: Instant) -> Seen {
        let is_due = self.sent.is_due(now);
        let Some(retry) = &mut self.user else {
            if !is_due {
                return Seen::Nothing;
            }
            let undelivered = undelivered();
            if self.sent.is_answered(undelivered, now) {
                self.sent.look = Look::Never;
                return Seen::Nothing;
            }
            return if self.sent.looked(undelivered, now) { Seen::Tell } else { Seen::Nothing };
        };
        let Some(said) = &retry.said else { return Seen::Nothing };
        let has_grown = said.bytes.len() > retry.most;
        if !is_due && !has_grown {
            return Seen::Nothing;
        }
        if self.sent.look == Look::Never {
            // The egress was asked, and may have nothing of what a proxy on the way acknowledges: all is kept until it answers.
            retry.full = !retry.grow(places);
            return Seen::Nothing;
        }
        let undelivered = undelivered();
        let is_udp = matches!(retry.proto, Proto::Udp(_));
        let is_answered = self.sent.is_answered(undelivered, now);
        retry.full = has_grown && !retry.grow(places);
        if (has_grown || is_udp) && is_answered || retry.full && retry.place.is_none() {
            retry.forget();
            return Seen::Nothing;
        }
        // A connection that has had much to carry before takes all of it without a word of the other side.
        retry.recheck = retry.full.then_some(now + RECHECK);
        match is_due && self.sent.looked(undelivered, now) {
            true => Seen::Ask,
            false => Seen::Nothing,
        }
    }

    /// The egress finds that what it sends is not acknowledged. Whether it is time to ask it, which is so once.
    pub fn doubted(&mut self) -> bool {
        self.may_retry() && std::mem::replace(&mut self.sent.look, Look::Never) != Look::Never
    }

    /// Whether the other side has acknowledged something, where so much is not.
    pub fn is_answered(&self, undelivered: Option<Duration>, now: Instant) -> bool {
        self.sent.is_answered(undelivered, now)
    }

    /// When to look again, or to forget.
    pub fn deadline(&self) -> Option<Instant> {
        let until = match &self.user {
            Some(Retry { said: Some(said), until, .. }) => (!said.bytes.is_empty()).then_some(*until),
            Some(_) => return None,
            None => None,
        };
        let look = match self.sent.look {
            Look::At(at) => Some(at),
            Look::Later | Look::Never => None,
        };
        let recheck = self.user.as_ref().and_then(|retry| retry.recheck.filter(|_| look.is_some()));
        [look, until, recheck].into_iter().flatten().min()
    }

    /// Whether the user may get another connection.
    pub fn may_retry(&self) -> bool {
        self.user.as_ref().is_some_and(|retry| retry.said.is_some())
    }

    /// The user, for another connection.
    pub fn into_user(self, local: Own, registry: &Registry) -> Option<User> {
        let Retry { from, proto, said: Some(said), .. } = self.user? else { return None };
        let tries = said.tries + 1;
        match (local, proto) {
            (Own::Tcp(tcp), _) => Some(User::Tcp(tcp.release(registry).ok()?, from, Said { tries, ..said })),
            (Own::Udp(session), Proto::Udp(key)) => {
                let mut frames = Frames::read(&said.bytes);
                let listener = session.release(&mut frames)?;
                Some(User::Udp(listener, key, frames, tries))
            }
            _ => None,
        }
    }
}

impl Retry {
    /// Nothing more is kept: the user stays with this connection.
    fn forget(&mut self) {
        (self.said, self.place) = (None, None);
    }

    /// Room for as much again, if there is.
    fn grow(&mut self, places: &Places) -> bool {
        let len = self.said.as_ref().map_or(0, |said| said.bytes.len());
        self.place = self.place.take().or_else(|| places.take());
        self.most = (2 * len).min(MAX_UNANSWERED);
        self.place.is_some() && len <= MAX_UNANSWERED
    }
}

/// A user's stream, of which what is read is kept: it does not pass through the kernel alone.
pub struct Keeping<'a> {
    /// The user.
    pub user: &'a mut dyn Stream,
    /// What was read.
    pub said: &'a mut Said,
    /// What is read beyond so many bytes is not kept.
    pub most: usize,
    /// Nothing is read.
    pub full: bool,
}

impl Stream for Keeping<'_> {
    fn fill(&mut self, into: &mut Buffer) -> io::Result<usize> {
        if self.full {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let before = into.bytes().len();
        let count = self.user.fill(into)?;
        let new = &into.bytes()[before..];
        if new.len() <= self.most.saturating_sub(self.said.bytes.len()) {
            self.said.bytes.extend_from_slice(new);
        }
        Ok(count)
    }

    fn drain(&mut self, from: &mut Buffer) -> io::Result<usize> {
        self.user.drain(from)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.user.flush()
    }

    fn finish(&mut self) -> io::Result<()> {
        self.user.finish()
    }

    fn is_ending(&self) -> bool {
        self.user.is_ending()
    }
}

/// A user whose pool connection has failed before anything came over it: the egress is asked.
pub struct Doubt {
    local: Own,
    unheard: Unheard,
    join: Join,
    until: Instant,
}

impl Doubt {
    /// Asks the egress.
    pub fn new(local: Own, unheard: Unheard, join: Join, now: Instant) -> Doubt {
        Doubt { local, unheard, join, until: now + DOUBT }
    }

    /// Waits for the answer.
    pub fn advance(mut self, home: Home, context: &mut Context, now: Instant) -> Next<Doubt, Infallible> {
        if now < self.until && !self.local.failed() {
            return Next::Wait(self);
        }
        self.join.ended(&context.shared, Some("reset"));
        self.local.abort();
        self.join.proto.into_iter().for_each(|proto| {
            context.hub.send(Notice::Done { home, tunnel: self.join.tunnel, proto });
        });
        Next::End
    }

    /// Remembers an edge.
    pub fn note(&mut self, event: &Event) {
        self.local.note(event);
    }

    /// The user learns at once that it is over.
    pub fn abort(&mut self) {
        self.local.abort();
    }

    /// Datagrams of the user who waits.
    pub fn deliver(&mut self, frames: Frames) {
        if let Own::Udp(session) = &mut self.local {
            session.deliver(frames);
        }
    }

    /// What the user speaks.
    pub fn proto(&self) -> Option<Proto> {
        self.join.proto
    }

    /// The tunnel.
    pub fn tunnel(&self) -> TunnelNo {
        self.join.tunnel
    }

    /// When it has waited for long enough.
    pub fn deadline(&self) -> Instant {
        self.until
    }

    /// Its pool connection.
    pub fn id(&self) -> Id {
        self.unheard.id()
    }

    /// The user, for another connection.
    pub fn into_user(self, context: &Context) -> Option<User> {
        self.join.ended(&context.shared, Some(DEAD));
        self.unheard.into_user(self.local, &context.registry)
    }
}

/// What is said of a relay whose user goes on over another connection.
pub const DEAD: &str = "its pool connection is dead, another follows";
/// Bytes of a user that are kept, whatever becomes of them.
const MAX_SAID: usize = 4096;
/// Bytes that are kept while none of them is acknowledged: more than what the system takes for a connection that is dead, and what a
/// relay has read beyond that.
const MAX_UNANSWERED: usize = 256 * 1024;
/// So many are read at a time while they are kept.
pub const KEPT_AT_ONCE: usize = 16 * 1024;
/// What a user has said is kept so long. The tunnel remembers three times as long where the user is.
const KEPT: Duration = Duration::from_secs(10);
/// How often it is seen whether something was acknowledged, while no more is read before that.
const RECHECK: Duration = Duration::from_millis(10);
/// Without an acknowledgement for so long a connection may be dead.
const LOOK: Duration = Duration::from_millis(250);
/// How coarse the system counts the time since it heard something.
const GRAIN: Duration = Duration::from_millis(12);
/// A user whose connection has failed waits so long for the answer of the egress.
const DOUBT: Duration = Duration::from_secs(2);
/// Most connections that a user gets one after the other.
const MAX_TRIES: u8 = 8;

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::LazyLock;

    use super::*;
    use crate::run::user::SessionKey;
    use crate::testing::epoch;

    const ID: Id = Id([1, 2, 3, 4]);
    const FROM: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);
    const TCP: Proto = Proto::Tcp(None);

    /// So long after the start.
    fn at(millis: u64) -> Instant {
        static START: LazyLock<Instant> = LazyLock::new(epoch);
        *START + Duration::from_millis(millis)
    }

    fn user(said: Said) -> Unheard {
        Unheard::user(ID, FROM, TCP, said, at(0))
    }

    /// A look at a connection over which nothing came since that time.
    fn look(unheard: &mut Unheard, heard: u64, now: u64) -> Seen {
        unheard.look(|| Some(Duration::from_millis(now - heard)), &Places::new(1), at(now))
    }

    /// The user says so many bytes.
    fn says(unheard: &mut Unheard, count: usize, now: u64) {
        if let Some((said, _)) = unheard.said() {
            said.bytes.extend(std::iter::repeat_n(7, count));
        }
        unheard.sent(count, at(now));
    }

    fn none_left() -> Option<Duration> {
        None
    }

    #[test]
    fn the_egress_is_asked_once_when_nothing_is_acknowledged() {
        let mut unheard = user(Said::default());
        assert_eq!((unheard.deadline(), look(&mut unheard, 0, 9000)), (None, Seen::Nothing), "nothing was sent");
        unheard.sent(5, at(1000));
        assert_eq!(unheard.deadline(), Some(at(1250)));
        assert_eq!(look(&mut unheard, 0, 1249), Seen::Nothing);
        assert_eq!(look(&mut unheard, 1100, 1250), Seen::Nothing, "it was heard a moment ago");
        assert_eq!(look(&mut unheard, 1100, 1500), Seen::Ask);
        assert_eq!((look(&mut unheard, 0, 9000), unheard.deadline()), (Seen::Nothing, None));
        assert!(!unheard.doubted(), "it was asked already");
    }

    #[test]
    fn the_ingress_is_told_once_when_what_the_target_says_is_not_acknowledged_and_never_when_it_was() {
        let mut unheard = Unheard::peer(ID);
        unheard.sent(5, at(1000));
        assert_eq!(unheard.deadline(), Some(at(1250)));
        assert!(!unheard.is_answered(Some(Duration::from_secs(1)), at(1200)));
        assert_eq!((look(&mut unheard, 0, 1250), look(&mut unheard, 0, 9000)), (Seen::Tell, Seen::Nothing));
        for told in [none_left(), Some(Duration::from_millis(200))] {
            let mut unheard = Unheard::peer(ID);
            unheard.sent(5, at(1000));
            assert!(unheard.is_answered(told, at(1250)));
            assert_eq!(unheard.look(|| told, &Places::new(0), at(1250)), Seen::Nothing);
            unheard.sent(5, at(2000));
            assert_eq!(unheard.deadline(), None);
        }
    }

    #[test]
    fn a_user_who_says_nothing_is_asked_about_once_when_the_egress_doubts() {
        let mut unheard = user(Said::default());
        assert!(unheard.doubted() && !unheard.doubted());
        unheard.sent(5, at(1000));
        assert_eq!(look(&mut unheard, 0, 2000), Seen::Nothing);
        assert!(!Unheard::peer(ID).doubted());
    }

    #[test]
    fn what_is_acknowledged_is_looked_at_again_when_more_is_sent() {
        let mut unheard = user(Said::default());
        unheard.sent(5, at(0));
        assert_eq!(unheard.look(none_left, &Places::new(1), at(250)), Seen::Nothing);
        assert_eq!(unheard.deadline(), None);
        unheard.sent(5, at(3000));
        assert_eq!(look(&mut unheard, 0, 3250), Seen::Ask);
    }

    #[test]
    fn much_is_kept_as_long_as_none_of_it_is_acknowledged() {
        let mut unheard = user(Said::default());
        let places = Places::new(1);
        says(&mut unheard, MAX_SAID, 100);
        assert_eq!(unheard.look(|| panic!("that is little"), &places, at(100)), Seen::Nothing);
        for now in 101..110 {
            says(&mut unheard, KEPT_AT_ONCE, now);
            assert_eq!(unheard.look(|| Some(Duration::from_millis(now)), &places, at(now)), Seen::Nothing);
        }
        assert_eq!(look(&mut unheard, 0, 350), Seen::Ask);
        assert!(unheard.may_retry());
        // The other connection: what was said is no news, and lives.
        let Some(Retry { said: Some(said), .. }) = unheard.user else { panic!("nothing is kept") };
        let mut again = Unheard::user(ID, FROM, TCP, said, at(400));
        assert_eq!(again.look(|| panic!("it is no more"), &places, at(400)), Seen::Nothing);
        says(&mut again, 1, 500);
        assert_eq!(look(&mut again, 450, 500), Seen::Nothing);
        assert!(!again.may_retry());
    }

    #[test]
    fn no_more_is_read_than_can_be_kept_before_the_first_acknowledgement() {
        let mut unheard = user(Said::default());
        let places = Places::new(1);
        let mut count = 0;
        while !unheard.is_full() {
            assert!(count <= MAX_UNANSWERED + KEPT_AT_ONCE, "{count} bytes are kept");
            says(&mut unheard, KEPT_AT_ONCE, 1);
            count += KEPT_AT_ONCE;
            // The connection waited for long: nothing was said on it that could be acknowledged.
            assert_eq!(unheard.look(|| Some(Duration::from_secs(60)), &places, at(1)), Seen::Nothing);
        }
        assert!(count > MAX_UNANSWERED && unheard.may_retry());
        assert_eq!(unheard.deadline(), Some(at(11)));
        assert_eq!(unheard.look(|| Some(Duration::from_secs(60)), &places, at(11)), Seen::Nothing);
        assert!(unheard.is_full() && unheard.deadline() == Some(at(21)));
        let mut other = unheard;
        assert_eq!(other.look(|| Some(Duration::from_secs(60)), &places, at(251)), Seen::Ask);
        assert!(other.is_full() && other.may_retry());

        let mut unheard = user(Said::default());
        (0..20).for_each(|_| says(&mut unheard, KEPT_AT_ONCE, 1));
        assert_eq!(unheard.look(|| Some(Duration::from_secs(60)), &Places::new(1), at(1)), Seen::Nothing);
        assert!(unheard.is_full());
        assert_eq!(look(&mut unheard, 30, 51), Seen::Nothing);
        assert!(!unheard.is_full() && !unheard.may_retry(), "it lives");
    }

    #[test]
    fn once_the_egress_is_asked_all_is_kept_until_it_answers_whoever_acknowledges_it() {
        for (room, places) in [(MAX_UNANSWERED, 1), (MAX_SAID, 0)] {
            let (mut unheard, places) = (user(Said::default()), Places::new(places));
            says(&mut unheard, 100, 0);
            assert_eq!(unheard.look(|| Some(LOOK), &places, at(250)), Seen::Ask);
            // A proxy has taken it, and the egress may have heard nothing.
            let mut count = 100;
            while !unheard.is_full() {
                assert!(count <= room + KEPT_AT_ONCE, "{count} bytes are kept");
                says(&mut unheard, KEPT_AT_ONCE, 300);
                count += KEPT_AT_ONCE;
                assert_eq!(unheard.look(none_left, &places, at(300)), Seen::Nothing);
            }
            assert!(count > room && unheard.may_retry());
            assert_eq!(unheard.user.as_ref().and_then(|retry| Some(retry.said.as_ref()?.bytes.len())), Some(count));
            // No answer comes: the user stays with this connection.
            assert_eq!(unheard.deadline(), Some(at(10_000)));
            unheard.sent(0, at(10_000));
            assert!(!unheard.is_full() && !unheard.may_retry());
        }
    }

    #[test]
    fn a_user_for_whom_there_is_no_place_or_who_had_too_many_connections_gets_no_other() {
        let mut unheard = user(Said::default());
        says(&mut unheard, MAX_SAID + 1, 0);
        assert_eq!(unheard.look(|| Some(LOOK), &Places::new(0), at(1)), Seen::Nothing);
        assert!(!unheard.may_retry() && !unheard.is_full());
        assert!(!user(Said { tries: MAX_TRIES, ..Said::default() }).may_retry());
        let places = Places::new(1);
        let held = places.take();
        assert!(held.is_some() && places.take().is_none());
        drop(held);
        assert!(places.take().is_some());
    }

    #[test]
    fn a_user_who_says_nothing_gets_another_where_the_end_of_the_one_before_does_not_come() {
        let mut silent = user(Said::default());
        assert_eq!((silent.deadline(), look(&mut silent, 0, 250)), (None, Seen::Nothing));
        let mut silent = user(Said::default()).after_another(at(0));
        assert_eq!(silent.deadline(), Some(at(250)));
        assert_eq!((look(&mut silent, 0, 249), look(&mut silent, 0, 250)), (Seen::Nothing, Seen::Ask));
        let mut silent = user(Said::default()).after_another(at(0));
        assert_eq!(silent.look(|| None, &Places::new(1), at(250)), Seen::Nothing);
        assert!(silent.may_retry() && silent.deadline().is_none(), "it has come");
    }

    #[test]
    fn datagrams_are_kept_as_far_as_there_is_room_until_the_first_acknowledgement() {
        let key = SessionKey { user: FROM, asked: None };
        let mut unheard = Unheard::user(ID, FROM, Proto::Udp(key), Said::default(), at(0));
        assert_eq!(unheard.said().map(|(_, most)| most), Some(MAX_SAID));
        says(&mut unheard, 100, 0);
        assert_eq!(look(&mut unheard, 200, 250), Seen::Nothing);
        assert!(!unheard.may_retry(), "it lives: others may come and go without a look");
    }
}
