//! HTTP/1.1 as text: heads and bodies that are read, answers that are written.
//!
//! As much of it as handshake, upgrade and proxies need. What is read is all that came so far, within the caller's limit.

use std::borrow::Cow;

/// The head of a request or an answer.
pub(super) struct Head<'a> {
    /// The first line.
    pub(super) first: &'a str,
    fields: Vec<(&'a str, &'a str)>,
}

impl<'a> Head<'a> {
    /// Reads a whole head. Lines may end in CR LF or LF; folded ones are refused.
    pub(super) fn parse(text: &'a str) -> Option<Head<'a>> {
        let mut lines = text.lines().take_while(|line| !line.is_empty());
        let first = lines.next()?;
        let fields = lines.map(|line| {
            let (name, value) = line.split_once(':')?;
            let proper = !name.is_empty() && !name.contains(char::is_whitespace);
            proper.then(|| (name, value.trim()))
        });
        Some(Head { first, fields: fields.collect::<Option<_>>()? })
    }

    /// The values of a field, whatever the case of its name.
    pub(super) fn all(&self, name: &'static str) -> impl Iterator<Item = &'a str> + Clone + '_ {
        self.fields.iter().filter(move |(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }
}

/// Where the head ends: after the first empty line that begins at `from` or later.
pub fn end_of_head(bytes: &[u8], from: usize) -> Option<usize> {
    let breaks = bytes.iter().enumerate().skip(from).filter(|(_, &byte)| byte == b'\n');
    breaks.map(|(at, _)| at + 1).find_map(|next| match bytes[next..] {
        [b'\n', ..] => Some(next + 1),
        [b'\r', b'\n', ..] => Some(next + 2),
        _ => None,
    })
}

/// The number in the first line of an answer.
pub(super) fn status(first: &str) -> Option<u16> {
    let code = first.split(' ').nth(1)?;
    code.parse().ok().filter(|_| code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A part of an answer: `None` while it is not whole yet, an error if it never will be.
pub(super) type Part<T> = Result<Option<T>, &'static str>;

/// The body in `rest`, once it is whole.
pub(super) fn body<'a>(head: &Head, rest: &'a [u8], ended: bool) -> Part<Cow<'a, [u8]>> {
    if let Some(coding) = head.all("Transfer-Encoding").next() {
        return match coding.eq_ignore_ascii_case("chunked") {
            true => Ok(dechunk(rest)?.map(Cow::Owned)),
            false => Err("the server's answer has an unknown transfer encoding"),
        };
    }
    let Some(length) = head.all("Content-Length").next() else {
        return Ok(ended.then_some(Cow::Borrowed(rest)));
    };
    let length = number(length, 10).ok_or("the length of the server's answer is malformed or too large")?;
    Ok(rest.get(..length).map(Cow::Borrowed))
}

/// A body in chunks: hex length, line break, so many bytes, line break; the last one is empty. Trailers are not awaited.
fn dechunk(mut rest: &[u8]) -> Part<Vec<u8>> {
    const MALFORMED: &str = "a chunk of the server's answer is malformed";
    let mut body = Vec::new();
    loop {
        let Some(line) = rest.iter().position(|&byte| byte == b'\n') else { return Ok(None) };
        let size = String::from_utf8_lossy(&rest[..line]);
        let size = size.split(';').next().unwrap_or_default().trim();
        let size = number(size, 16).ok_or(MALFORMED)?;
        if size == 0 {
            return Ok(Some(body));
        }
        let Some((chunk, after)) = rest[line + 1..].split_at_checked(size) else { return Ok(None) };
        body.extend_from_slice(chunk);
        rest = match after {
            [b'\r', b'\n', rest @ ..] | [b'\n', rest @ ..] => rest,
            [] | [b'\r'] => return Ok(None),
            _ => return Err(MALFORMED),
        };
    }
}

/// Digits alone, up to [`MAX_ANSWER`].
fn number(text: &str, radix: u32) -> Option<usize> {
    if !text.chars().all(|digit| digit.is_digit(radix)) {
        return None;
    }
    usize::from_str_radix(text, radix).ok().filter(|number| *number <= MAX_ANSWER)
}

/// A response with `first` as its status and first fields, and one line as its body.
pub(super) fn response(first: &str, kind: &str, line: &str) -> Vec<u8> {
    let length = line.len() + 1;
    format!("HTTP/1.1 {first}Connection: close\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{line}\n")
        .into_bytes()
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorStatus {
    /// 401: the token is missing, given twice, or wrong.
    Unauthorized,
    /// 401 too, with the header that says: this server knows the authenticated handshake, and this was not one under its key.
    KeysDiffer,
    /// 404: there is nothing but `/`.
    NotFound,
    /// 405: there is nothing but GET.
    MethodNotAllowed,
}

impl ErrorStatus {
    /// The number of it.
    pub fn code(self) -> u16 {
        match self {
            ErrorStatus::Unauthorized | ErrorStatus::KeysDiffer => 401,
            ErrorStatus::NotFound => 404,
            ErrorStatus::MethodNotAllowed => 405,
        }
    }

    /// The answer, whole: one line of plain text.
    pub fn to_bytes(self) -> Vec<u8> {
        let (reason, more) = match self {
            ErrorStatus::Unauthorized => ("Unauthorized", ""),
            ErrorStatus::KeysDiffer => ("Unauthorized", "NodePass-Auth: 1\r\n"),
            ErrorStatus::NotFound => ("Not Found", ""),
            ErrorStatus::MethodNotAllowed => ("Method Not Allowed", "Allow: GET\r\n"),
        };
        let first = format!("{} {reason}\r\n{more}", self.code());
        response(&first, "text/plain; charset=utf-8", reason)
    }
}

/// Longest head of a request or an answer, in bytes.
pub const MAX_HEAD: usize = 8 * 1024;
/// Longest answer, in bytes.
pub const MAX_ANSWER: usize = 16 * 1024;
