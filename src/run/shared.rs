//! What every thread of an instance shares.

use std::sync::atomic::AtomicUsize;

use crate::config::{Config, Role};
use crate::logic::timers::Bucket;
use crate::net::budget::Budget;
use crate::net::inherited::Inherited;
use crate::net::tcp::SocketKeepalive;
use crate::run::stats::Stats;

/// What every thread of an instance shares: what never changes, and counters.
pub struct Shared {
    /// The whole configuration.
    pub config: Config,
    /// What each kind of thing may take of the memory.
    pub budget: Budget,
    /// How TCP connections with users and targets are kept alive.
    pub keepalive: SocketKeepalive,
    /// How those between server and client are: they wait in the pool, and a NAT between forgets them sooner.
    pub tunnel_keepalive: SocketKeepalive,
    /// What is counted and measured.
    pub stats: Stats,
    /// Connections that were taken from the tunnel's port and that no worker has begun with: their descriptors are in no other count.
    pub untold: AtomicUsize,
    /// The rate limit from users to targets.
    pub up: Option<Bucket>,
    /// The rate limit from targets to users.
    pub down: Option<Bucket>,
    /// Sockets of the process before this one.
    pub inherited: Inherited,
    /// Whether a master holds this instance and reads its log.
    pub held: bool,
}

impl Shared {
    /// What this instance is called in the log.
    pub fn name(&self) -> &'static str {
        match self.config.role {
            Role::Server => "Server",
            Role::Client => "Client",
            Role::Master => "Master",
        }
    }

    /// How many workers: as configured, else one a core.
    pub fn workers(&self) -> usize {
        workers(&self.config)
    }
}

/// How many workers an instance has: as configured, else one a core.
pub fn workers(config: &Config) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    config.limits.workers.unwrap_or_else(cores).clamp(1, MAX_WORKERS)
}

/// Most workers, and so threads, of one instance.
const MAX_WORKERS: usize = 64;
