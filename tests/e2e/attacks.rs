//! Attacks on a tunnel without its key. Each attacker knows what its place lets it see, and no more. Each attack succeeds against
//! the handshake of NodePass 1.14 (`auth=0`), and comes to nothing against the authenticated one (`auth=2`).
//!
//! | module | the attacker |
//! | --- | --- |
//! | here | listens on the path, and repeats or adds what it likes |
//! | `impostor` | is at the server's address |
//! | `downgrade` | is on the path, and changes the terms |
//! | `middle` | is on the path, and ends TLS with a certificate of its own |

mod downgrade;
mod frames;
mod impostor;
mod middle;
mod spy;

use crate::support::*;
use nodepass::logic::wire::{encode, Id, Signal, CONTROL};
use nodepass::net::certs::{client, server_name, Alpn, Trust};
use rustls::{ClientConnection, StreamOwned};
use spy::Spy;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// The key. The attackers do not have it.
const KEY: &str = "a-test-key-of-16";

/// A tunnel with an attacker on its path.
struct Scene {
    name: String,
    target: Target,
    user: SocketAddr,
    server_at: SocketAddr,
    server: Process,
    client: Process,
    spy: Spy,
}

impl Scene {
    /// Of that kind, with `auth` at both ends.
    fn new(cell: Cell, auth: u8, authority: &Authority) -> Scene {
        let Cell { flow, tls, transport } = cell;
        let (target, user, server_at) = (Target::echo(), free_addr(), free_addr());
        let (mode, at_server, at_client) = match flow {
            Flow::Forward => (2, target.addr(), user),
            _ => (1, user, target.addr()),
        };
        let files = if tls == 2 { authority.parameters() } else { String::new() };
        let url = format!(
            "server://{KEY}@{server_at}/{at_server}?mode={mode}&max=32&auth={auth}&tls={tls}&type={transport}&log=debug&{files}"
        );
        let server = Process::nodepass(&url);
        server.says("Waiting for a client", GRACE);
        let spy = Spy::before(server_at);
        let url = format!("client://{KEY}@{}/{at_client}?mode=2&min=4&auth={auth}&sni={NAME}&log=debug", spy.at);
        let client = Process::nodepass_with(&[&url], &[("SSL_CERT_FILE", &authority.ca())]);
        // Only then: a user who comes before it waits, and may be served while the next one has been.
        client.says(" is up: users", GRACE);
        until("a user", GRACE, || exchange(user, b"hello"));
        Scene { name: format!("{cell} auth={auth}"), target, user, server_at, server, client, spy }
    }

    /// So many control connections say so.
    fn tunnels(&self) -> usize {
        self.server.count(" is up: users")
    }
}

/// The tunnels with these `tls` and transports, in both flows.
fn cells(kinds: &[(u8, u8)]) -> impl Iterator<Item = Cell> + '_ {
    let built = |(tls, transport): &&(u8, u8)| crate::support::kinds().contains(&(*transport, (*tls).min(1)));
    let kinds = kinds.iter().filter(built).copied();
    kinds.flat_map(|(tls, transport)| [Flow::Reverse, Flow::Forward].map(|flow| Cell { flow, tls, transport }))
}

#[test]
fn who_listens_finds_the_key_of_an_originals_handshake_in_the_clear_alone_and_reads_users_there_alone() {
    let Some(authority) = Authority::new(NAME) else { return };
    for cell in cells(&[(0, 0), (1, 0), (2, 0), (1, 2), (1, 3)]) {
        for auth in [0, 2] {
            let scene = Scene::new(cell, auth, &authority);
            let name = &scene.name;
            (0..20).for_each(|n| echoed(scene.user, &noise(n, 1000)));
            echoed(scene.user, SECRET);
            scene.client.reports(3);
            assert_eq!(scene.spy.has_heard(SECRET), cell.tls == 0, "{name}");
            if (cell.tls, auth) == (0, 0) {
                assert_eq!(until("the key", GRACE, || scene.spy.key().ok_or("not found")), KEY, "{name}");
                continue;
            }
            assert_eq!(scene.spy.key(), None, "{name}");
            // The original's handshake is in the clear, and its token is a hash of the key.
            let hidden = if auth == 0 {
                &["action", KEY][..]
            } else {
                &["Authorization", "Bearer", "flow", "udp-frame", "action", KEY]
            };
            for text in hidden {
                assert!(!scene.spy.has_heard(text.as_bytes()), "{name}: {text}");
            }
        }
    }
}

#[test]
fn a_recorded_handshake_takes_an_originals_tunnel_in_the_clear_and_none_of_an_authenticated_one() {
    let Some(authority) = Authority::new(NAME) else { return };
    for cell in cells(&[(0, 0)]) {
        let scene = Scene::new(cell, 0, &authority);
        // A connection of the client's own that comes in between can get what is meant for the thief, who then tries again.
        let users = (0..5).map(|_| thief(&scene)).find(|_| scene.tunnels() > 1);
        let users = users.unwrap_or_else(|| panic!("the thief is a client as good as any: {:?}", scene.server.lines()));
        assert!(
            users > 0 || cell.flow == Flow::Forward,
            "the recording is good for a place in the pool, and for users"
        );

        let scene = Scene::new(cell, 2, &authority);
        let user = connect(scene.user);
        put(&user, b"here");
        assert_eq!(take(&user, 4), b"here");
        for _ in 0..3 {
            assert_eq!(thief(&scene), 0);
        }
        put(&user, b"still here");
        assert_eq!(take(&user, 10), b"still here", "a user who was there before notices nothing");
        assert_eq!((scene.tunnels(), scene.server.count(" ended: ")), (1, 0), "{:?}", scene.server.lines());
    }
}

#[test]
fn behind_tls_a_recorded_handshake_is_served_nothing_and_a_place_in_an_originals_pool_is_the_client_s_address() {
    let Some(authority) = Authority::new(NAME) else { return };
    for cell in cells(&[(1, 0), (2, 0)]) {
        let scene = Scene::new(cell, 0, &authority);
        let name = &scene.name;
        // From elsewhere: a candidate that can say no line, as it has heard none.
        repeat(&scene, ELSEWHERE);
        let (places, users) = intrude(&scene, ELSEWHERE);
        assert!(places > 0, "{name}: it has a tunnel of its own, which is not known yet");
        // The end of its own is of no one's concern.
        assert_eq!((users, scene.tunnels(), scene.client.count(" ended: ")), (0, 1, 0), "{name}");
        // From the address of the client: a place among those of the client.
        let (places, users) = intrude(&scene, Ipv4Addr::LOCALHOST);
        assert!(places > 0 && (users > 0 || cell.flow == Flow::Forward), "{name}: {places} places, {users} users");

        let scene = Scene::new(cell, 2, &authority);
        let user = connect(scene.user);
        put(&user, b"here");
        assert_eq!(take(&user, 4), b"here");
        for from in [ELSEWHERE, Ipv4Addr::LOCALHOST] {
            repeat(&scene, from);
            assert_eq!(intrude(&scene, from), (0, 0), "{}", scene.name);
        }
        put(&user, b"still here");
        assert_eq!(take(&user, 10), b"still here", "a user who was there before notices nothing");
        assert_eq!((scene.tunnels(), scene.server.count(" ended: ")), (1, 0), "{:?}", scene.server.lines());
    }
}

/// Says again what the client said in connections that are no pool connections in the clear, from that address, and reads the answers to
/// their ends: the pool connections that follow are those of the tunnel that it begins.
fn repeat(scene: &Scene, from: Ipv4Addr) {
    let heard = scene.spy.heard().into_iter().map(|told| told.to_server);
    for bytes in heard.filter(|bytes| bytes.starts_with(b"GET ") || bytes.first() == Some(&0x16)) {
        let mut stream = connect_from(from, scene.server_at).expect("a server that listens");
        stream.set_read_timeout(Some(MOMENT)).expect("a timeout");
        // A TLS server may be through with it before all is said.
        let _ = stream.write_all(&bytes);
        let _ = stream.read_to_end(&mut Vec::new());
    }
}

/// Opens pool connections from that address, with TLS sessions of its own: how many ids it is given, and how many of a dozen users.
fn intrude(scene: &Scene, from: Ipv4Addr) -> (usize, usize) {
    let mut places = Vec::new();
    for _ in 0..PLACES {
        let socket = connect_from(from, scene.server_at).expect("a server that listens");
        socket.set_read_timeout(Some(MOMENT)).expect("a timeout");
        let config = client(Trust::ANY, Alpn::Raw).expect("a configuration");
        let tls = ClientConnection::new(config, server_name(NAME).expect("a name")).expect("TLS");
        let mut stream = StreamOwned::new(tls, socket);
        if stream.read_exact(&mut [0; 4]).is_ok() {
            places.push(stream);
        }
    }
    let users: Vec<TcpStream> = (0..12).map(|_| connect(scene.user)).collect();
    users.iter().for_each(|user| put(user, SECRET));
    let taken = places.iter_mut().filter_map(|stream| says(stream, SECRET).then_some(())).count();
    if taken == 0 {
        users.iter().for_each(|user| assert_eq!(take(user, SECRET.len()), SECRET, "the true client serves them"));
    }
    (places.len(), taken)
}

/// Whether these bytes come on the stream before it falls silent.
fn says(stream: &mut impl Read, wanted: &[u8]) -> bool {
    let (mut bytes, mut heard) = ([0; 64], Vec::new());
    while let Ok(len @ 1..) = stream.read(&mut bytes) {
        heard.extend_from_slice(&bytes[..len]);
    }
    heard.windows(wanted.len()).any(|window| window == wanted)
}

/// Repeats all that the client said, connection by connection, and takes what comes: how many of a dozen users it gets.
fn thief(scene: &Scene) -> usize {
    repeat(scene, Ipv4Addr::LOCALHOST);
    let recorded: Vec<Vec<u8>> = scene.spy.heard().into_iter().map(|told| told.to_server).collect();
    let mut taken = Vec::new();
    for _ in 0..2 {
        for bytes in recorded.iter().filter(|bytes| !bytes.starts_with(b"GET ") && bytes.first() != Some(&0x16)) {
            let mut stream = connect(scene.server_at);
            let opening = bytes.iter().take(29).take_while(|_| bytes[0] == 0).copied().collect::<Vec<u8>>();
            let _ = stream.write_all(&opening);
            stream.set_read_timeout(Some(MOMENT)).expect("a timeout");
            let mut id = [0; 4];
            if stream.read_exact(&mut id).is_ok() {
                if Id(id) == CONTROL {
                    // Every control connection begins with the same line.
                    let line = recorded.iter().find(|bytes| bytes.contains(&b'\n') && !bytes.starts_with(b"GET "));
                    let line = line.expect("a line").split_inclusive(|byte| *byte == b'\n').next();
                    stream.write_all(line.expect("a line")).expect("a server that listens");
                }
                taken.push(stream);
            }
        }
    }
    let users: Vec<TcpStream> = (0..12).map(|_| connect(scene.user)).collect();
    users.iter().for_each(|user| put(user, SECRET));
    let count = taken.iter_mut().filter_map(|stream| says(stream, SECRET).then_some(())).count();
    // Those of a client whose tunnel was taken wait for its next one.
    if count == 0 && scene.tunnels() == 1 {
        users.iter().for_each(|user| assert_eq!(take(user, SECRET.len()), SECRET, "the true client serves them"));
    }
    count
}

#[test]
fn a_line_that_is_added_sends_an_original_anywhere_and_ends_an_authenticated_tunnel() {
    let Some(authority) = Authority::new(NAME) else { return };
    for cell in cells(&[(0, 0)]) {
        // It is said to the side that dials.
        let dials = |scene: &Scene| if cell.flow == Flow::Forward { scene.server.mark() } else { scene.client.mark() };
        let hears = |scene: &Scene, bytes: &[u8]| match cell.flow {
            Flow::Forward => scene.spy.say_to_server(bytes),
            _ => scene.spy.say_to_client(bytes),
        };
        let scene = Scene::new(cell, 0, &authority);
        let key = until("the key", GRACE, || scene.spy.key().ok_or("not found"));
        let before = scene.target.accepted();
        // A place of the pool that is free; which ones are is seen on the path.
        hears(&scene, &launches(&scene, key.as_bytes()));
        assert!(eventually(GRACE, || scene.target.accepted() > before), "it dials for the attacker");

        let scene = Scene::new(cell, 2, &authority);
        let line = scene.spy.last_line(cell.flow == Flow::Forward).expect("a line");
        for bytes in [line, launches(&scene, KEY.as_bytes())] {
            let (mark, up, before) = (dials(&scene), scene.tunnels(), scene.target.accepted());
            hears(&scene, &bytes);
            let dialler = if cell.flow == Flow::Forward { &scene.server } else { &scene.client };
            dialler.says_after(mark, "a third party has changed the control connection", GRACE);
            assert!(eventually(GRACE, || scene.tunnels() > up), "a new tunnel begins");
            assert_eq!(scene.target.accepted(), before, "no target was dialled");
            until("a user", GRACE, || exchange(scene.user, b"hello"));
        }
    }
}

/// Lines that launch each pool connection which is seen on the path.
fn launches(scene: &Scene, key: &[u8]) -> Vec<u8> {
    let mut lines = Vec::new();
    for id in scene.spy.ids() {
        encode(&Signal::Tcp { remote: "192.0.2.1:1".into(), id }, key, &mut lines);
    }
    lines
}

#[test]
fn what_is_added_behind_tls_ends_a_connection_and_sends_nobody_anywhere() {
    let Some(authority) = Authority::new(NAME) else { return };
    for cell in cells(&[(1, 0), (2, 0)]) {
        for auth in [0, 2] {
            let scene = Scene::new(cell, auth, &authority);
            let before = scene.target.accepted();
            let mut line = Vec::new();
            encode(&Signal::Tcp { remote: "192.0.2.1:1".into(), id: Id([1; 4]) }, KEY.as_bytes(), &mut line);
            let marks = [&scene.server, &scene.client].map(|process| (process, process.mark()));
            scene.spy.say_to_all(&line);
            for (process, mark) in marks {
                process.says_after(mark, " ended: ", GRACE);
            }
            assert_eq!(scene.target.accepted(), before, "{}: no target was dialled", scene.name);
            until("a user", GRACE, || exchange(scene.user, b"hello"));
        }
    }
}

/// What certificates of the servers are for.
const NAME: &str = "tunnel.test";
/// Another address than the client's.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// Connections that an intruder opens.
const PLACES: usize = 12;
/// What users say.
const SECRET: &[u8] = b"a secret of a user";
/// So long an attacker waits for what comes.
const MOMENT: Duration = Duration::from_millis(700);
