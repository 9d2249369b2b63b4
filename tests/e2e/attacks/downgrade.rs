//! An attacker between client and server, who changes one word of the server's terms in passing: `tls=2` becomes `tls=0`. Then it speaks TLS with the
//! server, and in the clear with the client.

use super::{KEY, SECRET};
use crate::support::*;
use nodepass::net::certs::{client, server_name, Alpn, Trust};
use rustls::{ClientConnection, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::{sleep, spawn};
use std::time::Duration;

#[test]
fn terms_that_are_changed_on_the_path_take_an_original_into_the_clear_and_no_other() {
    let Some(authority) = Authority::new("tunnel.test") else { return };
    let scene = Scene::new(&authority, "auth=0");
    until("a user", GRACE, || exchange(scene.user, SECRET));
    assert!(scene.heard(SECRET), "the attacker reads what users say, though a CA has vouched for the server");

    let scene = Scene::new(&authority, "auth=0&tls=2");
    scene.client.says("the server offers tls=0, this client wants at least 2", GRACE);
    assert!(exchange(scene.user, SECRET).is_err() && !scene.heard(SECRET));

    let scene = Scene::new(&authority, "auth=2");
    until("a user", GRACE, || exchange(scene.user, SECRET));
    scene.client.says("tls=2", GRACE);
    assert!(!scene.heard(SECRET) && !scene.heard(br#""tls":"2""#), "no terms are seen, so none are changed");
}

/// A tunnel with the attacker between its ends.
struct Scene {
    user: SocketAddr,
    client: Process,
    _server: Process,
    _target: Target,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Scene {
    fn new(authority: &Authority, query: &str) -> Scene {
        let (target, user, at) = (Target::echo(), free_addr(), free_addr());
        let url = format!("server://{KEY}@{at}/{user}?mode=1&auth=1&tls=2&{}", authority.parameters());
        let server = Process::nodepass(&url);
        server.says("Waiting for a client", GRACE);
        let heard = Arc::default();
        let path = before(at, &heard);
        let url = format!("client://{KEY}@{path}/{}?mode=2&min=2&sni=tunnel.test&{query}", target.addr());
        let environment = [("SSL_CERT_FILE", authority.ca()), ("NP_POOL_GET_TIMEOUT", "1s".into())];
        let client =
            Process::nodepass_with(&[&url], &environment.each_ref().map(|(name, value)| (*name, value.as_str())));
        Scene { user, client, _server: server, _target: target, heard }
    }

    fn heard(&self, text: &[u8]) -> bool {
        self.heard.lock().unwrap().windows(text.len()).any(|window| window == text)
    }
}

/// The attacker, before that server: where it is. It writes down what it can read.
fn before(server: SocketAddr, heard: &Arc<Mutex<Vec<u8>>>) -> SocketAddr {
    let at = free_addr();
    let (listener, heard) = (TcpListener::bind(at).expect("a listener"), heard.clone());
    spawn(move || {
        for near in listener.incoming().flatten() {
            let heard = heard.clone();
            // Whatever goes wrong is the end of that connection alone.
            spawn(move || carry(near, server, &heard).ok());
        }
    });
    at
}

fn carry(near: TcpStream, server: SocketAddr, heard: &Mutex<Vec<u8>>) -> io::Result<()> {
    let far = TcpStream::connect(server)?;
    near.set_read_timeout(Some(SILENCE))?;
    let mut first = [0];
    match near.peek(&mut first) {
        Ok(1) if first == [b'G'] => change_terms(&near, &far, heard),
        Ok(1) if first == [0x16] => {
            near.set_read_timeout(None)?;
            let (mut from, mut to) = (near.try_clone()?, far.try_clone()?);
            spawn(move || io::copy(&mut from, &mut to).map(|_| to.shutdown(Shutdown::Write)));
            io::copy(&mut &far, &mut &near)?;
            near.shutdown(Shutdown::Write)
        }
        // A pool connection in the clear: its client says nothing at first.
        _ => unwrap(near, far, heard),
    }
}

/// The handshake of an original: its answer names TLS.
fn change_terms(mut near: &TcpStream, mut far: &TcpStream, heard: &Mutex<Vec<u8>>) -> io::Result<()> {
    let mut request = vec![0; 4096];
    let len = near.read(&mut request)?;
    far.write_all(&request[..len])?;
    let mut answer = Vec::new();
    far.read_to_end(&mut answer)?;
    heard.lock().unwrap().extend_from_slice(&answer);
    let answer = String::from_utf8_lossy(&answer).replace(r#""tls":"2""#, r#""tls":"0""#);
    near.write_all(answer.as_bytes())?;
    near.shutdown(Shutdown::Write)
}

/// In the clear with the client, TLS with the server.
fn unwrap(mut near: TcpStream, far: TcpStream, heard: &Mutex<Vec<u8>>) -> io::Result<()> {
    let config = client(Trust::ANY, Alpn::Raw).expect("a configuration");
    let mut tls = ClientConnection::new(config, server_name("tunnel.test")?).map_err(io::Error::other)?;
    let mut socket = far;
    while tls.is_handshaking() {
        tls.complete_io(&mut socket)?;
    }
    let mut far = StreamOwned::new(tls, socket);
    near.set_nonblocking(true)?;
    far.sock.set_nonblocking(true)?;
    loop {
        let quiet = pass(&mut near, &mut far, heard)? & pass(&mut far, &mut near, heard)?;
        if quiet {
            sleep(TICK);
        }
    }
}

/// Passes on what there is; whether there was nothing. The end of a direction ends all.
fn pass(from: &mut impl Read, to: &mut impl Write, heard: &Mutex<Vec<u8>>) -> io::Result<bool> {
    let mut bytes = [0; 4096];
    match from.read(&mut bytes) {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(len) => {
            heard.lock().unwrap().extend_from_slice(&bytes[..len]);
            to.write_all(&bytes[..len])?;
            to.flush().map(|()| false)
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(error) => Err(error),
    }
}

/// So long nothing is said on a pool connection in the clear.
const SILENCE: Duration = Duration::from_millis(50);
const TICK: Duration = Duration::from_millis(5);
