//! TLS over a TCP socket, as a [`Stream`] whose two directions end independently.
//!
//! ```text
//!   socket -> part + [ into ] -- opened in place --> into         from -- sealed --> [ SCRATCH ] -> held -> socket
//!                    [ SCRATCH ], where there is less room --> into, plain
//! ```
//!
//! A session itself keeps bytes only while something is unfinished: a record that came in part, plaintext that found no room,
//! records that the socket did not take.

mod records;
mod session;

use std::cell::RefCell;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::mem;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::{ClientConfig, Error, ServerConfig};

use self::records::{Fault, Opened, Records, Sealed, HEAD};
use self::session::{Session, Turn, Words};
use super::budget::Budget;
use super::cert_errors::explain;
use super::rest::Rest;
use super::stream::{ready, would_block, Buffer, Stream, RECORD, SEAL};
use super::tcp::Tcp;
use crate::logic::wire::Fingerprint;

/// A TLS session and the socket that carries it.
pub struct Tls {
    driver: Driver,
    tcp: Tcp,
    /// The beginning of a record, or of a message in several records.
    part: Vec<u8>,
    output: SessionOutput,
    agreed: Agreed,
}

/// What makes of records what they say, and of words records.
enum Driver {
    /// In its handshake, or with TLS 1.2.
    Session(Box<Session>),
    Records(Box<Records>),
    /// The session has failed.
    None,
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
    /// What is wrong with what follows the plaintext.
    failure: Option<io::Error>,
    /// Bytes that were read since the last plaintext.
    bare: usize,
    /// Bytes of plaintext that are taken for the socket at once.
    at_once: usize,
}

/// What came of the handshake.
#[derive(Default)]
struct Agreed {
    peer: Option<Fingerprint>,
    is_http1: bool,
    is_h2: bool,
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
        let driver = Driver::Session(Box::new(session.map_err(io::Error::other)?));
        let output = SessionOutput { at_once: budget.held_back.min(MAX_AT_ONCE), ..SessionOutput::default() };
        Ok(Tls { driver, tcp, part: Vec::new(), output, agreed: Agreed::default() })
    }

    /// Goes on with the handshake; `WouldBlock` until it is over.
    ///
    /// No relay may start before: an end passed on during the handshake would overtake buffered bytes.
    pub fn handshake(&mut self) -> io::Result<()> {
        // Who dials speaks first.
        self.say(Words::None)?;
        loop {
            self.push()?;
            match &self.driver {
                Driver::Session(session) if session.state().is_handshaking() => {}
                Driver::Session(_) => return self.settle(),
                Driver::Records(_) => return Ok(()),
                Driver::None => return failed(),
            }
            if self.pull(&mut [], 0)?.read == 0 {
                return Err(io::Error::new(ErrorKind::UnexpectedEof, "it ended during the TLS handshake"));
            }
        }
    }

    /// Keeps what the handshake has come to, and goes on with records where the version is TLS 1.3.
    fn settle(&mut self) -> io::Result<()> {
        let Driver::Session(session) = mem::replace(&mut self.driver, Driver::None) else { return failed() };
        let state = session.state();
        self.agreed = Agreed {
            peer: state.peer_certificates().and_then(|chain| chain.first()).map(|leaf| Fingerprint::of(leaf)),
            is_http1: state.alpn_protocol() == Some(b"http/1.1"),
            is_h2: state.alpn_protocol() == Some(b"h2"),
        };
        if !session.is_done() {
            self.driver = Driver::Session(session);
            return Ok(());
        }
        let records = Records::after(*session).map_err(|error| io::Error::from(explain(&error)))?;
        self.driver = Driver::Records(Box::new(records));
        // No edge tells of what has come already.
        with_scratch(|scratch| {
            let filled = self.part.len();
            scratch[..filled].copy_from_slice(&self.part);
            let given = self.open(scratch, filled)?;
            self.output.plain.add(&scratch[..given]);
            Ok(())
        })
    }

    /// The fingerprint of the certificate that the other side showed.
    pub fn peer_fingerprint(&self) -> Option<Fingerprint> {
        self.agreed.peer
    }

    /// Whether both sides chose HTTP/1.1 (ALPN).
    pub fn speaks_http1(&self) -> bool {
        self.agreed.is_http1
    }

    /// Whether both sides chose HTTP/2 (ALPN).
    pub fn speaks_h2(&self) -> bool {
        self.agreed.is_h2
    }

    /// As [`Tcp::waiting`], for plaintext: 0 at an end, with or without a proper goodbye.
    pub fn waiting(&mut self) -> io::Result<usize> {
        while self.output.plain.is_empty() && !self.output.ended {
            if self.pull_plaintext(&mut [], 0)?.read == 0 {
                break;
            }
        }
        Ok(self.output.plain.bytes().len())
    }

    /// The socket underneath.
    pub fn socket(&mut self) -> &mut Tcp {
        &mut self.tcp
    }

    /// Takes plaintext in: up to `most` bytes, at the front of `into`, where records may take the room behind that.
    fn take(&mut self, into: &mut [u8], most: usize) -> io::Result<usize> {
        while self.output.plain.is_empty() && !self.output.ended {
            match self.pull_plaintext(into, most)? {
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
        let count = self.output.plain.bytes().len().min(most);
        into[..count].copy_from_slice(&self.output.plain.bytes()[..count]);
        self.output.plain.consume(count);
        Ok(count)
    }

    /// [`Tls::pull`] after the handshake: a session with many bytes and no plaintext among them has failed. Tickets are such
    /// bytes, and empty records with new keys between them: without a bound they would keep the thread busy.
    fn pull_plaintext(&mut self, into: &mut [u8], most: usize) -> io::Result<Pulled> {
        let pulled = self.pull(into, most)?;
        self.output.bare = match pulled.given > 0 || !self.output.plain.is_empty() {
            true => 0,
            false => self.output.bare + pulled.read,
        };
        if self.output.bare > MAX_BARE {
            self.driver = Driver::None;
            return Err(io::Error::new(ErrorKind::InvalidData, "48 KiB of TLS records without any data"));
        }
        Ok(pulled)
    }

    /// Reads from the socket once and takes in what has come. What that makes us say (alerts, key updates) is sent.
    fn pull(&mut self, into: &mut [u8], most: usize) -> io::Result<Pulled> {
        if let Some(error) = self.output.failure.take() {
            return Err(error);
        }
        let begun = match self.part[..] {
            [_, _, _, high, low, ..] => HEAD + usize::from(u16::from_be_bytes([high, low])),
            _ => 0,
        };
        let whole = RECORD + SEAL;
        let pulled = match self.driver {
            // As many whole records as there is room for.
            Driver::Records(_) if into.len() >= whole.max(begun) => {
                let want = (into.len() - into.len() % whole).max(begun);
                self.read_behind(into, want)
                    .and_then(|(filled, read)| Ok(Pulled { read, given: self.open(into, filled)? }))
            }
            // To the end of a record that has begun, else as many as there is room for, so that little has to wait here.
            _ => with_scratch(|scratch| {
                let want = (most + most.div_ceil(RECORD) * SEAL).max(begun).max(MIN_READ);
                let (filled, read) = self.read_behind(scratch, want)?;
                Ok(Pulled { read, given: self.take_in(scratch, filled, &mut into[..most])? })
            }),
        };
        match ready(self.push()) {
            Err(error) if pulled.is_ok() => Err(error),
            _ => pulled,
        }
    }

    /// Reads once, behind what has come in part, to about `want` bytes in all: how many are in `area` then, and how many are new.
    fn read_behind(&mut self, area: &mut [u8], want: usize) -> io::Result<(usize, usize)> {
        let kept = self.part.len();
        if kept >= area.len() {
            return Err(io::Error::new(ErrorKind::InvalidData, "a TLS message of more than 64 KiB"));
        }
        let end = if want > kept { want } else { kept + MIN_READ };
        let end = end.min(area.len());
        let read = self.tcp.read(&mut area[kept..end])?;
        area[..kept].copy_from_slice(&self.part);
        Ok((kept + read, read))
    }

    /// Takes in the `filled` bytes in `area`: how much plaintext there is in `into` then.
    fn take_in(&mut self, area: &mut [u8], filled: usize, into: &mut [u8]) -> io::Result<usize> {
        let Driver::Session(session) = &mut self.driver else {
            let given = self.open(area, filled)?;
            return Ok(self.output.give(&area[..given], into));
        };
        let mut turn = Turn { into, ..Turn::at(&mut self.output) };
        let (done, result) = session.go_on(&mut area[..filled], &mut turn);
        let given = turn.given;
        self.part = area[done..filled].to_vec();
        match result {
            Ok(()) => Ok(given),
            Err(error) => self.fail(&error),
        }
    }

    /// Opens the records in the first `filled` bytes of `area`: how much plaintext is there instead.
    fn open(&mut self, area: &mut [u8], filled: usize) -> io::Result<usize> {
        let Driver::Records(records) = &mut self.driver else { return failed() };
        let (Opened { given, done, ended }, result) = records.open(area, filled);
        let Err(Fault { error, alert }) = result else {
            self.output.ended |= ended;
            self.part = area[done..filled].to_vec();
            return Ok(given);
        };
        if let Some(alert) = alert {
            let mut record = [0; SHORT];
            let made = records.alert(alert, &mut record).unwrap_or_default();
            self.output.held.add(&record[..made]);
        }
        match self.fail(&error) {
            // What came before it is for the reader first.
            Err(error) if given > 0 => {
                self.output.failure = Some(error);
                Ok(given)
            }
            failed => failed,
        }
    }

    fn fail<T>(&mut self, error: &Error) -> io::Result<T> {
        self.driver = Driver::None;
        Err(explain(error).into())
    }

    /// Says it, as far as the socket takes it and the [`Budget`] lets it wait; how much of it is plaintext that was taken.
    fn say(&mut self, words: Words<'_>) -> io::Result<usize> {
        with_scratch(|scratch| {
            let said = match &mut self.driver {
                Driver::Records(records) => match words {
                    Words::None => Ok(Sealed::default()),
                    Words::Plaintext(pieces) => records.seal(pieces, self.output.at_once, scratch),
                    Words::Goodbye => records.goodbye(scratch).map(|made| Sealed { taken: 0, made }),
                },
                Driver::Session(session) => {
                    let mut turn = Turn { words, records: &mut scratch[..], ..Turn::at(&mut self.output) };
                    let (done, result) = session.go_on(&mut self.part, &mut turn);
                    let Turn { taken, made, .. } = turn;
                    self.part.drain(..done);
                    result.map(|()| Sealed { taken, made })
                }
                Driver::None => return failed(),
            };
            let Sealed { taken, made } = match said {
                Ok(sealed) => sealed,
                Err(error) => return self.fail(&error),
            };
            let made = &scratch[..made];
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

impl SessionOutput {
    /// Puts plaintext where there is room for it, and keeps the rest: how much found room.
    fn give(&mut self, plaintext: &[u8], room: &mut [u8]) -> usize {
        let (now, later) = plaintext.split_at(plaintext.len().min(room.len()));
        room[..now.len()].copy_from_slice(now);
        self.plain.add(later);
        now.len()
    }
}

/// What came of reading once.
struct Pulled {
    /// Bytes of the socket; none is its end.
    read: usize,
    /// Plaintext in the reader's hands.
    given: usize,
}

fn failed<T>() -> io::Result<T> {
    Err(io::Error::new(ErrorKind::BrokenPipe, "the TLS session has failed"))
}

/// Plaintext in; 0 is the end, and `WouldBlock` owes an edge.
impl Read for Tls {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = into.len();
        self.take(into, most)
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
        let (room, most) = into.room_for_records();
        let count = self.take(room, most)?;
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

thread_local! {
    /// Records, received or made: one block for all sessions of a thread.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

fn with_scratch<T>(work: impl FnOnce(&mut [u8]) -> T) -> T {
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.resize(RECORDS, 0);
        work(scratch)
    })
}

/// The most plaintext that is sent at once; also the longest message of a handshake.
const MAX_AT_ONCE: usize = 64 * 1024;
/// Room for that much in records.
const RECORDS: usize = MAX_AT_ONCE + 4096;
/// Most bytes that may come without plaintext: a record that comes in part, and far more tickets than servers send.
const MAX_BARE: usize = 3 * RECORD;
/// Bytes that are read at least where there is room for fewer.
const MIN_READ: usize = 4096;
/// Room for an alert.
const SHORT: usize = 64;

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
