//! QUIC with an implementation that shares no line with ours: aioquic, where Python has it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nodepass::net::mux::{Mux, StreamNo};
use nodepass::net::stream::ready;

use super::pair::*;
use crate::support::{python, start_child};

/// The other implementation; `None` where there is none, and the test is skipped.
fn peer(arguments: &[&str]) -> Option<Peer> {
    let python = python("aioquic")?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/library/quic/interop.py");
    let mut peer = Command::new(python);
    peer.arg(script).args(arguments).stdout(Stdio::piped());
    Some(Peer(start_child(peer).unwrap()))
}

struct Peer(Child);

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn our_client_speaks_with_another_server() {
    let Some(mut peer) = peer(&["server"]) else { return };
    let mut line = String::new();
    BufReader::new(peer.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let at = std::net::SocketAddr::new(HOME, line.trim().parse().unwrap());
    let mut client = client(at, &any_server(), &settings(), &mut Default::default());
    let deadline = Instant::now() + GRACE;
    let data = flow(0, 200_000);
    let mut streams: Vec<(StreamNo, usize, Vec<u8>, bool)> = Vec::new();
    let said = [&[0], &data[..]].concat();
    loop {
        client.turn(Duration::from_millis(20));
        assert!(client.over.is_none() && Instant::now() < deadline, "{:?}", client.over);
        if streams.is_empty() && client.mux.is_up() {
            streams = (0..20).map(|_| (client.mux.open().unwrap(), 0, Vec::new(), false)).collect();
            assert!(client.mux.peer_fingerprint().is_some());
        }
        for (stream, sent, came, over) in &mut streams {
            if *sent < said.len() {
                *sent += client.write(*stream, &said[*sent..]).unwrap();
                if *sent == said.len() {
                    while ready(client.mux.finish(*stream)).unwrap().is_none() {
                        client.turn(Duration::from_millis(1));
                    }
                }
            }
            *over = *over || client.read(*stream, came).unwrap();
        }
        if !streams.is_empty() && streams.iter().all(|(.., over)| *over) {
            break assert!(streams.iter().all(|(_, _, came, _)| *came == data));
        }
    }
}

#[test]
fn our_server_speaks_with_another_client() {
    let mut server = server(&settings(), &identity());
    let port = server.mux.local().next().unwrap().port().to_string();
    let Some(mut peer) = peer(&["client", &port]) else { return };
    let deadline = Instant::now() + GRACE;
    let mut streams: Vec<(StreamNo, Vec<u8>, usize, bool)> = Vec::new();
    let status = loop {
        server.turn(Duration::from_millis(20));
        assert!(Instant::now() < deadline);
        streams.extend(std::iter::from_fn(|| server.mux.accept()).map(|(stream, _)| (stream, Vec::new(), 1, false)));
        streams.retain_mut(|(stream, came, sent, over)| {
            let Ok(ended) = server.read(*stream, came) else {
                server.mux.release(*stream);
                return false;
            };
            *over = *over || ended;
            if *sent < came.len() {
                *sent += server.write(*stream, &came[*sent..]).unwrap_or(0);
            }
            let done = *over && *sent >= came.len();
            if done {
                let _ = server.mux.finish(*stream);
                server.mux.release(*stream);
            }
            !done
        });
        if let Some(status) = peer.0.try_wait().unwrap() {
            break status;
        }
    };
    assert!(status.success(), "the other client failed");
}
