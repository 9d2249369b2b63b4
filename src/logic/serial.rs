//! Streams one after another over one connection: the heads between their bytes, of two bytes each, big-endian.
//!
//! ```text
//!  0001 ... fffc   so many bytes of the stream follow
//!  0000            this direction of the stream ends
//!  fffd            the same, said by the egress: eight bytes follow, how many of the other direction it has passed on, and by their
//!                  highest bit whether the connection is to wait behind others
//!  fffe            all that follows is this stream's, until the connection ends
//!  ffff            after both ends, said by the egress: it is through with the stream, and the next one may begin
//!
//!  Head <-> Bytes    Head --0000, fffd--> Ended --ffff--> Free --next--> Head    Head --fffe--> Rest
//! ```
//!
//! Where the egress had passed on all that the ingress says before its own end, there is no `ffff`: see [`Counts`].

use std::ops::Range;

/// What stands before bytes of a stream, or after them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    bytes: [u8; LONGEST],
    len: usize,
}

impl Head {
    /// This direction ends.
    pub const END: Head = Head::short([0, 0]);
    /// The rest of the connection is this stream's.
    pub const REST: Head = Head::short([0xff, 0xfe]);
    /// The next stream may begin.
    pub const NEXT: Head = Head::short([0xff, 0xff]);

    /// Before so many bytes, 1 to [`MOST`].
    pub fn before(bytes: usize) -> Head {
        Head::short(u16::try_from(bytes.min(MOST)).unwrap_or(MOST as u16).to_be_bytes())
    }

    /// This direction ends, and so many bytes of the other one were passed on, where that is told.
    pub fn end(passed_on: Option<u64>) -> Head {
        let Some(count) = passed_on else { return Head::END };
        let mut bytes = [0; LONGEST];
        bytes[..SHORT].copy_from_slice(&COUNTED);
        bytes[SHORT..].copy_from_slice(&count.to_be_bytes());
        Head { bytes, len: LONGEST }
    }

    /// The last so many bytes of it.
    pub fn last(&self, count: usize) -> &[u8] {
        &self.bytes[self.len - count..self.len]
    }

    /// How many bytes it has.
    pub fn size(&self) -> usize {
        self.len
    }

    const fn short([high, low]: [u8; SHORT]) -> Head {
        let mut bytes = [0; LONGEST];
        (bytes[0], bytes[1]) = (high, low);
        Head { bytes, len: SHORT }
    }
}

/// How many bytes of a stream have come how far. Where nothing is on its way when both directions have ended, both sides know so, and the
/// egress need not say that it is through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Bytes that we said.
    pub said: u64,
    /// Bytes that we heard.
    pub heard: u64,
    /// How many of these have gone on to the target (egress).
    passed_on: Option<u64>,
    /// The connection is to wait behind others for its next user (egress).
    behind: bool,
    /// What our end told of that.
    told: Option<u64>,
}

impl Counts {
    /// All that was heard has gone on, but for so many bytes (egress).
    pub fn passed_on(&mut self, all_but: usize) {
        self.passed_on = Some(self.heard.saturating_sub(all_but as u64));
    }

    /// The connection is to wait behind others for its next user, since there is a better place for users than where it lives (egress).
    pub fn wait_behind(&mut self) {
        self.behind = true;
    }

    /// The connection, when this user has left it (egress).
    pub fn renewed(&self) -> Renewed {
        Renewed { behind: self.behind }
    }

    /// Our direction ends: what its end tells.
    pub fn end(&mut self) -> Option<u64> {
        self.told = self.passed_on;
        let behind = if self.behind { BEHIND } else { 0 };
        self.told.map(|count| count | behind)
    }

    /// Whether our end, after which the other side's came, has told that we are through (egress).
    pub fn has_told_all(&self) -> bool {
        self.told == Some(self.heard)
    }

    /// Whether an end that told so much tells that the other side is through (ingress).
    pub fn is_all(&self, told: Option<u64>) -> bool {
        told.is_some_and(|told| told & !BEHIND == self.said)
    }
}

/// A connection that another user may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewed {
    /// It is to wait behind others.
    pub behind: bool,
}

impl Renewed {
    /// After an end that told so much.
    pub fn after(told: Option<u64>) -> Renewed {
        Renewed { behind: told.is_some_and(|told| told & BEHIND != 0) }
    }
}

/// How far the other side has come.
#[derive(Debug, Default)]
pub struct Incoming {
    state: State,
    /// The first bytes of a head, and how many there are.
    part: [u8; LONGEST],
    came: usize,
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
    /// The direction has ended, and the end told so much.
    Ended(Option<u64>),
    /// The other side, whose end told so much, is through with the stream.
    Free(Option<u64>),
}

/// What was taken of what has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Where the stream's bytes are.
    pub bytes: Range<usize>,
    /// So much was taken: all, or up to the end of the stream. What follows may be the next stream's.
    pub used: usize,
}

impl Incoming {
    /// Takes heads out of what has come: the stream's bytes are in one piece then. The error says which rule the other side breaks.
    pub fn take(&mut self, came: &mut [u8]) -> Result<Taken, &'static str> {
        let (mut at, mut bytes) = (0, 0..0);
        while at < came.len() {
            let count = match self.state {
                State::Bytes(left) => usize::from(left).min(came.len() - at),
                State::Rest => came.len() - at,
                State::Head | State::Ended(_) | State::Free(_) => {
                    let has_more = self.head_byte(came[at])?;
                    at += 1;
                    if has_more {
                        continue;
                    }
                    break;
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
        Ok(Taken { bytes, used: at })
    }

    /// Whether the other side's direction has ended.
    pub fn has_ended(&self) -> bool {
        matches!(self.state, State::Ended(_) | State::Free(_))
    }

    /// What the other side's end told.
    pub fn told(&self) -> Option<u64> {
        match self.state {
            State::Ended(told) | State::Free(told) => told,
            _ => None,
        }
    }

    /// Whether all that comes is this stream's, until the connection ends.
    pub fn is_rest(&self) -> bool {
        self.state == State::Rest
    }

    /// Whether the other side is through with the stream.
    pub fn is_free(&self) -> bool {
        matches!(self.state, State::Free(_))
    }

    /// Bytes of the next head that are still to come.
    pub fn missing(&self) -> usize {
        SHORT - self.came
    }

    /// Takes one byte; whether more may follow that is the stream's.
    fn head_byte(&mut self, byte: u8) -> Result<bool, &'static str> {
        self.part[self.came] = byte;
        self.came += 1;
        let [high, low, ..] = self.part;
        let head = [high, low];
        let is_counted = head == COUNTED && self.state == State::Head;
        if self.came < SHORT || is_counted && self.came < LONGEST {
            return Ok(true);
        }
        self.came = 0;
        self.state = match (Head::short(head), self.state) {
            (Head::END, State::Head) => State::Ended(None),
            _ if is_counted => State::Ended(Some(u64::from_be_bytes(std::array::from_fn(|at| self.part[SHORT + at])))),
            (Head::REST, State::Head) => State::Rest,
            (Head::NEXT, State::Ended(told)) => State::Free(told),
            (_, State::Ended(_) | State::Free(_)) => return Err("bytes after the end of a stream"),
            _ => match u16::from_be_bytes(head) {
                count if usize::from(count) <= MOST => State::Bytes(count),
                _ => return Err("the head of no bytes"),
            },
        };
        Ok(!self.has_ended())
    }
}

/// The bit by which an end tells that the connection is to wait behind others.
const BEHIND: u64 = 1 << 63;
/// Bytes of most heads.
pub const SHORT: usize = 2;
/// Bytes of an end that tells how much was passed on.
const LONGEST: usize = SHORT + 8;
/// What such an end begins with.
const COUNTED: [u8; SHORT] = [0xff, 0xfd];
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
            let mut came = left[..pieces().clamp(1, left.len())].to_vec();
            let taken = incoming.take(&mut came)?;
            bytes.extend_from_slice(&came[taken.bytes]);
            left = &left[taken.used..];
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
                said.extend_from_slice(Head::before(count).last(SHORT));
                said.extend_from_slice(&bytes);
                meant.extend(bytes);
            }
            let told = Some(dice.next()).filter(|count| count % 2 == 0);
            let end = Head::end(told);
            said.extend_from_slice(end.last(end.size()));
            let mut incoming = Incoming::default();
            let bytes = heard(&mut incoming, &said, || 1 + dice.below(20u64) as usize);
            assert_eq!(bytes, Ok(meant));
            assert!(incoming.has_ended() && !incoming.is_free());
            assert_eq!(incoming.told(), told);
            // What follows an end may be the next stream's.
            said.extend_from_slice(b"\0\x01n");
            let taken = Incoming::default().take(&mut said).unwrap();
            assert_eq!(taken.used + 3, said.len());
            assert_eq!(heard(&mut incoming, Head::NEXT.last(SHORT), || 1), Ok(Vec::new()));
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
    fn an_end_tells_of_all_or_not_whatever_comes_later() {
        let mut egress = Counts { heard: 100, ..Counts::default() };
        assert_eq!(egress.end(), None, "an ingress passes on to users, which is nothing to be told");
        egress.passed_on(30);
        assert_eq!((egress.end(), egress.has_told_all()), (Some(70), false));
        egress.passed_on(0);
        assert_eq!((egress.end(), egress.has_told_all()), (Some(100), true));
        egress.heard += 1;
        assert!(!egress.has_told_all(), "a byte that came after the end");
        let ingress = Counts { said: 100, ..Counts::default() };
        assert_eq!([Some(100), Some(70), None].map(|told| ingress.is_all(told)), [true, false, false]);
        assert!(!Renewed::after(Some(100)).behind && !Renewed::after(None).behind);
        egress.wait_behind();
        egress.passed_on(1);
        let told = egress.end();
        assert!(ingress.is_all(told) && Renewed::after(told).behind && !egress.has_told_all());
    }

    #[test]
    fn who_breaks_the_rules_is_told_apart() {
        let counted = Head::end(Some(1));
        let twice = [counted.last(LONGEST), counted.last(LONGEST)].concat();
        for said in [&[0, 0, 0, 0][..], &[0, 0, 0, 1, 7], &[0xff, 0xff], &twice, &[0, 0, 0xff, 0xff, 0xff, 0xff]] {
            assert!(heard(&mut Incoming::default(), said, || 1).is_err(), "{said:?}");
        }
        let heads = [1, MOST, MOST + 1].map(|count| Head::before(count).last(SHORT).to_vec());
        assert_eq!(heads, [[0, 1], [0xff, 0xfc], [0xff, 0xfc]]);
    }
}
