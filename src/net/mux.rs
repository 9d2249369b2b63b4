//! One face for QUIC and HTTP/2: many streams on one connection.
//!
//! A leg that is a stream of such a connection holds a [`Loan`]: the addresses of both. To move bytes it borrows the
//! connection for the length of a call ([`Muxes::lend`]). What it makes the connection say is sent once a turn
//! ([`Mux::advance`]); what the connection hears is told under the token of each stream concerned ([`Mux::changed`]).
//!
//! ```text
//!   relay --lend--> MuxStream --fill, drain--> Mux --advance, once a turn--> socket
//!   relay <--changed-- (its token) ----------- Mux <-------- note ---------- socket
//! ```

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{channel, Receiver, Sender};
use std::sync::Arc;
use std::time::Instant;

use mio::event::Event;
use mio::{Registry, Token};

use super::certs::Identity;
use super::stream::{Buffer, Stream};
use crate::logic::slab::{Key, Slab};
use crate::logic::terms::TunnelNo;
use crate::logic::wire::Fingerprint;

/// A connection that carries many streams, each a two-way flow of bytes that ends in either direction by itself.
///
/// Nothing here waits. `fill`, `drain` and `finish` keep the contract of [`Stream`]: after `WouldBlock` the stream's token
/// is owed by [`Mux::changed`]. They may leave output behind: [`Mux::is_dirty`] says so, and `advance` sends it.
pub trait Mux: Send {
    /// Registers the socket.
    fn register(&mut self, registry: &Arc<Registry>, token: Token) -> io::Result<()>;
    /// Remembers an edge of the socket.
    fn note(&mut self, event: &Event);
    /// Takes in what came, runs the clocks, sends what waits. `Ok(true)`: the bound was reached, there is more.
    /// An error ends the connection and every stream of it; it is the reason, for the log.
    fn advance(&mut self, now: Instant) -> io::Result<bool>;
    /// The same, where [`advance`](Mux::advance) is called once more in this turn, after its streams: what is to be said may wait for
    /// what they say.
    fn take_in(&mut self, now: Instant) -> io::Result<bool> {
        self.advance(now)
    }
    /// When the clock has something to say.
    fn deadline(&self) -> Option<Instant>;
    /// Whether something waits for `advance`.
    fn is_dirty(&self) -> bool;
    /// Whether streams may be opened: the handshake is over.
    fn is_up(&self) -> bool;
    /// The certificate that the other side showed.
    fn peer_fingerprint(&self) -> Option<Fingerprint>;
    /// Opens a stream (client). `WouldBlock`: the other side allows no more now.
    fn open(&mut self) -> io::Result<StreamNo>;
    /// The next stream that the other side opened (server), and its address.
    fn accept(&mut self) -> Option<(StreamNo, SocketAddr)>;
    /// Edges of this stream are told under `token` from now on; one is told at once.
    fn watch(&mut self, stream: StreamNo, token: Token);
    /// The next token whose stream has an edge: bytes, room, an end, a reset.
    fn changed(&mut self) -> Option<Token>;
    /// As [`Stream::fill`]. A reset is an error.
    fn fill(&mut self, stream: StreamNo, into: &mut Buffer) -> io::Result<usize>;
    /// As [`Stream::drain`].
    fn drain(&mut self, stream: StreamNo, from: &mut Buffer) -> io::Result<usize>;
    /// As [`Stream::finish`].
    fn finish(&mut self, stream: StreamNo) -> io::Result<()>;
    /// How many bytes could be read now, without reading: 0 at the end, `WouldBlock` if there are none yet.
    fn waiting(&mut self, stream: StreamNo) -> io::Result<usize>;
    /// This stream is in use no more: what is not over of it is reset, and it is forgotten.
    fn release(&mut self, stream: StreamNo);
    /// The connection of this stream is a client's: its [`Trial`] is over.
    fn decide(&mut self, _stream: StreamNo) {}
    /// How many streams it keeps, those included that have no stream number of ours.
    fn streams(&self) -> usize {
        0
    }
    /// Says goodbye, as far as that goes without waiting.
    fn close(&mut self);
    /// Copies of the sockets of a port that many share, and of the ways to processes before this one: for the one that comes after it.
    fn handed_over(&self) -> io::Result<Vec<OwnedFd>> {
        Ok(Vec::new())
    }
    /// Another process receives at such a port from now on, and passes on by this pipe what is of connections here.
    fn hand_on(&mut self, _passed: OwnedFd, _registry: &Registry, _token: Token) -> io::Result<()> {
        Ok(())
    }
    /// Only these peers are let in from now on at a port that many share, and shown this certificate; connections that were
    /// let in for others are closed. A connection of its own has nothing to do.
    fn allow(&mut self, _peers: &[AllowedPeer], _identity: &Identity) -> io::Result<()> {
        Ok(())
    }
}

/// What bounds a connection until one of its streams is a client's ([`Mux::decide`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trial {
    /// By then one has to be.
    pub until: Instant,
    /// Most bytes that it may say before.
    pub bytes: usize,
}

impl Trial {
    /// Why the connection has failed that has said so many bytes, if it has.
    pub fn failed(&self, heard: usize, now: Instant) -> Option<&'static str> {
        match () {
            () if heard > self.bytes => Some("it has said too much before a stream of it was a client's"),
            () if now >= self.until => Some("none of its streams was a client's in time"),
            () => None,
        }
    }
}

/// A peer that may make connections at a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllowedPeer {
    /// Its tunnel; later ones have greater numbers.
    pub tunnel: TunnelNo,
    /// Its address.
    pub address: IpAddr,
    /// How many connections it may make; none that are new if it is zero.
    pub connections: usize,
}

/// A stream's address within its connection: a key of the connection's own table, never used twice.
pub type StreamNo = Key;

/// The connections of one worker that carry many streams.
pub struct Muxes {
    muxes: Slab<MuxEntry>,
    released: Receiver<Released>,
    release: Sender<Released>,
    /// Tasks whose connections may have something to do, or are gone; and these connections.
    stirred: Vec<(Key, Key)>,
}

struct MuxEntry {
    mux: Box<dyn Mux>,
    /// The task that looks after it.
    task: Key,
    /// Whether that is among the stirred.
    stirred: bool,
    /// The tunnel whose streams it was last known to carry; 0 is none.
    owner: TunnelNo,
    /// Streams of it that are in use.
    claims: usize,
    /// The other side's certificate, once somebody has asked.
    fingerprint: Option<Fingerprint>,
}

/// What is not used any more.
enum Released {
    Mux(Key),
    Stream(Key, StreamNo),
}

impl Default for Muxes {
    fn default() -> Self {
        let (release, released) = channel();
        Muxes { muxes: Slab::new(), released, release, stirred: Vec::new() }
    }
}

impl Muxes {
    /// Takes a connection in, which that task looks after; it ends with a goodbye when what this answers is dropped.
    pub fn insert(&mut self, mux: Box<dyn Mux>, task: Key) -> Hold {
        let mux = self.muxes.insert(MuxEntry { mux, task, stirred: false, owner: 0, claims: 0, fingerprint: None });
        let hold = Hold { mux, release: self.release.clone() };
        self.stir(&hold);
        hold
    }

    /// Its task is to look after it: see [`stirred`](Muxes::stirred).
    pub fn stir(&mut self, hold: &Hold) {
        self.touch(hold.mux);
    }

    /// The next task whose connection may have something to do since the last call, or is gone.
    pub fn stirred(&mut self) -> Option<Key> {
        let (task, mux) = self.stirred.pop()?;
        self.muxes.get_mut(mux).into_iter().for_each(|entry| entry.stirred = false);
        Some(task)
    }

    /// Whether there is none, and no task to be told that its connection is gone.
    pub fn is_empty(&self) -> bool {
        self.muxes.is_empty() && self.stirred.is_empty()
    }

    /// A connection, whose task is stirred.
    fn touch(&mut self, mux: Key) -> Option<&mut MuxEntry> {
        let entry = self.muxes.get_mut(mux)?;
        if !std::mem::replace(&mut entry.stirred, true) {
            self.stirred.push((entry.task, mux));
        }
        Some(entry)
    }

    /// A connection, if it still lives.
    pub fn get_mut(&mut self, hold: &Hold) -> Option<&mut dyn Mux> {
        self.muxes.get_mut(hold.mux).map(|entry| &mut *entry.mux as &mut dyn Mux)
    }

    /// A claim to a stream; the stream is released when the claim is dropped.
    pub fn claim(&mut self, hold: &Hold, stream: StreamNo) -> Loan {
        self.muxes.get_mut(hold.mux).into_iter().for_each(|entry| entry.claims += 1);
        Loan { mux: hold.mux, stream, release: self.release.clone() }
    }

    /// How many streams of a connection are in use.
    pub fn claims(&self, hold: &Hold) -> usize {
        self.muxes.get(hold.mux).map_or(0, |entry| entry.claims)
    }

    /// How many streams a connection keeps.
    pub fn streams(&self, hold: &Hold) -> usize {
        self.muxes.get(hold.mux).map_or(0, |entry| entry.mux.streams())
    }

    /// The certificate of a stream's connection, which is digested once.
    pub fn peer_fingerprint(&mut self, loan: &Loan) -> Option<Fingerprint> {
        let entry = self.muxes.get_mut(loan.mux)?;
        entry.fingerprint = entry.fingerprint.or_else(|| entry.mux.peer_fingerprint());
        entry.fingerprint
    }

    /// The stream's connection carries streams of this tunnel.
    pub fn set_owner(&mut self, loan: &Loan, tunnel: TunnelNo) {
        if let Some(entry) = self.touch(loan.mux) {
            entry.owner = tunnel;
            entry.mux.decide(loan.stream);
        }
    }

    /// The tunnel whose streams a connection carries, as far as known; 0 is none.
    pub fn owner(&self, hold: &Hold) -> TunnelNo {
        self.muxes.get(hold.mux).map_or(0, |entry| entry.owner)
    }

    /// Tells the edges of a claimed stream under `token` from now on.
    pub fn watch(&mut self, loan: &Loan, token: Token) {
        if let Some(MuxEntry { mux, .. }) = self.touch(loan.mux) {
            mux.watch(loan.stream, token);
        }
    }

    /// Lends a stream for the length of a call. `None` if its connection is gone.
    pub fn lend(&mut self, loan: &Loan) -> Option<MuxStream<'_>> {
        let mux = &mut *self.touch(loan.mux)?.mux;
        Some(MuxStream { mux, stream: loan.stream })
    }

    /// Releases the streams whose claims were dropped, and ends the connections that are held no more.
    pub fn release_dropped(&mut self) {
        while let Ok(gone) = self.released.try_recv() {
            match gone {
                Released::Mux(mux) => {
                    if let Some(mut entry) = self.muxes.remove(mux) {
                        entry.mux.close();
                        self.stirred.push((entry.task, mux));
                    }
                }
                Released::Stream(mux, stream) => {
                    if let Some(entry) = self.touch(mux) {
                        entry.claims -= 1;
                        entry.mux.release(stream);
                    }
                }
            }
        }
    }

    /// Ends all of them with a goodbye.
    pub fn close(&mut self) {
        self.muxes.iter_mut().for_each(|(_, entry)| entry.mux.close());
    }
}

/// A connection of this worker's [`Muxes`].
pub struct Hold {
    mux: Key,
    release: Sender<Released>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        // Without a reader the worker itself is gone, and the connection with it.
        let _ = self.release.send(Released::Mux(self.mux));
    }
}

/// A claim to one stream of one connection of this worker.
pub struct Loan {
    mux: Key,
    stream: StreamNo,
    release: Sender<Released>,
}

impl Drop for Loan {
    fn drop(&mut self) {
        // As above.
        let _ = self.release.send(Released::Stream(self.mux, self.stream));
    }
}

/// A stream and its connection, borrowed.
pub struct MuxStream<'a> {
    /// The connection.
    pub mux: &'a mut dyn Mux,
    /// Which of its streams.
    pub stream: StreamNo,
}

impl MuxStream<'_> {
    /// As [`Mux::waiting`].
    pub fn waiting(&mut self) -> io::Result<usize> {
        self.mux.waiting(self.stream)
    }
}

impl Stream for MuxStream<'_> {
    fn fill(&mut self, into: &mut Buffer) -> io::Result<usize> {
        self.mux.fill(self.stream, into)
    }

    fn drain(&mut self, from: &mut Buffer) -> io::Result<usize> {
        self.mux.drain(self.stream, from)
    }

    /// Nothing of one stream is held back: the connection sends it this turn.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.mux.finish(self.stream)
    }
}
