//! What signals and the service manager want of an instance: reload, stop, readiness, a sign of life.

use std::process::ExitCode;
use std::time::Instant;

use signal_hook::consts::SIGHUP;

use super::part::Part;
use super::server::Server;
use super::tunnel::Tunnel;
use super::Hub;
use crate::run::messages::Job;

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
        manager.status(match (self.stopping, up) {
            (Some(_), _) => format!("stopping; {} connections have not ended", self.ingress.slots.live()),
            _ if self.part.is_single() => "forwarding".into(),
            (None, 0) => "no tunnel".into(),
            (None, 1) => "a tunnel is up".into(),
            (None, up) => format!("{up} tunnels are up"),
        });
    }

    /// A signal other than those that the log takes.
    pub(super) fn signalled(&mut self, signal: i32, now: Instant) -> Option<ExitCode> {
        if signal == SIGHUP {
            self.part.reload(now);
            self.manager.iter().for_each(|manager| manager.reloaded());
            return None;
        }
        if self.stopping.is_some() {
            log::warn!("Stopped at once by a second signal");
            return Some(ExitCode::FAILURE);
        }
        let limits = &self.shared.config.limits;
        log::info!("Stopping: {} connections have {:?} to finish", self.ingress.slots.live(), limits.shutdown);
        self.stopping = Some(now + limits.shutdown);
        self.manager.iter().for_each(|manager| manager.stopping(limits.shutdown));
        self.ingress.close();
        self.part.server().into_iter().for_each(Server::close);
        for number in self.part.tunnels().map(Tunnel::number).collect::<Vec<_>>() {
            self.part.tunnel(number).into_iter().for_each(Tunnel::drain);
            self.touched.push(number);
        }
        while let Some(user) = self.ingress.waiting.pop() {
            self.refuse(user);
        }
        self.workers.iter().for_each(|worker| worker.send(Job::Drain));
        None
    }
}
