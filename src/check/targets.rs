//! Targets: does something listen there? A TCP target is connected to and left at once; a UDP target gets an empty datagram.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use super::dial::connect;
use super::finding::Finding;
use super::lookups::{addresses, Lookup};
use super::words::*;
use crate::config::{Config, Endpoint};
use crate::logic::local_end::LocalEnd;

/// What became of one address of a target.
#[derive(Debug)]
pub struct Reached {
    /// Where.
    pub at: SocketAddr,
    /// How long a TCP connection took, or why there is none; `None` where TCP is not carried.
    pub tcp: Option<io::Result<Duration>>,
    /// What a datagram came to; `None` where UDP is not carried.
    pub udp: Option<Udp>,
}

/// What is known of a UDP port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Udp {
    /// The machine there says that nothing listens.
    Refused,
    /// It is silent: it may listen, or a firewall may drop what goes there.
    Silent,
    /// The datagram cannot even be sent.
    Unsent,
}

/// Tries every address of these targets, side by side.
pub fn look(config: &Config, targets: &[&Endpoint], lookups: &[Lookup]) -> Vec<Reached> {
    let (tcp, udp, from, timeout) = (config.tcp, config.udp, config.dial, config.limits.tcp_dial);
    let all = targets.iter().flat_map(|at| addresses(at, lookups));
    let one = move |at: SocketAddr| Reached {
        at,
        tcp: tcp.then(|| {
            let from = from.filter(|from| from.is_ipv4() == at.is_ipv4()).map(LocalEnd::Address);
            connect(at, from.as_ref(), timeout).map(|(_, time)| time)
        }),
        udp: udp.then(|| datagram(at)),
    };
    let threads: Vec<_> = all.take(MAX_ADDRESSES).map(|at| thread::spawn(move || one(at))).collect();
    threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
}

/// Sends an empty datagram, and waits a moment for the word that nothing listens.
fn datagram(at: SocketAddr) -> Udp {
    let local: SocketAddr = if at.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    let asked = UdpSocket::bind(local).and_then(|socket| {
        socket.connect(at)?;
        socket.set_read_timeout(Some(ANSWER))?;
        socket.send(&[])?;
        socket.recv(&mut [0; 1])
    });
    match asked {
        Ok(_) => Udp::Silent,
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Udp::Refused,
        Err(error) if [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut].contains(&error.kind()) => Udp::Silent,
        Err(_) => Udp::Unsent,
    }
}

/// What the targets come to.
pub fn judge(all: &[Reached]) -> Vec<Finding> {
    all.iter().flat_map(Reached::judge).collect()
}

impl Reached {
    fn judge(&self) -> Vec<Finding> {
        let finding = |case, protocol: &str| Finding::new(case, format!("{} ({protocol})", self.at));
        let tcp = self.tcp.as_ref().map(|tcp| match tcp {
            Ok(time) => finding(&TARGET_FINE, "TCP").with(milliseconds(*time)),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => finding(&TARGET_REFUSES, "TCP"),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => finding(&TARGET_SILENT, "TCP"),
            Err(error) => finding(&TARGET_UNREACHABLE, "TCP").with(error),
        });
        let udp = self.udp.map(|udp| match udp {
            Udp::Silent => finding(&TARGET_DATAGRAMS, "UDP"),
            // A service that has TCP need not have UDP.
            Udp::Refused if matches!(self.tcp, Some(Ok(_))) => finding(&TARGET_NO_DATAGRAMS, "UDP"),
            Udp::Refused => finding(&TARGET_REFUSES, "UDP"),
            Udp::Unsent => finding(&TARGET_UNREACHABLE, "UDP").with("a datagram cannot be sent there"),
        });
        tcp.into_iter().chain(udp).collect()
    }
}

/// With a digit after the point, as networks in one room take less than one.
pub fn milliseconds(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1000.0)
}

/// Addresses that are tried.
const MAX_ADDRESSES: usize = 64;
/// How long the word that nothing listens is waited for.
const ANSWER: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::codes;

    fn reached(tcp: Option<io::Result<Duration>>, udp: Option<Udp>) -> Vec<&'static str> {
        codes(&judge(&[Reached { at: "127.0.0.1:80".parse().unwrap(), tcp, udp }]))
    }

    #[test]
    fn each_outcome_of_a_target_has_its_case() {
        let tcp = |kind: io::ErrorKind| Some(Err(kind.into()));
        let fine = || Some(Ok(Duration::from_millis(1)));
        assert_eq!(reached(fine(), None), ["target-fine"]);
        assert_eq!(reached(tcp(io::ErrorKind::ConnectionRefused), None), ["target-refuses"]);
        assert_eq!(reached(tcp(io::ErrorKind::TimedOut), None), ["target-silent"]);
        assert_eq!(reached(tcp(io::ErrorKind::Other), None), ["target-unreachable"]);
        assert_eq!(reached(fine(), Some(Udp::Refused)), ["target-fine", "target-no-datagrams"]);
        assert_eq!(reached(None, Some(Udp::Refused)), ["target-refuses"]);
        assert_eq!(reached(None, Some(Udp::Silent)), ["target-datagrams"]);
        assert_eq!(reached(None, Some(Udp::Unsent)), ["target-unreachable"]);
    }
}
