//! A connection that carries one stream after another, over TLS or bare TCP: see [`crate::logic::serial`] for what is said around them.
//!
//! ```text
//!   send:  Open <-> Bytes --finish--> Ended        Open --much was said in the clear, or only one stream is to come--> Rest
//!   both ended --> the egress says that it is through (renew), the ingress hears it (renewed) --> Open, for the next stream
//! ```
//!
//! The end of the egress has said so already where it had passed on all that came before the end of the ingress.
//!
//! In the clear much goes through the kernel alone, which knows no heads: a direction in which much is said has the rest of the connection
//! to itself, ends with it, and no stream follows.

use std::io::{self, ErrorKind};
use std::ops::Range;

use super::lower::{gone, Lower};
use super::pipe::Splice;
use super::rest::Rest;
use super::stream::{ready, Buffer, Stream};
use super::tcp::Tcp;
use crate::logic::serial::{Counts, Head, Incoming, Renewed, Taken, MOST, SHORT};
use crate::logic::wire::Fingerprint;

/// A connection that carries one stream after another.
pub struct Serial {
    lower: Box<dyn Lower>,
    /// Nothing is between us and the socket.
    plain: bool,
    incoming: Incoming,
    /// What came after the end of a stream.
    ahead: Rest,
    counts: Counts,
    /// The connection has ended, and so has this stream's other direction.
    cut: bool,
    send: Send,
    /// A head, and how much of it has still to go.
    head: Head,
    held: usize,
    /// Bytes of this stream after which it has the rest of the connection to itself.
    most: u64,
    /// The end of our direction follows what waits.
    last: bool,
}

/// How far our direction has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Send {
    /// A head may come next.
    Open,
    /// So many bytes of those that a head has promised are still to go.
    Bytes(usize),
    /// Everything is the stream's.
    Rest,
    /// The stream has ended.
    Ended,
}

/// A connection that carries one stream after another.
pub trait Successive: Stream {
    /// The stream that begins is the last one.
    fn keep_to_one(&mut self);
    /// The connection is to wait behind others for its next user: our end tells that, too (egress).
    fn wait_behind(&mut self);
    /// All that has come of the stream was passed on, but for so many bytes: our end tells of that (egress).
    fn passed_on(&mut self, all_but: usize);
    /// Whether both directions have ended, and the connection has not: another stream may follow.
    fn is_over(&self) -> bool;
    /// Says that we are through with a stream that is over, unless our end has said so: the next one may begin. What cannot be sent now goes
    /// with the next flush.
    fn renew(&mut self) -> io::Result<Renewed>;
    /// Whether the other side is through with a stream that is over: the next one may begin. `None` owes an edge.
    fn renewed(&mut self) -> io::Result<Option<Renewed>>;
}

impl Serial {
    /// Over TLS.
    pub fn sealed(lower: Box<dyn Lower>) -> Serial {
        Serial::over(lower, false)
    }

    /// Over a socket.
    pub fn plain(tcp: Tcp) -> Serial {
        Serial::over(Box::new(tcp), true)
    }

    fn over(lower: Box<dyn Lower>, plain: bool) -> Serial {
        Serial {
            lower,
            plain,
            incoming: Incoming::default(),
            ahead: Rest::default(),
            counts: Counts::default(),
            cut: false,
            send: Send::Open,
            head: Head::END,
            held: 0,
            most: most(plain),
            last: false,
        }
    }

    /// As [`Tcp::waiting`].
    pub fn waiting(&mut self) -> io::Result<usize> {
        match self.incoming.has_ended() || self.cut {
            true => Ok(0),
            false if !self.ahead.is_empty() => Ok(self.ahead.bytes().len()),
            false => self.lower.waiting(),
        }
    }

    /// Whether nothing is between us and a socket whose other side has announced no end.
    pub fn is_plain_and_open(&mut self) -> bool {
        self.plain && !self.lower.socket().is_ending()
    }

    /// The socket underneath.
    pub fn socket(&mut self) -> &mut Tcp {
        self.lower.socket()
    }

    /// The fingerprint of the certificate that the other side showed.
    pub fn peer_fingerprint(&self) -> Option<Fingerprint> {
        self.lower.fingerprint()
    }

    fn begin(&mut self) {
        (self.incoming, self.counts, self.send) = (Incoming::default(), Counts::default(), Send::Open);
        (self.most, self.last) = (most(self.plain), false);
    }

    fn say(&mut self, head: Head) {
        (self.head, self.held) = (head, head.size());
    }

    /// The head before the next of `waiting` bytes.
    fn promise(&mut self, waiting: usize) {
        if self.counts.said >= self.most {
            self.say(Head::REST);
            self.send = Send::Rest;
            return;
        }
        // With its head it fills whole records: a byte more would be a record of its own.
        let whole = (waiting + SHORT) / RECORD * RECORD;
        let left = if whole > 0 { whole - SHORT } else { waiting }.min(MOST);
        self.say(Head::before(left));
        self.send = Send::Bytes(left);
    }

    /// Takes in what has come already, or else what the connection has: where the stream's bytes are. `None` at its end.
    fn take_in(&mut self, room: &mut [u8]) -> io::Result<Option<Range<usize>>> {
        let early = self.ahead.bytes().len().min(room.len());
        let count = match early {
            0 => self.lower.read(room)?,
            early => early,
        };
        if count == 0 {
            return Ok(None);
        }
        room[..early].copy_from_slice(&self.ahead.bytes()[..early]);
        let invalid = |why| io::Error::new(ErrorKind::InvalidData, why);
        let Taken { bytes, used } = self.incoming.take(&mut room[..count]).map_err(invalid)?;
        match early {
            0 => self.ahead.add(&room[used..count]),
            _ => self.ahead.consume(used),
        }
        Ok(Some(bytes))
    }

    /// Sends what is held back of a head.
    fn push(&mut self) -> io::Result<()> {
        while self.held > 0 {
            self.held -= self.lower.put([self.head.last(self.held), &[], &[]])?;
        }
        self.lower.flush()
    }
}

impl Stream for Serial {
    fn fill(&mut self, into: &mut Buffer) -> io::Result<usize> {
        loop {
            if self.incoming.has_ended() || self.cut {
                return Ok(0);
            }
            let is_first = into.is_empty();
            let room = into.room(1);
            let Some(bytes) = self.take_in(room)? else {
                self.cut = true;
                return Ok(0);
            };
            self.counts.heard += bytes.len() as u64;
            match (bytes.len(), is_first) {
                (0, _) => {}
                (count, true) => {
                    // The heads before it are passed over: nothing has to be moved.
                    into.advance(bytes.end);
                    into.consume(bytes.start);
                    return Ok(count);
                }
                (count, false) => {
                    room.copy_within(bytes, 0);
                    into.advance(count);
                    return Ok(count);
                }
            }
        }
    }

    fn drain(&mut self, from: &mut Buffer) -> io::Result<usize> {
        let before = from.bytes().len();
        while from.bytes().len() == before {
            if let Send::Open = self.send {
                self.push()?;
                self.promise(before);
            }
            let left = match self.send {
                Send::Bytes(left) => left,
                Send::Rest => before,
                Send::Open | Send::Ended => {
                    return Err(io::Error::new(ErrorKind::BrokenPipe, "the stream has ended"));
                }
            };
            let is_last = self.last && self.send == Send::Bytes(before);
            let end = is_last.then(|| Head::end(self.counts.end()));
            let last = end.as_ref().map_or(&[][..], |end| end.last(end.size()));
            let count = before.min(left);
            let sent = self.lower.put([self.head.last(self.held), &from.bytes()[..count], last])?;
            let [heads, bytes, ends] = gone(sent, self.held, count);
            self.held -= heads;
            self.counts.said += bytes as u64;
            from.consume(bytes);
            if let Send::Bytes(left) = self.send {
                self.send = if left == bytes { Send::Open } else { Send::Bytes(left - bytes) };
            }
            if let Some(end) = end.filter(|_| ends > 0) {
                self.say(end);
                self.held -= ends;
                self.send = Send::Ended;
            }
        }
        Ok(before - from.bytes().len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.push()
    }

    fn finish(&mut self) -> io::Result<()> {
        if let Send::Bytes(_) = self.send {
            return Err(io::Error::other("an end within what was promised"));
        }
        self.push()?;
        if self.cut || self.send == Send::Rest {
            // The connection ends with the stream.
            return self.lower.finish();
        }
        if self.send != Send::Ended {
            let end = Head::end(self.counts.end());
            self.say(end);
            self.send = Send::Ended;
        }
        self.push()
    }

    fn is_ending(&self) -> bool {
        self.incoming.has_ended() || self.cut || self.incoming.is_rest() && self.lower.is_ending()
    }

    fn ends_with(&mut self) {
        match self.send {
            Send::Rest => self.lower.ends_with(),
            _ => self.last = true,
        }
    }

    fn source(&mut self) -> Option<&mut dyn Splice> {
        self.incoming.is_rest().then(|| self.lower.source())?
    }

    fn sink(&mut self) -> Option<&mut dyn Splice> {
        (self.send == Send::Rest && self.held == 0).then(|| self.lower.sink())?
    }
}

impl Successive for Serial {
    fn keep_to_one(&mut self) {
        self.most = 0;
    }

    fn wait_behind(&mut self) {
        self.counts.wait_behind();
    }

    fn passed_on(&mut self, all_but: usize) {
        self.counts.passed_on(all_but);
    }

    fn is_over(&self) -> bool {
        self.send == Send::Ended && self.held == 0 && self.incoming.has_ended() && !self.cut
    }

    fn renew(&mut self) -> io::Result<Renewed> {
        let (told, renewed) = (self.counts.has_told_all(), self.counts.renewed());
        if !self.is_over() || !told && !self.ahead.is_empty() {
            return Err(io::Error::new(ErrorKind::InvalidData, "the next stream before the end of this one"));
        }
        self.begin();
        if !told {
            self.say(Head::NEXT);
        }
        ready(self.push()).map(|_| renewed)
    }

    fn renewed(&mut self) -> io::Result<Option<Renewed>> {
        while !self.incoming.is_free() && !self.counts.is_all(self.incoming.told()) {
            let mut came = [0; SHORT];
            let most = self.incoming.missing();
            match ready(self.take_in(&mut came[..most]))? {
                None => return Ok(None),
                Some(None) => return Err(ErrorKind::UnexpectedEof.into()),
                Some(Some(_)) => {}
            }
        }
        let renewed = Renewed::after(self.incoming.told());
        self.begin();
        Ok(Some(renewed))
    }
}

/// After how many bytes a stream has the rest of its connection to itself.
fn most(plain: bool) -> u64 {
    if plain {
        MUCH
    } else {
        u64::MAX
    }
}

/// A stream of so many bytes in the clear costs less where the kernel moves the rest of it than a new connection costs.
const MUCH: u64 = 64 * 1024;
/// The most plaintext of a TLS record, in bytes.
const RECORD: usize = 16 * 1024;
