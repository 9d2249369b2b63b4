//! TLS over a TCP socket, as a [`Stream`] whose two directions end independently.
//!
//! ```text
//!   socket -> part + [ SCRATCH ] -- plaintext --> into, plain       from -- records --> [ SCRATCH ] -> held -> socket
//! ```
//!
//! Records are read and made in one block of memory that a thread has for all its sessions. A session itself keeps bytes only while
//! something is unfinished: a record that came in part, plaintext that found no room, records that the socket did not take.

use std::cell::RefCell;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus, WriteTraffic};
use rustls::{ClientConfig, CommonState, Error, ServerConfig};

use super::budget::Budget;
use super::cert_errors::explain;
use super::rest::Rest;
use super::stream::{ready, would_block, Buffer, Stream};
use super::tcp::Tcp;
use crate::logic::wire::Fingerprint;

/// A TLS session and the socket that carries it.
pub struct Tls {
    session: Session,
    tcp: Tcp,
    /// The beginning of a record, or of a message in several records.
    part: Vec<u8>,
    output: SessionOutput,
}

/// What a session has put out and its owner has not taken yet.
#[derive(Default)]
struct SessionOutput {
    /// Plaintext that found no room.
    plain: Rest,
    /// Records that the socket has not taken.
    held: Rest,
    /// The other side has said goodbye.
    ended: bool,
    /// One side has broken the rules.
    failed: bool,
    /// Bytes that were read since the last plaintext.
    bare: usize,
    /// Bytes of plaintext that are taken for the socket at once.
    at_once: usize,
}

impl Tls {
    /// The side that was dialled. It holds back as much as `budget` allows.
    pub fn accept(tcp: Tcp, config: Arc<ServerConfig>, budget: &Budget) -> io::Result<Tls> {
        Tls::new(tcp, UnbufferedServerConnection::new(config).map(Session::Server), budget)
    }

    /// The side that dials. `name` is who must answer, where the configuration verifies that.
    pub fn connect(tcp: Tcp, config: Arc<ClientConfig>, name: ServerName<'static>, budget: &Budget) -> io::Result<Tls> {
        Tls::new(tcp, UnbufferedClientConnection::new(config, name).map(Session::Client), budget)
    }

    fn new(tcp: Tcp, session: Result<Session, Error>, budget: &Budget) -> io::Result<Tls> {
        let session = session.map_err(io::Error::other)?;
        let output = SessionOutput { at_once: budget.held_back.min(MAX_AT_ONCE), ..SessionOutput::default() };
        Ok(Tls { session, tcp, part: Vec::new(), output })
    }

    /// Goes on with the handshake; `WouldBlock` until it is over. Not to be called after that.
    ///
    /// No relay may start before: an end passed on during the handshake would overtake buffered bytes.
    pub fn handshake(&mut self) -> io::Result<()> {
        // Who dials speaks first.
        self.say(Words::None)?;
        loop {
            self.push()?;
            if !self.session.state().is_handshaking() {
                return Ok(());
            }
            if self.pull(&mut [])?.read == 0 {
                return Err(io::Error::new(ErrorKind::UnexpectedEof, "it ended during the TLS handshake"));
            }
        }
    }

    /// The fingerprint of the certificate that the other side showed.
    pub fn peer_fingerprint(&self) -> Option<Fingerprint> {
        self.session.state().peer_certificates()?.first().map(|leaf| Fingerprint::of(leaf))
    }

    /// Whether both sides chose HTTP/1.1 (ALPN).
    pub fn speaks_http1(&self) -> bool {
        self.session.state().alpn_protocol() == Some(b"http/1.1")
    }

    /// Whether both sides chose HTTP/2 (ALPN).
    pub fn speaks_h2(&self) -> bool {
        self.session.state().alpn_protocol() == Some(b"h2")
    }

    /// As [`Tcp::waiting`], for plaintext: 0 at an end, with or without a proper goodbye.
    pub fn waiting(&mut self) -> io::Result<usize> {
        while self.output.plain.is_empty() && !self.output.ended {
            if self.pull_plaintext(&mut [])?.read == 0 {
                break;
            }
        }
        Ok(self.output.plain.bytes().len())
    }

    /// The socket underneath.
    pub fn socket(&mut self) -> &mut Tcp {
        &mut self.tcp
    }

    /// [`Tls::pull`] after the handshake: a session with many bytes and no plaintext among them has failed. Tickets are such
    /// bytes, and empty records with new keys between them: without a bound they would keep the thread busy.
    fn pull_plaintext(&mut self, into: &mut [u8]) -> io::Result<Pulled> {
        let pulled = self.pull(into)?;
        self.output.bare = match pulled.given > 0 || !self.output.plain.is_empty() {
            true => 0,
            false => self.output.bare + pulled.read,
        };
        if self.output.bare > MAX_BARE {
            self.output.failed = true;
            return Err(io::Error::new(ErrorKind::InvalidData, "48 KiB of TLS records without any data"));
        }
        Ok(pulled)
    }

    /// Reads from the socket once and takes in what has come. What that makes us say (alerts, key updates) is sent.
    fn pull(&mut self, into: &mut [u8]) -> io::Result<Pulled> {
        let pulled = with_scratch(|scratch| {
            let (kept, most) = (self.part.len(), scratch.records.len());
            if kept == most {
                return Err(io::Error::new(ErrorKind::InvalidData, "a TLS message of more than 64 KiB"));
            }
            // To the end of a record that has begun, else as many as there is room for, so that little has to wait here.
            let fits = into.len() + into.len().div_ceil(RECORD) * (HEAD + TAIL);
            let begun = match self.part[..] {
                [_, _, _, high, low, ..] => HEAD + usize::from(u16::from_be_bytes([high, low])),
                _ => 0,
            };
            let end = match fits.max(begun).max(MIN_READ) {
                end if end > kept => end,
                _ => kept + MIN_READ,
            };
            let read = self.tcp.read(&mut scratch.records[kept..end.min(most)])?;
            let came = &mut scratch.records[..kept + read];
            came[..kept].copy_from_slice(&self.part);
            let mut turn = Turn { into, ..Turn::at(&mut self.output) };
            let (done, result) = self.session.go_on(came, &mut turn);
            let given = turn.given;
            self.part = came[done..].to_vec();
            result.map(|()| Pulled { read, given })
        });
        match ready(self.push()) {
            Err(error) if pulled.is_ok() => Err(error),
            _ => pulled,
        }
    }

    /// Says it, as far as the socket takes it and the [`Budget`] lets it wait; how much of it is plaintext that was taken.
    fn say(&mut self, words: Words<'_>) -> io::Result<usize> {
        with_scratch(|scratch| {
            let (records, whole) = (&mut scratch.records[..], &mut scratch.whole[..]);
            let mut turn = Turn { words, records, whole, ..Turn::at(&mut self.output) };
            let (done, result) = self.session.go_on(&mut self.part, &mut turn);
            let Turn { made, taken, .. } = turn;
            self.part.drain(..done);
            result?;
            let made = &scratch.records[..made];
            let sent = match self.output.held.is_empty() && !made.is_empty() {
                true => ready(self.tcp.write(made))?.unwrap_or(0),
                false => 0,
            };
            self.output.held.add(&made[sent..]);
            Ok(taken)
        })
    }

    /// Sends records.
    fn push(&mut self) -> io::Result<()> {
        while !self.output.held.is_empty() {
            match self.tcp.write(self.output.held.bytes())? {
                0 => return would_block(),
                count => self.output.held.consume(count),
            }
        }
        Ok(())
    }
}

/// What came of reading once.
struct Pulled {
    /// Bytes of the socket; none is its end.
    read: usize,
    /// Plaintext in the reader's hands.
    given: usize,
}

/// Plaintext in; 0 is the end, and `WouldBlock` owes an edge.
impl Read for Tls {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.output.plain.is_empty() && !self.output.ended {
            match self.pull_plaintext(into)? {
                Pulled { read: 0, .. } => {
                    return Err(io::Error::new(
                        ErrorKind::UnexpectedEof,
                        "the TLS session was cut off without a goodbye",
                    ));
                }
                Pulled { given: 0, .. } => {}
                Pulled { given, .. } => return Ok(given),
            }
        }
        let count = self.output.plain.bytes().len().min(into.len());
        into[..count].copy_from_slice(&self.output.plain.bytes()[..count]);
        self.output.plain.consume(count);
        Ok(count)
    }
}

/// Plaintext out: what was held back first, then as much as there is room for. No room is `WouldBlock`.
impl Write for Tls {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(from)])
    }

    fn write_vectored(&mut self, from: &[IoSlice<'_>]) -> io::Result<usize> {
        self.push()?;
        match self.say(Words::Plaintext(from))? {
            0 => Err(io::Error::new(ErrorKind::BrokenPipe, "the TLS session has ended")),
            count => Ok(count),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.push()
    }
}

impl Stream for Tls {
    fn fill(&mut self, into: &mut Buffer) -> io::Result<usize> {
        let count = self.read(into.room(1))?;
        into.advance(count);
        Ok(count)
    }

    fn drain(&mut self, from: &mut Buffer) -> io::Result<usize> {
        let count = self.write(from.bytes())?;
        from.consume(count);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.push()
    }

    fn finish(&mut self) -> io::Result<()> {
        self.say(Words::Goodbye)?;
        self.push()?;
        self.tcp.finish()
    }
}

/// Either side of a session.
enum Session {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

impl Session {
    fn state(&self) -> &CommonState {
        match self {
            Session::Client(client) => client,
            Session::Server(server) => server,
        }
    }

    /// Goes on until more than `came` is needed; how much of that is done with. After an error there is no going on.
    fn go_on(&mut self, came: &mut [u8], turn: &mut Turn<'_>) -> (usize, io::Result<()>) {
        if turn.output.failed {
            return (0, Err(io::Error::new(ErrorKind::BrokenPipe, "the TLS session has failed")));
        }
        let mut done = 0;
        loop {
            let (count, more) = self.step(&mut came[done..], turn);
            done += count;
            match more {
                Ok(true) => {}
                Ok(false) => return (done, Ok(())),
                Err(error) => {
                    turn.output.failed = true;
                    // What is wrong is for the other side to know too.
                    while self.state().wants_write() {
                        done += self.step(&mut came[done..], turn).0;
                    }
                    return (done, Err(explain(&error).into()));
                }
            }
        }
    }

    fn step(&mut self, came: &mut [u8], turn: &mut Turn<'_>) -> (usize, Result<bool, Error>) {
        match self {
            Session::Client(client) => turn.take(client.process_tls_records(came)),
            Session::Server(server) => turn.take(server.process_tls_records(came)),
        }
    }
}

/// One going-on of a session: what it may write to, and what it is to say.
struct Turn<'a> {
    output: &'a mut SessionOutput,
    /// For plaintext, and how much is there.
    into: &'a mut [u8],
    given: usize,
    words: Words<'a>,
    /// For the records of these words; how much of the words they are, and how long.
    records: &'a mut [u8],
    /// For several pieces that are to be one record.
    whole: &'a mut [u8],
    taken: usize,
    made: usize,
}

/// What is to be said.
#[derive(Clone, Copy)]
enum Words<'a> {
    /// Only what the session has to say by itself.
    None,
    Plaintext(&'a [IoSlice<'a>]),
    /// No more will come.
    Goodbye,
}

impl<'a> Turn<'a> {
    /// One that has no room and nothing to say.
    fn at(output: &'a mut SessionOutput) -> Turn<'a> {
        Turn {
            output,
            into: &mut [],
            given: 0,
            words: Words::None,
            records: &mut [],
            whole: &mut [],
            taken: 0,
            made: 0,
        }
    }

    /// Takes what the session has put out: how many bytes it is done with, and whether there is more.
    fn take<D>(&mut self, status: UnbufferedStatus<'_, '_, D>) -> (usize, Result<bool, Error>) {
        let UnbufferedStatus { mut discard, state } = status;
        let handle = || {
            match state? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        self.give(record.payload);
                    }
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    // Its length is told where there is no room.
                    if let Err(EncodeError::InsufficientSize(least)) = data.encode(&mut []) {
                        let room = self.output.held.room(least.required_size);
                        data.encode(room).map_err(|error| Error::General(error.to_string()))?;
                    }
                }
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::PeerClosed => self.output.ended = true,
                ConnectionState::WriteTraffic(traffic) => {
                    self.write(traffic)?;
                    return Ok(false);
                }
                _ => return Ok(false),
            }
            Ok(true)
        };
        let more = handle();
        (discard, more)
    }

    fn give(&mut self, plaintext: &[u8]) {
        let room = &mut self.into[self.given..];
        let (now, later) = plaintext.split_at(plaintext.len().min(room.len()));
        room[..now.len()].copy_from_slice(now);
        self.given += now.len();
        self.output.plain.add(later);
    }

    /// Makes records of the words, as many as may wait for the socket.
    fn write<D>(&mut self, mut traffic: WriteTraffic<'_, D>) -> Result<(), Error> {
        match self.words {
            Words::None => Ok(()),
            Words::Goodbye => traffic.queue_close_notify(self.records).map(|made| self.made = made),
            Words::Plaintext(pieces) => self.write_pieces(&mut traffic, pieces),
        }
        .map_err(|_| Error::EncryptError)
    }

    fn write_pieces<D>(
        &mut self,
        traffic: &mut WriteTraffic<'_, D>,
        pieces: &[IoSlice<'_>],
    ) -> Result<(), EncryptError> {
        let most = self.output.at_once;
        let mut write = |piece: &[u8]| -> Result<(), EncryptError> {
            let piece = &piece[..piece.len().min(most - self.taken)];
            if !piece.is_empty() {
                self.made += traffic.encrypt(piece, &mut self.records[self.made..])?;
                self.taken += piece.len();
            }
            Ok(())
        };
        // A few bytes before many have no record of their own.
        let (mut end, mut skipped) = (0, 0);
        if pieces.len() > 1 {
            for piece in pieces {
                let count = piece.len().min(self.whole.len() - end);
                self.whole[end..end + count].copy_from_slice(&piece[..count]);
                end += count;
            }
            skipped = end;
            write(&self.whole[..end])?;
        }
        for piece in pieces {
            let count = piece.len().min(skipped);
            skipped -= count;
            write(&piece[count..])?;
        }
        Ok(())
    }
}

/// What a thread has for all its sessions.
struct Scratch {
    /// Records, received or made.
    records: Vec<u8>,
    /// The plaintext of one record.
    whole: Vec<u8>,
}

thread_local! {
    static SCRATCH: RefCell<Option<Scratch>> = const { RefCell::new(None) };
}

fn with_scratch<T>(work: impl FnOnce(&mut Scratch) -> T) -> T {
    let new = || Scratch { records: vec![0; RECORDS], whole: vec![0; RECORD] };
    SCRATCH.with_borrow_mut(|scratch| work(scratch.get_or_insert_with(new)))
}

/// The most plaintext of a record, in bytes (RFC 8446, 5.1).
const RECORD: usize = 16 * 1024;
/// Bytes of a record before its plaintext: type, version, length.
const HEAD: usize = 5;
/// Bytes after it: the inner type and the tag.
const TAIL: usize = 1 + 16;
/// The most plaintext that is sent at once; also the longest message of a handshake.
const MAX_AT_ONCE: usize = 64 * 1024;
/// Room for that much in records.
const RECORDS: usize = MAX_AT_ONCE + 4096;
/// Most bytes that may come without plaintext: a record that comes in part, and far more tickets than servers send.
const MAX_BARE: usize = 3 * RECORD;
/// Bytes that are read at least where there is room for fewer.
const MIN_READ: usize = 4096;

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::thread;
    use std::time::Duration;

    use mio::{Events, Poll, Token};
    use rustls::ServerConnection;

    use super::*;
    use crate::net::certs::{self, Alpn, Audience, Certs, Origin, Trust};
    use crate::net::tcp::{SocketKeepalive, KEEPALIVE_AFTER};

    #[test]
    fn a_peer_whose_session_is_busy_with_itself_and_carries_no_data_is_left() {
        let identity = Certs::new(Origin::Memory, Audience::Pool(Alpn::Raw)).unwrap().current();
        let mut config = ServerConfig::clone(&identity.config);
        // Of more than 50 bytes each.
        config.send_tls13_tickets = 1000;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // It ends with its own session, or when the client has left.
        let server = thread::spawn(move || serve(listener.accept().unwrap().0, config));
        let mut tcp = Tcp::dial(address, None, SocketKeepalive::after(KEEPALIVE_AFTER)).unwrap();
        let mut poll = Poll::new().unwrap();
        tcp.register(&crate::testing::registry(&poll), Token(0)).unwrap();
        let trust = certs::client(Trust::ANY, Alpn::Raw).unwrap();
        let mut tls = Tls::connect(tcp, trust, certs::server_name("127.0.0.1").unwrap(), &Budget::PLENTY).unwrap();

        until_done(&mut tls, &mut poll, Tls::handshake).unwrap();
        let error = until_done(&mut tls, &mut poll, |tls| tls.read(&mut [0; 10])).unwrap_err();
        assert!(error.to_string().contains("without any data"), "{error}");
        drop(tls);
        server.join().unwrap();
    }

    /// A server that shakes hands and hears whatever comes.
    fn serve(mut socket: TcpStream, config: ServerConfig) {
        socket.set_read_timeout(Some(GRACE)).unwrap();
        let mut session = ServerConnection::new(config.into()).unwrap();
        while session.complete_io(&mut socket).is_ok_and(|(read, written)| read + written > 0) {}
    }

    /// Tries again after each edge.
    fn until_done<T>(tls: &mut Tls, poll: &mut Poll, mut act: impl FnMut(&mut Tls) -> io::Result<T>) -> io::Result<T> {
        let mut events = Events::with_capacity(8);
        loop {
            if let Some(done) = ready(act(tls)).transpose() {
                return done;
            }
            poll.poll(&mut events, Some(GRACE)).unwrap();
            assert!(!events.is_empty(), "no edge came");
            events.iter().for_each(|event| tls.socket().note(event));
        }
    }

    /// Far longer than anything here takes.
    const GRACE: Duration = Duration::from_secs(20);
}
