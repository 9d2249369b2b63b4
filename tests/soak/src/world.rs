//! What the campaign runs: tunnels of every kind with their processes, and what is known of their users.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path as FilePath, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::faults::Active;
use crate::master;
use crate::path::Path;
use crate::process::{Holdings, Process};
use crate::target::Target;
use crate::users::Kind;

/// What users see of a tunnel, and what is written down of them.
pub struct Tunnel {
    /// For the report.
    pub name: String,
    /// Where users go.
    pub user: SocketAddr,
    /// No more users.
    pub over: AtomicBool,
    /// When a fault was on it, recovery included.
    windows: Mutex<Vec<(Instant, Option<Instant>)>>,
    tally: Mutex<BTreeMap<Kind, Tally>>,
    failures: Mutex<Vec<String>>,
}

/// What became of users.
#[derive(Clone, Copy, Default)]
pub struct Tally {
    /// Served to the end.
    pub served: u64,
    /// Lost while a fault was on their tunnel.
    pub lost: u64,
}

/// A tunnel with all that belongs to it.
pub struct World {
    /// What users see.
    pub tunnel: Arc<Tunnel>,
    /// Its processes: a server and a client, or one alone.
    pub processes: Vec<Process>,
    /// From the client to the server.
    pub path: Option<Arc<Path>>,
    /// What its users want to reach.
    pub target: Arc<Target>,
    /// A master's state.
    pub state: Option<PathBuf>,
    /// The fault that is on it.
    pub fault: Option<Active>,
    /// What its processes held before the first user.
    pub before: Vec<Holdings>,
}

impl Tunnel {
    fn new(name: String, user: SocketAddr) -> Arc<Tunnel> {
        Arc::new(Tunnel {
            name,
            user,
            over: AtomicBool::new(false),
            windows: Mutex::default(),
            tally: Mutex::default(),
            failures: Mutex::default(),
        })
    }

    /// A fault begins.
    pub fn touch(&self) {
        self.windows.lock().unwrap().push((Instant::now(), None));
    }

    /// It is over, and users are served again.
    pub fn well(&self) {
        for (_, end) in self.windows.lock().unwrap().iter_mut() {
            end.get_or_insert_with(Instant::now);
        }
    }

    /// Something that must not be.
    pub fn fail(&self, what: String) {
        println!("FAILED {}: {what}", self.name);
        self.failures.lock().unwrap().push(format!("{}: {what}", self.name));
    }

    /// What came of a user who was there since `start`.
    pub fn record(&self, kind: Kind, start: Instant, result: io::Result<()>) {
        let windows = self.windows.lock().unwrap();
        let touched = windows.iter().any(|(_, end)| end.is_none_or(|end| end >= start));
        let well = windows.last().and_then(|(_, end)| *end).map(|end| start.saturating_duration_since(end));
        drop(windows);
        match result {
            Ok(()) => self.tally.lock().unwrap().entry(kind).or_default().served += 1,
            Err(error) if touched && error.kind() != ErrorKind::InvalidData => {
                self.tally.lock().unwrap().entry(kind).or_default().lost += 1;
            }
            Err(error) => self.fail(format!(
                "{kind:?} after {:?}: {error}; began {well:?} after a fault's last effects",
                start.elapsed()
            )),
        }
    }

    /// Users by kind, and what must not be.
    pub fn outcome(&self) -> (BTreeMap<Kind, Tally>, Vec<String>) {
        (self.tally.lock().unwrap().clone(), self.failures.lock().unwrap().clone())
    }
}

/// All worlds: four transports in both flows, one process that forwards alone, and one of a master's.
pub fn all(work: &FilePath) -> Vec<World> {
    let pairs = (0..4).flat_map(|transport| [true, false].map(|reverse| pair(transport, reverse)));
    pairs.chain([alone(), master::world(work)]).collect()
}

fn pair(transport: u8, reverse: bool) -> World {
    let [tunnel, path_at, user, target] = [(); 4].map(|()| free());
    let kind = ["TCP", "QUIC", "WebSocket", "HTTP/2"][usize::from(transport)];
    let (server, client, flow) = match reverse {
        true => (format!("{user}?mode=1"), target, "reverse"),
        false => (format!("{target}?mode=2"), user, "forward"),
    };
    let server = format!("server://soak-key@{tunnel}/{server}&type={transport}&tls=1&max=8&log=info");
    let client = format!("client://soak-key@{path_at}/{client}?mode=2&min=4&log=info");
    World {
        tunnel: Tunnel::new(format!("{kind} {flow}"), user),
        path: Some(Path::new(path_at, tunnel)),
        processes: vec![process("server", &server), process("client", &client)],
        ..bare(target)
    }
}

fn alone() -> World {
    let (user, target) = (free(), free());
    let url = format!("client://{user}/{target}?mode=1&log=info");
    World { tunnel: Tunnel::new("alone".into(), user), processes: vec![process("client", &url)], ..bare(target) }
}

/// A world without processes, whose target is at this address.
pub fn bare(target: SocketAddr) -> World {
    World {
        tunnel: Tunnel::new(String::new(), target),
        processes: Vec::new(),
        path: None,
        target: Target::new(target),
        state: None,
        fault: None,
        before: Vec::new(),
    }
}

/// A world of a master.
pub fn of_master(master: Process, user: SocketAddr, state: PathBuf, bare: World) -> World {
    World { tunnel: Tunnel::new("master".into(), user), processes: vec![master], state: Some(state), ..bare }
}

fn process(name: &str, url: &str) -> Process {
    Process::start(name, &[url.to_owned()], &environment())
}

/// What every process has in its environment: quick ends of UDP sessions, so that the end need not be waited for.
pub fn environment() -> Vec<(String, String)> {
    vec![("NP_UDP_READ_TIMEOUT".into(), "10s".into())]
}

/// An address that is free, below those that the system gives to outgoing connections.
pub fn free() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = 21_000 + (std::process::id() % 50) as u16 * 100;
    loop {
        let at = SocketAddr::from(([127, 0, 0, 1], start + NEXT.fetch_add(1, Ordering::Relaxed)));
        if TcpListener::bind(at).is_ok() && UdpSocket::bind(at).is_ok() {
            return at;
        }
    }
}

/// Waits until `done`, for at most so long; whether it came.
pub fn until(within: Duration, mut done: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < within {
        if done() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    done()
}
