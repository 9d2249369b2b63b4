//! Who answers at the tunnel's port, by the first bytes of the answer to a request that asks for nothing.
//!
//! The request has no token and another path than a handshake, so no server takes it for a client; but to an original that waits for pool
//! connections any connection is one. So nothing is asked where a tunnel to that address stands already.

use super::finding::Finding;
use super::words::*;
use crate::logic::program::Program;

/// What is asked.
pub fn request(host: &str) -> Vec<u8> {
    format!("GET {PATH} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").into_bytes()
}

/// What that means for a client.
pub fn judge(peer: &Program, at: &str) -> Finding {
    let finding = |case| Finding::new(case, at);
    match peer {
        Program::Ours => finding(&SERVER_OURS),
        Program::Original => finding(&SERVER_ORIGINAL).with("1.13, 1.14"),
        Program::OriginalOf2 => finding(&SERVER_ORIGINAL).with("1.15 - 2.0"),
        Program::Pool => finding(&SERVER_ORIGINAL).with("1.4 - 1.14"),
        Program::OriginalOf12 => finding(&SERVER_OLD),
        Program::Web(status, name) if name.is_empty() => finding(&SERVER_WEB).with(format!("HTTP {status}")),
        Program::Web(_, name) => finding(&SERVER_WEB).with(name),
        Program::Proxy(status, name) => finding(&SERVER_PROXY).with(format!("{status} {name}").trim_end()),
        Program::Ssh => finding(&SERVER_OTHER).with("SSH"),
        Program::Tls => finding(&SERVER_TLS),
        Program::Silent => finding(&SERVER_MUTE),
        Program::Other(bytes) => finding(&SERVER_OTHER).with(crate::log::printable(bytes)),
    }
}

/// A path that no server has.
const PATH: &str = "/nodepass-check";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::codes;

    #[test]
    fn what_is_no_server_of_ours_is_a_finding_with_a_cure() {
        for (peer, code) in [
            (Program::Ours, "server-ours"),
            (Program::Original, "server-original"),
            (Program::Web(404, "nginx".into()), "server-web"),
            (Program::Proxy(502, String::new()), "server-proxy"),
            (Program::Ssh, "server-other"),
            (Program::Silent, "server-mute"),
            (Program::Tls, "server-tls"),
        ] {
            assert_eq!(codes(&[judge(&peer, "h:1")]), [code]);
        }
    }
}
