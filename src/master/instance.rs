//! One instance: its record, and the life of its process. Pure: time is an argument, and what is to be done comes out of
//! [`poll`](Instance::poll).
//!
//! ```text
//!   Stopped --start--> Starting --spawned--> Running --stop--> Stopping{kill, then} --ended--> Stopped
//!      ^                  |  |                 |  ^                                      |---> Starting
//!      |                  |  +--unspawnable--+ |  +-- check points, trouble, silence     +---> Gone
//!      +------stop--------+                  v v
//!                      ^---retry or start--- Failed
//! ```
//!
//! A process that can be followed by another one is not stopped for a restart: see `handing`.
//!
//! There is never more than one process: the next [`Step::Spawn`] comes after the last one's end was told.

mod handing;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::child_log::ChildLine;
use super::record::{Record, Status};
use super::requests::{Patch, What};
use crate::config::Asked;
use crate::logic::checkpoint::CheckPoint;

/// One instance.
#[derive(Debug)]
pub struct Instance {
    record: Record,
    life: Life,
    times: Times,
    /// What the present process has counted.
    said: [u64; 4],
    /// When the present process began.
    began: Option<Instant>,
    /// Its process has said that another one can come after it.
    can_hand_on: bool,
    /// How long the next failure waits for another start, if it is one that starts by itself.
    pause: Duration,
    /// The last lines of its processes.
    tail: VecDeque<String>,
    steps: VecDeque<Step>,
}

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Without a check point, after the first: then something is wrong.
    pub silence: Duration,
    /// From a failure to the next start; one with [`Record::restart`] starts sooner, after [`MIN_PAUSE`] to [`MAX_PAUSE`].
    pub retry: Duration,
    /// From SIGTERM to SIGKILL.
    pub grace: Duration,
}

/// What is to be done for an instance. The caller takes all of them after every input, so that what is published is the
/// record as it is then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Start a process with [`Record::url`], if it is still [wanted](Instance::wants_process) when its turn comes.
    Spawn,
    /// Ask the process to start the next one, with [`Record::url`].
    HandOn,
    /// The next one has its place, and all steps before this are done: see [`taken_over`](Instance::taken_over).
    TakenOver,
    /// Ask the process to leave.
    Terminate,
    /// End the process.
    Kill,
    /// Tell all readers of events; with a line for [`What::Log`].
    Publish(What, String),
    /// The record has changed, or it is gone.
    Save,
    /// It was told to stop, and it has no process now, or the next one: a call that waits for that may be answered.
    Settled,
}

/// Where it is in its life.
#[derive(Debug)]
enum Life {
    /// No process, and none wanted.
    Stopped,
    /// No process, since the last one failed; there will be another.
    Failed { retry: Instant },
    /// A process is asked for.
    Starting,
    /// It has one.
    Running(Health),
    /// It was asked to start the next one, and should have done so by then; `again` if the URL is another since.
    Handing { until: Instant, again: bool },
    /// The next one has just begun.
    Taken { again: bool },
    /// It was asked to leave; `kill` is when it is made to.
    Stopping { kill: Option<Instant>, then: Then },
    /// Deleted: nothing comes any more.
    Gone,
}

/// How a process is.
#[derive(Debug)]
enum Health {
    /// No check point yet: there may be no peer.
    Fresh,
    /// A check point came, the next one is due.
    Well { until: Instant },
    /// It said that it failed, or says nothing any more. It gets its time to recover.
    Ill { retry: Instant },
}

/// What comes after a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Stop,
    Start,
    Delete,
}

impl Instance {
    /// A new one. It starts at once if it is one that starts with the master.
    pub fn new(record: Record, times: Times) -> Instance {
        let mut instance = Instance::loaded(record, times);
        instance.steps.extend([Step::Publish(What::Create, String::new()), Step::Save]);
        if instance.record.restart {
            instance.start();
        }
        instance
    }

    /// One that was there before, at rest. Its counters go on from where they were.
    pub fn loaded(mut record: Record, times: Times) -> Instance {
        record.status = Status::Stopped;
        let mut instance = Instance {
            record,
            life: Life::Stopped,
            times,
            said: [0; 4],
            began: None,
            can_hand_on: false,
            pause: MIN_PAUSE,
            tail: VecDeque::new(),
            steps: VecDeque::new(),
        };
        instance.quiet();
        instance
    }

    /// Its record.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The last lines of its processes, the oldest first.
    pub fn tail(&self) -> impl Iterator<Item = &String> {
        self.tail.iter()
    }

    /// Whether a process should be started for it.
    pub fn wants_process(&self) -> bool {
        matches!(self.life, Life::Starting)
    }

    /// Whether it has one.
    pub fn has_process(&self) -> bool {
        matches!(self.life, Life::Running(_) | Life::Handing { .. } | Life::Taken { .. } | Life::Stopping { .. })
    }

    /// Whether it is deleted, or about to be: no order reaches it.
    pub fn is_doomed(&self) -> bool {
        matches!(self.life, Life::Gone | Life::Stopping { then: Then::Delete, .. })
    }

    /// Whether it is deleted and has no process.
    pub fn is_gone(&self) -> bool {
        matches!(self.life, Life::Gone)
    }

    /// Starts it, if it has no process or is about to have none.
    pub fn start(&mut self) {
        self.pause = MIN_PAUSE;
        match &mut self.life {
            Life::Stopped | Life::Failed { .. } => self.launch(),
            Life::Stopping { then: then @ Then::Stop, .. } => *then = Then::Start,
            Life::Stopping { .. } | Life::Starting | Life::Running(_) | Life::Gone => {}
            Life::Handing { .. } | Life::Taken { .. } => {}
        }
    }

    /// Stops it, whatever it does.
    pub fn stop(&mut self, now: Instant) {
        match &mut self.life {
            Life::Failed { .. } | Life::Starting => self.set_stopped(),
            Life::Running(_) | Life::Handing { .. } | Life::Taken { .. } => self.terminate(Then::Stop, now),
            Life::Stopping { then: then @ Then::Start, .. } => *then = Then::Stop,
            Life::Stopping { .. } | Life::Stopped | Life::Gone => {}
        }
    }

    /// Stops it if it runs, and starts it; or the next process takes over.
    pub fn restart(&mut self, now: Instant) {
        self.pause = MIN_PAUSE;
        match &mut self.life {
            Life::Stopped | Life::Failed { .. } => {
                self.set_stopped();
                self.launch();
            }
            Life::Running(Health::Fresh | Health::Well { .. }) if self.can_hand_on => self.hand_on(now),
            Life::Running(_) => self.terminate(Then::Start, now),
            Life::Stopping { then: then @ Then::Stop, .. } => *then = Then::Start,
            Life::Stopping { .. } | Life::Starting | Life::Gone => {}
            Life::Handing { .. } | Life::Taken { .. } => {}
        }
    }

    /// Stops it and forgets it: [`Step::Settled`] when that is done.
    pub fn delete(&mut self, now: Instant) {
        match &mut self.life {
            Life::Stopped | Life::Failed { .. } | Life::Starting => {
                self.forget();
                self.steps.push_back(Step::Settled);
            }
            Life::Running(_) | Life::Handing { .. } | Life::Taken { .. } => self.terminate(Then::Delete, now),
            Life::Stopping { then, .. } => *then = Then::Delete,
            Life::Gone => return,
        }
        self.steps.push_back(Step::Save);
    }

    /// Gives it another URL and starts it with that: [`Step::Settled`] when the process with the old one has gone,
    /// or another one has its ports.
    pub fn replace(&mut self, asked: Asked, now: Instant) {
        if self.is_doomed() {
            return;
        }
        self.record.ask(asked);
        if let Life::Handing { again, .. } | Life::Taken { again } = &mut self.life {
            *again = true;
        }
        self.restart(now);
        if !self.has_process() {
            self.record.status = Status::Stopped;
            self.publish(What::Update);
            self.steps.push_back(Step::Settled);
        }
        self.steps.push_back(Step::Save);
    }

    /// Changes what is kept with it. What is to be done with the process is for the verbs above.
    pub fn amend(&mut self, patch: &Patch) {
        if self.is_doomed() {
            return;
        }
        let Record { alias, restart, meta, .. } = &mut self.record;
        let mut changed = set(alias, &patch.alias);
        changed |= set(restart, &patch.restart);
        changed |= set(&mut meta.peer, &patch.peer);
        changed |= set(&mut meta.tags, &patch.tags);
        if changed {
            self.publish(What::Update);
            self.steps.push_back(Step::Save);
        }
    }

    /// Sets the counters to zero; the present process goes on counting from there.
    pub fn reset(&mut self) {
        if self.is_doomed() {
            return;
        }
        let figures = &mut self.record.figures;
        (figures.base, figures.reset) = ([0; 4], self.said);
        self.show();
        self.publish(What::Update);
        self.steps.push_back(Step::Save);
    }

    /// The process that was asked for runs.
    pub fn spawned(&mut self, now: Instant) {
        debug_assert!(self.wants_process(), "a process that was not asked for: {:?}", self.life);
        self.can_hand_on = false;
        self.begin(now);
    }

    /// The process that was asked for cannot be started.
    pub fn unspawnable(&mut self, now: Instant) {
        debug_assert!(self.wants_process(), "a failure that was not expected: {:?}", self.life);
        self.fail(now);
    }

    /// The process said something.
    pub fn said(&mut self, word: ChildLine, now: Instant) {
        if !self.has_process() {
            return;
        }
        match word {
            ChildLine::Point(point) => self.checked(point, now),
            // They are kept beside it: see `Supervisor`.
            ChildLine::Figures(_) | ChildLine::Ban(_) => {}
            ChildLine::Next(notice) => self.told_of_next(notice, now),
            ChildLine::Line { text, trouble } => {
                let ill = Life::Running(Health::Ill { retry: now + self.times.retry });
                match self.life {
                    Life::Running(Health::Ill { .. }) => {}
                    Life::Running(_) if trouble => {
                        self.life = ill;
                        self.turn(Status::Error);
                    }
                    _ => {}
                }
                if self.tail.len() == MAX_LINES {
                    self.tail.pop_front();
                }
                self.tail.push_back(text.clone());
                self.steps.push_back(Step::Publish(What::Log, text));
            }
        }
    }

    /// The process has ended; whether with success. Nothing more of it comes.
    pub fn ended(&mut self, success: bool, now: Instant) {
        self.quiet();
        match self.life {
            Life::Running(_) if success => self.set_stopped(),
            Life::Running(_) => self.fail(now),
            Life::Handing { .. } | Life::Taken { .. } => {
                self.set_stopped();
                self.launch();
                self.steps.push_back(Step::Settled);
            }
            Life::Stopping { then, .. } => {
                self.set_stopped();
                match then {
                    Then::Stop => {}
                    Then::Start => self.launch(),
                    Then::Delete => self.forget(),
                }
                self.steps.push_back(Step::Settled);
            }
            Life::Stopped | Life::Failed { .. } | Life::Starting | Life::Gone => {
                debug_assert!(false, "the end of a process that was not there: {:?}", self.life);
            }
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant) {
        if self.deadline().is_none_or(|due| now < due) {
            return;
        }
        match &mut self.life {
            Life::Failed { .. } => self.launch(),
            Life::Running(Health::Well { .. }) => {
                self.life = Life::Running(Health::Ill { retry: now + self.times.retry });
                self.turn(Status::Error);
            }
            Life::Running(Health::Ill { .. }) | Life::Handing { .. } => self.terminate(Then::Start, now),
            Life::Stopping { kill, .. } => {
                *kill = None;
                self.steps.push_back(Step::Kill);
            }
            Life::Stopped | Life::Starting | Life::Running(Health::Fresh) | Life::Taken { .. } | Life::Gone => {}
        }
    }

    /// When it wants to be told the time.
    pub fn deadline(&self) -> Option<Instant> {
        match &self.life {
            Life::Failed { retry } | Life::Running(Health::Ill { retry }) => Some(*retry),
            Life::Running(Health::Well { until }) | Life::Handing { until, .. } => Some(*until),
            Life::Stopping { kill, .. } => *kill,
            Life::Stopped | Life::Starting | Life::Running(Health::Fresh) | Life::Taken { .. } | Life::Gone => None,
        }
    }

    /// What is to be done next.
    pub fn poll(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    fn checked(&mut self, point: CheckPoint, now: Instant) {
        let figures = &mut self.record.figures;
        let number = |figure| i32::try_from(figure).unwrap_or(i32::MAX);
        (figures.mode, figures.ping) = (number(point.mode), number(point.ping));
        (figures.pool, figures.tcps, figures.udps) = (number(point.pool), number(point.tcps), number(point.udps));
        self.said = point.bytes();
        for (kind, said) in self.said.into_iter().enumerate() {
            if said < figures.reset[kind] {
                figures.reset[kind] = 0;
            }
        }
        self.show();
        match &mut self.life {
            Life::Running(Health::Ill { .. }) => {
                self.life = Life::Running(Health::Well { until: now + self.times.silence });
                self.turn(Status::Running);
                return;
            }
            Life::Running(health) => *health = Health::Well { until: now + self.times.silence },
            _ => {}
        }
        self.publish(What::Update);
    }

    /// Shows `base + said - reset`.
    fn show(&mut self) {
        let figures = &mut self.record.figures;
        let shown = |kind: usize| {
            let since = self.said[kind].saturating_sub(figures.reset[kind]);
            figures.base[kind].saturating_add(since)
        };
        let shown = [shown(0), shown(1), shown(2), shown(3)];
        [figures.tcprx, figures.tcptx, figures.udprx, figures.udptx] = shown;
    }

    fn shown(&self) -> [u64; 4] {
        let figures = &self.record.figures;
        [figures.tcprx, figures.tcptx, figures.udprx, figures.udptx]
    }

    /// Asks for a process.
    fn launch(&mut self) {
        self.life = Life::Starting;
        self.steps.push_back(Step::Spawn);
    }

    fn terminate(&mut self, then: Then, now: Instant) {
        self.life = Life::Stopping { kill: Some(now + self.times.grace), then };
        self.steps.push_back(Step::Terminate);
    }

    fn set_stopped(&mut self) {
        self.life = Life::Stopped;
        self.turn(Status::Stopped);
    }

    fn fail(&mut self, now: Instant) {
        let lived = self.began.take().is_some_and(|began| now >= began + LONG_LIFE);
        if lived {
            self.pause = MIN_PAUSE;
        }
        let retry = if self.record.restart { self.pause.min(self.times.retry) } else { self.times.retry };
        self.pause = (self.pause * 2).min(MAX_PAUSE);
        self.life = Life::Failed { retry: now + retry };
        self.turn(Status::Error);
    }

    fn forget(&mut self) {
        self.life = Life::Gone;
        self.publish(What::Delete);
    }

    /// What only a process has is over.
    fn quiet(&mut self) {
        let figures = &mut self.record.figures;
        (figures.ping, figures.pool, figures.tcps, figures.udps) = (0, 0, 0, 0);
    }

    /// Shows another status, and says so if it is another.
    fn turn(&mut self, status: Status) {
        if std::mem::replace(&mut self.record.status, status) != status {
            self.publish(What::Update);
            self.steps.push_back(Step::Save);
        }
    }

    fn publish(&mut self, what: What) {
        self.steps.push_back(Step::Publish(what, String::new()));
    }
}

/// Puts a value in its place, if there is one and it is another.
fn set<T: Clone + PartialEq>(place: &mut T, value: &Option<T>) -> bool {
    match value {
        Some(value) if value != place => {
            *place = value.clone();
            true
        }
        _ => false,
    }
}

/// From the first failure of one that starts by itself to its next start; each further one waits twice as long.
pub const MIN_PAUSE: Duration = Duration::from_secs(1);

/// The longest of these pauses. There is no last one.
pub const MAX_PAUSE: Duration = Duration::from_secs(60);

/// One that has run for so long begins with the shortest pause again.
pub const LONG_LIFE: Duration = Duration::from_secs(60);

/// Lines kept of each instance.
pub const MAX_LINES: usize = 200;

#[cfg(test)]
mod tests;
