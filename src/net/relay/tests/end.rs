//! One end of a simulated relay, and the far peer behind it.

use std::collections::VecDeque;

use super::*;

/// One end of the relay and the far peer behind it.
pub(super) struct Fake {
    pub(super) chance: Dice,
    /// Whether chance plays a part; otherwise all goes as far as it can.
    fickle: bool,
    /// Most bytes on their way, in each direction.
    pub(super) window: usize,

    // From the far peer.
    pub(super) arriving: VecDeque<u8>,
    pub(super) to_say: usize,
    pub(super) said: usize,
    /// The far peer has ended its direction.
    pub(super) fin: bool,
    /// It says nothing before it has heard everything.
    pub(super) answers: bool,
    /// Bytes that the relay took in, known ones included.
    pub(super) taken: usize,
    pub(super) fills: usize,
    read_end: bool,

    // To the far peer.
    pub(super) leaving: VecDeque<u8>,
    /// Bytes kept back as a TLS session does, and how many may be.
    pub(super) held: VecDeque<u8>,
    pub(super) hold: usize,
    pub(super) given: usize,
    pub(super) heard: usize,
    pub(super) finished: bool,
    pub(super) heard_end: bool,
    /// `drain` takes only multiples of this.
    pub(super) grain: usize,
    pub(super) credit: Option<Credit>,

    // Readiness, remembered; and the far kernel, which may sleep.
    pub(super) readable: bool,
    pub(super) writable: bool,
    read_edge: bool,
    write_edge: bool,
    deaf: bool,
    mute: bool,
    slow_finish: usize,
    nap: usize,
    pub(super) breaks_after: Option<usize>,
}

/// Leave for the far peer to say more, given back as its bytes are taken in: output that filling makes.
pub(super) struct Credit {
    pub(super) allowed: usize,
    pub(super) owed: usize,
    /// It is still sent through the stream after the stream's own end.
    pub(super) outlives_finish: bool,
}

impl Fake {
    pub(super) fn new(chance: &mut Dice) -> Fake {
        let window = 1 + chance.below(100);
        let to_say = if chance.one_in(8) { 0 } else { chance.below(1000) };
        let mut fake = Fake::awake(to_say, window);
        fake.chance = Dice(chance.next());
        fake.fickle = true;
        fake.hold = if chance.one_in(2) { 1 + chance.below(50) } else { 0 };
        fake.slow_finish = chance.below(3);
        if chance.one_in(3) {
            fake.credit = Some(Credit { allowed: window, owed: 0, outlives_finish: false });
        }
        fake
    }

    /// An end without whims: what can be done is done.
    pub(super) fn awake(to_say: usize, window: usize) -> Fake {
        Fake {
            chance: Dice(0),
            fickle: false,
            window,
            arriving: VecDeque::new(),
            to_say,
            said: 0,
            fin: false,
            answers: false,
            taken: 0,
            fills: 0,
            read_end: false,
            leaving: VecDeque::new(),
            held: VecDeque::new(),
            hold: 0,
            given: 0,
            heard: 0,
            finished: false,
            heard_end: false,
            grain: 1,
            credit: None,
            readable: true,
            writable: true,
            read_edge: false,
            write_edge: false,
            deaf: false,
            mute: false,
            slow_finish: 0,
            nap: 0,
            breaks_after: None,
        }
    }

    // The far peer.

    /// One moment of the far peer's life: it sleeps on, or does one thing as far as it goes.
    pub(super) fn live(&mut self) {
        if self.nap > 0 {
            self.nap -= 1;
            return;
        }
        match self.chance.below(4) {
            0 => self.say(),
            1 => self.hear(),
            2 => self.deaf = false,
            _ => self.mute = false,
        }
        self.owe();
        if self.chance.one_in(4) {
            self.nap = self.chance.below(20);
        }
    }

    pub(super) fn say(&mut self) {
        while self.may_say() {
            self.arriving.push_back(pattern(self.said));
            self.said += 1;
            if let Some(credit) = &mut self.credit {
                credit.allowed -= 1;
            }
        }
        self.fin |= self.may_end();
    }

    fn hear(&mut self) {
        for byte in self.leaving.drain(..) {
            assert_eq!(byte, pattern(self.heard), "byte {} is another one", self.heard);
            self.heard += 1;
        }
        self.heard_end |= self.finished;
    }

    fn may_say(&self) -> bool {
        let allowed = self.credit.as_ref().is_none_or(|credit| credit.allowed > 0);
        let asked = !self.answers || self.heard_end;
        asked && allowed && self.said < self.to_say && self.arriving.len() < self.window
    }

    fn may_end(&self) -> bool {
        !self.fin && self.said == self.to_say && (!self.answers || self.heard_end)
    }

    /// Whether the far peer, or the kernel between, has anything left to do on its own.
    pub(super) fn can_act(&self) -> bool {
        let hears = !self.leaving.is_empty() || self.finished && !self.heard_end;
        hears || self.may_say() || self.may_end() || self.deaf || self.mute
    }

    // Edges.

    /// Queues the edges that are owed after a `WouldBlock`, and no others.
    fn owe(&mut self) {
        self.read_edge |= !self.readable && !self.deaf && (!self.arriving.is_empty() || self.fin && !self.read_end);
        self.write_edge |= !self.writable && !self.mute && self.leaving.len() + self.grain <= self.window;
    }

    pub(super) fn has_edges(&self) -> bool {
        self.read_edge || self.write_edge
    }

    /// Delivers one or both of the edges that are queued, in no fixed order.
    pub(super) fn deliver(&mut self) -> bool {
        let (read, write) = (self.chance.one_in(2), self.chance.one_in(2));
        let before = self.has_edges();
        if read && std::mem::take(&mut self.read_edge) {
            self.readable = true;
        }
        if write && std::mem::take(&mut self.write_edge) {
            self.writable = true;
        }
        before && (read || write)
    }

    // The kernel's side.

    pub(super) fn breaks(&mut self) -> io::Result<()> {
        match &mut self.breaks_after {
            Some(0) => Err(ErrorKind::ConnectionReset.into()),
            Some(calls) => {
                *calls -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// How much of `count` goes at once.
    fn portion(&mut self, count: usize) -> usize {
        if self.fickle && self.chance.one_in(2) {
            1 + self.chance.below(count)
        } else {
            count
        }
    }

    fn can_write(&mut self, want: usize) -> bool {
        self.mute |= self.fickle && self.chance.one_in(6);
        self.writable &= !self.mute && self.leaving.len() + want <= self.window;
        self.writable
    }

    /// Sends what is held back and the credit that is owed.
    fn push(&mut self) -> io::Result<()> {
        while !self.held.is_empty() {
            if !self.can_write(1) {
                return would_block();
            }
            let count = self.portion(self.held.len().min(self.window - self.leaving.len()));
            self.leaving.extend(self.held.drain(..count));
        }
        if self.credit.as_ref().is_some_and(|credit| credit.owed > 0) {
            let free = self.finished && !self.credit.as_ref().is_some_and(|credit| credit.outlives_finish);
            if !free && !self.can_write(0) {
                return would_block();
            }
            if let Some(credit) = &mut self.credit {
                credit.allowed += std::mem::take(&mut credit.owed);
            }
        }
        Ok(())
    }
}

impl Stream for Fake {
    fn fill(&mut self, into: &mut Buffer) -> io::Result<usize> {
        self.breaks()?;
        self.fills += 1;
        assert!(!into.is_full(), "a buffer without room");
        assert!(!self.read_end, "the end was read already");
        self.deaf |= self.fickle && self.chance.one_in(6);
        self.readable &= !self.deaf && (!self.arriving.is_empty() || self.fin);
        if !self.readable {
            return would_block();
        }
        if self.arriving.is_empty() {
            self.read_end = true;
            return Ok(0);
        }
        let count = self.portion(into.room(1).len().min(self.arriving.len()));
        let bytes: Vec<u8> = self.arriving.drain(..count).collect();
        assert_eq!(into.append(&bytes), count);
        self.taken += count;
        if let Some(credit) = &mut self.credit {
            credit.owed += count;
        }
        ready(self.push())?;
        Ok(count)
    }

    fn drain(&mut self, from: &mut Buffer) -> io::Result<usize> {
        self.breaks()?;
        assert!(!from.is_empty(), "nothing to drain");
        assert!(!self.finished, "bytes after the end");
        let whole = from.bytes().len() / self.grain * self.grain;
        if whole == 0 {
            return would_block();
        }
        let count = if self.hold > 0 {
            self.push()?;
            whole.min(self.hold)
        } else if self.can_write(self.grain) {
            let space = (self.window - self.leaving.len()).min(whole);
            self.portion(space / self.grain) * self.grain
        } else {
            return would_block();
        };
        self.held.extend(&from.bytes()[..count]);
        if self.hold == 0 {
            self.leaving.append(&mut self.held);
        }
        from.consume(count);
        self.given += count;
        ready(self.push())?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.breaks()?;
        self.push()
    }

    fn finish(&mut self) -> io::Result<()> {
        self.breaks()?;
        assert!(!self.finished, "a second end");
        assert!(self.held.is_empty(), "the end overtakes bytes");
        if self.slow_finish > 0 {
            self.slow_finish -= 1;
            (self.mute, self.writable) = (true, false);
            return would_block();
        }
        self.finished = true;
        Ok(())
    }
}

impl std::fmt::Display for Fake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Fake { said, to_say, fin, taken, given, heard, finished, .. } = self;
        let (arriving, leaving, held) = (self.arriving.len(), self.leaving.len(), self.held.len());
        write!(f, "said {said} of {to_say}, fin {fin}, arriving {arriving}, taken {taken}; given {given}, ")?;
        write!(f, "held {held}, leaving {leaving} of {}, heard {heard}, finished {finished}; ", self.window)?;
        write!(f, "readable {}, writable {}", self.readable, self.writable)
    }
}

/// The byte at that place of every flow.
pub(super) fn pattern(at: usize) -> u8 {
    (at ^ at >> 8).wrapping_mul(167) as u8
}
