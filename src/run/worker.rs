//! A worker: connections and relays on one thread.
//!
//! Events mark, jobs change, timers wake; then everything that is ready goes on once, each within a bound, so that nobody
//! starves and nobody blocks.

mod accept;
mod connect;
mod context;
mod dial;
mod idle;
mod mux;
mod probe;
mod relay;
mod task;
mod tls_accept;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::Registry;

use self::accept::Inbound;
use self::connect::Connector;
use self::context::{token, Context, LOCAL};
use self::dial::Dialer;
use self::idle::Idle;
use self::mux::{MuxEvents, MuxTask, Muxers};
use self::probe::Probe;
use self::relay::{control, Join, Relay};
use self::task::{Next, Task};
use self::tls_accept::TlsAccept;
use crate::heap;
use crate::logic::slab::{Key, Slab};
use crate::logic::terms::TunnelNo;
use crate::logic::timers::Timers;
use crate::logic::wire::{Id, CONTROL};
use crate::net::budget::budget;
use crate::net::leg::Leg;
use crate::net::mux::Muxes;
use crate::net::quic::Tickets;
use crate::net::stream::{Buffer, Stores};
use crate::net::tcp::Tcp;
use crate::net::udp::{conduit_size, Session};
use crate::net::{sys, tcp};
use crate::run::channel::{Receiver, Sender};
use crate::run::messages::{Home, Job, Notice, Proto, ServerRoute, TunnelEvent, User};
use crate::run::shared::Shared;

/// One worker's tasks.
pub struct Worker {
    index: usize,
    inbox: Receiver<Job>,
    pub(super) tasks: Slab<Slot>,
    ready: VecDeque<Key>,
    timers: Timers<Key>,
    pub(super) inbounds: VecDeque<Key>,
    later: Vec<Arc<ServerRoute>>,
    pub(super) muxers: Muxers,
    pub(super) context: Context,
    busiest: usize,
    tidy: Option<Instant>,
}

/// A task and its place in the queues.
pub(super) struct Slot {
    /// Boxed, so that places which a crowd has left cost little until they are used again.
    pub task: Option<Box<Task>>,
    pub tunnel: TunnelNo,
    queued: bool,
    armed: Option<Instant>,
}

impl Worker {
    /// An idle worker.
    pub fn new(
        index: usize,
        inbox: Receiver<Job>,
        hub: Sender<Notice>,
        registry: Registry,
        shared: Arc<Shared>,
        now: Instant,
    ) -> Worker {
        let limits = &shared.config.limits;
        let (tcp, udp) = (Stores::new(limits.tcp_buffer, sys::SPLICE), conduit_size(limits.udp_buffer));
        let (muxes, mux_events) = (Muxes::default(), MuxEvents::default());
        let context = Context {
            registry,
            hub,
            tcp,
            udp: Stores::limited(udp, false, budget().datagram_buffers),
            shared,
            muxes,
            tickets: Tickets::default(),
            mux_events,
        };
        let (tasks, ready, inbounds) = (Slab::new(), VecDeque::new(), VecDeque::new());
        Worker {
            index,
            inbox,
            tasks,
            ready,
            timers: Timers::new(now),
            inbounds,
            later: Vec::new(),
            muxers: Muxers::default(),
            context,
            busiest: 0,
            tidy: None,
        }
    }

    /// Remembers an edge and queues its task.
    pub fn note(&mut self, event: &Event) {
        let token = event.token().0;
        let Some(key) = self.tasks.at(token / 2) else { return };
        if let Some(task) = self.tasks.get_mut(key).and_then(|slot| slot.task.as_mut()) {
            task.note(token % 2, event, &mut self.context.muxes);
            self.queue(key);
        }
    }

    /// One turn: jobs, timers, what shared connections bring, then each ready task once, then what they say on those.
    pub fn turn(&mut self, now: Instant) {
        for _ in 0..MAX_JOBS {
            let Some(job) = self.inbox.next() else { break };
            self.accept(job, now);
        }
        while let Some(key) = self.timers.expired(now) {
            if let Some(slot) = self.tasks.get_mut(key) {
                slot.armed = None;
                self.queue(key);
            }
        }
        self.carry(now);
        for _ in 0..self.ready.len() {
            if let Some(key) = self.ready.pop_front() {
                self.advance(key, now);
            }
        }
        self.carry(now);
        self.tidy(now);
    }

    /// Whether something is to be done at once.
    pub fn is_busy(&self) -> bool {
        !self.ready.is_empty() || !self.later.is_empty() || self.muxers.is_busy(|key| self.carrier(key))
    }

    fn carrier(&self, key: Key) -> Option<&MuxTask> {
        match self.tasks.get(key)?.task.as_deref()? {
            Task::MuxTask(carrier) => Some(carrier),
            _ => None,
        }
    }

    /// Pool connections to open for later users: after a look at what the present ones want.
    pub fn later(&mut self) -> Vec<Arc<ServerRoute>> {
        std::mem::take(&mut self.later)
    }

    /// Opens them.
    pub fn open(&mut self, later: Vec<Arc<ServerRoute>>, now: Instant) {
        for route in later {
            if route.transport.is_shared() {
                self.want(route, now);
                continue;
            }
            let tunnel = route.tunnel;
            if let Some(key) = self.start(tunnel, |home, _| Ok(Task::Connector(Connector::new(route, None, home)))) {
                self.advance(key, now);
            }
        }
        self.carry(now);
    }

    /// When a timer is due.
    pub fn deadline(&self) -> Option<Instant> {
        let carriers = self.muxers.deadline(|key| self.carrier(key));
        self.timers.next().into_iter().chain(self.tidy).chain(carriers).min()
    }

    /// The program ends: a control connection ends properly, as far as that goes without waiting.
    pub fn farewell(&mut self) {
        for (_, slot) in self.tasks.iter_mut() {
            if let Some(Task::Relay(relay)) = slot.task.as_deref_mut() {
                relay.farewell(&mut self.context.muxes);
            }
        }
        self.context.muxes.close();
    }

    fn accept(&mut self, job: Job, now: Instant) {
        match job {
            Job::Accept { socket, from, policy } => {
                self.evict();
                let made = |home, context: &mut Context| {
                    Inbound::new(socket, from, policy, home, context, now).map(Task::Inbound)
                };
                if let Some(key) = self.start(0, made) {
                    self.inbounds.push_back(key);
                }
            }
            Job::Serve { mux, policy } => self.serve(mux, policy),
            Job::Policy(policy) => self.regate(policy),
            Job::Answer { key, bytes } => {
                if let Some(Task::Inbound(inbound)) = self.task(key) {
                    inbound.answer(bytes);
                    self.queue(key);
                }
            }
            Job::Handshake { route, request } => {
                self.start(route.tunnel, |home, _| {
                    Ok(Task::Connector(Connector::new(route.clone(), Some(request), home)))
                });
            }
            Job::Open(route) => self.later.push(route),
            Job::Number { key, id } => self.number(key, id),
            Job::Control(key) => {
                let Some(idle) = self.idle(key) else { return };
                if let (Some(leg), tunnel) = (idle.leg, idle.tunnel) {
                    self.become_(key, Task::Relay(control(leg, tunnel, &self.context, now)), tunnel);
                }
            }
            Job::Say { key, bytes } => {
                if let Some(Task::Relay(relay)) = self.task(key) {
                    if relay.say(&bytes) {
                        // The peer has its own work to do with it: the earlier it knows, the better.
                        self.advance(key, now);
                    } else {
                        let tunnel = self.tasks.get(key).map_or(0, |slot| slot.tunnel);
                        let event = TunnelEvent::Closed("the peer does not read its signals".into());
                        self.context.hub.send(Notice::Tunnel { number: tunnel, event });
                        self.tasks.remove(key);
                    }
                }
            }
            Job::Join { key, tunnel, user, framed } => self.join(key, tunnel, user, framed, now),
            Job::Dial { key, tunnel, request, proto } => {
                let home = self.home(key);
                match self.idle(key) {
                    Some(Idle { leg: Some(leg), .. }) => {
                        let dialer = Dialer::for_pool(leg, request, tunnel, proto, home, &self.context);
                        self.become_(key, Task::Dialer(dialer), tunnel);
                    }
                    _ => self.context.hub.send(Notice::Done { home, tunnel, proto }),
                }
            }
            Job::Forward { ticket, user, request, tls } => {
                let proto = user.proto();
                let made = |home: Home, context: &mut Context| match (user, tls) {
                    (User::Tcp(socket, _), Some(tls)) => {
                        TlsAccept::new(socket, tls, request, home, context, now).map(Task::TlsAccept)
                    }
                    (user, _) => {
                        let leg = near(user, true, home, context)?;
                        Ok(Task::Dialer(Dialer::for_user(leg, request, proto, home, context)))
                    }
                };
                match self.start(0, made) {
                    Some(key) => self.context.hub.send(Notice::Started { ticket, home: self.home(key) }),
                    None => self.context.hub.send(Notice::Unstarted { ticket, proto }),
                }
            }
            Job::Probe { target, address } => {
                self.start(0, |home, context| Ok(Task::Probe(Probe::new(target, address, home, context))));
            }
            Job::Datagram(key, packet) => {
                self.inbox.delivered(packet.len());
                match self.task(key) {
                    Some(Task::Relay(relay)) => relay.deliver(packet),
                    Some(Task::Dialer(dialer)) => dialer.deliver(packet),
                    _ => return,
                }
                self.queue(key);
            }
            Job::Close(key) => drop(self.tasks.remove(key)),
            Job::End(tunnel) => self.close_all(|slot, muxes| {
                let carries = matches!(slot.task.as_deref(), Some(Task::MuxTask(mux)) if mux.tunnel(muxes) == tunnel);
                slot.tunnel == tunnel || carries
            }),
            Job::Drain => self.drain(),
        }
    }

    /// The program stops: what has no user leaves, and so do users whose target has refused; other relays go on.
    fn drain(&mut self) {
        self.close_all(|slot, _| {
            matches!(slot.task.as_deref(), Some(Task::Inbound(_) | Task::Connector(_) | Task::Idle(_)) | None)
        });
        let in_vain = |slot: &mut Slot| match slot.task.as_deref_mut() {
            Some(Task::Relay(relay)) => relay.drain(),
            _ => false,
        };
        let keys: Vec<Key> = self.tasks.iter_mut().filter_map(|(key, slot)| in_vain(slot).then_some(key)).collect();
        keys.into_iter().for_each(|key| self.queue(key));
    }

    /// Writes a pool connection's id, which is what makes it one.
    fn number(&mut self, key: Key, id: Id) {
        let mut bytes = Buffer::holding(id.0.to_vec());
        let sent = match self.tasks.get_mut(key).and_then(|slot| slot.task.as_deref_mut()) {
            Some(Task::Idle(Idle { leg: Some(leg), id: number, tunnel, quiet, .. })) => {
                *number = Some(id);
                *quiet &= id != CONTROL;
                let mut lent = leg.lend(&mut self.context.muxes);
                Some((lent.stream().drain(&mut bytes).is_ok() && bytes.is_empty(), *tunnel))
            }
            _ => None,
        };
        if let Some((false, tunnel)) = sent {
            self.context.hub.send(Notice::Tunnel { number: tunnel, event: TunnelEvent::Gone(id) });
            self.tasks.remove(key);
        }
    }

    /// A user gets his pool connection. If that has just died, the hub finds him another.
    fn join(&mut self, key: Key, tunnel: TunnelNo, user: User, framed: bool, now: Instant) {
        let home = self.home(key);
        let muxes = &mut self.context.muxes;
        let alive = match self.tasks.get_mut(key).and_then(|slot| slot.task.as_deref_mut()) {
            Some(Task::Idle(Idle { leg: Some(leg), quiet, .. })) => !leg.failed(muxes) && leg.is_alive(*quiet, muxes),
            _ => false,
        };
        let Some(Idle { leg: Some(mut far), .. }) = self.idle(key).filter(|_| alive) else {
            self.tasks.remove(key);
            return self.context.hub.send(Notice::Returned { home, tunnel, user });
        };
        let (address, proto) = (user.address(), user.proto());
        if matches!(proto, Proto::Udp(_)) && !framed {
            far.keep_messages(self.context.shared.config.limits.udp_buffer);
        }
        match near(user, framed, home, &self.context) {
            Ok(near) => {
                let about = format!("{address} <-> tunnel");
                let join = Join { tunnel, proto: Some(proto), target: None, others: false, moves: false, about };
                self.become_(key, Task::Relay(Relay::new(near, far, join, &self.context, now)), tunnel);
            }
            Err(error) => {
                log::debug!("{address} left: {error}");
                self.context.hub.send(Notice::Done { home, tunnel, proto });
                self.tasks.remove(key);
            }
        }
    }

    /// Makes a new task under a key of its own and queues it.
    pub(super) fn start(
        &mut self,
        tunnel: TunnelNo,
        make: impl FnOnce(Home, &mut Context) -> io::Result<Task>,
    ) -> Option<Key> {
        let key = self.tasks.insert(Slot { task: None, tunnel, queued: false, armed: None });
        match make(self.home(key), &mut self.context) {
            Ok(task) => {
                self.become_(key, task, tunnel);
                Some(key)
            }
            Err(error) => {
                log::debug!("Connection lost before it began: {error}");
                self.tasks.remove(key);
                None
            }
        }
    }

    /// Lets a task go on, and through as many changes as that brings.
    pub(super) fn advance(&mut self, key: Key, now: Instant) {
        let home = self.home(key);
        let Some(slot) = self.tasks.get_mut(key) else { return };
        slot.queued = false;
        loop {
            let Some(task) = &mut slot.task else { return };
            match task.advance(home, &mut self.context, now) {
                Next::Become(next) => {
                    // A inbound is nobody's until he turns out to be a tunnel's pool connection, which ends with it.
                    if let Task::Idle(idle) = &next {
                        slot.tunnel = idle.tunnel;
                    }
                    if let Task::MuxTask(carrier) = &next {
                        slot.tunnel = carrier.tunnel(&self.context.muxes);
                        self.muxers.add(key);
                    }
                    **task = next;
                }
                Next::Wait => break,
                Next::Again => {
                    slot.queued = true;
                    self.ready.push_back(key);
                    break;
                }
                Next::End => {
                    self.tasks.remove(key);
                    return;
                }
            }
        }
        let due = slot.task.as_deref().and_then(Task::deadline);
        if let Some(due) = due.filter(|due| slot.armed.is_none_or(|armed| *due < armed)) {
            slot.armed = Some(due);
            self.timers.arm(due, key);
        }
    }

    pub(super) fn queue(&mut self, key: Key) {
        if let Some(slot) = self.tasks.get_mut(key).filter(|slot| !slot.queued) {
            slot.queued = true;
            self.ready.push_back(key);
        }
    }

    fn become_(&mut self, key: Key, task: Task, tunnel: TunnelNo) {
        if let Some(slot) = self.tasks.get_mut(key) {
            (slot.task, slot.tunnel) = (Some(Box::new(task)), tunnel);
            self.queue(key);
        }
    }

    fn task(&mut self, key: Key) -> Option<&mut Task> {
        self.tasks.get_mut(key)?.task.as_deref_mut()
    }

    /// Takes an idle connection out of its slot, which stays for what it becomes.
    fn idle(&mut self, key: Key) -> Option<Idle> {
        let slot = self.tasks.get_mut(key)?;
        let idle = slot.task.take_if(|task| matches!(**task, Task::Idle(_)))?;
        match *idle {
            Task::Idle(idle) => Some(idle),
            _ => None,
        }
    }

    fn home(&self, key: Key) -> Home {
        Home { worker: self.index, key }
    }

    fn close_all(&mut self, which: impl Fn(&Slot, &Muxes) -> bool) {
        let muxes = &self.context.muxes;
        let keys: Vec<Key> = self.tasks.iter().filter(|(_, slot)| which(slot, muxes)).map(|(key, _)| key).collect();
        for key in keys {
            let slot = self.tasks.remove(key);
            if let Some((proto, tunnel)) = slot.and_then(|slot| Some((slot.task?.proto()?, slot.tunnel))) {
                self.context.hub.send(Notice::Done { home: self.home(key), tunnel, proto });
            }
        }
    }

    /// Makes room for a inbound: with too many who have not said what they want, the oldest leaves.
    fn evict(&mut self) {
        while self.inbounds.len() >= budget().inbounds {
            let Some(oldest) = self.inbounds.pop_front() else { return };
            if let Some(Task::Inbound(_)) = self.task(oldest) {
                self.tasks.remove(oldest);
            }
        }
    }

    /// Some time after a crowd has gone, its memory goes back to the system.
    fn tidy(&mut self, now: Instant) {
        self.busiest = self.busiest.max(self.tasks.len());
        if self.busiest < CROWD || self.tasks.len() > self.busiest / 4 {
            self.tidy = None;
        } else if now >= *self.tidy.get_or_insert(now + QUIET) {
            (self.tidy, self.busiest) = (None, self.tasks.len());
            self.ready.shrink_to(CROWD);
            self.inbounds.retain(|key| self.tasks.get(*key).is_some());
            self.inbounds.shrink_to(CROWD);
            heap::trim();
        }
    }
}

/// The user's end of a relay.
fn near(user: User, framed: bool, home: Home, context: &Context) -> io::Result<Leg> {
    let mut leg = match user {
        User::Tcp(socket, _) => Leg::Tcp(Tcp::new(socket)),
        User::Udp(door, flow, packets) => {
            let largest = context.shared.config.limits.udp_buffer;
            let mut session = Session::of_user(door, tcp::canonical(flow.user), flow.asked, framed, largest);
            packets.into_iter().for_each(|packet| session.deliver(packet));
            Leg::Udp(Box::new(session))
        }
    };
    leg.register(&context.registry, token(home.key, LOCAL))?;
    Ok(leg)
}

/// Most jobs of one turn: the hub may make them, of datagrams, as fast as a worker takes them.
const MAX_JOBS: usize = 4096;
/// From this many tasks on it is worth giving memory back after they have gone.
const CROWD: usize = 128;
/// So long after it has gone, since the last of a crowd go slowly.
const QUIET: Duration = Duration::from_secs(2);

#[cfg(test)]
#[path = "worker/tests.rs"]
mod tests;
