//! What follows from an event of a tunnel: jobs for workers, and news for the rest of the hub.

use std::collections::VecDeque;

use log::Level;

use crate::error::Error;
use crate::logic::control::Why;
use crate::logic::loads::Loads;
use crate::logic::wire::{Fingerprint, Id};
use crate::run::messages::{Home, Job, Survivors};
use crate::run::user::Proto;

/// What a tunnel may use and change outside itself. The hub owns one and empties it after each call.
pub(in crate::run) struct Out {
    /// How busy the workers are.
    pub loads: Loads,
    /// Chance for the ids of pool connections.
    pub random_id: Box<dyn FnMut() -> Id>,
    actions: VecDeque<Action>,
}

/// One thing to be done, in the order in which it was decided.
pub(in crate::run) enum Action {
    /// A job for that worker.
    Job(usize, Job),
    /// A user of the peer's has a pool connection and needs a target.
    Dial { home: Home, user: PeerUser, framed: bool },
    /// The peer answered a ping: time for a check point.
    CheckPoint,
    /// A pool connection could not be opened. `loud`: the tunnel is not up, so that users may have to wait.
    Trouble { why: Error, loud: bool },
    /// A pool connection was opened.
    Opened,
    /// The peer has proven who it is.
    Proven,
    /// The server will show this certificate (client).
    Pin(Fingerprint),
    /// The tunnel is over.
    Over(EndReason),
}

/// A pool connection for a user.
pub(in crate::run) struct Granted {
    /// Where it lives.
    pub home: Home,
    /// Whether datagrams travel in frames.
    pub framed: bool,
    /// Whether the user may get another if this one is dead: the peer knows the feature `gone`.
    pub retried: bool,
}

/// A user at the peer's side, for whom this side dials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::run) struct PeerUser {
    /// The address, if the peer gave one that can be read.
    pub address: Option<std::net::SocketAddr>,
    /// What the user speaks.
    pub proto: Proto,
}

/// Why a tunnel ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::run) enum EndReason {
    /// What the control connection says.
    Control(Why),
    /// The control connection was lost.
    Lost(String),
    /// No pool connection came after the handshake.
    NoConnection,
    /// The server gave it to another client (server).
    TakenOver {
        /// To whom, in the user's words.
        why: String,
        /// By its address it is the same client, which calls again.
        same: bool,
    },
}

impl EndReason {
    /// How loud it is told: a peer that was stopped and says so is no trouble.
    pub fn level(&self) -> Level {
        match self {
            EndReason::Control(Why::Goodbye) => Level::Info,
            _ => Level::Warn,
        }
    }

    /// Which relays of the tunnel's users go on: those that may still have both their ends, and no other owner to end them.
    /// All where the program stops: what is left goes on for as long as that takes. `hears_goodbye`: the peer knows that word, which comes
    /// over a shared connection; an original learns of the end by that of the connection.
    pub fn survivors(&self, stopping: bool, hears_goodbye: bool) -> Survivors {
        match self {
            _ if stopping => Survivors::All,
            EndReason::Control(Why::Goodbye) => Survivors::All,
            EndReason::Control(Why::Silence(_)) if hears_goodbye => Survivors::Tcp,
            EndReason::Control(Why::Silence(_) | Why::Noise | Why::Forged) => Survivors::Own,
            EndReason::TakenOver { same: true, .. } => Survivors::Own,
            EndReason::Control(Why::Mismatch { .. } | Why::Taken { .. } | Why::Unheard(_)) => Survivors::None,
            EndReason::Lost(_) | EndReason::NoConnection | EndReason::TakenOver { .. } => Survivors::None,
        }
    }
}

impl std::fmt::Display for EndReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            EndReason::Control(why) => why.fmt(f),
            EndReason::Lost(why) | EndReason::TakenOver { why, .. } => f.write_str(why),
            EndReason::NoConnection => f.write_str("no pool connection came in time"),
        }
    }
}

impl Out {
    /// For so many workers; `random_id` is the source of ids.
    pub fn new(workers: usize, random_id: Box<dyn FnMut() -> Id>) -> Out {
        Out { loads: Loads::new(workers), random_id, actions: VecDeque::new() }
    }

    /// Adds an action.
    pub fn push(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    /// Adds a job for a worker.
    pub fn job(&mut self, worker: usize, job: Job) {
        self.push(Action::Job(worker, job));
    }

    /// Closes a connection without a word.
    pub fn close(&mut self, home: Home) {
        self.job(home.worker, Job::Close(home.key));
    }

    /// After a crowd has gone, memory that it took is given back.
    pub fn shrink(&mut self) {
        self.actions.shrink_to(SLACK);
    }

    /// The next action, until `None`.
    pub fn next(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }
}

/// Room for actions that is kept.
const SLACK: usize = 64;

/// A random id. Without chance there is no safe way to go on.
pub(in crate::run) fn random_id() -> Id {
    Id(crate::net::random::bytes().expect("the system gives random numbers"))
}
