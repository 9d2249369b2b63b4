//! The supervisor: one thread that owns every instance, every process and every reader of events.
//!
//! ```text
//!   api threads --Ask-----+                        +--> Child::spawn, terminate, kill
//!   readers --Said, Quiet-+--> mailbox --> turn ---+--> Readers::publish
//!   signals --Signal------+                        +--> Keep::save
//! ```
//!
//! A turn answers a bounded number of mails and starts a bounded number of processes, so that a hundred new instances
//! do not keep the list of them waiting. What orders mean is in `orders`.

use std::collections::{BTreeMap, VecDeque};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, Sender, SyncSender};
use std::time::{Duration, Instant};

use signal_hook::consts::SIGHUP;

use super::child::{Child, Program};
use super::child_log::ChildLine;
use super::events::Readers;
use super::front::admission::Lifter;
use super::front::readers;
use super::instance::{Instance, Step, Times};
use super::mail::Mail;
use super::record::{Record, Status, KEY_ID};
use super::requests::{Answer, Refusal, Sample, What};
use crate::code_pages;
use crate::config::Config;
use crate::log::Level;
use crate::logic::bans::Bans;
use crate::logic::guard::Source;
use crate::logic::metrics::Figures;
use crate::logic::next_notice::NextNotice;
use crate::notify::{ServiceManager, ServiceStatus};

/// Where records are kept when the master does not run.
pub trait Keep: Send {
    /// Keeps these, soon; never waits for a disk.
    fn save(&mut self, records: BTreeMap<String, Record>);
    /// There is something to keep, soon.
    fn changed(&mut self);
    /// Keeps a copy of these.
    fn backup(&mut self, records: BTreeMap<String, Record>);
    /// Waits until everything is kept.
    fn close(self: Box<Self>);
}

/// Owner of everything.
pub struct Supervisor {
    pub(super) config: Config,
    /// The master's own record.
    pub(super) master: Record,
    pub(super) slots: BTreeMap<String, Slot>,
    pub(super) readers: Readers,
    pub(super) waiting: Vec<(String, Wait)>,
    pub(super) stopping: bool,
    /// Who is banned, at the API and by instances.
    pub(super) bans: Bans,
    front: Option<Lifter>,
    program: Program,
    keep: Box<dyn Keep>,
    /// Instances that wait for their process; some may not want it any more.
    births: VecDeque<String>,
    /// When to save, if something has changed.
    save: Option<Instant>,
    /// When to save counters and make a copy.
    backup: Instant,
    /// When to give back what only the start has needed.
    settle: Option<Instant>,
    inbox: Receiver<Mail>,
    mailbox: Sender<Mail>,
    manager: Option<ServiceManager>,
}

/// An instance and its process.
pub(super) struct Slot {
    pub instance: Instance,
    child: Option<Child>,
    /// What its process said last of itself.
    figures: Option<Figures>,
}

/// A caller that waits for a process to end.
pub(super) enum Wait {
    Replaced(SyncSender<Result<Answer, Refusal>>),
    Deleted(SyncSender<Result<Answer, Refusal>>),
}

impl Supervisor {
    /// The supervisor of these records, one of which is the master's own. Nothing starts before [`run`](Supervisor::run).
    pub fn new(
        config: Config,
        mut records: BTreeMap<String, Record>,
        keep: Box<dyn Keep>,
        program: Program,
        (mailbox, inbox): (Sender<Mail>, Receiver<Mail>),
    ) -> Supervisor {
        let master = records.remove(KEY_ID).unwrap_or_else(|| Record { id: KEY_ID.into(), ..Record::default() });
        let times = times(&config);
        records.values_mut().for_each(|record| record.complete(&config));
        let slot = |(id, record)| (id, Slot { instance: Instance::loaded(record, times), child: None, figures: None });
        Supervisor {
            slots: records.into_iter().map(slot).collect(),
            master,
            readers: Readers::new(readers()),
            waiting: Vec::new(),
            stopping: false,
            bans: Bans::default(),
            front: None,
            program,
            keep,
            births: VecDeque::new(),
            save: None,
            backup: Instant::now() + config.limits.reload,
            settle: Some(Instant::now() + SETTLED),
            inbox,
            mailbox,
            config,
            manager: ServiceManager::from_environment(Instant::now()),
        }
    }

    /// The front of its API, which has bans of its own.
    pub fn behind(self, front: Lifter) -> Supervisor {
        Supervisor { front: Some(front), ..self }
    }

    /// Starts what is to run, and works until it is told to stop. Then all processes have gone, and everything is kept.
    pub fn run(mut self) -> ExitCode {
        let now = Instant::now();
        self.save = Some(now);
        self.manager.iter_mut().for_each(ServiceManager::ready);
        for id in self.ids() {
            self.with(&id, now, |instance| {
                if instance.record().restart {
                    instance.start()
                }
            });
        }
        let code = loop {
            if let Some(code) = self.turn() {
                break code;
            }
        };
        self.keep.save(self.records());
        self.keep.close();
        code
    }

    /// Waits for mail or time, and does what is to be done. A code when the program is to end.
    fn turn(&mut self) -> Option<ExitCode> {
        let timeout = match self.births.is_empty() {
            true => self.deadline().saturating_duration_since(Instant::now()),
            false => Duration::ZERO,
        };
        // It cannot be disconnected: a sender is kept for the readers to come.
        let mut mail = self.inbox.recv_timeout(timeout).ok();
        let now = Instant::now();
        for _ in 0..MAX_MAILS {
            let Some(next) = mail.take().or_else(|| self.inbox.try_recv().ok()) else { break };
            if let Some(code) = self.open(next, now) {
                return Some(code);
            }
        }
        self.tick(now);
        for _ in 0..MAX_BIRTHS {
            let Some(id) = self.births.pop_front() else { break };
            self.spawn(&id, now);
        }
        let at_rest = self.slots.values().all(|slot| slot.child.is_none());
        (self.stopping && at_rest).then_some(ExitCode::SUCCESS)
    }

    fn open(&mut self, mail: Mail, now: Instant) -> Option<ExitCode> {
        match mail {
            Mail::Ask(request) => self.handle(request, now),
            Mail::Said(id) => {
                let word = self.slots.get(&*id).and_then(|slot| slot.child.as_ref()?.word());
                if let Some(word) = word {
                    self.said(&id, word, now);
                }
            }
            Mail::Quiet(id) => {
                if let Some(child) = self.slots.get_mut(&*id).and_then(|slot| slot.child.as_mut()) {
                    child.quiet(now);
                }
            }
            Mail::Banned(notice) => self.bans.heard(KEY_ID, notice, now),
            Mail::Signal(signal) => return self.signalled(signal, now),
        }
        None
    }

    /// A process said something.
    fn said(&mut self, id: &str, word: ChildLine, now: Instant) {
        match (word, self.slots.get_mut(id)) {
            (ChildLine::Figures(figures), Some(slot)) => slot.figures = Some(figures),
            (ChildLine::Ban(notice), Some(_)) => self.bans.heard(id, notice, now),
            (word @ ChildLine::Next(NextNotice::Done { process }), Some(slot)) => {
                slot.figures = None;
                slot.child.iter_mut().for_each(|child| child.followed_by(process));
                self.bans.forget(id);
                log::info!("Instance goes on in another process, and its users finish in the one before [{id}]");
                self.with(id, now, |instance| instance.said(word, now));
            }
            (word, _) => self.with(id, now, |instance| instance.said(word, now)),
        }
    }

    /// What all instances count and measure.
    pub(super) fn samples(&self) -> Vec<Sample> {
        let sample = |slot: &Slot| {
            let Record { id, alias, kind, status, .. } = slot.instance.record().clone();
            let process = slot.child.as_ref().map(Child::process);
            Sample { id, alias, kind, status, process, figures: slot.figures.clone() }
        };
        self.slots.values().map(sample).collect()
    }

    /// Gives an input to an instance, and does what follows.
    pub(super) fn with(&mut self, id: &str, now: Instant, input: impl FnOnce(&mut Instance)) {
        if let Some(slot) = self.slots.get_mut(id) {
            input(&mut slot.instance);
            self.apply_steps(id, now);
        }
    }

    /// Does what an instance wants done.
    pub(super) fn apply_steps(&mut self, id: &str, now: Instant) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        let (mut settled, mut unsaid, mut taken) = (false, false, false);
        while let Some(step) = slot.instance.poll() {
            match (step, &mut slot.child) {
                (Step::Spawn, _) => self.births.push_back(id.to_string()),
                (Step::HandOn, Some(child)) => unsaid = !child.hand_on(&slot.instance.record().url),
                (Step::TakenOver, _) => taken = true,
                (Step::Terminate, Some(child)) => child.terminate(),
                (Step::Kill, Some(child)) => child.kill(now),
                (Step::HandOn | Step::Terminate | Step::Kill, None) => debug_assert!(false, "no process to tell"),
                (Step::Publish(what, line), _) => self.readers.publish(what, slot.instance.record(), line),
                (Step::Save, _) => {
                    self.keep.changed();
                    self.save = self.save.or(Some(now + SAVE_PAUSE));
                }
                (Step::Settled, _) => settled = true,
            }
        }
        if settled {
            let record = (!slot.instance.is_gone()).then(|| slot.instance.record().clone());
            self.reply_to_waiting(id, record);
        }
        if self.slots.get(id).is_some_and(|slot| slot.instance.is_gone()) {
            self.slots.remove(id);
            log::info!("Instance deleted [{id}]");
        }
        if unsaid {
            self.with(id, now, |instance| instance.told_of_next(NextNotice::Failed, now));
        }
        if taken {
            self.with(id, now, |instance| instance.taken_over(now));
        }
    }

    /// Asks a process for another log level; `false` if there is none.
    pub(super) fn set_level(&self, id: &str, level: Level) -> bool {
        let child = self.slots.get(id).and_then(|slot| slot.child.as_ref());
        child.is_some_and(|child| child.set_level(level))
    }

    /// The API itself lets a source in again, or all.
    pub(super) fn lift_own(&self, source: Option<Source>) {
        self.front.iter().for_each(|lift| lift(source));
    }

    /// A process for an instance, if it still wants one.
    fn spawn(&mut self, id: &str, now: Instant) {
        let Some(slot) = self.slots.get_mut(id).filter(|slot| slot.instance.wants_process()) else { return };
        match Child::spawn(&self.program, id, &slot.instance.record().url, &self.mailbox) {
            Ok(child) => {
                slot.child = Some(child);
                log::info!("Instance started [{id}]");
                slot.instance.spawned(now);
            }
            Err(why) => {
                log::error!("Instance not started: {why} [{id}]");
                slot.instance.unspawnable(now);
            }
        }
        self.apply_steps(id, now);
    }

    /// Time has passed.
    fn tick(&mut self, now: Instant) {
        let due = |slot: &&Slot| slot.deadline().is_some_and(|due| now >= due);
        let due: Vec<String> = self.slots.values().filter(due).map(|slot| slot.instance.record().id.clone()).collect();
        for id in due {
            self.see_after(&id, now);
            self.with(&id, now, |instance| instance.tick(now));
        }
        self.readers.send_owed();
        self.tell_manager(now);
        if self.save.is_some_and(|at| now >= at) {
            self.save = None;
            self.keep.save(self.records());
        }
        if self.settle.is_some_and(|at| now >= at) {
            self.settle = None;
            code_pages::release();
        }
        if now >= self.backup {
            self.backup = now + self.config.limits.reload;
            let records = self.records();
            self.keep.save(records.clone());
            self.keep.backup(records);
        }
    }

    /// A sign of life for the service manager when it is due, and how many instances run.
    fn tell_manager(&mut self, now: Instant) {
        let Some(manager) = &mut self.manager else { return };
        manager.alive(now);
        let running = self.slots.values().filter(|slot| slot.child.is_some()).count();
        manager.status(ServiceStatus::Instances { running, of: self.slots.len() });
    }

    /// Whether a process has ended.
    fn see_after(&mut self, id: &str, now: Instant) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        let Some(success) = slot.child.as_mut().and_then(|child| child.ended(now)) else { return };
        let Some(child) = slot.child.take() else { return };
        while let Some(word) = child.word() {
            self.said(id, word, now);
        }
        if let Some(slot) = self.slots.get_mut(id) {
            slot.figures = None;
        }
        self.bans.forget(id);
        self.with(id, now, |instance| instance.ended(success, now));
        match self.slots.get(id).map(|slot| slot.instance.record().status) {
            Some(Status::Error) => log::error!("Instance failed [{id}]"),
            _ => log::info!("Instance stopped [{id}]"),
        }
    }

    /// When something is due.
    fn deadline(&self) -> Instant {
        let slots = self.slots.values().filter_map(Slot::deadline).min();
        let lag = self.readers.lag().then(|| Instant::now() + LAG_PAUSE);
        let manager = self.manager.as_ref().and_then(ServiceManager::deadline);
        [slots, lag, self.save, self.settle, manager].into_iter().flatten().fold(self.backup, Instant::min)
    }

    fn signalled(&mut self, signal: i32, now: Instant) -> Option<ExitCode> {
        if signal == SIGHUP {
            self.manager.iter().for_each(ServiceManager::reloading);
            self.manager.iter().for_each(ServiceManager::reloaded);
            return None;
        }
        if self.stopping {
            // The leash tells the processes.
            log::warn!("Stopped at once by a second signal");
            return Some(ExitCode::FAILURE);
        }
        log::info!("Stopping: {} instances", self.slots.values().filter(|slot| slot.child.is_some()).count());
        self.stopping = true;
        self.manager.iter().for_each(|manager| manager.stopping(self.config.limits.shutdown));
        self.readers.end();
        for id in self.ids() {
            self.with(&id, now, |instance| instance.stop(now));
        }
        None
    }

    fn ids(&self) -> Vec<String> {
        self.slots.keys().cloned().collect()
    }

    /// Everything that is to be found again at the next start.
    pub(super) fn records(&self) -> BTreeMap<String, Record> {
        let kept = self.slots.iter().filter(|(_, slot)| !slot.instance.is_doomed());
        let kept = kept.map(|(id, slot)| (id.clone(), slot.instance.record().clone()));
        kept.chain([(KEY_ID.to_string(), self.master.clone())]).collect()
    }

    /// A new instance.
    pub(super) fn add(&mut self, instance: Instance, now: Instant) {
        let id = instance.record().id.clone();
        self.slots.insert(id.clone(), Slot { instance, child: None, figures: None });
        self.apply_steps(&id, now);
    }

    /// The master's own record has changed.
    pub(super) fn master_changed(&mut self, now: Instant) {
        self.readers.publish(What::Update, &self.master, String::new());
        self.keep.changed();
        self.save = self.save.or(Some(now + SAVE_PAUSE));
    }
}

impl Slot {
    /// Its process lets a source in again, or all.
    pub(super) fn lift(&self, source: Option<Source>) {
        self.child.iter().for_each(|child| child.lift(source));
    }

    fn deadline(&self) -> Option<Instant> {
        let child = self.child.as_ref().and_then(Child::deadline);
        self.instance.deadline().into_iter().chain(child).min()
    }
}

/// How long things may take for instances of this master.
pub(super) fn times(config: &Config) -> Times {
    let limits = &config.limits;
    Times { silence: limits.report * SILENT_REPORTS, retry: limits.reload, grace: GRACE }
}

/// Reports that may be missed.
const SILENT_REPORTS: u32 = 3;

/// From SIGTERM to SIGKILL.
const GRACE: Duration = Duration::from_secs(5);

/// Mails opened in one turn.
const MAX_MAILS: usize = 256;

/// Processes started in one turn: each takes about a millisecond, in which no request is answered.
const MAX_BIRTHS: usize = 2;

/// From a change to the write that keeps it: changes close together share one.
const SAVE_PAUSE: Duration = Duration::from_millis(50);

/// How often it is seen whether readers who lag have room again.
const LAG_PAUSE: Duration = Duration::from_millis(100);

/// After the start, before what only that has needed is given back.
const SETTLED: Duration = Duration::from_secs(2);
