//! The leash: stdin, when a master holds its other end. It breaks when the master is gone, however that came about; the
//! instance then leaves as it does on SIGTERM. What the master says along it is one byte each: another log level.

use std::env::var_os;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use mio::{Interest, Registry, Token};
use socket2::SockRef;

use crate::log::Level;

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

    /// The log level that was asked for last, since the last call.
    pub(super) fn level(&self) -> Option<Level> {
        let mut last = None;
        let mut byte = [MaybeUninit::<u8>::uninit()];
        // The descriptor itself may block: it is stdout, too. A pipe says nothing, and an end is an end.
        while let Ok(1..) = SockRef::from(&self.0).recv_with_flags(&mut byte, libc::MSG_DONTWAIT) {
            // SAFETY: one byte was received, so it is initialised.
            let byte = unsafe { byte[0].assume_init() };
            last = Level::ALL.get(usize::from(byte)).copied().or(last);
        }
        last
    }
}

/// Asks the instance at the other end of a leash for a log level. What cannot be said at once is not said: the instance is gone or stuck.
pub fn ask_level(leash: &UnixStream, level: Level) -> bool {
    SockRef::from(leash).send_with_flags(&[level as u8], libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL).is_ok()
}

/// The variable by which a master tells its children that they are on a leash, and that their log is to be coloured.
/// Between processes of this program only.
pub const NAME: &str = "NP_LEASH";

/// Its value.
pub const VALUE: &str = "1";
