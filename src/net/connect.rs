//! Dialling: one address after the other until one answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Registry, Token};

use super::stream::ready;
use super::tcp::{SocketKeepalive, Tcp};
use crate::error::{Cause, Error};
use crate::logic::local_end::LocalEnd;

/// A TCP connection on its way to the first of several addresses that answers.
pub struct Connect {
    addresses: Vec<SocketAddr>,
    from: Option<LocalEnd>,
    timeout: Duration,
    keepalive: SocketKeepalive,
    token: Token,
    at: usize,
    current: Option<(Tcp, Instant)>,
    failure: Option<Error>,
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
    Failed(Error),
}

impl Connect {
    /// Dials `addresses` in that order, each for at most `timeout`, from `from` if given; registered under `token`.
    pub fn new(
        addresses: Vec<SocketAddr>,
        from: Option<LocalEnd>,
        timeout: Duration,
        keepalive: SocketKeepalive,
        token: Token,
    ) -> Connect {
        Connect { addresses, from, timeout, keepalive, token, at: 0, current: None, failure: None }
    }

    /// Goes on; call again until `Wait`, `Reached` or `Failed`.
    pub fn advance(&mut self, registry: &Arc<Registry>, now: Instant) -> Outcome {
        let Some((tcp, started)) = &mut self.current else {
            return self.start(registry, now);
        };
        match ready(tcp.connected()) {
            Ok(Some(())) => {
                let took = now.saturating_duration_since(*started);
                match self.current.take() {
                    Some((tcp, _)) => Outcome::Reached(self.at, took, tcp),
                    None => Outcome::Wait,
                }
            }
            Ok(None) if now < *started + self.timeout => Outcome::Wait,
            Ok(None) => self.miss(Cause::Timeout(self.timeout)),
            Err(error) => self.miss(error.into()),
        }
    }

    fn start(&mut self, registry: &Arc<Registry>, now: Instant) -> Outcome {
        let Some(&address) = self.addresses.get(self.at) else {
            let none = || Error::unreachable("", "no address to dial");
            return Outcome::Failed(self.failure.take().unwrap_or_else(none));
        };
        let dialled = Tcp::dial(address, self.from.as_ref(), self.keepalive).and_then(|mut tcp| {
            // On loopback it is connected already: no wake-up is needed to learn that, and registered after the question it makes none.
            let connected = ready(tcp.connected())?;
            tcp.register(registry, self.token)?;
            Ok((tcp, connected))
        });
        match dialled {
            Ok((tcp, Some(()))) => Outcome::Reached(self.at, Duration::ZERO, tcp),
            Ok((tcp, None)) => {
                self.current = Some((tcp, now));
                Outcome::Wait
            }
            Err(error) => self.miss(error.into()),
        }
    }

    fn miss(&mut self, cause: Cause) -> Outcome {
        let at = match &self.from {
            Some(from) => format!("{} (from {from})", self.addresses[self.at]),
            None => self.addresses[self.at].to_string(),
        };
        self.failure = Some(Error::unreachable(at, cause));
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
    pub fn failure(&self) -> Option<&Error> {
        self.failure.as_ref()
    }

    /// When the current address has had its time.
    pub fn deadline(&self) -> Option<Instant> {
        self.current.as_ref().map(|(_, started)| *started + self.timeout)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use mio::{Events, Poll};
    use socket2::{Domain, Socket, Type};

    use super::*;
    use crate::testing::registry;

    #[test]
    fn the_second_address_is_used_when_the_first_refuses() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ((gone, _held), live) = (refusing(), listener.local_addr().unwrap());
        let mut dial = Dial::new(vec![gone, live], None);
        assert!(matches!(dial.outcome(), Outcome::Missed(0)));
        let why = dial.connect.failure().unwrap().to_string();
        assert!(why.contains(&gone.to_string()) && why.contains("refused"), "{why}");
        let Outcome::Reached(1, _, mut tcp) = dial.outcome() else { panic!("not reached") };

        let (mut peer, _) = listener.accept().unwrap();
        tcp.write_all(b"hello").unwrap();
        let mut bytes = [0; 5];
        peer.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"hello");
        // It is registered: what the peer does wakes us.
        assert!(tcp.waiting().is_err());
        drop(peer);
        while tcp.waiting().is_err() {
            dial.wait(|event| tcp.note(event));
        }
        assert_eq!(tcp.waiting().unwrap(), 0);
    }

    #[test]
    fn when_no_address_answers_the_reason_is_told() {
        let ((one, _held), (two, _held_too)) = (refusing(), refusing());
        let mut dial = Dial::new(vec![one, two], None);
        assert!(matches!(dial.outcome(), Outcome::Missed(0)));
        assert!(matches!(dial.outcome(), Outcome::Missed(1)));
        let Outcome::Failed(error) = dial.outcome() else { panic!("it did not fail") };
        let why = error.to_string();
        assert!(why.contains(&two.to_string()) && why.contains("refused"), "{why}");
    }

    #[test]
    fn no_address_at_all_is_a_failure_with_a_reason() {
        let mut dial = Dial::new(Vec::new(), None);
        assert!(matches!(dial.outcome(), Outcome::Failed(error) if error.to_string() == "no address to dial"));
    }

    #[test]
    fn an_address_that_does_not_answer_is_given_up_at_its_deadline_and_the_next_has_its_own() {
        let (silent, _full) = silent();
        let poll = Poll::new().unwrap();
        let mut connect = Connect::new(vec![silent, silent], None, TIMEOUT, SocketKeepalive::after(TIMEOUT), Token(0));
        let begin = Instant::now();
        assert_eq!(connect.deadline(), None);
        assert!(matches!(connect.advance(&registry(&poll), begin), Outcome::Wait));
        assert_eq!(connect.deadline(), Some(begin + TIMEOUT));
        let almost = begin + TIMEOUT - Duration::from_nanos(1);
        assert!(matches!(connect.advance(&registry(&poll), almost), Outcome::Wait));

        let later = begin + TIMEOUT;
        assert!(matches!(connect.advance(&registry(&poll), later), Outcome::Missed(0)));
        let error = connect.failure().unwrap();
        assert_eq!((error.subject(), error.cause()), (silent.to_string().as_str(), &Cause::Timeout(TIMEOUT)));
        assert!(matches!(connect.advance(&registry(&poll), later), Outcome::Wait));
        assert_eq!(connect.deadline(), Some(later + TIMEOUT));
    }

    #[test]
    fn a_local_end_that_cannot_be_used_is_an_error_that_names_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        for from in ["203.0.113.77", "::1", "no-such-device"] {
            let mut dial = Dial::new(vec![listener.local_addr().unwrap()], LocalEnd::parse(from));
            assert!(matches!(dial.outcome(), Outcome::Missed(0)));
            let Outcome::Failed(error) = dial.outcome() else { panic!("it did not fail") };
            assert!(error.subject().contains(&format!("from {from}")), "{error}");
        }
    }

    /// A dial and what a worker does for it.
    struct Dial {
        connect: Connect,
        poll: Poll,
    }

    impl Dial {
        fn new(addresses: Vec<SocketAddr>, from: Option<LocalEnd>) -> Dial {
            Dial {
                connect: Connect::new(addresses, from, TIMEOUT, SocketKeepalive::after(TIMEOUT), Token(0)),
                poll: Poll::new().unwrap(),
            }
        }

        /// What comes next, whether at once or after an edge. Time stands still.
        fn outcome(&mut self) -> Outcome {
            let now = Instant::now();
            loop {
                match self.connect.advance(&registry(&self.poll), now) {
                    Outcome::Wait => {
                        let mut events = Events::with_capacity(8);
                        self.poll.poll(&mut events, Some(GRACE)).unwrap();
                        assert!(!events.is_empty(), "no edge came");
                        events.iter().for_each(|event| self.connect.note(event));
                    }
                    outcome => return outcome,
                }
            }
        }

        fn wait(&mut self, note: impl FnMut(&Event)) {
            let mut events = Events::with_capacity(8);
            self.poll.poll(&mut events, Some(GRACE)).unwrap();
            assert!(!events.is_empty(), "no edge came");
            events.iter().for_each(note);
        }
    }

    /// A port without a listener, and the socket that keeps others from it. To close a listener instead would not
    /// do: a child that another test is starting has a copy of it until its own program runs.
    fn refusing() -> (SocketAddr, Socket) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        (socket.local_addr().unwrap().as_socket().unwrap(), socket)
    }

    /// A port whose backlog is full: a connection attempt gets no answer.
    fn silent() -> (SocketAddr, Vec<Socket>) {
        let (address, listener) = refusing();
        listener.listen(0).unwrap();
        let mut all = vec![listener];
        loop {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            if socket.connect_timeout(&address.into(), Duration::from_millis(200)).is_err() {
                return (address, all);
            }
            all.push(socket);
        }
    }

    const TIMEOUT: Duration = Duration::from_secs(5);
    /// Far longer than anything here takes.
    const GRACE: Duration = Duration::from_secs(20);
}
