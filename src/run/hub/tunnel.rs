//! One tunnel between a server and a client: what both roles have in common.
//!
//! ```text
//!  begin_tunnel --first pool connection--> control is up --check passed--> users are served --any reason--> end_tunnel
//! ```

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::targets::Launch;
use super::{Hub, Part};
use crate::config::Transport;
use crate::logic::control::{Control, Do};
use crate::logic::refill::Refill;
use crate::logic::terms::{Direction, Feature, Terms};
use crate::logic::wire::{Fingerprint, Id, CONTROL};
use crate::run::messages::{Home, Job, Proto, ServerRoute, SessionKey, TunnelNo, User};

/// A tunnel in being.
pub(in crate::run) struct Tunnel {
    /// Its number; what is said about others is not about it.
    pub number: TunnelNo,
    /// What was agreed.
    pub terms: Terms,
    /// Which side we are.
    pub side: Side,
    /// The peer, for the log.
    pub peer: SocketAddr,
    /// The client's refill, and how it opens pool connections.
    pub refill: Option<(Refill, Arc<ServerRoute>)>,
    control: Option<(Control, Home)>,
    /// Why the last pool connection was not opened, until one is (client).
    pub failing: Option<String>,
    /// The server allows no more streams for the time being (client).
    pub exhausted: bool,
    /// Our certificate check.
    check: Check,
    /// Checks of the peer's whose connection has not come yet.
    checks: Vec<(Instant, Id, String)>,
    /// We asked for a new pool: no connection is opened before that has arrived.
    flushing: Option<Instant>,
    /// Without a control connection by then it has failed.
    until: Instant,
    sick: Instant,
}

/// How far our certificate check has come.
enum Check {
    /// A connection has to be chosen for it.
    Due,
    /// This one was; by then the peer has it too.
    Chosen(Id, Fingerprint, Instant),
    /// It was sent, or there is none to send.
    Sent,
}

/// Who accepts users and who dials targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::run) enum Side {
    /// Users come in here.
    Ingress,
    /// Targets are dialled from here.
    Egress,
}

/// Who waits for a pool connection.
pub(in crate::run) enum Waiting {
    /// A user, for any.
    User(User),
    /// A launch of the peer's, for one.
    Launch(Launch),
}

impl Tunnel {
    /// Tells the peer that a user took connection `id`.
    pub fn launch(&mut self, udp: bool, user: SocketAddr, id: Id) {
        if let Some((control, _)) = &mut self.control {
            control.launch(udp, user.to_string(), id);
        }
    }

    /// Whether datagrams travel in frames.
    pub fn framed(&self) -> bool {
        self.terms.features.contains(&Feature::UdpFrame)
    }

    /// Whether it has its control connection.
    pub fn is_up(&self) -> bool {
        self.control.is_some()
    }

    /// When the clock has something to say.
    pub fn deadline(&self) -> Option<Instant> {
        let control = self.control.as_ref().map_or(Some(self.until), |(control, _)| control.deadline());
        let refill = self.refill.as_ref().and_then(|(refill, _)| refill.deadline());
        let checks = self.checks.iter().map(|(until, _, _)| *until).min();
        let check = match self.check {
            Check::Chosen(_, _, at) => Some(at),
            _ => None,
        };
        let checks = checks.into_iter().chain(check).chain(self.flushing);
        control.into_iter().chain(refill).chain(checks).min()
    }
}

impl Hub {
    /// Whether what is said about tunnel `number` is about the one in being.
    pub(in crate::run) fn is_current(&self, number: TunnelNo) -> bool {
        self.tunnel.as_ref().is_some_and(|tunnel| tunnel.number == number)
    }

    /// A number for the next tunnel; 0 is nobody's.
    pub(in crate::run) fn next_number(&mut self) -> TunnelNo {
        self.tunnels = self.tunnels.wrapping_add(1).max(1);
        self.tunnels
    }

    /// Both sides have agreed; the pool connections may come.
    pub(in crate::run) fn begin_tunnel(
        &mut self,
        number: TunnelNo,
        terms: Terms,
        peer: SocketAddr,
        refill: Option<(Refill, Arc<ServerRoute>)>,
        now: Instant,
    ) {
        let is_server = matches!(self.part, Part::Server(_));
        let side = match (is_server, terms.flow) {
            (true, Direction::Reverse) | (false, Direction::Forward) => Side::Ingress,
            _ => Side::Egress,
        };
        // With tls=2 the chain has been verified, and an original's server has no fingerprint to compare ours with.
        let checked = terms.tls == 1 || (terms.tls == 2 && is_server);
        let check = match checked && !terms.features.contains(&Feature::Edge) {
            true => Check::Due,
            false => Check::Sent,
        };
        // Our own client keeps to `max` by itself. It replaces what it took before its signal has come through here: no
        // reason to turn the replacements away. On a shared connection they do not wait for a lost packet with signals in it.
        let shared = Transport::from_code(terms.transport).is_some_and(Transport::is_shared);
        let lag = match (&terms.open, shared) {
            (None, _) => 1,
            (Some(_), false) => 2,
            (Some(_), true) => SHARED_LAG,
        };
        self.pool.begin(terms.max.saturating_mul(lag));
        // A client that finds UDP blocked needs its tries, and then the other way.
        let tries = if terms.features.contains(&Feature::Fallback) { FALLBACK_TIME } else { 1 };
        let until = now + self.shared.config.limits.handshake * tries;
        let (control, checks, sick) = (None, Vec::new(), now + self.shared.config.limits.report);
        self.tunnel = Some(Tunnel {
            number,
            terms,
            side,
            peer,
            refill,
            failing: None,
            exhausted: false,
            control,
            check,
            checks,
            flushing: None,
            until,
            sick,
        });
    }

    /// The first pool connection came: it is the control connection.
    fn begin_control(&mut self, home: Home, now: Instant) {
        let Some(tunnel) = &mut self.tunnel else { return };
        let config = &self.shared.config;
        let edge = tunnel.terms.features.contains(&Feature::Edge);
        let gated = tunnel.side == Side::Ingress && tunnel.terms.tls == 1 && !edge;
        let control = Control::new(config.key.as_bytes(), config.limits.report, gated, now);
        self.workers[home.worker].send(Job::Control(home.key));
        tunnel.control = Some((control, home));
        log::info!("Tunnel with {} is up: {}", tunnel.peer, describe(&tunnel.terms));
        if !gated {
            self.pool.serve();
        }
    }

    /// A pool connection is open and has its id. `false` if that is another's: it is closed.
    pub(in crate::run) fn pool_connection(
        &mut self,
        id: Id,
        home: Home,
        fp: Option<Fingerprint>,
        now: Instant,
    ) -> bool {
        if id == CONTROL && self.tunnel.as_ref().is_some_and(|tunnel| !tunnel.is_up()) {
            self.begin_control(home, now);
            return true;
        }
        let new = id != CONTROL && self.pool.opened(id, home, home.worker, fp).is_ok();
        if !new {
            self.workers[home.worker].send(Job::Close(home.key));
        }
        new
    }

    /// Bytes from the control connection.
    pub(in crate::run) fn said(&mut self, number: TunnelNo, bytes: &[u8], now: Instant) {
        match &mut self.tunnel {
            Some(Tunnel { number: current, control: Some((control, _)), .. }) if *current == number => {
                control.heard(bytes, now);
            }
            _ => {}
        }
    }

    /// The clock, for what both roles have in common.
    pub(in crate::run) fn tick_tunnel(&mut self, now: Instant) {
        let Some(tunnel) = &mut self.tunnel else { return };
        match &mut tunnel.control {
            Some((control, _)) => control.tick(now),
            None if now >= tunnel.until => return self.end_tunnel("no pool connection came in time", now),
            None => {}
        }
        tunnel.checks.retain(|(until, id, _)| {
            let keep = now < *until;
            if !keep {
                log::debug!("Certificate check for {id}, a connection that nobody has: ignored");
            }
            keep
        });
        if now >= tunnel.sick {
            tunnel.sick = now + self.shared.config.limits.report;
            self.pool.shrink();
            let idle = self.pool.idle();
            if let (Some((refill, _)), Some((control, _))) = (&mut tunnel.refill, &mut tunnel.control) {
                if refill.is_sick(idle) {
                    control.flush();
                    // Streams of a shared connection would overtake it, and be closed by it in their turn.
                    tunnel.flushing = Some(now + FLUSHING);
                    match tunnel.side {
                        Side::Ingress => self.flush_pool(),
                        Side::Egress => self.pool.flush_late(now),
                    }
                }
            }
        }
    }

    /// Does what the control connection asks for, and what it is time to ask of the peer.
    pub(in crate::run) fn obey(&mut self, now: Instant) {
        self.check_certificate(now);
        self.check_late(now);
        let mut asked = None;
        while let Some(Tunnel { control: Some((control, home)), .. }) = &mut self.tunnel {
            let home = *home;
            let Some(thing) = control.poll() else { break };
            match thing {
                Do::Send(bytes) => self.workers[home.worker].send(Job::Say(home.key, bytes)),
                Do::Launch { udp, remote, id } => self.launched(udp, &remote, id, now),
                Do::Verify { id, fp } => self.verify(id, fp, now),
                Do::Flush => {
                    let idle = self.pool.idle();
                    // A peer that says it again and again does not fill the log.
                    if idle > 0 {
                        log::info!("The peer asks for a new pool: {idle} idle connections closed");
                        self.flush_pool();
                    }
                }
                Do::Pong(ping) => asked = Some(ping),
                Do::Ready => {
                    log::info!("Certificate fingerprint verified");
                    self.pool.serve();
                }
                Do::Over(why) => return self.end_tunnel(&why.to_string(), now),
            }
        }
        // Its figures are those after all that the peer has said.
        if let Some(ping) = asked {
            self.check_point(ping);
        }
    }

    /// Sends our view of the certificate once, soon after there is a connection to name.
    fn check_certificate(&mut self, now: Instant) {
        let Some(Tunnel { check, control: Some((control, _)), .. }) = &mut self.tunnel else { return };
        match check {
            Check::Due => {
                if let Some((id, Some(fp))) = self.pool.prove() {
                    *check = Check::Chosen(id, fp, now + SETTLING);
                }
            }
            Check::Chosen(id, fp, at) if now >= *at => {
                control.prove(*id, *fp);
                *check = Check::Sent;
            }
            Check::Chosen(..) | Check::Sent => {}
        }
    }

    /// The peer's view of the certificate; its connection may still be on its way.
    fn verify(&mut self, id: Id, fp: String, now: Instant) {
        let Some(tunnel) = &mut self.tunnel else { return };
        match self.pool.verify(id) {
            Some((ours, home)) => {
                if let Some(home) = home {
                    self.workers[home.worker].send(Job::Close(home.key));
                }
                if let Some((control, _)) = &mut tunnel.control {
                    control.verified(&fp, ours);
                }
            }
            None if tunnel.checks.len() < MAX_CHECKS => {
                tunnel.checks.push((now + self.shared.config.limits.pool_get, id, fp));
            }
            None => {}
        }
    }

    fn check_late(&mut self, now: Instant) {
        let Some(tunnel) = &mut self.tunnel else { return };
        let arrived = tunnel.checks.iter().position(|(_, id, _)| self.pool.knows(*id));
        if let Some(at) = arrived {
            let (_, id, fp) = tunnel.checks.swap_remove(at);
            self.verify(id, fp, now);
        }
    }

    /// The peer gave a user to connection `id`.
    fn launched(&mut self, udp: bool, remote: &str, id: Id, now: Instant) {
        let user: Option<SocketAddr> = remote.parse().ok();
        let nobody = SocketAddr::from(([0, 0, 0, 0], 0));
        let flow = SessionKey { user: user.unwrap_or(nobody), asked: None };
        let proto = if udp { Proto::Udp(flow) } else { Proto::Tcp };
        let launch = Launch { user, proto };
        if self.pool.claim(id, Waiting::Launch(launch), now).is_err() {
            log::debug!("A user for connection {id}, too many or twice: ignored");
        }
    }

    /// A launch has its connection: is it one that may go on to a target?
    pub(in crate::run) fn may_dial(&mut self, home: Home, launch: &Launch) -> bool {
        let config = &self.shared.config;
        let user = launch.user.map_or_else(|| "a user".into(), |user| user.to_string());
        let carried = match launch.proto {
            Proto::Tcp => config.tcp,
            Proto::Udp(_) => config.udp,
        };
        let egress = self.tunnel.as_ref().is_some_and(|tunnel| tunnel.side == Side::Egress);
        let nameless = launch.user.is_none() && config.proxy && launch.proto == Proto::Tcp;
        let why = match () {
            () if !egress => "users come in here, the peer must not send any",
            () if !carried => "this protocol is switched off (notcp, noudp)",
            () if nameless => "the peer did not say who it is, as proxy=1 needs",
            () if !self.users.enter(launch.proto) => "all slots are taken (slot)",
            () => return true,
        };
        log::warn!("{user} refused: {why}");
        self.pool.done(home.worker);
        self.workers[home.worker].send(Job::Close(home.key));
        false
    }

    /// Somebody waited too long, or in vain.
    pub(in crate::run) fn dismiss(&mut self, waiting: Waiting) {
        match waiting {
            Waiting::User(user) => {
                let why = match &self.tunnel {
                    None => "there is no peer",
                    Some(tunnel) if !tunnel.is_up() => "the tunnel is not up yet",
                    Some(Tunnel { exhausted: true, .. }) => "all streams that the server allows are in use",
                    Some(Tunnel { failing: Some(why), .. }) => why.as_str(),
                    Some(_) => "no pool connection came",
                };
                log::warn!("{} closed after {:?}: {why}", user.address(), self.shared.config.limits.pool_get);
                self.users.leave(user.proto());
            }
            Waiting::Launch(launch) => log::debug!("A user of the peer's waits for a connection in vain: {launch:?}"),
        }
    }

    /// Opens what the client's pool lacks.
    pub(in crate::run) fn refill(&mut self, now: Instant) {
        if self.is_stopping() {
            return;
        }
        let Some(Tunnel { refill: Some((refill, route)), control, flushing, .. }) = &mut self.tunnel else { return };
        if flushing.is_some_and(|until| now < until) {
            return;
        }
        *flushing = None;
        if control.is_none() {
            if refill.open_first(now) {
                self.workers[0].send(Job::Open(route.clone()));
            }
            return;
        }
        for _ in 0..refill.open(self.pool.idle(), now) {
            // One connection carries them all, and it lives where the control connection does.
            let worker = if route.transport.is_shared() { 0 } else { self.pool.next_worker() };
            self.workers[worker].send(Job::Open(route.clone()));
        }
    }

    fn flush_pool(&mut self) {
        for home in self.pool.flush() {
            self.workers[home.worker].send(Job::Close(home.key));
        }
    }

    /// The tunnel is over: relays and pool end with it, users wait for the next one.
    pub(in crate::run) fn end_tunnel(&mut self, why: &str, now: Instant) {
        let Some(tunnel) = self.tunnel.take() else { return };
        self.workers.iter().for_each(|worker| worker.send(Job::End(tunnel.number)));
        for waiting in self.pool.end() {
            match waiting {
                // A grant that was not carried out: the user waits again.
                Waiting::User(user) => self.pool.take(Waiting::User(user), now),
                launch => self.dismiss(launch),
            }
        }
        if !self.is_stopping() {
            log::warn!("Tunnel with {} ended: {why}", tunnel.peer);
        }
        match &mut self.part {
            Part::Server(server) => server.expect(None),
            Part::Client(client) => client.rest(now + self.shared.config.limits.cooldown),
            Part::Single { .. } => {}
        }
    }
}

/// The terms in the user's words.
pub(in crate::run) fn describe(terms: &Terms) -> String {
    let features: Vec<&str> = terms.features.iter().map(|feature| feature.name()).collect();
    let extra = if features.is_empty() { String::new() } else { format!(", with {}", features.join(" ")) };
    let flow = match terms.flow {
        Direction::Reverse => "users at the server, targets at the client",
        Direction::Forward => "users at the client, targets at the server",
    };
    let transport = Transport::from_code(terms.transport).map_or("unknown", Transport::name);
    format!("{flow}; {transport} pool of at most {}, tls={}{extra}", terms.max, terms.tls)
}

/// A connection's id travels on another path than our check that names it: time for it to arrive.
const SETTLING: Duration = Duration::from_millis(50);
/// So many times the usual wait for the first pool connection, where the client may have to fall back to TCP.
const FALLBACK_TIME: u32 = 3;
/// Time for a flush to arrive.
const FLUSHING: Duration = Duration::from_millis(400);
/// So many times `max` may be idle where streams overtake the signals about those before them.
const SHARED_LAG: usize = 8;
/// Most certificate checks that wait for their connection.
const MAX_CHECKS: usize = 16;
