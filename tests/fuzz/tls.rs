//! A TLS session of ours after its handshake, with a peer who knows the keys and seals anything with them.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use mio::{Events, Poll, Token};
use nodepass::net::budget::Budget;
use nodepass::net::certs::{self, Alpn, Audience, Certs, Origin, Trust};
use nodepass::net::stream::{Buffer, Stream};
use nodepass::net::tcp::Tcp;
use nodepass::net::tls::Tls;
use ring::aead::{Aad, LessSafeKey, Nonce, UnboundKey, AES_128_GCM, CHACHA20_POLY1305};
use rustls::{ClientConfig, ClientConnection, ConnectionTrafficSecrets, ServerConfig};

/// The first byte is how much the reader has room for. Steps follow: data in a record, a record with anything in it, or bytes that
/// are no record. What was said before the first of these last two arrives, and no more than was said.
pub fn tls(data: &[u8]) {
    let Some((&size, script)) = data.split_first() else { return };
    let (mut ours, mut peer) = shaken();
    let mut script = script.iter().copied();
    let (mut promised, mut said, mut is_plain) = (Vec::new(), 0, true);
    while let Some(step) = script.next() {
        let count = usize::from(script.next().unwrap_or(0));
        let bytes: Vec<u8> = script.by_ref().take(count).collect();
        said += bytes.len();
        match step % 3 {
            0 => {
                if is_plain {
                    promised.extend_from_slice(&bytes);
                }
                peer.seals(&[&bytes, &[DATA][..]].concat());
            }
            1 => {
                is_plain = false;
                peer.seals(&bytes);
            }
            _ => {
                is_plain &= bytes.is_empty();
                peer.wire.extend_from_slice(&bytes);
            }
        }
    }
    peer.ends();
    let (heard, error) = ours.hears(SIZES[usize::from(size) % SIZES.len()]);
    assert!(heard.starts_with(&promised) && heard.len() <= said, "{} of {}", heard.len(), promised.len());
    if is_plain {
        assert_eq!((heard.len(), error), (promised.len(), Some(ErrorKind::UnexpectedEof)));
    }
}

/// Our side, and what tells of its socket.
struct Ours {
    tls: Tls,
    poll: Poll,
}

impl Ours {
    fn waits(&mut self) {
        let mut events = Events::with_capacity(8);
        self.poll.poll(&mut events, Some(GRACE)).unwrap();
        assert!(!events.is_empty(), "no edge came");
        events.iter().for_each(|event| self.tls.socket().note(event));
    }

    /// All there is, until the end or an error.
    fn hears(&mut self, size: usize) -> (Vec<u8>, Option<ErrorKind>) {
        let mut heard = Vec::new();
        loop {
            let mut buffer = Buffer::new(size);
            match self.tls.fill(&mut buffer) {
                Ok(0) => return (heard, None),
                Ok(_) => heard.extend_from_slice(buffer.bytes()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.waits(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return (heard, Some(error.kind())),
            }
        }
    }
}

/// The other side once its handshake is over: a key, and how many records have been under it.
struct Peer {
    socket: TcpStream,
    key: LessSafeKey,
    iv: [u8; 12],
    sequence: u64,
    wire: Vec<u8>,
}

impl Peer {
    fn seals(&mut self, inside: &[u8]) {
        let mut sealed = inside.to_vec();
        let length = (sealed.len() + self.key.algorithm().tag_len()) as u16;
        let head = [&[DATA, 3, 3][..], &length.to_be_bytes()].concat();
        let number = u128::from(self.sequence).to_be_bytes();
        let nonce: Vec<u8> = self.iv.iter().zip(&number[4..]).map(|(a, b)| a ^ b).collect();
        let nonce = Nonce::try_assume_unique_for_key(&nonce).unwrap();
        self.key.seal_in_place_append_tag(nonce, Aad::from(&head), &mut sealed).unwrap();
        self.sequence += 1;
        self.wire.extend_from_slice(&head);
        self.wire.extend_from_slice(&sealed);
    }

    fn ends(&mut self) {
        // A session that has failed may be gone before it has all.
        let _ = self.socket.write_all(&self.wire);
        let _ = self.socket.shutdown(Shutdown::Write);
    }
}

/// A client and a server, as pools have them.
static CONFIGS: LazyLock<(Arc<ClientConfig>, Arc<ServerConfig>)> = LazyLock::new(|| {
    let mut client = (*certs::client(Trust::ANY, Alpn::Raw).unwrap()).clone();
    client.resumption = rustls::client::Resumption::disabled();
    (client.into(), Certs::new(Origin::Memory, Audience::Pool(Alpn::Raw)).unwrap().current().config)
});

fn shaken() -> (Ours, Peer) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(GRACE)).unwrap();
    let theirs = listener.accept().unwrap().0;
    theirs.set_nodelay(true).unwrap();
    theirs.set_nonblocking(true).unwrap();
    let mut tcp = Tcp::new(mio::net::TcpStream::from_std(theirs));
    let poll = Poll::new().unwrap();
    tcp.register(&Arc::new(poll.registry().try_clone().unwrap()), Token(0)).unwrap();
    let (client, server) = &*CONFIGS;
    let mut ours = Ours { tls: Tls::accept(tcp, server.clone(), &Budget::PLENTY).unwrap(), poll };
    let mut session = ClientConnection::new(client.clone(), certs::server_name("127.0.0.1").unwrap()).unwrap();
    loop {
        while session.wants_write() {
            session.write_tls(&mut socket).unwrap();
        }
        match ours.tls.handshake() {
            Ok(()) => break,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => panic!("{error}"),
        }
        if session.is_handshaking() {
            let mut some = [0; 4096];
            socket.set_nonblocking(true).unwrap();
            if let Ok(count) = socket.read(&mut some) {
                let mut came = &some[..count];
                while !came.is_empty() {
                    session.read_tls(&mut came).unwrap();
                    session.process_new_packets().unwrap();
                }
            }
            socket.set_nonblocking(false).unwrap();
        }
        if !session.wants_write() && !session.is_handshaking() {
            ours.waits();
        }
    }
    let (sequence, secrets) = session.dangerous_extract_secrets().unwrap().tx;
    // Which of the two depends on the processor.
    let (algorithm, key, iv) = match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
        ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
        _ => panic!("another cipher"),
    };
    let key = LessSafeKey::new(UnboundKey::new(algorithm, key.as_ref()).unwrap());
    (ours, Peer { socket, key, iv: iv.as_ref().try_into().unwrap(), sequence, wire: Vec::new() })
}

const DATA: u8 = 23;
/// Room of the reader: less than a record, one, several.
const SIZES: [usize; 4] = [1, 300, 16 * 1024, 64 * 1024];
/// Far longer than anything here takes.
const GRACE: Duration = Duration::from_secs(20);
