//! The figures of an instance for a monitoring system that asks (`metrics=host:port`): plain HTTP, three paths, nothing else.
//!
//! ```text
//!  /metrics   all figures, as Prometheus reads them
//!  /health    200: the process answers
//!  /ready     200 or 503: whether users can be served now
//! ```
//!
//! A few threads of its own accept and answer one connection each at a time, within a bounded number of bytes and reads. None of them
//! carries users.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use socket2::Type;

use super::hub::ingress::listeners::listening_addresses;
use super::process;
use super::shared::Shared;
use crate::config::Endpoint;
use crate::error::Error;
use crate::logic::http::end_of_head;
use crate::logic::metrics::exposition::{Exposition, CONTENT_TYPE};
use crate::logic::metrics::Figure;
use crate::net::listen_addr::ListenAddr;

/// Listens at `at`, and answers for as long as the process lives.
pub(super) fn serve(at: &Endpoint, shared: &Arc<Shared>) -> Result<Arc<TcpListener>, Error> {
    let wanted = listening_addresses(at)?;
    // Bound by the standard library, which has `[::]` for both families.
    let inherited = wanted.iter().find_map(|at| shared.inherited.take(ListenAddr { dual: true, ..*at }, Type::STREAM));
    let addresses: Vec<SocketAddr> = wanted.into_iter().map(|at| at.address).collect();
    let listener = match inherited {
        Some(socket) => Ok(socket.into()),
        None => TcpListener::bind(&addresses[..]),
    };
    let listener = Arc::new(listener.map_err(|error| Error::listen(at, "TCP, metrics", error))?);
    for _ in 0..MAX_CONNECTIONS {
        let (listener, shared) = (listener.clone(), shared.clone());
        let run = move || loop {
            match listener.accept() {
                // The peer has gone, or says nothing that could be answered.
                Ok((stream, _)) => drop(answer(stream, &shared)),
                // A lack of descriptors ends when a connection does.
                Err(_) => thread::park_timeout(TIMEOUT),
            }
        };
        let thread = thread::Builder::new().name("metrics".into()).stack_size(STACK);
        thread.spawn(run).map_err(|error| Error::system("cannot start", error))?;
    }
    log::info!(event = "metrics"; "Metrics are at http://{at}/metrics");
    Ok(listener)
}

fn answer(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let mut head = Vec::new();
    let mut reads = 0;
    while end_of_head(&head, 0).is_none() {
        let mut piece = [0; PIECE];
        let count = stream.read(&mut piece)?;
        reads += 1;
        if count == 0 || reads > MAX_READS {
            return Ok(());
        }
        head.extend_from_slice(&piece[..count]);
    }
    let line = head.split(|&byte| byte == b'\r' || byte == b'\n').next().unwrap_or_default();
    let mut words = line.split(|&byte| byte == b' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (status, kind, body) = reply(method, path, shared);
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all((head + if method == b"HEAD" { "" } else { &body }).as_bytes())
}

/// Status, content type and body for a request.
fn reply(method: &[u8], path: &[u8], shared: &Shared) -> (&'static str, &'static str, String) {
    let path = path.split(|&byte| byte == b'?').next().unwrap_or_default();
    let plain = |status, body: &str| (status, PLAIN, format!("{body}\n"));
    match path {
        b"/metrics" | b"/health" | b"/ready" if method != b"GET" && method != b"HEAD" => {
            plain("405 Method Not Allowed\r\nAllow: GET, HEAD", "Method Not Allowed")
        }
        b"/metrics" => ("200 OK", CONTENT_TYPE, exposition(shared)),
        b"/health" => plain("200 OK", "healthy"),
        b"/ready" if shared.stats.get(Figure::Ready) == 1 => plain("200 OK", "ready"),
        b"/ready" => plain("503 Service Unavailable", "not ready: there is no tunnel, or the port is not open"),
        _ => plain("404 Not Found", "Not Found"),
    }
}

fn exposition(shared: &Shared) -> String {
    let mut text = Exposition::default();
    text.build();
    text.table(&[("", &shared.stats.figures())]);
    if let Some(own) = process::figures("self") {
        process::show(&mut text, &[("", own)]);
    }
    text.finish()
}

const PLAIN: &str = "text/plain; charset=utf-8";

/// Connections that are answered at once.
const MAX_CONNECTIONS: usize = 3;
/// Longest wait for one piece of a request, and for room for an answer.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Pieces of one request.
const MAX_READS: usize = 8;
/// Bytes of a piece.
const PIECE: usize = 1024;
/// Bytes of the stacks of its threads: nothing recurses.
const STACK: usize = 128 << 10;
