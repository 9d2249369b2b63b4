//! How users are handed on to the next process of the program: see [`following`](crate::run::following).
//!
//! ```text
//!  Serving --SIGHUP, something has changed--> Starting --it is ready--> Closed: no listeners; those who wait get their connections
//!     ^                                          |                        |
//!     +------------ it has not started ----------+                        v
//!                                                     goodbye to peers, then go: the rest is a stop that waits for all users
//! ```

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGTERM};

use super::Stopping;
use crate::log as lines;
use crate::logic::control::Why;
use crate::logic::next_notice::NextNotice;
use crate::logic::terms::TunnelNo;
use crate::run::channel::Sender;
use crate::run::following::{Followers, NextEvent, Origin, SUPPORTED};
use crate::run::hub::out::EndReason;
use crate::run::hub::part::Part;
use crate::run::hub::tunnel::Tunnel;
use crate::run::hub::Hub;
use crate::run::messages::{Job, Notice};

/// What this process knows of those before and after it.
pub(in crate::run) struct Succession {
    origin: Origin,
    notices: Sender<Notice>,
    /// Listens for those who read figures.
    metrics: Option<Arc<TcpListener>>,
    /// The way to the first process, if this is not it.
    home: Option<mio::net::UnixStream>,
    stage: Stage,
    /// Those after it, if this is the first one.
    followers: Option<Followers>,
    /// How the next one has ended, if it was no success.
    failed: Option<u8>,
    /// SIGHUP came while the next one was starting.
    again: bool,
}

enum Stage {
    Serving,
    Starting,
    /// The next one has the ports, and waits for the end of the line until goodbye is said.
    Closed {
        line: UnixStream,
        /// When it is time to look whether users still wait, and when they have waited long enough.
        look: Instant,
        latest: Instant,
    },
    /// Goodbye has been said; a client's server has a moment to hear it.
    Leaving {
        line: Option<UnixStream>,
        go: Instant,
        /// Peers have ended their tunnels by then.
        settled: Instant,
    },
    /// Peers have ended their tunnels, and relays are left.
    Left,
}

impl Succession {
    /// Of a process that was started so. `metrics` listens for those who read figures; `home` is the way to the first process.
    pub fn new(
        origin: Origin,
        notices: Sender<Notice>,
        metrics: Option<Arc<TcpListener>>,
        home: Option<mio::net::UnixStream>,
    ) -> Succession {
        let (stage, followers) = (Stage::Serving, None);
        Succession { origin, notices, metrics, home, stage, followers, failed: None, again: false }
    }

    /// Whether the next process has the ports.
    pub fn is_over(&self) -> bool {
        !matches!(self.stage, Stage::Serving | Stage::Starting)
    }

    /// Whether this process came after another.
    pub fn follows(&self) -> bool {
        self.home.is_some()
    }

    /// When the clock has something to say.
    pub fn deadline(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Serving | Stage::Starting | Stage::Left => None,
            Stage::Closed { look, .. } => Some(*look),
            Stage::Leaving { line: Some(_), go, .. } => Some(*go),
            Stage::Leaving { settled, .. } => Some(*settled),
        }
    }

    /// A signal for those after this process, if it is the first.
    pub fn pass(&mut self, signal: i32) {
        self.followers.iter_mut().for_each(|followers| followers.pass(signal));
    }
}

impl Hub {
    /// SIGHUP: certificates are loaded again, or the next process begins where there is more that is new.
    pub(super) fn hung_up(&mut self, now: Instant) {
        // The instances of a master are told by it.
        let Some(succession) = self.succession.as_mut().filter(|_| SUPPORTED && !self.shared.held) else {
            return self.reload(now);
        };
        match succession.stage {
            Stage::Serving if self.stopping.is_some() => return,
            Stage::Serving => {}
            Stage::Starting => return succession.again = true,
            _ => return succession.pass(SIGHUP),
        }
        match succession.origin.has_changed() {
            Ok(false) => self.reload(now),
            Ok(true) => self.start_next(),
            Err(why) => log::error!(event = "not_followed"; "SIGHUP: {why}; this process goes on as it is"),
        }
    }

    /// The master wants another process with that URL in place of this one.
    pub(in crate::run) fn asked_for_next(&mut self, url: String) {
        let can = SUPPORTED && self.stopping.is_none();
        match self.succession.as_mut().filter(|succession| can && matches!(succession.stage, Stage::Serving)) {
            Some(succession) => {
                succession.origin.change(vec![url]);
                self.start_next();
            }
            None => self.tell_master(NextNotice::Failed),
        }
    }

    /// Whether another process has the ports.
    pub(in crate::run) fn has_handed_on(&self) -> bool {
        self.succession.as_ref().is_some_and(Succession::is_over)
    }

    /// A master is told of the processes of its instances.
    fn tell_master(&self, notice: NextNotice) {
        if self.shared.held {
            lines::tell(&notice.to_string());
        }
    }

    /// Users can be handed on to another process.
    pub(in crate::run) fn succeeds(&mut self, succession: Succession) {
        self.succession = Some(succession);
        if SUPPORTED {
            self.tell_master(NextNotice::Can);
        }
    }

    fn reload(&mut self, now: Instant) {
        self.manager.iter().for_each(|manager| manager.reloading());
        self.part.reload(now);
        self.manager.iter().for_each(|manager| manager.reloaded());
    }

    fn start_next(&mut self) {
        let sockets = self.sockets_and_pipe();
        let Some(succession) = &mut self.succession else { return };
        self.manager.iter().for_each(|manager| manager.reloading());
        let notices = succession.notices.clone();
        let post = move |event| notices.send(Notice::Next(event));
        let started = sockets.and_then(|sockets| match &succession.home {
            Some(home) => succession.origin.start_next(sockets, home, post).map(|()| None),
            None => {
                let (followers, home) = Followers::new()?;
                succession.origin.start_next(sockets, &home, post)?;
                Ok(Some(followers))
            }
        });
        match started {
            Ok(followers) => {
                log::info!("The next process starts");
                (succession.followers, succession.stage) = (followers, Stage::Starting);
            }
            Err(error) => self.not_followed(&error.to_string()),
        }
    }

    fn sockets_and_pipe(&mut self) -> io::Result<Vec<OwnedFd>> {
        let mut all = self.sockets()?;
        if let Some(server) = self.part.server() {
            all.extend(server.way_back()?);
        }
        Ok(all)
    }

    /// Copies of all sockets at which something comes in.
    fn sockets(&self) -> io::Result<Vec<OwnedFd>> {
        let mut sockets: Vec<_> = self.ingress.sockets().collect();
        if let Part::Server(server) = &self.part {
            sockets.extend(server.sockets());
        }
        let metrics = self.succession.as_ref().and_then(|succession| succession.metrics.as_ref());
        sockets.extend(metrics.map(|listener| listener.as_fd()));
        sockets.into_iter().map(|socket| socket.try_clone_to_owned()).collect()
    }

    fn not_followed(&mut self, why: &str) {
        log::error!(event = "not_followed"; "The next process has not started ({why}); this process goes on as it is");
        self.tell_master(NextNotice::Failed);
        self.manager.iter().for_each(|manager| manager.reloaded());
        if let Some(succession) = &mut self.succession {
            (succession.followers, succession.stage) = (None, Stage::Serving);
        }
    }

    /// What becomes of the processes after this one.
    pub(in crate::run::hub) fn next_event(&mut self, event: NextEvent, now: Instant) {
        match event {
            NextEvent::Failed(why) => self.not_followed(&why),
            NextEvent::Ready { pid, line } => self.followed(pid, line, now),
            NextEvent::Ended { pid, code } => {
                let Some(succession) = &mut self.succession else { return };
                succession.followers.iter_mut().for_each(|followers| followers.ended(pid, code));
                if code != 0 {
                    succession.failed = Some(code);
                    log::error!("Process {pid}, which came after this one, has ended with {code}");
                    self.close(code, now);
                }
            }
        }
    }

    /// The next process has the ports.
    fn followed(&mut self, pid: i32, line: UnixStream, now: Instant) {
        let (tcps, udps) = self.ingress.slots.counts();
        let limit = self.shared.config.limits.shutdown;
        log::info!(event = "followed"; "Process {pid} goes on from here; {tcps} connections and {udps} UDP sessions have {limit:?} to finish in this one");
        self.tell_master(NextNotice::Done { process: pid.unsigned_abs() });
        self.manager.take().iter().for_each(|manager| manager.reloaded());
        self.ingress.hand_on(&self.registry);
        let pause = if self.part.is_single() { Duration::ZERO } else { PAUSE };
        let Some(succession) = &mut self.succession else { return };
        succession.stage = Stage::Closed { line, look: now + pause, latest: now + pause + WAITING };
        succession.followers.iter_mut().for_each(|followers| followers.begin(pid));
        if std::mem::take(&mut succession.again) {
            succession.pass(SIGHUP);
        }
        if self.stopping.is_some() {
            // Its end was asked for before there was another.
            succession.pass(SIGTERM);
        }
        self.hand_on(now);
    }

    /// Time has passed.
    pub(in crate::run::hub) fn hand_on(&mut self, now: Instant) {
        let Some(succession) = &mut self.succession else { return };
        match &mut succession.stage {
            Stage::Closed { look, latest, .. } if now >= *look => {
                if self.stopping.is_none() && self.ingress.has_pending() && now < *latest {
                    *look = now + LOOK;
                } else {
                    self.say_goodbye(now);
                }
            }
            Stage::Leaving { settled, .. } if now >= *settled => succession.stage = Stage::Left,
            Stage::Leaving { line, go, .. } if now >= *go => *line = None,
            _ => {}
        }
    }

    /// Peers are told, and then the next process may be called.
    fn say_goodbye(&mut self, now: Instant) {
        let until = now + self.shared.config.limits.shutdown;
        let registry = &self.registry;
        self.stopping.get_or_insert(Stopping::Draining { until, told: None });
        let passed = self.part.server().and_then(|server| server.hand_on(registry));
        self.leave(Tunnel::leave);
        // One that is not up yet would take the place of the next process's.
        let hears = |tunnel: &&Tunnel| tunnel.is_up() && tunnel.hears_goodbye();
        let deaf: Vec<TunnelNo> = self.part.tunnels().filter(|tunnel| !hears(tunnel)).map(Tunnel::number).collect();
        deaf.into_iter().for_each(|number| self.end_tunnel(number, &EndReason::Control(Why::Goodbye), now));
        self.carry_out(now);
        let waits = passed.is_some() || matches!(self.part, Part::Client(_));
        let moment = if waits { MOMENT } else { Duration::ZERO };
        // Packets wait in the kernel until the next process receives.
        if let (Some(passed), Some(worker)) = (passed, self.workers.first()) {
            worker.send(Job::HandOn(passed));
        }
        let Some(succession) = &mut self.succession else { return };
        if let Stage::Closed { line, .. } = std::mem::replace(&mut succession.stage, Stage::Serving) {
            succession.stage = Stage::Leaving { line: Some(line), go: now + moment, settled: now + SETTLED };
        }
        self.hand_on(now);
    }

    /// Whether this process has more to carry. One that another follows waits for UDP sessions too, and for what peers said before they
    /// heard the goodbye.
    pub(super) fn carries(&self) -> bool {
        let (tcps, udps) = self.ingress.slots.counts();
        match self.succession.as_ref().map(|succession| &succession.stage) {
            None | Some(Stage::Serving | Stage::Starting) => tcps > 0,
            Some(Stage::Closed { .. } | Stage::Leaving { line: Some(_), .. }) => true,
            Some(Stage::Leaving { .. }) => tcps + udps > 0 || self.part.tunnels().next().is_some(),
            Some(Stage::Left) => tcps + udps > 0 || self.part.tunnels().any(Tunnel::awaits),
        }
    }

    /// The exit code of a process that has ended everything; the first one waits for those after it.
    pub(super) fn exit_code(&mut self, code: u8) -> ExitCode {
        if self.has_handed_on() {
            let now = self.counted();
            self.tell_master(NextNotice::Rest(std::array::from_fn(|n| now[n].saturating_sub(self.told[n]))));
        }
        let Some(succession) = self.succession.as_mut() else { return ExitCode::from(code) };
        match (succession.failed, succession.followers.take()) {
            (Some(code), _) => ExitCode::from(code),
            (None, Some(followers)) if succession.is_over() => {
                crate::log::flush();
                followers.stay()
            }
            (None, _) => ExitCode::from(code),
        }
    }
}

/// Time for what the peer was told of the last users before goodbye is said.
const PAUSE: Duration = Duration::from_millis(200);
/// How long users who wait for a connection may hold up the goodbye.
const WAITING: Duration = Duration::from_secs(1);
/// How often it is looked whether they still do.
const LOOK: Duration = Duration::from_millis(20);
/// Time for a server to hear its client's goodbye, and for the worker that has the QUIC port to leave it alone.
const MOMENT: Duration = Duration::from_millis(100);
/// Time for peers to end their tunnels.
const SETTLED: Duration = Duration::from_secs(2);
