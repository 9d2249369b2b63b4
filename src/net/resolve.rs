//! Names into addresses: one thread that may wait for the system's resolver, so that no other does.

use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::mpsc::{self, SyncSender, TrySendError};
use std::thread;

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
    fn a_name_that_everybody_has_is_found_and_a_bad_one_is_not() {
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
