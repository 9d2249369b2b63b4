//! What an instance reports of itself, once a report interval: the figures of a check point.

use std::time::{Duration, Instant};

use super::tunnel::Tunnel;
use super::Hub;

impl Hub {
    /// A tunnel's peer has answered a ping: a check point once a report interval, whatever the number of tunnels.
    pub(super) fn tunnel_reported(&mut self, now: Instant) {
        let report = self.shared.config.limits.report;
        let many = self.part.tunnels().nth(1).is_some();
        if many && self.reported.is_some_and(|last| now.saturating_duration_since(last) < report - report / 4) {
            return;
        }
        self.reported = Some(now);
        self.check_point(self.part.tunnels().map(Tunnel::rtt).max().unwrap_or_default());
    }

    /// Logs the figures; dashboards read them.
    pub(super) fn check_point(&self, ping: Duration) {
        if !self.shared.config.limits.check_point && !self.held {
            return;
        }
        let pool = self.part.tunnels().map(Tunnel::idle).sum();
        let users = self.ingress.slots.counts();
        let figures = self.shared.meters.check_point(self.part.mode(), ping, pool, users);
        crate::event!(event = "check_point"; "{figures}");
    }
}
