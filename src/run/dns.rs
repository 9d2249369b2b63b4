//! Names looked up at the DNS servers that the user names (`dns`): one thread, in which many lookups wait side by side.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use mio::Token;

use super::channel::{channel, Receiver, Sender};
use super::poller::Poller;
use crate::config::{Endpoint, Host};
use crate::error::{Cause, Error};
use crate::logic::dns::{hosts, Exchange as Asked, Lookup, Step, MAX_EXCHANGES};
use crate::logic::names::Found;
use crate::net::dns::{in_order, Exchange};
use crate::net::random;
use crate::net::resolve::on_link;

/// The thread. It ends when this is dropped.
pub struct NameServers {
    questions: Sender<Option<String>>,
}

impl NameServers {
    /// Starts it for these servers; each answer is handed to `tell` there.
    pub fn start(
        servers: Vec<Endpoint>,
        tell: impl Fn(String, Result<Found, Error>) + Send + 'static,
    ) -> io::Result<NameServers> {
        let resolver = Resolver::new(servers)?;
        let (questions, asked) = channel(resolver.poller.waker());
        thread::Builder::new().name("dns".into()).stack_size(STACK).spawn(move || resolver.run(&asked, &tell))?;
        Ok(NameServers { questions })
    }

    /// Asks for a name's addresses.
    pub fn ask(&self, name: String) {
        self.questions.send(Some(name));
    }
}

impl Drop for NameServers {
    fn drop(&mut self) {
        self.questions.send(None);
    }
}

/// Asks for one name's addresses, and waits for them.
pub fn look_up(servers: &[Endpoint], name: &str) -> Result<Found, Error> {
    let failed = |error: io::Error| Error::name(name.to_owned(), error);
    let mut resolver = Resolver::new(servers.to_vec()).map_err(failed)?;
    resolver.waiting.push_back(name.to_owned());
    loop {
        if let Some((_, found)) = resolver.turn().map_err(failed)?.pop() {
            return found;
        }
    }
}

/// The lookups under way.
struct Resolver {
    poller: Poller,
    servers: Vec<Endpoint>,
    shown: Arc<[String]>,
    /// The server that has answered last.
    first: usize,
    running: [Option<Running>; MAX_LOOKUPS],
    waiting: VecDeque<String>,
}

/// A lookup, and its questions by number.
struct Running {
    lookup: Lookup,
    exchanges: [Option<Exchange>; MAX_EXCHANGES],
}

impl Resolver {
    fn new(servers: Vec<Endpoint>) -> io::Result<Resolver> {
        let shown = servers.iter().map(Endpoint::to_string).collect();
        let (running, waiting) = ([const { None }; MAX_LOOKUPS], VecDeque::new());
        Ok(Resolver { poller: Poller::new()?, servers, shown, first: 0, running, waiting })
    }

    fn run(mut self, questions: &Receiver<Option<String>>, tell: &dyn Fn(String, Result<Found, Error>)) {
        loop {
            while let Some(question) = questions.next() {
                let Some(name) = question else { return };
                self.waiting.push_back(name);
            }
            // A poll that fails, fails for good: those who wait give up in time.
            let Ok(told) = self.turn() else { return };
            told.into_iter().for_each(|(name, found)| tell(name, found));
        }
    }

    /// Waits for what comes next, unless there is a name to begin with, and goes on; what has been found.
    fn turn(&mut self) -> io::Result<Vec<(String, Result<Found, Error>)>> {
        let deadline = self.running.iter().flatten().map(|running| running.lookup.deadline()).min();
        let begins = !self.waiting.is_empty() && self.running.iter().any(Option::is_none);
        let now = self.poller.wait(begins, deadline)?;
        for event in self.poller.events() {
            let (place, number) = (event.token().0 / MAX_EXCHANGES, event.token().0 % MAX_EXCHANGES);
            if let Some(running) = self.running.get_mut(place).and_then(Option::as_mut) {
                running.receive(number);
            }
        }
        let mut told = Vec::new();
        for place in 0..self.running.len() {
            self.begin(place, now, &mut told);
            told.extend(self.advance(place, now));
        }
        Ok(told)
    }

    /// The next name that waits, where there is a place for it.
    fn begin(&mut self, place: usize, now: Instant, told: &mut Vec<(String, Result<Found, Error>)>) {
        while self.running[place].is_none() {
            let Some(name) = self.waiting.pop_front() else { return };
            let addresses = hosts(&hosts_file(), &name);
            if !addresses.is_empty() {
                told.push((name, Ok(Found { addresses, ttl: None })));
                continue;
            }
            let lookup = Lookup::new(name, &self.shown, self.first, now);
            self.running[place] = Some(Running { lookup, exchanges: [const { None }; MAX_EXCHANGES] });
        }
    }

    /// Does what that lookup wants; its end, if it has come.
    fn advance(&mut self, place: usize, now: Instant) -> Option<(String, Result<Found, Error>)> {
        let running = self.running[place].as_mut()?;
        loop {
            running.lookup.tick(now, &mut || random::number() as u16);
            match running.lookup.poll()? {
                Step::Ask(asked) => {
                    let token = Token(place * MAX_EXCHANGES + asked.number);
                    let begun = running.ask(asked, &self.servers, &self.poller, token);
                    if let Err(why) = begun {
                        running.lookup.lost(asked.number, why.to_string());
                    }
                }
                Step::Done(found) => {
                    let name = running.lookup.name().to_owned();
                    self.running[place] = None;
                    return Some(match found {
                        Ok((Found { addresses, ttl }, server)) => {
                            self.first = server;
                            (name, Ok(Found { addresses: in_order(addresses), ttl }))
                        }
                        Err(why) => (name.clone(), Err(Error::name(name, why))),
                    });
                }
            }
        }
    }
}

impl Running {
    /// Takes in what has come for a question.
    fn receive(&mut self, number: usize) {
        let Some(exchange) = &mut self.exchanges[number] else { return };
        loop {
            match exchange.receive() {
                Ok(Some(message)) => self.lookup.heard(number, message),
                Ok(None) => return,
                Err(why) => {
                    self.exchanges[number] = None;
                    return self.lookup.lost(number, why.to_string());
                }
            }
        }
    }

    fn ask(&mut self, asked: Asked, servers: &[Endpoint], poller: &Poller, token: Token) -> Result<(), Cause> {
        let server = address(servers.get(asked.server)).map_err(|error| error.cause().clone())?;
        let (question, registry) = (self.lookup.question(asked), poller.registry());
        let exchange = match asked.over_tcp {
            false => Exchange::udp(server, question, registry, token)?,
            true => Exchange::tcp(server, question, registry, token)?,
        };
        self.exchanges[asked.number] = Some(exchange);
        Ok(())
    }
}

/// Where a server is. An interface may have come or gone since it was asked last.
fn address(server: Option<&Endpoint>) -> Result<SocketAddr, Error> {
    match server {
        Some(Endpoint { host: Host::Ip(ip), port }) => Ok((*ip, *port).into()),
        Some(Endpoint { host: Host::Zoned(ip, zone), port }) => on_link(*ip, zone, *port),
        _ => Err(Error::unsupported("a DNS server has an address")),
    }
}

/// The system's file of hosts, which comes before all servers, as an original's resolver has it.
fn hosts_file() -> String {
    let mut text = Vec::new();
    // Without one there is nothing to be found in it.
    let _ = File::open(HOSTS).and_then(|file| file.take(MAX_HOSTS).read_to_end(&mut text));
    String::from_utf8_lossy(&text).into_owned()
}

/// Lookups at once; the others wait.
const MAX_LOOKUPS: usize = 16;
/// Bytes of the file of hosts that are read.
const MAX_HOSTS: u64 = 256 * 1024;
/// Where it is.
const HOSTS: &str = "/etc/hosts";
/// The thread's stack in bytes.
const STACK: usize = 256 * 1024;
