//! The way from a client to its server: each address, who answers there, whether UDP gets through, whether the clocks agree.
//!
//! The authenticated handshake has its place after [`peer`]: where both ends prove the key before anything is decided, it
//! harms nothing to begin one and leave. An original's takes the tunnel over, so it is never begun.

use std::io::{self, Write};
use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use super::certificates::now;
use super::dial::{connect, read_all, unreachable};
use super::finding::Finding;
use super::holders::connections_to;
use super::lookups::{addresses, Lookup};
use super::peer;
use super::targets::milliseconds;
use super::words::*;
use crate::config::{Config, Endpoint};
use crate::error::Error;
use crate::logic::program::{field, Program};

/// What was found at one address.
#[derive(Debug)]
pub struct Address {
    /// Where.
    pub at: SocketAddr,
    /// How long a connection took, or why there is none.
    pub reached: Result<Duration, Error>,
    /// Connections of this machine that lead there already.
    pub standing: usize,
    /// Who answers; `None` if it was not asked.
    pub peer: Option<Program>,
    /// Seconds that its clock is ahead of ours.
    pub ahead: Option<i64>,
    /// Whether QUIC answers, or UDP is refused; `None` if nothing came. This program answers only clients that it expects.
    pub quic: Option<bool>,
}

/// Looks at every address of the server, or at those of the proxy on the way.
pub fn look(config: &Config, lookups: &[Lookup]) -> Vec<Address> {
    let at: &Endpoint = config.https_proxy.as_ref().map_or(&config.tunnel, |(at, _)| at);
    let (timeout, asked, host) =
        (config.limits.tcp_dial, config.https_proxy.is_none(), config.tunnel.host.without_zone().to_string());
    let threads: Vec<_> = addresses(at, lookups)
        .into_iter()
        .take(MAX_ADDRESSES)
        .map(|at| {
            let host = host.clone();
            thread::spawn(move || Address::look(at, asked, &host, timeout))
        })
        .collect();
    threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
}

impl Address {
    fn look(at: SocketAddr, asked: bool, host: &str, timeout: Duration) -> Address {
        let standing = connections_to(at);
        let mut address = Address { at, reached: Ok(Duration::ZERO), standing, peer: None, ahead: None, quic: None };
        // To an original a connection more is one for its pool.
        if standing > 0 {
            return address;
        }
        match connect(at, None, timeout) {
            Err(error) => address.reached = Err(unreachable(at, error, timeout)),
            Ok((mut stream, time)) => {
                address.reached = Ok(time);
                if asked {
                    let host = if host.is_empty() { "none" } else { host };
                    // What comes before an error counts: who closes at once may have said why.
                    let _ = stream.write_all(&peer::request(host));
                    let (answer, _) = read_all(&mut stream, MAX_ANSWER);
                    address.ahead = date(&answer).map(|date| date - now());
                    address.peer = Some(Program::of(&answer));
                }
            }
        }
        address.quic = if asked { quic_answers(at) } else { None };
        address
    }

    fn judge(&self) -> Vec<Finding> {
        let at = self.at.to_string();
        if self.standing > 0 {
            return vec![Finding::new(&SERVER_TUNNEL, at).with(self.standing)];
        }
        let reached = match &self.reached {
            Ok(time) => Finding::new(&SERVER_REACHED, &at).with(milliseconds(*time)),
            Err(error) => {
                return vec![Finding::new(&SERVER_UNREACHABLE, &at).with(error.cause()).with(error.hint())];
            }
        };
        let mut found = vec![reached];
        let Some(peer) = &self.peer else { return found };
        found.push(peer::judge(peer, &at));
        let apart = self.ahead.filter(|seconds| seconds.abs() > MAX_APART);
        found.extend(apart.map(|seconds| Finding::new(&CLOCK_APART, &at).with(seconds)));
        let quic = match self.quic {
            Some(true) => &SERVER_QUIC,
            Some(false) => &SERVER_NO_QUIC,
            None => &SERVER_UDP_SILENT,
        };
        found.push(Finding::new(quic, format!("{at} (UDP)")));
        found
    }
}

/// What the addresses come to.
pub fn judge(config: &Config, all: &[Address]) -> Vec<Finding> {
    let proxy = config.https_proxy.as_ref();
    let proxied = proxy.map(|(at, _)| Finding::new(&SERVER_PROXIED, &config.tunnel).with(at));
    proxied.into_iter().chain(all.iter().flat_map(Address::judge)).collect()
}

/// The time in an answer, as seconds since 1970: `Date: Sat, 21 Nov 2026 02:06:00 GMT`.
fn date(answer: &[u8]) -> Option<i64> {
    let text = String::from_utf8_lossy(answer);
    let (head, _) = text.split_once("\r\n\r\n")?;
    let words: Vec<&str> = field(head, "date")?.split([' ', ':']).collect();
    let [_, day, month, year, hour, minute, second, "GMT"] = words[..] else { return None };
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    let stamp = format!("{year}{month:02}{day}{hour}{minute}{second}Z");
    crate::logic::x509::full_time(stamp.as_bytes())
}

/// Whether QUIC answers: to a version that does not exist a server says which ones do (RFC 9000, 6), and keeps nothing.
fn quic_answers(at: SocketAddr) -> Option<bool> {
    let local: SocketAddr = if at.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = UdpSocket::bind(local).ok()?;
    socket.connect(at).ok()?;
    socket.set_read_timeout(Some(QUIC_ANSWER)).ok()?;
    let mut packet = vec![0; QUIC_PACKET];
    packet[..QUIC_HEAD.len()].copy_from_slice(&QUIC_HEAD);
    for _ in 0..QUIC_TRIES {
        let mut answer = [0; 64];
        match socket.send(&packet).and_then(|_| socket.recv(&mut answer)) {
            // A long header with the version 0.
            Ok(count) => return (count >= 7 && answer[0] & 0x80 != 0 && answer[1..5] == [0; 4]).then_some(true),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Some(false),
            Err(_) => {}
        }
    }
    None
}

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
/// A long header, a version that is reserved for this (RFC 9000, 15), and two connection ids of 8 bytes.
const QUIC_HEAD: [u8; 23] =
    [0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 8, b'c', b'h', b'e', b'c', b'k', 1, 2, 3, 8, b'c', b'h', b'e', b'c', b'k', 4, 5, 6];
/// Bytes of a datagram that a server answers.
const QUIC_PACKET: usize = 1200;
/// Datagrams are lost now and then.
const QUIC_TRIES: usize = 3;
/// How long an answer to one is waited for.
const QUIC_ANSWER: Duration = Duration::from_millis(700);
/// Addresses that are looked at.
const MAX_ADDRESSES: usize = 16;
/// Bytes of an answer that are looked at.
const MAX_ANSWER: usize = 16 * 1024;
/// Seconds that two clocks may be apart: less than any certificate notices.
const MAX_APART: i64 = 60;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::{codes, parsed};

    fn address() -> Address {
        let (at, peer) = ("192.0.2.7:1".parse().unwrap(), Some(Program::Ours));
        Address { at, reached: Ok(Duration::from_millis(7)), standing: 0, peer, ahead: None, quic: Some(true) }
    }

    #[test]
    fn each_outcome_of_an_address_has_its_case() {
        let codes = |address| codes(&judge(&parsed("client://192.0.2.7:1/:2").0, &[address]));
        assert_eq!(codes(address()), ["server-reached", "server-ours", "server-quic"]);
        assert_eq!(codes(Address { standing: 9, ..address() }), ["server-tunnel"]);
        let reached = Err(Error::unreachable("192.0.2.7:1", "no"));
        assert_eq!(codes(Address { reached, ..address() }), ["server-unreachable"]);
        let late = Address { ahead: Some(-3600), quic: Some(false), ..address() };
        assert_eq!(codes(late), ["server-reached", "server-ours", "clock-apart", "server-no-quic"]);
        assert_eq!(codes(Address { quic: None, ..address() })[2], "server-udp-silent");
        assert_eq!(codes(Address { ahead: Some(60), ..address() }).len(), 3);
    }

    #[test]
    fn the_time_of_an_answer_is_read() {
        let answer = b"HTTP/1.1 200 OK\r\nDate: Sat, 21 Nov 2026 02:06:00 GMT\r\n\r\n";
        // date -ud '2026-11-21 02:06' +%s
        assert_eq!(date(answer), Some(1_795_226_760));
        for bad in ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nDate: now\r\n\r\n", ""] {
            assert_eq!(date(bad.as_bytes()), None);
        }
    }
}
