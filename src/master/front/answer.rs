//! What is said to a client: heads of answers, refusals of our own, and the answers of the server behind, made fit for it.

use std::time::{SystemTime, UNIX_EPOCH};

use httparse::{Status, EMPTY_HEADER};
use tiny_http::StatusCode;

/// Why a request is answered by the front itself: an HTTP status, and the text of its `error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal(pub u16, pub &'static str);

impl Refusal {
    /// The whole answer, with the lines of [`cors`](super::cors). The connection ends with it.
    pub fn into_bytes(self, cors: &str, time: SystemTime, only_head: bool) -> Vec<u8> {
        let Refusal(status, why) = self;
        let body = format!("{{\"error\":\"{why}\",\"message\":\"{why}\"}}\n");
        let kind = [("Content-Type", "application/json".to_owned())];
        let mut bytes = head(status, &kind, time);
        let rest = format!("{cors}Connection: close\r\nContent-Length: {}\r\n\r\n", body.len());
        bytes.extend_from_slice(rest.as_bytes());
        if !only_head {
            bytes.extend_from_slice(body.as_bytes());
        }
        bytes
    }
}

/// The start of an answer: the status line, the given headers, and the date. Length and empty line are to follow.
pub fn head(status: u16, headers: &[(&str, String)], time: SystemTime) -> Vec<u8> {
    let reason = StatusCode(status).default_reason_phrase();
    let mut text = format!("HTTP/1.1 {status} {reason}\r\n");
    for (name, value) in headers {
        // A line break would start another header.
        let value = value.replace(['\r', '\n', '\0'], " ");
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str(&format!("Date: {}\r\n", date(time)));
    text.into_bytes()
}

/// Whether an answer of this status never has a body (RFC 9112, 6.3).
pub fn is_bodiless(status: u16) -> bool {
    matches!(status, 100..=199 | 204 | 304)
}

/// The head of an answer from the server behind.
#[derive(Debug, PartialEq, Eq)]
pub struct Answered {
    /// The HTTP status.
    pub status: u16,
    /// The head up to and without the empty line, without what concerned only the connection to the server behind.
    pub head: Vec<u8>,
    /// Bytes of the body; `None` if it ends with the connection.
    pub length: Option<u64>,
    /// Whether the request's key was looked at, and was right.
    pub verdict: Option<bool>,
}

impl Answered {
    /// Reads a head that ends where `bytes` end. It comes from our own server: `None` is a fault of ours.
    pub fn parse(bytes: &[u8]) -> Option<Answered> {
        let mut headers = [EMPTY_HEADER; MAX_HEADERS];
        let mut parsed = httparse::Response::new(&mut headers);
        match parsed.parse(bytes) {
            Ok(Status::Complete(length)) if length == bytes.len() => {}
            _ => return None,
        }
        let (status, reason) = (parsed.code?, parsed.reason.unwrap_or_default());
        let mut head = format!("HTTP/1.1 {status} {reason}\r\n").into_bytes();
        let (mut length, mut verdict) = (None, None);
        for header in parsed.headers.iter() {
            if header.name.eq_ignore_ascii_case("content-length") {
                length = Some(std::str::from_utf8(header.value).ok()?.parse().ok()?);
            }
            if header.name.eq_ignore_ascii_case(VERDICT) {
                verdict = Some(header.value == RIGHT.as_bytes());
            } else if !header.name.eq_ignore_ascii_case("connection") {
                head.extend_from_slice(header.name.as_bytes());
                head.extend_from_slice(b": ");
                head.extend_from_slice(header.value);
                head.extend_from_slice(b"\r\n");
            }
        }
        Some(Answered { status, head, length, verdict })
    }
}

/// A moment as HTTP writes it: `Sat, 21 Nov 2026 02:17:05 GMT`. A time before 1970 becomes its start.
pub fn date(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, second) = (seconds / DAY, seconds % DAY);
    let weekday = WEEKDAYS[(days % 7) as usize];
    // Years begin in March here, so that the day that is sometimes missing is the last; 719468 days before 1970 one began
    // that is divisible by 400.
    let since = days + 719_468;
    let (era, day) = (since / 146_097, since % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let year = era * 400 + year + u64::from(month >= 10);
    let month = MONTHS[(month as usize + 2) % 12];
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
}

/// The request cannot be read.
pub const BAD: Refusal = Refusal(400, "Bad request");
/// The body is, or would be, larger than `MAX_BODY`.
pub const TOO_LARGE: Refusal = Refusal(413, "Request body too large");
/// The request did not come in time.
pub const TOO_SLOW: Refusal = Refusal(408, "Request timeout");
/// No turn came in time, or there are too many of its kind.
pub const BUSY: Refusal = Refusal(503, "Too many requests at once");
/// The server behind cannot be reached or answers nonsense.
pub const BROKEN: Refusal = Refusal(502, "No answer");
/// The server behind did not answer in time.
pub const LATE: Refusal = Refusal(504, "No answer in time");

/// The header by which the server behind tells what it thinks of a request's key. It goes no further.
pub const VERDICT: &str = "X-NodePass-Key";
/// Its values.
pub const RIGHT: &str = "right";
/// See [`RIGHT`].
pub const WRONG: &str = "wrong";

/// Most headers of one answer.
const MAX_HEADERS: usize = 64;
/// Seconds.
const DAY: u64 = 24 * 3600;
/// The first of January 1970 was a Thursday.
const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn dates_are_written_as_http_wants_them() {
        for (seconds, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_399, "Mon, 28 Feb 2000 23:59:59 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (951_868_800, "Wed, 01 Mar 2000 00:00:00 GMT"),
            (1_795_227_425, "Sat, 21 Nov 2026 02:17:05 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
        ] {
            assert_eq!(date(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
        assert_eq!(date(UNIX_EPOCH - Duration::from_secs(9)), date(UNIX_EPOCH));
    }

    #[test]
    fn a_header_cannot_start_another() {
        let bytes = head(200, &[("X", "a\r\nSet-Cookie: b\0".into())], UNIX_EPOCH);
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.contains("\r\nX: a  Set-Cookie: b \r\n"), "{text}");
    }

    #[test]
    fn a_refusal_is_json_and_says_which_pages_may_read_it() {
        let text = String::from_utf8(TOO_LARGE.into_bytes("Vary: Origin\r\n", UNIX_EPOCH, false)).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 413 Payload Too Large\r\n"));
        assert!(head.contains("\r\nVary: Origin\r\n") && head.contains("Content-Type: application/json"));
        assert!(head.ends_with(&format!("Connection: close\r\nContent-Length: {}", body.len())));
        assert_eq!(body, "{\"error\":\"Request body too large\",\"message\":\"Request body too large\"}\n");
        assert!(TOO_LARGE.into_bytes("", UNIX_EPOCH, true).ends_with(b"\r\n\r\n"));
    }

    #[test]
    fn an_answer_loses_what_concerned_the_connection_behind_and_its_length_is_known() {
        let answered =
            Answered::parse(b"HTTP/1.1 200 OK\r\nA: b\r\nConnection: close\r\nContent-Length: 7\r\n\r\n").unwrap();
        assert_eq!((answered.status, answered.length), (200, Some(7)));
        assert_eq!(answered.head, b"HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 7\r\n");
        let verdict = |value: &str| {
            let answered = Answered::parse(format!("HTTP/1.1 200 OK\r\n{VERDICT}: {value}\r\n\r\n").as_bytes());
            answered.map(|answered| (answered.verdict, answered.head))
        };
        let head = b"HTTP/1.1 200 OK\r\n".to_vec();
        assert_eq!(verdict(RIGHT), Some((Some(true), head.clone())), "it is for the front alone");
        assert_eq!((verdict(WRONG), answered.verdict), (Some((Some(false), head)), None));
        assert_eq!(Answered::parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap().length, None);
        for wrong in ["", "HTTP/1.1 200", "nonsense\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"] {
            assert_eq!(Answered::parse(wrong.as_bytes()), None);
        }
    }
}
