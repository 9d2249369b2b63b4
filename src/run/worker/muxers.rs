//! The shared connections of a worker: when they go on, what they bring about, and what is opened on them.
//!
//! They go on twice a turn: first to take in what came, last to send what all else in the turn made them say, together. Only those are
//! looked at that something happened to, or whose clock is due.

use std::collections::{BTreeSet, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use super::accept::Inbound;
use super::connect::Connector;
use super::context::{socket_of, token, Context, MuxEvents, Side};
use super::mux::{MuxTask, Opening, AHEAD};
use super::task::Task;
use super::tasks::Tasks;
use crate::config::Transport;
use crate::error::Error;
use crate::logic::deadlines::Deadlines;
use crate::logic::slab::Key;
use crate::logic::terms::TunnelNo;
use crate::net::leg::Leg;
use crate::net::mux::{Loan, Mux, Muxes};
use crate::run::messages::{Home, Notice, ServerRoute, TunnelEvent, Wanted};
use crate::run::policy::AcceptPolicy;

/// A worker's shared connections.
#[derive(Default)]
pub struct Muxers {
    /// Their tasks.
    keys: BTreeSet<Key>,
    /// Their clocks, which are finer than the worker's timers.
    deadlines: Deadlines<Key>,
    /// Those that have more to do at once.
    busy: Vec<Key>,
    /// The tunnel of a client, and those that its pool connections are opened on, or the tasks that will become them.
    current: Option<(TunnelNo, Vec<Key>)>,
    /// Pool connections to be opened on them: once one is up, and the peer allows more.
    wanted: VecDeque<Wanted>,
    /// The hub knows that the peer allows no more.
    exhausted: bool,
}

impl Muxers {
    /// When the next clock has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    /// Whether one of them has more to do at once.
    pub fn is_busy(&self) -> bool {
        !self.busy.is_empty()
    }

    /// Whether there are none, nor will be any by what is known.
    fn is_unused(&self) -> bool {
        self.keys.is_empty() && self.current.is_none() && self.busy.is_empty()
    }

    /// A port to which connections of many streams come.
    pub fn serve(&mut self, port: Box<dyn Mux>, policy: Arc<AcceptPolicy>, tasks: &mut Tasks, context: &mut Context) {
        let made = |home, context: &mut Context| Ok(MuxTask::port(port, policy.clone(), home, context)?.into());
        if let Some(key) = tasks.start(context, made) {
            self.keys.insert(key);
            self.set_policy(policy, tasks, context);
        }
    }

    /// What peers at such ports must bring from now on.
    pub fn set_policy(&mut self, policy: Arc<AcceptPolicy>, tasks: &mut Tasks, context: &mut Context) {
        for key in &self.keys {
            if let Some(Task::Mux(task)) = tasks.get_mut(*key) {
                task.set_policy(&policy, &mut context.muxes);
            }
        }
    }

    /// Another process receives at such a port from now on: there is one.
    pub fn hand_on(&mut self, pipe: OwnedFd, tasks: &mut Tasks, context: &mut Context) {
        let is_port = |key: &&Key| mux(tasks.get(**key)).is_some_and(MuxTask::is_port);
        let Some(key) = self.keys.iter().find(is_port).copied() else { return };
        if let Some(Task::Mux(task)) = tasks.get_mut(key) {
            task.hand_on(pipe, token(key, Side::Remote), context);
        }
    }

    /// A pool connection is to be opened on a shared connection of its tunnel; they are made if there is none.
    pub fn request(&mut self, wanted: Wanted, tasks: &mut Tasks, context: &mut Context, now: Instant) {
        let tunnel = wanted.route.tunnel;
        let lost = |(of, keys): &mut (TunnelNo, Vec<Key>)| {
            keys.retain(|key| tasks.get(*key).is_some());
            *of != tunnel || keys.is_empty()
        };
        if self.current.as_mut().is_none_or(lost) {
            self.fail_wanted(context);
            if !self.connect(&wanted.route, tasks, context, now) {
                let event = TunnelEvent::Failed(Some(Error::system("", "no socket to be had")));
                return context.hub.send(Notice::Tunnel { number: tunnel, event });
            }
        }
        // Also in place of those that were lost since.
        while self.carriers() < wanted.route.carriers && self.connect(&wanted.route, tasks, context, now) {}
        self.wanted.push_back(wanted);
    }

    /// How many connections carry the tunnel's pool, or will.
    fn carriers(&self) -> usize {
        self.current.as_ref().map_or(0, |(_, keys)| keys.len())
    }

    /// Makes one more connection on that route. `false`: there is no socket for it.
    fn connect(&mut self, route: &Arc<ServerRoute>, tasks: &mut Tasks, context: &mut Context, now: Instant) -> bool {
        let made = |home: Home, context: &mut Context| match route.transport {
            Transport::Quic => Ok(MuxTask::quic(route.clone(), home, context, now)?.into()),
            _ => Ok(Connector::carrying(route.clone(), home, context).into()),
        };
        let Some(key) = tasks.start(context, made) else { return false };
        self.current.get_or_insert_with(|| (route.tunnel, Vec::new())).1.push(key);
        tasks.advance(key, context, now);
        true
    }

    /// A tunnel is over: what is left of its shared connections ends with the relays that they carry.
    pub fn leave(&mut self, tunnel: TunnelNo, tasks: &mut Tasks, muxes: &mut Muxes) {
        for key in &self.keys {
            if let Some(Task::Mux(task)) = tasks.get_mut(*key).filter(|task| task.tunnel(muxes) == tunnel) {
                task.leave(muxes);
            }
        }
    }

    /// Takes in what came.
    pub fn hear(&mut self, tasks: &mut Tasks, context: &mut Context, now: Instant) {
        context.taking_in = true;
        self.advance(tasks, context, now);
        context.taking_in = false;
    }

    /// Opens what is wanted and sends what is to be said.
    pub fn say(&mut self, tasks: &mut Tasks, context: &mut Context, now: Instant) {
        self.open_wanted(tasks, context, now);
        self.advance(tasks, context, now);
        // On what has come up, or has room, only now.
        if self.open_wanted(tasks, context, now) {
            self.advance(tasks, context, now);
        }
    }

    /// Lets those go on that have a reason to, and applies what they bring about.
    fn advance(&mut self, tasks: &mut Tasks, context: &mut Context, now: Instant) {
        context.muxes.release_dropped();
        if self.is_unused() && context.muxes.is_empty() {
            return;
        }
        let mut stirred = std::mem::take(&mut self.busy);
        stirred.extend(std::iter::from_fn(|| context.muxes.stirred()));
        stirred.extend(std::iter::from_fn(|| self.deadlines.expired(now)));
        stirred.sort_unstable();
        stirred.dedup();
        for key in stirred {
            if mux(tasks.get(key)).is_some_and(|task| task.is_over(&context.muxes)) {
                tasks.remove(key);
            }
            if mux(tasks.get(key)).is_some_and(|task| task.is_due(&mut context.muxes, now)) {
                tasks.advance(key, context, now);
            }
            tasks.settle(key, context);
            self.note(key, mux(tasks.get(key)));
        }
        apply_events(tasks, context, now);
    }

    /// Remembers when a shared connection goes on; one that is gone never does.
    fn note(&mut self, key: Key, task: Option<&MuxTask>) {
        self.deadlines.set(key, task.and_then(MuxTask::deadline));
        match task {
            Some(task) => {
                self.keys.insert(key);
                self.busy.extend(task.is_ready().then_some(key));
            }
            None => drop(self.keys.remove(&key)),
        }
    }

    /// Opens what is wanted, as far as the peer allows: whether anything was.
    fn open_wanted(&mut self, tasks: &mut Tasks, context: &mut Context, now: Instant) -> bool {
        let mut opened = false;
        while let (Some(wanted), Some((tunnel, keys))) = (self.wanted.front().cloned(), &mut self.current) {
            let tunnel = *tunnel;
            match open_on(keys, tasks, &mut context.muxes) {
                Some(Opening::Opened(stream)) => start_opening(stream, wanted, tasks, context, now),
                Some(Opening::Early) => break,
                Some(Opening::Exhausted) if keys.len() < wanted.route.connections => {
                    match self.connect(&wanted.route, tasks, context, now) {
                        true => continue,
                        false => break,
                    }
                }
                Some(Opening::Exhausted) => {
                    self.set_exhausted(tunnel, true, context);
                    break;
                }
                None => {
                    self.fail_wanted(context);
                    break;
                }
            }
            opened = true;
            self.wanted.pop_front();
            self.set_exhausted(tunnel, false, context);
        }
        opened
    }

    /// Whether the peer allows no more streams: the hub is told when that changes.
    fn set_exhausted(&mut self, tunnel: TunnelNo, exhausted: bool, context: &Context) {
        if std::mem::replace(&mut self.exhausted, exhausted) != exhausted {
            context.hub.send(Notice::Tunnel { number: tunnel, event: TunnelEvent::Exhausted(exhausted) });
        }
    }

    /// The connection is lost, and with it what waited for it.
    fn fail_wanted(&mut self, context: &Context) {
        (self.current, self.exhausted) = (None, false);
        for wanted in std::mem::take(&mut self.wanted) {
            context.hub.send(Notice::Tunnel { number: wanted.route.tunnel, event: TunnelEvent::Failed(None) });
        }
    }
}

/// Opens a stream on that one of these connections which carries least and takes one more; those that are lost, or take none ever again, are
/// left out. `None` if no connection remains.
fn open_on(keys: &mut Vec<Key>, tasks: &Tasks, muxes: &mut Muxes) -> Option<Opening> {
    keys.sort_by_cached_key(|key| match tasks.get(*key) {
        Some(Task::Mux(task)) => task.load(muxes),
        _ => AHEAD,
    });
    let (mut at, mut exhausted) = (0, None);
    while let Some(key) = keys.get(at) {
        let opening = match tasks.get(*key) {
            Some(Task::Mux(task)) => task.open(muxes).ok(),
            // What will become one is still on its way.
            Some(_) => Some(Opening::Early),
            None => None,
        };
        match opening {
            Some(Opening::Exhausted) => (at, exhausted) = (at + 1, opening),
            Some(_) => return opening,
            None => drop(keys.remove(at)),
        }
    }
    exhausted
}

/// Streams with an edge, streams that come in, and tunnels that have lost their streams.
fn apply_events(tasks: &mut Tasks, context: &mut Context, now: Instant) {
    let Context { mux_events: MuxEvents { edges, accepted, ended, .. }, muxes, .. } = context;
    for token in edges.drain(..) {
        tasks.queue_at(socket_of(token).0);
    }
    if !ended.is_empty() {
        // Streams find their connection gone in this turn: after it nothing would wake them before their own clocks.
        muxes.release_dropped();
    }
    for tunnel in ended.drain(..) {
        tasks.queue_all(|task| task.tunnel(muxes) == tunnel);
    }
    for (stream, from, policy) in std::mem::take(accepted) {
        let made = |home: Home, context: &mut Context| {
            context.muxes.watch(&stream, token(home.key, Side::Remote));
            Ok(Inbound::of_stream(Leg::Mux(stream), from, policy, now).into())
        };
        // What bounds it is its connection.
        tasks.start(context, made);
    }
}

/// A stream that was opened becomes a pool connection.
fn start_opening(stream: Loan, wanted: Wanted, tasks: &mut Tasks, context: &mut Context, now: Instant) {
    let made = |home: Home, context: &mut Context| {
        context.muxes.watch(&stream, token(home.key, Side::Remote));
        Ok(Connector::over(Leg::Mux(stream), wanted, now).into())
    };
    if let Some(key) = tasks.start(context, made) {
        tasks.advance(key, context, now);
    }
}

fn mux(task: Option<&Task>) -> Option<&MuxTask> {
    match task {
        Some(Task::Mux(mux)) => Some(mux),
        _ => None,
    }
}
