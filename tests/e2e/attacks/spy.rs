//! A listener on the path: it passes on and keeps all that is said, and may say something itself.

use crate::support::free_addr;
use nodepass::logic::wire::{decode, Id, CONTROL};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::spawn;

/// What both ends of a connection said.
#[derive(Clone, Default)]
pub struct Told {
    pub to_server: Vec<u8>,
    pub to_client: Vec<u8>,
}

/// A connection on the path.
struct Passing {
    told: Told,
    client: TcpStream,
    server: TcpStream,
}

/// The listener.
pub struct Spy {
    /// Where clients find the server.
    pub at: SocketAddr,
    passing: Arc<Mutex<Vec<Passing>>>,
}

impl Spy {
    /// On the path to that server.
    pub fn before(server: SocketAddr) -> Spy {
        let at = free_addr();
        let listener = TcpListener::bind(at).expect("a listener");
        let passing = Arc::new(Mutex::new(Vec::new()));
        let kept = passing.clone();
        spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(server) else { continue };
                let index = {
                    let mut kept = kept.lock().unwrap();
                    let ends = [&client, &server].map(|end| end.try_clone().expect("a socket"));
                    let [client, server] = ends;
                    kept.push(Passing { told: Told::default(), client, server });
                    kept.len() - 1
                };
                for (from, to, to_server) in [(&client, &server, true), (&server, &client, false)] {
                    let (mut from, mut to) = (from.try_clone().expect("a socket"), to.try_clone().expect("a socket"));
                    let kept = kept.clone();
                    spawn(move || {
                        let mut piece = [0; 4096];
                        while let Ok(len @ 1..) = from.read(&mut piece) {
                            let told = &mut kept.lock().unwrap()[index].told;
                            let side = if to_server { &mut told.to_server } else { &mut told.to_client };
                            side.extend_from_slice(&piece[..len]);
                            if to.write_all(&piece[..len]).is_err() {
                                break;
                            }
                        }
                        let _ = to.shutdown(Shutdown::Write);
                    });
                }
            }
        });
        Spy { at, passing }
    }

    /// All that was said so far, connection by connection.
    pub fn heard(&self) -> Vec<Told> {
        self.passing.lock().unwrap().iter().map(|passing| passing.told.clone()).collect()
    }

    /// Whether these bytes were said by either end of a connection.
    pub fn has_heard(&self, text: &[u8]) -> bool {
        let heard = self.heard();
        let mut all = heard.iter().flat_map(|told| [&told.to_server, &told.to_client]);
        all.any(|bytes| bytes.windows(text.len()).any(|window| window == text))
    }

    /// The tunnel key, if what was said gives it away: some lines are known texts, masked with the key again and again.
    pub fn key(&self) -> Option<String> {
        let heard = self.heard();
        let lines: Vec<&[u8]> = heard
            .iter()
            .flat_map(|told| [&told.to_server, &told.to_client])
            .flat_map(|bytes| bytes.strip_prefix(&[0; 4]).unwrap_or(bytes).split(|byte| *byte == b'\n'))
            .collect();
        lines.iter().find_map(|line| {
            let masked = data_encoding::BASE64.decode(line).ok()?;
            KNOWN.iter().find_map(|known| {
                let stream: Vec<u8> = masked.iter().zip(*known).map(|(byte, text)| byte ^ text).collect();
                // The text is shorter than the key may be: what is not known of it is in the next ones, which say more.
                (1..=stream.len()).map(|period| &stream[..period]).find_map(|key| {
                    let good = lines.iter().filter(|line| decode(line, key).is_ok()).count();
                    (good > 1).then(|| String::from_utf8(key.to_vec()).ok()).flatten()
                })
            })
        })
    }

    /// The numbers of the pool connections that were given one.
    pub fn ids(&self) -> Vec<Id> {
        let first = |told: Told| told.to_client.first_chunk().copied().map(Id);
        let plain = |told: &Told| !told.to_server.starts_with(b"GET ") && told.to_server.first() != Some(&0x16);
        self.heard().into_iter().filter(plain).filter_map(first).filter(|id| *id != CONTROL).collect()
    }

    /// The last line that was said to that side on the control connection, its newline included.
    pub fn last_line(&self, to_server: bool) -> Option<Vec<u8>> {
        let Told { to_server: up, to_client: down } = self.heard().swap_remove(self.control()?);
        let (said, skipped) = if to_server { (up, OPENING) } else { (down, CONTROL.0.len()) };
        let mut lines = said.get(skipped..)?.split_inclusive(|byte| *byte == b'\n').rev();
        lines.find(|line| line.ends_with(b"\n")).map(<[u8]>::to_vec)
    }

    /// Says something to the client on the control connection.
    pub fn say_to_client(&self, bytes: &[u8]) {
        let index = self.control().expect("a control connection");
        let mut passing = self.passing.lock().unwrap();
        passing[index].client.write_all(bytes).expect("a client that listens");
    }

    /// The same to the server.
    pub fn say_to_server(&self, bytes: &[u8]) {
        let index = self.control().expect("a control connection");
        let mut passing = self.passing.lock().unwrap();
        passing[index].server.write_all(bytes).expect("a server that listens");
    }

    /// Says something to both ends of every connection. Some are over.
    pub fn say_to_all(&self, bytes: &[u8]) {
        for Passing { client, server, .. } in self.passing.lock().unwrap().iter_mut() {
            let _ = (client.write_all(bytes), server.write_all(bytes));
        }
    }

    /// The newest control connection.
    fn control(&self) -> Option<usize> {
        self.heard().iter().rposition(|told| told.to_client.starts_with(&CONTROL.0) && told.to_client.contains(&b'\n'))
    }
}

/// Bytes of the opening of a pool connection, which comes before lines.
const OPENING: usize = 29;
/// What every control connection says.
const KNOWN: [&[u8]; 2] = [br#"{"action":"ping"}"#, br#"{"action":"pong"}"#];
