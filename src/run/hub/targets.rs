//! The way to targets: which one, at which address, for whom. Names are looked up on the way; whoever needs one waits here.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use crate::config::{Config, Endpoint, Host};
use crate::error::Error;
use crate::logic::names::{Look, Names};
use crate::logic::target::{Balance, Order, Targets};
use crate::net::resolve::Resolver;
use crate::run::channel::Sender;
use crate::run::messages::{DialRequest, Home, Notice, Proto, SessionKey, User};

/// All that is known about targets.
pub(in crate::run) struct TargetRouter {
    endpoints: Vec<Endpoint>,
    targets: Targets,
    names: Names,
    resolver: Option<Resolver>,
    post: Sender<Notice>,
    source: Option<IpAddr>,
    proxy: bool,
    tcp: bool,
    measures: bool,
    report: bool,
    tcp_timeout: Duration,
    udp_timeout: Duration,
    parked: Vec<(Instant, Traveller)>,
    out: VecDeque<TargetEvent>,
    sent: HashMap<u64, (usize, Proto)>,
    /// A measurement that waits for a name, and how long.
    probing: Option<Instant>,
    changed: bool,
}

/// A launch of the peer's (egress).
#[derive(Clone, Copy, Debug)]
pub(in crate::run) struct Launch {
    /// The user, if the peer gave an address that can be read.
    pub user: Option<SocketAddr>,
    /// What he speaks.
    pub proto: Proto,
}

/// Somebody who wants to go to a target, and the order of targets that fell to him.
struct Traveller {
    who: Who,
    order: Order,
}

enum Who {
    /// A pool connection for a launch; whether datagrams travel in frames.
    Pool(Home, Launch, bool),
    /// A single-end user.
    User(User),
}

impl Who {
    fn proto(&self) -> Proto {
        match self {
            Who::Pool(_, launch, _) => launch.proto,
            Who::User(user) => user.proto(),
        }
    }
}

/// What is to be done.
pub(in crate::run) enum TargetEvent {
    /// This pool connection goes on to a target.
    Dial(Home, DialRequest, Proto),
    /// This user goes to a target.
    Forward(User, DialRequest),
    /// This single-end UDP session's task is known.
    Settle(SessionKey, Home),
    /// Measure how long that target takes.
    Probe(usize, SocketAddr),
    /// There is none, and why.
    NoneFor(Option<Home>, Proto, String),
}

impl TargetRouter {
    /// The targets of a configuration; `post` brings the resolver's answers.
    pub fn new(config: &Config, post: Sender<Notice>, now: Instant) -> TargetRouter {
        let balance = config.balance;
        TargetRouter {
            endpoints: config.targets.clone(),
            targets: Targets::new(config.targets.len(), balance, config.limits.fallback, config.limits.report, now),
            names: Names::new(config.dns),
            resolver: None,
            post,
            source: config.dial,
            proxy: config.proxy,
            tcp: config.tcp,
            measures: balance == Balance::Fastest,
            report: config.targets.len() > 1,
            tcp_timeout: config.limits.tcp_dial,
            udp_timeout: config.limits.udp_dial,
            parked: Vec::new(),
            out: VecDeque::new(),
            sent: HashMap::new(),
            probing: None,
            changed: false,
        }
    }

    /// A pool connection wants to a target.
    pub fn dial(&mut self, home: Home, launch: Launch, framed: bool, now: Instant) {
        self.begin(Who::Pool(home, launch, framed), now);
    }

    /// A user wants to a target.
    pub fn forward(&mut self, user: User, now: Instant) {
        self.begin(Who::User(user), now);
    }

    /// The next thing to do, until `None`.
    pub fn poll(&mut self, now: Instant) -> Option<TargetEvent> {
        if std::mem::take(&mut self.changed) {
            for (until, traveller) in std::mem::take(&mut self.parked) {
                self.set_out(traveller, until, now);
            }
            if let Some(until) = self.probing.take() {
                self.probe_until(until, now);
            }
        }
        self.out.pop_front()
    }

    fn begin(&mut self, who: Who, now: Instant) {
        let order = self.targets.order(now);
        let timeout = match who.proto() {
            Proto::Tcp => self.tcp_timeout,
            Proto::Udp(_) => self.udp_timeout,
        };
        self.set_out(Traveller { who, order }, now + timeout, now);
    }

    fn set_out(&mut self, traveller: Traveller, until: Instant, now: Instant) {
        match self.candidates(traveller.order.clone(), now) {
            Ok(Some(candidates)) => self.out.push_back(self.way(traveller.who, candidates)),
            Ok(None) if now < until && self.parked.len() < MAX_PARKED => self.parked.push((until, traveller)),
            Ok(None) => self.turn_away(traveller.who, "the name of the target is still being looked up".into()),
            Err(why) => self.turn_away(traveller.who, why.to_string()),
        }
    }

    fn way(&self, who: Who, candidates: Vec<(usize, SocketAddr)>) -> TargetEvent {
        let request = |user, proto, framed| DialRequest {
            candidates,
            user,
            proxy: self.proxy,
            udp: matches!(proto, Proto::Udp(_)),
            framed,
            report: self.report,
        };
        match who {
            Who::Pool(home, launch, framed) => {
                let user = launch.user.unwrap_or(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
                TargetEvent::Dial(home, request(user, launch.proto, framed), launch.proto)
            }
            Who::User(user) => {
                let request = request(user.address(), user.proto(), true);
                TargetEvent::Forward(user, request)
            }
        }
    }

    fn turn_away(&mut self, who: Who, why: String) {
        self.out.push_back(match who {
            Who::Pool(home, launch, _) => TargetEvent::NoneFor(Some(home), launch.proto, why),
            Who::User(user) => TargetEvent::NoneFor(None, user.proto(), why),
        });
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
        // A source of one family cannot reach the other; that is mux_events only if it leaves nothing.
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
            Host::Name(name) => name,
        };
        match self.names.look(name, now) {
            Look::Known(ips) => Ok(Some(ips.iter().map(at).collect())),
            Look::Failed(error) => Err(error),
            Look::Wait => Ok(None),
            Look::Ask => {
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
            let post = self.post.clone();
            self.resolver = Resolver::start(move |name, answer| post.send(Notice::Resolved(name, answer))).ok();
        }
        let asked = match &self.resolver {
            Some(resolver) => resolver.ask(name.clone()),
            None => Err(Error::name(name.clone(), "no thread for the resolver")),
        };
        if let Err(why) = asked {
            self.resolved(&name, Err(why), now);
        }
    }

    /// The resolver's answer.
    pub fn resolved(&mut self, name: &str, answer: Result<Vec<IpAddr>, Error>, now: Instant) {
        let failure = answer.as_ref().err().cloned();
        match (self.names.answered(name, answer, now), failure) {
            (Look::Known(_), Some(why)) => log::warn!("The addresses known for {name} stay: {why}"),
            // Those who wait for it tell it.
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
            return self.post.send(Notice::Probed(0, None));
        }
        self.probe_until(now + self.tcp_timeout, now);
    }

    /// The measurement; it waits for a name no longer than until then.
    fn probe_until(&mut self, until: Instant, now: Instant) {
        match self.candidates(0..self.endpoints.len(), now) {
            Ok(Some(candidates)) => {
                self.out.extend(candidates.first().map(|&(target, at)| TargetEvent::Probe(target, at)))
            }
            Ok(None) if now < until => self.probing = Some(until),
            Ok(None) | Err(_) => self.post.send(Notice::Probed(0, None)),
        }
    }

    /// A single-end user was sent off to that worker under that number.
    pub fn sent(&mut self, number: u64, worker: usize, proto: Proto) {
        self.sent.insert(number, (worker, proto));
    }

    /// His task is known.
    pub fn started(&mut self, number: u64, home: Home) {
        if let Some((_, Proto::Udp(flow))) = self.sent.remove(&number) {
            self.out.push_back(TargetEvent::Settle(flow, home));
        }
    }

    /// He left before he had one; the worker he was sent to.
    pub fn unstarted(&mut self, number: u64) -> Option<usize> {
        self.sent.remove(&number).map(|(worker, _)| worker)
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
                self.out.extend(addresses.first().map(|at| TargetEvent::Probe(target, *at)));
            }
        }
        if self.probing.take_if(|until| now >= *until).is_some() {
            self.post.send(Notice::Probed(0, None));
        }
        if self.parked.is_empty() {
            return;
        }
        let (late, parked): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.parked).into_iter().partition(|(until, _)| now >= *until);
        self.parked = parked;
        for (_, traveller) in late {
            self.turn_away(traveller.who, "its name could not be looked up in time".into());
        }
    }

    /// When the clock has something to say.
    pub fn deadline(&self) -> Option<Instant> {
        let parked = self.parked.iter().map(|(until, _)| *until).min();
        parked.into_iter().chain(self.probing).chain(self.targets.deadline()).min()
    }
}

/// Most addresses that are tried for one user.
const MAX_CANDIDATES: usize = 16;
/// Most users that wait for a name.
const MAX_PARKED: usize = 4096;
