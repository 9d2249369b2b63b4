//! Somebody between client and server, who shows the client a certificate of his own and speaks TLS to both. He passes on all
//! that he hears, so nothing but the certificate gives him away.

use crate::support::*;
use mio::{Events, Poll, Token};
use nodepass::net::budget::Budget;
use nodepass::net::certs::{client, server_name, Alpn, Audience, Certs, Identity, Origin, Trust};
use nodepass::net::relay::Half;
use nodepass::net::stream::{ready, Stores};
use nodepass::net::tcp::Tcp;
use nodepass::net::tls::Tls;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::spawn;
use std::time::Duration;

#[test]
fn a_certificate_that_was_changed_on_the_way_ends_the_tunnel_before_anybody_is_served() {
    for (transport, tls) in kinds().into_iter().filter(|(_, tls)| *tls == 1) {
        for flow in [Flow::Reverse, Flow::Forward] {
            let (target, user, tunnel) = (Target::echo(), free_addr(), free_addr());
            let (mode, at_server, at_client) = match flow {
                Flow::Forward => (2, target.addr(), user),
                _ => (1, user, target.addr()),
            };
            let url = format!("server://key@{tunnel}/{at_server}?mode={mode}&type={transport}&tls={tls}&log=debug");
            let server = Process::nodepass(&url);
            server.says("Waiting for a client", GRACE);
            let middle = between(tunnel, transport);
            let url = format!("client://key@{middle}/{at_client}?mode=2&min=4&log=debug");
            let patient = [("NP_POOL_GET_TIMEOUT", "1s"), ("NP_SERVICE_COOLDOWN", "2s")];
            let client = Process::nodepass_with(&[&url], &patient);

            // Who compares first ends it, and the other may see no more than that.
            let noticed = |process: &Process| process.said("ended: certificate fingerprint mismatch");
            assert!(eventually(GRACE, || noticed(&client) || noticed(&server)), "type={transport} {flow:?}");
            assert!(exchange(user, b"a secret").is_err(), "nobody is served");
            assert_eq!(target.accepted(), 0);
        }
    }
}

/// Sits before a server; the address where clients meet him.
fn between(server: SocketAddr, transport: u8) -> SocketAddr {
    let at = free_addr();
    let speech = match transport {
        2 => Alpn::Http1,
        3 => Alpn::Http2,
        _ => Alpn::Raw,
    };
    let identity = Certs::new(Origin::Memory, Audience::Pool(speech)).expect("a certificate").current();
    #[cfg(feature = "quic")]
    if transport == 1 {
        quic(at, server, &identity);
    }
    let listener = TcpListener::bind(at).expect("a listener");
    spawn(move || {
        for near in listener.incoming().flatten() {
            let identity = identity.clone();
            spawn(move || carry(near, server, &identity, speech));
        }
    });
    at
}

fn carry(near: TcpStream, server: SocketAddr, identity: &Identity, speech: Alpn) -> std::io::Result<()> {
    let far = TcpStream::connect(server)?;
    let mut first = [0];
    if near.peek(&mut first)? == 1 && first[0] != 0x16 {
        // The handshake, which is plain: his own certificate is no use there.
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
    let trusting = client(Trust::Anyone, speech).expect("a configuration");
    let mut far = Tls::connect(plain(far)?, trusting, server_name("nodepass.invalid")?, &Budget::PLENTY)?;
    let (mut poll, mut events) = (Poll::new()?, Events::with_capacity(8));
    near.socket().register(poll.registry(), Token(0))?;
    far.socket().register(poll.registry(), Token(1))?;
    let (mut forth, mut back, mut stores) = (Half::default(), Half::default(), Stores::new(16 * 1024, false));
    while !forth.is_closed() || !back.is_closed() {
        let _ = poll.poll(&mut events, Some(TICK));
        for event in &events {
            match event.token() {
                Token(0) => near.socket().note(event),
                _ => far.socket().note(event),
            }
        }
        if ready(near.handshake())?.is_some() && ready(far.handshake())?.is_some() {
            forth.pump(&mut near, &mut far, BUDGET, &mut stores)?;
            back.pump(&mut far, &mut near, BUDGET, &mut stores)?;
        }
    }
    Ok(())
}

/// The same with two QUIC connections.
#[cfg(feature = "quic")]
fn quic(at: SocketAddr, server: SocketAddr, identity: &Identity) {
    use nodepass::net::mux::{AllowedPeer, Mux, MuxStream, StreamNo};
    use nodepass::net::quic::{ClientTls, QuicClient, QuicServer, Settings, Tickets};
    use std::time::Instant;

    let settings = Settings {
        report: Duration::from_secs(1),
        timeout: GRACE,
        round: Duration::ZERO,
        streams: 64,
        batched: true,
        resets: Default::default(),
        budget: Budget::PLENTY,
    };
    let mut near = QuicServer::bind(&[at.into()], identity, &settings, Instant::now()).expect("a port");
    near.allow(&[AllowedPeer { tunnel: 1, address: at.ip() }], identity).expect("a certificate");
    let mut poll = Poll::new().expect("a poll");
    near.register(poll.registry(), Token(0)).expect("a poll");
    spawn(move || {
        let anyone = ClientTls::new(Trust::Anyone, "").expect("a configuration");
        let (mut far, mut waiting): (Option<QuicClient>, Vec<StreamNo>) = (None, Vec::new());
        let mut pairs: Vec<(StreamNo, StreamNo, Half, Half)> = Vec::new();
        let (mut events, mut stores) = (Events::with_capacity(8), Stores::new(16 * 1024, false));
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
                    let made = QuicClient::connect(server, &anyone, &settings, &mut Tickets::default(), Instant::now());
                    let mut made = made.expect("a socket");
                    made.register(poll.registry(), Token(1)).expect("a poll");
                    far = Some(made);
                }
                continue;
            };
            if there.advance(Instant::now()).is_err() {
                return;
            }
            while there.is_up() && !waiting.is_empty() {
                let Ok(stream) = there.open() else { break };
                pairs.push((waiting.remove(0), stream, Half::default(), Half::default()));
            }
            for (here, other, forth, back) in &mut pairs {
                let mut here = MuxStream { mux: &mut near, stream: *here };
                let mut other = MuxStream { mux: &mut *there, stream: *other };
                let _ = forth.pump(&mut here, &mut other, BUDGET, &mut stores);
                let _ = back.pump(&mut other, &mut here, BUDGET, &mut stores);
            }
            near.advance(Instant::now()).expect("the port");
            let _ = there.advance(Instant::now());
        }
    });
}

const BUDGET: usize = 64 * 1024;
/// He looks again at least so often.
const TICK: Duration = Duration::from_millis(20);
