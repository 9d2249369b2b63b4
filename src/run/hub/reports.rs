//! What an instance reports of itself, once a report interval: a check point, and its figures for its master or for a program that asks.

use std::time::{Duration, Instant};

use super::out::EndReason;
use super::part::Part;
use super::tunnel::Tunnel;
use super::Hub;
use crate::log as lines;
use crate::logic::checkpoint::CheckPoint;
use crate::logic::control::Why;
use crate::logic::metrics::Figure;
use crate::logic::terms::TunnelNo;

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
    pub(super) fn check_point(&mut self, ping: Duration) {
        // Readers of figures are told by the process that has the ports.
        if self.has_handed_on() || !self.shared.config.limits.check_point && !self.shared.held {
            return;
        }
        let figures = self.figures(ping);
        self.told = figures.bytes();
        crate::event!(event = "check_point"; "{figures}");
    }

    fn figures(&self, ping: Duration) -> CheckPoint {
        let pool = self.part.tunnels().map(Tunnel::idle).sum();
        self.shared.stats.check_point(self.part.mode(), ping, pool, self.ingress.slots.counts())
    }

    /// Bytes so far, as in a check point.
    pub(super) fn counted(&self) -> [u64; 4] {
        self.figures(Duration::ZERO).bytes()
    }

    /// Measures what goes up and down, once a report interval if any program wants it, and tells the master.
    pub(super) fn measure_if_due(&mut self, now: Instant) {
        if self.measured.is_none_or(|due| now < due) {
            return;
        }
        self.measured = Some(now + self.shared.config.limits.report);
        self.measure();
        if self.shared.held && !self.has_handed_on() {
            lines::tell(&self.shared.stats.figures().to_string());
        }
    }

    fn measure(&self) {
        let stats = &self.shared.stats;
        let (tcp, udp) = self.ingress.slots.counts();
        let up = || self.part.tunnels().filter(|tunnel| tunnel.is_proven());
        let ready = match &self.part {
            Part::Single(_) => self.ingress.is_open(),
            Part::Server(_) | Part::Client(_) => up().next().is_some(),
        };
        let rtt = up().map(Tunnel::rtt).max().unwrap_or_default();
        for (figure, value) in [
            (Figure::TcpUsers, tcp),
            (Figure::UdpUsers, udp),
            (Figure::PoolIdle, self.part.tunnels().map(Tunnel::idle).sum()),
            (Figure::PoolOpening, self.part.tunnels().map(Tunnel::opening).sum()),
            (Figure::Tunnels, up().count()),
            (Figure::Ready, usize::from(ready)),
            (Figure::Bans, self.part.bans()),
        ] {
            stats.set(figure, value as u64);
        }
        stats.set(Figure::RoundTrip, rtt.as_micros() as u64);
        stats.set(Figure::LogLinesLost, lines::lost_lines());
        stats.set(Figure::CertificateEnd, self.part.certificate_end());
    }

    /// A tunnel's peer is who it says.
    pub(super) fn count_handshake(&mut self, number: TunnelNo) {
        let original = self.part.tunnel(number).is_some_and(|tunnel| tunnel.terms().features.is_empty());
        self.shared.stats.add(if original { Figure::HandshakesOriginal } else { Figure::HandshakesOwn }, 1);
    }
}

/// What counts a tunnel that ended for this reason.
pub(super) fn ended(reason: &EndReason) -> Figure {
    match reason {
        EndReason::Control(Why::Silence(_)) => Figure::EndedSilent,
        EndReason::Control(Why::Goodbye) => Figure::EndedGoodbye,
        EndReason::Control(Why::Taken { .. }) | EndReason::TakenOver { .. } => Figure::EndedTakenOver,
        EndReason::Control(Why::Noise | Why::Forged | Why::Unheard(_) | Why::Mismatch { .. }) => Figure::EndedWrong,
        EndReason::Lost(_) => Figure::EndedLost,
        EndReason::NoConnection => Figure::EndedUnused,
    }
}
