//! What the API asks of the supervisor, what it answers, and what it tells all readers of events.
//!
//! ```text
//!  api threads --Order, reply to--> supervisor (one thread, owns every instance) --Event--> readers
//! ```

use std::collections::BTreeMap;
use std::sync::mpsc::{sync_channel, Receiver, Sender, SyncSender};
use std::sync::Arc;
use std::time::Duration;

use super::record::{Kind, Peer, Record, Status};
use crate::log::Level;
use crate::logic::bans::{ListedBan, Selection};
use crate::logic::metrics::Figures;

/// One request to the supervisor. Ids are as the user wrote them.
#[derive(Debug)]
pub enum Order {
    /// Is this the API key? [`Answer::Done`], or a 401.
    Admit(Option<String>),
    /// Every record, the master's own included: [`Answer::Many`], in the order of their ids.
    List,
    /// One: [`Answer::One`].
    Get(String),
    /// A new instance; it starts right after the answer: [`Answer::One`].
    Create {
        /// As the user wrote it.
        url: String,
        /// Empty if there is none.
        alias: String,
    },
    /// Change what is kept with it, and act on it: [`Answer::One`].
    Patch(String, Patch),
    /// Another URL: [`Answer::One`].
    Replace(String, String),
    /// Stop it and forget it: [`Answer::Done`] when its process has gone.
    Delete(String),
    /// The last lines of its process: [`Answer::Lines`].
    Logs(String),
    /// What all instances count and measure: [`Answer::Samples`].
    Figures,
    /// The bans of the master and of its instances: [`Answer::Bans`].
    Bans,
    /// Lift these: [`Answer::Bans`] of those that there were.
    Lift(Selection),
    /// Take these records over, those with ids that are known already left out: [`Answer::Many`] of those that are new.
    Import(Vec<Record>),
    /// The master's alias: [`Answer::One`], the master's own record.
    Name(String),
    /// Listen to events from now on, after an `initial` for each record: [`Answer::Events`].
    Listen,
}

impl Order {
    /// Whether what is kept on the disk is another afterwards.
    pub fn changes(&self) -> bool {
        match self {
            Order::Admit(_) | Order::List | Order::Get(_) | Order::Logs(_) | Order::Figures | Order::Listen => false,
            Order::Bans | Order::Lift(_) => false,
            Order::Create { .. } | Order::Patch(..) | Order::Replace(..) | Order::Delete(_) => true,
            Order::Import(_) | Order::Name(_) => true,
        }
    }
}

/// What a PATCH changes; `None` leaves it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patch {
    /// The name.
    pub alias: Option<String>,
    /// What to do with its process.
    pub action: Option<Action>,
    /// Whether it starts with the master.
    pub restart: Option<bool>,
    /// The log level of its process, for as long as that runs.
    pub log: Option<Level>,
    /// The other end.
    pub peer: Option<Peer>,
    /// The free words: all of them are replaced.
    pub tags: Option<BTreeMap<String, String>>,
}

/// What can be done with an instance's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start it, if it does not run.
    Start,
    /// Stop it, if it runs.
    Stop,
    /// Stop it and start it. On the master's own record: make a new API key, and end all event streams.
    Restart,
    /// Set the counters to zero.
    Reset,
}

/// What an order comes to.
#[derive(Debug)]
pub enum Answer {
    /// Nothing more to say.
    Done,
    /// One record.
    One(Box<Record>),
    /// Records.
    Many(Vec<Record>),
    /// Lines of a log, the oldest first.
    Lines(Vec<String>),
    /// What instances count and measure, in the order of their ids.
    Samples(Vec<Sample>),
    /// Bans, by who holds them.
    Bans(Vec<ListedBan>),
    /// Events, as they happen.
    Events(Receiver<Arc<Event>>),
}

/// An instance, and what its process said of itself last.
#[derive(Debug)]
pub struct Sample {
    /// Its id.
    pub id: String,
    /// The user's name for it.
    pub alias: String,
    /// What it is.
    pub kind: Kind,
    /// How it is.
    pub status: Status,
    /// The number of its process.
    pub process: Option<u32>,
    /// What that said.
    pub figures: Option<Figures>,
}

/// Why an order is not carried out: an HTTP status and one line for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The text for the user.
    pub text: String,
}

impl Refusal {
    /// A refusal with this status and text.
    pub fn new(status: u16, text: impl Into<String>) -> Refusal {
        Refusal { status, text: text.into() }
    }
}

/// Something that happened to an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What.
    pub what: What,
    /// When: RFC 3339, with the local offset.
    pub time: String,
    /// The instance afterwards; none for [`What::Shutdown`].
    pub instance: Option<Record>,
    /// For [`What::Log`] one line of its process.
    pub logs: String,
}

/// Kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// How it is when one begins to listen.
    Initial,
    /// It was made.
    Create,
    /// Something about it has changed.
    Update,
    /// It is gone: the last event of it.
    Delete,
    /// The stream ends.
    Shutdown,
    /// Its process said something.
    Log,
}

/// An order and where its answer goes.
pub struct Request {
    /// What is asked.
    pub order: Order,
    /// Where the answer goes. The caller may have gone.
    pub reply: SyncSender<Result<Answer, Refusal>>,
}

/// The API's way to the supervisor; a clone for each thread.
#[derive(Clone)]
pub struct SupervisorHandle<M> {
    mailbox: Sender<M>,
}

impl<M: From<Request>> SupervisorHandle<M> {
    /// A way to the supervisor that reads this mailbox.
    pub fn new(mailbox: Sender<M>) -> SupervisorHandle<M> {
        SupervisorHandle { mailbox }
    }

    /// Asks, and waits for the answer for at most [`TIMEOUT`].
    pub fn ask(&self, order: Order) -> Result<Answer, Refusal> {
        let (reply, answer) = sync_channel(1);
        if self.mailbox.send(Request { order, reply }.into()).is_err() {
            return Err(Refusal::new(503, "The master is shutting down"));
        }
        answer.recv_timeout(TIMEOUT).unwrap_or_else(|_| Err(Refusal::new(504, "The master did not answer in time")))
    }
}

/// Longest wait for the supervisor: above the time that a process may take to stop.
pub const TIMEOUT: Duration = Duration::from_secs(15);
