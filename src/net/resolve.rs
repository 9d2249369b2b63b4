//! Names into addresses: one thread that may wait for the system's resolver, so that no other does.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, ToSocketAddrs};
use std::sync::mpsc::{self, SyncSender, TrySendError};
use std::thread;

use super::sys;
use crate::error::{Cause, Error};

/// A running resolver. It ends when this is dropped.
pub struct Resolver {
    questions: SyncSender<String>,
}

impl Resolver {
    /// Starts the thread; each answer is handed to `tell` there.
    pub fn start(tell: impl Fn(String, Result<Vec<IpAddr>, Error>) + Send + 'static) -> io::Result<Resolver> {
        let (questions, asked) = mpsc::sync_channel::<String>(MAX_QUESTIONS);
        thread::Builder::new().name("resolver".into()).stack_size(STACK).spawn(move || {
            for name in asked {
                let answer = look_up(&name);
                tell(name, answer);
            }
        })?;
        Ok(Resolver { questions })
    }

    /// Asks for a name's addresses. An error if too many questions wait already.
    pub fn ask(&self, name: String) -> Result<(), Error> {
        self.questions.try_send(name).map_err(|error| match error {
            TrySendError::Full(name) => Error::name(name, "too many names wait for the resolver"),
            TrySendError::Disconnected(name) => Error::name(name, "the resolver's thread has ended"),
        })
    }
}

/// Asks the system, and waits for it.
pub fn look_up(name: &str) -> Result<Vec<IpAddr>, Error> {
    let found = (name, 0).to_socket_addrs().map_err(|error| Error::name(name.to_owned(), cause(error)))?;
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in found.map(|address| address.ip()) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    match addresses.is_empty() {
        true => Err(Error::name(name.to_owned(), "the name has no address")),
        false => Ok(addresses),
    }
}

/// An address of one link, where `zone` is the name or the number of the interface to it. Interfaces come and go: this is asked anew for
/// each use.
pub fn on_link(ip: Ipv6Addr, zone: &str, port: u16) -> Result<SocketAddr, Error> {
    let number = zone.parse().ok().or_else(|| sys::interface_named(zone)).filter(|number| *number != 0);
    match number {
        Some(number) => Ok(SocketAddrV6::new(ip, port, 0, number).into()),
        None => {
            Err(Error::unreachable(format!("[{ip}%{zone}]:{port}"), format!("there is no network interface {zone}"))
                .with_hint("the names and numbers of this machine's are what `ip link` or `ifconfig -a` shows"))
        }
    }
}

/// The resolver's own words, without the standard library's before them.
fn cause(error: io::Error) -> Cause {
    match Cause::from(error) {
        Cause::Words(words) => match words.strip_prefix(PREFIX) {
            Some(own) => own.to_owned().into(),
            None => Cause::Words(words),
        },
        number => number,
    }
}

/// What the standard library puts before the resolver's words.
const PREFIX: &str = "failed to lookup address information: ";

/// Most questions that wait.
const MAX_QUESTIONS: usize = 256;
/// The system's resolver wants some room.
const STACK: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_has_a_name_and_a_number_and_one_that_is_not_there_is_named() {
        let ip = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
        let loopback =
            ["lo", "lo0"].into_iter().find_map(sys::interface_named).expect("every machine has a loopback interface");
        let by_number = on_link(ip, &loopback.to_string(), 80).unwrap();
        assert_eq!(by_number, SocketAddrV6::new(ip, 80, 0, loopback).into());
        for bad in ["none-such", "0", "a\0b", ""] {
            let told = on_link(ip, bad, 80).unwrap_err().to_string();
            assert!(told.starts_with(&format!("[fe80::1%{bad}]:80: there is no network interface {bad}")), "{told}");
        }
    }

    #[test]
    fn a_name_that_every_machine_has_is_found_and_a_bad_one_is_not() {
        let (tell, told) = mpsc::channel();
        let resolver = Resolver::start(move |name, answer| tell.send((name, answer)).unwrap()).unwrap();
        resolver.ask("localhost".into()).unwrap();
        resolver.ask("no.such.name.invalid".into()).unwrap();
        let (name, answer) = told.recv().unwrap();
        assert_eq!(name, "localhost");
        assert!(answer.unwrap().iter().all(IpAddr::is_loopback));
        let error = told.recv().unwrap().1.unwrap_err();
        assert!(matches!(error, Error::Name(_)) && error.subject() == "no.such.name.invalid", "{error}");
        let told = error.to_string();
        assert!(told.starts_with("cannot look up no.such.name.invalid: ") && !told.contains(PREFIX), "{told}");
    }
}
