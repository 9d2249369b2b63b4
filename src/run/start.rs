//! Starting an instance from its configuration: ports, threads, signals, exit code.
//!
//! Threads: one per worker (the hub runs on the first one's), one for signals, one for names if there are any.

use std::io;
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::sync::atomic::AtomicUsize;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;

use super::channel::{channel, Sender};
use super::event_loop::{self, HOME, LEASH};
use super::following::{Before, Origin};
use super::hub::certificates::certs;
use super::hub::client::Client;
use super::hub::ingress::listeners::Listeners;
use super::hub::part::Part;
use super::hub::route::alpn;
use super::hub::server::Server;
use super::hub::single::Single;
use super::hub::stopping::succession::Succession;
use super::hub::{Hub, USERS_TOKEN};
use super::leash::{self, Leash};
use super::messages::{Job, Notice};
use super::metrics;
use super::poller::Poller;
use super::resources::Resources;
use super::shared::Shared;
use super::stats::Stats;
use super::worker::Worker;
use crate::config::{Config, Mode, Role};
use crate::error::{Cause, Error};
use crate::heap;
use crate::log as lines;
use crate::logic::terms::Direction;
use crate::logic::timers::Bucket;
use crate::net::certs::Audience;
use crate::net::inherited::Inherited;
use crate::net::sys;
use crate::net::tcp::SocketKeepalive;

/// Runs a server or a client until it is told to stop. The error is for the user: one line.
/// `origin` says how another process is started.
pub fn start(config: Config, origin: Origin) -> Result<ExitCode, Error> {
    if !config.transport.is_built() {
        let (code, name, feature) = (config.transport.code(), config.transport.name(), config.transport.feature());
        return Err(Error::unsupported(format!(
            "type={code} ({name}) is not part of this build, which was made without the cargo feature \"{feature}\""
        )));
    }
    if !config.dns.servers.is_empty() && !cfg!(feature = "dns") {
        return Err(Error::unsupported(
            "dns with addresses of servers is not part of this build, which was made without the cargo feature \"dns\"",
        ));
    }
    let epoch = Instant::now();
    let failed = |error: io::Error| Error::system("cannot start", error);
    let (before, sockets) = Before::read().map_err(failed)?.unzip();
    let shared = shared(config, sockets.unwrap_or_default(), epoch);

    let count = shared.workers();
    let mut threads = Vec::with_capacity(count);
    for _ in 0..count {
        threads.push(Poller::new().map_err(failed)?);
    }
    let (sender, inbox) = channel::<Notice>(threads[0].waker());
    let (senders, inboxes): (Vec<Sender<Job>>, Vec<_>) = threads.iter().map(|poller| channel(poller.waker())).unzip();

    listen_for_signals(sender.clone()).map_err(failed)?;

    let registry = Arc::new(threads[0].registry().try_clone().map_err(failed)?);
    let (part, user_port) = part(&shared, &registry, epoch)?;
    let mut hub = Hub::new(shared.clone(), senders, registry, inbox, sender.clone(), part, epoch);
    let (ingress, registry) = hub.ingress();
    match user_port {
        UserPort::Open(listeners) => ingress.take(listeners),
        UserPort::Wanted(at) => ingress.open(&at, registry, epoch),
        UserPort::None => {}
    }
    log::info!(event = "started"; "{} started: {}", shared.name(), shared.config.effective_url());
    if !hub.is_single() {
        shared.config.risks().iter().for_each(|risk| log::warn!("{risk}"));
    }
    let metrics = shared.config.metrics.as_ref().map(|at| metrics::serve(at, &shared)).transpose()?;
    let home = before.map(|before| take_over(before, &mut hub, &shared.inherited, epoch)).transpose()?;
    hub.succeeds(Succession::new(origin, sender.clone(), metrics, home));
    let mut first = None;
    for (index, (poller, inbox)) in threads.into_iter().zip(inboxes).enumerate() {
        let registry = Arc::new(poller.registry().try_clone().map_err(failed)?);
        let worker = Worker::new(index, inbox, sender.clone(), registry, shared.clone(), epoch);
        match index {
            0 => first = Some((poller, worker)),
            _ => {
                let name = format!("worker-{index}");
                let run = move || drop(event_loop::run(poller, worker, None, None));
                thread::Builder::new().name(name).stack_size(STACK).spawn(run).map_err(failed)?;
            }
        }
    }
    let (poller, worker) = first.ok_or_else(|| Error::system("cannot start", "no worker"))?;
    let held = leash::is_held().then(|| Leash::watch(poller.registry(), LEASH)).transpose().map_err(failed)?;
    event_loop::run(poller, worker, Some((hub, sender)), held).map_err(failed)
}

/// The process before this one closes its ports once those of this one are open: all of them, or this one has not started.
fn take_over(
    before: Before,
    hub: &mut Hub,
    inherited: &Inherited,
    now: Instant,
) -> Result<mio::net::UnixStream, Error> {
    hub.tick(now);
    if !hub.is_open() {
        return Err(Error::system("cannot follow the process before", io::Error::from(io::ErrorKind::AddrInUse)));
    }
    if hub.knows_its_ports() {
        inherited.close();
    }
    let (_, registry) = hub.ingress();
    let home = before.take_over(registry, HOME);
    home.map_err(|error| Error::system("cannot follow the process before", error))
}

/// The configuration made to fit this machine, and what goes with it.
fn shared(mut config: Config, sockets: Vec<OwnedFd>, epoch: Instant) -> Arc<Shared> {
    sys::raise_descriptor_limit();
    let resources = Resources::here();
    if resources.wants_one_heap() {
        heap::share();
    }
    let fitted = resources.fit(&mut config);
    fitted.line().iter().for_each(|line| log::info!("{line}"));
    let keepalive = SocketKeepalive::after(config.limits.keepalive);
    let tunnel_keepalive = keepalive.early();
    let bucket = || config.rate.map(|rate| Bucket::new(rate, epoch));
    let (up, down) = (bucket(), bucket());
    Arc::new(Shared {
        budget: fitted.budget,
        keepalive,
        tunnel_keepalive,
        stats: Stats::default(),
        untold: AtomicUsize::new(0),
        up,
        down,
        inherited: Inherited::new(sockets),
        held: leash::is_held(),
        config,
    })
}

/// Where users come in.
enum UserPort {
    Open(Listeners),
    Wanted(crate::config::Endpoint),
    None,
}

/// What this instance is, by its role and mode; `mode=0` decides by trying to bind.
fn part(shared: &Arc<Shared>, registry: &mio::Registry, now: Instant) -> Result<(Part, UserPort), Error> {
    let config = &shared.config;
    let try_at = |at| Listeners::open(at, shared, registry, USERS_TOKEN);
    match config.role {
        Role::Master => Err(Error::unsupported("the master does not run as an instance")),
        Role::Server => {
            let at = &config.targets[0];
            let (flow, user_port) = match config.mode {
                Mode::One => (Direction::Reverse, UserPort::Wanted(at.clone())),
                Mode::Two => (Direction::Forward, UserPort::None),
                Mode::Auto => match try_at(at) {
                    Ok(listeners) => (Direction::Reverse, UserPort::Open(listeners)),
                    Err(why) => {
                        flipped(
                            &why,
                            "it is the target, and users come in at the client",
                            "mode=1 lets users in here only, mode=2",
                        );
                        (Direction::Forward, UserPort::None)
                    }
                },
            };
            Ok((
                Part::Server(Box::new(Server::new(
                    shared.clone(),
                    certs(&config.tls, Audience::Pool(alpn(config.transport)))?,
                    flow,
                    now,
                ))),
                user_port,
            ))
        }
        Role::Client => {
            let user_port = match config.mode {
                Mode::One => UserPort::Wanted(config.tunnel.clone()),
                Mode::Two => UserPort::None,
                Mode::Auto => match try_at(&config.tunnel) {
                    Ok(listeners) => UserPort::Open(listeners),
                    Err(why) => {
                        flipped(&why, "a server is called there", "mode=1 forwards without a server, mode=2");
                        UserPort::None
                    }
                },
            };
            let part = match user_port {
                UserPort::None => Part::Client(Client::new(shared.clone(), now)),
                _ => {
                    let certs = certs(&config.tls, Audience::Users)?;
                    Part::Single(Single::new(certs, &config.limits, now))
                }
            };
            Ok((part, user_port))
        }
    }
}

/// With `mode=0` a port that cannot be had decides what this instance is. That another program has it may be a mistake; that it is
/// another machine's is what is meant. `else_do` is the mode for those who want it otherwise, and the one that says this.
fn flipped(why: &Error, so: &str, else_do: &str) {
    let meant = matches!(why, Error::Name(_)) || matches!(why.cause(), Cause::Os(libc::EADDRNOTAVAIL));
    match meant {
        true => log::info!("mode=0: {why}: so {so}"),
        false => log::warn!(event = "mode_flipped"; "mode=0: {why}: so {so}; {else_do} says so without this warning"),
    }
}

/// Signals come in as notices, from a thread that does nothing else.
fn listen_for_signals(sender: Sender<Notice>) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2])?;
    let run = move || {
        signals.forever().for_each(|signal| {
            match signal {
                SIGUSR1 => lines::change_level(lines::level().louder()),
                SIGUSR2 => lines::change_level(lines::level().quieter()),
                _ => {}
            }
            sender.send(Notice::Signal(signal));
        });
    };
    thread::Builder::new().name("signals".into()).stack_size(STACK).spawn(run).map(drop)
}

/// Workers need little stack: nothing recurses.
const STACK: usize = 256 * 1024;
