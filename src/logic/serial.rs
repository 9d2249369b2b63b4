//! Streams one after another over one connection: the heads between their bytes, of two bytes each, big-endian.
//!
//! ```text
//!  0001 ... fffc   so many bytes of the stream follow
//!  0000            this direction of the stream ends
//!  fffe            all that follows is this stream's, until the connection ends
//!  ffff            after both ends, said by the egress: it is through with the stream, and the next one may begin
//!
//!  Head <-> Bytes    Head --0000--> Ended --ffff--> Free --next--> Head    Head --fffe--> Rest
//! ```

use std::ops::Range;

/// A head.
pub type Head = [u8; 2];

/// This direction ends.
pub const END: Head = [0, 0];
/// The rest of the connection is this stream's.
pub const REST: Head = [0xff, 0xfe];
/// The next stream may begin.
pub const NEXT: Head = [0xff, 0xff];

/// What is said before so many bytes, 1 to [`MOST`].
pub fn head(bytes: usize) -> Head {
    u16::try_from(bytes.min(MOST)).unwrap_or(MOST as u16).to_be_bytes()
}

/// How far the other side has come.
#[derive(Debug, Default)]
pub struct Incoming {
    state: State,
    /// The first byte of a head.
    half: Option<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// A head comes next.
    #[default]
    Head,
    /// So many bytes of the stream.
    Bytes(u16),
    /// Bytes of the stream until the connection ends.
    Rest,
    /// The direction has ended.
    Ended,
    /// The other side is through with the stream.
    Free,
}

impl Incoming {
    /// Takes heads out of what has come: where the stream's bytes are then, in one piece. The error says which rule the other side breaks.
    pub fn take(&mut self, came: &mut [u8]) -> Result<Range<usize>, &'static str> {
        let (mut at, mut bytes) = (0, 0..0);
        while at < came.len() {
            let count = match self.state {
                State::Bytes(left) => usize::from(left).min(came.len() - at),
                State::Rest => came.len() - at,
                State::Head | State::Ended | State::Free => {
                    self.head_byte(came[at])?;
                    at += 1;
                    continue;
                }
            };
            if bytes.is_empty() {
                bytes = at..at;
            } else if bytes.end < at {
                came.copy_within(at..at + count, bytes.end);
            }
            bytes.end += count;
            at += count;
            self.state = match self.state {
                State::Bytes(left) if usize::from(left) == count => State::Head,
                State::Bytes(left) => State::Bytes(left - count as u16),
                other => other,
            };
        }
        Ok(bytes)
    }

    /// Whether the other side's direction has ended.
    pub fn has_ended(&self) -> bool {
        matches!(self.state, State::Ended | State::Free)
    }

    /// Whether all that comes is this stream's, until the connection ends.
    pub fn is_rest(&self) -> bool {
        self.state == State::Rest
    }

    /// Whether the other side is through with the stream.
    pub fn is_free(&self) -> bool {
        self.state == State::Free
    }

    /// Bytes of the next head that are still to come.
    pub fn missing(&self) -> usize {
        2 - usize::from(self.half.is_some())
    }

    fn head_byte(&mut self, byte: u8) -> Result<(), &'static str> {
        let Some(first) = self.half.take() else {
            self.half = Some(byte);
            return Ok(());
        };
        self.state = match ([first, byte], self.state) {
            (END, State::Head) => State::Ended,
            (REST, State::Head) => State::Rest,
            (NEXT, State::Ended) => State::Free,
            (_, State::Ended | State::Free) => return Err("bytes after the end of a stream"),
            (head, _) => match u16::from_be_bytes(head) {
                count if usize::from(count) <= MOST => State::Bytes(count),
                _ => return Err("the head of no bytes"),
            },
        };
        Ok(())
    }
}

/// Most bytes behind one head.
pub const MOST: usize = 0xfffc;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Dice;

    /// The stream's bytes in `said`, of which so many come at a time.
    fn heard(incoming: &mut Incoming, said: &[u8], pieces: impl FnMut() -> usize) -> Result<Vec<u8>, &'static str> {
        let (mut left, mut bytes, mut pieces) = (said, Vec::new(), pieces);
        while !left.is_empty() {
            let (now, later) = left.split_at(pieces().clamp(1, left.len()));
            let mut came = now.to_vec();
            let range = incoming.take(&mut came)?;
            bytes.extend_from_slice(&came[range]);
            left = later;
        }
        Ok(bytes)
    }

    #[test]
    fn bytes_come_out_as_they_were_said_however_they_are_cut() {
        let mut dice = Dice(1);
        for _ in 0..200 {
            let (mut said, mut meant) = (Vec::new(), Vec::new());
            for _ in 0..dice.below(8u64) {
                let count = 1 + dice.below(40u64) as usize;
                let bytes: Vec<u8> = (0..count).map(|_| dice.below(256u64) as u8).collect();
                said.extend_from_slice(&head(count));
                said.extend_from_slice(&bytes);
                meant.extend(bytes);
            }
            said.extend_from_slice(&END);
            let mut incoming = Incoming::default();
            let bytes = heard(&mut incoming, &said, || 1 + dice.below(20u64) as usize);
            assert_eq!(bytes, Ok(meant));
            assert!(incoming.has_ended() && !incoming.is_free());
            assert_eq!(heard(&mut incoming, &NEXT, || 1), Ok(Vec::new()));
            assert!(incoming.has_ended() && incoming.is_free());
        }
    }

    #[test]
    fn what_follows_is_this_stream_s_once_the_other_side_says_so() {
        let mut incoming = Incoming::default();
        let bytes = heard(&mut incoming, b"\x00\x01a\xff\xfe\x00\x00\xff\xff", || 4);
        assert_eq!(bytes, Ok(b"a\x00\x00\xff\xff".to_vec()));
        assert!(incoming.is_rest() && !incoming.has_ended());
    }

    #[test]
    fn who_breaks_the_rules_is_told_apart() {
        for said in [&[0, 0, 0, 0][..], &[0, 0, 0, 1, 7], &[0xff, 0xff], &[0xff, 0xfd], &[0, 0, 0xff, 0xff, 0xff, 0xff]]
        {
            assert!(heard(&mut Incoming::default(), said, || 1).is_err(), "{said:?}");
        }
        assert_eq!([head(1), head(MOST), head(MOST + 1)], [[0, 1], [0xff, 0xfc], [0xff, 0xfc]]);
    }
}
