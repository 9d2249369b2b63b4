//! A client and a server of QUIC, driven as a worker drives them: by edges and deadlines.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};
use nodepass::net::budget::Budget;
use nodepass::net::certs::{Alpn, Audience, Certs, Identity, Origin, Trust};
use nodepass::net::mux::{AllowedPeer, Mux, StreamNo};
use nodepass::net::quic::{ClientTls, QuicClient, QuicServer, Settings, Tickets};
use nodepass::net::stream::{ready, Buffer};

/// Far longer than anything here takes.
pub const GRACE: Duration = Duration::from_secs(30);
pub const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

pub fn settings() -> Settings {
    let (report, timeout) = (Duration::from_secs(5), Duration::from_secs(10));
    Settings {
        report,
        timeout,
        round: Duration::ZERO,
        streams: 64,
        batched: true,
        resets: Default::default(),
        budget: Budget::PLENTY,
        trial: None,
    }
}

pub fn identity() -> Identity {
    Certs::new(Origin::Memory, Audience::Pool(Alpn::Raw)).unwrap().current()
}

pub fn anyone() -> ClientTls {
    ClientTls::new(Trust::ANYONE, "").unwrap()
}

/// One mux and its poll.
pub struct End<M> {
    pub mux: M,
    poll: Poll,
    events: Events,
    pub over: Option<io::Error>,
    pub told: VecDeque<Token>,
    busy: bool,
}

impl<M: Mux> End<M> {
    pub fn new(mut mux: M) -> End<M> {
        let poll = Poll::new().unwrap();
        mux.register(poll.registry(), Token(0)).unwrap();
        End { mux, poll, events: Events::with_capacity(16), over: None, told: VecDeque::new(), busy: true }
    }

    /// One turn. Waits no longer than `timeout`.
    pub fn turn(&mut self, timeout: Duration) {
        if self.over.is_some() {
            return;
        }
        let now = Instant::now();
        let rest = self.mux.deadline().map_or(timeout, |at| at.saturating_duration_since(now).min(timeout));
        let rest = if self.busy || self.mux.is_dirty() { Duration::ZERO } else { rest };
        let _ = self.poll.poll(&mut self.events, Some(rest));
        for event in &self.events {
            self.mux.note(event);
        }
        match self.mux.advance(Instant::now()) {
            Ok(more) => self.busy = more,
            Err(error) => self.over = Some(error),
        }
        while let Some(token) = self.mux.changed() {
            self.told.push_back(token);
        }
    }

    /// Whatever can be read of a stream now, and whether it is over.
    pub fn take(&mut self, stream: StreamNo, into: &mut Vec<u8>) -> io::Result<bool> {
        let mut buffer = Buffer::new(16384);
        while let Some(count) = ready(self.mux.fill(stream, &mut buffer))? {
            if count == 0 {
                return Ok(true);
            }
            into.extend_from_slice(buffer.bytes());
            buffer.consume(count);
        }
        Ok(false)
    }

    /// Sends as much as goes now and says how much that was.
    pub fn put(&mut self, stream: StreamNo, bytes: &[u8]) -> io::Result<usize> {
        let mut buffer = Buffer::holding(bytes.to_vec());
        while !buffer.is_empty() && ready(self.mux.drain(stream, &mut buffer))?.is_some() {}
        Ok(bytes.len() - buffer.bytes().len())
    }
}

pub struct Both {
    pub client: End<QuicClient>,
    pub server: End<QuicServer>,
}

pub fn server(settings: &Settings, identity: &Identity) -> End<QuicServer> {
    let at = SocketAddr::new(HOME, 0);
    let mut server = QuicServer::bind(&[at.into()], identity, settings, Instant::now()).unwrap();
    server.allow(&[AllowedPeer { tunnel: 1, address: HOME, connections: 1 }], identity).unwrap();
    End::new(server)
}

pub fn client(at: SocketAddr, tls: &ClientTls, settings: &Settings, tickets: &mut Tickets) -> End<QuicClient> {
    End::new(QuicClient::connect(at, tls, settings, tickets, Instant::now()).unwrap())
}

impl Both {
    /// Two ends whose handshake is still to come.
    pub fn apart(settings: &Settings) -> Both {
        let server = server(settings, &identity());
        let at = server.mux.local().next().unwrap();
        Both { client: client(at, &anyone(), settings, &mut Tickets::default()), server }
    }

    /// Two ends with a connection between them.
    pub fn joined(settings: &Settings) -> Both {
        let mut both = Both::apart(settings);
        both.until(|both| both.client.mux.is_up() && both.server.mux.is_up());
        both
    }

    pub fn turn(&mut self) {
        self.client.turn(Duration::from_millis(1));
        self.server.turn(Duration::from_millis(1));
    }

    /// Goes on until it is so.
    #[track_caller]
    pub fn until(&mut self, mut done: impl FnMut(&mut Both) -> bool) {
        let deadline = Instant::now() + GRACE;
        while !done(self) {
            assert!(self.client.over.is_none(), "the client's connection: {:?}", self.client.over);
            assert!(Instant::now() < deadline, "it did not come to that in time");
            self.turn();
        }
    }

    /// A stream with one byte sent on it, seen from both sides.
    pub fn stream(&mut self) -> (StreamNo, StreamNo) {
        let near = self.client.mux.open().unwrap();
        assert_eq!(self.client.put(near, &[0]).unwrap(), 1);
        let mut far = None;
        self.until(|both| {
            far = far.or_else(|| both.server.mux.accept());
            far.is_some()
        });
        let far = far.unwrap().0;
        let mut first = Vec::new();
        self.server.take(far, &mut first).unwrap();
        assert_eq!(first, [0]);
        (near, far)
    }
}

/// Bytes that are never the same twice in a row.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect()
}
