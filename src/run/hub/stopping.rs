//! How a tunnel ends, and the instance: on a signal it lets connections finish first, at its master's word it does not.
//!
//! ```text
//!  signal --> Draining --no TCP users, or time over--> Closing --every worker has ended everything--> exit
//!  the master's word, a second signal ------------------^
//! ```
//!
//! A UDP session has no end of its own, so it is not waited for.

pub(in crate::run) mod succession;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};

use self::succession::Succession;
use super::out::EndReason;
use super::reports::ended;
use super::server::Server;
use super::tunnel::Tunnel;
use super::Hub;
use crate::logic::terms::TunnelNo;
use crate::run::messages::Job;

/// A stage of the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stopping {
    /// Connections may finish. A signal told so, or another process has the ports.
    Draining { until: Instant, told: Option<Instant> },
    /// Workers end what is left. So many have not done so yet.
    Closing { until: Instant, workers: usize, code: u8 },
}

impl Stopping {
    /// When it goes on, whatever else happens.
    pub fn deadline(self) -> Instant {
        match self {
            Stopping::Draining { until, .. } | Stopping::Closing { until, .. } => until,
        }
    }
}

impl Hub {
    /// A signal came.
    pub(super) fn signalled(&mut self, signal: i32, now: Instant) {
        if signal == SIGHUP {
            return self.hung_up(now);
        }
        self.succession.iter_mut().for_each(|succession| succession.pass(signal));
        // A master that asks one to leave has told the last one that it is over.
        if self.shared.held && self.has_handed_on() && [SIGTERM, SIGINT].contains(&signal) {
            return self.stop(now);
        }
        let limits = &self.shared.config.limits;
        let follows = self.succession.as_ref().is_some_and(Succession::follows);
        match &mut self.stopping {
            _ if [SIGUSR1, SIGUSR2].contains(&signal) => {}
            None => {
                let (tcps, _) = self.ingress.slots.counts();
                log::info!("Stopping: {tcps} connections have {:?} to finish", limits.shutdown);
                self.stopping = Some(Stopping::Draining { until: now + limits.shutdown, told: Some(now) });
                self.manager.iter().for_each(|manager| manager.stopping(limits.shutdown));
                self.leave(Tunnel::drain);
                self.workers.iter().for_each(|worker| worker.send(Job::Drain));
            }
            Some(Stopping::Draining { until, told: told @ None }) => {
                (*until, *told) = ((now + limits.shutdown).min(*until), Some(now));
            }
            // A service manager tells all processes, and the first one passes on what it hears.
            Some(Stopping::Draining { told: Some(told), .. }) if follows && now < *told + ECHO => {}
            Some(Stopping::Draining { .. }) => {
                log::warn!("Stopped at once by a second signal");
                self.close(1, now);
            }
            // It takes no time worth waiting for, and a master signals after it has said so.
            Some(Stopping::Closing { .. }) => {}
        }
    }

    /// The master says that it is over. The signal that follows is for those who do not hear that.
    pub(in crate::run) fn stop(&mut self, now: Instant) {
        if matches!(self.stopping, Some(Stopping::Closing { .. })) {
            return;
        }
        let (tcps, udps) = self.ingress.slots.counts();
        log::info!("Stopping at once: {tcps} connections and {udps} UDP sessions end");
        self.close(0, now);
    }

    /// Whether the program is on its way out.
    pub fn is_stopping(&self) -> bool {
        self.stopping.is_some()
    }

    /// A worker has ended everything.
    pub(super) fn worker_stopped(&mut self) {
        if let Some(Stopping::Closing { workers, .. }) = &mut self.stopping {
            *workers = workers.saturating_sub(1);
        }
    }

    /// The exit code, when everything has ended.
    pub(super) fn finished(&mut self, now: Instant) -> Option<ExitCode> {
        let stopping = self.stopping?;
        let is_over = now >= stopping.deadline();
        match stopping {
            Stopping::Draining { .. } => {
                if is_over || !self.carries() {
                    self.close(0, now);
                }
                None
            }
            Stopping::Closing { workers, code, .. } => {
                let done = is_over || workers == 0;
                match self.succession.as_ref().is_some_and(Succession::is_over) {
                    _ if !done => {}
                    true => log::info!("Nobody is left in this process"),
                    false => log::info!(event = "stopped"; "{} stopped", self.shared.name()),
                }
                done.then(|| self.exit_code(code))
            }
        }
    }

    /// A tunnel is over: its pool ends with it, and the relays that cannot go on without it; users wait for another.
    pub(super) fn end_tunnel(&mut self, number: TunnelNo, reason: &EndReason, now: Instant) {
        let hears_goodbye = self.part.tunnel(number).is_some_and(|tunnel| tunnel.hears_goodbye());
        let Some(peer) = self.part.end(number, reason, now) else { return };
        self.shared.stats.add(ended(reason), 1);
        self.deadlines.set(number, None);
        let survivors = reason.survivors(self.stopping.is_some(), hears_goodbye);
        // Users of the peer's whose launch came with the end are on their way before it.
        while let Some(event) = self.targets.poll(now) {
            self.dispatch(event);
        }
        for worker in 0..self.workers.len() {
            self.out.job(worker, Job::End { tunnel: number, survivors });
        }
        self.ingress.waiting.shrink();
        if self.stopping.is_none() {
            log::log!(reason.level(), event = "tunnel_down", peer:% = peer; "Tunnel with {peer} ended: {reason}");
        }
    }

    /// Ends what is left: peers hear it first.
    pub(super) fn close(&mut self, code: u8, now: Instant) {
        self.stopping = Some(Stopping::Closing { until: now + CLOSING, workers: self.workers.len(), code });
        self.leave(Tunnel::leave);
        self.carry_out(now);
        self.workers.iter().for_each(|worker| worker.send(Job::Stop));
    }

    /// No new connections come in, and peers are told.
    pub(super) fn leave(&mut self, tell: fn(&mut Tunnel)) {
        self.ingress.close();
        self.part.server().into_iter().for_each(Server::close);
        for number in self.part.tunnels().map(Tunnel::number).collect::<Vec<_>>() {
            self.part.tunnel(number).into_iter().for_each(tell);
            self.touched.push(number);
        }
        while let Some(user) = self.ingress.waiting.pop() {
            self.refuse(user);
        }
    }
}

/// A signal that comes so soon after the first one is the same.
const ECHO: Duration = Duration::from_secs(1);
/// How long workers may take to end what is left. They need one turn; one that is stuck is not waited for.
const CLOSING: Duration = Duration::from_millis(300);
