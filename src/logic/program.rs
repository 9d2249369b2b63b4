//! Which program answers a request for a tunnel, by the first bytes of its answer; and which comes to a tunnel's port.

use std::fmt;

/// A program that answers at a tunnel's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// This program.
    Ours,
    /// NodePass 1.13 or 1.14.
    Original,
    /// NodePass 1.12: an HTTP answer with the address of who asks.
    OriginalOf12,
    /// NodePass 1.15 to 2.0: its handshake is inside TLS.
    OriginalOf2,
    /// An original whose pool waits for connections: it says an id.
    Pool,
    /// A web server: its status, and the name that it gives itself.
    Web(u16, String),
    /// A reverse proxy that does not reach the server behind it: its status, and its name.
    Proxy(u16, String),
    /// An SSH server.
    Ssh,
    /// TLS, and nothing without it.
    Tls,
    /// It closed the connection without a word.
    Silent,
    /// Something else, by its first bytes.
    Other(Vec<u8>),
}

impl Program {
    /// Which program says that.
    pub fn of(answer: &[u8]) -> Program {
        if answer.is_empty() {
            return Program::Silent;
        }
        if answer.starts_with(SSH) {
            return Program::Ssh;
        }
        // An alert, or the beginning of a handshake.
        if answer.len() >= 3 && [0x15, 0x16].contains(&answer[0]) && answer[1] == 3 {
            return Program::Tls;
        }
        if !answer.starts_with(b"HTTP/1.") {
            return match answer.len() {
                POOL_ID => Program::Pool,
                length => Program::Other(answer[..length.min(SHOWN)].to_vec()),
            };
        }
        web(&String::from_utf8_lossy(answer))
    }

    /// The same, if it is none that a handshake is for.
    pub fn foreign(answer: &[u8]) -> Option<Program> {
        let program = Program::of(answer);
        let foreign = match &program {
            Program::Web(_, name) => !name.is_empty(),
            Program::OriginalOf12 | Program::Proxy(..) | Program::Ssh | Program::Tls => true,
            Program::Ours | Program::Original | Program::OriginalOf2 | Program::Pool => false,
            Program::Silent | Program::Other(_) => false,
        };
        foreign.then_some(program)
    }

    /// Whether more bytes may tell which program that is: it does not speak HTTP.
    pub fn needs_more(answer: &[u8]) -> bool {
        SSH.starts_with(answer) || (answer.len() < 3 && matches!(answer, [0x15 | 0x16] | [0x15 | 0x16, 3]))
    }
}

/// In the words of a client's log.
impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Program::Ours | Program::Original | Program::OriginalOf2 | Program::Pool => f.write_str("NodePass answers"),
            Program::OriginalOf12 => f.write_str(
                "the server is NodePass 1.12: its handshake proves nothing and gives the key away; wire=1.12 speaks it all the same",
            ),
            Program::Web(status, name) => {
                write!(f, "a web server{} answers {status}, and no NodePass: {RIGHT}", Named(name))
            }
            Program::Proxy(status, name) => write!(
                f,
                "a reverse proxy{} answers {status}: it does not reach the server behind it; does that run, and is its port the one in the proxy's rules?",
                Named(name)
            ),
            Program::Ssh => write!(f, "an SSH server answers, and no NodePass: {RIGHT}"),
            Program::Tls => write!(f, "the other side speaks TLS, where none is expected: {RIGHT}"),
            Program::Silent => f.write_str("the server closed without an answer"),
            Program::Other(bytes) => write!(f, "another program answers, \"{}\": {RIGHT}", bytes.escape_ascii()),
        }
    }
}

/// A name that a server gives itself, in brackets.
struct Named<'a>(&'a str);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            "" => Ok(()),
            name => {
                let shown = name.chars().filter(|shown| shown.is_ascii_graphic() || *shown == ' ');
                write!(f, " ({})", shown.take(MAX_NAME).collect::<String>())
            }
        }
    }
}

fn web(text: &str) -> Program {
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
    let status: u16 = head.get(9..12).and_then(|code| code.parse().ok()).unwrap_or(0);
    let server = field(head, "server").unwrap_or_default().to_owned();
    let (body, has_date) = (body.trim_end(), field(head, "date").is_some());
    let is_plain = field(head, "content-type").is_some_and(|kind| kind.starts_with("text/plain"));
    match status {
        400 if body.contains("HTTP request to an HTTPS server") => Program::OriginalOf2,
        404 if body == "Not Found" && server.is_empty() && is_plain => match has_date {
            false => Program::Ours,
            true => Program::Original,
        },
        200 if is_plain && body.parse::<std::net::IpAddr>().is_ok() => Program::OriginalOf12,
        502..=504 => Program::Proxy(status, server),
        _ => Program::Web(status, server),
    }
}

/// The value of a field of a head.
pub fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    fields.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
}

/// What an SSH server and its clients begin with.
const SSH: &[u8] = b"SSH-";
/// What to look at.
const RIGHT: &str = "are host and port those of the tunnel?";
/// Bytes of the id of a pool connection.
const POOL_ID: usize = 4;
/// Bytes of an unknown answer that are shown.
const SHOWN: usize = 16;
/// Characters of a server's name that are shown.
const MAX_NAME: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::http::ErrorStatus;

    fn text(text: &str) -> Vec<u8> {
        text.replace('\n', "\r\n").into_bytes()
    }

    #[test]
    fn each_program_is_known_by_its_first_bytes() {
        let of = |answer: &str| Program::of(&text(answer));
        assert_eq!(Program::of(&ErrorStatus::NotFound.to_bytes()), Program::Ours);
        let go = "HTTP/1.1 404 Not Found\nContent-Type: text/plain; charset=utf-8\nDate: Sat, 21 Nov 2026 02:06:00 GMT\n\nNot Found\n";
        assert_eq!(of(go), Program::Original);
        let tls = "HTTP/1.0 400 Bad Request\n\nClient sent an HTTP request to an HTTPS server.\n";
        assert_eq!(of(tls), Program::OriginalOf2);
        assert_eq!(of("HTTP/1.1 200 OK\nContent-Type: text/plain\n\n192.0.2.7\n"), Program::OriginalOf12);
        assert_eq!(of("HTTP/1.1 404 Not Found\nServer: nginx/1.22\n\n<html>"), Program::Web(404, "nginx/1.22".into()));
        assert_eq!(of("HTTP/0.1 504 Gateway Timeout\n\n"), Program::Other(b"HTTP/0.1 504 Gat".to_vec()));
        assert_eq!(of("HTTP/1.1 502 Bad Gateway\nServer: nginx\n\n"), Program::Proxy(502, "nginx".into()));
        assert_eq!(Program::of(b"SSH-2.0-OpenSSH_9.2\r\n"), Program::Ssh);
        assert_eq!(Program::of(&[0x15, 3, 1, 0, 2, 2, 70]), Program::Tls);
        assert_eq!((Program::of(&[]), Program::of(&[1, 2, 3, 4])), (Program::Silent, Program::Pool));
        assert_eq!(Program::of(b"220 mail.example ESMTP\r\n"), Program::Other(b"220 mail.example".to_vec()));
    }

    #[test]
    fn what_a_handshake_is_for_is_not_foreign() {
        for status in [ErrorStatus::Unauthorized, ErrorStatus::KeysDiffer, ErrorStatus::NotFound] {
            assert_eq!(Program::foreign(&status.to_bytes()), None);
        }
        assert_eq!(Program::foreign(b"\0\0\0\0"), None);
        let nginx = text("HTTP/1.1 401 Unauthorized\nServer: nginx\n\n");
        assert_eq!(Program::foreign(&nginx), Some(Program::Web(401, "nginx".into())));
        assert_eq!(Program::foreign(&text("HTTP/1.1 400 Bad Request\n\n")), None);
    }

    #[test]
    fn a_program_is_told_in_one_line_whatever_it_calls_itself() {
        let name = format!("nginx\u{1b}[31m{}", "x".repeat(500));
        for program in [Program::Web(404, name.clone()), Program::Proxy(502, name), Program::Other(b"\r\n\0".to_vec())]
        {
            let told = program.to_string();
            assert!(told.len() < 300 && told.chars().all(|character| !character.is_control()), "{told:?}");
        }
    }

    #[test]
    fn the_beginning_of_a_banner_needs_more() {
        for first in [&b""[..], b"S", b"SSH", b"\x15", b"\x15\x03"] {
            assert!(Program::needs_more(first), "{first:?}");
        }
        for first in [&b"SS-"[..], b"\x15\x02", b"\x15\x03\x03", b"H"] {
            assert!(!Program::needs_more(first), "{first:?}");
        }
    }
}
