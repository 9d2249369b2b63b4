//! The hub: doors, the tunnel's control and pool, and who gets what. It decides; workers carry.
//!
//! ```text
//!  users --Entrance--> (Lobby) --> Pool --Grant--> Job::Join        ingress
//!  peer  --Control---> Launch  --> Pool --Grant--> Job::Dial        egress
//!  users --Entrance--> (Lobby) -----------------> Job::Forward      single-end
//! ```
//!
//! One hub runs on the first worker's thread. The parts of its work are in files of their own: the tunnel that both roles
//! have in common ([`super::tunnel`]), what only a server ([`super::server`]) or a client ([`super::client`]) does, and the
//! way to targets ([`super::plan`]).

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use mio::event::Event;
use mio::Registry;
use signal_hook::consts::SIGHUP;

use super::client::Client;
use super::door::{Entrance, Lobby, Place, Sessions, Verdicted};
use super::handoff::{Flow, Home, Inbox, Job, Notice, Post, Proto, User};
use super::plan::Ways;
use super::server::Server;
use super::task::Shared;
use super::tunnel::{Side, Tunnel, Waiting};
use crate::config::{Endpoint, Role};
use crate::logic::pool::Pool;
use crate::logic::slab::Key;
use crate::net::certs::{Audience, Certs};

/// The hub of one instance.
pub struct Hub {
    pub(super) shared: Arc<Shared>,
    pub(super) workers: Vec<Post<Job>>,
    pub(super) registry: Registry,
    pub(super) part: Part,
    pub(super) tunnel: Option<Tunnel>,
    pub(super) tunnels: u32,
    pub(super) pool: Pool<Home, Waiting>,
    pub(super) ways: Ways,
    pub(super) live: Live,
    inbox: Inbox<Notice>,
    entrance: Opening,
    lobby: Lobby,
    looked: Vec<Key>,
    sessions: Sessions,
    packet: Vec<u8>,
    busy: Vec<usize>,
    forwarded: u64,
    stopping: Option<Instant>,
}

/// What this instance is.
pub(super) enum Part {
    /// A tunnel's server.
    Server(Server),
    /// A tunnel's client.
    Client(Client),
    /// A client that forwards by itself; its certificate, if it ends TLS.
    Single { certs: Option<Certs>, report: Instant, reload: Instant },
}

/// The entrance, or when to try again to open it.
enum Opening {
    /// Users do not come in here.
    Unwanted,
    /// It could not be opened; why was said.
    Closed { at: Endpoint, again: Instant, said: String },
    /// Users may come.
    Open(Entrance),
}

/// Users who count against `slot`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Live {
    /// TCP connections.
    pub tcp: usize,
    /// UDP sessions.
    pub udp: usize,
    /// The limit was reached, and that was said.
    full: bool,
}

impl Live {
    /// Takes a slot, if one is free.
    pub fn enter(&mut self, proto: Proto, slot: Option<usize>) -> bool {
        if slot.is_some_and(|slot| self.tcp + self.udp >= slot) {
            return false;
        }
        *self.count(proto) += 1;
        self.full = false;
        true
    }

    /// Gives a slot back.
    pub fn leave(&mut self, proto: Proto) {
        let count = self.count(proto);
        debug_assert!(*count > 0, "a slot was given back twice");
        *count = count.saturating_sub(1);
    }

    fn count(&mut self, proto: Proto) -> &mut usize {
        match proto {
            Proto::Tcp => &mut self.tcp,
            Proto::Udp(_) => &mut self.udp,
        }
    }
}

impl Hub {
    /// A hub that has yet to open its doors. `part` and `entrance` say what it is and where users come in.
    pub(super) fn new(
        shared: Arc<Shared>,
        workers: Vec<Post<Job>>,
        registry: Registry,
        inbox: Inbox<Notice>,
        post: Post<Notice>,
        part: Part,
        now: Instant,
    ) -> Hub {
        let config = &shared.config;
        let pool = Pool::new(workers.len(), config.max, config.limits.pool_get);
        let ways = Ways::new(config, post, now);
        let (busy, packet) = (vec![0; workers.len()], vec![0; config.limits.udp_buffer + 1]);
        let lobby = Lobby::new(shared.blocked(), LOBBY);
        Hub {
            workers,
            registry,
            part,
            tunnel: None,
            tunnels: 0,
            pool,
            ways,
            live: Live::default(),
            inbox,
            entrance: Opening::Unwanted,
            lobby,
            looked: Vec::new(),
            sessions: Sessions::default(),
            packet,
            busy,
            forwarded: 0,
            stopping: None,
            shared,
        }
    }

    /// An edge of one of the hub's own sockets.
    pub fn note(&mut self, event: &Event) {
        let token = event.token().0;
        if token >= LOBBY {
            let key = self.lobby.note(token - LOBBY, event);
            self.looked.extend(key);
        } else if token >= ENTRANCE {
            if let Opening::Open(entrance) = &mut self.entrance {
                entrance.note(token - ENTRANCE);
            }
        } else if let Part::Server(server) = &mut self.part {
            server.note();
        }
    }

    /// One turn: who came, what workers say, what the clock says, and what follows. A code when the program is to end.
    pub fn turn(&mut self, now: Instant) -> Option<ExitCode> {
        while let Some(notice) = self.inbox.next() {
            if let Some(code) = self.hear(notice, now) {
                return Some(code);
            }
        }
        if self.stopping.is_none() {
            self.visit(now);
            self.look(now);
            self.admit(now);
        }
        self.tick(now);
        self.settle(now);
        let done = self.stopping.is_some_and(|until| now >= until || self.live.tcp + self.live.udp == 0);
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
            && (matches!(&self.entrance, Opening::Open(entrance) if entrance.is_ready())
                || matches!(&self.part, Part::Server(server) if server.is_ready()))
    }

    /// When the clock has something to say.
    pub fn deadline(&self) -> Option<Instant> {
        let entrance = match &self.entrance {
            Opening::Open(entrance) => entrance.deadline(),
            Opening::Closed { again, .. } => Some(*again),
            Opening::Unwanted => None,
        };
        let part = match &self.part {
            Part::Server(server) => server.deadline(),
            Part::Client(client) => client.deadline(),
            Part::Single { report, reload, certs } => Some(certs.as_ref().map_or(*report, |_| *report.min(reload))),
        };
        let tunnel = self.tunnel.as_ref().and_then(Tunnel::deadline);
        let rest = [entrance, part, tunnel, self.pool.deadline(), self.ways.deadline(), self.lobby.deadline()];
        rest.into_iter().chain([self.stopping]).flatten().min()
    }

    /// What workers, the resolver and the system say.
    fn hear(&mut self, notice: Notice, now: Instant) -> Option<ExitCode> {
        match notice {
            Notice::Asked(home, from, request) => self.asked(home, from, &request, now),
            Notice::Came(home, tunnel, fp) => self.came(home, tunnel, fp, now),
            Notice::Answered(answer) => self.answered(answer, now),
            Notice::Opened(home, tunnel, id, fp) => self.opened(home, tunnel, id, fp, now),
            Notice::Failed(tunnel, why) => self.failed(tunnel, &why),
            Notice::Gone(tunnel, id) => {
                if self.is_current(tunnel) {
                    self.pool.gone(id);
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
                let user = self.unsettle(user);
                self.pool.take(Waiting::User(user), now);
            }
            Notice::Started(number, home) => self.ways.started(number, home),
            Notice::Unstarted(number, proto) => {
                if let Some(worker) = self.ways.unstarted(number) {
                    self.busy[worker] -= 1;
                }
                self.leave(proto);
            }
            Notice::Done(home, tunnel, proto) => {
                if self.is_current(tunnel) {
                    self.pool.done(home.worker);
                }
                if matches!(self.part, Part::Single { .. }) {
                    self.busy[home.worker] = self.busy[home.worker].saturating_sub(1);
                }
                self.leave(proto);
            }
            Notice::Reached(target, took) => self.ways.reached(target, took, now),
            Notice::Missed(target) => self.ways.missed(target, now),
            Notice::Probed(target, took) => {
                self.ways.probed(target, took, now);
                if matches!(self.part, Part::Single { .. }) {
                    self.check_point(took.unwrap_or_default());
                }
            }
            Notice::Resolved(name, answer) => self.ways.resolved(&name, answer, now),
            Notice::Signal(signal) => return self.signalled(signal, now),
        }
        None
    }

    /// Opens the entrance where users come in, unless it is open already.
    pub(super) fn open_entrance(&mut self, at: &Endpoint, now: Instant) {
        if matches!(self.entrance, Opening::Unwanted) {
            self.entrance = Opening::Closed { at: at.clone(), again: now, said: String::new() };
            self.tick_entrance(now);
        }
    }

    /// Takes an entrance that was opened elsewhere.
    pub(super) fn take_entrance(&mut self, entrance: Entrance) {
        self.entrance = Opening::Open(entrance);
    }

    /// Users do not come in here any more.
    pub(super) fn close_entrance(&mut self) {
        self.entrance = Opening::Unwanted;
    }

    fn tick_entrance(&mut self, now: Instant) {
        let Opening::Closed { at, again, said } = &mut self.entrance else { return };
        if now < *again {
            return;
        }
        let config = &self.shared.config;
        match Entrance::open(at, config.tcp, config.udp, &self.registry, ENTRANCE) {
            Ok(entrance) => self.entrance = Opening::Open(entrance),
            Err(why) => {
                if *said != why {
                    log::error!("{why}; trying again every {:?}", config.limits.cooldown);
                }
                (*again, *said) = (now + config.limits.cooldown, why);
            }
        }
    }

    /// Users at the entrance, a bounded number.
    fn admit(&mut self, now: Instant) {
        // A closed one keeps its place: it is opened when its time comes.
        if !matches!(self.entrance, Opening::Open(_)) {
            return;
        }
        // The entrance is borrowed from here on; what it brings is handed over to the rest of the hub.
        let Opening::Open(mut entrance) = std::mem::replace(&mut self.entrance, Opening::Unwanted) else {
            return;
        };
        for door in &mut entrance.tcp {
            for _ in 0..MOST_AT_A_TIME {
                let Some((socket, from)) = door.accept(now) else { break };
                self.admit_tcp(socket, from, now);
            }
        }
        for (door, ready) in &mut entrance.udp {
            for _ in 0..if *ready { MOST_AT_A_TIME } else { 0 } {
                match door.receive(&mut self.packet) {
                    Ok(arrived) if arrived.len > self.shared.config.limits.udp_buffer => {
                        log::warn!(
                            "Datagram of {} bytes from {} dropped: NP_UDP_DATA_BUF_SIZE",
                            arrived.len,
                            arrived.from
                        );
                    }
                    Ok(arrived) => {
                        let flow = Flow { user: arrived.from, asked: arrived.to };
                        self.admit_udp(door, flow, arrived.len, now);
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                        *ready = false;
                        break;
                    }
                    // An earlier answer could not be delivered; that is between the kernel and that user.
                    Err(_) => {}
                }
            }
        }
        self.restore(Some(entrance));
    }

    fn restore(&mut self, entrance: Option<Entrance>) {
        if let (Some(entrance), Opening::Unwanted) = (entrance, &self.entrance) {
            self.entrance = Opening::Open(entrance);
        }
    }

    fn admit_tcp(&mut self, socket: mio::net::TcpStream, from: std::net::SocketAddr, now: Instant) {
        if !self.enter(Proto::Tcp, from) {
            return;
        }
        let ends_tls = matches!(&self.part, Part::Single { certs: Some(_), .. });
        if !self.lobby.is_open() || ends_tls {
            return self.welcome(User::Tcp(socket, from), now);
        }
        match self.lobby.enter(socket, from, &self.registry, now) {
            Ok(Some(verdict)) => self.judged(verdict, now),
            Ok(None) => {}
            Err(_) => self.live.leave(Proto::Tcp),
        }
    }

    fn admit_udp(&mut self, door: &Arc<crate::net::udp::Door>, flow: Flow, len: usize, now: Instant) {
        let packet = self.packet[..len].to_vec();
        match self.sessions.get(&flow) {
            Some(Place::At(home)) => self.workers[home.worker].send(Job::Datagram(home.key, packet)),
            Some(Place::Waiting(packets)) => Place::keep(packets, packet),
            None => {
                if self.enter(Proto::Udp(flow), flow.user) {
                    self.sessions.begin(flow, packet);
                    self.welcome(User::Udp(door.clone(), flow, Vec::new()), now);
                }
            }
        }
    }

    /// Whether there is a slot for one more.
    fn enter(&mut self, proto: Proto, from: std::net::SocketAddr) -> bool {
        let slot = self.shared.config.slot;
        let entered = self.live.enter(proto, slot);
        if !entered && !std::mem::replace(&mut self.live.full, true) {
            log::warn!("{from} refused: all {} slots are taken (slot)", slot.unwrap_or_default());
        }
        entered
    }

    /// Looks at guests in the lobby whose words came or whose time is over.
    fn look(&mut self, now: Instant) {
        let mut keys = std::mem::take(&mut self.looked);
        if self.lobby.deadline().is_some_and(|due| now >= due) {
            keys.extend(self.lobby.due(now));
        }
        for key in keys.drain(..) {
            if let Some(verdict) = self.lobby.look(key, &self.registry, now) {
                self.judged(verdict, now);
            }
        }
        self.looked = keys;
    }

    fn judged(&mut self, verdict: Verdicted, now: Instant) {
        match verdict {
            Verdicted::Pass(socket, from) => self.welcome(User::Tcp(socket, from), now),
            Verdicted::Out(from, why) => {
                if let Some(what) = why {
                    log::warn!("{what} from {from} refused by block");
                }
                self.live.leave(Proto::Tcp);
            }
        }
    }

    /// A user who may go on: to the pool, or straight to a target.
    fn welcome(&mut self, user: User, now: Instant) {
        match self.part {
            Part::Single { .. } => self.ways.forward(user, now),
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
                        self.ways.dial(grant.home, launch, framed, now);
                    }
                }
            }
        }
        while let Some(way) = self.ways.poll(now) {
            self.send_off(way);
        }
        self.refill(now);
        self.obey(now);
    }

    fn join(&mut self, id: crate::logic::wire::Id, home: Home, user: User) {
        let Some(tunnel) = &mut self.tunnel else { return self.leave(user.proto()) };
        let udp = matches!(user, User::Udp(..));
        tunnel.launch(udp, user.address(), id);
        let framed = tunnel.framed();
        let user = self.settle_session(user, home);
        self.workers[home.worker].send(Job::Join(home.key, user, framed));
    }

    /// A way to a target is known (or there is none).
    fn send_off(&mut self, way: super::plan::Way) {
        use super::plan::Way;
        match way {
            Way::Dial(home, plan, proto) => self.workers[home.worker].send(Job::Dial(home.key, plan, proto)),
            Way::Forward(user, plan) => {
                let worker = (0..self.busy.len()).min_by_key(|&n| self.busy[n]).unwrap_or_default();
                self.busy[worker] += 1;
                self.forwarded += 1;
                self.ways.sent(self.forwarded, worker, user.proto());
                let tls = match &self.part {
                    Part::Single { certs: Some(certs), .. } => Some(certs.current().config),
                    _ => None,
                };
                self.workers[worker].send(Job::Forward(self.forwarded, user, plan, tls));
            }
            Way::Settle(flow, home) => {
                for packet in self.sessions.settle(&flow, home) {
                    self.workers[home.worker].send(Job::Datagram(home.key, packet));
                }
            }
            Way::Probe(target, address) => self.workers[0].send(Job::Probe(target, address)),
            Way::NoneFor(home, proto, why) => {
                log::warn!("No target: {why}");
                if let Some(home) = home {
                    self.pool.done(home.worker);
                    self.workers[home.worker].send(Job::Close(home.key));
                }
                self.leave(proto);
            }
        }
    }

    /// A session's task is known: the datagrams that waited go with the user.
    fn settle_session(&mut self, user: User, home: Home) -> User {
        match user {
            User::Udp(door, flow, _) => {
                let packets = self.sessions.settle(&flow, home);
                User::Udp(door, flow, packets)
            }
            user => user,
        }
    }

    fn unsettle(&mut self, user: User) -> User {
        match user {
            User::Udp(door, flow, packets) => {
                self.sessions.unsettle(&flow, packets);
                User::Udp(door, flow, Vec::new())
            }
            user => user,
        }
    }

    /// A slot is free again.
    pub(super) fn leave(&mut self, proto: Proto) {
        if let Proto::Udp(flow) = proto {
            self.sessions.end(&flow);
        }
        self.live.leave(proto);
    }

    fn tick(&mut self, now: Instant) {
        for late in self.pool.expired(now) {
            self.dismiss(late);
        }
        if self.stopping.is_none() {
            self.tick_entrance(now);
            self.tick_part(now);
        }
        self.tick_tunnel(now);
        self.ways.tick(now);
    }

    fn tick_part(&mut self, now: Instant) {
        let limits = &self.shared.config.limits;
        match &mut self.part {
            Part::Server(_) => self.tick_server(now),
            Part::Client(_) => self.tick_client(now),
            Part::Single { certs, report, reload } => {
                if now >= *report {
                    *report = now + limits.report;
                    self.ways.probe_any(now);
                }
                if now >= *reload {
                    *reload = now + limits.reload;
                    certs.iter_mut().for_each(reload_certs);
                }
            }
        }
    }

    /// Logs the figures; dashboards read them.
    pub(super) fn check_point(&self, ping: std::time::Duration) {
        let mode = match (&self.part, &self.tunnel) {
            (Part::Single { .. }, _) => 1,
            (_, Some(Tunnel { side: Side::Ingress, .. })) if self.shared.config.role == Role::Server => 1,
            _ => 2,
        };
        let [tcp_rx, tcp_tx, udp_rx, udp_tx] = self.shared.meters.read();
        crate::event!(
            "CHECK_POINT|MODE={mode}|PING={}ms|POOL={}|TCPS={}|UDPS={}|TCPRX={tcp_rx}|TCPTX={tcp_tx}|UDPRX={udp_rx}|UDPTX={udp_tx}",
            ping.as_millis(),
            self.pool.idle(),
            self.live.tcp,
            self.live.udp,
        );
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
        let live = self.live.tcp + self.live.udp;
        log::info!("Stopping: {live} connections have {:?} to finish", limits.shutdown);
        self.stopping = Some(now + limits.shutdown);
        self.close_entrance();
        for _ in 0..self.lobby.clear() {
            self.live.leave(Proto::Tcp);
        }
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
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.is_some()
    }
}

/// Looks at the certificate files again, and says what came of it.
pub(super) fn reload_certs(certs: &mut Certs) {
    match certs.reload() {
        Ok(true) => log::info!("Certificate loaded again: new connections use the new one"),
        Ok(false) => {}
        Err(why) => log::error!("Certificate not loaded again, the old one stays: {why}"),
    }
}

/// The certificate that this configuration asks for, for that audience.
pub(super) fn certs(tls: &crate::config::Tls, audience: Audience) -> Result<Option<Certs>, String> {
    use crate::config::Tls;
    use crate::net::certs::Origin;
    let origin = match tls {
        Tls::Off => return Ok(None),
        Tls::SelfSigned => Origin::Memory,
        Tls::Files { crt, key } => Origin::Files { crt: crt.clone(), key: key.clone() },
    };
    Certs::new(origin, audience).map(Some)
}

/// Tokens of the hub's sockets: the tunnel's door, then the entrance's, then the lobby's guests.
pub(super) const GATE: usize = 1 << 28;
pub(super) const ENTRANCE: usize = GATE + 1;
const LOBBY: usize = GATE + 1024;
/// Most connections and datagrams taken from one door in one turn.
const MOST_AT_A_TIME: usize = 256;
