//! A whole tunnel: processes, target, users.

use super::{
    connect, echoed, exchange, free_port, try_connect, udp_echo, until, Authority, Caught, Holdings, Process, Target,
    GRACE,
};
use std::fmt;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};

/// Who listens for users, and who dials the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// One client process does both.
    Single,
    /// The server listens, the client dials.
    Reverse,
    /// The client listens, the server dials.
    Forward,
}

/// One kind of tunnel between two processes. Tests that should hold for all kinds go through [`each_tunnel`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    pub flow: Flow,
    pub tls: u8,
    /// The pool transport (`type`).
    pub transport: u8,
}

impl Cell {
    /// A tunnel of this kind, not started yet.
    pub fn tunnel(self) -> Builder {
        let mut builder = Builder::new(self.flow);
        builder.server.set("tls", &self.tls.to_string());
        if self.transport != 0 {
            builder.server.set("type", &self.transport.to_string());
        }
        builder
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} type={} tls={}", self.flow, self.transport, self.tls)
    }
}

/// The kinds of tunnel there are: a new pool transport is one more line here.
pub fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for flow in [Flow::Reverse, Flow::Forward] {
        cells.extend(kinds().iter().map(|&(transport, tls)| Cell { flow, tls, transport }));
    }
    cells
}

/// Pool transport and `tls` of each kind that this build has.
pub fn kinds() -> Vec<(u8, u8)> {
    let built = [true, true, cfg!(feature = "quic"), cfg!(feature = "ws"), cfg!(feature = "h2")];
    let kinds = [(0, 0), (0, 1), (1, 1), (2, 1), (3, 1)];
    kinds.into_iter().zip(built).filter_map(|(kind, built)| built.then_some(kind)).collect()
}

/// Runs the test for every kind of tunnel, side by side.
pub fn each_tunnel(test: impl Fn(Builder) + Sync) {
    side_by_side(cells().into_iter().map(|cell| (cell.to_string(), cell.tunnel())), test);
}

/// Runs the test for every kind of tunnel and for the single-end forwarder.
pub fn each_way(test: impl Fn(Builder) + Sync) {
    let tunnels = cells().into_iter().map(|cell| (cell.to_string(), cell.tunnel()));
    side_by_side(tunnels.chain([("single".to_string(), Tunnel::single())]), test);
}

/// Runs the test for each of these, side by side, and says by their names for which of them it fails.
pub fn side_by_side<T: Send>(each: impl Iterator<Item = (String, T)>, test: impl Fn(T) + Sync) {
    let caller = std::thread::current();
    let test_name = caller.name().unwrap_or_default();
    let failed: Vec<String> = std::thread::scope(|scope| {
        let test = &test;
        let threads: Vec<_> = each
            .map(|(name, one)| {
                let thread = std::thread::Builder::new().name(format!("{test_name} {name}"));
                (name, thread.spawn_scoped(scope, move || test(one)).expect("a thread"))
            })
            .collect();
        threads.into_iter().filter_map(|(name, thread)| thread.join().is_err().then_some(name)).collect()
    });
    assert!(failed.is_empty(), "failed in: {}", failed.join(", "));
}

/// A tunnel that is up. Dropping it ends everything.
pub struct Tunnel {
    pub flow: Flow,
    /// Where users go.
    pub user: SocketAddr,
    /// The tunnel port.
    pub tunnel: SocketAddr,
    /// What is at the other end, unless the test brought its own.
    pub target: Target,
    /// The server's process; none in a single-end tunnel.
    pub server: Option<Process>,
    pub client: Process,
    /// The URLs they were started with.
    pub server_url: String,
    pub client_url: String,
    env: Vec<(String, String)>,
    _authority: Option<Authority>,
}

impl Tunnel {
    /// Users at the server, target at the client.
    pub fn reverse() -> Builder {
        Builder::new(Flow::Reverse)
    }

    /// Users at the client, target at the server.
    pub fn forward() -> Builder {
        Builder::new(Flow::Forward)
    }

    /// One process.
    pub fn single() -> Builder {
        Builder::new(Flow::Single)
    }

    /// The process that listens for users.
    pub fn ingress(&self) -> &Process {
        match (self.flow, &self.server) {
            (Flow::Reverse, Some(server)) => server,
            _ => &self.client,
        }
    }

    /// The process that dials the target.
    pub fn egress(&self) -> &Process {
        match (self.flow, &self.server) {
            (Flow::Forward, Some(server)) => server,
            _ => &self.client,
        }
    }

    /// All processes.
    pub fn processes(&self) -> Vec<&Process> {
        self.server.iter().chain([&self.client]).collect()
    }

    /// One user: sends the bytes, and must get them back.
    pub fn echo(&self, data: &[u8]) {
        echoed(self.user, data);
    }

    /// One UDP user: sends a datagram, and must get it back.
    pub fn udp_echo(&self, data: &[u8]) {
        let back = udp_echo(self.user, data).unwrap_or_else(|error| panic!("UDP through {}: {error}", self.user));
        assert!(back == data, "another datagram came back");
    }

    /// A user, connected.
    pub fn connect(&self) -> TcpStream {
        connect(self.user)
    }

    /// Both ends of a relay: the user's, and the target's. From then on the target hands its connections over.
    pub fn pair(&self) -> (TcpStream, TcpStream) {
        let caught = self.target.catch();
        let mark = self.client.mark();
        let user = self.connect();
        if self.flow != Flow::Single {
            return (user, caught.next());
        }
        let from = user.local_addr().expect("an address");
        self.client.says_after(mark, &format!("Exchange starts: {from} <-> "), GRACE);
        (user, caught.stayer())
    }

    /// What every process holds at rest, without users and the pool full. The server needs `max=8` (as [`POOL`]): only
    /// then does the pool not grow.
    pub fn at_rest(&self) -> Vec<Holdings> {
        self.processes().iter().map(|process| process.at_rest(self.pool())).collect()
    }

    /// Waits until every process is at rest again and holds no more than that.
    pub fn rests_again(&self, before: &[Holdings]) {
        for (process, before) in self.processes().iter().zip(before) {
            process.rests_again(self.pool(), *before);
        }
    }

    fn pool(&self) -> u64 {
        if self.flow == Flow::Single {
            0
        } else {
            POOL
        }
    }

    /// Starts the server again with the same URL, after it was killed.
    pub fn restart_server(&mut self) {
        self.server = Some(run(&self.server_url, &self.env));
    }

    /// Starts the client again with the same URL, after it was killed.
    pub fn restart_client(&mut self) {
        self.client = run(&self.client_url, &self.env);
    }

    /// Waits until a user gets through again.
    pub fn up(&self) {
        until("a user through the tunnel", GRACE, || exchange(self.user, b"are you there"));
    }
}

/// A tunnel to be.
#[derive(Clone, Debug)]
pub struct Builder {
    flow: Flow,
    server: Query,
    client: Query,
    env: Vec<(String, String)>,
    key: String,
    target: Option<String>,
    user_host: String,
    tunnel_host: String,
    authority: bool,
}

impl Builder {
    fn new(flow: Flow) -> Builder {
        let mut builder = Builder {
            flow,
            server: Query::default(),
            client: Query::default(),
            env: Vec::new(),
            key: "a-test-key".into(),
            target: None,
            user_host: "127.0.0.1".into(),
            tunnel_host: "127.0.0.1".into(),
            authority: false,
        };
        builder.server.set("log", "debug");
        builder.server.set("mode", if flow == Flow::Reverse { "1" } else { "2" });
        builder.client.set("log", "debug");
        builder.client.set("mode", if flow == Flow::Single { "1" } else { "2" });
        if flow != Flow::Single {
            builder.client.set("min", &POOL.to_string());
        }
        builder
    }

    /// Which flow it has.
    pub fn flow(&self) -> Flow {
        self.flow
    }

    /// Whether its pool connections are encrypted.
    pub fn encrypted(&self) -> bool {
        self.server.get("tls").is_some_and(|tls| tls != "0")
    }

    /// The pool transport (`type`).
    pub fn transport(&self) -> u8 {
        self.server.get("type").map_or(0, |transport| transport.parse().expect("a number"))
    }

    /// Whether all its pool connections are streams of one.
    pub fn is_shared(&self) -> bool {
        matches!(self.transport(), 1 | 3)
    }

    /// Parameters of the server (`"tls=1&max=8"`).
    pub fn server(mut self, query: &str) -> Builder {
        self.server.add(query);
        self
    }

    /// Parameters of the client.
    pub fn client(mut self, query: &str) -> Builder {
        self.client.add(query);
        self
    }

    /// Parameters of the side that listens for users.
    pub fn ingress(self, query: &str) -> Builder {
        if self.flow == Flow::Reverse {
            self.server(query)
        } else {
            self.client(query)
        }
    }

    /// Parameters of the side that dials the target.
    pub fn egress(self, query: &str) -> Builder {
        if self.flow == Flow::Forward {
            self.server(query)
        } else {
            self.client(query)
        }
    }

    /// Parameters of both.
    pub fn both(self, query: &str) -> Builder {
        self.server(query).client(query)
    }

    /// One more environment variable for both.
    pub fn env(mut self, name: &str, value: &str) -> Builder {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Another target instead of an echo: `host:port`, several with commas. The tunnel then counts as up
    /// when both ends say so and a user can connect.
    pub fn target(mut self, target: impl fmt::Display) -> Builder {
        self.target = Some(target.to_string());
        self
    }

    /// The host part where users go; empty for all interfaces (default 127.0.0.1).
    pub fn user_host(mut self, host: &str) -> Builder {
        self.user_host = host.into();
        self
    }

    /// The host part of the tunnel address.
    pub fn tunnel_host(mut self, host: &str) -> Builder {
        self.tunnel_host = host.into();
        self
    }

    /// `tls=2` with certificate files made for the occasion, which the client trusts.
    pub fn certified(mut self) -> Builder {
        self.authority = true;
        self
    }

    /// Starts everything and waits until a user gets through.
    pub fn start(mut self) -> Tunnel {
        let authority = self.authority.then(|| Authority::new("tunnel.test").expect("openssl"));
        if let Some(authority) = &authority {
            self = self.server(&format!("tls=2&{}", authority.parameters())).client("sni=tunnel.test");
            self = self.env("SSL_CERT_FILE", &authority.ca());
        }
        let target = Target::echo();
        let (user_port, tunnel_port) = (free_port(), free_port());
        let user_text = format!("{}:{user_port}", self.user_host);
        let tunnel_text = format!("{}:{tunnel_port}", self.tunnel_host);
        let target_text = self.target.clone().unwrap_or_else(|| target.addr().to_string());
        let url = |role: &str, path: &str, query: &Query, tunnel: &str| {
            format!("{role}://{}@{tunnel}/{path}?{query}", self.key)
        };
        let (server_url, client_url) = match self.flow {
            Flow::Single => (String::new(), url("client", &target_text, &self.client, &user_text)),
            Flow::Reverse => (
                url("server", &user_text, &self.server, &tunnel_text),
                url("client", &target_text, &self.client, &dialled(&tunnel_text)),
            ),
            Flow::Forward => (
                url("server", &target_text, &self.server, &tunnel_text),
                url("client", &user_text, &self.client, &dialled(&tunnel_text)),
            ),
        };
        let server = (self.flow != Flow::Single).then(|| run(&server_url, &self.env));
        let client = run(&client_url, &self.env);
        let tunnel = Tunnel {
            flow: self.flow,
            user: address(&dialled(&user_text)),
            tunnel: address(&dialled(&tunnel_text)),
            target,
            server,
            client,
            server_url,
            client_url,
            env: self.env.clone(),
            _authority: authority,
        };
        self.wait(&tunnel);
        tunnel
    }

    fn wait(&self, tunnel: &Tunnel) {
        let on = |name: &str| [&self.server, &self.client].iter().any(|query| query.get(name) == Some("1"));
        let terminates = self.flow == Flow::Single && self.client.get("tls").is_some_and(|tls| tls != "0");
        match &self.target {
            None if on("notcp") => return tunnel.udp_echo(b"are you there"),
            None if on("proxy") => {
                // The echo begins with the header.
                until("a user through the tunnel", GRACE, || greeted(tunnel.user, b"are you there"));
                return;
            }
            None if !terminates => return tunnel.up(),
            _ => {}
        }
        // There are none before it is open for users, TCP and UDP.
        tunnel.processes().iter().for_each(|process| drop(process.says("CHECK_POINT|", GRACE)));
        if !on("notcp") {
            until("a user who can connect", GRACE, || try_connect(tunnel.user));
        }
    }
}

/// Waits until an instance that has nothing to do with the test has made so many check points, one a second: what another one would
/// have done by then, it has done.
pub fn reports_elsewhere(count: usize) {
    Tunnel::single().start().client.reports(count);
}

/// Sends the bytes and reads until they come back, whatever comes before them.
fn greeted(addr: SocketAddr, data: &[u8]) -> std::io::Result<()> {
    let mut stream = try_connect(addr)?;
    stream.write_all(data)?;
    let mut back = Vec::new();
    while !back.ends_with(data) {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        back.push(byte[0]);
    }
    Ok(())
}

fn run(url: &str, env: &[(String, String)]) -> Process {
    let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    Process::nodepass_with(&[url], &env)
}

/// What to dial for an address to listen on.
fn dialled(text: &str) -> String {
    match text.rsplit_once(':') {
        Some(("" | "0.0.0.0", port)) => format!("127.0.0.1:{port}"),
        Some(("[::]", port)) => format!("[::1]:{port}"),
        _ => text.to_string(),
    }
}

fn address(text: &str) -> SocketAddr {
    text.to_socket_addrs().ok().and_then(|mut found| found.next()).unwrap_or_else(|| panic!("no address: {text}"))
}

/// The parameters of a URL, each once.
#[derive(Clone, Debug, Default)]
struct Query(Vec<(String, String)>);

impl Query {
    fn add(&mut self, query: &str) {
        for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            self.set(name, value);
        }
    }

    fn set(&mut self, name: &str, value: &str) {
        self.0.retain(|(each, _)| each != name);
        self.0.push((name.into(), value.into()));
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(each, _)| each == name).map(|(_, value)| value.as_str())
    }
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs: Vec<String> = self.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
        f.write_str(&pairs.join("&"))
    }
}

/// How many pool connections a tunnel keeps, if the test does not say.
pub const POOL: u64 = 8;
