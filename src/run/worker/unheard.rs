//! Users of pool connections over which no byte of the other side has come: such a connection may be dead without a sign of it.
//!
//! ```text
//!  ingress:  Relay, keeps what the user says --heard--> forgets it
//!              | \--nothing is acknowledged--> asks the egress, goes on meanwhile
//!              +--the connection fails--> Doubt --no byte has come there--> the user gets another
//!                                           \--one has, or no answer------> the end
//!  egress:   Relay --the connection fails, or the ingress asks--> no byte has come
//! ```

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::Registry;

use super::context::Context;
use super::exchange::Join;
use super::next::Next;
use crate::logic::terms::TunnelNo;
use crate::logic::wire::Id;
use crate::net::leg::Own;
use crate::net::pipe::Splice;
use crate::net::stream::{Buffer, Stream};
use crate::run::messages::{Home, Notice};
use crate::run::user::{Proto, Said, User};

/// What is known of a pool connection over which nothing has come.
pub enum Unheard {
    /// The user is here and may get another.
    User(Retry),
    /// The user is the peer's.
    Peer {
        /// The pool connection.
        id: Id,
        /// Whether the target has said something.
        sent: bool,
    },
}

/// A user who may get another pool connection.
pub struct Retry {
    id: Id,
    from: SocketAddr,
    /// What the user has said; `None` if that is too much to keep.
    said: Option<Said>,
    /// What was said is kept so long.
    until: Instant,
    look: Look,
}

/// When to look whether what was sent is acknowledged.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    /// When something has been sent.
    Later,
    At(Instant),
    /// Never: the egress was asked.
    Asked,
}

/// What a look came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    Nothing,
    /// What was sent is not acknowledged: it is time to ask the egress.
    Unacknowledged(Id),
}

impl Unheard {
    /// For a user here. One who has said what cannot be kept, a datagram, gets no other.
    pub fn user(id: Id, from: SocketAddr, said: Option<Said>, now: Instant) -> Unheard {
        let look = match &said {
            Some(said) if !said.bytes.is_empty() => Look::At(now + LOOK),
            _ => Look::Later,
        };
        let said = said.filter(|said| said.tries < MAX_TRIES);
        Unheard::User(Retry { id, from, said, until: now + KEPT, look })
    }

    /// For a user of the peer's.
    pub fn peer(id: Id) -> Unheard {
        Unheard::Peer { id, sent: false }
    }

    /// The pool connection.
    pub fn id(&self) -> Id {
        match self {
            Unheard::User(retry) => retry.id,
            Unheard::Peer { id, .. } => *id,
        }
    }

    /// Where what the user says is kept, if it is.
    pub fn said(&mut self) -> Option<&mut Said> {
        match self {
            Unheard::User(Retry { said, .. }) => said.as_mut(),
            Unheard::Peer { .. } => None,
        }
    }

    /// Whether something was sent over it.
    pub fn has_sent(&self) -> bool {
        match self {
            Unheard::User(retry) => retry.look != Look::Later,
            Unheard::Peer { sent, .. } => *sent,
        }
    }

    /// So many bytes of the user, or of the target, have gone on over it.
    pub fn sent(&mut self, count: usize, now: Instant) {
        let retry = match self {
            Unheard::User(retry) => retry,
            Unheard::Peer { sent, .. } => return *sent |= count > 0,
        };
        if count > 0 && retry.look == Look::Later {
            retry.look = Look::At(now + LOOK);
        }
        if retry.said.as_ref().is_some_and(|said| said.is_too_much() || now >= retry.until) {
            retry.said = None;
        }
    }

    /// Looks, if it is time for that, whether what was sent is acknowledged.
    pub fn look(&mut self, unacknowledged: impl FnOnce() -> Option<Duration>, now: Instant) -> Seen {
        let Unheard::User(retry) = self else { return Seen::Nothing };
        if retry.said.is_none() || !matches!(retry.look, Look::At(at) if now >= at) {
            return Seen::Nothing;
        }
        match unacknowledged() {
            Some(since) if since >= LOOK => {
                retry.look = Look::Asked;
                Seen::Unacknowledged(retry.id)
            }
            Some(_) => {
                retry.look = Look::At(now + LOOK);
                Seen::Nothing
            }
            None => {
                retry.look = Look::Later;
                Seen::Nothing
            }
        }
    }

    /// When to look again, or to forget.
    pub fn deadline(&self) -> Option<Instant> {
        let Unheard::User(Retry { said: Some(said), until, look, .. }) = self else { return None };
        let look = match look {
            Look::At(at) => Some(*at),
            Look::Later | Look::Asked => None,
        };
        look.into_iter().chain((!said.bytes.is_empty()).then_some(*until)).min()
    }

    /// Whether the user may get another connection.
    pub fn may_retry(&self) -> bool {
        matches!(self, Unheard::User(Retry { said: Some(_), .. }))
    }

    /// The user, for another connection.
    pub fn into_user(self, local: Own, registry: &Registry) -> Option<User> {
        let (Unheard::User(Retry { from, said: Some(said), .. }), Own::Tcp(tcp)) = (self, local) else { return None };
        let socket = tcp.release(registry).ok()?;
        Some(User::Tcp(socket, from, Said { tries: said.tries + 1, ..said }))
    }
}

/// A user's stream, of which what is read is kept.
pub struct Keeping<'a> {
    /// The user.
    pub user: &'a mut dyn Stream,
    /// What was read.
    pub said: &'a mut Said,
}

impl Stream for Keeping<'_> {
    fn fill(&mut self, into: &mut Buffer) -> io::Result<usize> {
        let before = into.bytes().len();
        let count = self.user.fill(into)?;
        if !self.said.is_too_much() {
            self.said.bytes.extend_from_slice(&into.bytes()[before..]);
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

    fn bare(&mut self) -> Option<&mut dyn Splice> {
        match self.said.is_too_much() {
            true => self.user.bare(),
            false => None,
        }
    }
}

impl Said {
    /// Whether it is more than is kept.
    fn is_too_much(&self) -> bool {
        self.bytes.len() > MAX_SAID
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
/// Bytes of a user that are kept at most.
const MAX_SAID: usize = 4096;
/// What a user has said is kept so long. The tunnel remembers three times as long where the user is.
const KEPT: Duration = Duration::from_secs(10);
/// Without an acknowledgement for so long a connection may be dead.
const LOOK: Duration = Duration::from_millis(250);
/// A user whose connection has failed waits so long for the answer of the egress.
const DOUBT: Duration = Duration::from_secs(2);
/// Most connections that a user gets one after the other.
const MAX_TRIES: u8 = 8;

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;
    use crate::testing::epoch;

    const ID: Id = Id([1, 2, 3, 4]);

    /// So long after the start.
    fn at(millis: u64) -> Instant {
        static START: LazyLock<Instant> = LazyLock::new(epoch);
        *START + Duration::from_millis(millis)
    }

    fn user() -> Unheard {
        Unheard::user(ID, SocketAddr::from(([192, 0, 2, 1], 1)), Some(Said::default()), at(0))
    }

    #[test]
    fn the_egress_is_asked_once_when_nothing_is_acknowledged() {
        let mut unheard = user();
        let silent = || Some(LOOK);
        assert_eq!((unheard.deadline(), unheard.look(silent, at(9000))), (None, Seen::Nothing), "nothing was sent");
        unheard.sent(5, at(1000));
        assert_eq!(unheard.deadline(), Some(at(1250)));
        assert_eq!(unheard.look(silent, at(1249)), Seen::Nothing);
        assert_eq!(unheard.look(|| Some(LOOK / 2), at(1250)), Seen::Nothing, "it was heard a moment ago");
        assert_eq!(unheard.look(silent, at(1500)), Seen::Unacknowledged(ID));
        assert_eq!((unheard.look(silent, at(9000)), unheard.deadline()), (Seen::Nothing, None));
    }

    #[test]
    fn what_is_acknowledged_is_looked_at_again_when_more_is_sent() {
        let mut unheard = user();
        unheard.sent(5, at(0));
        assert_eq!((unheard.look(|| None, at(250)), unheard.deadline()), (Seen::Nothing, None));
        unheard.sent(5, at(3000));
        assert_eq!(unheard.look(|| Some(LOOK), at(3250)), Seen::Unacknowledged(ID));
    }

    #[test]
    fn a_user_who_has_said_too_much_or_had_too_many_connections_gets_no_other() {
        let mut unheard = user();
        if let Unheard::User(Retry { said: Some(said), .. }) = &mut unheard {
            said.bytes = vec![0; MAX_SAID + 1];
        }
        unheard.sent(1, at(0));
        assert!(!unheard.may_retry());
        let tried = Said { tries: MAX_TRIES, ..Said::default() };
        assert!(!Unheard::user(ID, SocketAddr::from(([192, 0, 2, 1], 1)), Some(tried), at(0)).may_retry());
    }
}
