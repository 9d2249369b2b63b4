//! Names into addresses: one thread that may wait for the system's resolver, so that nobody else does.

use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::mpsc::{self, SyncSender, TrySendError};
use std::thread;

/// A running resolver. It ends when this is dropped.
pub struct Resolver {
    questions: SyncSender<String>,
}

impl Resolver {
    /// Starts the thread; each answer is handed to `tell` there.
    pub fn start(tell: impl Fn(String, Result<Vec<IpAddr>, String>) + Send + 'static) -> io::Result<Resolver> {
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
    pub fn ask(&self, name: String) -> Result<(), String> {
        self.questions.try_send(name).map_err(|error| match error {
            TrySendError::Full(_) => "the resolver has too many questions waiting".into(),
            TrySendError::Disconnected(_) => "the resolver has ended".into(),
        })
    }
}

/// Asks the system, and waits for it.
pub fn look_up(name: &str) -> Result<Vec<IpAddr>, String> {
    let found = (name, 0).to_socket_addrs().map_err(|error| error.to_string())?;
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in found.map(|address| address.ip()) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    match addresses.is_empty() {
        true => Err("the name has no address".into()),
        false => Ok(addresses),
    }
}

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
        assert!(told.recv().unwrap().1.is_err());
    }
}
