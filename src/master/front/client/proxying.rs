//! The exchange with the server behind: a request is handed on, the head of its answer comes, and its body passes through.

use std::io::{self, ErrorKind};

use super::{refused, Means, Proxying, State, Step};
use crate::logic::http::end_of_head;
use crate::master::front::answer::{is_bodiless, Answered, BUSY};
use crate::master::front::cors::{lines, Grant};
use crate::master::front::link::Link;
use crate::master::front::request::MAX_HEAD;
use crate::net::leg::Own;
use crate::net::stream::{ready, Buffer};

/// What of a request matters to its answer.
#[derive(Clone, Copy)]
pub(super) struct Manner {
    pub(super) only_head: bool,
    pub(super) modern: bool,
    pub(super) keep: bool,
    pub(super) grant: Grant,
}

/// How much of an answer's body is to come from the server behind.
pub(super) enum Left {
    /// So many bytes.
    Bytes(u64, After),
    /// It is not known; it ends with the connection, on both sides.
    Stream,
}

/// What comes after an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    Reading,
    Closing,
}

/// Writes a request to the server behind; `WouldBlock` until all of it has gone.
pub(super) fn handed(link: &mut Link, request: &mut Buffer) -> io::Result<()> {
    while !request.is_empty() {
        link.drain(request)?;
    }
    Ok(())
}

/// Reads some of an answer's head; once it is whole, what it says, and the bytes that came behind it.
pub(super) fn awaited(
    link: &mut Link,
    head: &mut Vec<u8>,
    scratch: &mut Buffer,
) -> io::Result<Option<(Answered, Vec<u8>)>> {
    let count = link.fill(scratch, usize::MAX)?;
    let is_full = head.len() >= MAX_HEAD;
    head.extend_from_slice(scratch.bytes());
    scratch.consume(count);
    if count == 0 || is_full {
        return Err(ErrorKind::InvalidData.into());
    }
    let Some(end) = end_of_head(head, 0) else { return Ok(None) };
    let answered = Answered::parse(&head[..end]).ok_or(ErrorKind::InvalidData)?;
    Ok(Some((answered, head.split_off(end))))
}

/// What follows when the head of an answer has come, and `body` behind it.
pub(super) fn answer(answered: Answered, mut body: Vec<u8>, manner: Manner, means: &Means) -> Step {
    let Manner { only_head, modern, keep, grant } = manner;
    let length = match answered.length {
        _ if only_head || is_bodiless(answered.status) => Some(0),
        length => length,
    };
    if length.is_none() && !means.stream {
        return Step::On(refused(BUSY, manner, means));
    }
    let mut bytes = answered.head;
    bytes.extend_from_slice(lines(&means.cors, grant).as_bytes());
    bytes.extend_from_slice(match keep && length.is_some() {
        true if modern => b"\r\n",
        true => b"Connection: keep-alive\r\n\r\n",
        false => b"Connection: close\r\n\r\n",
    });
    let after = if keep { After::Reading } else { After::Closing };
    let left = match length {
        Some(length) => {
            body.truncate(usize::try_from(length).unwrap_or(usize::MAX));
            Left::Bytes(length - body.len() as u64, after)
        }
        None => Left::Stream,
    };
    bytes.append(&mut body);
    if let Left::Bytes(0, after) = left {
        return Step::On(State::Sending(Buffer::holding(bytes), after));
    }
    let mut buffer = Buffer::new(RELAYED.max(bytes.len()));
    buffer.append(&bytes);
    Step::Further(Proxying::Relaying(buffer, left))
}

/// Passes an answer's body on: no more is taken in than there is room for.
pub(super) fn relay(leg: &mut Own, link: &mut Link, buffer: &mut Buffer, left: &mut Left) -> io::Result<Step> {
    let mut dry = false;
    if !buffer.is_full() {
        let limit = match left {
            Left::Bytes(count, _) => usize::try_from(*count).unwrap_or(usize::MAX),
            Left::Stream => usize::MAX,
        };
        match (ready(link.fill(buffer, limit))?, left) {
            (None, _) => dry = true,
            // Cut short: the client can see that, as long as nothing follows.
            (Some(0), Left::Bytes(..)) => return Ok(Step::Leave),
            (Some(0), Left::Stream) => return Ok(Step::On(State::Sending(take(buffer), After::Closing))),
            (Some(count), Left::Bytes(bytes, after)) => {
                *bytes -= count as u64;
                if *bytes == 0 {
                    return Ok(Step::On(State::Sending(take(buffer), *after)));
                }
            }
            (Some(_), Left::Stream) => {}
        }
    }
    match buffer.is_empty() || ready(leg.stream().drain(buffer))?.is_none() {
        false => Ok(Step::Moved),
        true if dry || buffer.is_full() => Ok(Step::Wait),
        true => Ok(Step::Again),
    }
}

fn take(buffer: &mut Buffer) -> Buffer {
    std::mem::replace(buffer, Buffer::new(0))
}

/// Bytes of an answer on their way, for each client.
const RELAYED: usize = 16 * 1024;
