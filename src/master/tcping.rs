//! Whether something answers at an address, and how fast: one TCP connection, closed at once.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::mpsc::{sync_channel, RecvTimeoutError};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::semaphore::{Permit, Semaphore};
use crate::error::Error;
use crate::net::resolve::on_link;

/// What came of one try.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct TcpingResult {
    /// As it was asked.
    pub target: String,
    /// Whether the connection was accepted.
    pub connected: bool,
    /// How long it took, ms; 0 if it was not.
    pub latency: u64,
    /// Why not, in the words of Go's dialler.
    pub error: Option<String>,
}

/// Tries `target`, when one of the few places for that is free.
pub(super) fn tcping(semaphore: &Arc<Semaphore>, target: &str) -> TcpingResult {
    let tried = match semaphore.enter(PLACE_TIMEOUT) {
        Some(pass) => dial(target, &Arc::new(pass)),
        None => Err(Failure::Busy),
    };
    let (connected, latency, error) = match tried {
        Ok(latency) => (true, latency.as_millis().try_into().unwrap_or(u64::MAX), None),
        Err(failure) => (false, 0, Some(failure.to_string())),
    };
    TcpingResult { target: target.into(), connected, latency, error }
}

/// Looks the name up and connects to the first of its addresses that answers. The place is held until both are done.
fn dial(target: &str, pass: &Arc<Permit>) -> Result<Duration, Failure> {
    let start = Instant::now();
    let left = || TIMEOUT.saturating_sub(start.elapsed());
    let (host, port) = split(target).map_err(|fault| Failure::Address(target.into(), fault))?;
    let addresses = look_up(host, port, left(), pass)?;
    let mut first = None;
    for (at, address) in addresses.iter().enumerate() {
        // What is left is for all of them, but two seconds are worth it for each.
        let share = (left() / (addresses.len() - at) as u32).max(MIN_ADDRESS_TIMEOUT).min(left());
        if share.is_zero() {
            break;
        }
        match TcpStream::connect_timeout(address, share) {
            Ok(_) => return Ok(start.elapsed()),
            Err(error) => first = first.or(Some(Failure::Dial(*address, error))),
        }
    }
    Err(first.unwrap_or_else(|| Failure::Lookup(host.into(), Unresolved::Late)))
}

/// The addresses of a host. The system's resolver may take longer than we wait: then its thread keeps its place until
/// it is done, so that there are never more of them than places.
fn look_up(host: &str, port: u16, timeout: Duration, pass: &Arc<Permit>) -> Result<Vec<SocketAddr>, Failure> {
    let host = if host.is_empty() { "localhost" } else { host };
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![(address, port).into()]);
    }
    if let Some((ip, zone)) = host.split_once('%').and_then(|(ip, zone)| Some((ip.parse().ok()?, zone))) {
        return on_link(ip, zone, port).map(|at| vec![at]).map_err(Failure::Zone);
    }
    let (answer, found) = sync_channel(1);
    let (name, pass) = (host.to_owned(), Arc::clone(pass));
    let thread = thread::Builder::new().name("lookup".into()).stack_size(STACK).spawn(move || {
        let found = (name.as_str(), port).to_socket_addrs().map(Iterator::collect);
        drop(pass);
        let _ = answer.send(found);
    });
    let failed = |why| Failure::Lookup(host.into(), why);
    thread.map_err(|error| failed(Unresolved::NoThread(error)))?;
    match found.recv_timeout(timeout) {
        Ok(Ok(addresses)) => Ok(addresses),
        Ok(Err(_)) | Err(RecvTimeoutError::Disconnected) => Err(failed(Unresolved::Unknown)),
        Err(RecvTimeoutError::Timeout) => Err(failed(Unresolved::Late)),
    }
}

/// Why there is no connection. It is shown in the words of Go's dialler.
#[derive(Debug)]
enum Failure {
    /// No place was free in time.
    Busy,
    /// What is asked for is no address.
    Address(String, &'static str),
    /// The host has no address.
    Lookup(String, Unresolved),
    /// The zone of an address is none of this machine's.
    Zone(Error),
    /// That address does not answer.
    Dial(SocketAddr, io::Error),
}

/// Why a host has no address.
#[derive(Debug)]
enum Unresolved {
    /// There is no such host.
    Unknown,
    /// The system's resolver has not answered in time.
    Late,
    /// The system gives no thread to ask it.
    NoThread(io::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Busy => f.write_str("too many requests"),
            Failure::Address(target, fault) => write!(f, "dial tcp: address {target}: {fault}"),
            Failure::Lookup(host, Unresolved::Unknown) => write!(f, "dial tcp: lookup {host}: no such host"),
            Failure::Lookup(host, Unresolved::Late) => write!(f, "dial tcp: lookup {host}: i/o timeout"),
            Failure::Lookup(host, Unresolved::NoThread(error)) => write!(f, "dial tcp: lookup {host}: {error}"),
            Failure::Zone(error) => write!(f, "dial tcp {}: {}", error.subject(), error.cause()),
            Failure::Dial(address, error) => write!(f, "dial tcp {address}: {}", words(error)),
        }
    }
}

/// Host and port of `host:port`, `[IPv6]:port` or `:port`; the error in Go's words.
fn split(target: &str) -> Result<(&str, u16), &'static str> {
    let (host, port) = match target.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or("missing ']' in address")?;
            (host, rest.strip_prefix(':').ok_or("missing port in address")?)
        }
        None => {
            let (host, port) = target.rsplit_once(':').ok_or("missing port in address")?;
            match host.contains(':') {
                true => return Err("too many colons in address"),
                false => (host, port),
            }
        }
    };
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|_| digits).ok_or("invalid port")?;
    Ok((host, port))
}

/// Why a connection was not made, in Go's words.
fn words(error: &io::Error) -> String {
    match (error.kind(), error.raw_os_error()) {
        (io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock, _) => "i/o timeout".into(),
        (io::ErrorKind::ConnectionRefused, _) => "connect: connection refused".into(),
        (_, Some(libc::ENETUNREACH)) => "connect: network is unreachable".into(),
        (_, Some(libc::EHOSTUNREACH)) => "connect: no route to host".into(),
        (_, Some(libc::EACCES)) => "connect: permission denied".into(),
        (_, Some(libc::EINVAL)) => "connect: invalid argument".into(),
        _ => format!("connect: {}", error.to_string().to_lowercase()),
    }
}

/// Tries at once.
pub(super) const PLACES: usize = 10;

/// Longest wait for a place.
const PLACE_TIMEOUT: Duration = Duration::from_secs(1);

/// Longest time for one try, looking up included: the original's.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Shortest time for one address, while there is time.
const MIN_ADDRESS_TIMEOUT: Duration = Duration::from_secs(2);

/// Bytes of stack for a look-up; the system's resolver uses some 70 KB.
const STACK: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::skip;
    use std::net::TcpListener;

    fn fault(target: &str) -> String {
        let outcome = tcping(&Semaphore::new(PLACES), target);
        assert_eq!((outcome.target.as_str(), outcome.connected, outcome.latency), (target, false, 0));
        outcome.error.unwrap()
    }

    #[test]
    fn a_program_that_listens_is_reached_by_address_and_by_name() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        for target in [format!("127.0.0.1:{port}"), format!("localhost:{port}"), format!(":{port}")] {
            let outcome = tcping(&Semaphore::new(PLACES), &target);
            assert_eq!((outcome.connected, outcome.error), (true, None), "{target}");
        }
    }

    #[test]
    fn ipv6_is_written_in_brackets() {
        let Ok(listener) = TcpListener::bind("[::1]:0") else { return skip("IPv6") };
        let port = listener.local_addr().unwrap().port();
        assert!(tcping(&Semaphore::new(PLACES), &format!("[::1]:{port}")).connected);
        assert_eq!(fault("[::1]:1"), "dial tcp [::1]:1: connect: connection refused");
    }

    #[test]
    fn failures_are_told_in_gos_words() {
        assert_eq!(fault("127.0.0.1:1"), "dial tcp 127.0.0.1:1: connect: connection refused");
        assert_eq!(fault("nonsense"), "dial tcp: address nonsense: missing port in address");
        assert_eq!(fault("[::1]"), "dial tcp: address [::1]: missing port in address");
        assert_eq!(fault("::1:80"), "dial tcp: address ::1:80: too many colons in address");
        assert_eq!(fault("[::1:80"), "dial tcp: address [::1:80: missing ']' in address");
        for port in ["65536", "+80", "-1", "http", "", "8 "] {
            let target = format!("127.0.0.1:{port}");
            assert_eq!(fault(&target), format!("dial tcp: address {target}: invalid port"));
        }
        assert_eq!(fault("no-such-host.invalid:80"), "dial tcp: lookup no-such-host.invalid: no such host");
        assert_eq!(fault("a\0b:80"), "dial tcp: lookup a\0b: no such host");
    }

    #[test]
    fn the_eleventh_at_once_waits_and_is_then_refused_or_let_in() {
        let semaphore = Semaphore::new(PLACES);
        let mut passes: Vec<_> = (0..PLACES).map(|_| semaphore.enter(Duration::ZERO).unwrap()).collect();
        let outcome = tcping(&semaphore, "127.0.0.1:1");
        assert_eq!((outcome.connected, outcome.error.as_deref()), (false, Some("too many requests")));
        let waiting = thread::spawn({
            let semaphore = Arc::clone(&semaphore);
            move || semaphore.enter(Duration::from_secs(20)).is_some()
        });
        passes.pop();
        assert!(waiting.join().unwrap());
        drop(passes);
        assert_eq!(semaphore.free(), PLACES);
    }
}
