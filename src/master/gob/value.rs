//! Values to bytes: numbers, texts, and structs whose zero fields are left out.

/// An unsigned number: itself if it is small, else the count of its bytes, negated, and the bytes, the highest first.
pub(super) fn put_uint(out: &mut Vec<u8>, number: u64) {
    if number < 0x80 {
        return out.push(number as u8);
    }
    let zeros = number.leading_zeros() as usize / 8;
    let bytes = number.to_be_bytes();
    out.push((zeros as u8).wrapping_sub(8));
    out.extend_from_slice(&bytes[zeros..]);
}

/// A signed number: its sign in the lowest bit, above it the number, or its complement if it is negative.
pub(super) fn put_int(out: &mut Vec<u8>, number: i64) {
    put_uint(out, ((number << 1) ^ (number >> 63)) as u64);
}

/// A text: its length and its bytes.
pub(super) fn put_text(out: &mut Vec<u8>, text: impl AsRef<str>) {
    let text = text.as_ref();
    put_uint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// A struct in the making: each call adds the next field.
pub(super) struct StructFields<'a> {
    out: &'a mut Vec<u8>,
    /// Fields since the last one that was written.
    skipped: u64,
}

impl<'a> StructFields<'a> {
    /// A struct without fields so far.
    pub fn new(out: &'a mut Vec<u8>) -> StructFields<'a> {
        StructFields { out, skipped: 0 }
    }

    /// So many fields that are zero.
    pub fn skip(mut self, fields: usize) -> StructFields<'a> {
        self.skipped += fields as u64;
        self
    }

    /// A text.
    pub fn text(self, text: impl AsRef<str>) -> StructFields<'a> {
        let there = !text.as_ref().is_empty();
        self.field(there, |out| put_text(out, text))
    }

    /// A signed number.
    pub fn int(self, number: i64) -> StructFields<'a> {
        self.field(number != 0, |out| put_int(out, number))
    }

    /// An unsigned number.
    pub fn uint(self, number: u64) -> StructFields<'a> {
        self.field(number != 0, |out| put_uint(out, number))
    }

    /// A truth.
    pub fn flag(self, flag: bool) -> StructFields<'a> {
        self.uint(flag.into())
    }

    /// A struct, a list or a map: those are written even if they are empty.
    pub fn inner(self, put: impl FnOnce(&mut Vec<u8>)) -> StructFields<'a> {
        self.field(true, put)
    }

    /// No more fields.
    pub fn end(self) {
        put_uint(self.out, 0);
    }

    fn field(mut self, there: bool, put: impl FnOnce(&mut Vec<u8>)) -> StructFields<'a> {
        self.skipped += 1;
        if there {
            put_uint(self.out, self.skipped);
            put(self.out);
            self.skipped = 0;
        }
        self
    }
}
