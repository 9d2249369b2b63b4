//! A connection that carries many streams (QUIC, HTTP/2), as a task of its worker.
//!
//! Its streams are tasks of their own, in the stages that other pool connections have too. It goes on twice a turn: first
//! to take in what came, last to send what the turn's relays made it say.
//!
//! ```text
//!  server:  Visitor --TLS says h2--> Carrier --accepted--> Visitor (reads the opening) --> Idle ...
//!           Job::Serve (QUIC port) ---->+
//!  client:  Caller --TLS says h2--> Carrier --opened--> Caller (says the opening, reads the id) --> Idle ...
//!           Job::Open (QUIC) --------->+
//! ```

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use mio::event::Event;
use mio::Token;

use super::caller::Caller;
use super::handoff::{Call, Gate, Home, Notice, TunnelNo};
use super::task::{token, Means, Next, Task, FAR};
use super::visitor::Visitor;
use super::worker::Worker;
use crate::logic::slab::Key;
use crate::net::leg::Leg;
use crate::net::mux::{Hold, Loan, Mux, Muxes};
use crate::net::quic;
use crate::net::stream::now as passing;

/// A shared connection and what its streams are for.
pub struct Carrier {
    hold: Hold,
    purpose: Purpose,
    /// Its clock: finer than the worker's timers.
    due: Option<Instant>,
    /// An edge came, or more waits.
    stirred: bool,
}

enum Purpose {
    /// A port that outlives tunnels: streams that come in are visitors of the gate (server).
    Port(Arc<Gate>),
    /// A connection of one tunnel: the same (server).
    Gate(Arc<Gate>),
    /// Streams are opened for this call (client); whether the handshake has been over once.
    Call(Arc<Call>, bool),
}

/// What the shared connections of a worker have brought about.
#[derive(Default)]
pub struct News {
    /// Streams with an edge, by the tokens of their tasks.
    edges: Vec<Token>,
    /// Streams that came in, from whom and to which gate.
    guests: Vec<(Loan, SocketAddr, Arc<Gate>)>,
    /// Tunnels whose shared connection has ended: their tasks have to notice.
    bereft: Vec<TunnelNo>,
}

impl Carrier {
    /// A server's port.
    fn port(mux: Box<dyn Mux>, gate: Arc<Gate>, means: &mut Means) -> Carrier {
        Carrier::new(mux, Purpose::Port(gate), means)
    }

    /// For a server's tunnel: streams that come in are visitors of `gate`.
    pub fn serving(mux: Box<dyn Mux>, gate: Arc<Gate>, means: &mut Means) -> Carrier {
        Carrier::new(mux, Purpose::Gate(gate), means)
    }

    /// For a client: streams are opened as `call` says.
    pub fn calling(mux: Box<dyn Mux>, call: Arc<Call>, means: &mut Means) -> Carrier {
        Carrier::new(mux, Purpose::Call(call, false), means)
    }

    fn new(mux: Box<dyn Mux>, purpose: Purpose, means: &mut Means) -> Carrier {
        Carrier { hold: means.muxes.insert(mux), purpose, due: None, stirred: true }
    }

    /// Takes in, runs the clocks, sends.
    pub fn advance(&mut self, means: &mut Means, now: Instant) -> Next {
        let Some(mux) = means.muxes.get_mut(&self.hold) else { return Next::End };
        let result = mux.advance(now);
        while let Some(token) = mux.changed() {
            means.news.edges.push(token);
        }
        let (up, due) = (mux.is_up(), mux.deadline());
        if let Purpose::Port(gate) | Purpose::Gate(gate) = &self.purpose {
            while let Some((stream, from)) = means.muxes.get_mut(&self.hold).and_then(|mux| mux.accept()) {
                means.news.guests.push((means.muxes.claim(&self.hold, stream), from, gate.clone()));
            }
        }
        match result {
            Err(error) => return self.end(&error.to_string(), means),
            Ok(more) => (self.due, self.stirred) = (due, more),
        }
        if let Purpose::Call(call, was_up @ false) = &mut self.purpose {
            if up {
                *was_up = true;
                means.hub.send(Notice::Carried(call.tunnel));
                log::debug!("{} connection with the server is up", call.transport.name());
            }
        }
        Next::Wait
    }

    /// The tunnel that it ends with; 0 for a port that outlives tunnels.
    pub fn tunnel(&self) -> TunnelNo {
        match &self.purpose {
            Purpose::Port(_) => 0,
            Purpose::Gate(gate) => gate.tunnel.map_or(0, |tunnel| tunnel.number),
            Purpose::Call(call, _) => call.tunnel,
        }
    }

    /// Remembers an edge.
    pub fn note(&mut self, event: &Event, muxes: &mut Muxes) {
        self.stirred = true;
        if let Some(mux) = muxes.get_mut(&self.hold) {
            mux.note(event);
        }
    }

    fn end(&mut self, why: &str, means: &mut Means) -> Next {
        match &self.purpose {
            Purpose::Port(_) => log::error!("The tunnel's shared port is closed: {why}"),
            Purpose::Gate(_) => {
                log::debug!("Shared connection ended: {why}");
                means.news.bereft.push(self.tunnel());
            }
            Purpose::Call(call, was_up) => {
                if !was_up {
                    means.hub.send(Notice::Unreached(call.tunnel, why.to_owned()));
                }
                log::debug!("{} connection with the server ended: {why}", call.transport.name());
                means.news.bereft.push(call.tunnel);
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
pub struct Carriage {
    /// The tasks that are, or will become, carriers.
    carriers: Vec<Key>,
    /// The one that a client's pool connections are opened on.
    current: Option<(TunnelNo, Key)>,
    /// Pool connections to be opened on it: once it is up, and the other side allows more.
    wanted: VecDeque<Arc<Call>>,
    /// The hub knows that the other side allows no more.
    exhausted: bool,
}

impl Carriage {
    /// This task is a carrier now, or will become one.
    pub fn add(&mut self, key: Key) {
        if !self.carriers.contains(&key) {
            self.carriers.push(key);
        }
    }

    /// When the clock has something to say. `carrier` finds a task's clock.
    pub fn deadline<'a>(&self, carrier: impl Fn(Key) -> Option<&'a Carrier>) -> Option<Instant> {
        self.carriers.iter().filter_map(|key| carrier(*key)?.due).min()
    }

    /// Whether a carrier has more to do at once.
    pub fn is_busy<'a>(&self, carrier: impl Fn(Key) -> Option<&'a Carrier>) -> bool {
        self.carriers.iter().any(|key| carrier(*key).is_some_and(|carrier| carrier.stirred))
    }
}

/// A QUIC connection to the server, for the tunnel's pool connections.
pub(super) fn call_quic(call: Arc<Call>, home: Home, means: &mut Means, now: Instant) -> io::Result<Task> {
    let missing = || io::Error::other("no server to call over QUIC");
    let (server, tls) = (call.addresses.first().ok_or_else(missing)?, call.quic.as_ref().ok_or_else(missing)?);
    // Where UDP is blocked the other way is found the sooner.
    let (report, patience) = (means.shared.config.limits.report, call.patience / 2);
    let settings = quic::Settings::client(report, patience, call.round);
    let mut mux = quic::connect(*server, tls, &settings, &mut means.tickets, now)?;
    mux.register(&means.registry, token(home.key, FAR))?;
    Ok(Task::Carrier(Carrier::calling(mux, call, means)))
}

impl Worker {
    /// A port to which connections of many streams come.
    pub(super) fn serve(&mut self, mut mux: Box<dyn Mux>, gate: Arc<Gate>) {
        let started = self.start(0, |home, means| {
            mux.register(&means.registry, token(home.key, FAR))?;
            Ok(Task::Carrier(Carrier::port(mux, gate.clone(), means)))
        });
        if let Some(key) = started {
            self.carriage.add(key);
            self.regate(gate);
        }
    }

    /// What visitors of such ports must bring from now on.
    pub(super) fn regate(&mut self, fresh: Arc<Gate>) {
        for at in 0..self.carriage.carriers.len() {
            let key = self.carriage.carriers[at];
            let Some(slot) = self.tasks.get_mut(key) else { continue };
            let Some(Task::Carrier(carrier)) = slot.task.as_deref_mut() else { continue };
            let Purpose::Port(gate) = &mut carrier.purpose else { continue };
            let number = |gate: &Gate| gate.tunnel.map(|tunnel| tunnel.number);
            // The present tunnel's connection goes on with the certificate that it began with.
            let same = number(gate).is_some() && number(gate) == number(&fresh);
            (*gate, carrier.stirred) = (fresh.clone(), true);
            if let (Some(mux), Some(identity), false) = (self.means.muxes.get_mut(&carrier.hold), &fresh.tls, same) {
                if let Err(error) = mux.expect(fresh.tunnel.map(|tunnel| tunnel.peer), identity) {
                    log::error!("The new certificate cannot be used for QUIC, the old one stays: {error}");
                }
            }
        }
    }

    /// A pool connection is to be opened on the shared connection of its tunnel, which is made if there is none.
    pub(super) fn want(&mut self, call: Arc<Call>, now: Instant) {
        let current =
            self.carriage.current.filter(|(tunnel, key)| *tunnel == call.tunnel && self.tasks.get(*key).is_some());
        if current.is_none() {
            self.fail_wanted();
            let made = |home, means: &mut Means| Caller::carrying(call.clone(), home, means, now);
            let Some(key) = self.start(call.tunnel, made) else {
                return self.means.hub.send(Notice::Failed(call.tunnel, Some("no socket to be had".into())));
            };
            self.carriage.add(key);
            self.carriage.current = Some((call.tunnel, key));
            self.advance(key, now);
        }
        self.carriage.wanted.push_back(call);
    }

    /// Lets the shared connections go on that have a reason to, and sees to what they bring about.
    pub(super) fn carry(&mut self, now: Instant) {
        self.means.muxes.bury();
        for at in 0..self.carriage.carriers.len() {
            let key = self.carriage.carriers[at];
            let due = match self.tasks.get(key).and_then(|slot| slot.task.as_deref()) {
                Some(Task::Carrier(carrier)) => carrier.is_due(&mut self.means.muxes, now),
                _ => false,
            };
            if due {
                self.advance(key, now);
            }
        }
        self.carriage.carriers.retain(|key| self.tasks.get(*key).is_some());
        self.open_wanted(now);
        self.heed(now);
    }

    /// Streams that stir, come in, or are lost.
    fn heed(&mut self, now: Instant) {
        let News { edges, guests, bereft } = std::mem::take(&mut self.means.news);
        for token in &edges {
            if let Some(key) = self.tasks.at(token.0 / 2) {
                self.queue(key);
            }
        }
        for (loan, from, gate) in guests {
            let made = |home: Home, means: &mut Means| {
                means.muxes.watch(&loan, token(home.key, FAR));
                Ok(Task::Visitor(Visitor::of_stream(Leg::Mux(loan), from, gate, now)))
            };
            if let Some(key) = self.start(0, made) {
                self.visitors.push_back(key);
            }
        }
        for tunnel in bereft {
            let keys: Vec<Key> =
                self.tasks.iter().filter(|(_, slot)| slot.tunnel == tunnel).map(|(key, _)| key).collect();
            keys.into_iter().for_each(|key| self.queue(key));
        }
        // The allocation is kept for the next turn.
        self.means.news.edges = edges;
        self.means.news.edges.clear();
    }

    /// Opens what is wanted, as far as the other side allows.
    fn open_wanted(&mut self, now: Instant) {
        let Some((tunnel, key)) = self.carriage.current else { return };
        while let Some(call) = self.carriage.wanted.front().cloned() {
            match self.open_stream(key) {
                Ok(Opening::Opened(loan)) => {
                    let made = |home: Home, means: &mut Means| {
                        means.muxes.watch(&loan, token(home.key, FAR));
                        Ok(Task::Caller(Caller::over(Leg::Mux(loan), call, now)))
                    };
                    if let Some(key) = self.start(tunnel, made) {
                        self.advance(key, now);
                    }
                }
                Ok(Opening::Early) => return,
                Ok(Opening::Exhausted) => return self.exhausted(tunnel, true),
                Err(_) => return self.fail_wanted(),
            }
            self.carriage.wanted.pop_front();
            self.exhausted(tunnel, false);
        }
    }

    /// Whether the other side allows no more streams: the hub is told when that changes.
    fn exhausted(&mut self, tunnel: TunnelNo, so: bool) {
        if std::mem::replace(&mut self.carriage.exhausted, so) != so {
            self.means.hub.send(Notice::Exhausted(tunnel, so));
        }
    }

    /// A new stream on that carrier. An error: it has had its day, another one may be made.
    fn open_stream(&mut self, key: Key) -> io::Result<Opening> {
        let task = self.tasks.get(key).map(|slot| slot.task.as_deref());
        let Some(task) = task else { return Err(io::ErrorKind::NotConnected.into()) };
        // What will become one is still on its way.
        let Some(Task::Carrier(carrier)) = task else { return Ok(Opening::Early) };
        let was_up = matches!(carrier.purpose, Purpose::Call(_, true));
        match self.means.muxes.get_mut(&carrier.hold) {
            Some(mux) if mux.is_up() || was_up => Ok(match passing(mux.open())? {
                Some(stream) => Opening::Opened(self.means.muxes.claim(&carrier.hold, stream)),
                None => Opening::Exhausted,
            }),
            _ => Ok(Opening::Early),
        }
    }

    /// The carrier is lost, and with it what waited for it.
    fn fail_wanted(&mut self) {
        (self.carriage.current, self.carriage.exhausted) = (None, false);
        for call in std::mem::take(&mut self.carriage.wanted) {
            self.means.hub.send(Notice::Failed(call.tunnel, None));
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
