//! A body in chunks (RFC 9112, 7.1), decoded as it comes.
//!
//! ```text
//!  Size --"5;ext\r\n"--> Data(5) --5 bytes--> Gap --"\r\n"--> Size --"0\r\n"--> Trailers --"\r\n"--> whole
//! ```

use super::answer::{Refusal, BAD, TOO_LARGE};

/// What has come of such a body.
#[derive(Debug, Default)]
pub struct Chunks {
    body: Vec<u8>,
    part: ChunkState,
    trailers: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ChunkState {
    #[default]
    Size,
    Data(usize),
    Gap,
    Trailers,
}

impl Chunks {
    /// Takes what it can out of `bytes`; whether the body is whole. What is left follows the body, or is part of a line.
    pub fn take(&mut self, bytes: &mut Vec<u8>) -> Result<bool, Refusal> {
        let mut at = 0;
        let whole = loop {
            let rest = &bytes[at..];
            match self.part {
                ChunkState::Data(left) => {
                    let count = left.min(rest.len());
                    self.body.extend_from_slice(&rest[..count]);
                    at += count;
                    self.part = if count == left { ChunkState::Gap } else { ChunkState::Data(left - count) };
                    if count < left {
                        break false;
                    }
                }
                part => {
                    let Some(line) = line(rest)? else { break false };
                    at += line.len() + 2;
                    self.part = match part {
                        ChunkState::Size => self.sized(line)?,
                        ChunkState::Gap if line.is_empty() => ChunkState::Size,
                        ChunkState::Trailers if line.is_empty() => break true,
                        ChunkState::Trailers if self.trailers < MAX_TRAILERS => {
                            self.trailers += 1;
                            ChunkState::Trailers
                        }
                        _ => return Err(BAD),
                    };
                }
            }
        };
        bytes.drain(..at);
        Ok(whole)
    }

    /// What a size line announces.
    fn sized(&self, line: &[u8]) -> Result<ChunkState, Refusal> {
        let digits = line.iter().take_while(|byte| digit(**byte).is_some()).count();
        let (digits, extension) = line.split_at(digits);
        let extension = extension.trim_ascii_start();
        if digits.is_empty() || !matches!(extension.first(), None | Some(b';')) {
            return Err(BAD);
        }
        let add = |size: usize, byte: &u8| Some(size.checked_mul(16)? + usize::from(digit(*byte)?));
        match digits.iter().try_fold(0, add) {
            Some(0) => Ok(ChunkState::Trailers),
            Some(size) if size <= MAX_BODY - self.body.len() => Ok(ChunkState::Data(size)),
            _ => Err(TOO_LARGE),
        }
    }

    /// Bytes of the body so far.
    pub fn held(&self) -> usize {
        self.body.len()
    }

    /// The body.
    pub fn into_body(self) -> Vec<u8> {
        self.body
    }
}

/// The first line, without its end, once it is there. A carriage return or a newline alone is no end of a line here: others
/// on the way may read it differently.
fn line(bytes: &[u8]) -> Result<Option<&[u8]>, Refusal> {
    match bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
        Some(end) if end > MAX_LINE => Err(BAD),
        Some(end) => match bytes[end..] {
            [b'\r', b'\n', ..] => Ok(Some(&bytes[..end])),
            [b'\r'] => Ok(None),
            _ => Err(BAD),
        },
        None if bytes.len() > MAX_LINE => Err(BAD),
        None => Ok(None),
    }
}

/// The value of a hexadecimal digit.
pub(super) fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// Most bytes of a request's body. The largest that makes sense is an instance with all its tags.
pub const MAX_BODY: usize = 1024 * 1024;
/// Most bytes of a size line or a trailer.
const MAX_LINE: usize = 1024;
/// Most trailers; they are not used.
const MAX_TRAILERS: usize = 16;
