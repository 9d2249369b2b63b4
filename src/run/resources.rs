//! What fits on a small machine: the pool and the users, by the descriptors and the memory that this process may have.
//!
//! ```text
//!  descriptors | our own | strangers, 1/6 | pool, a third of the rest | users and their targets, two each              |
//!  memory      | our own | pool, 1/6 | strangers, 1/12 | datagrams, 1/12 | users, all of them stuck at the same time   |
//! ```
//!
//! Without this a pool of the usual size takes all that a small limit allows, and no user gets in; and some users who do not
//! read take what all the others need.

use super::shared::workers;
use crate::config::{Config, Limits, Mode, Role, Tls};
use crate::net::budget::{Budget, STUCK};
use crate::net::udp::conduit_size;
use crate::net::{cgroup, sys};

/// What this process may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resources {
    /// Open files at once.
    pub descriptors: usize,
    /// Bytes of memory.
    pub memory: usize,
}

/// What was made to fit.
#[derive(Debug, PartialEq, Eq)]
pub struct Fitted {
    /// What each thing may take.
    pub budget: Budget,
    /// The parameters that say how much there may be of pool and users.
    pub limits: Vec<Fit>,
    resources: Resources,
}

/// A parameter, and what of it fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fit {
    /// Its name.
    pub name: &'static str,
    /// What was asked for; `None` for no limit.
    pub asked: Option<usize>,
    /// What is had.
    pub had: Option<usize>,
}

impl Fit {
    /// Whether it is less than was asked for.
    pub fn is_lowered(&self) -> bool {
        self.had != self.asked
    }
}

impl Fitted {
    /// A line for the user, if anything is less than was asked for: how much of what, and why.
    pub fn line(&self) -> Option<String> {
        let lowered: Vec<String> = self
            .limits
            .iter()
            .filter(|fit| fit.is_lowered())
            .filter_map(|Fit { name, asked, had }| Some(format!("{name}={} instead of {}", (*had)?, (*asked)?)))
            .collect();
        let Resources { descriptors, memory } = self.resources;
        let mib = memory / MIB;
        let why = format!("{descriptors} open files and {mib} MiB of memory may be used (ulimit -n, the memory limit)");
        (!lowered.is_empty()).then(|| format!("{}: {why}", lowered.join(" and ")))
    }
}

impl Resources {
    /// The limits of this process; of a machine's memory the half, of a control group's three quarters, as the kernel's own
    /// buffers for our sockets count there too.
    pub fn here() -> Resources {
        let memory = sys::memory_limit().min(sys::memory_of_machine() / 2).min(cgroup::memory_limit() / 4 * 3);
        Resources { descriptors: sys::descriptor_limit(), memory }
    }

    /// Whether all threads should have one heap: each of glibc's takes 64 MiB of address space.
    pub fn wants_one_heap(self) -> bool {
        self.is_tiny() || sys::is_space_limited()
    }

    /// Whether memory is so scarce that one thread has to do.
    fn is_tiny(self) -> bool {
        self.memory < TINY
    }

    /// Lowers the pool (`min`, `max`) and `slot` to what fits, and says so in a line for the user if it did. `slot=0`, no
    /// limit, is the user's own wish and stays, and so does any where [`PLENTY`] fit. A client's `max` becomes the largest
    /// pool it can hold, whatever the server says.
    pub fn fit(self, config: &mut Config) -> Fitted {
        if config.role == Role::Master {
            return Fitted { budget: Budget::PLENTY, limits: Vec::new(), resources: self };
        }
        if self.is_tiny() {
            config.limits.workers = Some(1);
            config.limits.tcp_buffer = config.limits.tcp_buffer.min(TINY_BUFFER);
        }
        let scarce = self.memory < SCARCE;
        let spare = self.descriptors.saturating_sub(OWN_DESCRIPTORS);
        // Only a server has a port where every program may come.
        let strangers = if config.role == Role::Server { spare / 6 } else { 0 };
        let spare = spare - strangers;
        let memory = self.memory.saturating_sub(OWN_MEMORY);
        let (idle, busy) = costs(config);
        let (pool_fits, users_fit) = match scarce {
            true => (memory / 6 / idle, memory / 3 * 2 / busy),
            false => (memory / 3 / idle, memory / 3 * 2 / idle),
        };
        // Streams of a shared connection need no descriptors.
        let files = if config.transport.is_shared() { usize::MAX } else { spare / 3 };
        let pool = files.min(pool_fits).max(1);
        let slots = ((spare - spare / 3) / 2).min(users_fit);
        // A fifth of them is for new UDP sessions, which are a quarter of the others.
        let slots = if config.udp { slots - slots / 5 } else { slots }.max(1);
        let budget = match scarce {
            true => {
                let users = config.slot.unwrap_or(usize::MAX).min(slots);
                let datagrams = conduit_size(config.limits.udp_buffer);
                Budget::scarce(memory, users, pool.min(config.max), workers(config), datagrams)
            }
            false => Budget::PLENTY,
        };
        let budget = match config.role {
            Role::Server => budget.with_descriptors(strangers, self.descriptors / 8, workers(config)),
            _ => budget,
        };

        let before = (config.min, config.max, config.slot);
        match config.role {
            Role::Server => config.max = config.max.min(pool),
            _ => (config.min, config.max) = (config.min.min(pool), pool),
        }
        if slots < PLENTY {
            config.slot = config.slot.map(|slot| slot.min(slots));
        }
        let pool = match config.role {
            Role::Server => Some(Fit { name: "max", asked: Some(before.1), had: Some(config.max) }),
            // It has no pool.
            _ if config.mode == Mode::One => None,
            _ => Some(Fit { name: "min", asked: Some(before.0), had: Some(config.min) }),
        };
        let slot = Fit { name: "slot", asked: before.2, had: config.slot };
        Fitted { budget, limits: pool.into_iter().chain([slot]).collect(), resources: self }
    }
}

/// Bytes of an idle pool connection, and of a user for whom as much waits as may, both targets.
fn costs(config: &Config) -> (usize, usize) {
    let Limits { tcp_buffer, .. } = config.limits;
    // A client learns from the server whether its pool is encrypted, unless it has none.
    let has_pool = config.role == Role::Server || config.mode != Mode::One;
    match config.tls {
        Tls::Off if config.role == Role::Server || !has_pool => (PLAIN, PLAIN + STUCK),
        _ => (ENCRYPTED, ENCRYPTED + STUCK + 3 * tcp_buffer),
    }
}

/// Descriptors that are no connection's: standard streams, event queues, wakers, signals, listeners, the control connection, names,
/// a certificate being read, and some to spare.
const OWN_DESCRIPTORS: usize = 28;
/// Where so many users fit, a lack of more shows when a user is accepted.
const PLENTY: usize = 4096;
/// With less memory than this, users may not take more of it together than there is; with more, most of them are idle.
const SCARCE: usize = 128 * MIB;
/// With less than this, one thread and small buffers.
const TINY: usize = 32 * MIB;
/// Bytes of a relay's buffer then.
const TINY_BUFFER: usize = 8 * 1024;
/// Bytes of the process itself, before any connection.
const OWN_MEMORY: usize = 4 * MIB;
/// Bytes for a plain connection, idle or relayed by the kernel.
const PLAIN: usize = 2 * 1024;
/// Bytes for an encrypted one, most of them idle.
const ENCRYPTED: usize = 16 * 1024;
const MIB: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{parse, Command};

    fn config(url: &str) -> Config {
        match parse(&[url.to_string()], &|_| None).unwrap().command {
            Command::Run(config) => *config,
            other => panic!("{other:?}"),
        }
    }

    const SERVER: &str = "server://k@127.0.0.1:1/127.0.0.1:2?max=1024&tls=1";
    const CLIENT: &str = "client://k@127.0.0.1:1/127.0.0.1:2?min=64";

    #[test]
    fn a_large_machine_changes_nothing() {
        for url in [SERVER, CLIENT] {
            let (mut fitted, asked) = (config(url), config(url));
            let resources = Resources { descriptors: 1 << 20, memory: usize::MAX };
            let all = resources.fit(&mut fitted);
            assert_eq!((all.budget, all.line()), (Budget::PLENTY, None));
            assert_eq!((fitted.min, fitted.slot), (asked.min, asked.slot));
        }
    }

    #[test]
    fn a_pool_leaves_descriptors_for_users_and_their_targets() {
        let resources = Resources { descriptors: 64, memory: usize::MAX };
        let (mut server, mut client) = (config(SERVER), config(CLIENT));
        let line = resources.fit(&mut server).line().unwrap();
        let why = "instead of 65536: 64 open files";
        assert!(line.starts_with(&format!("max=10 instead of 1024 and slot=8 {why}")), "{line}");
        let line = resources.fit(&mut client).line().unwrap();
        assert!(line.starts_with(&format!("min=12 instead of 64 and slot=10 {why}")), "{line}");
        assert_eq!((server.max, server.slot), (10, Some(8)));
        assert_eq!((client.min, client.max, client.slot), (12, 12, Some(10)));
        let budget = resources.fit(&mut config(SERVER)).budget;
        let strangers = workers(&server) * (budget.strangers + budget.kept) + budget.accepts;
        assert!(strangers <= 64 / 4 || workers(&server) > 2, "{budget:?}");
        assert!(
            OWN_DESCRIPTORS + server.max + 2 * (server.slot.unwrap() + server.new_sessions().unwrap()) <= 64 - 36 / 6
        );
    }

    #[test]
    fn users_fit_into_a_small_memory_even_if_none_of_them_reads() {
        for mib in [16, 24, 64, 100] {
            let mut server = config(SERVER);
            let all = Resources { descriptors: 1 << 20, memory: mib * MIB }.fit(&mut server);
            assert!(all.line().is_some());
            let budget = all.budget;
            let (slots, workers) = (server.slot.unwrap(), workers(&server));
            let (idle, busy) = costs(&server);
            let datagrams = budget.datagram_buffers * conduit_size(server.limits.udp_buffer);
            let whole = slots * busy + server.max * idle + workers * datagrams + OWN_MEMORY;
            assert!(slots > 4 * mib && whole <= mib * MIB, "{mib}: {slots} users, {whole} bytes, {budget:?}");
            assert!(workers == 1 || mib >= 32);
        }
    }

    #[test]
    fn a_plain_forwarder_has_room_for_more() {
        let (mut plain, mut tunnel) = (config("client://127.0.0.1:1/127.0.0.1:2?mode=1"), config(CLIENT));
        for config in [&mut plain, &mut tunnel] {
            Resources { descriptors: 1 << 20, memory: 16 * MIB }.fit(config);
        }
        assert!(plain.slot > tunnel.slot.map(|slot| 2 * slot), "{:?} {:?}", plain.slot, tunnel.slot);
    }

    #[test]
    fn the_smallest_room_still_holds_one_of_each_and_no_limit_stays_none() {
        let mut server = config("server://k@127.0.0.1:1/127.0.0.1:2?slot=0");
        assert!(Resources { descriptors: 0, memory: 0 }.fit(&mut server).line().is_some());
        assert_eq!((server.max, server.slot), (1, None));
    }
}
