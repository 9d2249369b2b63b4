//! Who answers at the tunnel's port, by the first bytes of the answer to a request that asks for nothing.
//!
//! The request has no token and another path than a handshake, so no server takes it for a client; but to an original that waits for pool
//! connections any connection is one. So nothing is asked where a tunnel to that address stands already.

use super::finding::Finding;
use super::words::*;

/// A program behind a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
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
    /// A web server, by the name that it gives itself.
    Web(String),
    /// A reverse proxy that does not reach the server behind it, and its status.
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

/// What is asked.
pub fn request(host: &str) -> Vec<u8> {
    format!("GET {PATH} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").into_bytes()
}

/// Who says that.
pub fn peer(answer: &[u8]) -> Peer {
    if answer.is_empty() {
        return Peer::Silent;
    }
    if answer.starts_with(b"SSH-") {
        return Peer::Ssh;
    }
    // An alert, or the beginning of a handshake.
    if answer.len() >= 3 && [0x15, 0x16].contains(&answer[0]) && answer[1] == 3 {
        return Peer::Tls;
    }
    if !answer.starts_with(b"HTTP/") {
        return if answer.len() == POOL_ID {
            Peer::Pool
        } else {
            Peer::Other(answer[..answer.len().min(SHOWN)].to_vec())
        };
    }
    web(&String::from_utf8_lossy(answer))
}

fn web(text: &str) -> Peer {
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
    let status: u16 = head.get(9..12).and_then(|code| code.parse().ok()).unwrap_or(0);
    let server = field(head, "server").unwrap_or_default().to_owned();
    let (body, has_date) = (body.trim_end(), field(head, "date").is_some());
    let is_plain = field(head, "content-type").is_some_and(|kind| kind.starts_with("text/plain"));
    match status {
        400 if body.contains("HTTP request to an HTTPS server") => Peer::OriginalOf2,
        404 if body == "Not Found" && server.is_empty() && is_plain => match has_date {
            false => Peer::Ours,
            true => Peer::Original,
        },
        200 if is_plain && body.parse::<std::net::IpAddr>().is_ok() => Peer::OriginalOf12,
        502..=504 => Peer::Proxy(status, server),
        _ => Peer::Web(if server.is_empty() { format!("HTTP {status}") } else { server }),
    }
}

/// The value of a field of a head.
pub fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    fields.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
}

/// What that means for a client.
pub fn judge(peer: &Peer, at: &str) -> Finding {
    let finding = |case| Finding::new(case, at);
    match peer {
        Peer::Ours => finding(&SERVER_OURS),
        Peer::Original => finding(&SERVER_ORIGINAL).with("1.13, 1.14"),
        Peer::OriginalOf2 => finding(&SERVER_ORIGINAL).with("1.15 - 2.0"),
        Peer::Pool => finding(&SERVER_ORIGINAL).with("1.4 - 1.14"),
        Peer::OriginalOf12 => finding(&SERVER_OLD),
        Peer::Web(name) => finding(&SERVER_WEB).with(name),
        Peer::Proxy(status, name) => finding(&SERVER_PROXY).with(format!("{status} {name}").trim_end()),
        Peer::Ssh => finding(&SERVER_OTHER).with("SSH"),
        Peer::Tls => finding(&SERVER_TLS),
        Peer::Silent => finding(&SERVER_MUTE),
        Peer::Other(bytes) => finding(&SERVER_OTHER).with(crate::log::printable(bytes)),
    }
}

/// A path that no server has.
const PATH: &str = "/nodepass-check";
/// Bytes of the id of a pool connection.
const POOL_ID: usize = 4;
/// Bytes of an unknown answer that are shown.
const SHOWN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::codes;
    use crate::logic::http::ErrorStatus;

    #[test]
    fn each_program_is_known_by_its_first_bytes() {
        let text = |text: &str| peer(text.replace('\n', "\r\n").as_bytes());
        assert_eq!(peer(&ErrorStatus::NotFound.to_bytes()), Peer::Ours);
        let go = "HTTP/1.1 404 Not Found\nContent-Type: text/plain; charset=utf-8\nDate: Sat, 21 Nov 2026 02:06:00 GMT\n\nNot Found\n";
        assert_eq!(text(go), Peer::Original);
        let tls = "HTTP/1.0 400 Bad Request\n\nClient sent an HTTP request to an HTTPS server.\n";
        assert_eq!(text(tls), Peer::OriginalOf2);
        assert_eq!(text("HTTP/1.1 200 OK\nContent-Type: text/plain\n\n192.0.2.7\n"), Peer::OriginalOf12);
        assert_eq!(text("HTTP/1.1 404 Not Found\nServer: nginx/1.22\n\n<html>"), Peer::Web("nginx/1.22".into()));
        assert_eq!(text("HTTP/1.1 502 Bad Gateway\nServer: nginx\n\n"), Peer::Proxy(502, "nginx".into()));
        assert_eq!(peer(b"SSH-2.0-OpenSSH_9.2\r\n"), Peer::Ssh);
        assert_eq!(peer(&[0x15, 3, 1, 0, 2, 2, 70]), Peer::Tls);
        assert_eq!((peer(&[]), peer(&[1, 2, 3, 4])), (Peer::Silent, Peer::Pool));
        assert_eq!(peer(b"220 mail.example ESMTP\r\n"), Peer::Other(b"220 mail.example".to_vec()));
    }

    #[test]
    fn what_is_no_server_of_ours_is_a_finding_with_a_cure() {
        for (peer, code) in [
            (Peer::Ours, "server-ours"),
            (Peer::Original, "server-original"),
            (Peer::Web("nginx".into()), "server-web"),
            (Peer::Proxy(502, String::new()), "server-proxy"),
            (Peer::Ssh, "server-other"),
            (Peer::Silent, "server-mute"),
            (Peer::Tls, "server-tls"),
        ] {
            assert_eq!(codes(&[judge(&peer, "h:1")]), [code]);
        }
    }
}
