//! Two ends of one shared connection on real sockets, each with a loop of its own that is turned by hand.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};

use nodepass::net::budget::Budget;
use nodepass::net::certs::{self, Alpn, Audience, Certs, Origin, Trust};
use nodepass::net::h2::{Limits, H2};
use nodepass::net::lower::Lower;
use nodepass::net::mux::{Mux, StreamNo};
use nodepass::net::stream::{ready, Buffer};
use nodepass::net::tcp::Tcp;
use nodepass::net::tls::Tls;

/// One end and its loop.
pub struct End<M> {
    pub mux: M,
    poll: Poll,
    /// Tokens that came and nobody asked for yet.
    pub edges: Vec<Token>,
}

impl<M: Mux> End<M> {
    pub fn new(mut mux: M) -> End<M> {
        let poll = Poll::new().unwrap();
        mux.register(poll.registry(), Token(0)).unwrap();
        End::registered(mux, poll)
    }

    /// One whose socket is registered already.
    pub fn registered(mux: M, poll: Poll) -> End<M> {
        End { mux, poll, edges: Vec::new() }
    }

    /// One turn of its loop, at this time of the clock; waits for edges at most so long.
    pub fn turn_at(&mut self, now: Instant, timeout: Duration) -> io::Result<()> {
        let mut events = Events::with_capacity(8);
        let _ = self.poll.poll(&mut events, Some(timeout));
        events.iter().for_each(|event| self.mux.note(event));
        if self.mux.is_dirty() || self.mux.deadline().is_none_or(|at| at <= now) {
            self.mux.advance(now)?;
        }
        self.edges.extend(std::iter::from_fn(|| self.mux.changed()));
        Ok(())
    }

    pub fn turn(&mut self) -> io::Result<()> {
        self.turn_at(Instant::now(), Duration::ZERO)
    }

    /// Everything that can be read of a stream now; `true` with its end.
    pub fn read(&mut self, stream: StreamNo, into: &mut Vec<u8>) -> io::Result<bool> {
        let mut buffer = Buffer::new(16 * 1024);
        while let Some(count) = ready(self.mux.fill(stream, &mut buffer))? {
            if count == 0 {
                return Ok(true);
            }
            into.extend_from_slice(buffer.bytes());
            buffer.consume(count);
        }
        Ok(false)
    }

    /// As much as goes now; how much that was.
    pub fn write(&mut self, stream: StreamNo, bytes: &[u8]) -> io::Result<usize> {
        let mut from = Buffer::holding(bytes.to_vec());
        while !from.is_empty() && ready(self.mux.drain(stream, &mut from))?.is_some() {}
        Ok(bytes.len() - from.bytes().len())
    }
}

/// A client's end and a server's.
pub struct Pair<C> {
    pub client: End<H2<C>>,
    pub server: End<H2<C>>,
}

impl<C: Lower> Pair<C> {
    pub fn turn(&mut self) {
        self.client.turn().unwrap();
        self.server.turn().unwrap();
    }

    /// Turns both until something comes of it.
    pub fn until<T>(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> Option<T>) -> T {
        let begin = Instant::now();
        loop {
            if let Some(value) = done(self) {
                return value;
            }
            assert!(begin.elapsed() < GRACE, "waited in vain for {what}");
            self.turn();
        }
    }

    /// A new stream, as each end knows it.
    pub fn stream(&mut self) -> (StreamNo, StreamNo) {
        let ours = self.until("a stream", |pair| ready(pair.client.mux.open()).unwrap());
        let theirs = self.until("the other end of a stream", |pair| pair.server.mux.accept()).0;
        (ours, theirs)
    }
}

/// Over bare sockets.
pub fn bare(limits: Limits) -> Pair<Tcp> {
    let (one, two) = sockets();
    let peer = two.peer().unwrap();
    Pair {
        client: End::new(H2::client(one, "a.example", limits).unwrap()),
        server: End::new(H2::server(two, peer, limits).unwrap()),
    }
}

/// Over TLS.
pub fn over_tls(limits: Limits) -> Pair<Tls> {
    let [(one, first), (two, second)] = sessions();
    let peer = "127.0.0.1:1".parse().unwrap();
    Pair {
        client: End::registered(H2::client(one, "a.example", limits).unwrap(), first),
        server: End::registered(H2::server(two, peer, limits).unwrap(), second),
    }
}

/// Two TLS sessions whose handshake is over, each registered with a loop of its own.
pub fn sessions() -> [(Tls, Poll); 2] {
    let (one, two) = sockets();
    let name = certs::server_name("127.0.0.1").unwrap();
    let mut client = certs::client(Trust::ANYONE, Alpn::Http2).unwrap();
    Arc::get_mut(&mut client).unwrap().alpn_protocols = vec![b"h2".to_vec()];
    let mut ends =
        [Tls::connect(one, client, name, &Budget::PLENTY), Tls::accept(two, server_config(), &Budget::PLENTY)]
            .map(|tls| (tls.unwrap(), Poll::new().unwrap(), false));
    for (tls, poll, _) in &mut ends {
        tls.socket().register(poll.registry(), Token(0)).unwrap();
    }
    while ends.iter().any(|(.., done)| !done) {
        for (tls, poll, done) in ends.iter_mut().filter(|(.., done)| !done) {
            let mut events = Events::with_capacity(8);
            poll.poll(&mut events, Some(Duration::from_millis(1))).unwrap();
            events.iter().for_each(|event| tls.socket().note(event));
            *done = ready(tls.handshake()).unwrap().is_some();
        }
    }
    ends.map(|(tls, poll, _)| (tls, poll))
}

/// A server's configuration that agrees on HTTP/2.
pub fn server_config() -> Arc<rustls::ServerConfig> {
    let mut config = Certs::new(Origin::Memory, Audience::Pool(Alpn::Http2)).unwrap().current().config;
    Arc::make_mut(&mut config).alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// Two connected sockets that do not wait.
pub fn sockets() -> (Tcp, Tcp) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let two = listener.accept().unwrap().0;
    (nonblocking(one), nonblocking(two))
}

pub fn nonblocking(socket: TcpStream) -> Tcp {
    socket.set_nodelay(true).unwrap();
    socket.set_nonblocking(true).unwrap();
    Tcp::new(mio::net::TcpStream::from_std(socket))
}

/// What both sides allow, in these tests.
pub fn limits() -> Limits {
    Limits::new(100, Duration::from_secs(5), &Budget::PLENTY)
}

/// Bytes that tell when one of them is in the wrong place.
pub fn flow(seed: usize, size: usize) -> Vec<u8> {
    (0..size).map(|at| (at * 7 + at / 251 + at / 65521 + seed * 31) as u8).collect()
}

/// Far longer than anything here takes.
pub const GRACE: Duration = Duration::from_secs(30);
