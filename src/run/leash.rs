//! The leash: stdin, when a master holds its other end. It breaks when the master is gone, however that came about; the
//! instance then leaves as it does on SIGTERM. What the master says along it is one byte each: another log level, that a ban is to be
//! lifted, whose source follows, that the next process is to take over, whose URL follows, or that the instance is to end at once.

use std::env::var_os;
use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use mio::{Interest, Registry, Token};
use socket2::SockRef;

use crate::log::Level;
use crate::logic::guard::Source;

/// Whether this process is the child of a master.
pub fn is_held() -> bool {
    var_os(NAME).is_some_and(|value| value == VALUE)
}

/// The end of the leash in an instance.
pub(super) struct Leash(mio::net::UnixStream);

impl Leash {
    /// Has words, and a broken leash as the end of the reading direction, reported under `token`.
    pub(super) fn watch(registry: &Registry, token: Token) -> io::Result<Leash> {
        // It may as well be a pipe: watching a descriptor needs no more than a number.
        let stdin = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        let mut leash = mio::net::UnixStream::from_std(stdin);
        registry.register(&mut leash, token, Interest::READABLE)?;
        Ok(Leash(leash))
    }

    /// What the master has said since the last call.
    pub(super) fn heard(&self) -> Heard {
        let mut heard = Heard::default();
        while let Some(byte) = self.byte() {
            match byte {
                STOP => heard.stop = true,
                LIFT_ALL => heard.lift.push(None),
                LIFT => heard.lift.push(self.source()),
                NEXT => heard.next = self.url().or(heard.next),
                level => heard.level = Level::ALL.get(usize::from(level)).copied().or(heard.level),
            }
        }
        heard
    }

    /// The source that follows; it was sent in one piece with the byte before it.
    fn source(&self) -> Option<Source> {
        let mut address = [0; ADDRESS];
        for byte in &mut address {
            *byte = self.byte()?;
        }
        Some(Source::of(IpAddr::V6(Ipv6Addr::from(address))))
    }

    /// The URL that follows, in one piece as well.
    fn url(&self) -> Option<String> {
        let length = u16::from_be_bytes([self.byte()?, self.byte()?]);
        let url: Option<Vec<u8>> = (0..length).map(|_| self.byte()).collect();
        String::from_utf8(url?).ok()
    }

    /// The next byte, if it is there. The descriptor itself may block: it is stdout, too. A pipe says nothing, and an end is an end.
    fn byte(&self) -> Option<u8> {
        let mut byte = [MaybeUninit::<u8>::uninit()];
        match SockRef::from(&self.0).recv_with_flags(&mut byte, libc::MSG_DONTWAIT) {
            // SAFETY: one byte was received, so it is initialised.
            Ok(1..) => Some(unsafe { byte[0].assume_init() }),
            _ => None,
        }
    }
}

/// What a master has said along a leash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Heard {
    /// The log level that was asked for last.
    pub level: Option<Level>,
    /// Whose bans are to be lifted; `None` stands for all.
    pub lift: Vec<Option<Source>>,
    /// Another process is to take over, with this URL.
    pub next: Option<String>,
    /// The instance is to end at once.
    pub stop: bool,
}

/// Asks the instance at the other end of a leash for a log level.
pub fn ask_level(leash: &UnixStream, level: Level) -> bool {
    say(leash, &[level as u8])
}

/// Asks the instance at the other end of a leash to lift a source's ban, or all bans.
pub fn ask_lift(leash: &UnixStream, source: Option<Source>) -> bool {
    match source {
        Some(source) => say(leash, &[&[LIFT][..], &source.address().octets()].concat()),
        None => say(leash, &[LIFT_ALL]),
    }
}

/// Asks the instance at the other end of a leash to have another process take over, with that URL.
pub fn ask_next(leash: &UnixStream, url: &str) -> bool {
    let length = u16::try_from(url.len()).ok().filter(|length| *length <= MAX_URL);
    length.is_some_and(|length| say(leash, &[&[NEXT], &length.to_be_bytes()[..], url.as_bytes()].concat()))
}

/// Asks the instance at the other end of a leash to end at once.
pub fn ask_stop(leash: &UnixStream) -> bool {
    say(leash, &[STOP])
}

/// What cannot be said at once is not said: the instance is gone or stuck. So few bytes are said as a whole or not at all.
fn say(leash: &UnixStream, bytes: &[u8]) -> bool {
    SockRef::from(leash).send_with_flags(bytes, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL).is_ok()
}

/// The variable by which a master tells its children that they are on a leash, and that their log is to be coloured.
/// Between processes of this program only.
pub const NAME: &str = "NP_LEASH";

/// Its value.
pub const VALUE: &str = "1";

/// The byte that asks for the end; those of log levels are small.
const STOP: u8 = u8::MAX;
/// The bytes that ask for bans to be lifted: those of the source whose address follows, and all.
const LIFT: u8 = STOP - 1;
const LIFT_ALL: u8 = STOP - 2;
/// The byte that asks for the next process, whose URL follows.
const NEXT: u8 = STOP - 3;
/// Bytes of a URL that goes along a leash in one piece.
const MAX_URL: u16 = 16 * 1024;
/// Bytes of an address.
const ADDRESS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leash_tells_the_last_level_and_whether_it_is_the_end() {
        let (master, instance) = UnixStream::pair().unwrap();
        let leash = Leash(mio::net::UnixStream::from_std(instance));
        assert_eq!(leash.heard(), Heard::default());
        assert!(ask_level(&master, Level::Debug) && ask_level(&master, Level::Warn));
        assert_eq!(leash.heard(), Heard { level: Some(Level::Warn), ..Heard::default() });
        assert!(ask_stop(&master));
        assert_eq!(leash.heard(), Heard { stop: true, ..Heard::default() });
        drop(master);
        assert_eq!(leash.heard(), Heard::default());
    }

    #[test]
    fn a_leash_tells_whose_bans_are_lifted() {
        let (master, instance) = UnixStream::pair().unwrap();
        let leash = Leash(mio::net::UnixStream::from_std(instance));
        let sources = ["192.0.2.1", "2001:db8::7"].map(Source::parse);
        for source in sources.into_iter().chain([None]) {
            assert!(ask_lift(&master, source));
        }
        assert!(ask_level(&master, Level::Debug));
        let lift = vec![sources[0], sources[1], None];
        assert_eq!(leash.heard(), Heard { level: Some(Level::Debug), lift, ..Heard::default() });
    }

    #[test]
    fn a_leash_tells_the_url_of_the_next_process_and_one_that_is_too_long_is_not_said() {
        let (master, instance) = UnixStream::pair().unwrap();
        let leash = Leash(mio::net::UnixStream::from_std(instance));
        let url = "x".repeat(usize::from(MAX_URL));
        assert!(ask_next(&master, &url) && ask_level(&master, Level::Debug));
        let heard = Heard { level: Some(Level::Debug), next: Some(url.clone()), ..Heard::default() };
        assert_eq!(leash.heard(), heard);
        assert!(!ask_next(&master, &(url + "x")));
        assert_eq!(leash.heard(), Heard::default());
    }
}
