//! From a client to its server: each address, who answers there, inside TLS and outside, whether UDP gets through, whether the clocks agree.

use std::io::Write;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::certificates::now;
use super::dial::{read_all, Hop};
use super::finding::Finding;
use super::handshake::{Asker, Proven, Secured};
use super::holders::connections_to;
use super::lookups::{addresses, Lookup};
use super::peer;
use super::quic::{self, Quic};
use super::targets::milliseconds;
use super::words::*;
use crate::config::{Config, Transport, HTTPS};
use crate::error::{Cause, Error};
use crate::logic::auth::AuthMode;
use crate::logic::local_end::LocalEnd;
use crate::logic::program::{field, Program};
use crate::net::{mtu, sys};
use crate::run::hub::route::{first_hop, via};

/// What is wrong with the place where calls to the server begin (`bind`), if that is said.
pub fn look_at_bind(config: &Config) -> Option<Finding> {
    match config.bind.as_ref()? {
        LocalEnd::Device(name) => sys::interface_named(name).is_none().then(|| Finding::new(&BIND_NO_DEVICE, name)),
        LocalEnd::Address(ip) => {
            let error = UdpSocket::bind((*ip, 0)).err()?;
            Some(Finding::new(&BIND_NO_ADDRESS, ip).with(Cause::from(error)))
        }
    }
}

/// What was found at one address of the server, or of the proxy before it.
#[derive(Debug)]
pub struct Address {
    /// Where.
    pub at: SocketAddr,
    /// How long a connection took, or why there is none.
    pub reached: Result<Duration, Error>,
    /// Connections of this machine that lead there already.
    pub standing: usize,
    /// The largest packet that this machine knows to pass.
    pub packet: Option<usize>,
    /// Who answers; `None` if it was not asked.
    pub peer: Option<Program>,
    /// What is inside TLS; `None` where TLS is not expected.
    pub tls: Option<Result<Secured, Error>>,
    /// Seconds that its clock is ahead of ours.
    pub ahead: Option<i64>,
    /// What becomes of UDP; `None` where it was not tried.
    pub quic: Option<Quic>,
}

/// Looks at every address of the server, or at those of the proxy on the way.
pub fn look(config: &Config, lookups: &[Lookup]) -> Vec<Address> {
    let asker = Arc::new(Asker::new(config));
    let is_https = config.tunnel.port == HTTPS;
    let from = config.bind.clone();
    let hop = |at| Hop { at, from: from.clone(), via: via(config), timeout: config.limits.tcp_dial };
    let threads: Vec<_> = addresses(first_hop(config), lookups)
        .into_iter()
        .take(MAX_ADDRESSES)
        .map(hop)
        .map(|hop| {
            let asker = asker.clone();
            thread::spawn(move || Address::look(&hop, &asker, is_https))
        })
        .collect();
    threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
}

impl Address {
    fn new(at: SocketAddr) -> Address {
        let (standing, packet) = (connections_to(at), mtu::largest_to(at, None).map(|size| size + headers(at)));
        let reached = Ok(Duration::ZERO);
        Address { at, reached, standing, packet, peer: None, tls: None, ahead: None, quic: None }
    }

    fn look(hop: &Hop, asker: &Asker, is_https: bool) -> Address {
        let mut address = Address::new(hop.at);
        // To an original a connection more is one for its pool.
        if address.standing > 0 {
            return address;
        }
        let (mut stream, time) = match hop.open() {
            Ok(opened) => opened,
            Err(error) => {
                address.reached = Err(error);
                return address;
            }
        };
        address.reached = Ok(time);
        // What comes before an error counts: who closes at once may have said why.
        let _ = stream.write_all(&asker.question());
        let (answer, _) = read_all(&mut stream, MAX_ANSWER);
        drop(stream);
        address.ahead = date(&answer).map(|date| date - now());
        let clear = Program::of(&answer);
        if is_https || may_speak_tls(&clear) {
            let secured = asker.look(hop);
            address.peer = Some(known(&clear, secured.as_ref().ok()));
            let expected = is_https || matches!(clear, Program::Tls | Program::OriginalOf2);
            address.tls = Some(secured).filter(|secured| expected || secured.is_ok());
        } else {
            address.peer = Some(clear);
        }
        address.quic = hop.via.is_none().then(|| quic::look(hop.at, hop.from.as_ref()));
        address
    }

    fn judge(&self, config: &Config) -> Vec<Finding> {
        let (at, is_proxy) = (self.at.to_string(), config.https_proxy.is_some());
        if self.standing > 0 {
            return vec![Finding::new(&SERVER_TUNNEL, at).with(self.standing)];
        }
        let mut found = match &self.reached {
            Ok(time) if is_proxy => vec![Finding::new(&PROXY_CONNECTS, &at).with(milliseconds(*time))],
            Ok(time) => vec![Finding::new(&SERVER_REACHED, &at).with(milliseconds(*time))],
            Err(error) => {
                let case = if matches!(error, Error::Proxy(_)) { &PROXY_FAILS } else { &SERVER_UNREACHABLE };
                return vec![Finding::new(case, &at).with(error.cause()).with(error.hint())];
            }
        };
        found.extend(self.packet.map(|size| Finding::new(&SERVER_PACKETS, &at).with(size)));
        let Some(peer) = &self.peer else { return found };
        found.push(peer::judge(peer, &at));
        found.extend(self.judge_tls(config, peer, &at));
        let apart = self.ahead.filter(|seconds| seconds.abs() > MAX_APART);
        found.extend(apart.map(|seconds| Finding::new(&CLOCK_APART, &at).with(seconds)));
        found.extend(self.judge_quic());
        found
    }

    /// What is inside TLS, and what is not compared since asking would do harm.
    fn judge_tls(&self, config: &Config, peer: &Program, at: &str) -> Vec<Finding> {
        let mut found = match &self.tls {
            Some(Ok(secured)) => secured.judge(config, at),
            Some(Err(error)) => vec![Finding::new(&SERVER_TLS_FAILED, at).with(error.cause())],
            None => Vec::new(),
        };
        let is_original =
            matches!(peer, Program::Original | Program::OriginalOf2 | Program::Pool | Program::OriginalOf12);
        match (config.auth(), is_original) {
            (AuthMode::Required, true) => found.push(Finding::new(&SERVER_UNPROVEN, at)),
            (AuthMode::Off, _) if *peer == Program::Ours || is_original => {
                found.push(Finding::new(&SERVER_UNASKED, at))
            }
            (AuthMode::Preferred, true) => found.push(Finding::new(&SERVER_UNASKED, at)),
            _ => {}
        }
        found
    }

    fn judge_quic(&self) -> Option<Finding> {
        let terms = self.tls.as_ref().and_then(|tls| tls.as_ref().ok()?.proof.terms());
        let is_wanted = terms.is_some_and(|terms| terms.transport == Transport::Quic.code());
        let finding = |case| Finding::new(case, format!("{} (UDP)", self.at));
        Some(match self.quic {
            None if is_wanted => Finding::new(&QUIC_PROXIED, self.at),
            None => return None,
            Some(Quic::Answers(size)) => finding(&SERVER_QUIC).with(size),
            Some(Quic::Refused | Quic::Silent) if is_wanted => finding(&QUIC_BLOCKED),
            Some(Quic::Refused) => finding(&SERVER_NO_QUIC),
            Some(Quic::Silent) => finding(&SERVER_UDP_SILENT),
        })
    }
}

/// Bytes of a packet that are not payload of UDP.
fn headers(at: SocketAddr) -> usize {
    if at.ip().to_canonical().is_ipv4() {
        mtu::HEADERS_V4
    } else {
        mtu::HEADERS_V6
    }
}

/// Whether who answers like this may speak TLS at the same port. To others a connection more is a stranger's.
fn may_speak_tls(clear: &Program) -> bool {
    matches!(clear, Program::Ours | Program::Tls | Program::OriginalOf2 | Program::Web(..) | Program::Proxy(..))
}

/// Who answers, by what was said in the clear and inside TLS.
fn known(clear: &Program, secured: Option<&Secured>) -> Program {
    match (secured, clear) {
        (Some(secured), _) if secured.proof != Proven::Unasked => Program::Ours,
        // What is said inside TLS is the server's, and what is said outside may be a reverse proxy's.
        (Some(secured), Program::Tls | Program::Web(..) | Program::Proxy(..) | Program::Silent)
            if secured.peer != Program::Silent =>
        {
            secured.peer.clone()
        }
        _ => clear.clone(),
    }
}

/// What the addresses come to.
pub fn judge(config: &Config, all: &[Address]) -> Vec<Finding> {
    let proxy = config.https_proxy.as_ref();
    let proxied = proxy.map(|(at, _)| Finding::new(&SERVER_PROXIED, &config.tunnel).with(at));
    proxied.into_iter().chain(all.iter().flat_map(|address| address.judge(config))).collect()
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

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
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
        let (at, reached, peer) = ("192.0.2.7:1".parse().unwrap(), Ok(Duration::from_millis(7)), Some(Program::Ours));
        let (packet, quic) = (Some(1500), Some(Quic::Answers(1472)));
        Address { at, reached, standing: 0, packet, peer, tls: None, ahead: None, quic }
    }

    fn found(address: Address) -> Vec<&'static str> {
        codes(&judge(&parsed("client://192.0.2.7:1/:2").0, &[address]))
    }

    #[test]
    fn each_outcome_of_an_address_has_its_case() {
        assert_eq!(found(address()), ["server-reached", "server-packets", "server-ours", "server-quic"]);
        assert_eq!(found(Address { standing: 9, ..address() }), ["server-tunnel"]);
        let refused = |error| found(Address { reached: Err(error), ..address() });
        assert_eq!(refused(Error::unreachable("192.0.2.7:1", "no")), ["server-unreachable"]);
        assert_eq!(refused(Error::proxy("no")), ["proxy-fails"]);
        let late = Address { ahead: Some(-3600), quic: Some(Quic::Refused), packet: None, ..address() };
        assert_eq!(found(late), ["server-reached", "server-ours", "clock-apart", "server-no-quic"]);
        assert_eq!(found(Address { quic: Some(Quic::Silent), ..address() })[3], "server-udp-silent");
        assert_eq!(found(Address { ahead: Some(60), ..address() }).len(), 4);
        let broken = Address { tls: Some(Err(Error::tls("no"))), quic: None, ..address() };
        assert_eq!(found(broken)[3..], ["server-tls-failed"]);
    }

    #[test]
    fn keys_and_terms_of_an_original_are_not_compared_and_auth_2_does_not_take_it() {
        let original = |url: &str| {
            let address = Address { peer: Some(Program::Original), packet: None, quic: None, ..address() };
            codes(&judge(&parsed(url).0, &[address]))[1..].to_vec()
        };
        assert_eq!(original("client://192.0.2.7:1/:2"), ["server-original", "server-unasked"]);
        assert_eq!(original("client://192.0.2.7:1/:2?auth=2"), ["server-original", "server-unproven"]);
    }

    #[test]
    fn a_place_where_calls_cannot_begin_is_told() {
        let found = |bind: &str| look_at_bind(&parsed(&format!("client://192.0.2.7:1/:2?bind={bind}")).0);
        for (bind, code) in [("203.0.113.77", "bind-no-address"), ("no-such-device", "bind-no-device")] {
            let finding = found(bind).unwrap();
            assert_eq!((finding.case.code, finding.subject.as_str()), (code, bind));
        }
        assert!(found("127.0.0.1").is_none() && found("lo").is_none() && found("auto").is_none());
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
