//! A server and a client, each with parameters and a key of its own: for tests of what two ends make of each other.

use crate::support::*;
use std::net::SocketAddr;

/// What both ends of a tunnel come to.
pub struct Pair {
    pub user: SocketAddr,
    pub target: Target,
    pub server: Process,
    pub client: Process,
}

impl Pair {
    /// A server and a client with these parameters and keys; users come in at the server.
    pub fn new(server: &str, client: &str, keys: [&str; 2]) -> Pair {
        Pair::with_users_at(Flow::Reverse, server, client, keys)
    }

    /// The same in that flow.
    pub fn with_users_at(flow: Flow, server: &str, client: &str, keys: [&str; 2]) -> Pair {
        let (target, user, at) = (Target::echo(), free_addr(), free_addr());
        let (mode, at_server, at_client) = match flow {
            Flow::Forward => (2, target.addr(), user),
            _ => (1, user, target.addr()),
        };
        let environment = [("NP_SERVICE_COOLDOWN", "500ms")];
        let url = format!("server://{}@{at}/{at_server}?mode={mode}&log=debug&{server}", keys[0]);
        let server = Process::nodepass_with(&[&url], &environment);
        server.says("Waiting for a client", GRACE);
        let url = format!("client://{}@{at}/{at_client}?mode=2&min=4&log=debug&{client}", keys[1]);
        let client = Process::nodepass_with(&[&url], &environment);
        Pair { user, target, server, client }
    }

    /// Waits for the first user.
    pub fn carries(&self) {
        until("a user", GRACE, || exchange(self.user, b"hello"));
    }
}
