//! Floods, measured: users served meanwhile, their waits, the server's memory, processor time and log. And what a handshake costs.
//! Not run by default: `scripts/floods.sh` runs each by name, for two binaries in turn, and makes the tables of docs/measurements.md.
//!
//! A flood comes from a hundred addresses of the server's own namespace: there `ip route add local` makes whole ranges this machine's.

use super::{Land, Space};
use crate::support::*;
use nodepass::net::certs::{client, server_name, Alpn, Trust};
use rustls::{ClientConnection, StreamOwned};
use socket2::{Domain, Socket, Type};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

#[test]
#[ignore = "a measurement"]
fn held_http2_connections() {
    let Some(land) = Land::new() else { return };
    let stage = Stage::tunnel(&land, "type=3&tls=1");
    stage.measure("1000 HTTP/2 connections held", |over| {
        let lost = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for thread in 0..FLOODERS {
                let (lost, server) = (&lost, &land.server);
                scope.spawn(move || server.enter(|| hold(thread, over, lost)));
            }
        });
        format!("{} were closed and made anew", lost.into_inner())
    });
}

/// Keeps a share of the connections open, and asks something on each once a second.
fn hold(thread: u32, over: &AtomicBool, lost: &AtomicUsize) {
    let mut held: Vec<Option<StreamOwned<ClientConnection, TcpStream>>> = Vec::new();
    held.resize_with(HELD / FLOODERS as usize, || None);
    while !over.load(Ordering::SeqCst) {
        let began = Instant::now();
        for (number, place) in held.iter_mut().enumerate() {
            let alive = place.as_mut().is_some_and(|one| one.write_all(PING).and_then(|()| one.flush()).is_ok());
            if !alive {
                lost.fetch_add(usize::from(place.is_some()), Ordering::SeqCst);
                *place = preface(source(thread * 1000 + number as u32)).ok();
            }
            if over.load(Ordering::SeqCst) {
                return;
            }
        }
        std::thread::sleep(Duration::from_secs(1).saturating_sub(began.elapsed()));
    }
}

/// An HTTP/2 connection that has said what every client says first.
fn preface(from: Ipv4Addr) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let config = client(Trust::ANY, Alpn::Http2).expect("a configuration");
    let name = server_name("a.example").expect("a name");
    let tls = ClientConnection::new(config, name).map_err(io::Error::other)?;
    let socket = connect_from(from, at(TUNNEL))?;
    socket.set_read_timeout(Some(PATIENT))?;
    socket.set_write_timeout(Some(PATIENT))?;
    let mut stream = StreamOwned::new(tls, socket);
    stream.write_all(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[0, 0, 0, 4, 0, 0, 0, 0, 0][..]].concat())?;
    stream.flush()?;
    Ok(stream)
}

#[test]
#[ignore = "a measurement"]
fn wrong_tokens() {
    let Some(land) = Land::new() else { return };
    let stage = Stage::tunnel(&land, "tls=1");
    stage.measure("100 000 wrong tokens", |_| {
        let (next, answered) = (AtomicU32::new(0), AtomicUsize::new(0));
        let began = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..FLOODERS {
                scope.spawn(|| land.server.enter(|| guess(&next, &answered)));
            }
        });
        format!("{} were answered, all of them took {:.0} s", answered.into_inner(), began.elapsed().as_secs_f64())
    });
}

/// Shows one wrong token after the other.
fn guess(next: &AtomicU32, answered: &AtomicUsize) {
    loop {
        let number = next.fetch_add(1, Ordering::SeqCst);
        if number >= TOKENS {
            return;
        }
        let attempt = || -> io::Result<usize> {
            let mut stream = connect_from(source(number), at(TUNNEL))?;
            stream.set_read_timeout(Some(PATIENT))?;
            let token = format!("GET / HTTP/1.1\r\nHost: none\r\nAuthorization: Bearer {number:064x}\r\n\r\n");
            stream.write_all(token.as_bytes())?;
            stream.read(&mut [0; 512])
        };
        answered.fetch_add(usize::from(attempt().is_ok_and(|len| len > 0)), Ordering::SeqCst);
    }
}

#[test]
#[ignore = "a measurement"]
fn forged_udp_sources() {
    let Some(land) = Land::new() else { return };
    let silent = land.server.enter(|| UdpSocket::bind(("127.0.0.1", TARGET)).expect("a target"));
    let stage = Stage::single(&land, "slot=1000");
    stage.measure("20 000 forged UDP sources in 7 s", |_| {
        let began = Instant::now();
        land.server.enter(|| {
            for number in 0..FORGED {
                let from = Ipv4Addr::from(u32::from(FIRST) + number);
                if let Ok(socket) = UdpSocket::bind((from, 0)) {
                    let _ = socket.send_to(b"forged", at(USERS));
                }
                let due = Duration::from_secs(7) * (number + 1) / FORGED;
                std::thread::sleep(due.saturating_sub(began.elapsed()));
            }
        });
        std::thread::sleep(AFTERWARDS);
        String::new()
    });
    drop(silent);
}

#[test]
#[ignore = "a measurement"]
fn connects_while_a_client_is_far_away() {
    let Some(land) = Land::new() else { return };
    land.path.delays(ROUND_TRIP / 2);
    let stage = Stage::server(&land, "tls=1");
    let (flood, count) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for thread in 0..FLOODERS {
            let (flood, count, land) = (&flood, &count, &land);
            scope.spawn(move || land.server.enter(|| connects(thread, flood, count)));
        }
        std::thread::sleep(Duration::from_secs(1));
        let began = Instant::now();
        let target = echo_target(&land.client);
        let url = format!("client://{KEY}@{}:{TUNNEL}/127.0.0.1:{TARGET}?mode=2&log=info", land.at(1));
        let client = land.client.nodepass_with(&url, "5s", &[]);
        let first = eventually(FIRST_USER, || land.server.enter(|| exchange(at(USERS), b"first").is_ok()));
        let up = if first { format!("{:.1} s", began.elapsed().as_secs_f64()) } else { "none".into() };
        let before = count.load(Ordering::SeqCst);
        let began = Instant::now();
        stage.measure("6000 connects/s, the client 300 ms away", |_| {
            std::thread::sleep(TIME);
            let rate = (count.load(Ordering::SeqCst) - before) as f64 / began.elapsed().as_secs_f64();
            format!("first user after {up}; {rate:.0} connects/s came about")
        });
        flood.store(true, Ordering::SeqCst);
        drop((client, target));
    });
}

/// Connects again and again, says nothing, and keeps each for a second.
fn connects(thread: u32, over: &AtomicBool, count: &AtomicUsize) {
    let mut kept: VecDeque<Socket> = VecDeque::new();
    let (began, each) = (Instant::now(), CONNECTS / FLOODERS);
    for number in 0.. {
        if over.load(Ordering::SeqCst) {
            return;
        }
        let begin = || -> io::Result<Socket> {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            socket.set_nonblocking(true)?;
            // Closed by a reset: no port of it is in use for a minute.
            socket.set_linger(Some(Duration::ZERO))?;
            socket.bind(&SocketAddr::from((source(thread * 1000 + number), 0)).into())?;
            match socket.connect(&at(TUNNEL).into()) {
                Err(why) if why.raw_os_error() != Some(libc::EINPROGRESS) => Err(why),
                _ => Ok(socket),
            }
        };
        if let Ok(socket) = begin() {
            kept.push_back(socket);
            count.fetch_add(1, Ordering::SeqCst);
        }
        if kept.len() > each as usize {
            kept.pop_front();
        }
        let due = Duration::from_secs(1) * (number + 1) / each;
        std::thread::sleep(due.saturating_sub(began.elapsed()));
    }
}

/// A row for each mode: processor time of both sides, round trips, and the time from the client's start to the first user's answer.
#[test]
#[ignore = "a measurement"]
fn handshakes() {
    let Some(authority) = Authority::new("tunnel.test") else { return };
    for auth in [0, 1, 2] {
        for tls in [0, 1, 2] {
            let files = if tls == 2 { format!("&{}", authority.parameters()) } else { String::new() };
            let query = format!("tls={tls}&auth={auth}&max=8{files}");
            let Some(near) = begun(&query, auth, 1, Duration::ZERO, &authority) else { return };
            let Some(far) = begun(&query, auth, 1, FAR, &authority) else { return };
            let trips = far.first.saturating_sub(near.first).as_secs_f64() / FAR.as_secs_f64();
            let ms = |time: Duration| time.as_secs_f64() * 1e3;
            println!(
                "HANDSHAKE|auth={auth}, tls={tls}|{:.1}|{:.1}|{:.1}|{trips:.1}|{:.0}",
                ms(near.server),
                ms(near.client),
                ms(near.first),
                ms(far.first)
            );
        }
    }
}

/// A row for each kind of pool, filled to 64: the least, the median and the most of three times from the client's start to the first user's answer.
#[test]
#[ignore = "a measurement"]
fn first_users() {
    let Some(authority) = Authority::new("tunnel.test") else { return };
    for (transport, tls) in kinds() {
        for round in [FAR / 4, FAR] {
            let query = format!("type={transport}&tls={tls}&max=64");
            let first = |_| begun(&query, 1, 64, round, &authority).map(|begun| begun.first.as_millis());
            let Some(mut times) = (0..3).map(first).collect::<Option<Vec<_>>>() else { return };
            times.sort_unstable();
            println!("FIRST|type={transport}, tls={tls}|{}|{times:?}", round.as_millis());
        }
    }
}

/// What it took from the client's start to the first user's answer.
struct Begun {
    server: Duration,
    client: Duration,
    first: Duration,
}

/// `None` where there are no namespaces.
fn begun(query: &str, auth: u8, min: usize, round: Duration, authority: &Authority) -> Option<Begun> {
    let land = Land::new()?;
    land.path.delays(round / 2);
    let stage = Stage::server(&land, query);
    let _target = echo_target(&land.client);
    let before = processor_time(&stage.process);
    let began = Instant::now();
    let url = format!(
        "client://{KEY}@{}:{TUNNEL}/127.0.0.1:{TARGET}?mode=2&min={min}&auth={auth}&sni=tunnel.test&log=info",
        land.at(1)
    );
    let client = land.client.nodepass_with(&url, "60s", &[("SSL_CERT_FILE", &authority.ca())]);
    land.server.enter(|| {
        let attempt = || exchange(at(USERS), b"first").is_ok();
        while !attempt() {
            assert!(began.elapsed() < GRACE, "no user is served");
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    let first = began.elapsed();
    Some(Begun {
        server: processor_time(&stage.process).saturating_sub(before),
        client: processor_time(&client),
        first,
    })
}

/// What is flooded, and where users go.
struct Stage<'a> {
    land: &'a Land,
    process: Process,
    _others: Vec<Process>,
}

impl<'a> Stage<'a> {
    fn start(land: &'a Land, url: &str) -> Stage<'a> {
        raise_limits(16_384);
        land.server.run("ip route add local 10.77.0.0/16 dev lo");
        let process = land.server.nodepass_with(url, "5s", &[]);
        Stage { land, process, _others: Vec::new() }
    }

    /// A server alone.
    fn server(land: &'a Land, query: &str) -> Stage<'a> {
        let url = format!("server://{KEY}@0.0.0.0:{TUNNEL}/0.0.0.0:{USERS}?mode=1&log=info&{query}");
        let stage = Stage::start(land, &url);
        stage.process.says("Waiting for a client", GRACE);
        stage
    }

    /// A server with a client and its target, all in one namespace.
    fn tunnel(land: &'a Land, query: &str) -> Stage<'a> {
        let mut stage = Stage::server(land, query);
        let _ = echo_target(&land.server);
        let url = format!("client://{KEY}@127.0.0.1:{TUNNEL}/127.0.0.1:{TARGET}?mode=2&log=info");
        stage._others.push(land.server.nodepass_with(&url, "5s", &[]));
        stage.is_up();
        stage
    }

    /// A forwarder alone.
    fn single(land: &'a Land, query: &str) -> Stage<'a> {
        let _ = echo_target(&land.server);
        let stage = Stage::start(land, &format!("client://0.0.0.0:{USERS}/127.0.0.1:{TARGET}?mode=1&log=info&{query}"));
        stage.is_up();
        stage
    }

    fn is_up(&self) {
        until("a user", GRACE, || self.land.server.enter(|| exchange(at(USERS), b"first")));
    }

    /// Users come one after the other while `flood` lasts, and a little longer; prints what became of them.
    fn measure(&self, name: &str, flood: impl FnOnce(&AtomicBool) -> String + Send) {
        let (over, flooded) = (AtomicBool::new(false), AtomicBool::new(false));
        let (memory, lines, time) = (self.process.own_memory_kb(), self.lines(), processor_time(&self.process));
        let peak = AtomicUsize::new(memory);
        let mut waits: Vec<Option<Duration>> = Vec::new();
        let mut note = String::new();
        std::thread::scope(|scope| {
            let user = || self.land.server.enter(|| visits(&over));
            let users: Vec<_> = (0..USERS_AT_ONCE).map(|_| scope.spawn(user)).collect();
            scope.spawn(|| {
                while !over.load(Ordering::SeqCst) {
                    peak.fetch_max(self.process.own_memory_kb(), Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(50));
                }
            });
            let flooding = scope.spawn(|| flood(&flooded));
            let began = Instant::now();
            while !flooding.is_finished() && began.elapsed() < LONGEST {
                flooded.fetch_or(began.elapsed() >= TIME, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(50));
            }
            note = flooding.join().expect("the flood");
            over.store(true, Ordering::SeqCst);
            waits = users.into_iter().flat_map(|user| user.join().expect("a user")).collect();
        });
        let mut served: Vec<Duration> = waits.iter().flatten().copied().collect();
        served.sort();
        let at = |share: f64| {
            served.get((served.len() as f64 * share) as usize).map_or(0.0, |wait| wait.as_secs_f64() * 1e3)
        };
        println!(
            "FLOOD|{name}|{}|{}|{:.1}|{:.1}|{:.1}|{:.1}|{:.1}|{}|{note}",
            served.len(),
            waits.len() - served.len(),
            at(0.5),
            at(0.99),
            memory as f64 / 1024.0,
            peak.into_inner() as f64 / 1024.0,
            processor_time(&self.process).saturating_sub(time).as_secs_f64(),
            self.lines() - lines,
        );
    }

    /// Lines of its log, figures left out.
    fn lines(&self) -> usize {
        self.process.lines().iter().filter(|line| !line.contains("  EVENT  ")).count()
    }
}

/// Connects, says something and hears it back, again and again; how long each took, if it was answered.
fn visits(over: &AtomicBool) -> Vec<Option<Duration>> {
    let mut waits = Vec::new();
    while !over.load(Ordering::SeqCst) {
        let began = Instant::now();
        let visit = || -> io::Result<()> {
            let mut stream = TcpStream::connect_timeout(&at(USERS), PATIENT)?;
            stream.set_read_timeout(Some(PATIENT))?;
            stream.write_all(&[7; REQUEST])?;
            stream.read_exact(&mut [0; REQUEST])
        };
        waits.push(visit().is_ok().then(|| began.elapsed()));
        std::thread::sleep(BETWEEN);
    }
    waits
}

/// A target that says what it hears, in that namespace, for as long as this process lives.
fn echo_target(space: &Space) -> SocketAddr {
    let target = space.enter(|| TcpListener::bind(("127.0.0.1", TARGET)).expect("a target"));
    std::thread::spawn(move || {
        for stream in target.incoming().flatten() {
            std::thread::spawn(|| echo(stream));
        }
    });
    at(TARGET)
}

/// Processor time of all threads that a process has.
fn processor_time(process: &Process) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", process.pid())).into_iter().flatten().flatten();
    let stats = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok());
    let nanos = stats.filter_map(|stat| stat.split_whitespace().next()?.parse::<u64>().ok());
    Duration::from_nanos(nanos.sum())
}

/// One of the hundred addresses.
fn source(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(FIRST) + number % SOURCES)
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

const KEY: &str = "a-key-of-some-length";
const TUNNEL: u16 = 7001;
const USERS: u16 = 7002;
const TARGET: u16 = 7000;
/// The first of the addresses that floods come from.
const FIRST: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const SOURCES: u32 = 100;
/// Threads that make a flood.
const FLOODERS: u32 = 4;
const HELD: usize = 1000;
const TOKENS: u32 = 100_000;
const FORGED: u32 = 20_000;
/// Connections a second.
const CONNECTS: u32 = 6000;
/// How long a flood lasts that has no end of its own, and what any may take.
const TIME: Duration = Duration::from_secs(20);
const LONGEST: Duration = Duration::from_secs(300);
/// Users go on so long after the forged datagrams.
const AFTERWARDS: Duration = Duration::from_secs(13);
/// The first user of a client far away is waited for no longer.
const FIRST_USER: Duration = Duration::from_secs(60);
const ROUND_TRIP: Duration = Duration::from_millis(300);
/// The round trip by which round trips are counted.
const FAR: Duration = Duration::from_millis(200);
const USERS_AT_ONCE: usize = 4;
/// A user's pause between two visits, and how long one may take.
const BETWEEN: Duration = Duration::from_millis(5);
const PATIENT: Duration = Duration::from_secs(5);
const REQUEST: usize = 50;
/// A frame of HTTP/2 that asks for an answer.
const PING: &[u8] = &[0, 0, 8, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
