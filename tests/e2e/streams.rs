//! A server that allows few streams: users wait for one, and the log tells that from a dead server.
//!
//! The server is played by the test, over QUIC and HTTP/2. Its target is itself: what users say comes back.

use crate::support::*;
use mio::{Events, Poll, Token};
use nodepass::logic::wire::{decode, encode, Lines, Signal};
use nodepass::net::budget::Budget;
use nodepass::net::certs::{Alpn, Audience, Certs, Identity, Origin};
use nodepass::net::h2::{Limits, H2};
use nodepass::net::mux::{AllowedPeer, Mux, StreamNo};
use nodepass::net::quic::{QuicServer, Settings};
use nodepass::net::stream::{ready, Buffer};
use nodepass::net::tcp::Tcp;
use nodepass::net::tls::Tls;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::spawn;
use std::time::{Duration, Instant};

#[test]
fn a_user_for_whom_there_is_no_stream_waits_for_one_and_is_told_why_if_none_comes() {
    let Some(authority) = Authority::new("tunnel.test") else { return };
    std::thread::scope(|scope| {
        for transport in [1, 3] {
            let authority = &authority;
            scope.spawn(move || few_streams(transport, authority));
        }
    });
}

fn few_streams(transport: u8, authority: &Authority) {
    let server = Few::streams(transport, authority);
    let user = free_addr();
    let url = format!("client://{KEY}@{}/{user}?mode=2&min=1&auth=0&log=debug&sni=tunnel.test", server.at);
    let roots = authority.ca();
    let env = [("SSL_CERT_FILE", roots.as_str()), ("NP_POOL_GET_TIMEOUT", "4s"), ("NP_REPORT_INTERVAL", "2s")];
    let client = Process::nodepass_with(&[&url], &env);
    until("a user", GRACE, || exchange(user, b"hello"));
    let up = client.mark();

    let users: Vec<TcpStream> = (0..STREAMS - 1).map(|_| served(user)).collect();
    let late = connect(user);
    assert_eq!(rest(&late), b"", "there is no stream for him");
    let line = client.says_after(up, " closed after 4s", GRACE);
    assert!(line.contains("all streams that the server allows are in use"), "type={transport}: {line}");
    // Who still waits when another leaves is served.
    let patient = connect(user);
    put(&patient, b"?");
    let mut users = users.into_iter();
    drop(users.next());
    assert_eq!(take(&patient, 1), b"?");
    assert!(!client.said_after(up, "ended: "), "that is no failure: {:?}", client.lines());

    // A dead server is another matter.
    server.dead.store(true, Ordering::SeqCst);
    client.says_after(up, "ended: ", GRACE);
    let mark = client.mark();
    let late = connect(user);
    assert_eq!(rest(&late), b"");
    let line = client.says_after(mark, " closed after 4s", GRACE);
    assert!(!line.contains("streams"), "type={transport}: {line}");
}

/// A user who has his stream.
fn served(at: SocketAddr) -> TcpStream {
    let user = connect(at);
    put(&user, b"!");
    assert_eq!(take(&user, 1), b"!");
    user
}

/// A server that allows [`STREAMS`] streams.
struct Few {
    at: SocketAddr,
    /// From now on it says nothing.
    dead: Arc<AtomicBool>,
}

impl Few {
    fn streams(transport: u8, authority: &Authority) -> Few {
        let (at, dead) = (free_addr(), Arc::new(AtomicBool::new(false)));
        let speech = if transport == 3 { Alpn::Http2 } else { Alpn::Raw };
        let files =
            Origin::Files { crt: authority.path("server.pem").into(), key: authority.path("server.key").into() };
        let identity = Certs::new(files, Audience::Pool(speech)).expect("a certificate").current();
        if transport == 1 {
            // quiche allows twice as many as are asked for, so that there are as many at any time.
            let settings = Settings {
                streams: STREAMS as u64 / 2,
                ..Settings::client(REPORT, GRACE, Duration::ZERO, Budget::PLENTY)
            };
            let mut server = QuicServer::bind(&[at.into()], &identity, &settings, Instant::now()).expect("a port");
            server
                .allow(&[AllowedPeer { tunnel: 1, address: at.ip(), connections: 1 }], &identity)
                .expect("a certificate");
            let (dead, mut server) = (Arc::clone(&dead), server);
            spawn(move || {
                let poll = Poll::new().expect("a poll");
                server.register(&registry(&poll), Token(0)).expect("a poll");
                play(server, poll, &dead)
            });
        }
        let listener = TcpListener::bind(at).expect("a listener");
        let kept = Arc::clone(&dead);
        spawn(move || {
            for stream in listener.incoming().flatten() {
                let (identity, dead) = (identity.clone(), Arc::clone(&kept));
                if !dead.load(Ordering::SeqCst) {
                    spawn(move || answer(stream, transport, &identity, &dead));
                }
            }
        });
        Few { at, dead }
    }
}

/// The handshake, or a connection of many streams.
fn answer(mut stream: TcpStream, transport: u8, identity: &Identity, dead: &AtomicBool) -> std::io::Result<()> {
    let mut first = [0];
    stream.peek(&mut first)?;
    if first[0] == b'G' {
        let _ = stream.read(&mut [0; 1024])?;
        let terms = format!(r#"{{"flow":"+","max":64,"tls":"2","type":"{transport}"}}"#);
        let length = terms.len();
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{terms}")?;
        return stream.shutdown(Shutdown::Write);
    }
    let peer = stream.peer_addr()?;
    stream.set_nonblocking(true)?;
    let mut tls =
        Tls::accept(Tcp::new(mio::net::TcpStream::from_std(stream)), identity.config.clone(), &Budget::PLENTY)?;
    let (mut poll, mut events) = (Poll::new()?, Events::with_capacity(8));
    tls.socket().register(&registry(&poll), Token(0))?;
    while ready(tls.handshake())?.is_none() {
        let _ = poll.poll(&mut events, Some(TICK));
        events.iter().for_each(|event| tls.socket().note(event));
    }
    let server = H2::server(tls, peer, Limits::new(STREAMS as u32, REPORT, &Budget::PLENTY))?;
    play(server, poll, dead);
    Ok(())
}

/// A stream and what is to be said on it.
struct Flow {
    stream: StreamNo,
    say: Buffer,
    numbered: bool,
    ended: bool,
}

/// Numbers streams, answers pings on the first one, and says back what comes on the others.
fn play(mut server: impl Mux, mut poll: Poll, dead: &AtomicBool) {
    let (mut events, mut flows, mut number) = (Events::with_capacity(8), Vec::<Flow>::new(), 0_u32);
    let mut lines = Lines::default();
    while !dead.load(Ordering::SeqCst) {
        let _ = poll.poll(&mut events, Some(TICK));
        events.iter().for_each(|event| server.note(event));
        if server.advance(Instant::now()).is_err() {
            return;
        }
        while let Some((stream, _)) = server.accept() {
            flows.push(Flow { stream, say: Buffer::new(16384), numbered: false, ended: false });
        }
        for (at, flow) in flows.iter_mut().enumerate() {
            let _ = said(&mut server, flow, (at == 0).then_some(&mut lines), &mut number);
        }
        flows.retain(|flow| {
            if flow.ended {
                server.release(flow.stream);
            }
            !flow.ended
        });
        let _ = server.advance(Instant::now());
    }
}

fn said(server: &mut impl Mux, flow: &mut Flow, control: Option<&mut Lines>, number: &mut u32) -> std::io::Result<()> {
    let mut heard = Buffer::new(16384);
    while let Some(count) = ready(server.fill(flow.stream, &mut heard))? {
        if count == 0 {
            flow.ended = true;
            server.finish(flow.stream)?;
            break;
        }
    }
    if !flow.numbered && !heard.is_empty() {
        heard.consume(1);
        flow.say.append(&number.to_be_bytes());
        (flow.numbered, *number) = (true, *number + 1);
    }
    match control {
        Some(lines) => {
            lines.feed(heard.bytes());
            while let Some(line) = lines.next(|line| decode(line, KEY.as_bytes())) {
                if line == Ok(Signal::Ping) {
                    let mut pong = Vec::new();
                    encode(&Signal::Pong, KEY.as_bytes(), &mut pong);
                    flow.say.append(&pong);
                }
            }
        }
        None => drop(flow.say.append(heard.bytes())),
    }
    while !flow.say.is_empty() && ready(server.drain(flow.stream, &mut flow.say))?.is_some() {}
    Ok(())
}

const KEY: &str = "a-test-key";
/// Streams that the server allows at a time: one for control, the others for users.
const STREAMS: usize = 4;
/// It looks again at least so often.
const TICK: Duration = Duration::from_millis(20);
/// The report interval of both sides.
const REPORT: Duration = Duration::from_secs(2);
