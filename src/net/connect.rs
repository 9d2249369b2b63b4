//! Dialling: one address after the other until one answers.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Registry, Token};

use super::stream::now as passing;
use super::tcp::Tcp;

/// A TCP connection on its way to the first of several addresses that answers.
pub struct Connect {
    addresses: Vec<SocketAddr>,
    from: Option<IpAddr>,
    patience: Duration,
    token: Token,
    at: usize,
    current: Option<(Tcp, Instant)>,
    failure: String,
}

/// What came of it so far.
pub enum Outcome {
    /// Nothing yet; an edge or the deadline will tell.
    Wait,
    /// This address (by its number) did not answer; the next is being tried.
    Missed(usize),
    /// This address answered, after this time. The socket is registered already.
    Reached(usize, Duration, Tcp),
    /// None answered; why the last one did not.
    Failed(String),
}

impl Connect {
    /// Dials `addresses` in that order, each for at most `patience`, from `from` if given; registered under `token`.
    pub fn new(addresses: Vec<SocketAddr>, from: Option<IpAddr>, patience: Duration, token: Token) -> Connect {
        let failure = "no address to dial".into();
        Connect { addresses, from, patience, token, at: 0, current: None, failure }
    }

    /// Goes on; call again until `Wait`, `Reached` or `Failed`.
    pub fn advance(&mut self, registry: &Registry, now: Instant) -> Outcome {
        let Some((tcp, started)) = &mut self.current else {
            return self.start(registry, now);
        };
        match passing(tcp.connected()) {
            Ok(Some(())) => {
                let took = now.saturating_duration_since(*started);
                match self.current.take() {
                    Some((tcp, _)) => Outcome::Reached(self.at, took, tcp),
                    None => Outcome::Wait,
                }
            }
            Ok(None) if now < *started + self.patience => Outcome::Wait,
            Ok(None) => self.miss(format!("no answer within {:?}", self.patience)),
            Err(error) => self.miss(error.to_string()),
        }
    }

    fn start(&mut self, registry: &Registry, now: Instant) -> Outcome {
        let Some(&address) = self.addresses.get(self.at) else {
            return Outcome::Failed(std::mem::take(&mut self.failure));
        };
        let dialled = Tcp::dial(address, self.from).and_then(|mut tcp| {
            tcp.register(registry, self.token)?;
            Ok(tcp)
        });
        match dialled {
            Ok(tcp) => {
                self.current = Some((tcp, now));
                // On loopback it is connected already, and no wake-up is needed to learn that.
                self.advance(registry, now)
            }
            Err(error) => match self.from {
                Some(from) => self.miss(format!("{error} (from {from})")),
                None => self.miss(error.to_string()),
            },
        }
    }

    fn miss(&mut self, why: String) -> Outcome {
        self.failure = format!("{}: {why}", self.addresses[self.at]);
        self.current = None;
        self.at += 1;
        Outcome::Missed(self.at - 1)
    }

    /// Remembers an edge.
    pub fn note(&mut self, event: &Event) {
        if let Some((tcp, _)) = &mut self.current {
            tcp.note(event);
        }
    }

    /// Why the last address was missed.
    pub fn failure(&self) -> &str {
        &self.failure
    }

    /// When the current address has had its time.
    pub fn deadline(&self) -> Option<Instant> {
        self.current.as_ref().map(|(_, started)| *started + self.patience)
    }
}
