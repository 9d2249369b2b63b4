//! What the service manager wants of an instance: readiness, a sign of life, how it is.

use std::time::Instant;

use super::part::Part;
use super::Hub;
use crate::notify::ServiceStatus;

impl Hub {
    /// Whether it is known where users come in: a client hears that of its server.
    pub(in crate::run) fn knows_its_ports(&self) -> bool {
        !matches!(self.part, Part::Client(_))
    }

    /// Whether all ports are open that should be by now.
    pub(in crate::run) fn is_open(&self) -> bool {
        let listens = match &self.part {
            Part::Server(server) => server.is_open(),
            Part::Client(_) | Part::Single(_) => true,
        };
        listens && !self.ingress.is_closed()
    }

    /// That the ports are open, a sign of life when it is due, and how the tunnels are.
    pub(super) fn tell_manager(&mut self, now: Instant) {
        let listens = self.is_open();
        let Some(manager) = &mut self.manager else { return };
        if listens {
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
