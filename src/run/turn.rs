//! Starting an instance, and the turn that each of its threads repeats.
//!
//! Threads: one per worker (the hub runs on the first one's), one for signals, one for names if there are any.

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::client::{speech, Client};
use super::door::Entrance;
use super::handoff::{queue, Bell, Job, Notice, Post};
use super::hub::{certs, Hub, Part, ENTRANCE, GATE};
use super::leash;
use super::room::Room;
use super::server::Server;
use super::task::{Meters, Shared};
use super::worker::Worker;
use crate::config::{Config, Mode, Role};
use crate::heap;
use crate::logic::terms::Flow;
use crate::logic::timers::Bucket;
use crate::net::certs::Audience;
use crate::net::{share, sys};

/// Runs a server or a client until it is told to stop. The error is for the user: one line.
pub fn start(mut config: Config) -> Result<ExitCode, String> {
    if !config.transport.is_built() {
        let (code, name, feature) = (config.transport.code(), config.transport.name(), config.transport.feature());
        return Err(format!(
            "type={code} ({name}) is not part of this build, which was made without the cargo feature \"{feature}\""
        ));
    }
    sys::raise_descriptor_limit();
    let room = Room::here();
    if room.wants_one_heap() {
        heap::share();
    }
    let fitted = room.fit(&mut config);
    share::set(fitted.share);
    fitted.line.iter().for_each(|line| log::info!("{line}"));
    let epoch = Instant::now();
    let bucket = || config.rate.map(|rate| Bucket::new(rate, epoch));
    let (up, down) = (bucket(), bucket());
    let shared = Arc::new(Shared { meters: Meters::default(), up, down, config });
    let failed = |error: io::Error| format!("cannot start: {error}");

    let count = shared.workers();
    let mut threads = Vec::with_capacity(count);
    for _ in 0..count {
        let poll = Poll::new().map_err(failed)?;
        let bell = Arc::new(Bell::new(poll.registry(), BELL).map_err(failed)?);
        threads.push((poll, bell));
    }
    let (post, inbox) = queue::<Notice>(&threads[0].1);
    let (posts, inboxes): (Vec<Post<Job>>, Vec<_>) = threads.iter().map(|(_, bell)| queue(bell)).unzip();

    listen_for_signals(post.clone()).map_err(failed)?;

    let registry = threads[0].0.registry().try_clone().map_err(failed)?;
    let (part, entrance) = part(&shared.config, &registry, epoch)?;
    let mut hub = Hub::new(shared.clone(), posts, registry, inbox, post.clone(), part, epoch);
    match entrance {
        Way::Open(entrance) => hub.users.take(entrance),
        Way::Wanted(at) => hub.users.open(&at, &hub.registry, epoch),
        Way::None => {}
    }
    log::info!("{} started: {}", shared.name(), shared.config.effective_url());
    let mut first = None;
    for (index, ((poll, bell), inbox)) in threads.into_iter().zip(inboxes).enumerate() {
        let registry = poll.registry().try_clone().map_err(failed)?;
        let worker = Worker::new(index, inbox, post.clone(), registry, shared.clone(), epoch);
        match index {
            0 => first = Some((poll, bell, worker)),
            _ => {
                let name = format!("worker-{index}");
                let run = move || drop(turns(poll, &bell, worker, None));
                thread::Builder::new().name(name).stack_size(STACK).spawn(run).map_err(failed)?;
            }
        }
    }
    let (poll, bell, worker) = first.ok_or("no worker")?;
    let held = leash::is_held().then(|| leash::watch(poll.registry(), LEASH)).transpose().map_err(failed)?;
    let code = turns(poll, &bell, worker, Some((hub, post))).map_err(failed);
    drop(held);
    code
}

/// Where users come in.
enum Way {
    Open(Entrance),
    Wanted(crate::config::Endpoint),
    None,
}

/// What this instance is, by its role and mode; `mode=0` decides by trying to bind.
fn part(config: &Config, registry: &mio::Registry, now: Instant) -> Result<(Part, Way), String> {
    let try_at = |at| Entrance::open(at, config.tcp, config.udp, registry, ENTRANCE);
    let limits = &config.limits;
    match config.role {
        Role::Master => Err("the master does not run as an instance".into()),
        Role::Server => {
            let at = &config.targets[0];
            let (flow, way) = match config.mode {
                Mode::One => (Flow::Reverse, Way::Wanted(at.clone())),
                Mode::Two => (Flow::Forward, Way::None),
                Mode::Auto => match try_at(at) {
                    Ok(entrance) => (Flow::Reverse, Way::Open(entrance)),
                    Err(why) => {
                        log::info!("{why}: so it is the target, and users come in at the client");
                        (Flow::Forward, Way::None)
                    }
                },
            };
            Ok((
                Part::Server(Server::new(
                    config,
                    certs(&config.tls, Audience::Pool(speech(config.transport)))?,
                    flow,
                    now,
                )),
                way,
            ))
        }
        Role::Client => {
            let way = match config.mode {
                Mode::One => Way::Wanted(config.tunnel.clone()),
                Mode::Two => Way::None,
                Mode::Auto => try_at(&config.tunnel).map_or(Way::None, Way::Open),
            };
            let part = match way {
                Way::None => Part::Client(Client::new(now)),
                _ => {
                    let certs = certs(&config.tls, Audience::Users)?;
                    Part::Single { certs, report: now, reload: now + limits.reload }
                }
            };
            Ok((part, way))
        }
    }
}

/// Signals come in as notices, from a thread that does nothing else.
fn listen_for_signals(post: Post<Notice>) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let run = move || signals.forever().for_each(|signal| post.send(Notice::Signal(signal)));
    thread::Builder::new().name("signals".into()).stack_size(STACK).spawn(run).map(drop)
}

/// Waits, notes what happened, lets the hub decide and the worker work; again and again.
fn turns(mut poll: Poll, bell: &Bell, mut worker: Worker, hub: Option<(Hub, Post<Notice>)>) -> io::Result<ExitCode> {
    let (mut hub, post) = hub.unzip();
    let mut events = Events::with_capacity(MOST_EVENTS);
    loop {
        let busy = worker.is_busy() || hub.as_ref().is_some_and(Hub::is_busy);
        let due = worker.deadline().into_iter().chain(hub.as_ref().and_then(Hub::deadline)).min();
        let patience = match due {
            _ if busy || !bell.doze() => Some(Duration::ZERO),
            due => due.map(wait_for),
        };
        let later = worker.later();
        match poll.poll(&mut events, patience) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => bell.rise(),
        }
        let now = Instant::now();
        for event in &events {
            match (event.token(), &mut hub) {
                (BELL, _) => {}
                (LEASH, Some(hub)) if event.is_read_closed() && !hub.is_stopping() => {
                    log::warn!("The master is gone");
                    post.iter().for_each(|post| post.send(Notice::Signal(SIGTERM)));
                }
                (LEASH, _) => {}
                (Token(token), Some(hub)) if token >= GATE => hub.note(event),
                _ => worker.note(event),
            }
        }
        // What the worker tells the hub is mostly answered at once: a second round saves a visit to the kernel.
        for _ in 0..2 {
            if let Some(code) = hub.as_mut().and_then(|hub| hub.turn(now)) {
                worker.farewell();
                return Ok(code);
            }
            worker.turn(now);
            if !hub.as_ref().is_some_and(Hub::has_mail) {
                break;
            }
        }
        // The clock last: what has come is known by now, and is not late because we are.
        if let Some(hub) = &mut hub {
            hub.tick(now);
        }
        worker.open(later, now);
    }
}

fn wait_for(due: Instant) -> Duration {
    due.saturating_duration_since(Instant::now())
}

/// The token of a thread's bell.
const BELL: Token = Token(usize::MAX);
/// The token of the leash.
const LEASH: Token = Token(usize::MAX - 1);
/// Events taken from the kernel at once.
const MOST_EVENTS: usize = 256;
/// Workers need little stack: nothing recurses.
const STACK: usize = 256 * 1024;
