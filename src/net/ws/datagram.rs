//! Messages that are datagrams: with a 1.14 peer, whose datagrams have no frames of ours around them.

use std::io;

use super::state::{Message, RecvState};
use super::Ws;
use crate::net::stream::{would_block, Buffer};

/// One message until it is whole. It takes no memory while nothing of it has come.
pub(super) struct Datagram {
    largest: usize,
    came: Option<Buffer>,
    /// More came than is carried: all of it is lost.
    too_large: bool,
}

impl Datagram {
    /// None yet; at most so many bytes are carried.
    pub(super) fn new(largest: usize) -> Datagram {
        Datagram { largest, came: None, too_large: false }
    }

    /// Whether nothing of one has come, or is held.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.came.is_none()
    }

    /// A whole message; 0 at the end. Two of them never share a buffer.
    pub(super) fn fill(&mut self, ws: &mut Ws, into: &mut Buffer) -> io::Result<usize> {
        if !into.is_empty() {
            return would_block();
        }
        loop {
            let ended = matches!(ws.recv, RecvState::Between) && matches!(ws.message, Message::None);
            if let Some(whole) = self.came.take_if(|_| ended) {
                if !std::mem::take(&mut self.too_large) {
                    return Ok(into.append(whole.bytes()));
                }
            }
            match &ws.recv {
                RecvState::Between => ws.head()?,
                RecvState::Payload { .. } => {
                    let came = self.came.get_or_insert_with(|| Buffer::new(self.largest.max(1)));
                    if came.is_full() {
                        came.consume(self.largest.max(1));
                        self.too_large = true;
                    }
                    ws.payload(came)?;
                }
                _ => return ws.read(into),
            }
        }
    }
}
