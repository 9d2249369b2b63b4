//! Attacks on a tunnel without its key. Each attacker knows what its place lets it see, and no more. Each attack succeeds against
//! the handshake of NodePass 1.14 (`auth=0`), and comes to nothing against the authenticated one (`auth=2`).
//!
//! | module | the attacker |
//! | --- | --- |
//! | here | listens on the path, where pool connections have no TLS, and repeats or adds what it likes |
//! | `impostor` | is at the server's address |
//! | `downgrade` | is on the path, and changes the terms |
//! | `middle` | is on the path, and ends TLS with a certificate of its own |

mod downgrade;
mod impostor;
mod middle;
mod spy;

use crate::support::*;
use nodepass::logic::wire::{encode, Id, Signal, CONTROL};
use spy::Spy;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The key. The attackers do not have it.
const KEY: &str = "a-test-key-of-16";

/// A tunnel with an attacker on its path.
struct Scene {
    target: Target,
    user: SocketAddr,
    server_at: SocketAddr,
    server: Process,
    client: Process,
    spy: Spy,
}

impl Scene {
    /// Users come in at the server, pool connections have no TLS.
    fn new(auth: u8) -> Scene {
        let (target, user, server_at) = (Target::echo(), free_addr(), free_addr());
        let url = format!("server://{KEY}@{server_at}/{user}?mode=1&max=32&auth={auth}&log=debug");
        let server = Process::nodepass(&url);
        server.says("Waiting for a client", GRACE);
        let spy = Spy::before(server_at);
        let url = format!("client://{KEY}@{}/{}?mode=2&min=4&auth={auth}&log=debug", spy.at, target.addr());
        let client = Process::nodepass(&url);
        // Only then: a user who comes before it waits, and may be served while the next one has been.
        client.says(" is up: users", GRACE);
        until("a user", GRACE, || exchange(user, b"hello"));
        Scene { target, user, server_at, server, client, spy }
    }

    /// So many control connections say so.
    fn tunnels(&self) -> usize {
        self.server.count(" is up: users")
    }
}

#[test]
fn who_listens_finds_the_key_of_the_originals_handshake_and_none_of_the_authenticated_one() {
    let original = Scene::new(0);
    assert_eq!(until("the key", GRACE, || original.spy.key().ok_or("not found")), KEY);

    let scene = Scene::new(2);
    for n in 0..20 {
        echoed(scene.user, &noise(n, 1000));
    }
    scene.client.reports(3);
    assert_eq!(scene.spy.key(), None);
    for told in scene.spy.heard() {
        for bytes in [told.to_server, told.to_client] {
            let text = String::from_utf8_lossy(&bytes);
            let secrets = ["Authorization", "Bearer", "flow", "udp-frame", "action", KEY];
            secrets.iter().for_each(|secret| assert!(!text.contains(secret), "{secret}: {text}"));
        }
    }
}

#[test]
fn a_recorded_handshake_takes_an_originals_tunnel_and_its_users_and_none_of_an_authenticated_one() {
    let scene = Scene::new(0);
    let users = thief(&scene);
    assert!(users > 0, "the recording is good for a place in the pool, and for users");
    assert!(scene.tunnels() > 1, "the thief is a client as good as any: {:?}", scene.server.lines());

    let scene = Scene::new(2);
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

/// Repeats all that the client said, connection by connection, and takes what comes: how many of a dozen users it gets.
fn thief(scene: &Scene) -> usize {
    let recorded: Vec<Vec<u8>> = scene.spy.heard().into_iter().map(|told| told.to_server).collect();
    let mut taken = Vec::new();
    for bytes in recorded.iter().filter(|bytes| bytes.starts_with(b"GET ") || bytes.first() == Some(&0x16)) {
        // The answer is read to its end: the pool connections that follow are those of the tunnel that it begins.
        let mut stream = connect(scene.server_at);
        stream.set_read_timeout(Some(MOMENT)).expect("a timeout");
        stream.write_all(bytes).expect("a handshake");
        let _ = stream.read_to_end(&mut Vec::new());
    }
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
    let thiefs = |stream: &TcpStream| {
        let mut bytes = [0; 64];
        let mut heard = Vec::new();
        while let Ok(len @ 1..) = (&mut &*stream).read(&mut bytes) {
            heard.extend_from_slice(&bytes[..len]);
        }
        heard.windows(SECRET.len()).any(|window| window == SECRET)
    };
    let count = taken.iter().filter(|stream| thiefs(stream)).count();
    if count == 0 {
        users.iter().for_each(|user| assert_eq!(take(user, SECRET.len()), SECRET, "the true client serves them"));
    }
    count
}

#[test]
fn a_line_that_is_added_sends_an_original_anywhere_and_ends_an_authenticated_tunnel() {
    let scene = Scene::new(0);
    let key = until("the key", GRACE, || scene.spy.key().ok_or("not found"));
    let before = scene.target.accepted();
    // A place of the pool that is free; which ones are is seen on the path.
    let ids = scene.spy.ids();
    let mut lines = Vec::new();
    let remote = || "192.0.2.1:1".to_owned();
    ids.iter().for_each(|id| encode(&Signal::Tcp { remote: remote(), id: *id }, key.as_bytes(), &mut lines));
    scene.spy.say_to_client(&lines);
    assert!(eventually(GRACE, || scene.target.accepted() > before), "it dials for the attacker");

    let scene = Scene::new(2);
    let line = scene.spy.last_line().expect("a line of the server's");
    let ids = scene.spy.ids();
    let mut lines = Vec::new();
    ids.iter().for_each(|id| encode(&Signal::Tcp { remote: remote(), id: *id }, KEY.as_bytes(), &mut lines));
    for bytes in [line, lines] {
        let (mark, up, before) = (scene.client.mark(), scene.tunnels(), scene.target.accepted());
        scene.spy.say_to_client(&bytes);
        scene.client.says_after(mark, "a third party has changed the control connection", GRACE);
        assert!(eventually(GRACE, || scene.tunnels() > up), "a new tunnel begins");
        assert_eq!(scene.target.accepted(), before, "no target was dialled");
        until("a user", GRACE, || exchange(scene.user, b"hello"));
    }
}

/// What users say.
const SECRET: &[u8] = b"a secret of a user";
/// So long an attacker waits for what comes.
const MOMENT: Duration = Duration::from_millis(700);
