//! Relays over real sockets: in the kernel, by copying, and through TLS and WebSockets.
//!
//! ```text
//!   user == [ a  relay  b ] == target                                      spliced, copied
//!   user == [ a  relay  b ] == TLS == [ a  relay  b ] == target            through a session, a WebSocket, or both
//! ```

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use mio::{Events, Poll, Token};
use socket2::SockRef;

use super::far::pair;
use super::{identity, POOL};
use crate::ends::{flow, nonblocking, GRACE};
use nodepass::net::budget::Budget;
use nodepass::net::certs::{self, Trust};
use nodepass::net::leg::Own;
use nodepass::net::relay::Half;
use nodepass::net::stream::{ready, Conduit, Stores};
use nodepass::net::sys::SPLICE;
use nodepass::net::tls::Tls;
use nodepass::net::ws::{End, Ws};

#[test]
fn bare_sockets_with_much_to_say_are_joined_in_the_kernel_where_that_is_allowed_and_possible() {
    for (allowed, bulk) in [(true, true), (true, false), (false, true)] {
        let (mut user, ours) = pair(false);
        let (mut a, mut b) = (Own::Tcp(nonblocking(ours)), Own::Tcp(nonblocking(pair(false).0)));
        user.write_all(b"x").unwrap();
        let (mut conduit, mut stores) = (Conduit::Empty, Stores::new(SIZE, allowed));
        ready(conduit.fill(a.stream(), b.stream(), 1, bulk, &mut stores)).unwrap();
        let kernel = allowed && bulk && SPLICE;
        assert_eq!((matches!(conduit, Conduit::Kernel(_)), matches!(conduit, Conduit::Memory(_))), (kernel, !kernel));
    }
}

#[test]
fn spliced_bytes_arrive_both_ways() {
    bytes_arrive_both_ways(&Via::Splice);
}

#[test]
fn copied_bytes_arrive_both_ways() {
    bytes_arrive_both_ways(&Via::Copy);
}

#[test]
fn bytes_through_tls_arrive_both_ways() {
    bytes_arrive_both_ways(&Via::Tls);
}

#[test]
fn bytes_through_websockets_arrive_both_ways() {
    bytes_arrive_both_ways(&Via::Ws);
    bytes_arrive_both_ways(&Via::Wss);
}

fn bytes_arrive_both_ways(via: &Via) {
    let (user, target, relays) = world(via, false);
    let sent = flow(0, MUCH);
    thread::scope(|scope| {
        for end in [&user, &target] {
            scope.spawn(|| speak(end, &sent));
            scope.spawn(|| assert!(heard(end) == sent, "{via:?}: the bytes are others"));
        }
    });
    over(via, relays);
}

#[test]
fn an_end_travels_alone_and_the_answer_comes_back() {
    for via in &VIAS {
        let (user, target, relays) = world(via, false);
        ask_and_answer(via, &user, &target);
        over(via, relays);
    }
}

#[test]
fn a_target_may_end_first() {
    for via in &VIAS {
        let (user, target, relays) = world(via, false);
        ask_and_answer(via, &target, &user);
        over(via, relays);
    }
}

/// One side asks, ends and listens; the other answers only when it has heard the end.
fn ask_and_answer(via: &Via, one: &TcpStream, other: &TcpStream) {
    let answer = flow(0, 1 << 20);
    speak(one, b"question");
    thread::scope(|scope| {
        scope.spawn(|| {
            assert_eq!(heard(other), b"question", "{via:?}");
            speak(other, &answer);
        });
        assert!(heard(one) == answer, "{via:?}: the answer is another one");
    });
}

#[test]
fn an_end_without_a_byte_travels_too() {
    for via in &VIAS {
        let (user, target, relays) = world(via, false);
        user.shutdown(Shutdown::Write).unwrap();
        assert_eq!(heard(&target), b"", "{via:?}");
        target.shutdown(Shutdown::Write).unwrap();
        assert_eq!(heard(&user), b"", "{via:?}");
        over(via, relays);
    }
}

#[test]
fn a_slow_reader_slows_the_sender_and_loses_nothing() {
    for via in &VIAS {
        let (user, target, relays) = world(via, true);
        let (sent, said) = (flow(0, MUCH), AtomicUsize::new(0));
        thread::scope(|scope| {
            scope.spawn(|| {
                for part in sent.chunks(4096) {
                    (&user).write_all(part).unwrap();
                    said.fetch_add(part.len(), Ordering::SeqCst);
                }
                user.shutdown(Shutdown::Write).unwrap();
            });
            // No end reads: the sender comes to a stop.
            let mut before = usize::MAX;
            while before != said.load(Ordering::SeqCst) || before == 0 {
                before = said.load(Ordering::SeqCst);
                thread::sleep(Duration::from_millis(50));
            }
            assert!(before < MAX_WAITING, "{via:?}: {before} bytes went to a peer that does not read");

            let (mut part, mut at) = ([0; 4096], 0);
            loop {
                let count = (&target).read(&mut part).unwrap();
                assert!(part[..count] == sent[at..at + count], "{via:?}: the bytes are others");
                at += count;
                let waiting = said.load(Ordering::SeqCst).saturating_sub(at);
                assert!(waiting < MAX_WAITING, "{via:?}: {waiting} bytes are on their via");
                if count == 0 {
                    break;
                }
            }
            assert_eq!(at, MUCH, "{via:?}");
        });
        target.shutdown(Shutdown::Write).unwrap();
        over(via, relays);
    }
}

#[test]
fn a_reset_ends_the_relay_with_an_error() {
    for via in &VIAS {
        let (user, target, mut relays) = world(via, false);
        speak_on(&user, b"hello");
        (&target).read_exact(&mut [0; 5]).unwrap();
        SockRef::from(&user).set_linger(Some(Duration::ZERO)).unwrap();
        drop(user);
        let first = relays.remove(0).join().unwrap();
        assert_eq!(first.unwrap_err().kind(), ErrorKind::ConnectionReset, "{via:?}");
        drop(target);
        for relay in relays {
            assert!(relay.join().unwrap().is_err(), "{via:?}: a session that was cut off");
        }
    }
}

// ---- the world ------------------------------------------------------------------------------------------------------

/// How bytes pass.
#[derive(Debug)]
enum Via {
    Splice,
    Copy,
    Tls,
    Ws,
    Wss,
}

const VIAS: [Via; 5] = [Via::Splice, Via::Copy, Via::Tls, Via::Ws, Via::Wss];

type Relays = Vec<JoinHandle<io::Result<()>>>;

/// A user, a target, and relays between them, each on a thread of its own.
fn world(via: &Via, small: bool) -> (TcpStream, TcpStream, Relays) {
    let ((user, a), (b, target)) = (pair(small), pair(small));
    for end in [&user, &target] {
        end.set_read_timeout(Some(GRACE)).unwrap();
        end.set_write_timeout(Some(GRACE)).unwrap();
    }
    let (a, b) = (Own::Tcp(nonblocking(a)), Own::Tcp(nonblocking(b)));
    let spawn = |a, b, splice, end| thread::spawn(move || relay(a, b, splice, end));
    let through =
        |a, near, far, b, end: [Option<End>; 2]| vec![spawn(a, near, true, end[0]), spawn(far, b, true, end[1])];
    let sockets = [Some(End::Client), Some(End::Server)];
    let relays = match via {
        Via::Splice => vec![spawn(a, b, true, None)],
        Via::Copy => vec![spawn(a, b, false, None)],
        Via::Ws => {
            let (near, far) = pair(small);
            through(a, Own::Tcp(nonblocking(near)), Own::Tcp(nonblocking(far)), b, sockets)
        }
        Via::Tls | Via::Wss => {
            let (near, far) = pair(small);
            let (config, name) =
                (certs::client(Trust::ANY, certs::Alpn::Raw).unwrap(), certs::server_name("127.0.0.1").unwrap());
            let near = Tls::connect(nonblocking(near), config, name, &Budget::PLENTY).unwrap();
            let far = Tls::accept(nonblocking(far), identity(POOL).config, &Budget::PLENTY).unwrap();
            let end = if matches!(via, Via::Wss) { sockets } else { [None, None] };
            through(a, Own::Tls(Box::new(near)), Own::Tls(Box::new(far)), b, end)
        }
    };
    (user, target, relays)
}

/// What a worker does with two legs: handshakes first, and never again; then both directions at every edge.
///
/// The client's end of a WebSocket is its far leg, the server's end its near one.
fn relay(mut a: Own, mut b: Own, splice: bool, end: Option<End>) -> io::Result<()> {
    let mut poll = Poll::new()?;
    a.register(&crate::support::registry(&poll), Token(0))?;
    b.register(&crate::support::registry(&poll), Token(1))?;
    while !(established(&mut a)? && established(&mut b)?) {
        listen(&mut poll, [&mut a, &mut b], GRACE)?;
    }
    match end {
        Some(End::Client) => b = Ws::over(b.into_lower()?, End::Client, true, b"")?.into(),
        Some(End::Server) => a = Ws::over(a.into_lower()?, End::Server, true, b"")?.into(),
        None => {}
    }
    let (mut forth, mut back, mut stores) = (Half::default(), Half::default(), Stores::new(SIZE, splice));
    loop {
        let there = forth.pump(a.stream(), b.stream(), BUDGET, &mut stores)?;
        let here = back.pump(b.stream(), a.stream(), BUDGET, &mut stores)?;
        if forth.is_closed() && back.is_closed() {
            return Ok(());
        }
        let timeout = if there.again || here.again { Duration::ZERO } else { GRACE };
        listen(&mut poll, [&mut a, &mut b], timeout)?;
    }
}

/// Waits for edges and notes them. With timeout, there have to be some.
fn listen(poll: &mut Poll, legs: [&mut Own; 2], timeout: Duration) -> io::Result<()> {
    let mut events = Events::with_capacity(16);
    while let Err(error) = poll.poll(&mut events, Some(timeout)) {
        if error.kind() != ErrorKind::Interrupted {
            return Err(error);
        }
    }
    if events.is_empty() && !timeout.is_zero() {
        return Err(io::Error::new(ErrorKind::TimedOut, "it hangs"));
    }
    for event in &events {
        legs[event.token().0].note(event);
    }
    Ok(())
}

fn established(leg: &mut Own) -> io::Result<bool> {
    match leg {
        Own::Tls(tls) => Ok(ready(tls.handshake())?.is_some()),
        _ => Ok(true),
    }
}

fn over(via: &Via, relays: Relays) {
    for relay in relays {
        assert!(matches!(relay.join(), Ok(Ok(()))), "{via:?}: it did not end as it should");
    }
}

fn speak_on(mut end: &TcpStream, bytes: &[u8]) {
    end.write_all(bytes).unwrap();
}

fn speak(end: &TcpStream, bytes: &[u8]) {
    speak_on(end, bytes);
    end.shutdown(Shutdown::Write).unwrap();
}

fn heard(mut end: &TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    end.read_to_end(&mut bytes).unwrap();
    bytes
}

/// Bytes sent in each direction.
const MUCH: usize = 16 * 1024 * 1024;
/// What all buffers between a sender and a reader hold at most, by far.
const MAX_WAITING: usize = 4 * 1024 * 1024;
/// The relay's buffers, in bytes.
const SIZE: usize = 16 * 1024;
/// A small budget, so that it runs out often.
const BUDGET: usize = 64 * 1024;
