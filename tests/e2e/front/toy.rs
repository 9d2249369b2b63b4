//! An API that is a toy, the front before it, and a client who says exactly what a test wants.

use crate::support::{raise_limits, try_connect, GRACE};
use nodepass::config::{Cors, Endpoint, Host};
use nodepass::logic::guard::Guard;
use nodepass::logic::networks::AccessList;
use nodepass::master::call::{Answer, Call, Reply};
use nodepass::master::front::admission::Admission;
use nodepass::master::front::Front;
use nodepass::net::certs::{Audience, Certs, Origin};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{sync_channel, Receiver, SyncSender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Counts what goes on, and holds calls up while a test wants it.
#[derive(Default)]
pub struct Toy {
    /// Calls so far.
    pub calls: AtomicUsize,
    /// Calls that are held up now.
    pub held: AtomicUsize,
    /// Streams that are written now.
    pub streams: AtomicUsize,
    gate: Mutex<Option<Receiver<()>>>,
}

impl Toy {
    /// Calls of `/held` are answered once for each word sent to this, or when it is gone.
    pub fn hold(&self) -> SyncSender<()> {
        let (sender, receiver) = sync_channel(0);
        *self.gate.lock().unwrap() = Some(receiver);
        sender
    }
}

/// So that a test can look at it, too.
pub struct Shared(pub Arc<Toy>);

impl Answer for Shared {
    fn answer(&self, call: Call) -> Reply {
        let toy = self.0.clone();
        toy.calls.fetch_add(1, Ordering::SeqCst);
        let text =
            |body: Vec<u8>| Reply::Whole { status: 200, headers: vec![("Content-Type", "text/plain".into())], body };
        match call.path.as_str() {
            "/big" => text(vec![b'b'; BIG]),
            "/none" => Reply::Whole { status: 204, headers: Vec::new(), body: Vec::new() },
            "/held" => {
                toy.held.fetch_add(1, Ordering::SeqCst);
                if let Some(gate) = &*toy.gate.lock().unwrap() {
                    let _ = gate.recv();
                }
                toy.held.fetch_sub(1, Ordering::SeqCst);
                text(b"at last".to_vec())
            }
            "/body" => text(call.body),
            "/three" => Reply::Stream {
                headers: vec![("Content-Type", "text/event-stream".into())],
                source: Box::new(|out| (1..=3).try_for_each(|n| out.write_all(format!("data: {n}\n\n").as_bytes()))),
            },
            // Goes on until its reader leaves: a flood, or now and then a word.
            "/flood" | "/drip" => Reply::Stream {
                headers: vec![("Content-Type", "text/event-stream".into())],
                source: Box::new(move |out| {
                    toy.streams.fetch_add(1, Ordering::SeqCst);
                    let result = loop {
                        let size = if call.path == "/flood" { 60_000 } else { 1 };
                        if let Err(error) = out.write_all(format!("data: {}\n\n", "x".repeat(size)).as_bytes()) {
                            break Err(error);
                        }
                        if size == 1 {
                            std::thread::sleep(std::time::Duration::from_millis(50));
                        }
                    };
                    toy.streams.fetch_sub(1, Ordering::SeqCst);
                    result
                }),
            },
            _ => {
                let headers: Vec<String> = call.headers.iter().map(|(name, value)| format!("{name}={value}")).collect();
                let Call { method, path, query, body, .. } = &call;
                text(format!("{method} [{path}] [{query}] {} {}", body.len(), headers.join(";")).into_bytes())
            }
        }
    }
}

/// A front at a port of its own, with the toy behind it.
pub struct Api {
    pub addr: SocketAddr,
    pub toy: Arc<Toy>,
    pub front: Front,
}

impl Api {
    /// Without TLS.
    pub fn plain() -> Api {
        Api::start(None)
    }

    /// With TLS and a certificate of its own making.
    pub fn secure() -> Api {
        Api::start(Some(Certs::new(Origin::Memory, Audience::Users).expect("a certificate")))
    }

    pub fn start(certs: Option<Certs>) -> Api {
        Api::allowing(Cors::All, certs)
    }

    /// For the web pages of these origins.
    pub fn allowing(cors: Cors, certs: Option<Certs>) -> Api {
        let listen = Endpoint { host: Host::Ip(Ipv4Addr::LOCALHOST.into()), port: 0 };
        // A front goes by what the process may have when it begins, and some tests here need much.
        raise_limits(0);
        let toy = Arc::new(Toy::default());
        let front = Front::start(
            &listen,
            certs,
            Duration::from_secs(3600),
            Admission::new(AccessList::default(), Guard::new(0, Duration::ZERO), Box::new(drop)),
            cors,
            Arc::new(Shared(toy.clone())),
        )
        .expect("a front");
        Api { addr: front.addresses()[0], toy, front }
    }

    /// A connection to it.
    pub fn dial(&self) -> Web {
        Web::over(try_connect(self.addr).expect("a connection"))
    }

    /// A new connection that has said this.
    pub fn began(&self, bytes: impl AsRef<[u8]>) -> Web {
        let mut web = self.dial();
        web.say(bytes);
        web
    }

    /// A new connection that asks for a path and does not read the answer.
    pub fn open(&self, path: &str) -> Web {
        self.began(get(path))
    }

    /// What a new connection gets for these bytes.
    pub fn ask(&self, bytes: impl AsRef<[u8]>) -> Said {
        self.began(bytes).hear()
    }

    /// Whether a stranger is served.
    pub fn serves(&self) -> bool {
        self.ask("GET /hello HTTP/1.1\r\nHost: x\r\n\r\n").status == 200
    }
}

/// One connection, in a test's hands.
pub struct Web {
    pub stream: TcpStream,
    reader: BufReader<TcpStream>,
}

/// An answer.
#[derive(Debug)]
pub struct Said {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Said {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Web {
    pub fn over(stream: TcpStream) -> Web {
        Web { reader: BufReader::new(stream.try_clone().expect("a clone")), stream }
    }

    pub fn say(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_say(bytes).expect("writing");
    }

    /// The other side may have hung up.
    pub fn try_say(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// The next answer, to a request with another method than HEAD.
    pub fn hear(&mut self) -> Said {
        self.try_hear().expect("an answer")
    }

    pub fn try_hear(&mut self) -> io::Result<Said> {
        let mut said = self.hear_head()?;
        let length = said.header("content-length").map(|length| length.parse().expect("a length"));
        match (said.header("transfer-encoding"), length) {
            (Some(_), _) => while self.chunk(&mut said.body)? {},
            (None, Some(length)) => {
                said.body = vec![0; length];
                self.reader.read_exact(&mut said.body)?;
            }
            (None, None) if said.status == 204 || said.status == 100 => {}
            (None, None) => drop(self.reader.read_to_end(&mut said.body)?),
        }
        Ok(said)
    }

    /// The head of the next answer.
    pub fn hear_head(&mut self) -> io::Result<Said> {
        let first = self.line()?;
        let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("no answer: {first:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            match line.split_once(": ") {
                Some((name, value)) => headers.push((name.to_owned(), value.to_owned())),
                None => return Ok(Said { status, headers, body: Vec::new() }),
            }
        }
    }

    /// One chunk more; whether it was not the last.
    pub fn chunk(&mut self, into: &mut Vec<u8>) -> io::Result<bool> {
        let size = usize::from_str_radix(&self.line()?, 16).map_err(io::Error::other)?;
        let mut bytes = vec![0; size];
        self.reader.read_exact(&mut bytes)?;
        into.append(&mut bytes);
        self.line()?;
        Ok(size > 0)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.reader.read_line(&mut line)?;
        Ok(line.trim_end_matches("\r\n").to_owned())
    }

    /// Whether the other side has ended or broken the connection, and said nothing more before.
    pub fn is_over(&mut self) -> bool {
        self.stream.set_read_timeout(Some(GRACE)).expect("a timeout");
        match self.reader.read(&mut [0; 64]) {
            Ok(count) => count == 0,
            Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
        }
    }
}

/// A request without a body.
pub fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")
}

/// Bytes of the answer to `/big`: far more than the kernel keeps for a client that does not read.
pub const BIG: usize = 32 * 1024 * 1024;
