//! The tasks of one worker and when each goes on: a queue of those that are ready, and timers.

use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use mio::event::Event;

use super::context::{socket_of, Context};
use super::idle::Idle;
use super::next::Schedule;
use super::task::{Stage, Task};
use crate::logic::scheduler::Scheduler;
use crate::logic::slab::Key;
use crate::logic::strangers::Strangers;
use crate::logic::wire::Id;
use crate::net::budget::Budget;
use crate::net::leg::Leg;
use crate::net::mux::Muxes;
use crate::net::random;
use crate::run::messages::{Home, Notice};
use crate::run::user::User;

/// The tasks of one worker.
pub struct Tasks {
    worker: usize,
    /// Boxed, so that places which a crowd has left cost little until they are used again. A place is there before its task, which is
    /// made with its key; a task that goes on, or that another is made of, is not in its place meanwhile.
    scheduler: Scheduler<Option<Box<Task>>>,
    /// Connections that came in and have not shown what they are.
    strangers: Strangers<Key>,
    /// Most tasks since memory was given back last.
    busiest: usize,
    /// Much of what the start, or that of a tunnel, has needed is needed once: that is yet to be given back.
    fresh: bool,
    tidy: Option<Instant>,
}

impl Tasks {
    /// None yet, at that worker.
    pub fn new(worker: usize, budget: &Budget, now: Instant) -> Tasks {
        let strangers = Strangers::new(budget.strangers, budget.kept);
        Tasks { worker, scheduler: Scheduler::new(now), strangers, busiest: 0, fresh: worker == 0, tidy: None }
    }

    /// A task, if it is still there.
    pub fn get(&self, key: Key) -> Option<&Task> {
        self.scheduler.get(key)?.as_deref()
    }

    /// A task, if it is still there.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut Task> {
        self.scheduler.get_mut(key)?.as_deref_mut()
    }

    /// All of them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Task> {
        self.scheduler.iter_mut().filter_map(|(_, task)| task.as_deref_mut())
    }

    /// Where a task of this worker lives.
    pub fn home(&self, key: Key) -> Home {
        Home { worker: self.worker, key }
    }

    /// Makes a new task under a key of its own and queues it.
    pub fn start(
        &mut self,
        context: &mut Context,
        make: impl FnOnce(Home, &mut Context) -> io::Result<Task>,
    ) -> Option<Key> {
        let key = self.scheduler.insert(None);
        match make(self.home(key), context) {
            Ok(task) => {
                self.put(key, task);
                Some(key)
            }
            Err(error) => {
                log::debug!("Connection lost before it began: {error}");
                self.remove(key);
                None
            }
        }
    }

    /// The same for a connection that came in from that address, where a living tunnel is (`known`) or not. Others may have to make room.
    pub fn start_inbound(
        &mut self,
        (from, known): (IpAddr, bool),
        context: &mut Context,
        make: impl FnOnce(Home, &mut Context) -> io::Result<Task>,
    ) {
        if let Some(key) = self.start(context, make) {
            self.strangers.enter(key, from, known);
            self.evict(Some(key), context);
        }
    }

    /// Looks whether a task has shown what it is, and how much it takes while it has not.
    pub fn settle(&mut self, key: Key, context: &mut Context) {
        if !self.strangers.contains(key) {
            return;
        }
        match self.get(key).and_then(|task| task.undecided(&context.muxes)) {
            Some(weight) => {
                self.strangers.weigh(key, weight);
                self.evict(None, context);
            }
            None => self.strangers.leave(key),
        }
    }

    /// Closes those that have to make room.
    fn evict(&mut self, newcomer: Option<Key>, context: &mut Context) {
        while let Some(key) = self.strangers.surplus(newcomer, random::number) {
            if let Some(Task::Mux(_)) = self.get(key) {
                // Its streams have to notice: they belong to no tunnel.
                context.mux_events.ended.push(0);
            }
            self.remove(key);
        }
    }

    /// What is at that key is this task from now on. It is queued.
    pub fn put(&mut self, key: Key, task: impl Into<Task>) {
        if let Some(place) = self.scheduler.get_mut(key) {
            *place = Some(Box::new(task.into()));
            self.queue(key);
        }
    }

    /// Takes an idle connection out of its place, which stays for what is made of it.
    pub fn take_idle(&mut self, key: Key) -> Option<Idle> {
        let place = self.scheduler.get_mut(key)?;
        match *place.take()? {
            Task::Idle(idle) => Some(idle),
            other => {
                *place = Some(Box::new(other));
                None
            }
        }
    }

    /// Takes a pool connection out of its place for the peer's next user: an idle one, or one that has a user of whom the peer has taken
    /// leave. That user has left.
    pub fn take_pool(&mut self, key: Key, context: &Context) -> Option<(Leg, Option<Id>)> {
        let home = self.home(key);
        let task = self.scheduler.get_mut(key)?.take()?;
        if let Some(proto) = task.proto() {
            context.hub.send(Notice::Done { home, tunnel: task.tunnel(&context.muxes), proto });
        }
        let id = match &*task {
            Task::Idle(idle) => idle.id,
            _ => None,
        };
        Some((task.into_pool()?, id))
    }

    /// Takes a user whose pool connection `id` is dead out of its place. One who cannot have another is ended; one whose connection has been
    /// heard stays.
    pub fn take_user(&mut self, key: Key, id: Id, context: &Context) -> Option<User> {
        let retried = match self.get(key)? {
            Task::Relay(relay) if relay.unheard_id() == Some(id) => relay.may_retry(),
            Task::Stage(Stage::Doubt(doubt)) => doubt.id() == id,
            _ => return None,
        };
        if !retried {
            self.end_user(key, context);
            return None;
        }
        let task = self.take(key)?;
        let (proto, tunnel) = (task.proto()?, task.tunnel(&context.muxes));
        let user = match *task {
            Task::Relay(relay) => relay.into_user(context),
            Task::Stage(Stage::Doubt(doubt)) => doubt.into_user(context),
            _ => None,
        };
        if user.is_none() {
            context.hub.send(Notice::Done { home: self.home(key), tunnel, proto });
        }
        user
    }

    /// Drops a task, with its sockets.
    pub fn remove(&mut self, key: Key) {
        self.take(key);
    }

    /// Drops all of these. The slots of their users are free.
    pub fn close(&mut self, context: &Context, which: impl Fn(&Task) -> bool) {
        self.find(which).into_iter().for_each(|key| self.end_user(key, context));
    }

    /// Drops one. The slot of its user is free.
    pub fn end_user(&mut self, key: Key, context: &Context) {
        let task = self.take(key);
        if let Some((proto, tunnel)) = task.and_then(|task| Some((task.proto()?, task.tunnel(&context.muxes)))) {
            context.hub.send(Notice::Done { home: self.home(key), tunnel, proto });
        }
    }

    /// Remembers an edge and queues its task; a shared connection goes on before and after the turns' tasks.
    pub fn note(&mut self, event: &Event, muxes: &mut Muxes) {
        let (index, side) = socket_of(event.token());
        let Some(key) = self.scheduler.at(index) else { return };
        if let Some(task) = self.get_mut(key) {
            task.note(side, event, muxes);
            if !matches!(task, Task::Mux(_)) {
                self.queue(key);
            }
        }
    }

    /// A task goes on in this turn, or in the next if this one's are under way.
    pub fn queue(&mut self, key: Key) {
        self.scheduler.queue(key);
    }

    /// The same for the task with that index.
    pub fn queue_at(&mut self, index: usize) {
        if let Some(key) = self.scheduler.at(index) {
            self.queue(key);
        }
    }

    /// The same for all of these.
    pub fn queue_all(&mut self, which: impl Fn(&Task) -> bool) {
        self.find(which).into_iter().for_each(|key| self.queue(key));
    }

    /// Queues the tasks whose time has come.
    pub fn wake(&mut self, now: Instant) {
        self.scheduler.wake(now);
    }

    /// Lets each go on that is ready now, once.
    pub fn advance_ready(&mut self, context: &mut Context, now: Instant) {
        for _ in 0..self.scheduler.ready() {
            if let Some(key) = self.scheduler.take_ready() {
                self.advance(key, context, now);
            }
        }
    }

    /// Lets a task go on.
    pub fn advance(&mut self, key: Key, context: &mut Context, now: Instant) {
        let home = self.home(key);
        let Some(task) = self.scheduler.get_mut(key).and_then(Option::take) else { return };
        let Some((task, schedule)) = task.advance(home, context, now) else { return self.remove(key) };
        let due = task.deadline();
        if let Some(place) = self.scheduler.get_mut(key) {
            *place = Some(task);
        }
        if let Schedule::Again = schedule {
            self.queue(key);
        }
        if let Some(due) = due {
            self.scheduler.arm(key, due);
        }
        self.settle(key, context);
    }

    /// Whether one is ready.
    pub fn is_busy(&self) -> bool {
        self.scheduler.ready() > 0
    }

    /// When a timer is due.
    pub fn deadline(&self) -> Option<Instant> {
        self.scheduler.deadline().into_iter().chain(self.tidy).min()
    }

    /// A tunnel has begun.
    pub fn renewed(&mut self) {
        (self.fresh, self.tidy) = (true, None);
    }

    /// Some time after the start or that of a tunnel, and after a crowd has gone, its memory goes back to the system: whether it is time
    /// for others to give back theirs, too.
    pub fn tidy(&mut self, now: Instant) -> bool {
        self.busiest = self.busiest.max(self.scheduler.len());
        let crowd_gone = self.busiest >= CROWD && self.scheduler.len() <= self.busiest / 2;
        if !self.fresh && !crowd_gone {
            self.tidy = None;
            return false;
        }
        if now < *self.tidy.get_or_insert(now + QUIET) {
            return false;
        }
        (self.tidy, self.busiest, self.fresh) = (None, self.scheduler.len(), false);
        self.scheduler.shrink(CROWD);
        true
    }

    fn take(&mut self, key: Key) -> Option<Box<Task>> {
        self.strangers.leave(key);
        self.scheduler.remove(key)?
    }

    fn find(&self, which: impl Fn(&Task) -> bool) -> Vec<Key> {
        let tasks = self.scheduler.iter().filter_map(|(key, task)| Some((key, task.as_deref()?)));
        tasks.filter(|(_, task)| which(task)).map(|(key, _)| key).collect()
    }
}

/// From this many tasks on it is worth giving memory back after they have gone.
const CROWD: usize = 128;
/// So long after it has gone, since the last of a crowd go slowly, and after a start, which has users to greet.
const QUIET: Duration = Duration::from_secs(2);
