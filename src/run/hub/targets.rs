//! Which target, and at which address. Names are looked up; connections that need one wait here meanwhile.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::out::PeerUser;
use crate::config::{Config, Endpoint, Host};
use crate::error::Error;
use crate::logic::expiring::Expiring;
use crate::logic::names::{Found, Lookup, Names};
use crate::logic::target::{Balance, Order, Targets};
use crate::logic::terms::TunnelNo;
use crate::net::resolve::{on_link, Resolver};
use crate::run::channel::Sender;
use crate::run::dns::NameServers;
use crate::run::messages::{DialRequest, Home, Notice};
use crate::run::user::{Proto, SessionKey, User};

/// All that is known about targets.
pub(in crate::run) struct TargetRouter {
    endpoints: Vec<Endpoint>,
    targets: Targets,
    names: Names,
    resolver: Option<Source>,
    servers: Vec<Endpoint>,
    sender: Sender<Notice>,
    source: Option<IpAddr>,
    proxy: bool,
    tcp: bool,
    measures: bool,
    report: bool,
    named: bool,
    tcp_timeout: Duration,
    udp_timeout: Duration,
    /// Those that wait for a name, over TCP and over UDP: each kind waits equally long.
    parked: [Expiring<u64, Parked>; 2],
    /// How many ever waited.
    parkings: u64,
    out: VecDeque<TargetEvent>,
    /// Single-end users whose task is not known yet, by ticket.
    sent: HashMap<u64, (usize, Proto)>,
    tickets: u64,
    /// A measurement that waits for a name, and how long.
    probing: Option<Instant>,
    changed: bool,
}

/// Who is asked for names.
enum Source {
    System(Resolver),
    Servers(NameServers),
}

/// A connection that needs a target, and the order of targets that fell to it.
struct Parked {
    origin: Origin,
    order: Order,
    until: Instant,
}

/// What needs a target.
enum Origin {
    /// A pool connection for a user of the peer's.
    Pool { home: Home, tunnel: TunnelNo, user: PeerUser, framed: bool },
    /// A single-end user.
    User(User),
}

impl Origin {
    fn proto(&self) -> Proto {
        match self {
            Origin::Pool { user, .. } => user.proto,
            Origin::User(user) => user.proto(),
        }
    }
}

/// What is to be done.
pub(in crate::run) enum TargetEvent {
    /// This pool connection goes on to a target.
    Dial { home: Home, tunnel: TunnelNo, request: DialRequest, proto: Proto },
    /// This user goes to a target.
    Forward { user: User, request: DialRequest },
    /// The task of this single-end UDP session is known.
    Bound { session: SessionKey, home: Home },
    /// Measure how long that target takes.
    Probe { target: usize, address: SocketAddr },
    /// There is none for the connection that waits, or for a single-end user; and why.
    NoTarget { waiting: Option<(Home, TunnelNo)>, proto: Proto, why: String },
}

impl TargetRouter {
    /// The targets of a configuration; `sender` brings the resolver's answers.
    pub fn new(config: &Config, sender: Sender<Notice>, now: Instant) -> TargetRouter {
        let balance = config.balance;
        TargetRouter {
            endpoints: config.targets.clone(),
            targets: Targets::new(config.targets.len(), balance, config.limits.fallback, config.limits.report, now),
            names: Names::new(config.dns.keep),
            resolver: None,
            servers: config.dns.servers.clone(),
            sender,
            source: config.dial,
            proxy: config.proxy,
            tcp: config.tcp,
            measures: balance == Balance::Fastest,
            report: config.targets.len() > 1,
            named: config.targets.iter().any(|at| matches!(at.host, Host::Name(_))),
            tcp_timeout: config.limits.tcp_dial,
            udp_timeout: config.limits.udp_dial,
            parked: Default::default(),
            parkings: 0,
            out: VecDeque::new(),
            sent: HashMap::new(),
            tickets: 0,
            probing: None,
            changed: false,
        }
    }

    /// A pool connection wants to a target.
    pub fn dial(&mut self, home: Home, tunnel: TunnelNo, user: PeerUser, framed: bool, now: Instant) {
        self.begin(Origin::Pool { home, tunnel, user, framed }, now);
    }

    /// A user wants to a target.
    pub fn forward(&mut self, user: User, now: Instant) {
        self.begin(Origin::User(user), now);
    }

    /// The next thing to do, until `None`.
    pub fn poll(&mut self, now: Instant) -> Option<TargetEvent> {
        if std::mem::take(&mut self.changed) {
            for mut waiting in std::mem::take(&mut self.parked) {
                while let Some((_, parked)) = waiting.pop() {
                    self.route(parked, now);
                }
            }
            if let Some(until) = self.probing.take() {
                self.probe_until(until, now);
            }
        }
        self.out.pop_front()
    }

    fn begin(&mut self, origin: Origin, now: Instant) {
        let order = self.targets.order(now);
        let timeout = match origin.proto() {
            Proto::Tcp(_) => self.tcp_timeout,
            Proto::Udp(_) => self.udp_timeout,
        };
        self.route(Parked { origin, order, until: now + timeout }, now);
    }

    fn route(&mut self, parked: Parked, now: Instant) {
        let has_room = self.parked.iter().map(Expiring::len).sum::<usize>() < MAX_PARKED;
        match self.candidates(parked.order.clone(), now) {
            Ok(Some(candidates)) => self.out.push_back(self.event(parked.origin, candidates)),
            Ok(None) if now < parked.until && has_room => self.park(parked),
            Ok(None) => self.give_up(parked.origin, "the name of the target is still being looked up".into()),
            Err(why) => self.give_up(parked.origin, why.to_string()),
        }
    }

    fn park(&mut self, parked: Parked) {
        let udp = matches!(parked.origin.proto(), Proto::Udp(_));
        let until = parked.until;
        self.parkings += 1;
        self.parked[usize::from(udp)].insert(self.parkings, parked, until);
    }

    fn event(&self, origin: Origin, candidates: Vec<(usize, SocketAddr)>) -> TargetEvent {
        let request = |user, proto, framed| DialRequest {
            candidates,
            user,
            proxy: self.proxy,
            udp: matches!(proto, Proto::Udp(_)),
            framed,
            report: self.report,
            named: self.named,
        };
        match origin {
            Origin::Pool { home, tunnel, user: PeerUser { address, proto }, framed } => {
                let user = address.unwrap_or(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
                TargetEvent::Dial { home, tunnel, request: request(user, proto, framed), proto }
            }
            Origin::User(user) => {
                let request = request(user.address(), user.proto(), true);
                TargetEvent::Forward { user, request }
            }
        }
    }

    fn give_up(&mut self, origin: Origin, why: String) {
        let proto = origin.proto();
        let waiting = match origin {
            Origin::Pool { home, tunnel, .. } => Some((home, tunnel)),
            Origin::User(_) => None,
        };
        self.out.push_back(TargetEvent::NoTarget { waiting, proto, why });
    }

    /// The addresses of these targets, in order; `None` while their names are being looked up.
    fn candidates(
        &mut self,
        order: impl Iterator<Item = usize>,
        now: Instant,
    ) -> Result<Option<Vec<(usize, SocketAddr)>>, Error> {
        let (mut found, mut waiting, mut failure) = (Vec::new(), false, None);
        for target in order {
            let Some(endpoint) = self.endpoints.get(target) else { continue };
            let endpoint = endpoint.clone();
            match self.addresses(&endpoint, now) {
                Ok(Some(addresses)) => found.extend(addresses.into_iter().map(|address| (target, address))),
                Ok(None) => waiting = true,
                Err(why) => failure = Some(why),
            }
        }
        // A source of one family cannot reach the other; that matters only if it leaves nothing.
        if let Some(source) = self.source {
            if found.iter().any(|(_, address)| address.is_ipv4() == source.is_ipv4()) {
                found.retain(|(_, address)| address.is_ipv4() == source.is_ipv4());
            }
        }
        found.truncate(MAX_CANDIDATES);
        match (found.is_empty(), waiting) {
            (false, _) => Ok(Some(found)),
            (true, true) => Ok(None),
            (true, false) => Err(failure.unwrap_or_else(|| Error::unsupported("no target is configured"))),
        }
    }

    /// The addresses of an endpoint; `None` while its name is being looked up.
    pub fn addresses(&mut self, endpoint: &Endpoint, now: Instant) -> Result<Option<Vec<SocketAddr>>, Error> {
        let at = |ip: &IpAddr| SocketAddr::new(*ip, endpoint.port);
        let name = match &endpoint.host {
            Host::Ip(ip) => return Ok(Some(vec![at(ip)])),
            Host::Any => return Ok(Some(vec![at(&Ipv4Addr::LOCALHOST.into())])),
            Host::Zoned(ip, zone) => return on_link(*ip, zone, endpoint.port).map(|address| Some(vec![address])),
            Host::Name(name) => name,
        };
        match self.names.lookup(name, now) {
            Lookup::Known(ips) => Ok(Some(ips.iter().map(at).collect())),
            Lookup::Failed(error) => Err(error),
            Lookup::Wait => Ok(None),
            Lookup::Ask => {
                self.ask(name.clone(), now);
                Ok(None)
            }
        }
    }

    /// A name's addresses did not answer: they may have changed.
    pub fn doubt(&mut self, endpoint: &Endpoint, now: Instant) {
        if let Host::Name(name) = &endpoint.host {
            self.names.doubt(name, now);
        }
    }

    fn ask(&mut self, name: String, now: Instant) {
        if self.resolver.is_none() {
            self.resolver = self.start_resolver().ok();
        }
        let asked = match &self.resolver {
            Some(Source::System(resolver)) => resolver.ask(name.clone()),
            Some(Source::Servers(servers)) => {
                servers.ask(name);
                return;
            }
            None => Err(Error::name(name.clone(), "no thread for the resolver")),
        };
        if let Err(why) = asked {
            self.resolved(&name, Err(why), now);
        }
    }

    fn start_resolver(&self) -> io::Result<Source> {
        let sender = self.sender.clone();
        let tell = move |name, answer| sender.send(Notice::Resolved { name, answer });
        match self.servers.is_empty() {
            true => Resolver::start(move |name, answer| tell(name, answer.map(Found::from))).map(Source::System),
            false => NameServers::start(self.servers.clone(), tell).map(Source::Servers),
        }
    }

    /// The resolver's answer.
    pub fn resolved(&mut self, name: &str, answer: Result<Found, Error>, now: Instant) {
        let failure = answer.as_ref().err().cloned();
        match (self.names.answered(name, answer, now), failure) {
            (Lookup::Known(_), Some(why)) => log::warn!("The addresses known for {name} stay: {why}"),
            // The connections that wait for it tell it.
            (_, Some(why)) => log::debug!("Name not resolved: {why}"),
            _ => {}
        }
        self.changed = true;
    }

    /// A target was reached.
    pub fn reached(&mut self, target: usize, took: Duration, now: Instant) {
        self.targets.reached(target, took, now);
    }

    /// A target was not reached.
    pub fn missed(&mut self, target: usize, now: Instant) {
        self.targets.failed(target, now);
        if let Some(endpoint) = self.endpoints.get(target).cloned() {
            self.doubt(&endpoint, now);
        }
    }

    /// A measurement came back. Only `lbs=1` chooses by it; to the others it is a figure and no more.
    pub fn probed(&mut self, target: usize, took: Option<Duration>, now: Instant) {
        match took {
            _ if !self.measures => {}
            Some(took) => self.reached(target, took, now),
            None => self.missed(target, now),
        }
    }

    /// Measures the first target that has an address: each time it is called, a [`Notice::Probed`] follows.
    pub fn probe_any(&mut self, now: Instant) {
        if !self.tcp {
            return self.sender.send(Notice::Probed { target: 0, took: None });
        }
        self.probe_until(now + self.tcp_timeout, now);
    }

    /// The measurement; it waits for a name no longer than until then.
    fn probe_until(&mut self, until: Instant, now: Instant) {
        match self.candidates(0..self.endpoints.len(), now) {
            Ok(Some(candidates)) => {
                self.out.extend(candidates.first().map(|&(target, at)| TargetEvent::Probe { target, address: at }));
            }
            Ok(None) if now < until => self.probing = Some(until),
            Ok(None) | Err(_) => self.sender.send(Notice::Probed { target: 0, took: None }),
        }
    }

    /// A single-end user is sent to that worker; the ticket that names the user there.
    pub fn sent(&mut self, worker: usize, proto: Proto) -> u64 {
        self.tickets += 1;
        self.sent.insert(self.tickets, (worker, proto));
        self.tickets
    }

    /// The user's task is known.
    pub fn started(&mut self, ticket: u64, home: Home) {
        if let Some((_, Proto::Udp(session))) = self.sent.remove(&ticket) {
            self.out.push_back(TargetEvent::Bound { session, home });
        }
    }

    /// The user left before there was one; the worker that it was sent to.
    pub fn unstarted(&mut self, ticket: u64) -> Option<usize> {
        self.sent.remove(&ticket).map(|(worker, _)| worker)
    }

    /// After a crowd has gone, memory that it took is given back.
    pub fn shrink(&mut self) {
        self.parked.iter_mut().for_each(|parked| parked.shrink_to(SLACK));
        self.out.shrink_to(SLACK);
        self.sent.shrink_to(2 * self.sent.len() + SLACK);
    }

    /// Time has passed: names are refreshed in the background, latencies measured, waiting ends.
    pub fn tick(&mut self, now: Instant) {
        while let Some(name) = self.names.poll() {
            self.ask(name, now);
        }
        while let Some(target) = self.targets.probe(now) {
            if !self.tcp {
                // Measured by dialling over TCP, which these targets may not speak: then the order stays as it is.
                continue;
            }
            if let Some(endpoint) = self.endpoints.get(target).cloned() {
                let addresses = self.addresses(&endpoint, now).ok().flatten().unwrap_or_default();
                self.out.extend(addresses.first().map(|at| TargetEvent::Probe { target, address: *at }));
            }
        }
        if self.probing.take_if(|until| now >= *until).is_some() {
            self.sender.send(Notice::Probed { target: 0, took: None });
        }
        for kind in 0..self.parked.len() {
            while let Some((_, parked)) = self.parked[kind].expired(now) {
                self.give_up(parked.origin, "its name could not be looked up in time".into());
            }
        }
    }

    /// When the clock has something to say.
    pub fn deadline(&self) -> Option<Instant> {
        let parked = self.parked.iter().filter_map(Expiring::deadline);
        parked.chain(self.probing).chain(self.targets.deadline()).min()
    }
}

/// Most addresses that are tried for one user.
const MAX_CANDIDATES: usize = 16;
/// Most users that wait for a name.
const MAX_PARKED: usize = 4096;
/// Places that are kept when a crowd has gone.
const SLACK: usize = 64;
