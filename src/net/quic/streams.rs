//! The streams of one [`Mux`](crate::net::mux::Mux), over all its connections, and the edges that are owed to them.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use mio::Token;

use crate::logic::slab::{Key, Slab};
use crate::net::mux::StreamNo;

/// The table of streams: which have to be told of an edge, and which the other side opened.
#[derive(Default)]
pub struct Streams {
    table: Slab<StreamEntry>,
    news: VecDeque<StreamNo>,
    opened: VecDeque<(StreamNo, SocketAddr)>,
}

/// One stream: where it lives and what is over of it.
pub struct StreamEntry {
    /// Its connection.
    pub connection: Key,
    /// Its number within that connection, as QUIC counts.
    pub id: u64,
    /// The direction from the peer.
    pub recv: QuicRecv,
    /// The direction to the peer.
    pub send: QuicSend,
    /// When bytes were last taken to be sent, and in which round.
    pub drained: Option<(Instant, u64)>,
    /// Our end, if it was said.
    pub finished: Option<OwnEnd>,
    /// Its first words, while there is no room for them.
    pub held: Vec<u8>,
    token: Option<Token>,
    told: bool,
    /// Reading answered `WouldBlock`: an edge is owed.
    pub reader_waits: bool,
    /// How many streams of the connection were reset by the other side when it did, as far as 32 bits count.
    pub resets: u32,
    /// It is going to be looked at once more although nothing was told of it, and how often after that.
    pub looking: bool,
    pub looks: u8,
    /// Writing answered `WouldBlock`: an edge is owed, and nothing is written before it.
    pub writer_waits: bool,
    /// It is in its connection's queue for room, where nobody is twice: who has had the turn and no room of its own left would hold up all others.
    pub queued: bool,
    /// It was told of room, of which as much as [`TURN`] is meant for it.
    pub promised: bool,
}

impl StreamEntry {
    /// It comes for what it was promised, if it was: so many bytes.
    pub fn redeem(&mut self) -> usize {
        usize::from(std::mem::take(&mut self.promised)) * TURN
    }
}

/// Our end of a stream has been said.
#[derive(Clone, Copy, Debug)]
pub struct OwnEnd {
    /// In which round of packets.
    pub round: u64,
    /// Whether it may still be lost.
    pub settling: Settling,
}

/// Something that was sent and may still be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Settling {
    /// When to look at it, for the first time or again.
    pub due: Instant,
    /// When it was sent.
    pub since: Instant,
    /// Packets that the connection had lost by then, or when it was looked at last.
    pub losses: usize,
    /// It was looked at, and something was under way or lost.
    pub looked: bool,
}

/// Bytes that a stream may want to send when it is told that there is room: a relay's buffer.
pub const TURN: usize = 16 * 1024;

/// The direction from the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuicRecv {
    /// Bytes may come.
    Open,
    /// All bytes were taken, and the end.
    Ended,
    /// The connection is over: what has come before may still be taken.
    Cut,
    /// The other side, or the end of the connection, cut it, and nothing is left to take.
    Reset,
}

/// The direction to the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuicSend {
    /// Bytes may be sent.
    Open,
    /// We have ended it.
    Finished,
    /// The other side wants no more, or the connection is over.
    Stopped,
}

impl Streams {
    /// A stream is there from now on.
    pub fn insert(&mut self, connection: Key, id: u64) -> StreamNo {
        self.table.insert(StreamEntry {
            connection,
            id,
            recv: QuicRecv::Open,
            send: QuicSend::Open,
            drained: None,
            finished: None,
            held: Vec::new(),
            token: None,
            told: false,
            reader_waits: true,
            resets: 0,
            looking: false,
            looks: 0,
            writer_waits: false,
            queued: false,
            promised: false,
        })
    }

    /// The peer opened it: it is to be taken.
    pub fn announce(&mut self, stream: StreamNo, peer: SocketAddr) {
        self.opened.push_back((stream, peer));
    }

    /// The next one that the other side opened and that is still there.
    pub fn opened(&mut self) -> Option<(StreamNo, SocketAddr)> {
        while let Some(next) = self.opened.pop_front() {
            if self.table.get(next.0).is_some() {
                return Some(next);
            }
        }
        None
    }

    /// A stream, if it is not released.
    pub fn get(&self, stream: StreamNo) -> Option<&StreamEntry> {
        self.table.get(stream)
    }

    /// A stream, if it is not released.
    pub fn get_mut(&mut self, stream: StreamNo) -> Option<&mut StreamEntry> {
        self.table.get_mut(stream)
    }

    /// Forgets a stream.
    pub fn remove(&mut self, stream: StreamNo) -> Option<StreamEntry> {
        self.table.remove(stream)
    }

    /// Edges are told under `token`; one is told at once.
    pub fn watch(&mut self, stream: StreamNo, token: Token) {
        if let Some(entry) = self.table.get_mut(stream) {
            entry.token = Some(token);
            self.queue_edge(stream);
        }
    }

    /// Bytes, an end or a reset: told if a task waits for that.
    pub fn readable(&mut self, stream: StreamNo) {
        if let Some(entry) = self.table.get_mut(stream).filter(|entry| entry.reader_waits) {
            entry.reader_waits = false;
            self.queue_edge(stream);
        }
    }

    /// Room, or a reader that has gone: told if a task waits for that.
    pub fn writable(&mut self, stream: StreamNo) {
        if let Some(entry) = self.table.get_mut(stream).filter(|entry| entry.writer_waits) {
            entry.writer_waits = false;
            self.queue_edge(stream);
        }
    }

    /// Queues an edge, once.
    pub fn queue_edge(&mut self, stream: StreamNo) {
        if let Some(entry) = self.table.get_mut(stream) {
            if !entry.told && entry.token.is_some() {
                entry.told = true;
                self.news.push_back(stream);
            }
        }
    }

    /// The next token with an edge.
    pub fn changed(&mut self) -> Option<Token> {
        while let Some(stream) = self.news.pop_front() {
            if let Some(entry) = self.table.get_mut(stream) {
                entry.told = false;
                return entry.token;
            }
        }
        None
    }

    /// A connection is over: what was open of its streams is cut, and they are told.
    pub fn cut(&mut self, connection: Key) {
        let theirs: Vec<StreamNo> =
            self.table.iter().filter(|(_, entry)| entry.connection == connection).map(|(key, _)| key).collect();
        for stream in theirs {
            if let Some(entry) = self.table.get_mut(stream) {
                if entry.recv == QuicRecv::Open {
                    entry.recv = QuicRecv::Cut;
                }
                if entry.send == QuicSend::Open {
                    entry.send = QuicSend::Stopped;
                }
            }
            self.queue_edge(stream);
        }
    }
}
