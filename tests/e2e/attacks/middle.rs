//! An attacker between client and server, who shows the client a certificate of its own and speaks TLS to both. It passes on all
//! that it hears, and changes what names its certificate.

use super::frames::Frames;
use super::{KEY, SECRET};
use crate::support::*;
use mio::{Events, Poll, Token};
use nodepass::logic::wire::{decode, encode, Fingerprint, Signal};
use nodepass::net::budget::Budget;
use nodepass::net::certs::{client, server_name, Alpn, Audience, Certs, Identity, Origin, Trust, NOT_PINNED};
use nodepass::net::stream::{drain_all, ready, Buffer, Stream};
use nodepass::net::tcp::Tcp;
use nodepass::net::tls::Tls;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::spawn;
use std::time::Duration;

#[test]
fn an_original_pair_is_deceived_by_a_fingerprint_that_is_changed_on_the_path() {
    for (transport, flow) in tunnels() {
        let scene = Scene::new(transport, flow, 0, true);
        until("a user", GRACE, || exchange(scene.user, SECRET));
        let deceived = || scene.client.said("verified") || scene.server.said("verified");
        assert!(eventually(GRACE, deceived), "type={transport} {flow:?}");
        assert!(scene.middle.has_heard(SECRET), "and the attacker reads what the user says");
    }
}

#[test]
fn an_original_pair_notices_another_certificate_where_the_fingerprint_is_not_changed() {
    for (transport, flow) in tunnels() {
        let scene = Scene::new(transport, flow, 0, false);
        // The side that compares first ends it, and the other may see no more than that.
        let noticed = |process: &Process| process.said("ended: certificate fingerprint mismatch");
        assert!(eventually(GRACE, || noticed(&scene.client) || noticed(&scene.server)), "type={transport} {flow:?}");
        scene.serves_no_user();
    }
}

#[test]
fn an_authenticated_client_says_nothing_to_another_certificate() {
    for (transport, flow) in tunnels() {
        let scene = Scene::new(transport, flow, 2, true);
        scene.client.says(NOT_PINNED, GRACE);
        scene.serves_no_user();
        assert!(scene.middle.is_deaf(), "type={transport} {flow:?}: the attacker heard something of a pool connection");
    }
}

/// Those with TLS.
fn tunnels() -> impl Iterator<Item = (u8, Flow)> {
    let transports = kinds().into_iter().filter_map(|(transport, tls)| (tls == 1).then_some(transport));
    transports.flat_map(|transport| [(transport, Flow::Reverse), (transport, Flow::Forward)])
}

/// A tunnel with the attacker between its ends.
struct Scene {
    target: Target,
    user: SocketAddr,
    server: Process,
    client: Process,
    middle: Middle,
}

impl Scene {
    fn new(transport: u8, flow: Flow, auth: u8, rewrites: bool) -> Scene {
        let (target, user, tunnel) = (Target::echo(), free_addr(), free_addr());
        let (mode, at_server, at_client) = match flow {
            Flow::Forward => (2, target.addr(), user),
            _ => (1, user, target.addr()),
        };
        let url =
            format!("server://{KEY}@{tunnel}/{at_server}?mode={mode}&type={transport}&tls=1&auth={auth}&log=debug");
        let server = Process::nodepass(&url);
        server.says("Waiting for a client", GRACE);
        let middle = Middle::before(tunnel, transport, rewrites);
        let url = format!("client://{KEY}@{}/{at_client}?mode=2&min=4&auth={auth}&log=debug", middle.at);
        let environment = [("NP_POOL_GET_TIMEOUT", "1s"), ("NP_SERVICE_COOLDOWN", "2s")];
        let client = Process::nodepass_with(&[&url], &environment);
        Scene { target, user, server, client, middle }
    }

    fn serves_no_user(&self) {
        assert!(exchange(self.user, SECRET).is_err(), "no user is served");
        assert_eq!(self.target.accepted(), 0);
        assert!(!self.middle.has_heard(SECRET));
    }
}
/// The attacker.
struct Middle {
    /// Where clients find the server.
    at: SocketAddr,
    ear: Arc<Ear>,
}

/// What the attacker hears, inside TLS.
#[derive(Default)]
struct Ear {
    /// Whether it changes fingerprints.
    rewrites: bool,
    /// The pool's transport.
    transport: u8,
    /// All that clients said, and servers, connection by connection.
    heard: Mutex<Vec<Vec<u8>>>,
    /// The tunnel key, once it is known.
    key: Mutex<Option<Vec<u8>>>,
}

impl Middle {
    /// Before a server.
    fn before(server: SocketAddr, transport: u8, rewrites: bool) -> Middle {
        let at = free_addr();
        let speech = match transport {
            2 => Alpn::Http1,
            3 => Alpn::Http2,
            _ => Alpn::Raw,
        };
        let identity = Certs::new(Origin::Memory, Audience::Pool(speech)).expect("a certificate").current();
        let ear = Arc::new(Ear { rewrites, transport, ..Ear::default() });
        #[cfg(feature = "quic")]
        if transport == 1 {
            quic(at, server, &identity, ear.clone());
        }
        let listener = TcpListener::bind(at).expect("a listener");
        let ears = ear.clone();
        spawn(move || {
            for near in listener.incoming().flatten() {
                let (identity, ear) = (identity.clone(), ears.clone());
                spawn(move || carry(near, server, &identity, speech, &ear));
            }
        });
        Middle { at, ear }
    }

    fn has_heard(&self, text: &[u8]) -> bool {
        self.ear.heard.lock().unwrap().iter().any(|bytes| bytes.windows(text.len()).any(|window| window == text))
    }

    /// Whether it has heard handshakes at most.
    fn is_deaf(&self) -> bool {
        let handshake = |bytes: &Vec<u8>| {
            bytes.is_empty() || bytes.starts_with(b"GET / HTTP") || bytes.starts_with(b"HTTP/1.1 200")
        };
        self.ear.heard.lock().unwrap().iter().all(handshake)
    }
}

/// One direction of a connection that passes.
struct Pass {
    ear: Arc<Ear>,
    index: usize,
    buffer: Buffer,
    frames: Frames,
    ended: bool,
    closed: bool,
}

impl Pass {
    fn new(ear: &Arc<Ear>) -> Pass {
        let mut heard = ear.heard.lock().unwrap();
        heard.push(Vec::new());
        Pass {
            ear: ear.clone(),
            index: heard.len() - 1,
            buffer: Buffer::new(BUFFER),
            frames: Frames::of(ear.transport),
            ended: false,
            closed: false,
        }
    }

    /// Carries what there is. `fps`: the certificate that the listener believes in, and the one that it should.
    fn pump(
        &mut self,
        from: &mut dyn Stream,
        to: &mut dyn Stream,
        fps: (Fingerprint, Fingerprint),
    ) -> std::io::Result<()> {
        loop {
            if ready(drain_all(to, &mut self.buffer))?.is_none() {
                return Ok(());
            }
            ready(to.flush())?;
            if self.ended {
                self.closed = self.closed || ready(to.finish())?.is_some();
                return Ok(());
            }
            let mut piece = Buffer::new(BUFFER / 2);
            match ready(from.fill(&mut piece))? {
                None => return Ok(()),
                Some(0) => self.ended = true,
                Some(_) => {
                    let Pass { ear, index, frames, .. } = self;
                    let changed = frames.pass(piece.bytes(), |said| {
                        ear.heard.lock().unwrap()[*index].extend_from_slice(said);
                        ear.changed(said, fps)
                    });
                    self.buffer.append(&changed);
                }
            }
        }
    }
}

impl Ear {
    /// The same bytes, with another fingerprint if they are lines of a control connection that name one.
    fn changed(&self, bytes: &[u8], (old, new): (Fingerprint, Fingerprint)) -> Vec<u8> {
        if !self.rewrites || !bytes.ends_with(b"\n") || bytes.contains(&b' ') {
            return bytes.to_vec();
        }
        let mut changed = Vec::new();
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let text = &line[..line.len() - 1];
            let known = data_encoding::BASE64.decode(text).unwrap_or_default();
            let mut key = self.key.lock().unwrap();
            if known.len() == PING.len() && key.is_none() {
                // What a client says first is a known text, and longer than the key.
                let stream: Vec<u8> = known.iter().zip(PING).map(|(byte, text)| byte ^ text).collect();
                let found = (1..stream.len()).map(|period| &stream[..period]).find(|key| decode(text, key).is_ok());
                *key = found.map(<[u8]>::to_vec);
            }
            match key.as_deref().map(|key| (key, decode(text, key))) {
                Some((key, Ok(Signal::Verify { id, fp }))) if fp == old.to_string() => {
                    encode(&Signal::Verify { id, fp: new.to_string() }, key, &mut changed);
                }
                _ => changed.extend_from_slice(line),
            }
        }
        changed
    }
}

fn carry(
    near: TcpStream,
    server: SocketAddr,
    identity: &Identity,
    speech: Alpn,
    ear: &Arc<Ear>,
) -> std::io::Result<()> {
    let far = TcpStream::connect(server)?;
    let mut first = [0];
    if near.peek(&mut first)? == 1 && first[0] != 0x16 {
        // The original's handshake, which is plain: there is no certificate to change.
        let (mut up, mut to) = (near.try_clone()?, far.try_clone()?);
        spawn(move || std::io::copy(&mut up, &mut to).map(|_| to.shutdown(std::net::Shutdown::Write)));
        std::io::copy(&mut &far, &mut &near)?;
        return near.shutdown(std::net::Shutdown::Write);
    }
    let plain = |stream: TcpStream| {
        stream.set_nonblocking(true)?;
        Ok::<_, std::io::Error>(Tcp::new(mio::net::TcpStream::from_std(stream)))
    };
    let mut near = Tls::accept(plain(near)?, identity.config.clone(), &Budget::PLENTY)?;
    let (mut poll, mut events) = (Poll::new()?, Events::with_capacity(8));
    near.socket().register(&registry(&poll), Token(0))?;
    while ready(near.handshake())?.is_none() {
        let _ = poll.poll(&mut events, Some(TICK));
        events.iter().for_each(|event| near.socket().note(event));
    }
    // It asks the server for what the client asks for.
    let speech = if near.speaks_http1() { Alpn::Http1 } else { speech };
    let trusting = client(Trust::ANY, speech).expect("a configuration");
    let mut far = Tls::connect(plain(far)?, trusting, server_name("nodepass.invalid")?, &Budget::PLENTY)?;
    far.socket().register(&registry(&poll), Token(1))?;
    let (mut to_server, mut to_client) = (Pass::new(ear), Pass::new(ear));
    while !to_server.closed || !to_client.closed {
        let _ = poll.poll(&mut events, Some(TICK));
        for event in &events {
            match event.token() {
                Token(0) => near.socket().note(event),
                _ => far.socket().note(event),
            }
        }
        if ready(far.handshake())?.is_some() {
            let theirs = far.peer_fingerprint().expect("a certificate");
            to_server.pump(&mut near, &mut far, (identity.leaf, theirs))?;
            to_client.pump(&mut far, &mut near, (theirs, identity.leaf))?;
        }
    }
    Ok(())
}

/// The same with two QUIC connections.
#[cfg(feature = "quic")]
fn quic(at: SocketAddr, server: SocketAddr, identity: &Identity, ear: Arc<Ear>) {
    use nodepass::net::mux::{AllowedPeer, Mux, MuxStream, StreamNo};
    use nodepass::net::quic::{ClientTls, QuicClient, QuicServer, Settings, Tickets};
    use std::time::Instant;

    let settings =
        Settings { streams: 64, ..Settings::client(Duration::from_secs(1), GRACE, Duration::ZERO, Budget::PLENTY) };
    let mut near = QuicServer::bind(&[at.into()], identity, &settings, Instant::now()).expect("a port");
    near.allow(&[AllowedPeer { tunnel: 1, address: at.ip(), connections: 1 }], identity).expect("a certificate");
    let mut poll = Poll::new().expect("a poll");
    near.register(&registry(&poll), Token(0)).expect("a poll");
    let own = identity.leaf;
    spawn(move || {
        let trusting = ClientTls::new(Trust::ANY, "").expect("a configuration");
        let (mut far, mut waiting): (Option<QuicClient>, Vec<StreamNo>) = (None, Vec::new());
        let mut pairs: Vec<(StreamNo, StreamNo, Pass, Pass)> = Vec::new();
        let mut events = Events::with_capacity(8);
        loop {
            let _ = poll.poll(&mut events, Some(TICK));
            for event in &events {
                match (event.token(), &mut far) {
                    (Token(0), _) => near.note(event),
                    (_, Some(far)) => far.note(event),
                    _ => {}
                }
            }
            near.advance(Instant::now()).expect("the port");
            while let Some((stream, _)) = near.accept() {
                waiting.push(stream);
            }
            let Some(there) = &mut far else {
                if !waiting.is_empty() {
                    let made =
                        QuicClient::connect(server, &trusting, &settings, &mut Tickets::default(), Instant::now());
                    let mut made = made.expect("a socket");
                    made.register(&registry(&poll), Token(1)).expect("a poll");
                    far = Some(made);
                }
                continue;
            };
            if there.advance(Instant::now()).is_err() {
                return;
            }
            while there.is_up() && !waiting.is_empty() {
                let Ok(stream) = there.open() else { break };
                pairs.push((waiting.remove(0), stream, Pass::new(&ear), Pass::new(&ear)));
            }
            let theirs = there.peer_fingerprint();
            for (here, other, to_server, to_client) in &mut pairs {
                let Some(theirs) = theirs else { break };
                let mut here = MuxStream { mux: &mut near, stream: *here };
                let mut other = MuxStream { mux: &mut *there, stream: *other };
                let _ = to_server.pump(&mut here, &mut other, (own, theirs));
                let _ = to_client.pump(&mut other, &mut here, (theirs, own));
            }
            near.advance(Instant::now()).expect("the port");
            let _ = there.advance(Instant::now());
        }
    });
}

/// What a control connection says first.
const PING: &[u8] = br#"{"action":"ping"}"#;
const BUFFER: usize = 64 * 1024;
/// It looks again at least so often.
const TICK: Duration = Duration::from_millis(20);
