//! Datagrams on their way within the program: each behind its length, as they travel between peers.

use std::collections::VecDeque;

use crate::logic::wire::{frame_header, next_frame, Frame, FRAME_HEADER};
use crate::net::stream::Buffer;

/// Some datagrams in the order in which they came. Empty, it holds no memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frames {
    bytes: Vec<u8>,
    /// Bytes at the front that were taken out.
    taken: usize,
    count: usize,
    longest: usize,
}

impl Frames {
    /// Adds a datagram, which may be in pieces.
    pub fn push(&mut self, pieces: &[&[u8]]) {
        let len = pieces.iter().map(|piece| piece.len()).sum();
        self.bytes.reserve(FRAME_HEADER + len);
        self.bytes.extend_from_slice(&frame_header(len));
        pieces.iter().for_each(|piece| self.bytes.extend_from_slice(piece));
        (self.count, self.longest) = (self.count + 1, self.longest.max(len));
    }

    /// The whole frames at the front of these bytes.
    pub fn read(bytes: &[u8]) -> Frames {
        let (mut frames, mut rest) = (Frames::default(), bytes);
        while let Frame::Whole(payload) = next_frame(rest) {
            frames.push(&[&rest[payload.clone()]]);
            rest = &rest[payload.end..];
        }
        frames
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Their bytes, without the lengths.
    pub fn payload(&self) -> usize {
        self.bytes.len() - self.taken - FRAME_HEADER * self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Moves whole frames into `into`, as many as fit: how many bytes.
    pub fn take(&mut self, into: &mut Buffer) -> usize {
        let rest = &self.bytes[self.taken..];
        let Frame::Whole(first) = next_frame(rest) else { return 0 };
        let room = into.room(first.end).len();
        let (mut end, mut moved) = (0, 0);
        while let Frame::Whole(payload) = next_frame(&rest[end..]) {
            if end + payload.end > room {
                break;
            }
            (end, moved) = (end + payload.end, moved + 1);
        }
        into.append(&rest[..end]);
        self.taken += end;
        self.count -= moved;
        self.tidy();
        end
    }

    /// Takes the first datagram out, to the front of `into`: its bytes.
    pub fn pop(&mut self, into: &mut [u8]) -> Option<usize> {
        let rest = &self.bytes[self.taken..];
        let Frame::Whole(payload) = next_frame(rest) else { return None };
        let (len, end) = (payload.len(), payload.end);
        into[..len].copy_from_slice(&rest[payload]);
        self.taken += end;
        self.count -= 1;
        self.tidy();
        Some(len)
    }

    /// Each datagram.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.bytes[self.taken..];
        std::iter::from_fn(move || {
            let Frame::Whole(payload) = next_frame(rest) else { return None };
            let (packet, after) = (&rest[payload.clone()], &rest[payload.end..]);
            rest = after;
            Some(packet)
        })
    }

    fn tidy(&mut self) {
        if self.is_empty() {
            *self = Frames::default();
        }
    }
}

/// Datagrams that wait for their session's relay.
#[derive(Default)]
pub struct Inbox {
    waiting: VecDeque<Frames>,
    count: usize,
    payload: usize,
}

impl Inbox {
    /// Adds those of at most `largest` bytes, as long as there is room for `most` bytes: how many were lost. One may wait in any case.
    pub fn add(&mut self, frames: Frames, largest: usize, most: usize) -> usize {
        let (count, payload) = (frames.count(), frames.payload());
        let fits = self.count + count <= INBOX && self.payload + payload <= most;
        if frames.longest <= largest && fits {
            (self.count, self.payload) = (self.count + count, self.payload + payload);
            self.waiting.push_back(frames);
            return 0;
        }
        let mut some = Frames::default();
        let mut lost = 0;
        for packet in frames.iter() {
            let has_room = self.count == 0 || self.count < INBOX && self.payload + packet.len() <= most;
            if packet.len() <= largest && has_room {
                (self.count, self.payload) = (self.count + 1, self.payload + packet.len());
                some.push(&[packet]);
            } else {
                lost += 1;
            }
        }
        if !some.is_empty() {
            self.waiting.push_back(some);
        }
        lost
    }

    /// As [`Frames::take`]; how many bytes were moved, and how many of them are payload.
    pub fn take(&mut self, into: &mut Buffer) -> (usize, usize) {
        let (mut moved, mut payload) = (0, 0);
        while let Some(frames) = self.waiting.front_mut() {
            let (count, bytes) = (frames.count(), frames.payload());
            moved += frames.take(into);
            self.count -= count - frames.count();
            payload += bytes - frames.payload();
            if !frames.is_empty() {
                break;
            }
            self.waiting.pop_front();
        }
        self.payload -= payload;
        (moved, payload)
    }

    /// All that wait, behind those in `frames`.
    pub fn empty_into(&mut self, frames: &mut Frames) {
        std::mem::take(self).waiting.iter().flat_map(Frames::iter).for_each(|packet| frames.push(&[packet]));
    }

    /// As [`Frames::pop`].
    pub fn pop(&mut self, into: &mut [u8]) -> Option<usize> {
        let frames = self.waiting.front_mut()?;
        let len = frames.pop(into)?;
        (self.count, self.payload) = (self.count - 1, self.payload - len);
        if frames.is_empty() {
            self.waiting.pop_front();
        }
        Some(len)
    }
}

/// Most datagrams that wait for one session's relay.
pub(super) const INBOX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn of(packets: &[&[u8]]) -> Frames {
        let mut frames = Frames::default();
        packets.iter().for_each(|packet| frames.push(&[packet]));
        frames
    }

    #[test]
    fn datagrams_come_out_as_they_went_in_one_by_one_or_as_frames() {
        let mut frames = of(&[b"one", b"", b"three"]);
        frames.push(&[b"in ", b"pieces"]);
        assert_eq!((frames.count(), frames.payload()), (4, 17));
        assert!(frames.iter().eq([&b"one"[..], b"", b"three", b"in pieces"]));
        let mut packet = [0; 8];
        assert_eq!(frames.pop(&mut packet), Some(3));
        assert_eq!(&packet[..3], b"one");
        let mut buffer = Buffer::new(12);
        assert_eq!(frames.take(&mut buffer), 9);
        assert_eq!(buffer.bytes(), b"\0\0\0\x05three");
        assert_eq!(frames.take(&mut buffer), 0, "there is no room");
        buffer.consume(9);
        assert_eq!(frames.take(&mut buffer), 11);
        assert_eq!(buffer.bytes(), b"\0\x09in pieces");
        assert_eq!(frames, Frames::default());
        assert_eq!(frames.pop(&mut packet), None);
    }

    #[test]
    fn what_waits_goes_behind_what_was_read_back_from_frames() {
        let mut frames = Frames::read(b"\0\x03one\0\0\0\x05three\0\x09in pie");
        assert!(frames.iter().eq([&b"one"[..], b"", b"three"]));
        let mut inbox = Inbox::default();
        inbox.add(of(&[b"four"]), 100, 100);
        inbox.add(of(&[b"", b"six"]), 100, 100);
        let mut packet = [0; 8];
        assert_eq!(inbox.pop(&mut packet), Some(4));
        inbox.empty_into(&mut frames);
        assert!(frames.iter().eq([&b"one"[..], b"", b"three", b"", b"six"]));
        assert_eq!((frames.count(), inbox.pop(&mut packet)), (5, None));
    }

    #[test]
    fn an_inbox_takes_what_it_has_room_for_and_one_in_any_case() {
        let mut inbox = Inbox::default();
        assert_eq!(inbox.add(of(&[b"far too much", b"more"]), 100, 5), 1);
        let mut buffer = Buffer::new(100);
        assert_eq!(inbox.take(&mut buffer), (14, 12));
        assert_eq!(inbox.take(&mut buffer), (0, 0));
        assert_eq!(inbox.add(of(&[b"ab", b"too large", b"cd", b"e", b"f"]), 5, 5), 2);
        assert_eq!(inbox.add(of(&[b""]), 5, 5), 0);
        let mut packet = [0; 8];
        assert_eq!(inbox.pop(&mut packet), Some(2));
        assert_eq!(inbox.take(&mut buffer), (9, 3));
        assert_eq!((inbox.count, inbox.payload, inbox.waiting.len()), (0, 0, 0));
    }
}
