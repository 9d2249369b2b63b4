//! A connection that carries many streams (QUIC, HTTP/2), as a task of its worker.
//!
//! Its streams are tasks of their own, in the stages that other pool connections have too. It goes on twice a turn: first
//! to take in what came, last to send what the turn's relays made it say.
//!
//! ```text
//!  server:  Inbound --TLS says h2--> MuxTask --accepted--> Inbound (reads the opening) --> Idle ...
//!           Job::Serve (QUIC port) ---->+
//!  client:  Connector --TLS says h2--> MuxTask --opened--> Connector (says the opening, reads the id) --> Idle ...
//!           Job::Open (QUIC) --------->+
//! ```

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use mio::event::Event;
use mio::Token;

use super::accept::Inbound;
use super::connect::Connector;
use super::context::{token, Context, REMOTE};
use super::task::{Next, Task};
use super::Worker;
use crate::error::Error;
use crate::logic::slab::Key;
use crate::logic::terms::TunnelNo;
use crate::net::leg::Leg;
use crate::net::mux::{AllowedPeer, Hold, Loan, Mux, Muxes};
use crate::net::quic;
use crate::net::stream::ready;
use crate::run::messages::{Home, Notice, ServerRoute, TunnelEvent};
use crate::run::policy::AcceptPolicy;

/// A shared connection and what its streams are for.
pub struct MuxTask {
    hold: Hold,
    purpose: Purpose,
    /// Its clock: finer than the worker's timers.
    due: Option<Instant>,
    /// An edge came, or more waits.
    stirred: bool,
}

enum Purpose {
    /// A port that outlives tunnels: streams that come in are inbounds of the policy (server).
    Port(Arc<AcceptPolicy>),
    /// A connection of one tunnel: the same (server).
    Accept(Arc<AcceptPolicy>),
    /// Streams are opened for this route (client); whether the handshake has been over once.
    ServerRoute(Arc<ServerRoute>, bool),
}

/// What the shared connections of a worker have brought about.
#[derive(Default)]
pub struct MuxEvents {
    /// Streams with an edge, by the tokens of their tasks.
    edges: Vec<Token>,
    /// Streams that came in, from whom and to which policy.
    pending: Vec<(Loan, SocketAddr, Arc<AcceptPolicy>)>,
    /// Tunnels whose shared connection has ended: their tasks have to notice.
    bereft: Vec<TunnelNo>,
}

impl MuxTask {
    /// A server's port.
    fn port(mux: Box<dyn Mux>, policy: Arc<AcceptPolicy>, context: &mut Context) -> MuxTask {
        MuxTask::new(mux, Purpose::Port(policy), context)
    }

    /// For a server's tunnel: streams that come in are inbounds of `policy`.
    pub fn serving(mux: Box<dyn Mux>, policy: Arc<AcceptPolicy>, context: &mut Context) -> MuxTask {
        MuxTask::new(mux, Purpose::Accept(policy), context)
    }

    /// For a client: streams are opened as `route` says.
    pub fn calling(mux: Box<dyn Mux>, route: Arc<ServerRoute>, context: &mut Context) -> MuxTask {
        MuxTask::new(mux, Purpose::ServerRoute(route, false), context)
    }

    fn new(mux: Box<dyn Mux>, purpose: Purpose, context: &mut Context) -> MuxTask {
        MuxTask { hold: context.muxes.insert(mux), purpose, due: None, stirred: true }
    }

    /// Takes in, runs the clocks, sends.
    pub fn advance(&mut self, context: &mut Context, now: Instant) -> Next {
        let Some(mux) = context.muxes.get_mut(&self.hold) else { return Next::End };
        let result = mux.advance(now);
        while let Some(token) = mux.changed() {
            context.mux_events.edges.push(token);
        }
        let (up, due) = (mux.is_up(), mux.deadline());
        if let Purpose::Port(policy) | Purpose::Accept(policy) = &self.purpose {
            while let Some((stream, from)) = context.muxes.get_mut(&self.hold).and_then(|mux| mux.accept()) {
                context.mux_events.pending.push((context.muxes.claim(&self.hold, stream), from, policy.clone()));
            }
        }
        match result {
            Err(error) => return self.end(&error.to_string(), context),
            Ok(more) => (self.due, self.stirred) = (due, more),
        }
        if let Purpose::ServerRoute(route, was_up @ false) = &mut self.purpose {
            if up {
                *was_up = true;
                context.hub.send(Notice::Tunnel { number: route.tunnel, event: TunnelEvent::MuxUp });
                log::debug!("{} connection with the server is up", route.transport.name());
            }
        }
        Next::Wait
    }

    /// The tunnel that it ends with; 0 for a port that outlives tunnels, and for a connection whose tunnel is not known yet.
    pub fn tunnel(&self, muxes: &Muxes) -> TunnelNo {
        match &self.purpose {
            Purpose::Port(_) => 0,
            Purpose::Accept(_) => muxes.owner(&self.hold),
            Purpose::ServerRoute(route, _) => route.tunnel,
        }
    }

    /// Remembers an edge.
    pub fn note(&mut self, event: &Event, muxes: &mut Muxes) {
        self.stirred = true;
        if let Some(mux) = muxes.get_mut(&self.hold) {
            mux.note(event);
        }
    }

    fn end(&mut self, why: &str, context: &mut Context) -> Next {
        match &self.purpose {
            Purpose::Port(_) => log::error!("The tunnel's shared port is closed: {why}"),
            Purpose::Accept(_) => {
                log::debug!("Shared connection ended: {why}");
                context.mux_events.bereft.push(0);
                context.mux_events.bereft.push(self.tunnel(&context.muxes));
            }
            Purpose::ServerRoute(route, was_up) => {
                if !was_up {
                    context.hub.send(Notice::Tunnel {
                        number: route.tunnel,
                        event: TunnelEvent::MuxFailed(Error::lost(why.to_owned())),
                    });
                }
                log::debug!("{} connection with the server ended: {why}", route.transport.name());
                context.mux_events.bereft.push(route.tunnel);
            }
        }
        Next::End
    }

    /// Whether it should go on now.
    fn is_due(&self, muxes: &mut Muxes, now: Instant) -> bool {
        self.stirred
            || self.due.is_some_and(|due| now >= due)
            || muxes.get_mut(&self.hold).is_none_or(|mux| mux.is_dirty())
    }
}

/// A worker's shared connections.
#[derive(Default)]
pub struct Muxers {
    /// The tasks that are, or will become, carriers.
    carriers: Vec<Key>,
    /// The one that a client's pool connections are opened on.
    current: Option<(TunnelNo, Key)>,
    /// Pool connections to be opened on it: once it is up, and the other side allows more.
    wanted: VecDeque<Arc<ServerRoute>>,
    /// The hub knows that the other side allows no more.
    exhausted: bool,
}

impl Muxers {
    /// This task is a carrier now, or will become one.
    pub fn add(&mut self, key: Key) {
        if !self.carriers.contains(&key) {
            self.carriers.push(key);
        }
    }

    /// When the clock has something to say. `carrier` finds a task's clock.
    pub fn deadline<'a>(&self, carrier: impl Fn(Key) -> Option<&'a MuxTask>) -> Option<Instant> {
        self.carriers.iter().filter_map(|key| carrier(*key)?.due).min()
    }

    /// Whether a carrier has more to do at once.
    pub fn is_busy<'a>(&self, carrier: impl Fn(Key) -> Option<&'a MuxTask>) -> bool {
        self.carriers.iter().any(|key| carrier(*key).is_some_and(|carrier| carrier.stirred))
    }
}

/// A QUIC connection to the server, for the tunnel's pool connections.
pub(super) fn call_quic(route: Arc<ServerRoute>, home: Home, context: &mut Context, now: Instant) -> io::Result<Task> {
    let missing = || io::Error::other("no server to route over QUIC");
    let (server, tls) = (route.addresses.first().ok_or_else(missing)?, route.quic.as_ref().ok_or_else(missing)?);
    // Where UDP is blocked the other way is found the sooner.
    let (report, timeout) = (context.shared.config.limits.report, route.timeout / 2);
    let settings = quic::Settings::client(report, timeout, route.round);
    let mut mux = quic::connect(*server, tls, &settings, &mut context.tickets, now)?;
    mux.register(&context.registry, token(home.key, REMOTE))?;
    Ok(Task::MuxTask(MuxTask::calling(mux, route, context)))
}

impl Worker {
    /// A port to which connections of many streams come.
    pub(super) fn serve(&mut self, mut mux: Box<dyn Mux>, policy: Arc<AcceptPolicy>) {
        let started = self.start(0, |home, context| {
            mux.register(&context.registry, token(home.key, REMOTE))?;
            Ok(Task::MuxTask(MuxTask::port(mux, policy.clone(), context)))
        });
        if let Some(key) = started {
            self.muxers.add(key);
            self.regate(policy);
        }
    }

    /// What inbounds of such ports must bring from now on.
    pub(super) fn regate(&mut self, fresh: Arc<AcceptPolicy>) {
        for at in 0..self.muxers.carriers.len() {
            let key = self.muxers.carriers[at];
            let Some(slot) = self.tasks.get_mut(key) else { continue };
            let Some(Task::MuxTask(carrier)) = slot.task.as_deref_mut() else { continue };
            let Purpose::Port(policy) = &mut carrier.purpose else { continue };
            (*policy, carrier.stirred) = (fresh.clone(), true);
            if let (Some(mux), Some(identity)) = (self.context.muxes.get_mut(&carrier.hold), &fresh.tls) {
                let peers = fresh.tunnels.iter();
                let peers: Vec<_> =
                    peers.map(|tunnel| AllowedPeer { tunnel: tunnel.number, address: tunnel.peer }).collect();
                if let Err(error) = mux.allow(&peers, identity) {
                    log::error!("The new certificate cannot be used for QUIC, the old one stays: {error}");
                }
            }
        }
    }

    /// A pool connection is to be opened on the shared connection of its tunnel, which is made if there is none.
    pub(super) fn want(&mut self, route: Arc<ServerRoute>, now: Instant) {
        let current =
            self.muxers.current.filter(|(tunnel, key)| *tunnel == route.tunnel && self.tasks.get(*key).is_some());
        if current.is_none() {
            self.fail_wanted();
            let made = |home, context: &mut Context| Connector::carrying(route.clone(), home, context, now);
            let Some(key) = self.start(route.tunnel, made) else {
                return self.context.hub.send(Notice::Tunnel {
                    number: route.tunnel,
                    event: TunnelEvent::Failed(Some(Error::system("", "no socket to be had"))),
                });
            };
            self.muxers.add(key);
            self.muxers.current = Some((route.tunnel, key));
            self.advance(key, now);
        }
        self.muxers.wanted.push_back(route);
    }

    /// Lets the shared connections go on that have a reason to, and sees to what they bring about.
    pub(super) fn carry(&mut self, now: Instant) {
        self.context.muxes.bury();
        for at in 0..self.muxers.carriers.len() {
            let key = self.muxers.carriers[at];
            let due = match self.tasks.get(key).and_then(|slot| slot.task.as_deref()) {
                Some(Task::MuxTask(carrier)) => carrier.is_due(&mut self.context.muxes, now),
                _ => false,
            };
            if due {
                self.advance(key, now);
            }
        }
        self.muxers.carriers.retain(|key| self.tasks.get(*key).is_some());
        self.open_wanted(now);
        self.heed(now);
    }

    /// Streams that stir, come in, or are lost.
    fn heed(&mut self, now: Instant) {
        let MuxEvents { edges, pending, bereft } = std::mem::take(&mut self.context.mux_events);
        for token in &edges {
            if let Some(key) = self.tasks.at(token.0 / 2) {
                self.queue(key);
            }
        }
        for (loan, from, policy) in pending {
            let made = |home: Home, context: &mut Context| {
                context.muxes.watch(&loan, token(home.key, REMOTE));
                Ok(Task::Inbound(Inbound::of_stream(Leg::Mux(loan), from, policy, now)))
            };
            if let Some(key) = self.start(0, made) {
                self.inbounds.push_back(key);
            }
        }
        for tunnel in bereft {
            let keys: Vec<Key> =
                self.tasks.iter().filter(|(_, slot)| slot.tunnel == tunnel).map(|(key, _)| key).collect();
            keys.into_iter().for_each(|key| self.queue(key));
        }
        // The allocation is kept for the next turn.
        self.context.mux_events.edges = edges;
        self.context.mux_events.edges.clear();
    }

    /// Opens what is wanted, as far as the other side allows.
    fn open_wanted(&mut self, now: Instant) {
        let Some((tunnel, key)) = self.muxers.current else { return };
        while let Some(route) = self.muxers.wanted.front().cloned() {
            match self.open_stream(key) {
                Ok(Opening::Opened(loan)) => {
                    let made = |home: Home, context: &mut Context| {
                        context.muxes.watch(&loan, token(home.key, REMOTE));
                        Ok(Task::Connector(Connector::over(Leg::Mux(loan), route, now)))
                    };
                    if let Some(key) = self.start(tunnel, made) {
                        self.advance(key, now);
                    }
                }
                Ok(Opening::Early) => return,
                Ok(Opening::Exhausted) => return self.exhausted(tunnel, true),
                Err(_) => return self.fail_wanted(),
            }
            self.muxers.wanted.pop_front();
            self.exhausted(tunnel, false);
        }
    }

    /// Whether the other side allows no more streams: the hub is told when that changes.
    fn exhausted(&mut self, tunnel: TunnelNo, so: bool) {
        if std::mem::replace(&mut self.muxers.exhausted, so) != so {
            self.context.hub.send(Notice::Tunnel { number: tunnel, event: TunnelEvent::Exhausted(so) });
        }
    }

    /// A new stream on that carrier. An error: it has had its day, another one may be made.
    fn open_stream(&mut self, key: Key) -> io::Result<Opening> {
        let task = self.tasks.get(key).map(|slot| slot.task.as_deref());
        let Some(task) = task else { return Err(io::ErrorKind::NotConnected.into()) };
        // What will become one is still on its way.
        let Some(Task::MuxTask(carrier)) = task else { return Ok(Opening::Early) };
        let was_up = matches!(carrier.purpose, Purpose::ServerRoute(_, true));
        match self.context.muxes.get_mut(&carrier.hold) {
            Some(mux) if mux.is_up() || was_up => Ok(match ready(mux.open())? {
                Some(stream) => Opening::Opened(self.context.muxes.claim(&carrier.hold, stream)),
                None => Opening::Exhausted,
            }),
            _ => Ok(Opening::Early),
        }
    }

    /// The carrier is lost, and with it what waited for it.
    fn fail_wanted(&mut self) {
        (self.muxers.current, self.muxers.exhausted) = (None, false);
        for route in std::mem::take(&mut self.muxers.wanted) {
            self.context.hub.send(Notice::Tunnel { number: route.tunnel, event: TunnelEvent::Failed(None) });
        }
    }
}

/// What opening a stream came to.
enum Opening {
    Opened(Loan),
    /// The carrier is not up yet.
    Early,
    /// All streams that the other side allows are in use.
    Exhausted,
}
