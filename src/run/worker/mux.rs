//! A connection that carries many streams (QUIC, HTTP/2), as a task of its worker.
//!
//! Its streams are tasks of their own, in the stages that other pool connections have too.
//!
//! ```text
//!  server:  Inbound --TLS says h2--> MuxTask --accepted--> Inbound (reads the opening) --> Idle ...
//!           Job::Serve (QUIC port) ---->+
//!  client:  Connector --TLS says h2--> MuxTask --opened--> Connector (sends the opening, reads the id) --> Idle ...
//!           Job::Open (QUIC) --------->+
//! ```

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use mio::event::Event;
use mio::Token;

use super::context::{token, Context, Side};
use super::idle::Idle;
use super::next::Schedule;
use crate::error::Error;
use crate::logic::terms::TunnelNo;
use crate::logic::wire::Fingerprint;
use crate::net::certs::NOT_PINNED;
use crate::net::mux::{AllowedPeer, Hold, Loan, Mux, Muxes};
use crate::net::quic;
use crate::net::stream::ready;
use crate::run::messages::{Home, Notice, ServerRoute, TunnelEvent};
use crate::run::policy::{AcceptPolicy, ExpectedTunnel};

/// A shared connection and what its streams are for.
pub struct MuxTask {
    hold: Hold,
    purpose: Purpose,
    /// Its clock: finer than the worker's timers.
    due: Option<Instant>,
    /// An edge came, or more waits.
    ready: bool,
    /// Its tunnel is over: it ends with the last of its streams.
    leaving: bool,
    /// Why it is over, once it is: what has come on its streams, such as a goodbye, is taken before it goes.
    over: Option<String>,
}

enum Purpose {
    /// A port that outlives tunnels, whose streams come in under this policy (server).
    Port(Arc<AcceptPolicy>),
    /// A connection of one tunnel, whose streams do the same (server).
    Accept(Arc<AcceptPolicy>),
    /// Streams are opened for this route (client).
    Open { route: Arc<ServerRoute>, was_up: bool },
}

/// What opening a stream came to.
pub enum Opening {
    Opened(Loan),
    /// The connection is not up yet.
    Early,
    /// All streams that the peer allows are in use.
    Exhausted,
}

/// What a connection to or from the peer turns into: one pool connection, or one that carries many.
pub enum PoolTask {
    Idle(Idle),
    Mux(MuxTask),
}

impl From<Idle> for PoolTask {
    fn from(idle: Idle) -> PoolTask {
        PoolTask::Idle(idle)
    }
}

impl From<MuxTask> for PoolTask {
    fn from(mux: MuxTask) -> PoolTask {
        PoolTask::Mux(mux)
    }
}

impl MuxTask {
    /// A server's port.
    pub fn port(
        mut mux: Box<dyn Mux>,
        policy: Arc<AcceptPolicy>,
        home: Home,
        context: &mut Context,
    ) -> io::Result<MuxTask> {
        mux.register(&context.registry, token(home.key, Side::Remote))?;
        Ok(MuxTask::new(mux, Purpose::Port(policy), home, context))
    }

    /// For a server's tunnel: streams come in under `policy`.
    pub fn server(mux: Box<dyn Mux>, policy: Arc<AcceptPolicy>, home: Home, context: &mut Context) -> MuxTask {
        MuxTask::new(mux, Purpose::Accept(policy), home, context)
    }

    /// For a client: streams are opened as `route` says.
    pub fn client(mux: Box<dyn Mux>, route: Arc<ServerRoute>, home: Home, context: &mut Context) -> MuxTask {
        MuxTask::new(mux, Purpose::Open { route, was_up: false }, home, context)
    }

    /// A QUIC connection to the server, for the tunnel's pool connections.
    pub fn quic(route: Arc<ServerRoute>, home: Home, context: &mut Context, now: Instant) -> io::Result<MuxTask> {
        let missing = || io::Error::other("no server to reach over QUIC");
        let (server, tls) = (route.addresses.first().ok_or_else(missing)?, route.quic.as_ref().ok_or_else(missing)?);
        // Half the time: where UDP is blocked the fallback begins the sooner.
        let (report, timeout) = (context.shared.config.limits.report, route.timeout / 2);
        let settings = quic::Settings::client(report, timeout, route.round, context.shared.budget);
        let settings = settings.calling_from(route.from.clone());
        let mut mux = quic::connect(*server, tls, &settings, &mut context.tickets, now)?;
        mux.register(&context.registry, token(home.key, Side::Remote))?;
        Ok(MuxTask::client(mux, route, home, context))
    }

    fn new(mux: Box<dyn Mux>, purpose: Purpose, home: Home, context: &mut Context) -> MuxTask {
        MuxTask {
            hold: context.muxes.insert(mux, home.key),
            purpose,
            due: None,
            ready: true,
            leaving: false,
            over: None,
        }
    }

    /// Takes in, runs the clocks, sends.
    pub fn advance(&mut self, context: &mut Context, now: Instant) -> Schedule {
        if let Some(why) = self.over.take() {
            return self.end(&why, context);
        }
        let Context { muxes, mux_events, hub, taking_in, .. } = context;
        muxes.stir(&self.hold);
        let Some(mux) = muxes.get_mut(&self.hold) else { return Schedule::End };
        let result = if *taking_in { mux.take_in(now) } else { mux.advance(now) };
        mux_events.edges.extend(std::iter::from_fn(|| mux.changed()));
        let (up, due) = (mux.is_up(), mux.deadline());
        if let Purpose::Open { route, was_up: false } = &self.purpose {
            let pinned = |fp: Option<Fingerprint>| route.pins.is_none_or(|pins| fp.is_some_and(|fp| pins.have(fp)));
            if up && !pinned(mux.peer_fingerprint()) {
                return self.end(NOT_PINNED, context);
            }
        }
        if let Purpose::Port(policy) | Purpose::Accept(policy) = &self.purpose {
            while let Some((stream, from)) = muxes.get_mut(&self.hold).and_then(|mux| mux.accept()) {
                mux_events.accepted.push((muxes.claim(&self.hold, stream), from, policy.clone()));
            }
        }
        match result {
            Err(error) if self.is_bare(muxes) => return self.end(&error.to_string(), context),
            Err(error) => {
                mux_events.ended.push(self.tunnel(muxes));
                (self.over, self.ready) = (Some(error.to_string()), true);
                return Schedule::Wait;
            }
            Ok(more) => (self.due, self.ready) = (due, more),
        }
        if let Purpose::Open { route, was_up: was_up @ false } = &mut self.purpose {
            if up {
                *was_up = true;
                hub.send(Notice::Tunnel { number: route.tunnel, event: TunnelEvent::MuxUp });
                log::debug!("{} connection with the server is up", route.transport.name());
            }
        }
        Schedule::Wait
    }

    /// The tunnel that it ends with; 0 for a port that outlives tunnels, and for a connection whose tunnel is not known yet.
    pub fn tunnel(&self, muxes: &Muxes) -> TunnelNo {
        match &self.purpose {
            Purpose::Port(_) => 0,
            Purpose::Accept(_) => muxes.owner(&self.hold),
            Purpose::Open { route, .. } => route.tunnel,
        }
    }

    /// How many places it takes among those whose client is not known yet, if it is one of them.
    pub fn undecided(&self, muxes: &Muxes) -> Option<usize> {
        let unknown = matches!(self.purpose, Purpose::Accept(_)) && muxes.owner(&self.hold) == 0;
        unknown.then(|| 1 + muxes.streams(&self.hold) / STREAMS_A_PLACE)
    }

    /// Its tunnel is over, and relays that it carries go on.
    pub fn leave(&mut self, muxes: &mut Muxes) {
        self.leaving = true;
        muxes.stir(&self.hold);
    }

    /// Whether nothing is left for it to carry.
    pub fn is_over(&self, muxes: &Muxes) -> bool {
        self.leaving && muxes.claims(&self.hold) == 0
    }

    /// Whether no stream of it can have a last word: a port that outlives tunnels, or a connection that no stream is in use of.
    fn is_bare(&self, muxes: &Muxes) -> bool {
        matches!(self.purpose, Purpose::Port(_)) || muxes.claims(&self.hold) == 0
    }

    /// How much it carries: its streams in use, and if it is not up yet as many as others may have more in the meantime.
    pub fn load(&self, muxes: &mut Muxes) -> usize {
        match muxes.get_mut(&self.hold).is_some_and(|mux| mux.is_up()) {
            true => muxes.claims(&self.hold),
            false => AHEAD,
        }
    }

    /// Remembers an edge.
    pub fn note(&mut self, event: &Event, muxes: &mut Muxes) {
        self.ready = true;
        muxes.stir(&self.hold);
        if let Some(mux) = muxes.get_mut(&self.hold) {
            mux.note(event);
        }
    }

    /// Whether more waits.
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// When its clock has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.due
    }

    /// Whether it should go on now.
    pub fn is_due(&self, muxes: &mut Muxes, now: Instant) -> bool {
        self.ready
            || self.due.is_some_and(|due| now >= due)
            || muxes.get_mut(&self.hold).is_none_or(|mux| mux.is_dirty())
    }

    /// Streams of a port come in under `fresh` from now on; other connections keep the policy that they began with.
    pub fn set_policy(&mut self, fresh: &Arc<AcceptPolicy>, muxes: &mut Muxes) {
        let Purpose::Port(policy) = &mut self.purpose else { return };
        (*policy, self.ready) = (fresh.clone(), true);
        muxes.stir(&self.hold);
        if let (Some(mux), Some(identity)) = (muxes.get_mut(&self.hold), &fresh.tls) {
            let peers = fresh.tunnels.iter();
            let allowed = |tunnel: &ExpectedTunnel| AllowedPeer {
                tunnel: tunnel.number,
                address: tunnel.peer,
                connections: tunnel.connections,
            };
            let peers: Vec<_> = peers.map(allowed).collect();
            if let Err(error) = mux.allow(&peers, identity) {
                log::error!("The new certificate cannot be used for QUIC, the old one stays: {error}");
            }
        }
    }

    /// Whether many share it.
    pub fn is_port(&self) -> bool {
        matches!(self.purpose, Purpose::Port(_))
    }

    /// Another process receives at this port from now on.
    pub fn hand_on(&mut self, pipe: OwnedFd, token: Token, context: &mut Context) {
        self.ready = true;
        let Context { muxes, registry, .. } = context;
        muxes.stir(&self.hold);
        if let Some(Err(error)) = muxes.get_mut(&self.hold).map(|mux| mux.hand_on(pipe, registry, token)) {
            log::error!("Connections of QUIC in this process are lost: {error}");
        }
    }

    /// A new stream. An error: the connection takes no more, another one may be made.
    pub fn open(&self, muxes: &mut Muxes) -> io::Result<Opening> {
        let was_up = matches!(self.purpose, Purpose::Open { was_up: true, .. });
        if self.over.is_some() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        muxes.stir(&self.hold);
        match muxes.get_mut(&self.hold) {
            Some(mux) if mux.is_up() || was_up => Ok(match ready(mux.open())? {
                Some(stream) => Opening::Opened(muxes.claim(&self.hold, stream)),
                None => Opening::Exhausted,
            }),
            _ => Ok(Opening::Early),
        }
    }

    fn end(&self, why: &str, context: &mut Context) -> Schedule {
        match &self.purpose {
            Purpose::Port(_) => log::error!("The tunnel's shared port is closed: {why}"),
            Purpose::Accept(_) => {
                log::debug!("Shared connection ended: {why}");
                // Streams that belong to no tunnel yet are among those of none.
                context.mux_events.ended.extend([0, self.tunnel(&context.muxes)]);
            }
            Purpose::Open { route, was_up } => {
                if !was_up {
                    let event = TunnelEvent::MuxFailed(Error::lost(why.to_owned()));
                    context.hub.send(Notice::Tunnel { number: route.tunnel, event });
                }
                log::debug!("{} connection with the server ended: {why}", route.transport.name());
                context.mux_events.ended.push(route.tunnel);
            }
        }
        Schedule::End
    }
}

/// Streams that are opened on the connections that are up before those that are on their way are waited for.
pub const AHEAD: usize = 8;
/// Streams of a connection that take as much as another connection does.
const STREAMS_A_PLACE: usize = 32;
