//! A worker on a virtual clock, with real sockets, and the hub's queues in the test's hands.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use mio::{Events, Poll, Token};

use super::*;
use crate::config::{parse, Command};
use crate::logic::slab::Slab;
use crate::net::budget::Budget;
use crate::net::inherited::Inherited;
use crate::net::tcp::SocketKeepalive;
use crate::run::channel::{channel, Waker};
use crate::run::policy::AcceptPolicy;
use crate::run::stats::Stats;
use crate::testing::epoch;

#[test]
fn a_peer_that_goes_on_after_its_answer_is_read_a_bounded_amount_in_a_turn_and_closed_when_its_time_is_up() {
    let mut rig = Rig::new();
    let (mut client, key) = rig.asking();
    rig.jobs.send(Job::Answer { key, bytes: b"HTTP/1.1 404 Not Found\r\n\r\n".to_vec() });
    rig.turn();
    let mut answer = [0; 26];
    client.read_exact(&mut answer).unwrap();
    // More than one turn may read, and all of it there before the turn.
    client.write_all(&[b'x'; 64 * 1024]).unwrap();
    rig.wait_for_edges();
    rig.go_on();
    assert!(rig.worker.is_busy(), "the rest is for a later turn");
    rig.now += TIMEOUT;
    rig.go_on();
    assert!(rig.worker.tasks.get(key).is_none(), "there is more to read, but its time is up");
}

#[test]
fn more_jobs_than_a_turn_takes_wait_for_the_next() {
    let mut rig = Rig::new();
    let key = Slab::default().insert(());
    (0..MAX_JOBS + 1).for_each(|_| rig.jobs.send(Job::Close(key)));
    rig.go_on();
    assert!(rig.worker.inbox.has_mail());
    rig.go_on();
    assert!(!rig.worker.inbox.has_mail());
}

/// A worker, and what the hub and the event loop are to it.
struct Rig {
    poll: Poll,
    worker: Worker,
    jobs: Sender<Job>,
    notices: Receiver<Notice>,
    now: Instant,
}

impl Rig {
    fn new() -> Rig {
        let poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), WAKER).unwrap());
        let ((jobs, inbox), (hub, notices)) = (channel(&waker), channel(&waker));
        let Ok(parsed) = parse(&["server://127.0.0.1:1/127.0.0.1:2".into()], &|_| None) else { panic!("no URL") };
        let Command::Run(config) = parsed.command else { panic!("no instance") };
        let shared = Arc::new(Shared {
            budget: Budget::PLENTY,
            keepalive: SocketKeepalive::after(GRACE),
            tunnel_keepalive: SocketKeepalive::after(GRACE),
            config: *config,
            stats: Stats::default(),
            untold: Default::default(),
            up: None,
            down: None,
            inherited: Inherited::default(),
            held: false,
        });
        let (registry, now) = (crate::testing::registry(&poll), epoch());
        let worker = Worker::new(0, inbox, hub, registry, shared, now);
        Rig { poll, worker, jobs, notices, now }
    }

    /// A client that has asked for the handshake, and the key of its task.
    fn asking(&mut self) -> (TcpStream, Key) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_read_timeout(Some(GRACE)).unwrap();
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let (socket, from): (TcpStream, SocketAddr) = listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        let policy = AcceptPolicy {
            handshake_tls: Arc::default(),
            tls: None,
            tls_handshake: false,
            lines: false,
            transport: crate::config::Transport::Tcp,
            streams: 1,
            trial: 1 << 16,
            quiet: true,
            tunnels: Vec::new(),
            timeout: TIMEOUT,
        };
        self.worker.context.shared.untold.fetch_add(1, Ordering::Relaxed);
        self.jobs.send(Job::Accept {
            socket: mio::net::TcpStream::from_std(socket),
            from,
            known: false,
            policy: policy.into(),
        });
        self.go_on();
        loop {
            match self.notices.next() {
                Some(Notice::Handshake { home, .. }) => return (client, home.key),
                Some(_) => panic!("another notice"),
                None => self.turn(),
            }
        }
    }

    /// What the event loop does: the edges of the next moment, then a turn.
    fn turn(&mut self) {
        if !self.worker.is_busy() && !self.worker.inbox.has_mail() {
            self.wait_for_edges();
        }
        self.go_on();
    }

    fn go_on(&mut self) {
        let later = self.worker.later();
        self.worker.hear(self.now);
        self.worker.turn(self.now);
        self.worker.say(later, self.now);
    }

    fn wait_for_edges(&mut self) {
        let mut events = Events::with_capacity(8);
        self.poll.poll(&mut events, Some(GRACE)).unwrap();
        assert!(!events.is_empty(), "no edge came");
        events.iter().filter(|event| event.token() != WAKER).for_each(|event| self.worker.note(event));
    }
}

/// The token of the waker.
const WAKER: Token = Token(usize::MAX);
/// What a peer at the tunnel's port has to say what it wants.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Far longer than anything here takes.
const GRACE: Duration = Duration::from_secs(20);
