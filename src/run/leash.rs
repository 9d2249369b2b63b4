//! The leash: stdin, when a master holds its other end. It breaks when the master is gone, however that came about; the
//! instance then leaves as it does on SIGTERM.

use std::env::var_os;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use mio::{Interest, Registry, Token};

/// Whether this process is the child of a master.
pub fn is_held() -> bool {
    var_os(NAME).is_some_and(|value| value == VALUE)
}

/// Has a broken leash reported as the end of the reading direction of `token`. Nothing more is read from it. Must be kept
/// for as long as it is watched.
pub(super) fn watch(registry: &Registry, token: Token) -> io::Result<mio::net::UnixStream> {
    // It may as well be a pipe: watching a descriptor needs no more than a number.
    let stdin = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut leash = mio::net::UnixStream::from_std(stdin);
    registry.register(&mut leash, token, Interest::READABLE)?;
    Ok(leash)
}

/// The variable by which a master tells its children that they are on a leash, and that their log is to be coloured.
/// Between processes of this program only.
pub const NAME: &str = "NP_LEASH";

/// Its value.
pub const VALUE: &str = "1";
