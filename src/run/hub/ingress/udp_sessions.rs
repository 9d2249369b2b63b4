//! UDP sessions at the side where users come in.

use std::collections::HashMap;

use crate::run::messages::{Home, SessionKey};

/// UDP sessions at the ingress, by who talks to which of our addresses.
#[derive(Default)]
pub struct Sessions {
    live: HashMap<SessionKey, Place>,
}

/// Where a session's datagrams go.
pub enum Place {
    /// Nowhere yet: they wait for a connection.
    Waiting(Vec<Vec<u8>>),
    /// To this task.
    At(Home),
}

impl Sessions {
    /// The session of that key.
    pub fn get(&mut self, key: &SessionKey) -> Option<&mut Place> {
        self.live.get_mut(key)
    }

    /// A new session whose first datagram this is.
    pub fn begin(&mut self, key: SessionKey, packet: Vec<u8>) {
        self.live.insert(key, Place::Waiting(vec![packet]));
    }

    /// The session has a task from now on; the datagrams that waited for it.
    pub fn bind(&mut self, key: &SessionKey, home: Home) -> Vec<Vec<u8>> {
        match self.live.get_mut(key).map(|place| std::mem::replace(place, Place::At(home))) {
            Some(Place::Waiting(packets)) => packets,
            _ => Vec::new(),
        }
    }

    /// The session has ended; whether there was one.
    pub fn end(&mut self, key: &SessionKey) -> bool {
        let was_live = self.live.remove(key).is_some();
        if self.live.len() < self.live.capacity() / 8 {
            self.live.shrink_to(MAX_WAITING);
        }
        was_live
    }

    /// The connection died before the session began: its datagrams wait again.
    pub fn unbind(&mut self, key: &SessionKey, packets: Vec<Vec<u8>>) {
        self.live.insert(*key, Place::Waiting(packets));
    }
}

impl Place {
    /// A datagram that waits; too many are dropped, as the network would.
    pub fn keep(packets: &mut Vec<Vec<u8>>, packet: Vec<u8>) {
        let bytes: usize = packets.iter().map(Vec::len).sum();
        if packets.len() < MAX_WAITING && bytes + packet.len() <= MAX_WAITING_BYTES {
            packets.push(packet);
        }
    }
}

/// Most datagrams that wait for a session's connection, besides the first.
const MAX_WAITING: usize = 64;
/// Their bytes at most.
const MAX_WAITING_BYTES: usize = 128 * 1024;
