//! How far the two directions of a WebSocket have come.

use std::io::ErrorKind;

use super::mask::{Mask, Masks};

/// How far the peer's direction has come.
pub(super) enum RecvState {
    /// A frame's header comes next.
    Between,
    /// In the payload of a frame; never at its end.
    Payload { left: u64, mask: Mask },
    /// The peer has sent all, and has told so much of what it passed on. Control frames still come.
    Ended(Option<u64>),
    /// The peer has sent all of its user, has told so much, and is free for the next one.
    Free(Option<u64>),
    /// The peer has sent Close: nothing comes any more.
    Closed,
    /// The peer broke the rules, was cut off, or closed for a reason that is an error.
    Failed(ErrorKind, String),
}

/// Where a frame stands in a fragmented message.
pub(super) enum Message {
    /// The next data frame begins one.
    None,
    /// The next data frame continues one, which had no bytes so far if it is `empty`.
    Begun { empty: bool },
}

/// How far our direction has come.
pub(super) enum SendState {
    /// A frame may begin.
    Open,
    /// A frame has begun: this many bytes of payload are promised, and masked already where they wait.
    Sending { left: usize },
    /// All was sent, and an empty message to say so. Close is still to come.
    Marked,
    /// Close was sent.
    Closed,
    /// The stream below has ended too.
    Ended,
}

/// A client masks what it sends, a server must not.
pub(super) enum Masking {
    Client(Masks),
    Server,
}
