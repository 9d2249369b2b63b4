//! What the service manager wants of an instance: readiness, a sign of life, how it is.

use std::time::Instant;

use super::part::Part;
use super::Hub;
use crate::notify::ServiceStatus;

impl Hub {
    /// That the ports are open, a sign of life when it is due, and how the tunnels are.
    pub(super) fn tell_manager(&mut self, now: Instant) {
        let Some(manager) = &mut self.manager else { return };
        let listens = match &self.part {
            Part::Server(server) => server.is_open(),
            Part::Client(_) | Part::Single(_) => true,
        };
        if listens && !self.ingress.is_closed() {
            manager.ready();
        }
        manager.alive(now);
        let up = self.part.tunnels().filter(|tunnel| tunnel.is_proven()).count();
        manager.status(match self.stopping {
            Some(_) => ServiceStatus::Stopping(self.ingress.slots.live()),
            None if self.part.is_single() => ServiceStatus::Forwarding,
            None => ServiceStatus::Tunnels(up),
        });
    }
}
