//! What fits on a small machine: the pool and the users, by the descriptors and the memory that this process may have.
//!
//! ```text
//!  descriptors | our own | pool, a third of the rest | users and their targets, two each |
//! ```
//!
//! Without this a pool of the usual size takes all that a small limit allows, and no user gets in.

use crate::config::{Config, Role, Tls};
use crate::net::sys;

/// What this process may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Open files at once.
    pub descriptors: usize,
    /// Bytes of memory.
    pub memory: usize,
}

impl Room {
    /// The limits of this process; of a machine's memory the half.
    pub fn here() -> Room {
        Room { descriptors: sys::descriptor_limit(), memory: sys::memory_limit().min(sys::memory_of_machine() / 2) }
    }

    /// Lowers the pool (`min`, `max`) and `slot` to what fits, and says so in a line for the user if it did. `slot=0`, no
    /// limit, is the user's own wish and stays, and so does any where [`PLENTY`] fit. A client's `max` becomes the largest
    /// pool it can hold, whatever the server says.
    pub fn fit(self, config: &mut Config) -> Option<String> {
        if config.role == Role::Master {
            return None;
        }
        let spare = self.descriptors.saturating_sub(OWN_DESCRIPTORS);
        let cost = match (&config.tls, config.role) {
            // A client learns from the server whether its pool is encrypted.
            (Tls::Off, Role::Server) => PLAIN,
            _ => ENCRYPTED,
        };
        let memory = self.memory.saturating_sub(OWN_MEMORY) / cost;
        // Streams of a shared connection need no descriptors.
        let files = if config.transport.is_shared() { usize::MAX } else { spare / 3 };
        let pool = files.min(memory / 3).max(1);
        let slots = ((spare - spare / 3) / 2).min(memory - memory / 3).max(1);

        let before = (config.min, config.max, config.slot);
        match config.role {
            Role::Server => config.max = config.max.min(pool),
            _ => (config.min, config.max) = (config.min.min(pool), pool),
        }
        if slots < PLENTY {
            config.slot = config.slot.map(|slot| slot.min(slots));
        }
        let lowered = match config.role {
            Role::Server => before != (config.min, config.max, config.slot),
            _ => (before.0, before.2) != (config.min, config.slot),
        };
        let Room { descriptors, memory } = self;
        let mib = memory / MIB;
        lowered.then(|| {
            format!("Room for a pool of {pool} and {slots} users: {descriptors} open files, {mib} MiB of memory")
        })
    }
}

/// Descriptors that are no connection's: standard streams, event queues, bells, signals, doors, the control connection, names,
/// a certificate being read, and some to spare.
const OWN_DESCRIPTORS: usize = 28;
/// Where so many users fit, a lack of more is for the door to see and tell.
const PLENTY: usize = 4096;
/// Bytes of the process itself, before any connection.
const OWN_MEMORY: usize = 6 * MIB;
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
            assert_eq!(Room { descriptors: 1 << 20, memory: usize::MAX }.fit(&mut fitted), None);
            assert_eq!((fitted.min, fitted.slot), (asked.min, asked.slot));
        }
    }

    #[test]
    fn a_pool_leaves_descriptors_for_users_and_their_targets() {
        let room = Room { descriptors: 64, memory: usize::MAX };
        let (mut server, mut client) = (config(SERVER), config(CLIENT));
        let line = room.fit(&mut server).unwrap();
        assert!(line.contains("64 open files"), "{line}");
        assert!(room.fit(&mut client).is_some());
        assert_eq!((server.max, server.slot), (12, Some(12)));
        assert_eq!((client.min, client.max, client.slot), (12, 12, Some(12)));
        assert!(OWN_DESCRIPTORS + server.max + 2 * server.slot.unwrap() <= 64);
    }

    #[test]
    fn connections_fit_into_the_memory() {
        let mut server = config(SERVER);
        assert!(Room { descriptors: 1 << 20, memory: 16 * MIB }.fit(&mut server).is_some());
        let slots = server.slot.unwrap();
        assert!(slots > 100 && (server.max + slots) * ENCRYPTED + OWN_MEMORY <= 16 * MIB, "{slots}");
    }

    #[test]
    fn the_smallest_room_still_holds_one_of_each_and_no_limit_stays_none() {
        let mut server = config("server://k@127.0.0.1:1/127.0.0.1:2?slot=0");
        assert!(Room { descriptors: 0, memory: 0 }.fit(&mut server).is_some());
        assert_eq!((server.max, server.slot), (1, None));
    }
}
