//! Bytes as text: base64, base32, hex digits. Small on purpose: a general crate for this takes 36 KB of a lite binary.

/// Base64 with padding.
pub fn base64(bytes: &[u8]) -> String {
    let mut text = Vec::new();
    push_base64(bytes, &mut text);
    text_of(text)
}

/// The same, appended.
pub fn push_base64(bytes: &[u8], out: &mut Vec<u8>) {
    out.reserve(bytes.len().div_ceil(GROUP - 1) * GROUP);
    for part in bytes.chunks(GROUP - 1) {
        let mut held = [0; GROUP];
        held[1..][..part.len()].copy_from_slice(part);
        let held = u32::from_be_bytes(held);
        let mut letters = [18, 12, 6, 0].map(|bits| BASE64[(held >> bits & 63) as usize]);
        letters[part.len() + 1..].fill(b'=');
        out.extend_from_slice(&letters);
    }
}

/// Base32 in lower case, without padding.
pub fn base32(bytes: &[u8]) -> String {
    let mut text = Vec::new();
    encode(bytes, BASE32, 5, &mut text);
    text_of(text)
}

/// Hex digits in lower case.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = Vec::new();
    encode(bytes, HEX, 4, &mut text);
    text_of(text)
}

/// The bytes of base64 as [`base64`] writes it, and of no other text.
pub fn from_base64(text: &[u8]) -> Option<Vec<u8>> {
    decode(text, false)
}

/// The bytes of base64 with line breaks in it, or with bits set that no byte has.
pub fn from_lenient_base64(text: &[u8]) -> Option<Vec<u8>> {
    decode(text, true)
}

/// The bytes of exactly so many hex digits, in either case.
pub fn from_hex(digits: &[u8], bytes: &mut [u8]) -> bool {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    digits.len() == 2 * bytes.len()
        && bytes.iter_mut().zip(digits.chunks(2)).all(|(byte, pair)| match (digit(pair[0]), digit(pair[1])) {
            (Some(high), Some(low)) => {
                *byte = (high * 16 + low) as u8;
                true
            }
            _ => false,
        })
}

/// Writes each `bits` of the bytes as a letter; zeros fill the last one.
fn encode(bytes: &[u8], letters: &[u8], bits: u32, out: &mut Vec<u8>) {
    let (mut held, mut count, mask) = (0_u32, 0, (1 << bits) - 1);
    let mut push = |number: u32| out.extend(letters.get((number & mask) as usize));
    for &byte in bytes {
        held = held << 8 | u32::from(byte);
        count += 8;
        while count >= bits {
            count -= bits;
            push(held >> count);
        }
    }
    if count > 0 {
        push(held << (bits - count));
    }
}

fn decode(text: &[u8], lenient: bool) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / GROUP * 3);
    let mut rest = text;
    // Nearly all text is whole groups of digits.
    while let Some((group, after)) = rest.split_first_chunk::<GROUP>() {
        let digits = group.map(|byte| DIGITS[usize::from(byte)]);
        if digits.contains(&NO_DIGIT) {
            break;
        }
        let held = digits.iter().fold(0, |held, &digit| held << 6 | u32::from(digit));
        bytes.extend_from_slice(&held.to_be_bytes()[1..]);
        rest = after;
    }
    let (mut held, mut digits, mut padding) = (0_u32, 0, 0);
    for &byte in rest {
        match (byte, DIGITS[usize::from(byte)]) {
            (b'\r' | b'\n', _) if lenient => continue,
            (b'=', _) => {
                padding += 1;
                continue;
            }
            (_, NO_DIGIT) => return None,
            _ if padding > 0 => return None,
            (_, digit) => held = held << 6 | u32::from(digit),
        }
        digits += 1;
        if digits == GROUP {
            bytes.extend_from_slice(&held.to_be_bytes()[1..]);
            (held, digits) = (0, 0);
        }
    }
    let unused = match (digits, padding) {
        (0, 0) => 0,
        (2, 2) => 4,
        (3, 1) => 2,
        _ => return None,
    };
    let last = (held >> unused).to_be_bytes();
    bytes.extend_from_slice(&last[last.len() - digits.saturating_sub(1)..]);
    (lenient || held & ((1 << unused) - 1) == 0).then_some(bytes)
}

/// What was written above is ASCII.
fn text_of(text: Vec<u8>) -> String {
    String::from_utf8(text).unwrap_or_default()
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const BASE32: &[u8] = b"abcdefghijklmnopqrstuvwxyz234567";
const HEX: &[u8] = b"0123456789abcdef";
/// The number of each letter of base64.
static DIGITS: [u8; 256] = {
    let (mut digits, mut at) = ([NO_DIGIT; 256], 0);
    while at < BASE64.len() {
        digits[BASE64[at] as usize] = at as u8;
        at += 1;
    }
    digits
};
const NO_DIGIT: u8 = 0xff;
/// Digits of base64 that belong together: they are three bytes.
const GROUP: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Dice;

    #[test]
    fn bytes_are_written_and_read_as_another_implementation_does() {
        let mut dice = Dice(20_261_127);
        for len in 0..200 {
            let bytes: Vec<u8> = (0..len).map(|_| dice.next() as u8).collect();
            let text = base64(&bytes);
            assert_eq!(text, data_encoding::BASE64.encode(&bytes));
            assert_eq!(
                (from_base64(text.as_bytes()), from_lenient_base64(text.as_bytes())),
                (Some(bytes.clone()), Some(bytes.clone()))
            );
            assert_eq!(base32(&bytes), data_encoding::BASE32_NOPAD.encode(&bytes).to_lowercase());
            assert_eq!(hex(&bytes), data_encoding::HEXLOWER.encode(&bytes));
            let mut back = vec![0; len];
            assert!(from_hex(hex(&bytes).as_bytes(), &mut back) && back == bytes);
            assert!(from_hex(hex(&bytes).to_uppercase().as_bytes(), &mut back) && back == bytes);
        }
    }

    #[test]
    fn other_texts_are_refused_as_another_implementation_does() {
        let mut dice = Dice(7);
        let letters = b"AZaz09+/=Qg-_ ";
        for _ in 0..50_000 {
            let len = dice.below(12_usize);
            let text: Vec<u8> = (0..len).map(|_| letters[dice.below(letters.len())]).collect();
            // It takes padding between groups as well, which no peer writes.
            let padded_within = text.iter().rev().skip_while(|byte| **byte == b'=').any(|byte| *byte == b'=');
            if !padded_within {
                assert_eq!(from_base64(&text), data_encoding::BASE64.decode(&text).ok(), "{text:?}");
            }
        }
        for (text, strict, lenient) in [
            (&b"QQ=="[..], Some("A"), Some("A")),
            (b"QQ=\r\n=\r", None, Some("A")),
            (b"QR==", None, Some("A")),
            (b"QQ", None, None),
            (b"QQ=", None, None),
            (b"QQ===", None, None),
            (b"QQ==QQ==", None, None),
            (b"=", None, None),
        ] {
            let owned = |text: Option<&str>| text.map(|text| text.as_bytes().to_vec());
            assert_eq!((from_base64(text), from_lenient_base64(text)), (owned(strict), owned(lenient)), "{text:?}");
        }
        for wrong in ["0", "0g", "000", "+1", " 1"] {
            assert!(!from_hex(wrong.as_bytes(), &mut [0]), "{wrong}");
        }
    }
}
