//! Bytes to numbers and texts, from the front. Every length is checked before anything is done with it.

/// Why something cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// The message ends before it does.
    Short,
    /// The file ends before it does.
    Cut,
    /// It cannot be so.
    Wrong(String),
    /// It is well made, and something else than a state.
    Foreign(String),
}

impl Flaw {
    /// It cannot be so.
    pub fn wrong(why: impl Into<String>) -> Flaw {
        Flaw::Wrong(why.into())
    }
}

/// What is still to be read: of the message at hand, and after it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bytes<'a> {
    message: &'a [u8],
    after: &'a [u8],
}

impl<'a> Bytes<'a> {
    /// All of a file, before its first message.
    pub fn new(file: &'a [u8]) -> Bytes<'a> {
        Bytes { message: &[], after: file }
    }

    /// Goes on to the next message. False if the file ends within it; then what there is of it can be read.
    pub fn next_message(&mut self) -> Result<bool, Flaw> {
        let mut after = Bytes { message: self.after, after: &[] };
        let length = after.uint().map_err(|flaw| if flaw == Flaw::Short { Flaw::Cut } else { flaw })?;
        let there = after.left();
        let whole = usize::try_from(length).ok().filter(|&length| length <= there);
        self.message = after.take(whole.unwrap_or(there))?;
        self.after = after.message;
        Ok(whole.is_some())
    }

    /// How many bytes the message has left.
    pub fn left(&self) -> usize {
        self.message.len()
    }

    /// How many bytes come after the message.
    pub fn left_after(&self) -> usize {
        self.after.len()
    }

    /// The first `length` of the message.
    fn take(&mut self, length: usize) -> Result<&'a [u8], Flaw> {
        let (taken, rest) = self.message.split_at_checked(length).ok_or(Flaw::Short)?;
        self.message = rest;
        Ok(taken)
    }

    /// An unsigned number.
    pub fn uint(&mut self) -> Result<u64, Flaw> {
        match *self.take(1)?.first().ok_or(Flaw::Short)? {
            small @ ..0x80 => Ok(small.into()),
            0x80..0xf8 => Err(Flaw::wrong("a number has more than 64 bits")),
            count => {
                let bytes = self.take(count.wrapping_neg().into())?;
                Ok(bytes.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)))
            }
        }
    }

    /// A signed number.
    pub fn int(&mut self) -> Result<i64, Flaw> {
        let number = self.uint()?;
        let magnitude = (number >> 1) as i64;
        Ok(if number & 1 == 0 { magnitude } else { !magnitude })
    }

    /// A count of things that take at least a byte each: there cannot be more of them than bytes. Some may come in the
    /// next message.
    pub fn count(&mut self) -> Result<usize, Flaw> {
        let count = self.uint()?;
        let bytes = self.left() + self.left_after();
        usize::try_from(count).ok().filter(|&count| count <= bytes).ok_or(Flaw::Short)
    }

    /// Bytes with their length before them.
    pub fn piece(&mut self) -> Result<&'a [u8], Flaw> {
        let length = self.count()?;
        self.take(length)
    }

    /// A text with its length before it.
    pub fn text(&mut self) -> Result<String, Flaw> {
        let bytes = self.piece()?;
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| Flaw::wrong("a text is not UTF-8"))
    }

    /// Goes through a struct's fields: `take` reads one, whose place it is told.
    pub fn fields(&mut self, mut take: impl FnMut(usize, &mut Self) -> Result<(), Flaw>) -> Result<(), Flaw> {
        let mut next: usize = 0;
        loop {
            let step = usize::try_from(self.uint()?).unwrap_or(usize::MAX);
            if step == 0 {
                return Ok(());
            }
            next = next.saturating_add(step);
            take(next - 1, self)?;
        }
    }
}
