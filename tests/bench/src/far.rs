//! A long path: users and server in one network namespace, client and target in another, and between them a path of this
//! process that delays packets and loses some.
//!
//! ```text
//!   users -> server  10.212.0.1  TUN == path.rs == TUN  10.212.0.2  client -> target
//! ```
//!
//! Needs root, `ip` and `/dev/net/tun`.

// The tests use more of it.
#[allow(dead_code)]
#[path = "../../system/netns/path.rs"]
mod path;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::bulk::{self, Bulk, Direction};
use crate::end::End;
use crate::findings::median;
use crate::held;
use crate::programs::{Programs, Running, Way};
use path::{tunnel_device, Path};

/// Measures `ways` over each path in `rounds` rounds; the table. Other ways than our tunnels and the direct one are left
/// out. `congestion` is what TCP goes by in both namespaces.
pub fn run(programs: &Programs, ways: &[Way], rounds: usize, congestion: Option<&str>) -> io::Result<String> {
    let land = Land::new(congestion)?;
    let mut found: Vec<(Way, [[Vec<Bulk>; 2]; FATES.len()])> =
        ways.iter().filter(|way| reachable(**way)).map(|way| (*way, Default::default())).collect();
    for (at, fate) in FATES.into_iter().enumerate() {
        for round in 1..=rounds {
            for (way, results) in &mut found {
                let one = land.measure(programs, *way, fate);
                eprintln!("far {round}: {}: {}: {one:?}", fate.name, way.key());
                for (all, bulk) in results[at].iter_mut().zip(one.into_iter().flatten()) {
                    all.push(bulk);
                }
            }
        }
    }
    let columns: String =
        FATES.iter().map(|fate| format!(" {}: one user, MB/s | CPU s/GB | eight | CPU s/GB |", fate.name)).collect();
    let mut table = format!("| way |{columns}\n| --- |{}\n", " ---: |".repeat(4 * FATES.len()));
    for (way, results) in found {
        let figures = results.iter().flatten().map(|all| {
            let middle = |pick: fn(&Bulk) -> f64| median(all.iter().map(pick)).unwrap_or(f64::NAN);
            format!("{:.1} | {:.2}", middle(|bulk| bulk.speed) * 1000.0, middle(|bulk| bulk.cost))
        });
        table += &format!("| {} | {} |\n", way.name(), figures.collect::<Vec<_>>().join(" | "));
    }
    Ok(table)
}

fn reachable(way: Way) -> bool {
    way == Way::Direct || (way.is_ours() && way.pool().is_some())
}

/// What happens to packets, in each direction.
#[derive(Clone, Copy)]
struct Fate {
    name: &'static str,
    delay: Duration,
    lost_of_a_thousand: u64,
    /// Until counting begins, and how long it lasts.
    times: [Duration; 2],
}

/// Two namespaces and the path between them; removed when dropped.
struct Land {
    spaces: [Space; 2],
    path: Path,
}

impl Land {
    fn new(congestion: Option<&str>) -> io::Result<Land> {
        let spaces = [Space::new('s')?, Space::new('c')?];
        let path = Path::between(spaces[0].enter(tunnel_device)?, spaces[1].enter(tunnel_device)?);
        for (space, host) in spaces.iter().zip(HOSTS) {
            space.ip(&format!("addr add {host}/24 dev {LINK}"))?;
            space.ip(&format!("link set {LINK} txqueuelen {LINK_QUEUE} up"))?;
            if let Some(name) = congestion {
                // By route: the setting of a namespace may only be what the system allows all.
                space.ip(&format!("route change 10.212.0.0/24 dev {LINK} congctl {name}"))?;
            }
        }
        Ok(Land { spaces, path })
    }

    /// One user, then eight, all downloading, over a fresh tunnel.
    fn measure(&self, programs: &Programs, way: Way, fate: Fate) -> io::Result<[Bulk; 2]> {
        let [near, far] = &self.spaces;
        self.path.delays(fate.delay);
        // Handshakes have luck or not; only what comes after them is measured.
        self.path.loses(0);
        let mut running = match way.pool() {
            None => None,
            Some(pool) => {
                let end = far.enter(End::start)?;
                let names = [near.name.as_str(), far.name.as_str()];
                let tunnel = SocketAddr::from((HOSTS[0], TUNNEL_PORT));
                Some((programs.start_apart(pool, names, tunnel, end.address)?, end))
            }
        };
        let (mut running, end) = match running.take() {
            Some(both) => both,
            None => {
                let end = far.enter(|| End::start_at(HOSTS[1]))?;
                (Running { entry: end.address, parts: Vec::new() }, end)
            }
        };
        near.enter(|| running.ready(held::probe))?;
        self.path.loses(fate.lost_of_a_thousand);
        let user = |count| near.enter(|| bulk::run(&running, &end, count, Direction::Down, fate.times));
        Ok([user(1)?, user(8)?])
    }
}

/// A network namespace.
struct Space {
    name: String,
}

impl Space {
    fn new(side: char) -> io::Result<Space> {
        let space = Space { name: format!("np-far-{}{side}", std::process::id()) };
        ip(&format!("netns add {}", space.name))?;
        space.ip("link set lo up")?;
        Ok(space)
    }

    fn ip(&self, line: &str) -> io::Result<()> {
        ip(&format!("-n {} {line}", self.name))
    }

    /// Does something on a thread that lives inside; sockets it makes stay there.
    fn enter<T: Send>(&self, act: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        let space = std::fs::File::open(format!("/run/netns/{}", self.name))?;
        thread::scope(|scope| {
            let inside = scope.spawn(move || {
                // SAFETY: moves this thread alone into an open namespace.
                match unsafe { libc::setns(space.as_raw_fd(), libc::CLONE_NEWNET) } {
                    0 => act(),
                    _ => Err(io::Error::last_os_error()),
                }
            });
            inside.join().unwrap_or_else(|_| Err(io::Error::other("the thread inside panicked")))
        })
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        let _ = ip(&format!("netns del {}", self.name));
    }
}

fn ip(line: &str) -> io::Result<()> {
    let output = Command::new("ip").args(line.split(' ')).output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(io::Error::other(format!("ip {line}: {}", String::from_utf8_lossy(&output.stderr)))),
    }
}

/// The paths, from none to bad; delay and loss are those of one direction, so a round trip takes twice the delay.
const FATES: [Fate; 3] = [
    Fate {
        name: "no delay",
        delay: Duration::ZERO,
        lost_of_a_thousand: 0,
        times: [Duration::from_millis(500), Duration::from_secs(2)],
    },
    Fate {
        name: "50 ms",
        delay: Duration::from_millis(25),
        lost_of_a_thousand: 0,
        times: [Duration::from_secs(3), Duration::from_secs(4)],
    },
    Fate {
        name: "50 ms, 1 % lost",
        delay: Duration::from_millis(25),
        lost_of_a_thousand: 10,
        times: [Duration::from_secs(2), Duration::from_secs(8)],
    },
];
/// The ends of the path.
const HOSTS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 212, 0, 1), Ipv4Addr::new(10, 212, 0, 2)];
/// Where the server waits for its client, in a namespace of its own.
const TUNNEL_PORT: u16 = 7001;
/// The name of each end of the path, in its namespace.
const LINK: &str = "path";
/// Packets that a device holds until the path takes them: a TCP window's worth, so that the path is no bottleneck.
const LINK_QUEUE: usize = 8192;
