//! Two ends of one connection that carries many streams, on real sockets: each has a loop of its own, turned by hand, and is
//! driven as a worker drives it, by edges and deadlines. The tests of QUIC, of HTTP/2 and of the stream contract use it.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};

use nodepass::net::mux::{Mux, StreamNo};
use nodepass::net::stream::{ready, Buffer};
use nodepass::net::tcp::Tcp;

/// One end and its loop.
pub struct End<M: ?Sized> {
    pub mux: Box<M>,
    poll: Poll,
    events: Events,
    /// Why the connection is over.
    pub over: Option<io::Error>,
    /// Tokens that came and that no test has asked for yet.
    pub edges: Vec<Token>,
    busy: bool,
}

impl<M: Mux + ?Sized> End<M> {
    pub fn new(mut mux: Box<M>) -> End<M> {
        let poll = Poll::new().unwrap();
        mux.register(&Arc::new(poll.registry().try_clone().unwrap()), Token(0)).unwrap();
        End::registered(mux, poll)
    }

    /// One whose socket is registered already.
    pub fn registered(mux: Box<M>, poll: Poll) -> End<M> {
        End { mux, poll, events: Events::with_capacity(16), over: None, edges: Vec::new(), busy: true }
    }

    /// One turn, which waits no longer than `timeout`. With the end of the connection there are none any more.
    pub fn turn(&mut self, timeout: Duration) {
        if self.over.is_some() {
            return;
        }
        let now = Instant::now();
        let rest = self.mux.deadline().map_or(timeout, |at| at.saturating_duration_since(now).min(timeout));
        self.listen(if self.busy || self.mux.is_dirty() { Duration::ZERO } else { rest });
        self.over = self.advance(Instant::now()).err();
    }

    /// One turn at this time of the clock, whatever time it is.
    pub fn turn_at(&mut self, now: Instant, timeout: Duration) -> io::Result<()> {
        self.listen(timeout);
        self.advance(now)
    }

    fn listen(&mut self, timeout: Duration) {
        let _ = self.poll.poll(&mut self.events, Some(timeout));
        self.events.iter().for_each(|event| self.mux.note(event));
    }

    fn advance(&mut self, now: Instant) -> io::Result<()> {
        if self.busy || self.mux.is_dirty() || self.mux.deadline().is_none_or(|at| at <= now) {
            self.busy = self.mux.advance(now)?;
        }
        self.edges.extend(std::iter::from_fn(|| self.mux.changed()));
        Ok(())
    }

    /// Whether there is more to do at once.
    pub fn is_busy(&self) -> bool {
        self.busy
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
pub struct Ends<C: ?Sized, S: ?Sized> {
    pub client: End<C>,
    pub server: End<S>,
    /// How long each waits in a turn in which it has nothing to do.
    pub pause: Duration,
}

impl<C: Mux + ?Sized, S: Mux + ?Sized> Ends<C, S> {
    pub fn turn(&mut self) {
        self.client.turn(self.pause);
        self.server.turn(self.pause);
    }

    /// Turns both until something comes of it.
    #[track_caller]
    pub fn until<T>(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> Option<T>) -> T {
        let begin = Instant::now();
        loop {
            if let Some(value) = done(self) {
                return value;
            }
            self.check();
            assert!(begin.elapsed() < GRACE, "waited in vain for {what}");
            self.turn();
        }
    }

    /// Turns both until it is so.
    #[track_caller]
    pub fn until_true(&mut self, mut done: impl FnMut(&mut Self) -> bool) {
        self.until("that to be so", |ends| done(ends).then_some(()));
    }

    /// The connection is not over.
    #[track_caller]
    pub fn check(&self) {
        assert!(self.client.over.is_none(), "the client's connection: {:?}", self.client.over);
        assert!(self.server.over.is_none(), "the server's connection: {:?}", self.server.over);
    }

    /// A new stream, as each end knows it, once `first` has passed on it. The server hears of a stream of QUIC with its first byte.
    #[track_caller]
    pub fn stream_with(&mut self, first: &[u8]) -> (StreamNo, StreamNo) {
        let ours = self.until("a stream", |ends| ready(ends.client.mux.open()).unwrap());
        assert_eq!(self.client.write(ours, first).unwrap(), first.len());
        let theirs = self.until("the other end of a stream", |ends| ends.server.mux.accept()).0;
        let mut heard = Vec::new();
        self.until("the first bytes", |ends| {
            assert!(!ends.server.read(theirs, &mut heard).unwrap());
            (heard == first).then_some(())
        });
        (ours, theirs)
    }
}

/// Two connected sockets that do not wait.
pub fn sockets() -> (Tcp, Tcp) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let two = listener.accept().unwrap().0;
    (nonblocking(one), nonblocking(two))
}

/// A socket of another program's library as one of ours.
pub fn nonblocking(socket: TcpStream) -> Tcp {
    socket.set_nodelay(true).unwrap();
    socket.set_nonblocking(true).unwrap();
    Tcp::new(mio::net::TcpStream::from_std(socket))
}

/// Bytes that tell when one of them is in the wrong place.
pub fn flow(seed: usize, size: usize) -> Vec<u8> {
    (0..size).map(|at| (at * 7 + at / 251 + at / 65521 + seed * 31) as u8).collect()
}

/// Far longer than anything here takes.
pub const GRACE: Duration = Duration::from_secs(30);
