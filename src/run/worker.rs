//! A worker: connections and relays on one thread.
//!
//! Events mark, jobs change, timers wake; then everything that is ready goes on once, each within a bound, so that no task
//! starves another and none blocks.

mod accept;
mod allowance;
mod connect;
mod context;
mod dial;
mod exchange;
mod idle;
mod mux;
mod muxers;
mod next;
mod probe;
mod relay;
mod task;
mod tasks;
mod tls_accept;
mod unheard;

use std::io;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::Instant;

use mio::event::Event;
use mio::Registry;
use rustls::ServerConfig;

use self::accept::Inbound;
use self::connect::Connector;
use self::context::{token, Context, MuxEvents, Places, Side};
use self::dial::Dialer;
use self::exchange::{Ends, Join};
use self::muxers::Muxers;
use self::probe::Probe;
use self::relay::Relay;
use self::task::{Stage, Task};
use self::tasks::Tasks;
use self::tls_accept::TlsAccept;
use self::unheard::Unheard;
use crate::logic::dialect::Dialect;
use crate::logic::slab::Key;
use crate::logic::terms::TunnelNo;
use crate::logic::wire::Id;
use crate::net::leg::Own;
use crate::net::mux::Muxes;
use crate::net::quic::Tickets;
use crate::net::stream::Stores;
use crate::net::tcp::Tcp;
use crate::net::udp::{conduit_size, Frames, Session};
use crate::net::{sys, tcp};
use crate::run::channel::{Receiver, Sender};
use crate::run::messages::{DialRequest, Home, Job, Notice, Survivors, TunnelEvent, Wanted};
use crate::run::shared::Shared;
use crate::run::user::{Proto, Said, User};

/// One worker: its tasks, and the jobs that change them.
pub struct Worker {
    inbox: Receiver<Job>,
    tasks: Tasks,
    muxers: Muxers,
    context: Context,
    later: Vec<Wanted>,
}

impl Worker {
    /// An idle worker.
    pub fn new(
        index: usize,
        inbox: Receiver<Job>,
        hub: Sender<Notice>,
        registry: Arc<Registry>,
        shared: Arc<Shared>,
        now: Instant,
    ) -> Worker {
        let limits = &shared.config.limits;
        let tcp = Stores::new(limits.tcp_buffer, sys::SPLICE).with_large(shared.budget.large_buffers);
        let udp = conduit_size(limits.udp_buffer);
        let tasks = Tasks::new(index, &shared.budget, now);
        let context = Context {
            registry,
            hub,
            tcp,
            udp: Stores::limited(udp, false, shared.budget.datagram_buffers),
            places: Places::new(shared.budget.large_buffers / 2),
            shared,
            muxes: Muxes::default(),
            tickets: Tickets::default(),
            mux_events: MuxEvents::default(),
            taking_in: false,
        };
        Worker { inbox, tasks, muxers: Muxers::default(), context, later: Vec::new() }
    }

    /// Remembers an edge and queues its task.
    pub fn note(&mut self, event: &Event) {
        self.tasks.note(event, &mut self.context.muxes);
    }

    /// Takes in what shared connections bring: before the turns.
    pub fn hear(&mut self, now: Instant) {
        self.muxers.hear(&mut self.tasks, &mut self.context, now);
    }

    /// One turn: jobs, timers, then each ready task once.
    pub fn turn(&mut self, now: Instant) {
        for _ in 0..MAX_JOBS {
            let Some(job) = self.inbox.next() else { break };
            self.accept(job, now);
        }
        self.tasks.wake(now);
        self.tasks.advance_ready(&mut self.context, now);
        if self.tasks.tidy(now) {
            self.context.tcp.shrink();
            self.context.udp.shrink();
            self.context.hub.send(Notice::Quiet);
        }
    }

    /// Whether something is to be done at once.
    pub fn is_busy(&self) -> bool {
        self.tasks.is_busy() || !self.later.is_empty() || self.muxers.is_busy()
    }

    /// Pool connections to open for later users: after a look at what the present ones want.
    pub fn later(&mut self) -> Vec<Wanted> {
        std::mem::take(&mut self.later)
    }

    /// Opens them, and says on shared connections what all this has come to: after the turns.
    pub fn say(&mut self, later: Vec<Wanted>, now: Instant) {
        let Worker { tasks, muxers, context, .. } = self;
        if later.len() > ALONG {
            muxers.say(tasks, context, now);
        }
        for wanted in later {
            if wanted.route.transport.is_shared() {
                muxers.request(wanted, tasks, context, now);
            } else if let Some(key) =
                tasks.start(context, |home, context| Ok(Connector::opening(wanted, home, context).into()))
            {
                tasks.advance(key, context, now);
            }
        }
        muxers.say(tasks, context, now);
    }

    /// When a timer is due.
    pub fn deadline(&self) -> Option<Instant> {
        self.tasks.deadline().into_iter().chain(self.muxers.deadline()).min()
    }

    fn accept(&mut self, job: Job, now: Instant) {
        let Worker { tasks, muxers, context, .. } = self;
        match job {
            Job::Accept { socket, from, known, policy } => {
                context.shared.untold.fetch_sub(1, Ordering::Relaxed);
                tasks.start_inbound((from.ip(), known), context, |home, context| {
                    Ok(Inbound::new(socket, from, policy, home, context, now)?.into())
                });
            }
            Job::Serve { mux, policy } => muxers.serve(mux, policy, tasks, context),
            Job::Policy(policy) => muxers.set_policy(policy, tasks, context),
            Job::HandOn(pipe) => muxers.hand_on(pipe, tasks, context),
            Job::Answer { key, bytes } => {
                if let Some(Task::Stage(Stage::Inbound(inbound))) = tasks.get_mut(key) {
                    inbound.answer(bytes);
                    tasks.queue(key);
                }
            }
            Job::Handshake { route, request } => {
                tasks.start(context, |home, context| Ok(Connector::asking(route, request, home, context).into()));
            }
            Job::Open(wanted) => self.later.push(wanted),
            Job::Number { key, tunnel, id, dialect, ws_eof, reuse } => {
                self.number(key, tunnel, (id, dialect), (ws_eof, reuse));
            }
            Job::Control { key, tunnel, first } => self.control(key, tunnel, first, now),
            Job::Say { key, bytes } => self.send(key, &bytes, now),
            Job::Join { key, tunnel, user, framed, retried } => self.join((key, tunnel), user, framed, retried, now),
            Job::Retake { key, id } => self.retake(key, id),
            Job::Keep { key, id } => self.keep(key, id),
            Job::Doubt { key, id } => self.doubt(key, id),
            Job::Question { key, tunnel, id } => self.question(key, tunnel, id, now),
            Job::Dial { key, tunnel, request, proto, behind } => {
                let home = tasks.home(key);
                match tasks.take_pool(key, context) {
                    Some(mut pool) => {
                        if let (true, Some(connection)) = (behind, pool.0.successive()) {
                            connection.wait_behind();
                        }
                        tasks.put(key, Dialer::for_pool(pool, request, tunnel, proto, home, context));
                    }
                    None => context.hub.send(Notice::Done { home, tunnel, proto }),
                }
            }
            Job::Forward { ticket, user, request, tls } => self.start_single(ticket, user, request, tls, now),
            Job::Probe { target, address } => {
                tasks.start(context, |home, context| Ok(Probe::new(target, address, home, context).into()));
            }
            Job::Datagrams(key, frames) => self.deliver(key, frames),
            Job::Close(key) => tasks.remove(key),
            Job::Evict(key) => tasks.end_user(key, context),
            Job::End { tunnel, survivors } => self.end(tunnel, survivors),
            // What has no user leaves, relays go on.
            Job::Drain => tasks.close(context, Task::is_unused),
            Job::Stop => self.stop(now),
        }
    }

    /// A single-end user goes to a target.
    fn start_single(
        &mut self,
        ticket: u64,
        user: User,
        request: DialRequest,
        tls: Option<Arc<ServerConfig>>,
        now: Instant,
    ) {
        let Worker { tasks, context, .. } = self;
        let proto = user.proto();
        let made = |home: Home, context: &mut Context| match (user, tls) {
            (User::Tcp(socket, ..), Some(tls)) => Ok(TlsAccept::new(socket, tls, request, home, context, now)?.into()),
            (user, _) => forward(user, request, home, context),
        };
        match tasks.start(context, made) {
            Some(key) => context.hub.send(Notice::Started { ticket, home: tasks.home(key) }),
            None => context.hub.send(Notice::Unstarted { ticket, proto }),
        }
    }

    /// A tunnel is over: what belongs to it ends, but for the relays that go on and what carries them.
    fn end(&mut self, tunnel: TunnelNo, survivors: Survivors) {
        let Worker { tasks, muxers, context, .. } = self;
        let ends = |task: &Task| task.tunnel(&context.muxes) == tunnel && !task.survives(survivors);
        tasks.close(context, ends);
        muxers.leave(tunnel, tasks, &mut context.muxes);
    }

    /// The program ends. A user's relay is cut and looks so; control connections and shared ones end properly, as far as that goes
    /// without waiting.
    fn stop(&mut self, now: Instant) {
        let Worker { tasks, muxers, context, .. } = self;
        for task in tasks.iter_mut() {
            if let Task::Relay(relay) = task {
                relay.stop(context);
            }
        }
        // A control connection stays: to give up its stream would be to cut what it says last.
        let stays = |task: &Task| match task {
            Task::Mux(_) => true,
            Task::Relay(relay) => relay.proto().is_none(),
            Task::Idle(_) | Task::Stage(_) => false,
        };
        tasks.close(context, |task| !stays(task));
        muxers.say(tasks, context, now);
        context.muxes.close();
        context.hub.send(Notice::Stopped);
    }

    /// Writes a pool connection's id, which is what makes it one.
    fn number(&mut self, key: Key, tunnel: TunnelNo, id: (Id, Dialect), (ws_eof, reuse): (bool, bool)) {
        let Some(Task::Idle(idle)) = self.tasks.get_mut(key) else {
            // It has made room before it was known whose it is.
            return self.context.hub.send(Notice::Tunnel { number: tunnel, event: TunnelEvent::Gone(id.0) });
        };
        if !idle.assign(tunnel, id, ws_eof, &mut self.context.muxes) {
            self.context.hub.send(Notice::Tunnel { number: idle.tunnel, event: TunnelEvent::Gone(id.0) });
            self.tasks.remove(key);
        } else if let Some(idle) = reuse.then(|| self.tasks.take_idle(key)).flatten() {
            self.tasks.put(key, idle.into_successive());
        }
        self.tasks.settle(key, &mut self.context);
    }

    /// That pool connection is the tunnel's control connection from now on; `first` goes out before all signals.
    fn control(&mut self, key: Key, tunnel: TunnelNo, first: Vec<u8>, now: Instant) {
        let Worker { tasks, context, .. } = self;
        match tasks.take_idle(key) {
            Some(idle) => {
                tasks.put(key, Relay::control(idle.leg, tunnel, context, now).sending_remote(first));
                tasks.renewed();
            }
            None => {
                let event = TunnelEvent::Closed("the control connection is lost".into());
                context.hub.send(Notice::Tunnel { number: tunnel, event });
            }
        }
    }

    /// Signals go out on the control connection.
    fn send(&mut self, key: Key, bytes: &[u8], now: Instant) {
        let Some(Task::Relay(relay)) = self.tasks.get_mut(key) else { return };
        if relay.send(bytes) {
            // The peer has its own work to do with it: the earlier it knows, the better.
            self.tasks.advance(key, &mut self.context, now);
        } else {
            let event = TunnelEvent::Closed("the peer does not read its signals".into());
            self.context.hub.send(Notice::Tunnel { number: relay.tunnel(), event });
            self.tasks.remove(key);
        }
    }

    /// A user gets a pool connection. If that has just died, the hub finds another.
    fn join(&mut self, (key, tunnel): (Key, TunnelNo), user: User, framed: bool, retried: bool, now: Instant) {
        let Worker { tasks, context, .. } = self;
        let home = tasks.home(key);
        let usable = tasks.take_idle(key).and_then(|mut idle| idle.is_usable(&mut context.muxes).then_some(idle));
        let Some(mut idle) = usable else {
            tasks.remove(key);
            return context.hub.send(Notice::Returned { home, tunnel, user });
        };
        let (address, proto) = (user.address(), user.proto());
        if matches!(proto, Proto::Udp(_)) && !framed {
            idle.leg.keep_messages(context.shared.config.limits.udp_buffer);
        }
        match local_end(user, framed, home, context) {
            Ok((local, said)) => {
                let first = said.bytes.clone();
                // What has no frames cannot be taken back.
                let retried = retried && (framed || matches!(proto, Proto::Tcp(_)));
                let unheard = idle.id.filter(|_| retried).map(|id| Unheard::user(id, address, proto, said, now));
                let unheard = match idle.leg.successive() {
                    Some(_) => unheard.map(|unheard| unheard.after_another(now)),
                    None => unheard,
                };
                let ends = Box::new(Ends::User(address, exchange::far_end(&context.shared, &mut idle.leg)));
                let join = Join { tunnel, proto: Some(proto), target: None, ends };
                let relay = Relay::new(local, idle.leg, join, context, now).of_pool(idle.id, true);
                tasks.put(key, relay.sending_remote(first).unheard(unheard));
            }
            Err(error) => {
                log::debug!("{address} left: {error}");
                context.hub.send(Notice::Done { home, tunnel, proto });
                tasks.remove(key);
            }
        }
    }

    /// The pool connection of a user is dead: the hub finds another.
    fn retake(&mut self, key: Key, id: Id) {
        let Worker { tasks, context, .. } = self;
        let Some(tunnel) = tasks.get(key).map(|task| task.tunnel(&context.muxes)) else { return };
        if let Some(user) = tasks.take_user(key, id, context) {
            context.hub.send(Notice::Returned { home: tasks.home(key), tunnel, user });
        }
    }

    /// The user of that pool connection stays with it, or is lost with it.
    fn keep(&mut self, key: Key, id: Id) {
        match self.tasks.get_mut(key) {
            Some(Task::Relay(relay)) if relay.unheard_id() == Some(id) => {
                relay.keep();
                self.tasks.queue(key);
            }
            Some(Task::Stage(Stage::Doubt(doubt))) if doubt.id() == id => {
                doubt.abort();
                self.tasks.end_user(key, &self.context);
            }
            _ => {}
        }
    }

    /// The peer finds that what it sends over the pool connection of that user is not acknowledged.
    fn doubt(&mut self, key: Key, id: Id) {
        if let Some(Task::Relay(relay)) = self.tasks.get_mut(key) {
            relay.doubted(id, &mut self.context);
        }
    }

    /// The peer finds that pool connection dead. If no byte has come over it the peer's user can have another, and this one ends.
    fn question(&mut self, key: Key, tunnel: TunnelNo, id: Id, now: Instant) {
        let Worker { tasks, context, .. } = self;
        let unheard = match tasks.get_mut(key) {
            Some(Task::Relay(relay)) => relay.unheard_id() == Some(id) && relay.nothing_came(&mut context.muxes, now),
            Some(Task::Stage(Stage::Dialer(dialer))) => dialer.nothing_came(&mut context.muxes),
            Some(Task::Idle(idle)) => idle.id == Some(id) && !idle.leg.has_said(&mut context.muxes),
            _ => false,
        };
        if unheard {
            match tasks.get_mut(key) {
                Some(Task::Relay(relay)) => relay.cut(),
                Some(Task::Stage(Stage::Dialer(dialer))) => dialer.cut(),
                Some(Task::Idle(idle)) => idle.leg.cut(),
                _ => {}
            }
            tasks.end_user(key, context);
        }
        let event = if unheard { TunnelEvent::Lost(id) } else { TunnelEvent::Kept(id) };
        context.hub.send(Notice::Tunnel { number: tunnel, event });
    }

    /// Datagrams of a user's session.
    fn deliver(&mut self, key: Key, frames: Frames) {
        self.inbox.delivered(frames.payload());
        match self.tasks.get_mut(key) {
            Some(Task::Relay(relay)) => relay.deliver(frames),
            Some(Task::Stage(Stage::Dialer(dialer))) => dialer.deliver(frames),
            Some(Task::Stage(Stage::Doubt(doubt))) => doubt.deliver(frames),
            _ => return,
        }
        self.tasks.queue(key);
    }
}

/// A single-end user whose bytes go on as they come.
fn forward(user: User, request: DialRequest, home: Home, context: &Context) -> io::Result<Task> {
    let proto: Proto = user.proto();
    let (local, _) = local_end(user, true, home, context)?;
    Ok(Dialer::for_user(local, request, proto, home, context).into())
}

/// The user's end of a relay, and what was read of it already.
fn local_end(user: User, framed: bool, home: Home, context: &Context) -> io::Result<(Own, Said)> {
    let (mut own, said) = match user {
        User::Tcp(socket, _, said) => (Own::Tcp(Tcp::new(socket)), said),
        User::Udp(listener, session, frames, tries) => {
            let largest = context.shared.config.limits.udp_buffer;
            let mut session = Session::of_user(listener, tcp::canonical(session.user), session.asked, framed, largest);
            session.deliver(frames);
            (session.into(), Said { tries, ..Said::default() })
        }
    };
    own.register(&context.registry, token(home.key, Side::Local))?;
    Ok((own, said))
}

/// So few pool connections are opened before users' bytes go out, along with them.
const ALONG: usize = 2;
/// Most jobs of one turn: the hub may make them, of datagrams, as fast as a worker takes them.
const MAX_JOBS: usize = 4096;

#[cfg(test)]
#[path = "worker/tests.rs"]
mod tests;
