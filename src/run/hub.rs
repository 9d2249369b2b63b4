//! The hub: doors, the tunnel's control and pool, and who gets what. It decides; workers carry.
//!
//! ```text
//!  users --Listeners--> (Sniffing) --> Pool --Grant--> Job::Join        ingress
//!  peer  --Control---> Launch  --> Pool --Grant--> Job::Dial        egress
//!  users --Listeners--> (Sniffing) -----------------> Job::Forward      single-end
//! ```
//!
//! One hub runs on the first worker's thread. The parts of its work are in files of their own: `users` (who comes in),
//! `tunnel` (what both roles have in common), `server` and `client` (what only one of them does), `request` (targets to targets).

pub(in crate::run) mod client;
mod fallback;
pub mod ingress;
pub(in crate::run) mod server;
mod targets;
mod tunnel;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use mio::event::Event;
use mio::Registry;
use signal_hook::consts::SIGHUP;

use self::client::Client;
use self::ingress::Users;
use self::server::Server;
use self::targets::TargetRouter;
use self::tunnel::{Side, Tunnel, Waiting};
use crate::config::Role;
use crate::logic::checkpoint::CheckPoint;
use crate::logic::pool::Pool;
use crate::net::certs::{Audience, Certs};
use crate::run::channel::{Receiver, Sender};
use crate::run::messages::{Home, Job, Notice, User};
use crate::run::shared::Shared;

/// The hub of one instance.
pub struct Hub {
    pub(in crate::run) shared: Arc<Shared>,
    pub(in crate::run) workers: Vec<Sender<Job>>,
    pub(in crate::run) registry: Registry,
    pub(in crate::run) part: Part,
    pub(in crate::run) tunnel: Option<Tunnel>,
    pub(in crate::run) tunnels: u32,
    pub(in crate::run) pool: Pool<Home, Waiting>,
    pub(in crate::run) targets: TargetRouter,
    pub(in crate::run) users: Users,
    inbox: Receiver<Notice>,
    busy: Vec<usize>,
    forwarded: u64,
    stopping: Option<Instant>,
}

/// What this instance is.
pub(in crate::run) enum Part {
    /// A tunnel's server.
    Server(Server),
    /// A tunnel's client.
    Client(Client),
    /// A client that forwards by itself; its certificate, if it ends TLS.
    Single { certs: Option<Certs>, report: Instant, reload: Instant },
}

impl Hub {
    /// A hub that has yet to open its doors. `part` and `entrance` say what it is and where users come in.
    pub(in crate::run) fn new(
        shared: Arc<Shared>,
        workers: Vec<Sender<Job>>,
        registry: Registry,
        inbox: Receiver<Notice>,
        post: Sender<Notice>,
        part: Part,
        now: Instant,
    ) -> Hub {
        let config = &shared.config;
        let pool = Pool::new(workers.len(), config.limits.pool_get, config.limits.semaphore);
        let targets = TargetRouter::new(config, post, now);
        let ends_tls = matches!(&part, Part::Single { certs: Some(_), .. });
        let users = Users::new(shared.clone(), ends_tls);
        let busy = vec![0; workers.len()];
        Hub {
            workers,
            registry,
            part,
            tunnel: None,
            tunnels: 0,
            pool,
            targets,
            users,
            inbox,
            busy,
            forwarded: 0,
            stopping: None,
            shared,
        }
    }

    /// An edge of one of the hub's own sockets.
    pub fn note(&mut self, event: &Event) {
        match &mut self.part {
            Part::Server(server) if event.token().0 == TUNNEL_TOKEN => server.note(),
            _ => self.users.note(event),
        }
    }

    /// One turn: who came, what workers say, and what follows. A code when the program is to end.
    pub fn turn(&mut self, now: Instant) -> Option<ExitCode> {
        while let Some(notice) = self.inbox.next() {
            if let Some(code) = self.hear(notice, now) {
                return Some(code);
            }
        }
        if self.stopping.is_none() {
            self.visit(now);
            self.users.admit(&self.registry, now);
            while let Some(user) = self.users.next() {
                self.welcome(user, now);
            }
            self.users.deliver(&self.workers);
        }
        self.settle(now);
        let done = self.stopping.is_some_and(|until| now >= until || self.users.live() == 0);
        if done {
            log::info!("{} stopped", self.shared.name());
        }
        done.then_some(ExitCode::SUCCESS)
    }

    /// Whether workers, the resolver or the system have said something.
    pub fn has_mail(&self) -> bool {
        self.inbox.has_mail()
    }

    /// Whether more waits at a door.
    pub fn is_busy(&self) -> bool {
        self.stopping.is_none()
            && (self.users.is_busy() || matches!(&self.part, Part::Server(server) if server.is_ready()))
    }

    /// When the clock has something to say.
    pub fn deadline(&self) -> Option<Instant> {
        let part = match &self.part {
            Part::Server(server) => server.deadline(),
            Part::Client(client) => client.deadline(),
            Part::Single { report, reload, certs } => Some(certs.as_ref().map_or(*report, |_| *report.min(reload))),
        };
        let tunnel = self.tunnel.as_ref().and_then(Tunnel::deadline);
        let rest = [self.users.deadline(), part, tunnel, self.pool.deadline(), self.targets.deadline()];
        rest.into_iter().chain([self.stopping]).flatten().min()
    }

    /// What workers, the resolver and the system say.
    fn hear(&mut self, notice: Notice, now: Instant) -> Option<ExitCode> {
        match notice {
            Notice::Asked(home, from, request) => self.asked(home, from, &request, now),
            Notice::Came(home, tunnel, fp) => self.came(home, tunnel, fp, now),
            Notice::Answered(answer) => self.answered(answer, now),
            Notice::Opened(home, tunnel, id, fp) => self.opened(home, tunnel, id, fp, now),
            Notice::Failed(tunnel, why) => self.failed(tunnel, why),
            Notice::Exhausted(tunnel, so) => self.exhausted(tunnel, so),
            Notice::Carried(tunnel) => self.carried(tunnel),
            Notice::Unreached(tunnel, why) => self.unreached(tunnel, why, now),
            Notice::Gone(tunnel, id) => {
                if self.is_current(tunnel) {
                    self.pool.gone(id);
                }
            }
            Notice::Ended(tunnel, id) => {
                if self.is_current(tunnel) {
                    self.pool.ended(id, now);
                }
            }
            Notice::Said(tunnel, bytes) => self.said(tunnel, &bytes, now),
            Notice::Over(tunnel, why) => {
                if self.is_current(tunnel) {
                    self.end_tunnel(&why, now);
                }
            }
            Notice::Returned(home, user) => {
                self.pool.done(home.worker);
                let user = self.users.unsettle(user);
                self.pool.take(Waiting::User(user), now);
            }
            Notice::Started(number, home) => self.targets.started(number, home),
            Notice::Unstarted(number, proto) => {
                if let Some(worker) = self.targets.unstarted(number) {
                    self.busy[worker] -= 1;
                }
                self.users.leave(proto);
            }
            Notice::Done(home, tunnel, proto) => {
                if self.is_current(tunnel) {
                    self.pool.done(home.worker);
                }
                if matches!(self.part, Part::Single { .. }) {
                    self.busy[home.worker] = self.busy[home.worker].saturating_sub(1);
                }
                self.users.leave(proto);
            }
            Notice::Reached(target, took) => self.targets.reached(target, took, now),
            Notice::Missed(target) => self.targets.missed(target, now),
            Notice::Probed(target, took) => {
                self.targets.probed(target, took, now);
                // A check point says that all is well.
                if matches!(self.part, Part::Single { .. }) && self.users.is_open() {
                    self.check_point(took.unwrap_or_default());
                }
            }
            Notice::Resolved(name, answer) => self.targets.resolved(&name, answer, now),
            Notice::Signal(signal) => return self.signalled(signal, now),
        }
        None
    }

    /// A user who may go on: to the pool, or straight to a target.
    fn welcome(&mut self, user: User, now: Instant) {
        match self.part {
            Part::Single { .. } => self.targets.forward(user, now),
            _ => self.pool.take(Waiting::User(user), now),
        }
    }

    /// What follows from all that happened: signals, grants, dials, pool connections.
    fn settle(&mut self, now: Instant) {
        self.obey(now);
        while let Some(grant) = self.pool.poll() {
            match grant.user {
                Waiting::User(user) => self.join(grant.id, grant.home, user),
                Waiting::Launch(launch) => {
                    if self.may_dial(grant.home, &launch) {
                        let framed = self.tunnel.as_ref().is_some_and(Tunnel::framed);
                        self.targets.dial(grant.home, launch, framed, now);
                    }
                }
            }
        }
        while let Some(way) = self.targets.poll(now) {
            self.send_off(way);
        }
        self.refill(now);
        self.obey(now);
    }

    fn join(&mut self, id: crate::logic::wire::Id, home: Home, user: User) {
        let Some(tunnel) = &mut self.tunnel else { return self.users.leave(user.proto()) };
        let udp = matches!(user, User::Udp(..));
        tunnel.launch(udp, user.address(), id);
        let framed = tunnel.framed();
        let user = self.users.settle(user, home);
        self.workers[home.worker].send(Job::Join(home.key, user, framed));
    }

    /// A way to a target is known (or there is none).
    fn send_off(&mut self, way: self::targets::TargetEvent) {
        use self::targets::TargetEvent;
        match way {
            TargetEvent::Dial(home, request, proto) => {
                self.workers[home.worker].send(Job::Dial(home.key, request, proto))
            }
            TargetEvent::Forward(user, request) => {
                let worker = (0..self.busy.len()).min_by_key(|&n| self.busy[n]).unwrap_or_default();
                self.busy[worker] += 1;
                self.forwarded += 1;
                self.targets.sent(self.forwarded, worker, user.proto());
                let tls = match &self.part {
                    Part::Single { certs: Some(certs), .. } => Some(certs.current().config),
                    _ => None,
                };
                self.workers[worker].send(Job::Forward(self.forwarded, user, request, tls));
            }
            TargetEvent::Settle(flow, home) => {
                self.users.settle_flow(&flow, home);
                self.users.deliver(&self.workers);
            }
            TargetEvent::Probe(target, address) => self.workers[0].send(Job::Probe(target, address)),
            TargetEvent::NoneFor(home, proto, why) => {
                log::warn!("No target: {why}");
                if let Some(home) = home {
                    self.pool.done(home.worker);
                    self.workers[home.worker].send(Job::Close(home.key));
                }
                self.users.leave(proto);
            }
        }
    }

    /// What the clock says, and what follows.
    pub fn tick(&mut self, now: Instant) {
        for late in self.pool.expired(now) {
            self.dismiss(late);
        }
        for home in self.pool.unclaimed(now) {
            self.workers[home.worker].send(Job::Close(home.key));
        }
        if self.stopping.is_none() {
            self.users.tick(&self.registry, now);
            self.tick_part(now);
        }
        self.tick_tunnel(now);
        self.targets.tick(now);
        self.settle(now);
    }

    fn tick_part(&mut self, now: Instant) {
        let limits = &self.shared.config.limits;
        match &mut self.part {
            Part::Server(_) => self.tick_server(now),
            Part::Client(_) => self.tick_client(now),
            Part::Single { certs, report, reload } => {
                if now >= *report {
                    *report = now + limits.report;
                    self.targets.probe_any(now);
                }
                if now >= *reload {
                    *reload = now + limits.reload;
                    certs.iter_mut().for_each(reload_certs);
                }
            }
        }
    }

    /// Logs the figures; dashboards read them.
    pub(in crate::run) fn check_point(&self, ping: std::time::Duration) {
        let mode = match (&self.part, &self.tunnel) {
            (Part::Single { .. }, _) => 1,
            (_, Some(Tunnel { side: Side::Ingress, .. })) if self.shared.config.role == Role::Server => 1,
            _ => 2,
        };
        let (tcps, udps) = self.users.counts();
        let [tcprx, tcptx, udprx, udptx] = self.shared.meters.read();
        let figures = CheckPoint {
            mode,
            ping: ping.as_millis() as u64,
            pool: self.pool.idle() as u64,
            tcps: tcps as u64,
            udps: udps as u64,
            tcprx,
            tcptx,
            udprx,
            udptx,
        };
        crate::event!("{figures}");
    }

    fn signalled(&mut self, signal: i32, now: Instant) -> Option<ExitCode> {
        if signal == SIGHUP {
            match &mut self.part {
                Part::Server(server) => server.reload(),
                Part::Single { certs: Some(certs), .. } => reload_certs(certs),
                _ => log::info!("SIGHUP: nothing to load again"),
            }
            return None;
        }
        if self.stopping.is_some() {
            log::warn!("Stopped at once by a second signal");
            return Some(ExitCode::FAILURE);
        }
        let limits = &self.shared.config.limits;
        log::info!("Stopping: {} connections have {:?} to finish", self.users.live(), limits.shutdown);
        self.stopping = Some(now + limits.shutdown);
        self.users.close();
        if let Part::Server(server) = &mut self.part {
            server.close();
        }
        for waiting in self.pool.dismiss() {
            self.dismiss(waiting);
        }
        self.workers.iter().for_each(|worker| worker.send(Job::Drain));
        None
    }

    /// Whether the program is on its way out.
    pub(in crate::run) fn is_stopping(&self) -> bool {
        self.stopping.is_some()
    }
}

/// Looks at the certificate files again, and says what came of it.
pub(in crate::run) fn reload_certs(certs: &mut Certs) {
    match certs.reload() {
        Ok(true) => log::info!("Certificate loaded again: new connections use the new one"),
        Ok(false) => {}
        Err(why) => log::error!("Certificate not loaded again, the old one stays: {why}"),
    }
}

/// The certificate that this configuration asks for, for that audience.
pub(in crate::run) fn certs(
    tls: &crate::config::Tls,
    audience: Audience,
) -> Result<Option<Certs>, crate::error::Error> {
    use crate::config::Tls;
    use crate::net::certs::Origin;
    let origin = match tls {
        Tls::Off => return Ok(None),
        Tls::SelfSigned => Origin::Memory,
        Tls::Files { crt, key } => Origin::Files { crt: crt.clone(), key: key.clone() },
        Tls::Verified => return Err(crate::config::needs_files()),
    };
    Certs::new(origin, audience).map(Some)
}

/// The token of the tunnel's door. Tokens from here on are the hub's, smaller ones the worker's.
pub(in crate::run) const TUNNEL_TOKEN: usize = 1 << 28;
/// Where the tokens of the users' doors begin.
pub(in crate::run) const USERS_TOKEN: usize = TUNNEL_TOKEN + 1;
