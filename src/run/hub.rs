//! The hub of an instance: routes what happens to the part that it is about.
//!
//! ```text
//!  users --Ingress--> Waiting --Tunnel::take-------> Job::Join        ingress
//!  peer  --Tunnel (control, pool)--> TargetRouter --> Job::Dial       egress
//!  users --Ingress--> TargetRouter -----------------> Job::Forward    single-end
//! ```
//!
//! One hub runs on the first worker's thread. It decides; workers carry.

pub(in crate::run) mod certificates;
pub(in crate::run) mod client;
mod fallback;
mod handshakes;
pub mod ingress;
mod opener;
mod out;
pub(in crate::run) mod part;
mod reports;
pub(crate) mod route;
pub(in crate::run) mod server;
mod service;
pub(in crate::run) mod single;
pub(in crate::run) mod stopping;
mod targets;
mod tunnel;
mod users;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use mio::event::Event;
use mio::Registry;

use self::ingress::Ingress;
use self::out::{Action, Out};
use self::part::Part;
use self::stopping::succession::Succession;
use self::stopping::Stopping;
use self::targets::TargetRouter;
use self::tunnel::Tunnel;
use crate::logic::deadlines::Deadlines;
use crate::logic::guard::Source;
use crate::logic::metrics::Figure;
use crate::logic::terms::TunnelNo;
use crate::notify::ServiceManager;
use crate::run::channel::{Receiver, Sender};
use crate::run::messages::{Home, Job, Notice, TunnelEvent};
use crate::run::shared::Shared;
use crate::run::user::User;
use crate::{code_pages, heap};

/// The hub of one instance.
pub struct Hub {
    shared: Arc<Shared>,
    workers: Vec<Sender<Job>>,
    registry: Arc<Registry>,
    inbox: Receiver<Notice>,
    part: Part,
    targets: TargetRouter,
    ingress: Ingress,
    out: Out,
    /// Tunnels that something happened to in this turn.
    touched: Vec<TunnelNo>,
    /// Tunnels whose clients have just proven who they are.
    proven: Vec<TunnelNo>,
    deadlines: Deadlines<TunnelNo>,
    /// The number of the last tunnel.
    tunnels: TunnelNo,
    reported: Option<Instant>,
    /// Bytes that the last check point told of.
    told: [u64; 4],
    stopping: Option<Stopping>,
    succession: Option<Succession>,
    /// When the figures are next measured, if any program wants them.
    measured: Option<Instant>,
    manager: Option<ServiceManager>,
}

impl Hub {
    /// A hub whose users come in nowhere yet: see [`Hub::ingress`].
    pub(in crate::run) fn new(
        shared: Arc<Shared>,
        workers: Vec<Sender<Job>>,
        registry: Arc<Registry>,
        inbox: Receiver<Notice>,
        sender: Sender<Notice>,
        part: Part,
        now: Instant,
    ) -> Hub {
        let targets = TargetRouter::new(&shared.config, sender, now);
        let ends_tls = matches!(&part, Part::Single(single) if single.ends_tls());
        let ingress = Ingress::new(shared.clone(), ends_tls);
        let out = Out::new(workers.len(), Box::new(out::random_id));
        Hub {
            workers,
            registry,
            inbox,
            part,
            targets,
            ingress,
            out,
            touched: Vec::new(),
            proven: Vec::new(),
            deadlines: Deadlines::default(),
            // Not from the start: what is left of a client of this server's last run must not fit the next one's tunnel.
            tunnels: u32::from_be_bytes(out::random_id().0),
            reported: None,
            told: [0; 4],
            stopping: None,
            succession: None,
            measured: (shared.held || shared.config.metrics.is_some()).then_some(now),
            manager: ServiceManager::from_environment(now),
            shared,
        }
    }

    /// Where users come in, and how to register that.
    pub(in crate::run) fn ingress(&mut self) -> (&mut Ingress, &Arc<Registry>) {
        (&mut self.ingress, &self.registry)
    }

    /// Whether there is no tunnel.
    pub(in crate::run) fn is_single(&self) -> bool {
        self.part.is_single()
    }

    /// An edge of one of the hub's own sockets.
    pub fn note(&mut self, event: &Event) {
        match &mut self.part {
            Part::Server(server) if event.token().0 == TUNNEL_TOKEN => server.note(),
            _ => self.ingress.note(event),
        }
    }

    /// One turn: connections that came, what workers say, and what follows. A code when the program is to end.
    pub fn turn(&mut self, now: Instant) -> Option<ExitCode> {
        for _ in 0..MAX_NOTICES {
            let Some(notice) = self.inbox.next() else { break };
            self.handle(notice, now);
        }
        if self.stopping.is_none() {
            self.part.server().into_iter().for_each(|server| server.accept(now, &mut self.out));
            let part = &mut self.part;
            self.ingress.admit(&self.registry, &mut |from| part.bars(from, now), now);
            while let Some(user) = self.ingress.next() {
                match self.part {
                    Part::Single(_) => self.targets.forward(user, now),
                    _ if matches!(user, User::Udp(..)) => self.ingress.waiting.push_last(user, now),
                    _ => self.ingress.waiting.push(user, now),
                }
            }
            self.ingress.deliver(&self.workers);
        }
        self.hand_on(now);
        self.carry_out(now);
        self.finished(now)
    }

    /// The master says that this source is to be let in again, or all are.
    pub(in crate::run) fn lift(&mut self, source: Option<Source>) {
        self.part.server().into_iter().for_each(|server| server.lift(source));
    }

    /// Whether workers, the resolver or the system have said something.
    pub fn has_mail(&self) -> bool {
        self.inbox.has_mail()
    }

    /// Whether more waits at a listener.
    pub fn is_busy(&self) -> bool {
        self.stopping.is_none()
            && (self.ingress.is_busy() || matches!(&self.part, Part::Server(server) if server.is_ready()))
    }

    /// When the clock has something to say.
    pub fn deadline(&self) -> Option<Instant> {
        let part = match &self.part {
            Part::Server(server) => server.deadline(),
            Part::Client(client) => client.deadline(),
            Part::Single(single) => single.deadline(),
        };
        let rest = [
            self.ingress.deadline(),
            part,
            self.deadlines.next(),
            self.targets.deadline(),
            self.stopping.map(Stopping::deadline),
            self.succession.as_ref().and_then(Succession::deadline),
            self.measured,
            self.manager.as_ref().and_then(ServiceManager::deadline),
        ];
        rest.into_iter().flatten().min()
    }

    /// What the clock says, and what follows.
    pub fn tick(&mut self, now: Instant) {
        while let Some(user) = self.ingress.waiting.expired(now) {
            self.refuse(user);
        }
        if self.stopping.is_none() {
            self.ingress.tick(&self.registry, now);
            match &mut self.part {
                Part::Server(server) => server.tick(&self.registry, now, &mut self.out),
                Part::Client(client) => client.tick(&mut self.targets, now, &mut self.out),
                Part::Single(single) => single.tick(&mut self.targets, now),
            }
        }
        while let Some(number) = self.deadlines.expired(now) {
            if let Some(tunnel) = self.part.tunnel(number) {
                tunnel.tick(now, &mut self.out);
                self.touched.push(number);
                self.flush(number, now);
            }
        }
        self.targets.tick(now);
        self.carry_out(now);
        self.measure_if_due(now);
        self.tell_manager(now);
    }

    /// What workers, the resolver and the system say.
    fn handle(&mut self, notice: Notice, now: Instant) {
        match notice {
            Notice::Handshake { home, from, request, tls } => self.handshake(home, from, &request, tls, now),
            Notice::KeyLine { home, from, line } => self.key_line(home, from, &line, now),
            Notice::Stranger { from, what } => {
                self.part.server().into_iter().for_each(|server| server.failed(from.ip(), what, now));
            }
            Notice::Opening { home, from, kind, opening } => self.opening(home, from, kind, &opening, now),
            Notice::Answered(answer) => self.answered(answer, now),
            Notice::Tunnel { number, event } => self.tunnel_event(number, event, now),
            Notice::Returned { home, tunnel, user } => {
                self.release(home, tunnel);
                if let Some(user) = self.ingress.unbind(user, home) {
                    self.ingress.waiting.push_first(user, now);
                }
            }
            Notice::Started { ticket, home } => self.targets.started(ticket, home),
            Notice::Unstarted { ticket, proto } => {
                if let Some(worker) = self.targets.unstarted(ticket) {
                    self.out.loads.end(worker);
                }
                self.ingress.leave(proto, None);
            }
            Notice::Done { home, tunnel, proto } => {
                self.release(home, tunnel);
                self.ingress.leave(proto, Some(home));
            }
            Notice::Proven { home, session } => self.ingress.prove(home, &session),
            Notice::Reached { target, took } => self.targets.reached(target, took, now),
            Notice::Missed(target) => self.targets.missed(target, now),
            Notice::Probed { target, took } => {
                self.targets.probed(target, took, now);
                // A check point says that all is well.
                if self.part.is_single() && self.ingress.is_open() {
                    self.check_point(took.unwrap_or_default());
                }
            }
            Notice::Resolved { name, answer } => self.targets.resolved(&name, answer, now),
            Notice::Signal(signal) => self.signalled(signal, now),
            Notice::Quiet => self.tidy(now),
            Notice::Stopped => self.worker_stopped(),
            Notice::Next(event) => self.next_event(event, now),
        }
    }

    /// A crowd has gone, and a worker has given back what it took there: the same here.
    fn tidy(&mut self, now: Instant) {
        for number in self.part.tunnels().map(Tunnel::number).collect::<Vec<_>>() {
            self.part.tunnel(number).into_iter().for_each(|tunnel| tunnel.tidy(now));
        }
        self.out.shrink();
        self.targets.shrink();
        self.ingress.shrink();
        heap::trim();
        code_pages::release();
    }

    fn tunnel_event(&mut self, number: TunnelNo, event: TunnelEvent, now: Instant) {
        let late = match &event {
            TunnelEvent::Arrived { home, .. } | TunnelEvent::Opened { home, .. } | TunnelEvent::Free { home, .. } => {
                Some(*home)
            }
            _ => None,
        };
        let known = match &mut self.part {
            Part::Client(client) => client.on(number, event, now, &mut self.out),
            part => part.tunnel(number).map(|tunnel| tunnel.on(event, now, &mut self.out)).is_some(),
        };
        match (known, late) {
            (true, _) => self.touched.push(number),
            // Its tunnel is over.
            (false, Some(home)) => self.out.close(home),
            (false, None) => {}
        }
        self.flush(number, now);
    }

    /// A number for the next tunnel; 0 is none's.
    fn next_number(&mut self) -> TunnelNo {
        self.tunnels = self.tunnels.wrapping_add(1).max(1);
        self.tunnels
    }

    /// What follows from all that happened: signals, connections for users, dials.
    fn carry_out(&mut self, now: Instant) {
        self.advance_touched(now);
        for number in std::mem::take(&mut self.proven) {
            self.promote(number, now);
        }
        self.serve_waiting(now);
        while let Some(event) = self.targets.poll(now) {
            self.dispatch(event);
        }
        self.advance_touched(now);
        if let (Part::Server(server), None) = (&mut self.part, self.stopping) {
            server.publish_policy(&mut self.out);
        }
        self.flush(0, now);
    }

    /// Lets each tunnel go on that something happened to.
    fn advance_touched(&mut self, now: Instant) {
        let mut touched = std::mem::take(&mut self.touched);
        // Many notices of one turn are about the same tunnel.
        touched.dedup();
        for number in touched.drain(..) {
            if let Some(tunnel) = self.part.tunnel(number) {
                tunnel.advance(now, &mut self.out);
                self.flush(number, now);
            }
            let deadline = self.part.tunnel(number).and_then(|tunnel| tunnel.deadline());
            self.deadlines.set(number, deadline);
        }
        // The allocation is kept; ends of tunnels may have touched others.
        touched.append(&mut self.touched);
        self.touched = touched;
    }

    /// Empties [`Out`]: what tunnel `number`, or the hub itself, has decided.
    fn flush(&mut self, number: TunnelNo, now: Instant) {
        while let Some(action) = self.out.next() {
            match action {
                Action::Job(worker, job) => self.workers[worker].send(job),
                Action::Dial { home, user, framed } => self.dial(home, number, user, framed, now),
                Action::CheckPoint => self.tunnel_reported(now),
                Action::Trouble { why, loud } => {
                    self.shared.stats.add(Figure::PoolFailed, 1);
                    if let Some(client) = self.part.client() {
                        client.trouble(why, loud);
                    }
                }
                Action::Opened => {
                    self.shared.stats.add(Figure::PoolOpened, 1);
                    if let Some(client) = self.part.client() {
                        client.opened(now);
                    }
                }
                Action::Proven => {
                    self.count_handshake(number);
                    self.proven.push(number);
                }
                Action::Pin(fp) => self.part.client().map_or((), |client| client.pin(fp)),
                Action::Over(reason) => self.end_tunnel(number, &reason, now),
            }
        }
    }

    /// A relay has ended, or never began, at `home`.
    fn release(&mut self, home: Home, tunnel: TunnelNo) {
        self.out.loads.end(home.worker);
        if let Some(tunnel) = self.part.tunnel(tunnel) {
            tunnel.released(home);
        }
    }
}

/// Most notices of one turn: workers may make them as fast as the hub takes them.
const MAX_NOTICES: usize = 4096;
/// The token of the tunnel port. Tokens from here on are the hub's, smaller ones the worker's.
pub(in crate::run) const TUNNEL_TOKEN: usize = 1 << 28;
/// Where the tokens of the users' listeners begin.
pub(in crate::run) const USERS_TOKEN: usize = TUNNEL_TOKEN + 1;
