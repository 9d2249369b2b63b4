//! Peers who know the key and lie: a client and a server that the test plays.

use super::peer::{encoded, handshake, hears, terms, FakeClient, FakeServer, Pooled, KEY};
use crate::support::*;
use nodepass::logic::wire::{Id, Lines, Signal, CONTROL};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

#[test]
fn a_client_that_says_nothing_and_reads_nothing_loses_the_tunnel() {
    let stage = Stage::reverse();
    let mut fake = FakeClient::join(stage.tunnel);
    let pool = fake.open_all(MAX);
    let users: Vec<TcpStream> = (0..50).map(|_| connect(stage.user)).collect();
    stage.server.says("ended: nothing heard", GRACE);
    assert!(fake.is_over());
    // A pause may be all it is: those who got one of its connections keep it until that ends. Those who wait are served by the next
    // client, or told in time.
    drop(pool);
    users.iter().for_each(|user| assert_eq!(rest(user), b""));
    drop(users);
    stage.is_served_by_an_honest_client();
}

#[test]
fn a_line_that_cannot_be_read_is_told_once_and_the_tunnel_stays() {
    let stage = Stage::reverse();
    let mut fake = FakeClient::join(stage.tunnel);
    for _ in 0..10 {
        assert!(fake.say_bytes(b"!!!\n"));
    }
    fake.say(&[Signal::Ping]);
    fake.hears(|signal| *signal == Signal::Pong);
    stage.server.says("on the control connection cannot be read: the line is not base64", GRACE);
    assert_eq!(stage.server.count("cannot be read"), 1);
}

#[test]
fn a_client_that_never_reads_what_it_asks_for_costs_a_bounded_amount() {
    let stage = Stage::with(Flow::Reverse, &[("NP_SEMAPHORE_LIMIT", "4096")]);
    let mut fake = FakeClient::join(stage.tunnel);
    let before = stage.server.own_memory_kb();
    let pings = encoded(&vec![Signal::Ping; 10_000]);
    let mut highest = 0;
    let rounds = (0..400).take_while(|_| {
        highest = highest.max(stage.server.own_memory_kb());
        fake.say_bytes(&pings)
    });
    let rounds = rounds.count();
    assert!(rounds < 400, "four million unread answers, and the tunnel still stands");
    stage.server.says("does not read", GRACE);
    assert!(highest < before + 8 * 1024, "{before} KiB before, {highest} at most");
    stage.is_served_by_an_honest_client();
}

#[test]
fn a_flood_of_signals_from_a_client_is_worked_off_and_costs_nothing_lasting() {
    for stage in [Stage::reverse(), Stage::forward()] {
        let mut fake = FakeClient::join(stage.tunnel);
        let Pooled { id: used, stream } = fake.open();
        let before = stage.server.own_memory_kb();
        for (name, signals) in floods(used) {
            let mark = stage.server.mark();
            // In portions, each with a ping whose answer is waited for: the peer does read, only too much is said.
            let portion = encoded(&signals).repeat(PORTION / signals.len());
            for _ in 0..FLOOD / PORTION {
                assert!(fake.say_bytes(&portion), "{name}: {:?}", stage.server.lines().last());
                let pings = if name == "pings" { PORTION } else { 0 };
                fake.say(&[Signal::Ping]);
                (0..=pings).for_each(|_| drop(fake.hears(|signal| *signal == Signal::Pong)));
            }
            let said = stage.server.mark() - mark;
            assert!(said < 1000, "{name}: {said} lines in the log: {:?}", stage.server.lines().last());
            let now = stage.server.own_memory_kb();
            assert!(now < before + 8 * 1024, "{name}: {before} KiB before, {now} now");
        }
        assert!(!stage.server.said("ended"), "it is odd, but no reason to end the tunnel");
        assert!(stage.target.accepted() <= 1, "one id, at most one target");
        // Its user outlives the tunnel, and leaves with its own connection.
        drop(stream);
        stage.is_served_by_an_honest_client();
    }
}

#[test]
fn lines_that_are_too_long_are_skipped_and_many_of_them_end_the_tunnel() {
    let stage = Stage::reverse();
    let mut fake = FakeClient::join(stage.tunnel);
    let before = stage.server.own_memory_kb();
    let long = [vec![b'A'; 1 << 20], b"\n".to_vec()].concat();
    for _ in 0..10 {
        assert!(fake.say_bytes(&long));
        fake.say(&[Signal::Ping]);
        fake.hears(|signal| *signal == Signal::Pong);
    }
    // One line that never ends.
    for _ in 0..16 {
        assert!(fake.say_bytes(&long[..1 << 20]));
    }
    fake.say_bytes(b"\n");
    fake.say(&[Signal::Ping]);
    fake.hears(|signal| *signal == Signal::Pong);
    assert!(stage.server.own_memory_kb() < before + 4096);
    while fake.say_bytes(b"this is not a signal\n") {}
    stage.server.says("cannot be read", GRACE);
    stage.is_served_by_an_honest_client();
}

#[test]
fn a_client_cannot_make_the_pool_larger_than_it_may_be() {
    let stage = Stage::reverse();
    let fake = FakeClient::join(stage.tunnel);
    let pool = fake.open_all(MAX);
    let surplus: Vec<TcpStream> = (0..200).map(|_| connect(stage.tunnel)).collect();
    surplus.iter().for_each(|stream| assert_eq!(rest(stream), b""));
    assert!(pool.iter().all(|pooled| pooled.id != CONTROL));
    let mut ids: Vec<Id> = pool.iter().map(|pooled| pooled.id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), MAX, "no id was given twice");
}

#[test]
fn an_id_opens_one_target_connection_however_often_it_is_named() {
    let stage = Stage::forward();
    let mut fake = FakeClient::join(stage.tunnel);
    let Pooled { id, stream } = fake.open();
    fake.say(&vec![launch(id); 100]);
    put(&stream, b"hello");
    assert_eq!(take(&stream, 5), b"hello");
    drop(stream);
    fake.say(&vec![launch(id); 100]);
    fake.say(&[Signal::Ping]);
    fake.hears(|signal| *signal == Signal::Pong);
    assert_eq!(stage.target.accepted(), 1);
    stage.is_served_by_an_honest_client();
}

#[test]
fn whatever_a_server_answers_the_client_tries_again() {
    let (target, user) = (Target::echo(), free_addr());
    let fake = FakeServer::new();
    let at = fake.addr();
    let url = format!("client://{KEY}@{at}/{}?log=debug&mode=2&min=8&auth=0", target.addr());
    let client = Process::nodepass_with(&[&url], &[("NP_HANDSHAKE_TIMEOUT", "3s")]);
    fake.answer(b"to get going");
    client.says("failed", GRACE);
    let before = client.own_memory_kb();
    let huge = "x".repeat(1 << 20);
    let answers: Vec<(&str, Vec<u8>)> = vec![
        ("garbage", noise(1, 500)),
        ("a megabyte of garbage", noise(2, 1 << 20)),
        ("a pool id", vec![1, 2, 3, 4]),
        ("nothing", Vec::new()),
        ("half an answer", terms("{}")[..30].to_vec()),
        ("no JSON", terms("hello")),
        ("an empty object", terms("{}")),
        ("an array", terms("[1,2,3]")),
        ("type=7", terms(r#"{"flow":"-","max":64,"tls":"0","type":"7"}"#)),
        ("tls=9", terms(r#"{"flow":"-","max":64,"tls":"9","type":"0"}"#)),
        ("flow=x", terms(r#"{"flow":"x","max":64,"tls":"0","type":"0"}"#)),
        ("no pool", terms(r#"{"flow":"-","max":0,"tls":"0","type":"0"}"#)),
        ("a negative pool", terms(r#"{"flow":"-","max":-5,"tls":"0","type":"0"}"#)),
        ("a huge field", terms(&format!(r#"{{"flow":"-","max":64,"tls":"0","type":"0","more":"{huge}"}}"#))),
        ("a deep nest", terms(&"[".repeat(10_000))),
        ("an endless head", [b"HTTP/1.1 200 OK\r\n".to_vec(), b"A: b\r\n".repeat(200_000)].concat()),
        ("a wrong length", b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n{}".to_vec()),
        ("500", b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n".to_vec()),
    ];
    for (what, answer) in &answers {
        let mark = client.mark();
        fake.answer(answer);
        let line = client.says_after(mark, "failed", GRACE);
        assert!(line.len() < 400, "{what}: {line}");
        assert!(line.chars().all(|c| !c.is_control()), "{what}: {line}");
        assert_eq!(client.ended(), None, "{what}");
    }
    let mark = client.mark();
    let silent = fake.asked();
    client.says_after(mark, "no answer within", GRACE);
    drop(silent);

    // Good terms and then no listener.
    let mark = client.mark();
    fake.shake_hands('-');
    let mute: Vec<TcpStream> = (0..8).map(|_| fake.accept()).collect();
    client.says_after(mark, "ended", GRACE);
    drop((mute, fake));
    let now = client.own_memory_kb();
    assert!(now < before + 4096, "{before} KiB before, {now} now");
    let _server = Process::nodepass(&format!("server://{KEY}@{at}/{user}?log=debug&mode=1&max=8"));
    until("a user", GRACE, || exchange(user, b"hello"));
    client.at_rest(POOL);
}

#[test]
fn an_id_that_a_server_gives_twice_counts_once() {
    let target = Target::echo();
    let fake = FakeServer::new();
    let client = fake_served(&fake, &target, '-');
    let mut control = fake.number(CONTROL);
    client.says("is up", GRACE);
    let id = Id([1, 2, 3, 4]);
    let again: Vec<TcpStream> = [CONTROL, CONTROL].map(|id| fake.number(id)).into();
    again.iter().for_each(|stream| assert_eq!(rest(stream), b"", "a second control connection is closed"));
    // They travel on connections of their own: whichever arrives first is the one.
    let mut same: Vec<TcpStream> = [id, id, id].map(|id| fake.number(id)).into();
    let closed = eventually(GRACE, || {
        same.retain(|stream| !is_closed(stream));
        same.len() <= 1
    });
    assert!(closed && same.len() == 1, "{} connections with one id are open", same.len());
    control.write_all(&encoded(&[launch(id)])).unwrap();
    put(&same[0], b"hello");
    assert_eq!(take(&same[0], 5), b"hello");
    assert_eq!(target.accepted(), 1);

    // A server that gives every connection the same id: the client neither spins nor fills its log.
    let stop = std::time::Instant::now() + Duration::from_secs(3);
    let mark = client.mark();
    while std::time::Instant::now() < stop {
        drop(fake.number(CONTROL));
        // A live control connection.
        control.write_all(&encoded(&[Signal::Ping])).unwrap();
    }
    let said = client.mark() - mark;
    assert!(said < 300, "{said} lines in three seconds: {:?}", client.lines().last());
}

#[test]
fn a_flood_of_signals_from_a_server_is_worked_off_and_costs_nothing_lasting() {
    for flow in ['-', '+'] {
        let target = Target::echo();
        let fake = FakeServer::new();
        let client = fake_served(&fake, &target, flow);
        let mut control = fake.number(CONTROL);
        let pool: Vec<TcpStream> = (1..=8).map(|n| fake.number(Id([9, 9, 9, n]))).collect();
        let mut lines = Lines::default();
        client.says("is up", GRACE);
        let before = client.own_memory_kb();
        for (name, signals) in floods(Id([9, 9, 9, 1])) {
            let mark = client.mark();
            let portion = encoded(&signals).repeat(PORTION / signals.len());
            for _ in 0..FLOOD / PORTION {
                control.write_all(&portion).unwrap();
                control.write_all(&encoded(&[Signal::Ping])).unwrap();
                let pings = if name == "pings" { PORTION } else { 0 };
                for _ in 0..=pings {
                    let heard = hears(&mut control, &mut lines, |signal| *signal == Signal::Pong);
                    assert!(heard.is_some(), "{name} ended the tunnel: {:?}", client.lines().last());
                }
            }
            let said = client.mark() - mark;
            assert!(said < 1000, "{name}: {said} lines in the log: {:?}", client.lines().last());
            let now = client.own_memory_kb();
            assert!(now < before + 8 * 1024, "{name}: {before} KiB before, {now} now");
        }
        assert!(target.accepted() <= 1);
        drop(pool);
    }
}

#[test]
fn a_peer_with_the_right_token_and_no_tunnel_manners_leaves_the_server_open_for_the_next() {
    let stage = Stage::reverse();
    for _ in 0..50 {
        // Shakes hands and never comes.
        assert!(handshake(stage.tunnel, KEY).starts_with("HTTP/1.1 200"));
    }
    for _ in 0..20 {
        // Comes, and goes at once.
        drop(FakeClient::join(stage.tunnel));
    }
    stage.is_served_by_an_honest_client();
}

/// A server, its target (or its client's), and where users go.
struct Stage {
    flow: Flow,
    server: Process,
    target: Target,
    tunnel: SocketAddr,
    user: SocketAddr,
}

impl Stage {
    fn reverse() -> Stage {
        Stage::new(Flow::Reverse)
    }

    fn forward() -> Stage {
        Stage::new(Flow::Forward)
    }

    fn new(flow: Flow) -> Stage {
        Stage::with(flow, &[])
    }

    fn with(flow: Flow, env: &[(&str, &str)]) -> Stage {
        let (target, tunnel, user) = (Target::echo(), free_addr(), free_addr());
        let (mode, path) = if flow == Flow::Reverse { (1, user) } else { (2, target.addr()) };
        let url = format!("server://{KEY}@{tunnel}/{path}?mode={mode}&max={MAX}");
        let server = Process::nodepass_with(&[&url], env);
        Stage { flow, server, target, tunnel, user }
    }

    /// Whatever happened, a client that does as it should takes over, users are served, and nothing is left behind.
    fn is_served_by_an_honest_client(&self) {
        let path = if self.flow == Flow::Reverse { self.target.addr() } else { self.user };
        let client = Process::nodepass(&format!("client://{KEY}@{}/{path}?log=debug&mode=2&min={MAX}", self.tunnel));
        until("a user", GRACE, || exchange(self.user, b"hello"));
        self.server.checkpoint(|now| now.tcps == 0 && now.pool == MAX as u64);
        // Its listeners, its wakers, the control connection and the pool.
        let most = MAX + 10;
        assert!(eventually(GRACE, || self.server.sockets() <= most), "{} sockets", self.server.sockets());
        drop(client);
    }
}

/// A client of a fake server that shook hands; its pool connections come next.
fn fake_served(fake: &FakeServer, target: &Target, flow: char) -> Process {
    let path = if flow == '-' { target.addr() } else { free_addr() };
    let url = format!("client://{KEY}@{}/{path}?mode=2&min=8&auth=0", fake.addr());
    // Long enough that no flush, which follows failures at the next report, comes in between.
    let client = Process::nodepass_with(&[&url], &[("NP_REPORT_INTERVAL", "5s")]);
    fake.shake_hands(flow);
    client
}

fn launch(id: Id) -> Signal {
    Signal::Tcp { remote: "203.0.113.9:51234".into(), id }
}

/// What a peer may say a hundred thousand times: each kind by itself. `used` is an id that exists.
fn floods(used: Id) -> Vec<(&'static str, Vec<Signal>)> {
    let remote = "203.0.113.9:5353".to_string();
    let ids = || (1..=1000_u32).map(|n| Id((0x8000_0000 + n).to_be_bytes()));
    let fp = "sha256:00".to_string();
    vec![
        ("pings", vec![Signal::Ping]),
        ("pongs", vec![Signal::Pong]),
        ("launches of ids that do not exist", ids().map(launch).collect()),
        ("sessions of ids that do not exist", ids().map(|id| Signal::Udp { remote: remote.clone(), id }).collect()),
        ("launches of one id", vec![launch(used)]),
        ("launches of the control connection", vec![launch(CONTROL)]),
        ("checks of ids that do not exist", ids().map(|id| Signal::Verify { id, fp: fp.clone() }).collect()),
        ("flushes", vec![Signal::Flush]),
    ]
}

/// How many signals make a flood, and how many are said at a time.
const FLOOD: usize = 100_000;
const PORTION: usize = 1000;
/// The pool's limit on the server.
const MAX: usize = 8;
