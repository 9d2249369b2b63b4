//! The clauses of `Stream`, kept by every kind of stream there is, on real sockets; and relays over such streams.
//!
//! ```text
//!   the test -- fill, drain, flush, finish --> [ Leg under test ] == loopback == [ Far ]
//! ```
//!
//! A leg hears of the world by edges alone, as in a worker: one that is owed and does not come is a test that fails.

mod far;
#[cfg(feature = "ws")]
mod relays;
mod serial;
#[cfg_attr(not(any(feature = "quic", feature = "h2")), allow(dead_code))]
mod shared;
#[cfg(feature = "ws")]
mod websocket;

use std::io::{self, ErrorKind, Write};
use std::net::{Shutdown, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};
use rustls::pki_types::PrivateKeyDer;
use rustls::version::{TLS12, TLS13};
use rustls::{
    AlertDescription, ClientConnection, Connection, ProtocolVersion, ServerConnection, SupportedProtocolVersion,
};

use crate::ends::{flow, nonblocking, GRACE};
use far::{pair, Far, NoFar};
use nodepass::net::batch::PacketQueue;
use nodepass::net::budget::Budget;
use nodepass::net::certs::{self, Audience, Certs, Origin, Trust};
#[cfg(feature = "h2")]
use nodepass::net::h2::{Limits, H2};
use nodepass::net::inherited::Inherited;
use nodepass::net::leg::{Line, Own};
use nodepass::net::mux::{AllowedPeer, Mux};
#[cfg(feature = "quic")]
use nodepass::net::quic::{ClientTls, QuicClient, QuicServer, Settings, Tickets};
use nodepass::net::stream::{ready, Buffer, Stream};
use nodepass::net::tls::Tls;
use nodepass::net::udp::{conduit_size, Frames, Session, UdpListener};
#[cfg(feature = "ws")]
use nodepass::net::ws::{End, Ws};
use serial::serial;
use shared::Shared;
#[cfg(feature = "ws")]
use websocket::ws;

/// One test for each clause and each kind of stream.
macro_rules! contract {
    ($($kind:ident: $made:expr => $($clauses:ident)+;)+) => { $(
        mod $kind {
            use super::*;
            $( $clauses!($made); )+
        }
    )+ };
}

macro_rules! clauses {
    ($made:expr; $($name:ident)+) => { $( #[test] fn $name() { super::$name($made); } )+ };
}

/// What every stream keeps.
macro_rules! all {
    ($made:expr) => {
        clauses! { $made;
            nothing_now_is_would_block_and_no_end
            after_would_block_an_edge_comes_when_the_far_end_speaks
            bytes_pass_both_ways_in_order
            what_was_flushed_arrives_without_any_further_call
            filling_goes_on_after_finish
        }
    };
}

/// What streams with ends and windows keep besides.
macro_rules! connections {
    ($made:expr) => {
        clauses! { $made;
            our_end_passes_alone_and_theirs_lives_on
            bytes_and_the_end_that_they_were_announced_with_arrive_both
            their_end_comes_after_the_last_byte_and_ours_lives_on
            a_reset_is_an_error_and_no_end
            a_far_end_that_does_not_read_is_backpressure_and_an_edge_when_it_does
            bytes_that_are_not_filled_wait_at_the_far_end
        }
    };
}

/// What TLS sessions keep besides.
macro_rules! sessions {
    ($made:expr) => {
        clauses! { $made;
            our_goodbye_is_followed_by_the_end_of_the_socket
            a_session_that_is_cut_off_is_an_error_and_no_end
            bytes_that_are_no_records_are_an_error
        }
    };
}

contract! {
    tcp: tcp() => all connections;
    tls_server: tls_server(POOL, &TLS13) => all connections sessions;
    tls_client: tls_client() => all connections sessions;
    tls_1_2_user: tls_server(Audience::Users, &TLS12) => all connections sessions;
    udp_target: udp_target() => all;
    udp_user: udp_user() => all;
    serial_plain: serial(tcp()) => all connections;
    serial_server: serial(tls_server(POOL, &TLS13)) => all connections;
    serial_client: serial(tls_client()) => all connections;
    line: line() => all;
}

#[cfg(feature = "ws")]
contract! {
    ws_server: ws(tcp(), End::Server) => all connections;
    ws_client: ws(tcp(), End::Client) => all connections;
    wss_server: ws(tls_server(POOL, &TLS13), End::Server) => all connections;
    wss_client: ws(tls_client(), End::Client) => all connections;
}

#[cfg(feature = "h2")]
contract! {
    h2_client: h2(true) => all connections;
    h2_server: h2(false) => all connections;
}

#[cfg(feature = "quic")]
contract! {
    quic_client: quic(true) => all connections;
    quic_server: quic(false) => all connections;
}

// ---- the clauses ----------------------------------------------------------------------------------------------------

fn nothing_now_is_would_block_and_no_end<F: Far>(mut rig: Rig<F>) {
    for _ in 0..3 {
        assert_eq!(rig.fill().unwrap(), None);
        rig.listen();
    }
}

fn after_would_block_an_edge_comes_when_the_far_end_speaks<F: Far>(mut rig: Rig<F>) {
    for round in 0..20 {
        assert_eq!(rig.fill().unwrap(), None);
        rig.say(&message(round, 10));
        assert_eq!(rig.filled(12), message(round, 10));
    }
}

fn bytes_pass_both_ways_in_order<F: Far>(mut rig: Rig<F>) {
    let sizes = [0, 1, 2, 100, 1000, 1399, 5000, 16384, 20000, 3];
    for (round, size) in sizes.into_iter().enumerate() {
        rig.say(&message(round, size));
        rig.drain_all(&message(round + 100, size));
        assert_eq!(rig.filled(2 + size), message(round, size));
        assert_eq!(rig.heard(2 + size), message(round + 100, size));
    }
}

fn what_was_flushed_arrives_without_any_further_call<F: Far>(mut rig: Rig<F>) {
    let sent = message(7, 30000);
    rig.drain_all(&sent);
    rig.flush_all();
    assert_eq!(rig.heard(sent.len()), sent);
    assert_eq!(ready(rig.leg.lend().flush()).unwrap(), Some(()), "nothing is held back any more");
}

fn filling_goes_on_after_finish<F: Far>(mut rig: Rig<F>) {
    rig.finish();
    rig.say(&message(1, 500));
    assert_eq!(rig.filled(502), message(1, 500));
    assert_eq!(rig.fill().unwrap(), None, "our end is not theirs");
}

fn our_end_passes_alone_and_theirs_lives_on<F: Far>(mut rig: Rig<F>) {
    rig.drain_all(&message(1, 500));
    assert_eq!(rig.heard(502), message(1, 500));
    assert!(!rig.far.hear(&mut Vec::new()), "no end before ours");
    rig.finish();
    rig.until("our end", |rig| rig.far.hear(&mut Vec::new()).then_some(()));
    rig.say(&message(2, 500));
    assert_eq!(rig.filled(502), message(2, 500));
    rig.far.end();
    rig.their_end();
}

fn bytes_and_the_end_that_they_were_announced_with_arrive_both<F: Far>(mut rig: Rig<F>) {
    let sent = flow(0, MANY);
    let mut from = Buffer::holding(sent.clone());
    rig.leg.lend().ends_with();
    let (mut heard, mut over) = (Vec::new(), false);
    rig.until("all of it and the end", |rig| {
        while !from.is_empty() && rig.drain(&mut from).is_some() {}
        if from.is_empty() && ready(rig.leg.lend().flush()).unwrap().is_some() {
            ready(rig.leg.lend().finish()).unwrap();
        }
        over |= rig.far.hear(&mut heard);
        assert!(!over || from.is_empty(), "an end before the last byte");
        over.then_some(())
    });
    assert!(heard == sent, "the bytes are others");
    rig.say(&message(2, 500));
    assert_eq!(rig.filled(502), message(2, 500));
    rig.far.end();
    rig.their_end();
}

fn their_end_comes_after_the_last_byte_and_ours_lives_on<F: Far>(mut rig: Rig<F>) {
    rig.say(&message(1, 500));
    rig.far.end();
    assert_eq!(rig.filled(502), message(1, 500));
    rig.their_end();
    rig.drain_all(&message(2, 500));
    rig.flush_all();
    assert_eq!(rig.heard(502), message(2, 500));
    rig.finish();
    rig.until("our end", |rig| rig.far.hear(&mut Vec::new()).then_some(()));
}

fn a_reset_is_an_error_and_no_end<F: Far>(mut rig: Rig<F>) {
    assert_eq!(rig.fill().unwrap(), None);
    rig.far.reset();
    assert_eq!(rig.fails(), ErrorKind::ConnectionReset);
    assert!(rig.leg.failed());
}

fn a_far_end_that_does_not_read_is_backpressure_and_an_edge_when_it_does<F: Far>(mut rig: Rig<F>) {
    let sent = flow(0, MANY);
    let mut from = Buffer::holding(sent.clone());
    // Whatever room the kernels still find, there is an end to it.
    rig.until("no room", |rig| {
        let before = from.bytes().len();
        while rig.drain(&mut from).is_some() {}
        (from.bytes().len() == before).then_some(())
    });
    let taken = sent.len() - from.bytes().len();
    assert!((1..MANY / 4).contains(&taken), "{taken} of {MANY} bytes went to a peer that does not read");

    let mut heard = Vec::new();
    rig.until("all of it", |rig| {
        rig.far.hear(&mut heard);
        while !from.is_empty() && rig.drain(&mut from).is_some() {}
        let flushed = ready(rig.leg.lend().flush()).unwrap().is_some();
        (flushed && heard.len() == MANY).then_some(())
    });
    assert!(heard == sent, "the bytes are others");
}

fn bytes_that_are_not_filled_wait_at_the_far_end<F: Far>(mut rig: Rig<F>) {
    let sent = flow(0, MANY);
    let mut said = 0;
    rig.until("no room", |rig| {
        let before = said;
        loop {
            match rig.far.say(&sent[said..]) {
                0 => return (said == before).then_some(()),
                count => said += count,
            }
        }
    });
    assert!((1..MANY / 4).contains(&said), "{said} of {MANY} bytes were taken for an end that does not read");

    let mut filled = Vec::new();
    rig.until("all of it", |rig| {
        said += rig.far.say(&sent[said..]);
        while let Some(bytes) = rig.fill().unwrap() {
            filled.extend(bytes);
        }
        (filled.len() == MANY).then_some(())
    });
    assert!(filled == sent, "the bytes are others");
}

fn our_goodbye_is_followed_by_the_end_of_the_socket(mut rig: Rig<far::Session>) {
    rig.finish();
    rig.until("our goodbye", |rig| rig.far.hear(&mut Vec::new()).then_some(()));
    let mut rest = Vec::new();
    rig.until("the end of the socket", |rig| rig.far.socket.hear(&mut rest).then_some(()));
    assert_eq!(rest, b"", "records after the goodbye");
}

fn a_session_that_is_cut_off_is_an_error_and_no_end(mut rig: Rig<far::Session>) {
    rig.say(&message(1, 500));
    rig.far.socket.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rig.filled(502), message(1, 500));
    assert_eq!(rig.fails(), ErrorKind::UnexpectedEof);
}

fn bytes_that_are_no_records_are_an_error(mut rig: Rig<far::Session>) {
    rig.far.socket.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(rig.fails(), ErrorKind::InvalidData);
}

// ---- what is particular to one kind ---------------------------------------------------------------------------------

#[test]
fn pool_sessions_speak_tls_1_3_and_each_side_knows_the_same_leaf() {
    let identity = identity(POOL);
    let rig = tls_server(POOL, &TLS13);
    assert_eq!(rig.far.tls.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    let (ours, theirs) = pair(false);
    let server = ServerConnection::new(identity.config.clone()).unwrap();
    let rig = tls_client_with(ours, theirs, server.into());
    let LocalEnd::Own(Own::Tls(tls)) = &rig.leg else { unreachable!() };
    assert_eq!(tls.peer_fingerprint(), Some(identity.leaf));
}

#[test]
fn an_older_tls_than_1_3_is_refused_by_a_pool() {
    let (ours, theirs) = pair(false);
    let old = ClientConnection::new(far::client(&TLS12), certs::server_name("a.example").unwrap()).unwrap();
    let mut far = far::Session::new(old.into(), theirs);
    let tls = Tls::accept(nonblocking(ours), identity(POOL).config, &Budget::PLENTY).unwrap();
    far.socket.set_nonblocking(true).unwrap();
    far.tls.write_tls(&mut far.socket).unwrap();
    let mut rig = Rig::new(Own::Tls(Box::new(tls)), far);
    let error = rig.until("a refusal", |rig| rig.shake_hands().err());
    assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
    // The other side hears why, and there is no going on.
    let alert = rig.until("an alert", |rig| {
        rig.far.tls.read_tls(&mut rig.far.socket).ok()?;
        rig.far.tls.process_new_packets().err()
    });
    assert_eq!(alert, rustls::Error::AlertReceived(AlertDescription::ProtocolVersion));
    assert_eq!(rig.shake_hands().unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[test]
fn a_handshake_of_many_records_is_taken_in_up_to_its_limit() {
    // Certificates of some 20 KB each.
    let server = |chain: usize| {
        let names = (0..500).map(|number| format!("a-name-among-so-many-others-{number:04}.example"));
        let key = rcgen::KeyPair::generate().unwrap();
        let leaf = rcgen::CertificateParams::new(names.collect::<Vec<_>>()).unwrap().self_signed(&key).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(certs::provider()).with_protocol_versions(&[&TLS13]);
        let chain = vec![leaf.der().clone(); chain];
        let config = config.unwrap().with_no_client_auth().with_single_cert(chain, key).unwrap();
        ServerConnection::new(Arc::new(config)).unwrap()
    };
    let (ours, theirs) = pair(true);
    bytes_pass_both_ways_in_order(tls_client_with(ours, theirs, server(2).into()));

    let (ours, theirs) = pair(true);
    let name = certs::server_name("127.0.0.1").unwrap();
    let tls =
        Tls::connect(nonblocking(ours), certs::client(Trust::ANY, certs::Alpn::Raw).unwrap(), name, &Budget::PLENTY)
            .unwrap();
    theirs.set_nonblocking(true).unwrap();
    let mut rig = Rig::new(Own::Tls(Box::new(tls)), far::Session::new(server(4).into(), theirs));
    let error = rig.until("a refusal", |rig| {
        rig.far.step();
        rig.shake_hands().err()
    });
    assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
}

#[test]
fn an_end_during_the_handshake_is_an_error() {
    let (ours, theirs) = pair(false);
    let tls = Tls::accept(nonblocking(ours), identity(POOL).config, &Budget::PLENTY).unwrap();
    let mut rig = Rig::new(Own::Tls(Box::new(tls)), theirs);
    assert_eq!(rig.shake_hands().unwrap(), None);
    rig.far.end();
    let error = rig.until("an error", |rig| rig.shake_hands().err());
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
}

#[test]
fn new_keys_in_the_middle_of_a_session_change_nothing() {
    let mut rig = tls_server(POOL, &TLS13);
    for round in 0..5 {
        rig.far.tls.refresh_traffic_keys().unwrap();
        rig.say(&message(round, 5000));
        assert_eq!(rig.filled(5002), message(round, 5000));
        rig.drain_all(&message(round, 5000));
        assert_eq!(rig.heard(5002), message(round, 5000));
    }
}

#[test]
fn an_idle_connection_that_its_peer_has_left_or_misused_is_not_alive() {
    fn judged<F: Far>(mut rig: Rig<F>, act: fn(&mut F), quiet: bool) {
        assert!(rig.leg.is_alive(true), "at first");
        act(&mut rig.far);
        rig.until("its end", |rig| (!rig.leg.is_alive(quiet)).then_some(()));
    }
    judged(tcp(), |far| far.end(), false);
    judged(tcp(), |far| far.reset(), false);
    judged(tcp(), |far| assert_ne!(far.say(b"who are you?"), 0), true);
    judged(tls_client(), |far| far.end(), false);
    judged(tls_client(), |far| far.socket.end(), false);
    judged(tls_client(), |far| assert_ne!(far.say(b"who are you?"), 0), true);
    #[cfg(feature = "ws")]
    {
        judged(ws(tls_client(), End::Client), |far| far.end(), false);
        judged(ws(tls_client(), End::Client), |far| far.ws.get_mut().end(), false);
        judged(ws(tcp(), End::Server), |far| far.ws.close(None).unwrap(), false);
        judged(ws(tcp(), End::Server), |far| assert_ne!(far.say(b"who are you?"), 0), true);
    }
}

#[test]
fn looking_whether_a_connection_lives_takes_nothing_out_of_it() {
    fn looked<F: Far>(mut rig: Rig<F>) {
        rig.say(&message(1, 500));
        rig.until("bytes", |rig| (!rig.leg.is_alive(true)).then_some(()));
        assert!(rig.leg.is_alive(false));
        assert_eq!(rig.filled(502), message(1, 500));
    }
    looked(tcp());
    looked(tls_server(POOL, &TLS13));
    looked(tls_client());
    #[cfg(feature = "ws")]
    looked(ws(tls_client(), End::Client));
}

#[test]
fn a_line_that_is_not_read_says_so() {
    let mut line = Line::new(100);
    let mut said = 0;
    while line.send(&[b'x'; 1000]) {
        said += 1000;
        assert!(said < 16 * MANY, "there is no limit");
    }
}

// ---- the rig --------------------------------------------------------------------------------------------------------

/// What is under test: a leg with a socket of its own, or a stream of a connection that carries many.
#[cfg_attr(not(any(feature = "quic", feature = "h2")), allow(dead_code))]
enum LocalEnd {
    Own(Own),
    Shared(Shared),
}

impl LocalEnd {
    fn lend(&mut self) -> &mut dyn Stream {
        match self {
            LocalEnd::Own(leg) => leg.stream(),
            LocalEnd::Shared(shared) => shared,
        }
    }

    fn failed(&mut self) -> bool {
        match self {
            LocalEnd::Own(leg) => leg.failed(),
            LocalEnd::Shared(shared) => shared.failed(),
        }
    }

    fn is_alive(&mut self, quiet: bool) -> bool {
        match self {
            LocalEnd::Own(leg) => leg.is_alive(quiet),
            LocalEnd::Shared(shared) => !shared.failed(),
        }
    }
}

/// A leg under test, the far end, and the edges between them.
struct Rig<F> {
    poll: Poll,
    leg: LocalEnd,
    listener: Option<Arc<UdpListener>>,
    far: F,
    buffer: Buffer,
    /// What the far end has heard and the test has not asked for yet.
    heard: Vec<u8>,
}

impl<F: Far> Rig<F> {
    fn new(mut leg: Own, far: F) -> Rig<F> {
        let poll = Poll::new().unwrap();
        leg.register(&crate::support::registry(&poll), Token(0)).unwrap();
        Rig::over(LocalEnd::Own(leg), far, poll)
    }

    fn over(leg: LocalEnd, far: F, poll: Poll) -> Rig<F> {
        Rig { poll, leg, listener: None, far, buffer: Buffer::new(conduit_size(65535)), heard: Vec::new() }
    }

    /// Takes in the edges of the next moment.
    fn listen(&mut self) {
        let mut events = Events::with_capacity(16);
        let _ = self.poll.poll(&mut events, Some(MOMENT));
        for event in &events {
            match &self.listener {
                Some(listener) if event.token() == LISTENER => {
                    let mut queue = PacketQueue::default();
                    while let Some(count) = ready(listener.receive(&mut queue, 65535)).unwrap() {
                        let LocalEnd::Own(Own::Udp(session)) = &mut self.leg else { unreachable!() };
                        let mut frames = Frames::default();
                        queue.packets(count).for_each(|(_, packet)| frames.push(&[packet]));
                        session.deliver(frames);
                    }
                }
                _ => {
                    let LocalEnd::Own(leg) = &mut self.leg else { unreachable!() };
                    leg.note(event);
                }
            }
        }
        if let LocalEnd::Shared(shared) = &mut self.leg {
            shared.turn();
            self.far.live();
        }
    }

    /// Tries again after each moment's edges.
    fn until<T>(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> Option<T>) -> T {
        let begin = Instant::now();
        loop {
            if let Some(value) = done(self) {
                return value;
            }
            assert!(begin.elapsed() < GRACE, "waited in vain for {what}");
            self.listen();
        }
    }

    /// One `fill`: bytes (none at the end), or `None` for not now.
    fn fill(&mut self) -> io::Result<Option<Vec<u8>>> {
        let count = ready(self.leg.lend().fill(&mut self.buffer))?;
        let bytes = self.buffer.bytes().to_vec();
        assert_eq!(bytes.len(), count.unwrap_or(0), "it filled something else than it says");
        self.buffer.consume(bytes.len());
        Ok(count.map(|_| bytes))
    }

    /// So many bytes, as they come.
    fn filled(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.until("bytes", |rig| {
            while bytes.len() < count {
                let more = rig.fill().unwrap()?;
                assert!(!more.is_empty(), "an end after {} of {count} bytes", bytes.len());
                bytes.extend(more);
            }
            Some(())
        });
        bytes
    }

    /// The end of their direction, which stays one.
    fn their_end(&mut self) {
        let last = self.until("their end", |rig| rig.fill().unwrap());
        assert_eq!(last, b"");
        assert_eq!(self.fill().unwrap(), Some(Vec::new()));
    }

    /// What filling fails with, in the end.
    fn fails(&mut self) -> ErrorKind {
        self.until("an error", |rig| match rig.fill() {
            Ok(Some(bytes)) => panic!("{} bytes instead of an error", bytes.len()),
            Ok(None) => None,
            Err(error) => Some(error.kind()),
        })
    }

    /// One `drain`.
    fn drain(&mut self, from: &mut Buffer) -> Option<usize> {
        let before = from.bytes().len();
        let count = ready(self.leg.lend().drain(from)).unwrap();
        assert_ne!(count, Some(0), "`Ok(0)` would look like an end");
        assert_eq!(before - from.bytes().len(), count.unwrap_or(0), "it took something else than it says");
        count
    }

    fn drain_all(&mut self, bytes: &[u8]) {
        let mut from = Buffer::holding(bytes.to_vec());
        self.until("room", |rig| {
            while !from.is_empty() {
                rig.drain(&mut from)?;
            }
            Some(())
        });
    }

    /// Flushes; the far end reads meanwhile.
    fn flush_all(&mut self) {
        self.until("a flush", |rig| {
            rig.listen_far();
            ready(rig.leg.lend().flush()).unwrap()
        });
    }

    fn finish(&mut self) {
        self.flush_all();
        self.until("our finish", |rig| ready(rig.leg.lend().finish()).unwrap());
    }

    /// The far end says a few bytes, which always go.
    fn say(&mut self, bytes: &[u8]) {
        if let LocalEnd::Own(Own::Line(line)) = &mut self.leg {
            assert!(line.send(bytes));
            return;
        }
        let mut said = 0;
        self.until("room at the far end", |rig| {
            said += rig.far.say(&bytes[said..]);
            (said == bytes.len()).then_some(())
        });
    }

    fn listen_far(&mut self) {
        match &mut self.leg {
            LocalEnd::Own(Own::Line(line)) => self.heard.extend(line.received()),
            _ => assert!(!self.far.hear(&mut self.heard), "an end that was not made"),
        }
    }

    /// So many bytes that the far end has heard.
    fn heard(&mut self, count: usize) -> Vec<u8> {
        self.until("bytes at the far end", |rig| {
            rig.listen_far();
            (rig.heard.len() >= count).then_some(())
        });
        std::mem::take(&mut self.heard)
    }

    fn shake_hands(&mut self) -> io::Result<Option<()>> {
        let LocalEnd::Own(Own::Tls(tls)) = &mut self.leg else { unreachable!() };
        ready(tls.handshake())
    }
}

fn tcp() -> Rig<std::net::TcpStream> {
    let (ours, theirs) = pair(true);
    theirs.set_nonblocking(true).unwrap();
    Rig::new(Own::Tcp(nonblocking(ours)), theirs)
}

/// Our side is the one that was dialled.
fn tls_server(audience: Audience, version: &'static SupportedProtocolVersion) -> Rig<far::Session> {
    let (ours, theirs) = pair(true);
    let tls = Tls::accept(nonblocking(ours), identity(audience).config, &Budget::PLENTY).unwrap();
    let far = ClientConnection::new(far::client(version), certs::server_name("a.example").unwrap()).unwrap();
    established(tls, far.into(), theirs)
}

/// Our side is the one that dials.
fn tls_client() -> Rig<far::Session> {
    let (ours, theirs) = pair(true);
    let far = ServerConnection::new(identity(POOL).config).unwrap();
    tls_client_with(ours, theirs, far.into())
}

fn tls_client_with(ours: std::net::TcpStream, theirs: std::net::TcpStream, far: Connection) -> Rig<far::Session> {
    let name = certs::server_name("127.0.0.1").unwrap();
    let tls =
        Tls::connect(nonblocking(ours), certs::client(Trust::ANY, certs::Alpn::Raw).unwrap(), name, &Budget::PLENTY)
            .unwrap();
    established(tls, far, theirs)
}

fn established(tls: Tls, far: Connection, theirs: std::net::TcpStream) -> Rig<far::Session> {
    theirs.set_nonblocking(true).unwrap();
    let mut rig = Rig::new(Own::Tls(Box::new(tls)), far::Session::new(far, theirs));
    rig.until("a handshake", |rig| {
        rig.far.step();
        rig.shake_hands().unwrap()?;
        (!rig.far.tls.is_handshaking()).then_some(())
    });
    rig
}

fn identity(audience: Audience) -> certs::Identity {
    Certs::new(Origin::Memory, audience).unwrap().current()
}

/// The egress: our own socket, and a target.
fn udp_target() -> Rig<UdpSocket> {
    let target = UdpSocket::bind("127.0.0.1:0").unwrap();
    target.set_nonblocking(true).unwrap();
    let mut session = Session::to_target(target.local_addr().unwrap(), None, true, 65535, &Budget::PLENTY).unwrap();
    // Its first datagram tells the target where it is.
    let hello = &mut Buffer::holding(vec![0, 0]);
    Stream::drain(&mut session, hello).unwrap();
    let mut rig = Rig::new(Own::Udp(Box::new(session)), target);
    let from = rig.until("a greeting", |rig| rig.far.recv_from(&mut []).ok()).1;
    rig.far.connect(from).unwrap();
    rig
}

/// The ingress: a listener that many share, and one user.
fn udp_user() -> Rig<UdpSocket> {
    let mut listener =
        UdpListener::open("0.0.0.0:0".parse::<SocketAddr>().unwrap().into(), &Inherited::default(), &Budget::PLENTY)
            .unwrap();
    let user = UdpSocket::bind("127.0.0.1:0").unwrap();
    user.connect(("127.0.0.2", listener.local().unwrap().port())).unwrap();
    user.set_nonblocking(true).unwrap();
    let poll = Poll::new().unwrap();
    listener.register(poll.registry(), LISTENER).unwrap();
    let listener = Arc::new(listener);
    let (address, asked) = (user.local_addr().unwrap(), "127.0.0.2".parse().ok());
    let session = Session::of_user(listener.clone(), address, asked, true, 65535);
    let mut rig = Rig::new(Own::Udp(Box::new(session)), user);
    (rig.poll, rig.listener) = (poll, Some(listener));
    rig
}

/// A stream between two ends of one connection; ours is the one that dials, or not.
#[cfg_attr(not(any(feature = "quic", feature = "h2")), allow(dead_code))]
fn shared(near: Box<dyn Mux>, far: Box<dyn Mux>, we_dial: bool) -> Rig<Shared> {
    let (mut near, mut far) = (Shared::new(near), Shared::new(far));
    match we_dial {
        true => Shared::join(&mut near, &mut far),
        false => Shared::join(&mut far, &mut near),
    }
    Rig::over(LocalEnd::Shared(near), far, Poll::new().unwrap())
}

#[cfg(feature = "quic")]
fn quic(we_dial: bool) -> Rig<Shared> {
    let (home, now, identity) = (std::net::Ipv4Addr::LOCALHOST.into(), Instant::now(), identity(POOL));
    let settings = Settings { streams: 10, ..Settings::client(GRACE, GRACE, Duration::ZERO, Budget::PLENTY) };
    let mut server = QuicServer::bind(&[SocketAddr::from((home, 0)).into()], &identity, &settings, now).unwrap();
    server.allow(&[AllowedPeer { tunnel: 1, address: home, connections: 1 }], &identity).unwrap();
    let (at, tls) = (server.local().next().unwrap(), ClientTls::new(Trust::ANY, "").unwrap());
    let client = QuicClient::connect(at, &tls, &settings, &mut Tickets::default(), now).unwrap();
    match we_dial {
        true => shared(Box::new(client), Box::new(server), true),
        false => shared(Box::new(server), Box::new(client), false),
    }
}

#[cfg(feature = "h2")]
fn h2(we_dial: bool) -> Rig<Shared> {
    let (one, two) = pair(true);
    let (peer, limits) = (one.local_addr().unwrap(), Limits::new(10, GRACE, &Budget::PLENTY));
    let client: Box<dyn Mux> = Box::new(H2::client(nonblocking(one), "a.example", limits).unwrap());
    let server: Box<dyn Mux> = Box::new(H2::server(nonblocking(two), peer, limits).unwrap());
    match we_dial {
        true => shared(client, server, true),
        false => shared(server, client, false),
    }
}

fn line() -> Rig<NoFar> {
    Rig::new(Own::Line(Line::new(100_000)), NoFar)
}

/// A datagram's frame: bytes like any others to streams that know no frames.
fn message(number: usize, size: usize) -> Vec<u8> {
    let payload = (0..size).map(|at| (number * 31 + at * 7 + at / 251) as u8);
    (size as u16).to_be_bytes().into_iter().chain(payload).collect()
}

/// What a listener is registered under; a leg has 0.
const LISTENER: Token = Token(1);
/// More than any socket's buffers hold.
const MANY: usize = 4 * 1024 * 1024;
/// How long the rig listens before it tries again.
const MOMENT: Duration = Duration::from_millis(1);
/// Pool connections of type 0.
const POOL: Audience = Audience::Pool(certs::Alpn::Raw);
