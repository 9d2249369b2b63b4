//! QUIC between two ends of ours, over a path that does anything to their packets.
//!
//! ```text
//!   client == socket [ path ] socket, other socket == server
//! ```

// The replay in the tests of the library has it a second time.
#[allow(clippy::duplicate_mod)]
#[path = "../library/ends.rs"]
mod ends;

use ends::{flow, End};
use nodepass::net::budget::Budget;
use nodepass::net::certs::{Alpn, Audience, Certs, Identity, Origin, Trust};
use nodepass::net::mux::{AllowedPeer, Mux, StreamNo};
use nodepass::net::quic::{ClientTls, QuicClient, QuicServer, Settings, Tickets};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// Three bytes for each packet say what becomes of it; packets of strangers are in between. What arrives at either end is what was said,
/// as far as it arrives, and the server lives on.
pub fn quic(data: &[u8]) {
    let mut script = data.iter().copied();
    let mut run = Run::new();
    for _ in 0..MAX_TURNS {
        run.turn();
        let mut passed = run.carry(&mut script, true);
        run.turn();
        passed |= run.carry(&mut script, false);
        run.talk();
        if !passed && script.len() == 0 {
            break;
        }
        if !passed {
            // A silence: what is said then is a stranger's.
            let to_server = script.next().is_some_and(|byte| byte & 1 == 0);
            run.stranger(&mut script, to_server);
        }
    }
    assert!(run.server.over.is_none(), "the server is over: {:?}", run.server.over);
    // A path that only carries delivers all of it.
    assert!(run.read.len() == SAID || data.iter().any(|&byte| byte != 0), "{} bytes arrived", run.read.len());
}

struct Run {
    client: End<QuicClient>,
    server: End<QuicServer>,
    path: Path,
    /// The stream, as each end knows it, and how much has been written and read of it.
    ours: Option<StreamNo>,
    theirs: Option<StreamNo>,
    written: usize,
    read: Vec<u8>,
}

/// Where packets go by.
struct Path {
    to_client: UdpSocket,
    to_server: UdpSocket,
    /// Another address that packets for the server may come from.
    other: UdpSocket,
    client: SocketAddr,
    server: SocketAddr,
    /// One packet that waits until the next has passed, in each direction.
    held: [Option<Vec<u8>>; 2],
    /// Bytes that went to the server, and that came from it, before a handshake was over.
    unproven: [usize; 2],
}

impl Run {
    fn new() -> Run {
        let now = Instant::now();
        let any = SocketAddr::new(HOME, 0);
        let mut server = QuicServer::bind(&[any.into()], &IDENTITY, &settings(), now).expect("a server");
        server.allow(&[AllowedPeer { tunnel: 1, address: HOME, connections: 1 }], &IDENTITY).expect("a peer");
        let open = || {
            let socket = UdpSocket::bind(any).expect("a socket");
            socket.set_nonblocking(true).expect("a socket");
            socket
        };
        let (to_client, to_server, other) = (open(), open(), open());
        let tls = ClientTls::new(Trust::ANY, "").expect("a configuration");
        let at = to_client.local_addr().expect("an address");
        let client = QuicClient::connect(at, &tls, &settings(), &mut Tickets::default(), now).expect("a client");
        let (client_at, server_at) = (client.local(), server.local().next().expect("an address"));
        let client_at = SocketAddr::new(HOME, client_at.port());
        let path = Path {
            to_client,
            to_server,
            other,
            client: client_at,
            server: server_at,
            held: [None, None],
            unproven: [0, 0],
        };
        let (client, server) = (End::new(Box::new(client)), End::new(Box::new(server)));
        Run { client, server, path, ours: None, theirs: None, written: 0, read: Vec::new() }
    }

    fn turn(&mut self) {
        self.client.turn(Duration::ZERO);
        self.server.turn(Duration::ZERO);
        assert!(self.server.mux.connections() <= MAX_CONNECTIONS, "{} connections", self.server.mux.connections());
    }

    /// Carries what waits in one direction; whether there was something.
    fn carry(&mut self, script: &mut impl Iterator<Item = u8>, to_server: bool) -> bool {
        let (mut packet, mut passed) = ([0; 2048], false);
        loop {
            // What the other address has caused comes back to it.
            let from = if to_server { [&self.path.to_client; 2] } else { [&self.path.to_server, &self.path.other] };
            let Some(count) = from.iter().find_map(|socket| socket.recv(&mut packet).ok()) else { return passed };
            passed = true;
            if !to_server && !self.server.mux.is_up() {
                self.path.unproven[1] += count;
                assert!(self.path.unproven[1] <= 3 * self.path.unproven[0], "{:?}", self.path.unproven);
            }
            self.path.pass(packet[..count].to_vec(), script, to_server);
        }
    }

    fn stranger(&mut self, script: &mut impl Iterator<Item = u8>, to_server: bool) {
        let count = usize::from(script.next().unwrap_or(0)) * 8;
        let mut bytes: Vec<u8> = script.by_ref().take(count).collect();
        bytes.resize(count, 0);
        self.path.send(&bytes, to_server, false);
    }

    /// The users of a stream say and hear what they can.
    fn talk(&mut self) {
        if self.client.over.is_some() {
            return;
        }
        let said = flow(1, SAID);
        if self.ours.is_none() && self.client.mux.is_up() {
            self.ours = self.client.mux.open().ok();
        }
        if let Some(stream) = self.ours {
            self.written += self.client.write(stream, &said[self.written..]).unwrap_or(0);
        }
        self.theirs = self.theirs.or_else(|| self.server.mux.accept().map(|(stream, _)| stream));
        if let Some(stream) = self.theirs {
            let _ = self.server.read(stream, &mut self.read);
            assert!(said.starts_with(&self.read), "what arrives is not what was said");
        }
    }
}

impl Path {
    /// Does with a packet what the script says, or passes it on.
    fn pass(&mut self, mut packet: Vec<u8>, script: &mut impl Iterator<Item = u8>, to_server: bool) {
        let (act, a, b) = match script.next() {
            Some(act) => (act, script.next().unwrap_or(0), script.next().unwrap_or(0)),
            None => (0, 0, 0),
        };
        let at = usize::from(u16::from_be_bytes([a, b])) % packet.len();
        let direction = usize::from(to_server);
        match act % 10 {
            1 => packet.clear(),
            2 => self.send(&packet, to_server, false),
            3 => packet[at] ^= act / 10 + 1,
            4 => packet.truncate(at),
            5 => std::mem::swap(&mut packet, self.held[direction].get_or_insert_default()),
            6 if packet.len() > 4 => packet[1..5].copy_from_slice(&[a, b, a, b]),
            7 => {
                let strange: Vec<u8> = script.by_ref().take(a.into()).collect();
                self.send(&strange, to_server, b & 1 != 0);
            }
            8 => {
                self.send(&packet, to_server, true);
                packet.clear();
            }
            9 => packet[0] = a,
            _ => {}
        }
        self.send(&packet, to_server, false);
    }

    /// Sends a packet that is one, from the usual address or from the other.
    fn send(&mut self, packet: &[u8], to_server: bool, other: bool) {
        if packet.is_empty() {
            return;
        }
        let _ = match (to_server, other) {
            (true, false) => self.to_server.send_to(packet, self.server),
            (true, true) => self.other.send_to(packet, self.server),
            (false, false) => self.to_client.send_to(packet, self.client),
            (false, true) => self.other.send_to(packet, self.client),
        };
        if to_server {
            self.unproven[0] += packet.len();
        }
    }
}

fn settings() -> Settings {
    let (report, timeout) = (Duration::from_secs(5), Duration::from_secs(10));
    let settings = Settings::server(report, timeout, 64, b"testkey", Budget::PLENTY);
    // One packet a system call: each is one for the path.
    Settings { batched: false, ..settings }
}

static IDENTITY: LazyLock<Identity> =
    LazyLock::new(|| Certs::new(Origin::Memory, Audience::Pool(Alpn::Raw)).expect("a certificate").current());

const HOME: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Turns of both ends, at most.
const MAX_TURNS: usize = 40;
/// Connections of one client, and the spare ones.
const MAX_CONNECTIONS: usize = 16;
/// Bytes that the client says.
const SAID: usize = 5_000;
